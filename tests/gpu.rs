//! The GPU path from the dependency to the driver: adapters are listed, and one of them computes.
//!
//! Owns: what `REQUIRE_GPU=1` promises (a missing adapter then fails; software Vulkan counts). Must not know: tasks. Invariant:
//! a test that could not run says so on stderr.
#![cfg(feature = "gpu")]

use std::io::Write;
use std::process::Command;

use chunkwise::device::gpu::{AdapterKind, adapters, probe};
use chunkwise::shape::DType;

#[test]
fn an_adapter_computes() {
    let all = adapters(true);
    let usable: Vec<_> = all.iter().filter(|a| a.unusable.is_none()).collect();
    if usable.is_empty() {
        let required = std::env::var("REQUIRE_GPU").is_ok_and(|v| v == "1");
        assert!(!required, "REQUIRE_GPU=1, but there is no usable adapter: {all:?}");
        // Straight to stderr: the test harness hides what `println!` writes.
        let _ = writeln!(std::io::stderr(), "SKIPPED tests/gpu.rs: no GPU adapter (mesa-vulkan-drivers has a software one)");
        return;
    }
    for adapter in usable {
        let report = probe(adapter).unwrap_or_else(|e| panic!("{adapter}: {e}"));
        assert!(report.dtypes.starts_with(&[DType::I32, DType::F32]), "{report:?}");
        assert_eq!(report.dtypes.contains(&DType::F64), adapter.has_f64);
        assert!(adapter.limits.binding_bytes >= 1 << 27 && adapter.limits.workgroups >= 65_535, "{adapter:?}");
        probe(adapter).unwrap_or_else(|e| panic!("{adapter}, opened again: {e}"));
    }
}

#[test]
fn software_adapters_are_listed_but_refused_unless_allowed() {
    for adapter in adapters(false) {
        assert_eq!(adapter.kind == AdapterKind::Software, adapter.unusable.is_some(), "{adapter:?}");
        if let Some(reason) = &adapter.unusable {
            let text = probe(&adapter).expect_err("refused").to_string();
            assert!(text.contains(reason.as_str()) && text.contains(&adapter.name), "{text}");
        }
    }
}

/// Runs in a process of its own: drivers are chosen by the environment, once per process.
#[test]
fn without_a_driver_the_list_is_empty() {
    if std::env::var_os("CHUNKWISE_TEST_NO_DRIVER").is_some() {
        assert!(adapters(true).is_empty());
        return;
    }
    let this = std::env::current_exe().expect("path of this test");
    let output = Command::new(this)
        .args(["--exact", "without_a_driver_the_list_is_empty", "--nocapture"])
        .env("CHUNKWISE_TEST_NO_DRIVER", "1")
        .env("WGPU_BACKEND", "vulkan")
        .env("VK_DRIVER_FILES", "/nonexistent")
        .env("VK_ICD_FILENAMES", "/nonexistent")
        .output()
        .expect("starts");
    let text = String::from_utf8_lossy(&output.stderr);
    assert!(output.status.success(), "{text}");
    assert!(!text.contains("panicked"), "{text}");
}
