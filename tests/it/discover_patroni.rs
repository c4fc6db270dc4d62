//! A real Patroni, as a source reads it: its members, and its leader key before the promotion.

use std::time::Instant;

use ringway::discover::found::News;

use crate::harness::etcd::Listened;
use crate::harness::patroni::{Patroni, programs};
use crate::harness::wait_until;

#[test]
fn members_are_found_and_a_switchover_is_told_before_the_promotion() {
    let Some(programs) = programs() else { return };
    let cluster = Patroni::start(programs, 2);
    let source = Listened::to_patroni(&cluster.etcd.endpoint());
    let lines: Vec<String> = cluster.nodes.iter().map(|node| format!("{} {} 1 0", node.name, node.address())).collect();
    source.heard.wait_found(&lines.iter().map(String::as_str).collect::<Vec<_>>());
    cluster.wait_healthy();
    let hints = || source.heard.all().into_iter().filter(|news| matches!(news, News::Hint(_))).collect::<Vec<_>>();
    assert_eq!(hints(), [], "nothing has changed yet");
    let next = cluster.replica();
    let promoted = next.promoted();
    let hinted = std::thread::scope(|scope| {
        let hinted = scope.spawn(|| {
            wait_until("the hint", || !hints().is_empty());
            Instant::now()
        });
        cluster.switch_over(&next.name);
        hinted.join().unwrap()
    });
    let promoted = promoted.join().unwrap();
    assert!(hinted < promoted, "{:?} late", hinted - promoted);
    eprintln!("the hint came {:?} before the promotion", promoted - hinted);
    assert_eq!(hints(), [News::Hint(next.name.as_str().into())]);
    assert!(source.heard.failures().is_empty(), "{:?}", source.heard.all());
}
