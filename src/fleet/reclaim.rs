//! With `on_main_up = "close"`: sessions on backups make room when a backend that is none takes sessions again.
//!
//! It is for servers of which one alone shall take writes. Sessions are cut only for a backend that is known to be
//! well: one of its checks must have succeeded that began after it ceased to take sessions. The checks that bring it
//! back up are such ones. After maintenance, or an ejection that is over, the next check is waited for.
//!
//! It happens once for each time. A session that then comes to a backup, because it could not connect to any other
//! backend, stays there.

use super::{Changes, Fleet, Notice, Seat};
use crate::base::time::Moment;

impl Seat {
    /// Whether it takes sessions in the first place, and not as a backup.
    fn is_main(&self) -> bool {
        self.settings.backup == 0 && self.is_usable()
    }

    /// Whether it is known to be well since it takes sessions again, and no backup has made room for that yet.
    fn takes_back(&self) -> bool {
        self.is_main() && self.proven_at >= self.left_at && self.reclaims
    }
}

impl Fleet {
    /// Has the sessions on the backups of its pool cut, if this seat takes sessions again and its pool wants that. To
    /// be called whenever something was learned of a seat.
    pub(super) fn reclaim(&mut self, place: usize, now: Moment, changes: &mut Changes) {
        let index = self.seats[place].pool;
        let pool = &self.config.pools[index];
        if !self.seats[place].takes_back() {
            return;
        }
        let places = self.pools[index].seats.clone();
        let mains = self.seats[places.clone()].iter().filter(|seat| seat.is_main()).count();
        if pool.close_on_main_up && mains < pool.up_min as usize {
            // Until there are as many the backups serve on, or another pool does.
            return;
        }
        // It was for all of them, and happens once.
        self.seats[places.clone()].iter_mut().filter(|seat| seat.is_main()).for_each(|seat| seat.reclaims = false);
        if !pool.close_on_main_up {
            return;
        }
        let (backend, left_at) = (self.seats[place].name.clone(), self.seats[place].left_at);
        let serve = self.seats[places.clone()].iter().any(|seat| seat.settings.backup > 0 && seat.is_usable());
        if left_at == Moment::default() && !serve {
            // At the start no client has come to a backup yet.
            return;
        }
        let backups = self.seats[places].iter_mut().filter(|seat| seat.settings.backup > 0);
        backups.for_each(|seat| seat.yielded_at = now);
        changes.table = true;
        changes.notices.push(Notice::MainUp { pool: self.config.pools[index].name.clone(), backend });
    }
}
