//! Host memory: what operands hold at first, and places for what comes back.
//!
//! Owns: [`Fill`], [`Operand`], [`Landing`], and the lending of their memory to moves. Must not know: kernels, devices. Invariant: an operand is never
//! written; a landing is written by moves only, and read when these are over.
#![allow(unsafe_code)] // memory is lent to a device that is driven by hand

use std::sync::Arc;

use chunkwise::device::{Data, HostBuffer, Window, take_result};
use chunkwise::shape::{DType, Layout};
use rayon::prelude::*;

use super::teller::{Measured, failed};

/// What an operand holds at first.
#[derive(Clone, Copy)]
pub enum Fill {
    /// Between -1 and 1.
    Random,
    /// Between 0 and 1: a part that is missing in a sum of these is seen.
    Positive,
    /// `n` on the diagonal, up to 0.5 beside it: stays definite when its factor is factored, and so on.
    Definite,
    /// 1 on the diagonal, up to 1/n beside it: solving again and again neither grows nor dies.
    Triangle,
    /// From this to 0.
    Axis(f64),
}

impl Fill {
    /// Element `i`, counted in C order, of an operand of this shape.
    pub fn value(self, i: usize, shape: &[usize], seed: u64) -> f64 {
        let mut z = (i as u64).wrapping_add(seed << 40).wrapping_mul(0x9e37_79b9_7f4a_7c15); // splitmix64
        z = (z ^ (z >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        let random = ((z ^ (z >> 31)) >> 11) as f64 / (1u64 << 52) as f64 - 1.0;
        let n = shape.last().copied().unwrap_or(1);
        match (self, i / n == i % n) {
            (Self::Random, _) => random,
            (Self::Positive, _) => 0.5 * random + 0.5,
            (Self::Definite, true) => n as f64,
            (Self::Definite, false) => 0.5 * random,
            (Self::Triangle, true) => 1.0,
            (Self::Triangle, false) => random / n as f64,
            (Self::Axis(from), _) => from - from * i as f64 / n as f64,
        }
    }
}

/// Elements of one of the dtypes that operands have.
#[derive(Clone)]
enum Values {
    F32(Arc<Vec<f32>>),
    F64(Arc<Vec<f64>>),
    I32(Arc<Vec<i32>>),
}

/// An array in host memory, in C order.
#[derive(Clone)]
pub struct Operand {
    /// Dtype and shape.
    pub layout: Layout,
    values: Values,
}

impl Operand {
    /// An operand of this shape. Integers are -7, which no kernel gives.
    pub fn new(dtype: DType, shape: &[usize], fill: Fill, seed: u64) -> Self {
        let all = 0..shape.iter().product::<usize>();
        let value = |i| fill.value(i, shape, seed);
        let values = match dtype {
            DType::F32 => Values::F32(Arc::new(all.into_par_iter().map(|i| value(i) as f32).collect())),
            DType::F64 => Values::F64(Arc::new(all.into_par_iter().map(value).collect())),
            _ => Values::I32(Arc::new(vec![-7; all.len()])),
        };
        Self { layout: Layout::contiguous(dtype, shape), values }
    }

    /// Element `i`, in C order.
    pub fn at(&self, i: usize) -> f64 {
        match &self.values {
            Values::F32(all) => f64::from(all[i]),
            Values::F64(all) => all[i],
            Values::I32(all) => f64::from(all[i]),
        }
    }

    /// The same with each element changed by `change`, rounded to its dtype.
    pub fn changed(self, change: impl Fn(usize, f64) -> f64 + Sync) -> Self {
        let (len, now) = (self.layout.len(), |i| change(i, self.at(i)));
        let values = match &self.values {
            Values::F32(_) => Values::F32(Arc::new((0..len).into_par_iter().map(|i| now(i) as f32).collect())),
            Values::F64(_) => Values::F64(Arc::new((0..len).into_par_iter().map(now).collect())),
            Values::I32(_) => Values::I32(Arc::new((0..len).into_par_iter().map(|i| now(i) as i32).collect())),
        };
        Self { layout: self.layout, values }
    }

    /// Its elements, damaged: no check may take them for right.
    pub fn spoiled(self) -> Self {
        let whole = self.layout.dtype == DType::I32;
        self.changed(|_, v| if whole { v + 1.0 } else { 1.01 * v })
    }

    /// All of it, as a chunk.
    pub fn chunk(&self) -> Data {
        self.part(0, &self.layout)
    }

    /// The chunk of this layout that begins at element `first`.
    pub fn part(&self, first: usize, layout: &Layout) -> Data {
        let buffer = match &self.values {
            Values::F32(all) => HostBuffer::caller(all),
            Values::F64(all) => HostBuffer::caller(all),
            Values::I32(all) => HostBuffer::caller(all),
        };
        // SAFETY: a caller's memory, of which nothing here makes a place to write to.
        Data::Host(unsafe { Window::lent(buffer, first, layout.clone()) })
    }
}

/// An array in host memory that moves write to, of zeros at first.
pub struct Landing {
    layout: Layout,
    buffer: Arc<HostBuffer>,
}

impl Landing {
    /// One of this dtype and shape.
    pub fn new(dtype: DType, shape: &[usize]) -> Measured<Self> {
        let layout = Layout::contiguous(dtype, shape);
        let buffer = match dtype {
            DType::F32 => HostBuffer::result::<f32>(layout.len()),
            DType::F64 => HostBuffer::result::<f64>(layout.len()),
            _ => HostBuffer::result::<i32>(layout.len()),
        };
        Ok(Self { layout, buffer: buffer.map_err(failed)? })
    }

    /// All of it, as a place for a chunk: for one move at a time.
    pub fn chunk(&self) -> Data {
        self.part(0, &self.layout)
    }

    /// Part of it, likewise.
    pub fn part(&self, first: usize, layout: &Layout) -> Data {
        // SAFETY: who asks for the place gives it to one move at a time, beside moves to other elements; what came is looked at when all are over.
        Data::Host(unsafe { Window::lent(self.buffer.clone(), first, layout.clone()) })
    }

    /// What came. All moves to it must be over.
    pub fn found(&self) -> Measured<Operand> {
        let (len, buffer) = (self.layout.len(), self.buffer.clone());
        let gone = || failed("what came back has another dtype");
        let values = match self.layout.dtype {
            DType::F32 => Values::F32(Arc::new(elements::<f32>(buffer, len).ok_or_else(gone)?)),
            DType::F64 => Values::F64(Arc::new(elements::<f64>(buffer, len).ok_or_else(gone)?)),
            _ => Values::I32(Arc::new(elements::<i32>(buffer, len).ok_or_else(gone)?)),
        };
        Ok(Operand { layout: self.layout.clone(), values })
    }
}

/// A copy of them: the buffer goes on being written to.
fn elements<T: chunkwise::shape::Element>(buffer: Arc<HostBuffer>, len: usize) -> Option<Vec<T>> {
    let taken = take_result::<T>(buffer)?;
    let mut all = taken.vec;
    all.drain(..taken.start);
    all.truncate(len);
    Some(all)
}
