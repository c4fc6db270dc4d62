//! What can be wrong about `[pools.NAME.tls]`: keys that need each other, and names that no certificate could have.
//! What is in the files is not looked at here; that is read apart (`config::certificates`).

use super::Between;
use crate::base::address::Address;
use crate::base::host;
use crate::config::error::Problem;
use crate::config::model::Target;
use crate::config::raw::{self, Raw, Table};
use crate::config::value;

/// The word for the name that the client asked for.
const OF_CLIENT: &str = "client";

impl Between<'_, '_> {
    /// Refuses keys of TLS to the backends that have no effect or lack another one, and names that prove nothing.
    pub(super) fn pool_tls(&mut self, pool: &raw::Pool, raw: &Raw) {
        let Some(table) = &pool.tls else { return };
        if table.is_wrong {
            return;
        }
        let is_verified = table.flag("verify");
        if !is_verified && table.text_or_off("ca_file").is_some() {
            self.needs(table, "ca_file", "`verify = true`", "remove `verify`, or `ca_file`");
        }
        for (key, other) in [("cert", "key"), ("key", "cert")] {
            if table.text_or_off(key).is_some() && table.text_or_off(other).is_none() {
                let hint =
                    "name the files of both, which can be the same; leave both out for backends that ask for none";
                self.needs(table, key, &format!("`{other}`"), hint);
            }
        }
        self.proved_name(table);
        let name = table.text("server_name");
        if name == OF_CLIENT && !raw.listeners.iter().any(hears_names) {
            let hint = "nothing else hears what name a client asks for; write the name that the backends have";
            self.needs(table, "server_name", "a listener with `tls` or `routes`", hint);
        }
        let is_socket = |backend: &&Table| {
            let target = backend.find_target("address");
            matches!(target, Some(Target::Address(Address::Unix(_))))
        };
        if is_verified
            && ["", OF_CLIENT].contains(&name)
            && let Some(socket) = pool.backends.iter().find(is_socket)
        {
            let name = socket.name_or_address().unwrap_or_default();
            let hint = format!("the unix socket of `{name}` has no name that its certificate could have");
            self.needs(table, "verify", "`server_name`", &hint);
        }
    }

    /// Refuses what is no name.
    fn proved_name(&mut self, table: &Table) {
        let name = table.text("server_name");
        if !name.is_empty() && !host::is_provable(name) {
            let problem = Problem::BadValue {
                key: "server_name".to_string(),
                found: value::quoted(name),
                hint: "write a name or an IP address without a port, as in \"db.example.com\", or \"client\""
                    .to_string(),
            };
            self.faults.push((table.span_of("server_name"), problem));
        }
    }
}

/// Whether it looks at the names that its clients ask for.
fn hears_names(listener: &raw::Listener) -> bool {
    listener.tls.is_some() || !listener.routes.is_empty()
}

#[cfg(test)]
mod tests {
    use crate::config::model::{CheckTls, Starttls, TlsVersion, Trust};
    use crate::config::{Config, load};
    use crate::tls::client::ServerNameSource;

    /// A pool with these lines in its TLS, which begins on line 5, and after it.
    fn read(tls: &str, after: &str) -> Result<Config, Vec<String>> {
        let text = format!(
            "[listeners.l]\nbind = \"127.0.0.1:0\"\npool = \"p\"\n[pools.p]\nbackends = [{{ address = \"db.example:1\" \
             }}]\n[pools.p.tls]\n{tls}\n{after}"
        );
        load(&text, "f", &|_: &str| None).map_err(|errors| errors.iter().map(ToString::to_string).collect())
    }

    #[test]
    fn each_mistake_between_keys_of_tls_to_backends_has_one_answer() {
        for (tls, says) in [
            ("verify = false\nca_file = \"/ca\"", "f:8:11: `ca_file` needs `verify = true`; remove"),
            ("cert = \"/a\"", "f:7:8: `cert` needs `key`; name the files of both"),
            ("key = \"/a\"", "f:7:7: `key` needs `cert`; name the files of both"),
            ("server_name = \"db:1\"", "f:7:15: `server_name` cannot be \"db:1\"; write a name or an IP"),
            ("server_name = \"client\"", "f:7:15: `server_name` needs a listener with `tls` or `routes`; nothing else"),
            ("ca_file = \"ca.pem\"", "f:7:11: `ca_file` cannot be \"ca.pem\"; write the whole path"),
            ("min_version = \"1.1\"", "f:7:15: `min_version` cannot be \"1.1\""),
            ("sni = \"x\"", "f:7:1: unknown key `sni` in [pools.p.tls]; it is `server_name` here"),
        ] {
            let errors = read(tls, "").expect_err(tls);
            assert!(errors.len() == 1 && errors[0].starts_with(says), "{tls}: {errors:?}");
        }
        let socket = "[pools.q]\nbackends = [{ address = \"unix:/s\", name = \"s\" }]\n[pools.q.tls]\n";
        assert!(read("", socket).unwrap_err()[0].contains("the unix socket of `s` has no name"));
        assert!(read("", &format!("{socket}server_name = \"db.example\"")).is_ok());
        assert!(read("", &format!("{socket}verify = false\n[pools.q.check]\ntype = \"off\"")).is_ok());
    }

    #[test]
    fn what_tls_to_backends_does_means_what_it_says() {
        let tls = |lines: &str| read(lines, "").unwrap().pools[0].tls.clone().expect("its table stands there");
        let plain = tls("");
        assert_eq!((&plain.server_name, &plain.trust, &plain.pair), (&ServerNameSource::Host, &Trust::System, &None));
        assert_eq!((plain.min_version, plain.starttls), (TlsVersion::V1_2, Starttls::Off));
        let all = tls("server_name = \"db.example\"\nca_file = \"/ca\"\ncert = \"/c\"\nkey = \"/k\"\nmin_version = \
                       \"1.3\"\nalpn = [\"h2\"]\nstarttls = \"postgresql\"");
        assert_eq!(all.server_name, ServerNameSource::Given("db.example".into()));
        let paths: Vec<String> = all.paths().map(|(key, path)| format!("{key} {}", path.display())).collect();
        assert_eq!(paths, ["ca_file /ca", "cert /c", "key /k"]);
        assert_eq!(
            (all.min_version, all.starttls, all.alpn),
            (TlsVersion::V1_3, Starttls::Postgresql, vec!["h2".into()])
        );
        assert_eq!(tls("verify = false").trust, Trust::Unverified);
    }

    /// A check that goes elsewhere, or that would have to begin in another way, is left as it is without.
    #[test]
    fn checks_speak_tls_as_sessions_do_unless_something_else_is_written() {
        let all = "ca_file = \"/ca\"\nserver_name = \"db.example\"\ncert = \"/c\"\nkey = \"/k\"";
        let check = |tls: &str, check: &str| {
            let config = read(tls, &format!("[pools.p.check]\n{check}")).unwrap();
            config.pools[0].check.as_ref().unwrap().tls.clone()
        };
        let require = |trust, name: &str| CheckTls::Require {
            trust,
            server_name: name.to_string(),
            identity: Some(("/c".into(), "/k".into())),
        };
        let file = || Trust::File("/ca".into());
        for kind in ["tcp", "http", "redis", "postgresql"] {
            let found = check(all, &format!("type = \"{kind}\""));
            assert_eq!(found, require(file(), "db.example"), "{kind}");
        }
        let own = "tls = \"require\"\nport = 9\nserver_name = \"other.example\"\nca_file = \"/other\"";
        assert_eq!(check(all, own), require(Trust::File("/other".into()), "other.example"));
        assert_eq!(check(all, "tls = \"off\""), CheckTls::Off);
        assert_eq!(check(all, "port = 9"), CheckTls::Off);
        let asked = format!("{all}\nstarttls = \"postgresql\"");
        assert_eq!(check(&asked, "type = \"tcp\""), CheckTls::Off);
        assert_eq!(check(&asked, "type = \"postgresql\""), require(file(), "db.example"));
        assert_eq!(check(all, "type = \"mysql\""), CheckTls::Prefer, "MySQL asks for TLS in its own words");
        assert!(check("verify = false", "").trust() == Some(&Trust::Unverified));
    }
}
