//! Sessions with a GPU for tests: software Vulkan will do.
//!
//! Owns: finding an adapter, sessions around it, the workloads in small. Must not know: what is checked. Invariant: a test that cannot run says
//! so on stderr, and fails if `REQUIRE_GPU=1`.

use std::io::Write;
use std::sync::Arc;
use std::time::Duration;

use crate::picture::picture;
use chunkwise::cost::Rates;
use chunkwise::device::{Cpu, Device, IoLane};
use chunkwise::id::DeviceId;
use chunkwise::runtime::{Inside, RunReport};
use chunkwise::shape::Float;
use chunkwise::{Array, prelude::*};
use ndarray::{Array1, Array2, ArrayD};

/// Gives a test two functions: `adapter`, the adapter to test on, and `gpu`, that adapter opened.
///
/// A macro, because they are of the library's feature `gpu`: the test knows whether that is on, and what it depends on for its development does not.
#[macro_export]
macro_rules! gpus {
    () => {
        /// The adapter to test on.
        #[allow(dead_code)] // not every test needs both
        fn adapter() -> Option<::chunkwise::device::gpu::AdapterInfo> {
            let known = ::chunkwise::device::gpu::known(true);
            let found = known.iter().find(|a| a.unusable.is_none()).cloned();
            if found.is_none() {
                $crate::gpu::skipped(&known);
            }
            found
        }

        /// The adapter, opened.
        #[allow(dead_code)]
        fn gpu() -> Option<::std::sync::Arc<::chunkwise::device::gpu::Gpu>> {
            let opened = ::chunkwise::device::gpu::Gpu::open(&adapter()?, "gpu0", ::chunkwise::id::SpaceId(1), 64 << 20);
            Some(::std::sync::Arc::new(opened.expect("the adapter opens")))
        }

        /// The adapter, opened, and what breaks its driver.
        #[allow(dead_code)]
        fn breakable() -> Option<(::std::sync::Arc<::chunkwise::device::gpu::Gpu>, ::chunkwise::device::gpu::Breaker)> {
            let space = ::chunkwise::id::SpaceId(1);
            let opened = ::chunkwise::device::gpu::Gpu::open_breakable(&adapter()?, "gpu0", space, 64 << 20);
            let (gpu, breaker) = opened.expect("the adapter opens");
            Some((::std::sync::Arc::new(gpu), breaker))
        }

        /// The adapter, opened as an integrated GPU whose chunks the host maps, and what breaks its driver.
        #[allow(dead_code)]
        fn mapped() -> Option<(::std::sync::Arc<::chunkwise::device::gpu::Gpu>, ::chunkwise::device::gpu::Breaker)> {
            let space = ::chunkwise::id::SpaceId(1);
            let opened = ::chunkwise::device::gpu::Gpu::open_mapped(&adapter()?, "gpu0", space, 64 << 20);
            let (gpu, breaker) = opened.expect("the adapter opens");
            Some((::std::sync::Arc::new(gpu), breaker))
        }
    };
}

/// Says that there is no adapter among those that are known.
///
/// # Panics
/// If there must be one.
pub fn skipped(known: &dyn std::fmt::Debug) {
    let required = std::env::var("REQUIRE_GPU").is_ok_and(|v| v == "1");
    assert!(!required, "REQUIRE_GPU=1, but there is no usable adapter: {known:?}");
    // Straight to stderr: the test harness hides what `println!` writes.
    let _ = writeln!(std::io::stderr(), "SKIPPED a GPU test: no adapter (mesa-vulkan-drivers has a software one)");
}

/// Launches of a session's first GPU so far.
pub fn launches(session: &Session) -> u64 {
    session.counters(DeviceId(2)).launches
}

/// A session of one CPU thread, the I/O lane, and these devices. Device 2 is the first of them.
pub fn session(placement: Placement, more: &[Arc<dyn Device>]) -> Session {
    let mut devices: Vec<Arc<dyn Device>> = vec![Arc::new(Cpu::new(1).expect("a pool")), Arc::new(IoLane::new())];
    devices.extend(more.iter().cloned());
    let builder = Session::builder().devices(devices).placement(placement).cache_dir("").memory_limit("1GB");
    builder.stall_after(10, Duration::from_secs(20)).warnings(|_| ()).build().expect("a session")
}

/// The workloads: each computes something whose result does not fit one chunk.
pub const WORKLOADS: [&str; 4] = ["mandelbrot", "matvec", "mean", "cholesky"];

/// A workload's result, as `f64`, and what was measured.
pub fn compute<T: Float + ndarray::LinalgScalar>(name: &str, session: &Session) -> Result<(ArrayD<f64>, RunReport)> {
    let wide = |a: ArrayD<T>| a.mapv(|v| v.to_f64());
    match name {
        "mandelbrot" => {
            let counts = picture::<T>(61, 97, 50).in_session(session).try_chunks((20, 33))?;
            counts.run().map(|(a, run)| (a.mapv(f64::from), run))
        }
        "matvec" => matvec::<T>(session)?.run().map(|(a, run)| (wide(a), run)),
        "mean" => {
            let x = Array2::from_shape_fn((301, 77), |(i, j)| T::from_f64(((i * 7 + j * 3) % 101) as f64 / 101.0 - 0.3));
            Array::from(x).in_session(session).try_chunks((64, 77))?.mean().run()
        }
        _ => cholesky::<T>(session, 150, 40)?.run().map(|(a, run)| (wide(a), run)),
    }
}

/// `(203, 150)` times `(150,)` in slabs of 64 rows.
pub fn matvec<T: Float>(session: &Session) -> Result<Array<T>> {
    let a = Array2::from_shape_fn((203, 150), |(i, j)| T::from_f64(((i * 5 + j * 11) % 17) as f64 / 17.0 - 0.4));
    let x = Array1::from_shape_fn(150, |j| T::from_f64((j % 13) as f64 / 13.0));
    Array::from(a).in_session(session).try_chunks((64, 150))?.try_matvec(&Array::from(x))
}

/// A positive definite matrix of order `n`.
pub fn spd<T: Float>(n: usize) -> Array2<T> {
    let far = |i: usize, j: usize| 1.0 / (1.0 + i.abs_diff(j) as f64) - 0.1;
    Array2::from_shape_fn((n, n), |(i, j)| T::from_f64(if i == j { n as f64 / 4.0 } else { far(i, j) }))
}

/// Its factor, in tiles.
pub fn cholesky<T: Float>(session: &Session, n: usize, tile: usize) -> Result<Array<T>> {
    Array::from(spd::<T>(n)).in_session(session).try_chunks(tile)?.try_cholesky()
}

/// `max |A - L L^T| / (n eps max |A|)`.
pub fn residual<T: Float>(l: &ArrayD<f64>) -> f64 {
    let n = l.shape()[0];
    let l = l.view().into_dimensionality::<ndarray::Ix2>().expect("a matrix");
    let (a, product) = (spd::<T>(n), l.dot(&l.t()));
    let error = product.indexed_iter().fold(0.0f64, |m, ((i, j), p)| m.max((p - a[[i, j]].to_f64()).abs()));
    let epsilon = if T::DTYPE.bytes() == 4 { f64::from(f32::EPSILON) } else { f64::EPSILON };
    error / (n as f64 * epsilon * (n as f64 / 4.0))
}

/// Whether a result is what the CPU gives, within the bounds that the kernels state.
#[track_caller]
pub fn assert_alike<T: Float>(name: &str, found: &ArrayD<f64>, wanted: &ArrayD<f64>) {
    assert_eq!(found.shape(), wanted.shape(), "{name}");
    let unit = if T::DTYPE.bytes() == 4 { 2f64.powi(-24) } else { 2f64.powi(-53) };
    let worst = found.iter().zip(wanted).fold(0.0f64, |m, (a, b)| m.max((a - b).abs()));
    match name {
        "mandelbrot" => {
            let differ = found.iter().zip(wanted).filter(|(a, b)| a != b).count();
            assert!(differ <= found.len() / 1000, "{differ} of {} points differ", found.len());
        }
        "matvec" => assert!(worst <= 150.0 * unit * 40.0, "{name}: {worst:e}"),
        "mean" => assert!(worst <= 40.0 * unit, "{name}: {worst:e}"),
        _ => assert!(residual::<T>(found) < 1.0 && worst < 1e5 * unit, "{name}: {} {worst:e}", residual::<T>(found)),
    }
}

/// Tasks that a device ran.
pub fn tasks_on(run: &RunReport, device: &str) -> usize {
    run.placement().iter().find(|p| p.0 == device).map_or(0, |p| p.1)
}

/// Makes the scheduler believe that device `index` computes so fast (flops, and bytes, a second) and starts a launch at once.
pub fn believe(session: &Session, index: usize, per_second: f64) {
    let rates = Rates { launch_ns: 1e3, f32_flops: per_second, f64_flops: per_second, bytes_per_s: per_second };
    session.set_rates(DeviceId::at(index), rates);
}

/// Waits until a session has given everything back.
#[track_caller]
pub fn settled(session: &Session) {
    let end = std::time::Instant::now() + Duration::from_secs(20);
    while !session.is_idle() {
        assert!(std::time::Instant::now() < end, "the session does not come to rest");
        std::thread::sleep(Duration::from_millis(5));
    }
}
