//! The one table of scalar operations.
//!
//! Owns: [`ScalarOp`], and of each its name, its dtypes, its work, how accurate it is, what it is in WGSL and what a GPU can promise of it. Must not know: chunks,
//! strips. Invariant: what is written about an operation, here or in the documentation, comes from its row.
//!
//! Complex numbers are computed by their parts ([`super::Builder`] takes them apart), so an operation here is on booleans, integers, `f32` and `f64`.

use crate::shape::DType;

/// What an operation takes: all operands of one dtype, of these.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Domain {
    /// Integers, `f32`, `f64`.
    Reals,
    /// `f32`, `f64`.
    Floats,
    /// Integers.
    Integers,
    /// Booleans and integers: operations on bits.
    Bits,
    /// All of these.
    Any,
}

impl Domain {
    /// Whether a dtype is one of these.
    #[must_use]
    pub fn has(self, dtype: DType) -> bool {
        let is_real = dtype.is_integer() || dtype.is_float();
        match self {
            Self::Reals => is_real,
            Self::Floats => dtype.is_float(),
            Self::Integers => dtype.is_integer(),
            Self::Bits => dtype == DType::Bool || dtype.is_integer(),
            Self::Any => dtype == DType::Bool || is_real,
        }
    }
}

/// What an operation gives.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Gives {
    /// The dtype of its operands.
    Same,
    /// `bool`.
    Test,
    /// It is said with the operation: casts, and what takes complex numbers apart and puts them together.
    Said,
}

/// What a GPU gives for an operation on floats, where it has it. (On integers and booleans: the same bits.) Of what is subnormal it may take 0.
#[derive(Clone, Copy, Debug, PartialEq)]
pub enum OnGpu {
    /// The bits that a CPU gives.
    Exact,
    /// So many units in the last place from the exact result, at most: in `f32`, and in `f64`.
    Ulps(f64, f64),
}

/// A row of the table.
#[derive(Clone, Copy, Debug)]
pub struct Row {
    /// Which operation.
    pub op: ScalarOp,
    /// Its name, as in labels.
    pub name: &'static str,
    /// Number of operands.
    pub arity: usize,
    /// What it takes.
    pub domain: Domain,
    /// What it gives.
    pub gives: Gives,
    /// Operations that an element is worth, an addition being one.
    pub work: f64,
    /// On CPUs: units in the last place that a float may differ from the exact result by; 0.5 if it is the nearest.
    pub ulps: f64,
    /// The expression in WGSL of operands `a` and `b`; empty if it is the function of its name in `shaders/`, or more than that.
    pub wgsl: &'static str,
    /// What a GPU gives.
    pub gpu: OnGpu,
}

macro_rules! rows {
    ($($op:ident $name:literal $arity:literal $domain:ident $gives:ident $work:literal $ulps:literal $wgsl:literal $gpu:expr, $doc:literal;)*) => {
        /// A scalar operation.
        #[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
        pub enum ScalarOp {
            $(#[doc = $doc] $op,)*
        }

        /// All rows, in the order of the operations.
        pub const TABLE: &[Row] = {
            use OnGpu::*;
            &[$(Row {
                op: ScalarOp::$op,
                name: $name,
                arity: $arity,
                domain: Domain::$domain,
                gives: Gives::$gives,
                work: $work as f64,
                ulps: $ulps as f64,
                wgsl: $wgsl,
                gpu: $gpu,
            },)*]
        };

        /// The table as documentation.
        #[allow(unused_macros)] // of builds of the documentation alone
        macro_rules! operations_table {
            () => {
                concat!(
                    "\n| operation | elements | | ulp | on GPUs | work |\n|---|---|---|---|---|---|\n",
                    $("| `", $name, "` | ", stringify!($domain), " | ", $doc, " | ", $ulps, " | ", stringify!($gpu), " | ", $work, " |\n",)*
                )
            };
        }
        #[allow(unused_imports)]
        pub(crate) use operations_table;

        impl ScalarOp {
            /// What it does, in words.
            #[must_use]
            pub fn says(self) -> &'static str {
                match self {
                    $(Self::$op => $doc,)*
                }
            }
        }
    };
}

rows! {
    Add "add" 2 Reals Same 1 0.5 "a + b" Exact, "Sum; of integers it wraps.";
    Sub "subtract" 2 Reals Same 1 0.5 "a - b" Exact, "Difference; of integers it wraps.";
    Mul "multiply" 2 Reals Same 1 0.5 "a * b" Exact, "Product; of integers it wraps.";
    Div "divide" 2 Reals Same 4 0.5 "" Exact, "Quotient; of integers toward zero, by zero it is 0, and it wraps.";
    Rem "rem" 2 Reals Same 8 0.5 "" Exact, "Rust's `%`: the sign is the first operand's; of integers by zero 0.";
    DivEuclid "div_euclid" 2 Reals Same 12 0.5 "" Exact, "Quotient rounded so that the remainder is not negative; of integers by zero 0.";
    RemEuclid "rem_euclid" 2 Reals Same 10 0.5 "" Exact, "Remainder that is not negative; of integers by zero 0.";
    Neg "negate" 1 Reals Same 1 0.5 "" Exact, "The other sign; integers wrap.";
    Abs "abs" 1 Reals Same 1 0.5 "" Exact, "Absolute value; the least integer wraps to itself.";
    Sign "sign" 1 Reals Same 2 0.5 "" Exact, "-1, 0 or 1; zeros and NaN are as they are.";
    Minimum "minimum" 2 Any Same 2 0.5 "" Exact, "The lesser; NaN if one is NaN. -0 is less than 0.";
    Maximum "maximum" 2 Any Same 2 0.5 "" Exact, "The greater; NaN if one is NaN. 0 is more than -0.";
    Fmin "fmin" 2 Floats Same 2 0.5 "" Exact, "The lesser; the other one if one is NaN.";
    Fmax "fmax" 2 Floats Same 2 0.5 "" Exact, "The greater; the other one if one is NaN.";
    Copysign "copysign" 2 Floats Same 1 0.5 "" Exact, "The first operand with the sign of the second.";
    Sqrt "sqrt" 1 Floats Same 5 0.5 "" Exact, "Square root; of negative numbers NaN.";
    Floor "floor" 1 Floats Same 1 0.5 "" Exact, "The next lower integer.";
    Ceil "ceil" 1 Floats Same 1 0.5 "" Exact, "The next higher integer.";
    Round "round" 1 Floats Same 3 0.5 "" Exact, "The nearest integer, halves away from zero, as in Rust.";
    Rint "round_ties_even" 1 Floats Same 1 0.5 "" Exact, "The nearest integer, halves to even, as in NumPy.";
    Trunc "trunc" 1 Floats Same 1 0.5 "" Exact, "The next integer toward zero.";
    Fract "fract" 1 Floats Same 2 0.5 "" Exact, "What is behind the point: `x - x.trunc()`.";
    Cbrt "cbrt" 1 Floats Same 25 1.0 "" Ulps(0.6, 0.55), "Cube root.";
    Exp "exp" 1 Floats Same 20 1.0 "" Ulps(1.1, 0.8), "e to that power.";
    Exp2 "exp2" 1 Floats Same 18 1.0 "" Ulps(1.35, 0.8), "2 to that power.";
    Expm1 "expm1" 1 Floats Same 28 1.0 "" Ulps(1.45, 1.1), "`exp(x) - 1`, accurate near 0.";
    Log "log" 1 Floats Same 26 1.0 "" Ulps(1.2, 1.0), "Natural logarithm.";
    Log2 "log2" 1 Floats Same 28 1.0 "" Ulps(1.35, 0.85), "Logarithm to base 2.";
    Log10 "log10" 1 Floats Same 28 1.0 "" Ulps(1.3, 0.8), "Logarithm to base 10.";
    Log1p "log1p" 1 Floats Same 32 1.0 "" Ulps(1.2, 0.8), "`log(1 + x)`, accurate near 0.";
    Sin "sin" 1 Floats Same 19 1.0 "" Ulps(1.1, 0.9), "Sine.";
    Cos "cos" 1 Floats Same 19 1.0 "" Ulps(1.2, 0.9), "Cosine.";
    Tan "tan" 1 Floats Same 35 1.0 "" Ulps(1.8, 1.2), "Tangent.";
    Asin "asin" 1 Floats Same 30 1.0 "" Ulps(1.1, 0.7), "Arc sine, in -pi/2 to pi/2.";
    Acos "acos" 1 Floats Same 30 1.0 "" Ulps(1.1, 0.7), "Arc cosine, in 0 to pi.";
    Atan "atan" 1 Floats Same 28 1.0 "" Ulps(1.5, 0.7), "Arc tangent, in -pi/2 to pi/2.";
    Atan2 "atan2" 2 Floats Same 40 1.0 "" Ulps(1.8, 0.85), "The angle of the point whose y is the first operand and whose x the second, in -pi to pi.";
    Sinh "sinh" 1 Floats Same 35 1.0 "" Ulps(2.4, 0.85), "Hyperbolic sine.";
    Cosh "cosh" 1 Floats Same 35 1.0 "" Ulps(2.4, 0.9), "Hyperbolic cosine.";
    Tanh "tanh" 1 Floats Same 35 1.5 "" Ulps(2.0, 1.5), "Hyperbolic tangent.";
    Asinh "asinh" 1 Floats Same 45 1.5 "" Ulps(1.6, 1.2), "Inverse hyperbolic sine.";
    Acosh "acosh" 1 Floats Same 45 1.5 "" Ulps(1.6, 1.7), "Inverse hyperbolic cosine; below 1 NaN.";
    Atanh "atanh" 1 Floats Same 45 1.0 "" Ulps(1.6, 0.8), "Inverse hyperbolic tangent.";
    Erf "erf" 1 Floats Same 60 1.5 "" Ulps(1.6, 1.4), "Error function.";
    Hypot "hypot" 2 Floats Same 15 1.0 "" Ulps(0.6, 0.8), "`sqrt(x * x + y * y)` without overflow.";
    Pow "powf" 2 Floats Same 110 1.0 "" Ulps(1.6, 0.8), "The first operand to the power of the second.";
    Eq "eq" 2 Any Test 1 0.5 "" Exact, "Whether they are equal.";
    Ne "ne" 2 Any Test 1 0.5 "" Exact, "Whether they differ; NaN differs from all.";
    Lt "lt" 2 Any Test 1 0.5 "" Exact, "Whether the first is less.";
    Le "le" 2 Any Test 1 0.5 "" Exact, "Whether the first is less, or equal.";
    IsNan "is_nan" 1 Floats Test 1 0.5 "" Exact, "Whether it is NaN.";
    IsFinite "is_finite" 1 Floats Test 1 0.5 "" Exact, "Whether it is neither infinite nor NaN.";
    IsInfinite "is_infinite" 1 Floats Test 1 0.5 "" Exact, "Whether it is infinite.";
    And "and" 2 Bits Same 1 0.5 "a & b" Exact, "Both, bit by bit.";
    Or "or" 2 Bits Same 1 0.5 "a | b" Exact, "Either, bit by bit.";
    Xor "xor" 2 Bits Same 1 0.5 "" Exact, "One of them, bit by bit.";
    Not "not" 1 Bits Same 1 0.5 "" Exact, "The others, bit by bit.";
    Shl "shift_left" 2 Integers Same 2 0.5 "" Exact, "Bits moved up; by the dtype's bits or more, or by a negative number, 0.";
    Shr "shift_right" 2 Integers Same 2 0.5 "" Exact, "Bits moved down, the sign kept; by the dtype's bits or more, or by a negative number, 0 or -1 as the sign says.";
    Where "where" 3 Any Said 1 0.5 "" Exact, "The second operand where the first, a `bool`, is true, else the third.";
    Cast "cast" 1 Any Said 1 0.5 "" Exact, "Rust's `as`, but that to `bool` all but 0 is true.";
    Re "re" 1 Any Said 1 0.5 "" Exact, "Real part.";
    Im "im" 1 Any Said 1 0.5 "" Exact, "Imaginary part.";
    Compose "complex" 2 Floats Said 1 0.5 "" Exact, "The complex number of these parts.";
}

impl ScalarOp {
    /// Its row.
    #[must_use]
    pub fn row(self) -> &'static Row {
        &TABLE[self as usize]
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn rows_are_where_they_are_looked_for() {
        for row in TABLE {
            assert_eq!(row.op.row().name, row.name);
            assert!(row.work >= 1.0 && row.ulps >= 0.5 && (1..=3).contains(&row.arity), "{row:?}");
        }
        let mut names: Vec<_> = TABLE.iter().map(|row| row.name).collect();
        names.sort_unstable();
        names.dedup();
        assert_eq!(names.len(), TABLE.len());
    }
}
