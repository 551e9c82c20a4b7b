//! One dataset of an HDF5 file that is written.
//!
//! Owns: [`Dataset`]: its sink. Must not know: what else is in the file, who commits it. Invariant: nothing is written once the file was dropped or committed.

use std::sync::{Arc, Weak};

use super::packed::Packed;
use crate::error::{Error, Result};
use crate::kernel::Held;
use crate::shape::{ChunkView, Region};
use crate::store::direct::{StoredAt, write_region};
use crate::store::whole::WholeFile;
use crate::task::{ChunkSink, Intake};

/// How the elements of a dataset get into the file.
pub(super) enum Put {
    /// By position.
    At(StoredAt),
    /// Packed.
    Packed(Packed),
}

/// The sink of one dataset.
pub(super) struct Dataset {
    pub(super) intake: Arc<Intake>,
    pub(super) place: Put,
    /// Goes with the writer: then nothing is left to write to.
    pub(super) file: Weak<WholeFile>,
}

impl Dataset {
    fn file(&self) -> Result<Arc<WholeFile>> {
        self.file.upgrade().ok_or_else(|| {
            let message = "its file was dropped, or is committed; keep the Hdf5Writer until all is written, then commit it";
            Error::Failed { what: format!("writing {}", self.intake.name()), message: message.into() }
        })
    }
}

impl ChunkSink for Dataset {
    fn intake(&self) -> &Intake {
        &self.intake
    }

    fn held(&self) -> Option<Held> {
        if let Put::Packed(packed) = &self.place { Some(packed.held()) } else { None }
    }

    fn gathers(&self) -> bool {
        matches!(self.place, Put::Packed(_))
    }

    fn put(&self, region: &Region, chunk: ChunkView<'_>) -> Result<()> {
        let file = self.file()?;
        match &self.place {
            Put::At(place) => write_region((self.intake.shape(), place), region, chunk, &mut |bytes, at| file.write(bytes, at)),
            Put::Packed(packed) => packed.put((&file, self.intake.name()), region, chunk),
        }
    }

    /// The file is committed by its writer.
    fn commit(&self) -> Result<()> {
        self.file().map(drop)
    }
}
