//! A user's kernel on a GPU: the example's, shaders made at run time, and GPU halves that are wrong.
//!
//! Owns: what the guide promises of a [`Program`]. Must not know: how pipelines are kept. Invariant: a GPU half that cannot run costs its own kernel the GPU, and no
//! other kernel.

use super::*;
use chunkwise::device::{Cpu, Device, IoLane};
use chunkwise::id::DeviceId;
use chunkwise::kernel::{ExactFloats, Pass, Shader, Variants};
use std::sync::Mutex;
use support::gpu::{session, settled};

support::gpus!();

const GPU: DeviceId = DeviceId(2);

fn is_the_plain_loop<T: Number>(epsilon: f64) {
    let Some(gpu) = gpu() else { return };
    if T::DTYPE == DType::F64 && !gpu.spec().gpu.is_some_and(|facts| facts.f64) {
        return eprintln!("SKIPPED tests in f64: the adapter has none");
    }
    let session = session(Placement::Gpu, &[gpu]);
    for (shape, chunk) in RAGGED {
        for (f_order, generations) in [(false, 0), (true, 1), (false, 50)] {
            let [x, rate] = populations::<T>(shape, f_order);
            let wanted = plain(&x, &rate, generations);
            let x = Array::from(x).in_session(&session).chunks(chunk);
            let before = session.counters(GPU).launches;
            let (found, run) = grown(&x, &Array::from(rate), generations).run().expect("runs");
            let worst = found.iter().zip(&wanted).fold(0.0f64, |m, (a, b)| m.max((a.to_f64() - b.to_f64()).abs()));
            assert!(worst <= 64.0 * epsilon * f64::from(generations), "{shape:?}, {generations}: {worst:e}");
            assert_eq!(session.counters(GPU).launches - before, x.grid().len() as u64, "{:?}", run.placement());
        }
    }
    settled(&session);
}

#[test]
fn the_shader_is_the_plain_loop_in_f32() {
    is_the_plain_loop::<f32>(f64::from(f32::EPSILON));
}

#[test]
fn the_shader_is_the_plain_loop_in_f64() {
    is_the_plain_loop::<f64>(f64::EPSILON);
}

#[test]
fn many_generations_are_cut_into_short_dispatches() {
    let Some(gpu) = gpu() else { return };
    let session = session(Placement::Gpu, &[gpu]);
    // At 1 and 2 a half stays what it is, in any rounding.
    let half = Array::from(ndarray::arr1(&[0.5f32; 100])).in_session(&session);
    let rate = Array::from(ndarray::arr1(&[2.0f32; 100]));
    let found = grown(&half, &rate, 200_000).compute().expect("runs");
    assert!(found.iter().all(|&x| x == 0.5), "{found:?}");
    assert_eq!(session.counters(GPU).launches, 1);
}

fn named_gemv(source: &'static str) -> Arc<Shader> {
    Shader::new("gemv", source).with_params(&[("n", 0)]).with_operands(2, 1).with_workgroup(64, [0, 0]).into()
}

fn namesake() -> Arc<Shader> {
    named_gemv(include_str!("../../custom_kernel.wgsl"))
}

fn nonsense() -> Arc<Shader> {
    named_gemv("// One line above.\n  fn nonsense() { let x = undefined; }")
}

fn x_and_sum(session: &Session, kernel: &Arc<dyn Kernel>) -> Result<(ArrayD<f32>, ArrayD<f32>)> {
    let [x, rate] = populations::<f32>(&[100, 7], false);
    let x = Array::from(x).in_session(session).chunks((30, 7));
    let grown: Array<f32> = x.with_kernel(&[&Array::from(rate)], kernel.clone(), &20u32);
    let sum = x.matvec(&Array::from(ndarray::arr1(&[1.0; 7])));
    Ok((grown.compute()?, sum.compute()?))
}

fn right(found: &(ArrayD<f32>, ArrayD<f32>)) {
    let [x, rate] = populations::<f32>(&[100, 7], false);
    let wanted = (plain(&x, &rate, 20), x.sum_axis(ndarray::Axis(1)));
    for (found, wanted) in [(&found.0, &wanted.0), (&found.1, &wanted.1)] {
        assert!(found.iter().zip(wanted).all(|(a, b)| (a - b).abs() < 1e-4), "{found:?}\n{wanted:?}");
    }
}

#[test]
fn a_shader_named_like_one_of_ours_is_told_apart() {
    let Some(gpu) = gpu() else { return };
    let session = session(Placement::Gpu, &[gpu]);
    let program = |p| Program { shader: namesake(), ..p };
    let kernel: Arc<dyn Kernel> = Arc::new(Changed { program, panics: true });
    for _ in 0..2 {
        right(&x_and_sum(&session, &kernel).expect("both run"));
    }
    assert_eq!(session.counters(GPU).launches, 16);
}

/// Multiplies by a number that is part of its shader, which is made anew for each launch. There is no CPU body.
struct Times(u32);

impl Kernel for Times {
    fn name(&self) -> Cow<'static, str> {
        format!("test::times_{}", self.0 % 2).into()
    }
    fn content(&self) -> Content {
        Content::Text(self.0.to_string().into())
    }
    fn work(&self, _: &[u8], operands: &[ChunkMeta<'_>]) -> Work {
        let n = operands[0].shape[0] as f64;
        Work { flops: n, bytes: 8.0 * n }
    }
    fn program(&self, _: &[u8], operands: &[ChunkMeta<'_>], gpu: &GpuFacts) -> Option<Program> {
        let (n, entry) = (operands[0].shape[0], format!("times_{}", self.0));
        let text = format!(
            "struct Params {{ first: u32, groups: u32, begin: u32, end: u32 }}
            @group(0) @binding(0) var<uniform> p: Params;
            @group(0) @binding(1) var<storage, read> x: array<i32>;
            @group(0) @binding(2) var<storage, read_write> y: array<i32>;
            @compute @workgroup_size(1) fn {entry}(@builtin(workgroup_id) id: vec3<u32>) {{
                y[p.first + id.x] = x[p.first + id.x] * {};
            }}",
            self.0
        );
        let shader = Shader::new("times", text).with_operands(1, 1).with_workgroup(1, [0, 0]).into();
        let pass = Pass::new(entry, n as u64, 0);
        Program::new(&shader, DType::F32, &[], vec![pass], self.work(&[], operands)).fitting(gpu, operands)
    }
    fn run_cpu(&self, _: &[u8], _: &[ChunkView<'_>], _: &mut [ChunkViewMut<'_>], _: &mut Scratch<'_>) -> Ran {
        panic!("there is no CPU body")
    }
}

#[test]
fn shaders_made_at_run_time_are_told_apart_by_their_text() {
    let Some(gpu) = gpu() else { return };
    let session = session(Placement::Gpu, &[gpu]);
    let x = ndarray::Array1::from_iter(0..1001).into_dyn();
    let array = Array::from(x.clone()).in_session(&session).chunks(100);
    for factor in [2, 3, 4, 5, 3, 2] {
        let times: Array<i32> = array.with_kernel(&[], Arc::new(Times(factor)), &());
        assert_eq!(times.compute().expect("runs"), &x * factor as i32, "{factor}");
    }
    assert_eq!(session.counters(GPU).launches, 6 * 11);
}

/// GPU halves that cannot run, and a word of the reason.
const WRONG: [(Change, &str); 5] = [
    (|p| Program { shader: nonsense(), ..p }, "wgsl:2:27"),
    (|p| Program { passes: vec![Pass::new("missing", 1, 0)], ..p }, "missing"),
    (|p| Program { params: vec![0; 500], ..p }, "500 bytes"),
    (|p| Program { real: DType::I32, ..p }, "Real is i32"),
    (|p| Program { passes: vec![], ..p }, "no pass"),
];

#[test]
fn a_wrong_gpu_half_leaves_the_work_to_the_cpu() {
    for (program, why) in WRONG {
        let Some(gpu) = gpu() else { return };
        let warnings = Arc::new(Mutex::new(Vec::new()));
        let heard = warnings.clone();
        let devices: Vec<Arc<dyn Device>> = vec![Arc::new(Cpu::new(2).expect("a pool")), Arc::new(IoLane::new()), gpu];
        let session = Session::builder().devices(devices).cache_dir("").placement(Placement::Gpu);
        let session = session.warnings(move |text| heard.lock().unwrap().push(text.to_owned())).build().expect("a session");
        let kernel: Arc<dyn Kernel> = Arc::new(Changed { program, panics: false });
        right(&x_and_sum(&session, &kernel).unwrap_or_else(|e| panic!("{why}: {e}")));
        let before = session.counters(DeviceId(2)).launches;
        let good: Arc<dyn Kernel> = Arc::new(Logistic);
        right(&x_and_sum(&session, &good).unwrap_or_else(|e| panic!("after {why}: {e}")));
        assert_eq!(session.counters(DeviceId(2)).launches - before, 8, "after {why}: other kernels stay on the GPU");
        let warnings = warnings.lock().unwrap();
        assert!(matches!(&warnings[..], [one] if one.contains(why) && one.contains("test::changed")), "{warnings:?}");
    }
}

#[test]
fn a_later_run_of_a_wrong_gpu_half_does_not_ask_the_gpu() {
    let Some(gpu) = gpu() else { return };
    let session = session(Placement::Gpu, &[gpu]);
    let kernel: Arc<dyn Kernel> = Arc::new(Changed { program: |p| Program { shader: nonsense(), ..p }, panics: false });
    let [x, rate] = populations::<f32>(&[100_000], false);
    let x = Array::from(x).in_session(&session).chunks(1000);
    let grown: Array<f32> = x.with_kernel(&[&Array::from(rate)], kernel, &20u32);
    let (first, run) = grown.run().expect("the CPU does it");
    assert!(run.idle.iter().any(|(gpu, why)| gpu == "gpu0" && why.contains("it cannot run it")), "{:?}", run.idle);
    let (again, run) = grown.run().expect("the CPU does it");
    assert_eq!(first, again);
    assert!(run.placement().iter().all(|p| p.0 != "gpu0"), "{:?}", run.placement());
    assert!(
        run.idle.iter().any(|(gpu, why)| gpu == "gpu0" && why.contains("test::changed: it cannot run it")),
        "{:?}",
        run.idle
    );
}

#[test]
fn a_gpu_half_that_panics_when_asked_is_none() {
    let Some(gpu) = gpu() else { return };
    let session = session(Placement::Gpu, &[gpu]);
    let kernel: Arc<dyn Kernel> = Arc::new(Changed { program: |_| panic!("the user's bug"), panics: false });
    right(&x_and_sum(&session, &kernel).expect("the CPU does it"));
    let good: Arc<dyn Kernel> = Arc::new(Logistic);
    right(&x_and_sum(&session, &good).expect("the GPU does it"));
    assert_eq!(session.counters(GPU).launches, 12);
}

#[test]
fn a_wrong_gpu_half_without_a_cpu_is_one_error_that_says_why() {
    for (program, why) in WRONG {
        let Some(gpu) = gpu() else { return };
        let devices: Vec<Arc<dyn Device>> = vec![gpu, Arc::new(IoLane::new())];
        let session = Session::builder().devices(devices).cache_dir("").build().expect("a session");
        let kernel: Arc<dyn Kernel> = Arc::new(Changed { program, panics: false });
        let error = x_and_sum(&session, &kernel).expect_err("nothing can run it").to_string();
        assert!(error.contains(why) && error.contains("test::changed"), "{why}: {error}");
        let good: Arc<dyn Kernel> = Arc::new(Logistic);
        right(&x_and_sum(&session, &good).unwrap_or_else(|e| panic!("after {why}: {e}")));
    }
}

/// `x > limit`, or what is not `x`: a shader writes words, and reads bytes.
struct Bools;

impl Kernel for Bools {
    fn name(&self) -> Cow<'static, str> {
        "test::bools".into()
    }
    fn work(&self, _: &[u8], operands: &[ChunkMeta<'_>]) -> Work {
        Work { flops: operands[0].shape[0] as f64, bytes: 0.0 }
    }
    fn program(&self, _: &[u8], operands: &[ChunkMeta<'_>], gpu: &GpuFacts) -> Option<Program> {
        let [inputs @ .., _] = operands else { return None };
        let above = inputs.len() == 2;
        let (real, x, value) = match above {
            true => (inputs[0].dtype, "array<Real>", "select(0u, 77u << 24u, x[i] > limit[i])"),
            false => (DType::F32, "array<u32>", "(x[i / 4u] >> (i % 4u * 8u) & 1u) ^ 1u"),
        };
        let limit = if above { "@group(0) @binding(2) var<storage, read> limit: array<Real>;" } else { "" };
        let text = format!(
            "struct Params {{ first: u32, groups: u32, begin: u32, end: u32, n: u32 }}
            @group(0) @binding(0) var<uniform> p: Params;
            @group(0) @binding(1) var<storage, read> x: {x}; {limit}
            @group(0) @binding({}) var<storage, read_write> y: array<u32>;
            @compute @workgroup_size(64) fn run(@builtin(workgroup_id) id: vec3<u32>, @builtin(local_invocation_index) t: u32) {{
                let i = (p.first + id.x) * 64u + t;
                if (i < p.n) {{ y[i] = {value}; }}
            }}",
            inputs.len() + 1
        );
        let shader = Shader::new("bools", text).with_params(&[("n", 0)]).with_operands(inputs.len() as u32, 1);
        let n = operands[0].shape[0];
        let pass = Pass::new("run", n.div_ceil(64) as u64, 0);
        Program::new(&shader.into(), real, &[n as u32], vec![pass], self.work(&[], operands)).fitting(gpu, operands)
    }
    fn run_cpu(&self, _: &[u8], _: &[ChunkView<'_>], _: &mut [ChunkViewMut<'_>], _: &mut Scratch<'_>) -> Ran {
        panic!("there is no CPU body")
    }
}

fn bools_are_right<T: Number>(session: &Session) {
    let kernel: Arc<dyn Kernel> = Arc::new(Bools);
    for (n, chunk) in [(1, 1), (2, 2), (3, 3), (4, 4), (5, 2), (64, 64), (1023, 1023), (7001, 1000), (70_003, 70_003)] {
        let [x, limit] = populations::<T>(&[n], false);
        let wanted = ndarray::Zip::from(&x).and(&limit).map_collect(|x, limit| x > limit);
        let above: Array<bool> =
            Array::from(x).in_session(session).chunks(chunk).with_kernel(&[&Array::from(limit)], kernel.clone(), &());
        let not: Array<bool> = above.with_kernel(&[], kernel.clone(), &());
        let before = session.counters(GPU).launches;
        assert_eq!(not.compute().expect("runs"), wanted.mapv(|b| !b), "{n} by {chunk}");
        assert_eq!(session.counters(GPU).launches - before, 2 * n.div_ceil(chunk) as u64);
        assert_eq!(above.compute().expect("runs"), wanted, "{n} by {chunk}");
    }
}

#[test]
fn shaders_write_bools_as_words_and_read_them_as_bytes() {
    let Some(gpu) = gpu() else { return };
    let wide = gpu.spec().gpu.is_some_and(|facts| facts.f64);
    let session = session(Placement::Gpu, &[gpu]);
    bools_are_right::<f32>(&session);
    if wide {
        bools_are_right::<f64>(&session);
    }
}

#[test]
fn bools_whose_words_cannot_be_bound_are_left_to_others() {
    let facts = |bytes| GpuFacts {
        f64: true,
        i64: true,
        simplifies: true,
        exact: ExactFloats::UNTESTED,
        binding_bytes: bytes,
        bindings: 8,
        invocations: 256,
        workgroup_bytes: 0,
        variants: Variants::AUTOMATIC,
    };
    let meta = |shape| ChunkMeta::new(DType::Bool, shape);
    let fits = |bytes| Bools.program(&[], &[meta(&[1000]), meta(&[1000])], &facts(bytes)).is_some();
    assert!(fits(4000) && !fits(3999));
}
