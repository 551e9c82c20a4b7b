//! WGSL in which every product that is added to something is rounded together with the sum, as a compiler may do it.
//!
//! Owns: the rewriting of `a * b + c`, `a * b - c` and `c - a * b` in statements to `fused(a, b, c)`, a function of who runs the text. Must not know: what the
//! text computes. Invariant: all else means the same; products of integers are left alone, which are told by names and by bits being moved or masked.

/// An expression's text, and its two factors if it is a product.
struct Term {
    text: String,
    factors: Option<(String, String)>,
}

impl Term {
    fn of(text: String) -> Self {
        Self { text, factors: None }
    }
}

struct Parser<'a> {
    tokens: Vec<&'a str>,
    at: usize,
    /// Names of integers.
    whole: &'a [&'a str],
    count: usize,
}

/// Operators of two operands, those that bind least first.
const LEVELS: [&[&str]; 8] =
    [&["||"], &["&&"], &["|"], &["^"], &["&"], &["==", "!=", "<", ">", "<=", ">="], &["<<", ">>"], &["+", "-"]];

fn is_word(c: char) -> bool {
    c.is_ascii_alphanumeric() || c == '_'
}

/// Words, numbers (`1.5e-3lf` is one), and operators; a type with its parameters is a word.
fn tokens(text: &str) -> Vec<&str> {
    let mut tokens = Vec::new();
    let mut rest = text.trim_start();
    while let Some(first) = rest.chars().next() {
        let len = if is_word(first) {
            let number = first.is_ascii_digit();
            let mut end = 1;
            while let Some(c) = rest[end..].chars().next() {
                let exponent = number && !rest.starts_with("0x") && rest[..end].ends_with('e') && "+-".contains(c);
                if !(is_word(c) || number && c == '.' || exponent) {
                    break;
                }
                end += 1;
            }
            let is_type = ["bitcast", "array", "vec4"].contains(&&rest[..end]) && rest[end..].starts_with('<');
            if is_type { rest.find('>').expect("the end of a type") + 1 } else { end }
        } else {
            let two = ["||", "&&", "==", "!=", "<=", ">=", "<<", ">>"];
            if two.iter().any(|op| rest.starts_with(op)) { 2 } else { 1 }
        };
        tokens.push(&rest[..len]);
        rest = rest[len..].trim_start();
    }
    tokens
}

impl Parser<'_> {
    fn peek(&self) -> &str {
        self.tokens.get(self.at).copied().unwrap_or("")
    }

    fn next(&mut self) -> String {
        self.at += 1;
        self.tokens[self.at - 1].to_owned()
    }

    fn expression(&mut self, level: usize) -> Term {
        if level == LEVELS.len() {
            return self.product();
        }
        let mut left = self.expression(level + 1);
        while LEVELS[level].contains(&self.peek()) {
            let op = self.next();
            let right = self.expression(level + 1);
            left = Term::of(self.joined(left, &op, right));
        }
        left
    }

    /// Both operands with the operator between, or their product and sum in one.
    fn joined(&mut self, left: Term, op: &str, right: Term) -> String {
        let plain = format!("({} {op} {})", left.text, right.text);
        let whole = plain.contains(['&', '|', '^']) && !plain.contains("bitcast")
            || plain.contains(">>")
            || tokens(&plain).iter().any(|token| self.whole.contains(token));
        if whole || !["+", "-"].contains(&op) {
            return plain;
        }
        let fused = match (&left.factors, &right.factors) {
            (_, Some((a, b))) if op == "+" => format!("fused(D4({a}), D4({b}), D4({}))", left.text),
            (_, Some((a, b))) => format!("fused(D4(-{a}), D4({b}), D4({}))", left.text),
            (Some((a, b)), _) if op == "+" => format!("fused(D4({a}), D4({b}), D4({}))", right.text),
            (Some((a, b)), _) => format!("fused(D4({a}), D4({b}), D4(-{}))", right.text),
            _ => return plain,
        };
        self.count += 1;
        fused
    }

    fn product(&mut self) -> Term {
        let mut left = self.unary();
        while ["*", "/", "%"].contains(&self.peek()) {
            let op = self.next();
            let right = self.unary();
            let text = format!("({} {op} {})", left.text, right.text);
            left = Term { text, factors: (op == "*").then_some((left.text, right.text)) };
        }
        left
    }

    fn unary(&mut self) -> Term {
        if ["-", "!"].contains(&self.peek()) {
            let sign = self.next();
            return Term::of(format!("({sign}{})", self.unary().text));
        }
        let mut text = self.next();
        if text == "(" {
            let inner = self.expression(0);
            assert_eq!(self.next(), ")");
            // Brackets are no bar to contraction.
            return if self.peek() == "." || self.peek() == "[" { panic!("a part of a bracket") } else { inner };
        }
        loop {
            match self.peek() {
                "(" => text += &self.list(")"),
                "[" => text += &self.list("]"),
                "." => text += &[self.next(), self.next()].concat(),
                _ => return Term::of(text),
            }
        }
    }

    /// Arguments, with their brackets.
    fn list(&mut self, end: &str) -> String {
        let mut text = self.next();
        while self.peek() != end {
            text += &self.expression(0).text;
            if self.peek() == "," {
                text += &self.next();
            }
        }
        text + &self.next()
    }
}

/// The text, contracted, and in how many places. `whole` are names of integers that are multiplied and added.
///
/// # Panics
/// If it finds a statement that it cannot read.
pub fn contracted(text: &str, whole: &[&str]) -> (String, usize) {
    let code: String = text.lines().map(|line| line.split("//").next().unwrap_or(line).to_owned() + "\n").collect();
    let (mut out, mut count) = (String::new(), 0);
    for piece in code.split_inclusive(';') {
        let start = piece.rfind(['{', '}']).map_or(0, |brace| brace + 1);
        let statement = &piece[start..];
        let begin = match statement.trim_start().strip_prefix("return ") {
            Some(value) => Some(statement.len() - value.len()),
            None if statement.trim_start().starts_with("const ") => None,
            None => statement.find(" = ").map(|at| at + 3),
        };
        let Some((begin, value)) = begin.and_then(|at| statement[at..].strip_suffix(';').map(|value| (at, value))) else {
            out += piece;
            continue;
        };
        let mut parser = Parser { tokens: tokens(value), at: 0, whole, count: 0 };
        let value = parser.expression(0).text;
        assert_eq!(parser.at, parser.tokens.len(), "what is `{}` in `{statement}`?", parser.peek());
        count += parser.count;
        out += &format!("{}{}{value};", &piece[..start], &statement[..begin]);
    }
    (out, count)
}
