//! WGSL rewritten as drivers may compile it: what they fuse, what they flush.
//!
//! Owns: the reading of the text (functions of `let`, `var`, assignments and `return`, as in shaders/math_f32.wgsl) and the rewriting of its
//! float arithmetic. Must not know: what is computed. Invariant: a text that is not understood is a panic; what is not float arithmetic stays as it is.

use std::collections::BTreeMap;

/// What a driver does to float arithmetic.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Driver {
    /// `a * b + c` is rounded once; of two products the first is fused.
    FusesFirst,
    /// The same; of two products the second is fused.
    FusesSecond,
    /// Subnormal operands and results are 0.
    Flushes,
}

/// An expression.
#[derive(Clone, Debug)]
enum Term {
    /// A name or a number.
    Word(String),
    /// A function with its arguments.
    Call(String, Vec<Term>),
    Index(Box<Term>, String),
    Inside(Box<Term>),
    Sign(String, Box<Term>),
    Pair(Box<Term>, String, Box<Term>),
}

/// Operators, loosest first.
const LEVELS: [&[&str]; 6] =
    [&["|", "^"], &["&"], &["==", "!=", "<", "<=", ">", ">="], &["<<", ">>"], &["+", "-"], &["*", "/", "%"]];

fn words(text: &str) -> Vec<String> {
    let mut words = Vec::new();
    let mut rest = text.trim_start();
    while let Some(first) = rest.chars().next() {
        let is_word = |c: char| c.is_ascii_alphanumeric() || "_.".contains(c);
        let mut len = rest.find(|c| !is_word(c)).unwrap_or(rest.len());
        if len == 0 {
            len = if ["<<", ">>", "==", "!=", "<=", ">=", "+=", "-="].iter().any(|op| rest.starts_with(op)) { 2 } else { 1 };
        } else if first.is_ascii_digit() && rest[..len].ends_with('e') && !rest.starts_with("0x") {
            // The sign of an exponent.
            len += 1 + rest[len + 1..].find(|c| !is_word(c)).unwrap_or(rest.len() - len - 1);
        } else if ["bitcast<", "mat2x4<", "mat3x4<", "mat4x4<"].iter().any(|name| rest.starts_with(name)) {
            len = rest.find('>').expect("a type") + 1;
        }
        words.push(rest[..len].to_owned());
        rest = rest[len..].trim_start();
    }
    words
}

struct Reader {
    words: Vec<String>,
    at: usize,
}

impl Reader {
    fn peek(&self) -> &str {
        self.words.get(self.at).map_or("", String::as_str)
    }

    fn take(&mut self) -> String {
        let word = self.words.get(self.at).unwrap_or_else(|| panic!("{} ends too soon", self.words.join(" ")));
        self.at += 1;
        word.clone()
    }

    fn expect(&mut self, word: &str) {
        assert_eq!(self.take(), word, "in {}", self.words.join(" "));
    }

    fn level(&mut self, level: usize) -> Term {
        let Some(operators) = LEVELS.get(level) else { return self.single() };
        let mut left = self.level(level + 1);
        while operators.contains(&self.peek()) {
            let operator = self.take();
            left = Term::Pair(left.into(), operator, self.level(level + 1).into());
        }
        left
    }

    fn single(&mut self) -> Term {
        if ["-", "!", "~", "&"].contains(&self.peek()) {
            return Term::Sign(self.take(), self.single().into());
        }
        let mut term = if self.peek() == "(" {
            self.expect("(");
            let inside = self.level(0);
            self.expect(")");
            Term::Inside(inside.into())
        } else {
            let word = self.take();
            if self.peek() == "(" { Term::Call(word, self.arguments()) } else { Term::Word(word) }
        };
        while self.peek() == "[" {
            self.expect("[");
            term = Term::Index(term.into(), self.take());
            self.expect("]");
        }
        term
    }

    fn arguments(&mut self) -> Vec<Term> {
        self.expect("(");
        let mut arguments = Vec::new();
        while self.peek() != ")" {
            arguments.push(self.level(0));
            if self.peek() != ")" {
                self.expect(",");
            }
        }
        self.expect(")");
        arguments
    }
}

/// What is known of names: whether they are floats, or functions that give floats.
struct Writer {
    driver: Driver,
    floats: BTreeMap<String, bool>,
}

impl Writer {
    fn is_float(&self, term: &Term) -> bool {
        match term {
            Term::Word(word) if word.starts_with(|c: char| c.is_ascii_digit()) => {
                !word.starts_with("0x") && word.contains(['.', 'e'])
            }
            Term::Word(word) => self.floats.get(word).copied().unwrap_or_else(|| panic!("{word} is unknown")),
            Term::Index(..) => true,
            Term::Inside(term) | Term::Sign(_, term) => self.is_float(term),
            Term::Pair(left, operator, _) => !LEVELS[2].contains(&operator.as_str()) && self.is_float(left),
            Term::Call(name, arguments) => match name.as_str() {
                "F4" | "bitcast<F4>" | "f32" => true,
                "select" | "min" | "max" | "clamp" | "floor" | "trunc" | "abs" => self.is_float(&arguments[0]),
                name => self.floats.get(name).copied().unwrap_or(false),
            },
        }
    }

    fn text(&self, term: &Term) -> String {
        match term {
            Term::Word(word) => word.clone(),
            Term::Index(term, index) => format!("{}[{index}]", self.text(term)),
            Term::Inside(term) => format!("({})", self.text(term)),
            Term::Sign(operator, term) => format!("{operator}{}", self.text(term)),
            Term::Call(name, arguments) => {
                let arguments: Vec<String> = arguments.iter().map(|a| self.text(a)).collect();
                format!("{name}({})", arguments.join(", "))
            }
            Term::Pair(left, operator, right) => self.pair(left, operator, right),
        }
    }

    fn pair(&self, left: &Term, operator: &str, right: &Term) -> String {
        let plain = format!("{} {operator} {}", self.text(left), self.text(right));
        let (sum, product) = (["+", "-"].contains(&operator), ["*", "/"].contains(&operator));
        if !(sum || product) || !self.is_float(left) {
            return plain;
        }
        if self.driver == Driver::Flushes {
            return format!("flushed(flushed(F4({})) {operator} flushed(F4({})))", self.text(left), self.text(right));
        }
        let minus = if operator == "-" { "-" } else { "" };
        let first = factors(left)
            .map(|(a, b)| format!("fused(F4({}), F4({}), {minus}F4({}))", self.text(a), self.text(b), self.text(right)));
        let second = factors(right)
            .map(|(a, b)| format!("fused({minus}F4({}), F4({}), F4({}))", self.text(a), self.text(b), self.text(left)));
        match (sum, self.driver) {
            (false, _) => plain,
            (true, Driver::FusesFirst) => first.or(second).unwrap_or(plain),
            (true, _) => second.or(first).unwrap_or(plain),
        }
    }

    /// A statement without its `;`.
    fn statement(&mut self, statement: &str) -> String {
        let start = statement.find(|c: char| !c.is_whitespace()).unwrap_or(statement.len());
        let (indent, code) = statement.split_at(start);
        let (head, value) = match code.split_once(' ') {
            Some(("return", value)) => ("return", value),
            Some(("let" | "var", _)) => code.split_once(" =").expect("a value"),
            // Assignments of integers, and what is in the head of a loop.
            _ => return statement.to_owned(),
        };
        let mut reader = Reader { words: words(value), at: 0 };
        let term = reader.level(0);
        assert_eq!(reader.at, reader.words.len(), "{code}");
        if let Some(name) = head.strip_prefix("let ").or_else(|| head.strip_prefix("var ")) {
            let float = self.is_float(&term);
            self.floats.insert(name.to_owned(), float);
            return format!("{indent}{head} = {}", self.text(&term));
        }
        format!("{indent}{head} {}", self.text(&term))
    }
}

/// The factors, if it is a product, in brackets or not.
fn factors(term: &Term) -> Option<(&Term, &Term)> {
    match term {
        Term::Inside(inside) => factors(inside),
        Term::Pair(left, operator, right) if operator == "*" => Some((left, right)),
        _ => None,
    }
}

/// What the rewritten text calls. A product of two `f32` is exact in `f64`, and a sum nearly so: it rounds once.
const FUSED: &str = "
fn fused(a: F4, b: F4, c: F4) -> F4 {
    return F4(vec4<f64>(a) * vec4<f64>(b) + vec4<f64>(c));
}
";
const FLUSHED: &str = "
fn flushed(x: F4) -> F4 {
    let b = bitcast<U4>(x);
    return select(x, bitcast<F4>(b & U4(0x80000000u)), (b & U4(0x7fffffffu)) < U4(0x00800000u));
}
";

/// The text as this driver takes it. The module has `F4`, `U4` and, if something is fused, may compute in `f64`.
///
/// # Panics
/// If the text is not understood.
pub fn as_compiled(text: &str, driver: Driver) -> String {
    let code: String = text.lines().map(|line| line.split("//").next().unwrap_or(line).to_owned() + "\n").collect();
    let mut out = String::new();
    // Names of all functions and constants are known everywhere, those of arguments in their function.
    let mut known = BTreeMap::from([("opaque_f".to_owned(), true)]);
    for head in code.lines().filter(|line| line.starts_with("fn ") || line.starts_with("const ")) {
        let name = head.split([' ', '(', ':']).nth(1).expect("a name");
        known.insert(name.to_owned(), head.starts_with("const ") || head.ends_with("-> F4 {"));
    }
    let mut writer = Writer { driver, floats: known.clone() };
    for piece in code.split_inclusive([';', '{', '}']) {
        let head = piece.trim_start();
        if let Some(arguments) = head.strip_prefix("fn ").and_then(|head| head.split(['(', ')']).nth(1)) {
            writer.floats = known.clone();
            for argument in arguments.split(", ").filter(|a| !a.is_empty()) {
                let (name, kind) = argument.split_once(": ").expect("a type");
                writer.floats.insert(name.to_owned(), ["F4", "f32"].contains(&kind));
            }
            out += piece;
        } else if let Some(statement) = piece.strip_suffix(';').filter(|_| !head.starts_with("const ")) {
            out += &writer.statement(statement);
            out.push(';');
        } else {
            out += piece;
        }
    }
    out + if driver == Driver::Flushes { FLUSHED } else { FUSED }
}
