//! Backends from Kubernetes.

use std::io::{BufRead, BufReader, Write};
use std::process::{Command, Stdio};

use serde_json::json;

use crate::dns::{session, wait_serving};
use crate::harness::kubernetes::api::ApiServer;
use crate::harness::process::{program, run};
use crate::harness::{Backend, Ringway, wait_until};

/// A slice with that backend.
fn put(server: &ApiServer, name: &str, backend: &Backend, is_ready: bool) {
    let (ip, port) = backend.address().rsplit_once(':').unwrap();
    let port: u16 = port.parse().unwrap();
    let conditions = json!({"ready": is_ready, "serving": is_ready, "terminating": false});
    let endpoints = json!([{"addresses": [ip], "conditions": conditions}]);
    let ports = json!([{"name": "pg", "protocol": "TCP", "port": port}]);
    server.put_object(name, &json!({"addressType": "IPv4", "endpoints": endpoints, "ports": ports}));
}

fn up(ringway: &Ringway) -> u64 {
    ringway.metrics().count("discovery_up", &[("pool", "main")])
}

/// A ringway whose backends that server names. The kubeconfig is in the folder.
fn start(folder: &tempfile::TempDir, server: &ApiServer) -> Ringway {
    // Two folders, because ringway may open files only in those that it knows of when it starts.
    let [config, secrets] = ["config", "secrets"].map(|name| folder.path().join(name));
    [&config, &secrets].into_iter().for_each(|folder| std::fs::create_dir(folder).unwrap());
    std::fs::write(secrets.join("token"), "a token").unwrap();
    let path = config.join("kubeconfig");
    std::fs::write(&path, server.kubeconfig("tokenFile: ../secrets/token")).unwrap();
    let source = "type = \"kubernetes\"\nservice = \"db\"\nport = \"pg\"";
    Ringway::plan().more(&format!("[pools.main.discover]\n{source}\nkubeconfig = {path:?}\n")).start()
}

#[test]
fn endpoints_come_and_go_and_one_that_is_not_ready_keeps_its_sessions() {
    let [a, b] = ["a", "b"].map(Backend::named);
    let (server, folder) = (ApiServer::start(), tempfile::tempdir().unwrap());
    put(&server, "db-a", &a, true);
    let ringway = start(&folder, &server);
    wait_serving(&ringway, &["a"]);
    put(&server, "db-b", &b, true);
    wait_serving(&ringway, &["a", "b"]);
    let client = loop {
        let (client, name) = session(&ringway);
        if name == "b" {
            break client;
        }
    };
    put(&server, "db-b", &b, false);
    wait_serving(&ringway, &["a"]);
    let mut why = Ringway::command();
    why.args(["ctl", "--socket"]).arg(ringway.socket()).args(["why", &format!("main/{}", b.address())]);
    let said = run(&mut why);
    assert!(said.stdout.contains("not ready, says Kubernetes"), "{}{}", said.stdout, said.stderr);
    assert!(client.is_silent_for(std::time::Duration::from_millis(100)), "the session goes on");
    drop(client);
    put(&server, "db-b", &b, true);
    wait_serving(&ringway, &["a", "b"]);
    server.delete("db-a");
    wait_serving(&ringway, &["b"]);
    let discovery = &ringway.api().get("/v1/pools/main")["discovery"];
    assert_eq!((&discovery["type"], &discovery["up"]), (&"kubernetes".into(), &true.into()), "{discovery}");
    ringway.stop();
}

#[test]
fn an_outage_of_the_api_server_and_an_empty_service_take_no_backend_away() {
    let [a, b] = ["a", "b"].map(Backend::named);
    let (server, folder) = (ApiServer::start(), tempfile::tempdir().unwrap());
    put(&server, "db-a", &a, true);
    let ringway = start(&folder, &server);
    wait_serving(&ringway, &["a"]);
    let down = server.stop();
    wait_until("the outage is seen", || up(&ringway) == 0);
    wait_serving(&ringway, &["a"]);
    let status = run(Ringway::command().args(["ctl", "--socket"]).arg(ringway.socket()).arg("status"));
    assert!(status.stdout.contains("kubernetes") && status.stdout.contains("cannot connect"), "{}", status.stdout);
    let server = down.start();
    server.compact();
    put(&server, "db-b", &b, true);
    wait_serving(&ringway, &["a", "b"]);
    wait_until("the outage is over", || up(&ringway) == 1);
    server.delete("db-a");
    server.delete("db-b");
    ringway.wait_said("it has no backend any more");
    wait_until("what was there last stays", || up(&ringway) == 1);
    let said = ringway.process().output();
    assert_eq!(said.matches("cannot be asked for backends").count(), 1, "{said}");
    assert_eq!(said.matches("can be asked for backends again").count(), 1, "{said}");
    ringway.stop();
}

/// A server that behaves otherwise than Kubernetes would prove nothing: the client that Kubernetes publishes must find
/// its way with it.
#[test]
fn the_api_server_of_these_tests_is_one_to_the_client_for_python() {
    let Some(_) = program(&["/usr/lib/python3/dist-packages/kubernetes/__init__.py"], "python3-kubernetes") else {
        return;
    };
    let (server, folder) = (ApiServer::start(), tempfile::tempdir().unwrap());
    let ready = |address: &'static str| [(address, json!({"ready": true, "serving": true, "terminating": false}))];
    for name in ["db-0", "db-1", "db-2", "db-3", "db-4"] {
        server.put(name, &ready("10.0.0.1"));
    }
    server.put("db-4", &ready("10.0.0.2"));
    server.put("db-5", &ready("10.0.0.3"));
    server.delete("db-5");
    let path = folder.path().join("kubeconfig");
    std::fs::write(&path, server.kubeconfig("token: first")).unwrap();
    let mut python = Command::new("/usr/bin/python3")
        .arg(concat!(env!("CARGO_MANIFEST_DIR"), "/tests/data/kubernetes_client.py"))
        .arg(&path)
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .spawn()
        .unwrap();
    let (mut said, mut input) = (BufReader::new(python.stdout.take().unwrap()).lines(), python.stdin.take().unwrap());
    let mut next = || said.next().map(Result::unwrap);
    assert_eq!(next().as_deref(), Some("forget"));
    server.compact();
    writeln!(input).unwrap();
    assert_eq!(next().as_deref(), Some("refuse"));
    server.take_token("second");
    writeln!(input).unwrap();
    assert_eq!(next().as_deref(), Some("done"));
    assert!(python.wait().unwrap().success());
}
