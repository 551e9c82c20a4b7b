//! Lays a dataset out in an HDF5 file that is being written, so that its bytes can be written by position.
//!
//! Owns: [`lay_out`], [`allocate`], what HDF5 can store. Must not know: writing. Invariant: when they return, libhdf5 has closed the file, and every
//! byte of the dataset has its address.
//!
//! A dataset that replaces another one gets its attributes, but not its fill value or its place in the order of creation; references and
//! further hard links to the old one do not follow.

use hdf5::plist::dataset_create::AttrCreationOrder;
use hdf5::plist::dataset_create::{AllocTime, FillTime};
use hdf5::{IndexType, IterationOrder, LocationToken};

use super::about::contiguous;
use super::existing::Wanted;
use super::raw::{SavedAttribute, write_zero};
use super::types::datatype;
use crate::error::{Error, Result};
use crate::shape::ChunkGrid;
use crate::store::direct::StoredAt;
use crate::store::table::ChunkTable;
use crate::store::whole::WholeFile;

/// HDF5 knows no more axes.
const RANK_LIMIT: usize = 32;
/// libhdf5 cannot store chunks of more.
const CHUNK_LIMIT_BYTES: usize = u32::MAX as usize;

impl Wanted<'_> {
    /// Errs unless HDF5 can store it.
    pub(super) fn check(&self) -> Result<()> {
        let shape = self.shape;
        if shape.len() > RANK_LIMIT {
            let wanted = format!("at most {RANK_LIMIT} axes in HDF5, not {}; reshape it, or write .npy", shape.len());
            return Err(Error::Shape { op: "create", found: shape.to_vec(), wanted });
        }
        let Some(chunk) = self.chunks.as_deref() else { return Ok(()) };
        let bytes = chunk.iter().fold(self.dtype.bytes(), |b, &n| b.saturating_mul(n));
        let fits = chunk.len() == shape.len() && !chunk.contains(&0) && bytes <= CHUNK_LIMIT_BYTES;
        // libhdf5 refuses chunks larger than an axis that cannot grow.
        if fits && chunk.iter().zip(shape).all(|(&c, &n)| c <= n.max(1)) {
            return Ok(());
        }
        let wanted = format!("storage chunks of rank {}, within {shape:?}, of less than 4 GiB each", shape.len());
        Err(Error::Shape { op: "create", found: chunk.to_vec(), wanted })
    }

    /// Bytes that it takes in a file, with what fills the chunks at its edges up.
    pub(super) fn bytes(&self) -> u64 {
        if self.deflate.is_some() {
            return 0; // nobody knows
        }
        let along = |(axis, &n): (usize, &usize)| match &self.chunks {
            Some(chunks) => n.div_ceil(chunks[axis]).saturating_mul(chunks[axis]),
            None => n,
        };
        let all = self.shape.iter().enumerate().map(along);
        all.fold(self.dtype.bytes() as u64, |bytes, n| bytes.saturating_mul(n as u64))
    }
}

/// How the temporary file is opened.
pub(super) enum Temporary {
    /// It is empty: the first dataset makes it an HDF5 file.
    New,
    /// A copy, or one that has other new datasets.
    Begun,
}

/// Makes a dataset, which may replace what is there, and says where it lies and which object it is.
pub(super) fn lay_out(
    (file, opened): (&WholeFile, Temporary),
    (at, replaces): (&str, bool),
    wanted: &Wanted<'_>,
) -> hdf5::Result<(StoredAt, LocationToken)> {
    let file = open_temporary(file, opened)?;
    let (attributes, order) = if replaces { take_out(&file, at)? } else { Default::default() };
    let (shape, dtype, chunks) = (wanted.shape, wanted.dtype, wanted.chunks.as_deref());
    let mut builder = file.new_dataset_builder().with_lcpl(|list| list.create_intermediate_group(true));
    builder = builder.with_dcpl(|list| list.attr_creation_order(order));
    builder = builder.alloc_time(Some(AllocTime::Early)).fill_time(FillTime::Never);
    builder = match chunks {
        Some(chunk) => builder.chunk(chunk.to_vec()),
        None => builder.no_chunk(),
    };
    if let Some((level, shuffles)) = wanted.deflate {
        builder = builder.alloc_time(Some(AllocTime::Incr)).fill_time(FillTime::IfSet);
        builder = if shuffles { builder.shuffle().deflate(level) } else { builder.deflate(level) };
    }
    let made = builder.empty_as(datatype(dtype)?).shape(shape.to_vec()).create(at)?;
    attributes.iter().try_for_each(|attribute| attribute.write(&made))?;
    file.flush()?;
    let place = if wanted.deflate.is_some() { StoredAt::Absent } else { place_of(&made, shape, chunks)? };
    let token = made.loc_info()?.token;
    drop((made, attributes));
    file.close()?;
    Ok((place, token))
}

pub(super) fn open_temporary(file: &WholeFile, opened: Temporary) -> hdf5::Result<hdf5::File> {
    hdf5::silence_errors(true);
    let mut options = hdf5::File::with_options();
    options.with_fapl(|list| list.file_locking(false));
    match opened {
        Temporary::New => options.create(file.temporary()),
        Temporary::Begun => options.open_rw(file.temporary()),
    }
}

/// Where a dataset lies; absent unless all of it has a place.
fn place_of(made: &hdf5::Dataset, shape: &[usize], chunks: Option<&[usize]>) -> hdf5::Result<StoredAt> {
    let Some(chunk) = chunks else { return Ok(contiguous(made)) };
    let (table, visited) = ChunkTable::new(shape, chunk, |add| {
        made.chunks_visit(|info| {
            add(info.offset, info.addr);
            0
        })
    });
    visited?;
    Ok(if table.is_complete() { StoredAt::Chunked(table) } else { StoredAt::Absent })
}

/// Gives every element of a dataset that is there a place.
pub(super) fn allocate(file: &WholeFile, at: &str, wanted: &Wanted<'_>, chunks: Option<&[usize]>) -> hdf5::Result<StoredAt> {
    let file = open_temporary(file, Temporary::Begun)?;
    let found = file.dataset(at)?;
    let grid = ChunkGrid::regular(wanted.shape, chunks.unwrap_or(wanted.shape)).map_err(|e| e.to_string())?;
    (0..grid.len()).try_for_each(|chunk| write_zero(&found, &grid.region(chunk).start(), wanted.dtype))?;
    file.flush()?;
    let place = place_of(&found, wanted.shape, chunks)?;
    drop(found);
    file.close()?;
    Ok(place)
}

/// Removes the dataset at `at`, so that its place in the file can be used again, and gives its attributes.
fn take_out(file: &hdf5::File, at: &str) -> hdf5::Result<(Vec<SavedAttribute>, AttrCreationOrder)> {
    let old = file.dataset(at)?;
    let order = old.dcpl()?.get_attr_creation_order()?;
    let index = if order == AttrCreationOrder::Untracked { IndexType::Name } else { IndexType::CreationOrder };
    let names = old.attr_names_by(index, IterationOrder::Increasing)?;
    let read = |name: String| SavedAttribute::read(&old.attr(&name)?, name);
    let attributes = names.into_iter().map(read).collect::<hdf5::Result<Vec<_>>>()?;
    drop(old);
    file.unlink(at)?;
    Ok((attributes, order))
}
