//! The authorities that this host knows, where its distribution keeps them.

use std::io;
use std::path::Path;
use std::sync::Arc;

use rustls::RootCertStore;

/// Reads and parses them, which takes milliseconds. Blocks. Some hosts have a few that cannot be used; those are left
/// out. The path means nothing; it is there for [`Readings::begin`](super::reading::Readings::begin).
///
/// # Errors
/// None can be used.
pub(crate) fn of_system(_: &Path) -> io::Result<Arc<RootCertStore>> {
    let found = rustls_native_certs::load_native_certs();
    let mut roots = RootCertStore::empty();
    let (usable, _) = roots.add_parsable_certificates(found.certs);
    if usable == 0 {
        let why = found.errors.first().map_or("none was found".to_string(), ToString::to_string);
        return Err(io::Error::other(why));
    }
    Ok(Arc::new(roots))
}
