//! The GPU half of a kernel, as data: which shader, which passes, which parameters.
//!
//! Owns: [`Program`], [`GpuFacts`], [`Variants`]. Must not know: any GPU API, devices, queues. Invariant: a program says everything that
//! an executor needs, so one executor runs all of them and may cut any of them into short launches.

use std::borrow::Cow;
use std::sync::Arc;

use super::{ExactFloats, Shader, Work};
use crate::shape::{ChunkMeta, DType};

/// One entry point of a shader, run over some workgroups.
#[derive(Clone, Debug, PartialEq)]
pub struct Pass {
    /// The entry point.
    pub entry: Cow<'static, str>,
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
    pub fn new(entry: impl Into<Cow<'static, str>>, groups: u64, argument: u32) -> Self {
        Self { entry: entry.into(), groups, steps: argument..argument, resumable: false }
    }
}

/// What a GPU does for one task.
///
/// # The ABI, the same for all shaders
///
/// A [`Shader`] is plain WGSL: for the fixed ones, a file in `shaders/` of the same stem as its kernel's. The executor adds one line at its end,
/// `alias Real = f32;` or `alias Real = f64;`. Everything is in group 0:
///
/// | binding | what |
/// |---|---|
/// | 0 | `var<uniform> p: Params`: the launch (16 bytes), then the kernel's parameters, `u32` each |
/// | 1.. | the inputs, `var<storage, read>`, then the outputs, `read_write` |
/// | next | the scratch, `read_write`, if [`Program::scratch_bytes`] is not 0 |
/// | last | the fault words `array<atomic<u32>, 4>`, `read_write`, if [`Program::faults`] |
///
/// ```wgsl
/// struct Params {
///     first: u32, // number of this dispatch's first workgroup
///     groups: u32, // how many this dispatch has
///     begin: u32, // first step (of a resumable pass), or the pass's argument
///     end: u32, // the step before which to stop
///     m: u32, k: u32, // the kernel's own, as in its `Shader::params`
/// }
/// ```
///
/// Workgroups are numbered in one dimension and folded over x and y, because no axis takes more than 65 535:
/// `let folded = id.x + id.y * count.x; if (folded >= p.groups) { return; } let group = p.first + folded;`. An executor may run
/// a pass as several dispatches over parts of its workgroups, so no workgroup may rely on another of its pass; passes run one
/// after the other, each seeing all that the ones before it wrote. Operands are contiguous, in C order; the buffer behind a
/// binding is padded to a multiple of 16 bytes. Scratch and workgroup memory hold anything at first; the fault words are 0.
/// (Inputs of a kernel that [reads views](crate::ext::Kernel::reads_views) lie as [`ChunkMeta::lies`] says.)
///
/// # Booleans
///
/// An input of `bool` is bytes of 0 or 1, four to a word: `array<u32>`, element `i` being `x[i / 4u] >> (i % 4u * 8u) & 1u`. An output of `bool` is
/// written as words, one an element: `array<u32>`, 0 for false and anything else for true; so invocations that write neighbours do not meet. The words
/// lie in scratch, hold anything at first, and count there with four bytes an element. When the last pass is over, the executor makes
/// bytes of 0 and 1 of them. So a shader writes all of such an output: it does not see the old value of one that is updated.
#[derive(Clone, Debug)]
pub struct Program {
    /// The shader of all passes.
    pub shader: Arc<Shader>,
    /// What `Real` is: `F32` or `F64`.
    pub real: DType,
    /// The kernel's parameters, a multiple of 4 bytes and at most 496.
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
    /// Whether shaders may compute with integers of 64 bits.
    #[serde(default)]
    pub i64: bool,
    /// Whether its compiler may compute with floats as if they were real numbers: add in another order, or round a product and a sum once. Then generated programs keep
    /// operations apart.
    #[serde(default = "yes")]
    pub simplifies: bool,
    /// Whether its arithmetic was found to give the bits of a CPU's.
    #[serde(default)]
    pub exact: ExactFloats,
    /// Largest chunk that one binding can see, in bytes.
    pub binding_bytes: u64,
    /// Storage buffers that one shader can see.
    pub bindings: u32,
    /// Invocations of one workgroup.
    pub invocations: u32,
    /// Workgroup memory, in bytes.
    pub workgroup_bytes: u32,
    /// Which variants of kernels it runs fastest, as calibration found out.
    #[serde(default)]
    pub variants: Variants,
}

/// What is not known of a GPU is taken to be as bad as it can be.
fn yes() -> bool {
    true
}

/// Which of several variants of a kernel a GPU takes, for `f32` and for `f64`. All give the same bits. 0 leaves the choice to the kernel, which
/// goes by sizes. Where there is no variant of a number, or the GPU or the operands do not allow it, the nearest below is taken.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, serde::Serialize, serde::Deserialize)]
pub struct Variants {
    /// Tiles of gemm: 1, of 32 x 32; 2, of 64 x 64; 3, of 128 x 128.
    pub gemm: [u8; 2],
    /// Tiles of syrk, as those of gemm.
    pub syrk: [u8; 2],
    /// Workgroups of gemv, for rows of more than 256 elements, a multiple of 4: 1, of 256 invocations; 2, of 64 that do four times as much each.
    pub gemv: [u8; 2],
}

impl Variants {
    /// Variants of [`Variants::gemm`] and of [`Variants::syrk`], numbered from 1.
    pub const PRODUCTS: u8 = 3;
    /// Variants of [`Variants::gemv`], numbered from 1.
    pub const GEMVS: u8 = 2;
    /// No choice is made.
    pub const AUTOMATIC: Self = Self { gemm: [0; 2], syrk: [0; 2], gemv: [0; 2] };
}

impl GpuFacts {
    /// A GPU that runs every program.
    pub(crate) const ANY: Self = Self {
        f64: true,
        i64: true,
        simplifies: true,
        exact: ExactFloats::ALL,
        binding_bytes: u64::MAX,
        bindings: u32::MAX,
        invocations: u32::MAX,
        workgroup_bytes: u32::MAX,
        variants: Variants::AUTOMATIC,
    };

    /// Bytes of the largest chunk that its programs may have.
    pub(crate) fn most_bytes(&self) -> u64 {
        self.binding_bytes.min(LARGEST_OPERAND)
    }

    /// Whether it can bind all of these, none of them empty. Then they have so few elements that a shader's `u32`s hold all extents, indices and
    /// numbers of workgroups: what a kernel asks before it computes with them.
    pub(crate) fn can_bind(&self, operands: &[ChunkMeta<'_>]) -> bool {
        let largest = self.most_bytes();
        let bytes = |m: &ChunkMeta<'_>| {
            m.shape.iter().try_fold(m.dtype.bytes() as u64, |bytes, &n| bytes.checked_mul(n as u64)).unwrap_or(u64::MAX)
        };
        operands.iter().all(|m| (1..=largest).contains(&bytes(m)) && m.end_bytes() <= largest)
    }
}

/// Most bytes of a kernel's parameters: with what a launch adds, 512.
pub(crate) const MOST_PARAMS: usize = 496;

/// Most workgroups of a pass: 65 535 along each of two axes.
#[cfg_attr(not(feature = "gpu"), allow(dead_code))] // GPUs only
const MOST_GROUPS: u64 = 65_535 * 65_535;

/// Where a binding may begin in a buffer, on any GPU.
const ALIGNED: u64 = 256;

/// Largest operand in bytes: what a binding takes on Vulkan and DX12, and far from where `u32` indices end.
const LARGEST_OPERAND: u64 = (1 << 31) - 1;

impl Program {
    /// A program without scratch that reports no faults; set [`Program::scratch_bytes`] and [`Program::faults`] if it has them.
    /// `params` are the words of the shader's own parameters, as [`shader_params`](crate::shader_params!) gives them.
    #[must_use]
    pub fn new(shader: &Arc<Shader>, real: DType, params: &[u32], passes: Vec<Pass>, most: Work) -> Self {
        let params = bytemuck::cast_slice(params).to_vec();
        Self { shader: shader.clone(), real, params, passes, scratch_bytes: 0, faults: false, most }
    }

    /// Whether so many words of parameters are few enough.
    pub(crate) fn takes_params(words: usize) -> bool {
        words * 4 <= MOST_PARAMS
    }

    /// Itself, if this GPU can run it on these operands and none of them is empty: the last line of most [`super::Kernel::program`]s.
    #[must_use]
    pub fn fitting(self, gpu: &GpuFacts, operands: &[ChunkMeta<'_>]) -> Option<Self> {
        let workgroup = (self.shader.invocations(), self.shader.workgroup_bytes()[usize::from(self.real == DType::F64)]);
        self.fitting_within(gpu, operands, workgroup)
    }

    /// [`Program::fitting`], where not all of a shader's workgroups are as large as its largest: invocations, and bytes.
    pub(crate) fn fitting_within(self, gpu: &GpuFacts, operands: &[ChunkMeta<'_>], workgroup: (u32, u32)) -> Option<Self> {
        let bindings = operands.len() as u32 + u32::from(self.scratch_bytes > 0) + u32::from(self.faults);
        let fits = (self.real != DType::F64 || gpu.f64)
            && (!self.shader.needs_i64() || gpu.i64)
            && self.params.len() <= MOST_PARAMS
            && bindings <= gpu.bindings
            && workgroup.0 <= gpu.invocations
            && workgroup.1 <= gpu.workgroup_bytes
            && self.words(operands).1 <= gpu.binding_bytes.min(LARGEST_OPERAND)
            && gpu.can_bind(operands);
        fits.then_some(self)
    }

    /// Where in the scratch the words of each output of `bool` stand, behind the program's own: number of the operand, and bytes; and the bytes of all
    /// scratch.
    pub(crate) fn words(&self, operands: &[ChunkMeta<'_>]) -> (Vec<(usize, std::ops::Range<u64>)>, u64) {
        let (mut words, mut end) = (Vec::new(), self.scratch_bytes);
        let outputs = operands.iter().enumerate().skip(self.shader.inputs() as usize);
        for (operand, meta) in outputs.filter(|(_, meta)| meta.dtype == DType::Bool && !self.shader.packs_bools()) {
            let bytes = meta.shape.iter().fold(4u64, |bytes, &n| bytes.saturating_mul(n as u64));
            let start = end.checked_next_multiple_of(ALIGNED).unwrap_or(u64::MAX);
            end = start.saturating_add(bytes);
            words.push((operand, start..end));
        }
        (words, end)
    }

    /// What no executor can run in it, for these operands: anyone may write a program, so nothing in it is taken on trust.
    #[cfg_attr(not(feature = "gpu"), allow(dead_code))] // GPUs only
    pub(crate) fn mistake(&self, operands: &[ChunkMeta<'_>], gpu: &GpuFacts) -> Option<String> {
        let (bound, given) = (self.shader.inputs() + self.shader.outputs(), operands.len());
        if bound as usize != given {
            return Some(format!("its shader {} binds {bound} operands, the task has {given}", self.shader.name()));
        }
        if !self.real.is_float() {
            return Some(format!("its Real is {}, not f32 or f64", self.real));
        }
        if self.params.len() > MOST_PARAMS || !self.params.len().is_multiple_of(4) {
            return Some(format!("{} bytes of parameters, not a multiple of 4 up to {MOST_PARAMS}", self.params.len()));
        }
        if self.passes.is_empty() || self.passes.iter().any(|pass| pass.groups > MOST_GROUPS) {
            return Some(format!("it has no pass, or one of more than {MOST_GROUPS} workgroups"));
        }
        let (scratch, largest) = (self.words(operands).1, gpu.binding_bytes.min(LARGEST_OPERAND));
        let too_much = || format!("{scratch} B of scratch, the words of bool outputs included, where {largest} B can be bound");
        (scratch > largest).then(too_much)
    }
}

/// Declares the parameters of a shader: a struct of `u32`s, in the order of the WGSL struct (after the launch's four).
///
/// Besides the struct there are `FIELDS` (names and offsets, for [`Shader::with_params`](crate::kernel::Shader::with_params)), `words()` for
/// [`Program::new`](crate::kernel::Program::new), and `to_bytes()` and `from_bytes()` for parameters that a kernel gets as bytes, as those of
/// [`Array::with_kernel`](crate::Array::with_kernel). A float goes as its bits: `f32::to_bits` here, `bitcast<f32>` there.
///
/// ```
/// chunkwise::shader_params!(
///     /// Extents of a matrix.
///     pub struct Extents { m, n }
/// );
/// let extents = Extents { m: 3, n: 4 };
/// assert_eq!(extents.words(), [3, 4]);
/// assert_eq!(Extents::from_bytes(&extents.to_bytes()), extents);
/// assert_eq!(Extents::FIELDS, [("m", 0), ("n", 4)]);
/// ```
#[macro_export]
macro_rules! shader_params {
    ($(#[$meta:meta])* $vis:vis struct $name:ident { $($(#[$doc:meta])* $field:ident),+ $(,)? }) => {
        $(#[$meta])*
        #[repr(C)]
        #[derive(Clone, Copy, Debug, PartialEq, Eq)]
        $vis struct $name { $($(#[$doc])* #[allow(missing_docs)] $vis $field: u32),+ }

        #[allow(dead_code)] // not every kernel needs all of them
        impl $name {
            /// Name and offset of each parameter.
            $vis const FIELDS: &'static [(&'static str, usize)] =
                &[$((stringify!($field), ::std::mem::offset_of!($name, $field))),+];

            /// The parameters, as a `Program` takes them.
            $vis const fn words(&self) -> [u32; Self::FIELDS.len()] {
                [$(self.$field),+]
            }

            /// The parameters as bytes.
            $vis fn to_bytes(self) -> ::std::vec::Vec<u8> {
                self.words().iter().flat_map(|word| word.to_ne_bytes()).collect()
            }

            /// The parameters that were made into these bytes.
            ///
            /// # Panics
            /// If the bytes are not as many as those of the struct.
            $vis fn from_bytes(bytes: &[u8]) -> Self {
                let [$($field),+]: [u32; Self::FIELDS.len()] = $crate::ext::params(bytes);
                Self { $($field),+ }
            }
        }
    };
}
pub(crate) use shader_params;
