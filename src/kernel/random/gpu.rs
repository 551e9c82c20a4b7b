//! Random numbers on GPUs.
//!
//! Owns: which functions of `shaders/random.wgsl` make them. Must not know: modules. Invariant: uniform numbers, integers and truth values have the CPU's bits; normal ones are
//! within [`NORMAL_ULPS`].

use super::{Distribution, FEW, RandomParams};
use crate::kernel::generate::GpuFeed;
use crate::shape::DType;

/// Units in the last place between a normal number of a GPU and that of a CPU, at most.
pub const NORMAL_ULPS: f64 = 8.0;

/// How a GPU makes them; `None` if there are none such of the dtype.
pub(super) fn feed(what: Distribution, params: RandomParams, dtype: DType) -> Option<GpuFeed> {
    let two = |n: u64| [n as u32, (n >> 32) as u32];
    let mut words = [params.seed, params.stream].map(two).concat();
    let (vector, value) = match (what, dtype) {
        (Distribution::Uniform, DType::F32) => ("F4", "f_unit(philox_word(x, low))".to_owned()),
        (Distribution::Uniform, DType::F64) => ("D4", "d_unit(philox_low(x, low), philox_high(x, low))".into()),
        (Distribution::Normal, DType::F32) => ("F4", "f_normal(x, low)".into()),
        (Distribution::Normal, DType::F64) => ("D4", "d_normal(x, low)".into()),
        (Distribution::Bernoulli { of_2_32 }, DType::Bool) => {
            words.extend(two(of_2_32));
            ("B4", "(philox_word(x, low) < U4(p.g@_4)) | (U4(p.g@_5) != U4(0u))".into())
        }
        (Distribution::Integers { low, count }, _) if FEW.contains(&count) => {
            words.push(count as u32); // of 2^32, 0
            words.extend(two(low));
            integer(dtype)?
        }
        (Distribution::Integers { low, count }, DType::I64 | DType::U64) => {
            words.extend([count, low].map(two).concat());
            let number = |at: u32| format!("M4(u64(p.g@_{at}) | (u64(p.g@_{}) << 32u))", at + 1);
            let wide = format!("m_below(x, {}) + {}", number(4), number(6));
            if dtype == DType::U64 { ("M4", wide) } else { ("L4", format!("bitcast<L4>({wide})")) }
        }
        _ => return None,
    };
    let shift = what.shift(dtype);
    let x = format!("philox(low, high, {shift}u, vec2(p.g@_0, p.g@_1), vec2(p.g@_2, p.g@_3))");
    let text = format!("fn made@(low: U4, high: U4) -> {vector} {{\n    let x = {x};\n    return {value};\n}}\n");
    Some(GpuFeed { indices: params.indices, words, text })
}

/// An integer from the lowest on, modulo the dtype's range.
fn integer(dtype: DType) -> Option<(&'static str, String)> {
    let below = "u_below(philox_low(x, low), philox_high(x, low), p.g@_4)";
    let wide = format!("u_to_m({below}) + M4(u64(p.g@_5) | (u64(p.g@_6) << 32u))");
    let single = format!("{below} + U4(p.g@_5)");
    Some(match dtype {
        DType::I64 => ("L4", format!("bitcast<L4>({wide})")),
        DType::U64 => ("M4", wide),
        DType::I32 => ("I4", format!("bitcast<I4>({single})")),
        DType::U32 => ("U4", single),
        DType::I8 | DType::I16 => ("I4", format!("i_wrap(bitcast<I4>({single}), {}u)", 8 * dtype.bytes())),
        DType::U8 | DType::U16 => ("U4", format!("u_wrap({single}, {}u)", 8 * dtype.bytes())),
        _ => return None,
    })
}
