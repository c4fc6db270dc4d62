//! What systemd is told, and the sockets that it hands over.

use std::os::fd::{AsRawFd, OwnedFd};
use std::os::unix::net::UnixDatagram;
use std::os::unix::process::CommandExt;
use std::process::Command;

use crate::harness::address::own_ip;
use crate::harness::process::{self, Process};
use crate::harness::{Backend, PATIENCE, Peer, Ringway, wait_until};

/// The socket of a service manager.
pub struct Manager {
    socket: UnixDatagram,
    pub path: std::path::PathBuf,
    _folder: tempfile::TempDir,
}

impl Manager {
    pub fn new() -> Manager {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("notify");
        let socket = UnixDatagram::bind(&path).unwrap();
        socket.set_read_timeout(Some(PATIENCE)).unwrap();
        Manager { socket, path, _folder: folder }
    }

    pub fn next(&self) -> String {
        let mut bytes = [0; 500];
        let len = self.socket.recv(&mut bytes).unwrap();
        String::from_utf8_lossy(&bytes[..len]).trim().to_string()
    }
}

#[test]
fn it_says_when_it_is_ready_reloads_and_stops() {
    let (backend, manager) = (Backend::echo(), Manager::new());
    let path = manager.path.to_str().unwrap();
    let ringway = Ringway::before([backend.address()]).environment("NOTIFY_SOCKET", path).start();
    assert_eq!(manager.next(), "READY=1");
    for text in ["", "nonsense"] {
        ringway.edit(|before| before + text);
        ringway.reload();
        let reloading = manager.next();
        let (first, second) = reloading.split_once('\n').unwrap();
        assert_eq!(first, "RELOADING=1");
        assert!(second.strip_prefix("MONOTONIC_USEC=").unwrap().parse::<u64>().unwrap() > 0);
        assert_eq!(manager.next(), "READY=1", "also if it was refused");
    }
    ringway.signal(libc::SIGTERM);
    assert_eq!(manager.next(), "STOPPING=1");
    assert!(ringway.wait(PATIENCE).success());
}

#[test]
fn it_keeps_its_watchdog_quiet() {
    let (backend, manager) = (Backend::echo(), Manager::new());
    let plan = Ringway::before([backend.address()]).environment("NOTIFY_SOCKET", manager.path.to_str().unwrap());
    let _ringway = plan.environment("WATCHDOG_USEC", "100000").start();
    let mut beats = 0;
    while beats < 5 {
        beats += u32::from(manager.next() == "WATCHDOG=1");
    }
}

/// Starts it as systemd does: with these sockets from descriptor 3 on.
fn activated(file: &std::path::Path, sockets: &[&OwnedFd]) -> Command {
    let numbers: Vec<i32> = sockets.iter().map(|socket| socket.as_raw_fd()).collect();
    let mut command = Command::new("/bin/sh");
    command.args(["-c", "LISTEN_PID=$$ exec \"$0\" run -c \"$1\""]).arg(crate::program::program()).arg(file);
    command.env("LISTEN_FDS", numbers.len().to_string());
    let hand_over = move || {
        // First out of the way, so that none is overwritten before it is moved.
        // SAFETY: plain calls, allowed between fork and exec; what they duplicate is open.
        let high: Vec<i32> = numbers.iter().map(|fd| unsafe { libc::fcntl(*fd, libc::F_DUPFD, 100) }).collect();
        for (place, fd) in (3..).zip(high) {
            // SAFETY: a plain call, allowed between fork and exec; `fd` was just duplicated and is open.
            if unsafe { libc::dup2(fd, place) } < 0 {
                return Err(std::io::Error::last_os_error());
            }
        }
        Ok(())
    };
    // SAFETY: it only duplicates descriptors; its small allocation is made in a child of one thread's copy.
    unsafe { command.pre_exec(hand_over) };
    command
}

#[test]
fn sockets_that_systemd_has_bound_are_used_with_who_waits_in_them() {
    let backend = Backend::named("a");
    let bound = std::net::TcpListener::bind(format!("{}:7000", own_ip())).unwrap();
    let unused = std::net::TcpListener::bind(format!("{}:7000", own_ip())).unwrap();
    let address = bound.local_addr().unwrap().to_string();
    let mut early: Vec<Peer> = (0..3).map(|_| Peer::connect(&address)).collect();
    let folder = tempfile::tempdir().unwrap();
    let file = folder.path().join("ringway.toml");
    std::fs::write(&file, Ringway::before([backend.address()]).bind(&format!("{address:?}")).to_toml()).unwrap();
    let sockets: Vec<OwnedFd> = vec![unused.into(), bound.into()];
    let mut ringway = Process::start(&mut activated(&file, &sockets.iter().collect::<Vec<_>>()));
    drop(sockets);
    early.iter_mut().for_each(|client| client.expect(b"a"));
    for _ in 0..10 {
        Peer::connect(&address).expect(b"a");
    }
    wait_until("it says what nobody wants", || ringway.output().contains("no listener has it as its `bind`"));
    ringway.signal(libc::SIGTERM);
    drop(early);
    assert!(ringway.wait(PATIENCE).unwrap().success(), "{}", ringway.output());
    assert!(Peer::try_connect(&address).is_err_and(|error| error.kind() == std::io::ErrorKind::ConnectionRefused));
}

#[test]
fn a_socket_that_is_none_to_listen_on_is_refused() {
    let (backend, folder) = (Backend::named("a"), tempfile::tempdir().unwrap());
    let file = folder.path().join("ringway.toml");
    std::fs::write(&file, Ringway::before([backend.address()]).to_toml()).unwrap();
    let datagram: OwnedFd = std::net::UdpSocket::bind(format!("{}:0", own_ip())).unwrap().into();
    let ended = process::run(&mut activated(&file, &[&datagram]));
    assert_eq!((ended.status.code(), ended.stderr.lines().count()), (Some(1), 1), "{}", ended.stderr);
    assert!(ended.stderr.contains("Accept=no"), "{}", ended.stderr);
}
