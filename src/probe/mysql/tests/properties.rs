//! What holds whatever a server sends, and in whatever pieces.

use std::rc::Rc;

use proptest::prelude::*;
use tokio::io::AsyncWriteExt;
use tokio::net::UnixStream;

use super::{error, greeting, ok, packet, result};
use crate::base::address::Address;
use crate::health::ask::Opening;
use crate::probe::budget::{BYTES_MAX, Budget};
use crate::probe::mysql;
use crate::probe::password::Credentials;
use crate::probe::stream::{Stream, Way};
use crate::probe::testing::run;
use crate::probe::{Transcript, Wanted};

/// Longest packet that is taken in at one time.
const PACKET_MAX: usize = 64 * 1024;
/// What the goodbye takes in at one time.
const FAREWELL: usize = 1024;

/// What came of a check.
#[derive(Debug, PartialEq)]
struct Told {
    verdict: String,
    lines: Vec<String>,
    /// Bytes that it took in.
    taken: usize,
}

/// A check against a server that sends these pieces, whatever it is asked, and then ends.
fn told<'a>(pieces: impl IntoIterator<Item = &'a [u8]>, has_account: bool) -> Told {
    run(async {
        let (ours, mut theirs) = UnixStream::pair().unwrap();
        let (budget, mut transcript) = (Budget::begin(), Transcript::begin());
        let stream = Stream::Unix(ours, Rc::clone(&budget));
        let check = async {
            let (target, opening) = (Address::Unix("".into()), Opening::default());
            let way = Way { target: &target, opening: &opening, is_bare: false, budget: &budget, terms: None };
            if !has_account {
                return mysql::ask(stream, &way, &mut transcript).await;
            }
            let account = Credentials { user: "check".to_string(), password: Some("secret".to_string()) };
            mysql::check(stream, &way, &account, (Wanted { role: true, lag: true }, None), &mut transcript).await
        };
        let server = async {
            for piece in pieces {
                // A check that knows enough has gone.
                if theirs.write_all(piece).await.is_err() {
                    break;
                }
                // What was sent is read before more is: once for the kernel to tell of it, once to read it.
                tokio::task::yield_now().await;
                tokio::task::yield_now().await;
            }
            let _ = theirs.shutdown().await;
        };
        let (verdict, ()) = tokio::join!(check, server);
        let lines = transcript.lines().iter().map(|line| line.text.clone()).collect();
        Told { verdict: format!("{verdict:?}"), lines, taken: budget.taken() }
    })
}

/// Bytes that mean something at the beginning of a packet, and some that do not.
fn head() -> impl Strategy<Value = u8> {
    prop_oneof![4 => prop::sample::select(vec![0x00, 0x01, 0x02, 0x0a, 0xfb, 0xfc, 0xfe, 0xff]), 1 => any::<u8>()]
}

fn plugin() -> impl Strategy<Value = Vec<u8>> {
    let known =
        ["mysql_native_password", "caching_sha2_password", "sha256_password", "client_ed25519", "mysql_old_password"];
    let known = prop::sample::select(known.to_vec()).prop_map(|name| name.as_bytes().to_vec());
    prop_oneof![4 => known, 1 => prop::collection::vec(any::<u8>(), 0..8)]
}

fn texts() -> impl Strategy<Value = Vec<u8>> {
    let known = ["read_only", "OFF", "ON", "Seconds_Behind_Source", "7", "9999999999999999999999"];
    let text = prop_oneof![3 => prop::sample::select(known.to_vec()).prop_map(Some), 1 => Just(None)];
    (1..4usize, prop::collection::vec(text, 0..12)).prop_map(|(columns, texts)| {
        let rows: Vec<_> = texts.chunks_exact(columns).collect();
        result(&["Variable_name", "Seconds_Behind_Source", "Value"][..columns], &rows)
    })
}

/// A part of what a server may say.
fn part() -> impl Strategy<Value = Vec<u8>> {
    let bytes = || prop::collection::vec(any::<u8>(), 0..40);
    let payload = (head(), bytes()).prop_map(|(head, rest)| [&[head], &rest[..]].concat());
    prop_oneof![
        3 => (any::<u8>(), payload).prop_map(|(number, payload)| packet(number, &payload)),
        3 => any::<u8>().prop_map(ok),
        2 => (any::<u8>(), any::<u16>()).prop_map(|(number, code)| error(number, code, "no")),
        1 => prop::sample::select(vec![1045u16, 1064, 1227, 3159]).prop_map(|code| error(1, code, "no")),
        2 => (plugin(), bytes()).prop_map(|(plugin, nonce)| packet(2, &[&[0xfe], &plugin[..], &[0], &nonce].concat())),
        4 => texts(),
        1 => bytes(),
        1 => (any::<[u8; 3]>(), bytes()).prop_map(|(length, rest)| [&length[..], &rest].concat()),
    ]
}

/// What a server says: mostly a conversation that goes on for a while, with a byte changed or an end too early.
fn speech() -> impl Strategy<Value = Vec<u8>> {
    let begin = (0..u32::MAX, plugin()).prop_map(|(more, plugin)| greeting(more, &plugin));
    let begin = prop_oneof![6 => begin, 1 => part()];
    let lets_in = prop_oneof![3 => Just(ok(2)), 1 => Just(Vec::new())];
    let change = prop::option::weighted(0.3, (any::<prop::sample::Index>(), any::<u8>()));
    let end = prop::option::weighted(0.2, any::<prop::sample::Index>());
    (begin, lets_in, prop::collection::vec(part(), 0..6), change, end).prop_map(
        |(begin, lets_in, parts, change, end)| {
            let mut all = [begin, lets_in, parts.concat()].concat();
            if let Some((at, byte)) = change.filter(|_| !all.is_empty()) {
                let at = at.index(all.len());
                all[at] = byte;
            }
            all.truncate(end.map_or(all.len(), |end| end.index(all.len() + 1)));
            all
        },
    )
}

fn pieces(bytes: &[u8], cuts: impl IntoIterator<Item = usize>) -> Vec<&[u8]> {
    let mut cuts: Vec<usize> = cuts.into_iter().chain([0, bytes.len()]).collect();
    cuts.sort_unstable();
    cuts.windows(2).map(|ends| &bytes[ends[0]..ends[1]]).filter(|piece| !piece.is_empty()).collect()
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(300))]

    /// It comes to an end, without a panic.
    #[test]
    fn the_verdict_does_not_depend_on_where_the_network_cuts(
        bytes in speech(),
        has_account: bool,
        cuts in prop::collection::vec(any::<prop::sample::Index>(), 0..6),
    ) {
        let whole = told([&bytes[..]], has_account);
        prop_assert!(whole.taken <= bytes.len());
        let cut = told(pieces(&bytes, cuts.iter().map(|cut| cut.index(bytes.len() + 1))), has_account);
        prop_assert_eq!(&cut, &whole);
        if bytes.len() < 200 {
            prop_assert_eq!(&told(bytes.chunks(1), has_account), &whole, "byte by byte");
        }
    }

    /// Of a server that never comes to an end no more is taken in than a check may take.
    #[test]
    fn what_is_taken_in_has_a_limit(
        begin in speech(),
        again in prop_oneof![part(), (head(), 0..PACKET_MAX).prop_map(|(head, length)| packet(1, &vec![head; length]))],
        has_account: bool,
    ) {
        let all = 2 * BYTES_MAX / again.len().max(1);
        let more = std::iter::repeat_n(&again[..], all.min(10_000));
        let told = told(std::iter::once(&begin[..]).chain(more), has_account);
        prop_assert!(told.taken <= BYTES_MAX + PACKET_MAX + FAREWELL, "{} bytes", told.taken);
    }
}

/// Its parser counts down from a length that it takes for a signed number.
#[test]
fn a_greeting_with_a_nonce_of_any_length_is_no_panic() {
    for length in 0..=u8::MAX {
        let mut bytes = greeting(0, b"mysql_native_password");
        let at = bytes.iter().position(|&byte| byte == 21).unwrap();
        bytes[at] = length;
        let told = told([&bytes[..]], true);
        assert!(length <= 0x7f || told.verdict.contains("does not speak"), "{length}: {told:?}");
    }
}

/// Else the properties would hold of greetings only.
#[test]
fn a_speech_can_come_to_its_good_end() {
    let read_only = result(&["Variable_name", "Value"], &[&[Some("read_only"), Some("ON")]]);
    let status = result(&["Seconds_Behind_Source"], &[&[Some("7")]]);
    let bytes = [greeting(0, b"mysql_native_password"), ok(2), read_only, status].concat();
    let whole = told([&bytes[..]], true);
    assert!(whole.verdict.starts_with("Ok(") && whole.verdict.contains("7000000000"), "{whole:?}");
    assert_eq!(told(bytes.chunks(1), true), whole);
    let refused = [greeting(0, b"mysql_native_password"), error(2, 1045, "no")].concat();
    assert!(told([&refused[..]], false).verdict.starts_with("Ok("));
}
