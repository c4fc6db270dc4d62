//! Handshakes that are cut at a random byte of either flight, by a reset or a FIN, leave nothing behind.
//!
//! RINGWAY_TLS_CUTS is how many there are, RINGWAY_TLS_CUTS_FROM the seed of the first one. scripts/soak_tls.sh makes
//! many of them.

use std::io::{self, Read, Write};
use std::sync::atomic::{AtomicU64, Ordering::Relaxed};

use rustls::Connection;

use crate::harness::authority::Authority;
use crate::harness::bytes::mix;
use crate::harness::ringway::Plan;
use crate::harness::secure::Trust;
use crate::harness::secure_server::Shown;
use crate::harness::{Backend, Peer, Ringway};
use crate::tls_listener::{pattern, plan};

const NAME: &str = "db.example";
/// What the application sends in each direction behind a handshake.
const LEN: usize = 1000;
const THREADS: u64 = 4;

fn number(variable: &str, default: u64) -> u64 {
    std::env::var(variable).map_or(default, |text| text.parse().unwrap())
}

/// How one end of a connection is cut.
struct Cut {
    /// After so many bytes that it sends.
    up: usize,
    /// Or that it reads.
    down: usize,
    resets: bool,
    /// After its FIN it waits for the other one.
    waits: bool,
}

impl Cut {
    /// Most of them within a flight, whose lengths are at the most `up` and `down`.
    fn of(seed: u64, up: usize, down: usize) -> Cut {
        let chance = mix(seed);
        let [in_up, in_down] = [up, down].map(|len| (chance >> 16) as usize % len);
        let (up, down) = if chance & 1 == 0 { (in_up, usize::MAX) } else { (usize::MAX, in_down) };
        Cut { up, down, resets: chance & 6 == 0, waits: chance & 6 == 2 }
    }

    /// Shakes hands and moves bytes until it is cut. At the latest when all is said.
    fn cut(mut self, mut tls: Connection, mut peer: Peer) {
        let _ = self.go(&mut tls, &mut peer);
        if self.resets {
            return peer.reset();
        }
        // This fails where the other end has reset.
        peer.abort(std::net::Shutdown::Write);
        while self.waits && peer.read_some(1 << 14).is_ok_and(|some| !some.is_empty()) {}
    }

    fn go(&mut self, tls: &mut Connection, peer: &mut Peer) -> io::Result<()> {
        tls.writer().write_all(&pattern(LEN))?;
        let (mut got, mut part) = (0, vec![0; LEN]);
        loop {
            let mut bytes = Vec::new();
            while tls.wants_write() {
                tls.write_tls(&mut bytes)?;
            }
            let sent = self.up.min(bytes.len());
            peer.write_all(&bytes[..sent])?;
            self.up -= sent;
            if self.up == 0 || self.down == 0 || (got == LEN && !tls.wants_write()) {
                return Ok(());
            }
            let some = peer.read_some(self.down.min(2000))?;
            if some.is_empty() {
                return Ok(());
            }
            self.down -= some.len();
            tls.read_tls(&mut &some[..])?;
            tls.process_new_packets().map_err(io::Error::other)?;
            while let Ok(count @ 1..) = tls.reader().read(&mut part) {
                got += count;
            }
            if got == LEN {
                tls.send_close_notify();
            }
        }
    }
}

/// Calls `one` for each seed of these, on several threads.
fn each(from: u64, count: u64, one: impl Fn(u64) + Sync) {
    let next = AtomicU64::new(from);
    std::thread::scope(|scope| {
        for _ in 0..THREADS {
            scope.spawn(|| {
                loop {
                    let seed = next.fetch_add(1, Relaxed);
                    if seed >= from + count {
                        return;
                    }
                    one(seed);
                }
            });
        }
    });
}

/// No session, descriptor or buffer is left, and each session has one code.
fn assert_clean(ringway: &Ringway, base: usize) {
    ringway.wait_idle();
    ringway.wait_descriptors(base);
    let metrics = ringway.metrics();
    for gauge in ["connections", "listener_connections", "backend_connections", "worker_connections"] {
        assert_eq!(metrics.count(gauge, &[]), 0, "{gauge}");
    }
    assert_eq!(metrics.count("worker_buffers_starved_total", &[]), 0, "there are few, and all came back");
    let ended: u64 = metrics.codes().iter().map(|(_, count)| count).sum();
    assert_eq!(ended, metrics.count("listener_connections_total", &[]), "each session has one code");
}

/// So few that some that do not come back are missed.
fn few_buffers(plan: Plan) -> Plan {
    plan.process("receive_buffers_max = \"4MiB\"").workers(1)
}

const VERSIONS: [&rustls::SupportedProtocolVersion; 2] = [&rustls::version::TLS12, &rustls::version::TLS13];

#[test]
fn handshakes_of_clients_that_are_cut_at_any_byte_leave_nothing_behind() {
    let (from, count) = (number("RINGWAY_TLS_CUTS_FROM", 0), number("RINGWAY_TLS_CUTS", 400));
    let (authority, backend) = (Authority::new(), Backend::echo());
    let trusts = VERSIONS.map(|version| Trust::with(&authority, &[version], None));
    let trusts = [trusts.clone(), trusts.map(Trust::without_tickets)].concat();
    for has_tickets in [true, false] {
        let more = format!("tickets = {has_tickets}");
        let ringway = few_buffers(plan(backend.address(), &[&authority.sign(&[NAME])], &more)).start();
        let base = ringway.process().descriptors();
        each(from, count / 2, |seed| {
            let cut = Cut::of(2 * seed + u64::from(has_tickets), 1800, 3000);
            let connection = trusts[seed as usize % trusts.len()].connection(NAME);
            cut.cut(connection.into(), ringway.connect());
        });
        let done = |labels: &[_]| ringway.metrics().count("tls_handshakes_total", labels);
        assert_clean(&ringway, base);
        let (all, failed, resumed) = (done(&[]), done(&[("result", "failure")]), done(&[("resumed", "true")]));
        println!("tickets {has_tickets}: {all} handshakes, {failed} failed, {resumed} resumed");
        println!("codes {:?}", ringway.metrics().codes());
        assert!(failed * 16 > count / 2, "a good part is cut in the handshake: {failed}");
        assert_eq!(resumed > 0, has_tickets);
        let mut client = trusts[0].connect(ringway.address(), NAME);
        client.send(b"served on");
        client.expect(b"served on");
    }
}

#[test]
fn handshakes_that_backends_cut_at_any_byte_leave_nothing_behind() {
    let (from, count) = (number("RINGWAY_TLS_CUTS_FROM", 0), number("RINGWAY_TLS_CUTS", 400));
    let authority = Authority::new();
    let certificate = authority.sign(&[NAME]);
    let shown = VERSIONS.map(|version| Shown::with(&certificate, &[version], None));
    let shown = [shown.clone(), shown.map(Shown::without_tickets)].concat();
    let backend = Backend::new(move |peer, number| {
        let cut = Cut::of((from << 32) + number as u64, 3000, 1800);
        cut.cut(shown[number % shown.len()].connection().into(), peer);
    });
    let tls = format!("[pools.main.tls]\nca_file = {:?}\nserver_name = {NAME:?}\n", authority.file());
    let ringway = few_buffers(Ringway::before([backend.address()]).more(&tls).never_ejecting()).start();
    let base = ringway.process().descriptors();
    each(from, count, |_| {
        // On a busy machine a session can be over before its client knows that it is connected.
        let Ok(mut client) = Peer::try_connect(ringway.address()) else { return };
        let _ = client.write_all(&pattern(LEN));
        while client.read_some(1 << 14).is_ok_and(|some| !some.is_empty()) {}
    });
    assert_clean(&ringway, base);
    let done = |labels: &[_]| ringway.metrics().count("tls_backend_handshakes_total", labels);
    let (all, failed, resumed) = (done(&[]), done(&[("result", "failure")]), done(&[("result", "resumed")]));
    println!("{all} handshakes with backends, {failed} failed, {resumed} resumed");
    println!("codes {:?}", ringway.metrics().codes());
    assert!(failed * 16 > count && resumed > 0, "a good part is cut in the handshake: {failed}");
}
