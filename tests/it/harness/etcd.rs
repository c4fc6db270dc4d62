//! Real etcd servers, what stands between them and ringway, and a source that is listened to.

use std::io::{Read, Write};
use std::net::{TcpListener, TcpStream};
use std::process::Command;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex};
use std::thread::JoinHandle;

use ringway::discover::dns::{Dns, Resolver};
use ringway::discover::found::{Answer, News};
use ringway::discover::settings::{Access, EtcdSource, PatroniSource, Source};
use ringway::discover::{etcd, patroni};

use super::address::own_ip;
use super::process::{self, Process};
use super::wait_until;

/// The server and its tool.
pub fn programs() -> Option<[String; 2]> {
    let find =
        |name, package| process::program(&[&format!("/usr/bin/{name}"), &format!("/usr/local/bin/{name}")], package);
    Some([find("etcd", "etcd-server")?, find("etcdctl", "etcd-client")?])
}

/// A server with an address and a folder of its own.
pub struct Etcd {
    pub process: Process,
    ip: String,
    scheme: &'static str,
    folder: tempfile::TempDir,
    programs: [String; 2],
    options: Vec<String>,
    /// With which `etcdctl` speaks to it.
    pub ctl_options: Vec<String>,
}

impl Etcd {
    pub fn start(programs: &[String; 2]) -> Etcd {
        Etcd::configured(programs, &[], "http", &own_ip().to_string())
    }

    /// With further options; what they say of TLS belongs to the scheme.
    pub fn configured(programs: &[String; 2], options: &[&str], scheme: &'static str, ip: &str) -> Etcd {
        let mut etcd = Etcd::launched(programs, options, scheme, ip);
        if scheme == "http" {
            etcd.wait_ready();
        }
        assert!(etcd.process.is_running(), "{}", etcd.process.output());
        etcd
    }

    /// A cluster of so many.
    pub fn cluster(programs: &[String; 2], count: usize) -> Vec<Etcd> {
        let ips: Vec<String> = (0..count).map(|_| own_ip().to_string()).collect();
        let names: Vec<String> = ips.iter().map(|ip| format!("{ip}=http://{ip}:2380")).collect();
        let options = ["--initial-cluster", &names.join(",")];
        let members: Vec<Etcd> = ips.iter().map(|ip| Etcd::launched(programs, &options, "http", ip)).collect();
        members.iter().for_each(Etcd::wait_ready);
        members
    }

    fn launched(programs: &[String; 2], options: &[&str], scheme: &'static str, ip: &str) -> Etcd {
        let (ip, folder) = (ip.to_string(), tempfile::tempdir().unwrap());
        let options: Vec<String> = options.iter().map(ToString::to_string).collect();
        let process = Etcd::launch(&programs[0], &ip, scheme, &folder, &options);
        Etcd { process, ip, scheme, folder, programs: programs.clone(), options, ctl_options: Vec::new() }
    }

    fn launch(program: &str, ip: &str, scheme: &str, folder: &tempfile::TempDir, options: &[String]) -> Process {
        let (client, peer) = (format!("{scheme}://{ip}:2379"), format!("http://{ip}:2380"));
        let mut command = Command::new(program);
        command.args(["--name", ip, "--listen-client-urls", &client, "--advertise-client-urls", &client]);
        command.args(["--listen-peer-urls", &peer, "--initial-advertise-peer-urls", &peer]);
        if !options.iter().any(|option| option == "--initial-cluster") {
            command.args(["--initial-cluster", &format!("{ip}={peer}")]);
        }
        command.args(options).arg("--data-dir").arg(folder.path().join("data"));
        Process::start(&mut command)
    }

    /// Waits until it answers, which takes a leader.
    fn wait_ready(&self) {
        wait_until("etcd answers", || self.try_ctl(&["get", "x"]).is_ok_and(|_| true));
    }

    /// What `etcdctl` prints. It is tried again while no server answers it, as during an election or after a restart.
    #[track_caller]
    pub fn ctl(&self, arguments: &[&str]) -> String {
        let mut last = Err(String::new());
        super::wait_for(super::PATIENCE, || {
            last = self.try_ctl(arguments);
            let is_unheard = |error: &String| ["DeadlineExceeded", "Unavailable"].iter().any(|it| error.contains(it));
            !last.as_ref().is_err_and(is_unheard)
        });
        last.unwrap_or_else(|error| panic!("etcdctl {arguments:?}: {error}"))
    }

    fn try_ctl(&self, arguments: &[&str]) -> Result<String, String> {
        let mut command = Command::new(&self.programs[1]);
        command.args(["--endpoints", &self.endpoint(), "--dial-timeout", "2s"]).env("ETCDCTL_API", "3");
        let ended = process::run(command.args(&self.ctl_options).args(arguments));
        if ended.status.success() { Ok(ended.stdout) } else { Err(ended.stderr) }
    }

    pub fn put(&self, key: &str, value: &str) {
        self.ctl(&["put", "--", key, value]);
    }

    /// The same for many keys below `/db/`, one after the other over one connection; each has another port.
    pub fn put_many(&self, count: u16) {
        use base64::Engine;
        let base64 = |text: String| base64::engine::general_purpose::STANDARD.encode(text);
        let mut stream = TcpStream::connect(self.endpoint().replace("http://", "")).unwrap();
        stream.set_read_timeout(Some(super::PATIENCE)).unwrap();
        for port in 1..=count {
            let [key, value] = [format!("/db/{port:05}"), format!("10.0.0.1:{port}")].map(base64);
            let body = format!(r#"{{"key":"{key}","value":"{value}"}}"#);
            let head = format!("POST /v3/kv/put HTTP/1.1\r\nHost: x\r\nContent-Length: {}\r\n\r\n", body.len());
            stream.write_all((head + &body).as_bytes()).unwrap();
            let mut answer = Vec::new();
            while !answer.ends_with(b"}}") {
                let mut part = [0; 4096];
                let length = stream.read(&mut part).unwrap();
                assert!(length > 0, "{}", String::from_utf8_lossy(&answer));
                answer.extend_from_slice(&part[..length]);
            }
        }
    }

    pub fn delete(&self, key: &str) {
        self.ctl(&["del", key]);
    }

    /// Forgets all changes before the last one.
    pub fn compact(&self) {
        let status = self.ctl(&["get", "x", "-w", "json"]);
        let revision = status.split("\"revision\":").nth(1).and_then(|rest| rest.split([',', '}']).next()).unwrap();
        self.ctl(&["compact", revision]);
    }

    pub fn kill(&mut self) {
        self.process.kill();
    }

    pub fn restart(&mut self) {
        self.kill();
        self.process = Etcd::launch(&self.programs[0], &self.ip, self.scheme, &self.folder, &self.options);
    }

    /// As a configuration writes it.
    pub fn endpoint(&self) -> String {
        format!("{}://{}:2379", self.scheme, self.ip)
    }
}

/// A ringway with the first configuration of a document.
pub struct Documented {
    pub process: Process,
    /// Where its listeners are, in their order.
    pub addresses: Vec<String>,
    _folder: tempfile::TempDir,
}

/// Runs the first configuration of a document, with other texts in the place of some.
pub fn as_documented(document: &str, replaced: &[(&str, &str)]) -> Documented {
    let block = document.split("\n```toml\n").nth(1).and_then(|rest| rest.split("\n```").next()).unwrap();
    let mut text = block.to_string();
    for (old, new) in replaced {
        assert!(text.contains(old), "{old} is not in {text}");
        text = text.replace(old, new);
    }
    let binds = text.lines().filter_map(|line| line.strip_prefix("bind = ")).map(|bind| bind.replace('"', ""));
    let (addresses, folder) = (binds.collect(), tempfile::tempdir().unwrap());
    let file = folder.path().join("ringway.toml");
    std::fs::write(&file, text + "\n[process]\nworkers = 1\n").unwrap();
    let mut process = Process::start(super::Ringway::command().args(["run", "-c"]).arg(&file));
    wait_until("it is ready", || process.output().contains("ready") || !process.is_running());
    assert!(process.is_running(), "{}", process.output());
    Documented { process, addresses, _folder: folder }
}

/// What a source has said.
#[derive(Clone, Default)]
pub struct Heard(Arc<Mutex<Vec<News>>>);

impl Heard {
    pub fn all(&self) -> Vec<News> {
        self.0.lock().unwrap().clone()
    }

    /// Of the last answer, each backend as `NAME ADDRESS WEIGHT BACKUP`.
    pub fn found(&self) -> Vec<String> {
        let line = |it: &ringway::discover::found::Found| format!("{} {it} {} {}", it.name(), it.weight, it.backup);
        self.answer().map(|answer| answer.found.iter().map(line).collect()).unwrap_or_default()
    }

    pub fn answer(&self) -> Option<Answer> {
        self.all().into_iter().rev().find_map(|news| match news {
            News::Answer(answer) => Some(answer),
            _ => None,
        })
    }

    /// The reasons of every outage.
    pub fn failures(&self) -> Vec<String> {
        let failed = |news| match news {
            News::Failed(why) => Some(why),
            _ => None,
        };
        self.all().into_iter().filter_map(failed).collect()
    }

    /// How much it has said.
    pub fn count(&self) -> usize {
        self.0.lock().unwrap().len()
    }

    /// Waits until it has found these, no more and no less.
    #[track_caller]
    pub fn wait_found(&self, expected: &[&str]) {
        let waited = super::wait_for(super::PATIENCE, || self.found() == expected);
        assert!(waited.is_some(), "not {expected:?}, but {:#?}", self.all());
    }

    #[track_caller]
    pub fn wait_failure(&self, says: &str) {
        let waited = super::wait_for(super::PATIENCE, || self.failures().iter().any(|why| why.contains(says)));
        assert!(waited.is_some(), "no failure says {says:?}: {:#?}", self.all());
    }

    /// Waits until it says that nothing has changed, from now on.
    #[track_caller]
    pub fn wait_confirmed(&self) {
        let before = self.count();
        let confirmed = || self.all()[before..].contains(&News::Confirmed);
        assert!(super::wait_for(super::PATIENCE, confirmed).is_some(), "{:#?}", self.all());
    }
}

/// A source on a thread of its own, as control runs it.
pub struct Listened {
    pub heard: Heard,
    stop: Option<tokio::sync::oneshot::Sender<()>>,
    thread: Option<JoinHandle<()>>,
}

impl Listened {
    pub fn to_etcd(endpoints: &[String], access: Access) -> Listened {
        let endpoints = endpoints.iter().map(|text| text.parse().unwrap()).collect();
        Listened::to(Source::Etcd(EtcdSource { endpoints, prefix: "/db/".to_string(), access }))
    }

    /// The cluster `main` in Patroni's usual namespace.
    pub fn to_patroni(endpoint: &str) -> Listened {
        let [namespace, scope] = ["/service", "main"].map(str::to_string);
        let endpoints = vec![endpoint.parse().unwrap()];
        Listened::to(Source::Patroni(PatroniSource { endpoints, namespace, scope, access: Access::default() }))
    }

    fn to(source: Source) -> Listened {
        let (heard, (stop, stopped)) = (Heard::default(), tokio::sync::oneshot::channel());
        let said = heard.0.clone();
        let thread = std::thread::spawn(move || {
            let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
            let tell = |news| said.lock().unwrap().push(news);
            let resolver = Resolver::new(&Dns::default(), None);
            let follow = async {
                match &source {
                    Source::Etcd(settings) => etcd::follow(settings, &resolver, &tell).await,
                    Source::Patroni(settings) => patroni::follow(settings, &resolver, &tell).await,
                    other => panic!("not {other:?}"),
                }
            };
            let until_stopped = async {
                tokio::select! {
                    () = follow => {}
                    _ = stopped => {}
                }
            };
            runtime.block_on(tokio::task::LocalSet::new().run_until(until_stopped));
        });
        Listened { heard, stop: Some(stop), thread: Some(thread) }
    }
}

impl Drop for Listened {
    fn drop(&mut self) {
        drop(self.stop.take());
        let joined = self.thread.take().unwrap().join();
        assert!(joined.is_ok() || std::thread::panicking(), "a source must not panic");
    }
}

/// Stands before a server, passes everything on, and does something when a watch begins.
pub struct Front {
    address: String,
    stop: Arc<AtomicBool>,
    thread: Option<JoinHandle<()>>,
}

/// What becomes of a connection for a watch.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub enum Fate {
    PassedOn,
    /// What the server says to it goes nowhere, and the connection stays open.
    Dead,
}

impl Front {
    /// `on_watch` is told how many watches there were before.
    pub fn before(endpoint: &str, on_watch: impl Fn(usize) -> Fate + Send + Sync + 'static) -> Front {
        let listener = TcpListener::bind(format!("{}:2379", own_ip())).unwrap();
        let address = listener.local_addr().unwrap().to_string();
        let (to, stop) = (endpoint.replace("http://", ""), Arc::new(AtomicBool::new(false)));
        let (on_watch, watches, is_over) = (Arc::new(on_watch), Arc::new(Mutex::new(0)), stop.clone());
        let thread = std::thread::spawn(move || {
            for client in listener.incoming().flatten().take_while(|_| !is_over.load(Ordering::Relaxed)) {
                let (to, on_watch, watches) = (to.clone(), on_watch.clone(), watches.clone());
                std::thread::spawn(move || {
                    let fate = |request: &[u8]| match String::from_utf8_lossy(request).contains("/v3/watch") {
                        false => Fate::PassedOn,
                        true => {
                            let mut count = watches.lock().unwrap();
                            *count += 1;
                            on_watch(*count - 1)
                        }
                    };
                    // One of the two ends was closed.
                    let _ = pass_on(client, &to, fate);
                });
            }
        });
        Front { address, stop, thread: Some(thread) }
    }

    pub fn endpoint(&self) -> String {
        format!("http://{}", self.address)
    }
}

impl Drop for Front {
    fn drop(&mut self) {
        self.stop.store(true, Ordering::Relaxed);
        let _ = TcpStream::connect(&self.address);
        let _ = self.thread.take().unwrap().join();
    }
}

/// Passes a request and what follows on, both ways.
fn pass_on(mut client: TcpStream, to: &str, fate: impl Fn(&[u8]) -> Fate) -> std::io::Result<()> {
    let mut request = vec![0; 16 * 1024];
    let length = client.read(&mut request)?;
    let fate = fate(&request[..length]);
    let mut server = TcpStream::connect(to)?;
    server.write_all(&request[..length])?;
    let (mut rest, mut to_server) = (client.try_clone()?, server.try_clone()?);
    std::thread::spawn(move || {
        let _ = std::io::copy(&mut rest, &mut to_server);
        let _ = to_server.shutdown(std::net::Shutdown::Both);
    });
    let mut answer = vec![0; 16 * 1024];
    let mut has_begun = false;
    loop {
        let length = server.read(&mut answer)?;
        if length == 0 {
            return client.shutdown(std::net::Shutdown::Both);
        }
        if fate == Fate::PassedOn || !has_begun {
            client.write_all(&answer[..length])?;
        }
        has_begun = true;
    }
}
