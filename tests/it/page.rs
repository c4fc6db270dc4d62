//! The status page in a real browser.

use std::fmt::Write;

use crate::harness::browser::Browser;
use crate::harness::{Backend, Peer, Ringway, wait_until};

/// The row of a backend of the pool `main`, as text.
fn row(name: &str) -> String {
    format!("(document.getElementById('backend main/{name}')?.innerText ?? '')")
}

/// Nothing is wider than the screen.
#[track_caller]
fn assert_fits(browser: &Browser, width: u32) {
    browser.resize(width, 844);
    browser.wait(&format!("innerWidth === {width}"));
    let widest = "Math.max(document.documentElement.scrollWidth, \
                  ...[...document.querySelectorAll('main *')].map((node) => node.getBoundingClientRect().right))";
    let widest = browser.value(widest).as_f64().unwrap();
    assert!(widest <= f64::from(width), "{widest} of {width} pixels");
}

#[test]
fn what_happens_shows_by_itself() {
    let Some(browser) = Browser::start() else { return };
    let (staying, dying) = (Backend::echo(), Backend::echo());
    let ringway = Ringway::before([staying.address(), dying.address()]).checked(1, 2).never_ejecting().start();
    browser.open(&format!("http://{}/", ringway.admin()));
    browser.wait("document.querySelector('#pools')?.innerText.includes('2 of 2 up') ?? false");
    browser.wait("document.getElementById('moved').innerText === '0 B/s'");
    assert_eq!(browser.text("document.title"), "ringway");
    browser.value("(window.loaded_once = true)");

    let mut client = ringway.connect();
    for of in ["document.getElementById('moved').innerText", "document.querySelector('#pools').innerText"] {
        wait_until("the rate moves", || {
            client.send(&[7; 1000]);
            client.expect(&[7; 1000]);
            browser.value(&format!("/[1-9][0-9.]* (B|KiB)\\/s/.test({of})")) == true
        });
    }
    let line = "document.querySelectorAll('#plot-moved path')[1]";
    assert!(browser.text(&format!("{line}.dataset.points")).parse::<u32>().unwrap() >= 2);
    assert!(browser.text(&format!("{line}.getAttribute('d')")).contains('L'));
    assert_eq!(browser.text("document.getElementById('open').innerText.split(' ')[0]"), "1");

    assert!(browser.text(&row("b")).contains("up"));
    dying.kill();
    browser.wait(&format!("/down[^]*for [0-9]+.*s[^]*refused/.test({})", row("b")));
    assert!(browser.text(&row("a")).contains("up"));
    assert_eq!(browser.text("document.title"), "ringway: 1 down");
    assert!(browser.text("document.getElementById('attention').innerText").contains("main/b down"));
    assert_eq!(browser.value("window.loaded_once"), true, "and all that without loading the page again");
    let asked = "performance.getEntriesByType('resource').map((entry) => entry.name) \
                 .filter((name) => !name.startsWith(location.origin + '/') && !name.startsWith('data:'))";
    assert_eq!(browser.value(asked), serde_json::json!([]), "somebody else was asked");
    assert!(browser.value("performance.getEntriesByType('resource').length").as_u64().unwrap() > 3);
    assert_eq!(browser.console(), Vec::<String>::new());
}

/// What happened before the page was opened is there: traffic, refusals, changes of state.
#[test]
fn the_page_begins_with_what_happened_before() {
    let Some(browser) = Browser::start() else { return };
    let (staying, dying) = (Backend::echo(), Backend::echo());
    let ringway = Ringway::before([staying.address(), dying.address()]).checked(1, 2).never_ejecting();
    let ringway = ringway.listener("deny = [\"127.9.0.0/16\"]").start();
    let mut client = ringway.connect();
    client.send(&[7; 1000]);
    client.expect(&[7; 1000]);
    let _ = Peer::connect_from(Some("127.9.0.1:0"), ringway.address()).map(|mut refused| refused.end());
    dying.kill();
    wait_until("the history has the change", || {
        let history = ringway.api().get("/v1/history");
        let is_down = history["marks"].as_array().unwrap().iter().any(|mark| mark["to"] == "down");
        is_down && history["second"].as_u64() >= Some(3)
    });
    browser.open(&format!("http://{}/", ringway.admin()));
    browser.wait("document.querySelectorAll('#changes li').length > 0");
    let changes = browser.text("document.getElementById('changes').innerText");
    assert!(changes.contains("main/b up → down: ") && changes.contains("refused"), "{changes}");
    let drawn = browser.text("document.querySelectorAll('#plot-moved path')[1].dataset.points");
    assert!(drawn.parse::<u32>().unwrap() > 1, "{drawn}");
    assert_ne!(browser.text("document.getElementById('peak-moved').innerText"), "peak 0 B/s");
    for place in ["#plot-open", ".plots svg"] {
        let flag = format!("document.querySelector('{place} line title').textContent");
        assert!(browser.text(&flag).contains("main/b up → down"), "{place}");
    }
    let listeners = browser.text("document.getElementById('listeners').innerText");
    assert!(listeners.contains(&ringway.address().to_string()), "{listeners}");
    assert!(listeners.contains("1 (in 10 minutes: deny 1)"), "{listeners}");
    assert!(browser.text("document.querySelector('.plots').innerText").contains("Connect p99"));
    assert_eq!(browser.console(), Vec::<String>::new());
}

#[test]
fn who_lost_ringway_is_told_so() {
    let Some(browser) = Browser::start() else { return };
    let backend = Backend::echo();
    let ringway = Ringway::before([backend.address()]).start();
    browser.open(&format!("http://{}/", ringway.admin()));
    browser.wait("document.querySelector('#pools')?.innerText.includes('1 of 1 up') ?? false");
    assert_eq!(browser.value("document.getElementById('trouble').hidden"), true);
    ringway.stop();
    browser.wait("document.getElementById('trouble').checkVisibility()");
    let trouble = browser.text("document.getElementById('trouble').innerText");
    assert!(trouble.contains("does not answer") && trouble.contains("What you see is of"), "{trouble}");
    assert!(browser.text("document.getElementById('pools').innerText").contains("1 of 1 up"), "what was seen stays");
}

#[test]
fn it_fits_a_phone_and_follows_the_scheme_with_two_hundred_backends() {
    let Some(browser) = Browser::start() else { return };
    let backend = Backend::echo();
    let mut more = "[pools.many.check]\ntype = \"off\"\n".to_string();
    for number in 0..200 {
        let name = format!("a-name-that-is-rather-long-{number}.eu-central-1.compute.internal.example.com");
        // What listens there does not matter.
        write!(more, "[[pools.many.backends]]\nname = {name:?}\naddress = \"127.0.9.{number}:7300\"\n").unwrap();
    }
    let ringway = Ringway::before([backend.address()]).more(&more).start();
    browser.open(&format!("http://{}/", ringway.admin()));
    browser.wait("document.querySelectorAll('#pools tbody tr').length === 201");
    for width in [390, 320, 1280] {
        assert_fits(&browser, width);
    }
    let background = "getComputedStyle(document.body).backgroundColor";
    browser.prefer("light");
    let light = browser.text(background);
    browser.prefer("dark");
    assert_ne!(browser.text(background), light);
    assert_eq!(browser.console(), Vec::<String>::new());
}
