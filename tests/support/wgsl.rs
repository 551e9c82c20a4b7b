//! Shaders as each API gets them.
//!
//! Owns: what naga makes of WGSL. Must not know: what a shader computes. Invariant: a text that is translated was valid in all of its parts.

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
    let said = || [output.stdout.clone(), output.stderr.clone()].map(|text| String::from_utf8_lossy(&text).into_owned()).concat();
    Some(if output.status.success() { Ok(()) } else { Err(said()) })
}
