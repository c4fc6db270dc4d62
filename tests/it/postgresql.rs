//! Real PostgreSQL clusters behind ringway.

use std::os::unix::process::CommandExt;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::sync::{Arc, Mutex, Weak};
use std::time::Duration;

use crate::harness::address::own_ip;
use crate::harness::process::{self, Ended, Process};
use crate::harness::{PATIENCE, Ringway, wait_until};

/// Where Debian keeps the programs: newest version first.
fn folder() -> Option<PathBuf> {
    let versions = std::fs::read_dir("/usr/lib/postgresql").into_iter().flatten().flatten();
    let mut folders: Vec<PathBuf> = versions.map(|entry| entry.path().join("bin")).collect();
    folders.sort();
    let candidates: Vec<String> =
        folders.iter().rev().map(|folder| folder.join("pgbench").display().to_string()).collect();
    let mut candidates: Vec<&str> = candidates.iter().map(String::as_str).collect();
    candidates.push("/usr/lib/postgresql/15/bin/pgbench");
    let pgbench = process::program(&candidates, "postgresql postgresql-contrib")?;
    Path::new(&pgbench).parent().map(Path::to_path_buf)
}

/// PostgreSQL does not run as root: then it runs as the user that its package made, or as nobody.
fn user() -> Option<u32> {
    // SAFETY: a plain call.
    if unsafe { libc::geteuid() } != 0 {
        return None;
    }
    let users = std::fs::read_to_string("/etc/passwd").unwrap();
    let id = |name: &str| {
        let line = users.lines().find(|line| line.starts_with(&format!("{name}:")))?;
        line.split(':').nth(2)?.parse().ok()
    };
    id("postgres").or_else(|| id("nobody"))
}

/// A cluster in a folder of its own, with the tables of pgbench.
struct Cluster {
    process: Process,
    ip: String,
    folder: tempfile::TempDir,
    bin: PathBuf,
    /// Kept for the next one.
    _template: Arc<Template>,
}

/// A cluster to copy, not running.
struct Template {
    folder: tempfile::TempDir,
}

impl Cluster {
    fn start(bin: &Path) -> Cluster {
        let template = template(bin);
        let folder = tempfile::tempdir().unwrap();
        if let Some(user) = user() {
            std::os::unix::fs::chown(folder.path(), Some(user), Some(user)).unwrap();
        }
        let data = folder.path().join("data");
        let ended = run(as_user(Command::new("cp"))
            .args(["-r", "--preserve=mode"])
            .arg(template.folder.path().join("data"))
            .arg(&data));
        assert!(ended.status.success(), "{}", ended.stderr);
        let ip = own_ip().to_string();
        let process = Cluster::launch(bin, &ip, folder.path());
        Cluster { process, ip, folder, bin: bin.to_path_buf(), _template: template }
    }

    fn launch(bin: &Path, ip: &str, folder: &Path) -> Process {
        let mut command = as_user(Command::new(bin.join("postgres")));
        command.arg("-D").arg(folder.join("data")).args(["-h", ip, "-p", "5432", "-k", ""]);
        command.args(["-c", "fsync=off", "-c", "shared_buffers=16MB", "-c", "max_connections=60"]);
        let process = Process::start(&mut command);
        let is_ready = || run(Command::new(bin.join("pg_isready")).args(["-h", ip, "-p", "5432"])).status.success();
        wait_until("PostgreSQL accepts", is_ready);
        process
    }

    /// As a crash does it.
    fn kill(&mut self) {
        self.process.signal(libc::SIGQUIT); // it ends its children, which SIGKILL would leave
        assert!(self.process.wait(PATIENCE).is_some());
    }

    fn restart(&mut self) {
        self.process = Cluster::launch(&self.bin, &self.ip, self.folder.path());
    }

    fn address(&self) -> String {
        format!("{}:5432", self.ip)
    }
}

impl Drop for Cluster {
    fn drop(&mut self) {
        if self.process.is_running() {
            self.kill();
        }
    }
}

/// The cluster to copy: initdb and filling the tables take their time, so tests that run side by side share it.
fn template(bin: &Path) -> Arc<Template> {
    static SHARED: Mutex<Weak<Template>> = Mutex::new(Weak::new());
    let mut shared = SHARED.lock().unwrap();
    if let Some(template) = shared.upgrade() {
        return template;
    }
    let folder = tempfile::tempdir().unwrap();
    if let Some(user) = user() {
        std::os::unix::fs::chown(folder.path(), Some(user), Some(user)).unwrap();
    }
    let mut initdb = as_user(Command::new(bin.join("initdb")));
    let ended = run(initdb.args(["-U", "postgres", "-A", "trust", "-N", "-D"]).arg(folder.path().join("data")));
    assert!(ended.status.success(), "{}{}", ended.stdout, ended.stderr);
    let ip = own_ip().to_string();
    let mut process = Cluster::launch(bin, &ip, folder.path());
    let ended = run(&mut pgbench(bin, &format!("{ip}:5432"), &["-i", "-s", "1", "-q"]));
    assert!(ended.status.success(), "{}", ended.stderr);
    process.signal(libc::SIGINT);
    assert!(process.wait(PATIENCE).is_some());
    let template = Arc::new(Template { folder });
    *shared = Arc::downgrade(&template);
    template
}

fn as_user(mut command: Command) -> Command {
    if let Some(user) = user() {
        command.uid(user).gid(user);
    }
    command.current_dir("/").env("LC_ALL", "C");
    command
}

fn run(command: &mut Command) -> Ended {
    process::run(command)
}

fn pgbench(bin: &Path, address: &str, arguments: &[&str]) -> Command {
    let (ip, port) = address.rsplit_once(':').unwrap();
    let mut command = Command::new(bin.join("pgbench"));
    command.args(["-h", ip, "-p", port, "-U", "postgres"]).args(arguments).arg("postgres").env("LC_ALL", "C");
    command
}

/// Transactions that a run of pgbench says it has made.
fn transactions(ended: &Ended) -> u64 {
    let line = ended.stdout.lines().find(|line| line.starts_with("number of transactions actually processed"));
    let number = line.and_then(|line| line.rsplit(' ').next()?.split('/').next()?.parse().ok());
    number.unwrap_or_else(|| panic!("{}{}", ended.stdout, ended.stderr))
}

#[track_caller]
fn assert_clean(ended: &Ended) {
    assert!(ended.status.success(), "{}{}", ended.stdout, ended.stderr);
    for word in ["error", "aborted", "FATAL"] {
        assert!(!ended.stderr.contains(word), "{}", ended.stderr);
    }
    assert!(transactions(ended) > 50, "{}", ended.stdout);
}

fn sessions_of(ringway: &Ringway, backend: &str) -> u64 {
    ringway.metrics().count("backend_connections_total", &[("backend", backend)])
}

fn two(bin: &Path) -> ([Cluster; 2], Ringway) {
    let clusters = [Cluster::start(bin), Cluster::start(bin)];
    let addresses = [clusters[0].address(), clusters[1].address()];
    let ringway = Ringway::before(addresses.iter().map(String::as_str)).checked(2, 2).start();
    (clusters, ringway)
}

#[test]
fn pgbench_runs_through_it_and_a_cluster_is_killed_and_comes_back() {
    let Some(bin) = folder() else { return };
    let (mut clusters, ringway) = two(&bin);
    let at = ringway.address();
    assert_clean(&run(&mut pgbench(&bin, at, &["-S", "-n", "-c", "8", "-j", "2", "-t", "200"])));
    assert_clean(&run(&mut pgbench(&bin, at, &["-n", "-c", "4", "-t", "20"])));
    assert_clean(&run(&mut pgbench(&bin, at, &["-S", "-n", "-C", "-c", "2", "-t", "40"])));
    assert!(sessions_of(&ringway, "a").abs_diff(sessions_of(&ringway, "b")) <= 1, "in turn");

    // A server process that has not left yet would be cut.
    ringway.wait_idle();
    clusters[1].kill();
    // Every connection from now on finds the other one, before and after the checks have noticed.
    assert_clean(&run(&mut pgbench(&bin, at, &["-S", "-n", "-C", "-c", "2", "-t", "40"])));
    ringway.wait_metrics("it is out", |metrics| metrics.count("backend_up", &[("backend", "b")]) == 0);
    assert_clean(&run(&mut pgbench(&bin, at, &["-S", "-n", "-c", "8", "-j", "2", "-t", "100"])));

    clusters[1].restart();
    ringway.wait_metrics("it is back", |metrics| metrics.count("backend_up", &[("backend", "b")]) == 1);
    let before = sessions_of(&ringway, "b");
    assert_clean(&run(&mut pgbench(&bin, at, &["-S", "-n", "-C", "-c", "2", "-t", "40"])));
    assert!(sessions_of(&ringway, "b") >= before + 40, "it has its share again");
    ringway.wait_idle();
    let codes = ringway.metrics().codes();
    assert!(codes.iter().all(|(code, _)| ["--", "CD", "CL"].contains(&code.as_str())), "no session was cut: {codes:?}");
}

/// Clients in the middle of something lose their connection at once; those of the other cluster notice nothing.
#[test]
fn a_crash_under_load_ends_the_sessions_of_that_cluster_only() {
    let Some(bin) = folder() else { return };
    let (mut clusters, ringway) = two(&bin);
    let mut load = pgbench(&bin, ringway.address(), &["-S", "-n", "-c", "8", "-j", "2", "-T", "3"]);
    let load = std::thread::spawn(move || run(&mut load));
    ringway.wait_metrics("all eight are connected", |metrics| metrics.count("connections", &[]) == 8);
    std::thread::sleep(Duration::from_millis(500));
    clusters[1].kill();
    let ended = load.join().unwrap();
    let aborted = ended.stderr.lines().filter(|line| line.contains("aborted")).count();
    assert!(ended.stderr.matches("aborted").count() >= 4 && transactions(&ended) > 50, "{aborted}: {}", ended.stderr);
    ringway.wait_idle();
    let metrics = ringway.metrics();
    let of = |code: &str| metrics.ended(code);
    let whole = of("--") + of("CD");
    assert!(whole >= 4, "four went on to the end: {:?}", metrics.codes());
}

/// A result that takes splice mode.
#[test]
fn a_large_result_arrives_whole() {
    let Some(bin) = folder() else { return };
    let cluster = Cluster::start(&bin);
    let ringway = Ringway::before([&*cluster.address()]).start();
    let (ip, port) = ringway.address().rsplit_once(':').unwrap();
    let mut psql = Command::new(bin.join("psql"));
    psql.args(["-h", ip, "-p", port, "-U", "postgres", "-At", "-c"]);
    psql.args(["select md5(string_agg(x, ',')) from (select repeat(i::text, 100) x from generate_series(1, 5) i) y"]);
    assert!(run(&mut psql).status.success());
    let mut psql = Command::new(bin.join("psql"));
    psql.args(["-h", ip, "-p", port, "-U", "postgres", "-At", "-o", "/dev/null", "-c"]);
    psql.args(["select i, repeat('x', 1000) from generate_series(1, 20000) i"]);
    let ended = run(&mut psql);
    assert!(ended.status.success(), "{}", ended.stderr);
    let bytes = ringway.metrics().count("backend_bytes_total", &[("direction", "to_client")]);
    assert!(bytes > 20_000_000, "{bytes}");
}
