//! Looks a name up again and again, when its answer is too old or when it is asked to.
//!
//! [`Known`] keeps what is known of the name and how long it holds, [`Pace`] says when to ask again. A problem is
//! logged once, and so is its end. What becomes of the addresses is the caller's to say.

use std::time::Duration;

use tokio::sync::Notify;
use tokio::time::sleep;
use tracing::{info, warn};

use super::dns::Resolver;
use super::known::{Known, Learned, Pace};

/// How often the files that say how names are looked up (`/etc/hosts`, `/etc/resolv.conf`, …) are looked at for a
/// change.
pub(super) const FILES_PAUSE: Duration = Duration::from_secs(2);

/// Looks `host` up for ever: again when its answer is too old, or when `again` is rung. `on_learned` is told what was
/// learned and returns what counts of it: an answer without any usable address counts as none, and is asked for again
/// sooner.
pub(crate) async fn name(resolver: &Resolver, host: &str, again: &Notify, on_learned: impl Fn(Learned) -> Learned) {
    let (mut known, mut pace) = (Known::default(), Pace::new());
    let mut trouble: Option<String> = None;
    loop {
        let learned = on_learned(known.on(resolver.lookup(host).await));
        let reason = match &learned {
            Learned::Addresses { doubt, .. } => doubt.clone(),
            Learned::Denied(why) | Learned::Nothing(why) => Some(why.clone()),
        };
        match (&reason, &learned) {
            (Some(reason), _) if trouble.as_ref() == Some(reason) => {}
            (Some(reason), Learned::Denied(_)) => {
                warn!(%host, %reason, "cannot look up: there is no such address; those that are known stay in use \
                                       for denied_hold");
            }
            (Some(reason), _) => warn!(%host, %reason, "cannot look up; the addresses that are known stay in use"),
            (None, _) if trouble.is_some() => info!(%host, "this name can be looked up again"),
            (None, _) => {}
        }
        trouble = reason;
        tokio::select! {
            () = sleep(pace.pause(&learned, fastrand::u64(..))) => {}
            () = again.notified() => {}
        }
    }
}

/// Calls `on_change`, for ever, whenever one of the files has changed that say how `resolver` looks names up.
pub(crate) async fn files(resolver: &Resolver, on_change: impl Fn()) {
    let mut seen = resolver.edition();
    loop {
        sleep(FILES_PAUSE).await;
        let edition = resolver.edition();
        if std::mem::replace(&mut seen, edition) != edition {
            on_change();
        }
    }
}
