//! Patterns of server names (SNI), as ringway's routes write them.
//!
//! HAProxy and nginx compare a name with any regular expression; a route has names, and `*.` in front of a domain. Most
//! expressions in use only say one of these three things, and those are recognized by their form:
//!
//! | expression | patterns |
//! |---|---|
//! | `^db\.example\.com$` | `db.example.com` |
//! | `\.example\.com$`, `^.*\.example\.com$`, `^[^.]+\.example\.com$` | `*.example.com` |
//! | `^(.+\.)?example\.com$` | `example.com`, `*.example.com` |
//!
//! An unescaped dot means any character, so an expression with one is none of these.

/// What is said of a name that ends with a text: `example.com` would also fit `badexample.com`.
pub const NARROWER: &str = "names that only end in it without a dot before, such as badexample.com, no longer fit";

/// The patterns for a name that ends like this, and whether they are narrower than that.
pub fn of_end(end: &str) -> (Vec<String>, bool) {
    match end.strip_prefix('.') {
        Some(domain) => (vec![format!("*.{domain}")], false),
        None => (of_domain(end), true),
    }
}

/// A name and all names below it.
pub fn of_domain(domain: &str) -> Vec<String> {
    let domain = domain.trim_start_matches('.');
    vec![domain.to_string(), format!("*.{domain}")]
}

/// The patterns for a regular expression, if it is one of those that only say a name, all names below one, or both.
pub fn of_regex(regex: &str) -> Option<Vec<String>> {
    let end = regex.strip_suffix('$')?;
    let (is_anchored, body) = end.strip_prefix('^').map_or((false, end), |body| (true, body));
    for below in [r"(.*\.)?", r"(.+\.)?", r"(?:.*\.)?", r"(?:.+\.)?", r"([^.]+\.)?", r"([a-z0-9-]+\.)?"] {
        if let Some(rest) = body.strip_prefix(below).filter(|_| is_anchored) {
            return Some(of_domain(&literal(rest)?));
        }
    }
    for below in [r".*\.", r".+\.", r"(.*)\.", r"(.+)\.", r"[^.]+\."] {
        if let Some(rest) = body.strip_prefix(below) {
            return Some(vec![format!("*.{}", literal(rest)?)]);
        }
    }
    if let Some(rest) = body.strip_prefix(r"\.").filter(|_| !is_anchored) {
        return Some(vec![format!("*.{}", literal(rest)?)]);
    }
    is_anchored.then(|| literal(body).map(|name| vec![name])).flatten()
}

/// The text that a regular expression without operators stands for.
fn literal(regex: &str) -> Option<String> {
    let (mut out, mut escaped) = (String::new(), false);
    for c in regex.chars() {
        match c {
            '.' if escaped => out.push('.'),
            '-' => out.push('-'),
            _ if escaped => return None,
            '\\' => {}
            c if c.is_ascii_alphanumeric() || c == '_' => out.push(c),
            _ => return None,
        }
        escaped = c == '\\';
    }
    (!escaped && !out.is_empty()).then_some(out)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_expression_that_only_says_names_becomes_patterns() {
        let of = |regex: &str| of_regex(regex).map(|all| all.join(" ")).unwrap_or_default();
        assert_eq!(of(r"^db\.example\.com$"), "db.example.com");
        assert_eq!(of(r"\.example\.com$"), "*.example.com");
        assert_eq!(of(r"^.*\.example\.com$"), "*.example.com");
        assert_eq!(of(r"^(.+\.)?example\.com$"), "example.com *.example.com");
        for regex in [r"example\.com", r"^example.com$", r"^(a|b)\.example\.com$", r"^db\d\.x$", r"^$", r"\.$", r"^a\"]
        {
            assert_eq!(of(regex), "", "{regex}");
        }
        assert_eq!(of_end(".example.com"), (vec!["*.example.com".to_string()], false));
        assert!(of_end("example.com").1);
    }
}
