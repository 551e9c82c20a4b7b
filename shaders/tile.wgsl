// The product of a 32 x 32 tile, A B^T, by 64 threads with 4 x 4 elements each: shared by gemm, trsm and potrf.
//
// A and B pass through workgroup memory in slabs of 16 columns. A slab is stored by columns, four rows a vector; a column is one
// vector longer than it needs to be, which spreads the stores over the memory's banks. Each thread fetches a patch of 4 rows and
// 4 columns, and turns it: so it stores whole vectors, whose components are not other threads' to write.

// Four rows of four.
struct Patch {
    r0: vec4<Real>,
    r1: vec4<Real>,
    r2: vec4<Real>,
    r3: vec4<Real>,
}

// A's slab, then B's.
var<workgroup> slabs: array<vec4<Real>, 288>;

// First row (of 32) and first column (of 16) of the patch that a thread fetches: threads 0..32 of A, 32..64 of B.
fn patch_at(t: u32) -> vec2<u32> {
    return vec2<u32>((t & 31u) >> 2u, t & 3u) * 4u;
}

fn put(t: u32, v: Patch) {
    let at = (t >> 5u) * 144u + (t & 3u) * 36u + ((t & 31u) >> 2u);
    slabs[at] = vec4<Real>(v.r0.x, v.r1.x, v.r2.x, v.r3.x);
    slabs[at + 9u] = vec4<Real>(v.r0.y, v.r1.y, v.r2.y, v.r3.y);
    slabs[at + 18u] = vec4<Real>(v.r0.z, v.r1.z, v.r2.z, v.r3.z);
    slabs[at + 27u] = vec4<Real>(v.r0.w, v.r1.w, v.r2.w, v.r3.w);
}

fn multiply_column(sum: ptr<function, Patch>, at: u32, t: u32) {
    let a = slabs[at + (t >> 3u)];
    let b = slabs[at + 144u + (t & 7u)];
    (*sum).r0 = fma(vec4<Real>(a.x), b, (*sum).r0);
    (*sum).r1 = fma(vec4<Real>(a.y), b, (*sum).r1);
    (*sum).r2 = fma(vec4<Real>(a.z), b, (*sum).r2);
    (*sum).r3 = fma(vec4<Real>(a.w), b, (*sum).r3);
}

// Adds a slab's 16 products, in ascending order, to a thread's elements: rows 4 (t / 8).., columns 4 (t % 8)..
fn multiply(sum: ptr<function, Patch>, t: u32) {
    for (var at = 0u; at < 144u; at += 36u) {
        multiply_column(sum, at, t);
        multiply_column(sum, at + 9u, t);
        multiply_column(sum, at + 18u, t);
        multiply_column(sum, at + 27u, t);
    }
}

// Row and column of tile `index` of a lower triangle of tiles, which are numbered row by row: 0; 1, 2; 3, 4, 5.
fn lower_tile(index: u32) -> vec2<u32> {
    var row = u32((sqrt(8.0 * f32(index) + 1.0) - 1.0) * 0.5);
    while (row * (row + 1u) / 2u > index) {
        row -= 1u;
    }
    while ((row + 1u) * (row + 2u) / 2u <= index) {
        row += 1u;
    }
    return vec2<u32>(row, index - row * (row + 1u) / 2u);
}
