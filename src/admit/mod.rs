//! Which clients can connect, and to which pool: rules by address, limits per source address, routes by TLS name. Pure.
//!
//! `worker::admission` asks these in order: [`Rules`] first, then [`Sources`], and when the ClientHello has come,
//! [`routes::find`].
#![forbid(unsafe_code)]

pub mod networks;
pub mod routes;
pub mod sources;

pub use networks::Networks;
pub use sources::Sources;

use crate::base::address::Address;
pub use crate::base::refused::Refused;

/// Which clients can connect to a listener.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Rules {
    /// If this is a list, only these clients can connect; `None` means every client.
    pub allow: Option<Networks>,
    /// These clients cannot connect; this wins over `allow`.
    pub deny: Networks,
}

impl Rules {
    /// Whether every client can connect.
    pub fn is_empty(&self) -> bool {
        self.allow.is_none() && self.deny.is_empty()
    }

    /// Whether this client can connect. `None` is a client whose address is not known any more, because it has left.
    pub fn admit(&self, client: Option<&Address>) -> bool {
        let Some(client) = client else { return self.is_empty() };
        !self.deny.contains(client) && self.allow.as_ref().is_none_or(|allow| allow.contains(client))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn networks(list: &[&str]) -> Networks {
        Networks::new(list.iter().map(|text| text.parse().unwrap()).collect())
    }

    fn may(rules: &Rules, client: &str) -> bool {
        rules.admit(Some(&Address::Tcp(format!("{client}:40000").parse().unwrap())))
    }

    #[test]
    fn deny_wins_over_allow_and_an_allow_list_leaves_everybody_else_out() {
        let rules = Rules { allow: Some(networks(&["10.0.0.0/8", "2001:db8::/32"])), deny: networks(&["10.1.0.0/16"]) };
        assert!(may(&rules, "10.2.0.1") && may(&rules, "[2001:db8::1]"));
        assert!(!may(&rules, "10.1.2.3") && !may(&rules, "11.0.0.1") && !may(&rules, "[2001:db9::1]"));
        assert!(!rules.admit(Some(&Address::Unix("/x".into()))));
        let rules = Rules { allow: None, deny: networks(&["10.1.0.0/16"]) };
        assert!(may(&rules, "11.0.0.1") && rules.admit(Some(&Address::Unix("/x".into()))) && !may(&rules, "10.1.0.0"));
    }

    #[test]
    fn who_is_gone_is_admitted_only_where_everybody_is() {
        assert!(Rules::default().admit(None));
        let nobody = Rules { allow: Some(Networks::default()), deny: Networks::default() };
        assert!(!nobody.admit(None) && !may(&nobody, "10.0.0.1") && !nobody.is_empty());
        assert!(!Rules { allow: None, deny: networks(&["10.1.0.0/16"]) }.admit(None));
    }
}
