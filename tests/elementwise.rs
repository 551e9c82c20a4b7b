//! Element-wise operations: against NumPy (`data/make_elementwise.py`), in any chunks; what they refuse; what becomes of long chains. Needs no device.

use chunkwise::ext::Scalar;
use chunkwise::ndarray::{self, ArrayD, IxDyn, arr1, arr2};
use chunkwise::{Array, Comparable, Complex, DynArray, Element, Error, Number, Ordered, map, prelude::*, where_};
use serde_json::Value;

fn session() -> Session {
    Session::builder().threads(2).cache_dir("").build().expect("a session")
}

/// The bytes of an array, as the golden file has them.
fn bytes<T: Element>(array: &ArrayD<T>) -> String {
    let of = |x: &T| -> Vec<u8> {
        let scalar: Scalar = (*x).into();
        scalar.bytes()
    };
    array.iter().flat_map(of).map(|byte| format!("{byte:02x}")).collect()
}

/// What the golden file has.
struct Golden {
    arrays: Vec<Value>,
    session: Session,
}

/// An element from its bytes.
trait FromBytes: Element {
    fn of(bytes: &[u8]) -> Self;
}
macro_rules! from_bytes {
    ($($t:ty),*) => {$(
        impl FromBytes for $t {
            fn of(bytes: &[u8]) -> Self {
                Self::from_le_bytes(bytes.try_into().unwrap())
            }
        }
    )*};
}
from_bytes!(i8, u8, i16, u16, i32, u32, i64, u64, f32, f64);
impl FromBytes for bool {
    fn of(bytes: &[u8]) -> Self {
        bytes[0] != 0
    }
}
macro_rules! complex_from_bytes {
    ($($t:ty),*) => {$(
        impl FromBytes for Complex<$t> {
            fn of(bytes: &[u8]) -> Self {
                let (re, im) = bytes.split_at(size_of::<$t>());
                Self::new(<$t>::of(re), <$t>::of(im))
            }
        }
    )*};
}
complex_from_bytes!(f32, f64);

impl Golden {
    fn elements<T: FromBytes>(&self, at: &Value) -> ArrayD<T> {
        let array = &self.arrays[at.as_u64().unwrap() as usize];
        assert_eq!(array["dtype"], T::DTYPE.to_string());
        let shape: Vec<usize> = serde_json::from_value(array["shape"].clone()).unwrap();
        let digits = array["bytes"].as_str().unwrap();
        let bytes: Vec<u8> = (0..digits.len()).step_by(2).map(|i| u8::from_str_radix(&digits[i..i + 2], 16).unwrap()).collect();
        ArrayD::from_shape_vec(IxDyn(&shape), bytes.chunks(T::DTYPE.bytes()).map(T::of).collect()).unwrap()
    }

    fn array<T: FromBytes>(&self, at: &Value) -> Array<T> {
        Array::from(self.elements::<T>(at)).in_session(&self.session)
    }

    /// Checks an array, whole and in small chunks, to the bit but for which NaN it is; complex products and quotients, of which NumPy fuses operations where the CPU can, nearly.
    fn check<T: FromBytes>(&self, array: Array<T>, case: &Value, nearly: Option<fn(&T, &T) -> bool>) {
        let wanted = self.elements::<T>(&case["result"]);
        for array in [array.clone(), array.chunks(3)] {
            let found = array.compute().expect("computes");
            assert_eq!(found.shape(), wanted.shape(), "{case}");
            for (found, wanted) in found.iter().zip(&wanted) {
                let is_nan = |x: &T| *x != *x;
                let same = Scalar::bytes((*found).into()) == Scalar::bytes((*wanted).into());
                assert!(
                    same || is_nan(found) && is_nan(wanted) || nearly.is_some_and(|nearly| nearly(found, wanted)),
                    "{found} is not {wanted}: {case}"
                );
            }
        }
    }

    /// An operation that there is for all dtypes that can be equal.
    fn equal<A, B, C>(&self, case: &Value) -> bool
    where
        A: FromBytes + chunkwise::Promote<B, Output = C>,
        B: FromBytes,
        C: FromBytes + Comparable,
    {
        let (x, y) = (self.array::<A>(&case["args"][0]), self.array::<B>(&case["args"][1]));
        match case["op"].as_str().unwrap() {
            "equal" => self.check(x.eq_elem(&y), case, None),
            "not_equal" => self.check(x.ne_elem(&y), case, None),
            _ => return false,
        }
        true
    }

    fn arithmetic<A, B, C>(&self, case: &Value, nearly: Option<fn(&C, &C) -> bool>) -> bool
    where
        A: FromBytes + chunkwise::Promote<B, Output = C>,
        B: FromBytes,
        C: FromBytes + Number,
    {
        let (x, y) = (self.array::<A>(&case["args"][0]), self.array::<B>(&case["args"][1]));
        match case["op"].as_str().unwrap() {
            "add" => self.check(&x + &y, case, None),
            "subtract" => self.check(x - y, case, None),
            "multiply" => self.check(x * &y, case, nearly),
            "divide" => self.check(&x / y, case, nearly),
            _ => return false,
        }
        true
    }

    fn reals<A, B, C>(&self, case: &Value) -> bool
    where
        A: FromBytes + chunkwise::Promote<B, Output = C>,
        B: FromBytes,
        C: FromBytes + Number + Ordered,
    {
        let (x, y) = (self.array::<A>(&case["args"][0]), self.array::<B>(&case["args"][1]));
        match case["op"].as_str().unwrap() {
            "fmod" => self.check(x % y, case, None),
            "minimum" => self.check(x.minimum(&y), case, None),
            "maximum" => self.check(x.maximum(&y), case, None),
            "less" => self.check(x.lt(&y), case, None),
            "less_equal" => self.check(x.le(&y), case, None),
            "greater" => self.check(x.gt(&y), case, None),
            "greater_equal" => self.check(x.ge(&y), case, None),
            _ => return false,
        }
        true
    }

    fn floats<A, B, C>(&self, case: &Value) -> bool
    where
        A: FromBytes + chunkwise::Promote<B, Output = C>,
        B: FromBytes,
        C: FromBytes + Float,
    {
        let (x, y) = (self.array::<A>(&case["args"][0]), self.array::<B>(&case["args"][1]));
        match case["op"].as_str().unwrap() {
            "fmin" => self.check(x.fmin(&y), case, None),
            "fmax" => self.check(x.fmax(&y), case, None),
            "copysign" => self.check(x.copysign(&y), case, None),
            _ => return false,
        }
        true
    }

    fn bits<A, B, C>(&self, case: &Value) -> bool
    where
        A: FromBytes + chunkwise::Promote<B, Output = C>,
        B: FromBytes,
        C: FromBytes + chunkwise::Bits,
    {
        let (x, y) = (self.array::<A>(&case["args"][0]), self.array::<B>(&case["args"][1]));
        match case["op"].as_str().unwrap() {
            "and" => self.check(&x & &y, case, None),
            "or" => self.check(x | y, case, None),
            "xor" => self.check(x ^ &y, case, None),
            _ => return false,
        }
        true
    }

    fn functions<T: FromBytes + Float>(&self, case: &Value) -> bool {
        let x = self.array::<T>(&case["args"][0]);
        match case["op"].as_str().unwrap() {
            "sqrt" => self.check(x.sqrt(), case, None),
            "floor" => self.check(x.floor(), case, None),
            "ceil" => self.check(x.ceil(), case, None),
            "rint" => self.check(x.round_ties_even(), case, None),
            "trunc" => self.check(x.trunc(), case, None),
            "negative" => self.check(-x, case, None),
            "square" => self.check(x.square(), case, None),
            "sign" => self.check(x.sign(), case, None),
            "isnan" => self.check(x.is_nan(), case, None),
            "isfinite" => self.check(x.is_finite(), case, None),
            "isinf" => self.check(x.is_infinite(), case, None),
            "clip" => self.check(x.clip(&self.array::<T>(&case["args"][1]), &self.array::<T>(&case["args"][2])), case, None),
            _ => return false,
        }
        true
    }

    fn choice<T: FromBytes>(&self, case: &Value) -> bool {
        let [x, y] = [1, 2].map(|at| self.array::<T>(&case["args"][at]));
        self.check(where_(&self.array::<bool>(&case["args"][0]), &x, &y), case, None);
        true
    }

    fn integers<T: FromBytes + chunkwise::Integer>(&self, case: &Value) -> bool {
        let x = self.array::<T>(&case["args"][0]);
        match case["op"].as_str().unwrap() {
            "left_shift" => self.check(&x << self.array::<T>(&case["args"][1]), case, None),
            "right_shift" => self.check(&x >> self.array::<T>(&case["args"][1]), case, None),
            "invert" => self.check(!x, case, None),
            "sign" => self.check(x.sign(), case, None),
            "square" => self.check(x.square(), case, None),
            "negative" => self.check(-&x, case, None),
            _ => return false,
        }
        true
    }
}

fn close64(a: &Complex<f64>, b: &Complex<f64>) -> bool {
    (a - b).norm() <= 4.0 * f64::EPSILON * b.norm()
}
fn close32(a: &Complex<f32>, b: &Complex<f32>) -> bool {
    (a - b).norm() <= 4.0 * f32::EPSILON * b.norm()
}

#[test]
fn elements_are_numpys_to_the_bit() {
    let text = std::fs::read_to_string(format!("{}/tests/data/elementwise.json", env!("CARGO_MANIFEST_DIR"))).unwrap();
    let Value::Object(all) = serde_json::from_str(&text).unwrap() else { panic!("an object") };
    let golden = Golden { arrays: all["arrays"].as_array().unwrap().clone(), session: session() };
    let mut seen = std::collections::BTreeMap::<String, usize>::new();
    for case in all["cases"].as_array().unwrap() {
        let dtype = |at: &Value| at.as_u64().map(|at| golden.arrays[at as usize]["dtype"].as_str().unwrap());
        let (a, b) = (dtype(&case["args"][0]).unwrap(), dtype(&case["args"][1]));
        let op = case["op"].as_str().unwrap();
        let g = &golden;
        macro_rules! complex {
            ($t:ty) => {{
                let z = g.array::<Complex<$t>>(&case["args"][0]);
                match op {
                    "real" => g.check(z.re(), case, None),
                    "imag" => g.check(z.im(), case, None),
                    "conj" => g.check(z.conj(), case, None),
                    _ => g.check(-z, case, None),
                }
                true
            }};
        }
        let done = match (op, a, b) {
            ("abs", "f32", _) => (g.check(g.array::<f32>(&case["args"][0]).abs(), case, None), true).1,
            ("abs", "f64", _) => (g.check(g.array::<f64>(&case["args"][0]).abs(), case, None), true).1,
            ("abs", "i8", _) => (g.check(g.array::<i8>(&case["args"][0]).abs(), case, None), true).1,
            ("abs", "u8", _) => (g.check(g.array::<u8>(&case["args"][0]).abs(), case, None), true).1,
            ("abs", "i64", _) => (g.check(g.array::<i64>(&case["args"][0]).abs(), case, None), true).1,
            ("abs", "u64", _) => (g.check(g.array::<u64>(&case["args"][0]).abs(), case, None), true).1,
            ("where", _, Some("f32")) => g.choice::<f32>(case),
            ("where", ..) => g.choice::<f64>(case),
            ("clip", "f32", _) | (_, "f32", None) => g.functions::<f32>(case),
            ("clip", "f64", _) | (_, "f64", None) => g.functions::<f64>(case),
            ("left_shift" | "right_shift", "i8", _) | (_, "i8", None) => g.integers::<i8>(case),
            ("left_shift" | "right_shift", "u8", _) | (_, "u8", None) => g.integers::<u8>(case),
            ("left_shift" | "right_shift", "i64", _) | (_, "i64", None) => g.integers::<i64>(case),
            ("left_shift" | "right_shift", "u64", _) | (_, "u64", None) => g.integers::<u64>(case),
            (_, "c64", None) => complex!(f32),
            (_, "c128", None) => complex!(f64),
            (_, "f64", Some("f64")) => {
                g.equal::<f64, f64, _>(case)
                    || g.arithmetic::<f64, f64, _>(case, None)
                    || g.reals::<f64, f64, _>(case)
                    || g.floats::<f64, f64, _>(case)
            }
            (_, "f32", Some("f32")) => {
                g.equal::<f32, f32, _>(case)
                    || g.arithmetic::<f32, f32, _>(case, None)
                    || g.reals::<f32, f32, _>(case)
                    || g.floats::<f32, f32, _>(case)
            }
            (_, "f32", Some("f64")) => {
                g.equal::<f32, f64, _>(case)
                    || g.arithmetic::<f32, f64, _>(case, None)
                    || g.reals::<f32, f64, _>(case)
                    || g.floats::<f32, f64, _>(case)
            }
            (_, "i32", Some("f32")) => {
                g.equal::<i32, f32, _>(case)
                    || g.arithmetic::<i32, f32, _>(case, None)
                    || g.reals::<i32, f32, _>(case)
                    || g.floats::<i32, f32, _>(case)
            }
            (_, "u8", Some("i8")) => {
                g.equal::<u8, i8, _>(case)
                    || g.arithmetic::<u8, i8, _>(case, None)
                    || g.reals::<u8, i8, _>(case)
                    || g.bits::<u8, i8, _>(case)
            }
            (_, "i64", Some("i64")) => {
                g.equal::<i64, i64, _>(case)
                    || g.arithmetic::<i64, i64, _>(case, None)
                    || g.reals::<i64, i64, _>(case)
                    || g.bits::<i64, i64, _>(case)
            }
            (_, "u64", Some("u64")) => {
                g.equal::<u64, u64, _>(case)
                    || g.arithmetic::<u64, u64, _>(case, None)
                    || g.reals::<u64, u64, _>(case)
                    || g.bits::<u64, u64, _>(case)
            }
            (_, "i8", Some("i8")) => {
                g.equal::<i8, i8, _>(case)
                    || g.arithmetic::<i8, i8, _>(case, None)
                    || g.reals::<i8, i8, _>(case)
                    || g.bits::<i8, i8, _>(case)
            }
            (_, "bool", Some("i16")) => {
                g.equal::<bool, i16, _>(case)
                    || g.arithmetic::<bool, i16, _>(case, None)
                    || g.reals::<bool, i16, _>(case)
                    || g.bits::<bool, i16, _>(case)
            }
            (_, "u16", Some("i32")) => {
                g.equal::<u16, i32, _>(case)
                    || g.arithmetic::<u16, i32, _>(case, None)
                    || g.reals::<u16, i32, _>(case)
                    || g.bits::<u16, i32, _>(case)
            }
            (_, "bool", Some("bool")) => g.equal::<bool, bool, _>(case) || g.bits::<bool, bool, _>(case),
            (_, "c64", Some("c64")) => {
                g.equal::<Complex<f32>, Complex<f32>, _>(case)
                    || g.arithmetic::<Complex<f32>, Complex<f32>, _>(case, Some(close32))
            }
            (_, "c128", Some("c128")) => {
                g.equal::<Complex<f64>, Complex<f64>, _>(case)
                    || g.arithmetic::<Complex<f64>, Complex<f64>, _>(case, Some(close64))
            }
            (_, "c64", Some("f64")) => {
                g.equal::<Complex<f32>, f64, _>(case) || g.arithmetic::<Complex<f32>, f64, _>(case, Some(close64))
            }
            _ => false,
        };
        assert!(done, "what is {case}?");
        *seen.entry(op.to_owned()).or_default() += 1;
    }
    assert!(seen.len() >= 35 && seen["add"] >= 40 && seen["less"] >= 36, "{seen:?}");
}

#[test]
fn scalars_are_of_the_arrays_dtype_on_both_sides() {
    let session = session();
    let x = Array::from(vec![1f32, 2.0, 4.0]).in_session(&session);
    let y: Array<f32> = 2.0 * &x + 1.0 - &x / 2.0;
    assert_eq!(y.compute().unwrap(), arr1(&[2.5f32, 4.0, 7.0]).into_dyn());
    let mut z = 1.0 / x.clone();
    let before = z.clone();
    z += &x;
    z *= 2.0;
    z -= x.clone();
    z /= 1.0;
    assert_eq!(z.compute().unwrap(), arr1(&[3f32, 3.0, 4.5]).into_dyn());
    assert_eq!(before.compute().unwrap(), arr1(&[1f32, 0.5, 0.25]).into_dyn());
    let n = Array::from(vec![5i32, -6, 7]).in_session(&session);
    assert_eq!((100 - &n * 3 % 4).compute().unwrap(), arr1(&[97, 102, 99]).into_dyn());
    assert_eq!((&n << 2 | 1).compute().unwrap(), arr1(&[21, -23, 29]).into_dyn());
    assert_eq!((&n >> 40).compute().unwrap(), arr1(&[0, -1, 0]).into_dyn());
    assert_eq!((&n / 0 + &n % 0).compute().unwrap(), arr1(&[0, 0, 0]).into_dyn());
    let mask = n.gt(0) & !n.eq_elem(7);
    assert_eq!(mask.compute().unwrap(), arr1(&[true, false, false]).into_dyn());
    assert_eq!(mask.where_(&n, 0).compute().unwrap(), arr1(&[5, 0, 0]).into_dyn());
    fn generic<T: Float>(x: &Array<T>) -> Array<T> {
        (x * x + x).sqrt() - x.abs().minimum(x)
    }
    assert_eq!(generic(&x).dtype(), DType::F32);
    let z = Array::from(vec![Complex::new(3.0, 4.0)]).in_session(&session);
    assert_eq!((&z * Complex::new(0.0, 1.0)).compute().unwrap()[[0]], Complex::new(-4.0, 3.0));
    assert_eq!(z.abs().compute().unwrap()[[0]], 5.0);
    assert_eq!(z.arg().compute().unwrap()[[0]], 4f64.atan2(3.0));
    assert_eq!((&x * &z).dtype(), DType::C128);
}

#[test]
fn powers_roots_and_rounding() {
    let session = session();
    let x = Array::from(vec![-2.5, 0.5, 3.0, f64::NAN]).in_session(&session);
    let of = |array: Array<f64>| array.compute().unwrap().into_iter().collect::<Vec<f64>>();
    assert_eq!(of(x.powi(3))[..3], [-15.625, 0.125, 27.0]);
    assert_eq!(of(x.powi(-2))[..3], [1.0 / 6.25, 4.0, 1.0 / 9.0]);
    assert_eq!(of(x.powi(0)), [1.0; 4]);
    assert_eq!(of(x.powf(0.0)), [1.0; 4]);
    assert_eq!(of(x.round())[..3], [-3.0, 1.0, 3.0]);
    assert_eq!(of(x.round_ties_even())[..3], [-2.0, 0.0, 3.0]);
    assert_eq!(of(x.fract())[..3], [-0.5, 0.5, 0.0]);
    assert_eq!(of(x.rem_euclid(2.0))[..3], [1.5, 0.5, 1.0]);
    assert_eq!(of(x.div_euclid(2.0))[..3], [-2.0, 0.0, 1.0]);
    assert_eq!(of(x.fmax(0.0)), [0.0, 0.5, 3.0, 0.0]);
    assert!(of(x.maximum(0.0))[3].is_nan() && of(x.clip(0.0, 1.0))[3].is_nan());
    assert_eq!(of(x.hypot(4.0))[2], 5.0);
    let n = Array::from(vec![-3i64, 0, 1]).in_session(&session);
    assert_eq!(n.powi(-1).compute().unwrap(), arr1(&[0i64, 0, 1]).into_dyn());
    assert_eq!(n.powi(63).compute().unwrap(), arr1(&[(-3i64).wrapping_pow(63), 0, 1]).into_dyn());
    // Arguments of any size.
    let far = Array::from(vec![1e22, 1e300, -3e9, f64::INFINITY]).in_session(&session);
    let found = of(far.sin());
    assert!((found[0] - -0.8522008497671888).abs() < 1e-15 && found[3].is_nan(), "{found:?}");
}

#[test]
fn what_does_not_fit_is_refused_where_it_is_written() {
    let (one, other) = (session(), session());
    let a = Array::<f64>::zeros((3, 4)).in_session(&one);
    let b = Array::<f64>::zeros((3, 5)).in_session(&one);
    let error = a.try_add(&b).unwrap_err();
    assert!(matches!(&error, Error::Shape { op: "add", found, .. } if *found == [3, 5]), "{error}");
    assert!(error.to_string().contains("broadcast to [3, 4]"), "{error}");
    let elsewhere = Array::<f64>::zeros(4).in_session(&other);
    assert!(matches!(a.try_mul(&elsewhere).unwrap_err(), Error::SessionMismatch { .. }));
    assert!(matches!(a.gt(0.0).try_where_(&a, &b).unwrap_err(), Error::Shape { op: "where", .. }));
    let huge = Array::<f64>::zeros((1 << 40, 1));
    assert!(matches!(huge.try_add(Array::<f64>::zeros(1 << 40)).unwrap_err(), Error::Shape { op: "add", .. }));
    let panic = std::panic::catch_unwind(|| &a + &b).unwrap_err();
    assert!(panic.downcast_ref::<String>().unwrap().contains("[3, 5]"));
    assert!(matches!(elsewhere.try_triu(0).unwrap_err(), Error::Shape { op: "triu", .. }));
}

#[test]
fn empty_arrays_and_rank_0() {
    let session = session();
    let nothing = Array::<f32>::zeros((0, 4)).in_session(&session);
    assert_eq!((&nothing + Array::<f64>::ones(4)).exp().compute().unwrap().shape(), [0, 4]);
    let a = Array::from(ndarray::arr0(2.0)).in_session(&session);
    assert_eq!((&a * &a).sqrt().compute_scalar().unwrap(), 2.0);
    assert_eq!((a.insert_axis(Axis(0)) + Array::<f64>::ones((3, 0))).compute().unwrap().shape(), [3, 0]);
}

#[test]
fn closures_see_chunks_and_their_faults_are_told() {
    let session = session();
    let x = Array::from(ArrayD::from_shape_fn(IxDyn(&[6, 4]), |i| (i[0] * 4 + i[1]) as i32)).in_session(&session);
    // Chunks in C order, however they lie.
    let first: Array<i64> = x.t().chunks((2, 3)).map_chunks(|chunk| chunk.mapv(|_| i64::from(chunk[[0, 0]])));
    let found = first.compute().unwrap();
    assert_eq!((found[[0, 0]], found[[1, 2]], found[[3, 5]]), (0, 0, 14));
    let both: Array<i32> = x.zip_chunks(&(&x * 2), |a, b| &b - &a);
    assert_eq!(both.compute().unwrap(), x.compute().unwrap());
    let wrong: Array<i32> = x.map_chunks(|_| ArrayD::zeros(IxDyn(&[1])));
    let error = wrong.compute().unwrap_err().to_string();
    assert!(error.contains("map_chunks") && error.contains("[1]") && error.contains("[6, 4]"), "{error}");
    let panics: Array<i32> = x.map_chunks(|_| panic!("a user's bug"));
    assert!(matches!(panics.compute().unwrap_err(), Error::Panicked { message, .. } if message.contains("a user's bug")));
    assert_eq!(x.compute().unwrap()[[5, 3]], 23, "the session goes on");
}

#[test]
fn functions_of_elements_in_rusts_syntax() {
    let session = session();
    let x = Array::from(vec![-3.0, -0.5, 0.5, 2.0, 40.0]).in_session(&session);
    let huber = map!(|x: f64, d: f64| if x.abs() <= d { 0.5 * x * x } else { d * (x.abs() - 0.5 * d) });
    let d = Array::full((), 1.0);
    assert_eq!(huber(&x, &d).compute().unwrap(), arr1(&[2.5, 0.125, 0.125, 1.5, 39.5]).into_dyn());
    let ladder = map!(|x: f64| {
        let y = x * 2.0;
        let kind = if y < 0.0 || y == 1.0 {
            1.0
        } else if y > 3.0 && y != 80.0 {
            2.0
        } else {
            y
        };
        kind + 100.0
    });
    assert_eq!(ladder(&x).compute().unwrap(), arr1(&[101.0, 101.0, 101.0, 102.0, 180.0]).into_dyn());
    let same = map!(|x: f64| x);
    assert_eq!(same(&x).compute().unwrap(), x.compute().unwrap());
}

/// A task a chunk, whatever the number of operations; and what only one slice needs is made for that alone.
#[test]
fn chains_are_one_task_a_chunk() {
    let session = session();
    let x = session.rng(3).uniform::<f64>((100, 100)).chunks(50);
    let y = where_(&(&x + x.t()).gt(1.0), (&x * 2.0 + 1.0).exp().cast::<f32>(), x.sin().cast::<f32>());
    let report = y.run().unwrap().1;
    // Uniform numbers, their transpose, which is a view of them, and one program.
    assert_eq!(report.tasks(), 4 + 4, "{}", y.explain().unwrap());
    let slice = Array::<f64>::ones((10_000, 10_000)).exp().slice(s![1..100, 1..100]);
    assert_eq!(slice.in_session(&session).compute().unwrap(), ndarray::Array2::from_elem((99, 99), 1f64.exp()).into_dyn());
}

#[test]
fn a_chain_of_very_many_operations() {
    let session = session();
    let mut x = Array::from(vec![0i64, 5]).in_session(&session);
    for k in 0..300_000i64 {
        x = if k % 2 == 0 { x + 3 } else { x ^ 1 };
    }
    let mut wanted = [0i64, 5];
    for k in 0..300_000 {
        wanted = wanted.map(|x| if k % 2 == 0 { x + 3 } else { x ^ 1 });
    }
    assert_eq!(x.compute().unwrap(), arr1(&wanted).into_dyn());
}

#[test]
fn parts_of_matrices() {
    let session = session();
    let a = Array::from(arr2(&[[1.0, f64::NAN, 3.0], [4.0, 5.0, f64::NAN]])).in_session(&session);
    assert_eq!(a.tril(0).compute().unwrap(), arr2(&[[1.0, 0.0, 0.0], [4.0, 5.0, 0.0]]).into_dyn());
    assert_eq!(a.triu(2).compute().unwrap(), arr2(&[[0.0, 0.0, 3.0], [0.0, 0.0, 0.0]]).into_dyn());
    assert_eq!(a.triu(isize::MIN).slice(s![0, ..1]).compute().unwrap()[[0]], 1.0);
    let d = Array::from_diag(&a.slice(s![.., 0]));
    assert_eq!(d.compute().unwrap(), arr2(&[[1.0, 0.0], [0.0, 4.0]]).into_dyn());
    let unknown: DynArray = a.into_dyn();
    assert_eq!(unknown.cast::<f32>().is_nan().compute().unwrap().iter().filter(|&&nan| nan).count(), 2);
}

#[test]
fn the_bytes_of_golden_arrays_are_read() {
    assert_eq!(bytes(&arr1(&[1u8, 255]).into_dyn()), "01ff");
    assert_eq!(Complex::<f32>::of(&[0, 0, 128, 63, 0, 0, 0, 64]), Complex::new(1.0, 2.0));
}
