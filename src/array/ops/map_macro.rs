//! Functions of elements in Rust's own syntax.
//!
//! Owns: the macro `map!`. Must not know: how programs run. Invariant: what it makes is an expression of arrays, as if it had been written with operators and
//! [`where_`](crate::where_).

/// A function of elements, written as one of numbers: `map!(|x: f64, y: f64| if x > y { x.sqrt() } else { y })`. It is called with arrays, by reference, and gives an array;
/// shapes are broadcast.
///
/// Inside, elements are computed with by operators and methods of [`Array`](crate::Array); `if` chooses between two values (both are computed: it is
/// [`where_`](crate::where_)), with the comparisons `< <= > >= == !=` between two values, joined by `&&` or `||`, and `!(..)`. In a comparison the left side is not a plain
/// number, and has no `<` of its own (as in `cast::<f32>()`: name that before). `let` names what is computed, not plain numbers; those come from outside, or are
/// written out. The result depends on an element. As all that is done with arrays it becomes one program, which fuses with what stands around it and runs in one pass over
/// memory.
///
/// ```
/// use chunkwise::{Array, map};
/// let x = Array::from(vec![-2.0, 0.25, 9.0]);
/// let soft = map!(|x: f64, t: f64| {
///     let size = x.abs() - t;
///     if size > 0.0 { size * x.sign() } else { 0.0 }
/// });
/// let t = Array::full((), 0.5);
/// assert_eq!(soft(&x, &t).compute()?.as_slice(), Some(&[-1.5, 0.0, 8.5][..]));
///
/// let steps = map!(|x: f64| if x < 0.0 { -1.0 } else if x >= 1.0 && x < 10.0 { x.sqrt() } else { x });
/// assert_eq!(steps(&x).compute()?.as_slice(), Some(&[-1.0, 0.25, 3.0][..]));
/// # Ok::<(), chunkwise::Error>(())
/// ```
#[macro_export]
macro_rules! map {
    (|$($name:ident : $t:ty),+ $(,)?| { $($body:tt)+ }) => {
        |$($name: &$crate::Array<$t>),+| $crate::Array::clone(&$crate::map!(@block $($body)+))
    };
    (|$($name:ident : $t:ty),+ $(,)?| $($body:tt)+) => {
        |$($name: &$crate::Array<$t>),+| $crate::Array::clone(&$crate::map!(@block $($body)+))
    };
    // A block: names, and what it is in the end.
    (@block let $name:ident = if $($rest:tt)+) => {
        $crate::map!(@let $name [] $($rest)+)
    };
    (@block let $name:ident = $value:expr; $($rest:tt)+) => {{
        let $name = &$crate::Array::clone(&$value);
        $crate::Array::clone(&$crate::map!(@block $($rest)+))
    }};
    (@block if $($rest:tt)+) => {
        $crate::map!(@if [] $($rest)+)
    };
    (@block $value:expr) => {
        $value
    };
    // A name for a choice: its tokens up to the semicolon.
    (@let $name:ident [$($choice:tt)+] ; $($rest:tt)+) => {{
        let $name = &$crate::map!(@if [] $($choice)+);
        $crate::Array::clone(&$crate::map!(@block $($rest)+))
    }};
    (@let $name:ident [$($choice:tt)*] $token:tt $($rest:tt)+) => {
        $crate::map!(@let $name [$($choice)* $token] $($rest)+)
    };
    // A choice: its condition is all before the first block.
    (@if [$($condition:tt)+] { $($yes:tt)+ } else { $($no:tt)+ }) => {
        $crate::where_(
            &$crate::map!(@or [] $($condition)+),
            $crate::map!(@block $($yes)+),
            $crate::map!(@block $($no)+),
        )
    };
    (@if [$($condition:tt)+] { $($yes:tt)+ } else if $($no:tt)+) => {
        $crate::where_(
            &$crate::map!(@or [] $($condition)+),
            $crate::map!(@block $($yes)+),
            $crate::map!(@if [] $($no)+),
        )
    };
    (@if [$($condition:tt)*] $token:tt $($rest:tt)+) => {
        $crate::map!(@if [$($condition)* $token] $($rest)+)
    };
    // Conditions: `||` binds least, then `&&`, then comparisons.
    (@or [$($left:tt)+] || $($right:tt)+) => {
        $crate::map!(@and [] $($left)+) | $crate::map!(@or [] $($right)+)
    };
    (@or [$($left:tt)*] $token:tt $($rest:tt)*) => {
        $crate::map!(@or [$($left)* $token] $($rest)*)
    };
    (@or [$($all:tt)+]) => {
        $crate::map!(@and [] $($all)+)
    };
    (@and [$($left:tt)+] && $($right:tt)+) => {
        $crate::map!(@test [] $($left)+) & $crate::map!(@and [] $($right)+)
    };
    (@and [$($left:tt)*] $token:tt $($rest:tt)*) => {
        $crate::map!(@and [$($left)* $token] $($rest)*)
    };
    (@and [$($all:tt)+]) => {
        $crate::map!(@test [] $($all)+)
    };
    // What is in parentheses may be a condition of its own.
    (@test [] ( $($inner:tt)+ )) => { $crate::map!(@or [] $($inner)+) };
    (@test [] ! ( $($inner:tt)+ )) => { !$crate::map!(@or [] $($inner)+) };
    (@test [$($left:tt)+] < $($right:tt)+) => { ($($left)+).lt($($right)+) };
    (@test [$($left:tt)+] <= $($right:tt)+) => { ($($left)+).le($($right)+) };
    (@test [$($left:tt)+] > $($right:tt)+) => { ($($left)+).gt($($right)+) };
    (@test [$($left:tt)+] >= $($right:tt)+) => { ($($left)+).ge($($right)+) };
    (@test [$($left:tt)+] == $($right:tt)+) => { ($($left)+).eq_elem($($right)+) };
    (@test [$($left:tt)+] != $($right:tt)+) => { ($($left)+).ne_elem($($right)+) };
    (@test [$($left:tt)*] $token:tt $($rest:tt)*) => {
        $crate::map!(@test [$($left)* $token] $($rest)*)
    };
    (@test [$($all:tt)+]) => {
        $crate::Array::clone(&($($all)+))
    };
}
