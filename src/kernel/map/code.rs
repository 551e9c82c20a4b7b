//! A program as steps on strips.
//!
//! Owns: [`Code`]: which loops run, in which registers. Must not know: chunks, instruction sets. Invariant: a step writes a register that it does not read; what one
//! step makes of two operations has the bits of one after the other.

use smallvec::SmallVec;

use super::loops::{Does, TwoOps};
use super::program::{Instr, ScalarProgram, Value};
use super::table::ScalarOp;
use crate::kernel::simd;
use crate::shape::{DType, Scalar};

/// Where a step finds an operand.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Src {
    Input(u16),
    Constant(u16),
    Register(u16),
}

/// An operand, with the bytes of an element.
pub(super) type Arg = (Src, u8);

/// One loop over a strip.
#[derive(Debug)]
pub(super) struct LoopStep {
    pub(super) does: Does,
    /// The dtype of what it computes with.
    pub(super) from: DType,
    /// The dtype of what it makes.
    pub(super) to: DType,
    pub(super) args: SmallVec<[Arg; 4]>,
    /// The register that it writes.
    pub(super) out: u16,
}

/// A program as steps.
#[derive(Debug)]
pub(super) struct Code {
    pub(super) steps: Vec<LoopStep>,
    pub(super) registers: usize,
    pub(super) constants: Vec<Scalar>,
    /// What the program makes: a register that the last step writes, or no step makes it.
    pub(super) result: Arg,
    /// The imaginary part, if the result is asked for in parts.
    pub(super) second: Option<Arg>,
    /// Elements of a strip.
    pub(super) strip: usize,
    /// Bytes of an element of the widest value.
    pub(super) width: usize,
    /// Bytes of an element of each input.
    pub(super) sizes: Vec<u8>,
}

/// Bytes of a strip of numbers of eight bytes: longer ones leave the cache, shorter ones are more steps. (With vectors twice as wide a step takes half the time: a chain of
/// ten operations took 1.4 times as long by strips of 2 KiB.)
fn strip_bytes() -> usize {
    if simd::name(simd::level()) == "AVX-512" { 4096 } else { 2048 }
}

/// Bytes of all strips of a program of which nothing is written.
const LONG_BYTES: usize = 8 << 10;

/// Where each value is made, and who needs it last.
struct Placed {
    src: Vec<Option<Src>>,
    last_use: Vec<usize>,
}

impl Code {
    pub(super) fn of(program: &ScalarProgram) -> Self {
        let result = Value(program.code().len() as u32 - 1);
        Self::making(program, (result, None), drafts(program))
    }

    /// The steps to the real and the imaginary part, if a program puts these together at its end.
    pub(super) fn of_parts(program: &ScalarProgram) -> Option<Self> {
        let mut drafts = drafts(program);
        let last = drafts.pop()?;
        let is_put_together = last.does == Does::One(ScalarOp::Compose);
        is_put_together.then(|| Self::making(program, (last.args[0], Some(last.args[1])), drafts))
    }

    /// The same, of strips that are as long as all that a program needs at once leaves room for in the nearest cache.
    pub(super) fn with_long_strips(self) -> Self {
        let most = LONG_BYTES / (self.registers + self.constants.len() + 1) / self.width.min(8);
        let longer = (most / self.strip.max(1)).max(1);
        Self { strip: self.strip << longer.ilog2(), ..self }
    }

    fn making(program: &ScalarProgram, (result, second): (Value, Option<Value>), drafts: Vec<Unplaced>) -> Self {
        let code = program.code();
        let mut places = Placed { src: vec![None; code.len()], last_use: vec![0; code.len()] };
        let mut constants = Vec::new();
        for (number, instr) in code.iter().enumerate() {
            places.src[number] = match instr {
                Instr::Input(input) => Some(Src::Input(*input as u16)),
                Instr::Const(scalar) => {
                    constants.push(*scalar);
                    Some(Src::Constant(constants.len() as u16 - 1))
                }
                Instr::Op(..) => None,
            };
        }
        for (number, draft) in drafts.iter().enumerate() {
            draft.args.iter().for_each(|arg| places.last_use[arg.index()] = number);
        }
        [result].into_iter().chain(second).for_each(|made| places.last_use[made.index()] = usize::MAX);
        let (mut free, mut registers, mut steps) = (Vec::new(), 0, Vec::with_capacity(drafts.len()));
        let size = |value: Value| program.dtype_of(value).bytes() as u8;
        for (number, draft) in drafts.iter().enumerate() {
            let out = free.pop().unwrap_or_else(|| {
                registers += 1;
                registers - 1
            });
            let place = |&arg: &Value| (places.src[arg.index()].expect("made before"), size(arg));
            let args: SmallVec<[Arg; 4]> = draft.args.iter().map(place).collect();
            for (at, arg) in draft.args.iter().enumerate() {
                if let (Some(Src::Register(register)), true) = (places.src[arg.index()], places.last_use[arg.index()] == number)
                    && !draft.args[..at].contains(arg)
                {
                    free.push(register);
                }
            }
            places.src[draft.makes.index()] = Some(Src::Register(out));
            let from = program.dtype_of(draft.args[usize::from(draft.does == Does::One(ScalarOp::Where))]);
            steps.push(LoopStep { does: draft.does, from, to: program.dtype_of(draft.makes), args, out });
        }
        let width = (0..code.len()).map(|value| usize::from(size(Value(value as u32)))).max().unwrap_or(1);
        let made = |value: Value| (places.src[value.index()].expect("made by a step"), size(value));
        let (result, second) = (made(result), second.map(made));
        let strip = strip_bytes() / width.min(8);
        let sizes = program.inputs().iter().map(|dtype| dtype.bytes() as u8).collect();
        Self { steps, registers: registers.into(), constants, result, second, strip, width, sizes }
    }
}

/// A step before it has a register.
struct Unplaced {
    does: Does,
    args: SmallVec<[Value; 4]>,
    makes: Value,
}

/// The steps of a program, two operations in one where there is a loop for both.
fn drafts(program: &ScalarProgram) -> Vec<Unplaced> {
    let code = program.code();
    let mut uses = vec![0u32; code.len()];
    code.iter().flat_map(Instr::args).for_each(|arg| uses[arg.index()] += 1);
    // What became part of a later step, and what has become two operations already.
    let (mut is_gone, mut is_pair) = (vec![false; code.len()], vec![false; code.len()]);
    let mut steps: Vec<Option<Unplaced>> = Vec::with_capacity(code.len());
    for (number, instr) in code.iter().enumerate() {
        let Instr::Op(op, dtype, _) = instr else {
            steps.push(None);
            continue;
        };
        let args = instr.args();
        let inner = |value: Value, uses_here: u32| match &code[value.index()] {
            Instr::Op(op, ..) if uses[value.index()] == uses_here && !is_pair[value.index()] => {
                Some((*op, code[value.index()].args()))
            }
            _ => None,
        };
        let pair = if dtype.is_float() { paired(program, *op, args, &inner) } else { None };
        let makes = Value(number as u32);
        steps.push(Some(match pair {
            Some((pair, gone, args)) => {
                is_pair[number] = true;
                is_gone[gone.index()] = true;
                Unplaced { does: Does::Two(pair), args, makes }
            }
            None => Unplaced { does: Does::One(*op), args: args.into(), makes },
        }));
    }
    steps.into_iter().zip(is_gone).filter_map(|(step, is_gone)| step.filter(|_| !is_gone)).collect()
}

/// The loop for an operation and one whose result nobody else needs, which of the values that is, and the operands of both.
fn paired<'a>(
    program: &ScalarProgram,
    op: ScalarOp,
    args: &[Value],
    inner: &(impl Fn(Value, u32) -> Option<(ScalarOp, &'a [Value])> + 'a),
) -> Option<(TwoOps, Value, SmallVec<[Value; 4]>)> {
    use ScalarOp::{Add, Eq, Le, Lt, Mul, Ne, Sub, Where};
    let three = |pair, gone: Value, ab: &[Value], c: Value| Some((pair, gone, SmallVec::from_slice(&[ab[0], ab[1], c])));
    match (op, args) {
        (Mul, &[a, b]) if a == b => match inner(a, 2)? {
            (Sub, of) => Some((TwoOps::SubSquare, a, SmallVec::from_slice(of))),
            _ => None,
        },
        (Mul | Add, &[a, b]) => [(a, b), (b, a)].into_iter().find_map(|(from, other)| {
            let (before, of) = inner(from, 1)?;
            let pair = match (before, op) {
                (Mul, Mul) => TwoOps::MulMul,
                (Add, Mul) => TwoOps::AddMul,
                (Sub, Mul) => TwoOps::SubMul,
                (Mul, Add) => TwoOps::MulAdd,
                (Add, Add) => TwoOps::AddAdd,
                _ => return None,
            };
            three(pair, from, of, other)
        }),
        (Sub, &[a, b]) if a != b => match (inner(a, 1), inner(b, 1)) {
            (Some((Mul, of)), _) => three(TwoOps::MulSub, a, of, b),
            (_, Some((Mul, of))) => three(TwoOps::SubFrom, b, of, a),
            _ => None,
        },
        (Where, &[which, yes, no]) => {
            let (test, of) = inner(which, 1)?;
            let pair = match test {
                Lt => TwoOps::LtWhere,
                Le => TwoOps::LeWhere,
                Eq => TwoOps::EqWhere,
                Ne => TwoOps::NeWhere,
                _ => return None,
            };
            let same = program.dtype_of(of[0]) == program.dtype_of(yes);
            same.then(|| (pair, which, SmallVec::from_slice(&[of[0], of[1], yes, no])))
        }
        _ => None,
    }
}
