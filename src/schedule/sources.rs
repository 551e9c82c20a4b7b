//! Chunks of callers' arrays, known from one graph to the next: their copies in device spaces, and what it costs to have none.
//!
//! Owns: [`Sources`]. Must not know: tasks, queues, buffers' sizes. Invariant: a copy kept here is nobody else's; a graph that
//! uses it takes it out, and gives it back when it needs it no more.

use std::collections::{BTreeMap, VecDeque};

use crate::id::{BufferId, GraphId, SpaceId, ValueId};
use crate::task::{Home, TaskGraph};

/// Most chunks without copy and graph whose regret is remembered.
const MOST_LOOSE: usize = 1 << 16;

/// Which chunk: of which array, from which element on, and its layout (dtype, extents, strides).
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(super) struct SourceKey {
    source: u64,
    offset: usize,
    layout: Box<[usize]>,
}

impl SourceKey {
    /// The key of a value, if it is a chunk of an array that has a name of its own.
    pub(super) fn of(graph: &TaskGraph, value: ValueId) -> Option<Self> {
        let Home::Window { array, offset } = graph.home(value) else { return None };
        let source = graph.arrays()[array.index()].source;
        if source == 0 || graph.producer(value).is_some() {
            return None;
        }
        let layout = graph.layout(value);
        let strides = layout.strides.iter().map(|&s| s as usize);
        let layout = std::iter::once(layout.dtype as usize).chain(layout.shape.iter().copied()).chain(strides).collect();
        Some(Self { source, offset, layout })
    }
}

/// A copy in a device space that no graph holds.
#[derive(Clone, Copy, Debug)]
pub(super) struct Cached {
    pub(super) space: SpaceId,
    pub(super) buffer: BufferId,
    pub(super) bytes: u64,
    /// When it was last used, as the idle queue counts.
    pub(super) stamp: u64,
}

struct Chunk {
    key: SourceKey,
    /// Values of submitted graphs that are this chunk.
    users: Vec<(GraphId, ValueId)>,
    copies: Vec<Cached>,
    /// Time lost, by space, because its tasks ran where it was instead.
    regret: Vec<(SpaceId, u64)>,
    /// The array is gone: nothing is kept.
    gone: bool,
    /// The number of its last entry in `Sources::loose`.
    loose: u64,
}

/// See the module's text.
#[derive(Default)]
pub(super) struct Sources {
    known: BTreeMap<SourceKey, u32>,
    chunks: Vec<Chunk>,
    free: Vec<u32>,
    /// Chunks of which nothing but regret is left, in the order in which they came to that.
    loose: VecDeque<(u32, u64)>,
    next_loose: u64,
    /// Bytes of cached copies, by space.
    bytes: Vec<u64>,
}

impl Sources {
    /// A value of a graph is this chunk; says its number.
    pub(super) fn join(&mut self, user: (GraphId, ValueId), key: SourceKey) -> u32 {
        if let Some(&known) = self.known.get(&key) {
            self.chunks[known as usize].users.push(user);
            return known;
        }
        let (users, loose) = (vec![user], 0);
        let chunk = Chunk { key: key.clone(), users, copies: Vec::new(), regret: Vec::new(), gone: false, loose };
        let number = self.free.pop().unwrap_or(self.chunks.len() as u32);
        match self.chunks.get_mut(number as usize) {
            Some(old) => *old = chunk,
            None => self.chunks.push(chunk),
        }
        self.known.insert(key, number);
        number
    }

    /// A graph is over.
    pub(super) fn leave(&mut self, graph: GraphId, number: u32) {
        let users = &mut self.chunks[number as usize].users;
        let before = users.len();
        users.retain(|user| user.0 != graph);
        if users.len() < before {
            self.forget_if_empty(number);
        }
    }

    /// Whether a copy is kept in a space.
    pub(super) fn has(&self, number: u32, space: SpaceId) -> bool {
        self.chunks[number as usize].copies.iter().any(|c| c.space == space)
    }

    /// Takes a kept copy out.
    pub(super) fn take(&mut self, number: u32, space: SpaceId) -> Option<Cached> {
        let copies = &mut self.chunks[number as usize].copies;
        let copy = copies.swap_remove(copies.iter().position(|c| c.space == space)?);
        self.bytes[space.index()] -= copy.bytes;
        self.forget_if_empty(number);
        Some(copy)
    }

    /// Keeps a copy, if there is none in its space and the array lives.
    pub(super) fn keep(&mut self, number: u32, copy: Cached) -> bool {
        let keeps = !self.chunks[number as usize].gone && !self.has(number, copy.space);
        if keeps {
            self.chunks[number as usize].copies.push(copy);
            if self.bytes.len() <= copy.space.index() {
                self.bytes.resize(copy.space.index() + 1, 0);
            }
            self.bytes[copy.space.index()] += copy.bytes;
        }
        keeps
    }

    /// The copy kept in a space since `stamp`.
    pub(super) fn find(&self, number: u32, space: SpaceId, stamp: u64) -> Option<&Cached> {
        let is_it = |c: &&Cached| c.space == space && c.stamp == stamp;
        self.chunks.get(number as usize)?.copies.iter().find(is_it)
    }

    /// The values of submitted graphs that are this chunk.
    pub(super) fn users(&self, number: u32) -> &[(GraphId, ValueId)] {
        &self.chunks[number as usize].users
    }

    /// Bytes of copies kept in a space.
    pub(super) fn bytes(&self, space: SpaceId) -> u64 {
        self.bytes.get(space.index()).copied().unwrap_or(0)
    }

    /// An array is gone: its copies are given back, and none is kept any more.
    pub(super) fn gone(&mut self, source: u64) -> Vec<BufferId> {
        let first = SourceKey { source, offset: 0, layout: Box::default() };
        let numbers: Vec<u32> = self.known.range(first..).take_while(|(k, _)| k.source == source).map(|(_, &n)| n).collect();
        let mut buffers = Vec::new();
        for number in numbers {
            let chunk = &mut self.chunks[number as usize];
            (chunk.gone, chunk.regret) = (true, Vec::new());
            let copies = std::mem::take(&mut chunk.copies);
            self.known.remove(&self.chunks[number as usize].key);
            for copy in copies {
                self.bytes[copy.space.index()] -= copy.bytes;
                buffers.push(copy.buffer);
            }
            self.forget_if_empty(number);
        }
        buffers
    }

    /// A space is lost, with the copies in it.
    pub(super) fn drop_space(&mut self, space: SpaceId) -> Vec<BufferId> {
        let mut buffers = Vec::new();
        for number in self.known.values().copied().collect::<Vec<_>>() {
            self.chunks[number as usize].regret.retain(|r| r.0 != space);
            match self.take(number, space) {
                Some(copy) => buffers.push(copy.buffer),
                None => self.forget_if_empty(number),
            }
        }
        buffers
    }

    /// Time lost so far for want of a copy in a space.
    pub(super) fn regret(&self, number: u32, space: SpaceId) -> u64 {
        self.chunks[number as usize].regret.iter().find(|r| r.0 == space).map_or(0, |r| r.1)
    }

    /// More time was lost.
    pub(super) fn regrets(&mut self, number: u32, space: SpaceId, ns: u64) {
        let chunk = &mut self.chunks[number as usize];
        match chunk.regret.iter_mut().find(|r| r.0 == space) {
            _ if chunk.gone => {}
            Some(regret) => regret.1 = regret.1.saturating_add(ns),
            None => chunk.regret.push((space, ns)),
        }
    }

    /// A copy is made in a space: nothing is regretted any more.
    pub(super) fn copied(&mut self, number: u32, space: SpaceId) {
        self.chunks[number as usize].regret.retain(|r| r.0 != space);
    }

    fn forget_if_empty(&mut self, number: u32) {
        let chunk = &mut self.chunks[number as usize];
        if !chunk.users.is_empty() || !chunk.copies.is_empty() {
            return;
        }
        if chunk.regret.is_empty() {
            self.forget(number);
            return;
        }
        self.next_loose += 1;
        chunk.loose = self.next_loose;
        self.loose.push_back((number, self.next_loose));
        while self.loose.len() > MOST_LOOSE {
            let Some((number, at)) = self.loose.pop_front() else { return };
            let chunk = &self.chunks[number as usize];
            if chunk.loose == at && chunk.users.is_empty() && chunk.copies.is_empty() {
                self.forget(number);
            }
        }
    }

    fn forget(&mut self, number: u32) {
        let chunk = &mut self.chunks[number as usize];
        (chunk.loose, chunk.regret) = (0, Vec::new());
        if self.known.get(&chunk.key) == Some(&number) {
            self.known.remove(&chunk.key);
        }
        self.free.push(number);
    }
}
