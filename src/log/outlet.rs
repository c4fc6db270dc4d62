//! A thread that writes lines to a stream or file, so that no other thread waits for a pipe that nothing reads.
//!
//! Lines go to it through a bounded queue. ringway's own log drops lines when the queue is full; the access log waits
//! for room (on control's runtime, without blocking it).

use std::fs::File;
use std::io::{self, Write};
use std::path::PathBuf;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::time::Duration;

use tokio::sync::mpsc;
use tracing::{error, info, warn};

use super::file;
use super::syslog::Syslog;

/// How many messages can wait.
const QUEUE_MAX: usize = 4096;

/// Where the thread writes.
#[derive(Debug)]
pub enum OutletTarget {
    /// Standard error.
    Stderr,
    /// Standard output.
    Stdout,
    /// A file that was opened by [`file::open`].
    File(PathBuf, File),
    /// A syslog server.
    Syslog(Box<Syslog>),
}

/// The way to a thread that writes. Clones lead to the same thread, which writes whole messages one after another.
#[derive(Clone, Debug)]
pub struct Outlet {
    /// The queue of the thread.
    to: mpsc::Sender<Message>,
    /// The file must be opened again before the next line.
    reopen: Arc<AtomicBool>,
    /// Lines that were lost on this way, because the queue was full or the write failed.
    lost: Lost,
}

/// How many lines were lost and not reported yet.
type Lost = Arc<AtomicU64>;

/// What the thread is told.
#[derive(Debug)]
enum Message {
    /// Write these lines; if that fails, count them there.
    Lines(Vec<u8>, Lost),
    /// Look whether the file must be opened again.
    Look,
    /// Say that everything before this message is written.
    Flush(std::sync::mpsc::Sender<()>),
}

impl Outlet {
    /// Starts the thread. It ends when the last clone is dropped.
    ///
    /// # Errors
    /// The thread cannot be made.
    ///
    /// # Errors
    /// No thread could be had.
    pub fn start(target: OutletTarget) -> io::Result<Outlet> {
        let (to, messages) = mpsc::channel(QUEUE_MAX);
        let (reopen, lost) = (Arc::new(AtomicBool::new(false)), Lost::default());
        let outlet = Outlet { to, reopen: reopen.clone(), lost: lost.clone() };
        let mut writer = Writer { target, reopen, lost };
        let thread = std::thread::Builder::new().name("ringway-log".to_owned());
        thread.spawn(move || writer.write_for_ever(messages))?;
        Ok(outlet)
    }

    /// Another way to the same thread, which counts its own losses.
    pub fn beside(&self) -> Outlet {
        Outlet { lost: Lost::default(), ..self.clone() }
    }

    /// Gives whole lines to the thread. They are lost if too many wait already. It can be called on any thread and
    /// never waits.
    pub fn write_or_drop(&self, lines: &[u8]) {
        if self.to.try_send(Message::Lines(lines.to_vec(), self.lost.clone())).is_err() {
            self.lost.fetch_add(count(lines), Ordering::Relaxed);
        }
    }

    /// Gives lines to the thread, and waits until there is room for them.
    pub(super) async fn write(&self, lines: Vec<u8>) {
        let lines_lost = count(&lines);
        if self.to.send(Message::Lines(lines, self.lost.clone())).await.is_err() {
            self.lost.fetch_add(lines_lost, Ordering::Relaxed);
        }
    }

    /// How many lines were lost since the last call.
    pub(super) fn take_lost(&self) -> u64 {
        self.lost.swap(0, Ordering::Relaxed)
    }

    /// Opens a file again before the next line. Nothing happens to a stream.
    pub fn reopen(&self) {
        self.reopen.store(true, Ordering::Release);
        // If the queue is full, the thread will look without this message.
        let _ = self.to.try_send(Message::Look);
    }

    /// Waits until everything so far is written, but at most for `limit`.
    pub fn flush(&self, limit: Duration) {
        let (done, is_done) = std::sync::mpsc::channel();
        if self.to.try_send(Message::Flush(done)).is_ok() {
            let _ = is_done.recv_timeout(limit);
        }
    }
}

/// What the thread works with.
struct Writer {
    /// Where it writes.
    target: OutletTarget,
    /// The file must be opened again before the next line.
    reopen: Arc<AtomicBool>,
    /// What the first outlet has lost. It is reported here, because nothing else would report it.
    lost: Lost,
}

impl Writer {
    /// The loop of the thread.
    fn write_for_ever(&mut self, mut messages: mpsc::Receiver<Message>) {
        while let Some(message) = messages.blocking_recv() {
            if self.reopen.swap(false, Ordering::Acquire) {
                self.reopen();
            }
            match message {
                Message::Lines(lines, lost) => match self.write(&lines) {
                    0 => self.tell_losses(),
                    more => drop(lost.fetch_add(more, Ordering::Relaxed)),
                },
                Message::Look => {}
                Message::Flush(done) => drop(done.send(())),
            }
        }
    }

    /// Writes lines to the target; how many of them are lost.
    fn write(&mut self, lines: &[u8]) -> u64 {
        let written = match &mut self.target {
            OutletTarget::Stderr => io::stderr().write_all(lines),
            OutletTarget::Stdout => {
                let mut stdout = io::stdout().lock();
                stdout.write_all(lines).and_then(|()| stdout.flush())
            }
            OutletTarget::File(_, file) => file.write_all(lines),
            // Each line is a message of its own, and goes or is lost by itself.
            OutletTarget::Syslog(server) => return server.send(lines),
        };
        if written.is_ok() { 0 } else { count(lines) }
    }

    /// Reports lines that were lost before.
    fn tell_losses(&self) {
        let lost = self.lost.swap(0, Ordering::Relaxed);
        if lost > 0 {
            warn!(lost, "lines of this log were lost: its disk or its reader was too slow, or full");
        }
    }

    /// Opens the file again. A failure is logged, and the old file stays in use.
    fn reopen(&mut self) {
        let OutletTarget::File(path, file) = &mut self.target else { return };
        let shown = path.display();
        match file::open(path) {
            Ok(new) => {
                *file = new;
                info!(path = %shown, "log reopened");
            }
            Err(error) => error!(path = %shown, %error, "cannot reopen the log; lines still go to the old file"),
        }
    }
}

/// How many lines a text has.
fn count(lines: &[u8]) -> u64 {
    lines.iter().filter(|&&byte| byte == b'\n').count() as u64
}

#[cfg(test)]
mod tests {
    use super::*;

    fn pipe() -> (io::PipeReader, Outlet) {
        let (reader, writer) = io::pipe().unwrap();
        let file = File::from(std::os::fd::OwnedFd::from(writer));
        (reader, Outlet::start(OutletTarget::File("/nowhere/log".into(), file)).unwrap())
    }

    #[test]
    fn a_pipe_that_nobody_reads_costs_lines_and_no_time() {
        use std::io::Read;
        let (mut reader, outlet) = pipe();
        let other = outlet.beside();
        let line = [[b'x'; 1023].as_slice(), b"\n"].concat();
        // Until the pipe and the queue are full, and stay so; each of these lines would wait for ever.
        let (mut total, mut lost, mut in_a_row) = (0, 0, 0);
        while in_a_row < 50 {
            outlet.write_or_drop(&line);
            total += 1;
            let news = outlet.take_lost();
            lost += news;
            in_a_row = if news > 0 { in_a_row + 1 } else { 0 };
            std::thread::sleep(Duration::from_millis(in_a_row));
        }
        assert!(total - lost >= QUEUE_MAX as u64);
        other.write_or_drop(b"y\n");
        assert_eq!((other.take_lost(), outlet.take_lost()), (1, 0), "each counts what it has lost itself");
        outlet.flush(Duration::from_millis(1));
        drop((outlet, other));
        let mut text = Vec::new();
        reader.read_to_end(&mut text).unwrap();
        assert_eq!(count(&text), total - lost, "all others come, whole");
        assert!(text.chunks(1024).all(|chunk| chunk == line));
    }

    #[test]
    fn a_file_that_cannot_be_opened_anew_goes_on() {
        use std::io::Read;
        let (mut reader, outlet) = pipe();
        outlet.write_or_drop(b"before\n");
        outlet.reopen();
        outlet.write_or_drop(b"after\n");
        outlet.flush(Duration::from_secs(20));
        drop(outlet);
        let mut text = String::new();
        reader.read_to_string(&mut text).unwrap();
        assert_eq!(text, "before\nafter\n");
    }
}
