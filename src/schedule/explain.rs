//! What would be done, and why, in words and seconds.
//!
//! Owns: [`Explanation`] and its `Display`. Must not know: terminals, devices' insides. Invariant: its totals are those of a simulated run by
//! the same scheduler.

use std::collections::BTreeMap;
use std::fmt;
use std::ops::Range;

use super::simulate::{Outcome, Simulation};
use crate::device::{DeviceKind, LinkSpec};
use crate::error::Bytes;
use crate::id::{DeviceId, TaskId};
use crate::task::TaskGraph;

/// Columns of a table that is shown as one.
const WIDE: usize = 120;

/// One group of tasks.
#[derive(Clone, Debug, PartialEq)]
pub struct GroupRow {
    /// What it does: `gemv 1000x1000`.
    pub label: String,
    /// Number of tasks.
    pub tasks: usize,
    /// Mean predicted seconds of one task on each device; `None` where it cannot run.
    pub each_s: Vec<Option<f64>>,
    /// Mean predicted seconds to move one task's data over the link of the first device with one: what comes from the caller's memory, and
    /// what goes to a result. `None` without such a device, or where nothing crosses.
    pub link_s: Option<f64>,
    /// Tasks placed on each device.
    pub placed: Vec<usize>,
    /// Why there.
    pub why: String,
}

/// What a computation would do. Print it.
#[derive(Clone, Debug, PartialEq)]
pub struct Explanation {
    /// Device names, by id.
    pub devices: Vec<String>,
    /// The groups, in order.
    pub groups: Vec<GroupRow>,
    /// Predicted seconds, by policy name: those of the session's own policy first.
    pub totals: Vec<(String, f64)>,
    /// Host memory: caller's arrays and results.
    pub array_bytes: u64,
    /// Host memory: tables of the plan itself.
    pub table_bytes: u64,
    /// Host memory that suffices, arrays and tables included: the proven peak of the tasks one after the other. Where the limit allows more, more
    /// tasks at once may use more.
    pub bound_bytes: u64,
    /// Host memory: peak of the simulated run.
    pub expected_bytes: u64,
    /// The limit.
    pub limit_bytes: u64,
    /// More that a user should know: how files are read.
    pub notes: Vec<String>,
}

impl Explanation {
    /// Summarises a simulated run.
    #[must_use]
    pub(crate) fn new(
        graph: &TaskGraph,
        sim: &Simulation,
        outcome: &Outcome,
        totals: Vec<(String, f64)>,
        bound_bytes: u64,
    ) -> Self {
        let mut device_of = vec![DeviceId(0); graph.len()];
        for span in &outcome.spans {
            device_of[span.task.index()] = span.device;
        }
        let n = sim.devices.len();
        // A fixed placement is not a choice by cost.
        let policy = totals.first().map_or("", |(policy, _)| policy);
        let asked = |d: usize| policy == kind_name(sim.devices[d].kind) || policy == DeviceId::at(d).to_string();
        let fixed = policy.starts_with("device") || policy == "cpu" || policy == "gpu";
        let rows = by_label(graph).into_iter().map(|(label, ranges)| {
            let tasks = || ranges.iter().cloned().flatten();
            let count = tasks().count();
            let mut placed = vec![0; n];
            tasks().for_each(|t| placed[device_of[t].index()] += 1);
            let mean = |d: usize| {
                let column = sim.beliefs.iter().find(|c| c.device.index() == d)?;
                let add = |sum: f64, t: usize| Some(sum + column.ns(graph, TaskId::at(t))? as f64);
                let sum = tasks().try_fold(0.0, add)?;
                Some(sum * 1e-9 / count as f64)
            };
            let each_s: Vec<Option<f64>> = (0..n).map(mean).collect();
            let compiling = |d: usize| {
                let column = sim.beliefs.iter().find(|c| c.device.index() == d)?;
                tasks().map(|t| column.compiling_ns(graph, TaskId::at(t))).max()
            };
            let compiling_s: Vec<f64> = (0..n).map(|d| compiling(d).unwrap_or(0) as f64 * 1e-9).collect();
            let why = why((&each_s, &compiling_s), &placed, sim, fixed.then_some(&asked as &dyn Fn(usize) -> bool));
            let link = sim.devices.iter().find_map(|d| d.link);
            let cross = |t| link.map_or(0, |link| crossing_ns(graph, TaskId::at(t), link));
            let crossing: u64 = tasks().map(cross).fold(0, u64::saturating_add);
            // Nothing moves to where nothing runs.
            let has_choice = (0..n).any(|d| sim.devices[d].link.is_some() && each_s[d].is_some());
            let link_s = (has_choice && crossing > 0).then(|| crossing as f64 * 1e-9 / count as f64);
            GroupRow { label: label.to_owned(), tasks: count, each_s, link_s, placed, why }
        });
        Self {
            devices: sim.devices.iter().map(|d| d.name.clone()).collect(),
            groups: rows.collect(),
            totals,
            array_bytes: graph.arrays().iter().map(crate::task::HostArray::bytes).sum(),
            table_bytes: super::tables::table_bytes(graph),
            bound_bytes,
            expected_bytes: outcome.peak_bytes,
            limit_bytes: sim.memory_limit,
            notes: Vec::new(),
        }
    }
}

/// Time on a link for what a task reads of the caller's memory and writes of results.
pub(crate) fn crossing_ns(graph: &TaskGraph, task: TaskId, [up, down]: [LinkSpec; 2]) -> u64 {
    let reads = graph.reads(task).filter(|&v| graph.producer(v).is_none()).map(|v| up.transfer_ns(graph.bytes(v)));
    let finals = graph.outputs(task).filter(|o| graph.is_final(o.value));
    reads.chain(finals.map(|o| down.transfer_ns(graph.bytes(o.value)))).fold(0, u64::saturating_add)
}

/// The task ranges of each label, in the order of their first tasks.
pub(crate) fn by_label(graph: &TaskGraph) -> Vec<(&str, Vec<Range<usize>>)> {
    let mut rows: Vec<(&str, Vec<Range<usize>>)> = Vec::new();
    let mut known: BTreeMap<&str, usize> = BTreeMap::new();
    for group in graph.groups().filter(|g| !g.tasks.is_empty()) {
        let row = *known.entry(group.label).or_insert_with(|| {
            rows.push((group.label, Vec::new()));
            rows.len() - 1
        });
        rows[row].1.push(group.tasks.start as usize..group.tasks.end as usize);
    }
    rows
}

/// What a placement by kind is called.
fn kind_name(kind: DeviceKind) -> &'static str {
    match kind {
        DeviceKind::Cpu => "cpu",
        DeviceKind::Gpu => "gpu",
        DeviceKind::Io => "",
    }
}

fn why(
    (each_s, compiling_s): (&[Option<f64>], &[f64]),
    placed: &[usize],
    sim: &Simulation,
    asked: Option<&dyn Fn(usize) -> bool>,
) -> String {
    let able: Vec<usize> = (0..each_s.len()).filter(|&d| each_s[d].is_some()).collect();
    let used: Vec<usize> = (0..placed.len()).filter(|&d| placed[d] > 0).collect();
    let name = |d: usize| &sim.devices[d].name;
    match (able.as_slice(), used.as_slice()) {
        // Who reads files computes nothing: that is no choice.
        ([only], _) if sim.devices.iter().enumerate().any(|(d, other)| d != *only && other.kind != DeviceKind::Io) => {
            format!("only {} runs it", name(*only))
        }
        ([_], _) => "the only device".into(),
        (_, [one]) if asked.is_some_and(|asked| asked(*one)) => match compiling_s[*one] {
            s if s >= 1e-3 => format!("{} was asked for; it compiles first, {}", name(*one), time(s)),
            _ => format!("{} was asked for", name(*one)),
        },
        (_, [one]) if asked.is_some() => format!("{} does what that asked for cannot", name(*one)),
        (_, [one]) if able.iter().all(|&d| each_s[*one] <= each_s[d]) => format!("{} is faster", name(*one)),
        (_, [one]) if able.iter().any(|&d| d != *one && compiling_s[d] > 0.0) => {
            let late = able.iter().filter(|&&d| d != *one && compiling_s[d] > 0.0);
            let each: Vec<String> = late.map(|&d| format!("{} compiles it first, {}", name(d), time(compiling_s[d]))).collect();
            format!("{} is sooner: {}", name(*one), each.join(", "))
        }
        (_, [one]) if sim.devices[*one].link.is_none() => {
            format!("{} is sooner: moving the data costs more than computing there", name(*one))
        }
        (_, [one]) => format!("{} is sooner: the others are busy", name(*one)),
        _ => "several finish sooner than one".into(),
    }
}

/// Seconds with a unit that people read.
pub(crate) fn time(seconds: f64) -> String {
    match seconds {
        s if s >= 1.0 => format!("{s:.2} s"),
        s if s >= 1e-3 => format!("{:.2} ms", s * 1e3),
        s => format!("{:.2} us", s * 1e6),
    }
}

impl fmt::Display for Explanation {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let used = |d: &usize| self.groups.iter().any(|g| g.each_s[*d].is_some());
        let shown: Vec<usize> = (0..self.devices.len()).filter(used).collect();
        let wide = self.groups.iter().map(|g| g.label.len()).max().unwrap_or(0).max(10);
        write!(f, "{:<wide$}  {:>7}", "task group", "tasks")?;
        for &d in &shown {
            write!(f, "  {:>11}", format!("{} each", self.devices[d]))?;
        }
        let links = self.groups.iter().any(|g| g.link_s.is_some());
        if links {
            write!(f, "  {:>11}", "link each")?;
        }
        // Of a table that terminals would break, reasons are lines of their own.
        let links_wide = if links { 13 } else { 0 };
        let reasons = self.groups.iter().map(|g| g.why.chars().count()).max().unwrap_or(0);
        let is_wide = wide + 9 + 13 * shown.len() + links_wide + 18 + reasons > WIDE;
        f.write_str(if is_wide { "  placed\n" } else { "  placed          why\n" })?;
        for group in &self.groups {
            write!(f, "{:<wide$}  {:>7}", group.label, group.tasks)?;
            for &d in &shown {
                write!(f, "  {:>11}", group.each_s[d].map_or("-".into(), time))?;
            }
            if links {
                write!(f, "  {:>11}", group.link_s.map_or("-".into(), time))?;
            }
            let on = shown.iter().filter(|&&d| group.placed[d] > 0);
            let placed: Vec<String> = on.map(|&d| format!("{} {}", self.devices[d], group.placed[d])).collect();
            match is_wide {
                true => writeln!(f, "  {}\n    why: {}", placed.join(", "), group.why)?,
                false => writeln!(f, "  {:<14}  {}", placed.join(", "), group.why)?,
            }
        }
        let totals: Vec<String> = self.totals.iter().map(|(name, s)| format!("{name} {}", time(*s))).collect();
        writeln!(f, "predicted: {}", totals.join("   "))?;
        write!(
            f,
            "memory: {} in arrays, {} in tables, {} in all suffices (proved), {} expected, limit {}",
            Bytes(self.array_bytes),
            Bytes(self.table_bytes),
            Bytes(self.bound_bytes),
            Bytes(self.expected_bytes),
            Bytes(self.limit_bytes)
        )?;
        self.notes.iter().try_for_each(|note| write!(f, "\n{note}"))
    }
}
