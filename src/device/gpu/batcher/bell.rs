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
    /// or one that has waited so long when another comes;
    pub(super) patience_ns: u64,
    /// or any at all once so many submissions are reported, because none is left then;
    pub(super) unreported: usize,
    /// but none before a submission has ended.
    pub(super) full: bool,
    /// Whether anything waits for an end.
    pub(in crate::device::gpu) ends: bool,
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
            Haste::Order => self.are_due(alarm, now_ns),
            Haste::End | Haste::LastEnd => alarm.ends || self.orders > 0,
            Haste::Urgent => true,
        })
    }

    /// Whether orders have waited enough, or are enough, or nothing is left to wait for.
    fn are_due(&self, alarm: Alarm, now_ns: u64) -> bool {
        let enough = self.orders >= alarm.orders || now_ns.saturating_sub(self.first_ns) >= alarm.patience_ns;
        self.orders > 0 && (self.reported >= alarm.unreported || (self.ended || !alarm.full) && enough)
    }

    /// Whether there is no need to sleep.
    pub(in crate::device::gpu) fn rings(&self, alarm: Alarm, now_ns: u64) -> bool {
        let ended = self.ended || self.reported > 0;
        self.urgent || ended && (alarm.ends || self.orders > 0) || self.are_due(alarm, now_ns)
    }

    /// The thread looks: when did the first order come?
    pub(in crate::device::gpu) fn stop(&mut self) -> Option<u64> {
        let Self { orders, first_ns, .. } = std::mem::take(self);
        (orders > 0).then_some(first_ns)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const ALARM: Alarm = Alarm { orders: 3, patience_ns: 1000, unreported: 2, full: false, ends: false };

    fn rings(alarm: Alarm, all: &[(Haste, u64)]) -> Vec<bool> {
        let mut bell = Bell::default();
        all.iter().map(|&(haste, at)| bell.note(haste, at, Some(alarm))).collect()
    }

    #[test]
    fn orders_wait_for_more_or_for_so_long() {
        use Haste::*;
        assert_eq!(rings(ALARM, &[(Order, 0), (Order, 1), (Order, 2)]), [false, false, true]);
        assert_eq!(rings(ALARM, &[(Order, 7), (Order, 1007)]), [false, true]);
        assert_eq!(rings(ALARM, &[(Order, 0), (Urgent, 1)]), [false, true]);
    }

    #[test]
    fn where_all_is_full_they_wait_for_an_end() {
        use Haste::*;
        let full = Alarm { full: true, ..ALARM };
        assert_eq!(
            rings(full, &[(Order, 0), (Order, 1), (Order, 2), (Order, 9999), (End, 9999)]),
            [false, false, false, false, true]
        );
        assert_eq!(
            rings(full, &[(End, 0), (Order, 0), (Order, 1), (Order, 2)]),
            [false, false, false, true],
            "there is place already"
        );
    }

    #[test]
    fn an_end_matters_where_anything_waits_for_it() {
        use Haste::*;
        assert_eq!(rings(ALARM, &[(End, 0), (LastEnd, 1), (LastEnd, 2)]), [false; 3]);
        assert_eq!(rings(ALARM, &[(End, 0), (Order, 0), (LastEnd, 1)]), [false, false, true]);
        assert_eq!(rings(Alarm { ends: true, ..ALARM }, &[(End, 0)]), [true]);
        assert_eq!(rings(ALARM, &[(LastEnd, 0), (LastEnd, 0), (Order, 1)]), [false, false, true], "nothing else will come");
    }

    #[test]
    fn nobody_is_woken_who_does_not_sleep_and_what_came_meanwhile_is_seen() {
        let mut bell = Bell::default();
        assert!(!bell.note(Haste::Urgent, 5, None) && bell.rings(ALARM, 5));
        assert_eq!((bell.stop(), bell.rings(ALARM, 6)), (None, false));
        assert!(!bell.note(Haste::Order, 7, None) && !bell.rings(ALARM, 8) && bell.rings(ALARM, 1007));
        assert_eq!(bell.stop(), Some(7));
    }
}
