// Generations `begin..end` of x <- rate x (1 - x). The host adds `alias Real`.
//
// Inputs: x and rate, `n` elements each. Output: next, which holds the state between dispatches. A workgroup takes 64 elements.
struct Params {
    first: u32,
    groups: u32,
    begin: u32,
    end: u32,
    n: u32,
}

@group(0) @binding(0) var<uniform> p: Params;
@group(0) @binding(1) var<storage, read> x: array<Real>;
@group(0) @binding(2) var<storage, read> rate: array<Real>;
@group(0) @binding(3) var<storage, read_write> next: array<Real>;

@compute @workgroup_size(64)
fn grow(
    @builtin(workgroup_id) id: vec3<u32>,
    @builtin(num_workgroups) count: vec3<u32>,
    @builtin(local_invocation_index) t: u32,
) {
    let folded = id.x + id.y * count.x;
    let i = (p.first + folded) * 64u + t;
    if (folded >= p.groups || i >= p.n) {
        return;
    }
    var value = x[i];
    if (p.begin > 0u) {
        value = next[i];
    }
    for (var k = p.begin; k < p.end; k++) {
        value = rate[i] * (value * (Real(1) - value));
    }
    next[i] = value;
}
