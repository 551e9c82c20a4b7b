//! The machine that was measured: processor, memory rates, adapters, system, and the roofline that follows.
//!
//! Owns: the facts of the report's head and [`Roofline`]. Must not know: workloads, samples. Invariant: what could not be found
//! out is absent, never guessed.

use std::cell::RefCell;
use std::collections::BTreeMap;

use chunkwise::cost::{Calibration, calibrate};
use chunkwise::device::{DeviceKind, system};
use chunkwise::id::DeviceId;
use chunkwise::kernel::simd::simd_name;
use chunkwise::shape::DType;
use chunkwise::{Error, Session};
use serde::Serialize;

/// A GPU adapter, used or not.
#[derive(Clone, Debug, Serialize)]
pub struct Adapter {
    /// Its name.
    pub name: String,
    /// `discrete`, `integrated`, `software`.
    pub kind: String,
    /// `Vulkan`, `Metal`, `DX12`.
    pub backend: String,
    /// Driver and version, as it says.
    pub driver: String,
    /// Whether shaders may compute in f64.
    pub f64: bool,
    /// Why it cannot be used, if so.
    pub unusable: Option<String>,
}

/// Facts of the machine.
#[derive(Debug, Serialize)]
pub struct Machine {
    /// The processor's name.
    pub cpu: String,
    /// Cores that this process may use.
    pub cores: usize,
    /// Threads of the CPU device.
    pub threads: u32,
    /// SIMD path of the CPU kernels.
    pub simd: String,
    /// Measured at the start of this run: multiply-add peaks and memory rates, one thread and all.
    pub calibration: Calibration,
    /// Memory available at the start, bytes.
    pub available_memory_bytes: u64,
    /// The limit of a run, bytes.
    pub memory_limit_bytes: u64,
    /// Names of the GPU devices that took part.
    pub gpus: Vec<String>,
    /// All adapters found, also those that did not take part.
    pub adapters: Vec<Adapter>,
    /// Operating system and architecture.
    pub system: String,
    /// The kernel's version, where the system says.
    pub kernel: Option<String>,
    /// Runnable processes at the start (1 min average), where the system says: above 0 somebody else was computing.
    pub load_at_start: Option<f64>,
    /// `release` or `dev`.
    pub profile: &'static str,
    /// This crate's version.
    pub chunkwise: &'static str,
}

/// What the measured peaks of the CPU allow.
pub struct Roofline {
    calibration: Calibration,
    threads: usize,
    /// Rates by working set in bytes, for sets that fit in caches.
    cached: RefCell<BTreeMap<u64, Calibration>>,
}

/// Sets below this are taken to be this large: smaller ones say more of loop overhead than of memory.
const LEAST_SET_BYTES: u64 = 1 << 20;

impl Machine {
    /// Measures the CPU (half a second) and asks the rest. `session` has the threads that will be used.
    ///
    /// # Errors
    /// [`Error::NoDevice`] if the session has no CPU.
    pub fn look(session: &Session, adapters: Vec<Adapter>) -> Result<Self, Error> {
        session.calibrate();
        let devices = session.devices();
        let cpu = devices.iter().position(|d| d.kind == DeviceKind::Cpu);
        let calibration = cpu.and_then(|index| session.rates(DeviceId::at(index))?.1);
        let (Some(cpu), Some(calibration)) = (cpu, calibration) else {
            return Err(Error::NoDevice { wanted: "cpu".into(), found: "this session has none to compare with".into() });
        };
        let gpus = devices.iter().filter(|d| d.kind == DeviceKind::Gpu);
        Ok(Self {
            cpu: system::cpu_model(),
            cores: system::threads(),
            threads: devices[cpu].workers,
            simd: simd_name().to_owned(),
            calibration,
            available_memory_bytes: system::available_memory(),
            memory_limit_bytes: session.memory_limit(),
            gpus: gpus.map(|d| format!("{}: {}", d.name, d.model)).collect(),
            adapters,
            system: format!("{} {}", std::env::consts::OS, std::env::consts::ARCH),
            kernel: first_word("/proc/sys/kernel/osrelease"),
            load_at_start: first_word("/proc/loadavg").and_then(|word| word.parse().ok()),
            profile: if cfg!(debug_assertions) { "dev" } else { "release" },
            chunkwise: env!("CARGO_PKG_VERSION"),
        })
    }

    /// Whether a GPU took part.
    pub fn has_gpu(&self) -> bool {
        !self.gpus.is_empty()
    }
}

impl Roofline {
    /// That of a machine.
    pub fn of(machine: &Machine) -> Self {
        Self { calibration: machine.calibration.clone(), threads: machine.threads as usize, cached: RefCell::default() }
    }

    /// Seconds below which this CPU cannot do the work with all its threads: the slower of `flops` at the measured multiply-add peak
    /// and `bytes` at the measured memory rate. The rate is that of a working set of this size (rounded down to a power of two), so that
    /// data that fit in caches are not held to the speed of memory.
    pub fn bound_s(&self, dtype: DType, (flops, bytes): (f64, f64)) -> f64 {
        let rates = self.rates_at(bytes);
        let peak = if dtype == DType::F32 { self.calibration.f32_flops_all } else { self.calibration.f64_flops_all };
        (flops / peak).max(bytes / rates.read_all.max(rates.copy_all))
    }

    fn rates_at(&self, bytes: f64) -> Calibration {
        let set = (bytes as u64).max(LEAST_SET_BYTES);
        let set = 1u64 << set.ilog2();
        if set >= self.calibration.buffer_bytes {
            return self.calibration.clone();
        }
        let mut cached = self.cached.borrow_mut();
        let measure = || {
            let pool = rayon::ThreadPoolBuilder::new().num_threads(self.threads).build();
            pool.map_or_else(|_| self.calibration.clone(), |pool| calibrate(&pool, set))
        };
        cached.entry(set).or_insert_with(measure).clone()
    }
}

/// The first word of a file of the system.
fn first_word(path: &str) -> Option<String> {
    let text = std::fs::read_to_string(path).ok()?;
    text.split_whitespace().next().map(str::to_owned)
}

/// All adapters, software ones too.
#[cfg(feature = "gpu")]
pub fn adapters(allow_software: bool) -> Vec<Adapter> {
    let describe = |a: chunkwise::device::gpu::AdapterInfo| Adapter {
        kind: a.kind.to_string(),
        backend: a.backend.to_string(),
        name: a.name,
        driver: a.driver,
        f64: a.has_f64,
        unusable: a.unusable,
    };
    chunkwise::device::gpu::adapters(allow_software).into_iter().map(describe).collect()
}

/// All adapters: none, in a build without GPU code.
#[cfg(not(feature = "gpu"))]
pub fn adapters(_allow_software: bool) -> Vec<Adapter> {
    Vec::new()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_bound_is_the_slower_roof_and_caches_have_their_own_rate() {
        let session = Session::builder().threads(1).memory_limit("500MB").cache_dir("").build().unwrap();
        let machine = Machine::look(&session, Vec::new()).unwrap();
        let c = &machine.calibration;
        let large = 4.0 * c.buffer_bytes as f64;
        let roofline = Roofline::of(&machine);
        let memory = roofline.bound_s(DType::F64, (1.0, large));
        assert!((memory * c.read_all.max(c.copy_all) / large - 1.0).abs() < 1e-9, "{memory}");
        let compute = roofline.bound_s(DType::F32, (1e12, 1.0));
        assert!((compute * c.f32_flops_all / 1e12 - 1.0).abs() < 1e-9, "{compute}");
        assert!(roofline.bound_s(DType::F64, (1e12, 1.0)) > compute);
        assert!(roofline.cached.borrow().contains_key(&LEAST_SET_BYTES));
        assert_eq!((machine.threads, machine.has_gpu()), (1, false));
    }
}
