//! What is seldom asked of the surface, and must be as good: lists that double, chunks of the user's own making, conversions of sources that do not convert, limits, attributes.
//!
//! Owns: what a hostile reader of the surface tried. Must not know: how plans are made. Invariant: each test fails without what it is for.

use std::borrow::Cow;
use std::sync::Arc;

use chunkwise::ext::{ChunkMeta, ChunkView, ChunkViewMut, Fault, Kernel, Layout, Region, Scratch, Work};
use chunkwise::ndarray::{ArrayD, arr1};
use chunkwise::store::{Attr, Hdf5, Npy};
use chunkwise::{Array, prelude::*};
use support::counted::Counted;
use support::twice::Twice;

fn session() -> Session {
    Session::builder().threads(2).placement(Placement::Cpu).cache_dir("").build().expect("a session")
}

#[test]
fn concatenations_may_double_and_grow() {
    let session = session();
    let mut doubled = Array::from(vec![1.0, 2.0, 3.0]).in_session(&session).chunks(2);
    for _ in 0..18 {
        doubled = concatenate(Axis(0), &[&doubled, &doubled]);
    }
    assert_eq!(doubled.len(), 3 << 18);
    assert_eq!(doubled.slice(s![-4..]).compute().expect("computes"), arr1(&[3.0, 1.0, 2.0, 3.0]).into_dyn());
    let mut even = Array::from(vec![7i64]).in_session(&session);
    for _ in 0..58 {
        even = concatenate(Axis(0), &[&even, &even]);
    }
    assert_eq!(even.slice(s![(1isize << 57) - 1..(1isize << 57) + 2]).sum().compute_scalar().expect("computes"), 21);

    // One by one, with more parts than one list has, at either end.
    let (mut before, mut after) = (Array::from(vec![0i64]).in_session(&session), Array::from(vec![0i64]).in_session(&session));
    for n in 1..5000 {
        let one = Array::from(vec![n; 1 + n as usize % 2]).in_session(&session);
        after = concatenate(Axis(0), &[&after, &one]);
        before = concatenate(Axis(0), &[&one, &before]);
    }
    let wanted: i64 = (1..5000).map(|n| n * (1 + n % 2)).sum();
    let (first, last) = compute_all((&before.sum(), &after.sum())).expect("computes");
    assert_eq!((first[[]], last[[]]), (wanted, wanted));
    assert_eq!(after.slice(s![-3..]).compute().expect("computes"), arr1(&[4998, 4999, 4999]).into_dyn());
}

/// Chunks that are for another array.
#[derive(Clone)]
struct Elsewhere(Vec<usize>);

impl IntoChunks for Elsewhere {
    fn into_grid(self, _: &[usize], _: DType) -> Result<chunkwise::ChunkGrid> {
        chunkwise::ChunkGrid::regular(&self.0, &vec![2; self.0.len()])
    }
}

#[test]
fn chunks_of_another_shape_are_refused() {
    let x = Array::from(vec![1.0; 5]).in_session(&session());
    let folder = tempfile::tempdir().expect("a folder");
    for shape in [vec![3], vec![7], vec![5, 5], vec![]] {
        let stored =
            Hdf5::create(folder.path().join("x.h5")).expect("begins").put("/x", &x).chunks(Elsewhere(shape.clone())).run();
        for refused in
            [x.clone().try_chunks(Elsewhere(shape.clone())).err(), x.try_rechunk(Elsewhere(shape.clone())).err(), stored.err()]
        {
            let text = refused.expect("refused").to_string();
            assert!(text.contains(&format!("{shape:?}")) && text.contains("[5]"), "{text}");
        }
    }
    assert_eq!(x.chunks(Elsewhere(vec![5])).grid().len(), 3);
}

#[test]
fn a_limit_that_is_suggested_is_enough() {
    let run = |limit: &str| {
        let session = Session::builder().threads(1).placement(Placement::Cpu).cache_dir("").memory_limit(limit).build()?;
        let x = session.rng(0).uniform::<f64>((2000, 2000)).with_kernel::<f64>(&[], Arc::new(Twice::default()), &());
        x.chunks((500, 2000)).rechunk((2000, 8)).sum().compute_scalar()
    };
    let mut refused = 0;
    for limit in ["9MB", "14MB", "20MB", "28MB", "40MB"] {
        let t = std::time::Instant::now();
        let Err(error) = run(limit) else { continue };
        let text = error.to_string();
        eprintln!("{limit} {:?} {text}", t.elapsed());
        let after = text.split("memory_limit(\"").nth(1).unwrap_or_else(|| panic!("no limit in {text}"));
        run(after.split('"').next().expect("a quote")).unwrap_or_else(|again| panic!("{limit}: {text}\nbut then: {again}"));
        refused += 1;
    }
    assert!(refused > 0, "nothing was refused");
}

/// At 256 KiB of stack.
#[test]
fn chunks_may_be_chosen_again_and_again() {
    let chain = || {
        let mut x = Array::from(vec![1.0; 6]);
        for n in 0..100_000 {
            x = x.rechunk(2 + n % 2);
        }
        assert_eq!(x.chunks(Auto).grid().len(), 1);
    };
    std::thread::Builder::new().stack_size(256 << 10).spawn(chain).expect("a thread").join().expect("no overflow");
}

#[test]
fn a_source_need_not_convert_and_a_slice_of_a_cast_reads_what_it_touches() {
    let source = Arc::new(Counted::new(&[300, 200], |at| (1000 * at[0] + at[1]) as i64)); // gives integers only
    let session = session();
    let x = Array::<i64>::from_source(source.clone()).expect("i64").in_session(&session);
    let row = |i: usize| arr1(&(0..200).map(|j| (1000 * i + j) as f64).collect::<Vec<_>>()).into_dyn();
    let floats = Array::<f64>::from_source(source.clone()).expect("converted").in_session(&session);
    assert_eq!(floats.chunks(70).compute().expect("computes"), x.cast::<f64>().compute().expect("computes"));
    let read = |what: &dyn Fn() -> ArrayD<f64>| {
        source.taken();
        (what(), source.taken())
    };
    let computed = |array: Array<f64>| array.compute().expect("computes");
    assert_eq!(read(&|| computed(x.cast::<f64>().slice(s![3, ..]))), (row(3), 200));
    assert_eq!(read(&|| computed(x.cast::<i32>().slice(s![3, ..]).cast())), (row(3), 200));
    assert_eq!(read(&|| computed(x.t().cast::<f64>().slice(s![.., 3]))), (row(3), 200));
    assert_eq!(read(&|| computed(x.cast::<f32>().chunks((50, 60)).slice(s![3, ..]).cast())), (row(3), 200));
    // Where it is computed: the chunks of it that are touched.
    let twice = x.cast::<f64>().chunks((10, 200)).with_kernel::<f64>(&[], Arc::new(Twice::default()), &());
    assert_eq!(read(&|| computed(twice.cast::<f32>().slice(s![3, ..]).cast())), (row(3) * 2.0, 2000));
}

#[test]
fn equal_expressions_are_one() {
    let x = session().rng(1).uniform::<f64>(1000);
    let tasks = |a: &Array<f32>, b: &Array<f32>| {
        concatenate(Axis(0), &[a, b]).explain().expect("explains").groups.iter().map(|g| g.tasks).sum::<usize>()
    };
    let shared = x.cast::<f32>();
    assert_eq!(tasks(&x.cast(), &x.cast()), tasks(&shared, &shared));
    let p = Array::<f64>::ogrid(-1.0, 1.0, 30).in_session(&session());
    let q = mandelbrot(&p, &p, 10);
    let both = |a: &Array<i32>, b: &Array<i32>| {
        stack(Axis(0), &[a, b]).explain().expect("explains").groups.iter().map(|g| g.tasks).sum::<usize>()
    };
    assert_eq!(both(&mandelbrot(&p, &p, 10), &mandelbrot(&p, &p, 10)), both(&q, &q));
}

#[test]
fn a_sessions_own_generator_is_another_one() {
    let session = Session::builder().threads(1).placement(Placement::Cpu).seed(5).cache_dir("").build().expect("a session");
    let (own, same) = (session.default_rng().uniform::<f64>(9), session.rng(5).uniform::<f64>(9));
    assert_ne!(own.compute().expect("computes"), same.compute().expect("computes"));
}

#[test]
fn points_are_finite_or_refused() {
    for (a, b) in [(-1.7e308, 1.7e308), (f64::NAN, 0.0), (0.0, f64::INFINITY)] {
        assert!(Array::<f64>::try_ogrid(a, b, 3).expect_err("refused").to_string().contains("finite"));
    }
    assert!(Array::<f32>::try_ogrid(0.0, 1e300, 3).expect_err("refused").to_string().contains("finite in f32"));
    assert!(
        Array::<f64>::ogrid(0.0, 1e300, 3).in_session(&session()).compute().expect("computes").iter().all(|x| x.is_finite())
    );
}

#[test]
fn printing_does_not_list_chunks_of_memory() {
    let text = format!("{:?}", Array::from(vec![0u8; 1 << 24]).chunks(1));
    assert!(text.contains("0 tasks") && text.contains("16777216 chunks"), "{text}");
}

#[test]
fn limits_are_texts_or_numbers_and_leave_something() {
    let needs = |builder: chunkwise::SessionBuilder| {
        let session = builder.threads(1).placement(Placement::Cpu).cache_dir("").build()?;
        Array::from(vec![0.0; 1000]).in_session(&session).compute().map(|_| ())
    };
    for builder in [
        Session::builder().memory_limit("1kB"),
        Session::builder().memory_limit(1000),
        Session::builder().memory_limit(Bytes(1000)),
        Session::builder().memory_limit("1kB".to_owned()),
    ] {
        assert!(needs(builder).expect_err("too little").to_string().contains("1.00 kB"));
    }
    needs(Session::builder().memory_limit(1 << 30)).expect("enough");
    for builder in [Session::builder().memory_limit("0"), Session::builder().gpu_memory_limit(0)] {
        let text = needs(builder).expect_err("refused").to_string();
        assert!(text.contains("limit = 0: give some"), "{text}");
    }
}

#[test]
fn lists_are_computed_at_once_however_they_are_held() {
    let session = session();
    let arrays: Vec<Array<i64>> = (0..3).map(|n| Array::from(vec![n, 10]).in_session(&session).sum()).collect();
    let by_name: Vec<&Array<i64>> = arrays.iter().collect();
    let sums = |all: Vec<ArrayD<i64>>| all.iter().map(|sum| sum[[]]).collect::<Vec<_>>();
    let [a, b, c] = &arrays[..] else { unreachable!() };
    let all = [
        compute_all(&arrays),
        compute_all(&arrays[..]),
        compute_all(&by_name),
        compute_all(&by_name[..]),
        compute_all(&[a, b, c]),
        compute_all(&[a.clone(), b.clone(), c.clone()]),
    ];
    for each in all {
        assert_eq!(sums(each.expect("computes")), [10, 11, 12]);
    }
}

#[test]
fn many_attributes_of_every_kind_come_back() {
    let folder = tempfile::tempdir().expect("a folder");
    let path = folder.path().join("a.h5");
    let x = Array::from(vec![1.0]).in_session(&session());
    let kinds: [(&str, Attr); 8] = [
        ("columns", ["time", "µ", ""].into()),
        ("none", Vec::<String>::new().into()),
        ("len", 7usize.into()),
        ("shape", (&[3usize, 4][..]).into()),
        ("byte", 200u8.into()),
        ("small", [-1i8, 2].into()),
        ("wave", [0.5f32, 2.0].into()),
        ("twice", "second".into()),
    ];
    let mut put = Hdf5::create(&path).expect("begins").attr("of", "all").put("/x", &x).attr("twice", "first");
    for (name, value) in &kinds {
        put = put.attr(*name, value.clone());
    }
    for n in 0..2000 {
        put = put.attr(format!("n{n}"), n);
    }
    put.run().expect("written");
    let file = Hdf5::open(&path).expect("opens");
    for (name, value) in &kinds {
        assert_eq!(file.attr("/x", name).expect("there"), *value, "{name}");
    }
    assert_eq!(file.attrs("/x").expect("read").len(), 2008);
    assert_eq!(file.attr("/x", "n1999").expect("there").as_f64(), Some(1999.0));
    let text = file.attr("/", "missing").expect_err("missing").to_string();
    assert!(text.contains("has no attribute missing; it has of"), "{text}");
    let zero: Attr = ["a\0"].into();
    assert!(
        Hdf5::create(&path)
            .expect("begins")
            .put("/x", &x)
            .attr("bad", zero)
            .run()
            .expect_err("refused")
            .to_string()
            .contains("character 0")
    );
    let long: Attr = vec!["text".to_owned(); 5000].into();
    assert!(
        Hdf5::create(&path)
            .expect("begins")
            .put("/x", &x)
            .attr("bad", long)
            .run()
            .expect_err("refused")
            .to_string()
            .contains("64 kB")
    );
}

#[test]
fn files_are_explained_without_being_written() {
    let folder = tempfile::tempdir().expect("a folder");
    let (path, npy) = (folder.path().join("a.h5"), folder.path().join("a.npy"));
    let session = session();
    let x = session.rng(1).uniform::<f64>((400, 300));
    Hdf5::create(&path).expect("begins").put("/big", &x).run().expect("written");
    let before = std::fs::read(&path).expect("there");
    let y = x.slice(s![.., ..20]);
    let begin = || Hdf5::create(&path).expect("begins");
    for put in
        [&|| begin().put("/y", &y).deflate(1), &|| begin().put_all([("/y", &y), ("/z", &y)]).chunks(7)] as [&dyn Fn() -> _; 2]
    {
        let explained = put().explain().expect("explains");
        assert!(!explained.groups.is_empty() && std::fs::read(&path).expect("there") == before, "{explained}");
    }
    assert!(Npy::create(&npy).put(&y).explain().expect("explains").groups.iter().map(|g| g.tasks).sum::<usize>() > 0);
    assert!(Hdf5::create(&path).expect("begins").put("/y", &y).deflate(11).explain().is_err());
    assert_eq!(std::fs::read_dir(folder.path()).expect("a folder").count(), 1, "nothing else is left");
    let printed = format!("{:?}", Hdf5::open(&path).expect("opens").dataset("/big").expect("there"));
    assert!(printed.contains("from    ") && printed.contains("a.h5:/big"), "{printed}");
}

#[test]
fn several_arrays_are_put_in_a_loop() {
    let folder = tempfile::tempdir().expect("a folder");
    let path = folder.path().join("a.h5");
    let session = session();
    let rows: Vec<Array<i32>> = (0..4).map(|n| Array::from(vec![n; 6]).in_session(&session)).collect();
    let other = Array::from(vec![true, false]).in_session(&session);
    let names: Vec<String> = (0..4).map(|n| format!("/row/{n}")).collect();
    let put = Hdf5::create(&path).expect("begins").put_all(names.iter().zip(&rows)).chunks(3).attr("kind", "row");
    put.put("/other", &other).attr("kind", "other").run().expect("written");
    let file = Hdf5::open(&path).expect("opens");
    assert_eq!(file.datasets().expect("listed").len(), 5);
    for (n, name) in names.iter().enumerate() {
        let back = file.dataset(name).expect("there");
        assert_eq!(file.source(name).expect("there").storage_chunks(), Some(&[3][..]));
        assert_eq!(file.attr(name, "kind").expect("there").as_str(), Some("row"));
        assert_eq!(
            back.as_::<i32>().expect("i32").in_session(&session).compute().expect("reads"),
            arr1(&[n as i32; 6]).into_dyn()
        );
    }
    assert_eq!(file.attr("/other", "kind").expect("there").as_str(), Some("other"));
    let one = Array::from(vec![1]).in_session(&session);
    let two = Array::from(vec![1]).in_session(&self::session());
    let text =
        Hdf5::create(&path).expect("begins").put("/a", &one).put("/b", &two).run().expect_err("two sessions").to_string();
    assert!(text.contains("in one call to put"), "{text}");
}

#[test]
fn what_the_system_refuses_says_what_to_do() {
    let folder = tempfile::tempdir().expect("a folder");
    let nowhere = folder.path().join("none");
    let x = Array::from(vec![1.0]).in_session(&session());
    let text = Npy::create(nowhere.join("a.npy")).put(&x).run().expect_err("no folder").to_string();
    assert!(text.contains("make its folder first"), "{text}");
    let text = Hdf5::create(nowhere.join("a.h5")).err().expect("no folder").to_string();
    assert!(text.contains("make its folder first"), "{text}");
    let text = Npy::open(nowhere.join("a.npy")).expect_err("no file").to_string();
    assert!(text.contains("look at the path"), "{text}");
}

#[test]
fn a_file_may_be_begun_anew_or_get_attributes_alone() {
    let folder = tempfile::tempdir().expect("a folder");
    let path = folder.path().join("a.h5");
    let x = Array::from(vec![1, 2]).in_session(&session());
    let text = Hdf5::create(&path).expect("begins").commit().expect_err("nothing").to_string();
    assert!(text.contains("no dataset and no attribute"), "{text}");
    Hdf5::create(&path).expect("begins").attr("title", "first").commit().expect("a file of attributes alone");
    Hdf5::create(&path).expect("begins").put("/x", &x).run().expect("written");
    Hdf5::create(&path).expect("begins").attr("title", "second").commit().expect("the attribute is replaced");
    let file = Hdf5::open(&path).expect("opens");
    assert_eq!(
        (file.datasets().expect("listed"), file.attr("/", "title").expect("there").as_str()),
        (vec!["/x".to_owned()], Some("second"))
    );
    assert_eq!(
        file.dataset("/x").expect("there").as_::<i32>().expect("i32").in_session(&session()).compute().expect("reads").sum(),
        3
    );

    let begun = Hdf5::replace(&path).expect("begins").put("/y", &x);
    assert_eq!(Hdf5::open(&path).expect("opens").datasets().expect("listed"), ["/x"], "until it is committed");
    begun.run().expect("written");
    let file = Hdf5::open(&path).expect("opens");
    assert_eq!((file.datasets().expect("listed"), file.attrs("/").expect("read").len()), (vec!["/y".to_owned()], 0));
    std::fs::write(&path, "no HDF5").expect("written");
    assert!(Hdf5::create(&path).is_err());
    Hdf5::replace(&path).expect("begins").put("/z", &x).deflate(1).run().expect("written");
    assert_eq!(Hdf5::open(&path).expect("opens").datasets().expect("listed"), ["/z"]);
}

#[test]
fn arrays_of_unlike_dtypes_are_not_joined() {
    let session = session();
    let (a, b) = (Array::from(vec![1i32, 2]).in_session(&session), Array::from(vec![1.5f64, 2.5]).in_session(&session));
    let (x, y, z) = (a.clone().into_dyn(), a.clone().into_dyn(), b.into_dyn());
    for error in [DynArray::try_concatenate(Axis(0), &[&x, &y, &z]).err(), DynArray::try_stack(Axis(0), &[&x, &y, &z]).err()] {
        let text = error.expect("refused").to_string();
        assert!(text.contains("array 2 to concatenate") && text.contains("f64") && text.contains("cast it to i32"), "{text}");
    }
    let both = stack(Axis(1), &[&x, &y]).as_::<i32>().expect("i32").compute().expect("computes");
    assert_eq!(both, ndarray::arr2(&[[1, 1], [2, 2]]).into_dyn());
}

#[test]
fn an_empty_region_may_be_written() {
    let folder = tempfile::tempdir().expect("a folder");
    for n in [32, 33] {
        let path = folder.path().join(format!("{n}.h5"));
        let file = Hdf5::create(&path).expect("begins");
        let sink = file.dataset("/x", &[n], DType::F64).chunks(&[16][..]).deflate(1).create().expect("made");
        let none = Region::new(&[n], &[(n, n)]).expect("at the end");
        sink.write(&none, ChunkView::from_slice::<f64>(&[], &Layout::contiguous(DType::F64, &[0]))).expect("nothing to write");
        let ones = vec![1.0; n];
        sink.write(&Region::all(&[n]), ChunkView::from_slice(&ones, &Layout::contiguous(DType::F64, &[n]))).expect("written");
        file.commit().expect("committed");
        let back = Hdf5::open(&path).expect("opens").dataset("/x").expect("there").as_::<f64>().expect("f64");
        assert_eq!(back.in_session(&session()).compute().expect("reads").sum(), n as f64);
    }
}

#[test]
fn a_weighted_mean_of_what_does_not_convert_is_right() {
    let session = session();
    let of = |weights: bool| {
        let at: fn(&[usize]) -> i64 = if weights { |at| 1 + at[1] as i64 } else { |at| (at[0] * 10 + at[1]) as i64 };
        Array::<i64>::from_source(Arc::new(Counted::new(&[30, 20], at))).expect("i64").in_session(&session)
    };
    let (x, w) = (of(false), of(true));
    let wanted = x.weighted_mean(&x).compute_scalar().expect("computes");
    assert!(wanted > 0.0);
    let (values, weights) = (x.compute().expect("reads"), w.compute().expect("reads"));
    let sum: i64 = values.iter().zip(&weights).map(|(x, w)| x * w).sum();
    let found = x.weighted_mean(&w).compute_scalar().expect("computes");
    assert!((found - sum as f64 / weights.sum() as f64).abs() < 1e-9, "{found}");
}

#[test]
fn what_is_reduced_is_not_all_made_first() {
    let session = Session::builder().threads(2).placement(Placement::Cpu).cache_dir("").memory_limit("4GB").build();
    let session = session.expect("a session");
    let x = session.default_rng().uniform::<f64>([10_000, 25_000]);
    for array in [x.mean(), x.matvec(&session.default_rng().uniform([25_000])).mean(), x.t().slice(s![..;2, ..]).mean()] {
        let expected = array.explain().expect("explains").expected_bytes;
        assert!(expected < 450 << 20, "{expected} bytes expected, of 2 GB and more");
    }
}

/// A kernel that gives up.
struct Moody;

impl Kernel for Moody {
    fn name(&self) -> Cow<'static, str> {
        "test::moody".into()
    }
    fn work(&self, _: &[u8], operands: &[ChunkMeta<'_>]) -> Work {
        Work { flops: operands[0].shape.iter().product::<usize>() as f64, bytes: 0.0 }
    }
    fn run_cpu(
        &self,
        _: &[u8],
        inputs: &[ChunkView<'_>],
        _: &mut [ChunkViewMut<'_>],
        _: &mut Scratch<'_>,
    ) -> std::result::Result<(), Fault> {
        if inputs[0].shape()[0] == 1 { Err("a bad day")? } else { Err(format!("{:?} is too much", inputs[0].shape()))? }
    }
}

#[test]
fn what_a_kernel_says_comes_with_its_task() {
    let x = Array::from(vec![1.0; 6]).in_session(&session());
    let error = |x: &Array<f64>| x.with_kernel::<f64>(&[], Arc::new(Moody), &0u64).compute().expect_err("gives up").to_string();
    let (one, more) = (error(&x.slice(s![..1])), error(&x.chunks(6)));
    assert!(one.contains("test::moody #0") && one.ends_with("failed: a bad day"), "{one}");
    assert!(more.ends_with("failed: [6] is too much"), "{more}");
}

#[test]
fn a_limit_beyond_all_memory_is_warned_of() {
    let told = Arc::new(std::sync::Mutex::new(String::new()));
    let tell = told.clone();
    let begin = || Session::builder().threads(1).placement(Placement::Cpu).cache_dir("");
    let warn = move |text: &str| tell.lock().expect("no panic").push_str(text);
    begin().warnings(warn).memory_limit("900TB").build().expect("a session");
    assert!(told.lock().expect("no panic").starts_with("memory limit = 900 TB, but "), "{told:?}");
    for wrong in ["-1GB", "lots"] {
        let error = begin().memory_limit(wrong).build().expect_err(wrong).to_string();
        assert!(error.starts_with(&format!("memory limit = {wrong}: write a number")), "{error}");
    }
}

#[test]
fn a_view_of_a_narrow_cast_takes_no_more_than_a_cast_of_a_view() {
    let session = session();
    let made = session.default_rng().uniform::<f64>([20_000, 20_000]);
    let row = session.default_rng().uniform::<f64>([20_000]).broadcast_to([20_000, 20_000]);
    let there = Array::from(chunkwise::ndarray::Array2::<f64>::ones((3000, 2000))).in_session(&session);
    let explained = |array: &Array<u8>| {
        let explanation = array.sum().explain().expect("explains");
        (explanation.bound_bytes, explanation.groups.iter().map(|group| group.tasks).sum::<usize>())
    };
    let views: [(&str, &dyn Fn(DynArray) -> DynArray); 4] = [
        ("rows", &|a| a.slice(s![1.., ..])),
        ("columns", &|a| a.slice(s![.., 7..])),
        ("turned", &|a| a.t()),
        ("flipped", &|a| a.flip(Axis(0))),
    ];
    for (name, x) in [("made", &made), ("repeated", &row), ("in memory", &there)] {
        for (view, of) in views {
            let (bytes, _) = explained(&of(x.clone().into_dyn()).cast::<u8>());
            let (found, tasks) = explained(&of(x.cast::<u8>().into_dyn()).as_::<u8>().expect("u8"));
            assert!(
                found <= bytes.max(16 << 20) + (8 << 20),
                "{view} of {name}: {found} bytes, {bytes} for a cast of the view"
            );
            // Chunks are no smaller than they need be.
            let fewest = x.len() * if name == "made" { 8 } else { 1 } / (16 << 20) + 1;
            assert!(tasks <= 5 * fewest, "{view} of {name}: {tasks} tasks");
        }
    }
}
