//! One lookup in DNS: which server is asked for which name, one after the other. Pure.
//!
//! It does what glibc does (`res_search`, `res_send`): servers are asked in the order of the file, and the next one
//! after SERVFAIL, REFUSED, NOTIMP or silence. A denial is final and leads to the next name of the search list.
//!
//! In one thing it goes further. A name about which no server could say anything does not end the search, but the
//! failure is kept in the answer. So addresses that are known of that name are not replaced by those of a later name,
//! which stands for another server.

use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

use super::conf::Conf;
use crate::base::time::{Moment, ns};
use crate::discover::known::{FamilyAnswer, Resolution};

/// How long the other family is awaited when one has brought addresses.
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
    /// At least one address, and how long they hold.
    Found(Vec<std::net::IpAddr>, Duration),
    /// The name has no address of that family.
    NoData,
    /// There is no such name.
    NxDomain,
    /// Nothing that helps, for this reason. Another server may know more.
    Useless(String),
}

/// Something that happened.
#[derive(Clone, Debug, Eq, PartialEq)]
pub(crate) enum SearchEvent {
    /// The lookup begins.
    Begin,
    /// The server that was asked last has replied about this family.
    Reply(Asked, Reply),
    /// The moment that was named has come.
    Time,
}

/// What to do next.
#[derive(Clone, Debug, Eq, PartialEq)]
pub(crate) enum SearchStep {
    /// Ask this server for both families of this name, and say when it is this late. Earlier questions no longer count.
    Ask(SocketAddr, Arc<str>, Moment),
    /// Go on waiting until this moment.
    Wait(Moment),
    /// The lookup is over.
    Done(Resolution),
}

/// One lookup of a name.
#[derive(Debug)]
pub(crate) struct Search {
    /// Servers, time-outs and attempts.
    conf: Arc<Conf>,
    /// The names to try, in order.
    candidates: Vec<Arc<str>>,
    /// Where the search is: which name, which round over the servers, and which server of the round.
    candidate: usize,
    /// Counts from 0 to `attempts`.
    round: u32,
    /// Counts from 0 to the number of servers.
    place: usize,
    /// The server with which a round begins, for `rotate`.
    first: usize,
    /// The replies about both families to the question under way.
    replies: [Option<Reply>; 2],
    /// When the question under way is given up.
    until: Moment,
    /// Why the server that was asked last was of no use.
    useless: String,
    /// Names that could not be looked up, and why.
    failed: Vec<(Arc<str>, String)>,
}

impl Search {
    /// A lookup of `name`. `turn` counts lookups, for `rotate`.
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

    /// Handles an event.
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

    /// Both families have a reply: decides whether the lookup is over, or which server or name comes next.
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
            // As in glibc, an answer about one family is an answer.
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

    /// Asks the current server for the current name, if there are any left.
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

    /// The server to ask.
    fn server(&self) -> SocketAddr {
        self.conf.servers[(self.first + self.place) % self.conf.servers.len()]
    }

    /// Notes that the current name could not be looked up, and goes to the next one.
    fn give_up_name(&mut self) {
        if let Some(name) = self.candidates.get(self.candidate) {
            self.failed.push((name.clone(), std::mem::take(&mut self.useless)));
        }
        self.next_name();
    }

    /// Goes to the next name, with all servers.
    fn next_name(&mut self) {
        self.candidate += 1;
        (self.round, self.place) = (0, 0);
    }

    /// The answer if no name had an address: a denial if every name was denied, else the first failure.
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

/// A reply as an answer.
fn family(reply: Reply) -> FamilyAnswer {
    match reply {
        Reply::Found(addresses, ttl) => FamilyAnswer::Found { addresses, ttl },
        Reply::NoData | Reply::NxDomain => FamilyAnswer::Absent,
        Reply::Useless(why) => FamilyAnswer::Failed(why),
    }
}

#[cfg(test)]
mod tests;
