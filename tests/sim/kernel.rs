//! `ringway::kernel::Kernel` on the simulated host.

use std::io;
use std::net::IpAddr;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use ringway::base::address::Address;
use ringway::base::lease::{BUFFER_LEN, Lease, PipeId};
use ringway::base::session::PathQuality;
use ringway::base::time::Moment;
use ringway::kernel::token::{Operation, Token};
use ringway::kernel::{self, Bell, Completion, Fd, Kernel, Op, Options, Wait, errno};
use ringway::wire::postgresql;

use crate::bytes::Bytes;
use crate::corner::Corner;
use crate::host::{Host, Mood, Shared, Thing};
use crate::ring::Deed;
use crate::sock::{Got, Sock};
use crate::splice::Pipes;

/// One worker's kernel.
pub struct SimKernel {
    host: Shared,
    worker: usize,
    buffers: Buffers,
    pipes: Pipes,
    sockets: Sockets,
}

pub struct Buffers(pub Shared, pub usize);

pub struct Sockets(pub Shared);

/// Wakes a worker.
pub struct SimBell {
    pub count: Arc<BellCount>,
    pub fd: i32,
}

/// How often a bell has rung, and how often it had when it was cleared.
#[derive(Default)]
pub struct BellCount(AtomicU64, AtomicU64);

impl BellCount {
    pub fn rings(&self) -> u64 {
        self.0.load(Ordering::Relaxed)
    }

    pub fn has_rung(&self) -> bool {
        self.rings() > self.1.load(Ordering::Relaxed)
    }
}

impl Bell for SimBell {
    fn ring(&self) {
        self.count.0.fetch_add(1, Ordering::Relaxed);
    }

    fn clear(&self) {
        self.count.1.store(self.count.rings(), Ordering::Relaxed);
    }

    fn fd(&self) -> Fd {
        Fd(self.fd)
    }
}

impl SimKernel {
    pub fn new(host: &Shared, worker: usize) -> SimKernel {
        SimKernel {
            host: host.clone(),
            worker,
            buffers: Buffers(host.clone(), worker),
            pipes: Pipes(host.clone(), worker),
            sockets: Sockets(host.clone()),
        }
    }
}

/// What an operation does, and on which descriptor.
pub fn deed_of(host: &Host, op: &Op<'_>) -> (Fd, Deed) {
    match *op {
        Op::Recv { fd, credit, fresh } => {
            assert!(credit > 0, "a receive of nothing");
            (fd, Deed::Recv { credit, fresh })
        }
        Op::Send { fd, lease, quiet, followed } => (fd, Deed::Send { lease, quiet, followed }),
        Op::Poll { fd, interest } => (fd, Deed::Poll(interest)),
        Op::Connect { fd, to } => (fd, Deed::Connect { site: host.site(to) }),
        Op::Accept { fd } => (fd, Deed::Accept),
        Op::Close { fd } => (fd, Deed::Close),
        Op::Cancel { token, .. } => (Fd(-1), Deed::Cancel(token)),
        Op::Message { port, result, there } => (Fd(-1), Deed::Message { port, result, there }),
    }
}

impl Kernel for SimKernel {
    type Buffers = Buffers;
    type Pipes = Pipes;
    type Sockets = Sockets;

    fn push(&mut self, token: Token, op: Op<'_>) {
        let mut host = self.host.borrow_mut();
        assert_ne!(host.breaks_after, Some(0), "{token:?} is pushed after the ring broke");
        let (fd, deed) = deed_of(&host, &op);
        if let Op::Cancel { fd, token } = op {
            host.check_cancel(self.worker, fd, token);
        }
        host.push(self.worker, token, fd, deed);
    }

    fn has_queued(&mut self) -> bool {
        !self.host.borrow().rings[self.worker].queued.is_empty()
    }

    fn enter(&mut self, _wait: Wait, into: &mut Vec<Completion>) -> io::Result<()> {
        let mut host = self.host.borrow_mut();
        if let Some(left) = host.breaks_after {
            assert!(left > 0, "the ring is entered after it broke");
            host.breaks_after = Some(left - 1);
            if left == 1 {
                return Err(refused(errno::EBADF));
            }
            // Nothing else moves the world, nor time for a worker that spins.
            host.now = host.now.after_ns(10_000);
            host.begin_turn();
            (0..8).for_each(|_| _ = host.act_at_all());
        }
        host.submit(self.worker);
        if !host.rings[self.worker].asleep {
            host.collect(self.worker, into);
        }
        if host.breaks_after.is_some() {
            // The worker's own loop does not say when a turn begins.
            host.hear(self.worker);
        }
        Ok(())
    }

    fn now(&self) -> Moment {
        self.host.borrow().now
    }

    fn port(&self) -> Fd {
        Fd(self.host.borrow().rings[self.worker].port)
    }

    fn await_bell(&mut self, bell: &dyn Bell) {
        let token = Token::plain(Operation::Wake, 0);
        self.host.borrow_mut().push(self.worker, token, bell.fd(), Deed::Bell);
    }

    fn close_now(&mut self, fd: Fd) {
        self.host.borrow_mut().close(fd);
    }

    fn misses_resets(&self) -> bool {
        true
    }

    fn has_credit(&self) -> bool {
        self.host.borrow().profile.recv_credit
    }

    fn buffers(&mut self) -> &mut Buffers {
        &mut self.buffers
    }

    fn pipes(&mut self) -> &mut Pipes {
        &mut self.pipes
    }

    fn sockets(&self) -> &Sockets {
        &self.sockets
    }

    fn unload(&mut self, pipe: PipeId, left: u32) -> Option<Lease> {
        self.host.borrow_mut().unload(self.worker, pipe, left)
    }
}

impl Host {
    /// See [`Kernel::unload`].
    pub fn unload(&mut self, worker: usize, pipe: PipeId, left: u32) -> Option<Lease> {
        let now = self.now;
        self.called();
        let ring = &mut self.rings[worker];
        ring.pipes.used(pipe, None, now);
        if !ring.pool.has_spare(left.div_ceil(BUFFER_LEN as u32) as usize) {
            return None;
        }
        let source = ring.pipes.source(pipe).expect("there are bytes in it");
        let held = ring.pipes.bytes(pipe);
        assert_eq!(held.len(), u64::from(left), "a pipe holds other bytes than are unloaded");
        let mut bytes = Bytes::default();
        held.move_to(BUFFER_LEN as u64, &mut bytes);
        let lease = ring.pool.take(bytes)?;
        ring.pool.own(lease.buffer, source);
        self.socks[source].unloaded = true;
        self.corners.reach(Corner::Unloaded);
        Some(lease)
    }
}

impl kernel::Buffers for Buffers {
    fn publish(&mut self) {
        self.0.borrow_mut().rings[self.1].pool.publish();
    }

    fn available(&self) -> u16 {
        self.0.borrow().rings[self.1].pool.available()
    }

    fn leased(&self) -> u16 {
        self.0.borrow().rings[self.1].pool.told() as u16
    }

    fn is_scarce(&self) -> bool {
        let mut host = self.0.borrow_mut();
        let turn = host.turn;
        let pool = &mut host.rings[self.1].pool;
        let is_scarce = pool.is_scarce();
        if is_scarce {
            pool.scarce_in = turn;
        }
        is_scarce
    }

    fn is_exhausted(&self) -> bool {
        let mut host = self.0.borrow_mut();
        let pool = &mut host.rings[self.1].pool;
        pool.has_run_out |= pool.is_exhausted();
        pool.is_exhausted()
    }

    fn ran_dry(&mut self) {
        self.0.borrow_mut().rings[self.1].pool.ran_dry();
    }

    fn take(&mut self) -> Option<u16> {
        None
    }

    fn space(&mut self, _: u16) -> &mut [u8; BUFFER_LEN] {
        unreachable!("no session of the simulation speaks TLS: its bytes have no values")
    }

    fn release(&mut self, buffer: u16) {
        self.0.borrow_mut().rings[self.1].pool.release(buffer);
    }

    fn append(&mut self, from: Lease, to: Lease) {
        self.0.borrow_mut().rings[self.1].pool.append(from, to);
    }

    fn trim(&mut self) {}
}

fn refused(errno: i32) -> io::Error {
    io::Error::from_raw_os_error(errno)
}

impl Sockets {
    fn try_connect_unix(&self, fd: Fd, to: &Address) -> io::Result<()> {
        let mut host = self.0.borrow_mut();
        let site = host.site(to);
        host.progress += 1;
        let (odds, mood) = (host.profile.odds, host.sites[site].mood);
        if host.spurious(odds.no_memory) {
            return Err(refused(errno::ENOMEM));
        }
        match mood {
            Mood::Fine if host.fault(odds.connect_fails) => Err(refused(errno::ECONNREFUSED)),
            Mood::Fine => {
                host.sock(fd).open = true;
                Ok(())
            }
            Mood::Refuses => Err(refused(host.dice.pick(&[errno::ECONNREFUSED, errno::ENOENT]))),
            Mood::Silent => {
                host.corners.reach(Corner::UnixBacklogFull);
                Err(refused(errno::EAGAIN))
            }
        }
    }
}

impl kernel::Sockets for Sockets {
    fn open(&self, to: &Address, _options: &Options) -> io::Result<Fd> {
        let mut host = self.0.borrow_mut();
        let odds = host.profile.odds.no_socket;
        host.tried_at = host.now;
        if host.spurious(odds) {
            host.refused += 1;
            host.corners.reach(Corner::NoDescriptor);
            let errnos = [errno::EMFILE, errno::ENFILE, errno::ENOMEM, errno::ENOBUFS];
            return Err(refused(host.dice.pick(&errnos)));
        }
        let id = host.socks.len();
        let fd = host.try_fd(Thing::Sock(id)).map_err(|errno| {
            host.refused += 1;
            host.corners.reach(Corner::NoDescriptor);
            refused(errno)
        })?;
        let total_max = host.profile.total_max;
        let host = &mut *host;
        // Not the address that it connects to: then it would have met itself.
        let own = match to {
            Address::Tcp(_) => Address::Tcp(([192, 0, 2, 100], 10_000 + (id % 50_000) as u16).into()),
            unix => unix.clone(),
        };
        let mut sock = Sock::new(&mut host.dice, id, false, total_max, [to.clone(), own]);
        (sock.moved_at, sock.began_at) = (host.now, host.now);
        if host.dice.one_in(3) {
            sock.peer.script.write_after = host.dice.below(2_000);
        }
        host.socks.push(sock);
        Ok(Fd(fd))
    }

    fn bind_source(&self, fd: Fd, _source: IpAddr, _transparent: bool) -> io::Result<()> {
        let mut host = self.0.borrow_mut();
        host.sock(fd);
        let odds = host.profile.odds.no_socket;
        if host.spurious(odds) {
            host.refused += 1;
            return Err(refused(errno::EADDRNOTAVAIL));
        }
        Ok(())
    }

    fn connect_unix(&self, fd: Fd, to: &Address) -> io::Result<()> {
        let result = self.try_connect_unix(fd, to);
        self.0.borrow_mut().refused += usize::from(result.is_err());
        result
    }

    fn accept(&self, listener: Fd) -> io::Result<Fd> {
        let mut host = self.0.borrow_mut();
        let Thing::Door(door) = host.thing(listener) else { panic!("{listener:?} is no listening socket") };
        host.accept(door).map(Fd).map_err(refused)
    }

    fn peer_address(&self, fd: Fd) -> Option<Address> {
        let mut host = self.0.borrow_mut();
        let sock = host.sock(fd);
        (!sock.dead || sock.unix).then(|| sock.peer_address.clone())
    }

    fn own_address(&self, fd: Fd) -> Option<Address> {
        Some(self.0.borrow_mut().sock(fd).own_address.clone())
    }

    /// Asked only of descriptors that are open.
    fn quality(&self, fd: Fd) -> Option<PathQuality> {
        let mut host = self.0.borrow_mut();
        let sock = host.sock(fd);
        (!sock.unix).then_some(PathQuality { rtt_us: 50, retransmits: 0 })
    }

    fn available(&self, fd: Fd) -> usize {
        self.0.borrow_mut().sock(fd).rx.len() as usize
    }

    fn peek(&self, fd: Fd, into: &mut [u8]) -> io::Result<Option<usize>> {
        let mut host = self.0.borrow_mut();
        let sock = host.sock(fd);
        match sock.peek(into) {
            0 if sock.fin_arrived || sock.reading_stopped => Ok(Some(0)),
            // The failure is told, as by any other call.
            0 if sock.dead => match sock.recv(0) {
                Got::Error(errno) => Err(refused(errno)),
                _ => Ok(Some(0)),
            },
            0 => Ok(None),
            len => Ok(Some(len)),
        }
    }

    fn take(&self, fd: Fd, into: &mut [u8]) -> io::Result<Option<usize>> {
        let mut host = self.0.borrow_mut();
        let now = host.now;
        let sock = host.sock(fd);
        sock.began_at = now;
        let len = sock.peek(into);
        match sock.recv(len as u64) {
            Got::Bytes(bytes) => {
                assert_eq!(sock.skipped + bytes.len(), sock.taken, "bytes are taken beside the relay");
                sock.skipped = sock.taken;
                sock.heard = sock.taken;
                Ok(Some(bytes.len() as usize))
            }
            Got::Eof => Ok(Some(0)),
            Got::Error(errno) => Err(refused(errno)),
            Got::Nothing => Ok(None),
        }
    }

    fn send_first(&self, fd: Fd, bytes: &[u8], _more: bool) -> io::Result<()> {
        let mut host = self.0.borrow_mut();
        let odds = host.profile.odds.no_memory;
        if !host.sock(fd).is_client && host.spurious(odds) {
            return Err(refused(errno::ENOBUFS));
        }
        let asks_for_tls = bytes == postgresql::SSL_REQUEST;
        host.corners.reach(if asks_for_tls { Corner::AskedForTls } else { Corner::Headed });
        let address = host.sock(fd).peer_address.clone();
        let knows_tls = host.sites.iter().any(|site| site.address == address && site.knows_tls);
        let sock = host.sock(fd);
        if asks_for_tls && knows_tls {
            sock.preamble = b"S".to_vec();
            sock.peer.script.total = sock.peer.script.total.max(1);
            // It answers the request, whatever its script waits for.
            sock.peer.script.write_after = sock.greeted() + bytes.len() as u64;
        }
        sock.greet(bytes).map_err(refused)
    }

    fn set_low_water(&self, fd: Fd, bytes: usize) {
        let mut host = self.0.borrow_mut();
        let sock = host.sock(fd);
        sock.low_water = bytes.max(1) as u64;
        // `tcp_set_rcvlowat` looks whether there is enough now (Linux 4.18).
        sock.wakes += 1;
    }

    fn no_delay(&self, fd: Fd) {
        self.0.borrow_mut().sock(fd);
    }

    fn keep_alive(&self, fd: Fd, _options: &Options) {
        let mut host = self.0.borrow_mut();
        let id = host.sock(fd).id;
        host.note_keep_alive(id);
    }

    fn shutdown_write(&self, fd: Fd) {
        let mut host = self.0.borrow_mut();
        let id = host.sock(fd).id;
        host.check_fin(id);
        host.note_fin(id);
        host.socks[id].shut = true;
        host.socks[id].changes += 1;
        host.progress += 1;
    }

    fn stop_reading(&self, fd: Fd) {
        let mut host = self.0.borrow_mut();
        let sock = host.sock(fd);
        sock.reading_stopped = true;
        sock.changes += 1;
    }

    fn end_on_close(&self, fd: Fd, reset: bool) {
        let mut host = self.0.borrow_mut();
        let id = host.sock(fd).id;
        host.part(id, reset);
    }

    fn is_closed(&self, fd: Fd) -> bool {
        self.0.borrow_mut().sock(fd).is_closed()
    }

    fn has_ended(&self, fd: Fd) -> bool {
        let mut host = self.0.borrow_mut();
        let sock = host.sock(fd);
        sock.fin_arrived || sock.dead || sock.reading_stopped
    }

    fn unsent(&self, fd: Fd) -> u32 {
        let mut host = self.0.borrow_mut();
        let id = host.sock(fd).id;
        host.called();
        host.note_flush(id);
        host.socks[id].unsent()
    }
}
