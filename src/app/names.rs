//! A process that reads the files which say how names are looked up, for a ringway that stays root.
//!
//! Such a ringway may not read `/etc`, where root's secrets are, but only the files that it was let read when it
//! started; Landlock ties that to the files themselves, not to their names. So a `hosts` or `resolv.conf` over which
//! another file was renamed would be out of its reach for ever. This process may read all of `/etc`, takes no input but
//! the number of a file, and answers with what that file says. It ends with the ringway that started it.

use std::fs::File;
use std::io::{self, Read, Write};
use std::net::Shutdown;
use std::os::fd::OwnedFd;
use std::os::unix::net::UnixStream;
use std::os::unix::process::CommandExt;
use std::path::Path;
use std::process::{Command, Stdio};
use std::time::Duration;

use anyhow::Context;

use crate::config::model::{Backend, Config, Target};
use crate::discover::dns::{NAME_FILES, ReadFile};
use crate::kernel::driver::Driver;
use crate::sys::system;

/// The hidden subcommand that is this process.
pub const SUBCOMMAND: &str = "read-names";
/// Files under `/etc` are read in no time, or not at all.
const ANSWER_MAX: Duration = Duration::from_secs(1);
/// Longer files are cut, after some hundred thousand lines.
const BYTES_MAX: u64 = 16 << 20;

/// Starts that process. What it returns reads one of [`NAME_FILES`] through it.
pub(super) fn start() -> io::Result<ReadFile> {
    let (ours, theirs) = UnixStream::pair()?;
    ours.set_read_timeout(Some(ANSWER_MAX))?;
    ours.set_write_timeout(Some(ANSWER_MAX))?;
    let output = OwnedFd::from(theirs.try_clone()?);
    // In a group of its own, so that Ctrl-C does not end it before its ringway has drained.
    // This very program, also where another version has been installed over it.
    Command::new("/proc/self/exe")
        .arg(SUBCOMMAND)
        .env_clear()
        .stdin(Stdio::from(OwnedFd::from(theirs)))
        .stdout(Stdio::from(output))
        .stderr(Stdio::null())
        .process_group(0)
        .spawn()?;
    Ok(Box::new(move |path| {
        let number = NAME_FILES.iter().position(|known| *known == path).ok_or(io::ErrorKind::NotFound)?;
        let answer = ask(&ours, number as u8);
        if answer.as_ref().is_err_and(|error| error.raw_os_error().is_none() || is_late(error)) {
            // What still comes would be taken for the answer to the next question.
            let _ = ours.shutdown(Shutdown::Both);
        }
        answer
    }))
}

/// Whether an answer did not come in time, or will never come.
fn is_late(error: &io::Error) -> bool {
    matches!(error.kind(), io::ErrorKind::WouldBlock | io::ErrorKind::TimedOut | io::ErrorKind::BrokenPipe)
}

/// Asks for the file with this number and reads the answer: an errno (4 bytes) and a length (8 bytes), the most
/// significant byte first, then so many bytes.
fn ask(mut stream: &UnixStream, number: u8) -> io::Result<Vec<u8>> {
    stream.write_all(&[number])?;
    let mut head = [0; 12];
    stream.read_exact(&mut head)?;
    let [code, length] =
        [&head[..4], &head[4..]].map(|bytes| bytes.iter().fold(0, |sum, byte| sum << 8 | u64::from(*byte)));
    if code != 0 {
        return Err(io::Error::from_raw_os_error(code as i32));
    }
    let mut bytes = Vec::new();
    stream.take(length.min(BYTES_MAX)).read_to_end(&mut bytes)?;
    if bytes.len() as u64 == length { Ok(bytes) } else { Err(io::ErrorKind::UnexpectedEof.into()) }
}

/// Where a ringway stays root and needs names, what reads the files that say how they are looked up.
pub(super) fn reader_for(config: &Config) -> Option<ReadFile> {
    let is_off = std::env::var_os("RINGWAY_SANDBOX").is_some_and(|value| value == "off");
    let is_host = |backend: &Backend| matches!(backend.target.place(), Target::Host { .. });
    let needs_it = config.pools.iter().any(|pool| pool.backends.iter().any(is_host));
    if is_off || !needs_it || system::landlock_version() == 0 {
        return None;
    }
    // Without it files that are replaced are not followed, which the resolver says when it happens.
    start().ok()
}

/// Is that process, until ringway has closed its end of the socket.
///
/// # Errors
/// It cannot restrict itself, or ringway has ended in the middle of an answer.
pub fn serve() -> anyhow::Result<()> {
    // Sockets that systemd has bound for the ringway are not ours to keep open.
    system::close_all_but_standard();
    super::privileges::renounce();
    // Where one of them stays, less was possible before.
    for set in [caps::CapSet::Effective, caps::CapSet::Permitted, caps::CapSet::Inheritable] {
        let _ = caps::clear(None, set);
    }
    super::sandbox::restrict_to_reading(&["/etc", "/run"].map(Path::new))?;
    crate::sys::filter::install(Driver::Epoll)?;
    let mut number = [0];
    while io::stdin().read(&mut number)? == 1 {
        let path = NAME_FILES.get(usize::from(number[0])).context("there is no such file")?;
        let mut bytes = Vec::new();
        let read = File::open(path).and_then(|file| file.take(BYTES_MAX).read_to_end(&mut bytes));
        let code = read.err().map_or(0, |error| error.raw_os_error().unwrap_or(1) as u32);
        let mut out = io::stdout().lock();
        out.write_all(&code.to_be_bytes())?;
        out.write_all(&(bytes.len() as u64).to_be_bytes())?;
        out.write_all(&bytes)?;
        out.flush()?;
    }
    Ok(())
}
