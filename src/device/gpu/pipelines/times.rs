//! How long compiling takes.
//!
//! Owns: [`CompileTimes`]. Must not know: compilers. Invariant: what the driver's cache has is one thing, and all else another; whatever a file says, times are positive.
//!
//! The longer a shader's text, each function as often as it is called, the longer it is compiled: of many sines, seconds.

/// What compiling so many bytes takes, until it was measured: what the driver has to compile, and what it finds in its cache.
const PRIOR: [(f64, f64); 2] = [(50e6, 4096.0), (10e6, 4096.0)];
/// So many times count as much as all before.
const MEMORY: f64 = 16.0;
/// What takes less than this part of what is expected was in a cache of the driver's own, most likely: it counts as little.
const CACHED: f64 = 1.0 / 8.0;
const LITTLE: f64 = 1.0 / 16.0;
/// Bytes from which on there is something to expect.
const EXPERIENCE: f64 = 8.0 * 4096.0;

/// Bytes of shaders: of new ones, and of those that the driver's cache has.
pub(super) type ShaderBytes = [u64; 2];

/// What was compiled of late: nanoseconds, and bytes.
#[derive(Clone, Copy, Debug, PartialEq)]
pub(super) struct CompileTimes([(f64, f64); 2]);

impl Default for CompileTimes {
    fn default() -> Self {
        Self(PRIOR)
    }
}

impl CompileTimes {
    /// So many bytes were compiled in so long.
    pub(super) fn learn(&mut self, is_known: bool, bytes: u64, took_ns: u64) {
        let seen = &mut self.0[usize::from(is_known)];
        let (took_ns, bytes) = (took_ns as f64, bytes as f64);
        let is_cached = !is_known && seen.1 >= EXPERIENCE && took_ns < CACHED * bytes * seen.0 / seen.1;
        let counts = if is_cached { LITTLE } else { 1.0 };
        let kept = 1.0 - counts / MEMORY;
        *seen = (seen.0 * kept + took_ns * counts, seen.1 * kept + bytes * counts);
    }

    /// How long these take, one after the other.
    pub(super) fn ns(&self, bytes: ShaderBytes) -> f64 {
        self.0.iter().zip(bytes).map(|(seen, bytes)| bytes as f64 * seen.0 / seen.1).sum()
    }

    pub(super) fn to_bytes(self) -> [u8; 32] {
        let [(a, b), (c, d)] = self.0;
        let mut bytes = [0; 32];
        bytes.chunks_exact_mut(8).zip([a, b, c, d]).for_each(|(at, x)| at.copy_from_slice(&x.to_le_bytes()));
        bytes
    }

    /// `None` if these are none.
    pub(super) fn from_bytes(bytes: &[u8; 32]) -> Option<Self> {
        let mut all = [0.0; 4];
        for (x, at) in all.iter_mut().zip(bytes.as_chunks::<8>().0) {
            *x = f64::from_le_bytes(*at);
        }
        let seen = [(all[0], all[1]), (all[2], all[3])];
        // No compiler is faster than a byte a ns, or slower than ten milliseconds a byte.
        let is_time = |&(ns, bytes): &(f64, f64)| (1.0..1e15).contains(&bytes) && (1e-3..1e7).contains(&(ns / bytes));
        seen.iter().all(is_time).then_some(Self(seen))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_the_cache_has_is_learnt_by_itself_and_kept() {
        let mut times = CompileTimes::default();
        let ms = |times: &CompileTimes, bytes| (times.ns(bytes) / 1e6).round();
        assert_eq!([[4096, 0], [0, 4096], [8192, 4096]].map(|bytes| ms(&times, bytes)), [50.0, 10.0, 110.0]);
        (0..128).for_each(|_| times.learn(true, 4096, 2_000_000));
        assert_eq!([[4096, 0], [0, 4096]].map(|bytes| ms(&times, bytes)), [50.0, 2.0]);
        assert_eq!(CompileTimes::from_bytes(&times.to_bytes()), Some(times));
        // A driver that has compiled some new programs before says little of the others; one that is fast is believed in the end.
        let mut found = times;
        (0..16).for_each(|_| found.learn(false, 4096, 50_000_000));
        (0..8).for_each(|_| found.learn(false, 4096, 500_000));
        assert!(found.ns([4096, 0]) > 30e6, "{}", found.ns([4096, 0]));
        (0..1200).for_each(|_| found.learn(false, 4096, 500_000));
        assert!(found.ns([4096, 0]) < 1e6, "{}", found.ns([4096, 0]));
        for wrong in [f64::NAN, 0.0, -1.0, f64::INFINITY, 1e16, 1e-300, 1e12] {
            let mut bytes = times.to_bytes();
            bytes[8..16].copy_from_slice(&wrong.to_le_bytes());
            assert_eq!(CompileTimes::from_bytes(&bytes), None, "{wrong}");
        }
    }
}
