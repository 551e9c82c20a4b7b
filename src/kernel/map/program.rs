//! Element-wise programs: what becomes of one element of each input, as data.
//!
//! Owns: [`ScalarProgram`], [`Builder`], which rewrites made on the way keep every bit. Must not know: arrays, strips, devices. Invariant: each instruction uses earlier
//! ones only, every value has one dtype, equal instructions are one, and none is there that the result does not need.

use std::collections::HashMap;
use std::fmt::Write;

use super::loops::folded;
use super::table::{Gives, ScalarOp};
use crate::kernel::{OpClass, OpMix};
use crate::shape::{DType, Scalar};

/// A value of a program: the instruction that makes it.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Value(pub(super) u32);

impl Value {
    /// In the place of an operand that an operation does not have.
    const NONE: Self = Self(u32::MAX);

    pub(super) fn at(number: usize) -> Self {
        Self(number as u32)
    }

    /// The number of the instruction that makes it.
    #[must_use]
    pub fn index(self) -> usize {
        self.0 as usize
    }
}

/// One instruction.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Instr {
    /// The element of this input.
    Input(u32),
    /// Always this.
    Const(Scalar),
    /// What an operation makes, in this dtype, of these values: as many as it takes.
    Op(ScalarOp, DType, [Value; 3]),
}

impl Instr {
    /// The values that it uses.
    #[must_use]
    pub fn args(&self) -> &[Value] {
        match self {
            Self::Op(op, _, args) => &args[..op.row().arity],
            _ => &[],
        }
    }
}

/// What becomes of one element of each input. Each operation rounds, so that a program gives the bits of its operations one after the other.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct ScalarProgram {
    inputs: Vec<DType>,
    /// The last one makes the result.
    code: Vec<Instr>,
    dtype: DType,
}

impl ScalarProgram {
    /// The dtypes of its inputs.
    #[must_use]
    pub fn inputs(&self) -> &[DType] {
        &self.inputs
    }

    /// Its instructions; the last one makes the result.
    #[must_use]
    pub fn code(&self) -> &[Instr] {
        &self.code
    }

    /// The dtype of the result.
    #[must_use]
    pub fn dtype(&self) -> DType {
        self.dtype
    }

    /// The dtype of a value.
    pub(in crate::kernel) fn dtype_of(&self, value: Value) -> DType {
        dtype_of(&self.code[value.index()], &self.inputs)
    }

    /// Its operations, without inputs and constants.
    pub fn ops(&self) -> impl Iterator<Item = ScalarOp> + '_ {
        self.code.iter().filter_map(|instr| match instr {
            Instr::Op(op, ..) => Some(*op),
            _ => None,
        })
    }

    /// Operations that an element is worth, an addition being one, by their classes.
    #[must_use]
    pub fn mix(&self) -> OpMix {
        let mut mix = OpMix::default();
        for instr in &self.code {
            if let Instr::Op(op, dtype, args) = instr {
                // Tests are of the dtype of what they test.
                let dtype = if *dtype == DType::Bool { self.dtype_of(args[0]) } else { *dtype };
                mix.add(OpClass::of(*op, dtype), op.row().work);
            }
        }
        mix
    }

    /// The result, if it is the same for all elements.
    #[must_use]
    pub fn constant(&self) -> Option<Scalar> {
        match self.code.last() {
            Some(Instr::Const(scalar)) => Some(*scalar),
            _ => None,
        }
    }

    /// The input that the result is, if it is one.
    #[must_use]
    pub fn passes(&self) -> Option<usize> {
        match self.code.last() {
            Some(Instr::Input(input)) => Some(*input as usize),
            _ => None,
        }
    }

    /// The program whose result is made by the last instruction but one, if that needs all that is there.
    #[must_use]
    pub(in crate::kernel) fn without_last(&self) -> Option<Self> {
        let (_, code) = self.code.split_last()?;
        let dtype = dtype_of(code.last()?, &self.inputs);
        Some(Self { inputs: self.inputs.clone(), code: code.to_vec(), dtype })
    }

    /// The program that makes nothing new: its only input.
    #[must_use]
    pub fn identity(dtype: DType) -> Self {
        let mut builder = Builder::new();
        let input = builder.input(dtype);
        builder.finish(input).0
    }

    /// The input that a value is, as it is or in `f64`, if that is a float then.
    fn in_f64(&self, value: Value) -> Option<usize> {
        let (mut of, dtype) = (value, self.dtype_of(value));
        // What is rounded to `f32` is another number, unless it has fewer digits.
        while let Instr::Op(ScalarOp::Cast, to, args) = &self.code[of.index()]
            && dtype == DType::F64
            && match (self.dtype_of(args[0]), to) {
                (from, DType::F64) => from != DType::F64,
                (from, to) => matches!(from, DType::F16 | DType::BF16) && *to == DType::F32,
            }
        {
            of = args[0];
        }
        match &self.code[of.index()] {
            Instr::Input(input) if dtype.is_float() => Some(*input as usize),
            _ => None,
        }
    }

    /// Whether it makes its only input, or that in `f64`, and this a float: a sum in `f64` of what it makes is one of the input.
    #[must_use]
    pub fn is_in_f64(&self) -> bool {
        self.inputs.len() == 1 && self.in_f64(Value(self.code.len() as u32 - 1)).is_some()
    }

    /// Whether it makes `w x` and `w` of its inputs `x` and `w`, in `f64`, as a complex number: of the sum of these, the real part over the imaginary one is the weighted mean.
    #[must_use]
    pub fn is_weighted(&self) -> bool {
        let op = |value: Value, op: ScalarOp| match &self.code[value.index()] {
            Instr::Op(is, DType::F64 | DType::C128, args) if *is == op => Some((args[0], args[1])),
            _ => None,
        };
        let weights = |value: Value| self.dtype_of(value) == DType::F64 && self.in_f64(value) == Some(1);
        let Some((product, w)) = op(Value(self.code.len() as u32 - 1), ScalarOp::Compose) else { return false };
        let Some((a, b)) = op(product, ScalarOp::Mul) else { return false };
        let values = |value: Value| self.dtype_of(value) == DType::F64 && self.in_f64(value) == Some(0);
        self.inputs.len() == 2 && weights(w) && (values(a) && b == w || values(b) && a == w)
    }

    /// Whether it does more than to cast.
    #[must_use]
    pub fn computes(&self) -> bool {
        self.ops().any(|op| op != ScalarOp::Cast)
    }

    /// Its name: `multiply + add`, of long programs the first operations.
    #[must_use]
    pub fn name(&self) -> String {
        let names: Vec<&str> = self.ops().map(|op| op.row().name).collect();
        match names.len() {
            0 => "elements".to_owned(),
            1..=NAMED => names.join(" + "),
            more => format!("{} + {} more", names[..NAMED - 1].join(" + "), more + 1 - NAMED),
        }
    }

    /// All that its result follows from: `f64 f64; 0: input 0; 1: const f64 3ff0..; 2: add f64 0 1`.
    #[must_use]
    pub fn text(&self) -> String {
        self.written(true)
    }

    /// [`ScalarProgram::text`] without the numbers: what its speed follows from.
    #[must_use]
    pub fn structure_text(&self) -> String {
        self.written(false)
    }

    fn written(&self, with_numbers: bool) -> String {
        let mut text = self.inputs.iter().map(ToString::to_string).collect::<Vec<_>>().join(" ");
        for (number, instr) in self.code.iter().enumerate() {
            _ = write!(text, "; {number}: ");
            _ = match instr {
                Instr::Input(input) => write!(text, "input {input}"),
                Instr::Const(scalar) if !with_numbers => write!(text, "const {}", scalar.dtype()),
                Instr::Const(scalar) => {
                    let bytes: String = scalar.bytes().iter().rev().map(|byte| format!("{byte:02x}")).collect();
                    write!(text, "const {} {bytes}", scalar.dtype())
                }
                Instr::Op(op, dtype, _) => {
                    let args: String = instr.args().iter().map(|arg| format!(" {}", arg.0)).collect();
                    write!(text, "{} {dtype}{args}", op.row().name)
                }
            };
        }
        text
    }
}

/// Operations of a program that its name says, at most.
const NAMED: usize = 4;

fn dtype_of(instr: &Instr, inputs: &[DType]) -> DType {
    match instr {
        Instr::Input(input) => inputs[*input as usize],
        Instr::Const(scalar) => scalar.dtype(),
        Instr::Op(_, dtype, _) => *dtype,
    }
}

/// Makes a program, instruction by instruction.
#[derive(Default)]
pub struct Builder {
    inputs: Vec<DType>,
    code: Vec<Instr>,
    known: HashMap<Instr, Value>,
}

impl Builder {
    /// A program of nothing yet.
    #[must_use]
    pub fn new() -> Self {
        Self::default()
    }

    /// The element of one more input.
    pub fn input(&mut self, dtype: DType) -> Value {
        self.inputs.push(dtype);
        self.push(Instr::Input(self.inputs.len() as u32 - 1))
    }

    /// Always this.
    pub fn constant(&mut self, scalar: impl Into<Scalar>) -> Value {
        self.push(Instr::Const(scalar.into()))
    }

    /// The dtype of a value.
    #[must_use]
    pub fn dtype(&self, value: Value) -> DType {
        dtype_of(&self.code[value.index()], &self.inputs)
    }

    fn push(&mut self, instr: Instr) -> Value {
        if let Some(&known) = self.known.get(&instr) {
            return known;
        }
        let value = Value(self.code.len() as u32);
        self.code.push(instr);
        self.known.insert(instr, value);
        value
    }

    /// The constant that a value is, if it is one.
    #[must_use]
    pub fn constant_of(&self, value: Value) -> Option<Scalar> {
        match self.code[value.index()] {
            Instr::Const(scalar) => Some(scalar),
            _ => None,
        }
    }

    /// What an operation on real numbers, integers and booleans gives.
    ///
    /// # Panics
    /// If it does not take such values: who calls it has looked at the dtypes.
    pub(super) fn real(&mut self, op: ScalarOp, args: &[Value]) -> Value {
        let (row, dtype) = (op.row(), self.dtype(args[0]));
        let takes = args.len() == row.arity && row.domain.has(dtype) && args.iter().all(|&arg| self.dtype(arg) == dtype);
        assert!(takes, "{} does not take {:?}", row.name, args.iter().map(|&arg| self.dtype(arg)).collect::<Vec<_>>());
        self.push_op(op, if row.gives == Gives::Test { DType::Bool } else { dtype }, args)
    }

    /// The second value where the first is true, else the third: all of one dtype, none complex.
    pub(super) fn choice(&mut self, [which, yes, no]: [Value; 3]) -> Value {
        let dtype = self.dtype(yes);
        assert!(self.dtype(which) == DType::Bool && self.dtype(no) == dtype, "a choice between values of one dtype");
        self.push_op(ScalarOp::Where, dtype, &[which, yes, no])
    }

    /// A value as one of another dtype, neither being complex.
    pub(super) fn real_cast(&mut self, value: Value, to: DType) -> Value {
        let (from, is_half) = (self.dtype(value), |dtype: DType| matches!(dtype, DType::F16 | DType::BF16));
        match () {
            () if from == to => value,
            () if is_half(from) && to != DType::F32 => {
                let wide = self.push_op(ScalarOp::Cast, DType::F32, &[value]);
                self.real_cast(wide, to)
            }
            () if is_half(to) && !from.is_float() => {
                let wide = self.push_op(ScalarOp::Cast, DType::F64, &[value]);
                self.push_op(ScalarOp::Cast, to, &[wide])
            }
            () => self.push_op(ScalarOp::Cast, to, &[value]),
        }
    }

    /// The real or imaginary part of a complex value.
    pub(super) fn part(&mut self, op: ScalarOp, value: Value) -> Value {
        self.push_op(op, self.dtype(value).part(), &[value])
    }

    /// The complex value of these parts.
    pub(super) fn compose(&mut self, re: Value, im: Value) -> Value {
        let dtype = if self.dtype(re) == DType::F32 { DType::C64 } else { DType::C128 };
        self.push_op(ScalarOp::Compose, dtype, &[re, im])
    }

    /// An operation, or what is known to give the same bits.
    pub(super) fn push_op(&mut self, op: ScalarOp, dtype: DType, args: &[Value]) -> Value {
        if let Some(value) = self.simpler(op, dtype, args) {
            return value;
        }
        let constants: Option<Vec<Scalar>> = args.iter().map(|&arg| self.constant_of(arg)).collect();
        if let Some(folded) = constants.and_then(|constants| folded(op, dtype, &constants)) {
            return self.constant(folded);
        }
        let mut all = [Value::NONE; 3];
        all[..args.len()].copy_from_slice(args);
        // In one order where the order does not matter: then equal ones are one. (Which NaN comes of two is not said.)
        if matches!(
            op,
            ScalarOp::Add | ScalarOp::Mul | ScalarOp::Eq | ScalarOp::Ne | ScalarOp::And | ScalarOp::Or | ScalarOp::Xor
        ) && args[0] > args[1]
        {
            all.swap(0, 1);
        }
        self.push(Instr::Op(op, dtype, all))
    }

    /// A value that an operation is known to give, to the bit.
    fn simpler(&mut self, op: ScalarOp, dtype: DType, args: &[Value]) -> Option<Value> {
        let of = |value: Value| match self.code[value.index()] {
            Instr::Op(op, _, args) => Some((op, args)),
            _ => None,
        };
        let is = |value: Value, scalar: Scalar| self.constant_of(value) == Some(scalar);
        let (one, zero) = (dtype.one(), dtype.zero());
        match (op, args) {
            (ScalarOp::Re, &[z]) => of(z).filter(|z| z.0 == ScalarOp::Compose).map(|z| z.1[0]),
            (ScalarOp::Im, &[z]) => of(z).filter(|z| z.0 == ScalarOp::Compose).map(|z| z.1[1]),
            (ScalarOp::Compose, &[re, im]) => match (of(re)?, of(im)?) {
                ((ScalarOp::Re, [a, ..]), (ScalarOp::Im, [b, ..])) if a == b => Some(a),
                _ => None,
            },
            (ScalarOp::Where, &[which, yes, no]) => match self.constant_of(which) {
                Some(Scalar::Bool(is)) => Some(if is { yes } else { no }),
                _ => (yes == no).then_some(yes),
            },
            (ScalarOp::Mul, &[a, b]) => [(a, b), (b, a)].into_iter().find(|x| is(x.1, one)).map(|x| x.0),
            (ScalarOp::Div, &[a, b]) if is(b, one) => Some(a),
            // Of floats, x + 0 is not x where x is -0.
            (ScalarOp::Add, &[a, b]) if dtype.is_integer() => [(a, b), (b, a)].into_iter().find(|x| is(x.1, zero)).map(|x| x.0),
            (ScalarOp::Sub, &[a, b]) if is(b, zero) => Some(a),
            (ScalarOp::Div, &[a, b]) => {
                let inverse = inverse(self.constant_of(b)?)?;
                let inverse = self.constant(inverse);
                Some(self.push_op(ScalarOp::Mul, dtype, &[a, inverse]))
            }
            (ScalarOp::Not | ScalarOp::Neg, &[a]) => of(a).filter(|a| a.0 == op).map(|a| a.1[0]),
            (ScalarOp::Abs, &[a]) => match of(a)? {
                (ScalarOp::Abs, _) => Some(a),
                // The negative of an unsigned number is another one.
                (ScalarOp::Neg, [of, ..]) if !dtype.is_unsigned() => Some(self.push_op(ScalarOp::Abs, dtype, &[of])),
                _ => None,
            },
            (ScalarOp::And | ScalarOp::Or | ScalarOp::Minimum | ScalarOp::Maximum, &[a, b]) => (a == b).then_some(a),
            _ => None,
        }
    }

    /// The value that another program makes of these.
    ///
    /// # Panics
    /// If they are not its inputs' dtypes.
    pub fn inline(&mut self, program: &ScalarProgram, args: &[Value]) -> Value {
        let mut made: Vec<Value> = Vec::with_capacity(program.code.len());
        for instr in &program.code {
            let value = match instr {
                Instr::Input(input) => {
                    let arg = args[*input as usize];
                    assert_eq!(self.dtype(arg), program.inputs[*input as usize], "an input's dtype");
                    arg
                }
                Instr::Const(scalar) => self.push(Instr::Const(*scalar)),
                Instr::Op(op, dtype, _) => {
                    let args: smallvec::SmallVec<[Value; 3]> = instr.args().iter().map(|arg| made[arg.index()]).collect();
                    self.push_op(*op, *dtype, &args)
                }
            };
            made.push(value);
        }
        made.last().copied().expect("a program makes a value")
    }

    /// The program that makes this value, and which of the inputs it uses: those are its inputs, in their order.
    #[must_use]
    pub fn finish(self, result: Value) -> (ScalarProgram, Vec<usize>) {
        let dtype = self.dtype(result);
        let mut is_used = vec![false; self.code.len()];
        is_used[result.index()] = true;
        for number in (0..self.code.len()).rev().filter(|&number| number <= result.index()) {
            if is_used[number] {
                self.code[number].args().iter().for_each(|arg| is_used[arg.index()] = true);
            }
        }
        let (mut code, mut places) = (Vec::new(), vec![Value::NONE; self.code.len()]);
        let used: Vec<usize> = (0..self.code.len())
            .filter_map(|number| match self.code[number] {
                Instr::Input(input) if is_used[number] => Some(input as usize),
                _ => None,
            })
            .collect();
        for (number, instr) in self.code.iter().enumerate().filter(|(number, _)| is_used[*number]) {
            places[number] = Value(code.len() as u32);
            code.push(match *instr {
                Instr::Input(input) => {
                    Instr::Input(used.iter().position(|&used| used == input as usize).expect("it is used") as u32)
                }
                Instr::Op(op, dtype, args) => {
                    let place = |arg: Value| places.get(arg.index()).copied().unwrap_or(Value::NONE);
                    Instr::Op(op, dtype, args.map(place))
                }
                constant => constant,
            });
        }
        let inputs = used.iter().map(|&input| self.inputs[input]).collect();
        (ScalarProgram { inputs, code, dtype }, used)
    }
}

/// One over a float that is a power of two, if that is exact: then to multiply by it is to divide.
fn inverse(scalar: Scalar) -> Option<Scalar> {
    let is_power =
        |mantissa_is_zero: bool, inverse: f64, least: f64| mantissa_is_zero && inverse.is_finite() && inverse.abs() >= least;
    match scalar {
        Scalar::F64(x) => {
            let inverse = 1.0 / x;
            let exact = is_power(x.to_bits() << 12 == 0, inverse, f64::MIN_POSITIVE) && x.is_normal();
            exact.then(|| inverse.into())
        }
        Scalar::F32(x) => {
            let inverse = 1.0 / x;
            let exact = is_power(x.to_bits() << 9 == 0, inverse.into(), f32::MIN_POSITIVE.into()) && x.is_normal();
            exact.then(|| inverse.into())
        }
        _ => None,
    }
}
