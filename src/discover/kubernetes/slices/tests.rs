use proptest::prelude::*;
use serde_json::json;

use super::*;

/// Such slices, of which each is named by its place.
fn slices(all: &[serde_json::Value]) -> Slices {
    let mut slices = Slices::default();
    for (number, slice) in all.iter().enumerate() {
        let mut sent: SentSlice = serde_json::from_value(slice.clone()).unwrap();
        sent.metadata.name = Some(format!("db-{number}"));
        slices.put(sent).unwrap();
    }
    slices
}

/// A slice of IPv4 with these endpoints and the port 5432.
fn slice(endpoints: &serde_json::Value) -> serde_json::Value {
    json!({"addressType": "IPv4", "endpoints": endpoints, "ports": [{"name": "", "port": 5432}]})
}

/// An endpoint with `ready`, `serving` and `terminating`.
fn endpoint(address: &str, conditions: &serde_json::Value) -> serde_json::Value {
    json!({"addresses": [address], "conditions": conditions})
}

/// What of it takes new sessions, and what does not, with its reason.
fn shown(answer: &Answer) -> Vec<String> {
    let one = |found: &Found| match &found.rests {
        None => found.address(),
        Some(why) => format!("{} {why}", found.address()),
    };
    answer.found.iter().map(one).collect()
}

fn found(all: &[serde_json::Value]) -> Vec<String> {
    shown(&slices(all).answer("db", "").unwrap())
}

#[test]
fn ready_ones_take_sessions_and_the_others_keep_theirs() {
    let endpoints = json!([
        endpoint("10.0.0.1", &json!({"ready": true, "serving": true, "terminating": false})),
        endpoint("10.0.0.2", &json!({"ready": false, "serving": false, "terminating": false})),
        endpoint("10.0.0.3", &json!({"ready": false, "serving": true, "terminating": true})),
        endpoint("10.0.0.4", &json!({"ready": false, "serving": false, "terminating": true})),
        endpoint("10.0.0.5", &json!({})),
        endpoint("10.0.0.6", &json!(null)),
        endpoint("10.0.0.7", &json!({"ready": null, "serving": null, "terminating": null})),
        endpoint("10.0.0.8", &json!({"ready": true, "serving": true, "terminating": true})),
    ]);
    assert_eq!(
        found(&[slice(&endpoints)]),
        [
            "10.0.0.1:5432",
            "10.0.0.2:5432 not ready, says Kubernetes",
            "10.0.0.3:5432 terminating, says Kubernetes",
            "10.0.0.4:5432 terminating, says Kubernetes",
            "10.0.0.5:5432",
            "10.0.0.6:5432",
            "10.0.0.7:5432",
            "10.0.0.8:5432",
        ]
    );
}

#[test]
fn without_a_ready_one_those_that_end_and_answer_still_take_sessions() {
    let last = endpoint("10.0.0.3", &json!({"ready": false, "serving": true, "terminating": true}));
    let gone = endpoint("10.0.0.4", &json!({"ready": false, "serving": false, "terminating": true}));
    let unready = endpoint("10.0.0.2", &json!({"ready": false}));
    let all = [slice(&json!([last, unready])), slice(&json!([gone]))];
    assert_eq!(
        found(&all),
        ["10.0.0.2:5432 not ready, says Kubernetes", "10.0.0.3:5432", "10.0.0.4:5432 terminating, says Kubernetes",]
    );
}

#[test]
fn an_address_in_several_slices_is_one_backend_and_ready_in_one_of_them() {
    let (ready, not) = (json!({"ready": true}), json!({"ready": false}));
    let all = [
        slice(&json!([endpoint("10.0.0.1", &not), endpoint("10.0.0.2", &ready)])),
        slice(&json!([endpoint("10.0.0.1", &ready)])),
        slice(&json!(null)),
        slice(&json!([])),
    ];
    assert_eq!(found(&all), ["10.0.0.1:5432", "10.0.0.2:5432"]);
}

#[test]
fn both_families_and_names_are_found_and_what_is_of_another_type_is_not() {
    let ready = json!({});
    let port = json!([{"port": 1}]);
    let of = |kind: &str, address: &str| {
        let endpoints = json!([endpoint(address, &ready)]);
        json!({"addressType": kind, "endpoints": endpoints, "ports": port})
    };
    let all = [
        of("IPv4", "10.0.0.1"),
        of("IPv6", "fd00::1"),
        of("FQDN", "db.example"),
        of("IPv4", "fd00::2"),
        of("IPv6", "10.0.0.2"),
        of("FQDN", "10.0.0.3"),
        of("Other", "10.0.0.4"),
        of("IPv4", "no address"),
        json!({"endpoints": [{}], "ports": [{"port": 1}]}),
    ];
    let answer = slices(&all).answer("db", "").unwrap();
    assert_eq!(shown(&answer), ["10.0.0.1:1", "[fd00::1]:1", "db.example:1"]);
    assert_eq!(answer.remarks.len(), 6, "{:?}", answer.remarks);
    assert_eq!(answer.remarks[0], "db-3: \"fd00::2\" is no address of a server of type \"IPv4\"; it is left out");
    let first = json!({"addressType": "IPv4", "endpoints": [{"addresses": ["10.0.0.1", "10.0.0.2"]}],
        "ports": [{"port": 1}]});
    assert_eq!(found(&[first]), ["10.0.0.1:1"], "only the first address has a meaning");
}

/// What is found of a service with these ports, or why nothing is.
fn at_port(ports: &serde_json::Value, wanted: &str) -> Result<Vec<String>, String> {
    let slice = json!({"addressType": "IPv4", "endpoints": [{"addresses": ["10.0.0.1"]}], "ports": ports});
    slices(&[slice]).answer("db", wanted).map(|answer| shown(&answer))
}

#[test]
fn a_port_is_found_by_its_name_or_its_number_or_as_the_only_one() {
    let one = json!([{"name": "pg", "protocol": "TCP", "port": 5432}, {"name": "x", "protocol": "UDP", "port": 53}]);
    let two = json!([{"name": "pg", "port": 5432}, {"name": "metrics", "port": 9187}]);
    let at = |port: u16| Ok(vec![format!("10.0.0.1:{port}")]);
    assert_eq!(at_port(&one, ""), at(5432), "the only one of TCP");
    assert_eq!(at_port(&two, "metrics"), at(9187));
    assert_eq!(at_port(&two, "9187"), at(9187));
    assert_eq!(at_port(&json!(null), "7"), at(7), "a headless service need not name one");
    assert_eq!(at_port(&json!([{"name": "", "port": null}]), "7"), at(7), "every port");
    let which = "the service \"db\" has not one port; write into `port` which one: \"metrics\" (9187), \"pg\" (5432)";
    assert_eq!(at_port(&two, ""), Err(which.to_string()));
    let none = "the service \"db\" has no port \"web\"; it has \"metrics\" (9187), \"pg\" (5432)";
    assert_eq!(at_port(&two, "web"), Err(none.to_string()));
    assert!(at_port(&two, "1").is_err() && at_port(&one, "53").is_err() && at_port(&one, "x").is_err());
    for ports in [json!([]), json!([{"port": 0}, {"port": 70_000}, {"port": -1}])] {
        let why = at_port(&ports, "").unwrap_err();
        assert!(why.contains("no port of TCP") && why.contains("write its number"), "{why}");
    }
}

#[test]
fn a_slice_without_the_port_does_not_take_away_the_others() {
    let of = |name: &str, address: &str| {
        let (endpoints, ports) = (json!([{"addresses": [address]}]), json!([{"name": name, "port": 1}]));
        json!({"addressType": "IPv4", "endpoints": endpoints, "ports": ports})
    };
    let answer = slices(&[of("pg", "10.0.0.1"), of("sql", "10.0.0.2")]).answer("db", "pg").unwrap();
    assert_eq!(shown(&answer), ["10.0.0.1:1"]);
    assert!(answer.trouble.is_some_and(|why| why.contains("no port \"pg\"")));
    let empty = json!({"addressType": "IPv4", "endpoints": null, "ports": null});
    let answer = slices(&[of("pg", "10.0.0.1"), empty.clone()]).answer("db", "pg").unwrap();
    assert_eq!(answer.trouble, None, "one without endpoints has no port either");
    assert_eq!(slices(&[empty]).answer("db", "pg").unwrap(), Answer::default());
}

#[test]
fn a_server_cannot_make_ringway_keep_without_end() {
    let mut slices = Slices::default();
    let address = |number| format!("10.0.{}.{}", number / 250, number % 250 + 1);
    let endpoints: Vec<_> = (0..1000).map(|number| json!({"addresses": [address(number)]})).collect();
    let sent: SentSlice = serde_json::from_value(slice(&json!(endpoints))).unwrap();
    let named = |name: String| {
        let mut sent = sent.clone();
        sent.metadata.name = Some(name);
        sent
    };
    for number in 0..50 {
        slices.put(named(format!("db-{number}"))).unwrap();
    }
    slices.put(named("db-0".to_string())).unwrap();
    assert!(slices.put(named("db-50".to_string())).unwrap_err().contains("more than 50000 endpoints"));
    slices.remove("db-50");
    slices.remove("db-50");
    assert_eq!(slices.endpoints_count, 50_000);
    for name in ["", &"x".repeat(254)] {
        assert!(slices.put(named(name.to_string())).is_err());
    }
}

/// JSON of any shape, with the names that are looked for.
pub(in crate::discover::kubernetes) fn any_json() -> impl Strategy<Value = serde_json::Value> {
    let leaf = prop_oneof![
        Just(serde_json::Value::Null),
        any::<bool>().prop_map(Into::into),
        any::<i64>().prop_map(Into::into),
        any::<f64>().prop_map(Into::into),
        "[0-9.:a-z\u{0}-\u{ff}]{0,12}".prop_map(Into::into),
        prop::sample::select(vec!["10.0.0.1", "10.0.0.2", "fd00::1", "a.b", "IPv4", "IPv6", "FQDN", "TCP", "ADDED"])
            .prop_map(Into::into),
    ];
    let names = vec![
        "metadata",
        "name",
        "resourceVersion",
        "continue",
        "addressType",
        "endpoints",
        "addresses",
        "conditions",
        "ready",
        "serving",
        "terminating",
        "ports",
        "port",
        "protocol",
        "items",
        "kind",
        "type",
        "object",
        "code",
        "x",
    ];
    leaf.prop_recursive(6, 60, 6, move |inner| {
        let pairs = (prop::sample::select(names.clone()), inner.clone());
        prop_oneof![
            prop::collection::vec(inner, 0..5).prop_map(Into::into),
            prop::collection::vec(pairs, 0..6)
                .prop_map(|pairs| pairs.into_iter().map(|(key, value)| (key.to_string(), value)).collect()),
        ]
    })
}

proptest! {
    #[test]
    fn slices_of_any_shape_give_answers_that_are_fit(
        values in prop::collection::vec(any_json(), 1..4),
        wanted in "[a-z0-9]{0,3}",
    ) {
        let mut slices = Slices::default();
        for (number, value) in values.into_iter().enumerate() {
            if let Ok(mut sent) = serde_json::from_value::<SentSlice>(value) {
                sent.metadata.name = Some(number.to_string());
                let _ = slices.put(sent);
            }
        }
        if let Ok(answer) = slices.answer("db", &wanted) {
            let mut addresses: Vec<String> = answer.found.iter().map(Found::address).collect();
            let count = addresses.len();
            addresses.sort();
            addresses.dedup();
            prop_assert_eq!(addresses.len(), count);
            prop_assert!(answer.found.iter().all(|found| found.port > 0));
        }
    }
}
