//! The summary of a run: a few aligned lines for people, or one line of JSON.
//!
//! Owns: [`Report`] and how numbers are written. Must not know: where they come from. Invariant: both forms say the same; what was
//! not measured is absent (or `null`), never 0.

use std::path::PathBuf;

use chunkwise::device::system;
use chunkwise::{Bytes, ChunkGrid, DType};
use serde::Serialize;
use serde_json::{Map, Value};

use super::{CommonArgs, Outcome, line};

/// What one device did.
#[derive(Clone, Debug, Default)]
pub struct Placed {
    /// The device's short name: `cpu`, `gpu0`.
    pub device: String,
    /// What it is: `8 threads, AVX-512`, `Radeon 780M (Vulkan)`; or why it did nothing.
    pub detail: String,
    /// Tasks it ran.
    pub tasks: u64,
    /// Share of its workers' time spent in tasks, 0 to 1, if measured.
    pub busy: Option<f64>,
    /// Bytes moved to and from it.
    pub bytes_moved: u64,
}

/// One run of an example.
#[derive(Clone, Debug)]
pub struct Report {
    /// The program: `mandelbrot`.
    pub workload: &'static str,
    /// What was computed, in words: `12000 x 8000 pixels, 20 iterations`.
    pub what: String,
    /// How it was cut: `96 chunks of 1000 x 1000`.
    pub chunks: String,
    /// Shape of the array that was worked on.
    pub shape: Vec<usize>,
    /// Precision of the work.
    pub dtype: DType,
    /// The `--device` asked for.
    pub device: String,
    /// Worker threads of the CPU.
    pub threads: usize,
    /// SIMD path of the CPU kernels: `AVX-512`.
    pub simd: String,
    /// Seconds of the compute call: planning, running, allocating the output, and writing it where it streams to a file.
    pub total_s: f64,
    /// Seconds of planning, part of the total.
    pub plan_s: f64,
    /// Seconds predicted for the run; `None` if nothing was known to predict from.
    pub predicted_s: Option<f64>,
    /// Tasks run.
    pub tasks: u64,
    /// Devices, and what each did.
    pub placement: Vec<Placed>,
    /// Bytes moved between memory spaces.
    pub bytes_moved: u64,
    /// Work per second, in `rate_unit`.
    pub rate: f64,
    /// A unit per second: `pixel/s`, `B/s`, `flop/s`, `task/s`.
    pub rate_unit: &'static str,
    /// Largest memory of the process, as the system counts it.
    pub peak_rss_bytes: u64,
    /// The answer, where it is one number.
    pub result: Option<f64>,
    /// Scaled residual, where the program checks one.
    pub residual: Option<f64>,
    /// What the result was checked against, and how well it agrees: `2000 points, each a plain loop: equal`. A program whose check fails has no report.
    pub checked: Option<String>,
    /// Files written.
    pub wrote: Vec<PathBuf>,
    /// Whatever else a reader should know, one line each (text form; `notes` in JSON).
    pub notes: Vec<String>,
    /// Further fields of the JSON object, such as `us_per_task`.
    pub extra: Map<String, Value>,
}

/// The fields in the order in which JSON shows them.
#[derive(Serialize)]
struct Json<'a> {
    workload: &'a str,
    shape: &'a [usize],
    dtype: DType,
    device: &'a str,
    threads: usize,
    simd: &'a str,
    total_s: f64,
    plan_s: f64,
    predicted_s: Option<f64>,
    tasks: u64,
    placement: Map<String, Value>,
    bytes_moved: u64,
    rate: f64,
    rate_unit: &'a str,
    peak_rss_bytes: u64,
    #[serde(skip_serializing_if = "Option::is_none")]
    result: Option<f64>,
    #[serde(skip_serializing_if = "Option::is_none")]
    residual: Option<f64>,
    #[serde(skip_serializing_if = "Option::is_none")]
    checked: Option<&'a str>,
    #[serde(skip_serializing_if = "<[_]>::is_empty")]
    wrote: Vec<String>,
    #[serde(skip_serializing_if = "<[_]>::is_empty")]
    notes: &'a [String],
    #[serde(flatten)]
    extra: &'a Map<String, Value>,
}

impl Report {
    /// A report with what is known before the run; fill in the rest.
    pub fn new(workload: &'static str, shape: &[usize], args: &CommonArgs) -> Self {
        Self {
            workload,
            what: String::new(),
            chunks: String::new(),
            shape: shape.to_vec(),
            dtype: args.dtype.dtype(),
            device: args.device.to_string(),
            threads: 0,
            simd: String::new(),
            total_s: 0.0,
            plan_s: 0.0,
            predicted_s: None,
            tasks: 0,
            placement: Vec::new(),
            bytes_moved: 0,
            rate: 0.0,
            rate_unit: "",
            peak_rss_bytes: 0,
            result: None,
            residual: None,
            checked: None,
            wrote: args.trace.iter().cloned().collect(),
            notes: Vec::new(),
            extra: Map::new(),
        }
    }

    /// Prints it on stdout as the flags ask: summary, JSON line, or (with `--quiet` alone) nothing.
    ///
    /// # Errors
    /// If stdout cannot be written.
    pub fn print(mut self, args: &CommonArgs) -> Outcome {
        self.peak_rss_bytes = system::peak_rss_bytes(); // what came after the run counts too: a check, a picture
        if args.json {
            self.wrote.extend(args.record.clone()); // it will be, when the session ends; else the program's end is an error
            line(self.json()?)
        } else if !args.quiet {
            self.lines().iter().try_for_each(line)
        } else {
            Ok(())
        }
    }

    /// One JSON object on one line. Numbers that JSON cannot write (NaN, infinities) are `null`.
    ///
    /// # Errors
    /// None in practice; the writer's type demands it.
    pub fn json(&self) -> serde_json::Result<String> {
        serde_json::to_string(&Json {
            workload: self.workload,
            shape: &self.shape,
            dtype: self.dtype,
            device: &self.device,
            threads: self.threads,
            simd: &self.simd,
            total_s: self.total_s,
            plan_s: self.plan_s,
            predicted_s: self.predicted_s,
            tasks: self.tasks,
            placement: self.placement.iter().filter(|p| p.tasks > 0).map(|p| (p.device.clone(), p.tasks.into())).collect(),
            bytes_moved: self.bytes_moved,
            rate: self.rate,
            rate_unit: self.rate_unit,
            peak_rss_bytes: self.peak_rss_bytes,
            result: self.result,
            residual: self.residual,
            checked: self.checked.as_deref(),
            wrote: self.wrote.iter().map(|p| p.display().to_string()).collect(),
            notes: &self.notes,
            extra: &self.extra,
        })
    }

    /// The summary, line by line.
    pub fn lines(&self) -> Vec<String> {
        let title = format!("{}   {}, {}", self.workload, self.what, self.dtype);
        let mut lines = vec![format!("{title:<59}   {}", self.chunks).trim_end().to_owned()];
        lines.extend(self.device_lines());
        let mut total = format!("  total {}", seconds(self.total_s));
        if let Some(predicted) = self.predicted_s.filter(|_| self.tasks > 0) {
            total.push_str(&format!(" (predicted {})", seconds_like(predicted, self.total_s)));
        }
        if self.rate > 0.0 {
            total.push_str(&format!("   {}", rate(self.rate, self.rate_unit)));
        }
        lines.push(format!("{total}   peak memory {}", Bytes(self.peak_rss_bytes)));
        if let Some(result) = self.result {
            lines.push(format!("  result {result}"));
        }
        if let Some(residual) = self.residual {
            let digits = if residual == 0.0 { "0".into() } else { format!("{residual:.1e}") };
            lines.push(format!("  residual {digits}"));
        }
        lines.extend(self.notes.iter().map(|note| format!("  {note}")));
        lines.extend(self.checked.iter().map(|checked| format!("  checked: {checked}")));
        lines.extend(self.wrote.iter().map(|path| format!("wrote {}", path.display())));
        lines
    }

    fn device_lines(&self) -> Vec<String> {
        let width = |of: fn(&Placed) -> usize| self.placement.iter().map(of).max().unwrap_or(0);
        // A reason for doing nothing is as long as it is; columns are for those that worked.
        let (name, detail) =
            (width(|p| p.device.chars().count()), width(|p| if p.tasks > 0 { p.detail.chars().count() } else { 0 }));
        let one = |p: &Placed| {
            let mut text = format!("  {:<name$}   {:<detail$}", p.device, p.detail);
            if p.tasks > 0 {
                text.push_str(&format!("   {:>8} {}", p.tasks, if p.tasks == 1 { "task" } else { "tasks" }));
                if let Some(busy) = p.busy {
                    text.push_str(&format!("   {:>3.0} % busy", 100.0 * busy));
                }
                if p.bytes_moved > 0 {
                    text.push_str(&format!("   moved {}", Bytes(p.bytes_moved)));
                }
            }
            text.trim_end().to_owned()
        };
        self.placement.iter().map(one).collect()
    }
}

/// How an array is cut: `96 chunks of 1000 x 1000`, `1 tile of 7 x 9`.
pub fn cut(grid: &ChunkGrid, what: &str) -> String {
    let plural = if grid.len() == 1 { "" } else { "s" };
    let of = if grid.shape().is_empty() { String::new() } else { format!(" of {}", extents(&grid.largest())) };
    format!("{} {what}{plural}{of}", grid.len())
}

/// A shape as people write it: `1000 x 1000`; of rank 0: `a scalar`.
pub fn extents(shape: &[usize]) -> String {
    let parts: Vec<String> = shape.iter().map(ToString::to_string).collect();
    if parts.is_empty() { "a scalar".into() } else { parts.join(" x ") }
}

/// Seconds as people read them, three digits: `0.043 s`, `12.3 s`, `3.1 ms`, `850 us`.
pub fn seconds(s: f64) -> String {
    seconds_like(s, s)
}

/// [`seconds`], in the unit that `like` has where they are close: for two that stand side by side.
fn seconds_like(s: f64, like: f64) -> String {
    let like = if (0.1..10.0).contains(&(s / like)) { like } else { s };
    match s {
        _ if like < 0.001 => format!("{:.0} us", s * 1e6),
        _ if like < 0.01 => format!("{:.1} ms", s * 1e3),
        _ if s >= 100.0 => format!("{s:.0} s"),
        _ if s >= 10.0 => format!("{s:.1} s"),
        _ if s >= 1.0 => format!("{s:.2} s"),
        _ => format!("{s:.3} s"),
    }
}

/// A rate with a decimal prefix, two or three digits: `1.6 Gpixel/s`, `850 kB/s`.
pub fn rate(value: f64, unit: &str) -> String {
    let mut value = value;
    let mut prefix = "";
    for next in ["k", "M", "G", "T", "P"] {
        if value < 999.5 {
            break;
        }
        value /= 1000.0;
        prefix = next;
    }
    let digits = if value < 9.995 { 2 } else { usize::from(value < 99.95) };
    format!("{value:.digits$} {prefix}{unit}")
}

#[cfg(test)]
mod tests {
    use super::*;
    use clap::Parser;

    #[derive(clap::Parser)]
    struct Args {
        #[command(flatten)]
        common: CommonArgs,
    }

    fn example() -> Report {
        let args = Args::try_parse_from(["x", "--dtype", "f32"]).unwrap().common;
        let mut report = Report::new("mandelbrot", &[8000, 12000], &args);
        report.what = "12000 x 8000 pixels, 20 iterations".into();
        report.chunks = "96 chunks of 1000 x 1000".into();
        (report.threads, report.simd) = (8, "AVX-512".into());
        (report.total_s, report.plan_s, report.predicted_s) = (0.0432, 0.0002, Some(0.046));
        (report.tasks, report.rate, report.rate_unit) = (96, 2.23e9, "pixel/s");
        report.peak_rss_bytes = 431_000_000;
        let cpu = Placed { device: "cpu".into(), detail: "8 threads, AVX-512".into(), tasks: 61, ..Placed::default() };
        let gpu = Placed { device: "gpu0".into(), detail: "Radeon 780M (Vulkan)".into(), tasks: 35, ..Placed::default() };
        report.placement = vec![cpu, Placed { busy: Some(0.93), bytes_moved: 140_000_000, ..gpu }];
        report.wrote = vec!["mandelbrot.png".into()];
        report
    }

    #[test]
    fn the_summary_is_aligned() {
        let wanted = "\
mandelbrot   12000 x 8000 pixels, 20 iterations, f32          96 chunks of 1000 x 1000
  cpu    8 threads, AVX-512           61 tasks
  gpu0   Radeon 780M (Vulkan)         35 tasks    93 % busy   moved 140 MB
  total 0.043 s (predicted 0.046 s)   2.23 Gpixel/s   peak memory 431 MB
wrote mandelbrot.png";
        assert_eq!(example().lines().join("\n"), wanted);
    }

    #[test]
    fn json_is_one_line_with_all_fields() {
        let mut report = example();
        (report.result, report.rate, report.checked) = (Some(0.5), f64::NAN, Some("a loop: equal".into()));
        report.extra.insert("us_per_task".into(), 1.5.into());
        let text = report.json().unwrap();
        assert!(!text.contains('\n'));
        let json: Value = serde_json::from_str(&text).unwrap();
        for field in
            "workload shape dtype device threads simd total_s plan_s predicted_s tasks placement bytes_moved rate rate_unit \
                      peak_rss_bytes result checked us_per_task"
                .split_whitespace()
        {
            assert!(json.get(field).is_some(), "{field}");
        }
        assert_eq!((&json["dtype"], &json["placement"]["gpu0"], &json["rate"]), (&"f32".into(), &35.into(), &Value::Null));
        assert!(report.lines().contains(&"  checked: a loop: equal".to_owned()));
        assert!(json.get("residual").is_none() && text.starts_with(r#"{"workload":"mandelbrot","shape":[8000,12000],"#));
    }

    #[test]
    fn numbers_keep_their_digits() {
        let all = [123.4, 12.34, 1.234, 0.1234, 0.001_234, 0.000_012_3].map(seconds);
        assert_eq!([seconds_like(0.009, 0.012), seconds_like(0.012, 0.009)], ["0.009 s", "12.0 ms"]);
        assert_eq!(all, ["123 s", "12.3 s", "1.23 s", "0.123 s", "1.2 ms", "12 us"]);
        assert_eq!([rate(1.6e9, "B/s"), rate(850_400.0, "B/s"), rate(0.5, "task/s")], ["1.60 GB/s", "850 kB/s", "0.50 task/s"]);
    }
}
