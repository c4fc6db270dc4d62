//! What a completion belongs to: the 64 bits that the kernel hands back.
//!
//! `operation (8) | generation (24) | index (32)`. The generation is that of the slot when the operation was
//! submitted; a completion whose slot has moved on is recognised and dropped, so a descriptor number that was reused
//! can never receive another session's bytes.

use crate::base::side::Side;

/// Which operation of a slot completed.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
#[repr(u8)]
pub enum Operation {
    /// Receive on the client's connection.
    RecvClient,
    /// Receive on the backend's connection.
    RecvBackend,
    /// Send to the client.
    SendClient,
    /// Send to the backend.
    SendBackend,
    /// The client's connection became readable.
    ReadableClient,
    /// The backend's connection became readable.
    ReadableBackend,
    /// The client's connection became writable.
    WritableClient,
    /// The backend's connection became writable.
    WritableBackend,
    /// The client has sent more of what it must say first.
    Preread,
    /// Connect to the backend.
    Connect,
    /// The backend has answered what it was told before the client's bytes.
    Greet,
    /// The client's connection is no more, or the poll for that is over.
    HangupClient,
    /// The backend's connection is no more, or the poll for that is over.
    HangupBackend,
    /// Accept; the index is a listening socket.
    Accept,
    /// The wake-up descriptor was written to.
    Wake,
    /// Another worker handed a connection over; the index is its listener.
    HandOver,
    /// A hand-over that could not be delivered; the index is the descriptor.
    HandOverFailed,
    /// Another worker made room; the index is the pool whose queue is to be looked at.
    Queue,
    /// Completions that no session waits for, which are only posted when something failed.
    Forget,
}

const OPERATIONS: [Operation; 19] = [
    Operation::RecvClient,
    Operation::RecvBackend,
    Operation::SendClient,
    Operation::SendBackend,
    Operation::ReadableClient,
    Operation::ReadableBackend,
    Operation::WritableClient,
    Operation::WritableBackend,
    Operation::Preread,
    Operation::Connect,
    Operation::Greet,
    Operation::HangupClient,
    Operation::HangupBackend,
    Operation::Accept,
    Operation::Wake,
    Operation::HandOver,
    Operation::HandOverFailed,
    Operation::Queue,
    Operation::Forget,
];

impl Operation {
    /// Receive on `side`.
    #[inline]
    pub fn recv(side: Side) -> Operation {
        if side == Side::Client { Operation::RecvClient } else { Operation::RecvBackend }
    }

    /// Send to `side`.
    #[inline]
    pub fn send(side: Side) -> Operation {
        if side == Side::Client { Operation::SendClient } else { Operation::SendBackend }
    }

    /// Poll of `side` for reading.
    #[inline]
    pub fn readable(side: Side) -> Operation {
        if side == Side::Client { Operation::ReadableClient } else { Operation::ReadableBackend }
    }

    /// Poll of `side` for writing.
    #[inline]
    pub fn writable(side: Side) -> Operation {
        if side == Side::Client { Operation::WritableClient } else { Operation::WritableBackend }
    }

    /// Poll of `side` for the end of its connection.
    #[inline]
    pub fn hangup(side: Side) -> Operation {
        if side == Side::Client { Operation::HangupClient } else { Operation::HangupBackend }
    }
}

/// Names an operation in flight: what it is, of which slot, and of which generation of that slot.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub struct Token {
    /// Which operation.
    pub operation: Operation,
    /// Of which tenant of the slot, modulo 2^24.
    pub generation: u32,
    /// Which slot.
    pub index: u32,
}

impl Token {
    /// Generations are counted modulo this.
    pub const GENERATIONS: u32 = 1 << 24;

    /// A token of something that has no generations.
    pub fn plain(operation: Operation, index: u32) -> Token {
        Token { operation, generation: 0, index }
    }

    /// As the kernel carries it.
    #[inline]
    pub fn pack(self) -> u64 {
        debug_assert!(self.generation < Token::GENERATIONS);
        (self.operation as u64) << 56 | u64::from(self.generation) << 32 | u64::from(self.index)
    }

    /// `None` for a number that [`Token::pack`] does not make.
    #[inline]
    pub fn unpack(bits: u64) -> Option<Token> {
        let operation = *OPERATIONS.get((bits >> 56) as usize)?;
        Some(Token { operation, generation: (bits >> 32) as u32 % Token::GENERATIONS, index: bits as u32 })
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    proptest! {
        #[test]
        fn a_token_survives_the_kernel(kind in 0..OPERATIONS.len(), generation in 0..Token::GENERATIONS, index: u32) {
            let token = Token { operation: OPERATIONS[kind], generation, index };
            prop_assert_eq!(OPERATIONS[kind] as usize, kind);
            prop_assert_eq!(Token::unpack(token.pack()), Some(token));
        }

        #[test]
        fn any_number_is_understood_or_refused(bits: u64) {
            if let Some(token) = Token::unpack(bits) {
                prop_assert_eq!(token.pack(), bits);
            }
        }
    }
}
