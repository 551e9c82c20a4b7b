//! The operations of a program as WGSL.
//!
//! Owns: what an instruction is in WGSL. Must not know: memory, indices. Invariant: a value is four elements, named by the number of its instruction; complex ones are
//! two such, their parts.
//!
//! A row of the table is an operator of WGSL, or the function of its name in `shaders/`, with the prefix of what it works on.

use smallvec::SmallVec;

use super::held::{HeldAs, bits, constant, is_narrow};
use super::library::WgslLibrary;
use crate::kernel::map::program::{Instr, ScalarProgram, Value};
use crate::kernel::map::table::ScalarOp;
use crate::shape::DType;

/// The name of a value, or of a part of it.
pub(super) fn name(number: usize, dtype: DType, part: usize) -> String {
    match dtype.is_complex() {
        true => format!("v{number}{}", ["re", "im"][part]),
        false => format!("v{number}"),
    }
}

/// What no GPU can compute, of a program: the operation, and the dtype that it works on.
pub(crate) fn missing(program: &ScalarProgram) -> Option<(ScalarOp, DType)> {
    let of = |instr: &Instr| {
        let Instr::Op(op, to, _) = instr else { return None };
        let from = program.dtype_of(instr.args()[usize::from(*op == ScalarOp::Where)]);
        let is_there = call(*op, from, *to).is_none_or(|call| WgslLibrary::get(false).has(&call));
        (!is_there).then_some((*op, from))
    };
    program.code().iter().find_map(of)
}

/// Whether floats are computed with; else their bits are looked at, or moved.
fn computes(op: ScalarOp) -> bool {
    use ScalarOp::{
        Abs, Cast, Compose, Copysign, Eq, Fmax, Fmin, Im, IsFinite, IsInfinite, IsNan, Le, Lt, Maximum, Minimum, Ne, Neg, Re,
        Sign, Where,
    };
    let looks = matches!(op, Abs | Copysign | Fmax | Fmin | Maximum | Minimum | Neg | Sign);
    !looks && !matches!(op, Cast | Compose | Eq | Im | IsFinite | IsInfinite | IsNan | Le | Lt | Ne | Re | Where)
}

/// The function in `shaders/` that an operation is, if it is one.
fn call(op: ScalarOp, from: DType, to: DType) -> Option<String> {
    let (held, into) = (HeldAs::of(from), HeldAs::of(to));
    match op {
        ScalarOp::Where | ScalarOp::Re | ScalarOp::Im | ScalarOp::Compose => None,
        ScalarOp::Cast => match to {
            DType::F16 => Some(format!("{}_round_to_half", held.prefix())),
            DType::BF16 => Some(format!("{}_round_to_brain", held.prefix())),
            _ if held == into => None,
            _ => Some(format!("{}_to_{}", held.prefix(), into.prefix())),
        },
        _ if !op.row().wgsl.is_empty() => None,
        _ => Some(format!("{}_{}", held.prefix(), op.row().name)),
    }
}

/// Statements that compute all but inputs.
pub(super) struct BodyText<'a> {
    program: &'a ScalarProgram,
    /// Of each value, whether it is kept from a compiler that computes with floats as if they were real numbers: it would add in another order, round a product and a sum
    /// once, or take what is 0 times infinity to be 0.
    is_kept: Vec<bool>,
    simplifies: bool,
}

impl<'a> BodyText<'a> {
    pub(super) fn new(program: &'a ScalarProgram, simplifies: bool) -> Self {
        let is_arithmetic = |instr: &Instr| matches!(instr, Instr::Op(op, dtype, _) if dtype.is_float() && computes(*op));
        // Whatever makes an operand, if a compiler knew that it is 0, so would a product be, and of a quotient it may do nothing at all.
        let is_made = |arg: &Value| matches!(program.code()[arg.index()], Instr::Op(..));
        let mut is_kept = vec![false; program.code().len()];
        for instr in program.code().iter().filter(|instr| simplifies && is_arithmetic(instr)) {
            instr.args().iter().for_each(|arg| is_kept[arg.index()] |= is_made(arg));
        }
        Self { program, is_kept, simplifies }
    }

    /// The statements of an instruction that is no input.
    pub(super) fn statements(&self, number: usize, out: &mut Vec<String>) {
        let value = Value::at(number);
        let dtype = self.program.dtype_of(value);
        match &self.program.code()[number] {
            Instr::Input(_) => {}
            Instr::Const(scalar) => {
                let parts = constant(*scalar);
                out.extend(parts.iter().enumerate().map(|(part, text)| format!("let {} = {text};", name(number, dtype, part))));
            }
            instr @ Instr::Op(op, ..) => match op {
                ScalarOp::Compose => {
                    for (part, &arg) in instr.args().iter().enumerate() {
                        out.push(format!("let {} = {};", name(number, dtype, part), self.name(arg, 0)));
                    }
                }
                ScalarOp::Re | ScalarOp::Im => {
                    let part = usize::from(*op == ScalarOp::Im);
                    out.push(format!("let {} = {};", name(number, dtype, 0), self.name(instr.args()[0], part)));
                }
                _ => {
                    let text = self.expression(*op, dtype, instr.args());
                    let text =
                        if self.is_kept[number] { format!("opaque_{}({text})", HeldAs::of(dtype).prefix()) } else { text };
                    out.push(format!("let {} = {text};", name(number, dtype, 0)));
                }
            },
        }
    }

    fn name(&self, value: Value, part: usize) -> String {
        name(value.index(), self.program.dtype_of(value), part)
    }

    fn expression(&self, op: ScalarOp, to: DType, args: &[Value]) -> String {
        let from = self.program.dtype_of(args[usize::from(op == ScalarOp::Where)]);
        let mut names: SmallVec<[String; 3]> = args.iter().map(|&arg| self.name(arg, 0)).collect();
        if matches!(op, ScalarOp::Sub | ScalarOp::Div) && from.is_float() && args[0] == args[1] && self.simplifies {
            // Neither 0 nor 1 of what is infinite.
            names[1] = format!("opaque_{}({})", HeldAs::of(from).prefix(), names[1]);
        }
        let text = match (op, call(op, from, to)) {
            (ScalarOp::Where, _) => format!("select({}, {}, {})", names[2], names[1], names[0]),
            (ScalarOp::Shl | ScalarOp::Shr, Some(call)) => format!("{call}({}, {}, {}u)", names[0], names[1], bits(from)),
            (_, Some(call)) => format!("{call}({})", names.join(", ")),
            // To as many bits, or to more: nothing changes, but that fewer are wrapped to.
            (ScalarOp::Cast, None) => names[0].clone(),
            (_, None) => operator(op.row().wgsl, &names),
        };
        self.wrapped(op, (from, to), text)
    }

    /// Integers of fewer bits than they are held in wrap at their own.
    fn wrapped(&self, op: ScalarOp, (from, to): (DType, DType), text: String) -> String {
        use ScalarOp::{Abs, Add, Cast, Div, DivEuclid, Mul, Neg, Not, Shl, Sub};
        if !is_narrow(to) {
            return text;
        }
        let prefix = HeldAs::of(to).prefix();
        match op {
            Cast if from.is_float() => {
                // Floats are cut at the ends.
                let (least, most) = match to {
                    DType::I8 => ("I4(-128)", "I4(127)"),
                    DType::I16 => ("I4(-32768)", "I4(32767)"),
                    DType::U8 => ("U4(0u)", "U4(255u)"),
                    _ => ("U4(0u)", "U4(65535u)"),
                };
                format!("min(max({text}, {least}), {most})")
            }
            Cast if from == DType::Bool => text,
            Add | Sub | Mul | Div | DivEuclid | Neg | Abs | Not | Shl | Cast => format!("{prefix}_wrap({text}, {}u)", bits(to)),
            _ => text,
        }
    }
}

/// An expression of the table, of these operands.
fn operator(expression: &str, names: &[String]) -> String {
    let word = |word: &str| match word {
        "a" => names[0].clone(),
        "b" => names[1].clone(),
        other => other.to_owned(),
    };
    expression.split(' ').map(word).collect::<Vec<_>>().join(" ")
}
