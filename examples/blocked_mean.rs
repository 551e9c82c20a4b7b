//! The mean of a dataset that need not fit in memory.

mod common;

use chunkwise::shape::DType;
use chunkwise::{Array, Bytes, Error, Session, store};
use common::{CommonArgs, Outcome, Precision, Report, finish, open_session};

/// Compute the mean of a dataset, chunk by chunk: any rank, any size. Chunks are summed as they are read.
#[derive(clap::Parser)]
#[command(after_help = common::usage(&[
    ("blocked_mean -- --make 2GB mean.h5:/data", "make a file of random numbers, and take its mean"),
    ("blocked_mean -- data.h5:/group/dataset", "the mean of what you have"),
    ("blocked_mean -- data.h5:/v --weights data.h5:/w", "sum(w v) / sum(w)"),
]))]
struct Args {
    /// The dataset: `file.h5:/dataset` or `file.npy`.
    #[arg(value_name = "FILE")]
    data: String,

    /// First make the file, of about this size: uniform random numbers of --dtype.
    #[arg(long, value_name = "SIZE")]
    make: Option<Bytes>,

    /// Weights, of the dataset's shape.
    #[arg(long, value_name = "FILE")]
    weights: Option<String>,

    #[command(flatten)]
    common: CommonArgs,
}

fn main() -> std::process::ExitCode {
    common::run(blocked_mean)
}

fn blocked_mean(args: Args) -> Outcome {
    let session = open_session(&args.common)?;
    let mut wrote = Vec::new();
    if let Some(size) = args.make {
        make(&args, size, &session)?;
        wrote.push(args.data.clone().into());
    }
    let source = store::open(&args.data)?;
    let (dtype, access) = (source.dtype(), source.access());
    let x = Array::<f64>::from_source(source)?.in_session(&session);
    let x = match args.common.chunk {
        Some(chunk) => x.try_chunks(chunk)?,
        None => x,
    };
    let mean = match &args.weights {
        Some(weights) => x.try_weighted_mean(&Array::open(weights)?.in_session(&session))?,
        None => x.mean(),
    };
    let (value, run) = finish(&args.common, "blocked_mean", &mean)?;
    let mut report = Report::new("blocked_mean", x.shape(), &args.common);
    let extents = |shape: &[usize]| shape.iter().map(ToString::to_string).collect::<Vec<_>>().join(" x ");
    let kind = if args.weights.is_some() { "weighted mean" } else { "mean" };
    report.what = format!("{kind} of {} ({})", args.data, if x.ndim() == 0 { "a scalar".into() } else { extents(x.shape()) });
    report.chunks = format!("{} chunks of {}", x.grid().len(), extents(&x.grid().largest()));
    report.dtype = dtype;
    let bytes = x.len() as f64 * dtype.bytes() as f64 * if args.weights.is_some() { 2.0 } else { 1.0 };
    let mut report = report.of_run(&session, &run, bytes, "B/s");
    report.result = value.first().copied();
    report.notes.push(format!("read by {access}"));
    report.wrote = wrote;
    report.print(&args.common)
}

/// Writes a matrix of random numbers of about `size` bytes, chunk by chunk.
fn make(args: &Args, size: Bytes, session: &Session) -> Result<(), Error> {
    let dtype = args.common.dtype.dtype();
    let elements = (size.0 as usize / dtype.bytes()).max(1);
    let columns = elements.min(4096);
    let shape = [elements / columns, columns];
    match args.common.dtype {
        Precision::F32 => session.random_uniform::<f32>(shape)?.store(&args.data)?,
        Precision::F64 => session.random_uniform::<f64>(shape)?.store(&args.data)?,
    };
    debug_assert!(matches!(dtype, DType::F32 | DType::F64));
    Ok(())
}
