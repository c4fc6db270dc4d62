//! What came from outside, made fit to be read by a person.
//!
//! A client chooses the path of its unix socket, a server what it answers. Shown as it came, such text could move the
//! cursor of a terminal, add a line to a log, or turn the direction of what stands behind it.

use std::borrow::Cow;
use std::fmt::Write as _;

/// Whether a character shows itself and does nothing else. Letters of every script do; controls, line and paragraph
/// separators, what changes the direction of text, and what has no width do not.
pub fn is_printable(c: char) -> bool {
    let stands_alone = c.is_alphanumeric() || matches!(c, ' ' | '"' | '\'' | '\\');
    // What Rust would not show of a `char`: Unicode's Cc, Cf, Cn, Co, Cs, Zl, Zp, Zs, and marks that combine.
    stands_alone || c.escape_debug().eq([c])
}

/// Appends a character, or what stands for it.
pub fn push_printable(c: char, out: &mut String) {
    match c {
        '\n' => out.push_str("\\n"),
        '\r' => out.push_str("\\r"),
        '\t' => out.push_str("\\t"),
        c if is_printable(c) => out.push(c),
        // Into memory.
        c => drop(write!(out, "{}", c.escape_unicode())),
    }
}

/// The same text on one line, with `\n`, `\u{1b}` and the like for what is not [`is_printable`].
pub fn printable(text: &str) -> Cow<'_, str> {
    if text.chars().all(is_printable) {
        return Cow::Borrowed(text);
    }
    let mut out = String::with_capacity(text.len() + 16);
    text.chars().for_each(|c| push_printable(c, &mut out));
    Cow::Owned(out)
}

/// A text without the one end of line that editors add: `\n` or `\r\n`.
pub fn without_line_end(text: &str) -> &str {
    text.strip_suffix('\n').map_or(text, |line| line.strip_suffix('\r').unwrap_or(line))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn text_of_every_script_stays_and_what_acts_is_shown() {
        for text in ["", "plain", "Zürich", "日本語", "Ελλάδα", "a \"b\" \\ c'", "(100 % – ok) → …", "/run/a-b_c.sock"]
        {
            assert_eq!(printable(text), text);
        }
        for (text, shown) in [
            ("a\nb\r\tc", "a\\nb\\r\\tc"),
            ("\u{1b}[2J", "\\u{1b}[2J"),
            ("\u{9b}31m", "\\u{9b}31m"),
            ("gnp.\u{202e}exe", "gnp.\\u{202e}exe"),
            ("\u{2066}x\u{2069}\u{200e}", "\\u{2066}x\\u{2069}\\u{200e}"),
            ("a\u{200b}b\u{feff}", "a\\u{200b}b\\u{feff}"),
            ("a\u{2028}b\u{2029}\u{85}", "a\\u{2028}b\\u{2029}\\u{85}"),
            ("\u{e0041}\0\u{7f}", "\\u{e0041}\\u{0}\\u{7f}"),
        ] {
            assert_eq!(printable(text), shown);
        }
    }
}
