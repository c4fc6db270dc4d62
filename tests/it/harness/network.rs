//! Networks that a test has for itself, with faults of its own.

use std::process::Command;
use std::sync::mpsc;
use std::thread::JoinHandle;

use super::process;

/// Runs a test in a network that only its thread has, and what it starts; nothing but loopback is there. Where that is
/// not allowed the test is left out, and prints that.
pub fn within_own(test: impl FnOnce() + Send + 'static) {
    let thread = std::thread::spawn(move || {
        // SAFETY: a plain call; it concerns this thread alone.
        if unsafe { libc::unshare(libc::CLONE_NEWNET) } != 0 {
            eprintln!("skipped: no network of its own: {}", std::io::Error::last_os_error());
            return;
        }
        run("ip link set lo up");
        test();
    });
    if let Err(cause) = thread.join() {
        std::panic::resume_unwind(cause);
    }
}

/// The same with an `/etc` of its own, in which files can be replaced.
pub fn within_own_etc(test: impl FnOnce() + Send + 'static) {
    within_own(|| {
        // SAFETY: a plain call; it concerns this thread alone.
        if unsafe { libc::unshare(libc::CLONE_NEWNS) } != 0 {
            eprintln!("skipped: no mounts of its own: {}", std::io::Error::last_os_error());
            return;
        }
        run("mount --make-rprivate /");
        let folder = tempfile::tempdir().unwrap();
        let etc = folder.path().join("etc");
        run(&format!("cp -a /etc {}", etc.display()));
        run(&format!("mount --bind {} /etc", etc.display()));
        test();
        run("umount /etc");
    });
}

/// Runs a command, words apart by blanks, which must succeed.
#[track_caller]
pub fn run(command: &str) {
    let mut words = command.split(' ');
    let ended = process::run(Command::new(words.next().unwrap()).args(words));
    assert!(ended.status.success(), "{command}: {}", ended.stderr);
}

/// Sets a switch of the kernel for this network.
pub fn set(name: &str, value: &str) {
    std::fs::write(format!("/proc/sys/{}", name.replace('.', "/")), value).unwrap();
}

/// Another host, connected to this network by a cable of its own: it has a thread that lives until it is dropped.
pub struct Neighbour {
    leave: Option<mpsc::Sender<()>>,
    thread: Option<JoinHandle<()>>,
}

/// A host at the other end of an interface of that name; `ours` and `theirs` are the ends' addresses. `life` runs
/// there, and what it returns when the host is dropped.
pub fn neighbour<F: FnOnce()>(
    name: &str,
    ours: &str,
    theirs: &str,
    life: impl FnOnce() -> F + Send + 'static,
) -> Neighbour {
    let (leave, is_left) = mpsc::channel::<()>();
    let (tell_id, id) = mpsc::channel();
    let (plug_in, is_plugged_in) = mpsc::channel::<()>();
    let (there, address) = (format!("{name}0"), theirs.to_string());
    let thread = std::thread::spawn(move || {
        // SAFETY: a plain call; it concerns this thread alone.
        assert_eq!(unsafe { libc::unshare(libc::CLONE_NEWNET) }, 0);
        // SAFETY: a plain call.
        tell_id.send(unsafe { libc::gettid() }).unwrap();
        is_plugged_in.recv().unwrap();
        run("ip link set lo up");
        run(&format!("ip address add {address}/24 dev {there}"));
        run(&format!("ip link set {there} up"));
        let end = life();
        let _ = is_left.recv(); // or every sender is gone
        end();
    });
    let id: i32 = id.recv().unwrap();
    run(&format!("ip link add {name} type veth peer name {name}0"));
    run(&format!("ip link set {name}0 netns {id}"));
    run(&format!("ip address add {ours}/24 dev {name}"));
    run(&format!("ip link set {name} up"));
    plug_in.send(()).unwrap();
    Neighbour { leave: Some(leave), thread: Some(thread) }
}

impl Drop for Neighbour {
    fn drop(&mut self) {
        self.leave = None;
        let ended = self.thread.take().map(JoinHandle::join);
        assert!(matches!(ended, Some(Ok(())) | None) || std::thread::panicking(), "it ended in a panic");
    }
}
