//! What unchecked shaders rest on: every index of the library's own is below the true length of its array, and no operands that do not fit each
//! other reach a shader.
//!
//! Owns: the proof by running each entry point with every index compared, on ragged sizes. Must not know: what a shader computes. Invariant: the
//! comparison is seen to find a slip, also one that stays within the padding of a buffer.
#![cfg(feature = "gpu")]

use std::collections::BTreeSet;
use std::sync::Arc;

use chunkwise::device::Failure;
use chunkwise::device::gpu::Gpu;
use chunkwise::id::SpaceId;
use chunkwise::kernel::dense::{Gemm, ProductParams};
use chunkwise::kernel::{Fault, GpuFacts, Kernel, Program, SHADERS, Variants, copy};
use chunkwise::shape::{ChunkMeta, DType, View};
use support::kernel_cases::{Numbers, all, choices, gemm, gemv, potrf, sum, syrk, trsm};
use support::lab::{ANY, Case, Chunk, Lab};
use support::oracles::check;
use support::watched::Watched;

support::gpus!();

const REALS: [DType; 2] = [DType::F32, DType::F64];
/// Around the sides of tiles, blocks and workgroups.
const RAGGED: [usize; 10] = [1, 31, 32, 33, 63, 64, 65, 127, 128, 129];

/// The adapter with a choice of variants, and the dtypes that it computes in.
fn labs() -> Vec<(Lab, Variants)> {
    let Some(adapter) = adapter() else { return Vec::new() };
    let lab = |variants| {
        let gpu = Gpu::open(&adapter, "gpu0", SpaceId(1), 64 << 20).expect("the adapter opens");
        (Lab { gpu: Arc::new(gpu.with_facts(|facts| facts.variants = variants)) }, variants)
    };
    choices().map(lab).collect()
}

fn reals(lab: &Lab) -> impl Iterator<Item = DType> {
    let wide = lab.gpu.spec().gpu.is_some_and(|facts| facts.f64);
    REALS.into_iter().filter(move |&real| wide || real == DType::F32)
}

/// Sizes beside those of `all`.
fn more(real: DType) -> Vec<Case> {
    let mut r = Numbers(29);
    let mut cases = Vec::new();
    for (i, m) in RAGGED.into_iter().enumerate() {
        let (n, k) = (RAGGED[(7 * i + 3) % 10], [1, 2, 3, 4, 5, 7, 8, 12, 17, 36][i]);
        let (a, b) = (r.chunk(real, &[m, k]), r.chunk(real, &[n, k]));
        cases.extend([gemm(a.clone(), b, r.chunk(real, &[m, n])), syrk(a, r.chunk(real, &[m, m]))]);
        cases.extend([trsm(r.triangle(real, n), r.chunk(real, &[m, n])), potrf(r.definite(real, m), 0)]);
        for k in [k, 256 + k, 4096 + 4 * k] {
            cases.push(gemv(r.chunk(real, &[m, k]), r.chunk(real, &[k])));
        }
    }
    for k in [4, 64, 128] {
        // All that 4 divides, and the largest tile.
        cases.push(gemm(r.chunk(real, &[132, k]), r.chunk(real, &[260, k]), r.chunk(real, &[132, 260])));
    }
    cases
}

/// Copies of views of bytes, half words, words and pairs, with ends within a word.
fn copies() -> Vec<Case> {
    let mut cases = Vec::new();
    let mut copied = |program: Program, bytes: [usize; 2]| {
        let words = |bytes: usize| Chunk::new(DType::I32, &[bytes.div_ceil(4)], |i| i as f64);
        let kernel = Watched::program(program, &bytes.map(|bytes| bytes as u64));
        cases.push(Case::new(kernel, &[0u8; 0], vec![words(bytes[0])], words(bytes[1])));
    };
    for (dtype, (rows, columns)) in [DType::Bool, DType::U16, DType::I32, DType::F64, DType::C128]
        .into_iter()
        .flat_map(|dtype| [(1, 1), (3, 5), (7, 9), (31, 33), (64, 65), (129, 3)].map(|shape| (dtype, shape)))
    {
        let whole = View::whole(&[rows, columns]);
        let turned = whole.permute(&[1, 0]).expect("two axes");
        let stepped = turned.slice(0, columns - 1, columns.div_ceil(2), -2).expect("every second from the end");
        let deep = View::whole(&[rows, columns, 1]).broadcast(&[2, rows, columns, 3]).expect("more axes");
        for (view, shape) in [(whole, vec![rows, columns]), (turned, vec![rows, columns]), (stepped, vec![rows, columns])]
            .into_iter()
            .chain([(deep, vec![rows, columns, 1])])
        {
            let program = copy::gather(&view, ChunkMeta::new(dtype, &shape)).expect("a view");
            copied(program, [rows * columns * dtype.bytes(), view.len() * dtype.bytes()]);
        }
    }
    for len in RAGGED {
        copied(copy::bools(len as u64, DType::F32), [4 * len, len]);
    }
    cases
}

/// The same case, with every index watched.
fn watched(case: &Case) -> Case {
    Case { kernel: Arc::new(Watched::kernel(case.kernel.clone())), ..case.clone() }
}

#[test]
fn every_index_of_every_entry_point_is_within_its_array() {
    let mut run = BTreeSet::new();
    let mut note = |lab: &Lab, case: &Case| {
        let program = case.program(&lab.gpu.spec().gpu.expect("a GPU")).expect("a program");
        let name = program.shader.name().trim_start_matches("watched ").to_owned();
        run.extend(program.passes.iter().map(|pass| (name.clone(), pass.entry.to_string())));
    };
    let labs = labs();
    for (turn, (lab, _)) in labs.iter().enumerate() {
        for real in reals(lab) {
            let varies = |case: &Case| ["gemm", "syrk", "gemv"].contains(&&*case.kernel.name());
            for case in all(real).into_iter().chain(more(real)).filter(|case| turn == 0 || varies(case)) {
                let case = watched(&case);
                note(lab, &case);
                let found = lab.run(&case, turn).unwrap_or_else(|e| panic!("{case}: {e:?}"));
                check(&case, &found).unwrap_or_else(|e| panic!("{case}: {e}"));
            }
        }
    }
    let Some((lab, _)) = labs.first() else { return };
    for case in copies() {
        note(lab, &case);
        lab.run(&case, 0).unwrap_or_else(|e| panic!("{case}: {e:?}"));
    }
    for shader in SHADERS.iter() {
        for entry in shader.source().split("@compute").skip(1).filter_map(|text| text.split("fn ").nth(1)?.split('(').next()) {
            assert!(run.contains(&(shader.name().to_owned(), entry.to_owned())), "{} of {}", entry, shader.name());
        }
    }
}

#[test]
fn a_slip_is_found() {
    let Some((lab, _)) = labs().into_iter().nth(3) else { return };
    let mut r = Numbers(31);
    let real = DType::F32;
    let (a, b, c) = (r.chunk(real, &[130, 8]), r.chunk(real, &[132, 8]), r.chunk(real, &[130, 132]));
    let cases = [
        // Beyond a chunk.
        (gemm(a.clone(), b.clone(), c.clone()), "a2[(min(row, p.m - 1u) *", "a2[(row *", "a2"),
        (gemm(a, b, c), "if (row < p.m && column < p.n) {\n        c4", "if (column < p.n) {\n        c4", "c4"),
        (trsm(r.triangle(real, 33), r.chunk(real, &[40, 33])), "row < rows && column < p.n", "row < rows", "b"),
        (potrf(r.definite(real, 33), 0), "min(column - start, 31u)", "column - start + 1024u", "diagonal"),
        // Beyond an array in workgroup memory.
        (potrf(r.definite(real, 40), 0), "lines[line + t]", "lines[line + t + 3u]", "lines"),
        (gemv(r.chunk(real, &[5, 100]), r.chunk(real, &[100])), "lanes[t + half]", "lanes[t + 16u * half]", "lanes"),
        (sum(r.chunk(real, &[1000])), "e < end", "e < end + 64u", "x0"),
        // Beyond the chunk, and still in the padding of the buffer, which ends at a multiple of 16 bytes.
        (gemv(r.chunk(real, &[7, 100]), r.chunk(real, &[100])), "row < p.m", "row <= p.m", "y"),
    ];
    for (case, right, wrong, name) in cases {
        check(&case, &lab.run(&watched(&case), 0).expect("nothing is wrong yet")).expect("right");
        let slip = Watched::kernel(case.kernel.clone()).with_slip(right, wrong);
        let outcome = lab.run(&Case { kernel: Arc::new(slip), ..case.clone() }, 0);
        let Err(Failure::Fault(Fault::Because(message))) = outcome else { panic!("{case}: `{wrong}` is not seen") };
        assert!(message.ends_with(&format!(" of {name}")), "{case}, `{wrong}`: {message}");
    }
    // A copy that reads beyond its last element.
    let five = copy::gather(&View::whole(&[5]), ChunkMeta::new(DType::F64, &[5])).expect("a view");
    let slip = Watched::program(five, &[40, 40]).with_slip("y2[i] = x2[place(i)]", "y2[i] = x2[place(i) + 3u]");
    let words = Chunk::new(DType::I32, &[10], |i| i as f64);
    let outcome = lab.run(&Case::new(slip, &[0u8; 0], vec![words.clone()], words), 0);
    assert!(matches!(outcome, Err(Failure::Fault(Fault::Because(message))) if message == "index 7 of x2"));
}

#[test]
#[should_panic(expected = "is taken as a whole")]
fn an_array_that_is_used_out_of_sight_is_refused() {
    let case = gemv(Chunk::new(DType::F32, &[5, 100], |_| 1.0), Chunk::new(DType::F32, &[100], |_| 1.0));
    let slip = Watched::kernel(case.kernel.clone()).with_slip("y[row] = lanes[t];", "let all = &lanes; y[row] = (*all)[t];");
    Case { kernel: Arc::new(slip), ..case }.program(&ANY);
}

/// Whether an operand may have any extent along an axis.
fn is_free(name: &str, operand: usize, axis: usize) -> bool {
    matches!((name, operand, axis), ("sum", 0, _) | ("peak", 1, _) | ("read", 1, _) | ("trsm", 1, 0))
}

/// The program for operands of these dtypes and shapes.
fn program(case: &Case, operands: &[(DType, Vec<usize>)], gpu: &GpuFacts) -> Option<Program> {
    let metas: Vec<_> = operands.iter().map(|(dtype, shape)| ChunkMeta::new(*dtype, shape)).collect();
    case.kernel.program(&case.params, &metas, gpu)
}

#[test]
fn operands_that_do_not_fit_each_other_have_no_program() {
    let gpu = ANY;
    let mut tried = BTreeSet::new();
    for case in REALS.into_iter().flat_map(all) {
        let name = case.kernel.name().into_owned();
        let right: Vec<_> = case.inputs.iter().chain([&case.output]).map(|c| (c.dtype, c.shape.clone())).collect();
        assert!(program(&case, &right, &gpu).is_some(), "{case}");
        let none = |operands: &[(DType, Vec<usize>)]| assert!(program(&case, operands, &gpu).is_none(), "{case}: {operands:?}");
        for (operand, (dtype, shape)) in right.iter().enumerate() {
            let with = |dtype: DType, shape: Vec<usize>| {
                let mut wrong = right.clone();
                wrong[operand] = (dtype, shape);
                wrong
            };
            for axis in 0..shape.len() {
                for extent in [0, shape[axis] - 1, shape[axis] + 1, 2 * shape[axis], 1 << 40, usize::MAX] {
                    let mut other = shape.clone();
                    other[axis] = extent;
                    if extent == 0 || extent > 1 << 30 || !(is_free(&name, operand, axis) || name == "read" && extent % 4 == 0)
                    {
                        none(&with(*dtype, other));
                    }
                }
            }
            // potrf has one operand, with which none can disagree.
            let floats = if name == "potrf" { &[][..] } else { &REALS };
            for other in [DType::I64, DType::Bool].iter().chain(floats).filter(|other| *other != dtype) {
                none(&with(*other, shape.clone()));
            }
            if !matches!((&*name, operand), ("sum", 1) | ("peak", 1) | ("read", _)) {
                none(&with(*dtype, [&shape[..], &[1]].concat()));
                none(&with(*dtype, Vec::new()));
            }
            let (mut fewer, mut more) = (right.clone(), right.clone());
            fewer.remove(operand);
            more.push(right[operand].clone());
            none(&fewer);
            none(&more);
        }
        tried.insert(name);
    }
    // What the parameters say of the operands must be so.
    let (gemm, f32) = (Gemm::new(), DType::F32);
    let k = |k: u64| bytemuck::bytes_of(&ProductParams { k }).to_vec();
    let shapes = [[3, 8], [5, 8], [3, 5]];
    let metas = shapes.each_ref().map(|shape| ChunkMeta::new(f32, shape));
    assert!(gemm.program(&k(8), &metas, &gpu).is_some());
    assert!([0, 7, 9, u64::MAX].iter().all(|&wrong| gemm.program(&k(wrong), &metas, &gpu).is_none()));
    assert_eq!(tried.len(), 9, "{tried:?}");
}
