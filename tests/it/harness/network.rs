//! Networks that a test has for itself, with faults of its own.

use std::process::Command;

use super::process;

/// Runs a test in a network that only its thread has, and what it starts; nothing but loopback is there. Where that is
/// not allowed the test is left out, and says so.
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
