//! Arrays into files and out of them, by builders.
//!
//! Owns: what `Hdf5::create(path)?.put(..)` and `Npy::create(path).put(..)` give; `dataset`, `array`. Must not know: formats. Invariant: what cannot be stored is
//! refused before anything runs, and a file appears when all of it is there.

#[cfg(feature = "hdf5")]
mod hdf5;

#[cfg(feature = "hdf5")]
pub use hdf5::HdfPut;

use super::DynArray;
use super::compute::{ToStore, explain_stored, store_parts};
use super::ops::{AnyArray, parts};
use crate::error::Result;
use crate::runtime::RunReport;
use crate::schedule::Explanation;
use crate::store::{Npy, NpyWriter};

impl Npy {
    /// The array that the file holds, of the dtype that it has there.
    ///
    /// ```
    /// use chunkwise::{Array, prelude::*, store::Npy};
    /// # let folder = tempfile::tempdir().unwrap();
    /// # let path = folder.path().join("a.npy");
    /// Npy::create(&path).put(&Array::from(vec![1, 2, 3])).run()?;
    /// assert_eq!(Npy::open(&path)?.array()?.as_::<i32>()?.sum().compute_scalar()?, 6);
    /// # Ok::<(), chunkwise::Error>(())
    /// ```
    ///
    /// # Errors
    /// As [`crate::store::open`].
    pub fn array(&self) -> Result<DynArray> {
        DynArray::from_dyn_source(self.source()?)
    }
}

impl NpyWriter {
    /// Puts an array into the file: [`NpyPut::run`] computes and writes it.
    pub fn put(self, array: &dyn AnyArray) -> NpyPut<'_> {
        NpyPut { file: self, array }
    }
}

/// An array that is to be put into a `.npy` file: see [`NpyWriter::put`].
#[must_use = "nothing is written before `run`"]
pub struct NpyPut<'a> {
    file: NpyWriter,
    array: &'a dyn AnyArray,
}

impl NpyPut<'_> {
    /// Computes the array and writes it chunk by chunk, in C order; the file has its name when it is complete.
    ///
    /// # Errors
    /// As [`crate::Array::store`].
    pub fn run(self) -> Result<RunReport> {
        store_parts("put", &[self.to_store()?])
    }

    /// What [`NpyPut::run`] would do, and why. No file is left.
    ///
    /// # Errors
    /// As [`NpyPut::run`].
    pub fn explain(self) -> Result<Explanation> {
        explain_stored("put", &[self.to_store()?])
    }

    fn to_store(&self) -> Result<ToStore<'_>> {
        let sink = self.file.sink(self.array.shape(), self.array.dtype())?;
        let parts = parts(self.array);
        Ok(ToStore { node: parts.node.clone(), session: parts.session, sink })
    }
}
