//! From an array to its elements.
//!
//! Owns: `compute`, `run`, `start`, `store`, `explain`; [`Pending`]. Must not know: scheduling. Invariant: a result is handed over without a
//! copy, or not at all.

use std::marker::PhantomData;
use std::sync::Arc;
use std::time::{Duration, Instant};

use ndarray::{ArrayD, IxDyn, s};

use super::Array;
use super::fit::Fit;
use super::lower::{Lowering, Target};
use super::node::Node;
use crate::error::{Error, Result};
use crate::runtime::{Handle, Plan, RunReport, Session};
use crate::schedule::Explanation;
use crate::shape::Element;
use crate::store::{self, WriteChunk};
use crate::task::{ChunkSink, Operand};

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
        let mut explanation = session.explain(&mut self.plan(&session)?)?;
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
        let mut explanation = session.explain(&mut self.store_plan(&session, sink)?)?;
        explanation.notes.extend(sources(&self.node));
        Ok(explanation)
    }

    /// The plan for [`Array::start`], if it fits memory.
    fn plan(&self, session: &Session) -> Result<Plan> {
        Fit { session, node: &self.node, streams: self.node.in_pieces }.plan(|lw| lw.finish(&self.node))
    }

    /// The plan for [`Array::store_into`], if it fits memory.
    fn store_plan(&self, session: &Session, sink: &Arc<dyn ChunkSink>) -> Result<Plan> {
        Fit { session, node: &self.node, streams: false }.plan(|lw| self.lower_into(sink, lw))
    }

    fn lower_into(&self, sink: &Arc<dyn ChunkSink>, mut lw: Lowering) -> Result<Plan> {
        self.check_sink(&**sink)?;
        let grid = lw.grid_of(&self.node)?;
        let kernel = lw.graph.kernel(Arc::new(WriteChunk { sink: sink.clone(), grid: grid.clone() }));
        lw.expect_chunks(grid.len())?;
        let label = format!("write {}", sink.name());
        let write = |lw: &mut Lowering, number: usize, value| {
            lw.graph.task(kernel, &(number as u32).to_ne_bytes(), &[Operand::of(value)], &[]).map(drop)
        };
        if self.node.in_pieces {
            // Each chunk is written next to being made: the proven peak is that of one.
            for number in 0..grid.len() {
                let values = lw.piece(&self.node, &grid, number..number + 1)?;
                lw.graph.group(label.as_str());
                values.into_iter().try_for_each(|value| write(&mut lw, number, value))?;
            }
            return lw.plan();
        }
        let values = lw.root(&self.node, &grid, Target::Pool)?;
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
            return Err(Error::DType { what: sink.name().to_owned(), found: sink.dtype().to_string(), wanted });
        }
        Ok(())
    }
}

fn finish_store(handle: Handle, sink: &Arc<dyn ChunkSink>, asked: Instant) -> Result<RunReport> {
    let (_, mut report) = handle.wait()?;
    sink.finish()?;
    report.total_s = asked.elapsed().as_secs_f64();
    Ok(report)
}

/// How the files that an array depends on will be read.
fn sources(node: &Arc<Node>) -> Vec<String> {
    node.all().into_iter().filter_map(|n| n.op.source()).map(|s| format!("{}: {}", s.name(), s.access())).collect()
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
