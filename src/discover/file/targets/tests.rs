use super::*;
use proptest::prelude::*;

fn shown(text: &str) -> Result<Vec<String>, String> {
    let show = |found: &Found| {
        format!("{} at {} weight {} backup {}", found.name(), found.address(), found.weight, found.backup)
    };
    read(text.as_bytes()).map(|all| all.iter().map(show).collect())
}

#[test]
fn a_file_of_prometheus_is_read_with_the_labels_that_are_ours() {
    let text = r#"[
        {"targets": ["10.0.0.1:5432", "db.example:5433", "[fd00::1]:1"],
         "labels": {"job": "db", "ringway_backup": "2"}},
        {"targets": ["10.0.0.2:5432"], "labels": {"ringway_name": "main", "ringway_weight": "256"}, "x": 1},
        {"targets": []}
    ]"#;
    assert_eq!(
        shown(text).unwrap(),
        [
            "10.0.0.1:5432 at 10.0.0.1:5432 weight 1 backup 2",
            "db.example:5433 at db.example:5433 weight 1 backup 2",
            "[fd00::1]:1 at [fd00::1]:1 weight 1 backup 2",
            "main at 10.0.0.2:5432 weight 256 backup 0",
        ]
    );
    assert_eq!(shown("[]").unwrap(), [""; 0]);
}

#[test]
fn one_wrong_value_makes_the_file_bad_and_is_named() {
    for (text, says) in [
        ("", "EOF while parsing"),
        ("[{\"targets\": [\"10.0.0.1:5432\"", "EOF while parsing"),
        ("{}", "expected a sequence"),
        (r#"[{"targets": ["10.0.0.1"]}]"#, "\"10.0.0.1\" is no target"),
        (r#"[{"targets": ["10.0.0.1:0"]}]"#, "is no target"),
        (r#"[{"targets": ["10.1:80"]}]"#, "is no target"),
        (r#"[{"targets": ["http://a:80"]}]"#, "is no target"),
        (r#"[{"targets": ["::1:80"]}]"#, "is no target"),
        (r#"[{"targets": ["a:1"], "labels": {"ringway_weight": "257"}}]"#, "ringway_weight = \"257\"; it goes from 0"),
        (r#"[{"targets": ["a:1"], "labels": {"ringway_backup": "x"}}]"#, "ringway_backup = \"x\"; it goes from 0"),
        (r#"[{"targets": ["a:1", "b:1"], "labels": {"ringway_name": "x"}}]"#, "is the name of one target"),
        (r#"[{"targets": ["a:1"], "labels": {"ringway_weight": 2}}]"#, "expected a string"),
    ] {
        let error = shown(text).expect_err(text);
        assert!(error.contains(says), "{text}: {error}");
    }
}

proptest! {
    #[test]
    fn no_file_makes_it_panic(bytes: Vec<u8>, text in "\\[\\{\"targets\": \\[\"[a-z0-9.:\\[\\]]{0,20}\"\\]\\}\\]") {
        let _ = read(&bytes);
        if let Ok(all) = read(text.as_bytes()) {
            prop_assert!(all.iter().all(|found| found.port > 0));
        }
    }
}
