//! Copying what is read crosswise, in tiles that are turned in registers.
//!
//! Owns: the tiles, the order in which they are read, what is asked for ahead. Must not know: layouts. Invariant: each element is copied once, and nothing else is read:
//! what lies between elements may be another task's.
//!
//! Rows of the source are read eight at a time, along bands, and the next eight are asked for meanwhile: their lines are far apart, which no CPU foresees. (Measured, `f64`, half of a
//! matrix of 10000 x 10000 by its columns: loops in tiles of 64 x 64 took 2 to 3 times as long.)
#![allow(unsafe_code)] // instructions that have no safe form, places given by strides

use super::CopyAxis;

/// Elements on a side of a tile.
pub(super) const SIDE: usize = 8;
/// Elements of a band: so many lines are being written at once.
const BAND: usize = 128;
/// What is larger is written past the caches, where whole lines of words of 64 bits are.
const LARGE: usize = 1 << 20;
/// Bytes that memory is moved by.
pub(super) const LINE: usize = 64;

/// Where tiles are: rows of the source are `row` apart, what becomes a row of the copy `from` apart in each of them; rows of the copy are `to` apart.
#[derive(Clone, Copy)]
struct TileSteps {
    row: isize,
    from: isize,
    to: isize,
    /// Whether the copy is written past the caches.
    streams: bool,
}

/// Copies the elements of two axes: the written ones lie side by side along the first, the read ones along the second, or nearly.
///
/// # Safety
/// As [`super::plane`]; and `inner.to` is 1.
pub(super) unsafe fn crosswise<E: Copy>(from: *const E, to: *mut E, [inner, outer]: [CopyAxis; 2]) {
    let size = size_of::<E>();
    let is_near = matches!(outer.from, 1 | 2);
    let are_lines = size == 8 && is_near && to.addr().is_multiple_of(LINE) && outer.to % SIDE as isize == 0;
    let streams = are_lines && inner.n * outer.n * size > LARGE;
    let steps = TileSteps { row: inner.from, from: outer.from, to: outer.to, streams };
    #[cfg(target_arch = "x86_64")]
    {
        use std::arch::is_x86_feature_detected as has;
        // SAFETY: the CPU has the instructions; an element is moved as a word of its size, which may lie anywhere; the rest is promised by the caller.
        unsafe {
            match size {
                8 if is_near && has!("avx512f") => return x86::words_512(from.cast(), to.cast(), (inner.n, outer.n), steps),
                8 if is_near && has!("avx2") => return x86::words_256(from.cast(), to.cast(), (inner.n, outer.n), steps),
                4 if is_near && has!("avx2") => return x86::halves_256(from.cast(), to.cast(), (inner.n, outer.n), steps),
                _ => {}
            }
        }
    }
    // SAFETY: as the caller promises.
    unsafe { tiles(from, to, (inner.n, outer.n), steps, |from, to, steps| one_by_one(from, to, (SIDE, SIDE), steps)) }
}

/// All tiles, and what is left beside and below them.
///
/// # Safety
/// As [`crosswise`].
#[inline(always)]
unsafe fn tiles<E: Copy>(
    from: *const E,
    to: *mut E,
    (rows, columns): (usize, usize),
    steps: TileSteps,
    tile: impl Fn(*const E, *mut E, TileSteps),
) {
    // An element of the axes, or a place where no more are copied.
    let at = |row: usize, column: usize| {
        let (row, column) = (row as isize, column as isize);
        (from.wrapping_offset(row * steps.row + column * steps.from), to.wrapping_offset(row + column * steps.to))
    };
    let whole = rows / SIDE * SIDE;
    for left in (0..columns).step_by(BAND) {
        let band = left..columns.min(left + BAND);
        let tiled = left + band.len() / SIDE * SIDE;
        for top in (0..whole).step_by(SIDE) {
            for column in (left..tiled).step_by(SIDE) {
                let (from, to) = at(top, column);
                ahead(from, steps);
                tile(from, to, steps);
            }
            let (from, to) = at(top, tiled);
            // SAFETY: what is left of eight rows.
            unsafe { one_by_one(from, to, (SIDE, band.end - tiled), steps) };
        }
        let (from, to) = at(whole, left);
        // SAFETY: what is left of the band.
        unsafe { one_by_one(from, to, (rows - whole, band.len()), steps) };
    }
    if steps.streams {
        #[cfg(target_arch = "x86_64")]
        // SAFETY: the instruction is part of SSE, which x86-64 has.
        unsafe {
            std::arch::x86_64::_mm_sfence();
        }
    }
}

/// Asks for what the tile below this one is read from.
#[inline(always)]
fn ahead<E>(from: *const E, steps: TileSteps) {
    #[cfg(target_arch = "x86_64")]
    for row in SIDE as isize..2 * SIDE as isize {
        // As many elements as are in a line.
        let step = (LINE / (steps.from.unsigned_abs() * size_of::<E>()).max(1)).clamp(1, SIDE);
        for column in (0..SIDE as isize).step_by(step) {
            let line = from.wrapping_offset(row * steps.row + column * steps.from);
            // SAFETY: a hint, which may be of any address.
            unsafe { std::arch::x86_64::_mm_prefetch::<{ std::arch::x86_64::_MM_HINT_T0 }>(line.cast()) };
        }
    }
    #[cfg(not(target_arch = "x86_64"))]
    let _ = (from, steps);
}

/// Copies so many rows and columns element by element.
///
/// # Safety
/// As [`crosswise`], for these.
#[inline(always)]
unsafe fn one_by_one<E: Copy>(from: *const E, to: *mut E, (rows, columns): (usize, usize), steps: TileSteps) {
    for column in 0..columns as isize {
        for row in 0..rows as isize {
            // SAFETY: an element of the axes. It is seen as a word, which may be more aligned than it.
            unsafe {
                let element = from.offset(row * steps.row + column * steps.from).read_unaligned();
                to.offset(row + column * steps.to).write_unaligned(element);
            }
        }
    }
}

#[cfg(target_arch = "x86_64")]
mod x86 {
    use std::arch::x86_64::*;

    use super::{SIDE, TileSteps, tiles};

    /// [`super::crosswise`] of words of 64 bits, with AVX-512.
    ///
    /// # Safety
    /// As that; and elements of a row are one or two apart.
    #[target_feature(enable = "avx512f")]
    pub(super) unsafe fn words_512(from: *const i64, to: *mut i64, counts: (usize, usize), steps: TileSteps) {
        let second = _mm512_set_epi64(15, 13, 11, 9, 6, 4, 2, 0);
        let tile = |from: *const i64, to: *mut i64, steps: TileSteps| {
            let row = |k: isize| {
                let row = from.wrapping_offset(k * steps.row);
                // SAFETY: the eight elements of a row of the tile; what is between them is not read.
                unsafe {
                    let load = |at: usize, mask: u8| _mm512_maskz_loadu_epi64(mask, row.add(at));
                    match steps.from {
                        1 => _mm512_loadu_epi64(row),
                        _ => _mm512_permutex2var_epi64(load(0, 0b0101_0101), second, load(7, 0b1010_1010)),
                    }
                }
            };
            let columns = turned_512([row(0), row(1), row(2), row(3), row(4), row(5), row(6), row(7)]);
            for (k, column) in columns.into_iter().enumerate() {
                let to = to.wrapping_offset(k as isize * steps.to);
                // SAFETY: eight elements of the copy; a whole line if it is streamed.
                unsafe { if steps.streams { _mm512_stream_si512(to.cast(), column) } else { _mm512_storeu_epi64(to, column) } };
            }
        };
        // SAFETY: as promised.
        unsafe { tiles(from, to, counts, steps, tile) }
    }

    #[target_feature(enable = "avx512f")]
    fn turned_512(r: [__m512i; SIDE]) -> [__m512i; SIDE] {
        let low = |k: usize| _mm512_unpacklo_epi64(r[k], r[k + 1]);
        let high = |k: usize| _mm512_unpackhi_epi64(r[k], r[k + 1]);
        let even = columns_512([low(0), low(2), low(4), low(6)]);
        let odd = columns_512([high(0), high(2), high(4), high(6)]);
        [even[0], odd[0], even[1], odd[1], even[2], odd[2], even[3], odd[3]]
    }

    /// Of pairs of rows, of which every other column is there, those columns.
    #[target_feature(enable = "avx512f")]
    fn columns_512([a, b, c, d]: [__m512i; 4]) -> [__m512i; 4] {
        let (u, v) = (_mm512_shuffle_i64x2::<0x88>(a, b), _mm512_shuffle_i64x2::<0x88>(c, d));
        let (s, t) = (_mm512_shuffle_i64x2::<0xdd>(a, b), _mm512_shuffle_i64x2::<0xdd>(c, d));
        [
            _mm512_shuffle_i64x2::<0x88>(u, v),
            _mm512_shuffle_i64x2::<0x88>(s, t),
            _mm512_shuffle_i64x2::<0xdd>(u, v),
            _mm512_shuffle_i64x2::<0xdd>(s, t),
        ]
    }

    /// [`super::crosswise`] of words of 64 bits, with AVX2.
    ///
    /// # Safety
    /// As [`words_512`].
    #[target_feature(enable = "avx2")]
    pub(super) unsafe fn words_256(from: *const i64, to: *mut i64, counts: (usize, usize), steps: TileSteps) {
        let (even, odd) = (_mm256_set_epi64x(0, -1, 0, -1), _mm256_set_epi64x(-1, 0, -1, 0));
        let tile = |from: *const i64, to: *mut i64, steps: TileSteps| {
            for left in [0, 4] {
                let row = |k: isize| {
                    let row = from.wrapping_offset(k * steps.row + left * steps.from);
                    // SAFETY: four elements of a row of the tile; what is between them is not read.
                    unsafe {
                        let load = |at: usize, mask: __m256i| _mm256_maskload_pd(row.add(at).cast(), mask);
                        let pairs = || _mm256_shuffle_pd::<0b1010>(load(0, even), load(3, odd));
                        match steps.from {
                            1 => _mm256_loadu_pd(row.cast()),
                            _ => _mm256_permute4x64_pd::<0b11_01_10_00>(pairs()),
                        }
                    }
                };
                let upper = turned_256([row(0), row(1), row(2), row(3)]);
                let lower = turned_256([row(4), row(5), row(6), row(7)]);
                for (k, (upper, lower)) in upper.into_iter().zip(lower).enumerate() {
                    let to = to.wrapping_offset((left + k as isize) * steps.to).cast::<f64>();
                    // SAFETY: eight elements of the copy; a whole line if it is streamed.
                    unsafe {
                        if steps.streams {
                            _mm256_stream_pd(to, upper);
                            _mm256_stream_pd(to.add(4), lower);
                        } else {
                            _mm256_storeu_pd(to, upper);
                            _mm256_storeu_pd(to.add(4), lower);
                        }
                    }
                }
            }
        };
        // SAFETY: as promised.
        unsafe { tiles(from, to, counts, steps, tile) }
    }

    #[target_feature(enable = "avx2")]
    fn turned_256([a, b, c, d]: [__m256d; 4]) -> [__m256d; 4] {
        let (ab, cd) = (_mm256_unpacklo_pd(a, b), _mm256_unpacklo_pd(c, d));
        let (ab_odd, cd_odd) = (_mm256_unpackhi_pd(a, b), _mm256_unpackhi_pd(c, d));
        [
            _mm256_permute2f128_pd::<0x20>(ab, cd),
            _mm256_permute2f128_pd::<0x20>(ab_odd, cd_odd),
            _mm256_permute2f128_pd::<0x31>(ab, cd),
            _mm256_permute2f128_pd::<0x31>(ab_odd, cd_odd),
        ]
    }

    /// [`super::crosswise`] of words of 32 bits, with AVX2.
    ///
    /// # Safety
    /// As [`words_512`].
    #[target_feature(enable = "avx2")]
    pub(super) unsafe fn halves_256(from: *const i32, to: *mut i32, counts: (usize, usize), steps: TileSteps) {
        let (even, odd) = (_mm256_set_epi32(0, -1, 0, -1, 0, -1, 0, -1), _mm256_set_epi32(-1, 0, -1, 0, -1, 0, -1, 0));
        let tile = |from: *const i32, to: *mut i32, steps: TileSteps| {
            let row = |k: isize| {
                let row = from.wrapping_offset(k * steps.row);
                // SAFETY: the eight elements of a row of the tile; what is between them is not read.
                unsafe {
                    let load = |at: usize, mask: __m256i| _mm256_maskload_ps(row.add(at).cast(), mask);
                    match steps.from {
                        1 => _mm256_loadu_ps(row.cast()),
                        _ => {
                            let halves = _mm256_shuffle_ps::<0b11_01_10_00>(load(0, even), load(7, odd));
                            let pairs = _mm256_castps_pd(halves);
                            _mm256_castpd_ps(_mm256_permute4x64_pd::<0b11_01_10_00>(pairs))
                        }
                    }
                }
            };
            let columns = turned_halves([row(0), row(1), row(2), row(3), row(4), row(5), row(6), row(7)]);
            for (k, column) in columns.into_iter().enumerate() {
                // SAFETY: eight elements of the copy.
                unsafe { _mm256_storeu_ps(to.wrapping_offset(k as isize * steps.to).cast(), column) };
            }
        };
        // SAFETY: as promised.
        unsafe { tiles(from, to, counts, steps, tile) }
    }

    #[target_feature(enable = "avx2")]
    fn turned_halves(r: [__m256; SIDE]) -> [__m256; SIDE] {
        let low = |k: usize| _mm256_castps_pd(_mm256_unpacklo_ps(r[k], r[k + 1]));
        let high = |k: usize| _mm256_castps_pd(_mm256_unpackhi_ps(r[k], r[k + 1]));
        // Of four rows, columns (0, 4), (1, 5), (2, 6), (3, 7).
        let quarters = |k: usize| {
            let (a, b, c, d) = (low(k), low(k + 2), high(k), high(k + 2));
            [_mm256_unpacklo_pd(a, b), _mm256_unpackhi_pd(a, b), _mm256_unpacklo_pd(c, d), _mm256_unpackhi_pd(c, d)]
        };
        let (upper, lower) = (quarters(0), quarters(4));
        let first = |k: usize| _mm256_castpd_ps(_mm256_permute2f128_pd::<0x20>(upper[k], lower[k]));
        let last = |k: usize| _mm256_castpd_ps(_mm256_permute2f128_pd::<0x31>(upper[k], lower[k]));
        [first(0), first(1), first(2), first(3), last(0), last(1), last(2), last(3)]
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// A way to copy: as [`tiles`], with a tile of its own.
    type Way<E> = unsafe fn(*const E, *mut E, (usize, usize), TileSteps);

    /// Copies `rows` rows of `columns` elements, which lie so far apart, in one way, and looks at each element; what lies between rows of the copy stays.
    fn check<E: Copy + PartialEq + std::fmt::Debug>(
        way: Way<E>,
        (rows, columns): (usize, usize),
        from: isize,
        element: fn(usize) -> E,
    ) {
        let len = columns.max(1) * from.unsigned_abs();
        let source: Vec<E> = (0..rows * (len + 3)).map(element).collect();
        let first = if from < 0 { len - 1 } else { 0 };
        let gap = 8 * (rows / 8 + 1);
        let mut all = vec![element(usize::MAX); columns * gap + 16];
        let lines = all.as_ptr().align_offset(LINE).min(16);
        for streams in [false, true] {
            let (to, streams) = if streams { (lines, (gap * size_of::<E>()).is_multiple_of(LINE)) } else { (lines + 1, false) };
            all.fill(element(usize::MAX));
            let steps = TileSteps { row: (len + 3) as isize, from, to: gap as isize, streams };
            // SAFETY: rows of the source have `len` elements, those of the copy `rows`, which are less than `gap`.
            unsafe { way(source.as_ptr().add(first), all.as_mut_ptr().add(to), (rows, columns), steps) };
            for (at, found) in all.iter().enumerate() {
                let (column, row) = (at.wrapping_sub(to) / gap, at.wrapping_sub(to) % gap);
                let is_copied = at >= to && column < columns && row < rows;
                let place = |row: usize| (first + row * (len + 3)).wrapping_add_signed(column as isize * from);
                let wanted = if is_copied { source[place(row)] } else { element(usize::MAX) };
                assert_eq!(*found, wanted, "{rows} x {columns} by {from}: element ({row}, {column})");
            }
        }
    }

    const SHAPES: [(usize, usize); 9] = [(8, 8), (8, 7), (7, 20), (16, 16), (9, 130), (40, 129), (64, 256), (23, 1), (0, 5)];

    /// Any stride, any element.
    unsafe fn plain<E: Copy>(from: *const E, to: *mut E, counts: (usize, usize), steps: TileSteps) {
        // SAFETY: as the caller promises.
        unsafe { tiles(from, to, counts, steps, |from, to, steps| one_by_one(from, to, (SIDE, SIDE), steps)) }
    }

    #[test]
    fn each_way_copies_each_element_once() {
        for shape in SHAPES {
            for from in [1, 2, 3, -1, -2, 1000] {
                check::<u8>(plain, shape, from, |at| at as u8);
                check::<[u64; 2]>(plain, shape, from, |at| [at as u64; 2]);
                check::<i64>(plain, shape, from, |at| at as i64);
            }
            #[cfg(target_arch = "x86_64")]
            for from in [1, 2] {
                if std::arch::is_x86_feature_detected!("avx512f") {
                    // SAFETY: the CPU has the instructions; the rest is the caller's.
                    check::<i64>(|f, t, c, s| unsafe { x86::words_512(f, t, c, s) }, shape, from, |at| at as i64);
                }
                if std::arch::is_x86_feature_detected!("avx2") {
                    // SAFETY: as above.
                    check::<i64>(|f, t, c, s| unsafe { x86::words_256(f, t, c, s) }, shape, from, |at| at as i64);
                    // SAFETY: as above.
                    check::<i32>(|f, t, c, s| unsafe { x86::halves_256(f, t, c, s) }, shape, from, |at| at as i32);
                }
            }
        }
    }

    /// Elements of eight bytes may lie at multiples of four: complex numbers of single precision do.
    #[test]
    fn what_is_less_aligned_than_a_word_is_copied() {
        let source: Vec<u32> = (0..2 * 400 + 1).collect();
        for shift in 0..2 {
            let mut copy = vec![0u32; 2 * 400 + 1];
            let (rows, columns) = (19, 21);
            let axes =
                [CopyAxis { n: rows, from: columns as isize, to: 1 }, CopyAxis { n: columns, from: 1, to: rows as isize }];
            // SAFETY: `rows * columns` elements on either side.
            unsafe { crosswise::<[u32; 2]>(source.as_ptr().add(shift).cast(), copy.as_mut_ptr().add(1 - shift).cast(), axes) };
            for at in 0..rows * columns {
                let place = at % rows * columns + at / rows;
                assert_eq!(copy[1 - shift + 2 * at..][..2], source[shift + 2 * place..][..2], "{at}");
            }
        }
    }

    #[test]
    fn what_is_large_is_copied_past_the_caches() {
        let n = 400;
        let source: Vec<f64> = (0..n * n).map(|at| at as f64).collect();
        let mut copy = vec![0.0; n * n + 8];
        let start = copy.as_ptr().align_offset(LINE);
        let axes = [CopyAxis { n, from: n as isize, to: 1 }, CopyAxis { n, from: 1, to: n as isize }];
        // SAFETY: `n * n` elements on either side.
        unsafe { crosswise(source.as_ptr(), copy.as_mut_ptr().add(start), axes) };
        assert!((0..n * n).all(|at| copy[start + at] == source[at % n * n + at / n]));
    }
}
