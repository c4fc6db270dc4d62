//! Health checks.

use std::time::Duration;

use crate::health::Role;
use crate::health::ask::CheckKind;

/// `[pools.NAME.check]`
#[derive(Clone, Debug, PartialEq)]
pub struct Check {
    /// What is asked.
    pub kind: CheckKind,
    /// What it must be; `None` is `any`. Of a pool that wants the primary, no more than one backend is used.
    pub role: Option<Role>,
    /// How far a replica may lag behind; zero: however far.
    pub lag_max: Duration,
    /// Between checks.
    pub interval: Duration,
    /// While the state is changing.
    pub fast_interval: Duration,
    /// While it is down.
    pub down_interval: Duration,
    /// Of one check.
    pub timeout: Duration,
    /// Successes in a row that bring it up, at least 1.
    pub rise: u32,
    /// Failures in a row that take it down, at least 1.
    pub fall: u32,
    /// Whether it counts as up before the first result.
    pub initial_up: bool,
    /// Port to check; `None` is the backend's own.
    pub port: Option<u16>,
    /// Where no replica is within `lag_max`, nobody serves; else the least stale ones do.
    pub lag_strict: bool,
    /// What a check says of itself first.
    pub header: CheckHeader,
}

/// `check.send_proxy`
#[derive(Clone, Copy, Debug, Default, Eq, PartialEq)]
pub enum CheckHeader {
    /// As the pool's: version 1 names the check's own two ends, version 2 says LOCAL. Nothing at a port of its own, nor
    /// where the server is not to hear of the check at all (`tcp`).
    #[default]
    Auto,
    /// None.
    Off,
    /// One that speaks for nobody.
    Local,
    /// One that names the check's own two ends.
    Named,
}

impl CheckHeader {
    /// The word for it in the configuration.
    pub fn name(self) -> &'static str {
        match self {
            CheckHeader::Auto => "auto",
            CheckHeader::Off => "off",
            CheckHeader::Local => "local",
            CheckHeader::Named => "proxy",
        }
    }
}
