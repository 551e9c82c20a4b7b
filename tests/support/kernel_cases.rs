//! The cases on which GPU halves are tested: every kernel that has one, on ragged sizes.
//!
//! Owns: shapes and numbers. Must not know: devices, bounds. Invariant: the same numbers at every run; what a kernel must not read is NaN.

use std::collections::BTreeMap;

use chunkwise::kernel::Variants;
use chunkwise::kernel::dense::{Gemm, Potrf, PotrfParams, ProductParams, Syrk, Trsm};
use chunkwise::kernel::gemv::Gemv;
use chunkwise::kernel::mandelbrot::{Mandelbrot, MandelbrotParams};
use chunkwise::kernel::peak::{Peak, PeakParams, ReadAll};
use chunkwise::kernel::points::ogrid;
use chunkwise::kernel::reduce::{ReduceChunk, Reduction};
use chunkwise::shape::DType;

use super::lab::{Case, Chunk, Task, Version};

/// Around the sides of blocks, tiles and workgroups.
const SIZES: [usize; 13] = [1, 2, 3, 31, 32, 33, 63, 64, 65, 100, 127, 200, 257];

/// The size that is `step` times further than size `i`, and some: all sizes, as 13 is prime.
fn size(i: usize, step: usize) -> usize {
    SIZES[(i * step + step / 2) % SIZES.len()]
}

/// Pseudo-random numbers in -1..1.
pub struct Numbers(pub u64);

impl Numbers {
    pub fn next(&mut self) -> f64 {
        self.0 = self.0.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
        (self.0 >> 11) as f64 / (1u64 << 52) as f64 - 1.0
    }

    pub fn chunk(&mut self, dtype: DType, shape: &[usize]) -> Chunk {
        Chunk::new(dtype, shape, |_| self.next())
    }

    /// Numbers of very different sizes.
    fn spread(&mut self, dtype: DType, shape: &[usize]) -> Chunk {
        Chunk::new(dtype, shape, |_| self.next() * ((self.next() * 6.0).round()).exp2())
    }

    /// A positive definite matrix, NaN above its diagonal.
    pub fn definite(&mut self, dtype: DType, n: usize) -> Chunk {
        let w = n + 4;
        let q = self.chunk(DType::F64, &[n, w]);
        let rows: Vec<&[f64]> = q.values.chunks(w).collect();
        Chunk::new(dtype, &[n, n], |at| {
            let (i, j) = (at / n, at % n);
            let product = rows[i].iter().zip(rows[j]).map(|(a, b)| a * b).sum::<f64>() / w as f64;
            if j > i { f64::NAN } else { product + if i == j { 0.05 } else { 0.0 } }
        })
    }

    /// A Cholesky factor, NaN above its diagonal.
    pub fn triangle(&mut self, dtype: DType, n: usize) -> Chunk {
        let a = self.definite(DType::F64, n);
        let mut l = a.values.clone();
        for i in 0..n {
            for j in 0..=i {
                let rest = a.at(i, j) - (0..j).map(|p| l[i * n + p] * l[j * n + p]).sum::<f64>();
                l[i * n + j] = if i == j { rest.sqrt() } else { rest / l[j * n + j] };
            }
        }
        Chunk::new(dtype, &[n, n], |at| l[at])
    }
}

fn garbage(dtype: DType, shape: &[usize]) -> Chunk {
    Chunk::new(dtype, shape, |_| if dtype == DType::I32 { -7.0 } else { f64::NAN })
}

pub fn gemv(a: Chunk, x: Chunk) -> Case {
    let y = garbage(a.dtype, &a.shape[..1]);
    Case::new(Gemv, &[0u8; 0], vec![a, x], y)
}

/// The sum of all elements.
pub fn sum(x: Chunk) -> Case {
    let axes: Vec<usize> = (0..x.shape.len()).collect();
    let kernel = ReduceChunk::plain(Reduction::Sum, (&axes, &x.shape), x.dtype);
    Case::new(kernel, &[0u8; 0], vec![x], garbage(DType::F64, &[1]))
}

pub fn gemm(a: Chunk, b: Chunk, c: Chunk) -> Case {
    Case::new(Gemm::new(), &ProductParams { k: a.shape[1] as u64 }, vec![a, b], c)
}

pub fn syrk(a: Chunk, c: Chunk) -> Case {
    Case::new(Syrk::new(), &ProductParams { k: a.shape[1] as u64 }, vec![a.clone(), a], c)
}

pub fn trsm(l: Chunk, b: Chunk) -> Case {
    Case::new(Trsm::new(), &[0u8; 0], vec![l], b)
}

pub fn potrf(a: Chunk, row: u64) -> Case {
    Case::new(Potrf::new(), &PotrfParams { row }, vec![], a)
}

pub fn mandelbrot(dtype: DType, x: &[f64], y: &[f64], iterations: u32) -> Case {
    let axis = |v: &[f64]| Chunk::new(dtype, &[v.len()], |i| v[i]);
    let counts = garbage(DType::I32, &[y.len(), x.len()]);
    Case::new(Mandelbrot, &MandelbrotParams { iterations }, vec![axis(x), axis(y)], counts)
}

pub fn peak(dtype: DType, n: usize, steps: u32) -> Case {
    let factors = Chunk::new(dtype, &[2], |i| [0.8125, -3.25][i]);
    Case::new(Peak, &PeakParams { steps }, vec![factors], garbage(dtype, &[n]))
}

/// A picture of the default window.
pub fn picture(dtype: DType, rows: usize, columns: usize, iterations: u32) -> Case {
    mandelbrot(dtype, &ogrid(-1.5, 0.0, columns), &ogrid(-1.0, 0.0, rows), iterations)
}

/// Points that need more than one dispatch: inside the set, outside, and just outside the cusp at 1/4, where `pi / sqrt(distance)` steps
/// lead past 1/2; there no rounding decides about an escape.
pub fn resumed(dtype: DType, iterations: u32) -> Case {
    let slow = |steps: f64| 0.25 + (std::f64::consts::PI / steps).powi(2);
    let x = [-1.0, -0.1, 0.0, slow(300.0), slow(3000.0), slow(4500.0), 0.3, 3.0];
    mandelbrot(dtype, &x, &[0.0, 1e-3, 2.0], iterations)
}

/// All cases of one dtype.
pub fn all(dtype: DType) -> Vec<Case> {
    let mut r = Numbers(3);
    let mut all = Vec::new();
    let ragged = |step| (0..SIZES.len()).map(move |i| (size(i, 1), size(i, step)));
    // gemv: short rows, long rows, rows in parts; lengths that 4 divides, and others.
    let long = [(5, 256), (17, 260), (4, 1000), (3, 1023), (33, 4100), (130, 4099), (1, 100_000), (3, 40_001), (1030, 300)];
    for (m, k) in ragged(5).chain(long) {
        all.push(gemv(r.spread(dtype, &[m, k]), r.spread(dtype, &[k])));
    }
    let shapes: [&[usize]; 9] =
        [&[33, 100], &[3, 31, 65], &[2, 63, 65], &[8191], &[8192], &[8193], &[100_001], &[512, 1030], &[1, 1, 1, 1]];
    for shape in SIZES.map(|n| vec![n]).into_iter().chain(shapes.map(<[usize]>::to_vec)) {
        all.push(sum(r.spread(dtype, &shape)));
    }
    let products = [[64, 64, 16], [256, 256, 64], [257, 260, 132], [257, 257, 33], [1, 4, 4], [300, 4, 20]];
    for [m, n, k] in (0..SIZES.len()).map(|i| [size(i, 1), size(i, 5), size(i, 8)]).chain(products) {
        all.push(gemm(r.spread(dtype, &[m, k]), r.spread(dtype, &[n, k]), r.spread(dtype, &[m, n])));
    }
    for (n, k) in ragged(7).chain([(384, 8), (385, 7)]) {
        let (a, c) = (r.spread(dtype, &[n, k]), r.spread(dtype, &[n, n]));
        let lower = Chunk::new(dtype, &[n, n], |at| if at % n > at / n { f64::NAN } else { c.values[at] });
        all.push(syrk(a, lower));
    }
    for (m, n) in ragged(5).chain([(130, 96), (65, 128)]) {
        all.push(trsm(r.triangle(dtype, n), r.chunk(dtype, &[m, n])));
    }
    for n in SIZES.into_iter().chain([96, 128]) {
        all.push(potrf(r.definite(dtype, n), 1000));
    }
    for (i, (rows, columns)) in ragged(5).enumerate() {
        all.push(picture(dtype, rows, columns, [20, 0, 1, 3, 4, 5, 19][i % 7]));
    }
    all.push(picture(dtype, 600, 1000, 20));
    for (n, steps) in [(1, 0), (255, 1), (256, 2), (257, 3), (1000, 7), (3, 100)] {
        all.push(peak(dtype, n, steps));
    }
    for (len, n) in [(4, 1), (4, 3), (8, 257), (4096, 256), (10_000, 300), (100_004, 7)] {
        all.push(Case::new(ReadAll, &[0u8; 0], vec![r.spread(dtype, &[len])], garbage(dtype, &[n])));
    }
    all.push(resumed(dtype, 5000));
    all.push(resumed(dtype, 70_000));
    all
}

/// The choices of variants under which every variant of every kernel is taken; the first is none.
pub fn choices() -> impl Iterator<Item = Variants> {
    let most = Variants::PRODUCTS.max(Variants::GEMVS);
    (0..=most).map(|chosen| Variants { gemm: [chosen; 2], syrk: [chosen; 2], gemv: [chosen; 2] })
}

/// The tasks of a Cholesky factorisation of `tiles` times `tiles` tiles, with the chunks that their cases need for shapes only.
pub fn factorisation(tile: &dyn Fn(usize, usize) -> Chunk, tiles: usize) -> (Vec<Task>, BTreeMap<(usize, usize), Version>) {
    let mut last: BTreeMap<_, Version> = (0..tiles).flat_map(|i| (0..=i).map(move |j| ((i, j), (None, (i, j))))).collect();
    let mut tasks = Vec::new();
    let mut task = |case: Case, inputs: &[(usize, usize)], at: (usize, usize)| {
        tasks.push(Task { case, inputs: inputs.iter().map(|i| last[i]).collect(), updates: last[&at] });
        last.insert(at, (Some(tasks.len() - 1), at));
    };
    for k in 0..tiles {
        task(potrf(tile(k, k), 0), &[], (k, k));
        for i in k + 1..tiles {
            task(trsm(tile(k, k), tile(i, k)), &[(k, k)], (i, k));
        }
        for i in k + 1..tiles {
            task(syrk(tile(i, k), tile(i, i)), &[(i, k), (i, k)], (i, i));
            for j in k + 1..i {
                task(gemm(tile(i, k), tile(j, k), tile(i, j)), &[(i, k), (j, k)], (i, j));
            }
        }
    }
    (tasks, last)
}
