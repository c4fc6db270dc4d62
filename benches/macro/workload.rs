//! The workloads by name, and the bar that each is held against.

use std::net::{SocketAddr, TcpListener};

use crate::load::beside::{Beside, Rest, open_stalled};
use crate::load::bulk::{Bulk, Toward};
use crate::load::churn::Churn;
use crate::load::idle::open_used;
use crate::load::mix::Mix;
use crate::load::paced::Paced;
use crate::load::round_trip::RoundTrips;
use crate::load::tls_bulk::TlsBulk;
use crate::load::tls_churn::TlsChurn;
use crate::load::{Fault, Load, open_pairs};
use crate::ring::Ring;
use crate::tls::{self, Certificate};

/// What a figure is.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub enum Measure {
    /// Bytes per CPU second of the proxy; more is better.
    Bytes,
    /// Operations per CPU second of the proxy; more is better.
    Operations,
    /// 99th percentile of a latency in microseconds; less is better.
    Latency,
    /// Bytes of user memory a session; less is better.
    Memory,
    /// Per cent of a core; less is better.
    Share,
}

/// One line of the table.
#[derive(Clone, Copy, Debug)]
pub struct Workload {
    /// What `--workloads` calls it.
    pub name: &'static str,
    /// What the table calls it.
    pub title: &'static str,
    /// What its figure is.
    pub measure: Measure,
    /// True exactly when clients speak TLS, which ends at the proxy.
    pub has_tls: bool,
    /// The least ratio to the best peer that is asked for (the greatest, where less is better; bytes for memory without
    /// TLS).
    pub bar: f64,
    /// The ratio that is hoped for.
    pub aim: f64,
}

const fn line(name: &'static str, title: &'static str, measure: Measure, bar: f64, aim: f64) -> Workload {
    Workload { name, title, measure, has_tls: false, bar, aim }
}

const fn over_tls(name: &'static str, title: &'static str, measure: Measure, bar: f64, aim: f64) -> Workload {
    Workload { has_tls: true, ..line(name, title, measure, bar, aim) }
}

/// All, in the order of the table.
pub const ALL: [Workload; 21] = [
    line("bulk1", "bulk to the backend, 1 flow", Measure::Bytes, 1.0, 1.2),
    line("bulk32", "bulk to the backend, 32 flows", Measure::Bytes, 1.0, 1.2),
    line("down1", "bulk to the client, 1 flow", Measure::Bytes, 1.0, 1.2),
    line("down32", "bulk to the client, 32 flows", Measure::Bytes, 1.0, 1.2),
    line("rr1", "64 B round trips, 1 session", Measure::Operations, 1.0, 1.05),
    line("rr8", "64 B round trips, 8 sessions", Measure::Operations, 1.0, 1.05),
    line("rr64", "64 B round trips, 64 sessions", Measure::Operations, 1.05, 1.10),
    line("rr1000", "64 B round trips, 1000 sessions", Measure::Operations, 1.10, 1.25),
    line("rr16k", "16 KiB round trips, 64 sessions", Measure::Operations, 1.05, 1.10),
    line("cps", "connect, one request, close", Measure::Operations, 1.08, 1.15),
    line("cps9000", "the same beside 9,000 idle sessions", Measure::Operations, 1.08, 1.15),
    line("reset9000", "connect, one request, reset, beside 9,000 idle sessions", Measure::Operations, 1.0, 1.15),
    line("stalled", "5,000 stalled clients, half of them half-closed", Measure::Share, 1.0, 0.5),
    line("mix", "p99 of small round trips beside 8 bulk flows", Measure::Latency, 1.0, 0.5),
    line("idle", "user memory of an idle session", Measure::Memory, 768.0, 400.0),
    over_tls("tls_bulk", "TLS: bulk to the backend, 8 flows", Measure::Bytes, 1.0, 1.3),
    over_tls("tls_down", "TLS: bulk to the client, 8 flows", Measure::Bytes, 1.0, 1.3),
    over_tls("tls_rr64", "TLS: 64 B round trips, 64 sessions", Measure::Operations, 1.0, 1.15),
    over_tls("tls_handshake", "TLS: full handshake, one request, close", Measure::Operations, 1.0, 1.2),
    over_tls("tls_resume", "TLS: resumed handshake, one request, close", Measure::Operations, 1.0, 1.2),
    over_tls("tls_idle", "TLS: user memory of an idle session", Measure::Memory, 0.5, 0.25),
];

/// A bulk write, and a shorter one for where the generator has to look after latencies in between.
const CHUNK: usize = 256 << 10;
const CHUNK_MIX: usize = 64 << 10;
/// Flows of TLS bulk, and clients at a time that shake hands.
const TLS_FLOWS: usize = 8;
const TLS_CLIENTS: usize = 64;

impl Workload {
    /// A workload by name.
    pub fn named(name: &str) -> Option<Workload> {
        ALL.into_iter().find(|workload| workload.name == name)
    }

    /// True if a smaller figure is the better one.
    pub fn less_is_better(&self) -> bool {
        matches!(self.measure, Measure::Latency | Measure::Memory | Measure::Share)
    }

    /// True if the bar is a figure of its own and no ratio.
    pub fn is_bar_a_figure(&self) -> bool {
        self.measure == Measure::Share || self.measure == Measure::Memory && !self.has_tls
    }

    /// Opens the sessions and makes the load of this workload.
    /// `beside` sessions do nothing beside those workloads that have such.
    pub fn open(
        &self,
        ring: &mut Ring,
        proxy: SocketAddr,
        backend: &TcpListener,
        beside: usize,
    ) -> Result<Box<dyn Load>, Fault> {
        let mut trips = |sessions, size| -> Result<Box<dyn Load>, Fault> {
            Ok(Box::new(RoundTrips::new(ring, open_pairs(proxy, backend, sessions)?, size)?))
        };
        let flows = |count, toward| -> Result<Box<dyn Load>, Fault> {
            let pairs = open_pairs(proxy, backend, count)?.into_iter().map(|pair| (pair, toward));
            Ok(Box::new(Bulk::new(pairs.collect(), CHUNK)))
        };
        match self.name {
            "bulk1" => flows(1, Toward::Backend),
            "bulk32" => flows(32, Toward::Backend),
            "down1" => flows(1, Toward::Client),
            "down32" => flows(32, Toward::Client),
            "rr1" => trips(1, 64),
            "rr8" => trips(8, 64),
            "rr64" => trips(64, 64),
            "rr1000" => trips(1000, 64),
            "rr16k" => trips(64, 16 << 10),
            "cps" => Ok(Box::new(Churn::new(proxy, backend, 64, false)?)),
            "cps9000" | "reset9000" => {
                let sessions = open_used(proxy, backend, beside)?;
                let load = Box::new(Churn::new(proxy, backend, 64, self.name == "reset9000")?);
                Ok(Box::new(Beside { sessions, load }))
            }
            "stalled" => {
                let sessions = open_stalled(proxy, backend, beside * 5 / 9)?;
                Ok(Box::new(Beside { sessions, load: Box::new(Rest) }))
            }
            "mix" => mix(proxy, backend),
            other => Err(format!("{other} is not a workload of the ring")),
        }
    }
}

/// The loads of clients that speak TLS.
pub fn open_tls(
    name: &str,
    ring: &mut Ring,
    proxy: SocketAddr,
    backend: &TcpListener,
    certificate: &Certificate,
) -> Result<Box<dyn Load>, Fault> {
    let sessions = |count| tls::open_sessions(proxy, backend, &certificate.client()?, count);
    let churn = |resumes| -> Result<Box<dyn Load>, Fault> {
        let clients = certificate.quick_clients(TLS_CLIENTS, resumes)?;
        Ok(Box::new(TlsChurn::new(proxy, backend, clients, resumes)?))
    };
    match name {
        "tls_bulk" => Ok(Box::new(TlsBulk::new(sessions(TLS_FLOWS)?, Toward::Backend))),
        "tls_down" => Ok(Box::new(TlsBulk::new(sessions(TLS_FLOWS)?, Toward::Client))),
        "tls_rr64" => Ok(Box::new(RoundTrips::over_tls(ring, sessions(64)?, 64)?)),
        "tls_handshake" => churn(false),
        "tls_resume" => churn(true),
        other => Err(format!("{other} is not a workload of the ring with TLS")),
    }
}

fn mix(proxy: SocketAddr, backend: &TcpListener) -> Result<Box<dyn Load>, Fault> {
    let small = Paced::new(open_pairs(proxy, backend, 16)?, 1_000_000)?;
    let toward = [Toward::Backend, Toward::Client].into_iter().cycle();
    let pairs = open_pairs(proxy, backend, 8)?.into_iter().zip(toward);
    Ok(Box::new(Mix { bulk: Bulk::new(pairs.collect(), CHUNK_MIX), small }))
}
