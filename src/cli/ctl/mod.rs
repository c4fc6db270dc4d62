//! `ringway ctl`: asks a running ringway over its admin socket, or has it change something.
//!
//! Every command is one or two requests to the API (`client`). Answers are printed as tables for people (`show`,
//! `table`), or with `--json` as they came. Commands that change something are in `act`.

mod act;
mod certificates;
pub(super) mod client;
mod objects;
mod show;
pub(super) mod table;

use std::path::PathBuf;
use std::str::FromStr;
use std::time::Duration;

use clap::{Args, Subcommand, ValueEnum};
use hyper::Method;
use ipnet::IpNet;
use serde::de::DeserializeOwned;

use super::failure::Failure;
use super::paint::Paint;
use crate::api::words;
use client::{ApiClient, escaped};
use objects::{ApplyOptions, NewBackend};

/// Where the admin socket is if neither `--socket` nor RINGWAY_SOCKET names it.
const DEFAULT_SOCKET: &str = "/run/ringway/admin.sock";

/// What stands behind `ringway ctl`.
#[derive(Args, Debug)]
#[command(arg_required_else_help = true)]
pub(super) struct CtlOptions {
    /// The admin socket [default: RINGWAY_SOCKET of the environment, or /run/ringway/admin.sock].
    #[arg(long, value_name = "PATH", global = true)]
    socket: Option<PathBuf>,
    /// Print the answer of the API as it is, for programs.
    #[arg(long, global = true)]
    json: bool,
    #[command(subcommand)]
    command: CtlCommand,
}

/// The commands of `ringway ctl`; their docs are the help.
#[derive(Debug, Subcommand)]
enum CtlCommand {
    /// Version, uptime, workers, pools.
    Status,
    /// Every pool: how many of its backends are up, sessions, queue.
    Pools,
    /// Every backend: state, since when and why, weight, sessions.
    Backends {
        /// Of this pool only.
        #[arg(value_name = "POOL")]
        pool: Option<String>,
    },
    /// Live sessions of all workers, oldest first.
    Sessions {
        /// Those of this backend only.
        #[arg(long, value_name = "POOL/BACKEND")]
        backend: Option<BackendArg>,
        /// Those of clients in this network only.
        #[arg(long, value_name = "CIDR", value_parser = network)]
        client: Option<IpNet>,
        /// At most this many.
        #[arg(long, value_name = "N", default_value_t = 100, value_parser = clap::value_parser!(u64).range(..=100_000))]
        limit: u64,
    },
    /// Certificates that clients are shown, the first one to expire on top, and files that cannot be used.
    Certificates,
    /// Change a backend until the file changes it: all of it, or nothing.
    Set {
        #[arg(value_name = "POOL/BACKEND")]
        backend: BackendArg,
        #[command(flatten)]
        change: ChangeArgs,
    },
    /// Give a backend no new sessions, and reset those that are left at the deadline. `ringway ctl ready` ends it.
    Drain {
        #[arg(value_name = "POOL/BACKEND")]
        backend: BackendArg,
        /// When what is left is reset; 0s is never [default: the pool's drain_timeout].
        #[arg(long, value_name = "DURATION", value_parser = span)]
        deadline: Option<Duration>,
        /// Return when it has no session left.
        #[arg(long)]
        wait: bool,
    },
    /// End the drain or the maintenance of a backend: it is used again, as its checks say.
    Ready {
        #[arg(value_name = "POOL/BACKEND")]
        backend: BackendArg,
        /// Return when its checks succeed, so that it takes new sessions.
        #[arg(long)]
        wait: bool,
    },
    /// Add a backend to a pool. It stays over reloads, until the file has one of that name.
    Add {
        #[arg(value_name = "POOL/BACKEND")]
        backend: BackendArg,
        #[command(flatten)]
        new: NewBackend,
    },
    /// Remove a backend: it gets no new sessions, those it has end at the deadline, and then it is gone. One of the
    /// file stays away over reloads, until the file says something else of it.
    Remove {
        #[arg(value_name = "POOL/BACKEND")]
        backend: BackendArg,
        /// When what is left is reset; 0s is never [default: the pool's drain_timeout].
        #[arg(long, value_name = "DURATION", value_parser = span)]
        deadline: Option<Duration>,
        /// Return when it is gone.
        #[arg(long)]
        wait: bool,
    },
    /// Put a whole configuration in the place of the file, until the next reload.
    Apply(ApplyOptions),
    /// Reset sessions.
    Kill(Victims),
    /// Read the configuration again: apply it whole, or say what is wrong with it.
    Reload {
        /// Return when every worker serves by it.
        #[arg(long)]
        wait: bool,
    },
    /// Why a backend is in the state it is in: its past, and how the last check went.
    Why {
        #[arg(value_name = "POOL/BACKEND")]
        backend: BackendArg,
    },
}

/// What `set` changes; at least one of them.
#[derive(Args, Debug)]
#[group(required = true, multiple = true)]
struct ChangeArgs {
    /// Its share, 0 to 256; with 0 it takes no new sessions.
    #[arg(long, value_name = "N", value_parser = clap::value_parser!(u16).range(..=256))]
    weight: Option<u16>,
    /// What it is used for; `drain` ends its sessions after the pool's drain_timeout, `maintenance` never.
    #[arg(long, value_name = "STATE")]
    state: Option<ModeArg>,
    /// The limit on its sessions; 0 is no limit.
    #[arg(long, value_name = "N")]
    connections_max: Option<u32>,
}

/// The states that an operator can set.
#[derive(Clone, Copy, Debug, ValueEnum)]
enum ModeArg {
    /// Used as its checks say.
    Ready,
    /// No new sessions; open ones end at a deadline.
    Drain,
    /// No new sessions and no checks; open ones stay.
    Maintenance,
}

/// Which sessions `kill` resets; exactly one of them.
#[derive(Args, Debug)]
#[group(required = true, multiple = false)]
struct Victims {
    /// The one with this id.
    #[arg(long, value_name = "ID")]
    session: Option<String>,
    /// All of this backend.
    #[arg(long, value_name = "POOL/BACKEND")]
    backend: Option<BackendArg>,
    /// All of clients in this network.
    #[arg(long, value_name = "CIDR", value_parser = network)]
    client: Option<IpNet>,
}

/// A backend, written as `POOL/BACKEND`.
#[derive(Clone, Debug, PartialEq)]
struct BackendArg {
    /// The name of its pool.
    pool: String,
    /// Its own name.
    name: String,
}

impl FromStr for BackendArg {
    type Err = &'static str;

    fn from_str(text: &str) -> Result<BackendArg, &'static str> {
        match text.split_once('/') {
            Some((pool, name)) if !pool.is_empty() && !name.is_empty() => {
                Ok(BackendArg { pool: pool.to_string(), name: name.to_string() })
            }
            _ => Err("write it as POOL/BACKEND, as `ringway ctl backends` does"),
        }
    }
}

impl BackendArg {
    /// Its path in the API.
    fn path(&self) -> String {
        format!("/v1/pools/{}/backends/{}", escaped(&self.pool), escaped(&self.name))
    }

    /// Its parameter in a query for sessions.
    fn query(&self) -> String {
        format!("backend={}", escaped(&format!("{}/{}", self.pool, self.name)))
    }
}

/// An address, or a network in CIDR notation.
fn network(text: &str) -> Result<IpNet, &'static str> {
    let alone = || text.parse().map(|address: std::net::IpAddr| IpNet::from(address));
    text.parse().or_else(|_| alone()).map_err(|_| "write an address or a CIDR, as in 10.0.0.7 or 10.0.0.0/8")
}

/// A time with its unit.
fn span(text: &str) -> Result<Duration, String> {
    humantime::parse_duration(text).map_err(|error| match text.parse::<u64>() {
        Ok(number) => format!("a number needs its unit: {number}s or {number}ms"),
        Err(_) => format!("{error}; write it as in 30s or 5m"),
    })
}

/// One run of a command: where it asks, and how it writes the answer.
struct Ctl<'a> {
    /// Where requests go.
    client: ApiClient<'a>,
    /// Whether answers are printed as they come.
    json: bool,
    /// Whether tables are coloured.
    paint: Paint,
}

/// The command.
pub(super) fn ctl(options: &CtlOptions) -> Result<(), Failure> {
    let socket = socket(options.socket.as_ref());
    let ctl = Ctl { client: ApiClient::new(&socket)?, json: options.json, paint: Paint::of_stdout() };
    match &options.command {
        CtlCommand::Status => ctl.status(),
        CtlCommand::Pools => ctl.show("/v1/pools", |pools: &words::Pools, paint| show::pools(&pools.pools, paint)),
        CtlCommand::Backends { pool: None } => {
            ctl.show("/v1/pools", |pools: &words::Pools, paint| show::backends(&pools.pools, paint))
        }
        CtlCommand::Backends { pool: Some(pool) } => {
            let path = format!("/v1/pools/{}", escaped(pool));
            ctl.show(&path, |pool: &words::PoolStatus, paint| show::backends(std::slice::from_ref(pool), paint))
        }
        CtlCommand::Sessions { backend, client, limit } => {
            let mut query = format!("?limit={limit}");
            query.extend(backend.iter().map(|backend| format!("&{}", backend.query())));
            query.extend(client.iter().map(|client| format!("&client={client}")));
            ctl.show(&format!("/v1/sessions{query}"), show::sessions)
        }
        CtlCommand::Certificates => ctl.show("/v1/certificates", |all: &words::Certificates, paint| {
            certificates::certificates(&all.certificates, paint)
        }),
        CtlCommand::Why { backend } => ctl.show(&backend.path(), show::why),
        CtlCommand::Set { backend, change } => ctl.set(backend, change),
        CtlCommand::Drain { backend, deadline, wait } => ctl.drain(backend, *deadline, *wait),
        CtlCommand::Ready { backend, wait } => ctl.ready(backend, *wait),
        CtlCommand::Add { backend, new } => ctl.add(backend, new),
        CtlCommand::Remove { backend, deadline, wait } => ctl.remove(backend, *deadline, *wait),
        CtlCommand::Apply(options) => ctl.apply(&options.file, options.dry_run),
        CtlCommand::Kill(victims) => ctl.kill(victims),
        CtlCommand::Reload { wait } => ctl.reload(*wait),
    }
}

/// The path of the socket: the option, else the environment, else the default.
pub(super) fn socket(given: Option<&PathBuf>) -> PathBuf {
    let of_environment = || std::env::var_os("RINGWAY_SOCKET").filter(|path| !path.is_empty()).map(PathBuf::from);
    given.cloned().or_else(of_environment).unwrap_or_else(|| PathBuf::from(DEFAULT_SOCKET))
}

impl Ctl<'_> {
    /// Asks for something and prints it: as it came with `--json`, else as `show` writes it.
    fn show<T: DeserializeOwned>(&self, path: &str, show: impl Fn(&T, Paint) -> String) -> Result<(), Failure> {
        if self.json {
            return self.print_json(&self.client.ask(Method::GET, path, None)?.accept()?);
        }
        super::print(show(&self.client.get(path)?, self.paint).as_bytes())
    }

    /// `status`: for people it also lists the pools, and certificates that need attention.
    fn status(&self) -> Result<(), Failure> {
        if self.json {
            return self.print_json(&self.client.ask(Method::GET, "/v1/status", None)?.accept()?);
        }
        let (status, pools) = (self.client.get("/v1/status")?, self.client.get::<words::Pools>("/v1/pools")?);
        // A ringway of before knows nothing of certificates.
        let warned = self.client.get::<words::Certificates>("/v1/certificates");
        let warned = warned.map(|all| certificates::warnings(&all.certificates, self.paint)).unwrap_or_default();
        super::print((show::status(&status, &pools.pools, self.paint) + &warned).as_bytes())
    }

    /// Prints an answer as it came.
    fn print_json(&self, body: &[u8]) -> Result<(), Failure> {
        super::print(&[body, b"\n"].concat())
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::cli::args::Arguments;
    use clap::Parser;

    #[test]
    fn a_backend_is_named_with_its_pool() {
        let backend: BackendArg = "db/unix:/run/x".parse().unwrap();
        assert_eq!((backend.pool.as_str(), backend.name.as_str()), ("db", "unix:/run/x"));
        assert_eq!(backend.path(), "/v1/pools/db/backends/unix%3A%2Frun%2Fx");
        assert!(["db", "/a", "db/", ""].into_iter().all(|text| text.parse::<BackendArg>().is_err()));
    }

    #[test]
    fn who_is_to_be_killed_must_be_said_and_in_one_way() {
        let parse = |line: &str| Arguments::try_parse_from(line.split(' ')).is_ok();
        assert!(parse("ringway ctl kill --session 1f") && parse("ringway ctl --json kill --client 10.0.0.0/8"));
        assert!(parse("ringway ctl kill --backend db/a --json"));
        for line in ["kill", "kill --session 1 --backend a/b", "kill --client x", "set a/b", "set a/b --state up", ""] {
            assert!(!parse(&format!("ringway ctl {line}")), "{line}");
        }
        assert!(parse("ringway ctl drain a/b --deadline 30s --wait") && parse("ringway ctl set a/b --weight 0"));
    }

    /// As the configuration and the API have it.
    #[test]
    fn a_weight_that_no_backend_can_have_is_refused_before_anything_is_asked() {
        let parse = |weight: &str| Arguments::try_parse_from(["ringway", "ctl", "set", "a/b", "--weight", weight]);
        assert!(["0", "1", "256"].into_iter().all(|weight| parse(weight).is_ok()));
        for weight in ["257", "300", "70000"] {
            let error = parse(weight).unwrap_err();
            assert_eq!(error.kind(), clap::error::ErrorKind::ValueValidation, "{weight}");
            assert!(error.to_string().contains("is not in 0..=256"), "{error}");
        }
    }
}
