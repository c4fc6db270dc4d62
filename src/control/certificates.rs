//! Follows the files of certificates: what a listener shows, and a pool believes, is what its files say, a moment after
//! they have changed.
//!
//! Files are looked at by what `stat` says of them, and read when that has changed: a pair that is replaced in place,
//! one that is renamed over another (certbot), and a link that leads elsewhere (volumes of Kubernetes) all show there.
//! A pair that cannot be used leaves the old one in use; it is read again when its files change again.

use std::os::unix::fs::MetadataExt;
use std::path::PathBuf;
use std::rc::Rc;
use std::sync::Arc;
use std::time::Duration;

use tokio::time::{MissedTickBehavior, interval};
use tracing::{error, info};

use super::disk::Disk;
use super::tasks::Control;
use crate::config::Outside;
use crate::config::load_certificates;
use crate::config::model::Config;

/// How often files are looked at.
const LOOK_EVERY: Duration = Duration::from_secs(2);

/// What `stat` says of a file: when it was changed, how long it is, and which one it is; `None` if it is not there.
type FileMark = (PathBuf, Option<(i64, i64, u64, u64)>);

/// Looks at the files again and again, as long as control runs.
pub(super) async fn follow_certificates(control: Rc<Control>) {
    let mut ticks = interval(LOOK_EVERY);
    ticks.set_missed_tick_behavior(MissedTickBehavior::Delay);
    let mut seen: Vec<FileMark> = Vec::new();
    let mut looked_for: Option<Arc<Config>> = None;
    loop {
        ticks.tick().await;
        let config = control.fleet.borrow().config();
        let has_tls = config.listeners.iter().any(|listener| listener.tls.is_some());
        if !has_tls && config.pools.iter().all(|pool| pool.tls.is_none()) {
            continue;
        }
        // Another configuration may have read the same files at another time, or mean something else by them.
        if !looked_for.as_ref().is_some_and(|before| Arc::ptr_eq(before, &config)) {
            seen.clear();
        }
        // The files may be on a disk that does not answer.
        let (known, looked_at) = (seen.clone(), config.clone());
        let Ok((marks, news)) = tokio::task::spawn_blocking(move || look(&looked_at, &known)).await else { continue };
        if !Arc::ptr_eq(&config, &control.fleet.borrow().config()) {
            continue;
        }
        seen = marks;
        if let Some((config, faults)) = news {
            renew(&control, &config);
            faults.iter().for_each(|fault| error!("{fault}; what was shown before is shown on"));
        }
        drop(config);
        looked_for = Some(control.fleet.borrow().config());
    }
}

/// What the files are now, and what they say if that is new. Blocks.
fn look(config: &Config, known: &[FileMark]) -> (Vec<FileMark>, Option<(Config, Vec<String>)>) {
    let marks = marks_of(config);
    if marks == known {
        return (marks, None);
    }
    let mut renewed = config.clone();
    let faults = load_certificates(&mut renewed, Some(config), &Disk).err().unwrap_or_default();
    (marks, Some((renewed, faults)))
}

/// Every file that a listener or a pool names for TLS.
fn marks_of(config: &Config) -> Vec<FileMark> {
    let tables = config.listeners.iter().filter_map(|listener| listener.tls.as_ref());
    let of_pools = config.pools.iter().filter_map(|pool| pool.tls.as_ref()).flat_map(|tls| tls.paths());
    let mut paths: Vec<PathBuf> = of_pools.map(|(_, path)| path.to_path_buf()).collect();
    for (key, path) in tables.flat_map(|tls| tls.paths()) {
        paths.push(path.to_path_buf());
        if key == "certificate_dir" {
            paths.extend(Disk.folder(path).unwrap_or_default());
        }
    }
    paths.sort();
    paths.dedup();
    let mark = |path: PathBuf| {
        let mark = std::fs::metadata(&path).ok();
        let mark = mark.map(|found| (found.mtime(), found.mtime_nsec(), found.len(), found.ino()));
        (path, mark)
    };
    paths.into_iter().map(mark).collect()
}

/// Has every listener and pool go by what its files say.
fn renew(control: &Control, config: &Config) {
    let mut is_new = false;
    for listener in &config.listeners {
        let Some(server) = listener.tls.as_ref().and_then(|tls| tls.loaded.shared()) else { continue };
        if control.fleet.borrow_mut().renew_certificates(&listener.name, &server) {
            info!(listener = &*listener.name, "its certificates have changed; the next handshakes show the new ones");
            is_new = true;
        }
    }
    for pool in &config.pools {
        let Some(client) = pool.tls.as_ref().and_then(|tls| tls.loaded.shared()) else { continue };
        if control.fleet.borrow_mut().renew_backend_tls(&pool.name, &client) {
            info!(pool = &*pool.name, "its certificates have changed; the next connections to backends go by them");
            is_new = true;
        }
    }
    if is_new {
        control.publish_soon();
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_file_that_is_replaced_or_comes_is_seen() {
        let folder = tempfile::tempdir().unwrap();
        let text = format!(
            "[listeners.l]\nbind = \"127.0.0.1:0\"\npool = \"p\"\ntls = {{ certificate_dir = {:?} }}\n\
             [pools.p]\nbackends = [{{ address = \"127.0.0.1:1\" }}]\n",
            folder.path()
        );
        let config = crate::config::load(&text, "f", &|_: &str| None).unwrap();
        let empty = marks_of(&config);
        assert_eq!(marks_of(&config), empty);
        std::fs::write(folder.path().join("a.pem"), "1").unwrap();
        let one = marks_of(&config);
        assert_ne!(one, empty);
        std::fs::write(folder.path().join("b"), "2").unwrap();
        std::fs::rename(folder.path().join("b"), folder.path().join("a.pem")).unwrap();
        assert_ne!(marks_of(&config), one);
        assert_eq!(look(&config, &[]).1.unwrap().1.len(), 1, "it is no certificate");
        assert!(look(&config, &marks_of(&config)).1.is_none());
    }
}
