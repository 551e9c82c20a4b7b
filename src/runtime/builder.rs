//! Settings of a session, and its making.
//!
//! Owns: [`SessionBuilder`]. Must not know: graphs. Invariant: a session that was built can run at least an empty graph; what is out of
//! range is refused here.

use std::panic::{AssertUnwindSafe, catch_unwind};
use std::path::PathBuf;
use std::sync::atomic::AtomicU64;
use std::sync::{Arc, Condvar, Mutex};
use std::time::{Duration, Instant};

use super::Session;
use super::discover::Discovery;
use super::driver::{Inner, SessionState};
use super::members::{Member, Members};
use super::record::RecordHead;
use super::recorder::{Ending, Recorder};
use crate::cost::CostModel;
use crate::device::{Cpu, Device, DeviceKind, HOST, IoLane, caught, system};
use crate::error::{Bytes, Error, IntoBytes, Result};
use crate::schedule::{Event, Placement, Policy, Scheduler};

/// When a task counts as stalled unless the user says otherwise: the scheduler's own default.
const STALL_FLOOR: Duration = Duration::from_secs(5);
const STALL_FACTOR: u64 = 10;

#[derive(Clone)]
pub(crate) struct Settings {
    pub(super) placement: Placement,
    pub(super) policy: Option<Arc<dyn Fn() -> Box<dyn Policy> + Send + Sync>>,
    pub(super) seed: u64,
    pub(super) calibrate: bool,
    /// Whether GPUs run only what they give the CPU's bits of.
    pub(super) strict: bool,
    #[cfg_attr(not(feature = "gpu"), allow(dead_code))]
    pub(super) allow_software: bool,
    pub(super) gpu_memory_limit: Option<u64>,
    /// Where costs are kept, and what GPUs' drivers have compiled.
    #[cfg_attr(not(feature = "gpu"), allow(dead_code))]
    pub(super) cache_dir: Option<PathBuf>,
    pub(super) stall_floor: Duration,
    pub(super) warn: Arc<dyn Fn(&str) + Send + Sync>,
}

impl Settings {
    /// What the session's policy leads to, which may be the user's: made anew.
    pub(super) fn ask_policy<R>(&self, ask: impl FnOnce(Box<dyn Policy>) -> Result<R>) -> Result<R> {
        let policy = || self.policy.as_ref().map_or_else(|| self.placement.policy(), |make| make());
        catch_unwind(AssertUnwindSafe(|| ask(policy()))).unwrap_or_else(|payload| {
            let what = if self.policy.is_some() { "the policy of this session" } else { "the scheduler of this session" };
            Err(caught(what, &*payload))
        })
    }
}

/// Settings of a [`Session`]. All have defaults.
pub struct SessionBuilder {
    threads: Option<usize>,
    memory_limit: Option<Result<u64>>,
    gpu_memory_limit: Option<Result<u64>>,
    cache_dir: Option<PathBuf>,
    devices: Option<Vec<Arc<dyn Device>>>,
    stall_factor: u64,
    record: Option<PathBuf>,
    settings: Settings,
}

impl SessionBuilder {
    pub(super) fn new() -> Self {
        Self {
            threads: None,
            memory_limit: None,
            gpu_memory_limit: None,
            cache_dir: None,
            devices: None,
            stall_factor: STALL_FACTOR,
            record: None,
            settings: Settings {
                placement: Placement::Auto,
                policy: None,
                seed: 0,
                calibrate: true,
                strict: false,
                allow_software: false,
                gpu_memory_limit: None,
                cache_dir: None,
                stall_floor: STALL_FLOOR,
                warn: Arc::new(|text| eprintln!("chunkwise: warning: {text}")),
            },
        }
    }

    /// CPU threads; default: all that the process may use. At most four for each of these, or 512.
    #[must_use]
    pub fn threads(mut self, threads: usize) -> Self {
        self.threads = Some(threads);
        self
    }

    /// Most host memory that chunks, scratch, caller's arrays and results may take together, as text (`"1GB"`) or a number; default: 70 %
    /// of what is available (cgroup limits counted). Of more than twice of that a warning is given.
    #[must_use]
    pub fn memory_limit(mut self, limit: impl IntoBytes) -> Self {
        self.memory_limit = Some(some_bytes("memory limit", limit));
        self
    }

    /// Most memory of each GPU that chunks may take, as text (`"4GB"`) or a number; default: most of what it has.
    #[must_use]
    pub fn gpu_memory_limit(mut self, limit: impl IntoBytes) -> Self {
        self.gpu_memory_limit = Some(some_bytes("GPU memory limit", limit));
        self
    }

    /// Whether software adapters (drivers that compute on the CPU) count as GPUs; default: no. For tests.
    #[must_use]
    pub fn allow_software(mut self, allow: bool) -> Self {
        self.settings.allow_software = allow;
        self
    }

    /// Whether GPUs run only what they are known to give the very bits of that the CPU gives; default: no, then functions such as `sin` and sums of floats may differ
    /// by the stated units in the last place. What a GPU is not exact at runs on the CPU, whatever the placement; [`Explanation`](crate::Explanation) says what and why.
    /// Arithmetic is tested once for each GPU and driver, and what was found is kept with the costs.
    ///
    /// ```
    /// use chunkwise::{Array, Session};
    /// let session = Session::builder().strict(true).build()?;
    /// let x = Array::from(ndarray::arr1(&[0.5f32, 1.5])).in_session(&session);
    /// assert_eq!((&x * 2.0 + 1.0).compute()?[1], 4.0); // on any device
    /// # Ok::<(), chunkwise::Error>(())
    /// ```
    #[must_use]
    pub fn strict(mut self, strict: bool) -> Self {
        self.settings.strict = strict;
        self
    }

    /// Where tasks run; default: wherever they finish first.
    #[must_use]
    pub fn placement(mut self, placement: Placement) -> Self {
        self.settings.placement = placement;
        self
    }

    /// A policy of your own instead of [`SessionBuilder::placement`]; it is made anew for each simulation.
    #[must_use]
    pub fn policy(mut self, policy: impl Fn() -> Box<dyn Policy> + Send + Sync + 'static) -> Self {
        self.settings.policy = Some(Arc::new(policy));
        self
    }

    /// Seed of the session's own random arrays (`Session::default_rng`); default 0.
    #[must_use]
    pub fn seed(mut self, seed: u64) -> Self {
        self.settings.seed = seed;
        self
    }

    /// Where measured costs are kept, and what the drivers of GPUs have compiled; default: the user's cache directory. An empty path keeps costs in memory only, and nothing that was compiled.
    #[must_use]
    pub fn cache_dir(mut self, dir: impl Into<PathBuf>) -> Self {
        self.cache_dir = Some(dir.into());
        self
    }

    /// Devices instead of the discovered ones (the first two are `cpu` and `io` by default).
    #[must_use]
    pub fn devices(mut self, devices: Vec<Arc<dyn Device>>) -> Self {
        self.devices = Some(devices);
        self
    }

    /// When a task counts as stalled and is run again elsewhere: after `factor` times its predicted time plus `floor`.
    /// Default: 10, 5 s.
    #[must_use]
    pub fn stall_after(mut self, factor: u64, floor: Duration) -> Self {
        (self.stall_factor, self.settings.stall_floor) = (factor, floor);
        self
    }

    /// Writes all that the scheduler is told, and what it answers, to this file: for [`Record`](super::Record), in this process or another.
    /// The file is there, or replaced, once the last of the session is gone, each array of the session included; until then it is written under a
    /// temporary name beside it. A session that ran nothing leaves what was there; a record that cannot be written, or whose disk hangs, is given
    /// up with one warning.
    ///
    /// It takes some 450 bytes a task, on disk; in memory, what waits to be written (at most 16 384 steps, and the graphs in them) is beside the
    /// memory limit. [`Record::read`](super::Record::read) takes twice that of memory. Recording takes a few us a task; a disk that
    /// is slower than what is to be written slows the runs.
    #[must_use]
    pub fn record(mut self, path: impl Into<PathBuf>) -> Self {
        self.record = Some(path.into());
        self
    }

    /// Called with each warning (an unreadable cost cache, for example), at most a few times; default: standard error.
    #[must_use]
    pub fn warnings(mut self, warn: impl Fn(&str) + Send + Sync + 'static) -> Self {
        self.settings.warn = Arc::new(warn);
        self
    }

    /// The session.
    ///
    /// # Errors
    /// [`Error::Argument`] for settings out of range, [`Error::File`] or [`Error::Io`] if the record cannot be written,
    /// [`Error::NoDevice`] if the placement asks for a device that is not there, [`Error::Failed`] if a policy of the user's panics.
    pub fn build(self) -> Result<Session> {
        let threads = self.threads.unwrap_or_else(system::threads);
        let (asked, mut settings) = (self.memory_limit.transpose()?, self.settings);
        if let Some(limit) = asked {
            warn_of(limit, &*settings.warn);
        }
        let memory_limit = asked.unwrap_or_else(system::default_memory_limit);
        settings.gpu_memory_limit = self.gpu_memory_limit.transpose()?;
        let finds = self.devices.is_none() && settings.placement != Placement::Cpu;
        let devices = match self.devices {
            Some(devices) => devices,
            None => vec![Arc::new(Cpu::new(threads)?) as Arc<dyn Device>, Arc::new(IoLane::new())],
        };
        let dir = self.cache_dir.or_else(system::cache_dir).filter(|d| !d.as_os_str().is_empty());
        let (costs, warning) = CostModel::load(dir.as_deref());
        settings.cache_dir = dir;
        if let Some(warning) = warning {
            (settings.warn)(&warning);
        }
        let costs = Mutex::new(costs);
        let members: Vec<Member> = devices.into_iter().map(|device| Member::new(device, &costs)).collect();
        let (policy_name, policy) = settings.ask_policy(|policy| Ok((policy.name(), policy)))?;
        let mut scheduler = Scheduler::new(policy);
        let stall = (self.stall_factor, u64::try_from(settings.stall_floor.as_nanos()).unwrap_or(u64::MAX));
        scheduler.set_stall_rule(stall.0, stall.1);
        let record = |path: PathBuf| Recorder::new(&path, RecordHead::new(policy_name, stall), settings.warn.clone());
        let recorder = self.record.map(record).transpose()?;
        let records = recorder.is_some();
        let inner = Arc::new(Inner {
            state: Mutex::new(SessionState::new(scheduler, recorder)),
            members: Members::default(),
            discovery: Discovery::new(finds),
            changed: Condvar::new(),
            costs,
            start: Instant::now(),
            memory_limit,
            settings,
            streams: Arc::default(),
            saved: Mutex::new(None),
            measuring: Mutex::default(),
            waiting: Mutex::default(),
            ticked_ns: AtomicU64::new(0),
        });
        inner.apply(Event::MemoryLimit { space: HOST, bytes: memory_limit }, |_| ());
        members.into_iter().for_each(|member| inner.join(member));
        let ending = records.then(|| Arc::new(Ending(inner.clone())));
        let session = Session(inner, ending);
        check_placement(&session)?;
        Ok(session)
    }
}

/// Warns of a limit that limits nothing.
fn warn_of(limit: u64, warn: &dyn Fn(&str)) {
    let available = system::available_memory();
    if limit / 2 > available {
        let (limit, available) = (Bytes(limit), Bytes(available));
        warn(&format!("memory limit = {limit}, but {available} are available here: it protects from nothing"));
    }
}

/// Errs for a limit that leaves nothing.
fn some_bytes(what: &str, limit: impl IntoBytes) -> Result<u64> {
    let named = |error| match error {
        Error::Argument { value, wanted, .. } => Error::argument(what, value, wanted),
        other => other,
    };
    match limit.into_bytes().map_err(named)?.0 {
        0 => Err(Error::argument(what, 0, "give some, such as 200MB, or leave it to the session")),
        bytes => Ok(bytes),
    }
}

/// Whether the devices that the user insists on are there; for GPUs, they are looked for now.
fn check_placement(session: &Session) -> Result<()> {
    let placement = session.0.settings.placement;
    let there = |session: &Session| match placement {
        Placement::Auto | Placement::Cpu => true,
        Placement::Gpu => session.devices().iter().any(|d| d.kind == DeviceKind::Gpu),
        Placement::Device(index) => session.devices().get(index as usize).is_some_and(|d| d.kind != DeviceKind::Io),
    };
    if there(session) {
        return Ok(());
    }
    session.discover();
    if there(session) {
        return Ok(());
    }
    let names: Vec<String> = session.devices().iter().enumerate().map(|(i, d)| format!("{i} = {}", d.name)).collect();
    let names = names.join(", ");
    Err(match placement {
        Placement::Device(index) => Error::NoDevice {
            wanted: "such".into(),
            found: format!("number {index}, but this session has {names} (io serves files and does not compute)"),
        },
        _ => {
            let why = session.why_no_gpu();
            let why = why.strip_prefix("none: ").unwrap_or(&why);
            Error::NoDevice { wanted: "gpu".into(), found: format!("{why}; the CPU can do all work") }
        }
    })
}
