//! A matrix times a vector, from memory or from a file.

mod common;

use std::time::Instant;

use chunkwise::{Array, Bytes, Float, Session, store};
use common::{CommonArgs, Named, Outcome, Precision, Report, open_session};

/// Multiply a matrix by a vector: y = A x.
#[derive(clap::Parser)]
#[command(after_help = common::usage(&[
    ("matvec -- --n 20000", "a random 20000 x 20000 matrix (3.2 GB in f64)"),
    ("matvec -- --rows 1000 --cols 50000 --dtype f32", "any shape"),
    ("matvec -- --matrix data.h5:/A --vector data.h5:/x --out y.h5:/y", "from a file, to a file"),
]))]
struct Args {
    /// Rows and columns of a random square matrix. One that does not fit in memory is generated
    /// chunk by chunk as it is used.
    #[arg(verbatim_doc_comment, long, value_name = "N", default_value_t = 8000, conflicts_with_all = ["rows", "cols", "matrix"])]
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
    #[arg(long, value_name = "N", default_value_t = 1, value_parser = clap::value_parser!(u32).range(1..))]
    repeat: u32,

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
    let files = vec![
        Named::read("--matrix", args.matrix.as_ref()),
        Named::read("--vector", args.vector.as_ref()),
        Named::written("--out", args.out.as_ref()),
    ];
    let session = open_session(&args.common, files)?;
    let (a, y, note) = product::<T>(args, &session)?;
    let create = |spec: &String| store::create(spec, y.shape(), y.dtype(), None);
    let sink = args.out.as_ref().map(create).transpose()?; // what cannot be written is said before computing
    common::explain(&args.common, || y.explain())?;
    let (mut values, mut best) = common::compute(&args.common, "matvec", &y)?;
    let mut all_s = vec![best.total_s];
    for _ in 1..args.repeat {
        drop(values); // memory has room for one result
        let (again, run) = common::compute(&args.common, "matvec", &y)?;
        all_s.push(run.total_s);
        values = again;
        if run.total_s < best.total_s {
            best = run;
        }
    }
    common::explain_run(&args.common, &best)?;
    common::write_trace(&args.common, &best)?;
    let mut report = Report::new("matvec", a.shape(), &args.common);
    report.what = common::extents(a.shape());
    report.chunks = common::cut(&a.grid(), "chunk");
    let mut report = report.of_run(&session, &best, a.nbytes() as f64, "B/s");
    report.notes.extend(note);
    if args.repeat > 1 {
        let slowest = all_s.iter().copied().fold(0.0, f64::max);
        report.notes.push(format!("the fastest of {}; the slowest took {}", args.repeat, common::seconds(slowest)));
    }
    report.extra.insert("checksum".into(), values.iter().map(|v| v.to_f64()).sum::<f64>().into());
    report.extra.insert("all_s".into(), all_s.into());
    drop((a, y));
    if let (Some(sink), Some(out)) = (sink, &args.out) {
        Array::from(values).in_session(&session).store_into(&sink)?;
        report.wrote.push(out.into());
    }
    report.print(&args.common)
}

/// Matrix, product, and what to say of them.
type Product<T> = (Array<T>, Array<T>, Option<String>);

/// From files, or random and computed into memory beforehand, so that the run is the product alone. A matrix that does not fit stays lazy.
fn product<T: Float>(args: &Args, session: &Session) -> Result<Product<T>, chunkwise::Error> {
    let of = |a: Array<T>, x: &Array<T>| -> chunkwise::Result<(Array<T>, Array<T>)> {
        let a = args.common.cut(a)?;
        let y = a.try_matvec(x)?;
        Ok((a, y))
    };
    if let (Some(a), Some(x)) = (&args.matrix, &args.vector) {
        let (a, y) = of(Array::open(a)?.in_session(session), &Array::open(x)?.in_session(session))?;
        return Ok((a, y, None));
    }
    let (m, n) = (args.rows.unwrap_or(args.n), args.cols.unwrap_or(args.n));
    let a = session.default_rng().try_uniform::<T>([m, n])?;
    let x = session.default_rng().try_uniform::<T>([n])?;
    let fits = common::fits(session, a.nbytes().saturating_add(x.nbytes()), || {
        of(common::zeros(&[m, n], session), &common::zeros(&[n], session))?.1.explain()
    })?;
    if !fits {
        let note = format!("the matrix ({}) does not fit in memory: generated chunk by chunk as it is used", Bytes(a.nbytes()));
        let (a, y) = of(a, &x)?;
        return Ok((a, y, Some(note)));
    }
    let asked = Instant::now();
    let (a, x) = (Array::from(a.compute()?).in_session(session), Array::from(x.compute()?).in_session(session));
    let note = common::made("the matrix", asked.elapsed());
    let (a, y) = of(a, &x)?;
    Ok((a, y, Some(note)))
}
