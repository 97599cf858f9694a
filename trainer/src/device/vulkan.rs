//! What Vulkan's drivers say of the device that is trained on.

use std::sync::OnceLock;

use ash::vk;
use burn::backend::wgpu::WgpuDevice;
use burn::cubecl::future::block_on;

use super::adapters::{self, Chosen, Heap, Kind, Limits};
use super::{Device, DeviceError, program};

/// A device that a Vulkan driver offers.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct VulkanDevice(Chosen);

impl std::fmt::Display for VulkanDevice {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "vulkan:{}", self.0.number)
    }
}

/// Makes sure of everything that burn's backend would otherwise panic about; the processor counts only `or_software`.
pub(super) fn find(or_software: bool) -> Result<Device, DeviceError> {
    let adapters = adapters()?;
    let kinds: Vec<Kind> = adapters.iter().filter_map(kind).collect();
    // Trainers that were started together are numbered; see `devices.rs` of the scheduler for CUDA's GPUs.
    let trainer = shared::env::WORKER.get();
    let trainer = trainer.and_then(|number| number.parse().ok()).unwrap_or(0);
    let Some(chosen) = adapters::choose(&kinds, or_software, trainer) else {
        return Err(match adapters.iter().map(name).next() {
            None => DeviceError::NoVulkanDevice,
            Some(name) => DeviceError::SoftwareOnly { name },
        });
    };
    let device = VulkanDevice(chosen);
    let adapter = device.adapter().ok_or(DeviceError::NoVulkanDevice)?;
    let limits = adapter.limits();
    let limits = Limits {
        arrays: limits.max_storage_buffers_per_shader_stage,
        units: limits
            .max_compute_invocations_per_workgroup
            .min(limits.max_compute_workgroup_size_x),
        shared_bytes: limits.max_compute_workgroup_storage_size,
    };
    if let Some(shortcoming) = limits.shortcoming() {
        return Err(DeviceError::TooLimited {
            name: name(adapter),
            shortcoming,
        });
    }
    // wgpu keeps no compiled kernels; Mesa and NVIDIA's driver have caches of their own.
    program::set_up_cubecl(|| None);
    Ok(Device::Vulkan(device))
}

/// All devices that Vulkan's drivers offer, in their order, as they were when this process first asked.
fn adapters() -> Result<&'static [wgpu::Adapter], DeviceError> {
    static ADAPTERS: OnceLock<Vec<wgpu::Adapter>> = OnceLock::new();

    #[expect(unsafe_code, reason = "a library is loaded")]
    // SAFETY: Vulkan's loader is made to be loaded at run time; its initialisers have no preconditions.
    let loader = unsafe { ash::Entry::load() };
    if loader.is_err() {
        return Err(DeviceError::NoVulkan);
    }
    Ok(ADAPTERS.get_or_init(|| {
        let instance = wgpu::Instance::new(wgpu::InstanceDescriptor {
            backends: wgpu::Backends::VULKAN,
            ..wgpu::InstanceDescriptor::new_without_display_handle()
        });
        block_on(instance.enumerate_adapters(wgpu::Backends::VULKAN))
    }))
}

/// `None` for what cubecl cannot tell apart.
fn kind(adapter: &wgpu::Adapter) -> Option<Kind> {
    match adapter.get_info().device_type {
        wgpu::DeviceType::DiscreteGpu => Some(Kind::Discrete),
        wgpu::DeviceType::IntegratedGpu => Some(Kind::Integrated),
        wgpu::DeviceType::VirtualGpu => Some(Kind::Virtual),
        wgpu::DeviceType::Cpu => Some(Kind::Software),
        wgpu::DeviceType::Other => None,
    }
}

fn name(adapter: &wgpu::Adapter) -> String {
    adapter.get_info().name
}

impl VulkanDevice {
    /// As burn's backend calls it.
    pub(crate) fn place(self) -> WgpuDevice {
        let number = usize::from(self.0.number);
        match self.0.kind {
            Kind::Discrete => WgpuDevice::DiscreteGpu(number),
            Kind::Integrated => WgpuDevice::IntegratedGpu(number),
            Kind::Virtual => WgpuDevice::VirtualGpu(number),
            Kind::Software => WgpuDevice::Cpu,
        }
    }

    fn adapter(self) -> Option<&'static wgpu::Adapter> {
        let of_its_kind = |adapter: &&wgpu::Adapter| kind(adapter) == Some(self.0.kind);
        let mut adapters = adapters().ok()?.iter().filter(of_its_kind);
        adapters.nth(usize::from(self.0.number))
    }

    /// Name, number and place of the device, its driver, and this program, which compiles kernels for it.
    pub(super) fn identity(self) -> String {
        let info = self.adapter().map(wgpu::Adapter::get_info);
        let program = program::identity();
        let Some(info) = info else {
            return format!("{self}, {program}"); // it was there when it was chosen
        };
        let place = match info.device_pci_bus_id.as_str() {
            "" => String::new(),
            place => format!(", {place}"),
        };
        format!(
            "{} ({:04x}:{:04x}{place}), driver {} {}, {program}",
            info.name, info.vendor, info.device, info.driver, info.driver_info
        )
    }

    /// Bytes of its own memory; `None` where it has none, or nobody says.
    pub(super) fn total_memory(self) -> Option<u64> {
        adapters::total(self.0.kind, &self.heaps())
    }

    /// Bytes that can still be allocated on it at most; `None` where nobody says.
    pub(super) fn available_memory(self) -> Option<u64> {
        let host = crate::memory::available();
        adapters::available(self.0.kind, &self.heaps(), host)
    }

    /// The parts of the memory that the driver hands out; none where it does not say.
    fn heaps(self) -> Vec<Heap> {
        let Some(adapter) = self.adapter() else {
            return Vec::new();
        };
        #[expect(unsafe_code, reason = "wgpu hands the driver's own handles out")]
        // SAFETY: neither is destroyed here.
        let Some(adapter) = (unsafe { adapter.as_hal::<wgpu::hal::api::Vulkan>() }) else {
            return Vec::new();
        };
        heaps(
            adapter.shared_instance().raw_instance(),
            adapter.raw_physical_device(),
        )
    }
}

fn heaps(instance: &ash::Instance, device: vk::PhysicalDevice) -> Vec<Heap> {
    let mut budget = vk::PhysicalDeviceMemoryBudgetPropertiesEXT::default();
    #[expect(unsafe_code, reason = "calls of the driver")]
    // SAFETY: the device is one of the instance's, and the structure of an extension is handed in where that is there,
    // which needs Vulkan 1.1 or what it has taken up.
    let (memory, says_budget) = unsafe {
        let extensions = instance.enumerate_device_extension_properties(device);
        let says_budget = extensions.is_ok_and(|extensions| {
            extensions.iter().any(|extension| {
                extension.extension_name_as_c_str() == Ok(ash::ext::memory_budget::NAME)
            })
        });
        if says_budget {
            let mut memory = vk::PhysicalDeviceMemoryProperties2::default().push_next(&mut budget);
            instance.get_physical_device_memory_properties2(device, &mut memory);
            (memory.memory_properties, true)
        } else {
            let memory = instance.get_physical_device_memory_properties(device);
            (memory, false)
        }
    };
    let free = budget
        .heap_budget
        .iter()
        .zip(&budget.heap_usage)
        .map(|(budget, usage)| says_budget.then(|| budget.saturating_sub(*usage)));
    let heaps = memory.memory_heaps_as_slice().iter().zip(free);
    heaps
        .map(|(heap, free)| Heap {
            is_local: heap.flags.contains(vk::MemoryHeapFlags::DEVICE_LOCAL),
            size: heap.size,
            free,
        })
        .collect()
}
