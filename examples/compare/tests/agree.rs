//! Table, chart and sentences of made-up studies: read back from what is shown, they do not deny each other.
//!
//! Owns: a reader of the shown words, which knows none of the program's decisions. Must not know: how a verdict is made. Invariant: each
//! comparison is also shown a table that denies the sentence.

use std::collections::BTreeMap;

use chunkwise::shape::DType;
use proptest::prelude::*;

use super::fake::{WITH_GPU, empty, machine, noisy_row};
use crate::compare::measure::Lane;
use crate::compare::study::Study;
use crate::compare::work::Workload;
use crate::compare::{chart, tables};

const SIZES: [usize; 4] = [500, 1000, 40_000, 100_000];
const GROUPS: [(Workload, DType); 4] = [
    (Workload::Matvec, DType::F32),
    (Workload::BlockedMean, DType::F32),
    (Workload::BlockedMean, DType::F64),
    (Workload::BlockedMeanFile, DType::F64),
];

/// Of each group and size: how many times as long as the first lane each other lane takes, the noise, and the sweeps.
type Made = Vec<(Vec<f64>, f64, usize)>;

fn made() -> impl Strategy<Value = Made> {
    let ratio = prop::sample::select(vec![0.3, 0.8, 0.94, 0.96, 0.99, 1.0, 1.01, 1.04, 1.06, 1.3, 3.0]);
    let noise = prop::sample::select(vec![0.0, 0.02, 0.1, 0.6]);
    prop::collection::vec((prop::collection::vec(ratio, 4), noise, 1usize..=6), GROUPS.len() * SIZES.len())
}

fn study_of(lanes: &[Lane], made: &Made) -> Study {
    let gpu = lanes.contains(&Lane::GPU);
    let mut study = empty(lanes, machine(2, gpu.then_some("Fake 9000")));
    study.machine.threads = if gpu { 2 } else { 128 };
    let mut seed = 1;
    for (at, (ratios, noise, sweeps)) in made.iter().enumerate() {
        let ((workload, dtype), n) = (GROUPS[at / SIZES.len()], SIZES[at % SIZES.len()]);
        let mut mine = lanes.to_vec();
        if workload == Workload::BlockedMeanFile {
            mine.retain(|lane| lane.device != "gpu");
        }
        let typical = |lane: Lane| {
            let index = lanes.iter().position(|l| *l == lane).unwrap_or(0);
            1e-9 * (n as f64) * if index == 0 { 1.0 } else { ratios[index - 1] }
        };
        study.rows.push(noisy_row((workload, dtype, n), &mine, typical, (*noise, *sweeps, &mut seed)));
    }
    study.conclude();
    study
}

/// A table's row, by the words of its heading; a cell that is marked has an asterisk before it.
type Shown = BTreeMap<String, String>;

fn table_of(study: &Study) -> Vec<Shown> {
    let (table, _) = tables::results(study);
    let row = |cells: &Vec<crate::common::Cell>| {
        let texts = cells.iter().map(|c| format!("{}{}", if c.strong { "*" } else { "" }, c.text));
        table.heading.iter().cloned().zip(texts).collect()
    };
    table.rows.iter().map(row).collect()
}

/// The words of a panel, after "win: " or "wins: ".
fn panel_words(study: &Study, workload: Workload) -> Vec<String> {
    let scenes = chart::all(study);
    let (_, scene) = scenes.iter().find(|s| s.0 == workload.name()).expect("a picture for each workload");
    let svg = scene.svg();
    let parts = svg.split("threads win: ").flat_map(|p| p.split("gpu wins: ")).skip(1);
    let words: Vec<String> = parts.map(|part| part.split('<').next().unwrap_or_default().to_owned()).collect();
    // The legend names the band between two sizes where there is one.
    assert_eq!(svg.contains(" overtake"), words.iter().any(|w| w.contains("..")), "{words:?}");
    words
}

/// Seconds of `*24.3 ms ±2%`.
fn seconds(cell: &str) -> f64 {
    let mut words = cell.trim_start_matches('*').split(' ');
    let value: f64 = words.next().and_then(|w| w.parse().ok()).expect("a number");
    value
        * match words.next() {
            Some("s") => 1.0,
            Some("ms") => 1e-3,
            Some("us") => 1e-6,
            other => panic!("unit {other:?}"),
        }
}

/// What a claim such as `from 500..1000` says of sizes: who must win, who must not.
fn claims(words: &str, sizes: &[usize]) -> Vec<(usize, bool)> {
    let number = |text: &str| text.parse::<usize>().expect("a size");
    let from = |least: usize| sizes.iter().filter(move |&&n| n >= least).map(|&n| (n, true));
    match words.split_once(' ') {
        None if words == "always" => from(0).collect(),
        None => sizes.iter().map(|&n| (n, false)).collect(), // never, unclear
        Some(("from", range)) => match range.split_once("..") {
            Some((low, high)) => from(number(high)).chain([(number(low), false)]).collect(),
            None => from(number(range)).collect(),
        },
        Some(("at", rest)) => {
            let (won, not) = rest.split_once(", not ").expect("two sizes");
            let above = sizes.iter().filter(|&&n| n >= number(not.trim_start_matches("clearly "))).map(|&n| (n, false));
            above.chain([(number(won), true)]).collect()
        }
        _ => panic!("{words}"),
    }
}

/// Whether the sentence, the table's column and the picture say the same of all threads against one.
fn cpu_agrees(study: &Study, table: &[Shown], group: (Workload, DType), panel: &str) -> Result<(), String> {
    let rows: Vec<&Shown> =
        table.iter().filter(|r| r["workload"] == group.0.name() && r["dtype"] == group.1.to_string()).collect();
    let wins = |row: &Shown| row["speed-up"].strip_suffix('x').is_some_and(|f| f.parse::<f64>().is_ok_and(|f| f > 1.0));
    for row in &rows {
        let ratio = seconds(&row["1 thread"]) / seconds(&row["128 threads"]);
        if let Some(shown) = row["speed-up"].strip_suffix('x').and_then(|f| f.parse::<f64>().ok()) {
            // Both are rounded: the times to three digits, the factor to two.
            if (ratio > 1.0) != (shown > 1.0) || (ratio / shown - 1.0).abs() > 0.06 {
                return Err(format!("{shown}x beside {row:?}"));
            }
        } else if row["speed-up"] == "level" && (ratio - 1.0).abs() > 0.06 {
            return Err(format!("level beside {row:?}"));
        }
        if wins(row) && row["1 thread"].starts_with('*') {
            return Err(format!("the slower one is marked: {row:?}"));
        }
    }
    for (n, won) in claims(panel, &SIZES) {
        let row = rows.iter().find(|r| r["size"] == format!("{n}²")).expect("a row for each size");
        if wins(row) != won {
            return Err(format!("the picture says `{panel}`, the table {row:?}"));
        }
    }
    let last = rows.last().expect("rows");
    let name = format!("{} {}: 128 threads ", last["workload"], last["dtype"]);
    let at = format!(" at {}", last["size"]);
    let said = study.conclusions.iter().find_map(|c| c.strip_prefix(&name)?.strip_suffix(&at)).ok_or("nothing is said")?;
    let cell = last["speed-up"].as_str();
    let same = match (said.strip_prefix("are "), said.strip_prefix("take ")) {
        (Some("as fast as one to within 5 %"), _) => cell == "level",
        (Some(fast), _) => fast.strip_suffix(" times as fast as one").is_some_and(|f| cell == format!("{f}x")) && wins(last),
        (_, Some(long)) => long.ends_with(" times as long as one") && cell.ends_with('x') && !wins(last),
        _ => said == "and one cannot be told apart" && cell == "unclear",
    };
    if same { Ok(()) } else { Err(format!("the sentence says `{said}`, the table {cell}")) }
}

/// Whether sentence, table and picture say the same of the GPU, in both states.
fn gpu_agrees(study: &Study, table: &[Shown], group: (Workload, DType), panel: &str) -> Result<(), String> {
    let rows: Vec<&Shown> =
        table.iter().filter(|r| r["workload"] == group.0.name() && r["dtype"] == group.1.to_string()).collect();
    let shown: Vec<&str> = rows[0]["gpu wins"].split(" / ").collect();
    let [cold, resident] = shown[..] else { return Err(format!("{shown:?}")) };
    if panel != format!("cold {cold}, resident {resident}") {
        return Err(format!("the picture says `{panel}`, the table {shown:?}"));
    }
    for (state, words) in [("cold", cold), ("resident", resident)] {
        for (n, won) in claims(words, &SIZES) {
            let row = rows.iter().find(|r| r["size"] == format!("{n}²")).expect("a row for each size");
            let faster = seconds(&row[&format!("gpu {state}")]) < seconds(&row["cpu"]);
            // Who wins is faster, and the other is not marked as the best.
            if won && (!faster || row["cpu"].starts_with('*')) {
                return Err(format!("`{words}`, but {row:?}"));
            }
        }
        let name = format!("{} {}", rows[0]["workload"], rows[0]["dtype"]);
        let (alone, both) = (format!("{name}, {state}: the GPU "), format!("{name}: the GPU "));
        let few = |c: &String| c.starts_with(&name) && c.ends_with(": too few sweeps to tell whether the GPU wins");
        let said = study.conclusions.iter().find_map(|c| c.strip_prefix(&alone).or_else(|| c.strip_prefix(&both)));
        let said = said.or(study.conclusions.iter().any(few).then_some("neither wins nor loses clearly at any size"));
        let said = said.ok_or("nothing is said")?.replace('²', "");
        let words_of = |said: &str| match said {
            "wins at every size tried" => "always".to_owned(),
            "wins at no size tried" => "never".into(),
            "neither wins nor loses clearly at any size" => "unclear".into(),
            other => {
                let words = other.trim_start_matches("wins ").trim_end_matches(", unclear below").trim_end_matches(" on");
                words
                    .replace(" on, unclear below", "")
                    .replace(" between ", " ")
                    .replace(" and ", "..")
                    .replace("not at", "not")
                    .replace("clearly at", "clearly")
            }
        };
        let said = words_of(&said);
        if said.trim_end_matches(" on") != words {
            return Err(format!("the sentence says `{said}`, the table `{words}`"));
        }
    }
    Ok(())
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 60, failure_persistence: None, ..ProptestConfig::default() })]

    #[test]
    fn table_chart_and_sentence_agree_on_threads(made in made()) {
        let study = study_of(&[Lane::ONE, Lane::CPU], &made);
        let table = table_of(&study);
        for workload in [Workload::Matvec, Workload::BlockedMean, Workload::BlockedMeanFile] {
            let groups = GROUPS.iter().filter(|g| g.0 == workload);
            let panels = panel_words(&study, workload);
            prop_assert_eq!(panels.len(), groups.clone().count());
            for (&group, panel) in groups.zip(&panels) {
                let agrees = cpu_agrees(&study, &table, group, panel);
                prop_assert!(agrees.is_ok(), "{} {}: {:?}", group.0.name(), group.1, agrees);
            }
        }
        for line in &study.conclusions {
            prop_assert!(line.chars().count() <= 80, "{}", line);
        }
    }

    #[test]
    fn table_chart_and_sentence_agree_on_gpus(made in made()) {
        let study = study_of(&WITH_GPU, &made);
        let table = table_of(&study);
        for workload in [Workload::Matvec, Workload::BlockedMean] {
            for (&group, panel) in GROUPS.iter().filter(|g| g.0 == workload).zip(&panel_words(&study, workload)) {
                let agrees = gpu_agrees(&study, &table, group, panel);
                prop_assert!(agrees.is_ok(), "{} {}: {:?}", group.0.name(), group.1, agrees);
            }
        }
        for line in &study.conclusions {
            prop_assert!(line.chars().count() <= 80, "{}", line);
        }
    }
}

/// The readers above can fail.
#[test]
fn disagreement_is_found() {
    let clear: Made = (0..GROUPS.len() * SIZES.len()).map(|_| (vec![0.5, 2.0, 1.0, 1.0], 0.0, 6)).collect();
    let mut study = study_of(&[Lane::ONE, Lane::CPU], &clear);
    let mut table = table_of(&study);
    let matvec = GROUPS[0];
    assert_eq!(cpu_agrees(&study, &table, matvec, "always"), Ok(()));
    for words in ["never", "from 500..1000", "at 500, not 1000"] {
        assert!(cpu_agrees(&study, &table, matvec, words).is_err(), "{words}");
    }
    study.conclusions.iter_mut().for_each(|c| *c = c.replace("are 2.0 times as fast as one", "and one cannot be told apart"));
    assert!(cpu_agrees(&study, &table, matvec, "always").is_err(), "the sentence");
    study.conclude();
    table[0].insert("speed-up".into(), "1.3x".into());
    assert!(cpu_agrees(&study, &table, matvec, "always").is_err(), "a factor that the medians deny");
    let study = study_of(&WITH_GPU, &clear);
    let table = table_of(&study);
    assert_eq!(gpu_agrees(&study, &table, matvec, "cold always, resident never"), Ok(()));
    assert!(gpu_agrees(&study, &table, matvec, "cold always, resident always").is_err());
}
