//! TLS that ends here or begins here, with programs that have another TLS than ringway: OpenSSL's.

use std::os::unix::fs::PermissionsExt;
use std::process::Command;

use crate::harness::authority::{Authority, Certificate};
use crate::harness::postgresql::{self, Cluster};
use crate::harness::process::{Ended, program, run};
use crate::harness::redis::{Redis, programs};
use crate::harness::{End, Listener, Ringway};
use crate::proxy_peers::{gunicorn_with, nginx};
use crate::tls_listener::{pattern, plan};

const NAME: &str = "db.example";

/// `ip:port` in two.
fn parts(address: &str) -> (&str, &str) {
    address.split_once(':').unwrap()
}

#[test]
fn redis_cli_and_redis_benchmark_are_served_inside_of_tls() {
    let Some([server, cli, benchmark]) = programs() else { return };
    let (authority, redis) = (Authority::new(), Redis::start(&server));
    let ringway = plan(&redis.address(), &[&authority.sign(&[NAME])], "").start();
    let (ip, port) = parts(ringway.address());
    let with = |program: &str, authority: &Authority| {
        let mut command = Command::new(program);
        command.args(["-h", ip, "-p", port, "--tls", "--sni", NAME, "--cacert"]).arg(authority.file());
        command
    };
    let ask = |words: &[&str]| {
        let ended = run(with(&cli, &authority).args(words));
        assert!(ended.status.success() && ended.stderr.is_empty(), "{}{}", ended.stdout, ended.stderr);
        ended.stdout.trim().to_string()
    };
    assert_eq!(ask(&["SET", "key", &"v".repeat(100_000)]), "OK");
    assert_eq!(ask(&["GET", "key"]), "v".repeat(100_000));
    assert_eq!(ask(&["EVAL", "return string.rep('x', 3000000)", "0"]).len(), 3_000_000);
    assert_eq!(ask(&["-r", "300", "INCR", "count"]).lines().last(), Some("300"));
    let load = ["-q", "-t", "set,get", "-n", "600", "-c", "20", "-d", "40000", "-P", "4"];
    let ended = run(with(&benchmark, &authority).args(load));
    assert!(ended.status.success() && ended.stdout.contains("GET: "), "{}{}", ended.stdout, ended.stderr);
    let failed = || ringway.metrics().count("tls_handshakes_total", &[("result", "failure")]);
    assert_eq!(failed(), 0);
    let ended = run(with(&cli, &Authority::new()).arg("PING"));
    assert!(ended.stderr.contains("certificate verify failed"), "{}{}", ended.stdout, ended.stderr);
    ringway.wait_idle();
    assert!(failed() > 0, "the one that believes another");
}

/// Asks with curl, which verifies the name, for as many URLs as there are paths, on one connection if it stays open.
fn curl(ringway: &Ringway, authority: &Authority, name: &str, options: &[&str], paths: &[&str]) -> Option<Ended> {
    let curl = program(&["/usr/bin/curl"], "curl")?;
    let (ip, port) = parts(ringway.address());
    let mut command = Command::new(curl);
    command.args(["-v", "-sS", "--http1.1", "--resolve", &format!("{name}:{port}:{ip}"), "--cacert"]);
    command.arg(authority.file()).args(options);
    command.args(paths.iter().map(|path| format!("https://{name}:{port}{path}")));
    Some(run(&mut command))
}

/// curl's words for one version and no other.
const VERSIONS: [(&str, [&str; 3]); 2] =
    [("TLSv1.2", ["--tlsv1.2", "--tls-max", "1.2"]), ("TLSv1.3", ["--tlsv1.3", "--tls-max", "1.3"])];

#[test]
fn curl_is_served_by_gunicorn_inside_of_tls() {
    const APP: &str = "import hashlib\ndef app(environ, start):\n    \
                       body = environ['wsgi.input'].read(int(environ.get('CONTENT_LENGTH') or 0))\n    \
                       start('200 OK', [('Content-Type', 'text/plain')])\n    \
                       return [hashlib.md5(body).hexdigest().encode(), b'\\n', b'x' * 3000000]\n";
    let Some(server) = gunicorn_with(APP, &[]) else { return };
    let authority = Authority::new();
    let ringway = plan(&server.address, &[&authority.sign(&[NAME])], "alpn = [\"http/1.1\"]").start();
    let upload = authority.folder().join("upload");
    std::fs::write(&upload, pattern(2_000_000)).unwrap();
    let known = run(Command::new("md5sum").arg(&upload)).stdout[..32].to_string();
    let body = format!("@{}", upload.display());
    for (version, options) in VERSIONS {
        let options = [&options[..], &["--data-binary", &body]].concat();
        let Some(ended) = curl(&ringway, &authority, NAME, &options, &["/"]) else { return };
        assert!(ended.status.success(), "{}", ended.stderr);
        assert_eq!(ended.stdout, format!("{known}\n{}\n", "x".repeat(3_000_000)));
        assert!(ended.stderr.contains(&format!("SSL connection using {version}")), "{}", ended.stderr);
        assert!(ended.stderr.contains("ALPN: server accepted http/1.1"), "{}", ended.stderr);
    }
    let wrong = curl(&ringway, &authority, "other.example", &[], &["/"]).unwrap();
    assert_eq!(wrong.status.code(), Some(60), "a certificate that is not for the name: {}", wrong.stderr);
    ringway.wait_idle();
    assert_eq!(ringway.metrics().count("tls_truncated_total", &[]), 0);
}

/// A host with a certificate for each name; it says what it was asked for and how.
fn nginx_conf(shown: &[(&str, &Certificate)]) -> String {
    let host = |(name, shown): &(&str, &Certificate)| {
        let Certificate { certificate, key } = shown;
        format!(
            "server {{\nlisten ADDRESS ssl;\nserver_name {name};\nssl_certificate {};\nssl_certificate_key {};\n\
             location / {{ return 200 \"{name} $ssl_server_name $ssl_protocol $connection_requests\\n\"; }}\n}}\n",
            certificate.display(),
            key.display()
        )
    };
    let hosts: Vec<String> = shown.iter().map(host).collect();
    format!(
        "daemon off;\npid FOLDER/pid;\nevents {{}}\nhttp {{\naccess_log off;\nssl_protocols TLSv1.2 TLSv1.3;\n{}}}\n",
        hosts.concat()
    )
}

/// The client asks for a name, ringway shows a certificate for it, asks nginx for the same and verifies that it has it.
#[test]
fn nginx_with_tls_is_asked_for_the_name_that_curl_asks_for() {
    let (clients, servers) = (Authority::new(), Authority::new());
    let names = ["a.example", "b.example"];
    let shown = names.map(|name| servers.sign(&[name]));
    let hosts: Vec<_> = names.into_iter().zip(&shown).collect();
    let Some(server) = nginx(&nginx_conf(&hosts)) else { return };
    let own = clients.sign(&["a.example", "b.example", "c.example"]);
    let tls = format!("[pools.main.tls]\nserver_name = \"client\"\nca_file = {:?}\n", servers.file());
    let ringway = plan(&server.address, &[&own], "").more(&tls).access_log("stderr", "json").start();
    for (version, options) in VERSIONS {
        for name in names {
            let Some(ended) = curl(&ringway, &clients, name, &options, &["/1", "/2", "/3"]) else { return };
            assert!(ended.stderr.contains(&format!("SSL connection using {version}")), "{}", ended.stderr);
            let lines: Vec<String> = (1..=3).map(|count| format!("{name} {name} TLSv1.3 {count}\n")).collect();
            assert_eq!(ended.stdout, lines.concat(), "{}", ended.stderr);
        }
    }
    // nginx shows the certificate of another name.
    let Some(ended) = curl(&ringway, &clients, "c.example", &[], &["/"]) else { return };
    assert!(!ended.status.success() && ended.stdout.is_empty(), "{}{}", ended.stdout, ended.stderr);
    ringway.wait_said("its certificate is not for c.example but for a.example");
}

/// It wants a certificate itself.
#[test]
fn a_real_redis_with_tls_is_spoken_to_in_tls() {
    let Some([server, cli, _]) = programs() else { return };
    let authority = Authority::new();
    let (shown, own) = (authority.sign(&[NAME]), authority.sign(&["ringway.example"]));
    let path = |path: &std::path::Path| path.to_str().unwrap().to_string();
    let (certificate, key, ca) = (path(&shown.certificate), path(&shown.key), path(&authority.file()));
    let files = ["--tls-cert-file", &certificate, "--tls-key-file", &key, "--tls-ca-cert-file", &ca];
    for version in ["TLSv1.2", "TLSv1.3"] {
        let options = ["--tls-port", "6380", "--tls-auth-clients", "yes", "--tls-protocols", version];
        let redis = Redis::configured(&server, &[&options[..], &files].concat());
        let secret = redis.address().replace(":6379", ":6380");
        let tls = format!(
            "[pools.main.tls]\nserver_name = {NAME:?}\nca_file = {ca:?}\ncert = {:?}\nkey = {:?}\n",
            own.certificate, own.key
        );
        let ringway = Ringway::before([&*secret]).more(&tls).access_log("stderr", "json").start();
        let (ip, port) = parts(ringway.address());
        let ask = |words: &[&str]| {
            let ended = run(Command::new(&cli).args(["-h", ip, "-p", port]).args(words));
            assert!(ended.status.success() && ended.stderr.is_empty(), "{}{}", ended.stdout, ended.stderr);
            ended.stdout.trim().to_string()
        };
        assert_eq!(ask(&["SET", "key", &"v".repeat(100_000)]), "OK");
        assert_eq!(ask(&["GET", "key"]), "v".repeat(100_000));
        assert_eq!(ask(&["EVAL", "return string.rep('x', 3000000)", "0"]).len(), 3_000_000);
        let count = |labels: &[_]| ringway.metrics().count("tls_backend_handshakes_total", labels);
        assert_eq!((count(&[]), count(&[("result", "failure")])), (3, 0));
        ringway.expect_code("--", 3);
        // Without a certificate of our own it does not take us.
        ringway.edit(|text| text.replace(&format!("cert = {:?}\nkey = {:?}\n", own.certificate, own.key), ""));
        assert!(ringway.reload());
        assert_eq!(ringway.connect().end(), End::Reset, "{version}");
    }
}

/// A cluster that takes nothing but TLS, with a certificate for that name.
fn secret_cluster(bin: &std::path::Path, authority: &Authority) -> Cluster {
    let Certificate { certificate, key } = authority.sign(&[NAME]);
    // Its server runs as another user.
    std::fs::set_permissions(authority.folder(), PermissionsExt::from_mode(0o755)).unwrap();
    std::fs::set_permissions(&key, PermissionsExt::from_mode(0o600)).unwrap();
    std::os::unix::fs::chown(&key, postgresql::user(), None).unwrap();
    let files = [("ssl_cert_file", &certificate), ("ssl_key_file", &key)];
    let files = files.map(|(name, path)| format!("{name} = '{}'\n", path.display())).concat();
    Cluster::configured(bin, &format!("ssl = true\n{files}"), "hostnossl all all all reject")
}

/// With a certificate that is verified, and applications that have no TLS, or another one.
#[test]
fn a_real_postgresql_sees_tls_that_the_application_does_not_speak() {
    let Some(bin) = postgresql::folder() else { return };
    let (authority, clients) = (Authority::new(), Authority::new());
    let cluster = secret_cluster(&bin, &authority);
    let pool = format!(
        "[pools.main.tls]\nstarttls = \"postgresql\"\nserver_name = {NAME:?}\nca_file = {:?}\n",
        authority.file()
    );
    let address = cluster.address();
    let clear = Ringway::before([&*address]).more(&pool).start();
    let both = plan(&address, &[&clients.sign(&[NAME])], "starttls = \"postgresql\"").more(&pool).start();
    let target = |ringway: &Ringway, mode: &str| {
        let (ip, port) = parts(ringway.address());
        format!("host={NAME} hostaddr={ip} port={port} user=postgres dbname=postgres {mode}")
    };
    let modes = [
        (&clear, "sslmode=disable".to_string()),
        (&both, format!("sslmode=verify-full sslrootcert={}", clients.file().display())),
    ];
    for (ringway, mode) in modes {
        let psql = |statement: &str| {
            let mut command = Command::new(bin.join("psql"));
            let ended = run(command.args(["-XAtqc", statement]).arg(target(ringway, &mode)));
            assert!(ended.status.success(), "{}", ended.stderr);
            ended.stdout.trim().to_string()
        };
        assert_eq!(psql("select ssl, version from pg_stat_ssl where pid = pg_backend_pid()"), "t|TLSv1.3");
        assert_eq!(psql("select repeat('x', 3000000)").len(), 3_000_000);
        assert_eq!(psql(&format!("select length('{}')", "y".repeat(100_000))), "100000");
    }
    // Without TLS the server does not serve, so it was there.
    let ended = run(Command::new(bin.join("psql"))
        .args(["-XAtqc", "select 1"])
        .arg(format!("host={} port=5432 user=postgres dbname=postgres sslmode=disable", parts(&address).0)));
    assert!(!ended.status.success(), "{}", ended.stdout);
    let load = ["-S", "-c", "8", "-j", "2", "-t", "200"];
    let ended = run(postgresql::pgbench(&bin, clear.address(), &load).env("PGSSLMODE", "disable"));
    assert!(ended.status.success() && ended.stdout.contains("1600/1600"), "{}{}", ended.stdout, ended.stderr);
    let count = |labels: &[_]| clear.metrics().count("tls_backend_handshakes_total", labels);
    assert!(count(&[]) > 8 && count(&[("result", "failure")]) == 0);
}

/// Of Python's standard library. It says close_notify and reads on, and it goes on to speak after that of the server.
#[test]
fn python_goes_on_in_one_direction_when_the_other_has_ended() {
    let Some(python) = program(&["/usr/bin/python3"], "python3") else { return };
    let (authority, listener) = (Authority::new(), Listener::new());
    let ringway = plan(listener.address(), &[&authority.sign(&[NAME])], "").start();
    let (ip, port) = parts(ringway.address());
    let script = format!("{}/tests/data/tls_half_close.py", env!("CARGO_MANIFEST_DIR"));
    let sent = authority.folder().join("sent");
    let answer = pattern(1_000_000);
    std::fs::write(&sent, &answer).unwrap();
    let known = run(Command::new("md5sum").arg(&sent)).stdout[..32].to_string();
    for version in ["TLSv1_2", "TLSv1_3"] {
        let ended = std::thread::scope(|scope| {
            let server = scope.spawn(|| {
                let mut first = listener.accept();
                first.expect(b"request");
                assert_eq!(first.end(), End::Fin);
                first.send(&answer);
                drop(first);
                let mut second = listener.accept();
                second.send(&answer);
                second.finish();
                second.expect(b"not yet");
                assert_eq!(second.end(), End::Fin);
            });
            let mut command = Command::new(&python);
            let ended = run(command.arg(&script).args([ip, port]).arg(authority.file()).args([NAME, version]));
            assert!(ended.status.success(), "{version}: {}{}", ended.stdout, ended.stderr);
            server.join().unwrap();
            ended
        });
        assert_eq!(ended.stdout, format!("1000000 {known}\n").repeat(2));
    }
    ringway.expect_code("--", 4);
    assert_eq!(ringway.metrics().count("tls_truncated_total", &[]), 0);
}
