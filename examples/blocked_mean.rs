//! The mean of a dataset that need not fit in memory.

mod common;

use std::path::Path;
use std::sync::Arc;
use std::time::Instant;

use chunkwise::ext::{ChunkSource, ChunkViewMut, Lane, Region};
use chunkwise::{Array, Bytes, DType, Error, Explanation, Float, Remedy, Session, store};
use common::{CommonArgs, Named, Outcome, Precision, Progress, Report, cut, extents, finish, open_session, some_bytes};

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
    #[arg(long, value_name = "SIZE", value_parser = some_bytes)]
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
    let data =
        if args.make.is_some() { Named::written("--make", Some(&args.data)) } else { Named::read("FILE", Some(&args.data)) };
    let session = open_session(&args.common, vec![data, Named::read("--weights", args.weights.as_ref())])?;
    let (mut wrote, mut made) = (Vec::new(), None);
    if let Some(size) = args.make {
        let asked = Instant::now();
        make(&args, size, &session)?;
        wrote.push(args.data.clone().into());
        made = Some(common::made("the file", asked.elapsed()));
    }
    let source = store::open(&args.data)?;
    let (dtype, access) = (source.dtype(), source.access());
    let (x, mean) = mean_of(source, &args, &session)?;
    let (value, run) = finish(&args.common, "blocked_mean", &mean)?;
    let mut report = Report::new("blocked_mean", x.shape(), &args.common);
    let kind = if args.weights.is_some() { "weighted mean" } else { "mean" };
    report.what = format!("{kind} of {} ({})", args.data, extents(x.shape()));
    report.chunks = cut(&x.grid(), "chunk");
    report.dtype = dtype;
    let bytes = x.len() as f64 * dtype.bytes() as f64 * if args.weights.is_some() { 2.0 } else { 1.0 };
    let mut report = report.of_run(&session, &run, bytes, "B/s");
    report.result = value.first().copied();
    report.notes.push(format!("read by {access}"));
    report.notes.extend(made);
    report.wrote.extend(wrote);
    report.print(&args.common)
}

/// The data, and their mean.
fn mean_of(source: Arc<dyn ChunkSource>, args: &Args, session: &Session) -> chunkwise::Result<(Array<f64>, Array<f64>)> {
    let x = Array::<f64>::from_source(source)?.in_session(session);
    let x = args.common.cut(x)?;
    let mean = match &args.weights {
        Some(weights) => x.try_weighted_mean(&Array::open(weights)?.in_session(session))?,
        None => x.mean(),
    };
    Ok((x, mean))
}

/// Writes a matrix of random numbers of about `size` bytes, chunk by chunk.
fn make(args: &Args, size: Bytes, session: &Session) -> Outcome {
    let elements = (size.0 as usize / args.common.dtype.dtype().bytes()).max(1);
    let columns = elements.min(4096);
    let shape = [elements / columns, columns];
    match args.common.dtype {
        Precision::F32 => write(args, session.default_rng().try_uniform::<f32>(shape)?, session),
        Precision::F64 => write(args, session.default_rng().try_uniform::<f64>(shape)?, session),
    }
}

fn write<T: Float>(args: &Args, numbers: Array<T>, session: &Session) -> Outcome {
    let numbers = args.common.cut(numbers)?;
    let is_there = match store::open(&args.data) {
        Ok(_) | Err(Error::DType { .. }) => true,
        Err(_) => false, // what else is there is told by what creates the file
    };
    if is_there {
        let problem = "is there already; leave --make out to take its mean, or name another";
        return Err(Error::file(&args.data, problem).into());
    }
    let file = args.data.rsplit_once(":/").map_or(args.data.as_str(), |(file, _)| file);
    let folder = Path::new(file).parent().filter(|p| !p.as_os_str().is_empty()).unwrap_or(Path::new("."));
    // A folder that is not there is told by what creates the file.
    if let Some(free) = common::disk_free(folder).ok().filter(|&free| free < numbers.nbytes()) {
        let problem = format!("needs {}, and its disk has {} left; --make less", Bytes(numbers.nbytes()), Bytes(free));
        return Err(Error::file(file, problem).into());
    }
    let sink = store::create(&args.data, numbers.shape(), numbers.dtype(), None)?;
    let unmade = Arc::new(Unmade { shape: numbers.shape().to_vec(), dtype: numbers.dtype() });
    // Both before either: memory that is enough for writing alone is no advice.
    both(numbers.explain_store(&sink), mean_of(unmade, args, session)?.1.explain())?;
    let progress = Progress::start(&args.common, "writing");
    numbers.store_watched(&sink, |done, total| progress.set(done as u64, total as u64))?;
    Ok(())
}

/// Errs if one of two plans does not fit, with a limit that is enough for both.
fn both(write: chunkwise::Result<Explanation>, mean: chunkwise::Result<Explanation>) -> chunkwise::Result<()> {
    let needs =
        |error: &Error| if let Error::OutOfMemory { requested_bytes, .. } = error { *requested_bytes } else { u64::MAX };
    let Some(mut error) = [write.err(), mean.err()].into_iter().flatten().max_by_key(needs) else { return Ok(()) };
    if let Error::OutOfMemory { remedies, .. } = &mut error
        && remedies.iter().any(|remedy| matches!(remedy, Remedy::Limit(_)))
    {
        // Other chunks were tried for one of the two only.
        remedies.retain(|remedy| matches!(remedy, Remedy::Limit(_)));
    }
    Err(error)
}

/// The dataset before it is made, to plan with.
struct Unmade {
    shape: Vec<usize>,
    dtype: DType,
}

impl ChunkSource for Unmade {
    fn shape(&self) -> &[usize] {
        &self.shape
    }

    fn dtype(&self) -> DType {
        self.dtype
    }

    fn name(&self) -> String {
        "the file to be made".into()
    }

    fn version_token(&self) -> String {
        String::new()
    }

    fn access(&self) -> String {
        "nothing yet".into()
    }

    fn lane(&self) -> Lane {
        Lane::Compute
    }

    fn read(&self, _: &Region, _: &mut ChunkViewMut<'_>) -> chunkwise::Result<()> {
        Err(Error::Failed { what: self.name(), message: "it is there to plan with only".into() })
    }
}
