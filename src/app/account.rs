//! Which user ringway is once it serves, and which files that user may use. For `ringway check` and `ringway doctor`,
//! which look at a configuration before that user is there.

use std::ffi::CString;
use std::fs::{self, File, Metadata};
use std::io;
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};

use nix::unistd::{Gid, Uid, User, getgrouplist, getgroups};

use super::privileges::{find_group, find_user};
use crate::config::model::Process;

/// What a file is used for. The values are the permission bits of "others".
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub enum Use {
    /// Its content is read.
    Read = 0o4,
    /// Files are made in it, or lines are added to it.
    Write = 0o2,
    /// Something below it is used.
    Enter = 0o1,
}

/// A user with its groups.
#[derive(Clone, Debug)]
pub struct Account {
    /// As it is shown in messages: its name, or `uid 1000` where the system has no name for it.
    name: String,
    /// By which the kernel decides; 0 is root, for which no permission is checked here.
    uid: u32,
    /// Its main group first, which a remedy names (`chgrp`), then its supplementary ones.
    groups: Vec<u32>,
    /// It is the user that runs this program, so the kernel can be asked whether it can read a file.
    is_own: bool,
}

impl Account {
    /// The user as which ringway serves by this configuration: `process.user` and `process.group`, else its own.
    ///
    /// # Errors
    /// There is no such user or group; what to do.
    pub fn of(process: &Process) -> anyhow::Result<Account> {
        let user = process.user.as_deref().map(find_user).transpose()?;
        let group = process.group.as_deref().map(find_group).transpose()?;
        let mut account = Account::own();
        if let Some(user) = user {
            let (uid, first) = (user.uid.as_raw(), group.unwrap_or(user.gid));
            let groups = CString::new(user.name.as_str()).ok().and_then(|name| getgrouplist(&name, first).ok());
            let groups = groups.unwrap_or_else(|| vec![first]).into_iter().map(Gid::as_raw).collect();
            account = Account { name: user.name, uid, groups, is_own: uid == account.uid && group.is_none() };
        } else if let Some(group) = group {
            account = Account { groups: vec![group.as_raw()], is_own: false, ..account };
        }
        Ok(account)
    }

    /// The user that runs this program, by its effective ids.
    pub fn own() -> Account {
        let uid = Uid::effective();
        let groups: Vec<u32> =
            getgroups().unwrap_or_default().into_iter().chain([Gid::effective()]).map(Gid::as_raw).collect();
        let user = User::from_uid(uid).ok().flatten();
        // A container has users without a name.
        let name = user.map_or_else(|| format!("uid {uid}"), |user| user.name);
        Account { name, uid: uid.as_raw(), groups, is_own: true }
    }

    /// As people call it.
    pub fn name(&self) -> &str {
        &self.name
    }

    /// Whether permissions mean nothing to it.
    pub fn is_root(&self) -> bool {
        self.uid == 0
    }

    /// Whether it may read a file.
    ///
    /// # Errors
    /// Why not, and what to do.
    pub fn may_read(&self, file: &Path) -> Result<(), String> {
        if self.is_own {
            return match File::open(file).and_then(|file| file.metadata()) {
                Ok(found) if found.is_dir() => Err("it is a directory".to_string()),
                Ok(_) => Ok(()),
                Err(error) if error.kind() == io::ErrorKind::PermissionDenied => {
                    // The kernel has other reasons, too, which permissions do not show.
                    let why = self.reach(file, Use::Read).err();
                    Err(why.unwrap_or_else(|| {
                        format!(
                            "user {} cannot read it, although its permissions allow that: SELinux, AppArmor or a \
                             sandbox forbids it (`journalctl -k`)",
                            self.name
                        )
                    }))
                }
                Err(error) => Err(said(&error)),
            };
        }
        self.reach(file, Use::Read)
    }

    /// Whether it may use something for this, by the permissions of it and of each folder above it.
    ///
    /// # Errors
    /// Why not, and what to do.
    pub fn reach(&self, path: &Path, what: Use) -> Result<(), String> {
        let path = path.canonicalize().map_err(|error| said(&error))?;
        let mut above: Vec<PathBuf> = path.ancestors().skip(1).map(Path::to_path_buf).collect();
        above.reverse();
        for folder in above {
            let found = fs::metadata(&folder).map_err(|error| said(&error))?;
            if !self.has(&found, Use::Enter) {
                let (folder, name) = (folder.display(), &self.name);
                return Err(format!("user {name} cannot enter {folder} ({}); `chmod o+x {folder}`", owned(&found)));
            }
        }
        let found = fs::metadata(&path).map_err(|error| said(&error))?;
        if self.has(&found, what) && (what != Use::Write || !found.is_dir() || self.has(&found, Use::Enter)) {
            return Ok(());
        }
        let (path, name) = (path.display(), &self.name);
        let (verb, remedy) = match what {
            Use::Read => ("read", format!("`chgrp {} {path} && chmod g+r {path}`", self.group())),
            Use::Write => ("write to", format!("`chown {name} {path}`")),
            Use::Enter => ("enter", format!("`chmod o+x {path}`")),
        };
        Err(format!("user {name} cannot {verb} it ({}); {remedy}", owned(&found)))
    }

    /// Whether the permission bits allow it, as the kernel decides: those of the owner, or of the group, or of others,
    /// and never a later set because an earlier one refuses (path_resolution(7)).
    fn has(&self, found: &Metadata, what: Use) -> bool {
        let bits = what as u32;
        if self.is_root() {
            return true;
        }
        let shift = match found {
            _ if found.uid() == self.uid => 6,
            _ if self.groups.contains(&found.gid()) => 3,
            _ => 0,
        };
        found.mode() >> shift & bits == bits
    }

    /// The name of its main group for a `chgrp`, or its number if it has no name.
    fn group(&self) -> String {
        let first = self.groups.first().map(|gid| Gid::from_raw(*gid));
        let named = first.and_then(|gid| nix::unistd::Group::from_gid(gid).ok().flatten());
        named.map_or_else(|| first.map_or_else(|| self.name.clone(), |gid| gid.to_string()), |group| group.name)
    }
}

/// Whose it is, and what its permissions are: `owner root, mode 0600`.
fn owned(found: &Metadata) -> String {
    let owner = User::from_uid(Uid::from_raw(found.uid())).ok().flatten();
    let owner = owner.map_or_else(|| format!("uid {}", found.uid()), |user| user.name);
    format!("owner {owner}, mode {:04o}", found.mode() & 0o7777)
}

/// An error as a part of a sentence whose subject is the file.
fn said(error: &io::Error) -> String {
    match error.kind() {
        io::ErrorKind::NotFound => "it does not exist".to_string(),
        io::ErrorKind::PermissionDenied => "this user cannot look at it; run this again as root".to_string(),
        _ => error.to_string(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::os::unix::fs::PermissionsExt;

    fn somebody(uid: u32, groups: &[u32]) -> Account {
        Account { name: "somebody".to_string(), uid, groups: groups.to_vec(), is_own: false }
    }

    #[test]
    fn permissions_count_as_the_kernel_counts_them() {
        let folder = tempfile::tempdir().unwrap();
        let file = folder.path().join("secret");
        fs::write(&file, "x").unwrap();
        let set = |path: &Path, mode: u32| fs::set_permissions(path, fs::Permissions::from_mode(mode)).unwrap();
        let found = fs::metadata(&file).unwrap();
        let (owner, group) = (found.uid(), found.gid());
        set(folder.path(), 0o755);
        let may = |account: &Account| account.reach(&file, Use::Read).is_ok();
        let other = somebody(54_321, &[54_321]);
        for (mode, of_owner, of_group, of_others) in [
            (0o400, true, false, false),
            (0o040, false, true, false),
            (0o004, false, false, true),
            (0o444, true, true, true),
        ] {
            set(&file, mode);
            let is_root = owner == 0;
            assert_eq!(may(&somebody(owner, &[group])), of_owner || is_root, "{mode:o}");
            assert_eq!(may(&somebody(54_321, &[group])), of_group, "{mode:o}");
            assert_eq!(may(&other), of_others, "{mode:o}");
        }
        set(folder.path(), 0o700);
        let why = other.reach(&file, Use::Read).unwrap_err();
        assert!(why.contains("cannot enter") && why.contains("chmod o+x"), "{why}");
        set(folder.path(), 0o755);
        assert!(other.reach(folder.path(), Use::Write).is_err_and(|why| why.contains("chown somebody")));
        assert_eq!(other.reach(&folder.path().join("gone"), Use::Read), Err("it does not exist".to_string()));
    }
}
