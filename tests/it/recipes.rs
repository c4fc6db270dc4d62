//! What the documents tell people to do, done.

use std::process::Command;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering::Relaxed};
use std::time::Duration;

use crate::harness::process::run;
use crate::harness::redis::{Redis, is_alive, programs};
use crate::harness::{Backend, Peer, Ringway, wait_until};

const RECIPES: &str = include_str!("../../docs/recipes.md");
const DATABASES: &str = include_str!("../../docs/databases.md");

/// The commands of a recipe, as they are printed.
fn commands(recipe: &str) -> &'static str {
    let (_, text) = RECIPES.split_once(&format!("## {recipe}\n")).expect("there is such a recipe");
    let (_, block) = text.split_once("```sh\n").expect("it has commands");
    block.split_once("```").unwrap().0
}

/// F2.
#[test]
fn a_rolling_deploy_fails_nobody() {
    let folder = tempfile::tempdir().unwrap();
    let at = |name: &str| folder.path().join(name);
    // What deploys a backend, in a place before the real one: it asks this test, and waits until that is done.
    let restart = format!(
        "#!/bin/sh\ntouch {0}/stop-$2\nuntil [ -e {0}/done-$2 ]; do sleep 0.02; done\n",
        folder.path().display()
    );
    std::fs::write(at("systemctl"), restart).unwrap();
    std::fs::set_permissions(at("systemctl"), std::os::unix::fs::PermissionsExt::from_mode(0o755)).unwrap();
    std::os::unix::fs::symlink(crate::program::program(), at("ringway")).unwrap();

    let backends = [Backend::named("1"), Backend::named("2")];
    let addresses = backends.each_ref().map(|backend| backend.address().to_string());
    let plan = Ringway::plan().backend("app1", &addresses[0], "").backend("app2", &addresses[1], "");
    let ringway = plan.checked(2, 2).start();
    let (is_over, served) = (AtomicBool::new(false), AtomicUsize::new(0));
    // They serve until the last client has been served.
    let _backends = std::thread::scope(|scope| {
        for _ in 0..2 {
            scope.spawn(|| {
                while !is_over.load(Relaxed) {
                    let name = Peer::connect(ringway.address()).read_some(1);
                    let is_served = name.as_ref().is_ok_and(|name| name == b"1" || name == b"2");
                    assert!(is_served, "{name:?}: {:?} {}", ringway.metrics().codes(), ringway.process().output());
                    served.fetch_add(1, Relaxed);
                }
            });
        }
        let deploys = scope.spawn(|| {
            let mut running = backends.map(Some);
            for (number, running) in running.iter_mut().enumerate() {
                let name = format!("app{}", number + 1);
                wait_until("it is to be deployed", || at(&format!("stop-{name}")).exists());
                running.take().unwrap().kill();
                std::thread::sleep(Duration::from_millis(200)); // it takes its time
                let word = if number == 0 { "1" } else { "2" };
                *running = Some(Backend::named_at(&addresses[number], word));
                std::fs::write(at(&format!("done-{name}")), "").unwrap();
            }
            running
        });
        let text = commands("A rolling deploy").replace("app1 app2 app3", "app1 app2").replace("web/", "main/");
        let path = format!("{}:{}", folder.path().display(), std::env::var("PATH").unwrap());
        let mut shell = Command::new("sh");
        let ended = run(shell.args(["-c", &text]).env("PATH", path).env("RINGWAY_SOCKET", ringway.socket()));
        is_over.store(true, Relaxed);
        assert_eq!(ended.status.code(), Some(0), "{}{}", ended.stdout, ended.stderr);
        deploys.join().unwrap()
    });
    assert!(served.into_inner() > 20);
}

/// The keys of the pool for reading, as they are printed, without its check and its backends.
fn pool_for_reading(document: &str) -> &str {
    let (_, text) = document.split_once("[pools.replicas]\n").expect("there is such a pool");
    text.split_once("check = ").expect("it has a check").0
}

/// G2. The only replica becomes the primary, and no replica is left.
#[test]
fn readers_of_two_servers_notice_nothing_when_the_primary_dies_and_the_replica_is_promoted() {
    let Some([server, cli, _]) = programs() else { return };
    assert_eq!(pool_for_reading(DATABASES), pool_for_reading(RECIPES));
    let mut primary = Redis::start(&server);
    let ip_of = |redis: &Redis| redis.address().split(':').next().unwrap().to_string();
    let source = ["--replicaof", &ip_of(&primary), "6379", "--repl-diskless-sync-delay", "0"];
    let replica = Redis::configured(&server, &source);
    let ringway = Ringway::plan()
        .backend("p", &primary.address(), "")
        .backend("r", &replica.address(), "")
        .pool(pool_for_reading(DATABASES))
        .checks("type = \"redis\"\nrole = \"replica\"\nfall = 1")
        .start();
    let up = |name| ringway.metrics().count("backend_up", &[("backend", name)]);
    wait_until("the replica alone serves", || (up("p"), up("r")) == (0, 1));
    let mut stays = ringway.connect();
    let mut read = || {
        assert!((0..20).all(|_| is_alive(&mut ringway.connect())), "{:?}", ringway.metrics().codes());
        assert!(is_alive(&mut stays));
    };
    read();
    primary.process.kill();
    read();
    // Why depends on whether a check was under way.
    ringway.wait_said("\"backend is down\" pool=main backend=p");
    read();
    let ended = run(Command::new(cli).args(["-h", &ip_of(&replica), "REPLICAOF", "NO", "ONE"]));
    assert_eq!(ended.stdout.trim(), "OK");
    ringway.wait_metrics("nobody is a replica", |metrics| metrics.count("backend_up", &[]) == 0);
    read();
    let metrics = ringway.metrics();
    assert_eq!(metrics.count("pool_backends_usable", &[]), 2, "what the alert goes by");
    assert_eq!(metrics.count("pool_retries_total", &[]), 0, "nobody was sent to the dead one first");
}
