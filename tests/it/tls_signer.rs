//! Listeners with keys of RSA, whose signatures are made on a thread beside the worker.

use std::io::Write;
use std::sync::OnceLock;
use std::time::Duration;

use rcgen::{KeyPair, PKCS_RSA_SHA256, RsaKeySize};

use crate::harness::authority::{Authority, Certificate};
use crate::harness::secure::Trust;
use crate::harness::{Backend, Ringway, wait_until};
use crate::tls_listener::{pattern, plan};

const NAME: &str = "db.example";

/// A certificate with a key of RSA. A key is made once, as that takes long.
fn rsa(authority: &Authority, bits: usize) -> Certificate {
    static KEYS: [OnceLock<String>; 2] = [const { OnceLock::new() }; 2];
    let (size, key) = match bits {
        2048 => (RsaKeySize::_2048, &KEYS[0]),
        _ => (RsaKeySize::_4096, &KEYS[1]),
    };
    let make = || KeyPair::generate_rsa_for(&PKCS_RSA_SHA256, size).unwrap().serialize_pem();
    let key = KeyPair::from_pem(key.get_or_init(make)).unwrap();
    authority.sign_as(&format!("rsa{bits}"), &[NAME], &key, |_| ())
}

/// Threads that make signatures.
fn signers(ringway: &Ringway) -> usize {
    ringway.process().threads().iter().filter(|name| name.starts_with("ringway-tls-")).count()
}

#[test]
fn keys_of_rsa_serve_with_each_version_by_a_thread_beside_each_worker() {
    let (authority, backend) = (Authority::new(), Backend::echo());
    for bits in [2048, 4096] {
        let ringway = plan(backend.address(), &[&rsa(&authority, bits)], "").workers(2).start();
        assert_eq!(signers(&ringway), 2);
        for version in [&rustls::version::TLS12, &rustls::version::TLS13] {
            let trust = Trust::with(&authority, &[version], None);
            // The later ones by tickets.
            for _ in 0..3 {
                let mut client = trust.connect(ringway.address(), NAME);
                client.send(&pattern(100_000));
                client.expect(&pattern(100_000));
            }
            // A hello that comes byte by byte goes there byte by byte.
            let mut client = Trust::with(&authority, &[version], None).begin(ringway.address(), NAME);
            client.step = 1;
            client.shake_hands().unwrap();
            client.send(b"slow");
            client.expect(b"slow");
        }
        ringway.wait_idle();
        let busy = ringway.process().busy_ns_of("ringway-tls-");
        assert!(busy > 1_000_000, "the signatures were made elsewhere: {busy} ns");
    }
}

/// More of them than are away at a time.
#[test]
fn many_signatures_at_the_same_time_are_all_made() {
    let (authority, backend) = (Authority::new(), Backend::named("a"));
    let plan = plan(backend.address(), &[&rsa(&authority, 4096)], "handshake_timeout = \"60s\"").workers(1);
    let ringway = plan.start();
    let base = ringway.process().descriptors();
    let trust = Trust::of(&authority);
    let mut clients: Vec<_> = (0..100).map(|_| trust.begin(ringway.address(), NAME)).collect();
    clients.iter_mut().for_each(|client| client.flush().unwrap());
    for client in &mut clients {
        client.shake_hands().unwrap();
        client.expect(b"a");
    }
    drop(clients);
    ringway.wait_idle();
    ringway.wait_descriptors(base);
    assert_eq!(ringway.metrics().count("listener_refused_total", &[]), 0);
}

/// Whether its step waits, is away, or is back.
#[test]
fn clients_that_leave_while_their_signature_is_made_leave_nothing_behind() {
    let (authority, backend) = (Authority::new(), Backend::named("a"));
    let ringway = plan(backend.address(), &[&rsa(&authority, 4096)], "").workers(1).start();
    let base = ringway.process().descriptors();
    let trust = Trust::of(&authority);
    for round in 0..3_u64 {
        let clients: Vec<_> = (0..60_u64).map(|_| trust.begin(ringway.address(), NAME)).collect();
        for (number, mut client) in clients.into_iter().enumerate() {
            client.flush().unwrap();
            match number % 3 {
                // It breaks off, or ends properly.
                0 => socket2::SockRef::from(&client.tcp).set_linger(Some(Duration::ZERO)).unwrap(),
                1 => client.finish(),
                // What it says next has no meaning.
                _ => client.tcp.write_all(&pattern(50)).unwrap(),
            }
            std::thread::sleep(Duration::from_micros(300 * round));
        }
    }
    ringway.wait_idle();
    ringway.wait_descriptors(base);
    trust.connect(ringway.address(), NAME).expect(b"a");
    ringway.wait_idle();
}

/// Also of those whose step waits until another one is back, and then nothing is made for them.
#[test]
fn a_handshake_that_waits_for_its_signature_ends_by_its_timeout() {
    let (authority, backend) = (Authority::new(), Backend::named("a"));
    let certificate = rsa(&authority, 4096);
    let ringway = plan(backend.address(), &[&certificate], "handshake_timeout = \"40ms\"").workers(1).start();
    let base = ringway.process().descriptors();
    let trust = Trust::of(&authority);
    let mut clients: Vec<_> = (0..200).map(|_| trust.begin(ringway.address(), NAME)).collect();
    clients.iter_mut().for_each(|client| drop(client.flush()));
    wait_until("the last ones are given up", || {
        ringway.metrics().count("listener_refused_total", &[("reason", "tls")]) > 50
    });
    drop(clients);
    ringway.wait_idle();
    ringway.wait_descriptors(base);
    ringway.edit(|text| text.replace("40ms", "10s"));
    assert!(ringway.reload());
    trust.connect(ringway.address(), NAME).expect(b"a");
}

/// Threads are there once they are needed, also when a running ringway learns of the key.
#[test]
fn a_reload_that_brings_a_key_of_rsa_starts_the_threads() {
    let (authority, backend) = (Authority::new(), Backend::named("a"));
    let quick = authority.sign(&[NAME]);
    let slow = rsa(&authority, 2048);
    let ringway = plan(backend.address(), &[&quick], "").workers(1).start();
    let trust = Trust::of(&authority);
    trust.connect(ringway.address(), NAME).expect(b"a");
    assert_eq!(signers(&ringway), 0);
    let path = |path: &std::path::Path| path.to_str().unwrap().to_string();
    ringway.edit(|text| {
        let text = text.replace(&path(&quick.certificate), &path(&slow.certificate));
        text.replace(&path(&quick.key), &path(&slow.key))
    });
    assert!(ringway.reload());
    Trust::of(&authority).connect(ringway.address(), NAME).expect(b"a");
    wait_until("it signs", || ringway.process().busy_ns_of("ringway-tls-") > 100_000);
    assert_eq!(signers(&ringway), 1);
}
