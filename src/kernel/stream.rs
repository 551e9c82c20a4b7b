//! Memory that is written past the caches, and fetched ahead of its use.
//!
//! Owns: non-temporal stores, prefetches. Must not know: what is computed. Invariant: what is stored here is there after [`fence`], as if it were copied; elsewhere
//! than on x86-64, it is copied.
//!
//! Measured on 1e8 `f64`: results that are larger than the caches cost 1.5 to 2.7 times as much when each of their lines is read before it is written, and without
//! prefetches the loops wait for memory once a strip.
#![allow(unsafe_code)] // instructions that have no safe form

/// Bytes that memory is moved by.
pub(crate) const LINE: usize = 64;

/// Copies to whole lines, which are not read and not kept in the caches.
///
/// # Panics
/// If the two differ in length, or `to` is not whole lines.
#[inline]
pub(crate) fn store(to: &mut [u8], from: &[u8]) {
    assert!(to.len() == from.len() && is_lines(to), "whole lines");
    #[cfg(target_arch = "x86_64")]
    {
        use std::arch::x86_64::{__m128i, _mm_loadu_si128, _mm_stream_si128};
        for (to, from) in to.chunks_exact_mut(16).zip(from.chunks_exact(16)) {
            // SAFETY: both are 16 bytes, and `to` begins at a multiple of 16.
            unsafe { _mm_stream_si128(to.as_mut_ptr().cast::<__m128i>(), _mm_loadu_si128(from.as_ptr().cast())) };
        }
    }
    #[cfg(not(target_arch = "x86_64"))]
    to.copy_from_slice(from);
}

/// Whether these bytes are whole lines.
#[inline]
fn is_lines(bytes: &[u8]) -> bool {
    bytes.as_ptr().addr().is_multiple_of(LINE) && bytes.len().is_multiple_of(LINE)
}

/// Makes what was stored visible to whoever is told of it.
pub(crate) fn fence() {
    #[cfg(target_arch = "x86_64")]
    // SAFETY: the instruction is part of SSE, which x86-64 has.
    unsafe {
        std::arch::x86_64::_mm_sfence();
    }
}

/// Has memory fetched that will be read soon.
#[inline]
pub(crate) fn prefetch(bytes: &[u8]) {
    #[cfg(target_arch = "x86_64")]
    for line in bytes.chunks(LINE) {
        // SAFETY: a hint, at an address inside a slice.
        unsafe { std::arch::x86_64::_mm_prefetch::<{ std::arch::x86_64::_MM_HINT_T0 }>(line.as_ptr().cast()) };
    }
    #[cfg(not(target_arch = "x86_64"))]
    let _ = bytes;
}

/// Has the line fetched that is so many bytes from where a slice begins: in it, or in memory beside it, of which nothing is read.
#[inline(always)]
pub(crate) fn prefetch_at(bytes: &[u8], at: usize) {
    #[cfg(target_arch = "x86_64")]
    {
        let line = bytes.as_ptr().wrapping_add(at);
        // SAFETY: a hint, which may be of any address.
        unsafe { std::arch::x86_64::_mm_prefetch::<{ std::arch::x86_64::_MM_HINT_T0 }>(line.cast()) };
    }
    #[cfg(not(target_arch = "x86_64"))]
    let _ = (bytes, at);
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_stored_is_there() {
        #[repr(align(64))]
        struct Lines([u8; 256]);
        let from: Vec<u8> = (0..=255).collect();
        let mut to = Lines([0; 256]);
        prefetch(&from);
        store(&mut to.0[64..192], &from[3..131]);
        fence();
        assert_eq!((&to.0[64..192], to.0[63], to.0[192]), (&from[3..131], 0, 0));
        assert!(!is_lines(&to.0[1..65]) && !is_lines(&to.0[..63]));
    }
}
