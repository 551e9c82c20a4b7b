//! The waiting thread of a GPU: sleeps until a submission is over, then reports its launches.
//!
//! Owns: the times of launches. Must not know: what comes next. Invariant: a submission that the driver never ends keeps this thread, and
//! nothing else.

use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::atomic::Ordering;
use std::sync::mpsc::{Receiver, Sender};
use std::sync::{Arc, PoisonError};
use std::time::{Duration, Instant};

use wgpu::{PollError, PollType};

use super::batch::{LaunchPart, Submission};
use super::copies::DownloadPiece;
use super::memory::Staging;
use super::open::{GpuRefusal, Opened};
use super::service::{Counts, Message};
use crate::device::{Failure, Report, panic_message};

/// How long one look at the driver takes at most.
const LOOK: Duration = Duration::from_secs(1);

/// What the waiting thread works with.
pub(super) struct Waiter {
    pub(super) name: String,
    pub(super) opened: Arc<Opened>,
    pub(super) ups: Arc<Staging>,
    pub(super) downs: Arc<Staging>,
    pub(super) counts: Arc<Counts>,
    pub(super) service: Sender<Message>,
    /// To the thread that copies downloads to their places: staging buffer, download, ns on the link.
    pub(super) arrivals: Sender<(wgpu::Buffer, DownloadPiece, u64)>,
}

impl Waiter {
    /// Serves until the service thread has ended and all its submissions are over.
    pub(super) fn run(self, batches: &Receiver<Submission>) {
        let mut last = Instant::now();
        for batch in batches {
            let outcome = self.wait(&batch);
            let now = Instant::now();
            // The GPU works on one submission after the other.
            let alone = now.duration_since(batch.submitted.max(last)).as_nanos() as u64;
            let since = now.duration_since(batch.submitted).as_nanos() as u64;
            last = now;
            match outcome {
                Ok(()) => {
                    // A report may run into a user's code; what it had not come to report says so itself.
                    if let Err(payload) = catch_unwind(AssertUnwindSafe(|| self.report(batch, Busy { alone, since }))) {
                        self.lose(&format!("a report panicked: {}", panic_message(&*payload)));
                    }
                }
                Err(refusal) => {
                    self.opened.forget(batch.kit.bytes());
                    batch.fail(&self.name, &refusal, [&self.ups, &self.downs]);
                    if let GpuRefusal::Lost(why) = &refusal {
                        self.lose(why);
                    }
                }
            }
        }
    }

    fn lose(&self, why: &str) {
        self.opened.lose(why);
        // So that the service thread sees it even if nothing else comes.
        let _ = self.service.send(Message::Compiled);
    }

    fn wait(&self, batch: &Submission) -> Result<(), GpuRefusal> {
        let device = &self.opened.device;
        let wanted = || PollType::Wait { submission_index: Some(batch.index.clone()), timeout: Some(LOOK) };
        loop {
            let polled = catch_unwind(AssertUnwindSafe(|| device.poll(wanted())));
            if let Some(why) = self.opened.lost() {
                return Err(GpuRefusal::Lost(why));
            }
            match polled {
                Ok(Ok(_)) if batch.unmapped.load(Ordering::Relaxed) => {
                    return Err(GpuRefusal::Lost("a staging buffer could not be mapped".into()));
                }
                Ok(Ok(_)) => return Ok(()),
                Ok(Err(PollError::Timeout)) => {}
                Ok(Err(error)) => return Err(GpuRefusal::Lost(error.to_string())),
                Err(payload) => return Err(GpuRefusal::Lost(format!("the driver panicked: {}", panic_message(&*payload)))),
            }
        }
    }

    fn report(&self, batch: Submission, busy: Busy) {
        let report = if batch.reports { batch.read_report() } else { None };
        if batch.reports {
            batch.kit.report.unmap();
        }
        let Times { parts: times, link_ns, pace_ns } = self.times(&batch, report.as_deref(), busy);
        let Submission { kit, parts, ups, downs, copied, units, real, .. } = batch;
        // First, so that the next submission need not wait for the reports.
        let _ = self.service.send(Message::Completed(kit, real, if pace_ns > 0 { units } else { 0.0 }, pace_ns));
        ups.into_iter().for_each(|staging| self.ups.give(staging, true));
        for (staging, piece) in downs {
            let share = piece.bytes as f64 / copied.max(1) as f64;
            // If the copying thread is gone, so is everybody who waits.
            let _ = self.arrivals.send((staging, piece, (share * link_ns as f64) as u64));
        }
        for (i, (part, (elapsed_ns, since_ns))) in parts.into_iter().zip(times).enumerate() {
            let words = report.as_ref().filter(|_| part.faults).map(|all| all[i].0);
            self.report_part(part, words, elapsed_ns, since_ns);
        }
    }

    fn report_part(&self, part: LaunchPart, words: Option<[u32; 4]>, elapsed_ns: u64, since_ns: u64) {
        let mut tally = part.tally.lock().unwrap_or_else(PoisonError::into_inner);
        tally.elapsed_ns += elapsed_ns;
        if let Some(words) = words.filter(|w| *w != [0; 4]) {
            tally.fault.get_or_insert(words);
        }
        let (elapsed_ns, fault, failed) = (tally.elapsed_ns, tally.fault, tally.failed.clone());
        drop(tally);
        let Some(end) = part.end else { return };
        let told = |words| match catch_unwind(AssertUnwindSafe(|| end.kernel.fault(&end.params, words))) {
            Ok(fault) => fault.map(Failure::Fault),
            Err(payload) => Some(Failure::Panic(panic_message(&*payload))),
        };
        let outcome = failed.or(fault.and_then(told)).map_or(Ok(()), Err);
        if outcome.is_ok() {
            self.counts.launches.fetch_add(1, Ordering::Relaxed);
        }
        drop(end.kernel); // before the report, as everywhere
        end.done.keep(Report { elapsed_ns, since_ns, worker: 0, opaque: Vec::new(), outcome });
    }

    /// How long each part took, from the GPU's clock, or by shares of the submission's time.
    fn times(&self, batch: &Submission, report: Option<&[([u32; 4], [u64; 2])]>, busy: Busy) -> Times {
        let ticks = report.map(|all| all.iter().map(|r| r.1).collect::<Vec<_>>()).unwrap_or_default();
        let (first, last) = (ticks.iter().map(|t| t[0]).min().unwrap_or(0), ticks.iter().map(|t| t[1]).max().unwrap_or(0));
        let sound = first > 0 && ticks.iter().all(|t| t[1] >= t[0]);
        if let Some(tick_ns) = self.opened.tick_ns.filter(|_| sound) {
            let ns = |ticks: u64| (ticks as f64 * f64::from(tick_ns)) as u64;
            let span = ns(last - first);
            // A clock that disagrees with the host's is not believed.
            if span <= busy.since {
                let parts = ticks.iter().map(|t| (ns(t[1] - t[0]).max(1), ns(last - t[1]))).collect();
                return Times { parts, link_ns: busy.alone.saturating_sub(span), pace_ns: span.max(1) };
            }
        }
        // A waiter that woke late sees several submissions end at once: then their times tell nothing.
        let known = busy.alone >= busy.since / 20;
        let busy_ns = busy.alone.max(busy.since / 20) as f64;
        let copies = batch.copied as f64 / COPIED_PER_NS;
        let total = copies + batch.parts.iter().map(|p| p.predicted_ns.max(1.0)).sum::<f64>();
        let scale = busy_ns / total.max(1.0);
        let mut left = busy_ns - copies * scale;
        let share = |part: &LaunchPart| {
            let ns = part.predicted_ns.max(1.0) * scale;
            left = (left - ns).max(0.0);
            ((ns as u64).max(1), left as u64)
        };
        let parts: Vec<_> = batch.parts.iter().map(share).collect();
        let pace_ns = if known { parts.iter().map(|p| p.0).sum() } else { 0 };
        Times { parts, link_ns: (copies * scale) as u64, pace_ns }
    }
}

/// Bytes that a link is taken to copy in a ns, where launches and copies of one submission are told apart by guess.
const COPIED_PER_NS: f64 = 8.0;

/// How long a submission took, in ns: since the one before it was seen to end, and since it was made.
#[derive(Clone, Copy)]
struct Busy {
    alone: u64,
    since: u64,
}

/// What a submission's time went to.
struct Times {
    /// Of each part: how long it took, and how long ago it ended.
    parts: Vec<(u64, u64)>,
    /// All copies.
    link_ns: u64,
    /// All launches; 0 if unknown.
    pace_ns: u64,
}
