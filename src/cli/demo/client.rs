//! Clients of the demo: they talk to ringway, check every byte that comes back, and report what they saw.
//!
//! Each client is a thread with blocking sockets, so what it measures is what a real client sees. It sends a message,
//! waits for the same bytes, and pauses; after some messages it opens a new session.

use std::io::{self, Read, Write};
use std::net::{SocketAddr, TcpStream};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering::Relaxed};
use std::sync::mpsc::Sender;
use std::thread::{self, JoinHandle};
use std::time::Duration;

use super::latency::Latencies;
use crate::base::time::{Clock, Moment};
use crate::stats::Counter;

/// How a client behaves.
#[derive(Clone, Copy)]
pub(super) struct Habit {
    /// Bytes of one message, which comes back before the next one goes.
    pub(super) message: usize,
    /// Least time from one message to the next.
    pub(super) pace: Duration,
    /// Messages per session, on average.
    pub(super) messages: u64,
}

/// Small messages now and then, as a user of a database sends them.
pub(super) const CHATTY: Habit = Habit { message: 256, pace: Duration::from_millis(4), messages: 150 };
/// A stream of 64 KiB messages, about 10 MB/s in each direction.
pub(super) const BULKY: Habit = Habit { message: 64 << 10, pace: Duration::from_micros(6500), messages: 60 };

/// Something that happened to a client, besides what it counts.
#[derive(Clone, Copy, Debug, PartialEq)]
pub(super) enum ClientReport {
    /// A session ended early after it had had an answer.
    Cut,
    /// A session ended before its first answer: it could not be served.
    Failed,
    /// What came back was not what was sent.
    Wrong,
    /// A client whose session was cut got an answer from a new session after this time.
    Served(Duration),
}

/// What one client counts. Only this client writes it.
#[derive(Default)]
pub(super) struct Tally {
    /// Sessions that it opened.
    pub(super) sessions: Counter,
    /// Messages that came back.
    pub(super) echoes: Counter,
    /// Bytes, in both directions.
    pub(super) bytes: Counter,
    /// How long each answer took.
    pub(super) latencies: Latencies,
}

/// A client that runs.
pub(super) struct DemoClient {
    /// What it counts.
    pub(super) tally: Arc<Tally>,
    /// Its thread, until it is joined.
    thread: Option<JoinHandle<()>>,
}

impl DemoClient {
    /// Starts a client, which opens one session after another until `stop` is true.
    pub(super) fn start(
        number: u64,
        habit: Habit,
        to: SocketAddr,
        stop: Arc<AtomicBool>,
        reports: Sender<ClientReport>,
    ) -> io::Result<DemoClient> {
        let tally = Arc::new(Tally::default());
        let cells = Arc::clone(&tally);
        let body = move || {
            let mut worker = DemoWorker { habit, to, stop, reports, tally: &cells, clock: Clock::new(), cut_at: None };
            worker.run(number);
        };
        let thread = thread::Builder::new().name(format!("client {number}")).stack_size(256 << 10).spawn(body)?;
        Ok(DemoClient { tally, thread: Some(thread) })
    }

    /// Waits until the client has ended. Its tally remains.
    pub(super) fn join(&mut self) {
        if let Some(thread) = self.thread.take() {
            let _ = thread.join();
        }
    }
}

/// What the thread of a client works with.
struct DemoWorker<'a> {
    /// What it sends.
    habit: Habit,
    /// The address of ringway.
    to: SocketAddr,
    /// Becomes true when it must end.
    stop: Arc<AtomicBool>,
    /// Where it reports what happened.
    reports: Sender<ClientReport>,
    /// What it counts.
    tally: &'a Tally,
    /// For how long things take.
    clock: Clock,
    /// When its session was cut; `None` after the next answer.
    cut_at: Option<Moment>,
}

/// How a session ended.
enum RequestOutcome {
    /// All of its messages came back.
    Done,
    /// Before its first answer.
    Failed,
    /// After its first answer.
    Cut,
    /// With other bytes than were sent.
    Wrong,
}

/// An answer that takes longer counts as none.
const PATIENCE: Duration = Duration::from_secs(2);

impl DemoWorker<'_> {
    /// Opens one session after another until it is told to stop.
    fn run(&mut self, number: u64) {
        let mut buffers = (vec![0; self.habit.message], vec![0; self.habit.message]);
        for session in 0.. {
            if self.stop.load(Relaxed) {
                return;
            }
            let report = match self.session(number << 32 | session, &mut buffers) {
                RequestOutcome::Done => continue,
                RequestOutcome::Failed => ClientReport::Failed,
                RequestOutcome::Wrong => ClientReport::Wrong,
                RequestOutcome::Cut => {
                    self.cut_at = Some(self.clock.now());
                    ClientReport::Cut
                }
            };
            let _ = self.reports.send(report); // the demo may have stopped listening
            if !matches!(report, ClientReport::Cut) {
                thread::sleep(Duration::from_millis(20));
            }
        }
    }

    /// One session. `key` makes its bytes different from those of every other session.
    fn session(&mut self, key: u64, (sent, received): &mut (Vec<u8>, Vec<u8>)) -> RequestOutcome {
        let Ok(mut stream) = connect(self.to) else { return RequestOutcome::Failed };
        self.tally.sessions.add(1);
        // Sessions have different lengths, so that they do not all end together.
        let messages = self.habit.messages / 2 + key % self.habit.messages;
        for message in 0..messages {
            if self.stop.load(Relaxed) {
                break;
            }
            fill(sent, key, message);
            let start = self.clock.now();
            let answered = stream.write_all(sent).and_then(|()| stream.read_exact(received));
            match (answered, message) {
                (Err(_), 0) => return RequestOutcome::Failed,
                (Err(_), _) => return RequestOutcome::Cut,
                (Ok(()), _) if sent != received => return RequestOutcome::Wrong,
                (Ok(()), _) => self.answered(start),
            }
            let took = Duration::from_nanos(self.clock.now().since_ns(start));
            thread::sleep(self.habit.pace.saturating_sub(took));
        }
        RequestOutcome::Done
    }

    /// Counts an answer, and reports it if it is the first one after a cut.
    fn answered(&mut self, start: Moment) {
        let now = self.clock.now();
        self.tally.echoes.add(1);
        self.tally.bytes.add(2 * self.habit.message as u64);
        self.tally.latencies.record_ns(now.since_ns(start));
        if let Some(cut_at) = self.cut_at.take() {
            let _ = self.reports.send(ClientReport::Served(Duration::from_nanos(now.since_ns(cut_at))));
        }
    }
}

/// Connects with short time-outs.
fn connect(to: SocketAddr) -> io::Result<TcpStream> {
    let stream = TcpStream::connect_timeout(&to, PATIENCE)?;
    stream.set_nodelay(true)?;
    stream.set_read_timeout(Some(PATIENCE))?;
    stream.set_write_timeout(Some(PATIENCE))?;
    Ok(stream)
}

/// Fills a message with bytes that differ from those of every other message at the same place.
fn fill(buffer: &mut [u8], key: u64, message: u64) {
    let mut word = (key ^ message.rotate_left(24)).wrapping_mul(0x9e37_79b9_7f4a_7c15);
    for bytes in buffer.chunks_mut(8) {
        word = word.wrapping_add(0x9e37_79b9_7f4a_7c15).rotate_left(29);
        bytes.copy_from_slice(&word.to_le_bytes()[..bytes.len()]);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn messages_differ_between_clients_sessions_and_each_other() {
        let message = |key, number| {
            let mut buffer = [0; 20];
            fill(&mut buffer, key, number);
            buffer
        };
        let all = [message(1 << 32, 0), message(1 << 32, 1), message(1 << 32 | 1, 0), message(2 << 32, 0)];
        for (at, one) in all.iter().enumerate() {
            assert!(all[at + 1..].iter().all(|other| other != one));
        }
    }
}
