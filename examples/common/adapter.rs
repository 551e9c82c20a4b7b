//! What a GPU's driver says of it.
//!
//! Owns: how that is written, for people and for scripts. Must not know: what the GPU is used for. Invariant: what a driver does not
//! tell is absent, or `null`, never 0.

use chunkwise::device::gpu::AdapterInfo;
use serde_json::{Value, json};

/// All of it.
pub fn adapter_json(adapter: &AdapterInfo) -> Value {
    let limits = adapter.limits;
    let matrices = adapter.cooperative_matrices.iter().map(|m| {
        let (factors, sums) = (m.factors.to_string(), m.sums.to_string());
        json!({ "shape": m.shape, "factors": factors, "sums": sums, "saturates": m.saturates })
    });
    json!({
        "name": adapter.name, "kind": adapter.kind.to_string(), "api": adapter.backend, "driver": adapter.driver,
        "memory_bytes": adapter.memory_bytes, "f64": adapter.has_f64, "f16": adapter.has_f16, "timestamps": adapter.has_timestamps,
        "shares_memory": adapter.shares_memory(), "subgroup_sizes": adapter.subgroup_sizes, "cooperative_matrices_usable": adapter.has_cooperative_matrices,
        "cooperative_matrices": matrices.collect::<Vec<_>>(),
        "limits": {
            "buffer_bytes": limits.buffer_bytes, "binding_bytes": limits.binding_bytes, "bindings": limits.bindings,
            "workgroups": limits.workgroups, "invocations": limits.invocations, "workgroup_bytes": limits.workgroup_bytes,
        },
    })
}

/// What its shaders could do beside what kernels here do, and who times them: `subgroups of 32, f16; no cooperative matrices; ..`.
pub fn adapter_abilities(adapter: &AdapterInfo) -> String {
    let subgroups = match adapter.subgroup_sizes {
        None => "no subgroups".to_owned(),
        Some([least, most]) if least == most => format!("subgroups of {least}"),
        Some([least, most]) => format!("subgroups of {least} to {most}"),
    };
    let f16 = if adapter.has_f16 { "f16" } else { "no f16" };
    let matrices: Vec<String> = adapter.cooperative_matrices.iter().map(ToString::to_string).collect();
    let matrices = match (matrices.is_empty(), adapter.has_cooperative_matrices) {
        (true, _) => "no cooperative matrices".to_owned(),
        (false, true) => format!("cooperative matrices {}", matrices.join(", ")),
        (false, false) => format!("cooperative matrices {} (not for shaders of wgpu)", matrices.join(", ")),
    };
    let clock = if adapter.has_timestamps { "times its own work" } else { "cannot time its own work" };
    let memory = if adapter.shares_memory() { "; memory that the host can map" } else { "" };
    format!("{subgroups}, {f16}; {matrices}; {clock}{memory}")
}
