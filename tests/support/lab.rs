//! Kernels run on chunks through the `Device` contract, on a GPU and, for comparison, on the CPU.
//!
//! Owns: laying chunks out in host memory in several ways, moving them, launching, waiting. Must not know: what a kernel computes. Invariant:
//! values are `f64` here, which holds `f32` and `i32` exactly; what lies between the elements of a window is looked at after each download.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::sync::mpsc::{Receiver, channel};
use std::time::Duration;

use chunkwise::device::{
    Body, Cpu, Data, Device, Failure, HostBuffer, Launch, Memory, Move, Output, Remote, Report, Window, take_result,
};
use chunkwise::kernel::gemv::Gemv;
use chunkwise::kernel::{ExactFloats, GpuFacts, Kernel, Program, Variants};
use chunkwise::shape::Form;
use chunkwise::shape::{ChunkMeta, DType, Element, Layout};

/// A device that does not answer for so long has lost a launch; a loaded machine's driver may compile for a minute.
const PATIENCE: Duration = Duration::from_secs(120);

/// A chunk's values, in C order.
#[derive(Clone, Debug)]
pub struct Chunk {
    pub dtype: DType,
    pub shape: Vec<usize>,
    pub values: Vec<f64>,
}

impl Chunk {
    /// Element `i` in C order is `value(i)`, rounded to the dtype.
    pub fn new(dtype: DType, shape: &[usize], mut value: impl FnMut(usize) -> f64) -> Self {
        let mut rounded = |i| match dtype {
            DType::F32 => f64::from(value(i) as f32),
            _ => value(i),
        };
        let values = (0..shape.iter().product()).map(&mut rounded).collect();
        Self { dtype, shape: shape.to_vec(), values }
    }

    pub fn meta(&self) -> ChunkMeta<'_> {
        ChunkMeta::new(self.dtype, &self.shape)
    }

    /// Element of a matrix.
    pub fn at(&self, row: usize, column: usize) -> f64 {
        self.values[row * self.shape[1] + column]
    }
}

/// How a chunk lies in host memory.
#[derive(Clone, Copy, Debug)]
pub enum Place {
    /// Alone, in C order.
    Plain,
    /// In Fortran order.
    Columns,
    /// A window of a larger array.
    Inside,
    /// Every second row of an array.
    Rows,
    /// Every third element of each row.
    Steps,
}

pub const PLACES: [Place; 5] = [Place::Plain, Place::Columns, Place::Inside, Place::Rows, Place::Steps];

/// A chunk's layout in an array around it, its first element there, and the array's length.
struct Around {
    layout: Layout,
    offset: usize,
    len: usize,
}

impl Around {
    fn new(place: Place, dtype: DType, shape: &[usize]) -> Self {
        let rank = shape.len();
        let (mut strides, mut offset, mut len) = (vec![0; rank], 0, 1);
        for k in 0..rank {
            let axis = if matches!(place, Place::Columns) { k } else { rank - 1 - k };
            let (before, step, after) = match place {
                Place::Plain | Place::Columns => (0, 1, 0),
                Place::Inside => (1 + axis, 1, 3),
                Place::Rows => (0, if axis == 0 { 2 } else { 1 }, 1),
                Place::Steps => (1, if axis + 1 == rank { 3 } else { 1 }, 0),
            };
            strides[axis] = (len * step) as isize;
            offset += len * before;
            len *= before + (shape[axis].max(1) - 1) * step + 1 + after;
        }
        Self { layout: Layout { dtype, shape: shape.to_vec(), strides }, offset, len }
    }

    /// Where the elements are, in C order.
    fn places(&self) -> impl Iterator<Item = usize> {
        (0..self.layout.len()).map(|mut rest| {
            let axes = self.layout.shape.iter().zip(&self.layout.strides).rev();
            axes.fold(self.offset, |at, (&n, &stride)| {
                let here = at + rest % n * stride as usize;
                rest /= n;
                here
            })
        })
    }
}

/// A chunk in host memory that may be read; NaN lies around it.
pub fn host(chunk: &Chunk, place: Place) -> Window {
    fn caller<T: Element>(all: Vec<T>) -> Arc<HostBuffer> {
        HostBuffer::caller(&Arc::new(all))
    }
    let around = Around::new(place, chunk.dtype, &chunk.shape);
    let mut all = vec![f64::NAN; around.len];
    around.places().zip(&chunk.values).for_each(|(at, &value)| all[at] = value);
    let buffer = match chunk.dtype {
        DType::F32 => caller(all.iter().map(|&v| v as f32).collect()),
        DType::F64 => caller(all),
        _ => caller(all.iter().map(|&v| v as i32).collect()),
    };
    // SAFETY: a caller's memory, and the tests' kernels write their outputs only.
    unsafe { Window::lent(buffer, around.offset, around.layout) }
}

/// All of a buffer, for one move at a time.
pub fn whole(buffer: Arc<HostBuffer>, layout: Arc<Layout>) -> Window {
    // SAFETY: whoever asks has made the buffer just now, and looks at it when the move is over.
    unsafe { Window::lent(buffer, 0, layout) }
}

/// A chunk in host memory that is going to be written; zeros lie around it, and must stay.
pub struct Landing {
    buffer: Arc<HostBuffer>,
    around: Around,
}

impl Landing {
    pub fn new(dtype: DType, shape: &[usize], place: Place) -> Self {
        let around = Around::new(place, dtype, shape);
        let buffer = match dtype {
            DType::F32 => HostBuffer::result::<f32>(around.len),
            DType::F64 => HostBuffer::result::<f64>(around.len),
            _ => HostBuffer::result::<i32>(around.len),
        };
        Self { buffer: buffer.expect("memory"), around }
    }

    pub fn window(&self) -> Window {
        // SAFETY: one launch or move has this window at a time, and it is over before the values are taken.
        unsafe { Window::lent(self.buffer.clone(), self.around.offset, self.around.layout.clone()) }
    }

    /// What was written, in C order.
    ///
    /// # Panics
    /// If something was written beside the chunk.
    pub fn values(self) -> Vec<f64> {
        fn all<T: Element + Into<f64>>(buffer: Arc<HostBuffer>, len: usize) -> Vec<f64> {
            let taken = take_result::<T>(buffer).expect("a result of this dtype");
            taken.vec[taken.start..][..len].iter().map(|&v| v.into()).collect()
        }
        let mut found = match self.around.layout.dtype {
            DType::F32 => all::<f32>(self.buffer, self.around.len),
            DType::F64 => all::<f64>(self.buffer, self.around.len),
            _ => all::<i32>(self.buffer, self.around.len),
        };
        let values = self.around.places().map(|at| std::mem::take(&mut found[at])).collect();
        assert!(found.iter().all(|&v| v == 0.0), "something was written beside {:?}", self.around.layout);
        values
    }
}

/// A kernel and its operands. Every kernel here has one output; `output` holds what is there before, garbage where it is not updated.
#[derive(Clone)]
pub struct Case {
    pub kernel: Arc<dyn Kernel>,
    pub params: Vec<u8>,
    pub inputs: Vec<Chunk>,
    pub output: Chunk,
}

impl std::fmt::Display for Case {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let shapes: Vec<_> = self.inputs.iter().map(|i| &i.shape).collect();
        let dtype = self.inputs.first().unwrap_or(&self.output).dtype;
        write!(f, "{} {dtype} {shapes:?} -> {:?}, parameters {:?}", self.kernel.name(), self.output.shape, self.params)
    }
}

impl Case {
    pub fn new(kernel: impl Kernel, params: &impl bytemuck::NoUninit, inputs: Vec<Chunk>, output: Chunk) -> Self {
        Self { kernel: Arc::new(kernel), params: bytemuck::bytes_of(params).to_vec(), inputs, output }
    }

    pub fn program(&self, facts: &GpuFacts) -> Option<Program> {
        let metas: Vec<_> = self.inputs.iter().chain([&self.output]).map(Chunk::meta).collect();
        self.kernel.program(&self.params, &metas, facts)
    }

    /// The result of the CPU body.
    pub fn on_cpu(&self, cpu: &Cpu) -> Result<Vec<f64>, Failure> {
        let packed = |(i, input): (usize, &Chunk)| {
            let from = Data::Host(host(input, Place::Plain));
            let Form::Packed(form) = self.kernel.input_form(&self.params, i) else { return Ok(from) };
            let (dtype, len) = self.kernel.packed_len(form, input.meta());
            let layout = Layout::contiguous(dtype, &[len]);
            let buffer = HostBuffer::pooled(layout.bytes() as usize).expect("memory");
            // SAFETY: the packing is over before the kernel reads what it made.
            let to = Data::Host(unsafe { Window::lent(buffer, 0, layout) });
            let body = Body::Pack { form: Form::Packed(form), view: None, from, to: to.clone() };
            wait(&start(cpu, &self.kernel, body, ESTIMATE_NS)).map(|()| to)
        };
        let inputs = self.inputs.iter().enumerate().map(packed).collect::<Result<_, _>>()?;
        let landing = Landing::new(self.output.dtype, &self.output.shape, Place::Plain);
        let old = Some(Data::Host(host(&self.output, Place::Plain)));
        let outputs = vec![Output { to: Data::Host(landing.window()), copy_in: old }];
        let metas: Vec<_> = self.inputs.iter().chain([&self.output]).map(Chunk::meta).collect();
        let scratch_bytes = self.kernel.scratch_bytes(&self.params, &metas);
        let body = Body::Run { params: self.params.clone(), inputs, outputs, scratch_bytes };
        wait(&start(cpu, &self.kernel, body, ESTIMATE_NS))?;
        Ok(landing.values())
    }
}

/// A GPU that takes every program.
pub const ANY: GpuFacts = GpuFacts {
    f64: true,
    i64: true,
    simplifies: true,
    exact: ExactFloats::UNTESTED,
    binding_bytes: u64::MAX,
    bindings: u32::MAX,
    invocations: u32::MAX,
    workgroup_bytes: u32::MAX,
    variants: Variants::AUTOMATIC,
};

/// What launches are expected to take.
const ESTIMATE_NS: u64 = 10_000;

/// Starts a launch by hand.
pub fn start(device: &dyn Device, kernel: &Arc<dyn Kernel>, body: Body, estimate_ns: u64) -> Receiver<Report> {
    let (sender, receiver) = channel();
    let done = Box::new(move |report| drop(sender.send(report)));
    device.launch(Launch { kernel: kernel.clone(), body, estimate_ns, origin: None, done });
    receiver
}

/// Waits for a launch or a move.
pub fn reported(receiver: &Receiver<Report>) -> Report {
    receiver.recv_timeout(PATIENCE).expect("every launch and move is reported")
}

/// The same, for what became of it.
pub fn wait(receiver: &Receiver<Report>) -> Result<(), Failure> {
    reported(receiver).outcome
}

/// A GPU, driven by hand.
pub struct Lab {
    pub gpu: Arc<dyn Device>,
}

impl Lab {
    /// Room for a chunk.
    pub fn room(&self, dtype: DType, shape: &[usize]) -> Data {
        let layout = Layout::contiguous(dtype, shape);
        match self.gpu.allocate(layout.bytes()) {
            Ok(Memory::Remote(memory)) => Data::Remote(Remote::whole(memory, layout.into())),
            _ => panic!("a GPU's chunks are in its own memory"),
        }
    }

    fn start_move(&self, from: Data, to: Data, upload: bool) -> Receiver<Report> {
        let (sender, receiver) = channel();
        let done = Box::new(move |report| drop(sender.send(report)));
        self.gpu.transfer(Move { from, to, upload, done });
        receiver
    }

    fn moved(&self, from: Data, to: Data, upload: bool) {
        wait(&self.start_move(from, to, upload)).unwrap_or_else(|e| panic!("a move failed: {e:?}"));
    }

    /// Begins to bring a chunk to where one is already, or room for one.
    pub fn start_upload(&self, chunk: &Chunk, to: &Data) -> Receiver<Report> {
        self.start_move(Data::Host(host(chunk, Place::Plain)), to.clone(), true)
    }

    /// Begins to bring a chunk of `f32` back, and where it lands.
    pub fn start_download(&self, from: &Data, n: usize) -> (Landing, Receiver<Report>) {
        let landing = Landing::new(DType::F32, &[n], Place::Plain);
        let receiver = self.start_move(from.clone(), Data::Host(landing.window()), false);
        (landing, receiver)
    }

    /// Begins to copy a chunk to another on the GPU.
    pub fn start_copy(&self, from: &Data, to: &Data, estimate_ns: u64) -> Receiver<Report> {
        let body = Body::Pack { form: Form::Plain, view: None, from: from.clone(), to: to.clone() };
        let kernel: Arc<dyn Kernel> = Arc::new(Gemv);
        start(&*self.gpu, &kernel, body, estimate_ns)
    }

    /// Brings a chunk to the GPU.
    pub fn upload(&self, chunk: &Chunk, place: Place) -> Data {
        let to = self.room(chunk.dtype, &chunk.shape);
        self.moved(Data::Host(host(chunk, place)), to.clone(), true);
        to
    }

    /// Brings a chunk back.
    pub fn download(&self, from: &Data, place: Place) -> Vec<f64> {
        let Data::Remote(remote) = from else { panic!("not on the GPU") };
        let landing = Landing::new(remote.layout.dtype, &remote.layout.shape, place);
        self.moved(from.clone(), Data::Host(landing.window()), false);
        landing.values()
    }

    /// Starts a launch. Where there is an old value, it is copied into the output first.
    pub fn start(&self, case: &Case, inputs: &[Data], to: &Data, copy_in: Option<Data>) -> Receiver<Report> {
        self.start_expecting(ESTIMATE_NS, case, inputs, (to, copy_in))
    }

    /// The same, where so much time is expected; 0 if it is unknown.
    pub fn start_expecting(
        &self,
        estimate_ns: u64,
        case: &Case,
        inputs: &[Data],
        (to, copy_in): (&Data, Option<Data>),
    ) -> Receiver<Report> {
        let outputs = vec![Output { to: to.clone(), copy_in }];
        let body = Body::Run { params: case.params.clone(), inputs: inputs.to_vec(), outputs, scratch_bytes: 0 };
        start(&*self.gpu, &case.kernel, body, estimate_ns)
    }

    /// The result of the GPU half; `turn` says how the chunks lie in host memory.
    pub fn run(&self, case: &Case, turn: usize) -> Result<Vec<f64>, Failure> {
        let place = |i: usize| PLACES[(turn + 2 * i) % PLACES.len()];
        let inputs: Vec<Data> = case.inputs.iter().enumerate().map(|(i, input)| self.upload(input, place(i))).collect();
        let output = self.upload(&case.output, place(2));
        wait(&self.start(case, &inputs, &output, None))?;
        Ok(self.download(&output, place(3)))
    }
}

/// A chunk of an array of chunks, as it is after a task; `None` is before all.
pub type Version = (Option<usize>, (usize, usize));

pub struct Task {
    pub case: Case,
    pub inputs: Vec<Version>,
    pub updates: Version,
}

/// Runs tasks as their inputs come, up to `depth` at once; each writes to a new chunk, into which the old value is copied.
pub fn run_graph(
    lab: &Lab,
    tasks: &[Task],
    originals: &BTreeMap<(usize, usize), Data>,
    depth: usize,
) -> BTreeMap<Version, Data> {
    let mut ready: BTreeMap<Version, Data> = originals.iter().map(|(&at, data)| ((None, at), data.clone())).collect();
    let mut rooms: BTreeMap<usize, (Version, Data)> = BTreeMap::new();
    let mut waiting: Vec<usize> = (0..tasks.len()).collect();
    let (sender, reports) = channel();
    while !waiting.is_empty() || !rooms.is_empty() {
        waiting.retain(|&index| {
            let Task { case, inputs, updates } = &tasks[index];
            let data: Option<Vec<Data>> = inputs.iter().map(|i| ready.get(i).cloned()).collect();
            let (Some(inputs), Some(old), true) = (data, ready.get(updates).cloned(), rooms.len() < depth) else { return true };
            let to = lab.room(case.output.dtype, &case.output.shape);
            let (params, sender) = (case.params.clone(), sender.clone());
            rooms.insert(index, ((Some(index), updates.1), to.clone()));
            let body = Body::Run { params, inputs, outputs: vec![Output { to, copy_in: Some(old) }], scratch_bytes: 0 };
            let done = Box::new(move |report| drop(sender.send((index, report))));
            lab.gpu.launch(Launch { kernel: case.kernel.clone(), body, estimate_ns: 10_000, origin: None, done });
            false
        });
        let (index, report): (usize, Report) = reports.recv_timeout(PATIENCE).expect("every launch is reported");
        report.outcome.unwrap_or_else(|e| panic!("{}: {e:?}", tasks[index].case));
        let (version, data) = rooms.remove(&index).expect("started");
        ready.insert(version, data);
    }
    ready
}
