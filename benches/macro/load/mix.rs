//! Small paced round trips beside bulk flows: how long does a database query wait behind a dump?

use super::bulk::Bulk;
use super::paced::Paced;
use super::{Fault, Latencies, Load, parts};
use crate::ring::{Event, Ring};

/// Both together; its work is the bytes of the bulk flows, its latencies are those of the round trips.
pub struct Mix {
    /// The bulk flows.
    pub bulk: Bulk,
    /// The paced sessions.
    pub small: Paced,
}

impl Load for Mix {
    fn start(&mut self, ring: &mut Ring, now_ns: u64) {
        self.small.start(ring, now_ns);
        self.bulk.start(ring, now_ns);
    }

    fn on(&mut self, ring: &mut Ring, event: Event, now_ns: u64) -> Result<(), Fault> {
        let (kind, _) = parts(event.token);
        if Bulk::owns(kind) { self.bulk.on(ring, event, now_ns) } else { self.small.on(ring, event, now_ns) }
    }

    fn tick(&mut self, ring: &mut Ring, now_ns: u64) -> Result<u64, Fault> {
        self.small.tick(ring, now_ns)
    }

    fn work(&self) -> u64 {
        self.bulk.work()
    }

    fn take_latencies(&mut self) -> Latencies {
        self.small.take_latencies()
    }

    fn stop(&mut self, ring: &mut Ring) {
        self.bulk.stop(ring);
        self.small.stop(ring);
    }

    fn finished(&self) -> bool {
        self.bulk.finished() && self.small.finished()
    }

    fn verdict(&self) -> Result<(), Fault> {
        self.bulk.verdict()?;
        self.small.verdict()
    }
}
