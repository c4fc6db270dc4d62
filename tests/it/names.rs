//! Files that say how names are looked up, and files that are replaced while ringway runs.

use std::fs;
use std::os::unix::fs::symlink;
use std::path::Path;
use std::time::Duration;

use crate::dns::{ip, serving, session, wait_serving};
use crate::harness::network;
use crate::harness::process::Process;
use crate::harness::{Backend, Dns, Ringway, Says, timed, wait_until};

/// How soon a change is noticed; the rest is for a busy machine.
const SOON: Duration = Duration::from_secs(5 + 3);

/// Puts another file in the place of one, as most editors and programs do.
fn replace(path: &str, text: &str) {
    let new = format!("{path}.new");
    fs::write(&new, text).unwrap();
    fs::rename(&new, path).unwrap();
}

/// In place.
fn rewrite(path: &str, text: &str) {
    fs::write(path, text).unwrap();
}

fn hosts(backend: &Backend) -> String {
    format!("127.0.0.1 localhost\n{} db.test\n", ip(backend))
}

/// As root, which cannot read all of `/etc`, and as a user that can.
#[test]
fn a_hosts_file_that_changes_or_is_replaced_is_followed() {
    for process in ["", "user = \"nobody\""] {
        network::within_own_etc(move || {
            let [a, b, c] = ["a", "b", "c"].map(Backend::named);
            fs::write("/etc/nsswitch.conf", "hosts: files dns\n").unwrap();
            replace("/etc/hosts", &hosts(&a));
            replace("/etc/resolv.conf", "options timeout:1 attempts:1\n");
            let plan = Ringway::plan().backend("db", "db.test:7300", "").pool("obsolete_hold = \"0s\"");
            let ringway = plan.process(process).start();
            wait_serving(&ringway, &["a"]);
            let change = [(&b, rewrite as fn(&str, &str)), (&c, replace), (&a, replace)];
            for (backend, write) in change {
                write("/etc/hosts", &hosts(backend));
                let (took, ()) =
                    timed(|| wait_until("it is noticed", || session(&ringway).1 == name_of(backend, [&a, &b, &c])));
                assert!(took < SOON, "{took:?}");
            }
        });
    }
}

fn name_of(backend: &Backend, all: [&Backend; 3]) -> &'static str {
    let place = all.iter().position(|other| other.address() == backend.address()).unwrap();
    ["a", "b", "c"][place]
}

#[test]
fn another_name_server_is_asked_when_resolv_conf_is_replaced() {
    network::within_own_etc(|| {
        let [a, b] = ["a", "b"].map(Backend::named);
        let dns = |address: &str, backend: &Backend| Dns::at(address, Says::Addresses(vec![ip(backend)], 300));
        let _servers = [dns("127.0.0.11:53", &a), dns("127.0.0.12:53", &b)];
        replace("/etc/resolv.conf", "search s.test\nnameserver 127.0.0.11\n");
        let plan = Ringway::plan().backend("db", "db.test:7300", "").pool("obsolete_hold = \"0s\"");
        let ringway = plan.start();
        wait_serving(&ringway, &["a"]);
        replace("/etc/resolv.conf", "nameserver 127.0.0.12\n");
        let (took, ()) = timed(|| wait_serving(&ringway, &["b"]));
        assert!(took < SOON, "{took:?}");
    });
}

#[test]
fn a_name_server_with_a_scope_is_asked_through_that_interface() {
    network::within_own_etc(|| {
        let a = Backend::named("a");
        network::run("ip link add here type veth peer name there");
        for (number, name) in ["here", "there"].iter().enumerate() {
            network::run(&format!("ip link set {name} up"));
            network::run(&format!("ip address add fe80::{}/64 dev {name} nodad", number + 1));
        }
        let number = fs::read_to_string("/proc/thread-self/net/if_inet6").unwrap();
        let line =
            number.lines().find(|line| line.starts_with("fe80") && line.ends_with(" there") && line.contains("0002 "));
        let scope = u32::from_str_radix(line.unwrap().split_whitespace().nth(1).unwrap(), 16).unwrap();
        let _dns = Dns::at(&format!("[fe80::2%{scope}]:53"), Says::Addresses(vec![ip(&a)], 300));
        replace("/etc/resolv.conf", "nameserver fe80::2%there\nnameserver fe80::9%gone\noptions timeout:1\n");
        let ringway = Ringway::plan().backend("db", "db.test:7300", "").start();
        wait_serving(&ringway, &["a"]);
        ringway.wait_said("is left out: fe80::9%gone: this host has no interface `gone` that speaks IPv6");
    });
}

#[test]
fn a_reload_looks_names_up_whatever_their_time_to_live() {
    let [a, b] = ["a", "b"].map(Backend::named);
    let dns = Dns::new(Says::Addresses(vec![ip(&a)], 3600));
    let plan = crate::dns::plan(&dns);
    let ringway = plan.start();
    wait_serving(&ringway, &["a"]);
    dns.say(Says::Addresses(vec![ip(&b)], 3600));
    assert!(ringway.reload());
    let (took, ()) = timed(|| wait_serving(&ringway, &["b"]));
    assert!(took < SOON, "{took:?}");
}

/// A release is changed by changing the link to it.
#[test]
fn a_configuration_behind_a_link_is_read_from_where_the_link_leads() {
    let [a, b] = ["a", "b"].map(Backend::named);
    let folder = tempfile::tempdir().unwrap();
    let at = |path: &str| folder.path().join("app").join(path);
    let lead = |release: &str| {
        symlink(Path::new("releases").join(release), at("new")).unwrap();
        fs::rename(at("new"), at("current")).unwrap();
    };
    let plan = Ringway::before([a.address()]).never_ejecting();
    for (release, backend) in [("123", &a), ("124", &b)] {
        fs::create_dir_all(at("releases").join(release)).unwrap();
        let text = plan.to_toml().replace(a.address(), backend.address());
        fs::write(at("releases").join(release).join("ringway.toml"), text).unwrap();
    }
    lead("123");
    let process = Process::start(Ringway::command().args(["run", "-c"]).arg(at("current/ringway.toml")));
    let serves = |name: &str| {
        let mut client = crate::harness::Peer::try_connect(&plan.address()).ok()?;
        (client.read_some(16).ok()? == name.as_bytes()).then_some(())
    };
    wait_until("the first release serves", || process.output().contains("ready") && serves("a").is_some());
    lead("124");
    process.signal(libc::SIGHUP);
    wait_until("the second one serves", || serves("b").is_some());
    wait_until("it says so", || process.output().contains("configuration reloaded"));
}

/// B2, as Kubernetes has it: most candidates of a name are asked in vain.
#[test]
fn a_search_domain_that_is_broken_does_not_hide_the_name() {
    network::within_own_etc(|| {
        let a = Backend::named("a");
        let address = ip(&a);
        let _dns = Dns::answering("127.0.0.11:53", move |name| match name {
            "db.ns.svc.test." => Says::Refused,
            "db.svc.test." => Says::Addresses(vec![address], 1),
            _ => Says::NxDomain,
        });
        let search = "search ns.svc.test svc.test test\nnameserver 127.0.0.11\noptions ndots:5 timeout:1 attempts:1\n";
        replace("/etc/resolv.conf", search);
        let ringway = Ringway::plan().backend("db", "db:7300", "").start();
        wait_serving(&ringway, &["a"]);
        assert_eq!(serving(&ringway), ["a".to_string()].into());
        ringway.wait_said("db.ns.svc.test: 127.0.0.11:53: REFUSED");
    });
}
