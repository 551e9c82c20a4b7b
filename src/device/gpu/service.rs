//! The service thread of a GPU: the only thread that records and submits.
//!
//! Owns: the queue, the order of what is submitted, how much at once. Must not know: graphs, who waits. Invariant: each launch and move that
//! comes in is reported exactly once, whatever fails: also when the driver panics.

use std::collections::VecDeque;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::mpsc::{Receiver, RecvTimeoutError, Sender};
use std::time::Duration;

use wgpu::BufferUsages;

use super::batch::{BatchRecorder, Kit, Submission, waiting_ns};
use super::copies::{Down, Landing, Up};
use super::launch::{LaunchEnd, Running, label};
use super::memory::Staging;
use super::open::{GpuRefusal, Opened};
use super::pipelines::Pipelines;
use super::slice::Pace;
use crate::device::{Failure, panic_message};
use crate::shape::DType;

/// Submissions under way at once.
const IN_FLIGHT: usize = 3;
/// While others are under way, launches gather until there are so many, or so much work.
const GATHER: usize = 16;
const GATHER_NS: u64 = 1_000_000;
/// After so long without anything to do, what is kept for the next launch and the next move is given back: a run that is repeated finds it.
const QUIET: Duration = Duration::from_secs(2);

/// What the service thread is told.
pub(super) enum Message {
    Launch(Box<Running>),
    Up(Up),
    Down(Down),
    /// A pipeline is ready, or has failed.
    Compiled,
    /// A submission is over: its kit, and how long it took for how much work of which dtype.
    Completed(Kit, DType, f64, u64),
    /// A run is over, or all are: what nobody uses now goes back.
    Rest,
    /// For tests: breaks something before the launch after so many.
    Sabotage(u64, Sabotage),
    Stop,
}

/// What can be broken on purpose, to see that nothing is lost.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Sabotage {
    /// The device is lost now.
    Lose,
    /// The service thread panics now.
    Panic,
    /// The GPU has this many bytes from now on.
    Memory(u64),
    /// The next submission finds no memory.
    FullAtSubmit,
    /// The next submission is invalid.
    Invalid,
    /// Nothing is submitted any more.
    Stall,
}

/// Counts that others may look at.
#[derive(Default)]
pub(super) struct Counts {
    pub(super) launches: AtomicU64,
    pub(super) submissions: AtomicU64,
    pub(super) uploads: AtomicU64,
    pub(super) downloads: AtomicU64,
}

/// The state of the service thread.
pub(super) struct Service {
    pub(super) name: String,
    pub(super) opened: Arc<Opened>,
    pub(super) pipelines: Arc<Pipelines>,
    pub(super) ups: Arc<Staging>,
    pub(super) downs: Arc<Staging>,
    pub(super) counts: Arc<Counts>,
    pub(super) waiter: Sender<Submission>,
    uploads: Vec<Up>,
    downloads: Vec<Down>,
    launches: VecDeque<Box<Running>>,
    /// Their pipelines are being compiled.
    parked: Vec<Running>,
    in_flight: usize,
    pace: Pace,
    kits: Vec<Kit>,
    scratch: Option<wgpu::Buffer>,
    /// Whether there may be something to give back.
    resting: bool,
    sabotage: Option<Sabotage>,
    /// Launches until something is to be broken.
    fuse: Option<(u64, Sabotage)>,
}

impl Service {
    pub(super) fn new(
        name: &str,
        opened: Arc<Opened>,
        pipelines: Arc<Pipelines>,
        [ups, downs]: [Arc<Staging>; 2],
        waiter: Sender<Submission>,
    ) -> Self {
        Self {
            name: name.to_owned(),
            opened,
            pipelines,
            ups,
            downs,
            counts: Arc::default(),
            waiter,
            uploads: Vec::new(),
            downloads: Vec::new(),
            launches: VecDeque::new(),
            parked: Vec::new(),
            in_flight: 0,
            pace: Pace::new(),
            kits: Vec::new(),
            scratch: None,
            resting: false,
            sabotage: None,
            fuse: None,
        }
    }

    /// Serves until told to stop.
    pub(super) fn run(mut self, messages: &Receiver<Message>) {
        // Now, while there is memory: later, what waits could not even be submitted.
        self.kits = (0..=IN_FLIGHT).map_while(|_| Kit::new(&self.opened).ok()).collect();
        loop {
            let next = if self.may_submit() { messages.try_recv().ok() } else { self.next(messages) };
            let stop = matches!(next, Some(Message::Stop)) || (next.is_none() && !self.may_submit());
            if stop {
                self.opened.lose("its session has ended");
                return self.fail_all(&GpuRefusal::Lost("its session has ended".into()));
            }
            let step = catch_unwind(AssertUnwindSafe(|| match next {
                Some(message) => self.take(message),
                None => self.submit(),
            }));
            if let Err(payload) = step {
                self.opened.lose(&format!("its service thread panicked: {}", panic_message(&*payload)));
            }
            if let Some(why) = self.opened.lost() {
                self.fail_all(&GpuRefusal::Lost(why));
            }
        }
    }

    /// The next message, waited for; `None` if none will come.
    fn next(&mut self, messages: &Receiver<Message>) -> Option<Message> {
        if !self.resting {
            return messages.recv().ok();
        }
        match messages.recv_timeout(QUIET) {
            Err(RecvTimeoutError::Timeout) => {
                self.rest();
                messages.recv().ok()
            }
            next => next.ok(),
        }
    }

    /// Gives back what nothing uses now.
    fn rest(&mut self) {
        self.resting = false;
        self.ups.rest();
        self.downs.rest();
        if self.in_flight == 0 {
            self.opened.forget(self.scratch.take().map_or(0, |scratch| scratch.size()));
        }
    }

    fn may_submit(&self) -> bool {
        let some = !self.uploads.is_empty() || !self.downloads.is_empty() || !self.launches.is_empty();
        // Nobody waits for an upload but the launches behind it, and the rest of the same chunk.
        let in_pieces = || self.uploads.last().is_some_and(|up| !up.last);
        let urgent = || !self.downloads.is_empty() || self.launches.len() >= GATHER || in_pieces();
        let enough = || urgent() || waiting_ns(&self.launches) >= GATHER_NS;
        let now = self.in_flight == 0 || (self.in_flight < IN_FLIGHT && enough());
        some && now && self.sabotage != Some(Sabotage::Stall)
    }

    fn take(&mut self, message: Message) {
        match message {
            Message::Launch(run) => self.admit(run),
            Message::Up(up) => self.uploads.push(up),
            Message::Down(down) => self.downloads.push(down),
            Message::Compiled => {
                for run in std::mem::take(&mut self.parked) {
                    self.admit(Box::new(run));
                }
            }
            Message::Completed(kit, real, units, ns) => {
                self.in_flight -= 1;
                self.kits.push(kit);
                if units > 0.0 {
                    self.pace.learn(real, units, ns);
                }
            }
            Message::Rest => self.resting = true,
            Message::Sabotage(0, sabotage) => self.break_on_purpose(sabotage),
            Message::Sabotage(launches, sabotage) => self.fuse = Some((launches, sabotage)),
            Message::Stop => {}
        }
    }

    fn break_on_purpose(&mut self, sabotage: Sabotage) {
        match sabotage {
            Sabotage::Lose => self.opened.device.destroy(),
            Sabotage::Panic => panic!("injected panic"),
            Sabotage::Memory(bytes) => self.opened.ceiling.store(bytes, Ordering::Relaxed),
            other => self.sabotage = Some(other),
        }
    }

    /// Queues a launch, once its pipelines are there.
    fn admit(&mut self, mut run: Box<Running>) {
        if let Some((launches, sabotage)) = self.fuse.take() {
            if launches == 0 {
                self.launches.push_back(run);
                return self.break_on_purpose(sabotage);
            }
            self.fuse = Some((launches - 1, sabotage));
        }
        let mut complete = true;
        for stage in &mut run.stages {
            match self.pipelines.of(&stage.program) {
                Ok(Some(pipelines)) => stage.pipelines = pipelines,
                Ok(None) => complete = false,
                Err(refusal) => return self.refuse(run.end, refusal),
            }
        }
        if complete {
            self.launches.push_back(run);
        } else {
            self.parked.push(*run);
        }
    }

    fn refuse(&self, end: LaunchEnd, refusal: GpuRefusal) {
        let failure = refusal.into_failure(&format!("task {}", label(&*end.kernel)), &self.name);
        end.done.fail(failure);
    }

    fn submit(&mut self) {
        let kit = match self.kits.pop().map_or_else(|| Kit::new(&self.opened), Ok) {
            Ok(kit) => kit,
            // Without these few kilobytes nothing runs at all.
            Err(refusal) => {
                if !self.uploads.is_empty() {
                    // They have been reported.
                    self.opened.lose(&format!("nothing can be submitted: {refusal:?}"));
                }
                return self.fail_all(&refusal);
            }
        };
        // The pipelines and the device are shared, so that the recorder leaves the rest of `self` alone.
        let (opened, pipelines) = (self.opened.clone(), self.pipelines.clone());
        let mut recorder = BatchRecorder::new(&opened, &pipelines, kit);
        for up in std::mem::take(&mut self.uploads) {
            let to = up.to.clone();
            match to.buffer() {
                Ok(buffer) => recorder.up(up, buffer),
                // It was made before the upload was reported.
                Err(refusal) => self.opened.lose(&format!("a buffer is gone: {refusal:?}")),
            }
        }
        for down in std::mem::take(&mut self.downloads) {
            self.record_down(&mut recorder, down);
        }
        self.record_launches(&mut recorder);
        if recorder.is_empty() {
            return self.kits.push(recorder.give_up());
        }
        if self.sabotage == Some(Sabotage::Invalid) {
            self.sabotage = None;
            let _ = self.opened.device.create_shader_module(wgpu::ShaderModuleDescriptor {
                label: None,
                source: wgpu::ShaderSource::Wgsl("injected nonsense".into()),
            });
        }
        let (batch, mut outcome) = recorder.submit();
        self.counts.submissions.fetch_add(1, Ordering::Relaxed);
        if self.sabotage == Some(Sabotage::FullAtSubmit) {
            self.sabotage = None;
            outcome = outcome.and(Err(GpuRefusal::OutOfMemory { requested_bytes: 0, message: "injected".into() }));
        }
        match outcome {
            Ok(()) => self.submitted(batch),
            Err(refusal) => self.not_submitted(batch, &refusal),
        }
    }

    fn submitted(&mut self, batch: Submission) {
        self.in_flight += 1;
        self.counts.uploads.fetch_add(batch.uploads, Ordering::Relaxed);
        self.counts.downloads.fetch_add(batch.downs.iter().filter(|down| down.1.is_last()).count() as u64, Ordering::Relaxed);
        if let Err(lost) = self.waiter.send(batch) {
            self.in_flight -= 1;
            self.fail_batch(lost.0, &GpuRefusal::Lost("its waiting thread has ended".into()));
        }
    }

    fn not_submitted(&mut self, batch: Submission, refusal: &GpuRefusal) {
        // Uploads in it have been reported: without them, what is in the GPU's memory is not what others think.
        let gone = !batch.ups.is_empty() || matches!(refusal, GpuRefusal::OutOfMemory { .. });
        self.fail_batch(batch, refusal);
        if gone {
            self.opened.lose(&format!("a submission failed: {refusal:?}"));
        }
    }

    /// Records a download, or as much of it as there is room for, and leaves the rest for the next submission: a staging buffer of this one
    /// comes back only after it.
    fn record_down(&mut self, recorder: &mut BatchRecorder<'_>, mut down: Down) {
        let from = down.from.clone();
        let buffer = match from.buffer() {
            Ok(buffer) => buffer,
            Err(refusal) => return self.fail_move(&down.landing, refusal),
        };
        loop {
            let bytes = self.downs.piece(down.at, down.landing.bytes);
            if bytes == 0 {
                return;
            }
            let staging = if recorder.has_downloads() { self.downs.try_take(bytes) } else { self.downs.take(bytes).map(Some) };
            match staging {
                Ok(Some(staging)) => recorder.down(buffer, staging, down.piece(bytes)),
                Ok(None) => return self.downloads.push(down),
                Err(refusal) => return self.fail_move(&down.landing, refusal),
            }
        }
    }

    fn record_launches(&mut self, recorder: &mut BatchRecorder<'_>) {
        while let Some(run) = self.launches.front() {
            let (real, most) = (run.real(), self.pace.most(run.real()));
            if !recorder.has_room(real, most) {
                return;
            }
            let Some(run) = self.launches.pop_front() else { return };
            if let Some(failure) = run.failed_before() {
                run.end.done.fail(failure);
                continue;
            }
            if let Err(refusal) = self.grow_scratch(run.scratch_bytes) {
                self.refuse(run.end, refusal);
                continue;
            }
            match recorder.launch(run, self.scratch.as_ref(), most) {
                Ok(None) => {}
                Ok(Some(rest)) => return self.launches.push_front(rest),
                Err((refusal, run)) => self.refuse(run.end, refusal),
            }
        }
    }

    /// One buffer serves all launches, one after the other.
    fn grow_scratch(&mut self, bytes: u64) -> Result<(), GpuRefusal> {
        let has = self.scratch.as_ref().map_or(0, wgpu::Buffer::size);
        if bytes <= has {
            return Ok(());
        }
        self.scratch = None;
        self.opened.forget(has);
        self.scratch = Some(self.opened.buffer(
            bytes.next_power_of_two().max(4096).min(self.opened.largest),
            BufferUsages::STORAGE,
            false,
        )?);
        Ok(())
    }

    fn fail_move(&self, landing: &Landing, refusal: GpuRefusal) {
        landing.fail(refusal.into_failure("a chunk's move", &self.name));
    }

    /// Reports everything in a batch as failed.
    fn fail_batch(&mut self, batch: Submission, refusal: &GpuRefusal) {
        self.opened.forget(batch.kit.bytes());
        batch.fail(&self.name, refusal, [&self.ups, &self.downs]);
    }

    /// Reports everything that waits as failed.
    fn fail_all(&mut self, refusal: &GpuRefusal) {
        let launches = self.launches.drain(..).chain(self.parked.drain(..).map(Box::new));
        for run in launches.collect::<Vec<_>>() {
            self.refuse(run.end, refusal.clone());
        }
        for up in std::mem::take(&mut self.uploads) {
            self.ups.give(up.staging, false);
        }
        for down in std::mem::take(&mut self.downloads) {
            self.fail_move(&down.landing, refusal.clone());
        }
    }
}

impl Drop for Service {
    fn drop(&mut self) {
        let scratch = self.scratch.as_ref().map_or(0, wgpu::Buffer::size);
        self.opened.forget(scratch + self.kits.iter().map(Kit::bytes).sum::<u64>());
    }
}

impl Submission {
    /// Reports everything in it as failed.
    pub(super) fn fail(self, device: &str, refusal: &GpuRefusal, [ups, downs]: [&Staging; 2]) {
        for part in self.parts {
            let task = part.end.as_ref().map_or("task".into(), |end| label(&*end.kernel));
            let failure: Failure = refusal.clone().into_failure(&format!("task {task}"), device);
            match part.end {
                Some(end) => end.done.fail(failure),
                None => {
                    part.tally.lock().unwrap_or_else(std::sync::PoisonError::into_inner).failed.get_or_insert(failure);
                }
            }
        }
        self.ups.into_iter().for_each(|staging| ups.give(staging, false));
        for (staging, piece) in self.downs {
            downs.give(staging, false);
            piece.landing.fail(refusal.clone().into_failure("a chunk's move", device));
        }
    }
}
