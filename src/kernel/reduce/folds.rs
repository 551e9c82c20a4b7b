//! What becomes of elements that are reduced to one.
//!
//! Owns: [`Fold`], [`Ops`]: a fold as loops that are compiled once ([`super::kinds`] has each). Must not know: chunks, axes. Invariant: where the order of elements matters to the bits
//! ([`Ops::in_order`]), it is that of their index, in eight lanes; else any order gives the same bits. (Which of several NaN comes out is not said.)
//!
//! There are few of these, for elements of 64 bits, or complex ones of twice as many, and some for `f32`: a program casts whatever else is shorter, which costs less than to
//! read it does. What is not done for each element goes through the pointers of [`Ops`].

use std::ops::{Add, Mul, Sub};

use bytemuck::{Pod, Zeroable, bytes_of, cast_slice, cast_slice_mut, from_bytes, from_bytes_mut};
use num_complex::Complex;

use super::Reduction;
use super::kinds::{Highest, HighestNumber, Lowest, LowestNumber, Moments, Place, Prod};
pub(super) use super::kinds::{One, Sum};
use super::put::{put, put_rows, put_rows_sum, put_sum};
use crate::kernel::map::{Last, ROWS, Strip};
use crate::kernel::stream;
use crate::shape::DType;

/// Elements that are taken in at once: lanes of one run, or one of each of so many runs.
pub(super) const LANES: usize = 8;
/// Times eight lanes, where these may be filled in any order: that keeps more of the CPU's units busy.
pub(super) const WIDE: usize = 4;
/// Words of a result, at most.
pub(super) const MOST_WORDS: usize = 3;
/// A result as words.
pub(super) type Words = [u64; MOST_WORDS];
/// Eight results: the first words of all, then the second ones.
pub(super) type Eight = [u64; MOST_WORDS * LANES];

/// A reduction.
pub(super) trait Fold: 'static {
    /// What is reduced.
    type Item: Pod;
    /// Eight unfinished results, no larger than [`Eight`].
    type Lanes: Pod;
    /// Words of a result.
    const WORDS: usize;
    /// Whether the bits depend on the order of elements.
    const IN_ORDER: bool;
    /// The result of no element.
    const EMPTY: Words;

    /// Takes in the next elements of a run, the first of which has number `at`: where their order matters, no more than fill a block. What may be fetched meanwhile
    /// is as many bytes or none.
    fn fill(lanes: &mut Lanes, x: &[Self::Item], ahead: &[u8], at: u64);
    /// Begins eight, of one element each, which has number `at` in its run.
    fn open(x: &[Self::Item; LANES], at: u64) -> Self::Lanes;
    /// Takes in one more element each.
    fn put(eight: &mut Self::Lanes, x: &[Self::Item; LANES], at: u64);
    /// The result of one of the eight, of so many elements.
    fn close(eight: &Self::Lanes, lane: usize, count: u64) -> Words;
    /// The result of the elements of both, those of `a` before those of `b`.
    fn join(a: Words, b: Words) -> Words;

    /// The results of all eight, of so many elements each.
    #[inline(always)]
    fn close_eight(eight: &Self::Lanes, count: u64) -> Eight {
        let mut all = [0; MOST_WORDS * LANES];
        for lane in 0..LANES {
            let words = Self::close(eight, lane, count);
            (0..Self::WORDS).for_each(|word| all[word * LANES + lane] = words[word]);
        }
        all
    }
    /// The results of the elements of both, eight times.
    #[inline(always)]
    fn join_eight(a: &Eight, b: &Eight) -> Eight {
        let mut all = [0; MOST_WORDS * LANES];
        let words = |of: &Eight, lane: usize| [of[lane], of[LANES + lane], of[2 * LANES + lane]];
        for lane in 0..LANES {
            let joined = Self::join(words(a, lane), words(b, lane));
            (0..Self::WORDS).for_each(|word| all[word * LANES + lane] = joined[word]);
        }
        all
    }
}

/// One that takes in elements one by one.
pub(super) trait Singly: Fold {
    /// Begins one of the eight with its first element.
    fn open_one(eight: &mut Self::Lanes, lane: usize, x: Self::Item);
    /// Takes one more element into one of the eight, which has some.
    fn put_one(eight: &mut Self::Lanes, lane: usize, x: Self::Item);
}

/// Unfinished results of a run.
pub(super) struct Lanes {
    eights: [Eight; WIDE],
    /// Elements in the unfinished block; where the order does not matter, eights that have been opened.
    pub(super) filled: usize,
    /// What did not fill eight lanes, where the order does not matter.
    pub(super) rest: Option<Words>,
}

impl Lanes {
    pub(super) const EMPTY: Self = Self { eights: [[0; MOST_WORDS * LANES]; WIDE], filled: 0, rest: None };

    pub(super) fn clear(&mut self) {
        (self.filled, self.rest) = (0, None);
    }
}

/// Takes in [`ROWS`] elements of each of some runs: their lanes; the elements, and their numbers; whether the first begins these lanes.
type PutRows = fn(&mut [u64], [Strip<'_>; ROWS], [u64; ROWS], bool);

/// A fold's loops.
pub(super) struct Ops {
    pub(super) words: usize,
    pub(super) in_order: bool,
    pub(super) empty: Words,
    /// Words of eight unfinished results.
    pub(super) lanes: usize,
    /// Takes in the next elements of a run, the first of which has number `at`: where their order matters, no more than fill a block.
    pub(super) fill: fn(&mut Lanes, Strip<'_>, u64),
    /// Whether it does what is left to do to a strip.
    pub(super) does_last: bool,
    /// Of sums of floats: takes products into lanes, and their second factors into others that have as many elements.
    pub(super) fill_both: fn([&mut Lanes; 2], Strip<'_>),
    /// Takes in the element of this number of each of some runs, eight after eight, the last perhaps fewer; whether it is the first of a block.
    pub(super) put: fn(&mut [u64], Strip<'_>, u64, bool),
    /// The same of several elements of each run, which go to one row of lanes: so these are read and written once.
    pub(super) put_rows: PutRows,
    /// The result of what is in the lanes of a run.
    pub(super) finish: fn(&Lanes) -> Words,
    /// The result of a run of no more elements than a block has.
    pub(super) whole: fn(Strip<'_>) -> Words,
    /// The results of eight runs, of rows of lanes so many words apart, which have this many elements of each.
    pub(super) finish_rows: fn(&[u64], usize, usize) -> Eight,
    /// Results joined with those of later elements: how far their words are apart, and how many results there are.
    pub(super) join: fn(&mut [u64], &[u64], (usize, usize)),
}

impl Ops {
    const fn of<F: Fold>() -> Self {
        assert!(size_of::<F::Lanes>() <= size_of::<Eight>());
        Self {
            words: F::WORDS,
            in_order: F::IN_ORDER,
            empty: F::EMPTY,
            lanes: size_of::<F::Lanes>() / 8,
            fill: fill::<F>,
            does_last: false,
            fill_both: |_, _| unreachable!("sums of floats alone take in both"),
            put: put::<F>,
            put_rows: put_rows::<F>,
            finish: finish::<F>,
            whole: whole::<F>,
            finish_rows: finish_rows::<F>,
            join: join::<F>,
        }
    }

    /// Those of the sum of floats.
    const fn of_sum<T: Summand>() -> Self
    where
        One<Sum<T>>: Singly<Item = T, Lanes = [f64; LANES]>,
    {
        Self {
            fill: fill_sum::<T>,
            does_last: true,
            fill_both: fill_both::<T>,
            whole: whole_sum::<T>,
            put: put_sum::<T>,
            put_rows: put_rows_sum::<T>,
            ..Self::of::<One<Sum<T>>>()
        }
    }

    /// Those of a reduction of elements of a dtype that it reads.
    pub(super) fn find(what: Reduction, dtype: DType) -> &'static Self {
        macro_rules! of {
            ($($what:ident $d:ident $fold:ty),*) => {
                match (what, dtype) {
                    (Reduction::Sum, DType::F64) => &const { Self::of_sum::<f64>() },
                    (Reduction::Sum, DType::F32) => &const { Self::of_sum::<f32>() },
                    $((Reduction::$what, DType::$d) => &const { Self::of::<$fold>() },)*
                    _ => unreachable!("{} reads no {dtype}", what.name()),
                }
            };
        }
        of!(Sum I64 One<Sum<i64>>, Sum U64 One<Sum<i64>>, Sum C128 One<Sum<Complex<f64>>>,
            Prod I64 One<Prod<i64>>, Prod U64 One<Prod<i64>>, Prod F64 One<Prod<f64>>, Prod C128 One<Prod<Complex<f64>>>,
            Min F32 One<Lowest<f32>>, Max F32 One<Highest<f32>>, Moments F32 Moments<f32>,
            Min I64 One<Lowest<i64>>, Min U64 One<Lowest<u64>>, Min F64 One<Lowest<f64>>,
            Max I64 One<Highest<i64>>, Max U64 One<Highest<u64>>, Max F64 One<Highest<f64>>,
            FMin F64 One<LowestNumber>, FMax F64 One<HighestNumber>,
            ArgMin I64 Place<Lowest<i64>>, ArgMin U64 Place<Lowest<u64>>, ArgMin F64 Place<Lowest<f64>>,
            ArgMax I64 Place<Highest<i64>>, ArgMax U64 Place<Highest<u64>>, ArgMax F64 Place<Highest<f64>>,
            Moments F64 Moments<f64>)
    }
}

/// Runs what is inlined here with vectors of 256 bits, if there are any.
#[inline(always)]
pub(super) fn vectorized<R>(body: impl FnOnce() -> R) -> R {
    #[cfg(any(target_arch = "x86", target_arch = "x86_64"))]
    if let Some(avx2) = crate::kernel::simd::level().as_avx2() {
        return fearless_simd::Simd::vectorize(avx2, body);
    }
    body()
}

/// What is summed.
pub(super) trait Summand: Pod + Add<Output = Self> + Sub<Output = Self> + Mul<Output = Self> {}
impl Summand for f64 {}
impl Summand for f32 {}

/// Takes in what is made of two strips: what is between stays in registers.
fn fill_sum<T: Summand>(lanes: &mut Lanes, strip: Strip<'_>, _: u64)
where
    One<Sum<T>>: Singly<Item = T>,
{
    #[inline(always)]
    fn made<T: Summand>(lanes: &mut Lanes, (a, b, ahead): (&[T], &[T], [&[u8]; 2]), f: impl Fn(T, T) -> T + Copy)
    where
        One<Sum<T>>: Singly<Item = T>,
    {
        vectorized(
            #[inline(always)]
            || fill_made::<One<Sum<T>>>(lanes, (a, b), ahead.map(|ahead| (ahead, 0)), f),
        );
    }
    let two = || (cast_slice(strip.args[0]), cast_slice(strip.args[1]), strip.ahead);
    match strip.last {
        Last::Done => fill::<One<Sum<T>>>(lanes, strip, 0),
        Last::Add => made::<T>(lanes, two(), |a, b| a + b),
        Last::Sub => made::<T>(lanes, two(), |a, b| a - b),
        Last::Mul => made::<T>(lanes, two(), |a, b| a * b),
        Last::SubSquare => made::<T>(lanes, two(), |a, b| (a - b) * (a - b)),
    }
}

/// Products and second factors, each as if alone.
fn fill_both<T: Summand>([products, factors]: [&mut Lanes; 2], strip: Strip<'_>)
where
    One<Sum<T>>: Singly<Item = T, Lanes = [f64; LANES]>,
{
    let (a, b): (&[T], &[T]) = (cast_slice(strip.args[0]), cast_slice(strip.args[1]));
    // The first eight, which begin the lanes, or those up to whole eights, and what is left after these, one after the other.
    let head =
        if products.filled == 0 { LANES } else { products.filled.next_multiple_of(LANES) - products.filled }.min(a.len());
    let whole = (a.len() - head) / LANES * LANES;
    let one_by_one = |products: &mut Lanes, factors: &mut Lanes, at: std::ops::Range<usize>| {
        let part = Strip { args: strip.args.map(|arg| &arg[at.start * size_of::<T>()..at.end * size_of::<T>()]), ..strip };
        fill_sum::<T>(products, Strip { ahead: [&[]; 2], ..part }, 0);
        fill_sum::<T>(factors, Strip::done(part.args[1]), 0);
    };
    one_by_one(products, factors, 0..head);
    vectorized(
        #[inline(always)]
        || {
            let [of_products, of_factors] = [&mut *products, &mut *factors].map(|lanes| &mut lanes.eights[0]);
            let read = |eight: &Eight| *from_bytes::<[f64; LANES]>(&cast_slice(eight)[..size_of::<[f64; LANES]>()]);
            let (mut x, mut y) = (read(of_products), read(of_factors));
            let (a, b) = (&a[head..][..whole], &b[head..][..whole]);
            let far: [&[u8]; 2] = [cast_slice(a), cast_slice(b)];
            for (k, (a, b)) in a.as_chunks::<LANES>().0.iter().zip(b.as_chunks::<LANES>().0).enumerate() {
                far.iter().for_each(|far| stream::prefetch_at(far, FAR + k * size_of::<[T; LANES]>()));
                <One<Sum<T>> as Fold>::put(&mut x, &eight_of(a, b, |a, b| a * b), 0);
                <One<Sum<T>> as Fold>::put(&mut y, b, 0);
            }
            cast_slice_mut(of_products)[..size_of::<[f64; LANES]>()].copy_from_slice(bytes_of(&x));
            cast_slice_mut(of_factors)[..size_of::<[f64; LANES]>()].copy_from_slice(bytes_of(&y));
        },
    );
    (products.filled, factors.filled) = (products.filled + whole, factors.filled + whole);
    one_by_one(products, factors, head + whole..a.len());
}

fn whole_sum<T: Summand>(strip: Strip<'_>) -> Words
where
    One<Sum<T>>: Singly<Item = T>,
{
    let mut lanes = Lanes::EMPTY;
    fill_sum::<T>(&mut lanes, strip, 0);
    finish::<One<Sum<T>>>(&lanes)
}

fn fill<F: Fold>(lanes: &mut Lanes, strip: Strip<'_>, at: u64) {
    let x: &[F::Item] = cast_slice(strip.bytes());
    vectorized(
        #[inline(always)]
        || F::fill(lanes, x, strip.ahead[0], at),
    );
}

/// What may be fetched while elements are taken in; of a line of which nobody says it, what comes some way behind them.
#[inline(always)]
fn or_far<'s, T: Pod>(x: &'s [T], ahead: &'s [u8]) -> Ahead<'s> {
    if ahead.is_empty() { (cast_slice(x), FAR) } else { (ahead, 0) }
}

/// What is fetched while elements are taken in: so many bytes from where this begins.
type Ahead<'s> = (&'s [u8], usize);

/// Bytes that are fetched ahead in a line: the CPU fetches by itself, but not as far. (Measured on Zen 5: 12 ms for 800 MB, 15.7 without.)
const FAR: usize = 4096;

#[inline(always)]
pub(super) fn fill_in_order<F: Singly>(lanes: &mut Lanes, x: &[F::Item], ahead: &[u8]) {
    fill_made::<F>(lanes, (x, x), [or_far(x, ahead), (&[], 0)], |x, _| x);
}

/// Takes in what is made of two elements each.
#[inline(always)]
fn fill_made<F: Singly>(
    lanes: &mut Lanes,
    (a, b): (&[F::Item], &[F::Item]),
    ahead: [Ahead<'_>; 2],
    f: impl Fn(F::Item, F::Item) -> F::Item + Copy,
) {
    assert_eq!(a.len(), b.len(), "two of each");
    let Lanes { eights, filled, .. } = lanes;
    let memory: &mut F::Lanes = from_bytes_mut(&mut cast_slice_mut(&mut eights[0])[..size_of::<F::Lanes>()]);
    let mut eight = *memory;
    let singly = |eight: &mut F::Lanes, a: &[F::Item], b: &[F::Item], filled: &mut usize| {
        for (&a, &b) in a.iter().zip(b) {
            match *filled < LANES {
                true => F::open_one(eight, *filled, f(a, b)),
                false => F::put_one(eight, *filled % LANES, f(a, b)),
            }
            *filled += 1;
        }
    };
    let head = a.len().min(filled.next_multiple_of(LANES) - *filled);
    singly(&mut eight, &a[..head], &b[..head], filled);
    let ((a, a_tail), (b, b_tail)) = (a[head..].as_chunks::<LANES>(), b[head..].as_chunks::<LANES>());
    let mut groups = a.iter().zip(b);
    if *filled == 0
        && let Some((a, b)) = groups.next()
    {
        eight = F::open(&eight_of(a, b, f), 0);
        *filled = LANES;
    }
    *filled += groups.len() * LANES;
    let [(one, far), (other, as_far)] = ahead;
    let (has_one, has_other) = (!one.is_empty(), !other.is_empty());
    for (k, (a, b)) in groups.enumerate() {
        let from = k * size_of::<[F::Item; LANES]>();
        if has_one {
            stream::prefetch_at(one, far + from);
        }
        if has_other {
            stream::prefetch_at(other, as_far + from);
        }
        F::put(&mut eight, &eight_of(a, b, f), 0);
    }
    singly(&mut eight, a_tail, b_tail, filled);
    *memory = eight;
}

#[inline(always)]
pub(super) fn fill_any<F: Singly>(lanes: &mut Lanes, x: &[F::Item], ahead: &[u8]) {
    let (ahead, far) = or_far(x, ahead);
    let (groups, tail) = x.as_chunks::<LANES>();
    let (quads, single) = groups.as_chunks::<WIDE>();
    let read = |eight: &Eight| *from_bytes::<F::Lanes>(&cast_slice(eight)[..size_of::<F::Lanes>()]);
    let [mut a, mut b, mut c, mut d] = [0, 1, 2, 3].map(|eight: usize| read(&lanes.eights[eight]));
    let mut quads = quads.iter();
    if lanes.filled == 0
        && let Some(first) = quads.next()
    {
        [a, b, c, d] = first.map(|group| F::open(&group, 0));
        lanes.filled = WIDE;
    }
    for (k, quad) in quads.enumerate() {
        let from = far + k * size_of::<[[F::Item; LANES]; WIDE]>();
        if !ahead.is_empty() {
            (0..size_of::<[[F::Item; LANES]; WIDE]>())
                .step_by(stream::LINE)
                .for_each(|line| stream::prefetch_at(ahead, from + line));
        }
        F::put(&mut a, &quad[0], 0);
        F::put(&mut b, &quad[1], 0);
        F::put(&mut c, &quad[2], 0);
        F::put(&mut d, &quad[3], 0);
    }
    for (memory, eight) in lanes.eights.iter_mut().zip([a, b, c, d]) {
        cast_slice_mut(memory)[..size_of::<F::Lanes>()].copy_from_slice(bytes_of(&eight));
    }
    for &x in single.as_flattened().iter().chain(tail) {
        let mut one = F::Lanes::zeroed();
        F::open_one(&mut one, 0, x);
        let one = F::close(&one, 0, 1);
        lanes.rest = Some(lanes.rest.map_or(one, |rest| F::join(rest, one)));
    }
}

/// What is made of eight elements each. (A loop, as what `from_fn` calls is not compiled for these vectors.)
#[inline(always)]
pub(super) fn eight_of<T: Copy>(a: &[T; LANES], b: &[T; LANES], f: impl Fn(T, T) -> T) -> [T; LANES] {
    let mut made = *a;
    for l in 0..LANES {
        made[l] = f(a[l], b[l]);
    }
    made
}

/// How many of so many elements are in a lane.
fn in_lane(filled: usize, lane: usize) -> u64 {
    ((filled + LANES - 1 - lane) / LANES) as u64
}

/// The result of eight lanes, of which the first `count` have any: lane `l` with lane `l + 4`, then 2, then 1.
#[inline(always)]
fn of_lanes<F: Fold>(count: usize, of: impl Fn(usize) -> Words) -> Words {
    let mut lanes = [F::EMPTY; LANES];
    for (lane, words) in lanes.iter_mut().enumerate().take(count) {
        *words = of(lane);
    }
    for apart in [4, 2, 1] {
        for lane in 0..apart.min(count.saturating_sub(apart)) {
            lanes[lane] = F::join(lanes[lane], lanes[lane + apart]);
        }
    }
    lanes[0]
}

fn finish<F: Fold>(lanes: &Lanes) -> Words {
    let of = |eight: &Eight, count: usize, elements: &dyn Fn(usize) -> u64| {
        let eight: &F::Lanes = from_bytes(&cast_slice(eight)[..size_of::<F::Lanes>()]);
        of_lanes::<F>(count, |lane| F::close(eight, lane, elements(lane)))
    };
    if F::IN_ORDER {
        return of(&lanes.eights[0], lanes.filled.min(LANES), &|lane| in_lane(lanes.filled, lane));
    }
    let opened = lanes.eights[..lanes.filled].iter().map(|eight| of(eight, LANES, &|_| 1));
    opened.chain(lanes.rest).reduce(F::join).unwrap_or(F::EMPTY)
}

fn whole<F: Fold>(strip: Strip<'_>) -> Words {
    let mut lanes = Lanes::EMPTY;
    fill::<F>(&mut lanes, strip, 0);
    finish::<F>(&lanes)
}

/// As [`of_lanes`], eight at once: what takes a division for each is computed with vectors.
fn finish_rows<F: Fold>(lanes: &[u64], apart: usize, filled: usize) -> Eight {
    let (rows, lanes): (_, &[F::Lanes]) = (if F::IN_ORDER { filled.min(LANES) } else { 1 }, cast_slice(lanes));
    let apart = apart * 8 / size_of::<F::Lanes>();
    let mut all = [[0; MOST_WORDS * LANES]; LANES];
    vectorized(
        #[inline(always)]
        || {
            for row in 0..rows {
                all[row] = F::close_eight(&lanes[row * apart], in_lane(filled, row));
            }
            for apart in [4, 2, 1] {
                for row in 0..apart.min(rows.saturating_sub(apart)) {
                    all[row] = F::join_eight(&all[row], &all[row + apart]);
                }
            }
        },
    );
    all[0]
}

fn join<F: Fold>(a: &mut [u64], b: &[u64], (apart, count): (usize, usize)) {
    for at in 0..count {
        let words =
            |of: &[u64]| -> Words { std::array::from_fn(|word| if word < F::WORDS { of[word * apart + at] } else { 0 }) };
        let joined = F::join(words(a), words(b));
        (0..F::WORDS).for_each(|word| a[word * apart + at] = joined[word]);
    }
}
