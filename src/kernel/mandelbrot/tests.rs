//! Tests of `mandelbrot`: NumPy's golden counts, equality of SIMD levels, odd input, the work estimate.

use super::*;
use crate::kernel::points::ogrid;
use crate::kernel::testing::Chunk;
use crate::shape::Layout;
use sha2::{Digest, Sha256};

fn bytes(iterations: u32) -> Vec<u8> {
    bytemuck::bytes_of(&MandelbrotParams { iterations }).to_vec()
}

fn counts<T: OrbitElement>(level: Level, x: &[T], y: &[T], iterations: u32) -> Vec<i32> {
    let (x, y) = (Chunk::new(&[x.len()], x.to_vec()), Chunk::new(&[y.len()], y.to_vec()));
    let mut out = Chunk::filled(&[y.data.len(), x.data.len()], -1);
    let mut view = ChunkViewMut::from_slice(&mut out.data, &out.layout);
    picture::<T>(level, &[x.view(), y.view()], &mut view, iterations);
    out.data
}

/// The definition, one point at a time.
fn naive(cr: f64, ci: f64, iterations: u32) -> i32 {
    let (mut re, mut im) = (cr, ci);
    for k in 0..iterations {
        (re, im) = (re.mul_add(re, -(im * im)) + cr, 2.0 * (re * im) + ci);
        let inside = re.mul_add(re, im * im) <= 16.0;
        if !inside {
            return k as i32;
        }
    }
    iterations as i32
}

#[test]
fn numpys_golden_counts_on_every_level() {
    let all: serde_json::Value = serde_json::from_str(include_str!("../../../tests/data/mandelbrot.json")).unwrap();
    let small = all.as_array().unwrap().iter().filter(|g| g["height"] != 8000);
    let mut pictures = 0;
    for golden in small {
        let number = |key: &str| golden[key].as_u64().unwrap();
        let ends = |key: &str| (golden[key][0].as_f64().unwrap(), golden[key][1].as_f64().unwrap());
        let (y0, y1) = ends("y");
        let (x0, x1) = ends("x");
        let (x, y) = (ogrid(x0, x1, number("width") as usize), ogrid(y0, y1, number("height") as usize));
        let iterations = number("maxiterations") as u32;
        for level in simd::levels() {
            if simd::name(level) == "portable" && x.len() * y.len() > 200_000 {
                continue; // without hardware FMA each step is slow; the smaller pictures cover it
            }
            let counts = counts(level, &x, &y, iterations);
            let mut histogram = vec![0u64; iterations as usize + 1];
            counts.iter().for_each(|&k| histogram[k as usize] += 1);
            let wanted: Vec<u64> = golden["histogram"].as_array().unwrap().iter().map(|v| v.as_u64().unwrap()).collect();
            assert_eq!(histogram, wanted, "{}", simd::name(level));
            let le: Vec<u8> = counts.iter().flat_map(|k| k.to_le_bytes()).collect();
            let hash: String = Sha256::digest(&le).iter().map(|byte| format!("{byte:02x}")).collect();
            assert_eq!(hash, golden["sha256_of_int32_le_row_major"].as_str().unwrap(), "{}", simd::name(level));
        }
        pictures += 1;
    }
    assert_eq!(pictures, 4);
}

#[test]
fn every_width_and_iteration_count_equals_the_definition() {
    for (m, n) in [(1, 1), (3, 1), (2, 7), (5, 16), (3, 33), (70, 2), (2, 100)] {
        let (x, y) = (ogrid(-2.0, 0.6, n), ogrid(-1.2, 0.1, m));
        for iterations in [0, 1, 3, 4, 5, 8, 21, 100] {
            let wanted: Vec<i32> = y.iter().flat_map(|&ci| x.iter().map(move |&cr| naive(cr, ci, iterations))).collect();
            for level in simd::levels() {
                assert_eq!(counts(level, &x, &y, iterations), wanted, "{m} x {n}, {iterations}, {}", simd::name(level));
            }
        }
    }
}

#[test]
fn f32_levels_agree_and_are_near_f64() {
    let (x, y) = (ogrid(-1.5, 0.0, 301), ogrid(-1.0, 0.0, 41));
    let narrow = |v: &[f64]| v.iter().map(|&v| v as f32).collect::<Vec<_>>();
    let all: Vec<_> = simd::levels().into_iter().map(|l| counts(l, &narrow(&x), &narrow(&y), 50)).collect();
    assert!(all.windows(2).all(|w| w[0] == w[1]));
    let exact = counts(simd::level(), &x, &y, 50);
    let differing = exact.iter().zip(&all[0]).filter(|(a, b)| a != b).count();
    assert!(differing * 100 < exact.len(), "{differing} of {}", exact.len());
}

#[test]
fn what_is_not_finite_or_huge_ends_at_once() {
    let special = [f64::NAN, f64::INFINITY, f64::NEG_INFINITY, 1e200, -1e300, 4.0, 5.0, 0.0];
    for level in simd::levels() {
        let found = counts(level, &special, &special, 1_000_000);
        for (i, &count) in found.iter().enumerate() {
            let (x, y) = (special[i % 8], special[i / 8]);
            assert_eq!(count, if x == 0.0 && y == 0.0 { 1_000_000 } else { 0 }, "{x} {y}");
        }
        let narrow: Vec<f32> = special.iter().map(|&v| v as f32).collect();
        assert_eq!(counts(level, &narrow, &narrow, 1000).iter().filter(|&&k| k != 0).count(), 1);
    }
    assert!(counts::<f64>(simd::level(), &[], &[1.0], 5).is_empty());
    assert!(counts::<f64>(simd::level(), &[1.0], &[], 5).is_empty());
}

#[test]
fn windows_and_strided_axes() {
    let (x, y) = (ogrid(-1.5, 0.0, 37), ogrid(-1.0, 0.0, 11));
    let wanted = counts(simd::level(), &x, &y, 30);
    let spaced: Vec<f64> = x.iter().flat_map(|&v| [v, f64::NAN]).collect();
    let layout = Layout { dtype: DType::F64, shape: vec![37], strides: vec![2] };
    let y = Chunk::new(&[11], y);
    for (gap, step) in [(0, 1), (5, 1), (3, 2)] {
        let mut out = Chunk::window([11, 37], gap, step, -7);
        out.compute(&Mandelbrot, &bytes(30), &[ChunkView::from_slice(&spaced, &layout), y.view()]);
        assert_eq!(out.values(), wanted);
        assert_eq!(out.data.iter().filter(|&&v| v == -7).count(), out.data.len() - wanted.len());
    }
}

#[test]
fn axis_is_ogrids() {
    assert_eq!(ogrid(0.25, 9.0, 1), [0.25]);
    assert!(ogrid(0.0, 1.0, 0).is_empty());
    assert_eq!(ogrid(-1.5, 0.0, 4), [-1.5, -1.0, -0.5, 0.0]);
    assert_eq!(ogrid(-1.0, 0.0, 8000)[4321], 4321.0 * (1.0 / 7999.0) - 1.0);
}

#[test]
fn work_is_near_the_truth_for_chunks_of_the_default_picture() {
    let (x, y) = (ogrid(-1.5, 0.0, 12000), ogrid(-1.0, 0.0, 8000));
    for (rows, columns) in [(0..333, 0..1200), (4000..4100, 0..12000), (7800..8000, 3000..4000), (2000..2400, 9000..10000)] {
        let (x, y) = (Chunk::new(&[columns.len()], x[columns].to_vec()), Chunk::new(&[rows.len()], y[rows].to_vec()));
        for iterations in [20, 200] {
            let mut out = Chunk::filled(&[y.data.len(), x.data.len()], -1);
            out.compute(&Mandelbrot, &bytes(iterations), &[x.view(), y.view()]);
            let truth: f64 = out.data.iter().map(|&k| 8.0 * f64::from((k as u32 + 1).min(iterations))).sum();
            let inputs = [&x, &y].map(|c| ChunkMeta { data: Some(c.view()), ..ChunkMeta::new(DType::F64, &c.layout.shape) });
            let output = ChunkMeta::new(DType::I32, &out.layout.shape);
            let work = Mandelbrot.work(&bytes(iterations), &[inputs[0], inputs[1], output]);
            let ratio = work.flops / truth;
            assert!((0.8..1.25).contains(&ratio), "{ratio}");
            assert_eq!(work.bytes, (4 * out.data.len() + 8 * (x.data.len() + y.data.len())) as f64);
        }
    }
}
