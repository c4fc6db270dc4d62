//! A real Patroni: its members and its leader key as a source reads them, and what a switchover is to clients.

use std::time::{Duration, Instant};

use ringway::discover::found::News;

use crate::harness::address::own_ip;
use crate::harness::etcd::{Etcd, Listened, as_documented};
use crate::harness::patroni::{Patroni, programs};
use crate::harness::postgresql::{Cluster, folder};
use crate::harness::{PATIENCE, Ringway, timed, wait_until};

/// From the promotion until a new session has written to the new primary.
const SWITCHOVER_MAX: Duration = Duration::from_millis(500);

#[test]
fn members_are_found_and_a_switchover_is_told_before_the_promotion() {
    let Some(programs) = programs() else { return };
    let cluster = Patroni::start(programs, 2);
    let source = Listened::to_patroni(&cluster.etcd.endpoint());
    let lines: Vec<String> = cluster.nodes.iter().map(|node| format!("{} {} 1 0", node.name, node.address())).collect();
    source.heard.wait_found(&lines.iter().map(String::as_str).collect::<Vec<_>>());
    cluster.wait_healthy();
    let hints = || source.heard.all().into_iter().filter(|news| matches!(news, News::Hint(_))).collect::<Vec<_>>();
    assert_eq!(hints(), [], "nothing has changed yet");
    let next = cluster.replica();
    let promoted = next.promoted();
    let hinted = std::thread::scope(|scope| {
        let hinted = scope.spawn(|| {
            wait_until("the hint", || !hints().is_empty());
            Instant::now()
        });
        cluster.switch_over(&next.name);
        hinted.join().unwrap()
    });
    let promoted = promoted.join().unwrap();
    assert!(hinted < promoted, "{:?} late", hinted - promoted);
    eprintln!("the hint came {:?} before the promotion", promoted - hinted);
    assert_eq!(hints(), [News::Hint(next.name.as_str().into())]);
    assert!(source.heard.failures().is_empty(), "{:?}", source.heard.all());
}

/// Which server takes a row from a new client, if one does.
async fn written_to(address: &str) -> Result<String, Box<dyn std::error::Error>> {
    let stream = tokio::net::TcpStream::connect(address).await?;
    let mut config = tokio_postgres::Config::new();
    let (client, connection) =
        config.user("ringway").dbname("postgres").connect_raw(stream, tokio_postgres::NoTls).await?;
    let connection = tokio::spawn(connection);
    let statement = "insert into written default values returning host(inet_server_addr())";
    let row = client.query_one(statement, &[]).await?;
    drop(client);
    connection.await??;
    Ok(row.get(0))
}

/// When a new client first writes to that server. One comes every 5 ms, as soon as the one before has left.
fn first_row_in(ip: &str, through: &str) -> std::thread::JoinHandle<Instant> {
    let (ip, through) = (ip.to_string(), through.to_string());
    std::thread::spawn(move || {
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
        let begun = Instant::now();
        while begun.elapsed() < PATIENCE {
            match runtime.block_on(written_to(&through)) {
                Ok(server) if server == ip => return Instant::now(),
                _ => std::thread::sleep(Duration::from_millis(5)),
            }
        }
        panic!("no client has written to {ip}");
    })
}

/// The configuration of the document, with the endpoint, the file and the addresses of this test.
#[test]
fn a_switchover_moves_writers_within_500_ms_of_the_promotion() {
    let Some(programs) = programs() else { return };
    let bin = folder().unwrap();
    let cluster = Patroni::start(programs, 2);
    let password = tempfile::NamedTempFile::new().unwrap();
    std::fs::write(password.path(), "geheim").unwrap();
    let ip = own_ip().to_string();
    let ringway = as_documented(
        include_str!("../../docs/patroni.md"),
        &[
            ("http://10.0.0.1:2379", &cluster.etcd.endpoint()),
            (", \"http://10.0.0.2:2379\", \"http://10.0.0.3:2379\"", ""),
            ("/etc/ringway/pg.pass", &password.path().display().to_string()),
            ("0.0.0.0", &ip),
        ],
    );
    let leader = cluster.node(&cluster.leader().unwrap());
    let made =
        "create role ringway login superuser password 'geheim'; create table written (at timestamptz default now())";
    wait_until("the role is made", || leader.try_sql(&bin, made).is_some());
    let mut took = Vec::new();
    for _ in 0..3 {
        cluster.wait_healthy();
        let next = cluster.replica();
        let (promoted, written) = (next.promoted(), first_row_in(next.ip(), &ringway.addresses[0]));
        cluster.switch_over(&next.name);
        let (promoted, written) = (promoted.join().unwrap(), written.join().unwrap());
        took.push(written.saturating_duration_since(promoted));
    }
    eprintln!("from the promotion to a row of a new client: {took:?}");
    assert!(took.iter().all(|took| *took < SWITCHOVER_MAX), "{took:?}: {}", ringway.process.output());
    let output = ringway.process.output();
    assert!(!output.contains("two backends say"), "{output}");
}

/// A member as Patroni describes it.
fn put_member(etcd: &Etcd, name: &str, cluster: &Cluster) {
    let value = format!(r#"{{"conn_url":"postgres://{}/postgres","state":"running"}}"#, cluster.address());
    etcd.put(&format!("/service/main/members/{name}"), &value);
}

#[test]
fn a_leader_key_that_lies_makes_no_second_primary_and_only_has_roles_checked_often() {
    let (Some(programs), Some(bin)) = (crate::harness::etcd::programs(), folder()) else { return };
    let etcd = Etcd::start(&programs);
    let primary = Cluster::start(&bin);
    let replica = primary.replica();
    put_member(&etcd, "p", &primary);
    put_member(&etcd, "r", &replica);
    etcd.put("/service/main/leader", "p");
    let pace = "interval = \"60s\"\nfast_interval = \"60s\"\ndown_interval = \"60s\"";
    let source = format!("type = \"patroni\"\nscope = \"main\"\nendpoints = [{:?}]", etcd.endpoint());
    let ringway = Ringway::plan()
        .check_only(&format!("type = \"postgresql\"\nuser = \"postgres\"\nrole = \"primary\"\n{pace}"))
        .more(&format!("[pools.main.discover]\n{source}"))
        .start();
    ringway.wait_up("main", "p", true);
    let changes = || ringway.metrics().count("backend_transitions_total", &[("backend", "p")]);
    let before = changes();
    etcd.put("/service/main/leader", "r");
    // The usual ones come once per minute.
    ringway.wait_checks("r", 10);
    ringway.wait_checks("p", 5);
    let up = |name| ringway.metrics().count("backend_up", &[("backend", name)]);
    assert_eq!((up("p"), up("r"), changes()), (1, 0, before));
    assert!(!ringway.process().output().contains("two backends say"), "{}", ringway.process().output());
    // Now it tells the truth.
    etcd.put("/service/main/leader", "p");
    etcd.put("/service/main/leader", "r");
    replica.promote();
    let (took, ()) = timed(|| ringway.wait_up("main", "r", true));
    assert!(took < Duration::from_secs(1), "{took:?}");
    assert_eq!(up("p"), 0);
}
