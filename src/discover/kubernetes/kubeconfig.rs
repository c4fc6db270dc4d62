//! What a kubeconfig says, as far as ringway follows it: server, authorities, certificate or token, namespace.
//!
//! What would run a program (`exec`, `auth-provider`), or would make the account another one (`as`), is refused in
//! words: to ignore it would ask as an account that the user did not mean. Data in the file wins over a file that is
//! named beside it, and `tokenFile` over `token`, as with kubectl.

use std::path::{Path, PathBuf};
use std::sync::Arc;

use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use serde::Deserialize;
use serde::de::IgnoredAny;

use crate::discover::gather::shown;
use crate::discover::http::{HttpTls, Pem, TrustedBy};
use crate::discover::settings::Endpoint;
use crate::tls::server::PemFile;

/// What a kubeconfig names with its current context.
#[derive(Clone, Debug)]
pub(super) struct KubeNamed {
    /// The API server.
    pub endpoint: Endpoint,
    /// What stands before each path, without a final slash.
    pub base_path: String,
    /// How its TLS is spoken.
    pub tls: HttpTls,
    /// What proves the account.
    pub token: ApiToken,
    /// That of the context, or `default`.
    pub namespace: String,
}

impl KubeNamed {
    /// The files that it names.
    pub(super) fn files(&self) -> Vec<PathBuf> {
        let pem = |pem: &Pem| match pem {
            Pem::File(path) => Some(path.clone()),
            Pem::Text(_) => None,
        };
        let ca = if let TrustedBy::These(ca) = &self.tls.trusted_by { pem(ca) } else { None };
        let (cert, key) = self.tls.identity.as_ref().map_or((None, None), |(cert, key)| (pem(cert), pem(key)));
        let token = if let ApiToken::File(path) = &self.token { Some(path.clone()) } else { None };
        [ca, cert, key, token].into_iter().flatten().collect()
    }
}

/// What proves an account.
#[derive(Clone, Eq, PartialEq)]
pub(super) enum ApiToken {
    /// A certificate, or nothing.
    None,
    /// This text.
    Text(String),
    /// What is in this file.
    File(PathBuf),
}

impl std::fmt::Debug for ApiToken {
    /// Without the token.
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self {
            ApiToken::None => f.write_str("None"),
            ApiToken::Text(_) => f.write_str("Text"),
            ApiToken::File(path) => write!(f, "File({})", path.display()),
        }
    }
}

/// The file. Unknown keys do not count.
#[derive(Deserialize)]
#[serde(rename_all = "kebab-case")]
struct Kubeconfig {
    /// Which context counts.
    #[serde(default)]
    current_context: String,
    /// Servers with an account.
    contexts: Option<Vec<ContextEntry>>,
    /// Servers.
    clusters: Option<Vec<ClusterEntry>>,
    /// Accounts.
    users: Option<Vec<UserEntry>>,
}

/// A context with its name.
#[derive(Deserialize)]
struct ContextEntry {
    name: String,
    context: Option<Context>,
}

/// A server and an account, by name.
#[derive(Deserialize)]
struct Context {
    #[serde(default)]
    cluster: String,
    #[serde(default)]
    user: String,
    #[serde(default)]
    namespace: String,
}

/// A server with its name.
#[derive(Deserialize)]
struct ClusterEntry {
    name: String,
    cluster: Option<ClusterKeys>,
}

/// How a server is spoken to.
#[derive(Deserialize)]
#[serde(rename_all = "kebab-case")]
struct ClusterKeys {
    #[serde(default)]
    server: String,
    certificate_authority: Option<String>,
    certificate_authority_data: Option<String>,
    tls_server_name: Option<String>,
    #[serde(default)]
    insecure_skip_tls_verify: bool,
    proxy_url: Option<String>,
}

/// An account with its name.
#[derive(Deserialize)]
struct UserEntry {
    name: String,
    user: Option<UserKeys>,
}

/// What proves an account.
#[derive(Default, Deserialize)]
#[serde(rename_all = "kebab-case")]
struct UserKeys {
    client_certificate: Option<String>,
    client_certificate_data: Option<String>,
    client_key: Option<String>,
    client_key_data: Option<String>,
    token: Option<String>,
    #[serde(rename = "tokenFile")]
    token_file: Option<String>,
    username: Option<String>,
    exec: Option<IgnoredAny>,
    auth_provider: Option<IgnoredAny>,
    #[serde(rename = "as")]
    impersonates: Option<String>,
}

/// Reads a kubeconfig whose relative paths begin in `folder`.
///
/// # Errors
/// In one line, what is missing, or what ringway does not do.
pub(super) fn read(text: &[u8], folder: &Path) -> Result<KubeNamed, String> {
    let text = std::str::from_utf8(text).map_err(|_| "it is no text")?;
    let file: Kubeconfig = serde_saphyr::from_str(text).map_err(|error| {
        let text = error.to_string();
        format!("it is no kubeconfig: {}", text.lines().next().unwrap_or_default())
    })?;
    let name = &file.current_context;
    if name.is_empty() {
        return Err("it has no `current-context`".to_string());
    }
    let context = file.contexts.into_iter().flatten().find(|entry| entry.name == *name);
    let context = context.and_then(|entry| entry.context);
    let context = context.ok_or_else(|| format!("it has no context {}", shown(name)))?;
    let cluster = file.clusters.into_iter().flatten().find(|entry| entry.name == context.cluster);
    let cluster = cluster.and_then(|entry| entry.cluster);
    let cluster = cluster.ok_or_else(|| format!("it has no cluster {}", shown(&context.cluster)))?;
    let user = match &*context.user {
        "" => UserKeys::default(),
        name => {
            let user = file.users.into_iter().flatten().find(|entry| entry.name == name);
            user.and_then(|entry| entry.user).ok_or_else(|| format!("it has no user {}", shown(name)))?
        }
    };
    refuse_foreign(&context.user, &user, &cluster)?;
    let (endpoint, base_path) = server(&cluster.server)?;
    let namespace = if context.namespace.is_empty() { "default".to_string() } else { context.namespace };
    let token = match (&user.token_file, &user.token) {
        (Some(path), _) if !path.is_empty() => ApiToken::File(folder.join(path)),
        (_, Some(token)) if !token.is_empty() => ApiToken::Text(token.clone()),
        _ => ApiToken::None,
    };
    Ok(KubeNamed { endpoint, base_path, tls: tls(&cluster, &user, folder)?, token, namespace })
}

/// Refuses what ringway does not do.
fn refuse_foreign(name: &str, user: &UserKeys, cluster: &ClusterKeys) -> Result<(), String> {
    let name = shown(name);
    let other = "give it a token, a tokenFile or a client certificate";
    match () {
        () if user.exec.is_some() => {
            Err(format!("user {name} needs a program (`exec`), which ringway does not run; {other}"))
        }
        () if user.auth_provider.is_some() => Err(format!("user {name} needs an `auth-provider`; {other}")),
        () if user.username.is_some() => {
            Err(format!("user {name} has a `username`, which Kubernetes does not take; {other}"))
        }
        () if user.impersonates.is_some() => {
            Err(format!("user {name} acts as another one (`as`), which ringway does not do; give that one's token"))
        }
        () if cluster.proxy_url.as_ref().is_some_and(|url| !url.is_empty()) => {
            Err("its cluster is behind a proxy (`proxy-url`), which ringway does not use".to_string())
        }
        () => Ok(()),
    }
}

/// The endpoint of a server, and the path that it has.
fn server(text: &str) -> Result<(Endpoint, String), String> {
    let (scheme, rest) = text.split_once("://").unwrap_or(("", text));
    let (authority, path) = rest.split_at(rest.find('/').unwrap_or(rest.len()));
    let endpoint = format!("{scheme}://{authority}").parse();
    let endpoint = endpoint.map_err(|hint| format!("its `server` is {}; {hint}", shown(text)))?;
    let is_path = path.bytes().all(|byte| byte.is_ascii_graphic() && !matches!(byte, b'?' | b'#'));
    match is_path {
        true => Ok((endpoint, path.trim_end_matches('/').to_string())),
        false => Err(format!("its `server` is {}, which has more than a path", shown(text))),
    }
}

/// How TLS is spoken.
fn tls(cluster: &ClusterKeys, user: &UserKeys, folder: &Path) -> Result<HttpTls, String> {
    let pem = |key: &'static str, data: &Option<String>, path: &Option<String>| match (data, path) {
        (Some(data), _) if !data.is_empty() => decoded(key, data).map(Some),
        (_, Some(path)) if !path.is_empty() => Ok(Some(Pem::File(folder.join(path)))),
        _ => Ok(None),
    };
    let ca = pem("certificate-authority-data", &cluster.certificate_authority_data, &cluster.certificate_authority)?;
    let trusted_by = match ca {
        _ if cluster.insecure_skip_tls_verify => TrustedBy::Unverified,
        Some(ca) => TrustedBy::These(ca),
        None => TrustedBy::System,
    };
    let cert = pem("client-certificate-data", &user.client_certificate_data, &user.client_certificate)?;
    let key = pem("client-key-data", &user.client_key_data, &user.client_key)?;
    let identity = match (cert, key) {
        (Some(cert), Some(key)) => Some((cert, key)),
        (None, None) => None,
        (Some(_), None) => return Err("it has a client certificate without `client-key`".to_string()),
        (None, Some(_)) => return Err("it has a client key without `client-certificate`".to_string()),
    };
    let server_name = cluster.tls_server_name.as_deref().filter(|name| !name.is_empty()).map(Arc::from);
    Ok(HttpTls { trusted_by, identity, server_name })
}

/// Data of the file, in the form of base64.
fn decoded(key: &'static str, data: &str) -> Result<Pem, String> {
    let text: String = data.split_ascii_whitespace().collect();
    let bytes = STANDARD.decode(text).map_err(|_| format!("its `{key}` is no base64"))?;
    Ok(Pem::Text(Arc::new(PemFile { path: format!("`{key}`"), bytes })))
}

#[cfg(test)]
mod tests;
