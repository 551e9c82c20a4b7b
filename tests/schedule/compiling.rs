//! Programs that have yet to be compiled for a device: who does their work meanwhile.
//!
//! Owns: what must come of it. Must not know: compilers. Invariant: every case runs in the simulator, with the real scheduler.

use std::sync::Arc;

use chunkwise::device::LinkSpec;
use chunkwise::schedule::simulate::{Outcome, Simulation, simulate};
use chunkwise::schedule::{EarliestFinish, Estimates};
use chunkwise::task::TaskGraph;

use super::random::{cpu, gpu};
use support::graphs::{self, uniform};

const MS: u64 = 1_000_000;

/// Tasks that take 10 ms on each of two threads and 1 ms on a GPU, for which their program is compiled after so long.
fn run(tasks: usize, compiling_ms: u64) -> (Outcome, [usize; 2]) {
    let graph: Arc<TaskGraph> = graphs::map(tasks, 8);
    let link = [LinkSpec { latency_ns: 1000, bytes_per_s: 1e12 }; 2];
    let compiling_ns = (compiling_ms > 0).then(|| vec![compiling_ms * MS; graph.len()].into());
    let on_gpu = Estimates { compiling_ns, ..uniform(&graph, 1, MS) };
    let sim = Simulation::new(vec![cpu(2), gpu(1, link)], vec![uniform(&graph, 0, 10 * MS), on_gpu]);
    let out = simulate(&graph, &sim, Box::new(EarliestFinish)).unwrap();
    let on = [0, 1].map(|device| out.spans.iter().filter(|span| span.device.index() == device).count());
    (out, on)
}

#[test]
fn what_is_short_does_not_wait() {
    assert_eq!(run(4, 0).1, [0, 4], "compiled, the GPU does it");
    let (out, on) = run(4, 50);
    assert_eq!((on, out.makespan_ns), ([4, 0], 20 * MS));
}

#[test]
fn what_is_long_begins_on_the_cpu_and_goes_on_where_it_is_compiled() {
    let (out, [here, there]) = run(100, 50);
    let begun = out.spans.iter().filter(|span| span.device.index() == 1).map(|span| span.start_ns).min();
    assert!(here >= 10 && there > 70, "{here} and {there}");
    assert!(begun.is_some_and(|ns| ns >= 50 * MS), "{begun:?}");
    // Ten at once in 50 ms, then twelve in 10 ms: no longer than that, and what is on its way.
    assert!((110 * MS..150 * MS).contains(&out.makespan_ns), "{}", out.makespan_ns);
}
