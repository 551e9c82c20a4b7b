//! How four elements come from a buffer, and go to one.
//!
//! Owns: what a buffer is declared as, loads and stores. Must not know: operations. Invariant: an index is below the length of its array, whatever the extents: what may
//! lie behind the last element is held back, or is within the padding of a buffer to a multiple of 16 bytes.

use super::body::name;
use super::form::ReadsAs;
use super::held::{HeldAs, bits};
use crate::shape::DType;

/// What a buffer is an array of, where four elements are read at once.
fn fours(dtype: DType) -> String {
    let scalar = HeldAs::of(dtype).scalar();
    match (bits(dtype), dtype.is_complex()) {
        (8, _) => "u32".into(),
        (16, _) => "vec2<u32>".into(),
        (32, _) => format!("vec4<{scalar}>"),
        _ => format!("vec2<{scalar}>"),
    }
}

/// The same, where one is.
fn ones(dtype: DType) -> String {
    let scalar = HeldAs::of(dtype).scalar();
    match (bits(dtype), dtype.is_complex()) {
        (8 | 16, _) => "u32".into(),
        (_, true) => format!("vec2<{scalar}>"),
        _ => scalar.into(),
    }
}

/// The declaration of an input that is a chunk.
pub(super) fn input((number, binding): (usize, usize), dtype: DType, reads: ReadsAs) -> String {
    let of = if matches!(reads, ReadsAs::Whole { .. } | ReadsAs::Rows) { fours(dtype) } else { ones(dtype) };
    format!("@group(0) @binding({binding}) var<storage, read> x{number}: array<{of}>;\n")
}

/// The declaration of the output.
pub(super) fn output(binding: usize, dtype: DType) -> String {
    format!("@group(0) @binding({binding}) var<storage, read_write> y: array<{}>;\n", fours(dtype))
}

/// Where an input's elements are.
pub(super) struct LoadFour<'a> {
    pub(super) number: usize,
    pub(super) dtype: DType,
    pub(super) reads: ReadsAs,
    /// Steps that it has.
    pub(super) rank: usize,
    pub(super) is_aligned: bool,
    /// The value of the program that it is.
    pub(super) value: usize,
    pub(super) out: &'a mut Vec<String>,
}

impl LoadFour<'_> {
    fn say(&mut self, line: String) {
        self.out.push(line);
    }

    /// The statements that load it.
    pub(super) fn write(mut self) {
        let k = self.number;
        match self.reads {
            ReadsAs::Whole { offset: false } => {
                self.at_once("q", "p.n");
            }
            ReadsAs::Whole { offset: true } => {
                self.say(format!("let q{k} = q + p.o{k} / 4u;"));
                self.at_once(&format!("q{k}"), &format!("(p.o{k} + p.n)"));
            }
            ReadsAs::Rows => {
                let place = self.place("c0");
                self.say(format!("let q{k} = ({place}) / 4u;"));
                self.at_once(&format!("q{k}"), "");
            }
            ReadsAs::One => {
                self.say(format!("let e{k} = p.o{k};"));
                self.one_by_one(true);
            }
            ReadsAs::Spread => {
                let place = self.place("c0");
                self.say(format!("let e{k} = {place};"));
                self.one_by_one(true);
            }
            ReadsAs::Made { .. } => self.made(),
            ReadsAs::Any => {
                let place = self.place(if self.is_aligned { "(c0 + U4(0u, 1u, 2u, 3u))" } else { "c0" });
                self.say(format!("let e{k} = {place};"));
                self.one_by_one(false);
            }
        }
    }

    /// From the words of indices, which are numbers of 64 bits.
    fn made(&mut self) {
        let (k, name) = (self.number, self.names().remove(0));
        self.say(format!("let z{k} = wide_start(p.o{k}, p.o{k}_high);"));
        let mut last = format!("z{k}");
        for axis in 0..self.rank {
            let at = match axis {
                0 if self.is_aligned => "c0 + U4(0u, 1u, 2u, 3u)".to_owned(),
                _ if self.is_aligned => format!("U4(c{axis})"),
                _ => format!("c{axis}"),
            };
            self.say(format!("let z{k}_{axis} = wide_step({last}, {at}, p.s{k}_{axis}, p.s{k}_{axis}_high);"));
            last = format!("z{k}_{axis}");
        }
        // What is computed with it is another sum than what has made it.
        let made = format!("made{k}({last}.low, {last}.high)");
        let prefix = HeldAs::of(self.dtype).prefix();
        let made = if matches!(prefix, "f" | "d") { format!("opaque_{prefix}({made})") } else { made };
        self.say(format!("let {name} = {made};"));
    }

    /// Its offset and steps along all axes.
    fn place(&self, inner: &str) -> String {
        let k = self.number;
        let is_vector = self.reads == ReadsAs::Any;
        let of = |axis: usize| match axis {
            0 => format!(" + {inner} * p.s{k}_0"),
            _ => format!(" + c{axis} * p.s{k}_{axis}"),
        };
        let steps: String = (0..self.rank).map(of).collect();
        match is_vector {
            true => format!("U4(p.o{k}){steps}"),
            false => format!("p.o{k}{steps}"),
        }
    }

    fn names(&self) -> Vec<String> {
        let parts = if self.dtype.is_complex() { 2 } else { 1 };
        (0..parts).map(|part| name(self.value, self.dtype, part)).collect()
    }

    /// Four elements from the place `j` of four on, in an input of `len` elements (if these may end within the four).
    fn at_once(&mut self, j: &str, len: &str) {
        let (k, names, is_aligned) = (self.number, self.names(), self.is_aligned);
        let held = HeldAs::of(self.dtype).vector();
        // The last pair may be behind the end.
        let pair = |at: u32, pairs: u32, each: u32| {
            let index = format!("{j} * {pairs}u + {at}u");
            match at > 0 && !is_aligned {
                true => format!("min({index}, ({len} - 1u) / {each}u)"),
                false => index,
            }
        };
        match (bits(self.dtype), self.dtype.is_complex()) {
            (8, _) => {
                let raw = format!("(U4(x{k}[{j}]) >> U4(0u, 8u, 16u, 24u)) & U4(0xffu)");
                self.raw(&raw);
            }
            (16, _) => {
                self.say(format!("let w{k} = x{k}[{j}];"));
                self.raw(&format!("(w{k}.xxyy >> U4(0u, 16u, 0u, 16u)) & U4(0xffffu)"));
            }
            (32, false) => self.say(format!("let {} = x{k}[{j}];", names[0])),
            (_, false) => {
                let (a, b) = (pair(0, 2, 2), pair(1, 2, 2));
                self.say(format!("let {} = {held}(x{k}[{a}], x{k}[{b}]);", names[0]));
            }
            (32, true) => {
                let (a, b) = (pair(0, 2, 2), pair(1, 2, 2));
                self.say(format!("let w{k}a = x{k}[{a}];"));
                self.say(format!("let w{k}b = x{k}[{b}];"));
                self.say(format!("let {} = {held}(w{k}a.xz, w{k}b.xz);", names[0]));
                self.say(format!("let {} = {held}(w{k}a.yw, w{k}b.yw);", names[1]));
            }
            (_, true) => {
                for at in 0..4 {
                    let index = pair(at, 4, 1);
                    self.say(format!("let w{k}{at} = x{k}[{index}];"));
                }
                self.lanes(&names);
            }
        }
    }

    /// From the element `e`, or the elements: the same for all four, or four.
    fn one_by_one(&mut self, is_one: bool) {
        let (k, names) = (self.number, self.names());
        let lane = |at: usize| if is_one { format!("e{k}") } else { format!("e{k}.{}", LANES[at]) };
        let four = |of: &dyn Fn(&str) -> String| match is_one {
            true => of(&lane(0)),
            false => (0..4).map(|at| of(&lane(at))).collect::<Vec<_>>().join(", "),
        };
        let held = HeldAs::of(self.dtype).vector();
        match (bits(self.dtype), self.dtype.is_complex()) {
            (size @ (8 | 16), _) => {
                let each = 32 / size;
                let words = four(&|e| format!("x{k}[{e} / {each}u]"));
                let shift = format!("(e{k} % {each}u * {size}u)");
                let shift = if is_one { format!("U4{shift}") } else { shift };
                self.raw(&format!("(U4({words}) >> {shift}) & U4({:#x}u)", (1u32 << size) - 1));
            }
            (_, false) => {
                let words = four(&|e| format!("x{k}[{e}]"));
                self.say(format!("let {} = {held}({words});", names[0]));
            }
            (_, true) if is_one => {
                self.say(format!("let w{k} = x{k}[e{k}];"));
                self.say(format!("let {} = {held}(w{k}.x);", names[0]));
                self.say(format!("let {} = {held}(w{k}.y);", names[1]));
            }
            (_, true) => {
                for at in 0..4 {
                    let index = lane(at);
                    self.say(format!("let w{k}{at} = x{k}[{index}];"));
                }
                self.lanes(&names);
            }
        }
    }

    /// Complex numbers that were loaded one by one, as their parts.
    fn lanes(&mut self, names: &[String]) {
        let (k, held) = (self.number, HeldAs::of(self.dtype).vector());
        for (name, part) in names.iter().zip(["x", "y"]) {
            let lanes: Vec<String> = (0..4).map(|at| format!("w{k}{at}.{part}")).collect();
            self.say(format!("let {name} = {held}({});", lanes.join(", ")));
        }
    }

    /// Elements of 8 or 16 bits, from these bits in words.
    fn raw(&mut self, raw: &str) {
        let bits = bits(self.dtype);
        let text = match self.dtype {
            DType::Bool => format!("({raw}) != U4(0u)"),
            DType::I8 | DType::I16 => format!("i_wrap(bitcast<I4>({raw}), {bits}u)"),
            DType::F16 => format!("half_to_f({raw})"),
            DType::BF16 => format!("brain_to_f({raw})"),
            _ => raw.to_owned(),
        };
        let name = self.names().remove(0);
        self.say(format!("let {name} = {text};"));
    }
}

const LANES: [&str; 4] = ["x", "y", "z", "w"];

/// A store of elements from number `first` on, held back where that is behind the last one and not within the padding.
fn held_back(first: u32, statement: String, is_aligned: bool) -> String {
    match is_aligned {
        true => statement,
        false => format!("if (4u * q + {first}u < p.n) {{\n        {statement}\n    }}"),
    }
}

/// The statements that store a value as the output's four elements from place `q` on.
pub(super) fn store(value: usize, dtype: DType, is_aligned: bool, out: &mut Vec<String>) {
    let part = |part| name(value, dtype, part);
    let (v, bits) = (part(0), bits(dtype));
    match (bits, dtype.is_complex()) {
        (8 | 16, _) => {
            let raw = match dtype {
                DType::Bool => format!("select(U4(0u), U4(1u), {v})"),
                DType::I8 | DType::I16 => format!("bitcast<U4>({v}) & U4({:#x}u)", (1u32 << bits) - 1),
                DType::F16 => format!("f_to_half({v})"),
                DType::BF16 => format!("f_to_brain({v})"),
                _ => v,
            };
            out.push(format!("let r = {raw};"));
            out.push(match bits {
                8 => "y[q] = r.x | (r.y << 8u) | (r.z << 16u) | (r.w << 24u);".into(),
                _ => "y[q] = r.xz | (r.yw << vec2<u32>(16u));".into(),
            });
        }
        (32, false) => out.push(format!("y[q] = {v};")),
        (_, false) => {
            out.push(format!("y[2u * q] = {v}.xy;"));
            out.push(held_back(2, format!("y[2u * q + 1u] = {v}.zw;"), is_aligned));
        }
        (32, true) => {
            let im = part(1);
            out.push(format!("y[2u * q] = F4({v}.x, {im}.x, {v}.y, {im}.y);"));
            let second = format!("y[2u * q + 1u] = F4({v}.z, {im}.z, {v}.w, {im}.w);");
            out.push(held_back(2, second, is_aligned));
        }
        (_, true) => {
            let im = part(1);
            for (at, lane) in LANES.iter().enumerate() {
                let one = format!("y[4u * q + {at}u] = vec2<f64>({v}.{lane}, {im}.{lane});");
                out.push(held_back(at as u32, one, is_aligned));
            }
        }
    }
}
