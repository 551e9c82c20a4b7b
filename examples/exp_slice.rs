//! A corner of `exp(ones((n, n)))`: what nobody asks for is not computed.

mod common;

use std::time::Instant;

use chunkwise::{Array, Bytes, Error, Float, RunReport};
use common::{CommonArgs, Fallible, Outcome, Precision, Report, UsageError, finish, open_session, seconds};
use ndarray::{ArrayD, s};

/// Compute exp(ones((n, n)))[1:100, 1:100], and the same of uniform random numbers, check both, and say how little was done for it.
#[derive(clap::Parser)]
#[command(after_help = common::usage(&[
    ("exp_slice", "99 x 99 of 10000 x 10000 elements"),
    ("exp_slice -- --whole", "all of them too, for the comparison (800 MB in f64)"),
    ("exp_slice -- --n 1000000", "of an array of 8 TB"),
]))]
struct Args {
    /// Rows and columns, at least 100.
    #[arg(long, value_name = "N", default_value_t = 10_000, value_parser = common::at_least_one)]
    n: usize,

    /// Compute the whole arrays too.
    #[arg(long)]
    whole: bool,

    #[command(flatten)]
    common: CommonArgs,
}

fn main() -> std::process::ExitCode {
    common::run(|args: Args| match args.common.dtype {
        Precision::F32 => exp_slice::<f32>(&args),
        Precision::F64 => exp_slice::<f64>(&args),
    })
}

fn exp_slice<T: Float>(args: &Args) -> Outcome {
    if args.n < 100 {
        return Err(UsageError(format!("--n {}: the slice 1..100 needs 100 rows and columns", args.n)).into());
    }
    let session = open_session(&args.common, Vec::new())?;
    let shape = (args.n, args.n);
    let ones = args.common.cut(Array::<T>::try_ones(shape)?.in_session(&session))?;
    let random = args.common.cut(session.rng(args.common.seed).try_uniform::<T>(shape)?)?;
    let of_ones = corner(&ones, &args.common)?;
    let of_random = corner(&random, &args.common)?;
    let mut report = Report::new("exp_slice", ones.shape(), &args.common);
    report.what = format!("exp(..)[1..100, 1..100] of {}", common::extents(ones.shape()));
    report.chunks = common::cut(&random.grid(), "chunk");
    // The summary is that of the array that is no constant, of which there is something to compute.
    let mut report = report.of_run(&session, &of_random.run, of_random.values.len() as f64, "element/s");
    report.checked = Some(format!(
        "{} elements of each, f64::exp one by one: at most {:.0} ulp apart",
        of_random.values.len(),
        of_ones.ulps.max(of_random.ulps)
    ));
    for (name, x, part) in [("ones", &ones, &of_ones), ("random", &random, &of_random)] {
        compare(args, &mut report, name, (x, part))?;
    }
    report.print(&args.common)
}

/// Says of one of the arrays what the corner took, and what the whole would.
fn compare<T: Float>(args: &Args, report: &mut Report, name: &str, (x, part): (&Array<T>, &Corner<T>)) -> Outcome {
    let whole_tasks = match x.exp().explain() {
        Ok(all) => Some(all.groups.iter().map(|group| group.tasks).sum::<usize>()),
        Err(Error::OutOfMemory { .. }) => None, // who asks for a corner need not have room for the whole
        Err(other) => return Err(other.into()),
    };
    let (tasks, bytes, whole_bytes) = (part.run.tasks(), part.values.len() * T::DTYPE.bytes(), x.nbytes());
    let many = |tasks: usize| format!("{tasks} task{}", if tasks == 1 { "" } else { "s" });
    report.notes.push(format!(
        "{name}: {} for {} in {}; the whole, of {}, {}",
        many(tasks),
        Bytes(bytes as u64),
        seconds(part.run.total_s),
        Bytes(whole_bytes),
        whole_tasks.map_or("does not fit in memory".into(), |tasks| format!("is {}", many(tasks)))
    ));
    report.extra.insert(format!("{name}_tasks"), tasks.into());
    report.extra.insert(format!("{name}_whole_tasks"), whole_tasks.into());
    report.extra.insert(format!("{name}_bytes"), bytes.into());
    report.extra.insert(format!("{name}_whole_bytes"), whole_bytes.into());
    report.extra.insert(format!("{name}_s"), part.run.total_s.into());
    if args.whole {
        let whole_s = whole(x, part)?;
        report.notes.push(format!("{name}: the whole took {}, its corner has the same bits", seconds(whole_s)));
        report.extra.insert(format!("{name}_whole_s"), whole_s.into());
    }
    Ok(())
}

/// A corner that was computed by itself.
struct Corner<T> {
    values: ArrayD<T>,
    run: RunReport,
    /// Units in the last place from what `f64::exp` gives.
    ulps: f64,
}

/// The document's line, checked element by element.
fn corner<T: Float>(x: &Array<T>, args: &CommonArgs) -> Fallible<Corner<T>> {
    let (values, run) = finish(args, "exp_slice", &x.exp().try_slice(s![1..100, 1..100])?)?;
    let inputs = x.slice(s![1..100, 1..100]).compute()?;
    let ulps = values.iter().zip(&inputs).map(|(&found, x)| common::ulps(found, x.to_f64().exp())).fold(0.0, f64::max);
    if ulps > 1.0 {
        return Err(format!("an element is {ulps} units in the last place from what f64::exp gives").into());
    }
    Ok(Corner { values, run, ulps })
}

/// Seconds of computing the whole, whose corner is compared.
fn whole<T: Float>(x: &Array<T>, part: &Corner<T>) -> Fallible<f64> {
    let asked = Instant::now();
    let all = x.exp().compute()?;
    let took = asked.elapsed().as_secs_f64();
    if all.slice(s![1..100, 1..100]) != part.values.view().into_dimensionality::<ndarray::Ix2>()? {
        return Err("the whole has other elements in its corner".into());
    }
    Ok(took)
}
