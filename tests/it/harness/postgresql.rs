//! Real PostgreSQL clusters, each with an address and a folder of its own.

use std::os::unix::process::CommandExt;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::sync::{Arc, Mutex, Weak};

use super::address::own_ip;
use super::process::{self, Ended, Process};
use super::{PATIENCE, wait_until};

/// Where Debian keeps the programs: newest version first.
pub fn folder() -> Option<PathBuf> {
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

/// PostgreSQL does not run as root: then it runs as the user that its package made, or as `nobody`.
pub fn user() -> Option<u32> {
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
pub struct Cluster {
    pub process: Process,
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
    pub fn start(bin: &Path) -> Cluster {
        Cluster::configured(bin, "", "")
    }

    /// With further lines for postgresql.conf, and lines that stand first in pg_hba.conf. With `ssl = on` it has a
    /// certificate.
    pub fn configured(bin: &Path, settings: &str, hba: &str) -> Cluster {
        let template = template(bin);
        let folder = own_folder();
        let data = folder.path().join("data");
        let ended = run(as_user(Command::new("cp"))
            .args(["-r", "--preserve=mode"])
            .arg(template.folder.path().join("data"))
            .arg(&data));
        assert!(ended.status.success(), "{}", ended.stderr);
        let change = |name: &str, change: &dyn Fn(String) -> String| {
            let path = data.join(name);
            std::fs::write(&path, change(std::fs::read_to_string(&path).unwrap())).unwrap();
        };
        change("postgresql.conf", &|text| text + settings);
        change("pg_hba.conf", &|text| format!("{hba}\n{text}"));
        if settings.contains("ssl = on") {
            let names = ["-keyout", "server.key", "-out", "server.crt", "-subj", "/CN=ringway", "-days", "2"];
            let mut openssl = as_user(Command::new("openssl"));
            openssl.args(["req", "-x509", "-newkey", "rsa:2048", "-nodes"]).args(names).current_dir(&data);
            let ended = run(&mut openssl);
            assert!(ended.status.success(), "{}", ended.stderr);
        }
        let ip = own_ip().to_string();
        let process = Cluster::launch(bin, &ip, folder.path());
        Cluster { process, ip, folder, bin: bin.to_path_buf(), _template: template }
    }

    /// A replica that streams from it.
    pub fn replica(&self) -> Cluster {
        let folder = own_folder();
        let mut backup = as_user(Command::new(self.bin.join("pg_basebackup")));
        backup.args(["-h", &self.ip, "-p", "5432", "-U", "postgres", "-R", "-X", "stream", "-c", "fast", "--no-sync"]);
        let ended = run(backup.arg("-D").arg(folder.path().join("data")));
        assert!(ended.status.success(), "{}", ended.stderr);
        let ip = own_ip().to_string();
        let process = Cluster::launch(&self.bin, &ip, folder.path());
        let replica = Cluster { process, ip, folder, bin: self.bin.clone(), _template: Arc::clone(&self._template) };
        wait_until("the replica streams", || replica.sql("select count(*) from pg_stat_wal_receiver") == "1");
        replica
    }

    /// What a statement gives.
    #[track_caller]
    pub fn sql(&self, statement: &str) -> String {
        let mut psql = Command::new(self.bin.join("psql"));
        psql.args(["-h", &self.ip, "-p", "5432", "-U", "postgres", "-XAtqc", statement]);
        let ended = run(&mut psql);
        assert!(ended.status.success(), "{}", ended.stderr);
        ended.stdout.trim().to_string()
    }

    /// Makes a replica the primary.
    pub fn promote(&self) {
        assert_eq!(self.sql("select pg_promote()"), "t");
    }

    fn launch(bin: &Path, ip: &str, folder: &Path) -> Process {
        let mut command = as_user(Command::new(bin.join("postgres")));
        command.arg("-D").arg(folder.join("data")).args(["-h", ip, "-p", "5432", "-k", ""]);
        command.args(["-c", "fsync=off", "-c", "shared_buffers=16MB", "-c", "max_connections=60"]);
        let process = Process::start(&mut command);
        let is_ready = || {
            run(Command::new(bin.join("pg_isready")).args(["-h", ip, "-p", "5432", "-U", "postgres"])).status.success()
        };
        wait_until("PostgreSQL accepts", is_ready);
        process
    }

    /// As a crash does it.
    pub fn kill(&mut self) {
        self.process.signal(libc::SIGQUIT); // it ends its children, which SIGKILL would leave
        assert!(self.process.wait(PATIENCE).is_some());
    }

    pub fn restart(&mut self) {
        self.process = Cluster::launch(&self.bin, &self.ip, self.folder.path());
    }

    pub fn address(&self) -> String {
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
    let folder = own_folder();
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

/// A folder of the user that PostgreSQL runs as.
pub fn own_folder() -> tempfile::TempDir {
    let folder = tempfile::tempdir().unwrap();
    if let Some(user) = user() {
        std::os::unix::fs::chown(folder.path(), Some(user), Some(user)).unwrap();
    }
    folder
}

/// A command as the user that PostgreSQL runs as.
pub fn as_user(mut command: Command) -> Command {
    if let Some(user) = user() {
        command.uid(user).gid(user);
    }
    command.current_dir("/").env("LC_ALL", "C");
    command
}

pub fn run(command: &mut Command) -> Ended {
    process::run(command)
}

pub fn pgbench(bin: &Path, address: &str, arguments: &[&str]) -> Command {
    let (ip, port) = address.rsplit_once(':').unwrap();
    let mut command = Command::new(bin.join("pgbench"));
    command.args(["-h", ip, "-p", port, "-U", "postgres"]).args(arguments).arg("postgres").env("LC_ALL", "C");
    command
}
