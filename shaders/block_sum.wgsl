// Sum of all elements. The host adds `alias Real`.
//
// Input: A, any shape, `len` elements. Output: the sum, an `f64`. `wide` (4 divides `len`) and `narrow` write the sum of each
// run of 8192 elements, in the same order of additions; `finish` adds these: one group, so `finish_f64` where Real is `f64`.
struct Params {
    first: u32,
    groups: u32,
    begin: u32,
    end: u32,
    len: u32,
    runs: u32,
}

@group(0) @binding(0) var<uniform> p: Params;
@group(0) @binding(1) var<storage, read> a: array<Real>;
@group(0) @binding(1) var<storage, read> a4: array<vec4<Real>>;
// The output where shaders have no `f64`: its bits, the low word first.
@group(0) @binding(2) var<storage, read_write> words: array<vec2<u32>>;
@group(0) @binding(2) var<storage, read_write> whole: array<Real>;
// One sum for each run.
@group(0) @binding(3) var<storage, read_write> partial: array<Real>;

var<workgroup> sums: array<Real, 256>;

// The sum of all threads' `own`, for thread 0.
fn total(own: Real, t: u32) -> Real {
    sums[t] = own;
    for (var half = 128u; half > 0u; half >>= 1u) {
        workgroupBarrier();
        if (t < half) {
            sums[t] += sums[t + half];
        }
    }
    return sums[0];
}

// Elements 4i.., 0 beyond the end.
fn four_wide(i: u32) -> vec4<Real> {
    let last = (p.len >> 2u) - 1u;
    return select(vec4<Real>(), a4[min(i, last)], i <= last);
}

fn one(i: u32) -> Real {
    return select(Real(), a[min(i, p.len - 1u)], i < p.len);
}

fn four_narrow(i: u32) -> vec4<Real> {
    return vec4<Real>(one(4u * i), one(4u * i + 1u), one(4u * i + 2u), one(4u * i + 3u));
}

// Eight times four elements.
fn eight(v0: vec4<Real>, v1: vec4<Real>, v2: vec4<Real>, v3: vec4<Real>,
         v4: vec4<Real>, v5: vec4<Real>, v6: vec4<Real>, v7: vec4<Real>) -> Real {
    let v = ((v0 + v1) + (v2 + v3)) + ((v4 + v5) + (v6 + v7));
    return (v.x + v.y) + (v.z + v.w);
}

@compute @workgroup_size(256)
fn wide(
    @builtin(workgroup_id) id: vec3<u32>,
    @builtin(num_workgroups) count: vec3<u32>,
    @builtin(local_invocation_index) t: u32,
) {
    let folded = id.x + id.y * count.x;
    if (folded >= p.groups) {
        return;
    }
    let group = p.first + folded;
    let i = group * 2048u + t;
    let own = eight(four_wide(i), four_wide(i + 256u), four_wide(i + 512u), four_wide(i + 768u),
                    four_wide(i + 1024u), four_wide(i + 1280u), four_wide(i + 1536u), four_wide(i + 1792u));
    let sum = total(own, t);
    if (t == 0u) {
        partial[group] = sum;
    }
}

@compute @workgroup_size(256)
fn narrow(
    @builtin(workgroup_id) id: vec3<u32>,
    @builtin(num_workgroups) count: vec3<u32>,
    @builtin(local_invocation_index) t: u32,
) {
    let folded = id.x + id.y * count.x;
    if (folded >= p.groups) {
        return;
    }
    let group = p.first + folded;
    let i = group * 2048u + t;
    let own = eight(four_narrow(i), four_narrow(i + 256u), four_narrow(i + 512u), four_narrow(i + 768u),
                    four_narrow(i + 1024u), four_narrow(i + 1280u), four_narrow(i + 1536u), four_narrow(i + 1792u));
    let sum = total(own, t);
    if (t == 0u) {
        partial[group] = sum;
    }
}

// The sum of all runs, for thread 0.
fn of_runs(t: u32) -> Real {
    var own = Real();
    for (var i = t; i < p.runs; i += 256u) {
        own += partial[i];
    }
    return total(own, t);
}

// The bits of the `f64` that equals an `f32`. 896 is the difference of the exponents' biases.
fn widened(x: f32) -> vec2<u32> {
    let bits = bitcast<u32>(x);
    let sign = bits & 0x80000000u;
    var exponent = (bits >> 23u) & 0xffu;
    var fraction = bits & 0x7fffffu;
    if (exponent == 0xffu) {
        return vec2<u32>(fraction << 29u, sign | 0x7ff00000u | (fraction >> 3u));
    }
    exponent += 896u;
    if (exponent == 896u) {
        if (fraction == 0u) {
            return vec2<u32>(0u, sign);
        }
        let shift = countLeadingZeros(fraction) - 8u; // brings the first 1 to bit 23, where a normal number has one
        fraction = (fraction << shift) & 0x7fffffu;
        exponent = 897u - shift;
    }
    return vec2<u32>(fraction << 29u, sign | (exponent << 20u) | (fraction >> 3u));
}

@compute @workgroup_size(256)
fn finish(@builtin(local_invocation_index) t: u32) {
    let sum = of_runs(t);
    if (t == 0u) {
        words[0] = widened(f32(sum));
    }
}

@compute @workgroup_size(256)
fn finish_f64(@builtin(local_invocation_index) t: u32) {
    let sum = of_runs(t);
    if (t == 0u) {
        whole[0] = sum;
    }
}
