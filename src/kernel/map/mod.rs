//! Element-wise work: one kernel for every program of scalar operations.
//!
//! Owns: [`Elementwise`]. Must not know: expressions. Invariant: the result depends on the program and the elements alone, to the bit: not on strides, chunks, or what the
//! CPU can do.
//!
//! `table` has a row for each operation; `program` is what they are put together to; `code` turns that into steps, each a loop (`loops`, `casts`) over strips of
//! 2 or 4 KiB, which stay in the nearest cache; `walk` feeds strips from chunks and writes them back. `complex` computes complex numbers by their parts, `math` has the
//! functions that no instruction has. `wgsl` makes the same program for GPUs.
//!
//! To add an operation: a row, its loop, and its function in `shaders/`.

mod casts;
mod code;
mod complex;
mod isa;
mod lines;
mod loops;
mod machine;
mod math;
mod program;
pub mod table;
#[cfg(test)]
mod tests;
mod walk;
pub(crate) mod wgsl;

use std::borrow::Cow;
use std::sync::Arc;

pub(crate) use lines::{AT_ONCE, LineInputs, Lines, ROWS, Takes};
pub(crate) use machine::{Last, Strip};
pub(in crate::kernel) use math::{log_positive, sin_cos_of_turns};
pub use program::{Builder, Instr, ScalarProgram, Value};
pub use table::ScalarOp;

use super::generate::{Feeds, ProgramInput};
use super::rows::GATHER;
use super::{
    Content, ExactFloats, Fault, GpuFacts, Kernel, OpMix, Program, Scratch, Structure, Work, check_dtypes, check_params, simd,
};
use crate::error::Result;
use crate::shape::{ChunkMeta, ChunkView, ChunkViewMut, DType};

/// A program on each element of its inputs: chunks of one shape, and what is made where it is used.
pub struct Elementwise {
    program: Arc<ScalarProgram>,
    code: code::Code,
    feeds: Feeds,
    modules: wgsl::Modules,
    /// Whether it divides as the driver does, whatever is known of that.
    drivers_own: bool,
}

impl Elementwise {
    /// The kernel of a program.
    #[must_use]
    pub fn new(program: Arc<ScalarProgram>) -> Self {
        let (code, feeds, modules) = (code::Code::of(&program), Feeds::default(), wgsl::Modules::default());
        Self { program, code, feeds, modules, drivers_own: false }
    }

    /// For tests of a driver: on a GPU by its own quotients and roots, also where they are known to be wrong.
    pub(crate) fn with_drivers_own(self) -> Self {
        Self { drivers_own: true, ..self }
    }

    /// With inputs that are made.
    pub(crate) fn fed(self, feeds: Feeds) -> Self {
        Self { feeds, ..self }
    }

    /// What an element is worth, the making of inputs included.
    fn mix(&self) -> OpMix {
        self.program.mix().with(self.feeds.mix(self.program.inputs()))
    }

    /// [`Kernel::run_cpu`] with instructions of this level: for tests and benches that compare them.
    pub fn run_on(
        &self,
        level: fearless_simd::Level,
        (params, inputs): (&[u8], &[ChunkView<'_>]),
        out: &mut ChunkViewMut<'_>,
        scratch: &mut Scratch<'_>,
    ) {
        struct Run<'r, 'v, 'o, 's>(&'r code::Code, &'r [ProgramInput<'v>], &'r mut ChunkViewMut<'o>, &'r mut Scratch<'s>);
        impl isa::OnIsa for Run<'_, '_, '_, '_> {
            fn on(self, isa: impl isa::Isa) {
                walk::run(isa, self.0, self.1, self.2, self.3);
            }
        }
        let params = self.feeds.split(params);
        let inputs = self.feeds.all(self.program.inputs(), &params, inputs, None);
        isa::on_level(level, Run(&self.code, &inputs, out, scratch));
    }
}

impl Kernel for Elementwise {
    fn name(&self) -> Cow<'static, str> {
        (self.feeds.name() + &self.program.name()).into()
    }

    fn content(&self) -> Content {
        match self.feeds.is_local() {
            true => Content::Local,
            false => Content::Text((self.program.text() + &self.feeds.text()).into()),
        }
    }

    fn check(&self, params: &[u8], operands: &[ChunkMeta<'_>]) -> Result<()> {
        if self.feeds.are_chunks() {
            check_params::<()>(self, params)?;
        }
        let dtypes: Vec<[DType; 1]> =
            self.feeds.chunks(self.program.inputs()).chain([self.program.dtype()]).map(|dtype| [dtype]).collect();
        check_dtypes(self, operands, &dtypes.iter().map(|dtype| &dtype[..]).collect::<Vec<_>>(), 1)
    }

    /// What the table says of each operation, for each element.
    fn work(&self, _: &[u8], operands: &[ChunkMeta<'_>]) -> Work {
        let len = operands.last().map_or(0, |out| out.shape.iter().product::<usize>()) as f64;
        let bytes: usize = operands.iter().map(|operand| operand.dtype.bytes()).sum();
        Work { flops: len * (self.mix().total()), bytes: len * bytes as f64 }
    }

    fn structure(&self) -> Option<Structure> {
        Some(Structure::new(&(self.program.structure_text() + &self.feeds.text()), self.mix()))
    }

    fn is_steady(&self) -> bool {
        is_steady(&self.program) && self.feeds.are_steady()
    }

    fn scratch_bytes(&self, _: &[u8], operands: &[ChunkMeta<'_>]) -> u64 {
        let len = operands.last().map_or(0, |out| out.shape.iter().product()).min(GATHER);
        walk::scratch_bytes(&self.code, (len, len), self.program.inputs().iter().copied())
    }

    fn program(&self, params: &[u8], operands: &[ChunkMeta<'_>], gpu: &GpuFacts) -> Option<Program> {
        let (out, dtypes) = (operands.last()?, self.program.inputs());
        let feeds = self.feeds.on_gpu(dtypes, &self.feeds.split(params), (out.shape, None))?;
        let as_opened = GpuFacts { exact: ExactFloats::UNTESTED, ..*gpu };
        let gpu = if self.drivers_own { &as_opened } else { gpu };
        self.modules.program((&self.program, &feeds), operands, || self.work(params, operands), gpu)
    }

    fn no_program(&self, params: &[u8], operands: &[ChunkMeta<'_>]) -> Option<String> {
        let (out, dtypes) = (operands.last()?, self.program.inputs());
        let feeds = self.feeds.on_gpu(dtypes, &self.feeds.split(params), (out.shape, None));
        match (wgsl::missing(&self.program), feeds) {
            (Some((op, dtype)), _) => Some(format!("{} of {dtype} does not run on a GPU", op.row().name)),
            (_, None) => Some("what it makes of indices is not made on a GPU".into()),
            (_, Some(feeds)) => {
                let is_so = wgsl::is_too_scattered((&self.program, &feeds), operands);
                is_so.then(|| "its operands lie along too many axes for a GPU".into())
            }
        }
    }

    fn inexact(&self, gpu: &GpuFacts) -> Option<String> {
        self.feeds.inexact(self.program.inputs(), gpu).or_else(|| gpu.exact.inexact(&self.program))
    }

    fn reads_views(&self) -> bool {
        true
    }

    fn run_cpu(
        &self,
        params: &[u8],
        inputs: &[ChunkView<'_>],
        outputs: &mut [ChunkViewMut<'_>],
        scratch: &mut Scratch<'_>,
    ) -> std::result::Result<(), Fault> {
        self.run_on(simd::level(), (params, inputs), &mut outputs[0], scratch);
        Ok(())
    }
}

/// Whether elements take equal time: sines of very large numbers and remainders of very unequal ones take many times as long as others.
pub(crate) fn is_steady(program: &ScalarProgram) -> bool {
    use ScalarOp::{Cos, DivEuclid, Rem, RemEuclid, Sin, Tan};
    let depends = |op| matches!(op, Sin | Cos | Tan | Rem | DivEuclid | RemEuclid);
    let floats = |instr: &Instr| matches!(instr, Instr::Op(op, dtype, _) if dtype.is_float() && depends(*op));
    !program.code().iter().any(floats)
}
