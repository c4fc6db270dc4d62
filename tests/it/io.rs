//! What the data plane runs on: io_uring or epoll, chosen, said, and handed over from one to the other.

use crate::harness::backend::source;
use crate::harness::bytes::Key;
use crate::harness::process::{Process, forbid_io_uring, run, show_io_uring_disabled};
use crate::harness::{Backend, End, PATIENCE, Peer, Ringway, wait_until};

/// What `ctl status` says first.
fn said_of_io(ringway: &Ringway) -> String {
    let mut command = Ringway::command();
    let ended = run(command.args(["ctl", "--json", "status"]).env("RINGWAY_SOCKET", ringway.socket()));
    let status: serde_json::Value = serde_json::from_str(&ended.stdout).unwrap();
    format!("{}: {}", status["io"].as_str().unwrap(), status["io_reason"].as_str().unwrap())
}

/// What it runs on, by its metric.
fn driver(ringway: &Ringway) -> &'static str {
    let metrics = ringway.metrics();
    let count = |io: &str| metrics.count("build_info", &[("io", io)]);
    match [count("io_uring"), count("epoll")] {
        [1, 0] => "io_uring",
        [0, 1] => "epoll",
        counts => panic!("{counts:?}"),
    }
}

/// A word each way, and a bulk stream that is whole.
fn assert_serves(ringway: &Ringway) {
    let mut client = ringway.connect();
    assert_eq!(client.drain_keyed(Key::to_client(0), 0), (8 << 20, End::Fin));
}

/// Docker and containerd say EPERM, gVisor and old kernels ENOSYS.
#[test]
fn where_io_uring_is_forbidden_epoll_serves_and_the_reason_is_said() {
    for errno in [libc::EPERM, libc::ENOSYS] {
        let backend = Backend::new(source(8 << 20));
        let plan = Ringway::before([backend.address()]).environment("RINGWAY_IO", "auto").without_io_uring(errno);
        let ringway = plan.access_log("stderr", "json").start();
        assert_serves(&ringway);
        assert_eq!(driver(&ringway), "epoll");
        let reason = "a seccomp profile forbids it";
        assert!(said_of_io(&ringway).contains(reason), "{}", said_of_io(&ringway));
        let log = ringway.process().output();
        assert!(log.lines().any(|line| line.contains("message=ready") && line.contains(reason)), "{log}");
    }
}

/// As on Red Hat's systems. The kernel answers EPERM there, and a look at the sysctl says why.
#[test]
fn where_the_sysctl_forbids_io_uring_epoll_serves_and_the_sysctl_is_named() {
    let (backend, folder) = (Backend::named("a"), tempfile::tempdir().unwrap());
    let file = folder.path().join("ringway.toml");
    for (value, says) in [
        ("2\n", "kernel.io_uring_disabled is 2: allow it with `sysctl kernel.io_uring_disabled=0`"),
        ("1\n", "kernel.io_uring_disabled is 1: put ringway's group into kernel.io_uring_group, or set it to 0"),
    ] {
        let sysctl = folder.path().join("io_uring_disabled");
        std::fs::write(&sysctl, value).unwrap();
        let command = |io: &str| {
            let plan = Ringway::before([backend.address()]).process(&format!("io = {io:?}"));
            let (address, mut command) = (plan.address(), plan.environment("RINGWAY_IO", "auto").command(&file));
            show_io_uring_disabled(&mut command, &sysctl);
            forbid_io_uring(&mut command, libc::EPERM);
            (address, command)
        };
        let refused = run(&mut command("io_uring").1);
        assert_eq!(refused.status.code(), Some(1));
        assert!(refused.stderr.contains(says), "{}", refused.stderr);
        let (address, mut command) = command("auto");
        let serves = Process::start(&mut command);
        wait_until("it is ready", || serves.output().contains(" message=ready "));
        assert!(serves.output().contains(says) && serves.output().contains(" io=epoll "), "{}", serves.output());
        Peer::connect(&address).expect(b"a");
    }
}

#[test]
fn the_file_names_a_driver_and_the_variable_overrides_auto_alone() {
    let serve = |file: &str, variable: &str, driver_is: &str, reason: &str| {
        let backend = Backend::new(source(8 << 20));
        let plan = Ringway::before([backend.address()]).environment("RINGWAY_IO", variable);
        let ringway = plan.process(&format!("io = {file:?}")).start();
        assert_serves(&ringway);
        assert_eq!(driver(&ringway), driver_is, "{file} {variable}");
        assert_eq!(said_of_io(&ringway), format!("{driver_is}: {reason}"), "{file} {variable}");
    };
    serve("auto", "epoll", "epoll", "RINGWAY_IO says so");
    serve("epoll", "io_uring", "epoll", "process.io says so");
    if has_io_uring() {
        serve("auto", "", "io_uring", "this process may use it");
        serve("io_uring", "epoll", "io_uring", "process.io says so");
    }
}

/// A ringway on one driver is relieved by one on the other, and back.
#[test]
fn one_driver_takes_over_from_the_other_without_a_refused_client() {
    if !has_io_uring() {
        return;
    }
    let backend = Backend::named("a");
    let plan = Ringway::before([backend.address()]).environment("RINGWAY_IO", "io_uring");
    let mut old = plan.process("shutdown_grace = \"60s\"").start();
    for to in ["epoll", "io_uring"] {
        let mut long: Vec<Peer> = (0..10).map(|_| old.connect()).collect();
        long.iter_mut().for_each(|client| client.expect(b"a"));
        let new = old.successor_in(|text| text, &[("RINGWAY_IO", to)]);
        assert_eq!(driver(&new), to);
        for _ in 0..20 {
            new.connect().expect(b"a");
        }
        for client in &mut long {
            client.send(b"still here");
            client.expect(b"still here");
        }
        drop(long);
        let status = std::mem::replace(&mut old, new).wait(PATIENCE);
        assert_eq!(status.code(), Some(0));
    }
    old.stop();
}

/// Whether this process may use io_uring, by what doctor finds.
fn has_io_uring() -> bool {
    let ended = run(Ringway::command().arg("doctor"));
    let has = ended.stdout.lines().any(|line| line.contains("a ring was made and moved bytes"));
    if !has {
        println!("skipped in part: io_uring cannot be used here");
    }
    has
}
