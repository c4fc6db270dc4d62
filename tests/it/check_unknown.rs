//! What ringway cannot find out is not held against a backend.

use std::process::Command;

use crate::harness::postgresql::{Cluster, folder};
use crate::harness::{Backend, Listener, Peer, Ringway, network, process, wait_until};

fn checks(ringway: &Ringway, pool: &str, result: &str) -> u64 {
    ringway.metrics().count("backend_checks_total", &[("pool", pool), ("result", result)])
}

/// A Redis that answers PING, and AUTH by what the password is.
fn redis() -> Backend {
    Backend::new(|mut peer: Peer, _| {
        while let Ok(bytes) = peer.read_some(256) {
            let text = String::from_utf8_lossy(&bytes).to_string();
            let answer = match () {
                () if bytes.is_empty() => return,
                () if text.contains("AUTH") && !text.contains("geheim") => "-WRONGPASS invalid pair\r\n",
                () if text.contains("AUTH") => "+OK\r\n",
                () => "+PONG\r\n",
            };
            if peer.write_all(answer.as_bytes()).is_err() {
                return;
            }
        }
    })
}

/// Every server answers, and only ringway cannot log in: no session ends, and no backend goes down.
#[test]
fn a_password_that_is_gone_or_wrong_takes_no_backend_down() {
    let server = redis();
    let folder = tempfile::tempdir().unwrap();
    let file = folder.path().join("password");
    std::fs::write(&file, "geheim\n").unwrap();
    let check = format!("type = \"redis\"\npassword_file = {file:?}\nfall = 1\nrise = 1\ntimeout = \"5s\"");
    let ringway = Ringway::before([server.address()]).checks(&check).start();
    wait_until("it is checked", || checks(&ringway, "main", "success") > 2);
    let mut session = ringway.connect();
    session.send(b"PING");
    session.expect(b"+PONG\r\n");
    std::fs::remove_file(&file).unwrap();
    wait_until("it cannot be checked", || checks(&ringway, "main", "unknown") > 1);
    ringway.wait_said("cannot check this server; its last state stays");
    let said = ringway.process().output();
    assert_eq!(said.matches("cannot read `password_file`").count(), 1, "once: {said}");
    let seen = ringway.api().get("/v1/pools/main").to_string();
    assert!(seen.contains("its last check: cannot read `password_file`"), "{seen}");
    std::fs::write(&file, "falsch\n").unwrap();
    wait_until("it is refused", || checks(&ringway, "main", "refused") > 2);
    ringway.wait_said("the server lives but refuses the check");
    assert_eq!(ringway.metrics().count("backend_up", &[("backend", "a")]), 1);
    session.send(b"PING");
    session.expect(b"+PONG\r\n");
    std::fs::write(&file, "geheim\n").unwrap();
    ringway.wait_said("checks work again");
    assert_eq!(ringway.metrics().count("backend_transitions_total", &[]), 0);
    assert_eq!(checks(&ringway, "main", "failure"), 0);
}

/// Its reader hangs; all other checks go on, and there are no more readers with each check.
#[test]
fn a_password_file_that_hangs_keeps_one_reader_and_no_other_check() {
    let (servers, other): (Vec<Listener>, _) = ((0..50).map(|_| Listener::new()).collect(), Listener::new());
    let folder = tempfile::tempdir().unwrap();
    let fifo = folder.path().join("fifo");
    assert!(process::run(Command::new("mkfifo").arg(&fifo)).status.success());
    let check = format!("type = \"redis\"\npassword_file = {fifo:?}\nfall = 1\ntimeout = \"50ms\"");
    let backend = |server: &Listener| format!("[[pools.main.backends]]\naddress = \"{}\"", server.address());
    let backends: Vec<String> = servers.iter().map(backend).collect();
    let tcp = format!(
        "[pools.tcp.check]\ntype = \"tcp\"\ninterval = \"50ms\"\n[[pools.tcp.backends]]\naddress = \"{}\"\n",
        other.address()
    );
    let ringway = Ringway::plan().checks(&check).more(&backends.join("\n")).more(&tcp).start();
    wait_until("they cannot be checked", || checks(&ringway, "main", "unknown") > 150);
    ringway.wait_said("so it hangs");
    let readers = || ringway.process().threads().iter().filter(|name| *name == "ringway-file").count();
    assert_eq!(readers(), 1);
    let before = checks(&ringway, "tcp", "success");
    wait_until("others are", || checks(&ringway, "tcp", "success") > before + 5);
    assert_eq!(ringway.metrics().count("backend_transitions_total", &[]), 0, "nobody went down");
    std::fs::write(&fifo, "geheim\n").unwrap();
    ringway.stop();
}

/// TLS 1.2 with the key exchange of RSA, which rustls does not speak.
#[test]
fn a_server_whose_tls_is_too_old_is_checked_without_it() {
    let Some(bin) = folder() else { return };
    let settings = "ssl = on\nssl_max_protocol_version = 'TLSv1.2'\nssl_ciphers = 'AES128-SHA256:@SECLEVEL=0'\n";
    let hba = "hostssl all secret all scram-sha-256\nhost all secret all reject\nhost all plain all scram-sha-256\n\
               host all shown all password";
    let cluster = Cluster::configured(&bin, settings, hba);
    for user in ["secret", "plain", "shown"] {
        cluster.sql(&format!("create user {user} password 'geheim'"));
    }
    let file = tempfile::NamedTempFile::new().unwrap();
    std::fs::write(file.path(), "geheim").unwrap();
    let pool = |user: &str| {
        format!(
            "[pools.{user}.check]\ntype = \"postgresql\"\nuser = \"{user}\"\npassword_file = {:?}\nrise = 1\nfall = 1\n\
             interval = \"50ms\"\ntimeout = \"5s\"\n[[pools.{user}.backends]]\nname = \"x\"\naddress = \"{}\"\n",
            file.path(),
            cluster.address()
        )
    };
    let more = pool("plain") + &pool("secret") + &pool("shown");
    let ask = "type = \"postgresql\"\ninitial = \"down\"\ntimeout = \"5s\"";
    let ringway = Ringway::before([&*cluster.address()]).checks(ask).more(&more).start();
    ringway.wait_up("main", "a", true);
    wait_until("it logs in all the same", || checks(&ringway, "plain", "success") > 2);
    ringway.wait_said("TLS cannot be agreed on");
    wait_until("one that must not is unknown", || checks(&ringway, "secret", "unknown") > 1);
    ringway.wait_said("without it: ");
    wait_until("nor is the password shown", || checks(&ringway, "shown", "unknown") > 1);
    ringway.wait_said("the server wants the password in clear text");
    let metrics = ringway.metrics();
    assert_eq!(metrics.count("backend_transitions_total", &[("to", "down")]), 0);
    assert_eq!(metrics.count("backend_checks_total", &[("result", "failure")]), 0);
}

/// The connection of a check, and of a session, can meet itself on a port that the kernel gives to clients.
#[test]
fn a_dead_backend_on_a_port_for_clients_is_dead() {
    network::within_own(|| {
        // Nothing listens there. The kernel gives even ports to clients first, and 127.0.0.1 as the address to it.
        let dead = "127.0.0.1:40004";
        let plan = Ringway::before([dead]).never_ejecting().pool("connect_attempts = 1");
        let checked = format!(
            "[pools.checked]\ncheck = {{ type = \"send_expect\", expect = \"x\", interval = \"10ms\", fall = 1000, \
             fast_interval = \"10ms\", down_interval = \"10ms\" }}\n[[pools.checked.backends]]\naddress = \"{dead}\"\n"
        );
        let ringway = plan.more(&checked).start();
        network::set("net.ipv4.ip_local_port_range", "40000 40007");
        for _ in 0..100 {
            let mut client = match Peer::try_connect(ringway.address()) {
                Ok(client) => client,
                Err(_) => continue,
            };
            let _ = client.write_all(b"hello");
            let (bytes, _) = client.drain();
            assert!(bytes.is_empty(), "a client gets its own bytes back");
        }
        wait_until("the check has met itself", || {
            let lines = ringway.process().output();
            lines.contains("connected to itself")
                || ringway.api().get("/v1/pools/checked").to_string().contains("the check was connected to itself")
        });
    });
}

#[test]
fn a_host_without_ipv6_cannot_check_over_it() {
    network::within_own(|| {
        network::run("ip -6 route add 2001:db8::/64 dev lo");
        network::run("ip -6 address flush dev lo");
        let backends = Ringway::before(["[2001:db8::1]:7300"]);
        let ringway = backends.checks("type = \"tcp\"\nfall = 1").start();
        ringway.wait_up("main", "a", false);
        ringway.wait_said("this host has no IPv6 address to connect from");
    });
}
