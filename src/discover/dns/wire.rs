//! One question to one name server, and its answer (RFC 1035; over TCP, RFC 7766).
//!
//! Each question has a socket of its own, and so a port of its own. Only a message from that server, with that number
//! and that question, is taken as the answer, which makes it hard to slip in a false one (RFC 5452). An answer that did
//! not fit into a datagram is asked for again over TCP.

use std::collections::hash_map::RandomState;
use std::hash::BuildHasher;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr};
use std::time::Duration;

use hickory_proto::op::{Message, MessageType, OpCode, Query, ResponseCode};
use hickory_proto::rr::{Name, RData, RecordType};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{TcpStream, UdpSocket};

use super::search::{Asked, Reply};

/// The longest datagram that is read. Without EDNS it has at most 512 bytes, but some servers send more.
const DATAGRAM_MAX: usize = 4096;
/// Bits of a header: QR and TC, both in its third byte.
const RESPONSE: u8 = 0x80;
const TRUNCATED: u8 = 0x02;
/// Bytes of a header.
const HEADER: usize = 12;

/// Asks one question. It has no time-out; the caller gives up when it has waited long enough.
pub(super) async fn ask(server: SocketAddr, name: &str, kind: Asked, over_tcp: bool) -> Reply {
    let kind = if kind == Asked::V4 { RecordType::A } else { RecordType::AAAA };
    match Question::ask(server, name, kind, over_tcp).await {
        Ok((question, answer)) => question.read(&answer),
        Err(reply) => reply,
    }
}

/// Asks for the SRV records of a name, and how long they hold. If there are none, the reply says why.
pub(super) async fn ask_srv(
    server: SocketAddr,
    name: &str,
    over_tcp: bool,
) -> Result<(Vec<SrvRecord>, Duration), Reply> {
    let (question, answer) = Question::ask(server, name, RecordType::SRV, over_tcp).await?;
    question.records(&answer, |data| match data {
        RData::SRV(srv) => Some(SrvRecord {
            priority: srv.priority,
            weight: srv.weight,
            port: srv.port,
            target: srv.target.to_ascii(),
        }),
        _ => None,
    })
}

/// An SRV record (RFC 2782).
#[derive(Clone, Debug, Eq, PartialEq)]
pub(crate) struct SrvRecord {
    /// Targets of the lowest number come first.
    pub priority: u16,
    /// The share among targets of one priority.
    pub weight: u16,
    /// The port of the service.
    pub port: u16,
    /// The host, with a final dot; `.` means that there is no such service.
    pub target: String,
}

/// A question: its number, what is asked, and the message.
struct Question {
    /// The number that the answer must repeat.
    id: u16,
    /// The name and the type that the answer must repeat.
    query: Query,
    /// The whole message.
    bytes: Vec<u8>,
}

impl Question {
    /// Asks a server; the answer with its question, or what it means that there is none.
    async fn ask(
        server: SocketAddr,
        name: &str,
        kind: RecordType,
        over_tcp: bool,
    ) -> Result<(Question, Message), Reply> {
        let name = Name::from_ascii(name).map_err(|_| Reply::Useless("the name cannot be asked for".to_owned()))?;
        let question = Question::new(name, kind);
        let asked = async {
            if !over_tcp && let Some(answer) = question.by_udp(server).await? {
                return Ok(answer);
            }
            question.by_tcp(server).await
        };
        let asked: std::io::Result<Message> = asked.await;
        asked.map_or_else(|error| Err(Reply::Useless(error.to_string())), |answer| Ok((question, answer)))
    }

    /// A question for records of that type.
    fn new(name: Name, kind: RecordType) -> Question {
        let mut query = Query::query(name, kind);
        query.set_query_class(hickory_proto::rr::DNSClass::IN);
        // An attacker cannot guess this number: the keys of the hash come from the kernel.
        let id = RandomState::new().hash_one(0u8) as u16;
        let mut message = Message::new(id, MessageType::Query, OpCode::Query);
        message.metadata.recursion_desired = true;
        message.queries.push(query.clone());
        Question { id, query, bytes: message.to_vec().unwrap_or_default() }
    }

    /// Asks by a datagram. `None` if the answer was cut off.
    async fn by_udp(&self, server: SocketAddr) -> std::io::Result<Option<Message>> {
        let any = if server.is_ipv6() { IpAddr::from(Ipv6Addr::UNSPECIFIED) } else { Ipv4Addr::UNSPECIFIED.into() };
        let socket = UdpSocket::bind(SocketAddr::new(any, 0)).await?;
        socket.connect(server).await?;
        socket.send(&self.bytes).await?;
        let mut buffer = [0; DATAGRAM_MAX];
        loop {
            let length = socket.recv(&mut buffer).await?;
            let datagram = &buffer[..length];
            if !self.is_for_us(datagram) {
                continue;
            }
            // A message that was cut off may not even be readable.
            if datagram[2] & TRUNCATED != 0 {
                return Ok(None);
            }
            if let Some(answer) = self.accept(datagram) {
                return Ok(Some(answer));
            }
        }
    }

    /// Asks over TCP.
    async fn by_tcp(&self, server: SocketAddr) -> std::io::Result<Message> {
        let mut stream = TcpStream::connect(server).await?;
        let mut bytes = (self.bytes.len() as u16).to_be_bytes().to_vec();
        bytes.extend(&self.bytes);
        stream.write_all(&bytes).await?;
        let length = stream.read_u16().await?;
        let mut answer = vec![0; length.into()];
        stream.read_exact(&mut answer).await?;
        let fits = self.is_for_us(&answer).then(|| self.accept(&answer)).flatten();
        fits.ok_or_else(|| std::io::Error::other("the answer over TCP makes no sense"))
    }

    /// Whether a message is an answer with our number.
    fn is_for_us(&self, bytes: &[u8]) -> bool {
        bytes.len() >= HEADER && bytes[..2] == self.id.to_be_bytes() && bytes[2] & RESPONSE != 0
    }

    /// The message, if it can be read and repeats our question.
    fn accept(&self, bytes: &[u8]) -> Option<Message> {
        let answer = Message::from_vec(bytes).ok()?;
        let is_same = |query: &Query| {
            query.query_type() == self.query.query_type()
                && query.name().to_lowercase() == self.query.name().to_lowercase()
        };
        // A server that cannot read the question may leave it out of its answer.
        let is_error = answer.metadata.response_code != ResponseCode::NoError && answer.queries.is_empty();
        (is_error || answer.queries.first().is_some_and(is_same)).then_some(answer)
    }

    /// What the answer to a question for addresses means.
    fn read(&self, answer: &Message) -> Reply {
        let found = self.records(answer, |data| match data {
            RData::A(address) if self.query.query_type() == RecordType::A => Some(address.0.into()),
            RData::AAAA(address) if self.query.query_type() == RecordType::AAAA => Some(address.0.into()),
            _ => None,
        });
        found.map_or_else(|reply| reply, |(addresses, ttl)| Reply::Found(addresses, ttl))
    }

    /// What `pick` takes of an answer, at least one, and how long that holds. Of aliases only those count that lead on
    /// from the name that was asked for, in their order.
    fn records<T>(&self, answer: &Message, pick: impl Fn(&RData) -> Option<T>) -> Result<(Vec<T>, Duration), Reply> {
        match answer.metadata.response_code {
            ResponseCode::NoError => {}
            ResponseCode::NXDomain => return Err(Reply::NxDomain),
            ResponseCode::ServFail => return Err(Reply::Useless("SERVFAIL".to_owned())),
            ResponseCode::Refused => return Err(Reply::Useless("REFUSED".to_owned())),
            other => return Err(Reply::Useless(format!("error {}", u16::from(other)))),
        }
        let (mut name, mut found, mut ttl) = (self.query.name().to_lowercase(), Vec::new(), u32::MAX);
        for record in &answer.answers {
            if record.name.to_lowercase() != name {
                continue;
            }
            match (&record.data, pick(&record.data)) {
                (_, Some(one)) => found.push(one),
                (RData::CNAME(alias), None) => name = alias.0.to_lowercase(),
                _ => continue,
            }
            ttl = ttl.min(record.ttl);
        }
        let metadata = &answer.metadata;
        let is_lame = answer.answers.is_empty()
            && answer.additionals.is_empty()
            && !metadata.authoritative
            && !metadata.recursion_available;
        match found.is_empty() {
            true if is_lame => Err(Reply::Useless("it has no answer and asks no other server".to_owned())),
            true => Err(Reply::NoData),
            false => Ok((found, Duration::from_secs(ttl.into()))),
        }
    }
}

/// What an answer with these records means for a question about the IPv4 addresses of this name.
#[cfg(test)]
pub(super) fn tests_read(name: &str, answers: Vec<hickory_proto::rr::Record>) -> Reply {
    let question = Question::new(Name::from_ascii(name).unwrap_or_default(), RecordType::A);
    let mut message = Message::new(question.id, MessageType::Response, OpCode::Query);
    message.answers = answers;
    question.read(&message)
}
