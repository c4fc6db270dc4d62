//! Lists whose items are not plain texts: status codes, headers and steps of a check. Every fault in a list is
//! reported.

use std::ops::Range;

use toml::de::DeValue;

use super::{At, Decoder, Fault, Value, name_of};
use crate::config::keys::Kind;

/// Each port is a connection of each check.
const PORTS_MAX: usize = 32;

/// A header, as it was written: where it stands, its name and its value.
pub(in crate::config) type WrittenHeader = (Range<usize>, String, String);

/// A step of a check, as it was written.
#[derive(Clone, Debug, PartialEq)]
pub(in crate::config) struct WrittenStep {
    /// Where it stands.
    pub(in crate::config) span: Range<usize>,
    /// What is sent; `None` if it is not written.
    pub(in crate::config) send: Option<String>,
    /// What is expected; `None` if it is not written.
    pub(in crate::config) expect: Option<String>,
}

/// A pool with its share of the sessions, as it was written.
#[derive(Clone, Debug, PartialEq)]
pub(in crate::config) struct WrittenShare {
    /// Where it stands.
    pub(in crate::config) span: Range<usize>,
    /// The name of the pool.
    pub(in crate::config) pool: String,
    /// Its share, 0 to 256.
    pub(in crate::config) weight: u16,
}

/// The greatest share.
const SHARE_MAX: u64 = 256;

impl Decoder<'_> {
    /// Reads pools with their shares: `[{ pool = "a", weight = 90 }]`. Without a weight it is 1.
    pub(super) fn split(&self, items: &toml::de::DeArray<'_>) -> Result<Vec<WrittenShare>, Vec<At<Fault>>> {
        let (mut shares, mut faults) = (Vec::new(), Vec::new());
        for item in items.iter() {
            let DeValue::Table(table) = item.get_ref() else {
                faults.push((item.span(), Fault::Type(name_of(item.get_ref()))));
                continue;
            };
            let (mut pool, mut weight) = (None, 1);
            let before = faults.len();
            for (key, value) in table.iter() {
                let decoded = match key.get_ref().as_ref() {
                    "pool" => self.decode(Kind::Name, value.span(), value.get_ref()),
                    "weight" => self.decode(Kind::Integer(0, SHARE_MAX), value.span(), value.get_ref()),
                    other => {
                        let hint = "a share has `pool` and `weight`".to_string();
                        faults.push((key.span(), Fault::Value(format!("a share with `{other}`"), hint)));
                        continue;
                    }
                };
                match decoded {
                    Ok(Value::Text(name)) => pool = Some(name),
                    Ok(Value::Integer(number)) => weight = number as u16, // at most SHARE_MAX
                    Ok(_) => {}
                    Err(more) => {
                        faults.extend(more.into_iter().map(|(span, fault)| (span, of_share(fault, key.get_ref()))))
                    }
                }
            }
            match pool {
                Some(pool) => shares.push(WrittenShare { span: item.span(), pool, weight }),
                None if faults.len() == before => {
                    let hint = "write the name of a pool, as in { pool = \"a\", weight = 90 }".to_string();
                    faults.push((item.span(), Fault::Value("a share without `pool`".to_string(), hint)));
                }
                None => {}
            }
        }
        if faults.is_empty() { Ok(shares) } else { Err(faults) }
    }

    /// Reads status codes and ranges: `[200, "300-399"]`.
    pub(super) fn statuses(&self, items: &toml::de::DeArray<'_>) -> Result<Vec<(u16, u16)>, Vec<At<Fault>>> {
        let code = |text: &str| text.trim().parse::<u16>().ok().filter(|code| (100..=599).contains(code));
        let (mut ranges, mut faults) = (Vec::new(), Vec::new());
        for item in items.iter() {
            let written = match item.get_ref() {
                DeValue::Integer(number) => number.to_string(),
                DeValue::String(text) => text.to_string(),
                other => {
                    faults.push((item.span(), Fault::Type(name_of(other))));
                    continue;
                }
            };
            let (first, last) = written.split_once('-').unwrap_or((&written, &written));
            match code(first).zip(code(last)).filter(|(first, last)| first <= last) {
                Some(range) => ranges.push(range),
                None => {
                    let hint = "write codes from 100 to 599 and ranges of them, as in [200, \"300-399\"]";
                    faults.push((item.span(), Fault::Value(written, hint.to_string())));
                }
            }
        }
        if faults.is_empty() { Ok(ranges) } else { Err(faults) }
    }

    /// Reads ports: `[135, 59532]`.
    pub(super) fn ports(&self, items: &toml::de::DeArray<'_>) -> Result<Vec<u16>, Vec<At<Fault>>> {
        let (mut ports, mut faults) = (Vec::new(), Vec::new());
        for item in items.iter() {
            let DeValue::Integer(number) = item.get_ref() else {
                faults.push((item.span(), Fault::Type(name_of(item.get_ref()))));
                continue;
            };
            let port = u16::from_str_radix(number.as_str(), number.radix()).ok().filter(|port| *port > 0);
            match port {
                Some(port) if ports.contains(&port) => {
                    faults.push((item.span(), Fault::Value(number.to_string(), "write each port once".to_string())));
                }
                Some(port) => ports.push(port),
                None => {
                    let hint = "write ports from 1 to 65535".to_string();
                    faults.push((item.span(), Fault::Value(number.to_string(), hint)));
                }
            }
        }
        if ports.len() > PORTS_MAX {
            let hint = format!("write at most {PORTS_MAX}");
            faults.extend(
                items
                    .iter()
                    .next()
                    .map(|item| (item.span(), Fault::Value(format!("a list of {} ports", ports.len()), hint))),
            );
        }
        if faults.is_empty() { Ok(ports) } else { Err(faults) }
    }

    /// Reads headers: `{ X-Token = "…" }`, in the order of the file.
    pub(super) fn headers(&self, table: &toml::de::DeTable<'_>) -> Result<Vec<WrittenHeader>, Vec<At<Fault>>> {
        let (mut headers, mut faults) = (Vec::new(), Vec::new());
        for (name, value) in table.iter() {
            match value.get_ref() {
                DeValue::String(text) => match self.substitute(text) {
                    Ok(text) => headers.push((name.span(), name.get_ref().to_string(), text)),
                    Err(why) => faults.push((value.span(), Fault::Variable(why))),
                },
                other => faults.push((value.span(), Fault::Type(name_of(other)))),
            }
        }
        // The parser's table is sorted by name.
        headers.sort_by_key(|(span, ..)| span.start);
        if faults.is_empty() { Ok(headers) } else { Err(faults) }
    }

    /// Reads the steps of a check: `[{ send = '…', expect = '…' }]`.
    pub(super) fn steps(&self, items: &toml::de::DeArray<'_>) -> Result<Vec<WrittenStep>, Vec<At<Fault>>> {
        let (mut steps, mut faults) = (Vec::new(), Vec::new());
        for item in items.iter() {
            let DeValue::Table(table) = item.get_ref() else {
                faults.push((item.span(), Fault::Type(name_of(item.get_ref()))));
                continue;
            };
            let mut step = WrittenStep { span: item.span(), send: None, expect: None };
            for (key, value) in table.iter() {
                let place = match key.get_ref().as_ref() {
                    "send" => &mut step.send,
                    "expect" => &mut step.expect,
                    other => {
                        let hint = "a step has `send` and `expect`".to_string();
                        faults.push((key.span(), Fault::Value(format!("a step with `{other}`"), hint)));
                        continue;
                    }
                };
                match value.get_ref() {
                    DeValue::String(text) => match self.substitute(text) {
                        Ok(text) => *place = Some(text),
                        Err(why) => faults.push((value.span(), Fault::Variable(why))),
                    },
                    other => faults.push((value.span(), Fault::Type(name_of(other)))),
                }
            }
            steps.push(step);
        }
        if faults.is_empty() { Ok(steps) } else { Err(faults) }
    }
}

/// A fault of a key of a share, which names that key.
fn of_share(fault: Fault, key: &str) -> Fault {
    match fault {
        Fault::Value(found, hint) => Fault::Value(format!("a share whose `{key}` is {found}"), hint),
        Fault::Type(found) => {
            let hint =
                if key == "pool" { "write the name of a pool, in quotes" } else { "write a number from 0 to 256" };
            Fault::Value(format!("a share whose `{key}` is {found}"), hint.to_string())
        }
        other => other,
    }
}
