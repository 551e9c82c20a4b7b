//! The comparison as one Markdown page, to be pasted where others will doubt it.
//!
//! Owns: the page. Must not know: how anything is measured. Invariant: it says all that the JSON says, save the single samples.

use chunkwise::Bytes;

use crate::common::{Table, rate, seconds};
use crate::compare::study::Study;
use crate::compare::{method, tables, words};

/// The page; `pictures` are the stems of the PNG files beside it.
pub fn markdown(study: &Study, pictures: &[&str]) -> String {
    let mut page =
        format!("# Chunkwise: {}\n\n", if study.machine.has_gpu() { "CPU against GPU" } else { "what the CPU does" });
    let warnings = words::warnings(study);
    warnings.iter().for_each(|w| page += &format!("> **{w}**\n>\n"));
    page += if warnings.is_empty() { "" } else { "\n" };
    page += "On this machine:\n\n";
    study.conclusions.iter().for_each(|c| page += &format!("- {c}\n"));
    page += "\n## Times\n\n";
    let (table, notes) = tables::results(study);
    page += &table.markdown();
    page += &format!("\nMedians; ± is half {}. ", words::interval(study));
    page += "Bold: what loses against no other of its row. One column v another: the ratio of their medians, where the ratios in each \
             round decide (see Statistics below).";
    page += if study.machine.has_gpu() { " Of two values the first is cold, the second resident.\n" } else { "\n" };
    notes.iter().enumerate().for_each(|(i, note)| page += &format!("\n[{}] {note}", i + 1));
    page += if notes.is_empty() { "\n" } else { "\n\n" };
    pictures.iter().for_each(|name| page += &format!("![{} against size]({name}.png)\n\n", name.replace('_', " ")));
    page += &crossings(study);
    page += &machine(study);
    page += &method::section(study);
    page
}

fn crossings(study: &Study) -> String {
    if study.crossings.is_empty() {
        return String::new();
    }
    let heading = ["workload", "dtype", "challenger", "against", "answer", "found by"].map(String::from).to_vec();
    let row = |c: &crate::compare::study::Crossed| {
        let how = if c.method == "rows" {
            "the table's sizes".to_owned()
        } else {
            format!("bisection, runs at {}", words::count(c.runs.len(), c.runs.len(), "size"))
        };
        let (a, b) = (study.lane_name(c.challenger), study.lane_name(c.against));
        [c.workload.name().to_owned(), c.dtype.to_string(), a, b, c.crossing.long(), how].map(Into::into).to_vec()
    };
    let table = Table { heading, names: 6, rows: study.crossings.iter().map(row).collect() };
    format!(
        "## Crossovers\n\n{}\nWho wins at one size: see Statistics below. A crossover supposes that who is faster changes at most once as sizes \
         grow; where it changes more often, the last change (table's sizes) or one of them (bisection) is told. A bisection that the table's \
         sizes deny is not believed.\n\n",
        table.markdown()
    )
}

fn machine(study: &Study) -> String {
    let (m, c) = (&study.machine, &study.machine.calibration);
    let mut facts: Vec<(&str, String)> = vec![
        ("processor", format!("{}, {} threads used of {} cores, {}", m.cpu, m.threads, m.cores, m.simd)),
        (
            "multiply-add peak, measured",
            format!(
                "f32 {}, f64 {} (one thread {}, {})",
                rate(c.f32_flops_all, "flop/s"),
                rate(c.f64_flops_all, "flop/s"),
                rate(c.f32_flops_one, "flop/s"),
                rate(c.f64_flops_one, "flop/s")
            ),
        ),
        (
            "memory, measured",
            format!(
                "reads {} (one thread {}), copies {}, over {}",
                rate(c.read_all, "B/s"),
                rate(c.read_one, "B/s"),
                rate(c.copy_all, "B/s"),
                Bytes(c.buffer_bytes)
            ),
        ),
        ("memory available, limit of a run", format!("{}, {}", Bytes(m.available_memory_bytes), Bytes(m.memory_limit_bytes))),
    ];
    facts.extend(m.gpus.iter().map(|gpu| ("GPU", gpu.clone())));
    facts.extend(m.gpu_rates.iter().map(|g| ("GPU, measured", words::gpu_rates(g))));
    facts.extend(m.adapters.iter().map(|a| {
        let use_ = a.unusable.as_ref().map_or(String::new(), |why| format!("; not used: {why}"));
        (
            "adapter",
            format!("{}, {}, {}, {}, {} f64{use_}", a.name, a.kind, a.backend, a.driver, if a.f64 { "has" } else { "no" }),
        )
    }));
    facts.push(("system", format!("{}{}", m.system, m.kernel.as_ref().map_or(String::new(), |k| format!(", kernel {k}")))));
    facts.extend(m.others_busy_cores.map(|cores| ("kept busy by others", format!("{cores:.2} cores, on average"))));
    facts.push(("chunkwise", format!("{}, {} profile", m.chunkwise, m.profile)));
    facts.push(("when, how long", format!("{}, {}", study.date, seconds(study.total_s))));
    let rows = facts.into_iter().map(|(name, fact)| vec![name.into(), fact.into()]).collect();
    let table = Table { heading: vec!["machine".into(), String::new()], names: 2, rows };
    format!("## Machine\n\n{}\nCommand line: `{}`\n\n", table.markdown(), study.command.join(" "))
}
