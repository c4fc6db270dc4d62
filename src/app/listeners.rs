//! Binding what the configuration names: at the start, and when it changes while ringway runs.
//!
//! An address that stays keeps its very sockets, and with them the clients that wait in their backlogs.

mod refusal;
mod want;

use std::io;
use std::os::fd::OwnedFd;
use std::sync::{Arc, Weak};
use std::time::Duration;

use crate::base::address::{Address, BindAddress};
use crate::base::id::ListenerId;
use crate::config::model::Config;
use crate::control::sockets::{ListeningSockets, SocketsRefused};
use crate::snapshot::ids::Ids;
use crate::sys::socket_file::{self, AtEnd, SocketFile};
use crate::sys::watched_file::WatchedFile;
use crate::sys::{listener, socket};
use crate::worker::{Errand, ListenSocket, Shared};
pub(super) use refusal::refusal;
use want::{Want, deal, keep, overlaps, takes_clients_of, wanted};

/// After a ringway was killed, the kernel needs a moment to take its ring down, and the ring holds the listeners.
const IN_USE_RETRIES: u32 = 10;
/// Between two attempts: with the retries, half a second in all.
const IN_USE_PAUSE: Duration = Duration::from_millis(50);

/// Every address that is listened on.
pub(super) struct BoundListeners {
    /// How many workers accept.
    workers: usize,
    /// Every address in use, in the order of the configuration.
    places: Vec<ListenerPlace>,
    /// Numbers of addresses are never given out twice.
    next: u32,
    /// Bound by the service manager, or by the ringway we take over from, and not used yet.
    inherited: Vec<(BindAddress, Arc<OwnedFd>)>,
    /// Where the ringway that we take over from listens: our own sockets share these addresses with it. Empty once it
    /// is relieved.
    taken: Vec<BindAddress>,
    /// What a reload has bound and not put into use yet; dropping it closes those sockets.
    prepared: Option<Prepared>,
    /// How workers are told; `None` until they have started.
    shared: Option<Arc<Shared>>,
}

/// An address.
struct ListenerPlace {
    /// By which workers know the address. It is never given to another one.
    number: u32,
    /// What the configuration says of it.
    want: Want,
    /// With the port the kernel chose.
    bound: BindAddress,
    /// Each once. The workers close them, so what only looks at them must not keep them open.
    sockets: Vec<Weak<OwnedFd>>,
    /// Of a unix socket; `None` until it is in use, and if it could not be seen.
    file: Option<WatchedFile>,
}

/// What is bound and not yet in use.
struct Prepared {
    /// By the order of the configuration: a place that stays, with what is wanted of it now, or a new one.
    next: Vec<NextListeners>,
}

/// What becomes of an address with the next configuration.
enum NextListeners {
    /// The place with this index stays, and this is what is wanted of it now.
    Kept(usize, Want),
    /// A new place, with its sockets: they must stay open until a worker has them.
    New(ListenerPlace, Vec<Arc<OwnedFd>>),
}

/// Sockets that are there before ours.
pub(super) enum Before {
    /// None, or those that the service manager has bound.
    Bound(Vec<(BindAddress, OwnedFd)>),
    /// Those of a ringway that goes on to use them until it is relieved: until then nothing about them may change.
    Taken(Vec<(BindAddress, OwnedFd)>),
}

impl Before {
    /// How many sockets that are.
    pub fn len(&self) -> usize {
        let (Before::Bound(sockets) | Before::Taken(sockets)) = self;
        sockets.len()
    }
}

impl BoundListeners {
    /// Binds all listeners for all workers, or none. Returns what each worker gets. Where a ringway is taken over from,
    /// that is nothing yet: they get it when it is committed.
    pub fn bind(
        config: &Config,
        ids: &Ids,
        workers: usize,
        before: Before,
    ) -> anyhow::Result<(BoundListeners, Vec<Vec<ListenSocket>>)> {
        let (inherited, is_taken) = match before {
            Before::Bound(sockets) => (sockets, false),
            Before::Taken(sockets) => (sockets, true),
        };
        let mut taken = Vec::new();
        if is_taken {
            taken.extend(inherited.iter().map(|(place, _)| place.clone()));
        }
        let inherited = inherited.into_iter().map(|(place, fd)| (place, Arc::new(fd))).collect();
        let mut all =
            BoundListeners { workers, places: Vec::new(), next: 0, inherited, taken, prepared: None, shared: None };
        for attempt in 0.. {
            match all.prepare(config) {
                Ok(()) => break,
                Err(refused) if refused.may_pass && attempt < IN_USE_RETRIES => std::thread::sleep(IN_USE_PAUSE),
                Err(refused) => anyhow::bail!(refused.message),
            }
        }
        let mut sockets: Vec<Vec<ListenSocket>> = (0..workers).map(|_| Vec::new()).collect();
        if !is_taken {
            for errand in all.settle(&|name| ids.listener(name)) {
                if let (worker, Errand::Open(socket)) = errand {
                    sockets[worker].push(socket);
                }
            }
        }
        Ok((all, sockets))
    }

    /// Addresses that were bound for us and that nothing in the configuration wants. They are closed.
    pub fn close_unused(&mut self) -> Vec<BindAddress> {
        self.inherited.drain(..).map(|(place, _)| place).collect()
    }

    /// One that the ringway before listens on, if that is taken over from and the address is its own.
    pub fn take(&mut self, place: &BindAddress) -> Option<OwnedFd> {
        let index = self.inherited.iter().position(|(other, _)| other == place && self.taken.contains(other))?;
        Arc::into_inner(self.inherited.swap_remove(index).1)
    }

    /// From now on workers are told what changes.
    pub fn tell(&mut self, shared: Arc<Shared>) {
        self.shared = Some(shared);
    }

    /// Where each listener accepts, with the ports the kernel chose.
    pub fn addresses(&self) -> Vec<(Arc<str>, Address)> {
        self.places.iter().map(|place| (place.want.listener.clone(), place.bound.address.clone())).collect()
    }

    /// Binds an address that was not there before: with the sockets that were handed to this process for it, or with a
    /// socket per worker (SO_REUSEPORT), so that the kernel spreads new connections. `before` is what this
    /// configuration wants and is bound already.
    ///
    /// # Errors
    /// It could not be bound; the message names the key, the address and what to do.
    fn bind_new(&mut self, want: Want, before: &[Want]) -> Result<NextListeners, SocketsRefused> {
        let key = format!("listeners.{}.bind", want.listener);
        // systemd's `ListenStream=PORT` is [::]:PORT, and takes IPv4 as well.
        let holds = |place: &BindAddress| *place != want.place && takes_clients_of(place, &want.place);
        let held = self.inherited.iter().map(|(place, _)| place.clone()).find(holds);
        let refused = |error: io::Error| match &held {
            Some(held) if error.kind() == io::ErrorKind::AddrInUse => SocketsRefused {
                may_pass: false,
                message: format!(
                    "{key}: cannot listen on {}: what started ringway (a .socket unit of systemd?) has bound \
                     {held} for it, which takes these clients as well: write {}",
                    want.place,
                    as_keys(held)
                ),
            },
            _ => SocketsRefused {
                may_pass: error.kind() == io::ErrorKind::AddrInUse,
                message: refusal(&key, &want.place, &error).to_string(),
            },
        };
        // They stay where they are until all is well: what is closed here could be asked for again.
        let inherited = self.inherited.iter().filter(|(place, _)| *place == want.place);
        let mut sockets: Vec<Arc<OwnedFd>> = inherited.map(|(_, fd)| fd.clone()).collect();
        let is_taken = !sockets.is_empty() && self.taken.contains(&want.place);
        // The service manager may have bound it without SO_REUSEPORT, so that no second socket can be bound: all
        // workers share it.
        let is_inherited = !(sockets.is_empty() || is_taken);
        let shares = matches!(want.place.address, Address::Unix(_)) || is_inherited;
        if sockets.is_empty() {
            // SO_REUSEPORT would let us share the port with another ringway of the same user without a word.
            let known = self.places.iter().map(|place| &place.bound).chain(&self.taken);
            let known = known.chain(before.iter().map(|want| &want.place));
            let is_ours = known.into_iter().any(|place| overlaps(place, &want.place));
            let unused = if is_ours { Ok(()) } else { listener::ensure_unused(&want.place, want.freebind) };
            sockets.push(unused.and_then(|()| want.listen(&want.place)).map_err(refused)?);
        } else if !is_taken {
            let adjust = |socket: &Arc<OwnedFd>| listener::adjust(socket, want.backlog, &want.options);
            sockets.iter().try_for_each(adjust).map_err(refused)?;
        }
        let bound = match &want.place.address {
            Address::Tcp(_) => listener::place_of(&sockets[0]).map_err(refused)?,
            Address::Unix(_) => want.place.clone(),
        };
        while !shares && sockets.len() < self.workers {
            match if is_taken { want.bind(&bound) } else { want.listen(&bound) } {
                Ok(socket) => sockets.push(socket),
                // Another user has bound them, or another program without SO_REUSEPORT: workers share what there is.
                Err(_) if is_taken => break,
                Err(error) => return Err(refused(error)),
            }
        }
        let at_end = if is_inherited { AtEnd::Leave } else { AtEnd::Remove };
        let mut place = self.place(want, bound, &sockets);
        // Until it is relieved, the other ringway sees to the file.
        if !is_taken {
            place.watch_file(at_end);
        }
        Ok(NextListeners::New(place, sockets))
    }

    /// A place for these sockets, with the next number. The caller keeps the sockets open.
    fn place(&mut self, want: Want, bound: BindAddress, sockets: &[Arc<OwnedFd>]) -> ListenerPlace {
        self.next += 1;
        let sockets = sockets.iter().map(Arc::downgrade).collect();
        ListenerPlace { number: self.next, want, bound, sockets, file: None }
    }

    /// What each worker is to do so that connections to a new place are accepted.
    fn open(&self, place: &ListenerPlace, sockets: &[Arc<OwnedFd>], listener: ListenerId) -> Vec<(usize, Errand)> {
        let address = place.number;
        let open = |(worker, index): (usize, usize)| {
            let (fd, owner) = (socket::number(&sockets[index]), sockets[index].clone());
            (worker, Errand::Open(ListenSocket { listener, address, fd, owner }))
        };
        deal(sockets.len(), self.workers).map(open).collect()
    }

    /// What each worker is to do so that a place is closed.
    fn close(&self, place: &ListenerPlace) -> impl Iterator<Item = (usize, Errand)> + use<> {
        let address = place.number;
        (0..self.workers).map(move |worker| (worker, Errand::Close { address }))
    }

    /// Puts errands into the mailboxes of the workers; without workers there is nothing to do.
    fn send(&self, errands: Vec<(usize, Errand)>) {
        let Some(shared) = &self.shared else { return };
        errands.into_iter().for_each(|(worker, errand)| shared.send(worker, errand));
    }

    /// Makes what is prepared so; what each worker is to do follows.
    fn settle(&mut self, listener: &dyn Fn(&str) -> Option<ListenerId>) -> Vec<(usize, Errand)> {
        let Some(Prepared { next }) = self.prepared.take() else { return Vec::new() };
        let mut before: Vec<Option<ListenerPlace>> = std::mem::take(&mut self.places).into_iter().map(Some).collect();
        let mut errands = Vec::new();
        for next in next {
            match next {
                NextListeners::Kept(index, want) => {
                    let Some(mut place) = before.get_mut(index).and_then(Option::take) else { continue };
                    if place.want.listener != want.listener
                        && let Some(listener) = listener(&want.listener)
                    {
                        let address = place.number;
                        errands.extend((0..self.workers).map(|worker| (worker, Errand::Assign { address, listener })));
                    }
                    place.change(want);
                    self.places.push(place);
                }
                NextListeners::New(mut place, sockets) => {
                    let Some(listener) = listener(&place.want.listener) else { continue };
                    if self.taken.contains(&place.want.place) {
                        place.adjust();
                        place.set_mode();
                        place.watch_file(AtEnd::Remove);
                    }
                    errands.extend(self.open(&place, &sockets, listener));
                    self.places.push(place);
                }
            }
        }
        let places = &self.places;
        self.inherited.retain(|(unused, _)| !places.iter().any(|place| place.want.place == *unused));
        // With the place goes its file.
        before.into_iter().flatten().for_each(|place| errands.extend(self.close(&place)));
        errands
    }
}

/// How a place is written in the file.
fn as_keys(place: &BindAddress) -> String {
    let interface = place.interface.as_ref().map(|name| format!(" and interface = \"{name}\"")).unwrap_or_default();
    format!("bind = \"{}\"{interface}", place.address)
}

impl ListeningSockets for BoundListeners {
    fn prepare(&mut self, config: &Config) -> Result<(), SocketsRefused> {
        // What was prepared before, and was not wanted in the end, is closed here.
        self.prepared = None;
        super::sources::check(config)?;
        let wanted = wanted(config);
        let bound: Vec<&Want> = self.places.iter().map(|place| &place.want).collect();
        let kept = keep(&bound, &wanted);
        let next = kept.into_iter().enumerate().map(|(index, kept)| match kept {
            Some(place) => Ok(NextListeners::Kept(place, wanted[index].clone())),
            None => self.bind_new(wanted[index].clone(), &wanted[..index]),
        });
        let next = next.collect::<Result<_, SocketsRefused>>()?;
        self.prepared = Some(Prepared { next });
        Ok(())
    }

    fn commit(&mut self, listener: &dyn Fn(&str) -> Option<ListenerId>) {
        let errands = self.settle(listener);
        self.taken.clear();
        for address in self.close_unused() {
            tracing::info!(%address, "the ringway before listened there, and no listener of this configuration does: \
                                      clients can no longer connect there");
        }
        self.send(errands);
    }

    /// The sockets, for a ringway that takes over.
    fn lend(&self) -> Vec<Arc<OwnedFd>> {
        self.places.iter().flat_map(|place| place.sockets.iter().filter_map(Weak::upgrade)).collect()
    }

    fn mend(&mut self, listener: &dyn Fn(&str) -> Option<ListenerId>) {
        for index in 0..self.places.len() {
            let ListenerPlace { want, file: Some(file), .. } = &mut self.places[index] else { continue };
            let Some(listener) = listener(&want.listener) else { continue };
            let Some(socket) = file.mend(|| want.listen(&want.place)) else { continue };
            let (want, bound) = (want.clone(), want.place.clone());
            let sockets = [socket];
            let place = self.place(want, bound, &sockets);
            let mut before = std::mem::replace(&mut self.places[index], place);
            self.places[index].file = before.file.take();
            let errands = self.open(&self.places[index], &sockets, listener).into_iter().chain(self.close(&before));
            self.send(errands.collect());
        }
    }

    fn leave(&mut self) {
        self.places.iter().filter_map(|place| place.file.as_ref()).for_each(|file| file.file().share());
    }
}

impl ListenerPlace {
    /// Begins to watch the file of a unix socket. `at_end` says what becomes of the file when the place goes.
    fn watch_file(&mut self, at_end: AtEnd) {
        let Address::Unix(path) = &self.bound.address else { return };
        self.file = SocketFile::at(path, at_end).map(WatchedFile::new).ok();
    }

    /// What can be changed of a socket that listens is changed.
    fn change(&mut self, want: Want) {
        let before = std::mem::replace(&mut self.want, want);
        if (before.backlog, before.options) != (self.want.backlog, self.want.options) {
            self.adjust();
        }
        if before.unix_mode != self.want.unix_mode {
            self.set_mode();
        }
    }

    /// Gives the sockets the backlog and options that are wanted now. What the kernel refuses is logged, and the old
    /// ones stay.
    fn adjust(&self) {
        for socket in self.sockets.iter().filter_map(Weak::upgrade) {
            if let Err(error) = listener::adjust(&socket, self.want.backlog, &self.want.options) {
                tracing::warn!(address = %self.bound, %error, "the backlog and options of this socket cannot be \
                               changed: the old ones stay");
            }
        }
    }

    /// Gives the file of a unix socket the mode that is wanted now.
    fn set_mode(&self) {
        let Address::Unix(path) = &self.bound.address else { return };
        if let Err(error) = socket_file::set_mode(path, self.want.unix_mode) {
            tracing::warn!(address = %self.bound, %error, "this unix socket keeps the mode that it had");
        }
    }
}
