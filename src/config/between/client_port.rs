//! What can be wrong about backends at the port of the client: ports that do not exist, and checks without a port.

use super::Between;
use crate::base::address::Address;
use crate::config::error::Problem;
use crate::config::model::{Chains, Config, shifted};
use crate::config::raw::{self, Raw, Table};

impl Between<'_, '_> {
    /// Checks every backend whose port is that of the client against the listeners whose clients can get it.
    pub(super) fn client_ports(&mut self, raw: &Raw, config: &Config) {
        let is_one = |backend: &&Table| backend.find_target("address").is_some_and(|target| target.shift().is_some());
        if !raw.pools.iter().flat_map(|pool| &pool.backends).any(|backend| is_one(&backend)) {
            return;
        }
        let chains = Chains::of(config);
        for pool in &raw.pools {
            for backend in pool.backends.iter().filter(is_one) {
                self.checked_somewhere(pool, backend);
                for listener in &config.listeners {
                    let leads = |name: &str| chains.from(name).iter().any(|reached| *reached.name == *pool.name);
                    if listener.pools().any(|name| leads(name)) {
                        self.fits(backend, &listener.name, &listener.binds);
                    }
                }
            }
        }
    }

    /// Refuses a check that would need the port of a client.
    fn checked_somewhere(&mut self, pool: &raw::Pool, backend: &Table) {
        let check = &pool.check;
        let has_port = check.number::<u16>("port") > 0 || backend.check_address("check_address").is_some();
        if check.word("type") != "off" && !has_port {
            let what = "`check.port`, a `check_address` or check.type = \"off\"";
            self.needs(
                backend,
                "address",
                what,
                "a check has no client whose port it could take; say where it is made",
            );
        }
    }

    /// Refuses a port that does not exist, for one of the addresses of a listener. Port 0 is not known yet.
    fn fits(&mut self, backend: &Table, listener: &str, binds: &[Address]) {
        let Some((target, shift)) = backend.find_target("address").and_then(|target| Some((target, target.shift()?)))
        else {
            return;
        };
        let wrong = |bind: &&Address| match bind {
            Address::Tcp(address) => address.port() > 0 && shifted(address.port(), shift).is_none(),
            Address::Unix(_) => true,
        };
        let Some(bind) = binds.iter().find(wrong) else { return };
        let (what, hint) = match bind {
            Address::Tcp(address) => {
                let port = i32::from(address.port()) + shift;
                (format!("port {}", address.port()), format!("there is no port {port}; write a smaller shift"))
            }
            Address::Unix(_) => ("a unix socket".to_string(), "a unix socket has no port; write one here".to_string()),
        };
        let found = format!("\"{target}\" while listener `{listener}` has {what}");
        self.faults.push((backend.span_of("address"), Problem::BadValue { key: "address".to_string(), found, hint }));
    }
}

#[cfg(test)]
mod tests {
    use crate::config::load;

    /// The faults of a listener there, before a backend there with these lines of its pool.
    fn faults(bind: &str, address: &str, lines: &str) -> Vec<String> {
        let listener = format!("[listeners.l]\nbind = \"{bind}\"\npool = \"p\"\n");
        let text = format!("{listener}[pools.p]\nbackends = [{{ address = \"{address}\" }}]\n{lines}\n");
        let errors = load(&text, "f", &|_: &str| None).err().unwrap_or_default();
        errors.iter().map(ToString::to_string).collect()
    }

    const UNCHECKED: &str = "check.type = \"off\"";

    #[test]
    fn a_port_that_does_not_exist_is_refused_for_the_listener_that_has_it() {
        assert_eq!(faults("0.0.0.0:7000-7009", "10.0.0.1:client+58526", UNCHECKED), [""; 0]);
        let found = faults("0.0.0.0:7000-7009", "10.0.0.1:client+58530", UNCHECKED);
        let says = "f:5:25: `address` cannot be \"10.0.0.1:client+58530\" while listener `l` has port 7006; there is \
                    no port 65536; write a smaller shift";
        assert_eq!(found, [says]);
        let found = faults("127.0.0.1:80", "10.0.0.1:client-80", UNCHECKED);
        assert!(found.len() == 1 && found[0].contains("has port 80; there is no port 0;"), "{found:?}");
        let found = faults("unix:/run/x", "10.0.0.1:client", UNCHECKED);
        assert!(found.len() == 1 && found[0].contains("has a unix socket; a unix socket has no port;"), "{found:?}");
        assert_eq!(faults("127.0.0.1:0", "10.0.0.1:client+65000", UNCHECKED), [""; 0], "not known yet");
    }

    #[test]
    fn a_listener_that_comes_there_by_a_fallback_counts() {
        let more = format!(
            "{UNCHECKED}\nfallback = \"q\"\n[pools.q]\n{UNCHECKED}\nbackends = [{{ address = \"a:client+1\" }}]"
        );
        let found = faults("127.0.0.1:65535", "10.0.0.1:1", &more);
        assert!(found.len() == 1 && found[0].starts_with("f:10:25: `address` cannot be \"a:client+1\""), "{found:?}");
    }

    #[test]
    fn a_check_without_a_port_of_its_own_is_refused() {
        let found = faults("127.0.0.1:80", "10.0.0.1:client", "");
        assert!(found.len() == 1 && found[0].starts_with("f:5:25: `address` needs `check.port`, a `check_address` or"));
        assert_eq!(faults("127.0.0.1:80", "10.0.0.1:client", "check.port = 8080"), [""; 0]);
        let own = "10.0.0.1:client\", check_address = \":8080";
        assert_eq!(faults("127.0.0.1:80", own, ""), [""; 0]);
    }

    #[test]
    fn one_server_at_one_shift_stands_in_a_pool_once() {
        let twice = "10.0.0.1:client\" }, { name = \"b\", address = \"10.0.0.1:client";
        let found = faults("127.0.0.1:80", twice, UNCHECKED);
        assert!(found.len() == 1 && found[0].contains("the address `10.0.0.1:client` is already in use"), "{found:?}");
        let other = "10.0.0.1:client\" }, { name = \"b\", address = \"10.0.0.1:client+1";
        assert_eq!(faults("127.0.0.1:80", other, UNCHECKED), [""; 0]);
    }

    /// The same port of this host is the listener itself.
    #[test]
    fn a_backend_that_leads_back_at_the_port_of_the_client_is_refused() {
        let found = faults("0.0.0.0:7000-7009", "127.0.0.1:client", UNCHECKED);
        assert!(found.len() == 1 && found[0].contains("listener l → pool p → backend 127.0.0.1:client → listener l"));
        assert_eq!(faults("127.0.0.1:7000", "127.0.0.1:client+1", UNCHECKED), [""; 0]);
    }
}
