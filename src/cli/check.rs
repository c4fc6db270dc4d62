//! `ringway check FILE`, and how every command reads a configuration.
//!
//! Reading has two kinds of failures: the file cannot be read (one line with the cause and what to do), or its content
//! is wrong (one line per error). Both lead to exit status 2.

use std::fs;
use std::io::{self, Write};
use std::path::{Path, PathBuf};

use super::DEFAULT_FILE;
use super::failure::Failure;
use crate::config::{self, Config};
use crate::control::disk::Disk;

/// The command: prints `ok`, and warnings on standard error. With `strict` a warning is an error.
pub(super) fn check(file: &Path, strict: bool) -> Result<(), Failure> {
    let config = load(file)?;
    let warnings = super::host::warnings_of(&config);
    if strict && !warnings.is_empty() {
        return Err(Failure::Warnings(warnings));
    }
    for warning in warnings {
        let _ = writeln!(io::stderr(), "warning: {warning}"); // if this fails, there is no other place to write to
    }
    super::print(b"ok\n")
}

/// Reads a configuration from a file, with the environment for `${NAME}`.
///
/// # Errors
/// The file cannot be read, or what is wrong in it.
pub(super) fn load(file: &Path) -> Result<Config, Failure> {
    let bytes = fs::read(file).map_err(|error| Failure::Usage(unread(file, &error)))?;
    let text =
        config::text_of(bytes).map_err(|why| Failure::Usage(format!("cannot read {}: {why}", file.display())))?;
    config::load(&text, &file.display().to_string(), &Disk).map_err(Failure::Configuration)
}

/// Why a file could not be read, and what to do.
fn unread(file: &Path, error: &io::Error) -> String {
    let shown = file.display();
    match error.kind() {
        io::ErrorKind::NotFound if file == Path::new("-") => {
            "there is no file -; standard input is /dev/stdin".to_string()
        }
        io::ErrorKind::NotFound => {
            let fix = beside(file).map(|near| format!("did you mean {}?", near.display()));
            let fix = fix.unwrap_or_else(|| match file == Path::new(DEFAULT_FILE) {
                true => "`ringway run -c FILE` names another, and `ringway reference` prints every key".to_string(),
                false => "`ringway reference` prints every key there is".to_string(),
            });
            format!("there is no file {shown}; {fix}")
        }
        io::ErrorKind::PermissionDenied => {
            format!("this user is not allowed to read {shown}; `chmod` it, or run this as the user of ringway")
        }
        io::ErrorKind::IsADirectory => {
            format!(
                "{shown} is a directory; a configuration is one file, as in {}",
                file.join("ringway.toml").display()
            )
        }
        _ => format!("cannot read {shown}: {error}; give the path of a configuration"),
    }
}

/// A file in the same folder whose name is similar, to suggest after a misspelling.
fn beside(file: &Path) -> Option<PathBuf> {
    let name = file.file_name()?.to_str()?;
    let folder = file.parent()?;
    let names: Vec<String> = fs::read_dir(if folder.as_os_str().is_empty() { Path::new(".") } else { folder })
        .ok()?
        .filter_map(|entry| entry.ok()?.file_name().into_string().ok())
        .collect();
    config::nearest(name, names.iter().map(String::as_str)).map(|near| folder.join(near))
}
