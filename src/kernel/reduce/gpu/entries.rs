//! Entry points of reductions: which invocation takes which elements, and how results of invocations are joined.
//!
//! Owns: the text of these. Must not know: programs, folds beyond the names of their components. Invariant: barriers are met by all invocations of a workgroup, and each word of workgroup memory is
//! written by one between two of them.

use std::fmt::Write;

use super::folds::{GpuFold, RUN};
use super::{EACH, GROUP};

/// Results of invocations in workgroup memory: the first of a `Four` is put there, and four that are equally far apart are taken from there.
pub(super) fn shared(fold: &GpuFold) -> String {
    let parts = fold.components();
    let all = |of: &dyn Fn(&str, &str) -> String| {
        parts.iter().map(|(name, vector, _)| of(name, vector)).collect::<Vec<_>>().join(", ")
    };
    let mut text = String::from("fn keep(t: u32, a: Four) {\n");
    parts.iter().for_each(|(name, ..)| _ = writeln!(text, "    shared_{name}[t] = a.{name}.x;"));
    let one = all(&|name, _| format!("shared_{name}[t]"));
    let four = all(&|name, vector| {
        let lanes = ["t", "t + apart", "t + 2u * apart", "t + 3u * apart"].map(|at| format!("shared_{name}[{at}]"));
        format!("{vector}({})", lanes.join(", "))
    });
    _ = writeln!(text, "}}\nfn kept_at(t: u32) -> Part {{\n    return Part({one});\n}}");
    _ = writeln!(text, "fn kept_four(t: u32, apart: u32) -> Four {{\n    return Four({four});\n}}");
    text
}

/// The statements that join what `each` neighbours have kept, eight or four at a time; the first of them has it all then.
fn tree(each: usize) -> String {
    let (mut text, mut rest) = (String::new(), each);
    while rest > 1 {
        let at_once = if matches!(rest, 4 | 16) { 4 } else { 8 }; // 256, 32, 4; 64, 8; 16, 4
        rest /= at_once;
        let four = |first: &str| format!("kept_four({first}, {rest}u)");
        let all = match at_once {
            8 => format!("join({}, {})", four("t"), four(&format!("t + {}u", 4 * rest))),
            _ => four("t"),
        };
        _ = write!(
            text,
            "    workgroupBarrier();
    if (w < {rest}u) {{
        keep(t, joined({all}));
    }}
"
        );
    }
    text
}

const HEAD: &str = "@builtin(workgroup_id) id: vec3<u32>,
    @builtin(num_workgroups) count: vec3<u32>,
    @builtin(local_invocation_index) t: u32,
) {
    let folded = id.x + id.y * count.x;
    if (folded >= p.groups) {
        return;
    }
    let group = p.first + folded;
";

/// Entry points, where the elements of a result lie next to each other.
pub(super) fn along(each: usize, in_parts: bool) -> String {
    let rows = GROUP / each;
    let result = if each > 1 { "kept_at(t)" } else { "mine" };
    let mine = if each > 1 { "keep(t, joined(run_close(r)));" } else { "let mine = part_of(joined(run_close(r)));" };
    let end = if in_parts { format!("parts[row] = {result};") } else { format!("write(row, {result});") };
    let mut text = format!(
        "@compute @workgroup_size({GROUP})
fn first(
    {HEAD}    let row = group * {rows}u + t / {each}u;
    let w = t % {each}u;
    let k = row / p.parts;
    let start = (row - k * p.parts) * p.part;
    var r = run_none();
    let end = select(0u, min(start + {taken}u, p.len), k < p.kept);
    let base = k * p.len;
    for (var e = start + w * 4u; e < end; e += {step}u) {{
        let number = U4(e) + U4(0u, 1u, 2u, 3u);
        r = put(r, base + e, number, number < U4(p.len));
    }}
    {mine}
{tree}    if (w == 0u && k < p.kept) {{
        {end}
    }}
}}
",
        taken = each * EACH,
        step = each * 4,
        tree = tree(each),
    );
    if in_parts {
        _ = write!(
            text,
            "@compute @workgroup_size({GROUP})
fn last(
    {HEAD}    let w = t;
    var all = none();
    for (var at = t; at < p.parts; at += {GROUP}u) {{
        all = join(all, four_of(parts[group * p.parts + at]));
    }}
    keep(t, all);
{tree}    if (t == 0u) {{
        write(group, kept_at(t));
    }}
}}
",
            tree = tree(GROUP)
        );
    }
    text
}

/// Entry points, where results lie next to each other.
pub(super) fn across(in_parts: bool) -> String {
    let lane = |at: usize| if at == 0 { "all".to_owned() } else { format!("turned{at}(all)") };
    let write = |at: usize, to: &str| {
        format!(
            "        if (k + {at}u < p.kept) {{\n            {}\n        }}\n",
            to.replace("LANE", &format!("part_of({})", lane(at)))
        )
    };
    let to = |at: usize| match in_parts {
        true => format!("parts[s * p.kept + k + {at}u] = LANE;"),
        false => format!("write(k + {at}u, LANE);"),
    };
    let ends: String = (0..4).map(|at| write(at, &to(at))).collect();
    let mut text = format!(
        "@compute @workgroup_size({GROUP})
fn first(
    {HEAD}    let fours = (p.kept + 3u) / 4u;
    let number = group * {GROUP}u + t;
    let s = number / fours;
    let k = (number - s * fours) * 4u;
    let here = U4(k) + U4(0u, 1u, 2u, 3u) < U4(p.kept);
    if (s < p.parts) {{
        let end = min((s + 1u) * p.part, p.len);
        var all = none();
        for (var start = s * p.part; start < end; start += {RUN}u) {{
            var r = run_none();
            for (var j = start; j < min(start + {RUN}u, end); j++) {{
                r = put(r, j * p.kept + k, U4(j), here);
            }}
            all = join(all, run_close(r));
        }}
{ends}    }}
}}
"
    );
    if in_parts {
        let ends: String = (0..4).map(|at| write(at, &format!("write(k + {at}u, LANE);"))).collect();
        _ = write!(
            text,
            "@compute @workgroup_size({GROUP})
fn last(
    {HEAD}    let k = (group * {GROUP}u + t) * 4u;
    if (k < p.kept) {{
        let most = p.kept - 1u;
        var all = none();
        for (var start = 0u; start < p.parts; start += {RUN}u) {{
            var some = none();
            for (var s = start; s < min(start + {RUN}u, p.parts); s++) {{
                let at = s * p.kept;
                some = join(some, four_at(parts[at + k], parts[at + min(k + 1u, most)], parts[at + min(k + 2u, most)], parts[at + min(k + 3u, most)]));
            }}
            all = join(all, some);
        }}
{ends}    }}
}}
"
        );
    }
    text
}
