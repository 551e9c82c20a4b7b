//! What is right: results against the definition of the kernel, in `f64`.
//!
//! Owns: [`check`]. Must not know: devices, times. Invariant: what is not a number is wrong, whatever else it may be.
//!
//! A result is looked at in 256 places. Where `k` terms are summed up, it may be off by `min(16 + 8 sqrt k, 256) u` of the sum of their sizes, `u` being 2^-24
//! or 2^-53: more than any order of additions that the kernels have, less than a term that is missing.

use chunkwise::shape::DType;

use super::case::{Case, Routine};
use super::host::{Fill, Operand};
use super::teller::{Measured, Trouble};

/// Places at which a result is looked at.
const PLACES: usize = 256;
/// Orbits near the set's edge may go either way: so many of them.
const STRAY: f64 = 0.05;

/// A case's operands: its inputs, what its output held, and what it holds now.
pub struct Done<'a> {
    /// The case.
    pub case: &'a Case,
    /// Its inputs.
    pub inputs: &'a [Operand],
    /// Its output before.
    pub old: &'a Operand,
    /// Its output after.
    pub found: &'a Operand,
}

/// An element's distance from what it should be, and how large that may be.
#[derive(Clone, Copy, Debug)]
struct Off {
    by: f64,
    most: f64,
}

/// The largest error, as a part of what it may be (of escape counts: the part of them that differs).
pub fn check(done: &Done<'_>) -> Measured<f64> {
    let len = done.old.layout.len();
    let place = |k: usize| match k {
        _ if len <= PLACES => k,
        0 => len - 1,
        _ => (Fill::Positive.value(k, &[1], 3) * len as f64) as usize,
    };
    let (mut worst, mut wrong, mut seen) = (0.0f64, Vec::new(), 0u32);
    for at in (0..PLACES.min(len)).map(place) {
        let Some(Off { by, most }) = done.off(at) else { continue };
        seen += 1;
        if by <= most {
            worst = worst.max(if by > 0.0 { by / most } else { 0.0 });
        } else {
            // Also if it is no number.
            wrong.push(format!("element {at} is {}, off by {by:.3e}, allowed {most:.3e}", done.found.at(at)));
        }
    }
    let counts = done.case.routine == Routine::Mandelbrot;
    let part = wrong.len() as f64 / f64::from(seen.max(1));
    match wrong.first() {
        _ if seen == 0 => Err(Trouble::Wrong("nothing of it was looked at".into())),
        Some(first) if !counts || part > STRAY => Err(Trouble::Wrong(format!("{} of {seen} places; {first}", wrong.len()))),
        _ => Ok(if counts { part } else { worst }),
    }
}

impl Done<'_> {
    /// Of element `at`; `None` where there may be anything.
    fn off(&self, at: usize) -> Option<Off> {
        let n = self.old.layout.shape.last().copied().unwrap_or(1);
        let (i, j) = (at / n, at % n);
        let result = self.found.at(at);
        let input = |which: usize, at: usize| self.inputs[which].at(at);
        match self.case.routine {
            Routine::Syrk if j > i => None,
            Routine::Gemm | Routine::Syrk => {
                let k = self.inputs[0].layout.shape[1];
                let products = (0..k).map(|p| -input(0, i * k + p) * input(1, j * k + p));
                Some(self.rest(products.chain([self.old.at(at), -result])))
            }
            Routine::Trsm => {
                let products = (0..=j).map(|p| self.found.at(i * n + p) * input(0, j * n + p));
                Some(self.rest(products.chain([-self.old.at(at)])))
            }
            Routine::Potrf if j > i => Some(Off { by: result.abs(), most: 0.0 }),
            Routine::Potrf => {
                let products = (0..=j).map(|p| self.found.at(i * n + p) * self.found.at(j * n + p));
                Some(self.rest(products.chain([-self.old.at(at)])))
            }
            Routine::Gemv => {
                let k = self.inputs[1].layout.len();
                Some(self.rest((0..k).map(|p| input(0, at * k + p) * input(1, p)).chain([-result])))
            }
            Routine::Sum => Some(self.rest((0..self.inputs[0].layout.len()).map(|p| input(0, p)).chain([-result]))),
            Routine::Read => {
                let quads = (4 * at..self.inputs[0].layout.len()).step_by(4 * n);
                Some(self.rest(quads.flat_map(|q| q..q + 4).map(|p| input(0, p)).chain([-result])))
            }
            Routine::Peak => Some(self.off_peak(at)),
            Routine::Mandelbrot => {
                let (most, x, y) = (self.case.steps, input(0, j), input(1, i));
                let wanted = if self.single() { escape_f32(x as f32, y as f32, most) } else { escape_f64(x, y, most) };
                Some(Off { by: (f64::from(wanted) - result).abs(), most: 0.0 })
            }
        }
    }

    /// Each of 16 chains of multiply-adds may be rounded up, or down, all the way.
    fn off_peak(&self, at: usize) -> Off {
        let adds = 4.0 * f64::from(self.case.steps);
        let (start, all) = ((16 * (at % 256) + 120) as f64, 16.0 * adds * self.inputs[0].at(0) * self.inputs[0].at(1));
        Off { by: (start + all - self.found.at(at)).abs(), most: (16.0 + adds) * self.unit() * (start + all.abs()) }
    }

    /// Terms that come to 0 together. What rounding loses of their sum is kept apart (Neumaier).
    fn rest(&self, terms: impl Iterator<Item = f64>) -> Off {
        let (mut sum, mut lost, mut size, mut k) = (0.0f64, 0.0, 0.0, 0.0f64);
        for v in terms {
            let next = sum + v;
            lost += if sum.abs() >= v.abs() { (sum - next) + v } else { (v - next) + sum };
            (sum, size, k) = (next, size + v.abs(), k + 1.0);
        }
        Off { by: (sum + lost).abs(), most: (16.0 + 8.0 * k.sqrt()).min(256.0) * self.unit() * size }
    }

    fn single(&self) -> bool {
        self.case.dtype == DType::F32
    }

    fn unit(&self) -> f64 {
        if self.single() { 2f64.powi(-24) } else { 2f64.powi(-53) }
    }
}

macro_rules! escape {
    ($name:ident, $t:ty) => {
        fn $name(cr: $t, ci: $t, iterations: u32) -> u32 {
            let (mut re, mut im) = (cr, ci);
            let mut left = |_: &u32| {
                (re, im) = (re.mul_add(re, -(im * im)) + cr, 2.0 * (re * im) + ci);
                !matches!(re.mul_add(re, im * im).partial_cmp(&16.0), Some(o) if o.is_le())
            };
            (0..iterations).find(|count| left(count)).unwrap_or(iterations)
        }
    };
}
escape!(escape_f32, f32);
escape!(escape_f64, f64);
