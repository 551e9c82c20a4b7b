//! The six workloads: their input, one timed run, and how far a result is from the reference.
//!
//! Owns: what is computed and inside which lines the clock runs. Must not know: repeats, statistics, pictures. Invariant: the timed
//! part is the same call for every device, from the request to the result in host memory, planning and allocation included; the
//! result is handed out of it, so that no compiler can leave work away.

use std::path::Path;
use std::sync::Arc;
use std::time::Instant;

use chunkwise::ndarray::{ArrayD, Ix2};
use chunkwise::runtime::RunReport;
use chunkwise::shape::{DType, Element, Float};
use chunkwise::{Array, Error, Session, store};
use serde::Serialize;

use crate::common::TemporaryFolder;
use crate::compare::fused::{self, Plain};
use crate::compare::stats::Shuffle;

/// Steps of the Mandelbrot iteration: those of the `mandelbrot` program. After more steps, more points than the tolerance allows lie so
/// near an edge that f32 arithmetic in another order moves them over it.
pub const ITERATIONS: u32 = 20;

/// A workload, with its kind of input.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum Workload {
    /// Escape counts of n x n points; no input.
    Mandelbrot,
    /// n x n matrix times vector, in memory.
    Matvec,
    /// Mean of n x n numbers in memory.
    BlockedMean,
    /// Mean of n x n numbers in an HDF5 file.
    BlockedMeanFile,
    /// Factor of a matrix of order n, in memory.
    Cholesky,
    /// [`fused::expression`] of two arrays of n x n numbers in memory.
    Expression,
    /// [`fused::reduce`]: n sums of n x n numbers in memory.
    Reduce,
}

impl Workload {
    /// As in tables and file names.
    pub fn name(self) -> &'static str {
        match self {
            Self::Mandelbrot => "mandelbrot",
            Self::Matvec => "matvec",
            Self::BlockedMean => "blocked_mean",
            Self::BlockedMeanFile => "blocked_mean_file",
            Self::Cholesky => "cholesky",
            Self::Expression => "expression",
            Self::Reduce => "reduce",
        }
    }

    /// In a sentence.
    pub fn title(self) -> &'static str {
        match self {
            Self::Mandelbrot => "Mandelbrot",
            Self::Matvec => "matrix times vector",
            Self::BlockedMean => "mean of an array in memory",
            Self::BlockedMeanFile => "mean of a dataset in an HDF5 file",
            Self::Cholesky => "Cholesky",
            Self::Expression => "element-wise expression with functions",
            Self::Reduce => "sums of squared deviations along an axis",
        }
    }

    /// Bytes of the input and of the result at size `n`.
    pub fn bytes(self, dtype: DType, n: usize) -> (f64, f64) {
        let (n, element) = (n as f64, dtype.bytes() as f64);
        match self {
            Self::Mandelbrot => (2.0 * n * element, 4.0 * n * n),
            Self::Matvec => ((n * n + n) * element, n * element),
            Self::BlockedMean | Self::BlockedMeanFile => (n * n * element, 8.0),
            // Only one triangle of A must be read; all of L is written.
            Self::Cholesky => (0.5 * n * (n + 1.0) * element, n * n * element),
            Self::Expression => (2.0 * n * n * element, n * n * element),
            Self::Reduce => ((n * n + n) * element, n * element),
        }
    }

    /// Bytes of host memory that a row needs at once: input, results of two runs, the reference.
    pub fn memory(self, dtype: DType, n: usize) -> f64 {
        let (input, result) = self.bytes(dtype, n);
        let whole = if self == Self::Cholesky { 2.0 * input } else { input };
        whole + 3.0 * result
    }

    /// Of so many bytes of a result, those that must come back from a device that made it: of Cholesky's the lower triangle.
    pub fn bytes_back(self, result: f64) -> f64 {
        if self == Self::Cholesky { result / 2.0 } else { result }
    }

    /// Floating-point operations at size `n`; of Mandelbrot those of `steps` steps in all, 8 each. A function counts as what the library's table of
    /// operations says that it is worth.
    fn flops(self, n: usize, steps: f64) -> f64 {
        let n = n as f64;
        match self {
            Self::Mandelbrot => 8.0 * steps,
            Self::Matvec => 2.0 * n * n,
            Self::BlockedMean | Self::BlockedMeanFile => n * n,
            Self::Cholesky => n * n * n / 3.0,
            Self::Expression => fused::worth(&fused::EXPRESSION) * n * n,
            Self::Reduce => fused::worth(&fused::REDUCE) * n * n,
        }
    }
}

/// What a run gives.
#[derive(Clone, Debug, PartialEq)]
pub enum Values {
    /// Counts.
    I32(ArrayD<i32>),
    /// Numbers.
    F32(ArrayD<f32>),
    /// Numbers.
    F64(ArrayD<f64>),
}

/// One run, timed.
pub struct Done {
    /// Seconds from the request to the result in host memory.
    pub seconds: f64,
    /// The result.
    pub values: Values,
    /// What the session recorded.
    pub report: RunReport,
}

/// A computation that is ready to run again and again in one session, on the same input.
pub type Prepared = Box<dyn Fn() -> Result<Done, Error>>;

/// Gets a computation ready in a session.
type Prepare = dyn Fn(&Session) -> Result<Prepared, Error>;

/// One workload with its input, at one size and precision, for any session.
pub struct Job {
    /// Which workload.
    pub workload: Workload,
    /// Precision.
    pub dtype: DType,
    /// Size.
    pub n: usize,
    prepare: Box<Prepare>,
    alone: Option<Alone>,
}

/// What checks a result without another one.
enum Alone {
    Probe(Probe),
    Plain(Plain),
}

impl Job {
    /// Makes the input in `session`, with its threads and seed; a file goes into `folder`.
    ///
    /// # Errors
    /// What the library says; memory and files are the likely ones.
    pub fn new(
        workload: Workload,
        (dtype, n, chunk): (DType, usize, Option<usize>),
        session: &Session,
        folder: &TemporaryFolder,
    ) -> Result<Self, Error> {
        match dtype {
            DType::F32 => Self::of::<f32>(workload, (n, chunk), session, folder),
            _ => Self::of::<f64>(workload, (n, chunk), session, folder),
        }
    }

    fn of<T: Typed + Float>(
        workload: Workload,
        (n, chunk): (usize, Option<usize>),
        session: &Session,
        folder: &TemporaryFolder,
    ) -> Result<Self, Error> {
        let numbers = || Ok::<_, Error>(Array::from(session.default_rng().try_uniform::<T>([n, n])?.compute()?));
        let mut alone = None;
        let prepare: Box<Prepare> = match workload {
            Workload::Mandelbrot => Box::new(move |session| {
                let (x, y) = (Array::try_ogrid(-1.5, 0.0, n)?, Array::try_ogrid(-1.0, 0.0, n)?);
                let counts = cut(Array::<T>::try_mandelbrot(&x, &y, ITERATIONS)?, chunk)?;
                Ok(timed(counts.in_session(session)))
            }),
            Workload::Matvec => {
                let a = cut(numbers()?, chunk)?;
                let x = Array::from(session.default_rng().try_uniform::<T>([n])?.compute()?);
                Box::new(move |session| Ok(timed(a.clone().in_session(session).try_matvec(&x.clone().in_session(session))?)))
            }
            Workload::BlockedMean => {
                let a = cut(numbers()?, chunk)?;
                Box::new(move |session| Ok(timed(a.clone().in_session(session).mean())))
            }
            Workload::BlockedMeanFile => {
                let spec = data_file::<T>(folder, n, || Ok(numbers()?.in_session(session)))?;
                Box::new(move |session| {
                    let a = cut(Array::<T>::from_source(store::open(&spec)?)?, chunk)?;
                    Ok(timed(a.in_session(session).mean()))
                })
            }
            Workload::Cholesky => {
                let a = session.default_rng().try_spd::<T>(n)?.compute()?;
                alone = Some(Alone::Probe(Probe::of(&a, session.seed())));
                let a = Array::from(a);
                Box::new(move |session| Ok(timed(cut(a.clone().in_session(session).try_cholesky()?, chunk)?)))
            }
            Workload::Expression | Workload::Reduce => {
                let rng = session.default_rng();
                let is_reduce = workload == Workload::Reduce;
                let second = if is_reduce { rng.try_uniform::<T>([n])? } else { rng.try_uniform::<T>([n, n])? };
                let (x, second) = (rng.try_uniform::<T>([n, n])?.compute()?, second.compute()?);
                let plain = if is_reduce { Plain::of_reduce(&x, &second) } else { Plain::of_expression(&x, &second) };
                alone = Some(Alone::Plain(plain));
                let (x, second) = (cut(Array::from(x), chunk)?, cut(Array::from(second), chunk)?);
                Box::new(move |session| {
                    let [x, second] = [&x, &second].map(|array| array.clone().in_session(session));
                    Ok(timed(if is_reduce { fused::reduce(&x, &second)? } else { fused::expression(&x, &second)? }))
                })
            }
        };
        Ok(Self { workload, dtype: T::DTYPE, n, prepare, alone })
    }

    /// Gets the computation ready in a session; runs nothing.
    ///
    /// # Errors
    /// What the library says.
    pub fn prepare(&self, session: &Session) -> Result<Prepared, Error> {
        (self.prepare)(session)
    }

    /// Operations and bytes that any device must do and move, whatever the algorithm's details; `reference` tells Mandelbrot's steps.
    pub fn work(&self, reference: &Values) -> (f64, f64) {
        let steps = match reference {
            // A point that leaves at step k took k + 1 steps; one that stays took all.
            Values::I32(counts) => counts.iter().map(|&c| f64::from((c + 1).min(ITERATIONS as i32))).sum(),
            _ => 0.0,
        };
        let (input, result) = self.workload.bytes(self.dtype, self.n);
        (self.workload.flops(self.n, steps), input + result)
    }

    /// How far a result is from the reference, and how far it may be. Where no GPU took part: the share of elements that differ in
    /// any bit, and none may.
    pub fn check(&self, got: &Values, reference: &Values, gpu: bool) -> Check {
        if !gpu {
            return Check {
                difference: unequal(got, reference),
                tolerance: 0.0,
                measure: "share of elements that differ in any bit",
            };
        }
        let epsilon = self.epsilon();
        let (difference, tolerance, measure) = match (self.workload, &self.alone) {
            (Workload::Mandelbrot, _) => (unequal(got, reference), 1e-4, "share of points with another count"),
            (Workload::Cholesky, Some(Alone::Probe(probe))) => {
                (probe.residual(got, epsilon), 1.0, "max|A - L L^T| / (n eps max|A|), probed")
            }
            (Workload::Matvec, _) => {
                let tolerance = 16.0 * epsilon * (self.n as f64).sqrt();
                (relative(got, reference), tolerance, "max|y - y_cpu| / max|y_cpu|")
            }
            (Workload::Expression | Workload::Reduce, Some(Alone::Plain(plain))) => {
                (relative(got, reference), plain.tolerance(epsilon), "max|z - z_cpu| / max|z_cpu|")
            }
            _ => (relative(got, reference), if self.dtype == DType::F32 { 1e-5 } else { 1e-12 }, "|m - m_cpu| / |m_cpu|"),
        };
        Check { difference, tolerance, measure }
    }

    /// The reference's own check, where there is one without another result: the residual of Cholesky, plain loops.
    pub fn check_alone(&self, got: &Values) -> Check {
        let Some(Alone::Plain(plain)) = &self.alone else { return self.check(got, got, true) };
        let measure = "max|z - z_loop| / max|z_loop|, of some elements";
        Check { difference: plain.apart(got), tolerance: plain.tolerance(self.epsilon()), measure }
    }

    fn epsilon(&self) -> f64 {
        if self.dtype == DType::F32 { f64::from(f32::EPSILON) } else { f64::EPSILON }
    }
}

/// A result beside the reference.
#[derive(Clone, Copy, Debug, PartialEq, Serialize)]
pub struct Check {
    /// How far it is away.
    pub difference: f64,
    /// How far it may be.
    pub tolerance: f64,
    /// In which measure.
    pub measure: &'static str,
}

impl Check {
    /// Whether it is farther from the reference than `other`, each by its tolerance.
    pub fn is_worse(&self, other: Self) -> bool {
        self.difference / self.tolerance > other.difference / other.tolerance || (other.passes() && !self.passes())
    }

    /// The worse of two.
    pub fn worse(self, other: Self) -> Self {
        if other.is_worse(self) { other } else { self }
    }

    /// Whether it is near enough. NaN is not.
    pub fn passes(&self) -> bool {
        self.difference <= self.tolerance
    }
}

fn cut<T: Element>(array: Array<T>, chunk: Option<usize>) -> Result<Array<T>, Error> {
    chunk.map_or(Ok(array.clone()), |chunk| array.try_chunks(chunk))
}

/// Writes the numbers once; a second lane or crossing of the same size finds them.
fn data_file<T: Typed>(
    folder: &TemporaryFolder,
    n: usize,
    numbers: impl FnOnce() -> Result<Array<T>, Error>,
) -> Result<String, Error> {
    let path = folder.path().join(format!("mean-{}-{n}.h5", T::DTYPE));
    let spec = format!("{}:/data", path.display());
    if !Path::new(&path).exists() {
        numbers()?.store(&spec)?;
    }
    Ok(spec)
}

fn timed<T: Typed>(array: Array<T>) -> Prepared {
    Box::new(move || {
        let start = Instant::now();
        let (values, report) = array.run()?;
        let seconds = start.elapsed().as_secs_f64();
        Ok(Done { seconds, values: T::wrap(values), report })
    })
}

/// Elements that results are made of.
trait Typed: Element {
    fn wrap(values: ArrayD<Self>) -> Values;
}

impl Typed for i32 {
    fn wrap(values: ArrayD<Self>) -> Values {
        Values::I32(values)
    }
}

impl Typed for f32 {
    fn wrap(values: ArrayD<Self>) -> Values {
        Values::F32(values)
    }
}

impl Typed for f64 {
    fn wrap(values: ArrayD<Self>) -> Values {
        Values::F64(values)
    }
}

/// The share of elements that differ in any bit; 1 if shape or dtype differ.
pub fn unequal(a: &Values, b: &Values) -> f64 {
    fn share<T>(a: &ArrayD<T>, b: &ArrayD<T>, same: impl Fn(&T, &T) -> bool) -> f64 {
        if a.shape() != b.shape() {
            return 1.0;
        }
        // Results are contiguous; an iterator over any layout takes ten times as long as the computation.
        let different = match (a.as_slice(), b.as_slice()) {
            (Some(a), Some(b)) => a.iter().zip(b).filter(|(x, y)| !same(x, y)).count(),
            _ => a.iter().zip(b).filter(|(x, y)| !same(x, y)).count(),
        };
        different as f64 / a.len().max(1) as f64
    }
    match (a, b) {
        (Values::I32(a), Values::I32(b)) => share(a, b, |x, y| x == y),
        (Values::F32(a), Values::F32(b)) => share(a, b, |x, y| x.to_bits() == y.to_bits()),
        (Values::F64(a), Values::F64(b)) => share(a, b, |x, y| x.to_bits() == y.to_bits()),
        _ => 1.0,
    }
}

/// The largest difference, as a share of the reference's largest magnitude.
pub fn relative(a: &Values, b: &Values) -> f64 {
    fn largest(a: impl Iterator<Item = (f64, f64)>) -> f64 {
        // `max` would drop a NaN.
        let (difference, scale) = a.fold((0.0f64, 0.0f64), |(d, s), (x, y)| {
            let here = (x - y).abs();
            (if here > d || here.is_nan() { here } else { d }, s.max(y.abs()))
        });
        if difference == 0.0 { 0.0 } else { difference / scale }
    }
    match (a, b) {
        (Values::F32(a), Values::F32(b)) if a.shape() == b.shape() => {
            largest(a.iter().zip(b).map(|(&x, &y)| (f64::from(x), f64::from(y))))
        }
        (Values::F64(a), Values::F64(b)) if a.shape() == b.shape() => largest(a.iter().zip(b).map(|(&x, &y)| (x, y))),
        _ => f64::INFINITY,
    }
}

/// `v` of random signs and `A v`, in f64: what checks a factor without forming L L^T. Each element of `A v - L (L^T v)` is a sum of n
/// errors with random signs, so it is divided by the square root of n.
struct Probe {
    v: Vec<f64>,
    a_v: Vec<f64>,
    largest: f64,
}

impl Probe {
    fn of<T: Float>(a: &ArrayD<T>, seed: u64) -> Self {
        let n = a.shape()[0];
        let mut signs = vec![1.0; n];
        // A random half of them.
        Shuffle::new(seed).order(n).iter().take(n / 2).for_each(|&i| signs[i] = -1.0);
        let mut a_v = vec![0.0; n];
        let mut largest = 0.0f64;
        if let Ok(a) = a.view().into_dimensionality::<Ix2>() {
            for (row, sum) in a.rows().into_iter().zip(&mut a_v) {
                *sum = row.iter().zip(&signs).map(|(x, v)| x.to_f64() * v).sum();
            }
            largest = a.diag().iter().fold(0.0, |m: f64, x| m.max(x.to_f64().abs()));
        }
        Self { v: signs, a_v, largest }
    }

    fn residual(&self, l: &Values, epsilon: f64) -> f64 {
        match l {
            Values::F32(l) => self.residual_of(l, epsilon),
            Values::F64(l) => self.residual_of(l, epsilon),
            Values::I32(_) => f64::INFINITY,
        }
    }

    fn residual_of<T: Float>(&self, l: &ArrayD<T>, epsilon: f64) -> f64 {
        let n = self.v.len();
        let Ok(l) = l.view().into_dimensionality::<Ix2>() else { return f64::INFINITY };
        if l.dim() != (n, n) {
            return f64::INFINITY;
        }
        let mut lt_v = vec![0.0; n];
        for (i, row) in l.rows().into_iter().enumerate() {
            row.iter().take(i + 1).zip(&mut lt_v).for_each(|(x, sum)| *sum += x.to_f64() * self.v[i]);
        }
        let mut worst = 0.0f64;
        for (i, row) in l.rows().into_iter().enumerate() {
            let product: f64 = row.iter().take(i + 1).zip(&lt_v).map(|(x, y)| x.to_f64() * y).sum();
            let error = (self.a_v[i] - product).abs();
            worst = if error > worst || error.is_nan() { error } else { worst };
        }
        worst / ((n as f64).sqrt() * n as f64 * epsilon * self.largest)
    }
}

/// The reference that all lanes of a row are compared with.
pub type Reference = Arc<Values>;
