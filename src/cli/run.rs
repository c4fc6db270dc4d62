//! `ringway run`: reads the configuration and serves, until a signal ends it.
//!
//! It returns only when the process ends: 0 after a shutdown, 1 if ringway cannot go on, 2 if the configuration is
//! wrong.

use std::path::Path;

use super::DEFAULT_FILE;
use super::args::RunOptions;
use super::check;
use super::failure::Failure;
use crate::config::model::Source;
use crate::{app, config};

/// The command. The configuration comes from a file, or from `--listen` and `--backend`.
pub(super) fn run(options: &RunOptions) -> Result<(), Failure> {
    let (config, source) = if options.listen.is_empty() {
        let file = options.file.as_deref().or(options.config.as_deref()).unwrap_or(Path::new(DEFAULT_FILE));
        (check::load(file)?, Source::File(file.to_path_buf()))
    } else {
        let config = config::quick(&options.listen, &options.backend, options.balance.as_deref());
        (config.map_err(Failure::Configuration)?, Source::CommandLine)
    };
    Ok(app::serve(config, source, options.take_over.as_deref())?)
}
