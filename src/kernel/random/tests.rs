//! Tests of random numbers and `spd`: Random123's known answers, their definitions in plain code, independence of chunks, equality of SIMD levels, statistics.

use fearless_simd::{Level, dispatch, prelude::*};
use proptest::prelude::*;

use super::*;
use crate::kernel::testing::Chunk;
use crate::shape::{AxisRange, ViewAxis};

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
    assert!(RandomParams::new(0, 0, &[4], &boxed(&[2], &[3])).is_err());
    assert!(RandomParams::new(0, 0, &[4, 4], &boxed(&[0], &[4])).is_err());
    let nine = RandomParams::new(0, 0, &[3; 9], &boxed(&[1; 9], &[2; 9])).unwrap();
    assert_eq!(RandomParams::from_bytes(&nine.to_bytes()), nine);
    let runs = |indices: &FlatIndices, first, count| {
        let mut runs = Vec::new();
        indices.runs(first, count, |at, numbers| runs.push((at, numbers)));
        runs
    };
    assert_eq!(runs(&nine.indices, 511, 1), [(0..1, (19682, 1))]);
    assert_eq!(runs(&nine.indices, 1, 4), [(0..1, (9842, 1)), (1..3, (9844, 1)), (3..4, (9850, 1))]);
    let all = RandomParams::new(0, 0, &[3; 9], &Region::all(&[3; 9])).unwrap();
    assert_eq!(runs(&all.indices, 7, 19676), [(0..19676, (7, 1))], "axes that follow each other are one");
    let turned = View::new(vec![0, 2], vec![along(1, 3, -1), along(0, 2, 1)]);
    let seen = RandomParams::new(0, 0, &[2, 3], &Region::all(&[2, 3])).unwrap().seen(&turned);
    assert_eq!(runs(&seen.indices, 0, 6), [(0..2, (2, 3)), (2..4, (1, 3)), (4..6, (0, 3))]);
    assert_eq!(runs(&seen.part(&boxed(&[1, 1], &[2, 1])).indices, 0, 2), [(0..2, (4, u64::MAX))]);
    assert_eq!(runs(&seen.indices.reordered(&[1, 0]), 0, 6), [(0..3, (2, u64::MAX)), (3..6, (5, u64::MAX))]);
    assert_eq!(runs(&RandomParams::new(0, 0, &[], &Region::all(&[])).unwrap().indices, 0, 1), [(0..1, (0, 1))]);
    // Neighbours share counters along rows, unless each second one is there alone.
    let (uniform, f64, f32) = (Distribution::Uniform, DType::F64, DType::F32);
    let crosswise = View::new(vec![0, 0], vec![along(1, 8, 1), along(0, 8, 1)]);
    let all = RandomParams::new(0, 0, &[8, 8], &Region::all(&[8, 8])).unwrap();
    assert!(all.is_in_order(uniform, f64) && !all.clone().seen(&crosswise).is_in_order(uniform, f64));
    let second = View::new(vec![0, 0], vec![along(1, 4, 2), along(0, 8, 1)]);
    assert!(all.clone().seen(&second).is_in_order(uniform, f64) && !all.seen(&second).is_in_order(uniform, f32));
}

/// One of a view's axes.
fn along(along: u32, extent: usize, step: isize) -> ViewAxis {
    ViewAxis { along: Some(along), extent, step }
}

const UNIFORM: Random = Random(Distribution::Uniform);

/// The words of an element's counter, of which there are so many elements in a counter.
fn words_of(index: u64, per: u64) -> [u64; 4] {
    let half = |v: u64| [v as u32, (v >> 32) as u32];
    let [q0, q1] = half(index / per);
    reference([q0, q1, 9, 0], [3, 0]).map(u64::from)
}

fn unit_of(low: u64, high: u64) -> f64 {
    ((low | high << 32) >> 11) as f64 * 2f64.powi(-53)
}

/// Elements of seed 3 and stream 9 as their definitions say, in the plainest code.
fn normal_of(index: u64) -> f64 {
    let w = words_of(index, 2);
    let (u, v) = (unit_of(w[0], w[1]), unit_of(w[2], w[3]));
    let (radius, angle) = ((-2.0 * (1.0 - u).ln()).sqrt(), std::f64::consts::TAU * v);
    radius * if index.is_multiple_of(2) { angle.cos() } else { angle.sin() }
}

fn integer_of(index: u64, low: i128, count: u128) -> i128 {
    if count <= 1 << 32 {
        let w = words_of(index, 2);
        let at = (index % 2 * 2) as usize;
        return low + ((u128::from(w[at] | w[at + 1] << 32) * count) >> 64) as i128;
    }
    let w = words_of(index, 1).map(u128::from);
    // (w0 + 2^32 w1 + 2^64 w2 + 2^96 w3) count / 2^128, by halves.
    let (first, second) = (w[0] | w[1] << 32, w[2] | w[3] << 32);
    low + ((second * count + ((first * count) >> 64)) >> 64) as i128
}

/// What is made of a region of an array of this shape.
fn made<T: Element>(what: Distribution, array: &[usize], region: &Region) -> Vec<T> {
    let params = RandomParams::new(3, 9, array, region).unwrap().to_bytes();
    let mut out = Chunk::filled(&region.shape(), T::default());
    out.compute(&Random(what), &params, &[]);
    out.data
}

fn strided(start: usize, len: usize, step: usize) -> Region {
    Region::from_axes(vec![AxisRange { start, len, step }])
}

#[test]
fn every_distribution_is_as_defined_at_any_place() {
    for (start, len, step) in [(0, 700, 1), (3, 1031, 1), (1, 300, 3), (2, 90, 1 << 33), (5, 1, 1)] {
        let (array, region) = ([start + len * step], strided(start, len, step));
        let index = |i: usize| (start + i * step) as u64;
        for (i, found) in made::<f64>(Distribution::Normal, &array, &region).into_iter().enumerate() {
            let wanted = normal_of(index(i));
            // `angle` is rounded in the plain code only.
            assert!((found - wanted).abs() < 1e-14 * (1.0 + 8.0 * wanted.abs()), "{found} is not {wanted}");
        }
        for (i, found) in made::<f32>(Distribution::Normal, &array, &region).into_iter().enumerate() {
            let (w, at) = (words_of(index(i), 4), (index(i) % 4 / 2 * 2) as usize);
            let u = (w[at] as f64 + 1.0) * 2f64.powi(-32);
            let (radius, angle) = ((-2.0 * u.ln()).sqrt(), std::f64::consts::TAU * w[at + 1] as f64 * 2f64.powi(-32));
            let wanted = radius * if index(i).is_multiple_of(2) { angle.cos() } else { angle.sin() };
            assert!((f64::from(found) - wanted).abs() <= 6e-8 * (0.01 + wanted.abs()), "{found} is not {wanted}");
        }
        let ints = |low: i128, count: u128| Distribution::Integers { low: low as u64, count: count as u64 };
        for (low, count) in [(0, 6), (-128, 256), (7, 1)] {
            let found = made::<i8>(ints(low, count), &array, &region);
            found
                .iter()
                .enumerate()
                .for_each(|(i, &n)| assert_eq!(i128::from(n), integer_of(index(i), low, count) as i8 as i128));
        }
        for (low, count) in [(i128::from(i64::MIN), 1u128 << 64), (-5, 1 << 32), (-5, (1 << 32) + 1), (0, 3 << 61)] {
            let found = made::<i64>(ints(low, count), &array, &region);
            found.iter().enumerate().for_each(|(i, &n)| assert_eq!(i128::from(n), integer_of(index(i), low, count)));
        }
        let found = made::<u16>(ints(60_000, 5_536), &array, &region);
        found.iter().enumerate().for_each(|(i, &n)| assert_eq!(i128::from(n), integer_of(index(i), 60_000, 5_536)));
        for of_2_32 in [0, 1 << 30, 3_000_000_000, 1 << 32] {
            let found = made::<bool>(Distribution::Bernoulli { of_2_32 }, &array, &region);
            let word = |i| words_of(index(i), 4)[(index(i) % 4) as usize];
            found.iter().enumerate().for_each(|(i, &yes)| assert_eq!(yes, word(i) < of_2_32));
        }
    }
}

#[test]
fn every_level_gives_the_same_normal_numbers() {
    let philox = Philox::new(5, 6);
    for numbers in [(0, 1), (7, 1), (2, 5)] {
        let all: Vec<(Vec<u64>, Vec<u32>)> = simd::levels()
            .into_iter()
            .map(|level| {
                let (mut wide, mut narrow) = (vec![0f64; 3001], vec![0f32; 3001]);
                philox.items(level, Normal, numbers, &mut wide);
                philox.items(level, NormalSingle, numbers, &mut narrow);
                (wide.into_iter().map(f64::to_bits).collect(), narrow.into_iter().map(f32::to_bits).collect())
            })
            .collect();
        assert!(all.iter().all(|level| *level == all[0]));
    }
    // What the portable level gave on the machine where this was written: it is the same on all.
    let mut first = [0f64; 4];
    philox.items(simd::level(), Normal, (0, 1), &mut first);
    assert_eq!(first.map(f64::to_bits), NORMAL_BITS, "{first:?}");
}

const NORMAL_BITS: [u64; 4] = [0x3fee_1133_2cdd_ef6d, 0x3ffb_1330_4066_f048, 0xbfb6_2dd4_73c1_5447, 0x3fc1_de03_3956_c806];

#[test]
fn distributions_are_what_they_are_called() {
    let n = 1 << 20;
    let all = strided(0, n, 1);
    let normal = made::<f64>(Distribution::Normal, &[n], &all);
    let moment = |k: i32| normal.iter().map(|x| x.powi(k)).sum::<f64>() / n as f64;
    // Five standard errors each: sqrt of (1, 2, 15, 96) / n.
    let error = |variance: f64| 5.0 * (variance / n as f64).sqrt();
    assert!(moment(1).abs() < error(1.0) && (moment(2) - 1.0).abs() < error(2.0));
    assert!(moment(3).abs() < error(15.0) && (moment(4) - 3.0).abs() < error(96.0));
    // Kolmogorov and Smirnov, at 1 in 10^6.
    let mut sorted = normal.clone();
    sorted.sort_by(f64::total_cmp);
    let at = |x: f64| sorted.partition_point(|&y| y < x) as f64 / n as f64;
    for (x, phi) in [(-3.0, 0.001_349_898), (-1.0, 0.158_655_254), (0.0, 0.5), (0.5, 0.691_462_461), (2.0, 0.977_249_868)] {
        assert!((at(x) - phi).abs() < 2.7 / (n as f64).sqrt(), "{x}: {}", at(x));
    }
    let pairs = normal.chunks_exact(2).map(|pair| pair[0] * pair[1]).sum::<f64>() / (n / 2) as f64;
    assert!(pairs.abs() < error(2.0), "the two of a counter have nothing to do with each other: {pairs}");
    for count in [6u64, 256] {
        let found = made::<u8>(Distribution::Integers { low: 0, count }, &[n], &all);
        let mut seen = vec![0f64; count as usize];
        found.iter().for_each(|&k| seen[usize::from(k)] += 1.0);
        let wanted = n as f64 / count as f64;
        let chi = seen.iter().map(|k| (k - wanted).powi(2) / wanted).sum::<f64>();
        assert!((chi - (count - 1) as f64).abs() < 6.0 * (2.0 * count as f64).sqrt(), "{count}: {chi}");
    }
    let yes = made::<bool>(Distribution::Bernoulli { of_2_32: 1 << 31 }, &[n], &all).iter().filter(|&&yes| yes).count();
    assert!((yes as f64 / n as f64 - 0.5).abs() < error(0.25));
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
        let p = RandomParams::new(3, 9, &array, &Region::from_axes(axes.clone())).unwrap();
        let mut out = Chunk::filled(&chunk, -1f64);
        if strided {
            out.layout.strides.iter_mut().for_each(|s| *s *= 2);
            out.data.resize(out.data.len() * 2, -1.0);
        }
        out.compute(&UNIFORM, &p.to_bytes(), &[]);
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
