//! What stands in a file of targets. Pure.

use std::collections::HashMap;
use std::sync::Arc;

use serde::Deserialize;

use crate::discover::found::{BACKUP_MAX, FOUND_MAX, Found, WEIGHT_MAX};
use crate::discover::written;

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
            let (host, port) = written::address(target)
                .map_err(|_| format!("{target:?} is no target; write host:port, as in \"10.0.0.1:5432\""))?;
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

#[cfg(test)]
mod tests;
