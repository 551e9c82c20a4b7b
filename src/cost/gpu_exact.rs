//! Does a GPU's arithmetic give the bits of IEEE 754?
//!
//! Owns: [`test_exact`]. Must not know: how results are used. Invariant: a verdict comes from bits that the device made of numbers chosen to tell: what fails or does not answer is not
//! exact.

use std::sync::Arc;

use super::calibrate_gpu::BUDGET;
use super::gpu_bench::{Bench, Trouble, ended, fresh};
use crate::device::{Data, Device, host_view_mut, input_view, write};
use crate::kernel::map::{Builder, Elementwise, ScalarOp};
use crate::kernel::{ExactFloats, Kernel, Scratch};
use crate::shape::{ChunkMeta, DType, Layout};

/// Numbers of each test.
const NUMBERS: usize = 1 << 13;

/// Which pairs of results are tested.
#[derive(Clone, Copy, PartialEq, Eq)]
enum ExactPair {
    /// `a b + c` and `(a + b) - c`.
    Sums,
    /// `a / b` and `sqrt(c)`.
    Quotients,
}

/// Tests a device that runs programs: milliseconds, and what its driver takes to compile six programs. What it could not be asked is not promised. Its driver's own arithmetic is
/// asked, whatever the device was told of it ([`Device::set_exact`]).
#[must_use]
pub fn test_exact(device: &dyn Device) -> ExactFloats {
    let Some(facts) = device.spec().gpu else { return ExactFloats::UNTESTED };
    let bench = Bench::new(device, BUDGET);
    let mut exact = ExactFloats { tested: true, ..ExactFloats::default() };
    let dtypes: &[DType] = if facts.f64 { &[DType::F32, DType::F64] } else { &[DType::F32] };
    for (wide, &dtype) in dtypes.iter().enumerate() {
        let all = [(ExactPair::Sums, false), (ExactPair::Sums, true), (ExactPair::Quotients, false)];
        let mut found = [[false; 2]; 3];
        for (found, (pair, tiny)) in found.iter_mut().zip(all) {
            match (ExactCase { dtype, pair, tiny }).parts_are_equal(&bench) {
                Ok(parts) => *found = parts,
                Err(Trouble::Gone) => return ExactFloats::UNTESTED,
                Err(_) => {}
            }
        }
        let [sums, tiny, [quotients, roots]] = found;
        (exact.sums[wide], exact.subnormals[wide]) = (sums == [true; 2], tiny == [true; 2]);
        (exact.quotients[wide], exact.roots[wide]) = (quotients, roots);
    }
    exact
}

struct ExactCase {
    dtype: DType,
    pair: ExactPair,
    /// Whether numbers are about as large as the least normal one.
    tiny: bool,
}

impl ExactCase {
    /// A kernel that makes both results of three numbers, as the parts of a complex one.
    fn kernel(&self) -> Elementwise {
        let mut b = Builder::new();
        let [x, y, z] = [0; 3].map(|_| b.input(self.dtype));
        let parts = match self.pair {
            ExactPair::Sums => {
                let (product, sum) = (b.apply(ScalarOp::Mul, &[x, y]), b.apply(ScalarOp::Add, &[x, y]));
                [b.apply(ScalarOp::Add, &[product, z]), b.apply(ScalarOp::Sub, &[sum, z])]
            }
            ExactPair::Quotients => [b.apply(ScalarOp::Div, &[x, y]), b.apply(ScalarOp::Sqrt, &[z])],
        };
        let made = b.apply(ScalarOp::Compose, &parts);
        Elementwise::new(Arc::new(b.finish(made).0)).with_drivers_own()
    }

    /// Number `i` of an input. Of ordinary ones all bits of the mantissa differ; products and sums come near each other, so that an order or a rounding shows.
    fn number(&self, input: usize, i: usize) -> f64 {
        let bits = (i as u64 + 1).wrapping_mul(0x9e37_79b9_7f4a_7c15).rotate_left(17 * input as u32 + 5);
        let mantissa = 1.0 + (bits >> 12) as f64 / (1u64 << 52) as f64;
        let sign = if bits & 1 == 1 && (self.pair, input) != (ExactPair::Quotients, 2) { -1.0 } else { 1.0 };
        let scale = 2f64.powi((bits >> 1 & 7) as i32 - 4);
        let least = match (self.tiny, self.dtype) {
            (false, _) => 1.0,
            // Products stay there, because the second number is about one.
            (true, _) if input == 1 && self.pair == ExactPair::Sums && i.is_multiple_of(2) => 1.0,
            (true, DType::F32) => f64::from(f32::MIN_POSITIVE) / 8.0,
            (true, _) => f64::MIN_POSITIVE / 8.0,
        };
        sign * mantissa * scale * least
    }

    /// What the device makes, and what a CPU does.
    fn results(&self, bench: &Bench<'_>) -> Result<[Vec<u8>; 2], Trouble> {
        let kernel = self.kernel();
        let made = if self.dtype == DType::F64 { DType::C128 } else { DType::C64 };
        let [real, complex] = [self.dtype, made].map(|dtype| Layout::contiguous(dtype, &[NUMBERS]));
        let (mut near, mut far) = (Vec::new(), Vec::new());
        for input in 0..3 {
            let (window, remote) = (Bench::host(&real)?, bench.remote(&real)?);
            write(&window, |i| self.number(input, i));
            ended(&bench.move_to(Data::Host(window.clone()), remote.clone(), true))?;
            near.push(Data::Host(window));
            far.push(remote);
        }
        let metas = [real.dtype, real.dtype, real.dtype, made].map(|dtype| ChunkMeta::new(dtype, &[NUMBERS]));
        let mut scratch = vec![0; kernel.scratch_bytes(&[], &metas) as usize + 64];
        let (views, window) = (near.iter().map(input_view).collect::<Vec<_>>(), Bench::host(&complex)?);
        let ran = kernel.run_cpu(&[], &views, &mut [host_view_mut(&window)], &mut Scratch::new(&mut scratch));
        ran.map_err(|_| Trouble::Failed)?;
        let wanted = input_view(&Data::Host(window)).try_bytes().map(<[u8]>::to_vec).ok_or(Trouble::Failed)?;
        let output = fresh(&bench.remote(&complex)?);
        let kernel: Arc<dyn Kernel> = Arc::new(kernel);
        bench.launch(&kernel, &[], (&far, std::slice::from_ref(&output)))?;
        Ok([bench.bytes(&output.to)?, wanted])
    }

    /// Of the first and of the second result, whether all are equal to the bit.
    fn parts_are_equal(&self, bench: &Bench<'_>) -> Result<[bool; 2], Trouble> {
        let [found, wanted] = self.results(bench)?;
        let size = self.dtype.bytes();
        let part = |which: usize| {
            let of = |bytes: &[u8]| bytes.chunks_exact(size).skip(which).step_by(2).map(<[u8]>::to_vec).collect::<Vec<_>>();
            found.len() == wanted.len() && of(&found) == of(&wanted)
        };
        Ok([part(0), part(1)])
    }
}
