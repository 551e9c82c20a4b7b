//! The text form of a graph.
//!
//! Owns: how a sealed graph is written down and read back. Must not know: files. Invariant: a graph that is read back schedules as the one that was
//! written; what is no graph is an error, never a panic.

use std::fmt::Write as _;
use std::sync::Arc;

use serde::{Deserialize, Deserializer, Serialize, Serializer};

use super::tables::{Access, Groups, LayoutRow, Layouts, ParamBytes, TaskRow, Use, Uses, ValueRow, Values, Write};
use super::{Facts, HostArray, KernelFacts, NONE, Profile, TaskGraph};
use crate::id::ViewId;
use crate::kernel::Held;
use crate::shape::{Form, Layout, View};

#[derive(Serialize, Deserialize)]
struct Text {
    kernels: Vec<KernelFacts>,
    groups: Groups,
    arrays: Vec<HostArray>,
    tasks: Vec<TaskRow>,
    reads: Vec<Use>,
    writes: Vec<Write>,
    accesses: Vec<(Option<ViewId>, Form, u16, Layout)>,
    views: Vec<View>,
    layouts: Vec<Layout>,
    values: Vec<ValueRow>,
    params: String,
    profiles: Vec<Profile>,
    scratch_bytes: u64,
    held: Vec<Held>,
}

impl Serialize for TaskGraph {
    fn serialize<S: Serializer>(&self, to: S) -> Result<S::Ok, S::Error> {
        let accesses = self.operands.accesses.iter().map(|a| (a.view, a.form, a.copy, (*a.layout).clone()));
        let mut params = String::new();
        for byte in self.params.all() {
            let _ = write!(params, "{byte:02x}"); // a string takes all
        }
        let text = Text {
            kernels: self.kernels.clone(),
            groups: Groups { labels: self.groups.labels.clone(), rows: self.groups.rows.clone() },
            arrays: self.arrays.clone(),
            tasks: self.tasks.clone(),
            reads: self.operands.reads.clone(),
            writes: self.operands.writes.clone(),
            accesses: accesses.collect(),
            views: self.operands.views.iter().map(|view| (**view).clone()).collect(),
            layouts: self.values.layouts.rows.iter().map(|row| (*row.home).clone()).collect(),
            values: self.values.rows.clone(),
            params,
            profiles: self.profiles.clone(),
            scratch_bytes: self.facts.scratch_bytes,
            held: self.facts.held.clone(),
        };
        text.serialize(to)
    }
}

impl<'de> Deserialize<'de> for TaskGraph {
    fn deserialize<D: Deserializer<'de>>(from: D) -> Result<Self, D::Error> {
        Text::deserialize(from)?.graph().map_err(serde::de::Error::custom)
    }
}

impl Text {
    fn graph(self) -> Result<TaskGraph, &'static str> {
        self.check()?;
        let bytes = self.params.as_bytes().chunks(2).map(|pair| {
            let digit = |byte: Option<&u8>| char::from(*byte?).to_digit(16);
            Some((digit(pair.first())? * 16 + digit(pair.get(1))?) as u8)
        });
        let bytes: Vec<u8> = bytes.collect::<Option<_>>().ok_or("parameters that are no bytes")?;
        let accesses =
            self.accesses.into_iter().map(|(view, form, copy, layout)| Access { view, form, copy, layout: layout.into() });
        let mut graph = TaskGraph {
            kernels: self.kernels,
            groups: self.groups,
            arrays: self.arrays,
            tasks: self.tasks,
            operands: Uses {
                reads: self.reads,
                writes: self.writes,
                accesses: accesses.collect(),
                view_shapes: self.views.iter().map(|view| view.shape().into()).collect(),
                views: self.views.into_iter().map(Arc::new).collect(),
            },
            values: Values {
                rows: self.values,
                layouts: Layouts { rows: self.layouts.into_iter().map(LayoutRow::new).collect() },
                windows: 0,
            },
            params: ParamBytes::of(bytes),
            profiles: self.profiles,
            edges: super::tables::Edges::default(),
            facts: Facts { scratch_bytes: self.scratch_bytes, held: self.held, ..Facts::default() },
        };
        let inside = |row: &TaskRow| graph.params.has(row.params, row.params_bytes);
        if !graph.tasks.iter().all(inside) {
            return Err("parameters beyond the end");
        }
        graph.values.rows.iter_mut().for_each(ValueRow::unconnect);
        graph.connect();
        graph.check_windows().map_err(|_| "windows of a result that overlap")?;
        Ok(graph)
    }

    /// Whether every number is one of something that is there.
    fn check(&self) -> Result<(), &'static str> {
        let Some(last) = self.tasks.last() else { return Err("no end of the tasks") };
        let ends = (last.reads as usize, last.writes as usize) == (self.reads.len(), self.writes.len());
        let rising = self.tasks.windows(2).all(|rows| rows[0].reads <= rows[1].reads && rows[0].writes <= rows[1].writes);
        if !ends || !rising {
            return Err("operands that no task has");
        }
        let tasks = self.tasks.len() - 1;
        let profiles = self.tasks[..tasks].iter().all(|row| (row.profile as usize) < self.profiles.len());
        if !profiles || !self.profiles.iter().all(|profile| profile.kernel.index() < self.kernels.len()) {
            return Err("a task without a kernel");
        }
        let labels =
            self.groups.rows.iter().all(|row| (row.label as usize) < self.groups.labels.len() && row.start as usize <= tasks);
        if !labels || (tasks > 0 && self.groups.rows.first().is_none_or(|first| first.start > 0)) {
            return Err("a task without a group");
        }
        let countable = |layout: &Layout| {
            let bytes = layout.shape.iter().try_fold(16usize, |bytes, &n| bytes.checked_mul(n.max(1)));
            layout.strides.len() == layout.shape.len() && bytes.is_some_and(|bytes| bytes < isize::MAX as usize)
        };
        if !self.layouts.iter().chain(self.accesses.iter().map(|a| &a.3)).all(countable) {
            return Err("a layout of more elements than there can be");
        }
        let views = |view: &Option<ViewId>| view.is_none_or(|view| view.index() < self.views.len());
        let accesses = |a: &(Option<ViewId>, Form, u16, Layout)| views(&a.0) && (a.2 as usize) < self.accesses.len();
        if self.accesses.is_empty() || !self.accesses.iter().all(accesses) {
            return Err("a form of nothing");
        }
        self.check_values(tasks)
    }

    fn check_values(&self, tasks: usize) -> Result<(), &'static str> {
        for row in &self.values {
            let layout = self.layouts.get(row.layout()).ok_or("a value without a layout")?;
            let end = layout.checked_span().and_then(|span| span.checked_add(row.offset as usize));
            let inside = match row.home() {
                super::Home::Pool => true,
                super::Home::Window { array, .. } => {
                    self.arrays.get(array.index()).is_some_and(|array| end.is_some_and(|end| end <= array.len))
                }
            };
            if !inside || (row.producer != NONE && row.producer as usize >= tasks) {
                return Err("a value outside its array");
            }
        }
        // Each task writes what it is the producer of, and reads what was there before.
        for task in 0..tasks {
            let [row, next] = [self.tasks[task], self.tasks[task + 1]];
            let before =
                |value: usize| self.values.get(value).is_some_and(|v| v.producer == NONE || (v.producer as usize) < task);
            let reads = &self.reads[row.reads as usize..next.reads as usize];
            if !reads.iter().all(|read| before(read.value.index()) && (read.access as usize) < self.accesses.len()) {
                return Err("a task that reads what is not there");
            }
            let writes = &self.writes[row.writes as usize..next.writes as usize];
            let own = |write: &Write| {
                self.values.get(write.value.index()).is_some_and(|v| v.producer as usize == task)
                    && write.updates().is_none_or(|old| before(old.index()))
            };
            if !writes.iter().all(own) {
                return Err("a task that writes what is another's");
            }
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use crate::id::TaskId;
    use crate::kernel::{Fault, Kernel, Scratch, Work};
    use crate::shape::{ChunkMeta, ChunkView, ChunkViewMut, DType, Layout, View};
    use crate::task::{GraphBuilder, Operand, TaskGraph};

    /// Takes all, and is never run.
    struct Some;

    impl Kernel for Some {
        fn name(&self) -> std::borrow::Cow<'static, str> {
            "some".into()
        }
        fn work(&self, _: &[u8], _: &[ChunkMeta<'_>]) -> Work {
            Work { flops: f64::NAN, bytes: f64::INFINITY }
        }
        fn run_cpu(&self, _: &[u8], _: &[ChunkView<'_>], _: &mut [ChunkViewMut<'_>], _: &mut Scratch<'_>) -> Result<(), Fault> {
            Ok(())
        }
    }

    fn graph() -> TaskGraph {
        let mut graph = GraphBuilder::new();
        let add = graph.kernel(Arc::new(Some));
        let (given, result) = (graph.source(DType::F64, 8, 3), graph.array(DType::F64, 8, true));
        let half = Layout { dtype: DType::F64, shape: vec![4], strides: vec![2] };
        let (a, b) = (graph.window(given, 0, &half), graph.window(given, 1, &half));
        let flip = graph.view(&View::whole(&[4]).slice(0, 3, 4, -1).unwrap());
        let (sum, opaque) = (graph.value(DType::F64, &[4]), graph.opaque(70));
        graph.group("first");
        graph.task(add, &[1, 2, 3], &[a.into(), Operand::viewed(b, flip)], &[Operand::of(sum), Operand::of(opaque)]).unwrap();
        graph.group("second");
        let [out, more] = [0, 4].map(|at| graph.window(result, at, &Layout::contiguous(DType::F64, &[4])));
        graph.update(add, &[], &[a], sum, out).unwrap();
        graph.write(add, &[9; 20], &[sum, out], more).unwrap();
        graph.build().unwrap()
    }

    #[test]
    fn a_graph_is_read_back_as_it_was() {
        let graph = graph();
        let text = serde_json::to_string(&graph).unwrap();
        let again: TaskGraph = serde_json::from_str(&text).unwrap();
        assert_eq!(serde_json::to_string(&again).unwrap(), text);
        for task in graph.tasks() {
            assert_eq!(graph.task_name(task), again.task_name(task));
            assert_eq!((graph.params(task), graph.successors(task)), (again.params(task), again.successors(task)));
            assert!(graph.inputs(task).eq(again.inputs(task)) && graph.outputs(task).eq(again.outputs(task)));
        }
        assert!(graph.values().all(|v| graph.use_count(v) == again.use_count(v) && graph.window_id(v) == again.window_id(v)));
        assert_eq!((again.params(TaskId(0)), again.params(TaskId(2)).len()), (&[1, 2, 3][..], 20));
    }

    #[test]
    fn what_is_no_graph_is_an_error() {
        let text = serde_json::to_string(&graph()).unwrap();
        // Every number changed, one at a time: an error, or another graph, but no panic.
        let digits: Vec<usize> = text.char_indices().filter(|(_, c)| c.is_ascii_digit()).map(|(at, _)| at).collect();
        let mut errors = 0;
        for at in digits {
            for digit in ['0', '7', '9'] {
                let mut changed = text.clone();
                changed.replace_range(at..=at, &digit.to_string());
                errors += usize::from(serde_json::from_str::<TaskGraph>(&changed).is_err());
            }
        }
        assert!(errors > 50, "{errors}");
    }
}
