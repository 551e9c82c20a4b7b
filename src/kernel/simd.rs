//! Which SIMD instructions the kernels use.
//!
//! Owns: the choice of the level, once per process. Must not know: any kernel. Invariant: a level handed out here is one that
//! this CPU executes, and kernels give the same bits on each (they say where not).

use std::sync::OnceLock;

use fearless_simd::Level;

/// The level that kernels run with: the best of this CPU, or what `CHUNKWISE_SIMD` (`portable`, `avx2`) asks for, if the CPU
/// has it. Decided at the first call.
#[must_use]
pub fn level() -> Level {
    static LEVEL: OnceLock<Level> = OnceLock::new();
    *LEVEL.get_or_init(|| match std::env::var("CHUNKWISE_SIMD").as_deref() {
        Ok("portable") => Level::baseline(),
        Ok("avx2") => avx2().unwrap_or_else(Level::new),
        _ => Level::new(),
    })
}

/// Name of [`level`], as reports and cost tables show it: `AVX-512`, `AVX2`, `NEON`, `portable`.
#[must_use]
pub fn simd_name() -> &'static str {
    name(level())
}

/// Name of a level.
#[must_use]
pub fn name(level: Level) -> &'static str {
    #[cfg(any(target_arch = "x86", target_arch = "x86_64"))]
    {
        if level.as_avx512().is_some() {
            return "AVX-512";
        }
        if level.as_avx2().is_some() {
            return "AVX2";
        }
        if level.as_sse4_2().is_some() {
            return "SSE4.2";
        }
    }
    #[cfg(target_arch = "aarch64")]
    if level.as_neon().is_some() {
        return "NEON";
    }
    let _ = level;
    "portable"
}

/// Every level that this CPU executes and that has a name of its own, the best first: for tests and benches that compare them.
#[must_use]
pub fn levels() -> Vec<Level> {
    let mut all: Vec<Level> = vec![Level::new()];
    for level in avx2().into_iter().chain([Level::baseline()]) {
        if all.iter().all(|&l| name(l) != name(level)) {
            all.push(level);
        }
    }
    all
}

/// A 64-byte aligned array on the stack.
///
/// A function that has one keeps its stack aligned, so that vectors spilled from registers do not straddle cache lines; without it
/// the compiler spills unaligned, and a loop's speed depends on where the stack happens to start (measured: up to 2x).
#[repr(align(64))]
pub(crate) struct Aligned<T, const N: usize>(pub [T; N]);

fn avx2() -> Option<Level> {
    #[cfg(any(target_arch = "x86", target_arch = "x86_64"))]
    return Level::new().as_avx2().map(fearless_simd::Simd::level);
    #[cfg(not(any(target_arch = "x86", target_arch = "x86_64")))]
    None
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn levels_have_different_names_and_the_best_comes_first() {
        let names: Vec<_> = levels().into_iter().map(name).collect();
        assert_eq!(names[0], name(Level::new()));
        assert_eq!(names.iter().collect::<std::collections::HashSet<_>>().len(), names.len(), "{names:?}");
        assert!(names.contains(&simd_name()) || std::env::var_os("CHUNKWISE_SIMD").is_some());
    }
}
