//! Connections that were accepted although there is no room for them. They wait here as if they were still in the
//! backlog.
//!
//! There are few. Near a limit nothing is accepted before there is room, so it takes a limit that was lowered, or more
//! clients in one moment than all backlogs hold. Each connection has a descriptor, and those are part of the sum in
//! `app::limits`. Which of them is served next, and when, is decided in `limit`.

use std::collections::VecDeque;

use crate::base::id::ListenerId;
use crate::kernel::Fd;

/// The connections, in the order in which they came.
#[derive(Default)]
pub(super) struct Early {
    /// The descriptor of each, and its listener.
    queue: VecDeque<(Fd, ListenerId)>,
    /// By listener id: how many of the connections belong to it.
    counts: Vec<u32>,
}

impl Early {
    /// Adds the newest one.
    pub fn push(&mut self, fd: Fd, listener: ListenerId) {
        if self.counts.len() <= listener.index() {
            self.counts.resize(listener.index() + 1, 0);
        }
        self.counts[listener.index()] += 1;
        self.queue.push_back((fd, listener));
    }

    /// The connection at this place, counted from the oldest.
    pub fn get(&self, place: usize) -> Option<(Fd, ListenerId)> {
        self.queue.get(place).copied()
    }

    /// Takes the connection at this place out.
    pub fn remove(&mut self, place: usize) {
        if let Some((_, listener)) = self.queue.remove(place) {
            self.counts[listener.index()] -= 1;
        }
    }

    /// Takes the newest one out; the caller closes it.
    pub fn pop_youngest(&mut self) -> Option<Fd> {
        let (fd, listener) = self.queue.pop_back()?;
        self.counts[listener.index()] -= 1;
        Some(fd)
    }

    /// Whether a connection of this listener waits.
    pub fn has(&self, listener: ListenerId) -> bool {
        self.counts.get(listener.index()).is_some_and(|&count| count > 0)
    }

    /// How many wait.
    pub fn len(&self) -> usize {
        self.queue.len()
    }

    /// Whether none waits.
    pub fn is_empty(&self) -> bool {
        self.queue.is_empty()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn it_knows_whose_clients_wait() {
        let mut early = Early::default();
        let (one, other) = (ListenerId(0), ListenerId(70));
        early.push(Fd(1), one);
        early.push(Fd(2), other);
        early.push(Fd(3), one);
        assert!(early.has(one) && early.has(other) && !early.has(ListenerId(5)) && !early.has(ListenerId(500)));
        early.remove(1);
        assert!(!early.has(other) && early.has(one));
        assert_eq!(early.get(1), Some((Fd(3), one)), "in the order of their coming");
        assert_eq!(early.pop_youngest(), Some(Fd(3)));
        assert!(early.has(one), "the first one still waits");
        assert_eq!(early.pop_youngest(), Some(Fd(1)));
        assert!(!early.has(one) && early.is_empty() && early.pop_youngest().is_none());
    }
}
