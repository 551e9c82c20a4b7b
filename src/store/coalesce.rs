//! Scanning small storage chunks that are neighbours in the file with one read for many.
//!
//! Owns: [`scan_chunks`]. Must not know: formats. Invariant: the order is that of `ChunkSource::scan`: chunks in C order, each
//! in C order; so bytes read together are handed on together.

use super::direct::{DataFile, RawArray, StoredAt};
use super::raw_source::RawSource;
use crate::error::Result;
use crate::shape::{ChunkView, DType, Layout, Region, with_dtype};
use crate::task::{Block, ChunkSource, PendingConstant, scan_by_pieces, storage_parts};

/// Whole chunks that lie one after another: where the first begins, bytes so far.
#[derive(Clone, Copy)]
struct Neighbours {
    from: u64,
    bytes: usize,
}

/// Whether [`scan_chunks`] can serve `array`: its bytes are memory's, and a block holds several of its chunks.
pub(crate) fn worthwhile(array: &RawArray, block_bytes: usize) -> bool {
    let StoredAt::Chunked(table) = &array.place else { return false };
    let elements = table.chunk().iter().fold(1usize, |n, &c| n.saturating_mul(c));
    array.stored.is_native(array.stored.dtype) && elements.saturating_mul(array.stored.dtype.bytes()) <= block_bytes / 2
}

/// Scans `region` of a chunked source. `scratch` as for `ChunkSource::scan`.
pub(crate) fn scan_chunks(
    source: &RawSource,
    region: &Region,
    scratch: &mut [u8],
    each: &mut dyn FnMut(Block<'_>),
) -> Result<()> {
    let array = &source.array;
    let StoredAt::Chunked(table) = &array.place else { unreachable!("asked by `worthwhile`") };
    let (dtype, chunk) = (source.dtype(), table.chunk());
    let size = chunk.iter().product::<usize>() * dtype.bytes();
    let skip = scratch.as_ptr().align_offset(64).min(scratch.len());
    let room = scratch.len() - skip;
    let mut run = Neighbours { from: 0, bytes: 0 };
    let mut unwritten = PendingConstant::default();
    storage_parts(region, chunk, &mut |_, part| {
        if part.axes().iter().zip(chunk).all(|(a, &c)| a.len == c && a.step == 1)
            && let Some(address) = table.address_of(part)
        {
            unwritten.flush(each);
            if run.bytes == 0 || address != run.from + run.bytes as u64 || run.bytes + size > room {
                flush(&source.file, dtype, run, &mut scratch[skip..], each)?;
                run = Neighbours { from: address, bytes: 0 };
            }
            run.bytes += size;
            return Ok(());
        }
        flush(&source.file, dtype, run, &mut scratch[skip..], each)?;
        run.bytes = 0;
        if let Some(value) = array.constant(part) {
            unwritten.add(value, part.len(), each);
            return Ok(());
        }
        unwritten.flush(each);
        scan_by_pieces(source, (dtype, Some(chunk)), part, scratch, each)
    })?;
    flush(&source.file, dtype, run, &mut scratch[skip..], each)?;
    unwritten.flush(each);
    Ok(())
}

fn flush(file: &DataFile, dtype: DType, run: Neighbours, block: &mut [u8], each: &mut dyn FnMut(Block<'_>)) -> Result<()> {
    if run.bytes == 0 {
        return Ok(());
    }
    let bytes = &mut block[..run.bytes];
    file.read(bytes, run.from)?;
    let layout = Layout::contiguous(dtype, &[run.bytes / dtype.bytes()]);
    let values = with_dtype!(
        dtype in numbers,
        T => ChunkView::from_slice::<T>(bytemuck::cast_slice(bytes), &layout),
        _ => unreachable!("booleans are decoded, so never native")
    );
    each(Block::Values(values));
    Ok(())
}
