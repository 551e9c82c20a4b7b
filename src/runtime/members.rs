//! The devices of a session, which may become more while it works.
//!
//! Owns: [`Members`], [`Member`]; how a device joins. Must not know: how devices are found (discover.rs). Invariant: a device is in the list
//! before the scheduler hears of it, and stays there; ids are places in the list.

use std::collections::BTreeSet;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError, RwLock, Weak};

use super::driver::Inner;
use super::prices::Prices;
use super::run::Run;
use crate::cost::{CostId, CostModel, DeviceKey, LinkRate, PricedId, Rates, Tuned, test_exact};
use crate::device::{Device, DeviceKind, DeviceSpec, HOST, LinkSpec};
use crate::id::{DeviceId, SpaceId};
use crate::kernel::{Kernel, KernelKey};
use crate::schedule::Event;
use crate::shape::DType;

/// A device, and where its costs are kept.
#[derive(Clone)]
pub(super) struct Member {
    pub(super) device: Arc<dyn Device>,
    pub(super) spec: DeviceSpec,
    pub(super) priced: PricedId,
    /// What it said when it came: bytes of its own memory, and of host memory that it takes for moves.
    memory_bytes: Option<u64>,
    pub(super) staging_bytes: u64,
    /// The links to its memory and back, where that is a GPU's.
    pub(super) links: Option<[CostId; 2]>,
    /// What it turned out to be unable to run.
    unfit: Arc<Mutex<UnfitKernels>>,
}

/// Kernels that a device is remembered to be unable to run, at most.
const UNFIT: usize = 4096;

/// Kernels, each with a dtype: by all that they do, so that one expression does not take others of its name along.
#[derive(Default)]
struct UnfitKernels {
    keys: BTreeSet<(KernelKey, DType)>,
    /// Those that exist only here, whose keys are others' in other graphs. Kept by their places, which nobody else has while they are here.
    local: Vec<(Weak<dyn Kernel>, DType)>,
}

impl UnfitKernels {
    fn has(&self, key: &KernelKey, kernel: &Arc<dyn Kernel>, dtype: DType) -> bool {
        let is_it =
            |(known, of): &(Weak<dyn Kernel>, DType)| std::ptr::addr_eq(known.as_ptr(), Arc::as_ptr(kernel)) && *of == dtype;
        if key.is_local() { self.local.iter().any(is_it) } else { self.keys.contains(&(key.clone(), dtype)) }
    }
}

/// The list: a snapshot for whoever asks.
#[derive(Default)]
pub(super) struct Members(RwLock<Arc<Vec<Member>>>);

impl Members {
    pub(super) fn all(&self) -> Arc<Vec<Member>> {
        self.0.read().unwrap_or_else(PoisonError::into_inner).clone()
    }

    pub(super) fn push(&self, member: Member) -> DeviceId {
        let mut list = self.0.write().unwrap_or_else(PoisonError::into_inner);
        let mut all = list.to_vec();
        all.push(member);
        *list = Arc::new(all);
        DeviceId::at(list.len() - 1)
    }
}

impl Members {
    /// Replaces what is known of a device.
    pub(super) fn replace(&self, id: DeviceId, member: Member) {
        let mut list = self.0.write().unwrap_or_else(PoisonError::into_inner);
        let mut all = list.to_vec();
        all[id.index()] = member;
        *list = Arc::new(all);
    }
}

impl Member {
    /// The device, with the costs that are known of its model, by which it is tuned.
    pub(super) fn new(device: Arc<dyn Device>, costs: &Mutex<CostModel>) -> Self {
        let (mut member, tuned) = Self::priced(device, costs);
        if let Some(tuned) = tuned {
            member.tune(&tuned);
        }
        member
    }

    /// The speed of a measured link replaces that of its spec.
    fn priced(device: Arc<dyn Device>, costs: &Mutex<CostModel>) -> (Self, Option<Tuned>) {
        let mut spec = device.spec().clone();
        let (memory_bytes, staging_bytes) = (device.memory_bytes(), device.staging_bytes());
        // From here on the device is not asked: it may be a user's.
        let costs = &mut *costs.lock().unwrap_or_else(PoisonError::into_inner);
        let (key, rates) = match spec.kind {
            DeviceKind::Cpu => (format!("{}: {}", spec.name, spec.model), Rates::CPU),
            // Equal GPUs are one model.
            DeviceKind::Gpu => (format!("gpu: {}", spec.model), Rates::GPU),
            DeviceKind::Io => (format!("{}: {}", spec.name, spec.model), Rates::IO),
        };
        let priced = costs.device(&DeviceKey::new(key), rates);
        let links = spec.gpu.map(|_| {
            let link = |from: &str, to: &str, costs: &mut CostModel| costs.link(from, to, LinkRate::UNMEASURED);
            [link("host", &spec.model, costs), link(&spec.model, "host", costs)]
        });
        let unfit = Arc::default();
        let mut member = Self { device, spec: spec.clone(), priced, memory_bytes, staging_bytes, links, unfit };
        if let Some(links) = member.links.filter(|l| costs.calibrated(costs.device_of(l[0]))) {
            spec.link = Some(links.map(|link| speed(costs, link)));
            member.spec = spec;
        }
        (member, costs.tuned(priced).cloned())
    }

    /// Tells the device what was found out of it. Nothing may be locked: it may be a user's.
    pub(super) fn tune(&mut self, tuned: &Tuned) {
        if let Some(gpu) = &mut self.spec.gpu {
            (gpu.variants, gpu.exact) = (tuned.tuning.variants, tuned.exact);
        }
        self.device.tune(&tuned.tuning);
        self.device.set_exact(&tuned.exact);
    }

    fn unfit(&self) -> MutexGuard<'_, UnfitKernels> {
        self.unfit.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Whether it turned out to be unable to run this kernel, of this key.
    pub(super) fn is_unfit(&self, key: &KernelKey, kernel: &Arc<dyn Kernel>, dtype: DType) -> bool {
        self.unfit().has(key, kernel, dtype)
    }

    /// From now on it is not asked to run this kernel. Whether that is new.
    pub(super) fn forbid(&self, key: &KernelKey, kernel: &Arc<dyn Kernel>, dtype: DType) -> bool {
        let mut unfit = self.unfit();
        if unfit.has(key, kernel, dtype) {
            return false;
        }
        if key.is_local() {
            unfit.local.retain(|(known, _)| known.strong_count() > 0);
            unfit.local.push((Arc::downgrade(kernel), dtype));
        } else {
            if unfit.keys.len() >= UNFIT {
                unfit.keys.clear(); // those that are still asked for fail once more
            }
            unfit.keys.insert((key.clone(), dtype));
        }
        true
    }
}

/// A link's speed, as the scheduler wants it.
pub(super) fn speed(costs: &CostModel, link: CostId) -> LinkSpec {
    let rates = costs.rates(costs.device_of(link));
    LinkSpec { latency_ns: rates.launch_ns as u64, bytes_per_s: rates.bytes_per_s }
}

impl Inner {
    /// Has a GPU of which nobody knows tested whether its arithmetic gives a CPU's bits. Nothing may be locked, as it takes a while.
    pub(super) fn test_arithmetic(&self, member: &mut Member) {
        let Some(gpu) = member.spec.gpu.as_mut().filter(|gpu| !gpu.exact.tested) else { return };
        gpu.exact = test_exact(&*member.device);
        let exact = gpu.exact;
        member.device.set_exact(&exact);
        self.with_costs(|costs| costs.set_exact(member.priced, exact));
    }

    /// Takes a device in: graphs that are under way may use it from now on. They are priced on it while nothing is locked.
    pub(super) fn join(self: &Arc<Self>, mut member: Member) {
        if self.settings.strict {
            self.test_arithmetic(&mut member);
        }
        let spec = member.spec.clone();
        let mut unpriced = Vec::new();
        let mut joined = DeviceId(0);
        self.with_events(|state, events| {
            joined = self.members.push(member.clone());
            if let Some(bytes) = self.memory_of(&member) {
                events.push_back(Event::MemoryLimit { space: spec.space, bytes });
            }
            if member.staging_bytes > 0 {
                let bytes = state.scheduler.limit_bytes(HOST).saturating_sub(member.staging_bytes);
                events.push_back(Event::MemoryLimit { space: HOST, bytes });
            }
            events.push_back(Event::DeviceJoined { device: joined, spec });
            // A run that comes later finds the device in the list.
            let under_way = state.runs.iter().filter(|(_, run)| !run.over);
            // Not all of a run: what it gives back must be nobody else's.
            let known = |run: &Run| (run.fixed.graph.clone(), run.fixed.kernels.clone());
            unpriced.extend(under_way.map(|(&graph, run)| (graph, known(run))));
        });
        for (graph, (tasks, kernels)) in unpriced {
            let column = Prices::column(&tasks, &kernels, (joined.index(), &member), self);
            drop((tasks, kernels));
            self.with_events(|state, events| {
                if let Some(run) = state.runs.get_mut(&graph).filter(|run| run.prices.len() == joined.index()) {
                    events.push_back(Event::Priced { graph, estimates: column.estimates.clone() });
                    run.prices.add(column);
                }
            });
        }
    }

    /// How much of its own memory a device may use at first.
    pub(super) fn memory_of(&self, member: &Member) -> Option<u64> {
        let bytes = member.memory_bytes?;
        Some(self.settings.gpu_memory_limit.map_or(bytes, |limit| limit.min(bytes)))
    }

    /// A memory limit that leaves this much beside what the GPUs of the session take for moves, and a little more.
    pub(super) fn limit_for(&self, bytes: u64) -> u64 {
        let gpus = self.members.all().iter().filter(|m| m.staging_bytes > 0).count() as u64;
        let enough = bytes.saturating_add(bytes / 50);
        let more = |limit: u64| enough.saturating_add(gpus.saturating_mul(super::discover::staging_bytes(limit)));
        (0..32).fold(enough, |limit, _| more(limit))
    }

    /// The device whose own memory this space is.
    pub(super) fn device_of(&self, space: SpaceId) -> Option<Arc<dyn Device>> {
        let all = self.members.all();
        all.iter().find(|m| m.spec.space == space && m.spec.link.is_some()).map(|m| m.device.clone())
    }

    pub(super) fn with_costs<R>(&self, with: impl FnOnce(&mut CostModel) -> R) -> R {
        with(&mut self.costs.lock().unwrap_or_else(PoisonError::into_inner))
    }
}
