//! What NVIDIA's driver and run-time compiler say of the first GPU that this process may see.

use std::path::PathBuf;

use cudarc::driver::sys::CUdevice_attribute;
use cudarc::driver::{self, DriverError, result};
use cudarc::nvrtc;

use super::{Device, DeviceError, kernels, program};

/// Makes sure of everything that burn's backend would otherwise panic about.
pub(super) fn find() -> Result<Device, DeviceError> {
    let driver_error = |error: DriverError| DeviceError::Driver {
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
    result::init().map_err(driver_error)?;
    if result::device::get_count().map_err(driver_error)? < 1 {
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
            let architecture = architecture().map_err(driver_error)?;
            program::set_up_cubecl(|| kernels::folder(&architecture, &what_compiles()));
            Ok(Device::Cuda)
        }
        _ => Err(DeviceError::NoHeaders { looked_in }),
    }
}

/// Whether the first device's tensor cores know TF32: from compute capability 8.0 on.
pub(super) fn has_tf32() -> bool {
    compute_capability().is_ok_and(|(major, _)| major >= 8)
}

/// The first device's, such as `sm_90`. Needs an initialised driver.
fn architecture() -> Result<String, DriverError> {
    let (major, minor) = compute_capability()?;
    Ok(format!("sm_{major}{minor}"))
}

fn compute_capability() -> Result<(i32, i32), DriverError> {
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
    Ok((major, minor))
}

/// Name, number and architecture of the first device, and [`what_compiles`] for it.
pub(super) fn identity() -> String {
    let unknown = |_: DriverError| "?".to_owned(); // then told apart by the rest
    let device = result::device::get(0);
    let name = device.and_then(result::device::get_name);
    let number = device.and_then(result::device::get_uuid);
    let number = number.map(|number| {
        let digits = number.bytes.map(|byte| format!("{byte:02x}")).concat();
        format!("GPU-{digits}")
    });
    format!(
        "{} ({}, {}), {}",
        name.unwrap_or_else(unknown),
        architecture().unwrap_or_else(unknown),
        number.unwrap_or_else(unknown),
        what_compiles()
    )
}

/// All that a kernel's instructions depend on beside the architecture: driver, compiler and this program.
fn what_compiles() -> String {
    let (mut driver, mut major, mut minor) = (0, 0, 0);
    #[expect(unsafe_code, reason = "calls of the driver and the compiler")]
    // SAFETY: the pointers are to numbers that live as long as the calls.
    unsafe {
        // They stay 0 where it fails.
        let _result = driver::sys::cuDriverGetVersion(&raw mut driver);
        let _result = nvrtc::sys::nvrtcVersion(&raw mut major, &raw mut minor);
    }
    let program = program::identity();
    format!("driver {driver}, NVRTC {major}.{minor}, {program}")
}

/// Bytes of the first device's memory, the free ones and all.
pub(super) fn memory() -> Option<(u64, u64)> {
    let context = driver::CudaContext::new(0).ok()?; // unknown: the training will show
    let (free, total) = context.mem_get_info().ok()?; // as above
    Some((free as u64, total as u64))
}
