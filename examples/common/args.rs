//! The flags that every example program has.
//!
//! Owns: [`CommonArgs`] and how its values are written. Must not know: what a program does with them. Invariant: a value that
//! parses is usable: counts are at least 1, sizes are in range.

use std::path::PathBuf;

use chunkwise::{Array, Bytes, DType, Element, Placement};

/// Flags of all example programs; put them into a program's own with `#[command(flatten)]`.
#[derive(Clone, Debug, clap::Args)]
#[command(next_help_heading = "Common options")]
pub struct CommonArgs {
    /// Where chunk tasks may run: `auto` places each by predicted time, `cpu` and `gpu`
    /// allow one kind, a number allows one device of the list that the example `devices`
    /// prints.
    #[arg(verbatim_doc_comment, long, value_name = "auto|cpu|gpu|INDEX", default_value = "auto")]
    pub device: Placement,

    /// Precision of floating-point work. f64 is never computed in f32; a device without f64
    /// stays idle then.
    #[arg(verbatim_doc_comment, long, value_enum, default_value = "f64")]
    pub dtype: Precision,

    /// Extent of a chunk along each axis, in elements. Default: chunks of about 16 MiB,
    /// chosen by operation, shape and dtype.
    #[arg(verbatim_doc_comment, long, value_name = "N", value_parser = at_least_one)]
    pub chunk: Option<usize>,

    /// Worker threads of the CPU. Default: the cores that this process may use.
    #[arg(verbatim_doc_comment, long, value_name = "N", value_parser = at_least_one)]
    pub threads: Option<usize>,

    /// Most memory for the whole run: 800MB, 1.5GB, 4GiB (a bare number is bytes). Default:
    /// 70 % of what is available. Work that cannot fit is refused before it starts.
    #[arg(verbatim_doc_comment, long, value_name = "SIZE", allow_hyphen_values = true, value_parser = some_bytes)]
    pub memory_limit: Option<Bytes>,

    /// Most memory of each GPU that chunks may take. Default: most of what it has.
    #[arg(verbatim_doc_comment, long, value_name = "SIZE", allow_hyphen_values = true, value_parser = some_bytes)]
    pub gpu_memory: Option<Bytes>,

    /// Count software adapters (drivers that compute on the CPU's cores) as GPUs: for tests.
    #[arg(verbatim_doc_comment, long)]
    pub allow_software: bool,

    /// GPUs run only what they give the very bits of that the CPU gives; all else is the
    /// CPU's, and --explain says what and why.
    #[arg(verbatim_doc_comment, long)]
    pub strict: bool,

    /// Seed of the random input. Equal seeds give equal input on every machine, with any
    /// chunks and threads.
    #[arg(verbatim_doc_comment, long, value_name = "N", default_value_t = 0)]
    pub seed: u64,

    /// Print what would run where, why, and the predicted seconds; after the run, predicted beside
    /// measured.
    #[arg(verbatim_doc_comment, long)]
    pub explain: bool,

    /// Print one JSON object on one line of stdout instead of the summary, and no progress.
    #[arg(verbatim_doc_comment, long)]
    pub json: bool,

    /// Write a timeline of the run (tasks, I/O, predicted beside measured); open it at
    /// https://ui.perfetto.dev.
    #[arg(verbatim_doc_comment, long, value_name = "FILE")]
    pub trace: Option<PathBuf>,

    /// Write down what the scheduler was told and what it decided; the example `replay` decides
    /// it again, in another process.
    #[arg(verbatim_doc_comment, long, value_name = "FILE")]
    pub record: Option<PathBuf>,

    /// No progress bar and no summary: only errors, and what --json and --explain ask for.
    #[arg(verbatim_doc_comment, long, short)]
    pub quiet: bool,
}

/// `f32` or `f64`.
#[derive(Clone, Copy, Debug, PartialEq, Eq, clap::ValueEnum)]
pub enum Precision {
    /// 32 bits: about 7 digits
    F32,
    /// 64 bits: about 16 digits
    F64,
}

impl Precision {
    /// The dtype of that precision.
    pub fn dtype(self) -> DType {
        match self {
            Self::F32 => DType::F32,
            Self::F64 => DType::F64,
        }
    }
}

/// The "Examples" section at the end of a program's `--help`: command lines (without the `cargo run` part) and what they do.
pub fn usage(lines: &[(&str, &str)]) -> String {
    let width = lines.iter().map(|(command, _)| command.len()).max().unwrap_or(0);
    let mut text = String::from("Examples (after `cargo run --release --example`; put `--` before the first flag):\n");
    for (command, what) in lines {
        text.push_str(&format!("  {command:width$}   {what}\n"));
    }
    text.push_str("\nExit code: 0 done, 1 failed (stderr says why), 2 wrong flags, 130 interrupted. NO_COLOR is respected.");
    text
}

/// A whole number above 0.
pub fn at_least_one(text: &str) -> Result<usize, String> {
    match text.parse() {
        Ok(n) if n >= 1 => Ok(n),
        _ => Err("write a whole number of at least 1".into()),
    }
}

impl CommonArgs {
    /// The array in the chunks asked for, or as it is.
    ///
    /// # Errors
    /// As [`Array::try_chunks`].
    pub fn cut<T: Element>(&self, array: Array<T>) -> chunkwise::Result<Array<T>> {
        match self.chunk {
            Some(chunk) => array.try_chunks(chunk),
            None => Ok(array),
        }
    }
}

/// A size above 0, such as `1.5GB`.
pub fn some_bytes(text: &str) -> Result<Bytes, String> {
    match text.parse() {
        Ok(Bytes(0)) => Err("write a size above 0".into()),
        Ok(bytes) => Ok(bytes),
        Err(_) if text.trim().starts_with('-') => Err("write a size above 0".into()),
        Err(_) => Err("write a number and a unit, such as 800MB, 1.5GB or 4GiB".into()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use clap::Parser;

    #[derive(Debug, clap::Parser)]
    struct Args {
        #[command(flatten)]
        common: CommonArgs,
    }

    #[test]
    fn values_are_read_and_nonsense_is_refused() {
        let line = "x --device 2 --dtype f32 --chunk 512 --threads 3 --memory-limit 1.5GB --seed 7 --json --trace t.json --record r.txt -q";
        let args = Args::try_parse_from(line.split(' ')).unwrap().common;
        assert_eq!((args.device, args.dtype.dtype()), (Placement::Device(2), DType::F32));
        assert_eq!((args.chunk, args.threads, args.memory_limit), (Some(512), Some(3), Some(Bytes(1_500_000_000))));
        assert!(args.seed == 7 && args.json && args.quiet && !args.explain && args.trace.is_some() && args.record.is_some());
        for wrong in ["--device tpu", "--dtype f16", "--chunk 0", "--threads 0", "--memory-limit 0", "--memory-limit big"] {
            assert!(Args::try_parse_from(format!("x {wrong}").split(' ')).is_err(), "{wrong}");
        }
        let none = Args::try_parse_from(["x"]).unwrap().common;
        assert_eq!((none.device, none.dtype, none.chunk), (Placement::Auto, Precision::F64, None));
    }
}
