//! The table of a comparison, for terminal and page alike.
//!
//! Owns: columns and their order, footnotes. Must not know: terminals, Markdown. Invariant: every row and every failure is in it.

use chunkwise::shape::DType;

use crate::common::{Cell, Table};
use crate::compare::duel::{Crossing, Verdict, times};
use crate::compare::measure::{Lane, Measured, State};
use crate::compare::study::{Row, Study};
use crate::compare::words::{percent, time};
use crate::compare::work::Workload;

/// The rows, and footnotes: why a row was skipped, why a lane failed.
pub fn results(study: &Study) -> (Table, Vec<String>) {
    let gpu = study.lanes.contains(&Lane::GPU);
    let mut heading: Vec<String> = ["workload", "dtype", "size"].map(String::from).to_vec();
    heading.extend(study.lanes.iter().map(|lane| study.lane_name(*lane)));
    heading.extend(
        if gpu { ["auto v best", "bound cpu / gpu", "gpu wins"] } else { ["speed-up", "bound", "v bound"] }.map(String::from),
    );
    let mut notes = Vec::new();
    let mut table = Table { heading, names: 3, rows: Vec::new() };
    for (workload, dtype) in study.groups() {
        let rows = study.rows_of(workload, dtype);
        for (index, row) in rows.iter().enumerate() {
            let mut cells: Vec<Cell> = vec![workload.name().into(), dtype.to_string().into(), format!("{}²", row.n).into()];
            cells.extend(study.lanes.iter().map(|&lane| lane_cell(row, lane, &mut notes)));
            cells.extend(if gpu { gpu_cells(study, row, index == 0) } else { cpu_cells(row) });
            table.rows.push(cells);
        }
    }
    (table, notes)
}

fn lane_cell(row: &Row, lane: Lane, notes: &mut Vec<String>) -> Cell {
    let mut noted = |word: &str, why: &str| {
        let text = format!("{}: {why}", row.name());
        let number = notes.iter().position(|n| *n == text).unwrap_or_else(|| {
            notes.push(text);
            notes.len() - 1
        });
        Cell::from(format!("{word} [{}]", number + 1))
    };
    match (&row.skipped, row.lane(lane)) {
        (Some(why), _) => noted("skipped", why),
        (None, None) => Cell::from("-"),
        (None, Some(measured)) => match (&measured.failed, measured.summary) {
            (Some(why), _) if why.starts_with("no ") => noted("none", why),
            (Some(why), _) => noted("failed", why),
            (None, None) => Cell::from("-"),
            (None, Some(summary)) => {
                let wrong = if measured.differs() { " WRONG" } else { "" };
                let spread = if summary.n > 1 { format!(" ±{:.0}%", 100.0 * summary.spread()) } else { " (once)".into() };
                Cell { text: format!("{}{spread}{wrong}", time(summary.median)), strong: is_best(row, measured) }
            }
        },
    }
}

/// Whether this loses against no other: the least does not, nor does what cannot be told apart from it.
fn is_best(row: &Row, measured: &Measured) -> bool {
    let mut others = row.lanes.iter().filter(|other| other.lane != measured.lane && other.median().is_some()).peekable();
    others.peek().is_some() && others.all(|other| measured.against(other).is_some_and(|v| !v.loses()))
}

fn gpu_cells(study: &Study, row: &Row, first: bool) -> Vec<Cell> {
    let auto = |state| row.auto_over_best(state).map(percent);
    let auto = match (auto(State::Cold), auto(State::Resident)) {
        (Some(cold), Some(resident)) => format!("{cold} / {resident}"),
        (one, other) => one.or(other).unwrap_or_else(|| "-".into()),
    };
    let crossover = if first { crossover(study, row.workload, row.dtype) } else { String::new() };
    let bound = |seconds: Option<f64>| seconds.map_or("-".into(), time);
    let bounds = match (row.bound_s, row.gpu_bound_s) {
        (None, None) => "-".to_owned(),
        (cpu, gpu) => format!("{} / {}", bound(cpu), bound(gpu.map(|g| g.resident))),
    };
    vec![auto.into(), bounds.into(), crossover.into()]
}

/// `never / from 1300..1400`: cold, then resident.
fn crossover(study: &Study, workload: Workload, dtype: DType) -> String {
    let one = |duel: (Lane, Lane)| study.crossing(workload, dtype, duel).map_or("-".into(), Crossing::short);
    if workload == Workload::BlockedMeanFile {
        return String::new();
    }
    study.duels().into_iter().map(one).collect::<Vec<_>>().join(" / ")
}

fn cpu_cells(row: &Row) -> Vec<Cell> {
    let bounded = row.median(Lane::CPU).zip(row.bound_s).map(|(cpu, bound)| cpu / bound);
    let or_dash = |text: Option<String>| Cell::from(text.unwrap_or_else(|| "-".into()));
    vec![
        or_dash(row.verdict(Lane::CPU, Lane::ONE).map(Verdict::short)),
        or_dash(row.bound_s.map(time)),
        or_dash(bounded.map(times)),
    ]
}
