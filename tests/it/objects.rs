//! Backends that are added and removed while ringway runs, whole configurations that are applied, and what of it is
//! there after a restart.

use std::path::Path;
use std::sync::Barrier;
use std::time::Duration;

use serde_json::{Value, json};

use crate::dns::{session, wait_serving};
use crate::harness::ringway::Plan;
use crate::harness::{Backend, End, PATIENCE, Ringway, wait_until};

/// A pool of this backend, whose changes are kept in a file.
fn plan(backend: &Backend, folder: &Path) -> Plan {
    let file = folder.join("state.json");
    Ringway::before([backend.address()]).process(&format!("state_file = {file:?}")).pool("drain_timeout = \"1s\"")
}

const BACKENDS: &str = "/v1/pools/main/backends";

fn add(ringway: &Ringway, name: &str, backend: &Backend) -> Value {
    let body = json!({ "name": name, "address": backend.address() });
    ringway.api().ask("POST", BACKENDS, &body.to_string()).expect(201)
}

fn names(ringway: &Ringway) -> Vec<String> {
    let backends = ringway.api().get("/v1/pools/main")["backends"].clone();
    let live = backends.as_array().unwrap().iter().filter(|it| it["removed"] == false);
    live.map(|it| format!("{} {}", it["name"].as_str().unwrap(), it["origin"].as_str().unwrap())).collect()
}

#[test]
fn a_backend_that_is_added_serves_before_the_answer_and_one_that_is_removed_drains() {
    let [a, b] = ["a", "b"].map(Backend::named);
    let folder = tempfile::tempdir().unwrap();
    let ringway = plan(&a, folder.path()).start();
    let answer = add(&ringway, "new", &b);
    assert_eq!(answer["changes"], json!([format!("pools.main.backends.new added ({})", b.address())]));
    let (mut client, name) = session(&ringway);
    let (other, second) = session(&ringway);
    assert!([name.as_str(), second.as_str()].contains(&"b"), "it serves: {name} {second}");
    drop(other);
    assert_eq!(names(&ringway), ["a config", "new api"]);
    let taken = ringway.api().ask("POST", BACKENDS, &json!({ "name": "new", "address": "10.0.0.9:1" }).to_string());
    assert!(taken.refused(409).contains("has a backend `new` already"));
    let same = json!({ "name": "again", "address": b.address() }).to_string();
    assert!(ringway.api().ask("POST", BACKENDS, &same).refused(409).contains("is backend `new`"));

    let of = if name == "b" { "new" } else { "a" };
    let answer = ringway.api().ask("DELETE", &format!("{BACKENDS}/{of}?deadline_ms=1500"), "").expect(200);
    assert!(answer["changes"][0].as_str().unwrap().contains("1 session will be cut within 2 s"), "{answer}");
    wait_serving(&ringway, &[if of == "new" { "a" } else { "b" }]);
    let again = json!({ "name": of, "address": "10.0.0.9:1" }).to_string();
    assert!(ringway.api().ask("POST", BACKENDS, &again).refused(409).contains("drains"));
    assert!(client.is_silent_for(Duration::from_millis(100)), "its session goes on");
    assert_eq!(client.end(), End::Reset, "until the deadline");
    wait_until("it is gone", || ringway.api().ask("GET", &format!("{BACKENDS}/{of}"), "").status == 404);
    ringway.stop();
}

#[test]
fn what_is_wrong_changes_nothing_and_is_named() {
    let a = Backend::named("a");
    let folder = tempfile::tempdir().unwrap();
    let ringway = plan(&a, folder.path()).start();
    for (body, status, says) in [
        ("", 400, "it takes {"),
        ("[]", 422, "write an object"),
        ("{}", 422, "has no `address`"),
        (r#"{"address": "10.0.0.1"}"#, 422, "`address`"),
        (r#"{"address": "10.0.0.1:1", "weight": 300}"#, 422, "`weight`"),
        (r#"{"address": "10.0.0.1:1", "wait": 3}"#, 422, "unknown key `wait`"),
        (r#"{"address": "10.0.0.1:1", "name": "a/\n"}"#, 422, "`name`"),
    ] {
        let said = ringway.api().ask("POST", BACKENDS, body).refused(status);
        assert!(said.contains(says), "{body}: {said}");
    }
    let elsewhere = ringway.api().ask("POST", "/v1/pools/none/backends", r#"{"address": "10.0.0.1:1"}"#);
    assert!(elsewhere.refused(404).contains("pool `none`"));
    assert!(ringway.api().ask("DELETE", &format!("{BACKENDS}/none"), "").refused(404).contains("`none`"));
    assert_eq!(names(&ringway), ["a config"]);
    assert!(!folder.path().join("state.json").exists(), "nothing was to be kept");
    ringway.stop();
}

/// The folder is gone, so that nothing can be written.
#[test]
fn a_change_that_cannot_be_kept_is_not_made() {
    let [a, b] = ["a", "b"].map(Backend::named);
    let folder = tempfile::tempdir().unwrap();
    let ringway = plan(&a, folder.path()).start();
    std::fs::remove_dir_all(folder.path()).unwrap();
    let body = json!({ "name": "b", "address": b.address() }).to_string();
    assert!(ringway.api().ask("POST", BACKENDS, &body).refused(500).contains("nothing was changed"));
    let refused = ringway.api().patch(&format!("{BACKENDS}/a"), r#"{"state": "maintenance"}"#).refused(500);
    assert!(refused.contains("state_file"), "{refused}");
    assert!(ringway.api().ask("DELETE", &format!("{BACKENDS}/a"), "").refused(500).contains("nothing was changed"));
    assert_eq!(names(&ringway), ["a config"]);
    wait_serving(&ringway, &["a"]);
    ringway.stop();
}

#[test]
fn what_was_changed_is_there_after_a_reload_a_kill_and_a_take_over_until_the_file_changes_it() {
    let [a, b, c] = ["a", "b", "c"].map(Backend::named);
    let folder = tempfile::tempdir().unwrap();
    let plan = || plan(&a, folder.path()).backend("gone", b.address(), "");
    let ringway = plan().start();
    add(&ringway, "new", &c);
    ringway.api().ask("DELETE", &format!("{BACKENDS}/gone"), "").expect(200);
    ringway.api().patch(&format!("{BACKENDS}/a"), r#"{"weight": 7}"#).expect(200);
    ringway.api().patch(&format!("{BACKENDS}/new"), r#"{"state": "maintenance"}"#).expect(200);
    let is_as_changed = |ringway: &Ringway| {
        assert_eq!(names(ringway), ["a config", "new api"]);
        let backends = &ringway.api().get("/v1/pools/main")["backends"];
        assert_eq!((&backends[0]["weight"], &backends[1]["state"]), (&7.into(), &"maintenance".into()), "{backends}");
    };
    is_as_changed(&ringway);
    assert!(ringway.reload());
    is_as_changed(&ringway);
    let next = ringway.successor(|toml| toml);
    ringway.wait(PATIENCE);
    is_as_changed(&next);
    next.signal(9);
    next.wait(PATIENCE);
    let ringway = plan().start();
    is_as_changed(&ringway);
    // The file says something else of two of them.
    let edited = |toml: String| {
        toml.replace("name = \"gone\"", "name = \"gone\"\nweight = 3")
            .replace("name = \"a\"", "name = \"a\"\nweight = 2")
    };
    ringway.edit(edited);
    assert!(ringway.reload());
    assert_eq!(names(&ringway), ["a config", "gone config", "new api"]);
    assert_eq!(ringway.api().get("/v1/pools/main")["backends"][0]["weight"], 2);
    ringway.stop();
    let state = format!("state_file = {:?}", folder.path().join("state.json"));
    let edited = Ringway::plan().process(&state).backend("a", a.address(), "weight = 2");
    let ringway = edited.backend("gone", b.address(), "weight = 3").start();
    assert_eq!(names(&ringway), ["a config", "gone config", "new api"]);
    assert_eq!(ringway.api().get("/v1/pools/main")["backends"][0]["weight"], 2);
    ringway.stop();
}

#[test]
fn a_state_file_that_is_broken_is_copied_aside_and_does_not_stop_the_start() {
    let a = Backend::named("a");
    let folder = tempfile::tempdir().unwrap();
    std::fs::write(folder.path().join("state.json"), "{\"version\": 1, \"backends\": [{\"po").unwrap();
    let ringway = plan(&a, folder.path()).start();
    ringway.wait_said("cannot be used");
    wait_serving(&ringway, &["a"]);
    let copies = std::fs::read_dir(folder.path()).unwrap().flatten();
    let copies = copies.filter(|entry| entry.file_name().to_string_lossy().contains("state.json.corrupt-"));
    assert_eq!(copies.count(), 1);
    ringway.stop();
}

/// Eight clients, each adding and removing backends of its own.
#[test]
fn clients_that_change_at_the_same_time_are_served_one_after_the_other() {
    const CLIENTS: usize = 8;
    let a = Backend::named("a");
    let folder = tempfile::tempdir().unwrap();
    let ringway = plan(&a, folder.path()).start();
    let barrier = Barrier::new(CLIENTS);
    std::thread::scope(|scope| {
        for client in 0..CLIENTS {
            let (ringway, barrier) = (&ringway, &barrier);
            scope.spawn(move || {
                barrier.wait();
                for number in 0..5 {
                    let name = format!("c{client}-{number}");
                    let body = json!({ "name": name, "address": format!("127.9.{client}.{}:1", number + 1) });
                    ringway.api().ask("POST", BACKENDS, &body.to_string()).expect(201);
                    if number % 2 == 0 {
                        ringway.api().ask("DELETE", &format!("{BACKENDS}/{name}"), "").expect(200);
                    }
                    // All want the same name, and one gets it.
                    let address = format!("127.8.{client}.{}:1", number + 1);
                    let same = json!({ "name": format!("same{number}"), "address": address });
                    let status = ringway.api().ask("POST", BACKENDS, &same.to_string()).status;
                    assert!([201, 409].contains(&status), "{status}");
                }
            });
        }
    });
    let all = names(&ringway);
    assert_eq!(all.len(), 1 + CLIENTS * 2 + 5, "{all:?}");
    let kept: Value = serde_json::from_slice(&std::fs::read(folder.path().join("state.json")).unwrap()).unwrap();
    assert_eq!(kept["backends"].as_array().unwrap().len(), CLIENTS * 2 + 5);
    ringway.stop();
}

#[test]
fn a_whole_configuration_is_applied_after_it_was_foreseen_and_lasts_until_a_reload() {
    let [a, b] = ["a", "b"].map(Backend::named);
    let folder = tempfile::tempdir().unwrap();
    let ringway = plan(&a, folder.path()).start();
    let own = std::fs::read_to_string(ringway.file()).unwrap();
    let put = |text: &str, query: &str| ringway.api().ask("PUT", &format!("/v1/config{query}"), text);
    let same = put(&own, "?dry_run=1").expect(200);
    assert_eq!(same["changes"], json!([]), "{same}");
    assert_eq!(same["consequences"], json!({ "opened": [], "closed": [], "drained": [], "sessions_cut": 0 }));
    let other = own.replace(a.address(), b.address()).replace("name = \"a\"", "name = \"b\"");
    let (mut client, _) = session(&ringway);
    let foreseen = put(&other, "?dry_run=1").expect(200);
    assert_eq!(foreseen["consequences"]["sessions_cut"], 1, "{foreseen}");
    assert_eq!(foreseen["consequences"]["drained"][0]["sessions"], 1, "{foreseen}");
    assert_eq!(names(&ringway), ["a config"], "nothing has happened");
    let said = put(&own.replacen("bind = ", "bind = 7 # ", 1), "").refused(422);
    assert!(said.contains("bind"), "{said}");
    let said = put(&own.replace("workers = 2", "workers = 1"), "").refused(422);
    assert!(said.contains("workers") && said.contains("take-over"), "{said}");
    assert_eq!(put(&other, "").expect(200)["consequences"], foreseen["consequences"]);
    wait_serving(&ringway, &["b"]);
    assert_eq!(client.end(), End::Reset, "its backend has drained");
    let before = ringway;
    let ringway = before.successor(|toml| toml);
    before.wait(PATIENCE);
    wait_serving(&ringway, &["b"]);
    ringway.wait_said("this is not the configuration of the file");
    assert!(ringway.reload());
    wait_serving(&ringway, &["a"]);
    ringway.stop();
}

/// It is ended at any moment while it changes, again and again: what was answered is there, and what is there makes
/// sense.
#[test]
fn no_kill_at_any_moment_loses_what_was_answered() {
    kill_again_and_again(12);
}

/// The whole promise takes minutes.
#[test]
#[ignore = "takes minutes: scripts/test.sh --test it -- --ignored two_hundred_kills"]
fn two_hundred_kills_at_any_moment_lose_nothing_that_was_answered() {
    kill_again_and_again(200);
}

fn kill_again_and_again(rounds: u64) {
    let a = Backend::named("a");
    let folder = tempfile::tempdir().unwrap();
    let (mut answered, mut next) = (Vec::<String>::new(), 0u64);
    let mut ringway = plan(&a, folder.path()).start();
    for round in 0..rounds {
        let before: Vec<String> = names(&ringway).into_iter().filter(|name| name.ends_with(" api")).collect();
        for name in &answered {
            assert!(
                before.contains(&format!("{name} api")),
                "round {round}: {name} was answered, and there is {before:?}"
            );
        }
        std::thread::scope(|scope| {
            scope.spawn(|| {
                std::thread::sleep(Duration::from_micros(5_000 + (round * 7919) % 80_000));
                ringway.signal(9);
            });
            loop {
                next += 1;
                let name = format!("n{next}");
                let body = json!({ "name": name, "address": format!("127.7.{}.{}:1", next / 250, next % 250 + 1) });
                match ringway.api().try_ask("POST", BACKENDS, &body.to_string()) {
                    Some(status) => {
                        assert_eq!(status, 201);
                        answered.push(name);
                    }
                    None => break,
                }
            }
        });
        ringway.wait(PATIENCE);
        ringway = plan(&a, folder.path()).start();
    }
    assert!(answered.len() as u64 > rounds / 2, "{} were answered", answered.len());
    ringway.stop();
}
