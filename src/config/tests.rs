use std::time::Duration;

use proptest::prelude::*;

use super::keys::{self, Kind, Section};
use super::model::*;
use super::*;
use crate::balance::{consistent_hash, round_robin};

const VALID: &str = r#"
[process]
workers = 2
busy_poll = "50us"

[admin]
listen = "127.0.0.1:9900"

[listeners.web]
bind = ["127.0.0.1:7000-7002", "[::1]:7000", "unix:/run/web.sock"]
pool = "web"
unix_mode = "0600"

[listeners.db]
bind = "0.0.0.0:5432"
pool = "db"

[pools.web]
balance = "consistent_hash"
hash_key = "source_ip_port"
idle_timeout = "0s"
lifetime_max = "2h"

[pools.web.check]
type = "off"

[[pools.web.backends]]
address = "${WEB}:80"

[pools.db]
on_backend_down = "keep"

[pools.db.check]
rise = 5
port = 9
initial = "down"

[[pools.db.backends]]
name = "b"
address = "10.0.0.2:5432"
weight = 256

[[pools.db.backends]]
name = "a"
address = "10.0.0.3:5432"
weight = 0
disabled = true
"#;

fn env(name: &str) -> Option<String> {
    (name == "WEB").then(|| "10.0.0.9".to_string())
}

fn read(text: &str) -> Result<Config, Vec<Error>> {
    load(text, "f.toml", &env)
}

/// The messages of a configuration that is wrong.
fn errors(text: &str) -> Vec<String> {
    read(text).expect_err("it is wrong").iter().map(Error::to_string).collect()
}

/// A configuration that has only the given lines wrong.
fn with(pool_lines: &str) -> String {
    format!(
        "[listeners.l]\nbind = \"127.0.0.1:0\"\npool = \"p\"\n\
         [[pools.p.backends]]\naddress = \"10.0.0.1:1\"\n[pools.p]\n{pool_lines}\n"
    )
}

#[test]
fn a_configuration_means_what_it_says() {
    let config = read(VALID).unwrap();
    assert_eq!(config.process.workers.map(|n| n.get()), Some(2));
    assert_eq!(config.process.busy_poll, Duration::from_micros(50));
    assert_eq!(config.process.shutdown_grace, Duration::from_secs(30));
    assert_eq!(config.admin.listen, Some("127.0.0.1:9900".parse().unwrap()));
    let names: Vec<_> = config.listeners.iter().map(|listener| &*listener.name).collect();
    assert_eq!(names, ["web", "db"], "the order of the file, not of the alphabet");
    assert_eq!(config.listeners[0].binds.len(), 5);
    assert_eq!(config.listeners[0].unix_mode, 0o600);
    let [web, db] = config.pools.as_slice() else { panic!("two pools") };
    assert_eq!(web.balance, consistent_hash::POLICY.hashing(HashKey::SourceIpPort, None));
    assert_eq!(web.limits.idle_timeout, Duration::ZERO);
    assert_eq!(web.check, None);
    assert_eq!(&*web.backends[0].name, "10.0.0.9:80");
    assert!(web.close_on_backend_down && !db.close_on_backend_down);
    let check = db.check.as_ref().unwrap();
    assert_eq!((check.rise, check.fall, check.port, check.initial_up), (5, 3, Some(9), false));
    let backends: Vec<_> = db.backends.iter().map(|b| (&*b.name, b.weight, b.disabled)).collect();
    assert_eq!(backends, [("b", 256, false), ("a", 0, true)]);
}

#[test]
fn defaults_are_those_of_the_contract() {
    let config = read(&with("")).unwrap();
    let pool = &config.pools[0];
    assert_eq!(pool.balance, round_robin::POLICY);
    assert_eq!(
        pool.limits,
        Limits {
            connect_timeout: Duration::from_secs(3),
            connect_attempts: 3,
            idle_timeout: Duration::from_secs(3600),
            half_close_timeout: Duration::from_secs(60),
            lifetime_max: Duration::ZERO,
            drain_idle: Duration::ZERO,
            keepalive: Duration::from_secs(60),
            user_timeout: Duration::ZERO,
            receive_buffer: 0,
            unsent_max: 0,
        }
    );
    assert_eq!(
        pool.check,
        Some(Check {
            kind: CheckKind::Tcp,
            role: None,
            lag_max: Duration::ZERO,
            interval: Duration::from_secs(2),
            fast_interval: Duration::from_millis(500),
            down_interval: Duration::from_secs(1),
            timeout: Duration::from_millis(1500),
            rise: 2,
            fall: 3,
            initial_up: true,
            port: None,
            lag_strict: false,
            header: CheckHeader::Auto,
            tls: CheckTls::Off,
            agent_port: None,
            also_ports: Vec::new(),
        })
    );
    assert_eq!((config.listeners[0].backlog, config.listeners[0].unix_mode), (4096, 0o666));
    assert_eq!((config.process.workers, config.process.connections_max), (None, None));
    assert!(config.process.pin_workers && config.admin.listen.is_none() && !config.log.json);
}

#[test]
fn every_error_comes_at_once_with_its_place_and_a_hint() {
    let found = errors(
        "[listeners.l]\nbind = \"*:80\"\npool = \"q\"\nbacklogg = 1\n[pools.p]\nbalance = \"roundrobin\"\n\
         idle_timeout = 5\nrise = 2\n[[pools.p.backends]]\nweight = 257\n[prozess]\n[pools.r]\n",
    );
    let expected = [
        "f.toml:2:8: `bind` cannot be \"*:80\"; for every address write `0.0.0.0:80` (IPv4) or `[::]:80` (IPv6)",
        "f.toml:3:8: there is no pool `q`; did you mean `p`?",
        "f.toml:4:1: unknown key `backlogg` in [listeners.l]; did you mean `backlog`?",
        "f.toml:6:11: `balance` cannot be \"roundrobin\"; that is \"round_robin\" here;",
        "f.toml:7:16: `idle_timeout` cannot be 5; write it with its unit, in quotes: \"5s\" or \"5ms\"",
        "f.toml:8:1: unknown key `rise` in [pools.p]; it belongs into [pools.p.check]",
        "f.toml:9:1: [[pools.p.backends]] has no `address`; add address = \"10.0.0.1:5432\"",
        "f.toml:10:10: `weight` cannot be 257; write a number from 0 to 256",
        "f.toml:11:2: unknown key `prozess` in the file; did you mean `process`?",
        "f.toml:12:1: pool `r` has no backends; add [[pools.r.backends]] with `address`",
    ];
    assert_eq!(found.len(), expected.len(), "{found:#?}");
    for (found, expected) in found.iter().zip(expected) {
        assert!(found.starts_with(expected), "{found}\n{expected}");
        assert!(!found.contains('\n'));
    }
}

#[test]
fn broken_toml_is_reported_with_what_else_is_certainly_wrong() {
    let found = errors("[process]\nworkers = = 3\n[pools.p]\nbalanc = \"x\"\n[listeners.l\npool = 1\n");
    assert!(found[0].starts_with("f.toml:2:11: not valid TOML"), "{found:#?}");
    assert!(found.iter().any(|e| e.starts_with("f.toml:4:1: unknown key `balanc`")), "{found:#?}");
    assert!(found.last().is_some_and(|e| e.starts_with("f.toml:5:13: not valid TOML")), "{found:#?}");
    assert_eq!(found.len(), 3, "each line once, and nothing follows from what could not be read: {found:#?}");
    assert!(errors("a = 1\na = 2\n").iter().any(|e| e.contains("`a` is given twice, first on line 1")));
}

#[test]
fn a_backup_has_a_level_and_true_is_the_first() {
    let text = |backup: &str| {
        format!(
            "[listeners.l]\nbind = \"127.0.0.1:0\"\npool = \"p\"\n[[pools.p.backends]]\n\
             address = \"10.0.0.1:1\"\nbackup = {backup}\n"
        )
    };
    for (written, level) in [("false", 0), ("true", 1), ("1", 1), ("2", 2), ("1000", 1000)] {
        assert_eq!(read(&text(written)).unwrap().pools[0].backends[0].backup, level, "{written}");
    }
    for (written, hint) in [
        ("0", "`backup` cannot be 0; write true, false or a level from 1 to 1000"),
        ("1001", "`backup` cannot be 1001; write true, false or a level from 1 to 1000"),
        ("-1", "`backup` cannot be -1; write true, false or a level from 1 to 1000"),
        ("\"2\"", "`backup` cannot be \"2\"; write 2, without quotes"),
        ("\"yes\"", "`backup` cannot be \"yes\"; write true, without quotes"),
        ("\"first\"", "`backup` is a text; it takes true, false or a level from 1 to 1000"),
        ("[2]", "`backup` is a list; it takes true, false or a level from 1 to 1000"),
    ] {
        let found = errors(&text(written));
        assert!(found.len() == 1 && found[0].starts_with(&format!("f.toml:6:10: {hint}")), "{written}: {found:?}");
    }
}

#[test]
fn an_empty_file_says_what_is_missing() {
    assert_eq!(errors(""), ["f.toml:1:1: there is no listener; add [listeners.NAME] with `bind` and `pool`"]);
}

#[test]
fn tables_of_the_wrong_shape_are_explained() {
    let says = |text: &str, what: &str| {
        let found = errors(text);
        assert!(found.iter().any(|e| e.contains(what)), "{what}: {found:#?}");
    };
    says("pools = 3", "`pools` is the number 3; it takes tables with names");
    says("[[process]]", "write [process] with one bracket");
    says("[pools.p.backends]\naddress = \"10.0.0.1:1\"", "with two brackets");
    says("[pools.\"a/b\"]", "holds no `/`");
    says("[listeners.\"\"]", "at least one character");
}

#[test]
fn logs_go_where_they_are_told_to() {
    let config = |lines: &str| read(&format!("{lines}\n{}", with(""))).unwrap();
    let default = config("");
    assert_eq!((default.log.output, default.access_log), (Output::Stderr, None));
    let file = config("[log]\noutput = \"/var/log/x\"\n[access_log]\noutput = \"stdout\"\nformat = \"tcplog\"");
    assert_eq!(file.log.output, Output::File("/var/log/x".into()));
    assert_eq!(
        file.access_log,
        Some(AccessLog { output: Output::Stdout, format: AccessFormat::Tcplog, skip_empty: false })
    );
    let found = errors(&format!("access_log.output = \"access.log\"\n{}", with("")));
    assert!(found[0].starts_with("f.toml:1:") && found[0].contains("or a path that begins with /"), "{found:?}");
}

#[test]
fn what_is_no_primary_is_never_used_for_one() {
    let with_role = |role: &str, when: &str| {
        with(&format!("when_all_down = \"{when}\"\ncheck.type = \"redis\"\ncheck.role = \"{role}\""))
    };
    let found = errors(&with_role("primary", "use_all"));
    assert_eq!(found.len(), 1, "{found:?}");
    assert!(found[0].starts_with("f.toml:7:17: `when_all_down` cannot be \"use_all\""), "{found:?}");
    for (role, when) in [("primary", "refuse"), ("replica", "use_all"), ("any", "use_all")] {
        assert!(read(&with_role(role, when)).is_ok(), "{role} {when}");
    }
    assert!(read(&format!("{}queue_max = 0\n", with_role("primary", "refuse"))).is_ok(), "nobody waits");
}

#[test]
fn what_belongs_to_one_policy_is_refused_for_the_others() {
    let found = |lines: &str| errors(&with(lines));
    for line in ["hash_key = \"source_ip_port\"", "hash_key = \"source_ip\"", "hash_balance_factor = 125"] {
        for balance in ["round_robin", "least_conn", "random", "failover"] {
            let found = found(&format!("{line}\nbalance = \"{balance}\""));
            assert!(found.len() == 1 && found[0].contains("needs balance = \"consistent_hash\""), "{found:?}");
        }
        assert!(read(&with(&format!("{line}\nbalance = \"consistent_hash\""))).is_ok());
    }
    assert!(
        found("balance = \"failover\"\nslow_start = \"5s\"")[0]
            .contains("`slow_start` needs a `balance` that uses several")
    );
    for (factor, fits) in [(0, true), (1, false), (100, false), (101, true), (100_000, true), (100_001, false)] {
        let text = with(&format!("balance = \"consistent_hash\"\nhash_balance_factor = {factor}"));
        assert_eq!(read(&text).is_ok(), fits, "{factor}");
    }
}

#[test]
fn what_a_policy_takes_is_a_key_of_a_pool() {
    let taken: Vec<_> = Policy::keys().collect();
    assert!(taken.iter().all(|(key, takers)| keys::find(Section::Pool, key).is_some() && !takers.is_empty()));
    assert_eq!(taken.len(), 2, "{taken:?}");
}

#[test]
fn what_belongs_to_a_socket_or_a_log_that_is_not_there_is_refused() {
    let found = |tables: &str| errors(&format!("{}\n{tables}", with("")));
    let socket = found("[admin]\nsocket_mode = \"0600\"");
    assert!(socket.len() == 1 && socket[0].contains("`socket_mode` needs `socket`"), "{socket:?}");
    let log = found("[access_log]\nformat = \"json\"");
    assert!(log.len() == 1 && log[0].contains("`format` needs `output`"), "{log:?}");
}

#[test]
fn a_host_name_is_a_target_to_be_looked_up() {
    let target = |host: &str| {
        let config = read(&with("").replace("10.0.0.1:1", host));
        config.map(|config| (config.pools[0].backends[0].name.to_string(), config.pools[0].backends[0].target.clone()))
    };
    for host in ["db.example", "db", "my_db-1.ns.svc.cluster.local."] {
        let written = format!("{host}:5432");
        let expected = (written.clone(), Target::Host { name: host.into(), port: 5432 });
        assert_eq!(target(&written).unwrap(), expected);
    }
    let long = ["a"; 127].join(".");
    assert!(target(&format!("{long}:1")).is_ok());
    for host in [format!("{long}.b"), "x".repeat(64), "a..b".into(), ".".into(), "a..".into(), "10.0.0".into()] {
        assert!(target(&format!("{host}:1")).is_err(), "{host}");
    }
}

/// Further addresses of a name are called `db#2`, `db#3`...
#[test]
fn no_backend_is_called_what_an_address_of_another_one_will_be() {
    let both = |address: &str, name: &str| {
        let more = format!("[[pools.p.backends]]\nname = \"{name}\"\naddress = \"10.0.0.2:1\"\n");
        with("").replace("10.0.0.1:1\"", &format!("{address}\"\nname = \"db\"")) + &more
    };
    assert!(errors(&both("db.example:1", "db#2"))[0].contains("`db#2`"));
    for (address, name) in [("10.0.0.1:1", "db#2"), ("db.example:1", "db#x"), ("db.example:1", "db2")] {
        assert!(read(&both(address, name)).is_ok(), "{address} {name}");
    }
}

#[test]
fn no_address_and_no_name_is_used_twice() {
    let admin = VALID.replace("127.0.0.1:9900", "0.0.0.0:5432");
    assert!(errors(&admin)[0].contains("`0.0.0.0:5432` is already in use on line 7"));
    let range = VALID.replace("0.0.0.0:5432", "127.0.0.1:7001");
    assert!(errors(&range)[0].contains("`127.0.0.1:7001` is already in use on line 10"));
    let names = VALID.replace("name = \"a\"", "name = \"b\"");
    assert!(errors(&names)[0].contains("the backend name `b` is already in use on line 39"));
    let unnamed = VALID.replace("name = \"b\"\n", "").replace("name = \"a\"\n", "").replace("0.3:5432", "0.2:5432");
    assert!(errors(&unnamed)[0].contains("the backend name `10.0.0.2:5432`"));
    for (address, same) in [
        ("10.0.0.2:5432", "10.0.0.2:5432"),
        ("10.0.0.2:5432", "[::ffff:10.0.0.2]:5432"),
        ("unix:/x", "unix:/x"),
        ("db.example:1", "DB.example.:1"),
    ] {
        let text = format!(
            "[listeners.l]\nbind = \"127.0.0.1:0\"\npool = \"p\"\n[pools.p]\nbackends = [\n\
             {{ name = \"a\", address = \"{address}\" }},\n{{ name = \"b\", address = \"{same}\" }}]"
        );
        let found = errors(&text);
        assert!(found.len() == 1 && found[0].contains("is already in use on line 6; a pool has each"), "{found:?}");
        assert!(read(&text.replacen(address, "[fe80::1%1]:5432", 1).replace(same, "[fe80::1%2]:5432")).is_ok());
    }
    assert!(read(&VALID.replace("0.0.0.0:5432", "127.0.0.1:0").replace("[::1]:7000", "127.0.0.1:0")).is_ok());
}

#[test]
fn numbers_and_durations_have_their_ranges() {
    for line in [
        "connect_attempts = 0",
        "connect_attempts = -1",
        "connect_attempts = 99999999999999999999",
        "keepalive = \"500ms\"",
        "keepalive = \"32768s\"",
        "idle_timeout = \"5\"",
        "idle_timeout = \"9000h\"",
        "idle_timeout = \"7us\"",
        "check.interval = \"0s\"",
        "check.rise = 0",
        "check.port = 65536",
        "idle_timeout = 1.5",
    ] {
        assert_eq!(errors(&with(line)).len(), 1, "{line}");
    }
}

#[test]
fn an_undefined_variable_is_an_error_where_it_stands() {
    let found = load(VALID, "f.toml", &|_: &str| None).unwrap_err();
    assert_eq!(
        found[0].to_string(),
        "f.toml:28:11: `address`: the environment variable WEB is not set; set it where ringway starts"
    );
}

/// A pool written out, and what it must mean.
fn any_pool() -> impl Strategy<Value = (String, u32, u16, Duration)> {
    ("[a-z][a-z0-9_-]{0,20}", 1..=100u32, 0..=256u16, 1..=100_000u64)
        .prop_map(|(name, attempts, weight, ms)| (name, attempts, weight, Duration::from_millis(ms)))
}

/// A key that takes numbers or times, with a value written as TOML and whether it lies in the range.
fn any_number_or_time() -> impl Strategy<Value = (&'static keys::Key, String, bool)> {
    let keys: Vec<_> = keys::KEYS.iter().collect();
    (proptest::sample::select(keys), any::<u64>(), 0..=40u32).prop_filter_map("no number", |(key, number, shift)| {
        let number = number >> (20 + shift); // every magnitude
        match key.kind {
            Kind::Integer(min, max) | Kind::AutoOr(min, max) => {
                Some((key, number.to_string(), (min..=max).contains(&number)))
            }
            Kind::Duration(span) => {
                let us = number * 1000;
                let fits = if us == 0 {
                    span.zero
                } else {
                    (span.min_us..=span.max_us).contains(&us) && us.is_multiple_of(span.step_us)
                };
                Some((key, format!("\"{number}ms\""), fits))
            }
            _ => None,
        }
    })
}

/// A configuration in which the given key, and nothing else, is set.
fn with_key(key: &keys::Key, value: &str) -> String {
    let line = format!("{} = {value}\n", key.name);
    let [mut top, mut listener, mut pool, mut check, mut ejection, mut backend] = [const { String::new() }; 6];
    match key.section {
        // They ask for more.
        Section::Listener if key.name == "proxy_timeout" => {
            listener = format!("accept_proxy = \"required\"\nproxy_trusted = [\"unix:\"]\n{line}");
        }
        Section::Listener if key.name == "preread_timeout" => {
            listener = format!("routes = [{{ alpn = [\"x\"], pool = \"p\" }}]\n{line}");
        }
        Section::Listener if key.name == "source_prefix_v6" => {
            listener = format!("source_connections_max = 1\n{line}");
        }
        Section::Listener => listener = line,
        Section::ListenerTls => listener = format!("[listeners.l.tls]\ncertificate_dir = \"/d\"\n{line}"),
        Section::Route => listener = format!("[[listeners.l.routes]]\nsni = [\"x\"]\npool = \"p\"\n{line}"),
        Section::Pool => pool = line,
        // Neither is there without the other.
        Section::PoolTls if ["cert", "key"].contains(&key.name) => {
            pool = format!("[pools.p.tls]\ncert = {value}\nkey = {value}\n");
        }
        Section::PoolTls => pool = format!("[pools.p.tls]\n{line}"),
        // It asks for more.
        Section::Check if key.name == "lag_max" => check = format!("type = \"redis\"\nrole = \"replica\"\n{line}"),
        Section::Check => check = line,
        Section::Ejection => ejection = line,
        Section::Backend => backend = line,
        section => top = format!("{}\n{line}", section.title()),
    }
    format!(
        "{top}[listeners.l]\nbind = \"127.0.0.1:0\"\npool = \"p\"\n{listener}[pools.p]\n{pool}[pools.p.check]\n{check}\
         [pools.p.ejection]\n{ejection}[[pools.p.backends]]\naddress = \"10.0.0.1:1\"\n{backend}"
    )
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(512))]

    #[test]
    fn no_text_makes_it_panic(text in "\\PC*") {
        let _ = read(&text);
    }

    #[test]
    fn no_toml_like_text_makes_it_panic(
        text in "((\\[{1,2}[a-z.\"]{0,12}\\]{1,2}|[a-z_.]{1,9} = \
                 ([0-9]{1,4}|\"[a-z0-9:${}]{0,9}\"|\\[[0-9, \"]*\\]|\\{.{0,9}\\}|true))\n){0,12}"
    ) {
        let _ = read(&text);
    }

    #[test]
    fn no_damage_to_a_valid_file_makes_it_panic(
        at in 0..VALID.len(), cut in 0..40usize, put in "\\PC{0,6}|[\\[\\]\"=\n{}$.]{0,4}"
    ) {
        let mut damaged = VALID.to_string();
        damaged.replace_range(at..(at + cut).min(VALID.len()), &put);
        if let Err(errors) = read(&damaged) {
            prop_assert!(!errors.is_empty());
            for error in errors {
                let Place::File { line, column, .. } = &error.place else { panic!("it came from a file") };
                prop_assert!(*line >= 1 && *line <= damaged.lines().count() + 1 && *column >= 1);
                prop_assert!(!error.to_string().contains('\n'), "{:?}", error);
            }
        }
    }

    #[test]
    fn a_value_is_taken_exactly_if_it_lies_in_the_range((key, value, fits) in any_number_or_time()) {
        // It depends on another key, and has a gap in its range: `what_belongs_to_one_policy_…`; and on the backends.
        prop_assume!(!["hash_balance_factor", "up_min"].contains(&key.name));
        let result = read(&with_key(key, &value));
        prop_assert_eq!(result.is_ok(), fits, "{} = {}: {:?}", key.name, value, result.err());
    }

    #[test]
    fn what_is_valid_means_what_was_written((name, attempts, weight, timeout) in any_pool()) {
        let text = format!(
            "[listeners.l]\nbind = \"127.0.0.1:0\"\npool = \"{name}\"\n[pools.{name}]\nconnect_attempts = {attempts}\n\
             idle_timeout = \"{}ms\"\nbackends = [{{ address = \"10.0.0.1:1\", weight = {weight} }}]\n",
            timeout.as_millis()
        );
        let config = read(&text).unwrap();
        let pool = &config.pools[0];
        prop_assert_eq!(&*pool.name, name.as_str());
        prop_assert_eq!(pool.limits.connect_attempts, attempts);
        prop_assert_eq!(pool.limits.idle_timeout, timeout);
        prop_assert_eq!(pool.backends[0].weight, weight);
    }
}
