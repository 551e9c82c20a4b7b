//! Devices and studies that are made up.
//!
//! Owns: a GPU that is none, and studies with times of one's choice. Must not know: what is tested. Invariant: nothing here measures.

use std::sync::{Arc, LazyLock};

use chunkwise::cost::Peaks;
use chunkwise::device::{Cpu, Device, DeviceKind, DeviceSpec, IoLane, Launch, LinkSpec, Move, Origin};
use chunkwise::id::SpaceId;
use chunkwise::shape::DType;
use chunkwise::{Error, Placement, Session};

use crate::compare::machine::{Adapter, Machine};
use crate::compare::measure::{Entrant, Lane, Sample, WARM_UP, measure};
use crate::compare::plan::{Plan, Wishes};
use crate::compare::roofline::{GpuBounds, GpuRates};
use crate::compare::stats::{Rule, Shuffle};
use crate::compare::study::{Row, SCHEMA, Study};
use crate::compare::work::{Check, Workload};

/// A CPU pool behind a link that says it is a GPU.
pub struct FakeGpu {
    inner: Cpu,
    spec: DeviceSpec,
}

impl FakeGpu {
    pub fn new() -> Result<Self, Error> {
        let link = LinkSpec { latency_ns: 1000, bytes_per_s: 1e12 };
        let inner = Cpu::behind_link("gpu0", 1, SpaceId(1), [link; 2])?;
        let spec = DeviceSpec { kind: DeviceKind::Gpu, model: "Fake 9000".into(), ..inner.spec().clone() };
        Ok(Self { inner, spec })
    }
}

// SAFETY: a launch or move goes on to the inner device, or is dropped before it is reported as failed.
unsafe impl Device for FakeGpu {
    fn spec(&self) -> &DeviceSpec {
        &self.spec
    }
    fn launch(&self, launch: Launch) {
        self.inner.launch(launch);
    }
    fn transfer(&self, mv: Move) {
        self.inner.transfer(mv);
    }
    fn on_worker(&self) -> bool {
        self.inner.on_worker()
    }
    fn help(&self, wanted: &dyn Fn(&Origin) -> bool) -> bool {
        self.inner.help(wanted)
    }
}

/// A session with a CPU of some threads and, after the I/O lane, `gpu` if there is one.
pub fn session(placement: Placement, threads: usize, gpu: Option<Arc<dyn Device>>) -> Result<Session, Error> {
    let mut devices: Vec<Arc<dyn Device>> = vec![Arc::new(Cpu::new(threads)?), Arc::new(IoLane::new())];
    devices.extend(gpu);
    Session::builder().devices(devices).placement(placement).cache_dir("").memory_limit("1GB").seed(7).build()
}

/// A machine of these many threads, whose GPU has this name. Its peaks are measured once.
pub fn machine(threads: usize, gpu: Option<&str>) -> Machine {
    static LOOKED: LazyLock<Machine> =
        LazyLock::new(|| Machine::look(&session(Placement::Cpu, 2, None).unwrap(), Vec::new()).unwrap());
    let mut machine = Machine { threads: threads as u32, ..LOOKED.clone() };
    machine.others_busy_cores = Some(0.0);
    if let Some(name) = gpu {
        let peaks = Peaks { f32_flops: 9e12, f64_flops: 1.5e11, bytes_per_s: 3e11 };
        machine.gpu_rates = Some(GpuRates { peaks, up: 1.2e10, down: 1.1e10 });
        machine.gpus.push(format!("gpu0: {name}"));
        machine.adapters.push(Adapter {
            name: name.into(),
            kind: "discrete".into(),
            backend: "Vulkan".into(),
            driver: "fake 1.0".into(),
            f64: true,
            unusable: None,
        });
    }
    machine
}

/// A study without rows.
pub fn empty(lanes: &[Lane], machine: Machine) -> Study {
    Study {
        schema: SCHEMA,
        workload: "compare",
        date: "2026-11-25T14:09:12Z".into(),
        command: vec!["compare".into()],
        interrupted: false,
        total_s: 12.0,
        settings: Plan::new(&Wishes { quick: true, ..Wishes::default() }).settings,
        machine,
        lanes: lanes.to_vec(),
        rows: Vec::new(),
        crossings: Vec::new(),
        conclusions: Vec::new(),
        differences: Vec::new(),
        wrote: Vec::new(),
    }
}

/// A row whose lanes take the seconds that `seconds` says, with a jitter of 1 %.
pub fn row((workload, dtype, n): (Workload, DType, usize), lanes: &[Lane], seconds: impl Fn(Lane) -> f64) -> Row {
    let entrant = |(index, &lane): (usize, &Lane)| {
        let typical = seconds(lane);
        let mut runs = 3 * index as u32; // each lane has a jitter of its own
        let run = move || {
            runs += 1;
            let check = Check { difference: 0.0, tolerance: 1e-5, measure: "fake" };
            let jitter = 1.0 + 0.01 * f64::from(runs * 37 % 11) / 11.0;
            Ok(Sample {
                seconds: typical * jitter,
                check,
                tasks: 8,
                gpu_tasks: if lane.device == "gpu" { 8 } else { 0 },
                bytes_moved: 0,
                why_idle: None,
            })
        };
        Entrant { lane, run: Box::new(run) }
    };
    let mut entrants: Vec<Entrant<'_>> = lanes.iter().enumerate().map(entrant).collect();
    let (lanes, stopped) = measure(&mut entrants, (Rule { repeats: 9, budget_s: 9.0 }, WARM_UP), &mut Shuffle::new(1), || 0.0);
    let (input, result) = workload.bytes(dtype, n);
    let bound_s = Some(lanes.iter().filter_map(|m| m.median()).fold(f64::INFINITY, f64::min) / 3.0);
    let (bytes, flops) = (input + result, Some(1e9));
    let gpu_bound_s = bound_s.map(|cpu: f64| GpuBounds { cold: cpu / 2.0, resident: cpu / 10.0 });
    let (stopped, skipped, cut_short, reference) = (Some(stopped), None, None, None);
    Row { workload, dtype, n, bytes, flops, bound_s, gpu_bound_s, lanes, stopped, skipped, cut_short, reference }
}

/// The lanes of a machine with a GPU.
pub const WITH_GPU: [Lane; 5] = [Lane::CPU, Lane::GPU_COLD, Lane::GPU, Lane::AUTO_COLD, Lane::AUTO];

/// A GPU that wins matvec from 1400 on where the data stay, never where they are moved, and Mandelbrot from 400 on either way.
pub fn plausible() -> Study {
    let mut study = empty(&WITH_GPU, machine(2, Some("Fake 9000")));
    for dtype in [DType::F32, DType::F64] {
        let width = dtype.bytes() as f64 / 4.0;
        for n in [500, 1000, 2000, 4000] {
            let area = (n * n) as f64 * width;
            let matvec = |lane: Lane| match (lane.device, lane) {
                ("cpu", _) => 2e-5 + area / 3e9,
                (_, Lane::GPU_COLD) => 3e-4 + area / 1.2e9,
                (_, Lane::GPU) => 5e-4 + area / 4e10,
                (_, Lane::AUTO_COLD) => 2.1e-5 + area / 2.95e9,
                _ => (2.2e-5 + area / 2.9e9).min(5.2e-4 + area / 3.9e10),
            };
            study.rows.push(row((Workload::Matvec, dtype, n), &WITH_GPU, matvec));
            let mandelbrot = |lane: Lane| match lane.device {
                "cpu" => 3e-5 + area / 3e8,
                "gpu" => 6e-4 + area / 6e9,
                _ => (3.2e-5 + area / 3e8).min(6.2e-4 + area / 5.9e9),
            };
            study.rows.push(row((Workload::Mandelbrot, dtype, n), &WITH_GPU, mandelbrot));
        }
    }
    study.rows.sort_by_key(|r| (r.workload, r.dtype, r.n));
    study.conclude();
    study
}

/// A row whose lanes take the seconds that `typical` says, in so many sweeps, with a noise of that share from sweep to sweep.
pub fn noisy_row(
    (workload, dtype, n): (Workload, DType, usize),
    lanes: &[Lane],
    typical: impl Fn(Lane) -> f64,
    (noise, sweeps, seed): (f64, usize, &mut u32),
) -> Row {
    let mut whole: Option<Row> = None;
    for _ in 0..sweeps {
        // A generator of Lehmer's (Park and Miller, 1988) is random enough for noise.
        let mut uniform = || {
            *seed = (u64::from(*seed) * 48_271 % 0x7fff_ffff) as u32;
            f64::from(*seed) / f64::from(0x7fff_ffff)
        };
        let slower: Vec<(Lane, f64)> = lanes.iter().map(|&lane| (lane, 1.0 + noise * uniform())).collect();
        let of = |lane: Lane| typical(lane) * slower.iter().find(|s| s.0 == lane).map_or(1.0, |s| s.1);
        let sweep = row((workload, dtype, n), lanes, of);
        match &mut whole {
            Some(whole) => whole.add_sweep(sweep),
            None => whole = Some(sweep),
        }
    }
    whole.expect("at least one sweep")
}
