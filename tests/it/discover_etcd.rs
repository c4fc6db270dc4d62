//! Keys of a real etcd, as a source reads them: changes, outages, compaction, several members, users, TLS; and the
//! whole ringway before them.

use std::time::Duration;

use ringway::discover::settings::Access;

use crate::dns::{serving, session, wait_serving};
use crate::harness::authority::Authority;
use crate::harness::etcd::{Etcd, Fate, Front, Listened, as_documented, programs};
use crate::harness::{Backend, Ringway, timed, wait_until};

/// What it takes to notice a dead connection: a check every 3 s, its answer within 3 s, and a busy machine.
const NOTICED_MAX: Duration = Duration::from_secs(9);

#[test]
fn each_change_of_a_key_is_heard() {
    let Some(programs) = programs() else { return };
    let etcd = Etcd::start(&programs);
    etcd.put("/db/a", "10.0.0.2:5432");
    etcd.put("/dc/other", "10.0.0.9:5432");
    let source = Listened::to_etcd(&[etcd.endpoint()], Access::default());
    source.heard.wait_found(&["10.0.0.2:5432 10.0.0.2:5432 1 0"]);
    etcd.put("/db/b", r#"{"address": "db.example:5433", "weight": 7, "backup": 2, "name": "b"}"#);
    let b = "b db.example:5433 7 2";
    source.heard.wait_found(&["10.0.0.2:5432 10.0.0.2:5432 1 0", b]);
    etcd.put("/db/a", r#"{"address": "10.0.0.1:5432", "weight": 0}"#);
    source.heard.wait_found(&["10.0.0.1:5432 10.0.0.1:5432 0 0", b]);
    etcd.put("/db/bad", "nonsense");
    wait_until("the bad value is said", || {
        source.heard.answer().is_some_and(|answer| answer.remarks.join("").contains("\"/db/bad\" holds \"nonsense\""))
    });
    source.heard.wait_found(&["10.0.0.1:5432 10.0.0.1:5432 0 0", b]);
    source.heard.wait_confirmed();
    etcd.delete("/db/a");
    source.heard.wait_found(&[b]);
    etcd.ctl(&["del", "--prefix", "/db/"]);
    source.heard.wait_found(&[]);
    assert!(source.heard.failures().is_empty(), "{:?}", source.heard.all());
}

#[test]
fn an_etcd_that_dies_is_told_of_and_what_changed_meanwhile_is_found() {
    let Some(programs) = programs() else { return };
    let mut etcd = Etcd::start(&programs);
    etcd.put("/db/a", "10.0.0.1:1");
    let source = Listened::to_etcd(&[etcd.endpoint()], Access::default());
    source.heard.wait_found(&["10.0.0.1:1 10.0.0.1:1 1 0"]);
    etcd.kill();
    source.heard.wait_failure("cannot connect");
    assert_eq!(source.heard.found().len(), 1, "what was found stays");
    etcd.restart();
    etcd.put("/db/b", "10.0.0.2:1");
    etcd.delete("/db/a");
    source.heard.wait_found(&["10.0.0.2:1 10.0.0.2:1 1 0"]);
    // One that hangs, with all its connections.
    let failures = source.heard.failures().len();
    etcd.process.freeze();
    let (took, ()) = timed(|| wait_until("it is noticed", || source.heard.failures().len() > failures));
    assert!(took < NOTICED_MAX, "{took:?}");
    etcd.process.signal(libc::SIGCONT);
    source.heard.wait_confirmed();
}

/// Each answer has the fleet look at all of its backends.
#[test]
fn many_changes_in_a_row_are_told_together() {
    let Some(programs) = programs() else { return };
    let etcd = Etcd::start(&programs);
    let source = Listened::to_etcd(&[etcd.endpoint()], Access::default());
    source.heard.wait_found(&[]);
    let (took, ()) = timed(|| etcd.put_many(500));
    wait_until("all are found", || source.heard.found().len() == 500);
    let answers = source.heard.count();
    // Two more before and after, and confirmations.
    let most = took.as_millis() as usize / 50 + took.as_secs() as usize / 3 + 4;
    assert!(answers <= most, "{answers} answers in {took:?}");
    // And after a quiet time one change is told immediately.
    std::thread::sleep(Duration::from_millis(200));
    etcd.put("/db/last", "10.0.0.2:1");
    wait_until("it is found", || source.heard.found().len() == 501);
}

/// Changes that the watch asks for are gone when it begins: then everything is listed again.
#[test]
fn compaction_loses_no_change() {
    let Some(programs) = programs() else { return };
    let etcd = std::sync::Arc::new(Etcd::start(&programs));
    etcd.put("/db/a", "10.0.0.1:1");
    let its = etcd.clone();
    let front = Front::before(&etcd.endpoint(), move |watches| {
        if watches < 2 {
            its.put("/db/b", &format!("10.0.0.2:{}", watches + 1));
            its.put("/db/c", "10.0.0.3:1");
            its.compact();
        }
        Fate::PassedOn
    });
    let source = Listened::to_etcd(&[front.endpoint()], Access::default());
    source.heard.wait_found(&["10.0.0.1:1 10.0.0.1:1 1 0", "10.0.0.2:2 10.0.0.2:2 1 0", "10.0.0.3:1 10.0.0.3:1 1 0"]);
    etcd.delete("/db/b");
    source.heard.wait_found(&["10.0.0.1:1 10.0.0.1:1 1 0", "10.0.0.3:1 10.0.0.3:1 1 0"]);
    assert!(source.heard.failures().is_empty(), "compaction is no outage: {:?}", source.heard.all());
}

/// A firewall that has forgotten the connection lets nothing through, and neither end is told.
#[test]
fn a_watch_whose_connection_is_dead_is_noticed_by_what_it_does_not_say() {
    let Some(programs) = programs() else { return };
    let etcd = Etcd::start(&programs);
    let front = Front::before(&etcd.endpoint(), |watches| if watches == 0 { Fate::Dead } else { Fate::PassedOn });
    let source = Listened::to_etcd(&[front.endpoint()], Access::default());
    source.heard.wait_confirmed();
    etcd.put("/db/a", "10.0.0.1:1");
    let (took, ()) = timed(|| source.heard.wait_found(&["10.0.0.1:1 10.0.0.1:1 1 0"]));
    assert!(took < NOTICED_MAX, "{took:?}");
    etcd.put("/db/a", "10.0.0.2:1");
    source.heard.wait_found(&["10.0.0.2:1 10.0.0.2:1 1 0"]);
    assert!(source.heard.failures().is_empty(), "{:?}", source.heard.all());
}

#[test]
fn another_member_takes_over_and_one_without_a_leader_is_no_member() {
    let Some(programs) = programs() else { return };
    let mut members = Etcd::cluster(&programs, 3);
    members[2].put("/db/a", "10.0.0.1:1");
    let endpoints: Vec<String> = members.iter().map(Etcd::endpoint).collect();
    let source = Listened::to_etcd(&endpoints, Access::default());
    source.heard.wait_found(&["10.0.0.1:1 10.0.0.1:1 1 0"]);
    members[0].kill();
    members[2].put("/db/a", "10.0.0.2:1");
    source.heard.wait_found(&["10.0.0.2:1 10.0.0.2:1 1 0"]);
    source.heard.wait_confirmed();
    assert!(source.heard.failures().is_empty(), "one of three is no outage: {:?}", source.heard.all());
    // The last one answers nothing without a leader, though it lives.
    members[1].kill();
    source.heard.wait_failure("did not come within");
    members[1].restart();
    members[2].put("/db/a", "10.0.0.3:1");
    source.heard.wait_found(&["10.0.0.3:1 10.0.0.3:1 1 0"]);
    source.heard.wait_confirmed();
}

/// With a user who can read the keys of the prefix and nothing else.
fn with_users(etcd: &mut Etcd) {
    for arguments in [
        &["user", "add", "root:wurzel"][..],
        &["user", "grant-role", "root", "root"],
        &["user", "add", "ringway:geheim"],
        &["role", "add", "reader"],
        &["role", "grant-permission", "reader", "read", "/db/", "--prefix=true"],
        &["user", "grant-role", "ringway", "reader"],
        &["auth", "enable"],
    ] {
        etcd.ctl(arguments);
    }
    etcd.ctl_options = ["--user", "root:wurzel"].map(String::from).to_vec();
}

#[test]
fn a_user_logs_in_and_does_so_again_when_the_token_has_ended() {
    let Some(programs) = programs() else { return };
    let ip = crate::harness::address::own_ip().to_string();
    // A token ends when it was not used for a second; the source asks every third one.
    let mut etcd = Etcd::configured(&programs, &["--auth-token-ttl", "1"], "http", &ip);
    etcd.put("/db/a", "10.0.0.1:1");
    let file = tempfile::NamedTempFile::new().unwrap();
    std::fs::write(file.path(), "falsch\n").unwrap();
    let access = |user: &str| Access {
        user: Some(user.to_string()),
        password_file: Some(file.path().to_path_buf()),
        ..Access::default()
    };
    let early = Listened::to_etcd(&[etcd.endpoint()], access("ringway"));
    early.heard.wait_found(&["10.0.0.1:1 10.0.0.1:1 1 0"]);
    with_users(&mut etcd);
    early.heard.wait_failure("authentication failed, invalid user ID or password");
    let none = Listened::to_etcd(&[etcd.endpoint()], Access::default());
    none.heard.wait_failure("user name is empty\"; set `user` and `password_file`");
    std::fs::write(file.path(), "geheim\n").unwrap();
    early.heard.wait_confirmed();
    let source = Listened::to_etcd(&[etcd.endpoint()], access("ringway"));
    source.heard.wait_found(&["10.0.0.1:1 10.0.0.1:1 1 0"]);
    for _ in 0..3 {
        source.heard.wait_confirmed();
    }
    assert!(source.heard.failures().is_empty(), "{:?}", source.heard.all());
    etcd.put("/db/a", "10.0.0.2:1");
    source.heard.wait_found(&["10.0.0.2:1 10.0.0.2:1 1 0"]);
    etcd.restart();
    etcd.put("/db/a", "10.0.0.3:1");
    source.heard.wait_found(&["10.0.0.3:1 10.0.0.3:1 1 0"]);
    etcd.ctl(&["role", "revoke-permission", "reader", "/db/", "--prefix=true"]);
    source.heard.wait_failure("permission denied");
    let all = format!("{:?}{:?}", source.heard.all(), early.heard.all());
    assert!(!all.contains("geheim") && !all.contains("falsch"), "{all}");
}

#[test]
fn etcd_is_followed_over_tls_and_has_to_prove_its_name() {
    let Some(programs) = programs() else { return };
    let (authority, other) = (Authority::new(), Authority::new());
    let ip = crate::harness::address::own_ip().to_string();
    let (server, client) = (authority.sign(&[&ip]), authority.sign(&["ringway"]));
    let path = |path: &std::path::Path| path.display().to_string();
    let [ca, crt, key] = [path(&authority.file()), path(&server.certificate), path(&server.key)];
    let options = ["--cert-file", &crt, "--key-file", &key, "--client-cert-auth", "--trusted-ca-file", &ca];
    let mut etcd = Etcd::configured(&programs, &options, "https", &ip);
    let [crt, key] = [path(&client.certificate), path(&client.key)];
    let options = ["--cacert", &ca, "--cert", &crt, "--key", &key];
    etcd.ctl_options = options.map(String::from).to_vec();
    wait_until("it answers", || crate::harness::Peer::try_connect(&format!("{ip}:2379")).is_ok());
    etcd.put("/db/a", "10.0.0.1:1");
    let access = |authority: &Authority, has_certificate: bool| Access {
        ca_file: Some(authority.file()),
        cert: has_certificate.then(|| client.certificate.clone()),
        key: has_certificate.then(|| client.key.clone()),
        ..Access::default()
    };
    let source = Listened::to_etcd(&[etcd.endpoint()], access(&authority, true));
    source.heard.wait_found(&["10.0.0.1:1 10.0.0.1:1 1 0"]);
    etcd.put("/db/a", "10.0.0.2:1");
    source.heard.wait_found(&["10.0.0.2:1 10.0.0.2:1 1 0"]);
    let source = Listened::to_etcd(&[etcd.endpoint()], access(&other, true));
    source.heard.wait_failure("TLS");
    let source = Listened::to_etcd(&[etcd.endpoint()], access(&authority, false));
    source.heard.wait_failure("ertificate");
}

#[test]
fn an_etcd_without_its_json_api_is_told_of_in_one_line() {
    let Some(programs) = programs() else { return };
    let ip = crate::harness::address::own_ip().to_string();
    let etcd = Etcd::configured(&programs, &["--enable-grpc-gateway=false"], "http", &ip);
    let source = Listened::to_etcd(&[etcd.endpoint()], Access::default());
    source.heard.wait_failure("its gRPC gateway is off (`enable-grpc-gateway`)");
    let failures = source.heard.failures();
    assert!(failures.iter().all(|why| !why.contains('\n') && why.contains(&etcd.endpoint())), "{failures:?}");
}

fn up(ringway: &Ringway) -> u64 {
    ringway.metrics().count("discovery_up", &[("pool", "main")])
}

#[test]
fn keys_are_backends_that_come_change_and_drain_and_outlive_etcd() {
    let Some(programs) = programs() else { return };
    let [a, b] = ["a", "b"].map(Backend::named);
    let mut etcd = Etcd::start(&programs);
    etcd.put("/db/a", a.address());
    let source =
        format!("[pools.main.discover]\ntype = \"etcd\"\nendpoints = [{:?}]\nprefix = \"/db/\"", etcd.endpoint());
    let ringway = Ringway::plan().pool("drain_timeout = \"1s\"").more(&source).start();
    wait_serving(&ringway, &["a"]);
    let value = |weight: u16| format!(r#"{{"address": {:?}, "weight": {weight}, "name": "two"}}"#, b.address());
    etcd.put("/db/b", &value(1));
    wait_serving(&ringway, &["a", "b"]);
    etcd.put("/db/b", &value(3));
    wait_until("its weight is another one", || {
        let pool = &ringway.api().get("/v1/pools/main");
        let backends = pool["backends"].as_array().unwrap();
        backends.iter().any(|it| it["name"] == "two" && it["weight"] == 3 && it["origin"] == "etcd")
    });
    etcd.put("/db/c", "nonsense");
    ringway.wait_said("holds \\\"nonsense\\\", which has no port; it does not count");
    etcd.kill();
    wait_until("it is missed", || up(&ringway) == 0);
    assert_eq!(serving(&ringway).len(), 2, "both serve on");
    etcd.restart();
    wait_until("it is back", || up(&ringway) == 1);
    let (mut client, name) = loop {
        let (client, name) = session(&ringway);
        if name == "b" {
            break (client, name);
        }
    };
    etcd.delete("/db/b");
    wait_serving(&ringway, &["a"]);
    assert!(client.is_silent_for(Duration::from_millis(100)), "the session with {name} goes on");
    client.end();
    let output = ringway.process().output();
    for (line, count) in [("cannot be asked for backends", 1), ("can be asked for backends again", 1), ("nonsense", 1)]
    {
        assert_eq!(output.matches(line).count(), count, "{line}: {output}");
    }
}

/// The configuration of the document, with the endpoint, the files and the address of this test.
#[test]
fn what_the_document_shows_serves_from_an_etcd_with_users_and_tls() {
    let Some(programs) = programs() else { return };
    let (backend, authority) = (Backend::named("a"), Authority::new());
    let ip = crate::harness::address::own_ip().to_string();
    let server = authority.sign(&[&ip]);
    let path = |path: &std::path::Path| path.display().to_string();
    let [ca, crt, key] = [path(&authority.file()), path(&server.certificate), path(&server.key)];
    let mut etcd = Etcd::configured(&programs, &["--cert-file", &crt, "--key-file", &key], "https", &ip);
    etcd.ctl_options = ["--cacert", &ca].map(String::from).to_vec();
    wait_until("it answers", || crate::harness::Peer::try_connect(&format!("{ip}:2379")).is_ok());
    etcd.put("/db/a", backend.address());
    with_users(&mut etcd);
    etcd.ctl_options.extend(["--cacert".to_string(), ca.clone()]);
    let file = tempfile::NamedTempFile::new().unwrap();
    std::fs::write(file.path(), "geheim\n").unwrap();
    let ringway = as_documented(
        include_str!("../../docs/etcd.md"),
        &[
            ("https://etcd1.example:2379", &etcd.endpoint()),
            (", \"https://etcd2.example:2379\", \"https://etcd3.example:2379\"", ""),
            ("/etc/ringway/etcd-ca.pem", &ca),
            ("/etc/ringway/etcd.password", &path(file.path())),
            ("0.0.0.0", &crate::harness::address::own_ip().to_string()),
        ],
    );
    let serves = |peer: &mut crate::harness::Peer| peer.read_some(1).is_ok_and(|name| name == b"a");
    let served = || crate::harness::Peer::try_connect(&ringway.addresses[0]).is_ok_and(|mut peer| serves(&mut peer));
    wait_until("a client is served", served);
}
