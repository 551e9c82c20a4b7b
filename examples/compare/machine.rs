//! The machine that was measured: processor, memory rates, adapters, system, and who else was computing.
//!
//! Owns: the facts of the report's head. Must not know: workloads, samples. Invariant: what could not be found
//! out is absent, never guessed.

use chunkwise::cost::Calibration;
use chunkwise::device::{DeviceKind, system};
use chunkwise::id::DeviceId;
use chunkwise::kernel::simd::simd_name;
use chunkwise::runtime::Inside;
use chunkwise::{Error, Session};
use serde::Serialize;

use crate::compare::roofline::{self, GpuRates};

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
#[derive(Clone, Debug, Serialize)]
pub struct Machine {
    /// The processor's name.
    pub cpu: String,
    /// Cores that this process may use.
    pub cores: usize,
    /// Threads of the CPU device.
    pub threads: u32,
    /// SIMD path of the CPU kernels.
    pub simd: String,
    /// Measured at the start of this run and between its sweeps, the best counts: multiply-add peaks and memory rates, one thread and all.
    pub calibration: Calibration,
    /// Memory available at the start, bytes.
    pub available_memory_bytes: u64,
    /// The limit of a run, bytes.
    pub memory_limit_bytes: u64,
    /// Names of the GPU devices that took part.
    pub gpus: Vec<String>,
    /// What they do at best, all together, as measured at the start of this run; absent without GPUs, or if one could not be measured.
    pub gpu_rates: Option<GpuRates>,
    /// Why no GPU took part, if so.
    pub no_gpu: Option<String>,
    /// All adapters found, also those that did not take part.
    pub adapters: Vec<Adapter>,
    /// Operating system and architecture.
    pub system: String,
    /// The kernel's version, where the system says.
    pub kernel: Option<String>,
    /// Cores that other programs kept busy while this ran, on average, where the system says: above 0, times are too long.
    pub others_busy_cores: Option<f64>,
    /// `release` or `dev`.
    pub profile: &'static str,
    /// This crate's version.
    pub chunkwise: &'static str,
}

impl Machine {
    /// Measures the CPU (a second) and asks the rest. `session` has the threads that will be used.
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
        let calibration = roofline::best(calibration, devices[cpu].workers as usize, session.memory_limit() / 4);
        let gpus = devices.iter().filter(|d| d.kind == DeviceKind::Gpu);
        Ok(Self {
            cpu: system::cpu_model(),
            cores: system::threads(),
            threads: devices[cpu].workers,
            simd: simd_name().to_owned(),
            calibration,
            available_memory_bytes: system::available_memory(),
            memory_limit_bytes: session.memory_limit(),
            gpu_rates: None,
            gpus: gpus.map(|d| format!("{}: {}", d.name, d.model)).collect(),
            no_gpu: None,
            adapters,
            system: format!("{} {}", std::env::consts::OS, std::env::consts::ARCH),
            kernel: first_word("/proc/sys/kernel/osrelease"),
            others_busy_cores: None,
            profile: if cfg!(debug_assertions) { "dev" } else { "release" },
            chunkwise: env!("CARGO_PKG_VERSION"),
        })
    }

    /// Whether a GPU took part.
    pub fn has_gpu(&self) -> bool {
        !self.gpus.is_empty()
    }
}

/// What the cores did since the system began, in its ticks.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Ticks {
    /// All time of all cores.
    pub all: f64,
    /// Of that, time at work.
    pub busy: f64,
    /// Of that, this process's.
    pub own: f64,
}

impl Ticks {
    /// Now; `None` where the system does not say (it is Linux that does).
    pub fn now() -> Option<Self> {
        Self::read(&std::fs::read_to_string("/proc/stat").ok()?, &std::fs::read_to_string("/proc/self/stat").ok()?)
    }

    /// From `/proc/stat` (user, nice, system, idle, iowait, irq, softirq, steal) and `/proc/self/stat` (utime and stime are the 12th and
    /// 13th field after the name in parentheses).
    fn read(system: &str, own: &str) -> Option<Self> {
        let cores: Vec<f64> = system.lines().next()?.split_whitespace().skip(1).take(8).map_while(|t| t.parse().ok()).collect();
        let all: f64 = cores.iter().sum();
        let idle = cores.get(3)? + cores.get(4)?;
        let own: Vec<f64> = own.rsplit_once(')')?.1.split_whitespace().skip(11).take(2).map_while(|t| t.parse().ok()).collect();
        Some(Self { all, busy: all - idle, own: own.first()? + own.get(1)? })
    }

    /// How many cores others kept busy since `before`, on average.
    pub fn others_since(self, before: Self, cores: usize) -> Option<f64> {
        let all = self.all - before.all;
        let others = (self.busy - before.busy) - (self.own - before.own);
        (all > 0.0).then(|| (others / all).clamp(0.0, 1.0) * cores as f64)
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
    fn others_are_what_is_busy_and_not_this() {
        let stat = |busy: u64, idle: u64| format!("cpu  {busy} 0 10 {idle} 5 0 0 0 0 0\ncpu0 1 2 3\n");
        let own = |ticks: u64| format!("42 (a name) with ) R 1 2 3 4 5 6 7 8 9 10 {ticks} 5 0 0");
        let before = Ticks::read(&stat(100, 1000), &own(50)).unwrap();
        assert_eq!(before, Ticks { all: 1115.0, busy: 110.0, own: 55.0 });
        // 200 ticks later, 100 of them idle, 40 of this process: 60 of 200 were others', on 2 cores.
        let after = Ticks::read(&stat(200, 1100), &own(90)).unwrap();
        assert!((after.others_since(before, 2).unwrap() - 0.6).abs() < 1e-12);
        assert_eq!(before.others_since(before, 2), None);
        assert_eq!((Ticks::read("", &own(1)), Ticks::read(&stat(1, 1), "nonsense")), (None, None));
        assert!(!cfg!(target_os = "linux") || Ticks::now().is_some());
    }
}
