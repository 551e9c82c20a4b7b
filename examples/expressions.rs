//! How fast element-wise expressions and reductions are on this machine, beside a plain copy and a plain read.

mod common;

use std::collections::BTreeMap;

use chunkwise::{Array, DType, Float, Session, where_};
use common::{
    Cell, CommonArgs, Fallible, Outcome, Precision, Progress, Report, Table, UsageError, finish, open_session, philox,
};
use ndarray::{ArcArray2, ArrayD, Ix2, NdFloat};
use serde_json::{Value, json};

/// Time element-wise expressions of random numbers and their reductions, whole and along each axis, in C and in Fortran order, and the making of random numbers. Each result is checked by a plain loop; each time is
/// compared with that of a plain copy (a plain read, for reductions) of as many bytes on as many threads, which is measured in turns with it.
#[derive(clap::Parser)]
#[command(after_help = common::usage(&[
    ("expressions", "1e7 numbers"),
    ("expressions -- --n 100000000 --dtype f32 --repeat 5", "more numbers, fewer calls"),
    ("expressions -- --only var --n 30000000", "one kind of reduction"),
    ("expressions -- --json", "the same figures for scripts: seconds, in `rows`"),
]))]
struct Args {
    /// About so many numbers: as many as a square matrix has.
    #[arg(long, value_name = "N", default_value_t = 10_000_000, value_parser = common::at_least_one)]
    n: usize,

    /// Compute each expression so many times; what is shown are medians.
    #[arg(long, value_name = "N", default_value_t = 9, value_parser = common::at_least_one)]
    repeat: usize,

    /// Only what has this in its name, as in `--only sum`.
    #[arg(long, value_name = "TEXT")]
    only: Option<String>,

    #[command(flatten)]
    common: CommonArgs,
}

impl Args {
    fn wants(&self, name: &str) -> bool {
        self.only.as_ref().is_none_or(|only| name.contains(only.as_str()))
    }
}

fn main() -> std::process::ExitCode {
    common::run(|args: Args| match args.common.dtype {
        Precision::F32 => expressions::<f32>(&args, &elementwise!(f32)),
        Precision::F64 => expressions::<f64>(&args, &elementwise!(f64)),
    })
}

/// An expression of two arrays, and what it is of two numbers.
struct Elementwise<T> {
    name: &'static str,
    of_arrays: fn(&Array<T>, &Array<T>) -> Array<T>,
    of_numbers: fn(T, T) -> T,
    /// Arrays that it reads.
    reads: usize,
    /// How far functions of the standard library may be from the library's, in units in the last place: operators are equal.
    ulps: f64,
}

/// The expressions; the numbers' side is what a plain loop computes.
macro_rules! elementwise {
    ($t:ty) => {
        [
            Elementwise::<$t> {
                name: "a x x + b x + sin(x)",
                of_arrays: |x, _| 1.5 * x * x + 0.25 * x + x.sin(),
                of_numbers: |x, _| 1.5 * x * x + 0.25 * x + x.sin(),
                reads: 1,
                ulps: 2.0,
            },
            Elementwise {
                name: "where(x > h, a x, b - x)",
                of_arrays: |x, _| where_(&x.gt(0.5), 1.5 * x, 0.25 - x),
                of_numbers: |x, _| if x > 0.5 { 1.5 * x } else { 0.25 - x },
                reads: 1,
                ulps: 0.0,
            },
            Elementwise {
                name: "Horner, degree 5",
                of_arrays: |x, _| ((((1.5 * x + 0.25) * x + 0.5) * x - 1.5) * x + 0.25) * x + 0.5,
                of_numbers: |x, _| ((((1.5 * x + 0.25) * x + 0.5) * x - 1.5) * x + 0.25) * x + 0.5,
                reads: 1,
                ulps: 0.0,
            },
            Elementwise { name: "exp(x)", of_arrays: |x, _| x.exp(), of_numbers: |x, _| x.exp(), reads: 1, ulps: 2.0 },
            Elementwise { name: "x + y", of_arrays: |x, y| x + y, of_numbers: |x, y| x + y, reads: 2, ulps: 0.0 },
        ]
    };
}
use elementwise;

/// A reduction along some axes, in f64.
struct Reduction<T> {
    name: &'static str,
    of: fn(&Array<T>, &[usize]) -> Array<f64>,
    /// How often it reads each number.
    reads: usize,
}

/// In the order in which [`plain_reductions`] has them.
fn reductions<T: Float>() -> [Reduction<T>; 6] {
    let squares =
        |x: &Array<T>, axes: &[usize]| (x - x.over(axes).keep_dims().mean().cast::<T>()).square().over(axes).sum().cast();
    [
        Reduction { name: "sum", of: |x, axes| x.over(axes).sum().cast(), reads: 1 },
        Reduction { name: "mean", of: |x, axes| x.over(axes).mean(), reads: 1 },
        Reduction { name: "var", of: |x, axes| x.over(axes).var(0.0), reads: 1 },
        Reduction { name: "min", of: |x, axes| x.over(axes).min().cast(), reads: 1 },
        Reduction { name: "argmax", of: |x, axes| x.over(axes).argmax().cast(), reads: 1 },
        Reduction { name: "((x - mean)^2).sum()", of: squares, reads: 2 },
    ]
}

/// The same of the numbers of one lane, in f64.
fn plain_reductions<T: Float>(lane: &[T]) -> [f64; 6] {
    let n = lane.len() as f64;
    let sum: f64 = lane.iter().map(|x| x.to_f64()).sum();
    let squares: f64 = lane.iter().map(|x| (x.to_f64() - sum / n).powi(2)).sum();
    let (mut least, mut place) = (f64::INFINITY, 0);
    for (number, x) in lane.iter().enumerate() {
        least = least.min(x.to_f64());
        place = if x.to_f64() > lane[place].to_f64() { number } else { place };
    }
    [sum, sum / n, squares / n, least, place as f64, squares]
}

/// Random numbers, and what number `i` of a seed and a stream is.
struct Made<T> {
    name: &'static str,
    array: Array<T>,
    of: fn(u64, u64, u64, bool) -> f64,
    stream: u64,
}

/// Errs if they are not what plain loops make.
fn as_defined<T: Float>(random: &Made<T>, seed: u64, found: &ArrayD<T>) -> Outcome {
    let is_single = T::DTYPE == DType::F32;
    let epsilon = if is_single { f64::from(f32::EPSILON) } else { f64::EPSILON };
    for (i, &found) in found.iter().enumerate() {
        let wanted = (random.of)(seed, random.stream, i as u64, is_single);
        if (found.to_f64() - wanted).abs() > 4.0 * epsilon * wanted.abs().max(0.1) {
            return Err(format!("{}, number {i}: {found}, of a plain loop {wanted}", random.name).into());
        }
    }
    Ok(())
}

/// What was measured of an expression.
struct Row {
    name: &'static str,
    /// `C` or `F`, and the axis, of reductions.
    order: &'static str,
    axis: &'static str,
    seconds: f64,
    /// A copy or read of as many bytes.
    plain_s: f64,
    bytes: usize,
    /// Tasks by device.
    placement: Vec<(String, usize)>,
}

impl Row {
    fn cells(&self) -> Vec<Cell> {
        let ms = |s: f64| format!("{:.2} ms", s * 1e3);
        let speed = common::rate(self.bytes as f64 / self.seconds, "B/s");
        let ratio = format!("{:.2}", self.seconds / self.plain_s);
        let words = [self.name.into(), self.order.into(), self.axis.into(), ms(self.seconds), speed, ms(self.plain_s), ratio];
        let tasks = self.placement.iter().map(|(device, tasks)| format!("{device} {tasks}")).collect::<Vec<_>>().join(", ");
        words.into_iter().chain([tasks]).map(|text: String| text.into()).collect()
    }

    fn json(&self) -> Value {
        json!({
            "expression": self.name, "order": self.order, "axis": self.axis, "seconds": self.seconds, "plain_s": self.plain_s,
            "bytes": self.bytes, "ratio": self.seconds / self.plain_s, "placement": self.placement.iter().cloned().collect::<BTreeMap<_, _>>(),
        })
    }
}

fn expressions<T: Float + NdFloat>(args: &Args, elementwise: &[Elementwise<T>]) -> Outcome {
    let session = open_session(&args.common, Vec::new())?;
    let side = args.n.isqrt();
    let rng = session.rng(args.common.seed);
    let (x, y) = (rng.try_uniform::<T>((side, side))?, rng.try_uniform::<T>((side, side))?);
    common::room("numbers and results", x.nbytes().saturating_mul(5), "a smaller --n")?;
    let lab = Lab {
        x: numbers(&x)?,
        y: numbers(&y)?,
        repeat: args.repeat,
        threads: args.common.threads.unwrap_or_else(common::threads),
    };
    let [c, f, second] = [lab.x.clone(), lab.x.clone().reversed_axes(), lab.y.clone()]
        .map(|numbers| args.common.cut(Array::from(numbers).in_session(&session)));
    let (c, f, second) = (c?, f?, second?);
    let head = elementwise.iter().find(|expression| args.wants(expression.name)).unwrap_or(&elementwise[0]);
    let first = (head.of_arrays)(&c, &second);
    let (_, run) = finish(&args.common, "expressions", &first)?; // for the summary, explanation, timeline
    let progress = Progress::counting(&args.common, "expressions", "parts");
    let mut rows = Vec::new();
    for (number, expression) in elementwise.iter().enumerate().filter(|(_, expression)| args.wants(expression.name)) {
        rows.push(lab.elementwise(expression, [&c, &second])?);
        progress.set(number as u64 + 1, 11);
    }
    let layouts = [("C", &c, &lab.x), ("F", &f, &lab.x.clone().reversed_axes())];
    for (number, (order, array, numbers)) in layouts.into_iter().enumerate() {
        for (part, (axis, axes)) in [("all", &[0, 1][..]), ("0", &[0]), ("1", &[1])].into_iter().enumerate() {
            rows.extend(lab.reductions((order, axis), axes, array, (numbers, args))?);
            progress.set((6 + 3 * number + part) as u64, 11);
        }
    }
    // The streams after those of `x` and `y`.
    let made = [
        Made { name: "uniform(..)", array: rng.try_uniform(c.shape())?, of: philox::uniform, stream: 2 },
        Made { name: "normal(..)", array: rng.try_normal(c.shape())?, of: philox::normal, stream: 3 },
    ];
    for random in made.iter().filter(|random| args.wants(random.name)) {
        rows.push(lab.random(random, args.common.seed)?);
    }
    drop(progress);
    if rows.is_empty() {
        let name = args.only.as_deref().unwrap_or_default();
        return Err(UsageError(format!("--only {name}: no expression has that in its name; without it all are timed")).into());
    }
    show(args, &session, &c, rows, (head.name, &run))
}

fn show<T: Float>(
    args: &Args,
    session: &Session,
    c: &Array<T>,
    rows: Vec<Row>,
    (name, run): (&str, &chunkwise::RunReport),
) -> Outcome {
    if !args.common.json && !args.common.quiet {
        let heading = ["expression", "order", "axis", "time", "speed", "plain", "ratio", "tasks"].map(String::from).to_vec();
        let table = Table { heading, names: 3, rows: rows.iter().map(Row::cells).collect() };
        let (width, colour) = common::terminal();
        table.lines(width, colour).iter().try_for_each(common::line)?;
    }
    let mut report = Report::new("expressions", c.shape(), &args.common);
    report.what = format!("{name} of {} random numbers", common::extents(c.shape()));
    report.chunks = common::cut(&c.grid(), "chunk");
    let bytes = rows.iter().find(|row| row.name == name).map_or(2 * c.nbytes(), |row| row.bytes as u64);
    let mut report = report.of_run(session, run, bytes as f64, "B/s");
    report.notes.push(format!(
        "plain: on the CPU, a copy into fresh memory, or of reductions a read, of as many bytes on as many threads; medians of {}",
        args.repeat
    ));
    report.checked =
        Some(format!("all elements of {} results, each a plain loop: as close as their rounding allows", rows.len()));
    report.extra.insert("rows".into(), rows.iter().map(Row::json).collect());
    report.print(&args.common)
}

/// Tasks by device.
fn placed(run: &chunkwise::RunReport) -> Vec<(String, usize)> {
    run.placement().into_iter().map(|(device, tasks, _)| (device, tasks)).collect()
}

/// A square matrix of numbers, in memory.
fn numbers<T: Float>(x: &Array<T>) -> Fallible<ArcArray2<T>> {
    Ok(x.compute_into::<Ix2>()?.into_shared())
}

/// What is measured with.
struct Lab<T> {
    x: ArcArray2<T>,
    y: ArcArray2<T>,
    repeat: usize,
    threads: usize,
}

impl<T: Float + NdFloat> Lab<T> {
    fn bytes(&self) -> usize {
        self.x.len() * T::DTYPE.bytes()
    }

    /// Median seconds of computing an array, and of something plain beside it.
    fn timed<U: chunkwise::Element>(&self, array: &Array<U>, plain: impl Fn()) -> Fallible<[f64; 2]> {
        let bytes = array.nbytes() as usize;
        let (mut ours, mut theirs) = (Vec::new(), Vec::new());
        for _ in 0..self.repeat {
            let (seconds, made) = common::timed(bytes, || array.compute());
            drop(made?);
            ours.push(seconds);
            theirs.push(common::timed(bytes, &plain).0);
        }
        Ok([common::median(&ours), common::median(&theirs)])
    }

    fn elementwise(&self, expression: &Elementwise<T>, [x, y]: [&Array<T>; 2]) -> Fallible<Row> {
        let array = (expression.of_arrays)(x, y);
        let (found, run) = array.run()?;
        for ((&found, &x), &y) in found.iter().zip(&self.x).zip(&self.y) {
            let wanted = (expression.of_numbers)(x, y);
            let ulps = common::ulps(found, wanted.to_f64());
            if ulps > expression.ulps {
                return Err(format!("{}: {found} of {x} and {y}, of a plain loop {wanted}", expression.name).into());
            }
        }
        drop(found);
        let [seconds, copy_s] = self.timed(&array, || self.copy())?;
        // A copy reads once and writes once.
        let parts = expression.reads + 1;
        let plain_s = copy_s * parts as f64 / 2.0;
        Ok(Row {
            name: expression.name,
            order: "",
            axis: "",
            seconds,
            plain_s,
            bytes: parts * self.bytes(),
            placement: placed(&run),
        })
    }

    fn random(&self, random: &Made<T>, seed: u64) -> Fallible<Row> {
        let (found, run) = random.array.run()?;
        as_defined(random, seed, &found)?;
        drop(found);
        // To fill memory is half of a copy.
        let [seconds, copy_s] = self.timed(&random.array, || self.copy())?;
        let (plain_s, bytes, placement) = (copy_s / 2.0, self.bytes(), placed(&run));
        Ok(Row { name: random.name, order: "", axis: "", seconds, plain_s, bytes, placement })
    }

    /// All reductions along some axes of an array, whose numbers these are.
    fn reductions(
        &self,
        (order, axis): (&'static str, &'static str),
        axes: &[usize],
        array: &Array<T>,
        (numbers, args): (&ArcArray2<T>, &Args),
    ) -> Fallible<Vec<Row>> {
        if !reductions::<T>().iter().any(|reduction| args.wants(reduction.name)) {
            return Ok(Vec::new());
        }
        let lanes: Vec<Vec<T>> = match axes {
            [axis] => numbers.lanes(ndarray::Axis(*axis)).into_iter().map(|lane| lane.to_vec()).collect(),
            _ => vec![numbers.iter().copied().collect()],
        };
        let wanted: Vec<[f64; 6]> = lanes.iter().map(|lane| plain_reductions(lane)).collect();
        drop(lanes);
        let one = |(number, reduction): (usize, Reduction<T>)| {
            let reduced = (reduction.of)(array, axes);
            let length = (numbers.len() / wanted.len()) as f64;
            let (found, run) = reduced.run()?;
            close((reduction.name, T::DTYPE), &found, wanted.iter().map(|all| all[number]), length)?;
            let [seconds, read_s] = self.timed(&reduced, || self.read())?;
            let plain_s = read_s * reduction.reads as f64;
            let bytes = reduction.reads * self.bytes();
            Ok(Row { name: reduction.name, order, axis, seconds, plain_s, bytes, placement: placed(&run) })
        };
        reductions().into_iter().enumerate().filter(|(_, reduction)| args.wants(reduction.name)).map(one).collect()
    }

    /// Has each thread do something with its part of the numbers.
    fn on_threads(&self, each: impl Fn(&[T]) + Sync) {
        let all = self.x.as_slice().unwrap_or_default(); // made in this order
        std::thread::scope(|scope| {
            for part in all.chunks(all.len().div_ceil(self.threads).max(1)) {
                scope.spawn(|| each(part));
            }
        });
    }

    /// Copies all numbers into fresh memory.
    fn copy(&self) {
        self.on_threads(|part| drop(std::hint::black_box(part.to_vec())));
    }

    /// Reads all numbers as fast as they come, into sums that do not wait for each other.
    fn read(&self) {
        self.on_threads(|part| {
            let mut sums = [T::zero(); 64];
            for group in part.as_chunks::<64>().0 {
                sums.iter_mut().zip(group).for_each(|(sum, &x)| *sum += x);
            }
            std::hint::black_box(sums);
        });
    }
}

/// Errs if a result is further from what plain loops give than sums of so many numbers are rounded.
fn close((name, dtype): (&str, DType), found: &ArrayD<f64>, wanted: impl Iterator<Item = f64>, length: f64) -> Outcome {
    // Of the plain loop each addition rounds, in f64; the library rounds once more, to the dtype, and to that what is summed in it.
    let epsilon = if dtype == DType::F32 { f64::from(f32::EPSILON) } else { f64::EPSILON };
    let allowed = match name {
        "min" | "argmax" => 0.0,
        _ => (2.0 * length + 600.0) * f64::EPSILON + 8.0 * epsilon,
    };
    for (number, (&found, wanted)) in found.iter().zip(wanted).enumerate() {
        if common::apart(found, wanted) > allowed {
            return Err(format!("{name}, number {number}: {found}, of a plain loop {wanted}").into());
        }
    }
    Ok(())
}
