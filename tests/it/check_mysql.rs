//! Checks of a real MariaDB: logging in, roles and lag, and not being shut out.

use std::io::Read;
use std::net::TcpStream;
use std::process::Command;

use crate::harness::mariadb::{MariaDb, programs};
use crate::harness::{Ringway, wait_until};
use crate::harness::{network, process};

const CHECK: &str = "type = \"mysql\"\nrise = 1\nfall = 1\ntimeout = \"5s\"\n";
const PACE: &str = "interval = \"50ms\"\nfast_interval = \"50ms\"\ndown_interval = \"50ms\"\n";

/// A certificate of its own, as options.
fn certificate(folder: &std::path::Path) -> [String; 2] {
    let (key, certificate) = (folder.join("key.pem"), folder.join("cert.pem"));
    let mut openssl = Command::new("openssl");
    openssl.args(["req", "-x509", "-newkey", "rsa:2048", "-nodes", "-subj", "/CN=ringway", "-days", "2"]);
    let ended = process::run(openssl.arg("-keyout").arg(&key).arg("-out").arg(&certificate));
    assert!(ended.status.success(), "{}", ended.stderr);
    [format!("--ssl-cert={}", certificate.display()), format!("--ssl-key={}", key.display())]
}

#[test]
fn a_check_logs_in_by_every_way_and_over_tls() {
    let folder = tempfile::tempdir().unwrap();
    let certificate = certificate(folder.path());
    let options = ["--plugin-load-add=auth_ed25519", &certificate[0], &certificate[1]];
    let Some(server) = MariaDb::start(&options) else { return };
    server.sql("create user native identified by 'geheim'");
    server.sql("create user ed identified via ed25519 using password('geheim')");
    server.sql("create user tls identified by 'geheim' require ssl");
    let file = folder.path().join("password");
    std::fs::write(&file, "geheim\n").unwrap();
    let pool = |user: &str| {
        format!(
            "[pools.{user}.check]\n{CHECK}{PACE}user = \"{user}\"\npassword_file = \"{}\"\n\
             role = \"replica\"\n[[pools.{user}.backends]]\nname = \"x\"\naddress = \"{}\"\n",
            file.display(),
            server.address()
        )
    };
    let ringway = Ringway::before([&*server.address()]).checks(CHECK);
    let ringway = ringway.more(&(pool("native") + &pool("ed") + &pool("tls") + &pool("nobody"))).start();
    ringway.wait_said("(error 1045); check `user` and `password_file`");
    for user in ["native", "ed", "tls", "nobody"] {
        ringway.wait_up(user, "x", false);
    }
    ringway.wait_said("is a primary");
    server.sql("set global read_only = 1");
    for user in ["native", "ed", "tls"] {
        ringway.wait_up(user, "x", true);
    }
    server.sql("set global read_only = 0");
    for user in ["native", "ed", "tls"] {
        ringway.wait_up(user, "x", false);
    }
    assert!(!ringway.process().output().contains("geheim"));
    let aborted = server.sql("show global status like 'Aborted_clients'");
    assert_eq!(aborted, "Aborted_clients\t0", "every check that got in has said goodbye");
}

#[test]
fn a_replica_whose_replication_stops_is_taken_out() {
    let Some(primary) = MariaDb::start(&["--log-bin=log", "--server-id=1"]) else { return };
    let Some(replica) = MariaDb::start(&["--server-id=2", "--read-only=1"]) else { return };
    primary.sql("create user follower identified by 'f'; grant replication slave on *.* to follower");
    for server in [&primary, &replica] {
        server.sql("set sql_log_bin = 0; create user chk; grant slave monitor on *.* to chk");
    }
    let source = format!("master_host = '{}', master_user = 'follower', master_password = 'f'", primary.ip);
    replica.sql(&format!("change master to {source}, master_log_file = 'log.000001', master_log_pos = 4"));
    replica.sql("start slave");
    let ringway = Ringway::before([&*replica.address()])
        .checks(&format!(
            "{CHECK}initial = \"down\"\nuser = \"chk\"\nrole = \"replica\"\nlag_max = \"30s\"\nlag_strict = true"
        ))
        .start();
    ringway.wait_up("main", "a", true);
    replica.sql("stop slave");
    ringway.wait_up("main", "a", false);
    ringway.wait_said("does not know how far it lags behind");
    replica.sql("start slave");
    ringway.wait_up("main", "a", true);
}

/// The greeting of the server, or its reason not to greet; then the connection is left.
fn leave_at_greeting(address: &str) -> String {
    let mut greeting = [0; 256];
    let length = TcpStream::connect(address).unwrap().read(&mut greeting).unwrap();
    String::from_utf8_lossy(&greeting[..length]).into_owned()
}

/// MariaDB counts what breaks off before it has logged in, from any host but its own; that it does here is shown first.
#[test]
fn checks_without_an_account_do_not_get_the_host_shut_out() {
    shut_out_by_none(CHECK);
}

/// The default check.
#[test]
fn checks_that_only_connect_do_not_get_the_host_shut_out() {
    shut_out_by_none("type = \"tcp\"\ntimeout = \"5s\"");
}

fn shut_out_by_none(check: &'static str) {
    let Some(programs) = programs() else { return };
    network::within_own(move || {
        network::run("ip address add 10.99.7.1/32 dev lo");
        // It counts only hosts whose name it finds out, or that have none: for want of a name server, from a file.
        let hosts = tempfile::NamedTempFile::new().unwrap();
        std::fs::write(hosts.path(), "127.0.0.1 localhost\n10.99.7.1 checker\n").unwrap();
        let wrap = |server: Command| {
            let mut shell = Command::new("unshare");
            shell.args(["--mount", "sh", "-c", "mount --bind \"$0\" /etc/hosts && exec \"$@\""]).arg(hosts.path());
            shell.arg(server.get_program()).args(server.get_args());
            shell
        };
        let options = ["--max-connect-errors=3", "--log-warnings=1", "--performance-schema=on"];
        let server = MariaDb::launch(&programs, "10.99.7.1", &options, wrap);
        server.sql("create user somebody identified by 's'"); // else no client from elsewhere is greeted
        wait_until("leaving at the greeting counts", || leave_at_greeting(&server.address()).contains("is blocked"));
        server.sql("flush hosts");
        let log = server.process.settled_output();
        let ringway = Ringway::before([&*server.address()]).checks_every("5ms", check).start();
        ringway.wait_checks("a", 300);
        ringway.wait_up("main", "a", true);
        assert_eq!(ringway.metrics().count("backend_checks_total", &[("result", "failure")]), 0);
        let counted = "select sum(sum_connect_errors) from performance_schema.host_cache";
        // NULL: it has not heard of the host at all.
        assert!(["0", "NULL"].contains(&&*server.sql(counted)));
        assert_eq!(server.process.settled_output(), log, "and at this level its log says nothing of it");
        assert!(!leave_at_greeting(&server.address()).contains("is blocked"));
    });
}
