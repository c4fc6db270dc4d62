//! `ringway run`.

use std::path::Path;

use super::args::{DEFAULT_FILE, RunOptions};
use super::check;
use super::failure::Failure;
use crate::{app, config};

pub(super) fn run(options: &RunOptions) -> Result<(), Failure> {
    let config = if options.listen.is_empty() {
        check::load(options.config.as_deref().unwrap_or(Path::new(DEFAULT_FILE)))?
    } else {
        config::quick(&options.listen, &options.backend, options.balance.as_deref()).map_err(Failure::Configuration)?
    };
    Ok(app::serve(config)?)
}
