//! Units, images and manifests that ringway ships, held against the tools that will read them and against the program.
//!
//! Where a tool is missing its test fails and names the package, unless RINGWAY_TEST_WITHOUT_PROGRAMS is set.
#![allow(clippy::unwrap_used, reason = "a test ends where something unexpected happens")]

#[path = "packages/kubernetes.rs"]
mod kubernetes;
#[path = "packages/release.rs"]
mod release;

use std::collections::BTreeSet;
use std::path::{Path, PathBuf};
use std::process::Command;

use serde_json::Value;

const RINGWAY: &str = env!("CARGO_BIN_EXE_ringway");

fn file(path: &str) -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join(path)
}

fn text(path: &str) -> String {
    std::fs::read_to_string(file(path)).unwrap_or_else(|error| panic!("{path}: {error}"))
}

/// A program of the system; `None` if tests that need programs are not wanted.
fn program(names: &[&'static str], package: &str) -> Option<&'static str> {
    let found = names.iter().find(|name| Path::new(name).exists()).copied();
    if found.is_none() {
        let wanted = std::env::var_os("RINGWAY_TEST_WITHOUT_PROGRAMS").is_none();
        assert!(!wanted, "{} is missing: `apt-get install {package}`, or set RINGWAY_TEST_WITHOUT_PROGRAMS", names[0]);
        eprintln!("skipped: {} is not installed", names[0]);
    }
    found
}

/// What a command writes; it must succeed.
#[track_caller]
fn output(command: &mut Command) -> String {
    let ended = command.output().unwrap_or_else(|error| panic!("{command:?}: {error}"));
    let all = [ended.stdout, ended.stderr].map(|text| String::from_utf8_lossy(&text).into_owned()).concat();
    assert!(ended.status.success(), "{command:?}: {all}");
    all
}

/// The arguments of a command line of ringway must be ones that it knows: with `--help` it takes them and prints help.
#[track_caller]
fn assert_known(arguments: &[String]) {
    let subcommand = &arguments[0];
    let of = |words: &[&String]| output(Command::new(RINGWAY).args(words).arg("--help"));
    // `ctl` has commands of its own.
    let inner =
        arguments.iter().skip(1).find(|word| subcommand == "ctl" && word.bytes().all(|byte| byte.is_ascii_lowercase()));
    let help = of(&[subcommand]) + &inner.map(|inner| of(&[subcommand, inner])).unwrap_or_default();
    for flag in arguments.iter().filter(|argument| argument.starts_with('-')) {
        assert!(help.split_whitespace().any(|word| word.trim_end_matches(',') == flag), "{subcommand} has no {flag}");
    }
}

/// Every YAML document of a file, as JSON.
fn yaml(path: &str) -> Option<Vec<Value>> {
    let python = program(&["/usr/bin/python3"], "python3-yaml")?;
    let code = "import json, sys, yaml; print(json.dumps(list(yaml.safe_load_all(open(sys.argv[1])))))";
    let json = output(Command::new(python).args(["-c", code]).arg(file(path)));
    Some(serde_json::from_str(&json).unwrap())
}

fn words(list: &Value) -> Vec<String> {
    list.as_array().unwrap().iter().map(|word| word.as_str().unwrap().to_string()).collect()
}

#[test]
fn the_unit_is_valid_and_lets_ringway_do_little_else() {
    let unit = text("conf/systemd/ringway.service");
    for line in unit.lines().filter_map(|line| line.split_once("=/usr/bin/ringway ")) {
        assert_known(&line.1.split(' ').map(String::from).collect::<Vec<_>>());
    }
    for limit in ["LimitNOFILE=", "LimitMEMLOCK=", "Restart=always", "AmbientCapabilities=CAP_NET_BIND_SERVICE"] {
        assert!(unit.contains(limit), "{limit}");
    }
    let Some(analyze) = program(&["/usr/bin/systemd-analyze"], "systemd") else { return };
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("ringway.service");
    std::fs::write(&path, unit.replace("/usr/bin/ringway", RINGWAY)).unwrap();
    let said = output(Command::new(analyze).args(["verify", "--man=no", "--recursive-errors=no"]).arg(&path));
    assert!(!said.contains("ringway.service"), "{said}");
    // 0 is nothing, 100 everything; a plain unit has 96.
    output(Command::new(analyze).args(["security", "--no-pager", "--offline=true", "--threshold=25"]).arg(&path));
}

#[test]
fn the_unit_allows_every_call_that_ringway_makes() {
    let unit = text("conf/systemd/ringway.service");
    let Some(analyze) = program(&["/usr/bin/systemd-analyze"], "systemd") else { return };
    let Some(used) = calls_of_ringway("io_uring") else { return };
    let mut allowed = BTreeSet::new();
    for group in unit.lines().filter_map(|line| line.strip_prefix("SystemCallFilter=")) {
        match group.strip_prefix('~') {
            Some(group) => allowed = &allowed - &calls_of(analyze, group),
            None if group.starts_with('@') => allowed.extend(calls_of(analyze, group)),
            None => allowed.extend(group.split(' ').map(String::from)),
        }
    }
    // What it restricts itself with, which the demo does not do.
    let own = ["seccomp", "landlock_create_ruleset", "landlock_add_rule", "landlock_restrict_self"].map(String::from);
    let used = &used | &own.into();
    let missing: Vec<_> = used.difference(&allowed).collect();
    assert!(missing.is_empty(), "the unit forbids {missing:?}");
}

/// The rules of a profile of system calls. What no rule names is refused.
fn rules_of(profile: &str) -> Vec<Value> {
    let profile: Value = serde_json::from_str(&text(profile)).unwrap();
    assert_eq!(profile["defaultAction"], "SCMP_ACT_ERRNO");
    profile["syscalls"].as_array().unwrap().clone()
}

#[test]
fn the_seccomp_profile_allows_every_call_that_ringway_makes_and_io_uring() {
    let rules = rules_of("packaging/docker/seccomp.json");
    assert!(rules.iter().all(|rule| rule["action"] == "SCMP_ACT_ALLOW"));
    let allowed: BTreeSet<String> = rules.iter().flat_map(|rule| words(&rule["names"])).collect();
    for call in ["io_uring_setup", "io_uring_enter", "io_uring_register", "execve"] {
        assert!(allowed.contains(call), "{call}");
    }
    for call in ["mount", "ptrace", "bpf", "reboot", "init_module", "kexec_load", "setns", "unshare", "keyctl"] {
        assert!(!allowed.contains(call), "{call}");
    }
    let Some(used) = calls_of_ringway("io_uring") else { return };
    let missing: Vec<_> = used.difference(&allowed).collect();
    assert!(missing.is_empty(), "the profile forbids {missing:?}");
}

/// What it refuses without a container around it is `scripts/container.sh`'s to show.
#[test]
fn the_profile_that_docker_has_by_default_forbids_io_uring_and_allows_all_that_epoll_takes() {
    // Rules for those that have a capability are not for a container without any.
    let mut rules = rules_of("packaging/docker/default.json");
    rules.retain(|rule| rule["action"] == "SCMP_ACT_ALLOW" && rule["includes"]["caps"].is_null());
    let allowed: BTreeSet<String> = rules.iter().flat_map(|rule| words(&rule["names"])).collect();
    assert!(!allowed.iter().any(|call| call.starts_with("io_uring")), "{allowed:?}");
    let Some(mut used) = calls_of_ringway("epoll") else { return };
    // It answers that there is no such call: then threads are made by clone.
    used.remove("clone3");
    let missing: Vec<_> = used.difference(&allowed).collect();
    assert!(missing.is_empty(), "the profile forbids {missing:?}");
}

/// The system calls of a group and those it contains.
fn calls_of(analyze: &str, group: &str) -> BTreeSet<String> {
    let listed = output(Command::new(analyze).args(["syscall-filter", "--no-pager", group]));
    let mut calls = BTreeSet::new();
    for name in listed.lines().skip(1).map(str::trim).filter(|name| !name.is_empty() && !name.starts_with('#')) {
        match name.starts_with('@') {
            true => calls.extend(calls_of(analyze, name)),
            false => drop(calls.insert(name.to_string())),
        }
    }
    calls
}

/// Every system call of a ringway that serves its demo on that driver, from its start to its end.
fn calls_of_ringway(driver: &str) -> Option<BTreeSet<String>> {
    let strace = program(&["/usr/bin/strace"], "strace")?;
    let folder = tempfile::tempdir().unwrap();
    let trace = folder.path().join("trace");
    let mut command = Command::new(strace);
    command.args(["-f", "-qq", "-o"]).arg(&trace).args([RINGWAY, "demo", "--for", "3s"]).env("RINGWAY_IO", driver);
    let ended = command.output().unwrap();
    let text = std::fs::read_to_string(&trace).unwrap_or_default();
    assert!(ended.status.success(), "{}", String::from_utf8_lossy(&ended.stderr));
    let call = |line: &str| {
        let name = line.split_whitespace().nth(1)?.split_once('(')?.0;
        name.chars().all(|c| c.is_ascii_lowercase() || c.is_ascii_digit() || c == '_').then(|| name.to_string())
    };
    let calls: BTreeSet<String> = text.lines().filter_map(call).collect();
    assert!(calls.contains("accept4") && calls.len() > 30, "{calls:?}");
    assert_eq!(calls.contains("io_uring_setup"), driver == "io_uring", "{calls:?}");
    Some(calls)
}

#[test]
fn the_image_runs_what_is_there() {
    let dockerfile = text("packaging/docker/Dockerfile");
    let instruction = |name: &str| {
        let lines = dockerfile.lines().filter_map(|line| line.strip_prefix(name).map(str::trim));
        lines.map(String::from).collect::<Vec<_>>()
    };
    let json = |name: &str| words(&serde_json::from_str(&instruction(name)[0]).unwrap());
    assert_eq!(json("ENTRYPOINT"), ["/usr/bin/ringway"]);
    assert_known(&json("CMD"));
    let health = instruction("HEALTHCHECK")[0].split_once(" CMD ").unwrap().1.to_string();
    let health = words(&serde_json::from_str(&health).unwrap());
    assert_eq!(health[0], json("ENTRYPOINT")[0], "there is no shell");
    assert_known(&health[1..]);
    assert_eq!(instruction("FROM")[1], "scratch");
    let built = instruction("RUN").iter().any(|run| run.contains("scripts/package.sh --static "));
    assert!(built, "in an empty image it must be static");
    assert_eq!(instruction("USER"), ["65532:65532"]);
    for copy in instruction("COPY").iter().filter(|copy| !copy.starts_with("--from")) {
        let (from, _) = copy.split_once(' ').unwrap();
        assert!(file(from).exists(), "{from}");
    }
    let installed: Vec<String> =
        instruction("COPY").iter().map(|copy| copy.rsplit(' ').next().unwrap().into()).collect();
    assert!(installed.contains(&json("CMD")[2]) && installed.contains(&json("ENTRYPOINT")[0]));
    // The health check finds the socket of the configuration that the image has, in a folder that is there.
    let config =
        ringway::config::load(&text("packaging/docker/ringway.toml"), "ringway.toml", &|_: &str| None).unwrap();
    let socket = config.admin.socket.unwrap();
    assert!(output(Command::new(RINGWAY).args(["ctl", "--help"])).contains(socket.to_str().unwrap()));
    assert!(installed.contains(&socket.parent().unwrap().display().to_string()), "{installed:?}");
    let toolchain = text("Cargo.toml").lines().find_map(|line| line.strip_prefix("rust-version = ").map(String::from));
    assert!(dockerfile.contains(&format!("FROM rust:{}-", toolchain.unwrap().trim_matches('"'))));
}

#[test]
fn keepalived_takes_its_configuration() {
    let path = file("packaging/keepalived/keepalived.conf");
    assert!(text("packaging/keepalived/keepalived.conf").contains("/ready"));
    let Some(keepalived) = program(&["/usr/sbin/keepalived"], "keepalived") else { return };
    let folder = tempfile::tempdir().unwrap();
    let copy = folder.path().join("keepalived.conf");
    // Not every machine has the interface; and the test of 2.2.7 ends itself when it looks at a script as another user.
    let altered = std::fs::read_to_string(path).unwrap();
    let altered = altered.replace("global_defs {", "global_defs {\n    dynamic_interfaces");
    std::fs::write(&copy, altered.replace("script_user nobody", "script_user root")).unwrap();
    output(Command::new(keepalived).arg("--config-test").arg("--log-console").arg("-f").arg(&copy));
}

#[test]
fn bird_takes_its_configuration() {
    let path = file("packaging/bird/bird.conf");
    assert!(text("packaging/bird/ringway-route").contains("/ready"));
    let Some(bird) = program(&["/usr/sbin/bird"], "bird2") else { return };
    output(Command::new(bird).arg("-p").arg("-c").arg(path));
}
