//! What the scheduler keeps of one device: its queue, its launches, its link.
//!
//! Owns: counters from which a finish time is predicted in O(1). Must not know: what values hold. Invariant: `queued_ns`,
//! `committed_ns`, `planned_ns` and `running_until` are sums over what is queued, staged, planned and running; a datum that
//! several queued tasks want is planned once, and nothing is left behind.

use std::collections::{BTreeMap, BTreeSet, VecDeque};
use std::sync::Arc;

use super::queue::TaskQueue;
use crate::device::DeviceSpec;
use crate::id::{CopyId, GraphId, TaskId, ValueId};

/// Tasks that a device behind a link is given ahead, whatever they take: the link moves data while it computes.
const DEPTH: i64 = 6;
/// Beyond [`DEPTH`], it is given more while what it has ahead takes less than this: tiny launches queue up and go out together,
/// long tasks stay where others can still take them.
const WINDOW_NS: u64 = 1_000_000;
/// Moves that a device is given at once in one direction.
pub(super) const MOVES: usize = 2;

#[derive(Clone, Copy, Debug)]
pub(super) enum Queued {
    Task(GraphId, TaskId),
    /// Make this replica (a packed form of the value).
    Pack(GraphId, ValueId, u32),
}

impl Queued {
    pub(super) fn graph(self) -> GraphId {
        let (Self::Task(graph, _) | Self::Pack(graph, ..)) = self;
        graph
    }
}

/// Whose tasks a device may be given now.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Offer {
    Nobodys,
    /// Those of graphs that its own workers wait for.
    Awaited,
    Anybodys,
}

/// A move that waits for the link.
#[derive(Clone, Copy, Debug)]
pub(super) struct Crossing {
    pub(super) graph: GraphId,
    pub(super) value: ValueId,
    pub(super) from: u32,
    pub(super) to: u32,
    pub(super) ns: u64,
    /// Bytes that are evicted when it has arrived.
    pub(super) evicts: u64,
}

/// One direction of a link: a queue of moves, of which the device is given a few at once, so that the latency of one hides behind
/// the next.
#[derive(Default)]
pub(super) struct LinkQueue {
    /// Moves that the device has been given, in order.
    pub(super) current: VecDeque<(CopyId, Crossing)>,
    pub(super) busy_until: u64,
    pub(super) queue: VecDeque<Crossing>,
    pub(super) queued_ns: u64,
    /// Moves that queued tasks will ask for.
    pub(super) planned_ns: u64,
    /// Bytes that will be evicted when they have arrived: of the current moves and the queue.
    pub(super) evicted: u64,
}

impl LinkQueue {
    /// Time until a new move could start.
    pub(super) fn backlog(&self, now: u64) -> u64 {
        let current = if self.current.is_empty() { 0 } else { self.busy_until.saturating_sub(now) };
        current + self.queued_ns + self.planned_ns
    }
}

pub(super) struct DeviceLane {
    pub(super) spec: DeviceSpec,
    pub(super) alive: bool,
    /// Workers (or places in its queue) that are not wedged, and the rest of the bookkeeping of who may launch.
    pub(super) seats: Seats,
    pub(super) ready: TaskQueue,
    pub(super) queued_ns: u64,
    /// Uploads that queued tasks will ask for: by how many tasks, and how long each takes.
    planned: BTreeMap<(GraphId, ValueId), (u32, Ticks)>,
    pub(super) staged: Vec<(GraphId, TaskId)>,
    pub(super) launchable: VecDeque<Queued>,
    /// Estimates of the tasks in `staged` and `launchable`.
    pub(super) committed_ns: u64,
    /// Sum over the running launches of when each would end if it began at once.
    running_until: u128,
    /// Whether it takes more launches than it has workers, and so runs them in order.
    pub(super) in_order: bool,
    /// Estimates of the running launches, and when the last would end: of a device that runs them in order.
    launched_ns: u64,
    busy_until: u64,
    /// Host to device, and back.
    pub(super) links: [LinkQueue; 2],
    /// Launches that have ended.
    pub(super) ended: u64,
    /// What there had been to steal when nothing was worth it.
    pub(super) not_stolen: u64,
}

/// A planned time, as it is kept: there are many.
#[derive(Clone, Copy)]
struct Ticks(u32);

impl Ticks {
    const NS: u64 = 64;

    fn of(ns: u64) -> Self {
        Self(u32::try_from(ns.div_ceil(Self::NS)).unwrap_or(u32::MAX))
    }

    fn ns(self) -> u64 {
        u64::from(self.0) * Self::NS
    }
}

impl DeviceLane {
    pub(super) fn new(spec: DeviceSpec) -> Self {
        Self {
            seats: Seats { free: i64::from(spec.queue), ..Seats::default() },
            in_order: spec.queue > spec.workers,
            spec,
            alive: true,
            ready: TaskQueue::default(),
            queued_ns: 0,
            planned: BTreeMap::new(),
            staged: Vec::new(),
            launchable: VecDeque::new(),
            committed_ns: 0,
            running_until: 0,
            launched_ns: 0,
            busy_until: 0,
            links: [LinkQueue::default(), LinkQueue::default()],
            ended: 0,
            not_stolen: u64::MAX,
        }
    }

    /// Whether an upload of this value is planned already.
    pub(super) fn plans(&self, id: GraphId, value: ValueId) -> bool {
        self.planned.contains_key(&(id, value))
    }

    /// A queued task will ask for this upload.
    pub(super) fn plan(&mut self, id: GraphId, value: ValueId, ns: u64) {
        let entry = self.planned.entry((id, value)).or_insert((0, Ticks::of(ns)));
        entry.0 += 1;
        if entry.0 == 1 {
            self.links[0].planned_ns += entry.1.ns();
        }
    }

    /// The link has another speed: planned uploads take as long as `time` says.
    pub(super) fn replan(&mut self, time: impl Fn(GraphId, ValueId) -> u64) {
        self.planned.iter_mut().for_each(|(&(id, value), entry)| entry.1 = Ticks::of(time(id, value)));
        self.links[0].planned_ns = self.planned.values().map(|entry| entry.1.ns()).sum();
    }

    /// A task that wanted this value has left the queue.
    pub(super) fn unplan(&mut self, id: GraphId, value: ValueId) {
        if let Some(entry) = self.planned.get_mut(&(id, value)) {
            entry.0 -= 1;
            if entry.0 == 0 {
                self.links[0].planned_ns -= entry.1.ns();
                self.planned.remove(&(id, value));
            }
        }
    }

    /// Whether it is to be given work at all: it lives, has workers that are not wedged, and is not stuck behind a launch that is.
    pub(super) fn takes(&self) -> bool {
        self.alive && self.seats.all() > 0 && !(self.in_order && self.seats.is_wedged())
    }

    /// Whether a launch of this graph may begin now; if so, whether in the place of a worker that waits for the graph.
    pub(super) fn room_for(&self, graph: GraphId) -> Option<Seat> {
        let lent = self.seats.lender(graph, 0);
        (self.takes() && (lent.is_some() || self.seats.free > 0)).then_some(lent.map_or(Seat::Own, Seat::Lent))
    }

    /// The next launchable item that has room.
    pub(super) fn next_launchable(&mut self) -> Option<Queued> {
        if self.takes() && self.seats.free > 0 {
            return self.launchable.pop_front();
        }
        if self.seats.lent.is_empty() {
            return None;
        }
        let at = self.launchable.iter().position(|item| self.room_for(item.graph()).is_some())?;
        self.launchable.remove(at)
    }

    /// Whose task may be taken from the queue: a worker is free for it, or its inputs can travel meanwhile.
    pub(super) fn may_commit(&self, now: u64) -> Offer {
        if !self.takes() {
            return Offer::Nobodys;
        }
        let (all, staged) = (self.seats.all(), self.staged.len() as i64);
        let launching = all - self.seats.free + self.launchable.len() as i64;
        let full = launching >= all || staged >= 2 * all + 2;
        let deep = self.spec.link.is_some() && launching + staged >= DEPTH && self.ahead(now) >= self.window();
        match full || deep {
            false => Offer::Anybodys,
            true if self.lends() && self.ready.graphs().any(|graph| self.may_commit_of(graph)) => Offer::Awaited,
            true => Offer::Nobodys,
        }
    }

    /// Whether any worker lends its place.
    fn lends(&self) -> bool {
        !self.seats.lent.is_empty()
    }

    /// Whether a worker that waits for this graph has nothing of it to do.
    pub(super) fn may_commit_of(&self, graph: GraphId) -> bool {
        let staged = self.staged.iter().filter(|s| s.0 == graph).count();
        let launchable = self.launchable.iter().filter(|item| item.graph() == graph).count();
        self.seats.lender(graph, (staged + launchable) as i64).is_some()
    }

    /// Predicted time of the work that a device behind a link has taken, or of the moves it waits for, if that is longer.
    fn ahead(&self, now: u64) -> u64 {
        self.running_ns(now).saturating_add(self.committed_ns).max(self.links[0].queued_ns)
    }

    /// How much may be ahead of it: enough that one move is hidden behind twice its time of work.
    fn window(&self) -> u64 {
        let crossing = self.links[0].current.front().map_or(0, |(_, crossing)| crossing.ns);
        WINDOW_NS.max(crossing.saturating_mul(2))
    }

    /// Whether it has nothing to do and nothing on its way.
    pub(super) fn is_free(&self) -> bool {
        self.seats.running == 0 && self.staged.is_empty() && self.launchable.is_empty() && self.ready.is_empty()
    }

    /// A launch begins.
    pub(super) fn started(&mut self, now: u64, estimate: u64, seat: Seat) {
        self.seats.take(seat);
        self.running_until += u128::from(now.saturating_add(estimate));
        if self.in_order {
            self.launched_ns = self.launched_ns.saturating_add(estimate);
            self.busy_until = self.busy_until.max(now).saturating_add(estimate / self.workers());
        }
    }

    pub(super) fn ended(&mut self, now: u64, (started, estimate): (u64, u64), seat: Seat) {
        self.seats.give(seat);
        self.ended += 1;
        self.running_until -= u128::from(started.saturating_add(estimate));
        if self.in_order {
            self.launched_ns = if self.seats.running == 0 { 0 } else { self.launched_ns.saturating_sub(estimate) };
            self.busy_until = now.saturating_add(self.launched_ns / self.workers());
        }
    }

    fn workers(&self) -> u64 {
        u64::from(self.spec.workers.max(1))
    }

    /// Predicted time of compute that is running, of all workers together. Of launches that run in order, the first began when
    /// the one before it ended.
    fn running_ns(&self, now: u64) -> u64 {
        if self.in_order {
            return self.wait_ns(now).saturating_mul(self.workers());
        }
        let running = self.running_until.saturating_sub(self.seats.running.max(0) as u128 * u128::from(now));
        u64::try_from(running).unwrap_or(u64::MAX)
    }

    /// Predicted time until a new launch would begin, if the device runs them in order.
    pub(super) fn wait_ns(&self, now: u64) -> u64 {
        if self.in_order { self.busy_until.saturating_sub(now) } else { 0 }
    }

    /// Predicted time of compute that is running, staged or queued, shared out to the workers.
    fn compute(&self, now: u64) -> u64 {
        self.running_ns(now).saturating_add(self.committed_ns).saturating_add(self.queued_ns) / self.workers()
    }

    /// Predicted time until everything queued here is done.
    pub(super) fn drain(&self, now: u64) -> u64 {
        self.compute(now).max(self.links[0].backlog(now)).max(self.links[1].backlog(now))
    }

    /// Predicted time until a worker can start one more task.
    pub(super) fn start_in(&self, now: u64) -> u64 {
        let idle = self.seats.running + ((self.staged.len() + self.launchable.len()) as i64) < i64::from(self.spec.workers);
        if idle && self.ready.is_empty() { 0 } else { self.compute(now) }
    }

    /// Whether nothing is queued, staged, running or on its way, and nothing is left in the sums.
    pub(super) fn is_idle(&self) -> bool {
        let sums = self.queued_ns | self.committed_ns | self.links[0].planned_ns | self.links[1].planned_ns;
        let links = self.links.iter().all(|l| l.current.is_empty() && l.queue.is_empty() && l.queued_ns == 0);
        let tasks = self.staged.len() + self.launchable.len() + self.planned.len();
        let seats = !self.alive || self.seats.free == i64::from(self.spec.queue);
        seats && tasks == 0 && self.ready.is_empty() && self.running_until == 0 && sums == 0 && links
    }
}

/// Whose place a launch has.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Seat {
    Own,
    /// That of a worker which waits for this graph: the launch's, one that waits for it, or, if all workers wait, any.
    Lent(GraphId),
}

/// Who may launch on a device: its workers (or places in its queue), and the places of workers that wait for a graph.
#[derive(Default)]
pub(super) struct Seats {
    /// Seats that any launch may take.
    pub(super) free: i64,
    /// Launches, and those of them that sit on a waiting worker's seat.
    pub(super) running: i64,
    guests: i64,
    /// Seats lost to launches that were given up: when, if their time had been measured.
    wedged: Vec<Option<u64>>,
    /// By graph: workers that wait for it inside a task, less the launches that have their places.
    pub(super) lent: BTreeMap<GraphId, i64>,
    /// Graphs that may have any lent place just now.
    pub(super) shared: BTreeSet<GraphId>,
    /// Graphs that a task has submitted: the graph of that task, that of a task which waits for it, and so on.
    outer: BTreeMap<GraphId, Arc<[GraphId]>>,
}

impl Seats {
    /// Seats, taken or not, that are not wedged.
    pub(super) fn all(&self) -> i64 {
        self.free + self.running - self.guests
    }

    /// The graph whose waiting workers lend a place to this one, beyond `taken` places: itself, or one that a task of which waits for it.
    fn lender(&self, graph: GraphId, taken: i64) -> Option<GraphId> {
        if self.lent.is_empty() {
            return None;
        }
        let outer = self.outer.get(&graph).map_or(&[][..], |outer| outer);
        let line = || std::iter::once(graph).chain(outer.iter().copied());
        let own = line().find(|graph| self.lent.get(graph).is_some_and(|&places| places > taken));
        own.or_else(|| {
            let any = || self.lent.iter().find(|(_, places)| **places > taken).map(|(&graph, _)| graph);
            line().any(|graph| self.shared.contains(&graph)).then(any).flatten()
        })
    }

    /// The graphs that workers wait for whose places nobody has.
    pub(super) fn lenders(&self) -> impl Iterator<Item = GraphId> {
        self.lent.iter().filter(|(_, places)| **places > 0).map(|(&graph, _)| graph)
    }

    /// A task of the first of `outer` has submitted this graph.
    pub(super) fn nest(&mut self, graph: GraphId, outer: Arc<[GraphId]>) {
        self.outer.insert(graph, outer);
    }

    /// The graph is over.
    pub(super) fn forget(&mut self, graph: GraphId) {
        self.outer.remove(&graph);
    }

    fn take(&mut self, seat: Seat) {
        self.running += 1;
        match seat {
            Seat::Own => self.free -= 1,
            Seat::Lent(graph) => {
                self.guests += 1;
                self.lend(graph, -1);
            }
        }
    }

    fn give(&mut self, seat: Seat) {
        self.running -= 1;
        match seat {
            Seat::Own => self.free += 1,
            Seat::Lent(graph) => {
                self.guests -= 1;
                self.lend(graph, 1);
            }
        }
    }

    /// A worker begins (1) or ends (-1) to wait for a graph.
    pub(super) fn lend(&mut self, graph: GraphId, workers: i64) {
        let places = self.lent.entry(graph).or_insert(0);
        *places += workers;
        if *places == 0 {
            self.lent.remove(&graph);
        }
    }

    /// Whether workers that waited for the graph went on while launches had their places.
    pub(super) fn is_overdrawn(&self, graph: GraphId) -> bool {
        self.lent.get(&graph).is_some_and(|&places| places < 0)
    }

    /// A launch, already over in the counts, may still run: its seat is lost until it reports. `late_at` this time, if its time had been
    /// measured; else it may be as long as it needs, and so may those who wait for its seat.
    pub(super) fn wedge(&mut self, late_at: Option<u64>) {
        self.free -= 1;
        self.wedged.push(late_at);
    }

    /// It has reported.
    pub(super) fn unwedge(&mut self, measured: bool) {
        self.free += 1;
        let at = self.wedged.iter().position(|late| late.is_some() == measured).unwrap_or(0);
        self.wedged.remove(at);
    }

    /// Whether a launch that was given up may still run.
    pub(super) fn is_wedged(&self) -> bool {
        !self.wedged.is_empty()
    }

    /// When the last of those was given up whose time had been measured.
    pub(super) fn wedged_since(&self) -> Option<u64> {
        self.wedged.iter().flatten().max().copied()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_seat_that_is_back_says_nothing_about_the_others() {
        let mut seats = Seats { free: 2, ..Seats::default() };
        seats.wedge(Some(7));
        seats.wedge(None);
        assert_eq!((seats.all(), seats.wedged_since()), (0, Some(7)));
        seats.unwedge(true);
        assert_eq!((seats.is_wedged(), seats.wedged_since()), (true, None));
        seats.wedge(None);
        seats.unwedge(false);
        seats.unwedge(false);
        assert!(!seats.is_wedged() && seats.all() == 2);
    }
}
