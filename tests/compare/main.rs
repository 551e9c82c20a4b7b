//! The example `compare`: its statistics and drawings (unit tests of its modules, which run as part of this file), its method, and the
//! program as a user runs it.
//!
//! Owns: which modules are tested here. Must not know: how long anything takes. Invariant: no test asserts a measured time; what must be
//! slow or fast is a fake that says so.
#![allow(dead_code)] // the program's `main` uses the rest

#[path = "../../examples/common/mod.rs"]
mod common;
#[path = "../harness/mod.rs"]
mod harness;

#[path = "../../examples/compare/chart.rs"]
mod chart;
#[path = "../../examples/compare/duel.rs"]
mod duel;
#[path = "../../examples/compare/lanes.rs"]
mod lanes;
#[path = "../../examples/compare/machine.rs"]
mod machine;
#[path = "../../examples/compare/measure.rs"]
mod measure;
#[path = "../../examples/compare/method.rs"]
mod method;
#[path = "../../examples/compare/out.rs"]
mod out;
#[path = "../../examples/compare/page.rs"]
mod page;
#[path = "../../examples/compare/pixels.rs"]
mod pixels;
#[path = "../../examples/compare/plan.rs"]
mod plan;
#[path = "../../examples/compare/roofline.rs"]
mod roofline;
#[path = "../../examples/compare/run.rs"]
mod run;
#[path = "../../examples/compare/scene.rs"]
mod scene;
#[path = "../../examples/compare/stats.rs"]
mod stats;
#[path = "../../examples/compare/study.rs"]
mod study;
#[path = "../../examples/compare/tables.rs"]
mod tables;
#[path = "../../examples/compare/words.rs"]
mod words;
#[path = "../../examples/compare/work.rs"]
mod work;

mod agree;
mod claims;
mod fake;
mod gpu;
mod program;
mod verdict;
