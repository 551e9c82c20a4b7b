//! What the link carries: chunks of many sizes, each way, and both ways at once.
//!
//! Owns: the shapes of what is moved, the measurement of moves. Must not know: kernels. Invariant: every element that came back is compared, and what
//! lies between windows must not have changed; data differ from move to move, so that one that did nothing is seen.
//!
//! Chunks are contiguous; or windows, rows of an array twice as wide; or all chunks of one array, side by side, handed over at once. On the way up
//! a chunk is reported when it is submitted, so a tiny download behind the last one tells when that was over; what it takes alone is not counted.

use rayon::prelude::*;
use serde_json::{Value, json};

use super::host::{Fill, Landing, Operand};
use super::lab::{Awaited, Break, Lab, per_ns, timed};
use super::teller::{Measured, Trouble};
use chunkwise::device::Data;
use chunkwise::shape::{DType, Layout};

/// Chunks on their way at once, where they are not all handed over.
const LANES: usize = 16;
/// Bytes on their way at once, unless one chunk is more.
const UNDER_WAY: usize = 256 << 20;
/// Bytes moved in one measurement, unless four chunks (of the largest, two) are more.
const MOVED: usize = 1 << 30;
/// Chunks moved in one measurement at most.
const MOST: usize = 256;
/// Moves of one chunk alone, of which the median counts.
pub const ALONE: usize = 5;

/// Arrays and the chunks that lie in them, all of `side` by `side` elements of f32.
#[derive(Debug)]
pub struct Pattern {
    side: usize,
    /// Rows and columns of an array.
    array: [usize; 2],
    /// Where chunks begin in an array: row and column.
    at: Vec<[usize; 2]>,
    arrays: usize,
    /// Chunks that are moved in one measurement.
    count: usize,
    /// What the line is called.
    what: &'static str,
}

impl Pattern {
    /// Chunks of arrays of their own, contiguous or windows.
    fn apart(side: usize, windows: bool, most: usize) -> Self {
        let bytes = 4 * side * side;
        let arrays = (UNDER_WAY / bytes).clamp(1, LANES.min(most));
        let least = if bytes >= MOVED { 2 } else { 4 };
        let count = (MOVED / bytes).clamp(least, most.max(least));
        let (wide, column) = if windows { (2 * side, side / 2) } else { (side, 0) };
        Self { side, array: [side, wide], at: vec![[0, column]], arrays, count, what: "link" }
    }

    /// `rows` by `columns` chunks that make one array together.
    fn together(side: usize, [rows, columns]: [usize; 2]) -> Self {
        let at = (0..rows).flat_map(|r| (0..columns).map(move |c| [r * side, c * side])).collect();
        Self { side, array: [rows * side, columns * side], at, arrays: 1, count: rows * columns, what: "chunks" }
    }

    /// All patterns of a level: 4 KiB to 1 GiB.
    pub fn all(level: usize) -> Vec<Self> {
        let sides = [&[32, 200][..], &[32, 128, 512, 2048], &[32, 128, 512, 2048, 4096, 8192, 16_384]][level];
        let most = if level == 0 { 8 } else { MOST };
        let apart = sides.iter().flat_map(|&n| [false, true].map(|windows| Self::apart(n, windows, most)));
        let grids: &[(usize, [usize; 2])] = match level {
            0 => &[(32, [8, 8]), (64, [4, 4])],
            1 => &[(32, [64, 64]), (128, [32, 32])],
            _ => &[(32, [64, 64]), (64, [64, 64]), (128, [32, 32]), (256, [16, 16])],
        };
        apart.chain(grids.iter().map(|&(side, grid)| Self::together(side, grid))).collect()
    }

    fn is_windows(&self) -> bool {
        self.at.len() == 1 && self.array[1] > self.side
    }

    /// Bytes of a chunk.
    pub fn chunk_bytes(&self) -> usize {
        4 * self.side * self.side
    }

    /// Rows and columns of an array.
    #[cfg(test)]
    pub fn shape(&self) -> [usize; 2] {
        self.array
    }

    /// How many arrays there are.
    #[cfg(test)]
    pub fn arrays(&self) -> usize {
        self.arrays
    }

    /// Chunks of all arrays.
    pub fn lanes(&self) -> usize {
        self.arrays * self.at.len()
    }

    /// A chunk as it lies in an array.
    fn layout(&self) -> Layout {
        Layout { dtype: DType::F32, shape: vec![self.side; 2], strides: vec![self.array[1] as isize, 1] }
    }

    /// For tests: a small one of each kind.
    #[cfg(test)]
    pub fn small() -> [Self; 3] {
        [Self::apart(8, false, 4), Self::apart(8, true, 4), Self::together(4, [2, 3])]
    }

    /// The lane on which element `at` of an array comes back; `None` if it lies between windows.
    pub fn lane(&self, array: usize, at: usize) -> Option<usize> {
        let [row, column] = [at / self.array[1], at % self.array[1]];
        let across = self.array[1] / self.side;
        let in_array = if self.at.len() > 1 { row / self.side * across + column / self.side } else { 0 };
        let first = self.at[in_array][1];
        (first..first + self.side).contains(&column).then_some(array * self.at.len() + in_array)
    }

    /// Whether there is room for it.
    fn fits(&self, lab: &Lab) -> Measured<()> {
        let array = 4 * (self.array[0] * self.array[1]) as u64;
        lab.takes(self.chunk_bytes() as u64, false)?;
        // One more to move than there are places, and a copy of what came.
        lab.has_room(array * (2 * self.arrays as u64 + 2), 2 * (self.lanes() * self.chunk_bytes()) as u64)
    }
}

impl std::fmt::Display for Pattern {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let how = match (self.what, self.is_windows()) {
            ("chunks", _) => "side by side",
            (_, true) => "windows",
            (_, false) => "contiguous",
        };
        write!(f, "link, {n} x {n}, {how}", n = self.side)
    }
}

/// What is moved, and where to.
struct Crossing<'a> {
    lab: &'a Lab,
    pattern: &'a Pattern,
    /// One more than there are landings: the data of turn 0 begin at the first, those of turn 1 at the second.
    sources: Vec<Operand>,
    landings: Vec<Landing>,
    /// Chunks of each turn; where they come back to.
    near: [Vec<Data>; 2],
    back: Vec<Data>,
    /// Two rooms on the GPU for each.
    far: [Vec<Data>; 2],
    /// A tiny chunk there, and its time.
    tiny: (Operand, Data, u64),
}

impl<'a> Crossing<'a> {
    fn new(lab: &'a Lab, pattern: &'a Pattern) -> Measured<Self> {
        let (layout, wide) = (pattern.layout(), pattern.array[1]);
        let sources: Vec<_> =
            (0..=pattern.arrays).map(|i| Operand::new(DType::F32, &pattern.array, Fill::Random, i as u64)).collect();
        let landings = (0..pattern.arrays).map(|_| Landing::new(DType::F32, &pattern.array)).collect::<Measured<Vec<_>>>()?;
        let first = |[row, column]: [usize; 2]| row * wide + column;
        let near = [0, 1].map(|turn| {
            let of = |source: &Operand| pattern.at.iter().map(|&at| source.part(first(at), &layout)).collect::<Vec<_>>();
            sources[turn..].iter().take(pattern.arrays).flat_map(of).collect()
        });
        let of = |landing: &Landing| pattern.at.iter().map(|&at| landing.part(first(at), &layout)).collect::<Vec<_>>();
        let back = landings.iter().flat_map(of).collect();
        let room = |_| lab.room(&Layout::contiguous(DType::F32, &layout.shape));
        let rooms = || (0..pattern.lanes()).map(room).collect::<Measured<Vec<_>>>();
        let far = [rooms()?, rooms()?];
        let tiny = Operand::new(DType::F32, &[16], Fill::Random, 0);
        let there = lab.upload(&tiny)?;
        let mut crossing = Self { lab, pattern, sources, landings, near, back, far, tiny: (tiny, there, 0) };
        let alone = (0..3).map(|_| timed(|| crossing.settle())).collect::<Measured<Vec<_>>>()?;
        crossing.tiny.2 = alone.into_iter().map(|((), ns)| ns).min().unwrap_or(0);
        Ok(crossing)
    }

    /// Waits until all uploads so far are over.
    fn settle(&self) -> Measured<()> {
        self.lab.download(&self.tiny.1, &self.tiny.0.layout).map(drop)
    }

    fn up(&self, turn: usize, room: usize, lane: usize) -> Awaited {
        self.lab.transfer(&self.near[turn][lane], &self.far[room][lane])
    }

    fn down(&self, room: usize, lane: usize) -> Awaited {
        self.lab.transfer(&self.far[room][lane], &self.back[lane])
    }

    /// Moves lane after lane, none before the one before it on its lane has ended: no place is written to by two. The time until all have ended.
    fn moved(&self, count: usize, ways: &[&dyn Fn(usize) -> Awaited], uploads: bool) -> Measured<u64> {
        self.lab.in_time()?;
        let mut under_way: Vec<Vec<Option<Awaited>>> =
            ways.iter().map(|_| (0..self.pattern.lanes()).map(|_| None).collect()).collect();
        let all = || {
            for lane in (0..count).map(|i| i % self.pattern.lanes()) {
                for (way, lanes) in ways.iter().zip(&mut under_way) {
                    if let Some(before) = lanes[lane].take() {
                        self.lab.ended(&before)?;
                    }
                    lanes[lane] = Some(way(lane));
                }
            }
            under_way.iter().flatten().flatten().try_for_each(|last| self.lab.ended(last).map(drop))?;
            if uploads { self.settle() } else { Ok(()) }
        };
        let ((), ns) = timed(all)?;
        Ok(if uploads { ns.saturating_sub(self.tiny.2).max(1) } else { ns })
    }

    /// Whether what came back on each lane is the data of that turn.
    fn check(&self, turn: impl Fn(usize) -> usize + Sync) -> Measured<()> {
        let spoil = self.lab.settings.broken == Some(Break::Wrong);
        for (array, landing) in self.landings.iter().enumerate() {
            let found = landing.found()?;
            let found = if spoil { found.spoiled() } else { found };
            let wanted = |at: usize| match self.pattern.lane(array, at) {
                Some(lane) => self.sources[array + turn(lane)].at(at),
                None => 0.0,
            };
            if let Some(at) = (0..found.layout.len()).into_par_iter().find_any(|&at| found.at(at) != wanted(at)) {
                let (came, wanted) = (found.at(at), wanted(at));
                return Err(Trouble::Wrong(format!("element {at} of {:?} is {came} instead of {wanted}", self.pattern.array)));
            }
        }
        Ok(())
    }

    /// The median time of one chunk alone.
    fn alone(&self, way: &dyn Fn(usize) -> Awaited, upload: bool) -> Measured<u64> {
        let mut all = (0..ALONE).map(|_| self.moved(1, &[way], upload)).collect::<Measured<Vec<_>>>()?;
        all.sort_unstable();
        Ok(all[ALONE / 2])
    }
}

/// Rates of the link for chunks of one pattern: each way, both ways at once, and one alone.
pub fn link(lab: &Lab, pattern: &Pattern) -> Measured {
    lab.in_time()?;
    pattern.fits(lab)?;
    let (crossing, lanes, count) = (Crossing::new(lab, pattern)?, pattern.lanes(), pattern.count);
    // Staging buffers are made, pages touched.
    crossing.moved(lanes, &[&|lane| crossing.up(0, 0, lane)], true)?;
    crossing.moved(lanes, &[&|lane| crossing.up(0, 1, lane)], true)?;
    crossing.moved(lanes, &[&|lane| crossing.down(0, lane)], false)?;
    let all = count.max(lanes); // so that nothing of the turn before is left
    let up = crossing.moved(all, &[&|lane| crossing.up(1, 0, lane)], true)?;
    let down = crossing.moved(all, &[&|lane| crossing.down(0, lane)], false)?;
    crossing.check(|_| 1)?;
    let both = crossing.moved(all, &[&|lane| crossing.up(0, 0, lane), &|lane| crossing.down(1, lane)], true)?;
    crossing.check(|_| 0)?;
    // What went up meanwhile.
    crossing.moved(lanes, &[&|lane| crossing.down(0, lane)], false)?;
    crossing.check(|_| 0)?;
    let one_up = crossing.alone(&|lane| crossing.up(1, 1, lane), true)?;
    let one_down = crossing.alone(&|lane| crossing.down(1, lane), false)?;
    crossing.check(|lane| usize::from(lane == 0))?;
    Ok(told(pattern, all, [up, down, both], [one_up, one_down]))
}

fn told(pattern: &Pattern, count: usize, [up, down, both]: [u64; 3], [one_up, one_down]: [u64; 2]) -> Value {
    let rate = |moves: usize, ns: u64| per_ns((moves * pattern.chunk_bytes()) as f64, ns);
    let each = |ns: u64| ns / count as u64;
    json!({
        "what": pattern.what, "bytes": pattern.chunk_bytes(), "windows": pattern.is_windows(), "count": count, "under_way": pattern.lanes(),
        "one_up_ns": one_up, "one_down_ns": one_down, "each_up_ns": each(up), "each_down_ns": each(down),
        "up_gbs": rate(count, up), "down_gbs": rate(count, down), "both_gbs": rate(2 * count, both),
    })
}
