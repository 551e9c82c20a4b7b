//! Cost: the time of (task, device) and of (bytes, link).
//!
//! Owns: rates, measured history, their file. Must not know: schedules, who asks, what time it is. Invariant: an estimate
//! is a function of what was loaded and recorded before it, so the same events give the same schedule.
//!
//! # The rule
//!
//! An estimate is the first of these that knows enough:
//! 1. **Measured**: the median of at least 3 of the last 32 times of (kernel@version, dtype, device) in the task's size
//!    class, a quarter of an octave of `max(flops, 8 bytes)`; scaled with work inside the class, except for tiny tasks.
//! 2. **Fitted**: a line `start + slope size` through the medians of all classes, fitted in relative error.
//! 3. **Classes**: for a program, whose [`Structure`] is known, what programs of the same classes of operations took: arithmetic, transcendental functions,
//!    integers, reductions, memory. Times of a program are kept by its structure.
//! 4. **Prior**: the roofline `launch + max(flops / F, bytes / B)` of the device's [`Rates`], calibrated or built in.
//!
//! The first time of a kernel in a process is set aside (cold caches, compilation); it counts only for kernels that never
//! ran twice in one process, and not for programs. A time more than 2x off the median is an outlier; when outliers are as many as the others,
//! the others are forgotten, because the machine, the driver or the data have changed.
//!
//! A link is priced as a device that runs the one kernel `transfer`: the same history, the same file.
//!
//! # Use
//!
//! Names are resolved once, then everything is arithmetic on a handle:
//! ```
//! use chunkwise::cost::{CostModel, DeviceKey, Rates, Basis};
//! use chunkwise::{kernel::Work, shape::DType};
//! let (mut costs, warning) = CostModel::load(None);
//! let cpu = costs.device(&DeviceKey::cpu(2), Rates::CPU);
//! let gemm = costs.resolve(cpu, "gemm@1", DType::F64);
//! let work = Work { flops: 2e9, bytes: 24e6 };
//! assert_eq!(costs.estimate(gemm, work).basis, Basis::Prior);
//! for _ in 0..4 {
//!     costs.record(gemm, work, 50_000_000);
//! }
//! assert_eq!(costs.estimate(gemm, work).ns, 50_000_000);
//! # assert!(warning.is_none());
//! ```

mod calibrate;
mod calibrate_gpu;
mod calibrate_programs;
mod classes;
mod entries;
mod file;
mod fit;
mod gpu_bench;
mod gpu_cases;
mod gpu_exact;
#[cfg(test)]
mod gpu_tests;
mod gpu_variants;
mod history;
mod rates;
#[cfg(test)]
mod tests;

use std::fmt;
use std::path::{Path, PathBuf};

use crate::device::system;
use crate::kernel::{ExactFloats, OpMix, Structure, Work};
use crate::shape::DType;

pub(crate) use calibrate::calibration_bytes;
pub use calibrate::{Calibration, calibrate};
pub use calibrate_gpu::{GpuCalibration, KernelSample, calibrate_gpu, calibrate_gpu_within, gpu_peaks};
pub use calibrate_programs::calibrate_programs;
pub use entries::CostId;
pub use gpu_exact::test_exact;
pub use gpu_variants::{RefusedVariant, Tuned};
pub use history::ClassSummary;
pub use rates::{LinkRate, Peaks, Rates};

use classes::{CLASS_NAMES, ClassIds, ClassWork, class_dtype};
use entries::{CostEntries, Entry};
use file::CostFile;
use history::History;
use rates::whole_ns;

/// The name under which a device's costs are kept. It must change with whatever changes speed (model, threads, driver) and
/// be the same from run to run.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct DeviceKey(String);

impl DeviceKey {
    /// A key of that name, for example `gpu:NVIDIA H100:vulkan:550.90`.
    #[must_use]
    pub fn new(name: impl Into<String>) -> Self {
        Self(name.into())
    }

    /// This machine's CPU with a pool of so many threads: `cpu:AMD EPYC:2 threads:AVX2`.
    #[must_use]
    pub fn cpu(threads: usize) -> Self {
        let plural = if threads == 1 { "" } else { "s" };
        Self(format!("cpu:{}:{threads} thread{plural}:{}", system::cpu_model(), calibrate::simd_name()))
    }

    /// The link from one memory space to another, for example `link:host>gpu:NVIDIA H100:vulkan:550.90`.
    #[must_use]
    pub fn link(from: &str, to: &str) -> Self {
        Self(format!("link:{from}>{to}"))
    }
}

impl fmt::Display for DeviceKey {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(&self.0)
    }
}

/// A device or link of one [`CostModel`].
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct PricedId(u32);

/// What an estimate rests on, the best first.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Basis {
    /// The median of this many times of such tasks.
    Measured {
        /// How many.
        samples: u32,
    },
    /// A line through times of this kernel at other sizes.
    Fitted,
    /// What other programs have taken, of the same classes of operations.
    Classes,
    /// The device's roofline: nothing like it was seen yet.
    Prior,
}

/// How long a task is expected to take.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Estimate {
    /// Nanoseconds, at least 1.
    pub ns: u64,
    /// How this is known.
    pub basis: Basis,
}

/// How much faster than its peak a GPU may seem: peaks are measured, too.
const PLAUSIBLE: f64 = 2.0;

#[derive(Clone, Debug)]
struct PricedDevice {
    key: DeviceKey,
    rates: Rates,
    calibrated: bool,
    /// Whether the rates are to be written.
    fresh: bool,
    calibration: Option<Calibration>,
    peaks: Option<Peaks>,
    tuned: Option<Tuned>,
    /// Once a program was priced there: of dtypes of up to 4 bytes, and of 8.
    classes: [Option<ClassIds>; 2],
}

/// The name that a kernel is priced by: [`KernelKey::name_and_version`](crate::kernel::KernelKey::name_and_version), and of a program its structure.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct PricedAs<'a> {
    /// Name and version.
    pub kernel: &'a str,
    /// What tells apart programs of one name.
    pub structure: Option<&'a Structure>,
}

impl<'a> From<&'a str> for PricedAs<'a> {
    fn from(kernel: &'a str) -> Self {
        Self { kernel, structure: None }
    }
}

/// All that is known about speed. See the module's text for the rule.
#[derive(Clone, Debug)]
pub struct CostModel {
    /// Where it is kept; `None` when nothing is to be saved.
    path: Option<PathBuf>,
    stored: CostFile,
    devices: Vec<PricedDevice>,
    entries: CostEntries,
}

impl CostModel {
    /// The costs kept in `dir` (usually [`system::cache_dir`]) by this version of the crate; `None` keeps them in memory.
    ///
    /// Never fails. The text says, for the user, why earlier measurements are not used: a file that is corrupt or of
    /// another version is forgotten and later replaced; one that cannot be read is left alone and nothing is saved.
    #[must_use]
    pub fn load(dir: Option<&Path>) -> (Self, Option<String>) {
        let mut path = dir.map(file::path_in);
        let (stored, warning) = match path.as_deref().map(file::read) {
            None => (CostFile::default(), None),
            Some(Ok(stored)) => (stored, None),
            Some(Err(problem)) => {
                let warning = problem.to_string();
                if problem.keep_off() {
                    path = None;
                }
                (CostFile::default(), Some(warning))
            }
        };
        (Self { path, stored, devices: Vec::new(), entries: CostEntries::default() }, warning)
    }

    /// The handle of a device, whose rates are those measured earlier, else `fallback`.
    pub fn device(&mut self, key: &DeviceKey, fallback: Rates) -> PricedId {
        if let Some(at) = self.devices.iter().position(|device| device.key == *key) {
            return PricedId(at as u32);
        }
        let stored = self.stored.devices.get(&key.0);
        let rates = stored.and_then(|device| device.rates);
        self.devices.push(PricedDevice {
            key: key.clone(),
            rates: rates.unwrap_or(fallback),
            calibrated: rates.is_some(),
            fresh: false,
            calibration: stored.and_then(|device| device.calibration.clone()),
            peaks: stored.and_then(|device| device.peaks),
            tuned: stored.and_then(|device| device.tuned.clone()),
            classes: [None; 2],
        });
        PricedId((self.devices.len() - 1) as u32)
    }

    /// The handle of the link between two memory spaces: a device whose one kernel is `transfer`; price it with
    /// [`CostModel::transfer_ns`], teach it with [`CostModel::record_transfer`].
    pub fn link(&mut self, from: &str, to: &str, fallback: LinkRate) -> CostId {
        let link = self.device(&DeviceKey::link(from, to), fallback.into());
        self.entry(link, "transfer@1".to_owned(), DType::U8, (None, true))
    }

    /// The handle under which a kernel is priced on a device. Costs a search by name: resolve once.
    pub fn resolve<'a>(&mut self, device: PricedId, kernel: impl Into<PricedAs<'a>>, dtype: DType) -> CostId {
        let PricedAs { kernel, structure } = kernel.into();
        let Some(structure) = structure else { return self.entry(device, kernel.to_owned(), dtype, (None, false)) };
        let wide = usize::from(dtype.align() == 8);
        if self.devices[device.0 as usize].classes[wide].is_none() {
            let [memory, ops @ ..] =
                CLASS_NAMES.map(|name| self.entry(device, name.to_owned(), class_dtype(dtype), (None, true)));
            self.devices[device.0 as usize].classes[wide] = Some(ClassIds { memory, ops });
        }
        self.entry(device, format!("{kernel}~{:016x}", structure.hash), dtype, (Some(structure.mix), false))
    }

    fn entry(&mut self, device: PricedId, kernel: String, dtype: DType, (mix, is_lasting): (Option<OpMix>, bool)) -> CostId {
        let PricedDevice { key, rates, .. } = &self.devices[device.0 as usize];
        let stored = &self.stored;
        self.entries.resolve((device, kernel, dtype), is_lasting, |(device, kernel, dtype)| {
            let stored = stored.kernel(&key.0, &file::kernel_name(kernel, *dtype));
            let history = stored.map(|samples| History::from_samples(samples, rates.launch_ns)).unwrap_or_default();
            Entry { device: *device, kernel: kernel.clone(), dtype: *dtype, history, mix }
        })
    }

    /// The time that `work` is expected to take, by the rule above.
    #[must_use]
    pub fn estimate(&self, id: CostId, work: Work) -> Estimate {
        let rates = &self.devices[id.device().0 as usize].rates;
        let known = self.entries.get(id).and_then(|entry| {
            let otherwise = || match self.class_work(entry, work) {
                Some(of) => self.by_classes(&of),
                None => entry.history.estimate_cold(work),
            };
            entry.history.estimate(work).or_else(otherwise)
        });
        let dtype = self.entries.get(id).map_or(DType::F32, |entry| entry.dtype);
        known.unwrap_or_else(|| Estimate { ns: rates.prior_ns(dtype, work), basis: Basis::Prior })
    }

    /// The work of a program, by its classes; `None` of a kernel that is none.
    fn class_work<'a>(&'a self, entry: &'a Entry, work: Work) -> Option<ClassWork<'a>> {
        let device = &self.devices[entry.device.0 as usize];
        let ids = device.classes[usize::from(entry.dtype.align() == 8)].as_ref()?;
        Some(ClassWork { ids, mix: entry.mix.as_ref()?, dtype: entry.dtype, rates: &device.rates, work })
    }

    fn history(&self, id: CostId) -> Option<&History> {
        self.entries.get(id).map(|entry| &entry.history)
    }

    /// Learns that `work` took `measured_ns`, alone on its lane, without waiting. What a GPU cannot have done, by what its peaks are known to be, is not believed: launches
    /// that overlap are stamped with almost no time by some drivers.
    pub fn record(&mut self, id: CostId, work: Work, measured_ns: u64) {
        if self.is_too_fast(id, work, measured_ns) {
            return;
        }
        let rates = self.devices[id.device().0 as usize].rates;
        let Some(entry) = self.entries.get_mut(id) else { return };
        let is_first = !entry.history.is_warm();
        entry.history.record(work, measured_ns, rates.launch_ns);
        if is_first {
            return;
        }
        let of = self.entries.get(id).and_then(|entry| self.class_work(entry, work));
        let sample = of.and_then(|of| self.class_sample(&of, measured_ns));
        if let Some((class, part, ns)) = sample
            && let Some(class) = self.entries.get_mut(class)
        {
            class.history.record_warm(part, ns, 0.0);
        }
    }

    /// Whether it took less than half of what the operations alone take at a GPU's peak. Bytes say nothing: caches are faster than memory. Nor do integers of 8 bytes, for which
    /// no peak is measured.
    fn is_too_fast(&self, id: CostId, work: Work, measured_ns: u64) -> bool {
        let Some(Entry { device, dtype, .. }) = self.entries.get(id) else { return false };
        let peaks = self.devices[device.0 as usize].peaks.filter(|_| dtype.bytes() <= 4 || *dtype == DType::F64);
        let bound_s = peaks.and_then(|peaks| peaks.bound_s(*dtype, work.flops, 0.0));
        bound_s.is_some_and(|bound_s| (measured_ns as f64) < bound_s * 1e9 / PLAUSIBLE)
    }

    /// Nanoseconds that `bytes` are expected to take over a link.
    #[must_use]
    pub fn transfer_ns(&self, link: CostId, bytes: u64) -> u64 {
        self.estimate(link, Work { flops: 0.0, bytes: bytes as f64 }).ns
    }

    /// Learns that `bytes` took `measured_ns` over a link, without waiting for others.
    pub fn record_transfer(&mut self, link: CostId, bytes: u64, measured_ns: u64) {
        self.record(link, Work { flops: 0.0, bytes: bytes as f64 }, measured_ns);
    }

    /// Learns what a calibration has measured of a kernel.
    pub fn record_sample(&mut self, device: PricedId, sample: &KernelSample) {
        let name = PricedAs { kernel: &sample.kernel, structure: sample.structure.as_ref() };
        let id = self.resolve(device, name, sample.dtype);
        sample.ns.iter().for_each(|&ns| self.record(id, sample.work, ns));
    }

    /// Whether a device's rates were measured, now or in an earlier run.
    #[must_use]
    pub fn calibrated(&self, device: PricedId) -> bool {
        self.devices[device.0 as usize].calibrated
    }

    /// A device's rates: measured, or the fallback.
    #[must_use]
    pub fn rates(&self, device: PricedId) -> Rates {
        self.devices[device.0 as usize].rates
    }

    /// What was measured on a CPU, now or in an earlier run.
    #[must_use]
    pub fn calibration(&self, device: PricedId) -> Option<&Calibration> {
        self.devices[device.0 as usize].calibration.as_ref()
    }

    /// The device of a handle; of a link's handle, the link.
    #[must_use]
    pub fn device_of(&self, id: CostId) -> PricedId {
        id.device()
    }

    /// What a device does at best: measured of a GPU, now or in an earlier run; of a CPU, what [`CostModel::calibration`] has.
    #[must_use]
    pub fn peaks(&self, device: PricedId) -> Option<Peaks> {
        let device = &self.devices[device.0 as usize];
        device.peaks.or_else(|| device.calibration.as_ref().map(Calibration::peaks))
    }

    /// Takes what a GPU does at best. Peaks that make no sense are ignored.
    pub fn set_peaks(&mut self, device: PricedId, peaks: Peaks) {
        if peaks.usable() {
            let device = &mut self.devices[device.0 as usize];
            (device.peaks, device.fresh) = (Some(peaks), true);
        }
    }

    /// How a GPU runs best, and what must not be tried there: found out now or in an earlier run.
    #[must_use]
    pub fn tuned(&self, device: PricedId) -> Option<&Tuned> {
        self.devices[device.0 as usize].tuned.as_ref()
    }

    /// Takes what was found out of a GPU's variants, once it is calibrated. What makes no sense is ignored.
    pub fn set_tuned(&mut self, device: PricedId, tuned: Tuned) {
        if tuned.is_plausible() {
            let device = &mut self.devices[device.0 as usize];
            (device.tuned, device.fresh) = (Some(tuned), true);
        }
    }

    /// Takes what was found out of a GPU's arithmetic; kept in the file once the GPU is calibrated.
    pub fn set_exact(&mut self, device: PricedId, exact: ExactFloats) {
        let device = &mut self.devices[device.0 as usize];
        device.tuned.get_or_insert_default().exact = exact;
        device.fresh |= device.calibrated;
    }

    /// Takes rates that were measured, to four digits: `device` is calibrated from now on. Rates that make no sense are ignored.
    pub fn set_rates(&mut self, device: PricedId, rates: Rates) {
        if rates.usable() {
            let device = &mut self.devices[device.0 as usize];
            (device.rates, device.calibrated, device.fresh) = (rates.rounded(), true, true);
        }
    }

    /// Takes the calibration of a CPU: [`CostModel::set_rates`], and kept beside them for reports. One whose memory may have been caches says
    /// nothing for good: it is what [`CostModel::calibration`] gives if there is no other, and the rates stay.
    pub fn set_calibration(&mut self, device: PricedId, calibration: Calibration) {
        if calibration.buffer_bytes >= calibration_bytes(calibration.threads) {
            self.set_rates(device, calibration.rates());
            self.devices[device.0 as usize].calibration = Some(calibration);
        } else {
            self.devices[device.0 as usize].calibration.get_or_insert(calibration);
        }
    }

    /// What is known about a kernel, by rising size: for reports.
    pub fn summary(&self, id: CostId) -> impl Iterator<Item = ClassSummary> {
        self.history(id).into_iter().flat_map(History::summary)
    }

    /// Writes what was learned since the last time (milliseconds; call it when nobody waits), added to what other processes have written meanwhile; whole or not at
    /// all. If that is impossible, the text says why, once, and nothing is written from then on.
    pub fn save(&mut self) -> Option<String> {
        let warning = self.news()?.write().err()?;
        self.stop_saving();
        Some(warning)
    }

    /// What was learned since the last time, to be written while the model goes on; `None` if nothing is to be written.
    #[must_use]
    pub fn news(&mut self) -> Option<News> {
        let path = self.path.clone()?;
        let mut news = CostFile::default();
        for device in self.devices.iter_mut().filter(|device| device.fresh) {
            let stored = news.devices.entry(device.key.0.clone()).or_default();
            (stored.rates, stored.calibration, stored.peaks) = (Some(device.rates), device.calibration.clone(), device.peaks);
            stored.tuned = device.tuned.clone();
            device.fresh = false;
        }
        for entry in self.entries.all_mut() {
            let mut samples = entry.history.samples(true);
            if entry.mix.is_some() {
                samples.cold.clear(); // what programs take at first is nobody's price
            }
            if samples.classes.is_empty() && samples.cold.is_empty() {
                continue;
            }
            let stored = news.devices.entry(self.devices[entry.device.0 as usize].key.0.clone()).or_default();
            let name = file::kernel_name(&entry.kernel, entry.dtype);
            stored.kernels.insert(name, file::KernelEntry { samples, run: 0 });
            entry.history.mark_saved();
        }
        (!news.devices.is_empty()).then_some(News { path, stored: news })
    }

    /// Nothing is written from now on.
    pub fn stop_saving(&mut self) {
        self.path = None;
    }
}

/// Measurements on their way to the file.
#[derive(Debug)]
pub struct News {
    path: PathBuf,
    stored: CostFile,
}

impl News {
    /// Adds them to the file; whole or not at all.
    ///
    /// # Errors
    /// Why that is impossible, for the user.
    pub fn write(self) -> Result<(), String> {
        file::merge(&self.path, self.stored).map_err(|problem| problem.to_string())
    }
}
