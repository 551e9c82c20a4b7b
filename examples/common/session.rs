//! Between the flags and the library: a session from flags, a run with a progress bar, a report from a run.
//!
//! Owns: [`open_session`], [`finish`], [`store`], [`Report::of_run`]. Must not know: workloads. Invariant: what a report says of a run comes from the run's own
//! record.

use std::sync::Arc;
use std::time::Duration;

use chunkwise::device::{DeviceKind, system};
use chunkwise::runtime::RunReport;
use chunkwise::schedule::Explanation;
use chunkwise::shape::Element;
use chunkwise::task::ChunkSink;
use chunkwise::{Array, Pending, Placement, Result, Session};
use ndarray::ArrayD;

use super::{CommonArgs, Outcome, Placed, Progress, Report, can_write, line, write_whole};

/// What a step of a program gives: `?` takes the library's errors and all others.
pub type Fallible<T> = std::result::Result<T, Box<dyn std::error::Error + Send + Sync>>;

/// The session that the flags ask for. From now on Ctrl-C removes files that are being written.
pub fn open_session(args: &CommonArgs) -> Result<Session> {
    super::on_interrupt(chunkwise::store::remove_temporaries);
    if let Some(path) = &args.trace {
        can_write(path)?; // said now, not after the work
    }
    let mut builder = Session::builder().placement(args.device).seed(args.seed);
    if let Some(threads) = args.threads {
        builder = builder.threads(threads);
    }
    if let Some(limit) = args.memory_limit {
        builder = builder.memory_limit(&format!("{}", limit.0));
    }
    builder.build()
}

/// Prints the explanation, if it was asked for: on stdout, or on stderr beside JSON.
pub fn explain(args: &CommonArgs, explain: impl FnOnce() -> Result<Explanation>) -> Outcome {
    if args.explain && args.json {
        eprintln!("{}", explain()?);
    } else if args.explain {
        line(explain()?)?;
    }
    Ok(())
}

/// Computes an array with a progress bar, after its explanation, and writes the timeline.
pub fn finish<T: Element>(args: &CommonArgs, label: &str, array: &Array<T>) -> Fallible<(ArrayD<T>, RunReport)> {
    explain(args, || array.explain())?;
    let (values, run) = compute(args, label, array)?;
    write_trace(args, &run)?;
    Ok((values, run))
}

/// Computes an array with a progress bar.
pub fn compute<T: Element>(args: &CommonArgs, label: &str, array: &Array<T>) -> Result<(ArrayD<T>, RunReport)> {
    let pending = array.start()?;
    show(args, label, &pending);
    pending.wait()
}

/// Computes an array into a sink, chunk by chunk, after its explanation and with a progress bar, and writes the timeline.
pub fn store<T: Element>(args: &CommonArgs, label: &str, array: &Array<T>, sink: &Arc<dyn ChunkSink>) -> Fallible<RunReport> {
    explain(args, || array.explain_store(sink))?;
    let progress = Progress::start(args, label);
    let run = array.store_watched(sink, |done, total| progress.set(done as u64, total as u64))?;
    drop(progress);
    write_trace(args, &run)?;
    Ok(run)
}

fn show<T: Element>(args: &CommonArgs, label: &str, pending: &Pending<T>) {
    let progress = Progress::start(args, label);
    while !pending.wait_timeout(Duration::from_millis(100)) {
        let (done, total) = pending.progress();
        progress.set(done as u64, total as u64);
    }
}

/// Writes the timeline of a run, if it was asked for.
pub fn write_trace(args: &CommonArgs, run: &RunReport) -> Result<()> {
    match &args.trace {
        Some(path) => write_whole(path, |out| chunkwise::report::timeline(run, out)),
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
        self.peak_rss_bytes = system::peak_rss_bytes();
        self.placement = run
            .placement()
            .into_iter()
            .map(|(device, tasks, busy)| {
                let spec = devices.iter().find(|d| d.name == device);
                let detail = spec.map_or(String::new(), |d| match d.kind {
                    DeviceKind::Cpu => format!("{} threads, {}", d.workers, self.simd),
                    _ => format!("{} threads", d.workers),
                });
                let workers = f64::from(spec.map_or(1, |d| d.workers));
                let busy = (run.total_s > 0.0).then(|| (busy / workers / run.total_s).min(1.0));
                Placed { device, detail, tasks: tasks as u64, busy, bytes_moved: 0 }
            })
            .collect();
        let gpu = devices.iter().any(|d| d.kind == DeviceKind::Gpu);
        if self.device == Placement::Auto.to_string() && !gpu {
            let detail = "not used: this version computes on the CPU only".into();
            self.placement.push(Placed { device: "gpu".into(), detail, ..Placed::default() });
        }
        if let Some(error) = run.median_prediction_error() {
            self.extra.insert("median_prediction_error".into(), error.into());
        }
        self.extra.insert("memory_bound_bytes".into(), run.peak_bound_bytes.into());
        self
    }
}
