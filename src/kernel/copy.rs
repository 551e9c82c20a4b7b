//! What a GPU copies by itself: what a view shows of a value, and booleans from words to bytes.
//!
//! Owns: the programs of these copies. Must not know: when they are made. Invariant: each element is written once, as it is: no dtype is converted,
//! so that no GPU needs to have it.

use std::sync::{Arc, LazyLock};

use super::program::shader_params;
use super::{Pass, Program, Shader, Work};
use crate::error::{Error, Result};
use crate::shape::{ChunkMeta, DType, Layout, View};

shader_params!(
    /// Parameters of the shader: elements, the first one's place, axes and their extents and steps, the innermost first.
    pub(crate) struct Map {
        n, offset, rank, n0, n1, n2, n3, n4, n5, n6, s0, s1, s2, s3, s4, s5, s6, s7,
    }
);

pub(super) static SHADER: LazyLock<Arc<Shader>> = LazyLock::new(|| {
    let shader = Shader::ours("copy", include_str!("../../shaders/copy.wgsl"));
    shader.with_params(Map::FIELDS).with_operands(1, 1).with_workgroup(GROUP as u32, [0, 0]).into()
});

/// Invocations of a workgroup.
const GROUP: u64 = 256;
/// Axes that the shader can follow.
const AXES: usize = 8;

/// The program that copies what a view shows of a contiguous value: input, the value; output, the view's elements, contiguous, in the value's dtype.
///
/// # Errors
/// [`Error::Argument`] if the view is none of such a value, or goes along more than 8 axes that are not one (7, of elements of 16 bytes).
pub fn gather(view: &View, value: ChunkMeta<'_>) -> Result<Program> {
    view.check(value.shape)?;
    let (mut offset, mut layout) = view.of(&Layout::contiguous(value.dtype, value.shape));
    let mut size = value.dtype.bytes();
    if size == 16 {
        // Two elements of 8 bytes side by side.
        layout.strides.iter_mut().for_each(|stride| *stride *= 2);
        layout.shape.push(2);
        layout.strides.push(1);
        (offset, size) = (2 * offset, 8);
    }
    let axes = merged(&layout);
    if axes.len() > AXES {
        let found = format!("{} axes", axes.len());
        return Err(Error::argument("a view that is copied on a GPU", found, format!("at most {AXES} that do not merge")));
    }
    let len = layout.len() as u64;
    // Extents and distances fit, as values and copies are below 2^31 bytes; what is negative wraps around.
    let extent = |k: usize| axes.get(k).map_or(1, |axis| axis.0 as u32);
    let step = |k: usize| axes.get(k).map_or(0, |axis| axis.1 as u32);
    let map = Map {
        n: len as u32,
        offset: offset as u32,
        rank: axes.len() as u32,
        n0: extent(0),
        n1: extent(1),
        n2: extent(2),
        n3: extent(3),
        n4: extent(4),
        n5: extent(5),
        n6: extent(6),
        s0: step(0),
        s1: step(1),
        s2: step(2),
        s3: step(3),
        s4: step(4),
        s5: step(5),
        s6: step(6),
        s7: step(7),
    };
    let (entry, invocations) = match size {
        1 => ("bytes", len.div_ceil(4)),
        2 => ("halves", len.div_ceil(2)),
        4 => ("words", len),
        _ => ("pairs", len),
    };
    let most = Work { flops: len as f64 * (1 + 4 * axes.len()) as f64, bytes: 2.0 * len as f64 * size as f64 };
    Ok(Program::new(&SHADER, DType::F32, &map.words(), vec![Pass::new(entry, invocations.div_ceil(GROUP), 0)], most))
}

/// Extent and step of each axis, the innermost first, without those of one index; what goes on where an inner axis ends is one axis with it.
fn merged(layout: &Layout) -> Vec<(usize, isize)> {
    let mut axes: Vec<(usize, isize)> = Vec::new();
    for (&extent, &step) in layout.shape.iter().zip(&layout.strides).rev().filter(|axis| *axis.0 != 1) {
        match axes.last_mut() {
            Some(inner) if step == inner.0 as isize * inner.1 => inner.0 *= extent,
            _ => axes.push((extent, step)),
        }
    }
    axes
}

/// The program that makes bytes of `bool` from words: input, a `u32` for each of `len` elements; output, 1 for each that is not 0, else 0.
#[must_use]
pub fn bools(len: u64, real: DType) -> Program {
    let map = Map { n: len as u32, ..Map::from_bytes(&[0; 4 * Map::FIELDS.len()]) };
    let pass = Pass::new("bools", len.div_ceil(4).div_ceil(GROUP), 0);
    Program::new(&SHADER, real, &map.words(), vec![pass], Work { flops: len as f64, bytes: 5.0 * len as f64 })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn axes_merge_where_one_goes_on_in_the_next() {
        let of = |view: View, shape: &[usize]| merged(&view.of(&Layout::contiguous(DType::F32, shape)).1);
        assert_eq!(of(View::whole(&[3, 1, 4, 5]), &[3, 1, 4, 5]), [(60, 1)]);
        let whole = View::whole(&[6, 4]);
        assert_eq!(of(whole.permute(&[1, 0]).unwrap(), &[6, 4]), [(6, 4), (4, 1)]);
        assert_eq!(of(whole.slice(0, 5, 3, -2).unwrap(), &[6, 4]), [(4, 1), (3, -8)]);
        assert_eq!(of(whole.slice(1, 0, 2, 2).unwrap(), &[6, 4]), [(12, 2)]);
        let repeated = View::whole(&[1, 4]).broadcast(&[7, 5, 4]).unwrap();
        assert_eq!(of(repeated, &[1, 4]), [(4, 1), (35, 0)]);
        assert_eq!(of(View::whole(&[]), &[]), []);
        let nine = View::whole(&[2; 9]).permute(&[8, 7, 6, 5, 4, 3, 2, 1, 0]).unwrap();
        let meta = ChunkMeta::new(DType::F32, &[2; 9]);
        assert!(gather(&nine, meta).unwrap_err().to_string().contains("9 axes"));
        assert!(gather(&View::whole(&[3]), meta).is_err(), "a view of another value");
    }
}
