//! What is wrong with a file of certificates, and whose file it is.
//!
//! Control logs and lists faults and warnings by their owner, and does not ask what kind it is.

use std::fmt;
use std::sync::Arc;

/// What shows certificates.
#[derive(Clone, Debug, Eq, Hash, Ord, PartialEq, PartialOrd)]
pub enum CertificateOwner {
    /// The listener of that name, to its clients.
    Listener(Arc<str>),
    /// The pool of that name, to its backends.
    Pool(Arc<str>),
}

impl fmt::Display for CertificateOwner {
    /// As people say it: `listener db`.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            CertificateOwner::Listener(name) => write!(f, "listener {name}"),
            CertificateOwner::Pool(name) => write!(f, "pool {name}"),
        }
    }
}

/// Why files cannot be used. What was shown before is shown on.
#[derive(Clone, Debug, Eq, PartialEq)]
pub struct CertificateFault {
    /// Whose file it is.
    pub owner: CertificateOwner,
    /// `PATH: what is wrong, and what to do`.
    pub text: String,
}

impl CertificateFault {
    /// Whether it is this file that it says is wrong.
    pub fn is_of(&self, file: &str) -> bool {
        let rest = self.text.strip_prefix(file);
        !file.is_empty() && rest.is_some_and(|rest| rest.starts_with(": ") || rest.starts_with(" with "))
    }

    /// Whether this file is wrong, or does not fit to the one that is.
    pub fn involves(&self, file: &str) -> bool {
        let is_other = || self.text.ends_with(&format!(" in {file}")) || self.text.contains(&format!(" with {file}: "));
        self.is_of(file) || (!file.is_empty() && is_other())
    }

    /// The file that it says is wrong, where that can be told from the rest; else all of the text.
    pub fn file(&self) -> &str {
        self.text.split_once(": ").map_or(&self.text, |(file, _)| file)
    }
}

impl fmt::Display for CertificateFault {
    /// With the table of the configuration that names the file.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match &self.owner {
            CertificateOwner::Listener(name) => write!(f, "listeners.{name}.tls: {}", self.text),
            CertificateOwner::Pool(name) => write!(f, "pools.{name}.tls: {}", self.text),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_fault_is_of_the_file_that_it_begins_with_and_of_no_other() {
        let fault =
            |text: &str| CertificateFault { owner: CertificateOwner::Listener("l".into()), text: text.to_string() };
        let one = fault("/d/a.crt: it cannot be read: no");
        assert!(one.is_of("/d/a.crt") && !one.is_of("/d/a") && !one.is_of("/d/a.crt2") && !one.is_of(""));
        assert!(!one.involves("/d") && one.involves("/d/a.crt") && !one.involves("/d/a.key"));
        let both = fault("/d/a.crt with /d/a.key: they cannot be used");
        assert!(both.is_of("/d/a.crt") && both.involves("/d/a.key") && !both.is_of("/d/a.key"));
        let other = fault("/d/a.key: it is not the key of the certificate in /d/a.crt");
        assert!(other.is_of("/d/a.key") && other.involves("/d/a.crt") && !other.is_of("/d/a.crt"));
        assert_eq!(one.to_string(), "listeners.l.tls: /d/a.crt: it cannot be read: no");
        assert_eq!((one.file(), one.owner.to_string().as_str()), ("/d/a.crt", "listener l"));
    }
}
