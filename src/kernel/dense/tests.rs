//! Dense kernels against a naive f64 oracle. Owns: the properties. Must not know: panels. Invariant: every test compares numbers.

use fearless_simd::Level;
use proptest::prelude::*;

use super::micro::Num;
use super::{Gemm, LEFT, Potrf, PotrfParams, ProductParams, RIGHT, Syrk, Trsm};
use crate::kernel::{Fault, GpuFacts, Kernel, Pass, Scratch, Variants};
use crate::shape::Form;
use crate::shape::{ChunkMeta, ChunkView, ChunkViewMut, DType, Layout};

/// A matrix inside a wider one, whose other elements must stay as they are.
#[derive(Clone)]
struct Window<T> {
    data: Vec<T>,
    layout: Layout,
}

const GUARD: f64 = 777.0;

impl<T: Num> Window<T> {
    fn new(m: usize, n: usize, stride: usize, value: impl Fn(usize, usize) -> f64) -> Self {
        let mut data = vec![T::from_f64(GUARD); m * stride];
        for i in 0..m {
            for j in 0..n {
                data[i * stride + j] = T::from_f64(value(i, j));
            }
        }
        Self { data, layout: Layout { dtype: T::DTYPE, shape: vec![m, n], strides: vec![stride as isize, 1] } }
    }

    fn at(&self, i: usize, j: usize) -> f64 {
        self.data[i * self.layout.strides[0] as usize + j].to_f64()
    }

    fn view(&self) -> ChunkView<'_> {
        ChunkView::from_slice(&self.data, &self.layout)
    }

    fn meta(&self) -> ChunkMeta<'_> {
        ChunkMeta::new(T::DTYPE, &self.layout.shape)
    }

    fn guards_are_intact(&self) -> bool {
        let (n, stride) = (self.layout.shape[1], self.layout.strides[0] as usize);
        self.data.chunks(stride).all(|row| row[n..].iter().all(|&x| x.to_f64() == GUARD))
    }
}

fn random(seed: u64) -> impl Fn(usize, usize) -> f64 {
    move |i, j| {
        let mut z =
            seed.wrapping_mul(0x9e37_79b9).wrapping_add(((i as u64) << 32) | j as u64).wrapping_mul(0x9e37_79b9_7f4a_7c15);
        z = (z ^ (z >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        ((z ^ (z >> 31)) >> 11) as f64 / (1u64 << 52) as f64 - 1.0
    }
}

/// Diagonally dominant, symmetric.
fn definite(n: usize, seed: u64) -> impl Fn(usize, usize) -> f64 {
    let f = random(seed);
    move |i, j| f(i.max(j), i.min(j)) + if i == j { n as f64 + 2.0 } else { 0.0 }
}

/// Runs a kernel as the runtime does: packs what it wants packed, gives it the scratch it asks for, full of ones.
fn run<T: Num>(kernel: &dyn Kernel, params: &[u8], inputs: &[&Window<T>], c: &mut Window<T>) -> Result<(), Fault> {
    let mut packed = Vec::new();
    for (index, input) in inputs.iter().enumerate() {
        packed.push(match kernel.input_form(params, index) {
            Form::Plain => (input.data.clone(), input.layout.clone()),
            Form::Packed(form) => {
                let (dtype, len) = kernel.packed_len(form, input.meta());
                let (mut data, layout) = (vec![T::from_f64(f64::NAN); len], Layout::contiguous(dtype, &[len]));
                kernel.pack(form, input.view(), &mut ChunkViewMut::from_slice(&mut data, &layout));
                (data, layout)
            }
        });
    }
    let operands: Vec<_> = inputs.iter().map(|i| i.meta()).chain([c.meta()]).collect();
    let mut scratch = vec![0xffu8; kernel.scratch_bytes(params, &operands) as usize];
    let views: Vec<_> = packed.iter().map(|(data, layout)| ChunkView::from_slice(data, layout)).collect();
    let layout = c.layout.clone();
    let mut out = [ChunkViewMut::from_slice(&mut c.data, &layout)];
    kernel.run_cpu(params, &views, &mut out, &mut Scratch::new(&mut scratch))
}

fn product(k: usize) -> Vec<u8> {
    bytemuck::bytes_of(&ProductParams { k: k as u64 }).to_vec()
}

fn first_row(row: u64) -> Vec<u8> {
    bytemuck::bytes_of(&PotrfParams { row }).to_vec()
}

fn levels() -> [Level; 2] {
    [Level::new(), Level::baseline()]
}

fn eps<T: Num>() -> f64 {
    if size_of::<T>() == 4 { f64::from(f32::EPSILON) } else { f64::EPSILON }
}

fn check_products<T: Num>(level: Level, [m, n, k]: [usize; 3], pad: usize) {
    let a = Window::<T>::new(m, k, k + pad, random(1));
    let b = Window::<T>::new(n, k, k + pad, random(2));
    let old = Window::<T>::new(m, n, n + pad, random(3));
    let mut c = old.clone();
    run(&Gemm::at(level), &product(k), &[&a, &b], &mut c).unwrap();
    let bound = eps::<T>() * (2.0 * k as f64 + 4.0);
    for i in 0..m {
        for j in 0..n {
            let exact = old.at(i, j) - (0..k).map(|p| a.at(i, p) * b.at(j, p)).sum::<f64>();
            assert!((c.at(i, j) - exact).abs() <= bound, "gemm {m} {n} {k} ({i}, {j}): {} {exact}", c.at(i, j));
        }
    }
    assert!(c.guards_are_intact());
    // syrk: the bits of gemm in the lower triangle, whatever lies above it.
    let old = Window::<T>::new(m, m, m + pad, |i, j| if j > i { f64::NAN } else { random(4)(i, j) });
    let (mut full, mut lower) = (old.clone(), old);
    run(&Gemm::at(level), &product(k), &[&a, &a], &mut full).unwrap();
    run(&Syrk::at(level), &product(k), &[&a, &a], &mut lower).unwrap();
    for i in 0..m {
        for j in 0..=i {
            assert_eq!(full.at(i, j).to_bits(), lower.at(i, j).to_bits(), "syrk {m} {k} ({i}, {j})");
        }
    }
    assert!(lower.guards_are_intact());
}

fn check_factor<T: Num>(level: Level, m: usize, n: usize, pad: usize) {
    let matrix = definite(n, 5);
    let mut l = Window::<T>::new(n, n, n + pad, |i, j| if j > i { f64::NAN } else { matrix(i, j) });
    let a = l.clone();
    run(&Potrf::at(level), &first_row(0), &[], &mut l).unwrap();
    let bound = 8.0 * eps::<T>() * (n as f64 + 8.0) * (n as f64 + 4.0);
    for i in 0..n {
        for j in 0..n {
            if j > i {
                assert_eq!(l.at(i, j), 0.0, "potrf {n} ({i}, {j})");
                continue;
            }
            let back = (0..=j).map(|p| l.at(i, p) * l.at(j, p)).sum::<f64>();
            assert!((back - a.at(i, j)).abs() <= bound, "potrf {n} ({i}, {j}): {back} {}", a.at(i, j));
        }
    }
    assert!(l.guards_are_intact());
    let b = Window::<T>::new(m, n, n + pad, random(6));
    let mut x = b.clone();
    // trsm reads only the lower triangle.
    let dirty = Window::<T>::new(n, n, n + pad, |i, j| if j > i { f64::NAN } else { l.at(i, j) });
    run(&Trsm::at(level), &[], &[&dirty], &mut x).unwrap();
    for i in 0..m {
        for j in 0..n {
            let back = (0..=j).map(|p| x.at(i, p) * l.at(j, p)).sum::<f64>();
            assert!((back - b.at(i, j)).abs() <= bound, "trsm {m} {n} ({i}, {j}): {back} {}", b.at(i, j));
        }
    }
    assert!(x.guards_are_intact());
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(40))]

    #[test]
    fn ragged_products(m in 1usize..70, n in 1usize..70, k in 1usize..70, pad in 0usize..9) {
        for level in levels() {
            check_products::<f64>(level, [m, n, k], pad);
            check_products::<f32>(level, [m, n, k], pad);
        }
    }

    #[test]
    fn ragged_factors(m in 1usize..70, n in 1usize..110, pad in 0usize..9) {
        for level in levels() {
            check_factor::<f64>(level, m, n, pad);
            check_factor::<f32>(level, m, n, pad);
        }
    }

    /// The four kernels over any tiling give the Cholesky factor of the whole matrix, as a naive f64 one does.
    #[test]
    fn any_tiling_is_cholesky(sizes in prop::collection::vec(1usize..60, 1..5), seed in any::<u32>()) {
        let n: usize = sizes.iter().sum();
        let matrix = definite(n, u64::from(seed));
        let oracle = naive_cholesky(n, &matrix);
        for level in levels() {
            let l = tiled_cholesky::<f64>(level, &sizes, &matrix);
            for i in 0..n {
                for j in 0..=i {
                    prop_assert!((l[i * n + j] - oracle[i * n + j]).abs() <= 64.0 * f64::EPSILON * n as f64, "({i}, {j})");
                }
            }
            let l = tiled_cholesky::<f32>(level, &sizes, &matrix);
            for i in 0..n {
                for j in 0..=i {
                    let error = (l[i * n + j] - oracle[i * n + j]).abs();
                    prop_assert!(error <= 64.0 * f64::from(f32::EPSILON) * n as f64, "({i}, {j})");
                }
            }
        }
    }

    #[test]
    fn bad_pivots_name_their_row(n in 1usize..120, at in 0usize..120, which in 0usize..4, row in 0u64..1 << 40) {
        let at = at % n;
        let bad = [0.0, -3.0, f64::NAN, f64::INFINITY][which];
        let matrix = |i: usize, j: usize| if i != j { 0.0 } else if i == at { bad } else { 4.0 };
        for level in levels() {
            check_fault::<f64>(level, n, &matrix, (row, at, bad));
            check_fault::<f32>(level, n, &matrix, (row, at, bad));
        }
    }
}

fn check_fault<T: Num>(level: Level, n: usize, matrix: &dyn Fn(usize, usize) -> f64, (row, at, bad): (u64, usize, f64)) {
    let mut a = Window::<T>::new(n, n, n + 3, matrix);
    match run(&Potrf::at(level), &first_row(row), &[], &mut a) {
        Err(Fault::NotPositive { row: found, pivot }) => {
            assert_eq!(found, row + at as u64);
            assert!(pivot == bad || (pivot.is_nan() && bad.is_nan()), "{pivot} {bad}");
        }
        other => panic!("{other:?}"),
    }
}

fn naive_cholesky(n: usize, matrix: &dyn Fn(usize, usize) -> f64) -> Vec<f64> {
    let mut l = vec![0.0; n * n];
    for i in 0..n {
        for j in 0..=i {
            let rest = matrix(i, j) - (0..j).map(|p| l[i * n + p] * l[j * n + p]).sum::<f64>();
            l[i * n + j] = if i == j { rest.sqrt() } else { rest / l[j * n + j] };
        }
    }
    l
}

fn tiled_cholesky<T: Num>(level: Level, sizes: &[usize], matrix: &dyn Fn(usize, usize) -> f64) -> Vec<f64> {
    let starts: Vec<usize> = sizes.iter().scan(0, |at, &s| Some(std::mem::replace(at, *at + s))).collect();
    let t = sizes.len();
    let n: usize = sizes.iter().sum();
    let tile =
        |i: usize, j: usize| Window::<T>::new(sizes[i], sizes[j], sizes[j] + 2, |p, q| matrix(starts[i] + p, starts[j] + q));
    let mut tiles: Vec<Vec<Window<T>>> = (0..t).map(|i| (0..=i).map(|j| tile(i, j)).collect()).collect();
    for k in 0..t {
        let mut l = tiles[k][k].clone();
        run(&Potrf::at(level), &first_row(starts[k] as u64), &[], &mut l).unwrap();
        for row in &mut tiles[k + 1..] {
            run(&Trsm::at(level), &[], &[&l], &mut row[k]).unwrap();
        }
        tiles[k][k] = l;
        let column: Vec<_> = tiles.iter().map(|row| row.get(k).cloned()).collect();
        for i in k + 1..t {
            let a = column[i].as_ref().unwrap();
            run(&Syrk::at(level), &product(sizes[k]), &[a, a], &mut tiles[i][i]).unwrap();
            for j in k + 1..i {
                run(&Gemm::at(level), &product(sizes[k]), &[a, column[j].as_ref().unwrap()], &mut tiles[i][j]).unwrap();
            }
        }
    }
    let mut l = vec![0.0; n * n];
    for (i, row) in tiles.iter().enumerate() {
        for (j, tile) in row.iter().enumerate() {
            for p in 0..sizes[i] {
                for q in 0..sizes[j] {
                    l[(starts[i] + p) * n + starts[j] + q] = tile.at(p, q);
                }
            }
        }
    }
    l
}

#[test]
fn whole_tiles() {
    for level in levels() {
        check_products::<f64>(level, [256, 256, 256], 0);
        check_products::<f32>(level, [200, 256, 300], 256);
        check_factor::<f64>(level, 100, 256, 0);
        check_factor::<f32>(level, 256, 256, 256);
    }
}

#[test]
fn empty_k_changes_nothing() {
    check_products::<f64>(Level::new(), [5, 7, 0], 0);
}

/// Work counts, and forms shared by the two products.
#[test]
fn declarations() {
    let (a, b, c) = (
        Window::<f64>::new(10, 30, 30, random(1)),
        Window::<f64>::new(20, 30, 30, random(2)),
        Window::<f64>::new(10, 20, 20, random(3)),
    );
    let gemm = Gemm::new();
    let work = gemm.work(&product(30), &[a.meta(), b.meta(), c.meta()]);
    assert_eq!((work.flops, work.bytes), (12000.0, 8.0 * 1300.0));
    assert_eq!(gemm.input_form(&[], 0), Form::Packed(LEFT));
    assert_eq!(gemm.input_form(&[], 1), Form::Packed(RIGHT));
    let square = Window::<f64>::new(30, 30, 30, random(1));
    assert_eq!(Potrf::new().work(&first_row(0), &[square.meta()]).flops, 9000.0);
    assert_eq!(Trsm::new().work(&[], &[square.meta(), a.meta()]).flops, 9000.0);
    assert_eq!(Syrk::new().work(&product(30), &[a.meta(), a.meta(), square.meta()]).flops, 27000.0);
    for form in [LEFT, RIGHT] {
        let (_, len) = gemm.packed_len(form, a.meta());
        assert_eq!(len, Syrk::new().packed_len(form, a.meta()).1);
        assert!(len >= 300 && len % 30 == 0);
    }
}

/// The passes of a program on operands of these shapes.
fn passes(kernel: &dyn Kernel, params: &[u8], shapes: &[[usize; 2]]) -> Vec<Pass> {
    passes_on(kernel, params, (DType::F32, shapes), &GpuFacts::ANY)
}

fn passes_on(kernel: &dyn Kernel, params: &[u8], (dtype, shapes): (DType, &[[usize; 2]]), gpu: &GpuFacts) -> Vec<Pass> {
    let operands: Vec<_> = shapes.iter().map(|shape| ChunkMeta::new(dtype, shape)).collect();
    kernel.program(params, &operands, gpu).unwrap_or_else(|| panic!("{} of {shapes:?}", kernel.name())).passes
}

#[test]
fn products_take_the_chosen_tile_or_the_next_that_fits() {
    let entry = |lower: bool, dtype: DType, n: usize, gpu: &GpuFacts| {
        let kernel: &dyn Kernel = if lower { &Syrk::new() } else { &Gemm::new() };
        let [pass] = &passes_on(kernel, &product(8), (dtype, &[[n, 8], [n, 8], [n, n]]), gpu)[..] else { panic!("one pass") };
        let side = [("small", 32), ("medium", 64), ("large", 128)].iter().find(|v| v.0 == pass.entry).expect("a variant").1;
        let tiles = n.div_ceil(side);
        assert_eq!(pass.groups, (if lower { tiles * (tiles + 1) / 2 } else { tiles * tiles }) as u64, "{} {n}", pass.entry);
        side
    };
    let facts = |chosen: [u8; 2], workgroup_bytes: u32| {
        let variants = Variants { gemm: chosen, syrk: [chosen[1], chosen[0]], gemv: [0; 2] };
        GpuFacts { variants, workgroup_bytes, ..GpuFacts::ANY }
    };
    let (f32, f64) = (DType::F32, DType::F64);
    for (chosen, sides) in
        [([0, 0], [64, 64]), ([1, 2], [32, 64]), ([3, 1], [128, 32]), ([2, 3], [64, 128]), ([9, 9], [128, 128])]
    {
        let gpu = facts(chosen, 32 << 10);
        assert_eq!([f32, f64].map(|dtype| entry(false, dtype, 512, &gpu)), sides, "{chosen:?}");
        assert_eq!([f64, f32].map(|dtype| entry(true, dtype, 512, &gpu)), sides, "{chosen:?}");
    }
    assert_eq!(entry(false, f32, 128, &facts([0, 0], 32 << 10)), 32, "few tiles");
    let least = facts([3, 3], 16 << 10);
    assert_eq!([f32, f64].map(|dtype| entry(false, dtype, 512, &least)), [128, 32], "16 KiB");
    let narrow = GpuFacts { invocations: 128, ..facts([3, 3], 32 << 10) };
    assert_eq!([f32, f64].map(|dtype| entry(true, dtype, 512, &narrow)), [64, 64], "128 invocations");
}

#[test]
fn solving_is_one_dispatch_and_factoring_one_a_block_and_one() {
    for (m, n) in [(1, 1), (31, 33), (1024, 32), (33, 65), (1024, 1024), (1, 4095)] {
        let solve = passes(&Trsm::new(), &[], &[[n, n], [m, n]]);
        let steps = 0..n.div_ceil(32) as u32;
        assert_eq!(solve, [Pass { entry: "solve".into(), groups: m.div_ceil(32) as u64, steps, resumable: true }]);
        let factor = passes(&Potrf::new(), &first_row(0), &[[n, n]]);
        assert_eq!(factor.len(), n.div_ceil(32) + 1, "{n}");
        let (finish, blocks) = factor.split_last().expect("a pass");
        assert_eq!(finish.entry, "finish");
        for (block, pass) in blocks.iter().enumerate() {
            let below = n.saturating_sub(32 * (block + 1)).div_ceil(32).max(1);
            assert_eq!(*pass, Pass::new("columns", below as u64, block as u32), "{n}");
        }
    }
}
