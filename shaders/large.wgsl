// Tiles of 128 x 128 for gemm, by 256 threads with 8 x 8 elements each.
//
// A slab has 8 columns. There are two of each matrix: while one is multiplied, the next is fetched and stored, so there is one barrier a
// slab. They fill the 16 KiB that every GPU has (in f32), which leaves nothing to make columns longer, as in tile.wgsl: instead, vector i
// of column c stands at i xor (c & 6), which spreads the stores over the banks, and leaves neighbours with even numbers together.

var<workgroup> twins: array<vec4<Real>, 1024>;

// Two columns of four rows.
struct Pair {
    c0: vec4<Real>,
    c1: vec4<Real>,
}

fn pair(r0: vec2<Real>, r1: vec2<Real>, r2: vec2<Real>, r3: vec2<Real>) -> Pair {
    return Pair(vec4<Real>(r0.x, r1.x, r2.x, r3.x), vec4<Real>(r0.y, r1.y, r2.y, r3.y));
}

// As `a_row` and `a_row_any`, two elements.
fn a_two(row: u32, k: u32) -> vec2<Real> {
    return select(vec2<Real>(), a2[(min(row, p.m - 1u) * p.k + min(k, p.k - 2u)) >> 1u], k < p.k);
}

fn b_two(row: u32, k: u32) -> vec2<Real> {
    return select(vec2<Real>(), b2[(min(row, p.n - 1u) * p.k + min(k, p.k - 2u)) >> 1u], k < p.k);
}

fn a_two_any(row: u32, k: u32) -> vec2<Real> {
    return vec2<Real>(a_one(row, k), a_one(row, k + 1u));
}

fn b_two_any(row: u32, k: u32) -> vec2<Real> {
    return vec2<Real>(b_one(row, k), b_one(row, k + 1u));
}

// What a thread fetches of the slab at column k: threads 0..128 of A, 128..256 of B.
fn large_fetch(tile: vec2<u32>, k: u32, t: u32) -> Pair {
    let row = (t & 124u) + select(tile.y, tile.x, t < 128u);
    let column = k + (t & 3u) * 2u;
    if (t < 128u) {
        return pair(a_two(row, column), a_two(row + 1u, column), a_two(row + 2u, column), a_two(row + 3u, column));
    }
    return pair(b_two(row, column), b_two(row + 1u, column), b_two(row + 2u, column), b_two(row + 3u, column));
}

fn large_fetch_any(tile: vec2<u32>, k: u32, t: u32) -> Pair {
    let row = (t & 124u) + select(tile.y, tile.x, t < 128u);
    let column = k + (t & 3u) * 2u;
    if (t < 128u) {
        return pair(a_two_any(row, column), a_two_any(row + 1u, column),
                    a_two_any(row + 2u, column), a_two_any(row + 3u, column));
    }
    return pair(b_two_any(row, column), b_two_any(row + 1u, column), b_two_any(row + 2u, column), b_two_any(row + 3u, column));
}

// Stores it in the slabs at `slab`: A's, then B's, 256 vectors each.
fn large_put(slab: u32, t: u32, v: Pair) {
    let at = slab + (t >> 7u) * 256u + (t & 3u) * 64u + (((t & 127u) >> 2u) ^ ((t & 3u) * 2u));
    twins[at] = v.c0;
    twins[at + 32u] = v.c1;
}

// `swap` is c & 6 for the column c, which begins at `at`. A thread has rows 8 (t / 16).., columns 4 (t % 16).. (`left`) and 64 further on.
fn large_multiply_column(left: ptr<function, Block>, right: ptr<function, Block>, at: u32, swap: u32, t: u32) {
    let row = at + (((t >> 4u) * 2u) ^ swap);
    let column = at + 256u + ((t & 15u) ^ swap);
    let a0 = twins[row];
    let a1 = twins[row + 1u];
    let b0 = twins[column];
    let b1 = twins[column + 16u];
    (*left).r0 = fma(vec4<Real>(a0.x), b0, (*left).r0);
    (*left).r1 = fma(vec4<Real>(a0.y), b0, (*left).r1);
    (*left).r2 = fma(vec4<Real>(a0.z), b0, (*left).r2);
    (*left).r3 = fma(vec4<Real>(a0.w), b0, (*left).r3);
    (*left).r4 = fma(vec4<Real>(a1.x), b0, (*left).r4);
    (*left).r5 = fma(vec4<Real>(a1.y), b0, (*left).r5);
    (*left).r6 = fma(vec4<Real>(a1.z), b0, (*left).r6);
    (*left).r7 = fma(vec4<Real>(a1.w), b0, (*left).r7);
    (*right).r0 = fma(vec4<Real>(a0.x), b1, (*right).r0);
    (*right).r1 = fma(vec4<Real>(a0.y), b1, (*right).r1);
    (*right).r2 = fma(vec4<Real>(a0.z), b1, (*right).r2);
    (*right).r3 = fma(vec4<Real>(a0.w), b1, (*right).r3);
    (*right).r4 = fma(vec4<Real>(a1.x), b1, (*right).r4);
    (*right).r5 = fma(vec4<Real>(a1.y), b1, (*right).r5);
    (*right).r6 = fma(vec4<Real>(a1.z), b1, (*right).r6);
    (*right).r7 = fma(vec4<Real>(a1.w), b1, (*right).r7);
}

fn large_multiply(left: ptr<function, Block>, right: ptr<function, Block>, slab: u32, t: u32) {
    for (var c = 0u; c < 8u; c += 4u) {
        let at = slab + c * 32u;
        large_multiply_column(left, right, at, c, t);
        large_multiply_column(left, right, at + 32u, c, t);
        large_multiply_column(left, right, at + 64u, c + 2u, t);
        large_multiply_column(left, right, at + 96u, c + 2u, t);
    }
}

@compute @workgroup_size(256)
fn large(
    @builtin(workgroup_id) id: vec3<u32>,
    @builtin(num_workgroups) count: vec3<u32>,
    @builtin(local_invocation_index) t: u32,
) {
    let tile = tile_of(id, count, 128u);
    if (tile.x < p.m) {
        var left = Block();
        var right = Block();
        var slab = 0u;
        large_put(slab, t, large_fetch(tile, 0u, t));
        workgroupBarrier();
        for (var k = 8u; k < p.k; k += 8u) {
            let next = large_fetch(tile, k, t);
            large_multiply(&left, &right, slab, t);
            slab = 512u - slab;
            large_put(slab, t, next);
            workgroupBarrier();
        }
        large_multiply(&left, &right, slab, t);
        let row = tile.x + (t >> 4u) * 8u;
        let column = tile.y + (t & 15u) * 4u;
        subtract(row, column, left.r0);
        subtract(row, column + 64u, right.r0);
        subtract(row + 1u, column, left.r1);
        subtract(row + 1u, column + 64u, right.r1);
        subtract(row + 2u, column, left.r2);
        subtract(row + 2u, column + 64u, right.r2);
        subtract(row + 3u, column, left.r3);
        subtract(row + 3u, column + 64u, right.r3);
        subtract(row + 4u, column, left.r4);
        subtract(row + 4u, column + 64u, right.r4);
        subtract(row + 5u, column, left.r5);
        subtract(row + 5u, column + 64u, right.r5);
        subtract(row + 6u, column, left.r6);
        subtract(row + 6u, column + 64u, right.r6);
        subtract(row + 7u, column, left.r7);
        subtract(row + 7u, column + 64u, right.r7);
    }
}

@compute @workgroup_size(256)
fn large_any(
    @builtin(workgroup_id) id: vec3<u32>,
    @builtin(num_workgroups) count: vec3<u32>,
    @builtin(local_invocation_index) t: u32,
) {
    let tile = tile_of(id, count, 128u);
    if (tile.x < p.m) {
        var left = Block();
        var right = Block();
        var slab = 0u;
        large_put(slab, t, large_fetch_any(tile, 0u, t));
        workgroupBarrier();
        for (var k = 8u; k < p.k; k += 8u) {
            let next = large_fetch_any(tile, k, t);
            large_multiply(&left, &right, slab, t);
            slab = 512u - slab;
            large_put(slab, t, next);
            workgroupBarrier();
        }
        large_multiply(&left, &right, slab, t);
        let row = tile.x + (t >> 4u) * 8u;
        let column = tile.y + (t & 15u) * 4u;
        subtract_any(row, column, left.r0);
        subtract_any(row, column + 64u, right.r0);
        subtract_any(row + 1u, column, left.r1);
        subtract_any(row + 1u, column + 64u, right.r1);
        subtract_any(row + 2u, column, left.r2);
        subtract_any(row + 2u, column + 64u, right.r2);
        subtract_any(row + 3u, column, left.r3);
        subtract_any(row + 3u, column + 64u, right.r3);
        subtract_any(row + 4u, column, left.r4);
        subtract_any(row + 4u, column + 64u, right.r4);
        subtract_any(row + 5u, column, left.r5);
        subtract_any(row + 5u, column + 64u, right.r5);
        subtract_any(row + 6u, column, left.r6);
        subtract_any(row + 6u, column + 64u, right.r6);
        subtract_any(row + 7u, column, left.r7);
        subtract_any(row + 7u, column + 64u, right.r7);
    }
}
