//! ringway and the C library side by side, on the same files and the same servers: what `getent ahosts` finds, ringway
//! finds. Each set-up is made of a seed; a difference prints it with the files.

#![allow(clippy::disallowed_types, clippy::disallowed_methods, reason = "servers of a test share what they say")]

use super::tests::run;
use super::*;
use hickory_proto::op::{Message, MessageType, OpCode, ResponseCode};
use hickory_proto::rr::rdata::{A, AAAA, CNAME};
use hickory_proto::rr::{Name, RData, Record, RecordType};
use std::collections::{BTreeMap, BTreeSet};
use std::fmt::Write as _;
use std::io::{Read as _, Write as _};
use std::net::{IpAddr, TcpListener, UdpSocket};
use std::path::Path;
use std::process::Command;
use std::sync::Mutex;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};

const SET_UPS: u64 = 200;
const THREADS: u64 = 6;
const FILES: [&str; 3] = ["/etc/resolv.conf", "/etc/hosts", "/etc/nsswitch.conf"];
const DOMAINS: [&str; 3] = ["s1.test", "s2.test", "deep.s3.test"];
const NAMES: [&str; 6] = ["db", "a.b", "db.", "x.y.z", "a.b.", "db.s1.test"];
/// The servers of the tests. Nothing listens at the last address.
const SERVERS: [&str; 4] = ["127.0.0.1", "127.0.0.2", "127.0.0.3", "127.0.0.9"];

/// What a server says of a name and a kind.
#[derive(Clone, Debug)]
enum Says {
    Found(Vec<IpAddr>),
    /// The same behind an alias.
    Alias(Vec<IpAddr>),
    /// The same, only over TCP.
    Long(Vec<IpAddr>),
    NoData,
    Code(ResponseCode),
    Lame,
    Nothing,
}

/// By the number of the server, the name in lower case, and whether it is asked for IPv6.
type Zone = BTreeMap<(usize, String, bool), Says>;

struct SetUp {
    files: [String; 3],
    zone: Zone,
    names: [&'static str; 2],
}

fn one_of<'a, T: ?Sized>(dice: &mut fastrand::Rng, all: &[&'a T]) -> &'a T {
    all[dice.usize(..all.len())]
}

fn addresses(dice: &mut fastrand::Rng, is_ipv6: bool) -> Vec<IpAddr> {
    let one = |dice: &mut fastrand::Rng| match is_ipv6 {
        true => IpAddr::from([0xfd00, 0, 0, 0, 0, 0, 0, dice.u16(1..200)]),
        false => IpAddr::from([10, 1, dice.u8(..), dice.u8(1..200)]),
    };
    (0..dice.usize(1..4)).map(|_| one(dice)).collect()
}

fn says(dice: &mut fastrand::Rng, is_ipv6: bool) -> Says {
    match dice.u8(..100) {
        0..=29 => Says::Found(addresses(dice, is_ipv6)),
        30..=35 => Says::Alias(addresses(dice, is_ipv6)),
        36..=39 => Says::Long(addresses(dice, is_ipv6)),
        40..=54 => Says::NoData,
        55..=82 => Says::Code(ResponseCode::NXDomain),
        // A silence takes both of them seconds.
        99 if dice.bool() => Says::Nothing,
        83..=89 => Says::Code(ResponseCode::ServFail),
        90..=95 => Says::Code(ResponseCode::Refused),
        96..=97 => Says::Code(ResponseCode::NotImp),
        _ => Says::Lame,
    }
}

fn set_up(seed: u64) -> SetUp {
    let mut dice = fastrand::Rng::with_seed(seed);
    let (mut conf, mut hosts) = (String::new(), String::from("127.0.0.1 localhost\n"));
    let mut servers = SERVERS;
    dice.shuffle(&mut servers);
    let rotates = dice.u8(..10) == 0;
    for server in &servers[..dice.usize(1..4)] {
        let _ = writeln!(conf, "nameserver {server}");
    }
    match dice.u8(..8) {
        0 => {}
        1 => _ = writeln!(conf, "domain {} ignored", one_of(&mut dice, &DOMAINS)),
        2 => conf += "search s1.test .\n",
        3 => conf += "domain s2.test\nsearch s1.test deep.s3.test\n",
        _ => _ = writeln!(conf, "search {}", DOMAINS[..dice.usize(1..4)].join("\t")),
    }
    let options = ["ndots:0", "ndots:2", "ndots:3", "no-tld-query", "single-request", "ndots:5", "edns0", ""];
    let _ = writeln!(conf, "options timeout:1 attempts:{} {}", dice.u8(1..3), one_of(&mut dice, &options));
    conf += if rotates { "options rotate\n# end" } else { "; end\n" };
    for name in ["db", "x.y.z", "db.s2.test", "a.b"] {
        if dice.u8(..8) == 0 {
            let is_ipv6 = dice.bool();
            for ip in addresses(&mut dice, is_ipv6) {
                let _ = writeln!(hosts, "{ip}\tother {} # {name}2", name.to_uppercase());
            }
        }
    }
    let order = ["", "hosts: files dns\n", "hosts:\tdns files\n", "hosts: files [NOTFOUND=return] dns\n"];
    let mut zone = Zone::new();
    for name in NAMES.iter().map(|name| name.trim_end_matches('.')) {
        let candidates = DOMAINS.map(|domain| format!("{name}.{domain}."));
        for name in candidates.into_iter().chain([format!("{name}.")]) {
            // One name has one state more often than two; with `rotate` all servers say the same.
            let mut same: Option<[Says; 2]> = None;
            for server in 0..3 {
                let fresh = [false, true].map(|is_ipv6| says(&mut dice, is_ipv6));
                let fresh = match (&fresh[0], &fresh[1], dice.bool()) {
                    (Says::Code(code), _, true) => [Says::Code(*code), Says::Code(*code)],
                    // Over TCP glibc would wait for ever.
                    (Says::Long(_), Says::Nothing, _) | (Says::Nothing, Says::Long(_), _) => {
                        [Says::NoData, Says::NoData]
                    }
                    _ => fresh,
                };
                let said = same.take().filter(|_| rotates).unwrap_or(fresh);
                for (says, is_ipv6) in said.iter().zip([false, true]) {
                    zone.insert((server, name.clone(), is_ipv6), says.clone());
                }
                same = Some(said);
            }
        }
    }
    let names = [one_of(&mut dice, &NAMES), one_of(&mut dice, &NAMES)];
    SetUp { files: [conf, hosts, one_of(&mut dice, &order).to_owned()], zone, names }
}

/// The answer of a server; `None` is silence.
fn answer(question: &[u8], server: usize, zone: &Zone, over_tcp: bool) -> Option<Vec<u8>> {
    let question = Message::from_vec(question).ok()?;
    let query = question.queries.first()?.clone();
    let is_ipv6 = query.query_type() == RecordType::AAAA;
    let name = query.name().to_lowercase().to_string();
    let says = zone.get(&(server, name, is_ipv6)).cloned().unwrap_or(Says::Code(ResponseCode::NXDomain));
    let mut message = Message::new(question.metadata.id, MessageType::Response, OpCode::Query);
    message.metadata.recursion_available = true;
    message.queries.push(query.clone());
    let record = |name: &Name, ip: &IpAddr| match ip {
        IpAddr::V4(ip) => Record::from_rdata(name.clone(), 60, RData::A(A(*ip))),
        IpAddr::V6(ip) => Record::from_rdata(name.clone(), 60, RData::AAAA(AAAA(*ip))),
    };
    match &says {
        Says::Long(_) if !over_tcp => message.metadata.truncation = true,
        Says::Found(ips) | Says::Long(ips) => {
            message.answers.extend(ips.iter().map(|ip| record(query.name(), ip)));
        }
        Says::Alias(ips) => {
            let real = Name::from_ascii("real.elsewhere.test.").unwrap();
            message.answers.push(Record::from_rdata(query.name().clone(), 60, RData::CNAME(CNAME(real.clone()))));
            message.answers.extend(ips.iter().map(|ip| record(&real, ip)));
        }
        Says::NoData => {}
        Says::Code(code) => message.metadata.response_code = *code,
        Says::Lame => message.metadata.recursion_available = false,
        Says::Nothing => return None,
    }
    message.to_vec().ok()
}

fn serve_udp(server: usize, zone: &Mutex<Zone>, is_over: &AtomicBool) {
    let socket = UdpSocket::bind((SERVERS[server], 53)).unwrap();
    socket.set_read_timeout(Some(Duration::from_millis(20))).unwrap();
    let mut buffer = [0; 2048];
    while !is_over.load(Ordering::Relaxed) {
        let Ok((length, from)) = socket.recv_from(&mut buffer) else { continue };
        if let Some(answer) = answer(&buffer[..length], server, &zone.lock().unwrap(), false) {
            let _ = socket.send_to(&answer, from);
        }
    }
}

fn serve_tcp(server: usize, zone: &Mutex<Zone>, is_over: &AtomicBool) {
    let listener = TcpListener::bind((SERVERS[server], 53)).unwrap();
    listener.set_nonblocking(true).unwrap();
    while !is_over.load(Ordering::Relaxed) {
        let Ok((mut stream, _)) = listener.accept() else {
            std::thread::sleep(Duration::from_millis(2));
            continue;
        };
        stream.set_nonblocking(false).unwrap();
        stream.set_read_timeout(Some(Duration::from_millis(100))).unwrap();
        // glibc asks for both kinds on one connection.
        let mut length = [0; 2];
        while stream.read_exact(&mut length).is_ok() {
            let mut question = vec![0; u16::from_be_bytes(length).into()];
            let _ = stream.read_exact(&mut question);
            if let Some(answer) = answer(&question, server, &zone.lock().unwrap(), true) {
                let _ = stream.write_all(&[&(answer.len() as u16).to_be_bytes()[..], &answer].concat());
            }
        }
    }
}

fn must(command: &str) {
    let mut words = command.split(' ');
    let ended = Command::new(words.next().unwrap()).args(words).output().unwrap();
    assert!(ended.status.success(), "{command}: {}", String::from_utf8_lossy(&ended.stderr));
}

/// What the C library finds.
fn theirs(name: &str) -> BTreeSet<IpAddr> {
    let output = Command::new("getent").args(["ahosts", name]).output().unwrap();
    let text = String::from_utf8_lossy(&output.stdout).into_owned();
    text.lines().filter_map(|line| line.split_whitespace().next()?.parse().ok()).collect()
}

/// What ringway finds, and the names that it could not look up.
fn ours(name: &str) -> (BTreeSet<IpAddr>, Resolution) {
    let answer = run(Resolver::with(None, &Dns::default()).lookup(name));
    let mut found = BTreeSet::new();
    for family in [&answer.v4, &answer.v6] {
        if let FamilyAnswer::Found { addresses, .. } = family {
            found.extend(addresses.iter().copied());
        }
    }
    (found, answer)
}

/// Compares on the set-ups of one thread, in a network and with files of its own; false if it may not have those.
fn compare(first: u64, further: &AtomicUsize) -> bool {
    if let Err(error) = crate::sys::system::leave_network_and_mounts() {
        eprintln!("skipped: no network of its own: {error}");
        return false;
    }
    must("mount --make-rprivate /");
    must("ip link set lo up");
    // So that AI_ADDRCONFIG leaves out neither family.
    must("ip address add 10.99.0.1/24 dev lo");
    must("ip address add fd99::1/64 dev lo nodad");
    let folder = tempfile::tempdir().unwrap();
    let files = [0, 1, 2].map(|number| folder.path().join(number.to_string()));
    for (file, target) in files.iter().zip(FILES) {
        std::fs::write(file, "").unwrap();
        if Path::new(target).exists() {
            must(&format!("mount --bind {} {target}", file.display()));
        }
    }
    let (zone, is_over) = (Mutex::new(Zone::new()), AtomicBool::new(false));
    let result = std::thread::scope(|scope| {
        for server in 0..3 {
            scope.spawn({
                let (zone, is_over) = (&zone, &is_over);
                move || serve_udp(server, zone, is_over)
            });
            scope.spawn({
                let (zone, is_over) = (&zone, &is_over);
                move || serve_tcp(server, zone, is_over)
            });
        }
        let result = std::panic::catch_unwind(|| {
            for seed in (first..SET_UPS).step_by(THREADS as usize) {
                let set_up = set_up(seed);
                for (file, text) in files.iter().zip(&set_up.files) {
                    std::fs::write(file, text).unwrap();
                }
                *zone.lock().unwrap() = set_up.zone.clone();
                set_up.names.into_iter().for_each(|name| same(seed, &set_up, name, further));
            }
        });
        is_over.store(true, Ordering::Relaxed);
        result
    });
    result.map_err(std::panic::resume_unwind).is_ok()
}

fn same(seed: u64, set_up: &SetUp, name: &str, further: &AtomicUsize) {
    // On a busy machine an answer may come late, to one of both.
    for _ in 0..3 {
        let (found, answer) = ours(name);
        let expected = theirs(name);
        if found == expected {
            return;
        }
        // The differences there are, which docs/names.md names: where a candidate is refused or not answered, glibc
        // ends the search and asks for the name as it is, and ringway goes on with the list.
        let as_it_is = || expected == ours(&format!("{}.", name.trim_end_matches('.'))).0;
        let goes_further = !answer.failed.is_empty() && (expected.is_empty() || as_it_is());
        // And another one: where A is not answered, glibc does not take what AAAA has brought.
        let has_half = answer.v4 == FamilyAnswer::Failed("no answer in time".to_owned()) && !found.is_empty();
        if goes_further || has_half {
            further.fetch_add(1, Ordering::Relaxed);
            return;
        }
    }
    let (theirs, (ours, answer)) = (theirs(name), ours(name));
    let asked: Vec<String> = set_up
        .zone
        .iter()
        .filter(|((_, known, _), _)| known.starts_with(name.trim_end_matches('.')))
        .map(|((server, known, is_ipv6), says)| {
            format!("{} {known} {}: {says:?}", SERVERS[*server], if *is_ipv6 { "AAAA" } else { "A" })
        })
        .collect();
    panic!(
        "seed {seed}, {name}: ringway {ours:?}, getent {theirs:?}\n{answer:?}\n{}\n{}",
        set_up.files.join("\n--\n"),
        asked.join("\n")
    );
}

#[test]
fn ringway_finds_what_the_c_library_finds() {
    if !Path::new("/etc/nsswitch.conf").exists() || Command::new("getent").arg("--version").output().is_err() {
        eprintln!("skipped: no C library that could be asked");
        return;
    }
    let further = AtomicUsize::new(0);
    std::thread::scope(|scope| {
        let further = &further;
        let threads: Vec<_> = (0..THREADS).map(|first| scope.spawn(move || compare(first, further))).collect();
        for thread in threads {
            if let Err(cause) = thread.join() {
                std::panic::resume_unwind(cause);
            }
        }
    });
    let further = further.into_inner();
    assert!(further < 2 * SET_UPS as usize / 10, "{further} lookups went further than the C library's");
}
