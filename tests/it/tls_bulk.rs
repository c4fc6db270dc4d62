//! Bulk that comes by TLS and goes on as plain bytes: whatever happens in the middle of it, it is told as ever.

use std::time::Duration;

use crate::harness::authority::Authority;
use crate::harness::ringway::Plan;
use crate::harness::secure::{Secure, Trust};
use crate::harness::{End, Listener, Peer, Ringway};
use crate::tls_listener::{pattern, plan};

const NAME: &str = "db.example";
/// Enough to be bulk, and more than sockets take.
const LEN: usize = 24 << 20;

/// A session in which so many bytes of bulk are on their way to the backend.
struct Upload {
    ringway: Ringway,
    served: Peer,
    all: Vec<u8>,
}

impl Upload {
    /// `end` is what the client does when it has sent them.
    fn begin<R: Send + 'static>(
        version: &'static rustls::SupportedProtocolVersion,
        record_len: usize,
        adapt: impl FnOnce(Plan) -> Plan,
        end: impl FnOnce(Secure) -> R + Send + 'static,
    ) -> (Upload, std::thread::JoinHandle<R>) {
        let (authority, server) = (Authority::new(), Listener::new());
        let ringway = adapt(plan(server.address(), &[&authority.sign(&[NAME])], "")).workers(1).start();
        let mut client = Trust::with(&authority, &[version], None).connect(ringway.address(), NAME);
        let (served, all) = (server.accept(), pattern(LEN));
        let bytes = all.clone();
        let sender = std::thread::spawn(move || {
            for part in bytes.chunks(record_len) {
                client.send(part);
            }
            end(client)
        });
        (Upload { ringway, served, all }, sender)
    }
}

const VERSIONS: [&rustls::SupportedProtocolVersion; 2] = [&rustls::version::TLS12, &rustls::version::TLS13];

#[test]
fn bulk_arrives_whole_and_the_answer_to_its_end_comes_back() {
    for (version, record_len) in [(VERSIONS[0], 16_000), (VERSIONS[1], 16_000), (VERSIONS[1], 5000), (VERSIONS[1], 999)]
    {
        let (mut upload, sender) = Upload::begin(
            version,
            record_len,
            |plan| plan,
            |mut client| {
                // Without a FIN.
                client.say_last();
                client.expect(b"thank you");
                assert_eq!(client.end(), Ok(()));
            },
        );
        upload.served.expect(&upload.all);
        assert_eq!(upload.served.end(), End::Fin);
        upload.served.send(b"thank you");
        drop(upload.served);
        sender.join().unwrap();
        upload.ringway.expect_code("--", 1);
        let metrics = upload.ringway.metrics();
        assert_eq!(metrics.count("worker_copied_bytes_total", &[]), LEN as u64 + 9, "each byte is counted once");
        assert_eq!(metrics.count("tls_truncated_total", &[]), 0);
    }
}

/// Where nothing is taken for long, its memory goes to others, and to buffers.
#[test]
fn bulk_that_stalls_for_long_goes_on() {
    let (mut upload, sender) = Upload::begin(
        VERSIONS[1],
        16_000,
        |plan| plan,
        |mut client| {
            client.say_last();
            client
        },
    );
    let (first, rest) = upload.all.split_at(LEN / 3);
    upload.served.expect(first);
    std::thread::sleep(Duration::from_millis(3500));
    upload.served.expect(rest);
    assert_eq!(upload.served.end(), End::Fin);
    sender.join().unwrap();
}

#[test]
fn the_end_of_the_connection_in_bulk_is_passed_on_as_what_it_was() {
    // A FIN behind a whole record is an end, though it is counted; within a record it is none.
    let (mut upload, sender) = Upload::begin(
        VERSIONS[1],
        16_000,
        |plan| plan,
        |client| {
            client.finish();
            client
        },
    );
    upload.served.expect(&upload.all);
    assert_eq!(upload.served.end(), End::Fin);
    upload.ringway.wait_metrics("it is counted", |metrics| metrics.count("tls_truncated_total", &[]) == 1);
    drop(upload.served);
    drop(sender.join());

    let (mut upload, sender) = Upload::begin(
        VERSIONS[1],
        16_000,
        |plan| plan,
        |mut client| {
            client.send_half_a_record();
            client.finish();
            client
        },
    );
    upload.served.expect(&upload.all);
    assert_eq!(upload.served.end(), End::Reset);
    drop(sender.join());
}

#[test]
fn a_backend_that_resets_in_the_middle_of_bulk_resets_its_client() {
    let (mut upload, sender) = Upload::begin(VERSIONS[1], 16_000, |plan| plan, |_| ());
    upload.served.expect(&upload.all[..LEN / 12]);
    upload.served.reset();
    assert!(sender.join().is_err(), "the client cannot send all of it");
    upload.ringway.wait_idle();
    upload.ringway.expect_code("SD", 1);
}

/// A pause in a stream, and a record that comes in two halves, are no end of it.
#[test]
fn bulk_with_pauses_within_records_arrives_whole_with_few_buffers() {
    let few = |plan: Plan| plan.process("receive_buffers_max = \"4MiB\"");
    let (mut upload, sender) = Upload::begin(VERSIONS[1], 16_000, few, |mut client| {
        client.step = 10_000;
        for part in pattern(1 << 20).chunks(100_000) {
            client.send(part);
            std::thread::sleep(Duration::from_millis(2));
        }
        client.say_last();
        client
    });
    upload.served.expect(&upload.all);
    upload.served.expect(&pattern(1 << 20));
    assert_eq!(upload.served.end(), End::Fin);
    sender.join().unwrap();
}
