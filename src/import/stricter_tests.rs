//! Tests of what would be weaker than the original: it is refused by its line, or written as strictly.

use super::tests::{haproxy, nginx, refused};
use super::*;

/// What a listener of HAProxy with these lines comes to: the lines that are refused, of which 3 is the first.
fn of_listener(lines: &str) -> Translation {
    haproxy(&format!(
        "frontend f\n  bind 127.0.0.1:80\n{lines}  default_backend db\nbackend db\n  server s 10.0.0.1:80\n\
         backend other\n  server s 10.0.0.2:80\nbackend third\n  server s 10.0.0.3:80\n"
    ))
}

/// Rules that a client must pass one after another are no alternatives, and none is lost between others.
#[test]
fn rules_that_all_hold_are_refused_where_ringway_would_ask_for_one() {
    let (tls, sni) = ("{ req.ssl_hello_type 1 }", "{ req.ssl_sni -i a.x }");
    let delay = "  tcp-request inspect-delay 1s\n";
    let rule = |what: &str, of: &str| format!("  tcp-request content {what} if {of}\n");
    for (lines, line) in [
        (rule("reject", &format!("!{tls}")) + &rule("reject", &format!("!{sni}")), 4),
        (rule("accept", sni) + &rule("reject", tls), 4),
        (rule("accept", "{ src 10.0.0.0/8 }") + &rule("reject", &format!("!{tls}")), 4),
        (rule("accept", sni) + &rule("reject", "!{ src 10.0.0.0/8 }"), 4),
        (rule("accept", sni) + &rule("reject", &format!("!{tls}")), 4),
    ] {
        let all = of_listener(&lines);
        assert_eq!((all.toml.as_str(), refused(&all)), ("", vec![line]), "{lines}");
    }
    let either = of_listener(&(delay.to_string() + &rule("reject", &format!("!{sni} !{{ req.ssl_sni -i b.x }}"))));
    assert_eq!((refused(&either), either.toml.matches("pool = \"db\"").count() > 1), (vec![], true), "{}", either.toml);
    // The name that is refused stands before those that are let in.
    let barred = rule("reject", "{ req.ssl_sni bad.x.com }") + &rule("reject", "!{ req.ssl_sni -m end .x.com }");
    let toml = of_listener(&(delay.to_string() + &barred)).toml;
    let (bad, all) = (toml.find("sni = [\"bad.x.com\"]"), toml.find("sni = [\"*.x.com\"]"));
    assert!(bad.is_some() && bad < all && toml.contains("deny = ["), "{toml}");
    // The rules of a backend are asked behind those of its listener.
    let two = format!(
        "frontend f\n  bind 127.0.0.1:80\n{}  default_backend b\nbackend b\n{}  server s 10.0.0.1:80\n",
        rule("reject", &format!("!{tls}")),
        rule("reject", &format!("!{sni}"))
    );
    assert_eq!(refused(&haproxy(&two)), [6]);
}

#[test]
fn rules_before_a_proxy_header_are_about_the_peer() {
    let expect = "  tcp-request connection expect-proxy layer4\n";
    for rule in ["reject if !{ src 10.0.0.9 }", "reject if { src 10.0.0.9 }", "accept if { src 10.0.0.9 }"] {
        let all = of_listener(&format!("  tcp-request connection {rule}\n{expect}"));
        assert_eq!((all.toml.as_str(), refused(&all)), ("", vec![4]), "{rule}");
    }
    assert_eq!(
        refused(&of_listener(&format!("{expect}  tcp-request connection reject if {{ src 10.0.0.9 }}\n"))),
        [0; 0]
    );
    let server = |more: &str| {
        nginx(&format!(
            "stream {{\nlimit_conn_zone $binary_remote_addr zone=z:1m;\nserver {{ listen 80 proxy_protocol;\n{more}\n\
             proxy_pass 10.0.0.1:80; }}\n}}\n"
        ))
    };
    for more in ["allow 10.0.0.9; deny all;", "deny 10.0.0.9;", "limit_conn z 5;"] {
        assert_eq!(refused(&server(more)), [4], "{more}");
        assert_eq!(refused(&server(&format!("{more} set_real_ip_from 10.0.0.0/8;"))), [0; 0], "{more}");
    }
}

#[test]
fn a_limit_holds_for_what_it_held_for() {
    const TABLE: &str = "  stick-table type ip size 1m store conn_cur,conn_rate(1m)\n  \
                         tcp-request connection track-sc0 src\n";
    let rate = "  tcp-request connection reject if { sc0_conn_rate gt 9 }\n";
    let open = |but: &str| format!("  tcp-request connection reject if {{ sc0_conn_cur gt 5 }}{but}\n");
    assert_eq!(refused(&of_listener(&format!("{TABLE}{rate}{}", open("")))), [0; 0]);
    assert_eq!(refused(&of_listener(&format!("{TABLE}{rate}{}", open(" !{ src 10.0.0.9 }")))), [6]);
    // Two listeners would let in twice as many.
    let bind = "  bind 127.0.0.1:81 accept-proxy\n";
    assert_eq!(refused(&of_listener(&format!("{bind}{TABLE}{rate}"))), [6]);
    assert_eq!(refused(&of_listener(&format!("{bind}  maxconn 9\n"))), [4]);
    assert_eq!(refused(&of_listener(bind)), [0; 0]);
    let front = |name: &str, port: u16| {
        format!(
            "frontend {name}\n  bind 127.0.0.1:{port}\n  tcp-request connection track-sc0 src table t\n{rate}  \
             default_backend b\n"
        )
    };
    let back = "backend b\n  server s 10.0.0.1:80\nbackend t\n  stick-table type ip size 1m store conn_rate(1m)\n";
    assert_eq!(refused(&haproxy(&(front("f", 80) + back))), [0; 0]);
    assert_eq!(refused(&haproxy(&(front("f", 80) + &front("g", 81) + back))), [4, 9]);
    let lifted = format!("backend b\n{TABLE}{rate}  server s 10.0.0.1:80\n");
    let plain = |name: &str, port: u16| format!("frontend {name}\n  bind 127.0.0.1:{port}\n  default_backend b\n");
    assert_eq!(refused(&haproxy(&(plain("f", 80) + &lifted))), [0; 0]);
    assert_eq!(refused(&haproxy(&(plain("f", 80) + &plain("g", 81) + &lifted))), [10]);
    let server = |port: u16| format!("server {{ listen {port}; limit_conn z 5; proxy_pass 10.0.0.1:80; }}\n");
    let zone = "limit_conn_zone $binary_remote_addr zone=z:1m;\n";
    assert_eq!(refused(&nginx(&format!("stream {{\n{zone}{}}}\n", server(80)))), [0; 0]);
    assert_eq!(refused(&nginx(&format!("stream {{\n{zone}{}{}}}\n", server(80), server(81)))), [3, 4]);
}

#[test]
fn a_number_of_servers_is_asked_of_the_pool_that_clients_get() {
    let reject = |of: &str| format!("  tcp-request connection reject if {of}\n");
    assert_eq!(refused(&of_listener(&reject("{ nbsrv(other) lt 2 }"))), [3]);
    let two = reject("{ nbsrv(db) lt 2 }") + "  use_backend other if { req.ssl_sni a.x }\n";
    assert_eq!(refused(&of_listener(&two)), [3]);
    assert_eq!(refused(&of_listener(&reject("!{ nbsrv(db) eq 1 }"))), [3], "no check knows which one is the primary");
    let front = |name: &str, count: u64| {
        format!(
            "frontend {name}\n  bind 127.0.0.1:8{count}\n{}  default_backend b\n",
            reject(&format!("{{ nbsrv(b) lt {count} }}"))
        )
    };
    let all = front("f", 3)
        + &front("g", 2)
        + "backend b\n  server s 10.0.0.1:80\n  server t 10.0.0.2:80\n  \
                                                server u 10.0.0.3:80\n";
    assert!(haproxy(&all).toml.contains("up_min = 3"), "{}", haproxy(&all).toml);
    let most = u64::MAX;
    let none = of_listener(&reject(&format!("{{ nbsrv(db) le {most} }}")));
    assert!(!none.toml.contains("[listeners"), "{}", none.toml);
}

#[test]
fn a_pool_falls_back_for_all_of_its_clients_or_the_way_is_refused() {
    let way = |pool: &str, of: &str| format!("  use_backend {pool} if {of}\n");
    let (x, y, up) = ("{ req.ssl_sni x.x }", "{ req.ssl_sni y.x }", "{ nbsrv(other) gt 0 }");
    let to_other = |of: &str| way("other", &format!("{of} {up}"));
    assert_eq!(refused(&of_listener(&(to_other(x) + &to_other(y)))), [0; 0]);
    for lines in [
        to_other(x) + &way("third", x) + &to_other(y),
        to_other(x) + &way("other", y),
        way("third", &format!("{x} {{ nbsrv(db) lt 2 }}")),
        to_other(x) + &way("third", "{ nbsrv(db) lt 2 }"),
    ] {
        let all = of_listener(&lines);
        assert_eq!((all.toml.as_str(), refused(&all).len()), ("", 1), "{lines}");
    }
    let disabled = "frontend f\n  bind 127.0.0.1:80\n  default_backend b\nbackend b\n  disabled\n  \
                    server s 10.0.0.1:80\n";
    assert_eq!((haproxy(disabled).toml.as_str(), refused(&haproxy(disabled))), ("", vec![1]));
}

#[test]
fn a_check_asks_one_question_and_numbers_have_an_end() {
    let back = |lines: &str| {
        haproxy(&format!("listen a\n  bind 127.0.0.1:80\n{lines}  server s 10.0.0.1:80 check maxconn 1\n"))
    };
    for second in ["send uri /b", "connect port 82"] {
        let first = "  option httpchk\n  http-check connect port 81\n  http-check send uri /a\n";
        assert_eq!(refused(&back(&format!("{first}  http-check {second}\n"))), [6], "{second}");
        assert_eq!(refused(&back(first)), [0; 0]);
    }
    assert!(back(&format!("  retries {}\n", u64::MAX)).toml.contains("connect_attempts = 100"));
    let secret = back("  stats auth admin:SECRET\n");
    assert!(secret.notes.iter().any(|note| note.text.starts_with("`stats auth` is left out")), "{:?}", secret.notes);
    assert!(secret.notes.iter().all(|note| !note.text.contains("SECRET")));
}

/// nginx takes the exact name, then the longest star, wherever the servers stand, and variables are each server's own.
#[test]
fn servers_of_nginx_are_told_apart_as_there() {
    let server =
        |names: &str, ip: u8| format!("server {{ listen 80; ssl_preread on; {names} proxy_pass 10.0.0.{ip}:80; }}\n");
    let all = [
        server("server_name a.b.x;", 1),
        server("server_name *.x;", 2),
        server("server_name *.b.x;", 3),
        server("server_name c.x;", 4),
    ]
    .concat();
    let toml = nginx(&format!("stream {{\n{all}}}\n")).toml;
    let places: Vec<Option<usize>> = ["a.b.x", "*.b.x", "*.x"].map(|name| toml.find(&format!("[\"{name}\"]"))).to_vec();
    assert!(places.iter().all(Option::is_some) && places.is_sorted(), "{toml}");
    assert!(toml.find("[\"c.x\"]") < places[1], "{toml}");
    let set = |port: u16, ip: u8| format!("server {{ listen {port}; set $to 10.0.0.{ip}:80; proxy_pass $to; }}\n");
    let toml = nginx(&format!("stream {{\n{}{}}}\n", set(81, 1), set(82, 2))).toml;
    assert!(toml.contains("10.0.0.1:80") && toml.contains("10.0.0.2:80"), "{toml}");
}
