//! What the runtime costs per task.

mod common;

use common::{CommonArgs, Outcome, Report, open_session};

/// Run a random graph of tiny tasks (each adds one to three earlier numbers), check the sum, and print microseconds per task.
#[derive(clap::Parser)]
#[command(after_help = common::usage(&[("overhead -- --tasks 100000", "one hundred thousand tasks")]))]
struct Args {
    /// Number of tasks.
    #[arg(long, value_name = "N", default_value_t = 100_000)]
    tasks: usize,

    #[command(flatten)]
    common: CommonArgs,
}

fn main() -> std::process::ExitCode {
    common::run(overhead)
}

fn overhead(args: Args) -> Outcome {
    let session = open_session(&args.common)?;
    let (checksum, run) = chunkwise::array::random_dag(&session, args.tasks)?;
    let mut report = Report::new("overhead", &[args.tasks], &args.common);
    report.dtype = chunkwise::shape::DType::U64;
    report.what = format!("{} tasks, each adds 1 to 3 numbers", run.tasks());
    let mut report = report.of_run(&session, &run, run.tasks() as f64, "task/s");
    let us = run.total_s * 1e6 / run.tasks().max(1) as f64;
    report.notes.push(format!("{us:.2} us a task, planning included; checksum {checksum:016x} as a sequential loop gives"));
    report.extra.insert("us_per_task".into(), us.into());
    report.extra.insert("checksum".into(), format!("{checksum:016x}").into());
    report.print(&args.common)
}
