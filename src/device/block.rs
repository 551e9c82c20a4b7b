//! Memory from the system that is zero, and that nothing has touched.
//!
//! Owns: [`ZeroPages`], and the advice to use huge pages. Must not know: what is put there. Invariant: making one takes no longer for more bytes: the
//! zeros are the system's, page by page when a page is first used, on the thread that uses it.
#![allow(unsafe_code)] // calls of the system and of the allocator

use std::alloc::Layout;

/// Alignment of pooled buffers and of results: a cache line, and an AVX-512 vector.
pub const ALIGN: usize = 64;
/// From this size on, memory is aligned to and advised for huge pages (page faults of 4 KiB cost more than the writing).
const HUGE: usize = 4 << 20;
const HUGE_PAGE: usize = 2 << 20;
/// What the allocator is asked for. More it would get by writing the zeros itself, at once (std does, beyond what `calloc` aligns to); so a block is
/// aligned inside memory that is a little larger.
const ASKED: usize = align_of::<u64>();

/// A stretch of zeros, given back when dropped.
pub(super) struct ZeroPages {
    start: *mut u8,
    base: *mut u8,
    whole: Layout,
}

impl ZeroPages {
    /// `bytes` zeros, aligned to [`ALIGN`] at least; `None` if the system has no memory left.
    pub(super) fn zeroed(bytes: usize) -> Option<Self> {
        let align = if bytes >= HUGE { HUGE_PAGE } else { ALIGN };
        let whole = Layout::from_size_align(bytes.checked_add(align)?, ASKED).ok()?;
        let base = obtain(whole);
        if base.is_null() {
            return None;
        }
        // SAFETY: less than `align` bytes further, inside the allocation; `bytes` more are left behind it.
        let start = unsafe { base.add(base.addr().next_multiple_of(align) - base.addr()) };
        advise_huge(start, bytes);
        Some(Self { start, base, whole })
    }

    /// Its first byte.
    pub(super) fn start(&self) -> *mut u8 {
        self.start
    }
}

impl Drop for ZeroPages {
    fn drop(&mut self) {
        give_back(self.base, self.whole);
    }
}

/// Zeros from the allocator, or, where they are many, from the system: an allocator uses memory again that it has to clear.
fn obtain(whole: Layout) -> *mut u8 {
    #[cfg(target_os = "linux")]
    if whole.size() >= HUGE {
        let (access, kind) = (libc::PROT_READ | libc::PROT_WRITE, libc::MAP_PRIVATE | libc::MAP_ANONYMOUS);
        // SAFETY: a new mapping, wherever the system likes.
        let base = unsafe { libc::mmap(std::ptr::null_mut(), whole.size(), access, kind, -1, 0) };
        return if base == libc::MAP_FAILED { std::ptr::null_mut() } else { base.cast() };
    }
    // SAFETY: the size is not zero.
    unsafe { std::alloc::alloc_zeroed(whole) }
}

fn give_back(base: *mut u8, whole: Layout) {
    #[cfg(target_os = "linux")]
    if whole.size() >= HUGE {
        // SAFETY: the whole of a mapping made by `obtain` with this size, given back once.
        unsafe { libc::munmap(base.cast(), whole.size()) };
        return;
    }
    // SAFETY: allocated by `obtain` with this layout, freed once.
    unsafe { std::alloc::dealloc(base, whole) };
}

/// Asks for huge pages, if the memory is large.
#[cfg(target_os = "linux")]
pub(super) fn advise_huge(data: *mut u8, bytes: usize) {
    if bytes < HUGE {
        return;
    }
    let start = data.addr().next_multiple_of(4096);
    let len = (data.addr() + bytes).saturating_sub(start) & !4095;
    // SAFETY: the range lies inside one live allocation and the advice does not change contents. Failure only costs speed.
    unsafe { libc::madvise(data.with_addr(start).cast(), len, libc::MADV_HUGEPAGE) };
}

#[cfg(not(target_os = "linux"))]
pub(super) fn advise_huge(_data: *mut u8, _bytes: usize) {}

#[cfg(test)]
mod tests {
    use super::*;

    /// Every size around the borders: aligned, zero from the first byte to the last, and writable.
    #[test]
    fn blocks_are_aligned_and_zero_also_where_memory_is_used_again() {
        let sizes = [0, 1, 63, 64, 4097, 1 << 20, HUGE - HUGE_PAGE, HUGE - ALIGN, HUGE - 1, HUGE, HUGE + 1];
        for bytes in sizes.into_iter().chain(sizes) {
            let block = ZeroPages::zeroed(bytes).expect("memory");
            let align = if bytes >= HUGE { HUGE_PAGE } else { ALIGN };
            assert!(block.start().addr().is_multiple_of(align), "{bytes}");
            // SAFETY: the block's own bytes, nobody else's.
            let all = unsafe { std::slice::from_raw_parts_mut(block.start(), bytes) };
            assert!(all.iter().all(|&b| b == 0), "{bytes}");
            all.fill(0xff);
        }
        assert!(ZeroPages::zeroed(usize::MAX).is_none() && ZeroPages::zeroed(usize::MAX - HUGE_PAGE).is_none());
        assert!(ZeroPages::zeroed(isize::MAX as usize - 2 * HUGE_PAGE).is_none());
    }

    /// The session's lock is held while buffers are made: what is written then keeps everybody waiting.
    #[cfg(all(target_os = "linux", not(miri)))]
    #[test]
    fn making_a_large_block_touches_none_of_it() {
        for bytes in [HUGE, 8 << 20, 64 << 20] {
            // The second time, too, when there is memory to be used again.
            for _ in 0..2 {
                let block = ZeroPages::zeroed(bytes).expect("memory");
                let mut pages = vec![0u8; bytes / 4096];
                // SAFETY: the range is the block's, and there is one byte for each page (larger pages need fewer).
                let status = unsafe { libc::mincore(block.start().cast(), bytes, pages.as_mut_ptr()) };
                let touched = pages.iter().filter(|&&page| page & 1 == 1).count();
                assert_eq!((status, touched), (0, 0), "of {} pages", pages.len());
                // SAFETY: the block's own bytes.
                unsafe { block.start().write_bytes(1, bytes) };
            }
        }
    }
}
