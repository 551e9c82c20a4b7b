//! What holds of every operation: its elements, on every instruction set, in every layout.
//!
//! Owns: elements computed one by one, in another way. Must not know: loops, strips. Invariant: what is exact is compared to the bit; functions are measured elsewhere
//! (`math`), here they are the same everywhere.

use fearless_simd::Level;
use proptest::prelude::*;

use super::table::{Gives, TABLE};
use super::*;
use crate::kernel::simd::levels;
use crate::kernel::testing::{AnyChunk, Chunk};
use crate::shape::{Layout, Scalar, with_dtype};

/// The program of one operation.
fn one(op: ScalarOp, dtypes: &[DType]) -> Elementwise {
    let mut b = Builder::new();
    let args: Vec<Value> = dtypes.iter().map(|&dtype| b.input(dtype)).collect();
    let made = b.apply(op, &args);
    Elementwise::new(Arc::new(b.finish(made).0))
}

/// Where the elements of a layout lie, in C order.
fn places(layout: &Layout) -> Vec<usize> {
    let first = layout.reach().unwrap().0 as isize;
    let mut all = vec![first];
    for (&n, &step) in layout.shape.iter().zip(&layout.strides) {
        all = all.iter().flat_map(|at| (0..n as isize).map(move |i| at + i * step)).collect();
    }
    all.into_iter().map(|at| at as usize).collect()
}

/// A chunk with these elements (again and again, if there are more places) by this layout.
fn chunk(scalars: &[Scalar], layout: Layout) -> Box<dyn AnyChunk> {
    let (first, from) = layout.reach().unwrap();
    with_dtype!(layout.dtype, T => {
        let mut data = vec![T::default(); first + from];
        for (place, scalar) in places(&layout).into_iter().zip(scalars.iter().cycle()) {
            data[place] = scalar.get::<T>().unwrap();
        }
        Box::new(Chunk { data, first, layout })
    })
}

/// What a kernel makes of chunks, in C order.
fn run(map: &Elementwise, level: Level, inputs: &[ChunkView<'_>], layout: &Layout) -> Vec<Scalar> {
    let metas: Vec<ChunkMeta<'_>> = inputs
        .iter()
        .map(|input| ChunkMeta::new(input.layout().dtype, input.shape()))
        .chain([ChunkMeta::new(layout.dtype, &layout.shape)])
        .collect();
    let mut scratch = vec![0xffu8; map.scratch_bytes(&[], &metas) as usize];
    let (before, from) = layout.reach().unwrap();
    with_dtype!(layout.dtype, T => {
        let mut data = vec![T::default(); before + from];
        let mut out = ChunkViewMut::from_slice_at(&mut data, before, layout);
        map.run_on(level, (&[], inputs), &mut out, &mut Scratch::new(&mut scratch));
        places(layout).into_iter().map(|place| data[place].into()).collect()
    })
}

/// Elements of a dtype: edges, then numbers of all sizes.
fn elements(dtype: DType, count: usize, seed: u64) -> Vec<Scalar> {
    let mut state = seed | 1;
    let mut next = || {
        state = state.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
        state >> 11 ^ state << 40
    };
    let edges = [0.0, -0.0, 1.0, -1.0, 0.5, -2.5, 3.0, f64::INFINITY, f64::NEG_INFINITY, f64::NAN, 5e-324, 1e-310, 1e300, -7e9];
    (0..count)
        .map(|at| {
            let bits = next();
            let float = match edges.get((bits % 40) as usize) {
                Some(&edge) if at % 3 == 0 => edge,
                _ if at % 5 == 0 => f64::from_bits(next()),
                _ => ((bits >> 20) as f64 / 2f64.powi(40) - 1.0) * 2f64.powi((bits % 16) as i32 - 4),
            };
            let small = bits % 7 < 4;
            match dtype {
                DType::Bool => (bits & 1 == 1).into(),
                DType::F64 => float.into(),
                DType::F32 => (float as f32).into(),
                DType::C64 => num_complex::Complex::new(float as f32, (next() % 9) as f32 - 4.0).into(),
                DType::C128 => num_complex::Complex::new(float, (next() % 9) as f64 - 4.0).into(),
                dtype if dtype.is_integer() => {
                    let bits = if small { (bits >> 8) % 20 } else { bits };
                    let bits = if bits & 3 == 1 { bits.wrapping_neg() } else { bits };
                    with_dtype!(dtype in reals, T => {
                        let bytes = bits.to_ne_bytes();
                        bytemuck::pod_read_unaligned::<T>(&bytes[..size_of::<T>()]).into()
                    }, _ => unreachable!())
                }
                _ => with_dtype!(dtype in reals, T => <T as crate::shape::Real>::from_f64(float).into(), _ => unreachable!()),
            }
        })
        .collect()
}

/// An integer of any type, and the integer of a type that it wraps to.
fn wide(scalar: Scalar) -> i128 {
    match scalar {
        Scalar::U64(x) => x.into(),
        Scalar::Bool(x) => x.into(),
        other => {
            with_dtype!(@ other.dtype(), T => other.get::<T>().unwrap().into(), [I8 i8, U8 u8, I16 i16, U16 u16, I32 i32, U32 u32, I64 i64] _ => unreachable!())
        }
    }
}
fn wrapped(x: i128, dtype: DType) -> Scalar {
    with_dtype!(@ dtype, T => (x as T).into(), [I8 i8, U8 u8, I16 i16, U16 u16, I32 i32, U32 u32, I64 i64, U64 u64] _ => (x != 0).into())
}

/// An operation on integers and booleans, by wide integers.
fn integer(op: ScalarOp, args: &[Scalar]) -> Option<Scalar> {
    use ScalarOp::*;
    let dtype = args[0].dtype();
    let bits = dtype.bytes() as i128 * 8;
    let (a, b) = (wide(args[0]), args.get(1).map_or(0, |&b| wide(b)));
    let is_shift = (0..bits).contains(&b);
    Some(match op {
        Add => wrapped(a + b, dtype),
        Sub => wrapped(a - b, dtype),
        Mul => wrapped(a.wrapping_mul(b), dtype),
        Div => wrapped(a.checked_div(b).unwrap_or(0), dtype),
        Rem => wrapped(a.checked_rem(b).unwrap_or(0), dtype),
        DivEuclid => wrapped(a.checked_div_euclid(b).unwrap_or(0), dtype),
        RemEuclid => wrapped(a.checked_rem_euclid(b).unwrap_or(0), dtype),
        Neg => wrapped(-a, dtype),
        Abs => wrapped(a.abs(), dtype),
        Sign => wrapped(a.signum(), dtype),
        Minimum => wrapped(a.min(b), dtype),
        Maximum => wrapped(a.max(b), dtype),
        And => wrapped(a & b, dtype),
        Or => wrapped(a | b, dtype),
        Xor => wrapped(a ^ b, dtype),
        Not if dtype == DType::Bool => (a == 0).into(),
        Not => wrapped(!a, dtype),
        Shl => wrapped(if is_shift { a << b } else { 0 }, dtype),
        Shr => wrapped(if is_shift { a >> b } else { -i128::from(a < 0) }, dtype),
        Eq => (a == b).into(),
        Ne => (a != b).into(),
        Lt => (a < b).into(),
        Le => (a <= b).into(),
        _ => return None,
    })
}

/// An operation on floats that has one right answer.
fn float(op: ScalarOp, args: &[Scalar]) -> Option<Scalar> {
    use ScalarOp::*;
    let (a, b) = (args[0].to_f64(), args.get(1).map_or(0.0, |b| b.to_f64()));
    let least = |a: f64, b: f64| if a == 0.0 && b == 0.0 && b.is_sign_negative() { b } else { a.min(b) };
    let most = |a: f64, b: f64| if a == 0.0 && b == 0.0 && a.is_sign_negative() { b } else { a.max(b) };
    let least = |a: f64, b: f64| if a == 0.0 && b == 0.0 && a.is_sign_negative() { a } else { least(a, b) };
    let most = |a: f64, b: f64| if a == 0.0 && b == 0.0 && b.is_sign_negative() { a } else { most(a, b) };
    let nan = a.is_nan() || b.is_nan();
    // An `f64` holds what an `f32` operation makes before it is rounded, of these operations.
    let value = match op {
        Add => a + b,
        Sub => a - b,
        Mul => a * b,
        Div => a / b,
        Rem => a % b,
        Neg => -a,
        Abs => a.abs(),
        Sign if nan || a == 0.0 => a,
        Sign => 1f64.copysign(a),
        Minimum => {
            if nan {
                f64::NAN
            } else {
                least(a, b)
            }
        }
        Maximum => {
            if nan {
                f64::NAN
            } else {
                most(a, b)
            }
        }
        Fmin => least(a, b),
        Fmax => most(a, b),
        Copysign => a.copysign(b),
        Sqrt => a.sqrt(),
        Floor => a.floor(),
        Ceil => a.ceil(),
        Round => a.round(),
        Rint => a.round_ties_even(),
        Trunc => a.trunc(),
        Fract => a - a.trunc(),
        Eq => return Some((a == b).into()),
        Ne => return Some((a != b).into()),
        Lt => return Some((a < b).into()),
        Le => return Some((a <= b).into()),
        IsNan => return Some(nan.into()),
        IsFinite => return Some(a.is_finite().into()),
        IsInfinite => return Some(a.is_infinite().into()),
        _ => return None,
    };
    Some(if args[0].dtype() == DType::F32 { (value as f32).into() } else { value.into() })
}

/// Equal, or both NaN.
fn same(a: &Scalar, b: &Scalar) -> bool {
    a == b || a.dtype() == b.dtype() && a.dtype().is_float() && a.to_f64().is_nan() && b.to_f64().is_nan()
}

#[test]
fn each_operation_gives_its_elements_on_every_instruction_set() {
    let shape = [1037];
    let mut looked_at = 0;
    for row in TABLE.iter().filter(|row| row.gives != Gives::Said) {
        for &dtype in DType::ALL.iter().filter(|&&dtype| row.domain.has(dtype)) {
            let args: Vec<Vec<Scalar>> = (0..row.arity).map(|at| elements(dtype, shape[0], 77 + at as u64)).collect();
            let chunks: Vec<Box<dyn AnyChunk>> = args.iter().map(|all| chunk(all, Layout::contiguous(dtype, &shape))).collect();
            let views: Vec<ChunkView<'_>> = chunks.iter().map(|chunk| chunk.view()).collect();
            let map = one(row.op, &vec![dtype; row.arity]);
            let gives = if row.gives == Gives::Test { DType::Bool } else { dtype };
            let all: Vec<Vec<Scalar>> =
                levels().into_iter().map(|level| run(&map, level, &views, &Layout::contiguous(gives, &shape))).collect();
            for at in 0..shape[0] {
                let args: Vec<Scalar> = args.iter().map(|all| all[at]).collect();
                let wanted = if dtype.is_float() { float(row.op, &args) } else { integer(row.op, &args) };
                looked_at += usize::from(wanted.is_some());
                let wanted = wanted.unwrap_or(all[0][at]);
                let found: Vec<Scalar> = all.iter().map(|all| all[at]).collect();
                assert!(found.iter().all(|found| same(found, &wanted)), "{} of {args:?}: {found:?}, not {wanted}", row.name);
            }
        }
    }
    assert!(looked_at > 200_000, "{looked_at}");
}

#[test]
fn functions_of_f32_are_the_nearest() {
    for row in TABLE.iter().filter(|row| row.domain == table::Domain::Floats && row.work >= 15.0) {
        let args: Vec<Vec<Scalar>> = (0..row.arity).map(|at| elements(DType::F32, 4000, 5 + at as u64)).collect();
        let of = |dtype: DType| {
            let as_it = |scalar: &Scalar| if dtype == DType::F64 { scalar.to_f64().into() } else { *scalar };
            let args: Vec<Vec<Scalar>> = args.iter().map(|all| all.iter().map(as_it).collect()).collect();
            let layout = Layout::contiguous(dtype, &[4000]);
            let chunks: Vec<Box<dyn AnyChunk>> = args.iter().map(|all| chunk(all, layout.clone())).collect();
            let views: Vec<ChunkView<'_>> = chunks.iter().map(|chunk| chunk.view()).collect();
            run(&one(row.op, &vec![dtype; row.arity]), simd::level(), &views, &layout)
        };
        for (at, (narrow, wide)) in of(DType::F32).iter().zip(of(DType::F64)).enumerate() {
            let wanted = Scalar::from(wide.to_f64() as f32);
            assert!(
                same(narrow, &wanted),
                "{} of {:?}: {narrow}, not {wanted}",
                row.name,
                args.iter().map(|all| all[at]).collect::<Vec<_>>()
            );
        }
    }
}

#[test]
fn every_pair_of_dtypes_is_cast_as_rust_does() {
    let of = |from: DType, to: DType| {
        let mut b = Builder::new();
        let x = b.input(from);
        let made = b.cast(x, to);
        let scalars = elements(from, 700, 9);
        let chunk = chunk(&scalars, Layout::contiguous(from, &[700]));
        let map = Elementwise::new(Arc::new(b.finish(made).0));
        let all: Vec<_> =
            levels().into_iter().map(|level| run(&map, level, &[chunk.view()], &Layout::contiguous(to, &[700]))).collect();
        assert!(all.iter().all(|found| found.iter().zip(&all[0]).all(|(a, b)| same(a, b))), "{from} to {to}");
        scalars.into_iter().zip(all.into_iter().next().unwrap())
    };
    macro_rules! check {
        ($($a:ident $d:ident),*) => {$( check!(@ $a $d => i8 I8, u8 U8, i16 I16, u16 U16, i32 I32, u32 U32, i64 I64, u64 U64, f32 F32, f64 F64); )*};
        (@ $a:ident $d:ident => $($b:ident $e:ident),*) => {
            for (from, found) in of(DType::$d, DType::Bool) {
                assert_eq!(found, (from.get::<$a>().unwrap() != 0 as $a).into());
            }
            $(for (from, found) in of(DType::$d, DType::$e) {
                let wanted = Scalar::from(from.get::<$a>().unwrap() as $b);
                assert!(same(&found, &wanted), "{from} as {}: {found}, not {wanted}", stringify!($b));
            })*
        };
    }
    check!(i8 I8, u8 U8, i16 I16, u16 U16, i32 I32, u32 U32, i64 I64, u64 U64, f32 F32, f64 F64);
    for &to in DType::ALL {
        for (from, found) in of(DType::Bool, to) {
            assert_eq!(found, if from == true.into() { to.one() } else { to.zero() });
        }
    }
}

/// A program of random operations on `f64`s and `i32`s, by numbers.
fn random(choices: &[(usize, usize, usize, usize)]) -> Elementwise {
    let mut b = Builder::new();
    let mut values: Vec<Value> =
        [DType::F64, DType::I32, DType::F64, DType::Bool].iter().map(|&dtype| b.input(dtype)).collect();
    values.push(b.constant(2.5));
    for &(op, x, y, z) in choices {
        let row = &TABLE[op % TABLE.len()];
        let of = |b: &Builder, dtype: DType, n: usize| {
            let all: Vec<Value> = values.iter().copied().filter(|&value| b.dtype(value) == dtype).collect();
            all[n % all.len()]
        };
        let dtype = [DType::F64, DType::I32, DType::Bool][x % 3];
        let made = match row.op {
            ScalarOp::Where => {
                let args = [of(&b, DType::Bool, z), of(&b, dtype, y), of(&b, dtype, x + z)];
                b.apply(ScalarOp::Where, &args)
            }
            ScalarOp::Cast => {
                let value = of(&b, dtype, y);
                b.cast(value, [DType::F64, DType::I32, DType::Bool][z % 3])
            }
            _ if row.domain.has(dtype) && row.gives != Gives::Said => {
                let args: Vec<Value> = [y, z].iter().take(row.arity).map(|&n| of(&b, dtype, n)).collect();
                b.apply(row.op, &args)
            }
            _ => continue,
        };
        values.push(made);
    }
    // All that was made counts.
    let all: Vec<Value> = values.iter().skip(5).rev().take(6).map(|&value| b.cast(value, DType::F64)).collect();
    let first = values[0];
    let sum = all.into_iter().fold(first, |sum, value| b.apply(ScalarOp::Add, &[sum, value]));
    let (program, used) = b.finish(sum);
    assert!(used.len() <= 4);
    Elementwise::new(Arc::new(program))
}

/// What a program makes of each element alone: its instructions one after the other, each by an operation's own loop on one element.
fn by_elements(map: &Elementwise, inputs: &[Vec<Scalar>], count: usize) -> Vec<Scalar> {
    let of = |at: usize| {
        let mut made: Vec<Scalar> = Vec::new();
        for instr in map.program.code() {
            made.push(match instr {
                Instr::Input(input) => inputs[*input as usize][at % inputs[*input as usize].len()],
                Instr::Const(scalar) => *scalar,
                Instr::Op(op, dtype, _) => {
                    let args: Vec<Scalar> = instr.args().iter().map(|arg| made[arg.index()]).collect();
                    loops::folded(*op, *dtype, &args).unwrap()
                }
            });
        }
        *made.last().unwrap()
    };
    (0..count).map(of).collect()
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(400))]
    #[test]
    fn a_program_gives_the_bits_of_its_operations_in_any_layout(
        choices in prop::collection::vec((0usize..200, 0usize..9, 0usize..9, 0usize..9), 0..14),
        shape in prop_oneof![
            prop::collection::vec(1usize..9, 0..4),
            prop::collection::vec(60usize..140, 1..3),
            Just(vec![3, 2100]), Just(vec![200, 3]), Just(vec![70, 300]), Just(vec![2, 0]),
        ],
        lies in prop::collection::vec(0usize..6, 5),
        level in 0usize..4,
    ) {
        let map = random(&choices);
        let levels = levels();
        let count: usize = shape.iter().product();
        let lie = |dtype: DType, how: usize, is_out: bool| {
            let mut layout = Layout::contiguous(dtype, &shape);
            match how {
                1 => layout.strides.iter_mut().for_each(|step| *step *= -2),
                2 => {
                    // The first axis is the fastest.
                    let mut step = 1;
                    for (stride, &n) in layout.strides.iter_mut().zip(&shape) {
                        *stride = step;
                        step *= n.max(1) as isize;
                    }
                }
                3 if !is_out => if let Some(last) = layout.strides.last_mut() { *last = 0 },
                4 if !is_out => layout.strides.iter_mut().rev().skip(1).for_each(|step| *step = 0),
                5 => layout.strides.iter_mut().rev().skip(1).for_each(|step| *step += 8 * step.signum()),
                _ => {}
            }
            layout
        };
        let dtypes = map.program.inputs().to_vec();
        let chunks: Vec<Box<dyn AnyChunk>> = dtypes.iter().enumerate().map(|(at, &dtype)| {
            chunk(&elements(dtype, count.max(1), 3 + at as u64), lie(dtype, lies[at], false))
        }).collect();
        let views: Vec<ChunkView<'_>> = chunks.iter().map(|chunk| chunk.view()).collect();
        // The elements as they lie.
        let inputs: Vec<Vec<Scalar>> = views.iter().map(|view| {
            let (rows, len) = crate::kernel::rows::extent(view.shape());
            with_dtype!(view.layout().dtype, T => (0..rows).flat_map(|r| (0..len).map(move |i| view.at::<T>(r, i).into())).collect())
        }).collect();
        let distinct = lie(DType::F64, lies[4], true);
        let layout = if distinct.is_distinct() { distinct } else { Layout::contiguous(DType::F64, &shape) };
        let found = run(&map, levels[level % levels.len()], &views, &layout);
        let wanted = by_elements(&map, &inputs, count);
        for (at, (found, wanted)) in found.iter().zip(&wanted).enumerate() {
            prop_assert!(same(found, wanted), "element {}: {} not {} of {}", at, found, wanted, map.program.text());
        }
    }
}

#[test]
fn programs_are_simplified_only_where_no_bit_changes() {
    let mut b = Builder::new();
    let x = b.input(DType::F64);
    let of = |b: &mut Builder, op, y: f64| {
        let y = b.constant(y);
        b.apply(op, &[x, y])
    };
    assert_eq!(of(&mut b, ScalarOp::Mul, 1.0), x);
    assert_eq!(of(&mut b, ScalarOp::Sub, 0.0), x);
    for (op, y) in [(ScalarOp::Add, 0.0), (ScalarOp::Mul, 0.0), (ScalarOp::Sub, -0.0)] {
        assert_ne!(of(&mut b, op, y), x, "-0 and NaN are others then");
    }
    assert_eq!(of(&mut b, ScalarOp::Div, 4.0), of(&mut b, ScalarOp::Mul, 0.25));
    assert_eq!(of(&mut b, ScalarOp::Div, -2f64.powi(1022)), of(&mut b, ScalarOp::Mul, -(2f64.powi(-1022))));
    for y in [3.0, 2f64.powi(1023), 5e-324, 0.0, f64::INFINITY] {
        let inverse = of(&mut b, ScalarOp::Mul, 1.0 / y);
        assert_ne!(of(&mut b, ScalarOp::Div, y), inverse, "{y}");
    }
    let parts = [x, of(&mut b, ScalarOp::Mul, 2.0)];
    let z = b.apply(ScalarOp::Compose, &parts);
    assert_eq!(b.parts(z), parts);
    assert_eq!(b.apply(ScalarOp::Re, &[z]), x);
}

#[test]
fn complex_numbers_are_computed_by_their_parts() {
    use num_complex::Complex;
    let of = |op: ScalarOp, x: Complex<f64>, y: Complex<f64>| {
        let chunks = [x, y].map(|z| chunk(&[z.into()], Layout::contiguous(DType::C128, &[1])));
        let views = [chunks[0].view(), chunks[1].view()];
        let found = run(&one(op, &[DType::C128; 2]), simd::level(), &views, &Layout::contiguous(DType::C128, &[1]));
        found[0].get::<Complex<f64>>().unwrap()
    };
    let (x, y) = (Complex::new(3.0, -4.5), Complex::new(0.25, 2.0));
    assert_eq!(of(ScalarOp::Add, x, y), x + y);
    assert_eq!(of(ScalarOp::Mul, x, y), x * y);
    assert!((of(ScalarOp::Div, x, y) - x / y).norm() < 1e-15);
    // Where the square of the divisor would overflow.
    let large = Complex::new(1e200, 1e200);
    assert_eq!(of(ScalarOp::Div, large, large), Complex::new(1.0, 0.0));
    let by_zero = of(ScalarOp::Div, x, Complex::new(0.0, 0.0));
    assert_eq!((by_zero.re, by_zero.im), (f64::INFINITY, f64::NEG_INFINITY));
}

#[test]
fn what_takes_as_long_as_its_numbers_say_is_told() {
    let is_steady = |op: ScalarOp, dtype: DType| one(op, &vec![dtype; op.row().arity]).is_steady();
    assert!(is_steady(ScalarOp::Exp, DType::F64) && is_steady(ScalarOp::Rem, DType::I64));
    assert!(!is_steady(ScalarOp::Sin, DType::F32) && !is_steady(ScalarOp::Rem, DType::F64));
}
