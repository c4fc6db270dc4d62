//! One ringway after another: relieving the one before, and being relieved by the one that comes ([`take_over`]).
//!
//! [`take_over`]: super::take_over

use std::sync::{Arc, Weak};
use std::time::Duration;

use tracing::{info, warn};

use super::admin::{Admin, Servers};
use super::command::{Loan, Successor};
use super::lifecycle::Event;
use super::notify;
use super::run::Loop;
use super::take_over::{Predecessor, Relief};
use crate::base::time::{Moment, ns};
use crate::snapshot::table::Phase;

/// How long the ringway before serves on while this one looks at its backends for the first time. A check that answers
/// takes milliseconds; one that does not is no reason to wait for ever.
const LOOK_OVER_MAX: Duration = Duration::from_secs(5);

/// What is known of both.
pub(super) struct Succession {
    /// The one before, until it is relieved.
    predecessor: Option<Predecessor>,
    /// When it is relieved at the latest.
    relieve_at: Moment,
    servers: Servers,
    /// What they are to answer from.
    answers: Admin,
    /// Alive while another one is taking over.
    lent: Weak<()>,
}

impl Succession {
    pub(super) fn new(predecessor: Option<Predecessor>, servers: Servers, answers: Admin, now: Moment) -> Succession {
        let relieve_at = now.after_ns(ns(LOOK_OVER_MAX));
        Succession { predecessor, relieve_at, servers, answers, lent: Weak::new() }
    }

    /// Why the configuration must stay as it is for now.
    pub(super) fn forbids_change(&self) -> Option<&'static str> {
        if self.predecessor.is_some() {
            return Some("ringway is still taking over from the one before; ask again when it is ready");
        }
        if self.lent.strong_count() > 0 {
            return Some("another ringway is taking over, with the configuration it was started with; ask that one");
        }
        None
    }
}

impl Loop {
    /// Whether this one serves: at once, or, where another one is to be relieved, when that is done. Until the backends
    /// were looked at the other one knows better who is up.
    pub(super) async fn has_succeeded(&mut self) -> bool {
        if self.succession.predecessor.is_none() {
            return true;
        }
        let is_late = self.control.clock.now() >= self.succession.relieve_at;
        if !is_late && !self.control.fleet.borrow().is_looked_over() {
            return false;
        }
        self.publisher.publish(&self.control, Phase::Serving);
        // From here on both accept; nothing that can fail is left.
        self.sockets.commit(&|name| self.control.fleet.borrow().listener(name));
        let Some(predecessor) = self.succession.predecessor.take() else { return true };
        match predecessor.relieve().await {
            Relief::Drains => info!("taken over; the ringway before drains"),
            Relief::Silent(error) => warn!(%error, "taken over; the ringway before has not said that it drains"),
        }
        let answers = self.succession.answers.clone();
        self.succession.servers.begin(answers);
        notify::main_process();
        true
    }

    /// Binds unix sockets anew whose files were removed. Not while two ringways share them.
    pub(super) fn mend_socket_files(&mut self) {
        if self.lifecycle.phase().accepts()
            && !self.control.is_relieved.get()
            && self.succession.forbids_change().is_none()
        {
            self.sockets.mend(&|name| self.control.fleet.borrow().listener(name));
            self.succession.servers.mend(&self.succession.answers);
        }
    }

    /// Every listening socket, if another one may have them.
    pub(super) fn lend(&mut self) -> Result<Loan, String> {
        if self.lifecycle.phase() != Phase::Serving {
            return Err("it is shutting down".to_owned());
        }
        if let Some(why) = self.succession.forbids_change() {
            return Err(why.to_owned());
        }
        let lock = Arc::new(());
        self.succession.lent = Arc::downgrade(&lock);
        let admin = self.succession.servers.lend().cloned();
        Ok(Loan { sockets: self.sockets.lend().into_iter().chain(admin).collect(), lock })
    }

    /// Another one accepts from the same sockets: this one drains, and says no more to anybody but its sessions.
    pub(super) async fn relieved(&mut self, by: Successor) -> Option<Event> {
        info!(pid = by.pid, "another ringway has taken over");
        if let Some(pid) = by.pid {
            notify::succeeded_by(pid);
        }
        self.control.is_relieved.set(true);
        self.sockets.leave();
        self.succession.servers.close().await;
        // Asked for shutdown meanwhile, it drains already; a second time would be the end of its sessions.
        (self.lifecycle.phase() == Phase::Serving).then_some(Event::Relieved)
    }
}
