//! What kernels must compute, by the plainest loops there are, and how far from it a result may be: the bounds that the kernels' texts state.
//!
//! Owns: an oracle and a bound for each kernel with a GPU half. Must not know: how the library computes. Invariant: sums are taken in twice
//! the precision of `f64`, so that an oracle's own errors are far below every bound; a NaN is never within one.

use chunkwise::kernel::dense::ProductParams;
use chunkwise::kernel::mandelbrot::MandelbrotParams;
use chunkwise::kernel::peak::PeakParams;
use chunkwise::shape::DType;

use super::lab::{Case, Chunk};

/// A sum in twice the precision of `f64` (Ogita, Rump and Oishi, Accurate Sum and Dot Product, 2005), and the sum of absolute values.
#[derive(Clone, Copy, Default)]
pub struct Exact {
    high: f64,
    low: f64,
    pub size: f64,
}

impl Exact {
    pub fn add(self, v: f64) -> Self {
        let high = self.high + v;
        let part = high - self.high;
        let lost = (self.high - (high - part)) + (v - part);
        Self { high, low: self.low + lost, size: self.size + v.abs() }
    }

    pub fn add_product(self, a: f64, b: f64) -> Self {
        let product = a * b;
        let sum = self.add(product);
        Self { low: sum.low + a.mul_add(b, -product), ..sum }
    }

    pub fn value(self) -> f64 {
        self.high + self.low
    }
}

/// Half the distance from 1 to the next number.
pub fn unit(dtype: DType) -> f64 {
    if dtype == DType::F32 { 2f64.powi(-24) } else { 2f64.powi(-53) }
}

/// An element, how far it is from what it should be, and how far it may be.
struct Error {
    index: usize,
    found: f64,
    error: f64,
    bound: f64,
}

impl Error {
    /// Of an element that should be `exact`, within `factor` units of the sum of absolute values.
    fn new(index: usize, found: f64, exact: Exact, factor: f64, dtype: DType) -> Self {
        // Terms of second order; and `exact` is rounded.
        let bound =
            factor * unit(dtype) * (1.0 + 2.0 * factor * unit(dtype)) * exact.size + unit(DType::F64) * exact.value().abs();
        Self { index, found, error: (found - exact.value()).abs(), bound }
    }

    /// Of an element that must be this.
    fn equal(index: usize, found: f64, wanted: f64) -> Self {
        Self { index, found, error: if found == wanted { 0.0 } else { f64::INFINITY }, bound: 0.0 }
    }
}

/// The largest error, in bounds; an element beyond its bound otherwise.
pub fn check(case: &Case, found: &[f64]) -> Result<f64, String> {
    if found.len() != case.output.values.len() {
        return Err(format!("{} elements, not {}", found.len(), case.output.values.len()));
    }
    let errors = match &*case.kernel.name() {
        "gemv" => gemv(&case.inputs[0], &case.inputs[1], found),
        "sum" => sum(&case.inputs[0], found),
        "gemm" => product(case, found, false),
        "syrk" => product(case, found, true),
        "trsm" => trsm(&case.inputs[0], &case.output, found),
        "potrf" => potrf(&case.output, found),
        "peak" => peak(case, found),
        "read" => read(&case.inputs[0], found),
        "mandelbrot" => return alike(case, found, &mandelbrot(case)),
        other => return Err(format!("no oracle for {other}")),
    };
    let mut worst = 0.0f64;
    for Error { index, found, error, bound } in errors {
        let within = error <= bound; // not so for NaN
        if !within {
            return Err(format!("element {index} is {found:e}: off by {error:e}, more than {bound:e}"));
        }
        worst = worst.max(if error > 0.0 { error / bound } else { 0.0 });
    }
    Ok(worst)
}

/// `|y - A x| <= (k/256 + 20 + parts) u sum |a| |x|`.
fn gemv(a: &Chunk, x: &Chunk, found: &[f64]) -> Vec<Error> {
    let &[m, k] = &a.shape[..] else { panic!("a matrix") };
    let parts = if m < 2048 && k > 4096 { k.div_ceil(4096) } else { 1 };
    let factor = k as f64 / 256.0 + 20.0 + parts as f64;
    let row = |i: usize| (0..k).fold(Exact::default(), |sum, j| sum.add_product(a.at(i, j), x.values[j]));
    (0..m).map(|i| Error::new(i, found[i], row(i), factor, a.dtype)).collect()
}

/// Sums of `k` quads within `(k + 4) u sum |x|`.
fn read(x: &Chunk, found: &[f64]) -> Vec<Error> {
    let element = |i: usize| {
        let quads = x.values.chunks(4).skip(i).step_by(found.len());
        let factor = quads.len() as f64 + 4.0;
        Error::new(i, found[i], quads.flatten().fold(Exact::default(), |sum, &v| sum.add(v)), factor, x.dtype)
    };
    (0..found.len()).map(element).collect()
}

/// Each of 16 chains of `n` within `n (V + |a b|) u`, their sum within `80 V u` more.
fn peak(case: &Case, found: &[f64]) -> Vec<Error> {
    let [a, b] = case.inputs[0].values[..] else { panic!("two factors") };
    let adds = 4 * bytemuck::pod_read_unaligned::<PeakParams>(&case.params).steps;
    let dtype = case.output.dtype;
    let element = |(i, &found): (usize, &f64)| {
        let (mut sum, mut largest) = (Exact::default(), 0.0f64);
        for j in 0..16 {
            let start = (i % 256 + j) as f64;
            sum = (0..adds).fold(sum.add(start), |sum, _| sum.add_product(a, b));
            largest = largest.max(start.abs()).max((start + f64::from(adds) * a * b).abs());
        }
        let bound = (16.0 * f64::from(adds) * (largest + (a * b).abs()) + 80.0 * largest) * unit(dtype);
        Error { index: i, found, error: (found - sum.value()).abs(), bound: bound * (1.0 + unit(DType::F32)) }
    };
    found.iter().enumerate().map(element).collect()
}

/// Below `(22 + len / 2^21) u sum |x|`.
fn sum(x: &Chunk, found: &[f64]) -> Vec<Error> {
    let exact = x.values.iter().fold(Exact::default(), |sum, &v| sum.add(v));
    let len = x.values.len() as f64;
    vec![Error::new(0, found[0], exact, 22.0 + len / 2f64.powi(21), x.dtype)]
}

/// `(k + 1) u (|c| + sum |a| |b|)`, all of C or its lower triangle.
fn product(case: &Case, found: &[f64], lower: bool) -> Vec<Error> {
    let (a, b, c) = (&case.inputs[0], &case.inputs[1], &case.output);
    let (m, n, k) = (c.shape[0], c.shape[1], bytemuck::pod_read_unaligned::<ProductParams>(&case.params).k as usize);
    assert!(a.shape == [m, k] && b.shape == [n, k]);
    let element = |i: usize, j: usize| {
        let exact = (0..k).fold(Exact::default().add(c.at(i, j)), |sum, p| sum.add_product(-a.at(i, p), b.at(j, p)));
        Error::new(i * n + j, found[i * n + j], exact, k as f64 + 1.0, c.dtype)
    };
    (0..m).flat_map(|i| (0..if lower { i + 1 } else { n }).map(move |j| (i, j))).map(|(i, j)| element(i, j)).collect()
}

/// The element of `old` and what `|old - X Y^T|` of it may be, with the sums over `0..=j`.
fn residual(index: usize, old: f64, found: f64, pairs: impl Iterator<Item = (f64, f64)>, factor: f64, dtype: DType) -> Error {
    let exact = pairs.fold(Exact::default(), |sum, (x, y)| sum.add_product(x, y));
    let rest = exact.add(-old).value();
    let bound = factor * unit(dtype) * (1.0 + 2.0 * factor * unit(dtype)) * exact.size;
    Error { index, found, error: rest.abs(), bound }
}

/// What a GPU's reciprocal may be off: 2.5 units in the last place (the specifications of Vulkan and of WGSL), each two units `u`.
const RECIPROCAL: f64 = 5.0;
/// What its square root may be off: it is the reciprocal of an inverse root, for which they allow 2 units in the last place.
const ROOT: f64 = 4.0 + RECIPROCAL;

/// `|X L^T - B| <= (n + 7) u |X| |L^T|`: a chain of `n` and some terms, then a product with a reciprocal. Only the lower triangle of L counts.
fn trsm(l: &Chunk, b: &Chunk, found: &[f64]) -> Vec<Error> {
    let (m, n) = (b.shape[0], b.shape[1]);
    let element = |(i, j): (usize, usize)| {
        let pairs = (0..=j).map(|p| (found[i * n + p], l.at(j, p)));
        residual(i * n + j, b.at(i, j), found[i * n + j], pairs, n as f64 + 2.0 + RECIPROCAL, b.dtype)
    };
    (0..m).flat_map(|i| (0..n).map(move |j| (i, j))).map(element).collect()
}

/// `|A - L L^T| <= (n + 20) u |L| |L^T|`, and zeros above the diagonal: a chain as for trsm, then the product with a reciprocal, or, on the
/// diagonal, a root, whose square counts.
fn potrf(a: &Chunk, found: &[f64]) -> Vec<Error> {
    let n = a.shape[0];
    let element = |(i, j): (usize, usize)| {
        let value = found[i * n + j];
        if j > i {
            return Error::equal(i * n + j, value, 0.0);
        }
        let pairs = (0..=j).map(|p| (found[i * n + p], found[j * n + p]));
        let mut error = residual(i * n + j, a.at(i, j), value, pairs, n as f64 + 2.0 + 2.0 * ROOT, a.dtype);
        let positive = value > 0.0;
        if i == j && !positive {
            error.error = f64::NAN;
        }
        error
    };
    (0..n).flat_map(|i| (0..n).map(move |j| (i, j))).map(element).collect()
}

/// Escape counts: for `c = x + i y` and `z` starting there, the first `k` after whose step `z^2 + c` not `|z|^2 <= 16`.
pub fn mandelbrot(case: &Case) -> Vec<f64> {
    let iterations = bytemuck::pod_read_unaligned::<MandelbrotParams>(&case.params).iterations;
    let (x, y) = (&case.inputs[0], &case.inputs[1]);
    let count = |cr: f64, ci: f64| match x.dtype {
        DType::F32 => escape_f32(cr as f32, ci as f32, iterations),
        _ => escape_f64(cr, ci, iterations),
    };
    y.values.iter().flat_map(|&ci| x.values.iter().map(move |&cr| f64::from(count(cr, ci)))).collect()
}

macro_rules! escape {
    ($name:ident, $t:ty) => {
        fn $name(cr: $t, ci: $t, iterations: u32) -> u32 {
            let (mut re, mut im) = (cr, ci);
            for count in 0..iterations {
                (re, im) = (re.mul_add(re, -(im * im)) + cr, 2.0 * (re * im) + ci);
                let inside = re.mul_add(re, im * im) <= 16.0; // not so for NaN
                if !inside {
                    return count;
                }
            }
            iterations
        }
    };
}
escape!(escape_f32, f32);
escape!(escape_f64, f64);

/// Counts that drivers may round differently: in `f32` 1 point in 10 000 may differ, in `f64` none. Gives the share of what may.
pub fn alike(case: &Case, found: &[f64], wanted: &[f64]) -> Result<f64, String> {
    let differ: Vec<usize> = (0..wanted.len()).filter(|&i| found[i] != wanted[i]).collect();
    let allowed = if case.inputs[0].dtype == DType::F32 { found.len() / 10_000 } else { 0 };
    match differ.first() {
        Some(&i) if differ.len() > allowed => {
            Err(format!("{} of {} points differ; point {i} has {}, not {}", differ.len(), found.len(), found[i], wanted[i]))
        }
        _ => Ok(differ.len() as f64 / allowed.max(1) as f64),
    }
}

/// Whether NaN is where NaN should be, and an infinity where that infinity should be; finite numbers may differ.
pub fn same_kinds(found: &[f64], wanted: &[f64]) -> Result<(), String> {
    let same = |a: f64, b: f64| a == b || (a.is_nan() && b.is_nan()) || (a.is_finite() && b.is_finite());
    match (0..wanted.len()).find(|&i| !same(found[i], wanted[i])) {
        Some(i) => Err(format!("element {i} is {}, not {}", found[i], wanted[i])),
        None => Ok(()),
    }
}
