// A = L L^T in place. The host appends `alias Real` and triangle.wgsl and tile.wgsl.
//
// Output: A (n, n), of which the lower triangle is read. For each block of 32 columns, whose number is `begin`: `diagonal` factors the
// block on the diagonal, `solve` makes what is below it columns of L, `update` takes what they contribute from the columns to
// the right, lower triangle. At last `clear` writes zeros above the diagonal. After a bad pivot nothing more is done.
struct Params {
    first: u32,
    groups: u32,
    begin: u32,
    end: u32,
    n: u32,
    zero: u32, // 0, which a compiler does not know
}

@group(0) @binding(0) var<uniform> p: Params;
@group(0) @binding(1) var<storage, read_write> b: array<Real>;
// Row of the bad pivot + 1; the pivot, as a sum of two f32.
@group(0) @binding(2) var<storage, read_write> fault: array<atomic<u32>, 4>;

// The block on the diagonal, in rows of 32 + 1: columns then lie in different banks.
var<workgroup> square: array<Real, 1056>;

fn l_at(i: u32) -> Real {
    return b[i];
}

// Positive and finite. Drivers may take it that there are no NaNs; the bits of 0 times a number they leave alone.
fn good(pivot: Real) -> bool {
    let finite = (bitcast<u32>(f32(pivot * Real(p.zero))) & 0x7fffffffu) == 0u;
    return finite && pivot > Real(0);
}

fn report(row: u32, pivot: Real) {
    let high = f32(pivot);
    atomicStore(&fault[0], row + 1u);
    atomicStore(&fault[1], bitcast<u32>(high));
    atomicStore(&fault[2], bitcast<u32>(f32(pivot - Real(high))));
}

// One group: column after column, each less what the columns before it contribute; one row a thread.
@compute @workgroup_size(64)
fn diagonal(@builtin(local_invocation_index) t: u32) {
    let j = p.begin * 32u;
    let width = min(32u, p.n - j);
    if (atomicLoad(&fault[0]) != 0u) {
        return;
    }
    for (var i = t; i < 1024u; i += 64u) {
        let row = i >> 5u;
        let column = i & 31u;
        if (row < width && column <= row) {
            square[row * 33u + column] = b[(j + row) * p.n + j + column];
        }
    }
    for (var k = 0u; k < width; k += 1u) {
        workgroupBarrier();
        let mine = t >= k && t < width;
        var v = Real();
        if (mine) {
            v = square[t * 33u + k];
            for (var i = 0u; i < k; i += 1u) {
                v = fma(-square[t * 33u + i], square[k * 33u + i], v);
            }
            square[t * 33u + k] = v;
        }
        workgroupBarrier();
        let pivot = square[k * 33u + k];
        if (!good(pivot)) {
            if (t == 0u) {
                report(j + k, pivot);
            }
            return;
        }
        // The pivot itself stays in `square`: others are still reading it, and nobody needs its root there.
        let root = sqrt(pivot);
        if (mine) {
            v = select(v / root, root, t == k);
            b[(j + t) * p.n + j + k] = v;
            if (t > k) {
                square[t * 33u + k] = v;
            }
        }
    }
}

// One row a thread.
@compute @workgroup_size(64)
fn solve(
    @builtin(workgroup_id) id: vec3<u32>,
    @builtin(num_workgroups) count: vec3<u32>,
    @builtin(local_invocation_index) t: u32,
) {
    let folded = id.x + id.y * count.x;
    if (folded >= p.groups || atomicLoad(&fault[0]) != 0u) {
        return;
    }
    let j = p.begin * 32u;
    fetch_block(j, p.n, t);
    let row = j + 32u + (p.first + folded) * 64u + t;
    if (row < p.n) {
        solve_row(row * p.n + j, 32u);
    }
}

// One tile a group.
@compute @workgroup_size(64)
fn update(
    @builtin(workgroup_id) id: vec3<u32>,
    @builtin(num_workgroups) count: vec3<u32>,
    @builtin(local_invocation_index) t: u32,
) {
    let folded = id.x + id.y * count.x;
    if (folded >= p.groups || atomicLoad(&fault[0]) != 0u) {
        return;
    }
    let j = p.begin * 32u;
    update_tile(lower_tile(p.first + folded) * 32u + j + 32u, j, p.n, p.n, t);
}

// Up to 256 elements of a row a group.
@compute @workgroup_size(256)
fn clear(
    @builtin(workgroup_id) id: vec3<u32>,
    @builtin(num_workgroups) count: vec3<u32>,
    @builtin(local_invocation_index) t: u32,
) {
    let folded = id.x + id.y * count.x;
    if (folded >= p.groups || atomicLoad(&fault[0]) != 0u) {
        return;
    }
    let group = p.first + folded;
    let pieces = (p.n + 255u) / 256u;
    let row = group / pieces;
    let column = group % pieces * 256u + t;
    if (column > row && column < p.n) {
        b[row * p.n + column] = Real();
    }
}
