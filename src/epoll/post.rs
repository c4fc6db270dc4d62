//! Messages between the workers of a process, in place of io_uring's MSG_RING: a queue and a bell for each.

use std::io;
use std::sync::atomic::{AtomicBool, Ordering};

use crossbeam::queue::SegQueue;

use crate::kernel::token::Token;
use crate::kernel::{Bell, Fd, errno};
use crate::sys::system::EventFd;

/// The boxes of all workers.
pub struct PostOffice {
    boxes: Box<[PostBox]>,
}

struct PostBox {
    letters: SegQueue<(Token, i32)>,
    bell: EventFd,
    /// The bell has rung since the letters were taken out.
    rung: AtomicBool,
    /// Its worker takes nothing out any more.
    closed: AtomicBool,
}

impl PostOffice {
    /// With a box for each of so many workers.
    ///
    /// # Errors
    /// No descriptor is left for a bell.
    pub fn new(workers: usize) -> io::Result<PostOffice> {
        let make = |_| {
            let (rung, closed) = (AtomicBool::new(false), AtomicBool::new(false));
            Ok(PostBox { letters: SegQueue::new(), bell: EventFd::new()?, rung, closed })
        };
        Ok(PostOffice { boxes: (0..workers).map(make).collect::<io::Result<_>>()? })
    }

    /// What names the box of a worker, and becomes readable when something is in it.
    pub fn port(&self, worker: usize) -> Fd {
        self.boxes[worker].bell.fd()
    }

    /// Puts a letter into the box that has this port.
    ///
    /// # Errors
    /// EBADF: it is closed, or there is none.
    pub fn post(&self, port: Fd, token: Token, result: i32) -> Result<(), i32> {
        let addressee = self.boxes.iter().find(|one| one.bell.fd() == port).ok_or(errno::EBADF)?;
        if addressee.closed.load(Ordering::SeqCst) {
            return Err(errno::EBADF);
        }
        addressee.letters.push((token, result));
        if !addressee.rung.swap(true, Ordering::SeqCst) {
            addressee.bell.ring();
        }
        Ok(())
    }

    /// Takes everything out of the box of a worker.
    pub fn collect(&self, worker: usize, into: &mut Vec<(Token, i32)>) {
        let own = &self.boxes[worker];
        own.bell.clear();
        // Before they are looked at: a worker that posts later rings again.
        own.rung.store(false, Ordering::SeqCst);
        into.extend(std::iter::from_fn(|| own.letters.pop()));
    }

    /// Nothing is taken out of the box of that worker any more.
    pub fn close(&self, worker: usize) {
        self.boxes[worker].closed.store(true, Ordering::SeqCst);
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::kernel::token::Operation;

    #[test]
    fn letters_come_in_order_and_a_closed_box_takes_none() {
        let office = PostOffice::new(2).unwrap();
        let token = |index| Token::plain(Operation::HandOver, index);
        let (port, mut found) = (office.port(1), Vec::new());
        for index in 0..3 {
            office.post(port, token(index), 70 + index as i32).unwrap();
        }
        office.collect(0, &mut found);
        assert!(found.is_empty(), "they are another one's");
        office.collect(1, &mut found);
        assert_eq!(found, [(token(0), 70), (token(1), 71), (token(2), 72)]);
        office.close(1);
        assert_eq!(office.post(port, token(3), 1), Err(errno::EBADF));
        assert_eq!(office.post(Fd(-1), token(3), 1), Err(errno::EBADF));
        assert_eq!(office.post(office.port(0), token(3), 1), Ok(()));
    }
}
