//! What can be wrong about `fallback` and `up_min`.

use std::collections::HashMap;

use super::Between;
use crate::config::error::Problem;
use crate::config::model::{Chains, Config, Pool, Target};
use crate::config::raw::{self, Raw};

impl Between<'_, '_> {
    /// Checks which pools the pools fall back to, and when.
    pub(super) fn fallbacks(&mut self, raw: &Raw, config: &Config) {
        for pool in &raw.pools {
            if let Some(other) = pool.table.text_or_off("fallback") {
                self.names_a_pool(other, pool.table.span_of("fallback"), raw);
            }
            self.never_falls_back(pool);
            self.too_few_backends(pool);
        }
        let chains = Chains::of(config);
        for pool in &config.pools {
            let chain = chains.from(&pool.name);
            if chain.last().and_then(|last| last.fallback.as_deref()) != Some(&*pool.name) {
                continue;
            }
            // Each circle is told once, at the one of its pools that stands first.
            let is_first = chain.iter().all(|other| place_of(config, pool) <= place_of(config, other));
            if let Some(raw) = raw.pools.iter().find(|raw| is_first && raw.name == *pool.name) {
                let names = chain.iter().map(|pool| &*pool.name).chain([&*pool.name]);
                let around = names.collect::<Vec<_>>().join(" → ");
                self.faults.push((raw.table.span_of("fallback"), Problem::FallbackLoop(around)));
            }
        }
    }

    /// Refuses to use every backend when none is up in a pool that falls back, or has too few, before that.
    fn never_falls_back(&mut self, pool: &raw::Pool) {
        let table = &pool.table;
        if table.word("when_all_down") != "use_all" {
            return;
        }
        let beside = match (table.text_or_off("fallback"), table.number::<u32>("up_min")) {
            (Some(other), _) => format!("fallback = \"{other}\""),
            (None, up_min) if up_min > 1 => format!("up_min = {up_min}"),
            _ => return,
        };
        let problem = Problem::BadValue {
            key: "when_all_down".to_string(),
            found: format!("\"use_all\" beside {beside}"),
            hint: "with too few backends that are up the pool serves no new client; leave it at \"refuse\"".to_string(),
        };
        self.faults.push((table.span_of("when_all_down"), problem));
    }

    /// Refuses to wait for more backends than there are. A host name may stand for any number.
    fn too_few_backends(&mut self, pool: &raw::Pool) {
        let targets: Vec<&Target> = pool.backends.iter().filter_map(|backend| backend.find_target("address")).collect();
        let has_host = targets.iter().any(|target| matches!(target.place(), Target::Host { .. }));
        let is_known = targets.len() == pool.backends.len() && !targets.is_empty();
        let mut levels: HashMap<u16, u32> = HashMap::new();
        pool.backends.iter().for_each(|backend| *levels.entry(backend.number("backup")).or_default() += 1);
        let (most, up_min) = (levels.values().max().copied().unwrap_or(0), pool.table.number::<u32>("up_min"));
        if is_known && !has_host && up_min > most {
            let of_level = if levels.len() > 1 { " of one level" } else { "" };
            let problem = Problem::BadValue {
                key: "up_min".to_string(),
                found: up_min.to_string(),
                hint: format!("the pool has no more than {most} backends{of_level}, so it would never serve a client"),
            };
            self.faults.push((pool.table.span_of("up_min"), problem));
        }
    }
}

/// Where a pool stands in the file.
fn place_of(config: &Config, pool: &Pool) -> Option<usize> {
    config.pools.iter().position(|other| other.name == pool.name)
}

#[cfg(test)]
mod tests {
    use crate::config::load;

    /// The faults of a file with pools `a`, `b` and `c`, each with these lines.
    fn faults(pools: [&str; 3]) -> Vec<String> {
        let mut text = "[listeners.l]\nbind = \"127.0.0.1:0\"\npool = \"a\"\n".to_string();
        for (name, lines) in ["a", "b", "c"].iter().zip(pools) {
            text += &format!("[pools.{name}]\nbackends = [{{ address = \"10.0.0.1:1\" }}]\n{lines}\n");
        }
        let errors = load(&text, "f", &|_: &str| None).err().unwrap_or_default();
        errors.iter().map(ToString::to_string).collect()
    }

    #[test]
    fn pools_that_fall_back_to_each_other_are_refused_by_their_names() {
        assert_eq!(faults(["fallback = \"b\"", "fallback = \"c\"", ""]), [""; 0]);
        let says = |way: &str| {
            format!("the fallbacks go around: {way}; one of these pools must be the last, without `fallback`")
        };
        let found = faults(["fallback = \"b\"", "fallback = \"c\"", "fallback = \"a\""]);
        assert_eq!(found, [format!("f:6:12: {}", says("a → b → c → a"))]);
        let found = faults(["fallback = \"b\"", "fallback = \"c\"", "fallback = \"b\""]);
        assert_eq!(found, [format!("f:9:12: {}", says("b → c → b"))], "the one before it is not at fault");
        assert_eq!(faults(["", "fallback = \"b\"", ""]), [format!("f:9:12: {}", says("b → b"))]);
    }

    #[test]
    fn a_fallback_is_a_pool_that_is_there() {
        let found = faults(["fallback = \"bb\"", "", ""]);
        assert_eq!(found, ["f:6:12: there is no pool `bb`; did you mean `b`?"]);
        assert_eq!(faults(["fallback = \"\"", "", ""]), [""; 0], "none");
    }

    #[test]
    fn a_pool_that_falls_back_uses_no_backend_that_is_down() {
        for (line, beside) in [("fallback = \"b\"", "fallback = \"b\""), ("up_min = 2", "up_min = 2")] {
            let found = faults([&format!("when_all_down = \"use_all\"\n{line}"), "", ""]);
            let says = format!("f:6:17: `when_all_down` cannot be \"use_all\" beside {beside}; ");
            assert!(found.iter().any(|fault| fault.starts_with(&says)), "{found:?}");
        }
        assert_eq!(faults(["when_all_down = \"use_all\"\nup_min = 1", "", ""]), [""; 0]);
    }

    #[test]
    fn more_backends_than_there_are_are_never_up() {
        let more = |backups: [&str; 3], up_min: u32| {
            let backend = |(place, more): (usize, &&str)| format!("{{ address = \"10.0.1.{place}:1\"{more} }}");
            let all: Vec<String> = backups.iter().enumerate().map(backend).collect();
            let text = "[listeners.l]\nbind = \"127.0.0.1:0\"\npool = \"p\"\n[pools.p]\n".to_string();
            let text = text + &format!("backends = [{}]\nup_min = {up_min}\n", all.join(", "));
            load(&text, "f", &|_: &str| None).err().map(|errors| errors[0].to_string())
        };
        let says = |up_min: u32, most: u32, level: &str| {
            Some(format!(
                "f:6:10: `up_min` cannot be {up_min}; the pool has no more than {most} backends{level}, so it would \
                 never serve a client"
            ))
        };
        assert_eq!(more(["", "", ""], 3), None);
        assert_eq!(more(["", "", ""], 4), says(4, 3, ""));
        assert_eq!(more(["", "", ", backup = true"], 3), says(3, 2, " of one level"));
        assert_eq!(more(["", ", backup = 2", ", backup = 2"], 2), None, "the backups are enough");
    }

    #[test]
    fn sessions_make_room_only_where_there_are_backups_and_checks() {
        let lines = |check: &str, backups: &str| {
            let backends = format!("[[pools.p.backends]]\naddress = \"10.0.0.1:1\"\n{backups}");
            let text = "[listeners.l]\nbind = \"127.0.0.1:0\"\npool = \"p\"\n[pools.p]\non_main_up = \"close\"\n";
            let text = format!("{text}check.type = \"{check}\"\n{backends}");
            let errors = load(&text, "f", &|_: &str| None).err().unwrap_or_default();
            errors.iter().map(ToString::to_string).collect::<Vec<_>>()
        };
        let backup = "[[pools.p.backends]]\naddress = \"10.0.0.2:1\"\nbackup = true\n";
        assert_eq!(lines("tcp", backup), [""; 0]);
        let found = lines("tcp", "");
        assert!(found.len() == 1 && found[0].starts_with("f:5:14: `on_main_up` needs a backend with `backup`; "));
        let found = lines("off", backup);
        assert!(found.len() == 1 && found[0].starts_with("f:5:14: `on_main_up` needs a check; "), "{found:?}");
    }

    #[test]
    fn a_server_that_speaks_first_is_not_waited_for_by_its_client() {
        let line = "connect_on = \"first_byte\"";
        assert_eq!(faults([line, "", ""]), [""; 0]);
        let found = faults([&format!("{line}\ncheck = {{ type = \"mysql\", user = \"u\" }}"), "", ""]);
        let says = "f:6:14: `connect_on` cannot be \"first_byte\" where the check has type = \"mysql\"; ";
        assert!(found.len() == 1 && found[0].starts_with(says), "{found:?}");
    }
}
