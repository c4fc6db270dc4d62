//! Which pools clients can come to by `fallback`.

use std::collections::HashMap;

use super::{Config, Pool};

/// The pools of a configuration by name.
#[derive(Clone, Debug)]
pub struct Chains<'c>(HashMap<&'c str, &'c Pool>);

impl<'c> Chains<'c> {
    /// Of all pools of a configuration.
    pub fn of(config: &'c Config) -> Chains<'c> {
        Chains(config.pools.iter().map(|pool| (&*pool.name, pool)).collect())
    }

    /// This pool, the one that it falls back to, the one that this falls back to, and so on. Each of them once, also in
    /// a circle, which `between` refuses.
    pub fn from(&self, name: &str) -> Vec<&'c Pool> {
        let mut chain: Vec<&Pool> = Vec::new();
        let mut next = self.0.get(name).copied();
        while let Some(pool) = next.filter(|pool| !chain.iter().any(|seen| seen.name == pool.name)) {
            chain.push(pool);
            next = pool.fallback.as_deref().and_then(|name| self.0.get(name)).copied();
        }
        chain
    }
}
