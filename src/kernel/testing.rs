//! What the kernels' tests share: running a kernel on plain slices, numbers to feed it, SHA-256.
//!
//! Owns: nothing that is shipped. Must not know: any kernel. Invariant: the same numbers at every run.

use super::{Kernel, Scratch};
use crate::shape::{ChunkView, ChunkViewMut, Element, Layout};

/// A chunk with its memory.
pub(crate) struct Chunk<T> {
    pub(crate) data: Vec<T>,
    pub(crate) layout: Layout,
}

impl<T: Element> Chunk<T> {
    pub(crate) fn new(shape: &[usize], data: Vec<T>) -> Self {
        Self { layout: Layout::contiguous(T::DTYPE, shape), data }
    }

    pub(crate) fn filled(shape: &[usize], value: T) -> Self {
        Self::new(shape, vec![value; shape.iter().product()])
    }

    /// A window of a larger array: rows `gap` elements apart, neighbours in a row `step` apart.
    pub(crate) fn window(shape: [usize; 2], gap: usize, step: usize, value: T) -> Self {
        let row = shape[1] * step + gap;
        let layout = Layout { dtype: T::DTYPE, shape: shape.to_vec(), strides: vec![row as isize, step as isize] };
        Self { layout, data: vec![value; shape[0] * row] }
    }

    pub(crate) fn view(&self) -> ChunkView<'_> {
        ChunkView::from_slice(&self.data, &self.layout)
    }

    /// The elements in C order.
    pub(crate) fn values(&self) -> Vec<T> {
        let (rows, len) = super::rows::extent(&self.layout.shape);
        (0..rows).flat_map(|r| (0..len).map(move |i| self.view().at(r, i))).collect()
    }

    /// Runs `kernel` with this as its only output.
    pub(crate) fn compute(&mut self, kernel: &dyn Kernel, params: &[u8], inputs: &[ChunkView<'_>]) {
        let mut outputs = [ChunkViewMut::from_slice(&mut self.data, &self.layout)];
        kernel.run_cpu(params, inputs, &mut outputs, &mut Scratch::new(&mut [])).unwrap();
    }
}

/// `n` numbers in -0.5..0.5, times powers of two up to `2^spread` either way.
pub(crate) fn numbers(n: usize, spread: f64) -> Vec<f64> {
    let mut state = 1u64;
    let mut next = || {
        state = state.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
        (state >> 11) as f64 * 2f64.powi(-53) - 0.5
    };
    (0..n).map(|_| next() * 2f64.powi((next() * 2.0 * spread) as i32)).collect()
}

/// SHA-256 (FIPS 180-4) in hexadecimal.
pub(crate) fn sha256(message: &[u8]) -> String {
    // First 32 fractional bits of square and cube roots of the primes, as the standard defines them.
    let primes: Vec<u32> = (2u32..312).filter(|n| (2..*n).all(|d| n % d != 0)).collect();
    let root = |p: u32, power: u32| {
        // floor(p^(1/power) * 2^32) by bisection in integers, its low 32 bits
        let (mut low, mut high) = (0u128, 1u128 << 37);
        let fits = |r: u128| match power {
            2 => r * r <= u128::from(p) << 64,
            _ => r * r * r <= u128::from(p) << 96,
        };
        while high - low > 1 {
            let middle = (low + high) / 2;
            if fits(middle) { low = middle } else { high = middle }
        }
        low as u32
    };
    let mut hash: [u32; 8] = std::array::from_fn(|i| root(primes[i], 2));
    let constants: [u32; 64] = std::array::from_fn(|i| root(primes[i], 3));
    let mut padded = message.to_vec();
    padded.push(0x80);
    padded.resize(padded.len().next_multiple_of(64) + if padded.len() % 64 > 56 { 64 } else { 0 } - 8, 0);
    padded.extend((message.len() as u64 * 8).to_be_bytes());
    for block in padded.as_chunks::<64>().0 {
        let mut w = [0u32; 64];
        for (w, bytes) in w.iter_mut().zip(block.as_chunks::<4>().0) {
            *w = u32::from_be_bytes(*bytes);
        }
        for i in 16..64 {
            let (a, b) = (w[i - 15], w[i - 2]);
            let s0 = a.rotate_right(7) ^ a.rotate_right(18) ^ (a >> 3);
            let s1 = b.rotate_right(17) ^ b.rotate_right(19) ^ (b >> 10);
            w[i] = w[i - 16].wrapping_add(s0).wrapping_add(w[i - 7]).wrapping_add(s1);
        }
        let [mut a, mut b, mut c, mut d, mut e, mut f, mut g, mut h] = hash;
        for i in 0..64 {
            let s1 = e.rotate_right(6) ^ e.rotate_right(11) ^ e.rotate_right(25);
            let choice = (e & f) ^ (!e & g);
            let t1 = h.wrapping_add(s1).wrapping_add(choice).wrapping_add(constants[i]).wrapping_add(w[i]);
            let s0 = a.rotate_right(2) ^ a.rotate_right(13) ^ a.rotate_right(22);
            let t2 = s0.wrapping_add((a & b) ^ (a & c) ^ (b & c));
            (h, g, f, e, d, c, b, a) = (g, f, e, d.wrapping_add(t1), c, b, a, t1.wrapping_add(t2));
        }
        for (hash, value) in hash.iter_mut().zip([a, b, c, d, e, f, g, h]) {
            *hash = hash.wrapping_add(value);
        }
    }
    hash.iter().map(|word| format!("{word:08x}")).collect()
}

#[test]
fn sha256_known_answers() {
    assert_eq!(sha256(b"abc"), "ba7816bf8f01cfea414140de5dae2223b00361a396177a9cb410ff61f20015ad");
    assert_eq!(sha256(&[b'a'; 1000]), "41edece42d63e8d9bf515a9ba6932e1c20cbc9f5a5d134645adb5db1b9737ea3");
    for n in 54..66 {
        assert_eq!(sha256(&vec![0; n]).len(), 64);
    }
}
