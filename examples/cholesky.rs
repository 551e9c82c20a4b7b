//! Tiled Cholesky factorisation, from memory or from a file.

mod common;

use chunkwise::shape::Float;
use chunkwise::{Array, Session, store};
use common::{CommonArgs, Outcome, Precision, Report, finish, open_session};
use ndarray::{Array1, Array2, ArrayD, ArrayView2, Ix2, Zip};

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
    let session = open_session(&args.common)?;
    let a: Array<T> = match &args.input {
        Some(file) => Array::open(file)?.in_session(&session),
        None => random::<T>(args, &session)?,
    };
    let l = a.try_cholesky()?;
    let l = match args.common.chunk {
        Some(chunk) => l.try_chunks(chunk)?,
        None => l,
    };
    let create = |spec: &String| store::create(spec, l.shape(), l.dtype(), None);
    let sink = args.out.as_ref().map(create).transpose()?; // what cannot be written is said before computing
    let (values, run) = finish(&args.common, "cholesky", &l)?;
    let n = l.shape()[0];
    let mut report = Report::new("cholesky", l.shape(), &args.common);
    report.what = format!("order {n}");
    report.chunks = common::cut(&l.grid(), "tile");
    let flops = (n as f64).powi(3) / 3.0;
    let mut report = report.of_run(&session, &run, flops, "flop/s");
    let residual = residual(&a, &values, &session)?;
    report.residual = Some(residual);
    report.notes.push("residual is max|A - L L^T| / (n eps max|A|): below 1 is as good as rounding allows".into());
    if let (Some(sink), Some(out)) = (sink, &args.out) {
        Array::from(values).in_session(&session).store_into(&sink)?;
        report.wrote.push(out.into());
    }
    report.print(&args.common)
}

/// In memory beforehand, so that the run is the factorisation alone; where that and the factor do not fit, tiles are made as they are used.
fn random<T: Float>(args: &Args, session: &Session) -> Result<Array<T>, chunkwise::Error> {
    let n = args.n;
    let a = session.random_spd::<T>(n)?;
    // Beside both, a panel of tiles is kept in the forms that products want, and each thread has scratch: twice what is usual.
    let tile = args.common.chunk.unwrap_or((n / 16).clamp(256, 1024)).min(n);
    let panels = (8 * T::DTYPE.bytes() as u64).saturating_mul(n as u64).saturating_mul(tile as u64);
    if a.nbytes().saturating_mul(2).saturating_add(panels) > session.memory_limit() {
        return Ok(a);
    }
    Ok(Array::from(a.compute()?).in_session(session))
}

/// Most rows for which the whole product is formed.
const WHOLE: usize = 1500;

/// `max|A - L L^T| / (n eps max|A|)`. For a large `n`, `A v - L (L^T v)` with random `v` of signs stands for the whole product: each of
/// its elements is a sum of n errors with random signs, so it is divided by the square root of n.
fn residual<T: Float + ndarray::LinalgScalar>(a: &Array<T>, l: &ArrayD<T>, session: &Session) -> Result<f64, chunkwise::Error> {
    let a = a.clone().in_session(session).compute()?;
    let (a, l) = (matrix(&a), matrix(l));
    let n = a.nrows();
    if n == 0 {
        return Ok(0.0);
    }
    let symmetric = |i: usize, j: usize| if i >= j { a[[i, j]] } else { a[[j, i]] }.to_f64();
    let largest = a.diag().iter().fold(0.0f64, |m, v| m.max(v.to_f64().abs()));
    let epsilon = if T::DTYPE.bytes() == 4 { f64::from(f32::EPSILON) } else { f64::EPSILON };
    let scale = n as f64 * epsilon * largest;
    if n <= WHOLE {
        let l = Array2::from_shape_fn((n, n), |(i, j)| l[[i, j]].to_f64());
        let product = l.dot(&l.t());
        let error = product.indexed_iter().fold(0.0f64, |m, ((i, j), p)| m.max((p - symmetric(i, j)).abs()));
        return Ok(error / scale);
    }
    let mut worst = 0.0f64;
    for _ in 0..2 {
        let signs = session.random_uniform::<f64>([n])?.compute()?;
        let v: Array1<f64> = signs.iter().map(|&u| if u < 0.5 { -1.0 } else { 1.0 }).collect();
        let mut error = Array1::<f64>::zeros(n);
        let mut lt_v = Array1::<f64>::zeros(n);
        for (i, row) in l.rows().into_iter().enumerate() {
            Zip::from(&mut lt_v).and(row).for_each(|sum, x| *sum += x.to_f64() * v[i]);
        }
        for (i, row) in l.rows().into_iter().enumerate() {
            error[i] -= row.iter().zip(&lt_v).map(|(x, y)| x.to_f64() * y).sum::<f64>();
        }
        for (i, row) in a.rows().into_iter().enumerate() {
            for (j, x) in row.iter().enumerate().take(i + 1) {
                error[i] += x.to_f64() * v[j];
                if j < i {
                    error[j] += x.to_f64() * v[i];
                }
            }
        }
        worst = error.iter().fold(worst, |m, e| m.max(e.abs()));
    }
    Ok(worst / (n as f64).sqrt() / scale)
}

fn matrix<T>(a: &ArrayD<T>) -> ArrayView2<'_, T> {
    a.view().into_dimensionality::<Ix2>().expect("a square matrix has two axes")
}
