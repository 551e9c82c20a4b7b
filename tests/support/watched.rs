//! Shaders of the library's own, rewritten so that every index is compared with the true length of its array before it is used.
//!
//! Owns: the rewriting, and [`Watched`], a kernel whose program runs the rewritten shader. Must not know: what a shader computes. Invariant: an
//! index that is not watched is a panic of the rewriting; lengths are those of the chunks, not of the buffers behind them, which are longer.

use std::borrow::Cow;
use std::sync::{Arc, Mutex, PoisonError};

use chunkwise::ext::Lies;
use chunkwise::kernel::{Fault, GpuFacts, Kernel, Program, Scratch, Shader, Work};
use chunkwise::shape::{ChunkMeta, ChunkView, ChunkViewMut, DType};

/// An array of a shader.
struct Watch {
    name: String,
    /// Bytes of an element.
    bytes: u64,
    place: ArrayPlace,
}

enum ArrayPlace {
    /// Bound at this number.
    Bound(u64),
    /// In workgroup memory, so many elements.
    Workgroup(u64),
}

/// The number after `mark` in a declaration.
fn number(declaration: &str, mark: &str) -> Option<u64> {
    let digits = declaration.split(mark).nth(1)?.trim_start();
    digits.split(|c: char| !c.is_ascii_digit()).next()?.parse().ok()
}

/// The array that a declaration (what stands before its `;`) declares, if any.
fn watch(declaration: &str, real: DType, text: &str) -> Option<Watch> {
    let (head, kind) = declaration.split_once(": array<")?;
    let name = head.rsplit(' ').next()?.to_owned();
    let element = kind.split([',', ' ']).next()?.trim_end_matches('>');
    let real = real.bytes() as u64;
    let bytes = match element {
        "Real" => real,
        "vec2<Real" => 2 * real,
        "vec4<Real" => 4 * real,
        "u32" | "i32" | "atomic<u32" => 4,
        "f32" => 4,
        "f64" | "i64" | "u64" | "vec2<u32" | "vec2<f32" => 8,
        "vec4<f32" | "vec4<i32" | "vec4<u32" | "vec2<f64" | "vec2<i64" | "vec2<u64" => 16,
        "Part" => part_bytes(text),
        other => panic!("an array of {other}"),
    };
    let place = match number(declaration, "@binding(") {
        Some(binding) => ArrayPlace::Bound(binding),
        None => ArrayPlace::Workgroup(number(kind, ", ").expect("a length")),
    };
    Some(Watch { name, bytes, place })
}

/// Bytes of a part of a reduction, whose fields have the alignment of the largest.
fn part_bytes(text: &str) -> u64 {
    let (_, fields) = text.split_once("struct Part {").expect("what a part is");
    let fields = fields.split('}').next().unwrap_or_default().split(',').filter_map(|field| field.split(": ").nth(1));
    let bytes: Vec<u64> = fields.map(|scalar| if scalar.ends_with("64") { 8 } else { 4 }).collect();
    bytes.iter().sum::<u64>().next_multiple_of(bytes.iter().copied().max().unwrap_or(4))
}

/// The text without its comments.
fn code(source: &str) -> String {
    source.lines().map(|line| line.split("//").next().unwrap_or(line).to_owned() + "\n").collect()
}

/// The text with each index of a watched array passed through `seen`.
fn indexed(text: &str, watches: &[Watch]) -> String {
    let mut out = String::new();
    let mut rest = text;
    while let Some(start) = rest.find(|c: char| c.is_ascii_alphabetic() || c == '_' || c == '[') {
        let (before, from) = rest.split_at(start);
        out += before;
        assert!(!from.starts_with('['), "an index of no named array: {}", &from[..from.len().min(60)]);
        let len = from.find(|c: char| !c.is_ascii_alphanumeric() && c != '_').unwrap_or(from.len());
        let (name, after) = from.split_at(len);
        out += name;
        rest = after;
        let known = watches.iter().position(|watch| watch.name == name);
        if let Some(inside) = after.strip_prefix('[') {
            let end = closing(inside);
            // What has a fixed length and is indexed by a number, a compiler looks at.
            if known.is_none() && inside[..end].chars().all(|c| c.is_ascii_digit()) {
                out += &format!("[{}]", &inside[..end]);
                rest = &inside[end + 1..];
                continue;
            }
            let which = known.unwrap_or_else(|| panic!("{name} is indexed, and no array that is watched"));
            let limit = match watches[which].place {
                ArrayPlace::Bound(_) => format!("p.limit{which}"),
                ArrayPlace::Workgroup(len) => format!("{len}u"),
            };
            out += &format!("[seen({which}u, {}, {limit})]", indexed(&inside[..end], watches));
            rest = &inside[end + 1..];
        } else {
            // As a whole, an array could be indexed out of sight.
            assert!(known.is_none() || !before.ends_with('&'), "{name} is taken as a whole");
        }
    }
    out + rest
}

/// Where the bracket ends that was opened before the text.
fn closing(text: &str) -> usize {
    let mut depth = 1;
    let end = text.find(|c: char| {
        depth += i32::from(c == '[') - i32::from(c == ']');
        depth == 0
    });
    end.expect("a bracket that is closed")
}

/// Of the indices that were not below their limits, the last array's largest goes to the last fault word, which no shader uses.
const SEEN: &str = "
fn seen(which: u32, index: u32, limit: u32) -> u32 {
    if (index >= limit) {
        atomicMax(&FAULT[3], ((which + 1u) << 24u) | min(index, 0xffffffu));
    }
    return select(0u, index, index < limit);
}
";

/// A program that does the same, and says by a fault if an index is not below its limit. `bytes` are those of the operands; the names of the
/// arrays come with it.
fn watched(program: &Program, bytes: &[u64], slip: Option<(&str, &str)>) -> (Program, Vec<String>) {
    let mut text = code(program.shader.source());
    let is_made = ["map ", "reduce "].iter().any(|made| program.shader.name().starts_with(made));
    if let Some((right, wrong)) = slip {
        assert!(text.contains(right), "no `{right}` in {}", program.shader.name());
        text = text.replacen(right, wrong, 1);
    }
    let watches: Vec<Watch> = text.split(';').filter_map(|declaration| watch(declaration, program.real, &text)).collect();
    // Scratch that the shader knows and this program has none of is bound here, and empty.
    let bound = |watch: &Watch| matches!(watch.place, ArrayPlace::Bound(binding) if binding as usize == bytes.len() + 1);
    let has_scratch = program.scratch_bytes > 0 || watches.iter().any(|watch| bound(watch) && watch.name != "fault");
    let mut lengths = bytes.to_vec();
    lengths.extend(has_scratch.then_some(program.scratch_bytes));
    lengths.extend(program.faults.then_some(16));
    let (mut limits, mut params) = (String::new(), program.params.clone());
    for (which, watch) in watches.iter().enumerate() {
        if let ArrayPlace::Bound(binding) = watch.place {
            limits += &format!("limit{which}: u32,\n");
            // Of elements smaller than a word, the whole word is theirs; and what is generated counts on it that bindings end at multiples of 16 bytes.
            let unit = if is_made { 16 } else { 4 };
            let length = lengths[binding as usize - 1].next_multiple_of(unit) / watch.bytes;
            params.extend_from_slice(&(length as u32).to_ne_bytes());
        }
    }
    let (head, body) = text.split_once("struct Params {").expect("parameters");
    let (fields, body) = body.split_once('}').expect("their end");
    let fault = if program.faults { "fault" } else { "violation" };
    let mut text = format!("{head}struct Params {{{}\n{limits}}}{}", fields.trim_end(), indexed(body, &watches));
    if !program.faults {
        let binding = lengths.len() + 1;
        text += &format!("@group(0) @binding({binding}) var<storage, read_write> violation: array<atomic<u32>, 4>;\n");
    }
    text += &SEEN.replace("FAULT", fault);
    let old = &program.shader;
    let shader = Shader::new(format!("watched {}", old.name()), text)
        .with_operands(old.inputs(), old.outputs())
        .with_workgroup(old.invocations(), old.workgroup_bytes());
    let shader = if old.packs_bools() { shader.with_packed_bools() } else { shader };
    let scratch_bytes = if has_scratch { program.scratch_bytes.max(16) } else { 0 };
    let program = Program { shader: shader.into(), params, scratch_bytes, faults: true, ..program.clone() };
    (program, watches.into_iter().map(|watch| watch.name).collect())
}

/// What is watched.
enum What {
    Kernel(Arc<dyn Kernel>),
    /// A program that no kernel asks for, and the bytes of its operands.
    Program(Box<Program>, Vec<u64>),
}

/// A kernel whose GPU half has every index watched: one out of bounds is a fault.
pub struct Watched {
    what: What,
    /// A piece of the shader's text, and what stands there instead.
    slip: Option<(&'static str, &'static str)>,
    names: Mutex<Vec<String>>,
}

impl Watched {
    /// The GPU half of this kernel.
    pub fn kernel(kernel: Arc<dyn Kernel>) -> Self {
        Self { what: What::Kernel(kernel), slip: None, names: Mutex::default() }
    }

    /// A program on operands of so many bytes.
    pub fn program(program: Program, bytes: &[u64]) -> Self {
        Self { what: What::Program(Box::new(program), bytes.to_vec()), slip: None, names: Mutex::default() }
    }

    /// The same with `wrong` instead of the first `right` in the shader.
    pub fn with_slip(self, right: &'static str, wrong: &'static str) -> Self {
        Self { slip: Some((right, wrong)), ..self }
    }
}

impl Kernel for Watched {
    fn name(&self) -> Cow<'static, str> {
        match &self.what {
            What::Kernel(kernel) => kernel.name(),
            What::Program(program, _) => program.shader.name().to_owned().into(),
        }
    }

    fn work(&self, params: &[u8], operands: &[ChunkMeta<'_>]) -> Work {
        match &self.what {
            What::Kernel(kernel) => kernel.work(params, operands),
            What::Program(program, _) => program.most,
        }
    }

    fn program(&self, params: &[u8], operands: &[ChunkMeta<'_>], gpu: &GpuFacts) -> Option<Program> {
        // Of what a view shows, those up to its last element.
        let bytes = |m: &ChunkMeta<'_>| {
            let last = |lies: Lies<'_>| {
                let steps = m.shape.iter().zip(lies.strides).map(|(&n, &step)| step.max(0) as usize * (n - 1));
                lies.offset + steps.sum::<usize>() + 1
            };
            (m.lies.map_or(m.shape.iter().product(), last) * m.dtype.bytes()) as u64
        };
        let (program, bytes) = match &self.what {
            What::Kernel(kernel) => (kernel.program(params, operands, gpu)?, operands.iter().map(bytes).collect()),
            What::Program(program, bytes) => (Program::clone(program), bytes.clone()),
        };
        let (program, names) = watched(&program, &bytes, self.slip);
        *self.names.lock().unwrap_or_else(PoisonError::into_inner) = names;
        Some(program)
    }

    fn reads_views(&self) -> bool {
        matches!(&self.what, What::Kernel(kernel) if kernel.reads_views())
    }

    fn fault(&self, params: &[u8], words: [u32; 4]) -> Option<Fault> {
        let names = self.names.lock().unwrap_or_else(PoisonError::into_inner);
        match (words[3], &self.what) {
            (0, What::Kernel(kernel)) => kernel.fault(params, words),
            (0, _) => None,
            (word, _) => {
                let name = names.get((word >> 24) as usize - 1).map_or("?", String::as_str);
                Some(Fault::Because(format!("index {} of {name}", word & 0xff_ffff)))
            }
        }
    }

    fn run_cpu(&self, _: &[u8], _: &[ChunkView<'_>], _: &mut [ChunkViewMut<'_>], _: &mut Scratch<'_>) -> Result<(), Fault> {
        unreachable!("for GPUs")
    }
}
