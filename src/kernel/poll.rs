//! Masks of `poll(2)`, and what they say.

/// There is something to read.
pub const IN: i32 = libc::POLLIN as i32;
/// There is urgent data.
pub const PRI: i32 = libc::POLLPRI as i32;
/// There is room.
pub const OUT: i32 = libc::POLLOUT as i32;
/// The connection has failed.
pub const ERR: i32 = libc::POLLERR as i32;
/// Both sides have sent their FIN, or the connection is no more.
pub const HUP: i32 = libc::POLLHUP as i32;
/// No open descriptor.
pub const NVAL: i32 = libc::POLLNVAL as i32;
/// The peer has sent its FIN.
pub const RDHUP: i32 = libc::POLLRDHUP as i32;

/// Whether nothing follows what is there.
pub fn says_ended(result: i32) -> bool {
    result < 0 || result & (RDHUP | HUP | ERR) != 0
}

/// Whether a send will do something, if only fail. A peer's FIN alone says nothing about room.
pub fn says_writable(result: i32) -> bool {
    result < 0 || result & (OUT | HUP | ERR | NVAL) != 0
}

/// Whether the connection is no more: it failed, or both sides have sent their FIN.
pub fn says_hung_up(result: i32) -> bool {
    result > 0 && result & (HUP | ERR | NVAL) != 0
}
