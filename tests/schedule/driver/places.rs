//! What places hold, who uses them, and how much memory that is.
//!
//! Owns: the checks of reads, writes and limits. Must not know: time. Invariant: a check that fails is a panic.

use std::collections::{BTreeMap, BTreeSet};

use chunkwise::device::HOST;
use chunkwise::id::{CopyId, GraphId, SpaceId, ValueId};
use chunkwise::schedule::{Event, Location};
use chunkwise::task::{Home, TaskGraph};

use super::{Content, Flying, Job, Key, World};

/// The content of a plain value: a chunk of a caller's array that has a number is the same in every graph.
pub fn plain(graphs: &TaskGraph, graph: GraphId, value: ValueId) -> Content {
    match graphs.home(value) {
        Home::Window { array, offset } if graphs.producer(value).is_none() && graphs.arrays()[array.index()].source != 0 => {
            Content::Source(graphs.arrays()[array.index()].source, offset, graphs.shape(value).iter().product())
        }
        _ => Content::Plain(graph, value),
    }
}

impl World {
    /// No written place is in use by anybody else.
    pub(super) fn claim(&mut self, new: &Flying) {
        for (index, key) in new.writes.iter().enumerate() {
            assert!(!new.reads.contains(key), "{key:?} is read and written by one launch");
            assert!(!new.writes[..index].contains(key), "{key:?} is written twice by one launch");
        }
        // An opaque value is shared, and replaced as a whole: writing it again disturbs no reader.
        let bytes = |key: &&Key| !matches!(key, Key::Opaque(..));
        for old in self.launches.values().chain(self.moves.values()) {
            let written = new.writes.iter().filter(bytes).find(|k| old.reads.contains(k) || old.writes.contains(k));
            let read = new.reads.iter().filter(bytes).find(|k| old.writes.contains(k));
            assert_eq!((written, read), (None, None), "{} shares a place with {} (written, read)", new.name(), old.name());
        }
        for key in new.writes.iter().filter(bytes) {
            self.contents.insert(*key, Content::Junk);
        }
    }

    pub(super) fn plain(&self, graph: GraphId, value: ValueId) -> Content {
        plain(&self.graphs[&graph], graph, value)
    }

    /// Host memory is within its limit; that of devices too, or less of it is used than before.
    pub(super) fn check_memory(&mut self) {
        for space in 1..4 {
            let used = self.scheduler.used_bytes(SpaceId(space));
            let all: u64 = self.buffers.values().filter(|b| b.space == SpaceId(space)).map(|b| b.bytes).sum();
            let (limit, before) = *self.limits.get(&SpaceId(space)).unwrap_or(&(u64::MAX, 0));
            assert!(all <= limit.max(before), "space {space}: {all} B (before {before}), {used} B used, limit {limit}");
            assert!(used <= all && self.scheduler.cached_bytes(SpaceId(space)) <= used, "space {space}");
            self.limits.insert(SpaceId(space), (limit, all));
        }
        // A limit that falls leaves those that run what they were promised.
        self.high = self.high.max(self.limit);
        let used = self.scheduler.used_bytes(HOST);
        assert!(used <= self.high, "{used} B in use, limit {}", self.high);
        let given_up: BTreeSet<Key> = {
            let launches = self.launches.iter().filter(|(launch, _)| self.scheduler.operands(**launch).is_none());
            launches.flat_map(|(_, f)| f.writes.iter().copied()).collect()
        };
        let counts = |b: &&super::Buffer| b.space == HOST && !given_up.contains(&Key::Buffer(b.serial));
        let buffers: u64 = self.buffers.values().filter(counts).map(|b| b.bytes).sum();
        // Callers' arrays with a number count once, while a graph runs that reads them.
        let runs = |g: &GraphId| !self.ended.contains_key(g);
        let begun: BTreeSet<GraphId> = self.done.keys().map(|k| k.0).filter(|g| !self.retired.contains(g)).collect();
        let (mut arrays, mut callers) = (0, BTreeMap::new());
        for graph in &begun {
            for array in self.graphs[graph].arrays() {
                match (array.result, array.source) {
                    (true, _) => arrays += array.bytes(),
                    (false, 0) if runs(graph) => arrays += array.bytes(),
                    (false, source) if runs(graph) => drop(callers.insert(source, array.bytes())),
                    _ => {}
                }
            }
        }
        let all = buffers + arrays + callers.values().sum::<u64>();
        assert!(all <= self.high, "{all} B of buffers (cached ones too) and arrays, limit {}", self.high);
    }

    pub(super) fn key(&self, graph: GraphId, value: ValueId, place: Location, space: SpaceId, bytes: u64) -> Key {
        match place {
            Location::Buffer(buffer) => {
                let buffer = self.buffers.get(&buffer).unwrap_or_else(|| panic!("{buffer} does not exist"));
                assert_eq!(buffer.space, space, "{value} is in another space");
                assert!(buffer.bytes >= bytes, "{value} does not fit its buffer");
                Key::Buffer(buffer.serial)
            }
            Location::Home => {
                assert_eq!(space, HOST, "a window is host memory");
                match self.graphs[&graph].window_id(value) {
                    Some(window) => Key::Window(graph, window),
                    None => Key::Caller(graph, value),
                }
            }
            Location::Opaque => {
                assert!(self.graphs[&graph].is_opaque(value) && space == HOST);
                Key::Opaque(graph, value)
            }
        }
    }

    /// The place holds exactly this.
    pub(super) fn expect(&self, graph: GraphId, value: ValueId, place: Location, space: SpaceId, content: Content) -> Key {
        let bytes =
            if matches!(content, Content::Plain(..) | Content::Source(..)) { self.graphs[&graph].bytes(value) } else { 0 };
        let key = self.key(graph, value, place, space, bytes);
        let callers = matches!(key, Key::Caller(..)) && self.graphs[&graph].producer(value).is_none();
        let found = if callers { self.plain(graph, value) } else { self.contents.get(&key).copied().unwrap_or(Content::Junk) };
        assert_eq!(found, content, "{value} at {place:?}");
        key
    }

    /// The end of a move, as the scheduler is told.
    pub(super) fn end_move(&mut self, copy: CopyId) -> Event {
        let flying = self.moves.remove(&copy).expect("moves");
        let arrived = !self.dice.percent(self.faults.lost_moves) && !flying.wedged;
        self.troubled |= !arrived;
        if let (true, Job::Move(value)) = (arrived, flying.job) {
            self.contents.insert(flying.writes[0], self.plain(flying.graph, value));
        }
        Event::Moved { copy, arrived }
    }
}
