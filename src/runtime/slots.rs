//! The buffers that the scheduler has named, by id.
//!
//! Owns: [`Slots`], [`Slot`]. Must not know: what is in them. Invariant: memory is asked for by whoever uses a buffer first, while nothing is locked; what
//! the system refused is asked for again by the next.

use std::sync::{Arc, OnceLock};

use super::driver::Inner;
use crate::device::{HOST, HostBuffer, Memory};
use crate::error::{Error, Result};
use crate::id::{BufferId, SpaceId};

/// One buffer. Its memory comes with its first use.
pub(super) struct Slot {
    space: SpaceId,
    bytes: u64,
    memory: OnceLock<Memory>,
}

impl Slot {
    /// The memory, asked for if it is not there yet; `what` it is for.
    pub(super) fn memory(&self, inner: &Inner, what: impl FnOnce() -> String) -> Result<&Memory, Short> {
        if let Some(memory) = self.memory.get() {
            return Ok(memory);
        }
        let made = match if self.space == HOST { None } else { inner.device_of(self.space) } {
            None => HostBuffer::pooled(self.bytes as usize).map(Memory::Host),
            Some(device) => device.allocate(self.bytes),
        };
        match made {
            Ok(memory) => Ok(self.memory.get_or_init(|| memory)),
            Err(error) => Err(Short { host: self.space == HOST, error: named(error, what()) }),
        }
    }
}

/// Memory that is not to be had.
pub(super) struct Short {
    /// Of the host, or of a device.
    pub(super) host: bool,
    /// What the system said.
    pub(super) error: Error,
}

/// See the module's text.
#[derive(Default)]
pub(super) struct Slots(Vec<SlotEntry>);

#[derive(Default)]
enum SlotEntry {
    #[default]
    None,
    /// Used never yet, or of a device's memory.
    Slot(Arc<Slot>),
    /// In host memory that is there: found without a look at the slot.
    Host(Arc<HostBuffer>),
}

/// Where a buffer is.
pub(super) enum Found {
    Slot(Arc<Slot>),
    Host(Arc<HostBuffer>),
}

/// What was a buffer, to be dropped while nothing is locked.
pub(super) struct Gone(#[allow(dead_code)] SlotEntry); // only dropped

impl Slots {
    /// A buffer.
    pub(super) fn get(&mut self, buffer: BufferId) -> Found {
        let entry = &mut self.0[buffer.index()];
        if let SlotEntry::Slot(slot) = entry
            && let Some(Memory::Host(memory)) = slot.memory.get()
        {
            *entry = SlotEntry::Host(memory.clone());
        }
        match entry {
            SlotEntry::Host(memory) => Found::Host(memory.clone()),
            SlotEntry::Slot(slot) => Found::Slot(slot.clone()),
            SlotEntry::None => unreachable!("a place names a buffer that was created"),
        }
    }

    /// Names a buffer.
    pub(super) fn create(&mut self, buffer: BufferId, space: SpaceId, bytes: u64) {
        if self.0.len() <= buffer.index() {
            self.0.resize_with(buffer.index() + 1, SlotEntry::default);
        }
        self.0[buffer.index()] = SlotEntry::Slot(Arc::new(Slot { space, bytes, memory: OnceLock::new() }));
    }

    /// Gives a buffer back; its memory goes with the last that uses it.
    pub(super) fn release(&mut self, buffer: BufferId) -> Gone {
        Gone(std::mem::take(&mut self.0[buffer.index()]))
    }
}

/// What the system said, about what it was for.
fn named(error: Error, for_what: String) -> Error {
    match error {
        Error::OutOfMemory { requested_bytes, available_bytes, space, remedies, .. } => {
            Error::OutOfMemory { what: for_what, requested_bytes, available_bytes, space, remedies }
        }
        other => other,
    }
}
