//! A user's own kernel: the example's, against a plain loop on the CPU and on a GPU; wrong kernels; the example program.
//!
//! Owns: what `Array::with_kernel` and the guide promise. Must not know: how the library's own kernels are run. Invariant: that a GPU computed
//! something is read from its counters.

#[cfg(feature = "gpu")]
mod on_a_gpu;

use std::borrow::Cow;
use std::panic::AssertUnwindSafe;
use std::sync::Arc;

use chunkwise::device::HostBuffer;
use chunkwise::kernel::{
    Content, Fault, GpuFacts, Held, Kernel, Lane, Program, Scratch, Work, check_dtypes, check_params, for_each_piece, params,
};
use chunkwise::runtime::{Inside, Plan};
use chunkwise::shape::DType::{Bool, F64, I32, U8};
use chunkwise::shape::{ChunkMeta, ChunkView, ChunkViewMut, DType, Form, Layout};
use chunkwise::task::GraphBuilder;
use chunkwise::{Array, prelude::*};
use ndarray::{ArrayD, Dimension, IxDyn, ShapeBuilder};

use crate::{Logistic, Number};

/// Shapes that fill no workgroup, row of a buffer, or chunk; and their chunks.
const RAGGED: [(&[usize], usize); 8] =
    [(&[], 1), (&[1], 1), (&[63], 64), (&[65], 64), (&[1009], 100), (&[7, 129], 50), (&[3, 2100], 2100), (&[5, 4, 3], 3)];

fn cpu() -> Session {
    Session::builder().threads(2).placement(Placement::Cpu).cache_dir("").build().expect("a session")
}

/// Populations and rates, in C order or with the first axis innermost.
fn populations<T: Number>(shape: &[usize], f_order: bool) -> [ArrayD<T>; 2] {
    let dim = || IxDyn(shape).set_f(f_order);
    let number = |i: &IxDyn| -> f64 { i.as_array_view().iter().fold(1usize, |n, i| (n * 31 + i) % 10_007) as f64 };
    [
        ArrayD::from_shape_fn(dim(), |i| T::from_f64((number(&i) * 0.618).fract())),
        ArrayD::from_shape_fn(dim(), |i| T::from_f64((number(&i) * 0.324).fract() * 3.4)),
    ]
}

fn plain<T: Number>(x: &ArrayD<T>, rate: &ArrayD<T>, generations: u32) -> ArrayD<T> {
    let grow = |x: &T, r: &T| (0..generations).fold(*x, |x, _| *r * (x * (T::from_f64(1.0) - x)));
    ndarray::Zip::from(x).and(rate).map_collect(grow)
}

fn grown<T: Number>(x: &Array<T>, rate: &Array<T>, generations: u32) -> Array<T> {
    x.with_kernel(&[rate], Arc::new(Logistic), &generations)
}

fn is_the_plain_loop<T: Number>() {
    let session = cpu();
    for (shape, chunk) in RAGGED {
        for (f_order, generations) in [(false, 0), (true, 1), (false, 50), (true, 50)] {
            let [x, rate] = populations::<T>(shape, f_order);
            let wanted = plain(&x, &rate, generations);
            let x = Array::from(x).in_session(&session).chunks(chunk);
            let found = grown(&x, &Array::from(rate), generations).compute().expect("runs");
            assert_eq!(found, wanted, "{shape:?} by {chunk}, {generations} generations");
        }
    }
}

#[test]
fn the_cpu_body_is_the_plain_loop() {
    is_the_plain_loop::<f32>();
    is_the_plain_loop::<f64>();
}

#[test]
fn inputs_may_be_computed_shared_empty_or_larger_than_memory() {
    let session = cpu();
    let [x, rate] = populations::<f64>(&[40, 30], false);
    let twice = plain(&plain(&x, &rate, 3), &plain(&x, &rate, 3), 1);
    let a = Array::from(x.clone()).in_session(&session).chunks((16, 30));
    let y = grown(&a, &Array::from(rate.clone()), 3);
    let z = grown(&y, &y, 1);
    assert_eq!(z.grid(), a.grid());
    let (found, run) = z.run().expect("a chain");
    assert_eq!((found, run.tasks()), (twice, 6), "y is computed once");
    let recut = grown(&a, &Array::from(rate), 3).chunks(7);
    assert_eq!((recut.compute().expect("other chunks"), recut.grid().len()), (y.compute().expect("y"), 30));

    let v = a.matvec(&Array::from(ndarray::Array1::from_elem(30, 0.01)));
    let start = v.compute().expect("a product");
    assert_eq!(grown(&v, &v, 2).compute().expect("of products"), plain(&start, &start, 2));

    let none = Array::from(ndarray::Array2::<f64>::zeros((0, 3))).in_session(&session);
    assert_eq!(grown(&none, &none, 5).compute().expect("nothing").shape(), [0, 3]);

    // 80 MB pass through 20 MB.
    let small =
        Session::builder().threads(2).placement(Placement::Cpu).memory_limit("20MB").cache_dir("").build().expect("small");
    let wide = small.default_rng().uniform::<f64>([10_000_000]).chunks(100_000);
    let folder = tempfile::tempdir().expect("a folder");
    let file = folder.path().join("x.npy");
    let stored = grown(&grown(&wide, &wide, 2), &wide, 1).store(&file.display().to_string());
    let bytes = std::fs::metadata(&file).map(|m| m.len()).unwrap_or(0);
    assert!(stored.is_ok() && bytes > 80_000_000, "{stored:?}, {bytes}");
}

#[test]
fn what_will_be_done_is_explained_and_shown() {
    let [x, rate] = populations::<f64>(&[90], false);
    let y = grown(&Array::from(x).in_session(&cpu()).chunks(40), &Array::from(rate), 9);
    let text = y.explain().expect("explains").to_string();
    assert!(text.contains("example::logistic"), "{text}");
    let table = format!("{y:?}");
    assert!(table.contains("example::logistic") && table.contains("3 tasks"), "{table}");
}

#[test]
fn inputs_that_do_not_fit_are_refused() {
    let [a, b] = [cpu(), cpu()].map(|s| s.default_rng().uniform::<f64>([6, 4]).chunks((2, 4)));
    let with = |x: &Array<f64>, y: &Array<f64>| x.try_with_kernel::<f64>(&[y], Arc::new(Logistic), &0u32);
    assert!(matches!(with(&a, &b), Err(Error::SessionMismatch { op: "with_kernel" })));
    let other = Array::from(ndarray::Array2::<f64>::zeros((4, 6)));
    assert!(matches!(with(&a, &other), Err(Error::Shape { op: "with_kernel", .. })));
    // Chunks that do not agree are put together.
    let made = with(&a, &a).expect("fits");
    let (one, same) = (with(&a.clone().chunks((3, 4)), &made).expect("fits"), with(&a, &made).expect("fits"));
    assert_eq!(one.compute().expect("computes"), same.compute().expect("computes"));
    assert_eq!(with(&made, &a).expect("fits").try_chunks((3, 4)).expect("any chunks").grid().counts(), [2, 1]);
    let panic =
        std::panic::catch_unwind(AssertUnwindSafe(|| grown(&a, &other, 1))).err().and_then(|e| e.downcast::<String>().ok());
    assert!(panic.is_some_and(|text| text.contains("[6, 4]")));
}

type Change = fn(Program) -> Program;
type Ran = std::result::Result<(), Fault>;

/// [`Logistic`] with its GPU half changed, or a body that panics.
struct Changed {
    program: Change,
    panics: bool,
}

impl Kernel for Changed {
    fn name(&self) -> Cow<'static, str> {
        "test::changed".into()
    }
    fn work(&self, bytes: &[u8], operands: &[ChunkMeta<'_>]) -> Work {
        Logistic.work(bytes, operands)
    }
    fn program(&self, bytes: &[u8], operands: &[ChunkMeta<'_>], gpu: &GpuFacts) -> Option<Program> {
        Logistic.program(bytes, operands, gpu).map(self.program)
    }
    fn run_cpu(
        &self,
        bytes: &[u8],
        inputs: &[ChunkView<'_>],
        outputs: &mut [ChunkViewMut<'_>],
        scratch: &mut Scratch<'_>,
    ) -> std::result::Result<(), Fault> {
        assert!(!self.panics, "the user's bug");
        Logistic.run_cpu(bytes, inputs, outputs, scratch)
    }
}

#[test]
fn a_body_that_panics_or_meets_another_dtype_is_one_error() {
    let session = cpu();
    let x = session.default_rng().uniform::<f64>([100]).chunks(30);
    let changed = |panics| Arc::new(Changed { program: |p| p, panics });
    let error = x.with_kernel::<f64>(&[&x], changed(true), &0u32).compute().expect_err("panics").to_string();
    assert!(error.contains("the user's bug") && error.contains("test::changed"), "{error}");
    // This one has no check.
    let error = x.with_kernel::<i32>(&[&x], changed(false), &0u32).compute().expect_err("floats").to_string();
    assert!(error.contains("chunk holds i32"), "{error}");
    assert_eq!(grown(&x, &x, 0).compute().expect("works"), x.compute().expect("works"));
}

/// Copies its input, and panics where it is asked for this.
struct Panics(&'static str);

impl Panics {
    fn at(&self, here: &str) {
        assert!(self.0 != here, "the user's bug in {here}");
    }
}

impl Kernel for Panics {
    fn name(&self) -> Cow<'static, str> {
        self.at("name");
        "test::panics".into()
    }
    fn content(&self) -> Content {
        self.at("content");
        Content::Text(self.0.into())
    }
    fn lane(&self) -> Lane {
        self.at("lane");
        Lane::Compute
    }
    fn is_steady(&self) -> bool {
        self.at("is_steady");
        true
    }
    fn check(&self, _: &[u8], _: &[ChunkMeta<'_>]) -> Result<()> {
        self.at("check");
        Ok(())
    }
    fn work(&self, _: &[u8], _: &[ChunkMeta<'_>]) -> Work {
        self.at("work");
        Work { flops: 100.0, bytes: 100.0 }
    }
    fn scratch_bytes(&self, _: &[u8], _: &[ChunkMeta<'_>]) -> u64 {
        self.at("scratch_bytes");
        100
    }
    fn held(&self) -> Vec<Held> {
        self.at("held");
        Vec::new()
    }
    fn hold(&self) -> Vec<Arc<dyn std::any::Any + Send + Sync>> {
        self.at("hold");
        Vec::new()
    }
    fn input_form(&self, _: &[u8], _: usize) -> Form {
        self.at("input_form");
        if ["packed_len", "pack", "packs"].contains(&self.0) { Form::Packed(0) } else { Form::Plain }
    }
    fn packed_len(&self, _: u8, operand: ChunkMeta<'_>) -> (DType, usize) {
        self.at("packed_len");
        (F64, operand.shape.iter().product())
    }
    fn pack(&self, _: u8, from: ChunkView<'_>, to: &mut ChunkViewMut<'_>) {
        self.at("pack");
        for_each_piece::<[f64; 1], f64>(&[from], to, |[x], out| out.copy_from_slice(x));
    }
    fn run_cpu(&self, _: &[u8], inputs: &[ChunkView<'_>], outputs: &mut [ChunkViewMut<'_>], _: &mut Scratch<'_>) -> Ran {
        self.at("run_cpu");
        for_each_piece::<[f64; 1], f64>(inputs, &mut outputs[0], |[x], out| out.copy_from_slice(x));
        Ok(())
    }
}

/// What a kernel is asked for beforehand only helps: if it panics there, its body has the last word. What is needed is one error, or a panic of whoever gave
/// the kernel. Nothing hangs, and the session goes on.
#[test]
fn kernels_may_panic_wherever_they_are_asked() {
    let session = cpu();
    let x = session.default_rng().uniform::<f64>([100]).chunks(30);
    let wanted = x.compute().expect("numbers");
    let run = |place: &'static str| {
        let compute = || x.try_with_kernel::<f64>(&[], Arc::new(Panics(place)), &())?.compute();
        std::panic::catch_unwind(AssertUnwindSafe(compute))
    };
    for (place, end) in [
        ("nowhere", "a result"),
        ("packs", "a result"),
        ("lane", "a result"),
        ("is_steady", "a result"),
        ("work", "a result"),
        ("scratch_bytes", "a result"),
        ("held", "a result"),
        ("input_form", "a result"),
        ("packed_len", "a result"),
        ("pack", "an error"),
        ("run_cpu", "an error"),
        ("hold", "a panic"),
        ("check", "a panic"),
        ("content", "a panic"),
        ("name", "a panic"),
    ] {
        let found = match run(place) {
            Ok(Ok(found)) if found == wanted => "a result".to_owned(),
            Ok(Err(error)) if error.to_string().contains(&format!("the user's bug in {place}")) => "an error".to_owned(),
            Ok(other) => format!("{other:?}"),
            Err(_) => "a panic".to_owned(),
        };
        assert_eq!(found, end, "{place}");
        assert_eq!(grown(&x, &x, 0).compute().expect("works"), wanted, "after a panic in {place}");
    }
    let begin = std::time::Instant::now();
    while !session.is_idle() || session.used_bytes() > 0 {
        assert!(begin.elapsed().as_secs() < 20, "{} bytes are left", session.used_bytes());
        std::thread::sleep(std::time::Duration::from_millis(1));
    }
}

/// Of one key with `Panics("nowhere")`, but of another type.
struct Twin;

impl Kernel for Twin {
    fn name(&self) -> Cow<'static, str> {
        "test::panics".into()
    }
    fn content(&self) -> Content {
        Content::Text("nowhere".into())
    }
    fn work(&self, bytes: &[u8], operands: &[ChunkMeta<'_>]) -> Work {
        Panics("").work(bytes, operands)
    }
    fn run_cpu(&self, _: &[u8], _: &[ChunkView<'_>], outputs: &mut [ChunkViewMut<'_>], _: &mut Scratch<'_>) -> Ran {
        outputs[0].set(0, 0, 7.0);
        Ok(())
    }
}

#[test]
fn two_kernels_of_one_key_are_refused_and_other_contents_are_other_kernels() {
    let session = cpu();
    let x = session.default_rng().uniform::<f64>([1]);
    let with = |x: &Array<f64>, kernel: Arc<dyn Kernel>| x.with_kernel::<f64>(&[], kernel, &());
    let error =
        with(&with(&x, Arc::new(Panics("nowhere"))), Arc::new(Twin)).compute().expect_err("which is which?").to_string();
    assert!(error.contains("two that are both test::panics@1#") && error.contains("Kernel::content"), "{error}");
    let wanted = x.compute().expect("numbers");
    assert_eq!(with(&with(&x, Arc::new(Panics("nowhere"))), Arc::new(Panics(""))).compute().expect("two kernels"), wanted);
    assert_eq!(with(&x, Arc::new(Twin)).compute().expect("alone")[[0]], 7.0);
}

#[test]
fn outputs_of_another_shape_or_dtype_are_one_error() {
    let session = cpu();
    for (dtype, len, fits) in [(F64, 4, true), (F64, 3, false), (F64, 5, false), (I32, 4, false), (Bool, 4, false)] {
        let mut graph = GraphBuilder::new();
        let (given, result) = (graph.array(F64, 4, false), graph.array(dtype, len, true));
        let input = graph.window(given, 0, &Layout::contiguous(F64, &[4]));
        let output = graph.window(result, 0, &Layout::contiguous(dtype, &[len]));
        let kernel = graph.kernel(Arc::new(Panics("nowhere")));
        graph.group("wrong");
        graph.write(kernel, &[], &[input], output).expect("a task");
        let caller = HostBuffer::caller(&Arc::new([1.0f64, 2.0, 3.0, 4.0]));
        let plan = Plan::new(graph, vec![Some(caller), None]).expect("a plan");
        let ended = session.submit(plan, std::time::Instant::now()).expect("submits").wait();
        match ended {
            Ok(_) => assert!(fits, "{len} {dtype}"),
            Err(Error::Panicked { task, .. }) => assert!(!fits && task.contains("test::panics"), "{len} {dtype}: {task}"),
            Err(other) => panic!("{len} {dtype}: {other}"),
        }
    }
    session.default_rng().uniform::<f64>([9]).compute().expect("the session goes on");
}

/// Parameters of [`Pick`].
#[repr(C)]
#[derive(Clone, Copy, bytemuck::Pod, bytemuck::Zeroable)]
struct Scale {
    factor: f64,
    least: i32,
    most: i32,
}

/// `factor x` where the mask says so and the index is within bounds, else the index. Inputs: f64, bool, i32; output: f64.
struct Pick;

impl Kernel for Pick {
    fn name(&self) -> Cow<'static, str> {
        "test::pick".into()
    }
    fn check(&self, bytes: &[u8], operands: &[ChunkMeta<'_>]) -> Result<()> {
        check_params::<Scale>(self, bytes)?;
        check_dtypes(self, operands, &[&[F64], &[Bool], &[I32, U8], &[F64]], 1)
    }
    fn work(&self, _: &[u8], operands: &[ChunkMeta<'_>]) -> Work {
        let elements = operands[0].shape.iter().product::<usize>() as f64;
        Work { flops: elements, bytes: 21.0 * elements }
    }
    fn run_cpu(
        &self,
        bytes: &[u8],
        inputs: &[ChunkView<'_>],
        outputs: &mut [ChunkViewMut<'_>],
        _: &mut Scratch<'_>,
    ) -> std::result::Result<(), Fault> {
        let Scale { factor, least, most } = params(bytes);
        for_each_piece::<(f64, bool, i32), f64>(inputs, &mut outputs[0], |(x, mask, index), out| {
            for (((out, x), &mask), &i) in out.iter_mut().zip(x).zip(mask).zip(index) {
                *out = if mask && (least..=most).contains(&i) { factor * x } else { f64::from(i) };
            }
        });
        Ok(())
    }
}

/// Inputs of [`Pick`], each in an order of its own.
fn mixed(session: &Session) -> (Array<f64>, Array<bool>, Array<i32>) {
    let x = ndarray::Array2::from_shape_fn((50, 33), |(i, j)| (i * 33 + j) as f64);
    let mask = ndarray::Array2::from_shape_fn((33, 50), |(j, i)| (i + j) % 3 == 0).reversed_axes();
    let index = ndarray::Array2::from_shape_fn((50, 66), |(i, j)| i as i32 - (j / 2) as i32).slice_move(ndarray::s![.., ..;2]);
    (Array::from(x).in_session(session).chunks((16, 10)), Array::from(mask), Array::from(index))
}

#[test]
fn inputs_of_several_dtypes_and_a_struct_of_parameters() {
    let (x, mask, index) = mixed(&cpu());
    let scale = Scale { factor: 0.5, least: -10, most: 20 };
    let wanted = ndarray::Array2::from_shape_fn((50, 33), |(i, j)| match i as i32 - j as i32 {
        -10..=20 if (i + j) % 3 == 0 => 0.5 * (i * 33 + j) as f64,
        at => f64::from(at),
    });
    let picked: Array<f64> = x.with_kernel(&[&mask, &index], Arc::new(Pick), &scale);
    assert_eq!(picked.compute().expect("runs"), wanted.into_dyn());
    // Bytes are as good as what they are of.
    let again = x.with_kernel::<f64>(&[&mask, &index], Arc::new(Pick), bytemuck::bytes_of(&scale));
    assert_eq!(again.compute().expect("runs"), picked.compute().expect("runs"));
    let session = Session::builder().threads(1).cache_dir("").build().expect("a session");
    let other = mixed(&session).1.in_session(&session);
    let error = x.try_with_kernel::<f64>(&[&other, &index], Arc::new(Pick), &scale).expect_err("two sessions");
    assert!(matches!(error, Error::SessionMismatch { op: "with_kernel" }), "{error}");
}

#[test]
fn what_a_kernel_does_not_take_is_an_error_where_it_is_called() {
    let (x, mask, index) = mixed(&cpu());
    let scale = Scale { factor: 0.5, least: 0, most: 9 };
    let narrow = Array::from(ndarray::Array2::<f32>::zeros((50, 33)));
    let refused = |error: Result<Array<f64>>, wanted: &str| assert_eq!(error.expect_err(wanted).to_string(), wanted);
    refused(
        x.try_with_kernel(&[&mask, &narrow], Arc::new(Pick), &scale),
        "input 2 of kernel test::pick: its dtype, f32, cannot be used here: give it i32 or u8",
    );
    refused(x.try_with_kernel(&[&mask], Arc::new(Pick), &scale), "number of inputs of kernel test::pick = 2: give it 3");
    refused(
        x.try_with_kernel(&[&mask, &index], Arc::new(Pick), &0.5f64),
        "bytes of the parameters of kernel test::pick = 8: give it a custom_kernel::custom_kernel::tests::Scale, which has 16",
    );
    let output = x.try_with_kernel::<f32>(&[&mask, &index], Arc::new(Pick), &scale).expect_err("f32").to_string();
    assert_eq!(output, "output 0 of kernel test::pick: its dtype, f32, cannot be used here: give it f64");
    let sum =
        x.try_with_kernel::<f64>(&[&index], Arc::new(chunkwise::kernel::sums::Add), &()).expect_err("two dtypes").to_string();
    assert!(sum.contains("input 1 of kernel add") && sum.contains("give it f64"), "{sum}");
    let error = std::panic::catch_unwind(AssertUnwindSafe(|| x.with_kernel::<f64>(&[&narrow], Arc::new(Logistic), &1u32)));
    let text = error.err().and_then(|e| e.downcast::<String>().ok()).expect("panics with a sentence");
    assert!(text.contains("input 1 of kernel example::logistic") && text.contains("f32") && text.contains("f64"), "{text}");
}

#[test]
fn the_example_checks_itself_and_reports() {
    let required = std::env::var("REQUIRE_GPU").is_ok_and(|v| v == "1");
    for flags in
        ["--device cpu", "--device cpu --dtype f32 --chunk 999", "--device gpu --allow-software --dtype f32 --chunk 1500"]
    {
        let run = support::programs::example("custom_kernel").args("--n 4001 --generations 100 --json --out x.npy").args(flags);
        let output = run.run();
        if output.code != 0 && flags.contains("gpu") && !required && output.stderr.contains("gpu") {
            eprintln!("SKIPPED: {}", output.stderr);
            continue;
        }
        let json = output.success().json();
        let tasks = json["tasks"].as_u64().expect("a number");
        let device = if flags.contains("gpu") { "gpu0" } else { "cpu" };
        assert_eq!(json["placement"][device].as_u64(), Some(tasks), "{flags}: {json}");
        let residual = json["residual"].as_f64().expect("a number");
        assert!(json["shape"][0] == 4001 && (device == "gpu0" || residual == 0.0), "{json}");
        assert!(json["checksum"].as_f64().is_some_and(|sum| (1000.0..3000.0).contains(&sum)), "{json}");
    }
    let text = support::programs::example("custom_kernel")
        .args("--n 1000 --generations 9 --threads 1 --explain")
        .run()
        .success()
        .stdout;
    assert!(text.contains("example::logistic") && text.contains("residual"), "{text}");
    support::programs::example("custom_kernel").args("--n 0").run().success();
}

/// Multiplies as it packs.
struct Packs(f64);

impl Kernel for Packs {
    fn name(&self) -> Cow<'static, str> {
        format!("test::packs {}", self.0).into()
    }
    fn work(&self, _: &[u8], _: &[ChunkMeta<'_>]) -> Work {
        Work { flops: 1.0, bytes: 0.0 }
    }
    fn input_form(&self, _: &[u8], _: usize) -> Form {
        Form::Packed(0)
    }
    fn pack(&self, _: u8, from: ChunkView<'_>, to: &mut ChunkViewMut<'_>) {
        to.slice_mut::<f64>().iter_mut().zip(from.slice::<f64>()).for_each(|(to, from)| *to = from * self.0);
    }
    fn run_cpu(&self, _: &[u8], i: &[ChunkView<'_>], o: &mut [ChunkViewMut<'_>], _: &mut Scratch<'_>) -> Result<(), Fault> {
        o[0].slice_mut::<f64>().copy_from_slice(i[0].slice::<f64>());
        Ok(())
    }
}

#[test]
fn packed_forms_are_those_of_their_kernels() {
    let x = Array::from(ndarray::arr1(&[1.0, 2.0, 3.0])).in_session(&cpu());
    let [one, ten] = [1.0, 10.0].map(|factor| x.with_kernel::<f64>(&[], Arc::new(Packs(factor)), &()));
    let sum: Array<f64> = one.with_kernel(&[&ten], Arc::new(chunkwise::kernel::sums::Add), &());
    assert_eq!(sum.compute().expect("runs"), ndarray::arr1(&[11.0, 22.0, 33.0]).into_dyn());
}
