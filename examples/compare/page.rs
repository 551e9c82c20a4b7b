//! The comparison as one Markdown page, to be pasted where others will doubt it.
//!
//! Owns: the page, the method section. Must not know: how anything is measured. Invariant: each statement of the method holds for every
//! row of the page; `tests/compare.rs` says which test holds it.

use std::fmt::Write;

use chunkwise::Bytes;

use crate::common::{Table, rate, seconds};
use crate::measure::{Lane, State, WARM_UP};
use crate::stats::{Crossing, NARROW};
use crate::study::Study;
use crate::work::ITERATIONS;
use crate::{tables, words};

/// The page; `pictures` are the stems of the PNG files beside it.
pub fn markdown(study: &Study, pictures: &[&str]) -> String {
    let mut page =
        format!("# Chunkwise: {}\n\n", if study.machine.has_gpu() { "CPU against GPU" } else { "what the CPU does" });
    let warnings = words::warnings(study);
    warnings.iter().for_each(|w| page += &format!("> **{w}**\n>\n"));
    page += if warnings.is_empty() { "" } else { "\n" };
    study.conclusions.iter().chain(&words::auto_sentence(study)).for_each(|c| page += &format!("- {c}\n"));
    page += "\n## Times\n\n";
    let (table, notes) = tables::results(study);
    page += &table.markdown();
    page += "\nMedians; ± is half the interval that holds the true median with 95 % confidence (below 6 rounds: half the range). \
             Bold: the least of its row.\n";
    notes.iter().enumerate().for_each(|(i, note)| page += &format!("\n[{}] {note}", i + 1));
    page += if notes.is_empty() { "\n" } else { "\n\n" };
    pictures.iter().for_each(|name| page += &format!("![{} against size]({name}.png)\n\n", name.replace('_', " ")));
    page += &crossings(study);
    page += &machine(study);
    page += &method(study);
    page
}

fn crossings(study: &Study) -> String {
    if study.crossings.is_empty() {
        return String::new();
    }
    let heading = ["workload", "dtype", "challenger", "against", "faster from n", "found by"].map(String::from).to_vec();
    let threads = study.machine.threads;
    let row = |c: &crate::study::Crossed| {
        let answer = match c.crossing {
            Crossing::Always { from } => format!("every size tried (from {from})"),
            Crossing::Never { up_to } => format!("never (up to {up_to})"),
            Crossing::Between { low, high } => format!("between {low} and {high}"),
        };
        let how =
            if c.method == "rows" { "the table's sizes".to_owned() } else { format!("bisection, {} sizes run", c.runs.len()) };
        let (a, b) = (c.challenger.name(threads), c.against.name(threads));
        [c.workload.name().to_owned(), c.dtype.to_string(), a, b, answer, how].map(Into::into).to_vec()
    };
    let table = Table { heading, names: 6, rows: study.crossings.iter().map(row).collect() };
    format!(
        "## Crossovers\n\n{}\nA crossover supposes that who is faster changes at most once as sizes grow; where it changes more often, \
         the last change (table's sizes) or one of them (bisection) is told.\n\n",
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
    facts.extend(m.adapters.iter().map(|a| {
        let use_ = a.unusable.as_ref().map_or(String::new(), |why| format!("; not used: {why}"));
        (
            "adapter",
            format!("{}, {}, {}, {}, {} f64{use_}", a.name, a.kind, a.backend, a.driver, if a.f64 { "has" } else { "no" }),
        )
    }));
    facts.push(("system", format!("{}{}", m.system, m.kernel.as_ref().map_or(String::new(), |k| format!(", kernel {k}")))));
    facts.extend(m.load_at_start.map(|load| ("load when it began", format!("{load:.2}"))));
    facts.push(("chunkwise", format!("{}, {} profile", m.chunkwise, m.profile)));
    facts.push(("when, how long", format!("{}, {}", study.date, seconds(study.total_s))));
    let rows = facts.into_iter().map(|(name, fact)| vec![name.into(), fact.into()]).collect();
    let table = Table { heading: vec!["machine".into(), String::new()], names: 2, rows };
    format!("## Machine\n\n{}\nCommand line: `{}`\n\n", table.markdown(), study.command.join(" "))
}

/// What a reader who wants to catch the benchmark cheating will ask.
fn method(study: &Study) -> String {
    let gpu = study.lanes.iter().any(|l| l.state == State::Cold);
    let mut text = String::from("## Method\n\n");
    let mut say = |what: &str, answer: &str| {
        let _ = writeln!(text, "- **{what}** {answer}"); // writing to a string cannot fail
    };
    say(
        "What is timed?",
        "One call, `array.run()`: from the request to the result as an array in host memory. Planning, scheduling, \
         allocation of the result and of all scratch, transfers both ways, and waiting are inside, on every device alike.",
    );
    say(
        "Same work?",
        "Every column runs the same expression on the same input bytes, cut into the same chunks (chunks depend on shape \
         and dtype, never on the machine); only where tasks may run differs. f64 is never computed in f32.",
    );
    say(
        "Dead code?",
        "Each timed run hands out its whole result, and each result is compared with the CPU's reference outside the clock, \
         warm-up included: bit for bit where no GPU took part, else within the tolerance that compare.json states beside the difference. \
         A wrong result makes the program fail.",
    );
    say(
        "Warm-up?",
        &format!(
            "The reference run and up to {WARM_UP} rounds are discarded (compare.json keeps their times as `warm_up`): \
         threads are started, caches warm, shaders compiled, predictions learned, for every column alike."
        ),
    );
    say(
        "Order?",
        &format!(
            "In each round every column runs once, in an order shuffled anew (seed {}), so that drift of clocks and \
         temperature hits all alike. All columns of a row have the same number of rounds, unless one failed.",
            study.settings.seed
        ),
    );
    say(
        "When does it stop?",
        &format!(
            "When every column's interval is narrower than {:.0} % of its median, after {} rounds, or when the row's \
         share of {} is spent. No sample is thrown away; all are in compare.json.",
            100.0 * NARROW,
            study.settings.repeats,
            seconds(study.settings.budget_s)
        ),
    );
    say(
        "Statistics?",
        "Median, and a distribution-free interval from order statistics (binomial, 95 %). Below 6 rounds no interval reaches \
         95 %; the range stands in, and compare.json states the confidence that it has. Intervals that overlap are called that.",
    );
    say(
        "Threads?",
        &format!(
            "The CPU column has {} threads, of {} cores that this process may use.",
            study.machine.threads, study.machine.cores
        ),
    );
    say(
        "First touch?",
        "The input was written once, by all threads, before any clock ran. The result is new memory in every run, on every \
         device: its pages are touched first inside the clock.",
    );
    if gpu {
        say(
            "Cold, resident?",
            "Cold: a new session that has run the workload once at a tiny size (shaders compiled, threads started); input in \
             host memory, nothing of it on the device. Resident: the same session and input as the run before; copies that the session kept on \
             the device may be used. The result is brought back to host memory in both. The CPU's input is in host memory either way: one \
             column serves as both.",
        );
        say(
            "The GPU's own part?",
            "compare.json has `gpu_tasks` of `tasks`: steps that have no GPU half run on the CPU in the GPU's columns too. A \
             column in which no task ran on a GPU is shown as absent, not as a time.",
        );
    } else {
        say("Why no GPU?", &format!("{}.", words::no_gpu(study)));
    }
    say(
        "Bound?",
        "The slower of two floors for this CPU: operations at the multiply-add peak, bytes (input once, result once) at the memory rate, both \
         measured at the start with all threads; the rate is measured over a working set of the row's size, so that caches count. Real \
         algorithms do work that the floor leaves out (Mandelbrot's steps are not all multiply-adds, small sizes are all overhead), so the \
         bound may be far away; on a machine that was busier while the peaks were measured, a time can be below it.",
    );
    say(
        "Files?",
        "`blocked_mean_file` reads an HDF5 file that was written just before: it is in the system's page cache, so this is the speed of \
         reading through the system, not of a disk. It has no bound, because no peak measured here bounds it.",
    );
    say(
        "Sizes?",
        &format!(
            "n of n x n. Mandelbrot: n x n points of x in [-1.5, 0], y in [-1, 0], {ITERATIONS} steps at most. matvec: n x n times n. \
         blocked_mean: n x n uniform numbers. cholesky: order n. Operations counted: 8 per step, 2 n², n², n³/3."
        ),
    );
    say("What this does not tell:", "power, price, other machines, other sizes, other programs running beside it.");
    let _ = writeln!(
        text,
        "\nColumns: {}.",
        study.lanes.iter().map(|l: &Lane| l.name(study.machine.threads)).collect::<Vec<_>>().join(", ")
    );
    text
}
