//! A worker's turn, as `Worker::run` does it. Other workers may move before it is over.

use ringway::base::time::Moment;
use ringway::kernel::Wait;
use ringway::kernel::token::Operation;

use crate::corner::Corner;
use crate::world::World;

/// Turns without anything that came about: more is a worker that spins.
const IDLE_TURNS_MAX: u32 = 60;

impl World {
    /// From one sleep to the next.
    pub fn turn(&mut self, index: usize) {
        match self.seats[index].amid.take() {
            Some(number) => self.host.borrow_mut().turn = number,
            None => {
                self.begin_turn(index);
                if self.seats.len() > 1 && self.host.borrow_mut().dice.one_in(16) {
                    let host = self.host.borrow();
                    let seat = &mut self.seats[index];
                    (seat.amid, seat.wakes_at, seat.is_busy) = (Some(host.turn), host.now, true);
                    return;
                }
                self.let_others_hand_over(index);
            }
        }
        self.end_turn(index);
    }

    /// A worker that is about to end has looked at all that has come. Before it reports its end, more may come.
    fn let_others_hand_over(&mut self, index: usize) {
        let serves = self.control.shared.stats.workers[index].worker.connections.get() > 0;
        if serves || self.control.phase.accepts() {
            return;
        }
        let number = self.host.borrow().turn;
        (self.seats[index].amid, self.seats[index].is_busy) = (Some(number), true);
        for other in 0..self.seats.len() {
            if other != index && self.seats[other].amid.is_none() {
                self.turn_if_due(other);
            }
        }
        self.seats[index].amid = None;
        self.host.borrow_mut().turn = number;
    }

    fn begin_turn(&mut self, index: usize) {
        let Some(worker) = &mut self.seats[index].worker else { return };
        {
            let mut host = self.host.borrow_mut();
            host.say(format_args!("  w{index} wakes"));
            host.rings[index].asleep = false;
            host.rings[index].cut.clear();
            host.begin_turn();
        }
        worker.enter(Wait::No).expect("the simulated ring can be entered");
        self.host.borrow_mut().hear(index);
        worker.turn().expect("the simulated ring can be entered");
        self.check_cuts(index);
    }

    fn end_turn(&mut self, index: usize) {
        self.look_for_a_last_hand_over(index);
        let seat = &mut self.seats[index];
        let Some(worker) = &mut seat.worker else { return };
        if worker.is_done() {
            worker.finish();
            seat.worker = None;
            seat.is_busy = false;
            let mut host = self.host.borrow_mut();
            host.say(format_args!("  w{index} is done"));
            host.rings[index].gone = true;
        } else {
            let now = self.host.borrow().now;
            let rest = worker.rest(now);
            self.host.borrow_mut().rings[index].asleep = true;
            worker.enter(rest).expect("the simulated ring can be entered");
            seat.wakes_at = match rest {
                Wait::No => now,
                Wait::Forever => Moment::NEVER,
                Wait::For(ns) => now.after_ns(ns),
            };
            seat.is_busy = rest == Wait::No;
            self.host.borrow().say(format_args!("  w{index} rests: {rest:?}"));
        }
        let progress = self.host.borrow().progress;
        seat.idle_turns = if progress == seat.seen_progress { seat.idle_turns + 1 } else { 0 };
        seat.seen_progress = progress;
        assert!(seat.idle_turns < IDLE_TURNS_MAX, "worker {index} is busy, and nothing comes of it");
        self.host.borrow_mut().close_doors();
        self.check_turn();
        let rests = !self.seats[index].is_busy;
        self.check_deadlines(rests);
        self.check_places();
        if self.seats[index].worker.is_none() {
            return;
        }
        if rests {
            self.check_asleep(index);
        } else if self.host.borrow().is_fed_in_parts(index) {
            self.host.borrow_mut().corners.reach(Corner::FedInParts);
        }
    }

    /// A worker that has nothing left to serve looks whether it may end, and a connection has just come.
    fn look_for_a_last_hand_over(&self, index: usize) {
        let serves = self.control.shared.stats.workers[index].worker.connections.get() > 0;
        if !serves && !self.control.phase.accepts() {
            let mut host = self.host.borrow_mut();
            if host.rings[index].on_their_way(&[Operation::HandOver]) > 0 {
                host.corners.reach(Corner::HandedOverLast);
            }
        }
    }
}
