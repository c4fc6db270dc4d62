//! What the process may do once it serves: S4.

use std::os::unix::process::CommandExt;

use crate::harness::{Backend, Ringway};

/// No capability.
const NOTHING: &str = "0000000000000000";

/// The lines of that name of every thread.
fn of_all_threads(ringway: &Ringway, name: &str) -> Vec<String> {
    let tasks = std::fs::read_dir(format!("/proc/{}/task", ringway.process().id())).unwrap();
    let line = |task: std::io::Result<std::fs::DirEntry>| {
        let status = std::fs::read_to_string(task.unwrap().path().join("status")).unwrap();
        let line = status.lines().find_map(|line| line.strip_prefix(name)?.strip_prefix(':')).unwrap();
        line.split_whitespace().collect::<Vec<_>>().join(" ")
    };
    tasks.map(line).collect()
}

fn is_root() -> bool {
    // SAFETY: a plain call.
    unsafe { libc::geteuid() == 0 }
}

#[test]
fn no_thread_has_a_privilege_left_once_it_serves() {
    if !is_root() {
        eprintln!("skipped: it needs to start as root");
        return;
    }
    let backend = Backend::named("a");
    let plan = Ringway::before([backend.address()]).checked(1, 1);
    let ringway = plan.process("user = \"nobody\"").start();
    ringway.connect().expect(b"a");
    for (name, expected) in [
        ("Uid", "65534 65534 65534 65534"),
        ("Gid", "65534 65534 65534 65534"),
        ("CapEff", NOTHING),
        ("CapPrm", NOTHING),
        ("CapInh", NOTHING),
        ("CapBnd", NOTHING),
        ("CapAmb", NOTHING),
        ("NoNewPrivs", "1"),
        ("Seccomp", "2"),
    ] {
        let found = of_all_threads(&ringway, name);
        assert!(found.len() >= 4 && found.iter().all(|value| value == expected), "{name}: {found:?}");
    }
    // It is root's for as long as the process leaves no memory image behind, which would hold keys.
    let memory = std::fs::metadata(format!("/proc/{}/mem", ringway.process().id())).unwrap();
    assert_eq!(std::os::unix::fs::MetadataExt::uid(&memory), 0, "no process of that user may read it");
    // Checks and sessions go on as that user.
    ringway.wait_checks("a", 3);
    ringway.connect().expect(b"a");
    let socket = std::fs::metadata(ringway.socket()).unwrap();
    assert_eq!(std::os::unix::fs::MetadataExt::uid(&socket), 65534, "and whoever is that user may speak to it");
    ringway.stop();
}

/// Low ports, clients' own addresses, files of other users, locked memory: no more than that.
#[test]
fn a_ringway_that_stays_root_keeps_only_what_it_needs() {
    if !is_root() {
        eprintln!("skipped: it needs to start as root");
        return;
    }
    let backend = Backend::named("a");
    let ringway = Ringway::before([backend.address()]).start();
    ringway.connect().expect(b"a");
    for name in ["CapEff", "CapPrm"] {
        let found = of_all_threads(&ringway, name);
        let kept = |value: &String| u64::from_str_radix(value, 16).unwrap();
        assert!(found.iter().all(|value| kept(value) & !0x6406 == 0), "{name}: {found:?}");
    }
}

/// To connect from a foreign address takes a privilege for as long as it serves.
#[test]
fn one_capability_is_left_where_backends_see_the_client_itself() {
    if !is_root() {
        eprintln!("skipped: it needs to start as root");
        return;
    }
    let backend = Backend::named("a");
    let plan = Ringway::before([backend.address()]).pool("source = \"client\"").checked(1, 1);
    let ringway = plan.process("user = \"nobody\"").start();
    (0..4).for_each(|_| ringway.connect().expect(b"a"));
    let raw = "0000000000002000";
    for name in ["CapEff", "CapPrm"] {
        let found = of_all_threads(&ringway, name);
        let with_it = found.iter().filter(|value| *value == raw).count();
        let without = found.iter().filter(|value| *value == NOTHING).count();
        // A thread that writes logs opens no connection.
        assert!(with_it >= 3 && with_it + without == found.len(), "{name}: {found:?}");
    }
    for (name, expected) in [("Uid", "65534 65534 65534 65534"), ("CapBnd", NOTHING)] {
        let found = of_all_threads(&ringway, name);
        assert!(found.len() >= 4 && found.iter().all(|value| value == expected), "{name}: {found:?}");
    }
    // Another configuration may want it, too.
    ringway.change("source = \"client\"", "source = \"127.77.0.9\"");
    ringway.connect().expect(b"a");
    ringway.change("source = \"127.77.0.9\"", "source = \"client\"");
    ringway.connect().expect(b"a");
}

/// A process that has given it up cannot have it back.
#[test]
fn a_reload_that_takes_a_privilege_which_is_gone_is_refused() {
    if !is_root() {
        eprintln!("skipped: it needs to start as root");
        return;
    }
    let backend = Backend::named("a");
    let ringway = Ringway::before([backend.address()]).pool("source = \"\"").process("user = \"nobody\"").start();
    ringway.edit(|text| text.replacen("source = \"\"", "source = \"client\"", 1));
    assert!(!ringway.reload());
    ringway.wait_said("takes CAP_NET_RAW, which this process does not have");
    ringway.connect().expect(b"a");
}

#[test]
fn who_stays_root_can_gain_nothing_either() {
    let backend = Backend::named("a");
    let ringway = Ringway::before([backend.address()]).start();
    assert!(of_all_threads(&ringway, "NoNewPrivs").iter().all(|value| value == "1"));
    if is_root() {
        assert!(of_all_threads(&ringway, "CapBnd").iter().all(|value| value == "0000000000000000"));
    }
    let maps = std::fs::metadata(format!("/proc/{}/environ", ringway.process().id())).unwrap();
    assert_eq!(std::os::unix::fs::MetadataExt::uid(&maps), 0, "it leaves no memory image, and no other user looks in");
}

/// The running process itself: what its configuration names is led out of the folders that it was started with.
#[test]
fn it_reads_and_writes_nothing_that_it_was_not_started_with() {
    let folder = tempfile::tempdir().unwrap();
    let at = |name: &str| folder.path().join(name);
    for name in ["in", "out"] {
        std::fs::create_dir(at(name)).unwrap();
        std::fs::write(at(name).join("password"), "secret").unwrap();
    }
    let redis = Backend::new(|mut peer, _| {
        // A line for each command, which may come together.
        while let Ok(bytes) = peer.read_some(1000) {
            let text = String::from_utf8_lossy(&bytes).to_uppercase();
            let answers =
                text.split('*').skip(1).map(|command| if command.contains("PING") { "+PONG\r\n" } else { "+OK\r\n" });
            if bytes.is_empty() || peer.write_all(answers.collect::<String>().as_bytes()).is_err() {
                return;
            }
        }
    });
    let (password, log) = (at("in/password"), at("in/log"));
    let plan = Ringway::before([redis.address()]).checked_as("redis").check(&format!("password_file = {password:?}"));
    let ringway = plan.log_file(log.to_str().unwrap()).start();
    assert!(of_all_threads(&ringway, "Seccomp").iter().all(|value| value == "2"));
    let said = |text: &str| {
        let mut found = String::new();
        let read = || std::fs::read_to_string(&log).unwrap_or_default() + &ringway.process().output();
        let is_there = crate::harness::wait_for(crate::harness::PATIENCE, || {
            found = read();
            found.contains(text)
        });
        assert!(is_there.is_some(), "{text:?} in {found}");
    };
    said("every user of this host can read");
    ringway.wait_checks("a", 2);
    // The same name, and another file behind it.
    std::fs::remove_file(&password).unwrap();
    std::os::unix::fs::symlink(at("out/password"), &password).unwrap();
    said("ermission denied");
    // What a reload names elsewhere is refused, with the folder.
    ringway.edit(|text| text.replace("in/password", "out/password"));
    assert!(!ringway.reload());
    said("a running ringway reaches only the folders that it was started with");
    // And a log that is led away goes on where it was.
    std::fs::rename(&log, at("in/old")).unwrap();
    std::os::unix::fs::symlink(at("out/log"), &log).unwrap();
    ringway.signal(libc::SIGUSR1);
    crate::harness::wait_until("it says that it cannot", || {
        std::fs::read_to_string(at("in/old")).unwrap().contains("cannot reopen the log")
    });
    assert!(!at("out/log").exists());
}

#[test]
fn the_sandbox_can_be_left_out() {
    let backend = Backend::named("a");
    let ringway = Ringway::before([backend.address()]).environment("RINGWAY_SANDBOX", "off").start();
    ringway.wait_said("RINGWAY_SANDBOX=off: files and system calls are not restricted");
    assert!(of_all_threads(&ringway, "Seccomp").iter().all(|value| value == "0"));
}

#[test]
fn a_user_that_cannot_be_had_is_a_refusal_with_the_remedy() {
    let file = tempfile::NamedTempFile::new().unwrap();
    let backend = Backend::named("a");
    let refusal = |line: &str, uid: Option<u32>| {
        let plan = Ringway::before([backend.address()]).process(line);
        let mut command = plan.command(file.path());
        if let Some(uid) = uid {
            command.uid(uid);
            std::fs::set_permissions(file.path(), std::os::unix::fs::PermissionsExt::from_mode(0o644)).unwrap();
        }
        let ended = crate::harness::process::run(&mut command);
        assert_eq!(ended.status.code(), Some(1), "{}", ended.stderr);
        ended.stderr.lines().last().unwrap_or_default().to_string()
    };
    if is_root() {
        assert!(refusal("user = \"nosuchuser\"", None).contains("there is no user `nosuchuser`; add it"));
        assert!(refusal("group = \"nosuchgroup\"", None).contains("there is no group `nosuchgroup`"));
        assert!(refusal("user = \"root\"", Some(65534)).contains("need a start as root, and this is nobody"));
    }
}

/// A user that can write into the folder of the log could have put a link there, and would own what it leads to.
#[test]
fn a_log_is_no_link_and_what_a_hard_link_leads_to_is_not_given_away() {
    if !is_root() {
        eprintln!("skipped: it needs to start as root");
        return;
    }
    let (backend, folder) = (Backend::named("a"), tempfile::tempdir().unwrap());
    let (precious, log) = (folder.path().join("precious"), folder.path().join("log"));
    std::fs::write(&precious, "").unwrap();
    let refusal = || {
        let plan = Ringway::before([backend.address()]).log_file(log.to_str().unwrap());
        let file = tempfile::NamedTempFile::new().unwrap();
        let ended = crate::harness::process::run(&mut plan.process("user = \"nobody\"").command(file.path()));
        assert_eq!(ended.status.code(), Some(1), "{}", ended.stderr);
        std::fs::remove_file(&log).unwrap();
        ended.stderr
    };
    std::os::unix::fs::symlink(&precious, &log).unwrap();
    assert!(refusal().contains("it is a symbolic link: name the file itself"));
    assert_eq!(std::fs::read(&precious).unwrap(), b"");
    std::fs::hard_link(&precious, &log).unwrap();
    assert!(refusal().contains("it has another name elsewhere (a hard link)"));
    let owner = std::os::unix::fs::MetadataExt::uid(&std::fs::symlink_metadata(&precious).unwrap());
    assert_eq!(owner, 0);
}
