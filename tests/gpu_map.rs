//! Element-wise programs on a GPU: every operation and cast on every dtype, every way in which operands lie, against the CPU's bits.
//!
//! Owns: which programs are tried. Must not know: generated text. Invariant: an operation of the table that has no function in `shaders/` is named here; what is exact is
//! compared to the bit, the rest by the bounds in the table.
#![cfg(feature = "gpu")]

use std::sync::Arc;

use chunkwise::DType;
use chunkwise::device::Failure;
use chunkwise::kernel::Kernel;
use chunkwise::kernel::map::table::{Gives, OnGpu, TABLE};
use chunkwise::kernel::map::{Builder, Elementwise, ScalarOp, Value};
use chunkwise::shape::{ChunkMeta, View};
use support::bytes::{Seen, chunk, compare, on_cpu, on_gpu, views};
use support::lab::Lab;
use support::watched::Watched;
use support::wgsl::translated;

support::gpus!();

fn lab() -> Option<Lab> {
    gpu().map(|gpu| Lab { gpu })
}

/// The program of one operation.
fn one(op: ScalarOp, dtypes: &[DType]) -> Arc<dyn Kernel> {
    let mut b = Builder::new();
    let args: Vec<Value> = dtypes.iter().map(|&dtype| b.input(dtype)).collect();
    let made = b.apply(op, &args);
    Arc::new(Elementwise::new(Arc::new(b.finish(made).0)))
}

/// Whether there is a GPU half at all.
fn has_program(kernel: &dyn Kernel, inputs: &[Seen], out: (DType, &[usize])) -> bool {
    let lies: Vec<_> = inputs.iter().map(Seen::lies).collect();
    kernel.program(&[], &support::bytes::metas(&lies, out), &support::lab::ANY).is_some()
}

#[track_caller]
fn check(lab: &Lab, what: &str, kernel: &Arc<dyn Kernel>, inputs: &[Seen], (out, ulps): ((DType, &[usize]), f64)) {
    let found = on_gpu(lab, (kernel, &[]), inputs, out).unwrap_or_else(|e| panic!("{what}: {e:?}"));
    let wanted = on_cpu((&**kernel, &[]), inputs, out);
    compare(&found, &wanted, ulps).unwrap_or_else(|e| {
        let at = e.split("first ").nth(1).and_then(|e| e.split(':').next()?.parse::<usize>().ok()).unwrap_or(0);
        let args: Vec<_> =
            inputs.iter().filter(|seen| seen.chunk.len() == wanted.len()).map(|seen| seen.chunk.element(at)).collect();
        panic!("{what}: {e}, of {args:02x?}")
    });
}

/// Operations without a GPU half, by the dtype that they work on.
const CPU_ONLY: &[(&str, DType)] = &[];

#[test]
fn every_operation_gives_the_cpus_elements_on_every_dtype() {
    let Some(lab) = lab() else { return };
    let mut missing = Vec::new();
    for row in TABLE.iter().filter(|row| row.gives != Gives::Said) {
        for &dtype in DType::ALL.iter().filter(|&&dtype| row.domain.has(dtype)) {
            let kernel = one(row.op, &vec![dtype; row.arity]);
            let gives = if row.gives == Gives::Test { DType::Bool } else { dtype };
            let ulps = match row.gpu {
                OnGpu::Ulps(single, double) if dtype.is_float() => {
                    (if dtype == DType::F64 { double } else { single } + row.ulps).ceil()
                }
                _ => 0.0,
            };
            for n in [1037, 1024, 1, 2] {
                let inputs: Vec<Seen> = (0..row.arity).map(|at| Seen::whole(chunk(dtype, &[n], 77 + at as u64))).collect();
                let out = (gives, &[n][..]);
                if !has_program(&*kernel, &inputs, out) {
                    missing.push((row.name, dtype));
                    break;
                }
                check(&lab, &format!("{} of {n} {dtype}", row.name), &kernel, &inputs, (out, ulps));
            }
        }
    }
    assert_eq!(missing, CPU_ONLY, "what has no GPU half");
}

#[test]
fn every_pair_of_dtypes_is_cast_as_on_the_cpu() {
    let Some(lab) = lab() else { return };
    for &from in DType::ALL {
        for &to in DType::ALL {
            let mut b = Builder::new();
            let x = b.input(from);
            let made = b.cast(x, to);
            let kernel: Arc<dyn Kernel> = Arc::new(Elementwise::new(Arc::new(b.finish(made).0)));
            for n in [1023, 2048] {
                let inputs = [Seen::whole(chunk(from, &[n], 9))];
                check(&lab, &format!("{from} to {to}"), &kernel, &inputs, ((to, &[n]), 0.0));
            }
        }
    }
}

/// What the test of views rests on: an index beyond its array is seen.
#[test]
fn a_slip_of_an_index_is_found() {
    let Some(lab) = lab() else { return };
    let turned = View::whole(&[5, 5]).permute(&[1, 0]).unwrap();
    let slips: [(DType, View, &[usize], &str, &str); 4] = [
        (DType::F32, View::whole(&[5, 5]), &[5, 5], "(p.n + 3u) / 4u", "(p.n + 7u) / 4u"),
        (DType::F64, View::whole(&[5, 5]), &[5, 5], "(p.n - 1u) / 2u", "(p.n + 1u) / 2u"),
        (DType::F64, View::whole(&[5, 5]), &[5, 5], "4u * q + 2u < p.n", "4u * q < p.n"),
        (DType::I32, turned, &[5, 5], "c1 * p.s0_1", "(c1 + U4(9u)) * p.s0_1"),
    ];
    for (dtype, view, shape, right, wrong) in slips {
        let kernel = one(ScalarOp::Add, &[dtype; 2]);
        let inputs = || [Seen { chunk: chunk(dtype, shape, 1), view: view.clone() }, Seen::whole(chunk(dtype, &[5, 5], 2))];
        let run = |watched: Watched| {
            let watched: Arc<dyn Kernel> = Arc::new(watched);
            on_gpu(&lab, (&watched, &[]), &inputs(), (dtype, &[5, 5]))
        };
        run(Watched::kernel(kernel.clone())).expect("nothing is wrong yet");
        let outcome = run(Watched::kernel(kernel.clone()).with_slip(right, wrong));
        assert!(matches!(outcome, Err(Failure::Fault(_))), "`{wrong}` of {dtype} is not seen: {outcome:?}");
    }
}

#[test]
fn operands_are_read_where_they_lie() {
    let Some(lab) = lab() else { return };
    let dtypes = [DType::F32, DType::U8, DType::Bool, DType::I16, DType::F16, DType::I64, DType::F64, DType::C64, DType::C128];
    for (m, n) in [(5, 7), (6, 8), (33, 64), (1, 13), (12, 1)] {
        for (turn, &dtype) in dtypes.iter().enumerate() {
            let all = views(m, n);
            for (at, (name, shape, view)) in all.iter().enumerate() {
                let mut b = Builder::new();
                let (x, y) = (b.input(dtype), b.input(DType::I32));
                let is_odd = b.cast(y, DType::Bool);
                let other = b.constant(dtype.one());
                let made = b.apply(ScalarOp::Where, &[is_odd, x, other]);
                let kernel: Arc<dyn Kernel> = Arc::new(Elementwise::new(Arc::new(b.finish(made).0)));
                let (second, shape2, view2) = &all[(3 * at + turn) % all.len()];
                let inputs = [
                    Seen { chunk: chunk(dtype, shape, 5), view: view.clone() },
                    Seen { chunk: chunk(DType::I32, shape2, 6), view: view2.clone() },
                ];
                let (what, out) = (format!("{dtype} {m} x {n}, {name}, {second}"), (dtype, &[m, n][..]));
                check(&lab, &what, &kernel, &inputs, (out, 0.0));
                let watched: Arc<dyn Kernel> = Arc::new(Watched::kernel(kernel.clone()));
                on_gpu(&lab, (&watched, &[]), &inputs, out).unwrap_or_else(|e| panic!("{what}: {e:?}"));
            }
        }
    }
}

#[test]
fn axes_are_followed_up_to_eight() {
    let Some(lab) = lab() else { return };
    for rank in 2..=9 {
        let shape: Vec<usize> = (0..rank).map(|axis| 2 + axis % 2).collect();
        let back: Vec<usize> = (0..rank).rev().collect();
        let turned: Vec<usize> = shape.iter().rev().copied().collect();
        let view = View::whole(&turned).permute(&back).unwrap();
        let inputs = [Seen::whole(chunk(DType::I32, &shape, 1)), Seen { chunk: chunk(DType::I32, &turned, 2), view }];
        let kernel = one(ScalarOp::Sub, &[DType::I32; 2]);
        let out = (DType::I32, &shape[..]);
        assert_eq!(has_program(&*kernel, &inputs, out), rank <= 8);
        if rank <= 8 {
            check(&lab, &format!("{rank} axes"), &kernel, &inputs, (out, 0.0));
        }
    }
}

/// The part of README that says what GPUs compute: made anew with `UPDATE_README=1`.
#[test]
fn readme_says_what_the_table_says() {
    let exact: Vec<String> = TABLE.iter().filter(|row| row.gpu == OnGpu::Exact).map(|row| format!("`{}`", row.name)).collect();
    let mut table = String::from("\n| operation | `f32` | `f64` |\n|---|---|---|\n");
    table += &format!("| {} | the CPU's bits | the CPU's bits |\n", exact.join(", "));
    for row in TABLE {
        if let OnGpu::Ulps(single, double) = row.gpu {
            table += &format!("| `{}` | {single} ulp | {double} ulp |\n", row.name);
        }
    }
    table += "| uniform numbers, integers, truth values | the CPU's bits | the CPU's bits |\n";
    table += &format!(
        "| normal numbers | {0} ulp from the CPU's | {0} ulp from the CPU's |\n\n",
        chunkwise::kernel::random::NORMAL_ULPS
    );
    let path = concat!(env!("CARGO_MANIFEST_DIR"), "/README.md");
    let text = std::fs::read_to_string(path).expect("README");
    let (before, rest) = text.split_once("<!-- operations -->\n").expect("its place");
    let (found, after) = rest.split_once("<!-- end of operations -->").expect("its end");
    if std::env::var("UPDATE_README").is_ok_and(|v| v == "1") {
        let made = format!("{before}<!-- operations -->\n{table}<!-- end of operations -->{after}");
        std::fs::write(path, made).expect("written");
    } else {
        assert_eq!(found, table, "UPDATE_README=1 cargo test --test gpu_map writes it");
    }
}

#[test]
fn every_operation_is_valid_everywhere() {
    for row in TABLE.iter().filter(|row| row.gives != Gives::Said) {
        for &dtype in DType::ALL.iter().filter(|&&dtype| row.domain.has(dtype)) {
            let gives = if row.gives == Gives::Test { DType::Bool } else { dtype };
            let metas: Vec<ChunkMeta<'_>> =
                std::iter::repeat_n(dtype, row.arity).chain([gives]).map(|dtype| ChunkMeta::new(dtype, &[30])).collect();
            let program = one(row.op, &vec![dtype; row.arity]).program(&[], &metas, &support::lab::ANY);
            let program = program.unwrap_or_else(|| panic!("{} of {dtype} has no program", row.name));
            translated(&program.shader.wgsl(DType::F32)).unwrap_or_else(|e| panic!("{} of {dtype}: {e}", row.name));
        }
    }
}

/// All that generated modules take text from, at once.
#[test]
fn every_function_is_valid_everywhere() {
    let files = ["map", "math_f32", "math_f32_angles", "math_f64", "math_f64_angles", "math_f64_powers", "random"];
    let path = |name: &str| format!("{}/shaders/{name}.wgsl", env!("CARGO_MANIFEST_DIR"));
    let text = files.map(|name| std::fs::read_to_string(path(name)).expect("a file")).concat();
    let aliases = [("F4", "f32"), ("D4", "f64"), ("I4", "i32"), ("U4", "u32"), ("L4", "i64"), ("M4", "u64"), ("B4", "bool")];
    let aliases = aliases.map(|(alias, of)| format!("alias {alias} = vec4<{of}>;\n")).concat();
    let params = "struct Params { zero: u32 }\n@group(0) @binding(0) var<uniform> p: Params;\n";
    translated(&(aliases + params + &text)).unwrap_or_else(|e| panic!("{}", e.lines().take(12).collect::<Vec<_>>().join("\n")));
}
