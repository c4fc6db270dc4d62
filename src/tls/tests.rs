//! The server beside rustls as a client, and beside one that breaks the rules; what has come is cut everywhere.

/// Many records at a time.
mod bulk;
/// The same of the client.
mod client;
mod peers;

use proptest::prelude::*;

use self::peers::{Client, Rebel, configs, shake, suites};
use super::codec::{BacklogPool, StreamEnd};
use super::handshake::{Handshake, HandshakeStep};
use super::record::{ContentType, PLAIN_MAX};
use super::*;
use crate::base::lease::BUFFER_LEN;

type Buffer = Box<[u8; BUFFER_LEN]>;

fn buffer() -> Buffer {
    vec![0; BUFFER_LEN].into_boxed_slice().try_into().unwrap()
}

/// Bytes that are all different from their neighbours.
fn pattern(len: usize) -> Vec<u8> {
    (0..len).map(|at| (at * 7 + at / 251) as u8).collect()
}

/// Opens a stream that comes in parts of these lengths, again and again.
fn open_all(codec: &mut Codec, stream: &[u8], cuts: &[usize]) -> Vec<u8> {
    let (mut all, mut spare, mut buffer) = (Vec::new(), BacklogPool::default(), buffer());
    let (mut rest, mut cuts) = (stream, cuts.iter().cycle());
    while codec.has_more() {
        all.extend_from_slice(&buffer_of(codec.open_backlog(&mut buffer, &mut spare), &buffer));
    }
    while !rest.is_empty() {
        let (part, behind) = rest.split_at((*cuts.next().unwrap()).clamp(1, BUFFER_LEN).min(rest.len()));
        buffer[..part.len()].copy_from_slice(part);
        let opened = codec.open(&mut buffer, part.len(), &mut spare);
        all.extend_from_slice(&buffer_of(opened, &buffer));
        rest = behind;
        // A worker has a buffer for the rest at some time, or the next bytes bring one.
        if codec.has_more() && rest.len() % 3 != 1 {
            let opened = codec.open_backlog(&mut buffer, &mut spare);
            all.extend_from_slice(&buffer_of(opened, &buffer));
        }
    }
    for _ in 0..stream.len() {
        if codec.has_more() {
            all.extend_from_slice(&buffer_of(codec.open_backlog(&mut buffer, &mut spare), &buffer));
        }
    }
    assert!(!codec.has_more(), "it does not come to an end");
    all
}

fn buffer_of(opened: std::ops::Range<usize>, buffer: &Buffer) -> Vec<u8> {
    buffer[opened].to_vec()
}

/// What a codec sends of these bytes, in steps of at most `step` bytes.
fn sealed(codec: &mut Codec, bytes: &[u8], step: usize) -> Vec<u8> {
    let mut all = Vec::new();
    for part in bytes.chunks(PLAIN_MAX) {
        let mut plain = part.to_vec();
        loop {
            codec.seal(&mut plain).unwrap();
            let offered = offered(codec, &plain);
            let taken = &offered[..step.min(offered.len())];
            all.extend_from_slice(taken);
            if let Some(len) = codec.sent(taken.len()) {
                assert_eq!(len as usize, part.len());
                break;
            }
        }
    }
    all
}

/// What is to be sent next.
fn offered(codec: &Codec, plain: &[u8]) -> Vec<u8> {
    let parts = codec.parts();
    [parts.before[0], parts.before[1], &plain[parts.body], parts.after].concat()
}

fn parted(codec: &mut Codec) -> Vec<u8> {
    codec.part();
    let all = offered(codec, &[]);
    codec.sent(all.len());
    assert!(!codec.is_sending());
    all
}

#[test]
fn every_version_and_cipher_carries_bytes_both_ways_and_tells_the_end_of_each() {
    assert!(suites().count() >= 6);
    for suite in suites() {
        let (server, client_config) = configs(suite);
        let mut client = Client::new(client_config);
        let (mut codec, agreed, _) = shake(server, |bytes| client.tell(bytes)).unwrap();
        let (suite, version) =
            (client.connection.negotiated_cipher_suite().unwrap(), client.connection.protocol_version().unwrap());
        assert_eq!((agreed.version == "1.3", agreed.is_resumed), (version == ProtocolVersion::TLSv1_3, false));
        assert!(suite.suite().as_str().unwrap().replace("TLS13", "TLS") == agreed.cipher, "{}", agreed.cipher);
        let up = pattern(200_000);
        let mut records = client.say(&up);
        client.connection.send_close_notify();
        records.extend(client.tell(&[]));
        assert_eq!(open_all(&mut codec, &records, &[BUFFER_LEN]), up, "{}", agreed.cipher);
        assert_eq!(codec.end(), Some(StreamEnd::Closed));
        let down = pattern(150_000);
        client.tell(&sealed(&mut codec, &down, usize::MAX));
        assert_eq!(client.got(), down);
        client.tell(&parted(&mut codec));
        assert_eq!(std::io::Read::read(&mut client.connection.reader(), &mut [0]).unwrap(), 0, "a clean end");
    }
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(60))]

    #[test]
    fn however_a_stream_is_cut_it_is_the_same(
        sizes in prop::collection::vec(prop_oneof![1..200usize, 1..PLAIN_MAX + 1, Just(PLAIN_MAX)], 1..12),
        cuts in prop::collection::vec(prop_oneof![1..40usize, 1..BUFFER_LEN + 1, Just(BUFFER_LEN)], 1..8),
        step in prop_oneof![1..60usize, 1..40_000usize],
        suite in prop::sample::select(suites().collect::<Vec<_>>()),
    ) {
        let (mut rebel, mut codec) = Rebel::new(suite);
        let all = pattern(sizes.iter().sum());
        let (mut stream, mut rest) = (Vec::new(), &all[..]);
        for size in sizes {
            let (part, behind) = rest.split_at(size);
            stream.extend(rebel.record(ContentType::Data, part));
            rest = behind;
        }
        let opened = open_all(&mut codec, &stream, &cuts);
        prop_assert!(opened == all, "{} of {} bytes", opened.len(), all.len());
        prop_assert!(!codec.is_amid_record() && codec.end().is_none());
        prop_assert!(format!("{codec:?}").contains("backlog: 0"), "memory goes back");
        let sent = sealed(&mut codec, &all[..all.len().min(40_000)], step);
        let mut at = 0;
        let mut plain = Vec::new();
        while at < sent.len() {
            let len = record::length(&sent[at..]).unwrap().unwrap();
            plain.extend(rebel.open(sent[at..at + len].to_vec()).unwrap().1);
            at += len;
        }
        prop_assert!(plain == all[..all.len().min(40_000)]);
    }

    #[test]
    fn garbage_ends_a_handshake_and_nothing_else(
        garbage in prop::collection::vec(any::<u8>(), 0..600),
        at in 0..400usize,
    ) {
        let (server, client_config) = configs(0);
        let mut client = Client::new(client_config);
        let mut hello = client.tell(&[]);
        let at = at.min(hello.len());
        hello.splice(at.., garbage);
        let mut said = Vec::new();
        match Box::new(Handshake::by(server).unwrap()).on(&hello, &mut said) {
            HandshakeStep::Done(..) => prop_assert!(false, "nobody was there"),
            HandshakeStep::Goes(_) => {}
            HandshakeStep::Failed(failure) => prop_assert!(!failure.cause.is_empty()),
        }
    }

    #[test]
    fn garbage_in_a_stream_breaks_it_and_gives_no_byte(
        garbage in prop::collection::vec(any::<u8>(), 5..40_000),
        cuts in prop::collection::vec(1..BUFFER_LEN, 1..4),
    ) {
        let (_, mut codec) = Rebel::new(0);
        let opened = open_all(&mut codec, &garbage, &cuts);
        prop_assert!(opened.is_empty());
        prop_assert!(matches!(codec.end(), Some(StreamEnd::Broken(_))) || codec.is_amid_record());
    }
}

/// The last bytes of a handshake and the first ones of the client can come in one segment.
#[test]
fn what_comes_behind_a_handshake_is_not_lost() {
    for suite in suites() {
        let (server, client_config) = configs(suite);
        let mut client = Client::new(client_config);
        let mut early = Some(pattern(30_000));
        let (mut codec, _, rest) = shake(server, |bytes| {
            let mut said = client.tell(bytes);
            if !client.connection.is_handshaking()
                && let Some(early) = early.take()
            {
                said.extend(client.say(&early));
            }
            said
        })
        .unwrap();
        let late = [rest, client.say(b"late")].concat();
        let opened = open_all(&mut codec, &late, &[3]);
        assert!(opened == [pattern(30_000), b"late".to_vec()].concat(), "{} bytes", opened.len());
    }
}

fn of_version(is_tls13: bool) -> usize {
    suites().find(|suite| (aws_lc_rs_version(*suite) == ProtocolVersion::TLSv1_3) == is_tls13).unwrap()
}

fn aws_lc_rs_version(suite: usize) -> ProtocolVersion {
    rustls::crypto::aws_lc_rs::ALL_CIPHER_SUITES[suite].version().version
}

use rustls::ProtocolVersion;

/// How a stream ends that has this record in it, and what came before and after.
fn after(is_tls13: bool, kind: ContentType, content: &[u8]) -> (Option<StreamEnd>, Vec<u8>) {
    let (mut rebel, mut codec) = Rebel::new(of_version(is_tls13));
    let records = [
        rebel.record(ContentType::Data, b"before"),
        rebel.record(kind, content),
        rebel.record(ContentType::Data, b" after"),
    ];
    let opened = open_all(&mut codec, &records.concat(), &[7]);
    (codec.end(), opened)
}

#[test]
fn every_alert_ends_a_stream_by_its_name_and_warnings_of_tls_1_2_do_not() {
    for number in 0..=255 {
        let (level_13, level_12) =
            (after(true, ContentType::Alert, &[1, number]), after(false, ContentType::Alert, &[1, number]));
        let fatal = after(false, ContentType::Alert, &[2, number]);
        let alerted = Some(StreamEnd::Alerted(Alert(number)));
        match number {
            0 => assert!([level_13.0, level_12.0, fatal.0].iter().all(|end| *end == Some(StreamEnd::Closed))),
            90 => assert!([level_13.0, level_12.0, fatal.0].iter().all(Option::is_none)),
            _ => assert_eq!((level_13.0, level_12.0, fatal.0), (alerted, None, alerted)),
        }
        assert_eq!(level_12.1, if number == 0 { &b"before"[..] } else { b"before after" });
    }
    assert_eq!(Alert(48).to_string(), "unknown_ca");
    assert_eq!(Alert(200).to_string(), "alert 200");
}

#[test]
fn what_breaks_the_rules_ends_the_stream_with_the_alert_that_says_so() {
    let broken = |alert| Some(StreamEnd::Broken(alert));
    let hello_request = [0, 0, 0, 0];
    let client_hello = [1, 0, 0, 2, 3, 3];
    for (is_tls13, kind, content, alert) in [
        (true, ContentType::Alert, &[1][..], Alert::DECODE_ERROR),
        (true, ContentType::ChangeCipherSpec, &[1], Alert::UNEXPECTED_MESSAGE),
        (false, ContentType::ChangeCipherSpec, &[1], Alert::UNEXPECTED_MESSAGE),
        (true, ContentType::Handshake, &[], Alert::UNEXPECTED_MESSAGE),
        (true, ContentType::Handshake, &client_hello, Alert::UNEXPECTED_MESSAGE),
        (false, ContentType::Handshake, &client_hello, Alert::NO_RENEGOTIATION),
        (false, ContentType::Handshake, &hello_request, Alert::NO_RENEGOTIATION),
        (true, ContentType::Handshake, &[24, 0, 0, 1, 2], Alert::ILLEGAL_PARAMETER),
        (true, ContentType::Handshake, &[24, 0, 0, 1, 0, 24, 0, 0, 1, 0], Alert::UNEXPECTED_MESSAGE),
        (false, ContentType::Handshake, &[24, 0, 0, 1, 0], Alert::UNEXPECTED_MESSAGE),
        (true, ContentType::Handshake, &[4, 1, 0, 0], Alert::ILLEGAL_PARAMETER),
        // The rest of it would have to follow first.
        (true, ContentType::Handshake, &[4, 0, 0, 9, 1], Alert::UNEXPECTED_MESSAGE),
    ] {
        let (end, opened) = after(is_tls13, kind, content);
        assert_eq!((end, &opened[..]), (broken(alert), &b"before"[..]), "{is_tls13} {kind:?} {content:?}");
    }
}

#[test]
fn a_record_that_was_changed_or_is_too_long_ends_the_stream() {
    for suite in suites() {
        let (mut rebel, mut codec) = Rebel::new(suite);
        let mut record = rebel.record(ContentType::Data, b"secret");
        let last = record.len() - 1;
        record[last] ^= 1;
        assert_eq!(open_all(&mut codec, &record, &[BUFFER_LEN]), b"");
        assert_eq!(codec.end(), Some(StreamEnd::Broken(Alert::BAD_RECORD_MAC)));
        let (_, mut codec) = Rebel::new(suite);
        assert_eq!(open_all(&mut codec, &[23, 3, 3, 0x41, 1], &[BUFFER_LEN]), b"");
        assert_eq!(codec.end(), Some(StreamEnd::Broken(Alert::RECORD_OVERFLOW)));
        // And the same record twice.
        let (mut rebel, mut codec) = Rebel::new(suite);
        let record = rebel.record(ContentType::Data, b"once");
        assert_eq!(open_all(&mut codec, &[&record[..], &record].concat(), &[BUFFER_LEN]), b"once");
        assert_eq!(codec.end(), Some(StreamEnd::Broken(Alert::BAD_RECORD_MAC)));
    }
}

/// Also where so much of a record is padding that it could hold more than a buffer.
#[test]
fn a_backlog_is_always_opened_or_its_stream_ends() {
    for len in [PLAIN_MAX + 16, PLAIN_MAX + 17, PLAIN_MAX + 18, PLAIN_MAX + 256] {
        let (_, mut codec) = Rebel::new(of_version(true));
        let mut record = vec![23, 3, 3];
        record.extend((len as u16).to_be_bytes());
        record.resize(5 + len, 7);
        assert_eq!(open_all(&mut codec, &record, &[BUFFER_LEN]), b"");
        assert_eq!(codec.end(), Some(StreamEnd::Broken(Alert::BAD_RECORD_MAC)), "{len}");
    }
}

#[test]
fn records_without_a_byte_end_the_stream_after_some() {
    let (mut rebel, mut codec) = Rebel::new(of_version(true));
    let mut stream: Vec<u8> = (0..32).flat_map(|_| rebel.record(ContentType::Data, b"")).collect();
    stream.extend(rebel.record(ContentType::Data, b"x"));
    stream.extend((0..33).flat_map(|_| rebel.record(ContentType::Data, b"")));
    assert_eq!(open_all(&mut codec, &stream, &[BUFFER_LEN]), b"x");
    assert_eq!(codec.end(), Some(StreamEnd::Broken(Alert::UNEXPECTED_MESSAGE)));
}

/// A KeyUpdate that asks for one is answered before the next bytes, also if it came several times.
#[test]
fn keys_are_renewed_in_both_directions() {
    let (server, client_config) = configs(of_version(true));
    let mut client = Client::new(client_config);
    let (mut codec, ..) = shake(server, |bytes| client.tell(bytes)).unwrap();
    for round in 0..5 {
        client.connection.refresh_traffic_keys().unwrap();
        let stream = client.say(&pattern(20_000 + round));
        assert_eq!(open_all(&mut codec, &stream, &[5000]), pattern(20_000 + round));
        let answer = sealed(&mut codec, &pattern(300), 11);
        client.tell(&answer);
        assert_eq!(client.got(), pattern(300), "round {round}");
    }
}

#[test]
fn a_message_about_the_connection_can_come_in_many_records() {
    let (mut rebel, mut codec) = Rebel::new(of_version(true));
    let records: Vec<u8> =
        [&[24][..], &[0, 0], &[1]].iter().flat_map(|part| rebel.record(ContentType::Handshake, part)).collect();
    assert_eq!(open_all(&mut codec, &records, &[BUFFER_LEN]), b"");
    assert_eq!(codec.end(), None);
    let last = rebel.record(ContentType::Handshake, &[2]);
    open_all(&mut codec, &last, &[BUFFER_LEN]);
    assert_eq!(codec.end(), Some(StreamEnd::Broken(Alert::ILLEGAL_PARAMETER)));
}

#[test]
fn a_client_that_shows_no_tls_is_told_so_and_one_without_a_common_cipher_too() {
    let (server, _) = configs(of_version(true));
    let (cause, said) = shake(server.clone(), |_| b"GET / HTTP/1.1\r\nHost: db.example\r\n\r\n".to_vec()).unwrap_err();
    assert!(!cause.is_empty() && said.len() <= 7, "{cause} {said:?}");
    let (_, other) = configs(of_version(false));
    let mut client = Client::new(other);
    let (cause, said) = shake(server, |bytes| client.tell(bytes)).unwrap_err();
    assert!(said.first() == Some(&21), "{cause} {said:?}");
}

#[test]
fn an_end_in_the_middle_of_a_record_is_known() {
    let (mut rebel, mut codec) = Rebel::new(of_version(true));
    let record = rebel.record(ContentType::Data, b"half");
    open_all(&mut codec, &record[..record.len() - 1], &[BUFFER_LEN]);
    assert!(codec.is_amid_record());
    open_all(&mut codec, &record[record.len() - 1..], &[BUFFER_LEN]);
    assert!(!codec.is_amid_record());
}
