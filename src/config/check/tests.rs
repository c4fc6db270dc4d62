use std::time::Duration;

use super::*;
use crate::config::load;
use crate::config::model::{CheckTls, HttpAsk, Trust};

/// A configuration whose check has these lines.
fn read(lines: &str) -> Result<Check, Vec<String>> {
    let text = format!(
        "[listeners.l]\nbind = \"127.0.0.1:0\"\npool = \"p\"\n[[pools.p.backends]]\naddress = \"10.0.0.1:1\"\n\
         [pools.p.check]\n{lines}\n"
    );
    let config = load(&text, "f", &|_: &str| None);
    let config = config.map_err(|errors| errors.iter().map(ToString::to_string).collect::<Vec<_>>())?;
    Ok(config.pools[0].check.clone().unwrap())
}

fn kind(lines: &str) -> CheckKind {
    read(lines).unwrap_or_else(|errors| panic!("{lines}: {errors:?}")).kind
}

#[test]
fn escapes_are_decoded_and_bad_ones_refused() {
    assert_eq!(unescape("a\\r\\n\\t\\\\\\x00\\xfFü").unwrap(), b"a\r\n\t\\\x00\xff\xc3\xbc");
    assert_eq!(unescape("").unwrap(), b"");
    for text in ["\\", "\\q", "\\x", "\\x0", "\\xg0", "\\x+1", "\\xü", "a\\"] {
        assert!(unescape(text).is_err(), "{text}");
    }
}

#[test]
fn each_kind_means_what_is_written() {
    let CheckKind::SendExpect { mut steps } = kind("type = \"send_expect\"\nsend = 'PING\\r\\n'\nexpect = '^\\+PONG'")
    else {
        panic!("not send_expect")
    };
    let Step { send, expect } = steps.remove(0);
    assert_eq!(send, b"PING\r\n");
    assert!(expect.is_some_and(|pattern| pattern.is_match(b"+PONG\xff") && !pattern.is_match(b"-ERR +PONG")));
    let status = "type = \"http\"\nstatus = [200, \"300-399\"]";
    let http = |status, drain_status| {
        CheckKind::Http(HttpAsk { path: "/health".to_string(), status, drain_status, ..HttpAsk::default() })
    };
    assert_eq!(kind(status), http(vec![(200, 200), (300, 399)], vec![]));
    assert_eq!(kind("type = \"http\"\ndrain_status = [503]"), http(vec![(200, 200)], vec![(503, 503)]));
    let steps = "type = \"send_expect\"\nsteps = [{ expect = '^220' }, { send = 'EHLO x\\r\\n', expect = '^250' }]";
    let CheckKind::SendExpect { steps } = kind(steps) else { panic!("not send_expect") };
    assert!(steps[0].send.is_empty() && steps[1].send == b"EHLO x\r\n" && steps.len() == 2, "{steps:?}");
    assert_eq!(kind("type = \"mysql\""), CheckKind::Mysql { login: None, galera: None });
    let login =
        |user: &str, file: Option<&str>| Some(Login { user: user.to_string(), password_file: file.map(Into::into) });
    let postgresql = "type = \"postgresql\"\nuser = \"u\"\npassword_file = \"/f\"\ndatabase = \"d\"";
    let expected = CheckKind::Postgresql { login: login("u", Some("/f")), database: "d".to_string() };
    assert_eq!(kind(postgresql), expected);
    assert_eq!(kind("type = \"redis\"\nrole = \"any\""), CheckKind::Redis { login: None });
    let redis = "type = \"redis\"\npassword_file = \"/f\"";
    assert_eq!(kind(redis), CheckKind::Redis { login: login("", Some("/f")) }, "the default user");
    let replica = read("type = \"redis\"\nrole = \"replica\"\nlag_max = \"10s\"").unwrap();
    assert_eq!((replica.role, replica.lag_max), (Some(Role::Replica), Duration::from_secs(10)));
}

#[test]
fn an_http_check_asks_as_it_is_told() {
    let lines = "type = \"http\"\nmethod = \"POST\"\nhost = \"www.example.com:8443\"\n\
                 headers = { X-Token = \"a b\", accept = \"text/plain\" }\npath = \"/x\"\nexpect = \"ok$\"";
    let CheckKind::Http(ask) = kind(lines) else { panic!("not http") };
    assert_eq!((&*ask.method, &*ask.host, &*ask.path), ("POST", "www.example.com:8443", "/x"));
    let headers = [("X-Token", "a b"), ("accept", "text/plain")].map(|(name, value)| (name.into(), value.into()));
    assert_eq!(ask.headers, headers);
    assert_eq!(ask.expect.unwrap().as_str(), "ok$");
    for (lines, says) in [
        ("method = \"get\"", "`method` cannot be \"get\"; write a method in capitals"),
        ("method = \"CONNECT\"", "it asks for a tunnel"),
        ("method = \"HEAD\"\nexpect = \"x\"", "`expect` needs a body; the answer to HEAD has none"),
        ("host = \"http://x\"", "`host` cannot be \"http://x\"; write a host as browsers send it"),
        ("host = \"u@x\"", "write a host as browsers send it"),
        ("headers = { host = \"x\" }", "`headers` cannot be \"host\"; it is `host` here"),
        ("headers = { Connection = \"x\" }", "ringway sends that one itself"),
        ("headers = { \"a b\" = \"x\" }", "it is no name of a header"),
        ("headers = { x = \"a\\nb\" }", "its value must be one line of visible characters"),
        ("headers = { x = 1 }", "`headers` is the number 1; it takes a table of headers"),
        ("headers = [\"x: y\"]", "`headers`"),
        ("expect = \"(\"", "`expect` cannot be this pattern; it is no regular expression"),
    ] {
        let errors = read(&format!("type = \"http\"\n{lines}")).expect_err(lines);
        assert!(errors.len() == 1 && errors[0].contains(says), "{lines}: {errors:?}");
    }
}

/// `expect` belongs to two kinds. Alone it awaits a greeting, as it always did.
#[test]
fn a_text_that_is_expected_alone_is_one_of_a_greeting() {
    assert_eq!(kind("expect = '^SSH'").name(), "send_expect");
    assert_eq!(kind("expect = 'ok'\npath = \"/x\"").name(), "http");
    assert_eq!(kind("expect = 'ok'\nsend = 'x'").name(), "send_expect");
}

#[test]
fn tls_is_preferred_where_a_database_can_offer_it_and_required_where_that_is_written() {
    let tls = |lines: &str| read(lines).unwrap_or_else(|errors| panic!("{lines}: {errors:?}")).tls;
    for (kind, expected) in [("postgresql", "prefer"), ("mysql", "prefer"), ("redis", "off"), ("tcp", "off")] {
        assert_eq!(tls(&format!("type = \"{kind}\"")).name(), expected);
    }
    assert_eq!(tls("type = \"mysql\"\ntls = \"off\""), CheckTls::Off);
    let require = |trust, name: &str| CheckTls::Require { trust, server_name: name.to_string(), identity: None };
    assert_eq!(tls("tls = \"require\""), require(Trust::System, ""));
    assert_eq!(tls("tls = \"require\"\nverify = false"), require(Trust::Unverified, ""));
    let whole = "type = \"http\"\ntls = \"require\"\nca_file = \"/ca.pem\"\nserver_name = \"db.example\"";
    assert_eq!(tls(whole), require(Trust::File("/ca.pem".into()), "db.example"));
    assert_eq!(read(whole).unwrap().files().map(|(key, _)| key).collect::<Vec<_>>(), ["ca_file"]);
    assert_eq!(tls("tls = \"require\"\nserver_name = \"::1\""), require(Trust::System, "::1"));
    let user = "type = \"postgresql\"\nuser = \"u\"\ntls = \"off\"";
    assert_eq!(tls(user), CheckTls::Off);
    for (lines, says) in [
        (
            "type = \"redis\"\ntls = \"prefer\"",
            "`tls` cannot be \"prefer\"; the protocol of a redis check cannot offer it",
        ),
        ("type = \"postgresql\"\ntls = \"off\"", "`tls` needs `user`; without it"),
        ("verify = false", "`verify` needs `tls = \"require\"`"),
        ("type = \"mysql\"\nca_file = \"/x\"", "`ca_file` needs `tls = \"require\"`"),
        ("tls = \"require\"\nca_file = \"x.pem\"", "`ca_file` cannot be \"x.pem\"; write the whole path"),
        ("tls = \"require\"\nverify = false\nca_file = \"/x\"", "`ca_file` needs `verify = true`"),
        ("tls = \"require\"\nserver_name = \"a:443\"", "`server_name` cannot be \"a:443\"; write a name or an IP"),
        ("type = \"mysql\"\ngalera = true", "`galera` needs `user`"),
        (
            "type = \"mysql\"\nuser = \"u\"\ngalera = \"doner\"",
            "`galera` cannot be \"doner\"; write true, false or \"donor\"",
        ),
        ("also_ports = [80, 80]", "`also_ports` cannot be 80; write each port once"),
        ("also_ports = [0]", "`also_ports` cannot be 0; write ports from 1 to 65535"),
        ("also_ports = \"80\"", "`also_ports` is a text; it takes a list of ports"),
    ] {
        let errors = read(lines).expect_err(lines);
        assert!(errors.len() == 1 && errors[0].contains(says), "{lines}: {errors:?}");
    }
}

#[test]
fn a_unix_socket_has_no_ports_and_no_name_to_prove() {
    let of = |lines: &str| {
        let text = format!(
            "[listeners.l]\nbind = \"127.0.0.1:0\"\npool = \"p\"\n[[pools.p.backends]]\nname = \"s\"\n\
             address = \"unix:/s\"\n[pools.p.check]\n{lines}\n"
        );
        load(&text, "f", &|_: &str| None).err().map(|errors| errors.iter().map(ToString::to_string).collect::<String>())
    };
    for (lines, says) in [
        ("tls = \"require\"", "`tls` needs `server_name`; the unix socket of `s` has no name"),
        ("also_ports = [80]", "`also_ports` needs a host with ports; `s` is a unix socket"),
        ("agent_port = 80", "`agent_port` needs a host with ports; `s` is a unix socket"),
    ] {
        let errors = of(lines).unwrap_or_default();
        assert!(errors.contains(says), "{lines}: {errors}");
    }
    assert_eq!(of("tls = \"require\"\nserver_name = \"db.example\""), None);
    assert_eq!(of("tls = \"require\"\nverify = false"), None);
}

#[test]
fn a_primary_must_prove_itself_first() {
    for (role, up) in [("any", true), ("replica", true), ("primary", false)] {
        let check = read(&format!("type = \"redis\"\ninitial = \"up\"\nrole = \"{role}\"")).unwrap();
        assert_eq!(check.initial_up, up, "{role}");
    }
}

#[test]
fn a_key_that_would_have_no_effect_is_refused_with_a_hint() {
    let cases = [
        (
            "type = \"tcp\"\npath = \"/x\"",
            "`path` needs a check of another kind than \"tcp\"; set `type` to \"http\", or leave `path` out",
        ),
        (
            "type = \"http\"\nsend = \"x\"",
            "`send` needs a check of another kind than \"http\"; set `type` to \"send_expect\"",
        ),
        ("type = \"http\"\nrole = \"primary\"", "set `type` to \"postgresql\", \"mysql\" or \"redis\""),
        ("type = \"redis\"\ndatabase = \"d\"", "`database` needs a check of another kind than \"redis\""),
        ("type = \"mysql\"\nrole = \"primary\"", "`role` needs `user`; without it a mysql check does not log in"),
        ("type = \"postgresql\"\ndatabase = \"d\"", "`database` needs `user`"),
        ("type = \"postgresql\"\npassword_file = \"/f\"", "`password_file` needs `user`"),
        ("type = \"redis\"\nlag_max = \"5s\"", "`lag_max` needs `role = \"replica\"`; only a replica lags behind"),
        ("type = \"redis\"\nlag_max = \"5s\"\nrole = \"primary\"", "`lag_max` needs `role = \"replica\"`"),
        ("type = \"send_expect\"", "`type` needs `send`, `expect` or both; with neither, write `type = \"tcp\"`"),
        ("type = \"http\"\nstatus = []", "`status` cannot be []; write at least one code"),
        ("type = \"http\"\npath = \"health\"", "`path` cannot be \"health\"; it begins with `/`"),
        ("type = \"http\"\npath = \"/a b\"", "as %HH"),
        ("type = \"http\"\npath = \"/a\\r\\nX: y\"", "as %HH"),
        (
            "type = \"send_expect\"\nexpect = \"(\"",
            "`expect` cannot be this pattern; it is no regular expression: unclosed group",
        ),
        ("type = \"send_expect\"\nsend = '\\q'", "`send` cannot be this text; it knows"),
        ("type = \"redis\"\nuser = \"a\\u0000b\"", "`user` cannot be \"a\\u0000b\"; it holds no control characters"),
    ];
    for (lines, expected) in cases {
        let errors = read(lines).expect_err(lines);
        assert_eq!(errors.len(), 1, "{lines}: {errors:#?}");
        assert!(errors[0].contains(expected) && !errors[0].contains('\n'), "{lines}: {}", errors[0]);
        let line = 6 + lines.lines().count();
        let last =
            lines.lines().count() == 1 || errors[0].starts_with(&format!("f:{line}:")) || errors[0].contains("lag_max");
        assert!(last, "it stands where the fault is: {}", errors[0]);
    }
}

/// `path = "/health"` alone was a check that only connects, and said nothing of it.
#[test]
fn a_key_of_one_kind_says_which_kind_is_meant() {
    let name = |lines: &str| kind(lines).name();
    assert_eq!(name("path = \"/health\""), "http");
    assert_eq!(name("status = [200]"), "http");
    assert_eq!(name("path = \"/x\"\ndrain_status = [503]"), "http");
    assert_eq!(name("expect = \"^220\""), "send_expect");
    assert_eq!(name("steps = [{ send = \"x\" }]"), "send_expect");
    assert_eq!(name("database = \"postgres\"\nuser = \"u\""), "postgresql");
    assert_eq!(name("interval = \"1s\""), "tcp", "a key of all kinds says nothing");
    let errors = read("user = \"u\"").unwrap_err();
    assert!(
        errors[0].contains("`user` needs `type`; write type = \"postgresql\", \"mysql\" or \"redis\""),
        "{errors:?}"
    );
    let errors = read("path = \"/health\"\nsend = \"x\"").unwrap_err();
    assert!(errors[0].contains("`send` needs one `type` of check"), "{errors:?}");
}

#[test]
fn a_key_that_is_written_is_never_ignored() {
    for (lines, expected) in [
        ("type = \"tcp\"\npath = \"/health\"", "`path` needs a check of another kind than \"tcp\""),
        ("type = \"redis\"\nstatus = [200]", "`status` needs a check of another kind than \"redis\""),
        ("type = \"http\"\ndatabase = \"postgres\"", "`database` needs a check of another kind"),
        ("type = \"postgresql\"\ndatabase = \"postgres\"", "`database` needs `user`"),
        ("type = \"tcp\"\ndrain_status = [503]", "`drain_status` needs a check of another kind"),
        ("type = \"send_expect\"\nsend = \"x\"\nsteps = [{ send = \"x\" }]", "`steps` cannot be there beside"),
        ("steps = [{ send = \"x\" }, { expect = \"y\" }]", "each step sends something"),
        ("steps = [{}]", "each step sends something"),
        ("steps = [{ sent = \"x\" }]", "a step has `send` and `expect`"),
        ("steps = [{ send = '\\q' }]", "it knows"),
        ("status = [503]\ndrain_status = [503]", "`drain_status` cannot be 503; `status` has it too"),
        ("type = \"redis\"\nlag_strict = true", "`lag_strict` needs `role = \"replica\"`"),
    ] {
        let errors = read(lines).expect_err(lines);
        assert!(errors.iter().any(|error| error.contains(expected)), "{lines}: {errors:#?}");
    }
}

#[test]
fn a_key_that_asks_for_nothing_may_stand_anywhere() {
    let all = "type = \"tcp\"\nsend = \"\"\nexpect = \"\"\nsteps = []\nuser = \"\"\npassword_file = \"\"\n\
               drain_status = []\nrole = \"any\"\nlag_max = \"0s\"\nlag_strict = false";
    assert_eq!(kind(all), CheckKind::Tcp);
}

#[test]
fn off_switches_off_whatever_else_stands_there() {
    let text = "[listeners.l]\nbind = \"127.0.0.1:0\"\npool = \"p\"\n[[pools.p.backends]]\naddress = \"10.0.0.1:1\"\n\
                [pools.p.check]\ntype = \"off\"\npath = \"/x\"\nrole = \"primary\"\n";
    assert_eq!(load(text, "f", &|_: &str| None).unwrap().pools[0].check, None);
}
