//! Real Patroni clusters: an etcd, and PostgreSQL servers that Patroni starts, promotes and stops.

use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::{Duration, Instant};

use super::address::own_ip;
use super::etcd::{self, Etcd};
use super::postgresql::{as_user, folder, own_folder, run};
use super::process::{self, Process};
use super::{PATIENCE, wait_for, wait_until};

/// How long a cluster may take to be made: initdb, and a base backup for each replica.
const START_MAX: Duration = Duration::from_secs(90);

/// Patroni, its tool, the server and the tool of etcd, and where PostgreSQL is.
pub struct Programs {
    patroni: String,
    patronictl: String,
    etcd: [String; 2],
    bin: PathBuf,
}

pub fn programs() -> Option<Programs> {
    let find = |name| process::program(&[&format!("/usr/bin/{name}"), &format!("/usr/local/bin/{name}")], "patroni");
    Some(Programs {
        patroni: find("patroni")?,
        patronictl: find("patronictl")?,
        etcd: etcd::programs()?,
        bin: folder()?,
    })
}

/// A server with the Patroni that minds it.
pub struct Node {
    pub name: String,
    ip: String,
    process: Process,
    folder: tempfile::TempDir,
}

/// The cluster `main`, whose members are called `pg1`, `pg2`, ...
pub struct Patroni {
    // They end before etcd does.
    pub nodes: Vec<Node>,
    pub etcd: Etcd,
    programs: Programs,
}

impl Patroni {
    /// A cluster of so many servers, when all of them run.
    pub fn start(programs: Programs, count: usize) -> Patroni {
        let etcd = Etcd::start(&programs.etcd);
        let nodes = (1..=count).map(|number| Node::start(&programs, &format!("pg{number}"), &etcd, "")).collect();
        let cluster = Patroni { nodes, etcd, programs };
        let running = || cluster.etcd.ctl(&["get", "--prefix", "/service/main/members/"]);
        let all_run = || running().matches(r#""state":"running""#).count() == count && cluster.leader().is_some();
        let logs = || cluster.nodes.iter().map(|node| node.process.output()).collect::<String>();
        assert!(wait_for(START_MAX, all_run).is_some(), "{}{}", running(), logs());
        cluster
    }

    /// The member that has the leader key.
    pub fn leader(&self) -> Option<String> {
        let said = self.etcd.ctl(&["get", "--print-value-only", "/service/main/leader"]);
        Some(said.trim().to_string()).filter(|name| !name.is_empty())
    }

    pub fn node(&self, name: &str) -> &Node {
        self.nodes.iter().find(|node| node.name == name).unwrap()
    }

    /// Some member that does not lead.
    pub fn replica(&self) -> &Node {
        let leader = self.leader();
        self.nodes.iter().find(|node| Some(&node.name) != leader.as_ref()).unwrap()
    }

    /// Makes another one the leader, as an operator does it.
    pub fn switch_over(&self, to: &str) {
        let from = self.leader().unwrap();
        let mut command = Command::new(&self.programs.patronictl);
        command.arg("-c").arg(self.node(to).file()).args(["switchover", "--master", &from, "--candidate", to]);
        let ended = process::run(command.arg("--force"));
        assert!(ended.status.success(), "{}{}", ended.stdout, ended.stderr);
    }

    /// Waits until every member streams or leads, so that the next one can take over.
    pub fn wait_healthy(&self) {
        let leader = || self.leader().map(|name| self.node(&name));
        let streams = "select count(*) from pg_stat_replication where state = 'streaming'";
        let expected = (self.nodes.len() - 1).to_string();
        wait_until("all replicas stream", || {
            leader().and_then(|node| node.try_sql(&self.programs.bin, streams)).as_ref() == Some(&expected)
        });
        let members = || self.etcd.ctl(&["get", "--prefix", "/service/main/members/"]);
        wait_until("all members run", || {
            let members = members();
            members.matches(r#""state":"running""#).count() == self.nodes.len()
                && members.matches(r#""role":"replica""#).count() == self.nodes.len() - 1
        });
    }
}

impl Node {
    /// With further lines for its configuration.
    fn start(programs: &Programs, name: &str, etcd: &Etcd, more: &str) -> Node {
        let (ip, folder) = (own_ip().to_string(), own_folder());
        let (place, bin) = (folder.path().display(), programs.bin.display());
        let etcd = etcd.endpoint().replace("http://", "");
        let text = format!(
            "scope: main\nname: {name}\nrestapi: {{listen: '{ip}:8008', connect_address: '{ip}:8008'}}\n\
             etcd3: {{hosts: '{etcd}'}}\n\
             bootstrap:\n  dcs: {{ttl: 20, loop_wait: 1, retry_timeout: 3}}\n  \
             initdb: [{{encoding: UTF8}}, {{auth: trust}}, no-sync]\n\
             postgresql:\n  listen: '{ip}:5432'\n  connect_address: '{ip}:5432'\n  data_dir: {place}/data\n  \
             bin_dir: {bin}\n  pgpass: {place}/pgpass\n  \
             authentication: {{superuser: {{username: postgres}}, replication: {{username: postgres}}}}\n  \
             parameters: {{unix_socket_directories: '', fsync: 'off', shared_buffers: 16MB, max_connections: 60}}\n  \
             pg_hba: ['host all all all trust', 'host replication all all trust']\n{more}"
        );
        std::fs::write(folder.path().join("patroni.yml"), text).unwrap();
        let mut command = as_user(Command::new(&programs.patroni));
        let process = Process::start(command.arg(folder.path().join("patroni.yml")).env("HOME", folder.path()));
        Node { name: name.to_string(), ip, process, folder }
    }

    fn file(&self) -> PathBuf {
        self.folder.path().join("patroni.yml")
    }

    /// Where its PostgreSQL is.
    pub fn address(&self) -> String {
        format!("{}:5432", self.ip)
    }

    pub fn ip(&self) -> &str {
        &self.ip
    }

    /// What a statement gives, if the server takes it.
    pub fn try_sql(&self, bin: &Path, statement: &str) -> Option<String> {
        let mut psql = Command::new(bin.join("psql"));
        psql.args(["-h", &self.ip, "-p", "5432", "-U", "postgres", "-XAtqc", statement]);
        let ended = run(&mut psql);
        ended.status.success().then(|| ended.stdout.trim().to_string())
    }

    /// When it is first seen to be no replica any more. It is asked over one connection, again and again.
    pub fn promoted(&self) -> std::thread::JoinHandle<Instant> {
        let address = self.address();
        std::thread::spawn(move || {
            let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
            runtime.block_on(async move {
                let stream = tokio::net::TcpStream::connect(&address).await.unwrap();
                let mut config = tokio_postgres::Config::new();
                let connected = config.user("postgres").connect_raw(stream, tokio_postgres::NoTls).await;
                let (client, connection) = connected.unwrap();
                tokio::spawn(connection);
                let begun = Instant::now();
                while begun.elapsed() < PATIENCE {
                    let row = client.query_one("select pg_is_in_recovery()", &[]).await.unwrap();
                    if !row.get::<_, bool>(0) {
                        return Instant::now();
                    }
                    tokio::time::sleep(Duration::from_millis(2)).await;
                }
                panic!("{address} was not promoted");
            })
        })
    }
}

impl Drop for Node {
    /// Patroni stops its server when it is asked to end, and not when it is killed.
    fn drop(&mut self) {
        if self.process.is_running() {
            self.process.signal(libc::SIGTERM);
            self.process.wait(PATIENCE);
        }
        self.process.kill();
        let file = std::fs::read_to_string(self.folder.path().join("data/postmaster.pid")).unwrap_or_default();
        if let Some(id) = file.lines().next().and_then(|line| line.parse().ok()) {
            // SAFETY: a plain call.
            unsafe { libc::kill(id, libc::SIGQUIT) };
        }
    }
}
