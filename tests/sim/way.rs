//! The way of a session to its backend, by its record: no client is refused for a header that it has sent, what this
//! host lacks is no failure of a backend, and a backend hears first what it must.

use ringway::base::address::Address;
use ringway::base::refused::Refused;
use ringway::base::side::Side;
use ringway::base::termination::{Termination, When, Who};
use ringway::config::model::{LocalAddress, Pool};
use ringway::stats::ConnectError;
use ringway::stats::record::{Attempt, EndReason, Record};
use ringway::wire::postgresql;
use ringway::wire::proxy::{self, ProxyClaim};

use crate::corner::Corner;
use crate::host::Host;
use crate::limits::Spans;
use crate::pair::Pair;
use crate::sock::Sock;
use crate::world::World;

/// What a client that wants TLS is told before its backend is asked.
const GO_ON: &[u8] = b"S";

impl World {
    /// To be called when a session is over; says which corners it has reached.
    pub fn check_way(&self, host: &Host, record: &Record, pair: &Pair) -> Vec<Corner> {
        let client = pair.socks[Side::Client.index()].map(|sock| &host.socks[sock]);
        let backend = pair.socks[Side::Backend.index()].map(|sock| &host.socks[sock]);
        let pool = self.control.pool(record.pool);
        let mut corners = Vec::new();
        if let Some(claim) = client.and_then(claim_of) {
            let for_its_header = matches!(
                record.reason,
                Some(EndReason::Refused(Refused::ProxyMalformed | Refused::ProxyTimeout | Refused::ProxyUntrusted))
            );
            assert!(!for_its_header, "{:?} with {claim:?}, which was taken out", record.reason);
            corners.push(Corner::HeaderTakenOut);
        }
        if let (Some(client), Some(backend), Some(_)) = (client, backend, pair.connected_at) {
            let expected = greeting(pool, client);
            assert_eq!(backend.greeting, expected, "what the backend of {:?} hears first", record.session);
            corners.extend((!expected.is_empty()).then_some(Corner::GreetingHeard));
        }
        let greets = pool.dial.send_proxy.is_some() || client.is_some_and(|client| client.greeting == GO_ON);
        if !greets && pool.dial.source == LocalAddress::Any {
            corners.extend(check_wants(record, pair, pool));
        }
        corners
    }
}

/// What a client has said that it is, once that was taken out.
fn claim_of(client: &Sock) -> Option<ProxyClaim> {
    let header = proxy::parse(&client.preamble).ok().flatten()?;
    (client.skipped >= header.len as u64).then_some(header.claim)
}

/// What must come before the client's bytes.
fn greeting(pool: &Pool, client: &Sock) -> Vec<u8> {
    let mut greeting = Vec::new();
    if let Some(version) = pool.dial.send_proxy {
        let header = match (claim_of(client), &client.peer_address, &client.own_address) {
            (Some(ProxyClaim::Tcp { source, destination }), ..) => proxy::encode(version, Some((source, destination))),
            (_, &Address::Tcp(peer), &Address::Tcp(own)) => proxy::encode(version, Some((peer, own))),
            _ => proxy::encode_unknown(version),
        };
        greeting.extend_from_slice(&header);
    }
    if client.greeting == GO_ON {
        greeting.extend_from_slice(&postgresql::SSL_REQUEST);
    }
    greeting
}

/// For as long as an attempt may take, it waits for what this host is short of. Only a port is not waited for, nor an
/// address of its own, nor memory for a greeting: those of other pools are not looked at.
fn check_wants(record: &Record, pair: &Pair, pool: &Pool) -> Option<Corner> {
    let connect_ns = Spans::of(pool).connect;
    let Termination(who, when) = record.termination;
    // The last one may have been cut short with its session.
    let is_cut = record.connect_ns.is_none() && (who, when) != (Who::Resource, When::Connect);
    let whole = record.failed.len() - usize::from(is_cut && !record.failed.is_empty());
    let wants = record.failed[..whole].iter().filter(|attempt| attempt.error == ConnectError::Resource);
    let (waited, at_once): (Vec<&Attempt>, Vec<&Attempt>) = wants.partition(|attempt| attempt.took_ns >= connect_ns);
    let ports = pair.ports_refused as usize;
    assert!(at_once.len() <= ports, "{at_once:?} of {:?}, which may wait for {connect_ns} ns", record.session);
    (!waited.is_empty()).then_some(Corner::WaitedInVain)
}
