//! Placeholder until the composition root is there: there is no server, and none can be made.

use std::convert::Infallible;
use std::net::SocketAddr;
use std::sync::Arc;

use crate::base::address::Address;
use crate::config::Config;
use crate::{snapshot, stats};

/// Says that it is not there.
///
/// # Errors
/// Always.
pub fn serve(config: Config) -> anyhow::Result<()> {
    Server::start(config)?.wait()
}

/// Has no value.
pub struct Server(Infallible);

#[allow(missing_docs)]
impl Server {
    pub fn start(_config: Config) -> anyhow::Result<Server> {
        anyhow::bail!("the data plane is not in this build")
    }

    pub fn listen_addresses(&self) -> Vec<(Arc<str>, Address)> {
        match self.0 {}
    }

    pub fn stats(&self) -> &Arc<stats::Stats> {
        match self.0 {}
    }

    pub fn cell(&self) -> &Arc<snapshot::cell::Cell> {
        match self.0 {}
    }

    pub fn admin_address(&self) -> Option<SocketAddr> {
        match self.0 {}
    }

    pub fn stop(&self) {
        match self.0 {}
    }

    pub fn wait(self) -> anyhow::Result<()> {
        match self.0 {}
    }
}
