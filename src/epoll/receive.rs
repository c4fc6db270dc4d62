//! Receives: tried when they are pushed, and again whenever something is reported to have come.

use super::Epoll;
use super::calls::{Calls, Received, ReceivedTwo, WatchMode};
use super::watch::{Place, Reading};
use crate::base::lease::BUFFER_LEN;
use crate::kernel::token::Token;
use crate::kernel::{Completion, Fd, errno};

impl<C: Calls> Epoll<C> {
    /// Receives until the credit is used up.
    pub(super) fn recv(&mut self, fd: Fd, credit: u32, fresh: bool, token: Token) {
        let (place, is_new) = match self.watched(fd, WatchMode::Edges) {
            Ok(found) => found,
            Err(error) => return self.answer(token, -error, false),
        };
        let watch = self.watches.get(place);
        watch.read(Reading::Recv, token);
        watch.credit = credit;
        // Something may be there already, which saves the way over a report.
        watch.readable |= is_new && !fresh;
        if watch.readable {
            self.receive(place);
        }
    }

    #[inline]
    fn received(&mut self, token: Token, buffer: u16, len: u16, more: bool, nonempty: bool) {
        self.done.push(Completion { token, result: len.into(), more, nonempty, buffer: Some(buffer) });
    }

    fn recv_ended(&mut self, token: Token, end: Received) {
        let result = match end {
            Received::NoBuffer => -errno::ENOBUFS,
            Received::Failed(error) => -error,
            Received::Fin | Received::Nothing | Received::Bytes { .. } => 0,
        };
        self.answer(token, result, false);
    }

    /// A receive is in flight, and there may be something for it.
    #[inline]
    pub(super) fn receive(&mut self, place: Place) {
        loop {
            let watch = self.watches.get(place);
            let Some(token) = watch.reads() else { return };
            // The credit can be overdrawn by less than one buffer. So a message of one buffer shows, also as the last
            // one of a credit, that there is no more.
            let in_second = (watch.credit as usize - 1).min(BUFFER_LEN);
            let ReceivedTwo { first, second, room } = match watch.is_wide && in_second > 0 {
                true => self.calls.recv_two(watch.fd, in_second),
                false => ReceivedTwo { first: self.calls.recv(watch.fd), second: None, room: BUFFER_LEN },
            };
            match first {
                Received::Bytes { buffer, len } => {
                    let came = usize::from(len) + second.map_or(0, |(_, len)| usize::from(len));
                    let is_all = came < room && !watch.ends;
                    watch.readable = !is_all;
                    watch.is_wide = came >= BUFFER_LEN;
                    watch.credit = watch.credit.saturating_sub(came as u32);
                    let goes_on = watch.credit > 0;
                    if !goes_on {
                        watch.reading = Reading::Nothing;
                    }
                    self.received(token, buffer, len, goes_on || second.is_some(), !is_all || second.is_some());
                    if let Some((buffer, len)) = second {
                        self.received(token, buffer, len, goes_on, !is_all);
                    }
                    if is_all || !goes_on {
                        return;
                    }
                }
                Received::Nothing => {
                    (watch.readable, watch.ends) = (false, false);
                    return;
                }
                end => {
                    watch.reading = Reading::Nothing;
                    return self.recv_ended(token, end);
                }
            }
        }
    }
}
