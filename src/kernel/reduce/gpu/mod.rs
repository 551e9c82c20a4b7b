//! The GPU half of a reduction: WGSL made from its program and its fold.
//!
//! Owns: how elements are shared out, [`ReduceModules`]. Must not know: any GPU API, tasks. Invariant: which elements are joined with which follows from shape and axes alone, and how
//! operands lie; so do the bits.
//!
//! Where the elements of a result lie next to each other (`Along`), some invocations, of one workgroup, take in runs of them, and join what these come to in workgroup memory. Where results lie
//! next to each other (`Across`), an invocation makes four of them. In either way a result of very many elements is made of parts, by a second pass.
//!
//! A sum of `f32` is in `f64`, as on a CPU; on a GPU without `f64` it is in `f32`, with an error below `(48 + len / 2^21) u sum |x|`, `u` = 2^-24 (runs of 32 at most, then trees), and
//! infinite where a part of it is beyond the largest `f32`. On a GPU that lacks `f64` or 64-bit integers (`narrow`) integers have the same bits as elsewhere; a product of `f32` is right to
//! `len 2^-61`, also where parts of it leave the range of `f64`; the moments of `f32` are right to `(300 + 500 r) u`, where the most distant elements are `r` standard deviations apart,
//! wherever they lie, but a sum of squares is 0 below 2^-126 and infinite beyond the largest `f32`.

mod entries;
mod folds;
mod narrow;

use std::collections::HashMap;
use std::fmt::Write;
use std::sync::{Arc, Mutex, PoisonError};

use entries::{across, along, shared};
use folds::{GpuFold, RUN};
pub(super) use narrow::before_widening;

use super::Reduction;
use super::nest::nearest;
use crate::kernel::generate::GpuFeeds;
use crate::kernel::map::ScalarProgram;
use crate::kernel::map::wgsl::{self, GpuTraits, MapForm, MapInputs, MapLayout, ModuleText, Starts};
use crate::kernel::{GpuFacts, Pass, Program, Shader, Work};
use crate::shape::{ChunkMeta, DType, Layout, Lies};

/// Invocations of a workgroup.
const GROUP: usize = 256;
/// Elements that an invocation takes in for one result, where they lie next to each other.
const EACH: usize = 4 * 8;
/// Elements of a chunk, fewer than this: so that `u32` hold all counts and sums of them.
const MOST_ELEMENTS: usize = 1 << 31;
/// Parts of a result, at most, where results lie next to each other.
const PARTS: usize = 1024;

/// How elements are shared out.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
enum Sharing {
    /// A result to so many invocations.
    Along(usize),
    /// Four results to one.
    Across,
}

/// What tells the modules of one reduction apart.
#[derive(Clone, PartialEq, Eq, Hash)]
struct ReduceModuleKey {
    form: MapForm,
    /// What makes inputs.
    made: Vec<String>,
    sharing: Sharing,
    /// Whether results are made of parts.
    in_parts: bool,
    traits: GpuTraits,
    /// Reduced axes, where elements are numbered.
    numbered: usize,
    /// Whether there is nothing of 64 bits.
    is_narrow: bool,
}

/// The modules of one reduction, made when they are asked for.
#[derive(Default)]
pub(super) struct ReduceModules {
    made: Mutex<HashMap<ReduceModuleKey, Arc<Shader>>>,
}

/// What is reduced, along which axes, and of which elements.
pub(super) struct GpuReduction<'a> {
    pub(super) what: Reduction,
    pub(super) axes: &'a [usize],
    /// Extents of the whole along these, and where the chunk begins in them: where elements are numbered.
    pub(super) extents: &'a [u64],
    pub(super) starts: &'a [u64],
    pub(super) program: &'a ScalarProgram,
    /// The program without the cast to 64 bits in which it ends.
    pub(super) before_widening: Option<&'a ScalarProgram>,
    /// What makes those of its inputs that are no chunks, for chunks of this shape, with their axes in the order that is asked for.
    pub(super) shape: &'a [usize],
    pub(super) feeds: &'a dyn Fn(&[usize]) -> Option<GpuFeeds>,
    /// What becomes of results, if the chunk is the whole; else they are kept as words.
    pub(super) after: Option<Arc<ScalarProgram>>,
}

impl GpuReduction<'_> {
    /// Whether these are its operands, as many as can be counted, and any GPU can do it.
    fn takes(&self, operands: &[ChunkMeta<'_>]) -> bool {
        let Some((out, chunks)) = operands.split_last() else { return false };
        let (gives, words) = match &self.after {
            Some(after) => (after.dtype(), None),
            None => {
                let (dtype, words) = self.what.partial(self.program.dtype());
                (dtype, Some(words))
            }
        };
        // What is made has no bytes that would bound how much there is of it.
        let all = self.shape.iter().try_fold(1usize, |all, &n| all.checked_mul(n));
        let is_countable = all.is_some_and(|all| (1..MOST_ELEMENTS).contains(&all));
        let kept = (0..self.shape.len()).filter(|axis| !self.axes.contains(axis)).map(|axis| self.shape[axis]);
        let is_written = gives.bytes() >= 4 || gives == DType::Bool;
        is_countable
            && is_written
            && self.axes.iter().all(|&axis| axis < self.shape.len())
            && chunks.iter().all(|chunk| chunk.shape == self.shape)
            && out.dtype == gives
            && words.into_iter().chain(kept).eq(out.shape.iter().copied())
            && wgsl::missing(self.program).is_none()
            && self.after.as_ref().is_none_or(|after| wgsl::missing(after).is_none())
    }
}

impl<'a> GpuReduction<'a> {
    /// Whether its fold would take numbers of 64 bits that a GPU lacks.
    fn needs_64_bits(&self, gpu: &GpuFacts) -> bool {
        match (self.what, self.program.dtype()) {
            (Reduction::Min | Reduction::Max, DType::F32) => false,
            (Reduction::Sum, DType::F32) => !gpu.f64,
            (_, dtype) if dtype.is_integer() => !gpu.i64,
            // Bits of `f64` are looked at as integers.
            _ => !(gpu.f64 && gpu.i64),
        }
    }

    /// The same of what is there before it is widened; `None` if that has 64 bits too. What is to be done afterwards has them: that is left to another.
    fn narrowed(&self) -> Option<GpuReduction<'a>> {
        let program = match self.program.dtype() {
            DType::F32 => self.program,
            _ => self.before_widening?,
        };
        self.after.is_none().then_some(GpuReduction { program, after: None, ..*self })
    }
}

/// How much there is of what.
struct Shares {
    /// Elements of a result.
    len: usize,
    /// Results.
    kept: usize,
    /// Parts of a result.
    parts: usize,
    /// Elements of a part.
    part: usize,
}

impl ReduceModules {
    /// The program that reduces; `None` if this GPU cannot, or no GPU. Operands: the inputs, then the words of results.
    pub(super) fn program(
        &self,
        of: &GpuReduction<'_>,
        operands: &[ChunkMeta<'_>],
        most: impl FnOnce() -> Work,
        gpu: &GpuFacts,
    ) -> Option<Program> {
        let (_, chunks) = operands.split_last()?;
        let shape = of.shape;
        if !of.takes(operands) || !gpu.can_bind(operands) {
            return None;
        }
        let is_narrow = of.needs_64_bits(gpu);
        let narrowed = if is_narrow { Some(of.narrowed()?) } else { None };
        let of = narrowed.as_ref().unwrap_or(of);
        let kept: Vec<usize> = (0..shape.len()).filter(|axis| !of.axes.contains(axis)).collect();
        let extent = |axes: &[usize]| axes.iter().map(|&axis| shape[axis]).product::<usize>();
        let len = extent(of.axes);
        let mut counts = Shares { len, kept: extent(&kept), parts: 1, part: len };
        let is_along = counts.kept == 1 || nearest(shape, chunks).is_none_or(|axis| of.axes.contains(&axis));
        let order: Vec<usize> = match is_along {
            true => kept.iter().chain(of.axes).copied().collect(),
            false => of.axes.iter().chain(&kept).copied().collect(),
        };
        let sharing = share(&mut counts, is_along);
        let row = if is_along { counts.len } else { counts.kept };
        let starts = if row.is_multiple_of(4) { Starts::AtFours } else { Starts::Anywhere };
        let ordered: Vec<usize> = order.iter().map(|&axis| shape[axis]).collect();
        let (layouts, feeds) = (in_order(chunks, &order), (of.feeds)(&order)?);
        let chunks: Vec<ChunkMeta<'_>> = layouts.iter().map(|lies| viewed(lies, &ordered)).collect();
        let inputs = MapInputs::new(of.program, &chunks, &feeds, &ordered)?;
        let MapLayout { form, params } = MapLayout::of(&inputs.all, &ordered, starts)?;
        let numbers = numbers(of, shape);
        let own = [counts.len * counts.kept, 0, counts.len, counts.kept, counts.parts, counts.part].map(|n| n as u32);
        let params: Vec<u32> = own.into_iter().chain(numbers).chain(params).collect();
        let numbered = if of.what.is_numbered() { of.axes.len() } else { 0 };
        let key = ReduceModuleKey {
            form,
            made: inputs.texts(),
            sharing,
            in_parts: counts.parts > 1,
            traits: gpu.into(),
            is_narrow,
            numbered,
        };
        let fold = GpuFold::new(of.what, of.program.dtype(), is_narrow);
        let shader = self.shader(of, key);
        let real = if shader.needs_f64() { DType::F64 } else { DType::F32 };
        let mut program = Program::new(&shader, real, &params, passes(&counts, sharing), most());
        program.scratch_bytes = if counts.parts > 1 { (counts.kept * counts.parts * fold.part_bytes()) as u64 } else { 0 };
        program.fitting(gpu, operands)
    }

    fn shader(&self, of: &GpuReduction<'_>, key: ReduceModuleKey) -> Arc<Shader> {
        let mut made = self.made.lock().unwrap_or_else(PoisonError::into_inner);
        made.entry(key).or_insert_with_key(|key| Arc::new(shader(of, key))).clone()
    }
}

/// Shares elements out.
fn share(counts: &mut Shares, is_along: bool) -> Sharing {
    if !is_along {
        let parts = counts.len.div_ceil(RUN).min(PARTS);
        counts.part = counts.len.div_ceil(parts.max(1));
        counts.parts = counts.len.div_ceil(counts.part.max(1));
        return Sharing::Across;
    }
    let each = [1, 4, 16, 64].into_iter().find(|each| each * EACH >= counts.len).unwrap_or(GROUP);
    counts.part = each * EACH;
    counts.parts = counts.len.div_ceil(counts.part);
    Sharing::Along(each)
}

fn passes(counts: &Shares, sharing: Sharing) -> Vec<Pass> {
    let fours = counts.kept.div_ceil(4);
    let first = match sharing {
        Sharing::Along(each) => (counts.kept * counts.parts).div_ceil(GROUP / each),
        Sharing::Across => (fours * counts.parts).div_ceil(GROUP),
    };
    let mut passes = vec![Pass::new("first", first as u64, 0)];
    if counts.parts > 1 {
        let last = if sharing == Sharing::Across { fours.div_ceil(GROUP) } else { counts.kept };
        passes.push(Pass::new("last", last as u64, 0));
    }
    passes
}

/// How operands lie, with their axes in another order.
fn in_order(chunks: &[ChunkMeta<'_>], order: &[usize]) -> Vec<(usize, Layout)> {
    let of = |chunk: &ChunkMeta<'_>| {
        let whole = Layout::contiguous(chunk.dtype, chunk.shape);
        let offset = chunk.lies.map_or(0, |lies| lies.offset);
        let strides = chunk.lies.map_or(whole.strides.clone(), |lies| lies.strides.to_vec());
        (offset, Layout { strides, ..whole }.reordered(order))
    };
    chunks.iter().map(of).collect()
}

fn viewed<'a>((offset, layout): &'a (usize, Layout), shape: &'a [usize]) -> ChunkMeta<'a> {
    let lies = Lies { offset: *offset, strides: &layout.strides };
    ChunkMeta { lies: Some(lies), ..ChunkMeta::new(layout.dtype, shape) }
}

/// Of numbered elements: the number of the chunk's first one, and for each reduced axis its extent in the chunk and how far apart numbers along it are.
fn numbers(of: &GpuReduction<'_>, shape: &[usize]) -> Vec<u32> {
    if !of.what.is_numbered() {
        return Vec::new();
    }
    let (mut words, mut base, mut step) = (Vec::new(), 0u64, 1u64);
    let two = |n: u64| [n as u32, (n >> 32) as u32];
    for (at, &axis) in of.axes.iter().enumerate().rev() {
        base = base.wrapping_add(of.starts.get(at).copied().unwrap_or(0).wrapping_mul(step));
        let [low, high] = two(step);
        words.extend([shape[axis] as u32, low, high]);
        step = step.wrapping_mul(of.extents.get(at).copied().unwrap_or(1));
    }
    two(base).into_iter().chain(words).collect()
}

fn shader(of: &GpuReduction<'_>, key: &ReduceModuleKey) -> Shader {
    let fold = GpuFold::new(of.what, of.program.dtype(), key.is_narrow);
    let form = &key.form;
    let (mut declarations, inputs) = wgsl::inputs_of(of.program, form);
    let mut own: Vec<String> = ["n", "zero", "len", "kept", "parts", "part"].map(str::to_owned).into();
    if fold.is_numbered() {
        own.extend(["base", "base_high"].map(str::to_owned));
        (0..key.numbered).for_each(|axis| own.extend([format!("d{axis}"), format!("t{axis}"), format!("t{axis}_high")]));
    }
    let (of_y, words) = match &of.after {
        Some(after) => finished(&fold, after, key.traits.simplifies),
        None => fold.write(),
    };
    _ = writeln!(declarations, "@group(0) @binding({}) var<storage, read_write> y: array<{of_y}>;", inputs + 1);
    if key.in_parts {
        _ = writeln!(declarations, "@group(0) @binding({}) var<storage, read_write> parts: array<Part>;", inputs + 2);
    }
    let mut body = key.made.concat() + &fold.text();
    if fold.is_numbered() {
        body.push_str(&if key.is_narrow { whole_in_words(key.numbered) } else { whole(key.numbered) });
    }
    _ = writeln!(body, "fn write(k: u32, a: Part) {{\n{words}}}");
    let mut lines = vec!["let q = i / 4u;".to_owned()];
    wgsl::value(of.program, form, key.traits.simplifies, &mut lines);
    let element = match of.program.dtype() {
        DType::Bool if key.is_narrow => format!("select(U4(0u), U4(1u), {})", wgsl::result_of(of.program)[0]),
        _ => wgsl::result_of(of.program).join(", "),
    };
    lines.push(format!("return run_put(r, {element}, number, here);"));
    body.push_str("fn put(r: Run, i: u32, number: U4, here: B4) -> Run {\n");
    lines.iter().for_each(|line| _ = writeln!(body, "    {line}"));
    body.push_str("}\n");
    let each = match key.sharing {
        Sharing::Along(each) => each,
        Sharing::Across => 1,
    };
    let tree = if key.in_parts && key.sharing != Sharing::Across { GROUP } else { each };
    if tree > 1 {
        for (name, _, scalar) in fold.components() {
            _ = writeln!(declarations, "var<workgroup> shared_{name}: array<{scalar}, {GROUP}>;");
        }
        body.push_str(&shared(&fold));
    }
    body.push_str(&match key.sharing {
        Sharing::Along(each) => along(each, key.in_parts),
        Sharing::Across => across(key.in_parts),
    });
    let fields = form.fields(&own.iter().map(String::as_str).collect::<Vec<_>>());
    let name = format!("reduce {} + {}", of.program.name(), of.what.name());
    let shader = ModuleText { fields, declarations, body }.shader(name, key.traits.mends_quotients);
    let shared = if tree > 1 { fold.shared_bytes() } else { 0 };
    shader.with_operands(inputs as u32, 1).with_workgroup(GROUP as u32, [shared, shared])
}

/// What results are an array of, and the statements that write one, of which this program is made.
fn finished(fold: &GpuFold, after: &ScalarProgram, simplifies: bool) -> (String, String) {
    let mut lines = Vec::new();
    wgsl::applied(after, &fold.result(), simplifies, &mut lines);
    let names = wgsl::result_of(after);
    let (of, value) = match after.dtype() {
        DType::Bool => ("u32".to_owned(), format!("select(0u, 1u, {}.x)", names[0])),
        DType::C64 => ("vec2<f32>".into(), format!("vec2<f32>({}.x, {}.x)", names[0], names[1])),
        DType::C128 => ("vec2<f64>".into(), format!("vec2<f64>({}.x, {}.x)", names[0], names[1])),
        dtype => (dtype.to_string(), format!("{}.x", names[0])),
    };
    lines.push(format!("y[k] = {value};"));
    (of, lines.iter().map(|line| format!("    {line}\n")).collect())
}

/// The number in the whole of an element that has this number in the chunk.
fn whole(axes: usize) -> String {
    let mut text = String::from(
        "fn whole(number: u32) -> u64 {\n    var rest = number;\n    var at = u64(p.base) | (u64(p.base_high) << 32u);\n",
    );
    for axis in 0..axes {
        let here = if axis + 1 < axes { format!("rest % p.d{axis}") } else { "rest".into() };
        _ = writeln!(
            text,
            "    at += u64({here}) * (u64(p.t{axis}) | (u64(p.t{axis}_high) << 32u));\n    rest /= max(p.d{axis}, 1u);"
        );
    }
    text + "    return at;\n}\n"
}

/// The same in two words, the lower one first.
fn whole_in_words(axes: usize) -> String {
    let mut text = String::from(
        "fn whole(number: u32) -> vec2<u32> {\n    var rest = number;\n    var at = vec2<u32>(p.base, p.base_high);\n",
    );
    for axis in 0..axes {
        let here = if axis + 1 < axes { format!("rest % p.d{axis}") } else { "rest".into() };
        _ = writeln!(
            text,
            "    at = u_multiply_add(at, {here}, vec2<u32>(p.t{axis}, p.t{axis}_high));\n    rest /= max(p.d{axis}, 1u);"
        );
    }
    text + "    return at;\n}\n"
}
