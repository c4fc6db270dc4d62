//! The command line: commands, options and their help.
//!
//! Doc comments of commands and options are the text of `--help`, so they are written for users. The man page and the
//! shell completions are made from the same definition (`manual`).

use std::path::{Path, PathBuf};
use std::time::Duration;

use clap::{Args, Parser, Subcommand};

use super::DEFAULT_FILE;
use crate::balance;
use crate::wire::first_bytes::Protocol;

const EXAMPLES: &str = "\
Examples:
  ringway demo                                   see it work, nothing else needed
  ringway run --listen 0.0.0.0:6379 --backend 10.0.0.1:6379 --backend 10.0.0.2:6379
  ringway run -c /etc/ringway/ringway.toml       serve what a file says
  ringway run -c /etc/ringway/ringway.toml --take-over /run/ringway/admin.sock
                                                 relieve a running one, and lose no connection
  ringway check /etc/ringway/ringway.toml        every error of it together
  ringway explain ringway.toml --listener db --client 10.0.0.7 --without b
                                                 which backend, why, and who moves without b
  ringway import haproxy.cfg -o ringway.toml     translate a configuration of HAProxy or nginx
  ringway diff old.toml new.toml                 what a reload would change, and what follows
  ringway ctl drain db/a --deadline 30s --wait   take a backend out, and return when it has no session left
  ringway ctl ready db/a                         and have it back

Exit status: 0 done, 1 failed at run time, 2 wrong usage or invalid configuration.";

/// A Layer 4 TCP load balancer on io_uring or epoll.
#[derive(Debug, Parser)]
#[command(name = "ringway", version, after_help = EXAMPLES, arg_required_else_help = true)]
pub(super) struct Arguments {
    #[command(subcommand)]
    pub(super) command: Command,
}

/// The commands.
#[derive(Debug, Subcommand)]
pub(super) enum Command {
    /// Serve, until TERM, INT or QUIT.
    Run(RunOptions),
    /// Show it at work: three built-in backends, live traffic, one backend stopped and brought back.
    Demo {
        /// How long it lasts, at least 3s.
        #[arg(long = "for", value_name = "DURATION", default_value = "10s", value_parser = demo_span)]
        span: Duration,
    },
    /// Read and validate a configuration; print `ok`, or every error together.
    Check {
        #[command(flatten)]
        file: FileArgument,
        /// Take warnings for errors.
        #[arg(long)]
        strict: bool,
    },
    /// Say what of this machine ringway can use, and what to do about the rest.
    Doctor {
        /// Look as well at what this configuration names: addresses, users, folders, files, names, backends.
        #[arg(value_name = "FILE", conflicts_with = "config")]
        file: Option<PathBuf>,
        /// The same file, named as `run` has it.
        #[arg(short, long, value_name = "FILE")]
        config: Option<PathBuf>,
    },
    /// Say which backend a client gets and why, by the same code that serves, without serving.
    Explain {
        #[command(flatten)]
        file: FileArgument,
        /// The listener that the client connects to.
        #[arg(long, value_name = "NAME")]
        listener: String,
        /// The client.
        #[arg(long, value_name = "IP[:PORT]")]
        client: super::explain::ClientArg,
        /// What it speaks, where routes ask for that; TLS if one of the next two is given.
        #[arg(long, value_name = "PROTOCOL", value_parser = Protocol::WORDS)]
        protocol: Option<String>,
        /// The server name that its TLS asks for; for a listener with routes.
        #[arg(long, value_name = "NAME")]
        sni: Option<String>,
        /// A protocol (ALPN) that its TLS offers; for a listener with routes.
        #[arg(long, value_name = "PROTOCOL")]
        alpn: Option<String>,
        /// Also say what changes without this backend, and how many clients move.
        #[arg(long, value_name = "BACKEND")]
        without: Option<String>,
    },
    /// Compare two configurations: what a reload would change, and what follows. Exit status 0 nothing, 1 something.
    Diff {
        /// The configuration in use.
        #[arg(value_name = "OLD")]
        old: PathBuf,
        /// The one to come.
        #[arg(value_name = "NEW")]
        new: PathBuf,
    },
    /// Translate a configuration of HAProxy (mode tcp) or nginx (stream).
    Import(ImportOptions),
    /// Talk to a running ringway over its admin socket.
    Ctl(super::ctl::CtlOptions),
    /// Watch a running ringway: rates, workers, every backend; `q` ends it.
    Top {
        /// The admin socket [default: RINGWAY_SOCKET of the environment, or /run/ringway/admin.sock].
        #[arg(long, value_name = "PATH")]
        socket: Option<PathBuf>,
    },
    /// Write completions for a shell to standard output.
    Completions {
        /// The shell.
        shell: clap_complete::Shell,
    },
    /// Write every key of the configuration, with its default, to standard output.
    Reference,
    /// Reads files for a ringway that stays root. It is started by ringway itself.
    #[command(name = crate::app::names::SUBCOMMAND, hide = true)]
    ReadNames,
    /// Write the man page to standard output: `ringway man | man -l -`.
    Man,
}

/// The options of `ringway import`.
#[derive(Args, Debug)]
pub(super) struct ImportOptions {
    /// The file: haproxy.cfg, nginx.conf.
    #[arg(value_name = "FILE")]
    pub(super) file: PathBuf,
    /// What it is for [default: found out from its words].
    #[arg(long, value_enum, value_name = "NAME")]
    pub(super) format: Option<ImportFormat>,
    /// Write the result here instead of to standard output.
    #[arg(short, long, value_name = "OUT")]
    pub(super) output: Option<PathBuf>,
    /// Write what can be carried over, also if something was refused.
    #[arg(long)]
    pub(super) partial: bool,
}

/// A language that `ringway import` reads.
#[derive(Clone, Copy, Debug, Eq, PartialEq, clap::ValueEnum)]
pub(super) enum ImportFormat {
    /// haproxy.cfg
    Haproxy,
    /// nginx.conf
    Nginx,
}

/// A configuration, named by its path or with `-c`.
#[derive(Args, Debug)]
#[group(required = true, multiple = false)]
pub(super) struct FileArgument {
    /// The configuration.
    #[arg(value_name = "FILE")]
    file: Option<PathBuf>,
    /// The same file, named as `run` has it.
    #[arg(short, long, value_name = "FILE")]
    config: Option<PathBuf>,
}

impl FileArgument {
    /// The path of the file.
    pub(super) fn path(&self) -> &Path {
        // The parser requires one of both.
        self.file.as_deref().or(self.config.as_deref()).unwrap_or(Path::new(DEFAULT_FILE))
    }
}

/// The options of `ringway run`: a file, or everything on the command line.
#[derive(Args, Debug)]
pub(super) struct RunOptions {
    /// The configuration [default: /etc/ringway/ringway.toml].
    #[arg(value_name = "FILE", conflicts_with_all = ["config", "listen", "backend", "balance"])]
    pub(super) file: Option<PathBuf>,
    /// The configuration, named by an option.
    #[arg(short, long, value_name = "FILE", conflicts_with_all = ["listen", "backend", "balance"])]
    pub(super) config: Option<PathBuf>,
    /// Serve without a file: listen here. Can be given several times.
    #[arg(long, value_name = "ADDR", requires = "backend", value_parser = one_address)]
    pub(super) listen: Vec<String>,
    /// Serve without a file: a backend. Can be given several times.
    #[arg(long, value_name = "ADDR", requires = "listen", value_parser = one_address)]
    pub(super) backend: Vec<String>,
    #[arg(long, value_name = "NAME", requires = "listen", help = policies())]
    pub(super) balance: Option<String>,
    /// Take over from the ringway that has this `admin.socket`: use its listening sockets, and have it drain once this
    /// one accepts. No connection is lost in between.
    #[arg(long, value_name = "SOCKET")]
    pub(super) take_over: Option<PathBuf>,
}

/// The help of `--balance`: all policies, from the list of policies.
fn policies() -> String {
    let (last, others) = balance::WORDS.split_last().unwrap_or((&"", &[]));
    format!("Serve without a file: {} or {last} [default: {}]", others.join(", "), balance::WORDS[0])
}

/// Takes one address; several are given as several options. The configuration decides what an address is.
fn one_address(text: &str) -> Result<String, String> {
    match text.contains(',') {
        true => Err("write the option once for each address".to_string()),
        false => Ok(text.to_string()),
    }
}

/// How long a demo lasts, from 3 s to 1 h.
fn demo_span(text: &str) -> Result<Duration, String> {
    match humantime::parse_duration(text) {
        Ok(span) if (3..=3600).contains(&span.as_secs()) => Ok(span),
        Ok(_) => Err("write a time from 3s to 1h".to_string()),
        Err(_) => Err("write it as in 10s or 1m".to_string()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use clap::CommandFactory;

    #[test]
    fn the_definition_is_sound() {
        Arguments::command().debug_assert();
    }

    #[test]
    fn the_demo_lasts_long_enough_to_show_something() {
        let parse = |line: &str| Arguments::try_parse_from(line.split(' '));
        assert!(parse("ringway demo --for 1s").is_err());
        assert!(parse("ringway demo --for 3s").is_ok());
        assert!(parse("ringway demo").is_ok());
    }

    #[test]
    fn a_file_and_the_quick_form_exclude_each_other() {
        let parse = |line: &str| Arguments::try_parse_from(line.split(' '));
        assert!(parse("ringway run").is_ok() && parse("ringway run x").is_ok() && parse("ringway run -c x").is_ok());
        assert!(parse("ringway run x --listen a --backend b").is_err() && parse("ringway run x -c y").is_err());
        assert!(parse("ringway run --listen a --backend b --backend c").is_ok());
        assert!(parse("ringway run --listen a --backend b --balance random").is_ok());
        assert!(parse("ringway run -c x --listen a --backend b").is_err());
        assert!(parse("ringway run --listen a").is_err());
        assert!(parse("ringway run --backend a").is_err());
        assert!(parse("ringway run --balance random").is_err());
    }

    #[test]
    fn a_file_is_named_with_the_flag_or_without() {
        let file = |line: &str| match Arguments::try_parse_from(line.split(' ')).unwrap().command {
            Command::Check { file, .. } | Command::Explain { file, .. } => file.path().to_owned(),
            other => panic!("{other:?}"),
        };
        for line in
            ["check x", "check -c x", "explain x --listener a --client ::1", "explain -c x --listener a --client ::1"]
        {
            assert_eq!(file(&format!("ringway {line}")), Path::new("x"), "{line}");
        }
        assert!(Arguments::try_parse_from(["ringway", "check", "x", "-c", "y"]).is_err());
    }
}
