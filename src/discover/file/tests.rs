use std::fs;
use std::path::Path;

use super::*;

/// The addresses of an answer, and its trouble.
fn shown(news: News) -> (Vec<String>, Option<String>) {
    match news {
        News::Answer(answer) => (answer.found.iter().map(Found::address).collect(), answer.trouble),
        other => panic!("{other:?}"),
    }
}

/// A file with these targets that was changed long ago, so that it counts as settled.
fn write(path: &Path, text: &str, age_s: u64) {
    fs::write(path, text).unwrap();
    let file = fs::File::options().write(true).open(path).unwrap();
    file.set_modified(SystemTime::now() - Duration::from_secs(age_s)).unwrap();
}

fn targets(all: &[&str]) -> String {
    format!("[{{\"targets\": {all:?}}}]")
}

#[test]
fn a_star_stands_for_any_characters_of_a_name() {
    for (pattern, name, is_fit) in [
        ("*.json", "a.json", true),
        ("*.json", "a.json.tmp", false),
        ("*", "a", true),
        ("db-*-x*.json", "db-1-x.json", true),
        ("db-*-x*.json", "db-1-y.json", false),
        ("a*a", "a", false),
        ("a*b*a", "aba", true),
    ] {
        assert_eq!(fits(pattern, name), is_fit, "{pattern} {name}");
    }
}

#[test]
fn a_bad_file_keeps_its_old_targets_and_a_deleted_one_has_none() {
    let folder = tempfile::tempdir().unwrap();
    let (pattern, mut known) = (folder.path().join("*.json"), KnownFiles::default());
    let look_again = |known: &mut KnownFiles| known.on(look(&pattern, &known.marks()).unwrap());
    let (a, b) = (folder.path().join("a.json"), folder.path().join("b.json"));
    write(&a, &targets(&["10.0.0.1:1"]), 100);
    write(&b, &targets(&["10.0.0.2:1", "10.0.0.1:1"]), 100);
    write(&folder.path().join(".hidden.json"), "broken", 100);
    assert_eq!(shown(look_again(&mut known)), (vec!["10.0.0.1:1".into(), "10.0.0.2:1".into()], None));
    assert_eq!(look_again(&mut known), News::Confirmed, "nothing has changed");
    write(&b, "[{\"targets\": [\"10.0.0.3:1\"", 90);
    let (found, trouble) = shown(look_again(&mut known));
    assert_eq!(found, ["10.0.0.1:1", "10.0.0.2:1"], "half a file changes nothing");
    assert!(trouble.unwrap().contains("b.json: EOF"), "and is told");
    assert!(matches!(look_again(&mut known), News::Answer(Answer { trouble: Some(_), .. })), "as long as it is broken");
    write(&b, &targets(&["10.0.0.3:1"]), 80);
    fs::remove_file(&a).unwrap();
    assert_eq!(shown(look_again(&mut known)), (vec!["10.0.0.3:1".into()], None));
    fs::remove_file(&b).unwrap();
    assert_eq!(shown(look_again(&mut known)), (vec![], None));
    assert!(look(&folder.path().join("none/*.json"), &BTreeMap::new()).unwrap_err().contains("cannot read"));
}

/// A pipe that nothing writes to would be read for ever.
#[test]
fn what_is_no_regular_file_is_named_and_not_read() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("t.json");
    let _socket = std::os::unix::net::UnixListener::bind(&path).unwrap();
    let seen = look(&folder.path().join("*.json"), &BTreeMap::new()).unwrap();
    assert_eq!(seen[&path], Seen::Bad(None, "it is no regular file".to_owned()));
}

/// A ConfigMap of Kubernetes is a link to a link, and the second one is replaced.
#[test]
fn a_link_that_leads_elsewhere_is_a_change() {
    let folder = tempfile::tempdir().unwrap();
    for (name, target) in [("one", "10.0.0.1:1"), ("two", "10.0.0.2:1")] {
        fs::create_dir(folder.path().join(name)).unwrap();
        write(&folder.path().join(name).join("t.json"), &targets(&[target]), 100);
    }
    let link = |to: &str, name: &str| std::os::unix::fs::symlink(to, folder.path().join(name)).unwrap();
    link("one", "..data");
    link("..data/t.json", "t.json");
    let (pattern, mut known) = (folder.path().join("*.json"), KnownFiles::default());
    assert_eq!(shown(known.on(look(&pattern, &known.marks()).unwrap())).0, ["10.0.0.1:1"]);
    link("two", "..tmp");
    fs::rename(folder.path().join("..tmp"), folder.path().join("..data")).unwrap();
    assert_eq!(shown(known.on(look(&pattern, &known.marks()).unwrap())).0, ["10.0.0.2:1"]);
}

/// Two changes within one step of the file system's clock leave the same marks.
#[test]
fn a_file_that_has_just_changed_is_read_again() {
    let folder = tempfile::tempdir().unwrap();
    let file = folder.path().join("t.json");
    let mut known = KnownFiles::default();
    write(&file, &targets(&["10.0.0.1:1"]), 0);
    known.on(look(&file, &known.marks()).unwrap());
    let at = fs::metadata(&file).unwrap().modified().unwrap();
    fs::write(&file, targets(&["10.0.0.2:1"])).unwrap();
    fs::File::options().write(true).open(&file).unwrap().set_modified(at).unwrap();
    assert_eq!(shown(known.on(look(&file, &known.marks()).unwrap())).0, ["10.0.0.2:1"]);
}
