use super::*;
use crate::config::keys::{self, Section};
use crate::config::load;

const BASE: &str = r#"
[listeners.web]
bind = "127.0.0.1:80"
pool = "db"
[listeners.other]
bind = ["127.0.0.1:81", "unix:/x"]
pool = "db"
[pools.db]
[[pools.db.backends]]
name = "a"
address = "10.0.0.1:1"
[[pools.db.backends]]
name = "b"
address = "10.0.0.2:1"
"#;

fn config(text: &str) -> Config {
    load(text, "t", &|_: &str| None).unwrap_or_else(|errors| panic!("{errors:?}\n{text}"))
}

/// What is said when `from` becomes `to` in the text.
fn lines(from: &str, to: &str) -> Vec<String> {
    assert!(BASE.contains(from));
    diff(&config(BASE), &config(&BASE.replacen(from, to, 1))).changes
}

#[test]
fn the_same_is_no_change_whatever_its_order_and_form() {
    assert_eq!(diff(&config(BASE), &config(BASE)), Diff::default());
    let other = BASE.replace("[pools.db]", "[pools.db]\nconnect_timeout = \"3000ms\"\nbalance = \"round_robin\"");
    assert_eq!(diff(&config(BASE), &config(&other)), Diff::default());
}

#[test]
fn each_change_is_a_line_that_a_person_understands() {
    assert_eq!(lines("\"10.0.0.2:1\"", "\"10.0.0.2:1\"\nweight = 5"), ["pools.db.backends.b: weight 1 → 5"]);
    assert_eq!(lines("[pools.db]", "[pools.db]\nidle_timeout = \"90s\""), ["pools.db: idle_timeout 1h → 90s"]);
    assert_eq!(lines("127.0.0.1:80", "127.0.0.1:90"), ["listeners.web: bind 127.0.0.1:80 → 127.0.0.1:90"]);
    assert_eq!(
        lines("[pools.db]", "[pools.db]\ncheck.type = \"off\"").first().unwrap(),
        "pools.db.check: type tcp → off"
    );
    assert_eq!(lines("10.0.0.1:1", "db.example:5"), ["pools.db.backends.a: address 10.0.0.1:1 → db.example:5"]);
    let c = "name = \"b\"\naddress = \"10.0.0.2:1\"\n[[pools.db.backends]]\nname = \"c\"\naddress = \"10.0.0.3:1\"";
    assert_eq!(lines("name = \"b\"\naddress = \"10.0.0.2:1\"", c), ["pools.db.backends.c added (10.0.0.3:1)"]);
    assert_eq!(
        lines("name = \"b\"", "name = \"c\""),
        ["pools.db.backends.c added (10.0.0.2:1)", "pools.db.backends.b removed (10.0.0.2:1)"]
    );
    let web = "[listeners.web]\nbind = \"127.0.0.1:80\"\npool = \"db\"\n";
    assert_eq!(lines(web, ""), ["listener web removed (127.0.0.1:80)"]);
    let mut new = format!("[pools.x]\n[[pools.x.backends]]\naddress = \"10.0.0.1:1\"\n{web}");
    new = lines(web, &new).join("; ");
    assert_eq!(new, "pool x added", "its backends with it");
}

#[test]
fn how_names_are_looked_up_can_change_while_it_runs() {
    let with = |text: &str| diff(&config(BASE), &config(&format!("{text}\n{BASE}")));
    for (text, line) in [
        (
            "[dns]\nservers = [\"10.0.0.53\", \"[fd00::53]:54\"]",
            "dns: servers of the system → 10.0.0.53:53, [fd00::53]:54",
        ),
        ("[dns]\ntimeout = \"2s\"", "dns: timeout of the system → 2s"),
        ("[dns]\nattempts = 2", "dns: attempts of the system → 2"),
    ] {
        let found = with(text);
        assert!(found.changes.contains(&line.to_string()) && found.needs_restart.is_empty(), "{found:?}");
    }
    assert_eq!(lines("[pools.db]", "[pools.db]\nobsolete_hold = \"0s\""), ["pools.db: obsolete_hold 30s → 0s"]);
    assert_eq!(lines("[pools.db]", "[pools.db]\ndenied_hold = \"1h\""), ["pools.db: denied_hold 5m → 1h"]);
    assert_eq!(lines("[pools.db]", "[pools.db]\naddress_family = \"ipv4\""), ["pools.db: address_family any → ipv4"]);
}

#[test]
fn that_sessions_on_backups_make_room_is_a_change() {
    let backup = BASE.replace("\"10.0.0.2:1\"", "\"10.0.0.2:1\"\nbackup = 2");
    assert_eq!(diff(&config(BASE), &config(&backup)).changes, ["pools.db.backends.b: backup false → 2"]);
    let closes = backup.replace("[pools.db]", "[pools.db]\non_main_up = \"close\"");
    assert_eq!(diff(&config(&backup), &config(&closes)).changes, ["pools.db: on_main_up keep → close"]);
}

#[test]
fn how_clients_are_divided_is_a_change() {
    let text = |lead: &str, route: &str| {
        let route = format!("[[listeners.web.routes]]\nalpn = [\"x\"]\n{route}\n");
        let base =
            BASE.replacen("pool = \"db\"", lead, 1).replace("[listeners.other]", &format!("{route}[listeners.other]"));
        config(&format!("{base}[pools.new]\nbackends = [{{ address = \"10.0.0.3:1\" }}]\n"))
    };
    let split = |old: u32| format!("split = [{{ pool = \"db\", weight = {old} }}, {{ pool = \"new\", weight = 10 }}]");
    let pool = "pool = \"db\"";
    let lines = |before: &Config, after: &Config| diff(before, after).changes;
    assert_eq!(lines(&text(pool, pool), &text(&split(90), pool)), ["listeners.web: split none → db 90, new 10"]);
    assert_eq!(
        lines(&text(&split(90), pool), &text(&split(50), pool)),
        ["listeners.web: split db 90, new 10 → db 50, new 10"]
    );
    assert_eq!(
        lines(&text(pool, pool), &text(pool, &split(90))),
        ["listeners.web: routes alpn x to db → alpn x to db 90, new 10"]
    );
}

#[test]
fn another_fallback_is_a_change() {
    let spare = "[pools.spare]\nbackends = [{ address = \"10.0.0.3:1\" }]\n";
    let (before, after) = (format!("{BASE}{spare}"), BASE.replace("[pools.db]", "[pools.db]\nfallback = \"spare\""));
    let after = format!("{after}{spare}");
    assert_eq!(diff(&config(&before), &config(&after)).changes, ["pools.db: fallback none → spare"]);
    assert_eq!(diff(&config(&after), &config(&before)).changes, ["pools.db: fallback spare → none"]);
}

#[test]
fn the_order_of_backends_counts() {
    let (a, b) = ("name = \"a\"\naddress = \"10.0.0.1:1\"", "name = \"b\"\naddress = \"10.0.0.2:1\"");
    let swapped = BASE.replace(a, "A").replace(b, a).replace('A', b);
    assert_eq!(diff(&config(BASE), &config(&swapped)).changes, ["pools.db.backends: order a, b → b, a"]);
}

#[test]
fn what_only_a_restart_can_change_is_named() {
    let with = |text: &str| diff(&config(BASE), &config(&format!("{text}\n{BASE}")));
    for (text, line) in [
        ("[process]\nworkers = 3", "process: workers auto → 3"),
        ("[process]\nbusy_poll = \"50us\"", "process: busy_poll 0s → 50us"),
        ("[log]\nformat = \"json\"", "log: format text → json"),
        ("[admin]\nlisten = \"127.0.0.1:9\"", "admin: listen off → 127.0.0.1:9"),
    ] {
        assert_eq!(with(text).needs_restart, [line], "{text}");
    }
    assert!(diff(&config(BASE), &config(&BASE.replace("10.0.0.1", "10.0.0.9"))).needs_restart.is_empty());
    for (text, line) in [
        ("[process]\nshutdown_grace = \"7s\"", "process: shutdown_grace 30s → 7s"),
        ("[log]\nlevel = \"debug\"", "log: level info → debug"),
    ] {
        assert_eq!(with(text), Diff { changes: vec![line.to_string()], needs_restart: vec![] }, "{text}");
    }
}

/// Values that each kind of key takes and are not the default.
fn another(key: &keys::Key) -> Option<&'static str> {
    Some(match key.name {
        "name" | "address" | "bind" | "pool" => return None,
        _ if key.section == Section::Route => return None,
        "source_connections_max" | "source_prefix_v6" => "7",
        "source_rate_max" => "\"7/m\"",
        "allow" | "deny" | "source_unlimited" => "[\"10.0.0.0/8\"]",
        // They have a test of their own.
        "allow_file" | "deny_file" => return None,
        // Another pool must be there; they have tests of their own.
        "fallback" | "split" => return None,
        "up_min" => "2",
        // One needs the other.
        "accept_proxy" | "proxy_trusted" => return None,
        "hosts" => "[\"x.example\"]",
        "unmatched" => "\"refuse\"",
        // Instead of others; it has a test of its own.
        "steps" => return None,
        "send_proxy" if key.section == Section::Check => "\"off\"",
        "send_proxy" => "\"v2\"",
        "source" => "\"client\"",
        "workers" | "backlog" | "queue_max" | "connect_attempts" | "rise" | "fall" | "percent_max" | "failures"
        | "hangups" | "weight" | "port" | "agent_port" => "7",
        "attempts" => "3",
        "connections_max" | "hash_balance_factor" => "125",
        "pin_workers" => "false",
        "io" => "\"epoll\"",
        "state_file" => "\"/s.json\"",
        "interface" => "\"eth1\"",
        "freebind" | "skip_empty" | "backup" | "disabled" | "lag_strict" => "true",
        "level" => "\"error\"",
        "format" if key.section == Section::AccessLog => "\"tcplog\"",
        "format" => "\"json\"",
        "listen" | "probes" => "\"127.0.0.1:9\"",
        "unix_mode" => "\"0600\"",
        "socket" => "\"/admin\"",
        "socket_mode" => "\"0640\"",
        "servers" => "[\"10.0.0.53:53\"]",
        "address_family" => "\"ipv6\"",
        "balance" => "\"random\"",
        "hash_key" => "\"source_ip_port\"",
        "on_backend_down" => "\"keep\"",
        "connect_on" => "\"first_byte\"",
        // It needs a backup; it has a test of its own.
        "on_main_up" => return None,
        "when_all_down" => "\"use_all\"",
        "type" => "\"redis\"",
        "initial" => "\"down\"",
        "send" | "expect" => "\"x\"",
        "also_ports" => "[81]",
        "tls" => "\"require\"",
        "verify" => "false",
        "server_name" => "\"db.example\"",
        "galera" => "\"donor\"",
        "check_address" => "\":8008\"",
        "method" => "\"HEAD\"",
        "host" => "\"x.example\"",
        "headers" => "{ a = \"b\" }",
        "path" => "\"/x\"",
        "status" | "drain_status" => "[204]",
        "user" => "\"u\"",
        "password_file" | "ca_file" | "database" => "\"/p\"",
        "role" => "\"replica\"",
        "lag_max" => "\"3s\"",
        "busy_poll" => "\"7us\"",
        "receive_buffer" | "unsent_max" | "receive_buffers_max" => "\"7MiB\"",
        "output" => "\"stdout\"",
        _ => "\"7s\"",
    })
}

/// Such a value for a key of a listener's TLS.
fn another_of_tls(key: &keys::Key) -> Option<&'static str> {
    Some(match key.name {
        // It needs `client_auth`, which needs it; it has a test of its own.
        "client_ca" => return None,
        "client_auth" => "\"required\"\nclient_ca = \"/ca\"",
        "client_crl" | "certificate_dir" => "\"/x\"",
        "certificates" => "[{ cert = \"/a\", key = \"/b\" }]",
        "unknown_name" => "\"refuse\"",
        "min_version" => "\"1.3\"",
        "alpn" => "[\"x\"]",
        "tickets" => "false",
        "starttls" => "\"postgresql\"",
        "plaintext" => "\"allow\"",
        _ => "\"7s\"",
    })
}

fn another_of_pool_tls(key: &keys::Key) -> Option<&'static str> {
    Some(match key.name {
        "server_name" => "\"db.example\"",
        "ca_file" => "\"/ca\"",
        "verify" => "false",
        "min_version" => "\"1.3\"",
        "alpn" => "[\"x\"]",
        "starttls" => "\"postgresql\"",
        // Neither is there without the other.
        _ => return None,
    })
}

/// What a key needs beside it to mean something.
fn beside(key: &keys::Key) -> &'static str {
    match key.name {
        _ if matches!(key.section, Section::Process | Section::PoolTls) => "",
        "certificates" => "certificate_dir = \"/d\"",
        "plaintext" => "starttls = \"postgresql\"\ncertificates = [{ cert = \"/a\", key = \"/b\" }]",
        "client_crl" => "client_auth = \"optional\"\nclient_ca = \"/ca\"\ncertificate_dir = \"/d\"",
        _ if key.section == Section::ListenerTls => "certificates = [{ cert = \"/a\", key = \"/b\" }]",
        "proxy_timeout" => "accept_proxy = \"required\"\nproxy_trusted = [\"unix:\"]",
        "source_prefix_v6" | "source_unlimited" => "source_connections_max = 7",
        "preread_timeout" | "unmatched" => "routes = [{ alpn = [\"x\"], pool = \"db\" }]",
        "format" | "skip_empty" if key.section == Section::AccessLog => "output = \"stderr\"",
        "socket_mode" => "socket = \"/s\"",
        "hash_key" | "hash_balance_factor" => "balance = \"consistent_hash\"",
        "send" => "type = \"send_expect\"\nexpect = \"y\"",
        "expect" => "type = \"send_expect\"\nsend = \"y\"",
        "path" | "status" | "drain_status" | "method" | "host" | "headers" => "type = \"http\"",
        "user" | "role" => "type = \"redis\"",
        "lag_max" | "lag_strict" => "type = \"redis\"\nrole = \"replica\"",
        "verify" | "ca_file" | "server_name" => "tls = \"require\"",
        "galera" => "type = \"mysql\"\nuser = \"v\"",
        "password_file" => "type = \"mysql\"\nuser = \"v\"",
        "database" => "type = \"postgresql\"\nuser = \"v\"",
        _ => "",
    }
}

#[test]
fn a_change_of_any_key_is_seen() {
    let mut seen = 0;
    for key in keys::KEYS {
        let value = match key.section {
            Section::ListenerTls => another_of_tls(key),
            Section::PoolTls => another_of_pool_tls(key),
            _ => another(key),
        };
        let Some(value) = value else { continue };
        let header = match key.section {
            Section::Process => "[process]",
            Section::Log => "[log]",
            Section::AccessLog => "[access_log]",
            Section::Admin => "[admin]",
            // It has a unix socket.
            Section::Listener if key.name == "unix_mode" => "[listeners.other]",
            Section::Dns => "[dns]",
            Section::Listener => "[listeners.web]",
            Section::ListenerTls => "[listeners.web.tls]",
            Section::Route => "name = \"a\"",
            Section::Pool => "[pools.db]",
            Section::PoolTls => "[pools.db.tls]",
            Section::Check => "[pools.db.check]",
            Section::Ejection => "[pools.db.ejection]",
            // Keys of a source depend on its type; a test of its own changes them.
            Section::Discover => continue,
            Section::Backend => "name = \"a\"",
        };
        let beside = format!("{header}\n{}\n", beside(key));
        let both = match BASE.contains(header) {
            true => BASE.replacen(header, &beside, 1),
            false => format!("{beside}{BASE}"),
        };
        let changed = both.replacen(&beside, &format!("{beside}{} = {value}\n", key.name), 1);
        let changes = diff(&config(&both), &config(&changed)).changes;
        assert!(
            changes.iter().any(|line| line.contains(&format!(": {} ", key.name))),
            "{:?} {}: {changes:?}",
            key.section,
            key.name
        );
        seen += 1;
    }
    assert!(seen > 45, "{seen}");
}

#[test]
fn tls_to_backends_that_comes_goes_or_changes_is_told() {
    let with = |keys: &str| config(&format!("{BASE}[pools.db.tls]\n{keys}\n"));
    let lines = |before: &Config, after: &Config| diff(before, after).changes;
    let (plain, tls) = (config(BASE), with("cert = \"/c\"\nkey = \"/k\""));
    assert!(lines(&plain, &tls).contains(&"pools.db.tls added".to_string()), "{:?}", lines(&plain, &tls));
    assert!(lines(&tls, &plain).contains(&"pools.db.tls removed".to_string()));
    let other = with("cert = \"/other\"\nkey = \"/k2\"");
    assert_eq!(lines(&tls, &other), ["pools.db.tls: cert /c → /other", "pools.db.tls: key /k → /k2"]);
}

#[test]
fn tls_that_comes_goes_or_changes_is_told_with_its_certificates() {
    let with = |keys: &str| config(&format!("{BASE}[listeners.web.tls]\n{keys}\n"));
    let pair = "certificates = [{ cert = \"/a.crt\", key = \"/a.key\" }]";
    let (plain, tls) = (config(BASE), with(&format!("{pair}\ncertificate_dir = \"/d\"")));
    let lines = |before: &Config, after: &Config| diff(before, after).changes;
    assert_eq!(lines(&plain, &tls), ["listeners.web.tls added (/a.crt with /a.key, /d)"]);
    assert_eq!(lines(&tls, &plain), ["listeners.web.tls removed (/a.crt with /a.key, /d)"]);
    let web = "[listeners.web]\nbind = \"127.0.0.1:80\"\npool = \"db\"\n";
    let without = config(&BASE.replace(web, ""));
    assert_eq!(lines(&without, &tls), ["listener web added (127.0.0.1:80)"], "its TLS with it");
    assert_eq!(
        lines(&tls, &with(&pair.replace("a.key", "b.key"))),
        [
            "listeners.web.tls: certificates /a.crt with /a.key → /a.crt with /b.key",
            "listeners.web.tls: certificate_dir /d → off"
        ]
    );
    let asks = |ca: &str| with(&format!("{pair}\nclient_auth = \"required\"\nclient_ca = \"{ca}\""));
    assert_eq!(lines(&asks("/old"), &asks("/new")), ["listeners.web.tls: client_ca /old → /new"]);
    assert!(diff(&asks("/old"), &asks("/new")).needs_restart.is_empty());
}

#[test]
fn another_step_is_a_change() {
    let with = |check: &str| config(&BASE.replacen("[pools.db]", &format!("[pools.db]\ncheck = {{ {check} }}"), 1));
    let one = with("send = \"a\"");
    let two = with("steps = [{ send = \"a\" }, { send = \"b\", expect = \"c\" }]");
    let found = diff(&one, &two).changes;
    assert!(
        found.iter().any(|line| line.ends_with(": steps changed (0 steps of 0 bytes → 2 steps of 3 bytes)")),
        "{found:?}"
    );
    let other = with("steps = [{ send = \"a\" }, { send = \"b\", expect = \"d\" }]");
    assert_eq!(diff(&two, &other).changes.len(), 1);
}

/// Lines of a change go to the log, to the API and to the caller of a reload.
#[test]
fn what_may_hold_a_secret_is_compared_and_never_shown() {
    let with = |check: &str| config(&BASE.replacen("[pools.db]", &format!("[pools.db]\ncheck = {{ {check} }}"), 1));
    for (before, after, line) in [
        (
            "send = 'AUTH hidden-one\\r\\n'",
            "send = 'AUTH hidden-three\\r\\n'",
            "pools.db.check: send changed (17 → 19 bytes)",
        ),
        (
            "send = 'x', expect = '^hidden-one'",
            "send = 'x', expect = '^hidden-two'",
            "pools.db.check: expect changed (11 → 11 bytes)",
        ),
        (
            "steps = [{ send = 'hidden-one' }, { send = 'x' }]",
            "steps = [{ send = 'hidden-two' }, { send = 'x' }]",
            "pools.db.check: steps changed (2 steps of 11 bytes → 2 steps of 11 bytes)",
        ),
        (
            "path = '/health?token=hidden-one'",
            "path = '/health?token=hidden-two'",
            "pools.db.check: path changed (/health with a query of 16 bytes → /health with a query of 16 bytes)",
        ),
        (
            "path = '/health?token=hidden-one'",
            "path = '/live'",
            "pools.db.check: path changed (/health with a query of 16 bytes → /live)",
        ),
    ] {
        assert_eq!(diff(&with(before), &with(after)).changes, [line]);
    }
    // Another kind of check, too, and where it comes or goes.
    let all: Vec<Config> =
        ["send = 'hidden-one'", "path = '/?hidden-one'", "steps = [{ send = 'hidden-one' }]", "rise = 3"]
            .map(with)
            .into_iter()
            .chain([config(BASE)])
            .collect();
    for (before, after) in all.iter().flat_map(|before| all.iter().map(move |after| (before, after))) {
        let found = diff(before, after).changes.join("\n");
        assert!(!found.contains("hidden"), "{found}");
    }
}

#[test]
fn a_route_that_changes_is_shown_with_where_it_leads() {
    let route = "[[listeners.web.routes]]\nsni = [\"a.example\"]\nalpn = [\"h2\"]\npool = \"db\"\n[listeners.other]";
    let found = lines("[listeners.other]", route);
    assert_eq!(found, ["listeners.web: routes none → a.example, alpn h2 to db"]);
}

#[test]
fn one_more_network_in_a_long_list_is_a_change() {
    let list = |count: u32| {
        let all: Vec<String> = (0..count).map(|n| format!("\"10.0.{n}.0/24\"")).collect();
        config(&BASE.replacen("[listeners.other]", &format!("allow = [{}]\n[listeners.other]", all.join(", ")), 1))
    };
    let found = diff(&list(100), &list(101)).changes;
    assert!(found.len() == 1 && found[0].contains("and 93 more"), "{found:?}");
}

#[test]
fn who_may_claim_to_be_somebody_is_a_change() {
    let with =
        |trusted: &str| format!("accept_proxy = \"required\"\nproxy_trusted = [\"{trusted}\"]\n[listeners.other]");
    let found = lines("[listeners.other]", &with("unix:"));
    assert_eq!(found, ["listeners.web: accept_proxy off → required"]);
    let config = |trusted| config(&BASE.replacen("[listeners.other]", &with(trusted), 1));
    let found = diff(&config("unix:"), &config("10.0.0.1")).changes;
    assert!(found.len() == 1 && found[0].starts_with("listeners.web: proxy_trusted [unix:]"), "{found:?}");
}

#[test]
fn a_change_of_any_key_of_a_source_is_seen() {
    let of = |kind: &str| match kind {
        "srv" => "type = \"srv\"\nname = \"v\"",
        "file" => "type = \"file\"\npath = \"/v\"",
        "etcd" => "type = \"etcd\"\nprefix = \"v\"",
        "patroni" => "type = \"patroni\"\nscope = \"v\"",
        "consul" => "type = \"consul\"\nservice = \"v\"",
        _ => "type = \"kubernetes\"\nservice = \"v\"",
    };
    let with = |lines: &str| config(&format!("{BASE}[pools.db.discover]\n{lines}\n"));
    for key in keys::of(keys::Section::Discover).filter(|key| key.name != "type") {
        let value = match key.name {
            "endpoints" => "[\"https://a:1\"]",
            "address" => "\"https://a:1\"",
            "passing" => "false",
            "empty" => "\"drop\"",
            _ => "\"/w\"",
        };
        let value = if key.name == "name" { "\"w\"" } else { value };
        let base = match (key.kinds.first().copied().unwrap_or("srv"), key.name) {
            (kind, "ca_file" | "cert" | "key") => format!("{}\nendpoints = [\"https://e:1\"]", of(kind)),
            (kind, _) => of(kind).to_owned(),
        };
        let other = match key.name {
            "cert" | "user" => format!("{} = \"/o\"", if key.name == "cert" { "key" } else { "password_file" }),
            "key" | "password_file" => format!("{} = \"/o\"", if key.name == "key" { "cert" } else { "user" }),
            _ => String::new(),
        };
        let kept: Vec<&str> = base.lines().filter(|line| !line.starts_with(&format!("{} =", key.name))).collect();
        let changed = format!("{}\n{other}\n{} = {value}", kept.join("\n"), key.name);
        let changes = diff(&with(&base), &with(&changed)).changes;
        let line = format!("pools.db.discover: {} ", key.name);
        assert!(changes.iter().any(|change| change.starts_with(&line)), "{}: {changes:?}", key.name);
    }
    let (none, some) = (config(BASE), with(of("srv")));
    assert!(diff(&none, &some).changes.contains(&"pools.db.discover added".to_string()));
    assert!(diff(&some, &with(of("file"))).changes.contains(&"pools.db.discover: type srv → file".to_string()));
}
