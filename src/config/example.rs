//! A configuration for tests, here and elsewhere.

use super::{Config, load};

/// As little as can be: every key that has a default has it.
const EXAMPLE: &str = "\
[listeners.example]
bind = \"127.0.0.1:1\"
pool = \"example\"
[pools.example]
backends = [{ name = \"a\", address = \"10.0.0.1:1\" }]
";

impl Config {
    /// A listener and a pool with a backend. What a test is about, it changes.
    pub(crate) fn example() -> Config {
        load(EXAMPLE, "example", &|_| None).expect("an example is right")
    }
}
