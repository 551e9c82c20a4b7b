//! A kernel of one's own in an array expression: the logistic map, x <- rate x (1 - x), on the CPU and on GPUs.
//!
//! The kernel is [`Logistic`]: its CPU body, its shader (`custom_kernel.wgsl`) and what joins the two. `chunkwise::ext` explains it.

mod common;

use std::borrow::Cow;
use std::ops::{Mul, Sub};
use std::sync::{Arc, LazyLock};
use std::time::Instant;

use chunkwise::ext::{ChunkMeta, ChunkView, ChunkViewMut, Fault, GpuFacts, Kernel, Pass, Program, Scratch, Shader, Work};
use chunkwise::ext::{check_dtypes, check_params, for_each_piece, params};
use chunkwise::{Array, DType, Error, Float, shader_params, store};
use common::{CommonArgs, Named, Outcome, Precision, Report, open_session};
use ndarray::ArrayD;

/// Let populations x grow for some generations, x <- rate x (1 - x), with a kernel that this program brings along.
#[derive(clap::Parser)]
#[command(after_help = common::usage(&[
    ("custom_kernel", "4 million populations, 500 generations"),
    ("custom_kernel -- --dtype f32 --explain", "where each chunk is computed, and why"),
    ("custom_kernel -- --n 1000 --out x.npy", "the populations, as a file"),
]))]
struct Args {
    /// Number of populations. Their rates rise from 0 to 3.4; where they start is random.
    #[arg(long, value_name = "N", default_value_t = 4_000_000)]
    n: usize,

    /// Generations.
    #[arg(long, value_name = "N", default_value_t = 500)]
    generations: u32,

    /// Where the populations go: `x.npy` or `x.h5:/x`.
    #[arg(long, value_name = "FILE")]
    out: Option<String>,

    #[command(flatten)]
    common: CommonArgs,
}

/// Below this rate populations settle (or take turns between two sizes), so that rounding errors do not grow.
const MOST_RATE: f64 = 3.4;
/// Elements of a chunk: fewer than usual, because each is worth much work.
const CHUNK: usize = 1 << 17;
/// Elements that are compared with a plain loop.
const SAMPLES: usize = 10_000;
/// Elements of a workgroup, as in the shader.
const GROUP: usize = 64;

/// `f32` or `f64`, with arithmetic.
pub trait Number: Float + Mul<Output = Self> + Sub<Output = Self> {}
impl<T: Float + Mul<Output = T> + Sub<Output = T>> Number for T {}

/// The kernel. Inputs: x and rate, of one float dtype; output: x after as many generations as the parameter (a `u32`) says.
pub struct Logistic;

shader_params!(
    /// The shader's own parameters: number of elements.
    struct Size { n }
);

static SHADER: LazyLock<Arc<Shader>> = LazyLock::new(|| {
    let shader = Shader::new("custom_kernel", include_str!("custom_kernel.wgsl"));
    shader.with_params(Size::FIELDS).with_operands(2, 1).with_workgroup(GROUP as u32, [0, 0]).into()
});

impl Kernel for Logistic {
    fn name(&self) -> Cow<'static, str> {
        "example::logistic".into()
    }

    fn check(&self, bytes: &[u8], operands: &[ChunkMeta<'_>]) -> Result<(), Error> {
        check_params::<u32>(self, bytes)?;
        let x = &[operands[0].dtype][..];
        check_dtypes(self, operands, &[&[DType::F32, DType::F64], x, x], 1)
    }

    fn work(&self, bytes: &[u8], operands: &[ChunkMeta<'_>]) -> Work {
        let elements = operands[0].shape.iter().product::<usize>() as f64;
        let size = operands[0].dtype.bytes() as f64;
        Work { flops: 3.0 * f64::from(params::<u32>(bytes)) * elements, bytes: 3.0 * size * elements }
    }

    fn program(&self, bytes: &[u8], operands: &[ChunkMeta<'_>], gpu: &GpuFacts) -> Option<Program> {
        let [x, rate, next] = operands else { return None };
        if !x.dtype.is_float() || rate.dtype != x.dtype || next.dtype != x.dtype {
            return None;
        }
        let n = x.shape.iter().product::<usize>();
        // Resumable: many generations become several short dispatches.
        let (groups, steps) = (n.div_ceil(GROUP) as u64, 0..params::<u32>(bytes));
        let pass = Pass { entry: "grow".into(), groups, steps, resumable: true };
        let size = Size { n: n as u32 };
        Program::new(&SHADER, x.dtype, &size.words(), vec![pass], self.work(bytes, operands)).fitting(gpu, operands)
    }

    fn run_cpu(
        &self,
        bytes: &[u8],
        inputs: &[ChunkView<'_>],
        outputs: &mut [ChunkViewMut<'_>],
        _scratch: &mut Scratch<'_>,
    ) -> Result<(), Fault> {
        let generations = params::<u32>(bytes);
        match inputs[0].layout().dtype {
            DType::F32 => grow::<f32>(inputs, &mut outputs[0], generations),
            _ => grow::<f64>(inputs, &mut outputs[0], generations),
        }
        Ok(())
    }
}

fn grow<T: Number>(inputs: &[ChunkView<'_>], out: &mut ChunkViewMut<'_>, generations: u32) {
    for_each_piece::<[T; 2], T>(inputs, out, |[x, rate], out| {
        // Blocks, so that a generation is a loop over neighbours, which the compiler makes into SIMD.
        for ((x, rate), out) in x.chunks(64).zip(rate.chunks(64)).zip(out.chunks_mut(64)) {
            out.copy_from_slice(x);
            for _ in 0..generations {
                out.iter_mut().zip(rate).for_each(|(x, &rate)| *x = step(*x, rate));
            }
        }
    });
}

fn step<T: Number>(x: T, rate: T) -> T {
    rate * (x * (T::from_f64(1.0) - x))
}

fn main() -> std::process::ExitCode {
    common::run(|args: Args| match args.common.dtype {
        Precision::F32 => populations::<f32>(&args, f64::from(f32::EPSILON)),
        Precision::F64 => populations::<f64>(&args, f64::EPSILON),
    })
}

fn populations<T: Number>(args: &Args, epsilon: f64) -> Outcome {
    let session = open_session(&args.common, vec![Named::written("--out", args.out.as_ref())])?;
    // The one line: the kernel in an array expression.
    let grow = |x: Array<T>, rate: &Array<T>| -> Result<Array<T>, Error> {
        let x = x.try_chunks(args.common.chunk.unwrap_or(CHUNK))?;
        x.try_with_kernel(&[rate], Arc::new(Logistic), &args.generations)
    };
    // Three arrays that the machine has no room for cannot even be planned with.
    let bytes = (args.n as u64).saturating_mul(3 * T::DTYPE.bytes() as u64);
    common::room(&format!("growing {} populations", args.n), bytes, "fewer populations: --n")?;
    let zeros = || common::zeros::<T>(&[args.n], &session);
    grow(zeros(), &zeros())?.explain()?; // what does not fit is said before anything is made
    let sink = args.out.as_ref().map(|spec| store::create(spec, &[args.n], T::DTYPE, None)).transpose()?;
    let asked = Instant::now();
    let start = session.default_rng().try_uniform::<T>([args.n])?.compute()?;
    let rates = ArrayD::from_shape_fn(start.shape(), |i| T::from_f64(MOST_RATE * i[0] as f64 / args.n as f64));
    let made = common::made("the populations", asked.elapsed());
    let wanted = samples(&start, &rates, args.generations);
    let grown = grow(Array::from(start).in_session(&session), &Array::from(rates))?;
    let (values, run) = common::finish(&args.common, "custom_kernel", &grown)?;
    let mut report = Report::new("custom_kernel", grown.shape(), &args.common);
    report.what = format!("{} populations, {} generations", args.n, args.generations);
    report.chunks = common::cut(&grown.grid(), "chunk");
    drop(grown);
    let mut report = report.of_run(&session, &run, args.n as f64 * f64::from(args.generations), "generation/s");
    let worst = worst(&wanted, &values);
    report.notes.push(made);
    report.residual = Some(worst / epsilon);
    report.checked =
        Some(format!("{} populations, each a plain loop: at most {:.0} roundings apart", wanted.len(), worst / epsilon));
    report.extra.insert("checksum".into(), values.iter().map(|v| v.to_f64()).sum::<f64>().into());
    if let (Some(sink), Some(out)) = (sink, &args.out) {
        Array::from(values).in_session(&session).store_into(&sink)?;
        report.wrote.push(out.into());
    }
    // A GPU may round a product and a difference once or twice; each generation adds a rounding at most.
    let agrees = worst <= epsilon * (64.0 + 4.0 * f64::from(args.generations)); // not if it is NaN
    if !agrees {
        return Err(format!("a plain loop gives other populations: {worst:e} apart").into());
    }
    report.print(&args.common)
}

/// What a plain loop makes of every so many populations.
fn samples<T: Number>(start: &ArrayD<T>, rates: &ArrayD<T>, generations: u32) -> Vec<T> {
    let sample = start.iter().zip(rates).step_by((start.len() / SAMPLES).max(1));
    sample.map(|(&x, &rate)| (0..generations).fold(x, |x, _| step(x, rate))).collect()
}

/// The largest difference from a plain loop, over a sample; NaN if there is one.
fn worst<T: Number>(wanted: &[T], values: &ArrayD<T>) -> f64 {
    let sample = values.iter().step_by((values.len() / SAMPLES).max(1)).zip(wanted);
    sample.fold(0.0, |worst, (found, plain)| {
        let apart = (plain.to_f64() - found.to_f64()).abs();
        if apart <= worst || worst.is_nan() { worst } else { apart }
    })
}

/// What `Array::with_kernel` and the guide promise, of this kernel and of wrong ones.
#[cfg(test)]
mod custom_kernel {
    mod tests;
}
