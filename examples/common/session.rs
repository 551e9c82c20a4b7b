//! Between the flags and the library: a session from flags, a run with a progress bar, a report from a run.
//!
//! Owns: [`open_session`], [`finish`], [`store`], [`Report::of_run`]. Must not know: workloads. Invariant: what a report says of a run comes from the run's own
//! record.

use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, SystemTime};

use chunkwise::device::system;
use chunkwise::ext::{ChunkSink, DeviceId, DeviceKind, DeviceSpec};
use chunkwise::{Array, Element, Error, Explanation, Pending, Placement, Remedy, Result, RunReport, Session};
use ndarray::ArrayD;

use super::{CommonArgs, Named, Outcome, Placed, Progress, Report, Waiting, can_write, distinct, line, seconds, write_whole};

/// What the system says of itself, for programs that are else written as a user would.
pub use chunkwise::device::system::{disk_free, peak_rss_bytes, threads};

/// What a step of a program gives: `?` takes the library's errors and all others.
pub type Fallible<T> = std::result::Result<T, Box<dyn std::error::Error + Send + Sync>>;

/// The session that the flags ask for, if none of the files that they name (`--trace`, `--record` and `files`) is in the way of another.
pub fn open_session(args: &CommonArgs, files: Vec<Named>) -> Fallible<Session> {
    let mut files = files;
    files.push(Named::written_path("--trace", args.trace.as_ref()));
    files.push(Named::written_path("--record", args.record.as_ref()));
    distinct(&files)?;
    Ok(session_of(args)?)
}

/// The session that the flags ask for, of a program that names no files.
pub fn session_of(args: &CommonArgs) -> Result<Session> {
    if let Some(path) = &args.trace {
        can_write(path)?; // said now, not after the work
    }
    let mut builder =
        Session::builder().placement(args.device).seed(args.seed).allow_software(args.allow_software).strict(args.strict);
    if let Some(threads) = args.threads {
        builder = builder.threads(threads);
    }
    if let Some(limit) = args.memory_limit {
        builder = builder.memory_limit(limit);
    }
    if let Some(limit) = args.gpu_memory {
        builder = builder.gpu_memory_limit(limit);
    }
    if let Some(path) = &args.record {
        builder = builder.record(path);
        let recorded = Recorded { path: path.clone(), before: stamp(path), says: !args.json && !args.quiet };
        *RECORDED.lock().unwrap_or_else(PoisonError::into_inner) = Some(recorded);
    }
    let _waiting = (args.device != Placement::Cpu).then(|| Waiting::start(args, "looks for GPUs, and measures new ones"));
    let session = builder.build()?;
    if args.explain && args.device != Placement::Cpu {
        session.discover(); // small work would not look for them, and not show what they would take
    }
    Ok(session)
}

/// A record that is asked for.
struct Recorded {
    path: PathBuf,
    /// What was there before.
    before: Option<Stamp>,
    /// Whether to say that it is written.
    says: bool,
}

static RECORDED: Mutex<Option<Recorded>> = Mutex::new(None);

/// Tells a file from the one that replaces it, which is written beside it.
type Stamp = (SystemTime, u64, [u64; 2]);

fn stamp(path: &Path) -> Option<Stamp> {
    let about = path.metadata().ok()?;
    #[cfg(unix)]
    let number = [std::os::unix::fs::MetadataExt::dev(&about), std::os::unix::fs::MetadataExt::ino(&about)];
    #[cfg(not(unix))]
    let number = [0; 2];
    Some((about.modified().ok()?, about.len(), number))
}

/// Says that the record is written, which it is when the session has gone. Errs if it was asked for and is not.
pub(super) fn end_record() -> Outcome {
    match RECORDED.lock().unwrap_or_else(PoisonError::into_inner).take() {
        Some(Recorded { path, before, .. }) if [before, None].contains(&stamp(&path)) => {
            Err(format!("no record was written to {}", path.display()).into())
        }
        Some(Recorded { path, says: true, .. }) => line(format_args!("wrote {}", path.display())),
        _ => Ok(()),
    }
}

/// Whether work on `held_bytes` of arrays in memory fits, which `plan` plans with [`zeros`] in their place.
///
/// # Errors
/// What `plan` says, except that memory is short.
pub fn fits(session: &Session, held_bytes: u64, plan: impl FnOnce() -> Result<Explanation>) -> Result<bool> {
    if held_bytes > session.memory_limit().min(system::available_memory()) {
        return Ok(false);
    }
    match plan() {
        Ok(_) => Ok(true),
        Err(Error::OutOfMemory { .. }) => Ok(false),
        Err(other) => Err(other),
    }
}

/// Errs if the system has not this much left: where memory is not the library's, a refusal is an abort.
pub fn room(what: &str, requested_bytes: u64, remedy: &'static str) -> Result<()> {
    let available_bytes = system::available_memory();
    if requested_bytes <= available_bytes {
        return Ok(());
    }
    let (what, remedies) = (what.to_owned(), vec![Remedy::Other(remedy.into())]);
    Err(Error::OutOfMemory { what, requested_bytes, available_bytes, space: "host".into(), remedies })
}

/// Zeros to plan with: memory that the system does not give before it is touched.
pub fn zeros<T: Element>(shape: &[usize], session: &Session) -> Array<T> {
    Array::from(ArrayD::from_elem(shape, T::default())).in_session(session)
}

/// What making an input beforehand took.
pub fn made(what: &str, took: Duration) -> String {
    format!("made {what} in {}, not counted in the total", seconds(took.as_secs_f64()))
}

/// Prints the explanation, if it was asked for: on stdout, or on stderr beside JSON.
pub fn explain(args: &CommonArgs, explain: impl FnOnce() -> Result<Explanation>) -> Outcome {
    if args.explain { tell(args, explain()?) } else { Ok(()) }
}

/// Prints what came of a run, predicted beside measured, if an explanation was asked for.
pub fn explain_run(args: &CommonArgs, run: &RunReport) -> Outcome {
    if args.explain { tell(args, run.comparison()) } else { Ok(()) }
}

fn tell(args: &CommonArgs, text: impl std::fmt::Display) -> Outcome {
    if args.json {
        eprintln!("{text}");
        return Ok(());
    }
    line(text)
}

/// Computes an array with a progress bar, after its explanation, and writes the timeline.
pub fn finish<T: Element>(args: &CommonArgs, label: &str, array: &Array<T>) -> Fallible<(ArrayD<T>, RunReport)> {
    explain(args, || array.explain())?;
    let (values, run) = compute(args, label, array)?;
    explain_run(args, &run)?;
    write_trace(args, &run)?;
    Ok((values, run))
}

/// Computes an array with a progress bar.
pub fn compute<T: Element>(args: &CommonArgs, label: &str, array: &Array<T>) -> Result<(ArrayD<T>, RunReport)> {
    let pending = array.start()?;
    show(args, label, &array.session(), &pending);
    pending.wait()
}

/// Computes an array into a sink, chunk by chunk, after its explanation and with a progress bar, and writes the timeline.
pub fn store<T: Element>(args: &CommonArgs, label: &str, array: &Array<T>, sink: &Arc<dyn ChunkSink>) -> Fallible<RunReport> {
    explain(args, || array.explain_store(sink))?;
    let progress = Progress::start(args, label);
    let run = array.store_watched(sink, |done, total| progress.set(done as u64, total as u64))?;
    drop(progress);
    explain_run(args, &run)?;
    write_trace(args, &run)?;
    Ok(run)
}

/// What launches wait for, if it is a compiler.
fn compiling(session: &Session) -> String {
    let gpus = session.devices().into_iter().enumerate().filter(|(_, spec)| spec.kind == DeviceKind::Gpu);
    let each =
        gpus.map(|(at, spec)| (spec.name, session.counters(DeviceId(at as u16)).compiling)).filter(|(_, count)| *count > 0);
    let texts: Vec<String> =
        each.map(|(name, count)| format!("{name} compiles {count} shader{}", if count == 1 { "" } else { "s" })).collect();
    texts.join(", ")
}

fn show<T: Element>(args: &CommonArgs, label: &str, session: &Session, pending: &Pending<T>) {
    let progress = Progress::start(args, label);
    while !pending.wait_timeout(Duration::from_millis(100)) {
        let (done, total) = pending.progress();
        progress.set(done as u64, total as u64);
        progress.say(&compiling(session));
    }
}

/// What a device is, in a few words.
fn detail(spec: &DeviceSpec, simd: &str) -> String {
    match spec.kind {
        DeviceKind::Cpu => format!("{} thread{}, {simd}", spec.workers, if spec.workers == 1 { "" } else { "s" }),
        DeviceKind::Gpu => spec.model.split("; ").next().unwrap_or_default().to_owned(),
        DeviceKind::Io => format!("{} threads", spec.workers),
    }
}

/// GPUs that did nothing, and why; only where they could have been used.
fn idle(device: &str, session: &Session, run: &RunReport) -> Vec<Placed> {
    if device == Placement::Cpu.to_string() {
        return Vec::new();
    }
    let line = |device: &str, detail: String| Placed { device: device.to_owned(), detail, ..Placed::default() };
    let worked = |name: &str| run.placement().iter().any(|p| p.0 == name);
    let gpus: Vec<DeviceSpec> = session.devices().into_iter().filter(|d| d.kind == DeviceKind::Gpu).collect();
    let unused = gpus.iter().filter(|gpu| !worked(&gpu.name));
    let otherwise = || match device {
        "auto" => "the CPU is predicted to be sooner (--explain says why)".to_owned(),
        "gpu" => "another is predicted to be sooner".to_owned(),
        index => format!("only device {index} was asked for"),
    };
    let why = |gpu: &DeviceSpec| {
        let reason = run.idle.iter().find(|(name, _)| *name == gpu.name).map(|i| i.1.clone());
        let name = gpu.model.split("; ").next().unwrap_or_default();
        format!("{name}: idle, {}", reason.unwrap_or_else(otherwise))
    };
    let mut lines: Vec<Placed> = unused.map(|gpu| line(&gpu.name, why(gpu))).collect();
    if gpus.is_empty() {
        lines.push(line("gpu", session.why_no_gpu()));
    }
    lines
}

/// Writes the timeline of a run, if it was asked for.
pub fn write_trace(args: &CommonArgs, run: &RunReport) -> Result<()> {
    match &args.trace {
        Some(path) => write_whole(path, |out| run.write_timeline(out)),
        None => Ok(()),
    }
}

impl Report {
    /// Takes over what a run measured. `work` is how much was done, in units of `rate_unit` (without the `/s`).
    pub fn of_run(mut self, session: &Session, run: &RunReport, work: f64, rate_unit: &'static str) -> Self {
        let devices = session.devices();
        let cpu = devices.iter().filter(|d| d.kind == DeviceKind::Cpu);
        self.threads = cpu.map(|d| d.workers as usize).sum();
        self.simd = chunkwise::kernel::simd::simd_name().to_owned();
        (self.total_s, self.plan_s, self.predicted_s) = (run.total_s, run.plan_s, Some(run.predicted_s));
        (self.tasks, self.bytes_moved) = (run.tasks() as u64, run.bytes_moved);
        (self.rate, self.rate_unit) = (work / run.total_s, rate_unit);
        let moved = |device: usize| run.moves.iter().filter(|m| m.device.index() == device).map(|m| m.bytes).sum();
        let one = |(device, tasks, busy): (String, usize, f64)| {
            let index = devices.iter().position(|d| d.name == device);
            let detail = index.map_or(String::new(), |i| detail(&devices[i], &self.simd));
            let workers = index.map_or(1.0, |i| f64::from(devices[i].workers));
            let busy = (run.total_s > 0.0).then(|| (busy / workers / run.total_s).min(1.0));
            Placed { device, detail, tasks: tasks as u64, busy, bytes_moved: index.map_or(0, moved) }
        };
        self.placement = run.placement().into_iter().map(one).collect();
        self.placement.extend(idle(&self.device, session, run));
        if let Some(error) = run.median_prediction_error() {
            self.extra.insert("median_prediction_error".into(), error.into());
        }
        self.extra.insert("memory_bound_bytes".into(), run.peak_bound_bytes.into());
        self
    }
}
