//! What is under way, by ticket.
//!
//! Owns: [`Tickets`]. Must not know: what it keeps. Invariant: a ticket names one thing from when it is given until that is taken out.

use super::batcher::Ticket;

/// Things, and the places that are free.
pub(super) struct Tickets<T> {
    places: Vec<Option<T>>,
    free: Vec<usize>,
}

impl<T> Default for Tickets<T> {
    fn default() -> Self {
        Self { places: Vec::new(), free: Vec::new() }
    }
}

impl<T> Tickets<T> {
    /// Keeps a thing.
    pub(super) fn put(&mut self, thing: T) -> Ticket {
        match self.free.pop() {
            Some(at) => {
                self.places[at] = Some(thing);
                Ticket(at)
            }
            None => {
                self.places.push(Some(thing));
                Ticket(self.places.len() - 1)
            }
        }
    }

    pub(super) fn get(&self, ticket: Ticket) -> Option<&T> {
        self.places.get(ticket.0)?.as_ref()
    }

    /// The thing, out of here for a while: its ticket stays its own.
    pub(super) fn lend(&mut self, ticket: Ticket) -> Option<T> {
        self.places.get_mut(ticket.0)?.take()
    }

    /// What was lent is back.
    pub(super) fn give(&mut self, ticket: Ticket, thing: T) {
        if let Some(place) = self.places.get_mut(ticket.0) {
            *place = Some(thing);
        }
    }

    /// The ticket, and what it names, are over.
    pub(super) fn take(&mut self, ticket: Ticket) -> Option<T> {
        let thing = self.lend(ticket);
        self.free.push(ticket.0);
        thing
    }

    /// All that is kept.
    pub(super) fn drain(&mut self) -> Vec<T> {
        self.free.clear();
        self.places.drain(..).flatten().collect()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_ticket_is_given_again_only_when_it_is_over() {
        let mut all = Tickets::default();
        let [a, b] = ["a", "b"].map(|name| all.put(name));
        assert_eq!(all.lend(a), Some("a"));
        assert_ne!(all.put("c"), a, "a is only lent");
        all.give(a, "a");
        assert_eq!((all.get(a), all.get(b)), (Some(&"a"), Some(&"b")));
        assert_eq!((all.take(a), all.get(a)), (Some("a"), None));
        assert_eq!(all.put("d"), a);
        assert_eq!(all.take(b), Some("b"));
        assert_eq!(all.drain(), ["d", "c"]);
    }
}
