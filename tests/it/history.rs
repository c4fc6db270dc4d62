//! The last ten minutes, as the API gives them.

use serde_json::Value;

use crate::harness::{Backend, Peer, Ringway, wait_until};

/// The sum of a column: what is per second in samples of a second each.
#[track_caller]
fn sum(column: &Value) -> f64 {
    column.as_array().unwrap_or_else(|| panic!("{column}")).iter().map(|value| value.as_f64().unwrap()).sum()
}

fn pool(ringway: &Ringway) -> Value {
    ringway.api().get("/v1/history?pool=main")["pools"][0].clone()
}

/// Whether a sum is that number. A second is never quite a second long, and a rate is rounded.
fn is_about(sum: f64, number: f64) -> bool {
    (sum - number).abs() <= number * 0.05
}

#[test]
fn what_happened_is_in_the_second_it_happened_in_and_nothing_is_lost_or_counted_twice() {
    let (backend, other) = (Backend::echo(), Backend::echo());
    let plan = Ringway::before([backend.address(), other.address()]).checked(1, 2).never_ejecting();
    let ringway = plan.listener("deny = [\"127.9.0.0/16\"]").start();
    wait_until("there is a first second", || ringway.api().get("/v1/history")["second"].as_u64() > Some(0));
    let mut clients: Vec<Peer> = (0..4).map(|_| ringway.connect()).collect();
    for client in &mut clients {
        client.send(&[7; 10_000]);
        client.expect(&[7; 10_000]);
    }
    let _ = Peer::connect_from(Some("127.9.0.1:0"), ringway.address()).map(|mut refused| refused.end());
    wait_until("bytes are in it", || is_about(sum(&pool(&ringway)["bytes_to_client_per_s"]), 40_000.0));
    let history = ringway.api().get("/v1/history");
    let main = &history["pools"][0];
    assert!(is_about(sum(&main["sessions_per_s"]), 4.0), "{main}");
    assert!(is_about(sum(&history["total"]["bytes_per_s"]), 80_000.0), "{history}");
    assert!(is_about(sum(&history["total"]["sessions_per_s"]), 5.0), "{history}");
    let backends = main["backends"].as_array().unwrap();
    let each: Vec<f64> = backends.iter().map(|backend| sum(&backend["sessions_per_s"])).collect();
    assert!(each.len() == 2 && each.iter().all(|sessions| is_about(*sessions, 2.0)), "{each:?}");
    assert_eq!(main["connections"].as_array().unwrap().last().unwrap(), 4);
    let refused = history["listeners"][0]["refused_per_s"].as_object().unwrap();
    assert_eq!(refused.keys().collect::<Vec<_>>(), ["deny"], "the reasons that occurred");
    assert!(is_about(sum(&refused["deny"]), 1.0));
    let connected = |part: &str| -> Vec<f64> {
        main["connect_ms"][part].as_array().unwrap().iter().filter_map(Value::as_f64).collect()
    };
    assert!(connected("p50")[0] > 0.0 && connected("p99")[0] >= connected("p50")[0], "{main}");
    let seconds = history["seconds"].as_u64().unwrap() as usize;
    assert_eq!(history["total"]["busy"].as_array().unwrap().len(), seconds);
}

#[test]
fn changes_of_state_and_of_the_configuration_are_marks() {
    let (staying, dying) = (Backend::echo(), Backend::echo());
    let ringway = Ringway::before([staying.address(), dying.address()]).checked(1, 2).never_ejecting().start();
    ringway.wait_up("main", "b", true);
    dying.kill();
    let marks = || ringway.api().get("/v1/history")["marks"].as_array().unwrap().clone();
    wait_until("the change is a mark", || marks().iter().any(|mark| mark["to"] == "down"));
    let mark = marks().into_iter().find(|mark| mark["to"] == "down").unwrap();
    assert_eq!((&mark["pool"], &mark["backend"], &mark["from"]), (&"main".into(), &"b".into(), &"up".into()));
    assert!(mark["reason"].as_str().unwrap().contains("refused"), "{mark}");
    ringway.change("rise = 1", "rise = 3");
    wait_until("so is the reload", || marks().iter().any(|mark| mark["generation"] == 2));
    let of_other = ringway.api().get("/v1/history?backends=false");
    assert!(of_other["pools"][0].get("backends").is_none(), "{of_other}");
}

#[test]
fn who_asks_again_is_told_only_what_is_new() {
    let backend = Backend::echo();
    let ringway = Ringway::before([backend.address()]).start();
    let ask = |query: &str| ringway.api().get(&format!("/v1/history{query}"));
    wait_until("there are three seconds", || ask("")["second"].as_u64() >= Some(3));
    let (mut seen, mut seconds) = (0, 0);
    wait_until("two seconds more", || {
        let answer = ask(&format!("?since={seen}"));
        seen = answer["second"].as_u64().unwrap();
        let new = answer["total"]["connections"].as_array().unwrap().len() as u64;
        assert_eq!(answer["seconds"], new);
        seconds += new;
        seen >= 5
    });
    assert_eq!(seconds, seen, "each second once");
    assert_eq!(ask("?seconds=2")["total"]["connections"].as_array().unwrap().len(), 2);
    let of_another_process = ask("?since=4000000000");
    assert!(of_another_process["seconds"].as_u64() >= Some(5), "{of_another_process}");
    for (query, status, words) in [
        ("?seconds=0", 400, "seconds must be between 1 and 600"),
        ("?seconds=601", 400, "seconds must be between 1 and 600"),
        ("?since=-1", 400, "since"),
        ("?minutes=1", 400, "minutes"),
        ("?pool=x", 404, "there is no pool `x`"),
    ] {
        let refusal = ringway.api().ask("GET", &format!("/v1/history{query}"), "").refused(status);
        assert!(refusal.contains(words), "{query}: {refusal}");
    }
}
