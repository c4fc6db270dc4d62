use super::*;

fn read(text: &str) -> Conf {
    Conf::read(text, &Surroundings { hostname: "web1.corp.test".into(), ..Surroundings::default() })
}

fn servers(text: &str) -> Vec<String> {
    read(text).servers.iter().map(SocketAddr::to_string).collect()
}

#[test]
fn a_file_is_read_as_glibc_reads_it() {
    let conf = read(
        "# a comment\n; another\nnameserver 10.0.0.1 # here\n nameserver 10.0.0.9\nnameserver\t::1;x\n\
         domain first.test\nsearch  a.test\tb.test\noptions ndots:5 timeout:2 attempts:3 rotate\noptions use-vc\n",
    );
    assert_eq!(conf.servers, ["10.0.0.1:53".parse().unwrap(), "[::1]:53".parse().unwrap()]);
    assert_eq!(conf.search, ["a.test", "b.test"], "the last of `domain` and `search` counts");
    assert_eq!((conf.ndots, conf.timeout.as_secs(), conf.attempts), (5, 2, 3));
    assert!(conf.rotate && conf.use_vc && !conf.no_aaaa);
    assert_eq!(read("search a.test b.test\ndomain c.test d.test").search, ["c.test"]);
}

#[test]
fn what_is_not_said_has_its_default_and_what_is_too_much_its_limit() {
    let empty = read("");
    assert_eq!(empty.servers, ["127.0.0.1:53".parse().unwrap()]);
    assert_eq!(empty.search, ["corp.test"], "the domain of the host");
    assert_eq!((empty.ndots, empty.timeout.as_secs(), empty.attempts), (1, 5, 2));
    let much = read("options ndots:99 timeout:99 attempts:99");
    assert_eq!((much.ndots, much.timeout.as_secs(), much.attempts), (15, 30, 5));
    let odd = read("options ndots: timeout:x attempts:0 timeout rotate2");
    assert_eq!((odd.ndots, odd.timeout.as_secs(), odd.attempts, odd.rotate), (0, 1, 1, false));
    assert_eq!(servers("nameserver 1.1.1.1\nnameserver 2.2.2.2\nnameserver 3.3.3.3\nnameserver 4.4.4.4").len(), 3);
}

#[test]
fn the_environment_has_the_last_word() {
    let around = Surroundings {
        local_domain: Some("x.test y.test".into()),
        options: Some("ndots:3".into()),
        ..Surroundings::default()
    };
    let conf = Conf::read("search a.test\noptions ndots:2 attempts:1", &around);
    assert_eq!((conf.search, conf.ndots, conf.attempts), (vec!["x.test".into(), "y.test".into()], 3, 1));
}

#[test]
fn a_link_local_server_is_asked_through_its_interface_or_left_out() {
    let interfaces = "00000000000000000000000000000001 01 80 10 80       lo\n\
                      fe800000000000000000000000000001 0a 40 20 80     eth0\n";
    let around = Surroundings { interfaces: interfaces.into(), ..Surroundings::default() };
    let read = |text: &str| Conf::read(text, &around);
    let of = |zone: &str| match read(&format!("nameserver fe80::1%{zone}")).servers[..] {
        [SocketAddr::V6(server)] => Some(server.scope_id()),
        _ => None,
    };
    assert_eq!((of("eth0"), of("10"), of("eth7"), of("0"), of("")), (Some(10), Some(10), None, None, None));
    let conf = read("nameserver fe80::1%eth7\nnameserver 10.0.0.1\nnameserver fe80::1\nnameserver dns.test");
    assert_eq!(conf.servers, ["10.0.0.1:53".parse().unwrap()]);
    assert!(conf.left_out[0].starts_with("fe80::1%eth7: this host has no interface `eth7`"), "{:?}", conf.left_out);
    assert_eq!(conf.left_out.len(), 2, "the fourth line is one too many, whatever it says");
    assert!(read("nameserver dns.test").servers.is_empty(), "nobody is asked who was not named");
}

#[test]
fn the_candidates_are_those_of_res_search() {
    let of = |text: &str, name: &str| read(text).candidates(name).join(" ");
    assert_eq!(of("search one.test two.test", "db"), "db.one.test. db.two.test. db.");
    assert_eq!(of("search one.test two.test", "a.b"), "a.b. a.b.one.test. a.b.two.test.");
    assert_eq!(of("search one.test", "db."), "db.");
    assert_eq!(of("search one.test\noptions ndots:2", "a.b"), "a.b.one.test. a.b.");
    assert_eq!(of("search one.test\noptions ndots:0", "db"), "db. db.one.test.");
    assert_eq!(of("search . one.test", "db"), "db. db.one.test.", "the root of the list stands for the name itself");
    assert_eq!(of("search one.test\noptions no-tld-query", "db"), "db.one.test.");
    assert_eq!(of("search one.test\noptions no-tld-query ndots:3", "a.b"), "a.b.one.test. a.b.");
}

#[test]
fn later_servers_wait_as_in_glibc() {
    let mut conf = read("nameserver 1.1.1.1\nnameserver 2.2.2.2\nnameserver 3.3.3.3");
    let seconds: Vec<u64> = (0..3).map(|place| conf.patience(place).as_secs()).collect();
    assert_eq!(seconds, [5, 3, 6]);
    conf.timeout = Duration::from_millis(300);
    assert_eq!(conf.patience(0), Duration::from_millis(300));
}

#[test]
fn the_order_is_that_of_nsswitch() {
    use NameSource::*;
    let of = |text: &str| (LookupOrder::read(text).sources, LookupOrder::read(text).others.join(" "));
    assert_eq!(of(""), (vec![Hosts, Dns], String::new()));
    assert_eq!(of("passwd: files\nhosts: files mymachines dns # x"), (vec![Hosts, Dns], "mymachines".into()));
    assert_eq!(of("hosts:\tdns [!UNAVAIL=return] files"), (vec![DnsOnly, Hosts], String::new()));
    assert_eq!(of("hosts: files [NOTFOUND=return] dns"), (vec![HostsOnly, Dns], String::new()));
    assert_eq!(of("hosts: files [SUCCESS=return NOTFOUND=continue] dns"), (vec![Hosts, Dns], String::new()));
    let ubuntu = "hosts: files mdns4_minimal [NOTFOUND=return] resolve [!UNAVAIL=return] dns myhostname";
    assert_eq!(of(ubuntu), (vec![Hosts, Dns], "mdns4_minimal myhostname".into()));
}

#[test]
fn a_hosts_file_has_every_line_of_a_name() {
    let text = "10.0.0.7 db other # db2\n\tfd00::7\tDB\nbad db\n#10.0.0.9 db\n10.0.0.8 x db\n10.0.0.7 db\n";
    let of = |name| in_hosts(text, name).iter().map(IpAddr::to_string).collect::<Vec<_>>().join(" ");
    assert_eq!(of("db"), "10.0.0.7 fd00::7 10.0.0.8");
    assert_eq!(
        (of("Other"), of("db2"), of("db."), of("")),
        ("10.0.0.7".into(), String::new(), String::new(), "".into())
    );
}

proptest::proptest! {
    #[test]
    fn no_text_is_too_odd(text in ".*", name in "[a-z.]{1,20}") {
        let conf = Conf::read(&text, &Surroundings { hostname: text.clone(), ..Surroundings::default() });
        let _ = (conf.candidates(&name), LookupOrder::read(&text), in_hosts(&text, &name));
    }
}
