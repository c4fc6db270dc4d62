//! What a configuration needs of this host: one line per thing, and whether the host has it.
//!
//! It looks as the user that will serve (`Account`), because root can read and write everything. Nothing is changed,
//! and nothing is bound; backends are connected to once.

use std::collections::BTreeMap;
use std::fs;
use std::net::IpAddr;
use std::os::unix::fs::{FileTypeExt, MetadataExt};
use std::path::Path;

use super::certificates;
use super::findings::DoctorFinding;
use super::held::{Held, Holder};
use super::reach;
use crate::app::account::{Account, Use};
use crate::base::address::{Address, BindAddress};
use crate::config::model::{Check, Config, LocalAddress, Output, Pool, Target};
use crate::config::{self, Host};
use crate::discover;
use crate::sys::route;

/// How many addresses of one listener get a line each; more than these are counted.
const ADDRESSES_SHOWN: usize = 8;

/// All findings, in the order in which ringway would need the things.
pub(super) fn all(config: &Config) -> Vec<DoctorFinding> {
    let mut findings = Vec::new();
    let pure = Host { has_address: &route::is_own, cannot_read: &|_| None, no_account: None };
    findings.extend(config::warnings(config, &pure).into_iter().map(|line| DoctorFinding::told("configuration", line)));
    let account = account(config, &mut findings);
    listening(config, &mut findings);
    sources(config, &mut findings);
    if let Some(account) = &account {
        logs(config, account, &mut findings);
        passwords(config, account, &mut findings);
        certificates::all(config, account, &mut findings);
    }
    backends(config, &mut findings);
    findings
}

/// The user that will serve. `None` if it does not exist; then files cannot be judged.
fn account(config: &Config, findings: &mut Vec<DoctorFinding>) -> Option<Account> {
    let process = &config.process;
    match Account::of(process) {
        Ok(account) if process.user.is_none() && process.group.is_none() && account.is_root() => {
            let detail = "root, as now: no user is given";
            let remedy = "where systemd sets User=, ask again as that user; else set process.user";
            findings.push(DoctorFinding::note("user", detail, remedy));
            Some(account)
        }
        Ok(account) => {
            findings.push(DoctorFinding::good("user", format!("{} serves", account.name())));
            Some(account)
        }
        Err(error) => {
            findings.push(DoctorFinding::told_bad("user", format!("{error:#}")));
            None
        }
    }
}

/// Whether the addresses to listen on exist here and are free.
fn listening(config: &Config, findings: &mut Vec<DoctorFinding>) {
    let held = Held::read();
    let own = Account::own();
    let mut of_one = |whose: &str, places: &[BindAddress], freebind| {
        let found: Vec<DoctorFinding> =
            places.iter().map(|place| listen(whose, place, freebind, (&held, &own))).collect();
        let (good, other): (Vec<_>, Vec<_>) = found.into_iter().partition(DoctorFinding::is_good);
        if good.len() > ADDRESSES_SHOWN {
            findings.push(DoctorFinding::good("listen", format!("{} addresses of {whose} are free", good.len())));
        } else {
            findings.extend(good);
        }
        let more = other.len().saturating_sub(ADDRESSES_SHOWN);
        findings.extend(other.into_iter().take(ADDRESSES_SHOWN));
        if more > 0 {
            findings.push(DoctorFinding::told("listen", format!("and so with {more} more addresses of {whose}")));
        }
    };
    for listener in &config.listeners {
        of_one(&format!("listener {}", listener.name), &listener.places().collect::<Vec<_>>(), listener.freebind);
    }
    let mut of_admin = |key, address: Option<Address>| {
        of_one(key, &address.map(BindAddress::everywhere).into_iter().collect::<Vec<_>>(), false);
    };
    of_admin("admin.listen", config.admin.listen.map(Address::Tcp));
    of_admin("admin.probes", config.admin.probes.map(Address::Tcp));
    of_admin("admin.socket", config.admin.socket.clone().map(Address::Unix));
}

/// Whether one address is free; `whose` says what it is for.
fn listen(whose: &str, place: &BindAddress, freebind: bool, (held, own): (&Held, &Account)) -> DoctorFinding {
    let what = "listen";
    let address = &place.address;
    if let Some(interface) = place.interface.as_ref().filter(|name| !route::has_interface(name)) {
        let detail = format!("{place} of {whose}: this host has no interface {interface}");
        return DoctorFinding::bad(what, detail, "`ip link` shows those it has; write one of them");
    }
    if let Address::Tcp(tcp) = address {
        if !tcp.ip().is_unspecified() && !freebind && !is_lax(tcp.ip()) && !route::is_own(tcp.ip()) {
            let detail = format!("{address} of {whose}: no interface of this host has that address");
            return DoctorFinding::bad(
                what,
                detail,
                "`ip address` shows those it has; write one of them, or 0.0.0.0 or [::]",
            );
        }
        if tcp.port() == 0 {
            return DoctorFinding::good(what, format!("{address} of {whose}: the kernel chooses a port"));
        }
    }
    let holders = held.holders(place);
    if let Some(holder) = holders.first() {
        return held_by(whose, place, holder);
    }
    let Address::Unix(path) = address else {
        return DoctorFinding::good(what, format!("{place} of {whose} is free"));
    };
    match fs::symlink_metadata(path) {
        Ok(found) if !found.file_type().is_socket() => {
            let detail = format!("{address} of {whose}: something that is no socket is there");
            return DoctorFinding::bad(what, detail, format!("remove {}, or choose another path", path.display()));
        }
        _ => {}
    }
    match folder_takes(path, own) {
        Ok(()) => DoctorFinding::good(what, format!("{address} of {whose} is free")),
        Err(why) => DoctorFinding::told_bad(what, format!("{address} of {whose}: {why}")),
    }
}

/// Whether this user can make a file in the folder of `path`.
///
/// # Errors
/// Why not, and what to do.
fn folder_takes(path: &Path, account: &Account) -> Result<(), String> {
    let folder = path.parent().unwrap_or(Path::new("/"));
    if !folder.exists() {
        let folder = folder.display();
        return Err(format!("its folder {folder} is not there; `mkdir -p {folder}`"));
    }
    account.reach(folder, Use::Write).map_err(|why| format!("its folder {}: {why}", folder.display()))
}

/// The finding for an address that a program has. A running ringway and systemd may have it.
fn held_by(whose: &str, address: &BindAddress, Holder { name, pid }: &Holder) -> DoctorFinding {
    let what = "listen";
    match name.as_str() {
        "ringway" => {
            DoctorFinding::good(what, format!("{address} of {whose} is held by a ringway that runs (pid {pid})"))
        }
        "systemd" => DoctorFinding::good(what, format!("{address} of {whose} is held by systemd, which hands it over")),
        "" => {
            let detail = format!("{address} of {whose} is held by a program of another user");
            DoctorFinding::bad(what, detail, "ask again as root to see which; stop it, or choose another address")
        }
        name => {
            let detail = format!("{address} of {whose} is held by {name} (pid {pid})");
            DoctorFinding::bad(what, detail, "stop it, or choose another address")
        }
    }
}

/// Whether the kernel binds addresses that no interface has (`ip_nonlocal_bind`), so that a wrong one cannot be told.
fn is_lax(ip: IpAddr) -> bool {
    let family = if ip.is_ipv4() { "ipv4" } else { "ipv6" };
    let said = fs::read_to_string(format!("/proc/sys/net/{family}/ip_nonlocal_bind"));
    said.is_ok_and(|text| text.trim() != "0")
}

/// Whether this host has the source addresses of connections to backends.
fn sources(config: &Config, findings: &mut Vec<DoctorFinding>) {
    for pool in &config.pools {
        let LocalAddress::Addresses(all) = &pool.dial.source else { continue };
        for address in all.iter() {
            let detail = format!("{address} of pool {}", pool.name);
            findings.push(match is_lax(*address) || route::is_own(*address) {
                true => DoctorFinding::good("source", format!("{detail} is there")),
                false => {
                    let detail = format!("{detail}: no interface of this host has that address");
                    DoctorFinding::note("source", detail, "`ip address` shows those it has")
                }
            });
        }
    }
}

/// Whether the files of both logs can be written to. They are opened before the user changes, and after a rotation by
/// the user that serves.
fn logs(config: &Config, account: &Account, findings: &mut Vec<DoctorFinding>) {
    let access = config.access_log.as_ref().map(|access| &access.output);
    let outputs = [("log.output", Some(&config.log.output)), ("access_log.output", access)];
    for (key, output) in outputs {
        let Some(Output::File(path)) = output else { continue };
        let (shown, folder) = (path.display(), path.parent().unwrap_or(Path::new("/")));
        let fits = match path.exists() {
            true if path.is_dir() => Err("it is a directory".to_string()),
            true => account.reach(path, Use::Write),
            false => folder_takes(path, account),
        };
        findings.push(match fits {
            Ok(()) => DoctorFinding::good("log file", format!("{shown} of {key} can be written to")),
            // At the start the file is given to that user. At USR1, when a new file is made, its folder counts.
            Err(why) if config.process.user.is_some() && folder.is_dir() && !path.is_dir() => DoctorFinding::note(
                "log file",
                format!("{shown} of {key}: {why}"),
                "as long as this is so, USR1 cannot open the log again",
            ),
            Err(why) => DoctorFinding::told_bad("log file", format!("{shown} of {key}: {why}")),
        });
    }
}

/// Whether the passwords of checks can be read, and not by every user of the host.
fn passwords(config: &Config, account: &Account, findings: &mut Vec<DoctorFinding>) {
    for pool in &config.pools {
        let login = pool.check.as_ref().and_then(|check| check.kind.login());
        let Some(file) = login.and_then(|login| login.password_file.as_ref()) else { continue };
        let whose = format!("{} of pool {}", file.display(), pool.name);
        let is_open = fs::metadata(file).is_ok_and(|found| found.mode() & 0o004 != 0);
        let is_empty = fs::metadata(file).is_ok_and(|found| found.len() == 0);
        findings.push(match account.may_read(file) {
            Err(why) => DoctorFinding::told("password file", format!("{whose}: {why}")),
            Ok(()) if is_empty => {
                DoctorFinding::note("password file", format!("{whose} is empty"), "write the password to it")
            }
            Ok(()) if is_open => {
                let remedy = format!("`chmod o-r {}`", file.display());
                DoctorFinding::note("password file", format!("{whose}: every user of this host can read it"), remedy)
            }
            Ok(()) => DoctorFinding::good("password file", format!("{whose} can be read by {}", account.name())),
        });
    }
}

/// Whether host names can be looked up, and whether the backends can be connected to.
fn backends(config: &Config, findings: &mut Vec<DoctorFinding>) {
    let names = names(config, findings);
    let (mut lines, mut targets) = (Vec::new(), Vec::new());
    for pool in &config.pools {
        for backend in pool.backends.iter().filter(|backend| !backend.disabled) {
            let addresses = match backend.target.place() {
                Target::Address(address) => vec![address.clone()],
                Target::AtClientPort { .. } => Vec::new(), // that is no place
                Target::Host { name, port } => {
                    let found = names.get(&**name).into_iter().flatten();
                    let fits = found.filter(|ip| pool.address_family.has(ip));
                    fits.map(|ip| Address::Tcp((*ip, *port).into())).collect()
                }
            };
            for address in addresses {
                let whose = format!("{} of pool {}", backend.name, pool.name);
                if let Some(check) = of_check(pool, &address) {
                    lines.push(format!("{check}, where {whose} is checked"));
                    targets.push(check);
                }
                if backend.target.shift().is_some() {
                    // Only a client has the port.
                    continue;
                }
                lines.push(if *backend.name == *address.to_string() { whose } else { format!("{whose} at {address}") });
                targets.push(address);
            }
        }
    }
    for (line, result) in lines.into_iter().zip(reach::try_all(&targets)) {
        findings.push(match result {
            Ok(took) => {
                DoctorFinding::good("backend", format!("{line}: connected in {:.1} ms", took.as_secs_f64() * 1e3))
            }
            Err(why) => DoctorFinding::told("backend", format!("{line}: {why}")),
        });
    }
}

/// The address that is checked, if it is not the backend's own.
fn of_check(pool: &Pool, address: &Address) -> Option<Address> {
    let Some(Check { port: Some(port), .. }) = &pool.check else { return None };
    match address {
        Address::Tcp(tcp) if tcp.port() != *port => Some(Address::Tcp((tcp.ip(), *port).into())),
        _ => None,
    }
}

/// The host names of the configuration with their addresses.
fn names<'c>(config: &'c Config, findings: &mut Vec<DoctorFinding>) -> BTreeMap<&'c str, Vec<IpAddr>> {
    let backends = config.pools.iter().flat_map(|pool| &pool.backends).filter(|backend| !backend.disabled);
    let mut names: Vec<&str> = backends
        .filter_map(|backend| match backend.target.place() {
            Target::Host { name, .. } => Some(&**name),
            _ => None,
        })
        .collect();
    names.sort_unstable();
    names.dedup();
    if names.is_empty() {
        return BTreeMap::new();
    }
    let answers = match discover::dns::look_up(&config.dns, &names) {
        Ok(answers) => answers,
        Err(error) => {
            findings.push(DoctorFinding::told_bad("name", format!("nothing can be looked up: {error}")));
            return BTreeMap::new();
        }
    };
    let mut found = BTreeMap::new();
    for (name, answer) in names.into_iter().zip(answers) {
        match answer {
            Ok(addresses) => {
                let shown: Vec<String> = addresses.iter().map(IpAddr::to_string).collect();
                findings.push(DoctorFinding::good("name", format!("{name} is {}", shown.join(", "))));
                found.insert(name, addresses);
            }
            Err(why) => findings.push(DoctorFinding::told("name", format!("{name} has no address: {why}"))),
        }
    }
    found
}
