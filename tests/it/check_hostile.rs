//! Servers that mean no good to their checks: a check costs little whatever they send.

use crate::harness::{Backend, Peer, Ringway, wait_until};

/// Most memory that the process ever had, in bytes.
fn peak_bytes(ringway: &Ringway) -> u64 {
    let status = std::fs::read_to_string(format!("/proc/{}/status", ringway.process().id())).unwrap();
    let line = status.lines().find(|line| line.starts_with("VmHWM:")).unwrap();
    line.split_whitespace().nth(1).unwrap().parse::<u64>().unwrap() * 1024
}

/// Reads so many bytes; false if the peer has gone.
fn skip(peer: &mut Peer, mut length: usize) -> bool {
    while length > 0 {
        match peer.read_some(length) {
            Ok(bytes) if !bytes.is_empty() => length -= bytes.len(),
            _ => return false,
        }
    }
    true
}

/// A PostgreSQL that has no TLS and then says `beginning`, and `flood` for as long as it is heard.
fn postgresql(beginning: &'static [u8], flood: Vec<u8>) -> Backend {
    Backend::new(move |mut peer, _| {
        let is_there = skip(&mut peer, 8) && peer.write_all(b"N").is_ok() && skip(&mut peer, 16);
        if is_there && peer.write_all(beginning).is_ok() {
            for _ in 0..(300 << 20) / flood.len() {
                if peer.write_all(&flood).is_err() {
                    return;
                }
            }
        }
    })
}

fn mysql_packet(number: u8, payload: &[u8]) -> Vec<u8> {
    let length = (payload.len() as u32).to_le_bytes();
    [&[length[0], length[1], length[2], number], payload].concat()
}

/// A MySQL that accepts every login, and whose every result has 256 columns with long names, and 63 rows.
fn mysql() -> Backend {
    let mut greeting = b"\x0a8.0.99-fake\0\x07\0\0\0abcdefgh\0\x01\x82\x2d\x02\0\x08\0\x15".to_vec();
    greeting.extend([0; 10]);
    greeting.extend(b"ijklmnopqrst\0mysql_native_password\0");
    let mut result = mysql_packet(1, &[0xfc, 0, 1]);
    let name = [&[0xfc_u8][..], &60_000_u16.to_le_bytes(), "n".repeat(60_000).as_bytes()].concat();
    let column = [b"\x03def\0\0\0", &name[..], b"\0"].concat();
    (0..256).for_each(|_| result.extend(mysql_packet(0, &column)));
    result.extend(mysql_packet(0, &[0xfe, 0, 0, 2, 0]));
    (0..63).for_each(|_| result.extend(mysql_packet(0, &[0xfb; 256])));
    Backend::new(move |mut peer, _| {
        let is_in = peer.write_all(&mysql_packet(0, &greeting)).is_ok()
            && peer.read_some(4096).is_ok_and(|bytes| !bytes.is_empty())
            && peer.write_all(&mysql_packet(2, &[0, 0, 0, 2, 0, 0, 0])).is_ok()
            && peer.read_some(4096).is_ok_and(|bytes| !bytes.is_empty());
        if is_in && peer.write_all(&result).is_ok() {
            let _ = peer.drain();
        }
    })
}

#[test]
fn a_hostile_database_does_not_cost_memory() {
    let notice = {
        let body = format!("SNOTICE\0C00000\0M{}\0\0", "x".repeat(8000));
        [&b"N"[..], &(body.len() as u32 + 4).to_be_bytes(), body.as_bytes()].concat()
    };
    // An error of 2 GiB, and a login that ends in notices without end.
    let error = postgresql(b"E\x7f\xff\xff\xff", vec![b'x'; 1 << 20]);
    let notices = postgresql(b"R\0\0\0\x08\0\0\0\0", notice);
    let names = mysql();
    let pool = |name: &str, kind: &str, backend: &Backend| {
        format!(
            "[pools.{name}.check]\ntype = \"{kind}\"\nuser = \"u\"\nrole = \"replica\"\ninterval = \"50ms\"\n\
             fast_interval = \"50ms\"\ndown_interval = \"50ms\"\ntimeout = \"20s\"\n\
             [[pools.{name}.backends]]\nname = \"{name}\"\naddress = \"{}\"\n",
            backend.address()
        )
    };
    let good = Backend::named("good");
    let ringway = Ringway::before([good.address()]).start();
    let before = peak_bytes(&ringway);
    let more = pool("error", "postgresql", &error) + &pool("notices", "postgresql", &notices);
    let more = more + &pool("names", "mysql", &names);
    ringway.edit(|text| text + &more);
    assert!(ringway.reload());
    for backend in ["error", "notices", "names"] {
        wait_until(&format!("{backend} was checked several times"), || {
            let grown = peak_bytes(&ringway) - before;
            assert!(grown < 48 << 20, "it grew by {} MiB", grown >> 20);
            let metrics = ringway.metrics();
            metrics.count("backend_checks_total", &[("backend", backend), ("result", "failure")]) >= 5
        });
    }
    ringway.connect().expect(b"good");
}
