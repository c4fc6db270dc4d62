//! PROXY headers that ringway sends to backends.

use std::sync::Arc;
use std::sync::atomic::AtomicUsize;
use std::sync::atomic::Ordering::Relaxed;
use std::time::Duration;

use crate::harness::backend::BlackHole;
use crate::harness::network;
use crate::harness::{Backend, End, Listener, Peer, Ringway};

/// The v2 header of these two, which are IPv4.
fn v2(client: &str, listener: &str) -> Vec<u8> {
    let parts = |address: &str| {
        let address: std::net::SocketAddrV4 = address.parse().unwrap();
        (address.ip().octets(), address.port().to_be_bytes())
    };
    let ((from, from_port), (to, to_port)) = (parts(client), parts(listener));
    [&b"\r\n\r\n\0\r\nQUIT\n\x21\x11\0\x0c"[..], &from, &to, &from_port, &to_port].concat()
}

fn v1(client: &str, listener: &str) -> Vec<u8> {
    let (from, from_port) = client.rsplit_once(':').unwrap();
    let (to, to_port) = listener.rsplit_once(':').unwrap();
    format!("PROXY TCP4 {from} {to} {from_port} {to_port}\r\n").into_bytes()
}

#[test]
fn a_backend_is_told_who_the_client_is_before_its_first_byte() {
    for (version, header) in [("v1", v1 as fn(&str, &str) -> Vec<u8>), ("v2", v2)] {
        let listener = Listener::new();
        let ringway = Ringway::before([listener.address()]).pool(&format!("send_proxy = {version:?}")).start();
        let mut client = ringway.connect();
        client.send(b"hello");
        let mut server = listener.accept();
        server.expect(&[header(&client.local_address(), ringway.address()), b"hello".to_vec()].concat());
        server.send(b"bye");
        client.expect(b"bye");
        drop(client);
        assert_eq!(server.end(), End::Fin);
        drop(server);
        ringway.expect_code("--", 1);
        let bytes = |to| ringway.metrics().count("backend_bytes_total", &[("direction", to)]);
        assert_eq!((bytes("to_backend"), bytes("to_client")), (5, 3), "the header is none of them");
    }
}

/// What the client said while its backend was still being connected to goes out with the header: one segment.
#[test]
fn the_header_and_what_was_there_already_are_one_segment() {
    for version in ["v1", "v2"] {
        let mut backend = BlackHole::new();
        let plan = Ringway::before([backend.listener.address()]).pool(&format!("send_proxy = {version:?}"));
        let ringway = plan.start();
        let mut client = ringway.connect();
        client.send(b"hello");
        // The kernel knocks again after a second, and the bytes are there long before.
        ringway.wait_metrics("it connects", |metrics| metrics.count("backend_connections", &[]) == 1);
        let (local, own) = (client.local_address(), ringway.address());
        let header = if version == "v1" { v1(&local, own) } else { v2(&local, own) };
        backend.open();
        let mut server = backend.listener.accept();
        server.expect(&[&header[..], b"hello"].concat());
        assert_eq!(server.data_segments(), 1, "{version}");
        // Nagle's algorithm is off all the same: with it, each of these waits 40 ms for an acknowledgement. A machine
        // that is busy makes some of them late, and not all.
        let one = |_| {
            let (took, ()) = crate::harness::timed(|| {
                client.send(b"more");
                server.expect(b"more");
            });
            took
        };
        let fastest = (0..6).map(one).skip(1).min().unwrap();
        assert!(fastest < Duration::from_millis(30), "{fastest:?}");
    }
}

/// A server that speaks first waits for the header, so it must not wait for the client.
#[test]
fn the_header_goes_out_although_the_client_says_nothing() {
    let listener = Listener::new();
    let ringway = Ringway::before([listener.address()]).pool("send_proxy = \"v1\"").start();
    let mut client = ringway.connect();
    let mut server = listener.accept();
    server.expect(&v1(&client.local_address(), ringway.address()));
    server.send(b"220 ready");
    client.expect(b"220 ready");
    // Neither Nagle nor a delayed acknowledgement stands between the header and what follows.
    let (took, ()) = crate::harness::timed(|| {
        client.send(b"EHLO");
        server.expect(b"EHLO");
    });
    assert!(took < Duration::from_millis(30), "{took:?}");
}

#[test]
fn who_was_named_by_a_header_is_named_to_the_backend() {
    let listener = Listener::new();
    let plan = Ringway::before([listener.address()]).pool("send_proxy = \"v2\"");
    let ringway = plan.listener("accept_proxy = \"required\"\nproxy_trusted = [\"127.0.0.0/8\"]").start();
    let mut client = ringway.connect();
    client.send(b"PROXY TCP4 192.0.2.7 198.51.100.1 40000 5432\r\nhello");
    listener.accept().expect(&[v2("192.0.2.7:40000", "198.51.100.1:5432"), b"hello".to_vec()].concat());
    let mut client = ringway.connect();
    client.send(b"PROXY TCP6 2001:db8::7 2001:db8::1 40000 5432\r\nhello");
    let address = |last: u8| [&b"\x20\x01\x0d\xb8"[..], &[0; 11], &[last]].concat();
    let header = [&b"\r\n\r\n\0\r\nQUIT\n\x21\x21\0\x24"[..], &address(7), &address(1), &[0x9c, 0x40, 0x15, 0x38]];
    listener.accept().expect(&[&header.concat()[..], b"hello"].concat());
}

#[test]
fn a_client_of_a_unix_socket_is_unknown() {
    let (listener, folder) = (Listener::new(), tempfile::tempdir().unwrap());
    let path = format!("unix:{}", folder.path().join("in.sock").display());
    let plan = Ringway::before([listener.address()]).bind(&format!("{path:?}"));
    let _ringway = plan.pool("send_proxy = \"v1\"").start();
    let mut client = Peer::connect(&path);
    client.send(b"hello");
    listener.accept().expect(b"PROXY UNKNOWN\r\nhello");
}

/// Also over a unix socket, and on the second attempt: the header is new each time.
#[test]
fn every_attempt_begins_with_its_header() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("backend.sock");
    let listener = Listener::unix(&path);
    let dead = crate::harness::address::refusing();
    let plan = Ringway::before([dead.as_str()]).backend("spare", &format!("unix:{}", path.display()), "backup = true");
    let ringway = plan.pool("send_proxy = \"v1\"").never_ejecting().start();
    let mut client = ringway.connect();
    client.send(b"x");
    let header = v1(&client.local_address(), ringway.address());
    listener.accept().expect(&[&header[..], b"x"].concat());
}

/// The header of a check says what the check says it does; version 1 has no LOCAL that servers take.
#[test]
fn checks_send_the_header_that_is_wanted() {
    const LOCAL: &[u8] = b"\r\n\r\n\0\r\nQUIT\n\x20\0\0\0";
    for (of_pool, of_check, expected) in [
        ("v1", "auto", "v1"),
        ("v2", "auto", "local"),
        ("v1", "off", ""),
        ("v1", "local", "unknown"),
        ("v2", "local", "local"),
        ("off", "local", "unknown"),
        ("v2", "proxy", "v2"),
        ("off", "proxy", "v1"),
        ("off", "auto", ""),
    ] {
        let listener = Listener::new();
        let plan = Ringway::before([listener.address()]).pool(&format!("send_proxy = {of_pool:?}"));
        let check =
            format!("type = \"send_expect\"\nsend = 'PING\\r\\n'\nexpect = \"PONG\"\nsend_proxy = {of_check:?}");
        let ringway = plan.checks(&check).check("initial = \"down\"").start();
        let mut server = listener.accept();
        let header = match expected {
            "v1" => v1(&server.peer_address(), listener.address()),
            "v2" => v2(&server.peer_address(), listener.address()),
            "local" => LOCAL.to_vec(),
            "unknown" => b"PROXY UNKNOWN\r\n".to_vec(),
            _ => Vec::new(),
        };
        server.expect(&[&header[..], b"PING\r\n"].concat());
        server.send(b"PONG\r\n");
        ringway.wait_up("main", "a", true);
    }
}

/// At a port of its own there is another server; and of a check that only connects no server hears.
#[test]
fn checks_send_no_header_where_nobody_expects_one() {
    let (listener, other) = (Listener::new(), Listener::at(&format!("{}:7400", crate::harness::address::own_ip())));
    let port = other.address().rsplit_once(':').unwrap().1;
    let address = format!("{}:7300", other.address().rsplit_once(':').unwrap().0);
    let plan = Ringway::before([&*address]).pool("send_proxy = \"v1\"");
    let plan = plan.checks(&format!("type = \"send_expect\"\nsend = 'PING\\r\\n'\nexpect = \"PONG\"\nport = {port}"));
    let bare = format!(
        "[pools.bare]\nsend_proxy = \"v1\"\ncheck.interval = \"50ms\"\n[[pools.bare.backends]]\nname = \"b\"\n\
         address = \"{}\"",
        listener.address()
    );
    let ringway = plan.more(&bare).start();
    let mut server = other.accept();
    server.expect(b"PING\r\n");
    ringway.wait_checks("b", 5);
    assert!(listener.accept_within(Duration::from_millis(250)).is_none());
}

/// A server that wants what a check does not send answers in its own way.
#[test]
fn a_check_that_fails_for_want_of_a_header_says_what_may_be_missing() {
    let backend = Backend::new(|mut peer, _| {
        let bytes = peer.read_some(64).unwrap_or_default();
        let answer: &[u8] = if bytes.starts_with(b"GET") { b"HTTP/1.1 400 Bad Request\r\n\r\n" } else { b"" };
        let _ = peer.write_all(answer);
    });
    let smtp = format!(
        "[pools.smtp]\ncheck = {{ send = 'EHLO x\\r\\n', expect = '^250', fall = 1, interval = \"50ms\" }}\n\
         [[pools.smtp.backends]]\naddress = \"{}\"",
        backend.address()
    );
    let ringway = Ringway::before([backend.address()]).checks("path = \"/\"\nfall = 1").more(&smtp).start();
    ringway.wait_said("was answered 400 Bad Request; `status` takes 200; it may expect a PROXY header");
    ringway.wait_said("the connection was closed without one; it may expect a PROXY header");
}

/// Bytes in bulk behind a header, both ways.
#[test]
fn a_header_does_not_keep_streams_from_being_spliced() {
    let backend = Backend::new(|mut peer, _| {
        let mut header = Vec::new();
        while !header.ends_with(b"\r\n") {
            header.extend(peer.read_some(1).unwrap());
        }
        crate::harness::backend::echo(peer);
    });
    let ringway = Ringway::before([backend.address()]).pool("send_proxy = \"v1\"").start();
    let key = crate::harness::bytes::Key::to_backend(1);
    let client = ringway.connect();
    let (mut reader, mut writer) = (client.again(), client);
    std::thread::scope(|scope| {
        scope.spawn(move || {
            writer.send_keyed(key, 0, 16 << 20);
            writer.finish();
        });
        assert_eq!(reader.drain_keyed(key, 0), (16 << 20, End::Fin));
    });
    assert!(ringway.metrics().count("worker_spliced_bytes_total", &[]) > 1 << 20);
}

/// The client's address can no longer be read, and a header that says "unknown" would lend it ringway's own name.
#[test]
fn the_bytes_of_a_client_that_has_gone_go_to_no_backend() {
    for version in ["v1", "v2"] {
        let backend = Backend::new(|mut peer, _| {
            let (bytes, _) = peer.drain();
            assert!(bytes.is_empty(), "{bytes:?}");
        });
        let ringway = Ringway::before([backend.address()]).pool(&format!("send_proxy = {version:?}")).start();
        ringway.process().freeze();
        for _ in 0..10 {
            let mut client = ringway.connect();
            client.send(b"for its ears only");
            client.reset();
        }
        ringway.signal(libc::SIGCONT);
        ringway.expect_code("CC", 10);
        assert_eq!(ringway.metrics().count("backend_connect_errors_total", &[]), 0, "it is nobody's fault");
        assert_eq!(ringway.metrics().count("backend_bytes_total", &[]), 0);
    }
}

/// A connection that is there just after it was given up, at the end of `connect_timeout`, and was not greeted. What
/// the client sends would come first there, and that may be a header of its own making.
#[test]
fn a_connection_that_comes_too_late_is_not_used_without_its_header() {
    network::within_own(|| {
        network::run("nft add table inet t");
        network::run("nft add chain inet t late { type filter hook input priority 0 ; }");
        let (bare, greeted) = (Arc::new(AtomicUsize::new(0)), Arc::new(AtomicUsize::new(0)));
        let counts = (bare.clone(), greeted.clone());
        let backend = Backend::at("127.9.9.9:7300", move |mut peer, _| {
            match peer.read_some(5).unwrap_or_default().as_slice() {
                b"PROXY" => counts.1.fetch_add(1, Relaxed),
                b"" => 0,
                _ => counts.0.fetch_add(1, Relaxed),
            };
            let _ = peer.drain();
        });
        // Bulk, so that each turn of the worker takes time.
        let bulk = Backend::new(|mut peer, _| while peer.write_all(&[0; 1 << 20]).is_ok() {});
        let other = format!("{}:7055", crate::harness::address::own_ip());
        let plan = Ringway::before([backend.address()]).workers(1).never_ejecting().pool("send_proxy = \"v1\"");
        // The kernel knocks again a second after the first time.
        let plan = plan.pool("connect_timeout = \"1003ms\"\nconnect_attempts = 1");
        let listener = format!("[listeners.other]\nbind = {other:?}\npool = \"bulk\"\n");
        let pool = format!("[pools.bulk]\ncheck.type = \"off\"\nbackends = [{{ address = {:?} }}]", bulk.address());
        let ringway = plan.more(&(listener + &pool)).start();
        let drain = |mut client: Peer| while client.read_some(1 << 20).is_ok_and(|bytes| !bytes.is_empty()) {};
        let drains = [(); 4].map(|()| Peer::connect(&other)).map(|client| (client.again(), client));
        let drains = drains.map(|(handle, client)| (handle, std::thread::spawn(move || drain(client))));
        for _ in 0..4 {
            network::run("nft add rule inet t late ip daddr 127.9.9.9 tcp dport 7300 drop");
            let mut clients: Vec<Peer> = (0..500).map(|_| ringway.connect()).collect();
            clients.iter_mut().for_each(|client| client.send(b"hello"));
            std::thread::sleep(Duration::from_millis(300));
            network::run("nft flush chain inet t late");
            std::thread::sleep(Duration::from_millis(1200));
        }
        let (bare, greeted) = (bare.load(Relaxed), greeted.load(Relaxed));
        assert_eq!(bare, 0, "without a header, and {greeted} with one");
        for (handle, thread) in drains {
            handle.abort(std::net::Shutdown::Both);
            thread.join().unwrap();
        }
    });
}
