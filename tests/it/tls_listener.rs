//! TLS that ends at a listener.

use std::io::{ErrorKind, Read, Write};
use std::time::Duration;

use crate::harness::authority::{Authority, Certificate};
use crate::harness::ringway::Plan;
use crate::harness::secure::{Secure, Trust};
use crate::harness::{Backend, End, Listener, Ringway, timed, wait_until};

const NAME: &str = "db.example";

/// `[listeners.main.tls]` with these pairs.
fn tls(pairs: &[&Certificate], more: &str) -> String {
    let pair = |pair: &&Certificate| format!("{{ cert = {:?}, key = {:?} }}", pair.certificate, pair.key);
    let pairs: Vec<String> = pairs.iter().map(pair).collect();
    format!("[listeners.main.tls]\ncertificates = [{}]\n{more}\n", pairs.join(", "))
}

pub(crate) fn plan(address: &str, pairs: &[&Certificate], more: &str) -> Plan {
    Ringway::before([address]).more(&tls(pairs, more))
}

pub(crate) fn pattern(len: usize) -> Vec<u8> {
    (0..len).map(|at| (at * 31 + at / 255) as u8).collect()
}

/// Sends bytes to an echo, and expects them back while it sends.
fn echo(client: &mut Secure, bytes: &[u8]) {
    let mut back = Vec::new();
    for part in bytes.chunks(60_000) {
        client.send(part);
        while back.len() + 300_000 < bytes.len().min(back.len() + part.len()) {
            back.extend(client.read_some().unwrap());
        }
    }
    while back.len() < bytes.len() {
        back.extend(client.read_some().unwrap());
    }
    assert!(back == bytes);
}

#[test]
fn bytes_go_both_ways_with_each_version_whatever_their_number() {
    let (authority, backend) = (Authority::new(), Backend::echo());
    let ringway = plan(backend.address(), &[&authority.sign(&[NAME])], "").start();
    for version in [&rustls::version::TLS12, &rustls::version::TLS13] {
        let trust = Trust::with(&authority, &[version], None);
        for len in [1, 100, 16_384, 16_385, 400_000] {
            let mut client = trust.connect(ringway.address(), NAME);
            echo(&mut client, &pattern(len));
            client.say_last();
            client.finish();
            assert_eq!(client.end(), Ok(()), "{len}");
        }
    }
    ringway.expect_code("--", 10);
    let done = |version| {
        let labels = [("result", "success"), ("version", version), ("resumed", "false")];
        ringway.metrics().count("tls_handshakes_total", &labels)
    };
    assert!(done("1.2") >= 1 && done("1.3") >= 1);
    assert_eq!(ringway.metrics().count("tls_truncated_total", &[]), 0);
}

/// Each write of a client becomes one segment.
#[test]
fn a_client_that_sends_byte_by_byte_is_served() {
    let (authority, backend) = (Authority::new(), Backend::echo());
    let ringway = plan(backend.address(), &[&authority.sign(&[NAME])], "").start();
    for version in [&rustls::version::TLS12, &rustls::version::TLS13] {
        let mut client = Trust::with(&authority, &[version], None).begin(ringway.address(), NAME);
        client.step = 1;
        client.shake_hands().unwrap();
        client.send(b"slowly");
        client.expect(b"slowly");
        client.say_last();
        assert_eq!(client.end(), Ok(()));
    }
    ringway.expect_code("--", 2);
}

#[test]
fn close_notify_and_fin_are_passed_on_as_each_other_and_the_other_direction_goes_on() {
    let (authority, server) = (Authority::new(), Listener::new());
    let ringway = plan(server.address(), &[&authority.sign(&[NAME])], "").start();
    let trust = Trust::of(&authority);
    // The client ends first, without a FIN.
    let mut client = trust.connect(ringway.address(), NAME);
    client.send(b"request");
    client.say_last();
    let mut served = server.accept();
    served.expect(b"request");
    assert_eq!(served.end(), End::Fin);
    let answer = pattern(300_000);
    served.send(&answer);
    drop(served);
    client.expect(&answer);
    assert_eq!(client.end(), Ok(()));
    // The server ends first.
    let mut client = trust.connect(ringway.address(), NAME);
    let mut served = server.accept();
    served.send(b"goodbye");
    served.finish();
    client.expect(b"goodbye");
    assert_eq!(client.end(), Ok(()));
    client.send(b"not yet");
    served.expect(b"not yet");
    client.say_last();
    assert_eq!(served.end(), End::Fin);
    ringway.expect_code("--", 2);
}

/// A slow reader has no room for close_notify when the last byte is sent.
#[test]
fn close_notify_comes_behind_whatever_a_slow_reader_has_not_taken() {
    let (authority, server) = (Authority::new(), Listener::new());
    let ringway = plan(server.address(), &[&authority.sign(&[NAME])], "").start();
    let mut client = Trust::of(&authority).connect(ringway.address(), NAME);
    let mut served = server.accept();
    let all = pattern(8 << 20);
    let sender = {
        let all = all.clone();
        std::thread::spawn(move || served.send(&all))
    };
    std::thread::sleep(Duration::from_millis(300));
    client.expect(&all);
    assert_eq!(client.end(), Ok(()));
    sender.join().unwrap();
}

#[test]
fn a_stream_without_close_notify_is_counted_and_one_cut_in_a_record_is_reset() {
    let (authority, server) = (Authority::new(), Listener::new());
    let ringway = plan(server.address(), &[&authority.sign(&[NAME])], "").start();
    let trust = Trust::of(&authority);
    let mut client = trust.connect(ringway.address(), NAME);
    client.send(b"all of it");
    client.finish();
    let mut served = server.accept();
    served.expect(b"all of it");
    assert_eq!(served.end(), End::Fin);
    drop(served);
    assert_eq!(client.end(), Ok(()));
    ringway.wait_metrics("it is counted", |metrics| metrics.count("tls_truncated_total", &[]) == 1);

    let mut client = trust.connect(ringway.address(), NAME);
    client.send(b"whole");
    let mut served = server.accept();
    served.expect(b"whole");
    client.send_half_a_record();
    client.finish();
    assert_eq!(served.end(), End::Reset);
}

#[test]
fn a_reset_of_the_backend_stays_a_reset() {
    let (authority, server) = (Authority::new(), Listener::new());
    let ringway = plan(server.address(), &[&authority.sign(&[NAME])], "").start();
    let mut client = Trust::of(&authority).connect(ringway.address(), NAME);
    client.send(b"x");
    let mut served = server.accept();
    served.expect(b"x");
    served.reset();
    assert_eq!(client.end(), Err(ErrorKind::ConnectionReset));
    ringway.expect_code("SD", 1);
}

#[test]
fn a_client_gets_the_certificate_for_the_name_that_it_asks_for() {
    let (authority, backend) = (Authority::new(), Backend::named("a"));
    let pairs = [&["first.example"][..], &["*.w.example", "w.example"], &[NAME]].map(|names| authority.sign(names));
    let all: Vec<&Certificate> = pairs.iter().collect();
    let ringway = plan(backend.address(), &all, "unknown_name = \"default\"").start();
    let trust = Trust::of(&authority);
    for name in ["first.example", "a.w.example", "w.example", NAME, "DB.example"] {
        trust.connect(ringway.address(), name).expect(b"a");
    }
    // It gets the first one, and does not believe it.
    for name in ["a.b.w.example", "other.example"] {
        let error = trust.try_connect(ringway.address(), name).err().unwrap().to_string();
        assert!(error.contains("not valid for name") && error.contains("first.example"), "{error}");
    }
    ringway.edit(|text| text.replace("\"default\"", "\"refuse\""));
    assert!(ringway.reload());
    let error = trust.try_connect(ringway.address(), "other.example").err().unwrap().to_string();
    assert!(error.contains("UnrecognisedName"), "{error}");
    trust.connect(ringway.address(), NAME).expect(b"a");
    let refused = ringway.metrics().count("listener_refused_total", &[("reason", "tls")]);
    assert_eq!(refused, 3);
}

#[test]
fn what_is_no_tls_is_told_so_and_the_log_says_why() {
    let (authority, backend) = (Authority::new(), Backend::named("a"));
    let folder = tempfile::tempdir().unwrap();
    let log = folder.path().join("access.log");
    let plan = plan(backend.address(), &[&authority.sign(&[NAME])], "handshake_timeout = \"300ms\"");
    let ringway = plan.access_log(log.to_str().unwrap(), "json").start();
    let mut client = ringway.connect();
    client.send(b"GET / HTTP/1.1\r\nHost: db.example\r\n\r\n");
    let (told, end) = client.drain();
    assert_eq!((told.first(), told.len(), end), (Some(&21), 7, End::Fin), "an alert");
    let mut silent = ringway.connect();
    let (took, end) = timed(|| silent.end());
    assert_eq!(end, End::Reset);
    assert!(took >= Duration::from_millis(250), "{took:?}");
    ringway.expect_code("PR", 2);
    wait_until("both are in the log", || std::fs::read_to_string(&log).unwrap().lines().count() == 2);
    let said = std::fs::read_to_string(&log).unwrap();
    assert!(said.lines().all(|line| line.contains("\"reason\":\"tls\"")), "{said}");
    assert!(said.contains("the client does not speak TLS") && said.contains("within handshake_timeout"), "{said}");
    assert_eq!(backend.accepted(), 0);
}

#[test]
fn clients_show_a_certificate_where_they_have_to() {
    let (authority, clients, backend) = (Authority::new(), Authority::new(), Backend::named("a"));
    let (good, stranger) = (clients.sign(&["alice.example"]), authority.sign(&["mallory.example"]));
    let asked = format!("client_auth = \"required\"\nclient_ca = {:?}", clients.file());
    let ringway = plan(backend.address(), &[&authority.sign(&[NAME])], &asked).start();
    for version in [&rustls::version::TLS12, &rustls::version::TLS13] {
        let with = |shown| Trust::with(&authority, &[version], shown);
        let served = |shown| {
            let mut client = with(shown).try_connect(ringway.address(), NAME)?;
            client.read_some()
        };
        assert_eq!(served(Some(&good)).unwrap(), b"a");
        assert!(served(None).is_err());
        assert!(served(Some(&stranger)).is_err());
    }
    ringway.edit(|text| text.replace("\"required\"", "\"optional\""));
    assert!(ringway.reload());
    let with = |shown| Trust::with(&authority, rustls::ALL_VERSIONS, shown);
    with(None).connect(ringway.address(), NAME).expect(b"a");
    with(Some(&good)).connect(ringway.address(), NAME).expect(b"a");
    assert_eq!(backend.accepted(), 4);
}

/// On every worker, and after a reload; not if other clients are believed from then on.
#[test]
fn a_session_is_resumed_by_its_ticket() {
    let (authority, clients, backend) = (Authority::new(), Authority::new(), Backend::named("a"));
    let ringway = plan(backend.address(), &[&authority.sign(&[NAME])], "# more").workers(2).start();
    let resumed = || ringway.metrics().count("tls_handshakes_total", &[("resumed", "true")]);
    for version in [&rustls::version::TLS12, &rustls::version::TLS13] {
        let before = resumed();
        let trust = Trust::with(&authority, &[version], None);
        let connect = |count: u64| (0..count).for_each(|_| trust.connect(ringway.address(), NAME).expect(b"a"));
        connect(12);
        assert!(resumed() >= before + 11, "{}", resumed());
        ringway.edit(|text| text.replace("# more", "alpn = []\n# more"));
        assert!(ringway.reload());
        connect(1);
        assert!(resumed() >= before + 12);
        ringway.edit(|text| text.replace("alpn = []\n# more", "# more"));
    }
    let trust = Trust::of(&authority);
    trust.connect(ringway.address(), NAME).expect(b"a");
    // In a folder that it can read.
    let file = authority.folder().join("clients.pem");
    std::fs::copy(clients.file(), &file).unwrap();
    let asked = format!("client_auth = \"optional\"\nclient_ca = {file:?}");
    ringway.edit(|text| text.replace("# more", &asked));
    assert!(ringway.reload());
    let before = resumed();
    trust.connect(ringway.address(), NAME).expect(b"a");
    assert_eq!(resumed(), before, "its ticket is from before");
}

#[test]
fn a_reload_serves_a_new_certificate_and_keeps_the_old_one_if_the_new_one_is_broken() {
    let (authority, other, backend) = (Authority::new(), Authority::new(), Backend::named("a"));
    let (shown, new) = (authority.sign(&[NAME]), other.sign(&[NAME]));
    let ringway = plan(backend.address(), &[&shown], "").start();
    Trust::of(&authority).connect(ringway.address(), NAME).expect(b"a");
    std::fs::copy(&new.certificate, &shown.certificate).unwrap();
    assert!(!ringway.reload());
    ringway.wait_said("it is not the key of the certificate in");
    Trust::of(&authority).connect(ringway.address(), NAME).expect(b"a");
    std::fs::copy(&new.key, &shown.key).unwrap();
    assert!(ringway.reload());
    Trust::of(&other).connect(ringway.address(), NAME).expect(b"a");
    assert!(Trust::of(&authority).try_connect(ringway.address(), NAME).is_err());
}

/// As certbot replaces files, and as Kubernetes moves the link to a folder.
#[test]
fn changed_files_count_from_the_next_handshake_on_and_broken_ones_do_not() {
    let (authority, backend) = (Authority::new(), Backend::named("a"));
    let others = [Authority::new(), Authority::new()];
    let folder = authority.folder().join("live");
    let release = |number: usize, shown: &Certificate| {
        let place = authority.folder().join(format!("r{number}"));
        std::fs::create_dir(&place).unwrap();
        std::fs::copy(&shown.certificate, place.join("db.crt")).unwrap();
        std::fs::copy(&shown.key, place.join("db.key")).unwrap();
        let link = authority.folder().join(format!("l{number}"));
        std::os::unix::fs::symlink(&place, &link).unwrap();
        std::fs::rename(&link, &folder).unwrap();
        place
    };
    release(0, &authority.sign(&[NAME]));
    let dir = format!("[listeners.main.tls]\ncertificate_dir = {folder:?}\n");
    let ringway = Ringway::before([backend.address()]).more(&dir).start();
    let shows = |trust: &Trust| trust.try_connect(ringway.address(), NAME).is_ok();
    assert!(shows(&Trust::of(&authority)));
    let mut open = Trust::of(&authority).connect(ringway.address(), NAME);
    let place = release(1, &others[0].sign(&[NAME]));
    wait_until("the link is followed", || shows(&Trust::of(&others[0])));
    let new = others[1].sign(&[NAME]);
    std::fs::copy(&new.certificate, place.join("db.crt")).unwrap();
    ringway.wait_said("it is not the key of the certificate in");
    assert!(shows(&Trust::of(&others[0])));
    std::fs::copy(&new.key, place.join("new")).unwrap();
    std::fs::rename(place.join("new"), place.join("db.key")).unwrap();
    wait_until("the pair is shown", || shows(&Trust::of(&others[1])));
    open.expect(b"a");
}

#[test]
fn silent_sessions_end_in_close_notify() {
    let (authority, backend) = (Authority::new(), Backend::echo());
    let plan = plan(backend.address(), &[&authority.sign(&[NAME])], "").pool("idle_timeout = \"300ms\"");
    let ringway = plan.start();
    let mut client = Trust::of(&authority).connect(ringway.address(), NAME);
    client.send(b"x");
    client.expect(b"x");
    assert_eq!(client.end(), Ok(()));
    ringway.expect_code("cD", 1);
}

/// Whatever a client breaks off, nothing of it is left.
#[test]
fn handshakes_that_are_cut_anywhere_leave_nothing_behind() {
    let (authority, backend) = (Authority::new(), Backend::echo());
    let ringway = plan(backend.address(), &[&authority.sign(&[NAME])], "").start();
    let trust = Trust::of(&authority);
    let base = ringway.process().descriptors();
    for cut in 0..400_usize {
        let mut client = trust.begin(ringway.address(), NAME);
        let mut hello = Vec::new();
        client.tls.write_tls(&mut hello).unwrap();
        match cut % 4 {
            // In the hello.
            0 => client.tcp.write_all(&hello[..cut * hello.len() / 400]).unwrap(),
            // After the answer.
            1 => {
                client.tcp.write_all(&hello).unwrap();
                client.tcp.read_exact(&mut vec![0; 1 + cut]).unwrap();
            }
            // In the records after it.
            2 => {
                client.tcp.write_all(&hello).unwrap();
                client.shake_hands().unwrap();
                client.tls.writer().write_all(&pattern(cut * 40)).unwrap();
                let mut records = Vec::new();
                while client.tls.wants_write() {
                    client.tls.write_tls(&mut records).unwrap();
                }
                client.tcp.write_all(&records[..records.len() * cut / 400]).unwrap();
            }
            // Or it sends what has no meaning.
            _ => {
                hello[cut % 60] ^= 0x55;
                client.tcp.write_all(&hello).unwrap();
            }
        }
        if cut % 3 == 0 {
            socket2::SockRef::from(&client.tcp).set_linger(Some(Duration::ZERO)).unwrap();
        }
    }
    ringway.wait_idle();
    ringway.wait_descriptors(base);
    let mut client = trust.connect(ringway.address(), NAME);
    echo(&mut client, &pattern(1000));
    drop(client);
    ringway.wait_metrics("all is given back", |metrics| metrics.count("backend_connections", &[]) == 0);
}

/// Also one whose first bytes come together with the last ones of its handshake.
#[test]
fn the_first_byte_behind_a_handshake_chooses_the_backend() {
    let (authority, backend) = (Authority::new(), Backend::echo());
    let plan = plan(backend.address(), &[&authority.sign(&[NAME])], "").pool("connect_on = \"first_byte\"");
    let ringway = plan.start();
    let mut client = Trust::of(&authority).begin(ringway.address(), NAME);
    client.tls.writer().write_all(b"early").unwrap();
    client.shake_hands().unwrap();
    client.expect(b"early");
    let mut silent = Trust::of(&authority).connect(ringway.address(), NAME);
    std::thread::sleep(Duration::from_millis(100));
    assert_eq!(backend.accepted(), 1);
    silent.send(b"late");
    silent.expect(b"late");
}

/// The handshake comes behind a PROXY header, and its names choose the pool.
#[test]
fn routes_and_proxy_headers_work_in_front_of_tls() {
    let (authority, [main, one]) = (Authority::new(), ["m", "o"].map(Backend::named));
    let shown = authority.sign(&[NAME, "one.example"]);
    let more = format!(
        "[[listeners.main.routes]]\nsni = [\"one.example\"]\npool = \"one\"\n[pools.one]\ncheck.type = \"off\"\n\
         backends = [{{ address = {:?} }}]\n",
        one.address()
    );
    let plan = plan(main.address(), &[&shown], "").more(&more);
    let ringway = plan.listener("accept_proxy = \"required\"\nproxy_trusted = [\"0.0.0.0/0\"]").start();
    let trust = Trust::of(&authority);
    for (name, served_by) in [(NAME, &b"m"[..]), ("one.example", b"o")] {
        let mut client = trust.begin(ringway.address(), name);
        client.tcp.write_all(b"PROXY TCP4 192.0.2.1 192.0.2.2 1 2\r\n").unwrap();
        client.shake_hands().unwrap();
        client.expect(served_by);
    }
}

#[test]
fn protocols_are_agreed_on_by_alpn() {
    let (authority, backend) = (Authority::new(), Backend::named("a"));
    let ringway = plan(backend.address(), &[&authority.sign(&[NAME])], "alpn = [\"mqtt\", \"h2\"]").start();
    let client = Trust::of(&authority).alpn(&["h2", "mqtt"]).connect(ringway.address(), NAME);
    assert_eq!(client.tls.alpn_protocol(), Some(&b"mqtt"[..]), "by the order of the listener");
    let error = Trust::of(&authority).alpn(&["smtp"]).try_connect(ringway.address(), NAME).err().unwrap();
    assert!(error.to_string().contains("NoApplicationProtocol"), "{error}");
}

/// Another one than the two that are rustls at both ends.
#[test]
fn openssl_is_served_with_every_cipher_that_both_have() {
    use crate::harness::process::{program, run};
    let Some(openssl) = program(&["/usr/bin/openssl"], "openssl") else { return };
    let (authority, backend) = (Authority::new(), Backend::new(|mut peer, _| peer.send(b"hello from behind\n")));
    let ringway = plan(backend.address(), &[&authority.sign(&[NAME])], "").start();
    let suites = [
        ("-tls1_3", "-ciphersuites", "TLS_AES_128_GCM_SHA256"),
        ("-tls1_3", "-ciphersuites", "TLS_AES_256_GCM_SHA384"),
        ("-tls1_3", "-ciphersuites", "TLS_CHACHA20_POLY1305_SHA256"),
        ("-tls1_2", "-cipher", "ECDHE-ECDSA-AES128-GCM-SHA256"),
        ("-tls1_2", "-cipher", "ECDHE-ECDSA-AES256-GCM-SHA384"),
        ("-tls1_2", "-cipher", "ECDHE-ECDSA-CHACHA20-POLY1305"),
    ];
    for (version, key, suite) in suites {
        let mut command = std::process::Command::new(&openssl);
        command.args(["s_client", "-quiet", "-verify_return_error", "-servername", NAME, version, key, suite]);
        let ended = run(command.args(["-connect", ringway.address(), "-CAfile"]).arg(authority.file()));
        assert!(ended.stdout.contains("hello from behind"), "{suite}: {} {}", ended.stdout, ended.stderr);
    }
}
