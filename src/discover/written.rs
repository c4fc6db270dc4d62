//! Backends as others write them: `10.0.0.1:5432`, `[fd00::1]:5432`, `db.example:5432`, and their names. Pure.

use std::collections::HashSet;
use std::net::Ipv6Addr;
use std::sync::Arc;

use super::found::{Answer, FoundHost};
use super::gather::{host, shown};

/// The longest name of a backend, in bytes, as in a configuration.
const NAME_MAX: usize = 128;
/// What is wrong with a text that is no host.
pub const NO_HOST: &str = "has a host that is neither an address of a server nor a name";
/// How many names that are there twice are told of.
const REMARKS_MAX: usize = 20;

/// Reads `host:port`.
///
/// # Errors
/// The text is none; with what it lacks.
pub fn address(text: &str) -> Result<(FoundHost, u16), &'static str> {
    let (written, port) = text.rsplit_once(':').ok_or("has no port")?;
    let port =
        port.parse().ok().filter(|port: &u16| *port > 0 && port.to_string().len() == text.len() - written.len() - 1);
    let port = port.ok_or("has a port that is none")?;
    let in_brackets = written.strip_prefix('[').and_then(|rest| rest.strip_suffix(']'));
    let inner = match in_brackets {
        Some(inner) if inner.parse::<Ipv6Addr>().is_err() => return Err("has brackets around what is no IPv6 address"),
        Some(inner) => inner,
        None if written.contains(':') => return Err("is an IPv6 address without brackets"),
        None => written,
    };
    Ok((host(inner).ok_or(NO_HOST)?, port))
}

/// Whether a backend can be called so: names stand in paths of the API and in labels of metrics.
pub fn is_backend_name(name: &str) -> bool {
    !name.is_empty() && name.len() <= NAME_MAX && !name.chars().any(|c| c.is_control() || c.is_whitespace())
}

/// The name, if a backend can be called so.
pub fn backend_name(name: &str) -> Option<Arc<str>> {
    is_backend_name(name).then(|| name.into())
}

/// Takes a name from a backend that another one has, so that each name is there once: it is called by its address then.
/// If another one has that for its name, it does not count.
pub fn make_names_unique(answer: &mut Answer) {
    let mut names = HashSet::new();
    let mut remarks = Vec::new();
    answer.found.retain_mut(|found| {
        if found.name.is_some() && !names.contains(&found.name()) {
            return names.insert(found.name());
        }
        if let Some(name) = found.name.take() {
            remarks.push(format!("two backends are called {}; one of them is called {found} now", shown(&name)));
        }
        true
    });
    answer.found.retain(|found| {
        let counts = found.name.is_some() || names.insert(found.name());
        if !counts {
            remarks.push(format!("another backend is called {found}; the one that is there does not count"));
        }
        counts
    });
    remarks.truncate(REMARKS_MAX);
    answer.remarks.extend(remarks);
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::discover::found::Found;
    use proptest::prelude::*;

    #[test]
    fn an_address_is_read_as_it_is_shown() {
        for text in
            ["10.0.0.1:5432", "[fd00::1]:1", "db.example:65535", "db:1", "db.example.:80", "my_db:80", "1.db:80"]
        {
            let (host, port) = address(text).unwrap();
            assert_eq!(Found::at(host, port).address(), text);
        }
        for (text, lacks) in [
            ("10.0.0.1", "has no port"),
            ("10.0.0.1:", "has a port that is none"),
            ("10.0.0.1:0", "has a port that is none"),
            ("10.0.0.1:080", "has a port that is none"),
            ("10.0.0.1:+80", "has a port that is none"),
            ("10.0.0.1:65536", "has a port that is none"),
            ("fd00::1:80", "is an IPv6 address without brackets"),
            ("[10.0.0.1]:80", "has brackets around what is no IPv6 address"),
            ("[fe80::1%eth0]:80", "has brackets around what is no IPv6 address"),
            ("0.0.0.0:80", NO_HOST),
            ("[ff02::1]:80", NO_HOST),
            ("10.1:80", NO_HOST),
            (":80", NO_HOST),
            ("a b:80", NO_HOST),
            ("http://a:80", "is an IPv6 address without brackets"),
        ] {
            assert_eq!(address(text), Err(lacks), "{text}");
        }
    }

    #[test]
    fn a_name_of_a_backend_has_no_blanks() {
        assert_eq!(backend_name("pg-1").as_deref(), Some("pg-1"));
        for name in ["", "a b", "a\n", "a\u{85}", &"x".repeat(129)] {
            assert_eq!(backend_name(name), None, "{name}");
        }
    }

    fn at(last: u8, name: Option<&str>) -> Found {
        Found { name: name.map(Arc::from), ..Found::at(FoundHost::Ip([10, 0, 0, last].into()), 1) }
    }

    fn made_unique(found: Vec<Found>) -> Answer {
        let mut answer = Answer { found, ..Answer::default() };
        make_names_unique(&mut answer);
        answer
    }

    #[test]
    fn the_second_of_a_name_is_called_by_its_address() {
        let all = vec![at(1, Some("a")), at(2, Some("a")), at(3, Some("10.0.0.4:1")), at(4, None)];
        let answer = made_unique(all);
        let names: Vec<_> = answer.found.iter().map(|found| found.name().to_string()).collect();
        assert_eq!(names, ["a", "10.0.0.2:1", "10.0.0.4:1"]);
        assert_eq!(
            answer.remarks,
            [
                "two backends are called \"a\"; one of them is called 10.0.0.2:1 now",
                "another backend is called 10.0.0.4:1; the one that is there does not count",
            ]
        );
    }

    proptest! {
        #[test]
        fn each_name_is_there_once(
            names in prop::collection::vec(prop::option::of(prop_oneof![
                Just("a"), Just("b"), Just("10.0.0.1:1"), Just("10.0.0.2:1")
            ]), 0..8)
        ) {
            let all = names.iter().enumerate().map(|(last, name)| at(last as u8, *name)).collect();
            let answer = made_unique(all);
            let unique: HashSet<_> = answer.found.iter().map(Found::name).collect();
            prop_assert_eq!(unique.len(), answer.found.len());
            prop_assert!(names.iter().any(Option::is_some) || answer.found.len() == names.len());
        }

        #[test]
        fn no_text_is_taken_for_an_address_that_it_is_not(text in r"[0-9a-f:.\[\]%-]{0,24}|\PC{0,12}") {
            if let Ok((host, port)) = address(&text) {
                let shown = Found::at(host.clone(), port).address();
                prop_assert_eq!(address(&shown), Ok((host, port)));
            }
        }
    }
}
