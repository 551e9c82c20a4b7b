//! What a study concludes: sentences, tables, page, pictures, exit.
//!
//! Invariant: each verdict is shown to change when the numbers do.

use chunkwise::shape::DType;

use super::fake::{WITH_GPU, empty, machine, plausible, row};
use crate::compare::duel::Crossing;
use crate::compare::measure::{Lane, State};
use crate::compare::out::Reporter;
use crate::compare::stats::Summary;
use crate::compare::study::Crossed;
use crate::compare::work::{Check, Workload};
use crate::compare::{chart, page, pixels, tables, words};
use support::folder::Folder;

/// The conclusion about matvec in f32 at 4000 x 4000 on a machine whose GPU takes `factor` times as long as its CPU.
fn verdict(factor: f64) -> String {
    let mut study = empty(&WITH_GPU, machine(1, Some("Fake 9000")));
    for n in [1000, 4000] {
        let seconds = |lane: Lane| if lane.device == "gpu" { factor * 0.006 } else { 0.006 };
        study.rows.push(row((Workload::Matvec, DType::F32, n), &WITH_GPU, seconds));
    }
    study.conclude();
    study.conclusions.join("\n")
}

#[test]
fn a_device_that_is_twice_as_slow_is_called_so() {
    let slow = verdict(2.0);
    for part in [
        "matvec f32: the GPU wins at no size tried",
        "matvec f32, cold: the GPU takes 2.0 times the CPU's time at 4000²",
        "matvec f32, resident: the GPU takes 2.0 times the CPU's time at 4000²",
    ] {
        assert!(slow.contains(part), "no `{part}` in: {slow}");
    }
    assert!(verdict(0.5).contains("matvec f32: the GPU wins at every size tried"), "{}", verdict(0.5));
    assert!(verdict(1.001).contains("the GPU neither wins nor loses clearly at any size"), "{}", verdict(1.001));
}

#[test]
fn conclusions_tell_both_states_and_precisions_a_fact_in_each() {
    let study = plausible();
    for wanted in [
        "mandelbrot f32: the GPU wins at every size tried",
        "matvec f32, resident: the GPU wins from between 1000² and 2000² on",
        "matvec f32, cold: the GPU wins at no size tried",
        "matvec f64, resident: the GPU wins from between 500² and 1000² on",
    ] {
        assert!(study.conclusions.iter().any(|c| c == wanted), "no `{wanted}` in {:#?}", study.conclusions);
    }
    let auto = |study: &crate::compare::study::Study| words::conclusions(study).join("\n");
    assert!(auto(&study).contains("in 32 of 32 cases\nauto: at worst "), "{}", auto(&study));
    let mut study = study;
    let slow = study.rows.last_mut().unwrap().lanes.iter_mut().find(|m| m.lane == Lane::AUTO).unwrap();
    slow.samples.fill(0.5);
    slow.summary = Summary::of(&slow.samples);
    assert!(auto(&study).contains("in 31 of 32 cases\nauto: at worst "), "{}", auto(&study));
}

#[test]
fn a_bisection_is_believed_before_the_rows() {
    let mut study = plausible();
    study.crossings.clear();
    study.crossings.push(Crossed {
        workload: Workload::Matvec,
        dtype: DType::F32,
        challenger: Lane::GPU,
        against: Lane::CPU,
        method: "bisection",
        crossing: Crossing::Between { low: 1300, high: 1400 },
        runs: vec![(1300, 2e-3, 1e-3), (1400, 1e-3, 2e-3)],
    });
    study.conclude();
    let wanted = "matvec f32, resident: the GPU wins from 1400² on";
    assert!(study.conclusions.iter().any(|c| c == wanted), "{:#?}", study.conclusions);
    let duel = |c: &&Crossed| (c.workload, c.dtype, c.challenger) == (Workload::Matvec, DType::F32, Lane::GPU);
    assert_eq!(study.crossings.iter().filter(duel).count(), 1, "the rows' answer is not added beside it");
    // What the rows deny is not believed: at 1000 the GPU is slower.
    study.crossings.iter_mut().filter(|c| duel(&&**c)).for_each(|c| c.crossing = Crossing::Always { from: 63 });
    study.conclude();
    let crossing = study.crossings.iter().find(duel).map(|c| (c.method, c.crossing));
    assert_eq!(crossing, Some(("rows", Crossing::Between { low: 1000, high: 2000 })));
}

#[test]
fn a_crossing_needs_a_clear_winner() {
    let crossing = |factors: [f64; 3]| {
        let mut study = empty(&WITH_GPU, machine(1, Some("Fake 9000")));
        for (n, factor) in [100, 200, 400].into_iter().zip(factors) {
            let seconds = |lane: Lane| if lane.device == "gpu" { factor } else { 1.0 };
            study.rows.push(row((Workload::Matvec, DType::F32, n), &WITH_GPU, seconds));
        }
        study.crossing(Workload::Matvec, DType::F32, (Lane::GPU, Lane::CPU))
    };
    assert_eq!(crossing([2.0, 1.001, 0.5]), Some(Crossing::Between { low: 100, high: 400 }));
    assert_eq!(crossing([2.0, 0.5, 1.001]), Some(Crossing::Until { won: 200, not: 400, loses: false }));
    assert_eq!(crossing([1.001, 1.0, 0.999]), Some(Crossing::Unclear { up_to: 400 }));
    assert_eq!(crossing([1.001, 0.5, 0.5]), Some(Crossing::From { from: 200 }));
}

#[test]
fn auto_is_compared_with_the_better_device() {
    let seconds = |lane: Lane| match lane.device {
        "cpu" => 2.0,
        "gpu" => 1.0,
        _ => 1.1,
    };
    let row = row((Workload::Cholesky, DType::F64, 100), &WITH_GPU, seconds);
    for state in [State::Cold, State::Resident] {
        let over = row.auto_over_best(state).unwrap();
        assert!((over - 0.1).abs() < 0.02, "{over}");
    }
}

#[test]
fn a_wrong_result_is_told_everywhere_and_fails() {
    let folder = Folder::new("compare-wrong");
    let report = |study: &mut crate::compare::study::Study| Reporter::new(folder.path().into(), false, true).finish(study);
    let mut study = plausible();
    report(&mut study).unwrap();
    let check = Check { difference: 0.25, tolerance: 1e-5, measure: "max|y - y_cpu| / max|y_cpu|" };
    study.rows[0].lanes[2].check = Some(check);
    study.wrote.clear();
    let error = report(&mut study).unwrap_err().to_string();
    for part in ["1 result(s) differ", "gpu resident", "2.50e-1", "1.00e-5"] {
        assert!(error.contains(part), "no `{part}` in {error}");
    }
    let (table, _) = tables::results(&study);
    assert!(table.lines(usize::MAX, false).iter().any(|l| l.contains("WRONG")));
    let mut own = plausible();
    own.rows[0].reference = Some(check);
    assert!(words::differences(&own)[0].contains("the CPU itself: "), "{:?}", words::differences(&own));
    assert!(page::markdown(&study, &[]).contains("WRONG RESULT"));
    let json: serde_json::Value = serde_json::from_slice(&std::fs::read(folder.file("compare.json")).unwrap()).unwrap();
    assert_eq!(json["differences"].as_array().map(Vec::len), Some(1));
}

#[test]
fn failures_and_skipped_rows_are_footnotes() {
    let mut study = plausible();
    let gpu = study.rows[0].lanes.iter_mut().find(|m| m.lane == Lane::GPU).unwrap();
    (gpu.failed, gpu.summary) = (Some("device lost".into()), None);
    study.rows[1].skipped = Some("needs 80.0 GB".into());
    study.rows[1].lanes.clear();
    let (table, notes) = tables::results(&study);
    assert_eq!(notes.len(), 2, "{notes:?}");
    assert!(notes[0].ends_with("device lost") && notes[1].ends_with("needs 80.0 GB"), "{notes:?}");
    let lines = table.lines(usize::MAX, false);
    assert!(lines.iter().any(|l| l.contains("failed [1]")) && lines.iter().any(|l| l.contains("skipped [2]")), "{lines:#?}");
    let page = page::markdown(&study, &["compare"]);
    assert!(page.contains("[1] ") && page.contains("![compare against size](compare.png)"));
}

#[test]
fn pictures_have_a_curve_per_lane_the_bound_and_the_crossing() {
    let study = plausible();
    let scenes = chart::all(&study);
    let names: Vec<&str> = scenes.iter().map(|s| s.0.as_str()).collect();
    assert_eq!(names, ["compare", "mandelbrot", "matvec"]);
    for (name, scene) in &scenes {
        let svg = scene.svg();
        assert!(svg.contains("bound of the GPU, data there"), "{name}: no bound of the GPU");
        for part in ["class=\"s-cpu\"", "class=\"s-gpu\"", "class=\"s-auto\"", "class=\"s-bound\"", "gpu wins: ", "Fake 9000"] {
            assert!(svg.contains(part), "{name}: no `{part}`");
        }
        let picture = image::load_from_memory(&pixels::png(scene, 1.0).unwrap()).unwrap().into_rgb8();
        assert_eq!(picture.dimensions(), (scene.width as u32, scene.height as u32));
        let has = |ink: crate::compare::scene::Ink| {
            let wanted = [16, 8, 0].map(|shift| (ink.light() >> shift) as u8);
            picture.pixels().any(|p| p.0 == wanted)
        };
        assert!(
            has(crate::compare::scene::Ink::Cpu)
                && has(crate::compare::scene::Ink::Gpu)
                && has(crate::compare::scene::Ink::Auto),
            "{name}"
        );
    }
    study_for_eyes(&study);
    let mut nothing = empty(&WITH_GPU, machine(1, None));
    assert!(chart::all(&nothing).is_empty());
    nothing.conclude();
    assert!(page::markdown(&nothing, &[]).contains("## Method"));
}

#[test]
fn the_legend_names_only_what_is_drawn() {
    let mut study = empty(&WITH_GPU, machine(1, Some("Fake 9000")));
    let mut file = row((Workload::BlockedMeanFile, DType::F32, 100), &[Lane::CPU, Lane::AUTO], |_| 0.5);
    (file.bound_s, file.gpu_bound_s) = (None, None);
    study.rows.push(file);
    let svg = chart::all(&study)[0].1.svg();
    assert!(svg.contains(">cpu<") && svg.contains(">auto resident<"), "{svg}");
    for absent in ["bound of", ">gpu cold<", ">gpu resident<", ">auto cold<"] {
        assert!(!svg.contains(absent), "{absent} in {svg}");
    }
}

/// The report of this study, to be looked at: COMPARE_PICTURES=/tmp/x cargo test --example compare pictures -- --nocapture
fn study_for_eyes(study: &crate::compare::study::Study) {
    if let Some(folder) = std::env::var_os("COMPARE_PICTURES") {
        for (name, scene) in chart::all(study) {
            let picture = pixels::png(&scene, 2.0).unwrap();
            std::fs::write(std::path::Path::new(&folder).join(format!("{name}.png")), picture).unwrap();
        }
        let (table, _) = tables::results(study);
        println!("{}\n{}", words::head(study).join("\n"), table.lines(usize::MAX, false).join("\n"));
        println!("{}", study.conclusions.join("\n"));
    }
}

/// Sweeps that were not made are said, wherever a confidence is.
#[test]
fn fewer_sweeps_are_said_with_their_confidence() {
    let mut study = plausible();
    let all = |study: &crate::compare::study::Study| {
        let svg = chart::all(study)[0].1.svg();
        [words::head(study).join("\n"), words::warnings(study).join("\n"), page::markdown(study, &[]), svg]
    };
    let sure = all(&study);
    assert!(
        sure[0].contains("95 % confidence") && !sure[1].contains("sweeps") && sure[3].contains("interval of 95 %"),
        "{sure:#?}"
    );
    let lane = &mut study.rows[0].lanes[0];
    lane.sweeps = vec![2, 2, lane.samples.len() - 4];
    lane.summary = Summary::of_sweeps(&lane.samples, &lane.sweeps);
    study.rows[1].cut_short = Some("no space".into());
    let unsure = all(&study);
    assert!(unsure[0].contains("75 % confidence or more") && unsure[2].contains("75 % confidence or more"), "{unsure:#?}");
    assert!(
        unsure[1].contains("1 of 16 rows has fewer than 6 sweeps") && unsure[1].contains("missing: no space"),
        "{unsure:#?}"
    );
    assert!(unsure[3].contains("interval of 75 % or more"), "{}", unsure[3]);
}

#[test]
fn an_interrupted_study_says_so_in_table_page_and_picture() {
    let mut study = plausible();
    study.interrupted = true;
    assert!(words::warnings(&study).iter().any(|w| w.starts_with("INTERRUPTED")));
    assert!(page::markdown(&study, &[]).contains("INTERRUPTED"));
    assert!(chart::all(&study)[0].1.svg().contains("INTERRUPTED"));
}

#[test]
fn the_schema_has_every_field_that_the_issue_names() {
    let json = serde_json::to_value(plausible()).unwrap();
    assert_eq!(json["schema"], "chunkwise-compare/3");
    for pointer in [
        "/date",
        "/command/0",
        "/interrupted",
        "/total_s",
        "/settings/seed",
        "/settings/repeats",
        "/settings/sweeps",
        "/machine/cpu",
        "/machine/cores",
        "/machine/threads",
        "/machine/simd",
        "/machine/calibration/read_all",
        "/machine/calibration/f64_flops_all",
        "/machine/calibration/f32_flops_all",
        "/machine/adapters/0/name",
        "/machine/adapters/0/driver",
        "/machine/chunkwise",
        "/machine/profile",
        "/machine/system",
        "/lanes/0/device",
        "/rows/0/workload",
        "/rows/0/dtype",
        "/rows/0/n",
        "/rows/0/bound_s",
        "/rows/0/gpu_bound_s/resident",
        "/machine/gpu_rates/peaks/f64_flops",
        "/rows/0/lanes/0/device",
        "/rows/0/lanes/0/state",
        "/rows/0/lanes/0/samples/0",
        "/rows/0/lanes/0/sweeps/0",
        "/rows/0/lanes/0/warm_up/0",
        "/rows/0/lanes/0/summary/median",
        "/rows/0/lanes/0/summary/low",
        "/rows/0/lanes/0/summary/confidence",
        "/rows/0/lanes/0/check/difference",
        "/rows/0/lanes/0/check/tolerance",
        "/rows/0/lanes/0/gpu_tasks",
        "/rows/0/stopped",
        "/rows/0/skipped",
        "/crossings/0/answer",
        "/crossings/0/method",
        "/conclusions/0",
        "/differences",
    ] {
        assert!(json.pointer(pointer).is_some(), "no {pointer}");
    }
    let part = |name: &str| json["rows"][0]["lanes"][0][name].clone();
    let samples: Vec<f64> = serde_json::from_value(part("samples")).unwrap();
    let sweeps: Vec<usize> = serde_json::from_value(part("sweeps")).unwrap();
    let again = Summary::of_sweeps(&samples, &sweeps).unwrap();
    assert_eq!(json["rows"][0]["lanes"][0]["summary"]["median"].as_f64(), Some(again.median), "a reader can recompute it");
}
