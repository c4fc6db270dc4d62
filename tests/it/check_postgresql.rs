//! Checks of a real PostgreSQL: logging in, leaving no trace, roles and lag.

use std::time::Duration;

use crate::harness::postgresql::{Cluster, folder};
use crate::harness::{Ringway, wait_for, wait_until};

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
    let log = cluster.process.output();
    ringway.wait_checks("a", 10);
    assert_eq!(cluster.process.output(), log, "checks leave no trace in its log");
    std::fs::write(file.path(), "falsch").unwrap();
    ringway.wait_up("main", "a", false);
    let said = "password authentication failed for user \"scram\" (SQLSTATE 28P01); check `user` and `password_file`";
    wait_until("it says why", || ringway.process().output().contains(said));
    std::fs::write(file.path(), "geheim").unwrap();
    ringway.wait_up("main", "a", true);
    let output = ringway.process().output();
    assert!(!output.contains("geheim") && !output.contains("falsch"), "{output}");
}

/// Neither where TLS is refused nor where it is taken.
#[test]
fn a_check_without_an_account_leaves_no_trace() {
    let Some(bin) = folder() else { return };
    let clusters = ["", "ssl = on\n"].map(|settings| Cluster::configured(&bin, settings, ""));
    let logs = clusters.each_ref().map(|cluster| cluster.process.output());
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
        assert_eq!(cluster.process.output(), log);
    }
    let failed = ringway.metrics().count("backend_checks_total", &[("result", "failure")]);
    assert_eq!(failed, 0);
    let [mut first, _second] = clusters;
    first.kill();
    ringway.wait_up("main", "a", false);
}

/// Two pools on the same two servers: one wants the primary, the other one replicas that are not far behind.
fn two_roles(primary: &Cluster, replica: &Cluster, lag_max: &str) -> Ringway {
    let backends = |pool: &str| {
        let backend =
            |name, address| format!("[[pools.{pool}.backends]]\nname = \"{name}\"\naddress = \"{address}\"\n");
        backend("p", primary.address()) + &backend("r", replica.address())
    };
    let check = "type = \"postgresql\"\nuser = \"postgres\"\nrise = 1\nfall = 1\ntimeout = \"5s\"";
    let read = format!(
        "[pools.read.check]\ninterval = \"50ms\"\nfast_interval = \"50ms\"\ndown_interval = \"50ms\"\n{check}\n\
         role = \"replica\"\nlag_max = \"{lag_max}\"\ninitial = \"down\"\n{}",
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
    let ringway = two_roles(&primary, &replica, "60s");
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
    let ringway = two_roles(&primary, &replica, "400ms");
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
    let said = ringway.process().output();
    assert!(said.contains("lags") && said.contains("behind"), "{said}");
}
