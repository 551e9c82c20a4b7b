//! Decides again what a recorded run decided, and checks that nothing differs.

mod common;

use std::path::PathBuf;

use chunkwise::runtime::Record;
use common::{Outcome, line};
use serde_json::json;

/// Replay a record that another program wrote with --record: the scheduler is told the same, and must answer the same, byte for byte. Nothing is computed.
#[derive(clap::Parser)]
#[command(after_help = common::usage(&[
    ("matvec -- --n 2000 --record run.record", "record a run"),
    ("replay -- run.record", "replay it"),
]))]
struct Args {
    /// The record.
    #[arg(value_name = "FILE")]
    file: PathBuf,

    /// Print one JSON object on one line of stdout instead of the summary.
    #[arg(long)]
    json: bool,
}

fn main() -> std::process::ExitCode {
    common::run(replay)
}

fn replay(args: Args) -> Outcome {
    let record = Record::read(&args.file)?;
    let replayed = record.replay()?;
    let (file, policy) = (args.file.display().to_string(), record.policy_name());
    if args.json {
        return line(json!({
            "workload": "replay", "file": file, "policy": policy, "graphs": replayed.graphs, "events": replayed.events,
            "actions": replayed.actions, "launches": replayed.launches,
        }));
    }
    line(format!("replayed  {file}"))?;
    line(format!("policy    {policy}"))?;
    line(format!("graphs    {}", replayed.graphs))?;
    line(format!("events    {}", replayed.events))?;
    let launches = if replayed.launches == 1 { "1 launch" } else { &format!("{} launches", replayed.launches) };
    line(format!("actions   {}, of which {launches}: the same as recorded", replayed.actions))
}
