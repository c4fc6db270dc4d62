//! Follows the keys below a prefix: lists them, watches them, and begins anew when that ends.
//!
//! ```text
//! ┌─> list ─> watch from the revision behind it ─┬─ events ─> told
//! │                                              ├─ every CHECK_EVERY: is that what etcd has? ─> confirmed
//! └── compacted, ended, dead, not what etcd has ─┘
//! ```
//!
//! The check goes over a connection of its own, so it finds a member that is gone or has no leader (it does not
//! answer), and a watch whose connection is dead (something else is newest).

use std::time::Duration;

use tokio::time::sleep;

use super::client::EtcdClient;
use super::keyspace::{Heard, Keyspace};
use super::rotation::{MemberEnding, Rotation};
use super::wire;
use crate::discover::dns::Resolver;
use crate::discover::found::News;
use crate::discover::http::Lines;
use crate::discover::settings::{Access, Endpoint};

/// How often what is known is compared with what etcd has: a connection that is dead is noticed within this time and
/// that of an answer.
const CHECK_EVERY: Duration = Duration::from_secs(3);
/// Changes that follow each other faster are told together: a script that writes a thousand keys is a few answers. A
/// change after a quiet time is told immediately.
const TOLD_EVERY: Duration = Duration::from_millis(50);
/// A watch can be silent for as long as it likes: that is what the check is for.
const SILENCE_MAX: Duration = Duration::from_secs(30 * 24 * 3600);

/// Where keys are, and which.
pub struct WatchedKeys<'a> {
    /// The members of etcd.
    pub endpoints: &'a [Endpoint],
    /// What the keys begin with.
    pub prefix: &'a [u8],
    /// How etcd is spoken to.
    pub access: &'a Access,
}

/// Follows keys for ever. `read` makes news of the keys as they are; it is called whenever they have changed.
pub async fn follow_keys(
    keys: WatchedKeys<'_>,
    resolver: &Resolver,
    read: &mut dyn FnMut(&Keyspace) -> Vec<News>,
    tell: &dyn Fn(News),
) {
    let client = EtcdClient::new(keys.access, resolver);
    let mut rotation = Rotation::new(keys.endpoints.len());
    loop {
        let Some(endpoint) = keys.endpoints.get(rotation.at()) else { return std::future::pending().await };
        let mut turn = MemberTurn { client: &client, endpoint, prefix: keys.prefix, read: &mut *read, tell };
        let ending = match turn.run(&mut rotation).await {
            Ok(()) => MemberEnding::Anew,
            Err(why) => MemberEnding::Failed(why),
        };
        let next = rotation.on_ending(ending, fastrand::u64(..));
        if let Some(why) = next.outage {
            tell(News::Failed(why));
        }
        sleep(next.pause).await;
    }
}

/// From a listing to its end, with one member.
struct MemberTurn<'a> {
    /// Asks.
    client: &'a EtcdClient<'a>,
    /// The member.
    endpoint: &'a Endpoint,
    /// What the keys begin with.
    prefix: &'a [u8],
    /// Makes news of keys.
    read: &'a mut dyn FnMut(&Keyspace) -> Vec<News>,
    /// Passes news on.
    tell: &'a dyn Fn(News),
}

impl MemberTurn<'_> {
    /// Lists and watches. It ends well when the keys have to be listed anew.
    async fn run(&mut self, rotation: &mut Rotation) -> Result<(), String> {
        let (client, endpoint, prefix) = (self.client, self.endpoint, self.prefix);
        let mut keyspace = client.list(endpoint, prefix).await?;
        self.pass_on(&keyspace);
        // Changes of keys for which there was no room could not be taken in.
        let mut lines = match keyspace.is_crowded() {
            true => None,
            false => Some(client.watch(endpoint, prefix, keyspace.next_revision()).await?),
        };
        let check = async || {
            sleep(CHECK_EVERY).await;
            client.newest(endpoint, prefix).await
        };
        let mut checking = std::pin::pin!(check());
        let (mut has_changed, mut quiet) = (false, std::pin::pin!(sleep(TOLD_EVERY)));
        loop {
            tokio::select! {
                line = next_line(&mut lines) => {
                    let Some(line) = line? else { return Ok(()) };
                    let line = wire::watch_line(&line).and_then(|line| keyspace.on_line(line));
                    match line.map_err(|why| format!("{endpoint}: {why}"))? {
                        Heard::Changed => has_changed = true,
                        Heard::Nothing => {}
                        Heard::Lost => return Ok(()),
                    }
                }
                () = &mut quiet, if has_changed => {
                    self.pass_on(&keyspace);
                    has_changed = false;
                    quiet.set(sleep(TOLD_EVERY));
                }
                newest = &mut checking => {
                    let newest = newest?;
                    rotation.on_proven();
                    if !keyspace.is_current(&newest) {
                        return Ok(());
                    }
                    (self.tell)(News::Confirmed);
                    checking.set(check());
                }
            }
        }
    }

    /// Tells what the keys mean.
    fn pass_on(&mut self, keyspace: &Keyspace) {
        for news in (self.read)(keyspace) {
            (self.tell)(news);
        }
    }
}

/// The next line of a watch; it never comes if there is none.
async fn next_line(lines: &mut Option<Lines>) -> Result<Option<Vec<u8>>, String> {
    match lines {
        Some(lines) => lines.next(SILENCE_MAX).await.map_err(|error| error.to_string()),
        None => std::future::pending().await,
    }
}
