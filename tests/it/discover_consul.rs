//! Backends from Consul and Nomad.

use std::sync::{Arc, Mutex};
use std::time::Duration;

use serde_json::{Value, json};

use crate::dns::wait_serving;
use crate::harness::kubernetes::stub::{Stub, StubRequest, Wire, reply};
use crate::harness::{Backend, Ringway, wait_until};

/// An agent, which answers as Consul's and Nomad's do: a query with the index that it has waits for another one.
#[derive(Clone)]
struct Agent(Arc<Mutex<(u64, Value)>>);

impl Agent {
    fn of(instances: Value) -> Agent {
        Agent(Arc::new(Mutex::new((10, instances))))
    }

    /// Has other instances now.
    fn set(&self, instances: Value) {
        let mut state = self.0.lock().unwrap();
        *state = (state.0 + 1, instances);
    }

    fn serve(&self, request: &StubRequest, to: &mut dyn Wire) {
        let prefix = if request.path.starts_with("/v1/health/service/db") { "X-Consul" } else { "X-Nomad" };
        let asked: u64 = request.query("index").map_or(0, |index| index.parse().unwrap());
        while self.0.lock().unwrap().0 <= asked && !request.is_over() {
            std::thread::sleep(Duration::from_millis(5));
        }
        let (index, body) = self.0.lock().unwrap().clone();
        reply(to, "200 OK", &[&format!("{prefix}-Index: {index}")], &body.to_string());
    }

    fn listen(&self, address: &str) -> Stub {
        let agent = self.clone();
        Stub::listen(address.parse().unwrap(), None, move |request, to| agent.serve(request, to))
    }
}

/// Where a backend is, in two.
fn parts(backend: &Backend) -> (&str, u16) {
    let (ip, port) = backend.address().rsplit_once(':').unwrap();
    (ip, port.parse().unwrap())
}

/// These backends as instances of Consul, each with a check of that status.
fn instances(all: &[(&Backend, &str)]) -> Value {
    let one = |(backend, status): &(&Backend, &str)| {
        let (ip, port) = parts(backend);
        json!({"Node": {"Address": ip}, "Service": {"ID": "x", "Address": "", "Port": port},
            "Checks": [{"CheckID": "c", "Status": status}]})
    };
    all.iter().map(one).collect()
}

fn up(ringway: &Ringway) -> u64 {
    ringway.metrics().count("discovery_up", &[("pool", "main")])
}

fn start(kind: &str, stub: &Stub, more: &str) -> Ringway {
    let address = stub.address();
    let source = format!("type = \"{kind}\"\nservice = \"db\"\naddress = \"http://{address}\"\n{more}");
    Ringway::plan().more(&format!("[pools.main.discover]\n{source}\n")).start()
}

#[test]
fn instances_of_consul_come_and_go_and_an_outage_takes_none_away() {
    let [a, b] = ["a", "b"].map(Backend::named);
    let agent = Agent::of(instances(&[(&a, "passing")]));
    let stub = agent.listen("127.0.0.1:0");
    let ringway = start("consul", &stub, "");
    wait_serving(&ringway, &["a"]);
    agent.set(instances(&[(&a, "passing"), (&b, "passing")]));
    wait_serving(&ringway, &["a", "b"]);
    agent.set(instances(&[(&a, "warning"), (&b, "passing")]));
    wait_serving(&ringway, &["b"]);
    let address = stub.address().to_string();
    drop(stub);
    wait_until("the outage is seen", || up(&ringway) == 0);
    wait_serving(&ringway, &["b"]);
    assert!(ringway.api().get("/v1/pools/main")["discovery"]["trouble"].as_str().unwrap().contains(&address));
    agent.set(instances(&[(&a, "passing")]));
    let stub = agent.listen(&address);
    wait_serving(&ringway, &["a"]);
    wait_until("the outage is over", || up(&ringway) == 1);
    agent.set(json!([]));
    ringway.wait_said("it has no backend any more");
    wait_serving(&ringway, &["a"]);
    ringway.stop();
    drop(stub);
}

#[test]
fn all_instances_of_consul_serve_where_ringway_itself_decides() {
    let [a, b] = ["a", "b"].map(Backend::named);
    let agent = Agent::of(instances(&[(&a, "passing"), (&b, "critical")]));
    let stub = agent.listen("127.0.0.1:0");
    let ringway = start("consul", &stub, "passing = false\nempty = \"drop\"");
    wait_serving(&ringway, &["a", "b"]);
    agent.set(json!([]));
    wait_serving(&ringway, &[""]);
    ringway.stop();
}

#[test]
fn instances_of_nomad_come_and_go() {
    let [a, b] = ["a", "b"].map(Backend::named);
    let one = |backend: &Backend, tags: &[&str]| {
        let (ip, port) = parts(backend);
        json!({"ID": "x", "Tags": tags, "Address": ip, "Port": port})
    };
    let agent = Agent::of(json!([one(&a, &["x", "main"]), one(&b, &[])]));
    let stub = agent.listen("127.0.0.1:0");
    let ringway = start("nomad", &stub, "tag = \"main\"");
    wait_serving(&ringway, &["a"]);
    agent.set(json!([one(&b, &["main"])]));
    wait_serving(&ringway, &["b"]);
    ringway.stop();
}
