//! One lookup in DNS: which server is asked for which name, one after the other. Pure.
//!
//! As glibc does it (`res_search`, `res_send`): servers in the order of the file, the next one after SERVFAIL, REFUSED,
//! NOTIMP or silence; a denial is final and leads to the next name of the search list. In one thing it goes further: a
//! name that no server could say anything about does not end the search, but the failure is kept, so that what a later
//! name stands for does not take the place of addresses that are known of the one that failed.

use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

use super::conf::Conf;
use crate::base::time::{Moment, ns};
use crate::discover::known::{FamilyAnswer, Resolution};

/// For the other family, once one has brought addresses.
const GRACE_NS: u64 = 500_000_000;

/// A family of addresses.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub(crate) enum Asked {
    /// IPv4, asked for as A.
    V4,
    /// IPv6, asked for as AAAA.
    V6,
}

/// What a server said about one family.
#[derive(Clone, Debug, Eq, PartialEq)]
pub(crate) enum Reply {
    /// Addresses, at least one, and for how long.
    Found(Vec<std::net::IpAddr>, Duration),
    /// The name has no address of that family.
    NoData,
    /// There is no such name.
    NxDomain,
    /// Nothing that helps, for that reason: another server may know more.
    Useless(String),
}

/// What happened.
#[derive(Clone, Debug, Eq, PartialEq)]
pub(crate) enum SearchEvent {
    /// The lookup begins.
    Begin,
    /// The server that was asked last has answered.
    Reply(Asked, Reply),
    /// It is as late as was said.
    Time,
}

/// What to do.
#[derive(Clone, Debug, Eq, PartialEq)]
pub(crate) enum SearchStep {
    /// Ask this server for both families of this name, and say so when it is that late. Earlier questions are void.
    Ask(SocketAddr, Arc<str>, Moment),
    /// Go on waiting, until then.
    Wait(Moment),
    /// The lookup is over.
    Done(Resolution),
}

/// One lookup of a name: which names are asked for at which servers, and what follows from their answers.
#[derive(Debug)]
pub(crate) struct Search {
    conf: Arc<Conf>,
    candidates: Vec<Arc<str>>,
    /// Where the search stands: which name, which round over the servers, and which server of the round.
    candidate: usize,
    round: u32,
    place: usize,
    /// The server that comes first.
    first: usize,
    replies: [Option<Reply>; 2],
    until: Moment,
    /// Why the server that was asked last was of no use.
    useless: String,
    /// Names that could not be looked up, and why.
    failed: Vec<(Arc<str>, String)>,
}

impl Search {
    /// `turn` counts lookups, for `rotate`.
    pub(crate) fn new(conf: Arc<Conf>, name: &str, turn: usize) -> Search {
        let candidates = conf.candidates(name).into_iter().map(Arc::from).collect();
        let first = if conf.rotate { turn % conf.servers.len().max(1) } else { 0 };
        Search {
            conf,
            candidates,
            candidate: 0,
            round: 0,
            place: 0,
            first,
            replies: [None, None],
            until: Moment::NEVER,
            useless: String::new(),
            failed: Vec::new(),
        }
    }

    /// Takes what happened and says what to do.
    pub(crate) fn on(&mut self, event: SearchEvent, now: Moment) -> SearchStep {
        match event {
            SearchEvent::Begin => return self.ask(now),
            SearchEvent::Reply(kind, reply) => {
                if matches!(reply, Reply::Found(..)) {
                    self.until = self.until.min(now.after_ns(GRACE_NS));
                }
                self.replies[kind as usize].get_or_insert(reply);
            }
            SearchEvent::Time if now >= self.until => {
                for reply in &mut self.replies {
                    reply.get_or_insert_with(|| Reply::Useless("no answer in time".to_owned()));
                }
            }
            SearchEvent::Time => {}
        }
        match std::mem::take(&mut self.replies) {
            [Some(v4), Some(v6)] => self.judge(v4, v6, now),
            replies => {
                self.replies = replies;
                SearchStep::Wait(self.until)
            }
        }
    }

    /// Both families have their reply.
    fn judge(&mut self, v4: Reply, v6: Reply, now: Moment) -> SearchStep {
        match (&v4, &v6) {
            (Reply::Found(..), _) | (_, Reply::Found(..)) => {
                let name = self.candidates[self.candidate].clone();
                let failed = std::mem::take(&mut self.failed);
                SearchStep::Done(Resolution {
                    v4: family(v4),
                    v6: family(v6),
                    from: Some(name),
                    failed,
                    looked: String::new(),
                })
            }
            // As in glibc one family that is answered is an answer.
            (Reply::Useless(why), Reply::Useless(_)) => {
                self.useless = format!("{}: {why}", self.server());
                self.place += 1;
                if self.place >= self.conf.servers.len() {
                    (self.place, self.round) = (0, self.round + 1);
                }
                self.ask(now)
            }
            (Reply::Useless(why), _) | (_, Reply::Useless(why)) => {
                self.useless = format!("{}: {why}", self.server());
                self.give_up_name();
                self.ask(now)
            }
            _ => {
                self.next_name();
                self.ask(now)
            }
        }
    }

    fn ask(&mut self, now: Moment) -> SearchStep {
        if self.conf.servers.is_empty() {
            return SearchStep::Done(Resolution::failed("there is no name server that can be asked"));
        }
        if self.round >= self.conf.attempts {
            self.give_up_name();
        }
        let Some(name) = self.candidates.get(self.candidate) else { return SearchStep::Done(self.conclude()) };
        self.until = now.after_ns(ns(self.conf.patience(self.place)));
        SearchStep::Ask(self.server(), name.clone(), self.until)
    }

    fn server(&self) -> SocketAddr {
        self.conf.servers[(self.first + self.place) % self.conf.servers.len()]
    }

    fn give_up_name(&mut self) {
        if let Some(name) = self.candidates.get(self.candidate) {
            self.failed.push((name.clone(), std::mem::take(&mut self.useless)));
        }
        self.next_name();
    }

    fn next_name(&mut self) {
        self.candidate += 1;
        (self.round, self.place) = (0, 0);
    }

    /// No name has brought an address: denied, if every one was.
    fn conclude(&mut self) -> Resolution {
        match &self.failed[..] {
            [] => Resolution::denied(),
            failed => {
                let (name, why) = &failed[0];
                let mut answer = Resolution::failed(&format!("{}: {why}", name.trim_end_matches('.')));
                answer.failed = std::mem::take(&mut self.failed);
                answer
            }
        }
    }
}

fn family(reply: Reply) -> FamilyAnswer {
    match reply {
        Reply::Found(addresses, ttl) => FamilyAnswer::Found { addresses, ttl },
        Reply::NoData | Reply::NxDomain => FamilyAnswer::Absent,
        Reply::Useless(why) => FamilyAnswer::Failed(why),
    }
}

#[cfg(test)]
mod tests;
