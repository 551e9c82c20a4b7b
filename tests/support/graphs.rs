//! Task graphs for tests and benches of the scheduler: no bytes, only shapes of dependence.
//!
//! Owns: a kernel with settable packed forms, and makers of chains, trees, maps, Cholesky, random graphs. Must not know: how they
//! are scheduled. Invariant: the same arguments give the same graph.

use std::borrow::Cow;
use std::sync::Arc;

use chunkwise::id::{ArrayId, DeviceId, KernelId, TaskId, ValueId};
use chunkwise::kernel::{Fault, Kernel, Lane, Scratch, Work};
use chunkwise::schedule::{CANNOT, Each, Estimates};
use chunkwise::shape::Form;
use chunkwise::shape::{ChunkMeta, ChunkView, ChunkViewMut, DType, Layout, View};
use chunkwise::task::{GraphBuilder, Operand, TaskGraph};

/// A kernel that is never run.
pub struct TestKernel {
    pub name: &'static str,
    pub forms: Vec<Form>,
    pub lane: Lane,
}

impl Kernel for TestKernel {
    fn name(&self) -> Cow<'static, str> {
        self.name.into()
    }
    fn lane(&self) -> Lane {
        self.lane
    }
    fn work(&self, _: &[u8], _: &[ChunkMeta<'_>]) -> Work {
        Work::default()
    }
    fn input_form(&self, _: &[u8], index: usize) -> Form {
        self.forms.get(index).copied().unwrap_or(Form::Plain)
    }
    fn packed_len(&self, form: u8, operand: ChunkMeta<'_>) -> (DType, usize) {
        (operand.dtype, operand.shape.iter().product::<usize>() + 32 * (usize::from(form) + 1))
    }
    fn run_cpu(&self, _: &[u8], _: &[ChunkView<'_>], _: &mut [ChunkViewMut<'_>], _: &mut Scratch<'_>) -> Result<(), Fault> {
        Ok(())
    }
}

pub fn kernel(name: &'static str, forms: &[Form]) -> Arc<dyn Kernel> {
    Arc::new(TestKernel { name, forms: forms.to_vec(), lane: Lane::Compute })
}

/// A small generator of pseudo-random numbers (xorshift).
#[derive(Clone)]
pub struct Dice(u64);

impl Dice {
    pub fn new(seed: u64) -> Self {
        Self(seed.wrapping_mul(0x9E37_79B9_7F4A_7C15) | 1)
    }
    pub fn next(&mut self) -> u64 {
        self.0 ^= self.0 << 13;
        self.0 ^= self.0 >> 7;
        self.0 ^= self.0 << 17;
        self.0.wrapping_mul(0x2545_F491_4F6C_DD1D) >> 16
    }
    pub fn below(&mut self, n: usize) -> usize {
        (self.next() % n.max(1) as u64) as usize
    }
    pub fn percent(&mut self, p: u32) -> bool {
        self.below(100) < p as usize
    }
}

pub fn write(value: ValueId) -> Operand {
    Operand::of(value)
}

/// A builder with one group, the caller's array and the result, both of `windows` windows of `len` doubles.
pub struct Maker {
    pub b: GraphBuilder,
    given: ArrayId,
    result: ArrayId,
    len: usize,
    handed: usize,
    returned: usize,
}

impl Maker {
    pub fn new(len: usize, given: usize, results: usize) -> Self {
        Self::of(0, len, given, results)
    }
    /// The caller's array has this number.
    pub fn of(source: u64, len: usize, given: usize, results: usize) -> Self {
        let mut b = GraphBuilder::new();
        let (given, result) = (b.source(DType::F64, given * len, source), b.array(DType::F64, results * len, true));
        b.group("test");
        Self { b, given, result, len, handed: 0, returned: 0 }
    }
    /// The next window of the caller's array.
    pub fn given(&mut self) -> ValueId {
        self.handed += 1;
        self.b.window(self.given, (self.handed - 1) * self.len, &Layout::contiguous(DType::F64, &[self.len]))
    }
    /// The next window of the result.
    pub fn result(&mut self) -> (ValueId, usize) {
        self.returned += 1;
        (self.version(self.returned - 1), self.returned - 1)
    }
    /// Another version of a window of the result.
    pub fn version(&mut self, window: usize) -> ValueId {
        self.b.window(self.result, window * self.len, &Layout::contiguous(DType::F64, &[self.len]))
    }
    pub fn pooled(&mut self) -> ValueId {
        self.b.value(DType::F64, &[self.len])
    }
    pub fn task(&mut self, kernel: KernelId, inputs: &[ValueId], outputs: &[Operand]) -> TaskId {
        self.b.task(kernel, &[], &inputs.iter().map(|&v| v.into()).collect::<Vec<_>>(), outputs).expect("made in order")
    }
    pub fn build(self) -> Arc<TaskGraph> {
        Arc::new(self.b.build().expect("a graph"))
    }
}

/// `n` tasks, each from a window of the caller to a window of the result.
pub fn map(n: usize, len: usize) -> Arc<TaskGraph> {
    let mut m = Maker::new(len, n, n);
    let k = m.b.kernel(kernel("map", &[]));
    for _ in 0..n {
        let (a, (r, _)) = (m.given(), m.result());
        m.task(k, &[a], &[write(r)]);
    }
    m.build()
}

/// A binary tree over `n` windows of the caller.
pub fn reduction(n: usize, len: usize) -> Arc<TaskGraph> {
    let mut m = Maker::new(len, n, 1);
    let (first, join) = (m.b.kernel(kernel("partial", &[])), m.b.kernel(kernel("join", &[])));
    let mut level = Vec::new();
    for _ in 0..n {
        let (a, v) = (m.given(), m.b.value(DType::F64, &[2]));
        m.task(first, &[a], &[write(v)]);
        level.push(v);
    }
    while level.len() > 1 {
        let mut next = Vec::new();
        for pair in level.chunks(2) {
            let v = m.b.value(DType::F64, &[2]);
            m.task(join, pair, &[write(v)]);
            next.push(v);
        }
        level = next;
    }
    let (r, _) = m.result();
    m.task(join, &level, &[write(r)]);
    m.build()
}

/// One task after the other, all pooled but the last.
pub fn chain(n: usize, len: usize) -> Arc<TaskGraph> {
    let mut m = Maker::new(len, 1, 1);
    let k = m.b.kernel(kernel("link", &[]));
    let mut last = m.given();
    for i in 0..n {
        let next = if i + 1 == n { m.result().0 } else { m.pooled() };
        m.task(k, &[last], &[write(next)]);
        last = next;
    }
    m.build()
}

/// `repeats` products of a matrix of `n` row slabs with a vector that each product makes anew.
pub fn matvec(source: u64, n: usize, len: usize, repeats: usize) -> Arc<TaskGraph> {
    let mut m = Maker::of(source, len, n, 1);
    let (gemv, gather) = (m.b.kernel(kernel("gemv", &[])), m.b.kernel(kernel("gather", &[])));
    let slabs: Vec<ValueId> = (0..n).map(|_| m.given()).collect();
    let mut x = m.b.value(DType::F64, &[64]);
    m.task(gather, &[], &[write(x)]);
    for repeat in 0..repeats {
        let mut parts = Vec::new();
        for &slab in &slabs {
            let part = m.b.value(DType::F64, &[8]);
            m.task(gemv, &[slab, x], &[write(part)]);
            parts.push(part);
        }
        let small = Layout::contiguous(DType::F64, &[64.min(len)]);
        x = if repeat + 1 == repeats { m.b.window(m.result, 0, &small) } else { m.b.value(DType::F64, &[64]) };
        m.task(gather, &parts, &[write(x)]);
    }
    m.build()
}

/// Tiled Cholesky of `t` x `t` tiles, lower triangle, in sequential column order; `kinds` gives each task's kernel:
/// 0 potrf, 1 trsm, 2 syrk, 3 gemm.
pub fn cholesky(t: usize, len: usize) -> (Arc<TaskGraph>, Vec<usize>) {
    let tiles = t * (t + 1) / 2;
    let mut m = Maker::new(len, tiles, tiles);
    let (p0, p1) = (Form::Packed(0), Form::Packed(1));
    let names = [kernel("potrf", &[]), kernel("trsm", &[]), kernel("syrk", &[p0, p1]), kernel("gemm", &[p0, p1])];
    let ids: Vec<KernelId> = names.into_iter().map(|k| m.b.kernel(k)).collect();
    let at = |i: usize, j: usize| i * (i + 1) / 2 + j;
    let mut current: Vec<ValueId> = (0..tiles).map(|_| m.given()).collect();
    let mut kinds = Vec::new();
    for j in 0..t {
        for k in 0..j {
            for i in j..t {
                let new = m.version(at(i, j));
                let (kind, inputs) = (if i == j { 2 } else { 3 }, [current[at(i, k)], current[at(j, k)]]);
                m.task(ids[kind], &inputs, &[Operand::update(current[at(i, j)], new)]);
                kinds.push(kind);
                current[at(i, j)] = new;
            }
        }
        for i in j..t {
            let new = m.version(at(i, j));
            let diagonal = [current[at(j, j)]];
            let (kind, inputs): (usize, &[ValueId]) = if i == j { (0, &[]) } else { (1, &diagonal) };
            m.task(ids[kind], inputs, &[Operand::update(current[at(i, j)], new)]);
            kinds.push(kind);
            current[at(i, j)] = new;
        }
    }
    (m.build(), kinds)
}

/// Random layered work: reads, writes, updates, several outputs, pooled, windowed and opaque values, packed inputs, I/O tasks.
/// Also says which tasks only the host (false), only the I/O lane (true) can run.
pub fn random(seed: u64, n: usize) -> (Arc<TaskGraph>, Vec<Option<bool>>) {
    let mut dice = Dice::new(seed);
    let len = 8 + dice.below(60);
    let mut m = Maker::of(seed % 3, len, 4, 2 * n);
    let (p0, p1) = (Form::Packed(0), Form::Packed(1));
    let kernels = [
        kernel("plain", &[]),
        kernel("packs", &[p0, p1]),
        kernel("packs one", &[Form::Plain, p1, p0]),
        Arc::new(TestKernel { name: "reads a file", forms: Vec::new(), lane: Lane::Io }) as Arc<dyn Kernel>,
    ];
    let ids: Vec<KernelId> = kernels.into_iter().map(|k| m.b.kernel(k)).collect();
    let mut numbers: Vec<(ValueId, Option<usize>)> = (0..4).map(|_| (m.given(), None)).collect();
    let mut opaque = Vec::new();
    let mut only = Vec::new();
    for _ in 0..n {
        let io = dice.percent(8);
        let rust = dice.percent(10);
        let mut outputs = Vec::new();
        let count = 1 + usize::from(dice.percent(15));
        let mut removed = Vec::new();
        for _ in 0..count {
            let roll = dice.below(100);
            let picked = dice.below(numbers.len());
            let (old, window) = numbers[picked];
            outputs.push(match roll {
                _ if rust && roll < 70 => {
                    let v = m.b.opaque(40 + dice.below(400) as u64);
                    removed.push((None, v, None));
                    write(v)
                }
                0..=39 => {
                    let v = m.pooled();
                    removed.push((None, v, Some(None)));
                    write(v)
                }
                40..=59 => {
                    let (v, w) = m.result();
                    removed.push((None, v, Some(Some(w))));
                    write(v)
                }
                _ if removed.iter().any(|r| r.0 == Some(old)) => {
                    let v = m.pooled();
                    removed.push((None, v, Some(None)));
                    write(v)
                }
                _ => {
                    let (v, w) = match window {
                        Some(w) => (m.version(w), Some(w)),
                        None if roll < 80 => (m.pooled(), None),
                        None => m.result_some(),
                    };
                    removed.push((Some(old), v, Some(w)));
                    Operand::update(old, v)
                }
            });
        }
        let own_old = |v: ValueId| outputs.iter().any(|o| o.updates == Some(v));
        let mut inputs = Vec::new();
        for _ in 0..dice.below(4) {
            let recent = numbers.len().saturating_sub(12);
            let v = numbers[recent + dice.below(numbers.len() - recent)].0;
            if !own_old(v) || dice.percent(10) {
                inputs.push(v);
            }
        }
        let (mut kind, mut host) = (if io { 3 } else { dice.below(3) }, rust);
        if rust && !opaque.is_empty() {
            inputs.insert(0, opaque[dice.below(opaque.len())]);
            kind = if io { 3 } else { 0 };
        }
        host |= inputs.iter().any(|v| opaque.contains(v));
        // Some read the values backwards, or a part of them.
        let mut viewed = Vec::new();
        for &value in &inputs {
            let part = View::whole(&[len]).slice(0, len - 1, 1 + dice.below(len), -1).expect("inside");
            let view = (dice.percent(25) && !opaque.contains(&value)).then(|| m.b.view(&part));
            viewed.push(Operand { view, ..Operand::of(value) });
        }
        m.b.task(ids[kind], &[], &viewed, &outputs).expect("made in order");
        only.push(if io { Some(true) } else { host.then_some(false) });
        for (old, new, number) in removed {
            match number {
                None => opaque.push(new),
                Some(window) => {
                    if let Some(at) = old.and_then(|old| numbers.iter().position(|v| v.0 == old && v.1.is_some())) {
                        numbers.remove(at); // its window is overwritten
                    }
                    numbers.push((new, window));
                }
            }
        }
    }
    (m.build(), only)
}

impl Maker {
    fn result_some(&mut self) -> (ValueId, Option<usize>) {
        let (v, w) = self.result();
        (v, Some(w))
    }
}

/// The same cost for every task.
pub fn uniform(graph: &TaskGraph, device: usize, ns: u64) -> Estimates {
    costs(graph, device, |_| ns)
}

/// A cost by task.
pub fn costs(graph: &TaskGraph, device: usize, ns: impl Fn(TaskId) -> u64) -> Estimates {
    Estimates {
        device: DeviceId::at(device),
        each: Each::Task,
        ns: graph.tasks().map(ns).collect(),
        measured: None,
        compiling_ns: None,
    }
}

/// No task can run there.
pub fn none(graph: &TaskGraph, device: usize) -> Estimates {
    uniform(graph, device, CANNOT)
}
