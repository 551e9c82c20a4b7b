// What a GPU does at best: multiply-adds in registers, and plain reads. The host adds `alias Real`.
//
// Output: y (n,). A workgroup takes 256 elements of it. Input of `multiply_add`: a and b, and `end` is the number of steps; of `quads`: x,
// `quads` times four elements.
struct Params {
    first: u32,
    groups: u32,
    begin: u32,
    end: u32,
    n: u32,
    quads: u32,
}

@group(0) @binding(0) var<uniform> p: Params;
@group(0) @binding(1) var<storage, read> x: array<Real>;
@group(0) @binding(1) var<storage, read> x4: array<vec4<Real>>;
@group(0) @binding(2) var<storage, read_write> y: array<Real>;

// The element of an invocation; `n` or more where it has none.
fn element(folded: u32, t: u32) -> u32 {
    return select(p.n, (p.first + folded) * 256u + t, folded < p.groups);
}

fn total(v0: vec4<Real>, v1: vec4<Real>, v2: vec4<Real>, v3: vec4<Real>) -> Real {
    let all = (v0 + v1) + (v2 + v3);
    return (all.x + all.y) + (all.z + all.w);
}

@compute @workgroup_size(256)
fn multiply_add(
    @builtin(workgroup_id) id: vec3<u32>,
    @builtin(num_workgroups) count: vec3<u32>,
    @builtin(local_invocation_index) t: u32,
) {
    let i = element(id.x + id.y * count.x, t);
    if (i >= p.n) {
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
    y[i] = total(v0, v1, v2, v3);
}

// Sums every n-th quad, four loads at once.
@compute @workgroup_size(256)
fn quads(
    @builtin(workgroup_id) id: vec3<u32>,
    @builtin(num_workgroups) count: vec3<u32>,
    @builtin(local_invocation_index) t: u32,
) {
    let i = element(id.x + id.y * count.x, t);
    if (i >= p.n) {
        return;
    }
    var v0 = vec4<Real>();
    var v1 = vec4<Real>();
    var v2 = vec4<Real>();
    var v3 = vec4<Real>();
    var k = i;
    for (; k + 3u * p.n < p.quads; k += 4u * p.n) {
        v0 += x4[k];
        v1 += x4[k + p.n];
        v2 += x4[k + 2u * p.n];
        v3 += x4[k + 3u * p.n];
    }
    for (; k < p.quads; k += p.n) {
        v0 += x4[k];
    }
    y[i] = total(v0, v1, v2, v3);
}
