// Chains of multiply-adds in registers: how fast a GPU computes at best. The host prepends `alias Real`.
//
// Input: a and b. Output: y (n,), which holds nothing between dispatches. A workgroup takes 256 elements; `end` is the number of steps.
struct Params {
    first: u32,
    groups: u32,
    begin: u32,
    end: u32,
    n: u32,
}

@group(0) @binding(0) var<uniform> p: Params;
@group(0) @binding(1) var<storage, read> x: array<Real>;
@group(0) @binding(2) var<storage, read_write> y: array<Real>;

@compute @workgroup_size(256)
fn multiply_add(
    @builtin(workgroup_id) id: vec3<u32>,
    @builtin(num_workgroups) count: vec3<u32>,
    @builtin(local_invocation_index) t: u32,
) {
    let folded = id.x + id.y * count.x;
    let i = (p.first + folded) * 256u + t;
    if (folded >= p.groups || i >= p.n) {
        return;
    }
    // Chains start at different values, so that none can be left out, and do not wait for each other. They accumulate, because that is
    // the form in which all GPUs have their full rate.
    let a = vec4<Real>(x[0]);
    let b = vec4<Real>(x[1]);
    let start = Real(i % 256u);
    var v0 = vec4<Real>(start) + vec4<Real>(Real(0), Real(1), Real(2), Real(3));
    var v1 = v0 + vec4<Real>(Real(4));
    var v2 = v0 + vec4<Real>(Real(8));
    var v3 = v0 + vec4<Real>(Real(12));
    for (var k = 0u; k < p.end; k++) {
        v0 = fma(a, b, v0);
        v1 = fma(a, b, v1);
        v2 = fma(a, b, v2);
        v3 = fma(a, b, v3);
        v0 = fma(a, b, v0);
        v1 = fma(a, b, v1);
        v2 = fma(a, b, v2);
        v3 = fma(a, b, v3);
        v0 = fma(a, b, v0);
        v1 = fma(a, b, v1);
        v2 = fma(a, b, v2);
        v3 = fma(a, b, v3);
        v0 = fma(a, b, v0);
        v1 = fma(a, b, v1);
        v2 = fma(a, b, v2);
        v3 = fma(a, b, v3);
    }
    let all = (v0 + v1) + (v2 + v3);
    y[i] = (all.x + all.y) + (all.z + all.w);
}
