//! Pictures of what happened; it only draws.
//!
//! Owns: the timeline of a run. Must not know: how to compute anything. Invariant: what is drawn is in the record; nothing is guessed.

use std::io::{self, Write};

use crate::error::Bytes;
use crate::runtime::RunReport;

impl RunReport {
    /// Writes the run's timeline as Chrome trace JSON, which <https://ui.perfetto.dev> opens: one process per device, one track per
    /// worker, each task with its predicted time beside the measured one; one process per link, with its moves.
    ///
    /// # Errors
    /// What `out` reports.
    pub fn write_timeline(&self, out: &mut dyn Write) -> io::Result<()> {
        timeline(self, out)
    }
}

fn timeline(run: &RunReport, out: &mut dyn Write) -> io::Result<()> {
    let mut events = Events { out, first: true };
    events.out.write_all(b"{\"displayTimeUnit\":\"ms\",\"traceEvents\":[\n")?;
    for (device, name) in run.devices.iter().enumerate() {
        events.name("process_name", device, 0, name)?;
        let spans = run.spans.iter().filter(|s| s.device.index() == device);
        let mut workers: Vec<u16> = spans.map(|s| s.worker).collect();
        workers.sort_unstable();
        workers.dedup();
        for worker in workers {
            events.name("thread_name", device, worker.into(), &format!("{name} worker {worker}"))?;
        }
    }
    let from = run.submitted_ns;
    let us = |ns: u64| ns.saturating_sub(from) as f64 / 1e3;
    for span in &run.spans {
        let measured = span.end_ns.saturating_sub(span.start_ns);
        let body = serde_json::json!({
            "name": run.graph.kernel_name(span.task),
            "cat": run.group_label(run.graph.group(span.task)),
            "ph": "X", "pid": span.device.index(), "tid": span.worker,
            "ts": us(span.start_ns), "dur": measured as f64 / 1e3,
            "args": {
                "task": run.graph.task_name(span.task),
                "predicted_us": span.predicted_ns as f64 / 1e3,
                "measured_us": measured as f64 / 1e3,
            },
        });
        events.put(&body)?;
    }
    for mv in &run.moves {
        let link = 1000 + 2 * mv.device.index() + usize::from(!mv.upload);
        let direction = if mv.upload { "to" } else { "from" };
        events.name("process_name", link, 0, &format!("link {direction} {}", run.devices[mv.device.index()]))?;
        let body = serde_json::json!({
            "name": format!("{} {direction} {}", Bytes(mv.bytes), run.devices[mv.device.index()]),
            "cat": "move", "ph": "X", "pid": link, "tid": 0,
            "ts": us(mv.start_ns), "dur": mv.end_ns.saturating_sub(mv.start_ns) as f64 / 1e3,
            "args": { "bytes": mv.bytes, "value": mv.value.to_string() },
        });
        events.put(&body)?;
    }
    events.out.write_all(b"\n]}\n")
}

struct Events<'a> {
    out: &'a mut dyn Write,
    first: bool,
}

impl Events<'_> {
    fn put(&mut self, event: &serde_json::Value) -> io::Result<()> {
        if !std::mem::take(&mut self.first) {
            self.out.write_all(b",\n")?;
        }
        self.out.write_all(event.to_string().as_bytes())
    }

    fn name(&mut self, what: &str, process: usize, thread: u32, name: &str) -> io::Result<()> {
        self.put(&serde_json::json!({ "name": what, "ph": "M", "pid": process, "tid": thread, "args": { "name": name } }))
    }
}

#[cfg(test)]
mod tests {
    use crate::{Array, Session};

    #[test]
    fn the_timeline_has_each_task_once_with_both_times() {
        let session = Session::builder().threads(2).cache_dir("").build().unwrap();
        let a = session.default_rng().uniform::<f64>([64, 64]).chunks(16);
        let (_, run) = a.run().unwrap();
        let mut text = Vec::new();
        super::timeline(&run, &mut text).unwrap();
        let json: serde_json::Value = serde_json::from_slice(&text).unwrap();
        let events = json["traceEvents"].as_array().unwrap();
        let tasks: Vec<_> = events.iter().filter(|e| e["ph"] == "X").collect();
        assert_eq!(tasks.len(), 16);
        assert!(tasks.iter().all(|e| e["args"]["predicted_us"].as_f64().is_some_and(|us| us > 0.0)));
        let _: Array<f64> = a;
    }
}
