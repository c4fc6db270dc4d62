//! What a session asks of its worker.

use crate::base::side::Side;
use crate::base::time::Moment;
use crate::relay;

/// One thing to do.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub enum Effect {
    /// Something with the bytes.
    Relay(relay::Effect),
    /// Look at what the client has sent, without taking it; answered by `Looked`.
    Look {
        /// It will send no more.
        ended: bool,
    },
    /// Wait until the client has sent more than was looked at; answered by `ClientSpoke`.
    AwaitClient,
    /// Choose a backend that was not tried yet; answered by `Picked`. If it waits, its place in the queue stays its own
    /// until there is a backend.
    Pick,
    /// Leave the queue, without a backend.
    StopWaiting,
    /// Connect to the chosen backend; answered by `Connected`, `ConnectLater` or `ClientGone`.
    Connect,
    /// Cancel the wait for the client; answered by `ClientSpoke` all the same.
    CancelAwait,
    /// Cancel the connect in flight, which is then over for `Connected`; said after `ConnectLater`, that is the answer:
    /// there was no time left to try again.
    CancelConnect,
    /// Close the connection. Nothing is in flight on it.
    Close {
        /// Which connection.
        side: Side,
        /// With a reset rather than a FIN.
        reset: bool,
    },
    /// Ask how much of what was sent to `side` its kernel has not acknowledged; answered by `Unsent`.
    QueryUnsent {
        /// Which connection.
        side: Side,
    },
    /// The backend was the first to end the connection, and had sent nothing.
    HungUp,
    /// Have the kernel probe both connections while they are idle. Left until the session has lived for a while,
    /// because it costs system calls and timers that a short session never needs.
    KeepAlive,
    /// Say `Timer` at that moment, and forget the moment that was set before.
    Timer(Moment),
    /// Say `Timer` after [`CLOSING_NS`](super::CLOSING_NS), should it not be over by then.
    WatchClose,
    /// What is in flight should have ended long ago: it is counted, and waited for.
    Stuck,
    /// The session is over; it may be forgotten.
    Over,
}

/// Effects in the order they must be carried out.
#[derive(Debug, Default)]
pub struct Effects {
    /// In order; those before `next` were taken.
    list: Vec<Effect>,
    /// Index of the next one to take.
    next: usize,
}

impl Effects {
    /// Appends one.
    #[inline]
    pub fn push(&mut self, effect: Effect) {
        self.list.push(effect);
    }

    /// Takes the oldest out.
    #[inline]
    pub fn pop(&mut self) -> Option<Effect> {
        let effect = self.list.get(self.next).copied();
        if effect.is_some() {
            self.next += 1;
        } else {
            self.list.clear();
            self.next = 0;
        }
        effect
    }
}

impl relay::Sink for Effects {
    #[inline]
    fn push(&mut self, effect: relay::Effect) {
        self.list.push(Effect::Relay(effect));
    }
}
