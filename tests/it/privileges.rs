//! What the process may do once it serves: S4.

use std::os::unix::process::CommandExt;

use crate::harness::{Backend, Ringway};

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
    let nothing = "0000000000000000";
    for (name, expected) in [
        ("Uid", "65534 65534 65534 65534"),
        ("Gid", "65534 65534 65534 65534"),
        ("CapEff", nothing),
        ("CapPrm", nothing),
        ("CapInh", nothing),
        ("CapBnd", nothing),
        ("CapAmb", nothing),
        ("NoNewPrivs", "1"),
    ] {
        let found = of_all_threads(&ringway, name);
        assert!(found.len() >= 4 && found.iter().all(|value| value == expected), "{name}: {found:?}");
    }
    // Checks and sessions go on as that user.
    ringway.wait_checks("a", 3);
    ringway.connect().expect(b"a");
    let socket = std::fs::metadata(ringway.socket()).unwrap();
    assert_eq!(std::os::unix::fs::MetadataExt::uid(&socket), 65534, "and whoever is that user may speak to it");
    ringway.stop();
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
