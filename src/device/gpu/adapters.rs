//! The GPU adapters of the machine, each once.
//!
//! Owns: [`adapters`], [`AdapterInfo`]. Must not know: what is run on them. Invariant: one physical GPU is listed once, under
//! the best backend that drives it, however many drivers announce it.

use std::fmt;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::OnceLock;

use crate::kernel::{ExactFloats, GpuFacts, Variants};
use crate::shape::DType;
use wgpu::{Backend, Backends, DownlevelFlags, Features, InstanceDescriptor, InstanceFlags};

/// What an adapter is made of.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
#[non_exhaustive]
pub enum AdapterKind {
    /// A GPU with memory of its own.
    Discrete,
    /// A GPU that shares the host's memory.
    Integrated,
    /// A GPU lent by a hypervisor.
    Virtual,
    /// The driver does not say.
    Other,
    /// No GPU: a driver that computes on the CPU's cores, for tests.
    Software,
}

impl fmt::Display for AdapterKind {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(match self {
            Self::Discrete => "discrete GPU",
            Self::Integrated => "integrated GPU",
            Self::Virtual => "virtual GPU",
            Self::Other => "unknown kind",
            Self::Software => "software",
        })
    }
}

/// The limits of an adapter that decide about chunk sizes and launches.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct AdapterLimits {
    /// Largest buffer, in bytes.
    pub buffer_bytes: u64,
    /// Largest part of a buffer that one binding of a shader can see, in bytes: the upper bound of a chunk.
    pub binding_bytes: u64,
    /// Buffers that one shader can see.
    pub bindings: u32,
    /// Workgroups along one axis of one dispatch.
    pub workgroups: u32,
    /// Invocations of one workgroup.
    pub invocations: u32,
    /// Memory shared by one workgroup, in bytes.
    pub workgroup_bytes: u32,
}

/// A product of small matrices that the invocations of a subgroup make together in one step (on matrix cores, where a GPU has them):
/// `C <- A B + C`, A `(m, k)`, B `(k, n)`.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct CooperativeMatrix {
    /// m, n, k.
    pub shape: [u32; 3],
    /// What A and B are made of.
    pub factors: DType,
    /// What C is made of.
    pub sums: DType,
    /// Whether sums that are too large become the largest number there is.
    pub saturates: bool,
}

impl CooperativeMatrix {
    fn of(found: &wgpu::CooperativeMatrixProperties) -> Self {
        let dtype = |of: wgpu::CooperativeScalarType| match of {
            wgpu::CooperativeScalarType::F32 => DType::F32,
            wgpu::CooperativeScalarType::F16 => DType::F16,
            wgpu::CooperativeScalarType::I32 => DType::I32,
            wgpu::CooperativeScalarType::U32 => DType::U32,
        };
        Self {
            shape: [found.m_size, found.n_size, found.k_size],
            factors: dtype(found.ab_type),
            sums: dtype(found.cr_type),
            saturates: found.saturating_accumulation,
        }
    }
}

impl fmt::Display for CooperativeMatrix {
    /// `16x16x16 f16 to f32`.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let [m, n, k] = self.shape;
        let saturating = if self.saturates { ", saturating" } else { "" };
        f.pad(&format!("{m}x{n}x{k} {} to {}{saturating}", self.factors, self.sums))
    }
}

/// One adapter, as its driver describes it. Clones are cheap; the value keeps the driver loaded.
#[derive(Clone, Debug)]
pub struct AdapterInfo {
    /// The adapter's name: `AMD Radeon 780M`.
    pub name: String,
    /// What it is made of.
    pub kind: AdapterKind,
    /// The API it is driven through: `Vulkan`, `Metal`, `DX12`, `GL`.
    pub backend: &'static str,
    /// Driver and version, as it calls itself; may be empty.
    pub driver: String,
    /// Whether shaders may compute in `f64` (Vulkan only).
    pub has_f64: bool,
    /// Whether shaders may compute with integers of 64 bits.
    pub has_i64: bool,
    /// Whether shaders may compute in `f16`; no kernel here does.
    pub has_f16: bool,
    /// Whether the GPU can time its own work.
    pub has_timestamps: bool,
    /// Least and most invocations of a subgroup, those that run in step; `None` where shaders have no operations on them.
    pub subgroup_sizes: Option<[u32; 2]>,
    /// Whether shaders may multiply cooperative matrices (an experiment of wgpu's; no kernel here does).
    pub has_cooperative_matrices: bool,
    /// Those that the driver offers, of the shapes and types that wgpu knows.
    pub cooperative_matrices: Vec<CooperativeMatrix>,
    /// Its limits.
    pub limits: AdapterLimits,
    /// Bytes of its own memory (of an integrated GPU: of what it shares with the host), where the API tells.
    pub memory_bytes: Option<u64>,
    /// Why it must not be used; `None` if it may.
    pub unusable: Option<String>,
    identity: Identity,
    pub(super) handle: wgpu::Adapter,
}

impl AdapterInfo {
    /// Name, backend and driver: what its measured costs depend on, and the `model` of its device.
    #[must_use]
    pub fn model(&self) -> String {
        format!("{self}; {}", self.driver)
    }

    /// Whether chunks may lie in memory that the host maps: then nothing is copied on the way.
    #[must_use]
    pub fn shares_memory(&self) -> bool {
        self.kind == AdapterKind::Integrated && self.handle.features().contains(Features::MAPPABLE_PRIMARY_BUFFERS)
    }

    /// What programs for it may use.
    #[must_use]
    pub fn facts(&self) -> GpuFacts {
        GpuFacts {
            f64: self.has_f64,
            i64: self.has_i64,
            simplifies: true,
            exact: ExactFloats::default(),
            // Bindings and buffers are padded to 16 bytes.
            binding_bytes: self.limits.binding_bytes.min(self.limits.buffer_bytes) & !15,
            bindings: self.limits.bindings,
            invocations: self.limits.invocations,
            workgroup_bytes: self.limits.workgroup_bytes,
            variants: Variants::AUTOMATIC,
        }
    }
}

impl fmt::Display for AdapterInfo {
    /// Name and backend: `AMD Radeon 780M (Vulkan)`.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(&format!("{} ({})", self.name, self.backend))
    }
}

/// What tells two announcements of one GPU from two GPUs.
#[derive(Clone, Debug)]
struct Identity {
    backend: Backend,
    vendor: u32,
    device: u32,
    /// Empty where the backend does not know it.
    pci_bus: String,
    software: bool,
}

/// The GPU adapters of this machine, best first; empty if there is none, or no driver at all.
///
/// Software adapters (a driver that computes on the CPU) are listed, but marked unusable unless `allow_software`: they are for
/// tests, and always slower than the CPU device. The variable `WGPU_BACKEND` (`vulkan`, `metal`, `dx12`, `gl`) restricts the
/// search.
///
/// Takes between a few and some hundred milliseconds: drivers are loaded here. A driver that panics counts as none.
#[must_use]
pub fn adapters(allow_software: bool) -> Vec<AdapterInfo> {
    // GL announces GPUs that the other APIs have announced already: the last resort.
    let stages = Backends::from_env().map_or_else(|| vec![Backends::PRIMARY, Backends::GL], |chosen| vec![chosen]);
    let mut found = Vec::new();
    for backends in stages {
        // wgpu promises no panic here, but drivers are loaded into the process, and one bad driver must not end the program.
        found.extend(catch_unwind(AssertUnwindSafe(|| enumerate(backends, allow_software))).unwrap_or_default());
        if found.iter().any(|a| a.kind != AdapterKind::Software && a.unusable.is_none()) {
            break;
        }
    }
    let kept = first_of_each(&found.iter().map(|a| a.identity.clone()).collect::<Vec<_>>());
    let mut kept: Vec<AdapterInfo> = kept.into_iter().map(|i| found[i].clone()).collect();
    kept.sort_by_key(|a| (a.unusable.is_some(), a.kind)); // stable: otherwise the system's order
    kept
}

/// [`adapters`], looked for once in the process.
#[must_use]
pub fn known(allow_software: bool) -> Vec<AdapterInfo> {
    static ALL: OnceLock<Vec<AdapterInfo>> = OnceLock::new();
    let mut all = ALL.get_or_init(|| adapters(true)).clone();
    if !allow_software {
        let software = all.iter_mut().filter(|a| a.kind == AdapterKind::Software && a.unusable.is_none());
        software.for_each(|adapter| adapter.unusable = Some(SOFTWARE.to_owned()));
    }
    all
}

/// Why software adapters are not used.
const SOFTWARE: &str =
    "it computes on the CPU's own cores: it is used where software is allowed (SessionBuilder::allow_software), for tests";

fn enumerate(backends: Backends, allow_software: bool) -> Vec<AdapterInfo> {
    let mut descriptor = InstanceDescriptor::new_without_display_handle();
    descriptor.backends = backends;
    // Validation layers of the driver are for developers of wgpu; wgpu's own checks stay on.
    descriptor.flags = InstanceFlags::empty();
    // Full memory is then an error of the allocation, not the loss of the device.
    descriptor.memory_budget_thresholds.for_resource_creation = Some(90);
    let instance = wgpu::Instance::new(descriptor);
    let adapters = pollster::block_on(instance.enumerate_adapters(backends));
    adapters.into_iter().map(|handle| describe(handle, allow_software)).collect()
}

fn describe(handle: wgpu::Adapter, allow_software: bool) -> AdapterInfo {
    let info = handle.get_info();
    let features = handle.features();
    let kind = match info.device_type {
        wgpu::DeviceType::DiscreteGpu => AdapterKind::Discrete,
        wgpu::DeviceType::IntegratedGpu => AdapterKind::Integrated,
        wgpu::DeviceType::VirtualGpu => AdapterKind::Virtual,
        wgpu::DeviceType::Other => AdapterKind::Other,
        wgpu::DeviceType::Cpu => AdapterKind::Software,
    };
    let computes = handle.get_downlevel_capabilities().flags.contains(DownlevelFlags::COMPUTE_SHADERS);
    let unusable = if !computes {
        Some("it has no compute shaders".to_owned())
    } else if kind == AdapterKind::Software && !allow_software {
        Some(SOFTWARE.to_owned())
    } else {
        None
    };
    AdapterInfo {
        kind,
        backend: match info.backend {
            Backend::Vulkan => "Vulkan",
            Backend::Metal => "Metal",
            Backend::Dx12 => "DX12",
            Backend::Gl => "GL",
            Backend::BrowserWebGpu => "WebGPU",
            Backend::Noop => "no-op",
        },
        driver: [info.driver.trim(), info.driver_info.trim()].join(" ").trim().to_owned(),
        has_f64: features.contains(Features::SHADER_F64),
        has_i64: features.contains(Features::SHADER_INT64),
        has_f16: features.contains(Features::SHADER_F16),
        has_timestamps: features.contains(Features::TIMESTAMP_QUERY),
        subgroup_sizes: features.contains(Features::SUBGROUP).then_some([info.subgroup_min_size, info.subgroup_max_size]),
        has_cooperative_matrices: features.contains(Features::EXPERIMENTAL_COOPERATIVE_MATRIX),
        cooperative_matrices: cooperative(&handle),
        limits: limits(&handle.limits()),
        unusable,
        memory_bytes: super::vulkan::memory_bytes(&handle),
        identity: Identity {
            backend: info.backend,
            vendor: info.vendor,
            device: info.device,
            pci_bus: info.device_pci_bus_id,
            software: kind == AdapterKind::Software,
        },
        name: info.name,
        handle,
    }
}

fn limits(limits: &wgpu::Limits) -> AdapterLimits {
    AdapterLimits {
        buffer_bytes: limits.max_buffer_size,
        binding_bytes: limits.max_storage_buffer_binding_size,
        bindings: limits.max_storage_buffers_per_shader_stage,
        workgroups: limits.max_compute_workgroups_per_dimension,
        invocations: limits.max_compute_invocations_per_workgroup,
        workgroup_bytes: limits.max_compute_workgroup_storage_size,
    }
}

/// In ascending order, each once: drivers list them by what wgpu does not look at too.
fn cooperative(handle: &wgpu::Adapter) -> Vec<CooperativeMatrix> {
    let mut all: Vec<_> = handle.cooperative_matrix_properties().iter().map(CooperativeMatrix::of).collect();
    all.sort_unstable();
    all.dedup();
    all
}

/// Indices of the announcements to keep, the best backend of each GPU, in the given order.
fn first_of_each(all: &[Identity]) -> Vec<usize> {
    let better = |a: &Identity, b: &Identity| rank(a.backend) < rank(b.backend);
    let is_shadowed = |i: usize| {
        let later_twin = |j: usize| j < i && rank(all[j].backend) == rank(all[i].backend);
        (0..all.len()).any(|j| j != i && same_gpu(&all[i], &all[j]) && (better(&all[j], &all[i]) || later_twin(j)))
    };
    (0..all.len()).filter(|&i| !is_shadowed(i)).collect()
}

fn rank(backend: Backend) -> u8 {
    match backend {
        Backend::Vulkan | Backend::Metal => 0,
        Backend::Dx12 => 1,
        Backend::Gl | Backend::BrowserWebGpu => 2,
        Backend::Noop => 3,
    }
}

fn same_gpu(a: &Identity, b: &Identity) -> bool {
    if a.software != b.software {
        return false;
    }
    if !a.pci_bus.is_empty() && !b.pci_bus.is_empty() {
        // Two drivers of one API announce one card with one address (and two equal cards with two).
        return a.pci_bus == b.pci_bus;
    }
    if a.backend == b.backend {
        return false; // without an address, one driver's list is believed
    }
    // GL knows neither address nor device: it is taken to be the vendor's GPU that a better API found.
    let gl = a.backend == Backend::Gl || b.backend == Backend::Gl;
    a.software || (a.vendor == b.vendor && (gl || a.device == b.device))
}

/// For tests: one that can be used, if there is any. `tests/gpu.rs` says aloud that there is none.
#[cfg(test)]
pub(super) fn any() -> Option<AdapterInfo> {
    let found = adapters(true).into_iter().find(|a| a.unusable.is_none());
    assert!(found.is_some() || std::env::var_os("REQUIRE_GPU").is_none(), "REQUIRE_GPU is set, but there is no adapter");
    found
}

#[cfg(test)]
mod tests {
    use super::*;

    fn gpu(backend: Backend, vendor: u32, device: u32, pci_bus: &str) -> Identity {
        Identity { backend, vendor, device, pci_bus: pci_bus.into(), software: false }
    }

    #[test]
    fn subgroups_and_cooperative_matrices_are_as_the_driver_says() {
        let found = wgpu::CooperativeMatrixProperties {
            m_size: 16,
            n_size: 8,
            k_size: 32,
            ab_type: wgpu::CooperativeScalarType::F16,
            cr_type: wgpu::CooperativeScalarType::F32,
            saturating_accumulation: false,
        };
        let plain = CooperativeMatrix::of(&found);
        assert_eq!((plain.shape, plain.factors, plain.sums), ([16, 8, 32], DType::F16, DType::F32));
        assert_eq!(plain.to_string(), "16x8x32 f16 to f32");
        assert!(CooperativeMatrix { saturates: true, ..plain }.to_string().ends_with(", saturating"));
        let Some(adapter) = any() else { return };
        if let Some([least, most]) = adapter.subgroup_sizes {
            assert!(least.is_power_of_two() && most.is_power_of_two() && least <= most, "{adapter:?}");
        }
        // wgpu offers them where the driver lists any, and needs more of it than that.
        assert!(!adapter.has_cooperative_matrices || !adapter.cooperative_matrices.is_empty(), "{adapter:?}");
    }

    #[test]
    fn one_gpu_under_three_apis_is_listed_once() {
        let all = [
            gpu(Backend::Gl, 0x1002, 0, ""),
            gpu(Backend::Dx12, 0x1002, 7, "0000:01:00.0"),
            gpu(Backend::Vulkan, 0x1002, 7, "0000:01:00.0"),
        ];
        assert_eq!(first_of_each(&all), [2]);
    }

    #[test]
    fn two_equal_cards_stay_two_and_two_drivers_of_one_card_become_one() {
        let all = [
            gpu(Backend::Vulkan, 0x10de, 9, "0000:01:00.0"),
            gpu(Backend::Vulkan, 0x10de, 9, "0000:02:00.0"),
            gpu(Backend::Vulkan, 0x10de, 9, "0000:01:00.0"),
        ];
        assert_eq!(first_of_each(&all), [0, 1]);
        let metal = [gpu(Backend::Metal, 0, 0, ""), gpu(Backend::Metal, 0, 0, "")];
        assert_eq!(first_of_each(&metal), [0, 1]);
    }

    #[test]
    fn gl_of_another_vendor_and_software_beside_hardware_stay() {
        let software = Identity { software: true, ..gpu(Backend::Vulkan, 0x1_0005, 0, "") };
        let all = [gpu(Backend::Vulkan, 0x10de, 9, "0000:01:00.0"), gpu(Backend::Gl, 0x8086, 0, ""), software.clone()];
        assert_eq!(first_of_each(&all), [0, 1, 2]);
        let both = [Identity { backend: Backend::Gl, vendor: 0, ..software.clone() }, software];
        assert_eq!(first_of_each(&both), [1]);
    }
}
