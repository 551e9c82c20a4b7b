//! Lists the devices of this machine: the CPU, the I/O lane, and the GPU adapters with a proof that they compute.

mod common;

use chunkwise::cost::{Calibration, Rates};
use chunkwise::device::{DeviceKind, DeviceSpec, system};
use chunkwise::id::DeviceId;
use chunkwise::kernel::simd::simd_name;
use chunkwise::{Bytes, Session};
use common::{CommonArgs, Outcome, line, open_session, rate, seconds};
use serde_json::{Value, json};

/// List the devices of this machine: index for --device, threads, SIMD path, memory, speed; and try each GPU with a small shader.
#[derive(clap::Parser)]
#[command(after_help = common::usage(&[
    ("devices", "what there is, and whether it computes"),
    ("devices -- --calibrate", "measure the CPU now, and keep what comes out"),
    ("devices -- --allow-software --json", "for scripts, software Vulkan included"),
]))]
struct Args {
    /// Measure the CPU's rates (under half a second, on an idle machine) and keep them for later
    /// predictions.
    #[arg(verbatim_doc_comment, long)]
    calibrate: bool,

    /// Count software adapters (drivers that compute on the CPU) as usable; for tests.
    #[arg(long)]
    allow_software: bool,

    #[command(flatten)]
    common: CommonArgs,
}

fn main() -> std::process::ExitCode {
    common::run(devices)
}

fn devices(args: Args) -> Outcome {
    let session = open_session(&args.common)?;
    if args.calibrate {
        session.calibrate();
    }
    let devices = describe(&session);
    let gpus = gpus(args.allow_software);
    let cache = system::cache_dir();
    if args.common.json {
        let list = |all: Vec<Listed>| all.into_iter().map(|d| d.json).collect::<Vec<_>>();
        return line(json!({
            "workload": "devices", "device": args.common.device.to_string(), "threads": cpu_threads(&session), "simd": simd_name(),
            "available_memory_bytes": system::available_memory(), "memory_limit_bytes": session.memory_limit(),
            "cache_dir": cache, "devices": list(devices), "gpus": list(gpus),
        }));
    }
    if args.common.quiet {
        return Ok(());
    }
    let found = !gpus.is_empty();
    devices.into_iter().chain(gpus).try_for_each(|device| line(device.text))?;
    if !found {
        line("-  gpu    none: no Vulkan, Metal or DX12 adapter found")?;
    }
    let memory = format!("memory    {} available", Bytes(system::available_memory()));
    line(format!("{memory}; a run may take {} (--memory-limit sets another)", Bytes(session.memory_limit())))?;
    match cache {
        Some(folder) => line(format!("measured  kept in {}", folder.display())),
        None => line("measured  not kept: there is no cache directory (CHUNKWISE_CACHE_DIR names one)"),
    }
}

struct Listed {
    text: String,
    json: Value,
}

fn cpu_threads(session: &Session) -> u32 {
    session.devices().iter().filter(|d| d.kind == DeviceKind::Cpu).map(|d| d.workers).sum()
}

/// The devices that the session schedules.
fn describe(session: &Session) -> Vec<Listed> {
    let one = |(index, spec): (usize, DeviceSpec)| {
        let (rates, calibration) = session.rates(DeviceId::at(index)).unwrap_or((Rates::CPU, None));
        let speed = match (&calibration, spec.kind) {
            (_, DeviceKind::Io) => "serves files that only libhdf5 can read, and writes results; does not compute".into(),
            (Some(measured), _) => measured_text(measured),
            (None, _) => format!(
                "not measured yet: f64 {}, memory {} a thread assumed (--calibrate measures them)",
                rate(rates.f64_flops, "flop/s"),
                rate(rates.bytes_per_s, "B/s")
            ),
        };
        let json = json!({
            "index": index, "name": spec.name, "kind": spec.kind, "model": spec.model, "threads": spec.workers,
            "rates": rates, "calibration": calibration,
        });
        Listed { text: format!("{index}  {:<4}   {}\n          {speed}", spec.name, spec.model), json }
    };
    session.devices().into_iter().enumerate().map(one).collect()
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

#[cfg(not(feature = "gpu"))]
fn gpus(_allow_software: bool) -> Vec<Listed> {
    Vec::new()
}

#[cfg(feature = "gpu")]
fn gpus(allow_software: bool) -> Vec<Listed> {
    use chunkwise::device::gpu::{adapters, probe};
    let describe = |(number, adapter): (usize, chunkwise::device::gpu::AdapterInfo)| {
        let probed = probe(&adapter);
        let why_not = match (&adapter.unusable, &probed) {
            (Some(reason), _) => format!("{reason} (--allow-software tries it)"),
            (None, Ok(_)) => "chunk tasks do not run on GPUs in this version".to_owned(),
            (None, Err(error)) => error.to_string(),
        };
        let verdict = probed.as_ref().map_or(String::new(), |report| {
            let dtypes: Vec<String> = report.dtypes.iter().map(ToString::to_string).collect();
            format!("computes {}, round trip of 16 kB {}; ", dtypes.join(", "), seconds(report.next_run_s))
        });
        let limits = adapter.limits;
        let largest = limits.binding_bytes.min(limits.buffer_bytes);
        let text = format!(
            "-  gpu{number}   {adapter}, {}, {}\n          chunks up to {}, {} bindings; {verdict}not used: {why_not}",
            adapter.kind,
            adapter.driver,
            Bytes(largest),
            limits.bindings
        );
        let json = json!({
            "name": adapter.name, "kind": adapter.kind.to_string(), "backend": adapter.backend, "driver": adapter.driver,
            "f64": adapter.has_f64, "largest_chunk_bytes": largest, "unusable": adapter.unusable, "not_used": why_not,
            "computes": probed.is_ok(), "round_trip_s": probed.ok().map(|report| report.next_run_s),
        });
        Listed { text, json }
    };
    adapters(allow_software).into_iter().enumerate().map(describe).collect()
}
