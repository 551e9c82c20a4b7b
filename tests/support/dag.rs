//! A graph of trivial tasks: what the runtime itself costs.
//!
//! Owns: [`random_dag`], [`explain_random_dag`]. Must not know: time. Invariant: the checksum is computed twice, by the tasks and by a loop.

use std::sync::Arc;
use std::time::Instant;

use chunkwise::device::{HostBuffer, take_result};
use chunkwise::id::ValueId;
use chunkwise::kernel::sums::Add;
use chunkwise::runtime::{Inside, Plan, RunReport};
use chunkwise::schedule::Scheduler;
use chunkwise::shape::Layout;
use chunkwise::task::GraphBuilder;
use chunkwise::{DType, Error, Explanation, Remedy, Result, Session};

/// Values that tasks may read at the start.
const ROOTS: usize = 16;
/// How far back a task looks for its inputs: wide enough for parallelism, near enough for memory.
const REACH: usize = 4096;

/// A random graph and the sum that it must give.
struct Dag {
    plan: Plan,
    expected: u64,
}

/// What [`random_dag`] would do, predicted.
///
/// # Errors
/// As [`random_dag`].
pub fn explain_random_dag(session: &Session, tasks: usize) -> Result<Explanation> {
    session.explain(&mut dag(session, tasks)?.plan)
}

/// Runs a random graph of about `tasks` tasks, each of which adds 1 to 3 earlier values (64-bit integers that wrap around),
/// and returns the sum of all values that no task read, with the run's record.
///
/// # Errors
/// [`Error::Failed`] if the sum is not that of a sequential loop; whatever a run can report.
pub fn random_dag(session: &Session, tasks: usize) -> Result<(u64, RunReport)> {
    let asked = Instant::now();
    let Dag { plan, expected } = dag(session, tasks)?;
    let (results, report) = session.submit(plan, asked)?.wait()?;
    let taken = results.into_iter().flatten().next().and_then(take_result::<u64>);
    let got = taken.map(|t| t.vec[t.start]);
    if got != Some(expected) {
        let message = format!("checksum {got:?}, a sequential loop gives {expected}");
        return Err(Error::Failed { what: "the check of the sum".into(), message });
    }
    Ok((expected, report))
}

/// Tasks of the graph from which it is told what a larger one needs: more than a task reaches back.
const SAMPLE: usize = 8_000;
/// No task takes as much: with that much for each, the graph fits without a look beforehand.
const AMPLE: u64 = 4096;

/// The graph, if it fits memory.
fn dag(session: &Session, tasks: usize) -> Result<Dag> {
    let limit = session.usable_bytes();
    let needs = |dag: &Dag| session.needs_bytes(dag.plan.graph());
    let refused = |needs: u64| Error::OutOfMemory {
        what: format!("the bookkeeping of {tasks} task{}", if tasks == 1 { "" } else { "s" }),
        requested_bytes: needs,
        available_bytes: limit,
        space: "host".into(),
        remedies: vec![Remedy::Other("fewer tasks".into()), Remedy::Limit(session.limit_for(needs))],
    };
    if tasks > SAMPLE && (tasks as u64).saturating_mul(AMPLE) > limit {
        // Tables grow with the tasks; what is live at a time does not, so that the guess is high rather than low.
        let sample = made(session.seed(), SAMPLE)?;
        let of_all = |bytes: u64| (bytes as f64 / SAMPLE as f64 * tasks as f64) as u64;
        if of_all(Scheduler::table_bytes(sample.plan.graph())) > limit {
            return Err(refused(of_all(needs(&sample))));
        }
    }
    let dag = made(session.seed(), tasks)?;
    match needs(&dag) {
        needs if needs > limit => Err(refused(needs)),
        _ => Ok(dag),
    }
}

fn made(seed: u64, tasks: usize) -> Result<Dag> {
    let mut graph = GraphBuilder::new();
    let mut numbers: Vec<u64> = (1..=ROOTS as u64).collect();
    let roots = Arc::new(numbers.clone());
    let scalar = Layout::contiguous(DType::U64, &[]);
    let roots = HostBuffer::caller(&roots);
    let array = graph.source(DType::U64, ROOTS, roots.source_id());
    let mut values: Vec<ValueId> = (0..ROOTS).map(|i| graph.window(array, i, &scalar)).collect();
    let mut unread = vec![true; ROOTS];
    let add = graph.kernel(Arc::new(Add));
    graph.group("random additions");
    let mut state = seed ^ 0x9e37_79b9_7f4a_7c15;
    for _ in 0..tasks {
        let count = 1 + (next(&mut state) % 3) as usize;
        let near = values.len().min(REACH);
        let picks: Vec<usize> = (0..count).map(|_| values.len() - 1 - (next(&mut state) % near as u64) as usize).collect();
        let inputs: Vec<ValueId> = picks.iter().map(|&p| values[p]).collect();
        let out = graph.value(DType::U64, &[]);
        graph.write(add, &[], &inputs, out)?;
        numbers.push(picks.iter().fold(0u64, |sum, &p| sum.wrapping_add(numbers[p])));
        picks.iter().for_each(|&p| unread[p] = false);
        values.push(out);
        unread.push(true);
    }
    let left: Vec<usize> = (0..values.len()).filter(|&i| unread[i]).collect();
    let expected = left.iter().fold(0u64, |sum, &i| sum.wrapping_add(numbers[i]));
    let plan = total(graph, roots, left.iter().map(|&i| values[i]).collect())?;
    Ok(Dag { plan, expected })
}

/// Adds the values by a tree into a result of rank 0.
fn total(mut graph: GraphBuilder, roots: Arc<HostBuffer>, mut level: Vec<ValueId>) -> Result<Plan> {
    let add = graph.kernel(Arc::new(Add));
    graph.group("checksum");
    while level.len() > 32 {
        let mut next = Vec::with_capacity(level.len() / 32 + 1);
        for part in level.chunks(32) {
            let out = graph.value(DType::U64, &[]);
            graph.write(add, &[], part, out)?;
            next.push(out);
        }
        level = next;
    }
    let result = graph.array(DType::U64, 1, true);
    let out = graph.window(result, 0, &Layout::contiguous(DType::U64, &[]));
    graph.write(add, &[], &level, out)?;
    Plan::new(graph, vec![Some(roots), None])
}

/// SplitMix64 (Steele, Lea, Flood 2014).
fn next(state: &mut u64) -> u64 {
    *state = state.wrapping_add(0x9e37_79b9_7f4a_7c15);
    let mut z = *state;
    z = (z ^ (z >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
    z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
    z ^ (z >> 31)
}
