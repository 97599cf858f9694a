//! What AMD's HIP says of the first GPU that this process may see.

use std::ffi::CStr;
use std::panic::catch_unwind;
use std::process::Command;

use cubecl_hip_sys as hip;

use super::{Device, DeviceError, kernels, program};

/// Makes sure of everything that burn's backend would otherwise panic about.
pub(super) fn find() -> Result<Device, DeviceError> {
    if !hip::is_available() {
        return Err(DeviceError::NoRocm);
    }
    // HIP's libraries are there, but one of another version may not have all functions.
    let found = catch_unwind(|| {
        let mut count = 0;
        #[expect(unsafe_code, reason = "a call of the driver")]
        // SAFETY: the pointer is to a number that lives as long as the call.
        check(unsafe { hip::hipGetDeviceCount(&raw mut count) })?;
        if count < 1 {
            return Err(DeviceError::NoRocmDevice);
        }
        properties()
    });
    let (_name, architecture) = found.unwrap_or_else(|_panic| {
        let message = "its libraries are of a version that this program does not know".to_owned();
        Err(DeviceError::Hip { message })
    })?;
    if !says_where_headers_are() {
        return Err(DeviceError::NoHipConfig);
    }
    program::set_up_cubecl(|| kernels::folder(&architecture, &what_compiles()));
    Ok(Device::Rocm)
}

fn check(status: u32) -> Result<(), DeviceError> {
    match status {
        hip::HIP_SUCCESS => Ok(()),
        hip::hipError_t_hipErrorNoDevice => Err(DeviceError::NoRocmDevice),
        status => Err(DeviceError::Hip {
            message: format!("error {status}"),
        }),
    }
}

/// cubecl asks this program for the folder of HIP's headers, and panics where it complains.
fn says_where_headers_are() -> bool {
    let output = Command::new(hip::HIPCONFIG).arg("-p").output();
    output.is_ok_and(|output| output.status.success() && output.stderr.is_empty())
}

/// Name and architecture of the first device, such as `gfx942`.
fn properties() -> Result<(String, String), DeviceError> {
    let mut properties = std::mem::MaybeUninit::<hip::hipDeviceProp_tR0600>::zeroed();
    #[expect(unsafe_code, reason = "a call of the driver, and its C strings")]
    // SAFETY: the pointer is to a structure that lives as long as the call, which fills it where it succeeds; zeros are
    // values of all its fields, and both names end with one.
    unsafe {
        check(hip::hipGetDevicePropertiesR0600(properties.as_mut_ptr(), 0))?;
        let properties = properties.assume_init();
        let text = |name: &[std::ffi::c_char]| {
            let name = CStr::from_ptr(name.as_ptr());
            name.to_string_lossy().into_owned()
        };
        let architecture = text(&properties.gcnArchName);
        // Behind the colons are features, such as `gfx942:sramecc+:xnack-`.
        let architecture = architecture
            .split(':')
            .next()
            .unwrap_or_default()
            .to_owned();
        Ok((text(&properties.name), architecture))
    }
}

/// Name and architecture of the first device, and [`what_compiles`] for it.
pub(super) fn identity() -> String {
    let (name, architecture) = properties().unwrap_or_default(); // then told apart by the rest
    format!("{name} ({architecture}), {}", what_compiles())
}

/// All that a kernel's instructions depend on beside the architecture: driver, compiler and this program.
fn what_compiles() -> String {
    let (mut driver, mut major, mut minor) = (0, 0, 0);
    #[expect(unsafe_code, reason = "calls of the driver and the compiler")]
    // SAFETY: the pointers are to numbers that live as long as the calls.
    unsafe {
        // They stay 0 where it fails.
        let _result = hip::hipDriverGetVersion(&raw mut driver);
        let _result = hip::hiprtcVersion(&raw mut major, &raw mut minor);
    }
    let program = program::identity();
    format!("HIP {driver}, HIPRTC {major}.{minor}, {program}")
}

/// Bytes of the first device's memory, the free ones and all.
pub(super) fn memory() -> Option<(u64, u64)> {
    let (mut free, mut total) = (0, 0);
    #[expect(unsafe_code, reason = "a call of the driver")]
    // SAFETY: the pointers are to numbers that live as long as the call.
    check(unsafe { hip::hipMemGetInfo(&raw mut free, &raw mut total) }).ok()?; // unknown: the training will show
    Some((free as u64, total as u64))
}
