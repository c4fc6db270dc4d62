//! A backend that is added while ringway runs: the keys of `[[pools.NAME.backends]]`, as JSON.

use serde_json::Value as Json;
use toml::de::DeTable;

use super::error::{Places, Problem};
use super::model::Backend;
use super::value::{At, Decoder};
use super::{raw, resolve};

/// Reads the keys of a backend. Numbers, flags and texts are written as in the configuration; `null` is left out.
///
/// # Errors
/// Everything that is wrong with them, a line each.
pub fn added_backend(keys: &Json) -> Result<Backend, Vec<String>> {
    let Json::Object(all) = keys else {
        return Err(vec!["write an object, as in {\"name\": \"c\", \"address\": \"10.0.0.3:5432\"}".to_owned()]);
    };
    let given: serde_json::Map<String, Json> =
        all.iter().filter(|(_, value)| !value.is_null()).map(|(key, value)| (key.clone(), value.clone())).collect();
    let text = toml::to_string(&given).map_err(|error| vec![error.to_string()])?;
    let (root, syntax) = DeTable::parse_recoverable(&text);
    if let Some(error) = syntax.first() {
        return Err(vec![error.message().to_owned()]);
    }
    let mut faults = Vec::new();
    let table = raw::read_backend(root.get_ref(), &Decoder { outside: &|_: &str| None }, &mut faults);
    let backend = resolve::backend(&table).filter(|_| faults.is_empty());
    faults.sort_by_key(|(span, _)| span.start);
    let places = Places::new(&text, "the request");
    let line = |(span, problem): At<Problem>| super::Error { place: places.place(span.start), problem }.message();
    backend.ok_or_else(|| faults.into_iter().map(line).collect())
}
