//! Calibration of a GPU: what launches and moves take there, as its device really does them.
//!
//! Owns: [`calibrate_gpu`], [`GpuCalibration`] and [`gpu_peaks`]. Must not know: GPU APIs; it drives any [`Device`] that runs programs. Invariant: a calibration ends
//! within about half a second of measuring (compilers and slow drivers apart), and gives up a device that does not answer.

use std::cell::Cell;
use std::sync::Arc;
use std::sync::mpsc::{Receiver, channel};
use std::time::{Duration, Instant};

use serde::{Deserialize, Serialize};

use super::rates::{LinkRate, Peaks, Rates};
use crate::device::{Body, Data, Device, HostBuffer, Launch, Memory, Move, Output, Remote, Report, Window};
use crate::kernel::KernelKey;
use crate::kernel::dense::{Gemm, Potrf, PotrfParams, ProductParams, Syrk, Trsm};
use crate::kernel::gemv::Gemv;
use crate::kernel::mandelbrot::{Mandelbrot, MandelbrotParams};
use crate::kernel::peak::{Peak, PeakParams, ReadAll};
use crate::kernel::reduce::{ReduceChunk, Reduction};
use crate::kernel::{Kernel, Work};
use crate::shape::{ChunkMeta, DType, Layout};

/// After so much measuring, no further measurement starts; first launches, for which shaders are compiled, do not count.
const BUDGET: Duration = Duration::from_millis(450);
/// After this none starts whatever took the time.
const LONGEST: Duration = Duration::from_secs(6);
/// The time after which a device that does not answer is given up: a driver may compile for seconds.
const PATIENCE: Duration = Duration::from_secs(20);
/// Launches of a kernel whose times count, after one that does not.
const REPEATS: usize = 4;
/// Rows and columns of the f32 chunks that are moved to measure a link: 64 KiB, 16 MiB.
const SHORT: usize = 128;
const LONG_SIDE: usize = 2048;
/// Long moves at once: those of a run overlap too.
const IN_FLIGHT: usize = 3;
/// A peak is measured over launches of so long: what a launch costs whatever its work is then a small part.
const LONG: Duration = Duration::from_millis(4);
/// Elements of the launches that measure arithmetic: 4096 workgroups, so that the last ones of the largest GPUs do not matter.
const PEAK_ELEMENTS: usize = 1 << 20;
/// Long launches of which the fastest counts: a GPU just opened raises its clocks first.
const PEAK_REPEATS: usize = 5;
/// Invocations that read.
const READERS: usize = 1 << 18;
/// Bytes of the chunk that is read to measure memory: more than the caches of all but a few GPUs.
const PEAK_BYTES: u64 = 128 << 20;

/// What was measured of a GPU.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct GpuCalibration {
    /// Links to its memory and back.
    pub link: [LinkRate; 2],
    /// What is expected of a kernel never measured: flops of the matrix product, bytes of the matrix-vector product.
    pub rates: Rates,
    /// Nanoseconds until the end of an (almost) empty launch is known to the host.
    pub round_trip_ns: f64,
    /// Times of each kernel.
    pub kernels: Vec<KernelSample>,
    /// Nanoseconds that the calibration took.
    pub took_ns: u64,
}

/// Times of one kernel on chunks of one size.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct KernelSample {
    /// Its name and version: [`KernelKey::name_and_version`].
    pub kernel: String,
    /// The dtype that its speed depends on.
    pub dtype: DType,
    /// The work of one launch.
    #[serde(skip)]
    pub work: Work,
    /// Nanoseconds of each launch.
    pub ns: Vec<u64>,
}

/// Measures a device that runs programs; `None` if it fails or does not answer.
#[must_use]
pub fn calibrate_gpu(device: &dyn Device) -> Option<GpuCalibration> {
    let began = Instant::now();
    let facts = device.spec().gpu?;
    let bench = Bench { device, began, compiling: Cell::new(Duration::ZERO) };
    let link = [bench.upload_rate()?, bench.download_rate()?];
    let mut kernels = Vec::new();
    let round_trip_ns = bench.round_trip(DType::F32)?;
    for &dtype in dtypes(facts.f64) {
        // The most important first: what is left out when time is over is predicted from the rates.
        let product = |k: u64| bytemuck::bytes_of(&ProductParams { k }).to_vec();
        let square = |n: usize| vec![n, n];
        for n in [256, 512] {
            kernels.extend(bench.kernel(
                Arc::new(Gemm::new()),
                product(n as u64),
                dtype,
                &[square(n), square(n)],
                &[square(n)],
            ));
        }
        kernels.extend(bench.kernel(Arc::new(Gemv), vec![], dtype, &[vec![2048, 2048], vec![2048]], &[vec![2048]]));
        let n = 512;
        kernels.extend(bench.kernel(Arc::new(Trsm::new()), vec![], dtype, &[square(n)], &[square(n)]));
        kernels.extend(bench.kernel(Arc::new(Syrk::new()), product(n as u64), dtype, &[square(n), square(n)], &[square(n)]));
        let potrf = bytemuck::bytes_of(&PotrfParams { row: 0 }).to_vec();
        kernels.extend(bench.kernel(Arc::new(Potrf::new()), potrf, dtype, &[], &[square(n)]));
        let params = bytemuck::bytes_of(&MandelbrotParams { iterations: 64 }).to_vec();
        kernels.extend(bench.kernel(Arc::new(Mandelbrot), params, dtype, &[vec![512], vec![512]], &[square(512)]));
        let sum = Arc::new(ReduceChunk::plain(Reduction::Sum, (&[0], &[1 << 20]), dtype));
        kernels.extend(bench.kernel(sum, vec![], dtype, &[vec![1 << 20]], &[vec![1]]));
    }
    let rates = rates(&kernels, round_trip_ns);
    Some(GpuCalibration { link, rates, round_trip_ns, kernels, took_ns: began.elapsed().as_nanos() as u64 })
}

/// What a device that runs programs does at best, and no less than the kernels of its calibration have reached; `None` if it fails, or has no
/// memory for that. Nothing is placed by it, so a device need not wait for it to join.
#[must_use]
pub fn gpu_peaks(device: &dyn Device, measured: &GpuCalibration) -> Option<Peaks> {
    let bench = Bench { device, began: Instant::now(), compiling: Cell::new(Duration::ZERO) };
    let peaks = bench.peaks(dtypes(device.spec().gpu?.f64))?;
    Some(peaks.not_below(&reached(&measured.kernels)))
}

fn dtypes(f64: bool) -> &'static [DType] {
    if f64 { &[DType::F32, DType::F64] } else { &[DType::F32] }
}

/// What the samples say of a kernel never measured; a guess where there are none.
fn rates(kernels: &[KernelSample], round_trip_ns: f64) -> Rates {
    let reached = reached(kernels);
    let or = |rate: f64, guess: f64| if rate > 0.0 { rate } else { guess };
    Rates {
        launch_ns: (round_trip_ns / 4.0).clamp(1e3, 1e6),
        f32_flops: or(reached.f32_flops, Rates::GPU.f32_flops),
        f64_flops: or(reached.f64_flops, Rates::GPU.f64_flops),
        bytes_per_s: or(reached.bytes_per_s, Rates::GPU.bytes_per_s),
    }
}

/// The best rates of the samples: products, and matrices times vectors; 0 where there are none.
fn reached(kernels: &[KernelSample]) -> Peaks {
    let best = |name: &str, dtype: DType, of: fn(&Work) -> f64| {
        let these = kernels.iter().filter(|s| s.kernel.starts_with(name) && s.dtype == dtype);
        let rate = |s: &KernelSample| s.ns.iter().min().map(|&ns| of(&s.work) * 1e9 / ns.max(1) as f64);
        these.filter_map(rate).fold(0.0, f64::max)
    };
    let flops = |dtype| best("gemm@", dtype, |w| w.flops);
    let bytes = |dtype| best("gemv@", dtype, |w| w.bytes);
    let bytes_per_s = bytes(DType::F32).max(bytes(DType::F64));
    Peaks { f32_flops: flops(DType::F32), f64_flops: flops(DType::F64), bytes_per_s }
}

struct Bench<'a> {
    device: &'a dyn Device,
    began: Instant,
    /// Time of first launches.
    compiling: Cell<Duration>,
}

impl Bench<'_> {
    fn remote(&self, layout: &Layout) -> Option<Data> {
        match self.device.allocate(layout.bytes().max(64)).ok()? {
            Memory::Remote(memory) => Some(Data::Remote(Remote { memory, layout: layout.clone().into() })),
            Memory::Host(_) => None,
        }
    }

    fn host(layout: &Layout) -> Option<Window> {
        let buffer = HostBuffer::pooled(layout.bytes() as usize).ok()?;
        Some(Window::new(buffer, 0, layout.clone()))
    }

    fn move_to(&self, from: Data, to: Data, upload: bool) -> Receiver<Report> {
        let (sender, receiver) = channel();
        // The receiver may have given up.
        let done = Box::new(move |report| drop(sender.send(report)));
        self.device.transfer(Move { from, to, upload, done });
        receiver
    }

    /// A chunk of ones, or, of a matrix, ones with `n` on the diagonal, on the device.
    fn chunk(&self, dtype: DType, shape: &[usize]) -> Option<Data> {
        let layout = Layout::contiguous(dtype, shape);
        let (window, remote) = (Self::host(&layout)?, self.remote(&layout)?);
        let diagonal = |i: usize| shape.len() == 2 && i.is_multiple_of(shape[1] + 1);
        let value = |i: usize| if diagonal(i) { shape[1] as f64 } else { 0.5 };
        crate::device::write(&window, value);
        ended(&self.move_to(Data::Host(window), remote.clone(), true))?;
        Some(remote)
    }

    /// A short and a long upload. An upload is reported when it is submitted, so several long ones are timed until a small download behind
    /// them has arrived, less what that takes alone.
    fn upload_rate(&self) -> Option<LinkRate> {
        let tiny = Layout::contiguous(DType::F32, &[16]);
        let (far, near) = (self.remote(&tiny)?, Self::host(&tiny)?);
        ended(&self.move_to(Data::Host(near.clone()), far.clone(), true))?;
        let behind = || {
            let began = Instant::now();
            ended(&self.move_to(far.clone(), Data::Host(near.clone()), false))?;
            Some(began.elapsed().as_nanos() as u64)
        };
        let empty = (0..3).map(|_| behind()).collect::<Option<Vec<_>>>()?.into_iter().min()?;
        let timed = |side: usize, count: usize| {
            let layout = Layout::contiguous(DType::F32, &[side, side]);
            let (from, to) = (Self::host(&layout)?, self.remote(&layout)?);
            let once = || {
                let began = Instant::now();
                let moves = (0..count).map(|_| self.move_to(Data::Host(from.clone()), to.clone(), true));
                moves.collect::<Vec<_>>().iter().map(ended).collect::<Option<Vec<_>>>()?;
                behind()?;
                Some((began.elapsed().as_nanos() as u64).saturating_sub(empty) / count as u64)
            };
            once()?; // staging buffers are made, pages touched
            Some((layout.bytes(), once()?.min(once()?)))
        };
        LinkRate::of(timed(SHORT, 1)?, timed(LONG_SIDE, IN_FLIGHT)?)
    }

    /// A short download, and several long ones at once.
    fn download_rate(&self) -> Option<LinkRate> {
        let timed = |side: usize, count: usize| {
            let layout = Layout::contiguous(DType::F32, &[side, side]);
            let from = self.remote(&layout)?;
            let to = (0..count).map(|_| Self::host(&layout)).collect::<Option<Vec<_>>>()?;
            let once = || {
                let began = Instant::now();
                let moves = to.iter().map(|to| self.move_to(from.clone(), Data::Host(to.clone()), false));
                moves.collect::<Vec<_>>().iter().map(ended).collect::<Option<Vec<_>>>()?;
                Some(began.elapsed().as_nanos() as u64 / count as u64)
            };
            once()?;
            Some((layout.bytes(), once()?.min(once()?)))
        };
        LinkRate::of(timed(SHORT, 1)?, timed(LONG_SIDE, IN_FLIGHT)?)
    }

    /// What multiply-adds in registers reach, and plain reads of more bytes than caches hold.
    fn peaks(&self, dtypes: &[DType]) -> Option<Peaks> {
        let flops = |dtype| if dtypes.contains(&dtype) { self.flops(dtype) } else { Some(0.0) };
        let (f32_flops, f64_flops) = (flops(DType::F32)?, flops(DType::F64)?);
        // Wide elements may be read faster where arithmetic is slow.
        let read = dtypes.iter().map(|&dtype| self.read_rate(dtype)).collect::<Option<Vec<_>>>()?;
        Some(Peaks { f32_flops, f64_flops, bytes_per_s: read.into_iter().fold(0.0, f64::max) })
    }

    /// Operations per second of launches that are made longer until they are long.
    fn flops(&self, dtype: DType) -> Option<f64> {
        let kernel: Arc<dyn Kernel> = Arc::new(Peak);
        let (factors, y) = (self.chunk(dtype, &[2])?, self.remote(&Layout::contiguous(dtype, &[PEAK_ELEMENTS]))?);
        let metas = [ChunkMeta { dtype, shape: &[2], data: None }, ChunkMeta { dtype, shape: &[PEAK_ELEMENTS], data: None }];
        let once = |steps: u32| {
            let params = bytemuck::bytes_of(&PeakParams { steps }).to_vec();
            let ns = self.launch(&kernel, &params, std::slice::from_ref(&factors), std::slice::from_ref(&y))?.elapsed_ns.max(1);
            Some((ns, kernel.work(&params, &metas).flops * 1e9 / ns as f64))
        };
        once(1)?; // its shader is compiled
        let (mut steps, mut best) = (1, 0.0f64);
        loop {
            // Twice, so that one that was held up is not taken for long.
            let runs = [once(steps)?, once(steps)?];
            best = runs.iter().map(|run| run.1).fold(best, f64::max);
            if runs.iter().all(|run| u128::from(run.0) >= LONG.as_nanos()) || steps >= 1 << 20 {
                let more = (0..PEAK_REPEATS).map(|_| Some(once(steps)?.1)).collect::<Option<Vec<_>>>()?;
                return Some(more.into_iter().fold(best, f64::max));
            }
            steps *= 4;
        }
    }

    /// Bytes per second of plain reads, as many one after the other as take long.
    fn read_rate(&self, dtype: DType) -> Option<f64> {
        let bytes = PEAK_BYTES.min(self.device.spec().gpu?.binding_bytes);
        let kernel: Arc<dyn Kernel> = Arc::new(ReadAll);
        // Nobody looks at what is in it.
        let x = self.remote(&Layout::contiguous(dtype, &[bytes as usize / dtype.bytes()]))?;
        let sum = self.remote(&Layout::contiguous(dtype, &[READERS]))?;
        let several = |count: u64| {
            let began = Instant::now();
            let all = (0..count).map(|_| self.start(&kernel, &[], std::slice::from_ref(&x), std::slice::from_ref(&sum)));
            all.collect::<Vec<_>>().iter().map(ended).collect::<Option<Vec<_>>>()?;
            Some((began.elapsed().as_nanos() as u64).max(1))
        };
        several(1)?; // its shader is compiled
        let count = (2 * LONG.as_nanos() as u64).div_ceil(several(1)?).clamp(1, 48);
        let ns = several(count)?.min(several(count)?);
        Some((count * bytes) as f64 * 1e9 / ns as f64)
    }

    fn launch(&self, kernel: &Arc<dyn Kernel>, params: &[u8], inputs: &[Data], outputs: &[Data]) -> Option<Report> {
        ended(&self.start(kernel, params, inputs, outputs))
    }

    fn start(&self, kernel: &Arc<dyn Kernel>, params: &[u8], inputs: &[Data], outputs: &[Data]) -> Receiver<Report> {
        let (sender, receiver) = channel();
        let outputs = outputs.iter().map(|to| Output { to: to.clone(), copy_in: None }).collect();
        let body = Body::Run { params: params.to_vec(), inputs: inputs.to_vec(), outputs, scratch_bytes: 0 };
        let done = Box::new(move |report| drop(sender.send(report)));
        self.device.launch(Launch { kernel: kernel.clone(), body, estimate_ns: 0, origin: None, done });
        receiver
    }

    /// Median wall time of a launch with almost nothing to do, from its start until its report.
    fn round_trip(&self, dtype: DType) -> Option<f64> {
        let kernel: Arc<dyn Kernel> = Arc::new(Gemv);
        let (inputs, outputs) = ([self.chunk(dtype, &[4, 4])?, self.chunk(dtype, &[4])?], [self.chunk(dtype, &[4])?]);
        self.launch(&kernel, &[], &inputs, &outputs)?;
        let mut all = Vec::new();
        for _ in 0..9 {
            let began = Instant::now();
            self.launch(&kernel, &[], &inputs, &outputs)?;
            all.push(began.elapsed().as_nanos() as f64);
        }
        all.sort_by(f64::total_cmp);
        Some(all[all.len() / 2])
    }

    /// Times of a kernel; `None` if time is over, or the device cannot run it. Outputs are updates where the kernel wants them.
    fn kernel(
        &self,
        kernel: Arc<dyn Kernel>,
        params: Vec<u8>,
        dtype: DType,
        inputs: &[Vec<usize>],
        outputs: &[Vec<usize>],
    ) -> Option<KernelSample> {
        let elapsed = self.began.elapsed();
        if elapsed.saturating_sub(self.compiling.get()) > BUDGET || elapsed > LONGEST {
            return None;
        }
        let result = |shape: &Vec<usize>| match &*kernel.name() {
            "mandelbrot" => (DType::I32, shape.clone()),
            "sum" => (DType::F64, shape.clone()),
            _ => (dtype, shape.clone()),
        };
        let all: Vec<(DType, Vec<usize>)> =
            inputs.iter().map(|shape| (dtype, shape.clone())).chain(outputs.iter().map(result)).collect();
        let metas: Vec<ChunkMeta<'_>> = all.iter().map(|(d, s)| ChunkMeta { dtype: *d, shape: s, data: None }).collect();
        let work = kernel.work(&params, &metas);
        let chunks: Vec<Data> = all.iter().map(|(d, s)| self.chunk(*d, s)).collect::<Option<_>>()?;
        let (inputs, outputs) = chunks.split_at(inputs.len());
        let first = Instant::now();
        self.launch(&kernel, &params, inputs, outputs)?;
        self.compiling.set(self.compiling.get() + first.elapsed());
        let mut ns = Vec::new();
        for _ in 0..REPEATS {
            ns.push(self.launch(&kernel, &params, inputs, outputs)?.elapsed_ns);
        }
        Some(KernelSample { kernel: KernelKey::new(&*kernel, 0).name_and_version().to_owned(), dtype, work, ns })
    }
}

/// The report of what ended well.
fn ended(receiver: &Receiver<Report>) -> Option<Report> {
    receiver.recv_timeout(PATIENCE).ok().filter(|report| report.outcome.is_ok())
}
