//! Checks of a real HTTP application, and of servers that answer a question.

use std::process::Command;
use std::sync::Arc;
use std::sync::atomic::AtomicBool;
use std::sync::atomic::Ordering::Relaxed;

use crate::harness::address::own_ip;
use crate::harness::process::{self, Process};
use crate::harness::redis::{Redis, programs};
use crate::harness::{Backend, PATIENCE, Ringway, wait_until};

/// A gunicorn whose health page is 503 while there is a file `sick`.
struct Application {
    folder: tempfile::TempDir,
    address: String,
    process: Process,
}

impl Application {
    /// `None` if tests that need programs are not wanted.
    fn start(is_unix: bool) -> Option<Application> {
        let program = process::program(&["/usr/bin/gunicorn", "/usr/local/bin/gunicorn"], "gunicorn")?;
        let folder = tempfile::tempdir().unwrap();
        let code = "import os\n\
            def app(environ, start):\n    \
                sick = os.path.exists('sick') or environ['PATH_INFO'] != '/health'\n    \
                start('503 Service Unavailable' if sick else '200 OK', [('Content-Length', '3')])\n    \
                return [b'abc']\n";
        std::fs::write(folder.path().join("health.py"), code).unwrap();
        let address = match is_unix {
            true => format!("unix:{}", folder.path().join("socket").display()),
            false => format!("{}:8000", own_ip()),
        };
        let mut command = Command::new(program);
        command.args(["--workers", "1", "--bind", &address, "--access-logfile", "-", "health:app"]);
        let process = Process::start(command.current_dir(folder.path()).env("PYTHONDONTWRITEBYTECODE", "1"));
        let application = Application { folder, address, process };
        wait_until("gunicorn listens", || application.process.output().contains("Booting worker"));
        Some(application)
    }

    fn set_sick(&self, is_sick: bool) {
        let file = self.folder.path().join("sick");
        if is_sick { std::fs::write(file, "").unwrap() } else { std::fs::remove_file(file).unwrap() }
    }
}

impl Drop for Application {
    /// Killed, it would leave its worker behind.
    fn drop(&mut self) {
        if self.process.is_running() {
            self.process.signal(libc::SIGTERM);
            self.process.wait(PATIENCE);
        }
    }
}

#[test]
fn an_application_that_says_it_is_sick_gets_no_clients() {
    let Some(tcp) = Application::start(false) else { return };
    let Some(unix) = Application::start(true) else { return };
    let ringway = Ringway::before([&*tcp.address, &*unix.address])
        .checks("type = \"http\"\nstatus = [\"200-299\"]\ninitial = \"down\"\ntimeout = \"5s\"\nrise = 2\nfall = 2")
        .start();
    for (application, name) in [(&tcp, "a"), (&unix, "b")] {
        ringway.wait_up("main", name, true);
        application.set_sick(true);
        ringway.wait_up("main", name, false);
        application.set_sick(false);
        ringway.wait_up("main", name, true);
    }
    ringway.wait_said("GET /health was answered 503 Service Unavailable; `status` takes 200-299");
    let log = tcp.process.settled_output();
    assert!(log.contains("GET /health HTTP/1.1") && log.contains("ringway/"), "{log}");
    assert!(!log.to_lowercase().contains("error"), "{log}");
}

/// A deploy: the application says that it is about to stop, finishes what it has, and stops.
#[test]
fn an_application_that_is_about_to_stop_finishes_what_it_has() {
    let is_leaving = Arc::new(AtomicBool::new(false));
    let told = is_leaving.clone();
    let leaving = Backend::new(move |mut peer, _| {
        while peer.read_some(4096).is_ok_and(|bytes| !bytes.is_empty()) {
            let status = if told.load(Relaxed) { "503 Leaving" } else { "200 OK" };
            let answer = format!("HTTP/1.1 {status}\r\nContent-Length: 0\r\n\r\n");
            if peer.write_all(answer.as_bytes()).is_err() {
                return;
            }
        }
    });
    let other = Backend::echo();
    let checks = "path = \"/health\"\ndrain_status = [503]\ninitial = \"down\"\ntimeout = \"5s\"\nrise = 1";
    let plan = Ringway::before([leaving.address()]).backend("b", other.address(), "backup = true");
    let ringway = plan.checks(checks).start();
    ringway.wait_up("main", "a", true);
    let mut session = ringway.connect();
    session.send(b"GET / HTTP/1.1\r\n\r\n");
    assert!(session.read_some(4096).unwrap().starts_with(b"HTTP/1.1 200"));
    is_leaving.store(true, Relaxed);
    ringway.wait_metrics("it drains", |metrics| {
        metrics.count("backend_state", &[("backend", "a"), ("state", "draining")]) == 1
    });
    ringway.wait_said("its check says that it is about to stop");
    ringway.wait_checks("a", 5);
    session.send(b"GET / HTTP/1.1\r\n\r\n");
    assert!(session.read_some(4096).unwrap().starts_with(b"HTTP/1.1 503"), "the session goes on");
    is_leaving.store(false, Relaxed);
    ringway.wait_up("main", "a", true);
    let down = ringway.metrics().count("backend_transitions_total", &[("backend", "a"), ("to", "down")]);
    assert_eq!(down, 0);
}

#[test]
fn a_question_and_the_answer_it_must_get() {
    let Some([server, _, _]) = programs() else { return };
    let redis = Redis::start(&server);
    let other = format!(
        "[pools.other]\n[pools.other.check]\ntype = \"send_expect\"\nsend = 'PING\\r\\n'\nexpect = '^\\+PANG'\n\
         interval = \"50ms\"\n[[pools.other.backends]]\nname = \"x\"\naddress = \"{}\"",
        redis.address()
    );
    let steps = format!(
        "[pools.steps]\ncheck.initial = \"down\"\ncheck.timeout = \"5s\"\n\
         check.steps = [{{ send = 'PING\\r\\n', expect = '^\\+PONG' }}, \
         {{ send = 'ECHO x\\r\\n', expect = '^\\$1\\r\\nx' }}]\n\
         [[pools.steps.backends]]\nname = \"y\"\naddress = \"{}\"",
        redis.address()
    );
    let ringway = Ringway::before([&*redis.address()])
        .checks("type = \"send_expect\"\nsend = 'PING\\r\\n'\nexpect = '^\\+PONG\\r\\n$'\ninitial = \"down\"")
        .check("timeout = \"5s\"")
        .more(&other)
        .more(&steps)
        .start();
    ringway.wait_up("main", "a", true);
    ringway.wait_up("steps", "y", true);
    ringway.wait_up("other", "x", false);
    ringway.wait_said("it had sent +PONG");
}

/// As Patroni answers: for each server of a host at a port of its own.
#[test]
fn each_backend_is_checked_where_it_says_and_serves_where_it_is() {
    let (a, b) = (Backend::named("a"), Backend::named("b"));
    let (of_a, of_b) = (Backend::named("fit"), Backend::named("sick"));
    let at = |agent: &Backend| format!("check_address = \"{}\"", agent.address());
    let plan = Ringway::plan().backend("a", a.address(), &at(&of_a)).backend("b", b.address(), &at(&of_b));
    let ringway = plan.checks("expect = \"^fit\"\ninitial = \"down\"").start();
    ringway.wait_up("main", "a", true);
    wait_until("b was asked", || of_b.accepted() > 0);
    for _ in 0..10 {
        ringway.connect().expect(b"a");
    }
    assert_eq!(b.accepted(), 0);
    // The address of a check changes by a reload: now its agent is the one that is well.
    ringway.change(&at(&of_b), &at(&of_a));
    ringway.wait_up("main", "b", true);
}
