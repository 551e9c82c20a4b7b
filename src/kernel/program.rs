//! The GPU half of a kernel, as data: which shader, which passes, which parameters.
//!
//! Owns: [`Program`], [`Shader`], [`GpuFacts`]. Must not know: any GPU API, devices, queues. Invariant: a program says everything that
//! an executor needs, so one executor runs all of them and may cut any of them into short launches.
//!
//! # The ABI, the same for all shaders
//!
//! A shader is plain WGSL in `shaders/`, of the same stem as its kernel's file. The executor prepends one line, `alias Real = f32;`
//! or `alias Real = f64;`. Everything is in group 0:
//!
//! | binding | what |
//! |---|---|
//! | 0 | `var<uniform> p: Params`: the launch (16 bytes), then the kernel's parameters, `u32` each |
//! | 1.. | the inputs, `var<storage, read>`, then the outputs, `read_write` |
//! | next | the scratch, `read_write`, if [`Program::scratch_bytes`] is not 0 |
//! | last | the fault words `array<atomic<u32>, 4>`, `read_write`, if [`Program::faults`] |
//!
//! ```wgsl
//! struct Params {
//!     first: u32, // number of this dispatch's first workgroup
//!     groups: u32, // how many this dispatch has
//!     begin: u32, // first step (of a resumable pass), or the pass's argument
//!     end: u32, // the step before which to stop
//!     m: u32, k: u32, // the kernel's own, as in its `Shader::params`
//! }
//! ```
//!
//! Workgroups are numbered in one dimension and folded over x and y, because no axis takes more than 65 535:
//! `let folded = id.x + id.y * count.x; if (folded >= p.groups) { return; } let group = p.first + folded;`. An executor may run
//! a pass as several dispatches over parts of its workgroups, so no workgroup may rely on another of its pass; passes run one
//! after the other, each seeing all that the ones before it wrote. Operands are contiguous, in C order; the buffer behind a
//! binding is padded to a multiple of 16 bytes. Scratch and workgroup memory hold anything at first; the fault words are 0.

use super::Work;
use crate::shape::{ChunkMeta, DType};

/// A shader, and the names of its parameters.
#[derive(Debug)]
pub struct Shader {
    /// Its stem: `gemv` is `shaders/gemv.wgsl`.
    pub name: &'static str,
    /// Its text, without the `alias Real` line: its file, and text that several shaders share.
    pub source: &'static str,
    /// Its parameters after the launch's four: name, and offset in [`Program::params`].
    pub params: &'static [(&'static str, usize)],
    /// Buffers bound as inputs.
    pub inputs: u32,
    /// Buffers bound as outputs.
    pub outputs: u32,
    /// Invocations of a workgroup, at most, in any entry point.
    pub invocations: u32,
    /// Workgroup memory, at most, of an entry point in `f32` and in `f64`, in bytes.
    pub workgroup_bytes: [u32; 2],
}

/// One entry point of a shader, run over some workgroups.
#[derive(Clone, Debug, PartialEq)]
pub struct Pass {
    /// The entry point.
    pub entry: &'static str,
    /// Number of workgroups.
    pub groups: u64,
    /// What the shader sees as `begin` and `end`.
    pub steps: std::ops::Range<u32>,
    /// Whether it may be run as several dispatches over consecutive parts of `steps` (each over all its workgroups, or a part of
    /// them): it then keeps its state between them.
    pub resumable: bool,
}

impl Pass {
    /// A pass over so many workgroups, whose shader sees `argument` as `begin`.
    #[must_use]
    pub fn new(entry: &'static str, groups: u64, argument: u32) -> Self {
        Self { entry, groups, steps: argument..argument, resumable: false }
    }
}

/// What a GPU does for one task.
#[derive(Clone, Debug)]
pub struct Program {
    /// The shader of all passes.
    pub shader: &'static Shader,
    /// What `Real` is: `F32` or `F64`.
    pub real: DType,
    /// The kernel's parameters, a multiple of 4 bytes and at most 240.
    pub params: Vec<u8>,
    /// The passes, in order.
    pub passes: Vec<Pass>,
    /// Bytes of scratch.
    pub scratch_bytes: u64,
    /// Whether it may report a fault.
    pub faults: bool,
    /// Most work of all passes together, whatever the data: by this the executor keeps launches short.
    pub most: Work,
}

/// What a kernel may know of the GPU for which it makes a program.
#[derive(Clone, Copy, Debug, PartialEq, Eq, serde::Serialize, serde::Deserialize)]
pub struct GpuFacts {
    /// Whether shaders may compute in `f64`.
    pub f64: bool,
    /// Largest chunk that one binding can see, in bytes.
    pub binding_bytes: u64,
    /// Storage buffers that one shader can see.
    pub bindings: u32,
    /// Invocations of one workgroup.
    pub invocations: u32,
    /// Workgroup memory, in bytes.
    pub workgroup_bytes: u32,
    /// Variant of the matrix product, chosen by calibration; 0 is the default.
    pub product: u8,
}

impl GpuFacts {
    /// A GPU that runs every program.
    pub(crate) const ANY: Self = Self {
        f64: true,
        binding_bytes: u64::MAX,
        bindings: u32::MAX,
        invocations: u32::MAX,
        workgroup_bytes: u32::MAX,
        product: 0,
    };
}

/// Largest operand in bytes: what a binding takes on Vulkan and DX12, and far from where `u32` indices end.
const LARGEST_OPERAND: u64 = (1 << 31) - 1;

impl Program {
    /// A program without scratch that reports no faults.
    pub(crate) fn new(
        shader: &'static Shader,
        real: DType,
        params: &impl bytemuck::NoUninit,
        passes: Vec<Pass>,
        most: Work,
    ) -> Self {
        let params = bytemuck::bytes_of(params).to_vec();
        Self { shader, real, params, passes, scratch_bytes: 0, faults: false, most }
    }

    /// Itself, if this GPU can run it on these operands and none of them is empty. `workgroup` is what the largest of its
    /// workgroups needs: invocations, and bytes.
    pub(crate) fn fitting(self, gpu: &GpuFacts, operands: &[ChunkMeta<'_>], workgroup: (u32, u32)) -> Option<Self> {
        let bindings = operands.len() as u32 + u32::from(self.scratch_bytes > 0) + u32::from(self.faults);
        let largest = gpu.binding_bytes.min(LARGEST_OPERAND);
        let bytes = |m: &ChunkMeta<'_>| {
            m.shape.iter().try_fold(m.dtype.bytes() as u64, |bytes, &n| bytes.checked_mul(n as u64)).unwrap_or(u64::MAX)
        };
        let fits = (self.real != DType::F64 || gpu.f64)
            && bindings <= gpu.bindings
            && workgroup.0 <= gpu.invocations
            && workgroup.1 <= gpu.workgroup_bytes
            && self.scratch_bytes <= largest
            && operands.iter().all(|m| (1..=largest).contains(&bytes(m)));
        fits.then_some(self)
    }
}

impl Shader {
    /// Invocations and bytes of its largest workgroup, as [`Program::fitting`] wants them.
    pub(crate) fn workgroup(&self, real: DType) -> (u32, u32) {
        (self.invocations, self.workgroup_bytes[usize::from(real == DType::F64)])
    }
}

/// Declares the parameters of a shader: a struct of `u32`s that is cast to bytes, and `FIELDS`, the names and offsets that are
/// compared with the WGSL struct.
macro_rules! shader_params {
    ($(#[$meta:meta])* $name:ident { $($(#[$doc:meta])* $field:ident),* $(,)? }) => {
        $(#[$meta])*
        #[repr(C)]
        #[derive(Clone, Copy, Debug, PartialEq, Eq, bytemuck::Pod, bytemuck::Zeroable)]
        pub(crate) struct $name { $($(#[$doc])* pub(crate) $field: u32),* }

        impl $name {
            pub(crate) const FIELDS: &'static [(&'static str, usize)] =
                &[$((stringify!($field), std::mem::offset_of!($name, $field))),*];
        }
    };
}
pub(crate) use shader_params;
