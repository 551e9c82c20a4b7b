//! A kernel by a variant of one's choice, whatever the GPU that runs it is told.
//!
//! Owns: [`Chosen`]. Must not know: why. Invariant: it is the kernel in all else, so that what one variant does can be held against what another does.

use std::borrow::Cow;
use std::sync::Arc;

use super::{Content, Fault, GpuFacts, Kernel, Program, Scratch, Structure, Variants, Work};
use crate::shape::{ChunkMeta, ChunkView, ChunkViewMut};

/// A kernel that goes by these variants.
pub(crate) struct Chosen {
    pub(super) kernel: Arc<dyn Kernel>,
    variants: Variants,
}

impl Chosen {
    /// `kernel`, by these variants.
    pub(crate) fn of(kernel: Arc<dyn Kernel>, variants: Variants) -> Arc<dyn Kernel> {
        Arc::new(Self { kernel, variants })
    }
}

impl Kernel for Chosen {
    fn name(&self) -> Cow<'static, str> {
        self.kernel.name()
    }

    fn version(&self) -> u32 {
        self.kernel.version()
    }

    fn content(&self) -> Content {
        self.kernel.content()
    }

    fn work(&self, params: &[u8], operands: &[ChunkMeta<'_>]) -> Work {
        self.kernel.work(params, operands)
    }

    fn structure(&self) -> Option<Structure> {
        self.kernel.structure()
    }

    fn is_steady(&self) -> bool {
        self.kernel.is_steady()
    }

    fn program(&self, params: &[u8], operands: &[ChunkMeta<'_>], gpu: &GpuFacts) -> Option<Program> {
        self.kernel.program(params, operands, &GpuFacts { variants: self.variants, ..*gpu })
    }

    fn inexact(&self, gpu: &GpuFacts) -> Option<String> {
        self.kernel.inexact(gpu)
    }

    fn fault(&self, params: &[u8], words: [u32; 4]) -> Option<Fault> {
        self.kernel.fault(params, words)
    }

    fn run_cpu(
        &self,
        params: &[u8],
        inputs: &[ChunkView<'_>],
        outputs: &mut [ChunkViewMut<'_>],
        scratch: &mut Scratch<'_>,
    ) -> Result<(), Fault> {
        self.kernel.run_cpu(params, inputs, outputs, scratch)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::kernel::gemv::Gemv;
    use crate::kernel::is_ours;
    use crate::shape::DType;

    #[test]
    fn a_kernel_of_ours_by_a_chosen_variant_is_ours() {
        let shapes = [&[8, 512][..], &[512], &[8]];
        let metas = shapes.map(|shape| ChunkMeta::new(DType::F32, shape));
        let entry = |kernel: &dyn Kernel, variants| {
            let program = kernel.program(&[], &metas, &GpuFacts { variants, ..GpuFacts::ANY }).unwrap();
            program.passes[0].entry.clone()
        };
        let of = |variant| Variants { gemv: [variant; 2], ..Variants::AUTOMATIC };
        let slim = Chosen::of(Arc::new(Gemv), of(2));
        assert_eq!(entry(&Gemv, Variants::AUTOMATIC), "wide");
        assert_eq!((entry(&*slim, Variants::AUTOMATIC), entry(&*slim, of(1))), ("slim".into(), "slim".into()));
        assert!(is_ours(&*slim) && is_ours(&Gemv));
        struct Theirs;
        impl Kernel for Theirs {
            fn name(&self) -> Cow<'static, str> {
                "gemv".into()
            }
            fn work(&self, _: &[u8], _: &[ChunkMeta<'_>]) -> Work {
                Work::default()
            }
            fn run_cpu(
                &self,
                _: &[u8],
                _: &[ChunkView<'_>],
                _: &mut [ChunkViewMut<'_>],
                _: &mut Scratch<'_>,
            ) -> Result<(), Fault> {
                Ok(())
            }
        }
        assert!(!is_ours(&*Chosen::of(Arc::new(Theirs), of(1))));
    }
}
