use super::*;
use hickory_proto::op::{Message, MessageType, OpCode, ResponseCode};
use hickory_proto::rr::rdata::{A, AAAA};
use hickory_proto::rr::{RData, Record, RecordType};
use std::net::UdpSocket;
use std::sync::atomic::{AtomicBool, Ordering};

/// Runs a future as control does.
pub(super) fn run<T>(future: impl Future<Output = T>) -> T {
    tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap().block_on(future)
}

/// Answers each question as `answer` says, by name and type; `None` is no answer.
fn with_server<T>(
    answer: impl Fn(&str, RecordType) -> Option<Result<Vec<(RData, u32)>, ResponseCode>> + Sync,
    ask: impl FnOnce(SocketAddr) -> T,
) -> T {
    let socket = UdpSocket::bind("127.0.0.1:0").unwrap();
    socket.set_read_timeout(Some(Duration::from_millis(20))).unwrap();
    let (address, is_over) = (socket.local_addr().unwrap(), AtomicBool::new(false));
    let serve = || {
        let mut buffer = [0; 2048];
        while !is_over.load(Ordering::Relaxed) {
            let Ok((length, from)) = socket.recv_from(&mut buffer) else { continue };
            let question = Message::from_vec(&buffer[..length]).unwrap();
            let query = question.queries[0].clone();
            let Some(answer) = answer(&query.name().to_string(), query.query_type()) else { continue };
            let mut message = Message::new(question.metadata.id, MessageType::Response, OpCode::Query);
            message.metadata.recursion_available = true;
            match answer {
                Ok(records) => {
                    let records = records.into_iter();
                    let record = |(data, ttl)| Record::from_rdata(query.name().clone(), ttl, data);
                    message.answers.extend(records.map(record));
                }
                Err(code) => message.metadata.response_code = code,
            }
            message.queries.push(query);
            socket.send_to(&message.to_vec().unwrap(), from).unwrap();
        }
    };
    std::thread::scope(|scope| {
        scope.spawn(serve);
        let result = std::panic::catch_unwind(std::panic::AssertUnwindSafe(|| ask(address)));
        is_over.store(true, Ordering::Relaxed);
        result.unwrap()
    })
}

fn lookup(server: SocketAddr, host: &str) -> Resolution {
    run(Resolver::with(Some(server), &Dns::default()).lookup(host))
}

fn v4(last: u8) -> RData {
    RData::A(A::new(10, 0, 0, last))
}

fn found(ips: &[&str], ttl_s: u64) -> FamilyAnswer {
    let addresses = ips.iter().map(|ip| ip.parse().unwrap()).collect();
    FamilyAnswer::Found { addresses, ttl: Duration::from_secs(ttl_s) }
}

#[test]
fn both_kinds_of_address_are_found_with_the_least_time_to_live() {
    let answer = |_: &str, kind| {
        Some(Ok(match kind {
            RecordType::A => vec![(v4(1), 60), (v4(2), 7)],
            _ => vec![(RData::AAAA(AAAA::new(0xfd00, 0, 0, 0, 0, 0, 0, 1)), 0)],
        }))
    };
    let answer = with_server(answer, |server| lookup(server, "db.example"));
    let from = Some("db.example.".into());
    assert_eq!(answer, Resolution::of(found(&["10.0.0.1", "10.0.0.2"], 7), found(&["fd00::1"], 0), from));
}

#[test]
fn what_is_denied_and_what_is_not_said_are_two_things() {
    let of = |code| {
        let answer = move |_: &str, kind| Some(if kind == RecordType::A { Ok(vec![(v4(1), 9)]) } else { Err(code) });
        let answer = with_server(answer, |server| lookup(server, "db.example"));
        assert_eq!(answer.v4, found(&["10.0.0.1"], 9));
        answer.v6
    };
    assert_eq!(of(ResponseCode::NXDomain), FamilyAnswer::Absent);
    assert_eq!(of(ResponseCode::NoError), FamilyAnswer::Absent);
    for code in [ResponseCode::Refused, ResponseCode::ServFail] {
        assert!(matches!(of(code), FamilyAnswer::Failed(_)), "{code}");
    }
}

/// Servers that drop questions for AAAA are not rare.
#[test]
fn the_family_that_is_not_answered_does_not_hold_up_the_other() {
    let answer = |_: &str, kind| (kind == RecordType::A).then(|| Ok(vec![(v4(1), 9)]));
    let begun = crate::base::time::Clock::new();
    let since = begun.now();
    let answer = with_server(answer, |server| lookup(server, "db.example"));
    assert_eq!(answer.v4, found(&["10.0.0.1"], 9));
    assert!(matches!(answer.v6, FamilyAnswer::Failed(_)), "{:?}", answer.v6);
    assert!(begun.now().since_ns(since) < 5_000_000_000);
}

#[test]
fn a_server_that_is_not_there_and_a_name_that_is_none_are_failures() {
    let closed = UdpSocket::bind("127.0.0.1:0").unwrap().local_addr().unwrap();
    assert!(matches!(lookup(closed, "db.example").v4, FamilyAnswer::Failed(_)));
    assert!(matches!(lookup(closed, &"x".repeat(300)).v4, FamilyAnswer::Failed(_)));
}

/// A resolver with these files.
fn with_files(conf: &str, hosts: &str, server: SocketAddr) -> Resolver {
    let resolver = Resolver::with(None, &Dns::default());
    resolver.0.files.borrow_mut().look();
    let mut conf = Conf::read(conf, &conf::Surroundings::default());
    conf.servers = vec![server];
    conf.timeout = Duration::from_millis(300);
    let system = System { conf: Arc::new(conf), order: LookupOrder::default(), hosts: hosts.to_owned() };
    resolver.0.system.replace(Some(Rc::new(system)));
    resolver
}

#[test]
fn the_hosts_file_answers_without_dns_and_a_reason_says_where_it_was_looked() {
    let closed = UdpSocket::bind("127.0.0.1:0").unwrap().local_addr().unwrap();
    let resolver = with_files("", "10.0.0.7 db other\nfd00::7 db\n10.0.0.8 db", closed);
    let lookup = |host| run(resolver.lookup(host));
    let db = Resolution::of(found(&["10.0.0.7", "10.0.0.8"], 300), found(&["fd00::7"], 300), None);
    assert_eq!(lookup("DB"), db);
    assert_eq!(lookup("other"), Resolution::of(found(&["10.0.0.7"], 300), FamilyAnswer::Absent, None));
    let nobody = lookup("nobody");
    assert!(matches!(nobody.v4, FamilyAnswer::Failed(_)), "here DNS is asked");
    assert!(nobody.looked.starts_with("it is not in /etc/hosts; DNS cannot say (nobody: 127.0.0.1:"), "{nobody:?}");
}

#[test]
fn a_short_name_is_searched_for_and_a_denial_says_what_was_asked() {
    let answer =
        |name: &str, _| Some(if name == "db.two.test." { Ok(vec![(v4(2), 9)]) } else { Err(ResponseCode::NXDomain) });
    with_server(answer, |server| {
        let resolver = with_files("search one.test two.test", "", server);
        let answer = run(resolver.lookup("db"));
        assert_eq!((answer.v4, answer.from.as_deref()), (found(&["10.0.0.2"], 9), Some("db.two.test.")));
        let answer = run(resolver.lookup("x"));
        let looked = format!("it is not in /etc/hosts; DNS ({server}) has no address of x.one.test, x.two.test, x");
        assert_eq!((answer.is_denial(), answer.looked), (true, looked));
    });
}

/// Servers may send an alias with the addresses; others they send are not ours.
#[test]
fn aliases_are_followed_and_what_does_not_belong_to_the_name_is_not_used() {
    let name = |text: &str| hickory_proto::rr::Name::from_ascii(text).unwrap();
    let alias = |to: &str| RData::CNAME(hickory_proto::rr::rdata::CNAME(name(to)));
    let question = wire::tests_read(
        "db.test.",
        vec![
            Record::from_rdata(name("DB.test."), 30, alias("Real.test.")),
            Record::from_rdata(name("other.test."), 1, v4(9)),
            Record::from_rdata(name("real.test."), 60, v4(1)),
        ],
    );
    assert_eq!(question, Reply::Found(vec!["10.0.0.1".parse().unwrap()], Duration::from_secs(30)));
}
