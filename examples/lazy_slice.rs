//! The mean of a slice of `x + x.T`: what is not in the slice is never made, and `x` need not fit in memory.

mod common;

use std::time::Instant;

use chunkwise::{Array, DType, Float, Session, compute_all, store};
use common::{CommonArgs, Fallible, Named, Outcome, Precision, Report, finish, open_session};
use ndarray::{ArrayD, Axis, LinalgScalar, s};

/// Compute z, where y = x + x.T and z = y[::2, n/2:].mean(axis=1), of a matrix x of n rows and columns, and check it.
///
/// From `memory`, element (i, j) of x is ((31 i + 17 j + i j) mod 1024) / 1024, which f32 and f64 hold
/// exactly; `random` are uniform numbers of [0, 1), made where they are used and never all at once.
/// z is f64, as means are.
#[derive(clap::Parser)]
#[command(verbatim_doc_comment, after_help = common::usage(&[
    ("lazy_slice", "10000 x 10000 numbers (800 MB in f64) in memory"),
    ("lazy_slice -- --n 100000 --source random --memory-limit 1GB", "80 GB of random numbers, of which 40 GB are made"),
    ("lazy_slice -- --n 2000 --out z.npy", "z as a file"),
]))]
struct Args {
    /// Rows and columns of x.
    #[arg(long, value_name = "N", default_value_t = 10_000, value_parser = common::at_least_one)]
    n: usize,

    /// Where the numbers come from.
    #[arg(long, value_enum, default_value = "memory")]
    source: Source,

    /// Compute z so many times: what is shown beside the first time is the median of the others.
    #[arg(long, value_name = "N", default_value_t = 1, value_parser = common::at_least_one)]
    repeat: usize,

    /// Where z goes: `z.npy` or `z.h5:/z`.
    #[arg(long, value_name = "FILE")]
    out: Option<String>,

    #[command(flatten)]
    common: CommonArgs,
}

/// Where x comes from.
#[derive(Clone, Copy, Debug, PartialEq, Eq, clap::ValueEnum)]
enum Source {
    /// An ndarray in the program's memory
    Memory,
    /// Random numbers, made chunk by chunk
    Random,
}

fn main() -> std::process::ExitCode {
    common::run(|args: Args| match args.common.dtype {
        Precision::F32 => lazy_slice::<f32>(&args),
        Precision::F64 => lazy_slice::<f64>(&args),
    })
}

fn lazy_slice<T: Float + LinalgScalar>(args: &Args) -> Outcome {
    let session = open_session(&args.common, vec![Named::written("--out", args.out.as_ref())])?;
    // What cannot be written is said before anything is made.
    let create = |spec: &String| store::create(spec, &[args.n.div_ceil(2)], DType::F64, None);
    let sink = args.out.as_ref().map(create).transpose()?;
    let (x, made) = match args.source {
        Source::Random => (args.common.cut(session.rng(args.common.seed).try_uniform::<T>((args.n, args.n))?)?, None),
        Source::Memory => from_memory(args, &session)?,
    };
    let z = mean_of_slice(&x)?;
    let (values, run) = finish(&args.common, "lazy_slice", &z)?;
    let checked = match args.source {
        Source::Memory => checked_by_formula(&values, args.n)?,
        Source::Random => checked_by_slices(&values, &x)?,
    };
    let mut report = Report::new("lazy_slice", x.shape(), &args.common);
    report.what = format!("(x + x.T)[::2, {}:].mean(axis=1), {}", args.n / 2, common::extents(x.shape()));
    report.chunks = common::cut(&x.grid(), "chunk");
    let elements = 2 * values.len() * (args.n - args.n / 2);
    let mut report = report.of_run(&session, &run, (elements * T::DTYPE.bytes()) as f64, "B/s");
    report.notes.extend(made);
    report.notes.push(format!("x has {}, of which {elements} elements were read or made", chunkwise::Bytes(x.nbytes())));
    if let Some(s) = again(args, &z, &values)? {
        report.notes.push(format!("again: {} (median of {})", common::seconds(s), args.repeat - 1));
        report.extra.insert("again_s".into(), s.into());
    }
    report.result = Some(mean(&values));
    report.checked = Some(checked);
    report.extra.insert("source".into(), format!("{:?}", args.source).to_lowercase().into());
    report.extra.insert("array_bytes".into(), x.nbytes().into());
    drop((x, z));
    if let (Some(sink), Some(out)) = (sink, &args.out) {
        Array::from(values).in_session(&session).store_into(&sink)?;
        report.wrote.push(out.into());
    }
    report.print(&args.common)
}

/// The median of the seconds that further calls take, if there are any.
fn again(args: &Args, z: &Array<f64>, values: &ArrayD<f64>) -> Fallible<Option<f64>> {
    let mut times = Vec::new();
    for _ in 1..args.repeat {
        let (s, found) = common::timed(0, || z.compute());
        if found? != *values {
            return Err("z is another one when it is computed again".into());
        }
        times.push(s);
    }
    Ok((!times.is_empty()).then(|| common::median(&times)))
}

/// The document's two lines.
fn mean_of_slice<T: Float>(x: &Array<T>) -> chunkwise::Result<Array<f64>> {
    let half = x.shape()[0] / 2;
    let y = x.try_add(x.t())?;
    Ok(y.slice(s![..;2, half..]).mean_axis(Axis(1)))
}

/// Element (i, j) of x in memory.
fn element(i: usize, j: usize) -> f64 {
    ((31 * i + 17 * j + i * j) % 1024) as f64 / 1024.0
}

/// x in memory, planned before it is filled.
fn from_memory<T: Float>(args: &Args, session: &Session) -> Fallible<(Array<T>, Option<String>)> {
    let bytes = (args.n as u64).saturating_mul(args.n as u64).saturating_mul(T::DTYPE.bytes() as u64);
    common::room("x", bytes, "--source random, or a smaller --n")?;
    mean_of_slice(&args.common.cut(common::zeros::<T>(&[args.n, args.n], session))?)?.explain()?;
    let asked = Instant::now();
    // Made by the library, as an ndarray of its own would be: on all cores, and in large pages of memory, by which columns are read faster.
    let x = Array::from_shape_fn((args.n, args.n), |(i, j)| T::from_f64(element(i, j))).in_session(session).compute()?;
    let note = common::made("x", asked.elapsed());
    Ok((args.common.cut(Array::from(x).in_session(session))?, Some(note)))
}

/// Elements that the check sums by itself, at most.
const MOST_CHECKED: usize = 100_000_000;

/// Sums rows in plain loops over the formula: all of them, or as many as take a second or two.
fn checked_by_formula(z: &ArrayD<f64>, n: usize) -> Fallible<String> {
    let half = n / 2;
    let every = z.len().div_ceil((MOST_CHECKED / (n - half)).max(1));
    let (mut rows, mut most) = (0, 0.0f64);
    for k in (0..z.len()).step_by(every) {
        let i = 2 * k;
        // Numbers of 1/1024: exact in any order.
        let sum: f64 = (half..n).map(|j| element(i, j) + element(j, i)).sum();
        most = most.max(common::apart(z[[k]], sum / (n - half) as f64));
        rows += 1;
    }
    within("the formula", rows, most, 2.0 * f64::EPSILON)
}

/// Rows that are summed again of random numbers.
const ROWS: usize = 16;

/// Sums some rows of y in plain loops over what slices of x give; and looks at the mean of all.
fn checked_by_slices<T: Float + LinalgScalar>(z: &ArrayD<f64>, x: &Array<T>) -> Fallible<String> {
    let n = x.shape()[0];
    let (half, every) = (n / 2, z.len().div_ceil(ROWS));
    let (mut rows, mut most) = (0, 0.0f64);
    for k in (0..z.len()).step_by(every) {
        let i = 2 * k;
        let (row, column) = compute_all((&x.slice(s![i, half..]), &x.slice(s![half.., i])))?;
        let sum: f64 = row.iter().zip(&column).map(|(&a, &b)| (a + b).to_f64()).sum();
        most = most.max(common::apart(z[[k]], sum / (n - half) as f64));
        rows += 1;
    }
    // A plain sum of n numbers above 0 is off by n roundings at most, the library's by some hundred.
    let rows = within("slices of x", rows, most, (n + 300) as f64 * f64::EPSILON / 2.0)?;
    // Each element of y is the sum of two numbers of variance 1/12, and some elements are there twice.
    let (found, sigma) = (mean(z), 1.0 / (3.0 * (z.len() * (n - half)) as f64).sqrt());
    let off = (found - 1.0).abs() / sigma;
    if off > 6.0 + f64::from(f32::EPSILON) / sigma || off.is_nan() {
        return Err(format!("the mean of z is {found}, which is {off:.1} sigma from that of uniform numbers").into());
    }
    Ok(format!("{rows}; the mean of all is {found:.6}, {off:.1} sigma from 1"))
}

fn within(what: &str, rows: usize, most: f64, allowed: f64) -> Fallible<String> {
    if most > allowed {
        return Err(format!("z is not what {what} and plain loops give: {most:.1e} apart, in relation to that").into());
    }
    Ok(format!("{rows} elements of z, from {what} in plain loops: {}", common::in_words(most, "")))
}

fn mean(z: &ArrayD<f64>) -> f64 {
    z.iter().sum::<f64>() / z.len() as f64
}
