//! How chunks cross the link: through staging, or not at all.
//!
//! Owns: the trait [`LinkStrategy`], [`Staged`] and [`Mapped`]. Must not know: chunks, moves. Invariant: whatever is chosen, the same bytes arrive; what is given up
//! once is not tried again, and is told once.

use std::sync::atomic::{AtomicU32, Ordering};
use std::sync::{Mutex, PoisonError};

use wgpu::{BufferUsages, MapMode};

use crate::device::gpu::open::{GpuRefusal, Opened};

/// How chunks cross between host and GPU.
pub(in crate::device::gpu) trait LinkStrategy: Send + Sync {
    /// How the host may map the buffers of chunks.
    fn usage(&self) -> BufferUsages;

    /// Whether it may be that the host maps the buffer of a chunk, also of one from before.
    fn maps(&self) -> bool;

    /// Mapping does not work: from now on chunks cross through staging.
    fn give_up(&self, why: &str);

    /// What the user is to be told, once.
    fn notice(&self) -> Option<String>;
}

/// Through staging buffers, which copies of the GPU fill and empty.
pub(in crate::device::gpu) struct Staged;

impl LinkStrategy for Staged {
    fn usage(&self) -> BufferUsages {
        BufferUsages::empty()
    }

    fn maps(&self) -> bool {
        false
    }

    fn give_up(&self, _: &str) {}

    fn notice(&self) -> Option<String> {
        None
    }
}

/// Not at all: host and GPU share their memory, and the host maps the buffers of chunks.
pub(in crate::device::gpu) struct Mapped {
    /// The bits of what is left of it.
    usage: AtomicU32,
    notice: Mutex<Option<String>>,
}

impl Mapped {
    /// Chunks are mapped to be written, to be read, or both.
    pub(in crate::device::gpu) fn new(usage: BufferUsages) -> Self {
        Self { usage: AtomicU32::new(usage.bits()), notice: Mutex::default() }
    }
}

impl LinkStrategy for Mapped {
    fn usage(&self) -> BufferUsages {
        BufferUsages::from_bits_truncate(self.usage.load(Ordering::Relaxed))
    }

    fn maps(&self) -> bool {
        true
    }

    fn give_up(&self, why: &str) {
        if self.usage.swap(0, Ordering::Relaxed) != 0 {
            let notice = format!("its memory cannot be mapped ({why}): chunks are copied through staging buffers from now on");
            *self.notice.lock().unwrap_or_else(PoisonError::into_inner) = Some(notice);
        }
    }

    fn notice(&self) -> Option<String> {
        self.notice.lock().unwrap_or_else(PoisonError::into_inner).take()
    }
}

/// Both ways.
pub(in crate::device::gpu) const BOTH: BufferUsages = BufferUsages::MAP_READ.union(BufferUsages::MAP_WRITE);

/// Bytes that are copied to find out.
const TRIED: u64 = 8 << 20;

/// Bytes a ns, of buffers that may be mapped in some way.
#[derive(Clone, Copy, Debug)]
struct CopyRates {
    /// That the GPU copies.
    gpu: f64,
    /// That the host reads.
    read: f64,
}

/// In which ways it pays to map chunks, found out by copying: some memory that both reach is slow for one of them.
pub(in crate::device::gpu) fn choose(opened: &Opened) -> BufferUsages {
    let (from, mut to) = (vec![1_u8; TRIED as usize], vec![2; TRIED as usize]);
    let host = rate(|| to.copy_from_slice(&from));
    let Ok(plain) = gpu_rate(opened, BufferUsages::empty()) else { return BufferUsages::empty() };
    let pays = |usage: &BufferUsages| {
        let rates = gpu_rate(opened, *usage).and_then(|gpu| {
            let read = if usage.contains(BufferUsages::MAP_READ) { read_rate(opened, *usage, &mut to)? } else { host };
            Ok(CopyRates { gpu, read })
        });
        rates.is_ok_and(|rates| pays(rates, CopyRates { gpu: plain, read: host }))
    };
    [BOTH, BufferUsages::MAP_WRITE].into_iter().find(pays).unwrap_or(BufferUsages::empty())
}

/// Whether it is better than plain buffers and a copy by each side.
fn pays(mapped: CopyRates, plain: CopyRates) -> bool {
    mapped.gpu >= 0.8 * plain.gpu && mapped.read >= 0.25 * plain.read
}

/// The better of two tries after a first one.
fn rate(mut copy: impl FnMut()) -> f64 {
    copy();
    let tries = [0; 2].map(|_| {
        let began = std::time::Instant::now();
        copy();
        began.elapsed().as_nanos().max(1) as f64
    });
    TRIED as f64 / tries[0].min(tries[1])
}

fn gpu_rate(opened: &Opened, usage: BufferUsages) -> Result<f64, GpuRefusal> {
    let usage = BufferUsages::STORAGE | BufferUsages::COPY_SRC | BufferUsages::COPY_DST | usage;
    let buffers = [opened.buffer(TRIED, usage, false)?, opened.buffer(TRIED, usage, false)?];
    let mut outcome = Ok(());
    let found = rate(|| {
        if outcome.is_err() {
            return;
        }
        let copied = opened.caught(|| {
            let mut encoder = opened.device.create_command_encoder(&Default::default());
            (0..4).for_each(|_| encoder.copy_buffer_to_buffer(&buffers[0], 0, &buffers[1], 0, TRIED));
            Ok(opened.queue.submit([encoder.finish()]))
        });
        outcome = copied.and_then(|index| wait(opened, Some(index)));
    });
    opened.forget(2 * TRIED);
    outcome.map(|()| found)
}

fn read_rate(opened: &Opened, usage: BufferUsages, to: &mut [u8]) -> Result<f64, GpuRefusal> {
    let buffer = opened.buffer(TRIED, BufferUsages::STORAGE | usage, false)?;
    opened.forget(TRIED);
    opened.caught(|| {
        buffer.map_async(MapMode::Read, .., |_| {});
        wait(opened, None)?;
        let mapped = buffer.get_mapped_range(..).map_err(|e| GpuRefusal::Invalid(e.to_string()))?;
        Ok(rate(|| to.copy_from_slice(&mapped)))
    })
}

fn wait(opened: &Opened, submission_index: Option<wgpu::SubmissionIndex>) -> Result<(), GpuRefusal> {
    // A GPU that needs longer for so little is no reason to wait with opening it.
    let timeout = Some(std::time::Duration::from_millis(300));
    match opened.device.poll(wgpu::PollType::Wait { submission_index, timeout }) {
        Ok(_) => Ok(()),
        Err(error) => Err(GpuRefusal::Invalid(error.to_string())),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn memory_that_one_side_reads_slowly_is_not_mapped() {
        let plain = CopyRates { gpu: 40.0, read: 10.0 };
        let found =
            [(40.0, 10.0), (33.0, 3.0), (30.0, 10.0), (60.0, 1.0)].map(|(gpu, read)| pays(CopyRates { gpu, read }, plain));
        assert_eq!(found, [true, true, false, false]);
    }

    #[test]
    fn what_is_given_up_is_told_once() {
        let mapped = Mapped::new(BOTH);
        assert_eq!((mapped.usage(), mapped.notice()), (BOTH, None));
        mapped.give_up("for a test");
        mapped.give_up("again");
        let told = mapped.notice().unwrap();
        assert!(told.contains("for a test"), "{told}");
        assert_eq!((mapped.usage(), mapped.notice()), (BufferUsages::empty(), None));
    }

    #[test]
    fn any_adapter_can_be_asked() {
        let Some(adapter) = crate::device::gpu::adapters::any() else { return };
        let opened = Opened::mapping(&adapter, Box::new(crate::device::gpu::driver::Plain), Some(BOTH)).unwrap();
        let before = opened.bytes();
        let found = choose(&opened);
        assert!([BOTH, BufferUsages::MAP_WRITE, BufferUsages::empty()].contains(&found));
        assert!(
            gpu_rate(&opened, BOTH).unwrap() > 0.0 && read_rate(&opened, BOTH, &mut vec![0; TRIED as usize]).unwrap() > 0.0
        );
        assert_eq!((opened.bytes(), opened.lost()), (before, None));
    }
}
