//! What a key is: where it stands, what it takes, its default, and how its value is read from what is meant.

use crate::config::model::{self, AccessLog, CheckKind, Ejection};
use crate::config::shown::{Shown, of_size, of_time};

/// The tables of a configuration.
#[derive(Clone, Copy, Debug, Eq, Ord, PartialEq, PartialOrd)]
#[allow(missing_docs)]
pub enum Section {
    Process,
    Log,
    AccessLog,
    Admin,
    Dns,
    Listener,
    Route,
    Pool,
    Check,
    Ejection,
    Backend,
}

impl Section {
    /// As the documentation writes it.
    pub fn title(self) -> &'static str {
        match self {
            Section::Process => "[process]",
            Section::Log => "[log]",
            Section::AccessLog => "[access_log]",
            Section::Admin => "[admin]",
            Section::Dns => "[dns]",
            Section::Listener => "[listeners.NAME]",
            Section::Route => "[[listeners.NAME.routes]]",
            Section::Pool => "[pools.NAME]",
            Section::Check => "[pools.NAME.check]",
            Section::Ejection => "[pools.NAME.ejection]",
            Section::Backend => "[[pools.NAME.backends]]",
        }
    }
}

/// What a key takes.
#[derive(Clone, Copy, Debug)]
pub enum Kind {
    /// `true` or `false`.
    Bool,
    /// A number between these, both included.
    Integer(u64, u64),
    /// A number between these, both included, or `"auto"`.
    AutoOr(u64, u64),
    /// A span of time.
    Duration(Span),
    /// Bytes, from the first to the second number of them, or `"auto"`.
    AutoOrSize(u32, u32),
    /// Octal permission bits.
    Mode,
    /// One of these words.
    Word(&'static [&'static str]),
    /// One of these words, or the path of a file.
    WordOrPath(&'static [&'static str]),
    /// Any text.
    Text,
    /// The name of something.
    Name,
    /// New connections in a unit of time: `"20/s"`, `"600/m"`.
    Rate,
    /// A list of networks and addresses of clients.
    Networks,
    /// A list of names of TLS servers.
    ServerNames,
    /// A list of names of protocols.
    Protocols,
    /// Where connections to backends come from: an address or a list, `"client"`, or empty.
    Source,
    /// A list of HTTP status codes and ranges of them.
    Statuses,
    /// A list of questions and answers.
    Steps,
    /// Where to listen: one or a list, port ranges allowed.
    Binds,
    /// Where to connect to.
    Target,
    /// `ip:port`, or empty.
    IpPortOrOff,
    /// A list of name servers.
    NameServers,
    /// Path of a unix socket, or empty.
    SocketOrOff,
}

/// Which spans of time a key takes, in microseconds.
#[derive(Clone, Copy, Debug)]
pub struct Span {
    /// Whether zero, "off", is one of them.
    pub zero: bool,
    /// The least but zero.
    pub min_us: u64,
    /// The greatest.
    pub max_us: u64,
    /// All are multiples of this.
    pub step_us: u64,
}

impl Span {
    /// What it takes, as `conf/reference.toml` and the messages write it.
    pub fn range(&self) -> String {
        let whole = if self.step_us >= 1_000_000 { " in whole seconds" } else { "" };
        let off = if self.zero { ", 0s = off" } else { "" };
        format!("from {} to {}{whole}{off}", of_time(self.min_us.into()), of_time(self.max_us.into()))
    }
}

/// Which sizes a key takes, as `conf/reference.toml` and the messages write it.
pub fn range_of_sizes(min: u32, max: u32) -> String {
    format!("from {} to {}", of_size(min), of_size(max))
}

/// What stands for a key that is not written.
#[derive(Clone, Copy, Debug)]
pub enum Default {
    /// This, written as TOML.
    Is(&'static str),
    /// Nothing: the key must be given. The text is an example.
    Required(&'static str),
    /// Nothing, and that has its own meaning.
    Absent,
}

/// A key.
#[derive(Clone, Copy, Debug)]
pub struct Key {
    /// The table it stands in.
    pub section: Section,
    /// Its name.
    pub name: &'static str,
    /// What it takes.
    pub kind: Kind,
    /// What stands for it.
    pub default: Default,
    /// Of `[pools.NAME.check]`: the kinds of check that it belongs to; none is all of them.
    pub(in crate::config) checks: &'static [&'static str],
    /// Whether only a restart can change it.
    pub(in crate::config) needs_restart: bool,
    pub(super) show: Show,
}

/// How the value of a key is read from what a configuration means; `None` where it means nothing there.
#[derive(Clone, Copy, Debug)]
pub(super) enum Show {
    Process(fn(&model::Process) -> Option<Shown>),
    Log(fn(&model::Log) -> Option<Shown>),
    AccessLog(fn(Option<&AccessLog>) -> Option<Shown>),
    Admin(fn(&model::Admin) -> Option<Shown>),
    Dns(fn(&model::Dns) -> Option<Shown>),
    Listener(fn(&model::Listener) -> Option<Shown>),
    Pool(fn(&model::Pool) -> Option<Shown>),
    Check(fn(Option<&model::Check>) -> Option<Shown>),
    /// Of the kinds of check that the key belongs to.
    OfChecks(fn(&CheckKind) -> Option<Shown>),
    Ejection(fn(Option<&Ejection>) -> Option<Shown>),
    Backend(fn(&model::Backend) -> Option<Shown>),
    /// A route is shown as a whole.
    Whole,
}

/// A table of a configuration, as it is meant.
#[derive(Clone, Copy)]
pub(in crate::config) enum Thing<'a> {
    Process(&'a model::Process),
    Log(&'a model::Log),
    AccessLog(Option<&'a AccessLog>),
    Admin(&'a model::Admin),
    Dns(&'a model::Dns),
    Listener(&'a model::Listener),
    Pool(&'a model::Pool),
    Check(Option<&'a model::Check>),
    Ejection(Option<&'a Ejection>),
    Backend(&'a model::Backend),
}

impl Key {
    /// Its value in that table; `None` where it means nothing there.
    pub(super) fn shown(&self, thing: Thing<'_>) -> Option<Shown> {
        match (self.show, thing) {
            (Show::Process(show), Thing::Process(process)) => show(process),
            (Show::Log(show), Thing::Log(log)) => show(log),
            (Show::AccessLog(show), Thing::AccessLog(log)) => show(log),
            (Show::Admin(show), Thing::Admin(admin)) => show(admin),
            (Show::Dns(show), Thing::Dns(dns)) => show(dns),
            (Show::Listener(show), Thing::Listener(listener)) => show(listener),
            (Show::Pool(show), Thing::Pool(pool)) => show(pool),
            (Show::Check(show), Thing::Check(check)) => show(check),
            (Show::OfChecks(show), Thing::Check(Some(check))) if self.checks.contains(&check.kind.name()) => {
                show(&check.kind)
            }
            (Show::Ejection(show), Thing::Ejection(ejection)) => show(ejection),
            (Show::Backend(show), Thing::Backend(backend)) => show(backend),
            _ => None,
        }
    }

    /// The same key, which a reload can change though its table was made for the life of the process.
    pub(super) const fn live(self) -> Key {
        Key { needs_restart: false, ..self }
    }

    /// The same key, which must be given.
    pub(super) const fn required(self, example: &'static str) -> Key {
        Key { default: Default::Required(example), ..self }
    }

    /// The same key, of which nothing is something else than any value.
    pub(super) const fn absent(self) -> Key {
        Key { default: Default::Absent, ..self }
    }

    /// The same key, which belongs to these kinds of check.
    pub(super) const fn of(self, checks: &'static [&'static str]) -> Key {
        Key { checks, ..self }
    }
}
