//! The Helm chart, and the manifests that are rendered from it.

use std::collections::BTreeSet;
use std::path::Path;
use std::process::Command;

use ringway::config::model::Target;
use serde_json::Value;

use crate::{RINGWAY, assert_known, file, output, program, text, words, yaml};

/// It renders the chart with several values, holds what comes out against the schemas of Kubernetes, and sees wrong
/// values refused. The plain manifests are what it renders.
#[test]
fn the_chart_renders_to_what_kubernetes_and_ringway_take() {
    let packages = "golang-go golang-github-masterminds-sprig-dev golang-github-ghodss-yaml-dev python3-jsonschema";
    let folders = [
        "/usr/bin/go",
        "/usr/share/gocode/src/github.com/Masterminds/sprig",
        "/usr/share/gocode/src/github.com/ghodss/yaml",
        "/usr/lib/python3/dist-packages/jsonschema",
    ];
    if folders.iter().any(|folder| program(&[folder], packages).is_none()) {
        return;
    }
    let said = output(Command::new(file("scripts/chart.sh")).env("RINGWAY", RINGWAY));
    assert!(said.ends_with("passed\n"), "{said}");
}

/// The first document of a manifest.
fn manifest(name: &str) -> Option<Value> {
    Some(yaml(&format!("packaging/kubernetes/{name}.yaml"))?.remove(0))
}

/// The configuration of the ConfigMap, as text and as what it means.
fn configuration_of_the_pods() -> Option<(String, ringway::config::Config)> {
    let text = manifest("configmap")?["data"]["ringway.toml"].as_str().unwrap().to_string();
    let config = ringway::config::load(&text, "ringway.toml", &|_: &str| None).unwrap();
    Some((text, config))
}

/// Names and numbers of the ports of the pods.
fn ports_of_the_pods(deployment: &Value) -> Vec<(String, u64)> {
    let ports = deployment["spec"]["template"]["spec"]["containers"][0]["ports"].as_array().unwrap();
    let port = |port: &Value| (port["name"].as_str().unwrap().into(), port["containerPort"].as_u64().unwrap());
    ports.iter().map(port).collect()
}

#[test]
fn the_manifests_agree_with_each_other_and_with_ringway() {
    let Some(deployment) = manifest("deployment") else { return };
    let one = |name: &str| manifest(name).unwrap();
    let (service, monitor, budget) = (one("service"), one("podmonitor"), one("poddisruptionbudget"));
    let pod = &deployment["spec"]["template"];
    let container = &pod["spec"]["containers"][0];
    assert_known(&words(&container["args"]));

    let ports = ports_of_the_pods(&deployment);
    let (written, _) = configuration_of_the_pods().unwrap();
    for (name, port) in &ports {
        assert!(written.contains(&format!("0.0.0.0:{port}\"")), "nothing listens at {name}");
    }
    let names: BTreeSet<_> = ports.iter().map(|(name, _)| name.as_str()).collect();
    assert_eq!(names, BTreeSet::from(["db", "metrics", "probes"]));
    let is_port = |name: &Value| ports.iter().any(|(known, _)| name == known);
    assert!(is_port(&service["spec"]["ports"][0]["targetPort"]));
    assert!(is_port(&monitor["spec"]["podMetricsEndpoints"][0]["port"]));
    for probe in ["livenessProbe", "readinessProbe"] {
        assert_eq!(container[probe]["httpGet"]["port"], "probes", "no more than it needs is open to the node");
    }
    let paths = ["livenessProbe", "readinessProbe"].map(|probe| container[probe]["httpGet"]["path"].as_str().unwrap());
    assert_eq!(paths, ["/live", "/ready"]);
    assert_eq!(monitor["spec"]["podMetricsEndpoints"][0]["path"], "/metrics");
    let labels = &pod["metadata"]["labels"];
    for selector in [
        &deployment["spec"]["selector"]["matchLabels"],
        &service["spec"]["selector"],
        &monitor["spec"]["selector"]["matchLabels"],
        &budget["spec"]["selector"]["matchLabels"],
        &one("networkpolicy")["spec"]["podSelector"]["matchLabels"],
        &pod["spec"]["topologySpreadConstraints"][0]["labelSelector"]["matchLabels"],
    ] {
        assert_eq!(selector, labels);
    }
    // A budget that lets no pod go would keep a node from being drained.
    assert!(budget["spec"]["maxUnavailable"].as_u64() < deployment["spec"]["replicas"].as_u64());
}

#[test]
fn a_pod_has_what_its_configuration_takes() {
    let Some(deployment) = manifest("deployment") else { return };
    let (_, config) = configuration_of_the_pods().unwrap();
    let pod = &deployment["spec"]["template"]["spec"];
    let container = &pod["containers"][0];
    let mounts = ["config", "run"].map(|name| {
        let mounts = container["volumeMounts"].as_array().unwrap();
        let mount = mounts.iter().find(|mount| mount["name"] == name).unwrap_or_else(|| panic!("no {name}"));
        mount["mountPath"].as_str().unwrap()
    });
    assert_eq!(words(&container["args"])[2], format!("{}/ringway.toml", mounts[0]));
    assert_eq!(config.admin.socket.unwrap().parent().unwrap(), Path::new(mounts[1]));
    assert_eq!(pod["volumes"][0]["configMap"]["name"], manifest("configmap").unwrap()["metadata"]["name"]);
    assert_eq!(pod["serviceAccountName"], manifest("serviceaccount").unwrap()["metadata"]["name"]);
    assert_eq!(pod["automountServiceAccountToken"], false);

    let process = &config.process;
    assert_eq!(process.workers.unwrap().to_string(), container["resources"]["requests"]["cpu"]);
    assert!(!process.pin_workers, "other pods have the same CPUs");
    let ends = process.shutdown_delay + process.shutdown_grace;
    assert!(!process.shutdown_delay.is_zero(), "nodes learn later that the pod leaves");
    assert!(pod["terminationGracePeriodSeconds"].as_u64().unwrap() > ends.as_secs() + 5);

    // What Pod Security calls `restricted`; nothing has to be done to nodes.
    assert_eq!(pod["securityContext"]["seccompProfile"], serde_json::json!({"type": "RuntimeDefault"}));
    assert_eq!(pod["securityContext"]["runAsNonRoot"], true);
    let user = text("packaging/docker/Dockerfile").contains(&format!("USER {}:", pod["securityContext"]["runAsUser"]));
    assert!(user, "the user of the image");
    assert_eq!(pod["securityContext"]["fsGroup"], pod["securityContext"]["runAsGroup"]);
    let wanted = serde_json::json!({
        "allowPrivilegeEscalation": false, "readOnlyRootFilesystem": true, "capabilities": {"drop": ["ALL"]}
    });
    assert_eq!(container["securityContext"], wanted);
}

#[test]
fn the_network_policy_lets_through_what_the_configuration_takes() {
    let Some(policy) = manifest("networkpolicy") else { return };
    let deployment = manifest("deployment").unwrap();
    let (_, config) = configuration_of_the_pods().unwrap();
    let ports = |direction: &str| {
        let rules = policy["spec"][direction].as_array().unwrap();
        let all = rules.iter().flat_map(|rule| rule["ports"].as_array().unwrap());
        all.map(|port| format!("{} {}", port["protocol"].as_str().unwrap(), port["port"])).collect::<BTreeSet<_>>()
    };
    // Probes come from the node, which is never shut out.
    let names = ports_of_the_pods(&deployment).into_iter().map(|(name, _)| name).filter(|name| name != "probes");
    assert_eq!(ports("ingress"), names.map(|name| format!("TCP \"{name}\"")).collect());
    let backends = config.pools.iter().flat_map(|pool| &pool.backends).map(|backend| match &backend.target {
        Target::Host { port, .. } => format!("TCP {port}"),
        other => panic!("{other} is no Service"),
    });
    let names = ["UDP 53", "TCP 53"].map(String::from);
    assert_eq!(ports("egress"), backends.chain(names).collect());
}
