//! What a run did, in words: predicted beside measured.
//!
//! Owns: [`Comparison`] and its `Display`. Must not know: why anything was placed (schedule). Invariant: every number is of the run's own
//! record.

use std::fmt;

use super::RunReport;
use crate::error::Bytes;
use crate::schedule::{by_label, time};

/// One group of tasks on one device.
#[derive(Clone, Debug, PartialEq)]
pub struct ComparisonRow {
    /// What it does: `gemv 1000x1000`.
    pub label: String,
    /// Where.
    pub device: String,
    /// Number of tasks there.
    pub tasks: usize,
    /// Mean predicted seconds of one of them.
    pub predicted_s: f64,
    /// Mean measured seconds of one of them.
    pub measured_s: f64,
}

/// Predicted and measured times of a run. Print it.
#[derive(Clone, Debug, PartialEq)]
pub struct Comparison {
    /// The groups, in order; one row for each device that took part.
    pub rows: Vec<ComparisonRow>,
    /// Predicted and measured seconds of the run.
    pub total_s: [f64; 2],
    /// Moves over links: how many, bytes, seconds on the way (of all, added).
    pub moves: (usize, u64, f64),
}

impl RunReport {
    /// Predicted beside measured times, by group of tasks and device.
    #[must_use]
    pub fn comparison(&self) -> Comparison {
        // By label, in the order of their first tasks: what each device did of it. One look at each span.
        let labels = by_label(&self.graph);
        let mut of_group: Vec<(usize, usize)> =
            labels.iter().enumerate().flat_map(|(row, (_, ranges))| ranges.iter().map(move |r| (r.start, row))).collect();
        of_group.sort_unstable();
        let mut sums = vec![(0usize, 0u64, 0u64); labels.len() * self.devices.len()];
        for span in &self.spans {
            let group = of_group.partition_point(|&(start, _)| start <= span.task.index()) - 1;
            let sum = &mut sums[of_group[group].1 * self.devices.len() + span.device.index()];
            *sum = (sum.0 + 1, sum.1 + span.predicted_ns, sum.2 + (span.end_ns - span.start_ns));
        }
        let mean = |ns: u64, tasks: usize| ns as f64 * 1e-9 / tasks as f64;
        let row = |(at, &(tasks, predicted_ns, measured_ns)): (usize, &(usize, u64, u64))| ComparisonRow {
            label: labels[at / self.devices.len()].0.to_owned(),
            device: self.devices[at % self.devices.len()].clone(),
            tasks,
            predicted_s: mean(predicted_ns, tasks),
            measured_s: mean(measured_ns, tasks),
        };
        let rows = sums.iter().enumerate().filter(|(_, sum)| sum.0 > 0).map(row).collect();
        let ns = self.moves.iter().map(|m| m.end_ns - m.start_ns).sum::<u64>();
        let moves = (self.moves.len(), self.bytes_moved, ns as f64 * 1e-9);
        Comparison { rows, total_s: [self.predicted_s, self.total_s], moves }
    }
}

impl fmt::Display for Comparison {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let wide = self.rows.iter().map(|r| r.label.len()).max().unwrap_or(0).max(10);
        let header = ("afterwards", "tasks", "on", "predicted", "measured");
        writeln!(f, "{:<wide$}  {:>7}  {:<6}  {:>11}  {:>11}", header.0, header.1, header.2, header.3, header.4)?;
        for row in &self.rows {
            let (predicted, measured) = (time(row.predicted_s), time(row.measured_s));
            writeln!(f, "{:<wide$}  {:>7}  {:<6}  {predicted:>11}  {measured:>11}", row.label, row.tasks, row.device)?;
        }
        let (count, bytes, seconds) = self.moves;
        if count > 0 {
            writeln!(f, "{count} moves of {} in all, {} on the way", Bytes(bytes), time(seconds))?;
        }
        write!(f, "whole run: predicted {}, measured {}", time(self.total_s[0]), time(self.total_s[1]))
    }
}

/// What each device did, in a line; and a line for each GPU that did not do some of the work.
impl fmt::Display for RunReport {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let placed = self.placement().into_iter().map(|(name, tasks, busy_s)| format!("{name} {tasks} ({})", time(busy_s)));
        let placed = placed.collect::<Vec<String>>().join(", ");
        let plural = if self.tasks() == 1 { "" } else { "s" };
        write!(f, "{} task{plural}: {placed}; predicted {}, ", self.tasks(), time(self.predicted_s))?;
        write!(f, "measured {}", time(self.total_s))?;
        self.idle.iter().try_for_each(|(name, why)| write!(f, "\n{name}: {why}"))
    }
}

#[cfg(test)]
mod tests {
    use crate::Session;

    #[test]
    fn each_task_is_counted_once() {
        let session = Session::builder().threads(2).cache_dir("").build().unwrap();
        let a = session.default_rng().uniform::<f64>([40, 30]).chunks((10, 30));
        let x = session.default_rng().uniform::<f64>([30]);
        let (_, run) = a.matvec(&x).run().unwrap();
        let found = run.comparison();
        assert_eq!(found.rows.iter().map(|r| r.tasks).sum::<usize>(), run.tasks());
        assert!(found.rows.iter().all(|r| r.device == "cpu" && r.measured_s > 0.0 && r.predicted_s > 0.0));
        let text = found.to_string();
        assert!(text.contains("gemv") && text.ends_with(&super::time(run.total_s)), "{text}");
        let text = run.to_string();
        let (placed, total) = (format!("{} tasks: cpu {} (", run.tasks(), run.tasks()), super::time(run.total_s));
        assert!(text.starts_with(&placed) && text.ends_with(&format!("measured {total}")), "{text}");
    }
}
