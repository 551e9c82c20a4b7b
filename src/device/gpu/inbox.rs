//! What the service thread is told.
//!
//! Owns: [`Inbox`], and when it wakes the thread. Must not know: what messages mean, but which are launches. Invariant: what was sent is received, in order, or is
//! given back to who sent it; a thread that sleeps is woken by the first message that it may act on.
//!
//! Launches come in their hundreds, one by one, while others are under way; to wake a thread for each costs more than the launch. So the thread says how many it
//! waits for.

use std::collections::VecDeque;
use std::sync::{Condvar, Mutex, MutexGuard, PoisonError};
use std::time::Instant;

use super::service::Message;

/// Messages for one thread.
#[derive(Default)]
pub(super) struct Inbox {
    letters: Mutex<Letters>,
    changed: Condvar,
}

#[derive(Default)]
struct Letters {
    messages: VecDeque<Message>,
    /// Launches that must still come before the thread is woken for them.
    launches: usize,
    asleep: bool,
    closed: bool,
}

impl Inbox {
    fn letters(&self) -> MutexGuard<'_, Letters> {
        self.letters.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Sends a message; gives it back if nobody will receive it.
    #[allow(clippy::result_large_err)] // once, at the end
    pub(super) fn send(&self, message: Message) -> Result<(), Message> {
        let wake = {
            let mut letters = self.letters();
            if letters.closed {
                return Err(message);
            }
            let is_launch = matches!(message, Message::Launch(_));
            letters.messages.push_back(message);
            if is_launch {
                letters.launches = letters.launches.saturating_sub(1);
            }
            letters.asleep && (!is_launch || letters.launches == 0)
        };
        if wake {
            self.changed.notify_one();
        }
        Ok(())
    }

    /// Moves all messages to `into`; sleeps until there is one. Launches alone end the sleep when there are `launches` of them. At `until` it ends in any case.
    pub(super) fn receive(&self, into: &mut VecDeque<Message>, launches: usize, until: Option<Instant>) {
        let mut letters = self.letters();
        let waiting = letters.messages.iter().filter(|message| matches!(message, Message::Launch(_))).count();
        letters.launches = launches.saturating_sub(waiting);
        loop {
            let others = letters.messages.iter().any(|message| !matches!(message, Message::Launch(_)));
            if others || (!letters.messages.is_empty() && letters.launches == 0) {
                break;
            }
            letters.asleep = true;
            letters = match until.map(|until| until.saturating_duration_since(Instant::now())) {
                None => self.changed.wait(letters).unwrap_or_else(PoisonError::into_inner),
                Some(left) if left.is_zero() => break,
                Some(left) => self.changed.wait_timeout(letters, left).unwrap_or_else(PoisonError::into_inner).0,
            };
        }
        letters.asleep = false;
        into.append(&mut letters.messages);
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
    use std::time::Duration;

    use super::*;

    #[test]
    fn what_is_sent_is_received_or_given_back() {
        let inbox = Arc::new(Inbox::default());
        let mut found = VecDeque::new();
        let began = Instant::now();
        inbox.receive(&mut found, 1, Some(began + Duration::from_millis(20)));
        assert!(found.is_empty() && began.elapsed() >= Duration::from_millis(20));
        let sender = inbox.clone();
        let thread = std::thread::spawn(move || {
            std::thread::sleep(Duration::from_millis(20));
            assert!(sender.send(Message::Emptied(7)).is_ok());
        });
        inbox.receive(&mut found, usize::MAX, None);
        assert!(matches!(found.pop_front(), Some(Message::Emptied(7))), "woken by what is no launch");
        thread.join().unwrap();
        assert!(inbox.send(Message::Rest).is_ok());
        assert_eq!(inbox.close().len(), 1);
        assert!(matches!(inbox.send(Message::Emptied(8)), Err(Message::Emptied(8))));
    }
}
