//! Downloads in the service thread, and chunks that are mapped: which of them are, and what they wait for.
//!
//! Owns: [`DirectMoves`]. Must not know: launches. Invariant: a chunk is lent to the host only while nothing that uses it is queued; a move whose chunk is in use is
//! asked again after every submission, and goes before launches that come later.

use std::sync::Arc;

use wgpu::BufferUsages;

use super::{BatchEvent, BatchRecorder, Down, DownPiece, GpuRefusal, NextBatch, Service, Ticket, UploadOrder};
use crate::device::gpu::link::{DirectMove, Lent, MapOrder};
use crate::device::gpu::memory::{ChunkSlot, QueuedUse};

/// Moves of chunks that are mapped.
#[derive(Default)]
pub(super) struct DirectMoves {
    /// Those whose chunks are in use.
    waiting: Vec<(Arc<ChunkSlot>, DirectMove)>,
    /// Those that the driver has been asked for, and when to look which of them are over.
    ordered: Vec<Arc<MapOrder>>,
    many: usize,
}

impl DirectMoves {
    /// Whether any waits for its chunk.
    pub(super) fn waits(&self) -> bool {
        !self.waiting.is_empty()
    }

    fn wait(&mut self, slot: Arc<ChunkSlot>, what: DirectMove) {
        slot.want();
        self.waiting.push((slot, what));
    }

    fn ordered(&mut self, order: Arc<MapOrder>) {
        self.ordered.push(order);
        if self.ordered.len() > self.many {
            self.ordered.retain(|order| !order.is_over());
            self.many = 2 * self.ordered.len() + 32;
        }
    }

    /// Reports all as failed.
    pub(super) fn fail(&mut self, refusal: &GpuRefusal, device: &str) {
        for (slot, what) in self.waiting.drain(..) {
            slot.unwant();
            what.fail(refusal.clone(), device);
        }
        self.ordered.drain(..).for_each(|order| order.fail(refusal.clone(), device));
    }
}

impl Service {
    /// Takes a download in: its chunk is mapped, or copied to staging.
    pub(super) fn admit_down(&mut self, mut down: Down) {
        let whole = self.batcher.has_gone(down.from.after());
        if down.landing.bytes > 0 && whole && down.from.maps(BufferUsages::MAP_READ) {
            return self.admit_direct(down.from, DirectMove::Down(down.landing));
        }
        if down.from.is_lent() {
            // No submission may use it.
            return self.queued.direct.wait(down.from, DirectMove::Down(down.landing));
        }
        down.queued = self.shared.opened.strategy.maps().then(|| QueuedUse::new(&down.from));
        let (bytes, after) = (down.landing.bytes, down.from.after());
        let ticket = self.queued.downloads.put(down);
        self.batcher.take(BatchEvent::Download(ticket, bytes, after));
    }

    /// Has a chunk mapped, once it may be had.
    pub(super) fn admit_direct(&mut self, slot: Arc<ChunkSlot>, what: DirectMove) {
        // What was staged for it goes first.
        let lent = if self.batcher.has_gone(slot.after()) { Lent::new(&slot, &self.shared.mapper.service) } else { None };
        match lent {
            Some(lent) => {
                let order = self.shared.mapper.order(lent, what);
                self.queued.direct.ordered(order.clone());
                self.shared.mapper.ask(&order);
            }
            None => self.queued.direct.wait(slot, what),
        }
    }

    /// Asks again for chunks that were in use.
    pub(super) fn admit_direct_again(&mut self) {
        if !self.queued.direct.waiting.is_empty() {
            let waiting = std::mem::take(&mut self.queued.direct.waiting);
            let before = waiting.len();
            for (slot, what) in waiting {
                slot.unwant();
                match what {
                    DirectMove::Up(_) => self.admit_direct(slot, what),
                    DirectMove::Down(landing) => self.admit_down(Down { from: slot, landing, queued: None }),
                }
            }
            if self.queued.direct.waiting.len() < before {
                self.admit_kept();
            }
        }
    }

    /// Takes launches in again that were kept from chunks of the host's.
    pub(super) fn admit_kept(&mut self) {
        std::mem::take(&mut self.queued.kept).into_iter().for_each(|run| self.admit(Box::new(run)));
    }

    /// Moves a chunk through staging that cannot be mapped.
    pub(super) fn stage(&mut self, slot: Arc<ChunkSlot>, what: DirectMove) {
        match what {
            // A thread that has ended has it dropped, which says that it is lost.
            DirectMove::Up(end) => drop(self.shared.uploads.send(UploadOrder::Staged(slot, end))),
            DirectMove::Down(landing) => self.admit_down(Down { from: slot, landing, queued: None }),
        }
    }

    /// Records downloads into one staging buffer.
    pub(super) fn record_downs(&mut self, recorder: &mut BatchRecorder<'_>, batch: &NextBatch) {
        let staged = &batch.downloads;
        if staged.is_empty() {
            return;
        }
        // Where memory is short, what is kept for others goes first.
        let (ups, ring, opened) = (&self.shared.ups, &mut self.ring, &self.shared.opened);
        let taken = self.shared.downs.try_take(batch.pack_bytes, || {
            ups.spare();
            ring.clear(opened);
        });
        let staging = match taken {
            Ok(Some(staging)) => staging,
            Ok(None) => {
                let piece_bytes = self.shared.downs.piece_bytes();
                return self.batcher.no_staging(staged, batch.pack_bytes, piece_bytes);
            }
            Err(refusal) => {
                staged.iter().for_each(|piece| self.fail_down(piece, &refusal));
                self.batcher.take(BatchEvent::Emptied(batch.pack_bytes));
                return self.limit_staging();
            }
        };
        let more = staging.size().saturating_sub(batch.pack_bytes);
        self.batcher.lent_more(more);
        let mut pieces = Vec::with_capacity(staged.len());
        for &piece in staged {
            let Some(down) = self.queued.downloads.get(piece.ticket) else { continue };
            match down.from.buffer() {
                Ok(buffer) => pieces.push((piece, down.landing.clone(), buffer.clone())),
                Err(refusal) => self.fail_down(&piece, &refusal),
            }
        }
        for piece in staged.iter().filter(|piece| piece.last) {
            self.over(piece.ticket);
        }
        if pieces.is_empty() {
            self.batcher.take(BatchEvent::Emptied(staging.size()));
            return self.shared.downs.give(staging, true);
        }
        recorder.down(staging, pieces);
    }

    fn fail_down(&mut self, piece: &DownPiece, refusal: &GpuRefusal) {
        let Some(down) = self.queued.downloads.get(piece.ticket) else { return };
        down.landing.fail(refusal.clone().into_failure("a chunk's move", &self.shared.name));
        self.batcher.take(BatchEvent::WithdrawDownload(piece.ticket));
        self.over(piece.ticket);
    }

    /// Nothing more of a download is to be recorded.
    fn over(&mut self, ticket: Ticket) {
        if self.queued.downloads.get(ticket).is_some() {
            drop(self.queued.downloads.take(ticket));
        }
    }
}
