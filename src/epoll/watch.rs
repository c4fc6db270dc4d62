//! What is known of each descriptor that is watched, and what is in flight on it.

use slab::Slab;

use crate::kernel::Fd;
use crate::kernel::token::Token;

/// What is in flight in the direction that a descriptor is read in.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub enum Reading {
    /// Nothing.
    Nothing,
    /// A receive.
    Recv,
    /// A poll for anything to read.
    Readable,
    /// An accept that goes on.
    Accept,
    /// A poll for a connection to accept.
    Acceptable,
}

/// What is in flight in the direction that a descriptor is written in.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub enum Writing {
    /// A poll for room, once.
    Writable,
    /// A poll for room that goes on.
    WritableEdge,
    /// A connect.
    Connect,
}

/// One descriptor. There are two for each session, and most are idle: what few have is in a box.
#[derive(Debug)]
pub struct Watch {
    /// Which descriptor.
    pub fd: Fd,
    /// Tells it from others that have had this place.
    generation: u32,
    /// The token of `reading`, packed.
    reads: u64,
    /// What is in flight.
    pub reading: Reading,
    /// There may be something to read: so it was reported, and nothing has shown the contrary since.
    pub readable: bool,
    /// A short receive does not show the contrary, because something else follows: a FIN, a failure, urgent data.
    pub ends: bool,
    /// The last receive filled its buffer, so that the next one is given two: a message of just one buffer would cost a
    /// receive that brings nothing.
    pub is_wide: bool,
    /// Bytes that a receive may still bring.
    pub credit: u32,
    rest: Option<Box<Rest>>,
}

#[derive(Debug, Default)]
struct Rest {
    writing: Option<(Token, Writing)>,
    /// It may be in flight beside a receive, which follows as soon as enough is known.
    incoming: Option<Token>,
    hangup: Option<Token>,
}

impl Watch {
    /// Puts that in flight; nothing else may be, in this direction.
    #[inline]
    pub fn read(&mut self, reading: Reading, token: Token) {
        debug_assert_eq!(self.reading, Reading::Nothing, "two of {token:?} are in flight");
        (self.reading, self.reads) = (reading, token.pack());
    }

    /// The token of what is in flight.
    #[inline]
    pub fn reads(&self) -> Option<Token> {
        if self.reading == Reading::Nothing { None } else { Token::unpack(self.reads) }
    }

    /// What is in flight in the other direction.
    #[inline]
    pub fn writing(&self) -> Option<(Token, Writing)> {
        self.rest.as_ref()?.writing
    }

    /// Puts that in flight, or nothing.
    pub fn write(&mut self, writing: Option<(Token, Writing)>) {
        self.rest.get_or_insert_default().writing = writing;
        self.tidy();
    }

    /// The token of the poll for the end of the connection.
    #[inline]
    pub fn hangup(&self) -> Option<Token> {
        self.rest.as_ref()?.hangup
    }

    /// Puts such a poll in flight, or none.
    pub fn await_hangup(&mut self, token: Option<Token>) {
        self.rest.get_or_insert_default().hangup = token;
        self.tidy();
    }

    /// The token of the poll for as much as the low-water mark says.
    #[inline]
    pub fn incoming(&self) -> Option<Token> {
        self.rest.as_ref()?.incoming
    }

    /// Puts such a poll in flight, or none.
    pub fn await_incoming(&mut self, token: Option<Token>) {
        self.rest.get_or_insert_default().incoming = token;
        self.tidy();
    }

    /// Whether anything is in flight beside `reading`.
    #[inline]
    pub fn has_more(&self) -> bool {
        self.rest.is_some()
    }

    fn tidy(&mut self) {
        if let Some(rest) = &self.rest
            && rest.writing.is_none()
            && rest.incoming.is_none()
            && rest.hangup.is_none()
        {
            self.rest = None;
        }
    }
}

/// Room that is there from the start. It takes addresses and no memory until it is used. Lists that grow leave holes
/// behind, which cost a session half as much again.
const ROOM: usize = 1 << 16;

/// All that are watched.
pub struct Watches {
    list: Slab<Watch>,
    /// By descriptor: one more than its place in the list, 0 for none.
    places: Vec<u32>,
    generation: u32,
}

impl Default for Watches {
    fn default() -> Watches {
        Watches { list: Slab::with_capacity(ROOM), places: Vec::with_capacity(ROOM), generation: 0 }
    }
}

/// Of a descriptor that is watched: where it is known.
pub type Place = usize;

impl Watches {
    /// Where that descriptor is known, if it is.
    #[inline]
    pub fn find(&self, fd: Fd) -> Option<Place> {
        let place = *self.places.get(usize::try_from(fd.0).ok()?)?;
        place.checked_sub(1).map(|place| place as usize)
    }

    /// What is known of it.
    #[inline]
    pub fn get(&mut self, place: Place) -> &mut Watch {
        &mut self.list[place]
    }

    /// Of a report with that key; `None` if it is about one that is gone.
    #[inline]
    pub fn of_key(&mut self, key: u64) -> Option<Place> {
        let place = (key as u32) as usize;
        let is_it = |watch: &Watch| watch.generation == (key >> 32) as u32;
        self.list.get(place).filter(|watch| is_it(watch)).map(|_| place)
    }

    /// The key of reports about it.
    pub fn key(&self, place: Place) -> u64 {
        u64::from(self.list[place].generation) << 32 | place as u64
    }

    /// Knows a descriptor, that is not known yet.
    pub fn add(&mut self, fd: Fd) -> Place {
        debug_assert!(self.find(fd).is_none());
        // The largest ones are left to keys that belong to no descriptor.
        self.generation = (self.generation + 1) % (u32::MAX - 1);
        let place = self.list.insert(Watch {
            fd,
            generation: self.generation,
            reads: 0,
            reading: Reading::Nothing,
            readable: false,
            ends: false,
            is_wide: false,
            credit: 0,
            rest: None,
        });
        let number = usize::try_from(fd.0).unwrap_or(0);
        if self.places.len() <= number {
            self.places.resize(number + 1, 0);
        }
        self.places[number] = place as u32 + 1;
        place
    }

    /// Knows it no more.
    pub fn remove(&mut self, fd: Fd) {
        let Some(place) = self.find(fd) else { return };
        let watch = self.list.remove(place);
        let is_idle = watch.reading == Reading::Nothing && watch.rest.is_none();
        debug_assert!(is_idle, "something is in flight on a descriptor that is closed: {watch:?}");
        self.places[fd.0 as usize] = 0;
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::kernel::token::Operation;

    #[test]
    fn a_report_about_a_descriptor_that_was_closed_concerns_nobody() {
        let mut watches = Watches::default();
        let old = watches.add(Fd(7));
        let key = watches.key(old);
        assert_eq!((watches.of_key(key), watches.find(Fd(7))), (Some(old), Some(old)));
        watches.remove(Fd(7));
        assert_eq!((watches.of_key(key), watches.find(Fd(7))), (None, None));
        let new = watches.add(Fd(7));
        assert_eq!((new, watches.of_key(key)), (old, None), "the place is another one's");
    }

    #[test]
    fn an_idle_descriptor_is_small() {
        assert!(size_of::<Watch>() <= 32, "{}", size_of::<Watch>());
        let mut watches = Watches::default();
        let place = watches.add(Fd(3));
        let watch = watches.get(place);
        watch.write(Some((Token::plain(Operation::Connect, 0), Writing::Connect)));
        watch.await_hangup(Some(Token::plain(Operation::HangupClient, 0)));
        watch.write(None);
        assert!(watch.hangup().is_some() && watch.rest.is_some());
        watch.await_hangup(None);
        assert!(watch.rest.is_none());
    }
}
