//! Instruction sets that loops are compiled for.
//!
//! Owns: the choice, [`Isa`]. Must not know: operations. Invariant: a loop gives the same bits on each: a multiplication and an addition are rounded each, unless they
//! were written as one (`mul_add`), which every set computes as one.
//!
//! Three are enough: loops are many, and each is compiled for all. Where a CPU has less than AVX2 they are what the target has anyway (on `aarch64` that is NEON).

use fearless_simd::{Level, Simd};

/// An instruction set that this CPU has.
pub(super) trait Isa: Copy + 'static {
    /// Runs what is inlined here with its instructions.
    fn call(self, body: impl FnOnce());
}

/// What every CPU of the target has.
#[derive(Clone, Copy)]
pub(super) struct Portable;

impl Isa for Portable {
    #[inline(always)]
    fn call(self, body: impl FnOnce()) {
        body();
    }
}

#[cfg(any(target_arch = "x86", target_arch = "x86_64"))]
macro_rules! isa {
    ($($token:ty),*) => {$(
        impl Isa for $token {
            #[inline(always)]
            fn call(self, body: impl FnOnce()) {
                self.vectorize(body);
            }
        }
    )*};
}
#[cfg(any(target_arch = "x86", target_arch = "x86_64"))]
isa!(fearless_simd::Avx2, fearless_simd::Avx512);

/// What is to be done with an instruction set.
pub(super) trait OnIsa {
    /// Does it.
    fn on(self, isa: impl Isa);
}

/// Does it with the best instructions of this level.
pub(super) fn on_level(level: Level, work: impl OnIsa) {
    #[cfg(any(target_arch = "x86", target_arch = "x86_64"))]
    {
        if let Some(isa) = level.as_avx512() {
            return work.on(isa);
        }
        if let Some(isa) = level.as_avx2() {
            return work.on(isa);
        }
    }
    let _ = level;
    work.on(Portable);
}
