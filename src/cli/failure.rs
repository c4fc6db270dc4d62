//! Why a command did not succeed, and the exit status for it: 1 if something failed at run time, 2 if the command line
//! or a configuration is wrong. Scripts rely on the difference.
//!
//! Every message is one line with the cause and what to do, written by the part that knows both; here only the
//! beginning `ringway:` is added.

use std::fmt;
use std::io;
use std::process::ExitCode;

use crate::config;

/// Why a command did not succeed.
#[derive(Debug)]
pub(super) enum Failure {
    /// The command line is wrong. One line: the cause, and what to write.
    Usage(String),
    /// A configuration is wrong. One line per error, each with its place.
    Configuration(Vec<config::Error>),
    /// Warnings that `--strict` makes errors; one line each.
    Warnings(Vec<String>),
    /// A running ringway refused a configuration; one line per error.
    Refused(Vec<String>),
    /// The answer was printed, and it is no: `ringway diff` found a difference.
    Answered,
    /// Something failed at run time. One line: the cause, and what to do.
    RunTime(anyhow::Error),
}

impl Failure {
    /// The exit status.
    pub(super) fn code(&self) -> ExitCode {
        match self {
            Failure::Usage(_) | Failure::Configuration(_) | Failure::Warnings(_) | Failure::Refused(_) => {
                ExitCode::from(2)
            }
            Failure::RunTime(_) | Failure::Answered => ExitCode::FAILURE,
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
            Failure::Answered => Ok(()),
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
