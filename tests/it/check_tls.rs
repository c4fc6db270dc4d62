//! Checks over TLS of real servers, and of nodes of a real Galera cluster.

use std::process::Command;

use crate::harness::address::own_ip;
use crate::harness::authority::Authority;
use crate::harness::mariadb::MariaDb;
use crate::harness::postgresql::{self, Cluster};
use crate::harness::process::{self, Process};
use crate::harness::redis::{Redis, programs};
use crate::harness::{Peer, Ringway, wait_until};

const PACE: &str = "rise = 1\nfall = 1\ntimeout = \"5s\"\ninterval = \"50ms\"\n\
                    fast_interval = \"50ms\"\ndown_interval = \"50ms\"\n";
/// Of a check that is to succeed: it must bring its backend up.
const DOWN: &str = "initial = \"down\"\n";

/// One more pool with one backend `x`.
fn pool(name: &str, address: &str, check: &str) -> String {
    format!("[pools.{name}.check]\n{PACE}{check}\n[[pools.{name}.backends]]\nname = \"x\"\naddress = \"{address}\"\n")
}

/// Keys of a check that believes this authority.
fn verified(authority: &Authority, server_name: &str) -> String {
    format!("tls = \"require\"\nca_file = \"{}\"\nserver_name = \"{server_name}\"\n", authority.file().display())
}

#[test]
fn an_https_server_is_asked_for_its_page_and_must_prove_its_name() {
    let Some(openssl) = process::program(&["/usr/bin/openssl"], "openssl") else { return };
    let (authority, stranger, ip) = (Authority::new(), Authority::new(), own_ip().to_string());
    let shown = authority.sign(&["web.example", &ip]);
    let mut server = Command::new(openssl);
    server.args(["s_server", "-www", "-quiet", "-accept", &format!("{ip}:443")]);
    let server = Process::start(server.arg("-cert").arg(&shown.certificate).arg("-key").arg(&shown.key));
    let address = format!("{ip}:443");
    wait_until("it listens", || Peer::try_connect(&address).is_ok());
    let http = "type = \"http\"\npath = \"/\"\nexpect = \"Ciphers supported\"\n";
    let ringway = Ringway::before([&*address])
        .check_only(&format!("{PACE}{DOWN}{http}{}", verified(&authority, "web.example")))
        // Without a name it is the address.
        .more(&pool("address", &address, &format!("{DOWN}{http}{}", verified(&authority, ""))))
        .more(&pool("wrong", &address, &format!("{http}{}", verified(&authority, "db.example"))))
        .more(&pool("stranger", &address, &format!("{http}{}", verified(&stranger, "web.example"))))
        .more(&pool("blind", &address, &format!("{DOWN}{http}tls = \"require\"\nverify = false")))
        .more(&pool("clear", &address, http))
        .start();
    for name in ["main", "address", "blind"] {
        ringway.wait_up(name, if name == "main" { "a" } else { "x" }, true);
    }
    ringway.wait_said(&format!("its certificate is not for db.example but for web.example, {ip}; set `server_name`"));
    ringway.wait_said("no authority that is believed has signed its certificate");
    for name in ["wrong", "stranger", "clear"] {
        ringway.wait_up(name, "x", false);
    }
    drop(server);
}

/// The sandbox leaves that file readable, wherever it is.
#[test]
fn the_environment_says_which_authorities_the_system_believes() {
    let Some(openssl) = process::program(&["/usr/bin/openssl"], "openssl") else { return };
    let (authority, ip) = (Authority::new(), own_ip().to_string());
    let shown = authority.sign(&[&ip]);
    let mut server = Command::new(openssl);
    server.args(["s_server", "-quiet", "-accept", &format!("{ip}:443")]);
    let server = Process::start(server.arg("-cert").arg(&shown.certificate).arg("-key").arg(&shown.key));
    let address = format!("{ip}:443");
    wait_until("it listens", || Peer::try_connect(&address).is_ok());
    let check = format!("{PACE}{DOWN}type = \"tcp\"\ntls = \"require\"\n");
    let plan = Ringway::before([&*address]).check_only(&check);
    let ringway = plan.environment("SSL_CERT_FILE", authority.file().to_str().unwrap()).start();
    ringway.wait_up("main", "a", true);
    drop(server);
}

#[test]
fn a_real_redis_and_mariadb_are_checked_over_verified_tls() {
    let Some([redis, ..]) = programs() else { return };
    let authority = Authority::new();
    let shown = authority.sign(&["db.example"]);
    let (certificate, key) = (shown.certificate.to_str().unwrap(), shown.key.to_str().unwrap());
    let redis = Redis::configured(
        &redis,
        &["--tls-port", "6380", "--tls-cert-file", certificate, "--tls-key-file", key, "--tls-auth-clients", "no"],
    );
    let options = [format!("--ssl-cert={certificate}"), format!("--ssl-key={key}")];
    let Some(maria) = MariaDb::start(&[&options[0], &options[1], "--require-secure-transport=ON"]) else { return };
    maria.sql("create user eye identified by 'geheim' require ssl");
    let password = authority.folder().join("password");
    std::fs::write(&password, "geheim\n").unwrap();
    let account = format!("user = \"eye\"\npassword_file = \"{}\"\nrole = \"primary\"\n", password.display());
    let secret = redis.address().replace(":6379", ":6380");
    let ringway = Ringway::before([&*secret])
        .check_only(&format!(
            "{PACE}{DOWN}type = \"redis\"\nrole = \"primary\"\n{}",
            verified(&authority, "db.example")
        ))
        .more(&pool(
            "maria",
            &maria.address(),
            &format!(
                "{DOWN}type = \"mysql\"
{account}{}",
                verified(&authority, "db.example")
            ),
        ))
        .more(&pool(
            "mute",
            &maria.address(),
            &format!(
                "{DOWN}type = \"mysql\"
{}",
                verified(&authority, "db.example")
            ),
        ))
        .more(&pool("off", &maria.address(), &format!("type = \"mysql\"\ntls = \"off\"\n{account}")))
        .more(&pool("plain", &redis.address(), &format!("type = \"redis\"\n{}", verified(&authority, "db.example"))))
        .start();
    ringway.wait_up("main", "a", true);
    ringway.wait_up("maria", "x", true);
    ringway.wait_up("mute", "x", true);
    ringway.wait_said("no answer within 5000 ms while beginning TLS");
    for name in ["off", "plain"] {
        ringway.wait_up(name, "x", false);
    }
    let aborted = maria.sql("show global status like 'Aborted_clients'");
    assert_eq!(aborted, "Aborted_clients\t0", "every check that got in has said goodbye");
}

#[test]
fn a_postgresql_without_tls_is_not_fit_where_it_is_required() {
    let Some(bin) = postgresql::folder() else { return };
    let (clear, secret) = (Cluster::start(&bin), Cluster::configured(&bin, "ssl = on\n", ""));
    let stranger = Authority::new();
    let check = "type = \"postgresql\"\nuser = \"postgres\"\nrole = \"primary\"\ntls = \"require\"\nverify = false\n";
    let mute = "type = \"postgresql\"\ntls = \"require\"\n";
    let ringway = Ringway::before([&*secret.address()])
        .check_only(&format!("{PACE}{DOWN}{check}"))
        .more(&pool("clear", &clear.address(), &check.replace("role = \"primary\"\n", "")))
        .more(&pool("mute", &secret.address(), &format!("{DOWN}{mute}verify = false")))
        .more(&pool("stranger", &secret.address(), &format!("{mute}ca_file = \"{}\"", stranger.file().display())))
        .start();
    ringway.wait_up("main", "a", true);
    ringway.wait_up("mute", "x", true);
    ringway.wait_said("it offers no TLS, which `check.tls` = \\\"require\\\" asks for");
    ringway.wait_up("clear", "x", false);
    ringway.wait_up("stranger", "x", false);
}

#[test]
fn a_galera_node_is_fit_only_while_it_is_up_to_date() {
    let library = "/usr/lib/galera/libgalera_smm.so";
    if process::program(&[library], "galera-4").is_none() {
        return;
    }
    let ip = own_ip().to_string();
    let options = [
        "--wsrep-on=ON".to_string(),
        format!("--wsrep-provider={library}"),
        "--wsrep-cluster-address=gcomm://".to_string(),
        "--binlog-format=ROW".to_string(),
        format!("--wsrep-node-address={ip}"),
        format!("--wsrep-provider-options=gmcast.listen_addr=tcp://{ip}:4567"),
    ];
    let Some(programs) = crate::harness::mariadb::programs() else { return };
    let options: Vec<&str> = options.iter().map(String::as_str).collect();
    let node = MariaDb::launch(&programs, &ip, &options, |command| command);
    let Some(alone) = MariaDb::start(&[]) else { return };
    let check = "type = \"mysql\"\nuser = \"eye\"\n";
    for server in [&node, &alone] {
        server.sql("create user eye");
    }
    let ringway = Ringway::before([&*node.address()])
        .check_only(&format!("{PACE}{DOWN}{check}galera = true"))
        .more(&pool("donor", &node.address(), &format!("{DOWN}{check}galera = \"donor\"")))
        .more(&pool("alone", &alone.address(), &format!("{check}galera = true")))
        .start();
    ringway.wait_up("main", "a", true);
    ringway.wait_up("donor", "x", true);
    ringway.wait_said("it is no node of a Galera cluster");
    ringway.wait_up("alone", "x", false);
    // Desynced is the state of a node that brings another up to date.
    node.sql("set global wsrep_desync = 1");
    ringway.wait_up("main", "a", false);
    ringway.wait_said("its wsrep_local_state is 2 (Donor/Desynced)");
    ringway.wait_up("donor", "x", true);
    node.sql("set global wsrep_desync = 0");
    ringway.wait_up("main", "a", true);
}
