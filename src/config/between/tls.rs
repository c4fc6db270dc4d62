//! What can be wrong about `[listeners.NAME.tls]`.

use std::collections::HashMap;

use super::Between;
use crate::config::error::Problem;
use crate::config::keys::Section;
use crate::config::raw::{self, Table};
use crate::config::value;

/// What each listener with TLS needs.
const CERTIFICATES: &str = "certificates = [{ cert = \"/etc/ringway/tls/db.crt\", key = \"/etc/ringway/tls/db.key\" \
                            }], or `certificate_dir` with the folder of several";

impl Between<'_, '_> {
    /// Refuses keys of a listener's TLS that have no effect or lack another one, and routes that fit no client of it.
    pub(super) fn tls(&mut self, listener: &raw::Listener) {
        let Some(table) = &listener.tls else { return };
        self.same_certificates(table);
        // What was found wrong in it may be what would be missing here.
        if table.is_wrong {
            return;
        }
        if table.certificates("certificates").is_empty() && table.text_or_off("certificate_dir").is_none() {
            let table_name = format!("[listeners.{}.tls]", listener.name);
            let problem = Problem::Missing { table: table_name, key: "certificates", hint: CERTIFICATES };
            self.faults.push((table.span.clone(), problem));
        }
        self.client_certificates(table);
        if table.word("starttls") == "off" && table.is_asked_for(Section::ListenerTls, "plaintext") {
            let hint = "leave it out: without `starttls`, TLS comes first and there is nothing in clear text";
            self.needs(table, "plaintext", "`starttls`", hint);
        }
        for route in listener.routes.iter().filter(|route| !route.is_wrong) {
            self.protocol_within_tls(route, table.word("starttls"));
        }
    }

    /// Refuses the same certificate twice.
    fn same_certificates(&mut self, table: &Table) {
        let mut seen: HashMap<&str, usize> = HashMap::new();
        for pair in table.certificates("certificates") {
            let line = self.places.line(pair.span.start);
            if let Some(line) = seen.insert(&pair.cert, line) {
                let what = format!("the certificate `{}` of this listener", pair.cert);
                let problem = Problem::Duplicate { what, line, hint: "write each pair once" };
                self.faults.push((pair.span.clone(), problem));
            }
        }
    }

    /// Refuses to ask clients for a certificate that nothing could be said of, and authorities that are never asked.
    fn client_certificates(&mut self, table: &Table) {
        let asks = table.word("client_auth") != "off";
        if asks && table.text_or_off("client_ca").is_none() {
            let hint = "name the file of the authorities that sign the clients' certificates, as in client_ca = \
                        \"/etc/ringway/tls/clients.pem\"";
            self.needs(table, "client_auth", "`client_ca`", hint);
        }
        for key in ["client_ca", "client_crl"] {
            if !asks && table.text_or_off(key).is_some() {
                let hint = "leave it out, or write client_auth = \"required\"";
                self.needs(table, key, "`client_auth`", hint);
            }
        }
    }

    /// Refuses a route for clients whose first bytes are not those with which each client of the listener begins.
    fn protocol_within_tls(&mut self, route: &Table, starttls: &str) {
        let protocol = route.word("protocol");
        if ["any", "tls", "other", starttls].contains(&protocol) {
            return;
        }
        let begin = if starttls == "off" { "TLS" } else { "TLS or PostgreSQL's request for it" };
        let problem = Problem::BadValue {
            key: "protocol".to_string(),
            found: value::quoted(protocol),
            hint: format!(
                "TLS ends at this listener, so each client begins with {begin}; leave it out, and write `sni` or `alpn`"
            ),
        };
        self.faults.push((route.span_of("protocol"), problem));
    }
}

#[cfg(test)]
mod tests {
    use crate::config::{Config, load};

    const PAIR: &str = "certificates = [{ cert = \"/a.crt\", key = \"/a.key\" }]";

    /// A listener with these lines in its TLS, which begins on line 4, and after it.
    fn read(tls: &str, after: &str) -> Result<Config, Vec<String>> {
        let text = format!(
            "[listeners.l]\nbind = \"127.0.0.1:0\"\npool = \"p\"\n[listeners.l.tls]\n{tls}\n{after}\n[pools.p]\n\
             backends = [{{ address = \"10.0.0.1:1\" }}]\n"
        );
        load(&text, "f", &|_: &str| None).map_err(|errors| errors.iter().map(ToString::to_string).collect())
    }

    #[test]
    fn each_mistake_between_keys_of_tls_has_one_answer() {
        for (tls, says) in [
            ("", "f:4:1: [listeners.l.tls] has no `certificates`; add certificates = [{ cert = "),
            ("certificates = []", "f:4:1: [listeners.l.tls] has no `certificates`; add "),
            (
                "certificate_dir = \"/d\"\nclient_auth = \"optional\"",
                "f:6:15: `client_auth` needs `client_ca`; name the file of the authorities",
            ),
            (
                "certificate_dir = \"/d\"\nclient_ca = \"/ca\"",
                "f:6:13: `client_ca` needs `client_auth`; leave it out, or write client_auth = \"required\"",
            ),
            ("certificate_dir = \"/d\"\nclient_crl = \"/crl\"", "f:6:14: `client_crl` needs `client_auth`; leave it"),
            (
                "certificate_dir = \"/d\"\nplaintext = \"allow\"",
                "f:6:13: `plaintext` needs `starttls`; leave it out: without `starttls`, TLS comes first",
            ),
            (
                "certificates = [{ cert = \"/a\", key = \"/b\" },\n{ cert = \"/b\", key = \"/a\" },\n\
                 { cert = \"/a\", key = \"/c\" }]",
                "f:7:10: the certificate `/a` of this listener is already in use on line 5; write each pair once",
            ),
        ] {
            let errors = read(tls, "").expect_err(tls);
            assert!(errors.len() == 1 && errors[0].starts_with(says), "{tls}: {errors:?}");
        }
    }

    #[test]
    fn a_fault_is_told_once_and_not_as_what_it_leaves_missing() {
        for (tls, says) in [
            ("certificate_dir = \"tls\"", "f:5:19: `certificate_dir` cannot be \"tls\"; write the whole path"),
            (
                "client_auth = \"requird\"\nclient_ca = \"/ca\"\ncertificate_dir = \"/d\"",
                "f:5:15: `client_auth` cannot",
            ),
            ("certificate = \"/x\"", "f:5:1: unknown key `certificate` in [listeners.l.tls]; "),
        ] {
            let errors = read(tls, "").expect_err(tls);
            assert!(errors.len() == 1 && errors[0].starts_with(says), "{tls}: {errors:?}");
        }
    }

    #[test]
    fn keys_that_belong_together_are_taken() {
        for tls in [
            PAIR,
            "certificate_dir = \"/d\"",
            &format!("{PAIR}\ncertificate_dir = \"/d\""),
            "certificates = [{ cert = \"/one.pem\", key = \"/one.pem\" }]",
            &format!("{PAIR}\nclient_auth = \"optional\"\nclient_ca = \"/ca\"\nclient_crl = \"/crl\""),
            &format!("{PAIR}\nclient_auth = \"off\"\nclient_ca = \"\"\nclient_crl = \"\""),
            &format!("{PAIR}\nstarttls = \"postgresql\"\nplaintext = \"allow\""),
        ] {
            assert!(read(tls, "").is_ok(), "{tls}: {:?}", read(tls, ""));
        }
    }

    /// Certificates are as good for clients of this host.
    #[test]
    fn a_unix_socket_can_have_tls() {
        let text = format!(
            "[listeners.l]\nbind = \"unix:/x\"\npool = \"p\"\n[listeners.l.tls]\n{PAIR}\n[pools.p]\n\
             backends = [{{ address = \"10.0.0.1:1\" }}]\n"
        );
        assert!(load(&text, "f", &|_: &str| None).is_ok());
    }

    #[test]
    fn a_route_asks_for_no_first_bytes_that_no_client_of_tls_sends() {
        let routed = |starttls: &str, protocol: &str| {
            let routes = format!("[[listeners.l.routes]]\nprotocol = \"{protocol}\"\npool = \"p\"");
            read(&format!("{PAIR}\nstarttls = \"{starttls}\""), &routes)
        };
        for (starttls, protocol, is_right) in [
            ("off", "tls", true),
            ("off", "other", true),
            ("off", "ssh", false),
            ("off", "http", false),
            ("off", "postgresql", false),
            ("postgresql", "postgresql", true),
            ("postgresql", "tls", true),
            ("postgresql", "http", false),
        ] {
            let found = routed(starttls, protocol);
            assert_eq!(found.is_ok(), is_right, "{starttls} {protocol}: {found:?}");
        }
        let errors = routed("off", "ssh").unwrap_err();
        let says = "f:8:12: `protocol` cannot be \"ssh\"; TLS ends at this listener, so each client begins with TLS; \
                    leave it out, and write `sni` or `alpn`";
        assert_eq!(errors, [says]);
        assert!(read(PAIR, "[[listeners.l.routes]]\nsni = [\"a.example\"]\npool = \"p\"").is_ok());
    }
}
