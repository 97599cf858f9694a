//! What to train on: chosen when the program runs, with the reason where it cannot be had.

#[cfg(any(feature = "vulkan", test))]
mod adapters;
#[cfg(feature = "cuda")]
mod cuda;
#[cfg(any(feature = "cuda", feature = "rocm", test))]
mod kernels;
#[cfg(any(feature = "cuda", feature = "rocm", feature = "vulkan"))]
mod program;
#[cfg(feature = "rocm")]
mod rocm;
#[cfg(feature = "vulkan")]
mod vulkan;

use std::path::PathBuf;

#[cfg(feature = "vulkan")]
pub use self::vulkan::VulkanDevice;

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
    /// The first AMD GPU that this process may see, by ROCm; an error if there is none.
    Rocm,
    /// A GPU of any make, by its Vulkan driver; the processor where that is all Vulkan offers; an error if there is none.
    Vulkan,
}

/// What is trained on.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Device {
    /// The CPU.
    Cpu,
    /// The first NVIDIA GPU that this process may see.
    #[cfg(feature = "cuda")]
    Cuda,
    /// The first AMD GPU that this process may see.
    #[cfg(feature = "rocm")]
    Rocm,
    /// What a Vulkan driver offers.
    #[cfg(feature = "vulkan")]
    Vulkan(VulkanDevice),
}

impl std::fmt::Display for Device {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self {
            Self::Cpu => f.write_str("cpu"),
            #[cfg(feature = "cuda")]
            Self::Cuda => f.write_str("cuda:0"),
            #[cfg(feature = "rocm")]
            Self::Rocm => f.write_str("rocm:0"),
            #[cfg(feature = "vulkan")]
            Self::Vulkan(device) => device.fmt(f),
        }
    }
}

/// Evaluates an expression for a device, with the type of its backend, gradients included, and burn's name of the device.
macro_rules! with_backend {
    ($device:expr, |$backend:ident, $place:ident| $body:expr) => {
        match $device {
            $crate::device::Device::Cpu => {
                type $backend = burn::backend::Autodiff<burn::backend::Flex>;
                let $place = &burn::backend::flex::FlexDevice;
                $body
            }
            #[cfg(feature = "cuda")]
            $crate::device::Device::Cuda => {
                type $backend = burn::backend::Autodiff<burn::backend::Cuda>;
                let $place = &burn::backend::cuda::CudaDevice::new(0);
                $body
            }
            #[cfg(feature = "rocm")]
            $crate::device::Device::Rocm => {
                type $backend = burn::backend::Autodiff<
                    burn_cubecl::CubeBackend<burn::cubecl::hip::HipRuntime, f32, i32, u8>,
                >;
                let $place = &burn::cubecl::hip::AmdDevice::new(0);
                $body
            }
            #[cfg(feature = "vulkan")]
            $crate::device::Device::Vulkan(device) => {
                type $backend = burn::backend::Autodiff<burn::backend::Wgpu>;
                let $place = &device.place();
                $body
            }
        }
    };
}
pub(crate) use with_backend;

/// What is missing for a GPU.
#[derive(Debug, thiserror::Error)]
pub enum DeviceError {
    /// The program cannot use one at all.
    #[error("this program was built without the feature `{feature}`")]
    NotBuilt {
        /// Of the crate `trainer`.
        feature: &'static str,
    },
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
    /// No libraries of HIP.
    #[error(
        "there is no ROCm: libamdhip64.so or libhiprtc.so cannot be loaded; ROCM_PATH names the folder to look in"
    )]
    NoRocm,
    /// HIP does not work.
    #[error("ROCm's HIP fails: {message}")]
    Hip {
        /// In its own words.
        message: String,
    },
    /// HIP has no device.
    #[error("ROCm's HIP reports no device that this process may see")]
    NoRocmDevice,
    /// Nobody says where headers for the compiler are.
    #[error(
        "`hipconfig -p` fails, which says where HIP's headers are; its folder belongs into PATH"
    )]
    NoHipConfig,
    /// No library that finds Vulkan's drivers.
    #[error("there is no Vulkan: libvulkan.so.1 cannot be loaded")]
    NoVulkan,
    /// No driver has a device.
    #[error("no Vulkan driver offers a device that this process may use")]
    NoVulkanDevice,
    /// What there is, is no GPU.
    #[error("Vulkan offers no GPU, but `{name}`, which is used with `--device vulkan` alone")]
    SoftwareOnly {
        /// How its driver calls it.
        name: String,
    },
    /// Our kernels do not fit the device.
    #[error("the Vulkan device `{name}` allows too little: {shortcoming}")]
    TooLimited {
        /// How its driver calls it.
        name: String,
        /// In words.
        shortcoming: String,
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
            Self::Rocm => "rocm",
            Self::Vulkan => "vulkan",
        })
    }
}

impl DeviceChoice {
    /// Finds the device, falling back from `auto` to the CPU with a line in the log that says why.
    ///
    /// # Errors
    /// Only where a certain device is asked for: what is missing.
    pub fn resolve(self) -> Result<Device, DeviceError> {
        match self {
            Self::Cpu => Ok(Device::Cpu),
            Self::Cuda => find_cuda(),
            Self::Rocm => find_rocm(),
            Self::Vulkan => find_vulkan(true),
            Self::Auto => Ok(find_gpu().unwrap_or_else(|reasons| {
                tracing::info!("training on the CPU: {reasons}");
                Device::Cpu
            })),
        }
    }
}

/// A GPU that works, by its maker's own software before Vulkan; else what is missing for each.
fn find_gpu() -> Result<Device, String> {
    let mut reasons = Vec::new();
    for find in [find_cuda, find_rocm, || find_vulkan(false)] {
        match find() {
            Ok(device) => return Ok(device),
            Err(reason) => reasons.push(reason.to_string()),
        }
    }
    Err(reasons.join("; "))
}

#[cfg(feature = "cuda")]
use cuda::find as find_cuda;
#[cfg(feature = "rocm")]
use rocm::find as find_rocm;
#[cfg(feature = "vulkan")]
use vulkan::find as find_vulkan;

#[cfg(not(feature = "cuda"))]
fn find_cuda() -> Result<Device, DeviceError> {
    Err(DeviceError::NotBuilt { feature: "cuda" })
}

#[cfg(not(feature = "rocm"))]
fn find_rocm() -> Result<Device, DeviceError> {
    Err(DeviceError::NotBuilt { feature: "rocm" })
}

#[cfg(not(feature = "vulkan"))]
fn find_vulkan(_or_software: bool) -> Result<Device, DeviceError> {
    Err(DeviceError::NotBuilt { feature: "vulkan" })
}

impl Device {
    /// Which device this is, with its driver and this program, where it is not the CPU: what can change its results.
    pub fn identity(self) -> Option<String> {
        match self {
            Self::Cpu => None,
            #[cfg(feature = "cuda")]
            Self::Cuda => Some(cuda::identity()),
            #[cfg(feature = "rocm")]
            Self::Rocm => Some(rocm::identity()),
            #[cfg(feature = "vulkan")]
            Self::Vulkan(device) => Some(device.identity()),
        }
    }

    /// Whether it has tensor cores for TF32, which our kernels know from NVIDIA alone.
    pub fn has_tf32(self) -> bool {
        match self {
            Self::Cpu => false,
            #[cfg(feature = "cuda")]
            Self::Cuda => cuda::has_tf32(),
            #[cfg(feature = "rocm")]
            Self::Rocm => false,
            #[cfg(feature = "vulkan")]
            Self::Vulkan(_) => false,
        }
    }

    /// Bytes of its own memory; `None` where it has none, or nobody says.
    pub(crate) fn total_memory(self) -> Option<u64> {
        match self {
            Self::Cpu => None,
            #[cfg(feature = "cuda")]
            Self::Cuda => cuda::memory().map(|(_free, total)| total),
            #[cfg(feature = "rocm")]
            Self::Rocm => rocm::memory().map(|(_free, total)| total),
            #[cfg(feature = "vulkan")]
            Self::Vulkan(device) => device.total_memory(),
        }
    }

    /// Bytes that can still be allocated on it at most; `None` where nobody says.
    pub(crate) fn available_memory(self) -> Option<u64> {
        match self {
            Self::Cpu => crate::memory::available(),
            #[cfg(feature = "cuda")]
            Self::Cuda => cuda::memory().map(|(free, _total)| free),
            #[cfg(feature = "rocm")]
            Self::Rocm => rocm::memory().map(|(free, _total)| free),
            #[cfg(feature = "vulkan")]
            Self::Vulkan(device) => device.available_memory(),
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

    #[test]
    fn what_is_not_built_in_names_its_feature() {
        for (choice, is_built) in [
            (DeviceChoice::Cuda, cfg!(feature = "cuda")),
            (DeviceChoice::Rocm, cfg!(feature = "rocm")),
            (DeviceChoice::Vulkan, cfg!(feature = "vulkan")),
        ] {
            let missing = format!("this program was built without the feature `{choice}`");
            let error = choice.resolve().err().map(|error| error.to_string());
            assert_eq!(error == Some(missing), !is_built, "{error:?}");
        }
    }

    /// With the feature, on a machine where something is missing: which part, never a panic or a silent CPU.
    #[cfg(feature = "cuda")]
    #[test]
    fn cuda_is_there_or_its_missing_part_is_named() {
        match DeviceChoice::Cuda.resolve() {
            Ok(device) => assert_eq!(device, Device::Cuda),
            Err(error) => {
                assert!(!matches!(error, DeviceError::NotBuilt { .. }));
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

    /// Without ROCm it is an error, where its libraries themselves would abort.
    #[cfg(feature = "rocm")]
    #[test]
    fn rocm_is_there_or_its_missing_part_is_named() {
        let has_device = std::path::Path::new("/dev/kfd").exists();
        match DeviceChoice::Rocm.resolve() {
            Ok(device) => assert!(has_device && device.identity().is_some()),
            Err(DeviceError::NotBuilt { .. }) => panic!("it is built in"),
            Err(_missing) => {}
        }
    }

    /// Where Mesa's lavapipe is the only driver, it is the device that is asked for, but never the one that is taken.
    #[cfg(feature = "vulkan")]
    #[test]
    fn vulkan_is_there_or_its_missing_part_is_named() {
        match (DeviceChoice::Vulkan.resolve(), vulkan::find(false)) {
            (Ok(device), Ok(gpu)) => assert_eq!(device, gpu),
            (Ok(device), Err(DeviceError::SoftwareOnly { name })) => {
                assert_eq!(device.to_string(), "vulkan:0");
                assert!(device.identity().unwrap().starts_with(&name));
                assert_eq!(device.total_memory(), None);
                assert!(device.available_memory().is_some() && !device.has_tf32());
            }
            (Err(DeviceError::NoVulkan), Err(DeviceError::NoVulkan))
            | (Err(DeviceError::NoVulkanDevice), Err(DeviceError::NoVulkanDevice))
            | (Err(DeviceError::TooLimited { .. }), _) => {}
            other => panic!("{other:?}"),
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
