//! Words of other programs (HAProxy, nginx, Envoy, Traefik, systemd), and what they are called here. A user who comes
//! from one of them gets the name of ringway's key instead of "unknown key".
//!
//! Words are compared without case, blanks, `-`, `_` and `.`: `timeout connect`, `timeout_connect` and `timeoutConnect`
//! are the same. The meaning depends on the table: HAProxy's `maxconn` has three. Each list below is for one table; a
//! line has all words with the same meaning, separated by blanks, and the hint for them.

use super::keys::Section;

/// The hint for a word at the top of the file, be it a table or a key.
pub(super) fn at_top(word: &str) -> Option<&'static str> {
    find(TOP, word)
}

/// The hint for a key in one table.
pub(super) fn in_table(section: Section, word: &str) -> Option<&'static str> {
    let words = match section {
        Section::Process => PROCESS,
        Section::Log | Section::AccessLog => LOG,
        Section::Admin => ADMIN,
        Section::Dns => DNS,
        Section::Listener => LISTENER,
        Section::ListenerTls => LISTENER_TLS,
        Section::Route => ROUTE,
        Section::Pool => POOL,
        Section::PoolTls => POOL_TLS,
        Section::Check => CHECK,
        Section::Ejection => EJECTION,
        Section::Discover => DISCOVER,
        Section::Backend => BACKEND,
    };
    find(words, word)
}

/// The word, out of those a key takes, that another program calls by this text.
pub(super) fn value(text: &str, words: &[&'static str]) -> Option<&'static str> {
    let text = plain(text);
    let same = words.iter().find(|word| plain(word) == text);
    let other = || VALUES.iter().find(|(here, all)| words.contains(here) && all.split(' ').any(|word| word == text));
    same.copied().or_else(|| other().map(|(here, _)| *here))
}

/// A word without the characters that differ between programs.
pub(super) fn plain(word: &str) -> String {
    word.chars().filter(|c| !matches!(c, '-' | '_' | '.' | ' ')).flat_map(char::to_lowercase).collect()
}

/// The hint for a word in one of the lists.
fn find(words: Words, word: &str) -> Option<&'static str> {
    let word = plain(word);
    words.iter().find(|(all, _)| all.split(' ').any(|known| known == word)).map(|(_, here)| *here)
}

/// Words with the same meaning, separated by blanks, and the hint for them.
type Words = &'static [(&'static str, &'static str)];

/// Puts the name of the table into a hint: `[pools.NAME` becomes `[pools.db`.
pub(super) fn with_name(hint: &str, table: &str) -> String {
    let mut parts = table.trim_matches(['[', ']']).splitn(3, '.');
    match (parts.next(), parts.next()) {
        (Some(kind @ ("pools" | "listeners")), Some(name)) => {
            hint.replace(&format!("[{kind}.NAME"), &format!("[{kind}.{name}"))
        }
        _ => hint.to_string(),
    }
}

/// For keys about TLS to backends.
const BACKEND_TLS: &str = "TLS to the backends is [pools.NAME.tls] here, with `server_name`, `ca_file` and `verify`";
/// For keys that choose ciphers.
const CIPHERS: &str = "every cipher that ringway takes is a safe one, and there is no key for them; leave it out";
/// For keys that turn TLS on.
const TLS_IS_ON: &str = "[listeners.NAME.tls] turns TLS on by being there; leave it out";
/// For keys that choose between TCP and HTTP.
const TCP: &str = "ringway always passes on TCP; leave it out";
/// For tables of addresses to listen on.
const LISTENERS: &str = "where clients connect is [listeners.NAME] with `bind` and `pool`";
/// For tables of servers.
const POOLS: &str = "servers stand in [pools.NAME] with [[pools.NAME.backends]]";
/// For tables that are both in one.
const BOTH: &str = "write [listeners.NAME] for where clients connect, and [pools.NAME] for the servers behind it";
/// The hint for `servers`, `members`, `endpoints` and the like.
pub(super) const BACKENDS: &str = "write [[pools.NAME.backends]] with `address` for each server";
/// For `[pools.NAME.discover]`.
const DISCOVER: Words = &[
    ("kind provider sdtype", "it is `type` here"),
    ("files glob pattern", "it is `path` here: one path, with `*` in its last part"),
    ("endpoint hosts servers url urls", "it is `endpoints` with etcd and patroni, and `address` with consul and nomad"),
    ("cluster clustername", "it is `scope` here"),
    ("refreshinterval refresh interval", "files are followed and servers are watched; leave it out"),
    ("tags", "it is `tag` here: one tag"),
    ("onlypassing passingonly healthy", "it is `passing` here"),
    ("token", "it is `token_file` here: the path of a file"),
    ("password", "it is `password_file` here: the path of a file"),
    ("username", "it is `user` here"),
];
/// For keys of checks that stand at a backend.
const OF_CHECK: &str = "it belongs into [pools.NAME.check], for all backends of the pool";
/// For keys about daemons.
const FOREGROUND: &str = "ringway stays in the foreground, and systemd starts it; leave it out";
/// For keys of systemd's units.
const UNIT: &str = "it belongs into a unit of systemd, not into the configuration";

/// At the top of the file.
const TOP: Words = &[
    ("global main events", "what holds for the whole process stands in [process], [log] and [admin]"),
    ("defaults", "there are no defaults for all pools; write what differs from ringway's into each [pools.NAME]"),
    ("frontend frontends entrypoint entrypoints server servers virtualhost", LISTENERS),
    ("backend backends upstream upstreams cluster clusters services loadbalancer loadbalancers", POOLS),
    ("listen stream http tcp tcprouters routers staticresources dynamicresources proxy proxies", BOTH),
    ("stats api dashboard metrics prometheus monitoring ping", "[admin] has `listen` for metrics and the status page"),
    ("resolver resolvers nameserver nameservers", "name servers stand in [dns] as `servers`"),
    ("tls ssl certificates tlsoptions", "TLS stands at the listener where it ends: [listeners.NAME.tls]"),
    ("logging logs errorlog", "it is [log] here, with `level` and `output`"),
    ("accesslogs", "it is [access_log] here, with `output`"),
    ("include includes import imports confd", "a configuration is one file; write all of it into this one"),
    ("unit service install socket", UNIT),
    ("healthcheck healthchecks check", "it is [pools.NAME.check] here"),
    ("workerprocesses nbthread nbproc threads concurrency", "it is `workers` in [process] here"),
    ("maxconn workerconnections", "it is `connections_max` in [process] here"),
    ("daemon pid pidfile", FOREGROUND),
];

/// In `[process]`.
const PROCESS: Words = &[
    ("nbthread nbproc threads workerprocesses concurrency workerthreads", "it is `workers` here"),
    ("maxconn maxconnections workerconnections ulimitn", "it is `connections_max` here"),
    ("workerrlimitnofile limitnofile", "ringway raises its own limit; the hard one is LimitNOFILE= in the unit"),
    ("daemon background master masterworker", FOREGROUND),
    ("pid pidfile", "ringway writes no file with its pid, and systemd knows it; leave it out"),
    ("chroot", "ringway denies itself the files that it does not need; leave it out"),
    ("cpumap cpuaffinity workercpuaffinity", "it is `pin_workers` here"),
    ("hardstopafter workershutdowntimeout draintime", "it is `shutdown_grace` here"),
    ("grace graceperiod", "it is `shutdown_delay` (before the drain) or `shutdown_grace` (of the drain) here"),
    ("uid username", "it is `user` here"),
    ("gid groupname", "it is `group` here"),
    ("log loglevel", "it is `level` in [log] here"),
    ("stats statssocket", "it is `socket` in [admin] here"),
];

/// In `[log]` and `[access_log]`.
const LOG: Words = &[
    ("file filename filepath path target destination dest", "it is `output` here"),
    ("loglevel severity verbosity", "it is `level` in [log] here"),
    ("logformat", "it is `format` here"),
];

/// In `[admin]`.
const ADMIN: Words = &[
    ("bind address addr port host httpaddress", "it is `listen` here, as in listen = \"127.0.0.1:9900\""),
    ("path socketpath unix sock", "it is `socket` here"),
    ("mode permissions", "it is `socket_mode` here"),
    (
        "password auth token user username secret",
        "there is no password; keep `listen` on a private address, and `socket_mode` tight",
    ),
    ("enable enabled", "it is on where `listen` or `socket` is given; leave it out"),
];

/// In `[dns]`.
const DNS: Words = &[
    ("nameserver nameservers server resolver resolvers", "it is `servers` here, as in servers = [\"10.0.0.53:53\"]"),
    ("retries resolveretries", "it is `attempts` here"),
    ("timeoutresolve timeoutretry resolvertimeout", "it is `timeout` here"),
    ("hold holdvalid holdobsolete", "it is `obsolete_hold` and `denied_hold` in [pools.NAME] here"),
    ("search domain options", "what is looked up is the name as it is written; write the whole name as `address`"),
];

/// In `[listeners.NAME]`.
const LISTENER: Words = &[
    (
        "listen address addr addresses port host socketaddress endpoint",
        "it is `bind` here, as in bind = \"0.0.0.0:80\"",
    ),
    (
        "defaultbackend usebackend backend backends proxypass upstream cluster service target server servers pools",
        "it is `pool` here, the NAME of a [pools.NAME]",
    ),
    ("maxconn maxconns maxconnections connectionlimit", "it is `connections_max` here"),
    ("mode protocol", TCP),
    ("ssl tlscontext downstreamtlscontext", "TLS that ends here is [listeners.NAME.tls], with `certificates`"),
    (
        "cert certs certificate crt key sslcertificate sslcertificatekey certfile keyfile tlscertificates",
        "it is `certificates` in [listeners.NAME.tls] here",
    ),
    ("crtlist", "it is `certificate_dir` in [listeners.NAME.tls] here"),
    ("sslprotocols sslminver tlsminversion", "it is `min_version` in [listeners.NAME.tls] here"),
    ("cafile sslclientcertificate", "it is `client_ca` in [listeners.NAME.tls] here"),
    ("crlfile sslcrl", "it is `client_crl` in [listeners.NAME.tls] here"),
    ("verify sslverifyclient", "it is `client_auth` in [listeners.NAME.tls] here"),
    ("strictsni sslrejecthandshake", "it is `unknown_name = \"refuse\"` in [listeners.NAME.tls] here"),
    ("sslhandshaketimeout", "it is `handshake_timeout` in [listeners.NAME.tls] here"),
    ("sslsessiontickets notlstickets sslsessioncache", "it is `tickets` in [listeners.NAME.tls] here"),
    ("ciphers sslciphers ciphersuites sslpreferserverciphers", CIPHERS),
    ("proxyprotocol acceptproxyprotocol", "it is `accept_proxy` here, with `proxy_trusted`"),
    ("acl whitelist allowlist src ipallowlist sourcerange ipwhitelist", "it is `allow` and `deny` here"),
    ("blacklist denylist blocklist", "it is `deny` here"),
    ("limitconn connlimit maxconnperip inflightconn", "it is `source_connections_max` here"),
    ("limitreq ratelimit rate connrate srcconnrate", "it is `source_rate_max` here"),
    (
        "sni hostsni servername servernames rule sslpreread usebackendsni",
        "it is `sni` of a [[listeners.NAME.routes]] here",
    ),
    ("timeout timeoutclient clienttimeout timeouts", "it is `idle_timeout` in [pools.NAME], for both sides"),
];

/// In `[listeners.NAME.tls]`.
const LISTENER_TLS: Words = &[
    (
        "cert certs certificate crt key sslcertificate sslcertificatekey certfile keyfile tlscertificates pem",
        "it is `certificates` here, as in certificates = [{ cert = \"/x.crt\", key = \"/x.key\" }]",
    ),
    ("crtlist certdir certdirectory certificatesdir", "it is `certificate_dir` here"),
    ("sslprotocols protocols sslminver tlsminversion minprotocolversion tlsparams", "it is `min_version` here"),
    ("cafile ca clientcafile sslclientcertificate ssltrustedcertificate trustedca", "it is `client_ca` here"),
    ("crl crlfile sslcrl", "it is `client_crl` here"),
    (
        "verify sslverifyclient clientauthtype requireclientcertificate mtls",
        "it is `client_auth` here, \"optional\" or \"required\"",
    ),
    ("strictsni snistrict sslrejecthandshake", "it is `unknown_name = \"refuse\"` here"),
    ("sslhandshaketimeout timeout timeouthandshake", "it is `handshake_timeout` here"),
    ("sslsessiontickets sessiontickets notlstickets sslsessioncache", "it is `tickets` here, true or false"),
    ("alpnprotocols npn", "it is `alpn` here"),
    (
        "ciphers sslciphers ciphersuites sslpreferserverciphers curves ecdhcurve sslecdhcurve dhparam ssldhparam",
        CIPHERS,
    ),
    ("ssl tls on enable enabled", TLS_IS_ON),
    ("sni servername servernames", "names lead to pools by `sni` of [[listeners.NAME.routes]]"),
];

/// In `[[listeners.NAME.routes]]`.
const ROUTE: Words = &[
    ("servername servernames hostsni host hosts hostname domain domains name rule match", "it is `sni` here"),
    ("backend cluster upstream target proxypass service usebackend", "it is `pool` here, the NAME of a [pools.NAME]"),
    ("protocols applicationprotocols", "it is `alpn` here"),
];

/// In `[pools.NAME]`.
const POOL: Words = &[
    ("mode protocol type http", TCP),
    ("lbpolicy algorithm lbalgorithm method lbmethod strategy policy loadbalancing scheduler", "it is `balance` here"),
    ("iphash hash sourcehash ringhash maglev consistent consistenthash", "it is `balance = \"consistent_hash\"` here"),
    ("leastconn leastconnections leastrequest", "it is `balance = \"least_conn\"` here"),
    ("roundrobin", "it is `balance = \"round_robin\"` here"),
    ("random", "it is `balance = \"random\"` here"),
    (
        "server servers members endpoints hosts targets upstream upstreams nodes loadassignment address addresses",
        BACKENDS,
    ),
    ("timeout timeouts", "a pool has `connect_timeout`, `idle_timeout`, `queue_timeout` and `half_close_timeout`"),
    ("timeoutconnect proxyconnecttimeout contimeout", "it is `connect_timeout` here"),
    (
        "timeoutserver timeoutclient timeouttunnel proxytimeout proxyreadtimeout srvtimeout clitimeout",
        "it is `idle_timeout` here, for both sides",
    ),
    ("timeoutclientfin timeoutserverfin", "it is `half_close_timeout` here"),
    ("timeoutqueue", "it is `queue_timeout` here"),
    ("timeoutcheck checktimeout", "it is `timeout` in [pools.NAME.check] here"),
    ("retries maxretries maxconnectattempts proxynextupstreamtries", "it is `connect_attempts` here"),
    (
        "redispatch optionredispatch retryon proxynextupstream",
        "another backend is always tried, up to `connect_attempts`; leave it out",
    ),
    (
        "maxfails failtimeout outlierdetection circuitbreaker circuitbreakers observe onerror",
        "it is `failures` and `window` in [pools.NAME.ejection] here",
    ),
    ("option options", "what HAProxy calls an option is a key of its own; `ringway reference` prints every key"),
    ("healthcheck healthchecks httpchk optionhttpchk httpcheck tcpcheck", "it is [pools.NAME.check] here"),
    (
        "sticktable stickon stick persistence affinity cookie sessionaffinity stickysession",
        "`balance = \"consistent_hash\"` keeps a client on its backend",
    ),
    ("listen", "it is `bind` of a [listeners.NAME] here"),
    ("maxconn fullconn maxconns maxconnections", "it is `connections_max` of each [[pools.NAME.backends]] here"),
    ("maxqueue queue maxpending maxpendingrequests", "it is `queue_max` here"),
    ("proxyprotocol sendproxyprotocol", "it is `send_proxy` here, \"v1\" or \"v2\""),
    ("sendproxyv2", "it is `send_proxy = \"v2\"` here"),
    ("sourceaddress proxybind usesrc", "it is `source` here"),
    ("tcpka clitcpka srvtcpka proxysocketkeepalive tcpkeepalive", "it is `keepalive` here"),
    ("dnslookupfamily", "it is `address_family` here"),
    ("name", "the name of a pool stands in its header: [pools.NAME]"),
    ("ssl tlscontext upstreamtlscontext proxyssl proxyssltrustedcertificate cafile sni sslverify", BACKEND_TLS),
];

/// In `[pools.NAME.tls]`.
const POOL_TLS: Words = &[
    ("sni sslname proxysslname sslservername proxysslservername hostname name host", "it is `server_name` here"),
    ("ca sslca trustedca rootca rootcas cacert proxyssltrustedcertificate", "it is `ca_file` here"),
    ("sslverify verifypeer proxysslverify verifyhost", "it is `verify` here, true or false"),
    ("insecure insecureskipverify skipverify", "it is `verify = false` here"),
    (
        "crt certificate certificates clientcertificate certfile proxysslcertificate pem",
        "it is `cert` here, with `key`",
    ),
    ("keyfile privatekey proxysslcertificatekey", "it is `key` here, with `cert`"),
    ("sslminver tlsminversion sslprotocols proxysslprotocols protocols minprotocolversion", "it is `min_version` here"),
    ("alpnprotocols npn", "it is `alpn` here"),
    ("ciphers sslciphers ciphersuites proxysslciphers curves", CIPHERS),
    ("ssl tls on enable enabled", "[pools.NAME.tls] turns TLS on by being there; leave it out"),
];

/// In `[pools.NAME.check]`.
const CHECK: Words = &[
    ("inter checkinterval periodseconds", "it is `interval` here"),
    ("uri url httpuri httppath endpoint", "it is `path` here"),
    ("expectedstatus expectedstatuses statuscode statuscodes expectstatus", "it is `status` here"),
    ("fails unhealthythreshold failurethreshold retries maxfails", "it is `fall` here"),
    ("passes healthythreshold successthreshold", "it is `rise` here"),
    ("password passwd", "it is `password_file` here, the path of a file that holds it"),
    ("username login", "it is `user` here"),
    ("db dbname", "it is `database` here"),
    ("protocol kind mode", "it is `type` here"),
    ("request sendstring query", "it is `send` here"),
    ("response receive match expectstring rstring string", "it is `expect` here"),
    ("checkport", "it is `port` here"),
    ("checktimeout timeoutcheck", "it is `timeout` here"),
    ("enabled enable", "`type = \"off\"` turns a check off; leave it out"),
];

/// In `[pools.NAME.ejection]`.
const EJECTION: Words = &[
    ("maxfails consecutivefailures consecutive5xx failurethreshold threshold", "it is `failures` here"),
    ("failtimeout", "it is `window` (in which failures count) and `duration` (of the ejection) here"),
    ("interval", "it is `window` here"),
    ("ejectiontime baseejectiontime", "it is `duration` here"),
    ("maxejectionpercent", "it is `percent_max` here"),
];

/// In `[[pools.NAME.backends]]`.
const BACKEND: Words = &[
    ("maxconn maxconns maxconnections", "it is `connections_max` here"),
    ("maxfails failtimeout observe errorlimit", "it is `failures` and `window` in [pools.NAME.ejection] here"),
    ("server host hostname ip addr url target endpoint socketaddress", "it is `address` here, as in \"10.0.0.1:5432\""),
    ("port portvalue", "the port stands in `address`, as in \"10.0.0.1:5432\""),
    ("check healthcheck inter interval rise fall timeout path checkport addrcheck", OF_CHECK),
    ("fastinter downinter", OF_CHECK),
    ("down drain maint maintenance disable", "`disabled = true` takes it out"),
    ("enabled enable", "a backend is used unless `disabled = true`; leave it out"),
    ("sendproxyv2 proxyprotocol", "it is `send_proxy = \"v2\"` in [pools.NAME] here"),
    ("id", "it is `name` here"),
    ("loadbalancingweight loadfactor", "it is `weight` here"),
    ("priority standby", "it is `backup` here"),
    ("resolvers resolve initaddr resolveprefer", "names are looked up without it; leave it out"),
    ("ssl tls verify sni cafile crt", BACKEND_TLS),
    ("cookie", "`balance = \"consistent_hash\"` in [pools.NAME] keeps a client on its backend"),
];

/// A word that some key takes, and what other programs call it.
const VALUES: &[(&str, &str)] = &[
    ("round_robin", "rr wrr swrr staticrr weightedroundrobin"),
    ("least_conn", "leastconnections leastconnection leastrequest leasttime lc wlc"),
    ("consistent_hash", "source sourceip iphash sourcehash hash ringhash maglev chash consistent sh mh"),
    ("random", "rand p2c poweroftwo"),
    ("failover", "first priority activepassive activebackup backup"),
    ("http", "httpchk httpcheck"),
    ("send_expect", "tcpcheck expect"),
    ("postgresql", "postgres pgsql pgsqlcheck psql pg"),
    ("mysql", "mariadb mysqlcheck galera percona"),
    ("redis", "redischeck valkey"),
    ("required", "on true yes always enabled"),
    ("v1", "on true yes enabled"),
    ("off", "none no false never disable disabled"),
    ("error", "err crit critical alert emerg emergency fatal"),
    ("warn", "warning"),
    ("info", "notice"),
    ("debug", "trace verbose"),
    ("primary", "master leader rw writer readwrite"),
    ("replica", "slave standby secondary follower ro reader readonly"),
    ("tcplog", "haproxy text"),
    ("ipv4", "4 v4 v4only ip4"),
    ("ipv6", "6 v6 v6only ip6"),
    ("any", "all auto both"),
    ("1.2", "tls12 tlsv12"),
    ("1.3", "tls13 tlsv13"),
    ("refuse", "reject deny strict"),
];

#[cfg(test)]
mod tests {
    use super::*;
    use crate::config::keys::{self, Kind};

    const SECTIONS: [Section; 13] = [
        Section::Process,
        Section::Log,
        Section::AccessLog,
        Section::Admin,
        Section::Dns,
        Section::Listener,
        Section::ListenerTls,
        Section::Route,
        Section::Pool,
        Section::PoolTls,
        Section::Check,
        Section::Ejection,
        Section::Backend,
    ];

    /// A translation to a key that does not exist would mislead the user.
    #[test]
    fn every_key_that_is_named_is_there() {
        let all: Vec<Words> =
            vec![TOP, PROCESS, LOG, ADMIN, DNS, LISTENER, LISTENER_TLS, ROUTE, POOL, CHECK, EJECTION, BACKEND];
        for (words, here) in all.into_iter().flatten() {
            assert_eq!(words.split(' ').map(plain).collect::<Vec<_>>().join(" "), *words, "written as it is compared");
            for name in here.split('`').skip(1).step_by(2).filter(|quoted| !quoted.starts_with("ringway ")) {
                let name = name.split(' ').next().unwrap_or_default();
                assert!(keys::KEYS.iter().any(|key| key.name == name), "{name} of {here:?}");
            }
        }
        for (here, _) in VALUES {
            let takes = |key: &keys::Key| match key.kind {
                Kind::Word(words) | Kind::WordOrPath(words) | Kind::WordPathOrSyslog(words) => words.contains(here),
                _ => false,
            };
            assert!(keys::KEYS.iter().any(takes), "{here}");
        }
    }

    /// For a name that is a key of ringway itself, no translation is ever looked up.
    #[test]
    fn no_translation_hides_behind_a_key() {
        for section in SECTIONS {
            for key in keys::of(section) {
                assert_eq!(in_table(section, key.name), None, "{section:?} {}", key.name);
            }
        }
    }

    #[test]
    fn a_word_means_what_it_means_where_it_stands() {
        assert_eq!(at_top("entryPoints"), Some(LISTENERS));
        assert!(in_table(Section::Process, "maxconn").unwrap().contains("`connections_max` here"));
        assert!(in_table(Section::Pool, "maxconn").unwrap().contains("of each"));
        assert!(in_table(Section::Pool, "timeout connect").unwrap().contains("`connect_timeout`"));
        assert_eq!(in_table(Section::Pool, "nonsense"), None);
        assert_eq!(value("RING_HASH", &["random", "consistent_hash"]), Some("consistent_hash"));
        assert_eq!(value("INFO", &["warn", "info"]), Some("info"));
        assert_eq!(value("ip_hash", &["v1", "v2"]), None);
    }
}
