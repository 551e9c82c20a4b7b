//! What holds of every expression, tried on random ones.
//!
//! Owns: expressions made at random, and the same of ndarray's arrays. Must not know: how expressions are made. Invariant: each is computed as it is planned, as it
//! was written (no pass), and in other chunks; all are ndarray's elements.

use std::sync::{Arc, OnceLock};
use std::time::Instant;

use ndarray::{ArrayD, Axis, IxDyn, Slice, SliceInfoElem};
use proptest::prelude::*;

use super::lower::{Lowering, Root, To};
use super::{Array, Over, concatenate, stack, where_};
use crate::error::Result;
use crate::kernel::{Fault, Kernel, Lane, Scratch, Work, for_each_piece};
use crate::runtime::{Inside, Session};
use crate::shape::{ChunkMeta, ChunkView, ChunkViewMut, DType, Layout, Region};
use crate::task::ChunkSource;

pub(super) fn session() -> &'static Session {
    static SESSION: OnceLock<Session> = OnceLock::new();
    SESSION
        .get_or_init(|| Session::builder().threads(2).placement(crate::schedule::Placement::Cpu).cache_dir("").build().unwrap())
}

/// Three times each element and one.
struct Thrice;

impl Kernel for Thrice {
    fn name(&self) -> std::borrow::Cow<'static, str> {
        "thrice".into()
    }
    fn work(&self, _: &[u8], operands: &[ChunkMeta<'_>]) -> Work {
        Work { flops: 2.0 * operands[0].shape.iter().product::<usize>() as f64, bytes: 0.0 }
    }
    fn run_cpu(
        &self,
        _: &[u8],
        inputs: &[ChunkView<'_>],
        outputs: &mut [ChunkViewMut<'_>],
        _: &mut Scratch<'_>,
    ) -> std::result::Result<(), Fault> {
        for_each_piece::<[i64; 1], i64>(inputs, &mut outputs[0], |[x], out| {
            out.iter_mut().zip(x).for_each(|(out, &x)| *out = x.wrapping_mul(3).wrapping_add(1));
        });
        Ok(())
    }
}

/// A source with storage chunks, which gives what an array has.
struct Given(ArrayD<i64>, Vec<usize>);

impl ChunkSource for Given {
    fn shape(&self) -> &[usize] {
        self.0.shape()
    }
    fn dtype(&self) -> DType {
        DType::I64
    }
    fn storage_chunks(&self) -> Option<&[usize]> {
        Some(&self.1)
    }
    fn name(&self) -> String {
        "given".into()
    }
    fn version_token(&self) -> String {
        String::new()
    }
    fn access(&self) -> String {
        String::new()
    }
    fn lane(&self) -> Lane {
        Lane::Compute
    }
    fn read(&self, region: &Region, out: &mut ChunkViewMut<'_>) -> Result<()> {
        let axis = |a: ndarray::AxisDescription| {
            let range = region.axes()[a.axis.0];
            let end = range.start + range.len.saturating_sub(1) * range.step + range.len.min(1);
            Slice::new(range.start as isize, Some(end as isize), range.step as isize)
        };
        let part = self.0.slice_each_axis(axis).as_standard_layout().into_owned();
        let layout = Layout::contiguous(DType::I64, part.shape());
        out.copy_from(ChunkView::from_slice(part.as_slice().unwrap(), &layout));
        Ok(())
    }
}

/// One step: what, and four numbers that say how.
type Step = (u8, [usize; 4]);

/// The leaf of a kind, and its elements.
fn leaf(kind: u8, shape: &[usize], cut: usize) -> (Array<i64>, ArrayD<i64>) {
    let len: usize = shape.iter().product();
    let mut given = ArrayD::from_shape_vec(IxDyn(shape), (0..len as i64).map(|i| i * 7 % 1009).collect()).unwrap();
    let array = match kind % 5 {
        4 => {
            let random = session().rng(u64::from(kind)).integers(0..1009, shape);
            given = random.compute().unwrap();
            random
        }
        0 => Array::from(given.clone()),
        1 => Array::from(given.clone().reversed_axes().as_standard_layout().into_owned().reversed_axes()),
        2 => {
            let stored = shape.iter().map(|&n| (n / 2).max(1)).collect();
            Array::from_source(Arc::new(Given(given.clone(), stored))).unwrap()
        }
        _ => {
            // Backwards in memory.
            let mut turned = given.clone();
            (0..shape.len()).for_each(|a| turned.invert_axis(Axis(a)));
            let mut turned = turned.as_standard_layout().into_owned();
            (0..shape.len()).for_each(|a| turned.invert_axis(Axis(a)));
            Array::from(turned)
        }
    };
    let array = array.in_session(session());
    (if cut > 0 && cut < 4 { array.chunks(cut) } else { array }, given)
}

/// The next step of an array, and of its elements; what does not fit is made to.
fn step(array: Array<i64>, elements: ArrayD<i64>, (kind, [a, b, c, d]): Step) -> (Array<i64>, ArrayD<i64>) {
    let (rank, shape) = (elements.ndim(), elements.shape().to_vec());
    let axis = Axis(a % rank.max(1));
    let n = shape.get(axis.0).copied().unwrap_or(0);
    match kind % 19 {
        0 if rank > 0 => {
            let (from, to) = (b % (n + 1), c % (n + 1));
            let step = [1, 2, 3, -1, -2, -5][d % 6];
            let mut info = vec![SliceInfoElem::Slice { start: 0, end: None, step: 1 }; rank];
            info[axis.0] = SliceInfoElem::Slice { start: from.min(to) as isize, end: Some(from.max(to) as isize), step };
            let sliced = elements.slice(&info[..]).to_owned();
            (array.slice(&info), sliced)
        }
        1 if rank > 0 => {
            let mut order: Vec<usize> = (0..rank).collect();
            order.rotate_left(b % rank);
            order.swap(0, c % rank);
            (array.permute(&order), elements.permuted_axes(order))
        }
        2 => (array.t(), elements.reversed_axes()),
        3 if n > 0 && rank > 0 => (array.index_axis(axis, b % n), elements.index_axis_move(axis, b % n)),
        4 if rank < 5 => (array.insert_axis(Axis(a % (rank + 1))), elements.insert_axis(Axis(a % (rank + 1)))),
        5 if rank < 5 && elements.len() < 2000 => {
            let mut wide = vec![b % 4];
            wide.extend(shape.iter().map(|&n| if n == 1 { c % 3 + 1 } else { n }));
            let repeated = elements.broadcast(wide.clone()).unwrap().to_owned();
            (array.broadcast_to(&wide), repeated)
        }
        6 if rank > 0 => {
            let mut flipped = elements;
            flipped.invert_axis(axis);
            (array.flip(axis), flipped)
        }
        7 => {
            let mut left = elements.len();
            let mut new = Vec::new();
            for divisor in [b % 4 + 1, c % 5 + 1, d % 3 + 1] {
                if left > 0 && left.is_multiple_of(divisor) {
                    new.push(divisor);
                    left /= divisor;
                }
            }
            new.push(left);
            let flat: Vec<i64> = elements.iter().copied().collect();
            let shaped = ArrayD::from_shape_vec(IxDyn(&new), flat).unwrap();
            (array.reshape(&new), shaped)
        }
        8 if rank > 0 && elements.len() < 3000 => {
            let other = array.slice(every(rank, axis.0, b % 3)).chunks(c % 5 + 1);
            let more = elements.slice(&every(rank, axis.0, b % 3)[..]).to_owned();
            let all = ndarray::concatenate(axis, &[elements.view(), more.view(), elements.view()]).unwrap();
            (concatenate(axis, &[&array, &other, &array]), all)
        }
        9 if rank < 5 && elements.len() < 3000 => {
            let at = Axis(a % (rank + 1));
            let backwards = elements.iter().map(|&x| x.wrapping_mul(3).wrapping_add(1)).collect::<Vec<_>>();
            let other = ArrayD::from_shape_vec(IxDyn(&shape), backwards).unwrap();
            let both = ndarray::stack(at, &[elements.view(), other.view()]).unwrap();
            let thrice = array.with_kernel(&[], Arc::new(Thrice), &());
            (stack(at, &[&array, &thrice]), both)
        }
        10 => (array.rechunk(b % 6 + 1), elements),
        13 if rank > 0 && n > 0 => {
            // With one row of its own, along any axis.
            let row = elements.index_axis(axis, b % n).insert_axis(axis).to_owned();
            let other = array.index_axis(axis, b % n).insert_axis(axis);
            let other = if c % 3 == 0 { other.chunks(d % 4 + 1) } else { other };
            let sum = ndarray::Zip::from(&elements).and_broadcast(&row).map_collect(|a, b| a.wrapping_sub(*b));
            (array - other, sum)
        }
        14 => {
            // What several readers have in common, and is worth little.
            let common = &array * 5;
            let chosen = elements.mapv(|x| {
                let y = x.wrapping_mul(5);
                if y.wrapping_add(b as i64) > x { y ^ 3 } else { x.wrapping_sub(y) }
            });
            (where_(&(&common + b as i64).gt(&array), &common ^ 3, &array - &common), chosen)
        }
        15 if rank > 1 => {
            // With its transpose.
            let square = shape.iter().all(|&m| m == shape[0]);
            match square {
                true => {
                    let both = &elements + &elements.t();
                    (&array + array.t(), both)
                }
                false => (-&array, elements.mapv(i64::wrapping_neg)),
            }
        }
        18 => {
            let axes: Vec<usize> = (0..rank).filter(|axis| b >> axis & 1 == 1).collect();
            let over = array.over(&axes[..]).split_every(c % 3 + 2);
            let over = if d % 2 == 0 { over.keep_dims() } else { over };
            let what = if axes.iter().all(|&axis| shape[axis] > 0) { c % 4 } else { 0 };
            let array = [Over::sum, Over::max, Over::min, Over::argmax][what](&over);
            (array, reduced(&elements, &axes, what, d % 2 == 0))
        }
        17 if n > 1 && rank > 0 => {
            // Neighbours: one array seen in two ways.
            let part = |from: usize| {
                let mut info = vec![SliceInfoElem::Slice { start: 0, end: None, step: 1 }; rank];
                info[axis.0] = SliceInfoElem::Slice { start: from as isize, end: Some((from + n - 1) as isize), step: 1 };
                info
            };
            let array = if c % 2 == 0 { &array + 1 } else { array };
            let elements = if c % 2 == 0 { elements + 1 } else { elements };
            let apart = &elements.slice(&part(1)[..]) - &elements.slice(&part(0)[..]);
            (array.slice(part(1)) - array.slice(part(0)), apart)
        }
        16 => {
            let dear = array.cast::<f64>().sqrt().clip(0.0, 1e6);
            let made = elements.mapv(|x| (x as f64).sqrt().clamp(0.0, 1e6).round_ties_even() as i64);
            (dear.round_ties_even().cast(), made)
        }
        11 => {
            let bytes = array.cast::<u8>();
            let bytes = if c % 3 == 0 { bytes.chunks(b % 5 + 1) } else { bytes };
            (bytes.cast(), elements.mapv(|x| i64::from(x as u8)))
        }
        _ => {
            let array = if c % 3 == 0 { array.chunks(b % 7 + 1) } else { array };
            (array.with_kernel(&[], Arc::new(Thrice), &()), elements.mapv(|x| x.wrapping_mul(3).wrapping_add(1)))
        }
    }
}

/// The sum, highest, lowest or number of the first highest along these axes, which go or have extent 1 then.
fn reduced(elements: &ArrayD<i64>, axes: &[usize], what: usize, keeps: bool) -> ArrayD<i64> {
    let shape = elements.shape();
    let kept: Vec<usize> = (0..shape.len()).filter(|axis| !axes.contains(axis)).collect();
    let order: Vec<usize> = kept.iter().chain(axes).copied().collect();
    let rows: Vec<i64> = elements.view().permuted_axes(order).iter().copied().collect();
    let count: usize = axes.iter().map(|&axis| shape[axis]).product();
    let results = (0..kept.iter().map(|&axis| shape[axis]).product()).map(|row: usize| {
        let row = &rows[row * count..][..count];
        let highest = || *row.iter().max().unwrap();
        match what {
            0 => row.iter().fold(0i64, |sum, &x| sum.wrapping_add(x)),
            1 => highest(),
            2 => *row.iter().min().unwrap(),
            _ => row.iter().position(|&x| x == highest()).unwrap() as i64,
        }
    });
    let left = (0..shape.len()).filter(|axis| keeps || kept.contains(axis));
    let left: Vec<usize> = left.map(|axis| if kept.contains(&axis) { shape[axis] } else { 1 }).collect();
    ArrayD::from_shape_vec(IxDyn(&left), results.collect()).unwrap()
}

/// All of an array, but along one axis from an index on.
fn every(rank: usize, axis: usize, from: usize) -> Vec<SliceInfoElem> {
    let whole = SliceInfoElem::Slice { start: 0, end: None, step: 1 };
    let mut info = vec![whole; rank];
    info[axis] = SliceInfoElem::Slice { start: 0, end: None, step: from as isize + 1 };
    info
}

/// The elements, planned without passes.
fn as_written(array: &Array<i64>) -> ArrayD<i64> {
    let root = [Root { expr: &array.node, to: To::Result }];
    let plan = Lowering::within(u64::MAX).plan_as_written(&root).unwrap();
    let results = Inside::submit(session(), plan, Instant::now()).unwrap().wait().unwrap().0;
    super::compute::elements(results.into_iter().flatten().next(), array.shape()).unwrap()
}

proptest! {
    #[test]
    fn any_expression_has_ndarrays_elements(
        kind in 0u8..4,
        shape in prop::collection::vec(prop_oneof![1 => Just(0usize), 9 => 1usize..8], 0..5),
        cut in 0usize..6,
        steps in prop::collection::vec((0u8..19, [0usize..100, 0usize..100, 0usize..100, 0usize..100]), 0..7),
    ) {
        let (mut array, mut elements) = leaf(kind, &shape, cut);
        for &one in &steps {
            (array, elements) = step(array, elements, one);
        }
        prop_assert_eq!(array.shape(), elements.shape());
        prop_assert_eq!(&array.compute().unwrap(), &elements, "as planned");
        prop_assert_eq!(&as_written(&array), &elements, "as written");
        prop_assert_eq!(&array.clone().chunks(cut + 1).compute().unwrap(), &elements, "in other chunks");
        let sum = elements.iter().fold(0i64, |sum, &x| sum.wrapping_add(x));
        prop_assert_eq!(array.sum().compute_scalar().unwrap(), sum);
        if !elements.is_empty() && elements.ndim() > 0 {
            let last = array.index_axis(Axis(0), elements.shape()[0] - 1);
            prop_assert_eq!(last.compute().unwrap(), elements.index_axis(Axis(0), elements.shape()[0] - 1).to_owned());
        }
    }
}
