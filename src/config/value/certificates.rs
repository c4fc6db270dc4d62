//! Certificates with their keys: `[{ cert = "/x.crt", key = "/x.key" }]`. Each is the path of a file; what is in the
//! files is not looked at.

use std::ops::Range;

use toml::de::{DeArray, DeTable, DeValue};

use super::{At, Decoder, Fault, WHOLE_PATH, name_of, nearest, quoted};

/// A pair as messages show it.
pub(super) const EXAMPLE: &str = "{ cert = \"/etc/ringway/tls/db.crt\", key = \"/etc/ringway/tls/db.key\" }";

/// A certificate with its key, as it was written.
#[derive(Clone, Debug, PartialEq)]
pub(in crate::config) struct WrittenPair {
    /// Where the path of the certificate stands.
    pub(in crate::config) span: Range<usize>,
    /// The path of the certificate.
    pub(in crate::config) cert: String,
    /// The path of its key.
    pub(in crate::config) key: String,
}

impl Decoder<'_> {
    /// Reads certificates with their keys.
    pub(super) fn certificates(&self, items: &DeArray<'_>) -> Result<Vec<WrittenPair>, Vec<At<Fault>>> {
        let (mut pairs, mut faults) = (Vec::new(), Vec::new());
        for item in items.iter() {
            match item.get_ref() {
                DeValue::Table(table) => match self.pair(item.span(), table) {
                    Ok(pair) => pairs.push(pair),
                    Err(more) => faults.extend(more),
                },
                // HAProxy's `crt`, which often holds the key, too.
                DeValue::String(text) => {
                    let hint = format!("write {}, where `key` is the file that holds the key", pair_of(text));
                    faults.push((item.span(), Fault::Value(format!("{} alone", quoted(text)), hint)));
                }
                other => faults.push((item.span(), Fault::Type(name_of(other)))),
            }
        }
        if faults.is_empty() { Ok(pairs) } else { Err(faults) }
    }

    /// Reads one pair, which stands at `span`.
    fn pair(&self, span: Range<usize>, table: &DeTable<'_>) -> Result<WrittenPair, Vec<At<Fault>>> {
        let (mut cert, mut key, mut faults) = (None, None, Vec::new());
        for (name, value) in table.iter() {
            let place = match name.get_ref().as_ref() {
                "cert" => &mut cert,
                "key" => &mut key,
                other => {
                    let hint = match nearest(other, ["cert", "key"].into_iter()) {
                        Some(near) => format!("did you mean `{near}`?"),
                        None => format!("a pair has `cert` and `key`, as in {EXAMPLE}"),
                    };
                    faults.push((name.span(), Fault::Value(format!("a pair with `{other}`"), hint)));
                    continue;
                }
            };
            match self.path(name.get_ref(), value.get_ref()) {
                Ok(path) => *place = Some((value.span(), path)),
                Err(fault) => faults.push((value.span(), fault)),
            }
        }
        let missing = |name: &str, hint: &str| {
            vec![(span.clone(), Fault::Value(format!("a pair without `{name}`"), format!("{hint}, as in {EXAMPLE}")))]
        };
        match (cert, key) {
            // What was found wrong may be what is missing.
            _ if !faults.is_empty() => Err(faults),
            (Some((span, cert)), Some((_, key))) => Ok(WrittenPair { span, cert, key }),
            (None, _) => Err(missing("cert", "add the file of the certificate")),
            (_, None) => Err(missing("key", "add the file that holds the key, also if it is that of `cert`")),
        }
    }

    /// Reads the path that stands at `cert` or `key` of a pair.
    fn path(&self, name: &str, value: &DeValue<'_>) -> Result<String, Fault> {
        let wrong = |found: String| Fault::Value(format!("a pair whose `{name}` is {found}"), WHOLE_PATH.to_string());
        let DeValue::String(text) = value else { return Err(wrong(name_of(value))) };
        let path = self.substitute(text).map_err(Fault::Variable)?;
        if path.starts_with('/') { Ok(path) } else { Err(wrong(quoted(&path))) }
    }
}

/// A pair for a path that was written alone. One file can be both.
pub(super) fn pair_of(path: &str) -> String {
    match path.starts_with('/') {
        true => format!("{{ cert = {0}, key = {0} }}", quoted(path)),
        false => EXAMPLE.to_string(),
    }
}
