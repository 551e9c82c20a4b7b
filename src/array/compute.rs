//! From an array to its elements.
//!
//! Owns: `compute`, `run`, `start`, `store`, `explain`; [`Pending`]. Must not know: scheduling. Invariant: a result is handed over without a
//! copy, or not at all.

use std::borrow::Borrow;
use std::marker::PhantomData;
use std::sync::Arc;
use std::time::{Duration, Instant};

use ndarray::{ArrayD, Dimension, IxDyn, s};

use super::expr::{Expr, Op};
use super::fit::Fit;
use super::lower::{Root, To};
use super::ops::{AnyArray, ArrayParts, parts};
use super::{Array, common_session};
use crate::device::{HostBuffer, take_result};
use crate::error::{Error, Result};
use crate::runtime::{Handle, Inside, Plan, RunReport, Session};
use crate::schedule::Explanation;
use crate::shape::Element;
use crate::store;
use crate::task::ChunkSink;

impl<T: Element> Array<T> {
    /// Computes the array and returns its elements.
    ///
    /// # Errors
    /// [`Error::OutOfMemory`] before anything runs, if the memory limit cannot hold it; what the data, files or devices report.
    pub fn compute(&self) -> Result<ArrayD<T>> {
        Ok(self.run()?.0)
    }

    /// [`Array::compute`], as an array whose number of axes is known when the program is compiled.
    ///
    /// ```
    /// use chunkwise::Array;
    /// use ndarray::{Array2, Ix2, arr2};
    /// let a: Array2<f64> = Array::from(arr2(&[[1.0, 2.0], [3.0, 4.0]])).t().compute_into::<Ix2>()?;
    /// assert_eq!(a, arr2(&[[1.0, 3.0], [2.0, 4.0]]));
    /// # Ok::<(), chunkwise::Error>(())
    /// ```
    ///
    /// # Errors
    /// As [`Array::compute`]; [`Error::Shape`], before anything runs, if the array has another number of axes.
    pub fn compute_into<D: Dimension>(&self) -> Result<ndarray::Array<T, D>> {
        let wanted =
            |axes: usize| format!("an array of {axes} {}, not {}", if axes == 1 { "axis" } else { "axes" }, self.ndim());
        let shape = |axes| Error::Shape { op: "compute_into", found: self.shape().to_vec(), wanted: wanted(axes) };
        if let Some(axes) = D::NDIM.filter(|&axes| axes != self.ndim()) {
            return Err(shape(axes));
        }
        self.compute()?.into_dimensionality::<D>().map_err(|_| shape(D::NDIM.unwrap_or_default()))
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
}

impl<T> Array<T> {
    /// What computing this array would do, and why: predicted times on each device, placement, memory.
    ///
    /// # Errors
    /// As [`Array::start`].
    pub fn explain(&self) -> Result<Explanation> {
        let session = self.session();
        let mut explanation = Inside::explain(&session, &mut self.plan(&session)?)?;
        explanation.notes.extend(sources(&self.node));
        Ok(explanation)
    }

    /// Computes the array and writes it, chunk by chunk as they are done, to `data.h5:/name` or `data.npy`. The file appears
    /// when it is complete; nothing is left of it otherwise.
    ///
    /// # Errors
    /// As [`Array::compute`] and [`crate::store::create`].
    pub fn store(&self, spec: &str) -> Result<RunReport> {
        self.store_into(&store::create(spec, self.shape(), self.dtype(), None)?)
    }

    /// [`Array::store`], into any sink.
    ///
    /// # Errors
    /// As [`Array::compute`]; [`Error::Shape`] or [`Error::DType`] if the sink was made for another array; what the sink reports.
    pub fn store_into(&self, sink: &Arc<dyn ChunkSink>) -> Result<RunReport> {
        store_parts("store_into", &[self.to_store(sink)])
    }

    /// [`Array::store_into`], which calls `watch` with the tasks done and the tasks in all about ten times a second. Not for use
    /// inside a task, whose worker it would hold.
    ///
    /// # Errors
    /// As [`Array::store_into`].
    pub fn store_watched(&self, sink: &Arc<dyn ChunkSink>, mut watch: impl FnMut(usize, usize)) -> Result<RunReport> {
        let asked = Instant::now();
        let session = self.session();
        let handle = session.submit(plan(&session, &sinks("store_into", &[self.to_store(sink)])?)?, asked)?;
        while !handle.wait_timeout(Duration::from_millis(100)) {
            let (done, total) = handle.progress();
            watch(done, total);
        }
        finish_store(handle, [sink].into_iter(), asked)
    }

    /// What [`Array::store_into`] would do, and why.
    ///
    /// # Errors
    /// As [`Array::store_into`].
    pub fn explain_store(&self, sink: &Arc<dyn ChunkSink>) -> Result<Explanation> {
        explain_stored("store_into", &[self.to_store(sink)])
    }

    fn to_store(&self, sink: &Arc<dyn ChunkSink>) -> ToStore<'_> {
        ToStore { node: self.node.clone(), session: self.session.as_ref(), sink: sink.clone() }
    }

    /// The plan for [`Array::start`], if it fits memory.
    fn plan(&self, session: &Session) -> Result<Plan> {
        plan(session, &[Root { expr: &self.node, to: To::Result }])
    }
}

/// A plan for several roots at once, if it fits memory.
fn plan(session: &Session, roots: &[Root<'_>]) -> Result<Plan> {
    Fit::new(session, roots).plan()
}

/// Computes several arrays in one run: what they have in common is made once, and read once. A tuple of up to eight arrays of any dtypes, or a list
/// of arrays of one: a slice, an array or a `Vec`, by reference.
///
/// ```
/// use chunkwise::{Array, compute_all, prelude::*};
/// let x = Array::from(ndarray::arr1(&[1.0, 2.0, 6.0]));
/// let (mean, sum, all) = compute_all((&x.mean(), &x.sum(), &x))?;
/// assert_eq!((mean[[]], sum[[]], all.len()), (3.0, 9.0, 3));
///
/// let halves: Vec<Array<f64>> = (0..2).map(|i| x.slice(s![i..i + 2]).sum()).collect();
/// assert_eq!(compute_all(&halves)?.iter().map(|sum| sum[[]]).collect::<Vec<_>>(), [3.0, 8.0]);
/// # Ok::<(), chunkwise::Error>(())
/// ```
///
/// # Errors
/// As [`Array::compute`]; [`Error::SessionMismatch`] if two belong to two sessions.
pub fn compute_all<C: Computable>(arrays: C) -> Result<C::Elements> {
    let asked = Instant::now();
    let results = {
        let parts = arrays.parts();
        let session = common_session("compute_all", parts.iter().map(|parts| parts.session))?.unwrap_or_else(Session::global);
        let roots: Vec<Root<'_>> = parts.iter().map(|parts| Root { expr: parts.node, to: To::Result }).collect();
        session.submit(plan(&session, &roots)?, asked)?.wait()?.0
    };
    arrays.take(&mut results.into_iter().flatten())
}

/// Computes several arrays in one run and writes each into its sink, chunk by chunk: what they have in common is made once, and read once. If the sinks share a
/// file (`store::Hdf5::create`), it appears when all are complete.
///
/// # Errors
/// As [`Array::store_into`], for each; [`Error::SessionMismatch`] if two belong to two sessions; [`Error::Argument`] if one sink is given twice.
pub fn store_all(arrays: &[(&dyn AnyArray, &Arc<dyn ChunkSink>)]) -> Result<RunReport> {
    let all = arrays.iter().map(|(array, sink)| {
        let ArrayParts { node, session } = parts(*array);
        ToStore { node: node.clone(), session, sink: Arc::clone(sink) }
    });
    store_parts("store_all", &all.collect::<Vec<_>>())
}

/// An array, and where it is to be stored.
pub(super) struct ToStore<'a> {
    pub(super) node: Expr,
    pub(super) session: Option<&'a Session>,
    pub(super) sink: Arc<dyn ChunkSink>,
}

/// See [`store_all`]; `op` is what errors call it.
pub(super) fn store_parts(op: &'static str, all: &[ToStore<'_>]) -> Result<RunReport> {
    let asked = Instant::now();
    let session = common_session(op, all.iter().map(|stored| stored.session))?.unwrap_or_else(Session::global);
    let handle = session.submit(plan(&session, &sinks(op, all)?)?, asked)?;
    finish_store(handle, all.iter().map(|stored| &stored.sink), asked)
}

/// What [`store_parts`] would do, and why.
pub(super) fn explain_stored(op: &'static str, all: &[ToStore<'_>]) -> Result<Explanation> {
    let session = common_session(op, all.iter().map(|stored| stored.session))?.unwrap_or_else(Session::global);
    let mut explanation = Inside::explain(&session, &mut plan(&session, &sinks(op, all)?)?)?;
    explanation.notes.extend(all.iter().flat_map(|stored| sources(&stored.node)));
    Ok(explanation)
}

/// The roots of a run that stores these, each into a sink of its own.
fn sinks<'a>(op: &'static str, all: &'a [ToStore<'_>]) -> Result<Vec<Root<'a>>> {
    let mut roots = Vec::with_capacity(all.len());
    for (at, ToStore { node, sink, .. }) in all.iter().enumerate() {
        if all[..at].iter().any(|other| std::ptr::eq(other.sink.intake(), sink.intake())) {
            let wanted = "a sink of its own for each array; this one is given twice";
            return Err(Error::argument(format!("sinks of {op}"), sink.name(), wanted));
        }
        check_sink(&node.op, &**sink)?;
        roots.push(Root { expr: node, to: To::Sink(sink) });
    }
    Ok(roots)
}

mod sealed {
    #[allow(unnameable_types)] // the set is closed
    pub trait Sealed {}
}

/// What [`compute_all`] takes.
pub trait Computable: sealed::Sealed {
    /// What comes of it: an `ArrayD` for each array.
    type Elements;
    #[doc(hidden)]
    fn parts(&self) -> Vec<ArrayParts<'_>>;
    #[doc(hidden)]
    fn take(self, results: &mut dyn Iterator<Item = Arc<HostBuffer>>) -> Result<Self::Elements>;
}

macro_rules! lists {
    ($($list:ty $(, $n:ident)?);*) => {$(
        impl<T: Element $(, const $n: usize)?> sealed::Sealed for $list {}
        impl<T: Element $(, const $n: usize)?> Computable for $list {
            type Elements = Vec<ArrayD<T>>;
            fn parts(&self) -> Vec<ArrayParts<'_>> {
                self.iter().map(|array| parts(Borrow::<Array<T>>::borrow(array))).collect()
            }
            fn take(self, results: &mut dyn Iterator<Item = Arc<HostBuffer>>) -> Result<Vec<ArrayD<T>>> {
                self.iter().map(|array| elements(results.next(), Borrow::<Array<T>>::borrow(array).shape())).collect()
            }
        }
    )*};
}
lists!(&[&Array<T>]; &[Array<T>]; &[&Array<T>; N], N; &[Array<T>; N], N; &Vec<&Array<T>>; &Vec<Array<T>>);

macro_rules! tuples {
    ($(($($t:ident $i:tt),*)),*) => {$(
        impl<$($t: Element),*> sealed::Sealed for ($(&Array<$t>,)*) {}
        impl<$($t: Element),*> Computable for ($(&Array<$t>,)*) {
            type Elements = ($(ArrayD<$t>,)*);
            fn parts(&self) -> Vec<ArrayParts<'_>> {
                vec![$(parts(self.$i)),*]
            }
            fn take(self, results: &mut dyn Iterator<Item = Arc<HostBuffer>>) -> Result<Self::Elements> {
                Ok(($(elements(results.next(), self.$i.shape())?,)*))
            }
        }
    )*};
}
tuples!(
    (A 0), (A 0, B 1), (A 0, B 1, C 2), (A 0, B 1, C 2, D 3), (A 0, B 1, C 2, D 3, E 4), (A 0, B 1, C 2, D 3, E 4, F 5),
    (A 0, B 1, C 2, D 3, E 4, F 5, G 6), (A 0, B 1, C 2, D 3, E 4, F 5, G 6, H 7)
);

/// Errs unless the sink takes an array of this shape and dtype: the rest of a larger one would stay unwritten.
fn check_sink(op: &Op, sink: &dyn ChunkSink) -> Result<()> {
    if sink.shape() != op.shape {
        let wanted = format!("{:?}, for which {} was created", sink.shape(), sink.name());
        return Err(Error::Shape { op: "store_into", found: op.shape.clone(), wanted });
    }
    if sink.dtype() != op.dtype {
        let wanted = format!("create the sink for {}", op.dtype);
        return Err(Error::DType { what: sink.name().to_owned(), found: sink.dtype().to_string(), wanted });
    }
    Ok(())
}

fn finish_store<'a>(
    handle: Handle,
    mut sinks: impl Iterator<Item = &'a Arc<dyn ChunkSink>>,
    asked: Instant,
) -> Result<RunReport> {
    let (_, mut report) = handle.wait()?;
    sinks.try_for_each(|sink| sink.finish())?;
    report.total_s = asked.elapsed().as_secs_f64();
    Ok(report)
}

/// How the files that an array depends on will be read.
fn sources(expr: &Expr) -> Vec<String> {
    expr.all().into_iter().filter_map(|node| node.op.stored()).map(|s| format!("{}: {}", s.name(), s.access())).collect()
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
        Ok((elements(results.into_iter().flatten().next(), &self.shape)?, report))
    }
}

/// The elements of a result of this shape.
pub(super) fn elements<T: Element>(result: Option<Arc<HostBuffer>>, shape: &[usize]) -> Result<ArrayD<T>> {
    let len: usize = shape.iter().product();
    let Some(taken) = result.and_then(take_result::<T>) else {
        let message = "it has another dtype than the array (a bug of chunkwise: please report it)".into();
        return Err(Error::Failed { what: "handing out the result".into(), message });
    };
    let flat = ndarray::Array1::from_vec(taken.vec).slice_move(s![taken.start..taken.start + len]);
    let shaped = flat.into_shape_with_order(IxDyn(shape));
    shaped.map_err(|e| Error::Failed { what: "handing out the result".into(), message: e.to_string() })
}
