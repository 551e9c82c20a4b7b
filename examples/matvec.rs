//! A matrix times a vector, from memory or from a file.

mod common;

use chunkwise::shape::Float;
use chunkwise::{Array, Bytes, Session, store};
use common::{CommonArgs, Outcome, Precision, Report, open_session};

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
    let session = open_session(&args.common)?;
    let (a, x, note) = operands::<T>(args, &session)?;
    let a = match args.common.chunk {
        Some(chunk) => a.try_chunks(chunk)?,
        None => a,
    };
    let y = a.try_matvec(&x)?;
    let create = |spec: &String| store::create(spec, y.shape(), y.dtype(), None);
    let sink = args.out.as_ref().map(create).transpose()?; // what cannot be written is said before computing
    common::explain(&args.common, || y.explain())?;
    let (mut values, mut best) = common::compute(&args.common, "matvec", &y)?;
    let mut all_s = vec![best.total_s];
    for _ in 1..args.repeat {
        let (again, run) = common::compute(&args.common, "matvec", &y)?;
        all_s.push(run.total_s);
        if run.total_s < best.total_s {
            (values, best) = (again, run);
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
    if let (Some(sink), Some(out)) = (sink, &args.out) {
        Array::from(values).in_session(&session).store_into(&sink)?;
        report.wrote.push(out.into());
    }
    report.print(&args.common)
}

/// Matrix, vector, and what to say of them.
type Operands<T> = (Array<T>, Array<T>, Option<String>);

/// From files, or random and computed into memory beforehand, so that the run is the product alone. A matrix that does not fit stays lazy.
fn operands<T: Float>(args: &Args, session: &Session) -> Result<Operands<T>, chunkwise::Error> {
    if let (Some(a), Some(x)) = (&args.matrix, &args.vector) {
        return Ok((Array::open(a)?.in_session(session), Array::open(x)?.in_session(session), None));
    }
    let (m, n) = (args.rows.unwrap_or(args.n), args.cols.unwrap_or(args.n));
    let a = session.random_uniform::<T>([m, n])?;
    let x = session.random_uniform::<T>([n])?;
    // Generating it needs its memory and no more; the product needs x and y beside it.
    let needed = a.nbytes().saturating_add(2 * x.nbytes()).saturating_add(2 * m as u64 * T::DTYPE.bytes() as u64);
    if needed > session.memory_limit() {
        let note = format!("the matrix ({}) does not fit in memory: generated chunk by chunk as it is used", Bytes(a.nbytes()));
        return Ok((a, x, Some(note)));
    }
    let (a, x) = (Array::from(a.compute()?), Array::from(x.compute()?));
    Ok((a.in_session(session), x.in_session(session), None))
}
