//! Expressions as text, for tests of passes.
//!
//! Owns: how an expression is written, what a pass makes of one. Must not know: passes. Invariant: what a pass may change is seen: the parts of leaves, views, the order of ops.

use super::super::Array;
use super::super::expr::{Existing, Generator, Primitive};
use super::{ExprId, Exprs};
use crate::error::Result;
use crate::shape::{Element, Region, View};

/// `concat 0 (uniform(4, 4)[0..2, 0..4], view(from_source)[.., 3..0 by -1])`.
pub(super) fn text(exprs: &Exprs, expr: ExprId) -> String {
    let op = exprs.op(expr);
    let inputs: Vec<String> = exprs.inputs(expr).iter().map(|&input| text(exprs, input)).collect();
    let part = |region: &Region, whole: &[usize]| match *region == Region::all(whole) {
        true => String::new(),
        false => ranges(region.axes().iter().map(|a| (a.start, a.len, a.step as isize))),
    };
    match &op.primitive {
        Primitive::Source(Existing::Memory { layout, .. }, region) => format!("memory{}", part(region, &layout.shape)),
        Primitive::Source(Existing::Stored(source), region) => format!("stored{}", part(region, source.0.shape())),
        Primitive::Generate(Generator::Random { what, shape, .. }, region) => {
            let extents: Vec<String> = shape.iter().map(ToString::to_string).collect();
            format!("{}({}){}", what.name(), extents.join(", "), part(region, shape))
        }
        Primitive::Generate(Generator::Spd { order, .. }, region) => format!("spd({order}){}", part(region, &[*order; 2])),
        Primitive::Generate(Generator::Points { count, .. }, region) => format!("points({count}){}", part(region, &[*count])),
        Primitive::Generate(Generator::Constant(value), region) => format!("constant({value}){}", part(region, &op.shape)),
        Primitive::Generate(Generator::Band { low, high, shape }, region) => {
            format!("band({low}..={high}){}", part(region, shape))
        }
        Primitive::Generate(Generator::Indexed { shape, .. }, region) => format!("indexed{}", part(region, shape)),
        Primitive::View(view) => format!("view{}({})", seen(view), inputs[0]),
        Primitive::Concat(axis) => format!("concat {axis} ({})", inputs.join(", ")),
        _ => format!("{}({})", op.name(), inputs.join(", ")),
    }
}

/// Asserts how an array's expression is written before and after a pass, and that its cuts stay.
#[track_caller]
pub(super) fn becomes<T: Element>(
    array: &Array<T>,
    before: &str,
    after: &str,
    pass: impl Fn(&Exprs, &[ExprId]) -> Result<(Exprs, Vec<ExprId>)>,
) {
    let (exprs, roots) = Exprs::of(&[&array.node], None).unwrap();
    assert_eq!(text(&exprs, roots[0]), before);
    let (new, made) = pass(&exprs, &roots).unwrap();
    assert_eq!(text(&new, made[0]), after);
    assert_eq!(new.op(made[0]).grid, exprs.op(roots[0]).grid);
}

/// Random numbers, the same at every call.
pub(super) fn uniform(shape: &[usize]) -> Array<f64> {
    super::super::laws::session().default_rng().uniform(shape)
}

/// `[2..8 by 3, 5..]`: first index, end, step of each axis.
fn ranges(axes: impl Iterator<Item = (usize, usize, isize)>) -> String {
    let axis = |(start, len, step): (usize, usize, isize)| {
        let end = start as isize + (len as isize - 1) * step + step.signum();
        let by = if step.abs() > 1 || step < 0 { format!(" by {step}") } else { String::new() };
        if len == 1 { format!("{start}") } else { format!("{start}..{end}{by}") }
    };
    format!("[{}]", axes.map(axis).collect::<Vec<_>>().join(", "))
}

/// `[a1 3..0 by -1, new 4]`: of each axis of a view, the value's axis and its indices.
fn seen(view: &View) -> String {
    let axis = |axis: &crate::shape::ViewAxis| match axis.along {
        Some(along) => {
            let range = ranges([(view.start()[along as usize], axis.extent, axis.step)].into_iter());
            format!("a{along} {}", range.trim_matches(['[', ']']))
        }
        None => format!("new {}", axis.extent),
    };
    format!("[{}]", view.axes().iter().map(axis).collect::<Vec<_>>().join(", "))
}
