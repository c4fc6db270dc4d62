//! Sessions that have moved 1 KiB each way and then do nothing: what they cost the proxy in user memory.

use std::io::{Read, Write};
use std::net::{SocketAddr, TcpListener};

use super::{Fault, PATIENCE, Pair, open_pairs};

const SIZE: usize = 1024;

/// Opens `count` sessions, each of which moves 1 KiB to the backend and 1 KiB back.
pub fn open_used(proxy: SocketAddr, backend: &TcpListener, count: usize) -> Result<Vec<Pair>, Fault> {
    let mut pairs = open_pairs(proxy, backend, count)?;
    for (index, pair) in pairs.iter_mut().enumerate() {
        exchange(pair, index as u8).map_err(|error| format!("idle session {index}: {error}"))?;
    }
    Ok(pairs)
}

fn exchange(pair: &mut Pair, fill: u8) -> std::io::Result<()> {
    let sent = [fill; SIZE];
    let mut got = [!fill; SIZE];
    pair.client.set_read_timeout(Some(PATIENCE))?;
    pair.backend.set_read_timeout(Some(PATIENCE))?;
    pair.client.write_all(&sent)?;
    pair.backend.read_exact(&mut got)?;
    pair.backend.write_all(&got)?;
    got = [!fill; SIZE];
    pair.client.read_exact(&mut got)?;
    if got == sent { Ok(()) } else { Err(std::io::Error::other("the answer is not what was sent")) }
}
