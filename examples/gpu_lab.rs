//! One GPU, measured piece by piece: what a launch costs, what the link carries, how fast each kernel is. Of a wrong result no speed is told.
//!
//! Owns: flags, the order of things. Must not know: how anything is measured. Invariant: each line of stdout is one JSON object, of one measurement, whose
//! result was checked before.
//!
//! `gpu_lab/links.rs` and `gpu_lab/kernels.rs` say what is measured and how, `gpu_lab/check.rs` what is right. The launches and moves are those of a session's
//! devices, without the scheduler: what is measured here is what the scheduler's predictions are about.

mod common;

/// A file of `gpu_lab/` each.
mod gpu_lab {
    pub mod case;
    pub mod check;
    pub mod host;
    pub mod kernels;
    pub mod lab;
    pub mod links;
    pub mod teller;
    #[cfg(test)]
    mod tests;
}

use std::time::{Duration, Instant};

use chunkwise::device::gpu::{AdapterInfo, AdapterKind, known};
use chunkwise::shape::DType;
use common::{CodedError, Outcome, adapter_json};
use gpu_lab::case::{Case, Routine};
use gpu_lab::kernels;
use gpu_lab::lab::{Break, Lab, Settings};
use gpu_lab::links::{Pattern, link};
use gpu_lab::teller::{Teller, end_after};

/// Measure one GPU piece by piece: launches, the link, each kernel. Prints one JSON object a line; each result is checked, and of a wrong one no speed is told.
#[derive(clap::Parser)]
#[command(after_help = HELP)]
struct Args {
    /// Which parts, with commas between.
    #[arg(long, value_enum, value_delimiter = ',', value_name = "PARTS", default_value = "gpu,launch,links,kernels")]
    only: Vec<Part>,

    /// One kernel instead of all.
    #[arg(long, value_enum, value_name = "NAME")]
    kernel: Option<Routine>,

    /// Fewer sizes. (Of software, few are measured in any case.)
    #[arg(long)]
    quick: bool,

    /// Take a software adapter, which computes on the CPU's cores, if there is no GPU: for tests.
    #[arg(long, visible_alias = "allow-software")]
    software: bool,

    /// Seconds for all.
    #[arg(long, value_name = "SECONDS", default_value_t = 300, value_parser = clap::value_parser!(u64).range(1..=86_400))]
    limit: u64,

    /// How much: 0 little, 1 as --quick, 2 everything. Default: 2, for software 0.
    #[arg(long, value_name = "0|1|2", value_parser = clap::value_parser!(u8).range(0..=2))]
    level: Option<u8>,

    /// Break something, to see that it is noticed.
    #[arg(long = "break", value_enum, value_name = "WHAT")]
    broken: Option<Break>,
}

const HELP: &str = "\
Examples (after `cargo run --release --example`; put `--` before the first flag):
  gpu_lab -- --quick                                   half a minute or so
  gpu_lab -- --only kernels,variants --kernel gemm     one kernel at all sizes, by each variant of the product
  gpu_lab -- --software --only links                   what software Vulkan does: never a GPU's speed

Exit code: 0 all measured and right, 1 something failed or was wrong, 2 no GPU or wrong flags, 3 time was over or the GPU silent, 130 interrupted.";

/// A part of what is measured.
#[derive(Clone, Copy, Debug, PartialEq, Eq, clap::ValueEnum)]
enum Part {
    /// what the driver says of it
    Gpu,
    /// a launch with nothing to do: alone, and among many
    Launch,
    /// moves of chunks, by size and by how they lie
    Links,
    /// each kernel, by dtype and size
    Kernels,
    /// products by each size of tile there is
    Variants,
}

/// After the limit and this, the program ends itself, whatever the driver does.
const GRACE: Duration = Duration::from_secs(10);
/// Variants of the matrix product beside what the library chooses.
const VARIANTS: u8 = 2;
/// No GPU, as wrong flags.
const NO_GPU: u8 = 2;

fn main() -> std::process::ExitCode {
    common::run(measure)
}

fn measure(args: Args) -> Outcome {
    let limit = Duration::from_secs(args.limit);
    let deadline = Instant::now() + limit;
    end_after(limit + GRACE)?;
    let adapter = adapter(args.software)?;
    let usual = if adapter.kind == AdapterKind::Software { 0 } else { 2 - u8::from(args.quick) };
    let settings = Settings { deadline, level: usize::from(args.level.unwrap_or(usual)), broken: args.broken };
    let mut teller = Teller::default();
    let wants = |part| args.only.contains(&part);
    if wants(Part::Gpu) {
        teller.tell("gpu", || {
            let mut told = adapter_json(&adapter);
            told["what"] = "gpu".into();
            Ok(told)
        })?;
    }
    let device_is_wanted = args.only.iter().any(|&part| part != Part::Gpu);
    let variants = if wants(Part::Variants) { 0..=VARIANTS } else { 0..=0 };
    for variant in variants.filter(|_| device_is_wanted) {
        match Lab::open(&adapter, variant, settings) {
            Ok(lab) => all_of(&lab, &adapter, variant, &args, &mut teller)?,
            Err(trouble) => {
                teller.tell("opening it", || Err(trouble))?;
                break;
            }
        }
        if teller.is_over() {
            break;
        }
    }
    if teller.is_over() {
        end_after(Duration::from_secs(5))?; // a driver may hang when it is left
    }
    teller.end()
}

/// The first that can be used.
fn adapter(software: bool) -> Result<AdapterInfo, CodedError> {
    let all = known(software);
    let unused = |a: &AdapterInfo| a.unusable.as_ref().map(|why| format!("\n  not used: {a}: {why}"));
    let none = || {
        let why: String = all.iter().filter_map(unused).collect();
        let hint = if all.iter().any(|a| a.kind == AdapterKind::Software) { "\n  try     --software, for tests" } else { "" };
        CodedError { code: NO_GPU, why: format!("no GPU: no Vulkan, Metal or DX12 adapter that can be used{why}{hint}") }
    };
    all.iter().find(|a| a.unusable.is_none()).cloned().ok_or_else(none)
}

/// All parts that are wanted of a GPU opened with this variant; of others than 0, products only.
fn all_of(lab: &Lab, adapter: &AdapterInfo, variant: u8, args: &Args, teller: &mut Teller) -> Outcome {
    let wants = |part| variant == 0 && args.only.contains(&part);
    let level = lab.settings.level;
    if wants(Part::Launch) {
        teller.tell("launch", || kernels::launch(lab))?;
    }
    if wants(Part::Links) {
        for pattern in Pattern::all(level) {
            teller.tell(&pattern.to_string(), || link(lab, &pattern))?;
        }
    }
    let wanted = |case: &Case| {
        let chosen = args.kernel.is_none_or(|routine| routine == case.routine);
        // Without what the library chooses, variants could not be compared.
        let of_variants = args.only.contains(&Part::Variants) && case.routine.is_product();
        chosen && (of_variants || wants(Part::Kernels))
    };
    let dtypes = if adapter.has_f64 { &[DType::F32, DType::F64][..] } else { &[DType::F32] };
    for case in dtypes.iter().flat_map(|&dtype| Case::all(level, dtype)).filter(wanted) {
        teller.tell(&format!("{case}, variant {variant}"), || kernels::kernel(lab, &case, variant))?;
    }
    Ok(())
}
