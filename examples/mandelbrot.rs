//! The Mandelbrot picture of the notebook that started this: 8000 x 12000 points, 20 iterations, on every core.

mod common;

use std::path::PathBuf;

use chunkwise::{Array, Error, Mandelbrot, store};
use common::{CommonArgs, Counts, LONGEST_SIDE, Outcome, Picture, Precision, Report, UsageError, finish, open_session};
use ndarray::{ArrayD, ArrayView2, Ix2, s};

/// Iterate z <- z^2 + c for every point of a picture, count the steps until |z| > 4, and colour the counts.
#[derive(clap::Parser)]
#[command(after_help = common::usage(&[
    ("mandelbrot", "8000 x 12000 points, written to mandelbrot.png"),
    ("mandelbrot -- --window=-0.75,-0.73,0.1,0.12 --size 1500x1500 --iterations 1000", "sea horse valley"),
    ("mandelbrot -- --out counts.h5:/counts", "the counts too, as int32"),
]))]
struct Args {
    /// Part of the plane: columns run from X0 to X1, rows from Y0 to Y1.
    #[arg(
        long,
        value_name = "X0,X1,Y0,Y1",
        value_delimiter = ',',
        num_args = 1,
        allow_hyphen_values = true,
        default_value = "-1.5,0,-1,0"
    )]
    window: Vec<f64>,

    /// Points across and down.
    #[arg(long, value_name = "WIDTHxHEIGHT", default_value = "12000x8000", value_parser = size)]
    size: (usize, usize),

    /// Steps at most; points that take them all are black.
    #[arg(long, value_name = "N", default_value_t = 20)]
    iterations: u32,

    /// Only these rows and columns of the picture go into the PNG.
    #[arg(long, value_name = "Y0,Y1,X0,X1", value_delimiter = ',', num_args = 1)]
    crop: Vec<usize>,

    /// The picture; reduced to at most 4000 points a side. `none` writes no picture.
    #[arg(long, value_name = "FILE", default_value = "mandelbrot.png")]
    png: PathBuf,

    /// Where the counts go (int32): `counts.npy` or `counts.h5:/name`.
    #[arg(long, value_name = "FILE")]
    out: Option<String>,

    #[command(flatten)]
    common: CommonArgs,
}

fn size(text: &str) -> Result<(usize, usize), String> {
    let parts = text.split_once(['x', 'X']).and_then(|(w, h)| Some((w.parse().ok()?, h.parse().ok()?)));
    parts.ok_or_else(|| "write WIDTHxHEIGHT, as in 1200x800".into())
}

fn main() -> std::process::ExitCode {
    common::run(mandelbrot)
}

fn mandelbrot(args: Args) -> Outcome {
    let [x0, x1, y0, y1] = args.window[..] else {
        return Err(UsageError("--window takes four numbers X0,X1,Y0,Y1".into()).into());
    };
    let (width, height) = args.size;
    let crop = crop(&args)?;
    let session = open_session(&args.common)?;
    let picture = Mandelbrot::new(height, width).window(x0, x1, y0, y1).iterations(args.iterations);
    let counts: Array<i32> = match args.common.dtype {
        Precision::F32 => picture.counts::<f32>()?,
        Precision::F64 => picture.counts::<f64>()?,
    };
    let counts = counts.in_session(&session);
    let counts = match args.common.chunk {
        Some(chunk) => counts.try_chunks(chunk)?,
        None => counts,
    };
    // Created before computing: a path that cannot be written is said at once.
    let sink = args.out.as_ref().map(|spec| store::create(spec, counts.shape(), counts.dtype(), None)).transpose()?;
    let (values, run) = finish(&args.common, "mandelbrot", &counts)?;
    let mut report = Report::new("mandelbrot", counts.shape(), &args.common);
    report.what = format!("{width} x {height} points, {} iterations", args.iterations);
    report.chunks = format!("{} chunks of {}", counts.grid().len(), extents(&counts));
    let mut report = report.of_run(&session, &run, (width * height) as f64, "point/s");
    let inside = values.iter().filter(|&&c| i64::from(c) >= i64::from(args.iterations)).count();
    report.extra.insert("inside".into(), inside.into());
    report.extra.insert("sum".into(), values.iter().map(|&c| i64::from(c)).sum::<i64>().into());
    if let (Some(sink), Some(spec)) = (sink, &args.out) {
        Array::from_view(values.view()).in_session(&session).store_into(&sink)?;
        report.wrote.push(spec.into());
    }
    if args.png.as_os_str() != "none" && !values.is_empty() {
        paint(&args, &values, crop)?;
        report.wrote.push(args.png.clone());
    }
    report.print(&args.common)
}

fn extents(counts: &Array<i32>) -> String {
    counts.grid().largest().iter().map(ToString::to_string).collect::<Vec<_>>().join(" x ")
}

/// Rows and columns of the picture to paint.
fn crop(args: &Args) -> Result<[usize; 4], UsageError> {
    let (width, height) = args.size;
    match args.crop[..] {
        [] => Ok([0, height, 0, width]),
        [y0, y1, x0, x1] if y0 < y1 && y1 <= height && x0 < x1 && x1 <= width => Ok([y0, y1, x0, x1]),
        _ => Err(UsageError(format!("--crop takes rows and columns Y0,Y1,X0,X1 inside the {height} rows and {width} columns"))),
    }
}

fn paint(args: &Args, values: &ArrayD<i32>, [y0, y1, x0, x1]: [usize; 4]) -> Result<(), Error> {
    let shape = |e: ndarray::ShapeError| Error::argument("--crop", e, "rows and columns inside the picture");
    let all: ArrayView2<'_, i32> = values.view().into_dimensionality::<Ix2>().map_err(shape)?;
    let part = all.slice(s![y0..y1, x0..x1]);
    let owned = part.as_standard_layout();
    let counts = Counts { data: owned.as_slice().unwrap_or(&[]), height: y1 - y0, width: x1 - x0, iterations: args.iterations };
    Picture::of_counts(&counts, LONGEST_SIDE).write_png(&args.png)
}
