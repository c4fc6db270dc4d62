//! Lists whose items are not plain texts: status codes, headers and steps of a check. Every fault in a list is
//! reported.

use std::ops::Range;

use toml::de::DeValue;

use super::{At, Decoder, Fault, name_of};

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

impl Decoder<'_> {
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
