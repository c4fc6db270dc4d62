//! The client beside rustls as a server, and beside one that breaks the rules.

use std::sync::Arc;

use proptest::prelude::*;
use rustls::{ProtocolVersion, ServerConfig};

use super::peers::{Client, Rebel, Server, configs, suites};
use super::{of_version, open_all, pattern, sealed};
use crate::base::address::Address;
use crate::base::lease::BUFFER_LEN;
use crate::tls::client::{Authorities, ClientSettings, ServerNameSource};
use crate::tls::codec::StreamEnd;
use crate::tls::handshake::{Agreed, HandshakeFailure, HandshakeStep};
use crate::tls::record::{self, ContentType};
use crate::tls::{Alert, ClientTls, Codec, Handshake, TlsDialer};

/// Dials one backend, which it believes whatever its certificate is.
fn dialer() -> TlsDialer {
    let settings = ClientSettings {
        authorities: Authorities::Unverified,
        pair: None,
        is_tls13_only: false,
        protocols: Vec::new(),
        server_name: ServerNameSource::Given("db.example".into()),
        is_postgresql: false,
    };
    ClientTls::new(&settings).unwrap().dialer(&Address::Tcp(([127, 0, 0, 1], 1).into()), None)
}

/// The server of one suite, with tickets also in TLS 1.2.
fn server_of(suite: usize) -> Arc<ServerConfig> {
    let mut config = (*configs(suite).0).clone();
    config.ticketer = rustls::crypto::aws_lc_rs::Ticketer::new().unwrap();
    Arc::new(config)
}

type Shaken = (Box<Codec>, Agreed);

/// Shakes hands with a server that is driven by `exchange`: given what the client has said, it returns what the server
/// says then. What came last is in the codec, or comes back.
fn shake(
    dialer: &TlsDialer,
    step: usize,
    mut exchange: impl FnMut(&[u8]) -> Vec<u8>,
) -> Result<(Shaken, Vec<u8>), (HandshakeFailure, Vec<u8>)> {
    let mut client = Box::new(Handshake::dial(dialer, None).unwrap());
    let (mut said, mut came) = (Vec::new(), Vec::new());
    for _ in 0..200_000 {
        let rest = came.split_off(came.len().min(step));
        match client.on(&came, &mut said) {
            HandshakeStep::Goes(goes) => client = goes,
            HandshakeStep::Done(codec, agreed) => return Ok(((codec, agreed), [rest, exchange(&said)].concat())),
            HandshakeStep::Failed(failure) => return Err((failure, said)),
        }
        came = if rest.is_empty() { exchange(&std::mem::take(&mut said)) } else { rest };
        if came.is_empty() {
            break;
        }
    }
    panic!("it does not come to an end");
}

/// A codec that has shaken hands with this server; the tickets that came are kept.
fn shaken(dialer: &TlsDialer, server: &mut Server) -> Shaken {
    let ((mut codec, agreed), rest) = shake(dialer, usize::MAX, |bytes| server.tell(bytes)).unwrap();
    assert!(open_all(&mut codec, &rest, &[BUFFER_LEN]).is_empty() && codec.end().is_none());
    (codec, agreed)
}

#[test]
fn every_version_and_cipher_carries_bytes_both_ways_and_tells_the_end_of_each() {
    for suite in suites() {
        for step in [1, 700, usize::MAX] {
            let (dialer, mut server) = (dialer(), Server::new(server_of(suite)));
            let ((mut codec, agreed), rest) = shake(&dialer, step, |bytes| server.tell(bytes)).unwrap();
            let suite = server.connection.negotiated_cipher_suite().unwrap().suite();
            assert_eq!(agreed.cipher, suite.as_str().unwrap().replace("TLS13", "TLS"));
            assert_eq!((agreed.is_resumed, agreed.server_name, agreed.certificate), (false, None, None));
            let up = pattern(150_000);
            server.tell(&sealed(&mut codec, &up, 999));
            assert!(server.got() == up, "{}", agreed.cipher);
            let down = pattern(200_000);
            let mut records = [rest, server.say(&down)].concat();
            server.connection.send_close_notify();
            records.extend(server.tell(&[]));
            assert!(open_all(&mut codec, &records, &[5000, 1, 16_000]) == down, "{}", agreed.cipher);
            assert_eq!(codec.end(), Some(StreamEnd::Closed));
        }
    }
}

#[test]
fn tickets_that_come_behind_a_handshake_resume_the_next_session_and_belong_to_one_backend() {
    for suite in suites() {
        let (config, one, other) = (server_of(suite), dialer(), dialer());
        let is_resumed = |dialer: &TlsDialer| {
            let mut server = Server::new(config.clone());
            let (mut codec, agreed) = shaken(dialer, &mut server);
            server.tell(&sealed(&mut codec, b"up", 7));
            let down = server.say(b"down");
            assert_eq!((server.got(), open_all(&mut codec, &down, &[3])), (b"up".to_vec(), b"down".to_vec()));
            agreed.is_resumed
        };
        assert_eq!([0; 4].map(|_| is_resumed(&one)), [false, true, true, true], "suite {suite}");
        assert!(!is_resumed(&other));
    }
}

/// In the same segment, before and behind the Finished of the client.
#[test]
fn what_the_server_sends_behind_its_handshake_is_not_lost() {
    for suite in suites() {
        let mut config = (*server_of(suite)).clone();
        config.send_half_rtt_data = true;
        let (dialer, config) = (dialer(), Arc::new(config));
        // In TLS 1.2 the second one ends with the Finished of the client.
        for is_resumed in [false, true] {
            let mut server = Server::new(config.clone());
            let (mut rounds, early) = (0, pattern(30_000));
            let ((mut codec, agreed), rest) = shake(&dialer, usize::MAX, |bytes| {
                let said = server.tell(bytes);
                rounds += 1;
                // Before it has heard the client's Finished only a server of TLS 1.3 may speak.
                let is_tls13 = server.connection.protocol_version() == Some(ProtocolVersion::TLSv1_3);
                let speaks = (rounds == 1 && is_tls13) || (rounds == 2 && !server.connection.is_handshaking());
                [said, if speaks { server.say(&early) } else { Vec::new() }].concat()
            })
            .unwrap();
            assert_eq!(agreed.is_resumed, is_resumed);
            let got = open_all(&mut codec, &[rest, server.say(b"late")].concat(), &[3000]);
            assert!(got.len() > 30_000 && got.starts_with(&early) && got.ends_with(b"late"), "{} bytes", got.len());
        }
    }
}

#[test]
fn keys_are_renewed_in_both_directions() {
    let (dialer, mut server) = (dialer(), Server::new(server_of(of_version(true))));
    let (mut codec, _) = shaken(&dialer, &mut server);
    for round in 0..5 {
        server.connection.refresh_traffic_keys().unwrap();
        let stream = server.say(&pattern(20_000 + round));
        assert_eq!(open_all(&mut codec, &stream, &[5000]), pattern(20_000 + round));
        let answer = sealed(&mut codec, &pattern(300), 11);
        assert!(answer.len() > 300 + 5 + 17 + 20, "it holds a KeyUpdate of our own");
        server.tell(&answer);
        assert_eq!(server.got(), pattern(300), "round {round}");
    }
}

/// A server that has shaken hands by the rules, and breaks them from now on.
fn rebel(is_tls13: bool) -> (Rebel, Box<Codec>) {
    let mut server = Server::new(server_of(of_version(is_tls13)));
    let (codec, _) = shaken(&dialer(), &mut server);
    (server.rebel(), codec)
}

/// How a stream ends that has these records in it, and what came before and after.
fn after(is_tls13: bool, content: &[u8], times: usize) -> (Option<StreamEnd>, Vec<u8>) {
    let (mut rebel, mut codec) = rebel(is_tls13);
    let mut records = rebel.record(ContentType::Data, b"before");
    (0..times).for_each(|_| records.extend(rebel.record(ContentType::Handshake, content)));
    records.extend(rebel.record(ContentType::Data, b" after"));
    let opened = open_all(&mut codec, &records, &[7]);
    (codec.end(), opened)
}

/// RFC 5246, section 7.4.1.1.
#[test]
fn a_server_of_tls_1_2_that_asks_for_another_handshake_is_ignored_unless_it_does_nothing_else() {
    let hello_request = [0, 0, 0, 0];
    assert_eq!(after(false, &hello_request, 1), (None, b"before after".to_vec()));
    assert_eq!(after(false, &hello_request, 32), (None, b"before after".to_vec()));
    let broken = |alert| (Some(StreamEnd::Broken(alert)), b"before".to_vec());
    assert_eq!(after(false, &hello_request, 33), broken(Alert::UNEXPECTED_MESSAGE));
    assert_eq!(after(true, &hello_request, 1), broken(Alert::UNEXPECTED_MESSAGE));
}

#[test]
fn what_breaks_the_rules_ends_the_stream_with_the_alert_that_says_so() {
    for (is_tls13, content, alert) in [
        (false, &[0, 0, 0, 1, 0][..], Alert::NO_RENEGOTIATION),
        (false, &[1, 0, 0, 0], Alert::NO_RENEGOTIATION),
        (false, &[4, 0, 0, 0], Alert::UNEXPECTED_MESSAGE),
        (false, &[24, 0, 0, 1, 0], Alert::UNEXPECTED_MESSAGE),
        (true, &[4, 0, 0, 3, 1, 2, 3], Alert::DECODE_ERROR),
        (true, &[4, 0, 0, 0], Alert::DECODE_ERROR),
        // No certificate is shown behind the handshake: that was not offered (RFC 8446, section 4.6.2).
        (true, &[13, 0, 0, 3, 0, 0, 0], Alert::UNEXPECTED_MESSAGE),
        (true, &[20, 0, 0, 0], Alert::UNEXPECTED_MESSAGE),
        (true, &[24, 0, 0, 1, 2], Alert::ILLEGAL_PARAMETER),
        (true, &[4, 0xff, 0, 0], Alert::ILLEGAL_PARAMETER),
    ] {
        let found = after(is_tls13, content, 1);
        assert_eq!(found, (Some(StreamEnd::Broken(alert)), b"before".to_vec()), "{is_tls13} {content:?}");
    }
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(100))]

    /// Where only what follows the handshake is changed, that is noticed by the codec.
    #[test]
    fn garbage_ends_a_handshake_and_nothing_else(
        garbage in prop::collection::vec(any::<u8>(), 0..600),
        at in 0..1500_usize,
        removed in 0..40_usize,
        round in 1..3_usize,
        is_tls13 in any::<bool>(),
        is_resumed in any::<bool>(),
    ) {
        let (dialer, config) = (dialer(), server_of(of_version(is_tls13)));
        if is_resumed {
            shaken(&dialer, &mut Server::new(config.clone()));
        }
        let mut server = Server::new(config);
        let mut client = Box::new(Handshake::dial(&dialer, None).unwrap());
        let mut came = Vec::new();
        for count in 0..6 {
            let mut said = Vec::new();
            match client.on(&came, &mut said) {
                HandshakeStep::Goes(goes) => client = goes,
                HandshakeStep::Failed(failure) => {
                    prop_assert!(!failure.cause.is_empty() && count > 0);
                    return Ok(());
                }
                HandshakeStep::Done(mut codec, _) => {
                    prop_assert!(open_all(&mut codec, &garbage, &[9]).is_empty());
                    return Ok(());
                }
            }
            let mut hears = &said[..];
            while !hears.is_empty() && server.connection.read_tls(&mut hears).is_ok() {
                let _ = server.connection.process_new_packets();
            }
            came = server.tell(&[]);
            if count + 1 == round {
                let at = at.min(came.len());
                came.splice(at..(at + removed).min(came.len()), garbage.iter().copied());
            }
        }
    }
}

/// rustls looks at a record once; it was opened where it lies, and would be another fault the second time.
#[test]
fn a_record_that_cannot_be_opened_fails_the_handshake_of_either_end_with_one_alert() {
    for is_tls13 in [false, true] {
        let suite = of_version(is_tls13);
        let mut server = Server::new(server_of(suite));
        let mut rounds = 0;
        let (failure, said) = shake(&dialer(), usize::MAX, |bytes| {
            rounds += 1;
            let mut flight = server.tell(bytes);
            // Its Finished ends the first one in TLS 1.3, and the second one in TLS 1.2.
            if (rounds == 1) == is_tls13 {
                *flight.last_mut().unwrap() ^= 1;
            }
            flight
        })
        .unwrap_err();
        assert_eq!(failure.cause, "cannot decrypt peer's message");
        let alert = said.len() - record::length(&said).unwrap().unwrap();
        assert!(alert == 0 || is_tls13, "one alert, behind what middleboxes want to see");
        let (server, client) = configs(suite);
        let mut client = Client::new(client);
        let (cause, said) = super::shake(server, |bytes| {
            let mut flight = client.tell(bytes);
            if !bytes.is_empty() {
                *flight.last_mut().unwrap() ^= 1;
            }
            flight
        })
        .unwrap_err();
        assert_eq!(cause, "cannot decrypt peer's message");
        assert_eq!(record::length(&said), Ok(Some(said.len())), "one alert");
    }
}
