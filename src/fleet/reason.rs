//! Why a backend is in its state, in words for a person: one line in the log, in the API and in `ringway ctl why`.
//!
//! A reason is data until it is shown, so that two equal ones are recognized and a change of wording is no change of
//! state.

use std::fmt;
use std::sync::Arc;

use crate::health::Role;
use crate::health::ejection::Trouble;

/// Why a backend is in its state. Cheap to make and to compare, as it is looked at after every check.
#[derive(Clone, Debug, Eq, PartialEq)]
pub enum Reason {
    /// Up by the configuration, or down by it.
    NotCheckedYet,
    /// Its drain has ended, and it is not known whether it lives.
    Doubted,
    /// Its pool has no checks.
    NotChecked,
    /// Its checks succeed.
    Checks,
    /// Its weight is 0.
    NoWeight,
    /// Its source has it take no new sessions, for this reason.
    Rests(Arc<str>),
    /// It says that it is the primary, and none has a better claim.
    Primary,
    /// Taken back after an ejection.
    EjectionOver,
    /// The others are down, and one that fails now and then is better than none.
    LastResort,
    /// The last check failed, and so.
    Failing(Arc<str>),
    /// A replica that is too far behind, and none is fresher; so far.
    LeastStale(Arc<str>),
    /// Its check says that it is about to stop.
    Leaving,
    /// It is something else than what its pool wants.
    WrongRole(Role),
    /// Its checks do not tell its role.
    NoRole,
    /// Of the pool's primaries another one is used.
    AnotherPrimary(Arc<str>),
    /// It says that it is the primary, of a lower term than the one that is unreachable.
    Stale {
        /// What it says.
        term: u64,
        /// The backend with the greater term.
        other: Arc<str>,
        /// What that one said.
        greatest: u64,
    },
    /// Of the addresses of the primary another one is used.
    SameServer(Arc<str>),
    /// Its name was not found, for this reason if it was looked up.
    NoAddress(Option<Arc<str>>),
    /// It is that listener of ringway itself, which leads back to this pool.
    LeadsBack(Arc<str>),
    /// By the configuration.
    Disabled,
    /// Taken out at run time, by this operator.
    Maintenance(Arc<str>),
    /// Emptied at run time, by this operator.
    Drained(Arc<str>),
    /// By its agent.
    AgentMaintains,
    /// By its agent.
    AgentDrains,
    /// Its agent says that it does not work: this.
    AgentDown(Arc<str>),
    /// No longer in the configuration.
    Removed,
    /// Its source, of this `type`, no longer has it.
    NotFound(&'static str),
    /// At another address now, by the configuration.
    Moved,
    /// Its name stands for other addresses now.
    AddressGone,
    /// Its name has been denied for too long.
    NameDenied,
    /// Real traffic met with trouble so many times.
    Ejected {
        /// With what.
        trouble: Trouble,
        /// How many.
        count: u32,
        /// Within which time.
        window_ms: u64,
        /// For how long it is out, unless a check succeeds before.
        duration_ms: u64,
    },
}

impl Reason {
    /// Whether only what its name says speaks against it.
    pub(super) fn is_of_name(&self) -> bool {
        matches!(self, Reason::AddressGone | Reason::NameDenied)
    }
}

impl fmt::Display for Reason {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Reason::NotCheckedYet => f.write_str("not checked yet"),
            Reason::Doubted => {
                f.write_str("its drain is over, and it has not answered its last check, or that was too long ago")
            }
            Reason::NotChecked => f.write_str("its pool has no checks"),
            Reason::Checks => f.write_str("its checks succeed"),
            Reason::NoWeight => f.write_str("its weight is 0, so it takes no new sessions"),
            Reason::Rests(why) => write!(f, "{why}, so it takes no new sessions"),
            Reason::Primary => f.write_str("is the primary"),
            Reason::EjectionOver => f.write_str("its ejection is over"),
            Reason::LastResort => f.write_str("was ejected, and no other backend is left"),
            Reason::Failing(failure) => f.write_str(failure),
            Reason::LeastStale(how) => write!(f, "{how}; no replica of the pool is fresher"),
            Reason::Leaving => f.write_str("its check says that it is about to stop (`drain_status`)"),
            Reason::WrongRole(role) => write!(f, "is a {role}"),
            Reason::NoRole => f.write_str("does not say what role it has"),
            Reason::AnotherPrimary(other) => write!(f, "another backend is the primary: {other}"),
            Reason::Stale { term, other, greatest } => write!(
                f,
                "says it is the primary of term {term}, but {other}, now unreachable, was it with term {greatest}; \
                 remove {other} from the pool if it is gone for good"
            ),
            Reason::SameServer(other) => write!(f, "is another address of the primary, which is used at {other}"),
            Reason::NoAddress(None) => f.write_str("its name has no address yet"),
            Reason::NoAddress(Some(why)) => write!(f, "its name has no address: {why}"),
            Reason::LeadsBack(listener) => write!(
                f,
                "it is ringway itself: connections would come back by listener {listener} and go around for ever; give \
                 the backend an address behind ringway"
            ),
            Reason::Disabled => f.write_str("disabled in the configuration"),
            Reason::Maintenance(by) => write!(f, "put into maintenance by {by}"),
            Reason::Drained(by) => write!(f, "drained by {by}"),
            Reason::AgentMaintains => f.write_str("put into maintenance by its agent"),
            Reason::AgentDrains => f.write_str("drained by its agent"),
            Reason::AgentDown(why) => write!(f, "its agent says {why}"),
            Reason::Moved => f.write_str("the configuration has it at another address now"),
            Reason::NotFound(kind) => write!(f, "its source ({kind}) no longer has it"),
            Reason::Removed => f.write_str("no longer in the configuration"),
            Reason::AddressGone => f.write_str("its name no longer has this address"),
            Reason::NameDenied => f.write_str("its name no longer has any address"),
            Reason::Ejected { trouble, count, window_ms, duration_ms } => {
                let span = |ms: u64| humantime::format_duration(std::time::Duration::from_millis(ms));
                let (window, duration) = (span(*window_ms), span(*duration_ms));
                match trouble {
                    Trouble::Connect => write!(f, "{count} connects failed within {window}; ejected for {duration}"),
                    Trouble::HangUp => write!(
                        f,
                        "it accepted {count} clients within {window} and hung up on each within a second, without a \
                         byte; ejected for {duration}, whatever its checks say"
                    ),
                }
            }
        }
    }
}
