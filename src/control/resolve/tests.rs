use super::*;
use hickory_resolver::proto::op::{Message, MessageType, OpCode, ResponseCode};
use hickory_resolver::proto::rr::rdata::{A, AAAA};
use hickory_resolver::proto::rr::{RData, Record};
use std::net::UdpSocket;
use std::sync::atomic::{AtomicBool, Ordering};

/// Runs a future as control does.
fn run<T>(future: impl Future<Output = T>) -> T {
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

fn lookup(server: SocketAddr, host: &str) -> Answer {
    run(Resolver { server: Some(server), read: Rc::default() }.lookup(host))
}

fn v4(last: u8) -> RData {
    RData::A(A::new(10, 0, 0, last))
}

fn found(ips: &[&str], ttl_s: u64) -> Family {
    let addresses = ips.iter().map(|ip| ip.parse().unwrap()).collect();
    Family::Found { addresses, ttl: Duration::from_secs(ttl_s) }
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
    assert_eq!(answer, Answer { v4: found(&["10.0.0.1", "10.0.0.2"], 7), v6: found(&["fd00::1"], 0) });
}

#[test]
fn what_is_denied_and_what_is_not_said_are_two_things() {
    let of = |code| {
        let answer = move |_: &str, kind| Some(if kind == RecordType::A { Ok(vec![(v4(1), 9)]) } else { Err(code) });
        let answer = with_server(answer, |server| lookup(server, "db.example"));
        assert_eq!(answer.v4, found(&["10.0.0.1"], 9));
        answer.v6
    };
    assert_eq!(of(ResponseCode::NXDomain), Family::Absent);
    assert_eq!(of(ResponseCode::NoError), Family::Absent);
    for code in [ResponseCode::Refused, ResponseCode::ServFail] {
        assert!(matches!(of(code), Family::Failed(_)), "{code}");
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
    assert!(matches!(answer.v6, Family::Failed(_)), "{:?}", answer.v6);
    assert!(begun.now().since_ns(since) < 5_000_000_000);
}

#[test]
fn a_server_that_is_not_there_and_a_name_that_is_none_are_failures() {
    let closed = UdpSocket::bind("127.0.0.1:0").unwrap().local_addr().unwrap();
    assert!(matches!(lookup(closed, "db.example").v4, Family::Failed(_)));
    assert!(matches!(lookup(closed, &"x".repeat(300)).v4, Family::Failed(_)));
}

#[test]
fn the_hosts_file_answers_without_dns() {
    let closed = UdpSocket::bind("127.0.0.1:0").unwrap().local_addr().unwrap();
    let mut hosts = Hosts::default();
    hosts.read_hosts_conf("10.0.0.7 db other\nfd00::7 db\n10.0.0.8 db".as_bytes()).unwrap();
    let system = System::of(only(closed), ResolverOpts::default(), hosts).unwrap();
    let lookup = |host| run(system.lookup(Name::from_ascii(host).unwrap()));
    assert_eq!(lookup("db"), Answer { v4: found(&["10.0.0.7", "10.0.0.8"], 86400), v6: found(&["fd00::7"], 86400) });
    assert_eq!(lookup("other."), Answer { v4: found(&["10.0.0.7"], 86400), v6: Family::Absent });
    assert!(matches!(lookup("nobody").v4, Family::Failed(_)), "here DNS is asked");
}

/// A system with two search domains, and what it asks for until something is found.
fn searching(server: SocketAddr, host: &str) -> (Vec<String>, Answer) {
    let name = |text| Name::from_ascii(text).unwrap();
    let mut config = only(server);
    ["one.test", "two.test"].into_iter().for_each(|domain| config.add_search(name(domain)));
    let system = System::of(config, ResolverOpts::default(), Hosts::default()).unwrap();
    let candidates = system.candidates(name(host));
    let answer = run(system.lookup(name(host)));
    (candidates.iter().map(Name::to_string).collect(), answer)
}

#[test]
fn a_short_name_is_searched_for_and_a_complete_one_is_not() {
    let answer =
        |name: &str, _| Some(if name == "db.two.test." { Ok(vec![(v4(2), 9)]) } else { Err(ResponseCode::NXDomain) });
    with_server(answer, |server| {
        let (asked, answer) = searching(server, "db");
        assert_eq!(asked, ["db.one.test.", "db.two.test.", "db."]);
        assert_eq!(answer.v4, found(&["10.0.0.2"], 9));
        let (asked, answer) = searching(server, "db.");
        assert_eq!((asked, answer.v4), (vec!["db.".to_owned()], Family::Absent));
        assert_eq!(searching(server, "a.b").0, ["a.b.", "a.b.one.test.", "a.b.two.test."]);
    });
}

/// Another name is another server, and not a stand-in for one that cannot be looked up just now.
#[test]
fn the_search_goes_on_only_after_a_denial() {
    let answer =
        |name: &str, _| Some(if name == "db.two.test." { Ok(vec![(v4(2), 9)]) } else { Err(ResponseCode::ServFail) });
    with_server(answer, |server| assert!(matches!(searching(server, "db").1.v4, Family::Failed(_))));
}
