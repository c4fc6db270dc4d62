//! From choices, of which the first one that fits counts, to the routes of a listener.
//!
//! A route of ringway asks for a name, for ALPN, or for what the first bytes are; the first one that fits counts, as in
//! both other languages. Three things have no word of their own:
//!
//! | wanted | written |
//! |---|---|
//! | clients that fit no route are refused | `unmatched = "refuse"`, and no pool where ringway can do without |
//! | clients that fit this route are refused | the route denies every network; its pool is any one |
//! | every client, before other routes | what follows is never reached, so it is left out |
//!
//! `protocol = "tls"` beside a name or ALPN says nothing more: only TLS has those.

use super::note::Origin;
use super::sheet::{KeyTable, ListenerSheet, RouteSheet, Written};
use crate::config::keys::{Default, KEYS, Section};

/// What a client must have said first.
#[derive(Clone, Debug, Eq, PartialEq)]
pub enum Test {
    /// One of these server names.
    Names(Vec<String>),
    /// One of these protocols in ALPN.
    Alpn(Vec<String>),
    /// What its first bytes are: `tls`, `ssh`, `http`.
    Protocol(&'static str),
}

/// Where a client goes.
#[derive(Clone, Debug, Eq, PartialEq)]
pub enum Way {
    /// To a pool.
    Pool(String),
    /// To one of several pools, by weight.
    Split(Vec<(String, u64)>),
    /// It is refused.
    Refused,
}

/// A way for clients that pass every test.
#[derive(Clone, Debug, Eq, PartialEq)]
pub struct Choice {
    /// All of them must fit; none fits every client.
    pub tests: Vec<Test>,
    /// Where such a client goes.
    pub way: Way,
    /// The line that leads there.
    pub origin: Origin,
}

/// Every client, in the lists of a route.
const EVERY: [&str; 3] = ["0.0.0.0/0", "::/0", "unix:"];

/// Writes choices into a listener. A choice without a test is the last that counts. `preread_timeout` is written where
/// there are routes and it is known.
///
/// At least one way must lead to a pool: a listener that refuses every client is one that is better left out.
///
/// # Errors
/// Why the choices cannot be written, and the line.
pub fn write(
    listener: &mut ListenerSheet,
    choices: Vec<Choice>,
    preread_timeout: Option<&(String, Origin)>,
) -> Result<(), (Origin, String)> {
    let (mut tested, mut default) = (Vec::new(), None);
    for choice in choices {
        if choice.tests.is_empty() {
            default = Some(choice);
            break;
        }
        tested.push(choice);
    }
    let (default_way, default_origin) = match default {
        Some(choice) => (choice.way, choice.origin),
        None => (Way::Refused, listener.origin.clone()),
    };
    let some_pool = tested.iter().map(|choice| &choice.way).chain([&default_way]).find_map(|way| match way {
        Way::Pool(pool) => Some(pool.clone()),
        Way::Split(parts) => parts.first().map(|(pool, _)| pool.clone()),
        Way::Refused => None,
    });
    let Some(some_pool) = some_pool else {
        return Err((default_origin, "no client gets to a server, so there is nothing to listen for".to_string()));
    };
    match &default_way {
        Way::Refused => {
            listener.keys.set("unmatched", "refuse", &default_origin);
            if is_pool_required() {
                listener.keys.set("pool", some_pool.clone(), &default_origin);
            }
        }
        way => set_way(&mut listener.keys, way, &default_origin),
    }
    if tested.is_empty() {
        return Ok(());
    }
    if let Some((timeout, origin)) = preread_timeout {
        listener.keys.set("preread_timeout", timeout.clone(), origin);
    }
    for choice in tested {
        let mut keys = KeyTable::default();
        for test in &choice.tests {
            set_test(&mut keys, test, &choice.origin)?;
        }
        match &choice.way {
            Way::Refused => {
                keys.set("deny", EVERY.map(str::to_string).to_vec(), &choice.origin);
                keys.set("pool", some_pool.clone(), &choice.origin);
            }
            way => set_way(&mut keys, way, &choice.origin),
        }
        listener.routes.push(RouteSheet { origin: choice.origin, keys });
    }
    Ok(())
}

/// Whether ringway wants the pool of a listener to be named, also where no client gets it.
fn is_pool_required() -> bool {
    let pool = KEYS.iter().find(|key| key.section == Section::Listener && key.name == "pool");
    pool.is_some_and(|key| matches!(key.default, Default::Required(_)))
}

/// Sets `pool` or `split`.
fn set_way(keys: &mut KeyTable, way: &Way, origin: &Origin) {
    match way {
        Way::Pool(pool) => keys.set("pool", pool.clone(), origin),
        Way::Split(parts) => keys.set("split", Written::Split(parts.clone()), origin),
        Way::Refused => {}
    }
}

/// Sets the key of a test. `protocol = "tls"` says nothing beside a name or ALPN, which only TLS has.
///
/// Two conditions on the same thing would need names that fit both patterns; nothing that was read has this.
fn set_test(keys: &mut KeyTable, test: &Test, origin: &Origin) -> Result<(), (Origin, String)> {
    let twice = |what: &str| Err((origin.clone(), format!("a route takes one condition on {what}")));
    match test {
        Test::Names(names) => match keys.get("sni") {
            Some(Written::Texts(set)) if *set == *names || *names == ["*"] => Ok(()),
            Some(Written::Texts(set)) if *set != ["*"] => twice("the server name"),
            _ => {
                keys.set("sni", names.clone(), origin);
                keys.remove("protocol");
                Ok(())
            }
        },
        Test::Alpn(_) if keys.get("alpn").is_some() => twice("ALPN"),
        Test::Alpn(protocols) => {
            keys.set("alpn", protocols.clone(), origin);
            keys.remove("protocol");
            Ok(())
        }
        Test::Protocol("tls") if keys.get("sni").is_some() || keys.get("alpn").is_some() => Ok(()),
        Test::Protocol(protocol) => match keys.text("protocol") {
            Some(set) if set != *protocol => twice("the protocol"),
            _ if keys.get("sni").is_some() || keys.get("alpn").is_some() => twice("what the client says first"),
            _ => {
                keys.set("protocol", *protocol, origin);
                Ok(())
            }
        },
    }
}
