//! What a listener or a pool with TLS reads: whether the user that serves can, and whether a key is a secret.

use std::fs;
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};
use std::time::SystemTime;

use super::findings::DoctorFinding;
use crate::app::account::{Account, Use};
use crate::base::time::unix_s;
use crate::config::model::{Config, ListenerTls};
use crate::tls::facts::facts_of_pem;

/// The findings about the files of every listener and pool with TLS: one for each file that `[listeners.NAME.tls]` or
/// `[pools.NAME.tls]` names, or that stands in a folder of certificates.
pub(super) fn all(config: &Config, account: &Account, findings: &mut Vec<DoctorFinding>) {
    for listener in &config.listeners {
        let Some(tls) = &listener.tls else { continue };
        let whose = format!("listener {}", listener.name);
        for (key, path) in tls.paths() {
            if key == "certificate_dir" {
                findings.extend(of_folder(path, &whose, account));
            } else {
                findings.push(of_file(key, path, holds_key(tls, key, path), &whose, account));
                findings.extend(Some(path).filter(|_| key == "cert").and_then(|path| of_time(path, &whose)));
            }
        }
    }
    of_pools(config, account, findings);
}

/// The same of every pool with TLS.
fn of_pools(config: &Config, account: &Account, findings: &mut Vec<DoctorFinding>) {
    for pool in &config.pools {
        let Some(tls) = &pool.tls else { continue };
        let whose = format!("pool {}", pool.name);
        let is_key = |path: &Path| tls.pair.as_ref().is_some_and(|pair| pair.key == path);
        findings.extend(tls.paths().map(|(key, path)| of_file(key, path, is_key(path), &whose, account)));
    }
}

/// Whether the file that stands at `key` holds a private key. That of `cert` can hold it, too.
fn holds_key(tls: &ListenerTls, key: &str, path: &Path) -> bool {
    key == "key" || (key == "cert" && tls.certificates.iter().any(|pair| pair.key == path))
}

/// The findings about a folder of certificates: itself, and each file in it that ringway would read.
fn of_folder(folder: &Path, whose: &str, account: &Account) -> Vec<DoctorFinding> {
    let shown = format!("{} of {whose}", folder.display());
    if folder.exists() && !folder.is_dir() {
        let detail = format!("{shown}: `certificate_dir` is no folder");
        return vec![DoctorFinding::bad("certificate", detail, "name the folder in which the certificates are")];
    }
    if let Err(why) = account.reach(folder, Use::Read).and_then(|()| account.reach(folder, Use::Enter)) {
        return vec![DoctorFinding::told_bad("certificate", format!("{shown}: {why}"))];
    }
    let files = match fs::read_dir(folder) {
        Ok(entries) => entries.flatten().map(|entry| entry.path()),
        Err(error) => return vec![DoctorFinding::told("certificate", format!("{shown}: {error}"))],
    };
    let has_ending = |path: &PathBuf, all: &[&str]| all.iter().any(|one| path.extension() == Some(one.as_ref()));
    let mut files: Vec<PathBuf> = files.filter(|path| has_ending(path, &["crt", "key", "pem"])).collect();
    files.sort_unstable();
    if files.is_empty() {
        let remedy = "put NAME.crt with NAME.key into it, or NAME.pem with both";
        return vec![DoctorFinding::note("certificate", format!("{shown} holds no certificate"), remedy)];
    }
    let of_each = |file: &PathBuf| of_file("certificate_dir", file, has_ending(file, &["key", "pem"]), whose, account);
    let in_time = files.iter().filter(|file| has_ending(file, &["crt", "pem"]));
    files.iter().map(of_each).chain(in_time.filter_map(|file| of_time(file, whose))).collect()
}

/// The finding about a certificate that has little time left; `None` if there is nothing to say.
fn of_time(file: &Path, whose: &str) -> Option<DoctorFinding> {
    let facts = facts_of_pem(&fs::read(file).ok()?)?;
    let warning = facts.standing(unix_s(SystemTime::now())).warning()?;
    let detail = format!("{} of {whose}: {warning}", file.display());
    Some(DoctorFinding::note("certificate", detail, "renew it; a running ringway takes the new one up by itself"))
}

/// The finding about one file, which stands at `key`.
fn of_file(key: &str, file: &Path, holds_key: bool, whose: &str, account: &Account) -> DoctorFinding {
    let detail = format!("{} of {whose}", file.display());
    let is_open = fs::metadata(file).is_ok_and(|found| found.mode() & 0o004 != 0);
    match account.may_read(file) {
        Err(why) => DoctorFinding::told_bad("certificate", format!("{detail} (`{key}`): {why}")),
        Ok(()) if holds_key && is_open => {
            let detail = format!("{detail} (`{key}`) holds a key, and every user of this host can read it");
            DoctorFinding::note("certificate", detail, format!("`chmod o-r {}`", file.display()))
        }
        Ok(()) => DoctorFinding::good("certificate", format!("{detail} (`{key}`) can be read by {}", account.name())),
    }
}

#[cfg(test)]
mod tests {
    use std::os::unix::fs::PermissionsExt;

    use super::*;

    /// The findings for a listener with these lines in its TLS, without what is the same in all of them.
    fn found(folder: &Path, tls: &str) -> Vec<String> {
        let text = format!(
            "[listeners.l]\nbind = \"127.0.0.1:0\"\npool = \"p\"\n[listeners.l.tls]\n{}\n[pools.p]\n\
             backends = [{{ address = \"10.0.0.1:1\" }}]\n",
            tls.replace("/AT", &folder.display().to_string())
        );
        let config = crate::config::load(&text, "t", &|_: &str| None).unwrap();
        let mut findings = Vec::new();
        all(&config, &Account::own(), &mut findings);
        let shown = |one: DoctorFinding| {
            let detail = one.detail.replace(&format!("{}/", folder.display()), "").replace(" of listener l", "");
            format!("{:?} {}", one.grade, detail)
        };
        findings.into_iter().map(shown).collect()
    }

    fn put(folder: &Path, name: &str, mode: u32) {
        fs::write(folder.join(name), "x").unwrap();
        fs::set_permissions(folder.join(name), fs::Permissions::from_mode(mode)).unwrap();
    }

    #[test]
    fn each_file_of_tls_is_looked_at_and_a_key_must_be_a_secret() {
        let folder = tempfile::tempdir().unwrap();
        for (name, mode) in [("a.crt", 0o644), ("a.key", 0o600), ("open.key", 0o644), ("both.pem", 0o644)] {
            put(folder.path(), name, mode);
        }
        let lines = found(
            folder.path(),
            "certificates = [{ cert = \"/AT/a.crt\", key = \"/AT/a.key\" }, \
             { cert = \"/AT/none.crt\", key = \"/AT/open.key\" }, \
             { cert = \"/AT/both.pem\", key = \"/AT/both.pem\" }]\n\
             client_auth = \"required\"\nclient_ca = \"/AT/a.crt\"\nclient_crl = \"/AT\"",
        );
        let of = Account::own();
        let expected = [
            format!("Good a.crt (`cert`) can be read by {}", of.name()),
            format!("Good a.key (`key`) can be read by {}", of.name()),
            "Bad none.crt (`cert`): ".to_string(),
            "Note open.key (`key`) holds a key, and every user of this host can read it".to_string(),
            "Note both.pem (`cert`) holds a key".to_string(),
            "Note both.pem (`key`) holds a key".to_string(),
            format!("Good a.crt (`client_ca`) can be read by {}", of.name()),
            format!("Bad {} (`client_crl`): it is a directory", folder.path().display()),
        ];
        assert_eq!(lines.len(), expected.len(), "{lines:#?}");
        for (line, expected) in lines.iter().zip(expected) {
            assert!(line.starts_with(&expected), "{line} is not {expected}");
        }
    }

    #[test]
    fn a_certificate_that_is_about_to_expire_is_told_of() {
        let folder = tempfile::tempdir().unwrap();
        let now_s = unix_s(SystemTime::now());
        for (name, hours) in [("fine.pem", 24 * 30), ("soon.pem", 24 * 13 + 1), ("late.pem", -25)] {
            let mut params = rcgen::CertificateParams::new(vec!["db.example".to_string()]).unwrap();
            let end = std::time::Duration::from_secs(now_s.saturating_add_signed(hours * 3600));
            params.not_after = rcgen::date_time_ymd(1970, 1, 1) + end;
            let made = params.self_signed(&rcgen::KeyPair::generate().unwrap()).unwrap();
            fs::write(folder.path().join(name), made.pem()).unwrap();
            fs::set_permissions(folder.path().join(name), fs::Permissions::from_mode(0o600)).unwrap();
        }
        for tls in [
            "certificate_dir = \"/AT\"",
            "certificates = [{ cert = \"/AT/late.pem\", key = \"/AT/late.pem\" }, \
             { cert = \"/AT/soon.pem\", key = \"/AT/soon.pem\" }]",
        ] {
            let notes: Vec<String> =
                found(folder.path(), tls).into_iter().filter(|line| line.starts_with("Note")).collect();
            assert_eq!(notes, ["Note late.pem: it expired 1 day ago", "Note soon.pem: it expires in 13 days"], "{tls}");
        }
    }

    #[test]
    fn a_folder_of_certificates_is_looked_at_file_by_file() {
        let folder = tempfile::tempdir().unwrap();
        let of_folder = "certificate_dir = \"/AT\"";
        let empty = found(folder.path(), of_folder);
        assert!(empty.len() == 1 && empty[0].ends_with("holds no certificate"), "{empty:?}");
        for (name, mode) in [("a.crt", 0o644), ("a.key", 0o644), ("b.pem", 0o600), ("README", 0o644)] {
            put(folder.path(), name, mode);
        }
        let lines = found(folder.path(), of_folder);
        assert_eq!(
            lines.iter().map(|line| &line[..10]).collect::<Vec<_>>(),
            ["Good a.crt", "Note a.key", "Good b.pem"]
        );
        let file = found(folder.path(), "certificate_dir = \"/AT/a.crt\"");
        assert!(file.len() == 1 && file[0].ends_with("`certificate_dir` is no folder"), "{file:?}");
        let none = found(folder.path(), "certificate_dir = \"/AT/none\"");
        assert!(none.len() == 1 && none[0].starts_with("Bad none: "), "{none:?}");
    }
}
