//! An open GPU that is driven by hand.
//!
//! Owns: [`Lab`]: opening, memory, moves, launches, waiting for them. Must not know: what is measured. Invariant: nothing is waited for beyond the
//! deadline, or longer than `PATIENCE`.

use std::sync::Arc;
use std::sync::mpsc::{Receiver, channel};
use std::time::{Duration, Instant};

use chunkwise::Bytes;
use chunkwise::device::gpu::{AdapterInfo, Gpu};
use chunkwise::device::{Body, Data, Device, Faulty, Injection, Launch, Memory, Move, Output, Remote, Report, system};
use chunkwise::id::SpaceId;
use chunkwise::shape::Layout;

use super::case::Case;
use super::host::{Landing, Operand};
use super::teller::{Measured, Trouble, failed};

/// Time for one launch or move: a driver may compile for seconds.
const PATIENCE: Duration = Duration::from_secs(30);
/// Host memory for chunks on their way: as much as a session on a large machine gives.
const STAGING: u64 = 512 << 20;
/// The launch that is never reported, where that is wanted.
const HANGS: u64 = 3;

/// What is broken, to see that it is noticed.
#[derive(Clone, Copy, Debug, PartialEq, Eq, clap::ValueEnum)]
pub enum Break {
    /// results are damaged before they are checked
    Wrong,
    /// a launch is never reported
    Stall,
}

/// How a GPU is measured.
#[derive(Clone, Copy)]
pub struct Settings {
    /// Until when.
    pub deadline: Instant,
    /// 0: little, for software; 1: quick; 2: everything.
    pub level: usize,
    /// What is broken.
    pub broken: Option<Break>,
}

/// An open GPU.
pub struct Lab {
    /// The GPU.
    pub device: Arc<dyn Device>,
    /// How it is measured.
    pub settings: Settings,
    /// Bytes of the largest buffer, and of the largest operand.
    largest: [u64; 2],
}

/// Operands in the GPU's memory.
pub struct Set {
    inputs: Vec<Data>,
    /// The output.
    pub output: Data,
}

/// A report that is waited for.
pub type Awaited = Receiver<Report>;

/// The GPU with a variant of the matrix product: 0 is what the library chooses.
fn with_product(gpu: Gpu, variant: u8) -> Gpu {
    gpu.with_facts(|facts| (facts.variants.gemm, facts.variants.syrk) = ([variant; 2], [variant; 2]))
}

impl Lab {
    /// Opens an adapter.
    pub fn open(adapter: &AdapterInfo, variant: u8, settings: Settings) -> Measured<Self> {
        let gpu = Gpu::open(adapter, "gpu0", SpaceId(1), STAGING).map_err(failed)?;
        let mut device: Arc<dyn Device> = Arc::new(with_product(gpu, variant));
        if settings.broken == Some(Break::Stall) {
            device = Arc::new(Faulty::new(device, Injection::Hang, HANGS));
        }
        Ok(Self::of(device, adapter, settings))
    }

    /// A device that was opened on this adapter.
    pub fn of(device: Arc<dyn Device>, adapter: &AdapterInfo, settings: Settings) -> Self {
        Self { device, settings, largest: [adapter.limits.buffer_bytes, adapter.facts().binding_bytes] }
    }

    /// Whether there is time for more.
    pub fn in_time(&self) -> Measured<()> {
        if Instant::now() < self.settings.deadline { Ok(()) } else { Err(Trouble::Over("the limit is over".into())) }
    }

    /// Whether there is room for these bytes in host memory, and these on the GPU, each half of what there is at most.
    pub fn has_room(&self, host: u64, there: u64) -> Measured<()> {
        let own = self.device.memory_bytes().unwrap_or(u64::MAX);
        for (what, wanted, all) in [("host", host, system::available_memory()), ("the GPU's", there, own)] {
            if wanted > all / 2 {
                return Err(Trouble::Skipped(format!(
                    "it takes {} of {what} memory, over half of {}",
                    Bytes(wanted),
                    Bytes(all)
                )));
            }
        }
        Ok(())
    }

    /// Whether a chunk of so many bytes can be there at all, or, if it is an `operand`, be seen by a shader.
    pub fn takes(&self, bytes: u64, operand: bool) -> Measured<()> {
        let most = self.largest[usize::from(operand)];
        let why = || format!("a chunk of {} is more than the {} that the GPU takes", Bytes(bytes), Bytes(most));
        if bytes <= most { Ok(()) } else { Err(Trouble::Skipped(why())) }
    }

    /// Waits for a report; the time that it tells, which for launches is the GPU's own where it has a clock.
    pub fn ended(&self, awaited: &Awaited) -> Measured<u64> {
        let left = self.settings.deadline.saturating_duration_since(Instant::now());
        let report = awaited.recv_timeout(left.min(PATIENCE)).map_err(|_| match left < PATIENCE {
            true => Trouble::Over("the limit is over, and a launch or move is not".into()),
            false => Trouble::Over(format!("no report within {PATIENCE:?}")),
        })?;
        report.outcome.map(|()| report.elapsed_ns).map_err(failed)
    }

    /// Waits for all; the sum of their times.
    pub fn all_ended(&self, all: &[Awaited]) -> Measured<u64> {
        all.iter().map(|awaited| self.ended(awaited)).sum()
    }

    /// Room for a chunk.
    pub fn room(&self, layout: &Layout) -> Measured<Data> {
        match self.device.allocate(layout.bytes()).map_err(failed)? {
            Memory::Remote(memory) => Ok(Data::Remote(Remote::whole(memory, layout.clone().into()))),
            Memory::Host(_) => Err(failed("its memory is the host's")),
        }
    }

    /// Starts a move.
    pub fn transfer(&self, from: &Data, to: &Data) -> Awaited {
        let (sender, receiver) = channel();
        let done = Box::new(move |report| drop(sender.send(report))); // who waited may have given up
        let upload = matches!(to, Data::Remote(_));
        self.device.transfer(Move { from: from.clone(), to: to.clone(), upload, done });
        receiver
    }

    /// Brings an operand to the GPU.
    pub fn upload(&self, operand: &Operand) -> Measured<Data> {
        let to = self.room(&operand.layout)?;
        self.ended(&self.transfer(&operand.chunk(), &to))?;
        Ok(to)
    }

    /// Brings a chunk back, damaged where that is wanted.
    pub fn download(&self, from: &Data, layout: &Layout) -> Measured<Operand> {
        let landing = Landing::new(layout.dtype, &layout.shape)?;
        self.ended(&self.transfer(from, &landing.chunk()))?;
        let found = landing.found()?;
        Ok(if self.settings.broken == Some(Break::Wrong) { found.spoiled() } else { found })
    }

    /// Brings a case's operands to the GPU.
    pub fn set(&self, inputs: &[Operand], old: &Operand) -> Measured<Set> {
        let inputs = inputs.iter().map(|input| self.upload(input)).collect::<Measured<_>>()?;
        Ok(Set { inputs, output: self.upload(old)? })
    }

    /// Starts a launch.
    pub fn start(&self, case: &Case, set: &Set) -> Awaited {
        let (sender, receiver) = channel();
        let outputs = vec![Output { to: set.output.clone(), copy_in: None }];
        let body = Body::Run { params: case.params.clone(), inputs: set.inputs.clone(), outputs, scratch_bytes: 0 };
        let done = Box::new(move |report| drop(sender.send(report))); // as above
        // A small estimate, so that sixteen launches are submitted at once, as for a scheduler that expects little of each.
        self.device.launch(Launch { kernel: case.kernel.clone(), body, estimate_ns: 10_000, origin: None, done });
        receiver
    }
}

/// Time by the host's clock, in ns, at least 1.
pub fn timed<T>(work: impl FnOnce() -> Measured<T>) -> Measured<(T, u64)> {
    let began = Instant::now();
    Ok((work()?, (began.elapsed().as_nanos() as u64).max(1)))
}

/// Billions a second, to three digits behind the point.
pub fn per_ns(amount: f64, ns: u64) -> f64 {
    (amount / ns as f64 * 1e3).round() / 1e3
}
