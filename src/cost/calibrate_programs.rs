//! What this CPU takes for operations of each class, measured once and kept.
//!
//! Owns: [`calibrate_programs`]. Must not know: history, the file. Invariant: it takes milliseconds: a program that is slower than thought is run fewer times.

use std::time::{Duration, Instant};

use rayon::ThreadPool;

use super::KernelSample;
use super::gpu_cases::TimedKernel;
use crate::kernel::{Kernel, KernelKey, Scratch};
use crate::shape::{ChunkMeta, ChunkView, ChunkViewMut, Float, Layout};

/// Numbers of a chunk: what fits in the caches of a core, as a fused program's strips do.
const NUMBERS: usize = 1 << 15;
/// Runs whose times count, after one that does not; and the time after which no further one starts.
const REPEATS: usize = 4;
const SLOT: Duration = Duration::from_millis(10);
/// A number of which all the programs make something ordinary.
const NUMBER: f64 = 0.2;

/// Times of programs that are arithmetic, transcendental functions and arithmetic of integers, on all threads of `pool` at once. Memory is what
/// [`super::calibrate`] has measured.
#[must_use]
pub fn calibrate_programs(pool: &ThreadPool) -> Vec<KernelSample> {
    let classes = [TimedKernel::Polynomial, TimedKernel::Functions, TimedKernel::Integers];
    let of = |routine| [sample::<f32>(pool, routine), sample::<f64>(pool, routine)];
    classes.into_iter().flat_map(of).collect()
}

fn sample<T: Float>(pool: &ThreadPool, routine: TimedKernel) -> KernelSample {
    let kernel = routine.kernel(T::DTYPE);
    let shape = [NUMBERS];
    let metas = [ChunkMeta::new(T::DTYPE, &shape); 2];
    let work = kernel.work(&[], &metas);
    let ns: Vec<u64> = pool.broadcast(|_| times::<T>(&*kernel, &metas)).into_iter().flatten().collect();
    let name = KernelKey::new(&*kernel, 0).name_and_version().to_owned();
    KernelSample { kernel: name, structure: kernel.structure(), dtype: T::DTYPE, work, ns }
}

/// Nanoseconds of each run after the first.
fn times<T: Float>(kernel: &dyn Kernel, metas: &[ChunkMeta<'_>]) -> Vec<u64> {
    let layout = Layout::contiguous(T::DTYPE, &[NUMBERS]);
    let (input, mut output) = (vec![T::from_f64(NUMBER); NUMBERS], vec![T::default(); NUMBERS]);
    let mut bytes = vec![0; kernel.scratch_bytes(&[], metas) as usize + 64];
    let start = Instant::now();
    let mut all = Vec::new();
    while all.len() <= REPEATS && (all.len() < 2 || start.elapsed() < SLOT) {
        let began = Instant::now();
        let inputs = [ChunkView::from_slice(&input, &layout)];
        let mut outputs = [ChunkViewMut::from_slice(&mut output, &layout)];
        if kernel.run_cpu(&[], &inputs, &mut outputs, &mut Scratch::new(&mut bytes)).is_err() {
            break;
        }
        all.push(u64::try_from(began.elapsed().as_nanos()).unwrap_or(u64::MAX));
    }
    all.split_off(1.min(all.len()))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::cost::{Basis, CostModel, DeviceKey, PricedAs, Rates};
    use crate::kernel::Work;
    use crate::kernel::map::{Builder, Elementwise, ScalarOp};
    use crate::shape::DType;

    #[test]
    fn a_program_never_seen_is_priced_by_what_was_measured() {
        let pool = rayon::ThreadPoolBuilder::new().num_threads(2).build().unwrap();
        let samples = calibrate_programs(&pool);
        let (mut costs, _) = CostModel::load(None);
        let cpu = costs.device(&DeviceKey::cpu(2), Rates::CPU);
        for sample in &samples {
            costs.record_sample(cpu, sample);
            assert!(sample.ns.iter().all(|&ns| ns > 0) && sample.work.flops > 20.0 * NUMBERS as f64);
        }
        assert_eq!(samples.len(), 6);
        let mut b = Builder::new();
        let x = b.input(DType::F64);
        let y = [ScalarOp::Cos, ScalarOp::Tanh].iter().fold(x, |of, &op| b.apply(op, &[of]));
        let kernel = Elementwise::new(std::sync::Arc::new(b.finish(y).0));
        let structure = kernel.structure();
        let id = costs.resolve(cpu, PricedAs { kernel: "cos + tanh@1", structure: structure.as_ref() }, DType::F64);
        let work = Work { flops: 54.0 * NUMBERS as f64, bytes: 16.0 * NUMBERS as f64 };
        assert_eq!(costs.estimate(id, work).basis, Basis::Classes);
    }
}
