//! TLS that ends at a listener, where a side is slow, memory is short, or a stream is cut.

use std::io::Write;
use std::time::Duration;

use crate::harness::authority::Authority;
use crate::harness::secure::Trust;
use crate::harness::{Backend, End, Listener};
use crate::tls_listener::{pattern, plan};

const NAME: &str = "db.example";

/// What the relay holds is bounded also where each record comes in a dozen segments.
#[test]
fn an_upload_to_a_backend_that_stalls_arrives_whole() {
    let (authority, server) = (Authority::new(), Listener::new());
    let ringway = plan(server.address(), &[&authority.sign(&[NAME])], "").start();
    let mut client = Trust::of(&authority).connect(ringway.address(), NAME);
    let mut served = server.accept();
    let all = pattern(12 << 20);
    let reader = {
        let all = all.clone();
        std::thread::spawn(move || {
            for part in all.chunks(3 << 20) {
                std::thread::sleep(Duration::from_millis(200));
                served.expect(part);
            }
            assert_eq!(served.end(), End::Fin);
        })
    };
    client.step = 1400;
    client.send(&all);
    client.say_last();
    reader.join().unwrap();
}

/// With the fewest receive buffers there can be, which the kernel is shown all.
#[test]
fn what_comes_behind_a_handshake_is_served_with_few_buffers() {
    let (authority, backend) = (Authority::new(), Backend::echo());
    let plan = plan(backend.address(), &[&authority.sign(&[NAME])], "");
    let ringway = plan.process("receive_buffers_max = \"4MiB\"").start();
    for _ in 0..20 {
        let mut client = Trust::of(&authority).begin(ringway.address(), NAME);
        let early = pattern(9000);
        client.tls.writer().write_all(&early).unwrap();
        client.shake_hands().unwrap();
        client.expect(&early);
    }
}

#[test]
fn a_session_that_ends_in_the_middle_of_a_record_is_reset() {
    let (authority, server) = (Authority::new(), Listener::new());
    let plan = plan(server.address(), &[&authority.sign(&[NAME])], "").pool("idle_timeout = \"300ms\"");
    let ringway = plan.start();
    let mut client = Trust::of(&authority).connect(ringway.address(), NAME);
    client.send(b"whole");
    let mut served = server.accept();
    served.expect(b"whole");
    client.send_half_a_record();
    assert_eq!(served.end(), End::Reset);
    assert!(client.end().is_err(), "it was not served to its end");
    ringway.expect_code("cD", 1);
}

/// A ticket stands for a certificate that was shown, or was not.
#[test]
fn tickets_end_when_clients_have_to_prove_more() {
    let (authority, clients, backend) = (Authority::new(), Authority::new(), Backend::named("a"));
    let file = authority.folder().join("clients.pem");
    std::fs::copy(clients.file(), &file).unwrap();
    let asked = format!("client_auth = \"optional\"\nclient_ca = {file:?}");
    let ringway = plan(backend.address(), &[&authority.sign(&[NAME])], &asked).start();
    let trust = Trust::of(&authority);
    let served = || trust.try_connect(ringway.address(), NAME).and_then(|mut client| client.read_some());
    assert!((0..4).all(|_| served().unwrap() == b"a"));
    ringway.edit(|text| text.replace("\"optional\"", "\"required\""));
    assert!(ringway.reload());
    assert!(served().is_err());
}

/// More of them than one turn has time for, in a build without optimisation; each has its turn.
#[test]
fn many_handshakes_at_the_same_time_are_all_served() {
    let (authority, backend) = (Authority::new(), Backend::named("a"));
    let plan = plan(backend.address(), &[&authority.sign(&[NAME])], "handshake_timeout = \"10s\"").workers(1);
    let ringway = plan.start();
    let trust = Trust::of(&authority);
    let mut clients: Vec<_> = (0..150).map(|_| trust.begin(ringway.address(), NAME)).collect();
    clients.iter_mut().for_each(|client| client.flush().unwrap());
    for client in &mut clients {
        client.shake_hands().unwrap();
        client.expect(b"a");
    }
    drop(clients);
    ringway.wait_idle();
    assert_eq!(ringway.metrics().count("listener_refused_total", &[]), 0);
}
