//! Placement tried out without a GPU: two CPU pools, the second behind a link of three speeds.
//!
//! Each workload runs on the near pool only, on the far pool only, and wherever it finishes first. The link is throttled in software; its
//! bytes and latency are real waiting.

mod common;

use std::sync::Arc;

use chunkwise::device::{Cpu, Device, IoLane, LinkSpec};
use chunkwise::id::SpaceId;
use chunkwise::ndarray::{Array1, Array2};
use chunkwise::{Array, prelude::*};
use common::{Outcome, line};

/// Compare automatic placement with each fixed one, on two CPU pools with a link between them.
#[derive(clap::Parser)]
#[command(after_help = common::usage(&[
    ("two_pools", "one thread in each pool"),
    ("two_pools -- --links 500 --rounds 21", "one link speed, more rounds"),
]))]
struct Args {
    /// Rounds, in each of which every placement runs once; medians are shown.
    #[arg(long, value_name = "N", default_value_t = 7, value_parser = clap::value_parser!(u16).range(1..))]
    rounds: u16,

    /// Threads of each pool.
    #[arg(long, value_name = "N", default_value_t = 1, value_parser = clap::value_parser!(u16).range(1..))]
    threads: u16,

    /// Link speeds, in MB/s.
    #[arg(long, value_name = "MB/s,...", value_delimiter = ',', default_value = "200,2000,20000", value_parser = speed)]
    links: Vec<f64>,
}

fn speed(text: &str) -> std::result::Result<f64, String> {
    match text.parse() {
        Ok(speed) if (0.1..=1e6).contains(&speed) => Ok(speed),
        _ => Err("write speeds between 0.1 and 1000000 MB/s".into()),
    }
}

const PLACEMENTS: [(&str, Placement); 3] =
    [("near", Placement::Device(0)), ("far", Placement::Device(2)), ("auto", Placement::Auto)];

/// A workload made in a session: what it computes, again and again.
type Make = fn(&Session) -> Result<Box<dyn Fn() -> Result<(f64, u64)>>>;

fn timed<T: chunkwise::shape::Element>(array: Array<T>) -> Box<dyn Fn() -> Result<(f64, u64)>> {
    Box::new(move || array.run().map(|(_, report)| (report.total_s, report.bytes_moved)))
}

/// Memory that a workload takes, with the stacks and buffers of two pools.
const ROOM: u64 = 3 << 26;

fn workloads() -> [(&'static str, Make); 3] {
    [
        ("matvec", |session| {
            let a = Array2::from_shape_fn((4000, 2000), |(i, j)| ((i * 7 + j * 3) % 11) as f64);
            let a = Array::from(a).in_session(session).try_chunks((250, 2000))?;
            Ok(timed(a.try_matvec(&Array::from(Array1::from_elem(2000, 1.0)))?))
        }),
        ("mandelbrot", |session| {
            let (x, y) = (Array::<f64>::ogrid(-1.5, 0.0, 1200), Array::<f64>::ogrid(-1.0, 0.0, 800));
            Ok(timed(mandelbrot(&x, &y, 500).try_chunks(100)?.in_session(session)))
        }),
        ("cholesky", |session| {
            let n = 1200;
            let a = Array2::from_shape_fn((n, n), |(i, j)| if i == j { n as f64 } else { 1.0 / (1.0 + i.abs_diff(j) as f64) });
            Ok(timed(Array::from(a).in_session(session).try_chunks(150)?.try_cholesky()?))
        }),
    ]
}

fn session(placement: Placement, threads: u16, link: LinkSpec) -> Result<Session> {
    let threads = usize::from(threads);
    let far = Cpu::behind_link("far", threads, SpaceId(1), [link; 2])?;
    let devices: Vec<Arc<dyn Device>> = vec![Arc::new(Cpu::new(threads)?), Arc::new(IoLane::new()), Arc::new(far)];
    Session::builder().devices(devices).placement(placement).cache_dir("").memory_limit("2GB").build()
}

fn median(values: &mut [f64]) -> f64 {
    values.sort_by(f64::total_cmp);
    values[values.len() / 2]
}

fn main() -> std::process::ExitCode {
    common::run(two_pools)
}

fn two_pools(args: Args) -> Outcome {
    let link = |speed: f64| LinkSpec { latency_ns: 10_000, bytes_per_s: speed * 1e6 };
    session(Placement::Auto, args.threads, link(args.links[0]))?; // what is wrong with the flags is said before the table begins
    let [near, far, auto, ratio] = ["near ms", "far ms", "auto ms", "auto / best"];
    line(format_args!("{:<12}{:>10}{near:>12}{far:>12}{auto:>12}{ratio:>14}", "workload", "link MB/s"))?;
    for (name, make) in workloads() {
        for &speed in &args.links {
            let made = PLACEMENTS.map(|(_, placement)| {
                let session = session(placement, args.threads, link(speed))?;
                common::room(&format!("the input of {name}"), ROOM, "a larger limit (ulimit -v)")?;
                make(&session)
            });
            let mut runs = Vec::new();
            for run in made {
                runs.push(run?);
            }
            let mut times = vec![Vec::new(); runs.len()];
            // The first rounds teach each session what its tasks cost.
            for round in 0..args.rounds + 2 {
                for (run, times) in runs.iter().zip(&mut times) {
                    let (seconds, _) = run()?;
                    if round >= 2 {
                        times.push(seconds * 1e3);
                    }
                }
            }
            let [near, far, auto] = [0, 1, 2].map(|i| median(&mut times[i]));
            let ratio = auto / near.min(far);
            line(format_args!("{name:<12}{speed:>10.0}{near:>12.2}{far:>12.2}{auto:>12.2}{ratio:>14.2}"))?;
        }
    }
    Ok(())
}
