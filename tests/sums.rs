//! Sums of stored arrays: the same bits whoever else reads them.
//!
//! Owns: a source with storage chunks, some of which were never written. Must not know: how sums are made. Invariant: what a reduction gives follows from the
//! expression alone, so each is made alone and beside others, and the bits are compared.

use std::sync::Arc;

use chunkwise::ext::{ChunkSource, ChunkView, ChunkViewMut, Lane, Layout, Region, Scalar};
use chunkwise::prelude::*;
use chunkwise::{Array, compute_all};
use ndarray::{ArrayD, IxDyn};
use proptest::prelude::*;

/// An array in storage chunks; those of which all is 0.25 were never written.
struct Stored {
    elements: ArrayD<f64>,
    storage: Vec<usize>,
}

impl Stored {
    /// Numbers whose sum depends on the order, and holes.
    fn new(shape: &[usize], storage: &[usize], holes: u64) -> Self {
        let hole = |i: &[usize]| {
            let chunk = i.iter().zip(storage).fold(7u64, |h, (&i, &s)| h.wrapping_mul(31).wrapping_add((i / s) as u64));
            holes > 0 && chunk.wrapping_mul(0x9e37_79b9_7f4a_7c15) >> 60 < holes
        };
        let number = |i: &[usize]| {
            let seed = i.iter().fold(1u64, |h, &i| h.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(i as u64 + 1));
            let mantissa = (seed >> 11) as f64 / (1u64 << 53) as f64 - 0.5;
            mantissa * 2f64.powi((seed % 40) as i32)
        };
        let of = |i: IxDyn| {
            let i = ndarray::Dimension::slice(&i);
            if hole(i) { 0.25 } else { number(i) }
        };
        Self { elements: ArrayD::from_shape_fn(IxDyn(shape), of), storage: storage.to_vec() }
    }

    fn part(&self, region: &Region) -> ndarray::ArrayViewD<'_, f64> {
        self.elements.slice_each_axis(|of| {
            let axis = region.axes()[of.axis.index()];
            ndarray::Slice::new(
                axis.start as isize,
                Some((axis.start + (axis.len.max(1) - 1) * axis.step + usize::from(axis.len > 0)) as isize),
                axis.step as isize,
            )
        })
    }
}

impl ChunkSource for Stored {
    fn shape(&self) -> &[usize] {
        self.elements.shape()
    }
    fn dtype(&self) -> DType {
        DType::F64
    }
    fn storage_chunks(&self) -> Option<&[usize]> {
        Some(&self.storage)
    }
    fn name(&self) -> String {
        "stored".into()
    }
    fn version_token(&self) -> String {
        "stored".into()
    }
    fn access(&self) -> String {
        "memory".into()
    }
    fn lane(&self) -> Lane {
        Lane::Compute
    }
    fn converts(&self) -> bool {
        true
    }
    fn constant(&self, region: &Region) -> Option<Scalar> {
        let part = self.part(region);
        (part.len() == region.len() && part.iter().all(|&x| x == 0.25)).then(|| 0.25.into())
    }
    fn read(&self, region: &Region, out: &mut ChunkViewMut<'_>) -> Result<()> {
        let part = self.part(region);
        let layout = Layout::contiguous(out.layout().dtype, &region.shape());
        if layout.dtype == DType::F32 {
            let all: Vec<f32> = part.iter().map(|&x| x as f32).collect();
            out.copy_from(ChunkView::from_slice(&all, &layout));
        } else {
            let all: Vec<f64> = part.iter().copied().collect();
            out.copy_from(ChunkView::from_slice(&all, &layout));
        }
        Ok(())
    }
}

fn session() -> Session {
    Session::builder().threads(2).placement(Placement::Cpu).cache_dir("").build().expect("a session")
}

fn bits(all: &ArrayD<f64>) -> u64 {
    all.first().expect("one number").to_bits()
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 60, ..ProptestConfig::default() })]

    #[test]
    fn a_sum_does_not_depend_on_who_else_reads(
        (rows, columns) in (1usize..40, 1usize..40),
        storage in (1usize..9, 1usize..9),
        chunks in (1usize..30, 1usize..30),
        holes in 0u64..12,
        (from, step) in (0usize..6, 1isize..4),
    ) {
        let session = session();
        let open = |seed: usize| {
            let storage = [storage.0.min(rows) + seed % 2, storage.1.min(columns)];
            let source: Arc<dyn ChunkSource> = Arc::new(Stored::new(&[rows, columns], &storage, holes));
            Array::<f64>::from_source(source).expect("floats").in_session(&session)
        };
        let from = from.min(rows - 1) as isize;
        let of = |x: Array<f64>| x.slice(s![from..;step, ..]).chunks(chunks);
        let (x, w) = (of(open(0)), of(open(1)));
        let alone = [x.mean(), x.sum(), x.weighted_mean(&w), concatenate(Axis(0), &[&x, &w]).mean()].map(|m| bits(&m.compute().expect("computes")));
        let (mean, all) = compute_all((&x.mean(), &x)).expect("computes");
        prop_assert_eq!(bits(&mean), alone[0]);
        prop_assert_eq!(all, x.compute().expect("computes"));
        let (sum, mean, _) = compute_all((&x.sum(), &x.mean(), &x.t())).expect("computes");
        prop_assert_eq!([bits(&mean), bits(&sum)], [alone[0], alone[1]]);
        let (weighted, _) = compute_all((&x.weighted_mean(&w), &w)).expect("computes");
        prop_assert_eq!(bits(&weighted), alone[2]);
        let (weighted, _, mean) = compute_all((&x.weighted_mean(&w), &x, &w.mean())).expect("computes");
        prop_assert_eq!([bits(&weighted), bits(&mean)], [alone[2], bits(&w.mean().compute().expect("computes"))]);
        let (joined, _) = compute_all((&concatenate(Axis(0), &[&x, &w]).mean(), &w)).expect("computes");
        prop_assert_eq!(bits(&joined), alone[3]);
    }
}

/// What an `f32` array has of a file of `f64` are rounded numbers; their mean is that of these.
#[test]
fn a_mean_is_that_of_the_elements() {
    let source: Arc<dyn ChunkSource> = Arc::new(Stored::new(&[100], &[7], 0));
    let x = Array::<f32>::from_source(source).expect("as f32").in_session(&session());
    let (mean, all) = compute_all((&x.mean(), &x)).expect("computes");
    assert_eq!(bits(&mean), bits(&x.mean().compute().expect("computes")));
    let wanted = all.iter().map(|&x| f64::from(x)).sum::<f64>() / 100.0;
    assert!((mean[[]] - wanted).abs() <= 1e-12 * wanted.abs().max(1.0), "{} {wanted}", mean[[]]);
}

/// Storage chunks that are no rows are summed one after the other: other bits than row by row. So a comparison of the two orders can fail.
#[test]
fn these_sums_depend_on_the_order() {
    let source: Arc<dyn ChunkSource> = Arc::new(Stored::new(&[40, 40], &[5, 6], 0));
    let x = Array::<f64>::from_source(source).expect("floats").in_session(&session());
    let copy = Array::from(x.compute().expect("computes")).in_session(&session());
    assert_ne!(bits(&x.sum().compute().expect("computes")), bits(&copy.sum().compute().expect("computes")));
}
