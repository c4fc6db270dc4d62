//! Names that are looked up once, for `ringway doctor`, in the way of a ringway that serves.

use std::net::IpAddr;

use super::{Dns, Resolver};
use crate::discover::known::{Known, Learned};

/// Looks up all names at the same time. Returns for each its addresses, or why it has none.
///
/// # Errors
/// Nothing can be looked up at all.
pub fn look_up(dns: &Dns, hosts: &[&str]) -> std::io::Result<Vec<Result<Vec<IpAddr>, String>>> {
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
    let resolver = Resolver::new(dns, None);
    let one = |host: &str| {
        let (resolver, host) = (resolver.clone(), host.to_string());
        tokio::task::spawn_local(async move {
            match Known::default().on(resolver.lookup(&host).await) {
                Learned::Addresses { addresses, .. } => Ok(addresses),
                Learned::Denied(why) | Learned::Nothing(why) => Err(why),
            }
        })
    };
    Ok(tokio::task::LocalSet::new().block_on(&runtime, async {
        let tasks: Vec<_> = hosts.iter().map(|host| one(host)).collect();
        let mut found = Vec::new();
        for task in tasks {
            found.push(task.await.unwrap_or_else(|error| Err(error.to_string())));
        }
        found
    }))
}
