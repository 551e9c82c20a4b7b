//! Views toward the sources.
//!
//! Owns: what a view of each primitive is. Must not know: tasks. Invariant: what is asked of an expression is a view of it and a grid for that; each such
//! question is answered once, after those that it leads to.
//!
//! ```text
//! before   view[a0 90..110, a1 3..5](concat 0 (uniform(100, 9), uniform(100, 9)))
//! after    concat 0 (uniform(100, 9)[90..100, 3..5], uniform(100, 9)[0..10, 3..5])
//! before   view[a0 0..4, a1 8..-1 by -1](view[a0 2..10 by 2, a1 0..9](stored))
//! after    view[a0 0..4, a1 8..-1 by -1](stored[2..9 by 2, 0..9])      (read as it lies, seen flipped)
//! before   view[a0 2..4](sum(uniform(20, 9)))
//! after    sum(uniform(20, 9)[2..4, 0..9])
//! before   mean(rechunk(rechunk(matvec(..))))
//! after    mean(rechunk(matvec(..)))
//! ```
//!
//! A source reads, and a generator makes, a box of its array, perhaps with steps ([`split`]): what else a view does is left for those who read the chunks.

use std::collections::HashMap;
use std::rc::Rc;

use smallvec::smallvec;

use super::super::expr::{Call, Existing, Generator, Op, Primitive, Reduce};
use super::super::grids;
use super::{ExprId, Exprs, Inputs};
use crate::error::{Error, Result};
use crate::shape::{AxisRange, ChunkGrid, Layout, Region, View, ViewAxis};

/// A question: what a view (`None`: all) shows of an expression, cut so.
type Question = (ExprId, Option<View>, ChunkGrid);

/// The expressions after the pass, and which the roots are.
///
/// # Errors
/// As [`Op::new`]; [`Error::Argument`] if views fall into too many parts.
pub(super) fn pass(old: &Exprs, roots: &[ExprId]) -> Result<(Exprs, Vec<ExprId>)> {
    let is_shared = shared(old, roots);
    let mut pass = ViewPass { old, new: Exprs::default(), known: HashMap::new(), ends: HashMap::new(), is_shared };
    let mut made = Vec::with_capacity(roots.len());
    for &root in roots {
        let question = pass.all_of(root);
        made.push(pass.answer(question)?);
    }
    Ok((pass.new, made))
}

/// So many questions, beside some for each expression, are no plan that anybody waits for.
const MOST_QUESTIONS: usize = 1 << 18;

struct ViewPass<'a> {
    old: &'a Exprs,
    new: Exprs,
    known: HashMap<Question, ExprId>,
    /// Of each concatenation that is seen in part, where each input ends.
    ends: HashMap<ExprId, Rc<[usize]>>,
    /// Whether an element-wise op may be asked for in several ways: then it is made once, in its own chunks, and views are of that.
    is_shared: Vec<bool>,
}

/// Which expressions may be asked several questions: those that several others, or roots, read, by themselves or through views.
fn shared(exprs: &Exprs, roots: &[ExprId]) -> Vec<bool> {
    let mut asked = vec![0u32; exprs.all.len()];
    roots.iter().for_each(|root| asked[root.index()] += 1);
    for number in (0..exprs.all.len()).rev() {
        let id = ExprId(number as u32);
        // What is made once asks once; what views go through asks as often as it is asked.
        let often = match &exprs.op(id).primitive {
            Primitive::View(_) | Primitive::Concat(_) | Primitive::Rechunk | Primitive::Call(Call { pointwise: true, .. }) => {
                asked[number]
            }
            _ => asked[number].min(1),
        };
        exprs.inputs(id).iter().for_each(|input| asked[input.index()] = asked[input.index()].saturating_add(often));
    }
    asked.into_iter().map(|often| often > 1).collect()
}

/// What a question leads to.
enum Step {
    /// It is answered.
    Done(ExprId),
    /// First these are to be answered.
    After(Vec<Question>),
}

impl ViewPass<'_> {
    fn all_of(&self, expr: ExprId) -> Question {
        (expr, None, self.old.op(expr).grid.clone())
    }

    fn answer(&mut self, question: Question) -> Result<ExprId> {
        let mut stack = vec![question.clone()];
        while let Some(top) = stack.last().cloned() {
            if self.known.contains_key(&top) {
                stack.pop();
                continue;
            }
            if self.known.len() > MOST_QUESTIONS + 8 * self.old.all.len() {
                let wanted = "a view of concatenations of concatenations would fall into more parts; compute or store what they are made of first";
                return Err(Error::argument("number of parts", format!("more than {}", self.known.len() - 1), wanted));
            }
            match self.step(&top)? {
                Step::Done(made) => _ = self.known.insert(top, made),
                Step::After(missing) => stack.extend(missing.into_iter().rev()),
            }
        }
        Ok(self.known[&question])
    }

    /// The answers to these questions, if all are known.
    fn known(&self, questions: Vec<Question>) -> std::result::Result<Inputs, Step> {
        let missing: Vec<Question> = questions.iter().filter(|q| !self.known.contains_key(q)).cloned().collect();
        if missing.is_empty() { Ok(questions.iter().map(|q| self.known[q]).collect()) } else { Err(Step::After(missing)) }
    }

    fn step(&mut self, (expr, view, grid): &Question) -> Result<Step> {
        let old = self.old;
        let (op, inputs) = (&**old.op(*expr), old.inputs(*expr));
        let view = view.as_ref().filter(|view| !view.is_whole(&op.shape));
        let questions = match (&op.primitive, view) {
            (Primitive::View(outer), view) => {
                let both = view.map_or_else(|| Ok(outer.clone()), |view| outer.then(view))?;
                return Ok(self.same_as((inputs[0], Some(both), grid.clone())));
            }
            (Primitive::Rechunk, view)
                if view.is_some()
                    || old.op(inputs[0]).is_flexible
                    || matches!(old.op(inputs[0]).primitive, Primitive::Rechunk) =>
            {
                return Ok(self.same_as((inputs[0], view.cloned(), grid.clone())));
            }
            (Primitive::Source(..) | Primitive::Generate(..), _) => return Ok(Step::Done(self.leaf(op, view, grid)?)),
            (Primitive::Concat(axis), Some(view)) => {
                let ends = self.ends(*expr, *axis);
                return self.joined(op, parts((inputs, &ends), *axis, view, grid)?, view, grid);
            }
            (Primitive::Map(_), view) if self.is_shared[expr.index()] && (view.is_some() || *grid != op.grid) => {
                return match self.known(vec![self.all_of(*expr)]) {
                    Err(after) => Ok(after),
                    Ok(whole) => Ok(Step::Done(self.seen(whole[0], view.cloned(), grid)?)),
                };
            }
            (Primitive::Map(_) | Primitive::Call(Call { pointwise: true, .. }), Some(view)) => {
                return self.through(op, inputs, view, grid);
            }
            (Primitive::Reduce(reduce), Some(view)) if !self.is_shared[expr.index()] => {
                return self.less((op, reduce), inputs[0], view, grid);
            }
            (Primitive::Map(_) | Primitive::Call(Call { pointwise: true, .. }), None) if op.is_flexible => {
                self.operands(&op.primitive, inputs, &View::whole(&op.shape), grid)?
            }
            _ => inputs.iter().map(|&input| self.all_of(input)).collect(),
        };
        let made = match self.known(questions) {
            Err(after) => return Ok(after),
            Ok(made) => made,
        };
        let whole = match (&op.primitive, self.new.op(*made.first().unwrap_or(&ExprId(0))).clone()) {
            (Primitive::Reshape, of) if reshaped(&of, op).is_some() => {
                let leaf = Op { primitive: reshaped(&of, op).expect("looked at"), ..op.clone() };
                return Ok(Step::Done(self.leaf(&leaf, view, grid)?));
            }
            (Primitive::Rechunk, _) => return Ok(Step::Done(self.seen(made[0], None, grid)?)),
            // A flexible one is made as it is asked for.
            (primitive, _) if view.is_none() && op.is_flexible => {
                let like = (op.shape.clone(), op.dtype);
                let is_made_once = self.is_shared[expr.index()] && matches!(primitive, Primitive::Map(_));
                let made = self.new.place_as((primitive.clone(), made), like, grid.clone(), !is_made_once)?;
                return Ok(Step::Done(made));
            }
            (primitive, _) => self.new.place(primitive.clone(), made, (op.shape.clone(), op.dtype), op.grid.clone())?,
        };
        Ok(Step::Done(self.seen(whole, view.cloned(), grid)?))
    }

    /// What a view shows of a concatenation: the answer for the only input that it touches, or the answers for several, joined along an axis.
    fn joined(&mut self, op: &Op, parts: (Vec<Question>, Option<usize>), view: &View, grid: &ChunkGrid) -> Result<Step> {
        let Some(axis) = parts.1 else {
            return Ok(self.same_as(parts.0.into_iter().next().expect("one part")));
        };
        let made = match self.known(parts.0) {
            Err(after) => return Ok(after),
            Ok(made) => made,
        };
        Ok(Step::Done(self.new.place(Primitive::Concat(axis), made, (view.shape(), op.dtype), grid.clone())?))
    }

    /// Where each input of a concatenation along an axis ends.
    fn ends(&mut self, concat: ExprId, axis: usize) -> Rc<[usize]> {
        let old = self.old;
        let of = |end: &mut usize, &input: &ExprId| {
            *end += old.op(input).shape[axis];
            Some(*end)
        };
        self.ends.entry(concat).or_insert_with(|| old.inputs(concat).iter().scan(0, of).collect()).clone()
    }

    /// The answer is that to another question.
    fn same_as(&self, question: Question) -> Step {
        self.known.get(&question).map_or_else(|| Step::After(vec![question.clone()]), |&made| Step::Done(made))
    }

    /// What a view shows of a new expression, cut so.
    fn seen(&mut self, of: ExprId, view: Option<View>, grid: &ChunkGrid) -> Result<ExprId> {
        let op = self.new.op(of).clone();
        match view {
            None if op.grid == *grid => Ok(of),
            None => self.new.place(Primitive::Rechunk, smallvec![of], (op.shape.clone(), op.dtype), grid.clone()),
            Some(view) => {
                let like = (view.shape(), op.dtype);
                self.new.place(Primitive::View(view), smallvec![of], like, grid.clone())
            }
        }
    }

    /// What a view shows of what exists or follows from indices: the box that is needed, and what is left of the view.
    fn leaf(&mut self, op: &Op, view: Option<&View>, grid: &ChunkGrid) -> Result<ExprId> {
        let Some(view) = view else {
            return self.new.place(op.primitive.clone(), Inputs::new(), (op.shape.clone(), op.dtype), grid.clone());
        };
        if let Primitive::Generate(constant @ Generator::Constant(_), _) = &op.primitive {
            let all = Primitive::Generate(constant.clone(), Region::all(&view.shape()));
            return self.new.place(all, Inputs::new(), (view.shape(), op.dtype), grid.clone());
        }
        let (part, outer) = split(view, &op.shape);
        let primitive = match &op.primitive {
            Primitive::Source(data, region) => Primitive::Source(data.clone(), region.part(&part)),
            Primitive::Generate(generator, region) => Primitive::Generate(generator.clone(), region.part(&part)),
            other => other.clone(),
        };
        let inner = match &outer {
            Some(outer) => grids::back(outer, grid, &part.shape())?,
            None => grid.clone(),
        };
        let leaf = self.new.place(primitive, Inputs::new(), (part.shape(), op.dtype), inner)?;
        if outer.is_some() { self.seen(leaf, outer, grid) } else { Ok(leaf) }
    }

    /// What a view shows of what is made of elements at the same place: made of what it shows of the inputs. Programs take any view that repeats nothing; of other views a
    /// box goes through, and so it does with kernels.
    fn through(&mut self, op: &Op, inputs: &[ExprId], view: &View, grid: &ChunkGrid) -> Result<Step> {
        let is_any = matches!(op.primitive, Primitive::Map(_)) && !view.axes().iter().any(ViewAxis::is_repeated);
        let (inner, outer) = match is_any {
            true => (view.clone(), None),
            false => {
                let (region, outer) = split(view, &op.shape);
                (View::region(&region), outer)
            }
        };
        let cut = match &outer {
            Some(outer) => grids::back(outer, grid, &inner.shape())?,
            None => grid.clone(),
        };
        match self.known(self.operands(&op.primitive, inputs, &inner, &cut)?) {
            Err(after) => Ok(after),
            Ok(made) => {
                let made = self.new.place(op.primitive.clone(), made, (inner.shape(), op.dtype), cut)?;
                Ok(Step::Done(self.seen(made, outer, grid)?))
            }
        }
    }

    /// What a view shows of what is reduced: as few of the axes that are left as it needs. How the others are cut, and so how their elements are put together, stays.
    fn less(&mut self, (op, reduce): (&Op, &Reduce), input: ExprId, view: &View, grid: &ChunkGrid) -> Result<Step> {
        let (region, outer) = split(view, &op.shape);
        let of = self.old.op(input);
        let mut kept = region.axes().iter();
        let range = |(axis, &len): (usize, &usize)| match reduce.axes.contains(&axis) {
            true => AxisRange { start: 0, len, step: 1 },
            false => *kept.next().expect("a range for each axis that is left"),
        };
        let part = View::region(&Region::from_axes(of.shape.iter().enumerate().map(range).collect()));
        // Cut as it was, whatever the reader wants: along the axes that go it is whole, so that larger chunks could be of any size.
        let cut = grids::through(&part, &of.grid, of.dtype)?;
        match self.known(vec![(input, Some(part).filter(|part| !part.is_whole(&of.shape)), cut)]) {
            Err(after) => Ok(after),
            Ok(made) => {
                let natural = grids::natural(op, &[&**self.new.op(made[0])])?;
                let made = self.new.place(op.primitive.clone(), made, (region.shape(), op.dtype), natural)?;
                Ok(Step::Done(self.seen(made, outer, grid)?))
            }
        }
    }

    /// What of the inputs makes what a view shows of the result, cut so: as it, where that costs nothing. Of a kernel the view is a box.
    fn operands(&self, of: &Primitive, inputs: &[ExprId], view: &View, grid: &ChunkGrid) -> Result<Vec<Question>> {
        let of = |(number, &input): (usize, &ExprId)| {
            let op = self.old.op(input);
            let (view, cut) = match of {
                Primitive::Call(call) => {
                    let along = &call.along[number];
                    let range = |&axis: &usize| {
                        let ViewAxis { extent, step, .. } = view.axes()[axis];
                        AxisRange { start: view.start()[axis], len: extent, step: step.unsigned_abs() }
                    };
                    let region = Region::from_axes(along.iter().map(range).collect());
                    (View::region(&region), ChunkGrid::of_axes(along.iter().map(|&axis| grid.along(axis)))?)
                }
                _ => (view.clone(), grid.clone()),
            };
            let cut = if op.is_flexible { cut } else { grids::through(&view, &op.grid, op.dtype)? };
            Ok((input, Some(view).filter(|view| !view.is_whole(&op.shape)), cut))
        };
        inputs.iter().enumerate().map(of).collect()
    }
}

/// A view as a box of the value, with steps, and what the view does beside: order of axes, direction, repeated and new axes; `None` if nothing.
fn split(view: &View, shape: &[usize]) -> (Region, Option<View>) {
    let along = |a: usize| view.axes().iter().find(|axis| axis.along == Some(a as u32));
    let none = AxisRange { start: 0, len: 0, step: 1 };
    let (mut ranges, mut starts) = (Vec::with_capacity(shape.len()), Vec::with_capacity(shape.len()));
    for (a, &start) in view.start().iter().enumerate() {
        let (range, at) = match along(a) {
            _ if view.is_empty() => (none, 0),
            None => (AxisRange { start, len: 1, step: 1 }, 0),
            Some(axis) if axis.step >= 0 => (AxisRange { start, len: axis.extent, step: axis.step.max(1) as usize }, 0),
            Some(axis) => {
                let last = axis.extent - 1;
                let lowest = start.wrapping_add_signed(axis.step.wrapping_mul(last as isize));
                (AxisRange { start: lowest, len: axis.extent, step: axis.step.unsigned_abs() }, last)
            }
        };
        ranges.push(range);
        starts.push(at);
    }
    let region = Region::from_axes(ranges);
    let axis = |axis: &ViewAxis| ViewAxis { step: axis.step.signum(), ..*axis };
    let outer = View::new(starts, view.axes().iter().map(axis).collect());
    let plain = outer.is_whole(&region.shape());
    (region, (!plain).then_some(outer))
}

/// A leaf in another shape, if its elements are those of one: their order does not depend on the shape.
fn reshaped(leaf: &Op, to: &Op) -> Option<Primitive> {
    match &leaf.primitive {
        Primitive::Source(Existing::Memory { bytes, offset, layout }, region)
            if layout.is_contiguous() && *region == Region::all(&layout.shape) =>
        {
            let layout = Layout::contiguous(layout.dtype, &to.shape);
            let data = Existing::Memory { bytes: bytes.clone(), offset: *offset, layout };
            Some(Primitive::Source(data, Region::all(&to.shape)))
        }
        Primitive::Generate(Generator::Random { what, seed, stream, shape }, region) if *region == Region::all(shape) => {
            let random = Generator::Random { what: *what, seed: *seed, stream: *stream, shape: to.shape.clone() };
            Some(Primitive::Generate(random, Region::all(&to.shape)))
        }
        Primitive::Generate(Generator::Constant(value), _) => {
            Some(Primitive::Generate(Generator::Constant(*value), Region::all(&to.shape)))
        }
        _ => None,
    }
}

/// What a view shows of each input of a concatenation that it touches, in the view's order, and the view's axis along which these follow each other; no axis if
/// there is one only.
fn parts(
    (inputs, ends): (&[ExprId], &[usize]),
    axis: usize,
    view: &View,
    grid: &ChunkGrid,
) -> Result<(Vec<Question>, Option<usize>)> {
    let offset_by = |view: &View, by: usize| {
        let mut start = view.start().to_vec();
        start[axis] -= by;
        View::new(start, view.axes().to_vec())
    };
    if view.is_empty() {
        return Ok((vec![(inputs[0], Some(view.clone()), grid.clone())], None));
    }
    let along = view.axes().iter().position(|a| a.along == Some(axis as u32));
    let (first, step) = (view.start()[axis], along.map_or(0, |k| view.axes()[k].step));
    let holder = |at: usize| {
        let number = ends.partition_point(|&end| end <= at);
        (inputs[number], if number == 0 { 0 } else { ends[number - 1] }, ends[number])
    };
    let Some(k) = along.filter(|&k| view.axes()[k].extent > 1) else {
        let (input, begin, _) = holder(first);
        return Ok((vec![(input, Some(offset_by(view, begin)), grid.clone())], None));
    };
    let mut touched = Vec::new();
    let (mut at, count) = (0, view.axes()[k].extent);
    while at < count {
        let index = first.wrapping_add_signed(step.wrapping_mul(at as isize));
        let (input, begin, end) = holder(index);
        let room = if step > 0 { end - 1 - index } else { index - begin };
        let more = (room / step.unsigned_abs() + 1).min(count - at);
        let mut start = view.start().to_vec();
        start[axis] = index - begin;
        let mut axes = view.axes().to_vec();
        axes[k] = ViewAxis { extent: more, step: if more > 1 { step } else { 0 }, ..axes[k] };
        touched.push((input, View::new(start, axes), at, more));
        at += more;
    }
    let several = (touched.len() > 1).then_some(k);
    let question = |(input, view, at, more): (ExprId, View, usize, usize)| {
        let is_part = |a: usize| a == k && several.is_some();
        let cuts = |a: usize| if is_part(a) { grids::within(&grid.along(a), at, more) } else { Ok(grid.along(a)) };
        let axes: Vec<ChunkGrid> = (0..grid.shape().len()).map(cuts).collect::<Result<_>>()?;
        Ok((input, Some(view), ChunkGrid::of_axes(axes)?))
    };
    Ok((touched.into_iter().map(question).collect::<Result<_>>()?, several))
}

#[cfg(test)]
mod tests {
    use ndarray::s;

    use super::super::super::Array;
    use super::super::text::uniform;
    use super::*;
    use crate::shape::Element;

    /// An array's expression, as it is written and after the pass.
    #[track_caller]
    fn becomes<T: Element>(array: &Array<T>, before: &str, after: &str) {
        super::super::text::becomes(array, before, after, pass);
    }

    #[test]
    fn a_slice_of_a_concatenation_is_of_what_it_touches() {
        let all = crate::array::concatenate(ndarray::Axis(0), &[&uniform(&[100, 9]), &uniform(&[100, 9])]);
        let both = "concat 0 (uniform(100, 9), uniform(100, 9))";
        becomes(
            &all.slice(s![90..110, 3..5]),
            &format!("view[a0 90..110, a1 3..5]({both})"),
            "concat 0 (uniform(100, 9)[90..100, 3..5], uniform(100, 9)[0..10, 3..5])",
        );
        becomes(&all.slice(s![150, ..]), &format!("view[a1 0..9]({both})"), "view[a1 0..9](uniform(100, 9)[50, 0..9])");
        becomes(
            &all.slice(s![98..103;-2, ..1]),
            &format!("view[a0 102..97 by -2, a1 0]({both})"),
            "concat 0 (view[a0 1..-1 by -1, a1 0](uniform(100, 9)[0..3 by 2, 0]), uniform(100, 9)[98, 0])",
        );
    }

    #[test]
    fn views_of_views_are_one_and_leaves_take_boxes() {
        let x = uniform(&[20, 9]);
        becomes(
            &x.slice(s![2..10;2, ..]).flip(ndarray::Axis(1)),
            "view[a0 0..4, a1 8..-1 by -1](view[a0 2..9 by 2, a1 0..9](uniform(20, 9)))",
            "view[a0 0..4, a1 8..-1 by -1](uniform(20, 9)[2..9 by 2, 0..9])",
        );
        becomes(&x.t().t(), "view[a1 0..20, a0 0..9](view[a1 0..9, a0 0..20](uniform(20, 9)))", "uniform(20, 9)");
        let ones = Array::<f64>::ones((20, 9));
        becomes(
            &ones.t().slice(s![..;-2, 3]).broadcast_to([7, 5]),
            "view[new 7, a0 0..5](view[a0 8..-1 by -2](view[a1 0..9, a0 0..20](constant(1))))",
            "constant(1)",
        );
        becomes(&x.reshape([180]).slice(s![7..9]), "view[a0 7..9](reshape(uniform(20, 9)))", "uniform(180)[7..9]");
    }

    #[test]
    fn of_what_is_reduced_only_what_is_seen_is_made() {
        let x = uniform(&[20, 9]);
        becomes(
            &x.sum_axis(ndarray::Axis(1)).slice(s![2..4]),
            "view[a0 2..4](sum(uniform(20, 9)))",
            "sum(uniform(20, 9)[2..4, 0..9])",
        );
        becomes(
            &x.over(0).keep_dims().max().slice(s![.., 2..9;-3]),
            "view[a0 0, a1 8..1 by -3](view[new 1, a0 0..9](max(uniform(20, 9))))",
            "view[new 1, a0 2..-1 by -1](max(uniform(20, 9)[0..20, 2..9 by 3]))",
        );
    }

    #[test]
    fn what_takes_any_chunks_is_not_rechunked() {
        let x = uniform(&[20, 9]);
        becomes(
            &x.slice(s![3.., ..]).rechunk(4),
            "rechunk(view[a0 3..20, a1 0..9](uniform(20, 9)))",
            "uniform(20, 9)[3..20, 0..9]",
        );
        let y = x.matvec(&uniform(&[9]));
        let product = "matvec(uniform(20, 9), uniform(9))";
        becomes(&y.rechunk(4).rechunk(7), &format!("rechunk(rechunk({product}))"), &format!("rechunk({product})"));
        becomes(&y.rechunk(4).rechunk(20), &format!("rechunk(rechunk({product}))"), product); // that is how it comes
    }

    #[test]
    fn equal_expressions_are_one() {
        let x = uniform(&[20, 9]);
        let (exprs, roots) = Exprs::of(&[&x.t().sum().node, &x.t().sum().node, &x.t().node], None).unwrap();
        assert_eq!((roots[0], exprs.inputs(roots[0])), (roots[1], &roots[2..]));
    }
}
