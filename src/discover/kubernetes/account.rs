//! Where the API server is and as which account it is spoken to: that of ringway's own pod, or what a kubeconfig names.
//!
//! All of it is read anew for each request: the token of a pod is replaced while it runs (a projected volume), and so
//! are the certificates of a kubeconfig.

use std::path::{Path, PathBuf};
use std::time::Duration;

use super::kubeconfig::{self, ApiToken};
use crate::discover::http::{HttpTls, Pem, TrustedBy, file, secret};
use crate::discover::settings::{ACCOUNT_FOLDER, Endpoint, KubernetesSource};

/// How long a file can take.
const FILE_TIMEOUT: Duration = Duration::from_secs(1);

/// What is needed to ask.
#[derive(Clone, Debug)]
pub(super) struct ApiAccount {
    /// The API server.
    pub endpoint: Endpoint,
    /// What stands before each path; empty, but for servers of several clusters.
    pub base_path: String,
    /// How its TLS is spoken.
    pub tls: HttpTls,
    /// What proves the account; `None` if a certificate does, or nothing.
    pub token: Option<String>,
    /// The namespace of the service.
    pub namespace: String,
}

/// Every file that a source reads, as far as that is known now: those of the account of ringway's own pod, or a
/// kubeconfig and what it names. Blocks.
pub fn files(settings: &KubernetesSource) -> Vec<PathBuf> {
    let Some(path) = &settings.kubeconfig else {
        return ["token", "ca.crt", "namespace"].map(|name| Path::new(ACCOUNT_FOLDER).join(name)).into();
    };
    let named = std::fs::read(path).ok().and_then(|text| kubeconfig::read(&text, folder_of(path)).ok());
    let named = named.map(|named| named.files()).unwrap_or_default();
    [path.clone()].into_iter().chain(named).collect()
}

/// Where the relative paths of a kubeconfig begin.
fn folder_of(path: &Path) -> &Path {
    path.parent().unwrap_or(Path::new(""))
}

impl ApiAccount {
    /// The one that a configuration means.
    ///
    /// # Errors
    /// In one line, what cannot be read or is missing.
    pub(super) async fn read(settings: &KubernetesSource) -> Result<ApiAccount, String> {
        match &settings.kubeconfig {
            Some(path) => of_kubeconfig(path, &settings.namespace).await,
            None => {
                let variable = |name: &str| std::env::var(name).ok();
                of_pod(variable, Path::new(ACCOUNT_FOLDER), &settings.namespace).await
            }
        }
    }
}

/// That of ringway's own pod, whose files are in a folder.
async fn of_pod(
    variable: impl Fn(&str) -> Option<String>,
    folder: &Path,
    namespace: &str,
) -> Result<ApiAccount, String> {
    let needs = |name: &str| {
        let why = "ringway runs in no pod of Kubernetes; write `kubeconfig`";
        variable(name).filter(|text| !text.is_empty()).ok_or_else(|| format!("{name} is not in the environment: {why}"))
    };
    let (host, port) = (needs("KUBERNETES_SERVICE_HOST")?, needs("KUBERNETES_SERVICE_PORT")?);
    let authority = if host.contains(':') { format!("[{host}]:{port}") } else { format!("{host}:{port}") };
    let endpoint: Endpoint = format!("https://{authority}").parse().map_err(|_| {
        format!("KUBERNETES_SERVICE_HOST and KUBERNETES_SERVICE_PORT are no address of a server: {authority}")
    })?;
    let missing = |why: String| format!("{why}; does the pod have automountServiceAccountToken: true?");
    let token = secret(&folder.join("token"), FILE_TIMEOUT).await.map_err(missing)?;
    let namespace = match namespace {
        "" => secret(&folder.join("namespace"), FILE_TIMEOUT).await.map_err(missing)?,
        given => given.to_string(),
    };
    let trusted_by = TrustedBy::These(Pem::File(folder.join("ca.crt")));
    let tls = HttpTls { trusted_by, ..HttpTls::default() };
    Ok(ApiAccount { endpoint, base_path: String::new(), tls, token: Some(token), namespace })
}

/// What a kubeconfig names.
async fn of_kubeconfig(path: &Path, namespace: &str) -> Result<ApiAccount, String> {
    let text = file(path, FILE_TIMEOUT).await?;
    let bad = |why: String| format!("{}: {why}", path.display());
    let found = kubeconfig::read(&text, folder_of(path)).map_err(bad)?;
    let token = match found.token {
        ApiToken::None => None,
        ApiToken::Text(token) => Some(token),
        ApiToken::File(path) => Some(secret(&path, FILE_TIMEOUT).await?),
    };
    let namespace = if namespace.is_empty() { found.namespace } else { namespace.to_string() };
    Ok(ApiAccount { endpoint: found.endpoint, base_path: found.base_path, tls: found.tls, token, namespace })
}

#[cfg(test)]
mod tests;
