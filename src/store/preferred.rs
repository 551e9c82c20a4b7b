//! Chunks that suit a file.
//!
//! Owns: [`preferred_chunks`]. Must not know: files, devices. Invariant: the answer depends on its arguments only, never on
//! the machine, so that results of reductions do not either.

use crate::shape::DType;

/// Extents of chunks of about `target_bytes` that read well from storage: whole multiples of the storage chunks, grown from
/// the last axis to the first. Without storage chunks these are slabs of the leading axis; if one index of the leading axis
/// is more than the target, the next axis is cut, and so on. At least one storage chunk (or element), each extent at least 1
/// and, for a non-empty axis, at most the axis.
///
/// ```
/// use chunkwise::DType;
/// use chunkwise::store::preferred_chunks;
/// assert_eq!(preferred_chunks(&[100_000, 100_000], DType::F64, None, 16 << 20), [20, 100_000]);
/// assert_eq!(preferred_chunks(&[9000, 9000], DType::F64, Some(&[1024, 1024]), 16 << 20), [1024, 2048]);
/// assert_eq!(preferred_chunks(&[3, 10_000_000], DType::F64, None, 16 << 20), [1, 2_097_152]);
/// ```
#[must_use]
pub fn preferred_chunks(shape: &[usize], dtype: DType, storage_chunks: Option<&[usize]>, target_bytes: usize) -> Vec<usize> {
    let unit = |axis: usize| storage_chunks.and_then(|c| c.get(axis)).copied().unwrap_or(1).max(1);
    let mut chunk: Vec<usize> = (0..shape.len()).map(|axis| unit(axis).min(shape[axis]).max(1)).collect();
    for axis in (0..shape.len()).rev() {
        let bytes = chunk.iter().fold(dtype.bytes(), |b, &n| b.saturating_mul(n));
        let times = (target_bytes / bytes.max(1)).max(1);
        let grown = unit(axis).saturating_mul(times);
        if grown < shape[axis] {
            chunk[axis] = grown;
            break;
        }
        chunk[axis] = shape[axis].max(1);
    }
    chunk
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn multiples_of_storage_and_within_reason() {
        for shape in [vec![], vec![0], vec![1], vec![7, 0, 3], vec![1000, 1000], vec![5, 70, 800], vec![1 << 40]] {
            for storage in [1, 3, 64, 5000] {
                for target in [1, 1000, 1 << 20] {
                    let unit = vec![storage; shape.len()];
                    let chunk = preferred_chunks(&shape, DType::F32, Some(&unit), target);
                    assert_eq!(chunk.len(), shape.len());
                    for (&c, &n) in chunk.iter().zip(&shape) {
                        assert!(c >= 1 && c <= n.max(1) && (c % storage == 0 || c == n.max(1)), "{shape:?} {chunk:?}");
                    }
                    let least: usize = shape.iter().map(|&n| storage.min(n).max(1)).product();
                    assert!(chunk.iter().product::<usize>() * 4 <= target.max(least * 4), "{shape:?} {chunk:?} {target}");
                }
            }
        }
    }
}
