//! Clients that are led to a pool by what they speak, and what a route asks of its clients.

use std::fmt::Write;
use std::time::Duration;

use crate::harness::{Listener, Ringway, timed};

/// A pool without checks for each name, and a route to it with these keys.
fn routes(all: &[(&str, &Listener, &str)]) -> String {
    let mut toml = String::new();
    for (pool, _, keys) in all {
        writeln!(toml, "[[listeners.main.routes]]\npool = \"{pool}\"\n{keys}").unwrap();
    }
    for (pool, listener, _) in all {
        let address = listener.address();
        writeln!(toml, "[pools.{pool}]\ncheck.type = \"off\"\nbackends = [{{ address = \"{address}\" }}]").unwrap();
    }
    toml
}

/// A TLS ClientHello without a name (RFC 8446, section 4.1.2), as short as one can be.
fn hello() -> Vec<u8> {
    let body = [&[3; 34][..], &[0, 0, 2, 0x13, 0x01, 1, 0]].concat();
    let message = [&[1, 0, 0, body.len() as u8][..], &body].concat();
    [&[22, 3, 1, 0, message.len() as u8][..], &message].concat()
}

#[test]
fn one_port_serves_ssh_tls_http_postgresql_and_whatever_else_speaks_first() {
    let [main, ssh, tls, http, postgresql, other] = [(); 6].map(|()| Listener::new());
    let all = [
        ("ssh", &ssh, "protocol = \"ssh\""),
        ("tls", &tls, "protocol = \"tls\""),
        ("http", &http, "protocol = \"http\""),
        ("pg", &postgresql, "protocol = \"postgresql\""),
        ("other", &other, "protocol = \"other\""),
    ];
    let ringway = Ringway::before([main.address()]).listener("preread_timeout = \"300ms\"").more(&routes(&all)).start();
    let startup = b"\0\0\0\x13\0\x03\0\0user\0me\0\0\0\0".to_vec();
    for (bytes, listener) in [
        (b"SSH-2.0-OpenSSH_9.2\r\n".to_vec(), &ssh),
        (hello(), &tls),
        (b"GET / HTTP/1.1\r\nhost: x\r\n\r\n".to_vec(), &http),
        (b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n".to_vec(), &http),
        (startup, &postgresql),
        // No route asks for a name, so that the server answers the request itself.
        (b"\0\0\0\x08\x04\xd2\x16\x2f".to_vec(), &postgresql),
        (b"\x10\x10\0\x04MQTT\x05\xc2\0\x3c".to_vec(), &other),
        (b"*1\r\n$4\r\nPING\r\n".to_vec(), &other),
    ] {
        for pieces in [bytes.len(), 1] {
            let mut client = ringway.connect();
            for piece in bytes.chunks(pieces) {
                client.send(piece);
                std::thread::sleep(Duration::from_micros(200));
            }
            let mut server = listener.accept();
            server.expect(&bytes);
            server.send(b"answer");
            client.expect(b"answer");
        }
    }
    // A server of MySQL or SMTP speaks first; its clients wait for it.
    let mut silent = ringway.connect();
    let (took, mut server) = timed(|| main.accept());
    assert!(took >= Duration::from_millis(290), "{took:?}: it could have spoken");
    server.send(b"220 hello");
    silent.expect(b"220 hello");
}

#[test]
fn what_has_begun_and_never_goes_on_is_something_else_when_its_time_is_over() {
    let [main, ssh, other] = [(); 3].map(|()| Listener::new());
    let all = [("ssh", &ssh, "protocol = \"ssh\""), ("other", &other, "protocol = \"other\"")];
    let ringway = Ringway::before([main.address()]).listener("preread_timeout = \"200ms\"").more(&routes(&all)).start();
    let mut client = ringway.connect();
    client.send(b"SS");
    other.accept().expect(b"SS");
    let mut client = ringway.connect();
    client.send(b"SS");
    client.finish();
    other.accept().expect(b"SS");
}

#[test]
fn any_name_is_a_name_and_a_client_without_one_is_refused() {
    let [main, named] = [(); 2].map(|()| Listener::new());
    let all = [("named", &named, "sni = [\"*\"]")];
    let ringway = Ringway::before([main.address()]).listener("unmatched = \"refuse\"").more(&routes(&all)).start();
    let mut client = ringway.connect();
    client.send(&hello());
    ringway.wait_metrics("it is refused", |metrics| {
        metrics.count("listener_refused_total", &[("listener", "main"), ("reason", "unmatched")]) == 1
    });
    let name = [&[0, 0, 0, 9, 0, 7, 0, 0, 4][..], b"a.bc"].concat();
    let body = [&[3; 34][..], &[0, 0, 2, 0x13, 0x01, 1, 0, 0, name.len() as u8], &name].concat();
    let message = [&[1, 0, 0, body.len() as u8][..], &body].concat();
    let hello = [&[22, 3, 1, 0, message.len() as u8][..], &message].concat();
    let mut client = ringway.connect();
    client.send(&hello);
    named.accept().expect(&hello);
}

#[test]
fn a_route_lets_in_only_its_own_clients_and_counts_them_by_itself() {
    let [main, http, ssh] = [(); 3].map(|()| Listener::new());
    let all = [
        ("http", &http, "protocol = \"http\"\nsource_connections_max = 1"),
        ("ssh", &ssh, "protocol = \"ssh\"\nallow = [\"192.0.2.0/24\"]"),
    ];
    let ringway = Ringway::before([main.address()])
        .listener("source_connections_max = 4\npreread_timeout = \"5s\"")
        .more(&routes(&all))
        .start();
    let refused = |reason: &str, count| {
        ringway.wait_metrics(reason, |metrics| {
            metrics.count("listener_refused_total", &[("listener", "main"), ("reason", reason)]) == count
        });
    };
    let mut stranger = ringway.connect();
    stranger.send(b"SSH-2.0-x\r\n");
    refused("deny", 1);
    let mut first = ringway.connect();
    first.send(b"GET / HTTP/1.1\r\n");
    let server = http.accept();
    let mut second = ringway.connect();
    second.send(b"GET / HTTP/1.1\r\n");
    refused("source_limit", 1);
    // Elsewhere the same client has its own share.
    let mut else_where = ringway.connect();
    else_where.send(b"*1\r\n");
    main.accept().expect(b"*1\r\n");
    // Its place is free again when its session has ended.
    drop((first, server));
    ringway.wait_metrics("it has ended", |metrics| metrics.count("listener_connections", &[("listener", "main")]) <= 1);
    let mut third = ringway.connect();
    third.send(b"GET / HTTP/1.1\r\n");
    http.accept().expect(b"GET / HTTP/1.1\r\n");
    drop((third, else_where));
    ringway.wait_idle();
    // The listener's places are given back, too.
    let mut all = Vec::new();
    for _ in 0..4 {
        let mut client = ringway.connect();
        client.send(b"*1\r\n");
        all.push((client, main.accept()));
    }
}
