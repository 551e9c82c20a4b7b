//! A matrix times a vector, from memory or from a file.

mod common;

use chunkwise::shape::Float;
use chunkwise::{Array, Session};
use common::{CommonArgs, Outcome, Precision, Report, UsageError, finish, open_session};

/// Multiply a matrix by a vector: y = A x.
#[derive(clap::Parser)]
#[command(after_help = common::usage(&[
    ("matvec -- --n 20000", "a random 20000 x 20000 matrix (3.2 GB in f64)"),
    ("matvec -- --rows 1000 --cols 50000 --dtype f32", "any shape"),
    ("matvec -- --matrix data.h5:/A --vector data.h5:/x --out y.h5:/y", "from a file, to a file"),
]))]
struct Args {
    /// Rows and columns of a random square matrix.
    #[arg(long, value_name = "N", default_value_t = 8000, conflicts_with_all = ["rows", "cols", "matrix"])]
    n: usize,

    /// Rows of a random matrix.
    #[arg(long, value_name = "M", requires = "cols")]
    rows: Option<usize>,

    /// Columns of a random matrix.
    #[arg(long, value_name = "N", requires = "rows")]
    cols: Option<usize>,

    /// The matrix, in a file: `file.h5:/A` or `file.npy`.
    #[arg(long, value_name = "FILE", requires = "vector")]
    matrix: Option<String>,

    /// The vector, in a file.
    #[arg(long, value_name = "FILE", requires = "matrix")]
    vector: Option<String>,

    /// Where y goes: `y.npy` or `y.h5:/y`.
    #[arg(long, value_name = "FILE")]
    out: Option<String>,

    /// Multiply this many times; the summary shows the fastest, JSON all (`all_s`).
    #[arg(long, value_name = "N", default_value_t = 1)]
    repeat: usize,

    #[command(flatten)]
    common: CommonArgs,
}

fn main() -> std::process::ExitCode {
    common::run(|args: Args| match args.common.dtype {
        Precision::F32 => matvec::<f32>(&args),
        Precision::F64 => matvec::<f64>(&args),
    })
}

fn matvec<T: Float>(args: &Args) -> Outcome {
    if args.repeat == 0 {
        return Err(UsageError("--repeat takes at least 1".into()).into());
    }
    let session = open_session(&args.common)?;
    let (a, x) = operands::<T>(args, &session)?;
    let a = match args.common.chunk {
        Some(chunk) => a.try_chunks(chunk)?,
        None => a,
    };
    let y = a.try_matvec(&x)?;
    let mut runs = Vec::with_capacity(args.repeat);
    let mut values = None;
    for _ in 0..args.repeat {
        let (result, run) = finish(&args.common, "matvec", &y)?;
        runs.push(run);
        values = Some(result);
    }
    let all_s: Vec<f64> = runs.iter().map(|r| r.total_s).collect();
    runs.sort_by(|a, b| a.total_s.total_cmp(&b.total_s));
    let (Some(run), Some(values)) = (runs.first(), values) else { return Ok(()) };
    let mut report = Report::new("matvec", a.shape(), &args.common);
    report.what = format!("{} x {}", a.shape()[0], a.shape()[1]);
    let largest: Vec<String> = a.grid().largest().iter().map(ToString::to_string).collect();
    report.chunks = format!("{} chunks of {}", a.grid().len(), largest.join(" x "));
    let mut report = report.of_run(&session, run, a.nbytes() as f64, "B/s");
    report.extra.insert("checksum".into(), values.iter().map(|v| v.to_f64()).sum::<f64>().into());
    report.extra.insert("all_s".into(), all_s.into());
    if let Some(out) = &args.out {
        Array::from(values).in_session(&session).store(out)?;
        report.wrote.push(out.into());
    }
    report.print(&args.common)
}

/// From files, or random and computed into memory beforehand.
fn operands<T: Float>(args: &Args, session: &Session) -> Result<(Array<T>, Array<T>), chunkwise::Error> {
    if let (Some(a), Some(x)) = (&args.matrix, &args.vector) {
        return Ok((Array::open(a)?.in_session(session), Array::open(x)?.in_session(session)));
    }
    let (m, n) = (args.rows.unwrap_or(args.n), args.cols.unwrap_or(args.n));
    let a = session.random_uniform::<T>([m, n])?.compute()?;
    let x = session.random_uniform::<T>([n])?.compute()?;
    Ok((Array::from(a).in_session(session), Array::from(x).in_session(session)))
}
