//! SRV records of a name (RFC 2782): the same servers, the same search list and the same order as for addresses.

use std::net::{IpAddr, Ipv4Addr};
use std::time::Duration;

use super::Resolver;
use super::search::{Asked, Reply, Search, SearchEvent, SearchStep};
use super::wire;
pub(crate) use super::wire::SrvRecord;
use crate::discover::known::FamilyAnswer;

/// The answer about the records of a name.
#[derive(Clone, Debug, Eq, PartialEq)]
pub(crate) enum SrvAnswer {
    /// It has these, and for this time they hold.
    Found(Vec<SrvRecord>, Duration),
    /// It has none, says DNS. The text says what was asked.
    Denied(String),
    /// DNS cannot say, for this reason.
    Failed(String),
}

impl Resolver {
    /// Looks up the SRV records of a name. The time-outs and the length of the search list bound how long that takes.
    pub(crate) async fn lookup_srv(&self, name: &str) -> SrvAnswer {
        let _place = self.0.lookups.acquire().await;
        self.0.turn.set(self.0.turn.get().wrapping_add(1));
        let (system, clock) = (self.system(), &self.0.clock);
        let conf = &system.conf;
        // The search decides which server is asked for which name. It thinks of addresses: one that stands for the
        // records, and none of the other family.
        let mut search = Search::new(conf.clone(), name, self.0.turn.get());
        let mut found = (Vec::new(), Duration::ZERO);
        let mut step = search.on(SearchEvent::Begin, clock.now());
        let answer = loop {
            let (server, asked, until) = match step {
                SearchStep::Done(answer) => break answer,
                SearchStep::Ask(server, asked, until) => (server, asked, until),
                SearchStep::Wait(until) => {
                    tokio::time::sleep(Duration::from_nanos(until.since_ns(clock.now()))).await;
                    step = search.on(SearchEvent::Time, clock.now());
                    continue;
                }
            };
            let patience = Duration::from_nanos(until.since_ns(clock.now()));
            let reply = match tokio::time::timeout(patience, wire::ask_srv(server, &asked, conf.use_vc)).await {
                Ok(Ok((records, ttl))) => {
                    found = (records, ttl);
                    Reply::Found(vec![IpAddr::from(Ipv4Addr::UNSPECIFIED)], ttl)
                }
                Ok(Err(reply)) => reply,
                Err(_) => Reply::Useless("no answer in time".to_owned()),
            };
            let other = if matches!(reply, Reply::Useless(_)) { reply.clone() } else { Reply::NoData };
            search.on(SearchEvent::Reply(Asked::V6, other), clock.now());
            step = search.on(SearchEvent::Reply(Asked::V4, reply), clock.now());
        };
        match answer.v4 {
            FamilyAnswer::Found { .. } => SrvAnswer::Found(found.0, found.1),
            FamilyAnswer::Absent => SrvAnswer::Denied(format!("DNS has no SRV records of {name}")),
            FamilyAnswer::Failed(why) => SrvAnswer::Failed(format!("DNS cannot say ({why})")),
        }
    }
}
