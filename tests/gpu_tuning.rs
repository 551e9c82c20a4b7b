//! A GPU that is told how it runs best: measured on a real driver, kept, told again by a later session; and the same bits whatever it is told.
//!
//! Owns: what a session does with what calibration found out. Must not know: how variants are tried (src/cost). Invariant: what a device is told is seen by a wrapper
//! of it, as any device would.
#![cfg(feature = "gpu")]

use std::path::Path;
use std::sync::{Arc, Mutex};
use std::time::{Duration, Instant};

use chunkwise::cost::{calibrate_gpu, calibrate_gpu_within};
use chunkwise::device::gpu::Gpu;
use chunkwise::device::{Body, Cpu, Data, Device, DeviceSpec, IoLane, Launch, Memory, Move, Report, Tuning};
use chunkwise::id::DeviceId;
use chunkwise::kernel::{ExactFloats, Variants};
use chunkwise::runtime::Inside;
use chunkwise::shape::ChunkMeta;
use chunkwise::{Array, prelude::*};
use ndarray::{Array1, Array2};
use support::gpu::{cholesky, session};
use support::kernel_cases::{Numbers, gemm};
use support::lab::{Lab, Place, reported};

support::gpus!();

const GPU: DeviceId = DeviceId(2);

/// A GPU, and what it was told.
struct Told {
    inner: Arc<Gpu>,
    spec: DeviceSpec,
    told: Mutex<Vec<Tuning>>,
    /// Programs with this entry point take an eighth of the time, it says. (Much less, and they would be measured at sizes that really take long.)
    claims: Option<&'static str>,
}

impl Told {
    fn new(inner: &Arc<Gpu>, model: &str) -> Arc<Self> {
        let spec = DeviceSpec { model: model.into(), ..inner.spec().clone() };
        Arc::new(Self { inner: inner.clone(), spec, told: Mutex::default(), claims: None })
    }

    fn told(&self) -> Vec<Tuning> {
        self.told.lock().unwrap().clone()
    }

    fn claims(&self, launch: &Launch) -> bool {
        let Some(entry) = self.claims else { return false };
        let Body::Run { params, inputs, outputs, .. } = &launch.body else { return false };
        let all = inputs.iter().chain(outputs.iter().map(|output| &output.to));
        let metas: Vec<ChunkMeta<'_>> = all
            .map(|chunk| match chunk {
                Data::Remote(chunk) => ChunkMeta::new(chunk.layout.dtype, &chunk.layout.shape),
                _ => panic!("a chunk that is not on the GPU"),
            })
            .collect();
        let facts = self.inner.spec().gpu.expect("a GPU");
        launch.kernel.program(params, &metas, &facts).is_some_and(|p| p.passes[0].entry.starts_with(entry))
    }
}

#[allow(unsafe_code)] // the promise of a device
// SAFETY: all goes on to the inner device.
unsafe impl Device for Told {
    fn spec(&self) -> &DeviceSpec {
        &self.spec
    }
    fn launch(&self, mut launch: Launch) {
        let times = if self.claims(&launch) { 8 } else { 1 };
        let done = launch.done;
        launch.done = Box::new(move |report| done(Report { elapsed_ns: (report.elapsed_ns / times).max(1), ..report }));
        self.inner.launch(launch);
    }
    fn transfer(&self, mv: Move) {
        self.inner.transfer(mv);
    }
    fn allocate(&self, bytes: u64) -> Result<Memory> {
        self.inner.allocate(bytes)
    }
    fn memory_bytes(&self) -> Option<u64> {
        self.inner.memory_bytes()
    }
    fn tune(&self, tuning: &Tuning) {
        self.told.lock().unwrap().push(*tuning);
        self.inner.tune(tuning);
    }
    fn set_exact(&self, exact: &ExactFloats) {
        self.inner.set_exact(exact);
    }
}

#[test]
fn a_real_driver_is_measured_in_time() {
    let Some(gpu) = gpu() else { return };
    let began = Instant::now();
    let found = calibrate_gpu(&*gpu, &[]).expect("it answers");
    // Half a second of measuring; the rest is the compiler's, which software Vulkan has none of for free, and that of whoever shares this machine.
    assert!(began.elapsed() < Duration::from_secs(15), "{:?}", began.elapsed());
    assert!(!found.lost && found.tuned.refused.is_empty(), "{:?}", found.tuned);
    let facts = gpu.spec().gpu.expect("a GPU");
    for dtype in [DType::F32, DType::F64].into_iter().filter(|&dtype| dtype == DType::F32 || facts.f64) {
        for kernel in ["gemm@1", "gemv@1"] {
            let sample = found.kernels.iter().find(|s| s.kernel == kernel && s.dtype == dtype);
            assert!(sample.is_some_and(|s| !s.ns.is_empty()), "{kernel} {dtype}: {:?}", found.kernels);
        }
        let rate = found.tuned.tuning.units_per_ns[usize::from(dtype == DType::F64)];
        assert!(rate > 0.0 && rate.is_finite(), "{dtype}: {rate}");
    }
}

#[test]
fn a_variant_that_is_faster_is_found_right_on_a_real_driver() {
    let Some(inner) = gpu() else { return };
    // Time enough for a machine that is busy, too.
    let budget = Duration::from_secs(4);
    for entry in ["large", "slim"] {
        // Of the other kernels, any may be the fastest.
        let is_found = |Variants { gemm, syrk, gemv }: Variants| match entry {
            "large" => (gemm[0], syrk[0]) == (3, 3),
            _ => gemv[0] == 2,
        };
        let tuned = || {
            let (spec, told) = (inner.spec().clone(), Mutex::default());
            let claims = Told { inner: inner.clone(), spec, told, claims: Some(entry) };
            let tuned = calibrate_gpu_within(budget, &claims, &[]).expect("it answers").tuned;
            assert!(tuned.refused.is_empty(), "{entry}: {tuned:?}");
            tuned.tuning.variants
        };
        // Other programs may have had the processors while one variant ran.
        assert!((0..3).any(|_| is_found(tuned())), "{entry}");
    }
}

#[test]
fn launches_that_are_cut_are_measured() {
    let (Some(gpu), mut r, real) = (gpu(), Numbers(18), DType::F32) else { return };
    let lab = Lab { gpu };
    let case = gemm(r.chunk(real, &[700, 700]), r.chunk(real, &[700, 700]), r.chunk(real, &[700, 700]));
    let inputs: Vec<Data> = case.inputs.iter().map(|input| lab.upload(input, Place::Plain)).collect();
    let places: Vec<Data> = (0..3).map(|_| lab.upload(&case.output, Place::Plain)).collect();
    // A download comes after all uploads, so what is submitted from here on are the launches.
    assert!(lab.download(&places[2], Place::Plain) == case.output.values);
    let before = lab.gpu.counters().submissions;
    // Nothing is expected, so little is tried at first; the end of each goes beside the beginning of the next.
    let reports: Vec<_> = places.iter().map(|place| lab.start_expecting(0, &case, &inputs, (place, None))).collect();
    let reports: Vec<Report> = reports.iter().map(reported).collect();
    assert!(lab.gpu.counters().submissions > before + 3, "not cut");
    assert!(reports.iter().all(|report| report.outcome.is_ok()));
    // Or history would never hear of kernels of which a process runs a few that are long.
    let measured: Vec<(u64, bool)> = reports.iter().map(|report| (report.elapsed_ns, report.measured)).collect();
    assert!(measured.iter().filter(|report| report.1).count() >= 2, "{measured:?}");
}

#[test]
fn what_was_found_out_is_kept_and_told_to_the_same_gpu_again() {
    let Some(gpu) = gpu() else { return };
    let dir = tempfile::tempdir().expect("a folder");
    let with = |device: Arc<Told>, dir: &Path| {
        let devices: Vec<Arc<dyn Device>> = vec![Arc::new(Cpu::new(1).expect("pool")), Arc::new(IoLane::new()), device];
        Session::builder().devices(devices).cache_dir(dir).memory_limit("1GB").build().expect("a session")
    };
    let first = Told::new(&gpu, "made by A: driver 1");
    let session = with(first.clone(), dir.path());
    assert_eq!((session.tuned(GPU), first.told()), (None, vec![]), "nothing is known");
    session.calibrate();
    let tuned = session.tuned(GPU).expect("it is calibrated");
    assert_eq!(first.told(), [tuned.tuning], "and told at once");
    assert_eq!(session.devices()[2].gpu.expect("a GPU").variants, tuned.tuning.variants);
    drop(session);
    let later = Told::new(&gpu, "made by A: driver 1");
    let session = with(later.clone(), dir.path());
    assert_eq!((session.tuned(GPU), later.told()), (Some(tuned.clone()), vec![tuned.tuning]));
    drop(session);
    let changed = Told::new(&gpu, "made by A: driver 2");
    let session = with(changed.clone(), dir.path());
    assert_eq!((session.tuned(GPU), changed.told()), (None, vec![]), "another driver");
    drop(session);
    let file = std::fs::read_dir(dir.path())
        .expect("files")
        .flatten()
        .map(|f| f.path())
        .find(|p| p.extension().is_some_and(|e| e == "json"));
    std::fs::write(file.expect("costs"), "{").expect("written");
    let corrupt = Told::new(&gpu, "made by A: driver 1");
    assert_eq!((with(corrupt.clone(), dir.path()).tuned(GPU), corrupt.told()), (None, vec![]), "a file that is none");
}

#[test]
fn bits_are_the_same_whatever_it_is_told() {
    let Some(gpu) = gpu() else { return };
    let device: Arc<dyn Device> = gpu.clone();
    let session = session(Placement::Gpu, &[device]);
    let a = Array2::from_shape_fn((300, 1024), |(i, j)| ((i * 5 + j * 11) % 17) as f32 / 17.0 - 0.4);
    let x = Array1::from_shape_fn(1024, |j| (j % 13) as f32 / 13.0);
    let compute = || {
        let l = cholesky::<f32>(&session, 400, 200).and_then(|l| l.compute()).expect("a factor");
        let (a, x) = (Array::from(a.clone()).in_session(&session), Array::from(x.clone()));
        let y = a.try_chunks((100, 1024)).and_then(|a| a.try_matvec(&x)?.compute()).expect("a product");
        (l.mapv(f32::to_bits), y.mapv(f32::to_bits))
    };
    let before = compute();
    for variant in 1..=Variants::PRODUCTS {
        let variants = Variants { gemm: [variant; 2], syrk: [variant; 2], gemv: [variant.min(Variants::GEMVS); 2] };
        // Nonsense among the rates is not followed.
        gpu.tune(&Tuning { variants, units_per_ns: [f64::NAN, f64::INFINITY] });
        assert!(compute() == before, "variant {variant}");
    }
}
