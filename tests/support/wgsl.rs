//! Shaders as each API gets them.
//!
//! Owns: what naga makes of WGSL. Must not know: what a shader computes. Invariant: a text that is translated was valid in all of its parts.

use std::collections::BTreeSet;
use std::io::Write;
use std::process::{Command, Stdio};

use naga::back::{hlsl, msl, spv};
use naga::valid::{Capabilities, ValidationFlags, Validator};

/// The SPIR-V of a valid text, which can be written for Metal, unless it has `f64`, and for DX12, too.
///
/// # Errors
/// What is wrong with it, and the text.
pub fn translated(text: &str) -> Result<Vec<u32>, String> {
    let wrong = |what: String| format!("{what}\n{text}");
    let module = naga::front::wgsl::parse_str(text).map_err(|e| wrong(e.emit_to_string(text)))?;
    let capabilities = Capabilities::FLOAT64 | Capabilities::SHADER_INT64;
    let info = Validator::new(ValidationFlags::all(), capabilities).validate(&module).map_err(|e| wrong(format!("{e:?}")))?;
    if !text.contains("f64") {
        let options = msl::Options { lang_version: (2, 3), ..Default::default() };
        let written = msl::write_string(&module, &info, &options, &msl::PipelineOptions::default());
        let (_, written) = written.map_err(|e| wrong(format!("MSL: {e}")))?;
        written.entry_point_names.into_iter().collect::<Result<Vec<_>, _>>().map_err(|e| wrong(format!("MSL: {e}")))?;
    }
    let (mut dx12, options) = (String::new(), hlsl::Options { shader_model: hlsl::ShaderModel::V6_0, ..Default::default() });
    let written = hlsl::Writer::new(&mut dx12, &options, &hlsl::PipelineOptions::default()).write(&module, &info, None);
    let written = written.map_err(|e| wrong(format!("HLSL: {e}")))?;
    written.entry_point_names.into_iter().collect::<Result<Vec<_>, _>>().map_err(|e| wrong(format!("HLSL: {e}")))?;
    let options = spv::Options { lang_version: (1, 3), ..Default::default() };
    spv::write_vec(&module, &info, &options, None).map_err(|e| wrong(format!("SPIR-V: {e}")))
}

/// What `spirv-val` says of a module for Vulkan 1.1; `None` where there is no such tool.
///
/// # Errors
/// What is wrong.
pub fn spirv_val(words: &[u32]) -> Option<Result<(), String>> {
    let mut tool = Command::new("spirv-val");
    tool.args(["--target-env", "vulkan1.1", "-"]).stdin(Stdio::piped()).stdout(Stdio::piped()).stderr(Stdio::piped());
    let mut child = tool.spawn().ok()?;
    child.stdin.take()?.write_all(bytemuck::cast_slice(words)).ok()?;
    let output = child.wait_with_output().ok()?;
    let said =
        || [output.stdout.clone(), output.stderr.clone()].map(|text| String::from_utf8_lossy(&text).into_owned()).concat();
    Some(if output.status.success() { Ok(()) } else { Err(said()) })
}

/// Instructions of a function, with all that it calls.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct CodeSize {
    /// Those that are executed once.
    pub once: usize,
    /// Those in the entry point's loops.
    pub looped: usize,
}

/// A function's own instructions, and which functions it calls: outside of loops, and in them.
#[derive(Default)]
struct FunctionCode {
    id: u32,
    own: [usize; 2],
    calls: [Vec<u32>; 2],
}

/// Instructions of a module's entry point with all that it calls, each function as often as it is called: what computes, loads, stores and branches, without labels, declarations and what says
/// how blocks belong together.
///
/// # Panics
/// If there is no such entry point.
pub fn instructions(words: &[u32], entry: &str) -> CodeSize {
    const ENTRY_POINT: u32 = 15;
    const FUNCTION: u32 = 54;
    const FUNCTION_END: u32 = 56;
    const CALL: u32 = 57;
    const LOOP_MERGE: u32 = 246;
    const LABEL: u32 = 248;
    /// Lines, functions' parameters, variables, merges, branches that always are, returns.
    const FREE: [u32; 8] = [8, 55, 59, 246, 247, 249, 253, 254];
    let mut functions: Vec<FunctionCode> = Vec::new();
    // The blocks behind the loops that are open.
    let (mut first, mut ends): (Option<u32>, Vec<u32>) = (None, Vec::new());
    let (mut at, mut is_inside) = (5, false);
    while let Some(&head) = words.get(at) {
        let (len, code) = ((head >> 16) as usize, head & 0xffff);
        let rest = &words[at + 1..at + len];
        let is_looped = usize::from(!ends.is_empty());
        match code {
            ENTRY_POINT => {
                let name: Vec<u8> =
                    rest[2..].iter().flat_map(|word| word.to_le_bytes()).take_while(|&byte| byte != 0).collect();
                if name == entry.as_bytes() {
                    first = Some(rest[1]);
                }
            }
            FUNCTION => {
                functions.push(FunctionCode { id: rest[1], ..FunctionCode::default() });
                is_inside = true;
            }
            FUNCTION_END => is_inside = false,
            LABEL => ends.retain(|&end| end != rest[0]),
            LOOP_MERGE => ends.push(rest[0]),
            CALL => functions.last_mut().expect("a function").calls[is_looped].push(rest[2]),
            _ if is_inside && !FREE.contains(&code) => functions.last_mut().expect("a function").own[is_looped] += 1,
            _ => {}
        }
        at += len.max(1);
    }
    let first = first.unwrap_or_else(|| panic!("no entry point {entry}"));
    let of = |id: u32| functions.iter().find(|function| function.id == id).expect("a function");
    fn all<'a>(of: &impl Fn(u32) -> &'a FunctionCode, id: u32) -> usize {
        let FunctionCode { own, calls, .. } = of(id);
        own.iter().sum::<usize>() + calls.iter().flatten().map(|&call| all(of, call)).sum::<usize>()
    }
    let [once, looped] = [0, 1].map(|part| {
        let entry = of(first);
        entry.own[part] + entry.calls[part].iter().map(|&call| all(&of, call)).sum::<usize>()
    });
    CodeSize { once, looped }
}

/// The `const` and `fn` items of a text, each from its first line to the next item's comment: name, text.
fn items(text: &str) -> Vec<(&str, String)> {
    let mut items: Vec<(&str, String)> = Vec::new();
    for line in text.lines() {
        let start = ["fn ", "const "].iter().find_map(|word| line.strip_prefix(word));
        if let Some(rest) = start {
            items.push((rest.split(['(', ':']).next().expect("a name"), String::new()));
        }
        if let Some((_, item)) = items.last_mut().filter(|_| !line.starts_with("//")) {
            *item += line;
            *item += "\n";
        }
    }
    items
}

/// An item's text.
///
/// # Panics
/// Without one of this name.
pub fn item(text: &str, name: &str) -> String {
    items(text).into_iter().find(|(known, _)| *known == name).unwrap_or_else(|| panic!("no item {name}")).1
}

/// The names in a text.
fn names(text: &str) -> impl Iterator<Item = &str> {
    text.split(|c: char| !c.is_ascii_alphanumeric() && c != '_')
}

/// A function and the items that it needs, in their order.
///
/// # Panics
/// Without one of this name.
pub fn needed(text: &str, name: &str) -> String {
    let items = items(text);
    let mut seen = BTreeSet::from([name]);
    let mut todo = vec![name];
    while let Some(name) = todo.pop() {
        let (_, item) = items.iter().find(|(known, _)| *known == name).unwrap_or_else(|| panic!("no item {name}"));
        let used = names(item).filter_map(|used| items.iter().find(|(known, _)| *known == used));
        todo.extend(used.map(|(known, _)| *known).filter(|known| seen.insert(known)));
    }
    items.iter().filter(|(name, _)| seen.contains(name)).map(|(_, item)| item.as_str()).collect()
}
