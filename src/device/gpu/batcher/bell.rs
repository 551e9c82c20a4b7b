//! When the thread that submits is woken.
//!
//! Owns: [`Bell`], [`Alarm`]. Must not know: threads, messages. Invariant: what has come is seen as soon as there is anything to decide about it; nothing is left
//! lying while the thread sleeps for want of what does not come.
//!
//! Launches and small moves come in their hundreds, one by one, while others are under way; to wake a thread for each costs more than the launch.

use super::{GATHER, MUCH};

/// Moves of so many bytes at most gather as launches do.
const LITTLE: u64 = MUCH / GATHER as u64;

/// How soon something that came is to be seen.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(in crate::device::gpu) enum Haste {
    /// It is work, of which more may gather.
    Order,
    /// Something is over: it matters where anything waits.
    End,
    /// The last that will be heard of a submission.
    LastEnd,
    Urgent,
}

impl Haste {
    /// Of a move of so many bytes; `whole` unless more of its chunk comes behind it, and waits for it.
    pub(in crate::device::gpu) fn of_move(bytes: u64, whole: bool) -> Self {
        if whole && bytes <= LITTLE { Self::Order } else { Self::Urgent }
    }
}

/// What is worth waking for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(in crate::device::gpu) struct Alarm {
    /// So many orders,
    pub(super) orders: usize,
    /// or any at all once so many submissions are reported, because none is left then,
    pub(super) unreported: usize,
    /// or from this time on, by when it would be decided what to do about one;
    pub(in crate::device::gpu) late_ns: Option<u64>,
    /// but none before a submission has ended.
    pub(super) full: bool,
    /// Whether anything waits for an end.
    pub(in crate::device::gpu) ends: bool,
}

impl Alarm {
    /// The same, from that time on.
    pub(in crate::device::gpu) fn late(self) -> Self {
        Self { orders: 1, late_ns: None, ..self }
    }
}

/// What has come since the thread last looked.
#[derive(Clone, Copy, Debug, Default)]
pub(in crate::device::gpu) struct Bell {
    /// Orders, and when the first of them came.
    orders: usize,
    first_ns: u64,
    urgent: bool,
    ended: bool,
    /// Submissions that are reported.
    reported: usize,
}

impl Bell {
    /// Something came at this time; says whether a thread that waits for `alarm` is to be woken by it.
    pub(in crate::device::gpu) fn note(&mut self, haste: Haste, now_ns: u64, alarm: Option<Alarm>) -> bool {
        match haste {
            Haste::Order => {
                self.first_ns = if self.orders == 0 { now_ns } else { self.first_ns };
                self.orders += 1;
            }
            Haste::End => self.ended = true,
            Haste::LastEnd => self.reported += 1,
            Haste::Urgent => self.urgent = true,
        }
        alarm.is_some_and(|alarm| match haste {
            Haste::Order => self.are_due(alarm),
            Haste::End | Haste::LastEnd => alarm.ends || self.orders > 0,
            Haste::Urgent => true,
        })
    }

    /// Whether orders are enough, or nothing is left to wait for.
    fn are_due(&self, alarm: Alarm) -> bool {
        let enough = self.orders >= alarm.orders && (self.ended || !alarm.full);
        self.orders > 0 && (enough || self.reported >= alarm.unreported)
    }

    /// Whether there is no need to sleep.
    pub(in crate::device::gpu) fn rings(&self, alarm: Alarm) -> bool {
        let ended = self.ended || self.reported > 0;
        self.urgent || ended && (alarm.ends || self.orders > 0) || self.are_due(alarm)
    }

    /// The thread looks: when did the first order come?
    pub(in crate::device::gpu) fn stop(&mut self) -> Option<u64> {
        let Self { orders, first_ns, .. } = std::mem::take(self);
        (orders > 0).then_some(first_ns)
    }
}

#[cfg(test)]
mod tests {
    use super::Haste::*;
    use super::*;

    const ALARM: Alarm = Alarm { orders: 3, unreported: 2, late_ns: Some(1000), full: false, ends: false };

    fn rings(alarm: Alarm, all: &[Haste]) -> Vec<bool> {
        let mut bell = Bell::default();
        all.iter().map(|&haste| bell.note(haste, 0, Some(alarm))).collect()
    }

    #[test]
    fn orders_wait_for_more_until_it_is_late() {
        assert_eq!(rings(ALARM, &[Order, Order, Order]), [false, false, true]);
        assert_eq!(rings(ALARM, &[Order, Urgent]), [false, true]);
        assert_eq!(rings(ALARM.late(), &[Order]), [true]);
    }

    #[test]
    fn where_all_is_full_they_wait_for_an_end() {
        let full = Alarm { full: true, ..ALARM };
        assert_eq!(rings(full, &[Order, Order, Order, Order, End]), [false, false, false, false, true]);
        assert_eq!(rings(full.late(), &[Order, Order, End]), [false, false, true]);
        assert_eq!(rings(full, &[End, Order, Order, Order]), [false, false, false, true], "there is place already");
    }

    #[test]
    fn an_end_matters_where_anything_waits_for_it() {
        assert_eq!(rings(ALARM, &[End, LastEnd, LastEnd]), [false; 3]);
        assert_eq!(rings(ALARM, &[End, Order, LastEnd]), [false, false, true]);
        assert_eq!(rings(Alarm { ends: true, ..ALARM }, &[End]), [true]);
        assert_eq!(rings(ALARM, &[LastEnd, LastEnd, Order]), [false, false, true], "nothing else will come");
    }

    #[test]
    fn nobody_is_woken_who_does_not_sleep_and_what_came_meanwhile_is_seen() {
        let mut bell = Bell::default();
        assert!(!bell.note(Urgent, 5, None) && bell.rings(ALARM));
        assert_eq!((bell.stop(), bell.rings(ALARM)), (None, false));
        assert!(!bell.note(Order, 7, None) && !bell.note(Order, 8, None) && !bell.rings(ALARM) && bell.rings(ALARM.late()));
        assert_eq!(bell.stop(), Some(7));
    }
}
