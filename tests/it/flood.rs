//! Clients that mean no good: SYN floods, refused clients in masses, clients that say what they must byte by byte. R25,
//! S7.

use std::net::{Ipv4Addr, SocketAddrV4};
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering::Relaxed};
use std::time::{Duration, Instant};

use socket2::{Domain, Protocol, Socket, Type};

use crate::harness::network;
use crate::harness::{Backend, End, Listener, Peer, Ringway};

/// An IPv4 packet with a TCP SYN.
fn syn(from: SocketAddrV4, to: SocketAddrV4) -> [u8; 40] {
    let mut packet = [0; 40];
    packet[..12].copy_from_slice(&[0x45, 0, 0, 40, 0, 0, 0x40, 0, 64, 6, 0, 0]);
    packet[12..16].copy_from_slice(&from.ip().octets());
    packet[16..20].copy_from_slice(&to.ip().octets());
    packet[20..22].copy_from_slice(&from.port().to_be_bytes());
    packet[22..24].copy_from_slice(&to.port().to_be_bytes());
    packet[24..28].copy_from_slice(&from.ip().to_bits().to_be_bytes());
    packet[32..36].copy_from_slice(&[0x50, 0x02, 0xff, 0xff]);
    // The checksum covers addresses, protocol and length as well; the kernel makes that of the IP header.
    let words = packet[12..].chunks(2).map(|pair| u32::from(pair[0]) << 8 | u32::from(pair[1]));
    let mut sum: u32 = words.sum::<u32>() + 6 + 20;
    while sum >> 16 != 0 {
        sum = (sum & 0xffff) + (sum >> 16);
    }
    packet[36..38].copy_from_slice(&(!(sum as u16)).to_be_bytes());
    packet
}

/// R25: from addresses that do not exist, twenty thousand a second.
#[test]
fn a_flood_of_syns_keeps_nobody_out_and_takes_nothing() {
    network::within_own(|| {
        network::run("ip route add 10.66.0.0/16 dev lo");
        network::set("net.ipv4.conf.all.rp_filter", "0");
        network::set("net.ipv4.tcp_syncookies", "1");
        let backend = Backend::named("hi");
        let ringway = Ringway::before([backend.address()]).listener("backlog = 16").start();
        let to: SocketAddrV4 = ringway.address().parse().unwrap();
        let raw = Socket::new(Domain::IPV4, Type::RAW, Some(Protocol::from(libc::IPPROTO_RAW))).unwrap();
        ringway.metrics();
        let descriptors = ringway.process().descriptors();
        let (done, sent) = (AtomicBool::new(false), AtomicU64::new(0));
        std::thread::scope(|scope| {
            scope.spawn(|| {
                let begun = Instant::now();
                while !done.load(Relaxed) {
                    let number = sent.fetch_add(1, Relaxed) as u32;
                    let from = Ipv4Addr::from(0x0a42_0000 | (number.wrapping_mul(40_503) & 0xffff));
                    let packet = syn(SocketAddrV4::new(from, 1024 + (number % 60_000) as u16), to);
                    let _ = raw.send_to(&packet, &to.into()); // it may be one too many for the queue
                    let due = Duration::from_micros(50 * u64::from(number));
                    std::thread::sleep(due.saturating_sub(begun.elapsed()));
                }
            });
            let begun = Instant::now();
            let (mut served, mut tried) = (0, 0);
            while begun.elapsed() < Duration::from_secs(2) {
                tried += 1;
                let first = Peer::try_connect(ringway.address()).and_then(|mut client| client.read_some(2));
                served += usize::from(matches!(first, Ok(bytes) if bytes == b"hi"));
                std::thread::sleep(Duration::from_millis(2));
            }
            done.store(true, Relaxed);
            assert!(tried > 50 && served * 100 >= tried * 99, "{served} of {tried} were served");
        });
        let cookies = std::fs::read_to_string("/proc/thread-self/net/netstat").unwrap();
        let mut lines = cookies.lines().filter(|line| line.starts_with("TcpExt:")).map(|line| line.split(' '));
        let (names, values) = (lines.next().unwrap(), lines.next().unwrap());
        let cookies_sent: u64 =
            names.zip(values).find(|(name, _)| *name == "SyncookiesSent").unwrap().1.parse().unwrap();
        assert!(cookies_sent > 1000, "{} packets, {cookies_sent} cookies: there was no flood", sent.into_inner());
        ringway.wait_descriptors(descriptors + 2);
    });
}

/// The 99th percentile of a round trip now and then.
fn p99(ringway: &Ringway, from: &str, time: Duration) -> Duration {
    let mut client = Peer::connect_from(Some(&format!("{from}:0")), ringway.address()).unwrap();
    let (begun, mut times) = (Instant::now(), Vec::new());
    while begun.elapsed() < time {
        let (took, ()) = crate::harness::timed(|| {
            client.send(b"ping");
            client.expect(b"ping");
        });
        times.push(took);
        std::thread::sleep(Duration::from_micros(300));
    }
    times.sort();
    times[times.len() * 99 / 100]
}

const MEASURED: Duration = Duration::from_secs(5);

#[test]
#[ignore = "a measurement, for a machine at rest: cargo test --test it -- --ignored --nocapture ten_thousand_refused"]
fn ten_thousand_refused_clients_a_second_do_not_delay_the_others() {
    let backend = Backend::echo();
    let plan = Ringway::before([backend.address()]).workers(1);
    let ringway = plan.listener("deny = [\"127.66.0.0/16\"]\nsource_rate_max = \"100/s\"").start();
    let alone = p99(&ringway, "127.65.0.1", MEASURED);
    for (kind, from) in [("by a rule", "127.66.0.1"), ("by a rate", "127.67.0.1")] {
        let (done, tried) = (AtomicBool::new(false), AtomicU64::new(0));
        let cpu = ringway.process().cpu_time();
        let beside = std::thread::scope(|scope| {
            scope.spawn(|| {
                let begun = Instant::now();
                while !done.load(Relaxed) {
                    let _ = Peer::connect_from(Some(&format!("{from}:0")), ringway.address());
                    let number = tried.fetch_add(1, Relaxed);
                    std::thread::sleep(Duration::from_micros(100 * number).saturating_sub(begun.elapsed()));
                }
            });
            let beside = p99(&ringway, "127.65.0.1", MEASURED);
            done.store(true, Relaxed);
            beside
        });
        let share = (ringway.process().cpu_time() - cpu).as_secs_f64() / MEASURED.as_secs_f64();
        let a_second = tried.into_inner() as f64 / MEASURED.as_secs_f64();
        println!(
            "{a_second:.0} refused a second {kind}: p99 {beside:?}, alone {alone:?}; {:.1} % of a core",
            share * 100.0
        );
    }
}

/// S7: a megabit a second of the worst that can be said.
#[test]
#[ignore = "a measurement, for a machine at rest: cargo test --test it -- --ignored --nocapture byte_by_byte"]
fn clients_that_speak_byte_by_byte_cost_little() {
    let backend = Backend::echo();
    let route = "routes = [{ sni = [\"x\"], pool = \"main\" }]";
    let header = b"\r\n\r\n\0\r\nQUIT\n\x21\x11\x10\0";
    let hello = [&b"\x16\x03\x01\x40\x00\x01\0\x3f\xfc"[..], &[3; 16_000]].concat();
    let cases: [(&str, &str, Vec<u8>); 3] = [
        ("partial PROXY headers", "accept_proxy = \"required\"\nproxy_trusted = [\"127.0.0.0/8\"]", header.to_vec()),
        ("partial ClientHellos", route, hello.clone()),
        (
            "ClientHellos in records of a byte",
            route,
            hello[5..2000].iter().flat_map(|&byte| [22, 3, 1, 0, 1, byte]).collect(),
        ),
    ];
    for (name, listener, bytes) in cases {
        let plan = Ringway::before([backend.address()]).workers(1).listener(listener);
        let other = format!("{}:7055", crate::harness::address::own_ip());
        let ringway = plan.more(&format!("[listeners.other]\nbind = {other:?}\npool = \"main\"")).start();
        let cpu = ringway.process().cpu_time();
        let (begun, mut segments) = (Instant::now(), 0u32);
        'measure: loop {
            let mut client = ringway.connect();
            for byte in bytes.iter().chain([0; 4096].iter()) {
                if client.write_all(&[*byte]).is_err() {
                    break;
                }
                segments += 1;
                // 67 bytes on the wire.
                std::thread::sleep((Duration::from_micros(536) * segments).saturating_sub(begun.elapsed()));
                if begun.elapsed() > MEASURED {
                    break 'measure;
                }
            }
        }
        let share = (ringway.process().cpu_time() - cpu).as_secs_f64() / MEASURED.as_secs_f64();
        println!(
            "{name}: {:.0} segments a second, {:.1} % of a core",
            f64::from(segments) / MEASURED.as_secs_f64(),
            share * 100.0
        );
        assert!(share < 0.1, "{name}");
    }
}

#[test]
#[ignore = "a measurement, for a machine at rest: cargo test --test it -- --ignored --nocapture nine_thousand"]
fn cutting_nine_thousand_sessions_does_not_delay_the_others() {
    const SESSIONS: usize = 9000;
    let (echo, crowded) = (Backend::echo(), Listener::new());
    let plan = Ringway::before([echo.address()]).workers(1);
    let toml = format!(
        "[listeners.crowded]\nbind = \"{}\"\npool = \"crowded\"\n[pools.crowded]\n[pools.crowded.check]\n\
         type = \"off\"\n[[pools.crowded.backends]]\nname = \"a\"\naddress = \"{}\"\n",
        plan.address().replace(":7000", ":7005"),
        crowded.address()
    );
    let ringway = plan.more(&toml).start();
    let other = ringway.address().replace(":7000", ":7005");
    let sessions: Vec<_> = (0..SESSIONS).map(|_| (Peer::connect(&other), crowded.accept())).collect();
    let mut client = ringway.connect();
    let (mut worst, mut alone) = (Duration::ZERO, Duration::ZERO);
    let mut round_trips = |worst: &mut Duration, go_on: &dyn Fn() -> bool| {
        while go_on() {
            let (took, ()) = crate::harness::timed(|| {
                client.send(b"ping");
                client.expect(b"ping");
            });
            *worst = took.max(*worst);
        }
    };
    let begun = Instant::now();
    round_trips(&mut alone, &|| begun.elapsed() < MEASURED);
    let (cut, begun) = (AtomicBool::new(false), Instant::now());
    let took = std::thread::scope(|scope| {
        let cutter = scope.spawn(|| {
            ringway.api().patch("/v1/pools/crowded/backends/a", r#"{"state": "drain", "deadline_ms": 1}"#).expect(200);
            for (mut client, _) in sessions {
                assert_eq!(client.end(), End::Reset);
            }
            cut.store(true, Relaxed);
            begun.elapsed()
        });
        round_trips(&mut worst, &|| !cut.load(Relaxed));
        cutter.join().unwrap()
    });
    println!("{SESSIONS} sessions cut in {took:?}: the worst round trip beside took {worst:?}, before {alone:?}");
}
