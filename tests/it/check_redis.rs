//! Checks of a real Redis: passwords, accounts, roles.

use crate::harness::Ringway;
use crate::harness::redis::{Redis, programs};

const CHECK: &str = "type = \"redis\"\nrise = 1\nfall = 1\ntimeout = \"5s\"\n";

#[test]
fn a_check_logs_in_as_the_default_user_or_as_another_one() {
    let Some([server, _, _]) = programs() else { return };
    let redis = Redis::configured(&server, &["--requirepass", "geheim", "--user", "check", "on", ">wort", "+ping"]);
    let folder = tempfile::tempdir().unwrap();
    let file = |name: &str, text: &str| {
        std::fs::write(folder.path().join(name), text).unwrap();
        format!("password_file = \"{}\"\n", folder.path().join(name).display())
    };
    let other = |name: &str, lines: &str| {
        format!(
            "[pools.{name}.check]\n{CHECK}interval = \"50ms\"\n{lines}\n[[pools.{name}.backends]]\nname = \"x\"\n\
             address = \"{}\"\n",
            redis.address()
        )
    };
    let account = format!("user = \"check\"\n{}", file("wort", "wort"));
    let ringway = Ringway::before([&*redis.address()])
        .checks(&format!("{CHECK}initial = \"down\"\n{}", file("geheim", "geheim\n")))
        .more(&other("account", &format!("initial = \"down\"\n{account}")))
        .more(&other("wrong", &file("wrong", "falsch")))
        .more(&other("none", ""))
        .more(&other("more", &format!("{account}role = \"replica\"")))
        .start();
    ringway.wait_up("main", "a", true);
    ringway.wait_up("account", "x", true);
    for pool in ["wrong", "none", "more"] {
        ringway.wait_metrics("it lives and refuses", |metrics| {
            metrics.count("backend_checks_total", &[("pool", pool), ("result", "refused")]) > 2
        });
    }
    ringway.wait_up("wrong", "x", true);
    ringway.wait_up("none", "x", true);
    ringway.wait_up("more", "x", false); // its role was never known
    for reason in ["WRONGPASS", "set `password_file`", "NOPERM"] {
        ringway.wait_said(reason);
    }
    let said = ringway.process().output().replace(folder.path().to_str().unwrap(), "");
    let said = said.replace("/geheim", "");
    for secret in ["geheim", "falsch"] {
        assert!(!said.replace(&folder.path().display().to_string(), "").contains(secret), "{said}");
    }
}

#[test]
fn roles_are_told_and_a_replica_without_its_primary_is_the_stalest() {
    let Some([server, cli, _]) = programs() else { return };
    let mut primary = Redis::start(&server);
    let ip = primary.address().split(':').next().unwrap().to_string();
    let replica = Redis::configured(&server, &["--replicaof", &ip, "6379", "--repl-diskless-sync-delay", "0"]);
    let backends = |pool: &str| {
        let backend =
            |name, address| format!("[[pools.{pool}.backends]]\nname = \"{name}\"\naddress = \"{address}\"\n");
        backend("p", primary.address()) + &backend("r", replica.address())
    };
    let pool = |name: &str, lines: &str| {
        let pace = "interval = \"50ms\"\nfast_interval = \"50ms\"\ndown_interval = \"50ms\"\n";
        format!("[pools.{name}.check]\n{CHECK}{pace}initial = \"down\"\n{lines}\n{}", backends(name))
    };
    let ringway = Ringway::plan()
        .backend("p", &primary.address(), "")
        .backend("r", &replica.address(), "")
        .checks(&format!("{CHECK}role = \"primary\""))
        .more(&pool("read", "role = \"replica\"\nlag_max = \"30s\""))
        .more(&pool("strict", "role = \"replica\"\nlag_strict = true"))
        .more(&pool("any", ""))
        .start();
    for (pool, backend, up) in
        [("main", "p", true), ("read", "r", true), ("any", "r", true), ("main", "r", false), ("read", "p", false)]
    {
        ringway.wait_up(pool, backend, up);
    }
    primary.process.kill();
    ringway.wait_up("main", "p", false);
    ringway.wait_up("strict", "r", false);
    ringway.wait_said("whose link to its primary is not up");
    ringway.wait_checks("r", 6);
    let up = ringway.metrics().count("backend_up", &[("pool", "any"), ("backend", "r")]);
    assert_eq!(up, 1, "who does not ask for a role may still read from it");
    let up = ringway.metrics().count("backend_up", &[("pool", "read"), ("backend", "r")]);
    assert_eq!(up, 1, "and no replica hears its primary: the stalest is better than none");
    assert_eq!(ringway.metrics().count("pool_serves_stale", &[("pool", "read")]), 1);
    let (ip, port) = replica.address().rsplit_once(':').map(|(ip, port)| (ip.to_string(), port.to_string())).unwrap();
    let mut command = std::process::Command::new(cli);
    let ended = crate::harness::process::run(command.args(["-h", &ip, "-p", &port, "REPLICAOF", "NO", "ONE"]));
    assert_eq!(ended.stdout.trim(), "OK");
    ringway.wait_up("main", "r", true);
}
