//! What crosses no link: chunks that the host maps.
//!
//! Owns: [`Lent`], a chunk that the host has, and [`MapOrder`], one that it is going to have; their filling and emptying. Must not know: submissions. Invariant: a
//! chunk's buffer is unmapped before it is given back, and given back before its move is reported; what is ordered is reported once, whatever becomes of the driver.

use std::sync::atomic::Ordering;
use std::sync::{Arc, Mutex, PoisonError};

use wgpu::MapMode;

use super::JOB;
use super::copiers::{Copiers, Direction};
use super::down::{DownPack, Landing};
use super::host::Stretch;
use super::up::{AT_ONCE, UploadEnd};
use crate::device::gpu::inbox::Inbox;
use crate::device::gpu::memory::ChunkSlot;
use crate::device::gpu::open::{GpuRefusal, Opened};
use crate::device::gpu::service::{Counts, Message};

/// A chunk that is the host's for a while: launches that use it wait until this is dropped.
pub(in crate::device::gpu) struct Lent {
    slot: Arc<ChunkSlot>,
    service: Arc<Inbox>,
}

impl Lent {
    /// The chunk, if no launch that uses it is queued, and nobody else has it.
    pub(in crate::device::gpu) fn new(slot: &Arc<ChunkSlot>, service: &Arc<Inbox>) -> Option<Self> {
        slot.lend().then(|| Self { slot: slot.clone(), service: service.clone() })
    }
}

impl Drop for Lent {
    fn drop(&mut self) {
        self.slot.give_back();
        let _ = self.service.send(Message::Returned); // a service that has ended submits nothing
    }
}

/// What a chunk is mapped for.
pub(in crate::device::gpu) enum DirectMove {
    Up(Arc<UploadEnd>),
    Down(Arc<Landing>),
}

impl DirectMove {
    pub(in crate::device::gpu) fn fail(&self, refusal: GpuRefusal, device: &str) {
        let failure = refusal.into_failure("a chunk's move", device);
        match self {
            Self::Up(end) => end.fail(failure),
            Self::Down(landing) => landing.fail(failure),
        }
    }
}

/// What carries out moves of mapped chunks.
#[derive(Clone)]
pub(in crate::device::gpu) struct Mapper {
    pub(in crate::device::gpu) name: Arc<str>,
    pub(in crate::device::gpu) opened: Arc<Opened>,
    pub(in crate::device::gpu) copiers: Arc<Copiers>,
    pub(in crate::device::gpu) counts: Arc<Counts>,
    pub(in crate::device::gpu) service: Arc<Inbox>,
}

/// A chunk that will be mapped when no submission uses it any more: the driver tells, or never does. What the driver keeps meanwhile keeps nothing else: what is to
/// be done, and all that it needs, is here until somebody takes it.
pub(in crate::device::gpu) struct MapOrder(Mutex<Option<(Mapper, Lent, DirectMove)>>);

impl MapOrder {
    /// What is still to be done; nobody else will do it.
    fn take(&self) -> Option<(Mapper, Lent, DirectMove)> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner).take()
    }

    fn target(&self) -> Option<(Arc<ChunkSlot>, MapMode)> {
        let order = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        let (_, lent, what) = order.as_ref()?;
        Some((lent.slot.clone(), if matches!(what, DirectMove::Up(_)) { MapMode::Write } else { MapMode::Read }))
    }

    pub(in crate::device::gpu) fn is_over(&self) -> bool {
        self.0.lock().unwrap_or_else(PoisonError::into_inner).is_none()
    }

    /// It is not waited for any more.
    pub(in crate::device::gpu) fn fail(&self, refusal: GpuRefusal, device: &str) {
        if let Some((_, _, what)) = self.take() {
            what.fail(refusal, device);
        }
    }
}

/// Who is told when a chunk is mapped. If it is dropped instead, nobody will be.
struct MapEnd(Arc<MapOrder>);

impl MapEnd {
    fn hear<E>(self, result: Result<(), E>) {
        let Some((mapper, lent, what)) = self.0.take() else { return };
        match result {
            Ok(()) => mapper.start(lent, what),
            Err(_) => mapper.refused(lent, what, "the driver refused it"),
        }
    }
}

impl Drop for MapEnd {
    fn drop(&mut self) {
        if let Some((mapper, lent, what)) = self.0.take() {
            mapper.refused(lent, what, "the driver has forgotten it");
        }
    }
}

impl Mapper {
    /// An order to map a chunk. It is to be kept where it is failed if the device is lost, and asked for after that: the driver may panic.
    pub(in crate::device::gpu) fn order(&self, lent: Lent, what: DirectMove) -> Arc<MapOrder> {
        Arc::new(MapOrder(Mutex::new(Some((self.clone(), lent, what)))))
    }

    /// Asks the driver for it.
    pub(in crate::device::gpu) fn ask(&self, order: &Arc<MapOrder>) {
        let Some((slot, mode)) = order.target() else { return };
        let end = MapEnd(order.clone());
        if let Ok(buffer) = slot.buffer() {
            // What is wrong with it `end` is told; other errors are others'.
            self.opened.in_scopes(|| self.opened.driver.map(&self.opened, buffer, mode, Box::new(|result| end.hear(result))));
        }
    }

    /// It cannot be mapped: it is staged, as all others from now on.
    fn refused(&self, lent: Lent, what: DirectMove, why: &str) {
        let slot = lent.slot.clone();
        drop(lent);
        match self.opened.lost() {
            Some(why) => what.fail(GpuRefusal::Lost(why), &self.name),
            None => {
                self.opened.strategy.give_up(why);
                let _ = self.service.send(Message::Staged(slot, what)); // a service that has ended has it dropped, which says that it is lost
            }
        }
    }

    /// Has a mapped chunk filled or emptied.
    fn start(&self, lent: Lent, what: DirectMove) {
        let Ok(buffer) = lent.slot.buffer().cloned() else { return }; // what is dropped says that it is lost
        match what {
            DirectMove::Up(end) => self.fill(buffer, UpHome::Lent(lent), &end),
            DirectMove::Down(landing) => {
                self.counts.downloads.fetch_add(1, Ordering::Relaxed);
                let copiers = self.copiers.clone();
                self.copiers.copy(Direction::Down, move || DownPack::direct(buffer, lent, landing, &copiers));
            }
        }
    }

    /// Has a chunk's first buffer filled, which is mapped, and will be the chunk's.
    pub(super) fn fill_first(&self, buffer: wgpu::Buffer, slot: &Arc<ChunkSlot>, end: &Arc<UploadEnd>) {
        self.fill(buffer, UpHome::First(slot.clone()), end);
    }

    fn fill(&self, buffer: wgpu::Buffer, home: UpHome, end: &Arc<UploadEnd>) {
        let whole = Stretch { at: 0, bytes: end.bytes(), offset: 0 };
        let whose = (end.clone(), self.clone());
        // Who is told of the end may take long: the threads that look after the driver have others to serve.
        let at_once = whole.bytes <= AT_ONCE && matches!(home, UpHome::First(_));
        let this = Arc::new(DirectUp { buffer: Some(buffer), home: Some(home), whose: Some(whose) });
        if at_once {
            return this.fill(whole);
        }
        for part in whole.parts(JOB) {
            let this = this.clone();
            self.copiers.copy(Direction::Up, move || this.fill(part));
        }
    }
}

/// Where a mapped buffer goes when it is full.
enum UpHome {
    /// The slot has none yet.
    First(Arc<ChunkSlot>),
    Lent(Lent),
}

/// A chunk whose mapped buffer is being filled. Who lets it go last gives it to the GPU.
struct DirectUp {
    buffer: Option<wgpu::Buffer>,
    home: Option<UpHome>,
    whose: Option<(Arc<UploadEnd>, Mapper)>,
}

impl DirectUp {
    fn fill(&self, part: Stretch) {
        if let (Some(buffer), Some((end, _))) = (&self.buffer, &self.whose) {
            end.fill(buffer, part);
        }
    }
}

impl Drop for DirectUp {
    fn drop(&mut self) {
        let (Some(buffer), Some((end, mapper))) = (self.buffer.take(), self.whose.take()) else { return };
        buffer.unmap();
        match self.home.take() {
            Some(UpHome::First(slot)) => slot.put(buffer),
            Some(UpHome::Lent(lent)) => drop((buffer, lent)),
            None => {}
        }
        match mapper.opened.lost() {
            Some(why) => end.fail(GpuRefusal::Lost(why).into_failure("a chunk's upload", &mapper.name)),
            None if end.handed_on() => drop(mapper.counts.uploads.fetch_add(1, Ordering::Relaxed)),
            None => {} // it has failed
        }
    }
}
