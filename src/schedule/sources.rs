//! Chunks of callers' arrays, known from one graph to the next: their copies in device spaces, and what it costs to have none.
//!
//! Owns: [`Sources`]. Must not know: tasks, queues, buffers' sizes. Invariant: a copy kept here is nobody else's; a graph that
//! uses it takes it out, and gives it back when it needs it no more.

use std::collections::{BTreeMap, VecDeque};
use std::sync::Arc;

use smallvec::SmallVec;

use crate::id::{BufferId, GraphId, SpaceId, ValueId};
use crate::shape::Layout;
use crate::task::{Home, TaskGraph};

/// Most chunks without copy and graph whose regret is remembered.
const MOST_LOOSE: usize = 1 << 16;

/// Which chunk: of which array, from which element on, and the number of its layout (dtype, extents, strides).
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
struct Key {
    source: u64,
    offset: u64,
    layout: u32,
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

/// A value of a submitted graph.
type User = (GraphId, ValueId);

struct Chunk {
    source: u64,
    offset: u64,
    /// Time lost in a space, because its tasks ran where it was instead; the spaces that lost any beyond the first are with the rest.
    regret_ns: u64,
    rest: Option<Box<Rarities>>,
    /// The value of the one graph that mostly uses it; [`NOBODY`] without any.
    user: User,
    layout: u32,
    /// The number of its last entry in `Sources::loose`.
    loose: u32,
    regret_in: SpaceId,
    /// The array is gone: nothing is kept.
    gone: bool,
}

const NOBODY: User = (GraphId(u32::MAX), ValueId(u32::MAX));

/// What most chunks have not.
#[derive(Default)]
struct Rarities {
    users: Vec<User>,
    copies: SmallVec<[Cached; 1]>,
    regret: Vec<(u64, SpaceId)>,
}

impl Chunk {
    fn users(&self) -> impl Iterator<Item = User> + '_ {
        let more = self.rest.iter().flat_map(|rest| rest.users.iter().copied());
        std::iter::once(self.user).filter(|user| *user != NOBODY).chain(more)
    }

    fn add_user(&mut self, user: User) {
        match self.user {
            NOBODY => self.user = user,
            _ => self.rest().users.push(user),
        }
    }

    fn key(&self) -> Key {
        Key { source: self.source, offset: self.offset, layout: self.layout }
    }

    fn copies(&self) -> &[Cached] {
        self.rest.as_ref().map_or(&[], |rest| &rest.copies)
    }

    fn rest(&mut self) -> &mut Rarities {
        self.rest.get_or_insert_default()
    }

    fn regrets(&self) -> impl Iterator<Item = (u64, SpaceId)> + '_ {
        let more = self.rest.iter().flat_map(|rest| rest.regret.iter().copied());
        std::iter::once((self.regret_ns, self.regret_in)).chain(more).filter(|regret| regret.0 > 0)
    }

    fn forget_regret(&mut self, of: impl Fn(SpaceId) -> bool) {
        if of(self.regret_in) {
            self.regret_ns = 0;
        }
        if let Some(rest) = &mut self.rest {
            rest.regret.retain(|regret| !of(regret.1));
        }
    }

    fn is_unused(&self) -> bool {
        self.users().next().is_none() && self.copies().is_empty()
    }
}

/// See the module's text.
#[derive(Default)]
pub(super) struct Sources {
    layouts: BTreeMap<Arc<Layout>, u32>,
    known: BTreeMap<Key, u32>,
    chunks: Vec<Chunk>,
    free: Vec<u32>,
    /// Chunks of which nothing but regret is left, in the order in which they came to that.
    loose: VecDeque<(u32, u32)>,
    next_loose: u32,
    /// Bytes of cached copies, by space.
    bytes: Vec<u64>,
}

impl Sources {
    /// The key of a value, if it is a chunk of an array that has a name of its own.
    fn key(&mut self, graph: &TaskGraph, value: ValueId) -> Option<Key> {
        let Home::Window { array, offset } = graph.home(value) else { return None };
        let source = graph.arrays()[array.index()].source;
        if source == 0 || graph.producer(value).is_some() {
            return None;
        }
        if self.known.is_empty() {
            self.layouts.clear();
        }
        let next = self.layouts.len() as u32;
        let layout = match self.layouts.get(&**graph.layout(value)) {
            Some(&known) => known,
            None => *self.layouts.entry(graph.layout(value).clone()).or_insert(next),
        };
        Some(Key { source, offset: offset as u64, layout })
    }

    /// If a value of a graph is a chunk of an array that has a name of its own, its number.
    pub(super) fn join(&mut self, graph: &TaskGraph, user: User) -> Option<u32> {
        let key = self.key(graph, user.1)?;
        if let Some(&known) = self.known.get(&key) {
            self.chunks[known as usize].add_user(user);
            return Some(known);
        }
        let Key { source, offset, layout } = key;
        let regret_in = SpaceId(0);
        let chunk = Chunk { source, offset, regret_ns: 0, rest: None, user, layout, loose: 0, regret_in, gone: false };
        let number = self.free.pop().unwrap_or(self.chunks.len() as u32);
        match self.chunks.get_mut(number as usize) {
            Some(old) => *old = chunk,
            None => {
                if self.chunks.len() == self.chunks.capacity() {
                    self.chunks.reserve_exact((self.chunks.len() / 8).max(64));
                }
                self.chunks.push(chunk);
            }
        }
        self.known.insert(key, number);
        Some(number)
    }

    /// A graph is over.
    pub(super) fn leave(&mut self, graph: GraphId, number: u32) {
        let chunk = &mut self.chunks[number as usize];
        let before = chunk.users().count();
        chunk.user = if chunk.user.0 == graph { NOBODY } else { chunk.user };
        if let Some(rest) = &mut chunk.rest {
            rest.users.retain(|user| user.0 != graph);
        }
        if chunk.users().count() < before {
            self.forget_if_empty(number);
        }
    }

    /// Whether a copy is kept in a space.
    pub(super) fn has(&self, number: u32, space: SpaceId) -> bool {
        self.chunks[number as usize].copies().iter().any(|c| c.space == space)
    }

    /// Takes a kept copy out.
    pub(super) fn take(&mut self, number: u32, space: SpaceId) -> Option<Cached> {
        let copies = &mut self.chunks[number as usize].rest.as_mut()?.copies;
        let copy = copies.swap_remove(copies.iter().position(|c| c.space == space)?);
        self.bytes[space.index()] -= copy.bytes;
        self.forget_if_empty(number);
        Some(copy)
    }

    /// Keeps a copy, if there is none in its space and the array lives.
    pub(super) fn keep(&mut self, number: u32, copy: Cached) -> bool {
        let keeps = !self.chunks[number as usize].gone && !self.has(number, copy.space);
        if keeps {
            self.chunks[number as usize].rest().copies.push(copy);
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
        self.chunks.get(number as usize)?.copies().iter().find(is_it)
    }

    /// The values of submitted graphs that are this chunk.
    pub(super) fn users(&self, number: u32) -> impl Iterator<Item = User> + '_ {
        self.chunks[number as usize].users()
    }

    /// Bytes of copies kept in a space.
    pub(super) fn bytes(&self, space: SpaceId) -> u64 {
        self.bytes.get(space.index()).copied().unwrap_or(0)
    }

    /// An array is gone: its copies are given back, and none is kept any more.
    pub(super) fn gone(&mut self, source: u64) -> Vec<BufferId> {
        let first = Key { source, offset: 0, layout: 0 };
        let numbers: Vec<u32> = self.known.range(first..).take_while(|(k, _)| k.source == source).map(|(_, &n)| n).collect();
        let mut buffers = Vec::new();
        for number in numbers {
            let chunk = &mut self.chunks[number as usize];
            chunk.gone = true;
            chunk.forget_regret(|_| true);
            let copies = chunk.rest.as_mut().map(|rest| std::mem::take(&mut rest.copies)).unwrap_or_default();
            self.known.remove(&self.chunks[number as usize].key());
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
            self.copied(number, space);
            match self.take(number, space) {
                Some(copy) => buffers.push(copy.buffer),
                None => self.forget_if_empty(number),
            }
        }
        buffers
    }

    /// Time lost so far for want of a copy in a space.
    pub(super) fn regret(&self, number: u32, space: SpaceId) -> u64 {
        self.chunks[number as usize].regrets().find(|r| r.1 == space).map_or(0, |r| r.0)
    }

    /// More time was lost.
    pub(super) fn regrets(&mut self, number: u32, space: SpaceId, ns: u64) {
        let chunk = &mut self.chunks[number as usize];
        if chunk.gone || ns == 0 {
            return;
        }
        let known = chunk.regrets().any(|regret| regret.1 == space);
        if chunk.regret_ns == 0 && !known || chunk.regret_ns > 0 && chunk.regret_in == space {
            (chunk.regret_ns, chunk.regret_in) = (chunk.regret_ns.saturating_add(ns), space);
            return;
        }
        let rest = chunk.rest();
        match rest.regret.iter_mut().find(|r| r.1 == space) {
            Some(regret) => regret.0 = regret.0.saturating_add(ns),
            None => rest.regret.push((ns, space)),
        }
    }

    /// A copy is made in a space: nothing is regretted any more.
    pub(super) fn copied(&mut self, number: u32, space: SpaceId) {
        self.chunks[number as usize].forget_regret(|of| of == space);
    }

    fn forget_if_empty(&mut self, number: u32) {
        let chunk = &mut self.chunks[number as usize];
        if !chunk.is_unused() {
            return;
        }
        if chunk.regrets().next().is_none() {
            self.forget(number);
            return;
        }
        self.next_loose = self.next_loose.wrapping_add(1).max(1);
        chunk.loose = self.next_loose;
        self.loose.push_back((number, self.next_loose));
        while self.loose.len() > MOST_LOOSE {
            let Some((number, at)) = self.loose.pop_front() else { return };
            let chunk = &self.chunks[number as usize];
            if chunk.loose == at && chunk.is_unused() {
                self.forget(number);
            }
        }
    }

    fn forget(&mut self, number: u32) {
        let chunk = &mut self.chunks[number as usize];
        chunk.loose = 0;
        chunk.forget_regret(|_| true);
        let key = chunk.key();
        if self.known.get(&key) == Some(&number) {
            self.known.remove(&key);
        }
        self.free.push(number);
    }
}
