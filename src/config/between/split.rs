//! What can be wrong about `split`.

use std::collections::HashMap;

use super::Between;
use crate::config::error::Problem;
use crate::config::raw::{Raw, Table};

impl Between<'_, '_> {
    /// Checks how a listener or a route divides its clients among pools.
    pub(super) fn split(&mut self, table: &Table, raw: &Raw) {
        let shares = table.split("split");
        if shares.is_empty() {
            return;
        }
        let span = table.span_of("split");
        let wrong = |key: &str, found: &str, hint: &str| Problem::BadValue {
            key: key.to_string(),
            found: found.to_string(),
            hint: hint.to_string(),
        };
        if table.is_written("pool") {
            let problem = wrong("pool", "beside `split`", "write one of both; `split` names every pool");
            self.faults.push((table.span_of("pool"), problem));
        }
        let mut seen: HashMap<&str, usize> = HashMap::new();
        for share in shares {
            self.names_a_pool(&share.pool, share.span.clone(), raw);
            let line = self.places.line(share.span.start);
            if let Some(line) = seen.insert(&share.pool, line) {
                let hint = "write each pool once, with the sum of its weights";
                let what = format!("pool `{}` of this split", share.pool);
                self.faults.push((share.span.clone(), Problem::Duplicate { what, line, hint }));
            }
        }
        if shares.iter().all(|share| share.weight == 0) {
            let problem = wrong("split", "a list in which every weight is 0", "give at least one pool a weight");
            self.faults.push((span, problem));
        }
    }
}

#[cfg(test)]
mod tests {
    use crate::config::{Config, load};

    /// A listener with these lines, before the pools `a` and `b`.
    fn read(lines: &str) -> Result<Config, Vec<String>> {
        let pool = |name: &str| format!("[pools.{name}]\nbackends = [{{ address = \"10.0.0.1:1\" }}]\n");
        let text = format!("[listeners.l]\nbind = \"127.0.0.1:0\"\n{lines}\n{}{}", pool("a"), pool("b"));
        load(&text, "f", &|_: &str| None).map_err(|errors| errors.iter().map(ToString::to_string).collect())
    }

    #[test]
    fn a_split_names_its_pools_with_their_weights() {
        let config = read("split = [{ pool = \"a\", weight = 0 }, { pool = \"b\", weight = 256 }]").unwrap();
        let listener = &config.listeners[0];
        let shares: Vec<String> = listener.split.iter().map(ToString::to_string).collect();
        assert_eq!((shares.join(", "), &*listener.pool), ("a 0, b 256".to_string(), "b"));
        assert_eq!(listener.pools().map(|pool| &**pool).collect::<Vec<_>>(), ["b"], "a gets nothing");
        let config = read("split = [{ pool = \"a\" }, { pool = \"b\" }]").unwrap();
        assert!(config.listeners[0].split.iter().all(|share| share.weight == 1));
        let routes =
            "pool = \"a\"\nroutes = [{ alpn = [\"x\"], split = [{ pool = \"a\", weight = 3 }, { pool = \"b\" }] }]";
        let config = read(routes).unwrap();
        assert_eq!(config.listeners[0].preread.as_ref().unwrap().routes[0].pool.split.len(), 2);
    }

    #[test]
    fn each_mistake_in_a_split_has_its_own_answer() {
        for (lines, says) in [
            ("", "f:1:1: [listeners.l] has no `pool`; add pool = \"NAME\""),
            ("split = []", "f:1:1: [listeners.l] has no `pool`; add pool = \"NAME\""),
            ("split = [{ pool = \"a\" }]\npool = \"a\"", "f:4:8: `pool` cannot be beside `split`; write one of both"),
            ("split = [{ pool = \"zebra\" }]", "f:3:10: there is no pool `zebra`; add [pools.zebra]"),
            (
                "split = [{ pool = \"a\" }, { pool = \"a\" }]",
                "f:3:26: pool `a` of this split is already in use on line 3; write each pool once",
            ),
            (
                "split = [{ pool = \"a\", weight = 0 }]",
                "f:3:9: `split` cannot be a list in which every weight is 0; give at least one pool a weight",
            ),
            (
                "split = [{ pool = \"a\", weight = 257 }]",
                "f:3:33: `split` cannot be a share whose `weight` is 257; write a number from 0 to 256",
            ),
            ("split = [{ weight = 9 }]", "f:3:10: `split` cannot be a share without `pool`; write the name of a pool"),
            (
                "split = [{ pool = 1 }]",
                "f:3:19: `split` cannot be a share whose `pool` is 1; write it in quotes: \"1\"",
            ),
            (
                "split = [{ pool = \"a\", share = 9 }]",
                "f:3:24: `split` cannot be a share with `share`; a share has `pool` and `weight`",
            ),
            ("split = [\"a\", \"b\"]", "f:3:10: `split` is a text; it takes a list of pools, as in [{ pool = "),
            ("split = \"a\"", "f:3:9: `split` is a text; it takes a list of pools, as in [{ pool = "),
        ] {
            let found = read(lines).expect_err(lines);
            assert!(found[0].starts_with(says), "{lines}: {found:#?}");
        }
        assert_eq!(read("split = [{ pool = \"a\", weight = 257 }]").unwrap_err().len(), 1, "and no more than that");
    }
}
