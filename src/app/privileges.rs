//! What the process may do, and when it gives that up.
//!
//! From its first moment it can gain nothing (no new privileges, an empty bounding set) and leaves no memory image
//! behind. Once everything that needs a privilege is done (listeners bound, rings made), it becomes `process.user`, if
//! that is set, and has no capability left; but where connections come from the client's own address
//! (`source = "client"`) each thread keeps CAP_NET_RAW, which each of them takes.

use std::collections::HashSet;
use std::ffi::CString;
use std::path::{Path, PathBuf};

use anyhow::Context;
use nix::fcntl::{AtFlags, OFlag, open};
use nix::sys::prctl;
use nix::sys::stat::{Mode, SFlag, fstat};
use nix::unistd::{Gid, Group, Uid, User, fchownat, getgrouplist, setgid, setgroups, setuid};

use crate::config::model::{Config, LocalAddress};

/// Gives up what ringway never needs. For the whole life of the process, so only where it serves.
pub(super) fn renounce() {
    // Each of them narrows what is possible; where one is refused, less was possible before.
    let _ = prctl::set_no_new_privs();
    let _ = prctl::set_dumpable(false);
    let _ = caps::clear(None, caps::CapSet::Bounding);
    let _ = caps::clear(None, caps::CapSet::Ambient);
}

/// What root may do and ringway, if it stays root, needs: low ports, the client's own address, files of any user,
/// memory of rings that counts as locked before Linux 5.12.
const NEEDED: [caps::Capability; 5] = [
    caps::Capability::CAP_NET_BIND_SERVICE,
    caps::Capability::CAP_NET_RAW,
    caps::Capability::CAP_DAC_OVERRIDE,
    caps::Capability::CAP_DAC_READ_SEARCH,
    caps::Capability::CAP_IPC_LOCK,
];

/// Leaves of what this thread may do, and those that it starts, what ringway needs. To be called where it keeps its
/// user.
pub(super) fn keep_needed() {
    let Ok(now) = caps::read(None, caps::CapSet::Permitted) else { return };
    let kept: HashSet<_> = NEEDED.into_iter().filter(|one| now.contains(one)).collect();
    // Where it is refused, nothing is lost.
    let _ = caps::set(None, caps::CapSet::Effective, &kept);
    let _ = caps::set(None, caps::CapSet::Permitted, &kept);
}

/// The user and group to become.
#[derive(Debug)]
pub(super) struct Identity {
    /// `process.user`; `None` to stay the user that started it.
    user: Option<User>,
    /// `process.group`, or else the main group of the user.
    group: Option<Gid>,
    /// Supplementary groups, looked up before the files that name them are out of reach.
    groups: Vec<Gid>,
    /// Threads keep [`keep_one`] of what root may do.
    keeps_one: bool,
}

impl Identity {
    /// Looks the names up. `None` is to stay the user that started it.
    pub(super) fn of(config: &Config) -> anyhow::Result<Option<Identity>> {
        let process = &config.process;
        let user = process.user.as_deref().map(find_user).transpose()?;
        let group = process.group.as_deref().map(find_group).transpose()?;
        if user.is_none() && group.is_none() {
            return Ok(None);
        }
        let own = Uid::effective();
        let is_own = user.as_ref().is_none_or(|user| user.uid == own);
        if !own.is_root() && (!is_own || group.is_some()) {
            anyhow::bail!(
                "process.user and process.group need a start as root, and this is {}; leave them out, or let systemd \
                 set User= and AmbientCapabilities=CAP_NET_BIND_SERVICE",
                User::from_uid(own).ok().flatten().map_or_else(|| format!("uid {own}"), |user| user.name)
            );
        }
        if !own.is_root() {
            return Ok(None);
        }
        let first = group.or(user.as_ref().map(|user| user.gid));
        let groups = match (&user, first) {
            (Some(user), Some(first)) => getgrouplist(&CString::new(user.name.as_str())?, first)
                .with_context(|| format!("cannot look up the groups of process.user `{}`", user.name))?,
            (_, first) => first.into_iter().collect(),
        };
        let keeps_one = config.pools.iter().any(|pool| pool.dial.source == LocalAddress::Client);
        Ok(Some(Identity { user, group, groups, keeps_one }))
    }

    /// To be called before the threads start that have a capability to keep: what they may is left to them when the
    /// user changes.
    pub(super) fn prepare(&self) -> anyhow::Result<()> {
        match self.keeps_one && self.user.is_some() {
            true => prctl::set_keepcaps(true).context("cannot keep CAP_NET_RAW, which source = \"client\" takes"),
            false => Ok(()),
        }
    }

    /// Whether it is root, or stays it.
    pub(super) fn is_root(identity: Option<&Identity>) -> bool {
        let user = identity.and_then(|identity| identity.user.as_ref()).map(|user| user.uid);
        user.unwrap_or(Uid::effective()).is_root()
    }

    /// Becomes it, with all threads there are, and gives it these files. There is no way back. If it returns true,
    /// every thread has [`keep_one`] to call.
    pub(super) fn assume(self, files: &[PathBuf]) -> anyhow::Result<bool> {
        let mut is_another = false;
        let group = self.group.or(self.user.as_ref().map(|user| user.gid));
        for file in files {
            let owner = self.user.as_ref().map(|user| user.uid);
            give(file, owner, group).with_context(|| format!("cannot give {} to process.user", file.display()))?;
        }
        if let Some(group) = group {
            setgroups(&self.groups).and_then(|()| setgid(group)).context("cannot change to process.group")?;
        }
        if let Some(user) = self.user {
            is_another = true;
            setuid(user.uid).with_context(|| format!("cannot become process.user `{}`", user.name))?;
            tracing::info!(user = user.name, "privileges dropped");
        }
        // Another user makes it what it was not.
        let _ = prctl::set_dumpable(false);
        Ok(is_another && self.keeps_one)
    }
}

/// Gives a file of ours another owner. Never what a link leads to, of either kind: the user that ringway was before
/// could have put one there, to a file of root's.
fn give(path: &Path, owner: Option<Uid>, group: Option<Gid>) -> anyhow::Result<()> {
    let file = open(path, OFlag::O_PATH | OFlag::O_NOFOLLOW | OFlag::O_CLOEXEC, Mode::empty())?;
    let found = fstat(&file)?;
    let kind = SFlag::from_bits_truncate(found.st_mode & SFlag::S_IFMT.bits());
    anyhow::ensure!(kind == SFlag::S_IFREG || kind == SFlag::S_IFSOCK, "it is neither a file nor a socket");
    anyhow::ensure!(found.st_nlink == 1, "it has another name elsewhere (a hard link): remove it, and start again");
    Ok(fchownat(&file, "", owner, group, AtFlags::AT_EMPTY_PATH)?)
}

/// Leaves the calling thread one capability: to connect from an address that is not this host's.
pub(super) fn keep_one() -> Result<(), caps::errors::CapsError> {
    let one = HashSet::from([caps::Capability::CAP_NET_RAW]);
    caps::set(None, caps::CapSet::Effective, &one)?;
    caps::set(None, caps::CapSet::Permitted, &one)
}

/// The user of that name.
///
/// # Errors
/// There is none, or the system cannot be asked.
pub(super) fn find_user(name: &str) -> anyhow::Result<User> {
    let found = User::from_name(name).with_context(|| format!("cannot look up process.user `{name}`"))?;
    found.with_context(|| format!("process.user: there is no user `{name}`; add it, or name another one"))
}

/// The group of that name.
///
/// # Errors
/// There is none, or the system cannot be asked.
pub(super) fn find_group(name: &str) -> anyhow::Result<Gid> {
    let found = Group::from_name(name).with_context(|| format!("cannot look up process.group `{name}`"))?;
    let group = found.with_context(|| format!("process.group: there is no group `{name}`; add it, or name another"))?;
    Ok(group.gid)
}
