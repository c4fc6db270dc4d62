//! Configuration: what was written (`raw`), what it means (`model`), and every error (`error`).
//!
//! ```text
//! text ── toml ──> DeTable ── raw::read ──> Raw ── resolve ──> Config
//!                     (keys: every key there is)    (between: what contradicts)
//! ```
//!
//! Pure: a text and what it names ([`Outside`]) come in; a [`model::Config`], or everything that is wrong, goes out.
//! Nothing is read from disk here, and no name is looked up. `control` reads the files and applies the result, `cli`
//! prints the errors.
//!
//! Beside that path stand `diff` (what a reload changes, in words), `warnings` (what is allowed but hardly meant),
//! `quick` (a configuration from command-line options) and `foreign` (words of other programs).

pub mod address;
mod between;
mod certificate_fault;
mod certificates;
mod check;
pub mod diff;
mod discover;
pub mod error;
mod foreign;
pub mod keys;
mod listener;
pub(crate) mod loops;
pub mod model;
mod outside;
mod quick;
mod raw;
mod resolve;
mod shown;
mod syntax;
mod value;
mod warnings;

#[cfg(test)]
mod example;
#[cfg(test)]
mod tests;

pub use certificate_fault::{CertificateFault, CertificateOwner};
pub use certificates::load_certificates;
pub use error::{Error, Place};
pub use model::Config;
pub use outside::Outside;
pub use quick::quick;
pub use syntax::text_of;
pub(crate) use value::fault_of_name;
pub use value::nearest;
pub use warnings::{Host, warnings};

use std::ops::Range;

use error::{Places, Problem};
use toml::de::DeTable;

/// Reads a configuration. `source_name` is what messages call the file; `outside` gives the
/// values of `${NAME}` and the files that the configuration names.
///
/// All steps go on after a fault, so that one run reports everything.
///
/// # Errors
/// Everything that is wrong with it, in the order of the file; never an empty list.
pub fn load(text: &str, source_name: &str, outside: &dyn Outside) -> Result<Config, Vec<Error>> {
    let places = Places::new(text, source_name);
    let (root, syntax) = DeTable::parse_recoverable(text);
    let mut faults: Vec<value::At<Problem>> = Vec::new();
    let raw = raw::read(root.get_ref(), &value::Decoder { outside }, &mut faults);
    if syntax.is_empty() {
        let config = resolve::resolve(&raw, &places, &mut faults);
        if faults.is_empty() {
            return Ok(config);
        }
    } else {
        let broken: Vec<usize> = syntax.iter().map(|error| places.line(start_of(error, text))).collect();
        faults.retain(|(span, problem)| is_certain(text, &broken, places.line(span.start), span, problem));
        faults.extend(syntax::problems(&syntax, text, &places));
    }
    faults.sort_by_key(|(span, _)| span.start);
    let mut errors: Vec<Error> =
        faults.into_iter().map(|(span, problem)| Error { place: places.place(span.start), problem }).collect();
    errors.dedup();
    Err(errors)
}

/// Whether a fault exists whatever the unreadable lines were meant to be. The parser reads a broken value as empty, so
/// its key looks as if it were missing; and below a broken header it is unknown to which table the keys belong.
fn is_certain(text: &str, broken: &[usize], line: usize, span: &Range<usize>, problem: &Problem) -> bool {
    let is_header = |line: &&str| line.trim_start().starts_with('[');
    let header = text.lines().take(line).collect::<Vec<_>>().iter().rposition(is_header).map_or(0, |at| at + 1);
    !span.is_empty()
        && !matches!(problem, Problem::Missing { .. })
        && !broken.contains(&line)
        && !broken.contains(&header)
}

/// Where an error of the parser begins; the end of the text if it does not say.
fn start_of(error: &toml::de::Error, text: &str) -> usize {
    error.span().map_or(text.len(), |span| span.start.min(text.len()))
}
