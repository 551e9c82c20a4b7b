//! The notebook's Mandelbrot iteration, written with operations on arrays, beside the kernel that the library has for it.

mod common;

use std::str::FromStr;

use chunkwise::{Array, Complex, Float, Number};
use common::{CommonArgs, Fallible, Outcome, Precision, Report, finish, open_session, seconds};
use ndarray::{ArrayD, Axis, LinalgScalar};

/// Count steps of z <- z * z + c until |z| > 4, for c = x + y i, with complex arrays and masks; check the counts against plain loops and against the
/// library's own kernel, and compare the times.
#[derive(clap::Parser)]
#[command(after_help = common::usage(&[
    ("mandelbrot_arrays", "6000 x 4000 points of the notebook's window, 20 iterations"),
    ("mandelbrot_arrays -- --window=-2,1,-1.5,1.5 --size 1500x1500", "all of the set"),
]))]
struct Args {
    /// Part of the plane: columns run from X0 to X1, rows from Y0 to Y1.
    #[arg(long, value_name = "X0,X1,Y0,Y1", allow_hyphen_values = true, default_value = "-1.5,0,-1,0", value_parser = window)]
    window: [f64; 4],

    /// Points across and down, at least 1 each.
    #[arg(long, value_name = "WIDTHxHEIGHT", default_value = "6000x4000", value_parser = size)]
    size: (usize, usize),

    /// Steps, 1 to 20: each is written out in the expression.
    #[arg(long, value_name = "N", default_value_t = 20, value_parser = clap::value_parser!(u32).range(1..=20))]
    iterations: u32,

    /// Compute both so many times, in turns; what is shown are medians.
    #[arg(long, value_name = "N", default_value_t = 5, value_parser = common::at_least_one)]
    repeat: usize,

    #[command(flatten)]
    common: CommonArgs,
}

fn size(text: &str) -> Result<(usize, usize), String> {
    let parts = text.split_once(['x', 'X']).and_then(|(w, h)| Some((w.parse().ok()?, h.parse().ok()?)));
    parts.filter(|&(w, h)| w > 0 && h > 0).ok_or_else(|| "write WIDTHxHEIGHT, both above 0, as in 1200x800".into())
}

fn window(text: &str) -> Result<[f64; 4], String> {
    let parts: Option<Vec<f64>> = text.split(',').map(|part| f64::from_str(part.trim()).ok()).collect();
    let bounds: Option<[f64; 4]> = parts.and_then(|parts| parts.try_into().ok());
    bounds
        .filter(|b| b.iter().all(|b| b.is_finite()))
        .ok_or_else(|| "write four finite numbers with commas between them".into())
}

fn main() -> std::process::ExitCode {
    common::run(|args: Args| match args.common.dtype {
        Precision::F32 => mandelbrot::<f32>(&args),
        Precision::F64 => mandelbrot::<f64>(&args),
    })
}

/// Counts by operations on arrays: all steps of all points are one expression.
fn by_operations<T>(x: &Array<T>, y: &Array<T>, args: &Args) -> chunkwise::Result<Array<i32>>
where
    T: Float,
    Complex<T>: Number<Magnitude = T>,
{
    let c = args.common.cut(x.with_imaginary(y.insert_axis(Axis(1))))?; // a row and a column: a grid
    let mut z = c.clone();
    // At most 20, so small numbers will do: of a byte, as masks are.
    let mut counts = Array::<u8>::zeros(c.shape()).in_session(&c.session());
    for _ in 0..args.iterations {
        z = &z * &z + &c;
        // |z| > 4 is |z|^2 > 16, without a root. What is outside stays there, on to infinity and NaN, which are not `<=` either: so z
        // needs no mask (the notebook sets it to 2), and the steps inside are the first ones.
        let inside = z.norm_sqr().le(T::from_f64(16.0));
        counts += inside.cast::<u8>();
    }
    Ok(counts.cast())
}

fn mandelbrot<T>(args: &Args) -> Outcome
where
    T: Float + LinalgScalar,
    Complex<T>: Number<Magnitude = T>,
{
    let session = open_session(&args.common, Vec::new())?;
    let ([x0, x1, y0, y1], (width, height)) = (args.window, args.size);
    let axis = |a, b, n| Array::<T>::try_ogrid(a, b, n).map(|axis| axis.in_session(&session));
    let (x, y) = (axis(x0, x1, width)?, axis(y0, y1, height)?);
    let by_kernel = args.common.cut(Array::try_mandelbrot(&x, &y, args.iterations)?)?;
    let by_operations = by_operations(&x, &y, args)?;
    let (counts, run) = finish(&args.common, "mandelbrot_arrays", &by_operations)?;
    let axes = Axes { x: x.compute()?, y: y.compute()?, iterations: args.iterations };
    let (kernels, kernel_run) = by_kernel.run()?;
    let same = axes.checked(&counts, &kernels, is_on_gpu(&kernel_run))?;
    drop(kernels);
    let chunks = by_operations.grid().len();
    if run.tasks() != chunks {
        return Err(format!("the expression is {} tasks, not one for each of {chunks} chunks", run.tasks()).into());
    }
    let inside = counts.iter().filter(|&&count| count == args.iterations as i32).count();
    let bytes = size_of_val(counts.as_slice().unwrap_or_default());
    drop(counts);
    let [operations_s, kernel_s] = in_turns([&by_operations, &by_kernel], bytes, args.repeat)?;
    let mut report = Report::new("mandelbrot_arrays", by_operations.shape(), &args.common);
    report.what = format!("{width} x {height} points, {} iterations", args.iterations);
    report.chunks = common::cut(&by_operations.grid(), "chunk");
    let mut report = report.of_run(&session, &run, width as f64 * height as f64, "point/s");
    report.notes.push(format!("one task a chunk: {} of {chunks}", run.tasks()));
    report.notes.push(format!(
        "operations {}, kernel {}: {:.1} times as long (medians of {})",
        seconds(operations_s),
        seconds(kernel_s),
        operations_s / kernel_s,
        args.repeat
    ));
    report.checked = Some(same);
    report.extra.insert("inside".into(), inside.into());
    for (field, value) in [("operations_s", operations_s), ("kernel_s", kernel_s), ("ratio", operations_s / kernel_s)] {
        report.extra.insert(field.into(), value.into());
    }
    report.print(&args.common)
}

/// Whether a GPU had a part in a run.
fn is_on_gpu(run: &chunkwise::RunReport) -> bool {
    run.placement().iter().any(|(device, ..)| device.starts_with("gpu"))
}

/// Median seconds of each of the two, computed in turns.
fn in_turns(arrays: [&Array<i32>; 2], bytes: usize, repeat: usize) -> chunkwise::Result<[f64; 2]> {
    let mut times = [const { Vec::new() }; 2];
    for _ in 0..repeat {
        for (array, times) in arrays.into_iter().zip(&mut times) {
            let (s, counts) = common::timed(bytes, || array.compute());
            counts?;
            times.push(s);
        }
    }
    Ok(times.map(|times| common::median(&times)))
}

/// The points, as numbers.
struct Axes<T> {
    x: ArrayD<T>,
    y: ArrayD<T>,
    iterations: u32,
}

/// Of so many points one may have another count by the kernel on a GPU: drivers need not round its fused products once, nor the others twice.
const POINTS_OF_ONE_THAT_DIFFERS: usize = 10_000;

/// Rows that plain loops count, at most.
const ROWS: usize = 200;

impl<T: Float + LinalgScalar> Axes<T> {
    /// Compares the counts with those of plain loops, and of the kernel.
    ///
    /// The kernel takes `re * re - im * im` in two roundings, as NumPy does where the CPU has fused multiply-add; operations on arrays round each by itself, three times. So two counts can
    /// differ where z comes within rounding of |z| = 4. Where they do, plain loops must give both; of the kernel on a GPU, few may.
    fn checked(&self, counts: &ArrayD<i32>, by_kernel: &ArrayD<i32>, is_on_gpu: bool) -> Fallible<String> {
        let every = self.y.len().div_ceil(ROWS);
        let mut points = 0;
        for row in (0..self.y.len()).step_by(every) {
            for column in 0..self.x.len() {
                let (found, wanted) = (counts[[row, column]], self.count(row, column, false));
                if found != wanted {
                    return Err(format!("row {row}, column {column}: {found} steps, of a plain loop {wanted}").into());
                }
                points += 1;
            }
        }
        let mut differ = 0;
        for ((at, &count), &kernel) in counts.indexed_iter().zip(by_kernel) {
            if count == kernel {
                continue;
            }
            let (row, column) = (at[0], at[1]);
            let loops = [false, true].map(|fused| self.count(row, column, fused));
            if loops[0] != count || (loops[1] != kernel && !is_on_gpu) {
                let found =
                    format!("row {row}, column {column}: {count} steps, of the kernel {kernel}, of plain loops {loops:?}");
                return Err(found.into());
            }
            differ += 1;
        }
        let most = counts.len().div_ceil(POINTS_OF_ONE_THAT_DIFFERS);
        if is_on_gpu && differ > most {
            return Err(
                format!("{differ} of {} points have another count by the kernel on the GPU, not {most}", counts.len()).into()
            );
        }
        let kernel = match differ {
            0 => format!("the kernel's {} points: equal", counts.len()),
            _ if is_on_gpu => format!("the kernel's points: {differ} of {} differ by how products are rounded", counts.len()),
            _ => format!(
                "the kernel's points: {differ} of {} differ by how products are rounded, and are what plain loops give",
                counts.len()
            ),
        };
        Ok(format!("{points} points in plain loops: equal; {kernel}"))
    }

    /// The count of one point, with fused multiply-add as the kernel has it, or without.
    fn count(&self, row: usize, column: usize, fused: bool) -> i32 {
        let (cr, ci) = (self.x[[column]], self.y[[row]]);
        let (mut re, mut im) = (cr, ci);
        let product = |a: T, b: T, c: T| if fused { mul_add(a, b, c) } else { a * b + c };
        for step in 0..self.iterations {
            let square = product(re, re, T::zero() - im * im);
            im = re * im + re * im + ci;
            re = square + cr;
            let size = product(re, re, im * im).to_f64();
            if size > 16.0 || size.is_nan() {
                return step as i32;
            }
        }
        self.iterations as i32
    }
}

/// `a * b + c`, rounded once.
fn mul_add<T: Float>(a: T, b: T, c: T) -> T {
    let [a, b, c] = [a, b, c].map(|number| number.to_f64());
    if T::DTYPE.bytes() == 8 {
        return T::from_f64(a.mul_add(b, c));
    }
    let [a, b, c] = [a, b, c].map(|number| number as f32); // exact: they were
    T::from_f64(f64::from(a.mul_add(b, c)))
}
