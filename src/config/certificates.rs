//! The files of `[listeners.NAME.tls]` and `[pools.NAME.tls]`: they are read apart from the configuration, because they
//! change more often.

use std::cell::OnceCell;
use std::io;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use super::model::{ClientAuth, Config, ListenerTls, PoolTls, Starttls, TlsVersion, Trust};
use super::{CertificateFault, CertificateOwner, Outside};
use crate::base::time::ns;
use crate::tls::client::{Authorities, ClientSettings};
use crate::tls::server::{PemFile, ServerSettings};
use crate::tls::{ClientTls, ServerTls};
use crate::wire::postgresql;

/// Reads the certificates of every listener and pool. Tickets of `before`, the configuration in use, stay good.
///
/// # Errors
/// Everything that is wrong, one line each with its listener or pool, the file, and what to do. Then each listener has
/// what can be used of its files, with pairs of `before` in the place of those that are broken; a pool with a file that
/// is broken has what it had.
pub fn load_certificates(
    config: &mut Config,
    before: Option<&Config>,
    outside: &dyn Outside,
) -> Result<(), Vec<CertificateFault>> {
    let (mut loaded, mut faults) = (Vec::new(), Vec::new());
    for listener in &config.listeners {
        let server = listener.tls.as_ref().map(|tls| {
            let known = before.and_then(|before| before.listeners.iter().find(|one| one.name == listener.name));
            let known = known.and_then(|known| known.tls.as_ref()?.loaded.get());
            read(tls, known, outside)
        });
        match server.transpose() {
            Ok(server) => loaded.push(server),
            Err(Broken { faults: all, rest }) => {
                loaded.push(rest);
                let owner = CertificateOwner::Listener(listener.name.clone());
                faults.extend(all.into_iter().map(|text| CertificateFault { owner: owner.clone(), text }));
            }
        }
    }
    for (listener, server) in config.listeners.iter_mut().zip(loaded) {
        if let (Some(tls), Some(server)) = (&mut listener.tls, server) {
            tls.loaded.set(server);
        }
    }
    let system = OnceCell::new();
    for pool in &mut config.pools {
        let Some(tls) = &mut pool.tls else { continue };
        match read_of_pool(tls, outside, &system) {
            Ok(client) => tls.loaded.set(Arc::new(client)),
            Err(all) => {
                let owner = CertificateOwner::Pool(pool.name.clone());
                faults.extend(all.into_iter().map(|text| CertificateFault { owner: owner.clone(), text }));
            }
        }
    }
    if faults.is_empty() { Ok(()) } else { Err(faults) }
}

/// The authorities of this host, or why there are none: read once for all pools that believe them.
type SystemAuthorities = OnceCell<Result<Arc<[Vec<u8>]>, String>>;

/// Reads the files of one pool.
///
/// # Errors
/// Everything that is wrong, one line each.
fn read_of_pool(tls: &PoolTls, outside: &dyn Outside, system: &SystemAuthorities) -> Result<ClientTls, Vec<String>> {
    let mut faults = Vec::new();
    let mut file = |path: &Path| pem(path, outside).map_err(|fault| faults.push(fault)).ok();
    let pair = tls.pair.as_ref().map(|pair| (file(&pair.cert), file(&pair.key)));
    let authorities = match &tls.trust {
        Trust::Unverified => Some(Authorities::Unverified),
        Trust::File(path) => file(path).map(Authorities::File),
        Trust::System => {
            let all = system.get_or_init(|| outside.authorities().map(Arc::from).map_err(|error| error.to_string()));
            let wrong = |error| format!("the certificate authorities of this host cannot be read: {error}");
            all.clone().map(Authorities::System).map_err(|error| faults.push(wrong(error))).ok()
        }
    };
    let pair = pair.map(|(cert, key)| cert.zip(key));
    let (Some(authorities), false) = (authorities, matches!(pair, Some(None))) else { return Err(faults) };
    ClientTls::new(&ClientSettings {
        authorities,
        pair: pair.flatten(),
        is_tls13_only: tls.min_version == TlsVersion::V1_3,
        protocols: protocols(&tls.alpn, tls.starttls),
        server_name: tls.server_name.clone(),
        is_postgresql: tls.starttls == Starttls::Postgresql,
    })
}

/// The protocols for ALPN, with the one that `starttls` implies.
fn protocols(alpn: &[String], starttls: Starttls) -> Vec<Vec<u8>> {
    let implied = (starttls == Starttls::Postgresql).then_some(postgresql::ALPN);
    let implied = implied.filter(|name| !alpn.iter().any(|one| one == name));
    alpn.iter().map(String::as_str).chain(implied).map(|name| name.as_bytes().to_vec()).collect()
}

/// Reads one file.
///
/// # Errors
/// Why it cannot be read, and what to do.
fn pem(path: &Path, outside: &dyn Outside) -> Result<PemFile, String> {
    match outside.file(path) {
        Ok(bytes) => Ok(PemFile { path: path.display().to_string(), bytes }),
        Err(error) => Err(format!("{}: it cannot be read: {}", path.display(), with_remedy(&error))),
    }
}

/// Files of a listener that cannot be used.
struct Broken {
    /// Everything that is wrong, one line each.
    faults: Vec<String>,
    /// TLS without them, where that is as safe as before.
    rest: Option<Arc<ServerTls>>,
}

/// Reads the files of one listener.
///
/// # Errors
/// Everything that is wrong, one line each.
fn read(tls: &ListenerTls, before: Option<&ServerTls>, outside: &dyn Outside) -> Result<Arc<ServerTls>, Broken> {
    let mut faults = Vec::new();
    let mut file = |path: &Path| {
        pem(path, outside).unwrap_or_else(|fault| {
            faults.push(fault);
            PemFile { path: path.display().to_string(), bytes: Vec::new() }
        })
    };
    let mut pairs = Vec::new();
    for pair in &tls.certificates {
        pairs.push((file(&pair.cert), file(&pair.key)));
    }
    let folder = tls.certificate_dir.as_ref().map(|folder| (folder, outside.folder(folder)));
    match &folder {
        Some((_, Ok(names))) => {
            for (cert, key) in pairs_in(names) {
                pairs.push((file(&cert), file(&key)));
            }
        }
        Some((folder, Err(error))) => {
            faults.push(format!("{}: it cannot be read: {}", folder.display(), with_remedy(error)));
            return Err(Broken { faults, rest: None });
        }
        None => {}
    }
    // A file that cannot be read is as an empty one, by which no client can be verified.
    let client_ca = tls.client_ca.as_ref().map(|path| file(path));
    let client_crl = tls.client_crl.as_ref().map(|path| file(path));
    if faults.is_empty()
        && pairs.is_empty()
        && let Some((folder, _)) = &folder
    {
        faults.push(format!("{}: it holds no NAME.crt with NAME.key, and no NAME.pem", folder.display()));
    }
    let settings = ServerSettings {
        pairs,
        refuses_unknown_names: tls.refuses_unknown_names,
        is_tls13_only: tls.min_version == TlsVersion::V1_3,
        protocols: protocols(&tls.alpn, tls.starttls),
        client_ca,
        client_crl,
        is_certificate_required: tls.client_auth == ClientAuth::Required,
        has_tickets: tls.has_tickets,
        handshake_timeout_ns: ns(tls.handshake_timeout),
        is_postgresql: tls.starttls == Starttls::Postgresql,
        allows_plaintext: tls.allows_plaintext,
    };
    let whole = if faults.is_empty() { ServerTls::new(&settings, before) } else { Err(faults) };
    whole.map(Arc::new).map_err(|faults| {
        let rest = before.and_then(|before| ServerTls::of_usable(&settings, before));
        Broken { faults, rest: rest.map(Arc::new) }
    })
}

/// The pairs among the files of a folder, by name.
fn pairs_in(files: &[PathBuf]) -> Vec<(PathBuf, PathBuf)> {
    let mut pairs: Vec<(PathBuf, PathBuf)> = files
        .iter()
        .filter_map(|file| match file.extension()?.to_str()? {
            "crt" => {
                let key = file.with_extension("key");
                files.contains(&key).then_some((file.clone(), key))
            }
            "pem" => Some((file.clone(), file.clone())),
            _ => None,
        })
        .collect();
    pairs.sort();
    pairs
}

/// An error of reading, with what to do where that is known.
fn with_remedy(error: &io::Error) -> String {
    match error.kind() {
        io::ErrorKind::PermissionDenied => {
            format!("{error}; the user that serves must be able to read it, and `ringway doctor` says who that is")
        }
        _ => error.to_string(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_folder_gives_its_pairs_by_name_and_nothing_else() {
        let files = ["/d/b.crt", "/d/b.key", "/d/a.pem", "/d/c.crt", "/d/d.key", "/d/README"].map(PathBuf::from);
        let pairs = pairs_in(&files);
        let expected = [("/d/a.pem", "/d/a.pem"), ("/d/b.crt", "/d/b.key")];
        assert_eq!(pairs, expected.map(|(cert, key)| (cert.into(), key.into())));
    }
}
