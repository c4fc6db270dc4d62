//! Records by a peer that has the keys and keeps to no rule, cut anywhere: no byte is opened that it did not seal, in
//! that order, and none is missing while the stream goes on. Beside them, what is sealed can be taken in any steps.
#![no_main]

use ringway::base::lease::BUFFER_LEN;
use ringway::tls::Codec;
use ringway::tls::codec::BacklogPool;
use ringway::tls::record::{ContentType, PLAIN_MAX};
use ringway_fuzz::tls::Rebel;

/// A record of this, at the end of a stream.
fn seal(rebel: &mut Rebel, kind: ContentType, content: &[u8], stream: &mut Vec<u8>) {
    let mut content = content[..content.len().min(PLAIN_MAX)].to_vec();
    let wrapping = rebel.key.seal(kind, &mut content).expect("it has not sent so many");
    stream.extend([wrapping.head(), &content, wrapping.tail()].concat());
}

/// What the bytes tell a peer to send, and what of that is for the application.
fn stream(rebel: &mut Rebel, mut bytes: &[u8]) -> (Vec<u8>, Vec<u8>) {
    let (mut stream, mut sealed) = (Vec::new(), Vec::new());
    while let [deed, len, rest @ ..] = bytes {
        let (content, rest) = rest.split_at(usize::from(*len).min(rest.len()));
        bytes = rest;
        match deed % 8 {
            0 => {
                seal(rebel, ContentType::Data, content, &mut stream);
                sealed.extend_from_slice(content);
            }
            1 => seal(rebel, ContentType::Handshake, content, &mut stream),
            2 => seal(rebel, ContentType::Alert, content, &mut stream),
            3 => stream.extend_from_slice(content),
            4 => {
                seal(rebel, ContentType::Handshake, &[24, 0, 0, 1, deed >> 7], &mut stream);
                rebel.renew();
            }
            5 => {
                let all = content.repeat(1 + PLAIN_MAX / content.len().max(1));
                seal(rebel, ContentType::Data, &all, &mut stream);
                sealed.extend_from_slice(&all[..all.len().min(PLAIN_MAX)]);
            }
            6 => seal(rebel, ContentType::ChangeCipherSpec, content, &mut stream),
            _ => {
                seal(rebel, ContentType::Data, content, &mut stream);
                if let Some(byte) = stream.last_mut() {
                    *byte ^= 1;
                }
            }
        }
    }
    (stream, sealed)
}

/// Opens a stream as a worker does it. `cut` says in which parts it comes.
fn open(codec: &mut Codec, stream: &[u8], cut: u16) -> Vec<u8> {
    let mut buffer: Box<[u8; BUFFER_LEN]> = vec![0; BUFFER_LEN].into_boxed_slice().try_into().expect("its length");
    let (mut opened, mut spare, mut rest) = (Vec::new(), BacklogPool::default(), stream);
    let mut count = 0_usize;
    while !rest.is_empty() {
        count += 1;
        let len = (usize::from(cut) * count % (BUFFER_LEN + 1)).clamp(1, rest.len());
        let (part, behind) = rest.split_at(len);
        buffer[..len].copy_from_slice(part);
        let plain = codec.open(&mut buffer, len, &mut spare);
        opened.extend_from_slice(&buffer[plain]);
        rest = behind;
        // Not always is there a buffer for what it has more.
        while codec.has_more() && (!count.is_multiple_of(3) || rest.is_empty()) {
            let plain = codec.open_backlog(&mut buffer, &mut spare);
            opened.extend_from_slice(&buffer[plain]);
        }
    }
    opened
}

libfuzzer_sys::fuzz_target!(|bytes: &[u8]| {
    let [how, high, low, deeds @ ..] = bytes else { return };
    let (mut rebel, mut codec) = Rebel::new(how & 1 == 1, how & 2 == 2);
    let (stream, sealed) = stream(&mut rebel, deeds);
    let opened = open(&mut codec, &stream, u16::from_be_bytes([*high, *low]));
    assert!(sealed.starts_with(&opened));
    if codec.end().is_none() && !codec.is_amid_record() {
        assert!(opened.len() == sealed.len(), "{} of {} bytes", opened.len(), sealed.len());
    }
    let mut plain = deeds[..deeds.len().min(PLAIN_MAX)].to_vec();
    if how & 4 == 4 {
        codec.part();
    }
    if !codec.is_sending() && codec.seal(&mut plain).is_err() {
        return;
    }
    let step = usize::from(*low) + 1;
    for _ in 0..=PLAIN_MAX {
        let parts = codec.parts();
        let len = parts.before[0].len() + parts.before[1].len() + parts.body.len() + parts.after.len();
        assert!(len > 0);
        if codec.sent(len.min(step)).is_some() {
            assert!(len <= step && !codec.is_sending());
            return;
        }
    }
    panic!("it does not come to an end");
});
