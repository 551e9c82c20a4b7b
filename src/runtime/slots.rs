//! The buffers that the scheduler has named, by id.
//!
//! Owns: [`Slots`]. Must not know: what is in them. Invariant: a buffer that the system refused is tried again by whoever uses it, and never
//! counts as there.

use std::sync::Arc;

use super::driver::Inner;
use super::transfer::Unready;
use crate::device::{HOST, HostBuffer, Memory};
use crate::error::{Error, Result};
use crate::id::{BufferId, SpaceId};
use crate::schedule::Place;

#[derive(Default)]
enum Slot {
    #[default]
    Free,
    Memory(Memory),
    Refused(SpaceId, u64),
}

/// See the module's text.
#[derive(Default)]
pub(super) struct Slots(Vec<Slot>);

impl Slots {
    /// The memory of a buffer, whose use [`Slots::have`] has allowed.
    pub(super) fn get(&self, buffer: BufferId) -> Memory {
        match &self.0[buffer.index()] {
            Slot::Memory(memory) => memory.clone(),
            Slot::Free | Slot::Refused(..) => unreachable!("a place names a buffer that was allocated"),
        }
    }

    pub(super) fn allocate(&mut self, inner: &Arc<Inner>, buffer: BufferId, (space, bytes): (SpaceId, u64)) {
        if self.0.len() <= buffer.index() {
            self.0.resize_with(buffer.index() + 1, Slot::default);
        }
        self.0[buffer.index()] = make(inner, space, bytes).map_or(Slot::Refused(space, bytes), Slot::Memory);
    }

    pub(super) fn release(&mut self, buffer: BufferId) -> Option<Memory> {
        match std::mem::take(&mut self.0[buffer.index()]) {
            Slot::Memory(memory) => Some(memory),
            Slot::Free | Slot::Refused(..) => None,
        }
    }

    /// Sees to it that the buffers of these places are there. `what` they are for.
    pub(super) fn have(
        &mut self,
        inner: &Arc<Inner>,
        places: impl IntoIterator<Item = Place>,
        what: impl Fn() -> String,
    ) -> Result<(), Unready> {
        for place in places {
            let Place::Buffer(buffer) = place else { continue };
            let slot = &mut self.0[buffer.index()];
            if let Slot::Refused(space, bytes) = *slot {
                match make(inner, space, bytes) {
                    Ok(memory) => *slot = Slot::Memory(memory),
                    Err(error) => return Err(Unready::NoMemory { host: space == HOST, error: named(error, what()) }),
                }
            }
        }
        Ok(())
    }
}

fn make(inner: &Arc<Inner>, space: SpaceId, bytes: u64) -> Result<Memory> {
    match if space == HOST { None } else { inner.device_of(space) } {
        None => HostBuffer::pooled(bytes as usize).map(Memory::Host),
        Some(device) => device.allocate(bytes),
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
