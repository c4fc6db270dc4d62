//! A DNS server that says what it is told to say.

use std::net::{IpAddr, SocketAddr, UdpSocket};
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::sync::{Arc, Mutex};
use std::thread::JoinHandle;
use std::time::Duration;

use hickory_proto::op::{Message, MessageType, OpCode, ResponseCode};
use hickory_proto::rr::rdata::{A, AAAA, SRV};
use hickory_proto::rr::{Name, RData, Record, RecordType};

use super::wait_until;

/// What is answered to every question.
#[derive(Clone, Debug)]
pub enum Says {
    /// These addresses, with a time to live in seconds.
    Addresses(Vec<IpAddr>, u32),
    /// These SRV records (priority, weight, port, target), with a time to live in seconds.
    Services(Vec<(u16, u16, u16, String)>, u32),
    /// The name exists and has no addresses.
    Empty,
    NxDomain,
    Refused,
    /// Nothing at all.
    Nothing,
    /// An answer to another question.
    WrongId,
    /// That there is more than fits; and there is no TCP to ask for it.
    Truncated,
}

/// See the module. UDP, on a port of 127.0.0.1.
pub struct Dns {
    address: SocketAddr,
    shared: Arc<Shared>,
    thread: Option<JoinHandle<()>>,
}

struct Shared {
    says: Mutex<Says>,
    questions: AtomicUsize,
    is_over: AtomicBool,
}

impl Dns {
    pub fn new(says: Says) -> Dns {
        Dns::at("127.0.0.1:0", says)
    }

    /// At that address.
    pub fn at(address: &str, says: Says) -> Dns {
        Dns::serving(address, says, |_| None)
    }

    /// At that address, saying something else for each name, which is in lower case and ends in a dot.
    pub fn answering(address: &str, says: impl Fn(&str) -> Says + Send + 'static) -> Dns {
        Dns::serving(address, Says::Nothing, move |name| Some(says(name)))
    }

    /// On a port of its own, saying something else for these names, which are in lower case and end in a dot.
    pub fn naming(says: Says, names: Vec<(String, Says)>) -> Dns {
        let find = move |name: &str| names.iter().find(|(known, _)| known == name).map(|(_, says)| says.clone());
        Dns::serving("127.0.0.1:0", says, find)
    }

    fn serving(address: &str, says: Says, by_name: impl Fn(&str) -> Option<Says> + Send + 'static) -> Dns {
        let socket = UdpSocket::bind(address).unwrap();
        socket.set_read_timeout(Some(Duration::from_millis(50))).unwrap();
        let address = socket.local_addr().unwrap();
        let shared = Arc::new(Shared {
            says: Mutex::new(says),
            questions: AtomicUsize::new(0),
            is_over: AtomicBool::new(false),
        });
        let thread = {
            let shared = shared.clone();
            std::thread::spawn(move || serve(&socket, &shared, by_name))
        };
        Dns { address, shared, thread: Some(thread) }
    }

    /// These IPv4 or IPv6 addresses, for a second.
    pub fn with(addresses: &[IpAddr]) -> Dns {
        Dns::new(Says::Addresses(addresses.to_vec(), 1))
    }

    /// For `RINGWAY_RESOLVER`.
    pub fn address(&self) -> String {
        self.address.to_string()
    }

    /// From now on.
    pub fn say(&self, says: Says) {
        *self.shared.says.lock().unwrap() = says;
    }

    /// Waits until it was asked so many times more.
    #[track_caller]
    pub fn wait_questions(&self, more: usize) {
        let until = self.shared.questions.load(Ordering::Relaxed) + more;
        wait_until("it is asked again", || self.shared.questions.load(Ordering::Relaxed) >= until);
    }
}

impl Drop for Dns {
    fn drop(&mut self) {
        self.shared.is_over.store(true, Ordering::Relaxed);
        if let Some(thread) = self.thread.take() {
            let _ = thread.join();
        }
    }
}

fn serve(socket: &UdpSocket, shared: &Shared, by_name: impl Fn(&str) -> Option<Says>) {
    let mut buffer = [0; 4096];
    while !shared.is_over.load(Ordering::Relaxed) {
        let Ok((length, from)) = socket.recv_from(&mut buffer) else { continue };
        let Ok(question) = Message::from_vec(&buffer[..length]) else { continue };
        let name = question.queries.first().map(|query| query.name().to_lowercase().to_string());
        let says = name.and_then(|name| by_name(&name)).unwrap_or_else(|| shared.says.lock().unwrap().clone());
        if let Some(answer) = answer(&question, &says) {
            let _ = socket.send_to(&answer.to_vec().unwrap(), from);
        }
        shared.questions.fetch_add(1, Ordering::Relaxed);
    }
}

fn answer(question: &Message, says: &Says) -> Option<Message> {
    let query = question.queries.first()?.clone();
    let id = question.metadata.id;
    let id = if matches!(says, Says::WrongId) { id.wrapping_add(1) } else { id };
    let mut answer = Message::new(id, MessageType::Response, OpCode::Query);
    answer.metadata.recursion_desired = true;
    answer.metadata.recursion_available = true;
    match says {
        Says::Nothing => return None,
        Says::NxDomain => answer.metadata.response_code = ResponseCode::NXDomain,
        Says::Refused => answer.metadata.response_code = ResponseCode::Refused,
        Says::Truncated => answer.metadata.truncation = true,
        Says::Empty => {}
        Says::WrongId => {
            answer.answers.push(Record::from_rdata(query.name().clone(), 1, RData::A(A::new(127, 0, 0, 1))));
        }
        Says::Services(records, ttl) => {
            let record = |(priority, weight, port, target): &(u16, u16, u16, String)| {
                let srv = SRV::new(*priority, *weight, *port, Name::from_ascii(target).unwrap());
                Record::from_rdata(query.name().clone(), *ttl, RData::SRV(srv))
            };
            let is_asked_for = query.query_type() == RecordType::SRV;
            answer.answers.extend(records.iter().filter(|_| is_asked_for).map(record));
        }
        Says::Addresses(addresses, ttl) => {
            let record = |ip: &IpAddr| match (ip, query.query_type()) {
                (IpAddr::V4(ip), RecordType::A) => Some(RData::A(A(*ip))),
                (IpAddr::V6(ip), RecordType::AAAA) => Some(RData::AAAA(AAAA(*ip))),
                _ => None,
            };
            let records = addresses.iter().filter_map(record);
            answer.answers.extend(records.map(|data| Record::from_rdata(query.name().clone(), *ttl, data)));
        }
    }
    answer.queries.push(query);
    Some(answer)
}
