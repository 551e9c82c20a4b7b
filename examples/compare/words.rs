//! What the numbers say, in sentences.
//!
//! Owns: the conclusions, and the complaints about results that differ. Must not know: how sentences are shown. Invariant: a sentence
//! of two lanes is made of their [`Verdict`] or [`Crossing`], as table and chart are: none can say what another denies.

use chunkwise::shape::DType;

use crate::common::rate;
use crate::compare::duel::{Crossing, LEVEL, SURE, Verdict, factor};
use crate::compare::measure::{Lane, State};
use crate::compare::roofline::GpuRates;
use crate::compare::stats::{CONFIDENCE, SWEEPS, Summary};
use crate::compare::study::{Row, Study};
use crate::compare::work::{Check, Workload};

/// What the numbers say: lines of at most 80 characters, a fact in each, by workload and precision.
pub fn conclusions(study: &Study) -> Vec<String> {
    let gpu = |workload| study.lanes.contains(&Lane::GPU) && workload != Workload::BlockedMeanFile;
    let of = |(workload, dtype): (Workload, DType)| {
        let facts = if gpu(workload) { gpu_facts(study, workload, dtype) } else { cpu_facts(study, workload, dtype) };
        let name = workload.name();
        facts.into_iter().map(move |(state, fact)| format!("{name} {dtype}{state}: {fact}"))
    };
    study.groups().into_iter().flat_map(of).chain(auto_facts(study)).collect()
}

/// A state (`, cold`), and what is said of it.
type Fact = (&'static str, String);

/// Where the GPU wins, cold and resident; by how much it loses where it never does.
fn gpu_facts(study: &Study, workload: Workload, dtype: DType) -> Vec<Fact> {
    let duels = [(", cold", Lane::GPU_COLD), (", resident", Lane::GPU)];
    let answers = duels.map(|(state, lane)| (state, lane, study.crossing(workload, dtype, (lane, Lane::CPU))));
    let measured = || study.rows_of(workload, dtype).into_iter().filter_map(|row| row.lane(Lane::CPU)?.summary);
    let are_few = measured().all(|summary| summary.confidence < SURE);
    let told = |answer: Option<Crossing>| match answer {
        None => "nothing to compare; the table says why".to_owned(),
        Some(Crossing::Unclear { .. }) if are_few => "too few sweeps to tell whether the GPU wins".to_owned(),
        Some(a) => format!("the GPU {}", a.long()),
    };
    let mut facts: Vec<Fact> = match answers {
        [(.., cold), (.., resident)] if cold == resident => vec![("", told(cold))],
        _ => answers.iter().map(|&(state, _, answer)| (state, told(answer))).collect(),
    };
    for (state, lane, _) in answers.into_iter().filter(|a| matches!(a.2, Some(Crossing::Never { .. }))) {
        let verdicts = study.verdicts(workload, dtype, (lane, Lane::CPU));
        if let Some(&(n, Verdict::Loses { factor: by })) = verdicts.last() {
            facts.push((state, format!("the GPU takes {} times the CPU's time at {n}²", factor(by))));
        }
    }
    facts
}

/// What all threads are against one, against the bound, and from a file against memory, at the largest size.
fn cpu_facts(study: &Study, workload: Workload, dtype: DType) -> Vec<Fact> {
    let rows = study.rows_of(workload, dtype);
    let largest = rows.iter().rev().find_map(|row| Some((row, row.median(Lane::CPU)?)));
    let Some((row, cpu)) = largest else { return vec![("", "nothing was measured; the table says why".into())] };
    let (n, threads) = (row.n, study.machine.threads);
    let mut facts = vec![match row.verdict(Lane::CPU, Lane::ONE) {
        None => format!("{} at {n}²", time(cpu)),
        Some(Verdict::Wins { factor: by }) => format!("{threads} threads are {} times as fast as one at {n}²", factor(by)),
        Some(Verdict::Loses { factor: by }) => format!("{threads} threads take {} times as long as one at {n}²", factor(by)),
        Some(Verdict::Level) => format!("{threads} threads are as fast as one to within 5 % at {n}²"),
        Some(Verdict::Unclear) => format!("{threads} threads and one cannot be told apart at {n}²"),
    }];
    facts.extend(row.bound_s.map(|bound| match cpu / bound {
        below if below < 1.0 => format!("below the bound at {n}²: the peaks were measured too low"),
        above => format!("{} times the bound at {n}²", factor(above)),
    }));
    let same = |r: &&Row| r.workload == Workload::BlockedMean && (r.dtype, r.n) == (dtype, n);
    let summary = |row: &Row| row.lane(Lane::CPU)?.summary;
    let memory = study.rows.iter().find(same).filter(|_| workload == Workload::BlockedMeanFile).and_then(summary);
    facts.extend(memory.zip(summary(row)).map(|(memory, file)| beside_memory(&file, &memory, n)));
    facts.into_iter().map(|fact| ("", fact)).collect()
}

/// From a file against from memory: two rows, which have no rounds in common, so that only intervals apart tell anything.
fn beside_memory(file: &Summary, memory: &Summary, n: usize) -> String {
    let apart = file.low > memory.high || memory.low > file.high;
    let ratio = file.median / memory.median;
    match ratio {
        _ if !apart || file.confidence.min(memory.confidence) < SURE => format!("file and memory cannot be told apart at {n}²"),
        near if near < LEVEL && near > 1.0 / LEVEL => format!("as long as from memory to within 5 % at {n}²"),
        other => format!("{} times as long as from memory at {n}²", factor(other)),
    }
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
    format!("{:+.0} %", (100.0 * share).round() + 0.0) // -0 becomes 0
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
fn auto_facts(study: &Study) -> Vec<String> {
    let excess = |row: &Row, state| {
        let share = row.auto_over_best(state)?;
        let auto = row.median(if state == State::Cold { Lane::AUTO_COLD } else { Lane::AUTO })?;
        let over_s = auto - auto / (1.0 + share);
        // In units of what is promised: more than 1 breaks it.
        let beyond = (share / PROMISED.0).min(over_s / PROMISED.1);
        let state = if state == State::Cold { "cold" } else { "resident" };
        let case = format!("{} {} {}², {state}", row.workload.name(), row.dtype, row.n);
        Some((beyond, format!("{}, {} ({case})", percent(share), time(over_s.max(0.0)))))
    };
    // Of a file there is no choice to make.
    let rows = study.rows.iter().filter(|r| r.workload != Workload::BlockedMeanFile);
    let all: Vec<_> = rows.flat_map(|r| [excess(r, State::Cold), excess(r, State::Resident)]).flatten().collect();
    let Some((_, worst)) = all.iter().max_by(|a, b| a.0.total_cmp(&b.0)) else { return Vec::new() };
    let kept = all.iter().filter(|e| e.0 <= 1.0).count();
    vec![
        format!("auto: within 5 % or 1 ms of the better device in {kept} of {} cases", all.len()),
        format!("auto: at worst {worst}"),
    ]
}

/// What a bound is, after that word.
pub const BOUND: &str = "the least time that the measured peaks allow (operations or bytes)";

/// The machine and the method, in a few lines above the table.
pub fn head(study: &Study) -> Vec<String> {
    let m = &study.machine;
    let c = &m.calibration;
    let rates = |flops: f64| rate(flops, "flop/s");
    let mut lines = vec![
        format!("compare   {}, {} threads, {}", m.cpu, m.threads, m.simd),
        format!(
            "  measured: multiply-add f32 {}, f64 {}; reads {}",
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
    lines.push(format!("  bound: {BOUND}"));
    if study.lanes.contains(&Lane::GPU) {
        lines.push(
            "  cold: the input is moved to the GPU in each run; resident: it is there; where neither is said: both".into(),
        );
    }
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
        assert_eq!([0.031, -0.2, -0.001].map(percent), ["+3 %", "-20 %", "+0 %"]);
    }
}
