//! Text from outside, made fit to be read: the one place that decides which characters may reach a
//! log, a terminal, or a page.
//!
//! Clients choose topics, client ids and names, and devices describe themselves. A newline in one
//! of them forges a log line, an escape sequence is obeyed by a terminal, and a character that
//! turns the direction of writing makes one name look like another. Such a character is shown as
//! JSON would escape it (`\n`, `\u001b`), so the result of a whole JSON text means what it meant
//! before. A backslash is left as it is: the result is for reading, not for reading back.
//!
//! Who uses what: [`line()`] for a name within a line or a table's row; [`page`] for text that has
//! lines of its own and for JSON, as the last step before it leaves; [`Escape`] beneath the log's
//! formatter.

use std::{
    borrow::Cow,
    fmt::{self, Write},
};

/// Whether `c` does something in place of being seen: a control character, a separator of lines or
/// paragraphs, one that turns the direction of writing, one without a width.
#[must_use]
pub fn is_unprintable(c: char) -> bool {
    c.is_control() || is_invisible(c) || matches!(c, '\u{2028}' | '\u{2029}')
}

/// Characters without a width, and those that turn the direction of writing: two names that look
/// alike.
#[must_use]
pub fn is_invisible(c: char) -> bool {
    matches!(
        c,
        '\u{ad}'
            | '\u{61c}'
            | '\u{180e}'
            | '\u{200b}'..='\u{200f}'
            | '\u{202a}'..='\u{202e}'
            | '\u{2060}'..='\u{206f}'
            | '\u{feff}'
            | '\u{fff9}'..='\u{fffb}'
            | '\u{e0000}'..='\u{e007f}'
    )
}

/// `text` within one line: no newline either.
#[must_use]
pub fn line(text: &str) -> Cow<'_, str> {
    escaped(text, is_unprintable)
}

/// `text` with lines of its own: its newlines stay.
#[must_use]
pub fn page(text: &str) -> Cow<'_, str> {
    escaped(text, |c| c != '\n' && is_unprintable(c))
}

fn escaped(text: &str, is_escaped: impl Fn(char) -> bool) -> Cow<'_, str> {
    if !text.chars().any(&is_escaped) {
        return Cow::Borrowed(text);
    }
    let mut out = String::with_capacity(text.len() + 16);
    for c in text.chars() {
        // A string takes whatever it is given.
        let _ = if is_escaped(c) { write_escaped(&mut out, c) } else { out.write_char(c) };
    }
    Cow::Owned(out)
}

fn write_escaped(out: &mut dyn Write, c: char) -> fmt::Result {
    match c {
        '\n' => out.write_str("\\n"),
        '\r' => out.write_str("\\r"),
        '\t' => out.write_str("\\t"),
        c => c.encode_utf16(&mut [0; 2]).iter().try_for_each(|unit| write!(out, "\\u{unit:04x}")),
    }
}

/// Writes on what is written to it, as [`line()`] would, and no more than so many bytes of it.
pub struct Escape<'a> {
    out: &'a mut dyn Write,
    room_bytes: usize,
    is_cut: bool,
}

impl<'a> Escape<'a> {
    /// Onto `out`, `most_bytes` at the most; what is left out shows as `...`.
    pub fn new(out: &'a mut dyn Write, most_bytes: usize) -> Self {
        Self { out, room_bytes: most_bytes, is_cut: false }
    }
}

impl Write for Escape<'_> {
    fn write_str(&mut self, text: &str) -> fmt::Result {
        if self.is_cut {
            return Ok(());
        }
        // An escaped character takes up to six times as much: the limit is of what is read, near
        // enough.
        let end = text.floor_char_boundary(self.room_bytes);
        self.room_bytes -= end;
        self.out.write_str(&line(&text[..end]))?;
        if end < text.len() {
            self.is_cut = true;
            self.out.write_str("...")?;
        }
        Ok(())
    }
}

#[cfg(test)]
pub(crate) mod hostile;

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn what_acts_on_a_terminal_is_shown_and_the_rest_is_left_alone() {
        for (text, expected) in [
            ("barn-3/büro ☂ \\n \"q\"", "barn-3/büro ☂ \\n \"q\""),
            ("a\n2026 ERROR\r\tx", "a\\n2026 ERROR\\r\\tx"),
            ("\u{1b}[31mred\u{7}\0", "\\u001b[31mred\\u0007\\u0000"),
            ("\u{7f}\u{9b}2J", "\\u007f\\u009b2J"),
            ("a\u{202e}b\u{2066}\u{2028}\u{feff}", "a\\u202eb\\u2066\\u2028\\ufeff"),
            ("\u{e0041}", "\\udb40\\udc41"),
        ] {
            assert_eq!(line(text), expected);
        }
        assert_eq!(page("a\nb\u{1b}"), "a\nb\\u001b");
    }

    #[test]
    fn a_text_of_64_kb_is_cut_and_says_so() {
        let mut out = String::new();
        let mut escape = Escape::new(&mut out, 9);
        write!(escape, "topic={}", "ä\n".repeat(64 * 1024 / 3)).unwrap();
        write!(escape, " and more").unwrap();
        assert_eq!(out, "topic=ä\\n...");
    }

    proptest! {
        #[test]
        fn nothing_that_acts_comes_out_and_json_keeps_its_meaning(text in any::<String>()) {
            prop_assert!(!line(&text).chars().any(is_unprintable));
            let json = serde_json::to_string(&text).unwrap();
            let shown = page(&json);
            prop_assert!(!shown.chars().any(is_unprintable));
            prop_assert_eq!(serde_json::from_str::<String>(&shown).unwrap(), text);
        }
    }
}
