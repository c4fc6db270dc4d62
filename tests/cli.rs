//! The command line as a user meets it: the built program, its output and its exit status.

mod program;

use std::io::Write;
use std::net::TcpListener;
use std::os::unix::fs::PermissionsExt;
use std::path::Path;
use std::process::{Command, Output};

fn ringway(arguments: &[&str]) -> Output {
    Command::new(program::program()).args(arguments).output().expect("the program was built")
}

fn text(bytes: &[u8]) -> &str {
    std::str::from_utf8(bytes).expect("it writes UTF-8")
}

fn text_lines(bytes: &[u8]) -> Vec<String> {
    text(bytes).lines().map(str::to_string).collect()
}

fn file(content: &str) -> tempfile::NamedTempFile {
    let mut file = tempfile::NamedTempFile::new().expect("a temporary file");
    file.write_all(content.as_bytes()).expect("it takes what is written");
    file
}

#[test]
fn check_accepts_what_is_shipped() {
    for name in ["ringway.toml", "reference.toml"] {
        let output = ringway(&["check", &format!("{}/conf/{name}", env!("CARGO_MANIFEST_DIR"))]);
        assert_eq!((output.status.code(), text(&output.stdout)), (Some(0), "ok\n"), "{}", text(&output.stderr));
    }
}

#[test]
fn check_warns_of_what_is_hardly_meant_and_accepts_it() {
    let lines =
        "[listeners.l]\nbind = \"127.0.0.1:0\"\npool = \"db\"\n[[pools.db.backends]]\naddress = \"10.0.0.1:3306\"\n";
    let output = ringway(&["check", file(lines).path().to_str().expect("a name")]);
    assert_eq!((output.status.code(), text(&output.stdout)), (Some(0), "ok\n"));
    let warning =
        "warning: pool db: a check of type \"tcp\" at port 3306 only connects; type = \"mysql\" asks the server\n";
    assert_eq!(text(&output.stderr), warning);
}

/// What warnings say of the host is true of the one that it is asked on.
#[test]
fn check_tells_every_warning_and_strict_makes_errors_of_them() {
    let text = "[process]\nuser = \"nobody-like-that\"\n[listeners.l]\nbind = \"0.0.0.0:8080\"\npool = \"p\"\n\
                [pools.p]\nbackends = [{ address = \"localhost:8080\", weight = 0 }]\n\
                [pools.p.check]\ntype = \"redis\"\ntimeout = \"9s\"\npassword_file = \"/does/not/exist\"\n\
                [pools.q]\nbackends = [{ address = \"10.0.0.1:1\" }]\n";
    let mut expected = vec![
        "process.user: there is no user `nobody-like-that`; add it, or name another one",
        "pool p: every backend has weight 0, so its clients are reset; give one a `weight`, or enable one",
        "pool p: the check's `timeout` (9s) is longer than its `interval` (2s), so a backend that does not answer is \
         found after 3 times 9s; lower `timeout`",
        "pool q: no listener, route or fallback leads to it; write pool = \"q\" in one, or remove the pool",
        "pool p: connections may go around: listener l → pool p → backend localhost:8080 (a name of this host) → \
         listener l; give the backend an address behind ringway",
    ];
    let lines = |output: &Output| -> Vec<String> { text_lines(&output.stderr) };
    let written = file(text);
    let path = written.path().to_str().expect("a name");
    let output = ringway(&["check", path]);
    assert_eq!((output.status.code(), self::text(&output.stdout)), (Some(0), "ok\n"));
    assert_eq!(lines(&output), expected.iter().map(|line| format!("warning: {line}")).collect::<Vec<_>>());
    let output = ringway(&["check", "--strict", path]);
    assert_eq!((output.status.code(), output.stdout.len()), (Some(2), 0));
    assert_eq!(lines(&output), expected.iter().map(|line| format!("error: {line}")).collect::<Vec<_>>());

    // A user that is there cannot read what is not.
    let written = file(&text.replacen("[process]\nuser = \"nobody-like-that\"\n", "", 1));
    let path = written.path().to_str().expect("a name");
    expected.remove(0);
    expected.insert(2, "pool p: `password_file` /does/not/exist cannot be read: it does not exist");
    let output = ringway(&["check", path]);
    assert_eq!(lines(&output), expected.iter().map(|line| format!("warning: {line}")).collect::<Vec<_>>());

    let good =
        file("[listeners.l]\nbind = \"127.0.0.1:0\"\npool = \"p\"\n[[pools.p.backends]]\naddress = \"10.0.0.1:80\"\n");
    let output = ringway(&["check", "--strict", good.path().to_str().expect("a name")]);
    assert_eq!((output.status.code(), self::text(&output.stdout), lines(&output).len()), (Some(0), "ok\n", 0));
}

#[test]
fn a_wrong_configuration_exits_2_with_a_line_for_each_error() {
    let file = file("[listeners.l]\nbind = 1\npol = \"x\"\nbacklog = 0\n");
    let path = file.path().display().to_string();
    for arguments in [vec!["check", &path], vec!["run", "-c", &path], vec!["doctor", "-c", &path]] {
        let output = ringway(&arguments);
        let errors: Vec<&str> = text(&output.stderr).lines().collect();
        assert_eq!((output.status.code(), output.stdout.len(), errors.len()), (Some(2), 0, 3), "{errors:?}");
        assert!(errors.iter().all(|error| error.starts_with(&path)), "{errors:?}");
    }
}

#[test]
fn explain_names_the_backend_that_the_client_then_gets() {
    let backends =
        "backends = [{ address = \"127.0.0.1:1\", name = \"a\" }, { address = \"127.0.0.1:2\", name = \"b\" }]";
    let pool = format!("[listeners.l]\nbind = \"127.0.0.1:0\"\npool = \"p\"\n[pools.p]\n{backends}\n");
    let file = file(&format!("{pool}balance = \"consistent_hash\"\n"));
    let path = file.path().display().to_string();
    let output = ringway(&["explain", &path, "--listener", "l", "--client", "10.0.0.7", "--without", "b"]);
    let shown = text(&output.stdout);
    assert_eq!(output.status.code(), Some(0), "{}", text(&output.stderr));
    for part in ["pool p, consistent_hash by source_ip", "slot", "this client gets a", "had to"] {
        assert!(shown.contains(part), "no {part:?} in {shown}");
    }
    let output = ringway(&["explain", &path, "--listener", "x", "--client", "10.0.0.7"]);
    assert_eq!((output.status.code(), text(&output.stderr).lines().count()), (Some(2), 1));
}

#[test]
fn wrong_usage_exits_2_with_one_line() {
    let usages: [&[&str]; 6] = [
        &["chek"],
        &["check"],
        &["check", "/does/not/exist"],
        &["run", "--listen", "*:1", "--backend", "127.0.0.1:1"],
        &["run", "--listen", "127.0.0.1:1"],
        &["demo", "--for", "1s"],
    ];
    for arguments in usages {
        let output = ringway(arguments);
        assert_eq!(output.status.code(), Some(2), "{arguments:?}");
        assert_eq!(text(&output.stderr).lines().count(), 1, "{}", text(&output.stderr));
    }
    assert_eq!(ringway(&[]).status.code(), Some(2));
}

#[test]
fn what_was_asked_for_goes_to_standard_output() {
    for (arguments, part) in [
        (&["--version"] as &[&str], env!("CARGO_PKG_VERSION")),
        (&["--help"], "ringway demo"),
        (&["completions", "bash"], "_ringway"),
        (&["completions", "zsh"], "#compdef ringway"),
        (&["man"], ".TH ringway"),
    ] {
        let output = ringway(arguments);
        assert!(output.status.success() && text(&output.stdout).contains(part), "{arguments:?}");
    }
}

#[test]
fn doctor_says_something_of_everything() {
    let output = ringway(&["doctor"]);
    for what in ["kernel", "seccomp", "io_uring", "locked memory", "descriptors", "ephemeral ports", "tcp_tw_reuse"] {
        assert!(text(&output.stdout).contains(what), "{what}: {}", text(&output.stdout));
    }
    assert!(!text(&output.stdout).contains('\x1b'), "no colours into a pipe");
    let fails = text(&output.stdout).lines().any(|line| line.starts_with("FAIL"));
    assert_eq!(output.status.code(), Some(i32::from(fails)));
}

/// Looks at a configuration and gives every line that is about it, without what is there of the machine.
fn doctor_of(text: &str) -> (Option<i32>, String) {
    let written = file(text);
    let output = ringway(&["doctor", "-c", written.path().to_str().expect("a name")]);
    let by_argument = ringway(&["doctor", written.path().to_str().expect("a name")]);
    assert_eq!(output.status.code(), by_argument.status.code());
    (output.status.code(), self::text(&output.stdout).to_string())
}

#[test]
fn doctor_looks_at_everything_that_a_configuration_names() {
    let folder = tempfile::tempdir().expect("a folder");
    let path = |name: &str| folder.path().join(name).display().to_string();
    for (name, mode) in [("secret", 0o600), ("open", 0o644)] {
        std::fs::write(path(name), "password").expect("it is written");
        std::fs::set_permissions(path(name), std::fs::Permissions::from_mode(mode)).expect("it is ours");
    }
    let [taken, server, gone] = [(); 3].map(|()| TcpListener::bind("127.0.0.1:0").expect("a port"));
    let [taken_at, server_at, gone_at] =
        [&taken, &server, &gone].map(|one| one.local_addr().expect("bound").to_string());
    drop(gone);
    let text = format!(
        "[log]\noutput = \"{}\"\n[access_log]\noutput = \"{}\"\n[admin]\nsocket = \"{}\"\n\
         [listeners.l]\nbind = [\"{taken_at}\", \"{gone_at}\", \"198.51.100.7:5000\", \"unix:{}\"]\npool = \"p\"\n\
         [pools.p]\nbackends = [{{ name = \"a\", address = \"{server_at}\" }}, {{ address = \"127.0.0.9:1\" }}, \
         {{ address = \"localhost:{}\" }}, {{ address = \"unix:{}\" }}]\n\
         [pools.p.check]\ntype = \"redis\"\npassword_file = \"{}\"\n\
         [pools.q]\nbackends = [{{ address = \"{server_at}\" }}]\n\
         [pools.q.check]\ntype = \"redis\"\npassword_file = \"{}\"\n",
        path("ringway.log"),
        path("nowhere/access.log"),
        path("admin.sock"),
        path("secret"),
        server.local_addr().expect("bound").port(),
        path("x.sock"),
        path("secret"),
        path("open"),
    );
    let (code, said) = doctor_of(&text);
    let lines = [
        ("note", "configuration", "pool q: no listener, route or fallback leads to it;".to_string()),
        ("FAIL", "listen", format!("{taken_at} of listener l is held by ")),
        ("ok", "listen", format!("{gone_at} of listener l is free")),
        ("FAIL", "listen", "198.51.100.7:5000 of listener l: no interface of this host has that address;".to_string()),
        ("FAIL", "listen", format!("unix:{} of listener l: something that is no socket is there;", path("secret"))),
        ("ok", "listen", format!("unix:{} of admin.socket is free", path("admin.sock"))),
        ("ok", "log file", format!("{} of log.output can be written to", path("ringway.log"))),
        ("FAIL", "log file", format!("{} of access_log.output: its folder", path("nowhere/access.log"))),
        ("ok", "password file", format!("{} of pool p can be read by ", path("secret"))),
        ("note", "password file", format!("{} of pool q: every user of this host can read it;", path("open"))),
        ("ok", "name", "localhost is ".to_string()),
        ("ok", "backend", format!("a of pool p at {server_at}: connected in ")),
        ("note", "backend", "127.0.0.9:1 of pool p: it refuses: nothing listens there".to_string()),
        (
            "ok",
            "backend",
            format!("localhost:{} of pool p at {server_at}: connected in ", server_at.rsplit(':').next().unwrap()),
        ),
        ("note", "backend", format!("unix:{} of pool p: there is no such socket", path("x.sock"))),
    ];
    for (grade, what, detail) in lines {
        let line = format!("{grade:<4}  {what:<20} {detail}");
        assert!(said.lines().any(|found| found.starts_with(&line)), "no {line:?} in\n{said}");
    }
    assert!(said.contains(&format!("(pid {})", std::process::id())), "{said}");
    assert_eq!(code, Some(1));
}

/// Users differ in what they may read; ringway is asked as one and serves as another.
#[test]
fn doctor_looks_with_the_eyes_of_the_user_that_serves() {
    let folder = tempfile::tempdir().expect("a folder");
    let secret = folder.path().join("secret");
    std::fs::write(&secret, "password").expect("it is written");
    let mode = |path: &Path, mode| {
        std::fs::set_permissions(path, std::fs::Permissions::from_mode(mode)).expect("it is ours");
    };
    let text = |user: &str| {
        format!(
            "[process]\nuser = \"{user}\"\n[listeners.l]\nbind = \"127.0.0.1:0\"\npool = \"p\"\n[pools.p]\n\
             backends = [{{ address = \"127.0.0.9:1\" }}]\n[pools.p.check]\ntype = \"redis\"\n\
             password_file = {secret:?}\n"
        )
    };
    mode(&secret, 0o600);
    for (folder_mode, says) in [(0o700, "user nobody cannot enter "), (0o755, "user nobody cannot read it (owner ")] {
        mode(folder.path(), folder_mode);
        let (_, said) = doctor_of(&text("nobody"));
        assert!(said.contains("ok    user                 nobody serves\n"), "{said}");
        let line = format!("note  password file        {} of pool p: {says}", secret.display());
        assert!(said.contains(&line), "no {line:?} in\n{said}");
    }
    let (code, said) = doctor_of(&text("nobody-like-that"));
    let line =
        "FAIL  user                 process.user: there is no user `nobody-like-that`; add it, or name another one\n";
    assert!(code == Some(1) && said.contains(line), "{said}");
}

#[test]
fn the_demo_fails_over_and_no_byte_is_wrong() {
    if ringway(&["doctor"]).status.code() != Some(0) {
        println!("skipped: `ringway doctor` says that ringway cannot run here");
        return;
    }
    let output = ringway(&["demo", "--for", "4s"]);
    let out = text(&output.stdout);
    assert_eq!(output.status.code(), Some(0), "{out}{}", text(&output.stderr));
    for part in ["backend b dies", "takes b out of the pool", "backend b is back", "takes b into the pool", ", 0 wrong"]
    {
        assert!(out.contains(part), "{part}: {out}");
    }
    assert!(!out.contains('\x1b'), "no escapes into a pipe");
}
