//! What to train on: chosen when the program runs, with the reason where it cannot be had.

#[cfg(feature = "cuda")]
mod gpu;
#[cfg(any(feature = "cuda", test))]
mod kernels;

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

#[cfg(feature = "cuda")]
use gpu::find as find_gpu;

impl Device {
    /// Which device this is, with its driver and this program, where it is not the CPU: what can change its results.
    pub fn identity(self) -> Option<String> {
        match self {
            Self::Cpu => None,
            #[cfg(feature = "cuda")]
            Self::Cuda => Some(gpu::identity()),
        }
    }

    /// Whether it has tensor cores for TF32.
    pub fn has_tf32(self) -> bool {
        match self {
            Self::Cpu => false,
            #[cfg(feature = "cuda")]
            Self::Cuda => gpu::has_tf32(),
        }
    }

    /// Bytes of its own memory; `None` where it has none, or nobody says.
    pub fn total_memory(self) -> Option<u64> {
        match self {
            Self::Cpu => None,
            #[cfg(feature = "cuda")]
            Self::Cuda => gpu::memory().map(|(_free, total)| total),
        }
    }

    /// Bytes that can still be allocated on it; `None` where nobody says.
    pub fn available_memory(self) -> Option<u64> {
        match self {
            Self::Cpu => crate::memory::available(),
            #[cfg(feature = "cuda")]
            Self::Cuda => gpu::memory().map(|(free, _total)| free),
        }
    }
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
    fn missing_headers_are_named_with_their_places() {
        let looked_in = vec![PathBuf::from("/a"), PathBuf::from("/b")];
        let text = DeviceError::NoHeaders { looked_in }.to_string();
        assert!(
            text.starts_with("there is no `include/cuda_runtime.h` in `/a`, `/b`;"),
            "{text}"
        );
    }
}
