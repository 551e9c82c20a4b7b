//! A GPU as a device.
//!
//! Owns: [`Gpu`]: its threads and its spec. Must not know: graphs, costs. Invariant: no call here waits for the GPU; dropping it waits a
//! moment at most, however wedged its driver is.

use std::any::Any;
use std::sync::atomic::Ordering;
use std::sync::mpsc::{Receiver, SendError, Sender, channel};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, Instant};

use wgpu::Features;

use super::adapters::{AdapterInfo, AdapterKind};
use super::driver::{Driver, Plain};
use super::inbox::Inbox;
use super::launch::{DonePromise, Running};
use super::link::{BOTH, Copiers, Down, Mapper, Staging, Upload, UploadOrder, Uploader, choose};
use super::memory::ChunkSlot;
use super::open::{GpuRefusal, Opened};
use super::paced::PacedLink;
use super::pipelines::Pipelines;
use super::plan::{FoundOut, LaunchPlans, launched};
use super::probe::within;
use super::sabotage::Breaker;
use super::service::{Counts, Message, Service, Shared};
use super::waiter::Waiter;
use crate::device::{Counters, Data, Device, DeviceKind, DeviceSpec, Failure, Launch, LinkSpec, Memory, Move, Tuning, system};
use crate::error::{Error, Result};
use crate::id::SpaceId;
use crate::kernel::{ExactFloats, GpuFacts, Kernel, Program};

/// How long opening an adapter may take: drivers are loaded and checked.
const OPENING: Duration = Duration::from_secs(20);
/// Launches that may be queued: enough to fill the submissions under way when they are tiny.
const QUEUE: u32 = 128;
/// How long dropping waits for the GPU's threads, so that a program does not end while they are in the driver.
const PARTING: Duration = Duration::from_millis(500);

/// Whether the host maps chunks.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum MapChunks {
    /// They cross through staging.
    Never,
    /// On an integrated GPU, if neither side is slower for it.
    IfItPays,
    Always,
}

/// Opens an adapter. To find out whether mapping pays it is opened once more: with the feature requested, other memory may be slower.
fn open(adapter: &AdapterInfo, mapping: MapChunks, driver: Box<dyn Driver>) -> Result<Opened, GpuRefusal> {
    let mapped = match mapping {
        MapChunks::Always => Some(BOTH),
        MapChunks::IfItPays if adapter.shares_memory() => {
            let tried = Opened::mapping(adapter, Box::new(Plain), Some(BOTH));
            tried.ok().map(|opened| choose(&opened)).filter(|pays| !pays.is_empty())
        }
        MapChunks::Never | MapChunks::IfItPays => None,
    };
    Opened::mapping(adapter, driver, mapped)
}

/// An adapter that executes launches.
pub struct Gpu {
    spec: DeviceSpec,
    facts: GpuFacts,
    memory_bytes: u64,
    staging_bytes: u64,
    opened: Arc<Opened>,
    plans: LaunchPlans,
    pipelines: Arc<Pipelines>,
    counts: Arc<Counts>,
    service: Arc<Inbox>,
    uploads: Option<Sender<UploadOrder>>,
    /// Fires when the waiting thread, the last one, has ended.
    ended: Mutex<Receiver<()>>,
}

impl Gpu {
    /// Opens an adapter as the device `name`, whose memory is `space`. `staging_bytes` is the most host memory for chunks on their way. Of an integrated GPU it is
    /// tried first whether it pays that the host maps chunks: then none are on their way.
    ///
    /// # Errors
    /// [`Error::Unable`] if the adapter must not be used; [`Error::Failed`] if it cannot be opened within 20 s.
    pub fn open(adapter: &AdapterInfo, name: &str, space: SpaceId, staging_bytes: u64) -> Result<Self> {
        Self::open_by(adapter, (name, space), staging_bytes, MapChunks::IfItPays, || Box::new(Plain))
    }

    /// The same, with a driver that can be broken on purpose: for tests of what must hold then.
    ///
    /// # Errors
    /// As [`Gpu::open`].
    #[doc(hidden)]
    pub fn open_breakable(adapter: &AdapterInfo, name: &str, space: SpaceId, staging_bytes: u64) -> Result<(Self, Breaker)> {
        let breaker = Breaker::default();
        let driver = breaker.clone();
        Ok((Self::open_by(adapter, (name, space), staging_bytes, MapChunks::Never, move || driver.driver())?, breaker))
    }

    /// The same, with chunks that the host maps, as on an integrated GPU where that pays.
    ///
    /// # Errors
    /// As [`Gpu::open`]; also if the adapter has no such memory.
    #[doc(hidden)]
    pub fn open_mapped(adapter: &AdapterInfo, name: &str, space: SpaceId, staging_bytes: u64) -> Result<(Self, Breaker)> {
        if !adapter.handle.features().contains(Features::MAPPABLE_PRIMARY_BUFFERS) {
            return Err(Error::Unable { device: adapter.to_string(), why: "its chunks cannot be mapped".into() });
        }
        let breaker = Breaker::default();
        let driver = breaker.clone();
        Ok((Self::open_by(adapter, (name, space), staging_bytes, MapChunks::Always, move || driver.driver())?, breaker))
    }

    /// The same, behind a link of known rates, however fast its own is: for measurements of what reaches the link.
    ///
    /// # Errors
    /// As [`Gpu::open`].
    #[doc(hidden)]
    pub fn open_paced(adapter: &AdapterInfo, name: &str, space: SpaceId, staging_bytes: u64, link: &PacedLink) -> Result<Self> {
        let driver = link.clone();
        let opened = Self::open_by(adapter, (name, space), staging_bytes, MapChunks::Never, move || driver.driver())?;
        Ok(opened.with_link(link.specs()))
    }

    pub(super) fn open_by(
        adapter: &AdapterInfo,
        (name, space): (&str, SpaceId),
        staging_bytes: u64,
        mapping: MapChunks,
        driver: impl FnOnce() -> Box<dyn Driver> + Send + 'static,
    ) -> Result<Self> {
        if let Some(reason) = &adapter.unusable {
            return Err(Error::Unable { device: adapter.to_string(), why: reason.clone() });
        }
        let opening = adapter.clone();
        let opened = within(OPENING, &adapter.to_string(), move || {
            let failed =
                |refusal: GpuRefusal| Error::Failed { what: format!("opening {opening}"), message: refusal.to_string() };
            open(&opening, mapping, driver()).map_err(failed)
        })?;
        let facts = adapter.facts();
        let link = LinkSpec { latency_ns: 50_000, bytes_per_s: 4e9 };
        let spec = DeviceSpec {
            name: name.to_owned(),
            model: adapter.model(),
            kind: DeviceKind::Gpu,
            workers: 1,
            queue: QUEUE,
            space,
            link: Some([link, link]),
            gpu: Some(facts),
        };
        let failed = |message| Error::Failed { what: format!("opening {adapter}"), message };
        Self::start(spec, facts, usable_memory(adapter), (Arc::new(opened), staging_bytes)).map_err(failed)
    }

    fn start(
        spec: DeviceSpec,
        facts: GpuFacts,
        memory_bytes: u64,
        (opened, staging_bytes): (Arc<Opened>, u64),
    ) -> Result<Self, String> {
        let name: Arc<str> = spec.name.as_str().into();
        let no_thread = |e: std::io::Error| format!("no thread to serve it: {e}");
        let thread = |what: &str| std::thread::Builder::new().name(format!("chunkwise-{name}-{what}"));
        let service = Arc::<Inbox>::default();
        let (to_waiter, submissions) = channel();
        let (uploads, wanted) = channel::<UploadOrder>();
        let (ending, ended) = channel();
        let staging = |upload| Arc::new(Staging::new(opened.clone(), upload, staging_bytes / 2));
        let (ups, downs) = (staging(true), staging(false));
        let again = service.clone();
        // Nobody listens any more: the launches were failed when the service thread ended.
        let compiled = move || drop(again.send(Message::Compiled));
        let pipelines = Pipelines::start(opened.clone(), &name, compiled).map_err(no_thread)?;
        let (counts, copiers) = (Arc::<Counts>::default(), Copiers::start(&name).map_err(no_thread)?);
        let mapper = Mapper {
            name: name.clone(),
            opened: opened.clone(),
            copiers: copiers.clone(),
            counts: counts.clone(),
            service: service.clone(),
        };
        let uploader = Uploader { staging: ups.clone(), mapper: mapper.clone() };
        let waiter = Waiter {
            name: name.clone(),
            opened: opened.clone(),
            ups: ups.clone(),
            downs: downs.clone(),
            copiers,
            counts: counts.clone(),
            service: service.clone(),
        };
        let shared = Shared {
            name: name.clone(),
            opened: opened.clone(),
            pipelines: pipelines.clone(),
            ups,
            downs,
            counts: counts.clone(),
            waiter: to_waiter,
            mapper,
            uploads: uploads.clone(),
        };
        let server = Service::new(shared).map_err(|refusal| refusal.to_string())?;
        let inbox = service.clone();
        thread("serve").spawn(move || server.run(&inbox)).map_err(no_thread)?;
        let wait = move || {
            waiter.run(&submissions);
            let _ = ending.send(()); // the device may be gone by then
        };
        thread("wait").spawn(wait).map_err(no_thread)?;
        thread("up").spawn(move || uploader.run(&wanted)).map_err(no_thread)?;
        let (plans, uploads, ended) = (LaunchPlans::default(), Some(uploads), Mutex::new(ended));
        Ok(Self { spec, facts, memory_bytes, staging_bytes, opened, plans, pipelines, counts, service, uploads, ended })
    }

    /// The same device, whose driver keeps what it has compiled in this folder from one session to the next, if it can: then a program that was compiled before is there sooner. What
    /// is wrong with the folder, or with what lies there, is no error.
    #[must_use]
    pub fn with_cache_dir(self, dir: impl AsRef<std::path::Path>) -> Self {
        self.pipelines.keep_in(dir.as_ref());
        self
    }

    /// The same device with another link speed in its spec.
    #[must_use]
    pub fn with_link(mut self, link: [LinkSpec; 2]) -> Self {
        self.spec.link = Some(link);
        self
    }

    /// The same device with less to offer: for tests of GPUs that this machine does not have.
    #[doc(hidden)]
    #[must_use]
    pub fn with_facts(mut self, change: impl FnOnce(&mut GpuFacts)) -> Self {
        change(&mut self.facts);
        self.spec.gpu = Some(self.facts);
        self.plans.set_found(|found| *found = FoundOut::of(&self.facts));
        self
    }

    fn gone(&self, task: &str) -> Failure {
        let why = self.opened.lost().unwrap_or_else(|| "its service thread has ended".into());
        GpuRefusal::Lost(why).into_failure(task, &self.spec.name)
    }
}

/// How much of an adapter's memory chunks may take, unless the user says.
fn usable_memory(adapter: &AdapterInfo) -> u64 {
    const UNKNOWN: u64 = 2 << 30;
    let own = adapter.memory_bytes.unwrap_or(UNKNOWN);
    match adapter.kind {
        // The rest is the driver's, the desktop's, and slack against fragments.
        AdapterKind::Discrete | AdapterKind::Virtual | AdapterKind::Other => own / 10 * 8,
        // Shared with the host, whose own limit leaves 30 % of what is available.
        AdapterKind::Integrated | AdapterKind::Software => own.min(system::available_memory() / 5),
    }
}

#[allow(unsafe_code)] // the promise of a device
// SAFETY: host memory is read and written by moves only, before they are reported (link/); all else is wgpu's, which is safe.
unsafe impl Device for Gpu {
    fn spec(&self) -> &DeviceSpec {
        &self.spec
    }

    fn launch(&self, launch: Launch) {
        match Running::new(launch, &self.facts, &self.plans, &self.spec.name) {
            Ok(mut run) => {
                // The compiler may as well begin now. What it refuses is refused in its turn.
                let _ = self.pipelines.complete(&run.plan, &mut run.pipelines);
                if let Err(Message::Launch(run)) = self.service.send(Message::Launch(run)) {
                    run.end.done.fail(self.gone("a task"));
                }
            }
            Err((done, failure)) => DonePromise::new(done).fail(failure),
        }
    }

    fn transfer(&self, mv: Move) {
        let Move { from, to, done, .. } = mv;
        let done = DonePromise::new(done);
        match (from, to) {
            (Data::Host(from), Data::Remote(to)) => match (to.memory.downcast::<ChunkSlot>(), &self.uploads) {
                (Ok(to), Some(uploads)) => {
                    if let Err(SendError(UploadOrder::Upload(lost))) =
                        uploads.send(UploadOrder::Upload(Upload { from, to, done }))
                    {
                        lost.done.fail(self.gone("a chunk's upload"));
                    }
                }
                _ => done.fail(self.gone("a chunk's upload")),
            },
            (Data::Remote(from), Data::Host(to)) => match from.memory.downcast::<ChunkSlot>() {
                Ok(slot) => {
                    let down = Down::new(slot, to, done);
                    if let Err(Message::Down(down)) = self.service.send(Message::Down(down)) {
                        down.landing.fail(self.gone("a chunk's download"));
                    }
                }
                Err(_) => done.fail(self.gone("a chunk's download")),
            },
            _ => done.fail(self.gone("a move that is not between host and GPU")),
        }
    }

    fn allocate(&self, bytes: u64) -> Result<Memory> {
        let slot: Arc<dyn Any + Send + Sync> = Arc::new(ChunkSlot::new(self.opened.clone(), bytes));
        Ok(Memory::Remote(slot))
    }

    fn memory_bytes(&self) -> Option<u64> {
        Some(self.memory_bytes)
    }

    fn staging_bytes(&self) -> u64 {
        self.staging_bytes
    }

    fn rest(&self, _scratch_bytes: u64) {
        let _ = self.service.send(Message::Rest); // a device that has ended keeps nothing
    }

    fn tune(&self, tuning: &Tuning) {
        self.plans.set_found(|found| found.variants = tuning.variants);
        let _ = self.service.send(Message::Seed(tuning.units_per_ns)); // a device that has ended launches nothing
    }

    fn set_exact(&self, exact: &ExactFloats) {
        self.plans.set_found(|found| found.exact = *exact);
    }

    fn compiling_ns(&self, kernel: &dyn Kernel, program: &Program) -> u64 {
        self.pipelines.wait_ns(&launched(kernel, program))
    }

    fn compile_ahead(&self, kernel: &dyn Kernel, program: &Program) {
        self.pipelines.compile_ahead(&launched(kernel, program));
    }

    fn finish_compiling(&self, until: Instant) {
        self.pipelines.finish(until);
    }

    fn notice(&self) -> Option<String> {
        self.opened.strategy.notice()
    }

    fn counters(&self) -> Counters {
        let get = |count: &std::sync::atomic::AtomicU64| count.load(Ordering::Relaxed);
        let [compiled, programs, compiling] = self.pipelines.counts();
        Counters {
            launches: get(&self.counts.launches),
            submissions: get(&self.counts.submissions),
            dispatches: get(&self.counts.dispatches),
            uploads: get(&self.counts.uploads),
            downloads: get(&self.counts.downloads),
            staged_bytes: get(&self.counts.staged_bytes),
            bytes: self.opened.bytes(),
            compiled,
            programs,
            compiling,
            plans: self.plans.len() as u64,
        }
    }
}

impl Drop for Gpu {
    fn drop(&mut self) {
        self.uploads = None;
        let (sound, until) = (self.opened.lost().is_none(), Instant::now() + PARTING);
        if sound {
            self.pipelines.end(until);
        }
        if self.service.send(Message::Stop).is_ok() && sound {
            // What does not end within this is left alone.
            let left = || until.saturating_duration_since(Instant::now());
            let _ = self.ended.lock().unwrap_or_else(PoisonError::into_inner).recv_timeout(left());
        }
    }
}
