//! What the runtime costs per task.

mod common;

use chunkwise::array::{explain_random_dag, random_dag};
use common::{CommonArgs, Outcome, Report, open_session};

/// Run a random graph of tiny tasks (each adds one to three earlier numbers), check the sum, and print microseconds per task.
#[derive(clap::Parser)]
#[command(after_help = common::usage(&[("overhead -- --tasks 100000", "one hundred thousand tasks")]))]
struct Args {
    /// Number of tasks; at most 20 million.
    #[arg(long, value_name = "N", default_value_t = 100_000, value_parser = clap::value_parser!(u32).range(1..=20_000_000))]
    tasks: u32,

    #[command(flatten)]
    common: CommonArgs,
}

fn main() -> std::process::ExitCode {
    common::run(overhead)
}

fn overhead(args: Args) -> Outcome {
    let session = open_session(&args.common, Vec::new())?;
    let tasks = args.tasks as usize;
    common::explain(&args.common, || explain_random_dag(&session, tasks))?;
    let (checksum, run) = random_dag(&session, tasks)?;
    common::write_trace(&args.common, &run)?;
    let mut report = Report::new("overhead", &[tasks], &args.common);
    report.dtype = chunkwise::shape::DType::U64;
    report.what = format!("{tasks} additions of 1 to 3 numbers, {} for the checksum", run.tasks() - tasks);
    let mut report = report.of_run(&session, &run, run.tasks() as f64, "task/s");
    let us = run.total_s * 1e6 / run.tasks().max(1) as f64;
    report.notes.push(format!("{us:.2} us a task, planning included; checksum {checksum:016x} as a sequential loop gives"));
    report.extra.insert("us_per_task".into(), us.into());
    report.extra.insert("checksum".into(), format!("{checksum:016x}").into());
    report.print(&args.common)
}
