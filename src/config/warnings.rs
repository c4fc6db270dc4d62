//! What a configuration may say and hardly means.

use super::model::{CheckKind, Config, Pool, Target};
use crate::base::address::Address;

/// Where MySQL and MariaDB listen.
const MYSQL: u16 = 3306;

/// One line for each.
pub fn warnings(config: &Config) -> Vec<String> {
    config.pools.iter().filter_map(mute_to_mysql).collect()
}

/// A check that only connects says nothing of a MySQL: it is up as long as its kernel is.
fn mute_to_mysql(pool: &Pool) -> Option<String> {
    let check = pool.check.as_ref().filter(|check| check.kind == CheckKind::Tcp)?;
    let port = |target: &Target| match target {
        Target::Address(Address::Tcp(address)) => Some(address.port()),
        Target::Address(Address::Unix(_)) => None,
        Target::Host { port, .. } => Some(*port),
    };
    let is_mysql = match check.port {
        Some(port) => port == MYSQL,
        None => pool.backends.iter().any(|backend| port(&backend.target) == Some(MYSQL)),
    };
    is_mysql.then(|| {
        let name = &pool.name;
        format!("pool {name}: a check of type \"tcp\" at port {MYSQL} only connects; type = \"mysql\" asks the server")
    })
}

#[cfg(test)]
mod tests {
    use super::warnings;
    use crate::config::load;

    #[test]
    fn a_check_that_only_connects_to_a_mysql_is_named() {
        let of = |address: &str, check: &str| {
            let text = format!(
                "[listeners.l]\nbind = \"127.0.0.1:0\"\npool = \"p\"\n[[pools.p.backends]]\naddress = \"{address}\"\n\
                 [pools.p.check]\n{check}\n"
            );
            warnings(&load(&text, "f", &|_| None).unwrap()).len()
        };
        assert_eq!(of("10.0.0.1:3306", ""), 1, "the default");
        assert_eq!(of("db.example:3306", "type = \"tcp\""), 1);
        assert_eq!(of("10.0.0.1:3306", "type = \"mysql\""), 0);
        assert_eq!(of("10.0.0.1:3306", "port = 9200"), 0);
        assert_eq!(of("10.0.0.1:5432", "port = 3306"), 1);
        assert_eq!(of("10.0.0.1:5432", ""), 0);
    }
}
