//! Element-wise ops into those that read them.
//!
//! Owns: which programs become one, constants inside of them. Must not know: what operations do. Invariant: no element changes by a bit, because each operation
//! rounds; nothing that is worth much work is computed twice.
//!
//! ```text
//! before   add(multiply(uniform(9), constant(2)), uniform(9))
//! after    multiply + add(uniform(9))                             (the same numbers: read once)
//! before   exp(constant(1))
//! after    constant(2.718281828459045)
//! before   sqrt(sum(multiply(uniform(9))))
//! after    multiply + sum + sqrt(uniform(9))                      (one pass over the numbers)
//! ```
//!
//! An op goes into its reader if that is the only one, and element-wise too, or a reduction; and into a reduction that it alone reads. Of several readers each takes it in if it is worth less than to write it and to read it
//! again. A program is of bounded length, so that a chain of a million ops is thousands of programs.

use std::collections::HashMap;
use std::sync::Arc;

use smallvec::{SmallVec, smallvec};

use super::super::expr::{Existing, Generator, Primitive, Reduce};
use super::order::ReaderOrder;
use super::{ExprId, Exprs, Inputs};
use crate::error::Result;
use crate::kernel::map::{Builder, ScalarOp, ScalarProgram, Value};
use crate::shape::{ChunkGrid, Region, Scalar, ViewAxis};

/// Operations of a program, at most: as many as twenty steps of a recurrence of complex numbers have.
const MOST_OPERATIONS: usize = 512;
/// Work of their functions, at most, an addition being one: as much as some fifteen sines are. Beyond that it is nothing to write a chunk and read it again, and compilers of GPUs take
/// seconds for what is longer.
const MOST_FUNCTIONS: f64 = 300.0;
/// Arrays that a program reads, at most: each is a stream of its own for the memory.
const MOST_INPUTS: usize = 12;
/// As many as one operation alone may have.
const LEAST_INPUTS: usize = 3;
/// What a GPU binds beside what a program reads: its result, what a reduction leaves for its second pass, and words for faults.
const BOUND_BESIDE: usize = 3;
/// Of these, those of which chunks are made or read for it: they are in memory all at once.
const MOST_HELD: usize = 4;
/// What is worth no more than this may be computed by each of its readers ..
const CHEAP_WORK: f64 = 4.0;
/// .. if it reads no more arrays, and these are no more.
const CHEAP_INPUTS: usize = 2;
const MOST_COPIES: usize = 4;

/// The expressions after the pass, and which the roots are; no program has more operands than this.
///
/// # Errors
/// As [`super::Op::new`].
pub(super) fn pass(old: &Exprs, roots: &[ExprId], most_operands: usize) -> Result<(Exprs, Vec<ExprId>)> {
    let most_inputs = most_operands.saturating_sub(BOUND_BESIDE).clamp(LEAST_INPUTS, MOST_INPUTS);
    let clusters = Clusters::of(old, roots, most_inputs);
    let mut new = Exprs::default();
    let mut made: Vec<Option<ExprId>> = vec![None; old.all.len()];
    for number in 0..old.all.len() {
        let id = ExprId(number as u32);
        let Some(members) = &clusters.members[number] else { continue };
        let op = old.op(id);
        let is_alone = members.len() == 1 && !has_constants_or_twins(old, id);
        let one = match &op.primitive {
            Primitive::Map(_) if !is_alone => fused(old, &mut new, (id, members), &made)?,
            Primitive::Reduce(reduce) if members.len() > 1 => reduced((old, &mut new), (id, &members[1..]), reduce, &made)?,
            _ => {
                let inputs = old.inputs(id).iter().map(|input| made[input.index()].expect("made before")).collect();
                new.intern(op.clone(), inputs)
            }
        };
        made[number] = Some(match &op.primitive {
            Primitive::Map(_) if clusters.is_only_reader(old, members) => ended(&mut new, one)?,
            _ => one,
        });
    }
    Ok((new, roots.iter().map(|root| made[root.index()].expect("a root is made")).collect()))
}

fn program(exprs: &Exprs, id: ExprId) -> Option<&Arc<ScalarProgram>> {
    match &exprs.op(id).primitive {
        Primitive::Map(program) => Some(program),
        _ => None,
    }
}

/// Operations of a program, but for what takes complex numbers apart and puts them together: of that nothing is left between two of them.
fn operations(exprs: &Exprs, id: ExprId) -> Option<usize> {
    let is_work = |op: &ScalarOp| !matches!(op, ScalarOp::Re | ScalarOp::Im | ScalarOp::Compose);
    program(exprs, id).map(|program| program.ops().filter(is_work).count())
}

/// The work of a program's functions: what its operations are worth beyond one each.
fn functions(exprs: &Exprs, id: ExprId) -> f64 {
    program(exprs, id).map_or(0.0, |program| (program.mix().total() - program.ops().count() as f64).max(0.0))
}

pub(super) fn constant(exprs: &Exprs, id: ExprId) -> Option<Scalar> {
    match &exprs.op(id).primitive {
        Primitive::Generate(Generator::Constant(scalar), _) => Some(*scalar),
        _ => None,
    }
}

/// Whether a program would be shorter for what is known of its inputs.
fn has_constants_or_twins(exprs: &Exprs, id: ExprId) -> bool {
    let inputs = exprs.inputs(id);
    inputs.iter().enumerate().any(|(at, input)| constant(exprs, *input).is_some() || inputs[..at].contains(input))
}

/// Whether others may be made with an op.
fn takes(exprs: &Exprs, id: ExprId) -> bool {
    matches!(exprs.op(id).primitive, Primitive::Map(_) | Primitive::Reduce(_))
}

/// How an op cuts what it takes.
fn cut(exprs: &Exprs, id: ExprId) -> &ChunkGrid {
    match &exprs.op(id).primitive {
        Primitive::Reduce(_) => &exprs.op(exprs.inputs(id)[0]).grid,
        _ => &exprs.op(id).grid,
    }
}

/// What one program is made of.
#[derive(Default)]
struct Cluster {
    /// Ops that are joined.
    ops: usize,
    /// Operations of their programs, and the work of their functions.
    operations: usize,
    functions: f64,
    /// Arrays that it reads.
    inputs: SmallVec<[ExprId; 8]>,
}

/// Which ops become one.
struct Clusters {
    /// Of each expression that is made, those that are made with it, the last reader first; `None` for those that are not made by themselves.
    members: Vec<Option<Vec<ExprId>>>,
    /// Who reads an expression; for a root, it too.
    readers: Vec<SmallVec<[ExprId; 2]>>,
    /// The expressions whose programs an op is part of.
    homes: Vec<SmallVec<[ExprId; 1]>>,
}

impl Clusters {
    fn of(exprs: &Exprs, roots: &[ExprId], most_inputs: usize) -> Self {
        let count = exprs.all.len();
        let mut members: Vec<Option<Vec<ExprId>>> = vec![None; count];
        let mut readers: Vec<SmallVec<[ExprId; 2]>> = vec![SmallVec::new(); count];
        let mut clusters: HashMap<ExprId, Cluster> = HashMap::new();
        let mut homes: Vec<SmallVec<[ExprId; 1]>> = vec![SmallVec::new(); count];
        let mut is_root = vec![false; count];
        // What is computed again if an op is copied, it and what it is copied for.
        let mut copied = vec![0.0f64; count];
        roots.iter().for_each(|root| is_root[root.index()] = true);
        let mut order = ReaderOrder::new(exprs, roots);
        let uses = order.awaited().to_vec();
        while let Some(id) = order.next(exprs) {
            let number = id.index();
            for &input in exprs.inputs(id) {
                if readers[input.index()].last() != Some(&id) {
                    readers[input.index()].push(id);
                }
            }
            let found = if is_root[number] {
                None
            } else {
                heads((exprs, id), &readers[number], (&homes, &copied), (&clusters, &uses, most_inputs))
            };
            homes[number] = match found {
                Some((heads, again)) => {
                    copied[number] = again;
                    for head in &heads {
                        members[head.index()].get_or_insert_default().push(id);
                        clusters.entry(*head).or_default().join(exprs, id);
                    }
                    heads
                }
                None => {
                    members[number] = Some(vec![id]);
                    if takes(exprs, id) {
                        clusters.entry(id).or_default().join(exprs, id);
                    }
                    smallvec![id]
                }
            };
        }
        roots.iter().for_each(|&root| readers[root.index()].push(root));
        Self { members, readers, homes }
    }

    /// Whether these, which are one program, are the only ones that read what they read, and in no other program.
    fn is_only_reader(&self, exprs: &Exprs, members: &[ExprId]) -> bool {
        let mut inputs = members
            .iter()
            .flat_map(|&member| exprs.inputs(member))
            .filter(|input| !self.homes[input.index()].contains(&members[0]) && constant(exprs, **input).is_none());
        let is_here = |reader: &ExprId| self.homes[reader.index()][..] == members[..1];
        inputs.all(|input| self.readers[input.index()].iter().all(is_here))
    }
}

impl Cluster {
    fn join(&mut self, exprs: &Exprs, id: ExprId) {
        self.ops += 1;
        self.operations += operations(exprs, id).unwrap_or(0);
        self.functions += functions(exprs, id);
        self.inputs.retain(|input| *input != id);
        for &input in exprs.inputs(id) {
            if constant(exprs, input).is_none() && !self.inputs.contains(&input) {
                self.inputs.push(input);
            }
        }
    }

    fn has_room(&self, exprs: &Exprs, id: ExprId, uses: &[u32], most_inputs: usize) -> bool {
        // What one op alone reads will be made with it.
        let is_held = |input: ExprId| is_held(exprs, input) && (uses[input.index()] > 1 || program(exprs, input).is_none());
        let more = exprs.inputs(id).iter().filter(|input| !self.inputs.contains(input)).count();
        let held = self.inputs.iter().filter(|&&input| input != id && is_held(input)).count();
        let more_held = exprs.inputs(id).iter().filter(|&&input| !self.inputs.contains(&input) && is_held(input)).count();
        operations(exprs, id).is_some_and(|more| self.operations + more <= MOST_OPERATIONS)
            && self.functions + functions(exprs, id) <= MOST_FUNCTIONS
            && self.ops < MOST_OPERATIONS
            && self.inputs.len() + more <= most_inputs + 1
            && held + more_held <= MOST_HELD.max(held)
    }
}

/// Whether chunks of an expression take memory of their own: not those of the caller's arrays, nor what is made where it is used, and what is repeated is small.
fn is_held(exprs: &Exprs, mut id: ExprId) -> bool {
    while let Primitive::View(view) = &exprs.op(id).primitive {
        if view.axes().iter().any(ViewAxis::is_repeated) {
            return false;
        }
        id = exprs.inputs(id)[0];
    }
    !matches!(
        exprs.op(id).primitive,
        Primitive::Source(Existing::Memory { .. }, _)
            | Primitive::Generate(Generator::Constant(_) | Generator::Random { .. } | Generator::Points { .. }, _)
    )
}

/// The expressions in whose programs an op goes, if it is not made by itself; if these are several, the work that is done again for it.
fn heads(
    (exprs, id): (&Exprs, ExprId),
    readers: &[ExprId],
    (homes, copied): (&[SmallVec<[ExprId; 1]>], &[f64]),
    (clusters, uses, most_inputs): (&HashMap<ExprId, Cluster>, &[u32], usize),
) -> Option<(SmallVec<[ExprId; 1]>, f64)> {
    let own = program(exprs, id)?;
    let mut heads: SmallVec<[ExprId; 1]> = SmallVec::new();
    for reader in readers {
        if !takes(exprs, *reader) {
            return None;
        }
        for &head in &homes[reader.index()] {
            if *cut(exprs, head) != exprs.op(id).grid {
                return None;
            }
            if !heads.contains(&head) {
                heads.push(head);
            }
            if heads.len() > MOST_COPIES {
                return None;
            }
        }
    }
    let before = readers.iter().map(|reader| copied[reader.index()]).fold(0.0, f64::max);
    let again = if heads.len() > 1 { before + own.mix().total() } else { 0.0 };
    let is_cheap = heads.len() == 1 || again <= CHEAP_WORK && exprs.inputs(id).len() <= CHEAP_INPUTS;
    let has_room = |head: &ExprId| clusters.get(head).is_none_or(|cluster| cluster.has_room(exprs, id, uses, most_inputs));
    (is_cheap && heads.iter().all(has_room)).then_some((heads, again))
}

/// The program of several, in the order of their readers, and its inputs.
fn joined(old: &Exprs, members: &[ExprId], made: &[Option<ExprId>]) -> (ScalarProgram, Inputs) {
    let mut builder = Builder::new();
    let mut values: HashMap<ExprId, Value> = HashMap::new();
    let mut inputs = Inputs::new();
    let mut last = None;
    for &member in members.iter().rev() {
        let args: SmallVec<[Value; 8]> = old
            .inputs(member)
            .iter()
            .map(|&input| {
                *values.entry(input).or_insert_with(|| match constant(old, input) {
                    Some(scalar) => builder.constant(scalar),
                    None => {
                        inputs.push(made[input.index()].expect("made before"));
                        builder.input(old.op(input).dtype)
                    }
                })
            })
            .collect();
        let value = builder.inline(program(old, member).expect("only programs are members"), &args);
        values.insert(member, value);
        last = Some(value);
    }
    let (program, used) = builder.finish(last.expect("a cluster has its head"));
    (program, used.iter().map(|&input| inputs[input]).collect())
}

/// The expression of a reduction of what several make.
fn reduced(
    (old, new): (&Exprs, &mut Exprs),
    (head, members): (ExprId, &[ExprId]),
    reduce: &Reduce,
    made: &[Option<ExprId>],
) -> Result<ExprId> {
    let (op, of) = (old.op(head), old.op(old.inputs(head)[0]));
    let (program, mut inputs) = joined(old, members, made);
    let mut reduce = Reduce { of: None, ..reduce.clone() };
    if let Some(scalar) = program.constant() {
        let all = Primitive::Generate(Generator::Constant(scalar), Region::all(&of.shape));
        inputs = smallvec![new.place(all, Inputs::new(), (of.shape.clone(), of.dtype), of.grid.clone())?];
    } else if program.passes().is_none() || new.op(inputs[0]).grid != of.grid {
        reduce.of = Some((Arc::new(program), of.grid.clone()));
    }
    new.place(Primitive::Reduce(reduce), inputs, (op.shape.clone(), op.dtype), op.grid.clone())
}

/// A program of a reduction's result alone goes with it.
fn ended(new: &mut Exprs, one: ExprId) -> Result<ExprId> {
    let (op, inputs) = (new.op(one).clone(), new.inputs(one));
    let (Primitive::Map(program), &[of]) = (&op.primitive, inputs) else { return Ok(one) };
    let of_op = new.op(of).clone();
    match &of_op.primitive {
        Primitive::Reduce(reduce) if reduce.then.is_none() && of_op.grid == op.grid => {
            let inputs = new.inputs(of).iter().copied().collect();
            let reduce = Reduce { then: Some(program.clone()), ..reduce.clone() };
            new.place(Primitive::Reduce(reduce), inputs, (op.shape.clone(), op.dtype), op.grid.clone())
        }
        _ => Ok(one),
    }
}

/// The expression of a program that is made of several.
fn fused(old: &Exprs, new: &mut Exprs, (head, members): (ExprId, &[ExprId]), made: &[Option<ExprId>]) -> Result<ExprId> {
    let (program, inputs) = joined(old, members, made);
    let op = old.op(head);
    let like = (op.shape.clone(), op.dtype);
    if let Some(scalar) = program.constant() {
        let all = Region::all(&op.shape);
        return new.place(Primitive::Generate(Generator::Constant(scalar), all), Inputs::new(), like, op.grid.clone());
    }
    if program.passes().is_some() {
        return match new.op(inputs[0]).grid == op.grid {
            true => Ok(inputs[0]),
            false => new.place(Primitive::Rechunk, inputs, like, op.grid.clone()),
        };
    }
    new.place_as((Primitive::Map(Arc::new(program)), inputs), like, op.grid.clone(), op.is_flexible)
}

#[cfg(test)]
mod tests {
    use super::super::super::Array;
    use super::super::text::{text, uniform};
    use super::*;
    use crate::shape::Element;

    /// An array's expression, as it is written and after the passes.
    #[track_caller]
    fn becomes<T: Element>(array: &Array<T>, before: &str, after: &str) {
        let optimized = |exprs: &Exprs, roots: &[ExprId]| super::super::optimized(exprs, roots, usize::MAX);
        super::super::text::becomes(array, before, after, optimized);
    }

    #[test]
    fn chains_are_one_program() {
        let x = uniform(&[9]);
        becomes(&((&x * 2.0) + &x).sqrt(), "sqrt(add(multiply(uniform(9)), uniform(9)))", "multiply + add + sqrt(uniform(9))");
        becomes(
            &(&x * &Array::full(9, 2.0)).cast::<f32>(),
            "cast(multiply(uniform(9), constant(2)))",
            "multiply + cast(uniform(9))",
        );
    }

    #[test]
    fn constants_are_folded_and_slices_touch_what_they_need() {
        let e = Array::<f64>::ones((10_000, 10_000)).exp();
        becomes(
            &e.slice(ndarray::s![1..100, 1..100]),
            "view[a0 1..100, a1 1..100](exp(constant(1)))",
            "constant(2.718281828459045)",
        );
        let x = uniform(&[20, 9]);
        becomes(
            &(&x + &x.t().t()).t().slice(ndarray::s![3, ..;-2]),
            "view[a1 19..0 by -2](view[a1 0..9, a0 0..20](add(uniform(20, 9), view[a1 0..20, a0 0..9](view[a1 0..9, a0 0..20](uniform(20, 9))))))",
            "add(view[a0 9..-1 by -1](uniform(20, 9)[1..20 by 2, 3]))",
        );
    }

    #[test]
    fn what_is_reduced_is_one_pass_and_made_once() {
        let x = uniform(&[9]);
        becomes(
            &((&x * 2.0).mean() * 2.0),
            "multiply(divide(sum(multiply(uniform(9)))))",
            "multiply + sum + divide + multiply(uniform(9))",
        );
        // However little is done before each of its readers.
        let mean = x.mean();
        let (exprs, roots) = Exprs::of(&[&(&mean * 2.0).node, &(&mean * 3.0).node], None).unwrap();
        let (new, made) = super::super::optimized(&exprs, &roots, usize::MAX).unwrap();
        let found: Vec<String> = made.iter().map(|&root| text(&new, root)).collect();
        assert_eq!(found, ["divide + multiply(sum(uniform(9)))"; 2]);
    }

    /// The number of programs that are left of an array.
    fn programs<T: Element>(array: &Array<T>) -> usize {
        programs_within(array, usize::MAX).len()
    }

    /// Of each program that is left of an array, how many arrays it reads.
    fn programs_within<T: Element>(array: &Array<T>, most_operands: usize) -> Vec<usize> {
        let (exprs, roots) = Exprs::of(&[&array.node], None).unwrap();
        let (new, made) = super::super::optimized(&exprs, &roots, most_operands).unwrap();
        let mut seen = std::collections::HashSet::new();
        let mut stack = made;
        while let Some(id) = stack.pop() {
            if seen.insert(id) {
                stack.extend(new.inputs(id));
            }
        }
        seen.into_iter().filter(|&id| program(&new, id).is_some()).map(|id| new.inputs(id).len()).collect()
    }

    #[test]
    fn a_program_reads_no_more_than_a_gpu_binds() {
        let x = uniform(&[9]);
        // Each is made by itself, because a sum stands between.
        let all: Vec<Array<f64>> = (0..40).map(|k| &x * &(&x + f64::from(k)).sum()).collect();
        let sum = all.iter().skip(1).fold(all[0].clone(), |sum, x| sum + x);
        for (operands, most) in [(usize::MAX, MOST_INPUTS), (16, MOST_INPUTS), (8, 5), (1, LEAST_INPUTS)] {
            let inputs = programs_within(&sum, operands);
            assert!(inputs.iter().all(|&inputs| inputs <= most), "{operands}: {inputs:?}");
            assert!(inputs.contains(&most), "{operands}: {inputs:?}");
        }
    }

    #[test]
    fn one_program_whatever_the_order_of_operands() {
        let x = uniform(&[9]);
        // Twenty masks, each of the step before, first and last.
        for is_first in [true, false] {
            let (mut z, mut count) = (x.clone(), Array::<f64>::zeros(9).in_session(&x.session()));
            for _ in 0..20 {
                z = &z * &z + &x;
                let mask = z.le(2.0);
                count = if is_first {
                    super::super::super::where_(&mask, &(&count + 1.0), &count)
                } else {
                    count + mask.cast::<f64>()
                };
            }
            assert_eq!(programs(&count), 1, "{is_first}");
        }
        // A balanced sum, and one of many arrays that are made where they are used.
        let mut terms: Vec<Array<f64>> = (0..32).map(|k| (&x - f64::from(k)).abs()).collect();
        while terms.len() > 1 {
            terms = terms.chunks(2).map(|pair| &pair[0] + &pair[1]).collect();
        }
        assert_eq!(programs(&terms[0]), 1);
        let rng = x.session().rng(1);
        let sum = (0..8).map(|_| rng.uniform::<f64>(9)).reduce(|a, b| a + b).unwrap();
        assert_eq!(programs(&sum), 1);
    }

    #[test]
    fn many_functions_are_several_programs() {
        let x = uniform(&[9]);
        let sines = |count: usize| (0..count).fold(x.clone(), |z, k| (z + f64::from(k as u32)).sin());
        assert_eq!([10, 40, 80].map(|count| programs(&sines(count))), [1, 3, 5]);
        assert_eq!(programs(&x.powf(2.5)), 1);
    }

    #[test]
    fn what_is_dear_is_made_once() {
        let x = uniform(&[9]);
        let (dear, cheap) = (x.exp(), &x + 1.0);
        // Both readers are programs of their own, because a sum stands between.
        let both = |y: &Array<f64>| (y * &y.sum()) - (y * 3.0);
        becomes(
            &both(&dear),
            "subtract(multiply(exp(uniform(9)), view[new 9](sum(exp(uniform(9))))), multiply(exp(uniform(9))))",
            "multiply + multiply + subtract(exp(uniform(9)), view[new 9](sum(exp(uniform(9)))))",
        );
        let (exprs, roots) =
            Exprs::of(&[&(&cheap * 2.0).node, &(&cheap * 3.0).node, &(&dear * 2.0).node, &(&dear * 3.0).node], None).unwrap();
        let (new, made) = super::super::optimized(&exprs, &roots, usize::MAX).unwrap();
        let found: Vec<String> = made.iter().map(|&root| text(&new, root)).collect();
        assert_eq!(found[0], "add + multiply(uniform(9))");
        assert_eq!(found[2], "multiply(exp(uniform(9)))");
    }
}
