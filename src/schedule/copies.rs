//! Which copies (replicas) of the values of one graph exist where.
//!
//! Owns: remaining uses, replicas, result windows. Must not know: devices' queues, time. Invariant: a result window is occupied by at most one value; a value
//! that is final and in host memory is counted as at home.

use super::event::Location;
use crate::device::HOST;
use crate::id::{DeviceId, FormId, SpaceId, TaskId, ValueId};
use crate::task::{Home, PLAIN, TaskGraph};

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Arrival {
    /// Has its place; what it is made from is not there yet.
    Wanted,
    /// Being written, moved, or made from another form.
    Coming,
    Ready,
}

/// One copy of a value: (space, form) and where its bytes are.
#[derive(Clone, Copy, Debug)]
pub(super) struct Replica {
    /// When it was last used, while it is unused; 0 if it never was, or is no more.
    pub(super) stamp: u64,
    pub(super) place: Location,
    /// Users that must not lose it: staged and running tasks, moves, makings of other forms.
    pub(super) pins: u32,
    /// Who wants it: by which task's kernel it is made, and whose workers make it.
    wanted_by: TaskId,
    /// Tells it from earlier replicas of the same slab entry.
    pub(super) serial: u32,
    next: u32,
    pub(super) form: FormId,
    wanted_at: DeviceId,
    pub(super) space: SpaceId,
    pub(super) arrival: Arrival,
    flags: u8,
}

/// Flags of a replica.
const LEAVING: u8 = 1;
const PROVED: u8 = 2;
const SPARE: u8 = 4;

impl Replica {
    pub(super) fn new(space: SpaceId, form: FormId, place: Location, arrival: Arrival, wanted: (DeviceId, TaskId)) -> Self {
        let (wanted_at, wanted_by) = wanted;
        Self { stamp: 0, place, pins: 0, wanted_by, serial: 0, next: END, form, wanted_at, space, arrival, flags: 0 }
    }

    fn set(&mut self, flag: u8, on: bool) {
        self.flags = if on { self.flags | flag } else { self.flags & !flag };
    }

    /// Whether it is on its way home, to be evicted then.
    pub(super) fn is_leaving(&self) -> bool {
        self.flags & LEAVING != 0
    }

    pub(super) fn set_leaving(&mut self, leaving: bool) {
        self.set(LEAVING, leaving);
    }

    /// Whether a launch has read it with success.
    pub(super) fn is_proved(&self) -> bool {
        self.flags & PROVED != 0
    }

    pub(super) fn prove(&mut self) {
        self.set(PROVED, true);
    }

    /// Whether it is being written by a task that runs again, although the value exists: nobody counts on it, and it may be dropped.
    pub(super) fn is_spare(&self) -> bool {
        self.flags & SPARE != 0
    }

    pub(super) fn set_spare(&mut self, spare: bool) {
        self.set(SPARE, spare);
    }

    /// Who wants it: whose workers make it, and by which task's kernel.
    pub(super) fn wanted(&self) -> (DeviceId, TaskId) {
        (self.wanted_at, self.wanted_by)
    }
}

const END: u32 = u32::MAX;

/// One value.
#[derive(Clone, Copy)]
struct ValueCopies {
    /// Tasks that still need it.
    uses: u32,
    /// Its first replica.
    head: u32,
}

/// Bytes of tables for each value, and for each replica and window of a result.
pub(super) const BYTES_A_VALUE: usize = size_of::<ValueCopies>() + 1;
pub(super) const BYTES_A_REPLICA: usize = size_of::<Replica>();
pub(super) const BYTES_A_WINDOW: usize = size_of::<ResultWindow>();

/// One result window.
#[derive(Clone, Copy)]
struct ResultWindow {
    /// The value (index + 1) that occupies it; 0 = none.
    occupant: u32,
    /// An abandoned task may still write it.
    poisoned: bool,
}

/// See the module's text.
pub(super) struct Copies {
    rows: Vec<ValueCopies>,
    slab: Vec<Replica>,
    /// The first entry of the slab that is free; each leads to the next.
    free: u32,
    next_serial: u32,
    windows: Vec<ResultWindow>,
    /// Final values that are in host memory, and how many are not.
    at_home: Vec<bool>,
    pub(super) homeless: usize,
    /// The number of each value among the chunks of callers' arrays (+ 1), 0 for others; empty if there are none.
    chunks: Vec<u32>,
    /// How many tasks in queues of devices with memory of their own read each value; empty if there were none.
    queued: Vec<u32>,
}

impl Copies {
    /// Only the caller's arrays are there.
    pub(super) fn new(graph: &TaskGraph) -> Self {
        let finals = graph.values().filter(|&v| graph.is_final(v) && graph.producer(v).is_some()).count();
        let callers = |v: &ValueId| graph.producer(*v).is_none() && graph.home(*v) != Home::Pool;
        let mut copies = Self {
            rows: graph.values().map(|v| ValueCopies { uses: graph.use_count(v), head: END }).collect(),
            slab: Vec::with_capacity(graph.values().filter(callers).count() + graph.window_count()),
            free: END,
            next_serial: 0,
            windows: vec![ResultWindow { occupant: 0, poisoned: false }; graph.window_count()],
            at_home: if finals > 0 { vec![false; graph.value_count()] } else { Vec::new() },
            homeless: finals,
            chunks: Vec::new(),
            queued: Vec::new(),
        };
        for value in graph.values().filter(callers) {
            copies.add(graph, value, Replica::new(HOST, PLAIN, Location::Home, Arrival::Ready, (DeviceId(0), TaskId(0))));
        }
        copies
    }

    pub(super) fn uses(&self, value: ValueId) -> u32 {
        self.rows[value.index()].uses
    }

    pub(super) fn used_once(&mut self, value: ValueId) {
        self.rows[value.index()].uses -= 1;
    }

    pub(super) fn needed_once_more(&mut self, value: ValueId) {
        self.rows[value.index()].uses += 1;
    }

    pub(super) fn add(&mut self, graph: &TaskGraph, value: ValueId, mut replica: Replica) -> u32 {
        debug_assert!(
            replica.is_spare() || self.find(value, replica.space, replica.form).is_none(),
            "{value} is in {} twice: {:?}",
            replica.space,
            self.of(value).map(|at| self.get(at)).collect::<Vec<_>>()
        );
        replica.next = self.rows[value.index()].head;
        self.next_serial = self.next_serial.wrapping_add(1);
        replica.serial = self.next_serial;
        let at = self.free;
        let at = if at == END {
            if self.slab.len() == self.slab.capacity() {
                // Few more than those of arrays live at a time: to double the table would be far too much.
                self.slab.reserve_exact((self.slab.len() / 16).max(64));
            }
            self.slab.push(replica);
            self.slab.len() as u32 - 1
        } else {
            self.free = self.slab[at as usize].next;
            self.slab[at as usize] = replica;
            at
        };
        self.rows[value.index()].head = at;
        if replica.place == Location::Home
            && let Some(window) = graph.window_id(value)
        {
            self.windows[window].occupant = value.0 + 1;
        }
        at
    }

    /// Removes a replica and says where it was.
    pub(super) fn remove(&mut self, graph: &TaskGraph, value: ValueId, at: u32) -> Location {
        let mut link = self.rows[value.index()].head;
        if link == at {
            self.rows[value.index()].head = self.slab[at as usize].next;
        } else {
            while self.slab[link as usize].next != at {
                link = self.slab[link as usize].next;
            }
            self.slab[link as usize].next = self.slab[at as usize].next;
        }
        self.slab[at as usize].stamp = 0;
        self.slab[at as usize].next = std::mem::replace(&mut self.free, at);
        self.count_home(graph, value);
        let place = self.slab[at as usize].place;
        if place == Location::Home
            && let Some(window) = graph.window_id(value)
            && self.windows[window].occupant == value.0 + 1
        {
            self.windows[window].occupant = 0;
        }
        place
    }

    pub(super) fn get(&self, at: u32) -> &Replica {
        &self.slab[at as usize]
    }

    pub(super) fn get_mut(&mut self, at: u32) -> &mut Replica {
        &mut self.slab[at as usize]
    }

    /// The replicas of a value, by slab index.
    pub(super) fn of(&self, value: ValueId) -> impl Iterator<Item = u32> + '_ {
        let first = self.rows[value.index()].head;
        std::iter::successors((first != END).then_some(first), |&at| {
            let next = self.slab[at as usize].next;
            (next != END).then_some(next)
        })
    }

    pub(super) fn find(&self, value: ValueId, space: SpaceId, form: FormId) -> Option<u32> {
        let is_it = |r: &Replica| r.space == space && r.form == form && !r.is_spare();
        self.of(value).find(|&at| is_it(self.get(at)))
    }

    /// The place that a rerun task writes although this space has the value.
    pub(super) fn find_spare(&self, value: ValueId, space: SpaceId) -> Option<u32> {
        self.of(value).find(|&at| self.get(at).space == space && self.get(at).is_spare())
    }

    /// Keeps count of the final values that are in host memory.
    pub(super) fn count_home(&mut self, graph: &TaskGraph, value: ValueId) {
        if !graph.is_final(value) || self.at_home.is_empty() {
            return;
        }
        let home = self.find(value, HOST, PLAIN).is_some_and(|at| self.get(at).arrival == Arrival::Ready);
        let before = std::mem::replace(&mut self.at_home[value.index()], home);
        self.homeless = self.homeless + usize::from(before) - usize::from(home);
    }

    /// A launch that was given up may still write a window (or no longer may).
    pub(super) fn poison(&mut self, window: usize, may: bool) {
        self.windows[window].poisoned = may;
    }

    /// Whether a launch that was given up may still write a window.
    pub(super) fn is_poisoned(&self, window: usize) -> bool {
        self.windows[window].poisoned
    }

    /// Whether a window can be written: nothing is there, and no given-up task may still write it.
    pub(super) fn is_free(&self, window: usize) -> bool {
        self.windows[window].occupant == 0 && !self.windows[window].poisoned
    }

    /// The value's number among the chunks of callers' arrays, if it is one.
    pub(super) fn chunk(&self, value: ValueId) -> Option<u32> {
        self.chunks.get(value.index())?.checked_sub(1)
    }

    /// A value is this chunk of a caller's array.
    pub(super) fn set_chunk(&mut self, value: ValueId, chunk: u32) {
        self.chunks.resize(self.rows.len(), 0);
        self.chunks[value.index()] = chunk + 1;
    }

    /// Takes the numbers of all chunks.
    pub(super) fn take_chunks(&mut self) -> impl Iterator<Item = u32> + use<> {
        std::mem::take(&mut self.chunks).into_iter().filter_map(|chunk| chunk.checked_sub(1))
    }

    /// Whether any value is a chunk of a caller's array that is known from one graph to the next.
    pub(super) fn has_chunks(&self) -> bool {
        !self.chunks.is_empty()
    }

    /// How many queued tasks read a value on devices with memory of their own.
    pub(super) fn queued(&self, value: ValueId) -> u32 {
        self.queued.get(value.index()).copied().unwrap_or(0)
    }

    /// A task that reads a value joins (or leaves) the queue of a device with memory of its own.
    pub(super) fn count_queued(&mut self, value: ValueId, joins: bool) {
        self.queued.resize(self.rows.len(), 0);
        let count = &mut self.queued[value.index()];
        *count = if joins { *count + 1 } else { *count - 1 };
    }
}
