//! Kernels: the routines that chunk tasks run.
//!
//! Owns: the [`Kernel`] contract and every routine, one file each. Must not know: devices, tasks, who calls.
//!
//! Adding a kernel: one file here, with its parameters (a `#[repr(C)]` Pod struct), its [`Work`], its scratch, its body; for GPUs
//! also its shader, a line in [`SHADERS`], and a [`Program`]. In a crate of your own: guide.md.

pub mod assemble;
pub mod band;
pub(crate) mod batch;
pub mod block_sum;
pub(crate) mod chain;
mod chosen;
pub mod copy;
pub mod dense;
mod exact;
pub mod gemv;
pub(crate) mod generate;
pub(crate) mod indexed;
mod key;
pub(crate) mod made;
pub mod mandelbrot;
pub mod map;
pub(crate) mod on_chunks;
mod operands;
pub mod peak;
pub mod points;
pub mod program;
pub mod random;
pub mod reduce;
mod rows;
mod shader;
pub mod simd;
mod stream;
#[cfg(test)]
mod strided_tests;
mod structure;
pub mod sums;
#[cfg(test)]
mod testing;

use std::any::{Any, TypeId};
use std::borrow::Cow;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::{Arc, LazyLock};

use crate::error::Error;
use crate::shape::{ChunkMeta, ChunkView, ChunkViewMut, DType, Form};

pub(crate) use chosen::Chosen;
pub use exact::ExactFloats;
pub(crate) use key::hash_on;
pub use key::{Content, KernelKey, content_hash};
pub use operands::{Params, check_dtypes, check_params, params};
pub use program::{GpuFacts, Pass, Program, Variants};
pub(crate) use rows::for_each_slice;
pub use rows::{Elements, for_each_piece};
pub use shader::Shader;
pub use structure::{OpClass, OpMix, Structure};

/// Every fixed shader: what is checked against the kernels' parameters.
pub static SHADERS: LazyLock<Vec<Arc<Shader>>> = LazyLock::new(|| {
    let all = [&mandelbrot::SHADER, &gemv::SHADER, &peak::SHADER, &copy::SHADER];
    all.into_iter().chain(dense::SHADERS).map(|shader| Arc::clone(shader)).collect()
});

/// How a body ended.
type Ran = std::result::Result<(), Fault>;

/// Floating-point operations and bytes that a task needs: what a roofline wants to know.
#[derive(Clone, Copy, Debug, Default, PartialEq, serde::Serialize, serde::Deserialize)]
pub struct Work {
    /// Arithmetic operations, a multiply-add counted as two.
    pub flops: f64,
    /// Bytes that must come from and go to memory (or a file), each counted once.
    pub bytes: f64,
}

impl Work {
    /// The work of a pass that goes through all operands once: so many operations for each element of the first one, and all operands' bytes.
    ///
    /// ```
    /// use chunkwise::ext::{ChunkMeta, Work};
    /// use chunkwise::DType;
    /// let operands = [DType::F32, DType::F64].map(|dtype| ChunkMeta::new(dtype, &[10, 10]));
    /// assert_eq!(Work::streaming(&operands, 2.0), Work { flops: 200.0, bytes: 1200.0 });
    /// ```
    #[must_use]
    pub fn streaming(operands: &[ChunkMeta<'_>], flops_per_element: f64) -> Self {
        let len = |operand: &ChunkMeta<'_>| operand.shape.iter().product::<usize>() as f64;
        Self {
            flops: operands.first().map_or(0.0, len) * flops_per_element,
            bytes: operands.iter().map(|operand| len(operand) * operand.dtype.bytes() as f64).sum(),
        }
    }
}

/// Which kind of device executes a kernel.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, serde::Serialize, serde::Deserialize)]
pub enum Lane {
    /// A device that computes.
    Compute,
    /// The I/O lane: calls that wait for files or for a library's lock.
    Io,
}

/// Why a kernel gave up: something about the data, never about the device.
///
/// ```
/// use chunkwise::ext::Fault;
/// fn checked(x: f64) -> Result<f64, Fault> {
///     // The error of the run: task my_kernel #3 of .. failed: a negative weight, -1
///     if x < 0.0 { Err(format!("a negative weight, {x}"))? } else { Ok(x.sqrt()) }
/// }
/// assert!(matches!(checked(-1.0), Err(Fault::Because(why)) if why == "a negative weight, -1"));
/// ```
#[derive(Clone, Debug)]
#[non_exhaustive]
pub enum Fault {
    /// A pivot that is not positive (or NaN), with its global row.
    NotPositive {
        /// Global row, counted from 0.
        row: u64,
        /// The pivot.
        pivot: f64,
    },
    /// Whatever the kernel says. The run's error names the task beside it.
    Because(String),
    /// Reading or writing failed: this is the run's error.
    Failed(Error),
}

impl Fault {
    /// The error of a run in which a task gave up.
    pub(crate) fn of_task(self, task: String) -> Error {
        match self {
            Fault::NotPositive { row, pivot } => Error::NotPositiveDefinite { row, pivot },
            Fault::Because(message) => Error::Task { task, message },
            Fault::Failed(error) => error,
        }
    }
}

impl From<&str> for Fault {
    fn from(why: &str) -> Self {
        Fault::Because(why.to_owned())
    }
}

impl From<String> for Fault {
    fn from(why: String) -> Self {
        Fault::Because(why)
    }
}

impl From<Error> for Fault {
    fn from(error: Error) -> Self {
        Fault::Failed(error)
    }
}

/// Working memory of one task: 64-byte aligned, contents arbitrary.
pub struct Scratch<'a> {
    bytes: &'a mut [u8],
}

impl<'a> Scratch<'a> {
    /// Scratch over these bytes; their start should be 64-byte aligned.
    pub fn new(bytes: &'a mut [u8]) -> Self {
        Self { bytes }
    }

    /// What is left of it, for a part of the work after which it is free again.
    pub(crate) fn again(&mut self) -> Scratch<'_> {
        Scratch { bytes: self.bytes }
    }

    /// The next `len` numbers of scratch, 64-byte aligned, holding anything.
    ///
    /// # Panics
    /// If the kernel asked for more than its `scratch_bytes` (64 bytes for alignment counted per call).
    pub fn take<T: bytemuck::Pod>(&mut self, len: usize) -> &'a mut [T] {
        let bytes = std::mem::take(&mut self.bytes);
        let skip = bytes.as_ptr().align_offset(64);
        let size = len * size_of::<T>();
        assert!(
            skip + size <= bytes.len(),
            "kernel takes {size} B of scratch, {} B are left",
            bytes.len().saturating_sub(skip)
        );
        let (taken, rest) = bytes[skip..].split_at_mut(size);
        self.bytes = rest;
        bytemuck::cast_slice_mut(taken)
    }
}

/// Host memory that a kernel takes beside operands and scratch, however many of its tasks run: counted once in each run.
///
/// ```
/// use chunkwise::ext::Held;
/// // Of all files that are unpacked so, one at a time holds a buffer.
/// let a = Held::new("unpacking a.bin in blocks of 8 MB", 8 << 20).taking_turns("unpacking blocks");
/// let b = Held::new("unpacking b.bin in blocks of 2 MB", 2 << 20).taking_turns("unpacking blocks");
/// assert_eq!(a.turns, b.turns); // 8 MB in all
/// ```
#[derive(Clone, Debug, PartialEq, Eq, serde::Serialize, serde::Deserialize)]
#[non_exhaustive]
pub struct Held {
    /// What for, as an error may say it: `unpacking data.h5:/x, stored in chunks of [6000, 6000] (288 MB each)`. Equal texts are
    /// one thing.
    pub what: String,
    /// At most.
    pub bytes: u64,
    /// What is in one group takes turns: all of it together never holds more than the largest would alone. That is counted, and no other.
    pub turns: Option<Cow<'static, str>>,
}

impl Held {
    /// So many bytes for this, beside all else.
    pub fn new(what: impl Into<String>, bytes: u64) -> Self {
        Self { what: what.into(), bytes, turns: None }
    }

    /// The same, taking turns with others of this group. Choose a name of your own: it counts in the whole session.
    #[must_use]
    pub fn taking_turns(mut self, group: impl Into<Cow<'static, str>>) -> Self {
        self.turns = Some(group.into());
        self
    }
}

/// One routine.
///
/// # The contract
///
/// A kernel sees strided chunk views, parameter bytes and scratch, never a device. It is sequential: parallelism is between
/// tasks. It is pure: the same parameters and inputs give the same bits, whatever the thread, the time, or what scratch held
/// before; so a task can be run again after a fault. Its operands are in the order of the task: inputs (read), then outputs.
/// An input may lie by any strides: windows, flipped (negative), broadcast (0), permuted, stepped; the result does not depend on them.
/// It is asked for its key, work, scratch and forms when a graph is sealed, for its GPU half when that is priced and launched, and never while anything is locked; it
/// may call the session (`src/runtime/README.md`).
/// An output is either written in full, or updated: then it arrives holding the old value. The CPU body defines the result.
pub trait Kernel: Any + Send + Sync {
    /// Its name, as in traces, cost tables and `explain()`: `gemm`. One made at run time has one made at run time.
    fn name(&self) -> Cow<'static, str>;

    /// Raised whenever results or speed change, so that old measurements are not believed.
    fn version(&self) -> u32 {
        1
    }

    /// What tells it from other kernels of its type, name and version: see [`Content`]. By default a type without fields has nothing, and
    /// any other is taken for one that exists only here.
    fn content(&self) -> Content {
        if size_of_val(self) == 0 { Content::Nothing } else { Content::Local }
    }

    /// Which kind of device executes it.
    fn lane(&self) -> Lane {
        Lane::Compute
    }

    /// Whether it takes these parameters and operands (inputs, then outputs): asked before anything runs, where it is called with arrays, and where
    /// these are cut otherwise, with the shape of their largest chunk; then of each task. [`check_dtypes`] and [`check_params`] say what most kernels have
    /// to say. By default it takes all; then what does not fit is a panic in a task.
    ///
    /// # Errors
    /// Why not.
    fn check(&self, _params: &[u8], _operands: &[ChunkMeta<'_>]) -> Result<(), Error> {
        Ok(())
    }

    /// Flops and bytes of one task; `operands` are the inputs, then the outputs. May sample the data.
    fn work(&self, params: &[u8], operands: &[ChunkMeta<'_>]) -> Work;

    /// What its speed follows from beside name and version, where kernels of one name are many programs: times of one say nothing of another.
    fn structure(&self) -> Option<Structure> {
        None
    }

    /// Whether tasks of equal work take equal time. Not so where the time depends on the data, or on a disk or a network: then no measured time
    /// says that a task hangs, and one that takes long is waited for.
    fn is_steady(&self) -> bool {
        true
    }

    /// Bytes of scratch that one run needs (64 per `take` included).
    fn scratch_bytes(&self, _params: &[u8], _operands: &[ChunkMeta<'_>]) -> u64 {
        0
    }

    /// Memory that all its tasks together take beside operands and scratch: what a file's library keeps unpacked.
    fn held(&self) -> Vec<Held> {
        Vec::new()
    }

    /// What lets it keep that from one task to the next. Every run of its tasks asks for it once, and drops it when they are over.
    fn hold(&self) -> Vec<Arc<dyn Any + Send + Sync>> {
        Vec::new()
    }

    /// The form in which it takes input `index`.
    fn input_form(&self, _params: &[u8], _index: usize) -> Form {
        Form::Plain
    }

    /// Whose packed forms its own are: kernels that say the same take what any of them has packed. By default nobody else's.
    fn packs_as(&self) -> Cow<'static, str> {
        format!("{}@{}", self.name(), self.version()).into()
    }

    /// Dtype and number of elements of `form` of an operand like `operand`.
    fn packed_len(&self, _form: u8, operand: ChunkMeta<'_>) -> (DType, usize) {
        (operand.dtype, operand.shape.iter().product())
    }

    /// Rearranges a plain operand into `form`; `to` is contiguous, of [`Kernel::packed_len`].
    fn pack(&self, form: u8, _from: ChunkView<'_>, _to: &mut ChunkViewMut<'_>) {
        unreachable!("kernel {} has no packed form {form}", self.name())
    }

    /// The GPU half for these operands (inputs, then outputs; all contiguous, in plain form), or `None` where the kernel has none
    /// for them. It may be in a dtype or of a size that the GPU does not take: whoever asks checks that.
    fn program(&self, _params: &[u8], _operands: &[ChunkMeta<'_>], _gpu: &GpuFacts) -> Option<Program> {
        None
    }

    /// Why there is no GPU half for these operands on any GPU, for people, where the kernel can say more than that it has none: `explain` tells it.
    fn no_program(&self, _params: &[u8], _operands: &[ChunkMeta<'_>]) -> Option<String> {
        None
    }

    /// Why the GPU half may give other bits on that GPU than the CPU body, for people; `None` if it gives the same. A strict session keeps such a kernel on the CPU.
    fn inexact(&self, _gpu: &GpuFacts) -> Option<String> {
        Some("its GPU half does not promise the CPU's bits".into())
    }

    /// Whether the GPU half reads what a view shows of a value in that value's own buffer ([`ChunkMeta::lies`]). If not, it is given contiguous copies.
    fn reads_views(&self) -> bool {
        false
    }

    /// What a program's fault words say, if they say anything.
    fn fault(&self, _params: &[u8], _words: [u32; 4]) -> Option<Fault> {
        None
    }

    /// Computes the outputs on the CPU.
    ///
    /// # Errors
    /// A [`Fault`] when the data (or a file) do not allow a result.
    fn run_cpu(
        &self,
        params: &[u8],
        inputs: &[ChunkView<'_>],
        outputs: &mut [ChunkViewMut<'_>],
        scratch: &mut Scratch<'_>,
    ) -> Result<(), Fault>;
}

/// What a kernel answers, unless it panics: it may be the user's, and then its body has the last word.
pub(crate) fn calm<R>(answer: impl FnOnce() -> R) -> Option<R> {
    catch_unwind(AssertUnwindSafe(answer)).ok()
}

/// Whether this is one of the kernels here that have a GPU half: then its program is what its shader is made for.
#[cfg_attr(not(feature = "gpu"), allow(dead_code))] // GPUs only
pub(crate) fn is_ours(kernel: &dyn Kernel) -> bool {
    let known = [
        TypeId::of::<map::Elementwise>(),
        TypeId::of::<made::MadeChunk>(),
        TypeId::of::<mandelbrot::Mandelbrot>(),
        TypeId::of::<gemv::Gemv>(),
        TypeId::of::<reduce::ReduceChunk>(),
        TypeId::of::<dense::Gemm>(),
        TypeId::of::<dense::Syrk>(),
        TypeId::of::<dense::Trsm>(),
        TypeId::of::<dense::Potrf>(),
        TypeId::of::<peak::Peak>(),
        TypeId::of::<peak::ReadAll>(),
    ];
    let chosen = (kernel as &dyn Any).downcast_ref::<Chosen>();
    known.contains(&chosen.map_or(kernel as &dyn Any, |chosen| &*chosen.kernel as &dyn Any).type_id())
}
