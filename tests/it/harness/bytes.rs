//! Keyed streams: each direction of each connection has bytes of its own, known at every place. A byte that is lost,
//! doubled, out of order or from another stream does not fit.

use std::sync::OnceLock;

/// A prime, so that no usual size divides it.
const PERIOD: u64 = 1_048_583;
/// The most bytes of a stream that are looked at together.
pub const CHUNK: usize = 256 * 1024;

/// Whose stream it is.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub struct Key(u64);

impl Key {
    /// The stream that connection number `connection` sends to its backend.
    pub fn to_backend(connection: u64) -> Key {
        Key(mix(2 * connection + 1))
    }

    /// The stream that connection number `connection` sends to its client.
    pub fn to_client(connection: u64) -> Key {
        Key(mix(2 * connection + 2))
    }

    /// Bytes `at .. at + len` of the stream.
    pub fn bytes(self, at: u64, len: usize) -> &'static [u8] {
        assert!(len <= CHUNK);
        let start = ((self.0 + at) % PERIOD) as usize;
        &block()[start..start + len]
    }
}

fn block() -> &'static [u8] {
    static BLOCK: OnceLock<Vec<u8>> = OnceLock::new();
    BLOCK.get_or_init(|| {
        let words = (0..PERIOD / 8 + 1).flat_map(|word| mix(word).to_le_bytes());
        let mut bytes: Vec<u8> = words.take(PERIOD as usize).collect();
        bytes.extend_from_within(..CHUNK);
        bytes
    })
}

/// splitmix64.
pub fn mix(number: u64) -> u64 {
    let mut z = number.wrapping_add(1).wrapping_mul(0x9e37_79b9_7f4a_7c15);
    z = (z ^ (z >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
    z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
    z ^ (z >> 31)
}

#[test]
fn a_byte_at_the_wrong_place_does_not_fit() {
    let key = Key::to_backend(7);
    assert_eq!(key.bytes(1000, 64), &key.bytes(0, 2000)[1000..1064]);
    assert_eq!(key.bytes(PERIOD - 10, 64)[10..], key.bytes(PERIOD, 54)[..], "the period is seamless");
    for other in [key.bytes(1001, 64), key.bytes(999, 64), Key::to_client(7).bytes(1000, 64)] {
        assert_ne!(key.bytes(1000, 64), other);
    }
}
