//! The command line: arguments and output, no behaviour.

mod args;
mod check;
mod ctl;
mod demo;
mod doctor;
mod explain;
mod failure;
mod host;
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

/// Where `ringway run` looks for its configuration.
const DEFAULT_FILE: &str = "/etc/ringway/ringway.toml";

/// Runs one command. What it returns is what the process exits with: 0 done, 1 failed at run time, 2 wrong usage or
/// invalid configuration. Errors are on standard error, a line each.
pub fn main(arguments: impl Iterator<Item = OsString>) -> ExitCode {
    // Whoever rotates logs or reloads does not know who is just starting.
    signals::hold();
    let result = match Arguments::try_parse_from(arguments) {
        Ok(arguments) => command(arguments.command),
        Err(help) if help.kind() == ErrorKind::DisplayHelpOnMissingArgumentOrSubcommand => {
            let _ = help.print(); // to standard error, for nothing was asked
            return ExitCode::from(2);
        }
        Err(error) if error.use_stderr() => Err(Failure::Usage(usage::explain(&error))),
        Err(help) => help.print().map_err(Failure::from), // --help and --version come this way
    };
    match result {
        Ok(()) => ExitCode::SUCCESS,
        Err(failure) => {
            let _ = writeln!(io::stderr(), "{failure}"); // nobody is left to tell if this fails
            failure.code()
        }
    }
}

fn command(command: Command) -> Result<(), Failure> {
    if !matches!(command, Command::Run(_) | Command::Check { .. }) {
        signals::release();
    }
    match command {
        Command::Run(options) => run::run(&options),
        Command::Demo { span } => demo::demo(span),
        Command::Check { file, strict } => check::check(file.path(), strict),
        Command::Doctor { file, config } => doctor::doctor(file.or(config).as_deref()),
        Command::Explain { file, listener, client, sni, alpn, without } => {
            let tls = (sni.as_deref(), alpn.as_deref());
            explain::explain(file.path(), &listener, client, tls, without.as_deref())
        }
        Command::Ctl(options) => ctl::ctl(&options),
        Command::Top { socket } => top::top(socket.as_ref()),
        Command::Completions { shell } => manual::completions(shell),
        Command::Reference => print(include_bytes!("../../conf/reference.toml")),
        Command::ReadNames => Ok(crate::app::names::serve()?),
        Command::Man => manual::man(),
    }
}

/// Writes to standard output. Who closes it early, like `head`, wanted no more, and that is no error.
fn print(bytes: &[u8]) -> Result<(), Failure> {
    let mut out = io::stdout().lock();
    match out.write_all(bytes).and_then(|()| out.flush()) {
        Err(error) if error.kind() != io::ErrorKind::BrokenPipe => Err(error.into()),
        _ => Ok(()),
    }
}
