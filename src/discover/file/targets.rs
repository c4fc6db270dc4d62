//! What stands in a file of targets. Pure.

use std::collections::HashMap;
use std::sync::Arc;

use serde::Deserialize;

use crate::base::host;
use crate::discover::found::{BACKUP_MAX, FOUND_MAX, Found, FoundHost, WEIGHT_MAX};

/// A group of targets. Keys that other programs have there mean nothing here.
#[derive(Debug, Deserialize)]
struct Group {
    /// Hosts with their ports.
    targets: Vec<String>,
    /// Labels of all of them. A label that does not begin with `ringway_` means nothing here.
    #[serde(default)]
    labels: HashMap<String, String>,
}

/// Reads a file.
///
/// # Errors
/// It is no such file, or one of its values is wrong: which one, and what it can be.
pub(super) fn read(bytes: &[u8]) -> Result<Vec<Found>, String> {
    let groups: Vec<Group> = serde_json::from_slice(bytes).map_err(|error| {
        format!("{error}; it takes a list as in [{{\"targets\": [\"10.0.0.1:5432\"], \"labels\": {{}}}}]")
    })?;
    let mut all = Vec::new();
    for group in &groups {
        let labels = Labels::read(group)?;
        for target in &group.targets {
            let (host, port) = place(target)
                .ok_or_else(|| format!("{target:?} is no target; write host:port, as in \"10.0.0.1:5432\""))?;
            let Labels { name, weight, backup } = labels.clone();
            all.push(Found { name, weight, backup, ..Found::at(host, port) });
            if all.len() > FOUND_MAX {
                return Err(format!("it has more than {FOUND_MAX} targets"));
            }
        }
    }
    Ok(all)
}

/// What the labels of a group say.
#[derive(Clone, Debug)]
struct Labels {
    /// `ringway_name`
    name: Option<Arc<str>>,
    /// `ringway_weight`
    weight: u16,
    /// `ringway_backup`
    backup: u16,
}

impl Labels {
    /// Reads the labels of a group.
    fn read(group: &Group) -> Result<Labels, String> {
        let label = |name: &str| group.labels.get(name).map(String::as_str);
        let number = |name: &str, most: u16, text: &str| {
            let number = text.parse::<u16>().ok().filter(|number| *number <= most);
            number.ok_or_else(|| format!("{name} = {text:?}; it goes from 0 to {most}"))
        };
        let weight = label("ringway_weight").map(|text| number("ringway_weight", WEIGHT_MAX, text)).transpose()?;
        let backup = label("ringway_backup").map(|text| match text {
            "false" => Ok(0),
            "true" => Ok(1),
            text => number("ringway_backup", BACKUP_MAX, text),
        });
        let name = label("ringway_name").map(Arc::from);
        if name.is_some() && group.targets.len() > 1 {
            return Err(format!(
                "ringway_name = {:?} is the name of one target, and its group has more",
                label("ringway_name")
            ));
        }
        let weight = weight.unwrap_or(crate::discover::found::WEIGHT);
        Ok(Labels { name, weight, backup: backup.transpose()?.unwrap_or(0) })
    }
}

/// A host with its port.
fn place(text: &str) -> Option<(FoundHost, u16)> {
    let (host, port) = text.rsplit_once(':')?;
    let port = port.parse::<u16>().ok().filter(|port| *port > 0)?;
    let bare = host.strip_prefix('[').and_then(|host| host.strip_suffix(']'));
    let ip = bare.map_or_else(|| host.parse::<std::net::Ipv4Addr>().ok().map(Into::into), |host| host.parse().ok());
    match ip {
        Some(ip) => Some((FoundHost::Ip(ip), port)),
        None if bare.is_none() && host::is_name(host::without_dot(host).as_bytes()) && !host::is_number(host) => {
            Some((FoundHost::Name(host.into()), port))
        }
        None => None,
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn shown(text: &str) -> Result<Vec<String>, String> {
        let show = |found: &Found| {
            format!("{} at {} weight {} backup {}", found.name(), found.address(), found.weight, found.backup)
        };
        read(text.as_bytes()).map(|all| all.iter().map(show).collect())
    }

    #[test]
    fn a_file_of_prometheus_is_read_with_the_labels_that_are_ours() {
        let text = r#"[
            {"targets": ["10.0.0.1:5432", "db.example:5433", "[fd00::1]:1"],
             "labels": {"job": "db", "ringway_backup": "2"}},
            {"targets": ["10.0.0.2:5432"], "labels": {"ringway_name": "main", "ringway_weight": "256"}, "x": 1},
            {"targets": []}
        ]"#;
        assert_eq!(
            shown(text).unwrap(),
            [
                "10.0.0.1:5432 at 10.0.0.1:5432 weight 1 backup 2",
                "db.example:5433 at db.example:5433 weight 1 backup 2",
                "[fd00::1]:1 at [fd00::1]:1 weight 1 backup 2",
                "main at 10.0.0.2:5432 weight 256 backup 0",
            ]
        );
        assert_eq!(shown("[]").unwrap(), [""; 0]);
    }

    #[test]
    fn one_wrong_value_makes_the_file_bad_and_is_named() {
        for (text, says) in [
            ("", "EOF while parsing"),
            ("[{\"targets\": [\"10.0.0.1:5432\"", "EOF while parsing"),
            ("{}", "expected a sequence"),
            (r#"[{"targets": ["10.0.0.1"]}]"#, "\"10.0.0.1\" is no target"),
            (r#"[{"targets": ["10.0.0.1:0"]}]"#, "is no target"),
            (r#"[{"targets": ["10.1:80"]}]"#, "is no target"),
            (r#"[{"targets": ["http://a:80"]}]"#, "is no target"),
            (r#"[{"targets": ["::1:80"]}]"#, "is no target"),
            (
                r#"[{"targets": ["a:1"], "labels": {"ringway_weight": "257"}}]"#,
                "ringway_weight = \"257\"; it goes from 0",
            ),
            (r#"[{"targets": ["a:1"], "labels": {"ringway_backup": "x"}}]"#, "ringway_backup = \"x\"; it goes from 0"),
            (r#"[{"targets": ["a:1", "b:1"], "labels": {"ringway_name": "x"}}]"#, "is the name of one target"),
            (r#"[{"targets": ["a:1"], "labels": {"ringway_weight": 2}}]"#, "expected a string"),
        ] {
            let error = shown(text).expect_err(text);
            assert!(error.contains(says), "{text}: {error}");
        }
    }

    proptest! {
        #[test]
        fn no_file_makes_it_panic(bytes: Vec<u8>, text in "\\[\\{\"targets\": \\[\"[a-z0-9.:\\[\\]]{0,20}\"\\]\\}\\]") {
            let _ = read(&bytes);
            if let Ok(all) = read(text.as_bytes()) {
                prop_assert!(all.iter().all(|found| found.port > 0));
            }
        }
    }
}
