//! Reductions: sums, means, extremes.
//!
//! Owns: what they are called, for which elements they are there, of what they are made. Must not know: how they are run. Invariant: each is made of a program, one of the
//! few reductions that kernels have, and a program of its result; partial results are merged by a tree whose shape the chunk grid fixes.

use ndarray::Axis;
use num_complex::Complex;

use super::super::Array;
use super::super::expr::{Expr, Node, Primitive, Reduce};
use super::over::Over;
use crate::error::{Result, or_panic};
use crate::kernel::map::{Builder, ScalarOp, ScalarProgram, Value};
use crate::kernel::reduce::Reduction;
use crate::shape::{Comparable, DType, Element, Float, Ordered, Real, Summed, View};

/// The program that makes something of each element of an expression; `None` if that is nothing new.
fn program(node: &Expr, build: impl FnOnce(&mut Builder, Value) -> Value) -> Option<ScalarProgram> {
    let mut builder = Builder::new();
    let x = builder.input(node.op.dtype);
    let made = build(&mut builder, x);
    (made != x).then(|| builder.finish(made).0)
}

impl<T> Over<T> {
    /// Reduces what `before` makes of each element, and makes the result of that.
    fn reduced<U: Element>(
        &self,
        what: Reduction,
        before: impl FnOnce(&mut Builder, Value) -> Value,
        then: impl FnOnce(&mut Builder, Value) -> Value,
    ) -> Result<Array<U>> {
        let of = program(&self.array.node, |b, x| {
            let x = before(b, x);
            let reads = what.reads(b.dtype(x));
            b.cast(x, reads)
        });
        let of = of.map_or_else(|| Ok(self.array.node.clone()), |of| Node::reduced(of, &self.array.node))?;
        let kept: Vec<usize> = (0..self.array.ndim()).filter(|axis| !self.axes.contains(axis)).collect();
        let shape: Vec<usize> = kept.iter().map(|&axis| self.array.shape()[axis]).collect();
        let reduce = Reduce { what, axes: self.axes.clone(), split_every: self.split_every, of: None, then: None };
        let gives = what.gives(of.op.dtype);
        let mut node = Node::new(Primitive::Reduce(reduce), vec![of], shape.clone(), gives)?;
        let then = program(&node, |b, x| {
            let made = then(b, x);
            b.cast(made, U::DTYPE)
        });
        if let Some(then) = then {
            let inputs = then.inputs().iter().map(|_| node.clone()).collect();
            node = Node::new(Primitive::Map(then.into()), inputs, shape, U::DTYPE)?;
        }
        let array = Array { node, session: self.array.session.clone(), element: std::marker::PhantomData };
        if !self.keeps {
            return Ok(array);
        }
        let mut view = View::whole(array.shape());
        for &axis in &self.axes {
            view = view.insert_axis(axis, 1)?;
        }
        array.viewed(view)
    }

    /// As [`Over::reduced`], where there is nothing that could be wrong.
    pub(super) fn made<U: Element>(
        &self,
        what: Reduction,
        before: impl FnOnce(&mut Builder, Value) -> Value,
        then: impl FnOnce(&mut Builder, Value) -> Value,
    ) -> Array<U> {
        or_panic(self.reduced(what, before, then))
    }

    /// One of the elements, or its number.
    fn chosen<U: Element>(&self, what: Reduction) -> Result<Array<U>> {
        self.some(what.name())?;
        self.reduced(what, |_, x| x, |_, x| x)
    }
}

/// Reductions that cannot fail: as methods of [`Over`], of all axes, and of one.
macro_rules! reductions {
    ($($name:ident $axis:ident ($($class:tt)+) ($($arg:ident: $type:ty)?) -> $gives:ty, $over:ident => $body:expr, $doc:literal $(, $more:literal)*;)*) => {$(
        impl<T: $($class)+> Over<T> {
            #[doc = $doc]
            $(#[doc = $more])*
            pub fn $name(&self $(, $arg: $type)?) -> Array<$gives> {
                let $over = self;
                $body
            }
        }

        impl<T: $($class)+> Array<T> {
            #[doc = $doc]
            ///
            /// Of all elements: an array of rank 0.
            $(#[doc = $more])*
            pub fn $name(&self $(, $arg: $type)?) -> Array<$gives> {
                self.over_all().$name($($arg)?)
            }

            #[doc = concat!("[`Array::", stringify!($name), "`] along one axis, which goes away; along others, and to keep it: [`Array::over`].")]
            ///
            /// # Panics
            /// If there is no such axis. [`Array::try_over`] returns that as an error.
            #[track_caller]
            pub fn $axis(&self, axis: Axis $(, $arg: $type)?) -> Array<$gives> {
                self.over(axis).$name($($arg)?)
            }
        }
    )*};
}

/// `x` divided by a number, both in `f64` or `Complex<f64>`.
fn divided(b: &mut Builder, x: Value, by: f64) -> Value {
    if !b.dtype(x).is_complex() {
        let by = b.constant(by);
        return b.apply(ScalarOp::Div, &[x, by]);
    }
    let parts = b.parts(x).map(|part| divided(b, part, by));
    b.apply(ScalarOp::Compose, &parts)
}

/// In `f64`, or `Complex<f64>`.
fn wide(b: &mut Builder, x: Value) -> Value {
    let to = if b.dtype(x).is_complex() { DType::C128 } else { DType::F64 };
    b.cast(x, to)
}

/// Integers in `f64`; floats as they are, which are added in `f64`.
fn measured(b: &mut Builder, x: Value) -> Value {
    if b.dtype(x).is_float() { x } else { b.cast(x, DType::F64) }
}

/// Whether a value is not 0.
fn is_nonzero(b: &mut Builder, x: Value) -> Value {
    if !b.dtype(x).is_complex() {
        return b.cast(x, DType::Bool);
    }
    let parts = b.parts(x).map(|part| b.cast(part, DType::Bool));
    b.apply(ScalarOp::Or, &parts)
}

/// What is left of floats where those that are NaN count as this.
fn without_nan(b: &mut Builder, x: Value, instead: f64) -> Value {
    let (is_nan, other) = (b.apply(ScalarOp::IsNan, &[x]), b.constant(instead));
    let other = b.cast(other, b.dtype(x));
    b.apply(ScalarOp::Where, &[is_nan, other, x])
}

reductions! {
    sum sum_axis (Summed) () -> T::Sum, over => over.made(Reduction::Sum, |_, x| x, |_, x| x),
        "The sum; 0 of no element. Floats are added in `f64`, in blocks that are added pairwise, and the sum is rounded once to the dtype; integers and booleans in 64 bits, modulo 2^64, so to the same bits however the array is cut.",
        "",
        "Of all elements of a file, chunks are summed as they are read, in blocks that stay in cache; parts that were never written are not read.",
        "",
        "```",
        "use chunkwise::{Array, prelude::*};",
        "assert_eq!(Array::from(ndarray::arr1(&[1.5f32, 2.0])).sum().compute_scalar()?, 3.5f32);",
        "assert_eq!(Array::from(ndarray::arr1(&[200u8, 100])).sum().compute_scalar()?, 300u64);",
        "assert_eq!(Array::from(ndarray::arr1(&[true, false, true])).sum().compute_scalar()?, 2i64);",
        "# Ok::<(), chunkwise::Error>(())",
        "```";
    prod prod_axis (Summed) () -> T::Sum, over => over.made(Reduction::Prod, |_, x| x, |_, x| x),
        "The product; 1 of no element. Floats are multiplied in `f64`, integers and booleans in 64 bits, modulo 2^64.",
        "",
        "```",
        "use chunkwise::{Array, prelude::*};",
        "assert_eq!(Array::from(vec![2i32, 3, 7]).prod().compute_scalar()?, 42i64);",
        "# Ok::<(), chunkwise::Error>(())",
        "```";
    mean mean_axis (Real) () -> f64, over => {
            let count = over.count();
            over.made(Reduction::Sum, measured, |b, x| divided(b, x, count))
        },
        "The mean, in `f64` whatever the dtype: the sum, as for `sum` but not rounded, divided by the number of elements. NaN of no element. (Of `f32`, a GPU without `f64` adds in `f32`.)",
        "",
        "```",
        "use chunkwise::{Array, prelude::*};",
        "let a = Array::from(ndarray::arr1(&[1.0f32, 2.0, 6.0]));",
        "assert_eq!(a.mean().compute_scalar()?, 3.0);",
        "# Ok::<(), chunkwise::Error>(())",
        "```";
    var var_axis (Real) (ddof: f64) -> f64, over => {
            let count = (over.count() - ddof).max(0.0);
            over.made(Reduction::Moments, |_, x| x, |b, x| divided(b, x, count))
        },
        "The variance, in `f64`: the sum of the squares of the distances from the mean, divided by the number of elements less `ddof`: 0.0 for that of all there is, 1.0 for an estimate from a sample. NaN or infinite where nothing is left to divide by.",
        "",
        "One pass: each lane of a block of 1024 elements sums distances from its first element, which loses nothing that matters (Samuelson's inequality bounds how far that is from the mean), and blocks are joined as Chan, Golub and LeVeque (1979) do. Where the mean is `k` standard deviations, the error is less than `(150 + 4 k) 2^-53`, relative. (Of `f32`, a GPU without `f64` adds in `f32`: squares of distances beyond its range become infinite or NaN, and those below it 0; `cast` to `f64` first keeps it to the CPU.)",
        "",
        "```",
        "use chunkwise::{Array, prelude::*};",
        "let x = Array::from(vec![1e9, 1e9 + 1.0, 1e9 + 2.0]);",
        "assert_eq!(x.var(1.0).compute_scalar()?, 1.0);",
        "# Ok::<(), chunkwise::Error>(())",
        "```";
    std std_axis (Real) (ddof: f64) -> f64, over => {
            let count = (over.count() - ddof).max(0.0);
            over.made(Reduction::Moments, |_, x| x, |b, x| {
                let var = divided(b, x, count);
                b.apply(ScalarOp::Sqrt, &[var])
            })
        },
        "The standard deviation, in `f64`: the square root of the variance (`var`).",
        "",
        "```",
        "use chunkwise::{Array, prelude::*};",
        "let x = Array::from(vec![1i32, 3, 5, 7]);",
        "assert_eq!(x.std(0.0).compute_scalar()?, 5f64.sqrt());",
        "# Ok::<(), chunkwise::Error>(())",
        "```";
    norm norm_axis (Real) () -> f64, over => over.made(Reduction::Sum, |b, x| {
                let x = wide(b, x);
                b.apply(ScalarOp::Mul, &[x, x])
            }, |b, x| b.apply(ScalarOp::Sqrt, &[x])),
        "The Euclidean (of a matrix, Frobenius) norm, in `f64`: the square root of the sum of the squares of the absolute values. Infinite where a square is too large for `f64`.",
        "",
        "```",
        "use chunkwise::{Array, prelude::*};",
        "assert_eq!(Array::from(vec![3, 4]).norm().compute_scalar()?, 5.0);",
        "# Ok::<(), chunkwise::Error>(())",
        "```";
    count_nonzero count_nonzero_axis (Comparable) () -> i64, over => over.made(Reduction::Sum, is_nonzero, |_, x| x),
        "How many elements are not 0 (NaN is not), or are true.",
        "",
        "```",
        "use chunkwise::{Array, prelude::*};",
        "let x = Array::from(vec![0.0, -0.0, 2.0, f64::NAN]);",
        "assert_eq!(x.count_nonzero().compute_scalar()?, 2);",
        "assert_eq!(x.gt(1.0).count_nonzero().compute_scalar()?, 1);",
        "# Ok::<(), chunkwise::Error>(())",
        "```";
    nansum nansum_axis (Float) () -> T::Sum, over => over.made(Reduction::Sum, |b, x| without_nan(b, x, 0.0), |_, x| x),
        "The sum of the elements that are not NaN; 0 if there is none.",
        "",
        "```",
        "use chunkwise::{Array, prelude::*};",
        "assert_eq!(Array::from(vec![1.0, f64::NAN, 2.0]).nansum().compute_scalar()?, 3.0);",
        "# Ok::<(), chunkwise::Error>(())",
        "```";
    nanmean nanmean_axis (Float) () -> f64, over => over.made(Reduction::Sum, |b, x| {
                // Numbers and how many they are, as the parts of complex numbers.
                let is_nan = b.apply(ScalarOp::IsNan, &[x]);
                let x = wide(b, x);
                let (zero, one) = (b.constant(0.0), b.constant(1.0));
                let parts = [x, one].map(|part| b.apply(ScalarOp::Where, &[is_nan, zero, part]));
                b.apply(ScalarOp::Compose, &parts)
            }, |b, x| {
                let parts = b.parts(x);
                b.apply(ScalarOp::Div, &parts)
            }),
        "The mean, in `f64`, of the elements that are not NaN; NaN if there is none.",
        "",
        "```",
        "use chunkwise::{Array, prelude::*};",
        "assert_eq!(Array::from(vec![1.0, f64::NAN, 2.0]).nanmean().compute_scalar()?, 1.5);",
        "# Ok::<(), chunkwise::Error>(())",
        "```";
}

/// Reductions of complex numbers that are called as those of real ones, and give something else: a trait, in the [`crate::prelude`], so that `mean` of what is only known to be a
/// number is that of real ones.
///
/// ```
/// use chunkwise::{Array, Complex, prelude::*};
/// let z = Array::from(vec![Complex::new(3.0, 0.0), Complex::new(0.0, 4.0)]);
/// assert_eq!(z.mean().compute_scalar()?, Complex::new(1.5, 2.0));
/// assert_eq!(z.norm().compute_scalar()?, 5.0);
/// # Ok::<(), chunkwise::Error>(())
/// ```
pub trait ComplexReductions {
    /// The mean, in `Complex<f64>`; of an [`Array`], of all elements. NaN of no element.
    fn mean(&self) -> Array<Complex<f64>>;
    /// The norm, in `f64`: the square root of the sum of the squares of the absolute values.
    fn norm(&self) -> Array<f64>;
}

impl<F: Float> ComplexReductions for Over<Complex<F>>
where
    Complex<F>: Element,
{
    fn mean(&self) -> Array<Complex<f64>> {
        let count = self.count();
        self.made(Reduction::Sum, wide, |b, x| divided(b, x, count))
    }

    fn norm(&self) -> Array<f64> {
        let squares = |b: &mut Builder, z| {
            let z = wide(b, z);
            let parts = b.parts(z).map(|x| b.apply(ScalarOp::Mul, &[x, x]));
            b.apply(ScalarOp::Add, &parts)
        };
        self.made(Reduction::Sum, squares, |b, x| b.apply(ScalarOp::Sqrt, &[x]))
    }
}

impl<F: Float> ComplexReductions for Array<Complex<F>>
where
    Complex<F>: Element,
{
    fn mean(&self) -> Array<Complex<f64>> {
        self.over_all().mean()
    }

    fn norm(&self) -> Array<f64> {
        self.over_all().norm()
    }
}

impl Over<bool> {
    /// Whether any is true; of no element, false.
    pub fn any(&self) -> Array<bool> {
        self.made(Reduction::Max, |_, x| x, |_, x| x)
    }

    /// Whether all are true; of no element, true.
    pub fn all(&self) -> Array<bool> {
        self.made(Reduction::Min, |_, x| x, |_, x| x)
    }
}

impl Array<bool> {
    /// Whether any element is true, an array of rank 0; of an empty array, false.
    ///
    /// ```
    /// use chunkwise::{Array, prelude::*};
    /// let x = Array::from(ndarray::arr2(&[[1, 2], [3, 4]]));
    /// assert!(x.gt(3).any().compute_scalar()? && !x.gt(3).all().compute_scalar()?);
    /// assert_eq!(x.gt(1).all_axis(Axis(1)).compute()?, ndarray::arr1(&[false, true]).into_dyn());
    /// # Ok::<(), chunkwise::Error>(())
    /// ```
    pub fn any(&self) -> Self {
        self.over_all().any()
    }

    /// Whether all elements are true, an array of rank 0; of an empty array, true.
    pub fn all(&self) -> Self {
        self.over_all().all()
    }

    /// [`Array::any`] along one axis.
    ///
    /// # Panics
    /// If there is no such axis. [`Array::try_over`] returns that as an error.
    #[track_caller]
    pub fn any_axis(&self, axis: Axis) -> Self {
        self.over(axis).any()
    }

    /// [`Array::all`] along one axis.
    ///
    /// # Panics
    /// If there is no such axis. [`Array::try_over`] returns that as an error.
    #[track_caller]
    pub fn all_axis(&self, axis: Axis) -> Self {
        self.over(axis).all()
    }
}

/// Reductions that choose an element, of which there must be one.
macro_rules! choices {
    ($($name:ident $try:ident $axis:ident ($($class:tt)+) $what:ident -> $gives:ty, $doc:literal $(, $more:literal)*;)*) => {$(
        impl<T: $($class)+> Over<T> {
            #[doc = $doc]
            ///
            /// # Panics
            #[doc = concat!("If an axis has no element. [`Over::", stringify!($try), "`] returns that as an error.")]
            #[track_caller]
            pub fn $name(&self) -> Array<$gives> {
                or_panic(self.$try())
            }

            #[doc = concat!("[`Over::", stringify!($name), "`], with an error instead of a panic.")]
            ///
            /// # Errors
            /// [`crate::Error::Shape`], which names the axis, if one has no element.
            pub fn $try(&self) -> Result<Array<$gives>> {
                self.chosen(Reduction::$what)
            }
        }

        impl<T: $($class)+> Array<T> {
            #[doc = $doc]
            ///
            /// Of all elements: an array of rank 0.
            $(#[doc = $more])*
            ///
            /// # Panics
            #[doc = concat!("If there is no element. [`Over::", stringify!($try), "`] returns that as an error.")]
            #[track_caller]
            pub fn $name(&self) -> Array<$gives> {
                self.over_all().$name()
            }

            #[doc = concat!("[`Array::", stringify!($name), "`] along one axis, which goes away; along others, and to keep it: [`Array::over`].")]
            ///
            /// # Panics
            /// If there is no such axis, or it has no element.
            #[track_caller]
            pub fn $axis(&self, axis: Axis) -> Array<$gives> {
                self.over(axis).$name()
            }
        }
    )*};
}

choices! {
    min try_min min_axis (Ordered) Min -> T, "The lowest; NaN, if an element is NaN.",
        "",
        "```",
        "use chunkwise::{Array, prelude::*};",
        "let x = Array::from(ndarray::arr2(&[[3u8, 1], [2, 9]]));",
        "assert_eq!((x.min().compute_scalar()?, x.max().compute_scalar()?), (1, 9));",
        "assert_eq!(x.min_axis(Axis(1)).compute()?, ndarray::arr1(&[1, 2]).into_dyn());",
        "# Ok::<(), chunkwise::Error>(())",
        "```";
    max try_max max_axis (Ordered) Max -> T, "The highest; NaN, if an element is NaN.";
    nanmin try_nanmin nanmin_axis (Float) FMin -> T, "The lowest that is not NaN; NaN, if all are.";
    nanmax try_nanmax nanmax_axis (Float) FMax -> T, "The highest that is not NaN; NaN, if all are.";
    argmin try_argmin argmin_axis (Ordered) ArgMin -> i64,
        "Where the lowest is: the number of the first of them, or of the first NaN, in C order of the reduced axes.",
        "",
        "```",
        "use chunkwise::{Array, prelude::*};",
        "let x = Array::from(ndarray::arr2(&[[3.0, 1.0], [2.0, 1.0]]));",
        "assert_eq!((x.argmin().compute_scalar()?, x.argmax().compute_scalar()?), (1, 0));",
        "assert_eq!(x.argmax_axis(Axis(1)).compute()?, ndarray::arr1(&[0, 0]).into_dyn());",
        "# Ok::<(), chunkwise::Error>(())",
        "```";
    argmax try_argmax argmax_axis (Ordered) ArgMax -> i64, "Where the highest is: the number of the first of them, or of the first NaN, in C order of the reduced axes.";
}
