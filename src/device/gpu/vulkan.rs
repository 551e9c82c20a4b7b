//! What wgpu does not tell, asked of Vulkan.
//!
//! Owns: [`memory_bytes`]. Must not know: what the memory is used for. Invariant: reads only; nothing of Vulkan's is changed or kept.
#![allow(unsafe_code)] // wgpu's door to the API below it

/// Bytes of the adapter's own memory (of a GPU without any: of what it shares with the host). `None` for other APIs.
#[cfg(not(target_vendor = "apple"))]
pub(super) fn memory_bytes(adapter: &wgpu::Adapter) -> Option<u64> {
    // SAFETY: the adapter's handle is used for one query while `vulkan` borrows it, and is not destroyed.
    let vulkan = unsafe { adapter.as_hal::<wgpu::hal::api::Vulkan>() }?;
    let instance = vulkan.shared_instance().raw_instance();
    // SAFETY: instance and physical device belong together and live as long as the adapter.
    let memory = unsafe { instance.get_physical_device_memory_properties(vulkan.raw_physical_device()) };
    let heaps = memory.memory_heaps.iter().take(memory.memory_heap_count as usize);
    let own = heaps.filter(|heap| heap.flags.as_raw() & 1 == 1); // VK_MEMORY_HEAP_DEVICE_LOCAL_BIT
    own.map(|heap| heap.size).max()
}

/// Unknown.
#[cfg(target_vendor = "apple")]
pub(super) fn memory_bytes(_: &wgpu::Adapter) -> Option<u64> {
    None
}
