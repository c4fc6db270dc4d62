//! Real PostgreSQL clusters behind ringway.

use std::path::Path;
use std::process::Command;
use std::time::Duration;

use crate::harness::Ringway;
use crate::harness::postgresql::{Cluster, folder, pgbench, run};
use crate::harness::process::Ended;

/// Transactions that a run of pgbench says it has made.
fn transactions(ended: &Ended) -> u64 {
    let line = ended.stdout.lines().find(|line| line.starts_with("number of transactions actually processed"));
    let number = line.and_then(|line| line.rsplit(' ').next()?.split('/').next()?.parse().ok());
    number.unwrap_or_else(|| panic!("{}{}", ended.stdout, ended.stderr))
}

#[track_caller]
fn assert_clean(ended: &Ended) {
    assert!(ended.status.success(), "{}{}", ended.stdout, ended.stderr);
    for word in ["error", "aborted", "FATAL"] {
        assert!(!ended.stderr.contains(word), "{}", ended.stderr);
    }
    assert!(transactions(ended) > 50, "{}", ended.stdout);
}

fn sessions_of(ringway: &Ringway, backend: &str) -> u64 {
    ringway.metrics().count("backend_connections_total", &[("backend", backend)])
}

fn two(bin: &Path) -> ([Cluster; 2], Ringway) {
    let clusters = [Cluster::start(bin), Cluster::start(bin)];
    let addresses = [clusters[0].address(), clusters[1].address()];
    let ringway = Ringway::before(addresses.iter().map(String::as_str)).checked(2, 2).start();
    (clusters, ringway)
}

#[test]
fn pgbench_runs_through_it_and_a_cluster_is_killed_and_comes_back() {
    let Some(bin) = folder() else { return };
    let (mut clusters, ringway) = two(&bin);
    let at = ringway.address();
    assert_clean(&run(&mut pgbench(&bin, at, &["-S", "-n", "-c", "8", "-j", "2", "-t", "200"])));
    assert_clean(&run(&mut pgbench(&bin, at, &["-n", "-c", "4", "-t", "20"])));
    assert_clean(&run(&mut pgbench(&bin, at, &["-S", "-n", "-C", "-c", "2", "-t", "40"])));
    assert!(sessions_of(&ringway, "a").abs_diff(sessions_of(&ringway, "b")) <= 1, "in turn");

    // A server process that has not left yet would be cut.
    ringway.wait_idle();
    clusters[1].kill();
    // Every connection from now on finds the other one, before and after the checks have noticed.
    assert_clean(&run(&mut pgbench(&bin, at, &["-S", "-n", "-C", "-c", "2", "-t", "40"])));
    ringway.wait_metrics("it is out", |metrics| metrics.count("backend_up", &[("backend", "b")]) == 0);
    assert_clean(&run(&mut pgbench(&bin, at, &["-S", "-n", "-c", "8", "-j", "2", "-t", "100"])));

    clusters[1].restart();
    ringway.wait_metrics("it is back", |metrics| metrics.count("backend_up", &[("backend", "b")]) == 1);
    let before = sessions_of(&ringway, "b");
    assert_clean(&run(&mut pgbench(&bin, at, &["-S", "-n", "-C", "-c", "2", "-t", "40"])));
    assert!(sessions_of(&ringway, "b") >= before + 40, "it has its share again");
    ringway.wait_idle();
    let codes = ringway.metrics().codes();
    assert!(codes.iter().all(|(code, _)| ["--", "CD", "CL"].contains(&code.as_str())), "no session was cut: {codes:?}");
}

/// Clients in the middle of something lose their connection immediately; those of the other cluster notice nothing.
#[test]
fn a_crash_under_load_ends_the_sessions_of_that_cluster_only() {
    let Some(bin) = folder() else { return };
    let (mut clusters, ringway) = two(&bin);
    let mut load = pgbench(&bin, ringway.address(), &["-S", "-n", "-c", "8", "-j", "2", "-T", "3"]);
    let load = std::thread::spawn(move || run(&mut load));
    ringway.wait_metrics("all eight are connected", |metrics| metrics.count("connections", &[]) == 8);
    std::thread::sleep(Duration::from_millis(500));
    clusters[1].kill();
    let ended = load.join().unwrap();
    let aborted = ended.stderr.lines().filter(|line| line.contains("aborted")).count();
    assert!(ended.stderr.matches("aborted").count() >= 4 && transactions(&ended) > 50, "{aborted}: {}", ended.stderr);
    ringway.wait_idle();
    let metrics = ringway.metrics();
    let of = |code: &str| metrics.ended(code);
    let whole = of("--") + of("CD");
    assert!(whole >= 4, "four went on to the end: {:?}", metrics.codes());
}

/// A result that takes splice mode.
#[test]
fn a_large_result_arrives_whole() {
    let Some(bin) = folder() else { return };
    let cluster = Cluster::start(&bin);
    let ringway = Ringway::before([&*cluster.address()]).start();
    let (ip, port) = ringway.address().rsplit_once(':').unwrap();
    let mut psql = Command::new(bin.join("psql"));
    psql.args(["-h", ip, "-p", port, "-U", "postgres", "-At", "-c"]);
    psql.args(["select md5(string_agg(x, ',')) from (select repeat(i::text, 100) x from generate_series(1, 5) i) y"]);
    assert!(run(&mut psql).status.success());
    let mut psql = Command::new(bin.join("psql"));
    psql.args(["-h", ip, "-p", port, "-U", "postgres", "-At", "-o", "/dev/null", "-c"]);
    psql.args(["select i, repeat('x', 1000) from generate_series(1, 20000) i"]);
    let ended = run(&mut psql);
    assert!(ended.status.success(), "{}", ended.stderr);
    let bytes = ringway.metrics().count("backend_bytes_total", &[("direction", "to_client")]);
    assert!(bytes > 20_000_000, "{bytes}");
}
