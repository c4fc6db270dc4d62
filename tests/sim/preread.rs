//! What a client must say before a backend is chosen, and a worker that looks at it in the kernel's queue.

use ringway::base::side::Side;
use ringway::base::termination::Who;
use ringway::base::time::Moment;
use ringway::session::{Effect, Event, Looked};

use crate::corner::Corner;
use crate::dice::Dice;
use crate::faults::{MS, SECOND};
use crate::link::{Kind, Op};
use crate::world::World;

/// Between looks where the kernel cannot say that more has come: this, or a part of the time that was waited.
const AGAIN_NS: u64 = 5 * MS;
const AGAIN_PART: u64 = 8;

/// Of one session.
#[derive(Clone, Copy, Debug)]
pub struct Preread {
    /// Bytes that must have come.
    need: u64,
    /// Bytes that the last look saw: the low-water mark.
    seen: u64,
    timeout_ns: u64,
    began_at: Moment,
    pub deadline: Moment,
    /// What comes of enough bytes, and of too few.
    enough: bool,
    too_few: bool,
    /// The socket has no low-water mark.
    is_blind: bool,
    /// It looks again by itself.
    pub looks_again: bool,
    /// A backend may be chosen.
    pub is_over: bool,
    /// It was turned away, by this.
    pub refused_by: Option<Who>,
}

impl Preread {
    pub fn throw(dice: &mut Dice) -> Option<Preread> {
        dice.one_in(4).then(|| Preread {
            need: dice.pick(&[1, 8, 107, 517, 4096]),
            seen: 0,
            timeout_ns: dice.pick(&[0, 20 * MS, 3 * SECOND, 3 * SECOND]),
            began_at: Moment::default(),
            deadline: Moment::NEVER,
            enough: !dice.one_in(5),
            too_few: dice.one_in(2),
            is_blind: dice.one_in(4),
            looks_again: false,
            is_over: false,
            refused_by: None,
        })
    }

    pub fn begin(&mut self, now: Moment) {
        self.began_at = now;
        self.deadline = if self.timeout_ns == 0 { Moment::NEVER } else { now.after_ns(self.timeout_ns) };
    }
}

impl World {
    /// Whether that session waits for what its client must say.
    pub fn is_prereading(&self, s: usize) -> bool {
        self.slots[s].preread.is_some_and(|preread| !preread.is_over && preread.refused_by.is_none())
    }

    pub fn preread(&mut self, s: usize, effect: Effect) -> Option<Event> {
        let at = (s, Side::Client);
        let now = self.kernel.now;
        assert!(self.is_prereading(s), "the client is looked at when there is nothing to look for");
        assert_eq!(self.slots[s].picks, 0, "a backend was chosen before the client has said what it must");
        assert!(!self.kernel.link(at).busy[Kind::Recv as usize], "it is looked at beside a receive");
        let Effect::Look { ended } = effect else {
            let blind = self.slots[s].preread.is_some_and(|preread| preread.is_blind);
            let low_water = self.slots[s].preread.map_or(0, |preread| preread.seen);
            let op = Op { credit: if blind { 0 } else { low_water as u32 }, ..Op::new() };
            self.kernel.submit(at, Kind::Preread, op);
            return None;
        };
        let (have, link) = (self.kernel.link(at).rx.len(), self.kernel.link(at));
        let (gone, silent) = (link.dead, link.fin_arrived && have == 0);
        let told_right = !ended || link.dead || link.fin_arrived || self.kernel.profile.odds.poll_lies.0 > 0;
        assert!(told_right, "told that the client has ended, and it has not");
        let spurious = self.kernel.dice.one_in(8);
        let preread = self.slots[s].preread.as_mut()?;
        let same = preread.seen == have && have > 0;
        preread.seen = have;
        let looked = match () {
            () if gone || silent => Looked::Refused(Who::Client),
            () if have >= preread.need && preread.enough => Looked::Done,
            () if have >= preread.need => Looked::Refused(Who::Rule),
            () if (ended || now >= preread.deadline) && preread.too_few => Looked::Done,
            () if ended || now >= preread.deadline => Looked::Refused(Who::Rule),
            () if spurious || (same && preread.is_blind) => {
                let pause_ns = AGAIN_NS.max(now.since_ns(preread.began_at) / AGAIN_PART);
                Looked::Again { at: now.after_ns(pause_ns).min(preread.deadline) }
            }
            () => Looked::More { until: preread.deadline },
        };
        preread.looks_again = matches!(looked, Looked::Again { .. });
        match looked {
            Looked::Done => preread.is_over = true,
            Looked::Refused(who) => preread.refused_by = Some(who),
            Looked::More { .. } | Looked::Again { .. } => {}
        }
        let corner = match looked {
            Looked::Done if have < preread.need => Corner::PrereadTooFew,
            Looked::Done => Corner::PrereadDone,
            Looked::Refused(Who::Client) => Corner::PrereadLeft,
            Looked::Refused(_) => Corner::PrereadRefused,
            Looked::Again { .. } => Corner::PrereadAgain,
            Looked::More { .. } => Corner::PrereadMore,
        };
        self.kernel.corners.reach(corner);
        Some(Event::Looked(looked))
    }
}
