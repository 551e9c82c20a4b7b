//! The statements of the method section that code can hold.
//!
//! Invariant: each comparator here is also shown a wrong result, which it must find.

use std::cell::Cell;

use chunkwise::shape::DType;
use chunkwise::{Placement, Session};

use super::fake::session;
use crate::common::TemporaryFolder;
use crate::compare::lanes::Lanes;
use crate::compare::measure::{Lane, State};
use crate::compare::plan::Family;
use crate::compare::work::{Job, Reference, Values, Workload, relative, unequal};

const ALL: [Workload; 7] = [
    Workload::Mandelbrot,
    Workload::Matvec,
    Workload::BlockedMean,
    Workload::BlockedMeanFile,
    Workload::Cholesky,
    Workload::Expression,
    Workload::Reduce,
];

fn each_job(n: usize, chunk: Option<usize>, with: impl Fn(&Job, &Session)) {
    let (session, folder) = (session(Placement::Cpu, 2, None).unwrap(), TemporaryFolder::create("method").unwrap());
    for workload in ALL {
        for dtype in [DType::F32, DType::F64] {
            with(&Job::new(workload, (dtype, n, chunk), &session, &folder).unwrap(), &session);
        }
    }
    assert_eq!(Family::ALL.len(), 6);
}

/// Planning, allocation and waiting are inside the clock: it shows at least what the session recorded from the request to the result.
#[test]
fn the_clock_holds_planning_and_everything_else() {
    each_job(90, None, |job, session| {
        let done = job.prepare(session).unwrap()().unwrap();
        assert!(done.seconds >= done.report.total_s && done.report.total_s >= done.report.plan_s, "{}", job.workload.name());
        assert!(done.report.plan_s > 0.0 && !done.report.spans.is_empty());
    });
}

/// Same work per column: tasks, their groups and kernels are the same, whatever the threads.
#[test]
fn all_columns_run_the_same_tasks_on_their_own_threads() {
    let other = session(Placement::Cpu, 1, None).unwrap();
    each_job(200, Some(60), |job, session| {
        let (two, one) = (job.prepare(session).unwrap()().unwrap(), job.prepare(&other).unwrap()().unwrap());
        let names = |done: &crate::compare::work::Done| {
            let graph = &done.report.graph;
            let mut names: Vec<String> = done
                .report
                .spans
                .iter()
                .map(|s| format!("{} {}", graph.kernel_name(s.task), graph.task_name(s.task)))
                .collect();
            names.sort();
            names
        };
        assert_eq!(names(&two), names(&one), "{}", job.workload.name());
        assert!(one.report.tasks() > 1, "{}", job.workload.name());
        assert!(one.report.spans.iter().all(|s| s.worker == 0), "one thread is one thread");
        assert!(two.report.spans.iter().all(|s| s.worker < 2));
        assert_eq!(unequal(&two.values, &one.values), 0.0, "bit for bit");
    });
}

/// First touch: a result is new memory in every run, also while the last one is alive.
#[test]
fn results_are_new_memory_in_every_run() {
    each_job(90, None, |job, session| {
        let prepared = job.prepare(session).unwrap();
        let (a, b) = (prepared().unwrap().values, prepared().unwrap().values);
        let address = |values: &Values| match values {
            Values::I32(v) => v.as_ptr() as usize,
            Values::F32(v) => v.as_ptr() as usize,
            Values::F64(v) => v.as_ptr() as usize,
        };
        assert_ne!(address(&a), address(&b));
        assert_eq!(a, b);
    });
}

#[test]
fn checks_pass_what_is_right_and_find_what_is_not() {
    each_job(90, None, |job, session| {
        let right = job.prepare(session).unwrap()().unwrap().values;
        for gpu in [false, true] {
            let check = job.check(&right, &right, gpu);
            assert!(check.passes(), "{}: {check:?}", job.workload.name());
            let mut wrong = right.clone();
            match &mut wrong {
                // One point in ten is another count; one number is off by a thousandth of the largest.
                Values::I32(v) => v.iter_mut().step_by(10).for_each(|x| *x += 1),
                Values::F32(v) => {
                    let most = v.iter().fold(0.0f32, |m, x| m.max(x.abs()));
                    *v.iter_mut().next().unwrap() += most / 1000.0;
                }
                Values::F64(v) => {
                    let most = v.iter().fold(0.0f64, |m, x| m.max(x.abs()));
                    *v.iter_mut().next().unwrap() += most / 1000.0;
                }
            }
            assert!(job.check_alone(&right).passes(), "{}", job.workload.name());
            let by_itself = [Workload::Cholesky, Workload::Expression, Workload::Reduce].contains(&job.workload);
            assert!(!by_itself || !job.check_alone(&wrong).passes(), "{} {} alone", job.workload.name(), job.dtype);
            let check = job.check(&wrong, &right, gpu);
            assert!(!check.passes(), "{} {} gpu {gpu}: {check:?}", job.workload.name(), job.dtype);
        }
        let nan = match &right {
            Values::I32(_) => return,
            Values::F32(v) => Values::F32(v.mapv(|_| f32::NAN)),
            Values::F64(v) => Values::F64(v.mapv(|_| f64::NAN)),
        };
        assert!(matches!(job.workload, Workload::Expression | Workload::Reduce) <= !job.check_alone(&nan).passes());
        assert!(!job.check(&nan, &right, true).passes() && !job.check(&nan, &right, false).passes());
    });
}

#[test]
fn one_differing_bit_is_found_on_the_cpu() {
    let right = Values::F64(chunkwise::ndarray::ArrayD::from_elem(vec![10], 1.0));
    let mut wrong = right.clone();
    if let Values::F64(v) = &mut wrong {
        v[[3]] = f64::from_bits(v[[3]].to_bits() ^ 1);
    }
    assert_eq!(unequal(&wrong, &right), 0.1);
    assert!(relative(&wrong, &right) > 0.0 && relative(&wrong, &right) < 1e-15);
    let other = Values::F64(chunkwise::ndarray::ArrayD::from_elem(vec![11], 1.0));
    assert_eq!((unequal(&other, &right), relative(&other, &right)), (1.0, f64::INFINITY));
    assert_eq!(unequal(&Values::I32(chunkwise::ndarray::ArrayD::zeros(vec![10])), &right), 1.0);
}

/// The work that bounds are made of: Mandelbrot's counts its steps, the others follow from n.
#[test]
fn work_is_counted_as_the_page_says() {
    each_job(60, None, |job, session| {
        let reference = job.prepare(session).unwrap()().unwrap().values;
        let (flops, bytes) = job.work(&reference);
        let n = 60.0f64;
        match (job.workload, &reference) {
            (Workload::Mandelbrot, Values::I32(counts)) => {
                let steps: i64 = counts.iter().map(|&c| i64::from((c + 1).min(crate::compare::work::ITERATIONS as i32))).sum();
                assert_eq!(flops, 8.0 * steps as f64);
            }
            (Workload::Matvec, _) => assert_eq!(flops, 2.0 * n * n),
            (Workload::Cholesky, _) => assert!((flops - n * n * n / 3.0).abs() < 1e-6),
            // Eight of arithmetic, a sine (19) and an exponential (20); a difference, a square and a sum.
            (Workload::Expression, _) => assert_eq!(flops, 47.0 * n * n),
            (Workload::Reduce, _) => assert_eq!(flops, 3.0 * n * n),
            _ => assert_eq!(flops, n * n),
        }
        assert!(bytes >= n * n * 4.0 && bytes <= 3.0 * n * n * 8.0, "{bytes}");
        assert!(job.workload.memory(job.dtype, job.n) >= bytes);
    });
}

/// Cold: the input moves in each run, though the session has run it before. Resident: not again. One session for all, also across rows.
#[test]
fn cold_runs_move_their_input_each_time_and_resident_runs_do_not() {
    let opened = Cell::new(0);
    let open = |placement: Placement, threads: Option<usize>| {
        opened.set(opened.get() + 1);
        let gpu = std::sync::Arc::new(super::fake::FakeGpu::new()?);
        session(placement, threads.unwrap_or(1), Some(gpu))
    };
    let lanes = Lanes::new(&open, Some(Placement::Gpu), 1);
    let folder = TemporaryFolder::create("cold").unwrap();
    let cpu = lanes.session(Lane::CPU).unwrap();
    let job = Job::new(Workload::Matvec, (DType::F32, 100, None), &cpu, &folder).unwrap();
    let reference = Reference::new(job.prepare(&cpu).unwrap()().unwrap().values);
    // Of each lane: how many sessions it opened, and what each run moved.
    let moved = |lane: Lane| {
        let before = opened.get();
        let mut moved = Vec::new();
        for _ in 0..2 {
            let mut entrants = lanes.entrants(&[lane], &job, &reference);
            moved.extend((0..3).map(|_| (entrants[0].run)().unwrap().bytes_moved));
        }
        (opened.get() - before, moved)
    };
    let (matrix, vector) = (4 * 100 * 100, 4 * 100);
    assert_eq!(moved(Lane::GPU_COLD), (1, vec![matrix + 2 * vector; 6]), "matrix and vector there, result back");
    assert_eq!(moved(Lane::GPU), (1, vec![vector; 6]), "the result back");
    assert_eq!(moved(Lane::CPU), (0, vec![0; 6]));
    assert_eq!((moved(Lane::AUTO).0, moved(Lane::AUTO_COLD).0), (1, 1));
    assert_eq!(Lane::GPU_COLD.state, State::Cold);
}
