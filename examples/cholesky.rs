//! Tiled Cholesky factorisation, from memory or from a file.

mod common;

use std::collections::HashSet;
use std::marker::PhantomData;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Instant;

use chunkwise::ext::{ChunkSink, ChunkView, Intake, Region};
use chunkwise::{Array, Float, Placement, Session, store};
use common::{CommonArgs, Named, Outcome, Precision, Report, finish, open_session};
use ndarray::{Array1, ArrayD, ArrayView2, Ix2, Zip};

/// Factor a symmetric positive definite matrix, A = L L^T, tile by tile, and check the residual.
#[derive(clap::Parser)]
#[command(after_help = common::usage(&[
    ("cholesky -- --n 4000", "a random matrix of order 4000"),
    ("cholesky -- --n 4000 --chunk 500 --trace t.json", "tiles of 500; a timeline for ui.perfetto.dev"),
    ("cholesky -- --input data.h5:/A --out L.h5:/L", "from a file, to a file; only the lower triangle of A is read"),
]))]
struct Args {
    /// Order of a random matrix.
    #[arg(long, value_name = "N", default_value_t = 4000, conflicts_with = "input")]
    n: usize,

    /// The matrix, in a file: `file.h5:/A` or `file.npy`.
    #[arg(long, value_name = "FILE")]
    input: Option<String>,

    /// Where L goes: `L.npy` or `L.h5:/L`.
    #[arg(long, value_name = "FILE")]
    out: Option<String>,

    #[command(flatten)]
    common: CommonArgs,
}

fn main() -> std::process::ExitCode {
    common::run(|args: Args| match args.common.dtype {
        Precision::F32 => cholesky::<f32>(&args),
        Precision::F64 => cholesky::<f64>(&args),
    })
}

fn cholesky<T: Float + ndarray::LinalgScalar>(args: &Args) -> Outcome {
    let files = vec![Named::read("--input", args.input.as_ref()), Named::written("--out", args.out.as_ref())];
    let session = open_session(&args.common, files)?;
    let a: Array<T> = match &args.input {
        Some(file) => Array::open(file)?.in_session(&session),
        None => session.default_rng().try_spd(args.n)?,
    };
    let (a, l, made) = if args.input.is_some() { (a.clone(), factor(&a, args)?, None) } else { random(a, args, &session)? };
    let create = |spec: &String| store::create(spec, l.shape(), l.dtype(), None);
    let sink = args.out.as_ref().map(create).transpose()?; // what cannot be written is said before computing
    let (values, run) = finish(&args.common, "cholesky", &l)?;
    let n = l.shape()[0];
    let mut report = Report::new("cholesky", l.shape(), &args.common);
    report.what = format!("order {n}");
    report.chunks = common::cut(&l.grid(), "tile");
    let flops = (n as f64).powi(3) / 3.0;
    let mut report = report.of_run(&session, &run, flops, "flop/s");
    report.notes.extend(made);
    let check = check(&a, &values, &session, args)?;
    report.residual = check.map(|c| c.residual);
    if check.is_some_and(|c| !c.symmetric) {
        report
            .notes
            .push("the matrix is not symmetric: what was factored is its lower half, and the same above the diagonal".into());
    }
    report.notes.push(match check {
        Some(_) => "residual is max|A - L L^T| / (n eps max|A|): below 1 is as good as rounding allows".into(),
        None => "not checked: memory has no room for the matrix beside its factor".into(),
    });
    drop((a, l));
    if let (Some(sink), Some(out)) = (sink, &args.out) {
        Array::from(values).in_session(&session).store_into(&sink)?;
        report.wrote.push(out.into());
    }
    report.print(&args.common)
}

/// The factor of a matrix, in the tiles asked for.
fn factor<T: Float>(a: &Array<T>, args: &Args) -> chunkwise::Result<Array<T>> {
    args.common.cut(a.try_cholesky()?)
}

/// A random matrix, its factor, and what to say of them.
type Random<T> = (Array<T>, Array<T>, Option<String>);

/// In memory beforehand, so that the run is the factorisation alone; where that and the factor do not fit, tiles are made as they are used.
fn random<T: Float>(a: Array<T>, args: &Args, session: &Session) -> chunkwise::Result<Random<T>> {
    // Beside both, tiles are kept in the forms that products want: of few tiles nearly all, and even small matrices have large tiles.
    let roomy = a.nbytes().saturating_mul(4).saturating_add(4 << 20);
    if !common::fits(session, roomy, || factor(&common::zeros::<T>(a.shape(), session), args)?.explain())? {
        let l = factor(&a, args)?;
        return Ok((a, l, None));
    }
    let asked = Instant::now();
    let a = Array::from(a.compute()?).in_session(session);
    let note = common::made("the matrix", asked.elapsed());
    let l = factor(&a, args)?;
    Ok((a, l, Some(note)))
}

/// Random vectors by which the factor is checked.
const PROBES: usize = 2;

/// What is found of a factor.
#[derive(Clone, Copy)]
struct Check {
    residual: f64,
    /// Whether the matrix has the same above the diagonal as below, as far as can be seen.
    symmetric: bool,
}

/// How far `L L^T` is from `A`: for random `v` of signs, each element of `A v - L (L^T v)` is a sum of n errors with random signs, so
/// `max|A v - L (L^T v)| / (sqrt(n) n eps max|A|)` stands for `max|A - L L^T| / (n eps max|A|)`. A is taken chunk by chunk: the check needs no memory
/// for another matrix.
fn check<T>(a: &Array<T>, l: &ArrayD<T>, session: &Session, args: &Args) -> chunkwise::Result<Option<Check>>
where
    T: Float + ndarray::LinalgScalar,
{
    let (held, l, n) = ((l.len() * T::DTYPE.bytes()) as u64, matrix(l), l.shape()[0]);
    if n == 0 {
        return Ok(Some(Check { residual: 0.0, symmetric: true }));
    }
    let mut probes = Vec::new();
    for _ in 0..PROBES {
        let signs = session.default_rng().try_uniform::<f64>([n])?.compute()?;
        probes.push(signs.iter().map(|&u| if u < 0.5 { -1.0 } else { 1.0 }).collect());
    }
    // Differences in one row do not cancel, as they would with signs.
    let weights = session.default_rng().try_uniform::<f64>([n])?.compute()?.iter().map(|&u| 0.5 + u).collect();
    common::trim_memory(); // of the run
    // The factor is held meanwhile, which the session of its run does not know.
    let rest = session.memory_limit().saturating_sub(held).max(1);
    let threads = args.common.threads.unwrap_or_else(common::threads);
    let beside = Session::builder().placement(Placement::Cpu).threads(threads).memory_limit(rest).cache_dir("");
    let a = a.clone().in_session(&beside.build()?);
    let a = args.common.cut(a)?;
    let products = Arc::new(Products::<T>::new(n, probes, weights)?);
    match a.store_into(&(products.clone() as Arc<dyn ChunkSink>)) {
        Err(chunkwise::Error::OutOfMemory { .. }) => return Ok(None),
        other => other?,
    };
    let sums = products.sums.lock().unwrap_or_else(PoisonError::into_inner);
    let epsilon = if T::DTYPE.bytes() == 4 { f64::from(f32::EPSILON) } else { f64::EPSILON };
    let mut worst = 0.0f64;
    for (v, a_v) in products.probes.iter().zip(&sums.products) {
        let mut lt_v = Array1::<f64>::zeros(n);
        for (i, row) in l.rows().into_iter().enumerate() {
            Zip::from(&mut lt_v).and(row).for_each(|sum, x| *sum += x.to_f64() * v[i]);
        }
        for (i, row) in l.rows().into_iter().enumerate() {
            let found = row.iter().zip(&lt_v).map(|(x, y)| x.to_f64() * y).sum::<f64>();
            worst = worst.max((a_v[i] - found).abs());
        }
    }
    let rounding = n as f64 * epsilon * sums.largest;
    let symmetric = sums.halves.iter().all(|x| x.abs() <= rounding);
    Ok(Some(Check { residual: worst / (n as f64).sqrt() / rounding, symmetric }))
}

/// Takes a symmetric matrix, of which the lower half counts, chunk by chunk: its products with vectors, and its largest element.
struct Products<T> {
    intake: Intake,
    probes: Vec<Vec<f64>>,
    /// What is multiplied with both halves, to compare them.
    weights: Vec<f64>,
    sums: Mutex<Sums>,
    element: PhantomData<T>,
}

struct Sums {
    /// Chunks that are in: one that is slow may be written twice.
    seen: HashSet<[usize; 2]>,
    products: Vec<Vec<f64>>,
    /// The product of the weights with what is above the diagonal, less that with what is below, mirrored.
    halves: Vec<f64>,
    largest: f64,
}

impl<T: Float> Products<T> {
    fn new(n: usize, probes: Vec<Vec<f64>>, weights: Vec<f64>) -> chunkwise::Result<Self> {
        let products = vec![vec![0.0; n]; probes.len()];
        let sums = Sums { seen: HashSet::new(), products, halves: vec![0.0; n], largest: 0.0 };
        let intake = Intake::new("the check of the factor", &[n, n], T::DTYPE)?;
        Ok(Self { intake, probes, weights, sums: Mutex::new(sums), element: PhantomData })
    }
}

impl<T: Float> ChunkSink for Products<T> {
    fn intake(&self) -> &Intake {
        &self.intake
    }

    fn put(&self, region: &Region, chunk: ChunkView<'_>) -> chunkwise::Result<()> {
        let (start, shape) = (region.start(), region.shape());
        let (first, left) = (start[0], start[1]);
        let mut rows = vec![vec![0.0; shape[0]]; self.probes.len()];
        let mut columns = vec![vec![0.0; shape[1]]; self.probes.len()];
        let (mut above, mut mirrored) = (vec![0.0; shape[0]], vec![0.0; shape[1]]);
        let mut largest = 0.0f64;
        let below = |i: usize| shape[1].min((first + i + 1).saturating_sub(left));
        for (i, j) in (0..shape[0]).flat_map(|i| (0..below(i)).map(move |j| (i, j))) {
            let x = chunk.at::<T>(i, j).to_f64();
            let (row, column) = (first + i, left + j);
            // The largest element of a positive definite matrix is on its diagonal.
            if row == column {
                largest = largest.max(x.abs());
            } else {
                mirrored[j] += x * self.weights[row];
            }
            for (p, v) in self.probes.iter().enumerate() {
                rows[p][i] += x * v[column];
                columns[p][j] += if column < row { x * v[row] } else { 0.0 };
            }
        }
        for (i, j) in (0..shape[0]).flat_map(|i| (below(i)..shape[1]).map(move |j| (i, j))) {
            above[i] += chunk.at::<T>(i, j).to_f64() * self.weights[left + j];
        }
        let mut sums = self.sums.lock().unwrap_or_else(PoisonError::into_inner);
        if !sums.seen.insert([first, left]) {
            return Ok(());
        }
        sums.largest = sums.largest.max(largest);
        sums.halves[first..].iter_mut().zip(&above).for_each(|(sum, x)| *sum += x);
        sums.halves[left..].iter_mut().zip(&mirrored).for_each(|(sum, x)| *sum -= x);
        for (p, product) in sums.products.iter_mut().enumerate() {
            product[first..].iter_mut().zip(&rows[p]).for_each(|(sum, x)| *sum += x);
            product[left..].iter_mut().zip(&columns[p]).for_each(|(sum, x)| *sum += x);
        }
        Ok(())
    }

    fn commit(&self) -> chunkwise::Result<()> {
        Ok(())
    }
}

fn matrix<T>(a: &ArrayD<T>) -> ArrayView2<'_, T> {
    a.view().into_dimensionality::<Ix2>().expect("a square matrix has two axes")
}
