//! Real MariaDB servers, each with an address and a folder of its own.

use std::process::Command;
use std::sync::{Arc, Mutex, Weak};

use super::address::own_ip;
use super::process::{self, Ended, Process};
use super::{PATIENCE, wait_until};

/// A server whose administrator is `root`, without a password, at its unix socket.
pub struct MariaDb {
    pub process: Process,
    pub ip: String,
    folder: tempfile::TempDir,
    _template: Arc<tempfile::TempDir>,
}

/// The server, what makes its tables, and a client.
pub fn programs() -> Option<[String; 3]> {
    let find = |name: &str, package| {
        let paths = ["/usr/sbin", "/usr/bin", "/usr/local/bin"].map(|folder| format!("{folder}/{name}"));
        process::program(&paths.each_ref().map(String::as_str), package)
    };
    let package = "mariadb-server";
    Some([find("mariadbd", package)?, find("mariadb-install-db", package)?, find("mariadb", package)?])
}

impl MariaDb {
    /// With further options.
    pub fn start(options: &[&str]) -> Option<MariaDb> {
        let programs = programs()?;
        Some(MariaDb::launch(&programs, &own_ip().to_string(), options, |command| command))
    }

    /// At an address, and by a command that `wrap` may change.
    pub fn launch(
        programs: &[String; 3],
        ip: &str,
        options: &[&str],
        wrap: impl FnOnce(Command) -> Command,
    ) -> MariaDb {
        let template = template(programs);
        let folder = tempfile::tempdir().unwrap();
        let data = folder.path().join("data");
        let ended = process::run(Command::new("cp").arg("-r").arg(template.path().join("data")).arg(&data));
        assert!(ended.status.success(), "{}", ended.stderr);
        let mut command = Command::new(&programs[0]);
        command.args(["--no-defaults", "--user=root", "--bind-address", ip, "--port=3306", "--datadir"]).arg(&data);
        command.arg("--socket").arg(folder.path().join("socket")).arg("--pid-file").arg(folder.path().join("pid"));
        command.args(["--innodb-buffer-pool-size=8M", "--innodb-flush-log-at-trx-commit=0"]).args(options);
        let process = Process::start(&mut wrap(command));
        let server = MariaDb { process, ip: ip.to_string(), folder, _template: template };
        wait_until("MariaDB accepts", || server.try_sql("select 1").status.success());
        server
    }

    pub fn address(&self) -> String {
        format!("{}:3306", self.ip)
    }

    /// What a statement gives.
    #[track_caller]
    pub fn sql(&self, statement: &str) -> String {
        let ended = self.try_sql(statement);
        assert!(ended.status.success(), "{statement}: {}", ended.stderr);
        ended.stdout.trim().to_string()
    }

    fn try_sql(&self, statement: &str) -> Ended {
        let mut client = Command::new("mariadb");
        client.args(["--no-defaults", "-uroot", "-NB", "-S"]).arg(self.folder.path().join("socket"));
        process::run(client.args(["-e", statement]))
    }
}

/// The tables to copy: to make them takes its time, so tests that run side by side share them.
fn template(programs: &[String; 3]) -> Arc<tempfile::TempDir> {
    static SHARED: Mutex<Weak<tempfile::TempDir>> = Mutex::new(Weak::new());
    let mut shared = SHARED.lock().unwrap();
    if let Some(template) = shared.upgrade() {
        return template;
    }
    let folder = tempfile::tempdir().unwrap();
    let mut install = Command::new(&programs[1]);
    install.args(["--no-defaults", "--auth-root-authentication-method=normal", "--skip-test-db", "--user=root"]);
    let ended = process::run(install.arg(format!("--datadir={}", folder.path().join("data").display())));
    assert!(ended.status.success(), "{}{}", ended.stdout, ended.stderr);
    let template = Arc::new(folder);
    *shared = Arc::downgrade(&template);
    template
}

impl Drop for MariaDb {
    fn drop(&mut self) {
        if self.process.is_running() {
            self.process.signal(libc::SIGKILL);
            self.process.wait(PATIENCE);
        }
    }
}
