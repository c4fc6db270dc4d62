//! Why a command did not succeed, and what the process exits with.

use std::fmt;
use std::io;
use std::process::ExitCode;

use clap::error::ContextKind;

use crate::config;

/// Words of other programs, and what they are here.
const MEANT: [(&str, &str); 20] = [
    ("start", "`ringway run -c FILE` serves in the foreground; `systemctl start ringway` as a service"),
    ("stop", "send TERM, as `systemctl stop ringway` does: it drains, and ends when its sessions have"),
    ("quit", "send TERM, as `systemctl stop ringway` does: it drains, and ends when its sessions have"),
    ("restart", "`ringway run -c FILE --take-over SOCKET` relieves the one that runs, and loses no connection"),
    ("status", "write `ringway ctl status`"),
    ("show", "write `ringway ctl status`, or `backends`, `sessions`, `pools` instead of `status`"),
    ("stats", "write `ringway ctl status`, or `ringway top` to watch it"),
    ("reload", "write `ringway ctl reload`, or send HUP"),
    ("test", "write `ringway check FILE`"),
    ("configtest", "write `ringway check FILE`"),
    ("validate", "write `ringway check FILE`"),
    ("serve", "write `ringway run -c FILE`"),
    ("enable", "write `ringway ctl ready POOL/BACKEND`"),
    ("undrain", "write `ringway ctl ready POOL/BACKEND`"),
    ("disable", "write `ringway ctl set POOL/BACKEND --state maintenance`"),
    ("maintenance", "write `ringway ctl set POOL/BACKEND --state maintenance`"),
    ("weight", "write `ringway ctl set POOL/BACKEND --weight N`"),
    ("version", "write `ringway --version`"),
    ("-t", "write `ringway check FILE`"),
    ("-f", "the configuration is given as `ringway run -c FILE`"),
];

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
        let wrong = error.get(ContextKind::InvalidSubcommand).or_else(|| error.get(ContextKind::InvalidArg));
        let meant = wrong.and_then(|wrong| MEANT.iter().find(|(word, _)| *word == wrong.to_string()));
        if let Some((_, instead)) = meant {
            return Failure::Usage(format!("{message}; {instead}"));
        }
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

    /// The words of HAProxy, nginx, systemd and of people.
    #[test]
    fn words_of_other_programs_lead_to_those_of_this_one() {
        let lines = [
            ("ringway status", "`ringway ctl status`"),
            ("ringway stop", "TERM"),
            ("ringway reload", "`ringway ctl reload`"),
            ("ringway ctl enable db/a", "`ringway ctl ready POOL/BACKEND`"),
            ("ringway ctl disable db/a", "--state maintenance"),
            ("ringway -t x", "`ringway check FILE`"),
            ("ringway run -f x", "`ringway run -c FILE`"),
            ("ringway ctl drain db/a --deadline 30", "30s"),
        ];
        for (line, words) in lines {
            let error = Arguments::try_parse_from(line.split(' ')).unwrap_err();
            let shown = Failure::of_usage(&error).to_string();
            assert!(shown.contains(words) && !shown.contains('\n'), "{line}: {shown}");
        }
    }

    #[test]
    fn wrong_usage_is_told_on_one_line() {
        for line in
            ["ringway chek", "ringway check", "ringway run --frob", "ringway doctor x y", "ringway run --listen a"]
        {
            let error = Arguments::try_parse_from(line.split(' ')).unwrap_err();
            let shown = Failure::of_usage(&error).to_string();
            assert!(shown.starts_with("ringway: ") && !shown.contains('\n') && shown.contains("; "), "{shown}");
        }
    }
}
