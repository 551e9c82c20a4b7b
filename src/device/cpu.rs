//! A pool of CPU threads as a device.
//!
//! Owns: its rayon pool and its threads' scratch. Must not know: other devices. Invariant: a kernel runs on one
//! thread from start to end, and never calls rayon itself.

use std::sync::Arc;
use std::time::{Duration, Instant};

use super::calls::{self, LaunchQueue, Origin};
use super::scratch::Scratches;
use super::{Counters, Data, Device, DeviceKind, DeviceSpec, Launch, LinkSpec, Move, Report, system};
use crate::error::{Error, Result};
use crate::id::SpaceId;
use crate::kernel::simd;

/// The most threads of a pool. Idle threads of rayon look for work at all others before they sleep, so that starting a pool takes time that
/// grows with the square of their number, 19 s for 4096 on two cores; 512 take 0.2 s there. Each core brings its share of that work.
fn most_threads(cores: usize) -> usize {
    cores.saturating_mul(4).max(512)
}

/// CPU threads that execute tasks.
pub struct Cpu {
    spec: DeviceSpec,
    pool: Arc<rayon::ThreadPool>,
    shared: Arc<PoolShared>,
    /// For a pool in a memory space of its own: the thread that moves bytes at the link's speed.
    link: Option<crossing::Sender>,
}

/// What the pool's threads have in common.
struct PoolShared {
    /// The pool is told of each launch once, and takes them from here, as does a thread that waits.
    queue: LaunchQueue,
    scratches: Scratches,
}

impl PoolShared {
    /// Runs a launch on this thread of the pool.
    fn serve(&self, launch: Launch) {
        let worker = rayon::current_thread_index().unwrap_or(0) as u32;
        calls::serve(launch, worker, &self.scratches);
    }
}

impl Cpu {
    /// A pool of `threads` threads that works in host memory.
    ///
    /// # Errors
    /// [`Error::Argument`] if there are to be none, or more than four for each core (or 512), or if the system refuses that many.
    pub fn new(threads: usize) -> Result<Self> {
        Self::build("cpu", threads, super::HOST, None)
    }

    /// A pool that works in a memory space of its own behind a link of this speed (up, down). The space is host memory too;
    /// moves take the time they would take on such a link. For trying out placement on a machine without a GPU.
    ///
    /// # Errors
    /// As [`Cpu::new`].
    pub fn behind_link(name: &str, threads: usize, space: SpaceId, link: [LinkSpec; 2]) -> Result<Self> {
        Self::build(name, threads, space, Some(link))
    }

    fn build(name: &str, threads: usize, space: SpaceId, link: Option<[LinkSpec; 2]>) -> Result<Self> {
        let most = most_threads(system::threads());
        if !(1..=most).contains(&threads) {
            let wanted =
                format!("choose 1 to {most} on this machine, whose {} cores gain nothing from more", system::threads());
            return Err(Error::argument("threads", threads, wanted));
        }
        let label = name.to_owned();
        let pool = rayon::ThreadPoolBuilder::new()
            .num_threads(threads)
            .stack_size(super::STACK_BYTES)
            .thread_name(move |i| format!("chunkwise-{label}-{i}"))
            .build()
            .map_err(|e| Error::argument("threads", threads, format!("the system refused so many: {e}")))?;
        let spec = DeviceSpec {
            name: name.to_owned(),
            model: format!("{}, {threads} threads, {}", system::cpu_model(), simd::simd_name()),
            kind: DeviceKind::Cpu,
            workers: threads as u32,
            queue: threads as u32,
            space,
            link,
            gpu: None,
        };
        let link = link.map(crossing::start).transpose();
        let link =
            link.map_err(|e| Error::argument("threads", threads, format!("the system refused one more for the link: {e}")))?;
        let shared = PoolShared { queue: LaunchQueue::default(), scratches: Scratches::new(threads) };
        Ok(Self { spec, pool: Arc::new(pool), shared: Arc::new(shared), link })
    }

    /// The pool, for calibration.
    #[must_use]
    pub fn pool(&self) -> &Arc<rayon::ThreadPool> {
        &self.pool
    }
}

#[allow(unsafe_code)] // the promise of a device
// SAFETY: a launch's body is over, and dropped, before its report; a move is one copy, made before its report.
unsafe impl Device for Cpu {
    fn spec(&self) -> &DeviceSpec {
        &self.spec
    }

    fn launch(&self, launch: Launch) {
        self.shared.queue.push(launch);
        let shared = self.shared.clone();
        self.pool.spawn(move || {
            if let Some(launch) = shared.queue.pop() {
                shared.serve(launch);
            }
        });
    }

    fn transfer(&self, mv: Move) {
        match &self.link {
            Some(link) => link.send(mv),
            None => unreachable!("{} works in host memory", self.spec.name),
        }
    }

    fn on_worker(&self) -> bool {
        self.pool.current_thread_index().is_some()
    }

    fn help(&self, wanted: &dyn Fn(&Origin) -> bool) -> bool {
        self.shared.queue.pop_wanted(wanted).map(|launch| self.shared.serve(launch)).is_some()
    }

    fn rest(&self, scratch_bytes: u64) {
        self.shared.scratches.rest(scratch_bytes);
    }

    fn counters(&self) -> Counters {
        Counters { bytes: self.shared.scratches.bytes(), ..Counters::default() }
    }
}

/// A link between two parts of host memory that takes the time of a slower one.
mod crossing {
    use std::panic::{AssertUnwindSafe, catch_unwind};
    use std::sync::mpsc;

    use super::{Data, Duration, Instant, LinkSpec, Move, Report};
    use crate::device::{Failure, host_view_mut, input_view, panic_message};

    pub(super) struct Sender([mpsc::Sender<Move>; 2]);

    impl Sender {
        pub(super) fn send(&self, mv: Move) {
            // The threads end only with the sender, and no move makes them panic: a move is not lost here.
            let _ = self.0[usize::from(!mv.upload)].send(mv);
        }
    }

    /// One thread per direction: up and down do not wait for each other.
    pub(super) fn start([up, down]: [LinkSpec; 2]) -> std::io::Result<Sender> {
        let one = |link: LinkSpec| {
            let (sender, receiver) = mpsc::channel::<Move>();
            let named = std::thread::Builder::new().name("chunkwise-link".into());
            named.spawn(move || receiver.into_iter().for_each(|mv| cross(&link, mv)))?;
            Ok::<_, std::io::Error>(sender)
        };
        Ok(Sender([one(up)?, one(down)?]))
    }

    fn cross(link: &LinkSpec, mv: Move) {
        let start = Instant::now();
        let Move { from, to, done, .. } = mv;
        let copied = catch_unwind(AssertUnwindSafe(|| {
            let (Data::Host(source), Data::Host(to)) = (&from, &to) else { return };
            host_view_mut(to).copy_from(input_view(&from));
            let wanted = Duration::from_nanos(link.transfer_ns(source.layout().bytes()));
            std::thread::sleep(wanted.saturating_sub(start.elapsed()));
        }));
        // Given back before the report: whoever is told that the move is over may take the memory.
        drop((from, to));
        let outcome = copied.map_err(|payload| Failure::Panic(panic_message(&*payload)));
        done(Report {
            elapsed_ns: start.elapsed().as_nanos() as u64,
            measured: true,
            since_ns: 0,
            worker: 0,
            opaque: Vec::new(),
            outcome,
        });
    }
}
