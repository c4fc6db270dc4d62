//! Sources of backends: a task per pool that has one follows it, for as long as the configuration wants that.
//!
//! Sources say what they have found and how they can be reached ([`News`]); the fleet makes backends of that. Here the
//! news go from one to the other, are counted, and are logged: an outage has a line when it begins and one when it
//! ends, and a remark is logged when it is new.

use std::collections::HashMap;
use std::rc::Rc;
use std::sync::Arc;

use tokio::sync::Notify;
use tracing::{info, warn};

use super::tasks::{Control, SourceTask};
use crate::base::time::unix_s;
use crate::discover::dns::Resolver;
use crate::discover::found::{Answer, News};
use crate::discover::settings::Source;
use crate::discover::{consul, etcd, file, kubernetes, patroni, srv};

/// How many remarks of one answer are logged.
const REMARKS_MAX: usize = 10;

/// What was said of a source in the log.
#[derive(Default)]
struct Told {
    /// That it cannot be heard, or not all of it.
    is_down: bool,
    /// The remarks of its last answer.
    remarks: Vec<String>,
    /// That its answer had no backend.
    is_empty: bool,
}

impl Control {
    /// Starts a task for each new source, and ends those of sources that are gone.
    pub(super) fn follow_sources(self: &Rc<Control>) {
        let wanted: HashMap<Arc<str>, Source> = {
            let fleet = self.fleet.borrow();
            fleet.sources().map(|(pool, discover)| (pool.clone(), discover.source.clone())).collect()
        };
        let mut following = self.following.borrow_mut();
        following.retain(|pool, task| {
            let goes_on = wanted.get(pool) == Some(&task.source);
            if !goes_on {
                task.gone.notify_one();
            }
            goes_on
        });
        for (pool, source) in wanted {
            following.entry(pool.clone()).or_insert_with(|| {
                let (gone, resolver) = (Rc::new(Notify::new()), self.resolver());
                tokio::task::spawn_local(follow_until(self.clone(), pool, source.clone(), resolver, gone.clone()));
                SourceTask { source, gone }
            });
        }
    }

    /// Passes on what a source has said.
    fn on_news(self: &Rc<Control>, pool: &Arc<str>, source: &Source, news: News, told: &mut Told) {
        let now = self.clock.now();
        match news {
            News::Hint(backend) => return self.on_hint(pool, &backend),
            News::Confirmed => {
                self.tell_trouble(pool, source, None, told);
                self.fleet.borrow_mut().on_confirmed(pool, now);
            }
            News::Failed(why) => {
                self.tell_trouble(pool, source, Some(&why), told);
                self.fleet.borrow_mut().on_source_failed(pool, &why);
            }
            News::Answer(answer) => {
                self.tell_trouble(pool, source, answer.trouble.as_deref(), told);
                tell_remarks(pool, source, &answer, told);
                let changes = self.fleet.borrow_mut().on_found(pool, answer, now);
                let has_changed = changes.table;
                self.apply(changes);
                if has_changed {
                    self.follow_watches();
                    self.follow_hosts();
                }
            }
        }
        let fleet = self.fleet.borrow();
        let (Some(id), Some(view)) = (fleet.pool(pool), fleet.source_view(pool)) else { return };
        let cells = self.stats.control.pools.get(id.index());
        cells.discovery_up.set(u64::from(view.trouble.is_none()));
        cells.discovery_found.set(view.found as u64);
        if let Some(confirmed) = view.confirmed {
            cells.discovery_confirmed_s.set(unix_s(self.clock.wall(confirmed)));
        }
        drop(fleet);
        if view.keeps_empty && !told.is_empty {
            let kind = source.kind();
            warn!(%pool, source = kind, place = %source, "it has no backend any more; those from before stay in use \
                  (empty = \"keep\")");
        }
        told.is_empty = view.keeps_empty;
    }

    /// Logs that an outage begins or ends.
    fn tell_trouble(&self, pool: &str, source: &Source, trouble: Option<&str>, told: &mut Told) {
        let (was_down, kind) = (std::mem::replace(&mut told.is_down, trouble.is_some()), source.kind());
        match trouble {
            Some(reason) if !was_down => {
                warn!(%pool, source = kind, place = %source, %reason, "cannot be asked for backends; what it said last \
                      stays in use");
            }
            None if was_down => info!(%pool, source = kind, place = %source, "can be asked for backends again"),
            _ => {}
        }
    }
}

/// Logs the remarks of an answer that the one before did not have.
fn tell_remarks(pool: &str, source: &Source, answer: &Answer, told: &mut Told) {
    let kind = source.kind();
    let new: Vec<&String> = answer.remarks.iter().filter(|remark| !told.remarks.contains(remark)).collect();
    for remark in new.iter().take(REMARKS_MAX) {
        warn!(%pool, source = kind, place = %source, "{remark}");
    }
    if new.len() > REMARKS_MAX {
        warn!(%pool, source = kind, place = %source, more = new.len() - REMARKS_MAX, "more of the kind");
    }
    told.remarks.clone_from(&answer.remarks);
}

/// The task of one source.
async fn follow_until(control: Rc<Control>, pool: Arc<str>, source: Source, resolver: Resolver, gone: Rc<Notify>) {
    let told = std::cell::RefCell::new(Told::default());
    let tell = |news: News| control.on_news(&pool, &source, news, &mut told.borrow_mut());
    tokio::select! {
        () = follow(&source, &resolver, &tell) => {}
        () = gone.notified() => {}
    }
}

/// Follows a source for ever.
async fn follow(source: &Source, resolver: &Resolver, tell: &dyn Fn(News)) {
    match source {
        Source::File(settings) => file::follow(settings, tell).await,
        Source::Srv(settings) => srv::follow(settings, resolver, tell).await,
        Source::Etcd(settings) => etcd::follow(settings, resolver, tell).await,
        Source::Patroni(settings) => patroni::follow(settings, resolver, tell).await,
        Source::Consul(settings) => consul::follow(settings, resolver, tell).await,
        Source::Nomad(settings) => consul::follow_nomad(settings, resolver, tell).await,
        Source::Kubernetes(settings) => kubernetes::follow(settings, resolver, tell).await,
    }
}
