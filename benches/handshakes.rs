//! How long small round trips take beside full TLS handshakes of one worker: `docs/performance.md`, section TLS.
//!
//! ```text
//! cargo bench --bench handshakes -- --ringway PROGRAM --key rsa4096 --rates 0,50,100,200
//! ```
//!
//! Some plain sessions send 64 B at fixed times, whether or not the answer before has come, and their round trips are
//! timed from the moment that was meant. Beside them clients shake hands on another listener of the same ringway, also
//! at fixed times. Without `--ringway` (`cargo test --benches`) nothing is measured.

#![allow(clippy::disallowed_methods, clippy::disallowed_types, reason = "it measures real time and shares results")]

use std::fmt::Write as _;
use std::io::{self, Read, Write};
use std::net::{SocketAddr, TcpListener, TcpStream};
use std::path::{Path, PathBuf};
use std::process::{Child, Command};
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex};
use std::thread;
use std::time::{Duration, Instant};

use clap::Parser;
use rcgen::{CertificateParams, KeyPair, RsaKeySize};
use ringway::tls::cause::Anyone;
use rustls::client::Resumption;
use rustls::crypto::aws_lc_rs;
use rustls::pki_types::ServerName;
use rustls::{ClientConfig, ClientConnection};

/// Bytes of a round trip.
const LEN: usize = 64;
/// Clients that shake hands at the same time, at the most.
const SHAKERS: u64 = 32;
/// The name in the certificate.
const NAME: &str = "bench.example";

/// Times 64 B round trips beside TLS handshakes of one worker.
#[derive(Debug, Parser)]
#[command(name = "handshakes")]
struct Options {
    /// A build of ringway
    #[arg(long)]
    ringway: Option<PathBuf>,
    /// The key of the certificate
    #[arg(long, default_value = "rsa4096", value_parser = ["p256", "rsa2048", "rsa4096"])]
    key: String,
    /// Handshakes a second, by comma
    #[arg(long, value_delimiter = ',', default_value = "0,100,200")]
    rates: Vec<u64>,
    /// How often all rates are measured
    #[arg(long, default_value_t = 3)]
    rounds: usize,
    /// Seconds of a measurement
    #[arg(long, default_value_t = 3)]
    seconds: u64,
    /// Plain sessions
    #[arg(long, default_value_t = 16)]
    sessions: u64,
    /// Round trips a second, of all of them
    #[arg(long, default_value_t = 2000)]
    trips: u64,
    /// The CPUs of ringway, as `taskset -c` takes them
    #[arg(long, default_value = "0")]
    cpus: String,
    /// ringway's worker goes before all else on its CPU, and its other threads do not. For machines that are not quiet;
    /// this program is to be started by `chrt -f 10` then
    #[arg(long)]
    real_time: bool,
    /// What cargo passes to benchmarks
    #[arg(long, hide = true)]
    bench: bool,
}

fn main() -> io::Result<()> {
    let options = Options::parse();
    let Some(program) = &options.ringway else {
        println!("nothing is measured without --ringway PROGRAM");
        return Ok(());
    };
    let folder = tempfile::tempdir()?;
    write_certificate(folder.path(), &options.key);
    let backend = echo()?;
    let [plain, tls] = [free_address()?, free_address()?];
    let ringway = start(program, folder.path(), &options.cpus, [plain, tls, backend])?;
    if options.real_time {
        put_worker_first(&ringway)?;
    }
    let mut all: Vec<(u64, Vec<Figures>)> = options.rates.iter().map(|&rate| (rate, Vec::new())).collect();
    for _ in 0..options.rounds {
        for (rate, figures) in &mut all {
            figures.push(measure(&options, plain, tls, *rate)?);
        }
    }
    println!("{} on CPUs {}: {} sessions, {} trips/s", options.key, options.cpus, options.sessions, options.trips);
    for (rate, figures) in all {
        println!("{}", line(rate, figures));
    }
    Ok(())
}

/// What one measurement gives: microseconds, and handshakes a second.
struct Figures {
    p50: f64,
    p99: f64,
    greatest: f64,
    shaken: f64,
    shake_p50: f64,
}

/// The medians over the rounds, with the p99 of each.
fn line(rate: u64, figures: Vec<Figures>) -> String {
    let median = |of: fn(&Figures) -> f64| {
        let mut values: Vec<f64> = figures.iter().map(of).collect();
        values.sort_by(f64::total_cmp);
        values[values.len() / 2]
    };
    let mut text = format!(
        "{rate:>4} handshakes/s asked, {:>4.0} done ({:>6.0} us each): p50 {:>5.0} us, p99 {:>6.0} us, max {:>6.0} us; \
         p99 of rounds",
        median(|one| one.shaken),
        median(|one| one.shake_p50),
        median(|one| one.p50),
        median(|one| one.p99),
        median(|one| one.greatest),
    );
    for one in &figures {
        // A string takes everything.
        let _ = write!(text, " {:.0}", one.p99);
    }
    text
}

/// Round trips beside `rate` handshakes a second.
fn measure(options: &Options, plain: SocketAddr, tls: SocketAddr, rate: u64) -> io::Result<Figures> {
    let begin = Instant::now() + Duration::from_millis(200);
    let end = begin + Duration::from_secs(options.seconds);
    let shaking: Vec<_> = match rate {
        0 => Vec::new(),
        _ => {
            let (next, client) = (Arc::new(AtomicU64::new(0)), Arc::new(client()));
            let shaker = |_| {
                let (next, client) = (next.clone(), client.clone());
                thread::spawn(move || shake(tls, &client, &next, rate, begin, end))
            };
            (0..SHAKERS.min(rate)).map(shaker).collect()
        }
    };
    let took = Arc::new(Mutex::new(Vec::new()));
    let (mut senders, mut readers) = (Vec::new(), Vec::new());
    for _ in 0..options.sessions {
        let mut stream = TcpStream::connect(plain)?;
        stream.set_nodelay(true)?;
        senders.push(stream.try_clone()?);
        let took = took.clone();
        readers.push(thread::spawn(move || {
            let (mut bytes, mut own) = ([0; LEN], Vec::new());
            while stream.read_exact(&mut bytes).is_ok() {
                let at = u64::from_le_bytes(bytes[..8].try_into().expect("eight bytes"));
                own.push(begin.elapsed().as_nanos() as u64 - at);
            }
            took.lock().expect("no reader panics").append(&mut own);
        }));
    }
    for number in 0..options.trips * options.seconds {
        let at = Duration::from_nanos(number * 1_000_000_000 / options.trips);
        thread::sleep((begin + at).saturating_duration_since(Instant::now()));
        let mut bytes = [0; LEN];
        bytes[..8].copy_from_slice(&(at.as_nanos() as u64).to_le_bytes());
        senders[(number % options.sessions) as usize].write_all(&bytes)?;
    }
    thread::sleep(Duration::from_millis(200));
    senders.iter().try_for_each(|sender| sender.shutdown(std::net::Shutdown::Both))?;
    readers.into_iter().for_each(|reader| reader.join().expect("a reader panicked"));
    let mut shakes: Vec<u64> =
        shaking.into_iter().flat_map(|shaker| shaker.join().expect("a shaker panicked").expect("shakes")).collect();
    shakes.sort_unstable();
    let mut took = took.lock().expect("no reader panics").clone();
    took.sort_unstable();
    let at = |all: &[u64], per_mille: usize| all.get(all.len() * per_mille / 1000).map_or(0.0, |ns| *ns as f64 / 1e3);
    Ok(Figures {
        p50: at(&took, 500),
        p99: at(&took, 990),
        greatest: took.last().map_or(0.0, |ns| *ns as f64 / 1e3),
        shaken: shakes.len() as f64 / options.seconds as f64,
        shake_p50: at(&shakes, 500),
    })
}

/// Shakes hands at its times, with others that share `next`: how long each took from its time on.
fn shake(
    address: SocketAddr,
    client: &Arc<ClientConfig>,
    next: &AtomicU64,
    rate: u64,
    begin: Instant,
    end: Instant,
) -> io::Result<Vec<u64>> {
    let mut took = Vec::new();
    loop {
        let at = begin + Duration::from_nanos(next.fetch_add(1, Ordering::Relaxed) * 1_000_000_000 / rate);
        if at >= end || Instant::now() >= end {
            return Ok(took);
        }
        thread::sleep(at.saturating_duration_since(Instant::now()));
        let mut tcp = TcpStream::connect(address)?;
        tcp.set_nodelay(true)?;
        let name = ServerName::try_from(NAME).map_err(io::Error::other)?;
        let mut tls = ClientConnection::new(client.clone(), name).map_err(io::Error::other)?;
        while tls.is_handshaking() {
            tls.complete_io(&mut tcp)?;
        }
        took.push(at.elapsed().as_nanos() as u64);
    }
}

/// A client of TLS 1.3 that resumes nothing and verifies nothing, which would be half of its work.
fn client() -> ClientConfig {
    let provider = Arc::new(aws_lc_rs::default_provider());
    let builder = ClientConfig::builder_with_provider(provider.clone());
    let builder = builder.with_protocol_versions(&[&rustls::version::TLS13]).expect("the provider has TLS 1.3");
    let verifier = Arc::new(Anyone(provider));
    let mut config = builder.dangerous().with_custom_certificate_verifier(verifier).with_no_client_auth();
    config.resumption = Resumption::disabled();
    config
}

/// Writes `crt.pem` and `key.pem`.
fn write_certificate(folder: &Path, kind: &str) {
    let made = match kind {
        "p256" => KeyPair::generate_for(&rcgen::PKCS_ECDSA_P256_SHA256),
        "rsa2048" => KeyPair::generate_rsa_for(&rcgen::PKCS_RSA_SHA256, RsaKeySize::_2048),
        _ => KeyPair::generate_rsa_for(&rcgen::PKCS_RSA_SHA256, RsaKeySize::_4096),
    };
    let key = made.expect("a key");
    let params = CertificateParams::new(vec![NAME.to_string()]).expect("a name");
    let certificate = params.self_signed(&key).expect("a certificate");
    std::fs::write(folder.join("crt.pem"), certificate.pem()).expect("the folder is ours");
    std::fs::write(folder.join("key.pem"), key.serialize_pem()).expect("the folder is ours");
}

/// A backend that sends back what comes.
fn echo() -> io::Result<SocketAddr> {
    let listener = TcpListener::bind("127.0.0.1:0")?;
    let address = listener.local_addr()?;
    thread::spawn(move || {
        for stream in listener.incoming().flatten() {
            thread::spawn(move || {
                let (mut bytes, mut stream) = ([0; 4096], stream);
                let _ = stream.set_nodelay(true);
                while let Ok(count @ 1..) = stream.read(&mut bytes) {
                    if stream.write_all(&bytes[..count]).is_err() {
                        break;
                    }
                }
            });
        }
    });
    Ok(address)
}

/// An address that nothing is bound to.
fn free_address() -> io::Result<SocketAddr> {
    TcpListener::bind("127.0.0.1:0")?.local_addr()
}

/// ringway, which ends with this program.
struct Ringway(Child);

impl Drop for Ringway {
    fn drop(&mut self) {
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}

/// Has the worker of ringway scheduled before all that is not real-time.
fn put_worker_first(ringway: &Ringway) -> io::Result<()> {
    for task in std::fs::read_dir(format!("/proc/{}/task", ringway.0.id()))?.flatten() {
        if std::fs::read_to_string(task.path().join("comm"))?.trim() == "ringway-0" {
            Command::new("chrt").args(["-f", "-p", "10"]).arg(task.file_name()).status()?;
        }
    }
    Ok(())
}

/// Starts ringway with one worker and returns when it accepts.
fn start(program: &Path, folder: &Path, cpus: &str, at: [SocketAddr; 3]) -> io::Result<Ringway> {
    let [plain, tls, backend] = at;
    let [cert, key] = ["crt.pem", "key.pem"].map(|name| folder.join(name));
    let config = format!(
        "[process]\nworkers = 1\npin_workers = false\n[log]\nlevel = \"error\"\n\
         [listeners.plain]\nbind = \"{plain}\"\npool = \"p\"\n\
         [listeners.tls]\nbind = \"{tls}\"\npool = \"p\"\n\
         [listeners.tls.tls]\ncertificates = [{{ cert = {cert:?}, key = {key:?} }}]\n\
         [pools.p]\n[[pools.p.backends]]\naddress = \"{backend}\"\n"
    );
    let file = folder.join("ringway.toml");
    std::fs::write(&file, config)?;
    // It does not inherit the scheduling of this program.
    let mut command = Command::new("chrt");
    let child =
        command.args(["-o", "0", "taskset", "-c", cpus]).arg(program).arg("run").arg("-c").arg(&file).spawn()?;
    let ringway = Ringway(child);
    for _ in 0..500 {
        if TcpStream::connect(tls).is_ok() {
            return Ok(ringway);
        }
        thread::sleep(Duration::from_millis(10));
    }
    Err(io::Error::other("ringway does not accept"))
}
