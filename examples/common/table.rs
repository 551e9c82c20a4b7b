//! Tables for terminals of any width.
//!
//! Owns: [`Table`], and what is known of the terminal. Must not know: what the cells mean. Invariant: without colour there is no escape
//! code; a table that is too wide becomes a list, and loses nothing.

use std::io::IsTerminal;

/// One cell.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Cell {
    /// What it says.
    pub text: String,
    /// Whether it is the one to look at in its row.
    pub strong: bool,
}

impl<T: Into<String>> From<T> for Cell {
    fn from(text: T) -> Self {
        Self { text: text.into(), strong: false }
    }
}

/// Rows under headings. The first `names` columns say what a row is, and are aligned left; numbers are aligned right.
#[derive(Clone, Debug, Default)]
pub struct Table {
    /// The headings.
    pub heading: Vec<String>,
    /// Columns that name the row.
    pub names: usize,
    /// The rows; a missing cell is empty.
    pub rows: Vec<Vec<Cell>>,
}

impl Table {
    /// The lines, at most `width` wide where that is possible.
    pub fn lines(&self, width: usize, colour: bool) -> Vec<String> {
        let columns = self.heading.len();
        let cell = |row: &[Cell], c: usize| row.get(c).map_or(0, |cell| cell.text.chars().count());
        let widest = |c: usize| self.rows.iter().map(|r| cell(r, c)).max().unwrap_or(0).max(self.heading[c].chars().count());
        let widths: Vec<usize> = (0..columns).map(widest).collect();
        if widths.iter().sum::<usize>() + 2 * columns.saturating_sub(1) > width {
            return self.list(width, colour);
        }
        let heading: Vec<Cell> = self.heading.iter().map(|h| h.as_str().into()).collect();
        let line = |row: &Vec<Cell>| {
            let mut text = String::new();
            for (c, &wide) in widths.iter().enumerate() {
                let empty = Cell::default();
                let cell = row.get(c).unwrap_or(&empty);
                let blanks = " ".repeat(wide - cell.text.chars().count());
                let gap = if c == 0 { "" } else { "  " };
                let shown = painted(cell, colour);
                text += &if c < self.names { format!("{gap}{shown}{blanks}") } else { format!("{gap}{blanks}{shown}") };
            }
            text.trim_end().to_owned()
        };
        std::iter::once(&heading).chain(&self.rows).map(line).collect()
    }

    /// Each row as its name and indented `heading value` pairs.
    fn list(&self, width: usize, colour: bool) -> Vec<String> {
        let mut lines = Vec::new();
        for row in &self.rows {
            let name: Vec<&str> = row.iter().take(self.names).map(|c| c.text.as_str()).collect();
            lines.push(name.join(" "));
            let mut used = 0;
            let pairs = self.heading.iter().zip(row).skip(self.names).filter(|(_, cell)| !cell.text.is_empty());
            for (heading, cell) in pairs {
                let long = heading.chars().count() + 1 + cell.text.chars().count();
                let pair = format!("{heading} {}", painted(cell, colour));
                match lines.last_mut() {
                    Some(line) if used > 0 && used + 3 + long <= width => {
                        *line += &format!("   {pair}");
                        used += 3 + long;
                    }
                    _ => {
                        lines.push(format!("  {pair}"));
                        used = 2 + long;
                    }
                }
            }
        }
        lines
    }

    /// As Markdown.
    pub fn markdown(&self) -> String {
        let line = |cells: &mut dyn Iterator<Item = String>| format!("| {} |\n", cells.collect::<Vec<_>>().join(" | "));
        let mut text = line(&mut self.heading.iter().map(|h| escaped(h)));
        text += &line(&mut (0..self.heading.len()).map(|c| if c < self.names { "---" } else { "---:" }.to_owned()));
        for row in &self.rows {
            text += &line(&mut (0..self.heading.len()).map(|c| {
                let cell = row.get(c).cloned().unwrap_or_default();
                let shown = escaped(&cell.text);
                if cell.strong && !shown.is_empty() { format!("**{shown}**") } else { shown }
            }));
        }
        text
    }
}

fn escaped(text: &str) -> String {
    text.replace('|', "\\|").replace('\n', " ")
}

fn painted(cell: &Cell, colour: bool) -> String {
    if colour && cell.strong { format!("\x1b[1;32m{}\x1b[0m", cell.text) } else { cell.text.clone() }
}

/// A sentence in lines of at most `width`, broken between words; further lines are indented.
pub fn wrapped(text: &str, width: usize) -> Vec<String> {
    if text.chars().count() <= width {
        return vec![text.to_owned()];
    }
    let mut lines = vec![String::new()];
    let indent = text.len() - text.trim_start().len();
    for word in text.split_whitespace() {
        let first = lines.len() == 1;
        let Some(line) = lines.last_mut() else { break };
        let used = line.chars().count();
        if used == 0 {
            *line = format!("{}{word}", " ".repeat(if first { indent } else { indent + 2 }));
        } else if used + 1 + word.chars().count() > width {
            lines.push(format!("{}{word}", " ".repeat(indent + 2)));
        } else {
            *line += &format!(" {word}");
        }
    }
    lines
}

/// The width to write for, and whether colour is welcome on stdout: `COLUMNS`, else the terminal's own; what is not a terminal has no
/// colour and any width.
pub fn terminal() -> (usize, bool) {
    let terminal = std::io::stdout().is_terminal();
    let set = std::env::var("COLUMNS").ok().and_then(|c| c.parse().ok()).filter(|&c: &usize| c >= 20);
    let asked = || if terminal { super::process::terminal_width() } else { None };
    let plain =
        std::env::var_os("NO_COLOR").is_some_and(|v| !v.is_empty()) || std::env::var_os("TERM").is_some_and(|t| t == "dumb");
    (set.or_else(asked).unwrap_or(usize::MAX), terminal && !plain)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn table() -> Table {
        let strong = |text: &str| Cell { text: text.into(), strong: true };
        Table {
            heading: ["workload", "size", "cpu", "gpu | why"].map(String::from).to_vec(),
            names: 2,
            rows: vec![vec!["matvec".into(), "4000²".into(), strong("9.8 ms"), "12 ms".into()], vec!["x".into(), "1".into()]],
        }
    }

    #[test]
    fn columns_are_aligned_and_lines_end_without_blanks() {
        let wanted = "\
workload  size      cpu  gpu | why
matvec    4000²  9.8 ms      12 ms
x         1";
        assert_eq!(table().lines(80, false).join("\n"), wanted);
        assert_eq!(table().lines(34, false).len(), 3);
        let coloured = table().lines(80, true).join("\n");
        assert!(coloured.contains("\x1b[1;32m9.8 ms\x1b[0m") && coloured.matches('\x1b').count() == 2);
    }

    #[test]
    fn a_narrow_terminal_gets_a_list_with_everything() {
        let lines = table().lines(33, false);
        assert_eq!(lines, ["matvec 4000²", "  cpu 9.8 ms   gpu | why 12 ms", "x 1"]);
        assert_eq!(table().lines(20, false)[..3], ["matvec 4000²", "  cpu 9.8 ms", "  gpu | why 12 ms"]);
    }

    #[test]
    fn sentences_break_between_words() {
        assert_eq!(wrapped("one two three four", 12), ["one two", "  three four"]);
        assert_eq!(wrapped("  a tremendously long", 10), ["  a", "    tremendously", "    long"]);
        assert_eq!(wrapped("one   two", usize::MAX), ["one   two"]);
        assert_eq!(wrapped("", 10), [""]);
    }

    #[test]
    fn markdown_escapes_bars_and_marks_the_strong() {
        let text = table().markdown();
        assert!(text.starts_with("| workload | size | cpu | gpu \\| why |\n| --- | --- | ---: | ---: |\n"), "{text}");
        assert!(text.contains("| **9.8 ms** | 12 ms |\n| x | 1 |  |  |"), "{text}");
    }
}
