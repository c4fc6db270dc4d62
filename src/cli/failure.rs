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
    /// A running ringway refused a configuration; a line each.
    Refused(Vec<String>),
    /// Something failed at run time. One line: cause and fix.
    RunTime(anyhow::Error),
}

impl Failure {
    /// What the argument parser says on several lines, on one.
    pub(super) fn of_usage(error: &clap::Error) -> Failure {
        let text = error.to_string();
        let first: Vec<&str> = text.lines().take_while(|line| !line.is_empty()).map(str::trim).collect();
        let tip = text.lines().find_map(|line| line.trim().strip_prefix("tip: "));
        let message = first.join(" ").trim_start_matches("error: ").to_string();
        match tip {
            Some(tip) => Failure::Usage(format!("{message}; {tip}")),
            None => Failure::Usage(format!("{message}; see `ringway --help`")),
        }
    }

    pub(super) fn code(&self) -> ExitCode {
        match self {
            Failure::Usage(_) | Failure::Configuration(_) | Failure::Refused(_) => ExitCode::from(2),
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

#[cfg(test)]
mod tests {
    use super::*;
    use crate::cli::args::Arguments;
    use clap::Parser;

    #[test]
    fn wrong_usage_is_told_on_one_line() {
        for line in
            ["ringway chek", "ringway check", "ringway run --frob", "ringway doctor x", "ringway run --listen a"]
        {
            let error = Arguments::try_parse_from(line.split(' ')).unwrap_err();
            let shown = Failure::of_usage(&error).to_string();
            assert!(shown.starts_with("ringway: ") && !shown.contains('\n') && shown.contains("; "), "{shown}");
        }
    }
}
