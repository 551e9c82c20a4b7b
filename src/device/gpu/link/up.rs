//! Uploads: from host chunks to filled staging buffers.
//!
//! Owns: [`Upload`], [`UpPack`], [`Uploader`] (the thread that hands out staging). Must not know: the queue, what is submitted when. Invariant: a host chunk is read
//! before its upload is reported, and not after.
//!
//! An upload is reported as soon as all of it was handed to the service thread, because whatever reads the chunk is submitted with it or later; where the host
//! maps the chunk itself, when it is full and unmapped.

use std::sync::mpsc::{Receiver, TryRecvError};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Instant;

use smallvec::SmallVec;
use wgpu::BufferUsages;

use super::copiers::{Copiers, Direction};
use super::direct::{DirectMove, Mapper};
use super::host::{Stretch, caught, fill};
use super::staging::Staging;
use super::{JOB, finish};
use crate::device::gpu::inbox::Inbox;
use crate::device::gpu::launch::DonePromise;
use crate::device::gpu::memory::ChunkSlot;
use crate::device::gpu::open::GpuRefusal;
use crate::device::gpu::service::Message;
use crate::device::{Failure, Window};

/// Chunks of up to so many bytes share a staging buffer.
const SMALL: u64 = 256 << 10;
/// Bytes of a buffer that is shared, if a piece is as large.
const SHARED: u64 = 512 << 10;
/// Where chunks begin in a buffer that they share.
const ALIGNED: u64 = 64;
/// The first piece of a large chunk; the others become larger.
const FIRST: u64 = 4 << 20;
/// Up to so many bytes are copied sooner than a thread is woken for them.
pub(super) const AT_ONCE: u64 = 16 << 10;

/// A chunk to be brought to the GPU.
pub(in crate::device::gpu) struct Upload {
    pub(in crate::device::gpu) from: Window,
    pub(in crate::device::gpu) to: Arc<ChunkSlot>,
    pub(in crate::device::gpu) done: DonePromise,
}

impl Upload {
    fn begin(self, device: &Arc<str>) -> (Arc<ChunkSlot>, Arc<UploadEnd>) {
        let Self { from, to, done } = self;
        let so_far = Mutex::new(Sent { done: Some(done), left: from.layout().bytes(), failed: None });
        (to, Arc::new(UploadEnd { device: device.clone(), began: Instant::now(), from: Some(from), so_far }))
    }
}

/// What the uploading thread is asked for.
pub(in crate::device::gpu) enum UploadOrder {
    Upload(Upload),
    /// One whose chunk could not be mapped.
    Staged(Arc<ChunkSlot>, Arc<UploadEnd>),
}

/// Who is told of an upload's end: reported when it is dropped.
pub(in crate::device::gpu) struct UploadEnd {
    device: Arc<str>,
    began: Instant,
    /// Until all of it has been handed on.
    from: Option<Window>,
    so_far: Mutex<Sent>,
}

struct Sent {
    done: Option<DonePromise>,
    left: u64,
    failed: Option<Failure>,
}

impl UploadEnd {
    pub(super) fn fail(&self, failure: Failure) {
        self.sent().failed.get_or_insert(failure);
    }

    /// Bytes of the chunk.
    pub(super) fn bytes(&self) -> u64 {
        self.from.as_ref().map_or(0, |from| from.layout().bytes())
    }

    /// All of it is where launches find it; false if it has failed.
    pub(super) fn handed_on(&self) -> bool {
        let mut sent = self.sent();
        sent.left = 0;
        sent.failed.is_none()
    }

    /// Writes a part of the chunk to a mapped buffer.
    pub(super) fn fill(&self, buffer: &wgpu::Buffer, part: Stretch) {
        let Some(from) = &self.from else { return };
        if let Err(failure) = caught(|| fill(buffer, from, part)) {
            self.fail(failure);
        }
    }

    fn sent(&self) -> std::sync::MutexGuard<'_, Sent> {
        self.so_far.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Drop for UploadEnd {
    fn drop(&mut self) {
        self.from = None;
        let sent = self.so_far.get_mut().unwrap_or_else(PoisonError::into_inner);
        let (left, failed) = (sent.left, sent.failed.take());
        let Some(done) = sent.done.take() else { return };
        let outcome = match failed {
            Some(failure) => Err(failure),
            None if left == 0 => Ok(()),
            None => Err(GpuRefusal::Lost("its service thread has ended".into()).into_failure("a chunk's upload", &self.device)),
        };
        finish(done, self.began.elapsed().as_nanos() as u64, outcome);
    }
}

/// A part of a chunk in a staging buffer.
pub(in crate::device::gpu) struct UpPiece {
    pub(in crate::device::gpu) to: Arc<ChunkSlot>,
    /// Where in the chunk, how many bytes, where in the buffer.
    pub(in crate::device::gpu) at: u64,
    pub(in crate::device::gpu) bytes: u64,
    pub(in crate::device::gpu) offset: u64,
    /// Whether nothing more of the chunk will come.
    pub(in crate::device::gpu) last: bool,
}

/// A filled staging buffer, still mapped, and what is to be copied from it.
pub(in crate::device::gpu) struct FilledPack {
    pub(in crate::device::gpu) buffer: wgpu::Buffer,
    pub(in crate::device::gpu) pieces: SmallVec<[UpPiece; 1]>,
}

impl FilledPack {
    pub(in crate::device::gpu) fn bytes(&self) -> u64 {
        self.pieces.iter().map(|piece| piece.bytes).sum()
    }

    /// Whether nothing more of its chunks will come.
    pub(in crate::device::gpu) fn is_whole(&self) -> bool {
        self.pieces.iter().all(|piece| piece.last)
    }
}

/// A staging buffer that is being filled. Who lets it go last hands it to the service thread.
struct UpPack {
    buffer: Option<wgpu::Buffer>,
    staging: Arc<Staging>,
    service: Arc<Inbox>,
    pieces: Mutex<Vec<(UpPiece, Arc<UploadEnd>)>>,
}

impl UpPack {
    fn used(&self) -> u64 {
        let pieces = self.pieces.lock().unwrap_or_else(PoisonError::into_inner);
        pieces.last().map_or(0, |(piece, _)| (piece.offset + piece.bytes).next_multiple_of(ALIGNED))
    }

    /// Bytes that still have room in it, in whole words.
    fn room(&self) -> u64 {
        self.buffer.as_ref().map_or(0, |buffer| buffer.size().saturating_sub(self.used()))
    }

    /// Has a piece copied into it.
    fn add(self: &Arc<Self>, piece: UpPiece, end: &Arc<UploadEnd>, copiers: &Copiers) {
        let whole = Stretch { at: piece.at, bytes: piece.bytes, offset: piece.offset };
        self.pieces.lock().unwrap_or_else(PoisonError::into_inner).push((piece, end.clone()));
        if whole.bytes <= AT_ONCE {
            return self.fill(whole, end);
        }
        for part in whole.parts(JOB) {
            let (pack, end) = (self.clone(), end.clone());
            copiers.copy(Direction::Up, move || {
                pack.fill(part, &end);
                // First this, then the buffer: what hands it on tells who waits.
                drop(end);
            });
        }
    }

    fn fill(&self, part: Stretch, end: &UploadEnd) {
        if let Some(buffer) = &self.buffer {
            end.fill(buffer, part);
        }
    }
}

impl Drop for UpPack {
    fn drop(&mut self) {
        let Some(buffer) = self.buffer.take() else { return };
        let all = std::mem::take(self.pieces.get_mut().unwrap_or_else(PoisonError::into_inner));
        let mut ends: SmallVec<[(Arc<UploadEnd>, u64); 1]> = SmallVec::new();
        let mut pieces = SmallVec::new();
        for (piece, end) in all {
            if end.sent().failed.is_none() {
                ends.push((end, piece.bytes));
                pieces.push(piece);
            }
        }
        if pieces.is_empty() {
            // Dropped by a thread that may be filling another one just now: a failure here says nothing of the pool.
            return self.staging.give(buffer, false);
        }
        match self.service.send(Message::Up(FilledPack { buffer, pieces })) {
            Ok(()) => ends.iter().for_each(|(end, bytes)| end.sent().left -= bytes),
            Err(Message::Up(pack)) => self.staging.give(pack.buffer, false),
            Err(_) => {} // it is what was sent
        }
    }
}

/// The next piece of a chunk of `bytes` of which all up to `at` lies in staging. As long as what is on the link takes, the next one may take to be filled:
/// nothing is there at first.
fn piece(at: u64, bytes: u64) -> u64 {
    (bytes - at).min(1 << at.max(FIRST).ilog2())
}

/// What the thread works with that hands out staging.
pub(in crate::device::gpu) struct Uploader {
    pub(in crate::device::gpu) staging: Arc<Staging>,
    pub(in crate::device::gpu) mapper: Mapper,
}

impl Uploader {
    /// Serves until nobody asks any more.
    pub(in crate::device::gpu) fn run(self, asked: &Receiver<UploadOrder>) {
        let mut shared: Option<Arc<UpPack>> = None;
        loop {
            let wanted = match asked.try_recv() {
                Ok(wanted) => wanted,
                Err(TryRecvError::Disconnected) => return,
                Err(TryRecvError::Empty) => {
                    // Nobody else comes along just now.
                    shared = None;
                    match asked.recv() {
                        Ok(wanted) => wanted,
                        Err(_) => return,
                    }
                }
            };
            let (to, end) = match wanted {
                UploadOrder::Upload(upload) => {
                    let (to, end) = upload.begin(&self.mapper.name);
                    if self.maps(&to, &end) {
                        continue;
                    }
                    (to, end)
                }
                UploadOrder::Staged(to, end) => (to, end),
            };
            if let Err(refusal) = self.stage(&to, end.bytes(), &mut shared, &end) {
                end.fail(refusal.into_failure("a chunk's upload", &self.mapper.name));
            }
        }
    }

    /// Has the chunk's own memory filled, if the host can map it; false if it is to be staged.
    fn maps(&self, to: &Arc<ChunkSlot>, end: &Arc<UploadEnd>) -> bool {
        if let Some(buffer) = to.mapped() {
            self.mapper.fill_first(buffer, to, end);
            return true;
        }
        // The service thread knows who else uses it.
        let direct = || Message::Direct(to.clone(), DirectMove::Up(end.clone()));
        to.maps(BufferUsages::MAP_WRITE) && end.bytes() > 0 && self.mapper.service.send(direct()).is_ok()
    }

    fn stage(
        &self,
        to: &Arc<ChunkSlot>,
        bytes: u64,
        shared: &mut Option<Arc<UpPack>>,
        end: &Arc<UploadEnd>,
    ) -> Result<(), GpuRefusal> {
        // The chunk's buffer is made here, so that nothing but the loss of the device can go wrong after the report.
        to.buffer()?;
        if bytes <= SMALL.min(self.staging.piece_bytes()) {
            if shared.as_ref().is_none_or(|pack| pack.room() < bytes) {
                *shared = None; // first this is handed on: it may be what the next one waits for
                *shared = Some(self.pack(SHARED)?);
            }
            if let Some(pack) = shared.as_ref().filter(|pack| pack.room() >= bytes) {
                let piece = UpPiece { to: to.clone(), at: 0, bytes, offset: pack.used(), last: true };
                pack.add(piece, end, &self.mapper.copiers);
                return Ok(());
            }
        }
        *shared = None;
        let mut at = 0;
        while at < bytes {
            let pack = self.pack(piece(at, bytes))?;
            // It may be smaller than was asked for.
            let part = pack.room().min(bytes - at);
            let piece = UpPiece { to: to.clone(), at, bytes: part, offset: 0, last: at + part == bytes };
            pack.add(piece, end, &self.mapper.copiers);
            at += part;
        }
        Ok(())
    }

    fn pack(&self, bytes: u64) -> Result<Arc<UpPack>, GpuRefusal> {
        let buffer = Some(self.staging.take(bytes)?);
        Ok(Arc::new(UpPack {
            buffer,
            staging: self.staging.clone(),
            service: self.mapper.service.clone(),
            pieces: Mutex::default(),
        }))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn pieces_grow_with_what_is_on_the_link() {
        for (bytes, wanted) in [(0, &[][..]), (5 << 20, &[4, 1]), (64 << 20, &[4, 4, 8, 16, 32]), (40 << 20, &[4, 4, 8, 16, 8])]
        {
            let mut at = 0;
            for &mib in wanted {
                assert_eq!(piece(at, bytes), mib << 20, "{at} of {bytes}");
                at += mib << 20;
            }
            assert_eq!(at, bytes);
        }
        assert_eq!(piece(0, 1000), 1000);
    }
}
