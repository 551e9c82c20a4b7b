//! Moves on a link that is watched: a submission is over only when the next one in its directions is there.
//!
//! Owns: [`Watched`], a driver that counts, holds back and refuses. Must not know: clocks: what is asserted holds on a machine of any speed. Invariant: a
//! direction that would have been idle though bytes waited for it is counted as starved.

use std::sync::mpsc::{Receiver, channel};
use std::sync::{Arc, Condvar, Mutex, MutexGuard};
use std::time::{Duration, Instant};

use wgpu::{BufferDescriptor, BufferUsages, CommandBuffer, MapMode, SubmissionIndex};

use crate::device::gpu::driver::{Driver, Load, MapDone, Plain};
use crate::device::gpu::executor::{Gpu, MapChunks};
use crate::device::gpu::open::{GpuRefusal, Opened};
use crate::device::gpu::service::IN_FLIGHT;
use crate::device::{Data, Device, Failure, HostBuffer, Memory, Move, Remote, Window, take_result};
use crate::id::SpaceId;
use crate::shape::{DType, Layout};

/// After so long without the next submission there will be none.
const STARVED: Duration = Duration::from_secs(20);
/// What takes longer hangs.
const LIMIT: Duration = Duration::from_secs(300);
const STAGING: u64 = 128 << 20;
/// The largest staging buffer then.
const PIECE: u64 = STAGING / 8;

/// Whether a staging buffer is refused: how many its direction has had, and its bytes.
type Refuse = Box<dyn Fn(usize, u64) -> bool + Send>;

#[derive(Default)]
struct Seen {
    /// Bytes that are to be moved in all: up, and down.
    wanted: [u64; 2],
    loads: Vec<[u64; 2]>,
    /// Submissions that are over, and those that were made before the bytes that are looked at.
    over: usize,
    before: usize,
    /// Whether each waits for the next one, or all wait.
    gated: bool,
    held: bool,
    waited: Duration,
    starved: u64,
    /// Submissions that ended because as many were under way as there may be, of one direction while the other's bytes came late: as on a machine whose cores are others'.
    full: usize,
    made: [usize; 2],
    refuse: Option<Refuse>,
    refused: u64,
}

impl Seen {
    /// Whether no more is submitted before something ends.
    fn is_full(&self) -> bool {
        self.loads.len().saturating_sub(self.over) >= IN_FLIGHT
    }

    /// Whether the submission that is waited for may end: no more can come, or in each of its directions the next one is there, or all has gone.
    fn may_end(&self) -> bool {
        let is_waited_for = self.over < self.loads.len();
        !is_waited_for || !self.held && (!self.gated || self.is_followed() || self.is_full())
    }

    fn is_followed(&self) -> bool {
        let Some(load) = self.loads.get(self.over) else { return true };
        let follows = |d: usize| {
            let gone: u64 = self.loads.iter().map(|load| load[d]).sum();
            load[d] == 0 || gone >= self.wanted[d] || self.loads[self.over + 1..].iter().any(|next| next[d] > 0)
        };
        follows(0) && follows(1)
    }

    /// Submissions in a direction since the last bytes were announced.
    fn count(&self, direction: usize) -> usize {
        self.loads[self.before..].iter().filter(|load| load[direction] > 0).count()
    }
}

#[derive(Default)]
struct Watch {
    seen: Mutex<Seen>,
    changed: Condvar,
}

#[derive(Clone, Default)]
struct Watched(Arc<Watch>);

impl Watched {
    fn open() -> Option<(Gpu, Self)> {
        let (adapter, watched) = (crate::device::gpu::adapters::any()?, Self::default());
        let driver = watched.clone();
        let gpu = Gpu::open_by(&adapter, ("gpu0", SpaceId(1)), STAGING, MapChunks::Never, move || Box::new(driver));
        Some((gpu.unwrap(), watched))
    }

    fn seen(&self) -> MutexGuard<'_, Seen> {
        self.0.seen.lock().unwrap()
    }

    /// So many more bytes will be moved.
    fn expect(&self, up: u64, down: u64) {
        let mut seen = self.seen();
        seen.wanted = [seen.wanted[0] + up, seen.wanted[1] + down];
        seen.before = seen.loads.len();
    }

    /// Whether submissions end.
    fn hold(&self, held: bool) {
        self.seen().held = held;
        self.0.changed.notify_all();
    }

    fn refuse(&self, refuse: impl Fn(usize, u64) -> bool + Send + 'static) {
        self.seen().refuse = Some(Box::new(refuse));
    }
}

impl Driver for Watched {
    fn buffer(&self, opened: &Opened, descriptor: &BufferDescriptor<'_>) -> Result<wgpu::Buffer, GpuRefusal> {
        let direction = [BufferUsages::MAP_WRITE, BufferUsages::MAP_READ].iter().position(|&u| descriptor.usage.contains(u));
        if let Some(direction) = direction {
            let mut seen = self.seen();
            if seen.refuse.as_ref().is_some_and(|refuse| refuse(seen.made[direction], descriptor.size)) {
                seen.refused += 1;
                return Err(GpuRefusal::OutOfMemory { requested_bytes: descriptor.size, message: "refused".into() });
            }
            seen.made[direction] += 1;
        }
        Plain.buffer(opened, descriptor)
    }

    fn map(&self, opened: &Opened, buffer: &wgpu::Buffer, mode: MapMode, done: MapDone) {
        Plain.map(opened, buffer, mode, done);
    }

    fn submit(&self, opened: &Opened, commands: CommandBuffer, load: Load) -> Result<SubmissionIndex, GpuRefusal> {
        let index = Plain.submit(opened, commands, load)?;
        self.seen().loads.push([load.up_bytes, load.down_bytes]);
        self.0.changed.notify_all();
        Ok(index)
    }

    fn wait(&self, opened: &Opened, index: &SubmissionIndex, at_most: Duration) -> Result<bool, GpuRefusal> {
        if !Plain.wait(opened, index, at_most)? {
            return Ok(false);
        }
        let began = Instant::now();
        let (mut seen, _) = self.0.changed.wait_timeout_while(self.seen(), at_most, |seen| !seen.may_end()).unwrap();
        let may_end = seen.may_end();
        seen.waited = if may_end || seen.held { Duration::ZERO } else { seen.waited + began.elapsed() };
        let starved = seen.waited > STARVED;
        if may_end || starved {
            seen.starved += u64::from(starved);
            seen.full += usize::from(seen.gated && !seen.is_followed());
            seen.waited = Duration::ZERO;
            seen.over += 1;
        }
        Ok(may_end || starved)
    }
}

/// Chunks of an array: `rows` by `columns` each, side by side as windows, or one after the other.
#[derive(Clone, Copy, Debug)]
struct Chunks {
    rows: usize,
    columns: usize,
    count: usize,
    windows: bool,
}

impl Chunks {
    fn bytes(&self) -> u64 {
        (4 * self.rows * self.columns * self.count) as u64
    }

    fn data(&self, of: &Arc<HostBuffer>) -> Vec<Data> {
        let shape = [self.rows, self.columns];
        let one = |n: usize| match self.windows {
            true => {
                let strides = vec![(self.columns * self.count) as isize, 1];
                Window::new(of.clone(), n * self.columns, Layout { dtype: DType::U32, shape: shape.into(), strides })
            }
            false => Window::new(of.clone(), n * self.rows * self.columns, Layout::contiguous(DType::U32, &shape)),
        };
        (0..self.count).map(|n| Data::Host(one(n))).collect()
    }

    /// Numbers in host memory.
    fn numbers(&self) -> Vec<Data> {
        let numbers: Vec<u32> = (0..self.rows * self.columns * self.count).map(number).collect();
        self.data(&HostBuffer::caller(&Arc::new(numbers)))
    }

    /// A place in host memory.
    fn place(&self) -> (Arc<HostBuffer>, Vec<Data>) {
        let place = HostBuffer::result::<u32>(self.rows * self.columns * self.count).unwrap();
        let data = self.data(&place);
        (place, data)
    }

    fn remote(&self, gpu: &Gpu) -> Vec<Data> {
        let layout = Arc::new(Layout::contiguous(DType::U32, &[self.rows, self.columns]));
        let one = |_| match gpu.allocate(layout.bytes()).unwrap() {
            Memory::Remote(memory) => Data::Remote(Remote::whole(memory, layout.clone())),
            Memory::Host(_) => panic!("a GPU has memory of its own"),
        };
        (0..self.count).map(one).collect()
    }
}

fn number(i: usize) -> u32 {
    (i as u32).wrapping_mul(2_654_435_761)
}

/// Whether a place holds the numbers.
fn assert_there((place, data): (Arc<HostBuffer>, Vec<Data>), what: &str) {
    drop(data);
    let count = place.bytes() / 4;
    let back = take_result::<u32>(place).expect("nobody has it any more");
    let wrong = (0..count).find(|&i| back.vec[back.start + i] != number(i));
    assert_eq!(wrong, None, "{what}");
}

type Outcomes = Receiver<Result<(), Failure>>;

/// Asks for moves.
fn ask<'a>(gpu: &Gpu, moves: impl IntoIterator<Item = (&'a Data, &'a Data)>) -> (usize, Outcomes) {
    let ((sender, outcomes), mut count) = (channel(), 0);
    for (from, to) in moves {
        let (sender, upload) = (sender.clone(), matches!(from, Data::Host(_)));
        let done = Box::new(move |report: crate::device::Report| sender.send(report.outcome).unwrap());
        gpu.transfer(Move { from: from.clone(), to: to.clone(), upload, done });
        count += 1;
    }
    (count, outcomes)
}

fn outcomes((count, outcomes): (usize, Outcomes)) -> Vec<Result<(), Failure>> {
    (0..count).map(|n| outcomes.recv_timeout(LIMIT).unwrap_or_else(|e| panic!("move {n} of {count}: {e}"))).collect()
}

fn arrive(asked: (usize, Outcomes)) {
    outcomes(asked).into_iter().for_each(|outcome| outcome.unwrap());
}

/// Up, down, and both at once; all must arrive.
fn cross(gpu: &Gpu, watched: &Watched, chunks: Chunks) {
    let (from, bytes, what) = (chunks.numbers(), chunks.bytes(), format!("{chunks:?}"));
    let (far, further) = (chunks.remote(gpu), chunks.remote(gpu));
    let places = [0; 3].map(|_| chunks.place());
    watched.expect(bytes, 0);
    arrive(ask(gpu, from.iter().zip(&far)));
    watched.expect(0, bytes);
    arrive(ask(gpu, far.iter().zip(&places[0].1)));
    watched.expect(bytes, bytes);
    arrive(ask(gpu, from.iter().zip(&further).zip(far.iter().zip(&places[1].1)).flat_map(|(up, down)| [up, down])));
    watched.expect(0, bytes);
    arrive(ask(gpu, further.iter().zip(&places[2].1)));
    places.into_iter().for_each(|place| assert_there(place, &what));
}

#[test]
fn the_link_is_never_idle_while_bytes_wait_for_it() {
    let Some((gpu, watched)) = Watched::open() else { return };
    watched.seen().gated = true;
    let sizes = [(32, 32, 1000), (100, 41, 300), (128, 128, 300), (512, 512, 64), (1024, 1030, 20), (4096, 4099, 2)];
    for (rows, columns, count) in sizes {
        for windows in [false, true] {
            let chunks = Chunks { rows, columns, count, windows };
            cross(&gpu, &watched, chunks);
            let seen = watched.seen();
            assert_eq!(seen.starved, 0, "{chunks:?}: {:?}", seen.loads);
            assert!(10 * seen.full <= seen.loads.len(), "{chunks:?}: {} full: {:?}", seen.full, seen.loads);
            assert!(seen.loads.iter().flatten().all(|&bytes| bytes <= PIECE), "{chunks:?}: {:?}", seen.loads);
            let counted = gpu.counters().bytes;
            assert!(counted <= 2 * (chunks.bytes() + 16 * count as u64) + STAGING + (2 << 20), "{chunks:?}: {counted} B");
        }
    }
}

/// Submissions for moves all of which are asked for before any of them ends, as downloads, or both ways: up, and down.
fn held(gpu: &Gpu, watched: &Watched, chunks: Chunks, both: bool) -> [usize; 2] {
    let (from, bytes) = (chunks.numbers(), chunks.bytes());
    let (far, further, place) = (chunks.remote(gpu), chunks.remote(gpu), chunks.place());
    watched.expect(bytes, 0);
    arrive(ask(gpu, from.iter().zip(&far)));
    // When what was asked for last has come back, nothing is under way.
    arrive(ask(gpu, [(&far[chunks.count - 1], &chunks.place().1[0])]));
    watched.expect(if both { bytes } else { 0 }, bytes);
    watched.hold(true);
    let downs = ask(gpu, far.iter().zip(&place.1));
    let mut all_waited = true;
    if both {
        // An upload is reported when it has been handed on, into staging; where a slow thread has filled that with little at a time, only when submissions end.
        let (mut left, uploads) = ask(gpu, from.iter().zip(&further));
        while let Some(outcome) = (left > 0).then(|| uploads.recv_timeout(STARVED).ok()).flatten() {
            outcome.unwrap();
            left -= 1;
        }
        all_waited = left == 0;
        watched.hold(false);
        arrive((left, uploads));
    }
    watched.hold(false);
    arrive(downs);
    assert_there(place, "held");
    // What went while some had yet to be handed on says nothing of how many submissions there need be.
    let counts = [0, 1].map(|d| if all_waited { watched.seen().count(d) } else { 0 });
    let again = chunks.place();
    if both {
        watched.expect(0, bytes);
        arrive(ask(gpu, further.iter().zip(&again.1)));
        assert_there(again, "up beside down");
    }
    counts
}

#[test]
fn ten_thousand_small_chunks_both_ways_go_in_a_few_submissions() {
    let Some((gpu, watched)) = Watched::open() else { return };
    for windows in [false, true] {
        let [ups, downs] = held(&gpu, &watched, Chunks { rows: 32, columns: 32, count: 10_000, windows }, true);
        // Three at first, then 1024 pieces at once, and as much up.
        assert!(ups <= 3 + 10 && downs <= 3 + 10, "{ups} up, {downs} down");
    }
}

#[test]
fn chunks_of_mandelbrot_come_down_in_large_packs() {
    let Some((gpu, watched)) = Watched::open() else { return };
    let [_, downs] = held(&gpu, &watched, Chunks { rows: 512, columns: 512, count: 384, windows: true }, false);
    assert!(downs <= 384 / 6, "{downs} submissions");
}

#[test]
fn where_large_staging_cannot_be_had_chunks_cross_in_small_pieces() {
    let Some((gpu, watched)) = Watched::open() else { return };
    watched.refuse(|_, bytes| bytes > 1 << 20);
    // As on a card whose memory the host sees through a small window: 1 GiB, one chunk.
    cross(&gpu, &watched, Chunks { rows: 16_384, columns: 16_384, count: 1, windows: false });
    cross(&gpu, &watched, Chunks { rows: 1000, columns: 700, count: 20, windows: true });
    watched.refuse(|_, bytes| bytes > 8192);
    gpu.rest(0);
    cross(&gpu, &watched, Chunks { rows: 1000, columns: 700, count: 2, windows: true });
    cross(&gpu, &watched, Chunks { rows: 30, columns: 30, count: 100, windows: true });
    assert!(watched.seen().refused > 0);
}

#[test]
fn where_few_staging_buffers_can_be_had_they_are_used_in_turn() {
    let Some((gpu, watched)) = Watched::open() else { return };
    // Those of submissions' own are there already.
    let before = watched.seen().made;
    let most = before[0].max(before[1]) + 2;
    watched.refuse(move |made, _| made >= most);
    for (rows, columns, count) in [(4096, 4096, 2), (32, 32, 1000), (1000, 1000, 30), (100, 100, 300), (4096, 4096, 1)] {
        for windows in [false, true] {
            cross(&gpu, &watched, Chunks { rows, columns, count, windows });
        }
    }
    assert!(watched.seen().refused > 0);
}

#[test]
fn without_any_staging_each_move_has_one_clear_error_and_later_ones_arrive() {
    let Some((gpu, watched)) = Watched::open() else { return };
    let chunks = Chunks { rows: 600, columns: 600, count: 5, windows: true };
    let (from, far, place) = (chunks.numbers(), chunks.remote(&gpu), chunks.place());
    watched.refuse(|_, _| true);
    for moves in [from.iter().zip(&far), far.iter().zip(&place.1)] {
        let all = outcomes(ask(&gpu, moves));
        assert_eq!(all.len(), chunks.count);
        for outcome in all {
            let Err(Failure::Device(error)) = outcome else { panic!("{outcome:?}") };
            assert!(error.to_string().contains("no memory for a staging buffer"), "{error}");
        }
    }
    watched.refuse(|_, _| false);
    cross(&gpu, &watched, chunks);
}
