//! What a reader who wants to catch the benchmark cheating will ask, and the answers.
//!
//! Owns: the method section of the page. Must not know: results. Invariant: each statement holds for every row of every page; those that
//! code can hold are tested in `tests/claims.rs`, `tests/gpu.rs` and the unit tests of `measure.rs` and `stats.rs`.

use chunkwise::kernel::map::ScalarOp;

use crate::common::seconds;
use crate::compare::fused::{EXPRESSION, REDUCE, worth};
use crate::compare::measure::{State, WARM_UP};
use crate::compare::stats::NARROW;
use crate::compare::study::Study;
use crate::compare::words;
use crate::compare::work::ITERATIONS;

const TIMED: &str = "One call, `array.run()`: from the request to the result as an array in host memory. Planning, scheduling, \
    allocation of the result and of buffers that the session does not have yet, transfers both ways, and waiting are inside, on every \
    device alike.";

const SAME_WORK: &str = "Every column runs the same expression on the same input bytes, cut into the same chunks (chunks depend on \
    shape and dtype, never on the machine); only where tasks may run differs. f64 is never computed in f32.";

const DEAD_CODE: &str = "Each run hands out its whole result, and each result is compared with the CPU's reference outside the clock, also \
    of the runs that do not count: bit for bit where no GPU took part, else within the tolerance that compare.json states beside the \
    difference. The reference itself is checked where that can be done without another result: Cholesky by its residual, expression and reduce by \
    plain loops in f64 over elements from all of it. A wrong result makes the program fail.";

const STATISTICS: &str = "A machine has phases of seconds and longer in which everything is slower, so samples taken one after another say \
    less than their number. What counts is one value per sweep, the median of its rounds: a time is the median of these values, and its \
    interval is distribution-free, from order statistics (binomial, 95 %). Below 6 sweeps no interval reaches 95 %; the range stands in, and \
    compare.json states the confidence that it has. A repetition of the whole run should find times within these intervals, if the machine \
    is left as it is; what is decided once for a process, such as where its memory lies, is not in them. Two columns are compared once per \
    row, for table, picture and sentence alike: who is faster is decided by the ratio of their times in the same rounds, because most of such \
    a phase is in both, if its interval (of the same kind, of 5 sweeps or more) leaves out 1; by how much is the ratio of the two medians. \
    Below 5 % they are level; where interval and medians do not agree, or the interval holds 1, they cannot be told apart. A bisection's \
    steps are one sweep each, of the samples themselves.";

const FIRST_TOUCH: &str = "The input was written once, by all threads, before any clock ran. The result is new memory in every run, on \
    every device: its pages are touched first inside the clock.";

const COLD: &str = "Both in a session that has just run the same work once (shaders compiled, threads awake, buffers made). Cold: the \
    session then gives up every copy of the input that it kept on devices, outside the clock, and moves it again inside. Resident: it may \
    use the copies (a kernel that overwrites its input, as those of Cholesky do, has it moved each time). Automatic placement moves data \
    that stay only once that would have paid off, so its resident column is measured after up to 16 runs more (or 0.05 s of them). The \
    result is brought back to host memory in all. The CPU's input is in host memory either way: one column serves as both.";

const GPU_PART: &str = "compare.json has `gpu_tasks` of `tasks`: steps that have no GPU half run on the CPU in the GPU's columns too. A \
    column in which no task ran on a GPU is shown as absent, not as a time; one whose GPU gave up tasks half-way is shown as failed.";

const BOUND: &str = "The slower of two floors for this CPU: operations at the multiply-add peak, bytes (input once, result once) at the \
    memory rate, both measured with all threads, at the start and between sweeps, of which the best counts; the rate is that of a working \
    set of the row's size, so that caches count. Real algorithms do work that the floor leaves out (Mandelbrot's steps are not all \
    multiply-adds, small sizes are all overhead), so the bound may be far away. On a machine that was busier while the peaks were measured, \
    a time can be below it. The bound of GPUs is made of their own peaks (multiply-adds in registers; a sum of 128 MB, the best of a few), \
    measured at the start, and of the links: what must come back of the result, and the input when cold, all overlapping. Data that fit in a \
    GPU's caches may be read faster.";

const FILES: &str = "`blocked_mean_file` reads an HDF5 file that was written just before: it is in the system's page cache, so this is \
    the speed of reading through the system, not of a disk. It has no bound, because no peak measured here bounds it.";

/// The section, a list of questions and answers.
pub fn section(study: &Study) -> String {
    let mut all = timing(study);
    all.extend(devices(study));
    all.extend([("Bound?", BOUND.to_owned()), ("Files?", FILES.to_owned()), ("Sizes?", sizes())]);
    all.push((
        "What this does not tell:",
        "power, price, other machines, other sizes, other programs running beside it.".to_owned(),
    ));
    let line = |(question, answer): &(&str, String)| format!("- **{question}** {answer}\n");
    format!("## Method\n\n{}", all.iter().map(line).collect::<String>())
}

type Answer = (&'static str, String);

fn timing(study: &Study) -> Vec<Answer> {
    let settings = &study.settings;
    let warm_up = format!(
        "In each sweep a row's reference run is discarded, and in the first one up to {WARM_UP} rounds after it (compare.json keeps their \
         times as `warm_up`): threads are started, caches warm, shaders compiled, predictions learned. And each run that counts follows at \
         once on one of the same column that does not, so that all find threads awake and clocks up."
    );
    let order = format!(
        "In each round every column has one run that counts, in an order shuffled anew (seed {}), so that drift of clocks and temperature \
         hits all alike. All rows are gone through up to {} times, a second or more apart, each time with a part of the rounds (compare.json \
         has `sweeps`). All columns of a row have the same number of rounds, unless one failed.",
        settings.seed, settings.sweeps
    );
    let stop = format!(
        "A row's turn in a sweep ends after {} rounds, when its share of {} is spent, or (from 6 rounds on) when every column's samples have \
         an interval narrower than {:.0} % of their median. No sample is thrown away; all are in compare.json.",
        settings.repeats.div_ceil(settings.sweeps.max(1)),
        seconds(settings.budget_s),
        100.0 * NARROW
    );
    vec![
        ("What is timed?", TIMED.to_owned()),
        ("Same work?", SAME_WORK.to_owned()),
        ("Dead code?", DEAD_CODE.to_owned()),
        ("Warm-up?", warm_up),
        ("Order?", order),
        ("When does it stop?", stop),
        ("Statistics?", STATISTICS.to_owned()),
        ("First touch?", FIRST_TOUCH.to_owned()),
    ]
}

fn devices(study: &Study) -> Vec<Answer> {
    let machine = &study.machine;
    let used =
        format!("The CPU's column has {} threads, of {} cores that this process may use.", machine.threads, machine.cores);
    let mut all = vec![("Threads?", used)];
    if study.lanes.iter().any(|lane| lane.state == State::Cold) {
        all.extend([("Cold, resident?", COLD.to_owned()), ("The GPU's own part?", GPU_PART.to_owned())]);
    } else {
        all.push(("Why no GPU?", format!("{}.", words::no_gpu(study))));
    }
    all
}

fn sizes() -> String {
    format!(
        "A matrix of up to 16 MiB is one chunk, which is one task, which one thread computes: more threads gain nothing (--chunk cuts finer). n \
         of n x n. mandelbrot: n x n points of x in [-1.5, 0], y in [-1, 0], {ITERATIONS} steps at most. matvec: n x n times n. \
         blocked_mean: n x n uniform numbers. cholesky: order n. expression: 1.5 x x + 0.25 x + sin(x) exp(-y y) of two arrays of n x n uniform \
         numbers. reduce: sums of (x - c)² along axis 0, n of n x n uniform numbers. Operations counted: 8 per step, 2 n², n², n³/3, {} n² (a sine \
         counts as {:.0}, an exponential as {:.0}: the library's table of operations says what each is worth, and so do its predictions), {} n².",
        worth(&EXPRESSION),
        worth(&[ScalarOp::Sin]),
        worth(&[ScalarOp::Exp]),
        worth(&REDUCE)
    )
}
