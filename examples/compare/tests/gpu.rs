//! The whole way with a GPU in the session: a CPU pool that says it is one.
//!
//! Invariant: what such a device computes is right, so a difference or a failure found here is the program's.

use std::sync::{Arc, Mutex};
use std::time::Instant;

use chunkwise::device::{Device, Faulty, Injection};
use chunkwise::shape::DType;
use chunkwise::{Placement, Result, Session};

use super::fake::{FakeGpu, WITH_GPU, empty, machine, session};
use crate::common::TemporaryFolder;
use crate::compare::lanes::Lanes;
use crate::compare::measure::Lane;
use crate::compare::plan::{Family, Plan, Wishes};
use crate::compare::roofline::Roofline;
use crate::compare::run::{Comparison, lock};
use crate::compare::study::{Row, Study};
use crate::compare::work::Workload;

fn compared(wishes: &Wishes, crossover: bool, gpu: impl Fn() -> Result<Arc<dyn Device>>) -> Study {
    let open = |placement: Placement, threads: Option<usize>| -> Result<Session> {
        session(placement, threads.unwrap_or(1), Some(gpu()?))
    };
    let plan = Plan::new(wishes);
    let mut study = empty(&WITH_GPU, machine(1, Some("Fake 9000")));
    study.settings = plan.settings.clone();
    let roofline = Roofline::of(&study.machine.calibration);
    let study = Mutex::new(study);
    let lanes = Lanes::new(&open, Some(Placement::Gpu), 1);
    assert_eq!(lanes.list(), WITH_GPU);
    let folder = TemporaryFolder::create("gpu").unwrap();
    let comparison = Comparison { lanes, plan, study: &study, roofline, folder, started: Instant::now() };
    comparison.rows(&|_, _, _| ());
    if crossover {
        comparison.crossings(&|_, _, _| ());
    }
    drop(comparison);
    lock(&study).conclude();
    study.into_inner().unwrap()
}

fn wishes(workloads: &[Family]) -> Wishes {
    let workloads = workloads.to_vec();
    Wishes { quick: true, workloads, sizes: vec![60, 150], repeats: Some(2), budget_s: Some(20.0), ..Wishes::default() }
}

#[test]
fn every_workload_runs_in_every_lane() {
    let study = compared(&wishes(&[]), false, || Ok(Arc::new(FakeGpu::new()?)));
    assert_eq!(study.rows.len(), 28);
    for row in &study.rows {
        let name = format!("{} {} {}", row.workload.name(), row.dtype, row.n);
        assert_eq!(row.skipped, None, "{name}");
        let lanes = if row.workload == Workload::BlockedMeanFile { 3 } else { 5 };
        assert_eq!(row.lanes.len(), lanes, "{name}");
        for m in &row.lanes {
            assert!(m.failed.is_none() && !m.differs() && m.samples.len() == 2, "{name}: {m:#?}");
            assert_eq!(m.lane.device == "cpu", m.gpu_tasks == 0 && m.lane.device != "auto", "{name}: {m:#?}");
        }
    }
    let told = |row: &Row| study.conclusions.iter().any(|c| c.starts_with(&format!("{} {}", row.workload.name(), row.dtype)));
    assert!(study.rows.iter().all(told) && study.differences.is_empty(), "{:#?}", study.conclusions);
    assert!(study.crossings.iter().all(|c| c.challenger.device == "gpu" && c.against == Lane::CPU));
}

#[test]
fn crossovers_are_looked_for_in_both_states() {
    let only = Wishes { dtypes: vec![DType::F32], ..wishes(&[Family::Matvec]) };
    let study = compared(&only, true, || Ok(Arc::new(FakeGpu::new()?)));
    let found: Vec<Lane> = study.crossings.iter().filter(|c| c.method == "bisection").map(|c| c.challenger).collect();
    assert_eq!(found, [Lane::GPU_COLD, Lane::GPU]);
    assert!(study.crossings.iter().all(|c| !c.runs.is_empty() && c.runs.iter().all(|&(n, a, b)| n >= 8 && a > 0.0 && b > 0.0)));
}

#[test]
fn a_gpu_that_fails_half_way_fails_its_rows_and_no_others() {
    let only = Wishes { dtypes: vec![DType::F32], chunk: Some(30), ..wishes(&[Family::Matvec]) };
    let study = compared(&only, false, || {
        // Fails for good in the session's second run.
        Ok(Arc::new(Faulty::from_then_on(Arc::new(FakeGpu::new()?), Injection::DeviceError, 9)))
    });
    let failed = |lane: Lane| study.rows.iter().filter(|r| r.lane(lane).is_some_and(|m| m.failed.is_some())).count();
    assert!(failed(Lane::GPU) >= 1, "{:#?}", study.rows);
    assert_eq!(failed(Lane::CPU), 0);
    let cpu = |row: &Row| row.lane(Lane::CPU).map(|m| m.sweeps.clone());
    assert!(study.rows.iter().all(|r| cpu(r) == Some(vec![1, 1])), "the rest goes on, in all sweeps");
    let why = study.rows.iter().find_map(|r| r.lane(Lane::GPU)?.failed.clone()).unwrap();
    assert!(why.contains("GPU failed") || why.contains("device"), "{why}");
    assert!(study.differences.is_empty(), "{:?}", study.differences);
}

#[test]
fn a_gpu_without_a_half_for_the_work_is_absent_and_not_timed() {
    // No GPU in the sessions at all: tasks of the GPU's lane run on the CPU, as those without a GPU half do.
    let open = |_: Placement, threads: Option<usize>| session(Placement::Cpu, threads.unwrap_or(1), None);
    let study = empty(&WITH_GPU, machine(1, Some("Fake 9000")));
    let roofline = Roofline::of(&study.machine.calibration);
    let study = Mutex::new(study);
    let plan = Plan::new(&wishes(&[Family::Mandelbrot]));
    let (lanes, folder) = (Lanes::new(&open, Some(Placement::Gpu), 1), TemporaryFolder::create("none").unwrap());
    Comparison { lanes, plan, study: &study, roofline, folder, started: Instant::now() }.rows(&|_, _, _| ());
    lock(&study).conclude();
    let study = study.into_inner().unwrap();
    for row in &study.rows {
        assert!(row.median(Lane::GPU).is_none() && row.median(Lane::CPU).is_some());
        assert_eq!(row.lane(Lane::CPU).map(|m| m.sweeps.len()), Some(2), "what is absent does not end the row");
        let why = row.lane(Lane::GPU).unwrap().failed.as_deref().unwrap();
        assert!(why.starts_with("no task of it ran on a GPU"), "{why}");
    }
    assert!(study.conclusions[0].contains("nothing to compare; the table says why"), "{:?}", study.conclusions);
    let (table, _) = crate::compare::tables::results(&study);
    assert!(table.lines(usize::MAX, false).iter().any(|l| l.contains("none [1]")));
}
