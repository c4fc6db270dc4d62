//! Bulk beside copy mode: one stream, opened by both in turns.

use proptest::prelude::*;

use super::*;

/// Memory of a vat, and what a receive into it brings at the most.
const MEMORY_LEN: usize = 9 * PLAIN_MAX;
const MOST: usize = 8 * (PLAIN_MAX + 22);

/// Opens what a connection has brought, in bulk. `came` is what a receive finds, of which it takes what it asks for.
fn open_bulk(codec: &mut Codec, came: &[u8], spare: &mut BacklogPool) -> (usize, Vec<u8>) {
    let (mut memory, mut pieces, before) = (vec![0; MEMORY_LEN], Vec::new(), codec.unopened());
    let count = if codec.has_more() { 0 } else { codec.appetite(MOST).min(came.len()) };
    memory[before..before + count].copy_from_slice(&came[..count]);
    let opened = codec.open_bulk(&mut memory, count, &mut pieces, spare);
    let all: Vec<u8> = pieces.iter().flat_map(|piece| memory[piece.clone()].to_vec()).collect();
    assert_eq!(all.len(), opened);
    assert!(pieces.len() <= MEMORY_LEN / 4096, "{} pieces", pieces.len());
    (count, all)
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(60))]

    #[test]
    fn bulk_and_copy_mode_open_the_same_stream_in_turns(
        sizes in prop::collection::vec(prop_oneof![1..200usize, 1..PLAIN_MAX + 1, Just(PLAIN_MAX)], 1..24),
        came in prop::collection::vec((any::<bool>(), prop_oneof![1..40usize, 1..MOST, Just(MOST)]), 1..8),
        suite in prop::sample::select(suites().collect::<Vec<_>>()),
    ) {
        let (mut rebel, mut codec) = Rebel::new(suite);
        let all = pattern(sizes.iter().sum());
        let (mut stream, mut rest) = (Vec::new(), &all[..]);
        for size in sizes {
            let (part, behind) = rest.split_at(size);
            stream.extend(rebel.record(ContentType::Data, part));
            rest = behind;
        }
        stream.extend(rebel.record(ContentType::Alert, &[1, 0]));
        let (mut opened, mut spare, mut buffer) = (Vec::new(), BacklogPool::default(), buffer());
        let mut rest = &stream[..];
        for &(is_bulk, len) in came.iter().cycle() {
            if is_bulk {
                let (count, plain) = open_bulk(&mut codec, &rest[..len.min(rest.len())], &mut spare);
                opened.extend(plain);
                rest = &rest[count..];
            } else if codec.has_more() {
                opened.extend(buffer_of(codec.open_backlog(&mut buffer, &mut spare), &buffer));
            } else {
                let (part, behind) = rest.split_at(len.min(BUFFER_LEN).min(rest.len()));
                buffer[..part.len()].copy_from_slice(part);
                opened.extend(buffer_of(codec.open(&mut buffer, part.len(), &mut spare), &buffer));
                rest = behind;
            }
            if rest.is_empty() && !codec.has_more() {
                break;
            }
        }
        prop_assert!(opened == all, "{} of {} bytes", opened.len(), all.len());
        prop_assert_eq!(codec.end(), Some(StreamEnd::Closed));
        prop_assert_eq!(codec.unopened(), 0, "memory goes back");
    }
}

#[test]
fn receives_for_records_of_one_length_soon_end_with_one_of_them() {
    let (mut rebel, mut codec) = Rebel::new(of_version(true));
    let stream: Vec<u8> = (0..40).flat_map(|_| rebel.record(ContentType::Data, &pattern(PLAIN_MAX))).collect();
    let (mut spare, mut rest) = (BacklogPool::default(), &stream[..]);
    // A receive that finds little ends anywhere.
    let opened = [50_000, MOST, MOST].map(|came| {
        let (count, plain) = open_bulk(&mut codec, &rest[..came], &mut spare);
        rest = &rest[count..];
        (plain.len() / PLAIN_MAX, codec.unopened())
    });
    assert_eq!(opened, [(3, 50_000 - 3 * (PLAIN_MAX + 22)), (8, 0), (8, 0)]);
}

#[test]
fn garbage_in_bulk_breaks_the_stream() {
    let (_, mut codec) = Rebel::new(of_version(true));
    let (_, opened) = open_bulk(&mut codec, &[255; 40_000], &mut BacklogPool::default());
    assert!(opened.is_empty());
    assert!(matches!(codec.end(), Some(StreamEnd::Broken(_))));
}
