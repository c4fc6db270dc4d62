//! TLS that HAProxy ends, or begins: in one place, since ringway will come to have it.
//!
//! Each of these is used in one place: `bind::options` and `pool::pool`. With a translation of `crt`, `ca-file` and
//! `verify` they become keys of those tables. TLS of checks is another matter, and is carried over (`check::tls`).

/// Of a listener that ends TLS.
pub const LISTENER: &str = "TLS would be ended here; the importer does not write [listeners.NAME.tls] yet, and plain \
                            TCP would be weaker";

/// Of servers that are spoken to in TLS.
pub const SERVER: &str = "TLS would be begun to servers; the importer does not write [pools.NAME.tls] yet, and plain \
                          TCP would be weaker";
