//! What the service thread is told.
//!
//! Owns: [`Inbox`]. Must not know: what messages mean, but how soon each is to be seen ([`Haste`](super::batcher::Haste)). Invariant: what was sent is received, in
//! order, or is given back to who sent it; a thread that sleeps is woken when its alarm says so, by one call of the system, not by one for each message until it runs.

use std::collections::VecDeque;
use std::sync::{Condvar, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use super::batcher::{Alarm, Bell};
use super::service::Message;

/// Messages for one thread.
pub(super) struct Inbox {
    began: Instant,
    letters: Mutex<Letters>,
    changed: Condvar,
}

#[derive(Default)]
struct Letters {
    messages: VecDeque<Message>,
    bell: Bell,
    /// What the thread waits for, while it sleeps and was not woken.
    asleep: Option<Alarm>,
    closed: bool,
}

impl Default for Inbox {
    fn default() -> Self {
        Self { began: Instant::now(), letters: Mutex::default(), changed: Condvar::new() }
    }
}

impl Inbox {
    fn letters(&self) -> MutexGuard<'_, Letters> {
        self.letters.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// The time by which [`Inbox::now_ns`] counts.
    pub(super) fn began(&self) -> Instant {
        self.began
    }

    /// Nanoseconds since it was made.
    pub(super) fn now_ns(&self) -> u64 {
        self.began.elapsed().as_nanos() as u64
    }

    /// Sends a message; gives it back if nobody will receive it.
    #[allow(clippy::result_large_err)] // once, at the end
    pub(super) fn send(&self, message: Message) -> Result<(), Message> {
        let (haste, now_ns) = (message.haste(), self.now_ns());
        let wake = {
            let mut letters = self.letters();
            if letters.closed {
                return Err(message);
            }
            letters.messages.push_back(message);
            let alarm = letters.asleep;
            let wake = letters.bell.note(haste, now_ns, alarm);
            if wake {
                letters.asleep = None;
            }
            wake
        };
        if wake {
            self.changed.notify_one();
        }
        Ok(())
    }

    /// Moves all messages to `into`, which is empty; sleeps until the alarm goes off, or `until`. Says when the first came that could wait.
    pub(super) fn receive(&self, into: &mut VecDeque<Message>, alarm: Alarm, until: Option<Instant>) -> Option<u64> {
        let mut letters = self.letters();
        letters.asleep = Some(alarm).filter(|&alarm| !letters.bell.rings(alarm));
        while let Some(alarm) = letters.asleep {
            let now = Instant::now();
            let late = alarm.late_ns.map(|ns| self.began + Duration::from_nanos(ns));
            if late.is_some_and(|late| late <= now) {
                letters.asleep = Some(alarm.late()).filter(|&alarm| !letters.bell.rings(alarm));
                continue;
            }
            if until.is_some_and(|until| until <= now) {
                break;
            }
            let left = until.into_iter().chain(late).min().map(|until| until.saturating_duration_since(now));
            letters = match left {
                None => self.changed.wait(letters).unwrap_or_else(PoisonError::into_inner),
                Some(left) => self.changed.wait_timeout(letters, left).unwrap_or_else(PoisonError::into_inner).0,
            };
        }
        letters.asleep = None;
        std::mem::swap(into, &mut letters.messages);
        letters.bell.stop()
    }

    /// While this is there, messages are received.
    pub(super) fn open(&self) -> OpenInbox<'_> {
        OpenInbox(self)
    }

    /// Nothing is received any more; what was not, is returned.
    pub(super) fn close(&self) -> VecDeque<Message> {
        let mut letters = self.letters();
        letters.closed = true;
        std::mem::take(&mut letters.messages)
    }
}

/// Closes an inbox when its reader ends, however that comes about.
pub(super) struct OpenInbox<'a>(&'a Inbox);

impl Drop for OpenInbox<'_> {
    fn drop(&mut self) {
        drop(self.0.close()); // what is in it says that it is lost
    }
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use super::super::batcher::{Batcher, Limits};
    use super::*;

    /// Of a GPU that has nothing to do.
    fn idle() -> Alarm {
        Batcher::new(Limits { in_flight: 3, down_bytes: 1, piece_bytes: 1, up_bytes: 1 }).alarm(0)
    }

    #[test]
    fn what_is_sent_is_received_or_given_back() {
        let inbox = Arc::new(Inbox::default());
        let mut found = VecDeque::new();
        let began = Instant::now();
        inbox.receive(&mut found, idle(), Some(began + Duration::from_millis(20)));
        assert!(found.is_empty() && began.elapsed() >= Duration::from_millis(20));
        let sender = inbox.clone();
        let thread = std::thread::spawn(move || {
            while sender.letters().asleep.is_none() {
                std::thread::yield_now();
            }
            assert!(sender.send(Message::Emptied(7)).is_ok());
            assert!(sender.letters().asleep.is_some(), "nothing waits for it");
            assert!(sender.send(Message::Compiled).is_ok());
        });
        inbox.receive(&mut found, idle(), None);
        assert!(matches!(found.pop_front(), Some(Message::Emptied(7))));
        assert!(matches!(found.pop_front(), Some(Message::Compiled)));
        thread.join().unwrap();
        assert!(inbox.send(Message::Rest).is_ok());
        assert_eq!(inbox.close().len(), 1);
        assert!(matches!(inbox.send(Message::Emptied(8)), Err(Message::Emptied(8))));
    }
}
