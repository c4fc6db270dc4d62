//! One ringway takes over from another: a client that connects or is connected does not notice.

use std::sync::Mutex;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::time::{Duration, Instant};

use crate::dns::session;
use crate::harness::address::own_ip;
use crate::harness::{Backend, End, PATIENCE, Peer, Ringway, metrics, wait_for, wait_until};

const MS: Duration = Duration::from_millis(1);
/// How many clients there are, and the pace of each.
const CLIENTS: usize = 4;
const PACE: Duration = Duration::from_millis(8);

/// One short session; what went wrong with it.
fn visit(address: &str) -> std::io::Result<()> {
    let mut client = Peer::try_connect(address)?;
    for expected in [&b"a"[..], b"xyz"] {
        let mut found = Vec::new();
        while found.len() < expected.len() {
            let more = client.read_some(expected.len() - found.len())?;
            if more.is_empty() {
                return Err(std::io::Error::other("the end, and nothing came before it"));
            }
            found.extend(more);
        }
        assert_eq!(found, expected);
        if expected == b"a" {
            client.write_some(b"xyz")?;
        }
    }
    Ok(())
}

/// Does something while several clients connect to each of these addresses at a steady pace. Not one may fail; returns
/// how many there were.
fn under_load<T>(addresses: &[&str], action: impl FnOnce() -> T) -> (usize, T) {
    let (is_over, served, failed) = (AtomicBool::new(false), AtomicUsize::new(0), Mutex::new(Vec::new()));
    let result = std::thread::scope(|scope| {
        for client in 0..CLIENTS {
            let (is_over, served, failed) = (&is_over, &served, &failed);
            scope.spawn(move || {
                let begun = Instant::now();
                for number in 1u32.. {
                    if is_over.load(Ordering::Relaxed) {
                        return;
                    }
                    let address = addresses[(client + number as usize) % addresses.len()];
                    match visit(address) {
                        Ok(()) => drop(served.fetch_add(1, Ordering::Relaxed)),
                        Err(error) => failed.lock().unwrap().push(format!("{address}: {error}")),
                    }
                    std::thread::sleep((begun + PACE * number).saturating_duration_since(Instant::now()));
                }
            });
        }
        // Whatever fails must not leave the clients running.
        let _end = OnDrop(|| is_over.store(true, Ordering::Relaxed));
        wait_for(PATIENCE, || served.load(Ordering::Relaxed) > 50);
        let result = action();
        let before = served.load(Ordering::Relaxed);
        wait_for(PATIENCE, || served.load(Ordering::Relaxed) > before + 100);
        result
    });
    let failed = failed.into_inner().unwrap();
    let served = served.into_inner();
    assert!(failed.is_empty(), "{} of {} failed: {:?}", failed.len(), failed.len() + served, &failed[..1]);
    (served, result)
}

struct OnDrop<F: Fn()>(F);

impl<F: Fn()> Drop for OnDrop<F> {
    fn drop(&mut self) {
        (self.0)();
    }
}

fn still_lives(client: &mut Peer) {
    client.send(b"on and on");
    client.expect(b"on and on");
}

fn workers(count: usize) -> impl Fn(String) -> String {
    move |text| {
        let at = text.find("workers = ").unwrap() + 10;
        format!("{}{count}{}", &text[..at], &text[at + 1..])
    }
}

/// Several in a row, with as many workers, more, fewer, and again more.
#[test]
fn nobody_who_connects_is_refused_and_long_sessions_go_on_in_the_old_one() {
    let backend = Backend::named("a");
    let folder = tempfile::tempdir().unwrap();
    let (ip, unix) = (own_ip(), format!("unix:{}", folder.path().join("s").display()));
    let tcp = format!("{ip}:7000");
    let bind = format!("[{tcp:?}, {unix:?}]");
    let plan = Ringway::before([backend.address()]).bind(&bind).process("shutdown_grace = \"60s\"");
    let mut first = plan.start();
    let mut served = 0;
    for count in [2, 3, 1, 2] {
        let mut long: Vec<Peer> = (0..10).map(|turn| Peer::connect([&tcp, &unix][turn % 2])).collect();
        long.iter_mut().for_each(|client| client.expect(b"a"));
        let (more, second) = under_load(&[&tcp, &tcp, &unix], || {
            let second = first.successor(workers(count));
            first.wait_said("another ringway has taken over");
            second
        });
        served += more;
        second.wait_said("taken over; the ringway before drains");
        let seen = second.metrics().count("listener_connections_total", &[]);
        assert!(seen > 50 && seen < more as u64, "{seen} of {more}: both have served");
        long.iter_mut().for_each(still_lives);
        for mut client in long {
            client.finish();
            assert_eq!(client.end(), End::Fin);
        }
        let status = std::mem::replace(&mut first, second).wait(PATIENCE);
        assert_eq!(status.code(), Some(0));
    }
    assert!(served > 600, "{served}");
    first.stop();
    assert!(Peer::try_connect(&tcp).is_err());
}

/// Clients that wait when the old one stops accepting are all in the backlog: it accepts none without room.
#[test]
fn whoever_waits_is_served_by_the_new_one() {
    let backend = Backend::named("a");
    let old = Ringway::before([backend.address()]).process("connections_max = 1").start();
    let (mut first, _) = session(&old);
    let mut waiting: Vec<Peer> = (0..20).map(|_| old.connect()).collect();
    assert!(waiting[0].is_silent_for(100 * MS));
    waiting.extend((0..20).map(|_| old.connect()));
    let new = old.successor(|text| text.replace("connections_max = 1", "connections_max = 100"));
    let served = |new: &Ringway| new.metrics().count("listener_connections_total", &[]);
    wait_until("those in the backlog are served", || served(&new) > 0);
    still_lives(&mut first);
    drop(first);
    while !waiting.is_empty() {
        let mut next = None;
        wait_until("one of them is served", || {
            next = waiting.iter().position(Peer::has_bytes);
            next.is_some()
        });
        let mut client = waiting.swap_remove(next.unwrap());
        client.expect(b"a");
        still_lives(&mut client);
    }
    assert_eq!(served(&new), 40, "the old one had accepted some");
    assert_eq!(old.wait(PATIENCE).code(), Some(0));
    new.stop();
}

#[test]
fn addresses_come_and_go_with_the_configuration_of_the_new_one() {
    let [a, b] = ["a", "b"].map(Backend::named);
    let (stays, goes, comes) = (own_ip(), own_ip(), own_ip());
    let [stays, goes, comes] = [stays, goes, comes].map(|ip| format!("{ip}:7000"));
    let plan = Ringway::before([a.address()]).bind(&format!("[{stays:?}, {goes:?}]"));
    let old = plan.start();
    let mut long = Peer::connect(&goes);
    long.expect(b"a");
    let new = old.successor(|text| {
        let text = text.replace(&format!("[{stays:?}, {goes:?}]"), &format!("[{comes:?}, {stays:?}]"));
        text.replace(a.address(), b.address()).replace("[listeners.main]", "[listeners.other]")
    });
    new.wait_said(&format!(
        "the ringway before listened there, and no listener of this configuration does: clients can no longer \
         connect there\" address={goes}"
    ));
    // The old one accepts where both listen until each of its workers has seen that it drains.
    let is_served_by_new = |address: &str| Peer::connect(address).read_some(1).is_ok_and(|byte| byte == b"b");
    for address in [&stays, &comes] {
        wait_until("the new one alone accepts", || (0..4).all(|_| is_served_by_new(address)));
    }
    wait_until("nobody listens where nobody is to", || Peer::try_connect(&goes).is_err());
    still_lives(&mut long);
    drop(long);
    assert_eq!(old.wait(PATIENCE).code(), Some(0));
    for address in [&stays, &comes] {
        Peer::connect(address).expect(b"b");
    }
    assert!(new.metrics().count("listener_connections_total", &[("listener", "other")]) >= 10);
}

#[test]
fn a_new_one_that_fails_leaves_the_old_one_as_it_is() {
    let backend = Backend::named("a");
    let taken = std::net::TcpListener::bind(format!("{}:7000", own_ip())).unwrap();
    let plan = Ringway::before([backend.address()]).process("shutdown_grace = \"60s\"");
    let old = plan.start();
    let (mut long, _) = session(&old);
    let generation = |ringway: &Ringway| ringway.metrics().count("config_generation", &[]);
    let fails = |change: &dyn Fn(String) -> String, code: i32, says: &str| {
        let (mut process, _) = old.begin_successor(change);
        assert_eq!(process.wait(PATIENCE).unwrap().code(), Some(code), "{}", process.output());
        assert!(process.settled_output().contains(says), "{}", process.output());
    };
    let bind = format!("bind = \"{}\"", old.address());
    let (_, ()) = under_load(&[old.address()], || {
        fails(&|text| text + "nonsense", 2, "not valid TOML");
        let in_use = format!("bind = [\"{}\", \"{}\"]", old.address(), taken.local_addr().unwrap());
        fails(&|text| text.replace(&bind, &in_use), 1, "in use by another program");
        fails(&|text| workers(4)(text.replace(&bind, &in_use)), 1, "in use by another program");
        let nowhere = format!("bind = [\"{}\", \"unix:/nowhere/x\"]", old.address());
        fails(&|text| text.replace(&bind, &nowhere), 1, "its directory does not exist");
    });
    old.wait_said("the ringway that was to take over has gone; this one goes on as before");
    assert_eq!(metrics::get(old.admin(), "/ready").0, 200);
    assert_eq!(old.api().get("/v1/status")["phase"], "serving");
    old.change("[pools.main]\n", "[pools.main]\nidle_timeout = \"2h\"\n");
    assert_eq!(generation(&old), 2, "it can be reloaded again");
    still_lives(&mut long);
    // And it can be taken over after all.
    let new = old.successor(|text| text);
    drop(long);
    assert_eq!(old.wait(PATIENCE).code(), Some(0));
    Peer::connect(new.address()).expect(b"a");
}

#[test]
fn the_admin_server_is_taken_over_with_its_socket() {
    let backend = Backend::named("a");
    let plan = Ringway::before([backend.address()]).process("shutdown_grace = \"60s\"");
    let probes = plan.address().replace(":7000", ":7002");
    let old = plan.admin(&format!("probes = \"{probes}\"")).start();
    let (mut long, _) = session(&old);
    let inode = std::os::unix::fs::MetadataExt::ino(&std::fs::metadata(old.socket()).unwrap());
    let pid = |ringway: &Ringway| ringway.metrics().count("listener_connections_total", &[]);
    assert_eq!(pid(&old), 1);
    let new = old.successor(|text| text.replace("[admin]\n", "[admin]\nsocket_mode = \"0660\"\n"));
    // A request now goes to the new one, which has served no client yet.
    for _ in 0..20 {
        assert_eq!(pid(&old), 0);
        assert_eq!(old.api().get("/v1/status")["phase"], "serving");
        assert_eq!(metrics::get(&probes, "/ready").0, 200, "the old one is draining");
    }
    let found = std::fs::metadata(new.socket()).unwrap();
    assert_eq!(std::os::unix::fs::MetadataExt::ino(&found), inode);
    assert_eq!(std::os::unix::fs::PermissionsExt::mode(&found.permissions()) & 0o777, 0o660);
    still_lives(&mut long);
    drop(long);
    assert_eq!(old.wait(PATIENCE).code(), Some(0));
    assert_eq!(new.api().get("/v1/status")["phase"], "serving", "the old one has left the file");
    let socket = new.socket().to_path_buf();
    // An address that the next one does not have goes with the one that had it.
    let next = new.successor(|text| text.replace("admin.sock", "other.sock"));
    assert_eq!(new.wait(PATIENCE).code(), Some(0));
    assert!(!socket.exists(), "nobody serves there any more");
    assert!(next.socket().with_file_name("other.sock").exists());
}

#[test]
fn only_one_takes_over_at_a_time_and_the_configuration_stays_meanwhile() {
    let (backend, mut hole) = (Backend::named("a"), crate::harness::backend::BlackHole::new());
    let old = Ringway::before([backend.address()]).start();
    // The new one looks at its backends first, and this one does not answer.
    let slow = format!("[[pools.main.backends]]\nname = \"b\"\naddress = \"{}\"\n", hole.listener.address());
    let check = "type = \"tcp\"\ntimeout = \"60s\"";
    let (mut waits, _) = old.begin_successor(|text| text.replace("type = \"off\"", check) + &slow);
    old.wait_said("another ringway is taking over");
    let (mut second, _) = old.begin_successor(|text| text);
    assert_eq!(second.wait(PATIENCE).unwrap().code(), Some(1));
    assert!(second.settled_output().contains("it refuses: another ringway is taking over"), "{}", second.output());
    assert!(!old.reload(), "a reload of this one would be lost");
    Peer::connect(old.address()).expect(b"a");
    hole.open();
    wait_until("it has taken over", || waits.output().contains(" message=ready "));
    assert_eq!(old.wait(PATIENCE).code(), Some(0));
    waits.signal(libc::SIGTERM);
    assert!(waits.wait(PATIENCE).unwrap().success());
}

#[test]
fn a_socket_that_is_none_of_a_ringway_is_named_so() {
    let backend = Backend::named("a");
    let folder = tempfile::tempdir().unwrap();
    let file = folder.path().join("ringway.toml");
    let refusal = |socket: &str| {
        let mut command = Ringway::before([backend.address()]).command(&file);
        let ended = crate::harness::process::run(command.arg("--take-over").arg(socket));
        assert_eq!((ended.status.code(), ended.stderr.lines().count()), (Some(1), 1), "{}", ended.stderr);
        ended.stderr
    };
    assert!(refusal("/nowhere/admin").contains("there is no such socket"));
    assert!(refusal(file.to_str().unwrap()).contains("nothing listens there"));
    let old = Ringway::before([backend.address()]).start();
    let answer = old.api().ask("POST", "/v1/take-over", "");
    assert_eq!(answer.status, 426);
    let message = answer.body["errors"][0]["message"].as_str().unwrap();
    assert!(message.contains("by ringway-take-over/1, and was asked for another protocol"), "{message}");
    assert_eq!(metrics::get(old.admin(), "/ready").0, 200);
}

/// Under systemd the new one is the main process from now on, and the old one says nothing any more.
#[test]
fn systemd_is_told_who_serves() {
    let backend = Backend::named("a");
    let manager = crate::systemd::Manager::new();
    let path = manager.path.to_str().unwrap();
    let old = Ringway::before([backend.address()]).environment("NOTIFY_SOCKET", path).start();
    assert_eq!(manager.next(), "READY=1");
    let new = old.successor_in(|text| text, &[("NOTIFY_SOCKET", path)]);
    let main = format!("MAINPID={}", new.process().id());
    assert_eq!([manager.next(), manager.next(), manager.next()], [main.clone(), main, "READY=1".to_string()]);
    assert_eq!(old.wait(PATIENCE).code(), Some(0));
    new.signal(libc::SIGTERM);
    assert_eq!(manager.next(), "STOPPING=1");
    assert!(new.wait(PATIENCE).success());
}
