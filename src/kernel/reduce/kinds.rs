//! Each fold.
//!
//! Owns: what two values become, which of two is kept, how a variance is summed. Must not know: in which order elements come. Invariant: where they may come in any order, no
//! order changes the bits: of equal values, and of NaN, one is kept always.

use bytemuck::{Pod, bytes_of, cast_slice, cast_slice_mut};
use num_complex::Complex;

use super::folds::{Eight, Fold, LANES, Lanes, MOST_WORDS, Singly, WIDE, Words, fill_any, fill_in_order};
use crate::kernel::stream;

/// What is made of two values.
pub(super) trait OfTwo: 'static {
    type Item: Pod;
    type Value: Pod;
    /// The fold of values of 64 bits that joins results.
    type Wide: OfTwo;
    const IN_ORDER: bool;
    const EMPTY: Words;
    /// What an element counts as.
    fn value(x: Self::Item) -> Self::Value;
    /// A value as a result.
    fn result(x: Self::Value) -> <Self::Wide as OfTwo>::Item;
    fn of(a: Self::Value, b: Self::Value) -> Self::Value;
}

/// A value in words.
#[inline(always)]
fn to_words<T: Pod>(x: T) -> Words {
    let mut words = [0; MOST_WORDS];
    cast_slice_mut(&mut words)[..size_of::<T>()].copy_from_slice(bytes_of(&x));
    words
}

#[inline(always)]
fn from_words<T: Pod>(words: Words) -> T {
    bytemuck::pod_read_unaligned(&cast_slice(&words)[..size_of::<T>()])
}

/// The fold whose result is one value, made of elements two by two.
pub(super) struct One<P>(std::marker::PhantomData<P>);

impl<P: OfTwo> Fold for One<P> {
    type Item = P::Item;
    type Lanes = [P::Value; LANES];
    const WORDS: usize = size_of::<<P::Wide as OfTwo>::Item>() / 8;
    const IN_ORDER: bool = P::IN_ORDER;
    const EMPTY: Words = P::EMPTY;

    #[inline(always)]
    fn fill(lanes: &mut Lanes, x: &[P::Item], ahead: &[u8], _: u64) {
        if P::IN_ORDER { fill_in_order::<Self>(lanes, x, ahead) } else { fill_any::<Self>(lanes, x, ahead) }
    }
    #[inline(always)]
    fn open(x: &[P::Item; LANES], _: u64) -> Self::Lanes {
        x.map(P::value)
    }
    #[inline(always)]
    fn put(eight: &mut Self::Lanes, x: &[P::Item; LANES], _: u64) {
        for l in 0..LANES {
            eight[l] = P::of(eight[l], P::value(x[l]));
        }
    }
    #[inline(always)]
    fn close(eight: &Self::Lanes, lane: usize, _: u64) -> Words {
        to_words(P::result(eight[lane]))
    }
    #[inline(always)]
    fn join(a: Words, b: Words) -> Words {
        let [a, b] = [a, b].map(|words| P::Wide::value(from_words(words)));
        to_words(P::Wide::result(P::Wide::of(a, b)))
    }
}

impl<P: OfTwo> Singly for One<P> {
    #[inline(always)]
    fn open_one(eight: &mut Self::Lanes, lane: usize, x: P::Item) {
        eight[lane] = P::value(x);
    }
    #[inline(always)]
    fn put_one(eight: &mut Self::Lanes, lane: usize, x: P::Item) {
        eight[lane] = P::of(eight[lane], P::value(x));
    }
}

/// The sum: of floats in `f64`, of integers modulo 2^64.
pub(super) struct Sum<T>(std::marker::PhantomData<T>);
/// The product, likewise.
pub(super) struct Prod<T>(std::marker::PhantomData<T>);
/// The lowest; of floats NaN, if there is one.
pub(super) struct Lowest<T>(std::marker::PhantomData<T>);
/// The highest; of floats NaN, if there is one.
pub(super) struct Highest<T>(std::marker::PhantomData<T>);
/// The lowest that is not NaN, if there is one.
pub(super) struct LowestNumber;
/// The highest that is not NaN, if there is one.
pub(super) struct HighestNumber;

macro_rules! pairs {
    ($($fold:ty: $item:ty => $value:ty, $wide:ty, $in_order:literal, $empty:expr, ($into:expr, $out:expr), $of:expr;)*) => {$(
        impl OfTwo for $fold {
            type Item = $item;
            type Value = $value;
            type Wide = $wide;
            const IN_ORDER: bool = $in_order;
            const EMPTY: Words = [$empty, 0, 0];
            #[inline(always)]
            fn value(x: $item) -> $value {
                $into(x)
            }
            #[inline(always)]
            fn result(x: $value) -> <$wide as OfTwo>::Item {
                $out(x)
            }
            #[inline(always)]
            fn of(a: $value, b: $value) -> $value {
                $of(a, b)
            }
        }
    )*};
}

/// The bits of 1.0.
const ONE: u64 = 1f64.to_bits();
/// What is chosen of no element is not asked for, but by `any` and `all`.
const ALL: u64 = 1;
const ANY: u64 = 0;

/// The lower of two floats, or NaN if one is; -0 is lower than 0. Two instructions that differ only in which of equal ones, or of NaN and another, they keep: of both answers
/// the bits are joined. (Bits of NaN stay those of NaN.)
macro_rules! lower {
    ($t:ty) => {
        |a: $t, b: $t| {
            let (first, second) = (if a < b { a } else { b }, if b < a { b } else { a });
            <$t>::from_bits(first.to_bits() | second.to_bits())
        }
    };
}

/// The lower of two floats, or the one that is not NaN; -0 is lower than 0.
fn lower_number(a: f64, b: f64) -> f64 {
    let equal = f64::from_bits(a.to_bits() | b.to_bits());
    let other = if b < a || a.is_nan() { b } else { a };
    if a == b { equal } else { other }
}

/// All NaN are one.
#[inline(always)]
fn one_nan(x: f64) -> f64 {
    if x.is_nan() { f64::NAN } else { x }
}

pairs! {
    Sum<i64>: i64 => i64, Self, false, 0, (|x| x, |x| x), i64::wrapping_add;
    Sum<f64>: f64 => f64, Self, true, 0, (|x| x, |x| x), |a, b| a + b;
    Sum<f32>: f32 => f64, Sum<f64>, true, 0, (f64::from, |x| x), |a, b| a + b;
    Sum<Complex<f64>>: Complex<f64> => Complex<f64>, Self, true, 0, (|x| x, |x| x), |a, b| a + b;
    Prod<i64>: i64 => i64, Self, false, 1, (|x| x, |x| x), i64::wrapping_mul;
    Prod<f64>: f64 => f64, Self, true, ONE, (|x| x, |x| x), |a, b| a * b;
    Prod<Complex<f64>>: Complex<f64> => Complex<f64>, Self, true, ONE, (|x| x, |x| x), |a, b| a * b;
    Lowest<i64>: i64 => i64, Self, false, 0, (|x| x, |x| x), i64::min;
    Lowest<u64>: u64 => u64, Self, false, ALL, (|x| x, |x| x), u64::min;
    Lowest<f64>: f64 => f64, Self, false, 0, (|x| x, one_nan), lower!(f64);
    Lowest<f32>: f32 => f32, Lowest<f64>, false, 0, (|x| x, |x| one_nan(f64::from(x))), lower!(f32);
    Highest<i64>: i64 => i64, Self, false, 0, (|x| x, |x| x), i64::max;
    Highest<u64>: u64 => u64, Self, false, ANY, (|x| x, |x| x), u64::max;
    // The lowest of the negated ones.
    Highest<f64>: f64 => f64, Self, false, 0, (|x: f64| -x, |x: f64| one_nan(-x)), lower!(f64);
    Highest<f32>: f32 => f32, Highest<f64>, false, 0, (|x: f32| -x, |x: f32| one_nan(-f64::from(x))), lower!(f32);
    LowestNumber: f64 => f64, Self, false, 0, (|x| x, one_nan), lower_number;
    HighestNumber: f64 => f64, Self, false, 0, (|x: f64| -x, |x: f64| one_nan(-x)), lower_number;
}

/// Which of two elements of 64 bits is kept.
pub(super) trait Prefers: OfTwo<Wide = Self, Item: PartialEq> {
    /// Whether `x` is kept though `than` came first.
    fn is_better(x: Self::Item, than: Self::Item) -> bool;
    /// Whether it is NaN.
    fn is_nan(x: Self::Item) -> bool;
}

macro_rules! orders {
    ($($fold:ty: $t:ty, $is:expr, $nan:expr;)*) => {$(
        impl Prefers for $fold {
            #[inline(always)]
            #[allow(clippy::neg_cmp_op_on_partial_ord, reason = "what is not higher is lower, or NaN: one instruction")]
            fn is_better(x: $t, than: $t) -> bool {
                $is(x, than)
            }
            #[inline(always)]
            fn is_nan(x: $t) -> bool {
                $nan(x)
            }
        }
    )*};
}
orders! {
    Lowest<i64>: i64, |x, than| x < than, |_| false;
    Lowest<u64>: u64, |x, than| x < than, |_| false;
    Lowest<f64>: f64, |x: f64, than: f64| !(x >= than) & !than.is_nan(), f64::is_nan;
    Highest<i64>: i64, |x, than| x > than, |_| false;
    Highest<u64>: u64, |x, than| x > than, |_| false;
    Highest<f64>: f64, |x: f64, than: f64| !(x <= than) & !than.is_nan(), f64::is_nan;
}

/// The number of the first element that is kept: the element, and its number.
pub(super) struct Place<P>(std::marker::PhantomData<P>);

/// Elements of which one is looked for at once.
const LOOK: usize = 1024;

impl<P: Prefers> Fold for Place<P> {
    type Item = P::Item;
    /// Elements as words, and their numbers.
    type Lanes = [[u64; LANES]; 2];
    const WORDS: usize = 2;
    const IN_ORDER: bool = false;
    const EMPTY: Words = [0; MOST_WORDS];

    /// A few elements are folded to the one that is kept. Only if that is better than what there was, it is looked for.
    #[inline(always)]
    fn fill(lanes: &mut Lanes, x: &[P::Item], ahead: &[u8], at: u64) {
        for (piece, x) in x.chunks(LOOK).enumerate() {
            let mut values = [P::value(x[0]); LANES * WIDE];
            let (groups, tail) = x.as_chunks::<{ LANES * WIDE }>();
            for (k, group) in groups.iter().enumerate() {
                if !ahead.is_empty() {
                    let from = size_of_val(group) * k + size_of::<P::Item>() * LOOK * piece;
                    (0..size_of_val(group)).step_by(stream::LINE).for_each(|line| stream::prefetch_at(ahead, from + line));
                }
                for l in 0..LANES * WIDE {
                    values[l] = P::of(values[l], P::value(group[l]));
                }
            }
            let tail = tail.iter().map(|&x| P::value(x));
            let kept = P::result(values.into_iter().chain(tail).reduce(P::of).expect("there are values"));
            if lanes.rest.is_none_or(|rest| P::is_better(kept, from_words(rest))) {
                let is_it = |x: &P::Item| *x == kept || P::is_nan(kept) && P::is_nan(*x);
                let number = x.iter().position(is_it).expect("it is one of them");
                let [word, ..] = to_words(kept);
                lanes.rest = Some([word, at + (piece * LOOK + number) as u64, 0]);
            }
        }
    }
    #[inline(always)]
    fn open(x: &[P::Item; LANES], at: u64) -> Self::Lanes {
        [x.map(|x| to_words(x)[0]), [at; LANES]]
    }
    #[inline(always)]
    fn put(eight: &mut Self::Lanes, x: &[P::Item; LANES], at: u64) {
        for l in 0..LANES {
            let better = P::is_better(x[l], from_words([eight[0][l], 0, 0]));
            eight[0][l] = if better { to_words(x[l])[0] } else { eight[0][l] };
            eight[1][l] = if better { at } else { eight[1][l] };
        }
    }
    #[inline(always)]
    fn close(eight: &Self::Lanes, lane: usize, _: u64) -> Words {
        [eight[0][lane], eight[1][lane], 0]
    }
    #[inline(always)]
    fn join(a: Words, b: Words) -> Words {
        let [x, y] = [a, b].map(from_words::<P::Item>);
        let is_b = P::is_better(y, x) || !P::is_better(x, y) && b[1] < a[1];
        if is_b { b } else { a }
    }
}

/// How many elements there are, their mean, and the sum of the squares of their distances from it.
///
/// A lane sums `x - c` and `(x - c)^2`, `c` being its first element in the block. That loses little whatever the numbers are: `c` is one of the `n` of which it is the
/// distances, so `(c - mean)^2` is at most `n - 1` times their variance (Samuelson's inequality), and `n` is at most 128. Lanes and blocks are joined as Chan, Golub and
/// LeVeque (1979) do.
pub(super) struct Moments<T>(std::marker::PhantomData<T>);

impl<T: Pod + Into<f64>> Fold for Moments<T> {
    type Item = T;
    /// First elements, sums, sums of squares.
    type Lanes = [[f64; LANES]; 3];
    const WORDS: usize = 3;
    const IN_ORDER: bool = true;
    const EMPTY: Words = [0; MOST_WORDS];

    #[inline(always)]
    fn fill(lanes: &mut Lanes, x: &[T], ahead: &[u8], _: u64) {
        fill_in_order::<Self>(lanes, x, ahead);
    }
    #[inline(always)]
    fn open(x: &[T; LANES], _: u64) -> Self::Lanes {
        [x.map(T::into), [0.0; LANES], [0.0; LANES]]
    }
    #[inline(always)]
    fn put(eight: &mut Self::Lanes, x: &[T; LANES], _: u64) {
        for l in 0..LANES {
            let d = x[l].into() - eight[0][l];
            eight[1][l] += d;
            eight[2][l] += d * d;
        }
    }
    #[inline(always)]
    fn close(eight: &Self::Lanes, lane: usize, count: u64) -> Words {
        let (n, [c, sum, squares]) = (count as f64, [eight[0][lane], eight[1][lane], eight[2][lane]]);
        if count == 0 {
            return Self::EMPTY;
        }
        let mean = sum / n;
        // Of what is infinite or NaN there is none; of what is very far apart, it is infinite.
        let rest = if squares.is_infinite() && sum.is_finite() { squares } else { squares - sum * mean } + c * 0.0;
        [n, c + mean, if rest < 0.0 { 0.0 } else { rest }].map(f64::to_bits)
    }
    #[inline(always)]
    fn close_eight(eight: &Self::Lanes, count: u64) -> Eight {
        let (n, [c, sum, squares]) = (count as f64, eight);
        let mut all = [0; MOST_WORDS * LANES];
        for l in 0..LANES {
            let mean = sum[l] / n;
            let is_far = (squares[l].abs() == f64::INFINITY) & (sum[l].abs() < f64::INFINITY);
            let rest = if is_far { squares[l] } else { squares[l] - sum[l] * mean } + c[l] * 0.0;
            let rest = if rest < 0.0 { 0.0 } else { rest };
            (all[l], all[LANES + l], all[2 * LANES + l]) = (n.to_bits(), (c[l] + mean).to_bits(), rest.to_bits());
        }
        all
    }
    #[inline(always)]
    fn join_eight(a: &Eight, b: &Eight) -> Eight {
        let mut all = [0; MOST_WORDS * LANES];
        for l in 0..LANES {
            let at = |of: &Eight, word: usize| f64::from_bits(of[word * LANES + l]);
            let (x, y) = ([at(a, 0), at(a, 1), at(a, 2)], [at(b, 0), at(b, 1), at(b, 2)]);
            let n = x[0] + y[0];
            let (d, part) = (y[1] - x[1], y[0] / n);
            let joined = [n, x[1] + d * part, x[2] + y[2] + d * d * (x[0] * part)];
            for word in 0..3 {
                let kept = if y[0] == 0.0 { x[word] } else { joined[word] };
                all[word * LANES + l] = if x[0] == 0.0 { y[word] } else { kept }.to_bits();
            }
        }
        all
    }
    #[inline(always)]
    fn join(a: Words, b: Words) -> Words {
        let [x, y] = [a, b].map(|words| words.map(f64::from_bits));
        if x[0] == 0.0 || y[0] == 0.0 {
            return if x[0] == 0.0 { b } else { a };
        }
        let n = x[0] + y[0];
        let (d, part) = (y[1] - x[1], y[0] / n);
        [n, x[1] + d * part, x[2] + y[2] + d * d * (x[0] * part)].map(f64::to_bits)
    }
}

impl<T: Pod + Into<f64>> Singly for Moments<T> {
    #[inline(always)]
    fn open_one(eight: &mut Self::Lanes, lane: usize, x: T) {
        (eight[0][lane], eight[1][lane], eight[2][lane]) = (x.into(), 0.0, 0.0);
    }
    #[inline(always)]
    fn put_one(eight: &mut Self::Lanes, lane: usize, x: T) {
        let d = x.into() - eight[0][lane];
        eight[1][lane] += d;
        eight[2][lane] += d * d;
    }
}
