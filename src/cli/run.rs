//! `ringway run`: reads the configuration and serves, until a signal ends it.
//!
//! It returns only when the process ends: 0 after a shutdown, 1 if ringway cannot go on, 2 if the configuration is
//! wrong.

use std::path::Path;
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use super::DEFAULT_FILE;
use super::args::RunOptions;
use super::check;
use super::failure::Failure;
use crate::base::time::unix_s;
use crate::config::model::{Config, Source};
use crate::control::disk::Disk;
use crate::control::state_file::{self, Restored};
use crate::{app, config};

/// The command. The configuration comes from a file, or from `--listen` and `--backend`.
pub(super) fn run(options: &RunOptions) -> Result<(), Failure> {
    let (mut config, source) = if options.listen.is_empty() {
        let file = options.file.as_deref().or(options.config.as_deref()).unwrap_or(Path::new(DEFAULT_FILE));
        (check::load(file)?, Source::File(file.to_path_buf()))
    } else {
        let config = config::quick(&options.listen, &options.backend, options.balance.as_deref());
        (config.map_err(Failure::Configuration)?, Source::CommandLine)
    };
    let restored = restore(&mut config);
    Ok(app::serve(config, source, restored, options.take_over.as_deref())?)
}

/// Reads what was kept over a restart. A configuration that was put in the place of the file counts instead of it.
fn restore(config: &mut Config) -> Restored {
    let Some(path) = config.process.state_file.clone() else { return Restored::default() };
    let mut restored = state_file::read(&path, unix_s(SystemTime::now()));
    let Some(put) = restored.kept.config.clone() else { return restored };
    let name = format!("the configuration in {}", path.display());
    match config::load(&put.text, &name, &Disk) {
        Ok(kept) => {
            *config = kept;
            let at = humantime::format_rfc3339_seconds(UNIX_EPOCH + Duration::from_secs(put.at_s));
            restored.warnings.push(format!(
                "this is not the configuration of the file, but the one that {} put in its place at {at}; a reload \
                 ends that",
                put.by
            ));
        }
        Err(errors) => {
            restored.kept.config = None;
            restored.warnings.extend(errors.iter().map(ToString::to_string));
            restored.warnings.push(format!("{name} cannot be used, so that of the file is"));
        }
    }
    restored
}
