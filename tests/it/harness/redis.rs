//! Real Redis servers.

use std::process::Command;

use super::address::own_ip;
use super::process::{self, Process};
use super::{Peer, wait_until};

const PORT: &str = "6379";

/// A server of its own, without persistence.
pub struct Redis {
    pub process: Process,
    ip: String,
    folder: tempfile::TempDir,
}

impl Redis {
    pub fn start(program: &str) -> Redis {
        Redis::configured(program, &[])
    }

    /// With further options. One that wants a password is up as soon as it asks for it.
    pub fn configured(program: &str, options: &[&str]) -> Redis {
        let (ip, folder) = (own_ip().to_string(), tempfile::tempdir().unwrap());
        let process = Redis::launch(program, &ip, &folder, options);
        Redis { process, ip, folder }
    }

    fn launch(program: &str, ip: &str, folder: &tempfile::TempDir, options: &[&str]) -> Process {
        let mut command = Command::new(program);
        command.args(options);
        command.args(["--bind", ip, "--port", PORT, "--save", "", "--appendonly", "no", "--dir"]).arg(folder.path());
        let process = Process::start(&mut command);
        let address = format!("{ip}:{PORT}");
        wait_until("redis answers", || Peer::try_connect(&address).is_ok_and(|mut peer| is_alive(&mut peer)));
        process
    }

    pub fn restart(&mut self, program: &str) {
        self.process.kill();
        self.process = Redis::launch(program, &self.ip, &self.folder, &[]);
    }

    pub fn address(&self) -> String {
        format!("{}:{PORT}", self.ip)
    }
}

pub fn is_alive(peer: &mut Peer) -> bool {
    peer.write_all(b"PING\r\n").is_ok()
        && peer.read_some(64).is_ok_and(|answer| answer == b"+PONG\r\n" || answer.starts_with(b"-NOAUTH"))
}

/// The server and its tools.
pub fn programs() -> Option<[String; 3]> {
    let find =
        |name, package| process::program(&[&format!("/usr/bin/{name}"), &format!("/usr/local/bin/{name}")], package);
    Some([
        find("redis-server", "redis-server")?,
        find("redis-cli", "redis-tools")?,
        find("redis-benchmark", "redis-tools")?,
    ])
}
