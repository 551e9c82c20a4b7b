//! Operations on values of any dtype: complex ones by their parts.
//!
//! Owns: what a complex operation is on real and imaginary parts. Must not know: arrays, loops. Invariant: formulas and their order are NumPy's (a quotient is
//! Smith's), each operation rounded.

use super::program::{Builder, Value};
use super::table::ScalarOp;
use crate::shape::DType;

impl Builder {
    /// What an operation gives. Complex values are added, subtracted, multiplied, divided, negated, compared and chosen between; all else takes other values.
    ///
    /// # Panics
    /// If it does not take such values: who calls it has looked at the dtypes.
    pub fn apply(&mut self, op: ScalarOp, args: &[Value]) -> Value {
        let is_complex = args.last().is_some_and(|&arg| self.dtype(arg).is_complex());
        match (op, args) {
            (ScalarOp::Compose, &[re, im]) => self.compose(re, im),
            (ScalarOp::Re | ScalarOp::Im, &[z]) if is_complex => self.part(op, z),
            (ScalarOp::Where, &[which, yes, no]) if !is_complex => self.choice([which, yes, no]),
            (ScalarOp::Where, &[which, yes, no]) => self.by_parts([yes, no], |b, [yes, no]| b.choice([which, yes, no])),
            (ScalarOp::Add | ScalarOp::Sub, &[x, y]) if is_complex => self.by_parts([x, y], |b, args| b.real(op, &args)),
            (ScalarOp::Neg, &[x]) if is_complex => self.by_parts([x], |b, args| b.real(op, &args)),
            (ScalarOp::Mul, &[x, y]) if is_complex => self.complex_product(x, y),
            (ScalarOp::Div, &[x, y]) if is_complex => self.complex_quotient(x, y),
            (ScalarOp::Eq | ScalarOp::Ne, &[x, y]) if is_complex => {
                let [x, y] = [x, y].map(|z| self.parts(z));
                let [re, im] = [0, 1].map(|part| self.real(op, &[x[part], y[part]]));
                self.real(if op == ScalarOp::Eq { ScalarOp::And } else { ScalarOp::Or }, &[re, im])
            }
            _ => self.real(op, args),
        }
    }

    /// A value as one of another dtype. A real number becomes a complex one with imaginary part 0, a complex one a real one by its real part; to `bool`, a complex
    /// number is true unless both parts are 0.
    pub fn cast(&mut self, value: Value, to: DType) -> Value {
        let from = self.dtype(value);
        match (from.is_complex(), to.is_complex()) {
            _ if from == to => value,
            (false, false) => self.real_cast(value, to),
            (true, true) => self.by_parts([value], |b, [x]| b.real_cast(x, to.part())),
            (false, true) => {
                let re = self.real_cast(value, to.part());
                let im = self.constant(to.part().zero());
                self.compose(re, im)
            }
            (true, false) if to == DType::Bool => {
                let [re, im] = self.parts(value).map(|x| self.real_cast(x, to));
                self.real(ScalarOp::Or, &[re, im])
            }
            (true, false) => {
                let re = self.part(ScalarOp::Re, value);
                self.real_cast(re, to)
            }
        }
    }

    /// Real and imaginary part.
    pub fn parts(&mut self, value: Value) -> [Value; 2] {
        [self.part(ScalarOp::Re, value), self.part(ScalarOp::Im, value)]
    }

    /// The complex value whose parts are made of the parts of these in one way.
    fn by_parts<const N: usize>(&mut self, args: [Value; N], mut make: impl FnMut(&mut Self, [Value; N]) -> Value) -> Value {
        let parts = args.map(|arg| self.parts(arg));
        let [re, im] = [0, 1].map(|part| make(self, parts.map(|parts| parts[part])));
        self.compose(re, im)
    }

    /// `(a + b i) (c + d i) = (a c - b d) + (a d + b c) i`
    fn complex_product(&mut self, x: Value, y: Value) -> Value {
        let ([a, b], [c, d]) = (self.parts(x), self.parts(y));
        let [ac, bd] = [[a, c], [b, d]].map(|args| self.real(ScalarOp::Mul, &args));
        let [ad, bc] = [[a, d], [b, c]].map(|args| self.real(ScalarOp::Mul, &args));
        let (re, im) = (self.real(ScalarOp::Sub, &[ac, bd]), self.real(ScalarOp::Add, &[ad, bc]));
        self.compose(re, im)
    }

    /// Smith's quotient: with `r` the smaller part of the divisor over the larger, and `s = 1 / (larger + smaller r)`, `(a + b r) s + (b - a r) s i` where the real
    /// part is larger; by zero, each part over zero.
    fn complex_quotient(&mut self, x: Value, y: Value) -> Value {
        use ScalarOp::{Abs, Add, Div, Eq, Le, Mul, Sub};
        let ([a, b], [c, d]) = (self.parts(x), self.parts(y));
        let [c_abs, d_abs] = [c, d].map(|part| self.real(Abs, &[part]));
        let is_real = self.real(Le, &[d_abs, c_abs]);
        let (large, small) = (self.choice([is_real, c, d]), self.choice([is_real, d, c]));
        let ratio = self.real(Div, &[small, large]);
        let (one, zero) = (self.dtype(c).one(), self.dtype(c).zero());
        let (one, zero) = (self.constant(one), self.constant(zero));
        let small_part = self.real(Mul, &[small, ratio]);
        let sum = self.real(Add, &[large, small_part]);
        let scale = self.real(Div, &[one, sum]);
        let (first, second) = (self.choice([is_real, a, b]), self.choice([is_real, b, a]));
        let part = self.real(Mul, &[second, ratio]);
        let re = self.real(Add, &[first, part]);
        let [a_ratio, b_ratio] = [a, b].map(|part| self.real(Mul, &[part, ratio]));
        let (if_real, if_not) = (self.real(Sub, &[b, a_ratio]), self.real(Sub, &[b_ratio, a]));
        let im = self.choice([is_real, if_real, if_not]);
        let is_zero = self.real(Eq, &[large, zero]);
        let parts = [(re, a), (im, b)].map(|(part, over)| {
            let (scaled, over) = (self.real(Mul, &[part, scale]), self.real(Div, &[over, c_abs]));
            self.choice([is_zero, over, scaled])
        });
        self.compose(parts[0], parts[1])
    }
}
