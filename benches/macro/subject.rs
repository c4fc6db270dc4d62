//! The proxies under test: how each is configured and started, one worker each.

use std::fs::{self, File};
use std::io;
use std::net::SocketAddr;
use std::os::unix::process::CommandExt;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};

use anyhow::{Context, Result, bail};

use crate::sys;
use crate::tls::Certificate;

/// A proxy under test.
#[derive(Clone, Debug)]
pub struct Subject {
    /// The column it gets.
    pub name: String,
    kind: Kind,
}

#[derive(Clone, Debug)]
enum Kind {
    Haproxy { splice: bool },
    Nginx { buffer_kib: usize },
    TokioUring { buffer_kib: usize },
    Ringway { program: PathBuf, environment: Vec<(String, String)> },
}

/// The four that the bar is held against.
pub const PEERS: [&str; 4] = ["haproxy", "haproxy-splice", "nginx16", "nginx64"];

/// Names of those that are measured: as `asked`, or all of them. Each of `ringways` has its versions on these drivers
/// behind it.
pub fn names(ringways: &[String], drivers: &[String], asked: &[String]) -> Vec<String> {
    let builds: Vec<String> = ringways.iter().map(|text| Subject::ringway(text).name).collect();
    let baselines = PEERS.into_iter().chain(["tokio16", "tokio64"]).map(String::from);
    let wanted = if asked.is_empty() { builds.iter().cloned().chain(baselines).collect() } else { asked.to_vec() };
    let mut names: Vec<String> = Vec::new();
    for name in wanted {
        let on_drivers = drivers.iter().filter(|_| builds.contains(&name)).map(|driver| name_on(&name, driver));
        for name in [name.clone()].into_iter().chain(on_drivers) {
            if !names.contains(&name) {
                names.push(name);
            }
        }
    }
    names
}

/// These builds, and each of them on each of these drivers.
pub fn on_drivers(ringways: &[String], drivers: &[String]) -> Vec<String> {
    let on = |text: &String, driver: &String| {
        let (first, more) = text.split_once(',').map_or((&text[..], String::new()), |(a, b)| (a, format!(",{b}")));
        let (name, program) = first.split_once('=').unwrap_or((RINGWAY, first));
        format!("{}={program}{more},RINGWAY_IO={driver}", name_on(name, driver))
    };
    let versions = ringways.iter().flat_map(|text| drivers.iter().map(move |driver| on(text, driver)));
    ringways.iter().cloned().chain(versions).collect()
}

/// What a build is called on a driver: as the driver, unless it has a name of its own.
fn name_on(name: &str, driver: &str) -> String {
    if name == RINGWAY { driver.to_string() } else { format!("{name}-{driver}") }
}

/// What a build is called that was given no name.
const RINGWAY: &str = "ringway";

impl Subject {
    /// A subject by its name; `ringways` are the `[NAME=]PATH[,ENV=VALUE]…` that `--ringway` gave.
    pub fn named(name: &str, ringways: &[String]) -> Result<Subject> {
        let kind = match name {
            "haproxy" => Kind::Haproxy { splice: false },
            "haproxy-splice" => Kind::Haproxy { splice: true },
            "nginx16" => Kind::Nginx { buffer_kib: 16 },
            "nginx64" => Kind::Nginx { buffer_kib: 64 },
            "tokio16" => Kind::TokioUring { buffer_kib: 16 },
            "tokio64" => Kind::TokioUring { buffer_kib: 64 },
            _ => {
                let mut found = ringways.iter().map(|text| Subject::ringway(text)).filter(|s| s.name == name);
                return found.next().with_context(|| format!("no subject is called {name}; add --ringway {name}=PATH"));
            }
        };
        Ok(Subject { name: name.to_string(), kind })
    }

    /// A ringway by `[NAME=]PATH[,ENV=VALUE]…`.
    pub fn ringway(text: &str) -> Subject {
        let mut words = text.split(',');
        let first = words.next().unwrap_or_default();
        let (name, program) = first.split_once('=').unwrap_or((RINGWAY, first));
        let pair = |word: &str| word.split_once('=').map(|(key, value)| (key.to_string(), value.to_string()));
        let environment = words.filter_map(pair).collect();
        Subject { name: name.to_string(), kind: Kind::Ringway { program: program.into(), environment } }
    }

    /// True for any build of ringway.
    pub fn is_ringway(&self) -> bool {
        matches!(self.kind, Kind::Ringway { .. })
    }

    /// True if it is a subject of workloads with TLS. The baseline has none, and splice would change nothing.
    pub fn ends_tls(&self) -> bool {
        !matches!(self.kind, Kind::TokioUring { .. } | Kind::Haproxy { splice: true })
    }

    /// What it is told through its environment.
    pub fn environment(&self) -> String {
        match &self.kind {
            Kind::Ringway { environment, .. } => environment.iter().map(|(k, v)| format!("{k}={v} ")).collect(),
            _ => String::new(),
        }
    }

    /// The file that has to be there for this subject to run.
    pub fn program(&self) -> Result<PathBuf> {
        let program = match &self.kind {
            Kind::Haproxy { .. } => "/usr/sbin/haproxy".into(),
            Kind::Nginx { .. } => "/usr/sbin/nginx".into(),
            Kind::TokioUring { .. } => std::env::current_exe()?,
            Kind::Ringway { program, .. } => program.clone(),
        };
        if program.exists() { Ok(program) } else { bail!("{}: {} is not there", self.name, program.display()) }
    }

    /// Starts it on `cpu`, with its files in `folder`. What it writes goes to `folder/log`. With a certificate it ends
    /// TLS.
    pub fn start(
        &self,
        folder: &Path,
        listen: SocketAddr,
        backend: SocketAddr,
        cpu: usize,
        tls: Option<&Certificate>,
    ) -> Result<Running> {
        let mut command = Command::new(self.program()?);
        let config = folder.join("conf");
        match &self.kind {
            Kind::Haproxy { splice } => {
                fs::write(&config, haproxy(listen, backend, *splice, tls))?;
                command.arg("-db").arg("-f").arg(&config);
            }
            Kind::Nginx { buffer_kib } => {
                fs::write(&config, nginx(folder, listen, backend, *buffer_kib, tls))?;
                command.arg("-c").arg(&config).arg("-p").arg(folder).arg("-e").arg(folder.join("error"));
            }
            Kind::TokioUring { buffer_kib } => {
                command.args(["relay", &listen.to_string(), &backend.to_string(), &(buffer_kib << 10).to_string()]);
            }
            Kind::Ringway { environment, .. } => {
                fs::write(&config, ringway(listen, backend, tls))?;
                command.arg("run").arg("-c").arg(&config).envs(environment.iter().cloned());
            }
        }
        let log = File::create(folder.join("log"))?;
        command.stdin(Stdio::null()).stdout(log.try_clone()?).stderr(log);
        let prepare = move || {
            sys::die_with_parent();
            sys::pin_to_cpu(cpu);
            io::Result::Ok(())
        };
        // SAFETY: between fork and exec only two system calls are made, without memory or locks.
        unsafe { command.pre_exec(prepare) };
        let child = sys::in_process_namespace(|| command.spawn()).with_context(|| format!("start {}", self.name))?;
        Ok(Running { child })
    }
}

/// A started proxy; it ends with this value, and all that it forked with it.
pub struct Running {
    child: Child,
}

impl Running {
    /// The first process.
    pub fn pid(&self) -> u32 {
        self.child.id()
    }

    /// True exactly when it has ended by itself.
    pub fn ended(&mut self) -> bool {
        matches!(self.child.try_wait(), Ok(Some(_)))
    }
}

impl Drop for Running {
    fn drop(&mut self) {
        sys::kill(self.child.id());
        let _ = self.child.wait();
    }
}

fn haproxy(listen: SocketAddr, backend: SocketAddr, splice: bool, tls: Option<&Certificate>) -> String {
    // splice-auto keeps copying under this load, so splice is forced both ways, as an administrator would tune it.
    // As many sessions as its descriptors allow, like ringway's: 9,000 rest beside some workloads.
    let (mut global, option) = match splice {
        true => ("  tune.pipesize 1048576\n  maxpipes 100\n", "  option splice-request\n  option splice-response\n"),
        false => ("", ""),
    };
    let mut bind = String::new();
    if let Some(tls) = tls {
        global = "  ssl-default-bind-ciphersuites TLS_AES_128_GCM_SHA256\n  \
                  ssl-default-bind-options ssl-min-ver TLSv1.3\n";
        bind = format!(" ssl crt {}", tls.both.display());
    }
    format!(
        "global\n  nbthread 1\n  maxconn 9700\n{global}\
         defaults\n  mode tcp\n{option}  timeout connect 5s\n  timeout client 1h\n  timeout server 1h\n\
         listen bench\n  bind {listen}{bind}\n  server a {backend}\n"
    )
}

fn nginx(
    folder: &Path,
    listen: SocketAddr,
    backend: SocketAddr,
    buffer_kib: usize,
    tls: Option<&Certificate>,
) -> String {
    let folder = folder.display();
    let (mut ssl, mut keys) = ("", String::new());
    if let Some(Certificate { file, key, .. }) = tls {
        ssl = " ssl";
        keys = format!(
            "    ssl_certificate {};\n    ssl_certificate_key {};\n    ssl_protocols TLSv1.3;\n    \
             ssl_conf_command Ciphersuites TLS_AES_128_GCM_SHA256;\n",
            file.display(),
            key.display()
        );
    }
    format!(
        "load_module /usr/lib/nginx/modules/ngx_stream_module.so;\ndaemon off;\nuser root;\nworker_processes 1;\n\
         worker_rlimit_nofile 20000;\npid {folder}/pid;\nerror_log {folder}/error error;\n\
         events {{ worker_connections 19900; }}\n\
         stream {{\n  access_log off;\n  server {{\n    listen {listen}{ssl};\n{keys}    proxy_pass {backend};\n    \
         proxy_buffer_size {buffer_kib}k;\n    proxy_connect_timeout 5s;\n    proxy_timeout 1h;\n  }}\n}}\n"
    )
}

fn ringway(listen: SocketAddr, backend: SocketAddr, tls: Option<&Certificate>) -> String {
    let tls = tls.map_or_else(String::new, |Certificate { file, key, .. }| {
        let pair = format!("{{ cert = \"{}\", key = \"{}\" }}", file.display(), key.display());
        format!("[listeners.bench.tls]\ncertificates = [{pair}]\nmin_version = \"1.3\"\n\n")
    });
    format!(
        "[process]\nworkers = 1\npin_workers = true\n\n[log]\nlevel = \"warn\"\n\n\
         [listeners.bench]\nbind = \"{listen}\"\npool = \"bench\"\n\n{tls}\
         [pools.bench]\nbalance = \"round_robin\"\n\n[pools.bench.check]\ntype = \"off\"\n\n\
         [[pools.bench.backends]]\nname = \"a\"\naddress = \"{backend}\"\n"
    )
}
