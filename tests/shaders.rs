//! The two halves of each GPU kernel against each other: the WGSL text as naga sees it, and what the Rust side says of it.
//!
//! Owns: the comparison of parameters, bindings, entry points and workgroups; that Metal, DX12 and Vulkan get code. Must not know:
//! what a shader computes. Invariant: each check is also run on a shader that is wrong, so that a check that sees nothing cannot pass.

use std::borrow::Cow;
use std::collections::BTreeSet;
use std::rc::Rc;

use chunkwise::kernel::copy;
use chunkwise::kernel::dense::{Gemm, Potrf, PotrfParams, ProductParams, Syrk, Trsm};
use chunkwise::kernel::gemv::Gemv;
use chunkwise::kernel::mandelbrot::{Mandelbrot, MandelbrotParams};
use chunkwise::kernel::map::ScalarOp;
use chunkwise::kernel::map::table::{Domain, Gives, Row, TABLE};
use chunkwise::kernel::peak::{Peak, PeakParams, ReadAll};
use chunkwise::kernel::reduce::{ReduceChunk, Reduction};
use chunkwise::kernel::{ExactFloats, GpuFacts, Kernel, Program, SHADERS, Shader, Variants};
use chunkwise::shape::{ChunkMeta, DType, View};
use naga::valid::{Capabilities, ModuleInfo, ValidationFlags, Validator};
use naga::{AddressSpace, GlobalVariable, Module, ScalarKind, StorageAccess, TypeInner};
use support::kernel_cases::choices;

const REALS: [DType; 2] = [DType::F32, DType::F64];
const LAUNCH: [&str; 4] = ["first", "groups", "begin", "end"];

/// A shader as naga sees it.
struct Parsed {
    module: Module,
    info: ModuleInfo,
}

fn parse(shader: &Shader, real: DType) -> Result<Parsed, String> {
    parse_text(&shader.wgsl(real), if real == DType::F64 { Capabilities::FLOAT64 } else { Capabilities::empty() })
}

fn parse_text(text: &str, capabilities: Capabilities) -> Result<Parsed, String> {
    let module = naga::front::wgsl::parse_str(text).map_err(|e| e.emit_to_string(text))?;
    let info = Validator::new(ValidationFlags::all(), capabilities).validate(&module);
    info.map_err(|e| e.emit_to_string(text)).map(|info| Parsed { module, info })
}

impl Parsed {
    /// The variables bound at `binding` of group 0.
    fn bound(&self, binding: u32) -> impl Iterator<Item = &GlobalVariable> {
        let at = move |v: &&GlobalVariable| v.binding.is_some_and(|b| b.group == 0 && b.binding == binding);
        self.module.global_variables.iter().map(|(_, v)| v).filter(at)
    }

    fn size(&self, variable: &GlobalVariable) -> u32 {
        self.module.types[variable.ty].inner.size(self.module.to_ctx())
    }

    /// The variables that entry point `index` uses, itself or through functions.
    fn used(&self, index: usize) -> impl Iterator<Item = &GlobalVariable> {
        let info = self.info.get_entry_point(index);
        self.module.global_variables.iter().filter(move |(handle, _)| !info[*handle].is_empty()).map(|(_, v)| v)
    }

    fn workgroup_bytes(&self, index: usize) -> u32 {
        self.used(index).filter(|v| v.space == AddressSpace::WorkGroup).map(|v| self.size(v)).sum()
    }

    fn entry(&self, name: &str) -> Option<usize> {
        self.module.entry_points.iter().position(|e| e.name == name)
    }
}

/// Binding 0: the launch, then the kernel's parameters, `u32` each.
fn wrong_params(shader: &Shader, parsed: &Parsed) -> Vec<String> {
    let uniforms: Vec<_> = parsed.bound(0).collect();
    let [variable] = uniforms[..] else { return vec![format!("{} variables at binding 0", uniforms.len())] };
    if variable.space != AddressSpace::Uniform {
        return vec![format!("binding 0 is not uniform but {:?}", variable.space)];
    }
    let TypeInner::Struct { members, .. } = &parsed.module.types[variable.ty].inner else {
        return vec!["binding 0 is no struct".into()];
    };
    let found: Vec<_> = members.iter().map(|m| (m.name.as_deref().unwrap_or(""), m.offset as usize)).collect();
    let launch = LAUNCH.iter().enumerate().map(|(i, name)| (*name, 4 * i));
    let wanted: Vec<_> = launch.chain(shader.params().iter().map(|(name, offset)| (&**name, 16 + offset))).collect();
    let mut wrong = Vec::new();
    if found != wanted {
        wrong.push(format!("parameters are {found:?}, not {wanted:?}"));
    }
    for member in members {
        let inner = &parsed.module.types[member.ty].inner;
        if !matches!(inner, TypeInner::Scalar(s) if s.kind == ScalarKind::Uint && s.width == 4) {
            wrong.push(format!("parameter {:?} is no u32", member.name));
        }
    }
    wrong
}

/// Inputs are read, what follows is read and written; numbers are without gaps; all variables of a number agree in access.
fn wrong_bindings(shader: &Shader, parsed: &Parsed) -> Vec<String> {
    let all = parsed.module.global_variables.iter().filter_map(|(_, v)| v.binding.map(|b| (b, v)));
    let mut wrong = Vec::new();
    let mut numbers = BTreeSet::new();
    for (binding, variable) in all {
        numbers.insert(binding.binding);
        let wanted = match binding.binding {
            0 => continue,
            i if i <= shader.inputs() => StorageAccess::LOAD,
            _ => StorageAccess::LOAD | StorageAccess::STORE,
        };
        let access = match variable.space {
            AddressSpace::Storage { access } => access - StorageAccess::ATOMIC,
            _ => StorageAccess::empty(),
        };
        if access != wanted || binding.group != 0 {
            wrong.push(format!("{:?} at {binding:?} is {:?}, not {wanted:?}", variable.name, variable.space));
        }
    }
    let operands = (shader.inputs() + shader.outputs()) as usize;
    let contiguous = numbers.iter().enumerate().all(|(i, &number)| i == number as usize);
    // After the operands come at most scratch and fault words.
    if !contiguous || !(operands + 1..=operands + 3).contains(&numbers.len()) {
        wrong.push(format!("bindings {numbers:?} for {operands} operands"));
    }
    wrong
}

/// The largest workgroup is just what the shader states.
fn wrong_workgroups(shader: &Shader, parsed: &Parsed, real: DType) -> Vec<String> {
    let entries = &parsed.module.entry_points;
    let invocations = entries.iter().map(|e| e.workgroup_size.iter().product()).max().unwrap_or(0);
    let bytes = (0..entries.len()).map(|i| parsed.workgroup_bytes(i)).max().unwrap_or(0);
    let stated = (shader.invocations(), shader.workgroup_bytes()[usize::from(real == DType::F64)]);
    let mut wrong = Vec::new();
    if (invocations, bytes) != stated {
        wrong.push(format!("workgroups need (invocations, bytes) {:?}, stated is {stated:?}", (invocations, bytes)));
    }
    if bytes > if real == DType::F64 { 32 << 10 } else { 16 << 10 } || invocations > 256 {
        wrong.push(format!("{invocations} invocations, {bytes} bytes: more than every GPU has"));
    }
    wrong
}

/// The passes name entry points, which use only what the executor binds; parameters are as many as the shader has.
fn wrong_program(program: &Program, parsed: &Parsed) -> Vec<String> {
    let mut wrong = Vec::new();
    let shader = &program.shader;
    if program.params.len() != 4 * shader.params().len() || program.params.len() > 496 {
        wrong.push(format!("{} bytes of parameters for {:?}", program.params.len(), shader.params()));
    }
    let fault = 1 + shader.inputs() + shader.outputs() + u32::from(program.scratch_bytes > 0);
    let bound = fault + u32::from(program.faults);
    for pass in &program.passes {
        let Some(index) = parsed.entry(&pass.entry) else {
            wrong.push(format!("no entry point `{}`", pass.entry));
            continue;
        };
        let beyond = parsed.used(index).filter(|v| v.binding.is_some_and(|b| b.binding >= bound));
        wrong.extend(beyond.map(|v| format!("`{}` uses {:?}, which is not bound", pass.entry, v.name)));
        if pass.groups == 0 {
            wrong.push(format!("`{}` with no workgroups", pass.entry));
        }
    }
    let words = |v: &GlobalVariable| {
        let TypeInner::Array { base, .. } = parsed.module.types[v.ty].inner else { return false };
        matches!(parsed.module.types[base].inner, TypeInner::Atomic(s) if s == naga::Scalar::U32) && parsed.size(v) == 16
    };
    if program.faults && !parsed.bound(fault).all(words) {
        wrong.push(format!("binding {fault} is not `array<atomic<u32>, 4>`"));
    }
    wrong
}

fn wrong_shader(shader: &Shader, real: DType) -> Vec<String> {
    let parsed = match parse(shader, real) {
        Ok(parsed) => parsed,
        Err(text) => return vec![format!("{} in {real}: {text}", shader.name())],
    };
    let all = [wrong_params(shader, &parsed), wrong_bindings(shader, &parsed), wrong_workgroups(shader, &parsed, real)];
    all.into_iter().flatten().map(|text| format!("{} in {real}: {text}", shader.name())).collect()
}

/// What naga says when it writes the shader for each API that can have it: Metal and DX12 have no `f64`.
fn unwritable(parsed: &Parsed, real: DType) -> Vec<String> {
    let (module, info) = (&parsed.module, &parsed.info);
    let mut wrong = Vec::new();
    if let Err(e) = naga::back::spv::write_vec(module, info, &naga::back::spv::Options::default(), None) {
        wrong.push(format!("SPIR-V: {e}"));
    }
    if real == DType::F64 {
        return wrong;
    }
    let options = naga::back::msl::Options { lang_version: (2, 0), ..Default::default() };
    match naga::back::msl::write_string(module, info, &options, &naga::back::msl::PipelineOptions::default()) {
        Err(e) => wrong.push(format!("MSL: {e}")),
        Ok((_, written)) => {
            wrong.extend(written.entry_point_names.into_iter().filter_map(|name| name.err()).map(|e| format!("MSL: {e}")));
        }
    }
    let (options, pipeline) = (naga::back::hlsl::Options::default(), naga::back::hlsl::PipelineOptions::default());
    let mut text = String::new();
    match naga::back::hlsl::Writer::new(&mut text, &options, &pipeline).write(module, info, None) {
        Err(e) => wrong.push(format!("HLSL: {e}")),
        Ok(written) => {
            wrong.extend(written.entry_point_names.into_iter().filter_map(|name| name.err()).map(|e| format!("HLSL: {e}")));
        }
    }
    wrong
}

const GPU: GpuFacts = GpuFacts {
    f64: true,
    i64: true,
    simplifies: true,
    exact: ExactFloats::UNTESTED,
    binding_bytes: 1 << 30,
    bindings: 8,
    invocations: 256,
    workgroup_bytes: 32 << 10,
    variants: Variants::AUTOMATIC,
};

/// A kernel on chunks of these shapes, the last being its output.
#[derive(Clone)]
struct Case {
    kernel: Rc<dyn Kernel>,
    params: Vec<u8>,
    shapes: Vec<Vec<usize>>,
}

impl Case {
    fn new(kernel: impl Kernel, params: &impl bytemuck::NoUninit, shapes: &[&[usize]]) -> Self {
        let shapes = shapes.iter().map(|s| s.to_vec()).collect();
        Self { kernel: Rc::new(kernel), params: bytemuck::bytes_of(params).to_vec(), shapes }
    }

    fn program(&self, real: DType, gpu: &GpuFacts) -> Option<Program> {
        let output = match &*self.kernel.name() {
            "mandelbrot" => DType::I32,
            "sum" => DType::F64,
            _ => real,
        };
        let last = self.shapes.len() - 1;
        let dtype = |i: usize| if i == last { output } else { real };
        let meta = |(i, shape)| ChunkMeta::new(dtype(i), shape);
        let operands: Vec<_> = self.shapes.iter().map(Vec::as_slice).enumerate().map(meta).collect();
        self.kernel.program(&self.params, &operands, gpu)
    }
}

/// Cases that together run every entry point.
fn cases(real: DType) -> Vec<Case> {
    let picture = |iterations| Case::new(Mandelbrot, &MandelbrotParams { iterations }, &[&[70], &[50], &[50, 70]]);
    let matrix = |m: usize, k: usize| Case::new(Gemv, &[0u8; 0], &[&[m, k], &[k], &[m]]);
    let sum = |n: usize| Case::new(ReduceChunk::plain(Reduction::Sum, (&[0], &[n]), real), &[0u8; 0], &[&[n], &[1]]);
    let product =
        |m: usize, n: usize, k: usize| Case::new(Gemm::new(), &ProductParams { k: k as u64 }, &[&[m, k], &[n, k], &[m, n]]);
    vec![
        picture(20),
        picture(100_000),
        matrix(1000, 100),
        matrix(4000, 300),
        matrix(4000, 301),
        matrix(8, 100_000),
        matrix(8, 100_001),
        sum(1 << 20),
        sum(1001),
        product(64, 64, 64),
        product(512, 512, 512),
        product(65, 63, 64),
        product(512, 512, 511),
        Case::new(Syrk::new(), &ProductParams { k: 512 }, &[&[512, 512], &[512, 512], &[512, 512]]),
        Case::new(Trsm::new(), &[0u8; 0], &[&[200, 200], &[100, 200]]),
        Case::new(Potrf::new(), &PotrfParams { row: 0 }, &[&[200, 200]]),
        Case::new(Peak, &PeakParams { steps: 9 }, &[&[2], &[1000]]),
        Case::new(ReadAll, &[0u8; 0], &[&[4096], &[100]]),
    ]
}

/// The copies that a GPU makes for itself, which no kernel asks for.
fn copies() -> Vec<Program> {
    let view = View::whole(&[4, 5]).permute(&[1, 0]).expect("two axes");
    let gather = |dtype| copy::gather(&view, ChunkMeta::new(dtype, &[4, 5])).expect("a view");
    [DType::Bool, DType::U16, DType::I32, DType::F64, DType::C128]
        .map(gather)
        .into_iter()
        .chain([copy::bools(20, DType::F32)])
        .collect()
}

#[track_caller]
fn assert_none(wrong: Vec<String>) {
    assert!(wrong.is_empty(), "\n{}\n", wrong.join("\n"));
}

#[test]
fn both_halves_agree_in_parameters_bindings_and_workgroups() {
    let names: BTreeSet<_> = SHADERS.iter().map(|s| s.name()).collect();
    assert_eq!(names.len(), SHADERS.len(), "two shaders of one name");
    assert_none(SHADERS.iter().flat_map(|shader| REALS.into_iter().flat_map(|real| wrong_shader(shader, real))).collect());
}

#[test]
fn metal_dx12_and_vulkan_get_code() {
    for (shader, real) in SHADERS.iter().flat_map(|shader| REALS.map(|real| (shader, real))) {
        let wrong = unwritable(&parse(shader, real).expect("parses"), real);
        assert_none(wrong.into_iter().map(|text| format!("{} in {real}: {text}", shader.name())).collect());
    }
}

#[test]
fn programs_name_what_their_shaders_have_and_all_of_it() {
    let mut named = BTreeSet::new();
    let all = REALS.iter().flat_map(|&real| cases(real).into_iter().map(move |case| (case, real)));
    for ((case, real), variants) in all.flat_map(|each| choices().map(move |variants| (each.clone(), variants))) {
        let gpu = GpuFacts { variants, ..GPU };
        let program = case.program(real, &gpu).unwrap_or_else(|| panic!("{} has no program", case.kernel.name()));
        // What is generated is in no list, and adds in more than it reads.
        let is_made = program.shader.name().starts_with("reduce ");
        assert!(is_made || SHADERS.contains(&program.shader), "{} is not in SHADERS", program.shader.name());
        assert!(is_made || program.real == real);
        assert!(program.most.flops > 0.0 && program.most.bytes > 0.0, "{}", case.kernel.name());
        let parsed = parse(&program.shader, program.real).expect("parses");
        let wrong = wrong_program(&program, &parsed);
        assert_none(wrong.into_iter().map(|text| format!("{} {:?}: {text}", case.kernel.name(), case.shapes)).collect());
        named.extend(program.passes.iter().map(|pass| (program.shader.name().to_owned(), pass.entry.to_string())));
    }
    for program in copies() {
        let parsed = parse(&program.shader, program.real).expect("parses");
        assert_none(wrong_program(&program, &parsed));
        named.extend(program.passes.iter().map(|pass| (program.shader.name().to_owned(), pass.entry.to_string())));
    }
    for shader in SHADERS.iter() {
        for entry in parse(shader, DType::F32).expect("parses").module.entry_points {
            assert!(
                named.contains(&(shader.name().to_owned(), entry.name.clone())),
                "no case runs `{}` of {shader:?}",
                entry.name
            );
        }
    }
}

#[test]
fn programs_are_refused_where_the_gpu_or_the_operands_do_not_allow_them() {
    for (case, real) in REALS.into_iter().flat_map(|real| cases(real).into_iter().map(move |case| (case, real))) {
        let name = case.kernel.name();
        {
            let none = |gpu: GpuFacts| assert!(case.program(real, &gpu).is_none(), "{name}, {real}, {gpu:?}");
            none(GpuFacts { bindings: 0, ..GPU });
            none(GpuFacts { invocations: 32, ..GPU });
            none(GpuFacts { binding_bytes: 4, ..GPU });
            let without = GpuFacts { f64: false, ..GPU };
            assert_eq!(case.program(real, &without).is_some(), real == DType::F32, "{name}, {real}");
            assert!(case.program(DType::I64, &GPU).is_none(), "{name} in i64");
            let small = GpuFacts { workgroup_bytes: 16 << 10, ..GPU };
            assert!(case.program(real, &small).is_some(), "{name}, {real} with 16 KiB");
        }
        for operand in 0..case.shapes.len() - usize::from(name == "sum") {
            let mut empty = case.clone();
            empty.shapes[operand].fill(0);
            assert!(empty.program(real, &GPU).is_none(), "{name}, operand {operand} empty");
        }
    }
    let most = ReduceChunk::plain(Reduction::Sum, (&[0], &[1 << 29]), DType::F32);
    let most = Case::new(most, &[0u8; 0], &[&[1 << 29], &[1]]);
    assert!(most.program(DType::F32, &GpuFacts { binding_bytes: u64::MAX, ..GPU }).is_none(), "2^31 bytes");
}

/// The WGSL of a scalar operation as the body of a function.
fn function(row: &Row, text: &str) -> String {
    let operand = if row.domain == Domain::Bits { "u32" } else { "f32" };
    let gives = if row.gives == Gives::Test { "bool" } else { operand };
    match row.op {
        ScalarOp::Where => format!("fn f(a: bool, b: f32, c: f32) -> f32 {{ return {text}; }}"),
        ScalarOp::Re | ScalarOp::Im => format!("fn f(a: vec2<f32>) -> f32 {{ return {text}; }}"),
        ScalarOp::Compose => format!("fn f(a: f32, b: f32) -> vec2<f32> {{ return {text}; }}"),
        _ => format!("fn f(a: {operand}, b: {operand}) -> {gives} {{ return {text}; }}"),
    }
}

#[test]
fn scalar_operations_are_wgsl() {
    let rows = || TABLE.iter().filter(|row| !row.wgsl.is_empty());
    let wrong = |row: &Row, text: &str| parse_text(&function(row, text), Capabilities::empty()).err();
    assert_none(rows().filter_map(|row| wrong(row, row.wgsl)).collect());
    for row in rows() {
        // The check can fail: with an operand that is not there, and with a value of another type.
        for text in [format!("{} + d", row.wgsl), "array<f32, 2>()".to_owned()] {
            assert!(wrong(row, &text).is_some(), "{}: {text}", row.name);
        }
    }
}

mod the_checks_can_fail {
    use super::*;

    /// A shader with two inputs, one output, scratch, fault words, and its description.
    const SOURCE: &str = "
        struct Params { first: u32, groups: u32, begin: u32, end: u32, m: u32, k: u32 }
        @group(0) @binding(0) var<uniform> p: Params;
        @group(0) @binding(1) var<storage, read> a: array<Real>;
        @group(0) @binding(2) var<storage, read> x: array<Real>;
        @group(0) @binding(3) var<storage, read_write> y: array<Real>;
        @group(0) @binding(4) var<storage, read_write> part: array<Real>;
        @group(0) @binding(5) var<storage, read_write> fault: array<atomic<u32>, 4>;
        var<workgroup> sums: array<Real, 64>;
        fn share(t: u32) { sums[t] = a[t] * x[t]; }
        @compute @workgroup_size(64)
        fn main(@builtin(local_invocation_index) t: u32) {
            share(t);
            if (t < p.m && t < p.k) { y[t] = sums[t]; part[t] = sums[t]; atomicStore(&fault[0], t); }
        }";
    fn described(source: impl Into<Cow<'static, str>>) -> Shader {
        let shader = Shader::new("good", source).with_params(&[("m", 0), ("k", 4)]);
        shader.with_operands(2, 1).with_workgroup(64, [256, 512])
    }

    fn good() -> Shader {
        described(SOURCE)
    }

    /// The good one with one piece of its text replaced.
    fn with(old: &str, new: &str) -> Shader {
        assert!(SOURCE.contains(old), "{old}");
        described(SOURCE.replace(old, new))
    }

    #[track_caller]
    fn found(shader: &Shader, text: &str) {
        for real in REALS {
            let wrong = wrong_shader(shader, real);
            assert!(wrong.iter().any(|w| w.contains(text)), "{text} in {wrong:?}");
        }
    }

    #[test]
    fn wrong_texts_and_descriptions_are_found() {
        assert_none(REALS.into_iter().flat_map(|real| wrong_shader(&good(), real)).collect());
        found(&with("fn main", "fn from"), "reserved");
        found(&with("y[t] = sums[t]", "y[t] = t"), "good in");
        found(&with("m: u32, k: u32", "k: u32, m: u32"), "parameters are");
        found(&with("groups: u32, begin", "count: u32, begin"), "parameters are");
        found(&with("k: u32 }", "k: u32, n: u32 }"), "parameters are");
        found(&with("m: u32, k: u32", "m: u32, @align(16) k: u32"), "parameters are");
        found(&good().with_params(&[("m", 0)]), "parameters are");
        found(
            &with(
                "p: Params;",
                "p: Signed;\n struct Signed { first: u32, groups: u32, begin: u32, end: u32, m: u32, k: u32, n: i32 }",
            ),
            "is no u32",
        );
        found(&with("@binding(0) var<uniform>", "@binding(0) var<storage, read>"), "is not uniform");
        found(&with("@binding(2)", "@binding(7)"), "bindings");
        found(&with("@binding(2) var<storage, read>", "@binding(2) var<storage, read_write>"), "at ResourceBinding");
        found(&with("@group(0) @binding(4)", "@group(1) @binding(4)"), "at ResourceBinding");
        found(&good().with_operands(1, 1), "at ResourceBinding");
        found(&good().with_operands(2, 4), "bindings");
        found(&with("workgroup_size(64)", "workgroup_size(8, 16)"), "stated is");
        found(&with("workgroup_size(64)", "workgroup_size(512)"), "more than every GPU has");
        found(&with("array<Real, 64>", "array<Real, 65>"), "stated is");
        found(&with("array<Real, 64>", "array<Real, 4100>"), "more than every GPU has");
        assert!(!wrong_shader(&with("a[t] * x[t]", "Real(1lf) * x[t]"), DType::F32).is_empty(), "f64 where there is none");
    }

    #[test]
    fn wrong_programs_are_found() {
        let potrf =
            Case::new(Potrf::new(), &PotrfParams { row: 0 }, &[&[200, 200]]).program(DType::F32, &GPU).expect("program");
        let parsed = parse(&potrf.shader, DType::F32).expect("parses");
        assert_none(wrong_program(&potrf, &parsed));
        let found = |change: &dyn Fn(&mut Program), text: &str| {
            let mut program = potrf.clone();
            change(&mut program);
            let wrong = wrong_program(&program, &parsed);
            assert!(wrong.iter().any(|w| w.contains(text)), "{text} in {wrong:?}");
        };
        found(&|p| p.passes[0].entry = "gone".into(), "no entry point `gone`");
        found(&|p| p.passes[1].groups = 0, "with no workgroups");
        found(&|p| p.params.truncate(4), "bytes of parameters");
        found(&|p| p.faults = false, "which is not bound");
        let mut gemv =
            Case::new(Gemv, &[0u8; 0], &[&[8, 100_000], &[100_000], &[8]]).program(DType::F32, &GPU).expect("program");
        let parsed = parse(&gemv.shader, DType::F32).expect("parses");
        assert_none(wrong_program(&gemv, &parsed));
        gemv.scratch_bytes = 0;
        assert!(wrong_program(&gemv, &parsed)[0].contains("which is not bound"));
        gemv.faults = true;
        assert!(wrong_program(&gemv, &parsed).iter().any(|w| w.contains("atomic")));
    }

    #[test]
    fn what_an_api_cannot_have_is_found() {
        assert_none(unwritable(&parse(&good(), DType::F32).expect("parses"), DType::F32));
        // A pipeline would set `limit`; as it stands, no API has such a thing.
        let open = SOURCE.replace("t < p.m", "t < limit").replace("var<workgroup>", "override limit: u32; var<workgroup>");
        let open = parse(&described(open), DType::F32).expect("parses");
        assert_eq!(unwritable(&open, DType::F32).len(), 3);
        assert_eq!(unwritable(&open, DType::F64).len(), 1, "SPIR-V only");
    }
}
