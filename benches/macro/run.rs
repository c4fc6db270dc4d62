//! One run: a fresh proxy on addresses of its own, warm-up, window, end, verdict.

use std::net::{Ipv4Addr, SocketAddr, TcpListener};
use std::path::Path;

use anyhow::{Context, Result};

use crate::check;
use crate::cost::Meter;
use crate::load::{Fault, Pair, drive, idle};
use crate::record::Record;
use crate::ring::Ring;
use crate::subject::Subject;
use crate::sys;
use crate::tls::{self, Certificate};
use crate::workload::{self, Measure, Workload};

/// How a run is made.
#[derive(Clone, Debug)]
pub struct Plan {
    /// What is asked of the proxy.
    pub workload: Workload,
    /// The proxy.
    pub subject: Subject,
    /// Chooses the addresses in 127/8.
    pub number: u16,
    /// Before the window, in seconds.
    pub warm_up: f64,
    /// The window, in seconds.
    pub seconds: f64,
    /// Sessions of the memory workload.
    pub idle_sessions: usize,
    /// Sessions that do nothing beside others.
    pub beside_sessions: usize,
    /// Where the proxy runs.
    pub proxy_cpu: usize,
    /// Where this program runs.
    pub load_cpu: usize,
    /// Congestion control of the namespace.
    pub congestion_control: String,
    /// A machine without the right to a namespace is enough for the smoke run, whose figures are not used.
    pub anywhere: bool,
    /// Priority of both, so that whatever else runs on the machine disturbs less.
    pub nice: i32,
}

/// Seconds until everything that can move has moved, where rest is measured.
const SETTLE: f64 = 3.0;
/// Sessions that are open before memory is first read: what a proxy takes once is no cost of a session.
const IDLE_WARM_UP: usize = 200;

/// A started proxy, from outside.
struct Site {
    meter: Meter,
    proxy: SocketAddr,
    backend: TcpListener,
    /// With which TLS ends at the proxy, where it does.
    certificate: Option<Certificate>,
}

/// Makes the run; whatever goes wrong stands in the record.
pub fn run(plan: &Plan) -> Record {
    let failed = |fault: &str| Record::failed(plan.workload.name, &plan.subject.name, fault);
    sys::pin_to_cpu(plan.load_cpu);
    sys::set_nice(plan.nice);
    sys::raise_descriptor_limit();
    if let Err(error) = sys::enter_own_network(&plan.congestion_control)
        && !plan.anywhere
    {
        return failed(&format!("no network namespace of its own (root? is the congestion control allowed?): {error}"));
    }
    let folder = std::env::temp_dir().join(format!("ringway-bench-{}", std::process::id()));
    let made = std::fs::create_dir_all(&folder).context("folder for the proxy's files").and_then(|()| {
        measure(plan, &folder).map(|result| result.unwrap_or_else(|fault| failed(&with_log(&fault, &folder))))
    });
    let _ = std::fs::remove_dir_all(&folder);
    made.unwrap_or_else(|error| failed(&format!("{error:#}")))
}

fn with_log(fault: &str, folder: &Path) -> String {
    let log = std::fs::read_to_string(folder.join("log")).unwrap_or_default();
    let last = log.lines().last().unwrap_or_default();
    if last.is_empty() { fault.into() } else { format!("{fault} [{last}]") }
}

fn measure(plan: &Plan, folder: &Path) -> Result<std::result::Result<Record, Fault>> {
    let [high, low] = plan.number.to_be_bytes();
    let proxy = SocketAddr::from((Ipv4Addr::new(127, 1, high, low), 7000));
    let backend = TcpListener::bind((Ipv4Addr::new(127, 2, high, low), 9000)).context("listen as the backend")?;
    let certificate = plan.workload.has_tls.then(|| Certificate::make(folder)).transpose()?;
    let listens = backend.local_addr()?;
    let mut running = plan.subject.start(folder, proxy, listens, plan.proxy_cpu, certificate.as_ref())?;
    let meter = Meter::new(running.pid(), plan.proxy_cpu, plan.load_cpu);
    let site = Site { meter, proxy, backend, certificate };
    let checked = check::carries_bytes(&mut running, proxy, &site.backend, site.certificate.as_ref());
    Ok(checked.and_then(|()| match plan.workload.measure {
        Measure::Memory => measure_memory(plan, &site),
        _ => measure_work(plan, &site),
    }))
}

fn measure_work(plan: &Plan, site: &Site) -> Result<Record, Fault> {
    let Site { meter, proxy, backend, certificate } = site;
    let mut ring = Ring::new().map_err(|error| format!("the generator's ring: {error}"))?;
    let mut load = match certificate {
        Some(certificate) => workload::open_tls(plan.workload.name, &mut ring, *proxy, backend, certificate)?,
        None => plan.workload.open(&mut ring, *proxy, backend, plan.beside_sessions)?,
    };
    let span_ns = |seconds: f64| (seconds * 1e9) as u64;
    load.start(&mut ring, sys::now_ns());
    // What was sent to those that stall is on its way for a while.
    let settle = if plan.workload.measure == Measure::Share { SETTLE } else { 0.0 };
    drive(&mut ring, &mut *load, Some(sys::now_ns() + span_ns(plan.warm_up.max(settle))))?;
    load.take_latencies();
    let (before, work_before) = (meter.read(), load.work());
    drive(&mut ring, &mut *load, Some(before.at_ns + span_ns(plan.seconds)))?;
    let (after, work) = (meter.read(), load.work() - work_before);
    let latencies = load.take_latencies();
    load.stop(&mut ring);
    drive(&mut ring, &mut *load, None)?;
    load.verdict()?;
    let mut record = Record::failed(plan.workload.name, &plan.subject.name, "");
    record.set_costs(&before, &after);
    record.set_latencies(latencies);
    let cpu_ns = (after.proxy_ns - before.proxy_ns) + (after.softirq_ns - before.softirq_ns);
    record.rate = work as f64 / ((after.at_ns - before.at_ns) as f64 / 1e9);
    record.figure = match plan.workload.measure {
        Measure::Latency => record.p99_us,
        Measure::Share => cpu_ns as f64 / (after.at_ns - before.at_ns) as f64 * 100.0,
        _ => work as f64 / (cpu_ns.max(1) as f64 / 1e9),
    };
    Ok(record)
}

fn measure_memory(plan: &Plan, site: &Site) -> Result<Record, Fault> {
    let Site { meter, proxy, backend, certificate } = site;
    let open = |count| -> Result<Vec<Pair>, Fault> {
        let Some(certificate) = certificate else { return idle::open_used(*proxy, backend, count) };
        let sessions = tls::open_sessions(*proxy, backend, &certificate.client()?, count)?;
        Ok(sessions.into_iter().map(|session| session.pair).collect())
    };
    let warm_up = open(IDLE_WARM_UP)?;
    let before = (meter.read(), meter.memory_bytes());
    let pairs = open(plan.idle_sessions)?;
    let after = (meter.read(), meter.memory_bytes());
    let mut record = Record::failed(plan.workload.name, &plan.subject.name, "");
    record.set_costs(&before.0, &after.0);
    record.figure = after.1.saturating_sub(before.1) as f64 / pairs.len() as f64;
    record.rate = pairs.len() as f64 / ((after.0.at_ns - before.0.at_ns) as f64 / 1e9);
    drop(warm_up);
    Ok(record)
}
