//! Backends from Kubernetes.

use std::io::{BufRead, BufReader, Write};
use std::process::{Command, Stdio};

use serde_json::json;

use crate::harness::kubernetes::api::ApiServer;
use crate::harness::process::program;

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
