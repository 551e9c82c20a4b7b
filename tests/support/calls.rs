//! Graphs of closures.
//!
//! Owns: [`plan`], [`values`]. Must not know: what is tested. Invariant: each task is one call.

use std::borrow::Cow;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::{Duration, Instant};

use chunkwise::device::take_result;
use chunkwise::kernel::{Fault, Kernel, Lane, Scratch, Work};
use chunkwise::prelude::*;
use chunkwise::runtime::{Handle, Inside, Plan};
use chunkwise::shape::{ChunkMeta, ChunkView, ChunkViewMut, DType, Layout};
use chunkwise::task::GraphBuilder;

pub fn session(threads: usize) -> Session {
    Session::builder().threads(threads).placement(Placement::Cpu).cache_dir("").build().expect("session")
}

/// A session that thinks a task late after 50 ms, or 600 ms if its time was never measured.
pub fn impatient(threads: usize) -> Session {
    let builder = Session::builder().threads(threads).placement(Placement::Cpu).cache_dir("");
    builder.stall_after(2, Duration::from_millis(50)).build().expect("session")
}

/// Sleeps as long as it is told, run by run.
pub fn sleeper(ms: Arc<AtomicUsize>, runs: Arc<AtomicUsize>) -> impl Fn(u32) -> Result<f64> + Send + Sync + 'static {
    move |_| {
        runs.fetch_add(1, Ordering::Relaxed);
        std::thread::sleep(Duration::from_millis(ms.load(Ordering::Relaxed) as u64));
        Ok(7.0)
    }
}

/// A kernel that runs a closure, given the number of its task, and writes its value.
struct Calls<F> {
    work: Work,
    lane: Lane,
    what: F,
}

impl<F: Fn(u32) -> Result<f64> + Send + Sync + 'static> Kernel for Calls<F> {
    fn name(&self) -> Cow<'static, str> {
        "calls".into()
    }
    fn lane(&self) -> Lane {
        self.lane
    }
    fn work(&self, _: &[u8], _: &[ChunkMeta<'_>]) -> Work {
        self.work
    }
    fn run_cpu(
        &self,
        params: &[u8],
        _: &[ChunkView<'_>],
        outputs: &mut [ChunkViewMut<'_>],
        _: &mut Scratch<'_>,
    ) -> std::result::Result<(), Fault> {
        let number = u32::from_ne_bytes(params.try_into().expect("a number"));
        outputs[0].set(0, 0, (self.what)(number)?);
        Ok(())
    }
}

/// What says nothing about a task's time, and what says a little.
pub const SILENT: Work = Work { flops: 0.0, bytes: 0.0 };
pub const SOME: Work = Work { flops: 1e5, bytes: 0.0 };

/// One task per closure call; the result's elements are what they return, with some padding behind.
pub fn plan(count: usize, padding: usize, work: Work, what: impl Fn(u32) -> Result<f64> + Send + Sync + 'static) -> Plan {
    plan_on(Lane::Compute, (count, padding), work, what)
}

pub fn plan_on(
    lane: Lane,
    (count, padding): (usize, usize),
    work: Work,
    what: impl Fn(u32) -> Result<f64> + Send + Sync + 'static,
) -> Plan {
    let mut graph = GraphBuilder::new();
    let result = graph.array(DType::F64, count + padding, true);
    let kernel = graph.kernel(Arc::new(Calls { work, lane, what }));
    graph.group("calls");
    for i in 0..count {
        let out = graph.window(result, i, &Layout::contiguous(DType::F64, &[]));
        graph.write(kernel, &(i as u32).to_ne_bytes(), &[], out).expect("graph");
    }
    Plan::new(graph, vec![None]).expect("plan")
}

pub fn start(session: &Session, plan: Plan) -> Handle {
    session.submit(plan, Instant::now()).expect("submits")
}

pub fn values(handle: Handle) -> Result<Vec<f64>> {
    let (results, report) = handle.wait()?;
    let len = report.graph.arrays()[0].len;
    let taken = results.into_iter().flatten().next().and_then(take_result::<f64>).expect("one result");
    Ok(taken.vec[taken.start..][..len].to_vec())
}
