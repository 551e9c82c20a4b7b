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

use super::batch::{Batch, Down, Part};
use super::memory::Staging;
use super::open::{Opened, Refusal};
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
    pub(super) arrivals: Sender<(wgpu::Buffer, Down, u64)>,
}

impl Waiter {
    /// Serves until the service thread has ended and all its submissions are over.
    pub(super) fn run(self, batches: &Receiver<Batch>) {
        let mut last = Instant::now();
        for batch in batches {
            let outcome = self.wait(&batch);
            let now = Instant::now();
            // The GPU works on one submission after the other.
            let busy_ns = now.duration_since(batch.submitted.max(last)).as_nanos() as u64;
            last = now;
            match outcome {
                Ok(()) => self.report(batch, busy_ns),
                Err(refusal) => {
                    if let Refusal::Lost(why) = &refusal {
                        self.opened.lose(why);
                    }
                    self.opened.forget(batch.kit.bytes());
                    batch.fail(&self.name, &refusal, [&self.ups, &self.downs]);
                    // So that the service thread sees the loss even if nothing else comes.
                    let _ = self.service.send(Message::Compiled);
                }
            }
        }
    }

    fn wait(&self, batch: &Batch) -> Result<(), Refusal> {
        let device = &self.opened.device;
        let wanted = || PollType::Wait { submission_index: Some(batch.index.clone()), timeout: Some(LOOK) };
        loop {
            let polled = catch_unwind(AssertUnwindSafe(|| device.poll(wanted())));
            if let Some(why) = self.opened.lost() {
                return Err(Refusal::Lost(why));
            }
            match polled {
                Ok(Ok(_)) if batch.unmapped.load(Ordering::Relaxed) => {
                    return Err(Refusal::Lost("a staging buffer could not be mapped".into()));
                }
                Ok(Ok(_)) => return Ok(()),
                Ok(Err(PollError::Timeout)) => {}
                Ok(Err(error)) => return Err(Refusal::Lost(error.to_string())),
                Err(payload) => return Err(Refusal::Lost(format!("the driver panicked: {}", panic_message(&*payload)))),
            }
        }
    }

    fn report(&self, batch: Batch, busy_ns: u64) {
        let report = if batch.reports { batch.read_report() } else { None };
        if batch.reports {
            batch.kit.report.unmap();
        }
        let times = self.times(&batch, report.as_deref(), busy_ns);
        let Batch { kit, parts, ups, downs, copied, units, real, .. } = batch;
        let computed: u64 = times.iter().map(|t| t.0).sum();
        let link_ns = if parts.is_empty() { busy_ns } else { busy_ns.saturating_sub(computed) };
        let pace_ns = if downs.is_empty() && ups.is_empty() { busy_ns } else { computed };
        // First, so that the next submission need not wait for the reports.
        let _ = self.service.send(Message::Completed(kit, real, units, pace_ns));
        ups.into_iter().for_each(|staging| self.ups.give(staging, true));
        for (staging, down) in downs {
            let share = down.bytes as f64 / copied.max(1) as f64;
            // If the copying thread is gone, so is everybody who waits.
            let _ = self.arrivals.send((staging, down, (share * link_ns as f64) as u64));
        }
        for (i, (part, (elapsed_ns, since_ns))) in parts.into_iter().zip(times).enumerate() {
            let words = report.as_ref().filter(|_| part.faults).map(|all| all[i].0);
            self.report_part(part, words, elapsed_ns, since_ns);
        }
    }

    fn report_part(&self, part: Part, words: Option<[u32; 4]>, elapsed_ns: u64, since_ns: u64) {
        let mut tally = part.tally.lock().unwrap_or_else(PoisonError::into_inner);
        tally.elapsed_ns += elapsed_ns;
        if let Some(words) = words.filter(|w| *w != [0; 4]) {
            tally.fault.get_or_insert(words);
        }
        let (elapsed_ns, fault, failed) = (tally.elapsed_ns, tally.fault, tally.failed.clone());
        drop(tally);
        let Some(end) = part.end else { return };
        let fault = fault.and_then(|words| end.kernel.fault(&end.params, words)).map(Failure::Fault);
        let outcome = failed.or(fault).map_or(Ok(()), Err);
        if outcome.is_ok() {
            self.counts.launches.fetch_add(1, Ordering::Relaxed);
        }
        drop(end.kernel); // before the report, as everywhere
        (end.done)(Report { elapsed_ns, since_ns, worker: 0, opaque: Vec::new(), outcome });
    }

    /// For each part: how long it took, and how long ago it ended. From the GPU's clock, or shares of the submission's time.
    fn times(&self, batch: &Batch, report: Option<&[([u32; 4], [u64; 2])]>, busy_ns: u64) -> Vec<(u64, u64)> {
        let ticks = report.map(|all| all.iter().map(|r| r.1).collect::<Vec<_>>()).unwrap_or_default();
        let last = ticks.iter().map(|t| t[1]).max().unwrap_or(0);
        let sound = !ticks.is_empty() && ticks.iter().all(|t| t[0] > 0 && t[1] >= t[0]);
        if let Some(tick_ns) = self.opened.tick_ns.filter(|_| sound) {
            let ns = |ticks: u64| (ticks as f64 * f64::from(tick_ns)) as u64;
            let span: u64 = ns(last - ticks.iter().map(|t| t[0]).min().unwrap_or(0));
            // A clock that disagrees with the host's by far is not believed.
            if span <= busy_ns.saturating_mul(2) {
                return ticks.iter().map(|t| (ns(t[1] - t[0]).max(1), ns(last - t[1]))).collect();
            }
        }
        let total: f64 = batch.parts.iter().map(|p| p.predicted_ns.max(1.0)).sum();
        let mut ended = 0.0;
        let share = |part: &Part| part.predicted_ns.max(1.0) / total * busy_ns as f64;
        let one = |part| {
            ended += share(part);
            ((share(part) as u64).max(1), (busy_ns as f64 - ended).max(0.0) as u64)
        };
        batch.parts.iter().map(one).collect()
    }
}
