//! A primary dies or is replaced while clients write: for new clients a fail-over is a pause and no error.

use std::sync::Mutex;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant};

use crate::harness::postgresql::{Cluster, folder};
use crate::harness::redis::{Redis, programs};
use crate::harness::{End, Ringway, process, wait_until};

const WRITERS: usize = 4;

/// What became of one session: when it began, when it ended, and why it failed.
struct Attempt {
    begun: Instant,
    ended: Instant,
    error: Option<String>,
}

/// Writers that connect, insert a row and close, again and again.
struct Writers {
    attempts: Mutex<Vec<Attempt>>,
    stop: AtomicBool,
}

impl Writers {
    fn successes(&self) -> usize {
        self.attempts.lock().unwrap().iter().filter(|attempt| attempt.error.is_none()).count()
    }

    fn write(&self, address: &str) {
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
        while !self.stop.load(Ordering::Relaxed) {
            let begun = Instant::now();
            let error = runtime.block_on(insert(address)).err().map(|error| error.to_string());
            self.attempts.lock().unwrap().push(Attempt { begun, ended: Instant::now(), error });
        }
    }
}

struct StopAtEnd<'a>(&'a AtomicBool);

impl Drop for StopAtEnd<'_> {
    fn drop(&mut self) {
        self.0.store(true, Ordering::Relaxed);
    }
}

async fn insert(address: &str) -> Result<(), Box<dyn std::error::Error>> {
    let stream = tokio::net::TcpStream::connect(address).await?;
    let mut config = tokio_postgres::Config::new();
    let (client, connection) = config.user("postgres").connect_raw(stream, tokio_postgres::NoTls).await?;
    let connection = tokio::spawn(connection);
    client.execute("insert into written (at) values (now())", &[]).await?;
    drop(client);
    connection.await??;
    Ok(())
}

/// Lets writers write through it, does something to its backends, and lets them write on until the new primary has
/// taken as many rows again; what became of all sessions, and when it was done.
fn while_writing(ringway: &Ringway, replace: impl FnOnce() -> Instant) -> (Vec<Attempt>, Instant) {
    let writers = Writers { attempts: Mutex::default(), stop: AtomicBool::new(false) };
    let replaced = std::thread::scope(|scope| {
        // Also if something is waited for in vain.
        let _stop = StopAtEnd(&writers.stop);
        for _ in 0..WRITERS {
            scope.spawn(|| writers.write(ringway.address()));
        }
        wait_until("they write", || writers.successes() >= 40);
        let replaced = replace();
        let so_far = writers.successes();
        wait_until("they write again", || writers.successes() >= so_far + 40);
        replaced
    });
    (writers.attempts.into_inner().unwrap(), replaced)
}

/// Checks at their default intervals.
fn ringway_before(primary: &Cluster, replica: &Cluster) -> Ringway {
    Ringway::plan()
        .backend("p", &primary.address(), "")
        .backend("r", &replica.address(), "")
        .pool("balance = \"failover\"\nqueue_timeout = \"60s\"")
        .check_only("type = \"postgresql\"\nuser = \"postgres\"\nrole = \"primary\"")
        .start()
}

/// Prints what an operator wants to know, and returns the errors of clients that connected after that moment.
fn report(what: &str, attempts: &[Attempt], replaced: Instant) -> Vec<String> {
    let good = |attempt: &&Attempt| attempt.error.is_none();
    let before = attempts.iter().filter(good).map(|attempt| attempt.ended).filter(|ended| *ended < replaced).max();
    let after = attempts.iter().filter(good).map(|attempt| attempt.ended).filter(|ended| *ended >= replaced).min();
    let failed: Vec<&Attempt> = attempts.iter().filter(|attempt| attempt.error.is_some()).collect();
    let late: Vec<String> = failed.iter().filter(|a| a.begun >= replaced).filter_map(|a| a.error.clone()).collect();
    let (before, after) = (before.unwrap(), after.unwrap());
    eprintln!(
        "{what}: {} rows; the last one {:?} before, the next one {:?} after; {} sessions broke, {} of them begun after",
        attempts.len() - failed.len(),
        replaced - before,
        after - replaced,
        failed.len(),
        late.len()
    );
    late
}

fn servers() -> Option<(Cluster, Cluster)> {
    let primary = Cluster::start(&folder()?);
    primary.sql("create table written (id bigserial primary key, at timestamptz)");
    let replica = primary.replica();
    Some((primary, replica))
}

#[test]
fn a_primary_that_dies_is_a_pause_for_who_connects_meanwhile() {
    let Some((mut primary, replica)) = servers() else { return };
    let ringway = ringway_before(&primary, &replica);
    ringway.wait_up("main", "p", true);
    let mut died = None;
    let (attempts, replaced) = while_writing(&ringway, || {
        primary.kill();
        died = Some(Instant::now());
        // No backend is the primary for a while, and a client waits for one.
        ringway.wait_metrics("they wait", |metrics| metrics.count("pool_queue_length", &[]) == WRITERS as u64);
        std::thread::sleep(Duration::from_millis(500));
        replica.promote();
        Instant::now()
    });
    report("a crash, and half a second later a promotion", &attempts, replaced);
    // A server that is going down may still answer, with an error of its own; from then on no client must see one.
    let late = attempts.iter().filter(|attempt| attempt.begun > died.unwrap()).filter_map(|a| a.error.as_ref());
    let late: Vec<_> = late.collect();
    assert!(late.is_empty(), "they came when it was dead, and did not wait: {late:?}");
    assert_eq!(ringway.metrics().ended("SC"), 0);
    ringway.wait_up("main", "p", false);
    ringway.wait_up("main", "r", true);
}

#[test]
fn a_primary_that_was_replaced_and_lives_on_takes_no_more_writes() {
    let Some((primary, replica)) = servers() else { return };
    let ringway = ringway_before(&primary, &replica);
    ringway.wait_up("main", "p", true);
    let (attempts, replaced) = while_writing(&ringway, || {
        replica.promote();
        let promoted = Instant::now();
        ringway.wait_up("main", "r", true);
        // The clients that wrote to it then are gone, and none comes any more.
        ringway.wait_metrics("nobody is left on it", |metrics| {
            metrics.count("backend_connections", &[("backend", "p")]) == 0
        });
        let rows = primary.sql("select count(*) from written");
        std::thread::sleep(Duration::from_millis(300));
        assert_eq!(primary.sql("select count(*) from written"), rows, "two writers");
        promoted
    });
    report("a promotion beside a primary that lives", &attempts, replaced);
    let broken = attempts.iter().filter(|attempt| attempt.error.is_some()).count();
    assert!(broken <= WRITERS, "only those that were writing at that moment");
    let reset = ringway.metrics().ended("DD") as usize;
    // Some had their row, and were only saying goodbye.
    assert!((broken..=2 * WRITERS).contains(&reset), "{broken} broken, {reset} reset");
    ringway.wait_up("main", "p", false);
    assert!(ringway.process().output().contains("primary"), "the log names the two");
}

/// A role is certain: neither rise nor fall is waited for.
#[test]
fn a_redis_that_is_demoted_loses_its_sessions_at_once_and_the_new_primary_gets_who_waits() {
    let Some([server, cli, _]) = programs() else { return };
    let old = Redis::start(&server);
    let ip_of = |redis: &Redis| redis.address().split(':').next().unwrap().to_string();
    let new = Redis::configured(&server, &["--replicaof", &ip_of(&old), "6379", "--repl-diskless-sync-delay", "0"]);
    let replicate = |redis: &Redis, from: &[&str]| {
        let mut command = std::process::Command::new(&cli);
        command.args(["-h", &ip_of(redis), "REPLICAOF"]).args(from);
        assert_eq!(process::run(&mut command).stdout.trim(), "OK");
    };
    let ringway = Ringway::plan()
        .backend("old", &old.address(), "")
        .backend("new", &new.address(), "")
        .pool("queue_timeout = \"60s\"\non_backend_down = \"keep\"")
        .checks("type = \"redis\"\nrole = \"primary\"\nrise = 1000\nfall = 1000\ntimeout = \"5s\"")
        .start();
    ringway.wait_up("main", "old", true);
    let mut client = ringway.connect();
    client.send(b"SET a 1\r\n");
    client.expect(b"+OK\r\n");
    // Two primaries, and nothing tells which one is right: the one in use stays.
    replicate(&new, &["NO", "ONE"]);
    ringway.wait_checks("new", 4);
    let up = |name| ringway.metrics().count("backend_up", &[("backend", name)]);
    assert_eq!((up("old"), up("new")), (1, 0));
    client.send(b"SET b 2\r\n");
    client.expect(b"+OK\r\n");
    replicate(&old, &[&ip_of(&new), "6379"]);
    assert_eq!(client.end(), End::Reset);
    let mut next = ringway.connect();
    next.send(b"SET c 3\r\n");
    next.expect(b"+OK\r\n");
    assert_eq!((up("old"), up("new")), (0, 1));
    drop(next);
    ringway.wait_idle();
    let metrics = ringway.metrics();
    assert_eq!((metrics.ended("--"), metrics.ended("DD"), metrics.codes().len()), (1, 1, 2));
}

/// No client has noticed that it was gone: the first that gets through brings the others along.
#[test]
fn a_primary_that_restarts_faster_than_it_is_missed_gets_who_waited() {
    let Some([server, _, _]) = programs() else { return };
    let mut redis = Redis::start(&server);
    let ringway = Ringway::before([&*redis.address()])
        .pool("queue_timeout = \"60s\"\nconnect_attempts = 1")
        .check_only("type = \"redis\"\nrole = \"primary\"\nfall = 1000\ninterval = \"60s\"\nfast_interval = \"60s\"")
        .start();
    ringway.wait_up("main", "a", true);
    redis.process.kill();
    let mut clients: Vec<_> = (0..40).map(|_| ringway.connect()).collect();
    ringway.wait_metrics("they wait", |metrics| metrics.count("pool_queue_length", &[]) == 40);
    let tried = ringway.metrics().count("backend_connect_errors_total", &[]);
    std::thread::sleep(Duration::from_millis(500));
    let again = ringway.metrics().count("backend_connect_errors_total", &[]) - tried;
    assert!(again <= 20, "40 clients tried {again} times in half a second");
    redis.restart(&server);
    for client in &mut clients {
        client.send(b"PING\r\n");
        client.expect(b"+PONG\r\n");
    }
    drop(clients);
    ringway.expect_code("--", 40);
}
