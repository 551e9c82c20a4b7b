//! Random arrays: by their definition (`data/make_random.py`), the same in any chunks, on any threads, through any view; made where they are used; what they refuse. Needs no
//! device.

use chunkwise::ndarray::{ArrayD, Axis, s};
use chunkwise::{Array, Element, Error, Float, Integer, Rng, prelude::*};
use serde_json::Value;

fn session() -> Session {
    Session::builder().threads(2).cache_dir("").build().expect("a session")
}

#[cfg(feature = "gpu")]
support::gpus!();

/// A session whose work is a GPU's.
#[cfg(feature = "gpu")]
fn gpu_session() -> Option<Session> {
    gpu().map(|gpu| support::gpu::session(Placement::Gpu, &[gpu]))
}

/// One array of each kind, each of another dtype, of the next streams of a generator.
fn all(rng: &Rng, shape: [usize; 2], chunks: usize) -> Vec<ArrayD<f64>> {
    fn values<T: Element>(x: Array<T>, chunks: usize) -> ArrayD<f64> {
        x.chunks(chunks).cast::<f64>().compute().unwrap()
    }
    vec![
        values(rng.uniform::<f64>(shape), chunks),
        values(rng.uniform::<f32>(shape), chunks),
        values(rng.normal::<f64>(shape), chunks),
        values(rng.normal::<f32>(shape), chunks),
        values(rng.exponential::<f64>(shape), chunks),
        values(rng.integers(-3i16..40, shape), chunks),
        values(rng.integers::<u64>(.., shape), chunks),
        values(rng.bernoulli(0.6, shape), chunks),
    ]
}

/// Checks a case of integers.
fn integers<T: Integer + std::str::FromStr>(rng: &Rng, range: impl std::ops::RangeBounds<T>, wanted: &[String]) {
    let found = rng.integers(range, wanted.len()).compute().unwrap();
    let wanted: Vec<T> = wanted.iter().map(|n| n.parse().ok().unwrap()).collect();
    assert_eq!(found.as_slice().unwrap(), wanted);
}

/// Checks a case of floats: exact, or so many units in the last place of 1 away.
fn floats<T: Float>(found: Array<T>, wanted: &[String], ulps: f64) {
    let found = found.compute().unwrap();
    let epsilon = if T::DTYPE == chunkwise::DType::F32 { f64::from(f32::EPSILON) } else { f64::EPSILON };
    for (found, wanted) in found.iter().zip(wanted) {
        let (found, wanted) = (found.to_f64(), f64::from_bits(u64::from_str_radix(wanted, 16).unwrap()));
        assert!((found - wanted).abs() <= ulps * epsilon * wanted.abs().max(0.1), "{found} is not {wanted}");
    }
}

#[test]
fn elements_are_as_defined() {
    compare(&session(), 0.0);
}

/// There, too: normal and exponential numbers a few units in the last place away.
#[test]
#[cfg(feature = "gpu")]
fn elements_are_as_defined_on_a_gpu() {
    let Some(session) = gpu_session() else { return };
    compare(&session, 8.0);
    assert!(support::gpu::launches(&session) >= 96, "{}", support::gpu::launches(&session));
}

/// With so many units more than on a CPU where a function is taken.
fn compare(session: &Session, more: f64) {
    let file: Value = serde_json::from_str(include_str!("data/random.json")).unwrap();
    let cases = file["cases"].as_array().unwrap();
    assert_eq!(cases.len(), 96);
    for case in cases {
        let rng = session.rng(case["seed"].as_u64().unwrap());
        (0..case["stream"].as_u64().unwrap()).for_each(|_| drop(rng.uniform::<f64>(1)));
        let wanted: Vec<String> = serde_json::from_value(case["elements"].clone()).unwrap();
        let (what, n) = (&case["what"], wanted.len());
        match (what[0].as_str().unwrap(), case["dtype"].as_str().unwrap()) {
            ("uniform", "f64") => floats(rng.uniform::<f64>(n), &wanted, 0.0),
            ("uniform", "f32") => floats(rng.uniform::<f32>(n), &wanted, 0.0),
            ("normal", "f64") => floats(rng.normal::<f64>(n), &wanted, 4.0 + more),
            ("normal", "f32") => floats(rng.normal::<f32>(n), &wanted, 1.0 + more),
            ("exponential", "f64") => floats(rng.exponential::<f64>(n), &wanted, 1.0 + more),
            ("exponential", "f32") => floats(rng.exponential::<f32>(n), &wanted, 1.0 + more),
            ("integers", "u8") => integers::<u8>(&rng, 1..=6, &wanted),
            ("integers", "i8") => integers::<i8>(&rng, .., &wanted),
            ("integers", "u16") => integers::<u16>(&rng, 1000.., &wanted),
            ("integers", "i16") => integers::<i16>(&rng, -300..300, &wanted),
            ("integers", "i32") => integers::<i32>(&rng, .., &wanted),
            ("integers", "u32") => integers::<u32>(&rng, 5..1_000_000_005, &wanted),
            ("integers", "u64") => integers::<u64>(&rng, 1 << 63..(1 << 63) + (3 << 61), &wanted),
            ("integers", "i64") if what[1] == -7 => integers::<i64>(&rng, -7..8_589_934_590, &wanted),
            ("integers", "i64") => integers::<i64>(&rng, .., &wanted),
            ("bernoulli", _) => {
                let found = rng.bernoulli(0.3, n).compute().unwrap();
                assert!(found.iter().zip(&wanted).all(|(&yes, wanted)| u8::from(yes).to_string() == *wanted));
            }
            other => panic!("{other:?}"),
        }
    }
}

#[test]
fn elements_depend_on_seed_stream_and_index_alone() {
    let (one, two) = (Session::builder().threads(1).cache_dir("").build().unwrap(), session());
    let wanted = all(&one.rng(5), [70, 90], 90);
    for chunks in [1, 7, 64, 1000] {
        assert_eq!(all(&two.rng(5), [70, 90], chunks), wanted, "in chunks of {chunks}");
    }
    assert!(all(&two.rng(6), [70, 90], 90).iter().zip(&wanted).all(|(other, wanted)| other != wanted));
    // The logarithm of 1 is 0, not -0.
    let has_zero = |seed| {
        let all = two.rng(seed).exponential::<f32>(1 << 22).compute().unwrap();
        assert!(all.iter().all(|x| x.is_sign_positive()));
        all.iter().any(|&x| x == 0.0)
    };
    assert!((0..64).any(has_zero), "one in 2^24");
    // Through views, alone and in a program; from both sides of a chunk's border.
    let x = || two.rng(9).normal::<f64>((60, 50)).chunks(32);
    let plain = x().compute().unwrap();
    assert_eq!(x().t().compute().unwrap(), plain.t().to_owned());
    let flipped = (x().slice(s![.., ..;-1]) * 1.0).compute().unwrap();
    assert_eq!(flipped, plain.slice(s![.., ..;-1]).to_owned().into_dyn());
    let strided = (x().slice(s![..;-3, 5..;2]).t() * 1.0).compute().unwrap();
    assert_eq!(strided, plain.slice(s![..;-3, 5..;2]).t().to_owned().into_dyn());
    let sums = (x().t() * 2.0).sum_axis(Axis(0)).compute().unwrap();
    let naive = plain.map_axis(Axis(1), |row| row.iter().map(|x| x * 2.0).sum::<f64>());
    assert!(sums.iter().zip(&naive).all(|(a, b)| (a - b).abs() < 1e-12));
    let cube = || two.rng(2).integers(0..100i64, (12, 13, 14)).chunks(5);
    let elements = cube().compute().unwrap();
    for axes in [[0, 1], [1, 2], [0, 2]] {
        let found = (cube().permute([2, 0, 1]) + 1).over(&axes[..]).sum().compute().unwrap();
        let turned = elements.clone().permuted_axes(vec![2, 0, 1]).mapv(|n| n + 1);
        assert_eq!(found, turned.sum_axis(Axis(axes[1])).sum_axis(Axis(axes[0])));
    }
    let flat = elements.iter().enumerate().max_by_key(|&(at, &n)| (n, std::cmp::Reverse(at))).unwrap().0;
    assert_eq!(cube().argmax().compute_scalar().unwrap(), flat as i64);
}

/// One task for each chunk of the result, whatever there is between the generator and it.
#[test]
fn generators_are_made_where_they_are_used() {
    let session = session();
    let rng = session.rng(3);
    let tasks = |x: &Array<f64>| x.run().unwrap().1.tasks();
    assert_eq!(tasks(&((rng.uniform::<f64>((300, 200)).chunks(100) * 2.0 - 1.0).sqrt())), 6);
    // One after the other, and backwards; along another axis neighbours would not share a counter.
    let x = || rng.normal::<f32>((300, 200)).chunks(100);
    assert_eq!(x().slice(s![..;-1, ..;-1]).abs().run().unwrap().1.tasks(), 6);
    assert_eq!(x().t().abs().run().unwrap().1.tasks(), 12);
    assert_eq!((x() * 2.0).sum_axis(Axis(0)).run().unwrap().1.tasks(), 6 + 2);
    // Of two readers, each chunk is made once.
    let x = x();
    assert_eq!((&x + x.slice(s![..;-1, ..])).run().unwrap().1.tasks(), 6 + 6);
    assert_eq!(tasks(&(rng.exponential::<f64>((300, 200)).chunks(100))), 6);
    assert_eq!(tasks(&(rng.normal::<f64>((300, 200)) + rng.bernoulli(0.5, (300, 200)).cast::<f64>()).chunks(100)), 6);
    assert_eq!(tasks(&(Array::arange(0.0, 1e6, 1.0).in_session(&session).chunks(500_000) * 2.0)), 2);
    // Of what a slice needs of `x` and its transpose, a part each; and what is left of each row.
    let x = rng.uniform::<f64>((1000, 1000)).chunks(250);
    let z = (&x + x.t()).slice(s![..;2, 500..]).mean_axis(Axis(1));
    let (found, run) = z.run().unwrap();
    assert!(run.tasks() <= 4 * 2 + 4 + 4, "{}", z.explain().unwrap());
    let all = x.compute().unwrap();
    for (i, &found) in found.iter().enumerate() {
        let wanted = (500..1000).map(|j| all[[2 * i, j]] + all[[j, 2 * i]]).sum::<f64>() / 500.0;
        assert!((found - wanted).abs() < 1e-13, "row {i}: {found}, not {wanted}");
    }
}

#[test]
fn what_is_larger_than_memory_is_made_again() {
    let session = Session::builder().threads(2).memory_limit("100MB").cache_dir("").build().unwrap();
    // 200 MB, and each element is needed twice, before and after all of them are known.
    let y = session.rng(1).normal::<f64>((5000, 5000)).chunks(1000).exp();
    let (found, run) = (&y - y.mean()).abs().max().run().unwrap();
    // Each chunk twice, what is added of it, and what is left of its distances; and two tasks for all of these. (Kept, it would be 77.)
    assert_eq!(run.tasks(), 4 * 25 + 2);
    assert!(run.peak_bound_bytes < 100_000_000);
    assert!(found.iter().all(|&x| (50.0..500.0).contains(&x)), "{found}");
}

#[test]
fn what_is_not_there_is_refused() {
    let rng = session().rng(0);
    let message = |error: Error| error.to_string();
    assert_eq!(
        message(rng.try_integers(5..5, 3).unwrap_err()),
        "range of random_integers = 5..5: a range with an integer in it"
    );
    assert!(rng.try_integers(0..=u64::MAX, 3).is_ok() && rng.try_integers(7..=7u8, 3).is_ok());
    for p in [-0.1, 1.1, f64::NAN] {
        assert!(matches!(rng.try_bernoulli(p, 3), Err(Error::Argument { .. })), "{p}");
    }
    assert!(matches!(rng.try_normal::<f32>((usize::MAX, 3)), Err(Error::Shape { .. })));
    assert!(rng.bernoulli(1.0, 1000).all().compute_scalar().unwrap());
    assert!(!rng.bernoulli(0.0, 1000).any().compute_scalar().unwrap());
    assert_eq!(rng.normal::<f64>((0, 3)).compute().unwrap().shape(), [0, 3]);
    assert_eq!(rng.integers(4..5, ()).compute_scalar().unwrap(), 4);
}
