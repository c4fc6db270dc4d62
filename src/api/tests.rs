use super::*;
use crate::api::command;
use crate::base::id::BackendId;
use crate::base::termination::{Termination, When, Who};
use crate::base::time::{Clock, Moment};
use crate::config::model::{ListenerTls, PoolTls};
use crate::control::first_table;
use crate::discover::settings::{Discover, FileSource, Source};
use crate::kernel::driver::Driver;
use crate::snapshot::build::tests::{config, pool};
use crate::snapshot::table::Table;
use crate::stats::ConnectError;
use crate::stats::list::{self, MetricKind};
use crate::tls::client::{Authorities, ClientSettings, ServerNameSource};
use crate::tls::server::{PemFile, ServerSettings};
use crate::tls::{ClientTls, ServerTls};
use std::collections::{BTreeMap, BTreeSet};
use std::io::{Read, Write};
use std::net::{SocketAddr, TcpListener};

/// Two pools with three backends, two workers that have counted this and that.
fn admin() -> ApiContext {
    let mut config = config(vec![pool("web", &["a", "b"]), pool("d\"b\\", &["c"])]);
    config.pools[0].backends[1].weight = 7;
    config.pools[0].backends[1].disabled = true;
    let source = Source::File(FileSource { path: "/targets/*.json".into() });
    config.pools[0].discover = Some(Discover { source, drops_empty: false });
    let (listener, pool) = secure();
    (config.listeners[0].tls, config.pools[0].tls) = (Some(listener), Some(pool));
    let (stats, counts) = (Stats::new(2), Counts::new());
    for (index, worker) in stats.workers.iter().enumerate() {
        let index = index as u64;
        worker.worker.running.set(1);
        worker.worker.connections.set(2 + index);
        worker.worker.busy_ns.add(1_250_000_000);
        worker.worker.spliced_bytes.add(1 << 40);
        let listener = worker.listeners.get(0);
        listener.connections.set(2 + index);
        listener.connections_total.add(10 + index);
        let route = worker.routes.get(0);
        route.ended(Termination::NORMAL);
        route.ended(Termination(Who::ClientTimeout, When::Data));
        let pool = worker.pools.get(0);
        pool.retries_total.add(3);
        pool.connect_ns.record_ns(100_000 + index);
        let backend = worker.backends.get(0);
        backend.connect_failed(ConnectError::Refused);
        backend.bytes_to_client.add(1000);
    }
    stats.control.config_generation.set(1);
    let checks = stats.control.backends.get(0);
    checks.success.add(4);
    checks.went_down.add(1);
    checks.check_ns.record_ns(2_000_000);
    (0..5).for_each(|_| counts.opened(BackendId(0)));
    (1..=6).for_each(|open| assert_eq!(counts.process_opened(), open));
    let table = first_table(&Arc::new(config));
    ApiContext {
        cell: Arc::new(Cell::new(table)),
        stats: Arc::new(stats),
        counts: Arc::new(counts),
        connections_max: 512,
        io: ChosenDriver { driver: Driver::Epoll, reason: "a test says so".to_owned() },
        ask: Arc::new(|_, _| ()),
        asker: command::channel().0,
        clock: Clock::new(),
    }
}

/// TLS at a listener, with a certificate, and to backends.
fn secure() -> (ListenerTls, PoolTls) {
    let made = rcgen::generate_simple_self_signed(["web.example".to_string()]).unwrap();
    let file = |text: String| PemFile { path: "/f.pem".to_string(), bytes: text.into_bytes() };
    let pair = (file(made.cert.pem()), file(made.signing_key.serialize_pem()));
    let settings = ServerSettings { pairs: vec![pair], ..ServerSettings::default() };
    let text = "[listeners.l]\nbind = \"127.0.0.1:0\"\npool = \"p\"\ntls = { certificate_dir = \"/d\" }\n\
                [pools.p]\nbackends = [{ address = \"127.0.0.1:1\" }]\ntls = { verify = false }\n";
    let mut config = crate::config::load(text, "f", &|_: &str| None).unwrap();
    let (mut tls, mut pool) = (config.listeners[0].tls.take().unwrap(), config.pools[0].tls.take().unwrap());
    tls.loaded.set(Arc::new(ServerTls::new(&settings, None).unwrap()));
    let settings = ClientSettings {
        authorities: Authorities::Unverified,
        pair: None,
        is_tls13_only: false,
        protocols: Vec::new(),
        server_name: ServerNameSource::Host,
        is_postgresql: false,
    };
    pool.loaded.set(Arc::new(ClientTls::new(&settings).unwrap()));
    (tls, pool)
}

/// Serves `admin` and asks it once with each of these request lines; status and body of each.
fn ask(admin: ApiContext, requests: &[&str]) -> Vec<(u16, String)> {
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let address = listener.local_addr().unwrap();
    let requests: Vec<String> = requests.iter().map(|request| (*request).to_owned()).collect();
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
    tokio::task::LocalSet::new().block_on(&runtime, async move {
        let sockets = AdminSockets { listen: Some(listener), ..AdminSockets::default() };
        let mut servers = Servers::new(sockets, &[NamePattern::new("*.ops.example").unwrap()], Router::new()).unwrap();
        servers.begin(admin);
        let client = tokio::task::spawn_blocking(move || requests.iter().map(|line| request(address, line)).collect());
        client.await.unwrap()
    })
}

fn request(address: SocketAddr, line: &str) -> (u16, String) {
    let mut stream = std::net::TcpStream::connect(address).unwrap();
    write!(stream, "{line} HTTP/1.1\r\nHost: x.ops.example\r\nConnection: close\r\nContent-Length: 0\r\n\r\n").unwrap();
    let mut answer = String::new();
    stream.read_to_string(&mut answer).unwrap();
    let (head, body) = answer.split_once("\r\n\r\n").unwrap();
    let status = head.split(' ').nth(1).unwrap().parse().unwrap();
    if line == "GET /metrics" {
        assert!(head.to_ascii_lowercase().contains("content-type: text/plain; version=0.0.4"), "{head}");
        assert!(!head.to_ascii_lowercase().contains("chunked"), "{head}");
    }
    (status, body.to_owned())
}

/// The series of a scrape by name and labels as written; names by their `# TYPE`.
fn scrape(text: &str) -> (BTreeMap<String, f64>, BTreeMap<String, String>) {
    let (mut series, mut types) = (BTreeMap::new(), BTreeMap::new());
    for line in text.lines().filter(|line| !line.is_empty()) {
        if let Some(rest) = line.strip_prefix("# TYPE ") {
            let (name, kind) = rest.split_once(' ').unwrap();
            assert!(types.insert(name.to_owned(), kind.to_owned()).is_none(), "{name} declared twice");
        } else if !line.starts_with('#') {
            let (name, value) = line.rsplit_once(' ').unwrap();
            assert!(series.insert(name.to_owned(), value.parse().unwrap()).is_none(), "{name} twice");
        }
    }
    (series, types)
}

fn metrics_of(admin: ApiContext) -> (BTreeMap<String, f64>, BTreeMap<String, String>) {
    let answers = ask(admin, &["GET /metrics"]);
    assert_eq!(answers[0].0, 200);
    scrape(&answers[0].1)
}

#[test]
fn metrics_add_up_what_workers_counted() {
    let (series, _) = metrics_of(admin());
    for (name, value) in [
        (r#"ringway_build_info{version="0.1.0",io="epoll"}"#, 1.0),
        ("ringway_config_generation", 1.0),
        ("ringway_connections", 6.0),
        ("ringway_connections_max", 512.0),
        (r#"ringway_listener_connections{listener="web"}"#, 5.0),
        (r#"ringway_listener_connections_total{listener="web"}"#, 21.0),
        (r#"ringway_listener_connections_total{listener="d\"b\\"}"#, 0.0),
        (r#"ringway_sessions_total{listener="web",pool="web",termination="--"}"#, 2.0),
        (r#"ringway_sessions_total{listener="web",pool="web",termination="cD"}"#, 2.0),
        (r#"ringway_sessions_total{listener="d\"b\\",pool="d\"b\\",termination="--"}"#, 0.0),
        (r#"ringway_pool_retries_total{pool="web"}"#, 6.0),
        (r#"ringway_pool_refused_total{pool="web"}"#, 0.0),
        (r#"ringway_backend_up{pool="web",backend="a"}"#, 1.0),
        (r#"ringway_backend_up{pool="web",backend="b"}"#, 0.0),
        (r#"ringway_backend_state{pool="web",backend="b",state="maintenance"}"#, 1.0),
        (r#"ringway_backend_state{pool="web",backend="b",state="up"}"#, 0.0),
        (r#"ringway_backend_weight{pool="web",backend="b"}"#, 7.0),
        (r#"ringway_backend_connections{pool="web",backend="a"}"#, 5.0),
        (r#"ringway_backend_connect_errors_total{pool="web",backend="a",reason="refused"}"#, 2.0),
        (r#"ringway_backend_connect_errors_total{pool="web",backend="a",reason="timeout"}"#, 0.0),
        (r#"ringway_backend_bytes_total{pool="web",backend="a",direction="to_client"}"#, 2000.0),
        (r#"ringway_backend_bytes_total{pool="web",backend="a",direction="to_backend"}"#, 0.0),
        (r#"ringway_backend_checks_total{pool="web",backend="a",result="success"}"#, 4.0),
        (r#"ringway_backend_transitions_total{pool="web",backend="a",to="down"}"#, 1.0),
        (r#"ringway_worker_connections{worker="1"}"#, 3.0),
        (r#"ringway_worker_busy_seconds_total{worker="0"}"#, 1.25),
        (r#"ringway_worker_spliced_bytes_total{worker="0"}"#, 1_099_511_627_776.0),
    ] {
        assert_eq!(series.get(name), Some(&value), "{name} among {:#?}", series.keys());
    }
    assert!(series.contains_key(r#"ringway_worker_kernel_threads{worker="1"}"#));
    assert!(!series.contains_key(r#"ringway_sessions_total{listener="web",pool="web",termination="SC"}"#));
}

#[test]
fn histograms_are_cumulative_and_end_in_their_count() {
    let (series, _) = metrics_of(admin());
    let bucket = |bound: &str| series[&format!(r#"ringway_connect_seconds_bucket{{pool="web",le="{bound}"}}"#)];
    assert_eq!([bucket("0.00005"), bucket("0.0001"), bucket("0.00025"), bucket("+Inf")], [0.0, 1.0, 2.0, 2.0]);
    assert_eq!(series[r#"ringway_connect_seconds_count{pool="web"}"#], 2.0);
    assert!((series[r#"ringway_connect_seconds_sum{pool="web"}"#] - 0.000_200_001).abs() < 1e-15);
    let check = r#"ringway_check_seconds_bucket{pool="web",backend="a",le="0.0025"}"#;
    assert_eq!(series[check], 1.0);
}

#[test]
fn what_is_exported_is_what_is_listed() {
    let (series, types) = metrics_of(admin());
    let listed: BTreeMap<_, _> = list::ALL
        .iter()
        .map(|metric| {
            let kind = match metric.kind {
                MetricKind::Counter => "counter",
                MetricKind::Gauge => "gauge",
                MetricKind::Histogram => "histogram",
            };
            (metric.name.to_owned(), kind.to_owned())
        })
        .collect();
    assert_eq!(types, listed);
    for name in series.keys() {
        let (base, labels) = name.trim_end_matches('}').split_once('{').unwrap_or((name, ""));
        let is = |metric: &&&list::Metric| {
            base == metric.name || (metric.kind == MetricKind::Histogram && base.starts_with(metric.name))
        };
        let metric = list::ALL.iter().find(is).unwrap();
        let names: BTreeSet<_> = labels.split(',').filter_map(|pair| pair.split_once('=')).map(|pair| pair.0).collect();
        let mut expected: BTreeSet<_> = metric.labels.iter().copied().collect();
        if base.ends_with("_bucket") {
            expected.insert("le");
        }
        assert_eq!(names, expected, "{name}");
    }
}

#[test]
fn only_what_exists_is_found_and_nothing_is_written() {
    let requests =
        ["GET /live", "GET /", "GET /metrics/", "POST /metrics", "DELETE /nowhere", "PATCH /v1/x", "HEAD /live"];
    let statuses: Vec<_> = ask(admin(), &requests).iter().map(|answer| answer.0).collect();
    assert_eq!(statuses, [200, 200, 404, 403, 403, 403, 200]);
}

#[test]
fn ready_means_that_clients_are_accepted() {
    let admin = admin();
    let ready =
        |admin: &ApiContext| ask(admin.clone(), &["GET /ready", "GET /live"]).iter().map(|a| a.0).collect::<Vec<_>>();
    assert_eq!(ready(&admin), [200, 200]);
    admin.stats.workers[1].worker.running.set(0);
    assert_eq!(ready(&admin), [503, 200], "a worker that is not there yet");
    admin.stats.workers[1].worker.running.set(1);
    let publish = |phase| {
        let reader = admin.cell.reader();
        let table = Table { generation: admin.cell.generation() + 1, phase, ..reader.pin().clone() };
        admin.cell.publish(table);
    };
    publish(Phase::Draining { until: Moment::NEVER });
    assert_eq!(ready(&admin), [503, 200]);
    publish(Phase::Stopping);
    assert_eq!(ready(&admin), [503, 200]);
}

/// Each backend checked, each pool used by both workers.
fn admin_of(backends: usize) -> ApiContext {
    let names: Vec<String> = (0..backends).map(|number| format!("backend-{number}")).collect();
    let names: Vec<&str> = names.iter().map(String::as_str).collect();
    let pools: Vec<_> = names.chunks(20).enumerate().map(|(n, names)| pool(&format!("pool-{n}"), names)).collect();
    let (stats, counts) = (Stats::new(2), Counts::new());
    for slot in 0..backends {
        stats.control.backends.get(slot).check_ns.record_ns(1_000_000);
        stats.workers.iter().for_each(|worker| worker.backends.get(slot).connections_total.add(1));
    }
    let table = first_table(&Arc::new(config(pools)));
    ApiContext {
        cell: Arc::new(Cell::new(table)),
        stats: Arc::new(stats),
        counts: Arc::new(counts),
        connections_max: 0,
        io: ChosenDriver { driver: Driver::Epoll, reason: "a test says so".to_owned() },
        ask: Arc::new(|_, _| ()),
        asker: command::channel().0,
        clock: Clock::new(),
    }
}

/// Built as `release`, this is the promise of 50 ms; built without optimisation it takes some ten times as long.
#[test]
fn a_scrape_of_a_thousand_backends_does_not_hold_control_up() {
    let (admin, clock) = (admin_of(1000), crate::base::time::Clock::new());
    let once = || {
        let begun = clock.now();
        let text = metrics::render(&admin);
        assert!(text.matches("ringway_backend_up{").count() == 1000, "all of them");
        clock.now().since_ns(begun) / 1_000_000
    };
    let fastest_ms = (0..5).map(|_| once()).min().unwrap();
    let max_ms = if cfg!(debug_assertions) { 1500 } else { 50 };
    println!("{fastest_ms} ms");
    assert!(fastest_ms < max_ms, "{fastest_ms} ms");
}

/// Another name than ours is that of a page whose visitors' browsers are made to ask.
#[test]
fn addresses_localhost_and_known_names_may_ask() {
    let names = [NamePattern::new("*.ops.example").unwrap(), NamePattern::new("lb").unwrap()];
    let known =
        ["127.0.0.1", "10.0.0.1:9900", "[::1]", "[fd00::1]:9900", "localhost", "LocalHost:1", "A.ops.example:9", "lb"];
    let unknown = ["evil.example", "ops.example", "127.0.0.1.evil.example", "lb.evil", "", "a b", "localhost.evil:9"];
    assert!(known.iter().all(|host| is_known(host, &names)));
    assert!(unknown.iter().all(|host| !is_known(host, &names)));
}
