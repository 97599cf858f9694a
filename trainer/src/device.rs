//! What to train on: chosen when the program runs, with the reason where it cannot be had.

use std::path::PathBuf;

/// What the user asks for.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, clap::ValueEnum)]
pub enum DeviceChoice {
    /// A GPU if there is one that works, else the CPU.
    #[default]
    Auto,
    /// The CPU.
    Cpu,
    /// The first NVIDIA GPU that this process may see; an error if there is none.
    Cuda,
}

/// What is trained on.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Device {
    /// The CPU.
    Cpu,
    /// The first NVIDIA GPU that this process may see.
    #[cfg(feature = "cuda")]
    Cuda,
}

impl std::fmt::Display for Device {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str(match self {
            Self::Cpu => "cpu",
            #[cfg(feature = "cuda")]
            Self::Cuda => "cuda:0",
        })
    }
}

/// What is missing for a GPU.
#[derive(Debug, thiserror::Error)]
pub enum DeviceError {
    /// The program cannot use one at all.
    #[error("this program was built without the feature `cuda`")]
    NotBuilt,
    /// No driver library.
    #[error("there is no NVIDIA driver: libcuda.so cannot be loaded")]
    NoDriver,
    /// The driver does not work.
    #[error("the NVIDIA driver fails: {message}")]
    Driver {
        /// In its own words.
        message: String,
    },
    /// The driver has no device.
    #[error("the NVIDIA driver reports no device that this process may see")]
    NoDevice,
    /// No run-time compiler.
    #[error("libnvrtc.so cannot be loaded, which compiles the GPU's programs")]
    NoCompiler,
    /// No headers for the compiler.
    #[error(
        "there is no `include/cuda_runtime.h` in {}; CUDA_PATH names the folder to look in",
        list(looked_in)
    )]
    NoHeaders {
        /// Where they were looked for.
        looked_in: Vec<PathBuf>,
    },
}

fn list(folders: &[PathBuf]) -> String {
    let folders: Vec<String> = folders
        .iter()
        .map(|folder| format!("`{}`", folder.display()))
        .collect();
    folders.join(", ")
}

impl std::fmt::Display for DeviceChoice {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str(match self {
            Self::Auto => "auto",
            Self::Cpu => "cpu",
            Self::Cuda => "cuda",
        })
    }
}

impl DeviceChoice {
    /// Finds the device, falling back from `auto` to the CPU with a line in the log that says why.
    ///
    /// # Errors
    /// Only for [`Self::Cuda`]: what is missing.
    pub fn resolve(self) -> Result<Device, DeviceError> {
        match self {
            Self::Cpu => Ok(Device::Cpu),
            Self::Cuda => find_gpu(),
            Self::Auto => Ok(find_gpu().unwrap_or_else(|reason| {
                tracing::info!("training on the CPU: {reason}");
                Device::Cpu
            })),
        }
    }
}

#[cfg(not(feature = "cuda"))]
fn find_gpu() -> Result<Device, DeviceError> {
    Err(DeviceError::NotBuilt)
}

/// Makes sure of everything that burn's backend would otherwise panic about.
#[cfg(feature = "cuda")]
fn find_gpu() -> Result<Device, DeviceError> {
    use cudarc::{driver, nvrtc};

    let driver_error = |error: driver::DriverError| DeviceError::Driver {
        message: error.to_string(),
    };
    #[expect(
        unsafe_code,
        reason = "cudarc cannot know that loading a library is harmless"
    )]
    // SAFETY: libcuda and libnvrtc are made to be loaded at run time; their initialisers have no preconditions.
    let (has_driver, has_compiler) = unsafe {
        (
            driver::sys::is_culib_present(),
            nvrtc::sys::is_culib_present(),
        )
    };
    if !has_driver {
        return Err(DeviceError::NoDriver);
    }
    driver::result::init().map_err(driver_error)?;
    if driver::result::device::get_count().map_err(driver_error)? < 1 {
        return Err(DeviceError::NoDevice);
    }
    if !has_compiler {
        return Err(DeviceError::NoCompiler);
    }
    // The places where cubecl-cuda looks, in its order: the first that exists is taken, right or wrong.
    let looked_in: Vec<PathBuf> = if let Some(folder) = shared::env::CUDA_PATH.get() {
        vec![PathBuf::from(folder)]
    } else {
        let mut folders = vec![PathBuf::from("/usr/local/cuda"), PathBuf::from("/opt/cuda")];
        if std::path::Path::new("/usr/bin/nvcc").exists() {
            folders.push(PathBuf::from("/usr"));
        }
        folders
    };
    match looked_in.iter().find(|folder| folder.exists()) {
        Some(folder) if folder.join("include/cuda_runtime.h").exists() => {
            keep_kernels(&architecture().map_err(driver_error)?);
            Ok(Device::Cuda)
        }
        _ => Err(DeviceError::NoHeaders { looked_in }),
    }
}

/// The first device's, such as `sm_90`. Needs an initialised driver.
#[cfg(feature = "cuda")]
fn architecture() -> Result<String, cudarc::driver::DriverError> {
    use cudarc::driver::{result, sys::CUdevice_attribute};

    let device = result::device::get(0)?;
    let version = |attribute| {
        #[expect(unsafe_code, reason = "a call of the driver")]
        // SAFETY: the device is one that the driver has just named.
        unsafe {
            result::device::get_attribute(device, attribute)
        }
    };
    let major = version(CUdevice_attribute::CU_DEVICE_ATTRIBUTE_COMPUTE_CAPABILITY_MAJOR)?;
    let minor = version(CUdevice_attribute::CU_DEVICE_ATTRIBUTE_COMPUTE_CAPABILITY_MINOR)?;
    Ok(format!("sm_{major}{minor}"))
}

/// Where compiled kernels of an architecture are kept: only in a folder that the user has `chosen`.
///
/// cubecl panics where it cannot write them, and appends to them from all trainers of a host at once, which needs the
/// node's own disk. Their keys do not name the architecture.
#[cfg(any(feature = "cuda", test))]
fn kernel_cache(chosen: Option<String>, architecture: &str) -> Option<PathBuf> {
    Some(PathBuf::from(chosen?).join(architecture))
}

/// Tells cubecl where to keep kernels. Once in a process.
#[cfg(feature = "cuda")]
fn keep_kernels(architecture: &str) {
    use burn::cubecl::config::{CubeClRuntimeConfig, RuntimeConfig as _, cache::CacheConfig};
    use std::sync::Once;
    static ONCE: Once = Once::new();

    let writable = |folder: &PathBuf| match shared::fs::make_folder(folder) {
        Ok(()) => true,
        Err(error) => {
            tracing::warn!("kernels are compiled anew: {error}");
            false
        }
    };
    ONCE.call_once(|| {
        let mut config = CubeClRuntimeConfig::default().override_from_env();
        let folder = kernel_cache(shared::env::KERNEL_CACHE.get(), architecture);
        config.compilation.cache = folder.filter(writable).map(CacheConfig::File);
        CubeClRuntimeConfig::set(config);
    });
}

impl Device {
    /// Which device this is, with its driver and this program, where it is not the CPU: what can change its results.
    pub fn identity(self) -> Option<String> {
        match self {
            Self::Cpu => None,
            #[cfg(feature = "cuda")]
            Self::Cuda => {
                use cudarc::driver::result;
                let unknown = |_: cudarc::driver::DriverError| "?".to_owned(); // then told apart by the rest
                let name = result::device::get(0).and_then(result::device::get_name);
                Some(format!(
                    "{} ({}), driver {}, trainer {}",
                    name.unwrap_or_else(unknown),
                    architecture().unwrap_or_else(unknown),
                    driver_version(),
                    program()
                ))
            }
        }
    }

    /// Bytes of its own memory; `None` where it has none, or nobody says.
    pub fn total_memory(self) -> Option<u64> {
        match self {
            Self::Cpu => None,
            #[cfg(feature = "cuda")]
            Self::Cuda => {
                let context = cudarc::driver::CudaContext::new(0).ok()?; // unknown: the training will show
                let (_free, total) = context.mem_get_info().ok()?; // as above
                Some(crate::batch::to_u64(total))
            }
        }
    }

    /// Bytes that can still be allocated on it; `None` where nobody says.
    pub fn available_memory(self) -> Option<u64> {
        match self {
            Self::Cpu => crate::memory::available(),
            #[cfg(feature = "cuda")]
            Self::Cuda => {
                let context = cudarc::driver::CudaContext::new(0).ok()?; // unknown: the training will show
                let (free, _total) = context.mem_get_info().ok()?; // as above
                Some(crate::batch::to_u64(free))
            }
        }
    }
}

/// The driver's version, such as 13000.
#[cfg(feature = "cuda")]
fn driver_version() -> i32 {
    let mut version = 0;
    #[expect(unsafe_code, reason = "a call of the driver")]
    // SAFETY: the pointer is to a number that lives as long as the call.
    unsafe {
        let _result = cudarc::driver::sys::cuDriverGetVersion(&raw mut version); // stays 0 where it fails
    }
    version
}

/// Which program this is: its version, and the size of its file, which another build seldom has.
#[cfg(feature = "cuda")]
fn program() -> String {
    let version = env!("CARGO_PKG_VERSION");
    let size = std::env::current_exe()
        .and_then(fs_err::metadata)
        .map(|file| file.len());
    format!("{version} ({} bytes)", size.unwrap_or(0)) // unknown: the version tells
}

/// Limits all computation on the CPU to `threads` threads, the calling one among them.
///
/// One is the default of the program, because several trainers on one host get more done with a thread each than one
/// trainer with all of them. Results do not depend on it. To be called once, early, from the thread that trains.
///
/// # Errors
/// Where computation has already started, or threads cannot be had.
pub fn set_threads(threads: usize) -> Result<(), rayon::ThreadPoolBuildError> {
    rayon::ThreadPoolBuilder::new()
        .num_threads(threads)
        .use_current_thread()
        .build_global()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_cpu_is_always_there() {
        assert_eq!(DeviceChoice::Cpu.resolve().unwrap(), Device::Cpu);
        assert!(DeviceChoice::Auto.resolve().is_ok());
    }

    #[cfg(not(feature = "cuda"))]
    #[test]
    fn cuda_without_its_feature_names_the_feature() {
        let error = DeviceChoice::Cuda.resolve().unwrap_err();
        assert_eq!(
            error.to_string(),
            "this program was built without the feature `cuda`"
        );
    }

    /// With the feature, on a machine where something is missing: which part, never a panic or a silent CPU.
    #[cfg(feature = "cuda")]
    #[test]
    fn cuda_is_there_or_its_missing_part_is_named() {
        match DeviceChoice::Cuda.resolve() {
            Ok(device) => assert_eq!(device, Device::Cuda),
            Err(error) => {
                assert!(!matches!(error, DeviceError::NotBuilt));
                if !std::path::Path::new("/dev/nvidiactl").exists() {
                    let no_device = matches!(
                        error,
                        DeviceError::NoDriver | DeviceError::Driver { .. } | DeviceError::NoDevice
                    );
                    assert!(no_device, "{error}");
                }
            }
        }
    }

    #[test]
    fn compiled_kernels_are_kept_only_where_the_user_says_and_apart_by_architecture() {
        let chosen = kernel_cache(Some("/local".to_owned()), "sm_90");
        assert_eq!(chosen, Some(PathBuf::from("/local/sm_90")));
        assert_eq!(kernel_cache(None, "sm_90"), None);
    }

    #[test]
    fn missing_headers_are_named_with_their_places() {
        let looked_in = vec![PathBuf::from("/a"), PathBuf::from("/b")];
        let text = DeviceError::NoHeaders { looked_in }.to_string();
        assert!(
            text.starts_with("there is no `include/cuda_runtime.h` in `/a`, `/b`;"),
            "{text}"
        );
    }
}
