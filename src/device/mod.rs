//! Devices: what executes, and the memory it executes in.
//!
//! Owns: the [`Device`] contract, the devices (`cpu`, `io`, and `faulty` which wraps one and injects faults), host buffers,
//! facts about this machine. Must not know: graphs, costs, decisions.
//!
//! # The contract
//!
//! A device obeys and reports; it never places, retries or chooses. [`Device::launch`] returns at once; `done` is called
//! exactly once for each launch, from any thread, unless the device is wedged (then never: the scheduler's stall rule sees to
//! it). A panic in a kernel is a report like any other. A device's launches may overlap up to [`DeviceSpec::queue`].

mod block;
mod buffer;
mod calls;
mod cpu;
mod faulty;
pub(crate) mod files;
#[cfg(feature = "gpu")]
pub mod gpu;
mod io;
mod scratch;
mod shared;
pub mod system;
mod tuning;

use std::sync::Arc;

use smallvec::SmallVec;

pub use block::ALIGN;
pub use buffer::{HostBuffer, TakenResult, Window, take_result};
pub use calls::Origin;
pub(crate) use calls::current;
pub use cpu::Cpu;
pub use faulty::{Faulty, Injection};
pub use io::IoLane;
pub(crate) use shared::SharedElements;
pub use tuning::Tuning;

use crate::error::{Error, Remedy, Result};
use crate::id::SpaceId;
use crate::kernel::{ExactFloats, Fault, GpuFacts, Kernel, Lane, Program, Scratch};
use crate::shape::{ChunkView, ChunkViewMut, DType, Form, Layout, Opaque, View};

/// The host's memory, where caller's arrays and results live.
pub const HOST: SpaceId = SpaceId(0);
/// Stack of a thread that runs kernels, as large as a program's first thread usually has: kernels may compute, and those they wait for lie on top.
pub(crate) const STACK_BYTES: usize = 8 << 20;

/// What kind of hardware a device is.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, serde::Serialize, serde::Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum DeviceKind {
    /// A pool of CPU threads.
    Cpu,
    /// A graphics processor.
    Gpu,
    /// The I/O lane.
    Io,
}

/// Speed of one direction of a link between the host and another memory space.
#[derive(Clone, Copy, Debug, PartialEq, serde::Serialize, serde::Deserialize)]
pub struct LinkSpec {
    /// Time before the first byte.
    pub latency_ns: u64,
    /// Data per second.
    pub bytes_per_s: f64,
}

impl LinkSpec {
    /// Time to move `bytes`.
    #[must_use]
    pub fn transfer_ns(&self, bytes: u64) -> u64 {
        self.latency_ns.saturating_add((bytes as f64 / self.bytes_per_s * 1e9) as u64)
    }
}

/// What the scheduler knows of a device.
#[derive(Clone, Debug, PartialEq, serde::Serialize, serde::Deserialize)]
pub struct DeviceSpec {
    /// Short name in tables and traces: `cpu`, `io`, `gpu0`.
    pub name: String,
    /// Hardware model and what else costs depend on (threads, SIMD, driver): the key of its measured costs.
    pub model: String,
    /// Kind of hardware.
    pub kind: DeviceKind,
    /// Tasks that make progress at the same time.
    pub workers: u32,
    /// Launches it takes before it has reported the first (at least `workers`).
    pub queue: u32,
    /// Where its operands must be.
    pub space: SpaceId,
    /// Link from the host to its space and back; `None` if that is the host's own memory.
    pub link: Option<[LinkSpec; 2]>,
    /// What programs for it may use; `None` for devices that run CPU bodies.
    pub gpu: Option<GpuFacts>,
}

impl DeviceSpec {
    /// Whether it takes contiguous chunks only: neither views nor packed forms.
    #[must_use]
    pub fn takes_contiguous(&self) -> bool {
        self.gpu.is_some()
    }

    /// Whether the device is of the kind that executes this lane.
    #[must_use]
    pub fn serves(&self, lane: Lane) -> bool {
        (self.kind == DeviceKind::Io) == (lane == Lane::Io)
    }
}

/// Memory that a device hands out: a buffer of its memory space.
#[derive(Clone)]
pub enum Memory {
    /// Host memory.
    Host(Arc<HostBuffer>),
    /// Memory that only the device can read and write; it knows what this is.
    Remote(Arc<dyn std::any::Any + Send + Sync>),
}

/// A chunk in a device's own memory: in C order from the start of a buffer, or what a view shows of such a one.
#[derive(Clone)]
pub struct Remote {
    /// The buffer.
    pub memory: Arc<dyn std::any::Any + Send + Sync>,
    /// Dtype, shape and strides: contiguous, but for inputs of kernels that read views.
    pub layout: Arc<Layout>,
    /// Its first element in the buffer.
    pub offset: usize,
}

impl Remote {
    /// All of a buffer.
    #[must_use]
    pub fn whole(memory: Arc<dyn std::any::Any + Send + Sync>, layout: Arc<Layout>) -> Self {
        Self { memory, layout, offset: 0 }
    }

    /// What a view shows of it.
    #[must_use]
    pub fn viewed(&self, view: &View) -> Self {
        let (offset, layout) = view.of(&self.layout);
        Self { memory: self.memory.clone(), layout: layout.into(), offset: self.offset.saturating_add_signed(offset) }
    }
}

/// An operand of a launch: bytes, or a Rust value.
#[derive(Clone)]
pub enum Data {
    /// A chunk of numbers in host memory.
    Host(Window),
    /// A chunk of numbers in the device's own memory.
    Remote(Remote),
    /// An opaque value: present for inputs, `None` for outputs.
    Opaque(Option<Opaque>),
}

/// A written operand.
#[derive(Clone)]
pub struct Output {
    /// Where the new value goes.
    pub to: Data,
    /// For an update whose old value lies elsewhere: copied in before the kernel runs.
    pub copy_in: Option<Data>,
}

/// What a launch does.
pub enum Body {
    /// Runs a kernel.
    Run {
        /// Its parameters.
        params: Vec<u8>,
        /// What it reads.
        inputs: Vec<Data>,
        /// What it writes.
        outputs: Vec<Output>,
        /// Scratch it declared.
        scratch_bytes: u64,
    },
    /// Copies (a view of) a value, contiguous or into the packed form of a kernel.
    Pack {
        /// The form: [`Form::Plain`] for a contiguous copy.
        form: Form,
        /// What of the value; `None` for all of it.
        view: Option<Arc<View>>,
        /// The plain value.
        from: Data,
        /// Where the copy goes.
        to: Data,
    },
}

/// One piece of work for a device.
pub struct Launch {
    /// The kernel to run, or whose form to make.
    pub kernel: Arc<dyn Kernel>,
    /// What to do with it.
    pub body: Body,
    /// Time it is expected to take: what keeps launches of a GPU short.
    pub estimate_ns: u64,
    /// Who ordered it; `None` for measurements.
    pub origin: Option<Origin>,
    /// Called once, when it is over.
    pub done: Done,
}

/// A move between the host and the device's own memory space.
pub struct Move {
    /// From here.
    pub from: Data,
    /// To there.
    pub to: Data,
    /// Into the device's space (else out of it).
    pub upload: bool,
    /// Called once, when it is over.
    pub done: Done,
}

/// The report of a launch or move.
pub type Done = Box<dyn FnOnce(Report) + Send>;

/// How a launch or move ended.
pub struct Report {
    /// Time it took, queueing excluded.
    pub elapsed_ns: u64,
    /// Whether that was measured; if not it is a share of what several took together, from which nothing is to be learnt.
    pub measured: bool,
    /// How long ago it ended, where reports come late because several are made at once.
    pub since_ns: u64,
    /// Which worker of the device did it, for traces.
    pub worker: u32,
    /// Opaque outputs, by output index.
    pub opaque: Vec<(usize, Opaque)>,
    /// What went wrong.
    pub outcome: Result<(), Failure>,
}

/// Why a launch did not produce its outputs.
#[derive(Clone, Debug)]
pub enum Failure {
    /// The kernel says that the data (or a file) are bad.
    Fault(Fault),
    /// The kernel or closure panicked.
    Panic(String),
    /// The device failed; the task can be rerun elsewhere.
    Device(Error),
    /// The device is well, but cannot run this kernel on operands of this dtype: its shader does not compile, or its program is none.
    Unfit(Error),
    /// The device's memory is full: less of it must be used, or another device.
    OutOfMemory(Error),
    /// The device is gone, with everything in its memory.
    Lost(Error),
}

/// What a device with memory of its own has done since it was opened; of others, the bytes of scratch that their threads keep between tasks.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, serde::Serialize)]
pub struct Counters {
    /// Launches that ended well.
    pub launches: u64,
    /// Batches of launches and copies given to the driver.
    pub submissions: u64,
    /// Dispatches in them: a launch is one, or several.
    pub dispatches: u64,
    /// Moves from the host.
    pub uploads: u64,
    /// Moves to the host.
    pub downloads: u64,
    /// Bytes that passed through staging, both ways.
    pub staged_bytes: u64,
    /// Bytes of buffers that exist now: chunks, scratch, staging.
    pub bytes: u64,
    /// Entry points of shaders that were compiled, or refused.
    pub compiled: u64,
    /// Those that are kept now.
    pub programs: u64,
    /// Entry points that launches wait for now, because they are being compiled or have yet to be.
    pub compiling: u64,
    /// What launches that are alike share, as far as it is kept now.
    pub plans: u64,
}

/// See the module's text for the contract.
///
/// # Safety
/// The scheduler keeps tasks from getting in each other's way by what devices report, so a device must report the truth. It uses the
/// operands of a launch or a move for that launch or move only, once, and not before it is given nor after it has called `done`; one
/// that reports no failure has written all outputs. Memory that [`Device::allocate`] gives is nobody else's.
#[allow(unsafe_code)] // a promise that the compiler cannot check
pub unsafe trait Device: Send + Sync + 'static {
    /// What it is.
    fn spec(&self) -> &DeviceSpec;

    /// Starts a launch.
    fn launch(&self, launch: Launch);

    /// Starts a move between the host and its memory space. Devices in host memory are never asked.
    fn transfer(&self, mv: Move);

    /// Memory for a chunk in its memory space, of `bytes` or a little more. It may take none before it is used; then the launch or
    /// move that uses it first reports [`Failure::OutOfMemory`].
    ///
    /// # Errors
    /// [`Error::OutOfMemory`].
    fn allocate(&self, bytes: u64) -> Result<Memory> {
        HostBuffer::pooled(bytes as usize).map(Memory::Host)
    }

    /// Bytes of its own memory that may be used; `None` for devices in host memory.
    fn memory_bytes(&self) -> Option<u64> {
        None
    }

    /// Host memory that it may take for moves, beside the chunks: counted in the host's limit from when it joins.
    fn staging_bytes(&self) -> u64 {
        0
    }

    /// What its user is to be told, once: something does not work as it should, and goes another way. Asked for when the device rests.
    fn notice(&self) -> Option<String> {
        None
    }

    /// What it has done so far.
    fn counters(&self) -> Counters {
        Counters::default()
    }

    /// Called when a graph is over that needed scratch, and when nothing is under way any more: gives back what it keeps beyond what the graphs
    /// under way need, if that is much. `scratch_bytes` is the most that a launch of theirs may take.
    fn rest(&self, _scratch_bytes: u64) {}

    /// Says how it runs best: what was found out of its model on this machine, now or in an earlier session. It may follow that from the next launch on, or
    /// not at all: no result depends on it.
    fn tune(&self, _tuning: &Tuning) {}

    /// Says what a test has shown of its arithmetic, now or in an earlier session: from its next launch on, that is what its programs are made for
    /// ([`GpuFacts::exact`](crate::kernel::GpuFacts)), and results may differ by what is stated of each operation.
    fn set_exact(&self, _exact: &ExactFloats) {}

    /// How long a launch of this kernel's program would wait until it is compiled, as far as is known: 0 where it could begin at once, as on a device that compiles nothing. Asked
    /// when work is priced, so it must not take long.
    fn compiling_ns(&self, _kernel: &dyn Kernel, _program: &Program) -> u64 {
        0
    }

    /// Such launches may come: whoever compiles may begin, and nobody waits for it.
    fn compile_ahead(&self, _kernel: &dyn Kernel, _program: &Program) {}

    /// Compiles nothing more ahead, and waits until nothing is being compiled, at most until then: the program may be about to end.
    fn finish_compiling(&self, _until: std::time::Instant) {}

    /// Whether this thread is one of its workers: then a wait for other tasks must not block it.
    fn on_worker(&self) -> bool {
        false
    }

    /// Called on one of its workers that waits: executes one queued launch here that is `wanted`, if there is one.
    fn help(&self, _wanted: &dyn Fn(&Origin) -> bool) -> bool {
        false
    }
}

/// Runs a launch's body on this thread, with panics caught: what the CPU and the I/O lane share.
pub(crate) fn execute(kernel: &dyn Kernel, body: Body, scratch: &mut Vec<u64>) -> (Result<(), Failure>, Vec<(usize, Opaque)>) {
    let mut opaque = Vec::new();
    let caught = std::panic::catch_unwind(std::panic::AssertUnwindSafe(|| match body {
        Body::Run { params, inputs, outputs, scratch_bytes } => {
            let words = (scratch_bytes as usize + ALIGN).div_ceil(8);
            if scratch.len() < words {
                let more = words - scratch.len();
                scratch.try_reserve_exact(more).map_err(|_| no_scratch(scratch_bytes))?;
                scratch.resize(words, 0);
            }
            run_kernel(kernel, &params, &inputs, &outputs, scratch, &mut opaque)
        }
        Body::Pack { form, view, from, to } => {
            let (Data::Host(source), Data::Host(window)) = (&from, &to) else { panic!("an opaque value has no packed form") };
            let viewed = view.map(|view| Data::Host(source.viewed(&view)));
            let from = input_view(viewed.as_ref().unwrap_or(&from));
            match form {
                Form::Plain => host_view_mut(window).copy_from(from),
                Form::Packed(form) => kernel.pack(form, from, &mut host_view_mut(window)),
            }
            Ok(())
        }
    }));
    let outcome = match caught {
        Ok(Ok(())) => Ok(()),
        Ok(Err(fault)) => Err(Failure::Fault(fault)),
        Err(payload) => Err(Failure::Panic(panic_message(&*payload))),
    };
    (outcome, opaque)
}

fn no_scratch(requested_bytes: u64) -> Fault {
    Fault::Failed(Error::OutOfMemory {
        what: "scratch of a task".into(),
        requested_bytes,
        available_bytes: 0,
        space: "system".into(),
        remedies: vec![Remedy::Other("smaller chunks or fewer threads".into())],
    })
}

fn run_kernel(
    kernel: &dyn Kernel,
    params: &[u8],
    inputs: &[Data],
    outputs: &[Output],
    scratch: &mut [u64],
    opaque: &mut Vec<(usize, Opaque)>,
) -> Result<(), Fault> {
    let inputs: SmallVec<[ChunkView<'_>; 4]> = inputs.iter().map(input_view).collect();
    let mut places: SmallVec<[Option<Opaque>; 2]> = outputs.iter().map(|_| None).collect();
    {
        let mut views: SmallVec<[ChunkViewMut<'_>; 2]> = SmallVec::new();
        for (output, place) in outputs.iter().zip(&mut places) {
            views.push(match &output.to {
                Data::Host(window) => host_view_mut(window),
                Data::Opaque(_) => ChunkViewMut::of_opaque(place, opaque_layout()),
                Data::Remote(_) => panic!("a chunk in another memory space"),
            });
        }
        for (output, view) in outputs.iter().zip(&mut views) {
            if let Some(old) = &output.copy_in {
                view.copy_from(input_view(old));
            }
        }
        kernel.run_cpu(params, &inputs, &mut views, &mut Scratch::new(bytemuck::cast_slice_mut(scratch)))?;
    }
    if let Some(at) = outputs.iter().zip(&places).position(|(o, place)| matches!(o.to, Data::Opaque(_)) && place.is_none()) {
        let message = format!("its kernel has set no value for output {at}, which is opaque");
        return Err(Fault::Failed(Error::Task { task: kernel.name().into(), message }));
    }
    opaque.extend(places.into_iter().enumerate().filter_map(|(i, p)| p.map(|p| (i, p))));
    Ok(())
}

fn opaque_layout() -> &'static Layout {
    static LAYOUT: std::sync::LazyLock<Layout> = std::sync::LazyLock::new(|| Layout::contiguous(DType::U8, &[]));
    &LAYOUT
}

pub(crate) fn input_view(bytes: &Data) -> ChunkView<'_> {
    match bytes {
        #[allow(unsafe_code)] // the one reader of windows
        // SAFETY: the scheduler launches a task only when its inputs are written, and lets nobody write them until its readers
        // have reported (tests/schedule: no launch writes a place that another launch uses).
        Data::Host(window) => unsafe { window.view() },
        Data::Opaque(Some(value)) => ChunkView::of_opaque(value, opaque_layout()),
        Data::Opaque(None) => panic!("opaque input without a value"),
        Data::Remote(_) => panic!("a chunk in another memory space"),
    }
}

/// Fills a chunk of `f32`, `f64` or `i32` that nobody else uses: element `i` in C order is `value(i)`.
pub(crate) fn write(window: &Window, value: impl Fn(usize) -> f64) {
    let mut view = host_view_mut(window);
    match window.layout().dtype {
        DType::F32 => view.slice_mut::<f32>().iter_mut().enumerate().for_each(|(i, x)| *x = value(i) as f32),
        DType::F64 => view.slice_mut::<f64>().iter_mut().enumerate().for_each(|(i, x)| *x = value(i)),
        _ => view.slice_mut::<i32>().iter_mut().enumerate().for_each(|(i, x)| *x = value(i) as i32),
    }
}

/// Copies one chunk of host memory to another, on this thread. Both must be at rest.
pub(crate) fn copy(from: &Data, to: &Window) {
    host_view_mut(to).copy_from(input_view(from));
}

pub(crate) fn host_view_mut(window: &Window) -> ChunkViewMut<'_> {
    #[allow(unsafe_code)] // the one writer of windows
    // SAFETY: the scheduler gives each written place to one launch at a time, and to no reader before its report.
    unsafe {
        window.view_mut()
    }
}

/// The error which says that `what` has panicked.
pub(crate) fn caught(what: impl Into<String>, payload: &(dyn std::any::Any + Send)) -> Error {
    Error::Failed { what: what.into(), message: format!("it panicked: {}", panic_message(payload)) }
}

pub(crate) fn panic_message(payload: &(dyn std::any::Any + Send)) -> String {
    let text = payload.downcast_ref::<&str>().map(|s| (*s).to_owned());
    text.or_else(|| payload.downcast_ref::<String>().cloned()).unwrap_or_else(|| "panic without a message".into())
}
