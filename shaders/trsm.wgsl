// B <- B L^-T. The host appends `alias Real` and substitution.wgsl and tile.wgsl.
//
// Input: L (n, n), of which the lower triangle is read. Output: B (m, n). A workgroup takes 32 rows, on which no other depends, and goes
// through their blocks of 32 columns, `begin..end` of them: it takes from a block what the columns before it contribute, then makes it X.
struct Params {
    first: u32,
    groups: u32,
    begin: u32,
    end: u32,
    m: u32,
    n: u32,
}

@group(0) @binding(0) var<uniform> p: Params;
@group(0) @binding(1) var<storage, read> l: array<Real>;
@group(0) @binding(2) var<storage, read_write> b: array<Real>;

// 1 / diagonal of a block of L.
var<workgroup> reciprocals: array<vec4<Real>, 8>;

// As those of `b`.
fn l_inner(row: u32, column: u32) -> vec4<Real> {
    let at = min(row, p.n - 1u) * p.n + column;
    return vec4<Real>(l[at], l[at + 1u], l[at + 2u], l[at + 3u]);
}

fn l_inner_patch(row: u32, column: u32) -> Patch {
    return Patch(l_inner(row, column), l_inner(row + 1u, column), l_inner(row + 2u, column), l_inner(row + 3u, column));
}

fn l_four(row: u32, column: u32) -> vec4<Real> {
    let last = p.n - 1u;
    let at = min(row, last) * p.n;
    return vec4<Real>(l[at + min(column, last)], l[at + min(column + 1u, last)],
                      l[at + min(column + 2u, last)], l[at + min(column + 3u, last)]);
}

fn l_patch(row: u32, column: u32) -> Patch {
    return Patch(l_four(row, column), l_four(row + 1u, column), l_four(row + 2u, column), l_four(row + 3u, column));
}

fn reciprocal(row: u32) -> Real {
    return reciprocal_of(l[min(row, p.n - 1u) * (p.n + 1u)]);
}

// Four unknowns of a row: columns 4q..4q + 4 of the block.
fn four(b: vec4<Real>, q: u32, t: u32) -> vec4<Real> {
    let r = reciprocals[q];
    let l1 = slabs[37u * q + 9u];
    let l2 = slabs[37u * q + 18u];
    let l3 = slabs[37u * q + 27u];
    var x = b;
    x.x *= r.x;
    x.y = fma(l1.x, -x.x, x.y) * r.y;
    x.z = fma(l2.y, -x.y, fma(l2.x, -x.x, x.z)) * r.z;
    x.w = fma(l3.z, -x.z, fma(l3.y, -x.y, fma(l3.x, -x.x, x.w))) * r.w;
    return x;
}

// A thread's patch of the slabs at column k: of X, rows from `row`, or of L, rows from j.
fn fetch(row: u32, j: u32, k: u32, t: u32) -> Patch {
    let at = patch_at(t);
    if (t < 32u) {
        return b_inner_patch(row + at.x, k + at.y, p.m);
    }
    return l_inner_patch(j + at.x, k + at.y);
}

// X L^T for 32 rows of X from `row` and 32 of L from j, over the columns before j. A slab is fetched while the one before it is multiplied.
fn product(row: u32, j: u32, t: u32) -> Patch {
    var sum = Patch();
    var next = Patch();
    if (j > 0u) {
        next = fetch(row, j, 0u, t);
    }
    for (var k = 0u; k < j; k += 16u) {
        workgroupBarrier();
        put(t, next);
        workgroupBarrier();
        next = fetch(row, j, min(k, j - 32u) + 16u, t);
        multiply(&sum, t);
    }
    return sum;
}

@compute @workgroup_size(64)
fn solve(
    @builtin(workgroup_id) id: vec3<u32>,
    @builtin(num_workgroups) count: vec3<u32>,
    @builtin(local_invocation_index) t: u32,
) {
    let folded = id.x + id.y * count.x;
    if (folded < p.groups) {
        let first = (p.first + folded) * 32u;
        let at = corner(t);
        for (var block = p.begin; block < p.end; block += 1u) {
            let j = block * 32u;
            let sum = product(first, j, t);
            let rest = less(b_patch(first + at.x, j + at.y, p.m), sum);
            let diagonal = l_patch(j + at.x, j + at.y);
            if (t < 8u) {
                let row = j + 4u * t;
                reciprocals[t] = vec4<Real>(reciprocal(row), reciprocal(row + 1u), reciprocal(row + 2u), reciprocal(row + 3u));
            }
            workgroupBarrier();
            put_patch(t, rest);
            workgroupBarrier();
            let row = take_row(t & 31u);
            workgroupBarrier();
            put_patch(t, diagonal);
            workgroupBarrier();
            let x = solve_row(row, t);
            workgroupBarrier();
            if (t < 32u) {
                put_row(t, x);
            }
            workgroupBarrier();
            set_patch(first + at.x, j + at.y, p.m, take_patch(t));
            // The next blocks read as X what other threads store here.
            storageBarrier();
        }
    }
}
