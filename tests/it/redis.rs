//! Real Redis servers behind ringway.

use std::process::Command;
use std::time::Duration;

use crate::harness::bytes::Key;
use crate::harness::process;
use crate::harness::redis::{Redis, is_alive, programs};
use crate::harness::{PATIENCE, Peer, Ringway};

fn three(server: &str) -> (Vec<Redis>, Ringway) {
    let servers: Vec<Redis> = (0..3).map(|_| Redis::start(server)).collect();
    let addresses: Vec<String> = servers.iter().map(Redis::address).collect();
    let ringway = Ringway::before(addresses.iter().map(String::as_str)).checked(2, 2).start();
    (servers, ringway)
}

fn sessions_of(ringway: &Ringway, backend: &str) -> u64 {
    ringway.metrics().count("backend_connections_total", &[("backend", backend)])
}

#[test]
fn a_benchmark_runs_through_it_without_an_error() {
    let Some([server, _, benchmark]) = programs() else { return };
    let (_servers, ringway) = three(&server);
    let (ip, port) = ringway.address().split_once(':').unwrap();
    for (tests, count, more) in
        [("set,get,lpush,lrange_100", "3000", "-P1"), ("set,get", "10000", "-P16"), ("set,get", "2000", "-d20000")]
    {
        let mut command = Command::new(&benchmark);
        command.args(["-h", ip, "-p", port, "-c", "30", "-q", "-t", tests, "-n", count]);
        command.args([&more[..2], &more[2..]]);
        let ended = process::run(&mut command);
        assert!(ended.status.success(), "{}{}", ended.stdout, ended.stderr);
        let results = ended.stdout.split(['\r', '\n']).filter(|line| line.contains("requests per second")).count();
        assert!(results >= tests.split(',').count(), "{}{}", ended.stdout, ended.stderr);
        assert!(!ended.stdout.contains("Error") && !ended.stderr.contains("Error"), "{}{}", ended.stdout, ended.stderr);
    }
    for backend in ["a", "b", "c"] {
        assert!(sessions_of(&ringway, backend) >= 80, "{backend} did its part");
    }
    ringway.wait_idle();
    let codes = ringway.metrics().codes();
    assert!(codes.iter().all(|(code, _)| code == "--" || code == "CD"), "{codes:?}");
}

/// No client fails from the moment a server is killed until it is back, except for those that were talking to it.
#[test]
fn a_server_is_killed_and_comes_back_and_no_new_client_notices() {
    let Some([server, cli, _]) = programs() else { return };
    let (mut servers, ringway) = three(&server);
    let ask = |times: usize| {
        for _ in 0..times {
            assert!(is_alive(&mut ringway.connect()), "a client was let down");
        }
    };
    let (ip, port) = ringway.address().split_once(':').unwrap();
    let ping = || process::run(Command::new(&cli).args(["-h", ip, "-p", port, "PING"]));
    ask(30);
    assert_eq!(ping().stdout, "PONG\n");
    servers[1].process.signal(libc::SIGKILL);
    assert!(servers[1].process.wait(PATIENCE).is_some());
    ask(60);
    assert_eq!(ping().stdout, "PONG\n");
    ringway.wait_metrics("it is out", |metrics| metrics.count("backend_up", &[("backend", "b")]) == 0);
    let before = sessions_of(&ringway, "b");
    ask(60);
    assert_eq!(sessions_of(&ringway, "b"), before);
    servers[1].restart(&server);
    ringway.wait_metrics("it is back", |metrics| metrics.count("backend_up", &[("backend", "b")]) == 1);
    ask(30);
    assert_eq!(sessions_of(&ringway, "b"), before + 10, "it has its share again");
}

/// The same under load: the benchmark's clients of the killed server are told so, and all others go on.
#[test]
fn the_other_servers_go_on_when_one_is_killed_under_load() {
    let Some([server, _, _]) = programs() else { return };
    let (mut servers, ringway) = three(&server);
    let mut clients: Vec<Peer> = (0..30).map(|_| ringway.connect()).collect();
    assert!(clients.iter_mut().all(is_alive));
    servers[2].process.kill();
    let alive = clients.iter_mut().map(|client| usize::from(is_alive(client))).sum::<usize>();
    assert_eq!(alive, 20, "those of the other two");
    std::thread::sleep(Duration::from_millis(300));
    let alive = clients.iter_mut().map(|client| usize::from(is_alive(client))).sum::<usize>();
    assert_eq!(alive, 20, "and they stay");
}

/// A value that takes splice mode, stored and read back.
#[test]
fn a_large_value_comes_back_unchanged() {
    let Some([server, _, _]) = programs() else { return };
    let redis = Redis::start(&server);
    let ringway = Ringway::before([&*redis.address()]).start();
    let (client, key, len) = (ringway.connect(), Key::to_backend(1), 24 << 20);
    let (mut writer, mut reader) = (client.again(), client);
    writer.send(format!("*3\r\n$3\r\nSET\r\n$1\r\nk\r\n${len}\r\n").as_bytes());
    writer.send_keyed(key, 0, len);
    writer.send(b"\r\n");
    reader.expect(b"+OK\r\n");
    for _ in 0..2 {
        writer.send(b"GET k\r\n");
        reader.expect(format!("${len}\r\n").as_bytes());
        reader.expect_keyed(key, 0, len);
        reader.expect(b"\r\n");
    }
    assert!(ringway.metrics().count("worker_spliced_bytes_total", &[]) > len);
}

/// R41: the kernel of a stopped process still accepts connections; only a check that asks something notices.
#[test]
fn a_server_that_is_stopped_is_taken_out_and_goes_on_when_it_is_continued() {
    let Some([server, _, _]) = programs() else { return };
    let servers: Vec<Redis> = (0..2).map(|_| Redis::start(&server)).collect();
    let addresses: Vec<String> = servers.iter().map(Redis::address).collect();
    let plan = Ringway::before(addresses.iter().map(String::as_str)).checked_as("redis");
    let ringway = plan.check("timeout = \"200ms\"\nrise = 1\nfall = 2").start();
    let up = |count| ringway.wait_metrics("as many are up", |metrics| metrics.count("backend_up", &[]) == count);
    let mut clients: Vec<Peer> = (0..10).map(|_| ringway.connect()).collect();
    assert!(clients.iter_mut().all(is_alive));
    servers[1].process.signal(libc::SIGSTOP);
    up(1);
    let reset = clients.iter_mut().filter_map(|client| (!is_alive(client)).then_some(())).count();
    assert_eq!(reset, 5, "who talked to it is told so");
    assert!((0..20).all(|_| is_alive(&mut ringway.connect())));
    servers[1].process.signal(libc::SIGCONT);
    up(2);
    assert!((0..20).all(|_| is_alive(&mut ringway.connect())));
    assert!(ringway.process().output().contains("no answer within 200 ms"), "{}", ringway.process().output());
}
