//! Calibration of a GPU that is made up: what is chosen and what is refused, how large it gets, how long it takes.
//!
//! Owns: [`MadeUp`]. Must not know: shaders. Invariant: which variant a launch is of is read from the entry point of its program, as a GPU's driver would.

use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex};
use std::time::{Duration, Instant};

use super::calibrate_gpu::calibrate_gpu_within;
use super::*;
use crate::device::{
    Body, Data, Device, DeviceKind, DeviceSpec, Failure, Launch, LinkSpec, Memory, Move, Remote, Report, Tuning, Window,
};
use crate::error::{Error, Result};
use crate::id::SpaceId;
use crate::kernel::{ExactFloats, GpuFacts, Variants};
use crate::shape::{ChunkMeta, ChunkView};

/// A launch, as the law of a GPU sees it.
#[derive(Clone, Debug, PartialEq)]
struct Asked {
    kernel: String,
    dtype: DType,
    entry: String,
    /// The longest side of its output.
    side: usize,
}

/// What becomes of a launch.
enum Fate {
    /// It is so many times as fast as usual, and right.
    Right(f64),
    /// The same, and wrong.
    Wrong(f64),
    Fails,
    Loses,
    /// It ends, and nobody can say how long it took.
    Unmeasured,
}

/// A GPU that does so many units of work a ns, as its law says.
struct MadeUp {
    spec: DeviceSpec,
    rate: f64,
    sleeps: bool,
    law: Box<dyn Fn(&Asked) -> Fate + Send + Sync>,
    lost: AtomicBool,
    asked: Mutex<Vec<(Asked, u64)>>,
}

impl MadeUp {
    fn new(rate: f64, law: impl Fn(&Asked) -> Fate + Send + Sync + 'static) -> Self {
        let link = LinkSpec { latency_ns: 1000, bytes_per_s: 1e10 };
        let facts = GpuFacts { binding_bytes: 1 << 30, ..GpuFacts::ANY };
        let spec = DeviceSpec {
            name: "gpu0".into(),
            model: "made up".into(),
            kind: DeviceKind::Gpu,
            workers: 1,
            queue: 8,
            space: SpaceId(1),
            link: Some([link; 2]),
            gpu: Some(facts),
        };
        let (lost, asked) = (AtomicBool::new(false), Mutex::default());
        Self { spec, rate, sleeps: false, law: Box::new(law), lost, asked }
    }

    fn asked(&self) -> Vec<(Asked, u64)> {
        self.asked.lock().unwrap().clone()
    }

    /// Its time; what it makes of its output; how it ends.
    fn run(&self, launch: &Launch) -> (u64, bool, Result<(), Failure>) {
        let Body::Run { params, inputs, outputs, .. } = &launch.body else { panic!("nothing is packed") };
        let chunks: Vec<&Remote> = inputs.iter().chain(outputs.iter().map(|o| &o.to)).map(remote).collect();
        let metas: Vec<_> = chunks.iter().map(|c| ChunkMeta::new(c.layout.dtype, &c.layout.shape)).collect();
        let failed = |message: &str| Error::Task { task: launch.kernel.name().into(), message: message.into() };
        if self.lost.load(Ordering::Relaxed) {
            return (1, true, Err(Failure::Lost(failed("it was lost before"))));
        }
        let program = launch.kernel.program(params, &metas, self.spec.gpu.as_ref().unwrap()).expect("a program");
        let asked = Asked {
            kernel: launch.kernel.name().into(),
            dtype: program.real,
            entry: program.passes[0].entry.clone().into(),
            side: metas.last().and_then(|m| m.shape.iter().max().copied()).unwrap_or(0),
        };
        let (speed, right) = match (self.law)(&asked) {
            Fate::Right(speed) => (speed, true),
            Fate::Wrong(speed) => (speed, false),
            Fate::Unmeasured => (1.0, true),
            Fate::Fails => return (1, true, Err(Failure::Unfit(failed("its shader does not compile")))),
            Fate::Loses => {
                self.lost.store(true, Ordering::Relaxed);
                return (1, true, Err(Failure::Lost(failed("it was lost"))));
            }
        };
        let ns = ((program.most.flops + program.most.bytes) / (self.rate * speed)) as u64 + 1000;
        let measured = !matches!((self.law)(&asked), Fate::Unmeasured);
        self.asked.lock().unwrap().push((asked, ns));
        // Results that are looked at are small.
        let mut bytes = memory(chunks.last().unwrap()).lock().unwrap();
        if bytes.len() <= 1 << 20 {
            bytes.fill(if right { 1 } else { 2 });
        }
        (ns, measured, Ok(()))
    }
}

fn remote(data: &Data) -> &Remote {
    match data {
        Data::Remote(remote) => remote,
        _ => panic!("not in its memory"),
    }
}

fn memory(remote: &Remote) -> &Mutex<Vec<u8>> {
    remote.memory.downcast_ref().expect("its own memory")
}

#[allow(unsafe_code)] // the promise of a device
// SAFETY: chunks are bytes of its own, moves are over when they are reported, and the rest is dropped.
unsafe impl Device for MadeUp {
    fn spec(&self) -> &DeviceSpec {
        &self.spec
    }

    fn launch(&self, launch: Launch) {
        let (elapsed_ns, measured, outcome) = self.run(&launch);
        if self.sleeps {
            std::thread::sleep(Duration::from_nanos(elapsed_ns));
        }
        (launch.done)(Report { elapsed_ns, measured, since_ns: 0, worker: 0, opaque: Vec::new(), outcome });
    }

    fn transfer(&self, mv: Move) {
        let copied = |window: &Window, remote: &Remote| {
            let mut bytes = memory(remote).lock().unwrap();
            let len = window.layout().bytes() as usize;
            if mv.upload {
                bytes[..len].copy_from_slice(crate::device::input_view(&mv.from).try_bytes().unwrap());
            } else {
                let view = ChunkView::from_bytes(&bytes[..len], window.layout()).unwrap();
                crate::device::host_view_mut(window).copy_from(view);
            }
        };
        match (&mv.from, &mv.to) {
            (Data::Host(window), Data::Remote(remote)) | (Data::Remote(remote), Data::Host(window)) => copied(window, remote),
            _ => panic!("a move within one space"),
        }
        (mv.done)(Report { elapsed_ns: 1000, measured: true, since_ns: 0, worker: 0, opaque: Vec::new(), outcome: Ok(()) });
    }

    fn allocate(&self, bytes: u64) -> Result<Memory> {
        Ok(Memory::Remote(Arc::new(Mutex::new(vec![0u8; bytes as usize]))))
    }
}

fn refused(kernel: &str, dtype: DType, variant: u8) -> RefusedVariant {
    RefusedVariant { kernel: kernel.into(), dtype, variant }
}

/// With time for all, however busy this machine is.
fn calibrated(gpu: &MadeUp, refused: &[RefusedVariant]) -> Option<GpuCalibration> {
    calibrate_gpu_within(Duration::from_secs(20), gpu, refused)
}

/// Variants that are faster, too little faster, wrong, that fail.
fn mixed(asked: &Asked) -> Fate {
    let entry = asked.entry.trim_end_matches("_any").trim_end_matches("_part");
    match (&*asked.kernel, asked.dtype, entry) {
        ("gemm", DType::F32, "large") => Fate::Right(1.5),
        ("gemm", DType::F32, "small") => Fate::Right(1.2),
        ("gemm", DType::F64, "large") => Fate::Fails,
        ("gemv", DType::F32, "slim") => Fate::Right(1.05),
        ("gemv", DType::F64, "slim") => Fate::Right(1.3),
        ("syrk", DType::F32, "large") => Fate::Wrong(3.0),
        ("syrk", DType::F32, "small") => Fate::Right(1.3),
        ("trsm", DType::F64, _) => Fate::Unmeasured,
        _ => Fate::Right(1.0),
    }
}

#[test]
fn a_variant_is_chosen_if_it_is_right_and_faster() {
    let gpu = MadeUp::new(1e4, mixed);
    let found = calibrated(&gpu, &[]).unwrap();
    assert!(!found.lost);
    assert_eq!(found.tuned.tuning.variants, Variants { gemm: [3, 0], syrk: [1, 0], gemv: [0, 2] });
    assert_eq!(found.tuned.refused, [refused("syrk@1", DType::F32, 3), refused("gemm@1", DType::F64, 3)]);
    let of = |kernel: &str, dtype| {
        let all = found.kernels.iter().filter(|s| s.kernel == kernel && s.dtype == dtype);
        all.max_by(|a, b| a.work.flops.total_cmp(&b.work.flops)).cloned()
    };
    let gemm = of("gemm@1", DType::F32).unwrap();
    assert_eq!(gemm.work.flops, 2.0 * 2048f64.powi(3), "it is measured up to where it fills the GPU");
    let rate = gemm.work.flops / *gemm.ns.iter().min().unwrap() as f64;
    assert!((rate / 1.5e4 - 1.0).abs() < 0.01, "samples are of the chosen variant: {rate}");
    assert!(of("trsm@2", DType::F32).is_some() && of("trsm@2", DType::F64).is_none(), "what is not measured is no sample");
    // The slowest of what fills a GPU.
    let [narrow, wide] = found.tuned.tuning.units_per_ns;
    assert!((narrow / 1e4 - 1.0).abs() < 0.2 && (wide / 1e4 - 1.0).abs() < 0.2, "{narrow} {wide}");
    assert!(found.tuned.is_plausible());
    // What was refused is not tried again, and stays refused.
    let gpu = MadeUp::new(1e4, mixed);
    let again = calibrated(&gpu, &found.tuned.refused).unwrap();
    assert_eq!(again.tuned.refused, found.tuned.refused);
    assert_eq!(again.tuned.tuning.variants, found.tuned.tuning.variants);
    let tried = |kernel: &str, dtype, entry: &str| {
        gpu.asked().iter().any(|(a, _)| a.kernel == kernel && a.dtype == dtype && a.entry.starts_with(entry))
    };
    assert!(!tried("syrk", DType::F32, "large") && !tried("gemm", DType::F64, "large") && tried("gemm", DType::F32, "large"));
}

#[test]
fn a_variant_that_loses_where_chunks_are_smaller_is_not_chosen() {
    let law = |loses: f64| {
        move |asked: &Asked| match (&*asked.kernel, &*asked.entry) {
            ("gemm", "large") if asked.side <= 1024 => Fate::Right(loses),
            ("gemm", "large") => Fate::Right(2.0),
            _ => Fate::Right(1.0),
        }
    };
    let chosen = |loses| calibrated(&MadeUp::new(1e4, law(loses)), &[]).unwrap().tuned.tuning.variants.gemm;
    assert_eq!((chosen(0.5), chosen(0.95)), ([0, 0], [3, 3]));
}

#[test]
fn what_takes_the_gpu_along_is_refused_and_what_was_measured_stays() {
    let gpu = MadeUp::new(1e4, |asked| if asked.entry == "slim" { Fate::Loses } else { mixed(asked) });
    let found = calibrated(&gpu, &[]).unwrap();
    assert!(found.lost && gpu.lost.load(Ordering::Relaxed));
    assert_eq!(found.tuned.refused, [refused("gemv@1", DType::F32, 2)]);
    assert_eq!(found.tuned.tuning.variants, Variants { gemm: [3, 0], ..Variants::AUTOMATIC });
    assert!(found.kernels.iter().any(|s| s.kernel == "gemv@1" && s.dtype == DType::F64));
    // Opened again, it is not asked for that one.
    let gpu =
        MadeUp::new(1e4, |asked| if asked.entry == "slim" && asked.dtype == DType::F32 { Fate::Loses } else { mixed(asked) });
    assert!(!calibrated(&gpu, &found.tuned.refused).unwrap().lost);
    // Lost sooner, it is no GPU.
    assert!(calibrated(&MadeUp::new(1e4, |_| Fate::Loses), &[]).is_none());
}

#[test]
fn a_slow_gpu_is_measured_in_time() {
    for rate in [1.0, 10.0, 300.0] {
        let gpu = MadeUp { sleeps: true, ..MadeUp::new(rate, |_| Fate::Right(1.0)) };
        let began = Instant::now();
        let found = calibrate_gpu(&gpu, &[]).unwrap();
        // Half a second, and room for a machine that does something else.
        assert!(began.elapsed() < Duration::from_secs(4), "rate {rate}: {:?}", began.elapsed());
        let longest = gpu.asked().iter().map(|asked| asked.1).max().unwrap();
        assert!(longest <= 21_000_000, "rate {rate}: a launch of {longest} ns");
        for (kernel, dtype) in [("gemm@1", DType::F32), ("gemv@1", DType::F32), ("gemm@1", DType::F64), ("gemv@1", DType::F64)]
        {
            assert!(found.kernels.iter().any(|s| s.kernel == kernel && s.dtype == dtype), "rate {rate}: {kernel} {dtype}");
        }
        let reached = found.rates.f32_flops / (rate * 1e9);
        assert!((0.5..=1.01).contains(&reached), "rate {rate}: {reached} of it");
        assert_eq!(found.tuned.tuning.variants, Variants::AUTOMATIC, "nothing was faster");
    }
}

#[test]
fn what_was_found_out_survives_the_file_and_what_makes_no_sense_does_not() {
    let dir = tempfile::tempdir().unwrap();
    let load = || {
        let (costs, warning) = CostModel::load(Some(dir.path()));
        assert_eq!(warning, None);
        costs
    };
    let known = |costs: &mut CostModel, name: &str| {
        let gpu = costs.device(&DeviceKey::new(name), Rates::GPU);
        (costs.calibrated(gpu), costs.tuned(gpu).cloned())
    };
    let tuning = Tuning { variants: Variants { gemm: [3, 1], ..Variants::AUTOMATIC }, units_per_ns: [1234.0, 56.7] };
    let tuned = Tuned { tuning, refused: vec![refused("syrk@1", DType::F64, 2)], exact: ExactFloats::ALL };
    let mut costs = load();
    let gpu = costs.device(&DeviceKey::new("gpu: driver 1"), Rates::GPU);
    costs.set_rates(gpu, Rates::GPU);
    costs.set_tuned(gpu, tuned.clone());
    // Peaks come later, and are written again with all else.
    assert_eq!(costs.save(), None);
    costs.set_peaks(gpu, Peaks { f32_flops: 1e13, f64_flops: 0.0, bytes_per_s: 1e12 });
    assert_eq!(costs.save(), None);
    assert_eq!(known(&mut load(), "gpu: driver 1"), (true, Some(tuned.clone())));
    assert_eq!(known(&mut load(), "gpu: driver 2"), (false, None), "a changed driver is another GPU");
    let mut nonsense = Tuned::default();
    nonsense.tuning.units_per_ns = [f64::NAN, 1.0];
    costs.set_tuned(gpu, nonsense);
    assert_eq!(costs.tuned(gpu), Some(&tuned), "what makes no sense is ignored");
    let file = file::path_in(dir.path());
    let whole = std::fs::read_to_string(&file).unwrap();
    for (from, to) in [
        ("\"gemm\":[3,1]", "\"gemm\":[9,1]"),
        ("[1234.0,56.7]", "[-1.0,2.0]"),
        ("\"variant\":2", "\"variant\":\"two\""),
        ("\"tuned\":{", "\"other\":{"),
    ] {
        let changed = whole.replace(from, to);
        assert_ne!(changed, whole, "{from}");
        std::fs::write(&file, changed).unwrap();
        assert_eq!(known(&mut load(), "gpu: driver 1"), (true, None), "{to}");
    }
}

#[test]
fn times_below_half_of_what_a_gpu_can_do_are_not_believed() {
    let (mut costs, _) = CostModel::load(None);
    let gpu = costs.device(&DeviceKey::new("gpu:test"), Rates::GPU);
    let work = Work { flops: 1e9, bytes: 1e9 };
    let told = |costs: &mut CostModel, dtype, ns: u64| {
        let id = costs.resolve(gpu, format!("gemm{ns}@1").as_str(), dtype);
        (0..5).for_each(|_| costs.record(id, work, ns));
        costs.estimate(id, work).basis
    };
    assert_eq!(told(&mut costs, DType::F32, 1), Basis::Measured { samples: 4 }, "nothing is known of its peaks");
    // 1e9 operations take 100 us in f32, and a millisecond in f64; 1e9 bytes take 1 ms from memory, and less from caches.
    costs.set_peaks(gpu, Peaks { f32_flops: 1e13, f64_flops: 1e12, bytes_per_s: 1e12 });
    let cases = [(DType::F32, 49_000, false), (DType::F32, 51_000, true), (DType::I32, 49_000, false)];
    for (dtype, ns, is_believed) in
        cases.into_iter().chain([(DType::F64, 490_000, false), (DType::F64, 510_000, true), (DType::I64, 2000, true)])
    {
        let basis = told(&mut costs, dtype, ns);
        assert_eq!(basis != Basis::Prior, is_believed, "{dtype} {ns}: {basis:?}");
    }
    // A GPU without f64 has no peak to go by.
    costs.set_peaks(gpu, Peaks { f32_flops: 1e13, f64_flops: 0.0, bytes_per_s: 1e12 });
    assert_ne!(told(&mut costs, DType::F64, 3), Basis::Prior);
}
