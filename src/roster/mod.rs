//! What control asks workers about their sessions, and what they answer.
//!
//! Workers and control never name each other, so what goes between them stands here. Control asks each worker; a worker
//! looks at a bounded number of its sessions in a turn of its loop and answers once, when it has seen all of them. A
//! session that is there from the question to the answer is seen exactly once.
#![forbid(unsafe_code)]

pub mod survey;

use std::net::SocketAddr;

use ipnet::IpNet;

use crate::base::address::Address;
use crate::base::id::{BackendId, ListenerId, PoolId};
pub use crate::base::session::{NotAnId, SessionId};

/// Which sessions are meant. What is `None` leaves none out.
#[derive(Clone, Debug, Default)]
pub struct Filter {
    /// Those that hold one of these backends.
    pub backends: Option<Vec<BackendId>>,
    /// Those of clients in this network.
    pub client: Option<IpNet>,
    /// That one.
    pub id: Option<SessionId>,
}

impl Filter {
    /// Whether a session that holds that backend is meant. The client is asked for only if it matters, as that costs a
    /// system call.
    pub fn matches(&self, backend: Option<BackendId>, client: impl FnOnce() -> Option<Address>) -> bool {
        let backend_matches =
            self.backends.as_ref().is_none_or(|wanted| backend.is_some_and(|backend| wanted.contains(&backend)));
        backend_matches && self.client.is_none_or(|network| client().is_some_and(|client| is_within(network, &client)))
    }
}

/// An IPv4 client of an IPv6 listener counts by its IPv4 address. Clients of unix sockets are in no network.
fn is_within(network: IpNet, client: &Address) -> bool {
    match client {
        Address::Tcp(client) => network.contains(&client.ip().to_canonical()) || network.contains(&client.ip()),
        Address::Unix(_) => false,
    }
}

/// What is to be done with them.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub enum What {
    /// Describe them, at most so many; all are counted.
    List {
        /// Descriptions.
        limit: usize,
    },
    /// Reset them.
    Kill,
}

/// A question to one worker.
pub struct RosterRequest {
    /// Which sessions.
    pub filter: Filter,
    /// What with them.
    pub what: What,
    /// Takes the answer, on the worker's thread: it must not wait. Dropped if the worker ends before.
    pub reply: Box<dyn FnOnce(Answer) + Send>,
}

/// What one worker says.
#[derive(Debug, Default)]
pub struct Answer {
    /// As many as were asked for.
    pub records: Vec<RosterRecord>,
    /// How many were meant, or killed.
    pub matching: u64,
}

/// One session, as it is at that moment.
#[derive(Clone, Debug)]
pub struct RosterRecord {
    /// Which one.
    pub id: SessionId,
    /// `None` once the connection has no peer any more.
    pub client: Option<Address>,
    /// Where it came in.
    pub listener: ListenerId,
    /// The pool that serves it.
    pub pool: PoolId,
    /// The backend it holds.
    pub backend: Option<BackendId>,
    /// Ringway's own address of the connection to it; `None` if there is none, or it is a unix socket.
    pub backend_local: Option<SocketAddr>,
    /// How far it has come.
    pub stage: Stage,
    /// Since it was accepted.
    pub age_ns: u64,
    /// Since the last byte or FIN, or since it entered its stage.
    pub idle_ns: u64,
    /// Bytes handed to the kernel for the backend and for the client.
    pub bytes: [u64; 2],
}

/// How far a session has come.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub enum Stage {
    /// It has not said yet what it must say first.
    Preread,
    /// It waits for a backend.
    Queued,
    /// On its way to a backend.
    Connecting,
    /// Bytes move, or could.
    Open,
    /// The last bytes are on their way, or nothing is.
    Closing,
}

impl Stage {
    /// The word for it in the API.
    pub fn name(self) -> &'static str {
        match self {
            Stage::Preread => "preread",
            Stage::Queued => "queued",
            Stage::Connecting => "connecting",
            Stage::Open => "open",
            Stage::Closing => "closing",
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    proptest! {
        #[test]
        fn an_id_says_whose_it_is_and_survives_as_text(
            worker in 0..1usize << 12, place in 0..1u32 << 28, generation in 0..1u32 << 24,
        ) {
            let id = SessionId::new(worker, place, generation);
            prop_assert_eq!((id.worker(), id.place(), id.generation()), (worker, place, generation));
            prop_assert_eq!(id.to_string().parse(), Ok(id));
        }

        #[test]
        fn no_text_is_taken_for_an_id_that_is_written_otherwise(text in "[ +-]?[0-9a-fxg]{0,18}") {
            if let Ok(id) = text.parse::<SessionId>() {
                prop_assert_eq!(format!("{:0>1$}", id.to_string(), text.len()), text);
            }
        }
    }

    fn tcp(text: &str) -> Option<Address> {
        Some(Address::Tcp(text.parse().unwrap()))
    }

    #[test]
    fn a_filter_leaves_out_what_it_does_not_name() {
        let all = Filter::default();
        assert!(all.matches(None, || panic!("asked for a client that does not matter")));
        let backend = Filter { backends: Some(vec![BackendId(2), BackendId(5)]), ..Filter::default() };
        assert!(backend.matches(Some(BackendId(5)), || None));
        assert!(!backend.matches(Some(BackendId(3)), || None) && !backend.matches(None, || None));
        let client = Filter { client: Some("10.0.0.0/8".parse().unwrap()), ..Filter::default() };
        assert!(client.matches(None, || tcp("10.1.2.3:4")) && client.matches(None, || tcp("[::ffff:10.1.2.3]:4")));
        assert!(!client.matches(None, || tcp("11.1.2.3:4")) && !client.matches(None, || None));
        assert!(!client.matches(None, || Some(Address::Unix("/x".into()))));
    }
}
