//! Calibration: what this CPU does at best, measured once and kept.
//!
//! Owns: [`calibrate`] and [`Calibration`]. Must not know: kernels, history, the file. Invariant: it ends within about half
//! a second whatever the machine, because each measurement has a time slot and only its first repeat is unconditional.

use std::hint::black_box;
use std::sync::{Mutex, PoisonError};
use std::time::{Duration, Instant};

use fearless_simd::{Level, Simd, SimdBase, SimdFloat, dispatch};
use rayon::ThreadPool;
use serde::{Deserialize, Serialize};

use super::rates::rounded;
use super::{Peaks, Rates};
use crate::device::system;

/// Repeats of a measurement, whose median counts, and the time after which no further repeat starts.
const REPEATS: usize = 7;
const FLOPS_SLOT: Duration = Duration::from_millis(25);
const MEMORY_SLOT: Duration = Duration::from_millis(50);
/// Rounds of the multiply-add loop: about a millisecond.
const ROUNDS: usize = 400_000;
/// Independent sums that keep all multiply-add units busy: latency times units, as far as registers go.
const SUMS: usize = if cfg!(target_arch = "aarch64") { 24 } else { 12 };
/// Bytes that do not fit in caches: of all threads together, and of each (L2 and its share of L3).
const BEYOND_CACHES: usize = 128 << 20;
const BEYOND_OWN_CACHES: usize = 16 << 20;
/// Empty tasks spawned at once.
const SPAWNS: u32 = 10_000;
/// Nanoseconds of the executor's bookkeeping per task, which an empty spawn does not show.
const BOOKKEEPING_NS: f64 = 500.0;

/// What [`calibrate`] measured.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Calibration {
    /// Threads of the pool.
    pub threads: usize,
    /// The instruction set used, for example `AVX2`.
    pub simd: String,
    /// Multiply-adds on `f32` in registers, one thread, operations per second (a multiply-add is two).
    pub f32_flops_one: f64,
    /// The same, all threads together.
    pub f32_flops_all: f64,
    /// Multiply-adds on `f64` in registers, one thread, operations per second.
    pub f64_flops_one: f64,
    /// The same, all threads together.
    pub f64_flops_all: f64,
    /// Reading, one thread, bytes per second.
    pub read_one: f64,
    /// The same, all threads together.
    pub read_all: f64,
    /// Copying (`memcpy`), one thread, bytes read and bytes written per second, added.
    pub copy_one: f64,
    /// The same, all threads together.
    pub copy_all: f64,
    /// Nanoseconds to spawn and run an empty task.
    pub spawn_ns: f64,
    /// Bytes of the buffers read and copied; where memory was short, they may have fitted in caches.
    pub buffer_bytes: u64,
    /// Nanoseconds that the calibration took.
    pub took_ns: u64,
}

impl Calibration {
    /// All threads together; of memory the faster of reading and copying.
    #[must_use]
    pub fn peaks(&self) -> Peaks {
        let bytes_per_s = self.read_all.max(self.copy_all);
        Peaks { f32_flops: self.f32_flops_all, f64_flops: self.f64_flops_all, bytes_per_s }
    }

    /// A worker's share while all work: peaks of all threads by their number; of memory the slower of reading and copying.
    #[must_use]
    pub fn rates(&self) -> Rates {
        let threads = self.threads.max(1) as f64;
        Rates {
            launch_ns: self.spawn_ns + BOOKKEEPING_NS,
            f32_flops: self.f32_flops_all / threads,
            f64_flops: self.f64_flops_all / threads,
            bytes_per_s: self.read_all.min(self.copy_all) / threads,
        }
    }
}

/// The instruction set that kernels will use, for example `AVX2`.
pub(super) fn simd_name() -> String {
    let name = format!("{:?}", Level::new());
    name.split('(').next().unwrap_or_default().to_ascii_uppercase()
}

/// Bytes that a calibration with so many threads wants to read and copy: with fewer, caches would be taken for memory.
pub fn calibration_bytes(threads: usize) -> u64 {
    (threads * each_bytes(threads)) as u64
}

fn each_bytes(threads: usize) -> usize {
    BEYOND_OWN_CACHES.max(BEYOND_CACHES / threads.max(1)) / 16 * 16
}

/// Measures this CPU with the threads of `pool`, which should have nothing else to do. Takes about 0.4 s and at most
/// `most_bytes` of memory.
#[must_use]
pub fn calibrate(pool: &ThreadPool, most_bytes: u64) -> Calibration {
    let start = Instant::now();
    let threads = pool.current_num_threads();
    let level = Level::new();
    let f32_body = || dispatch!(level, simd => multiply_add_f32(simd));
    let f64_body = || dispatch!(level, simd => multiply_add_f64(simd));
    let one = |body: &(dyn Fn() -> f64 + Sync)| median(FLOPS_SLOT, || pool.install(|| per_second(body)));
    let all = |body: &(dyn Fn() -> f64 + Sync)| median(FLOPS_SLOT, || together(pool, |_| body()));
    let (f32_flops_one, f32_flops_all) = (one(&f32_body), all(&f32_body));
    let (f64_flops_one, f64_flops_all) = (one(&f64_body), all(&f64_body));
    let spawn_ns = median(FLOPS_SLOT, || 1e9 / spawns_per_second(pool));
    let memory = ThreadBuffers::new(pool, most_bytes);
    Calibration {
        threads,
        simd: simd_name(),
        f32_flops_one,
        f32_flops_all,
        f64_flops_one,
        f64_flops_all,
        read_one: memory.one(Pair::read),
        read_all: memory.all(Pair::read),
        copy_one: memory.one(Pair::copy),
        copy_all: memory.all(Pair::copy),
        spawn_ns,
        buffer_bytes: memory.bytes,
        took_ns: u64::try_from(start.elapsed().as_nanos()).unwrap_or(u64::MAX),
    }
}

/// Work per second of a body that says how much it did.
fn per_second(body: impl FnOnce() -> f64) -> f64 {
    let start = Instant::now();
    let done = body();
    done / start.elapsed().as_secs_f64().max(1e-9)
}

/// The work per second of all threads of the pool at once: their own rates, added. Threads do not wait for each other (a
/// pool at work could not), so of more threads than cores each would be timed while it has a core: their sum is scaled.
fn together(pool: &ThreadPool, body: impl Fn(usize) -> f64 + Sync) -> f64 {
    let rates = pool.broadcast(|thread| per_second(|| body(thread.index())));
    let cores = (system::threads() as f64 / rates.len() as f64).min(1.0);
    rates.iter().sum::<f64>() * cores
}

/// The median of repeats until the slot is over.
fn median(slot: Duration, mut measure: impl FnMut() -> f64) -> f64 {
    let start = Instant::now();
    let mut rates = vec![measure()];
    while rates.len() < REPEATS && start.elapsed() < slot {
        rates.push(measure());
    }
    rates.sort_by(f64::total_cmp);
    rounded(rates[rates.len() / 2])
}

/// `rounds` multiply-adds on each of [`SUMS`] vectors, in registers. Returns the operations done.
#[inline(always)] // So that the target features of `dispatch!` hold here.
fn multiply_add<S: Simd, V: SimdFloat<S>>(simd: S, rounds: usize) -> f64
where
    V::Element: From<f32>,
{
    let splat = |value: f32| V::splat(simd, black_box(value).into());
    let (factor, term) = (splat(0.75), splat(0.25));
    // Different starts, or the compiler would compute one sum for all; all tend to 1, so no subnormals.
    let mut sums: [V; SUMS] = std::array::from_fn(|k| splat(k as f32));
    for _ in 0..rounds {
        for sum in &mut sums {
            *sum = sum.mul_add(factor, term);
        }
    }
    black_box(&sums);
    (2 * rounds * SUMS * V::LEN) as f64
}

#[inline(always)]
fn multiply_add_f32<S: Simd>(simd: S) -> f64 {
    multiply_add::<S, S::f32s>(simd, ROUNDS)
}

#[inline(always)]
fn multiply_add_f64<S: Simd>(simd: S) -> f64 {
    multiply_add::<S, S::f64s>(simd, ROUNDS)
}

fn spawns_per_second(pool: &ThreadPool) -> f64 {
    per_second(|| {
        pool.scope(|scope| (0..SPAWNS).for_each(|k| scope.spawn(move |_| _ = black_box(k))));
        f64::from(SPAWNS)
    })
}

/// A thread's two buffers.
struct Pair {
    from: Vec<f64>,
    to: Vec<f64>,
}

impl Pair {
    /// Reads both buffers; returns the bytes read.
    fn read(&mut self) -> f64 {
        let level = Level::new();
        for data in [&self.from, &self.to] {
            black_box(dispatch!(level, simd => sum(simd, data)));
        }
        (2 * size_of_val(&self.from[..])) as f64
    }

    /// Copies one buffer to the other; returns the bytes read and written.
    fn copy(&mut self) -> f64 {
        self.to.copy_from_slice(black_box(&self.from));
        black_box(&mut self.to);
        (2 * size_of_val(&self.from[..])) as f64
    }
}

/// The sum of all numbers, in eight vectors at a time. (Lanes of an array would be left to the compiler, which on some CPUs keeps them in
/// memory, so that it would be timed instead.)
#[inline(always)] // So that the target features of `dispatch!` hold here.
fn sum<S: Simd>(simd: S, data: &[f64]) -> f64 {
    let lanes = S::f64s::LEN;
    let mut sums = [S::f64s::splat(simd, 0.0); 8];
    for chunk in data.chunks_exact(8 * lanes) {
        for (k, sum) in sums.iter_mut().enumerate() {
            *sum += S::f64s::from_slice(simd, &chunk[k * lanes..][..lanes]);
        }
    }
    let all = sums.into_iter().reduce(|a, b| a + b);
    all.map_or(0.0, |all| all.as_slice().iter().sum())
}

/// The buffers of all threads, each touched first by its own thread, so that they lie in its memory.
struct ThreadBuffers<'p> {
    pool: &'p ThreadPool,
    pairs: Vec<Mutex<Pair>>,
    bytes: u64,
}

impl<'p> ThreadBuffers<'p> {
    fn new(pool: &'p ThreadPool, most_bytes: u64) -> Self {
        let threads = pool.current_num_threads();
        let wanted = each_bytes(threads);
        let allowed = usize::try_from(most_bytes / threads as u64).unwrap_or(usize::MAX);
        // Two buffers of f64, each at least one cache line.
        let len = (wanted.min(allowed) / 16).max(64);
        let pairs = pool.broadcast(|_| Mutex::new(Pair { from: vec![1.0; len], to: vec![2.0; len] }));
        Self { pool, pairs, bytes: (threads * len * 16) as u64 }
    }

    /// The rate of one thread, over as many buffers as it takes to leave the caches behind.
    fn one(&self, body: impl Fn(&mut Pair) -> f64 + Sync) -> f64 {
        let enough = self.pairs.len().min(BEYOND_CACHES.div_ceil(16 * self.len()));
        let walk = || self.pairs[..enough].iter().map(|pair| body(&mut lock(pair))).sum();
        median(MEMORY_SLOT, || self.pool.install(|| per_second(walk)))
    }

    /// The rates of all threads at once, each on its own buffers, added.
    fn all(&self, body: impl Fn(&mut Pair) -> f64 + Sync) -> f64 {
        median(MEMORY_SLOT, || together(self.pool, |thread| body(&mut lock(&self.pairs[thread]))))
    }

    fn len(&self) -> usize {
        (self.bytes / 16) as usize / self.pairs.len()
    }
}

fn lock(pair: &Mutex<Pair>) -> std::sync::MutexGuard<'_, Pair> {
    pair.lock().unwrap_or_else(PoisonError::into_inner)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn calibration_is_plausible_and_makes_usable_rates() {
        let pool = rayon::ThreadPoolBuilder::new().num_threads(2).build().unwrap();
        let measured = calibrate(&pool, 8 << 20);
        println!("{measured:#?}");
        assert!(measured.buffer_bytes <= 8 << 20);
        let Calibration { f32_flops_one, f32_flops_all, f64_flops_one, f64_flops_all, .. } = measured;
        let Calibration { read_one, read_all, copy_one, copy_all, spawn_ns, .. } = measured;
        let flops = [f32_flops_one, f32_flops_all, f64_flops_one, f64_flops_all];
        // Wide bounds that a loop optimised away, or a unit mistaken, would leave.
        assert!(flops.iter().all(|rate| (1e7..1e15).contains(rate)), "{flops:?}");
        let memory = [read_one, read_all, copy_one, copy_all];
        assert!(memory.iter().all(|rate| (1e7..1e14).contains(rate)), "{memory:?}");
        assert!((1.0..1e6).contains(&spawn_ns), "{spawn_ns}");
        assert!(measured.rates().usable());
        let text = serde_json::to_string(&measured).unwrap();
        assert_eq!(serde_json::from_str::<Calibration>(&text).unwrap(), measured);
    }

    #[test]
    fn a_tiny_allowance_is_kept() {
        let pool = rayon::ThreadPoolBuilder::new().num_threads(3).build().unwrap();
        let memory = ThreadBuffers::new(&pool, 0);
        assert!(memory.bytes <= 3 * 1024 && memory.one(Pair::copy) > 0.0 && memory.all(Pair::read) > 0.0);
    }
}
