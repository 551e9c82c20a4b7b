//! What programs are there for which GPUs. (What they say: tests/gpu_map.rs.)
//!
//! Owns: GPUs that lack something. Must not know: devices. Invariant: a GPU is asked for nothing that it lacks.

use super::super::{Builder, Elementwise, ScalarOp, Value};
use super::*;
use crate::kernel::Kernel;
use crate::shape::DType;

/// The program of one operation.
fn one(op: ScalarOp, dtypes: &[DType]) -> Elementwise {
    let mut b = Builder::new();
    let args: Vec<Value> = dtypes.iter().map(|&dtype| b.input(dtype)).collect();
    let made = b.apply(op, &args);
    Elementwise::new(Arc::new(b.finish(made).0))
}

#[test]
fn what_a_gpu_lacks_it_is_not_asked_for() {
    let (narrow, shape) = (GpuFacts { f64: false, i64: false, bindings: 8, ..GpuFacts::ANY }, [8]);
    let has = |dtype: DType, gpu: &GpuFacts| {
        let metas = [dtype; 3].map(|dtype| ChunkMeta::new(dtype, &shape));
        one(ScalarOp::Add, &[dtype; 2]).program(&[], &metas, gpu).is_some()
    };
    let without = |dtype: &DType| !has(*dtype, &narrow);
    let reals = DType::ALL.iter().filter(|dtype| dtype.is_integer() || dtype.is_float());
    assert_eq!(reals.clone().copied().filter(without).collect::<Vec<_>>(), [DType::I64, DType::U64, DType::F64]);
    assert!(reals.copied().all(|dtype| has(dtype, &GpuFacts::ANY)));
    // One input more than there are bindings.
    let sum = |count: usize| {
        let mut b = Builder::new();
        let args: Vec<Value> = (0..count).map(|_| b.input(DType::F32)).collect();
        let made = args[1..].iter().fold(args[0], |sum, &arg| b.apply(ScalarOp::Add, &[sum, arg]));
        let metas = vec![ChunkMeta::new(DType::F32, &shape); count + 1];
        Elementwise::new(Arc::new(b.finish(made).0)).program(&[], &metas, &narrow).is_some()
    };
    assert!(sum(7) && !sum(8));
}
