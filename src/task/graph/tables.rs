//! The rows of a graph's tables.
//!
//! Owns: how little memory a task, an operand, a value take. Must not know: what the graph is for. Invariant: what many rows have in common (layouts,
//! views, forms, labels, parameters) is there once.

use std::sync::Arc;

use serde::{Deserialize, Serialize};

use super::{Group, Home, NONE};
use crate::id::{ArrayId, FormId, TaskId, ValueId, ViewId};
use crate::shape::{Form, Layout, View, same};

/// Makes room for `more` rows, a quarter beyond those that are there: to double large tables would take as much again as they do.
pub(super) fn room<T>(rows: &mut Vec<T>, more: usize) {
    if rows.capacity() - rows.len() < more {
        rows.reserve_exact(more.max(rows.len() / 4).max(64));
    }
}

/// One task; what it has ends where that of the next begins.
#[derive(Clone, Copy, Debug, Serialize, Deserialize)]
pub(super) struct TaskRow {
    /// Until the graph is sealed, the kernel.
    pub(super) profile: u32,
    pub(super) reads: u32,
    pub(super) writes: u32,
    /// Start of the parameters, in units of [`UNIT`].
    pub(super) params: u32,
    pub(super) params_bytes: u32,
}

/// One use of a value.
#[derive(Clone, Copy, Debug, Serialize, Deserialize)]
pub(super) struct Use {
    pub(super) value: ValueId,
    /// Until the graph is sealed, the view + 1, or 0.
    pub(super) access: u32,
}

/// One written value.
#[derive(Clone, Copy, Debug, Serialize, Deserialize)]
pub(super) struct Write {
    pub(super) value: ValueId,
    pub(super) old: u32,
}

impl Write {
    pub(super) fn updates(&self) -> Option<ValueId> {
        (self.old != NONE).then_some(ValueId(self.old))
    }
}

/// How a kernel takes an operand.
#[derive(Clone, Debug)]
pub(super) struct Access {
    pub(super) view: Option<ViewId>,
    pub(super) form: Form,
    /// Where only contiguous chunks are taken, the access that is the contiguous copy of the view; 0 without a view.
    pub(super) copy: u16,
    /// Of the copy, contiguous.
    pub(super) layout: Arc<Layout>,
}

/// What tasks read and write.
#[derive(Debug, Default)]
pub(super) struct Uses {
    pub(super) reads: Vec<Use>,
    pub(super) writes: Vec<Write>,
    /// The first is plain and whole.
    pub(super) accesses: Vec<Access>,
    pub(super) views: Vec<Arc<View>>,
    pub(super) view_shapes: Vec<Box<[usize]>>,
}

impl Uses {
    /// The form in which an operand of this access is there.
    pub(super) fn form(&self, access: u32, contiguous: bool) -> FormId {
        if access == 0 {
            return FormId(0); // the usual case
        }
        let row = &self.accesses[access as usize];
        FormId(match (contiguous, row.form) {
            (true, _) => row.copy,
            (false, Form::Plain) => 0,
            (false, Form::Packed(_)) => access as u16, // they are that many at most
        })
    }

    pub(super) fn table_bytes(&self) -> usize {
        self.reads.capacity() * size_of::<Use>()
            + self.writes.capacity() * size_of::<Write>()
            + self.accesses.len() * (size_of::<Access>() + 96)
            + self.views.len() * 256
    }
}

/// A value of the table; see [`ValueRow::home`].
#[derive(Clone, Copy, Debug, Serialize, Deserialize)]
pub(super) struct ValueRow {
    /// First element in its array; of an opaque value, its bytes.
    pub(super) offset: u64,
    layout: u32,
    array: u32,
    pub(super) producer: u32,
    pub(super) uses: u32,
    pub(super) window: u32,
    flags: u32,
}

const OPAQUE: u32 = 1;
const UPDATED: u32 = 2;

impl ValueRow {
    pub(super) fn new(layout: u32, home: Home) -> Self {
        let (offset, array) = match home {
            Home::Pool => (0, NONE),
            Home::Window { array, offset } => (offset as u64, array.0),
        };
        Self { offset, layout, array, producer: NONE, uses: 0, window: NONE, flags: 0 }
    }

    pub(super) fn opaque(layout: u32, bytes: u64) -> Self {
        Self { offset: bytes, flags: OPAQUE, ..Self::new(layout, Home::Pool) }
    }

    pub(super) fn home(&self) -> Home {
        match self.array {
            NONE => Home::Pool,
            array => Home::Window { array: ArrayId(array), offset: self.offset as usize },
        }
    }

    pub(super) fn layout(&self) -> usize {
        self.layout as usize
    }

    pub(super) fn is_opaque(&self) -> bool {
        self.flags & OPAQUE != 0
    }

    pub(super) fn is_updated(&self) -> bool {
        self.flags & UPDATED != 0
    }

    pub(super) fn update(&mut self) {
        self.flags |= UPDATED;
    }

    /// Forgets what follows from the tasks.
    pub(super) fn unconnect(&mut self) {
        (self.uses, self.window, self.flags) = (0, NONE, self.flags & OPAQUE);
    }
}

/// A layout where values live, and the same in a buffer.
#[derive(Clone, Debug)]
pub(super) struct LayoutRow {
    pub(super) home: Arc<Layout>,
    pub(super) pooled: Arc<Layout>,
    pub(super) bytes: u64,
}

impl LayoutRow {
    pub(super) fn new(home: Layout) -> Self {
        let (bytes, home) = (home.bytes(), Arc::new(home));
        let pooled = if home.is_contiguous() { home.clone() } else { Arc::new(Layout::contiguous(home.dtype, &home.shape)) };
        Self { home, pooled, bytes }
    }
}

/// The layouts of values, each once.
#[derive(Debug, Default)]
pub(super) struct Layouts {
    pub(super) rows: Vec<LayoutRow>,
}

/// What tasks read and write: chunks, and Rust values.
#[derive(Debug, Default)]
pub(super) struct Values {
    pub(super) rows: Vec<ValueRow>,
    pub(super) layouts: Layouts,
    /// Number of result windows.
    pub(super) windows: u32,
}

impl Values {
    pub(super) fn bytes(&self, value: ValueId) -> u64 {
        let row = &self.rows[value.index()];
        if row.is_opaque() { row.offset } else { self.layouts.rows[row.layout()].bytes }
    }

    pub(super) fn table_bytes(&self) -> usize {
        self.rows.capacity() * size_of::<ValueRow>() + self.layouts.rows.len() * (size_of::<LayoutRow>() + 256)
    }
}

/// Parameters start at multiples of this.
pub(super) const UNIT: usize = 8;

/// Parameters of so many bytes that start at this byte, a multiple of [`UNIT`]; `None` beyond the tables: 2^32 units, and bytes of one task.
fn place(start: usize, bytes: usize) -> Option<(u32, u32)> {
    Some((u32::try_from(start / UNIT).ok()?, u32::try_from(bytes).ok()?))
}

/// The bytes of all parameters.
#[derive(Debug, Default)]
pub(super) struct ParamBytes {
    bytes: Vec<u8>,
    /// Where those of the last task are.
    last: (u32, u32),
}

impl ParamBytes {
    /// Adds those of a task, unless they are those of the task before; says where they are. `None` if there is no room for more.
    pub(super) fn add(&mut self, params: &[u8]) -> Option<(u32, u32)> {
        if same(self.get(self.last.0, self.last.1), params) {
            return Some(self.last);
        }
        self.last = place(self.bytes.len(), params.len())?;
        room(&mut self.bytes, params.len() + UNIT);
        self.bytes.extend_from_slice(params);
        self.bytes.resize(self.bytes.len().next_multiple_of(UNIT), 0);
        Some(self.last)
    }

    pub(super) fn get(&self, start: u32, bytes: u32) -> &[u8] {
        &self.bytes[start as usize * UNIT..][..bytes as usize]
    }

    pub(super) fn of(bytes: Vec<u8>) -> Self {
        Self { bytes, last: (0, 0) }
    }

    pub(super) fn all(&self) -> &[u8] {
        &self.bytes
    }

    pub(super) fn has(&self, start: u32, bytes: u32) -> bool {
        (start as usize)
            .checked_mul(UNIT)
            .and_then(|at| at.checked_add(bytes as usize))
            .is_some_and(|end| end <= self.bytes.len())
    }

    pub(super) fn table_bytes(&self) -> usize {
        self.bytes.capacity()
    }

    pub(super) fn shrink(&mut self) {
        self.bytes.shrink_to_fit();
    }
}

/// Edges between tasks, by the task that they start from.
#[derive(Debug, Default)]
pub(super) struct Edges {
    pub(super) successors: Vec<TaskId>,
    /// One more than there are tasks.
    pub(super) starts: Vec<u32>,
    pub(super) predecessors: Vec<u32>,
}

impl Edges {
    pub(super) fn of(&self, task: TaskId) -> &[TaskId] {
        &self.successors[self.starts[task.index()] as usize..self.starts[task.index() + 1] as usize]
    }

    pub(super) fn table_bytes(&self) -> usize {
        (self.successors.capacity() + self.starts.capacity() + self.predecessors.capacity()) * 4
    }
}

/// A group's label, its first task, and how many tasks of that label came before.
#[derive(Clone, Copy, Debug, Serialize, Deserialize)]
pub(super) struct GroupStart {
    pub(super) label: u32,
    pub(super) start: u32,
    pub(super) first: u32,
}

/// The groups: ranges of tasks, one after the other.
#[derive(Debug, Default, Serialize, Deserialize)]
pub(super) struct Groups {
    pub(super) labels: Vec<String>,
    pub(super) rows: Vec<GroupStart>,
}

impl Groups {
    pub(super) fn len(&self) -> usize {
        self.rows.len()
    }

    /// A group of a graph of so many tasks.
    pub(super) fn get(&self, at: usize, tasks: u32) -> Group<'_> {
        let row = self.rows[at];
        let end = self.rows.get(at + 1).map_or(tasks, |next| next.start);
        Group { label: &self.labels[row.label as usize], tasks: row.start..end, first: row.first }
    }

    /// The group of a task.
    pub(super) fn of(&self, task: u32) -> usize {
        self.rows.partition_point(|row| row.start <= task) - 1
    }

    pub(super) fn table_bytes(&self) -> usize {
        self.rows.capacity() * size_of::<GroupStart>()
            + self.labels.iter().map(|l| size_of::<String>() + l.len()).sum::<usize>()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    #[cfg(target_pointer_width = "64")]
    fn parameters_have_room_in_four_billion_units() {
        let last = u32::MAX as usize;
        assert_eq!(place(8 * last, 5), Some((u32::MAX, 5)));
        assert_eq!(place(8 * (last + 1), 5), None, "32 GiB are there");
        assert_eq!((place(0, last), place(0, last + 1)), (Some((0, u32::MAX)), None));
        // 2^32 bytes in all are not too many.
        assert_eq!(place(1 << 32, 8), Some((1 << 29, 8)));
    }

    #[test]
    fn parameters_are_found_where_they_were_put() {
        let mut params = ParamBytes::default();
        let at: Vec<(u32, u32)> =
            [&[1, 2, 3][..], &[1, 2, 3], &[], &[4; 9], &[5]].iter().map(|p| params.add(p).unwrap()).collect();
        assert_eq!(at[0], at[1], "the same again");
        let found: Vec<&[u8]> = at.iter().map(|&(start, bytes)| params.get(start, bytes)).collect();
        assert_eq!(found, [&[1, 2, 3][..], &[1, 2, 3], &[], &[4; 9], &[5]]);
        assert!(params.has(at[4].0, at[4].1) && !params.has(at[4].0 + 1, 1) && !params.has(u32::MAX, u32::MAX));
    }
}
