//! One end of a connection, held by the test.

use std::io::{self, ErrorKind, Read, Write};
use std::net::Shutdown;
use std::os::fd::AsRawFd;
use std::time::Duration;

use socket2::{Socket, Type};

use super::PATIENCE;
use super::address::sockaddr;
use super::bytes::{CHUNK, Key};

/// How a stream ended.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub enum End {
    Fin,
    Reset,
}

/// See the module. Nothing it does waits longer than [`PATIENCE`].
pub struct Peer {
    socket: Socket,
}

impl Read for Peer {
    fn read(&mut self, into: &mut [u8]) -> io::Result<usize> {
        self.socket.read(into)
    }
}

impl Write for Peer {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        self.socket.write(bytes)
    }

    fn flush(&mut self) -> io::Result<()> {
        self.socket.flush()
    }
}

impl Peer {
    #[track_caller]
    pub fn connect(address: &str) -> Peer {
        Peer::try_connect(address).unwrap_or_else(|error| panic!("cannot connect to {address}: {error}"))
    }

    pub fn try_connect(address: &str) -> io::Result<Peer> {
        Peer::connect_from(None, address)
    }

    /// From that local address.
    pub fn connect_from(local: Option<&str>, address: &str) -> io::Result<Peer> {
        let to = sockaddr(address);
        let socket = Socket::new(to.domain(), Type::STREAM, None)?;
        if let Some(local) = local {
            socket.bind(&sockaddr(local))?;
        }
        socket.connect_timeout(&to, PATIENCE)?;
        Ok(Peer::from(socket))
    }

    /// As its peer sees it.
    pub fn local_address(&self) -> String {
        self.socket.local_addr().unwrap().as_socket().unwrap().to_string()
    }

    /// Where its peer is.
    pub fn peer_address(&self) -> String {
        self.socket.peer_addr().unwrap().as_socket().map_or("unix".to_string(), |address| address.to_string())
    }

    /// Bounds how much the kernel takes in for this end.
    pub fn small_receive_buffer(&self) {
        self.socket.set_recv_buffer_size(64 * 1024).unwrap();
    }

    #[track_caller]
    pub fn send(&mut self, bytes: &[u8]) {
        self.socket.write_all(bytes).unwrap();
    }

    pub fn write_all(&mut self, bytes: &[u8]) -> io::Result<()> {
        self.socket.write_all(bytes)
    }

    /// Sends bytes `at .. at + len` of a stream.
    #[track_caller]
    pub fn send_keyed(&mut self, key: Key, at: u64, len: u64) {
        self.send_chunked(key, at, len, CHUNK);
    }

    /// Sends the bytes of its stream, at most `chunk` bytes per call.
    #[track_caller]
    pub fn send_chunked(&mut self, key: Key, at: u64, len: u64, chunk: usize) {
        let sent = self.try_send_keyed(key, at, len, chunk);
        assert!(sent.is_ok(), "sending: {sent:?}");
    }

    pub fn try_send_keyed(&mut self, key: Key, at: u64, len: u64, chunk: usize) -> io::Result<()> {
        let (mut at, end) = (at, at + len);
        while at < end {
            let part = chunk.min((end - at) as usize);
            self.socket.write_all(key.bytes(at, part))?;
            at += part as u64;
        }
        Ok(())
    }

    /// Sends bytes of a stream until it is told that the connection has ended; how it was told.
    pub fn send_until_cut(&mut self, key: Key, at: u64, len: u64) -> End {
        match self.try_send_keyed(key, at, len, CHUNK) {
            Ok(()) => self.end(),
            Err(error) if matches!(error.kind(), ErrorKind::ConnectionReset | ErrorKind::BrokenPipe) => End::Reset,
            Err(error) => panic!("neither a FIN nor a reset: {error}"),
        }
    }

    /// One write; how much of it the kernel took.
    pub fn write_some(&mut self, bytes: &[u8]) -> io::Result<usize> {
        self.socket.write(bytes)
    }

    /// Writes as much of a stream as fits until nothing has been taken for `stalled`; the number of bytes.
    pub fn send_until_stalled(&mut self, key: Key, stalled: Duration) -> u64 {
        self.send_again_until_stalled(key, 0, stalled)
    }

    /// Sends from `at` on, until nothing was taken for `stalled`.
    pub fn send_again_until_stalled(&mut self, key: Key, at: u64, stalled: Duration) -> u64 {
        self.socket.set_write_timeout(Some(stalled)).unwrap();
        let mut sent = 0;
        loop {
            match self.socket.write(key.bytes(at + sent, CHUNK)) {
                Ok(len) => sent += len as u64,
                Err(error) if error.kind() == ErrorKind::WouldBlock => break,
                Err(error) => panic!("after {sent} bytes: {error}"),
            }
        }
        self.socket.set_write_timeout(Some(PATIENCE)).unwrap();
        sent
    }

    #[track_caller]
    pub fn expect(&mut self, bytes: &[u8]) {
        let mut found = vec![0; bytes.len()];
        let read = self.socket.read_exact(&mut found);
        assert!(read.is_ok(), "expecting {:?}: {read:?}", String::from_utf8_lossy(bytes));
        assert_eq!(String::from_utf8_lossy(&found), String::from_utf8_lossy(bytes));
    }

    /// Reads bytes `at .. at + len` of a stream.
    #[track_caller]
    pub fn expect_keyed(&mut self, key: Key, at: u64, len: u64) {
        let mut buffer = vec![0; CHUNK.min(len as usize)];
        let (mut at, end) = (at, at + len);
        while at < end {
            let wanted = buffer.len().min((end - at) as usize);
            match self.socket.read(&mut buffer[..wanted]) {
                Ok(0) => panic!("the stream ended at {at} of {end}"),
                Ok(found) => {
                    assert!(buffer[..found] == *key.bytes(at, found), "wrong bytes within {found} from {at}");
                    at += found as u64;
                }
                Err(error) => panic!("at {at} of {end}: {error}"),
            }
        }
    }

    /// Reads a stream from `at` to its end: where it ended, and how.
    #[track_caller]
    pub fn drain_keyed(&mut self, key: Key, at: u64) -> (u64, End) {
        let mut buffer = vec![0; CHUNK];
        let mut at = at;
        loop {
            match self.socket.read(&mut buffer) {
                Ok(0) => return (at, End::Fin),
                Ok(found) => {
                    assert!(buffer[..found] == *key.bytes(at, found), "wrong bytes within {found} from {at}");
                    at += found as u64;
                }
                Err(error) => return (at, reset_or_panic(&error)),
            }
        }
    }

    /// Reads to the end.
    #[track_caller]
    pub fn drain(&mut self) -> (Vec<u8>, End) {
        let mut found = Vec::new();
        match self.socket.read_to_end(&mut found) {
            Ok(_) => (found, End::Fin),
            Err(error) => (found, reset_or_panic(&error)),
        }
    }

    /// The end of the stream, which must come next.
    #[track_caller]
    pub fn end(&mut self) -> End {
        let (bytes, end) = self.drain();
        assert!(bytes.is_empty(), "{} bytes before the end", bytes.len());
        end
    }

    /// The next bytes; empty at the end.
    pub fn read_some(&mut self, len: usize) -> io::Result<Vec<u8>> {
        let mut buffer = vec![0; len];
        let found = self.socket.read(&mut buffer)?;
        buffer.truncate(found);
        Ok(buffer)
    }

    /// Whether nothing comes, not even an end, for that long.
    pub fn is_silent_for(&self, time: Duration) -> bool {
        self.socket.set_read_timeout(Some(time)).unwrap();
        let result = self.socket.peek(&mut [std::mem::MaybeUninit::uninit()]);
        self.socket.set_read_timeout(Some(PATIENCE)).unwrap();
        matches!(result, Err(error) if error.kind() == ErrorKind::WouldBlock)
    }

    /// Whether something has come that was not read; it does not wait.
    pub fn has_bytes(&self) -> bool {
        let flags = libc::MSG_PEEK | libc::MSG_DONTWAIT;
        let mut byte = [std::mem::MaybeUninit::uninit()];
        matches!(self.socket.recv_with_flags(&mut byte, flags), Ok(1))
    }

    /// Sends one byte as urgent data.
    pub fn send_urgent(&mut self, byte: u8) {
        assert_eq!(self.socket.send_out_of_band(&[byte]).unwrap(), 1);
    }

    /// Sends a FIN; reading goes on.
    pub fn finish(&mut self) {
        self.socket.shutdown(Shutdown::Write).unwrap();
    }

    /// Closes with a reset.
    pub fn reset(self) {
        self.socket.set_linger(Some(Duration::ZERO)).unwrap();
    }

    /// Ends reading or more under the hands of another handle; its close will be a reset.
    pub fn abort(&self, how: Shutdown) {
        let _ = self.socket.set_linger(Some(Duration::ZERO)); // it may be closed already
        let _ = self.socket.shutdown(how);
    }

    /// Another handle of the same end, for another thread.
    pub fn again(&self) -> Peer {
        Peer { socket: self.socket.try_clone().unwrap() }
    }

    /// Bytes that have come and were not read, up to 64 KiB.
    pub fn peek_len(&self) -> usize {
        let mut buffer = [std::mem::MaybeUninit::uninit(); 64 * 1024];
        self.socket.peek(&mut buffer).unwrap()
    }

    /// Segments with data that have come (`tcpi_data_segs_in`).
    pub fn data_segments(&self) -> u32 {
        /// Where it stands in `struct tcp_info`, of which only what is new comes at the end.
        const AT: usize = 152;
        let (mut info, mut len) = ([0u8; AT + 4], (AT + 4) as libc::socklen_t);
        let fd = self.socket.as_raw_fd();
        // SAFETY: the kernel writes at most `len` bytes to `info`, and the length.
        let result =
            unsafe { libc::getsockopt(fd, libc::IPPROTO_TCP, libc::TCP_INFO, info.as_mut_ptr().cast(), &raw mut len) };
        assert_eq!((result, len as usize), (0, AT + 4));
        u32::from_ne_bytes(info[AT..].try_into().unwrap())
    }

    /// Bytes that the other end's kernel has not acknowledged.
    pub fn unacknowledged(&self) -> i32 {
        let mut bytes: libc::c_int = 0;
        // SAFETY: the kernel writes one int.
        assert_eq!(unsafe { libc::ioctl(self.socket.as_raw_fd(), libc::TIOCOUTQ, &raw mut bytes) }, 0);
        bytes
    }
}

impl From<Socket> for Peer {
    fn from(socket: Socket) -> Peer {
        socket.set_read_timeout(Some(PATIENCE)).unwrap();
        socket.set_write_timeout(Some(PATIENCE)).unwrap();
        let _ = socket.set_tcp_nodelay(true); // a unix socket has none
        Peer { socket }
    }
}

#[track_caller]
fn reset_or_panic(error: &io::Error) -> End {
    assert_eq!(error.kind(), ErrorKind::ConnectionReset, "neither a FIN nor a reset: {error}");
    End::Reset
}
