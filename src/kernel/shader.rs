//! Shaders: WGSL text, and what is said of it.
//!
//! Owns: [`Shader`]. Must not know: which kernel made it, any GPU API. Invariant: two shaders of one content compile to the same code; one that is
//! another has another content, whatever it is called and wherever it lies.

use std::borrow::Cow;

use super::key::content_hash;
use crate::shape::DType;

/// A shader, and the names of its parameters: a fixed one, made once and kept in a `static`, or one that a kernel makes at run time.
///
/// ```
/// use std::sync::{Arc, LazyLock};
/// use chunkwise::ext::Shader;
/// chunkwise::shader_params!(struct Size { n });
///
/// static FIXED: LazyLock<Arc<Shader>> = LazyLock::new(|| {
///     let shader = Shader::new("saturate", "/* or include_str!(\"saturate.wgsl\") */");
///     shader.with_params(Size::FIELDS).with_operands(1, 1).with_workgroup(64, [0, 0]).into()
/// });
/// let made = |factor: u32| Shader::new("times", format!("const FACTOR = {factor}u; /* and so on */")).with_operands(1, 1);
/// assert!(made(3) == made(3) && made(3) != made(4));
/// assert_eq!(FIXED.params()[0], ("n".into(), 0));
/// ```
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Shader {
    /// Of the name and of the source: first, because it differs where they do.
    hashes: [u64; 2],
    inputs: u32,
    outputs: u32,
    name: Cow<'static, str>,
    source: Cow<'static, str>,
    params: Vec<(Cow<'static, str>, usize)>,
    invocations: u32,
    workgroup_bytes: [u32; 2],
    /// Whether its loops are known to end, its indices to be within its arrays, and workgroup memory to be written before it is read.
    trusted: bool,
    /// Whether it writes outputs of `bool` as bytes.
    packs_bools: bool,
    /// Whether it computes in 64 bits: floats, and integers.
    wide: [bool; 2],
    /// Bytes of its text with that of each function as often as it is called.
    inlined_bytes: usize,
}

/// What every GPU has.
const INVOCATIONS: u32 = 256;

impl Shader {
    /// A shader with this text (without the `alias Real` line). It has no parameters and binds no operands; its workgroups have up to 256
    /// invocations and no memory: say so where that is not so. `name` is for messages.
    ///
    /// This reads all of the text: a kernel that makes shaders keeps them, in an [`Arc`](std::sync::Arc), for as long as it needs them.
    #[must_use]
    pub fn new(name: impl Into<Cow<'static, str>>, source: impl Into<Cow<'static, str>>) -> Self {
        let (name, source) = (name.into(), source.into());
        let inlined_bytes = source.len();
        Self {
            hashes: [content_hash(name.as_bytes()), content_hash(source.as_bytes())],
            inputs: 0,
            outputs: 0,
            name,
            source,
            params: Vec::new(),
            invocations: INVOCATIONS,
            workgroup_bytes: [0; 2],
            trusted: false,
            packs_bools: false,
            wide: [false; 2],
            inlined_bytes,
        }
    }

    /// One of this crate's own. With the parameters and for the operands that its kernel takes, and whatever these hold, all its loops end, and all its
    /// indices are within its arrays (tests/gpu_bounds.rs); and it writes workgroup memory before it reads it. So its loops are compiled without
    /// a counter, its indices without a check, and its workgroup memory is not cleared.
    pub(crate) fn ours(name: impl Into<Cow<'static, str>>, source: impl Into<Cow<'static, str>>) -> Self {
        Self { trusted: true, ..Self::new(name, source) }
    }

    /// The shader with these parameters after the launch's four: name, and offset in [`Program::params`](super::Program::params).
    #[must_use]
    pub fn with_params<N: Clone + Into<Cow<'static, str>>>(mut self, params: &[(N, usize)]) -> Self {
        self.params = params.iter().map(|(name, offset)| (name.clone().into(), *offset)).collect();
        self
    }

    /// The shader with so many buffers bound as inputs, and as outputs.
    #[must_use]
    pub fn with_operands(mut self, inputs: u32, outputs: u32) -> Self {
        (self.inputs, self.outputs) = (inputs, outputs);
        self
    }

    /// The shader with so many invocations in a workgroup, at most, in any entry point; and so many bytes of workgroup memory, at most, of an entry
    /// point in `f32` and in `f64`.
    #[must_use]
    pub fn with_workgroup(mut self, invocations: u32, bytes: [u32; 2]) -> Self {
        (self.invocations, self.workgroup_bytes) = (invocations, bytes);
        self
    }

    /// The shader that writes its outputs of `bool` as bytes, four to a word, as inputs are: all of a word by one invocation.
    #[must_use]
    pub fn with_packed_bools(self) -> Self {
        Self { packs_bools: true, ..self }
    }

    /// The shader that computes in `f64`, or with integers of 64 bits, whatever `Real` is.
    #[must_use]
    pub(crate) fn with_wide_types(self, f64: bool, i64: bool) -> Self {
        Self { wide: [f64, i64], ..self }
    }

    /// Its name: of this crate's own, the stem of its file in `shaders/`.
    #[must_use]
    pub fn name(&self) -> &str {
        &self.name
    }

    /// Its text, without the `alias Real` line: its file, and text that several shaders share.
    #[must_use]
    pub fn source(&self) -> &str {
        &self.source
    }

    /// Its text as it is compiled. What is added stands at the end, so that lines and columns in a compiler's messages are those of
    /// [`Shader::source`].
    #[must_use]
    pub fn wgsl(&self, real: DType) -> String {
        format!("{}\nalias Real = {real};\n", self.source)
    }

    /// Its parameters after the launch's four: name, and offset in [`Program::params`](super::Program::params).
    #[must_use]
    pub fn params(&self) -> &[(Cow<'static, str>, usize)] {
        &self.params
    }

    /// Buffers bound as inputs.
    #[must_use]
    pub fn inputs(&self) -> u32 {
        self.inputs
    }

    /// Buffers bound as outputs.
    #[must_use]
    pub fn outputs(&self) -> u32 {
        self.outputs
    }

    /// Invocations of a workgroup, at most, in any entry point.
    #[must_use]
    pub fn invocations(&self) -> u32 {
        self.invocations
    }

    /// Workgroup memory, at most, of an entry point in `f32` and in `f64`, in bytes.
    #[must_use]
    pub fn workgroup_bytes(&self) -> [u32; 2] {
        self.workgroup_bytes
    }

    /// A hash of its name, its text and what it binds, the same in every process. What is equal by it may still be another: compare with `==`.
    #[must_use]
    pub fn content(&self) -> u64 {
        let bound = u64::from(self.inputs) << 32 | u64::from(self.outputs);
        content_hash(bytemuck::bytes_of(&[self.hashes[0].to_le(), self.hashes[1].to_le(), bound.to_le()]))
    }

    /// The shader of so many bytes, with each function as often as it is called, which is how compilers see it.
    #[must_use]
    pub(crate) fn with_inlined_bytes(self, inlined_bytes: usize) -> Self {
        Self { inlined_bytes, ..self }
    }

    /// How much there is to compile, in bytes of text.
    #[cfg_attr(not(feature = "gpu"), allow(dead_code))] // GPUs only
    pub(crate) fn inlined_bytes(&self) -> usize {
        self.inlined_bytes
    }

    /// The same, with a counter in each loop and a check of each index.
    #[cfg_attr(not(feature = "gpu"), allow(dead_code))] // GPUs only
    pub(crate) fn distrusted(&self) -> Self {
        Self { trusted: false, ..self.clone() }
    }

    /// Whether it writes its outputs of `bool` as bytes.
    #[must_use]
    pub fn packs_bools(&self) -> bool {
        self.packs_bools
    }

    /// Whether it computes in `f64` whatever `Real` is.
    pub(crate) fn needs_f64(&self) -> bool {
        self.wide[0]
    }

    /// Whether it computes with integers of 64 bits.
    pub(crate) fn needs_i64(&self) -> bool {
        self.wide[1]
    }

    #[cfg_attr(not(feature = "gpu"), allow(dead_code))] // GPUs only
    pub(crate) fn is_trusted(&self) -> bool {
        self.trusted
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn shaders_are_told_apart_by_what_they_are() {
        let one = || Shader::new("one", String::from("text")).with_operands(1, 1);
        assert!(one() == one() && one().content() == one().content());
        let others = [
            Shader::new("two", "text").with_operands(1, 1),
            Shader::new("one", "Text").with_operands(1, 1),
            Shader::new("one", "text"),
        ];
        assert!(others.iter().all(|other| *other != one() && other.content() != one().content()));
        assert_ne!(Shader::ours("one", "text").with_operands(1, 1), one(), "only ours is trusted");
    }
}
