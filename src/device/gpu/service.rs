//! The service thread of a GPU: the only thread that records and submits.
//!
//! Owns: what is queued, and the buffers that submissions need. Must not know: graphs, who waits, and what is submitted when ([`Batcher`] does). Invariant: each
//! launch and move that comes in is reported exactly once, whatever fails: also when the driver panics.

mod downs;

use std::collections::VecDeque;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::mpsc::Sender;
use std::time::{Duration, Instant};

use smallvec::SmallVec;

use self::downs::DirectMoves;
use super::batcher::{BatchAction, BatchEvent, Batcher, DownPiece, Haste, LaunchSlices, Limits, NextBatch, Ticket};
use super::inbox::Inbox;
use super::launch::{LaunchEnd, Running, label};
use super::link::{DirectMove, Down, FilledPack, Mapper, Staging, UploadOrder};
use super::memory::ChunkSlot;
use super::open::{GpuRefusal, Opened};
use super::pace::PaceKey;
use super::pipelines::Pipelines;
use super::record::{BatchRecorder, CommonBuffers, Contents, KITS, Kit, LaunchPart, Submission};
use super::ring::ScratchRing;
use super::tickets::Tickets;
use crate::device::panic_message;

/// Submissions under way at once.
pub(super) const IN_FLIGHT: usize = 3;
/// After so long without anything to do, what is kept for the next launch and the next move is given back: a run that is repeated finds it.
const QUIET: Duration = Duration::from_secs(2);

/// What the service thread is told.
pub(super) enum Message {
    Launch(Box<Running>),
    Up(FilledPack),
    Down(Down),
    /// Staging of so many bytes that downloads had is free.
    Emptied(u64),
    /// A chunk that is to be mapped, and what for.
    Direct(Arc<ChunkSlot>, DirectMove),
    /// One that cannot be.
    Staged(Arc<ChunkSlot>, DirectMove),
    /// A chunk that the host had mapped is back.
    Returned,
    /// A pipeline is ready, or has failed; or the device is lost.
    Compiled,
    /// A submission is over: its kit, and what it showed of programs.
    Completed(Kit, SmallVec<[(PaceKey, f64, u64); 2]>),
    /// Its launches are reported.
    Reported,
    /// What to expect of programs never seen: units of work a ns, in numbers of up to 4 bytes and in `f64`.
    Seed([f64; 2]),
    /// A run is over, or all are: what nobody uses now goes back.
    Rest,
    Stop,
}

impl Message {
    pub(super) fn haste(&self) -> Haste {
        match self {
            Self::Launch(_) => Haste::Order,
            // It needs no submission.
            Self::Down(down) if down.from.maps(wgpu::BufferUsages::MAP_READ) => Haste::Urgent,
            Self::Up(pack) => Haste::of_move(pack.bytes(), pack.is_whole()),
            Self::Down(down) => Haste::of_move(down.landing.bytes, true),
            Self::Completed(..) | Self::Emptied(_) => Haste::End,
            Self::Reported => Haste::LastEnd,
            _ => Haste::Urgent,
        }
    }
}

/// Counts that others may look at.
#[derive(Default)]
pub(super) struct Counts {
    pub(super) launches: AtomicU64,
    pub(super) submissions: AtomicU64,
    pub(super) dispatches: AtomicU64,
    pub(super) uploads: AtomicU64,
    pub(super) downloads: AtomicU64,
    pub(super) staged_bytes: AtomicU64,
}

/// What the service thread shares with others.
pub(super) struct Shared {
    pub(super) name: Arc<str>,
    pub(super) opened: Arc<Opened>,
    pub(super) pipelines: Arc<Pipelines>,
    pub(super) ups: Arc<Staging>,
    pub(super) downs: Arc<Staging>,
    pub(super) counts: Arc<Counts>,
    pub(super) waiter: Sender<Submission>,
    pub(super) mapper: Mapper,
    pub(super) uploads: Sender<UploadOrder>,
}

/// What is queued.
#[derive(Default)]
struct QueuedWork {
    launches: Tickets<Box<Running>>,
    uploads: Tickets<FilledPack>,
    downloads: Tickets<Down>,
    /// Launches whose pipelines are being compiled.
    parked: Vec<Running>,
    /// Launches that use chunks which the host has mapped.
    kept: Vec<Running>,
    direct: DirectMoves,
}

/// The state of the service thread.
pub(super) struct Service {
    shared: Shared,
    batcher: Batcher,
    queued: QueuedWork,
    common: CommonBuffers,
    kits: Vec<Kit>,
    ring: ScratchRing,
    /// When to look again if nothing comes.
    tick: Option<Instant>,
    /// Whether there may be something to give back.
    resting: bool,
    /// Memory for parameters, and for actions.
    params: Vec<u8>,
    actions: Vec<BatchAction>,
}

impl Service {
    pub(super) fn new(shared: Shared) -> Result<Self, GpuRefusal> {
        let limits = Limits {
            in_flight: IN_FLIGHT,
            down_bytes: shared.downs.limit_bytes(),
            piece_bytes: shared.downs.piece_bytes(),
            up_bytes: shared.ups.piece_bytes(),
        };
        // Now, while there is memory: later, what waits could not even be submitted.
        let common = CommonBuffers::new(&shared.opened)?;
        let kits = (0..KITS).map(|number| Kit::new(&shared.opened, number)).collect::<Result<_, _>>()?;
        Ok(Self {
            shared,
            batcher: Batcher::new(limits),
            queued: QueuedWork::default(),
            common,
            kits,
            ring: ScratchRing::default(),
            tick: None,
            resting: false,
            params: Vec::new(),
            actions: Vec::new(),
        })
    }

    /// Serves until told to stop.
    pub(super) fn run(mut self, inbox: &Inbox) {
        let mut messages = VecDeque::new();
        let _open = inbox.open();
        loop {
            if messages.is_empty() {
                // Otherwise there are those that came behind one that panicked.
                self.receive(inbox, &mut messages);
            }
            let step = catch_unwind(AssertUnwindSafe(|| self.serve(&mut messages)));
            let stop = match step {
                Ok(stop) => stop,
                Err(payload) => {
                    self.shared.opened.lose(&format!("its service thread panicked: {}", panic_message(&*payload)));
                    false
                }
            };
            if stop {
                self.shared.opened.lose("its session has ended");
                messages.extend(inbox.close());
                messages.into_iter().for_each(|message| self.take(message));
                return self.fail_all(&GpuRefusal::Lost("its session has ended".into()));
            }
            if let Some(why) = self.shared.opened.lost() {
                self.fail_all(&GpuRefusal::Lost(why));
            }
        }
    }

    /// What has come, waited for until it is time to look.
    fn receive(&mut self, inbox: &Inbox, messages: &mut VecDeque<Message>) {
        let mut alarm = self.batcher.alarm(self.shared.mapper.service.now_ns());
        alarm.ends |= self.queued.direct.waits() || !self.queued.kept.is_empty();
        let quiet = self.tick.is_none() && self.resting;
        let until = if quiet { Some(Instant::now() + QUIET) } else { self.tick };
        if let Some(first) = inbox.receive(messages, alarm, until) {
            self.batcher.waiting_since(first);
        }
        if quiet && messages.is_empty() {
            self.rest();
        }
    }

    /// Takes in what has come, and does what follows; true at the end.
    fn serve(&mut self, messages: &mut VecDeque<Message>) -> bool {
        while let Some(message) = messages.pop_front() {
            if matches!(message, Message::Stop) {
                return true;
            }
            self.take(message);
        }
        self.act();
        false
    }

    fn act(&mut self) {
        self.tick = None;
        while self.shared.opened.lost().is_none() {
            self.admit_direct_again();
            let mut actions = std::mem::take(&mut self.actions);
            self.batcher.decide(self.shared.mapper.service.now_ns(), &mut actions);
            let mut again = false;
            for action in actions.drain(..) {
                match action {
                    BatchAction::Submit(batch) => {
                        self.submit(batch);
                        again = true;
                    }
                    BatchAction::Wait(until_ns) => {
                        self.tick = Some(self.shared.mapper.service.began() + Duration::from_nanos(until_ns))
                    }
                }
            }
            self.actions = actions;
            if !again {
                return;
            }
        }
    }

    /// Gives back what nothing uses now.
    fn rest(&mut self) {
        self.resting = false;
        self.shared.ups.rest();
        self.shared.downs.rest();
        self.shared.pipelines.save();
        self.limit_staging();
        if self.kits.len() as u64 == KITS {
            self.ring.clear(&self.shared.opened);
        }
    }

    /// Downloads may have all their staging, in the largest pieces.
    fn limit_staging(&mut self) {
        self.batcher.limit_staging(self.shared.downs.limit_bytes(), self.shared.downs.piece_bytes());
    }

    fn take(&mut self, message: Message) {
        match message {
            Message::Launch(run) => self.admit(run),
            Message::Up(pack) => {
                let (bytes, last) = (pack.bytes(), pack.is_whole());
                let slots: SmallVec<[_; 1]> = pack.pieces.iter().map(|piece| piece.to.clone()).collect();
                let ticket = self.queued.uploads.put(pack);
                self.batcher.take(BatchEvent::Upload(ticket, bytes, last));
                slots.iter().for_each(|slot| slot.uploaded(self.batcher.mark()));
            }
            Message::Down(down) => self.admit_down(down),
            Message::Direct(slot, what) => self.admit_direct(slot, what),
            Message::Staged(slot, what) => self.stage(slot, what),
            Message::Returned => self.admit_kept(),
            Message::Emptied(bytes) => self.batcher.take(BatchEvent::Emptied(bytes)),
            Message::Compiled => {
                std::mem::take(&mut self.queued.parked).into_iter().for_each(|run| self.admit(Box::new(run)));
            }
            Message::Completed(kit, shown) => {
                self.kits.push(kit);
                self.batcher.take(BatchEvent::Completed(shown));
            }
            Message::Reported => self.batcher.take(BatchEvent::Reported),
            Message::Seed(rates) => self.batcher.seed(rates),
            Message::Rest => self.resting = true,
            Message::Stop => {}
        }
    }

    /// Queues a launch, once its pipelines are there.
    fn admit(&mut self, mut run: Box<Running>) {
        match self.shared.pipelines.complete(&run.plan, &mut run.pipelines) {
            Ok(true) => {}
            Ok(false) => return self.queued.parked.push(*run),
            Err(refusal) => return self.refuse(run.end, refusal),
        }
        if self.shared.opened.strategy.maps() && !run.keep_from_host() {
            return self.queued.kept.push(*run);
        }
        let (plan, estimate_ns, after) = (run.plan.clone(), run.estimate_ns, run.after());
        let ticket = self.queued.launches.put(run);
        self.batcher.take(BatchEvent::Launch(ticket, plan, estimate_ns, after));
    }

    fn refuse(&self, end: LaunchEnd, refusal: GpuRefusal) {
        let failure = refusal.into_failure(&format!("task {}", label(&*end.kernel)), &self.shared.name);
        end.done.fail(failure);
    }

    /// Records and submits.
    fn submit(&mut self, batch: NextBatch) {
        let Some(kit) = self.kits.pop() else {
            // There are more than may be under way.
            return self.shared.opened.lose("more submissions are under way than there may be");
        };
        let opened = self.shared.opened.clone();
        let mut contents = Contents::default();
        let mut params = std::mem::take(&mut self.params);
        let outcome = opened.caught(|| self.record(&kit, &batch, &mut params, &mut contents));
        self.params = params;
        match outcome {
            Ok(Some((index, submitted))) => self.submitted(Submission { index, submitted, kit, contents }),
            Ok(None) => {
                self.kits.push(kit);
                self.batcher.not_submitted(0);
            }
            Err(refusal) => self.not_submitted(kit, contents, &refusal),
        }
    }

    /// Records what is in a batch, and submits it, if it is anything.
    fn record(
        &mut self,
        kit: &Kit,
        batch: &NextBatch,
        params: &mut Vec<u8>,
        contents: &mut Contents,
    ) -> Result<Option<(wgpu::SubmissionIndex, Instant)>, GpuRefusal> {
        let (opened, pipelines, common) = (self.shared.opened.clone(), self.shared.pipelines.clone(), self.common.clone());
        let mut recorder = BatchRecorder::new(&opened, &pipelines, (&common, kit), batch, params);
        for &ticket in &batch.uploads {
            if let Some(pack) = self.queued.uploads.take(ticket)
                && let Err(refusal) = recorder.up(pack)
            {
                // Its chunks' buffers were made before the upload was reported.
                opened.lose(&format!("a buffer is gone: {refusal:?}"));
            }
        }
        self.record_downs(&mut recorder, batch);
        if batch.parts.iter().any(|part| self.queued.launches.get(part.ticket).is_some_and(|run| run.plan.faults())) {
            recorder.clear_faults(batch.parts.len() as u64);
        }
        for part in &batch.parts {
            self.record_launch(&mut recorder, part);
        }
        if recorder.is_empty() {
            *contents = recorder.give_up();
            return Ok(None);
        }
        let submitted;
        (*contents, submitted) = recorder.submit();
        submitted.map(Some)
    }

    /// Records a part of a launch; a launch that cannot be is refused, and the others go on.
    fn record_launch(&mut self, recorder: &mut BatchRecorder<'_>, part: &LaunchSlices) {
        let Some(mut run) = self.queued.launches.lend(part.ticket) else { return };
        let recorded = match run.failed_before() {
            Some(failure) => Err(failure),
            None => self
                .record_part(recorder, &mut run, part)
                .map_err(|refusal| refusal.into_failure(&format!("task {}", label(&*run.end.kernel)), &self.shared.name)),
        };
        if part.last || recorded.is_err() {
            drop(self.queued.launches.take(part.ticket));
            if let Some(scratch) = run.scratch.take() {
                self.ring.give(scratch);
            }
        }
        if let Err(failure) = recorded {
            if !part.last {
                self.batcher.take(BatchEvent::WithdrawLaunch(part.ticket));
            }
            return run.end.done.fail(failure);
        }
        if !part.last {
            run.tally.get_or_insert_default();
        }
        let (plan, tally) = (run.plan.clone(), run.tally.clone());
        let is_new = std::mem::take(&mut run.pipelines.are_new);
        let share = part.units / plan.units.max(1.0);
        let end = if part.last {
            Some(run.end)
        } else {
            self.queued.launches.give(part.ticket, run);
            None
        };
        recorder.keep(LaunchPart {
            pace: plan.pace,
            kind: Arc::as_ptr(&plan).addr() as u64,
            units: part.units,
            predicted_ns: part.predicted_ns,
            least_ns: plan.least_ns * share.min(1.0),
            is_new,
            faults: plan.faults().then(|| recorder.fault_slot()),
            tally,
            end,
        });
    }

    fn record_part(
        &mut self,
        recorder: &mut BatchRecorder<'_>,
        run: &mut Running,
        part: &LaunchSlices,
    ) -> Result<(), GpuRefusal> {
        if run.plan.scratch_bytes > 0 && run.scratch.is_none() {
            run.scratch = Some(self.ring.take(&self.shared.opened, run.plan.scratch_bytes)?);
        }
        recorder.launch(run, part)
    }

    fn submitted(&mut self, submission: Submission) {
        let (counts, contents) = (&self.shared.counts, &submission.contents);
        let add = |count: &AtomicU64, more: u64| count.fetch_add(more, Ordering::Relaxed);
        add(&counts.submissions, 1);
        add(&counts.dispatches, contents.dispatches);
        add(&counts.uploads, contents.uploads);
        add(&counts.staged_bytes, contents.load.up_bytes + contents.load.down_bytes);
        let landed = contents.pack.as_ref().map_or(0, |pack| pack.1.iter().filter(|(piece, _)| piece.last).count());
        add(&counts.downloads, landed as u64);
        if let Err(lost) = self.shared.waiter.send(submission) {
            let refusal = GpuRefusal::Lost("its waiting thread has ended".into());
            lost.0.contents.fail(&self.shared.name, &refusal, [&self.shared.ups, &self.shared.downs]);
            self.shared.opened.lose("its waiting thread has ended");
        }
    }

    fn not_submitted(&mut self, kit: Kit, contents: Contents, refusal: &GpuRefusal) {
        // Uploads in it have been reported: without them, what is in the GPU's memory is not what others think.
        let gone = !contents.ups.is_empty() || matches!(refusal, GpuRefusal::OutOfMemory { .. });
        self.batcher.not_submitted(contents.pack.as_ref().map_or(0, |pack| pack.0.size()));
        contents.fail(&self.shared.name, refusal, [&self.shared.ups, &self.shared.downs]);
        if gone {
            return self.shared.opened.lose(&format!("a submission failed: {refusal:?}"));
        }
        // Its own buffers may be in any state.
        match kit.renewed(&self.shared.opened) {
            Ok(kit) => self.kits.push(kit),
            Err(refusal) => self.shared.opened.lose(&format!("nothing can be submitted: {refusal:?}")),
        }
    }

    /// Reports everything that waits as failed.
    fn fail_all(&mut self, refusal: &GpuRefusal) {
        let parked = std::mem::take(&mut self.queued.parked);
        let runs = std::mem::take(&mut self.queued.kept);
        for mut run in self.queued.launches.drain().into_iter().map(|run| *run).chain(runs).chain(parked) {
            if let Some(scratch) = run.scratch.take() {
                scratch.forget(&self.shared.opened);
            }
            self.refuse(run.end, refusal.clone());
        }
        for pack in self.queued.uploads.drain() {
            self.shared.ups.give(pack.buffer, false);
        }
        self.queued.direct.fail(refusal, &self.shared.name);
        for down in self.queued.downloads.drain() {
            down.landing.fail(refusal.clone().into_failure("a chunk's move", &self.shared.name));
        }
        self.batcher.clear();
        self.tick = None;
    }
}

impl Drop for Service {
    fn drop(&mut self) {
        self.ring.clear(&self.shared.opened);
        self.shared.opened.forget(self.common.bytes() + self.kits.iter().map(Kit::bytes).sum::<u64>());
    }
}
