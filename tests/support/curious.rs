//! User code that calls the session back, wherever it is called itself.
//!
//! Owns: [`Ask`], a kernel, a source, a sink, values and a device that ask. Must not know: what locks there are. Invariant: whoever asks takes every
//! lock of the session that a user can reach, and what goes wrong is noted, because a panic is caught in some of these places.

use std::any::Any;
use std::borrow::Cow;
use std::cell::Cell;
use std::collections::BTreeMap;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex};

use chunkwise::device::{Counters, Cpu, Device, DeviceSpec, Launch, Memory, Move, Origin, Tuning};
use chunkwise::id::DeviceId;
use chunkwise::kernel::{Content, ExactFloats, Fault, GpuFacts, Held, Kernel, Lane, Pass, Program, Scratch, Shader, Work};
use chunkwise::ndarray::Array1;
use chunkwise::runtime::Inside;
use chunkwise::shape::{ChunkMeta, ChunkView, ChunkViewMut, DType, Form, Opaque, Region, Scalar};
use chunkwise::task::{ChunkSink, ChunkSource, Intake};
use chunkwise::{Array, prelude::*};

/// So often it computes at each place; more often it only looks.
const COMPUTES: usize = 3;

/// The parameters of a kernel that takes an opaque value.
pub const OPAQUE: u8 = 1;

thread_local! {
    static INSIDE: Cell<bool> = const { Cell::new(false) };
}

/// Calls a session back, once it has one.
#[derive(Clone, Default)]
pub struct Ask(Arc<Asked>);

#[derive(Default)]
struct Asked {
    session: Mutex<Option<Session>>,
    looks: AtomicBool,
    places: Mutex<BTreeMap<&'static str, usize>>,
    wrong: Mutex<Vec<String>>,
}

impl Ask {
    /// From now on this session is called, or none.
    pub fn call(&self, session: Option<&Session>) {
        let before = std::mem::replace(&mut *self.0.session.lock().expect("no panic under it"), session.cloned());
        drop(before);
    }

    /// As [`Ask::call`], but nothing is computed.
    pub fn look(&self, session: Option<&Session>) {
        self.0.looks.store(true, Ordering::Relaxed);
        self.call(session);
    }

    /// How often was asked at each place, once nothing went wrong.
    #[track_caller]
    pub fn places(&self) -> BTreeMap<&'static str, usize> {
        assert_eq!(*self.0.wrong.lock().expect("no panic under it"), Vec::<String>::new());
        self.0.places.lock().expect("no panic under it").clone()
    }

    /// Asks all there is to ask, and computes.
    pub fn at(&self, place: &'static str) {
        let session = self.0.session.lock().expect("no panic under it").clone();
        let Some(session) = session else { return };
        let times = {
            let mut places = self.0.places.lock().expect("no panic under it");
            let times = places.entry(place).or_default();
            *times += 1;
            *times
        };
        let _ = (session.rates(DeviceId(0)), session.peaks(DeviceId(0)), session.devices(), session.why_no_gpu());
        let _ = (session.used_bytes(), session.is_idle(), session.memory_limit());
        // To compute calls some of these places again.
        if times > COMPUTES || self.0.looks.load(Ordering::Relaxed) || INSIDE.replace(true) {
            return;
        }
        for device in 0..session.devices().len() {
            let _ = session.counters(DeviceId::at(device));
        }
        if let Err(error) = computes(&session) {
            self.0.wrong.lock().expect("no panic under it").push(format!("{place}: {error}"));
        }
        INSIDE.set(false);
    }
}

fn computes(session: &Session) -> Result<()> {
    let _ = session.discover();
    let small = Array::from(Array1::from_elem(10, 2.0)).in_session(session);
    let _ = small.mean().explain()?;
    drop(small.mean().start()?);
    match small.mean().compute_scalar() {
        // Where it cannot be waited for, that is said at once.
        Err(Error::Failed { message, .. }) if message.contains("would wait for itself") => Ok(()),
        other => other.map(|mean| assert_eq!(mean, 2.0)),
    }
}

/// A value that asks when it goes, and when it is put into words.
#[derive(Clone)]
pub struct Asks(pub Ask, pub &'static str);

impl Drop for Asks {
    fn drop(&mut self) {
        self.0.at(self.1);
    }
}

impl std::fmt::Debug for Asks {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        self.0.at("an error is put into words");
        f.write_str("a curious error")
    }
}

impl std::fmt::Display for Asks {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "{self:?}")
    }
}

impl std::error::Error for Asks {}

/// An error that holds such a value.
pub fn curious_error(ask: &Ask) -> Error {
    Error::io("read", "nowhere", std::io::Error::other(Asks(ask.clone(), "an error goes")))
}

/// A kernel that copies its input, or makes and takes opaque values.
pub struct Curious {
    pub ask: Ask,
    pub fails: bool,
    _goes: Asks,
}

impl Curious {
    pub fn new(ask: &Ask, fails: bool) -> Arc<Self> {
        Arc::new(Self { ask: ask.clone(), fails, _goes: Asks(ask.clone(), "a kernel goes") })
    }
}

impl Kernel for Curious {
    fn name(&self) -> Cow<'static, str> {
        self.ask.at("name");
        "curious".into()
    }
    fn version(&self) -> u32 {
        self.ask.at("version");
        1
    }
    fn content(&self) -> Content {
        self.ask.at("content");
        Content::Local
    }
    fn lane(&self) -> Lane {
        self.ask.at("lane");
        Lane::Compute
    }
    fn is_steady(&self) -> bool {
        self.ask.at("is_steady");
        true
    }
    fn check(&self, _: &[u8], _: &[ChunkMeta<'_>]) -> Result<()> {
        self.ask.at("check");
        Ok(())
    }
    fn work(&self, _: &[u8], _: &[ChunkMeta<'_>]) -> Work {
        self.ask.at("work");
        Work { flops: 1e5, bytes: 0.0 }
    }
    fn scratch_bytes(&self, _: &[u8], _: &[ChunkMeta<'_>]) -> u64 {
        self.ask.at("scratch_bytes");
        64
    }
    fn held(&self) -> Vec<Held> {
        self.ask.at("held");
        Vec::new()
    }
    fn hold(&self) -> Vec<Arc<dyn Any + Send + Sync>> {
        self.ask.at("hold");
        vec![Arc::new(Asks(self.ask.clone(), "what is held goes"))]
    }
    fn input_form(&self, params: &[u8], _: usize) -> Form {
        self.ask.at("input_form");
        if params == [OPAQUE] { Form::Plain } else { Form::Packed(0) }
    }
    fn packed_len(&self, _: u8, operand: ChunkMeta<'_>) -> (DType, usize) {
        self.ask.at("packed_len");
        (operand.dtype, operand.shape.iter().product())
    }
    fn pack(&self, _: u8, from: ChunkView<'_>, to: &mut ChunkViewMut<'_>) {
        self.ask.at("pack");
        to.copy_from(from);
    }
    fn program(&self, _: &[u8], operands: &[ChunkMeta<'_>], gpu: &GpuFacts) -> Option<Program> {
        self.ask.at("program");
        let [x, y] = operands else { return None };
        if (x.dtype, y.dtype) != (DType::F32, DType::F32) {
            return None;
        }
        let text = "struct Params { first: u32, groups: u32, begin: u32, end: u32 }
            @group(0) @binding(0) var<uniform> p: Params;
            @group(0) @binding(1) var<storage, read> x: array<f32>;
            @group(0) @binding(2) var<storage, read_write> y: array<f32>;
            @compute @workgroup_size(1) fn curious(@builtin(workgroup_id) id: vec3<u32>) { y[p.first + id.x] = x[p.first + id.x]; }";
        let shader = Shader::new("curious", text.to_owned()).with_operands(1, 1).with_workgroup(1, [0, 0]).into();
        let pass = Pass::new("curious".to_owned(), x.shape.iter().product::<usize>() as u64, 0);
        Program::new(&shader, DType::F32, &[], vec![pass], Work { flops: 1e5, bytes: 0.0 }).fitting(gpu, operands)
    }
    fn run_cpu(
        &self,
        _: &[u8],
        inputs: &[ChunkView<'_>],
        outputs: &mut [ChunkViewMut<'_>],
        _: &mut Scratch<'_>,
    ) -> std::result::Result<(), Fault> {
        self.ask.at("run_cpu");
        match inputs.first() {
            _ if self.fails => return Err(Fault::Failed(curious_error(&self.ask))),
            None => outputs[0].set_opaque(Opaque { value: Arc::new(Asks(self.ask.clone(), "a value goes")), bytes: 64 }),
            Some(input) if input.opaque().is_some() => outputs[0].set(0, 0, 1.0),
            Some(&input) => outputs[0].copy_from(input),
        }
        Ok(())
    }
}

/// A source of threes, or a sink of ones.
pub struct End(pub Ask, pub Intake, pub Asks);

impl End {
    pub fn new(ask: &Ask, goes: &'static str) -> Arc<Self> {
        let intake = Intake::new("curious", &[100], DType::F64).expect("small");
        Arc::new(Self(ask.clone(), intake, Asks(ask.clone(), goes)))
    }
}

impl ChunkSource for End {
    fn shape(&self) -> &[usize] {
        self.0.at("a source's shape");
        &[100]
    }
    fn dtype(&self) -> DType {
        DType::F64
    }
    fn name(&self) -> String {
        self.0.at("a source's name");
        "curious".into()
    }
    fn version_token(&self) -> String {
        self.0.at("a source's token");
        "1".into()
    }
    fn access(&self) -> String {
        self.0.at("a source's access");
        "asks".into()
    }
    fn lane(&self) -> Lane {
        Lane::Io
    }
    fn constant(&self, _: &Region) -> Option<Scalar> {
        self.0.at("a source's constant");
        None
    }
    fn read(&self, region: &Region, out: &mut ChunkViewMut<'_>) -> Result<()> {
        self.0.at("a source's read");
        (0..region.len()).for_each(|i| out.set(0, i, 3.0));
        Ok(())
    }
}

impl ChunkSink for End {
    fn intake(&self) -> &Intake {
        &self.1
    }
    fn put(&self, _: &Region, _: ChunkView<'_>) -> Result<()> {
        self.0.at("a sink's put");
        Ok(())
    }
    fn commit(&self) -> Result<()> {
        self.0.at("a sink's commit");
        Ok(())
    }
}

/// A device that does what another one does, and asks.
pub struct Nosy(pub Cpu, pub Ask);

// SAFETY: all goes on to the inner device.
unsafe impl Device for Nosy {
    fn spec(&self) -> &DeviceSpec {
        self.1.at("a device's spec");
        self.0.spec()
    }
    fn launch(&self, launch: Launch) {
        self.1.at("a device's launch");
        self.0.launch(launch);
    }
    fn transfer(&self, mv: Move) {
        self.1.at("a device's transfer");
        self.0.transfer(mv);
    }
    fn allocate(&self, bytes: u64) -> Result<Memory> {
        self.1.at("a device's allocate");
        self.0.allocate(bytes)
    }
    fn memory_bytes(&self) -> Option<u64> {
        self.1.at("a device's memory_bytes");
        Some(1 << 20)
    }
    fn staging_bytes(&self) -> u64 {
        self.1.at("a device's staging_bytes");
        4096
    }
    fn counters(&self) -> Counters {
        self.1.at("a device's counters");
        self.0.counters()
    }
    fn rest(&self, scratch_bytes: u64) {
        self.1.at("a device's rest");
        self.0.rest(scratch_bytes);
    }
    fn tune(&self, tuning: &Tuning) {
        self.1.at("a device's tune");
        self.0.tune(tuning);
    }
    fn set_exact(&self, exact: &ExactFloats) {
        self.1.at("a device's set_exact");
        self.0.set_exact(exact);
    }
    fn on_worker(&self) -> bool {
        self.1.at("a device's on_worker");
        self.0.on_worker()
    }
    fn help(&self, wanted: &dyn Fn(&Origin) -> bool) -> bool {
        self.0.help(wanted)
    }
}
