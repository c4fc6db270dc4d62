//! The `ringway` command. Everything is in the library, where tests reach it.

use std::process::ExitCode;

fn main() -> ExitCode {
    #[cfg(panic = "unwind")]
    abort_on_panic();
    ringway::cli::main(std::env::args_os())
}

/// A debug build shares its crates with tests, which unwind. This program never does (ARCHITECTURE.md).
#[cfg(panic = "unwind")]
fn abort_on_panic() {
    let report = std::panic::take_hook();
    std::panic::set_hook(Box::new(move |panic| {
        report(panic);
        std::process::abort();
    }));
}
