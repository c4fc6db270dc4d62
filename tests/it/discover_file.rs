//! Backends in files, as Prometheus' `file_sd` has them: found, changed, lost, and never lost by mistake.

use std::fs;
use std::path::Path;
use std::time::Duration;

use crate::dns::{session, wait_serving};
use crate::harness::{Backend, End, Ringway, wait_until};

/// A ringway whose backends stand in the files of a folder.
fn start(folder: &Path, more: &str) -> Ringway {
    let path = folder.join("*.json");
    Ringway::plan()
        .pool("drain_timeout = \"1s\"")
        .more(&format!("[pools.main.discover]\ntype = \"file\"\npath = {path:?}\n{more}\n"))
        .start()
}

fn targets(backends: &[&Backend]) -> String {
    let all: Vec<String> = backends.iter().map(|backend| format!("{:?}", backend.address())).collect();
    format!("[{{\"targets\": [{}], \"labels\": {{\"job\": \"db\"}}}}]", all.join(", "))
}

/// Puts a file into the place of another, as programs that write such files do.
fn replace(folder: &Path, name: &str, text: &str) {
    fs::write(folder.join("new"), text).unwrap();
    fs::rename(folder.join("new"), folder.join(name)).unwrap();
}

fn up(ringway: &Ringway) -> u64 {
    ringway.metrics().count("discovery_up", &[("pool", "main")])
}

#[test]
fn backends_come_and_go_with_the_files_and_say_where_they_come_from() {
    let [a, b, c] = ["a", "b", "c"].map(Backend::named);
    let folder = tempfile::tempdir().unwrap();
    replace(folder.path(), "one.json", &targets(&[&a]));
    let ringway = start(folder.path(), "");
    wait_serving(&ringway, &["a"]);
    replace(folder.path(), "two.json", &targets(&[&b, &c]));
    wait_serving(&ringway, &["a", "b", "c"]);
    let pool = &ringway.api().get("/v1/pools/main");
    assert_eq!(pool["discovery"]["type"], "file");
    assert_eq!((&pool["discovery"]["up"], &pool["discovery"]["backends"]), (&true.into(), &3.into()));
    for backend in pool["backends"].as_array().unwrap() {
        assert_eq!((&backend["origin"], &backend["name"]), (&"file".into(), &backend["address"]), "{backend}");
        assert!(backend["confirmed_ms"].as_u64().unwrap() < 60_000, "{backend}");
    }
    let origin = [("backend", a.address()), ("origin", "file")];
    assert_eq!(ringway.metrics().count("backend_origin", &origin), 1);
    // One that leaves drains: an open session goes on for a while.
    let (mut client, name) = loop {
        let (client, name) = session(&ringway);
        if name != "a" {
            break (client, name);
        }
    };
    fs::remove_file(folder.path().join("two.json")).unwrap();
    wait_serving(&ringway, &["a"]);
    assert!(client.is_silent_for(Duration::from_millis(100)), "the session with {name} goes on");
    assert_eq!(client.end(), End::Reset, "until the drain is over");
    assert_eq!(up(&ringway), 1);
    ringway.stop();
}

/// A writer that was stopped half-way, and one that writes nonsense.
#[test]
fn a_file_that_makes_no_sense_takes_no_backend_away_and_is_told_once() {
    let [a, b, c] = ["a", "b", "c"].map(Backend::named);
    let folder = tempfile::tempdir().unwrap();
    replace(folder.path(), "one.json", &targets(&[&a]));
    replace(folder.path(), "two.json", &targets(&[&b]));
    let ringway = start(folder.path(), "");
    wait_serving(&ringway, &["a", "b"]);
    let whole = targets(&[&c]);
    fs::write(folder.path().join("two.json"), &whole[..whole.len() / 2]).unwrap();
    wait_until("it is seen", || up(&ringway) == 0);
    replace(folder.path(), "one.json", &targets(&[&c]));
    wait_serving(&ringway, &["b", "c"]);
    assert!(ringway.api().get("/v1/pools/main")["discovery"]["trouble"].as_str().unwrap().contains("two.json"));
    fs::write(folder.path().join("two.json"), "[{\"targets\": [\"nonsense\"]}]").unwrap();
    let trouble = || ringway.api().get("/v1/pools/main")["discovery"]["trouble"].to_string();
    wait_until("the other fault is seen", || trouble().contains("nonsense"));
    wait_serving(&ringway, &["b", "c"]);
    fs::write(folder.path().join("two.json"), targets(&[&a])).unwrap();
    wait_serving(&ringway, &["a", "c"]);
    wait_until("all is well", || up(&ringway) == 1);
    let said = ringway.process().output();
    assert_eq!(said.matches("cannot be asked for backends").count(), 1, "{said}");
    assert_eq!(said.matches("can be asked for backends again").count(), 1, "{said}");
    ringway.stop();
}

#[test]
fn the_last_backends_stay_unless_empty_means_drop() {
    let a = Backend::named("a");
    for (more, stays) in [("", true), ("empty = \"drop\"", false)] {
        let folder = tempfile::tempdir().unwrap();
        replace(folder.path(), "one.json", &targets(&[&a]));
        let ringway = start(folder.path(), more);
        wait_serving(&ringway, &["a"]);
        replace(folder.path(), "one.json", "[]");
        if stays {
            ringway.wait_said("it has no backend any more");
            wait_serving(&ringway, &["a"]);
        } else {
            wait_serving(&ringway, &[""]);
        }
        ringway.stop();
    }
}

/// The volume of a ConfigMap: a link to a folder is replaced, and the file is a link through it.
#[test]
fn a_volume_of_kubernetes_is_followed() {
    let [a, b] = ["a", "b"].map(Backend::named);
    let folder = tempfile::tempdir().unwrap();
    for (name, backend) in [("..1", &a), ("..2", &b)] {
        fs::create_dir(folder.path().join(name)).unwrap();
        fs::write(folder.path().join(name).join("t.json"), targets(&[backend])).unwrap();
    }
    let link = |to: &str, name: &str| std::os::unix::fs::symlink(to, folder.path().join(name)).unwrap();
    link("..1", "..data");
    link("..data/t.json", "t.json");
    let ringway = start(folder.path(), "");
    wait_serving(&ringway, &["a"]);
    link("..2", "..data_tmp");
    fs::rename(folder.path().join("..data_tmp"), folder.path().join("..data")).unwrap();
    wait_serving(&ringway, &["b"]);
    ringway.stop();
}

/// Static backends serve beside those that are found, also where both are the same server, and labels count.
#[test]
fn labels_count_and_what_stands_in_the_configuration_is_no_second_backend() {
    let [a, b] = ["a", "b"].map(Backend::named);
    let folder = tempfile::tempdir().unwrap();
    let group =
        |backend: &Backend, labels: &str| format!("{{\"targets\": [{:?}], \"labels\": {labels}}}", backend.address());
    let spare = group(&b, "{\"ringway_name\": \"spare\", \"ringway_backup\": \"2\", \"ringway_weight\": \"9\"}");
    replace(folder.path(), "t.json", &format!("[{}, {spare}]", group(&a, "{}")));
    let path = folder.path().join("t.json");
    let ringway = Ringway::plan()
        .backend("own", a.address(), "")
        .more(&format!("[pools.main.discover]\ntype = \"file\"\npath = {path:?}\n"))
        .start();
    wait_until("both are there", || ringway.api().get("/v1/pools/main")["backends"].as_array().unwrap().len() == 2);
    let spare = ringway.api().get("/v1/pools/main/backends/spare");
    assert_eq!((&spare["backup_level"], &spare["weight"]), (&2.into(), &9.into()), "{spare}");
    assert_eq!(ringway.api().get("/v1/pools/main/backends/own")["origin"], "config");
    wait_serving(&ringway, &["a"]);
    assert!(ringway.reload(), "a reload keeps what was found");
    assert_eq!(ringway.api().get("/v1/pools/main")["backends"].as_array().unwrap().len(), 2);
    ringway.stop();
}
