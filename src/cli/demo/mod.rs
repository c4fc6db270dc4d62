//! `ringway demo`: three built-in backends, live traffic, one backend stopped half way and brought back.
//!
//! Everything is real. The listener, the workers and the checks are those of `ringway run`; the backends and clients
//! are threads of this process with sockets of their own. ringway's numbers come from its statistics, the others from
//! what the clients saw.
//!
//! ```text
//! 0 ── all three up ── 1/2 ── b stopped ── 3/4 ── b back ── 1: summary
//! ```
//!
//! The demo fails if ringway did: if it could not start, no client got an answer, or a byte was changed.

mod backend;
mod client;
mod latency;
mod render;
mod screen;

use std::collections::VecDeque;
use std::net::SocketAddr;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering::Relaxed};
use std::sync::mpsc::{Receiver, channel};
use std::thread;
use std::time::Duration;

use anyhow::Context;

use super::failure::Failure;
use super::paint::{Paint, Tone};
use crate::app::Server;
use crate::base::address::Address;
use crate::base::time::{Clock, Moment};
use crate::config::{self, Config};
use crate::health::State;
use crate::snapshot::cell::Reader;
use crate::snapshot::table::{BackendEntry, Phase};
use backend::Echo;
use client::{BULKY, CHATTY, ClientReport, DemoClient};
use render::{BackendRow, ClientSample, DemoEvent, DemoStage, Sample, Summary};
use screen::Screen;

/// Names of the backends.
const BACKENDS: [&str; 3] = ["a", "b", "c"];
/// Which backend is stopped, as an index.
const STOPPED: usize = 1;
/// How many clients send small messages.
const CHATTY_CLIENTS: u64 = 24;
/// How many clients send a stream.
const BULKY_CLIENTS: u64 = 6;
/// How often the demo looks, which is the precision of the times it shows.
const TICK: Duration = Duration::from_millis(2);

/// Runs the demo for `span`.
pub(super) fn demo(span: Duration) -> Result<(), Failure> {
    let mut show = Show::start(span)?;
    show.play()?;
    show.finish()
}

/// A demo that runs.
struct Show {
    /// Its clock.
    clock: Clock,
    /// When it began.
    start: Moment,
    /// The ringway that is shown.
    server: Server,
    /// How ringway's tables are read, for the states of backends.
    tables: Reader,
    /// The backends, in the order of [`BACKENDS`].
    backends: Vec<Echo>,
    /// The clients.
    clients: Vec<DemoClient>,
    /// Tells the clients to end.
    stop_clients: Arc<AtomicBool>,
    /// What the clients report.
    reports: Receiver<ClientReport>,
    /// What is shown all the time.
    stage: DemoStage,
    /// Where it is shown.
    screen: Screen,
    /// What was shown lately, for rates.
    samples: VecDeque<Sample>,
    /// What happened so far.
    events: Vec<DemoEvent>,
    /// What was seen of the fail-over.
    seen: Seen,
}

/// What was seen of the fail-over so far. Times are counted from the start of the demo.
#[derive(Default)]
struct Seen {
    /// When the backend was stopped.
    stopped: Option<Duration>,
    /// When ringway took it out of the pool.
    out: Option<Duration>,
    /// When it was brought back.
    back: Option<Duration>,
    /// When ringway took it into the pool again.
    in_again: Option<Duration>,
    /// Sessions that clients reported as not served.
    failed: u64,
    /// Sessions that clients reported as cut.
    cut: u64,
    /// Sessions with wrong bytes.
    wrong: u64,
    /// How long each client that was cut waited for its next answer.
    waits: Vec<Duration>,
    /// Every client that was cut has had an answer.
    all_served: bool,
}

impl Show {
    /// Starts backends, ringway and clients, in this order.
    fn start(span: Duration) -> Result<Show, Failure> {
        let backends: Vec<Echo> = BACKENDS
            .into_iter()
            .map(Echo::start)
            .collect::<Result<_, _>>()
            .context("cannot start a built-in backend on 127.0.0.2; is the loopback interface up?")?;
        let server = Server::start(configuration(&backends)?)?;
        let listen = match server.listen_addresses() {
            [(_, Address::Tcp(address)), ..] => *address,
            _ => return Err(anyhow::anyhow!("ringway listens nowhere; please report this").into()),
        };
        let stop_clients = Arc::new(AtomicBool::new(false));
        let (clients, reports) = start_clients(listen, &stop_clients)?;
        let paint = Paint::of_stdout();
        let workers = server.stats().workers.len();
        let stage = DemoStage { listen: listen.to_string(), clients: clients.len(), workers, span, paint };
        let (clock, tables) = (Clock::new(), server.cell().reader());
        let mut show = Show {
            start: clock.now(),
            clock,
            server,
            tables,
            backends,
            clients,
            stop_clients,
            reports,
            stage,
            screen: Screen::new(paint),
            samples: VecDeque::new(),
            events: Vec::new(),
            seen: Seen::default(),
        };
        show.tell(Tone::Strong, format!("three backends are up, {} clients begin", show.clients.len()))?;
        Ok(show)
    }

    /// The story: stop a backend half way, bring it back after three quarters.
    fn play(&mut self) -> Result<(), Failure> {
        let (half, three_quarters) = (self.stage.span / 2, self.stage.span * 3 / 4);
        let name = BACKENDS[STOPPED];
        while self.at() < self.stage.span && !self.is_interrupted() {
            if self.seen.stopped.is_none() && self.at() >= half {
                let open = self.backends[STOPPED].open();
                self.seen.stopped = Some(self.at());
                self.backends[STOPPED].stop();
                self.tell(Tone::Bad, format!("backend {name} dies with {open} open sessions"))?;
            }
            if self.seen.back.is_none() && self.at() >= three_quarters {
                self.backends[STOPPED].bring_back().context("cannot bring the backend back to its port")?;
                self.seen.back = Some(self.at());
                self.tell(Tone::Good, format!("backend {name} is back"))?;
            }
            self.listen_to_clients()?;
            self.watch_ringway()?;
            let sample = self.sample();
            self.screen.show(&self.stage, &sample, &mut self.samples, &self.events)?;
            thread::sleep(TICK);
        }
        Ok(())
    }

    /// Whether the demo was interrupted: INT and TERM go to ringway, which then drains.
    fn is_interrupted(&self) -> bool {
        self.tables.pin().phase != Phase::Serving
    }

    /// Takes in what the clients reported, and says when all that were cut are served again.
    fn listen_to_clients(&mut self) -> Result<(), Failure> {
        for report in self.reports.try_iter() {
            match report {
                ClientReport::Cut => self.seen.cut += 1,
                ClientReport::Failed => self.seen.failed += 1,
                ClientReport::Wrong => self.seen.wrong += 1,
                ClientReport::Served(wait) => self.seen.waits.push(wait),
            }
        }
        // Wait a moment for clients that were cut and have not noticed it yet.
        let settled = self.seen.stopped.is_some_and(|at| self.at() > at + Duration::from_millis(150));
        let served = self.seen.waits.len() as u64;
        if settled && !self.seen.all_served && self.seen.cut > 0 && served == self.seen.cut {
            self.seen.all_served = true;
            let longest = self.seen.waits.iter().max().copied().unwrap_or_default().as_secs_f64() * 1e3;
            self.tell(
                Tone::Good,
                format!("its {served} clients are served by the others, after at most {longest:.1} ms"),
            )?;
        }
        Ok(())
    }

    /// Looks whether ringway has taken the stopped backend out of the pool or into it again.
    fn watch_ringway(&mut self) -> Result<(), Failure> {
        let name = BACKENDS[STOPPED];
        let up = self.state_of(name) == Some(State::Up);
        let (at, seen) = (self.at(), &mut self.seen);
        match (seen.stopped, seen.out, seen.back, seen.in_again) {
            (Some(stopped), None, _, _) if !up => {
                seen.out = Some(at);
                let ms = (at - stopped).as_millis();
                self.tell(Tone::Warn, format!("ringway takes {name} out of the pool, after {ms} ms"))
            }
            (_, Some(_), Some(back), None) if up => {
                seen.in_again = Some(at);
                let ms = (at - back).as_millis();
                self.tell(Tone::Good, format!("ringway takes {name} into the pool again, after {ms} ms"))
            }
            _ => Ok(()),
        }
    }

    /// The state of a backend in ringway's newest table.
    fn state_of(&self, name: &str) -> Option<State> {
        let table = self.tables.pin();
        table.backends.iter().flatten().find(|backend| &*backend.name == name).map(|backend| backend.state)
    }

    /// Ends the traffic and ringway, and prints the summary.
    fn finish(mut self) -> Result<(), Failure> {
        self.stop_clients.store(true, Relaxed);
        let last = self.sample();
        self.screen.close(&self.stage, &last, &self.samples, &self.events)?;
        self.clients.iter_mut().for_each(DemoClient::join);
        self.listen_to_clients()?;
        let last = self.sample();
        let Show { server, seen, stage, mut backends, tables, .. } = self;
        drop(tables);
        server.stop();
        server.wait()?;
        backends.iter_mut().for_each(Echo::stop);

        let after = |from: Option<Duration>, to: Option<Duration>| from.zip(to).map(|(from, to)| to - from);
        let summary = Summary {
            last: &last,
            stopped: BACKENDS[STOPPED],
            waits: &seen.waits,
            out_after: after(seen.stopped, seen.out),
            in_after: after(seen.back, seen.in_again),
        };
        super::print(summary.text(stage.paint).as_bytes())?;
        match (last.clients.wrong, last.clients.echoes) {
            (0, 1..) => Ok(()),
            (0, 0) => Err(anyhow::anyhow!("no client had an answer; `ringway doctor` may say why").into()),
            (wrong, _) => Err(anyhow::anyhow!("{wrong} sessions had wrong bytes; please report this").into()),
        }
    }

    /// How long the demo has been running.
    fn at(&self) -> Duration {
        Duration::from_nanos(self.clock.now().since_ns(self.start))
    }

    /// Shows something that happened.
    fn tell(&mut self, tone: Tone, text: String) -> Result<(), Failure> {
        let event = DemoEvent { at: self.at(), tone, text };
        self.screen.tell(&self.stage, &event)?;
        self.events.push(event);
        Ok(())
    }

    /// Adds up what ringway and the clients have counted.
    fn sample(&self) -> Sample {
        let table = self.tables.pin();
        let backend = |echo: &Echo| {
            let entry = table.backends.iter().flatten().find(|entry| &*entry.name == echo.name);
            entry.map_or(BackendRow { name: echo.name, ..BackendRow::default() }, |entry| {
                backend_sample(&self.server, echo, entry)
            })
        };
        let mut clients = ClientSample {
            failed: self.seen.failed,
            cut: self.seen.cut,
            wrong: self.seen.wrong,
            ..ClientSample::default()
        };
        for client in &self.clients {
            clients.sessions += client.tally.sessions.get();
            clients.echoes += client.tally.echoes.get();
            clients.bytes += client.tally.bytes.get();
            client.tally.latencies.add_to(&mut clients.latencies);
        }
        Sample { at: self.at(), backends: self.backends.iter().map(backend).collect(), clients }
    }
}

/// What ringway has counted for one backend, over all workers.
fn backend_sample(server: &Server, echo: &Echo, entry: &BackendEntry) -> BackendRow {
    let mut sample = BackendRow {
        name: echo.name,
        state: entry.state.name(),
        is_up: entry.state == State::Up,
        open: echo.open(),
        ..BackendRow::default()
    };
    for worker in &server.stats().workers {
        if let Some(cells) = worker.backends.existing(entry.id.index()) {
            sample.total += cells.connections_total.get();
            sample.bytes += cells.bytes_to_backend.get() + cells.bytes_to_client.get();
            sample.connect_errors += cells.connect_errors.iter().map(|errors| errors.get()).sum::<u64>();
        }
    }
    sample
}

/// Starts all clients.
fn start_clients(to: SocketAddr, stop: &Arc<AtomicBool>) -> Result<(Vec<DemoClient>, Receiver<ClientReport>), Failure> {
    let (sender, reports) = channel();
    let habit = |number| if number < CHATTY_CLIENTS { CHATTY } else { BULKY };
    let start = |number| DemoClient::start(number, habit(number), to, Arc::clone(stop), sender.clone());
    let clients = (0..CHATTY_CLIENTS + BULKY_CLIENTS).map(start).collect::<Result<_, _>>();
    Ok((clients.context("cannot start a client thread; raise the limit of processes (ulimit -u)")?, reports))
}

/// The configuration that `ringway run` would be given. Checks are faster than by default, because the demo lasts only
/// seconds.
fn configuration(backends: &[Echo]) -> Result<Config, Failure> {
    let mut text = String::from(
        "[listeners.demo]\nbind = \"127.0.0.1:0\"\npool = \"demo\"\n\
         [pools.demo]\nbalance = \"least_conn\"\n\
         [pools.demo.check]\ninterval = \"250ms\"\nfast_interval = \"100ms\"\ndown_interval = \"100ms\"\n\
         timeout = \"250ms\"\n",
    );
    for Echo { name, address, .. } in backends {
        text += &format!("[[pools.demo.backends]]\nname = \"{name}\"\naddress = \"{address}\"\n");
    }
    config::load(&text, "demo", &|_: &str| None).map_err(Failure::Configuration)
}
