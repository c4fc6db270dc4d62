//! TLS that ends at a listener, behind PostgreSQL's own request for it.

use std::io::{Read, Write};
use std::time::Duration;

use crate::harness::authority::Authority;
use crate::harness::postgresql::{self, Cluster};
use crate::harness::secure::Trust;
use crate::harness::{Backend, End};
use crate::tls_listener::plan;

const NAME: &str = "db.example";

/// What a client says before TLS with PostgreSQL.
const SSL_REQUEST: [u8; 8] = [0, 0, 0, 8, 0x04, 0xd2, 0x16, 0x2f];
const GSS_REQUEST: [u8; 8] = [0, 0, 0, 8, 0x04, 0xd2, 0x16, 0x30];
const CANCEL: [u8; 16] = [0, 0, 0, 16, 0x04, 0xd2, 0x16, 0x2e, 0, 0, 0, 1, 0, 0, 0, 2];
const STARTUP: &[u8] = b"\0\0\0\x29\0\x03\0\0user\0postgres\0database\0postgres\0\0";

#[test]
fn clients_of_postgresql_ask_for_tls_first_or_name_their_protocol() {
    let (authority, backend) = (Authority::new(), Backend::echo());
    let more = "starttls = \"postgresql\"\nplaintext = \"refuse\"\nhandshake_timeout = \"2s\"";
    let ringway = plan(backend.address(), &[&authority.sign(&[NAME])], more).start();
    let trust = Trust::of(&authority);
    for (asks, step) in [(&[&GSS_REQUEST[..], &SSL_REQUEST][..], 8), (&[&SSL_REQUEST[..]], 3)] {
        let mut client = trust.begin(ringway.address(), NAME);
        for request in asks {
            for part in request.chunks(step) {
                client.tcp.write_all(part).unwrap();
                std::thread::sleep(Duration::from_millis(20));
            }
            let mut answer = [0];
            client.tcp.read_exact(&mut answer).unwrap();
            assert_eq!(answer[0], if **request == GSS_REQUEST { b'N' } else { b'S' });
        }
        client.shake_hands().unwrap();
        client.send(STARTUP);
        client.expect(STARTUP);
    }
    let mut direct = trust.clone().alpn(&["postgresql"]).connect(ringway.address(), NAME);
    direct.send(STARTUP);
    direct.expect(STARTUP);
    // One that does not name it may mean another server.
    let mut unnamed = trust.begin(ringway.address(), NAME);
    let refused = unnamed.shake_hands().and_then(|()| unnamed.read_some());
    assert!(refused.unwrap_err().to_string().contains("NoApplicationProtocol"));
    // What comes in the clear behind the request is no part of the secret stream (CVE-2021-23222).
    let mut injected = ringway.connect();
    injected.send(&[&SSL_REQUEST[..], STARTUP].concat());
    let (said, _) = injected.drain();
    assert_eq!(said[..2], [b'S', 21], "an alert");
    let mut cancel = ringway.connect();
    cancel.send(&CANCEL);
    cancel.expect(&CANCEL);
    let mut clear = ringway.connect();
    clear.send(STARTUP);
    let (said, end) = clear.drain();
    assert!(said.is_empty() || said[0] == b'E', "{said:?}");
    assert_eq!(end, End::Reset);
    for garbage in [&b"GET / HTTP/1.1\r\n\r\n"[..], &[GSS_REQUEST; 3].concat()] {
        let mut client = ringway.connect();
        client.send(garbage);
        assert_eq!(client.drain().1, End::Reset);
    }
    let mut half = ringway.connect();
    half.send(&SSL_REQUEST[..5]);
    assert_eq!(half.end(), End::Reset);
    assert_eq!(backend.accepted(), 4);
    ringway.edit(|text| text.replace("plaintext = \"refuse\"", "plaintext = \"allow\""));
    assert!(ringway.reload());
    let mut clear = ringway.connect();
    clear.send(STARTUP);
    clear.expect(STARTUP);
}

/// As every client of PostgreSQL does it that is older than 17, with a name and an authority that it verifies.
#[test]
fn a_real_psql_is_served_inside_of_tls() {
    let Some(bin) = postgresql::folder() else { return };
    let (authority, cluster) = (Authority::new(), Cluster::start(&bin));
    let ringway = plan(&cluster.address(), &[&authority.sign(&[NAME])], "starttls = \"postgresql\"").start();
    let (ip, port) = ringway.address().split_once(':').unwrap();
    let of = |name: &str| {
        let ca = authority.file();
        format!(
            "host={name} hostaddr={ip} port={port} user=postgres dbname=postgres sslmode=verify-full sslrootcert={}",
            ca.display()
        )
    };
    let psql = |statement: &str, target: &str| {
        postgresql::run(std::process::Command::new(bin.join("psql")).args(["-XAtqc", statement]).arg(target))
    };
    let target = of(NAME);
    let ended = psql("select md5(string_agg(repeat(i::text, 50), '')) from generate_series(1, 20000) i", &target);
    assert!(ended.status.success(), "{}", ended.stderr);
    let ended = psql("select repeat('x', 3000000)", &target);
    assert_eq!(ended.stdout.trim().len(), 3_000_000, "{}", ended.stderr);
    // Its server sees none of it.
    let ended = psql("select ssl from pg_stat_ssl where pid = pg_backend_pid()", &target);
    assert_eq!(ended.stdout.trim(), "f", "{}", ended.stderr);
    let ended = psql("select 1", &of("other.example"));
    assert!(!ended.status.success() && ended.stderr.contains("other.example"), "{}", ended.stderr);
}
