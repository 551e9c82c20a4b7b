//! From an array to its elements.
//!
//! Owns: `compute`, `run`, `start`, `store`, `explain`; [`Pending`]. Must not know: scheduling. Invariant: a result is handed over without a
//! copy, or not at all.

use std::marker::PhantomData;
use std::sync::Arc;
use std::time::{Duration, Instant};

use ndarray::{ArrayD, IxDyn, s};

use super::lower::{Lowering, Target};
use super::{Array, Node};
use crate::device::HOST;
use crate::error::{Bytes, Error, Result};
use crate::runtime::{Handle, Plan, RunReport, Session};
use crate::schedule::{Explanation, Scheduler};
use crate::shape::{Element, Region};
use crate::store::{self, WriteChunk};
use crate::task::ChunkSink;

impl<T: Element> Array<T> {
    /// Computes the array and returns its elements.
    ///
    /// # Errors
    /// [`Error::OutOfMemory`] before anything runs, if the memory limit cannot hold it; what the data, files or devices report.
    pub fn compute(&self) -> Result<ArrayD<T>> {
        Ok(self.run()?.0)
    }

    /// The only element of an array that has one, computed.
    ///
    /// # Errors
    /// As [`Array::compute`]; [`Error::Shape`] if there is not exactly one element.
    pub fn compute_scalar(&self) -> Result<T> {
        if self.len() != 1 {
            return Err(Error::Shape { op: "compute_scalar", found: self.shape().to_vec(), wanted: "one element".into() });
        }
        let all = self.compute()?;
        Ok(all.first().copied().unwrap_or_default())
    }

    /// [`Array::compute`], with what was measured.
    ///
    /// # Errors
    /// As [`Array::compute`].
    pub fn run(&self) -> Result<(ArrayD<T>, RunReport)> {
        self.start()?.wait()
    }

    /// Starts computing and returns at once (after planning).
    ///
    /// # Errors
    /// [`Error::OutOfMemory`] if the memory limit cannot hold it.
    pub fn start(&self) -> Result<Pending<T>> {
        let asked = Instant::now();
        let session = self.session();
        let plan = self.plan(&session)?;
        let handle = session.submit(plan, asked)?;
        Ok(Pending { handle, shape: self.shape().to_vec(), element: PhantomData })
    }

    /// What computing this array would do, and why: predicted times on each device, placement, memory.
    ///
    /// # Errors
    /// As [`Array::start`].
    pub fn explain(&self) -> Result<Explanation> {
        let session = self.session();
        let plan = self.plan(&session)?;
        let mut explanation = session.explain(&plan)?;
        explanation.notes.extend(sources(&self.node));
        Ok(explanation)
    }

    /// Computes the array and writes it, chunk by chunk as they are done, to `data.h5:/name` or `data.npy`. The file appears
    /// when it is complete; nothing is left of it otherwise.
    ///
    /// # Errors
    /// As [`Array::compute`] and [`crate::store::create`].
    pub fn store(&self, spec: &str) -> Result<RunReport> {
        self.store_into(&store::create(spec, self.shape(), T::DTYPE, None)?)
    }

    /// [`Array::store`], into any sink.
    ///
    /// # Errors
    /// As [`Array::compute`]; [`Error::Shape`] or [`Error::DType`] if the sink was made for another array; what the sink reports.
    pub fn store_into(&self, sink: &Arc<dyn ChunkSink>) -> Result<RunReport> {
        let asked = Instant::now();
        let session = self.session();
        let handle = session.submit(self.store_plan(&session, sink)?, asked)?;
        finish_store(handle, sink, asked)
    }

    /// [`Array::store_into`], which calls `watch` with the tasks done and the tasks in all about ten times a second. Not for use
    /// inside a task, whose worker it would hold.
    ///
    /// # Errors
    /// As [`Array::store_into`].
    pub fn store_watched(&self, sink: &Arc<dyn ChunkSink>, mut watch: impl FnMut(usize, usize)) -> Result<RunReport> {
        let asked = Instant::now();
        let session = self.session();
        let handle = session.submit(self.store_plan(&session, sink)?, asked)?;
        while !handle.wait_timeout(Duration::from_millis(100)) {
            let (done, total) = handle.progress();
            watch(done, total);
        }
        finish_store(handle, sink, asked)
    }

    /// What [`Array::store_into`] would do, and why.
    ///
    /// # Errors
    /// As [`Array::store_into`].
    pub fn explain_store(&self, sink: &Arc<dyn ChunkSink>) -> Result<Explanation> {
        let session = self.session();
        let mut explanation = session.explain(&self.store_plan(&session, sink)?)?;
        explanation.notes.extend(sources(&self.node));
        Ok(explanation)
    }

    /// The plan for [`Array::start`], if it fits memory.
    fn plan(&self, session: &Session) -> Result<Plan> {
        // Before lowering, which may make inputs as long as the result's axes.
        if self.nbytes() > session.memory_limit() {
            return Err(self.too_large(self.nbytes(), session.memory_limit()));
        }
        let plan = Lowering::default().finish(&self.node)?;
        self.check_memory(session, &plan, |lw| lw.finish(&self.node))?;
        Ok(plan)
    }

    /// The plan for [`Array::store_into`], if it fits memory.
    fn store_plan(&self, session: &Session, sink: &Arc<dyn ChunkSink>) -> Result<Plan> {
        let plan = self.lower_into(sink, Lowering::default())?;
        self.check_memory(session, &plan, |lw| self.lower_into(sink, lw))?;
        Ok(plan)
    }

    fn lower_into(&self, sink: &Arc<dyn ChunkSink>, mut lw: Lowering) -> Result<Plan> {
        self.check_sink(&**sink)?;
        let grid = lw.grid_of(&self.node)?;
        let regions: Vec<Region> = (0..grid.len()).map(|i| grid.region(i)).collect();
        let kernel = lw.graph.kernel(Arc::new(WriteChunk { sink: sink.clone(), regions }));
        lw.expect_tasks(grid.len())?;
        let label = format!("write {}", sink.name());
        let write = |lw: &mut Lowering, number: usize, value| {
            lw.graph.task(kernel, &(number as u32).to_ne_bytes(), &[value], &[]).map(drop)
        };
        if self.node.op.in_pieces() {
            // Each chunk is written next to being made: the proven peak is that of one.
            for number in 0..grid.len() {
                let values = lw.piece(&self.node, &grid, number..number + 1)?;
                lw.graph.group(label.as_str());
                values.into_iter().try_for_each(|value| write(&mut lw, number, value))?;
            }
            return lw.plan();
        }
        let values = self.node.op.lower(&self.node, &grid, Target::Pool, &mut lw)?;
        lw.graph.group(label);
        values.into_iter().enumerate().try_for_each(|(number, value)| write(&mut lw, number, value))?;
        lw.plan()
    }

    /// Errs unless the sink takes an array of this shape and dtype: the rest of a larger one would stay unwritten.
    fn check_sink(&self, sink: &dyn ChunkSink) -> Result<()> {
        if sink.shape() != self.shape() {
            let wanted = format!("{:?}, for which {} was created", sink.shape(), sink.name());
            return Err(Error::Shape { op: "store_into", found: self.shape().to_vec(), wanted });
        }
        if sink.dtype() != T::DTYPE {
            let wanted = format!("create the sink for {}", T::DTYPE);
            return Err(Error::DType { what: sink.name(), found: sink.dtype().to_string(), wanted });
        }
        Ok(())
    }

    /// Refuses a plan that cannot fit, and looks for chunks that would.
    fn check_memory(&self, session: &Session, plan: &Plan, lower: impl Fn(Lowering) -> Result<Plan>) -> Result<()> {
        let (limit, peak) = (session.memory_limit(), peak_bytes(session, plan));
        if peak <= limit {
            return Ok(());
        }
        let arrays: u64 = plan.graph.arrays().iter().map(crate::task::HostArray::bytes).sum();
        if arrays > limit {
            return Err(self.too_large(arrays, limit));
        }
        let held = plan.graph.held();
        if let Some(largest) = held.iter().max_by_key(|held| held.bytes)
            && arrays + plan.graph.held_bytes() > limit
        {
            return Err(out_of_memory(largest.what.clone(), peak, limit, larger_limit(peak))); // whatever the chunks
        }
        let what =
            Scheduler::peak_task(&plan.graph).map_or_else(|| "the run".into(), |t| format!("task {}", plan.graph.task_name(t)));
        let widest = widest(&self.node);
        let sides = std::iter::successors(Some(widest / 2), |s| Some(s / 2)).take_while(|&s| s >= 16);
        let fits = |side: usize| {
            let peak = peak_bytes(session, &lower(Lowering::with_side(side)).ok()?);
            (peak <= limit).then_some((side, peak))
        };
        let smaller = sides.take(8).find_map(fits);
        let hint =
            smaller.map(|(side, bytes)| format!("--chunk {side} (or .chunks({side})), which needs {}, or ", Bytes(bytes)));
        Err(out_of_memory(what, peak, limit, format!("{}{}", hint.unwrap_or_default(), larger_limit(peak))))
    }

    fn too_large(&self, bytes: u64, limit: u64) -> Error {
        let what = format!("{} of shape {:?} with its inputs", self.node.op.name(), self.shape());
        let hint = format!("{}, or have the result written to a file chunk by chunk (Array::store)", larger_limit(bytes));
        out_of_memory(what, bytes, limit, hint)
    }
}

/// The flag (and the method) for a memory limit that suffices, written so that a shell takes it as one word.
fn larger_limit(peak: u64) -> String {
    let enough = Bytes(peak.saturating_add(peak / 50)).to_string().replace(' ', "");
    format!("--memory-limit {enough} (Session::builder().memory_limit)")
}

/// The largest extent of any chunk that the array is computed from.
fn widest(node: &Arc<Node>) -> usize {
    let own = node.grid().largest().into_iter().max().unwrap_or(1);
    node.op.inputs().iter().map(widest).fold(own, usize::max)
}

fn finish_store(handle: Handle, sink: &Arc<dyn ChunkSink>, asked: Instant) -> Result<RunReport> {
    let (_, mut report) = handle.wait()?;
    sink.finish()?;
    report.total_s = asked.elapsed().as_secs_f64();
    Ok(report)
}

fn out_of_memory(what: String, requested_bytes: u64, available_bytes: u64, try_this: String) -> Error {
    Error::OutOfMemory { what, requested_bytes, available_bytes, space: "host".into(), try_this }
}

fn peak_bytes(session: &Session, plan: &Plan) -> u64 {
    let workers = session.devices().iter().filter(|d| d.space == HOST).map(|d| d.workers).sum();
    Scheduler::peak_bytes(&plan.graph, session.price(plan).scratch_bytes, workers)
}

/// How the files that an array depends on will be read.
fn sources(node: &Arc<Node>) -> Vec<String> {
    let own = node.op.source().map(|s| format!("{}: {}", s.name(), s.access()));
    own.into_iter().chain(node.op.inputs().iter().flat_map(sources)).collect()
}

/// An array being computed. Dropping it cancels what has not begun.
#[must_use = "a computation that nobody waits for is cancelled"]
pub struct Pending<T: Element> {
    handle: Handle,
    shape: Vec<usize>,
    element: PhantomData<T>,
}

impl<T: Element> Pending<T> {
    /// Whether it is over.
    #[must_use]
    pub fn is_done(&self) -> bool {
        self.handle.is_done()
    }

    /// Tasks done, and tasks in all.
    #[must_use]
    pub fn progress(&self) -> (usize, usize) {
        self.handle.progress()
    }

    /// Predicted seconds of the run.
    #[must_use]
    pub fn predicted_s(&self) -> f64 {
        self.handle.predicted_s()
    }

    /// Waits at most this long; true if it is over.
    #[must_use]
    pub fn wait_timeout(&self, time: Duration) -> bool {
        self.handle.wait_timeout(time)
    }

    /// Waits for the elements, and gives what was measured with them.
    ///
    /// # Errors
    /// As [`Array::compute`].
    pub fn wait(self) -> Result<(ArrayD<T>, RunReport)> {
        let (results, report) = self.handle.wait()?;
        let len: usize = self.shape.iter().product();
        let taken = results.into_iter().flatten().next().and_then(crate::device::HostBuffer::take_result::<T>);
        let Some(taken) = taken else {
            let message = "it has another dtype than the array (a bug of chunkwise: please report it)".into();
            return Err(Error::Failed { what: "handing out the result".into(), message });
        };
        let flat = ndarray::Array1::from_vec(taken.vec).slice_move(s![taken.start..taken.start + len]);
        let shaped = flat.into_shape_with_order(IxDyn(&self.shape));
        let array = shaped.map_err(|e| Error::Failed { what: "handing out the result".into(), message: e.to_string() })?;
        Ok((array, report))
    }
}
