//! The GPU half of an element-wise program: WGSL made from its instructions.
//!
//! Owns: [`Modules`], the modules of one program; of others, what computes a program ([`value`], [`ModuleText`]). Must not know: any GPU API, tasks. Invariant: a module follows from the program, from how its operands lie
//! ([`form`]) and from what the GPU can do; never from extents.
//!
//! An invocation makes four elements, as vectors: `memory` loads and stores them, `body` computes them, by operators of WGSL and by the functions in `shaders/`
//! (`library`), which look at bits where drivers need not do what IEEE 754 says.

mod body;
mod form;
mod held;
mod library;
mod memory;
#[cfg(test)]
mod tests;

use std::collections::HashMap;
use std::fmt::Write;
use std::sync::{Arc, Mutex, PoisonError};

use smallvec::SmallVec;

pub(crate) use body::missing;

use self::body::BodyText;
pub(in crate::kernel) use self::form::{MapForm, MapInput, MapLayout, ReadsAs, Starts};
use self::library::{WgslLibrary, words};
use super::program::{Instr, ScalarProgram};
use crate::kernel::generate::{GpuFeed, GpuFeeds};
use crate::kernel::{GpuFacts, Pass, Program, Shader, Work};
use crate::shape::{ChunkMeta, DType};

/// Invocations of a workgroup, each of which makes four elements.
const GROUP: u64 = 256;
/// Elements that an invocation makes.
const FOUR: u64 = 4;

/// What tells the modules of one program apart.
type ModuleKey = (MapForm, Vec<String>, GpuTraits);

/// What of a driver is seen in a module's text.
#[derive(Clone, Copy, PartialEq, Eq, Hash)]
pub(in crate::kernel) struct GpuTraits {
    /// Whether its compilers calculate as if floats were real numbers.
    pub(in crate::kernel) simplifies: bool,
    /// Whether its quotients or roots of `f64` are not the nearest numbers.
    pub(in crate::kernel) mends_quotients: bool,
}

impl From<&GpuFacts> for GpuTraits {
    fn from(gpu: &GpuFacts) -> Self {
        Self { simplifies: gpu.simplifies, mends_quotients: gpu.exact.mends_quotients() }
    }
}

/// The modules of one program, made when they are asked for.
#[derive(Default)]
pub(in crate::kernel) struct Modules {
    made: Mutex<HashMap<ModuleKey, Arc<Shader>>>,
}

/// What a program's inputs are, in its order.
pub(in crate::kernel) struct MapInputs<'a> {
    pub(in crate::kernel) all: SmallVec<[MapInput<'a>; 8]>,
}

impl<'a> MapInputs<'a> {
    /// Of a program whose inputs are these chunks, but those that are made; `None` if they are not.
    pub(in crate::kernel) fn new(
        program: &ScalarProgram,
        chunks: &[ChunkMeta<'a>],
        feeds: &'a [Option<GpuFeed>],
        shape: &[usize],
    ) -> Option<Self> {
        let mut chunks = chunks.iter();
        let mut all = SmallVec::new();
        for (number, &dtype) in program.inputs().iter().enumerate() {
            all.push(match feeds.get(number).and_then(Option::as_ref) {
                Some(feed) => MapInput::Made(feed),
                None => {
                    let chunk = chunks.next().filter(|chunk| chunk.shape == shape && chunk.dtype == dtype)?;
                    MapInput::Chunk(*chunk)
                }
            });
        }
        chunks.next().is_none().then_some(Self { all })
    }

    /// What makes those that are made, as text.
    pub(in crate::kernel) fn texts(&self) -> Vec<String> {
        let text = |(number, input): (usize, &MapInput<'_>)| match input {
            MapInput::Made(feed) => Some(feed.text.replace('@', &number.to_string())),
            MapInput::Chunk(_) => None,
        };
        self.all.iter().enumerate().filter_map(text).collect()
    }
}

impl Modules {
    /// The program that computes the last of these operands from the others, and from what is made; `None` if this GPU cannot, or no GPU.
    pub(in crate::kernel) fn program(
        &self,
        (program, feeds): (&ScalarProgram, &[Option<GpuFeed>]),
        operands: &[ChunkMeta<'_>],
        most: impl FnOnce() -> Work,
        gpu: &GpuFacts,
    ) -> Option<Program> {
        let (out, chunks) = operands.split_last()?;
        let inputs = MapInputs::new(program, chunks, feeds, out.shape)?;
        if out.dtype != program.dtype() || !gpu.can_bind(operands) || missing(program).is_some() {
            return None;
        }
        let MapLayout { form, params } = MapLayout::of(&inputs.all, out.shape, Starts::AtFours)?;
        let len = out.shape.iter().product::<usize>() as u64;
        let params: Vec<u32> = [len as u32, 0].into_iter().chain(params).collect();
        let key = (form, inputs.texts(), gpu.into());
        let shader = {
            let mut made = self.made.lock().unwrap_or_else(PoisonError::into_inner);
            made.entry(key).or_insert_with_key(|key| Arc::new(shader(program, key))).clone()
        };
        let real = if shader.needs_f64() { DType::F64 } else { DType::F32 };
        let pass = Pass::new("run", len.div_ceil(FOUR).div_ceil(GROUP), 0);
        Program::new(&shader, real, &params, vec![pass], most()).fitting(gpu, operands)
    }
}

/// Whether operands lie along more axes than a module can follow.
pub(super) fn is_too_scattered((program, feeds): (&ScalarProgram, &GpuFeeds), operands: &[ChunkMeta<'_>]) -> bool {
    let Some((out, chunks)) = operands.split_last() else { return false };
    let Some(inputs) = MapInputs::new(program, chunks, feeds, out.shape) else { return false };
    let layout = MapLayout::of(&inputs.all, out.shape, Starts::AtFours);
    layout.is_none_or(|layout| !Program::takes_params(layout.params.len() + 2))
}

/// The module of a program whose operands lie so.
fn shader(program: &ScalarProgram, (form, made, traits): &ModuleKey) -> Shader {
    let mut lines = Vec::new();
    if form.rank > 0 {
        lines.push("let i = 4u * q;".to_owned());
    }
    value(program, form, traits.simplifies, &mut lines);
    memory::store(program.code().len() - 1, program.dtype(), form.is_aligned, &mut lines);
    let mut body = made.concat() + ENTRY;
    lines.iter().for_each(|line| _ = writeln!(body, "    {line}"));
    body.push_str("}\n");
    let (inputs, chunks) = inputs_of(program, form);
    let output = memory::output(chunks + 1, program.dtype());
    let name = format!("map {}", program.name());
    let shader = ModuleText { fields: form.fields(&["n", "zero"]), declarations: inputs + &output, body }
        .shader(name, traits.mends_quotients);
    shader.with_operands(chunks as u32, 1).with_workgroup(GROUP as u32, [0, 0]).with_packed_bools()
}

/// A module before the functions that it uses stand in it.
pub(in crate::kernel) struct ModuleText {
    /// Its parameters behind the launch's.
    pub(in crate::kernel) fields: Vec<String>,
    /// What is bound, and workgroup memory.
    pub(in crate::kernel) declarations: String,
    /// Its own functions, entry points among them.
    pub(in crate::kernel) body: String,
}

impl ModuleText {
    /// The shader of this text, and of what it uses of `shaders/`.
    pub(in crate::kernel) fn shader(self, name: String, mends_quotients: bool) -> Shader {
        let library = WgslLibrary::get(mends_quotients);
        let functions = library.text(words(&self.body));
        let inlined = self.body.len() + library.inlined_bytes(words(&self.body));
        let mut text = String::from("struct Params {\n");
        let launch = ["first", "groups", "begin", "end"].into_iter();
        launch.chain(self.fields.iter().map(String::as_str)).for_each(|field| _ = writeln!(text, "    {field}: u32,"));
        text.push_str("}\n@group(0) @binding(0) var<uniform> p: Params;\n");
        let all = [&functions, &self.body, &self.declarations];
        let named = |wanted: &[&str]| all.iter().any(|text| words(text).any(|word| wanted.contains(&word)));
        for (alias, of) in ALIASES.iter().filter(|(alias, _)| named(&[alias])) {
            _ = writeln!(text, "alias {alias} = vec4<{of}>;");
        }
        let wide = [named(&["D4", "f64"]), named(&["L4", "M4", "i64", "u64"])];
        text.push_str(&self.declarations);
        text.push_str(&functions);
        text.push_str(&self.body);
        let params: Vec<(String, usize)> = self.fields.into_iter().enumerate().map(|(at, name)| (name, 4 * at)).collect();
        Shader::ours(name, text).with_params(&params).with_wide_types(wide[0], wide[1]).with_inlined_bytes(inlined)
    }
}

const ALIASES: [(&str, &str); 7] =
    [("F4", "f32"), ("D4", "f64"), ("I4", "i32"), ("U4", "u32"), ("L4", "i64"), ("M4", "u64"), ("B4", "bool")];

/// The declarations of a program's inputs that are chunks, and how many there are.
pub(in crate::kernel) fn inputs_of(program: &ScalarProgram, form: &MapForm) -> (String, usize) {
    let (mut text, mut chunks) = (String::new(), 0);
    for (number, (&reads, &dtype)) in form.inputs.iter().zip(program.inputs()).enumerate() {
        if !matches!(reads, ReadsAs::Made { .. }) {
            chunks += 1;
            text.push_str(&memory::input((number, chunks), dtype, reads));
        }
    }
    (text, chunks)
}

/// The names of a program's result, or of its parts.
pub(in crate::kernel) fn result_of(program: &ScalarProgram) -> Vec<String> {
    let parts = if program.dtype().is_complex() { 2 } else { 1 };
    (0..parts).map(|part| body::name(program.code().len() - 1, program.dtype(), part)).collect()
}

/// The invocation's number is that of its four elements.
const ENTRY: &str = "@compute @workgroup_size(256)
fn run(
    @builtin(workgroup_id) id: vec3<u32>,
    @builtin(num_workgroups) count: vec3<u32>,
    @builtin(local_invocation_index) t: u32,
) {
    let folded = id.x + id.y * count.x;
    if (folded >= p.groups) {
        return;
    }
    let q = (p.first + folded) * 256u + t;
    if (q >= (p.n + 3u) / 4u) {
        return;
    }
";

/// The statements that compute a program of the four elements from number `i` on, which are four at once at place `q`.
pub(in crate::kernel) fn value(program: &ScalarProgram, form: &MapForm, simplifies: bool, lines: &mut Vec<String>) {
    lines.extend(indices(form));
    let body = BodyText::new(program, simplifies);
    for (value, instr) in program.code().iter().enumerate() {
        if let Instr::Input(number) = instr {
            let number = *number as usize;
            let (dtype, reads) = (program.inputs()[number], form.inputs[number]);
            let (rank, is_aligned) = (form.rank, form.is_aligned);
            memory::LoadFour { number, dtype, reads, rank, is_aligned, value, out: lines }.write();
        } else {
            body.statements(value, lines);
        }
    }
}

/// The statements that apply a program of one input to a value, given by its parts.
pub(in crate::kernel) fn applied(program: &ScalarProgram, parts: &[String], simplifies: bool, lines: &mut Vec<String>) {
    let body = BodyText::new(program, simplifies);
    for (value, instr) in program.code().iter().enumerate() {
        match instr {
            Instr::Input(_) => {
                let of =
                    |(part, text): (usize, &String)| format!("let {} = {text};", body::name(value, program.inputs()[0], part));
                lines.extend(parts.iter().enumerate().map(of));
            }
            _ => body.statements(value, lines),
        }
    }
}

/// The indices of the elements along each axis, the innermost first: of the first of the four, where they lie in a row; else of each, those beyond the end being the last one's.
fn indices(form: &MapForm) -> Vec<String> {
    if form.rank == 0 {
        return Vec::new();
    }
    let mut lines = vec![match form.is_aligned {
        true => "let i0 = i;".to_owned(),
        false => "let i0 = min(U4(i) + U4(0u, 1u, 2u, 3u), U4(p.n - 1u));".to_owned(),
    }];
    let by = |axis: usize| if form.is_aligned { format!("p.e{axis}") } else { format!("U4(p.e{axis})") };
    for axis in 0..form.rank - 1 {
        lines.push(format!("let i{} = i{axis} / {};", axis + 1, by(axis)));
        lines.push(format!("let c{axis} = i{axis} - i{} * {};", axis + 1, by(axis)));
    }
    lines.push(format!("let c{0} = i{0};", form.rank - 1));
    lines
}
