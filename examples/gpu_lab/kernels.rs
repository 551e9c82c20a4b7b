//! What launches cost, and how fast each kernel is.
//!
//! Owns: the measurement of launches, alone and among many. Must not know: what is right. Invariant: results are checked twice: of the first launch, and of
//! ones among others, on the first and the last set of operands.
//!
//! *Serial*: one launch after the other, by the GPU's clock. *Piped*: many under way on several sets of operands, by the host's clock; where
//! that is no faster than serial for launches of few workgroups, something keeps launches from overlapping. Sets rotate over 512 MiB, so that no cache is
//! measured.

use serde_json::json;

use super::case::{Case, Routine};
use super::check::{Done, check};
use super::host::Operand;
use super::lab::{Lab, Set, per_ns, timed};
use super::teller::Measured;

/// Bytes over which sets of operands rotate.
const ROTATE: u64 = 512 << 20;
/// Launches before any counts: submissions grow, clocks rise.
const WARM: usize = 6;
/// Launches one after the other, of which the median counts.
const ALONE: usize = 9;

/// Times of launches one after the other, by the GPU's clock and by the host's, in ascending order.
fn serial(lab: &Lab, case: &Case, sets: &[Set], count: usize) -> Measured<[Vec<u64>; 2]> {
    let one = |i: usize| timed(|| lab.ended(&lab.start(case, &sets[i % sets.len()])));
    let all = (0..count).map(one).collect::<Measured<Vec<_>>>()?;
    let (mut gpu, mut wall): (Vec<u64>, Vec<u64>) = all.into_iter().unzip();
    gpu.sort_unstable();
    wall.sort_unstable();
    Ok([gpu, wall])
}

/// What a launch takes among many.
struct Piped {
    /// By the host's clock.
    each_ns: u64,
    /// By the GPU's.
    gpu_ns: u64,
    /// Of handing it over.
    handing_ns: u64,
    submissions: u64,
}

fn piped(lab: &Lab, case: &Case, sets: &[Set], count: usize) -> Measured<Piped> {
    let before = lab.device.counters().submissions;
    let mut handing = 0;
    let (clock, wall) = timed(|| {
        let start = || Ok((0..count).map(|i| lab.start(case, &sets[i % sets.len()])).collect::<Vec<_>>());
        let (all, ns) = timed(start)?;
        handing = ns;
        lab.all_ended(&all)
    })?;
    let share = |ns: u64| (ns / count as u64).max(1);
    let submissions = lab.device.counters().submissions - before;
    Ok(Piped { each_ns: share(wall), gpu_ns: share(clock), handing_ns: share(handing), submissions })
}

/// What a launch costs that has almost nothing to do: alone, and among many.
pub fn launch(lab: &Lab) -> Measured {
    lab.in_time()?;
    let case = Case::tiny();
    let (inputs, old) = case.operands();
    let sets = (0..32).map(|_| lab.set(&inputs, &old)).collect::<Measured<Vec<_>>>()?;
    lab.ended(&lab.start(&case, &sets[0]))?; // its shader is compiled
    let (alone, many) = if lab.settings.level == 0 { (20, 256) } else { (200, 8192) };
    let [gpu, wall] = serial(lab, &case, &sets, alone)?;
    let each = piped(lab, &case, &sets, many)?;
    for set in &sets {
        let found = lab.download(&set.output, &old.layout)?;
        check(&Done { case: &case, inputs: &inputs, old: &old, found: &found })?;
    }
    Ok(json!({
        "what": "launch", "alone_wall_ns": wall[alone / 2], "alone_gpu_ns": gpu[alone / 2], "many": many, "each_of_many_ns": each.each_ns,
        "each_of_many_gpu_ns": each.gpu_ns, "handing_over_ns": each.handing_ns, "submissions": each.submissions,
    }))
}

/// How many sets of operands, how many launches at most, and how long they should take together.
struct Amount {
    sets: u64,
    most: u64,
    window_ns: u64,
}

impl Amount {
    fn of(lab: &Lab, case: &Case) -> Measured<Self> {
        let (most_sets, window_ns, most) = if lab.settings.level == 0 { (2, 10_000_000, 16) } else { (16, 100_000_000, 256) };
        let each = case.bytes();
        each.iter().try_for_each(|&bytes| lab.takes(bytes, true))?;
        let bytes: u64 = each.iter().sum();
        let sets = (ROTATE / bytes.max(1)).clamp(2, most_sets);
        // What goes there, what comes back, and its copy.
        lab.has_room(3 * bytes, sets * bytes)?;
        Ok(Self { sets, most, window_ns })
    }
}

/// How fast a kernel is, by the variant of the product that the GPU was opened with.
pub fn kernel(lab: &Lab, case: &Case, variant: u8) -> Measured {
    lab.in_time()?;
    let amount = Amount::of(lab, case)?;
    let (inputs, old) = case.operands();
    let sets = (0..amount.sets).map(|_| lab.set(&inputs, &old)).collect::<Measured<Vec<_>>>()?;
    let right = |set: &Set| {
        let found = lab.download(&set.output, &old.layout)?;
        check(&Done { case, inputs: &inputs, old: &old, found: &found }).map(|error| (error, found))
    };
    let (_, first_ns) = timed(|| lab.ended(&lab.start(case, &sets[0])))?; // its shader is compiled
    let (first_error, found) = right(&sets[0])?;
    let mut work = case.work();
    if case.routine == Routine::Mandelbrot {
        work.flops = steps_done(&found, case.steps); // what it says is what it may be at most
    }
    serial(lab, case, &sets, WARM)?;
    let [gpu, wall] = serial(lab, case, &sets, ALONE)?;
    let alone = gpu[ALONE / 2].max(1);
    let count = (amount.window_ns / alone).clamp(4, amount.most) as usize;
    let each = piped(lab, case, &sets, count)?;
    // The old values again, and launches beside others.
    for set in [&sets[0], &sets[sets.len() - 1]] {
        lab.ended(&lab.transfer(&old.chunk(), &set.output))?;
    }
    lab.all_ended(&sets.iter().map(|set| lab.start(case, set)).collect::<Vec<_>>())?;
    let error = first_error.max(right(&sets[0])?.0).max(right(&sets[sets.len() - 1])?.0);
    Ok(json!({
        "what": "kernel", "kernel": case.kernel.name(), "dtype": case.dtype.to_string(), "variant": variant, "error": error,
        "shapes": case.shapes(), "params": case.params,
        "flops": work.flops, "bytes": work.bytes, "sets": sets.len(), "first_ns": first_ns,
        "serial_ns": alone, "serial_least_ns": gpu[0], "serial_wall_ns": wall[ALONE / 2],
        "piped": count, "piped_ns": each.each_ns, "piped_clock_ns": each.gpu_ns, "submissions": each.submissions,
        "serial_gflops": per_ns(work.flops, alone), "serial_gbs": per_ns(work.bytes, alone),
        "piped_gflops": per_ns(work.flops, each.each_ns), "piped_gbs": per_ns(work.bytes, each.each_ns),
    }))
}

/// Flops of the steps that escape counts tell, 8 each.
fn steps_done(counts: &Operand, iterations: u32) -> f64 {
    let most = f64::from(iterations);
    (0..counts.layout.len()).map(|i| 8.0 * (counts.at(i) + 1.0).min(most)).sum()
}
