//! R46: a configuration that is wrong, or that only a restart can apply, changes nothing.

use std::io::Write;

use crate::dns::session;
use crate::harness::address::own_ip;
use crate::harness::{Backend, Listener, Peer, Ringway, process, wait_until};

/// Refused, with these words in the log, and everything goes on as before.
#[track_caller]
fn refused(ringway: &Ringway, change: impl FnOnce(String) -> String, says: &[&str]) {
    let (before, good) = (ringway.metrics(), std::fs::read_to_string(ringway.file()).unwrap());
    let (mut held, _) = session(ringway);
    ringway.edit(change);
    assert!(!ringway.reload());
    for text in says {
        ringway.wait_said(text);
    }
    ringway.wait_said("configuration not reloaded");
    held.send(b"on and on");
    held.expect(b"on and on");
    assert_eq!(session(ringway).1, "a");
    let after = ringway.metrics();
    for same in ["config_generation", "backend_up", "backend_weight"] {
        assert_eq!(before.count(same, &[]), after.count(same, &[]), "{same}");
    }
    drop(held);
    std::fs::write(ringway.file(), good).unwrap();
    assert!(ringway.reload(), "and what was right still is");
}

#[test]
fn every_error_is_named_with_its_place() {
    let backend = Backend::named("a");
    let ringway = Ringway::before([backend.address()]).start();
    let base = ringway.process().descriptors();
    let file = ringway.file().display().to_string();
    refused(&ringway, |text| text + "\n[pools.x\n", &[&file, "not valid TOML"]);
    refused(
        &ringway,
        |text| text.replace("[pools.main]\n", "[pools.main]\nbalanse = \"random\"\n"),
        &["unknown key `balanse` in [pools.main]", "did you mean `balance`"],
    );
    refused(&ringway, |text| text.replace("pool = \"main\"", "pool = \"nain\""), &["there is no pool `nain`"]);
    let line = std::fs::read_to_string(&file).unwrap().lines().position(|line| line == "[pools.main]").unwrap() + 2;
    let two = "[pools.main]\nqueue_max = -1\nidle_timeout = \"never\"\n";
    let both = [format!("{file}:{line}:"), format!("{file}:{}:", line + 1)];
    refused(&ringway, |text| text.replace("[pools.main]\n", two), &[&both[0], &both[1]]);
    ringway.wait_descriptors(base);
}

#[test]
fn a_file_that_is_half_written_or_gone_changes_nothing() {
    let backend = Backend::named("a");
    let ringway = Ringway::before([backend.address()]).start();
    refused(&ringway, |text| text[..text.len() / 2].to_string(), &[]);
    refused(&ringway, |_| String::new(), &["there is no listener"]);
    let (file, aside) = (ringway.file(), ringway.file().with_extension("aside"));
    std::fs::rename(&file, &aside).unwrap();
    assert!(!ringway.reload());
    ringway.wait_said("cannot read");
    assert_eq!(session(&ringway).1, "a");
    std::fs::rename(aside, file).unwrap();
    assert!(ringway.reload());
    // Written in many pieces while it is told to read it again and again: applied whole, or not at all.
    let good = std::fs::read_to_string(ringway.file()).unwrap();
    let mut out = std::fs::File::create(ringway.file()).unwrap();
    for piece in good.as_bytes().chunks(good.len() / 8 + 1) {
        out.write_all(piece).unwrap();
        ringway.reload();
        assert_eq!(session(&ringway).1, "a");
    }
}

#[test]
fn a_port_in_use_refuses_the_whole_of_it() {
    let [a, b] = ["a", "b"].map(Backend::named);
    let ringway = Ringway::before([a.address()]).start();
    let (taken, free) = (Listener::new(), format!("{}:7000", own_ip()));
    let base = ringway.process().descriptors();
    let more = format!(
        "[listeners.free]\nbind = \"{free}\"\npool = \"main\"\n[listeners.taken]\nbind = \"{}\"\npool = \"main\"\n",
        taken.address()
    );
    let change = |text: String| text.replace(a.address(), b.address()) + &more;
    refused(&ringway, change, &["listeners.taken.bind: cannot listen on", "in use"]);
    wait_until("nothing is left of it", || Peer::try_connect(&free).is_err());
    ringway.wait_idle();
    ringway.wait_descriptors(base);
}

#[test]
fn what_only_a_restart_can_change_is_named() {
    let backend = Backend::named("a");
    let ringway = Ringway::before([backend.address()]).start();
    let (file, socket) = (ringway.file().display().to_string(), ringway.socket().display().to_string());
    let relieve = format!("`ringway run -c {file} --take-over {socket}`");
    refused(
        &ringway,
        |text| text.replace("workers = 2", "workers = 1"),
        &["process: workers 2 → 1", "restart", &relieve],
    );
    let elsewhere = own_ip().to_string();
    let admin = ringway.admin().to_string();
    refused(&ringway, |text| text.replace(&admin, &format!("{elsewhere}:7001")), &["admin: listen"]);
}

#[test]
fn without_a_file_there_is_nothing_to_reload() {
    let (backend, address) = (Backend::named("a"), format!("{}:7000", own_ip()));
    let mut command = Ringway::command();
    command.args(["run", "--listen", &address, "--backend", backend.address()]);
    let ringway = process::Process::start(&mut command);
    wait_until("it is ready", || ringway.output().contains(" message=ready"));
    ringway.signal(libc::SIGHUP);
    wait_until("it says why", || ringway.output().contains("started without a file"));
    let mut client = Peer::connect(&address);
    client.expect(b"a");
}
