//! Where one ringway stands between the one before it, which it has to relieve, and the one that may come after it.
//!
//! Control asks it whether a reload is allowed now, and when to relieve the one before. It also holds the servers of
//! the API, because their sockets go from one ringway to the next.

use std::sync::{Arc, Weak};
use std::time::Duration;

use tracing::{info, warn};

use super::{Predecessor, Relief, sticky};
use crate::api::command::Loan;
use crate::api::{ApiContext, Servers};
use crate::base::time::{Moment, ns};

/// How long the ringway before serves on while this one checks its backends for the first time. A check that is
/// answered takes milliseconds; one that is not must not delay the take-over for ever.
const LOOK_OVER_MAX: Duration = Duration::from_secs(5);

/// What is known of both neighbours, and the servers of the API.
pub struct Succession {
    /// The ringway before, until it is relieved.
    predecessor: Option<Predecessor>,
    /// When it is relieved at the latest.
    relieve_at: Moment,
    /// The servers of the API.
    servers: Servers,
    /// What they answer from.
    answers: ApiContext,
    /// Can be upgraded exactly while another ringway is taking over.
    lent: Weak<()>,
}

impl Succession {
    /// Serves the API, unless there is a ringway before that serves it until it is relieved.
    pub fn new(predecessor: Option<Predecessor>, mut servers: Servers, answers: ApiContext, now: Moment) -> Succession {
        if predecessor.is_none() {
            servers.begin(answers.clone());
        }
        let relieve_at = now.after_ns(ns(LOOK_OVER_MAX));
        Succession { predecessor, relieve_at, servers, answers, lent: Weak::new() }
    }

    /// Whether the ringway before is not relieved yet.
    pub fn has_predecessor(&self) -> bool {
        self.predecessor.is_some()
    }

    /// Whether the ringway before has served for as long as it can. Until the backends were checked, it knows better
    /// which of them are up.
    pub fn is_late(&self, now: Moment) -> bool {
        now >= self.relieve_at
    }

    /// Why the configuration cannot change now; `None` if it can.
    pub fn forbids_change(&self) -> Option<&'static str> {
        if self.predecessor.is_some() {
            return Some("ringway is still taking over from the one before; ask again when it is ready");
        }
        if self.lent.strong_count() > 0 {
            return Some("another ringway is taking over, with the configuration it was started with; ask that one");
        }
        None
    }

    /// Has the ringway before drain, and serves the API from now on. Both accept meanwhile.
    pub async fn relieve(&mut self) {
        let Some(predecessor) = self.predecessor.take() else { return };
        match predecessor.relieve().await {
            Relief::Drains(told) => {
                let (reader, counts, now) =
                    (self.answers.cell.reader(), &self.answers.counts, self.answers.clock.now());
                let clients = sticky::hear(&told, &reader.pin(), counts, now);
                info!(clients, "taken over; the ringway before drains");
            }
            Relief::Silent(error) => warn!(%error, "taken over; the ringway before has not said that it drains"),
        }
        self.servers.begin(self.answers.clone());
    }

    /// What the next ringway needs: `sockets` and those of the API.
    pub fn lend(&mut self, sockets: Vec<Arc<std::os::fd::OwnedFd>>) -> Loan {
        let lock = Arc::new(());
        self.lent = Arc::downgrade(&lock);
        let admin = self.servers.lend().cloned();
        Loan { sockets: sockets.into_iter().chain(admin).collect(), lock }
    }

    /// Binds `admin.socket` again if its file was removed.
    pub fn mend_socket_file(&mut self) {
        self.servers.mend(&self.answers);
    }

    /// Stops serving the API, because the next ringway serves it.
    pub async fn close(&mut self) {
        self.servers.close().await;
    }
}
