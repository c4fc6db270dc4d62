//! The `ringway` command. Everything is in the library, where tests reach it.

use std::process::ExitCode;

fn main() -> ExitCode {
    ringway::cli::main(std::env::args_os())
}
