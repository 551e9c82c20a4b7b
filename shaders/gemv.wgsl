// y = A x. The host adds `alias Real`.
//
// Inputs: A (m, k), x (k,). Output: y (m,). `wide` is for k that 4 divides, `narrow` for any, `short` for short rows. `slim` is `wide` with
// a quarter of the threads, each of which has four times as many loads under way, and fewer to wait for; it gives the same bits. Where
// there are few rows, they are cut into `parts` parts of `span` elements, and `join` adds the parts in order.
struct Params {
    first: u32,
    groups: u32,
    begin: u32,
    end: u32,
    m: u32,
    k: u32,
    parts: u32,
    span: u32,
}

@group(0) @binding(0) var<uniform> p: Params;
@group(0) @binding(1) var<storage, read> a: array<Real>;
@group(0) @binding(1) var<storage, read> a4: array<vec4<Real>>;
@group(0) @binding(2) var<storage, read> x: array<Real>;
@group(0) @binding(2) var<storage, read> x4: array<vec4<Real>>;
@group(0) @binding(3) var<storage, read_write> y: array<Real>;
// Sums of parts of rows, (parts, m).
@group(0) @binding(4) var<storage, read_write> partial: array<Real>;

// One sum for each of a group's four rows, from each thread.
var<workgroup> sums: array<vec4<Real>, 256>;
// The same of `slim`.
var<workgroup> few: array<vec4<Real>, 64>;
// One sum from each thread of `short`.
var<workgroup> lanes: array<Real, 256>;

// The sum of all threads' `own`, for thread 0.
fn total(own: vec4<Real>, t: u32) -> vec4<Real> {
    sums[t] = own;
    for (var half = 128u; half > 0u; half >>= 1u) {
        workgroupBarrier();
        if (t < half) {
            sums[t] += sums[t + half];
        }
    }
    return sums[0];
}

fn across(v: vec4<Real>) -> Real {
    return (v.x + v.y) + (v.z + v.w);
}

// Elements `begin..end` of rows `row..row + 4`, multiplied by x and summed, for thread 0. A row below the last is the last again.
fn wide_rows(row: u32, begin: u32, end: u32, t: u32) -> vec4<Real> {
    let k4 = p.k >> 2u;
    let last = p.m - 1u;
    let r0 = min(row, last) * k4;
    let r1 = min(row + 1u, last) * k4;
    let r2 = min(row + 2u, last) * k4;
    let r3 = min(row + 3u, last) * k4;
    var c0 = vec4<Real>();
    var c1 = vec4<Real>();
    var c2 = vec4<Real>();
    var c3 = vec4<Real>();
    for (var j = (begin >> 2u) + t; j < (end >> 2u); j += 256u) {
        let v = x4[j];
        c0 = fma(a4[r0 + j], v, c0);
        c1 = fma(a4[r1 + j], v, c1);
        c2 = fma(a4[r2 + j], v, c2);
        c3 = fma(a4[r3 + j], v, c3);
    }
    return total(vec4<Real>(across(c0), across(c1), across(c2), across(c3)), t);
}

// What a thread of `wide` sums, of four rows.
struct Lane {
    c0: vec4<Real>,
    c1: vec4<Real>,
    c2: vec4<Real>,
    c3: vec4<Real>,
}

// `rows` are where the rows start.
fn add(lane: ptr<function, Lane>, rows: vec4<u32>, j: u32) {
    let v = x4[j];
    (*lane).c0 = fma(a4[rows.x + j], v, (*lane).c0);
    (*lane).c1 = fma(a4[rows.y + j], v, (*lane).c1);
    (*lane).c2 = fma(a4[rows.z + j], v, (*lane).c2);
    (*lane).c3 = fma(a4[rows.w + j], v, (*lane).c3);
}

fn lane_sums(lane: Lane) -> vec4<Real> {
    return vec4<Real>(across(lane.c0), across(lane.c1), across(lane.c2), across(lane.c3));
}

// As `wide_rows`, by 64 threads: thread t does what threads t, t + 64, t + 128 and t + 192 do there, and adds their sums as `total` does.
fn slim_rows(row: u32, begin: u32, end: u32, t: u32) -> vec4<Real> {
    let last = p.m - 1u;
    let rows = vec4<u32>(min(row, last), min(row + 1u, last), min(row + 2u, last), min(row + 3u, last)) * (p.k >> 2u);
    let first = begin >> 2u;
    let stop = end >> 2u;
    let whole = first + ((stop - first) & 0xffffff00u);
    var lane0 = Lane();
    var lane1 = Lane();
    var lane2 = Lane();
    var lane3 = Lane();
    var j = first + t;
    for (; j < whole; j += 256u) {
        add(&lane0, rows, j);
        add(&lane1, rows, j + 64u);
        add(&lane2, rows, j + 128u);
        add(&lane3, rows, j + 192u);
    }
    if (j < stop) {
        add(&lane0, rows, j);
    }
    if (j + 64u < stop) {
        add(&lane1, rows, j + 64u);
    }
    if (j + 128u < stop) {
        add(&lane2, rows, j + 128u);
    }
    if (j + 192u < stop) {
        add(&lane3, rows, j + 192u);
    }
    few[t] = (lane_sums(lane0) + lane_sums(lane2)) + (lane_sums(lane1) + lane_sums(lane3));
    for (var half = 32u; half > 0u; half >>= 1u) {
        workgroupBarrier();
        if (t < half) {
            few[t] += few[t + half];
        }
    }
    return few[0];
}

// As `wide_rows`, one element at a time.
fn narrow_rows(row: u32, begin: u32, end: u32, t: u32) -> vec4<Real> {
    let last = p.m - 1u;
    let r0 = min(row, last) * p.k;
    let r1 = min(row + 1u, last) * p.k;
    let r2 = min(row + 2u, last) * p.k;
    let r3 = min(row + 3u, last) * p.k;
    var c = vec4<Real>();
    for (var j = begin + t; j < end; j += 256u) {
        c = fma(vec4<Real>(a[r0 + j], a[r1 + j], a[r2 + j], a[r3 + j]), vec4<Real>(x[j]), c);
    }
    return total(c, t);
}

// First row and part of a group of four rows.
fn rows_of(group: u32) -> vec2<u32> {
    let quads = (p.m + 3u) / 4u;
    return vec2<u32>(group % quads * 4u, group / quads);
}

fn store(row: u32, sum: vec4<Real>) {
    y[row] = sum.x;
    if (row + 1u < p.m) {
        y[row + 1u] = sum.y;
    }
    if (row + 2u < p.m) {
        y[row + 2u] = sum.z;
    }
    if (row + 3u < p.m) {
        y[row + 3u] = sum.w;
    }
}

fn store_part(part: u32, row: u32, sum: vec4<Real>) {
    let at = part * p.m + row;
    partial[at] = sum.x;
    if (row + 1u < p.m) {
        partial[at + 1u] = sum.y;
    }
    if (row + 2u < p.m) {
        partial[at + 2u] = sum.z;
    }
    if (row + 3u < p.m) {
        partial[at + 3u] = sum.w;
    }
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
    let row = (p.first + folded) * 4u;
    let sum = wide_rows(row, 0u, p.k, t);
    if (t == 0u) {
        store(row, sum);
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
    let row = (p.first + folded) * 4u;
    let sum = narrow_rows(row, 0u, p.k, t);
    if (t == 0u) {
        store(row, sum);
    }
}

@compute @workgroup_size(256)
fn wide_part(
    @builtin(workgroup_id) id: vec3<u32>,
    @builtin(num_workgroups) count: vec3<u32>,
    @builtin(local_invocation_index) t: u32,
) {
    let folded = id.x + id.y * count.x;
    if (folded >= p.groups) {
        return;
    }
    let at = rows_of(p.first + folded);
    let sum = wide_rows(at.x, at.y * p.span, min((at.y + 1u) * p.span, p.k), t);
    if (t == 0u) {
        store_part(at.y, at.x, sum);
    }
}

@compute @workgroup_size(64)
fn slim(
    @builtin(workgroup_id) id: vec3<u32>,
    @builtin(num_workgroups) count: vec3<u32>,
    @builtin(local_invocation_index) t: u32,
) {
    let folded = id.x + id.y * count.x;
    if (folded < p.groups) {
        let row = (p.first + folded) * 4u;
        let sum = slim_rows(row, 0u, p.k, t);
        if (t == 0u) {
            store(row, sum);
        }
    }
}

@compute @workgroup_size(64)
fn slim_part(
    @builtin(workgroup_id) id: vec3<u32>,
    @builtin(num_workgroups) count: vec3<u32>,
    @builtin(local_invocation_index) t: u32,
) {
    let folded = id.x + id.y * count.x;
    if (folded < p.groups) {
        let at = rows_of(p.first + folded);
        let sum = slim_rows(at.x, at.y * p.span, min((at.y + 1u) * p.span, p.k), t);
        if (t == 0u) {
            store_part(at.y, at.x, sum);
        }
    }
}

@compute @workgroup_size(256)
fn narrow_part(
    @builtin(workgroup_id) id: vec3<u32>,
    @builtin(num_workgroups) count: vec3<u32>,
    @builtin(local_invocation_index) t: u32,
) {
    let folded = id.x + id.y * count.x;
    if (folded >= p.groups) {
        return;
    }
    let at = rows_of(p.first + folded);
    let sum = narrow_rows(at.x, at.y * p.span, min((at.y + 1u) * p.span, p.k), t);
    if (t == 0u) {
        store_part(at.y, at.x, sum);
    }
}

// One row a thread: its parts in order.
@compute @workgroup_size(256)
fn join(
    @builtin(workgroup_id) id: vec3<u32>,
    @builtin(num_workgroups) count: vec3<u32>,
    @builtin(local_invocation_index) t: u32,
) {
    let folded = id.x + id.y * count.x;
    let row = (p.first + folded) * 256u + t;
    if (folded >= p.groups || row >= p.m) {
        return;
    }
    var sum = partial[row];
    for (var part = 1u; part < p.parts; part += 1u) {
        sum += partial[part * p.m + row];
    }
    y[row] = sum;
}

// 16 rows a group, 16 threads a row.
@compute @workgroup_size(256)
fn short(
    @builtin(workgroup_id) id: vec3<u32>,
    @builtin(num_workgroups) count: vec3<u32>,
    @builtin(local_invocation_index) t: u32,
) {
    let folded = id.x + id.y * count.x;
    if (folded >= p.groups) {
        return;
    }
    let row = (p.first + folded) * 16u + (t >> 4u);
    let lane = t & 15u;
    let start = min(row, p.m - 1u) * p.k;
    var c = Real();
    for (var j = lane; j < p.k; j += 16u) {
        c = fma(a[start + j], x[j], c);
    }
    lanes[t] = c;
    for (var half = 8u; half > 0u; half >>= 1u) {
        workgroupBarrier();
        if (lane < half) {
            lanes[t] += lanes[t + half];
        }
    }
    if (lane == 0u && row < p.m) {
        y[row] = lanes[t];
    }
}
