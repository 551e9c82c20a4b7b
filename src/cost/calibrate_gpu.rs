//! Calibration of a GPU: what launches and moves take there, as its device really does them.
//!
//! Owns: [`calibrate_gpu`], [`GpuCalibration`] and [`gpu_peaks`]. Must not know: GPU APIs; it drives any [`Device`] that runs programs. Invariant: a calibration ends
//! within about half a second of measuring (compilers and slow drivers apart), and gives up a device that does not answer.

use std::sync::Arc;
use std::time::{Duration, Instant};

use serde::{Deserialize, Serialize};

use super::gpu_bench::{Bench, Trouble, ended, fresh};
use super::gpu_cases::{Case, TimedKernel};
use super::gpu_exact::test_exact;
use super::gpu_variants::{RefusedVariant, Tuned, choose};
use super::rates::{LinkRate, Peaks, Rates, rounded};
use crate::device::{Data, Device};
use crate::kernel::gemv::Gemv;
use crate::kernel::peak::{Peak, PeakParams, ReadAll};
use crate::kernel::{Kernel, Structure, Work};
use crate::shape::{ChunkMeta, DType, Layout};

/// After so much measuring, no further measurement starts; first launches, for which shaders are compiled, do not count.
pub(super) const BUDGET: Duration = Duration::from_millis(450);
/// What of the time that is left when the links are measured goes to kernels as they are; the rest is for trying out their variants.
const PLAIN: f64 = 0.6;
/// Longest launch that is measured, by prediction.
const LONGEST_NS: f64 = 20e6;
/// A larger size is measured if that takes at most this part of the time that is left: others want to be measured, too.
const SHARE: f64 = 8.0;
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
    /// Times of each kernel, by the variants that were chosen.
    pub kernels: Vec<KernelSample>,
    /// How it runs best, and what must not be tried there.
    pub tuned: Tuned,
    /// Whether a variant took the device along: what is here was measured before.
    pub lost: bool,
    /// Nanoseconds that the calibration took.
    pub took_ns: u64,
}

/// Times of one kernel on chunks of one size.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct KernelSample {
    /// Its name and version: [`KernelKey::name_and_version`](crate::kernel::KernelKey::name_and_version).
    pub kernel: String,
    /// Of a program, what tells it from others of its name.
    #[serde(skip)]
    pub structure: Option<Structure>,
    /// The dtype that its speed depends on.
    pub dtype: DType,
    /// The work of one launch.
    #[serde(skip)]
    pub work: Work,
    /// Nanoseconds of each launch.
    pub ns: Vec<u64>,
}

/// Times of a routine at one size.
pub(super) struct Sampled {
    pub(super) routine: TimedKernel,
    pub(super) dtype: DType,
    pub(super) size: usize,
    /// Of all launches, measured or not.
    pub(super) least_ns: u64,
    work: Work,
    units: f64,
    ns: Vec<u64>,
}

impl Sampled {
    /// A routine, by a variant, at growing sizes: as long as launches stay short, and there is time. At the first size always, where all else is predicted by it ([`TimedKernel::is_needed`]).
    ///
    /// # Errors
    /// [`Trouble::Gone`].
    pub(super) fn of(
        bench: &Bench<'_>,
        routine: TimedKernel,
        dtype: DType,
        variant: u8,
        limit: Duration,
    ) -> Result<Vec<Self>, Trouble> {
        let mut all: Vec<Self> = Vec::new();
        for &size in routine.sizes() {
            let case = Case::new(routine, dtype, size, variant);
            let needed = routine.is_needed() && all.is_empty();
            let expected = all.last().map_or(0.0, |last| last.least_ns as f64 * case.units() / last.units);
            let limit = if needed { Duration::MAX } else { limit };
            if expected > LONGEST_NS || !bench.has_time(limit, SHARE * REPEATS as f64 * expected) {
                break;
            }
            match bench.times(&case, REPEATS) {
                Ok(times) => {
                    let (least_ns, work, units) = (times.least_ns, case.work, case.units());
                    all.push(Self { routine, dtype, size, least_ns, work, units, ns: times.ns });
                }
                Err(Trouble::Gone) => return Err(Trouble::Gone),
                // It cannot be run there, or not at this size.
                Err(_) => break,
            }
        }
        Ok(all)
    }

    fn sample(self) -> KernelSample {
        let structure = self.routine.structure(self.dtype);
        KernelSample { kernel: self.routine.name(self.dtype), structure, dtype: self.dtype, work: self.work, ns: self.ns }
    }
}

/// Measures a device that runs programs; `None` if it fails or does not answer. Variants that were `refused` before are not tried.
#[must_use]
pub fn calibrate_gpu(device: &dyn Device, refused: &[RefusedVariant]) -> Option<GpuCalibration> {
    calibrate_gpu_within(BUDGET, device, refused)
}

/// [`calibrate_gpu`], in so much time: on a slow or busy machine half a second may not be enough to try all variants of all kernels.
#[must_use]
pub fn calibrate_gpu_within(budget: Duration, device: &dyn Device, refused: &[RefusedVariant]) -> Option<GpuCalibration> {
    let dtypes = dtypes(device.spec().gpu?.f64);
    let bench = Bench::new(device, budget);
    let link = [bench.upload_rate().ok()?, bench.download_rate().ok()?];
    let round_trip_ns = bench.round_trip(DType::F32).ok()?;
    let plain = bench.spent() + budget.saturating_sub(bench.spent()).mul_f64(PLAIN);
    let mut sampled = Vec::new();
    for &dtype in dtypes {
        for routine in TimedKernel::ALL {
            sampled.extend(Sampled::of(&bench, routine, dtype, 0, plain).ok()?);
        }
    }
    let mut tuned = Tuned { refused: refused.to_vec(), exact: test_exact(device), ..Tuned::default() };
    let lost = choose(&bench, dtypes, &mut sampled, &mut tuned).is_err();
    tuned.tuning.units_per_ns = [DType::F32, DType::F64].map(|dtype| expected_rate(&sampled, dtype));
    let kernels: Vec<_> = sampled.into_iter().map(Sampled::sample).filter(|sample| !sample.ns.is_empty()).collect();
    let rates = rates(&kernels, round_trip_ns);
    let took_ns = bench.began.elapsed().as_nanos() as u64;
    Some(GpuCalibration { link, rates, round_trip_ns, kernels, tuned, lost, took_ns })
}

/// Units a ns of a program of which nothing is known: those of the slowest of what fills a GPU, at its largest size; 0 if nothing was measured.
fn expected_rate(sampled: &[Sampled], dtype: DType) -> f64 {
    let rate = |routine| {
        let own = sampled.iter().filter(|s| (s.routine, s.dtype) == (routine, dtype));
        own.max_by_key(|s| s.size).map(|s| s.units / s.least_ns as f64)
    };
    let all = [TimedKernel::Gemm, TimedKernel::Gemv, TimedKernel::Sum].into_iter().filter_map(rate);
    rounded(all.reduce(f64::min).unwrap_or(0.0))
}

/// What a device that runs programs does at best, and no less than the kernels of its calibration have reached; `None` if it fails, or has no
/// memory for that. Nothing is placed by it, so a device need not wait for it to join.
#[must_use]
pub fn gpu_peaks(device: &dyn Device, measured: &GpuCalibration) -> Option<Peaks> {
    let peaks = Bench::new(device, BUDGET).peaks(dtypes(device.spec().gpu?.f64)).ok()?;
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

/// The best rate of products, and that of the largest matrix times a vector, which caches do not hold; 0 where there are none.
fn reached(kernels: &[KernelSample]) -> Peaks {
    let rates = |name: &'static str, dtype: DType, of: fn(&Work) -> f64| {
        let these = kernels.iter().filter(move |s| s.kernel.starts_with(name) && s.dtype == dtype);
        these.filter_map(move |s| s.ns.iter().min().map(|&ns| (of(&s.work), of(&s.work) * 1e9 / ns.max(1) as f64)))
    };
    let flops = |dtype| rates("gemm@", dtype, |w| w.flops).map(|(_, rate)| rate).fold(0.0, f64::max);
    let largest = |a: &(f64, f64), b: &(f64, f64)| a.0.total_cmp(&b.0);
    let bytes = |dtype| rates("gemv@", dtype, |w| w.bytes).max_by(largest).map_or(0.0, |(_, rate)| rate);
    let bytes_per_s = bytes(DType::F32).max(bytes(DType::F64));
    Peaks { f32_flops: flops(DType::F32), f64_flops: flops(DType::F64), bytes_per_s }
}

impl Bench<'_> {
    /// A short and a long upload. An upload is reported when it is submitted, so several long ones are timed until a small download behind
    /// them has arrived, less what that takes alone.
    fn upload_rate(&self) -> Result<LinkRate, Trouble> {
        let tiny = Layout::contiguous(DType::F32, &[16]);
        let (far, near) = (self.remote(&tiny)?, Self::host(&tiny)?);
        ended(&self.move_to(Data::Host(near.clone()), far.clone(), true))?;
        let behind = || {
            let began = Instant::now();
            ended(&self.move_to(far.clone(), Data::Host(near.clone()), false))?;
            Ok::<_, Trouble>(began.elapsed().as_nanos() as u64)
        };
        let empty = (0..3).map(|_| behind()).collect::<Result<Vec<_>, _>>()?.into_iter().min().unwrap_or(0);
        let timed = |side: usize, count: usize| {
            let layout = Layout::contiguous(DType::F32, &[side, side]);
            let (from, to) = (Self::host(&layout)?, self.remote(&layout)?);
            let once = || {
                let began = Instant::now();
                let moves = (0..count).map(|_| self.move_to(Data::Host(from.clone()), to.clone(), true));
                moves.collect::<Vec<_>>().iter().map(ended).collect::<Result<Vec<_>, _>>()?;
                behind()?;
                Ok::<_, Trouble>((began.elapsed().as_nanos() as u64).saturating_sub(empty) / count as u64)
            };
            once()?; // staging buffers are made, pages touched
            Ok::<_, Trouble>((layout.bytes(), once()?.min(once()?)))
        };
        LinkRate::of(timed(SHORT, 1)?, timed(LONG_SIDE, IN_FLIGHT)?).ok_or(Trouble::Failed)
    }

    /// A short download, and several long ones at once.
    fn download_rate(&self) -> Result<LinkRate, Trouble> {
        let timed = |side: usize, count: usize| {
            let layout = Layout::contiguous(DType::F32, &[side, side]);
            let from = self.remote(&layout)?;
            let to = (0..count).map(|_| Self::host(&layout)).collect::<Result<Vec<_>, _>>()?;
            let once = || {
                let began = Instant::now();
                let moves = to.iter().map(|to| self.move_to(from.clone(), Data::Host(to.clone()), false));
                moves.collect::<Vec<_>>().iter().map(ended).collect::<Result<Vec<_>, _>>()?;
                Ok::<_, Trouble>(began.elapsed().as_nanos() as u64 / count as u64)
            };
            once()?;
            Ok::<_, Trouble>((layout.bytes(), once()?.min(once()?)))
        };
        LinkRate::of(timed(SHORT, 1)?, timed(LONG_SIDE, IN_FLIGHT)?).ok_or(Trouble::Failed)
    }

    /// What multiply-adds in registers reach, and plain reads of more bytes than caches hold.
    fn peaks(&self, dtypes: &[DType]) -> Result<Peaks, Trouble> {
        let flops = |dtype| if dtypes.contains(&dtype) { self.flops(dtype) } else { Ok(0.0) };
        let (f32_flops, f64_flops) = (flops(DType::F32)?, flops(DType::F64)?);
        // Wide elements may be read faster where arithmetic is slow.
        let read = dtypes.iter().map(|&dtype| self.read_rate(dtype)).collect::<Result<Vec<_>, _>>()?;
        Ok(Peaks { f32_flops, f64_flops, bytes_per_s: read.into_iter().fold(0.0, f64::max) })
    }

    /// Operations per second of launches that are made longer until they are long.
    fn flops(&self, dtype: DType) -> Result<f64, Trouble> {
        let kernel: Arc<dyn Kernel> = Arc::new(Peak);
        let (factors, y) = (self.chunk(dtype, &[2], |_| 0.5)?, self.remote(&Layout::contiguous(dtype, &[PEAK_ELEMENTS]))?);
        let metas = [ChunkMeta::new(dtype, &[2]), ChunkMeta::new(dtype, &[PEAK_ELEMENTS])];
        let once = |steps: u32| {
            let params = bytemuck::bytes_of(&PeakParams { steps }).to_vec();
            let ns = self.launch(&kernel, &params, (std::slice::from_ref(&factors), &[fresh(&y)]))?.elapsed_ns.max(1);
            Ok::<_, Trouble>((ns, kernel.work(&params, &metas).flops * 1e9 / ns as f64))
        };
        once(1)?; // its shader is compiled
        let (mut steps, mut best) = (1, 0.0f64);
        loop {
            // Twice, so that one that was held up is not taken for long.
            let runs = [once(steps)?, once(steps)?];
            best = runs.iter().map(|run| run.1).fold(best, f64::max);
            if runs.iter().all(|run| u128::from(run.0) >= LONG.as_nanos()) || steps >= 1 << 20 {
                let more = (0..PEAK_REPEATS).map(|_| Ok::<_, Trouble>(once(steps)?.1)).collect::<Result<Vec<_>, _>>()?;
                return Ok(more.into_iter().fold(best, f64::max));
            }
            steps *= 4;
        }
    }

    /// Bytes per second of plain reads, as many one after the other as take long.
    fn read_rate(&self, dtype: DType) -> Result<f64, Trouble> {
        let bytes = PEAK_BYTES.min(self.device.spec().gpu.ok_or(Trouble::Failed)?.binding_bytes);
        let kernel: Arc<dyn Kernel> = Arc::new(ReadAll);
        // Nobody looks at what is in it.
        let x = self.remote(&Layout::contiguous(dtype, &[bytes as usize / dtype.bytes()]))?;
        let sum = self.remote(&Layout::contiguous(dtype, &[READERS]))?;
        let several = |count: u64| {
            let began = Instant::now();
            let all = (0..count).map(|_| self.start(&kernel, &[], (std::slice::from_ref(&x), &[fresh(&sum)])));
            all.collect::<Vec<_>>().iter().map(ended).collect::<Result<Vec<_>, _>>()?;
            Ok::<_, Trouble>((began.elapsed().as_nanos() as u64).max(1))
        };
        several(1)?; // its shader is compiled
        let count = (2 * LONG.as_nanos() as u64).div_ceil(several(1)?).clamp(1, 48);
        let ns = several(count)?.min(several(count)?);
        Ok((count * bytes) as f64 * 1e9 / ns as f64)
    }

    /// Median wall time of a launch with almost nothing to do, from its start until its report.
    fn round_trip(&self, dtype: DType) -> Result<f64, Trouble> {
        let kernel: Arc<dyn Kernel> = Arc::new(Gemv);
        let chunk = |shape: &[usize]| self.chunk(dtype, shape, |_| 0.5);
        let (inputs, output) = ([chunk(&[4, 4])?, chunk(&[4])?], [fresh(&chunk(&[4])?)]);
        self.launch(&kernel, &[], (&inputs, &output))?;
        let mut all = Vec::new();
        for _ in 0..9 {
            let began = Instant::now();
            self.launch(&kernel, &[], (&inputs, &output))?;
            all.push(began.elapsed().as_nanos() as f64);
        }
        all.sort_by(f64::total_cmp);
        Ok(all[all.len() / 2])
    }
}
