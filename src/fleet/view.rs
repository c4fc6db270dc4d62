//! What is known of the backends, as plain data for the API and for `ringway ctl`.
//!
//! It is a copy of one moment. It has no ids of slots except those that the API needs to find counters.

use std::num::NonZeroU32;
use std::sync::Arc;

use super::found;
use super::{Fleet, Seat, SourceView, Transition};
use crate::base::address::Address;
use crate::base::id::{BackendId, PoolId};
use crate::base::time::Moment;
use crate::config::model::BackendOrigin;
use crate::health::State;
use crate::stats::history::HistoryEvent;

impl Transition {
    /// It as a mark on the plots.
    pub fn event(&self) -> HistoryEvent {
        HistoryEvent::State {
            pool: self.pool.clone(),
            backend: self.backend.clone(),
            from: self.from.name(),
            to: self.to.state.name(),
            reason: self.to.reason.to_string(),
        }
    }
}

/// Everything that is known of the backends at one moment.
#[derive(Clone, Debug)]
pub struct FleetView {
    /// When it was made; the moments in it are of the same clock.
    pub now: Moment,
    /// In the order of the file; pools that are gone and still have sessions stand last.
    pub pools: Vec<PoolView>,
}

/// A pool.
#[derive(Clone, Debug)]
pub struct PoolView {
    /// Its slot, for what is counted.
    pub id: PoolId,
    /// Its name.
    pub name: Arc<str>,
    /// No longer configured: it only keeps the sessions it has.
    pub is_gone: bool,
    /// Where more backends are found; `None` if nowhere.
    pub source: Option<SourceView>,
    /// In the order of the file, each at each of its addresses.
    pub backends: Vec<BackendView>,
}

/// A backend at one address.
#[derive(Clone, Debug)]
pub struct BackendView {
    /// Its slot, for what is counted.
    pub id: BackendId,
    /// What it is called in logs and metrics: the name in the file, or `NAME#2` for its second address.
    pub name: Arc<str>,
    /// `None` while its name has no address.
    pub address: Option<Address>,
    /// Its port is the one that the client connected to, with so much added.
    pub port_shift: Option<i32>,
    /// What it may be used for.
    pub state: State,
    /// Why.
    pub reason: String,
    /// Since when.
    pub since: Moment,
    /// The states it was in, the one it is in last.
    pub history: Vec<PastView>,
    /// How its last check went, a line each with the milliseconds since its start; `None` if there was none.
    pub transcript: Option<Vec<(u64, String)>>,
    /// Where it comes from, in a word: `config`, `api`, or the `type` of the source that has found it.
    pub origin: &'static str,
    /// When its source was heard last, if it was found.
    pub confirmed: Option<Moment>,
    /// In use now: as configured, or as it was set at run time.
    pub weight: u16,
    /// 0 if it is no backup, else its level.
    pub backup: u16,
    /// In use now, as the weight is; `None` is no limit.
    pub connections_max: Option<NonZeroU32>,
    /// Keys that were set at run time and differ from the file until it changes them.
    pub set_by_hand: Vec<&'static str>,
    /// When its drain resets the sessions that are left; `None` if it does not drain, or never does that.
    pub drain_until: Option<Moment>,
    /// No longer configured, or no longer at this address: it only keeps the sessions it has.
    pub is_gone: bool,
}

impl BackendView {
    /// Whether it takes new sessions.
    pub fn takes_sessions(&self) -> bool {
        self.state.takes_sessions(self.weight)
    }
}

/// A state that a backend was in.
#[derive(Clone, Debug)]
pub struct PastView {
    /// Since when.
    pub since: Moment,
    /// Which.
    pub state: State,
    /// Why.
    pub reason: String,
}

impl Fleet {
    /// Everything as it is now.
    pub fn view(&self, now: Moment) -> FleetView {
        let pools = self.pools.iter().zip(&self.config.pools).enumerate();
        let view = |(index, (squad, pool)): (usize, (&super::Squad, &crate::config::model::Pool))| PoolView {
            id: squad.id,
            name: pool.name.clone(),
            is_gone: index >= self.configured,
            source: self.source_view(&pool.name),
            backends: self.seats[squad.seats.clone()].iter().map(|seat| self.backend_view(seat)).collect(),
        };
        FleetView { now, pools: pools.map(view).collect() }
    }

    /// One backend, with what is known of it now.
    fn backend_view(&self, seat: &Seat) -> BackendView {
        let watch = seat.watch.and_then(|watch| self.watches.get(watch));
        let transcript = watch.and_then(|watch| watch.transcript.as_ref());
        let lines = |lines: &[crate::health::transcript::TranscriptLine]| -> Vec<(u64, String)> {
            lines.iter().map(|line| (line.at_ms, line.text.clone())).collect()
        };
        let by_hand = self.pools[seat.pool].by_hand.get(&seat.configured_name).filter(|_| seat.retired.is_none());
        let until = seat.retired.as_ref().map(|retired| retired.until).or(seat.order.until());
        BackendView {
            id: seat.id,
            name: seat.name.clone(),
            address: seat.address.clone(),
            port_shift: seat.settings.port_shift,
            state: seat.standing.state,
            reason: told(seat),
            since: seat.since,
            history: seat
                .history()
                .map(|past| PastView { since: past.since, state: past.state, reason: past.reason.to_string() })
                .collect(),
            transcript: transcript.map(|transcript| lines(transcript.lines())),
            origin: seat.origin.name(),
            confirmed: match seat.origin {
                BackendOrigin::Found(_) if seat.retired.is_none() => {
                    self.sources.get(&self.config.pools[seat.pool].name).and_then(found::PoolSource::confirmed)
                }
                _ => None,
            },
            weight: seat.weight(),
            backup: seat.settings.backup,
            connections_max: seat.settings.connections_max,
            set_by_hand: by_hand.map(super::order::ByHand::keys).unwrap_or_default(),
            drain_until: until.filter(|until| *until != Moment::NEVER),
            is_gone: seat.retired.is_some(),
        }
    }
}

/// Why a backend is in its state, and what else a person should know.
fn told(seat: &Seat) -> String {
    let mut told = seat.standing.reason.to_string();
    if let Some(percent) = seat.agent.percent() {
        told.push_str(&format!("; its agent leaves it {percent} % of its weight"));
    }
    if let Some(remark) = &seat.remark {
        told.push_str(&format!("; its last check: {remark}"));
    }
    told
}
