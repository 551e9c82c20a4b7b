//! What is submitted, when, and how much at once: decisions only.
//!
//! Owns: [`Batcher`]: the queues, how many submissions are under way, the pace, cutting. Must not know: wgpu, threads, clocks: it is told the time.
//! Invariant: each launch that comes in is handed out once, in slices that cover it in order, each upload and each byte of a download once; while
//! anything is queued that could be submitted, something is under way, or is submitted now.
//!
//! # Rules
//!
//! - At most [`Limits::in_flight`] submissions are under way. The first goes at once, or as soon as it is known what follows from those that were reported just
//!   now. Behind it launches gather until there are [`GATHER`], or [`GATHER_NS`] of work, or one has waited [`PATIENCE_NS`] (longer while the GPU is busy
//!   in any case): then the GPU finds the next submission when it is done with this one.
//! - A submission takes uploads of up to a piece's bytes, downloads as far as there is staging, all of them into one buffer, and launches up to [`TARGET_NS`]
//!   by prediction: a tenth of what a desktop can bear, because predictions may be wrong by a factor of ten. What does not fit is cut, and goes on in the next
//!   one. Downloads and launches do not overtake the uploads that came before them.
//! - Submissions of launches that are alike measure them. Where all are mixed, one in [`MIXED`] has a single launch.

mod bell;
mod moves;
#[cfg(test)]
mod tests;
#[cfg(test)]
mod world;

use std::collections::VecDeque;
use std::sync::Arc;

use smallvec::SmallVec;

pub(super) use self::bell::{Alarm, Bell, Haste};
pub(super) use self::moves::Mark;
use self::moves::Moves;
use super::pace::{Pace, PaceKey};
use super::plan::{LaunchPlan, LaunchStage};
use super::slice::{Cursor, Slice};
use crate::kernel::Program;

/// Launches that gather while others are under way, and the work that is enough.
pub(super) const GATHER: usize = 24;
const GATHER_NS: f64 = 1e6;
/// The longest that something waits for more to gather; beyond it only while the GPU is busy for longer than that, by prediction, up to the last.
const PATIENCE_NS: u64 = 200_000;
const LONGEST_NS: u64 = 2_000_000;
/// The same while nothing is under way, but launches that are over are being reported: more will come at once.
const REPORTING_NS: u64 = 50_000;
/// How long the launches of a submission should take.
pub(super) const TARGET_NS: f64 = 5e6;
/// Launches (or parts of them) in one submission, and dispatches.
pub(super) const PARTS: usize = 64;
pub(super) const DISPATCHES: usize = 256;
/// Bytes of uploads, or of downloads, that are not waited with.
const MUCH: u64 = 4 << 20;
/// Of so many submissions of different launches, one has a single launch.
const MIXED: u32 = 16;
/// Of so many short submissions of several launches, one asks the GPU's clock; all others do.
const UNTIMED: u64 = 8;
const SHORT_NS: f64 = 100e3;

/// Where downloads begin in a staging buffer that they share, and how many do.
const ALIGNED: u64 = 64;
const PIECES: usize = 1024;
/// The smallest staging buffer for downloads.
const SMALLEST: u64 = 64 << 10;

/// What a launch or a move is called here.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub(super) struct Ticket(pub(super) usize);

/// What happens.
pub(super) enum BatchEvent {
    /// A launch that can run, what it is expected to take, and after which uploads it may go.
    Launch(Ticket, Arc<LaunchPlan>, u64, Mark),
    /// Bytes that lie in staging, to be copied to their chunk; whether they are the last of it.
    Upload(Ticket, u64, bool),
    /// So many bytes to be brought down, and after which uploads.
    Download(Ticket, u64, Mark),
    /// The launch of this ticket is given up, what is left of it.
    WithdrawLaunch(Ticket),
    /// The download.
    WithdrawDownload(Ticket),
    /// A submission is over; what it showed of programs: units of work, and their time.
    Completed(SmallVec<[(PaceKey, f64, u64); 2]>),
    /// The launches of the submission that is over are reported.
    Reported,
    /// Staging of downloads of so many bytes is free again.
    Emptied(u64),
    /// Time has passed.
    #[cfg(test)]
    Tick,
}

/// What is to be done.
#[derive(Debug)]
pub(super) enum BatchAction {
    /// Record this, and submit it.
    Submit(NextBatch),
    /// If nothing else comes, tick at this time.
    Wait(u64),
}

/// One submission: uploads first, then downloads, then launches.
#[derive(Debug, Default)]
pub(super) struct NextBatch {
    pub(super) uploads: Vec<Ticket>,
    pub(super) downloads: Vec<DownPiece>,
    /// Bytes of the staging buffer of all downloads.
    pub(super) pack_bytes: u64,
    pub(super) parts: Vec<LaunchSlices>,
    /// Whether the GPU's clock is to be asked.
    pub(super) timed: bool,
}

/// A piece of a download, and its place in the staging buffer.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct DownPiece {
    pub(super) ticket: Ticket,
    pub(super) at: u64,
    pub(super) bytes: u64,
    pub(super) offset: u64,
    /// Whether nothing more of it will come.
    pub(super) last: bool,
}

/// What of a launch is in a submission.
#[derive(Debug)]
pub(super) struct LaunchSlices {
    pub(super) ticket: Ticket,
    /// Of which stage, and what of it.
    pub(super) slices: SmallVec<[(usize, Slice); 1]>,
    pub(super) units: f64,
    pub(super) predicted_ns: f64,
    /// Whether nothing is expected of it: who launches it wants to know.
    pub(super) asked: bool,
    /// Whether nothing more of it will come.
    pub(super) last: bool,
}

/// What the batcher may not exceed.
#[derive(Clone, Copy, Debug)]
pub(super) struct Limits {
    /// Submissions under way.
    pub(super) in_flight: usize,
    /// Bytes of staging for downloads, in all.
    pub(super) down_bytes: u64,
    /// Bytes of a staging buffer for them, a power of two.
    pub(super) piece_bytes: u64,
    /// Bytes of uploads in a submission, unless the first is larger.
    pub(super) up_bytes: u64,
}

struct QueuedLaunch {
    ticket: Ticket,
    plan: Arc<LaunchPlan>,
    estimate_ns: u64,
    stage: usize,
    cursor: Cursor,
    after: Mark,
}

impl QueuedLaunch {
    fn estimate(&self) -> (f64, u64) {
        (self.plan.units, self.estimate_ns)
    }

    /// Goes on to the next stage of which anything is left.
    fn skip_what_is_over(&mut self) {
        while self.plan.stages.get(self.stage).is_some_and(|stage| self.cursor.is_over(&stage.program)) {
            (self.stage, self.cursor) = (self.stage + 1, Cursor::default());
        }
    }
}

/// The queues of one GPU. See the module's text for the rules.
pub(super) struct Batcher {
    pace: Pace,
    launches: VecDeque<QueuedLaunch>,
    moves: Moves,
    /// Submissions under way, the first one first: bytes that go up, and down.
    in_flight: VecDeque<[u64; 2]>,
    /// Submissions that are over and whose launches are being reported.
    reporting: usize,
    /// Until when the GPU is busy, by prediction.
    busy_until_ns: u64,
    /// Since when something has been waiting.
    waiting_ns: Option<u64>,
    /// Submissions of different launches since one that measured.
    mixed: u32,
    submitted: u64,
}

impl Batcher {
    pub(super) fn new(limits: Limits) -> Self {
        Self {
            pace: Pace::new(),
            launches: VecDeque::new(),
            moves: Moves::new(limits),
            in_flight: VecDeque::new(),
            reporting: 0,
            busy_until_ns: 0,
            waiting_ns: None,
            mixed: 0,
            submitted: 0,
        }
    }

    /// Takes an event in; says what is to be done now.
    #[cfg(test)]
    fn step(&mut self, now_ns: u64, event: BatchEvent, actions: &mut Vec<BatchAction>) {
        self.take(event);
        self.decide_all(now_ns, actions);
    }

    /// All that is to be done now, where what becomes of submissions does not matter.
    #[cfg(test)]
    fn decide_all(&mut self, now_ns: u64, actions: &mut Vec<BatchAction>) {
        let mut before = usize::MAX;
        while before != actions.len() && !matches!(actions.last(), Some(BatchAction::Wait(_))) {
            before = actions.len();
            self.decide(now_ns, actions);
        }
    }

    /// Takes an event in, of several that came at once.
    pub(super) fn take(&mut self, event: BatchEvent) {
        match event {
            BatchEvent::Launch(ticket, plan, estimate_ns, after) => {
                let (stage, cursor) = (0, Cursor::default());
                self.launches.push_back(QueuedLaunch { ticket, plan, estimate_ns, stage, cursor, after });
            }
            BatchEvent::Upload(ticket, bytes, last) => self.moves.upload(ticket, bytes, last),
            BatchEvent::Download(ticket, bytes, after) => self.moves.download(ticket, bytes, after),
            BatchEvent::WithdrawLaunch(ticket) => self.launches.retain(|launch| launch.ticket != ticket),
            BatchEvent::WithdrawDownload(ticket) => self.moves.withdraw(ticket),
            BatchEvent::Completed(shown) => {
                self.in_flight.pop_front();
                self.reporting += 1;
                shown.into_iter().for_each(|(key, units, ns)| self.pace.learn(key, units, ns));
            }
            BatchEvent::Reported => self.reporting = self.reporting.saturating_sub(1),
            BatchEvent::Emptied(bytes) => self.moves.emptied(bytes),
            #[cfg(test)]
            BatchEvent::Tick => {}
        }
    }

    /// After all uploads so far.
    pub(super) fn mark(&self) -> Mark {
        self.moves.mark()
    }

    /// Whether all uploads before have gone.
    pub(super) fn has_gone(&self, mark: Mark) -> bool {
        self.moves.has_gone(mark)
    }

    /// Says what is to be done now: one submission, or how long to wait. After a submission it is to be asked again: what became of that one is known then.
    pub(super) fn decide(&mut self, now_ns: u64, actions: &mut Vec<BatchAction>) {
        if self.in_flight.is_empty() {
            self.busy_until_ns = now_ns;
        }
        if self.may_submit(now_ns) {
            let (batch, bytes, predicted_ns) = self.batch();
            self.in_flight.push_back(bytes);
            self.waiting_ns = None;
            self.busy_until_ns = self.busy_until_ns.max(now_ns) + predicted_ns as u64;
            return actions.push(BatchAction::Submit(batch));
        }
        if !self.has_work() {
            self.waiting_ns = None;
        } else if self.has_slot() {
            let since = *self.waiting_ns.get_or_insert(now_ns);
            actions.push(BatchAction::Wait(self.patience_ends(since)));
        }
    }

    /// When to submit what has been waiting since then.
    fn patience_ends(&self, since: u64) -> u64 {
        if self.in_flight.is_empty() {
            return since + REPORTING_NS;
        }
        self.busy_until_ns.saturating_sub(PATIENCE_NS).clamp(since + PATIENCE_NS, since + LONGEST_NS)
    }

    /// What must come before there is anything to decide, but for the time that was asked for.
    pub(super) fn alarm(&self, now_ns: u64) -> Alarm {
        // What waits for staging is no work yet, but an end may make it some.
        let (under_way, ends) = (self.in_flight.len(), !self.launches.is_empty() || self.moves.any());
        let (full, unreported) = (under_way >= self.moves.limits.in_flight, under_way + self.reporting);
        let orders = GATHER.saturating_sub(self.launches.len()).max(1);
        // Of what waits here already, it is known when to look; what comes from now on is looked at no later than if it had come now.
        let timed = self.has_work() && self.has_slot();
        let late_ns = (!timed && unreported > 0).then(|| self.patience_ends(now_ns));
        Alarm { orders, unreported, late_ns, full, ends }
    }

    /// Of what comes now, some has waited since then.
    pub(super) fn waiting_since(&mut self, ns: u64) {
        self.waiting_ns.get_or_insert(ns);
    }

    /// A submission was not made: none of it is under way. What it took is not queued again.
    pub(super) fn not_submitted(&mut self, pack_bytes: u64) {
        self.in_flight.pop_back();
        self.moves.not_lent(pack_bytes);
    }

    /// What is to be expected of programs never seen.
    pub(super) fn seed(&mut self, rates: [f64; 2]) {
        self.pace.seed(rates);
    }

    /// The GPU is lost: nothing is queued, and nothing of what was under way will end.
    pub(super) fn clear(&mut self) {
        self.launches.clear();
        self.moves.clear();
        self.in_flight.clear();
        (self.waiting_ns, self.reporting) = (None, 0);
    }

    /// There is no memory for a staging buffer now: these downloads are queued again, and no buffer is larger than `piece_bytes` from now on.
    pub(super) fn no_staging(&mut self, pieces: &[DownPiece], pack_bytes: u64, piece_bytes: u64) {
        self.moves.no_staging(pieces, pack_bytes, piece_bytes);
    }

    /// A buffer for downloads is larger than was asked for by so much.
    pub(super) fn lent_more(&mut self, bytes: u64) {
        self.moves.lent_bytes += bytes;
    }

    /// How much staging downloads may have from now on.
    pub(super) fn limit_staging(&mut self, down_bytes: u64, piece_bytes: u64) {
        self.moves.limit(down_bytes, piece_bytes);
    }

    /// Whether anything is queued that could be submitted.
    fn has_work(&self) -> bool {
        !self.launches.is_empty() || self.moves.ready() != [false; 2]
    }

    /// Whether one more may be under way. The last slot goes on with what the first one carries, if nothing does yet: else its direction would idle after it.
    fn has_slot(&self) -> bool {
        let free = self.moves.limits.in_flight.saturating_sub(self.in_flight.len());
        let last = free == 1 && self.in_flight.len() > 1 && self.launches.is_empty();
        let goes_on = |d: usize, ready: bool| ready || self.in_flight.iter().filter(|bytes| bytes[d] > 0).count() != 1;
        let [up, down] = self.in_flight.front().copied().unwrap_or_default();
        let [up_ready, down_ready] = self.moves.ready();
        free > 0
            && (!last || (up == 0 || goes_on(0, up_ready)) && (down == 0 || goes_on(1, down_ready || !self.moves.any_down())))
    }

    fn may_submit(&self, now_ns: u64) -> bool {
        if !self.has_work() || !self.has_slot() {
            return false;
        }
        let idle = self.in_flight.is_empty() && self.reporting == 0;
        idle || self.is_enough() || self.waiting_ns.is_some_and(|since| now_ns >= self.patience_ends(since))
    }

    fn is_enough(&self) -> bool {
        let mut ns = 0.0;
        self.moves.is_enough()
            || self.launches.len() >= GATHER
            || self.launches.iter().any(|launch| {
                ns += self.left_ns(launch);
                ns >= GATHER_NS
            })
    }

    /// What is left of a launch, roughly: all of it.
    fn left_ns(&self, launch: &QueuedLaunch) -> f64 {
        self.pace.predict_ns(launch.plan.pace, launch.plan.units, launch.estimate())
    }

    /// The next submission, its bytes up and down, and what its launches will take.
    fn batch(&mut self) -> (NextBatch, [u64; 2], f64) {
        let mut batch = NextBatch::default();
        let bytes = self.moves.take(&mut batch, self.in_flight.iter().map(|bytes| bytes[1]).sum());
        self.fill(&mut batch);
        let predicted: f64 = batch.parts.iter().map(|part| part.predicted_ns).sum();
        let long = predicted >= SHORT_NS || self.submitted.is_multiple_of(UNTIMED) || batch.parts.len() == 1;
        batch.timed = !batch.parts.is_empty() && (long || batch.parts.iter().any(|part| part.asked));
        self.submitted += 1;
        (batch, bytes, predicted)
    }

    /// Launches, up to the target.
    fn fill(&mut self, batch: &mut NextBatch) {
        let (mut room_ns, mut dispatches) = (TARGET_NS, DISPATCHES);
        let alone = self.mixed + 1 >= MIXED;
        let (mut before, mut alike) = (None, true);
        while let Some(launch) = self.launches.front() {
            if !self.moves.has_gone(launch.after) {
                break;
            }
            if !batch.parts.is_empty()
                && (alone || batch.parts.len() >= PARTS || !self.goes_beside(launch, room_ns, dispatches))
            {
                break;
            }
            let Some(mut launch) = self.launches.pop_front() else { break };
            let part = self.cut(&mut launch, room_ns, dispatches);
            (room_ns, dispatches) = (room_ns - part.predicted_ns, dispatches - part.slices.len());
            let plan = Arc::as_ptr(&launch.plan);
            alike &= before.replace(plan).is_none_or(|before| before == plan);
            let over = part.last;
            batch.parts.push(part);
            if !over {
                self.launches.push_front(launch);
                break;
            }
        }
        if !batch.parts.is_empty() {
            self.mixed = if alike { 0 } else { self.mixed + 1 };
        }
    }

    /// Whether a launch is begun in a submission that has others, and this much room.
    fn goes_beside(&self, launch: &QueuedLaunch, room_ns: f64, dispatches: usize) -> bool {
        let whole_ns = self.left_ns(launch);
        // What does not fit is cut, but not for the others' sake alone.
        let room = whole_ns <= room_ns || (whole_ns > TARGET_NS && room_ns > TARGET_NS / 8.0);
        let passes = launch.plan.passes();
        room && (passes <= dispatches || (passes > DISPATCHES && dispatches > DISPATCHES / 8))
    }

    /// The next part of a launch: what takes so long, and as many dispatches, at most.
    fn cut(&self, launch: &mut QueuedLaunch, room_ns: f64, dispatches: usize) -> LaunchSlices {
        let (plan, estimate) = (launch.plan.clone(), launch.estimate());
        let most = self.pace.units_in(plan.pace, room_ns.max(1.0), estimate);
        let (mut used, mut slices) = (0.0, SmallVec::new());
        launch.skip_what_is_over();
        while let Some(LaunchStage { program, .. }) = plan.stages.get(launch.stage) {
            if slices.len() >= dispatches || (!slices.is_empty() && used >= most) {
                break;
            }
            let Some((slice, units)) = launch.cursor.next(program, (most - used).max(1.0)) else { break };
            used += units;
            slices.push((launch.stage, slice));
            launch.skip_what_is_over();
            // A small piece of the same pass is not worth a dispatch of its own.
            if !ends_pass(program, &slice) && used >= most / 2.0 {
                break;
            }
        }
        let (asked, last) = (launch.estimate_ns == 0, launch.stage >= plan.stages.len());
        let predicted_ns = self.pace.predict_ns(plan.pace, used, estimate);
        LaunchSlices { ticket: launch.ticket, slices, units: used, predicted_ns, asked, last }
    }
}

fn ends_pass(program: &Program, slice: &Slice) -> bool {
    let pass = program.passes.get(slice.pass);
    pass.is_none_or(|pass| slice.first + slice.groups >= pass.groups && slice.end >= pass.steps.end)
}
