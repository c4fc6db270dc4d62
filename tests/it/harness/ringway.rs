//! The built program, serving.

use std::fmt::Write;
use std::os::unix::process::CommandExt;
use std::path::{Path, PathBuf};
use std::process::{Command, ExitStatus};
use std::sync::Arc;
use std::time::Duration;

use super::address::own_ip;
use super::process::{Process, forbid_io_uring};
use super::{Api, End, Metrics, PATIENCE, Peer, metrics, wait_for, wait_until};
use crate::program::program;

/// The configuration of a [`Ringway`] to be: a listener `main` and a pool `main`, whose backends are called `a`, `b`...
/// Health checks are off unless asked for.
#[derive(Clone)]
pub struct Plan {
    ip: String,
    workers: usize,
    process: String,
    admin: String,
    bind: Option<String>,
    lead: String,
    listener: String,
    pool: String,
    check: String,
    backends: String,
    more: String,
    environment: Vec<(String, String)>,
    descriptors: Option<u64>,
    forbids_io_uring: Option<i32>,
    logs_to_file: bool,
    log_file: Option<String>,
}

/// A running ringway. When it is dropped it must still run, must not have panicked, and must not have made the kernel
/// start threads for it.
pub struct Ringway {
    process: Process,
    address: String,
    admin: String,
    folder: Arc<tempfile::TempDir>,
    file: PathBuf,
    socket: PathBuf,
    ended: bool,
    /// Writing to a file may take one of the kernel's threads; nothing else may.
    kernel_threads: bool,
}

impl Plan {
    fn new() -> Plan {
        Plan {
            ip: own_ip().to_string(),
            workers: 2,
            process: String::new(),
            admin: String::new(),
            bind: None,
            lead: "pool = \"main\"".to_string(),
            listener: String::new(),
            pool: String::new(),
            check: "type = \"off\"\n".to_string(),
            backends: String::new(),
            more: String::new(),
            environment: Vec::new(),
            descriptors: None,
            forbids_io_uring: None,
            logs_to_file: false,
            log_file: None,
        }
    }

    pub fn workers(mut self, workers: usize) -> Plan {
        self.workers = workers;
        self
    }

    /// A line for `[process]`.
    pub fn process(self, line: &str) -> Plan {
        Plan { process: self.process + line + "\n", ..self }
    }

    /// A line for `[admin]`.
    pub fn admin(self, line: &str) -> Plan {
        Plan { admin: self.admin + line + "\n", ..self }
    }

    /// Where `main` listens, instead of an address of its own.
    pub fn bind(self, bind: &str) -> Plan {
        Plan { bind: Some(bind.to_string()), ..self }
    }

    /// Which pools its clients get, instead of `main`.
    pub fn lead(self, line: &str) -> Plan {
        Plan { lead: line.to_string(), ..self }
    }

    /// A line for `[listeners.main]`.
    pub fn listener(self, line: &str) -> Plan {
        Plan { listener: self.listener + line + "\n", ..self }
    }

    /// A line for `[pools.main]`.
    pub fn pool(self, line: &str) -> Plan {
        Plan { pool: self.pool + line + "\n", ..self }
    }

    /// TCP checks in place of none, every 50 ms.
    pub fn checked(self, rise: u32, fall: u32) -> Plan {
        self.checked_every("50ms").check(&format!("rise = {rise}\nfall = {fall}"))
    }

    /// TCP checks in place of none, at this interval whatever the state.
    pub fn checked_every(self, interval: &str) -> Plan {
        let each = ["interval", "fast_interval", "down_interval"].map(|key| format!("{key} = \"{interval}\"\n"));
        let check = format!("type = \"tcp\"\n{}", each.concat());
        Plan { check, ..self }
    }

    /// Checks of that kind in place of none, every 50 ms.
    pub fn checked_as(self, kind: &str) -> Plan {
        let plan = self.checked_every("50ms");
        Plan { check: plan.check.replace("\"tcp\"", &format!("{kind:?}")), ..plan }
    }

    /// These lines for `[pools.main.check]`, at the default intervals.
    pub fn check_only(self, lines: &str) -> Plan {
        Plan { check: format!("{lines}\n"), ..self }
    }

    /// These lines for `[pools.main.check]`, every 50 ms.
    pub fn checks(self, lines: &str) -> Plan {
        self.checks_every("50ms", lines)
    }

    pub fn checks_every(self, pace: &str, lines: &str) -> Plan {
        let pace = format!("interval = \"{pace}\"\nfast_interval = \"{pace}\"\ndown_interval = \"{pace}\"\n");
        Plan { check: format!("{pace}{lines}\n"), ..self }
    }

    /// A line for `[pools.main.check]`.
    pub fn check(self, line: &str) -> Plan {
        Plan { check: self.check + line + "\n", ..self }
    }

    /// Another backend, with further keys.
    pub fn backend(mut self, name: &str, address: &str, more: &str) -> Plan {
        let _ = write!(self.backends, "[[pools.main.backends]]\nname = \"{name}\"\naddress = \"{address}\"\n{more}\n");
        self
    }

    /// Failed connects take no backend out.
    pub fn never_ejecting(self) -> Plan {
        self.more("[pools.main.ejection]\nfailures = 0")
    }

    /// Further tables.
    pub fn more(self, toml: &str) -> Plan {
        Plan { more: self.more + toml + "\n", ..self }
    }

    /// An access log.
    pub fn access_log(self, output: &str, format: &str) -> Plan {
        let plan = Plan { logs_to_file: self.logs_to_file || output.starts_with('/'), ..self };
        plan.more(&format!("[access_log]\noutput = {output:?}\nformat = {format:?}"))
    }

    /// The operational log goes there.
    pub fn log_file(self, path: &str) -> Plan {
        let plan = Plan { log_file: Some(path.to_string()), ..self };
        plan.more(&format!("[log]\noutput = {path:?}"))
    }

    /// A variable of its environment.
    pub fn environment(mut self, name: &str, value: &str) -> Plan {
        self.environment.push((name.to_string(), value.to_string()));
        self
    }

    /// It may not use io_uring and is told that errno, as container runtimes do it.
    pub fn without_io_uring(self, errno: i32) -> Plan {
        Plan { forbids_io_uring: Some(errno), ..self }
    }

    /// The descriptors it may have, from its start.
    pub fn descriptors(self, limit: u64) -> Plan {
        Plan { descriptors: Some(limit), ..self }
    }

    pub fn to_toml(&self) -> String {
        let Plan { ip, workers, process, admin, lead, listener, pool, check, backends, more, .. } = self;
        let bind = self.bind.clone().unwrap_or_else(|| format!("\"{}\"", self.address()));
        format!(
            "[process]\nworkers = {workers}\npin_workers = false\n{process}\n[admin]\nlisten = \"{ip}:7001\"\n{admin}\n\
             [listeners.main]\nbind = {bind}\n{lead}\n{listener}\n[pools.main]\n{pool}\n\
             [pools.main.check]\n{check}\n{backends}\n{more}"
        )
    }

    pub fn address(&self) -> String {
        format!("{}:7000", self.ip)
    }

    pub fn admin_address(&self) -> String {
        format!("{}:7001", self.ip)
    }

    pub fn command(&self, file: &std::path::Path) -> Command {
        std::fs::write(file, self.to_toml()).unwrap();
        let mut command = Ringway::command();
        command.args(["run", "-c"]).arg(file).envs(self.environment.iter().cloned());
        if let Some(limit) = self.descriptors {
            limit_descriptors(&mut command, limit);
        }
        if let Some(errno) = self.forbids_io_uring {
            forbid_io_uring(&mut command, errno);
        }
        command
    }

    /// Starts it and returns when it says that it is ready.
    #[track_caller]
    pub fn start(self) -> Ringway {
        self.start_until(is_ready)
    }

    /// Starts it, with a log that does not say when it is ready.
    #[track_caller]
    pub fn start_unsaid(self) -> Ringway {
        let admin = self.admin_address();
        self.start_until(move |_| {
            std::net::TcpStream::connect(&admin).is_ok() && metrics::get(&admin, "/ready").0 == 200
        })
    }

    #[track_caller]
    fn start_until(self, is_ready: impl Fn(&str) -> bool) -> Ringway {
        let folder = Arc::new(tempfile::tempdir().unwrap());
        let socket = folder.path().join("admin.sock");
        let plan = self.admin(&format!("socket = {socket:?}"));
        let file = folder.path().join("ringway.toml");
        let command = &mut plan.command(&file);
        let mut process = Process::start(command);
        let log = || match &plan.log_file {
            Some(path) => std::fs::read_to_string(path).unwrap_or_default(),
            None => String::new(),
        };
        let ready = wait_for(PATIENCE, || is_ready(&(process.output() + &log())) || !process.is_running());
        let is_ready = ready.is_some() && process.is_running();
        assert!(is_ready, "ringway is not ready: {}\n{}", process.output(), plan.to_toml());
        let (address, admin) = (plan.address(), format!("{}:7001", plan.ip));
        let kernel_threads = plan.logs_to_file;
        Ringway { process, address, admin, socket, folder, file, ended: false, kernel_threads }
    }
}

impl Ringway {
    /// The program, without arguments.
    pub fn command() -> Command {
        Command::new(program())
    }

    /// A plan without backends.
    pub fn plan() -> Plan {
        Plan::new()
    }

    /// A plan with these backends, called `a`, `b`...
    pub fn before<'a>(backends: impl IntoIterator<Item = &'a str>) -> Plan {
        let names = 'a'..='z';
        let add = |plan: Plan, (name, address): (char, &str)| plan.backend(&name.to_string(), address, "");
        names.zip(backends).fold(Plan::new(), add)
    }

    /// Where its listener is.
    pub fn address(&self) -> &str {
        &self.address
    }

    pub fn admin(&self) -> &str {
        &self.admin
    }

    /// Where its admin socket is.
    pub fn socket(&self) -> &Path {
        &self.socket
    }

    /// Where it answers everything.
    pub fn api(&self) -> Api<'_> {
        Api::at(&self.socket)
    }

    pub fn process(&self) -> &Process {
        &self.process
    }

    /// A client.
    #[track_caller]
    pub fn connect(&self) -> Peer {
        Peer::connect(&self.address)
    }

    /// How a client that gets no byte is told; the reset may come while it still connects.
    #[track_caller]
    pub fn turned_away(&self) -> End {
        match Peer::try_connect(&self.address) {
            Ok(mut client) => client.end(),
            Err(error) if error.kind() == std::io::ErrorKind::ConnectionReset => End::Reset,
            Err(error) => panic!("neither accepted nor reset: {error}"),
        }
    }

    pub fn metrics(&self) -> Metrics {
        Metrics::scrape(&self.admin)
    }

    /// Waits until metrics show it.
    #[track_caller]
    pub fn wait_metrics(&self, what: &str, mut is_so: impl FnMut(&Metrics) -> bool) {
        let mut last = None;
        let waited = wait_for(PATIENCE, || {
            let metrics = self.metrics();
            let so = is_so(&metrics);
            last = Some(metrics);
            so
        });
        let last = last.map(|metrics| format!("codes {:?}", metrics.codes())).unwrap_or_default();
        assert!(waited.is_some(), "waited, and still not: {what}; {last}\n{}", self.process.output());
    }

    /// Waits until so many sessions ended with that code, and none with another.
    #[track_caller]
    pub fn expect_code(&self, code: &str, count: u64) {
        let all = |metrics: &Metrics| metrics.codes().iter().map(|(_, count)| count).sum::<u64>() >= count;
        self.wait_metrics(&format!("{count} x {code}"), all);
        assert_eq!(self.metrics().codes(), [(code.to_string(), count)]);
    }

    /// Waits until there is no session.
    #[track_caller]
    pub fn wait_idle(&self) {
        self.wait_metrics("no session is open", |metrics| metrics.count("connections", &[]) == 0);
    }

    /// Waits until its log has it; it may come a little after what it speaks of.
    #[track_caller]
    pub fn wait_said(&self, text: &str) {
        let said = wait_for(PATIENCE, || self.process.output().contains(text));
        assert!(said.is_some(), "it has not said {text:?}: {}", self.process.output());
    }

    /// Waits until that backend takes sessions, or takes none.
    #[track_caller]
    pub fn wait_up(&self, pool: &str, backend: &str, up: bool) {
        let labels = [("pool", pool), ("backend", backend)];
        let is_so = |metrics: &Metrics| metrics.count("backend_up", &labels) == u64::from(up);
        self.wait_metrics(&format!("{pool}/{backend} is {}", if up { "up" } else { "down" }), is_so);
    }

    /// Waits for so many more checks of that backend.
    #[track_caller]
    pub fn wait_checks(&self, backend: &str, more: u64) {
        let count = |metrics: &Metrics| metrics.count("backend_checks_total", &[("backend", backend)]);
        let before = count(&self.metrics());
        self.wait_metrics(&format!("{more} more checks of {backend}"), |metrics| count(metrics) >= before + more);
    }

    /// Waits until it has no more descriptors than `base`.
    #[track_caller]
    pub fn wait_descriptors(&self, base: usize) {
        wait_until("as few descriptors as before", || self.process.descriptors() <= base);
    }

    /// Its configuration.
    pub fn file(&self) -> PathBuf {
        self.file.clone()
    }

    /// Another one that is to take over from this one, with a configuration that is changed so; it is not ready yet.
    pub fn begin_successor(&self, change: impl FnOnce(String) -> String) -> (Process, PathBuf) {
        self.begin_successor_in(change, &[])
    }

    fn begin_successor_in(&self, change: impl FnOnce(String) -> String, env: &[(&str, &str)]) -> (Process, PathBuf) {
        let file = tempfile::Builder::new().suffix(".toml").tempfile_in(self.folder.path()).unwrap().keep().unwrap().1;
        std::fs::write(&file, change(std::fs::read_to_string(self.file()).unwrap())).unwrap();
        let mut command = Ringway::command();
        command.args(["run", "-c"]).arg(&file).arg("--take-over").arg(&self.socket).envs(env.iter().copied());
        (Process::start(&mut command), file)
    }

    /// Starts another one that takes over from this one, and waits until it has.
    #[track_caller]
    pub fn successor(&self, change: impl FnOnce(String) -> String) -> Ringway {
        self.successor_in(change, &[])
    }

    /// The same, with these variables in its environment.
    #[track_caller]
    pub fn successor_in(&self, change: impl FnOnce(String) -> String, env: &[(&str, &str)]) -> Ringway {
        let (mut process, file) = self.begin_successor_in(change, env);
        let ready = wait_for(PATIENCE, || is_ready(&process.output()) || !process.is_running());
        assert!(ready.is_some() && process.is_running(), "it has not taken over: {}", process.output());
        let (address, admin, folder) = (self.address.clone(), self.admin.clone(), self.folder.clone());
        let (socket, kernel_threads) = (self.socket.clone(), self.kernel_threads);
        Ringway { process, address, admin, socket, folder, file, ended: false, kernel_threads }
    }

    /// Changes its configuration, and does not tell it.
    pub fn edit(&self, change: impl FnOnce(String) -> String) {
        let before = std::fs::read_to_string(self.file()).unwrap();
        std::fs::write(self.file(), change(before)).unwrap();
    }

    /// Has it read its configuration again; whether that was applied.
    #[track_caller]
    pub fn reload(&self) -> bool {
        let count = |metrics: &Metrics, result| metrics.count("config_reloads_total", &[("result", result)]);
        let before = self.metrics();
        self.signal(libc::SIGHUP);
        let mut applied = None;
        self.wait_metrics("it has reloaded, or refused to", |metrics| {
            let is_more = |result| count(metrics, result) > count(&before, result);
            applied = is_more("success").then_some(true).or(is_more("failure").then_some(false));
            applied.is_some()
        });
        applied == Some(true)
    }

    /// Changes one thing in its configuration and has it applied.
    #[track_caller]
    pub fn change(&self, from: &str, to: &str) {
        self.edit(|text| {
            assert!(text.contains(from), "{from:?} in {text}");
            text.replacen(from, to, 1)
        });
        assert!(self.reload(), "{}", self.process.output());
    }

    pub fn signal(&self, signal: i32) {
        self.process.signal(signal);
    }

    /// Waits for its end.
    #[track_caller]
    pub fn wait(mut self, limit: Duration) -> ExitStatus {
        self.assert_sound();
        self.ended = true;
        let status = self.process.wait(limit);
        status.unwrap_or_else(|| panic!("ringway goes on after {limit:?}: {}", self.process.output()))
    }

    /// Ends it with TERM; it must say that all went well.
    #[track_caller]
    pub fn stop(self) {
        self.signal(libc::SIGTERM);
        let status = self.wait(PATIENCE);
        assert!(status.success(), "{status}");
    }

    #[track_caller]
    fn assert_sound(&mut self) {
        assert!(!self.process.output().contains("panicked"), "{}", self.process.output());
        let threads = self.process.threads();
        let made = threads.iter().any(|name| name.starts_with("iou-wrk"));
        assert!(!made || self.kernel_threads, "the kernel made threads: {threads:?}");
    }
}

impl Drop for Ringway {
    fn drop(&mut self) {
        if std::thread::panicking() {
            eprintln!("--- ringway {} wrote:\n{}---", self.process.id(), self.process.output());
        } else if !self.ended {
            assert!(self.process.is_running(), "ringway has ended: {}", self.process.output());
            self.assert_sound();
        }
    }
}

/// In either format of the log.
fn is_ready(log: &str) -> bool {
    log.contains(" message=ready ") || log.contains("\"ready\"")
}

/// For a command that is not started yet.
pub fn limit_descriptors(command: &mut Command, limit: u64) {
    let set = move || {
        let limit = libc::rlimit { rlim_cur: limit, rlim_max: limit };
        // SAFETY: the kernel reads one rlimit.
        match unsafe { libc::setrlimit(libc::RLIMIT_NOFILE, &raw const limit) } {
            0 => Ok(()),
            _ => Err(std::io::Error::last_os_error()),
        }
    };
    // SAFETY: setrlimit may be called between fork and exec.
    unsafe { command.pre_exec(set) };
}
