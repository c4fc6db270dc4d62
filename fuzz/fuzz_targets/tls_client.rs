//! A server that says anything in a handshake that ringway has begun: it fails with a cause, or waits for more.
#![no_main]

use ringway::tls::handshake::HandshakeStep;
use ringway_fuzz::tls::{Other, client, other_server};

libfuzzer_sys::fuzz_target!(|bytes: &[u8]| {
    let [how, high, low, removed, garbage @ ..] = bytes else { return };
    let (mut handshake, mut other) = (Box::new(client()), Other::Server(other_server(how & 1 == 1)));
    let (mut said, step) = (Vec::new(), if how & 8 == 8 { 1 + usize::from(how >> 4) } else { usize::MAX });
    let mut bytes = Vec::new();
    for flight in 0..4 {
        let all = bytes.len().max(1);
        let parts: Vec<&[u8]> = if bytes.is_empty() { vec![&[]] } else { bytes.chunks(step.min(all)).collect() };
        for part in parts {
            match handshake.on(part, &mut said) {
                HandshakeStep::Goes(goes) => handshake = goes,
                HandshakeStep::Done(codec, agreed) => {
                    assert!(flight > 0 && !agreed.cipher.is_empty() && codec.end().is_none());
                    return;
                }
                HandshakeStep::Failed(failure) => {
                    assert!(flight > 0 && !failure.cause.is_empty() && failure.cause.len() <= 300);
                    return;
                }
            }
        }
        bytes = other.tell(&mut said);
        let is_spoilt = flight == usize::from(how >> 1 & 3) % 3;
        match is_spoilt {
            true if flight == 2 => bytes = garbage.to_vec(),
            true => {
                let at = usize::from(u16::from_be_bytes([*high, *low])).min(bytes.len());
                bytes.splice(at..(at + usize::from(*removed)).min(bytes.len()), garbage.iter().copied());
            }
            false => {}
        }
    }
});
