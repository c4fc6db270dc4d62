//! What a ringway that serves can still do if an attacker takes it over through a bug: not much.
//!
//! **Files** (Landlock, from the first moment, so that every thread there will be inherits it): it reads the folders of
//! its configuration, of password files, of certificates and of lists of clients, the files that name servers and
//! hosts, and what the kernel says of it; it writes to the folders of its logs, of its state and of the
//! unix sockets it listens on.
//! Folders, because files are replaced by renaming others over them. **System calls** (seccomp, once it serves):
//! [`filter`]. Where the kernel has neither, it runs without, and logs that. `RINGWAY_SANDBOX=off` turns both off.
//!
//! What was permitted stays for the life of the process. A reload that needs more is refused, with the path
//! ([`Permitted::missing`]); the next process (`--take-over`) begins with its own.

use std::collections::BTreeSet;
use std::ffi::OsString;
use std::path::{Path, PathBuf};

use landlock::{
    ABI, Access, AccessFs, BitFlags, CompatLevel, Compatible, LandlockStatus, RestrictionStatus, Ruleset, RulesetAttr,
    RulesetCreatedAttr, RulesetError, RulesetStatus, path_beneath_rules,
};

use crate::base::address::Address;
use crate::config::model::{Config, ListenerTls, Output, Source};
use crate::discover::{kubernetes, settings};
use crate::kernel::driver::Driver;
use crate::sys::filter;

/// The newest rights that are asked for (Linux 6.10); an older kernel keeps to those it knows.
const RIGHTS: ABI = ABI::V5;

/// What the resolver, the C library and ringway's own figures are read from. `/etc/resolv.conf` may become a link to a
/// file of another program.
const READ_ALWAYS: [&str; 17] = [
    // Certificates of authorities, on Debian, Red Hat, SUSE and Alpine.
    "/etc/ssl/certs",
    "/etc/pki/tls/certs",
    "/etc/pki/ca-trust/extracted",
    "/usr/share/ca-certificates",
    "/usr/local/share/ca-certificates",
    "/var/lib/ca-certificates",
    "/run/systemd/resolve",
    "/run/NetworkManager",
    "/run/resolvconf",
    "/etc/resolv.conf",
    "/etc/hosts",
    "/etc/nsswitch.conf",
    "/etc/host.conf",
    "/etc/gai.conf",
    "/proc",
    "/sys/devices/system/cpu",
    "/sys/fs/cgroup",
];

/// The files that a configuration can name, by their keys and, for certificates, the table.
const FILES_TO_READ: &str = "a file to read (password_file, ca_file, allow_file, deny_file, tls, discover)";

/// What a configuration needs of the file system, as folders.
#[derive(Clone, Debug, Default, Eq, PartialEq)]
struct Needs {
    /// Files in them are read.
    read: BTreeSet<PathBuf>,
    /// Files in them are made, appended to and reopened.
    log: BTreeSet<PathBuf>,
    /// Sockets in them are made and removed.
    sockets: BTreeSet<PathBuf>,
    /// Files in them are made, read, written and put in the place of others.
    state: BTreeSet<PathBuf>,
}

/// What the process may open, until its end.
pub(super) struct Permitted {
    /// `None` exactly if nothing is restricted.
    needs: Option<Needs>,
    /// How it went, for the log, which does not run yet.
    status: Result<RestrictionStatus, String>,
    /// The environment has RINGWAY_SANDBOX=off: files and system calls are free.
    is_off: bool,
}

impl Permitted {
    /// Restricts the files that this thread, and every one that it starts, can open. To be called before any other
    /// thread runs. `stays_root` is whether it goes on as root: only root needs to be kept from what is root's own.
    pub fn restrict(config: &Config, source: &Source, stays_root: bool) -> Permitted {
        let is_off = std::env::var_os("RINGWAY_SANDBOX").is_some_and(|value| value == "off");
        if is_off {
            return Permitted { needs: None, status: Err(String::new()), is_off };
        }
        let needs = Needs::of(config, source).with_authorities(|name| std::env::var_os(name));
        let status = restrict(&needs, stays_root).map_err(|error| error.to_string());
        let is_restricted = matches!(&status, Ok(status) if status.ruleset != RulesetStatus::NotEnforced);
        Permitted { needs: is_restricted.then_some(needs), status, is_off }
    }

    /// Says what came of it, and filters system calls from now on: those of a process that runs on that.
    pub fn confine(&self, driver: Driver) {
        if self.is_off {
            tracing::warn!("RINGWAY_SANDBOX=off: files and system calls are not restricted");
            return;
        }
        match &self.status {
            Ok(status) if status.ruleset == RulesetStatus::NotEnforced => {
                let why = match status.landlock {
                    LandlockStatus::NotEnabled => "it is not enabled (`lsm=` of the kernel command line)",
                    _ => "this kernel has none (Linux 5.13 is the first)",
                };
                tracing::info!("files are not restricted by Landlock: {why}");
            }
            Ok(status) => tracing::debug!(?status, "files are restricted"),
            Err(error) => tracing::warn!(%error, "files are not restricted by Landlock"),
        }
        match filter::install(driver) {
            Ok(()) => tracing::debug!("system calls are filtered"),
            Err(error) => tracing::warn!(%error, "system calls are not filtered"),
        }
    }

    /// What another configuration needs and this process may not open; a line each.
    pub fn missing(&self, config: &Config) -> Vec<String> {
        let Some(permitted) = &self.needs else { return Vec::new() };
        let wanted = Needs::of(config, &Source::CommandLine);
        let remedy = "a running ringway reaches only the folders that it was started with: put it into one of them, or \
                      start a new process (`ringway run --take-over`)";
        let line = |what: &str, folder: &Path| format!("{what} in {}: {remedy}", folder.display());
        let reads = wanted.read.iter().filter(|folder| !lies_in(folder, &permitted.read));
        let sockets = wanted.sockets.iter().filter(|folder| !lies_in(folder, &permitted.sockets));
        let reads = reads.map(|folder| line(FILES_TO_READ, folder));
        reads.chain(sockets.map(|folder| line("a unix socket to listen on", folder))).collect()
    }
}

impl Needs {
    /// What this configuration needs: its own file, password files, logs, and the folders of unix sockets.
    fn of(config: &Config, source: &Source) -> Needs {
        let mut needs = Needs::default();
        if let Source::File(path) = source {
            needs.read.extend(folders_to_read(path));
        }
        let checks = config.pools.iter().filter_map(|pool| pool.check.as_ref());
        needs.read.extend(checks.flat_map(|check| check.files()).flat_map(|(_, file)| folders_to_read(file)));
        let lists = config.listeners.iter().flat_map(|listener| [&listener.allow_file, &listener.deny_file]);
        needs.read.extend(lists.flatten().flat_map(|list| folders_to_read(&list.path)));
        let sources = config.pools.iter().filter_map(|pool| pool.discover.as_ref());
        let paths = sources.flat_map(|discover| match &discover.source {
            // A kubeconfig names files of its own.
            settings::Source::Kubernetes(source) => kubernetes::files(source),
            source => source.paths(),
        });
        needs.read.extend(paths.flat_map(|path| folders_to_read(&path)));
        let tls = config.listeners.iter().filter_map(|listener| listener.tls.as_ref());
        needs.read.extend(tls.flat_map(certificate_folders));
        let tls = config.pools.iter().filter_map(|pool| pool.tls.as_ref());
        needs.read.extend(tls.flat_map(|tls| tls.paths()).flat_map(|(_, file)| folders_to_read(file)));
        let outputs = [Some(&config.log.output), config.access_log.as_ref().map(|access| &access.output)];
        for output in outputs.into_iter().flatten() {
            if let Output::File(path) = output {
                needs.log.extend(folders(path));
            }
        }
        let binds = config.listeners.iter().flat_map(|listener| &listener.binds);
        let paths = binds.filter_map(|address| match address {
            Address::Unix(path) => Some(path),
            Address::Tcp(_) => None,
        });
        needs.state.extend(config.process.state_file.iter().flat_map(|path| folders(path)));
        needs.sockets.extend(paths.chain(&config.admin.socket).flat_map(|path| folders(path)));
        needs
    }

    /// With the files of authorities that the environment names, for checks that believe the system's
    /// (rustls-native-certs looks there).
    fn with_authorities(mut self, variable: impl Fn(&str) -> Option<OsString>) -> Needs {
        for paths in ["SSL_CERT_FILE", "SSL_CERT_DIR"].into_iter().filter_map(variable) {
            self.read.extend(std::env::split_paths(&paths).flat_map(|path| folders_to_read(&path)));
        }
        self
    }
}

/// Leaves this process nothing of the file system but to read in these folders.
pub(super) fn restrict_to_reading(folders: &[&Path]) -> Result<(), RulesetError> {
    let read = AccessFs::ReadFile | AccessFs::ReadDir;
    Ruleset::default()
        .set_compatibility(CompatLevel::BestEffort)
        .handle_access(AccessFs::from_all(RIGHTS))?
        .create()?
        .add_rules(path_beneath_rules(folders, read))?
        .restrict_self()?;
    Ok(())
}

/// The folder of a file; where it is a link, that of the file it stands for, too.
fn folders(path: &Path) -> Vec<PathBuf> {
    let of = |path: &Path| match path.parent() {
        Some(folder) if !folder.as_os_str().is_empty() => folder.to_path_buf(),
        _ => PathBuf::from("."),
    };
    let behind = path.canonicalize().ok().map(|path| of(&path));
    let folder = of(path);
    let folder = folder.canonicalize().unwrap_or(folder);
    std::iter::once(folder).chain(behind).collect()
}

/// The folders to read a file from. A folder on the way that is a link (`current` to `releases/124`) is a release that
/// is changed by changing the link, so its neighbours are among them, but not folders at the root, in which there is
/// too much else.
fn folders_to_read(path: &Path) -> Vec<PathBuf> {
    let links = path.ancestors().skip(1).filter(|above| above.is_symlink());
    let releases = links.filter_map(|link| Some(link.canonicalize().ok()?.parent()?.to_path_buf()));
    folders(path).into_iter().chain(releases.filter(|folder| folder.components().count() > 2)).collect()
}

/// The folders to read the certificates of a listener from, and what belongs to them. A link in `certificate_dir` is
/// followed to where it leads; one that comes later reaches only what is known already.
fn certificate_folders(tls: &ListenerTls) -> Vec<PathBuf> {
    let mut files: Vec<PathBuf> = Vec::new();
    for (key, path) in tls.paths() {
        if key == "certificate_dir" {
            let links = std::fs::read_dir(path).into_iter().flatten().flatten().map(|entry| entry.path());
            files.extend(links.filter(|path| path.is_symlink()));
            files.push(path.join("any"));
        } else {
            files.push(path.to_path_buf());
        }
    }
    files.iter().flat_map(|file| folders_to_read(file)).collect()
}

/// Whether a folder is one of those or below one.
fn lies_in(folder: &Path, permitted: &BTreeSet<PathBuf>) -> bool {
    permitted.iter().any(|known| folder.starts_with(known))
}

/// Applies the rules to this thread by Landlock, as far as this kernel knows it (best effort).
fn restrict(needs: &Needs, stays_root: bool) -> Result<RestrictionStatus, RulesetError> {
    let read = AccessFs::ReadFile | AccessFs::ReadDir;
    let log: BitFlags<AccessFs> = AccessFs::WriteFile | AccessFs::ReadFile | AccessFs::MakeReg;
    let sockets = AccessFs::MakeSock | AccessFs::RemoveFile;
    let state = read | AccessFs::WriteFile | AccessFs::MakeReg | AccessFs::RemoveFile | AccessFs::Truncate;
    // Where name servers are in a folder of their own, the file is replaced in it.
    let resolver = std::fs::canonicalize("/etc/resolv.conf").ok().and_then(|file| Some(file.parent()?.to_path_buf()));
    let resolver = resolver.filter(|folder| folder != Path::new("/etc"));
    // For the names in the trace of a panic.
    let own = std::env::current_exe().ok();
    // What every user may read. Root's own files are the secrets there.
    let etc = (!stays_root).then(|| PathBuf::from("/etc"));
    Ruleset::default()
        .set_compatibility(CompatLevel::BestEffort)
        .handle_access(AccessFs::from_all(RIGHTS))?
        .create()?
        .add_rules(path_beneath_rules(READ_ALWAYS, read))?
        .add_rules(path_beneath_rules(resolver.iter().chain(&own).chain(&etc).chain(&needs.read), read))?
        .add_rules(path_beneath_rules(&needs.log, log))?
        .add_rules(path_beneath_rules(&needs.sockets, sockets))?
        .add_rules(path_beneath_rules(&needs.state, state))?
        .restrict_self()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn needs(toml: &str) -> Needs {
        let config = crate::config::load(toml, "t", &|_: &str| None).unwrap();
        Needs::of(&config, &Source::File("/nowhere/etc/ringway.toml".into()))
    }

    #[test]
    fn the_authorities_that_the_environment_names_can_be_read() {
        let none = Needs::default().with_authorities(|_| None);
        assert!(none.read.is_empty());
        let found = Needs::default().with_authorities(|name| match name {
            "SSL_CERT_FILE" => Some("/nowhere/one/file.pem".into()),
            _ => Some("/nowhere/two/a:/nowhere/three/b".into()),
        });
        let read = ["/nowhere/one", "/nowhere/three", "/nowhere/two"].map(PathBuf::from);
        assert_eq!(found.read, read.into());
    }

    const CONFIG: &str = "[log]\noutput = \"/nowhere/log/x\"\n[admin]\nsocket = \"/nowhere/run/admin\"\n\
        [listeners.l]\nbind = [\"127.0.0.1:1\", \"unix:/nowhere/s/l\"]\npool = \"p\"\n[pools.p]\n\
        check = { type = \"redis\", password_file = \"/nowhere/secret/p\" }\n\
        [[pools.p.backends]]\naddress = \"unix:/nowhere/else/b\"\n";

    #[test]
    fn what_is_needed_is_what_the_configuration_names_and_no_more() {
        let set = |names: &[&str]| names.iter().map(PathBuf::from).collect::<BTreeSet<_>>();
        let found = needs(CONFIG);
        assert_eq!(found.read, set(&["/nowhere/etc", "/nowhere/secret"]));
        assert_eq!(found.log, set(&["/nowhere/log"]));
        assert_eq!(found.sockets, set(&["/nowhere/run", "/nowhere/s"]));
    }

    #[test]
    fn certificates_are_read_in_their_folders_and_where_links_in_them_lead() {
        let folder = tempfile::tempdir().unwrap();
        let at = |path: &str| folder.path().canonicalize().unwrap().join(path);
        for name in ["pairs", "live", "keys", "authorities"] {
            std::fs::create_dir(at(name)).unwrap();
        }
        std::fs::write(at("live/db.pem"), "x").unwrap();
        std::fs::write(at("pairs/here.pem"), "x").unwrap();
        std::os::unix::fs::symlink(at("live/db.pem"), at("pairs/db.pem")).unwrap();
        let tls = format!(
            "[listeners.l.tls]\ncertificates = [{{ cert = {:?}, key = {:?} }}]\ncertificate_dir = {:?}\n\
             client_auth = \"required\"\nclient_ca = {:?}\nclient_crl = {:?}\n",
            at("live/a.crt"),
            at("keys/a.key"),
            at("pairs"),
            at("authorities/ca.pem"),
            at("revoked/crl.pem")
        );
        let found = needs(&format!("{CONFIG}{tls}")).read;
        let more: BTreeSet<PathBuf> = found.difference(&needs(CONFIG).read).cloned().collect();
        assert_eq!(more, ["live", "keys", "pairs", "authorities", "revoked"].map(at).into());
    }

    #[test]
    fn a_reload_that_needs_another_folder_is_told_which() {
        let status = Err(String::new());
        let permitted = Permitted { needs: Some(needs(CONFIG)), status, is_off: false };
        let load = |text: &str| crate::config::load(text, "t", &|_: &str| None).unwrap();
        assert!(permitted.missing(&load(CONFIG)).is_empty());
        assert!(permitted.missing(&load(&CONFIG.replace("secret/p", "secret/deep/q"))).is_empty());
        let missing = permitted.missing(&load(&CONFIG.replace("secret/p", "other/p").replace("s/l", "t/l")));
        assert_eq!(missing.len(), 2, "{missing:?}");
        assert!(missing[0].starts_with(
            "a file to read (password_file, ca_file, allow_file, deny_file, tls, discover) in /nowhere/other: a running"
        ));
        assert!(missing[1].starts_with("a unix socket to listen on in /nowhere/t: "));
        let free = Permitted { needs: None, status: Err(String::new()), is_off: true };
        assert!(free.missing(&load(&CONFIG.replace("s/l", "t/l"))).is_empty());
    }

    #[test]
    fn a_release_behind_a_link_has_its_successors_within_reach() {
        let folder = tempfile::tempdir().unwrap();
        let at = |path: &str| folder.path().canonicalize().unwrap().join(path);
        std::fs::create_dir_all(at("releases/123")).unwrap();
        std::os::unix::fs::symlink("releases/123", at("current")).unwrap();
        std::os::unix::fs::symlink("/", at("root")).unwrap();
        assert_eq!(folders_to_read(&at("current/ringway.toml")), [at("releases/123"), at("releases")]);
        assert_eq!(folders_to_read(&at("releases/123/ringway.toml")), [at("releases/123")]);
        assert_eq!(folders_to_read(&at("root/ringway.toml")), [PathBuf::from("/")], "nothing more than was asked for");
        std::os::unix::fs::symlink("/etc", at("etc")).unwrap();
        assert_eq!(folders_to_read(&at("etc/ringway.toml")), [PathBuf::from("/etc")]);
        assert_eq!(folders(&at("current/log")), [at("releases/123")], "nobody writes to another release");
    }

    const CHILD: &str = "RINGWAY_TEST_RESTRICTED";

    /// Runs as a process of its own, which stays restricted.
    #[test]
    fn in_a_child() {
        let Some(folder) = std::env::var_os(CHILD).map(PathBuf::from) else { return };
        let config = CONFIG.replace("/nowhere", folder.to_str().unwrap());
        let at = move |path: &str| folder.join(path);
        let config = crate::config::load(&config, "t", &|_: &str| None).unwrap();
        let permitted = Permitted::restrict(&config, &Source::File(at("etc/ringway.toml")), true);
        if permitted.needs.is_none() {
            eprintln!("skipped: no Landlock");
            return;
        }
        let forbidden = |result: std::io::Result<()>| {
            result.is_err_and(|error| error.kind() == std::io::ErrorKind::PermissionDenied)
        };
        // A thread that begins later is restricted as well.
        let found = std::thread::spawn(move || {
            let read = |path: &Path| std::fs::read(path).map(drop);
            let append = |path: &Path| {
                let file = std::fs::OpenOptions::new().append(true).create(true).open(path);
                file.and_then(|mut file| std::io::Write::write_all(&mut file, b"x"))
            };
            append(&at("log/new")).unwrap();
            read(&at("etc/ringway.toml")).unwrap();
            read(&at("secret/p")).unwrap();
            read(Path::new("/proc/self/status")).unwrap();
            std::os::unix::net::UnixListener::bind(at("s/l")).unwrap();
            std::fs::remove_file(at("s/l")).unwrap();
            std::os::unix::net::UnixStream::connect(at("other/backend")).unwrap();
            [
                forbidden(read(Path::new("/etc/shadow"))),
                forbidden(read(Path::new("/etc/passwd"))),
                forbidden(read(&at("other/file"))),
                forbidden(append(&at("other/new"))),
                forbidden(append(&at("etc/ringway.toml"))),
                forbidden(std::fs::write(at("log/new"), "over")),
                forbidden(std::fs::remove_file(at("log/new"))),
                forbidden(std::fs::create_dir(at("s/new"))),
                forbidden(std::os::unix::net::UnixListener::bind(at("other/l")).map(drop)),
            ]
        });
        assert_eq!(found.join().unwrap(), [true; 9]);
    }

    /// S5.
    #[test]
    fn files_that_it_does_not_need_are_out_of_its_reach() {
        let folder = tempfile::tempdir().unwrap();
        for name in ["etc", "log", "secret", "s", "run", "other"] {
            std::fs::create_dir(folder.path().join(name)).unwrap();
        }
        for name in ["etc/ringway.toml", "secret/p", "other/file"] {
            std::fs::write(folder.path().join(name), "x").unwrap();
        }
        let _backend = std::os::unix::net::UnixListener::bind(folder.path().join("other/backend")).unwrap();
        let mut child = std::process::Command::new(std::env::current_exe().unwrap());
        let child = child.args(["app::sandbox::tests::in_a_child", "--exact", "--nocapture"]);
        let output = child.env(CHILD, folder.path()).output().unwrap();
        assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
    }
}
