//! Downloads: from arrived staging buffers to their places.
//!
//! Owns: [`Down`], [`Landing`], [`DownPack`]. Must not know: what is submitted when. Invariant: a download is reported once, when nobody has any piece of it any
//! more: nothing is written to its place after that.

use std::sync::{Arc, Mutex, PoisonError};
use std::time::Instant;

use super::copiers::{Copiers, Direction};
use super::direct::Lent;
use super::host::{Stretch, caught, empty, prepare};
use super::staging::Staging;
use super::{JOB, finish};
use crate::device::gpu::batcher::{DownPiece, Ticket};
use crate::device::gpu::inbox::Inbox;
use crate::device::gpu::launch::DonePromise;
use crate::device::gpu::memory::{ChunkSlot, QueuedUse};
use crate::device::gpu::service::Message;
use crate::device::{Failure, Window};

/// What lies in buffers of up to so many bytes is written sooner than threads are woken for it.
const AT_ONCE: u64 = 64 << 10;

/// A chunk to be brought to the host.
pub(in crate::device::gpu) struct Down {
    pub(in crate::device::gpu) from: Arc<ChunkSlot>,
    pub(in crate::device::gpu) landing: Arc<Landing>,
    /// While it is queued to be copied, if the host maps chunks.
    pub(in crate::device::gpu) queued: Option<QueuedUse>,
}

impl Down {
    pub(in crate::device::gpu) fn new(from: Arc<ChunkSlot>, to: Window, done: DonePromise) -> Self {
        let bytes = to.layout().bytes();
        let so_far = Mutex::new(Landed { done: Some(done), ..Landed::default() });
        let landing = Landing { bytes, to: Some(to), asked: Instant::now(), so_far };
        Self { from, landing: Arc::new(landing), queued: None }
    }
}

/// Where a download goes. It is reported when it is dropped.
pub(in crate::device::gpu) struct Landing {
    pub(in crate::device::gpu) bytes: u64,
    to: Option<Window>,
    asked: Instant,
    so_far: Mutex<Landed>,
}

#[derive(Default)]
struct Landed {
    done: Option<DonePromise>,
    bytes: u64,
    /// On the link, all pieces.
    link_ns: u64,
    /// From when until when it was copied, by several threads.
    copied: Option<[Instant; 2]>,
    failed: Option<Failure>,
}

impl Landing {
    pub(in crate::device::gpu) fn fail(&self, failure: Failure) {
        self.so_far.lock().unwrap_or_else(PoisonError::into_inner).failed.get_or_insert(failure);
    }

    fn landed(&self, bytes: u64, began: Instant) {
        let mut so_far = self.so_far.lock().unwrap_or_else(PoisonError::into_inner);
        so_far.bytes += bytes;
        so_far.copied = Some([so_far.copied.map_or(began, |copied| copied[0].min(began)), Instant::now()]);
    }

    /// Some of it is about to be written, for which the link took so long; what.
    fn begin(&self, piece: &DownPiece, link_ns: u64) -> Stretch {
        if let Some(to) = self.to.as_ref().filter(|_| piece.at == 0) {
            prepare(to);
        }
        self.so_far.lock().unwrap_or_else(PoisonError::into_inner).link_ns += link_ns;
        Stretch { at: piece.at, bytes: piece.bytes, offset: piece.offset }
    }

    fn empty(&self, pack: &DownPack, part: Stretch) {
        let (Some(to), Some(buffer)) = (&self.to, &pack.buffer) else { return };
        let began = Instant::now();
        match caught(|| empty(buffer, to, part)) {
            Ok(()) => self.landed(part.bytes, began),
            Err(failure) => self.fail(failure),
        }
    }
}

impl Drop for Landing {
    fn drop(&mut self) {
        self.to = None;
        let so_far = std::mem::take(self.so_far.get_mut().unwrap_or_else(PoisonError::into_inner));
        let Landed { done: Some(done), bytes, link_ns, copied, failed } = so_far else { return };
        let copying = copied.map_or(0, |[began, ended]| ended.saturating_duration_since(began).as_nanos() as u64);
        let ns = link_ns.saturating_add(copying);
        match failed {
            Some(failure) => finish(done, ns, Err(failure)),
            // Pieces are copied while others are on the link.
            None if bytes == self.bytes => finish(done, ns.min(self.asked.elapsed().as_nanos() as u64), Ok(())),
            None => drop(done), // a piece is lost: which says so
        }
    }
}

/// A buffer that has arrived, mapped: staging, or a chunk itself; given back when the last piece in it is written.
pub(in crate::device::gpu) struct DownPack {
    buffer: Option<wgpu::Buffer>,
    home: Option<DownHome>,
}

/// Where it goes back to.
enum DownHome {
    Staging(Arc<Staging>, Arc<Inbox>),
    Chunk(Lent),
}

impl DownPack {
    pub(in crate::device::gpu) fn new(buffer: wgpu::Buffer, staging: Arc<Staging>, service: Arc<Inbox>) -> Arc<Self> {
        Arc::new(Self { buffer: Some(buffer), home: Some(DownHome::Staging(staging, service)) })
    }

    /// Has a chunk that is mapped written to its place.
    pub(super) fn direct(buffer: wgpu::Buffer, lent: Lent, landing: Arc<Landing>, copiers: &Copiers) {
        let this = Arc::new(Self { buffer: Some(buffer), home: Some(DownHome::Chunk(lent)) });
        let piece = DownPiece { ticket: Ticket(0), at: 0, bytes: landing.bytes, offset: 0, last: true };
        this.unpack(vec![(piece, landing)], 0, copiers);
    }

    fn bytes(&self) -> u64 {
        self.buffer.as_ref().map_or(0, wgpu::Buffer::size)
    }

    /// Has its pieces, which took `link_ns` together, written to their places: large ones by several threads, small ones several by one.
    pub(in crate::device::gpu) fn unpack(
        self: Arc<Self>,
        pieces: Vec<(DownPiece, Arc<Landing>)>,
        link_ns: u64,
        copiers: &Copiers,
    ) {
        let all: u64 = pieces.iter().map(|(piece, _)| piece.bytes).sum();
        let (mut job, mut bytes) = (Vec::new(), 0);
        for (piece, landing) in pieces {
            let share = piece.bytes as f64 / all.max(1) as f64;
            let whole = landing.begin(&piece, (share * link_ns as f64) as u64);
            for part in whole.parts(JOB) {
                if bytes + part.bytes > JOB {
                    self.clone().write(std::mem::take(&mut job), copiers);
                    bytes = 0;
                }
                bytes += part.bytes;
                job.push((landing.clone(), part));
            }
        }
        self.write(job, copiers);
    }

    /// Has these parts written by one thread.
    fn write(self: Arc<Self>, job: Vec<(Arc<Landing>, Stretch)>, copiers: &Copiers) {
        let at_once = self.bytes() <= AT_ONCE && matches!(self.home, Some(DownHome::Staging(..)));
        let write = move || {
            job.iter().for_each(|(landing, part)| landing.empty(&self, *part));
            // First the buffer: who is told of a download may count what is lent.
            drop((self, job));
        };
        match at_once {
            true => write(),
            false => copiers.copy(Direction::Down, write),
        }
    }
}

impl Drop for DownPack {
    fn drop(&mut self) {
        let Some(buffer) = self.buffer.take() else { return };
        let bytes = buffer.size();
        buffer.unmap();
        match self.home.take() {
            Some(DownHome::Staging(staging, service)) => {
                staging.give(buffer, true);
                let _ = service.send(Message::Emptied(bytes)); // a service that has ended lends no more
            }
            Some(DownHome::Chunk(lent)) => drop(lent),
            None => {}
        }
    }
}
