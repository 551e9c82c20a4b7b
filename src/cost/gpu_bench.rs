//! A GPU driven by hand: chunks in its memory, moves and launches, waited for one by one.
//!
//! Owns: [`Bench`], [`Trouble`]. Must not know: what is measured, and why. Invariant: a device that does not answer is waited for once, [`PATIENCE`] long: who
//! meets [`Trouble::Gone`] asks it no more.

use std::cell::{Cell, RefCell};
use std::collections::HashMap;
use std::sync::Arc;
use std::sync::mpsc::{Receiver, channel};
use std::time::{Duration, Instant};

use super::gpu_cases::Case;
use crate::device::{Body, Data, Device, Failure, HostBuffer, Launch, Memory, Move, Output, Remote, Report, Window};
use crate::kernel::Kernel;
use crate::kernel::map::{Builder, Elementwise};
use crate::shape::{DType, Layout};

/// The time after which a device that does not answer is given up: a driver may compile for seconds.
pub(super) const PATIENCE: Duration = Duration::from_secs(20);
/// How much of its budget it may take in all, whatever took the time: compilers may.
const COMPILERS: u32 = 13;

/// Why something was not measured.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Trouble {
    /// There is no memory for it.
    NoMemory,
    /// It failed.
    Failed,
    /// The device is lost, or does not answer.
    Gone,
}

/// Times of launches that are alike, but for the first, which compiles.
pub(super) struct Times {
    /// Of each that was measured.
    pub(super) ns: Vec<u64>,
    /// The least of all, measured or not.
    pub(super) least_ns: u64,
}

/// The device, and what has been spent on it.
pub(super) struct Bench<'a> {
    pub(super) device: &'a dyn Device,
    pub(super) began: Instant,
    /// What is to be spent.
    pub(super) budget: Duration,
    /// What first launches took beyond what others do.
    compiling: Cell<Duration>,
    /// Matrices that were brought there, to be read.
    matrices: RefCell<HashMap<(DType, usize), Data>>,
}

impl<'a> Bench<'a> {
    pub(super) fn new(device: &'a dyn Device, budget: Duration) -> Self {
        Self { device, began: Instant::now(), budget, compiling: Cell::new(Duration::ZERO), matrices: RefCell::default() }
    }

    /// What was spent, compilers apart.
    pub(super) fn spent(&self) -> Duration {
        self.began.elapsed().saturating_sub(self.compiling.get())
    }

    /// Whether something that takes `ns` may be begun, where `limit` is the most that is to be spent by then.
    pub(super) fn has_time(&self, limit: Duration, ns: f64) -> bool {
        self.spent().as_secs_f64() + ns * 1e-9 <= limit.as_secs_f64() && self.began.elapsed() <= self.budget * COMPILERS
    }

    /// A chunk in the device's memory, whatever is in it.
    pub(super) fn remote(&self, layout: &Layout) -> Result<Data, Trouble> {
        match self.device.allocate(layout.bytes().max(64)) {
            Ok(Memory::Remote(memory)) => Ok(Data::Remote(Remote::whole(memory, layout.clone().into()))),
            Ok(Memory::Host(_)) => Err(Trouble::Failed),
            Err(_) => Err(Trouble::NoMemory),
        }
    }

    pub(super) fn host(layout: &Layout) -> Result<Window, Trouble> {
        let buffer = HostBuffer::pooled(layout.bytes() as usize).map_err(|_| Trouble::NoMemory)?;
        Ok(Window::new(buffer, 0, layout.clone()))
    }

    pub(super) fn move_to(&self, from: Data, to: Data, upload: bool) -> Receiver<Report> {
        let (sender, receiver) = channel();
        // The receiver may have given up.
        let done = Box::new(move |report| drop(sender.send(report)));
        self.device.transfer(Move { from, to, upload, done });
        receiver
    }

    /// A chunk on the device whose element `i` is `value(i)`.
    pub(super) fn chunk(&self, dtype: DType, shape: &[usize], value: impl Fn(usize) -> f64) -> Result<Data, Trouble> {
        let layout = Layout::contiguous(dtype, shape);
        let (window, remote) = (Self::host(&layout)?, self.remote(&layout)?);
        crate::device::write(&window, value);
        ended(&self.move_to(Data::Host(window), remote.clone(), true))?;
        Ok(remote)
    }

    /// A chunk on the device of one number, written there: what nobody has written may be no memory yet, and read at any speed.
    pub(super) fn filled(&self, dtype: DType, shape: &[usize], number: f64) -> Result<Data, Trouble> {
        let mut builder = Builder::new();
        let number = builder.constant(number);
        let number = builder.cast(number, dtype);
        let kernel: Arc<dyn Kernel> = Arc::new(Elementwise::new(Arc::new(builder.finish(number).0)));
        let (chunk, began) = (self.remote(&Layout::contiguous(dtype, shape))?, Instant::now());
        self.launch(&kernel, &[], (&[], &[fresh(&chunk)]))?;
        self.compiling.set(self.compiling.get() + began.elapsed());
        Ok(chunk)
    }

    /// The bytes of a chunk on the device.
    pub(super) fn bytes(&self, chunk: &Data) -> Result<Vec<u8>, Trouble> {
        let Data::Remote(Remote { layout, .. }) = chunk else { return Err(Trouble::Failed) };
        let window = Self::host(layout)?;
        ended(&self.move_to(chunk.clone(), Data::Host(window.clone()), false))?;
        crate::device::input_view(&Data::Host(window)).try_bytes().map(<[u8]>::to_vec).ok_or(Trouble::Failed)
    }

    /// A positive definite matrix, one for all who read it.
    pub(super) fn matrix(&self, dtype: DType, n: usize) -> Result<Data, Trouble> {
        if let Some(known) = self.matrices.borrow().get(&(dtype, n)) {
            return Ok(known.clone());
        }
        let made = self.chunk(dtype, &[n, n], |i| if i.is_multiple_of(n + 1) { n as f64 } else { varied(i) })?;
        self.matrices.borrow_mut().insert((dtype, n), made.clone());
        Ok(made)
    }

    pub(super) fn launch(
        &self,
        kernel: &Arc<dyn Kernel>,
        params: &[u8],
        chunks: (&[Data], &[Output]),
    ) -> Result<Report, Trouble> {
        ended(&self.start(kernel, params, chunks))
    }

    pub(super) fn start(&self, kernel: &Arc<dyn Kernel>, params: &[u8], chunks: (&[Data], &[Output])) -> Receiver<Report> {
        let (sender, receiver) = channel();
        let body =
            Body::Run { params: params.to_vec(), inputs: chunks.0.to_vec(), outputs: chunks.1.to_vec(), scratch_bytes: 0 };
        let done = Box::new(move |report| drop(sender.send(report)));
        self.device.launch(Launch { kernel: kernel.clone(), body, estimate_ns: 0, origin: None, done });
        receiver
    }

    /// Times of a case, so many after a first one.
    pub(super) fn times(&self, case: &Case, repeats: usize) -> Result<Times, Trouble> {
        let (inputs, mut output) = case.chunks(self)?;
        let first = Instant::now();
        self.launch(&case.kernel, &case.params, (&inputs, std::slice::from_ref(&output)))?;
        let first = first.elapsed();
        output.copy_in = None; // the others go on from there: a copy is no part of what is measured
        let mut times = Times { ns: Vec::new(), least_ns: u64::MAX };
        let began = Instant::now();
        for _ in 0..repeats {
            let report = self.launch(&case.kernel, &case.params, (&inputs, std::slice::from_ref(&output)))?;
            times.least_ns = times.least_ns.min(report.elapsed_ns.max(1));
            if report.measured {
                times.ns.push(report.elapsed_ns);
            }
        }
        let usual = began.elapsed() / repeats.max(1) as u32;
        self.compiling.set(self.compiling.get() + first.saturating_sub(usual));
        Ok(times)
    }
}

/// Numbers within 0.25 and 0.75 of which no two neighbours are equal: what is added in another order, or in another place, shows.
pub(super) fn varied(i: usize) -> f64 {
    0.25 + f64::from((i as u32).wrapping_mul(0x9e37_79b1) >> 16) / 131_072.0
}

/// An output without an old value.
pub(super) fn fresh(to: &Data) -> Output {
    Output { to: to.clone(), copy_in: None }
}

/// The report of what ended well.
pub(super) fn ended(receiver: &Receiver<Report>) -> Result<Report, Trouble> {
    let report = receiver.recv_timeout(PATIENCE).map_err(|_| Trouble::Gone)?;
    match &report.outcome {
        Ok(()) => Ok(report),
        Err(Failure::Lost(_)) => Err(Trouble::Gone),
        Err(Failure::OutOfMemory(_)) => Err(Trouble::NoMemory),
        Err(_) => Err(Trouble::Failed),
    }
}
