//! Creates an HDF5 file with one dataset, laid out in advance so that its bytes can be written by position.
//!
//! Owns: [`create`]. Must not know: writing. Invariant: when it returns, libhdf5 has closed the file, and every byte of the
//! dataset has its address.

use std::path::Path;
use std::sync::Arc;

use hdf5::plist::dataset_create::{AllocTime, FillTime};
use hdf5::types::{FloatSize, IntSize, TypeDescriptor};

use super::{datasets, failed, open_file};
use crate::error::{Error, Result};
use crate::shape::{DType, checked_len};
use crate::store::direct::Place;
use crate::store::raw_source::RawSink;
use crate::store::table::ChunkTable;
use crate::store::whole::WholeFile;
use crate::task::ChunkSink;

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
    let chunks = chunks.filter(|_| !shape.is_empty()); // a scalar has no chunks
    if let Some(chunk) = chunks {
        check_chunks(shape, dtype, chunk)?;
    }
    let padded = chunks.map_or(elements, |chunk| {
        shape.iter().zip(chunk).map(|(n, c)| n.div_ceil(*c).saturating_mul(*c)).fold(1, usize::saturating_mul)
    });
    let bytes = (padded as u64).saturating_mul(dtype.bytes() as u64);
    refuse_loss(path, dataset)?;
    let file = WholeFile::create(path, bytes.saturating_add(4096))?;
    let place = lay_out(file.temporary(), dataset, (shape, dtype), chunks)
        .map_err(|e| failed(path, &format!("cannot create {dataset}"), &e))?;
    if matches!(place, Place::Absent) && elements > 0 {
        return Err(Error::file(path, format!("cannot create {dataset}: libhdf5 gave its elements no address")));
    }
    Ok(Arc::new(RawSink { name: format!("{}:{dataset}", path.display()), file, shape: shape.to_vec(), dtype, place }))
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

/// The file is replaced as a whole, so it may hold nothing but this dataset.
fn refuse_loss(path: &Path, dataset: &str) -> Result<()> {
    if !path.is_file() {
        return Ok(());
    }
    let file = open_file(path, None).map_err(|_| {
        Error::file(path, "exists and cannot be read as HDF5, so it is not overwritten; remove it or write to another file")
    })?;
    let others: Vec<String> = datasets(&file, 9).into_iter().filter(|name| name != dataset).collect();
    if others.is_empty() {
        return Ok(());
    }
    let problem = format!(
        "exists and also holds {}; writing {dataset} would replace the whole file; write to another file",
        others[..others.len().min(8)].join(", ")
    );
    Err(Error::file(path, problem))
}

fn lay_out(path: &Path, dataset: &str, (shape, dtype): (&[usize], DType), chunks: Option<&[usize]>) -> hdf5::Result<Place> {
    hdf5::silence_errors(true);
    let file = hdf5::File::with_options().with_fapl(|list| list.file_locking(false)).create(path)?;
    let builder = file
        .new_dataset_builder()
        .with_lcpl(|list| list.create_intermediate_group(true))
        .alloc_time(Some(AllocTime::Early))
        .fill_time(FillTime::Never);
    let builder = match chunks {
        Some(chunk) => builder.chunk(chunk.to_vec()),
        None => builder.no_chunk(),
    };
    let made = builder.empty_as(descriptor(dtype)).shape(shape.to_vec()).create(dataset)?;
    file.flush()?;
    let place = match chunks {
        None => made.offset().map_or(Place::Absent, Place::Contiguous),
        Some(chunk) => {
            let (table, visited) = ChunkTable::new(shape, chunk, |add| {
                made.chunks_visit(|info| {
                    add(info.offset, info.addr);
                    0
                })
            });
            visited?;
            let all = shape.iter().zip(chunk).map(|(n, c)| n.div_ceil(*c)).product::<usize>();
            if table.len() == all { Place::Chunked(table) } else { Place::Absent }
        }
    };
    drop(made);
    file.close()?;
    Ok(place)
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
