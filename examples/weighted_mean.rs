//! The weighted mean, written as an array expression and as one call.

mod common;

use std::sync::Arc;

use chunkwise::{Array, Float, Session, prelude::*};
use common::{CommonArgs, Fallible, Outcome, Precision, Report, finish, open_session, seconds};

/// Compute the mean of v = [0, 1, 2, 3] with weights w = [5, 10, 33, 16], which is 1.9375, as (v * w).sum() / w.sum() and by `weighted_mean`. Or, with --n, of
/// random numbers, both ways timed, and compared with a plain loop.
///
/// The form with delayed functions of the same document waits for `delayed`, which the library does not have yet.
#[derive(clap::Parser)]
#[command(after_help = common::usage(&[
    ("weighted_mean", "four numbers, in chunks of one"),
    ("weighted_mean -- --n 100000000", "of 1e8 random numbers (1.6 GB in f64, with their weights)"),
]))]
struct Args {
    /// So many random numbers, with as many random weights, instead of the four: they are of --dtype.
    #[arg(long, value_name = "N", value_parser = common::at_least_one)]
    n: Option<usize>,

    /// Take the mean of random numbers so many times, both ways in turns; what is shown is the median.
    #[arg(long, value_name = "N", default_value_t = 9, value_parser = common::at_least_one, requires = "n")]
    repeat: usize,

    #[command(flatten)]
    common: CommonArgs,
}

fn main() -> std::process::ExitCode {
    common::run(|args: Args| match (args.n, args.common.dtype) {
        (None, _) => of_four(&args),
        (Some(n), Precision::F32) => of_random::<f32>(&args, n),
        (Some(n), Precision::F64) => of_random::<f64>(&args, n),
    })
}

/// The document's numbers and what comes of them.
const V: [i64; 4] = [0, 1, 2, 3];
const W: [i64; 4] = [5, 10, 33, 16];
const WANTED: f64 = 1.9375;

fn of_four(args: &Args) -> Outcome {
    let session = open_session(&args.common, Vec::new())?;
    let chunk = args.common.chunk.unwrap_or(1);
    let v = Array::arange(0, V.len() as i64, 1).in_session(&session).try_chunks(chunk)?;
    let w = Array::from(W).in_session(&session).try_chunks(chunk)?;
    // The quotient of two integers is an integer, as in Rust: one of them is to be a float.
    let mean = (&v * &w).sum() / w.sum().cast::<f64>();
    let (by_expression, run) = finish(&args.common, "weighted_mean", &mean)?;
    let by_call = v.weighted_mean(&w).compute_scalar()?;
    let by_loop = V.iter().zip(W).map(|(v, w)| v * w).sum::<i64>() as f64 / W.iter().sum::<i64>() as f64;
    let by_expression = by_expression.first().copied().ok_or("a mean has no element")?;
    if [by_expression, by_call, by_loop] != [WANTED; 3] {
        let found = format!("the mean is {WANTED}: the expression gives {by_expression}, the call {by_call}, a loop {by_loop}");
        return Err(found.into());
    }
    let mut report = Report::new("weighted_mean", &[V.len()], &args.common);
    report.dtype = DType::I64;
    report.what = format!("mean of {V:?} with weights {W:?}");
    report.chunks = common::cut(&v.grid(), "chunk");
    let mut report = report.of_run(&session, &run, V.len() as f64, "element/s");
    report.result = Some(by_expression);
    report.checked = Some("expression, call and plain loop: equal".into());
    report.extra.insert("by_call".into(), by_call.into());
    report.print(&args.common)
}

fn of_random<T: Float>(args: &Args, n: usize) -> Outcome {
    let session = open_session(&args.common, Vec::new())?;
    let [v, w] = in_memory::<T>(args, n, &session)?;
    let [v_array, w_array] = [&v, &w].map(|numbers| args.common.cut(Array::from(numbers.clone()).in_session(&session)));
    let (v_array, w_array) = (v_array?, w_array?);
    let by_expression = ((&v_array * &w_array).sum() / w_array.sum()).cast::<f64>();
    let by_call = v_array.weighted_mean(&w_array);
    let (found_by_call, run) = finish(&args.common, "weighted_mean", &by_call)?;
    let found = [by_expression.compute_scalar()?, found_by_call.first().copied().ok_or("a mean has no element")?];
    let checked = checked(&v, &w, found)?;
    let mut times = [const { Vec::new() }; 2];
    for _ in 0..args.repeat {
        for (way, times) in [&by_expression, &by_call].into_iter().zip(&mut times) {
            let (s, mean) = common::timed(0, || way.compute_scalar());
            mean?;
            times.push(s);
        }
    }
    let [expression_s, call_s] = times.map(|times| common::median(&times));
    let bytes = (2 * n * T::DTYPE.bytes()) as f64;
    let mut report = Report::new("weighted_mean", &[n], &args.common);
    report.what = format!("weighted mean of {n} random numbers");
    report.chunks = common::cut(&v_array.grid(), "chunk");
    let mut report = report.of_run(&session, &run, bytes, "B/s");
    report.result = Some(found[1]);
    report.checked = Some(checked);
    for (way, s) in [("(v * w).sum() / w.sum()", expression_s), ("v.weighted_mean(&w)", call_s)] {
        let speed = common::rate(bytes / s, "B/s");
        report.notes.push(format!("{way:23}   {}   {speed}   (median of {})", seconds(s), args.repeat));
    }
    for (name, value) in [("by_expression", found[0]), ("expression_s", expression_s), ("call_s", call_s)] {
        report.extra.insert(name.into(), value.into());
    }
    report.print(&args.common)
}

/// Numbers and weights, uniform in [0, 1): in memory, so that what is timed is the mean alone.
fn in_memory<T: Float>(args: &Args, n: usize, session: &Session) -> Fallible<[Arc<Vec<T>>; 2]> {
    let rng = session.rng(args.common.seed);
    let arrays = [rng.try_uniform::<T>(n)?, rng.try_uniform::<T>(n)?];
    common::room("numbers and weights", arrays[0].nbytes().saturating_mul(2), "a smaller --n")?;
    let [v, w] = arrays.map(|array| array.compute().map(|values| Arc::new(values.into_iter().collect::<Vec<T>>())));
    Ok([v?, w?])
}

/// Compares both with a plain loop, in f64.
fn checked<T: Float>(v: &[T], w: &[T], [by_expression, by_call]: [f64; 2]) -> Fallible<String> {
    let [mut sum, mut weights] = [0.0; 2];
    for (v, w) in v.iter().zip(w) {
        sum += v.to_f64() * w.to_f64();
        weights += w.to_f64();
    }
    let wanted = sum / weights;
    let [expression, call] = [by_expression, by_call].map(|found| common::apart(found, wanted));
    // The loop is off by n roundings at most, the library by some hundred; the expression's products, sums and quotient are rounded to --dtype.
    let allowed = (2 * v.len() + 600) as f64 * f64::EPSILON / 2.0;
    let epsilon = if T::DTYPE == DType::F32 { f64::from(f32::EPSILON) } else { f64::EPSILON };
    if expression > allowed + 3.0 * epsilon || call > allowed {
        return Err(format!("a plain loop gives {wanted}, the expression {by_expression}, the call {by_call}").into());
    }
    let [expression, call] = [expression, call].map(|apart| common::in_words(apart, ""));
    Ok(format!("a plain loop: expression {expression}, call {call}"))
}
