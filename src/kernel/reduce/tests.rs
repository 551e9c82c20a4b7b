//! What holds of every reduction: its elements one by one, in every layout, in parts.
//!
//! Owns: elements reduced in another way. Must not know: lanes, runs. Invariant: what is exact is compared to the bit, sums in `f64` within the bound that is stated.

use num_complex::Complex;
use proptest::prelude::*;

use super::*;
use crate::kernel::map::{ScalarOp, Value};
use crate::kernel::testing::Chunk;
use crate::shape::{Element, Scalar};

/// Numbers that are decided by a seed: many equal ones, and of floats some that are none.
fn number(seed: u64, at: usize, has_nan: bool) -> f64 {
    let bits = (seed ^ at as u64).wrapping_mul(0x9e37_79b9_7f4a_7c15);
    let bits = (bits ^ bits >> 29).wrapping_mul(0xbf58_476d_1ce4_e5b9);
    let value = (bits >> 40) as f64 / 65536.0 - 100.0;
    match bits % 64 {
        0 if has_nan => f64::NAN,
        1 => -0.0,
        2 => 0.0,
        3..10 => (bits >> 61) as f64 - 3.0,
        _ => value,
    }
}

/// The elements of each result, with their numbers, in C order of the reduced axes.
fn groups(shape: &[usize], axes: &[usize]) -> Vec<Vec<usize>> {
    let kept: Vec<usize> = (0..shape.len()).filter(|axis| !axes.contains(axis)).collect();
    let count: usize = kept.iter().map(|&axis| shape[axis]).product();
    let mut groups = vec![Vec::new(); count];
    for at in 0..shape.iter().product::<usize>() {
        let (mut rest, mut index) = (at, vec![0; shape.len()]);
        for axis in (0..shape.len()).rev() {
            index[axis] = rest % shape[axis];
            rest /= shape[axis];
        }
        groups[kept.iter().fold(0, |number, &axis| number * shape[axis] + index[axis])].push(at);
    }
    groups
}

/// What a reduction makes of these, and how far from it a result may be.
fn wanted(what: Reduction, x: &[f64]) -> (f64, f64) {
    let unit = f64::EPSILON / 2.0;
    let n = x.len() as f64;
    let has_nan = x.iter().any(|x| x.is_nan());
    let first = |is: &dyn Fn(f64, f64) -> bool| {
        let nan = x.iter().position(|x| x.is_nan());
        nan.unwrap_or_else(|| (1..x.len()).fold(0, |best, at| if is(x[at], x[best]) { at } else { best })) as f64
    };
    match what {
        Reduction::Sum => (x.iter().sum(), (n + 8.0) * unit * x.iter().map(|x| x.abs()).sum::<f64>()),
        Reduction::Prod => {
            let product: f64 = x.iter().product();
            (product, 2.0 * n * unit * product.abs())
        }
        Reduction::Min if has_nan => (f64::NAN, 0.0),
        Reduction::Max if has_nan => (f64::NAN, 0.0),
        Reduction::Min | Reduction::FMin => (x.iter().copied().fold(f64::NAN, f64::min), 0.0),
        Reduction::Max | Reduction::FMax => (x.iter().copied().fold(f64::NAN, f64::max), 0.0),
        Reduction::ArgMin => (first(&|a, b| a < b), 0.0),
        Reduction::ArgMax => (first(&|a, b| a > b), 0.0),
        Reduction::Moments if n == 0.0 => (0.0, 0.0),
        Reduction::Moments => {
            let mean = x.iter().sum::<f64>() / n;
            let all = x.iter().map(|x| (x - mean) * (x - mean)).sum::<f64>();
            (all, 1e-12 * (all + 1.0))
        }
    }
}

const ALL: [Reduction; 9] = [
    Reduction::Sum,
    Reduction::Prod,
    Reduction::Min,
    Reduction::Max,
    Reduction::FMin,
    Reduction::FMax,
    Reduction::ArgMin,
    Reduction::ArgMax,
    Reduction::Moments,
];

/// What a kernel makes, as it comes.
fn run<U: Element>(kernel: &ReduceChunk, params: &[u8], inputs: &[ChunkView<'_>], shape: &[usize]) -> Vec<U> {
    let mut out = Chunk::filled(shape, U::default());
    out.compute(kernel, params, inputs);
    out.data
}

/// The results of a chunk, as numbers.
fn results(what: Reduction, dtype: DType, axes: (&[usize], &[usize]), chunk: ChunkView<'_>) -> Vec<f64> {
    let kernel = ReduceChunk::plain(what, axes, dtype).finishing(None);
    let kept = kernel.kept(chunk.shape());
    let params: Vec<u8> = if what.is_numbered() { vec![0; 8 * axes.0.len()] } else { Vec::new() };
    macro_rules! of {
        ($($d:ident $t:ty),*) => {
            match what.gives(what.reads(dtype)) {
                $(DType::$d => run::<$t>(&kernel, &params, &[chunk], &kept).into_iter().map(|x| Scalar::from(x).to_f64()).collect(),)*
                dtype => unreachable!("{dtype}"),
            }
        };
    }
    of!(I64 i64, U64 u64, F64 f64)
}

/// A chunk whose axes lie in another order, forwards or backwards, perhaps with gaps.
fn lying<T: Element>(shape: &[usize], order: usize, flip: usize, of: impl Fn(usize) -> T) -> Chunk<T> {
    {
        let mut axes: Vec<usize> = (0..shape.len()).collect();
        if !axes.is_empty() {
            axes.rotate_left(order % shape.len());
            if order / 4 % 2 == 1 {
                axes.reverse();
            }
        }
        let (mut strides, mut step, mut first) = (vec![0isize; shape.len()], 1 + (order / 8 % 2) as isize, 0);
        for &axis in axes.iter().rev() {
            strides[axis] = step;
            step *= shape[axis].max(1) as isize;
            if flip >> axis & 1 == 1 {
                first += strides[axis].unsigned_abs() * shape[axis].saturating_sub(1);
                strides[axis] = -strides[axis];
            }
        }
        let layout = Layout { dtype: T::DTYPE, shape: shape.to_vec(), strides };
        let mut data = vec![T::default(); step as usize + 1];
        let count: usize = shape.iter().product();
        for at in 0..count {
            let (mut rest, mut place) = (at, first as isize);
            for axis in (0..shape.len()).rev() {
                place += (rest % shape[axis]) as isize * layout.strides[axis];
                rest /= shape[axis];
            }
            data[place as usize] = of(at);
        }
        Chunk { data, first, layout }
    }
}

fn agrees<T: Element + Into<Scalar>>(
    shape: &[usize],
    axes: &[usize],
    (what, seed, order, flip): (Reduction, u64, usize, usize),
    of: impl Fn(f64) -> T,
) -> std::result::Result<(), TestCaseError> {
    let dtype = T::DTYPE;
    if matches!(what, Reduction::FMin | Reduction::FMax) && !dtype.is_float() {
        return Ok(());
    }
    let element = |at: usize| of(number(seed, at, dtype.is_float() && seed % 3 == 0));
    let seen = lying(shape, order, flip, element);
    let plain = Chunk::new(shape, (0..shape.iter().product()).map(element).collect());
    let extents: Vec<usize> = axes.iter().map(|&axis| shape[axis]).collect();
    let found = results(what, dtype, (axes, &extents), seen.view());
    let again = results(what, dtype, (axes, &extents), plain.view());
    let text = |all: &[f64]| all.iter().map(|x| format!("{x:?}")).collect::<Vec<_>>();
    prop_assert_eq!(text(&found), text(&again), "{:?} of {} by strides {:?}", what, dtype, &seen.layout.strides);
    let numbers: Vec<f64> = plain.data.iter().map(|&x| x.into().to_f64()).collect();
    for (found, group) in found.iter().zip(groups(shape, axes)) {
        let x: Vec<f64> = group.iter().map(|&at| numbers[at]).collect();
        if x.is_empty() && !matches!(what, Reduction::Sum | Reduction::Prod | Reduction::Moments) {
            continue;
        }
        let (wanted, bound) = wanted(what, &x);
        let is_near = (found - wanted).abs() <= bound || found.is_nan() && wanted.is_nan() || *found == wanted;
        let too_large = what == Reduction::Prod && !dtype.is_float();
        prop_assert!(is_near || too_large, "{:?} of {}: {} not {}", what, dtype, found, wanted);
    }
    Ok(())
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 300, failure_persistence: None, ..ProptestConfig::default() })]

    #[test]
    fn each_gives_what_its_elements_give_in_any_layout(
        shape in prop_oneof![
            prop::collection::vec(prop_oneof![8 => 1usize..9, 1 => Just(0)], 0..5),
            prop::collection::vec(60usize..90, 1..3),
            Just(vec![3, 2600]), Just(vec![2600, 3]), Just(vec![70, 300]), Just(vec![300, 70]), Just(vec![1100, 9, 4]), Just(vec![5, 70, 17]),
        ],
        mask in 0usize..16,
        what in 0usize..9,
        seed in any::<u64>(),
        order in 0usize..16,
        flip in 0usize..16,
    ) {
        let axes: Vec<usize> = (0..shape.len()).filter(|axis| mask >> axis & 1 == 1).collect();
        let how = (ALL[what], seed, order, flip);
        agrees(&shape, &axes, how, |x| x)?;
        agrees(&shape, &axes, how, |x| x as f32)?;
        agrees(&shape, &axes, how, |x| x as i64)?;
        agrees(&shape, &axes, how, |x| x as i32)?;
        agrees(&shape, &axes, how, |x| x.abs() as u64)?;
        agrees(&shape, &axes, how, |x| x.abs() as u32)?;
        agrees(&shape, &axes, how, |x| x.abs() as u8)?;
        agrees(&shape, &axes, how, |x| x > 3.0)?;
    }
}

/// The program of one of the operations that a sum does itself, or of one that it does not, on elements of a dtype; the second operand may be a constant.
fn last(dtype: DType, number: usize, constant: Option<f64>) -> Arc<ScalarProgram> {
    let mut builder = Builder::new();
    let a = builder.input(dtype);
    let b = match constant {
        Some(value) if dtype == DType::F32 => builder.constant(Scalar::F32(value as f32)),
        Some(value) => builder.constant(Scalar::F64(value)),
        None => builder.input(dtype),
    };
    let made = match number {
        0 => builder.apply(ScalarOp::Add, &[a, b]),
        1 => builder.apply(ScalarOp::Sub, &[a, b]),
        2 => builder.apply(ScalarOp::Mul, &[a, b]),
        3 => {
            let d = builder.apply(ScalarOp::Sub, &[a, b]);
            builder.apply(ScalarOp::Mul, &[d, d])
        }
        4 => {
            let product = builder.apply(ScalarOp::Mul, &[a, b]);
            let root = builder.apply(ScalarOp::Abs, &[product]);
            builder.apply(ScalarOp::Sub, &[root, a])
        }
        _ => builder.apply(ScalarOp::Div, &[a, b]),
    };
    Arc::new(builder.finish(made).0)
}

/// A program that is reduced as it is computed gives what is reduced once it is there, to the bit.
fn fuses<T: Element + Into<Scalar>>(
    shape: &[usize],
    axes: &[usize],
    (what, number, constant): (Reduction, usize, Option<f64>),
    (seed, orders): (u64, [usize; 2]),
    of: impl Fn(f64) -> T,
) -> std::result::Result<(), TestCaseError> {
    let program = last(T::DTYPE, number, constant);
    let extents: Vec<usize> = axes.iter().map(|&axis| shape[axis]).collect();
    let chunks = orders.map(|order| lying(shape, order, order / 3, |at| of(number_of(seed ^ order as u64, at))));
    let views: Vec<ChunkView<'_>> = chunks.iter().map(Chunk::view).take(program.inputs().len()).collect();
    let mut made = Chunk::filled(shape, T::default());
    made.compute(&crate::kernel::map::Elementwise::new(program.clone()), &[], &views);
    let reduced = |program, views: &[ChunkView<'_>]| {
        let kernel = ReduceChunk::new(what, (axes, &extents), program).finishing(None);
        run::<f64>(&kernel, &[], views, &kernel.kept(shape)).iter().map(|x| x.to_bits()).collect::<Vec<_>>()
    };
    let mut as_it_is = Builder::new();
    let input = as_it_is.input(T::DTYPE);
    let wanted = reduced(Arc::new(as_it_is.finish(input).0), &[made.view()]);
    prop_assert_eq!(reduced(program, &views), wanted, "{:?} of {} {:?}", what, number, constant);
    Ok(())
}

/// Numbers of which none is NaN.
fn number_of(seed: u64, at: usize) -> f64 {
    number(seed, at, false)
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 300, failure_persistence: None, ..ProptestConfig::default() })]

    #[test]
    fn what_is_computed_on_the_way_is_what_is_computed_before(
        shape in prop_oneof![
            prop::collection::vec(1usize..9, 1..4),
            prop::collection::vec(60usize..100, 2),
            Just(vec![64, 300]), Just(vec![300, 64]), Just(vec![1024, 70]), Just(vec![2, 64, 65]), Just(vec![1060, 130]), Just(vec![3, 9000]),
        ],
        mask in 1usize..8,
        which in 0usize..4,
        number in 0usize..6,
        constant in prop_oneof![Just(None), Just(Some(0.3))],
        seed in any::<u64>(),
        orders in [0usize..16, 0usize..16],
    ) {
        let axes: Vec<usize> = (0..shape.len()).filter(|axis| mask >> axis & 1 == 1).collect();
        let what = [Reduction::Sum, Reduction::Min, Reduction::Moments, Reduction::Max][which];
        fuses(&shape, &axes, (what, number, constant), (seed, orders), |x| x)?;
        fuses(&shape, &axes, (what, number, constant), (seed, orders), |x| x as f32)?;
    }
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 200, failure_persistence: None, ..ProptestConfig::default() })]

    /// Products and their second factors, which are summed at once, have the sums that each has alone.
    #[test]
    fn sums_of_both_are_those_of_each(
        shape in prop_oneof![
            prop::collection::vec(1usize..9, 1..4),
            Just(vec![1]), Just(vec![7]), Just(vec![3000]), Just(vec![2, 1024]), Just(vec![40, 1500]), Just(vec![70, 64, 3]), Just(vec![5, 2049]),
        ],
        mask in 1usize..8,
        is_swapped in any::<bool>(),
        seed in any::<u64>(),
        orders in [0usize..16, 0usize..16],
    ) {
        let axes: Vec<usize> = (0..shape.len()).filter(|axis| mask >> axis & 1 == 1).collect();
        let extents: Vec<usize> = axes.iter().map(|&axis| shape[axis]).collect();
        let chunks = orders.map(|order| lying(&shape, order, order / 3, |at| number_of(seed ^ order as u64, at)));
        let views = chunks.each_ref().map(Chunk::view);
        let of = |make: &dyn Fn(&mut Builder, [Value; 2]) -> Value, used: usize| {
            let mut builder = Builder::new();
            let inputs = [0, 1].map(|_| builder.input(DType::F64));
            let made = make(&mut builder, inputs);
            let (program, inputs) = builder.finish(made);
            assert_eq!(inputs.len(), used);
            let views: Vec<ChunkView<'_>> = inputs.iter().map(|&input| views[input]).collect();
            (ReduceChunk::new(Reduction::Sum, (&axes, &extents), Arc::new(program)).finishing(None), views)
        };
        let product = |builder: &mut Builder, [a, b]: [Value; 2]| {
            builder.apply(ScalarOp::Mul, &if is_swapped { [b, a] } else { [a, b] })
        };
        let (both, all) = of(&|builder, inputs| {
            let made = product(builder, inputs);
            builder.apply(ScalarOp::Compose, &[made, inputs[1]])
        }, 2);
        let kept = both.kept(&shape);
        let found = run::<Complex<f64>>(&both, &[], &all, &kept);
        let (products, all) = of(&product, 2);
        let products = run::<f64>(&products, &[], &all, &kept);
        let (factors, second) = of(&|_, [_, b]| b, 1);
        let factors = run::<f64>(&factors, &[], &second, &kept);
        let text = |re: f64, im: f64| format!("{re:?} {im:?}");
        let wanted: Vec<String> = products.iter().zip(&factors).map(|(&re, &im)| text(re, im)).collect();
        prop_assert_eq!(found.iter().map(|z| text(z.re, z.im)).collect::<Vec<_>>(), wanted);
    }
}

#[test]
fn only_what_is_summed_as_it_is_is_scanned() {
    let cast = |from, through: &[DType]| {
        let mut builder = Builder::new();
        let input = builder.input(from);
        let made = through.iter().fold(input, |made, &to| builder.cast(made, to));
        Arc::new(builder.finish(made).0)
    };
    let f64s = |from, through| cast(from, through).is_in_f64();
    assert!(f64s(DType::F32, &[DType::F64]) && f64s(DType::I32, &[DType::F64]) && f64s(DType::F16, &[DType::F32, DType::F64]));
    assert!(!f64s(DType::I32, &[DType::F32, DType::F64]) && !f64s(DType::I64, &[]));
}

#[test]
fn variances_of_what_is_far_apart_are_infinite_and_of_the_infinite_nan() {
    let var = |x: Vec<f64>| results(Reduction::Moments, DType::F64, (&[0], &[x.len()]), Chunk::new(&[x.len()], x).view())[0];
    let far = |n: usize| (0..n).map(|i| if i < n / 2 { 1e200 } else { -1e200 }).collect::<Vec<_>>();
    for n in [2, 8, 16, 100, 3000] {
        assert_eq!(var(far(n)), f64::INFINITY, "{n}");
        let mut one = vec![1.0; n];
        one[n - 1] = f64::INFINITY;
        assert!(var(one).is_nan(), "{n}");
    }
}
