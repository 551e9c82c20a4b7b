//! What the runtime costs per task, and per chunk of an array expression.

mod common;

use std::borrow::Cow;
use std::sync::Arc;

use chunkwise::ext::{
    ChunkMeta, ChunkView, ChunkViewMut, Fault, Kernel, Scratch, Work, check_dtypes, check_params, for_each_piece,
};
use chunkwise::{Array, Bytes, DType, Error, Float, Placement, Remedy, RunReport, Session};
use common::{CommonArgs, Fallible, Outcome, Precision, Report, finish, open_session};
use support::dag::{explain_random_dag, random_dag};

/// Run a random graph of tiny tasks (each adds one to three earlier numbers), check the sum, and print microseconds per task. Or, with --chunks, take the
/// mean of a random array of many small chunks, each of which goes through a kernel, check it, and print microseconds per chunk.
#[derive(clap::Parser)]
#[command(after_help = common::usage(&[
    ("overhead -- --tasks 100000", "one hundred thousand tasks"),
    ("overhead -- --chunks 1000000", "one million chunks of 8 x 8"),
]))]
struct Args {
    /// Number of tasks; at most 20 million.
    #[arg(long, value_name = "N", default_value_t = 100_000, value_parser = clap::value_parser!(u32).range(1..=20_000_000))]
    tasks: u32,

    /// Number of chunks, at most 20 million, of a random array instead of the tasks of a graph. They are of 8 x 8 elements, or as --chunk says.
    #[arg(long, value_name = "N", conflicts_with = "tasks", value_parser = clap::value_parser!(u32).range(1..=20_000_000))]
    chunks: Option<u32>,

    #[command(flatten)]
    common: CommonArgs,
}

/// Extent of a chunk along both axes: so small that what it costs is not its elements.
const EXTENT: usize = 8;

/// Up to so many chunks, the mean is taken once more with other threads.
const FEW: u32 = 20_000;

fn main() -> std::process::ExitCode {
    common::run(|args: Args| match (args.chunks, args.common.dtype) {
        (None, _) => of_tasks(&args),
        (Some(chunks), Precision::F32) => of_chunks::<f32>(&args.common, chunks),
        (Some(chunks), Precision::F64) => of_chunks::<f64>(&args.common, chunks),
    })
}

fn of_tasks(args: &Args) -> Outcome {
    let session = open_session(&args.common, Vec::new())?;
    let tasks = args.tasks as usize;
    common::explain(&args.common, || explain_random_dag(&session, tasks))?;
    let (checksum, run) = random_dag(&session, tasks)?;
    common::write_trace(&args.common, &run)?;
    let mut report = Report::new("overhead", &[tasks], &args.common);
    report.dtype = DType::U64;
    report.what = format!("{tasks} additions of 1 to 3 numbers, {} for the checksum", run.tasks() - tasks);
    let mut report = report.of_run(&session, &run, run.tasks() as f64, "task/s");
    let us = run.total_s * 1e6 / run.tasks().max(1) as f64;
    report.notes.push(format!("{us:.2} us a task, planning included"));
    report.checked = Some(format!("checksum {checksum:016x} as a sequential loop gives"));
    report.extra.insert("us_per_task".into(), us.into());
    report.extra.insert("checksum".into(), format!("{checksum:016x}").into());
    report.print(&args.common)
}

/// Twice each element.
struct Twice;

impl Kernel for Twice {
    fn name(&self) -> Cow<'static, str> {
        "example::twice".into()
    }

    fn check(&self, bytes: &[u8], operands: &[ChunkMeta<'_>]) -> Result<(), Error> {
        check_params::<()>(self, bytes)?;
        check_dtypes(self, operands, &[&[DType::F32, DType::F64], &[operands[0].dtype]], 1)
    }

    fn work(&self, _: &[u8], operands: &[ChunkMeta<'_>]) -> Work {
        let elements = operands[0].shape.iter().product::<usize>() as f64;
        Work { flops: elements, bytes: 2.0 * operands[0].dtype.bytes() as f64 * elements }
    }

    fn run_cpu(
        &self,
        _: &[u8],
        inputs: &[ChunkView<'_>],
        outputs: &mut [ChunkViewMut<'_>],
        _: &mut Scratch<'_>,
    ) -> Result<(), Fault> {
        match inputs[0].layout().dtype {
            DType::F32 => for_each_piece::<[f32; 1], f32>(inputs, &mut outputs[0], |[x], out| {
                out.iter_mut().zip(x).for_each(|(out, x)| *out = 2.0 * x);
            }),
            _ => for_each_piece::<[f64; 1], f64>(inputs, &mut outputs[0], |[x], out| {
                out.iter_mut().zip(x).for_each(|(out, x)| *out = 2.0 * x);
            }),
        }
        Ok(())
    }
}

fn of_chunks<T: Float>(args: &CommonArgs, chunks: u32) -> Outcome {
    let session = open_session(args, Vec::new())?;
    let x = numbers::<T>(&session, args, chunks)?;
    let (mean, run) = finish(args, "overhead", &mean(&x)?).map_err(without_larger)?;
    let peak = common::peak_rss_bytes(); // the checks come after
    let mean = mean.first().copied().ok_or("a mean has no element")?;
    let checked = checked::<T>(args, chunks, (&session, &x), (mean, &run))?;
    let mut report = Report::new("overhead", x.shape(), args);
    report.what = format!("mean of twice {} random numbers", common::extents(x.shape()));
    report.chunks = common::cut(&x.grid(), "chunk");
    let mut report = report.of_run(&session, &run, f64::from(chunks), "chunk/s");
    let us = |s: f64| s * 1e6 / f64::from(chunks);
    let run_s = (run.total_s - run.plan_s).max(0.0);
    let (plan, ran) = (common::seconds(run.plan_s), common::seconds(run_s));
    report.notes.push(format!(
        "planned in {plan}, ran in {ran}: {:.2} us a chunk, {:.2} of it planning",
        us(run.total_s),
        us(run.plan_s)
    ));
    report.notes.push(format!("the array has {}, the process had {} at its peak", Bytes(x.nbytes()), Bytes(peak)));
    report.checked = Some(checked);
    report.result = Some(mean);
    for (name, value) in [("us_per_chunk", us(run.total_s)), ("us_per_chunk_planned", us(run.plan_s)), ("run_s", run_s)] {
        report.extra.insert(name.into(), value.into());
    }
    report.extra.insert("array_bytes".into(), x.nbytes().into());
    report.extra.insert("run_peak_rss_bytes".into(), peak.into());
    report.print(args)
}

/// Larger chunks would be as many here, and help nothing.
fn without_larger(error: Box<dyn std::error::Error + Send + Sync>) -> Box<dyn std::error::Error + Send + Sync> {
    error.downcast::<Error>().map_or_else(
        |other| other,
        |mut error| {
            if let Error::OutOfMemory { remedies, .. } = &mut *error {
                remedies.retain(|remedy| !matches!(remedy, Remedy::Chunks { .. }));
                remedies.insert(0, Remedy::Other("fewer chunks: --chunks".into()));
            }
            error
        },
    )
}

/// Uniform random numbers in so many chunks, one below the other.
fn numbers<T: Float>(session: &Session, args: &CommonArgs, chunks: u32) -> Result<Array<T>, Error> {
    let extent = args.chunk.unwrap_or(EXTENT);
    session.default_rng().try_uniform::<T>((extent.saturating_mul(chunks as usize), extent))?.try_chunks(extent)
}

/// The mean of twice each element.
fn mean<T: Float>(x: &Array<T>) -> Result<Array<f64>, Error> {
    Ok(x.try_with_kernel::<T>(&[], Arc::new(Twice), &())?.mean())
}

/// Checks a mean by what uniform numbers must give, and of few chunks by a second run with other threads; says how.
fn checked<T: Float>(args: &CommonArgs, chunks: u32, of: (&Session, &Array<T>), found: (f64, &RunReport)) -> Fallible<String> {
    let ((session, x), (mean, run)) = (of, found);
    // Twice a number of [0, 1) has the mean 1 and the variance 1/3; those of f32 are 2^-24 apart.
    let sigma = 1.0 / (3.0 * x.len() as f64).sqrt();
    if (mean - 1.0).abs() > 6.0 * sigma + f64::from(f32::EPSILON) || mean.is_nan() {
        return Err(format!("the mean is {mean}: not that of uniform numbers, which is 1, give or take {sigma:.1e}").into());
    }
    let near = format!("the mean is {:.1} sigma from that of uniform numbers", (mean - 1.0).abs() / sigma);
    // Another device may sum in another order.
    if chunks > FEW || run.placement().iter().any(|(device, ..)| device != "cpu") {
        return Ok(near);
    }
    let threads = args.threads.unwrap_or_else(common::threads);
    let other = if threads == 1 { 2 } else { 1 };
    let limit = session.memory_limit();
    let builder = Session::builder().placement(Placement::Cpu).threads(other).seed(args.seed).memory_limit(limit).cache_dir("");
    let again = self::mean(&numbers::<T>(&builder.build()?, args, chunks)?)?.compute_scalar()?;
    if again.to_bits() != mean.to_bits() {
        return Err(format!("the mean is {mean} with {threads} threads, and {again} with {other}").into());
    }
    Ok(format!("{near}, and bit for bit the same with {other} thread{}", if other == 1 { "" } else { "s" }))
}
