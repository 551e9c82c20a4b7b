//! Where chunks go when they are kept: the trait that file formats implement, and what every sink refuses.
//!
//! Owns: [`ChunkSink`], [`Intake`]. Must not know: any format. Invariant: what reaches [`ChunkSink::put`] fits (inside the array, of its dtype,
//! as long as its region), and [`ChunkSink::commit`] comes only once every element was put.

use std::collections::HashMap;
use std::fmt::Write;
use std::hash::{DefaultHasher, Hash, Hasher};
use std::sync::{Mutex, MutexGuard, PoisonError};

use super::cover::Cover;
use super::scan::pieces;
use crate::error::{Error, Result};
use crate::kernel::Held;
use crate::shape::{ChunkView, ChunkViewMut, DType, Element, Layout, Region, checked_len, with_dtype};

/// Bytes copied at once of a chunk whose rows are no slices.
const GATHERED_BYTES: usize = 1 << 19;

/// An array that is written piece by piece.
///
/// An implementation says what it takes ([`ChunkSink::intake`]) and keeps it ([`ChunkSink::put`], [`ChunkSink::commit`]). Whoever
/// writes calls [`write`](trait.ChunkSink.html#method.write) and [`finish`](trait.ChunkSink.html#method.finish) of `dyn ChunkSink`,
/// which refuse what does not fit and what is not there in full, for every sink alike.
///
/// ```
/// use chunkwise::{Array, prelude::*};
/// use chunkwise::ext::{ChunkSink, ChunkView, Intake, Region};
/// use chunkwise::DType;
/// use std::sync::{Arc, Mutex};
///
/// /// Keeps the largest element.
/// struct Largest(Intake, Mutex<f64>);
///
/// impl ChunkSink for Largest {
///     fn intake(&self) -> &Intake {
///         &self.0
///     }
///     fn put(&self, _: &Region, chunk: ChunkView<'_>) -> chunkwise::Result<()> {
///         let mut largest = self.1.lock().unwrap();
///         *largest = chunk.rows::<f64>().flatten().copied().fold(*largest, f64::max); // rows are slices, whole chunks need not be
///         Ok(())
///     }
///     fn commit(&self) -> chunkwise::Result<()> {
///         Ok(())
///     }
/// }
///
/// let largest = Arc::new(Largest(Intake::new("the largest", &[3], DType::F64)?, Mutex::new(0.0)));
/// let sink: Arc<dyn ChunkSink> = largest.clone();
/// Array::from(ndarray::arr1(&[1.0, 7.0, 3.0])).store_into(&sink)?;
/// assert_eq!(*largest.1.lock().unwrap(), 7.0);
/// # Ok::<(), chunkwise::Error>(())
/// ```
pub trait ChunkSink: Send + Sync + 'static {
    /// What it takes, and how much of it it has. Of a sink that hands on to another one, this is the other's.
    fn intake(&self) -> &Intake;

    /// Memory that keeping takes beside the chunks, whatever regions come and from how many threads of the I/O lane: chunks that are packed. Counted once in each run that
    /// writes to the sink.
    fn held(&self) -> Option<Held> {
        None
    }

    /// Whether it wants each region in one piece, however its elements lie: it copies them itself. Else a chunk whose rows are no slices comes in pieces.
    fn gathers(&self) -> bool {
        false
    }

    /// Keeps one region. Regions come in any order, from any thread, each once; after a fault one may come again, with the same elements.
    ///
    /// Called by [`write`](trait.ChunkSink.html#method.write), which has checked that `region` is inside the array, and that `chunk`
    /// has its shape and the array's dtype. Its rows (along the last axis) are slices: of a chunk that lies otherwise, parts come, each copied.
    ///
    /// # Errors
    /// [`crate::Error::Io`] when the system refuses.
    fn put(&self, region: &Region, chunk: ChunkView<'_>) -> Result<()>;

    /// Makes the whole durable under its final name. A sink dropped without it leaves nothing behind.
    ///
    /// Called by [`finish`](trait.ChunkSink.html#method.finish), which has checked that every element was put. A second call does nothing.
    /// A `put` of a region that was put before may run still, of a task that took too long and was run again.
    ///
    /// # Errors
    /// [`crate::Error::Io`] when the system refuses; nothing is left under the final name then but what was there.
    fn commit(&self) -> Result<()>;
}

impl dyn ChunkSink {
    /// Shape of the array that it takes.
    #[must_use]
    pub fn shape(&self) -> &[usize] {
        self.intake().shape()
    }

    /// Dtype of the elements that it takes.
    #[must_use]
    pub fn dtype(&self) -> DType {
        self.intake().dtype()
    }

    /// Who it is, for messages and traces: `data.h5:/A`.
    #[must_use]
    pub fn name(&self) -> &str {
        self.intake().name()
    }

    /// Writes one region: any order, any thread, each element once. The same region may come again, with the same elements.
    ///
    /// # Errors
    /// [`Error::Shape`] if `region` is not inside the array, or `chunk` not as large as `region`; [`Error::DType`] for elements of another dtype;
    /// [`Error::Argument`] if some of `region` was written as part of another one; [`Error::Failed`] if the sink is
    /// complete, which [`finish`](trait.ChunkSink.html#method.finish) makes it; what the sink itself reports. Nothing is written then.
    pub fn write(&self, region: &Region, chunk: ChunkView<'_>) -> Result<()> {
        self.intake().check(region, &chunk)?;
        if region.is_empty() {
            // There is nothing to keep.
        } else if chunk.has_row_slices() || self.gathers() {
            self.put(region, chunk)?;
        } else {
            self.put_gathered(region, chunk)?;
        }
        self.intake().note(region)
    }

    /// Puts a chunk whose rows are no slices: piece by piece, each copied.
    fn put_gathered(&self, region: &Region, chunk: ChunkView<'_>) -> Result<()> {
        fn put<T: Element>(sink: &dyn ChunkSink, region: &Region, chunk: ChunkView<'_>) -> Result<()> {
            let mut room = vec![T::default(); region.len().min(GATHERED_BYTES / size_of::<T>())];
            pieces(&Region::all(&region.shape()), room.len(), &mut |start, piece| {
                let (shape, dtype) = (piece.shape(), chunk.layout().dtype);
                let there = Layout { dtype, shape: shape.clone(), strides: chunk.layout().strides.clone() };
                let here = Layout::contiguous(dtype, &shape);
                ChunkViewMut::from_slice(&mut room, &here).copy_from(chunk.part(start, &there));
                sink.put(&region.part(piece), ChunkView::from_slice(&room, &here))
            })
        }
        with_dtype!(chunk.layout().dtype, T => put::<T>(self, region, chunk))
    }

    /// Makes the whole durable under its final name. A second call does nothing.
    ///
    /// # Errors
    /// [`Error::Unwritten`] if there are elements that were never written: then nothing is done, and what is missing may still be written.
    /// [`Error::Failed`] if some were written twice, as part of two regions, and as many never.
    /// What the sink itself reports; nothing is left under the final name then but what was there.
    pub fn finish(&self) -> Result<()> {
        self.intake().check_complete()?;
        self.commit()?;
        self.intake().taken().finished = true;
        Ok(())
    }
}

/// What a sink takes, and how much of it it has: every sink has one.
///
/// It takes some 30 bytes for each region that was written.
pub struct Intake {
    name: String,
    shape: Vec<usize>,
    dtype: DType,
    elements: u64,
    taken: Mutex<Taken>,
}

/// What has been written.
#[derive(Default)]
struct Taken {
    /// Of each region the number of its first element in C order, which no two regions without an element in common share, and a hash of its
    /// extents and steps. So that a region that comes again after a fault does not count twice.
    regions: HashMap<u64, u64>,
    elements: u64,
    cover: Cover,
    finished: bool,
}

impl Intake {
    /// Of an array of this shape and dtype; `name` is for messages and traces: `data.h5:/A`.
    ///
    /// # Errors
    /// [`Error::Shape`] if there are more elements than an array can have.
    pub fn new(name: impl Into<String>, shape: &[usize], dtype: DType) -> Result<Self> {
        let elements = checked_len("create", shape)? as u64;
        Ok(Self { name: name.into(), shape: shape.to_vec(), dtype, elements, taken: Mutex::default() })
    }

    /// Shape of the array.
    #[must_use]
    pub fn shape(&self) -> &[usize] {
        &self.shape
    }

    /// Dtype of its elements.
    #[must_use]
    pub fn dtype(&self) -> DType {
        self.dtype
    }

    /// Who it is.
    #[must_use]
    pub fn name(&self) -> &str {
        &self.name
    }

    /// Elements that were never written.
    #[must_use]
    pub fn missing(&self) -> u64 {
        self.elements - self.taken().elements
    }

    /// Errs unless each element was written, once.
    pub(crate) fn check_complete(&self) -> Result<()> {
        let missing = self.missing();
        if missing > 0 {
            return Err(Error::Unwritten { what: self.name.clone(), missing, elements: self.elements });
        }
        if self.elements == 0 || self.taken().cover.is_whole(&self.shape) {
            return Ok(());
        }
        let message = "some elements were written twice, as part of two regions, and as many never; write each once".into();
        Err(Error::Failed { what: format!("finishing {}", self.name), message })
    }

    fn taken(&self) -> MutexGuard<'_, Taken> {
        self.taken.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Errs unless `chunk` can be written to `region`.
    fn check(&self, region: &Region, chunk: &ChunkView<'_>) -> Result<()> {
        let Self { name, shape, dtype, .. } = self;
        if !region.is_within(shape) {
            let wanted = format!("a region inside {shape:?}, which {name} was created with, not {}", ranges(region));
            return Err(Error::Shape { op: "write", found: region.shape(), wanted });
        }
        if chunk.shape() != region.shape() {
            let wanted = format!("{:?}, as the region {} of {name} has", region.shape(), ranges(region));
            return Err(Error::Shape { op: "write", found: chunk.shape().to_vec(), wanted });
        }
        if chunk.layout().dtype != *dtype {
            let wanted = format!("convert it to {dtype}, which {name} was created with");
            return Err(Error::DType { what: format!("a chunk for {name}"), found: chunk.layout().dtype.to_string(), wanted });
        }
        let taken = self.taken();
        if taken.finished {
            let message = "it is complete; nothing more is written to it".into();
            return Err(Error::Failed { what: format!("writing to {name}"), message });
        }
        self.new_elements(&taken, region).map(drop)
    }

    /// Notes that `region` was written.
    fn note(&self, region: &Region) -> Result<()> {
        let mut taken = self.taken();
        let elements = self.new_elements(&taken, region)?;
        if elements > 0 {
            taken.elements += elements;
            taken.cover.add(region);
            taken.regions.insert(self.first(region), hash(region));
        }
        Ok(())
    }

    /// How many elements `region` adds to those taken: none if the same region was taken before.
    ///
    /// Errs if it is seen to have some in common with another one: where both begin at one element, or all would be more than the array has.
    /// The others are seen in the end.
    fn new_elements(&self, taken: &Taken, region: &Region) -> Result<u64> {
        let elements = region.len() as u64;
        match taken.regions.get(&self.first(region)) {
            _ if elements == 0 => Ok(0),
            Some(&extents) if extents == hash(region) => Ok(0),
            None if taken.elements + elements <= self.elements => Ok(elements),
            _ => Err(Error::argument(
                format!("a region of {}", self.name),
                ranges(region),
                "write each element once; some of these were written as part of another region",
            )),
        }
    }

    /// The number of the first element of a region that is inside the array.
    fn first(&self, region: &Region) -> u64 {
        // Wrapping: an array without elements may have long axes.
        let along = region.axes().iter().zip(&self.shape);
        along.fold(0, |number: u64, (axis, &n)| number.wrapping_mul(n as u64).wrapping_add(axis.start as u64))
    }
}

fn hash(region: &Region) -> u64 {
    let mut hasher = DefaultHasher::new();
    region.axes().iter().for_each(|axis| (axis.len, axis.step).hash(&mut hasher));
    hasher.finish()
}

/// `[0..3, 4..9 by 2]`.
fn ranges(region: &Region) -> String {
    let mut text = String::from("[");
    for (i, axis) in region.axes().iter().enumerate() {
        let end =
            axis.start.saturating_add(axis.len.saturating_sub(1).saturating_mul(axis.step)).saturating_add(axis.len.min(1));
        let step = if axis.step == 1 { String::new() } else { format!(" by {}", axis.step) };
        let comma = if i == 0 { "" } else { ", " };
        let _ = write!(text, "{comma}{}..{end}{step}", axis.start); // a string takes all
    }
    text + "]"
}
