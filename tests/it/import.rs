//! What `ringway import` makes of a configuration serves as the original does: both run beside each other, before the
//! same servers, and the same clients connect to both.

use std::process::Command;

use crate::harness::address::own_ip;
use crate::harness::process::Process;
use crate::harness::{Backend, Peer, wait_for, wait_until};
use crate::program::program;
use crate::proxy_peers::{Server, haproxy, nginx};

/// What HAProxy needs beside the part that a test is about.
const HAPROXY: &str = "defaults\n  mode tcp\n  timeout connect 5s\n  timeout client 20s\n  timeout server 20s\n  \
                       option redispatch\n  retries 2\n";
/// The same of nginx.
const NGINX: &str =
    "load_module /usr/lib/nginx/modules/ngx_stream_module.so;\ndaemon off;\npid FOLDER/pid;\nevents {}\n";

/// A ringway that serves an imported configuration.
struct Imported {
    address: String,
    _process: Process,
    _folder: tempfile::TempDir,
}

impl Imported {
    /// Imports a text in which `ADDRESS` is where clients connect, and serves it. `None`: this ringway has no key yet
    /// for what the test is about.
    fn start(name: &str, text: &str) -> Option<Imported> {
        let (folder, address) = (tempfile::tempdir().unwrap(), format!("{}:7500", own_ip()));
        let at = |name: &str| folder.path().join(name);
        std::fs::write(at(name), text.replace("ADDRESS", &address)).unwrap();
        let mut command = Command::new(program());
        let output = command.arg("import").arg(at(name)).arg("-o").arg(at("ringway.toml")).output().unwrap();
        let said = String::from_utf8_lossy(&output.stderr).into_owned();
        if said.contains("ringway cannot say `") {
            return None;
        }
        assert_eq!(output.status.code(), Some(0), "{said}{text}");
        // Two workers, as in other tests.
        let toml = std::fs::read_to_string(at("ringway.toml")).unwrap();
        std::fs::write(at("ringway.toml"), format!("{toml}\n[process]\nworkers = 2\npin_workers = false\n")).unwrap();
        let process = Process::start(Command::new(program()).args(["run", "-c"]).arg(at("ringway.toml")));
        let is_ready = wait_for(crate::harness::PATIENCE, || process.output().contains("message=ready"));
        assert!(is_ready.is_some(), "{}{toml}", process.output());
        Some(Imported { address, _process: process, _folder: folder })
    }
}

/// A proxy and the ringway that was made of its configuration. `None`: the proxy is not installed.
struct Pair {
    original: Server,
    imported: Imported,
}

impl Pair {
    /// HAProxy with that configuration.
    fn haproxy(text: &str) -> Option<Pair> {
        let text = format!("{HAPROXY}{text}");
        Some(Pair { original: haproxy(&text)?, imported: Imported::start("haproxy.cfg", &text)? })
    }

    /// nginx with that `stream`.
    fn nginx(text: &str) -> Option<Pair> {
        let text = format!("{NGINX}stream {{\n{text}\n}}\n");
        Some(Pair { original: nginx(&text)?, imported: Imported::start("nginx.conf", &text)? })
    }

    /// What both answer to the same.
    fn ask<T: PartialEq + std::fmt::Debug>(&self, what: &str, ask: impl Fn(&str) -> T) -> T {
        let (original, imported) = (ask(&self.original.address), ask(&self.imported.address));
        assert_eq!(original, imported, "{what}");
        imported
    }
}

/// The name of the server that a client gets; empty if it gets none.
fn served(at: &str, from: Option<&str>, says: &[u8]) -> String {
    let from = from.map(|ip| format!("{ip}:0"));
    let Ok(mut client) = Peer::connect_from(from.as_deref(), at) else { return String::new() };
    if !says.is_empty() && client.write_all(says).is_err() {
        return String::new();
    }
    let name = client.read_some(1).unwrap_or_default();
    String::from_utf8(name).unwrap()
}

/// How many of so many clients each server got, by its name.
fn shares(at: &str, clients: usize) -> Vec<(String, usize)> {
    let mut all: Vec<String> = (0..clients).map(|_| served(at, None, b"")).collect();
    all.sort();
    let mut names = all.clone();
    names.dedup();
    names.into_iter().map(|name| (name.clone(), all.iter().filter(|one| **one == name).count())).collect()
}

#[test]
fn weights_give_the_same_shares() {
    let backends = ["a", "b", "c"].map(Backend::named);
    let [a, b, c] = backends.each_ref().map(Backend::address);
    let text = format!(
        "listen l\n  bind ADDRESS\n  balance roundrobin\n  server a {a} check weight 3\n  \
         server b {b} check weight 1\n  server c {c} check weight 2\n"
    );
    let expected = [("a".to_string(), 18), ("b".to_string(), 6), ("c".to_string(), 12)];
    if let Some(pair) = Pair::haproxy(&text) {
        assert_eq!(pair.ask("shares", |at| shares(at, 36)), expected);
    }
    let text = format!(
        "upstream u {{\nserver {a} weight=3;\nserver {b};\nserver {c} weight=2;\n}}\nserver {{\nlisten ADDRESS;\n\
         proxy_pass u;\n}}"
    );
    if let Some(pair) = Pair::nginx(&text) {
        assert_eq!(pair.ask("shares", |at| shares(at, 36)), expected);
    }
}

#[test]
fn the_first_server_that_is_up_serves_and_the_main_one_again_when_it_is_back() {
    let [a, b, c] = ["a", "b", "c"].map(Backend::named);
    let [at_a, at_b, at_c] = [&a, &b, &c].map(|backend| backend.address().to_string());
    let text = format!(
        "listen l\n  bind ADDRESS\n  default-server check inter 100ms rise 1 fall 1\n  server a {at_a}\n  \
         server b {at_b} backup\n  server c {at_c} backup\n"
    );
    let Some(pair) = Pair::haproxy(&text) else { return };
    assert_eq!(pair.ask("all are up", |at| served(at, None, b"")), "a");
    a.kill();
    let both =
        |name: &str| [&pair.original.address, &pair.imported.address].iter().all(|at| served(at, None, b"") == name);
    wait_until("both serve by the first backup", || both("b"));
    b.kill();
    wait_until("both serve by the second backup", || both("c"));
    let _a = Backend::named_at(&at_a, "a");
    wait_until("both serve by the main server again", || both("a"));
    assert!(pair.ask("it stays", |at| (0..5).map(|_| served(at, None, b"")).collect::<String>()) == "aaaaa");
}

#[test]
fn a_backup_of_nginx_serves_while_the_others_fail() {
    let [a, b] = ["a", "b"].map(Backend::named);
    let (at_a, at_b) = (a.address().to_string(), b.address().to_string());
    let text = format!(
        "upstream u {{\nserver {at_a};\nserver {at_b} backup;\n}}\nserver {{\nlisten ADDRESS;\nproxy_pass u;\n}}"
    );
    let Some(pair) = Pair::nginx(&text) else { return };
    assert_eq!(pair.ask("both are up", |at| served(at, None, b"")), "a");
    a.kill();
    assert_eq!(pair.ask("the first one refuses", |at| served(at, None, b"")), "b");
}

#[test]
fn clients_are_led_by_the_name_they_ask_for() {
    let backends = ["a", "b", "c"].map(Backend::named);
    let [a, b, c] = backends.each_ref().map(Backend::address);
    let haproxy = format!(
        "frontend f\n  bind ADDRESS\n  tcp-request inspect-delay 5s\n  \
         tcp-request content accept if {{ req.ssl_hello_type 1 }}\n  \
         acl one req.ssl_sni -i one.example\n  acl below req.ssl_sni -i -m end .two.example\n  \
         use_backend a if one\n  use_backend b if below\n  default_backend c\n\
         backend a\n  server a {a}\nbackend b\n  server b {b}\nbackend c\n  server c {c}\n"
    );
    let nginx = format!(
        "map $ssl_preread_server_name $to {{\nhostnames;\none.example {a};\n*.two.example {b};\ndefault {c};\n}}\n\
         server {{\nlisten ADDRESS;\nssl_preread on;\nproxy_pass $to;\n}}"
    );
    for pair in [Pair::haproxy(&haproxy), Pair::nginx(&nginx)].into_iter().flatten() {
        for (name, expected) in [
            (Some("one.example"), "a"),
            (Some("ONE.example"), "a"),
            (Some("x.two.example"), "b"),
            (Some("x.y.two.example"), "b"),
            (Some("two.example"), "c"),
            (Some("other.example"), "c"),
            (None, "c"),
        ] {
            let hello = crate::sni::hello(name, &[]);
            assert_eq!(pair.ask("a name", |at| served(at, None, &hello)), expected, "{name:?}");
        }
    }
}

#[test]
fn the_same_clients_are_let_in() {
    let backend = Backend::named("a");
    let a = backend.address();
    let haproxy = format!(
        "listen l\n  bind ADDRESS\n  tcp-request connection reject if {{ src 127.9.1.0/24 }}\n  \
         tcp-request connection accept if {{ src 127.9.0.1/16 127.0.0.1 }}\n  tcp-request connection reject\n  \
         server a {a}\n"
    );
    let nginx = format!(
        "server {{\nlisten ADDRESS;\ndeny 127.9.1.0/24;\nallow 127.9.0.0/16;\nallow 127.0.0.1;\ndeny all;\n\
         proxy_pass {a};\n}}"
    );
    // A client inside of a network that is refused is let in by the rule before it.
    let inside = format!(
        "listen l\n  bind ADDRESS\n  tcp-request connection accept if {{ src 127.9.1.7 }}\n  \
         tcp-request connection reject if {{ src 127.9.1.0/24 }}\n  server a {a}\n"
    );
    let clients = ["127.9.0.5", "127.9.1.5", "127.9.1.7", "127.8.0.1", "127.0.0.1"];
    let cases = [(Pair::haproxy(&haproxy), "a---a"), (Pair::nginx(&nginx), "a---a"), (Pair::haproxy(&inside), "a-aaa")];
    for (pair, expected) in cases.into_iter().filter_map(|(pair, expected)| Some((pair?, expected))) {
        let of_all = |at: &str| {
            let one = |ip: &&str| match served(at, Some(ip), b"").as_str() {
                "" => "-",
                _ => "a",
            };
            clients.iter().map(one).collect::<String>()
        };
        assert_eq!(pair.ask("clients", of_all), expected);
    }
}

#[test]
fn servers_are_told_of_the_same_client() {
    // The first line, which is the header of version 1, back to the client.
    let backend = Backend::new(|mut peer, _| {
        let mut line = Vec::new();
        while !line.ends_with(b"\n") {
            match peer.read_some(1) {
                Ok(byte) if !byte.is_empty() => line.extend(byte),
                _ => return,
            }
        }
        let _ = peer.write_all(&line);
    });
    let a = backend.address();
    let haproxy = format!("listen l\n  bind ADDRESS\n  server a {a} send-proxy\n");
    let nginx = format!("server {{\nlisten ADDRESS;\nproxy_protocol on;\nproxy_pass {a};\n}}");
    for pair in [Pair::haproxy(&haproxy), Pair::nginx(&nginx)].into_iter().flatten() {
        for at in [&pair.original.address, &pair.imported.address] {
            let mut client = Peer::connect(at);
            let own = client.local_address().replace(':', " ");
            let [(ip, port), (to, to_port)] = [own.split_once(' ').unwrap(), at.split_once(':').unwrap()];
            client.expect(format!("PROXY TCP4 {ip} {to} {port} {to_port}\r\n").as_bytes());
        }
    }
}

#[test]
fn a_client_stays_with_its_server() {
    let backends = ["a", "b", "c"].map(Backend::named);
    let [a, b, c] = backends.each_ref().map(Backend::address);
    let haproxy = format!(
        "listen l\n  bind ADDRESS\n  balance source\n  hash-type consistent\n  server a {a}\n  \
         server b {b}\n  server c {c}\n"
    );
    let nginx = format!(
        "upstream u {{\nhash $remote_addr consistent;\nserver {a};\nserver {b};\nserver {c};\n}}\nserver {{\n\
         listen ADDRESS;\nproxy_pass u;\n}}"
    );
    for pair in [Pair::haproxy(&haproxy), Pair::nginx(&nginx)].into_iter().flatten() {
        // Which one it is differs with the hash; that it is always the same does not, nor that clients are spread.
        let stays = |at: &str| {
            let of = |number: usize| {
                let ip = format!("127.9.2.{number}");
                let all: Vec<String> = (0..3).map(|_| served(at, Some(&ip), b"")).collect();
                assert!(all.iter().all(|name| !name.is_empty()), "{ip} at {at}");
                (all.iter().all(|name| *name == all[0]), all[0].clone())
            };
            let all: Vec<(bool, String)> = (1..40).map(of).collect();
            let mut names: Vec<String> = all.iter().map(|(_, name)| name.clone()).collect();
            names.sort();
            names.dedup();
            (all.iter().all(|(is_same, _)| *is_same), names)
        };
        assert_eq!(pair.ask("clients", stays), (true, vec!["a".into(), "b".into(), "c".into()]));
    }
}

#[test]
fn a_pool_without_servers_falls_back_as_the_original_does() {
    let [a, b] = ["a", "b"].map(Backend::named);
    let (at_a, at_b) = (a.address().to_string(), b.address().to_string());
    let text = format!(
        "frontend f\n  bind ADDRESS\n  use_backend one if {{ nbsrv(one) gt 0 }}\n  default_backend two\nbackend one\n  \
         server a {at_a} check inter 100ms rise 1 fall 1\nbackend two\n  \
         server b {at_b} check inter 100ms rise 1 fall 1\n"
    );
    let Some(pair) = Pair::haproxy(&text) else { return };
    assert_eq!(pair.ask("the first pool is up", |at| served(at, None, b"")), "a");
    a.kill();
    let both =
        |name: &str| [&pair.original.address, &pair.imported.address].iter().all(|at| served(at, None, b"") == name);
    wait_until("both serve by the second pool", || both("b"));
    let _a = Backend::named_at(&at_a, "a");
    wait_until("both serve by the first pool again", || both("a"));
}
