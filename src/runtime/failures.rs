//! Devices that fail: what becomes of the launch, of its task, of the device.
//!
//! Owns: how often a task is tried, when a device counts as lost, when it is given less memory. Must not know: how work is placed anew (schedule).
//! Invariant: a run fails for its device only if no other device can do its work.

use std::collections::btree_map::Entry;
use std::collections::{BTreeMap, VecDeque};
use std::sync::Arc;

use super::driver::{Inner, SessionState};
use super::handle::Reports;
use super::run::{Fixed, MoveSpan};
use crate::device::{Failure, Report};
use crate::error::Error;
use crate::id::{CopyId, DeviceId, GraphId, LaunchId, TaskId, ValueId};
use crate::kernel::{Kernel, KernelKey};
use crate::schedule::{Estimates, Event};
use crate::shape::DType;
use crate::task::Profile;

/// Times that a task is tried on devices that fail before the graph gives up.
const ATTEMPTS: u32 = 3;
/// Failures of a device in a row after which it counts as lost, if others can do its work.
const STRIKES: u32 = 3;
/// Times that a device may run out of memory, each time with half as much in use, before it counts as lost.
const SHORTAGES: u32 = 6;
/// Shortages that follow each other sooner are one.
const SHORTAGE_NS: u64 = 50_000_000;
/// A device that has had no shortage for so long is given twice as much again.
const RECOVERY_NS: u64 = 10_000_000_000;

/// What has gone wrong with devices.
#[derive(Default)]
pub(super) struct Faults {
    /// Failures of each device since its last success.
    strikes: BTreeMap<DeviceId, u32>,
    /// Devices that have run out of memory and are given less since.
    shortages: BTreeMap<DeviceId, Shortage>,
    /// Devices that count as lost, and for what.
    gone: BTreeMap<DeviceId, Error>,
}

/// A device that has run out of memory.
struct Shortage {
    /// How often since its last success.
    count: u32,
    /// When it last did, or was given more again.
    at_ns: u64,
}

/// What the user is to be told of a device. It is put into words when nothing is locked: the error may be one of a user's device.
pub(super) struct Warning {
    device: String,
    /// For what it is not used any more, if not for all.
    what: &'static str,
    error: Error,
}

impl Faults {
    /// Devices that count as lost, and for what.
    pub(super) fn gone(&self) -> BTreeMap<DeviceId, Error> {
        self.gone.clone()
    }
}

impl std::fmt::Display for Warning {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "{} is not used{} any more ({}); its work goes on elsewhere", self.device, self.what, self.error)
    }
}

impl Inner {
    /// Whether another device does the work of this one.
    fn replaceable(&self, state: &SessionState, device: DeviceId) -> bool {
        let all = self.members.all();
        let io = |at: usize| all[at].spec.kind == crate::device::DeviceKind::Io;
        let other = |at: usize| at != device.index() && !state.faults.gone.contains_key(&DeviceId::at(at));
        (0..all.len()).any(|at| other(at) && io(at) == io(device.index()))
    }

    /// A launch went well: its device counts as sound.
    pub(super) fn succeeded(&self, state: &mut SessionState, device: DeviceId, events: &mut VecDeque<Event>) {
        state.faults.strikes.remove(&device);
        if let Some(shortage) = state.faults.shortages.get_mut(&device) {
            shortage.count = 0;
            self.recover_limits(state, events);
        }
    }

    /// Devices that had too little memory, and have not complained for a while, are given twice as much, up to what they had. By time, because
    /// one that is given too little runs nothing that could go well.
    pub(super) fn recover_limits(&self, state: &mut SessionState, events: &mut VecDeque<Event>) {
        if state.faults.shortages.is_empty() {
            return;
        }
        let (now, members) = (self.now_ns(), self.members.all());
        let SessionState { faults: Faults { shortages, gone, .. }, scheduler, .. } = state;
        shortages.retain(|device, shortage| {
            if gone.contains_key(device) {
                return false;
            }
            if now.saturating_sub(shortage.at_ns) < RECOVERY_NS {
                return true;
            }
            let member = &members[device.index()];
            let (space, full) = (member.spec.space, self.memory_of(member).unwrap_or(u64::MAX));
            let bytes = scheduler.limit_bytes(space).max(1 << 20).saturating_mul(2).min(full);
            (shortage.at_ns, shortage.count) = (now, 0);
            events.push_back(Event::MemoryLimit { space, bytes });
            bytes < full
        });
    }

    /// A move has failed: its run ends, if that happens too often.
    pub(super) fn move_failed(
        &self,
        state: &mut SessionState,
        (graph, device): (GraphId, DeviceId),
        failure: Failure,
        events: &mut VecDeque<Event>,
    ) {
        let blamed = self.blame(state, device, &failure, events);
        let Some(run) = state.runs.get_mut(&graph) else { return };
        run.failed_moves += u32::from(blamed == Blame::Struck);
        if blamed == Blame::Irreplaceable || run.failed_moves >= ATTEMPTS {
            run.fail(as_error(failure));
            events.push_back(Event::Retire { graph });
        }
    }

    /// A move is over.
    pub(super) fn moved(self: &Arc<Self>, what: (CopyId, GraphId, ValueId), link: (DeviceId, bool, u64), report: Report) {
        let ((copy, graph, value), (device, upload, bytes)) = (what, link);
        let end_ns = self.now_ns();
        let start_ns = end_ns.saturating_sub(report.elapsed_ns);
        let _last = report.outcome.as_ref().err().cloned(); // as in `reported`
        let _reports = Reports::new(self, device);
        self.with_events(|state, events| {
            let arrived = report.outcome.is_ok();
            match (report.outcome, state.runs.get_mut(&graph)) {
                (Ok(()), Some(run)) => run.record.moves.push(MoveSpan { value, device, upload, bytes, start_ns, end_ns }),
                (Err(failure), Some(_)) => self.move_failed(state, (graph, device), failure, events),
                _ => {}
            }
            events.push_back(Event::Moved { copy, arrived });
        });
    }

    /// What a failed launch means for its run.
    pub(super) fn failed(
        &self,
        state: &mut SessionState,
        (launch, graph, device): (LaunchId, GraphId, DeviceId),
        (task, predicted_ns): (TaskId, Option<u64>),
        failure: Failure,
        events: &mut VecDeque<Event>,
    ) -> Event {
        let blamed = self.blame(state, device, &failure, events);
        let Some(run) = state.runs.get_mut(&graph) else { return Event::LaunchFailed { launch } };
        let task_name = run.graph().task_name(task);
        let name = if predicted_ns.is_some() { task_name } else { format!("pack of {task_name}") };
        match failure {
            Failure::Fault(fault) => run.fail(fault.of_task(name)),
            Failure::Panic(message) => run.fail(Error::Panicked { task: name, message }),
            Failure::Unfit(error) => {
                let kernel = predicted_ns.is_some();
                return self.unfit(state, (launch, graph, device), (task, kernel), error, events);
            }
            Failure::Device(error) | Failure::OutOfMemory(error) | Failure::Lost(error) => {
                let attempts = run.attempts.entry(task).or_default();
                *attempts += u32::from(blamed == Blame::Struck);
                let again = match blamed {
                    Blame::Struck => *attempts < ATTEMPTS,
                    Blame::Lost => *attempts < 2 * ATTEMPTS,
                    Blame::Short => true,
                    Blame::Irreplaceable => false,
                };
                let tries_left = *attempts < 2 * ATTEMPTS;
                if again {
                    return Event::LaunchLost { launch };
                }
                // A device that others can replace must not cost the run, even if it does other tasks well.
                if tries_left && blamed == Blame::Struck && self.replaceable(state, device) {
                    self.give_up(state, device, &error, events);
                    return Event::LaunchLost { launch };
                }
                if let Some(run) = state.runs.get_mut(&graph) {
                    run.fail(error);
                }
            }
        }
        Event::LaunchFailed { launch }
    }

    /// A device cannot run a kernel: it is not asked again, and others do this work, if there are any.
    fn unfit(
        &self,
        state: &mut SessionState,
        (launch, graph, device): (LaunchId, GraphId, DeviceId),
        (task, kernel): (TaskId, bool),
        error: Error,
        events: &mut VecDeque<Event>,
    ) -> Event {
        let members = self.members.all();
        let Some(run) = state.runs.get_mut(&graph) else { return Event::LaunchFailed { launch } };
        let fixed = run.fixed.clone();
        let kind = WorkKind::of(&fixed, task);
        let unfit = |device: DeviceId| members[device.index()].is_unfit(kind.key, kind.kernel, kind.dtype);
        let can = |e: &Estimates| e.ns(&fixed.graph, task).is_some() && !unfit(e.device);
        let estimates = run.prices.estimates();
        let mut others = estimates.iter().filter(|e| e.device != device && !state.faults.gone.contains_key(&e.device));
        if !others.any(can) {
            run.fail(error);
            return Event::LaunchFailed { launch };
        }
        let member = &members[device.index()];
        // If it is a form of an operand that it cannot make, it may still run the kernel on others.
        let new = kernel && member.forbid(kind.key, kind.kernel, kind.dtype);
        if new {
            let name = &member.spec.name;
            state.warnings.push(Warning { device: name.clone(), what: " for this kernel", error });
        }
        // A run that was priced before and began since has to be told too.
        for (&id, run) in state.runs.iter().filter(|(id, _)| new || **id == graph) {
            let tasks = kind.tasks_in(&run.fixed);
            if !tasks.is_empty() {
                events.push_back(Event::Unfit { graph: id, device, tasks });
            }
        }
        Event::LaunchLost { launch }
    }

    /// From now on the device counts as lost.
    fn give_up(&self, state: &mut SessionState, device: DeviceId, error: &Error, events: &mut VecDeque<Event>) {
        let faults = &mut state.faults;
        if let Entry::Vacant(new) = faults.gone.entry(device) {
            new.insert(error.clone());
            let name = self.members.all()[device.index()].spec.name.clone();
            state.warnings.push(Warning { device: name, what: "", error: error.clone() });
            events.push_back(Event::DeviceLost { device });
        }
    }

    /// What a failure says of its device: whether it counts as lost, or has less memory than was thought.
    pub(super) fn blame(
        &self,
        state: &mut SessionState,
        device: DeviceId,
        failure: &Failure,
        events: &mut VecDeque<Event>,
    ) -> Blame {
        let now = self.now_ns();
        let count = match failure {
            Failure::Fault(_) | Failure::Panic(_) | Failure::Unfit(_) => return Blame::Struck,
            Failure::Lost(_) => STRIKES,
            Failure::OutOfMemory(_) => {
                let shortage = state.faults.shortages.entry(device).or_insert(Shortage { count: 0, at_ns: 0 });
                // All that is queued meets the same shortage: it counts once.
                if shortage.count > 0 && now.saturating_sub(shortage.at_ns) < SHORTAGE_NS {
                    return Blame::Short;
                }
                (shortage.count, shortage.at_ns) = (shortage.count + 1, now);
                if shortage.count > SHORTAGES { STRIKES } else { 0 }
            }
            Failure::Device(_) => {
                let count = state.faults.strikes.entry(device).or_default();
                *count += 1;
                *count
            }
        };
        let over = count >= STRIKES;
        let (Failure::Device(error) | Failure::OutOfMemory(error) | Failure::Lost(error)) = failure else {
            return Blame::Struck;
        };
        if over && self.replaceable(state, device) {
            self.give_up(state, device, error, events);
            return Blame::Lost;
        }
        match failure {
            Failure::OutOfMemory(_) if over => Blame::Irreplaceable,
            Failure::OutOfMemory(_) => {
                let space = self.members.all()[device.index()].spec.space;
                let bytes = state.scheduler.used_bytes(space) / 2;
                events.push_back(Event::MemoryLimit { space, bytes });
                Blame::Short
            }
            Failure::Lost(_) => Blame::Irreplaceable,
            _ => Blame::Struck,
        }
    }
}

/// A kernel, and the dtype of its tasks: what a device is able to run, or not.
struct WorkKind<'a> {
    key: &'a KernelKey,
    kernel: &'a Arc<dyn Kernel>,
    dtype: DType,
}

impl<'a> WorkKind<'a> {
    fn of(fixed: &'a Fixed, task: TaskId) -> Self {
        let (kernel, dtype) = (fixed.graph.kernel_id(task).index(), fixed.graph.profile(task).dtype);
        Self { key: &fixed.graph.kernels()[kernel].key, kernel: &fixed.kernels[kernel], dtype }
    }

    /// The tasks of this kind.
    fn tasks_in(&self, Fixed { graph, kernels, .. }: &Fixed) -> Arc<[TaskId]> {
        let same = |profile: &Profile| {
            let kernel = profile.kernel.index();
            let is_it = match self.key.is_local() {
                true => Arc::ptr_eq(&kernels[kernel], self.kernel),
                false => graph.kernels()[kernel].key == *self.key,
            };
            profile.dtype == self.dtype && is_it
        };
        let is_it: Vec<bool> = graph.profiles().iter().map(same).collect();
        graph.tasks().filter(|&task| is_it[graph.profile_id(task).index()]).collect()
    }
}

fn as_error(failure: Failure) -> Error {
    match failure {
        Failure::Device(error) | Failure::Unfit(error) | Failure::OutOfMemory(error) | Failure::Lost(error) => error,
        Failure::Fault(fault) => fault.of_task("of a move".into()),
        Failure::Panic(message) => {
            Error::Failed { what: "the move of a chunk".into(), message: format!("it panicked: {message}") }
        }
    }
}

/// What became of a device that failed.
#[derive(Clone, Copy, PartialEq, Eq)]
pub(super) enum Blame {
    /// It failed once more.
    Struck,
    /// It counts as lost; others do its work.
    Lost,
    /// It is given less to keep.
    Short,
    /// It counts as lost, and nothing does its work.
    Irreplaceable,
}
