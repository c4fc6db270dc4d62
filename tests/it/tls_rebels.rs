//! Clients that break the rules of TLS: each is told so, the log says why, and ringway serves the next one.

use ringway::tls::record::{ContentType, RecordKey};
use rustls::{ClientConnection, SupportedProtocolVersion};

use crate::harness::authority::Authority;
use crate::harness::secure::Trust;
use crate::harness::{Backend, End, Peer, Ringway, wait_until};
use crate::tls_listener::plan;

const NAME: &str = "db.example";
const TLS12: &SupportedProtocolVersion = &rustls::version::TLS12;
const TLS13: &SupportedProtocolVersion = &rustls::version::TLS13;

/// A record in the clear.
fn clear(kind: u8, content: &[u8]) -> Vec<u8> {
    [&[kind, 3, 3][..], &(content.len() as u16).to_be_bytes(), content].concat()
}

/// A record of these keys.
fn secret(key: &mut RecordKey, kind: ContentType, content: &[u8]) -> Vec<u8> {
    let mut content = content.to_vec();
    let wrapping = key.seal(kind, &mut content).unwrap();
    [wrapping.head(), &content, wrapping.tail()].concat()
}

/// What a client has to say.
fn said(tls: &mut ClientConnection) -> Vec<u8> {
    let mut bytes = Vec::new();
    while tls.wants_write() {
        tls.write_tls(&mut bytes).unwrap();
    }
    bytes
}

/// Reads until the client has something to say, or has shaken hands.
fn hear(tls: &mut ClientConnection, peer: &mut Peer) {
    while tls.is_handshaking() && !tls.wants_write() {
        let some = peer.read_some(1 << 14).unwrap();
        assert!(!some.is_empty());
        tls.read_tls(&mut &some[..]).unwrap();
        tls.process_new_packets().unwrap();
    }
}

/// A ringway, with the clients that it has judged so far.
struct Court {
    authority: Authority,
    ringway: Ringway,
    base: usize,
    judged: usize,
    _backend: Backend,
}

impl Court {
    fn new() -> Court {
        let (authority, backend) = (Authority::new(), Backend::echo());
        let plan = plan(backend.address(), &[&authority.sign(&[NAME])], "handshake_timeout = \"10s\"");
        let ringway = plan.access_log("stderr", "json").start();
        let base = ringway.process().descriptors();
        Court { authority, ringway, base, judged: 0, _backend: backend }
    }

    /// Before its first word.
    fn client(&self, version: &'static SupportedProtocolVersion) -> (ClientConnection, Peer) {
        let tls = Trust::with(&self.authority, &[version], None).without_tickets().connection(NAME);
        (tls, self.ringway.connect())
    }

    /// After a handshake by the rules.
    fn shaken(&self, version: &'static SupportedProtocolVersion) -> (ClientConnection, Peer) {
        let (mut tls, mut peer) = self.client(version);
        peer.send(&said(&mut tls));
        while tls.is_handshaking() {
            hear(&mut tls, &mut peer);
            peer.send(&said(&mut tls));
        }
        (tls, peer)
    }

    /// The connection ends, and the log has this reason. How it ends.
    #[track_caller]
    fn judges(&mut self, what: &str, mut peer: Peer, reason: &str) -> End {
        let end = peer.drain().1;
        self.judged += 1;
        let lines = || {
            let all = self.ringway.process().output();
            all.lines().filter(|line| line.contains("\"client\":")).map(str::to_string).collect::<Vec<_>>()
        };
        wait_until("it is in the log", || lines().len() == self.judged);
        let line = lines().pop().unwrap();
        assert!(line.contains(&format!("\"tls_error\":\"{reason}")), "{what}: {reason:?} is not in {line}");
        end
    }

    /// All that was taken for them was given back, and others are served.
    fn adjourn(self) {
        self.ringway.wait_idle();
        self.ringway.wait_descriptors(self.base);
        let mut client = Trust::of(&self.authority).connect(self.ringway.address(), NAME);
        client.send(b"served on");
        client.expect(b"served on");
    }
}

/// What is sent behind a handshake with the keys of its client, and the alert that it earns.
type Misdeed = (&'static str, &'static SupportedProtocolVersion, fn(&mut RecordKey) -> Vec<u8>, &'static str);

const HELLO: [u8; 6] = [1, 0, 0, 2, 3, 3];

const MISDEEDS: &[Misdeed] = &[
    ("records without a byte", TLS12, |key| repeat(key, ContentType::Data, &[]), "unexpected_message"),
    ("records without a byte", TLS13, |key| repeat(key, ContentType::Data, &[]), "unexpected_message"),
    ("warnings", TLS12, |key| repeat(key, ContentType::Alert, &[1, 41]), "unexpected_message"),
    ("user_canceled", TLS13, |key| repeat(key, ContentType::Alert, &[1, 90]), "unexpected_message"),
    ("a length that is too long", TLS12, |_| vec![23, 3, 3, 0x41, 1], "record_overflow"),
    ("a length that is too long", TLS13, |_| vec![23, 3, 3, 0x41, 1], "record_overflow"),
    ("a length that is too short", TLS12, |_| clear(23, &[7; 3]), "bad_record_mac"),
    ("a length that is too short", TLS13, |_| clear(23, &[7; 3]), "bad_record_mac"),
    ("a record of length 0", TLS12, |_| clear(23, &[]), "bad_record_mac"),
    ("a record of length 0", TLS13, |_| clear(23, &[]), "bad_record_mac"),
    ("a record that was changed", TLS12, changed, "bad_record_mac"),
    ("a record that was changed", TLS13, changed, "bad_record_mac"),
    ("the same record twice", TLS12, |key| secret(key, ContentType::Data, b"x").repeat(2), "bad_record_mac"),
    ("the same record twice", TLS13, |key| secret(key, ContentType::Data, b"x").repeat(2), "bad_record_mac"),
    ("a heartbeat", TLS12, |_| clear(24, &[1, 0x40, 0, 9, 9]), "bad_record_mac"),
    ("a heartbeat", TLS13, |_| clear(24, &[1, 0x40, 0, 9, 9]), "unexpected_message"),
    ("ChangeCipherSpec", TLS12, |_| clear(20, &[1]), "bad_record_mac"),
    ("ChangeCipherSpec", TLS13, |_| clear(20, &[1]), "unexpected_message"),
    ("it inside", TLS12, |key| secret(key, ContentType::ChangeCipherSpec, &[1]), "unexpected_message"),
    ("another handshake", TLS12, |key| secret(key, ContentType::Handshake, &HELLO), "no_renegotiation"),
    ("another handshake", TLS13, |key| secret(key, ContentType::Handshake, &HELLO), "unexpected_message"),
    ("another one in the clear", TLS13, |_| clear(22, &HELLO), "unexpected_message"),
    ("an alert in the clear", TLS13, |_| clear(21, &[2, 40]), "unexpected_message"),
    (
        "an endless message",
        TLS12,
        |key| secret(key, ContentType::Handshake, &[1, 0xff, 0xff, 0xff]),
        "illegal_parameter",
    ),
    (
        "an endless message",
        TLS13,
        |key| secret(key, ContentType::Handshake, &[24, 0xff, 0xff, 0xff]),
        "illegal_parameter",
    ),
    (
        "a KeyUpdate of no kind",
        TLS13,
        |key| secret(key, ContentType::Handshake, &[24, 0, 0, 1, 2]),
        "illegal_parameter",
    ),
    ("a KeyUpdate that is followed", TLS13, followed_update, "unexpected_message"),
    ("half an alert", TLS13, |key| secret(key, ContentType::Alert, &[2]), "decode_error"),
];

fn repeat(key: &mut RecordKey, kind: ContentType, content: &[u8]) -> Vec<u8> {
    (0..33).flat_map(|_| secret(key, kind, content)).collect()
}

fn changed(key: &mut RecordKey) -> Vec<u8> {
    let mut record = secret(key, ContentType::Data, b"secret");
    *record.last_mut().unwrap() ^= 1;
    record
}

/// What follows in the same record would be under the old keys.
fn followed_update(key: &mut RecordKey) -> Vec<u8> {
    secret(key, ContentType::Handshake, &[24, 0, 0, 1, 0, 24, 0, 0, 1, 0])
}

#[test]
fn whatever_a_client_breaks_behind_its_handshake_ends_its_session_and_the_log_says_what_it_was() {
    let mut court = Court::new();
    for (what, version, misdeed, alert) in MISDEEDS {
        let (mut tls, mut peer) = court.shaken(version);
        std::io::Write::write_all(&mut tls.writer(), b"by the rules").unwrap();
        peer.send(&said(&mut tls));
        let (sequence, secrets) = tls.dangerous_extract_secrets().unwrap().tx;
        let mut key = RecordKey::new(version.version, sequence, &secrets).unwrap();
        peer.send(&misdeed(&mut key));
        let end = court.judges(what, peer, &format!("the client broke the rules of TLS: {alert}"));
        assert_eq!(end, End::Reset, "{what}");
    }
    let (tls, mut peer) = court.shaken(TLS13);
    let (sequence, secrets) = tls.dangerous_extract_secrets().unwrap().tx;
    let mut key = RecordKey::new(TLS13.version, sequence, &secrets).unwrap();
    peer.send(&secret(&mut key, ContentType::Alert, &[2, 80]));
    court.judges("an alert", peer, "the client sent the alert internal_error");
    court.adjourn();
}

/// Each of them asks for one of ours. One that also says something is served, however many there are.
#[test]
fn a_flood_of_key_updates_ends_the_session_and_many_amid_bytes_do_not() {
    let mut court = Court::new();
    let (mut tls, mut peer) = court.shaken(TLS13);
    (0..33).for_each(|_| tls.refresh_traffic_keys().unwrap());
    peer.send(&said(&mut tls));
    court.judges("a flood", peer, "the client broke the rules of TLS: unexpected_message");
    let mut client = Trust::with(&court.authority, &[TLS13], None).connect(court.ringway.address(), NAME);
    for _ in 0..200 {
        client.tls.refresh_traffic_keys().unwrap();
        client.send(b"x");
    }
    client.expect(&[b'x'; 200]);
    drop(client);
    court.adjourn();
}

/// What is sent in place of the end of a handshake, given what should be: `hello` stands before the answer.
type Amiss = (&'static str, &'static SupportedProtocolVersion, fn(Vec<u8>) -> Vec<u8>, &'static str);

/// In place of the first flight.
const BEGINNINGS: &[Amiss] = &[
    ("an alert", TLS13, |_| clear(21, &[2, 40]), "received fatal alert"),
    ("bytes", TLS13, |_| clear(23, b"x"), "received unexpected message"),
    ("an empty message", TLS13, |_| clear(22, &[]).repeat(40), "received corrupt message"),
    ("ChangeCipherSpec", TLS12, |hello| [clear(20, &[1]), hello].concat(), "received unexpected message"),
    ("a length that is too long", TLS13, |_| vec![22, 3, 1, 0x41, 1, 1], "record_overflow"),
    ("a message that is too long", TLS13, |_| clear(22, &[1, 0xff, 0xff, 0xff, 3, 3]), "received corrupt message"),
    ("another type", TLS13, |_| clear(22, &[14, 0, 0, 0]), "received unexpected handshake message"),
];

/// In place of the second one.
const ENDS: &[Amiss] = &[
    ("an alert", TLS12, |_| clear(21, &[2, 40]), "received fatal alert: HandshakeFailure"),
    ("an alert", TLS13, |_| clear(21, &[2, 48]), "received fatal alert: UnknownCA"),
    ("half an alert", TLS13, |_| clear(21, &[2]), "received corrupt message"),
    ("warnings", TLS12, |_| clear(21, &[1, 41]).repeat(20), "peer misbehaved: TooManyWarningAlertsReceived"),
    ("another message", TLS12, |_| clear(22, &[14, 0, 0, 0]), "received unexpected handshake message"),
    ("a message in the clear", TLS13, |_| clear(22, &HELLO), "cannot decrypt peer's message"),
    ("ChangeCipherSpec and nothing secret", TLS12, |_| clear(20, &[1]), "received unexpected message"),
    ("many of it", TLS13, |_| clear(20, &[1]).repeat(100), "peer misbehaved"),
    ("one of another form", TLS13, |_| clear(20, &[2]), "peer misbehaved"),
    ("bytes", TLS12, |_| clear(23, b"x"), "received unexpected message"),
    ("bytes", TLS13, |_| clear(23, &[7; 40]), "cannot decrypt peer's message"),
    ("a Finished that was changed", TLS12, last_changed, "cannot decrypt peer's message"),
    ("a Finished that was changed", TLS13, last_changed, "cannot decrypt peer's message"),
    ("no end of messages", TLS12, |_| endless(), "received corrupt message"),
];

fn last_changed(mut flight: Vec<u8>) -> Vec<u8> {
    *flight.last_mut().unwrap() ^= 1;
    flight
}

/// The beginning of one message in many records.
fn endless() -> Vec<u8> {
    let first = clear(22, &[&[16, 0xff, 0xff, 0xff][..], &[0; 16_000]].concat());
    [first, clear(22, &[0; 16_000]).repeat(9)].concat()
}

#[test]
fn whatever_a_client_breaks_in_its_handshake_ends_it_and_the_log_says_what_it_was() {
    let mut court = Court::new();
    for (what, version, amiss, reason) in BEGINNINGS {
        let (mut tls, mut peer) = court.client(version);
        let _ = peer.write_all(&amiss(said(&mut tls)));
        court.judges(what, peer, reason);
    }
    for (what, version, amiss, reason) in ENDS {
        let (mut tls, mut peer) = court.client(version);
        peer.send(&said(&mut tls));
        hear(&mut tls, &mut peer);
        let _ = peer.write_all(&amiss(said(&mut tls)));
        court.judges(&format!("{what}, at the end"), peer, reason);
    }
    court.adjourn();
}

/// What looks odd and is allowed.
#[test]
fn a_hello_in_records_of_one_byte_and_empty_records_amid_others_are_served() {
    let court = Court::new();
    for version in [TLS12, TLS13] {
        let (mut tls, mut peer) = court.client(version);
        let hello = said(&mut tls);
        peer.send(&hello[5..].iter().flat_map(|byte| clear(22, &[*byte])).collect::<Vec<u8>>());
        while tls.is_handshaking() {
            hear(&mut tls, &mut peer);
            peer.send(&said(&mut tls));
        }
        let secrets = tls.dangerous_extract_secrets().unwrap();
        let [mut send, mut receive] =
            [secrets.tx, secrets.rx].map(|(sequence, keys)| RecordKey::new(version.version, sequence, &keys).unwrap());
        for byte in 0..100 {
            let empty: Vec<u8> = (0..20).flat_map(|_| secret(&mut send, ContentType::Data, &[])).collect();
            peer.send(&[empty, secret(&mut send, ContentType::Data, &[byte])].concat());
        }
        let (mut came, mut got) = (Vec::new(), Vec::new());
        while got.len() < 100 {
            came.extend(peer.read_some(1 << 14).unwrap());
            while let Ok(Some(len)) = ringway::tls::record::length(&came)
                && len <= came.len()
            {
                let mut record: Vec<u8> = came.drain(..len).collect();
                // Tickets come first.
                if let Ok((ContentType::Data, at)) = receive.open(&mut record) {
                    got.extend_from_slice(&record[at]);
                }
            }
        }
        assert_eq!(got, (0..100).collect::<Vec<u8>>());
    }
    court.adjourn();
}
