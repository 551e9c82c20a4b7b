//! The tile kernels of Cholesky, faer's counterparts beside them, and the machine's multiply-add peak, on one thread.
//!
//! `cargo bench -p chunkwise-peers --bench dense` measures each by itself; `cargo bench -p chunkwise-peers --bench dense -- --ratios [GROUP]` runs all of one size in turns
//! and prints medians, shares of the peak and ratios to faer: the numbers to believe on a shared machine. faer gets
//! column-major matrices of its own; `/4096` means tiles that are windows of a matrix with 4096 columns. The products take
//! operands that are packed already, as in a factorisation, where one packing serves a whole row of tiles.

use std::hint::black_box;
use std::time::{Duration, Instant};

use chunkwise::kernel::dense::{Gemm, LEFT, Potrf, PotrfParams, ProductParams, RIGHT, Syrk, Trsm};
use chunkwise::kernel::{Kernel, Scratch};
use chunkwise::shape::{ChunkMeta, ChunkView, ChunkViewMut, Float, Layout};
use criterion::{BenchmarkId, Criterion, Throughput};
use faer::dyn_stack::{MemBuffer, MemStack};
use faer::linalg::cholesky::llt::factor::{cholesky_in_place, cholesky_in_place_scratch};
use faer::linalg::matmul::matmul;
use faer::linalg::matmul::triangular::{self, BlockStructure};
use faer::linalg::triangular_solve::solve_lower_triangular_in_place;
use faer::traits::RealField;
use faer::{Accum, Mat, Par};
use fearless_simd::{Level, Simd, SimdFloatElement, dispatch, prelude::*};

/// One thing to measure: runs it once and says how long the part that counts took.
struct Case {
    name: String,
    flops: f64,
    run: Box<dyn FnMut() -> Duration>,
}

fn timed(f: impl FnOnce()) -> Duration {
    let start = Instant::now();
    f();
    start.elapsed()
}

trait Number: Float + SimdFloatElement + RealField {}
impl Number for f32 {}
impl Number for f64 {}

fn noise(i: usize, j: usize) -> f64 {
    let z = ((i as u64) << 32 | j as u64).wrapping_add(1).wrapping_mul(0x9e37_79b9_7f4a_7c15);
    ((z ^ (z >> 29)).wrapping_mul(0xbf58_476d_1ce4_e5b9) >> 11) as f64 / (1u64 << 52) as f64 - 1.0
}

fn definite(n: usize) -> impl Fn(usize, usize) -> f64 {
    move |i, j| noise(i.max(j), i.min(j)) + if i == j { n as f64 + 2.0 } else { 0.0 }
}

/// A well-conditioned lower triangle: repeated solves neither grow nor vanish.
fn unit_lower(n: usize) -> impl Fn(usize, usize) -> f64 {
    move |i, j| {
        if i == j {
            1.0
        } else if j < i {
            noise(i, j) / (n * n) as f64
        } else {
            0.0
        }
    }
}

struct Tile<T> {
    data: Vec<T>,
    layout: Layout,
}

impl<T: Number> Tile<T> {
    fn new(n: usize, stride: usize, value: impl Fn(usize, usize) -> f64) -> Self {
        let mut data = vec![T::default(); n * stride];
        for i in 0..n {
            for j in 0..n {
                data[i * stride + j] = T::from_f64(value(i, j));
            }
        }
        Self { data, layout: Layout { dtype: T::DTYPE, shape: vec![n, n], strides: vec![stride as isize, 1] } }
    }

    fn view(&self) -> ChunkView<'_> {
        ChunkView::from_slice(&self.data, &self.layout)
    }

    fn meta(&self) -> ChunkMeta<'_> {
        ChunkMeta::new(T::DTYPE, &self.layout.shape)
    }

    fn packed(&self, form: u8) -> Self {
        let gemm = Gemm::new();
        let (dtype, len) = gemm.packed_len(form, self.meta());
        let (mut data, layout) = (vec![T::default(); len], Layout::contiguous(dtype, &[len]));
        gemm.pack(form, self.view(), &mut ChunkViewMut::from_slice(&mut data, &layout));
        Self { data, layout }
    }
}

fn call<T: Number>(kernel: &dyn Kernel, params: &[u8], inputs: &[&Tile<T>], c: &mut Tile<T>, scratch: &mut [u8]) {
    let inputs: Vec<_> = inputs.iter().map(|i| i.view()).collect();
    let mut out = [ChunkViewMut::from_slice(&mut c.data, &c.layout)];
    kernel.run_cpu(params, &inputs, &mut out, &mut Scratch::new(scratch)).expect("the bench's matrices are definite");
}

fn scratch_for<T: Number>(kernel: &dyn Kernel, n: usize) -> Vec<u8> {
    let layout = Layout::contiguous(T::DTYPE, &[n, n]);
    let meta = ChunkMeta::new(T::DTYPE, &layout.shape);
    vec![0; kernel.scratch_bytes(&[], &[meta]) as usize]
}

/// Ours: tiles n by n whose rows are `stride` apart.
fn ours<T: Number>(n: usize, stride: usize) -> Vec<Case> {
    let f = (n as f64).powi(3);
    let suffix = if stride == n { String::new() } else { format!("/{stride}") };
    let case = |name: &str, flops, run| Case { name: format!("{name}{suffix}"), flops, run };
    let k = move || bytemuck::bytes_of(&ProductParams { k: n as u64 }).to_vec();
    let (a, b) = (Tile::<T>::new(n, stride, noise), Tile::<T>::new(n, stride, |i, j| noise(j, i)));
    let (a_left, a_right, b_right) = (a.packed(LEFT), a.packed(RIGHT), b.packed(RIGHT));
    let a_again = a.packed(LEFT);
    let (mut c, mut d) = (Tile::<T>::new(n, stride, noise), Tile::<T>::new(n, stride, noise));
    let (l, mut x) = (Tile::<T>::new(n, stride, unit_lower(n)), Tile::<T>::new(n, stride, noise));
    let (source, mut p) = (Tile::<T>::new(n, stride, definite(n)), Tile::<T>::new(n, stride, noise));
    let mut for_trsm = scratch_for::<T>(&Trsm::new(), n);
    let mut for_potrf = scratch_for::<T>(&Potrf::new(), n);
    let zero = bytemuck::bytes_of(&PotrfParams { row: 0 }).to_vec();
    vec![
        case("gemm", 2.0 * f, Box::new(move || timed(|| call(&Gemm::new(), &k(), &[&a_left, &b_right], &mut c, &mut [])))),
        case("syrk", f, Box::new(move || timed(|| call(&Syrk::new(), &k(), &[&a_again, &a_right], &mut d, &mut [])))),
        case("trsm", f, Box::new(move || timed(|| call(&Trsm::new(), &[], &[&l], &mut x, &mut for_trsm)))),
        case(
            "potrf",
            f / 3.0,
            Box::new(move || {
                ChunkViewMut::from_slice(&mut p.data, &p.layout).copy_from(source.view());
                timed(|| call(&Potrf::new(), &zero, &[], &mut p, &mut for_potrf))
            }),
        ),
    ]
}

fn faer_potrf<T: Number>(a: &mut Mat<T>, par: Par, memory: &mut MemBuffer) {
    let done = cholesky_in_place(a.as_mut(), Default::default(), par, MemStack::new(memory), Default::default());
    assert!(done.is_ok());
}

fn faer_matrix<T: Number>(n: usize, value: impl Fn(usize, usize) -> f64) -> Mat<T> {
    Mat::from_fn(n, n, |i, j| T::from_f64(value(i, j)))
}

/// faer's counterparts, on its own column-major matrices.
fn theirs<T: Number>(n: usize) -> Vec<Case> {
    let f = (n as f64).powi(3);
    let case = |name: &str, flops, run| Case { name: format!("faer {name}"), flops, run };
    let a = faer_matrix::<T>(n, noise);
    let (b, again) = (faer_matrix::<T>(n, |i, j| noise(j, i)), a.clone());
    let (mut c, mut d) = (a.clone(), a.clone());
    let (l, mut x) = (faer_matrix::<T>(n, unit_lower(n)), a.clone());
    let (source, mut p) = (faer_matrix::<T>(n, definite(n)), a.clone());
    let mut memory = MemBuffer::new(cholesky_in_place_scratch::<T>(n, Par::Seq, Default::default()));
    let minus = T::from_f64(-1.0);
    use BlockStructure::{Rectangular, TriangularLower};
    vec![
        case(
            "gemm",
            2.0 * f,
            Box::new(move || timed(|| matmul(c.as_mut(), Accum::Add, a.as_ref(), b.transpose(), minus, Par::Seq))),
        ),
        case(
            "syrk",
            f,
            Box::new(move || {
                let (a, at) = (again.as_ref(), again.transpose());
                timed(|| {
                    triangular::matmul(
                        d.as_mut(),
                        TriangularLower,
                        Accum::Add,
                        a,
                        Rectangular,
                        at,
                        Rectangular,
                        minus,
                        Par::Seq,
                    );
                })
            }),
        ),
        case(
            "trsm",
            f,
            Box::new(move || timed(|| solve_lower_triangular_in_place(l.as_ref(), x.as_mut().transpose_mut(), Par::Seq))),
        ),
        case(
            "potrf",
            f / 3.0,
            Box::new(move || {
                p.copy_from(&source);
                timed(|| faer_potrf(&mut p, Par::Seq, &mut memory))
            }),
        ),
    ]
}

#[inline(always)]
fn multiply_adds<S: Simd, T: Number>(simd: S, rounds: usize) -> T {
    let x = T::Native::<S>::splat(simd, black_box(T::from_f64(0.5)));
    let mut sums = [T::Native::<S>::splat(simd, black_box(T::from_f64(1.0))); 12];
    for _ in 0..rounds {
        sums.iter_mut().for_each(|s| *s = s.mul_add(x, x));
    }
    sums.iter().fold(T::default(), |total, s| total + s[0])
}

/// The peak: 12 independent chains of multiply-adds.
fn peak<T: Number>() -> Case {
    let level = Level::new();
    let lanes = dispatch!(level, simd => lanes::<_, T>(simd));
    let rounds = 200_000;
    let run = Box::new(move || {
        timed(|| {
            black_box(dispatch!(level, simd => multiply_adds::<_, T>(simd, rounds)));
        })
    });
    Case { name: "fma peak".into(), flops: (2 * 12 * lanes * rounds) as f64, run }
}

#[inline(always)]
fn lanes<S: Simd, T: Number>(_simd: S) -> usize {
    T::Native::<S>::LEN
}

/// A whole Cholesky, tile after tile on one thread: tiles are kept apart, each finished tile of L is packed once per form.
fn whole<T: Number>(n: usize, size: usize) -> Vec<Case> {
    let flops = (n as f64).powi(3) / 3.0;
    let matrix = definite(n);
    let tiles = n.div_ceil(size);
    let source: Vec<Vec<Tile<T>>> = (0..tiles)
        .map(|i| (0..=i).map(|j| Tile::new(size, size, |p, q| matrix(i * size + p, j * size + q))).collect())
        .collect();
    let mut work: Vec<Vec<Tile<T>>> =
        (0..tiles).map(|i| (0..=i).map(|_| Tile::new(size, size, |_, _| 0.0)).collect()).collect();
    let mut scratch = scratch_for::<T>(&Potrf::new(), size).max(scratch_for::<T>(&Trsm::new(), size));
    let ours = Box::new(move || {
        for (to, from) in work.iter_mut().flatten().zip(source.iter().flatten()) {
            to.data.copy_from_slice(&from.data);
        }
        timed(|| factor_tiles(&mut work, size, &mut scratch))
    });
    let source = faer_matrix::<T>(n, definite(n));
    let mut a = source.clone();
    let mut memory = MemBuffer::new(cholesky_in_place_scratch::<T>(n, Par::Seq, Default::default()));
    let theirs = Box::new(move || {
        a.copy_from(&source);
        timed(|| faer_potrf(&mut a, Par::Seq, &mut memory))
    });
    vec![Case { name: "cholesky".into(), flops, run: ours }, Case { name: "faer cholesky".into(), flops, run: theirs }]
}

fn factor_tiles<T: Number>(tiles: &mut [Vec<Tile<T>>], size: usize, scratch: &mut [u8]) {
    let k_params = bytemuck::bytes_of(&ProductParams { k: size as u64 }).to_vec();
    for k in 0..tiles.len() {
        let (upper, below) = tiles.split_at_mut(k + 1);
        let l = &mut upper[k][k];
        call(&Potrf::new(), bytemuck::bytes_of(&PotrfParams { row: (k * size) as u64 }), &[], l, scratch);
        let mut packed = Vec::new();
        for row in below.iter_mut() {
            call(&Trsm::new(), &[], &[l], &mut row[k], scratch);
            packed.push((row[k].packed(LEFT), row[k].packed(RIGHT)));
        }
        for (i, row) in below.iter_mut().enumerate() {
            for j in 0..i {
                call(&Gemm::new(), &k_params, &[&packed[i].0, &packed[j].1], &mut row[k + 1 + j], &mut []);
            }
            call(&Syrk::new(), &k_params, &[&packed[i].0, &packed[i].1], &mut row[k + 1 + i], &mut []);
        }
    }
}

fn cases<T: Number>(n: usize) -> Vec<Case> {
    let mut all = vec![peak::<T>()];
    all.extend(ours::<T>(n, n));
    all.extend(ours::<T>(n, 4096));
    all.extend(theirs::<T>(n));
    all
}

fn groups() -> Vec<(String, Vec<Case>)> {
    let mut all = Vec::new();
    for n in [256, 512] {
        all.push((format!("f64/{n}"), cases::<f64>(n)));
        all.push((format!("f32/{n}"), cases::<f32>(n)));
    }
    all.push(("f64/2048 in tiles of 256".into(), whole::<f64>(2048, 256)));
    all
}

/// Interleaved rounds of the groups whose names contain `wanted`; medians.
fn ratios(wanted: &str) {
    for (group, mut cases) in groups().into_iter().filter(|(group, _)| group.contains(wanted)) {
        let mut times = vec![Vec::new(); cases.len()];
        let rounds = if cases.len() > 2 { 41 } else { 9 };
        for _ in 0..rounds {
            for (case, times) in cases.iter_mut().zip(&mut times) {
                (case.run)();
                times.push((case.run)().as_secs_f64());
            }
        }
        let rate = |i: usize| {
            let mut sorted = times[i].clone();
            sorted.sort_by(f64::total_cmp);
            cases[i].flops / sorted[sorted.len() / 2] / 1e9
        };
        println!("{group}: GF/s, share of the first line, time over faer's");
        for (i, case) in cases.iter().enumerate() {
            let stem = case.name.split('/').next().unwrap_or_default();
            let peer = cases.iter().position(|c| c.name.strip_prefix("faer ") == Some(stem));
            let over = peer.map_or(String::new(), |p| format!("{:.2}", rate(p) / rate(i)));
            println!("  {:16} {:7.1} {:5.2} {over}", case.name, rate(i), rate(i) / rate(0));
        }
    }
}

fn main() {
    let arguments: Vec<String> = std::env::args().collect();
    if let Some(at) = arguments.iter().position(|a| a == "--ratios") {
        let wanted = arguments.get(at + 1).filter(|a| !a.starts_with('-'));
        return ratios(wanted.map_or("", String::as_str));
    }
    let mut criterion = Criterion::default().sample_size(20).configure_from_args();
    for (name, cases) in groups() {
        let mut group = criterion.benchmark_group(name);
        for mut case in cases {
            group.throughput(Throughput::Elements(case.flops as u64));
            group.bench_function(BenchmarkId::from_parameter(&case.name), |b| {
                b.iter_custom(|n| (0..n).map(|_| (case.run)()).sum());
            });
        }
    }
    criterion.final_summary();
}
