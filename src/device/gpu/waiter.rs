//! The waiting thread of a GPU: sleeps until a submission is over, then reports its launches.
//!
//! Owns: the wait for the driver. Must not know: what comes next. Invariant: a submission that the driver never ends keeps this thread, and nothing else.

use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::atomic::Ordering;
use std::sync::mpsc::Receiver;
use std::sync::{Arc, PoisonError};
use std::time::{Duration, Instant};

use smallvec::SmallVec;

use super::clock::{Attributed, Observed, Share, attribute};
use super::inbox::Inbox;
use super::link::{Copiers, DownPack, Staging};
use super::open::{GpuRefusal, Opened};
use super::pace::PaceKey;
use super::record::{Contents, LaunchPart, ReadReport, Submission};
use super::service::{Counts, Message};
use crate::device::{Failure, Report, panic_message};

/// How long one look at the driver takes at most.
const LOOK: Duration = Duration::from_secs(1);

/// What the waiting thread works with.
pub(super) struct Waiter {
    pub(super) name: Arc<str>,
    pub(super) opened: Arc<Opened>,
    pub(super) ups: Arc<Staging>,
    pub(super) downs: Arc<Staging>,
    pub(super) copiers: Arc<Copiers>,
    pub(super) counts: Arc<Counts>,
    pub(super) service: Arc<Inbox>,
}

/// How long a submission took by the host's clock, in ns: since the one before it was seen to end, and since it was made.
#[derive(Clone, Copy)]
struct Busy {
    alone_ns: u64,
    since_ns: u64,
}

impl Waiter {
    /// Serves until the service thread has ended and all its submissions are over.
    pub(super) fn run(self, submissions: &Receiver<Submission>) {
        let mut last = Instant::now();
        for submission in submissions {
            let outcome = self.wait(&submission);
            let now = Instant::now();
            // The GPU works on one submission after the other.
            let alone_ns = now.duration_since(submission.submitted.max(last)).as_nanos() as u64;
            let since_ns = now.duration_since(submission.submitted).as_nanos() as u64;
            last = now;
            match outcome {
                Ok(()) => {
                    // A report may run into a user's code; what it had not come to report says so itself.
                    let report = || self.report(submission, Busy { alone_ns, since_ns });
                    if let Err(payload) = catch_unwind(AssertUnwindSafe(report)) {
                        self.lose(&format!("a report panicked: {}", panic_message(&*payload)));
                    }
                }
                Err(refusal) => {
                    self.opened.forget(submission.kit.bytes());
                    submission.contents.fail(&self.name, &refusal, [&self.ups, &self.downs]);
                    // It counts as under way for ever, so nothing may come behind it.
                    match refusal {
                        GpuRefusal::Lost(why) => self.lose(&why),
                        other => self.lose(&format!("a submission could not be waited for: {other:?}")),
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

    fn wait(&self, submission: &Submission) -> Result<(), GpuRefusal> {
        loop {
            let over = catch_unwind(AssertUnwindSafe(|| self.opened.driver.wait(&self.opened, &submission.index, LOOK)));
            if let Some(why) = self.opened.lost() {
                return Err(GpuRefusal::Lost(why));
            }
            match over {
                Ok(Ok(true)) if submission.contents.unmapped.load(Ordering::Relaxed) => {
                    return Err(GpuRefusal::Lost("a staging buffer could not be mapped".into()));
                }
                Ok(Ok(true)) => return Ok(()),
                Ok(Ok(false)) => {}
                Ok(Err(refusal)) => return Err(refusal),
                Err(payload) => return Err(GpuRefusal::Lost(format!("the driver panicked: {}", panic_message(&*payload)))),
            }
        }
    }

    fn report(&self, submission: Submission, busy: Busy) {
        let report = submission.read_report();
        let Submission { kit, contents, .. } = submission;
        let times = self.times(&contents, report.as_ref(), busy);
        let Contents { parts, ups, pack, .. } = contents;
        // First, so that the next submission need not wait for the reports.
        let _ = self.service.send(Message::Completed(kit, shown(&parts, &times)));
        ups.into_iter().for_each(|staging| self.ups.give(staging, true));
        if let Some((staging, pieces)) = pack {
            DownPack::new(staging, self.downs.clone(), self.service.clone()).unpack(pieces, times.link_ns, &self.copiers);
        }
        let words = report.map(|(words, _)| words).unwrap_or_default();
        for (part, time) in parts.into_iter().zip(times.launches) {
            let found = part.faults.map(|slot| words.get(slot).copied());
            if found == Some(None) {
                // What it has to say cannot be read: its result may be none.
                let why = "the report of a submission could not be read";
                self.lose(why);
                if let Some(end) = part.end {
                    end.done.fail(GpuRefusal::Lost(why.into()).into_failure("a task", &self.name));
                }
                continue;
            }
            self.report_part(part, found.flatten(), time, times.measured);
        }
        let _ = self.service.send(Message::Reported);
    }

    fn report_part(
        &self,
        part: LaunchPart,
        words: Option<[u32; 4]>,
        (mut elapsed_ns, since_ns): (u64, u64),
        mut measured: bool,
    ) {
        let mut fault = words.filter(|words| *words != [0; 4]);
        let mut failed = None;
        if let Some(tally) = &part.tally {
            let mut tally = tally.lock().unwrap_or_else(PoisonError::into_inner);
            tally.elapsed_ns += elapsed_ns;
            tally.measured_ns += if measured { elapsed_ns } else { 0 };
            tally.fault = tally.fault.or(fault);
            (elapsed_ns, measured, fault, failed) = (tally.elapsed_ns, tally.is_measured(), tally.fault, tally.failed.clone());
        }
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
        end.done.keep(Report { elapsed_ns, measured, since_ns, worker: 0, opaque: Vec::new(), outcome });
    }

    /// What became of the time. Where the GPU has a clock, what it was not asked about is not measured.
    fn times(&self, contents: &Contents, report: Option<&ReadReport>, busy: Busy) -> Attributed {
        let share = |part: &LaunchPart| Share { predicted_ns: part.predicted_ns, least_ns: part.least_ns, kind: part.kind };
        let launches: SmallVec<[Share; 32]> = contents.parts.iter().map(share).collect();
        let ticks = report.map_or(&[][..], |(_, ticks)| ticks);
        let mut times = attribute(&Observed {
            launches: &launches,
            copied_bytes: contents.load.up_bytes + contents.load.down_bytes,
            ticks,
            tick_ns: self.opened.tick_ns.map_or(0.0, f64::from),
            alone_ns: busy.alone_ns,
            since_ns: busy.since_ns,
        });
        // A driver may finish a program when it is first run.
        times.measured &= contents.parts.iter().all(|part| !part.is_new);
        times.measured &= !ticks.is_empty() || self.opened.tick_ns.is_none();
        times
    }
}

/// What a submission showed of programs: units, and the time that they took.
fn shown(parts: &[LaunchPart], times: &Attributed) -> SmallVec<[(PaceKey, f64, u64); 2]> {
    let mut shown: SmallVec<[(PaceKey, f64, u64); 2]> = SmallVec::new();
    if times.busy_ns == 0 {
        return shown;
    }
    for (part, &(ns, _)) in parts.iter().zip(&times.launches) {
        match shown.iter_mut().find(|seen| seen.0 == part.pace) {
            Some(seen) => (seen.1, seen.2) = (seen.1 + part.units, seen.2 + ns),
            None => shown.push((part.pace, part.units, ns)),
        }
    }
    shown
}
