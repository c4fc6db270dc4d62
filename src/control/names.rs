//! Host names of backends: a task per name looks it up, again and again, for as long as a backend has it.
//!
//! What an answer means is decided elsewhere: [`follow`] keeps what is known of a name and asks again, and the fleet
//! makes backends of addresses. Here the answer goes from one to the other.

use std::rc::Rc;
use std::sync::Arc;
use std::time::Duration;

use tokio::time::sleep;
use tracing::info;

use super::tasks::{Control, Naming, STAGGER};
use crate::discover::dns::{ReadFile, Resolver};
use crate::discover::follow;
use crate::discover::known::Learned;

impl Control {
    /// Starts a task for each new name and ends those of names that are gone.
    pub(super) fn follow_hosts(self: &Rc<Control>) {
        let hosts = self.fleet.borrow().hosts();
        let mut resolving = self.resolving.borrow_mut();
        resolving.retain(|host, naming| {
            let goes_on = hosts.contains(host);
            if !goes_on {
                naming.gone.notify_one();
            }
            goes_on
        });
        let mut delay = Duration::ZERO;
        for host in hosts {
            resolving.entry(host.clone()).or_insert_with(|| {
                let (naming, resolver) = (Rc::new(Naming::default()), self.resolver());
                tokio::task::spawn_local(resolve_until(self.clone(), resolver, host, delay, naming.clone()));
                delay += STAGGER;
                naming
            });
        }
    }

    /// Sets how the resolver reads its files; `None` means that it opens them itself. Called before the first name is
    /// looked up.
    pub(super) fn read_names_by(&self, read_file: Option<ReadFile>) {
        self.read_file.replace(read_file);
    }

    /// The resolver. It is made when the first name appears, so a process without names has none.
    pub(super) fn resolver(self: &Rc<Control>) -> Resolver {
        let make = || {
            let resolver = Resolver::new(&self.fleet.borrow().dns(), self.read_file.take());
            tokio::task::spawn_local(follow_files(self.clone(), resolver.clone()));
            resolver
        };
        self.resolver.get_or_init(make).clone()
    }

    /// Looks every name up now, as a new configuration says, whatever the time to live of known answers.
    pub(super) fn look_up_again(&self) {
        if let Some(resolver) = self.resolver.get() {
            resolver.set(&self.fleet.borrow().dns());
            self.resolving.borrow().values().for_each(|naming| naming.again.notify_one());
        }
    }

    /// Passes on what was learned of a name. Returns what counts of it: an answer without any usable address counts as
    /// none.
    fn on_learned(self: &Rc<Control>, host: &Arc<str>, learned: Learned) -> Learned {
        let now = self.clock.now();
        let (learned, changes) = match learned {
            Learned::Addresses { addresses, ttl, doubt } => {
                let (is_good, changes) = self.fleet.borrow_mut().on_resolved(host, &addresses, now);
                if changes.table {
                    info!(%host, ?addresses, "this name has new addresses");
                }
                let unfit = "none of its addresses can belong to a server";
                match is_good {
                    true => (Learned::Addresses { addresses, ttl, doubt }, changes),
                    false => (Learned::Nothing(unfit.to_owned()), changes),
                }
            }
            Learned::Denied(why) => {
                let changes = self.fleet.borrow_mut().on_denied(host, &why, now);
                (Learned::Denied(why), changes)
            }
            Learned::Nothing(why) => {
                let changes = self.fleet.borrow_mut().on_unresolved(host, &why, now);
                (Learned::Nothing(why), changes)
            }
        };
        self.apply(changes);
        // An address may be missing from now on, which has a deadline.
        self.rescheduled.notify_one();
        self.follow_watches();
        learned
    }
}

/// The task that looks every name up again when one of the files has changed that say how.
async fn follow_files(control: Rc<Control>, resolver: Resolver) {
    follow::files(&resolver, || {
        info!("a file that says how names are looked up has changed: looking up all names again");
        control.resolving.borrow().values().for_each(|naming| naming.again.notify_one());
    })
    .await;
}

/// The task of one name. It ends when no backend has the name any more.
async fn resolve_until(control: Rc<Control>, resolver: Resolver, host: Arc<str>, delay: Duration, naming: Rc<Naming>) {
    let follow = async {
        sleep(delay).await;
        follow::name(&resolver, &host, &naming.again, |learned| control.on_learned(&host, learned)).await;
    };
    tokio::select! {
        () = follow => {}
        () = naming.gone.notified() => {}
    }
}
