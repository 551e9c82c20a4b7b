//! Conway's game of life by views: eight shifted slices of a wrapped board, summed.

mod common;

use std::io;
use std::path::{Path, PathBuf};

use chunkwise::{Array, RunReport, Session, concatenate};
use common::{CommonArgs, Fallible, Named, Outcome, Progress, Report, can_write, open_session};
use ndarray::{Array2, ArrayView2, Axis, Ix2, s};

/// Play Conway's game of life on a board whose edges are joined, some steps in each run, and compare the board with plain loops.
///
/// Cells are u8, 1 if alive: --dtype has no meaning here. About 3 in 10 are alive at first.
#[derive(clap::Parser)]
#[command(after_help = common::usage(&[
    ("game_of_life -- --size 2000x1000 --steps 100 --out life.png", "2000 columns, 1000 rows, and the last board as a picture"),
    ("game_of_life -- --chunk 256 --steps-per-run 1", "in chunks, step by step"),
]))]
struct Args {
    /// Rows and columns, at least 1 of each.
    #[arg(long, value_name = "WIDTHxHEIGHT", default_value = "1000x1000", value_parser = size)]
    size: (usize, usize),

    /// Steps to play.
    #[arg(long, value_name = "N", default_value_t = 20)]
    steps: u32,

    /// Steps that are one expression, computed at once.
    #[arg(long, value_name = "N", default_value_t = 4, value_parser = clap::value_parser!(u32).range(1..=64))]
    steps_per_run: u32,

    /// Where the last board goes, as a picture: white cells are alive.
    #[arg(long, value_name = "FILE.png", value_parser = png)]
    out: Option<PathBuf>,

    #[command(flatten)]
    common: CommonArgs,
}

/// Rows and columns.
fn size(text: &str) -> Result<(usize, usize), String> {
    let parts = text.split_once(['x', 'X']).and_then(|(w, h)| Some((h.parse().ok()?, w.parse().ok()?)));
    parts.filter(|&(h, w)| h > 0 && w > 0).ok_or_else(|| "write WIDTHxHEIGHT, both above 0, as in 1200x800".into())
}

fn png(text: &str) -> Result<PathBuf, String> {
    let path = PathBuf::from(text);
    let is_png = path.extension().is_some_and(|extension| extension.eq_ignore_ascii_case("png"));
    if is_png { Ok(path) } else { Err("the picture is a PNG: write a name that ends in .png".into()) }
}

fn main() -> std::process::ExitCode {
    common::run(game_of_life)
}

fn game_of_life(args: Args) -> Outcome {
    let session = open_session(&args.common, vec![Named::written_path("--out", args.out.as_ref())])?;
    if let Some(path) = &args.out {
        can_write(path)?; // said before computing
    }
    let start = start(&args, &session)?;
    let glider = glider_comes_back(&args, &session)?;
    let played = play(&args, &session, start.clone())?;
    let wanted = (0..args.steps).fold(start.clone(), |board, _| plain_step(&board.view()));
    let different = played.board.iter().zip(&wanted).filter(|(a, b)| a != b).count();
    if different > 0 {
        return Err(format!("plain loops give another board: {different} cells differ after {} steps", args.steps).into());
    }
    let mut report = Report::new("game_of_life", start.shape(), &args.common);
    report.dtype = chunkwise::DType::U8;
    report.what = match played.runs {
        1 => format!("{} cells, {} steps", common::extents(start.shape()), args.steps),
        _ => format!("{} cells, the last {} of {} steps", common::extents(start.shape()), played.last_steps, args.steps),
    };
    report.chunks = played.chunks;
    let cells = start.len() as f64 * f64::from(played.last_steps);
    let mut report = report.of_run(&session, &played.last, cells, "cell/s");
    let alive = played.board.iter().map(|&cell| u64::from(cell)).sum::<u64>();
    let (runs, all_s) = (played.runs, common::seconds(played.all_s));
    report.notes.push(format!("{alive} of {} cells are alive", start.len()));
    if runs > 1 {
        let rate = common::rate(start.len() as f64 * f64::from(args.steps) / played.all_s, "cell/s");
        report.notes.push(format!("all {} steps, in {runs} runs, took {all_s}: {rate}", args.steps));
    }
    report.checked = Some(format!("plain loops over all {} steps: equal; {glider}", args.steps));
    report.extra.insert("alive".into(), alive.into());
    for (field, value) in [("steps", args.steps), ("last_steps", played.last_steps), ("runs", played.runs)] {
        report.extra.insert(field.into(), value.into());
    }
    report.extra.insert("all_s".into(), played.all_s.into());
    if let Some(path) = &args.out {
        write_png(path, &played.board.view())?;
        report.wrote.push(path.clone());
    }
    report.print(&args.common)
}

/// The next board: a live cell with two or three live neighbours stays, an empty one with three comes to life.
fn step(board: &Array<u8>) -> Array<u8> {
    let (height, width) = (board.shape()[0] as isize, board.shape()[1] as isize);
    // One more row and column on each side, which are those of the other side.
    let rows = concatenate(Axis(0), &[&board.slice(s![-1.., ..]), board, &board.slice(s![..1, ..])]);
    let padded = concatenate(Axis(1), &[&rows.slice(s![.., -1..]), &rows, &rows.slice(s![.., ..1])]);
    let shifted = |down: isize, right: isize| padded.slice(s![down..down + height, right..right + width]);
    let around = [(0, 0), (0, 1), (0, 2), (1, 0), (1, 2), (2, 0), (2, 1)];
    let neighbours = around.into_iter().fold(shifted(2, 2), |sum, (down, right)| sum + shifted(down, right));
    (neighbours.eq_elem(3) | (neighbours.eq_elem(2) & board.eq_elem(1))).cast::<u8>()
}

/// What playing has come to.
struct Played {
    board: Array2<u8>,
    chunks: String,
    last: RunReport,
    /// Steps of the last run.
    last_steps: u32,
    runs: u32,
    /// Seconds of all runs.
    all_s: f64,
}

/// Plays all steps, so many in each run.
fn play(args: &Args, session: &Session, start: Array2<u8>) -> Fallible<Played> {
    let progress = Progress::start(&args.common, "game_of_life");
    let (mut board, mut done, mut runs, mut all_s) = (start, 0, 0, 0.0);
    loop {
        let steps = args.steps_per_run.min(args.steps - done);
        let now = args.common.cut(Array::from(board).in_session(session))?;
        let later = (0..steps).fold(now.clone(), |board, _| step(&board));
        if done == 0 {
            common::explain(&args.common, || later.explain())?;
        }
        let (values, run) = later.run()?;
        (runs, all_s) = (runs + 1, all_s + run.total_s);
        board = values.into_dimensionality::<Ix2>()?;
        done += steps;
        progress.set(u64::from(done), u64::from(args.steps));
        if done == args.steps {
            common::explain_run(&args.common, &run)?;
            common::write_trace(&args.common, &run)?;
            let chunks = common::cut(&now.grid(), "chunk");
            return Ok(Played { board, chunks, last: run, last_steps: steps, runs, all_s });
        }
    }
}

/// About 3 in 10 cells are alive.
fn start(args: &Args, session: &Session) -> chunkwise::Result<Array2<u8>> {
    let numbers = args.common.cut(session.rng(args.common.seed).try_uniform::<f32>(args.size)?)?;
    numbers.lt(0.3).cast::<u8>().compute_into()
}

/// One step in plain loops.
fn plain_step(board: &ArrayView2<'_, u8>) -> Array2<u8> {
    let (height, width) = board.dim();
    Array2::from_shape_fn((height, width), |(row, column)| {
        let rows = [(row + height - 1) % height, row, (row + 1) % height];
        let columns = [(column + width - 1) % width, column, (column + 1) % width];
        let around: u8 = rows.iter().flat_map(|&r| columns.iter().map(move |&c| board[[r, c]])).sum();
        match around - board[[row, column]] {
            3 => 1,
            2 => board[[row, column]],
            _ => 0,
        }
    })
}

/// A glider moves one cell down and right in four steps: after four times the side of the board it is where it was.
fn glider_comes_back(args: &Args, session: &Session) -> Fallible<String> {
    const SIDE: usize = 8;
    let mut start = Array2::zeros((SIDE, SIDE));
    for at in [[0, 1], [1, 2], [2, 0], [2, 1], [2, 2]] {
        start[at] = 1u8;
    }
    let mut board = start.clone();
    for quarter in 0..SIDE {
        let now = args.common.cut(Array::from(board).in_session(session))?;
        board = (0..4).fold(now, |board, _| step(&board)).compute_into::<Ix2>()?;
        if (board == start) != (quarter + 1 == SIDE) {
            return Err(format!("a glider is in another place after {} steps", 4 * (quarter + 1)).into());
        }
    }
    Ok(format!("a glider is back after {} steps on {SIDE} x {SIDE} cells", 4 * SIDE))
}

/// The board in black and white.
fn write_png(path: &Path, board: &ArrayView2<'_, u8>) -> chunkwise::Result<()> {
    common::write_whole(path, |out| {
        let too_large = |_| io::Error::other("a PNG has at most 4294967295 rows and columns");
        let (height, width) =
            (u32::try_from(board.nrows()).map_err(too_large)?, u32::try_from(board.ncols()).map_err(too_large)?);
        let mut encoder = png::Encoder::new(out, width, height);
        encoder.set_color(png::ColorType::Grayscale);
        let pixels: Vec<u8> = board.iter().map(|&cell| 255 * cell).collect();
        let mut writer = encoder.write_header()?;
        writer.write_image_data(&pixels)?;
        Ok(writer.finish()?)
    })
}
