//! Variables of the environment in texts of other programs. A reader marks where one stands; what looks like one and
//! is none is written so that ringway takes it as it is.
//!
//! | | where a variable is replaced |
//! |---|---|
//! | HAProxy | `"${NAME}"` and `"$NAME"` in double quotes; `${NAME}` in addresses, also without |
//! | nginx | nowhere: `${NAME}` in capitals is for `envsubst`, which fills a file in before nginx reads it |
//! | ringway | `${NAME}` in every text; `$${` is a literal `${` |
//!
//! Characters of Unicode's private area mark it, so that a text stays one text on its way.

/// Before the name of a variable. Private characters of Unicode: `clean` takes them out of what is read.
const OPEN: char = '\u{E000}';
/// Behind it.
const CLOSE: char = '\u{E001}';

/// The text without characters that could be taken for a mark.
pub fn clean(text: &str) -> String {
    text.replace([OPEN, CLOSE], "\u{FFFD}")
}

/// The mark of a variable.
pub fn mark(name: &str) -> String {
    format!("{OPEN}{name}{CLOSE}")
}

/// Whether a variable stands in this text.
pub fn is_in(text: &str) -> bool {
    text.contains(OPEN)
}

/// Whether this is the name of a variable.
pub fn is_name(name: &str) -> bool {
    let is_part = |byte: u8| byte.is_ascii_alphanumeric() || byte == b'_';
    !name.is_empty() && !name.as_bytes()[0].is_ascii_digit() && name.bytes().all(is_part)
}

/// Marks each `${NAME}` of a text: where a program replaces them without quotes.
pub fn expand(text: &str) -> String {
    let (mut out, mut rest) = (String::with_capacity(text.len()), text);
    while let Some(at) = rest.find("${") {
        let name = rest[at + 2..].split('}').next().unwrap_or_default();
        let is_whole = rest[at + 2 + name.len()..].starts_with('}');
        out.push_str(&rest[..at]);
        if is_whole && is_name(name) {
            out.push_str(&mark(name));
            rest = &rest[at + 3 + name.len()..];
        } else {
            out.push_str("${");
            rest = &rest[at + 2..];
        }
    }
    out.push_str(rest);
    out
}

/// The names of the variables in a text.
pub fn names(text: &str) -> Vec<&str> {
    text.split(OPEN).skip(1).filter_map(|part| part.split(CLOSE).next()).collect()
}

/// The text as ringway's configuration writes it: `${NAME}` for a variable, `$${` for what only looks like one.
pub fn written(text: &str) -> String {
    text.replace("${", "$${").replace(OPEN, "${").replace(CLOSE, "}")
}

/// The text as messages show it.
pub fn shown(text: &str) -> String {
    text.replace(OPEN, "${").replace(CLOSE, "}")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_a_variable_stays_one_and_what_only_looks_like_one_does_not() {
        assert_eq!(written(&expand("${HOST}:${PORT}")), "${HOST}:${PORT}");
        assert_eq!(written("${HOST}"), "$${HOST}");
        assert_eq!(written(&expand("${HO ST}${")), "$${HO ST}$${");
        assert_eq!(names(&expand("${A}x${B}")), ["A", "B"]);
        assert_eq!(clean(&mark("A")), "\u{FFFD}A\u{FFFD}");
    }
}
