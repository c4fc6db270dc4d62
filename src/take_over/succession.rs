//! Where one ringway stands between the one before, which it is to relieve, and the one that may come after it.

use std::sync::{Arc, Weak};
use std::time::Duration;

use tracing::{info, warn};

use super::{Predecessor, Relief};
use crate::api::command::Loan;
use crate::api::{ApiContext, Servers};
use crate::base::time::{Moment, ns};

/// How long the ringway before serves on while this one looks at its backends for the first time. A check that answers
/// takes milliseconds; one that does not is no reason to wait for ever.
const LOOK_OVER_MAX: Duration = Duration::from_secs(5);

/// What is known of both, and the admin servers, which go from one to the other.
pub struct Succession {
    /// The one before, until it is relieved.
    predecessor: Option<Predecessor>,
    /// When it is relieved at the latest.
    relieve_at: Moment,
    servers: Servers,
    /// What they are to answer from.
    answers: ApiContext,
    /// Alive while another one is taking over.
    lent: Weak<()>,
}

impl Succession {
    /// Serves the API, unless there is one before that serves it until it is relieved.
    pub fn new(predecessor: Option<Predecessor>, mut servers: Servers, answers: ApiContext, now: Moment) -> Succession {
        if predecessor.is_none() {
            servers.begin(answers.clone());
        }
        let relieve_at = now.after_ns(ns(LOOK_OVER_MAX));
        Succession { predecessor, relieve_at, servers, answers, lent: Weak::new() }
    }

    /// Whether there is one before, and it is not relieved yet.
    pub fn has_predecessor(&self) -> bool {
        self.predecessor.is_some()
    }

    /// Whether the one before has served for as long as it may. Until the backends were looked at it knows better who
    /// is up.
    pub fn is_late(&self, now: Moment) -> bool {
        now >= self.relieve_at
    }

    /// Why the configuration must stay as it is for now.
    pub fn forbids_change(&self) -> Option<&'static str> {
        if self.predecessor.is_some() {
            return Some("ringway is still taking over from the one before; ask again when it is ready");
        }
        if self.lent.strong_count() > 0 {
            return Some("another ringway is taking over, with the configuration it was started with; ask that one");
        }
        None
    }

    /// Has the one before drain, and serves the API in its place. Both accept meanwhile.
    pub async fn relieve(&mut self) {
        let Some(predecessor) = self.predecessor.take() else { return };
        match predecessor.relieve().await {
            Relief::Drains => info!("taken over; the ringway before drains"),
            Relief::Silent(error) => warn!(%error, "taken over; the ringway before has not said that it drains"),
        }
        self.servers.begin(self.answers.clone());
    }

    /// What the one that comes needs: `sockets` and those of the API.
    pub fn lend(&mut self, sockets: Vec<Arc<std::os::fd::OwnedFd>>) -> Loan {
        let lock = Arc::new(());
        self.lent = Arc::downgrade(&lock);
        let admin = self.servers.lend().cloned();
        Loan { sockets: sockets.into_iter().chain(admin).collect(), lock }
    }

    /// Binds `admin.socket` anew if its file was removed.
    pub fn mend_socket_file(&mut self) {
        self.servers.mend(&self.answers);
    }

    /// The one that comes serves the API from here on.
    pub async fn close(&mut self) {
        self.servers.close().await;
    }
}
