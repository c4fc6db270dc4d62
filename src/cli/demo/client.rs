//! Clients that talk to ringway, check every byte that comes back, and tell what they saw.

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

/// What kind of client, by what it sends.
#[derive(Clone, Copy)]
pub(super) struct Habit {
    /// Bytes of one message, which comes back before the next one goes.
    pub(super) message: usize,
    /// Least time from one message to the next.
    pub(super) pace: Duration,
    /// Messages of one session.
    pub(super) messages: u64,
}

/// A small question now and then, like a user of a database.
pub(super) const CHATTY: Habit = Habit { message: 256, pace: Duration::from_millis(4), messages: 150 };
/// A stream of 64 KiB messages, about 10 MB/s each way.
pub(super) const BULKY: Habit = Habit { message: 64 << 10, pace: Duration::from_micros(6500), messages: 60 };

/// What happened to a client, beside what it counts.
#[derive(Clone, Copy, Debug, PartialEq)]
pub(super) enum ClientReport {
    /// A session that had an answer before ended early.
    Cut,
    /// A session ended before its first answer: it could not be served.
    Failed,
    /// What came back was not what was sent.
    Wrong,
    /// A client that was cut had an answer from a new session so long afterwards.
    Served(Duration),
}

/// What one client counts. It alone writes.
#[derive(Default)]
pub(super) struct Tally {
    pub(super) sessions: Counter,
    pub(super) echoes: Counter,
    pub(super) bytes: Counter,
    pub(super) latencies: Latencies,
}

/// A running client.
pub(super) struct DemoClient {
    pub(super) tally: Arc<Tally>,
    thread: Option<JoinHandle<()>>,
}

impl DemoClient {
    /// Starts one that opens session after session until `stop`.
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

    /// Waits until it has seen `stop`; its tally stays.
    pub(super) fn join(&mut self) {
        if let Some(thread) = self.thread.take() {
            let _ = thread.join();
        }
    }
}

struct DemoWorker<'a> {
    habit: Habit,
    to: SocketAddr,
    stop: Arc<AtomicBool>,
    reports: Sender<ClientReport>,
    tally: &'a Tally,
    clock: Clock,
    /// When a session was cut, until the next answer.
    cut_at: Option<Moment>,
}

/// How a session went.
enum RequestOutcome {
    Done,
    Failed,
    Cut,
    Wrong,
}

/// An answer that takes longer counts as none.
const PATIENCE: Duration = Duration::from_secs(2);

impl DemoWorker<'_> {
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
            let _ = self.reports.send(report); // who does not listen any more has all it wants
            if !matches!(report, ClientReport::Cut) {
                thread::sleep(Duration::from_millis(20));
            }
        }
    }

    fn session(&mut self, key: u64, (sent, received): &mut (Vec<u8>, Vec<u8>)) -> RequestOutcome {
        let Ok(mut stream) = connect(self.to) else { return RequestOutcome::Failed };
        self.tally.sessions.add(1);
        // Sessions differ in length, so that they do not all end at once.
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

fn connect(to: SocketAddr) -> io::Result<TcpStream> {
    let stream = TcpStream::connect_timeout(&to, PATIENCE)?;
    stream.set_nodelay(true)?;
    stream.set_read_timeout(Some(PATIENCE))?;
    stream.set_write_timeout(Some(PATIENCE))?;
    Ok(stream)
}

/// Fills a message with bytes that no other message of any session has at that place.
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
