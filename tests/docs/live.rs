//! Examples of the documents, held against a ringway that runs.

use std::io::{Read, Write};
use std::net::TcpListener;
use std::os::unix::net::UnixStream;
use std::path::PathBuf;
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

use serde_json::Value;

use super::program::program;
use super::{API, blocks, found, part};

const README: &str = include_str!("../../README.md");

/// Ends with the test, however that ends.
struct Ringway {
    child: Child,
    folder: tempfile::TempDir,
}

impl Ringway {
    /// Serves what `config` makes of its folder.
    fn start(config: impl Fn(&str) -> String) -> Ringway {
        let folder = tempfile::tempdir().unwrap();
        let at = folder.path().to_str().unwrap();
        std::fs::write(folder.path().join("ringway.toml"), config(at)).unwrap();
        let log = std::fs::File::create(folder.path().join("log")).unwrap();
        let mut command = Command::new(program());
        command.args(["run", "-c"]).arg(folder.path().join("ringway.toml"));
        let child = command.stdin(Stdio::null()).stderr(log).spawn().unwrap();
        Ringway { child, folder }
    }

    fn path(&self, name: &str) -> PathBuf {
        self.folder.path().join(name)
    }

    fn log(&self) -> String {
        std::fs::read_to_string(self.path("log")).unwrap()
    }

    /// Status and body of an answer of the API.
    fn ask(&self, method: &str, path: &str, body: &str) -> Option<(u16, String)> {
        let mut stream = UnixStream::connect(self.path("admin.sock")).ok()?;
        let length = body.len();
        write!(stream, "{method} {path} HTTP/1.0\r\nHost: localhost\r\nContent-Length: {length}\r\n\r\n{body}").ok()?;
        let mut answer = String::new();
        stream.read_to_string(&mut answer).ok()?;
        let (head, body) = answer.split_once("\r\n\r\n")?;
        Some((head.split(' ').nth(1)?.parse().ok()?, body.to_string()))
    }

    fn json(&self, method: &str, path: &str, body: &str) -> Value {
        let (status, text) = self.ask(method, path, body).unwrap();
        serde_json::from_str(&text).unwrap_or_else(|_| panic!("{method} {path}: {status} {text}"))
    }

    /// A client of the listener, and its session, which has a backend.
    fn session(&self) -> (UnixStream, String) {
        let client = UnixStream::connect(self.path("clients.sock")).unwrap();
        let id = self.wait("a session that is open", || {
            let list = self.json("GET", "/v1/sessions", "");
            let open = list["sessions"].as_array()?.iter().find(|session| !session["backend_local"].is_null())?;
            Some(open["id"].as_str()?.to_string())
        });
        (client, id)
    }

    #[allow(clippy::disallowed_methods, reason = "a test waits by the clock of the machine")]
    fn wait<T>(&self, what: &str, done: impl Fn() -> Option<T>) -> T {
        let deadline = Instant::now() + Duration::from_secs(20);
        loop {
            if let Some(done) = done() {
                return done;
            }
            assert!(Instant::now() < deadline, "no {what}\n{}", self.log());
            std::thread::sleep(Duration::from_millis(20));
        }
    }
}

impl Drop for Ringway {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

/// Whether both have the same fields, of the same kinds. What is empty or `null` in one of them says nothing.
fn assert_alike(shown: &Value, real: &Value, at: &str) {
    match (shown, real) {
        (Value::Object(shown), Value::Object(real)) => {
            // The names of these are data.
            if at.ends_with(".refused_per_s") {
                return;
            }
            let names = |object: &serde_json::Map<String, Value>| object.keys().cloned().collect::<Vec<_>>();
            assert_eq!(names(shown), names(real), "{at}");
            shown.iter().for_each(|(name, value)| assert_alike(value, &real[name], &format!("{at}.{name}")));
        }
        (Value::Array(shown), Value::Array(real)) => {
            for value in shown.iter().filter(|_| !real.is_empty()) {
                assert_alike(value, &real[0], &format!("{at}[]"));
            }
        }
        (Value::Null, _) | (_, Value::Null) => {}
        _ => assert_eq!(std::mem::discriminant(shown), std::mem::discriminant(real), "{at}: {shown} or {real}"),
    }
}

fn example(route: &str, number: usize) -> Value {
    let text = part(API, route);
    let block = blocks(text, "json").into_iter().nth(number).unwrap_or_else(|| panic!("no example of {route}"));
    serde_json::from_str(block).unwrap_or_else(|error| panic!("{route}: {error}"))
}

fn config(folder: &str, backends: [&TcpListener; 2], balance: &str) -> String {
    let [a, b] = backends.map(|backend| backend.local_addr().unwrap());
    let pair = format!("{folder}/db.pem");
    if !std::path::Path::new(&pair).exists() {
        let made = rcgen::generate_simple_self_signed(["db.example".to_string()]).unwrap();
        std::fs::write(&pair, made.cert.pem() + &made.signing_key.serialize_pem()).unwrap();
    }
    format!(
        "[process]\nworkers = 2\n[admin]\nsocket = \"{folder}/admin.sock\"\n\
         [listeners.db]\nbind = \"unix:{folder}/clients.sock\"\npool = \"db\"\n\
         [listeners.secure]\nbind = \"unix:{folder}/secure.sock\"\npool = \"db\"\n\
         tls.certificates = [{{ cert = \"{pair}\", key = \"{pair}\" }}]\n\
         [pools.db]\nbalance = \"{balance}\"\n\
         backends = [{{ name = \"a\", address = \"{a}\" }}, {{ name = \"b\", address = \"{b}\" }}]\n"
    )
}

#[test]
fn examples_of_the_api_have_the_fields_of_its_answers() {
    let backends = [(); 2].map(|()| TcpListener::bind("127.0.0.1:0").unwrap());
    let write = |folder: &str, balance: &str| config(folder, [&backends[0], &backends[1]], balance);
    let ringway = Ringway::start(|folder| write(folder, "least_conn"));
    ringway.wait("/ready", || ringway.ask("GET", "/ready", "").filter(|(status, _)| *status == 200));
    let (_client, _) = ringway.session();
    ringway.wait("a sample", || (ringway.json("GET", "/v1/history", "")["second"].as_u64()? > 0).then_some(()));
    ringway.wait("a check", || {
        let backend = ringway.json("GET", "/v1/pools/db/backends/a", "");
        backend["transcript"].as_array().map(|_| ())
    });
    let mut seen = 0;
    for route in found(r"(?m)^## (GET /v1/.*)$", API) {
        let path = route.replace("GET ", "").replace("{pool}", "db").replace("{backend}", "a");
        let Some(shown) = blocks(part(API, &route), "json").first().map(|_| example(&route, 0)) else { continue };
        assert_alike(&shown, &ringway.json("GET", &path, ""), &route);
        seen += 1;
    }
    assert!(seen >= 7, "{seen} examples");

    let patch = "PATCH /v1/pools/{pool}/backends/{backend}";
    let body = found("-d '([^']+)'", part(API, patch)).pop_first().unwrap();
    let answer = ringway.json("PATCH", "/v1/pools/db/backends/a", &body);
    assert_eq!(answer, example(patch, 0));
    assert_eq!(ringway.json("PATCH", "/v1/pools/db/backends/x", &body), example("Errors", 0));

    let (_client, id) = ringway.session();
    let killed = ringway.json("DELETE", &format!("/v1/sessions/{id}"), "");
    assert_eq!(killed, example("DELETE /v1/sessions/{id}", 0));
    let killed = ringway.json("DELETE", "/v1/sessions?backend=db/b", "");
    assert_alike(&example("DELETE /v1/sessions", 0), &killed, "DELETE /v1/sessions");

    let folder = ringway.folder.path().to_str().unwrap();
    std::fs::write(ringway.path("ringway.toml"), write(folder, "random")).unwrap();
    assert_eq!(ringway.json("POST", "/v1/reload", ""), example("POST /v1/reload", 0));
    std::fs::write(ringway.path("ringway.toml"), write(folder, "lest_conn")).unwrap();
    let (shown, real) = (example("POST /v1/reload", 1), ringway.json("POST", "/v1/reload", ""));
    assert_alike(&shown, &real, "POST /v1/reload");
    assert_eq!(shown["errors"][0]["message"], real["errors"][0]["message"]);
}

/// Level, message and the names of fields of each line. What limits the connections, the machine decides.
fn lines(log: &str) -> Vec<String> {
    let field = regex::Regex::new(r#"(\w+)=("[^"]*"|\S+)"#).unwrap();
    let line = |line: &str| {
        let fields = field.captures_iter(line).map(|found| match &found[1] {
            "level" | "message" | "signal" => found[0].to_string(),
            name => name.to_string(),
        });
        fields.collect::<Vec<_>>().join(" ")
    };
    let limit = regex::Regex::new("are limited by .*").unwrap();
    let mut lines: Vec<String> =
        log.lines().map(|text| limit.replace(&line(text), "are limited").into_owned()).collect();
    lines.sort();
    lines
}

#[test]
fn the_first_configuration_prints_the_lines_that_the_readme_shows() {
    let text = part(README, "A first configuration");
    let (written, shown) = (blocks(text, "toml")[0], blocks(text, "text")[0]);
    assert_eq!(shown.lines().count(), 5);
    let backend = TcpListener::bind("127.0.0.1:0").unwrap();
    let mut ringway = Ringway::start(|folder| {
        let here = written.replace("0.0.0.0:5432", &format!("unix:{folder}/clients.sock"));
        // Nothing listens at port 1.
        let here = here.replace("10.0.0.1:5432", &backend.local_addr().unwrap().to_string());
        here.replace("10.0.0.2:5432", "127.0.0.1:1")
    });
    ringway.wait("line that says that a backend is down", || {
        let log = ringway.log();
        (log.contains("message=ready") && log.contains("backend is down")).then_some(())
    });
    let sent = Command::new("kill").args(["-INT", &ringway.child.id().to_string()]).status().unwrap();
    assert!(sent.success());
    assert!(ringway.child.wait().unwrap().success());
    assert_eq!(lines(&ringway.log()), lines(shown));
}

/// Runs a program that another test of ringway needs, too; `None` if it is missing and that is allowed.
fn accepts(program: &str, package: &str, arguments: &[&str]) -> Option<(bool, String)> {
    if !std::path::Path::new(program).exists() {
        let wanted = std::env::var_os("RINGWAY_TEST_WITHOUT_PROGRAMS").is_none();
        assert!(!wanted, "{program} is missing: `apt-get install {package}`, or set RINGWAY_TEST_WITHOUT_PROGRAMS");
        return None;
    }
    let ended = Command::new(program).args(arguments).output().unwrap();
    let said = [ended.stdout, ended.stderr].map(|text| String::from_utf8_lossy(&text).into_owned()).concat();
    Some((ended.status.success(), said))
}

/// nginx with a certificate is what `scripts/first_week.sh` runs.
#[test]
fn examples_for_other_programs_are_accepted_by_them() {
    let folder = tempfile::tempdir().unwrap();
    let file = folder.path().join("file");
    let path = file.to_str().unwrap();
    let yaml = "import sys, yaml; assert isinstance(yaml.safe_load(open(sys.argv[1])), dict)";
    let mut seen = 0;
    for (name, text) in super::documents() {
        for language in ["yaml", "haproxy", "nginx"] {
            for block in blocks(&text, language).into_iter().filter(|block| !block.contains("ssl_certificate")) {
                let whole = match language {
                    "nginx" if block.contains("stream {") => {
                        format!("include /etc/nginx/modules-enabled/*;\n{block}\n")
                    }
                    "nginx" => format!("events {{}}\nhttp {{\n{block}\n}}\n"),
                    _ => format!("{block}\n"),
                };
                std::fs::write(&file, whole).unwrap();
                let pid = format!("pid {path}.pid;");
                let verdict = match language {
                    "yaml" => accepts("/usr/bin/python3", "python3-yaml", &["-c", yaml, path]),
                    "haproxy" => accepts("/usr/sbin/haproxy", "haproxy", &["-c", "-q", "-f", path]),
                    _ => accepts("/usr/sbin/nginx", "nginx", &["-t", "-e", "stderr", "-g", &pid, "-c", path]),
                };
                assert!(verdict.as_ref().is_none_or(|(fits, _)| *fits), "{language} of {name}: {verdict:?}");
                seen += 1;
            }
        }
    }
    assert!(seen >= 6, "{seen} examples");
}
