//! Follows the files of certificates: what a listener shows, and a pool believes, is what its files say, a moment after
//! they have changed.
//!
//! Files are looked at by what `stat` says of them, and read when that has changed: a pair that is replaced in place,
//! one that is renamed over another (certbot), and a link that leads elsewhere (volumes of Kubernetes) all show there.
//! A pair that cannot be used leaves the old one in use; it is read again when its files change again.
//!
//! ```text
//! stat ─> marks ── other than before ─> load_certificates ─┬─> renew: the fleet, then the table, then handshakes
//!                                                          └─> tell: counter, log, and the faults for the API
//! ```
//!
//! Beside that it looks at how long each certificate is still valid (`expiry`).

use std::path::PathBuf;
use std::rc::Rc;
use std::sync::Arc;
use std::time::Duration;

use tokio::time::{MissedTickBehavior, interval};
use tracing::{error, info, warn};

use super::disk::Disk;
use super::expiry::Reminders;
use super::tasks::Control;
use crate::base::time::unix_s;
use crate::config::model::Config;
use crate::config::{CertificateFault, CertificateOwner, Outside, load_certificates};
use crate::sys::reading::{FileMark, mark_of};
use crate::tls::server::ShownCertificate;

/// How often files are looked at.
const LOOK_EVERY: Duration = Duration::from_secs(2);

/// A file with its mark; `None` if it is not there.
type MarkedFile = (PathBuf, Option<FileMark>);

/// Files that say something else than before.
struct FileNews {
    /// The configuration with what they say, where they can be used.
    config: Config,
    /// Why the others cannot.
    faults: Vec<CertificateFault>,
    /// Which ones have changed.
    changed: Vec<PathBuf>,
}

/// Looks at the files again and again, as long as control runs.
pub(super) async fn follow_certificates(control: Rc<Control>) {
    let mut ticks = interval(LOOK_EVERY);
    ticks.set_missed_tick_behavior(MissedTickBehavior::Delay);
    let mut seen: Option<Vec<MarkedFile>> = None;
    let mut looked_for: Option<Arc<Config>> = None;
    let mut reminders = Reminders::default();
    loop {
        ticks.tick().await;
        let config = control.fleet.borrow().config();
        let has_tls = config.listeners.iter().any(|listener| listener.tls.is_some());
        if !has_tls && config.pools.iter().all(|pool| pool.tls.is_none()) {
            control.certificate_faults.borrow_mut().clear();
            continue;
        }
        remind(&control, &config, &mut reminders);
        // Another configuration may have read the same files at another time, or mean something else by them.
        if !looked_for.as_ref().is_some_and(|before| Arc::ptr_eq(before, &config)) {
            seen = None;
        }
        // The files may be on a disk that does not answer.
        let (known, looked_at) = (seen.clone(), config.clone());
        let looked = tokio::task::spawn_blocking(move || look(&looked_at, known.as_deref())).await;
        let Ok((marks, news)) = looked else { continue };
        if !Arc::ptr_eq(&config, &control.fleet.borrow().config()) {
            continue;
        }
        seen = Some(marks);
        if let Some(news) = news {
            renew(&control, &news.config);
            tell(&control, news);
        }
        drop(config);
        looked_for = Some(control.fleet.borrow().config());
    }
}

/// Every certificate that is shown, and what shows it.
fn shown(config: &Config) -> impl Iterator<Item = (CertificateOwner, &ShownCertificate)> {
    let of_listeners = config.listeners.iter().flat_map(|listener| {
        let server = listener.tls.as_ref().and_then(|tls| tls.loaded.get());
        let all = server.map_or(&[][..], |server| server.shown());
        all.iter().map(|one| (CertificateOwner::Listener(listener.name.clone()), one))
    });
    let of_pools = config.pools.iter().filter_map(|pool| {
        let shown = pool.tls.as_ref()?.loaded.get()?.shown()?;
        Some((CertificateOwner::Pool(pool.name.clone()), shown))
    });
    of_listeners.chain(of_pools)
}

/// Warns of certificates that have little time left.
fn remind(control: &Control, config: &Config, reminders: &mut Reminders) {
    let now_s = unix_s(control.clock.wall(control.clock.now()));
    reminders.due(shown(config), now_s).iter().for_each(|line| warn!("{line}"));
}

/// Counts and logs what cannot be used, once for each time that it was replaced, and remembers it for the API.
///
/// A fault that stands there from before is told again only if a file of it has changed since: that was an attempt to
/// mend it. Another configuration, which has every file read again, is none.
fn tell(control: &Control, news: FileNews) {
    let before = control.certificate_faults.replace(Vec::new());
    for fault in &news.faults {
        let is_tried = news.changed.iter().any(|path| fault.involves(&path.display().to_string()));
        if before.contains(fault) && !is_tried {
            continue;
        }
        error!("{fault}; what was shown before is shown on");
        if let CertificateOwner::Listener(name) = &fault.owner
            && let Some(id) = control.fleet.borrow().listener(name)
        {
            control.stats.control.listeners.get(id.index()).errors.add(1);
        }
    }
    control.certificate_faults.replace(news.faults);
}

/// What the files are now, and what they say if that is new. `known` is what they were at the look before, `None` if
/// that says nothing of them. Blocks.
///
/// The marks are taken before the files are read: what changes in between is seen at the next look.
fn look(config: &Config, known: Option<&[MarkedFile]>) -> (Vec<MarkedFile>, Option<FileNews>) {
    let marks = marks_of(config);
    if known == Some(&marks) {
        return (marks, None);
    }
    let mut renewed = config.clone();
    let faults = load_certificates(&mut renewed, Some(config), &Disk).err().unwrap_or_default();
    let is_other = |mark: &&MarkedFile| known.is_some_and(|known| !known.contains(mark));
    let changed = marks.iter().filter(is_other).map(|(path, _)| path.clone()).collect();
    (marks, Some(FileNews { config: renewed, faults, changed }))
}

/// Every file that a listener or a pool names for TLS.
fn marks_of(config: &Config) -> Vec<MarkedFile> {
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
        let mark = std::fs::metadata(&path).ok().map(|found| mark_of(&found));
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
        let news = look(&config, Some(&empty)).1.unwrap();
        assert_eq!(news.faults.len(), 1, "it is no certificate");
        assert!(news.changed.contains(&folder.path().join("a.pem")), "{:?}", news.changed);
        assert!(look(&config, None).1.unwrap().changed.is_empty(), "nothing is known of how it was");
        assert!(look(&config, Some(&marks_of(&config))).1.is_none());
    }
}
