//! The dashboard and the alerts that are shipped, asked of a real Prometheus that scrapes a real ringway.

use std::io::{Read, Write};
use std::net::TcpStream;
use std::path::Path;
use std::process::Command;
use std::time::Duration;

use serde_json::Value;

use crate::harness::address::{own_ip, refusing};
use crate::harness::authority::Authority;
use crate::harness::process::{Process, program, run};
use crate::harness::{Backend, End, Listener, PATIENCE, Peer, Ringway, wait_until};

const DASHBOARD: &str = include_str!("../../conf/grafana/ringway.json");
const ALERTS: &str = concat!(env!("CARGO_MANIFEST_DIR"), "/conf/prometheus/alerts.yml");
const GUIDE: &str = include_str!("../../docs/operating.md");

/// A Prometheus of its own.
struct Prometheus {
    address: String,
    _process: Process,
    _folder: tempfile::TempDir,
}

impl Prometheus {
    /// `None` if there is none on this machine.
    fn scraping(target: &str) -> Option<Prometheus> {
        let path = program(&["/usr/bin/prometheus"], "prometheus")?;
        let folder = tempfile::tempdir().unwrap();
        let address = format!("{}:7500", own_ip());
        let config = format!(
            "global: {{scrape_interval: 100ms, scrape_timeout: 100ms, evaluation_interval: 100ms}}\n\
             rule_files: [{ALERTS:?}]\n\
             scrape_configs: [{{job_name: ringway, static_configs: [{{targets: [{target:?}]}}]}}]\n"
        );
        let file = folder.path().join("prometheus.yml");
        std::fs::write(&file, config).unwrap();
        let mut command = Command::new(path);
        command
            .arg(format!("--config.file={}", file.display()))
            .arg(format!("--storage.tsdb.path={}", folder.path().join("data").display()))
            .arg(format!("--web.listen-address={address}"));
        let process = Process::start(&mut command);
        wait_until("prometheus is ready", || {
            TcpStream::connect(&address).is_ok() && crate::harness::metrics::get(&address, "/-/ready").0 == 200
        });
        Some(Prometheus { address, _process: process, _folder: folder })
    }

    fn api(&self, path: &str) -> Value {
        let mut stream = TcpStream::connect(&self.address).unwrap();
        stream.set_read_timeout(Some(PATIENCE)).unwrap();
        // The older protocol has no chunks.
        write!(stream, "GET /api/v1/{path} HTTP/1.0\r\nHost: prometheus\r\n\r\n").unwrap();
        let mut answer = String::new();
        stream.read_to_string(&mut answer).unwrap();
        let body = answer.split_once("\r\n\r\n").map_or("", |(_, body)| body);
        serde_json::from_str(body).unwrap_or_else(|error| panic!("{path}: {error}: {answer}"))
    }

    /// The series a query has now; it must be one that can be answered.
    fn query(&self, query: &str) -> Vec<Value> {
        let answer = self.api(&format!("query?query={}", encoded(query)));
        assert_eq!(answer["status"], "success", "{query}: {answer}");
        answer["data"]["result"].as_array().unwrap().clone()
    }
}

fn encoded(text: &str) -> String {
    let byte = |byte: u8| match byte {
        b'a'..=b'z' | b'A'..=b'Z' | b'0'..=b'9' => char::from(byte).to_string(),
        _ => format!("%{byte:02X}"),
    };
    text.bytes().map(byte).collect()
}

/// Every query of the dashboard, with the title of its panel.
fn queries() -> Vec<(String, String)> {
    let dashboard: Value = serde_json::from_str(DASHBOARD).unwrap();
    let mut found = Vec::new();
    for panel in dashboard["panels"].as_array().unwrap().iter().filter(|panel| panel["type"] != "row") {
        let title = panel["title"].as_str().unwrap();
        let targets = panel["targets"].as_array().unwrap();
        assert!(!targets.is_empty(), "{title} shows nothing");
        found.extend(targets.iter().map(|target| (title.to_string(), target["expr"].as_str().unwrap().to_string())));
    }
    for variable in dashboard["templating"]["list"].as_array().unwrap().iter().filter(|one| one["type"] == "query") {
        let (metric, label) = variable["query"]["query"]
            .as_str()
            .unwrap()
            .strip_prefix("label_values(")
            .unwrap()
            .trim_end_matches(')')
            .split_once(", ")
            .unwrap();
        found.push((variable["name"].as_str().unwrap().to_string(), format!("count by ({label}) ({metric})")));
    }
    found
}

/// As Grafana asks them, with everything selected.
fn filled_in(query: &str) -> String {
    let names = [("$__rate_interval", "30s"), ("$__range", "5m"), ("$instance", ".*"), ("$pool", ".*")];
    names.iter().fold(query.to_string(), |query, (name, value)| query.replace(name, value))
}

/// The metrics of ringway that a query names.
fn metrics_in(query: &str) -> Vec<&str> {
    let words = query.split(|c: char| !c.is_ascii_alphanumeric() && c != '_');
    words.filter(|word| word.starts_with("ringway_")).collect()
}

/// Sessions that end well, clients that wait for too long, backends that refuse.
fn traffic(ringway: &Ringway, full: &str) {
    for _ in 0..20 {
        let mut client = ringway.connect();
        client.send(b"x");
        client.expect(b"x");
    }
    let waiting: Vec<_> = (0..3).map(|_| Peer::connect(full)).collect();
    waiting.into_iter().for_each(|mut client| assert_eq!(client.end(), End::Reset));
}

#[test]
fn every_query_of_the_dashboard_and_the_alerts_has_an_answer() {
    let (backend, silent, dead) = (Backend::echo(), Listener::new(), refusing());
    let full = format!("{}:7008", own_ip());
    let authority = Authority::new();
    let days = |days: u64| std::time::SystemTime::now() + Duration::from_secs(days * 86_400 + 60);
    let [ending, fine] = [("ending", 13), ("fine", 14)].map(|(name, left)| {
        let end = rcgen::date_time_ymd(1970, 1, 1) + days(left).duration_since(std::time::UNIX_EPOCH).unwrap();
        authority.sign_as(name, &[name], &rcgen::KeyPair::generate().unwrap(), |params| params.not_after = end)
    });
    let ringway = Ringway::plan()
        .backend("a", backend.address(), "")
        .backend("dead", &dead, "")
        .pool("balance = \"round_robin\"")
        .never_ejecting()
        .more(&format!(
            "[listeners.full]\nbind = \"{full}\"\npool = \"full\"\n[pools.full]\ncheck.type = \"off\"\n\
             queue_timeout = \"100ms\"\n[[pools.full.backends]]\naddress = \"{}\"\nconnections_max = 1\n\
             [pools.down]\n[pools.down.check]\nfall = 1\ninterval = \"50ms\"\n[[pools.down.backends]]\n\
             name = \"gone\"\naddress = \"{dead}\"\n[listeners.tls]\nbind = \"127.0.0.1:0\"\n\
             pool = \"main\"\n[listeners.tls.tls]\ncertificates = [{{ cert = {:?}, key = {:?} }}, \
             {{ cert = {:?}, key = {:?} }}]\n",
            silent.address(),
            ending.certificate,
            ending.key,
            fine.certificate,
            fine.key
        ))
        .start();
    let _holder = Peer::connect(&full);
    let _held = silent.accept();
    let Some(prometheus) = Prometheus::scraping(ringway.admin()) else { return };
    wait_until("it is scraped", || !prometheus.query("ringway_build_info").is_empty());
    traffic(&ringway, &full);
    std::thread::sleep(Duration::from_millis(500));
    traffic(&ringway, &full);

    let queries = queries();
    assert!(queries.len() > 30);
    for (title, query) in &queries {
        let mut last = Vec::new();
        let has_data = || {
            last = prometheus.query(&filled_in(query));
            !last.is_empty()
        };
        let waited = crate::harness::wait_for(PATIENCE, has_data);
        assert!(waited.is_some(), "{title:?} has no data: {query}");
    }
    alerts_can_be_evaluated(&prometheus);
    let alerting = |name: &str, label: &str, value: &str| {
        let alerts = prometheus.api("alerts");
        let alerts = alerts["data"]["alerts"].as_array().unwrap();
        alerts.iter().any(|alert| alert["labels"]["alertname"] == name && alert["labels"][label] == value)
    };
    wait_until("the one that is down is noticed", || alerting("RingwayBackendDown", "backend", "gone"));
    assert!(!alerting("RingwayBackendDown", "backend", "a"), "and no other");
    wait_until("the one that ends is noticed", || alerting("RingwayCertificateExpires", "name", "ending"));
    assert!(!alerting("RingwayCertificateExpires", "name", "fine"), "and no other");
    assert!(!alerting("RingwayCertificateBroken", "listener", "tls"));
    std::fs::write(&fine.key, "nothing").unwrap();
    wait_until("the one that is broken is noticed", || alerting("RingwayCertificateBroken", "listener", "tls"));
}

/// Each alert is evaluated without an error, from metrics that exist, and says what to do.
fn alerts_can_be_evaluated(prometheus: &Prometheus) {
    let rules = || prometheus.api("rules")["data"]["groups"][0]["rules"].as_array().unwrap().clone();
    wait_until("all are evaluated", || rules().iter().all(|rule| rule["health"] == "ok"));
    let rules = rules();
    assert!(rules.len() > 8);
    for rule in rules {
        let (name, query) = (rule["name"].as_str().unwrap(), rule["query"].as_str().unwrap());
        for metric in metrics_in(query) {
            assert!(!prometheus.query(metric).is_empty(), "{name} asks for {metric}, which is not there");
        }
        assert!(["critical", "warning"].contains(&rule["labels"]["severity"].as_str().unwrap()), "{name}");
        for annotation in ["summary", "description", "runbook"] {
            assert!(
                rule["annotations"][annotation].as_str().is_some_and(|text| !text.is_empty()),
                "{name}: {annotation}"
            );
        }
        let runbook = rule["annotations"]["runbook"].as_str().unwrap();
        assert!(runbook.starts_with(&format!("docs/operating.md#{}: ", name.to_lowercase())), "{runbook}");
        assert!(GUIDE.lines().any(|line| line == format!("### {name}")), "docs/operating.md has no {name}");
    }
}

#[test]
fn promtool_finds_no_fault_in_the_alerts() {
    let Some(promtool) = program(&["/usr/bin/promtool"], "prometheus") else { return };
    assert!(Path::new(ALERTS).exists());
    let ended = run(Command::new(promtool).args(["check", "rules", "--lint-fatal", ALERTS]));
    assert!(ended.status.success(), "{}{}", ended.stdout, ended.stderr);
}

#[test]
fn the_dashboard_names_only_metrics_that_ringway_has() {
    let known: Vec<&str> = ringway::stats::list::ALL.iter().map(|metric| metric.name).collect();
    let alerts = std::fs::read_to_string(ALERTS).unwrap();
    let suffixes = ["_bucket", "_sum", "_count"];
    let expressions = alerts.lines().filter(|line| line.trim().starts_with("expr:"));
    let all: Vec<String> = queries().into_iter().map(|(_, query)| query).chain(expressions.map(String::from)).collect();
    for query in &all {
        for name in metrics_in(query) {
            let base = suffixes.iter().find_map(|suffix| name.strip_suffix(suffix)).unwrap_or(name);
            assert!(known.contains(&name) || known.contains(&base), "{name} in {query}");
        }
    }
    let used = |metric: &str| all.iter().any(|query| metrics_in(query).iter().any(|name| name.starts_with(metric)));
    for metric in ["ringway_check_seconds", "ringway_queue_seconds", "ringway_sessions_total"] {
        assert!(used(metric), "{metric}");
    }
}
