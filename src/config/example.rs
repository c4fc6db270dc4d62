//! A configuration for tests, in this module and in others.

use super::{Config, load};

/// The smallest configuration: every key that has a default has its default.
const EXAMPLE: &str = "\
[listeners.example]
bind = \"127.0.0.1:1\"
pool = \"example\"
[pools.example]
backends = [{ name = \"a\", address = \"10.0.0.1:1\" }]
";

impl Config {
    /// One listener, one pool, one backend. A test changes what it is about.
    pub(crate) fn example() -> Config {
        load(EXAMPLE, "example", &|_: &str| None).expect("an example is right")
    }
}
