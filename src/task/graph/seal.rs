//! From what was built to a graph that is data.
//!
//! Owns: [`SealedGraph`], all that kernels are asked before a run. Must not know: devices, prices. Invariant: each kernel is asked once for each task, while
//! nothing is locked; after that a graph is numbers, and needs no kernel to be scheduled, written down or replayed.

use std::collections::HashMap;
use std::collections::hash_map::Entry;
use std::sync::Arc;

use smallvec::SmallVec;

use super::builder::{GraphBuilder, MOST_BYTES, TOO_LARGE};
use super::tables::{Access, TaskRow};
use super::{Facts, KernelFacts, Profile, TaskGraph};
use crate::device::{Data, HostBuffer, Window, input_view};
use crate::error::{Error, Result};
use crate::id::{ArrayId, KernelId, TaskId, ValueId, ViewId};
use crate::kernel::{Held, Kernel, KernelKey, Lane, Work, calm};
use crate::shape::{ChunkMeta, DType, Form, Layout};
use crate::task::Home;

/// A graph, and beside it the kernels that it names.
pub struct SealedGraph {
    /// The graph.
    pub graph: TaskGraph,
    /// Its kernels, by id.
    pub kernels: Vec<Arc<dyn Kernel>>,
}

/// The caller's bytes of an array, where they are known beforehand.
type CallerBytes<'a> = &'a dyn Fn(ArrayId) -> Option<Arc<HostBuffer>>;

impl GraphBuilder {
    /// The finished graph, without the tasks whose outputs nobody needs, and without its kernels: for whoever schedules it only.
    ///
    /// # Errors
    /// As [`GraphBuilder::seal`].
    pub fn build(self) -> Result<TaskGraph> {
        Ok(self.seal(&|_| None)?.graph)
    }

    /// The finished graph, without the tasks whose outputs nobody needs, and its kernels, which have been asked all there is to know of them.
    /// `bytes` are those of a caller's array, at which kernels may look to tell their work. A kernel that panics when it is asked is taken to
    /// have no work, scratch or form: its body has the last word. O(operands).
    ///
    /// # Errors
    /// [`Error::Argument`] if arrays, values and packed forms are too large to be added up, a window leaves its array or is of another dtype, two
    /// windows of a result share an element (but for versions of one chunk, each an update of the one before), or two kernels that are not the same
    /// share a key; why a kernel does not take a task ([`Kernel::check`]).
    pub fn seal(mut self, bytes: CallerBytes<'_>) -> Result<SealedGraph> {
        if let Some(error) = self.wrong.take() {
            return Err(error);
        }
        self.cull();
        let end = (self.operands.reads.len() as u32, self.operands.writes.len() as u32);
        self.tasks.push(TaskRow { profile: 0, reads: end.0, writes: end.1, params: 0, params_bytes: 0 });
        self.tasks.shrink_to_fit();
        self.operands.reads.shrink_to_fit();
        self.operands.writes.shrink_to_fit();
        self.values.rows.shrink_to_fit();
        self.groups.rows.shrink_to_fit();
        self.params.shrink();
        let kernels = std::mem::take(&mut self.kernels);
        let facts = kernels.keys.into_iter().zip(&kernels.all).map(|(key, kernel)| facts_of(key, &**kernel)).collect();
        let mut graph = TaskGraph {
            kernels: facts,
            groups: self.groups,
            arrays: self.arrays,
            tasks: self.tasks,
            operands: self.operands,
            values: self.values,
            params: self.params,
            profiles: Vec::new(),
            edges: super::tables::Edges::default(),
            facts: Facts { held: held(&kernels.all), ..Facts::default() },
        };
        Inquiry::new(self.bytes, bytes).ask(&mut graph, &kernels.all)?;
        graph.connect();
        graph.check_windows()?;
        Ok(SealedGraph { graph, kernels: kernels.all })
    }
}

fn facts_of(key: KernelKey, kernel: &dyn Kernel) -> KernelFacts {
    let asked = calm(|| (kernel.lane(), kernel.is_steady(), kernel.structure(), kernel.reads_views()));
    let (lane, is_steady, structure, reads_views) = asked.unwrap_or((Lane::Compute, false, None, false));
    KernelFacts { key, lane, is_steady, structure, reads_views }
}

/// Work as it can be written down, and added up.
fn sane(work: Work) -> Work {
    let number = |x: f64| if x > 0.0 { x.min(f64::MAX) } else { 0.0 };
    Work { flops: number(work.flops), bytes: number(work.bytes) }
}

/// What these kernels hold, each thing once (two kernels may read one file), and of those that take turns the largest.
fn held(kernels: &[Arc<dyn Kernel>]) -> Vec<Held> {
    let (mut known, mut all) = (HashMap::new(), Vec::<Held>::new());
    for held in kernels.iter().flat_map(|kernel| calm(|| kernel.held()).unwrap_or_default()) {
        let key = held.turns.clone().map_or_else(|| (false, held.what.clone()), |turns| (true, turns.into_owned()));
        match known.entry(key) {
            Entry::Vacant(entry) => {
                entry.insert(all.len());
                all.push(held);
            }
            Entry::Occupied(entry) if all[*entry.get()].bytes < held.bytes => all[*entry.get()] = held,
            Entry::Occupied(_) => {}
        }
    }
    all
}

/// What tells profiles apart: kernel, dtype, and the bits of the work.
type ProfileKey = (KernelId, DType, [u64; 2]);

/// What tells accesses apart: view, form, dtype, the access that is the view alone, number of elements, and of a packed form whose it is.
type AccessKey = (Option<ViewId>, Form, DType, u32, usize, u32);

/// What is found out while kernels are asked.
struct Inquiry<'a> {
    /// Of all arrays, values and forms.
    bytes: u64,
    callers: CallerBytes<'a>,
    profiles: HashMap<ProfileKey, u32>,
    /// Those of the task before: mostly the next has the same.
    last: Option<(ProfileKey, u32)>,
    accesses: HashMap<AccessKey, u32>,
    /// Numbers of what kernels say they pack as; and that of each kernel that was asked.
    families: HashMap<String, u32>,
    family_of: HashMap<KernelId, u32>,
    /// That of the task whose forms are taken.
    family: u32,
    /// The forms of the inputs of the task that is asked.
    forms: Vec<(usize, Form, DType, usize)>,
}

/// The answer for one task.
struct Answer {
    work: Work,
    scratch_bytes: u64,
}

impl<'a> Inquiry<'a> {
    fn new(bytes: u64, callers: CallerBytes<'a>) -> Self {
        Self {
            bytes,
            callers,
            profiles: HashMap::new(),
            last: None,
            accesses: HashMap::new(),
            families: HashMap::new(),
            family_of: HashMap::new(),
            family: 0,
            forms: Vec::new(),
        }
    }

    fn ask(mut self, graph: &mut TaskGraph, kernels: &[Arc<dyn Kernel>]) -> Result<()> {
        let none = Arc::new(Layout::contiguous(DType::U8, &[0]));
        graph.operands.accesses.push(Access { view: None, form: Form::Plain, copy: 0, layout: none });
        for task in 0..graph.len() {
            let kernel = KernelId(graph.tasks[task].profile);
            let answer = self.ask_one(graph, TaskId::at(task), &*kernels[kernel.index()])?;
            graph.facts.scratch_bytes = graph.facts.scratch_bytes.max(answer.scratch_bytes);
            let dtype = graph.first_dtype(TaskId::at(task));
            let key = (kernel, dtype, [answer.work.flops.to_bits(), answer.work.bytes.to_bits()]);
            graph.tasks[task].profile = self.profile(&mut graph.profiles, key, answer.work);
            if !self.forms.is_empty() {
                self.family = self.family(kernel, &*kernels[kernel.index()]);
            }
            self.take_forms(graph, task, &*kernels[kernel.index()])?;
        }
        graph.profiles.shrink_to_fit();
        Ok(())
    }

    /// The number of what a kernel packs as.
    fn family(&mut self, id: KernelId, kernel: &dyn Kernel) -> u32 {
        let Self { families, family_of, .. } = self;
        *family_of.entry(id).or_insert_with(|| {
            let next = families.len() as u32;
            let name = calm(|| kernel.packs_as().into_owned()).unwrap_or_else(|| format!("{id}"));
            *families.entry(name).or_insert(next)
        })
    }

    fn profile(&mut self, profiles: &mut Vec<Profile>, key: ProfileKey, work: Work) -> u32 {
        if let Some((_, known)) = self.last.filter(|last| last.0 == key) {
            return known;
        }
        let number = *self.profiles.entry(key).or_insert_with(|| {
            profiles.push(Profile { kernel: key.0, dtype: key.1, work });
            profiles.len() as u32 - 1
        });
        self.last = Some((key, number));
        number
    }

    /// Asks a task's kernel; what it says of forms lands in `self.forms`. Errs if it does not take the task.
    fn ask_one(&mut self, graph: &TaskGraph, task: TaskId, kernel: &dyn Kernel) -> Result<Answer> {
        let windows = self.windows(graph, task);
        let mut metas: SmallVec<[ChunkMeta<'_>; 4]> = graph.raw_metas(task).collect();
        metas.iter_mut().zip(&windows).for_each(|(meta, window)| meta.data = window.as_ref().map(input_view));
        let params = graph.params(task);
        calm(|| kernel.check(params, &metas)).unwrap_or(Ok(()))?;
        self.forms.clear();
        let work = calm(|| kernel.work(params, &metas)).map_or_else(Work::default, sane);
        let scratch_bytes = calm(|| kernel.scratch_bytes(params, &metas)).unwrap_or_default();
        let forms = &mut self.forms;
        let asked = calm(|| {
            for (index, meta) in metas[..graph.reads_of(task).len()].iter().enumerate() {
                if let form @ Form::Packed(number) = kernel.input_form(params, index) {
                    let (dtype, len) = kernel.packed_len(number, *meta);
                    forms.push((index, form, dtype, len));
                }
            }
        });
        if asked.is_none() {
            forms.clear();
        }
        Ok(Answer { work, scratch_bytes })
    }

    /// What is there beforehand of a task's operands, if anything is: nobody writes a caller's array while the plan lives.
    fn windows(&self, graph: &TaskGraph, task: TaskId) -> Vec<Option<Data>> {
        let of = |value: ValueId| {
            let Home::Window { array, offset } = graph.home(value) else { return None };
            Some(Window::new((self.callers)(array)?, offset, graph.layout(value).clone()))
        };
        let reads = graph.reads_of(task);
        let callers = |value: ValueId| graph.producer(value).is_none() && graph.home(value) != Home::Pool;
        if !reads.iter().any(|read| callers(read.value)) {
            return Vec::new();
        }
        let one = |read: &super::tables::Use| {
            let whole = of(read.value).filter(|_| callers(read.value))?;
            let view = read.access.checked_sub(1).map(|view| &graph.operands.views[view as usize]);
            Some(Data::Host(view.map_or(whole.clone(), |view| whole.viewed(view))))
        };
        reads.iter().map(one).collect()
    }

    /// Replaces the views of a task's inputs by accesses: views and the forms that the kernel asked for.
    fn take_forms(&mut self, graph: &mut TaskGraph, task: usize, kernel: &dyn Kernel) -> Result<()> {
        let reads = graph.tasks[task].reads as usize..graph.tasks[task + 1].reads as usize;
        let viewed = graph.operands.reads[reads.clone()].iter().any(|read| read.access != 0);
        if !viewed && self.forms.is_empty() {
            return Ok(()); // the usual case
        }
        let forms = std::mem::take(&mut self.forms);
        let mut next = forms.iter().peekable();
        for (index, at) in reads.enumerate() {
            let read = graph.operands.reads[at];
            let view = read.access.checked_sub(1).map(ViewId);
            let view = view.filter(|view| !graph.operands.views[view.index()].is_whole(graph.shape(read.value)));
            let mut access = match view {
                Some(view) => self.access(graph, (Some(view), Form::Plain, graph.dtype(read.value)), (0, 0), kernel)?,
                None => 0,
            };
            if let Some(&(_, form, dtype, len)) = next.next_if(|form| form.0 == index) {
                access = self.access(graph, (view, form, dtype), (len, access), kernel)?;
            }
            graph.operands.reads[at].access = access;
        }
        self.forms = forms;
        Ok(())
    }

    /// The number of an access; of a packed form, with this many numbers, and the access that is the view alone.
    fn access(
        &mut self,
        graph: &mut TaskGraph,
        (view, form, dtype): (Option<ViewId>, Form, DType),
        (len, viewed): (usize, u32),
        kernel: &dyn Kernel,
    ) -> Result<u32> {
        let shape = match (form, view) {
            (Form::Plain, Some(view)) => graph.operands.view_shapes[view.index()].to_vec(),
            _ => vec![len],
        };
        let family = if form == Form::Plain { 0 } else { self.family };
        let key = (view, form, dtype, viewed, shape.iter().product(), family);
        if let Some(&known) = self.accesses.get(&key) {
            return Ok(known);
        }
        let bytes = shape.iter().try_fold(dtype.bytes() as u64, |bytes, &n| bytes.checked_mul(n as u64));
        let all = bytes.and_then(|more| more.checked_add(self.bytes)).filter(|&all| all <= MOST_BYTES);
        self.bytes = all.ok_or_else(|| {
            let what = format!("{} {dtype} in a form of {}", shape.iter().fold(1.0, |n, &e| n * e as f64), kernel.name());
            Error::argument("size of a graph", what, TOO_LARGE)
        })?;
        let copy = match (form, view) {
            (Form::Packed(_), _) => viewed as u16, // they are that many at most
            (Form::Plain, _) => graph.operands.accesses.len() as u16,
        };
        if graph.operands.accesses.len() > usize::from(u16::MAX) {
            let found = format!("more than {} views and packed forms of chunks of different shapes", u16::MAX);
            return Err(Error::argument("task graph", found, "chunks of fewer shapes, or fewer views"));
        }
        let layout = Arc::new(Layout::contiguous(dtype, &shape));
        graph.operands.accesses.push(Access { view, form, copy, layout });
        let number = graph.operands.accesses.len() as u32 - 1;
        self.accesses.insert(key, number);
        Ok(number)
    }
}

impl TaskGraph {
    /// As [`TaskGraph::metas`], before the graph is sealed: views are named by the operands themselves.
    fn raw_metas(&self, task: TaskId) -> impl Iterator<Item = ChunkMeta<'_>> {
        let inputs = self.reads_of(task).iter().map(|read| {
            let view = read.access.checked_sub(1).map(|view| &*self.operands.view_shapes[view as usize]);
            ChunkMeta::new(self.dtype(read.value), view.unwrap_or_else(|| self.shape(read.value)))
        });
        inputs.chain(self.writes_of(task).iter().map(|write| {
            let layout = self.layout(write.value);
            ChunkMeta::new(layout.dtype, &layout.shape)
        }))
    }

    /// The dtype that a task's speed depends on: that of its first input, else of its first output.
    fn first_dtype(&self, task: TaskId) -> DType {
        let first = self.reads_of(task).first().map(|read| read.value);
        let first = first.or_else(|| self.writes_of(task).first().map(|write| write.value));
        first.map_or(DType::U8, |value| self.dtype(value))
    }
}

#[cfg(test)]
mod tests {
    use std::borrow::Cow;
    use std::sync::Arc;

    use crate::kernel::sums::Add;
    use crate::kernel::{Fault, Kernel, Scratch, Work};
    use crate::shape::{ChunkMeta, ChunkView, ChunkViewMut, DType, Form, View};
    use crate::task::{GraphBuilder, Operand, PLAIN, TaskGraph};

    /// A kernel whose packed form has so many numbers.
    struct Packs(usize);

    impl Kernel for Packs {
        fn name(&self) -> Cow<'static, str> {
            "packs".into()
        }
        fn work(&self, _: &[u8], _: &[ChunkMeta<'_>]) -> Work {
            Work::default()
        }
        fn input_form(&self, _: &[u8], _: usize) -> Form {
            Form::Packed(0)
        }
        fn packed_len(&self, _: u8, _: ChunkMeta<'_>) -> (DType, usize) {
            (DType::F64, self.0)
        }
        fn run_cpu(&self, _: &[u8], _: &[ChunkView<'_>], _: &mut [ChunkViewMut<'_>], _: &mut Scratch<'_>) -> Result<(), Fault> {
            Ok(())
        }
    }

    #[test]
    fn packed_forms_too_large_to_count_are_refused() {
        for (len, fits) in [(1 << 20, true), ((1 << 61) + 1, false), (1 << 60, false)] {
            let mut graph = GraphBuilder::new();
            let (make, pack) = (graph.kernel(Arc::new(Add)), graph.kernel(Arc::new(Packs(len))));
            graph.group("some");
            let value = graph.value(DType::F64, &[4]);
            graph.write(make, &[], &[], value).unwrap();
            graph.task(pack, &[], &[value.into()], &[]).unwrap();
            let error = graph.build().err().map(|e| e.to_string());
            assert_eq!(error.is_none(), fits, "{len}");
            assert!(error.is_none_or(|e| e.contains("form of packs")), "{len}");
        }
    }

    /// A value read whole, viewed, packed, and viewed and packed.
    fn views() -> TaskGraph {
        let mut graph = GraphBuilder::new();
        let (add, pack) = (graph.kernel(Arc::new(Add)), graph.kernel(Arc::new(Packs(40))));
        graph.group("some");
        let (value, whole) = (graph.value(DType::F64, &[4, 6]), View::whole(&[4, 6]));
        graph.write(add, &[], &[], value).unwrap();
        let turned = graph.view(&whole.permute(&[1, 0]).unwrap());
        let (again, all) = (graph.view(&whole.permute(&[1, 0]).unwrap()), graph.view(&whole));
        assert_eq!(turned, again);
        for (kernel, view) in [(add, None), (add, Some(turned)), (add, Some(all)), (pack, None), (pack, Some(turned))] {
            graph.task(kernel, &[], &[Operand { view, ..Operand::of(value) }], &[]).unwrap();
        }
        graph.build().unwrap()
    }

    #[test]
    fn views_and_forms_are_there_once() {
        let graph = views();
        let at =
            |contiguous| graph.tasks().skip(1).map(|t| graph.residents(t, contiguous).next().unwrap().1.0).collect::<Vec<_>>();
        // With strides, a view costs nothing, and a whole one is none.
        assert_eq!(at(false), [0, 0, 0, 2, 3]);
        assert_eq!(at(true), [0, 1, 0, 0, 1]);
        let value = graph.values().next().unwrap();
        assert_eq!((graph.form_bytes(value, PLAIN), graph.form_layout(crate::id::FormId(1)).shape.clone()), (192, vec![6, 4]));
        assert_eq!(graph.form_bytes(value, crate::id::FormId(3)), 320);
    }

    /// One view of values of two dtypes: each has a copy of its own, packed or not.
    #[test]
    fn copies_of_views_are_of_their_values_dtype() {
        let mut graph = GraphBuilder::new();
        let (add, pack) = (graph.kernel(Arc::new(Add)), graph.kernel(Arc::new(Packs(40))));
        graph.group("some");
        let turned = graph.view(&View::whole(&[4, 6]).permute(&[1, 0]).unwrap());
        for dtype in [DType::F64, DType::F32] {
            let value = graph.value(dtype, &[4, 6]);
            graph.write(add, &[], &[], value).unwrap();
            graph.task(pack, &[], &[Operand::viewed(value, turned)], &[]).unwrap();
        }
        let graph = graph.build().unwrap();
        for (task, dtype) in [(1, DType::F64), (3, DType::F32)] {
            let (value, form) = graph.residents(crate::id::TaskId(task), true).next().unwrap();
            assert_eq!((graph.form_layout(form).dtype, graph.dtype(value)), (dtype, dtype));
        }
    }

    #[test]
    fn views_beyond_a_value_are_refused() {
        let mut graph = GraphBuilder::new();
        let add = graph.kernel(Arc::new(Add));
        graph.group("some");
        let value = graph.value(DType::F64, &[4]);
        graph.write(add, &[], &[], value).unwrap();
        let view = graph.view(&View::whole(&[5]));
        assert!(graph.task(add, &[], &[Operand::viewed(value, view)], &[]).is_err());
        assert!(graph.build().expect_err("refused").to_string().contains("view"));
    }
}
