//! Finding the machine's GPUs, in the background.
//!
//! Owns: [`Discovery`]: whether it has begun, what came of it. Must not know: what GPUs are used for. Invariant: nobody waits for it but who asks
//! to; work that ends sooner never starts it.

use std::sync::{Arc, Condvar, Mutex, MutexGuard, OnceLock, PoisonError};
use std::thread::ThreadId;
use std::time::{Duration, Instant};

use super::driver::Inner;

/// How long the end of a session, or of a thread that asked for GPUs, waits for searches: in all.
pub(super) const LEAVE: Duration = Duration::from_secs(1);

/// A GPU that is not used, and why.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Absent {
    /// Its name, as far as known.
    pub name: String,
    /// Why.
    pub why: String,
}

#[derive(Clone, Copy, PartialEq, Eq)]
enum SearchStage {
    /// The session has the devices that it was given, and no others.
    Off,
    NotYet,
    Running,
    /// What was found is known. Its thread has yet to end: drivers leave things on it that are taken down as it does.
    #[cfg_attr(not(feature = "gpu"), allow(dead_code))] // GPUs only
    Done,
    /// And the thread has gone.
    #[cfg_attr(not(feature = "gpu"), allow(dead_code))]
    Gone,
}

/// The search for GPUs.
pub(super) struct Discovery {
    state: Mutex<(SearchStage, Vec<Absent>)>,
    changed: Condvar,
    /// The thread that looks, from its first moment on.
    #[cfg_attr(not(feature = "gpu"), allow(dead_code))]
    looks: OnceLock<ThreadId>,
}

impl Discovery {
    pub(super) fn new(wanted: bool) -> Arc<Self> {
        let stage = if wanted && cfg!(feature = "gpu") { SearchStage::NotYet } else { SearchStage::Off };
        let state = Mutex::new((stage, Vec::new()));
        Arc::new(Self { state, changed: Condvar::new(), looks: OnceLock::new() })
    }

    fn lock(&self) -> MutexGuard<'_, (SearchStage, Vec<Absent>)> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Whether it has yet to begin.
    pub(super) fn is_due(&self) -> bool {
        self.lock().0 == SearchStage::NotYet
    }

    /// Waits until it is over, at most this long; true if it is (or never was wanted). The thread that looks does not wait for itself: on it runs
    /// user's code, because graphs that are under way are priced there.
    pub(super) fn wait(&self, time: Duration) -> bool {
        self.wait_while(Instant::now() + time, |stage| stage == SearchStage::Running)
    }

    /// Waits until it is over and its thread has gone, at most until then: a program that ends while a driver is being loaded, or taken down on
    /// a thread that ends, may crash in the driver.
    pub(super) fn leave(&self, end: Instant) {
        self.wait_while(end, |stage| matches!(stage, SearchStage::Running | SearchStage::Done));
    }

    fn wait_while(&self, end: Instant, goes_on: impl Fn(SearchStage) -> bool) -> bool {
        if self.is_here() {
            return true;
        }
        let mut state = self.lock();
        while goes_on(state.0) {
            let left = end.saturating_duration_since(Instant::now());
            if left.is_zero() {
                return false;
            }
            state = self.changed.wait_timeout(state, left).unwrap_or_else(PoisonError::into_inner).0;
        }
        true
    }

    /// Whether this is the thread that looks.
    fn is_here(&self) -> bool {
        self.looks.get() == Some(&std::thread::current().id())
    }

    /// In one line, why a session has no GPU.
    pub(super) fn why_none(&self) -> String {
        let state = self.lock();
        match state.0 {
            _ if !cfg!(feature = "gpu") => "none: this build computes on the CPU only (feature `gpu` is off)".into(),
            SearchStage::Off => "none: the session was made without".into(),
            SearchStage::NotYet => "not looked for: the work was too small to gain from one".into(),
            SearchStage::Running => "not ready yet: it is still being opened".into(),
            SearchStage::Done | SearchStage::Gone if state.1.is_empty() => {
                "none: no Vulkan, Metal or DX12 adapter found".into()
            }
            SearchStage::Done | SearchStage::Gone => {
                let each: Vec<String> = state.1.iter().map(|a| format!("{}: {}", a.name, a.why)).collect();
                format!("none: {}", each.join("; "))
            }
        }
    }

    /// GPUs that are not used.
    pub(super) fn absent(&self) -> Vec<Absent> {
        self.lock().1.clone()
    }

    #[cfg(feature = "gpu")]
    fn come_to(&self, stage: SearchStage, mut absent: Vec<Absent>) {
        let mut state = self.lock();
        state.0 = stage;
        state.1.append(&mut absent);
        self.changed.notify_all();
    }
}

/// What a thread that asked for GPUs waits for as it ends. A session that nobody drops, such as the common one, cannot wait itself; and what the system calls
/// at the end of a process (`atexit`) is called beside the driver's own, which take down what is being loaded. The ends of threads come before: the thread that ends a
/// process has its own called first.
#[cfg(feature = "gpu")]
struct Leaving(std::cell::RefCell<Vec<Arc<Discovery>>>);

#[cfg(feature = "gpu")]
impl Drop for Leaving {
    fn drop(&mut self) {
        let end = Instant::now() + LEAVE;
        for discovery in self.0.take() {
            discovery.leave(end);
        }
    }
}

#[cfg(feature = "gpu")]
thread_local! {
    static LEAVING: Leaving = const { Leaving(std::cell::RefCell::new(Vec::new())) };
}

/// Has this thread wait for a search as it ends. Not on Windows, where other threads have been stopped by then.
#[cfg(feature = "gpu")]
fn leave_at_end(discovery: &Arc<Discovery>) {
    if cfg!(unix) && !discovery.is_here() {
        // A thread that has come that far in ending does not wait.
        let _ = LEAVING.try_with(|leaving| {
            let mut leaving = leaving.0.borrow_mut();
            leaving.retain(|d| d.lock().0 != SearchStage::Gone && !Arc::ptr_eq(d, discovery));
            leaving.push(discovery.clone());
        });
    }
}

#[cfg(not(feature = "gpu"))]
impl Inner {
    /// This build has no GPUs.
    pub(super) fn begin_discovery(self: &Arc<Self>) {}
}

#[cfg(feature = "gpu")]
impl Inner {
    /// Starts looking for GPUs, once.
    pub(super) fn begin_discovery(self: &Arc<Self>) {
        {
            let mut state = self.discovery.lock();
            match state.0 {
                SearchStage::NotYet => state.0 = SearchStage::Running,
                SearchStage::Running | SearchStage::Done => {
                    drop(state);
                    return leave_at_end(&self.discovery);
                }
                SearchStage::Off | SearchStage::Gone => return,
            }
        }
        leave_at_end(&self.discovery);
        let (session, discovery) = (Arc::downgrade(self), self.discovery.clone());
        let (staging, settings) = (staging_bytes(self.memory_limit), self.settings.clone());
        let looks = move || {
            let _ = discovery.looks.set(std::thread::current().id()); // it is started once
            // Whatever a driver does here, whoever waits for the end of the search must hear of it.
            let found = std::panic::catch_unwind(std::panic::AssertUnwindSafe(|| search(&session, &settings, staging)));
            let panicked = |_| vec![Absent { name: "GPUs".into(), why: "a driver panicked while they were looked for".into() }];
            discovery.come_to(SearchStage::Done, found.unwrap_or_else(panicked));
        };
        // A thread cannot say that it has gone. One that has nothing of a driver says it for that which looks.
        let discovery = self.discovery.clone();
        let keeps = move || {
            let looking = std::thread::Builder::new().name("chunkwise-gpus".into()).spawn(looks);
            discovery.come_to(
                SearchStage::Gone,
                looking.map_or_else(no_thread, |looking| {
                    let _ = looking.join(); // it does not panic
                    Vec::new()
                }),
            );
        };
        if let Err(error) = std::thread::Builder::new().name("chunkwise-find".into()).spawn(keeps) {
            self.discovery.come_to(SearchStage::Gone, no_thread(error));
        }
    }
}

#[cfg(feature = "gpu")]
fn no_thread(error: std::io::Error) -> Vec<Absent> {
    vec![Absent { name: "GPUs".into(), why: format!("no thread to look for them: {error}") }]
}

/// Host memory for chunks on their way: a small part of what the session may use, which chunks on the host may not.
#[cfg_attr(not(feature = "gpu"), allow(dead_code))]
pub(super) fn staging_bytes(memory_limit: u64) -> u64 {
    (memory_limit / 32).clamp(8 << 20, 512 << 20).min(memory_limit / 4)
}

/// Memory, or addresses, that drivers may take.
#[cfg(feature = "gpu")]
const DRIVERS_BYTES: u64 = 512 << 20;

#[cfg(feature = "gpu")]
fn search(session: &std::sync::Weak<Inner>, settings: &super::builder::Settings, staging: u64) -> Vec<Absent> {
    use crate::device::gpu;

    let left = crate::device::system::available_memory();
    if left < DRIVERS_BYTES {
        // Some end the process where they get none.
        let why = format!("not looked for: {} of memory left, and drivers take hundreds of megabytes", crate::Bytes(left));
        return vec![Absent { name: "GPUs".into(), why }];
    }
    let (mut absent, mut number) = (Vec::new(), 0u16);
    for adapter in gpu::known(settings.allow_software) {
        let not_used = |why: String| Absent { name: adapter.to_string(), why };
        if let Some(why) = adapter.unusable.clone() {
            absent.push(not_used(why));
            continue;
        }
        match take_in(session, settings, (&adapter, number, staging)) {
            Ok(true) => number += 1,
            Ok(false) => return absent,
            Err(why) => absent.push(not_used(why)),
        }
    }
    absent
}

/// Opens the adapter as GPU `number` of the session, measures it if nobody has, and has it join; false if there is no session any more. Where a variant of a kernel has taken it along, it is
/// opened once more, and does without that one.
#[cfg(feature = "gpu")]
fn take_in(
    session: &std::sync::Weak<Inner>,
    settings: &super::builder::Settings,
    (adapter, number, staging): (&crate::device::gpu::AdapterInfo, u16, u64),
) -> Result<bool, String> {
    use super::members::Member;
    use crate::cost::calibrate_gpu;
    use crate::device::{Device, gpu};
    use crate::id::SpaceId;

    for _ in 0..2 {
        let opened = gpu::Gpu::open(adapter, &format!("gpu{number}"), SpaceId(number + 1), staging);
        let opened = opened.map_err(|error| error.to_string())?;
        let device: Arc<dyn Device> = Arc::new(match &settings.cache_dir {
            Some(dir) => opened.with_cache_dir(dir),
            None => opened,
        });
        let Some(inner) = session.upgrade() else { return Ok(false) };
        let mut member = Member::new(device, &inner.costs);
        if !settings.calibrate || inner.with_costs(|costs| costs.calibrated(member.priced)) {
            inner.test_arithmetic(&mut member); // it may have been lost in the test before
            inner.join(member);
            return Ok(true);
        }
        let refused = inner.refused_variants(&member);
        drop(inner); // a session that ends meanwhile need not wait for this
        let measured = calibrate_gpu(&*member.device, &refused).ok_or("it did not answer while its speed was measured")?;
        let Some(inner) = session.upgrade() else { return Ok(false) };
        inner.learn_gpu(&mut member, &measured);
        if !measured.lost {
            inner.join(member);
            return Ok(true);
        }
    }
    Err("it was lost while its speed was measured".into())
}
