//! Agents beside servers, in HAProxy's words.

use std::io::Write;
use std::net::TcpListener;
use std::sync::{Arc, Mutex};

use crate::harness::{Listener, Ringway};

/// An agent on the host of a server, that sends one line to each that connects; which one, is set. It ends with the
/// test's process.
fn agent(server: &Listener, line: &Arc<Mutex<String>>) -> u16 {
    let host = server.address().split(':').next().unwrap();
    let (listener, line) = (TcpListener::bind((host, 0)).unwrap(), Arc::clone(line));
    let port = listener.local_addr().unwrap().port();
    std::thread::spawn(move || {
        for stream in listener.incoming() {
            let text = line.lock().unwrap().clone();
            let _ = stream.and_then(|mut stream| stream.write_all(text.as_bytes()));
        }
    });
    port
}

#[test]
fn an_agent_takes_its_backend_out_and_back_and_changes_its_weight() {
    let ([a, b], line) = ([(); 2].map(|()| Listener::new()), Arc::new(Mutex::new("up\n".to_string())));
    let port = agent(&a, &line);
    let say = |text: &str| *line.lock().unwrap() = text.to_string();
    // The other one has an address of its own, and no agent.
    let plan = Ringway::before([a.address(), b.address()]).checked_every("50ms");
    let ringway = plan.check(&format!("agent_port = {port}")).start();
    ringway.wait_up("main", "a", true);
    let backend = |name: &str| {
        let pools = ringway.api().get("/v1/pools");
        pools["pools"][0]["backends"].as_array().unwrap().iter().find(|it| it["name"] == name).unwrap().clone()
    };
    let wait = |what: &str, is_so: &dyn Fn(&serde_json::Value) -> bool| {
        crate::harness::wait_until(what, || is_so(&backend("a")));
    };
    say("drain # deploy\n");
    wait("it drains", &|it| it["state"] == "draining" && it["reason"] == "drained by its agent");
    say("ready 300%\n");
    wait("it is back, with a greater weight", &|it| it["state"] == "up" && it["weight"] == 3);
    say("down # disk is full\n");
    wait("it is down", &|it| it["state"] == "down" && it["reason"].as_str().unwrap().contains("disk is full"));
    say("up 100%\n");
    wait("it is up", &|it| it["state"] == "up" && it["weight"] == 1);
    say("HTTP/1.1 400 Bad Request\n");
    ringway.wait_said("its line has none of an agent's words");
    assert_eq!(backend("a")["state"], "up", "an agent that speaks otherwise changes nothing");
    assert_eq!(backend("b")["state"], "up", "nor does one that is not there");
}
