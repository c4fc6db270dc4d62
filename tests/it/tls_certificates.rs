//! Certificates that listeners show: when they expire, and new files that cannot be used.

use std::path::Path;
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use rcgen::{CertificateParams, DnType, KeyPair};
use serde_json::{Value, json};

use super::tls_listener::plan;
use crate::harness::authority::{Authority, Certificate};
use crate::harness::browser::Browser;
use crate::harness::process::{Ended, run};
use crate::harness::secure::Trust;
use crate::harness::{Backend, Ringway, wait_until};

const NAME: &str = "db.example";
const ERRORS: &str = "tls_certificate_errors_total";
const NOT_AFTER: &str = "tls_certificate_not_after_seconds";
/// Longer than it takes to look at the files twice.
const TWO_LOOKS: Duration = Duration::from_secs(5);

fn now_s() -> u64 {
    SystemTime::now().duration_since(UNIX_EPOCH).unwrap().as_secs()
}

/// It ceases to be valid at that time, in seconds since 1970.
fn until(unix_s: u64) -> impl FnOnce(&mut CertificateParams) {
    move |params| params.not_after = rcgen::date_time_ymd(1970, 1, 1) + Duration::from_secs(unix_s)
}

/// `ringway` with these words, which knows the socket of that ringway.
fn said(ringway: &Ringway, words: &[&str]) -> Ended {
    run(Ringway::command().args(words).env("RINGWAY_SOCKET", ringway.socket()))
}

fn listed(ringway: &Ringway) -> Vec<Value> {
    ringway.api().get("/v1/certificates")["certificates"].as_array().unwrap().clone()
}

fn times(ringway: &Ringway, text: &str) -> usize {
    ringway.process().settled_output().matches(text).count()
}

/// Replaces the files of a pair, as certbot does.
fn replace(shown: &Certificate, new: &Certificate) {
    for (to, from) in [(&shown.certificate, &new.certificate), (&shown.key, &new.key)] {
        let beside = to.with_extension("new");
        std::fs::copy(from, &beside).unwrap();
        std::fs::rename(&beside, to).unwrap();
    }
}

#[test]
fn metrics_and_the_api_know_when_each_certificate_expires() {
    let (authority, backend) = (Authority::new(), Backend::named("a"));
    let day = 86_400;
    let end = |days: u64| now_s() + days * day + day / 2;
    let (soon, late, other) = (end(40), end(90), end(60));
    let rsa = KeyPair::generate_for(&rcgen::PKCS_RSA_SHA256).unwrap();
    let ecdsa = || KeyPair::generate().unwrap();
    let named = |params: &mut CertificateParams| {
        params.distinguished_name = rcgen::DistinguishedName::new();
        params.distinguished_name.push(DnType::OrganizationName, "A, Inc");
        params.distinguished_name.push(DnType::CommonName, "an owner");
        until(other)(params);
    };
    let pairs = [
        authority.sign_as("late", &[NAME, "*.db.example"], &ecdsa(), until(late)),
        authority.sign_as("soon", &[NAME, "*.db.example"], &rsa, until(soon)),
        authority.sign_as("bare", &[], &ecdsa(), named),
    ];
    let all: Vec<&Certificate> = pairs.iter().collect();
    let more = "\n[listeners.plain]\nbind = \"127.0.0.1:0\"\npool = \"main\"";
    let ringway = plan(backend.address(), &all, more).start();

    let (owner, metrics) = ("CN=an owner,O=A\\\\, Inc", ringway.metrics());
    let mut ends = metrics.by(NOT_AFTER, "name");
    ends.sort();
    assert_eq!(ends, [(owner.to_string(), other), (NAME.to_string(), soon)], "of two for one name the earlier one");
    assert_eq!(metrics.by(ERRORS, "listener"), [("main".to_string(), 0)], "and nothing of a listener without TLS");

    let listed = listed(&ringway);
    let field = |name: &str| listed.iter().map(|one| one[name].clone()).collect::<Vec<_>>();
    let files = [&pairs[1], &pairs[2], &pairs[0]].map(|pair| json!(pair.certificate));
    assert_eq!(field("file"), files, "the first one to expire is on top");
    assert_eq!(field("names"), [json!([NAME, "*.db.example"]), json!([]), json!([NAME, "*.db.example"])]);
    assert_eq!(field("key_kind"), ["RSA", "ECDSA P-256", "ECDSA P-256"]);
    assert_eq!(field("days_left"), [40, 60, 90]);
    assert_eq!(field("subject")[1], "CN=an owner,O=A\\, Inc");
    assert_eq!(field("issuer")[1], "CN=an authority of a test");
    assert!(field("listener").iter().all(|name| name == "main"));
    assert!([field("warning"), field("error")].concat().iter().all(Value::is_null), "{listed:?}");
    let stamp = listed[0]["not_after"].as_str().unwrap();
    assert_eq!(humantime(stamp), soon, "{stamp}");
    assert_eq!(humantime(listed[0]["not_before"].as_str().unwrap()), 157_766_400, "1975");

    let table = said(&ringway, &["ctl", "certificates"]).stdout;
    let rows: Vec<&str> = table.lines().skip(1).collect();
    assert!(rows.len() == 3 && rows[0].contains("40 days") && rows[0].contains("RSA"), "{table}");
    assert!(!said(&ringway, &["ctl", "status"]).stdout.contains("certificate"));
}

/// Such as `2026-11-28T17:55:35.980Z`, in seconds since 1970, by another program.
fn humantime(stamp: &str) -> u64 {
    let ended = run(std::process::Command::new("date").args(["-u", "+%s", "-d", stamp]));
    ended.stdout.trim().parse().unwrap_or_else(|_| panic!("{stamp}: {}", ended.stderr))
}

#[test]
fn handshakes_that_succeed_are_timed() {
    let (authority, backend) = (Authority::new(), Backend::named("a"));
    let ringway = plan(backend.address(), &[&authority.sign(&[NAME])], "").start();
    let mut slow = Trust::of(&authority).begin(ringway.address(), NAME);
    std::thread::sleep(Duration::from_millis(700));
    slow.shake_hands().unwrap();
    Trust::of(&authority).connect(ringway.address(), NAME).expect(b"a");
    let stranger = Authority::new();
    assert!(Trust::of(&stranger).try_connect(ringway.address(), NAME).is_err());
    ringway.wait_metrics("it is refused", |metrics| metrics.ended("PR") == 1);
    let metrics = ringway.metrics();
    let count = |name: &str, labels: &[(&str, &str)]| metrics.count(&format!("tls_handshake_seconds_{name}"), labels);
    assert_eq!(count("count", &[("listener", "main")]), 2);
    assert_eq!(count("bucket", &[("le", "0.5")]), 1, "from the accept on");
    let sum = metrics.sum("tls_handshake_seconds_sum", &[]);
    assert!((0.5..3.0).contains(&sum), "{sum}");
}

#[test]
fn a_broken_replacement_is_counted_once_and_shown_until_it_is_mended() {
    let (authority, other, backend) = (Authority::new(), Authority::new(), Backend::named("a"));
    let shown = authority.sign(&[NAME]);
    let ringway = plan(backend.address(), &[&shown], "").start();
    let errors = || ringway.metrics().count(ERRORS, &[("listener", "main")]);
    let fault = || listed(&ringway)[0]["error"].as_str().map(str::to_string);
    let new = other.sign(&[NAME]);
    std::fs::copy(&new.key, &shown.key).unwrap();
    wait_until("it is counted", || errors() == 1);
    let line = format!("{}: it is not the key of the certificate in ", shown.key.display());
    std::thread::sleep(TWO_LOOKS);
    assert_eq!((errors(), times(&ringway, &line)), (1, 1), "and not again at each look");
    assert!(fault().is_some_and(|fault| fault.starts_with(&line)), "{:?}", fault());
    for words in [["ctl", "certificates"], ["ctl", "status"]] {
        let ended = said(&ringway, &words);
        assert!(ended.stdout.contains(&line), "{words:?}: {} {}", ended.stdout, ended.stderr);
    }
    Trust::of(&authority).connect(ringway.address(), NAME).expect(b"a");

    std::fs::write(&shown.certificate, "nothing").unwrap();
    wait_until("another fault is counted", || errors() == 2);
    assert!(fault().is_some_and(|fault| fault.contains("it holds no certificate")), "{:?}", fault());
    replace(&shown, &new);
    wait_until("it is mended", || fault().is_none());
    Trust::of(&other).connect(ringway.address(), NAME).expect(b"a");
    assert_eq!(errors(), 2);
    assert!(!said(&ringway, &["ctl", "status"]).stdout.contains("is not the key"));
}

/// Of two pairs one is broken, and the other one is renewed.
#[test]
fn a_broken_pair_keeps_no_other_from_being_renewed() {
    let (authority, other, backend) = (Authority::new(), Authority::new(), Backend::named("a"));
    let [one, two] = ["one.example", "two.example"].map(|name| authority.sign(&[name]));
    let more = format!("client_auth = \"optional\"\nclient_ca = {:?}", authority.file());
    let ringway = plan(backend.address(), &[&one, &two], &more).start();
    let errors = || ringway.metrics().count(ERRORS, &[]);
    let shows = |authority: &Authority, name| Trust::of(authority).try_connect(ringway.address(), name).is_ok();
    std::fs::remove_file(&one.key).unwrap();
    wait_until("it is noticed", || errors() == 1);
    for name in ["two.example", "two.example"] {
        replace(&two, &other.sign(&[name]));
        wait_until("the other one is renewed", || shows(&other, "two.example"));
        assert!(shows(&authority, "one.example"));
    }
    std::thread::sleep(TWO_LOOKS);
    assert_eq!(errors(), 1, "a renewal of another pair is no replacement of this one");
    std::fs::write(&one.key, "nothing").unwrap();
    wait_until("it is noticed again", || errors() == 2);

    // Without the authorities no client could be verified, so nothing changes.
    let authorities = std::fs::read(authority.file()).unwrap();
    std::fs::write(authority.file(), "nothing").unwrap();
    replace(&two, &authority.sign_as("again", &["two.example"], &KeyPair::generate().unwrap(), |_| ()));
    std::thread::sleep(TWO_LOOKS);
    assert!(shows(&other, "two.example") && shows_nothing_to_a_stranger(&ringway, &other));
    std::fs::write(authority.file(), authorities).unwrap();
    wait_until("all is renewed", || shows(&authority, "two.example"));
}

/// A client with a certificate of an authority that is not asked for.
fn shows_nothing_to_a_stranger(ringway: &Ringway, trusted: &Authority) -> bool {
    let (stranger, versions) = (Authority::new(), [&rustls::version::TLS12]);
    let trust = Trust::with(trusted, &versions, Some(&stranger.sign(&["mallory.example"])));
    trust.try_connect(ringway.address(), "two.example").is_err()
}

/// A folder can hold what was never shown.
#[test]
fn a_new_file_that_cannot_be_used_is_listed_by_its_own_name() {
    let (authority, backend) = (Authority::new(), Backend::named("a"));
    let folder = authority.folder().join("live");
    std::fs::create_dir(&folder).unwrap();
    let good = authority.sign(&[NAME]);
    std::fs::copy(&good.certificate, folder.join("b.crt")).unwrap();
    std::fs::copy(&good.key, folder.join("b.key")).unwrap();
    let dir = format!("[listeners.main.tls]\ncertificate_dir = {folder:?}\n");
    let ringway = Ringway::before([backend.address()]).more(&dir).start();
    std::fs::write(folder.join("a.pem"), "nothing").unwrap();
    wait_until("it is listed", || listed(&ringway).len() == 2);
    let [broken, shown] = <[Value; 2]>::try_from(listed(&ringway)).unwrap();
    assert_eq!((&broken["file"], &broken["not_after"]), (&json!(folder.join("a.pem")), &Value::Null));
    assert!(broken["error"].as_str().unwrap().contains("it holds no certificate"), "{broken}");
    assert_eq!((&shown["file"], &shown["error"]), (&json!(folder.join("b.crt")), &Value::Null));
    std::fs::remove_file(folder.join("a.pem")).unwrap();
    wait_until("it is gone", || listed(&ringway).len() == 1);
}

#[test]
fn a_certificate_near_its_end_is_warned_of_everywhere_and_in_the_log_once() {
    let (authority, backend) = (Authority::new(), Backend::named("a"));
    let key = || KeyPair::generate().unwrap();
    let soon = authority.sign_as("soon", &[NAME], &key(), until(now_s() + 13 * 86_400 + 3600));
    let late = authority.sign_as("late", &["old.example"], &key(), until(now_s() - 25 * 3600));
    let fine = authority.sign_as("fine", &["fine.example"], &key(), until(now_s() + 20 * 86_400));
    let ringway = plan(backend.address(), &[&soon, &late, &fine], "").start();
    let in_log = |name: &str, file: &Path, warning: &str| {
        format!("listener main: certificate {name} in {}: {warning}", file.display())
    };
    let lines = [
        in_log(NAME, &soon.certificate, "it expires in 13 days"),
        in_log("old.example", &late.certificate, "it expired 1 day ago"),
    ];
    lines.iter().for_each(|line| ringway.wait_said(line));
    std::thread::sleep(TWO_LOOKS);
    for line in lines {
        assert_eq!(times(&ringway, &line), 1, "{line}");
    }
    assert_eq!(times(&ringway, "fine.example"), 0);

    let warnings: Vec<Value> = listed(&ringway).iter().map(|one| one["warning"].clone()).collect();
    assert_eq!(warnings, [json!("it expired 1 day ago"), json!("it expires in 13 days"), Value::Null]);
    let table = said(&ringway, &["ctl", "certificates"]).stdout;
    let row = |part: &str| table.lines().find(|line| line.contains(part)).unwrap().to_string();
    assert!(row("late.crt").contains("expired") && row("late.crt").ends_with("IT EXPIRED 1 DAY AGO"), "{table}");
    assert!(row("soon.crt").contains("13 days") && row("soon.crt").ends_with("IT EXPIRES IN 13 DAYS"), "{table}");
    let status = said(&ringway, &["ctl", "status"]).stdout;
    let warned: Vec<&str> = status.lines().filter(|line| line.contains(": certificate ")).collect();
    assert!(warned.len() == 2 && warned[1].contains("it expires in 13 days"), "{status}");
    let doctor = said(&ringway, &["doctor", ringway.file().to_str().unwrap()]).stdout;
    let notes: Vec<&str> = doctor.lines().filter(|line| line.contains("it expire")).collect();
    assert!(notes.len() == 2 && notes.iter().all(|line| line.starts_with("note")), "{doctor}");

    // What takes its place is warned of anew, if it must be.
    let next = authority.sign_as("next", &[NAME], &key(), until(now_s() + 5 * 86_400 + 3600));
    replace(&soon, &next);
    ringway.wait_said(&in_log(NAME, &soon.certificate, "it expires in 5 days"));
}

#[test]
fn the_page_shows_certificates_that_need_attention_and_no_others() {
    let Some(browser) = Browser::start() else { return };
    let (authority, backend) = (Authority::new(), Backend::named("a"));
    let key = || KeyPair::generate().unwrap();
    let soon = authority.sign_as("soon", &[NAME], &key(), until(now_s() + 3 * 86_400 + 3600));
    let fine = authority.sign_as("fine", &["fine.example"], &key(), until(now_s() + 20 * 86_400));
    let ringway = plan(backend.address(), &[&soon, &fine], "").start();
    browser.open(&format!("http://{}/", ringway.admin()));
    browser.wait("document.getElementById('ending').checkVisibility()");
    let text = || browser.text("document.getElementById('ending').innerText");
    assert!(text().contains(NAME) && text().contains("it expires in 3 days"), "{}", text());
    assert!(!text().contains("fine.example"), "{}", text());
    std::fs::write(&fine.key, "nothing").unwrap();
    browser.wait("document.getElementById('ending').innerText.includes('it holds no private key')");
    assert!(text().contains("fine.example") && text().contains("its file cannot be used"), "{}", text());
    let new = authority.sign_as("new", &[NAME], &key(), |_| ());
    replace(&soon, &new);
    replace(&fine, &new);
    browser.wait("!document.getElementById('ending').checkVisibility()");
    assert_eq!(browser.console(), Vec::<String>::new());
}
