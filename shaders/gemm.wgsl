// C <- C - A B^T, all of C or the tiles that reach its lower triangle. The host appends `alias Real` and large.wgsl and tile.wgsl.
//
// Inputs: A (m, k), B (n, k). Output: C (m, n). `large` (large.wgsl) has tiles of 128 x 128, `medium` of 64 x 64, `small` of 32 x 32; those
// ending in `_any` take any k and n, the others multiples of 4. In each, an element's products are added in ascending order of k, so all
// give the same bits.
struct Params {
    first: u32,
    groups: u32,
    begin: u32,
    end: u32,
    m: u32,
    n: u32,
    k: u32,
    lower: u32, // not 0: only tiles that reach the lower triangle, numbered by `lower_tile`
}

@group(0) @binding(0) var<uniform> p: Params;
@group(0) @binding(1) var<storage, read> a: array<Real>;
@group(0) @binding(1) var<storage, read> a2: array<vec2<Real>>;
@group(0) @binding(1) var<storage, read> a4: array<vec4<Real>>;
@group(0) @binding(2) var<storage, read> b: array<Real>;
@group(0) @binding(2) var<storage, read> b2: array<vec2<Real>>;
@group(0) @binding(2) var<storage, read> b4: array<vec4<Real>>;
@group(0) @binding(3) var<storage, read_write> c: array<Real>;
@group(0) @binding(3) var<storage, read_write> c4: array<vec4<Real>>;

// Slabs of `medium`, as those of tile.wgsl but 64 rows high.
var<workgroup> tall: array<vec4<Real>, 272>;
var<workgroup> broad: array<vec4<Real>, 272>;

// A thread's elements in `medium`: eight rows of four.
struct Block {
    r0: vec4<Real>,
    r1: vec4<Real>,
    r2: vec4<Real>,
    r3: vec4<Real>,
    r4: vec4<Real>,
    r5: vec4<Real>,
    r6: vec4<Real>,
    r7: vec4<Real>,
}

// First row and column of a group's tile; (m, n) where there is nothing to do.
fn tile_of(id: vec3<u32>, count: vec3<u32>, side: u32) -> vec2<u32> {
    let nothing = vec2<u32>(p.m, p.n);
    let folded = id.x + id.y * count.x;
    if (folded >= p.groups) {
        return nothing;
    }
    let group = p.first + folded;
    if (p.lower != 0u) {
        return lower_tile(group) * side;
    }
    let across = (p.n + side - 1u) / side;
    return vec2<u32>(group / across, group % across) * side;
}

// Four elements from column k, zeros beyond the last. A row beyond the last is the last again: what it gives is not stored.
fn a_row(row: u32, k: u32) -> vec4<Real> {
    return select(vec4<Real>(), a4[(min(row, p.m - 1u) * p.k + min(k, p.k - 4u)) >> 2u], k < p.k);
}

fn b_row(row: u32, k: u32) -> vec4<Real> {
    return select(vec4<Real>(), b4[(min(row, p.n - 1u) * p.k + min(k, p.k - 4u)) >> 2u], k < p.k);
}

fn a_one(row: u32, k: u32) -> Real {
    return select(Real(), a[min(row, p.m - 1u) * p.k + min(k, p.k - 1u)], k < p.k);
}

fn b_one(row: u32, k: u32) -> Real {
    return select(Real(), b[min(row, p.n - 1u) * p.k + min(k, p.k - 1u)], k < p.k);
}

fn a_row_any(row: u32, k: u32) -> vec4<Real> {
    return vec4<Real>(a_one(row, k), a_one(row, k + 1u), a_one(row, k + 2u), a_one(row, k + 3u));
}

fn b_row_any(row: u32, k: u32) -> vec4<Real> {
    return vec4<Real>(b_one(row, k), b_one(row, k + 1u), b_one(row, k + 2u), b_one(row, k + 3u));
}

fn a_patch(row: u32, k: u32) -> Patch {
    return Patch(a_row(row, k), a_row(row + 1u, k), a_row(row + 2u, k), a_row(row + 3u, k));
}

fn b_patch(row: u32, k: u32) -> Patch {
    return Patch(b_row(row, k), b_row(row + 1u, k), b_row(row + 2u, k), b_row(row + 3u, k));
}

fn a_patch_any(row: u32, k: u32) -> Patch {
    return Patch(a_row_any(row, k), a_row_any(row + 1u, k), a_row_any(row + 2u, k), a_row_any(row + 3u, k));
}

fn b_patch_any(row: u32, k: u32) -> Patch {
    return Patch(b_row_any(row, k), b_row_any(row + 1u, k), b_row_any(row + 2u, k), b_row_any(row + 3u, k));
}

fn subtract(row: u32, column: u32, v: vec4<Real>) {
    if (row < p.m && column < p.n) {
        c4[(row * p.n + column) >> 2u] -= v;
    }
}

fn subtract_one(row: u32, column: u32, v: Real) {
    if (row < p.m && column < p.n) {
        c[row * p.n + column] -= v;
    }
}

fn subtract_any(row: u32, column: u32, v: vec4<Real>) {
    subtract_one(row, column, v.x);
    subtract_one(row, column + 1u, v.y);
    subtract_one(row, column + 2u, v.z);
    subtract_one(row, column + 3u, v.w);
}

@compute @workgroup_size(64)
fn small(
    @builtin(workgroup_id) id: vec3<u32>,
    @builtin(num_workgroups) count: vec3<u32>,
    @builtin(local_invocation_index) t: u32,
) {
    let tile = tile_of(id, count, 32u);
    if (tile.x >= p.m) {
        return;
    }
    let at = patch_at(t);
    var sum = Patch();
    for (var k = 0u; k < p.k; k += 16u) {
        var next: Patch;
        if (t < 32u) {
            next = a_patch(tile.x + at.x, k + at.y);
        } else {
            next = b_patch(tile.y + at.x, k + at.y);
        }
        workgroupBarrier();
        put(t, next);
        workgroupBarrier();
        multiply(&sum, t);
    }
    let row = tile.x + (t >> 3u) * 4u;
    let column = tile.y + (t & 7u) * 4u;
    subtract(row, column, sum.r0);
    subtract(row + 1u, column, sum.r1);
    subtract(row + 2u, column, sum.r2);
    subtract(row + 3u, column, sum.r3);
}

@compute @workgroup_size(64)
fn small_any(
    @builtin(workgroup_id) id: vec3<u32>,
    @builtin(num_workgroups) count: vec3<u32>,
    @builtin(local_invocation_index) t: u32,
) {
    let tile = tile_of(id, count, 32u);
    if (tile.x >= p.m) {
        return;
    }
    let at = patch_at(t);
    var sum = Patch();
    for (var k = 0u; k < p.k; k += 16u) {
        var next: Patch;
        if (t < 32u) {
            next = a_patch_any(tile.x + at.x, k + at.y);
        } else {
            next = b_patch_any(tile.y + at.x, k + at.y);
        }
        workgroupBarrier();
        put(t, next);
        workgroupBarrier();
        multiply(&sum, t);
    }
    let row = tile.x + (t >> 3u) * 4u;
    let column = tile.y + (t & 7u) * 4u;
    subtract_any(row, column, sum.r0);
    subtract_any(row + 1u, column, sum.r1);
    subtract_any(row + 2u, column, sum.r2);
    subtract_any(row + 3u, column, sum.r3);
}

// As `put` and `patch_at` of tile.wgsl: threads 0..64 fetch of A, 64..128 of B.
fn medium_patch_at(t: u32) -> vec2<u32> {
    return vec2<u32>((t & 63u) >> 2u, t & 3u) * 4u;
}

fn medium_put(t: u32, v: Patch) {
    let at = (t & 3u) * 68u + ((t & 63u) >> 2u);
    let c0 = vec4<Real>(v.r0.x, v.r1.x, v.r2.x, v.r3.x);
    let c1 = vec4<Real>(v.r0.y, v.r1.y, v.r2.y, v.r3.y);
    let c2 = vec4<Real>(v.r0.z, v.r1.z, v.r2.z, v.r3.z);
    let c3 = vec4<Real>(v.r0.w, v.r1.w, v.r2.w, v.r3.w);
    if (t < 64u) {
        tall[at] = c0;
        tall[at + 17u] = c1;
        tall[at + 34u] = c2;
        tall[at + 51u] = c3;
    } else {
        broad[at] = c0;
        broad[at + 17u] = c1;
        broad[at + 34u] = c2;
        broad[at + 51u] = c3;
    }
}

fn medium_multiply_column(sum: ptr<function, Block>, at: u32, t: u32) {
    let a0 = tall[at + (t >> 4u) * 2u];
    let a1 = tall[at + (t >> 4u) * 2u + 1u];
    let b0 = broad[at + (t & 15u)];
    (*sum).r0 = fma(vec4<Real>(a0.x), b0, (*sum).r0);
    (*sum).r1 = fma(vec4<Real>(a0.y), b0, (*sum).r1);
    (*sum).r2 = fma(vec4<Real>(a0.z), b0, (*sum).r2);
    (*sum).r3 = fma(vec4<Real>(a0.w), b0, (*sum).r3);
    (*sum).r4 = fma(vec4<Real>(a1.x), b0, (*sum).r4);
    (*sum).r5 = fma(vec4<Real>(a1.y), b0, (*sum).r5);
    (*sum).r6 = fma(vec4<Real>(a1.z), b0, (*sum).r6);
    (*sum).r7 = fma(vec4<Real>(a1.w), b0, (*sum).r7);
}

// Four columns a turn: more would not fit the instruction caches, fewer would not hide the loop.
fn medium_multiply(sum: ptr<function, Block>, t: u32) {
    for (var at = 0u; at < 272u; at += 68u) {
        medium_multiply_column(sum, at, t);
        medium_multiply_column(sum, at + 17u, t);
        medium_multiply_column(sum, at + 34u, t);
        medium_multiply_column(sum, at + 51u, t);
    }
}

@compute @workgroup_size(128)
fn medium(
    @builtin(workgroup_id) id: vec3<u32>,
    @builtin(num_workgroups) count: vec3<u32>,
    @builtin(local_invocation_index) t: u32,
) {
    let tile = tile_of(id, count, 64u);
    if (tile.x >= p.m) {
        return;
    }
    let at = medium_patch_at(t);
    var sum = Block();
    for (var k = 0u; k < p.k; k += 16u) {
        var next: Patch;
        if (t < 64u) {
            next = a_patch(tile.x + at.x, k + at.y);
        } else {
            next = b_patch(tile.y + at.x, k + at.y);
        }
        workgroupBarrier();
        medium_put(t, next);
        workgroupBarrier();
        medium_multiply(&sum, t);
    }
    let row = tile.x + (t >> 4u) * 8u;
    let column = tile.y + (t & 15u) * 4u;
    subtract(row, column, sum.r0);
    subtract(row + 1u, column, sum.r1);
    subtract(row + 2u, column, sum.r2);
    subtract(row + 3u, column, sum.r3);
    subtract(row + 4u, column, sum.r4);
    subtract(row + 5u, column, sum.r5);
    subtract(row + 6u, column, sum.r6);
    subtract(row + 7u, column, sum.r7);
}

@compute @workgroup_size(128)
fn medium_any(
    @builtin(workgroup_id) id: vec3<u32>,
    @builtin(num_workgroups) count: vec3<u32>,
    @builtin(local_invocation_index) t: u32,
) {
    let tile = tile_of(id, count, 64u);
    if (tile.x >= p.m) {
        return;
    }
    let at = medium_patch_at(t);
    var sum = Block();
    for (var k = 0u; k < p.k; k += 16u) {
        var next: Patch;
        if (t < 64u) {
            next = a_patch_any(tile.x + at.x, k + at.y);
        } else {
            next = b_patch_any(tile.y + at.x, k + at.y);
        }
        workgroupBarrier();
        medium_put(t, next);
        workgroupBarrier();
        medium_multiply(&sum, t);
    }
    let row = tile.x + (t >> 4u) * 8u;
    let column = tile.y + (t & 15u) * 4u;
    subtract_any(row, column, sum.r0);
    subtract_any(row + 1u, column, sum.r1);
    subtract_any(row + 2u, column, sum.r2);
    subtract_any(row + 3u, column, sum.r3);
    subtract_any(row + 4u, column, sum.r4);
    subtract_any(row + 5u, column, sum.r5);
    subtract_any(row + 6u, column, sum.r6);
    subtract_any(row + 7u, column, sum.r7);
}
