//! Whether a GPU gives the very bits that a CPU does.
//!
//! Owns: [`ExactFloats`], and which scalar operations rest on what of it. Must not know: how it is tested. Invariant: what was not tested is not promised.

use serde::{Deserialize, Serialize};

use super::map::table::{OnGpu, ScalarOp};
use super::map::{Instr, ScalarProgram};
use crate::shape::DType;

/// What a test of an adapter and its driver has shown of their arithmetic: whether it gives the bits of IEEE 754, in `f32` and in `f64`.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct ExactFloats {
    /// Whether it was tested at all; if not, nothing is promised.
    pub tested: bool,
    /// Sums, differences and products, each rounded by itself and in the order of the program.
    pub sums: [bool; 2],
    /// Numbers below the least normal one are kept.
    pub subnormals: [bool; 2],
    /// Quotients are the nearest numbers.
    pub quotients: [bool; 2],
    /// Square roots are the nearest numbers.
    pub roots: [bool; 2],
}

impl ExactFloats {
    /// Of what nobody has tested.
    pub const UNTESTED: Self =
        Self { tested: false, sums: [false; 2], subnormals: [false; 2], quotients: [false; 2], roots: [false; 2] };
    /// Of what passed all tests.
    pub const ALL: Self = Self { tested: true, sums: [true; 2], subnormals: [true; 2], quotients: [true; 2], roots: [true; 2] };

    /// Whether the driver's own quotients and roots of `f64` were found not to be the nearest numbers: then ours take their place (`shaders/quotients_f64.wgsl`), which are
    /// within 1 ulp. Those of `f32` are ours everywhere.
    pub(super) fn mends_quotients(&self) -> bool {
        self.tested && !(self.quotients[1] && self.roots[1])
    }

    /// Why a program may have other bits on that GPU than on a CPU, for people.
    pub(crate) fn inexact(&self, program: &ScalarProgram) -> Option<String> {
        floats(program).find_map(|(op, dtype)| self.inexact_op(op, dtype))
    }

    /// The same, of an operation on floats of a dtype.
    pub(super) fn inexact_op(&self, op: ScalarOp, dtype: DType) -> Option<String> {
        let (row, wide) = (op.row(), usize::from(dtype == DType::F64));
        let is_moved = matches!(op, ScalarOp::Where | ScalarOp::Re | ScalarOp::Im | ScalarOp::Compose);
        if is_moved {
            return None;
        }
        if let OnGpu::Ulps(single, double) = row.gpu {
            let ulps = if wide == 1 { double } else { single };
            return Some(format!("{} of {dtype} is within {ulps} ulp of the exact result there, not the CPU's bits", row.name));
        }
        let quotients = !rests_on_quotients(op) || self.quotients[wide] && self.roots[wide];
        if self.sums[wide] && self.subnormals[wide] && quotients {
            return None;
        }
        let why = match self.tested {
            false => "its arithmetic was not tested yet",
            true if !self.subnormals[wide] => "it makes zero of numbers below the least normal one",
            true => "its arithmetic is not that of IEEE 754",
        };
        Some(format!("{} of {dtype}: {why}", row.name))
    }
}

/// Whether a quotient or a root is in it, as functions of `shaders/` compute it.
fn rests_on_quotients(op: ScalarOp) -> bool {
    use ScalarOp::{Div, DivEuclid, Rem, RemEuclid, Sqrt};
    matches!(op, Div | DivEuclid | Rem | RemEuclid | Sqrt) || matches!(op.row().gpu, OnGpu::Ulps(..))
}

/// The operations of a program that take floats or make them, with the dtype: of casts the narrower float.
fn floats(program: &ScalarProgram) -> impl Iterator<Item = (ScalarOp, DType)> + '_ {
    program.code().iter().filter_map(|instr| {
        let Instr::Op(op, to, _) = instr else { return None };
        let from = program.dtype_of(instr.args()[0]);
        let real = |dtype: DType| match dtype {
            DType::C64 => Some(DType::F32),
            DType::C128 => Some(DType::F64),
            DType::F16 | DType::BF16 => Some(DType::F32),
            _ => dtype.is_float().then_some(dtype),
        };
        let dtype = match (real(from), real(*to)) {
            (Some(a), Some(b)) if a != b => DType::F32,
            (a, b) => a.or(b)?,
        };
        Some((*op, dtype))
    })
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::kernel::map::Builder;

    fn of(dtype: DType, op: ScalarOp) -> ScalarProgram {
        let mut b = Builder::new();
        let args: Vec<_> = (0..op.row().arity).map(|_| b.input(dtype)).collect();
        let made = b.apply(op, &args);
        b.finish(made).0
    }

    #[test]
    fn what_was_not_tested_is_not_promised() {
        let why = |exact: ExactFloats, op, dtype| exact.inexact(&of(dtype, op));
        let untested = ExactFloats::default();
        assert!(why(untested, ScalarOp::Add, DType::F32).unwrap().contains("not tested"));
        assert_eq!(why(untested, ScalarOp::Add, DType::I32), None);
        assert_eq!(why(ExactFloats::ALL, ScalarOp::Add, DType::F32), None);
        assert_eq!(why(ExactFloats::ALL, ScalarOp::Div, DType::F64), None);
        let sine = why(ExactFloats::ALL, ScalarOp::Sin, DType::F64).unwrap();
        assert!(sine.starts_with("sin of f64 is within 0.9 ulp"), "{sine}");
        let flushing = ExactFloats { subnormals: [false, true], ..ExactFloats::ALL };
        assert!(why(flushing, ScalarOp::Mul, DType::F32).unwrap().contains("zero"));
        assert_eq!(why(flushing, ScalarOp::Mul, DType::F64), None);
    }

    #[test]
    fn quotients_that_are_not_the_nearest_are_mended() {
        assert!(!ExactFloats::ALL.mends_quotients() && !ExactFloats::default().mends_quotients());
        for wrong in [
            ExactFloats { quotients: [true, false], ..ExactFloats::ALL },
            ExactFloats { roots: [true, false], ..ExactFloats::ALL },
        ] {
            assert!(wrong.mends_quotients());
            assert!(wrong.inexact(&of(DType::F64, ScalarOp::Div)).is_some(), "what is mended is within 1 ulp");
            assert_eq!(wrong.inexact(&of(DType::F64, ScalarOp::Add)), None);
        }
    }
}
