//! Tests of `uniform` and `spd`: Random123's known answers, independence of chunks, equality of SIMD levels, statistics.

use proptest::prelude::*;

use super::*;
use crate::kernel::testing::Chunk;
use crate::shape::AxisRange;

/// Philox4x32-10 as its paper writes it, one counter at a time.
fn reference(counter: [u32; 4], key: [u32; 2]) -> [u32; 4] {
    let (mut c, mut k) = (counter, key);
    for _ in 0..10 {
        let (p0, p1) = (u64::from(c[0]) * 0xD251_1F53, u64::from(c[2]) * 0xCD9E_8D57);
        c = [(p1 >> 32) as u32 ^ c[1] ^ k[0], p1 as u32, (p0 >> 32) as u32 ^ c[3] ^ k[1], p0 as u32];
        k = [k[0].wrapping_add(0x9E37_79B9), k[1].wrapping_add(0xBB67_AE85)];
    }
    c
}

fn words(level: Level, seed: u64, stream: u64, q: u64) -> [u32; 4] {
    let philox = Philox::new(seed, stream);
    dispatch!(level, simd => {
        let [w] = philox.words(simd, [SimdBase::from_fn(simd, |_| q)]);
        w.map(|w| w.as_slice()[0] as u32)
    })
}

fn element(seed: u64, stream: u64, index: u64) -> f64 {
    let half = |v: u64| [v as u32, (v >> 32) as u32];
    let ([q0, q1], [s0, s1]) = (half(index / 2), half(stream));
    let w = reference([q0, q1, s0, s1], half(seed));
    let pair = (index % 2 * 2) as usize;
    ((u64::from(w[pair]) | u64::from(w[pair + 1]) << 32) >> 11) as f64 * 2f64.powi(-53)
}

fn element32(seed: u64, stream: u64, index: u64) -> f32 {
    let half = |v: u64| [v as u32, (v >> 32) as u32];
    let ([q0, q1], [s0, s1]) = (half(index / 4), half(stream));
    (reference([q0, q1, s0, s1], half(seed))[(index % 4) as usize] >> 8) as f32 * 2f32.powi(-24)
}

#[test]
fn known_answers_of_random123() {
    let cases = [
        ([0u32; 4], [0u32; 2], [0x6627_e8d5, 0xe169_c58d, 0xbc57_ac4c, 0x9b00_dbd8]),
        ([u32::MAX; 4], [u32::MAX; 2], [0x408f_276d, 0x41c8_3b0e, 0xa20b_c7c6, 0x6d54_51fd]),
        (
            [0x243f_6a88, 0x85a3_08d3, 0x1319_8a2e, 0x0370_7344],
            [0xa409_3822, 0x299f_31d0],
            [0xd16c_fe09, 0x94fd_cceb, 0x5001_e420, 0x2412_6ea1],
        ),
    ];
    let join = |low: u32, high: u32| u64::from(low) | u64::from(high) << 32;
    for (c, k, answer) in cases {
        assert_eq!(reference(c, k), answer);
        for level in simd::levels() {
            assert_eq!(words(level, join(k[0], k[1]), join(c[2], c[3]), join(c[0], c[1])), answer, "{}", simd::name(level));
        }
    }
}

#[test]
fn every_level_start_step_and_length_is_the_definition() {
    let (seed, stream) = (0x0123_4567_89ab_cdef, 0xfeed_0000_0007);
    let philox = Philox::new(seed, stream);
    for level in simd::levels() {
        for (start, step) in [(0, 1), (1, 1), (3, 1), (1 << 33, 1), (5, 3), (2, 1000), (7, 1 << 32)] {
            for n in [0, 1, 2, 5, 31, 64, 200] {
                let (mut wide, mut narrow) = (vec![-1f64; n], vec![-1f32; n]);
                philox.progression(level, start, step, &mut wide);
                philox.progression(level, start, step, &mut narrow);
                for i in 0..n {
                    let index = start + i as u64 * step;
                    assert_eq!(wide[i], element(seed, stream, index), "{start} {step} {i}");
                    assert_eq!(narrow[i], element32(seed, stream, index), "{start} {step} {i}");
                }
            }
        }
    }
}

#[test]
fn moments_and_streams() {
    let n = 200_000;
    let mut x = vec![0f64; n];
    Philox::new(7, 0).progression(simd::level(), 0, 1, &mut x);
    let mean = x.iter().sum::<f64>() / n as f64;
    let variance = x.iter().map(|v| (v - mean).powi(2)).sum::<f64>() / n as f64;
    assert!((mean - 0.5).abs() < 5.0 * (1.0 / 12.0f64 / n as f64).sqrt() && (variance - 1.0 / 12.0).abs() < 1e-3);
    assert!(x.iter().all(|v| (0.0..1.0).contains(v)));
    for (seed, stream) in [(7, 1), (8, 0), (7 + (1 << 32), 0), (7, 1 << 32)] {
        let mut other = vec![0f64; n];
        Philox::new(seed, stream).progression(simd::level(), 0, 1, &mut other);
        let covariance = x.iter().zip(&other).map(|(a, b)| (a - 0.5) * (b - 0.5)).sum::<f64>() / n as f64;
        assert!(covariance.abs() < 5.0 / 12.0 / (n as f64).sqrt(), "{seed} {stream}: {covariance}");
    }
}

fn boxed(start: &[usize], shape: &[usize]) -> Region {
    let axis = |(&start, &len)| AxisRange { start, len, step: 1 };
    Region::from_axes(start.iter().zip(shape).map(axis).collect())
}

#[test]
fn chunks_that_cannot_be_described_are_refused() {
    assert!(UniformParams::new(0, 0, &[4], &boxed(&[2], &[3])).is_err());
    assert!(UniformParams::new(0, 0, &[4, 4], &boxed(&[0], &[4])).is_err());
    let nine = UniformParams::new(0, 0, &[3; 9], &boxed(&[1; 9], &[2; 9])).unwrap();
    assert_eq!((nine.axes.len(), nine.index(0), nine.index(511)), (9, 9841, 19682));
    assert_eq!(UniformParams::from_bytes(&nine.to_bytes()), nine);
    let merged = UniformParams::new(0, 0, &[3; 9], &Region::all(&[3; 9])).unwrap();
    assert_eq!(merged.axes, [[19683, 1]]);
    assert_eq!(UniformParams::new(0, 0, &[], &Region::all(&[])).unwrap().axes, [[0u64; 2]; 0]);
}

proptest! {
    #[test]
    fn elements_know_only_their_global_index(
        dims in prop::collection::vec((1usize..7, 0usize..7, 0usize..7, 1usize..4), 0..5),
        strided in any::<bool>(),
    ) {
        let array: Vec<usize> = dims.iter().map(|d| d.0).collect();
        let axis = |&(n, start, len, step): &(usize, usize, usize, usize)| {
            let start = start.min(n);
            AxisRange { start, len: len.min((n - start).div_ceil(step)), step }
        };
        let axes: Vec<AxisRange> = dims.iter().map(axis).collect();
        let chunk: Vec<usize> = axes.iter().map(|axis| axis.len).collect();
        let p = UniformParams::new(3, 9, &array, &Region::from_axes(axes.clone())).unwrap();
        let mut out = Chunk::filled(&chunk, -1f64);
        if strided {
            out.layout.strides.iter_mut().for_each(|s| *s *= 2);
            out.data.resize(out.data.len() * 2, -1.0);
        }
        out.compute(&Uniform, &p.to_bytes(), &[]);
        for (i, value) in out.values().into_iter().enumerate() {
            let (mut rest, mut index, mut step) = (i, 0, 1);
            for axis in (0..array.len()).rev() {
                index += (axes[axis].start + rest % chunk[axis] * axes[axis].step) * step;
                rest /= chunk[axis];
                step *= array[axis];
            }
            prop_assert_eq!(value, element(3, 9, index as u64));
        }
    }

    #[test]
    fn spd_knows_only_its_rows_and_columns(order in 1u64..40, at in (0u64..40, 0u64..40), steps in (1u64..5, 1u64..5)) {
        let (row, column) = (at.0.min(order - 1), at.1.min(order - 1));
        let shape = [(order - row).div_ceil(steps.0), (order - column).div_ceil(steps.1)].map(|n| n as usize);
        let p = SpdParams { seed: 11, stream: 2, row, row_step: steps.0, column, column_step: steps.1, order };
        let mut out = Chunk::filled(&shape, 0f64);
        out.compute(&Spd, bytemuck::bytes_of(&p), &[]);
        for (k, value) in out.values().into_iter().enumerate() {
            let (i, j) = (row + (k / shape[1]) as u64 * steps.0, column + (k % shape[1]) as u64 * steps.1);
            prop_assert_eq!(value, if i == j { order as f64 } else { element(11, 2, i.max(j) * order + i.min(j)) - 0.5 });
        }
    }

    #[test]
    fn spd_is_symmetric_and_dominant_for_any_chunking(order in 1usize..40, cuts in (0usize..40, 0usize..40)) {
        let whole = |dtype32: bool| {
            let mut full = vec![0f64; order * order];
            let halves = |cut: usize| [(0, cut.min(order)), (cut.min(order), order)];
            for (r0, r1) in halves(cuts.0) {
                for (c0, c1) in halves(cuts.1) {
                    let (row, column) = (r0 as u64, c0 as u64);
                    let p = SpdParams { seed: 11, stream: 2, row, row_step: 1, column, column_step: 1, order: order as u64 };
                    let shape = [r1 - r0, c1 - c0];
                    let values = if dtype32 {
                        let mut out = Chunk::window(shape, 2, 1, 0f32);
                        out.compute(&Spd, bytemuck::bytes_of(&p), &[]);
                        out.values().into_iter().map(f64::from).collect()
                    } else {
                        let mut out = Chunk::window(shape, 0, 2, 0f64);
                        out.compute(&Spd, bytemuck::bytes_of(&p), &[]);
                        out.values()
                    };
                    for (k, value) in values.into_iter().enumerate() {
                        full[(r0 + k / shape[1]) * order + c0 + k % shape[1]] = value;
                    }
                }
            }
            full
        };
        let (wide, narrow) = (whole(false), whole(true));
        for i in 0..order {
            for j in 0..order {
                let (value, index) = (wide[i * order + j], (i.max(j) * order + i.min(j)) as u64);
                prop_assert_eq!(value, if i == j { order as f64 } else { element(11, 2, index) - 0.5 });
                let value = narrow[i * order + j];
                prop_assert_eq!(value, if i == j { order as f64 } else { f64::from(element32(11, 2, index) - 0.5) });
            }
        }
    }
}
