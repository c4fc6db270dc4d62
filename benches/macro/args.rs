//! The command line.

use std::path::PathBuf;

use clap::{Args, Parser, Subcommand};

/// Measures ringway beside HAProxy, nginx and a tokio-uring relay: work per CPU second of the proxy.
#[derive(Debug, Parser)]
#[command(name = "macro")]
pub struct Cli {
    /// What to do.
    #[command(subcommand)]
    pub command: Task,
}

/// What this program does.
#[derive(Debug, Subcommand)]
pub enum Task {
    /// Rounds of workloads against subjects, then the table
    #[command(args_override_self = true)]
    Sweep {
        /// How the runs are made
        #[command(flatten)]
        options: Options,
        /// Workloads, by comma: bulk1 bulk32 down1 down32 rr1 rr8 rr64 rr1000 rr16k cps cps9000 reset9000
        /// stalled mix idle tls_bulk tls_down tls_rr64 tls_handshake tls_resume tls_idle
        #[arg(long, value_delimiter = ',')]
        workloads: Vec<String>,
        /// Subjects, by comma: haproxy haproxy-splice nginx16 nginx64 tokio16 tokio64 and the names of --ringway
        #[arg(long, value_delimiter = ',')]
        subjects: Vec<String>,
        /// Drivers, by comma: io_uring epoll. Each build of ringway is measured on them too, as a subject of that name
        #[arg(long, value_delimiter = ',', value_parser = ["io_uring", "epoll"])]
        io: Vec<String>,
        /// Where README.md, raw.csv, summary.csv and plot.svg are written
        #[arg(long)]
        out: Option<PathBuf>,
    },
    /// One run in this process; prints its line of raw.csv
    #[command(hide = true)]
    One {
        /// How the run is made
        #[command(flatten)]
        options: Options,
        /// The workload
        #[arg(long)]
        workload: String,
        /// The subject
        #[arg(long)]
        subject: String,
        /// Chooses the addresses
        #[arg(long)]
        number: u16,
    },
    /// The tokio-uring baseline: relay LISTEN to BACKEND
    #[command(hide = true)]
    Relay {
        /// Where clients connect
        listen: std::net::SocketAddr,
        /// Where they are relayed to
        backend: std::net::SocketAddr,
        /// Bytes of buffer a direction
        buffer_size: usize,
    },
    /// Makes README.md, summary.csv and plot.svg of a result folder again from its raw.csv
    Report {
        /// The folder
        folder: PathBuf,
    },
}

/// How runs are made.
#[derive(Args, Clone, Debug)]
pub struct Options {
    /// How often everything is measured
    #[arg(long, default_value_t = 3)]
    pub rounds: usize,
    /// Length of the window in seconds
    #[arg(long, default_value_t = 1.0)]
    pub seconds: f64,
    /// Seconds before the window
    #[arg(long, default_value_t = 0.2)]
    pub warm_up: f64,
    /// How often a run may be made again because others took more than 10 % of a CPU
    #[arg(long, default_value_t = 2)]
    pub tries: usize,
    /// A build of ringway: [NAME=]PATH[,ENV=VALUE]…; may be given several times
    #[arg(long)]
    pub ringway: Vec<String>,
    /// Sessions of the memory workloads
    #[arg(long, default_value_t = 2000)]
    pub idle_sessions: usize,
    /// Sessions that do nothing beside others
    #[arg(long, default_value_t = 9000)]
    pub beside_sessions: usize,
    /// The proxy's CPU
    #[arg(long, default_value_t = 0)]
    pub proxy_cpu: usize,
    /// The CPU of clients and backends
    #[arg(long, default_value_t = 1)]
    pub load_cpu: usize,
    /// Congestion control in the namespace; others than reno must be in the machine's tcp_allowed_congestion_control
    #[arg(long, default_value = "reno")]
    pub congestion_control: String,
    /// Also run where no network namespace can be had
    #[arg(long, hide = true)]
    pub anywhere: bool,
    /// Priority of proxy and generator against whatever else runs
    #[arg(long, default_value_t = -20, allow_negative_numbers = true)]
    pub nice: i32,
}

impl Options {
    /// The same options as arguments of a run.
    pub fn as_arguments(&self) -> Vec<String> {
        let mut all = vec![
            format!("--seconds={}", self.seconds),
            format!("--warm-up={}", self.warm_up),
            format!("--idle-sessions={}", self.idle_sessions),
            format!("--beside-sessions={}", self.beside_sessions),
            format!("--proxy-cpu={}", self.proxy_cpu),
            format!("--load-cpu={}", self.load_cpu),
            format!("--congestion-control={}", self.congestion_control),
            format!("--nice={}", self.nice),
        ];
        all.extend(self.anywhere.then(|| "--anywhere".to_string()));
        all.extend(self.ringway.iter().map(|text| format!("--ringway={text}")));
        all
    }
}
