//! Creates a dataset in an HDF5 file, laid out in advance so that its bytes can be written by position.
//!
//! Owns: [`create`]. Must not know: writing. Invariant: when it returns, libhdf5 has closed the file, and every byte of the
//! dataset has its address.
//!
//! A file that is there is copied beside itself, and the copy takes its name in the end. If the dataset is there with the
//! same extent, element type and storage, its bytes are replaced in the copy (those that it never had are allocated first), and all else
//! stays as it was. Otherwise libhdf5 makes it in the copy; a dataset that it replaces leaves it its attributes, but not its fill value or its place in the order
//! of creation, and references and further hard links to the old one do not follow.

use std::path::Path;
use std::sync::Arc;

use hdf5::plist::dataset_create::AttrCreationOrder;
use hdf5::plist::dataset_create::{AllocTime, FillTime};
use hdf5::types::{FloatSize, IntSize, TypeDescriptor};
use hdf5::{IndexType, IterationOrder};

use super::about::contiguous;
use super::existing::{Change, Existing, Wanted};
use super::failed;
use super::raw::{SavedAttribute, write_zero};
use crate::error::{Error, Result};
use crate::shape::{ChunkGrid, DType, checked_len};
use crate::store::direct::Place;
use crate::store::raw_source::RawSink;
use crate::store::table::ChunkTable;
use crate::store::whole::WholeFile;
use crate::task::{ChunkSink, Intake};

/// HDF5 knows no more axes.
const RANK_LIMIT: usize = 32;
/// libhdf5 cannot store chunks of more.
const CHUNK_LIMIT_BYTES: usize = u32::MAX as usize;

/// Creates `dataset` in the file `path`, which appears when the sink is finished.
pub(in crate::store) fn create(
    path: &Path,
    dataset: &str,
    (shape, dtype): (&[usize], DType),
    chunks: Option<&[usize]>,
) -> Result<Arc<dyn ChunkSink>> {
    let elements = checked_len("create", shape)?;
    if shape.len() > RANK_LIMIT {
        let wanted = format!("at most {RANK_LIMIT} axes in HDF5, not {}; reshape it, or write .npy", shape.len());
        return Err(Error::Shape { op: "create", found: shape.to_vec(), wanted });
    }
    let chunks = chunks.filter(|_| !shape.is_empty()); // a scalar has no chunks
    if let Some(chunk) = chunks {
        check_chunks(shape, dtype, chunk)?;
    }
    let padded = chunks.map_or(elements, |chunk| {
        shape.iter().zip(chunk).map(|(n, c)| n.div_ceil(*c).saturating_mul(*c)).fold(1, usize::saturating_mul)
    });
    let bytes = (padded as u64).saturating_mul(dtype.bytes() as u64);
    let wanted = Wanted { shape, dtype, chunks };
    let existing = Existing::look(path, dataset, &wanted)?;
    let old_bytes = existing.as_ref().map_or(0, |e| e.file.bytes());
    let new_bytes = if matches!(&existing, Some(Existing { change: Change::Bytes(..), .. })) { 0 } else { bytes };
    let file = WholeFile::create(path, old_bytes.saturating_add(new_bytes).saturating_add(4096))?;
    let (place, base) = match existing {
        None => (lay_out(&file, dataset, &wanted, None), None),
        Some(existing) => {
            existing.copy_to(&file)?;
            let place = match existing.change {
                Change::Bytes(place, _) => Ok(place),
                Change::Allocate { at, chunk } => allocate(&file, &at, &wanted, chunk.as_deref()),
                Change::Dataset { at, replaces } => lay_out(&file, &at, &wanted, Some(replaces)),
            };
            (place, Some(existing.file))
        }
    };
    let file = file.changes(base);
    let place = place.map_err(|e| failed(path, &format!("cannot create {dataset}"), &e))?;
    if matches!(place, Place::Absent) && elements > 0 {
        return Err(Error::file(path, format!("cannot create {dataset}: libhdf5 gave its elements no address")));
    }
    Ok(Arc::new(RawSink { intake: Intake::new(format!("{}:{dataset}", path.display()), shape, dtype)?, file, place }))
}

fn check_chunks(shape: &[usize], dtype: DType, chunk: &[usize]) -> Result<()> {
    let bytes = chunk.iter().fold(dtype.bytes(), |b, &n| b.saturating_mul(n));
    let fits = chunk.len() == shape.len() && !chunk.contains(&0) && bytes <= CHUNK_LIMIT_BYTES;
    // libhdf5 refuses chunks larger than an axis that cannot grow.
    if fits && chunk.iter().zip(shape).all(|(&c, &n)| c <= n.max(1)) {
        return Ok(());
    }
    let wanted = format!("storage chunks of rank {}, within {shape:?}, of less than 4 GiB each", shape.len());
    Err(Error::Shape { op: "create", found: chunk.to_vec(), wanted })
}

/// Makes the dataset in the temporary file, which is empty, or a copy (`Some`) in which it may replace what is there (`true`).
fn lay_out(file: &WholeFile, at: &str, wanted: &Wanted<'_>, copy: Option<bool>) -> hdf5::Result<Place> {
    let file = open_temporary(file, copy.is_some())?;
    let (attributes, order) = if copy == Some(true) { take_out(&file, at)? } else { Default::default() };
    let Wanted { shape, dtype, chunks } = *wanted;
    let mut builder = file.new_dataset_builder().with_lcpl(|list| list.create_intermediate_group(true));
    builder = builder.with_dcpl(|list| list.attr_creation_order(order));
    builder = builder.alloc_time(Some(AllocTime::Early)).fill_time(FillTime::Never);
    builder = match chunks {
        Some(chunk) => builder.chunk(chunk.to_vec()),
        None => builder.no_chunk(),
    };
    let made = builder.empty_as(descriptor(dtype)).shape(shape.to_vec()).create(at)?;
    attributes.iter().try_for_each(|attribute| attribute.write(&made))?;
    file.flush()?;
    let place = place_of(&made, shape, chunks)?;
    drop((made, attributes));
    file.close()?;
    Ok(place)
}

fn open_temporary(file: &WholeFile, is_copy: bool) -> hdf5::Result<hdf5::File> {
    hdf5::silence_errors(true);
    let mut options = hdf5::File::with_options();
    options.with_fapl(|list| list.file_locking(false));
    if is_copy { options.open_rw(file.temporary()) } else { options.create(file.temporary()) }
}

/// Where a dataset lies; absent unless all of it has a place.
fn place_of(made: &hdf5::Dataset, shape: &[usize], chunks: Option<&[usize]>) -> hdf5::Result<Place> {
    let Some(chunk) = chunks else { return Ok(contiguous(made)) };
    let (table, visited) = ChunkTable::new(shape, chunk, |add| {
        made.chunks_visit(|info| {
            add(info.offset, info.addr);
            0
        })
    });
    visited?;
    Ok(if table.is_complete() { Place::Chunked(table) } else { Place::Absent })
}

/// Gives every element of a dataset in the copy a place.
fn allocate(file: &WholeFile, at: &str, wanted: &Wanted<'_>, chunks: Option<&[usize]>) -> hdf5::Result<Place> {
    let file = open_temporary(file, true)?;
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

fn descriptor(dtype: DType) -> TypeDescriptor {
    match dtype {
        DType::Bool => TypeDescriptor::Boolean,
        DType::U8 => TypeDescriptor::Unsigned(IntSize::U1),
        DType::I32 => TypeDescriptor::Integer(IntSize::U4),
        DType::U32 => TypeDescriptor::Unsigned(IntSize::U4),
        DType::I64 => TypeDescriptor::Integer(IntSize::U8),
        DType::U64 => TypeDescriptor::Unsigned(IntSize::U8),
        DType::F32 => TypeDescriptor::Float(FloatSize::U4),
        DType::F64 => TypeDescriptor::Float(FloatSize::U8),
    }
}
