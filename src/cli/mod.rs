//! The command line: arguments and output. What is done stands elsewhere; here a command is chosen and its answer
//! printed.
//!
//! Each command is a module with a function of its name that returns a [`Failure`] or nothing. Output goes to standard
//! output, messages to standard error, and the exit status says which kind of failure it was (see [`main`]).

mod args;
mod check;
mod ctl;
mod demo;
mod diff;
mod doctor;
mod explain;
mod failure;
mod host;
mod import;
mod manual;
mod paint;
mod run;
mod top;
mod usage;

use std::ffi::OsString;
use std::io::{self, Write};
use std::process::ExitCode;

use clap::Parser;
use clap::error::ErrorKind;

use crate::sys::signals;
use args::{Arguments, Command};
use failure::Failure;

/// Where `ringway run` looks for its configuration if none is named.
const DEFAULT_FILE: &str = "/etc/ringway/ringway.toml";

/// Runs one command. Returns the exit status: 0 done, 1 failed at run time, 2 wrong usage or invalid configuration.
/// Errors are on standard error, one line each.
pub fn main(arguments: impl Iterator<Item = OsString>) -> ExitCode {
    // A log rotation or a reload may send its signal while ringway is just starting; it must not end the process.
    signals::hold();
    let result = match Arguments::try_parse_from(arguments) {
        Ok(arguments) => command(arguments.command),
        Err(help) if help.kind() == ErrorKind::DisplayHelpOnMissingArgumentOrSubcommand => {
            let _ = help.print(); // to standard error, because no help was asked for
            return ExitCode::from(2);
        }
        Err(error) if error.use_stderr() => Err(Failure::Usage(usage::explain(&error))),
        Err(help) => help.print().map_err(Failure::from), // --help and --version come this way
    };
    match result {
        Ok(()) => ExitCode::SUCCESS,
        Err(failure) => {
            if !matches!(failure, Failure::Answered) {
                let _ = writeln!(io::stderr(), "{failure}"); // if this fails, there is no other place to write to
            }
            failure.code()
        }
    }
}

/// Runs a command that was parsed. Only `run` and `check` keep the signals that were held.
fn command(command: Command) -> Result<(), Failure> {
    if !matches!(command, Command::Run(_) | Command::Check { .. }) {
        signals::release();
    }
    match command {
        Command::Run(options) => run::run(&options),
        Command::Demo { span } => demo::demo(span),
        Command::Check { file, strict } => check::check(file.path(), strict),
        Command::Doctor { file, config } => doctor::doctor(file.or(config).as_deref()),
        Command::Explain { file, listener, client, protocol, sni, alpn, without } => {
            let says = (protocol.as_deref(), sni.as_deref(), alpn.as_deref());
            explain::explain(file.path(), &listener, client, says, without.as_deref())
        }
        Command::Diff { old, new } => diff::diff(&old, &new),
        Command::Import(options) => import::import(&options),
        Command::Ctl(options) => ctl::ctl(&options),
        Command::Top { socket } => top::top(socket.as_ref()),
        Command::Completions { shell } => manual::completions(shell),
        Command::Reference => print(include_bytes!("../../conf/reference.toml")),
        Command::ReadNames => Ok(crate::app::names::serve()?),
        Command::Man => manual::man(),
    }
}

/// Writes to standard output. A reader that closes it early, like `head`, has all it wants, and that is no error.
fn print(bytes: &[u8]) -> Result<(), Failure> {
    let mut out = io::stdout().lock();
    match out.write_all(bytes).and_then(|()| out.flush()) {
        Err(error) if error.kind() != io::ErrorKind::BrokenPipe => Err(error.into()),
        _ => Ok(()),
    }
}
