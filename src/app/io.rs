//! What the data plane runs on: as configured, or what this process may use.

use anyhow::{Context, bail};

use crate::kernel::driver::{ChosenDriver, Driver};
use crate::sys::features::Features;
use crate::uring::probe;

/// Overrides `process.io = "auto"`.
const VARIABLE: &str = "RINGWAY_IO";

/// A driver, and what this kernel can do for it.
pub(super) struct Choice {
    /// The driver, with the reason that the log, the API and `ringway doctor` give.
    pub(super) chosen: ChosenDriver,
    /// Of io_uring.
    pub(super) features: Features,
}

/// The driver of this process. `configured` is `process.io`, `None` for "auto".
///
/// # Errors
/// It must be io_uring, and io_uring cannot be used: why, with the remedy. Or the variable holds no driver.
pub(super) fn choose(configured: Option<Driver>) -> anyhow::Result<Choice> {
    let (asked, by) = match configured {
        Some(driver) => (Some(driver), "process.io"),
        None => (asked_by(std::env::var(VARIABLE).ok().as_deref())?, VARIABLE),
    };
    let epoll =
        |reason| Choice { chosen: ChosenDriver { driver: Driver::Epoll, reason }, features: Features::default() };
    if asked == Some(Driver::Epoll) {
        return Ok(epoll(format!("{by} says so")));
    }
    match (probe::try_out(), asked) {
        (Ok(features), _) => {
            let reason = if asked.is_some() { format!("{by} says so") } else { "this process may use it".to_owned() };
            Ok(Choice { chosen: ChosenDriver { driver: Driver::IoUring, reason }, features })
        }
        (Err(error), None) => Ok(epoll(probe::explain(&error))),
        (Err(error), Some(_)) => {
            Err(anyhow::anyhow!(probe::explain(&error))).with_context(|| format!("{by} asks for io_uring"))
        }
    }
}

/// The driver that the variable asks for.
fn asked_by(variable: Option<&str>) -> anyhow::Result<Option<Driver>> {
    match variable {
        None | Some("" | "auto") => Ok(None),
        Some(name) => match Driver::of_name(name) {
            Some(driver) => Ok(Some(driver)),
            None => bail!("{VARIABLE} is {name:?}; it must be \"auto\", \"io_uring\" or \"epoll\""),
        },
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_variable_names_a_driver_or_is_refused() {
        assert_eq!(asked_by(None).unwrap(), None);
        assert_eq!(asked_by(Some("auto")).unwrap(), None);
        assert_eq!(asked_by(Some("epoll")).unwrap(), Some(Driver::Epoll));
        assert_eq!(asked_by(Some("io_uring")).unwrap(), Some(Driver::IoUring));
        let error = asked_by(Some("kqueue")).unwrap_err().to_string();
        assert_eq!(error, "RINGWAY_IO is \"kqueue\"; it must be \"auto\", \"io_uring\" or \"epoll\"");
    }

    #[test]
    fn what_is_configured_is_taken_and_auto_always_finds_one() {
        let epoll = choose(Some(Driver::Epoll)).unwrap().chosen;
        assert_eq!(epoll, ChosenDriver { driver: Driver::Epoll, reason: "process.io says so".to_owned() });
        assert!(choose(None).is_ok());
    }
}
