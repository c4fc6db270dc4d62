//! Records in, lines out.

use super::*;
use crate::snapshot::build::tests::{config, pool};
use crate::stats::record::tests::record;

/// All that control may run on.
const DRIVERS: [Driver; 2] = [Driver::Epoll, Driver::IoUring];

/// What becomes of the file after `orders` were given.
fn with_writer<F: Future<Output = ()>>(
    driver: Driver,
    path: &std::path::Path,
    orders: impl FnOnce(Arc<Journal>, Rc<Keeper>) -> F,
) {
    let alarm = Alarm::new();
    let ring = alarm.clone();
    let journal = Arc::new(Journal::new(1, Box::new(move || ring.ring())));
    let sink = LogSink::File(path.to_owned(), open(path).unwrap());
    let access = Access { journal: journal.clone(), alarm, format: AccessFormat::Json, skip_empty: false, sink };
    let names = Rc::new(RefCell::new(Names::default()));
    names.borrow_mut().learn(&crate::control::first_table(&Arc::new(config(vec![pool("db", &["a"])]))));
    let (stats, counts, clock) = (Arc::new(Stats::new(1)), Arc::new(Counts::new()), Clock::new());
    let facts = LogContext { names, stats, counts, clock, driver };
    let stats = facts.stats.clone();
    let work = async move {
        let keeper = Rc::new(Keeper::begin(Logs { access: Some(access), ..Logs::default() }, facts));
        orders(journal, keeper.clone()).await;
        Rc::into_inner(keeper).unwrap().finish().await;
    };
    match driver {
        #[cfg(not(target_env = "musl"))]
        Driver::IoUring => tokio_uring::start(work),
        _ => {
            let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
            tokio::task::LocalSet::new().block_on(&runtime, work);
        }
    }
    assert_eq!(stats.control.access_log_dropped.get() > 0, path.starts_with("/dev"));
}

fn sessions(path: &std::path::Path) -> Vec<u64> {
    let text = std::fs::read_to_string(path).unwrap_or_default();
    let session = |line: &str| {
        serde_json::from_str::<serde_json::Value>(line).unwrap()["session"].as_str().map(hexadecimal).unwrap()
    };
    text.lines().map(session).collect()
}

fn hexadecimal(text: &str) -> u64 {
    u64::from_str_radix(text, 16).unwrap()
}

/// Waits until the last line of the file is that session's.
async fn written(path: &std::path::Path, last: u64) {
    let is_there = async {
        while sessions(path).last() != Some(&last) {
            sleep(Duration::from_millis(1)).await;
        }
    };
    timeout(Duration::from_secs(20), is_there).await.unwrap();
}

#[test]
fn what_is_left_at_the_end_is_written() {
    for driver in DRIVERS {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("access.log");
        with_writer(driver, &path, async |journal, _| {
            (0..3000).for_each(|session| assert!(journal.push(0, record(session))))
        });
        assert_eq!(sessions(&path), (0..3000).collect::<Vec<_>>());
    }
}

#[test]
fn lines_come_while_nothing_else_happens_and_a_rename_loses_none() {
    for driver in DRIVERS {
        let folder = tempfile::tempdir().unwrap();
        let (path, old) = (folder.path().join("access.log"), folder.path().join("access.log.1"));
        with_writer(driver, &path, async |journal, keeper| {
            assert!(journal.push(0, record(1)));
            written(&path, 1).await;
            std::fs::rename(&path, &old).unwrap();
            assert!(journal.push(0, record(2)));
            written(&old, 2).await;
            keeper.reopen();
            timeout(Duration::from_secs(20), async {
                while !path.exists() {
                    sleep(Duration::from_millis(1)).await;
                }
            })
            .await
            .unwrap();
            sleep(GATHER).await;
            assert!(journal.push(0, record(3)));
            written(&path, 3).await;
        });
        assert_eq!((sessions(&old), sessions(&path)), (vec![1, 2], vec![3]));
    }
}

#[test]
fn a_file_that_cannot_be_opened_anew_goes_on() {
    for driver in DRIVERS {
        let folder = tempfile::tempdir().unwrap();
        let (path, old) = (folder.path().join("access.log"), folder.path().join("access.log.1"));
        with_writer(driver, &path, async |journal, keeper| {
            std::fs::rename(&path, &old).unwrap();
            std::fs::create_dir(&path).unwrap();
            keeper.reopen();
            assert!(journal.push(0, record(1)));
            written(&old, 1).await;
        });
        assert_eq!(sessions(&old), [1]);
    }
}

#[test]
fn a_full_disk_costs_lines_and_they_are_counted() {
    for driver in DRIVERS {
        with_writer(driver, std::path::Path::new("/dev/full"), async |journal, _| assert!(journal.push(0, record(1))));
    }
}
