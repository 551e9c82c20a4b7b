//! Moves that wait for a submission.
//!
//! Owns: [`Moves`]: uploads and downloads, each in order, and how much staging downloads have. Must not know: launches, what is under way. Invariant: what is
//! about an uploaded chunk goes with the upload or later.

use std::collections::VecDeque;

use super::{ALIGNED, DownPiece, GATHER, Limits, MUCH, NextBatch, PIECES, SMALLEST, Ticket};

struct QueuedUpload {
    ticket: Ticket,
    bytes: u64,
    /// Whether more of the same chunk will come.
    more: bool,
}

struct QueuedDownload {
    ticket: Ticket,
    at: u64,
    bytes: u64,
    after: Mark,
}

/// How many uploads had come: what is about the chunk of the last of them goes with it or later.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord)]
pub(in crate::device::gpu) struct Mark(pub(in crate::device::gpu) u64);

/// What waits to be moved. Totals are kept, because there may be thousands.
pub(super) struct Moves {
    pub(super) limits: Limits,
    uploads: VecDeque<QueuedUpload>,
    up_bytes: u64,
    downloads: VecDeque<QueuedDownload>,
    down_bytes: u64,
    /// Staging of downloads that is lent, and the most that may be: less than the limit where memory was short.
    pub(super) lent_bytes: u64,
    pub(super) most_bytes: u64,
    came: Mark,
    gone: Mark,
}

impl Moves {
    pub(super) fn new(limits: Limits) -> Self {
        Self {
            limits,
            uploads: VecDeque::new(),
            up_bytes: 0,
            downloads: VecDeque::new(),
            down_bytes: 0,
            lent_bytes: 0,
            most_bytes: limits.down_bytes,
            came: Mark(0),
            gone: Mark(0),
        }
    }

    pub(super) fn upload(&mut self, ticket: Ticket, bytes: u64, last: bool) {
        self.came.0 += 1;
        self.up_bytes += bytes;
        self.uploads.push_back(QueuedUpload { ticket, bytes, more: !last });
    }

    pub(super) fn download(&mut self, ticket: Ticket, bytes: u64, after: Mark) {
        self.down_bytes += bytes;
        self.downloads.push_back(QueuedDownload { ticket, at: 0, bytes, after });
    }

    /// A download is given up.
    pub(super) fn withdraw(&mut self, ticket: Ticket) {
        self.downloads.retain(|download| download.ticket != ticket);
        self.down_bytes = self.downloads.iter().map(|download| download.bytes - download.at).sum();
    }

    /// Staging of downloads is free again.
    pub(super) fn emptied(&mut self, bytes: u64) {
        self.not_lent(bytes);
        // There may be memory again.
        self.most_bytes = (self.most_bytes + bytes).min(self.limits.down_bytes);
    }

    /// So much was to be lent, and was not.
    pub(super) fn not_lent(&mut self, bytes: u64) {
        self.lent_bytes = self.lent_bytes.saturating_sub(bytes);
    }

    /// How much staging downloads may have from now on.
    pub(super) fn limit(&mut self, down_bytes: u64, piece_bytes: u64) {
        (self.limits.down_bytes, self.limits.piece_bytes, self.most_bytes) = (down_bytes, piece_bytes, down_bytes);
    }

    pub(super) fn clear(&mut self) {
        self.uploads.clear();
        self.downloads.clear();
        (self.up_bytes, self.down_bytes, self.lent_bytes, self.gone) = (0, 0, 0, self.came);
    }

    /// Where what comes now stands behind uploads.
    pub(super) fn mark(&self) -> Mark {
        self.came
    }

    /// Whether all uploads before have gone.
    pub(super) fn has_gone(&self, mark: Mark) -> bool {
        mark <= self.gone
    }

    /// In which directions anything could be submitted: up, down.
    pub(super) fn ready(&self) -> [bool; 2] {
        [!self.uploads.is_empty(), !self.downloads.is_empty() && self.pack_room() > 0]
    }

    /// Whether anything waits to be brought down.
    pub(super) fn any_down(&self) -> bool {
        !self.downloads.is_empty()
    }

    /// Whether anything waits.
    pub(super) fn any(&self) -> bool {
        !self.uploads.is_empty() || self.any_down()
    }

    /// Whether it is not worth it to wait for more.
    pub(super) fn is_enough(&self) -> bool {
        // Nobody waits for an upload but the launches behind it, and the rest of the same chunk.
        let up = self.up_bytes >= MUCH || self.uploads.len() >= GATHER || self.uploads.back().is_some_and(|upload| upload.more);
        let down = self.down_bytes >= MUCH || self.downloads.len() >= GATHER;
        up || down && self.pack_room() > 0
    }

    /// Bytes of the largest staging buffer that may be lent now; 0 if none.
    fn pack_room(&self) -> u64 {
        let left = self.most_bytes.saturating_sub(self.lent_bytes);
        if left >= self.limits.piece_bytes {
            return self.limits.piece_bytes;
        }
        // A limit below that of any buffer still lets one at a time through.
        match self.lent_bytes {
            0 => self.limits.piece_bytes,
            _ if left < SMALLEST => 0,
            _ => 1 << left.ilog2(),
        }
    }

    /// Bytes of the next staging buffer at most. The first ones are smaller, so that what goes up finds a place soon, and the last ones, because nothing is on the
    /// link while they are copied to their places.
    fn next_pack(&self, under_way: u64) -> u64 {
        let (first, last) = ((2 * under_way).next_power_of_two(), self.down_bytes.next_power_of_two() / 4);
        self.pack_room().min(first.min(last).max(MUCH))
    }

    /// Puts what goes next into a submission; the bytes up, and down. Where bytes go both ways it is over when both are, and a direction that has less
    /// of it idles.
    pub(super) fn take(&mut self, batch: &mut NextBatch, down_under_way: u64) -> [u64; 2] {
        let left = self.down_bytes;
        let down = self.pack(batch, down_under_way);
        // Of each direction the same share of what is left.
        let share = (self.up_bytes as f64 / left.max(1) as f64).max(1.0) * down as f64;
        let most = if down == 0 { self.limits.up_bytes } else { self.limits.up_bytes.min((share as u64).max(MUCH)) };
        let mut bytes = 0;
        // Not all at once: staging comes back when a submission is over, and the next is filled from it meanwhile.
        while let Some(upload) = self.uploads.front() {
            if bytes > 0 && bytes + upload.bytes > most {
                break;
            }
            bytes += upload.bytes;
            batch.uploads.push(upload.ticket);
            self.uploads.pop_front();
            self.gone.0 += 1;
        }
        self.up_bytes -= bytes;
        // What waited for these uploads.
        [bytes, if down == 0 { self.pack(batch, down_under_way) } else { down }]
    }

    /// Downloads, side by side in one buffer; their bytes.
    fn pack(&mut self, batch: &mut NextBatch, under_way: u64) -> u64 {
        let (room, gone) = (self.next_pack(under_way), self.gone);
        let mut offset: u64 = 0;
        while let Some(download) = self.downloads.front_mut().filter(|download| download.after <= gone) {
            let bytes = (download.bytes - download.at).min(room.saturating_sub(offset));
            let rest = download.bytes - download.at;
            // A small one is not cut because little room is left beside others.
            if bytes == 0 && rest > 0 || offset > 0 && bytes < rest && rest <= room || batch.downloads.len() >= PIECES {
                break;
            }
            let last = bytes == rest;
            batch.downloads.push(DownPiece { ticket: download.ticket, at: download.at, bytes, offset, last });
            download.at += bytes;
            self.down_bytes -= bytes;
            offset = (offset + bytes).next_multiple_of(ALIGNED);
            if last {
                self.downloads.pop_front();
            }
        }
        let used = batch.downloads.last().map_or(0, |piece| piece.offset + piece.bytes);
        batch.pack_bytes = if used == 0 { 0 } else { used.next_power_of_two().clamp(SMALLEST.min(room), room) };
        self.lent_bytes += batch.pack_bytes;
        used
    }

    /// There is no memory for a staging buffer now: these downloads are queued again. They go in smaller ones; where it is not their size, they wait until
    /// what is lent has come back, and no more is lent at once from now on.
    pub(super) fn no_staging(&mut self, pieces: &[DownPiece], pack_bytes: u64, piece_bytes: u64) {
        self.not_lent(pack_bytes);
        if piece_bytes < self.limits.piece_bytes {
            self.limits.piece_bytes = piece_bytes;
        } else {
            self.most_bytes = self.lent_bytes;
        }
        for piece in pieces.iter().rev() {
            self.down_bytes += piece.bytes;
            match self.downloads.front_mut().filter(|download| download.ticket == piece.ticket) {
                Some(download) => download.at = piece.at,
                None => {
                    let (ticket, at, bytes) = (piece.ticket, piece.at, piece.at + piece.bytes);
                    // What it came after has gone: it was in a submission.
                    self.downloads.push_front(QueuedDownload { ticket, at, bytes, after: Mark(0) });
                }
            }
        }
    }
}
