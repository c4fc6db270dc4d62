//! A client that says anything in a handshake, from its first word or from its second flight on: it fails with a cause,
//! or waits for more; it is over only if nothing was changed.
#![no_main]

use ringway::tls::handshake::HandshakeStep;
use ringway_fuzz::tls::{Other, other_client, server};

libfuzzer_sys::fuzz_target!(|bytes: &[u8]| {
    let [how, at, removed, garbage @ ..] = bytes else { return };
    let (mut handshake, mut other) = (Box::new(server()), Other::Client(other_client(how & 1 == 1)));
    let (mut said, step) = (Vec::new(), if how & 8 == 8 { 1 + usize::from(how >> 4) } else { usize::MAX });
    for flight in 0..4 {
        let mut bytes = other.tell(&mut said);
        let is_spoilt = flight == usize::from(how >> 1 & 3) % 3;
        match is_spoilt {
            true if flight == 2 => bytes = garbage.to_vec(),
            true => {
                let at = usize::from(*at).min(bytes.len());
                bytes.splice(at..(at + usize::from(*removed)).min(bytes.len()), garbage.iter().copied());
            }
            false => {}
        }
        for part in bytes.chunks(step.min(bytes.len().max(1))) {
            match handshake.on(part, &mut said) {
                HandshakeStep::Goes(goes) => handshake = goes,
                HandshakeStep::Done(codec, agreed) => {
                    // In a hello something can be changed that only matters to the hash of all messages.
                    assert!(flight > 0 && !agreed.cipher.is_empty() && codec.end().is_none());
                    return;
                }
                HandshakeStep::Failed(failure) => {
                    assert!(!failure.cause.is_empty() && failure.cause.len() <= 300);
                    return;
                }
            }
        }
    }
});
