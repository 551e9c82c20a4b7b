//! CPU against GPU on six workloads: measured, drawn, and said in one sentence each.
//!
//! Owns: flags, and the order of things: what cannot work is said before measuring. Must not know: how anything is measured. Invariant:
//! the exit code is 1 if a device's result was wrong, however fast it was.

mod common;

/// A file of `compare/` each.
mod compare {
    pub mod chart;
    pub mod duel;
    pub mod fused;
    pub mod lanes;
    pub mod machine;
    pub mod measure;
    pub mod method;
    pub mod out;
    pub mod page;
    pub mod pixels;
    pub mod plan;
    pub mod roofline;
    pub mod run;
    pub mod scene;
    pub mod stats;
    pub mod study;
    pub mod tables;
    #[cfg(test)]
    mod tests;
    pub mod words;
    pub mod work;
}

use std::path::PathBuf;
use std::sync::{Arc, Mutex};
use std::time::{Instant, SystemTime};

use chunkwise::device::DeviceKind;
use chunkwise::shape::DType;
use chunkwise::{Error, Placement, Session};
use common::{CommonArgs, Outcome, Precision, Progress, TemporaryFolder, UsageError, session_of};
use compare::lanes::Lanes;
use compare::machine::Machine;
use compare::out::Reporter;
use compare::plan::{Family, Plan, Planned, Wishes};
use compare::roofline::{GpuRates, Roofline};
use compare::run::{Comparison, lock};
use compare::study::{SCHEMA, Study, utc};

/// Compare devices on six workloads, in f32 and f64, at several sizes: CPU, GPU and automatic placement, data cold and
/// resident. Without a GPU: one thread, all threads, and what the machine's measured peaks allow.
#[derive(Clone, Debug, clap::Parser)]
#[command(after_help = common::usage(&[
    ("compare -- --quick", "all workloads in under a minute; table, conclusion, pictures"),
    ("compare -- --workloads matvec --sizes 1000,3000,10000", "one workload, your sizes"),
    ("compare -- --crossover --out results", "also look for the sizes at which the GPU overtakes"),
]))]
// Refused, so not listed.
#[command(mut_arg("trace", |arg| arg.hide(true)), mut_arg("record", |arg| arg.hide(true)), mut_arg("explain", |arg| arg.hide(true)))]
struct Args {
    /// Fewer and smaller sizes, under a minute in all.
    #[arg(long)]
    quick: bool,

    /// Which workloads, with commas between. Default: all.
    #[arg(long, value_enum, value_delimiter = ',', value_name = "NAMES")]
    workloads: Vec<Family>,

    /// Sizes n (of n x n), with commas between. Default: several for each workload.
    #[arg(long, value_delimiter = ',', value_name = "N,..", value_parser = size)]
    sizes: Vec<usize>,

    /// Folder for compare.json, compare.md and the pictures; made if it is not there.
    #[arg(long, value_name = "DIR", default_value = "chunkwise-compare")]
    out: PathBuf,

    /// Most rounds of a row [default: 24 with --quick, else 96]; fewer where the times are known to 5 %, or where time is short.
    #[arg(long, value_name = "N", value_parser = size)]
    repeats: Option<usize>,

    /// Seconds for all rows together [default: 45 with --quick, else 600].
    #[arg(long, value_name = "SECONDS", value_parser = budget)]
    budget: Option<f64>,

    /// Also look for crossovers by bisection on real runs: up to as long again.
    #[arg(long)]
    crossover: bool,

    #[command(flatten)]
    common: CommonArgs,
}

fn size(text: &str) -> Result<usize, String> {
    text.trim().parse().ok().filter(|&n| n >= 1).ok_or_else(|| "write whole numbers of at least 1".into())
}

fn budget(text: &str) -> Result<f64, String> {
    let seconds: Option<f64> = text.parse().ok();
    seconds.filter(|s| s.is_finite() && *s > 0.0).ok_or_else(|| "write a number of seconds above 0".into())
}

fn main() -> std::process::ExitCode {
    common::run(compare)
}

/// Memory without which there is no use in beginning: several sessions with their stacks and buffers, peaks measured beyond caches, pictures.
const ROOM: u64 = 400 << 20;

fn compare(args: Args) -> Outcome {
    let started = Instant::now();
    refuse(&args.common)?;
    common::room("comparing", ROOM, "a larger limit (ulimit -v)")?;
    compare::out::prepare(&args.out)?; // what cannot be written is said before measuring
    let plan = Plan::new(&wishes(&args));
    let open = |placement: Placement, threads: Option<usize>| -> Result<Session, Error> {
        let threads = threads.or(args.common.threads);
        let session = session_of(&CommonArgs { device: placement, threads, ..args.common.clone() })?;
        if placement != Placement::Cpu {
            session.discover(); // GPUs join before any clock runs, not meanwhile
        }
        Ok(session)
    };
    let look = open(args.common.device, None)?; // an index, or `gpu`, that is not there is an error here
    let gpu = gpu_placement(args.common.device, &look);
    let mut machine = Machine::look(&look, compare::machine::adapters(args.common.allow_software))?;
    machine.gpu_rates = gpu.and_then(|gpu| GpuRates::of(&look, gpu));
    machine.no_gpu = no_gpu(args.common.device, gpu, &look);
    drop(look);
    let roofline = Roofline::of(&machine.calibration);
    let lanes = Lanes::new(&open, gpu, machine.threads);
    let study = Arc::new(Mutex::new(Study {
        schema: SCHEMA,
        workload: "compare",
        date: utc(SystemTime::now().duration_since(SystemTime::UNIX_EPOCH).unwrap_or_default()),
        command: std::env::args().collect(),
        interrupted: false,
        total_s: 0.0,
        settings: plan.settings.clone(),
        machine,
        lanes: lanes.list(),
        rows: Vec::new(),
        crossings: Vec::new(),
        conclusions: Vec::new(),
        differences: Vec::new(),
        wrote: Vec::new(),
    }));
    let reporter = Reporter::new(args.out.clone(), args.common.json, args.common.quiet);
    reporter.on_interrupt(&study);
    let folder = TemporaryFolder::create("compare")?;
    let comparison = Comparison { lanes, plan, study: &study, roofline, folder, started };
    measure_all(&args, &comparison);
    drop(comparison); // its data files go before the report is written: that needs less space
    let mut study = lock(&study);
    study.total_s = started.elapsed().as_secs_f64();
    reporter.finish(&mut study)
}

fn measure_all(args: &Args, comparison: &Comparison<'_>) {
    let progress = Progress::counting(&args.common, "comparing", "rows");
    let watch = |done: usize, total: usize, next: &Planned| {
        progress.set(done as u64, total as u64);
        progress.say(&format!("{} {} {n} x {n}", next.workload.name(), next.dtype, n = next.n));
    };
    comparison.rows(&watch);
    drop(progress);
    if args.crossover {
        let progress = Progress::counting(&args.common, "crossovers", "searches");
        comparison.crossings(&|done, total, next| {
            progress.set(done as u64, total as u64);
            progress.say(&format!("{} {}", next.workload.name(), next.dtype));
        });
    }
}

/// Flags of all programs that mean nothing here.
fn refuse(args: &CommonArgs) -> Outcome {
    let why = if args.trace.is_some() {
        "--trace: compare makes many runs; trace one with --trace of the workload's own program (matvec, cholesky, ...)"
    } else if args.record.is_some() {
        "--record: compare has many sessions; record one with --record of the workload's own program (matvec, cholesky, ...)"
    } else if args.explain {
        "--explain: compare makes many runs; explain one with --explain of the workload's own program (matvec, cholesky, ...)"
    } else {
        return Ok(());
    };
    Err(UsageError(why.into()).into())
}

fn wishes(args: &Args) -> Wishes {
    // Its default is one precision, which is right for programs that run once; here one is a choice that somebody made.
    let chosen = std::env::args().any(|a| a == "--dtype" || a.starts_with("--dtype="));
    let dtype = if args.common.dtype == Precision::F32 { DType::F32 } else { DType::F64 };
    Wishes {
        quick: args.quick,
        workloads: args.workloads.clone(),
        dtypes: if chosen { vec![dtype] } else { Vec::new() },
        sizes: args.sizes.clone(),
        repeats: args.repeats,
        budget_s: args.budget,
        chunk: args.common.chunk,
        seed: args.common.seed,
    }
}

/// Where the lane `gpu` runs: `None` if there is no GPU, or `--device` leaves it out.
fn gpu_placement(wanted: Placement, session: &Session) -> Option<Placement> {
    let devices = session.devices();
    let is_gpu = |index: usize| devices.get(index).is_some_and(|d| d.kind == DeviceKind::Gpu);
    match wanted {
        Placement::Cpu => None,
        Placement::Device(index) => is_gpu(usize::from(index)).then_some(wanted),
        _ => (0..devices.len()).any(is_gpu).then_some(Placement::Gpu),
    }
}

/// Why no GPU takes part, if so.
fn no_gpu(wanted: Placement, gpu: Option<Placement>, session: &Session) -> Option<String> {
    match (gpu, wanted) {
        (Some(_), _) => None,
        (None, Placement::Cpu | Placement::Device(_)) => Some(format!("--device {wanted} leaves them out")),
        (None, _) => Some(session.why_no_gpu().trim_start_matches("none: ").to_owned()),
    }
}
