//! What is known of each kernel on each device, by name.
//!
//! Owns: [`CostEntries`], [`CostId`]. Must not know: files, rates. Invariant: entries are few, however many expressions a process computes: of those that may be forgotten the ones
//! that nobody has asked for the longest are, programs before kernels, and their ids mean nothing from then on.

use std::collections::BTreeMap;

use super::PricedId;
use super::history::History;
use crate::kernel::OpMix;
use crate::shape::DType;

/// Entries that may be forgotten, at most; beyond that, a quarter of them are.
const KEPT: usize = 4096;

/// A (kernel, dtype, device) of one [`CostModel`](super::CostModel). Of a kernel that was not asked for while thousands of others were, it may come to mean nothing: then nothing is learned by it.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct CostId {
    at: u32,
    /// How many had this place before.
    life: u32,
    device: PricedId,
}

impl CostId {
    /// The device or link.
    pub(super) fn device(self) -> PricedId {
        self.device
    }
}

#[derive(Clone, Debug)]
pub(super) struct Entry {
    pub(super) device: PricedId,
    pub(super) kernel: String,
    pub(super) dtype: DType,
    pub(super) history: History,
    /// Of a program, its operations.
    pub(super) mix: Option<OpMix>,
}

#[derive(Clone, Debug)]
struct EntryPlace {
    life: u32,
    /// When it was asked for by name; the end of time if it is never forgotten.
    asked: u64,
    entry: Option<Entry>,
}

type EntryName = (PricedId, String, DType);

/// All entries.
#[derive(Clone, Debug, Default)]
pub(super) struct CostEntries {
    places: Vec<EntryPlace>,
    free: Vec<u32>,
    by_name: BTreeMap<EntryName, CostId>,
    clock: u64,
    lasting: usize,
}

impl CostEntries {
    /// The id of an entry, made if there is none; one that is `lasting` is never forgotten.
    pub(super) fn resolve(&mut self, name: EntryName, is_lasting: bool, make: impl FnOnce(&EntryName) -> Entry) -> CostId {
        self.clock += 1;
        if let Some(&id) = self.by_name.get(&name) {
            let place = &mut self.places[id.at as usize];
            place.asked = place.asked.max(self.clock);
            return id;
        }
        if self.by_name.len() - self.lasting >= KEPT {
            self.forget();
        }
        let entry = Some(make(&name));
        let asked = if is_lasting { u64::MAX } else { self.clock };
        self.lasting += usize::from(is_lasting);
        let at = self.free.pop().unwrap_or_else(|| {
            self.places.push(EntryPlace { life: 0, asked, entry: None });
            (self.places.len() - 1) as u32
        });
        let place = &mut self.places[at as usize];
        (place.asked, place.entry) = (asked, entry);
        let id = CostId { at, life: place.life, device: name.0 };
        self.by_name.insert(name, id);
        id
    }

    /// Forgets those that nobody has asked for the longest: of programs, of which there may be any number, before of kernels. The newest eighth stays, whatever it is.
    fn forget(&mut self) {
        let may_go = |place: &&EntryPlace| place.entry.is_some() && place.asked < u64::MAX;
        let mut asked: Vec<u64> = self.places.iter().filter(may_go).map(|place| place.asked).collect();
        let newest = asked.len() - asked.len() / 8;
        let Some(newest) = (newest < asked.len()).then(|| *asked.select_nth_unstable(newest).1) else { return };
        let worth = |place: &EntryPlace| {
            let is_program = place.entry.as_ref().is_some_and(|entry| entry.mix.is_some());
            (place.asked >= newest || !is_program, place.asked)
        };
        let mut all: Vec<(bool, u64)> = self.places.iter().filter(may_go).map(worth).collect();
        let last = *all.select_nth_unstable(asked.len() / 4).1;
        let (places, free) = (&mut self.places, &mut self.free);
        self.by_name.retain(|_, id| {
            let place = &mut places[id.at as usize];
            let stays = place.asked == u64::MAX || worth(place) > last;
            if !stays {
                (place.entry, place.life) = (None, place.life.wrapping_add(1));
                free.push(id.at);
            }
            stays
        });
    }

    /// What is known; `None` if it was forgotten.
    pub(super) fn get(&self, id: CostId) -> Option<&Entry> {
        self.places[id.at as usize].entry.as_ref().filter(|_| self.places[id.at as usize].life == id.life)
    }

    pub(super) fn get_mut(&mut self, id: CostId) -> Option<&mut Entry> {
        let place = &mut self.places[id.at as usize];
        place.entry.as_mut().filter(|_| place.life == id.life)
    }

    pub(super) fn all_mut(&mut self) -> impl Iterator<Item = &mut Entry> {
        self.places.iter_mut().filter_map(|place| place.entry.as_mut())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn name(number: usize) -> EntryName {
        (PricedId(3), format!("kernel {number}"), DType::F32)
    }

    /// Makes a kernel, or with a mix a program.
    fn make(mix: Option<OpMix>) -> impl Fn(&EntryName) -> Entry {
        move |(device, kernel, dtype)| Entry {
            device: *device,
            kernel: kernel.clone(),
            dtype: *dtype,
            history: History::default(),
            mix,
        }
    }

    #[test]
    fn what_nobody_asks_for_is_forgotten_and_its_id_means_nothing() {
        let mut all = CostEntries::default();
        let lasting = all.resolve(name(0), true, make(None));
        let early = all.resolve(name(1), false, make(None));
        let asked = all.resolve(name(2), false, make(None));
        let mut newest = asked;
        for number in 3..20_000 {
            newest = all.resolve(name(number), false, make(None));
            assert_eq!(all.resolve(name(2), false, make(None)), asked);
        }
        assert_eq!(all.get(lasting).unwrap().kernel, "kernel 0");
        assert_eq!(all.get(asked).unwrap().kernel, "kernel 2");
        assert_eq!(all.get_mut(newest).unwrap().kernel, "kernel 19999");
        assert!(all.get(early).is_none() && all.get_mut(early).is_none());
        assert_eq!(early.device(), PricedId(3));
        assert!(all.places.len() <= KEPT + 1 && all.by_name.len() <= KEPT + 1);
        let again = all.resolve(name(1), false, make(None));
        assert!(again != early && all.get(again).is_some_and(|entry| entry.kernel == "kernel 1"));
    }

    #[test]
    fn programs_are_forgotten_before_kernels() {
        let mut all = CostEntries::default();
        let kernels: Vec<CostId> = (0..50).map(|number| all.resolve(name(number), false, make(None))).collect();
        let programs: Vec<CostId> =
            (50..20_000).map(|number| all.resolve(name(number), false, make(Some(OpMix::default())))).collect();
        assert!(kernels.iter().all(|&id| all.get(id).is_some()) && all.get(programs[0]).is_none());
        assert!(all.by_name.len() <= KEPT + 1);
    }

    #[test]
    fn a_few_programs_among_many_kernels_are_kept_while_they_are_new() {
        let mut all = CostEntries::default();
        let mut programs = Vec::new();
        for number in 0..5000usize {
            programs.push(all.resolve(name(2 * number), false, make(Some(OpMix::default()))));
            (0..9).for_each(|kernel| _ = all.resolve(name(18 * number + 2 * kernel + 1), false, make(None)));
            let new = &programs[number.saturating_sub(50)..];
            assert!(new.iter().all(|&id| all.get(id).is_some()), "{number}");
        }
        assert!(all.get(programs[0]).is_none());
        assert!(all.by_name.len() <= KEPT + 1);
    }
}
