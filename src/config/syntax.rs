//! Text that is not TOML: what it looks like, and what to write instead. Pure.
//!
//! The parser says where a line stops being TOML, which is rarely what the author needs: for YAML it misses a `=`. So
//! the line itself is examined, and each line gets one message. A file that is JSON, YAML or a configuration of another
//! program gets one message in all.

use super::error::{Places, Problem};
use super::foreign;
use super::keys::{self, Kind, Section};
use super::value::{At, of_unquoted};

/// The text of a file. It must be UTF-8.
///
/// # Errors
/// Why it is no text in UTF-8, and what to do.
pub fn text_of(bytes: Vec<u8>) -> Result<String, String> {
    if bytes.starts_with(&[0xff, 0xfe]) || bytes.starts_with(&[0xfe, 0xff]) {
        return Err("it is UTF-16; save it as UTF-8".to_string());
    }
    String::from_utf8(bytes).map_err(|error| {
        let (good, bytes) = (error.utf8_error().valid_up_to(), error.as_bytes());
        let line = bytes[..good].iter().filter(|byte| **byte == b'\n').count() + 1;
        format!("line {line} holds the byte 0x{:02x}, which is no UTF-8; save it as UTF-8", bytes[good])
    })
}

/// Turns the errors of the parser into problems for the author, one per line.
pub(super) fn problems(errors: &[toml::de::Error], text: &str, places: &Places<'_>) -> Vec<At<Problem>> {
    let mut errors: Vec<(usize, &str)> =
        errors.iter().map(|error| (super::start_of(error, text), error.message())).collect();
    errors.sort_by_key(|(start, _)| *start);
    let Some((first, _)) = errors.first() else { return Vec::new() };
    if let Some(why) = of_another_program(text, places.line(*first)) {
        return vec![(*first..*first, Problem::Syntax(why.to_string()))];
    }
    let lines: Vec<&str> = text.lines().collect();
    let headers = headers(&lines);
    let (mut found, mut last, mut skipped) = (Vec::new(), 0, None);
    for (start, message) in errors {
        let line = places.line(start);
        let header = headers.get(line - 1).copied().flatten();
        // The parser merges the keys below a repeated header with those below the first one, so its next errors there
        // mean nothing.
        if line == last || (skipped.is_some() && skipped == header) {
            continue;
        }
        last = line;
        let written = lines.get(line - 1).copied().unwrap_or_default();
        let message = message.replace('\n', " ");
        let why = if message.starts_with("duplicate key") {
            if is_header(written) {
                skipped = Some(line);
            }
            twice(&lines, line, header, text.get(start..).unwrap_or_default())
        } else {
            instead(written, section(&lines, header), &message).map_or(message, |why| {
                foreign::with_name(&why, header.and_then(|line| lines.get(line - 1)).map_or("", |line| line.trim()))
            })
        };
        found.push((start..start, Problem::Syntax(why)));
    }
    found
}

/// Recognizes a file in the format of another program, by the line where the parser stopped.
fn of_another_program(text: &str, first_wrong: usize) -> Option<&'static str> {
    if text.contains('\r') && !text.contains('\n') {
        return Some("its lines end with a carriage return alone; save it with line ends of Linux");
    }
    let (at, line) = text
        .lines()
        .enumerate()
        .map(|(at, line)| (at + 1, line.trim()))
        .find(|(_, line)| !line.is_empty() && !line.starts_with('#'))?;
    if at != first_wrong {
        return None;
    }
    let first = line.split_whitespace().next().unwrap_or_default();
    let is_alone = |word: &str| word.bytes().all(|byte| byte.is_ascii_alphanumeric() || b"_-".contains(&byte));
    const HAPROXY: [&str; 8] =
        ["global", "defaults", "frontend", "backend", "listen", "peers", "resolvers", "userlist"];
    if first == "{" || line.starts_with("{\"") {
        Some("this is JSON; a configuration of ringway is TOML: `ringway reference` prints one")
    } else if line.ends_with('{') && is_alone(first) || (line.ends_with(';') && !line.contains('=')) {
        Some("this is a configuration of nginx; one of ringway is TOML: `ringway reference` prints one")
    } else if HAPROXY.contains(&first) && line.split_whitespace().count() <= 2 {
        Some("this is a configuration of HAProxy; one of ringway is TOML: `ringway reference` prints one")
    } else if line == "---" || line.strip_suffix(':').is_some_and(is_alone) {
        Some("this is YAML; a configuration of ringway is TOML: `ringway reference` prints one")
    } else if line.starts_with('<') {
        Some("this is XML; a configuration of ringway is TOML: `ringway reference` prints one")
    } else {
        None
    }
}

/// The message for a key or a table that is given twice.
fn twice(lines: &[&str], line: usize, header: Option<usize>, from_key: &str) -> String {
    let written = lines[line - 1].trim();
    if is_header(written) {
        let name = written.split('#').next().unwrap_or_default().trim();
        if name.ends_with(".backends]") || name.ends_with(".routes]") {
            let name = name.trim_matches(['[', ']']);
            return format!("[{name}] is given twice; write it with two brackets each time: [[{name}]]");
        }
        let first =
            lines[..line - 1].iter().position(|other| other.split('#').next().unwrap_or_default().trim() == name);
        return match first {
            Some(first) => format!("{name} is given twice, first on line {}; write all its keys there", first + 1),
            None => format!("{name} is given twice; write all its keys in one place"),
        };
    }
    let is_key = |c: char| c.is_alphanumeric() || matches!(c, '_' | '-' | '"' | '\'');
    let key: String = from_key.chars().take_while(|c| is_key(*c)).collect();
    let names_it =
        |line: &&str| line.trim_start().strip_prefix(&key).is_some_and(|rest| rest.trim_start().starts_with('='));
    let start = header.unwrap_or(0);
    match lines[start..line - 1].iter().position(names_it) {
        Some(first) => format!("`{key}` is given twice, first on line {}; leave one out", start + first + 1),
        None => format!("`{key}` is given twice; leave one out"),
    }
}

/// What to write instead of a line; `None` if the line does not show what was meant.
fn instead(line: &str, section: Option<Section>, message: &str) -> Option<String> {
    let written = line.trim();
    if let Some(odd) = written.chars().find(|c| is_odd(*c)) {
        return Some(of_odd(odd));
    }
    if written.starts_with("//") || written.starts_with("/*") || written.starts_with(';') || written.starts_with("--") {
        return Some("a comment begins with `#`".to_string());
    }
    if is_header(written) {
        return of_header(written);
    }
    if message.contains("escape") || message.contains("unicode") {
        let why = "in \"…\" a backslash begins an escape";
        return Some(format!("{why}; write the text in single quotes, '…', where it stands for itself"));
    }
    match key_and_value(written) {
        Some((key, value)) => of_value(key, value, section),
        None => of_line(written, section),
    }
}

/// Characters that word processors and web pages put in the place of plain ones.
fn is_odd(c: char) -> bool {
    matches!(c, '“' | '”' | '„' | '‘' | '’' | '«' | '»' | '`' | '\u{a0}' | '\u{200b}' | '\u{feff}')
        || (c.is_control() && c != '\t')
}

/// What to write instead of such a character.
fn of_odd(c: char) -> String {
    match c {
        '`' => "backticks are no quotes here; write \"…\"".to_string(),
        '\u{a0}' | '\u{200b}' | '\u{feff}' => {
            format!("the character U+{:04X} looks like a blank and is none; write a blank", u32::from(c))
        }
        c if c.is_control() => format!("the character U+{:04X} cannot stand here; leave it out", u32::from(c)),
        c => format!("`{c}` is no quote here; write straight ones, \"…\""),
    }
}

/// What to write instead of a broken header, such as `[process`, `[listeners web]` or `[process]:`.
fn of_header(written: &str) -> Option<String> {
    let words = written.trim_end_matches([':', ';', ',', '{', ' ']);
    let name = words.trim_matches(['[', ']']).trim();
    let parts: Vec<&str> =
        name.split([' ', '.', '"', '\'', ':']).map(str::trim).filter(|part| !part.is_empty()).collect();
    let is_name = |part: &&str| part.bytes().all(|byte| byte.is_ascii_alphanumeric() || b"_-".contains(&byte));
    if parts.is_empty() || !parts.iter().all(is_name) {
        return None;
    }
    let name = parts.join(".");
    let is_list = written.starts_with("[[");
    Some(if is_list {
        format!("write [[{name}]], alone on its line")
    } else {
        format!("write [{name}], alone on its line")
    })
}

/// What stands before and after the first `=`; `None` if the part before it cannot be a key.
fn key_and_value(written: &str) -> Option<(&str, &str)> {
    let (key, value) = written.split_once('=')?;
    let is_key = |byte: u8| byte.is_ascii_alphanumeric() || b"_-.\"'".contains(&byte);
    (key.trim().bytes().all(is_key) && !key.trim().is_empty()).then(|| (key.trim(), value.trim()))
}

/// What to write instead of a broken value, such as `bind = 0.0.0.0:80` or `bind = "0.0.0.0:80";`.
fn of_value(key: &str, value: &str, section: Option<Section>) -> Option<String> {
    if value.is_empty() {
        return Some(format!("`{key}` has no value; write one, or leave the key out"));
    }
    if value.starts_with('=') {
        return Some(format!("write one `=` between `{key}` and its value"));
    }
    if let Some(alone) = value.strip_suffix([';', ',']).filter(|alone| is_whole(alone)) {
        let end = &value[alone.len()..];
        return Some(format!("nothing stands behind a value; write `{key} = {}` without `{end}`", alone.trim()));
    }
    if value.split_once(';').is_some_and(|(_, rest)| rest.contains('=')) {
        return Some("write each key on a line of its own, without `;`".to_string());
    }
    if value.starts_with(['[', '{']) {
        let is_yaml = value.contains(": ") && value.starts_with(['{', '[']);
        return is_yaml.then(|| "in `{ … }` write `=` and not `:`, as in { address = \"10.0.0.1:5432\" }".to_string());
    }
    if let Some(quote) = value.chars().next().filter(|first| matches!(first, '"' | '\'')) {
        let closed = value[1..].contains(quote);
        return (!closed).then(|| format!("the quote is not closed; write `{key} = {value}{quote}`"));
    }
    let value = value.split(" #").next().unwrap_or_default().trim_end_matches([';', ',']).trim();
    let is_flag = |kind: Kind| matches!(kind, Kind::Bool | Kind::Level(_));
    let takes_flag = |key: &str| keys::KEYS.iter().any(|known| known.name == key && is_flag(known.kind));
    let last = key.rsplit('.').next().unwrap_or_default();
    match value.to_lowercase().as_str() {
        "true" | "yes" | "on" if takes_flag(last) => Some(format!("write `{key} = true`")),
        "false" | "no" | "off" if takes_flag(last) => Some(format!("write `{key} = false`")),
        _ if value.contains('"') => None,
        _ => Some(match section.and_then(|section| keys::find(section, key)).map(|key| of_unquoted(key.kind, value)) {
            Some(Err(hint)) => format!("`{key}` cannot be {value}; {hint}"),
            _ => format!("a text stands in quotes; write `{key} = \"{value}\"`"),
        }),
    }
}

/// Whether a text, a list, a number or a flag is complete.
fn is_whole(value: &str) -> bool {
    let value = value.trim();
    let is_between = |quote: char| value.len() > 1 && value.starts_with(quote) && value.ends_with(quote);
    is_between('"')
        || is_between('\'')
        || (value.starts_with('[') && value.ends_with(']'))
        || (!value.is_empty() && value.bytes().all(|byte| byte.is_ascii_digit()))
        || matches!(value, "true" | "false")
}

/// What to write instead of a line without `=`, such as `timeout connect 5s`, `bind: 0.0.0.0:80` or `ip_hash;`.
fn of_line(written: &str, section: Option<Section>) -> Option<String> {
    const FORM: &str = "each line is `key = value`";
    let bare = written.trim_end_matches([';', ',', '{', ' ']);
    if let Some((key, value)) = bare.split_once(": ").or_else(|| bare.strip_suffix(':').map(|key| (key, ""))) {
        let key = key.trim_start_matches("- ").trim_matches(['"', '\'', ' ']);
        let value = value.trim().trim_matches(['"', '\'']);
        if !key.contains(' ') && !value.is_empty() {
            let number = value.bytes().all(|byte| byte.is_ascii_digit()) || matches!(value, "true" | "false");
            let value = if number { value.to_string() } else { format!("\"{value}\"") };
            return Some(format!("{FORM}, with `=` and not `:`; write `{key} = {value}`"));
        }
        return Some(format!("{FORM}, with `=` and not `:`; a table is [{key}]"));
    }
    let words: Vec<&str> = bare.split_whitespace().collect();
    let known = |name: &str| match section {
        Some(section) => foreign::in_table(section, name),
        None => foreign::at_top(name),
    };
    let of_others = (1..=words.len().min(3)).rev().find_map(|count| {
        let name = words[..count].join(" ");
        known(&name).map(|here| format!("{FORM}; `{name}`: {here}"))
    });
    let near = || {
        let (first, rest) = words.split_first()?;
        let is_key = section.is_some_and(|section| keys::find(section, first).is_some());
        let value = rest.join(" ").replace('"', "");
        (is_key && !rest.is_empty()).then(|| format!("{FORM}; write `{first} = \"{value}\"`"))
    };
    of_others.or_else(near).or_else(|| Some(FORM.to_string()))
}

/// Whether a line begins like the header of a table.
fn is_header(line: &str) -> bool {
    line.trim_start().starts_with('[')
}

/// For each line: the line number of the header above it, from 1.
fn headers(lines: &[&str]) -> Vec<Option<usize>> {
    let mut last = None;
    let above = |(at, line): (usize, &&str)| {
        let above = last;
        if is_header(line) {
            last = Some(at + 1);
        }
        above
    };
    lines.iter().enumerate().map(above).collect()
}

/// The table to which the keys below a header belong.
fn section(lines: &[&str], header: Option<usize>) -> Option<Section> {
    let name = lines.get(header?.checked_sub(1)?)?.trim().trim_matches(['[', ']']);
    let parts: Vec<&str> = name.split('.').map(str::trim).collect();
    match parts.as_slice() {
        ["process"] => Some(Section::Process),
        ["log"] => Some(Section::Log),
        ["access_log"] => Some(Section::AccessLog),
        ["admin"] => Some(Section::Admin),
        ["dns"] => Some(Section::Dns),
        ["listeners", _] => Some(Section::Listener),
        ["listeners", _, "tls"] => Some(Section::ListenerTls),
        ["listeners", _, "routes"] => Some(Section::Route),
        ["pools", _] => Some(Section::Pool),
        ["pools", _, "tls"] => Some(Section::PoolTls),
        ["pools", _, "check"] => Some(Section::Check),
        ["pools", _, "ejection"] => Some(Section::Ejection),
        ["pools", _, "backends"] => Some(Section::Backend),
        _ => None,
    }
}
