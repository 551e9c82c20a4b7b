//! What the speed of a program follows from.
//!
//! Owns: [`OpClass`], [`OpMix`], [`Structure`]. Must not know: devices, times. Invariant: programs of one structure differ in the numbers that stand in them alone.

use serde::{Deserialize, Serialize};

use super::key::content_hash;
use super::map::table::{OnGpu, ScalarOp};
use crate::shape::DType;

/// What an operation occupies: operations of one class take times that are alike, for what the table says they are worth.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
pub enum OpClass {
    /// Arithmetic and comparisons of floats, and what moves bits.
    Alu,
    /// Functions that no instruction computes exactly: exponentials, logarithms, angles, powers.
    Transcendental,
    /// Arithmetic of integers and booleans, random bits among it.
    Integer,
    /// What joins elements to results of reductions: on a CPU next to nothing beside their reading, on a GPU often more.
    Fold,
}

impl OpClass {
    /// All of them.
    pub const ALL: [Self; 4] = [Self::Alu, Self::Transcendental, Self::Integer, Self::Fold];

    /// The class of a scalar operation on elements of a dtype: what the table states in ulps is transcendental.
    #[must_use]
    pub(crate) fn of(op: ScalarOp, dtype: DType) -> Self {
        match op.row().gpu {
            OnGpu::Ulps(..) => Self::Transcendental,
            OnGpu::Exact if dtype.is_integer() || dtype == DType::Bool => Self::Integer,
            OnGpu::Exact => Self::Alu,
        }
    }
}

/// How much of a program's operations is of which class.
#[derive(Clone, Copy, Debug, Default, PartialEq, Serialize, Deserialize)]
pub struct OpMix {
    /// What an element is worth, in the order of [`OpClass::ALL`].
    work: [f64; 4],
}

impl OpMix {
    /// Operations worth so much, all of one class.
    #[must_use]
    pub fn all(class: OpClass, work: f64) -> Self {
        let mut mix = Self::default();
        mix.add(class, work);
        mix
    }

    /// Takes in operations.
    pub fn add(&mut self, class: OpClass, work: f64) {
        self.work[class as usize] += work.max(0.0);
    }

    /// Operations that an element is worth, of all classes.
    #[must_use]
    pub fn total(&self) -> f64 {
        self.work.iter().sum()
    }

    /// Both.
    #[must_use]
    pub fn with(mut self, other: Self) -> Self {
        self.work.iter_mut().zip(other.work).for_each(|(work, more)| *work += more);
        self
    }

    /// The part of all operations that is of a class; of none at all, arithmetic.
    #[must_use]
    pub fn share(&self, class: OpClass) -> f64 {
        let all = self.total();
        match all > 0.0 {
            true => self.work[class as usize] / all,
            false => f64::from(u8::from(class == OpClass::Alu)),
        }
    }

    /// The class of most of them.
    #[must_use]
    pub fn most(&self) -> OpClass {
        let more = |a: OpClass, b: OpClass| if self.share(b) > self.share(a) { b } else { a };
        OpClass::ALL.into_iter().reduce(more).unwrap_or(OpClass::Alu)
    }
}

/// What programs of one name are told apart by where times are kept, and what a program never seen is priced by.
#[derive(Clone, Copy, Debug, PartialEq, Serialize, Deserialize)]
pub struct Structure {
    /// Stands for the operations, their dtypes and how they are put together; not for the numbers among them.
    pub hash: u64,
    /// Of which classes its operations are.
    pub mix: OpMix,
}

impl Structure {
    /// The structure that is written so.
    #[must_use]
    pub fn new(text: &str, mix: OpMix) -> Self {
        Self { hash: content_hash(text.as_bytes()), mix }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_mix_knows_its_shares() {
        let mix = OpMix::all(OpClass::Alu, 5.0).with(OpMix::all(OpClass::Transcendental, 15.0));
        assert_eq!(OpClass::ALL.map(|class| mix.share(class)), [0.25, 0.75, 0.0, 0.0]);
        assert_eq!((mix.most(), OpMix::default().most()), (OpClass::Transcendental, OpClass::Alu));
        assert_eq!(OpClass::ALL.map(|class| OpMix::default().share(class)), [1.0, 0.0, 0.0, 0.0]);
    }

    #[test]
    fn the_table_says_what_is_transcendental() {
        assert_eq!(OpClass::of(ScalarOp::Sin, DType::F64), OpClass::Transcendental);
        assert_eq!(OpClass::of(ScalarOp::Sqrt, DType::F64), OpClass::Alu);
        assert_eq!(OpClass::of(ScalarOp::Mul, DType::I32), OpClass::Integer);
        assert_eq!(OpClass::of(ScalarOp::And, DType::Bool), OpClass::Integer);
    }
}
