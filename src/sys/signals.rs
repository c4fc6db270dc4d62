//! Signals that come before control has installed its handlers.

use std::mem::MaybeUninit;

/// Signals that mean something to a ringway that serves, or nothing at all, and whose default would end one that only
/// starts. TERM and INT are not among them: they end it at any time.
const HELD: [libc::c_int; 10] = [
    libc::SIGHUP,
    libc::SIGUSR1,
    libc::SIGUSR2,
    libc::SIGQUIT,
    libc::SIGALRM,
    libc::SIGVTALRM,
    libc::SIGPROF,
    libc::SIGIO,
    libc::SIGPWR,
    libc::SIGSTKFLT,
];

/// Has the kernel keep these signals back from this thread and from those that it starts, until [`release`]. To be
/// called while there is one thread.
pub fn hold() {
    change(libc::SIG_BLOCK);
}

/// Lets this thread have what was kept back, and what comes. Their handlers must be there.
pub fn release() {
    change(libc::SIG_UNBLOCK);
}

/// Changes the mask of this thread, and so of every thread that it starts (pthread_sigmask(3)).
fn change(how: libc::c_int) {
    let mut set = MaybeUninit::uninit();
    // SAFETY: the call initialises the set it is given.
    unsafe { libc::sigemptyset(set.as_mut_ptr()) };
    // SAFETY: initialised by the call before.
    let mut set = unsafe { set.assume_init() };
    for signal in HELD {
        // SAFETY: the set is initialised, and these are numbers of signals.
        unsafe { libc::sigaddset(&raw mut set, signal) };
    }
    // SAFETY: the set is initialised, and nothing is asked for in return.
    unsafe { libc::pthread_sigmask(how, &raw const set, std::ptr::null_mut()) };
}
