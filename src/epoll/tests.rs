//! The driver on the real kernel: what the simulation assumes of Linux is so.

use std::io::{Read, Write};
use std::net::{TcpListener, TcpStream};
use std::os::fd::{AsRawFd, IntoRawFd};
use std::sync::Arc;
use std::time::Duration;

use super::linux::Linux;
use super::post::PostOffice;
use super::*;
use crate::base::lease::BUFFER_LEN;
use crate::base::time::Clock;
use crate::kernel::Buffers as _;
use crate::sys::socket;

const CLIENT: Token = Token { operation: Operation::RecvClient, generation: 1, index: 7 };
const CREDIT: u32 = 64 << 10;

fn driver() -> Epoll<Linux> {
    let office = Arc::new(PostOffice::new(2).unwrap());
    Epoll::new(Linux::new((office, 0), 4, u64::MAX, Clock::new()).unwrap()).unwrap()
}

/// A connection: the driver's end by number, and the peer.
fn connected() -> (Fd, TcpStream) {
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let peer = TcpStream::connect(listener.local_addr().unwrap()).unwrap();
    let (ours, _) = listener.accept().unwrap();
    ours.set_nonblocking(true).unwrap();
    (Fd(ours.into_raw_fd()), peer)
}

/// What is answered next.
#[track_caller]
fn answers(driver: &mut Epoll<Linux>) -> Vec<Completion> {
    let (start, mut found) = (driver.now(), Vec::new());
    while found.is_empty() {
        assert!(driver.now().since_ns(start) < 10_000_000_000, "nothing is answered");
        driver.enter(Wait::For(10_000_000), &mut found).unwrap();
    }
    found
}

/// Nothing is answered for a while.
#[track_caller]
fn assert_silent(driver: &mut Epoll<Linux>) {
    let mut found = Vec::new();
    for _ in 0..3 {
        driver.enter(Wait::For(3_000_000), &mut found).unwrap();
    }
    assert_eq!(found, []);
}

/// Takes the bytes of a receive, and gives its buffer back.
fn take(driver: &mut Epoll<Linux>, answer: &Completion, into: &mut Vec<u8>) {
    let Some(buffer) = answer.buffer else { return };
    let lease = Lease { buffer, start: 0, len: answer.result as u16 };
    into.extend_from_slice(driver.calls.buffers().bytes(lease));
    driver.buffers().release(buffer);
}

/// At least so many bytes of a receive in flight, or how it ended.
#[track_caller]
fn received(driver: &mut Epoll<Linux>, len: usize) -> (Vec<u8>, Option<i32>) {
    let (mut bytes, mut end) = (Vec::new(), None);
    while bytes.len() < len && end.is_none() {
        for answer in answers(driver) {
            take(driver, &answer, &mut bytes);
            end = end.or(answer.buffer.is_none().then_some(answer.result));
        }
    }
    (bytes, end)
}

#[test]
fn what_came_before_a_receive_is_received_however_it_is_pushed() {
    for fresh in [false, true] {
        let (mut driver, (fd, mut peer)) = (driver(), connected());
        peer.write_all(b"early").unwrap();
        while socket::available(fd) < 5 {}
        driver.push(CLIENT, Op::Recv { fd, credit: CREDIT, fresh });
        assert_eq!(received(&mut driver, 5).0, b"early");
        peer.write_all(b"late").unwrap();
        assert_eq!(received(&mut driver, 4).0, b"late", "it comes while the receive is in flight");
        driver.cancel(fd, CLIENT);
        assert_eq!(answers(&mut driver)[0].result, -errno::ECANCELED);
        peer.write_all(b"between").unwrap();
        assert_silent(&mut driver);
        driver.push(CLIENT, Op::Recv { fd, credit: CREDIT, fresh });
        assert_eq!(received(&mut driver, 7).0, b"between", "its edge was reported while there was no receive");
        drop(peer);
        assert_eq!(received(&mut driver, 1), (Vec::new(), Some(0)));
        driver.close(fd);
    }
}

#[test]
fn a_fin_and_a_reset_behind_the_last_bytes_are_told() {
    for resets in [false, true] {
        let (mut driver, (fd, mut peer)) = (driver(), connected());
        driver.push(CLIENT, Op::Recv { fd, credit: CREDIT, fresh: true });
        assert_silent(&mut driver);
        peer.write_all(b"last").unwrap();
        if resets {
            socket2::SockRef::from(&peer).set_linger(Some(Duration::ZERO)).unwrap();
        }
        drop(peer);
        let (bytes, end) = received(&mut driver, usize::MAX);
        match resets {
            false => assert_eq!((&bytes[..], end), (&b"last"[..], Some(0))),
            true => assert_eq!(end, Some(-errno::ECONNRESET), "after {bytes:?}"),
        }
        driver.close(fd);
    }
}

/// A receive stops before an urgent byte, and no edge follows for what is behind it.
#[test]
fn bytes_behind_an_urgent_one_are_received() {
    let (mut driver, (fd, mut peer)) = (driver(), connected());
    socket2::SockRef::from(&socket::borrow(fd)).set_out_of_band_inline(true).unwrap();
    peer.write_all(b"before").unwrap();
    socket2::SockRef::from(&peer).send_out_of_band(b"!").unwrap();
    peer.write_all(b"behind").unwrap();
    while socket::available(fd) < 13 {}
    driver.push(CLIENT, Op::Recv { fd, credit: CREDIT, fresh: true });
    assert_eq!(received(&mut driver, 13).0, b"before!behind");
    driver.cancel(fd, CLIENT);
    answers(&mut driver);
    driver.close(fd);
}

#[test]
fn a_credit_ends_a_receive_and_the_next_one_goes_on() {
    let (mut driver, (fd, mut peer)) = (driver(), connected());
    let sent: Vec<u8> = (0..200_000u32).map(|number| (number % 251) as u8).collect();
    let (to_send, mut found) = (sent.clone(), Vec::new());
    let writer =
        std::thread::spawn(move || peer.write_all(&to_send).map(|()| peer.shutdown(std::net::Shutdown::Write)));
    let mut is_over = false;
    while !is_over {
        driver.push(CLIENT, Op::Recv { fd, credit: 20_000, fresh: false });
        let (before, mut goes_on) = (found.len(), true);
        while goes_on {
            for answer in answers(&mut driver) {
                take(&mut driver, &answer, &mut found);
                goes_on = answer.more;
                is_over |= answer.result == 0;
            }
        }
        let came = found.len() - before;
        assert!(came < 20_000 + 16_384 && (is_over || came >= 20_000), "{came}");
    }
    assert!(found == sent);
    writer.join().unwrap().unwrap().unwrap();
    driver.close(fd);
}

#[test]
fn a_send_without_room_is_refused_and_room_is_told_once() {
    let (mut driver, (fd, mut peer)) = (driver(), connected());
    let send = Token { operation: Operation::SendClient, ..CLIENT };
    let room = Token { operation: Operation::WritableClient, ..CLIENT };
    let buffer = driver.calls.buffers().take().unwrap();
    driver.calls.buffers().space(buffer, 16_384).fill(7);
    let (lease, mut sent) = (Lease { buffer, start: 0, len: 16_384 }, 0);
    loop {
        driver.push(send, Op::Send { fd, lease, quiet: true, followed: false });
        match answers(&mut driver)[0].result {
            refused if refused == -errno::EAGAIN => break,
            len => sent += len as usize,
        }
    }
    driver.poll(fd, Interest::Writable, room);
    assert_silent(&mut driver);
    let reader = std::thread::spawn(move || {
        let mut bytes = vec![0; sent];
        peer.read_exact(&mut bytes).map(|()| peer).unwrap()
    });
    let told = answers(&mut driver);
    assert!(told.len() == 1 && told[0].token == room && poll::says_writable(told[0].result), "{told:?}");
    let _peer = reader.join().unwrap();
    assert_silent(&mut driver);
    driver.poll(fd, Interest::Writable, room);
    assert_eq!(answers(&mut driver)[0].token, room, "there is room still, and no edge says it");
    driver.close(fd);
}

#[test]
fn a_fin_of_the_peer_is_no_hangup_and_its_reset_is_one() {
    let (mut driver, (fd, peer)) = (driver(), connected());
    let hangup = Token { operation: Operation::HangupClient, ..CLIENT };
    driver.push(CLIENT, Op::Recv { fd, credit: CREDIT, fresh: true });
    peer.shutdown(std::net::Shutdown::Write).unwrap();
    assert_eq!(received(&mut driver, 1).1, Some(0));
    driver.poll(fd, Interest::Hangup, hangup);
    assert_silent(&mut driver);
    socket2::SockRef::from(&peer).set_linger(Some(Duration::ZERO)).unwrap();
    drop(peer);
    let told = answers(&mut driver);
    assert!(told[0].token == hangup && told[0].more && poll::says_hung_up(told[0].result), "{told:?}");
    driver.cancel(fd, hangup);
    assert_eq!((answers(&mut driver)[0].result, driver.watches.find(fd).is_some()), (-errno::ECANCELED, true));
    driver.close(fd);
    assert!(driver.watches.find(fd).is_none());
}

#[test]
fn a_low_water_mark_is_waited_for_and_what_is_there_is_received_afterwards() {
    let (mut driver, (fd, mut peer)) = (driver(), connected());
    let more = Token { operation: Operation::Preread, ..CLIENT };
    socket::set_low_water(fd, 8);
    driver.poll(fd, Interest::Incoming, more);
    peer.write_all(b"12345").unwrap();
    assert_silent(&mut driver);
    peer.write_all(b"678").unwrap();
    assert_eq!(answers(&mut driver)[0].token, more);
    socket::set_low_water(fd, 12);
    driver.poll(fd, Interest::Incoming, more);
    assert_silent(&mut driver);
    socket::set_low_water(fd, 1);
    // The receive is pushed before it is known that the poll is over.
    driver.cancel(fd, more);
    driver.push(CLIENT, Op::Recv { fd, credit: CREDIT, fresh: true });
    let (mut bytes, mut ends) = (Vec::new(), Vec::new());
    while bytes.len() < 8 {
        for answer in answers(&mut driver) {
            take(&mut driver, &answer, &mut bytes);
            ends.extend(answer.buffer.is_none().then_some((answer.token, answer.result)));
        }
    }
    assert_eq!((&bytes[..], &ends[..]), (&b"12345678"[..], &[(more, -errno::ECANCELED)][..]));
    driver.cancel(fd, CLIENT);
    answers(&mut driver);
    driver.close(fd);
}

#[test]
fn connects_come_about_or_say_why_not() {
    let mut driver = driver();
    let connect = Token { operation: Operation::Connect, ..CLIENT };
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let there = Address::Tcp(listener.local_addr().unwrap());
    let open = || socket::open(&there, &crate::kernel::Options::default()).unwrap();
    let fd = open();
    driver.push(connect, Op::Connect { fd, to: &there });
    assert_eq!(answers(&mut driver)[0].result, 0);
    driver.close(fd);
    // Bound, so that no other test gets the port, and not listening.
    let mute = socket2::Socket::new(socket2::Domain::IPV4, socket2::Type::STREAM, None).unwrap();
    mute.bind(&std::net::SocketAddr::from(([127, 0, 0, 1], 0)).into()).unwrap();
    let nobody = Address::Tcp(mute.local_addr().unwrap().as_socket().unwrap());
    let fd = open();
    driver.push(connect, Op::Connect { fd, to: &nobody });
    assert_eq!(answers(&mut driver)[0].result, -errno::ECONNREFUSED);
    driver.close_now(fd);
    // Its backlog takes one, and the kernel does not answer the next one.
    let full = socket2::Socket::new(socket2::Domain::IPV4, socket2::Type::STREAM, None).unwrap();
    full.bind(&std::net::SocketAddr::from(([127, 0, 0, 1], 0)).into()).unwrap();
    full.listen(0).unwrap();
    let there = full.local_addr().unwrap().as_socket().unwrap();
    let _first = TcpStream::connect(there).unwrap();
    let fd = open();
    driver.push(connect, Op::Connect { fd, to: &Address::Tcp(there) });
    assert_silent(&mut driver);
    driver.cancel(fd, connect);
    assert_eq!(answers(&mut driver)[0].result, -errno::ECANCELED);
    driver.close(fd);
}

#[test]
fn a_listening_socket_is_watched_only_while_the_worker_accepts() {
    let mut driver = driver();
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    listener.set_nonblocking(true).unwrap();
    let (fd, to) = (Fd(listener.as_raw_fd()), listener.local_addr().unwrap());
    let accept = Token::plain(Operation::Accept, 0);
    driver.push(accept, Op::Accept { fd });
    let clients: Vec<_> = (0..20).map(|_| TcpStream::connect(to).unwrap()).collect();
    let mut accepted = Vec::new();
    while accepted.len() < clients.len() {
        accepted.extend(answers(&mut driver).into_iter().map(|answer| (answer.result, answer.more)));
    }
    assert!(accepted.iter().all(|&(fd, more)| fd >= 0 && more));
    driver.cancel(fd, accept);
    assert_eq!(answers(&mut driver)[0].result, -errno::ECANCELED);
    let _one = TcpStream::connect(to).unwrap();
    assert_silent(&mut driver);
    driver.poll(fd, Interest::Acceptable, accept);
    assert!(answers(&mut driver)[0].result & poll::IN != 0, "it waits in the backlog");
    assert_silent(&mut driver);
    accepted.iter().for_each(|&(client, _)| driver.close(Fd(client)));
}

#[test]
fn messages_and_bells_wake_a_worker_that_sleeps() {
    let office = Arc::new(PostOffice::new(2).unwrap());
    let make = |worker| Epoll::new(Linux::new((office.clone(), worker), 1, 0, Clock::new()).unwrap()).unwrap();
    let (mut here, mut there) = (make(0), make(1));
    let bell = crate::sys::system::EventFd::new().unwrap();
    let (told, failed) = (Token::plain(Operation::HandOver, 3), Token::plain(Operation::HandOverFailed, 5));
    for result in [5, 6] {
        here.push(failed, Op::Message { port: there.port(), result, there: told });
        let found = answers(&mut there);
        assert_eq!((found[0].token, found[0].result), (told, result));
        there.await_bell(&bell);
        bell.ring();
        assert_eq!(answers(&mut there)[0].token.operation, Operation::Wake);
        bell.clear();
    }
    let port = there.port();
    drop(there);
    here.push(failed, Op::Message { port, result: 7, there: told });
    let found = answers(&mut here);
    assert!(found[0].token == failed && found[0].result < 0, "{found:?}");
}

/// It would never hear of a new table: the process must not go on with such a worker.
#[test]
fn a_worker_that_cannot_hear_its_bell_says_so_when_it_is_entered() {
    struct Deaf(std::fs::File);
    impl Bell for Deaf {
        fn ring(&self) {}

        fn clear(&self) {}

        fn fd(&self) -> Fd {
            Fd(self.0.as_raw_fd())
        }
    }
    let mut driver = driver();
    // The kernel watches no regular file.
    driver.await_bell(&Deaf(tempfile::tempfile().unwrap()));
    let error = driver.enter(Wait::No, &mut Vec::new()).unwrap_err();
    assert_eq!(error.raw_os_error(), Some(errno::EPERM));
}

/// Otherwise every fourth message of one buffer would cost a receive that brings nothing.
#[test]
fn after_a_message_of_one_buffer_it_is_known_that_there_is_no_more_also_at_the_end_of_a_credit() {
    let (mut driver, (fd, mut peer)) = (driver(), connected());
    let message = [7; BUFFER_LEN];
    for credit in [CREDIT, BUFFER_LEN as u32, CREDIT] {
        driver.push(CLIENT, Op::Recv { fd, credit, fresh: true });
        for round in 0..credit as usize / BUFFER_LEN {
            while socket::available(fd) > 0 {}
            peer.write_all(&message).unwrap();
            while socket::available(fd) < BUFFER_LEN {}
            assert_eq!(received(&mut driver, BUFFER_LEN).0.len(), BUFFER_LEN);
            let (place, _) = driver.watched(fd, WatchMode::Edges).unwrap();
            // The first one shows how long they are.
            let is_known = !driver.watches.get(place).readable;
            assert!(is_known || (credit, round) == (CREDIT, 0), "{credit} {round}");
        }
    }
}
