//! What checks cost.

use std::net::TcpListener;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering::Relaxed};
use std::time::Duration;

use crate::harness::Ringway;
use crate::harness::address::own_ip;

const BACKENDS: u64 = 1000;
const MEASURED: Duration = Duration::from_secs(10);

/// At the default interval of 2 s; the checks spread by themselves.
#[test]
#[ignore = "a measurement, for a machine at rest: cargo test --test it -- --ignored --nocapture a_thousand"]
fn a_thousand_backends_cost_less_than_a_tenth_of_a_core() {
    let ip = own_ip();
    let listeners: Vec<TcpListener> = (0..BACKENDS).map(|_| TcpListener::bind((ip, 0)).unwrap()).collect();
    let plan = listeners.iter().enumerate().fold(Ringway::plan().workers(1), |plan, (number, listener)| {
        listener.set_nonblocking(true).unwrap();
        plan.backend(&format!("b{number}"), &listener.local_addr().unwrap().to_string(), "")
    });
    let done = Arc::new(AtomicBool::new(false));
    let is_done = done.clone();
    let servers = std::thread::spawn(move || {
        while !is_done.load(Relaxed) {
            for listener in &listeners {
                while listener.accept().is_ok() {} // and closed immediately
            }
            std::thread::sleep(Duration::from_millis(5));
        }
    });
    let ringway = plan.checks_every("2s", "type = \"tcp\"\ntimeout = \"5s\"").start();
    let checks = || ringway.metrics().count("backend_checks_total", &[("result", "success")]);
    ringway.wait_metrics("all are checked", |metrics| {
        metrics.count("backend_checks_total", &[("result", "success")]) >= 2 * BACKENDS
    });
    let (before, cpu) = (checks(), ringway.process().cpu_time());
    std::thread::sleep(MEASURED);
    let (made, used) = (checks() - before, ringway.process().cpu_time() - cpu);
    let share = used.as_secs_f64() / MEASURED.as_secs_f64();
    println!("{made} checks in {MEASURED:?} took {:.1} % of a core", share * 100.0);
    assert!(made >= BACKENDS * 4 && share < 0.1, "{made} checks, {share}");
    done.store(true, Relaxed);
    servers.join().unwrap();
}
