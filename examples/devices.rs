//! Lists the devices of this machine: the CPU, and the GPU adapters with a proof that they compute.

mod common;

use chunkwise::Bytes;
use chunkwise::device::system;
use common::{CommonArgs, Outcome, line, seconds};
use serde_json::{Value, json};

/// List the devices of this machine, and try each GPU with a small shader.
#[derive(clap::Parser)]
#[command(after_help = common::usage(&[
    ("devices", "what there is, and whether it computes"),
    ("devices -- --allow-software --json", "for scripts, software Vulkan included"),
]))]
struct Args {
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
    let threads = args.common.threads.unwrap_or_else(system::threads);
    let (model, memory) = (system::cpu_model(), system::available_memory());
    let gpus = gpus(args.allow_software);
    if args.common.json {
        let cpu = json!({ "name": model, "threads": threads, "available_memory_bytes": memory });
        let gpus: Vec<Value> = gpus.into_iter().map(|g| g.json).collect();
        return line(json!({ "workload": "devices", "cpu": cpu, "gpus": gpus }));
    }
    if args.common.quiet {
        return Ok(());
    }
    line(format!("0  cpu    {model}, {threads} threads, {} available", Bytes(memory)))?;
    if gpus.is_empty() {
        line("   gpu    none: no Vulkan, Metal or DX12 adapter found; everything runs on the CPU")?;
    }
    for gpu in gpus {
        line(gpu.text)?;
    }
    Ok(())
}

struct Gpu {
    text: String,
    json: Value,
}

#[cfg(not(feature = "gpu"))]
fn gpus(_allow_software: bool) -> Vec<Gpu> {
    Vec::new()
}

#[cfg(feature = "gpu")]
fn gpus(allow_software: bool) -> Vec<Gpu> {
    use chunkwise::device::gpu::{adapters, probe};
    let describe = |(number, adapter): (usize, chunkwise::device::gpu::AdapterInfo)| {
        let probed = probe(&adapter);
        let verdict = match (&adapter.unusable, &probed) {
            (Some(reason), _) => format!("not used: {reason} (--allow-software for tests)"),
            (None, Ok(report)) => {
                let dtypes: Vec<String> = report.dtypes.iter().map(ToString::to_string).collect();
                format!("computes {}; round trip of 16 kB {}", dtypes.join(", "), seconds(report.next_run_s))
            }
            (None, Err(error)) => format!("not used: {error}"),
        };
        let limits = adapter.limits;
        let text = format!(
            "   gpu{number}   {adapter}, {}, {}\n          chunks up to {}, {} bindings; {verdict}",
            adapter.kind,
            adapter.driver,
            Bytes(limits.binding_bytes.min(limits.buffer_bytes)),
            limits.bindings
        );
        let json = json!({
            "name": adapter.name, "kind": adapter.kind.to_string(), "backend": adapter.backend, "driver": adapter.driver,
            "f64": adapter.has_f64, "largest_chunk_bytes": limits.binding_bytes.min(limits.buffer_bytes),
            "unusable": adapter.unusable, "computes": probed.is_ok(),
            "round_trip_s": probed.ok().map(|report| report.next_run_s),
        });
        Gpu { text, json }
    };
    adapters(allow_software).into_iter().enumerate().map(describe).collect()
}
