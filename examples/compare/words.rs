//! What the numbers say, in sentences.
//!
//! Owns: the conclusions, and the complaints about results that differ. Must not know: how sentences are shown. Invariant: a sentence
//! claims nothing that its intervals do not carry: where two overlap, it says so.

use chunkwise::shape::DType;

use crate::common::rate;
use crate::measure::{Lane, State};
use crate::roofline::GpuRates;
use crate::stats::{CONFIDENCE, Crossing, SWEEPS};
use crate::study::{Row, Study};
use crate::work::{Check, Workload};

/// One sentence for each workload, in order.
pub fn conclusions(study: &Study) -> Vec<String> {
    let mut workloads: Vec<Workload> = Vec::new();
    for (workload, _) in study.groups() {
        if !workloads.contains(&workload) {
            workloads.push(workload);
        }
    }
    workloads.into_iter().map(|workload| sentence(study, workload)).collect()
}

fn sentence(study: &Study, workload: Workload) -> String {
    let gpu = study.lanes.contains(&Lane::GPU) && workload != Workload::BlockedMeanFile;
    let clause = if gpu { gpu_clause } else { cpu_clause };
    let dtypes = study.groups().into_iter().filter(|g| g.0 == workload).map(|g| g.1);
    let clauses: Vec<String> = dtypes.map(|dtype| format!("in {dtype} {}", clause(study, workload, dtype))).collect();
    format!("On this machine, {}: {}.", workload.title(), clauses.join("; "))
}

/// `the GPU pays off above 1400 x 1400 if the data stay there, never up to 4000 x 4000 if they are moved each time`.
fn gpu_clause(study: &Study, workload: Workload, dtype: DType) -> String {
    let rows = study.rows_of(workload, dtype);
    let answer = |lane| study.crossing(workload, dtype, (lane, Lane::CPU));
    let never = |c: Option<Crossing>| matches!(c, Some(Crossing::Never { .. }));
    match (answer(Lane::GPU), answer(Lane::GPU_COLD)) {
        (None, None) if rows.iter().any(|r| r.median(Lane::GPU).is_some() && r.median(Lane::CPU).is_some()) => {
            "the GPU and the CPU cannot be told apart at any size tried".to_owned()
        }
        (None, None) => format!("nothing to compare: {}", why_not(&rows, Lane::GPU)),
        (resident, cold) if never(resident) && never(cold) => {
            let largest = rows.iter().rev().find(|r| r.median(Lane::GPU).is_some() && r.median(Lane::CPU).is_some());
            let told = largest.map_or(String::new(), |row| format!(": {}", against_cpu(row)));
            format!("the GPU does not pay off at any size tried{told}")
        }
        (resident, cold) => {
            let part =
                |c: Option<Crossing>| c.map_or("with no clear winner".to_owned(), |c| from_where(study, workload, dtype, c));
            if resident == cold {
                return format!("the GPU pays off {}, whether the data stay there or are moved each time", part(resident));
            }
            let verb = if never(resident) { "the GPU " } else { "the GPU pays off " };
            format!("{verb}{} if the data stay there, {} if they are moved each time", part(resident), part(cold))
        }
    }
}

/// `at 4000 x 4000 it takes 2.0 times as long as the CPU (12 ms against 6.0 ms) with the data already there`.
fn against_cpu(row: &Row) -> String {
    let (Some(gpu), Some(cpu)) = (row.median(Lane::GPU), row.median(Lane::CPU)) else { return String::new() };
    let sizes = format!("at {n} x {n}", n = row.n);
    let Some(ratio) = row.times(Lane::GPU, Lane::CPU) else { return String::new() };
    if ratio.below(1.0).is_none() {
        return format!("{sizes} it and the CPU ({}, {}) cannot be told apart", time(gpu), time(cpu));
    }
    if alike(ratio.median) {
        return format!("{sizes} it is as fast as the CPU to within 5 % ({}, {})", time(gpu), time(cpu));
    }
    let times = format!("{} against {}", time(gpu), time(cpu));
    let moved = |lane| row.lane(lane).map(|m| m.bytes_moved);
    // Work that overwrites its input has it moved each time.
    let there = if moved(Lane::GPU) < moved(Lane::GPU_COLD) { " with the data already there" } else { "" };
    format!("{sizes} it takes {} times as long as the CPU ({times}){there}", factor(ratio.median))
}

/// Where a challenger wins, in words that follow "pays off".
fn from_where(study: &Study, workload: Workload, dtype: DType, crossing: Crossing) -> String {
    let sharp = |low: usize, high: usize| high as f64 / low as f64 <= 1.25;
    match crossing {
        Crossing::Always { from } if study.is_unclear_below(from, workload, dtype) => {
            format!("from {from} x {from} on (below, the two cannot be told apart)")
        }
        Crossing::Always { from } => format!("at every size tried (from {from} x {from})"),
        Crossing::Never { up_to } => format!("never up to {up_to} x {up_to}"),
        Crossing::Between { low, high } if sharp(low, high) => format!("above {high} x {high}"),
        Crossing::Between { low, high } => {
            let tried = study.rows_of(workload, dtype).iter().any(|r| r.n > high);
            let also = if tried { " and above" } else { "" };
            format!("from somewhere between {low} x {low} and {high} x {high}{also}")
        }
    }
}

/// `2 threads are 1.9 times as fast as one at 4000 x 4000 (9.8 ms; the bound is 7.5 ms)`.
fn cpu_clause(study: &Study, workload: Workload, dtype: DType) -> String {
    let rows = study.rows_of(workload, dtype);
    let Some(row) = rows.iter().rev().find(|r| r.median(Lane::CPU).is_some()) else {
        return format!("nothing was measured: {}", why_not(&rows, Lane::CPU));
    };
    let (cpu, threads) = (row.median(Lane::CPU).unwrap_or_default(), study.machine.threads);
    let bound = row.bound_s.map_or(String::new(), |bound| match cpu / bound {
        times if times < 1.0 => {
            format!(", less than the bound of {}, so that the peaks were measured too low", time(bound))
        }
        times => format!(", {} times the bound", factor(times)),
    });
    let at = format!("at {n} x {n}", n = row.n);
    let told = format!("({}{bound}{})", time(cpu), beside_memory(study, row, cpu));
    let Some(gain) = row.times(Lane::ONE, Lane::CPU) else {
        return format!("the CPU's {threads} threads take {} {at}{bound}{}", time(cpu), beside_memory(study, row, cpu));
    };
    match gain.below(1.0) {
        None => format!("{threads} threads and one cannot be told apart {at} {told}"),
        Some(_) if alike(gain.median) => format!("{threads} threads are as fast as one to within 5 % {at} {told}"),
        Some(true) => format!("{threads} threads take {} times as long as one {at} {told}", factor(1.0 / gain.median)),
        Some(false) => format!("{threads} threads are {} times as fast as one {at} {told}", factor(gain.median)),
    }
}

/// Whether a ratio that is surely not 1 is so near to it that nobody should care.
fn alike(ratio: f64) -> bool {
    (ratio - 1.0).abs() < 0.05
}

/// For a file: how it compares with the same numbers in memory.
fn beside_memory(study: &Study, row: &Row, cpu: f64) -> String {
    let same = |r: &&Row| r.workload == Workload::BlockedMean && (r.dtype, r.n) == (row.dtype, row.n);
    let memory = study.rows.iter().find(same).and_then(|r| r.median(Lane::CPU));
    match memory.filter(|_| row.workload == Workload::BlockedMeanFile) {
        Some(memory) => format!(", {} times as long as from memory", factor(cpu / memory)),
        None => String::new(),
    }
}

/// The first reason that rows give for having no median of a lane.
fn why_not(rows: &[&Row], lane: Lane) -> String {
    let reason = |row: &&Row| row.skipped.clone().or_else(|| row.lane(lane)?.failed.clone());
    rows.iter().find_map(reason).unwrap_or_else(|| "the run ended before".into())
}

/// Two digits: `1.9`, `12`, `140`.
pub fn factor(value: f64) -> String {
    if value >= 9.95 { format!("{value:.0}") } else { format!("{value:.1}") }
}

/// Three digits: `24.3 ms`, `850 us`, `1.02 s`.
pub fn time(seconds: f64) -> String {
    let (value, unit) = match seconds {
        s if s >= 0.9995 => (s, "s"),
        s if s >= 0.9995e-3 => (1e3 * s, "ms"),
        s => (1e6 * s, "us"),
    };
    let digits = if value < 9.995 { 2 } else { usize::from(value < 99.95) };
    format!("{value:.digits$} {unit}")
}

/// `+3 %`.
pub fn percent(share: f64) -> String {
    format!("{:+.0} %", 100.0 * share)
}

/// Every lane of every row whose result was too far from the reference.
pub fn differences(study: &Study) -> Vec<String> {
    let mut all = Vec::new();
    for row in &study.rows {
        let own = row.reference.map(|check| ("the CPU itself".to_owned(), check));
        let lanes = row.lanes.iter().filter_map(|m| Some((study.lane_name(m.lane), m.check?)));
        for (who, Check { difference, tolerance, measure }) in own.into_iter().chain(lanes).filter(|(_, check)| !check.passes())
        {
            let name = row.name();
            all.push(format!("{name}, {who}: {measure} is {difference:.2e}, and {tolerance:.2e} is allowed"));
        }
    }
    all
}

/// What automatic placement may take above the better of CPU alone and GPU alone: this share, or these seconds, whichever is more.
const PROMISED: (f64, f64) = (0.05, 1e-3);

/// Where automatic placement stands, over all rows and both states.
pub fn auto_sentence(study: &Study) -> Option<String> {
    let excess = |row: &Row, state| {
        let share = row.auto_over_best(state)?;
        let auto = row.median(if state == State::Cold { Lane::AUTO_COLD } else { Lane::AUTO })?;
        let over_s = auto - auto / (1.0 + share);
        Some((share, share <= PROMISED.0 || over_s <= PROMISED.1, row.n, row.workload, row.dtype, state))
    };
    // Of a file there is no choice to make.
    let rows = study.rows.iter().filter(|r| r.workload != Workload::BlockedMeanFile);
    let all = rows.flat_map(|r| [excess(r, State::Cold), excess(r, State::Resident)]).flatten();
    let all: Vec<_> = all.collect();
    let kept = all.iter().filter(|e| e.1).count();
    let &(share, _, n, workload, dtype, state) = all.iter().max_by(|a, b| a.0.total_cmp(&b.0))?;
    let state = if state == State::Cold { "cold" } else { "resident" };
    Some(format!(
        "Automatic placement is within 5 % or 1 ms of the better of CPU alone and GPU alone in {kept} of {} cases; at worst it takes \
         {} ({} in {dtype} at {n} x {n}, {state}).",
        all.len(),
        percent(share),
        workload.name()
    ))
}

/// The machine and the method, in a few lines above the table.
pub fn head(study: &Study) -> Vec<String> {
    let m = &study.machine;
    let c = &m.calibration;
    let rates = |flops: f64| rate(flops, "flop/s");
    let mut lines = vec![
        format!("compare   {}, {} threads, {}", m.cpu, m.threads, m.simd),
        format!(
            "  measured: multiply-add f32 {}, f64 {}; memory reads {}",
            rates(c.f32_flops_all),
            rates(c.f64_flops_all),
            rate(c.read_all, "B/s")
        ),
    ];
    lines.extend(m.gpus.iter().map(|gpu| format!("  {gpu}")));
    lines.extend(m.gpu_rates.iter().map(|g| format!("  measured: {}", gpu_rates(g))));
    if !m.has_gpu() {
        lines.push(format!("  gpu    none took part: {}", no_gpu(study)));
    }
    let lanes = || study.rows.iter().flat_map(|r| &r.lanes).filter(|l| !l.samples.is_empty());
    lines.push(format!(
        "  {}, each with {} in {} after warm-up, in shuffled order; {:.0} s in all",
        count(study.rows.len(), study.rows.len(), "row"),
        counts(lanes().map(|l| l.samples.len()), "round"),
        counts(lanes().map(|l| l.sweeps.len()), "sweep"),
        study.total_s
    ));
    lines.push(format!("  times are medians; ± is half {}", interval(study)));
    lines
}

/// `multiply-add f32 9.00 Tflop/s, f64 none; memory reads 300 GB/s; up 12.0 GB/s, down 11.0 GB/s`.
pub fn gpu_rates(gpu: &GpuRates) -> String {
    let (flops, bytes) = (|v| rate(v, "flop/s"), |v| rate(v, "B/s"));
    let f64 = if gpu.peaks.f64_flops > 0.0 { flops(gpu.peaks.f64_flops) } else { "none".into() };
    let (f32, memory) = (flops(gpu.peaks.f32_flops), bytes(gpu.peaks.bytes_per_s));
    format!("multiply-add f32 {f32}, f64 {f64}; memory reads {memory}; up {}, down {}", bytes(gpu.up), bytes(gpu.down))
}

/// `the interval that holds the median with 95 % confidence`.
pub fn interval(study: &Study) -> String {
    let (percent, more) = confidence(study);
    let fewer = if more.is_empty() { String::new() } else { format!("{more} (below {SWEEPS} sweeps: the range)") };
    format!("the interval that holds the median with {percent} confidence{fewer}")
}

/// The confidence of all intervals: `95 %`, or `75 %` and ` or more`.
pub fn confidence(study: &Study) -> (String, &'static str) {
    let least = study.confidence();
    let (share, more) = if least < CONFIDENCE { (least, " or more") } else { (CONFIDENCE, "") };
    (format!("{:.0} %", 100.0 * share), more)
}

/// `6 sweeps`, `2 to 6 sweeps`.
fn counts(all: impl Iterator<Item = usize> + Clone, what: &str) -> String {
    count(all.clone().min().unwrap_or(0), all.max().unwrap_or(0), what)
}

/// `1 row`, `2 to 6 rows`.
pub fn count(least: usize, most: usize, what: &str) -> String {
    let s = if most == 1 { "" } else { "s" };
    if least == most { format!("{most} {what}{s}") } else { format!("{least} to {most} {what}{s}") }
}

/// Why no GPU took part.
pub fn no_gpu(study: &Study) -> &str {
    study.machine.no_gpu.as_deref().unwrap_or("none was found")
}

/// What a reader must know before believing the numbers.
pub fn warnings(study: &Study) -> Vec<String> {
    let mut all = Vec::new();
    if study.interrupted {
        all.push("INTERRUPTED: rows that are not here were not measured.".to_owned());
    }
    if study.machine.profile == "dev" {
        all.push("Built without --release: these times say nothing about the library.".to_owned());
    }
    let cores = study.machine.cores;
    if let Some(others) = study.machine.others_busy_cores.filter(|others| *others > 0.05 * cores as f64) {
        all.push(format!("Other programs kept {others:.1} of {cores} cores busy meanwhile: times are too long, and threads seem to gain less."));
    }
    let few = |row: &&Row| row.lanes.iter().any(|l| l.summary.is_some_and(|s| s.confidence < CONFIDENCE));
    let few = study.rows.iter().filter(few).count();
    if few > 0 {
        let asked = study.settings.sweeps < SWEEPS;
        let more = if asked { format!("--repeats {SWEEPS} or more") } else { "a larger --budget".to_owned() };
        let rows = count(study.rows.len(), study.rows.len(), "row");
        all.push(format!(
            "{few} of {rows} {} fewer than {SWEEPS} sweeps, so that intervals hold with as little as {:.0} %: {more} gives them more.",
            if few == 1 { "has" } else { "have" },
            100.0 * study.confidence()
        ));
    }
    for row in &study.rows {
        all.extend(row.cut_short.iter().map(|why| format!("{}: later sweeps are missing: {why}", row.name())));
    }
    all.extend(study.differences.iter().map(|d| format!("WRONG RESULT: {d}")));
    all
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn numbers_have_the_digits_that_they_are_worth() {
        let times = [123.4, 1.0204, 0.99951, 0.0243, 0.009_13, 0.000_999_6, 0.000_222, 0.000_000_34].map(time);
        assert_eq!(times, ["123 s", "1.02 s", "1.00 s", "24.3 ms", "9.13 ms", "1.00 ms", "222 us", "0.34 us"]);
        assert_eq!([0.54, 1.96, 9.96, 139.7].map(factor), ["0.5", "2.0", "10", "140"]);
        assert_eq!([0.031, -0.2].map(percent), ["+3 %", "-20 %"]);
    }
}
