//! Arrays as users write them: what is read and made for a slice, chunks that do not agree, several results of one run, bad input. Needs no device.

use std::sync::Arc;

use chunkwise::DType;
use chunkwise::ndarray::{self, Array1, Array2, ArrayD, Axis, IxDyn, s};
use chunkwise::{Array, Error, Placement, Session, compute_all, concatenate, stack, store, store_all};
use support::counted::Counted;
use support::picture::picture;
use support::twice::Twice;

fn session() -> Session {
    Session::builder().threads(2).placement(Placement::Cpu).cache_dir("").build().expect("a session")
}

/// A source that counts the elements that are read of it: element `(i, j)` is `1000 i + j`.
fn counting() -> Arc<Counted<f64>> {
    Arc::new(Counted::new(&[500, 400], |at| (1000 * at[0] + at[1]) as f64))
}

#[test]
fn a_slice_of_a_source_reads_what_it_touches() {
    let source = counting();
    let x = Array::<f64>::from_source(source.clone()).expect("f64").in_session(&session());
    let plain = Array2::from_shape_fn((500, 400), |(i, j)| (1000 * i + j) as f64);
    let read = |array: &Array<f64>| {
        source.taken();
        (array.compute().expect("computes"), source.taken())
    };
    for chunk in [7, 100, 1000] {
        let x = x.clone().chunks(chunk);
        let wanted = plain.slice(s![10..90;3, 5..;-40]).to_owned();
        assert_eq!(read(&x.slice(s![10..90;3, 5..;-40])), (wanted.clone().into_dyn(), wanted.len()));
        let turned = wanted.t().slice(s![2, ..]).to_owned();
        assert_eq!(read(&x.slice(s![10..90;3, 5..;-40]).t().slice(s![2, ..])), (turned.clone().into_dyn(), turned.len()));
        let joined = concatenate(Axis(0), &[&x, &x.flip(Axis(0))]).slice(s![499..502, 7]);
        assert_eq!(read(&joined), (ndarray::arr1(&[499_007.0, 499_007.0, 498_007.0]).into_dyn(), 3));
        let wide = x.slice(s![3, 4..6]).broadcast_to([50, 2]);
        assert_eq!(read(&wide).0, ArrayD::from_shape_fn(IxDyn(&[50, 2]), |i| 3004.0 + i[1] as f64));
        assert_eq!(read(&x.slice(s![..0, ..])).1, 0);
        let mean = x.slice(s![100..200, ..10]).mean();
        source.taken();
        assert_eq!(mean.compute_scalar().expect("computes"), 149_504.5);
        assert_eq!(source.taken(), 1000);
    }
    // Twice in one expression, and in two results: read once.
    let (product, sum) = compute_all((&x.weighted_mean(&x), &x.sum())).expect("computes");
    let total = plain.sum();
    assert_eq!(sum[[]], total);
    assert!((product[[]] - plain.mapv(|v| v * v).sum() / total).abs() < 1e-6 * product[[]]);
    source.taken();
    compute_all((&x.weighted_mean(&x), &x.sum())).expect("computes");
    assert_eq!(source.taken(), 500 * 400);
}

fn tasks(array: &Array<f64>) -> usize {
    array.run().expect("runs").1.tasks()
}

#[test]
fn a_slice_asks_for_the_chunks_it_needs() {
    let session = session();
    let x = session.default_rng().uniform::<f64>([1000, 1000]).chunks(100);
    // One chunk: made, seen, copied to the result.
    assert_eq!(tasks(&x.slice(s![..;20, 730])), 10, "a generator makes the slice itself, in its chunks");
    let twice = Arc::new(Twice::default());
    let y = x.with_kernel::<f64>(&[], twice.clone(), &());
    assert_eq!(tasks(&y.slice(s![150..160, 250])), 3, "a random chunk, twice it, a copy of the part");
    assert_eq!(twice.chunks(), 1);
    assert_eq!(tasks(&y.slice(s![..;-300, 250..350])), 4 * 2 * 3, "rows 999, 699, 399 and 99, in two columns of chunks");
    let vector = session.default_rng().uniform::<f64>([1000]);
    let product = x.matvec(&vector);
    assert_eq!(tasks(&product.slice(s![150..160])), 10 + 10 + 10 + 1 + 1, "chunks, vectors, products, their sum, a copy");
    let spd = Array::from(session.default_rng().spd::<f64>(1024).compute_into::<ndarray::Ix2>().expect("computes"));
    let factor = spd.in_session(&session).chunks(256).cholesky();
    let all = factor.compute().expect("computes");
    for (slice, needed) in [
        (s![3..5, 7..9], 1),         // potrf
        (s![300..302, 7..9], 2),     // potrf, trsm
        (s![300..302, 300..302], 4), // potrf, trsm, syrk, potrf
        (s![600..602, 300..302], 7), // potrf, trsm, syrk, potrf; trsm, gemm, trsm
    ] {
        let (values, run) = factor.slice(slice).run().expect("runs");
        assert_eq!(values, all.slice(slice).to_owned().into_dyn());
        assert_eq!(run.tasks(), needed + 1, "{slice:?}, with the copy");
    }
    assert_eq!(tasks(&factor.slice(s![..10, 500..510])), 0, "above the diagonal are zeros, which a result is made of");
    assert_eq!(factor.run().expect("runs").1.tasks(), 4 * 5 * 6 / 6);
}

#[test]
fn chunks_need_not_agree() {
    let session = session();
    let (a, x) =
        (Array2::from_shape_fn((60, 60), |(i, j)| ((i * 7 + j * 3) % 11) as f64), Array1::from_iter((0..60).map(f64::from)));
    let wanted = a.dot(&a.dot(&x));
    for (rows, columns, of_x) in [(7, 60, 60), (60, 7, 5), (13, 9, 60), (60, 60, 1), (1, 1, 7)] {
        let array = Array::from(a.clone()).in_session(&session).chunks((rows, columns));
        let vector = Array::from(x.clone()).chunks(of_x);
        let twice = array.matvec(&array.matvec(&vector));
        assert_eq!(twice.compute().expect("computes"), wanted.clone().into_dyn(), "{rows}, {columns}, {of_x}");
        let turned = array.t().matvec(&array.matvec(&vector).rechunk(of_x).flip(Axis(0)));
        let plain = a.t().dot(&a.dot(&x).slice(s![..;-1]));
        assert_eq!(turned.compute().expect("computes"), plain.into_dyn(), "{rows}, {columns}, {of_x}, turned");
        let weights = array.with_kernel::<f64>(&[&array.t()], Arc::new(chunkwise::kernel::sums::Add), &());
        let mean = array.matvec(&vector).weighted_mean(&weights.matvec(&vector).rechunk(11));
        let (v, w) = (a.dot(&x), (&a + &a.t()).dot(&x));
        let wanted = (&v * &w).sum() / w.sum();
        assert!((mean.compute_scalar().expect("computes") - wanted).abs() < 1e-12 * wanted);
    }
    let spd = session.default_rng().spd::<f64>(100).chunks((30, 17));
    let factor = spd.cholesky().chunks((11, 40));
    assert_eq!(factor.grid().largest(), [11, 40]);
    assert_eq!(factor.compute().expect("computes"), spd.cholesky().compute().expect("computes"));
    let counts = picture::<f64>(90, 70, 20).in_session(&session);
    let whole = counts.compute().expect("computes");
    let part = counts.slice(s![..;-7, 3..60;4]).t();
    assert_eq!(part.chunks((5, 2)).compute().expect("computes"), whole.slice(s![..;-7, 3..60;4]).reversed_axes().into_dyn());
}

#[test]
fn several_results_share_what_they_have_in_common() {
    let session = session();
    let twice = Arc::new(Twice::default());
    let x = Array::from(Array2::from_shape_fn((40, 30), |(i, j)| (i * 30 + j) as f64)).in_session(&session).chunks(10);
    let y = x.with_kernel::<f64>(&[], twice.clone(), &());
    let (all, mean, turned, again) = compute_all((&y, &y.mean(), &y.t(), &y)).expect("computes");
    assert_eq!(twice.chunks(), 12);
    assert_eq!((mean[[]], &again), (1199.0, &all));
    assert_eq!(turned, all.clone().reversed_axes());
    assert_eq!(all[[39, 29]], 2.0 * 1199.0);
    let folder = tempfile::tempdir().expect("a folder");
    let spec = |name: &str| folder.path().join(name).display().to_string();
    let sinks = [&[40, 30][..], &[30, 40], &[]].map(|shape| (shape, shape.len()));
    let sinks: Vec<_> = ["y.npy", "t.npy", "m.npy"]
        .iter()
        .zip(sinks)
        .map(|(name, (shape, _))| store::create(&spec(name), shape, DType::F64, None).expect("a file"))
        .collect();
    store_all(&[(&y, &sinks[0]), (&y.t(), &sinks[1]), (&y.mean(), &sinks[2])]).expect("stores");
    assert_eq!(twice.chunks(), 12);
    let back = |name: &str| Array::<f64>::open(&spec(name)).expect("opens").compute().expect("reads");
    assert_eq!((back("y.npy"), back("t.npy"), back("m.npy")), (all, turned, mean));
    let sink = store::create(&spec("twice.npy"), &[40, 30], DType::F64, None).expect("a file");
    assert!(matches!(store_all(&[(&x, &sink), (&y, &sink)]), Err(Error::Argument { .. })));
    let list = [&x.sum(), &y.sum()];
    let sums = compute_all(&list[..]).expect("computes");
    assert_eq!((sums[0][[]], sums[1][[]]), (719_400.0, 1_438_800.0));
    let other = Array::from(ndarray::arr1(&[1.0])).in_session(&self::session());
    assert!(matches!(compute_all((&x, &other)), Err(Error::SessionMismatch { op: "compute_all" })));
}

/// Rows into columns: each chunk of the one has something of each of the other.
#[test]
fn chunks_are_turned_in_bounded_memory() {
    let folder = tempfile::tempdir().expect("a folder");
    let limited = |limit: &str| {
        let session = Session::builder().threads(2).placement(Placement::Cpu).memory_limit(limit).cache_dir("").seed(3);
        session.build().expect("a session")
    };
    // 8 MB, in chunks of 400 kB.
    let rows = |session: &Session, kernel: &Arc<Twice>| {
        let x = session.default_rng().uniform::<f64>([1000, 1000]).chunks((50, 1000));
        x.with_kernel::<f64>(&[], kernel.clone(), &())
    };
    let wanted = rows(&limited("1GB"), &Arc::new(Twice::default())).compute().expect("computes");
    for (limit, chunks) in [("4MB", (1000, 50)), ("4MB", (1000, 33)), ("4MB", (300, 40)), ("4MB", (40, 300))] {
        let (session, kernel) = (limited(limit), Arc::new(Twice::default()));
        let spec = folder.path().join("x.npy").display().to_string();
        let columns = rows(&session, &kernel).rechunk(chunks);
        columns.store(&spec).expect("stores");
        let again = kernel.chunks();
        assert!(again <= 100, "{limit}, {chunks:?}: {again} chunks were made for 20");
        assert_eq!(Array::<f64>::open(&spec).expect("opens").compute().expect("reads"), wanted, "{limit}, {chunks:?}");
    }
    // Asked for in another order than that of the rounds.
    let (session, kernel) = (limited("7MB"), Arc::new(Twice::default()));
    let turned = rows(&session, &kernel).rechunk((500, 50)).with_kernel::<f64>(&[], kernel.clone(), &()).t();
    let spec = folder.path().join("t.npy").display().to_string();
    match turned.store(&spec) {
        Ok(_) => {
            let back = Array::<f64>::open(&spec).expect("opens").compute().expect("reads");
            assert_eq!(back, wanted.mapv(|v| 2.0 * v).reversed_axes());
        }
        Err(error) => assert!(matches!(error, Error::OutOfMemory { .. }), "{error}"),
    }
    // Of a result, all chunks are there: each chunk of the input is made once, and goes.
    let (session, kernel) = (limited("10MB"), Arc::new(Twice::default()));
    let columns = rows(&session, &kernel).rechunk((1000, 50));
    assert_eq!((columns.compute().expect("computes"), kernel.chunks()), (wanted, 20));
}

#[test]
fn ranks_0_and_8_and_nothing_at_all() {
    let session = session();
    let eight = session.default_rng().uniform::<f32>([2, 3, 1, 4, 2, 3, 2, 5]).chunks(2);
    let plain = eight.compute().expect("computes");
    let order = [7, 0, 6, 1, 5, 2, 4, 3];
    let turned = eight.permute(order).slice(s![..;-2, .., 1, .., ..;2, .., .., 1..;-1]);
    let wanted = plain.clone().permuted_axes(&order[..]).slice(s![..;-2, .., 1, .., ..;2, .., .., 1..;-1]).to_owned();
    assert_eq!(turned.compute().expect("computes"), wanted.clone().into_dyn());
    let flat: Vec<f32> = wanted.iter().copied().collect();
    assert_eq!(turned.ravel().compute().expect("computes"), Array1::from(flat).into_dyn());
    let scalar = Array::from(ndarray::arr0(7i32)).in_session(&session);
    assert_eq!(scalar.broadcast_to([2, 0, 3]).compute().expect("computes"), ArrayD::<i32>::zeros(IxDyn(&[2, 0, 3])));
    assert_eq!(scalar.t().reshape([1, 1]).ravel().compute().expect("computes"), ndarray::arr1(&[7]).into_dyn());
    assert_eq!(stack(Axis(0), &[&scalar, &scalar]).compute().expect("computes"), ndarray::arr1(&[7, 7]).into_dyn());
    let nothing = Array::from(Array2::<f64>::zeros((0, 4))).in_session(&session);
    assert_eq!(nothing.t().compute().expect("computes").shape(), [4, 0]);
    assert_eq!(nothing.reshape([2, 0]).compute().expect("computes").shape(), [2, 0]);
    assert_eq!(concatenate(Axis(0), &[&nothing, &nothing]).sum().compute_scalar().expect("computes"), 0.0);
    assert!(nothing.mean().compute_scalar().expect("computes").is_nan());
    assert_eq!(nothing.matvec(&Array::from(Array1::zeros(4))).compute().expect("computes").len(), 0);
    assert_eq!(
        nothing.t().matvec(&Array::from(Array1::zeros(0))).compute().expect("computes"),
        ArrayD::<f64>::zeros(IxDyn(&[4]))
    );
}

#[test]
fn whatever_lies_otherwise_is_stored() {
    let folder = tempfile::tempdir().expect("a folder");
    let plain = Array2::from_shape_fn((70, 90), |(i, j)| (i * 90 + j) as i32);
    let session = session();
    let x = Array::from(plain.t().to_owned().reversed_axes()).in_session(&session);
    for (name, array, wanted) in [
        ("f.npy", x.clone(), plain.clone().into_dyn()),
        ("t.npy", x.t(), plain.t().to_owned().into_dyn()),
        ("flip.npy", x.flip(Axis(1)).chunks(33), plain.slice(s![.., ..;-1]).to_owned().into_dyn()),
        (
            "wide.npy",
            x.slice(s![3, ..;2]).broadcast_to([4, 45]),
            plain.slice(s![3, ..;2]).broadcast((4, 45)).expect("fits").to_owned().into_dyn(),
        ),
    ] {
        let spec = folder.path().join(name).display().to_string();
        array.store(&spec).expect("stores");
        assert_eq!(Array::<i32>::open(&spec).expect("opens").compute().expect("reads"), wanted, "{name}");
    }
}

#[track_caller]
fn says<T>(result: chunkwise::Result<T>, words: &[&str]) {
    let text = result.err().expect("refused").to_string();
    assert!(words.iter().all(|word| text.contains(word)), "{text}");
}

#[test]
fn what_does_not_fit_says_what_would() {
    let a = Array::from(Array2::<f64>::zeros((3, 4))).in_session(&session());
    says(a.try_slice(s![..]), &["slice", "[3, 4]", "one range or index for each axis"]);
    says(a.try_slice(s![.., 2..5]), &["2..5", "axis 1", "[3, 4]", "from -4 to 4"]);
    says(a.try_slice(s![-4.., ..]), &["-4..", "axis 0", "from -3 to 3"]);
    says(a.try_slice(s![.., 4]), &["index = 4", "axis 1", "-4 to 3"]);
    let stepless = ndarray::SliceInfoElem::Slice { start: 0, end: None, step: 0 };
    says(a.try_slice([stepless, stepless]), &["0..;0", "axis 0", "a step that is not 0"]);
    says(a.try_permute([0, 0]), &["[0, 0]", "[3, 4]", "once"]);
    says(a.try_permute([1]), &["[1]", "0..2"]);
    says(a.try_index_axis(Axis(2), 0), &["axis = 2", "[3, 4]", "below 2"]);
    says(a.try_index_axis(Axis(1), 4), &["index = 4", "below 4"]);
    says(a.try_insert_axis(Axis(3)), &["axis = 3", "at most 2"]);
    says(a.try_flip(Axis(7)), &["axis = 7"]);
    says(a.try_broadcast_to([3, 5]), &["[3, 4]", "[3, 5]"]);
    says(a.try_broadcast_to([4]), &["[4]"]);
    says(a.try_reshape([5, 2]), &["[5, 2]", "12", "[3, 4]"]);
    says(a.try_reshape([usize::MAX, usize::MAX]), &["2^59"]);
    says(a.try_rechunk(0), &["chunks", "at least 1"]);
    says(Array::<f64>::try_concatenate(Axis(0), &[]), &["at least one"]);
    says(Array::try_concatenate(Axis(0), &[&a, &a.t()]), &["[4, 3]", "[3, 4]", "axis 0"]);
    says(Array::try_concatenate(Axis(2), &[&a]), &["axis = 2"]);
    says(Array::try_stack(Axis(0), &[&a, &a.t()]), &["[4, 3]", "[3, 4]"]);
    says(Array::try_stack(Axis(3), &[&a, &a]), &["axis = 3"]);
    let other = a.clone().in_session(&session());
    says(Array::try_concatenate(Axis(0), &[&a, &other]), &["concatenate", "session"]);
    let free = Array::from(Array2::<f64>::zeros((1, 4)));
    says(Array::try_concatenate(Axis(0), &[&free, &a, &other]), &["concatenate", "session"]);
    for panics in [
        std::panic::catch_unwind(|| a.slice(s![.., 9])).err(),
        std::panic::catch_unwind(|| a.reshape([1])).err(),
        std::panic::catch_unwind(|| concatenate(Axis(5), &[&a])).err(),
    ] {
        assert!(panics.and_then(|panic| panic.downcast::<String>().ok()).is_some_and(|text| text.contains("[3, 4]")));
    }
}
