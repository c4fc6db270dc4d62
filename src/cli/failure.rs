//! Why a command did not succeed, and what the process exits with.

use std::fmt;
use std::io;
use std::process::ExitCode;

use crate::config;

/// Why a command did not succeed.
#[derive(Debug)]
pub(super) enum Failure {
    /// The command line is wrong. One line: cause and fix.
    Usage(String),
    /// A configuration is wrong.
    Configuration(Vec<config::Error>),
    /// Warnings that were asked to be errors; a line each.
    Warnings(Vec<String>),
    /// A running ringway refused a configuration; a line each.
    Refused(Vec<String>),
    /// Something failed at run time. One line: cause and fix.
    RunTime(anyhow::Error),
}

impl Failure {
    pub(super) fn code(&self) -> ExitCode {
        match self {
            Failure::Usage(_) | Failure::Configuration(_) | Failure::Warnings(_) | Failure::Refused(_) => {
                ExitCode::from(2)
            }
            Failure::RunTime(_) => ExitCode::FAILURE,
        }
    }
}

impl fmt::Display for Failure {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Failure::Usage(message) => write!(f, "ringway: {message}"),
            Failure::Configuration(errors) => {
                let lines: Vec<String> = errors.iter().map(config::Error::to_string).collect();
                f.write_str(&lines.join("\n"))
            }
            Failure::Warnings(lines) => {
                let lines: Vec<String> = lines.iter().map(|line| format!("error: {line}")).collect();
                f.write_str(&lines.join("\n"))
            }
            Failure::Refused(lines) => f.write_str(&lines.join("\n")),
            Failure::RunTime(error) => write!(f, "ringway: {error:#}"),
        }
    }
}

impl From<anyhow::Error> for Failure {
    fn from(error: anyhow::Error) -> Failure {
        Failure::RunTime(error)
    }
}

impl From<io::Error> for Failure {
    fn from(error: io::Error) -> Failure {
        Failure::RunTime(error.into())
    }
}
