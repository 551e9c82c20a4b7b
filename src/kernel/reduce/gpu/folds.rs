//! Folds as WGSL: what becomes of the elements that a program makes.
//!
//! Owns: [`GpuFold`]. Must not know: in which order elements come. Invariant: four results at once are a `Four`, of one vector for each component; `join` makes one of two, and does
//! not mind which comes first, but for rounding.
//!
//! Elements are put into a `Run` of at most [`RUN`], which is closed to a `Four`: so sums are of few numbers each, and their errors small.

use std::fmt::Write;

use super::super::Reduction;
use super::narrow::{self, NarrowFold};
use crate::shape::DType;

/// Elements of a run at each of the four places, at most.
pub(super) const RUN: usize = 32;

/// A fold of elements of a dtype.
pub(super) struct GpuFold {
    what: Reduction,
    item: DType,
    /// Whether there is nothing of 64 bits.
    is_narrow: bool,
    /// What stands for results that have them.
    narrow: Option<NarrowFold>,
}

/// A component of a `Four`: its name, its vector, the scalar in it.
pub(super) type Component = (&'static str, &'static str, &'static str);

impl GpuFold {
    /// Of elements of a dtype that the reduction reads; on a GPU without numbers of 64 bits, of what they are before they are widened.
    pub(super) fn new(what: Reduction, dtype: DType, is_narrow: bool) -> Self {
        let item = if is_narrow { narrow::item(dtype) } else { dtype };
        Self { what, item, is_narrow, narrow: if is_narrow { NarrowFold::of(what, item) } else { None } }
    }

    /// Whether it is a sum in `f64` of `f32`, as on a CPU.
    fn is_wide(&self) -> bool {
        self.what == Reduction::Sum && self.item == DType::F32 && !self.is_narrow
    }

    fn vector(&self) -> (&'static str, &'static str, &'static str) {
        match self.item {
            DType::F32 => ("F4", "f32", "f"),
            DType::F64 | DType::C128 => ("D4", "f64", "d"),
            DType::I64 => ("L4", "i64", "l"),
            DType::I32 => ("I4", "i32", "i"),
            DType::U32 => ("U4", "u32", "u"),
            _ => ("M4", "u64", "m"),
        }
    }

    /// The components of a result.
    pub(super) fn components(&self) -> Vec<Component> {
        let (vector, scalar, _) = self.vector();
        if let Some(narrow) = self.narrow {
            return narrow.components();
        }
        match self.what {
            _ if self.item == DType::C128 => vec![("re", "D4", "f64"), ("im", "D4", "f64")],
            _ if self.is_wide() => vec![("v", "D4", "f64")],
            Reduction::ArgMin | Reduction::ArgMax => vec![("v", vector, scalar), ("n", "U4", "u32")],
            Reduction::Moments => vec![("n", "D4", "f64"), ("mean", "D4", "f64"), ("rest", "D4", "f64")],
            _ => vec![("v", vector, scalar)],
        }
    }

    /// Bytes of a result in scratch.
    pub(super) fn part_bytes(&self) -> usize {
        let bytes = |scalar: &str| if scalar.ends_with("64") { 8 } else { 4 };
        let all: usize = self.components().iter().map(|component| bytes(component.2)).sum();
        let align = self.components().iter().map(|component| bytes(component.2)).max().unwrap_or(4);
        all.next_multiple_of(align)
    }

    /// Bytes of results of all invocations of a workgroup.
    pub(super) fn shared_bytes(&self) -> u32 {
        let bytes = |scalar: &str| if scalar.ends_with("64") { 8 } else { 4 };
        256 * self.components().iter().map(|component| bytes(component.2)).sum::<u32>()
    }

    /// The types, and the functions `none`, `join`, `run_none`, `run_put`, `run_close`.
    pub(super) fn text(&self) -> String {
        let mut text = String::from("struct Part {\n");
        self.components().iter().for_each(|(name, _, scalar)| _ = writeln!(text, "    {name}: {scalar},"));
        text.push_str("}\nstruct Four {\n");
        self.components().iter().for_each(|(name, vector, _)| _ = writeln!(text, "    {name}: {vector},"));
        _ = writeln!(text, "}}\nfn none() -> Four {{\n    return Four({});\n}}", self.none());
        _ = writeln!(text, "fn join(a: Four, b: Four) -> Four {{\n{}}}", self.join());
        let all = |of: &dyn Fn(&str) -> String| -> String {
            self.components().iter().map(|(name, ..)| of(name)).collect::<Vec<_>>().join(", ")
        };
        // Each of the four becomes that of all.
        let turned = |lanes: &str, of: &str| all(&|name| format!("{of}.{name}.{lanes}"));
        _ = writeln!(
            text,
            "fn joined(a: Four) -> Four {{\n    let b = join(a, Four({}));\n    return join(b, Four({}));\n}}",
            turned("zwxy", "a"),
            turned("yxwz", "b")
        );
        let fours = self.components().iter().map(|(name, vector, _)| format!("{vector}(a.{name})")).collect::<Vec<_>>();
        _ = writeln!(text, "fn four_of(a: Part) -> Four {{\n    return Four({});\n}}", fours.join(", "));
        _ = writeln!(text, "fn part_of(a: Four) -> Part {{\n    return Part({});\n}}", all(&|name| format!("a.{name}.x")));
        for (at, lanes) in ["yzwx", "zwxy", "wxyz"].into_iter().enumerate() {
            _ = writeln!(text, "fn turned{}(a: Four) -> Four {{\n    return Four({});\n}}", at + 1, turned(lanes, "a"));
        }
        let four = |(name, vector, _): &Component| format!("{vector}(a.{name}, b.{name}, c.{name}, d.{name})");
        let fours: Vec<String> = self.components().iter().map(four).collect();
        _ = writeln!(
            text,
            "fn four_at(a: Part, b: Part, c: Part, d: Part) -> Four {{\n    return Four({});\n}}",
            fours.join(", ")
        );
        text.push_str(&self.run());
        text
    }

    /// The arguments of `run_put` that are an element.
    pub(super) fn element(&self) -> &'static str {
        match self.item {
            DType::C128 => "re: D4, im: D4",
            DType::F32 => "x: F4",
            DType::F64 => "x: D4",
            DType::I64 => "x: L4",
            DType::I32 => "x: I4",
            DType::U32 => "x: U4",
            _ => "x: M4",
        }
    }

    fn none(&self) -> String {
        if let Some(narrow) = self.narrow {
            return narrow.none().to_owned();
        }
        let infinity = |sign: u32| match self.item {
            DType::F32 => format!("bitcast<F4>(U4({:#x}u) + U4(p.zero))", 0x7f80_0000u32 | sign << 31),
            _ => format!("bitcast<D4>(M4({:#x}lu) + M4(u64(p.zero)))", 0x7ff0_0000_0000_0000u64 | u64::from(sign) << 63),
        };
        let highest = || match self.item {
            DType::I64 => "L4(9223372036854775807li)".to_owned(),
            DType::I32 => "I4(2147483647i)".to_owned(),
            DType::U32 => "U4(4294967295u)".to_owned(),
            DType::U64 => "M4(18446744073709551615lu)".to_owned(),
            _ => infinity(0),
        };
        let lowest = || match self.item {
            DType::I64 => "L4(bitcast<i64>(0x8000000000000000lu))".to_owned(),
            DType::U64 => "M4(0lu)".to_owned(),
            DType::I32 => "I4(bitcast<i32>(0x80000000u))".to_owned(),
            DType::U32 => "U4(0u)".to_owned(),
            _ => infinity(1),
        };
        let number = |zero: bool| match (self.item, zero) {
            (DType::F32, _) => format!("F4({})", if zero { "0.0" } else { "1.0" }),
            (DType::F64 | DType::C128, _) => format!("D4({})", if zero { "0.0lf" } else { "1.0lf" }),
            (DType::I64, _) => format!("L4({}li)", i32::from(!zero)),
            _ => format!("M4({}lu)", i32::from(!zero)),
        };
        match self.what {
            Reduction::Sum if self.item == DType::C128 => "D4(0.0lf), D4(0.0lf)".into(),
            Reduction::Prod if self.item == DType::C128 => "D4(1.0lf), D4(0.0lf)".into(),
            Reduction::Sum if self.is_wide() => "D4(0.0lf)".into(),
            Reduction::Sum => number(true),
            Reduction::Prod => number(false),
            Reduction::Min => highest(),
            Reduction::Max => lowest(),
            Reduction::FMin | Reduction::FMax if self.item == DType::F32 => "bitcast<F4>(U4(0x7fc00000u) + U4(p.zero))".into(),
            Reduction::FMin | Reduction::FMax => "bitcast<D4>(M4(0x7ff8000000000000lu) + M4(u64(p.zero)))".into(),
            Reduction::ArgMin => format!("{}, U4(0xffffffffu)", highest()),
            Reduction::ArgMax => format!("{}, U4(0xffffffffu)", lowest()),
            Reduction::Moments => "D4(0.0lf), D4(0.0lf), D4(0.0lf)".into(),
        }
    }

    fn join(&self) -> String {
        let (_, _, prefix) = self.vector();
        if let Some(narrow) = self.narrow {
            return narrow.join().to_owned();
        }
        let one = |expression: &str| format!("    return Four({expression});\n");
        match (self.what, self.item) {
            (Reduction::Sum, DType::C128) => one("a.re + b.re, a.im + b.im"),
            (Reduction::Prod, DType::C128) => one("a.re * b.re - a.im * b.im, a.re * b.im + a.im * b.re"),
            (Reduction::Sum, _) => one("a.v + b.v"),
            (Reduction::Prod, _) => one("a.v * b.v"),
            (Reduction::Min, _) => one(&format!("{prefix}_minimum(a.v, b.v)")),
            (Reduction::Max, _) => one(&format!("{prefix}_maximum(a.v, b.v)")),
            (Reduction::FMin, _) => one(&format!("{prefix}_fmin(a.v, b.v)")),
            (Reduction::FMax, _) => one(&format!("{prefix}_fmax(a.v, b.v)")),
            (Reduction::ArgMin | Reduction::ArgMax, item) => {
                let (x, y) = if self.what == Reduction::ArgMin { ("b.v", "a.v") } else { ("a.v", "b.v") };
                // NaN is kept, the first one.
                let better = |x: &str, y: &str, of: &str, than: &str| match item.is_float() {
                    true => format!("(({prefix}_lt({x}, {y}) | {prefix}_is_nan({of})) & !{prefix}_is_nan({than}))"),
                    false => format!("{prefix}_lt({x}, {y})"),
                };
                let (b, a) = (better(x, y, "b.v", "a.v"), better(y, x, "a.v", "b.v"));
                format!(
                    "    let is_b = {b} | (!{a} & (b.n < a.n));\n    return Four(select(a.v, b.v, is_b), select(a.n, b.n, is_b));\n"
                )
            }
            (Reduction::Moments, _) => "    let n = a.n + b.n;
    let d = b.mean - a.mean;
    let share = d_over(b.n, select(n, D4(1.0lf), n == D4(0.0lf)));
    let rest = a.rest + b.rest + d * d * (a.n * share);
    let both = Four(n, a.mean + d * share, rest);
    let no_a = a.n == D4(0.0lf);
    let no_b = b.n == D4(0.0lf);
    return Four(n, select(select(both.mean, a.mean, no_b), b.mean, no_a), select(select(rest, a.rest, no_b), b.rest, no_a));
"
            .into(),
        }
    }

    fn run(&self) -> String {
        let (put, element) = (self.element(), self.item);
        if let Some(narrow) = self.narrow {
            let of = |(name, ..): &Component| format!("select(e.{name}, x_{name}, here)");
            let fields: Vec<String> = self.components().iter().map(of).collect();
            return joined_one_by_one(put, narrow.element(element), &fields.join(", "));
        }
        if self.what == Reduction::Moments {
            // By their distances from the first one; what is not finite makes them NaN.
            let x = if element == DType::F32 { "D4(x)" } else { "x" };
            return format!(
                "struct Run {{
    n: D4,
    first: D4,
    sum: D4,
    squares: D4,
}}
fn run_none() -> Run {{
    return Run(D4(0.0lf), D4(0.0lf), D4(0.0lf), D4(0.0lf));
}}
fn run_put(r: Run, {put}, number: U4, here: B4) -> Run {{
    let y = {x};
    let first = select(r.first, y, here & (r.n == D4(0.0lf)));
    let d = select(D4(0.0lf), y - first, here);
    return Run(r.n + select(D4(0.0lf), D4(1.0lf), here), first, r.sum + d, r.squares + d * d);
}}
fn run_close(r: Run) -> Four {{
    let n = select(r.n, D4(1.0lf), r.n == D4(0.0lf));
    let mean = d_over(r.sum, n);
    let is_far = d_is_infinite(r.squares) & d_is_finite(r.sum);
    let rest = select(r.squares - r.sum * mean, r.squares, is_far);
    let nan = bitcast<D4>(M4(0x7ff8000000000000lu) + M4(u64(p.zero)));
    let positive = select(rest, D4(0.0lf), d_lt(rest, D4(0.0lf)));
    return Four(r.n, r.first + mean, select(nan, positive, d_is_finite(r.first)));
}}
"
            );
        }
        let value = match self.what {
            _ if element == DType::C128 => "select(e.re, re, here), select(e.im, im, here)",
            what if what.is_numbered() => "select(e.v, x, here), select(e.n, number, here)",
            _ if self.is_wide() => "select(e.v, D4(x), here)",
            _ => "select(e.v, x, here)",
        };
        joined_one_by_one(put, "", value)
    }

    /// What the words of results are, and the statements that write those of one.
    pub(super) fn write(&self) -> (String, String) {
        let of = match (self.what, self.item) {
            _ if self.is_narrow => "vec2<u32>",
            (what, _) if what.is_numbered() => "u64",
            (Reduction::Moments, _) | (_, DType::F64 | DType::C128) => "f64",
            _ if self.is_wide() => "f64",
            (_, DType::F32) => "vec2<u32>",
            _ => "u64",
        };
        (of.to_owned(), self.words())
    }

    fn words(&self) -> String {
        if let Some(narrow) = self.narrow {
            return narrow.write().to_owned();
        }
        let word = match (self.what, self.item) {
            (Reduction::Moments, _) => {
                return "    y[k] = a.n;\n    y[p.kept + k] = a.mean;\n    y[2u * p.kept + k] = a.rest;\n".into();
            }
            (_, DType::C128) => return "    y[k] = a.re;\n    y[p.kept + k] = a.im;\n".into(),
            (what, DType::F64) if what.is_numbered() => "bitcast<u64>(a.v)",
            _ if self.is_wide() => "a.v",
            (_, DType::F32) => "f_double(a.v)",
            (_, DType::I32) => "vec2<u32>(bitcast<u32>(a.v), select(0u, 0xffffffffu, a.v < 0))",
            (_, DType::U32) => "vec2<u32>(a.v, 0u)",
            (_, DType::I64) => "bitcast<u64>(a.v)",
            _ => "a.v",
        };
        let number = if self.what.is_numbered() { "    y[p.kept + k] = whole(a.n);\n" } else { "" };
        format!("    y[k] = {word};\n{number}")
    }

    /// Of a result `a` the parts of a value of the dtype that it gives, four times.
    pub(super) fn result(&self) -> Vec<String> {
        match (self.what, self.item) {
            (what, _) if what.is_numbered() => vec!["L4(bitcast<i64>(whole(a.n)))".into()],
            (Reduction::Moments, _) => vec!["D4(a.rest)".into()],
            (_, DType::C128) => vec!["D4(a.re)".into(), "D4(a.im)".into()],
            _ if self.is_wide() => vec!["D4(a.v)".into()],
            (_, DType::F32) => vec!["D4(f64(a.v))".into()],
            (_, DType::F64) => vec!["D4(a.v)".into()],
            (_, DType::I64) => vec!["L4(a.v)".into()],
            _ => vec!["M4(a.v)".into()],
        }
    }

    /// Whether results are told the numbers of their elements.
    pub(super) fn is_numbered(&self) -> bool {
        self.what.is_numbered()
    }
}

/// Runs whose elements are joined one after the other: how an element becomes its components, and those of it that count.
fn joined_one_by_one(put: &str, element: &str, fields: &str) -> String {
    format!(
        "alias Run = Four;
fn run_none() -> Run {{
    return none();
}}
fn run_put(r: Run, {put}, number: U4, here: B4) -> Run {{
{element}    let e = none();
    return join(r, Four({fields}));
}}
fn run_close(r: Run) -> Four {{
    return r;
}}
"
    )
}
