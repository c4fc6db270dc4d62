//! PROXY headers between ringway and those it meets: nginx, HAProxy and gunicorn.

use std::process::Command;

use crate::harness::address::own_ip;
use crate::harness::process::{Process, program};
use crate::harness::{Backend, Peer, Ringway, wait_until};

/// A server with its configuration in a folder of its own.
pub(crate) struct Server {
    /// Where it listens.
    pub(crate) address: String,
    process: Process,
    _folder: tempfile::TempDir,
}

impl Server {
    /// `files` are written to its folder, with `ADDRESS` and `FOLDER` replaced.
    fn start(files: &[(&str, &str)], command: impl FnOnce(&std::path::Path, &str) -> Command) -> Server {
        let (folder, address) = (tempfile::tempdir().unwrap(), format!("{}:7500", own_ip()));
        for (name, text) in files {
            let text = text.replace("ADDRESS", &address).replace("FOLDER", folder.path().to_str().unwrap());
            std::fs::write(folder.path().join(name), text).unwrap();
        }
        let process = Process::start(&mut command(folder.path(), &address));
        wait_until("it listens", || Peer::try_connect(&address).is_ok());
        Server { address, process, _folder: folder }
    }
}

impl Drop for Server {
    fn drop(&mut self) {
        // Their workers end with them, which they would not after a kill.
        self.process.signal(libc::SIGTERM);
        self.process.wait(crate::harness::PATIENCE);
    }
}

pub(crate) fn nginx(config: &str) -> Option<Server> {
    let nginx = program(&["/usr/sbin/nginx"], "nginx libnginx-mod-stream")?;
    Some(Server::start(&[("nginx.conf", config)], |folder, _| {
        let mut command = Command::new(nginx);
        command.arg("-p").arg(folder).arg("-c").arg(folder.join("nginx.conf")).args(["-e", "stderr"]);
        command
    }))
}

pub(crate) fn haproxy(config: &str) -> Option<Server> {
    let haproxy = program(&["/usr/sbin/haproxy"], "haproxy")?;
    Some(Server::start(&[("haproxy.cfg", config)], |folder, _| {
        let mut command = Command::new(haproxy);
        command.arg("-db").arg("-f").arg(folder.join("haproxy.cfg"));
        command
    }))
}

/// Serves the function `app` of this text, with further options.
pub(crate) fn gunicorn_with(app: &str, options: &[&str]) -> Option<Server> {
    let gunicorn = program(&["/usr/bin/gunicorn"], "gunicorn")?;
    Some(Server::start(&[("app.py", app)], |folder, address| {
        let mut command = Command::new(gunicorn);
        command.current_dir(folder).args(options).args(["-b", address, "app:app"]);
        command
    }))
}

fn gunicorn() -> Option<Server> {
    const APP: &str = "def app(environ, start):\n    start('200 OK', [('Content-Type', 'text/plain')])\n    \
                       return [('%s %s' % (environ['REMOTE_ADDR'], environ['REMOTE_PORT'])).encode()]\n";
    gunicorn_with(APP, &["--proxy-protocol", "--proxy-allow-from", "*"])
}

/// The body of an answer to a request through ringway, and the client's own address in the same form.
fn ask(ringway: &Ringway) -> (String, String) {
    let mut client = ringway.connect();
    client.send(b"GET / HTTP/1.0\r\nHost: x\r\n\r\n");
    let (answer, _) = client.drain();
    let answer = String::from_utf8_lossy(&answer).into_owned();
    let body = answer.split_once("\r\n\r\n").map(|(_, body)| body.trim().to_string()).unwrap_or(answer);
    (body, client.local_address().replace(':', " "))
}

const NGINX_HTTP: &str = "daemon off;\npid FOLDER/pid;\nevents {}\nhttp {\naccess_log off;\nserver {\n\
    listen ADDRESS proxy_protocol;\nlocation / { return 200 \"$proxy_protocol_addr $proxy_protocol_port\"; }\n}\n}\n";

const HAPROXY_HTTP: &str = "defaults\n  mode http\n  timeout client 5s\n  timeout server 5s\n  timeout connect 5s\n\
    frontend f\n  bind ADDRESS accept-proxy\n  \
    http-request return status 200 content-type text/plain lf-string \"%[src] %[src_port]\"\n";

/// Those that are installed, and the versions that they know.
fn receivers() -> impl Iterator<Item = (&'static str, Server, &'static str)> {
    let both = ["v1", "v2"];
    let nginx = both.map(|version| ("nginx", nginx(NGINX_HTTP), version));
    let haproxy = both.map(|version| ("haproxy", haproxy(HAPROXY_HTTP), version));
    let all = nginx.into_iter().chain(haproxy).chain([("gunicorn", gunicorn(), "v1")]);
    all.filter_map(|(name, server, version)| Some((name, server?, version)))
}

#[test]
fn nginx_haproxy_and_gunicorn_learn_from_the_header_who_the_client_is() {
    for (name, server, version) in receivers() {
        let plan = Ringway::before([server.address.as_str()]).pool(&format!("send_proxy = {version:?}"));
        let ringway = plan.start();
        for _ in 0..3 {
            let (told, own) = ask(&ringway);
            assert_eq!(told, own, "{name} {version}: {}", server.process.output());
        }
    }
}

/// A check over HTTP through the same header. gunicorn 20 answers 400 to version 1 without addresses, so checks name
/// their own two ends.
#[test]
fn a_server_that_expects_a_header_is_checked_with_one() {
    for (name, server, version) in receivers() {
        let plan = Ringway::before([server.address.as_str()]).pool(&format!("send_proxy = {version:?}"));
        let ringway = plan.checks("type = \"http\"\npath = \"/\"\ninitial = \"down\"").start();
        let backend = || ringway.api().get("/v1/pools/main/backends/a");
        let is_up = crate::harness::wait_for(crate::harness::PATIENCE, || backend()["state"] == "up");
        assert!(is_up.is_some(), "{name} {version}: {}", backend());
    }
}

/// The proxy before ringway in these tests: it passes TCP on to `ringway` and names the client to it.
fn haproxy_before(ringway: &str, how: &str) -> Option<Server> {
    haproxy(&format!(
        "defaults\n  mode tcp\n  timeout client 5s\n  timeout server 5s\n  timeout connect 5s\nfrontend f\n  \
         unique-id-format %pid-%rt\n  bind ADDRESS\n  default_backend b\nbackend b\n  server s {ringway} {how}\n"
    ))
}

fn nginx_before(ringway: &str) -> Option<Server> {
    nginx(&format!(
        "load_module /usr/lib/nginx/modules/ngx_stream_module.so;\ndaemon off;\npid FOLDER/pid;\nevents {{}}\n\
         stream {{\nserver {{\nlisten ADDRESS;\nproxy_pass {ringway};\nproxy_protocol on;\n}}\n}}\n"
    ))
}

#[test]
fn what_haproxy_and_nginx_send_is_understood() {
    let backend = Backend::echo();
    let plan = Ringway::before([backend.address()]);
    let ringway = plan.listener("accept_proxy = \"required\"\nproxy_trusted = [\"127.0.0.0/8\"]").start();
    let at = ringway.address();
    let senders = [
        haproxy_before(at, "send-proxy"),
        haproxy_before(at, "send-proxy-v2"),
        // Further fields, one of which is a checksum over all of it.
        haproxy_before(at, "send-proxy-v2 proxy-v2-options crc32c,unique-id"),
        nginx_before(at),
    ];
    for (number, sender) in senders.into_iter().enumerate() {
        let Some(sender) = sender else { continue };
        let mut client = Peer::connect(&sender.address);
        client.send(b"hello");
        client.expect(b"hello");
        let found = ringway.api().get("/v1/sessions");
        let clients: Vec<&str> =
            found["sessions"].as_array().unwrap().iter().filter_map(|session| session["client"].as_str()).collect();
        assert!(clients.contains(&client.local_address().as_str()), "{number}: {found}");
    }
    let refused = ringway.metrics().count("listener_refused_total", &[]);
    assert_eq!(refused, 0);
}
