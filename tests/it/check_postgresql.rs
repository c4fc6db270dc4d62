//! Checks of a real PostgreSQL: logging in, leaving no trace, roles and lag.

use std::time::Duration;

use crate::harness::postgresql::{Cluster, folder};
use crate::harness::{Ringway, wait_for};

/// A file with a password.
fn password(text: &str) -> tempfile::NamedTempFile {
    let file = tempfile::NamedTempFile::new().unwrap();
    std::fs::write(file.path(), text).unwrap();
    file
}

#[test]
fn a_check_logs_in_by_scram_over_tls_and_reads_its_password_anew() {
    let Some(bin) = folder() else { return };
    let hba = "hostssl all scram all scram-sha-256\nhostssl all md5 all md5\nhost all scram,md5 all reject";
    let cluster = Cluster::configured(&bin, "ssl = on\nlog_connections = off\n", hba);
    cluster.sql("create user scram password 'geheim'");
    cluster.sql("set password_encryption = md5; create user md5 password 'geheim'");
    let file = password("geheim\n");
    let login = |user: &str| {
        let path = file.path().display();
        format!("type = \"postgresql\"\nuser = \"{user}\"\npassword_file = \"{path}\"\ninitial = \"down\"\nfall = 1")
    };
    let address = cluster.address();
    let second = format!(
        "[pools.md5.check]\n{}\ninterval = \"50ms\"\n[[pools.md5.backends]]\nname = \"b\"\naddress = \"{address}\"",
        login("md5")
    );
    let ringway = Ringway::before([&*address]).checks(&login("scram")).more(&second).start();
    ringway.wait_up("main", "a", true);
    ringway.wait_up("md5", "b", true);
    let log = cluster.process.settled_output();
    ringway.wait_checks("a", 10);
    assert_eq!(cluster.process.settled_output(), log, "checks leave no trace in its log");
    std::fs::write(file.path(), "falsch").unwrap();
    // In the quotes of its field.
    let said =
        r#"password authentication failed for user \"scram\" (SQLSTATE 28P01); check `user` and `password_file`""#;
    ringway.wait_said(said);
    let refused = |metrics: &crate::harness::Metrics| {
        metrics.count("backend_checks_total", &[("backend", "a"), ("result", "refused")])
    };
    ringway.wait_metrics("it is refused again and again", |metrics| refused(metrics) > 5);
    assert_eq!(ringway.metrics().count("backend_up", &[("backend", "a")]), 1, "and it lives");
    std::fs::write(file.path(), "geheim").unwrap();
    ringway.wait_said("checks work again");
    let output = ringway.process().output();
    assert!(!output.contains("geheim") && !output.contains("falsch"), "{output}");
}

/// Neither where TLS is refused nor where it is taken.
#[test]
fn a_check_without_an_account_leaves_no_trace() {
    let Some(bin) = folder() else { return };
    let clusters = ["", "ssl = on\n"].map(|settings| Cluster::configured(&bin, settings, ""));
    let logs = clusters.each_ref().map(|cluster| cluster.process.settled_output());
    let addresses = clusters.each_ref().map(Cluster::address);
    let ringway = Ringway::before(addresses.iter().map(String::as_str))
        .checks("type = \"postgresql\"\ninitial = \"down\"\nrise = 1")
        .check("timeout = \"5s\"")
        .start();
    for name in ["a", "b"] {
        ringway.wait_up("main", name, true);
        ringway.wait_checks(name, 40);
    }
    for (cluster, log) in clusters.iter().zip(logs) {
        assert_eq!(cluster.process.settled_output(), log);
    }
    let failed = ringway.metrics().count("backend_checks_total", &[("result", "failure")]);
    assert_eq!(failed, 0);
    let [mut first, _second] = clusters;
    first.kill();
    ringway.wait_up("main", "a", false);
}

/// Two pools on the same two servers: one wants the primary, the other one replicas that are not far behind.
fn two_roles(primary: &Cluster, replica: &Cluster, lag: &str) -> Ringway {
    let backends = |pool: &str| {
        let backend =
            |name, address| format!("[[pools.{pool}.backends]]\nname = \"{name}\"\naddress = \"{address}\"\n");
        backend("p", primary.address()) + &backend("r", replica.address())
    };
    let check = "type = \"postgresql\"\nuser = \"postgres\"\nrise = 1\nfall = 1\ntimeout = \"5s\"";
    let read = format!(
        "[pools.read.check]\ninterval = \"50ms\"\nfast_interval = \"50ms\"\ndown_interval = \"50ms\"\n{check}\n\
         role = \"replica\"\n{lag}\ninitial = \"down\"\n{}",
        backends("read")
    );
    let plan = Ringway::plan().backend("p", &primary.address(), "").backend("r", &replica.address(), "");
    plan.checks(&format!("{check}\nrole = \"primary\"")).more(&read).start()
}

#[test]
fn roles_are_told_and_a_promotion_is_seen() {
    let Some(bin) = folder() else { return };
    let mut primary = Cluster::start(&bin);
    let replica = primary.replica();
    let ringway = two_roles(&primary, &replica, "lag_max = \"60s\"");
    for (pool, backend, up) in [("main", "p", true), ("read", "r", true), ("main", "r", false), ("read", "p", false)] {
        ringway.wait_up(pool, backend, up);
    }
    primary.kill();
    ringway.wait_up("main", "p", false);
    replica.promote();
    ringway.wait_up("main", "r", true);
    ringway.wait_up("read", "r", false);
}

#[test]
fn a_replica_that_falls_behind_is_taken_out_and_an_idle_one_is_not() {
    let Some(bin) = folder() else { return };
    let mut primary = Cluster::start(&bin);
    let replica = primary.replica();
    let ringway = two_roles(&primary, &replica, "lag_max = \"400ms\"\nlag_strict = true");
    ringway.wait_up("read", "r", true);
    // Nothing is written for longer than it may lag behind.
    let went_down = || ringway.metrics().count("backend_up", &[("pool", "read"), ("backend", "r")]) == 0;
    assert!(wait_for(Duration::from_millis(900), went_down).is_none(), "an idle primary is no lag");
    replica.sql("select pg_wal_replay_pause()");
    primary.sql("create table later (x int)");
    ringway.wait_up("read", "r", false);
    replica.sql("select pg_wal_replay_resume()");
    ringway.wait_up("read", "r", true);
    // Cut off, it has replayed all it got, and cannot know what it misses.
    primary.kill();
    ringway.wait_up("read", "r", false);
    ringway.wait_said("ms behind, more than `lag_max` (400 ms)");
}

/// Freshness chooses among replicas; when the primary is gone, all of them fall behind, and reading goes on.
#[test]
fn when_the_primary_is_gone_its_replica_goes_on_to_be_read() {
    let Some(bin) = folder() else { return };
    let mut primary = Cluster::start(&bin);
    let replica = primary.replica();
    let ringway = two_roles(&primary, &replica, "lag_max = \"400ms\"");
    ringway.wait_up("read", "r", true);
    primary.kill();
    ringway.wait_up("main", "p", false);
    ringway
        .wait_metrics("the stale one serves", |metrics| metrics.count("pool_serves_stale", &[("pool", "read")]) == 1);
    ringway.wait_said("the least stale ones serve");
    ringway.wait_checks("r", 10);
    assert_eq!(ringway.metrics().count("backend_up", &[("pool", "read"), ("backend", "r")]), 1);
    let went =
        ringway.metrics().count("backend_transitions_total", &[("pool", "read"), ("backend", "r"), ("to", "down")]);
    assert_eq!(went, 0, "and was not down for a moment");
}
