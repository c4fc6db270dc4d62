//! R34: a ringway that cannot serve says why, on one line with the remedy, and leaves nothing behind.

use std::os::unix::process::CommandExt;
use std::path::Path;
use std::process::Command;
use std::time::Duration;

use crate::harness::address::own_ip;
use crate::harness::ringway::Plan;
use crate::harness::{Backend, Listener, Peer, Ringway, process, timed, wait_until};

/// Runs it to its end: it must fail soon, with one line that has all these words.
#[track_caller]
fn refused(mut command: Command, words: &[&str]) {
    let (took, ended) = timed(|| process::run(&mut command));
    assert_eq!(ended.status.code(), Some(1), "{}", ended.stderr);
    assert!(took < Duration::from_secs(3), "{took:?}");
    let lines: Vec<&str> = ended.stderr.lines().collect();
    assert!(lines.len() == 1 && lines[0].starts_with("ringway: "), "one line: {}", ended.stderr);
    for word in words {
        assert!(lines[0].contains(word), "{word:?} is missing: {}", lines[0]);
    }
}

fn file() -> tempfile::NamedTempFile {
    tempfile::NamedTempFile::new().unwrap()
}

fn plan() -> Plan {
    Ringway::before(["127.0.0.1:9"])
}

#[test]
fn a_port_in_use_is_named() {
    let taken = Listener::new();
    let file = file();
    refused(
        plan().bind(&format!("\"{}\"", taken.address())).command(file.path()),
        &["listeners.main.bind", taken.address(), "in use", "ss -ltnp"],
    );
}

/// SO_REUSEPORT would let two of them share a port, and half of the clients would be lost.
#[test]
fn a_port_of_another_ringway_is_in_use_too() {
    let backend = Backend::named("hi");
    let ringway = Ringway::before([backend.address()]).start();
    let file = file();
    refused(plan().bind(&format!("\"{}\"", ringway.address())).command(file.path()), &["in use"]);
    for _ in 0..20 {
        ringway.connect().expect(b"hi");
    }
}

/// All listeners or none: what was bound first is free again.
#[test]
fn a_refused_start_leaves_nothing_bound() {
    let (taken, free) = (Listener::new(), format!("{}:7000", own_ip()));
    let file = file();
    refused(plan().bind(&format!("[\"{free}\", \"{}\"]", taken.address())).command(file.path()), &["in use"]);
    drop(Listener::at(&free));
}

#[test]
fn an_address_of_nobody_is_named() {
    let file = file();
    refused(
        plan().bind("\"192.0.2.7:7000\"").command(file.path()),
        &["192.0.2.7", "no interface", "ip address", "freebind"],
    );
}

#[test]
fn too_few_descriptors_are_named_with_the_number_that_is_needed() {
    let file = file();
    let command = plan().process("connections_max = 5000").descriptors(1000).command(file.path());
    refused(command, &["descriptor limit of 1000", "LimitNOFILE", "connections_max"]);
    refused(plan().descriptors(60).command(file.path()), &["descriptor limit of 60"]);
}

#[test]
fn a_taken_admin_port_is_named() {
    let taken = Listener::new();
    let file = file();
    let toml =
        plan().to_toml().replace("[admin]\nlisten = \"", &format!("[admin]\nlisten = \"{}\" #", taken.address()));
    std::fs::write(file.path(), toml).unwrap();
    let mut command = Ringway::command();
    command.args(["run", "-c"]).arg(file.path());
    refused(command, &["admin.listen", taken.address(), "in use"]);
}

/// In a folder that cannot be written to, no socket can be bound. Root can write everywhere, so the test becomes
/// another user.
#[test]
fn a_folder_that_is_not_ours_is_named() {
    let folder = tempfile::tempdir().unwrap();
    set_mode(folder.path(), 0o555);
    let config = folder.path().join("front.toml");
    let file = tempfile::tempdir().unwrap();
    set_mode(file.path(), 0o755);
    let plan = plan().workers(1).bind(&format!("\"unix:{}/front\"", folder.path().display()));
    let config_file = file.path().join(config.file_name().unwrap());
    let mut command = plan.command(&config_file);
    set_mode(&config_file, 0o644);
    // SAFETY: a plain call.
    if unsafe { libc::geteuid() } == 0 {
        command = Command::new(program_for_everybody(file.path()));
        command.args(["run", "-c"]).arg(&config_file).uid(65534).gid(65534);
    }
    refused(command, &["front", "not allowed", "writable"]);
}

/// The built program may lie where only its owner can go.
fn program_for_everybody(folder: &Path) -> std::path::PathBuf {
    let copy = folder.join("ringway");
    std::fs::copy(crate::program::program(), &copy).unwrap();
    set_mode(&copy, 0o755);
    copy
}

fn set_mode(path: &Path, mode: u32) {
    use std::os::unix::fs::PermissionsExt;
    std::fs::set_permissions(path, std::fs::Permissions::from_mode(mode)).unwrap();
}

/// Rings are locked memory, which only root may have without limit.
#[test]
fn too_little_locked_memory_is_named() {
    // SAFETY: a plain call.
    if unsafe { libc::geteuid() } != 0 {
        println!("skipped: only root can become somebody else");
        return;
    }
    let folder = tempfile::tempdir().unwrap();
    set_mode(folder.path(), 0o755);
    let file = folder.path().join("ringway.toml");
    plan().process("io = \"io_uring\"").command(&file);
    let mut command = Command::new(program_for_everybody(folder.path()));
    command.args(["run", "-c"]).arg(&file).uid(65534).gid(65534);
    let no_memory = || {
        let limit = libc::rlimit { rlim_cur: 0, rlim_max: 0 };
        // SAFETY: the kernel reads one rlimit.
        match unsafe { libc::setrlimit(libc::RLIMIT_MEMLOCK, &raw const limit) } {
            0 => Ok(()),
            _ => Err(std::io::Error::last_os_error()),
        }
    };
    // SAFETY: setrlimit may be called between fork and exec.
    unsafe { command.pre_exec(no_memory) };
    refused(command, &["LimitMEMLOCK"]);
}

#[test]
fn the_log_may_be_json() {
    let backend = Backend::named("hi");
    let ringway = Ringway::before([backend.address()]).more("[log]\nformat = \"json\"").start();
    let log = ringway.process().output();
    assert!(log.lines().all(|line| line.starts_with('{') && line.ends_with('}')), "{log}");
}

/// As container runtimes do it.
#[test]
fn a_seccomp_filter_that_forbids_io_uring_is_named() {
    for errno in [libc::EPERM, libc::ENOSYS] {
        let file = file();
        let plan = plan().process("io = \"io_uring\"").without_io_uring(errno);
        refused(plan.command(file.path()), &["process.io asks for io_uring", "a seccomp profile forbids it"]);
    }
}

#[test]
fn a_wrong_configuration_serves_nothing_and_exits_2() {
    let file = file();
    let ended = process::run(&mut plan().pool("balanse = \"random\"").command(file.path()));
    assert_eq!(ended.status.code(), Some(2));
    assert!(ended.stderr.contains("balanse") && ended.stderr.contains("balance"), "{}", ended.stderr);
    let ended = process::run(Ringway::command().args(["run", "-c", "/nowhere.toml"]));
    assert_eq!((ended.status.code(), ended.stderr.lines().count()), (Some(2), 1));
}

#[test]
fn the_quick_form_serves_without_a_file() {
    let [a, b] = ["a", "b"].map(Backend::named);
    let (tcp, folder) = (format!("{}:7000", own_ip()), tempfile::tempdir().unwrap());
    let unix = format!("unix:{}", folder.path().join("front").display());
    let mut command = Ringway::command();
    command.args(["run", "--listen", &tcp, "--listen", &unix, "--backend", a.address(), "--backend", b.address()]);
    command.args(["--balance", "least_conn"]);
    let mut ringway = process::Process::start(&mut command);
    wait_until("it is ready", || ringway.output().contains(" message=ready"));
    let mut held: Vec<Peer> = [&tcp, &unix, &tcp, &unix].map(|address| Peer::connect(address)).into();
    let mut names: Vec<Vec<u8>> = held.iter_mut().map(|client| client.read_some(8).unwrap()).collect();
    names.sort();
    assert_eq!(names, [b"a", b"a", b"b", b"b"]);
    drop(held);
    ringway.signal(libc::SIGTERM);
    assert!(ringway.wait(crate::harness::PATIENCE).unwrap().success());
}
