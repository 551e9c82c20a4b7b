//! A graph with what it works on, and what its tasks take.
//!
//! Owns: [`Plan`]. Must not know: placement. Invariant: there are bytes for each caller's array of the graph, and for no result; its kernels were asked
//! when it was made, and its prices are of one session.

use std::sync::{Arc, Weak};

use super::driver::Inner;
use super::prices::Prices;
use crate::device::HostBuffer;
use crate::error::{Error, Result};
use crate::kernel::Kernel;
use crate::task::{GraphBuilder, HostArray, SealedGraph, TaskGraph};

/// A sealed graph, its kernels, the caller's arrays that it reads, and what its tasks take on the devices of a session.
pub struct Plan {
    /// The tasks.
    pub(crate) graph: Arc<TaskGraph>,
    /// Its kernels, by id.
    pub(super) kernels: Arc<[Arc<dyn Kernel>]>,
    /// By array id: the caller's bytes; `None` for results.
    pub(super) arrays: Vec<Option<Arc<HostBuffer>>>,
    /// What its tasks take, and in which session.
    pub(super) prices: (Weak<Inner>, Prices),
}

impl Plan {
    /// Seals a graph; `arrays` has one entry per host array.
    ///
    /// # Errors
    /// [`Error::Argument`] if the entries do not match the graph's arrays, and as [`GraphBuilder::seal`].
    pub fn new(graph: GraphBuilder, arrays: Vec<Option<Arc<HostBuffer>>>) -> Result<Self> {
        let one = |spec: &HostArray, bytes: &Option<Arc<HostBuffer>>| match bytes {
            None => spec.result,
            Some(b) => !spec.result && b.dtype().is_none_or(|d| d == spec.dtype) && b.bytes() as u64 >= spec.bytes(),
        };
        if graph.arrays().len() != arrays.len() || !graph.arrays().iter().zip(&arrays).all(|(spec, bytes)| one(spec, bytes)) {
            let wanted = "for each array of the graph: the caller's elements, of its dtype and as many, or None for a result";
            return Err(Error::argument("a plan's arrays", format!("{} entries", arrays.len()), wanted));
        }
        let sealed = graph.seal(&|array| arrays[array.index()].clone())?;
        Ok(Self::of(sealed, arrays))
    }

    /// A plan that is only looked at: the caller's arrays are not there.
    pub(crate) fn without_bytes(graph: GraphBuilder) -> Result<Self> {
        Ok(Self::of(graph.seal(&|_| None)?, Vec::new()))
    }

    fn of(SealedGraph { graph, kernels }: SealedGraph, arrays: Vec<Option<Arc<HostBuffer>>>) -> Self {
        Self { graph: Arc::new(graph), kernels: kernels.into(), arrays, prices: (Weak::new(), Prices::default()) }
    }

    /// The tasks.
    #[must_use]
    pub fn graph(&self) -> &Arc<TaskGraph> {
        &self.graph
    }

    /// Prices the tasks on those of a session's devices on which they have none yet.
    pub(super) fn price(&mut self, inner: &Arc<Inner>) -> &Prices {
        let (of, prices) = &mut self.prices;
        if !std::ptr::eq(of.as_ptr(), Arc::as_ptr(inner)) {
            (*of, *prices) = (Arc::downgrade(inner), Prices::default());
        }
        for (at, member) in inner.members.all().iter().enumerate().skip(prices.len()) {
            prices.add(Prices::column(&self.graph, &self.kernels, (at, member), inner));
        }
        prices
    }

    /// What was measured since may say something else.
    pub(super) fn forget_prices(&mut self) {
        self.prices.0 = Weak::new();
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::shape::DType;

    #[test]
    fn a_plans_arrays_are_those_of_its_graph() {
        let plan = |arrays: Vec<Option<Arc<HostBuffer>>>| {
            let mut graph = GraphBuilder::new();
            graph.array(DType::Bool, 4, false);
            graph.array(DType::F64, 4, true);
            Plan::new(graph, arrays)
        };
        let (bools, bytes) = (HostBuffer::caller(&Arc::new([true; 4])), HostBuffer::caller(&Arc::new([7u8; 4])));
        let few = HostBuffer::caller(&Arc::new([true; 3]));
        assert!(plan(vec![Some(bools.clone()), None]).is_ok());
        let own = HostBuffer::caller(&Arc::new([1.0f64; 4]));
        for wrong in [vec![Some(bytes), None], vec![Some(few), None], vec![None, None], vec![Some(bools), Some(own)], vec![]] {
            let error = plan(wrong).err().expect("refused").to_string();
            assert!(error.contains("arrays"), "{error}");
        }
    }
}
