//! The Mandelbrot picture of the notebook that started this: 12000 x 8000 points, 20 iterations, on every core.

mod common;

use std::collections::BTreeMap;
use std::path::PathBuf;
use std::str::FromStr;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use chunkwise::ext::{ChunkSink, ChunkView, Intake, Region};
use chunkwise::{Array, DType, Error, Float, Remedy, store};
use common::{
    CommonArgs, Counts, LONGEST_SIDE, Named, Outcome, Precision, Report, UsageError, can_write, cut, finish, open_session,
};
use ndarray::{ArrayD, ArrayView2, Ix2, s};

/// Iterate z <- z^2 + c for every point c of a picture, count the steps until |z| > 4, and colour the counts. z starts at c, and a point that leaves
/// in the first step counts 0.
#[derive(clap::Parser)]
#[command(after_help = common::usage(&[
    ("mandelbrot", "12000 x 8000 points, written to mandelbrot.png"),
    ("mandelbrot -- --window=-0.75,-0.73,0.1,0.12 --size 1500x1500 --iterations 1000", "sea horse valley"),
    ("mandelbrot -- --out counts.h5:/counts", "the counts too, as int32"),
]))]
struct Args {
    /// Part of the plane: columns run from X0 to X1, rows from Y0 to Y1.
    #[arg(long, value_name = "X0,X1,Y0,Y1", allow_hyphen_values = true, default_value = "-1.5,0,-1,0", value_parser = window)]
    window: [f64; 4],

    /// Points across and down.
    #[arg(long, value_name = "WIDTHxHEIGHT", default_value = "12000x8000", value_parser = size)]
    size: (usize, usize),

    /// Steps at most; points that take them all are black.
    #[arg(long, value_name = "N", default_value_t = 20, value_parser = clap::value_parser!(u32).range(0..=i64::from(i32::MAX)))]
    iterations: u32,

    /// Only these rows and columns of the picture go into the PNG.
    #[arg(long, value_name = "Y0,Y1,X0,X1", value_parser = four::<usize>)]
    crop: Option<[usize; 4]>,

    /// The picture; reduced to at most 4000 points a side. `none` writes no picture.
    #[arg(long, value_name = "FILE", default_value = "mandelbrot.png", value_parser = png)]
    png: PathBuf,

    /// Where the counts go (int32): `counts.npy` or `counts.h5:/name`. With `--png none` they are
    /// written chunk by chunk, and need not fit in memory.
    #[arg(verbatim_doc_comment, long, value_name = "FILE")]
    out: Option<String>,

    #[command(flatten)]
    common: CommonArgs,
}

fn size(text: &str) -> Result<(usize, usize), String> {
    let parts = text.split_once(['x', 'X']).and_then(|(w, h)| Some((w.parse().ok()?, h.parse().ok()?)));
    parts.ok_or_else(|| "write WIDTHxHEIGHT, as in 1200x800".into())
}

fn four<T: FromStr>(text: &str) -> Result<[T; 4], String> {
    let parts: Option<Vec<T>> = text.split(',').map(|part| part.trim().parse().ok()).collect();
    parts.and_then(|parts| parts.try_into().ok()).ok_or_else(|| "write four numbers with commas between them".into())
}

fn window(text: &str) -> Result<[f64; 4], String> {
    let bounds = four::<f64>(text)?;
    if bounds.iter().all(|b| b.is_finite()) { Ok(bounds) } else { Err("the four numbers must be finite".into()) }
}

fn png(text: &str) -> Result<PathBuf, String> {
    let path = PathBuf::from(text);
    match path.extension() {
        Some(other) if !other.eq_ignore_ascii_case("png") => Err("the picture is a PNG: write a name that ends in .png".into()),
        _ => Ok(path),
    }
}

fn main() -> std::process::ExitCode {
    common::run(mandelbrot)
}

/// The counts, one for each point: columns run along x, rows along y.
fn counts<T: Float>(args: &Args) -> chunkwise::Result<Array<i32>> {
    let ([x0, x1, y0, y1], (width, height)) = (args.window, args.size);
    let (x, y) = (Array::<T>::try_ogrid(x0, x1, width)?, Array::<T>::try_ogrid(y0, y1, height)?);
    Array::try_mandelbrot(&x, &y, args.iterations)
}

fn mandelbrot(args: Args) -> Outcome {
    let crop = crop(&args)?;
    let wants_picture = args.png.as_os_str() != "none";
    let png = Named::written_path("--png", wants_picture.then_some(&args.png));
    let session = open_session(&args.common, vec![Named::written("--out", args.out.as_ref()), png])?;
    let counts = match args.common.dtype {
        Precision::F32 => counts::<f32>(&args)?,
        Precision::F64 => counts::<f64>(&args)?,
    };
    let counts = counts.in_session(&session);
    let counts = args.common.cut(counts)?;
    let paints = wants_picture && !counts.is_empty();
    // What cannot be written is said before computing.
    if paints {
        can_write(&args.png)?;
    }
    let create = |spec: &String| store::create(spec, counts.shape(), counts.dtype(), None);
    let (tally, run) = match (&args.out, paints) {
        (Some(spec), false) if !counts.is_empty() => {
            let tally = Arc::new(TallySink { file: create(spec)?, iterations: args.iterations, chunks: Mutex::default() });
            let sink: Arc<dyn ChunkSink> = tally.clone();
            let run = common::store(&args.common, "mandelbrot", &counts, &sink)?;
            (tally.total(), run)
        }
        (out, _) => {
            let sink = out.as_ref().map(create).transpose()?;
            let (values, run) = finish(&args.common, "mandelbrot", &counts).map_err(|e| with_hint(e, &args, &counts))?;
            let tally = Tally::of(values.iter(), args.iterations);
            if paints {
                paint(&args, &values, crop)?;
            }
            if let Some(sink) = sink {
                Array::from(values).in_session(&session).store_into(&sink)?;
            }
            (tally, run)
        }
    };
    let mut report = Report::new("mandelbrot", counts.shape(), &args.common);
    let (width, height) = args.size;
    report.what = format!("{width} x {height} points, {} iterations", args.iterations);
    report.chunks = cut(&counts.grid(), "chunk");
    let mut report = report.of_run(&session, &run, width as f64 * height as f64, "point/s");
    report.extra.insert("inside".into(), tally.inside.into());
    report.extra.insert("sum".into(), tally.sum.into());
    if wants_picture && !paints {
        report.notes.push("no picture: it would have no points".into());
    }
    report.wrote.extend(args.out.iter().map(PathBuf::from));
    report.wrote.extend(paints.then(|| args.png.clone()));
    report.print(&args.common)
}

/// What the summary says of the counts.
#[derive(Clone, Copy, Default)]
struct Tally {
    /// Points that took all iterations.
    inside: u64,
    /// Sum of all counts.
    sum: i64,
}

impl Tally {
    fn of<'a>(counts: impl Iterator<Item = &'a i32>, iterations: u32) -> Self {
        counts.fold(Self::default(), |t, &count| Self {
            inside: t.inside + u64::from(i64::from(count) >= i64::from(iterations)),
            sum: t.sum + i64::from(count),
        })
    }
}

/// Counts on their way to a file, tallied as they pass.
struct TallySink {
    file: Arc<dyn ChunkSink>,
    iterations: u32,
    /// By the chunk's first index: a chunk that is written again, after a fault, counts once.
    chunks: Mutex<BTreeMap<Vec<usize>, Tally>>,
}

impl TallySink {
    fn chunks(&self) -> MutexGuard<'_, BTreeMap<Vec<usize>, Tally>> {
        self.chunks.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn total(&self) -> Tally {
        let add = |a: Tally, b: &Tally| Tally { inside: a.inside + b.inside, sum: a.sum + b.sum };
        self.chunks().values().fold(Tally::default(), add)
    }
}

impl ChunkSink for TallySink {
    fn intake(&self) -> &Intake {
        self.file.intake()
    }

    fn put(&self, region: &Region, chunk: ChunkView<'_>) -> Result<(), Error> {
        let rows = (0..region.shape()[0]).map(|row| Tally::of(chunk.row::<i32>(row).iter(), self.iterations));
        let tally = rows.fold(Tally::default(), |a, b| Tally { inside: a.inside + b.inside, sum: a.sum + b.sum });
        self.chunks().insert(region.start(), tally);
        self.file.put(region, chunk)
    }

    fn commit(&self) -> Result<(), Error> {
        self.file.commit()
    }
}

/// Says what this program can do about counts that do not fit in memory, if it would do.
fn with_hint(error: Failure, args: &Args, counts: &Array<i32>) -> Failure {
    let error = match error.downcast::<Error>() {
        Ok(error) => *error,
        Err(other) => return other,
    };
    let Error::OutOfMemory { what, requested_bytes, available_bytes, space, mut remedies } = error else { return error.into() };
    remedies.retain(|remedy| *remedy != Remedy::Store);
    let fits = |nowhere| counts.explain_store(&(Arc::new(Nowhere(nowhere)) as Arc<dyn ChunkSink>));
    if Intake::new("a file", counts.shape(), DType::I32).and_then(fits).is_ok() {
        let flags = match (args.png.as_os_str() == "none", &args.out) {
            (true, _) => "--out FILE",
            (false, None) => "--png none --out FILE",
            (false, Some(_)) => "--png none",
        };
        remedies.insert(0, Remedy::Other(format!("{flags}: then the counts are written chunk by chunk").into()));
    }
    Error::OutOfMemory { what, requested_bytes, available_bytes, space, remedies }.into()
}

type Failure = Box<dyn std::error::Error + Send + Sync>;

/// A file to plan with.
struct Nowhere(Intake);

impl ChunkSink for Nowhere {
    fn intake(&self) -> &Intake {
        &self.0
    }

    fn put(&self, _: &Region, _: ChunkView<'_>) -> Result<(), Error> {
        Ok(())
    }

    fn commit(&self) -> Result<(), Error> {
        Ok(())
    }
}

/// Rows and columns of the picture to paint.
fn crop(args: &Args) -> Result<[usize; 4], UsageError> {
    let (width, height) = args.size;
    match args.crop {
        None => Ok([0, height, 0, width]),
        Some([y0, y1, x0, x1]) if y0 < y1 && y1 <= height && x0 < x1 && x1 <= width => Ok([y0, y1, x0, x1]),
        Some(_) => {
            let inside = format!("--crop takes rows and columns Y0,Y1,X0,X1 inside the {height} rows and {width} columns");
            Err(UsageError(inside))
        }
    }
}

fn paint(args: &Args, values: &ArrayD<i32>, [y0, y1, x0, x1]: [usize; 4]) -> Result<(), Error> {
    let shape = |e: ndarray::ShapeError| Error::argument("--crop", e, "rows and columns inside the picture");
    let all: ArrayView2<'_, i32> = values.view().into_dimensionality::<Ix2>().map_err(shape)?;
    Counts { rows: all.slice(s![y0..y1, x0..x1]), iterations: args.iterations }.write_png(&args.png, LONGEST_SIDE)
}
