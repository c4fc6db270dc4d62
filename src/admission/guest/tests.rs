use std::time::Duration;

use super::*;
use crate::admit::{Rules, networks::Networks};
use crate::config::model::AcceptProxy;

const NOW: Moment = Moment(1_000_000_000);
const TIMEOUT: Duration = Duration::from_secs(3);
const SSL: &[u8] = &postgresql::SSL_REQUEST;
const V1: &[u8] = b"PROXY TCP4 192.0.2.7 198.51.100.1 40000 5432\r\n";

/// Asked for a PROXY header, for a ClientHello, or for both.
fn guest(proxy: bool, hello: bool) -> Guest {
    asked(proxy, hello.then_some((true, false)))
}

/// Asked for what it speaks, and with `hello` for a ClientHello too.
fn speaker(hello: bool) -> Guest {
    asked(false, Some((hello, true)))
}

fn asked(proxy: bool, wants: Option<(bool, bool)>) -> Guest {
    let timeout_ns = ns(TIMEOUT);
    let admission = Admission {
        tls: None,
        rules: Rules::default(),
        source_limits: None,
        source_unlimited: Networks::default(),
        proxy: proxy.then(|| AcceptProxy { trusted: Networks::default(), timeout: TIMEOUT }),
        preread: wants.map(|(wants_hello, wants_protocol)| PrereadEntry {
            routes: Arc::default(),
            configured: Arc::default(),
            wants_hello,
            wants_protocol,
            timeout_ns,
            refuses_unmatched: false,
        }),
    };
    Guest::new(Arc::new(admission), NOW)
}

/// A ClientHello with a session id of that length and nothing else, in records of `record` bytes.
fn hello(len: usize, record: usize) -> Vec<u8> {
    // Unknown extensions of no interest fill it up.
    let filling = vec![0; len - 4];
    let extension = [&[0xff, 0xff], &(filling.len() as u16).to_be_bytes()[..], &filling].concat();
    let body = [&[3; 34][..], &[0, 0, 0, 0], &(extension.len() as u16).to_be_bytes(), &extension].concat();
    let message = [&[1, 0], &(body.len() as u16).to_be_bytes()[..], &body].concat();
    let in_record = |part: &[u8]| [&[22, 3, 1], &(part.len() as u16).to_be_bytes()[..], part].concat();
    message.chunks(record).flat_map(in_record).collect()
}

/// Bytes come one by one, and each wakes the worker: how many looks that takes, how many bytes they copy, and what it
/// comes to.
fn byte_by_byte(guest: &mut Guest, bytes: &[u8]) -> (usize, usize, Option<Verdict>) {
    let (mut looks, mut copied) = (0, 0);
    for count in 0..=bytes.len() {
        if let Attention::Look { most, ended } = guest.told(count, false, || false, NOW) {
            assert!(!ended);
            let seen = &bytes[..count.min(most)];
            (looks, copied) = (looks + 1, copied + seen.len());
            match guest.read(Some(seen), ended, || false, NOW) {
                Verdict::Wait(_) => {}
                verdict => return (looks, copied, Some(verdict)),
            }
        }
    }
    (looks, copied, None)
}

/// Each look goes through all that has come: with one for each byte, 20 clients made the others wait for a second.
#[test]
fn what_comes_byte_by_byte_is_looked_at_a_few_times() {
    for len in [100, 1500, 16_000] {
        let bytes = hello(len, 1 << 14);
        let (looks, copied, verdict) = byte_by_byte(&mut guest(false, true), &bytes);
        assert_eq!(verdict, Some(Verdict::Said(Some(Protocol::Tls), Some(Default::default()))));
        assert!(looks <= 4 && copied <= bytes.len() + 20, "{len}: {looks} looks at {copied} bytes");
    }
    // In version 1 of the header nothing says how long it is, but it is short.
    let (looks, copied, verdict) = byte_by_byte(&mut guest(true, false), V1);
    assert!(matches!(verdict, Some(Verdict::Header(header)) if header.len == V1.len()));
    assert!(looks <= 107 && copied <= 107 * 107 / 2, "{looks} looks at {copied} bytes");
    let v2 = [b"\r\n\r\n\0\r\nQUIT\n\x21\x01\x0f\xff", &[0; 0xfff][..]].concat();
    let (looks, copied, verdict) = byte_by_byte(&mut guest(true, false), &v2);
    assert!(matches!(verdict, Some(Verdict::Header(header)) if header.len == v2.len()));
    assert!(looks <= 16 && copied <= v2.len() + 200, "{looks} looks at {copied} bytes");
}

/// In records of a byte each nothing says how much must come.
#[test]
fn what_is_cut_into_tiny_records_costs_no_more_than_a_few_times_its_length() {
    let bytes = hello(3000, 1);
    let (looks, copied, verdict) = byte_by_byte(&mut guest(false, true), &bytes);
    assert!(
        verdict.is_some() && looks < 50 && copied <= (LOOKS_AT_ALL + 1) * client_hello::INPUT_MAX,
        "{looks} {copied}"
    );
    // Short ones are read all the same.
    let (looks, _, verdict) = byte_by_byte(&mut guest(false, true), &hello(400, 1));
    assert_eq!(verdict, Some(Verdict::Said(Some(Protocol::Tls), Some(Default::default()))), "{looks} looks");
}

#[test]
fn what_is_no_tls_is_known_by_its_first_byte_and_a_request_by_its_eighth() {
    let (looks, _, verdict) = byte_by_byte(&mut guest(false, true), b"GET / HTTP/1.1");
    assert_eq!((looks, verdict), (2, Some(Verdict::Said(Some(Protocol::Other), None))), "no route asks what it speaks");
    let mut guest = guest(false, true);
    let (_, _, verdict) = byte_by_byte(&mut guest, SSL);
    assert_eq!(verdict, Some(Verdict::Answer(b'S')));
    guest.answered(b'S');
    assert!(guest.asked_for_tls());
    let (_, _, verdict) = byte_by_byte(&mut guest, &hello(300, 100));
    assert_eq!(verdict, Some(Verdict::Said(Some(Protocol::Postgresql), Some(Default::default()))));
}

#[test]
fn what_a_client_speaks_is_known_by_as_few_bytes_as_tell() {
    for (bytes, looks, protocol) in [
        (&b"SSH-2.0-x\r\n"[..], 5, Protocol::Ssh),
        (b"GET / HTTP/1.1\r\n", 6, Protocol::Http),
        (b"\x10\x10\0\x04MQTT", 2, Protocol::Other),
    ] {
        let (made, _, verdict) = byte_by_byte(&mut speaker(true), bytes);
        assert_eq!((made, verdict), (looks, Some(Verdict::Said(Some(protocol), None))), "{protocol:?}");
    }
    let (_, _, verdict) = byte_by_byte(&mut speaker(false), &hello(300, 100));
    assert_eq!(verdict, Some(Verdict::Said(Some(Protocol::Tls), Some(Default::default()))));
}

/// Its request stays where it is, for the server to answer: no route needs what is behind it.
#[test]
fn postgresql_is_led_by_its_request_where_no_name_is_asked_for() {
    let (_, _, verdict) = byte_by_byte(&mut speaker(false), SSL);
    assert_eq!(verdict, Some(Verdict::Said(Some(Protocol::Postgresql), None)));
    let mut asked = speaker(true);
    let (_, _, verdict) = byte_by_byte(&mut asked, &[0, 0, 0, 8, 0x04, 0xd2, 0x16, 0x30]);
    assert_eq!(verdict, Some(Verdict::Answer(b'N')));
    asked.answered(b'N');
    let (_, _, verdict) = byte_by_byte(&mut asked, b"\0\0\0\x29\0\x03\0\0user\0");
    assert_eq!(verdict, Some(Verdict::Said(Some(Protocol::Postgresql), None)));
}

#[test]
fn after_the_header_the_hello_is_awaited_and_its_time_begins_anew() {
    let mut guest = guest(true, true);
    let Verdict::Header(header) = guest.read(Some(V1), false, || false, NOW) else { panic!("a header") };
    let later = NOW.after_ns(ns(TIMEOUT));
    guest.headed(header, later);
    assert_eq!(guest.claimed().unwrap().0, "192.0.2.7:40000".parse().unwrap());
    assert!(guest.is_awaited());
    let until = later.after_ns(ns(TIMEOUT));
    assert_eq!(guest.read(Some(b""), false, || false, later), Verdict::Wait(LookWait::More { need: 1, until }));
    let routes = guest.leads(later).map(|preread| preread.routes.len());
    assert!(routes == Some(0) && !guest.is_awaited());
    assert_eq!(guest.told(9, false, || false, later), Attention::Done);
}

#[test]
fn at_the_end_of_its_time_what_is_there_must_do() {
    let late = NOW.after_ns(ns(TIMEOUT));
    let verdict_of = |guest: &mut Guest, bytes: &[u8]| {
        guest.read(Some(bytes), false, || false, NOW);
        let attention = guest.told(bytes.len(), false, || false, late);
        assert!(matches!(attention, Attention::Look { .. }), "{attention:?}");
        guest.read(Some(bytes), false, || false, late)
    };
    assert_eq!(verdict_of(&mut guest(true, false), &V1[..20]), Verdict::Refused(Refused::ProxyTimeout));
    assert_eq!(verdict_of(&mut guest(false, true), &hello(100, 100)[..40]), Verdict::Said(None, None));
    assert_eq!(verdict_of(&mut guest(false, true), &SSL[..4]), Verdict::Said(Some(Protocol::Other), None));
    assert_eq!(verdict_of(&mut speaker(false), b"GE"), Verdict::Said(Some(Protocol::Other), None));
    assert_eq!(verdict_of(&mut speaker(true), b""), Verdict::Said(None, None), "a client that says nothing");
}

/// Woken, and nothing has come: the kernel may have no more to say.
#[test]
fn a_client_that_says_no_more_is_not_waited_for() {
    for (proxy, bytes, half_closed) in [
        (true, V1, Verdict::Refused(Refused::ProxyMalformed)),
        (false, &hello(100, 100)[..], Verdict::Said(None, None)),
    ] {
        for (is_closed, expected) in [(false, half_closed), (true, Verdict::Left)] {
            let mut guest = guest(proxy, !proxy);
            let cut = &bytes[..20];
            assert!(matches!(guest.read(Some(cut), false, || false, NOW), Verdict::Wait(LookWait::More { .. })));
            assert!(matches!(guest.told(20, false, || false, NOW), Attention::Wait(LookWait::Again { .. })));
            let attention = guest.told(20, false, || true, NOW);
            assert!(matches!(attention, Attention::Look { ended: true, .. }), "{attention:?}");
            assert_eq!(guest.read(Some(cut), true, || is_closed, NOW), expected);
            assert_eq!(guest.read(None, true, || true, NOW), Verdict::Left);
        }
    }
}

#[test]
fn nothing_is_awaited_of_a_client_that_is_only_judged() {
    let mut guest = guest(false, false);
    assert!(!guest.is_awaited() && guest.admission().is_some());
    guest.is_asked_no_more();
    assert!(guest.admission().is_none() && guest.leads(NOW).is_none());
}
