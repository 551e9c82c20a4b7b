//! The share of a link's known rate that moves reach: chunks of 4 KiB to 1 GiB, contiguous and windows of an array, each way and both ways at once.
//!
//! Owns: a software GPU behind a [`PacedLink`]; a line a case. Must not know: how chunks cross. Invariant: the time is from the first move asked for to the end of
//! the last, on the link and in host memory, and what came back is what was sent. The link is slower than this machine copies, so that what is missing from 1 was
//! waited, not copied. Run a part with `cargo bench --bench link -- 4K`, at another rate with `cargo bench --bench link -- 2.5`(GB/s).
#![allow(missing_docs)]

use std::sync::Arc;
use std::sync::mpsc::channel;
use std::time::{Duration, Instant};

use chunkwise::Bytes;
use chunkwise::device::gpu::{Gpu, PacedLink, known};
use chunkwise::device::{Data, Device, HostBuffer, LinkSpec, Memory, Move, Remote, Window, take_result};
use chunkwise::id::SpaceId;
use chunkwise::shape::{DType, Layout};

/// Bytes of the chunks of a case, if one is no larger.
const ALL: u64 = 256 << 20;
/// Chunks of a case at most.
const MOST: u64 = 10_000;
const STAGING: u64 = 128 << 20;
const LATENCY_NS: u64 = 20_000;
const GB_PER_S: f64 = 0.5;

/// Chunks in host memory, of squares side by side.
struct Chunks {
    side: usize,
    count: usize,
    /// Squares in a row of the array they are windows of; 0 if each is contiguous.
    across: usize,
}

impl Chunks {
    fn elements(&self) -> usize {
        let rows = self.count.next_multiple_of(self.across.max(1));
        rows * self.side * self.side
    }

    /// Where a chunk begins, and its layout.
    fn place(&self, n: usize) -> (usize, Layout) {
        let (side, across) = (self.side, self.across);
        if across == 0 {
            return (n * side * side, Layout::contiguous(DType::U32, &[side, side]));
        }
        let first = n / across * side * side * across + n % across * side;
        (first, Layout { dtype: DType::U32, shape: vec![side, side], strides: vec![(side * across) as isize, 1] })
    }

    fn windows(&self, of: &Arc<HostBuffer>) -> Vec<Data> {
        let window = |n| {
            let (first, layout) = self.place(n);
            // SAFETY: chunks are apart from one another, and nobody else has the buffer while moves are under way.
            #[allow(unsafe_code)]
            Data::Host(unsafe { Window::lent(of.clone(), first, layout) })
        };
        (0..self.count).map(window).collect()
    }
}

/// Chunks on the device.
fn remote(gpu: &Gpu, chunks: &Chunks) -> Vec<Data> {
    let layout = Arc::new(Layout::contiguous(DType::U32, &[chunks.side, chunks.side]));
    let one = |_| match gpu.allocate(layout.bytes()).expect("its memory is the host's") {
        Memory::Remote(memory) => Data::Remote(Remote::whole(memory, layout.clone())),
        Memory::Host(_) => panic!("a GPU has memory of its own"),
    };
    (0..chunks.count).map(one).collect()
}

/// Carries out moves: the time from the first to the end of the last, in s.
fn timed(gpu: &Gpu, link: &PacedLink, moves: impl Iterator<Item = (Data, Data, bool)>) -> f64 {
    link.restart();
    let (sender, reports) = channel();
    let (mut count, mut up_bytes) = (0, 0);
    let began = Instant::now();
    for (from, to, upload) in moves {
        if let (true, Data::Remote(to)) = (upload, &to) {
            up_bytes += to.layout.bytes();
        }
        let sender = sender.clone();
        count += 1;
        gpu.transfer(Move { from, to, upload, done: Box::new(move |report| drop(sender.send(report.outcome))) });
    }
    (0..count).for_each(|_| reports.recv().expect("each is reported").expect("no move fails"));
    // Uploads are reported when they are in staging.
    while link.carried()[0].bytes < up_bytes {
        std::thread::sleep(Duration::from_micros(50));
    }
    std::thread::sleep(link.left());
    began.elapsed().as_secs_f64()
}

/// A case in all directions.
fn case(gpu: &Gpu, link: &PacedLink, chunks: &Chunks) {
    let specs = link.specs();
    let bytes = (chunks.count * chunks.side * chunks.side * 4) as u64;
    let numbers: Vec<u32> = (0..chunks.elements()).map(|i| (i as u32).wrapping_mul(2_654_435_761)).collect();
    let from = chunks.windows(&HostBuffer::caller(&Arc::new(numbers)));
    let place = HostBuffer::result::<u32>(chunks.elements()).expect("memory");
    let to = chunks.windows(&place);
    let (far, further) = (remote(gpu, chunks), remote(gpu, chunks));
    let up = |far: &[Data]| from.iter().cloned().zip(far.to_vec()).map(|(f, t)| (f, t, true)).collect::<Vec<_>>();
    let down = |far: &[Data]| far.iter().cloned().zip(to.clone()).map(|(f, t)| (f, t, false)).collect::<Vec<_>>();
    let ideal = specs.map(|link| bytes as f64 / link.bytes_per_s);
    let told = |what: &str, took: [f64; 2], ideal: f64| {
        let [u, d] = link.carried();
        let idle = [u, d].map(|c| c.idle_ns as f64 / 1e6);
        let shape = if chunks.across == 0 { "contiguous" } else { "windows" };
        println!(
            "{:>9} x {:<5} {shape:<10} {what:<5} {:.3} first, {:.3} again; {:>5} up, {:>5} down; idle {:.1}, {:.1} ms",
            Bytes((chunks.side * chunks.side * 4) as u64).to_string(),
            chunks.count,
            ideal / took[0],
            ideal / took[1],
            u.submissions,
            d.submissions,
            idle[0],
            idle[1],
        );
    };
    let took = [0; 2].map(|_| timed(gpu, link, up(&far).into_iter()));
    told("up", took, ideal[0]);
    let took = [0; 2].map(|_| timed(gpu, link, down(&far).into_iter()));
    told("down", took, ideal[1]);
    let both = || up(&further).into_iter().zip(down(&far)).flat_map(|(u, d)| [u, d]);
    let took = [0; 2].map(|_| timed(gpu, link, both()));
    told("both", took, ideal[0].max(ideal[1]));
    drop((from, to));
    gpu.rest(0);
    let back = take_result::<u32>(place).expect("nobody has it any more");
    let right = |i: usize| back.vec[back.start + i] == (i as u32).wrapping_mul(2_654_435_761);
    for n in 0..chunks.count {
        let (first, layout) = chunks.place(n);
        let row = layout.strides[0] as usize;
        let all = (0..chunks.side).all(|r| (0..chunks.side).all(|c| right(first + r * row + c)));
        assert!(all, "chunk {n} came back as another");
    }
}

fn main() {
    let (flags, mut args): (Vec<String>, Vec<String>) = std::env::args().skip(1).partition(|arg| arg.starts_with("--"));
    if flags.iter().any(|flag| flag == "--test") {
        args = vec!["64K".into()]; // whether it runs at all
    }
    let rate = args.iter().find_map(|arg| arg.parse::<f64>().ok()).unwrap_or(GB_PER_S);
    let wanted = |name: &str| args.iter().all(|arg| arg.parse::<f64>().is_ok()) || args.iter().any(|arg| arg == name);
    let adapters = known(true);
    let Some(adapter) = adapters.iter().find(|adapter| adapter.unusable.is_none()) else {
        return println!("no adapter: {adapters:?}");
    };
    let spec = LinkSpec { latency_ns: LATENCY_NS, bytes_per_s: rate * 1e9 };
    println!("{adapter} behind a link of {rate} GB/s each way, {} us a submission", LATENCY_NS / 1000);
    let link = PacedLink::new([spec, spec]);
    let gpu = Gpu::open_paced(adapter, "gpu0", SpaceId(1), STAGING, &link).expect("it opens");
    let names = ["4K", "16K", "64K", "256K", "1M", "4M", "16M", "64M", "256M", "1G"];
    for (i, _) in names.iter().enumerate().filter(|(_, name)| wanted(name)) {
        let bytes = 4096u64 << (2 * i);
        if bytes > adapter.limits.buffer_bytes {
            println!("{} is more than a buffer holds here", Bytes(bytes));
            continue;
        }
        let (side, count) = (32 << i, (ALL / bytes).clamp(1, MOST) as usize);
        for across in [0, count.clamp(2, 8)] {
            case(&gpu, &link, &Chunks { side, count, across });
        }
    }
}
