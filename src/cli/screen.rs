//! Where a command writes: data to `out`, everything else to `err`, colours only where a person looks.
//!
//! INVARIANT: text that came from events goes to a screen only through [`printable`] or as JSON, so that no
//! id or event type can move the cursor of a terminal.

use super::failure::{Done, Failure};
use std::io::{self, IsTerminal, Write};

/// Where a command writes.
pub struct Screen<'a> {
    /// Data.
    pub out: &'a mut dyn Write,
    /// Everything else.
    pub err: &'a mut dyn Write,
    /// Data may be coloured.
    pub is_coloured: bool,
}

/// What a piece of a line means; the terminal's theme decides how it looks.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Ink {
    Added,
    Removed,
    Changed,
    Name,
}

impl Screen<'_> {
    /// Writes one line of data.
    pub(super) fn line(&mut self, text: &str) -> Done {
        Ok(writeln!(self.out, "{text}")?)
    }

    /// Says something that is not data. A closed stderr is nobody's problem.
    pub(super) fn say(&mut self, text: &str) {
        writeln!(self.err, "{text}").unwrap_or_default();
    }

    /// Says why the command failed.
    pub(super) fn fail(&mut self, failure: &Failure) {
        if !failure.message.is_empty() {
            self.say(&format!("error: {}", failure.message));
        }
        if let Some(hint) = &failure.hint {
            self.say(&format!("hint: {hint}"));
        }
    }

    /// The text as it is to be written: coloured or plain.
    pub(super) fn ink(&self, ink: Ink, text: &str) -> String {
        let code = match ink {
            Ink::Added => "32",
            Ink::Removed => "31",
            Ink::Changed => "33",
            Ink::Name => "1",
        };
        if self.is_coloured { format!("\x1b[{code}m{text}\x1b[0m") } else { text.to_owned() }
    }
}

/// True if data should be coloured: stdout is a terminal that can, and nobody said `NO_COLOR`.
pub(super) fn wants_colour() -> bool {
    let is_set = |name| std::env::var_os(name).is_some_and(|value| !value.is_empty());
    let is_dumb = std::env::var_os("TERM").is_some_and(|term| term == "dumb");
    io::stdout().is_terminal() && !is_set("NO_COLOR") && !is_dumb
}

/// Foreign text on one line: control characters are written out, and so are those that turn the
/// direction of text.
pub(super) fn printable(text: &str) -> String {
    let mut shown = String::with_capacity(text.len());
    for c in text.chars() {
        let turns = matches!(c, '\u{200e}' | '\u{200f}' | '\u{202a}'..='\u{202e}' | '\u{2066}'..='\u{2069}');
        if c.is_control() || turns {
            shown.extend(c.escape_default());
        } else {
            shown.push(c);
        }
    }
    shown
}

/// Which way a column is aligned.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Align {
    Left,
    Right,
}

/// Rows as lines, columns two blanks apart and as wide as their widest cell, nothing after the last one.
pub(super) fn columns(aligns: &[Align], rows: &[Vec<String>]) -> Vec<String> {
    let width =
        |nth: usize| rows.iter().filter_map(|row| row.get(nth)).map(|cell| cell.chars().count()).max();
    let widths: Vec<usize> = (0..aligns.len()).map(|nth| width(nth).unwrap_or(0)).collect();
    let line = |row: &Vec<String>| {
        let cells = row.iter().zip(aligns.iter().zip(&widths)).map(|(cell, (align, width))| match align {
            Align::Left => format!("{cell:<width$}"),
            Align::Right => format!("{cell:>width$}"),
        });
        cells.collect::<Vec<_>>().join("  ").trim_end().to_owned()
    };
    rows.iter().map(line).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn columns_are_as_wide_as_their_widest_cell() {
        let rows =
            [vec!["9".into(), "short".into(), "x".into()], vec!["10".into(), "ü".into(), String::new()]];
        assert_eq!(columns(&[Align::Right, Align::Left, Align::Left], &rows), [" 9  short  x", "10  ü"]);
    }

    #[test]
    fn foreign_text_cannot_move_the_cursor() {
        assert_eq!(printable("a\x1b[2J\u{9b}b\n\u{202e}ü"), "a\\u{1b}[2J\\u{9b}b\\n\\u{202e}ü");
    }
}
