//! `ringway check FILE`, and how every command reads a configuration.

use std::fs;
use std::io::Write;
use std::path::Path;

use super::failure::Failure;
use crate::config::{self, Config};

pub(super) fn check(file: &Path) -> Result<(), Failure> {
    let config = load(file)?;
    for warning in config::warnings(&config) {
        let _ = writeln!(std::io::stderr(), "warning: {warning}");
    }
    super::print(b"ok\n")
}

/// Reads a configuration from a file.
pub(super) fn load(file: &Path) -> Result<Config, Failure> {
    let text = fs::read_to_string(file).map_err(|error| {
        let fix = match error.kind() {
            std::io::ErrorKind::NotFound => "conf/ringway.toml is one to begin with",
            std::io::ErrorKind::PermissionDenied => "make it readable for the user ringway runs as",
            std::io::ErrorKind::InvalidData => "a configuration is UTF-8 text",
            _ => "give the path of a configuration file",
        };
        Failure::Usage(format!("cannot read {}: {error}; {fix}", file.display()))
    })?;
    let variable = |name: &str| std::env::var(name).ok();
    config::load(&text, &file.display().to_string(), &variable).map_err(Failure::Configuration)
}
