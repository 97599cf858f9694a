//! What of this program matters to a GPU: which one it is, and what it does where the GPU's threads fail.

use std::hash::{BuildHasher as _, DefaultHasher, Hasher as _, RandomState};
use std::path::PathBuf;
use std::sync::{Once, OnceLock};

use burn::cubecl::config::cache::CacheConfig;
use burn::cubecl::config::{CubeClRuntimeConfig, RuntimeConfig as _};

/// How the names of cubecl 0.10's own threads begin.
const DEVICE_THREADS: [&str; 2] = ["DSU-", "DSD-"];

/// Version and digest of this program, in which its kernels are.
pub(super) fn identity() -> String {
    format!("trainer {} ({:016x})", env!("CARGO_PKG_VERSION"), digest())
}

/// A digest of this program's file; another number in each process where it cannot be read.
fn digest() -> u64 {
    static DIGEST: OnceLock<u64> = OnceLock::new();

    *DIGEST.get_or_init(|| {
        let file = std::env::current_exe().and_then(fs_err::read);
        file.map_or_else(
            |_unreadable| RandomState::new().build_hasher().finish(),
            |bytes| {
                let mut hasher = DefaultHasher::new();
                hasher.write(&bytes);
                hasher.finish()
            },
        )
    })
}

/// Gives cubecl its settings, once in a process: no file of the working directory changes what is computed.
///
/// `cache` says in which folder compiled kernels are kept, if in any.
pub(super) fn set_up_cubecl(cache: impl FnOnce() -> Option<PathBuf>) {
    static ONCE: Once = Once::new();

    ONCE.call_once(|| {
        let mut config = CubeClRuntimeConfig::default().override_from_env();
        config.compilation.cache = cache().map(CacheConfig::File);
        CubeClRuntimeConfig::set(config);
        end_with_the_device();
    });
}

/// Ends this program where a thread of cubecl's panics that launches kernels, such as for a full disk.
///
/// cubecl itself would go on without the kernel, and what it was to compute would be whatever lies in its memory.
fn end_with_the_device() {
    let earlier = std::panic::take_hook();
    std::panic::set_hook(Box::new(move |panic| {
        earlier(panic);
        let thread = std::thread::current();
        let name = thread.name().unwrap_or_default();
        if DEVICE_THREADS.iter().any(|start| name.starts_with(start)) {
            std::process::abort();
        }
    }));
}
