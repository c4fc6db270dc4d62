//! Reads whether a check speaks TLS, and which authorities it believes.

use super::Reader;
use crate::base::host;
use crate::config::model::{CheckTls, Starttls, Trust};
use crate::config::value::quoted;
use crate::tls::client::ServerNameSource;

/// Checks whose protocol lets the server offer TLS.
const CAN_PREFER: [&str; 2] = ["postgresql", "mysql"];

impl Reader<'_> {
    /// TLS of the check. Databases that can offer it are asked for it unless something else is written.
    pub(super) fn tls(&mut self) -> CheckTls {
        let can_prefer = CAN_PREFER.contains(&self.kind);
        let word = match self.table.find_word("tls") {
            Some(word) => word,
            None if self.is_as_sessions() => "require",
            None if can_prefer => "prefer",
            None => "off",
        };
        if word == "prefer" && !can_prefer {
            let hint = format!("the protocol of a {} check cannot offer it; write \"require\" or \"off\"", self.kind);
            self.bad("tls", quoted(word), hint);
        }
        if word == "off" && self.kind == "postgresql" && !self.is_set("user") {
            let hint = "without it, whether the server offers TLS is all that a postgresql check asks".to_string();
            self.needs("tls", "`user`".to_string(), hint);
        }
        if word != "require" {
            for key in ["verify", "ca_file", "server_name"] {
                if self.is_set(key) {
                    let hint = format!("write tls = \"require\", or leave `{key}` out");
                    self.needs(key, "`tls = \"require\"`".to_string(), hint);
                }
            }
            return if word == "prefer" { CheckTls::Prefer } else { CheckTls::Off };
        }
        let identity = self.pool_tls.and_then(|tls| tls.pair.as_ref());
        let identity = identity.map(|pair| (pair.cert.clone(), pair.key.clone()));
        CheckTls::Require { trust: self.trust(), server_name: self.server_name(), identity }
    }

    /// Whether it begins with TLS as sessions of the pool do. At a port of its own there is another server, and only a
    /// check of PostgreSQL knows PostgreSQL's request.
    fn is_as_sessions(&self) -> bool {
        let Some(tls) = self.pool_tls else { return false };
        let begins_alike = match tls.starttls {
            Starttls::Off => self.kind != "mysql",
            Starttls::Postgresql => self.kind == "postgresql",
        };
        begins_alike && !self.is_set("port")
    }

    /// Whose word is taken.
    fn trust(&mut self) -> Trust {
        let file = self.name("ca_file");
        if !file.is_empty() && !file.starts_with('/') {
            self.bad("ca_file", quoted(&file), "write the whole path, which begins with /".to_string());
        }
        if let Some(tls) = self.pool_tls
            && !self.is_set("verify")
            && file.is_empty()
        {
            return tls.trust.clone();
        }
        match (self.table.flag("verify"), file.is_empty()) {
            (true, true) => Trust::System,
            (true, false) => Trust::File(file.into()),
            (false, true) => Trust::Unverified,
            (false, false) => {
                let hint = "remove `verify`, or `ca_file`".to_string();
                self.needs("ca_file", "`verify = true`".to_string(), hint);
                Trust::Unverified
            }
        }
    }

    /// The name of the server, a host name or an address; empty means the host of the address.
    fn server_name(&mut self) -> String {
        let name = self.name("server_name");
        if !name.is_empty() && !host::is_provable(&name) {
            let hint = "write a name or an IP address without a port, as in \"db.example.com\"".to_string();
            self.bad("server_name", quoted(&name), hint);
        }
        match self.pool_tls.map(|tls| &tls.server_name) {
            Some(ServerNameSource::Given(given)) if name.is_empty() => given.to_string(),
            _ => name,
        }
    }
}
