//! What is made of indices alone, as an input of a program: strip by strip, where it is used.
//!
//! Owns: [`Generate`], [`FlatIndices`], the inputs of a program that are no chunks ([`Feeds`]). Must not know: what is made. Invariant: an element follows from its index in the whole
//! array, so a part of a chunk is the same whether it is made with the rest or by itself.

use std::ops::Range;
use std::sync::Arc;

use smallvec::SmallVec;

use super::{Content, GpuFacts, Kernel, KernelKey, OpMix, params};
use crate::shape::{ChunkView, DType, Region, View};

/// A kernel without inputs, any part of whose chunk can be made by itself.
pub(crate) trait Generate: Kernel {
    /// Makes elements of the chunk with these parameters, from C-order number `first` on: their bytes, of `bool` 0 and 1.
    fn part(&self, params: &[u8], dtype: DType, first: usize, out: &mut [u8]);
    /// The parameters of the same chunk with its axes in another order.
    fn reordered(&self, params: &[u8], order: &[usize]) -> Vec<u8>;
    /// The axis along which it is made with less work than along others, if there is one.
    fn nearest(&self, params: &[u8], dtype: DType) -> Option<usize>;
    /// Operations that an element is worth.
    fn mix_of(&self, dtype: DType) -> OpMix;
    /// What that GPU makes other bits of than a CPU, for people, if it does.
    fn inexact_on_gpu(&self, _dtype: DType, _gpu: &GpuFacts) -> Option<String> {
        None
    }
    /// How a GPU makes the chunk of this shape with these parameters; `None` if none can.
    fn on_gpu(&self, _params: &[u8], _dtype: DType, _shape: &[usize]) -> Option<GpuFeed> {
        None
    }
}

/// What makes an input on a GPU: each element follows from its index.
#[derive(Clone, Debug, PartialEq)]
pub(crate) struct GpuFeed {
    pub(crate) indices: FlatIndices,
    /// Its parameters.
    pub(crate) words: Vec<u32>,
    /// WGSL, in which `@` is the input's number: a function `made@(low: U4, high: U4)` of the words of four indices; its parameters are `p.g@_0`, `p.g@_1` and so on.
    pub(crate) text: String,
}

/// Of each input of a program, what makes it; `None` where it is a chunk.
pub(crate) type GpuFeeds = Vec<Option<GpuFeed>>;

/// Of a chunk's elements, the C-order indices in a whole array: an affine map, modulo 2^64.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(crate) struct FlatIndices {
    /// Of the first element.
    start: u64,
    /// Of each axis, its extent and how far apart neighbours are.
    axes: SmallVec<[[u64; 2]; 4]>,
}

impl FlatIndices {
    /// Of one axis: the first index, how many there are, and how far apart.
    pub(crate) fn line(start: u64, extent: usize, apart: u64) -> Self {
        Self { start, axes: SmallVec::from_slice(&[[extent as u64, apart]]) }
    }

    /// Of the first element, and how far apart neighbours are along each axis.
    pub(crate) fn steps(&self) -> (u64, SmallVec<[u64; 4]>) {
        (self.start, self.axes.iter().map(|axis| axis[1]).collect())
    }

    /// Of the part of an array of shape `array` that is this region.
    pub(crate) fn of(array: &[usize], region: &Region) -> Self {
        let (mut start, mut step) = (0u64, 1u64);
        let mut axes = SmallVec::new();
        for (&n, axis) in array.iter().zip(region.axes()).rev() {
            start += axis.start as u64 * step;
            axes.push([axis.len as u64, step * axis.step as u64]);
            step *= (n as u64).max(1);
        }
        axes.reverse();
        Self { start, axes }
    }

    /// Of what a view shows of the chunk.
    pub(crate) fn seen(&self, view: &View) -> Self {
        let moved = |start: u64, (&at, axis): (&usize, &[u64; 2])| start.wrapping_add((at as u64).wrapping_mul(axis[1]));
        let start = view.start().iter().zip(&self.axes).fold(self.start, moved);
        let axes = view.axes().iter().map(|axis| {
            let apart = axis.along.map_or(0, |along| self.axes[along as usize][1].wrapping_mul(axis.step as i64 as u64));
            [axis.extent as u64, apart]
        });
        Self { start, axes: axes.collect() }
    }

    /// Of a part of the chunk.
    pub(crate) fn part(&self, region: &Region) -> Self {
        let ranges = || region.axes().iter().zip(&self.axes);
        let start = ranges().fold(self.start, |at, (range, axis)| at.wrapping_add((range.start as u64).wrapping_mul(axis[1])));
        Self {
            start,
            axes: ranges().map(|(range, axis)| [range.len as u64, axis[1].wrapping_mul(range.step as u64)]).collect(),
        }
    }

    /// With the axes in another order.
    pub(crate) fn reordered(&self, order: &[usize]) -> Self {
        Self { start: self.start, axes: order.iter().map(|&axis| self.axes[axis]).collect() }
    }

    /// The axis along which neighbours are nearest, the last of several, and how far apart they are.
    pub(crate) fn nearest(&self) -> Option<(usize, u64)> {
        let apart = |axis: usize| (self.axes[axis][1] as i64).unsigned_abs();
        let longer = (0..self.axes.len()).rev().filter(|&axis| self.axes[axis][0] > 1);
        longer.min_by_key(|&axis| apart(axis)).map(|axis| (axis, apart(axis)))
    }

    /// Whether C order goes along an axis first.
    pub(crate) fn is_innermost(&self, axis: usize) -> bool {
        self.axes[axis + 1..].iter().all(|axis| axis[0] == 1)
    }

    /// The last axes of which neighbours are equally far apart, as one: its extent and how far apart they are.
    fn inner(&self) -> (u64, u64) {
        let mut run: Option<(u64, u64)> = None;
        for &[extent, apart] in self.axes.iter().rev().filter(|axis| axis[0] != 1) {
            match &mut run {
                None => run = Some((extent, apart)),
                Some((inner, step)) if inner.wrapping_mul(*step) == apart => *inner *= extent,
                Some(_) => break,
            }
        }
        run.unwrap_or((1, 1))
    }

    /// The index of the element with this C-order number.
    fn index(&self, mut number: u64) -> u64 {
        let mut index = self.start;
        for [extent, apart] in self.axes.iter().rev() {
            index = index.wrapping_add((number % extent.max(&1)).wrapping_mul(*apart));
            number /= extent.max(&1);
        }
        index
    }

    /// Calls `each` with pieces of the `count` elements from C-order number `first` on, in order, and the indices of these: the first, and how far the next one is.
    pub(crate) fn runs(&self, first: usize, count: usize, mut each: impl FnMut(Range<usize>, (u64, u64))) {
        let (run, step) = self.inner();
        let mut at = 0;
        while at < count {
            let number = (first + at) as u64;
            let len = ((run - number % run) as usize).min(count - at);
            each(at..at + len, (self.index(number), step));
            at += len;
        }
    }

    /// Puts it at the end of some bytes.
    pub(crate) fn write(&self, bytes: &mut Vec<u8>) {
        bytes.extend_from_slice(&self.start.to_ne_bytes());
        bytes.extend_from_slice(bytemuck::cast_slice(&self.axes));
    }

    /// Of the bytes that it was made to.
    pub(crate) fn read(bytes: &[u8]) -> Self {
        let (start, axes) = bytes.split_at(8);
        Self { start: params(start), axes: axes.chunks_exact(16).map(params).collect() }
    }
}

/// Of the inputs of a program, what makes those that are no chunks.
#[derive(Clone, Default)]
pub(crate) struct Feeds {
    /// Of each input; of none, if all are chunks.
    made: Vec<Option<Arc<dyn Generate>>>,
}

/// An input of a program, for a chunk.
#[derive(Clone)]
pub(crate) enum ProgramInput<'a> {
    Chunk(ChunkView<'a>),
    Made(Piecewise<'a>),
}

/// A chunk that is made piece by piece.
#[derive(Clone)]
pub(crate) struct Piecewise<'a> {
    of: &'a dyn Generate,
    params: std::borrow::Cow<'a, [u8]>,
    dtype: DType,
}

impl Piecewise<'_> {
    /// Makes elements from C-order number `first` on.
    pub(crate) fn part(&self, first: usize, out: &mut [u8]) {
        self.of.part(&self.params, self.dtype, first, out);
    }
}

impl FeedParams<'_> {
    /// The shape of the chunk: that in the parameters, or else that of the first operand, which is a chunk then.
    pub(crate) fn shape_or<'s>(&'s self, first: Option<&'s [usize]>) -> &'s [usize] {
        self.shape.as_deref().or(first).unwrap_or_default()
    }
}

impl<'a> ProgramInput<'a> {
    /// The chunk, if it is one.
    pub(crate) fn chunk(&self) -> Option<&ChunkView<'a>> {
        match self {
            Self::Chunk(view) => Some(view),
            Self::Made(_) => None,
        }
    }

    pub(crate) fn dtype(&self) -> DType {
        match self {
            Self::Chunk(view) => view.layout().dtype,
            Self::Made(made) => made.dtype,
        }
    }
}

/// Parameters of a kernel some of whose inputs are made: its own, the shape of the chunk, those of each input that is made.
pub(crate) struct FeedParams<'a> {
    pub(crate) own: &'a [u8],
    /// Not known if all inputs are chunks.
    shape: Option<Vec<usize>>,
    made: Vec<&'a [u8]>,
}

impl Feeds {
    /// Of a program whose inputs these make, but those that are chunks.
    pub(crate) fn new(made: Vec<Option<Arc<dyn Generate>>>) -> Self {
        Self { made: if made.iter().all(Option::is_none) { Vec::new() } else { made } }
    }

    /// Whether all inputs are chunks.
    pub(crate) fn are_chunks(&self) -> bool {
        self.made.is_empty()
    }

    fn makes(&self, input: usize) -> Option<&Arc<dyn Generate>> {
        self.made.get(input).and_then(Option::as_ref)
    }

    /// Of the inputs' dtypes, those of the chunks.
    pub(crate) fn chunks<'a>(&'a self, dtypes: &'a [DType]) -> impl Iterator<Item = DType> + 'a {
        dtypes.iter().enumerate().filter(|(input, _)| self.makes(*input).is_none()).map(|(_, &dtype)| dtype)
    }

    /// Of each input that is made, the axis along which that is least work.
    pub(crate) fn nearest(&self, dtypes: &[DType], params: &FeedParams<'_>) -> SmallVec<[usize; 4]> {
        let made = self.made.iter().zip(dtypes).filter_map(|(made, dtype)| Some((made.as_ref()?, *dtype)));
        made.zip(&params.made).filter_map(|((made, dtype), params)| made.nearest(params, dtype)).collect()
    }

    /// Operations that the making of an element of each is worth.
    pub(crate) fn mix(&self, dtypes: &[DType]) -> OpMix {
        let each = dtypes.iter().enumerate().filter_map(|(input, &dtype)| Some(self.makes(input)?.mix_of(dtype)));
        each.fold(OpMix::default(), OpMix::with)
    }

    /// Its name, before that of what is done with it: `uniform + `.
    pub(crate) fn name(&self) -> String {
        self.made.iter().flatten().map(|made| made.name() + " + ").collect()
    }

    /// What its results follow from beside the program.
    pub(crate) fn text(&self) -> String {
        let of = |(input, made): (usize, &Option<Arc<dyn Generate>>)| {
            made.as_ref().map(|made| format!("; input {input} {}", KernelKey::new(&**made, 0)))
        };
        self.made.iter().enumerate().filter_map(of).collect()
    }

    /// Whether a kernel with these inputs is the same in any process.
    pub(crate) fn is_local(&self) -> bool {
        self.made.iter().flatten().any(|made| made.content() == Content::Local)
    }

    /// What of them, of these dtypes, that GPU makes other bits of than a CPU.
    pub(crate) fn inexact(&self, dtypes: &[DType], gpu: &GpuFacts) -> Option<String> {
        self.made.iter().zip(dtypes).find_map(|(made, &dtype)| made.as_ref()?.inexact_on_gpu(dtype, gpu))
    }

    /// Whether elements of each take equal time.
    pub(crate) fn are_steady(&self) -> bool {
        self.made.iter().flatten().all(|made| made.is_steady())
    }

    /// The parameters of a kernel for a chunk of this shape, from its own and those of the inputs that are made, in order.
    pub(crate) fn params<'a>(own: &'a [u8], shape: &[usize], made: impl Iterator<Item = &'a [u8]>) -> Vec<u8> {
        let mut bytes = Vec::new();
        let word = |bytes: &mut Vec<u8>, n: usize| bytes.extend_from_slice(&(n as u64).to_ne_bytes());
        word(&mut bytes, shape.len());
        shape.iter().for_each(|&n| word(&mut bytes, n));
        for part in made.chain([own]) {
            word(&mut bytes, part.len());
            bytes.extend_from_slice(part);
        }
        bytes
    }

    /// The parts of such parameters.
    pub(crate) fn split<'a>(&self, mut bytes: &'a [u8]) -> FeedParams<'a> {
        if self.are_chunks() {
            return FeedParams { own: bytes, shape: None, made: Vec::new() };
        }
        let word = |bytes: &mut &'a [u8]| bytes.split_off(..8).map_or(0, |word| params::<u64>(word) as usize);
        let rank = word(&mut bytes);
        let shape = (0..rank).map(|_| word(&mut bytes)).collect();
        let mut part = || {
            let len = word(&mut bytes);
            bytes.split_off(..len).unwrap_or_default()
        };
        let made = self.made.iter().flatten().map(|_| part()).collect();
        FeedParams { own: part(), shape: Some(shape), made }
    }

    /// Of each input that is made, how a GPU makes it for a chunk of this shape, with its axes in this order if one is given; `None` where it is a chunk, or nothing if one cannot be made there.
    pub(crate) fn on_gpu(
        &self,
        dtypes: &[DType],
        params: &FeedParams<'_>,
        (shape, order): (&[usize], Option<&[usize]>),
    ) -> Option<GpuFeeds> {
        let mut made = params.made.iter();
        let of = |(input, &dtype): (usize, &DType)| match self.makes(input) {
            None => Some(None),
            Some(of) => {
                let params = made.next()?;
                let params = order.map_or((*params).into(), |order| std::borrow::Cow::Owned(of.reordered(params, order)));
                Some(Some(of.on_gpu(&params, dtype, shape)?))
            }
        };
        dtypes.iter().enumerate().map(of).collect()
    }

    /// All inputs of a program of these dtypes: the chunks that there are, and what is made, each with its axes in this order if one is given.
    pub(crate) fn all<'a>(
        &'a self,
        dtypes: &[DType],
        params: &FeedParams<'a>,
        chunks: &[ChunkView<'a>],
        order: Option<&[usize]>,
    ) -> SmallVec<[ProgramInput<'a>; 8]> {
        let (mut chunks, mut made) = (chunks.iter(), params.made.iter());
        let of = |(input, &dtype): (usize, &DType)| match self.makes(input) {
            None => chunks.next().map(|view| ProgramInput::Chunk(*view)),
            Some(of) => made.next().map(|params| {
                let params = order.map_or((*params).into(), |order| of.reordered(params, order).into());
                ProgramInput::Made(Piecewise { of: &**of, params, dtype })
            }),
        };
        dtypes.iter().enumerate().filter_map(of).collect()
    }
}
