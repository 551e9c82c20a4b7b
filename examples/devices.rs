//! Lists the devices of this machine: the CPU, the I/O lane, and the GPUs: what they are, how fast, and why one is not used.

mod common;

use std::path::{Path, PathBuf};

use chunkwise::cost::{Calibration, Peaks, Rates, RefusedVariant, Tuned};
use chunkwise::device::{DeviceKind, DeviceSpec, system};
use chunkwise::id::DeviceId;
use chunkwise::kernel::ExactFloats;
use chunkwise::kernel::simd::simd_name;
use chunkwise::runtime::Inside;
use chunkwise::{Bytes, Placement, Session};
use common::{CommonArgs, Outcome, UsageError, can_write, line, open_session, rate, seconds, session_of};
use serde_json::{Value, json};

/// List the devices of this machine: index for --device, threads, SIMD path, memory, speed; and GPUs that are not used, with the reason.
#[derive(clap::Parser)]
#[command(after_help = common::usage(&[
    ("devices", "what there is, and whether it computes"),
    ("devices -- --calibrate", "measure all devices now, and keep what comes out"),
    ("devices -- --allow-software --json", "for scripts, software Vulkan included"),
]))]
// Refused, so not listed.
#[command(mut_arg("record", |arg| arg.hide(true)))]
struct Args {
    /// Measure the rates of all devices now (under half a second each, on an idle machine) and keep
    /// them for later predictions. A GPU is measured when it is first used, anyway.
    #[arg(verbatim_doc_comment, long)]
    calibrate: bool,

    #[command(flatten)]
    common: CommonArgs,
}

fn main() -> std::process::ExitCode {
    common::run(devices)
}

fn devices(args: Args) -> Outcome {
    let insists = !matches!(args.common.device, Placement::Auto | Placement::Cpu);
    let asked = args.common.device;
    let common = if insists { CommonArgs { device: Placement::Auto, ..args.common } } else { args.common };
    let args = Args { common, ..args };
    list(&args, asked)?;
    // All is listed, also where what was asked for is not there.
    if insists { session_of(&CommonArgs { device: asked, ..args.common }).map(|_| ()).map_err(Into::into) } else { Ok(()) }
}

fn list(args: &Args, asked: Placement) -> Outcome {
    if args.common.record.is_some() {
        return Err(
            UsageError("--record: devices runs no graph; record a workload's program (matvec, cholesky, ...)".into()).into()
        );
    }
    let session = open_session(&args.common, Vec::new())?;
    let absent = session.discover();
    if args.calibrate {
        session.calibrate();
    }
    let devices = describe(&session, args.common.allow_software);
    let cache = cache();
    if args.common.json {
        let list: Vec<Value> = devices.into_iter().map(|d| d.json).collect();
        let unused: Vec<Value> = absent.iter().map(|a| json!({ "name": a.name, "why": a.why })).collect();
        return line(json!({
            "workload": "devices", "device": asked.to_string(), "threads": cpu_threads(&session), "simd": simd_name(),
            "available_memory_bytes": system::available_memory(), "memory_limit_bytes": session.memory_limit(),
            "cache_dir": cache.as_ref().ok(), "devices": list, "not_used": unused,
        }));
    }
    if args.common.quiet {
        return Ok(());
    }
    devices.into_iter().try_for_each(|device| line(device.text))?;
    if !session.devices().iter().any(|d| d.kind == DeviceKind::Gpu) && absent.is_empty() {
        line(format!("-  gpu    {}", session.why_no_gpu()))?;
    }
    absent.iter().try_for_each(|gpu| line(format!("-  gpu    {}\n          not used: {}", gpu.name, gpu.why)))?;
    if absent.iter().any(|gpu| gpu.why.contains("CPU's own cores")) {
        line("          (for tests, --allow-software uses it)")?;
    }
    let memory = format!("memory    {} available", Bytes(system::available_memory()));
    line(format!("{memory}; a run may take {} (--memory-limit sets another)", Bytes(session.memory_limit())))?;
    match cache {
        Ok(folder) => line(format!("measured  kept in {}", folder.display())),
        Err(why) => line(format!("measured  not kept: {why}")),
    }
}

/// Where measurements are kept, or why nowhere.
fn cache() -> Result<PathBuf, String> {
    let folder = system::cache_dir().ok_or("there is no cache directory (CHUNKWISE_CACHE_DIR names one)")?;
    unusable(&folder).map_or(Ok(folder), Err)
}

/// Why nothing can be kept in a folder, which need not exist yet.
fn unusable(folder: &Path) -> Option<String> {
    let nearest = folder.ancestors().find(|path| path.symlink_metadata().is_ok())?;
    if !nearest.is_dir() {
        return Some(format!("{} is not a folder", nearest.display()));
    }
    let tried = nearest.join("chunkwise");
    let why = can_write(&tried).err()?.to_string();
    Some(why.replace(&tried.display().to_string(), &folder.display().to_string()))
}

struct Listed {
    text: String,
    json: Value,
}

fn cpu_threads(session: &Session) -> u32 {
    session.devices().iter().filter(|d| d.kind == DeviceKind::Cpu).map(|d| d.workers).sum()
}

/// The devices that the session schedules.
fn describe(session: &Session, allow_software: bool) -> Vec<Listed> {
    let one = |(index, spec): (usize, DeviceSpec)| {
        let (rates, calibration) = session.rates(DeviceId::at(index)).unwrap_or((Rates::CPU, None));
        let (peaks, tuned) = (session.peaks(DeviceId::at(index)), session.tuned(DeviceId::at(index)));
        let speed = match (&calibration, spec.kind) {
            (_, DeviceKind::Io) => "serves files that only libhdf5 can read, and writes results; does not compute".into(),
            (_, DeviceKind::Gpu) => {
                let tuned = tuned.as_ref().map_or(String::new(), |tuned| tuned_text(&spec, tuned));
                gpu_text(&spec, &rates, peaks.as_ref(), allow_software) + &tuned
            }
            (Some(measured), _) => measured_text(measured),
            (None, _) => format!(
                "not measured yet: f64 {}, memory {} a thread assumed (--calibrate measures them)",
                rate(rates.f64_flops, "flop/s"),
                rate(rates.bytes_per_s, "B/s")
            ),
        };
        let says = adapter(&spec, allow_software).map(|says| says.json);
        let json = json!({
            "index": index, "name": spec.name, "kind": spec.kind, "model": spec.model, "threads": spec.workers,
            "rates": rates, "peaks": peaks, "tuned": tuned, "calibration": calibration, "link": spec.link, "gpu": spec.gpu, "adapter": says,
        });
        Listed { text: format!("{index}  {:<4}   {}\n          {speed}", spec.name, spec.model), json }
    };
    session.devices().into_iter().enumerate().map(one).collect()
}

/// What is known of a GPU: limits and dtypes from its adapter, rates as measured when it was opened the first time.
fn gpu_text(spec: &DeviceSpec, rates: &Rates, peaks: Option<&Peaks>, allow_software: bool) -> String {
    let has_f64 = spec.gpu.is_some_and(|g| g.f64);
    let has_i64 = spec.gpu.is_some_and(|g| g.i64);
    let dtypes = match (has_f64, has_i64) {
        (true, true) => "f32, f64, i64",
        (true, false) => "f32, f64 (no i64: integers of 64 bits run on the CPU)",
        (false, true) => "f32, i64 (no f64: f64 work runs on the CPU)",
        (false, false) => "f32 (no f64, no i64: 64 bits run on the CPU)",
    };
    let chunks = spec.gpu.map_or(String::new(), |g| format!("chunks up to {}", Bytes(g.binding_bytes)));
    let (is, can) = adapter(spec, allow_software).map_or_else(Default::default, |says| (says.is, says.can));
    let flops = |f64: f64, f32: f64| {
        let f64 = if has_f64 { format!("f64 {}, ", rate(f64, "flop/s")) } else { String::new() };
        format!("{f64}f32 {}", rate(f32, "flop/s"))
    };
    let link = spec.link.map_or(String::new(), |[up, down]| {
        format!("; up {}, down {}", rate(up.bytes_per_s, "B/s"), rate(down.bytes_per_s, "B/s"))
    });
    let peaks = peaks.map_or(String::new(), |p| {
        let memory = rate(p.bytes_per_s, "B/s");
        format!("\n          multiply-add {}; memory reads {memory}", flops(p.f64_flops, p.f32_flops))
    });
    let products = flops(rates.f64_flops, rates.f32_flops);
    let memory = rate(rates.bytes_per_s, "B/s");
    format!("{is}{dtypes}; {chunks}{can}{peaks}\n          products {products}; matrix-vector {memory}{link}")
}

/// Whether a GPU's arithmetic gives the bits that a CPU's does.
fn exact_text(exact: &ExactFloats, has_f64: bool) -> String {
    if !exact.tested {
        return "not tested".into();
    }
    let of = |(wide, dtype): (usize, &str)| {
        let ExactFloats { sums, subnormals, quotients, roots, .. } = *exact;
        let parts =
            [(sums, "sums"), (subnormals, "numbers below the least normal one"), (quotients, "quotients"), (roots, "roots")];
        let not: Vec<&str> = parts.iter().filter(|(is_so, _)| !is_so[wide]).map(|&(_, name)| name).collect();
        if not.is_empty() { format!("{dtype} exact") } else { format!("{dtype} not exact: {}", not.join(", ")) }
    };
    let dtypes: &[&str] = if has_f64 { &["f32", "f64"] } else { &["f32"] };
    dtypes.iter().copied().enumerate().map(of).collect::<Vec<_>>().join("; ")
}

/// What was found out when a GPU was calibrated: whether it is exact, variants that it runs faster than what kernels choose by themselves, those that must not be used, and the rate
/// that programs never seen are taken to have.
fn tuned_text(spec: &DeviceSpec, Tuned { tuning, refused, exact }: &Tuned) -> String {
    const TILES: [&str; 3] = ["32 x 32", "64 x 64", "128 x 128"];
    const GROUPS: [&str; 2] = ["256 a row", "64 a row"];
    let v = tuning.variants;
    let kernels = [("gemm", v.gemm, &TILES[..]), ("syrk", v.syrk, &TILES[..]), ("gemv", v.gemv, &GROUPS[..])];
    let chosen = kernels.iter().flat_map(|&(kernel, of, names)| {
        let one = move |(dtype, variant): (&str, u8)| {
            let name = names.get(usize::from(variant).checked_sub(1)?)?;
            Some(format!("{kernel} {dtype} by {name}"))
        };
        ["f32", "f64"].into_iter().zip(of).filter_map(one)
    });
    let chosen: Vec<String> = chosen.collect();
    let chosen = if chosen.is_empty() { "none is faster than the default".into() } else { chosen.join(", ") };
    let bad = |RefusedVariant { kernel, dtype, variant }: &RefusedVariant| {
        format!("; refused: {kernel} {dtype} by variant {variant}")
    };
    let bad: String = refused.iter().map(bad).collect();
    let [narrow, wide] = tuning.units_per_ns.map(|units| rate(units * 1e9, "(op + byte)/s"));
    let has_f64 = spec.gpu.is_some_and(|gpu| gpu.f64);
    let f64 = if has_f64 { format!("f64 {wide}, ") } else { String::new() };
    let exact = exact_text(exact, has_f64);
    format!(
        "\n          arithmetic: {exact}\n          variants: {chosen}{bad}; expected of programs never seen: {f64}f32 {narrow}"
    )
}

/// What a driver says of its GPU.
struct Told {
    /// `discrete GPU with 8.6 GB, `.
    is: String,
    /// A line of what it could do beside.
    can: String,
    json: Value,
}

#[cfg(not(feature = "gpu"))]
fn adapter(_: &DeviceSpec, _: bool) -> Option<Told> {
    None
}

/// If the device is one: for others no driver is loaded.
#[cfg(feature = "gpu")]
fn adapter(spec: &DeviceSpec, allow_software: bool) -> Option<Told> {
    spec.gpu?;
    let all = chunkwise::device::gpu::known(allow_software);
    let adapter = all.iter().find(|a| a.model() == spec.model)?;
    let memory = adapter.memory_bytes.map_or(String::new(), |bytes| format!(" with {}", Bytes(bytes)));
    Some(Told {
        is: format!("{}{memory}, ", adapter.kind),
        can: format!("\n          {}", common::adapter_abilities(adapter)),
        json: common::adapter_json(adapter),
    })
}

fn measured_text(m: &Calibration) -> String {
    let (flops, bytes) = (|v| rate(v, "flop/s"), |v| rate(v, "B/s"));
    format!(
        "f64 {} (one thread {}), f32 {} (one thread {})\n          memory reads {} (one thread {}), copies {}; {} to start a task; measured in {}",
        flops(m.f64_flops_all),
        flops(m.f64_flops_one),
        flops(m.f32_flops_all),
        flops(m.f32_flops_one),
        bytes(m.read_all),
        bytes(m.read_one),
        bytes(m.copy_all),
        format_args!("{:.0} ns", m.spawn_ns),
        seconds(m.took_ns as f64 * 1e-9)
    )
}
