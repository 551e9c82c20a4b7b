//! Against NumPy.
//!
//! Owns: how the golden file is read. Must not know: how it was made. Invariant: each case is checked whole and in small chunks, and none is skipped.

use chunkwise::ext::Scalar;
use chunkwise::ndarray::{ArrayD, arr1};
use chunkwise::{Array, Comparable, Complex, Number, Ordered, prelude::*, where_};
use serde_json::Value;
use support::golden::FromBytes;
use support::hex::hex;

use super::session;

/// What the golden file has.
struct Golden {
    arrays: Vec<Value>,
    session: Session,
}

impl Golden {
    fn elements<T: FromBytes>(&self, at: &Value) -> ArrayD<T> {
        support::golden::elements(&self.arrays, at)
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
                let is_nan = |x: &T| !x.eq(x);
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
    compare(session());
}

/// There, too; of each case a stage, of each chunk a launch.
#[test]
#[cfg(feature = "gpu")]
fn elements_are_numpys_to_the_bit_on_a_gpu() {
    let Some(session) = super::gpu_session() else { return };
    compare(session.clone());
    assert!(support::gpu::launches(&session) > 2000, "{}", support::gpu::launches(&session));
}

fn compare(session: Session) {
    let text = std::fs::read_to_string(format!("{}/tests/data/elementwise.json", env!("CARGO_MANIFEST_DIR"))).unwrap();
    let Value::Object(all) = serde_json::from_str(&text).unwrap() else { panic!("an object") };
    let golden = Golden { arrays: all["arrays"].as_array().unwrap().clone(), session };
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
fn the_bytes_of_golden_arrays_are_read() {
    assert_eq!(hex(&arr1(&[1u8, 255]).into_dyn()), "01ff");
    assert_eq!(Complex::<f32>::of(&[0, 0, 128, 63, 0, 0, 0, 64]), Complex::new(1.0, 2.0));
}
