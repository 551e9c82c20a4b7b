// A = L L^T in place. The host appends `alias Real` and substitution.wgsl and tile.wgsl.
//
// Output: A (n, n), of which the lower triangle is read. For each block of 32 columns, whose number is `begin`, `columns` makes what is below
// the block on the diagonal columns of L: a workgroup takes 32 rows there. Each factors the block on the diagonal for itself, with what the
// columns before it contribute, and solves for its rows on the way. All read that block, so none may overwrite it: the first puts its
// factor into scratch. At last `finish` puts these in place, and zeros above the diagonal. After a bad pivot nothing more is done.
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
// Factors of the blocks on the diagonal, 32 elements a row; above their diagonals, anything.
@group(0) @binding(2) var<storage, read_write> diagonal: array<Real>;
@group(0) @binding(2) var<storage, read_write> diagonal4: array<vec4<Real>>;
// Row of the bad pivot + 1; the pivot, as a sum of two f32.
@group(0) @binding(3) var<storage, read_write> fault: array<atomic<u32>, 4>;

// Four columns of the block on the diagonal, as they are before they are divided by the roots of their pivots.
var<workgroup> lines: array<Real, 128>;
var<workgroup> stopped: u32;

// The first bad pivot, its column in the block + 1: the same for all threads.
var<private> bad: u32;
var<private> bad_pivot: Real;

// Whether there was a bad pivot in an earlier pass, and so whether the whole group has nothing to do. Another group of this pass may just be
// reporting one: so one thread looks, for all.
fn is_stopped(t: u32) -> bool {
    if (t == 0u) {
        stopped = atomicLoad(&fault[0]);
    }
    return workgroupUniformLoad(&stopped) != 0u;
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

// A step of Newton's towards the root of x, as `reciprocal_of` takes two.
fn better_root(r: Real, x: Real) -> Real {
    return fma(fma(-r, r, x), Real(0.5) / r, r);
}

// The root of pivot k, and its reciprocal; v is the thread's element of its column.
fn root(v: Real, k: u32, t: u32) -> vec2<Real> {
    let line = (k & 3u) * 32u;
    if (t < 32u) {
        lines[line + t] = v;
    }
    workgroupBarrier();
    let pivot = lines[line + k];
    if (bad == 0u && !good(pivot)) {
        bad = k + 1u;
        bad_pivot = pivot;
    }
    let r = better_root(better_root(sqrt(pivot), pivot), pivot);
    return vec2<Real>(r, reciprocal_of(r));
}

// Columns 4q..4q + 4 of a thread's row: of the block on the diagonal (threads 0..32), or below it.
fn four(v: vec4<Real>, q: u32, t: u32) -> vec4<Real> {
    let k = 4u * q;
    var x = v;
    let r0 = root(x.x, k, t);
    x.x = select(x.x * r0.y, r0.x, t == k);
    x.y = fma(-x.x, lines[k + 1u] * r0.y, x.y);
    x.z = fma(-x.x, lines[k + 2u] * r0.y, x.z);
    x.w = fma(-x.x, lines[k + 3u] * r0.y, x.w);
    let r1 = root(x.y, k + 1u, t);
    x.y = select(x.y * r1.y, r1.x, t == k + 1u);
    x.z = fma(-x.y, lines[k + 34u] * r1.y, x.z);
    x.w = fma(-x.y, lines[k + 35u] * r1.y, x.w);
    let r2 = root(x.z, k + 2u, t);
    x.z = select(x.z * r2.y, r2.x, t == k + 2u);
    x.w = fma(-x.z, lines[k + 67u] * r2.y, x.w);
    let r3 = root(x.w, k + 3u, t);
    x.w = select(x.w * r3.y, r3.x, t == k + 3u);
    if (t < 32u) {
        slabs[9u * t + q] = x;
    }
    workgroupBarrier();
    return x;
}

// Patches of what columns k.. of the rows from `row` and those of the block on the diagonal, from j, hold: one of each.
fn fetch(row: u32, j: u32, k: u32, t: u32) -> Patch {
    let at = patch_at(t);
    return b_inner_patch(select(j, row, t < 32u) + at.x, k + at.y, p.n);
}

// As `multiply_column`, for the group's rows and for the block on the diagonal at once.
fn multiply_both(rows: ptr<function, Patch>, square: ptr<function, Patch>, at: u32, t: u32) {
    let c = slabs[at + 144u + (t >> 3u)];
    let b = slabs[at + 144u + (t & 7u)];
    multiply_column(rows, at, t);
    (*square).r0 = fma(vec4<Real>(c.x), b, (*square).r0);
    (*square).r1 = fma(vec4<Real>(c.y), b, (*square).r1);
    (*square).r2 = fma(vec4<Real>(c.z), b, (*square).r2);
    (*square).r3 = fma(vec4<Real>(c.w), b, (*square).r3);
}

// What the columns before j contribute to the block at j of the rows from `row`, and to the block on the diagonal. A slab is fetched while
// the one before it is multiplied.
fn products(rows: ptr<function, Patch>, square: ptr<function, Patch>, row: u32, j: u32, t: u32) {
    var next = Patch();
    if (j > 0u) {
        next = fetch(row, j, 0u, t);
    }
    for (var k = 0u; k < j; k += 16u) {
        workgroupBarrier();
        put(t, next);
        workgroupBarrier();
        next = fetch(row, j, min(k, j - 32u) + 16u, t);
        for (var at = 0u; at < 144u; at += 36u) {
            multiply_both(rows, square, at, t);
            multiply_both(rows, square, at + 9u, t);
            multiply_both(rows, square, at + 18u, t);
            multiply_both(rows, square, at + 27u, t);
        }
    }
}

// Beyond the last row the block on the diagonal goes on as the identity.
fn padded_four(j: u32, row: u32, column: u32, v: vec4<Real>) -> vec4<Real> {
    let columns = vec4<u32>(column, column + 1u, column + 2u, column + 3u);
    let unit = select(vec4<Real>(), vec4<Real>(Real(1)), vec4<u32>(row) == columns);
    return select(v, unit, vec4<u32>(j) + max(vec4<u32>(row), columns) >= vec4<u32>(p.n));
}

fn padded(j: u32, at: vec2<u32>, v: Patch) -> Patch {
    return Patch(padded_four(j, at.x, at.y, v.r0), padded_four(j, at.x + 1u, at.y, v.r1),
                 padded_four(j, at.x + 2u, at.y, v.r2), padded_four(j, at.x + 3u, at.y, v.r3));
}

fn keep(row: u32, v: Row) {
    let at = row * 8u;
    diagonal4[at] = v.q0;
    diagonal4[at + 1u] = v.q1;
    diagonal4[at + 2u] = v.q2;
    diagonal4[at + 3u] = v.q3;
    diagonal4[at + 4u] = v.q4;
    diagonal4[at + 5u] = v.q5;
    diagonal4[at + 6u] = v.q6;
    diagonal4[at + 7u] = v.q7;
}

@compute @workgroup_size(64)
fn columns(
    @builtin(workgroup_id) id: vec3<u32>,
    @builtin(num_workgroups) count: vec3<u32>,
    @builtin(local_invocation_index) t: u32,
) {
    let folded = id.x + id.y * count.x;
    let stop = is_stopped(t);
    if (folded < p.groups && !stop) {
        let group = p.first + folded;
        let j = p.begin * 32u;
        let first = j + 32u + group * 32u;
        let at = corner(t);
        var rows = Patch();
        var square = Patch();
        products(&rows, &square, first, j, t);
        rows = less(b_patch(first + at.x, j + at.y, p.n), rows);
        square = padded(j, at, less(b_patch(j + at.x, j + at.y, p.n), square));
        workgroupBarrier();
        put_patch(t, square);
        workgroupBarrier();
        let upper = take_row(t & 31u);
        workgroupBarrier();
        put_patch(t, rows);
        workgroupBarrier();
        var x = take_row(t & 31u);
        if (t < 32u) {
            x = upper;
        }
        workgroupBarrier();
        x = solve_row(x, t);
        if (t >= 32u) {
            put_row(t - 32u, x);
        }
        workgroupBarrier();
        if (bad == 0u) {
            set_patch(first + at.x, j + at.y, p.n, take_patch(t));
        }
        if (group == 0u && t < 32u) {
            if (bad == 0u) {
                keep(j + t, x);
            } else if (t == 0u) {
                report(j + bad - 1u, bad_pivot);
            }
        }
    }
}

// 32 rows, and 256 columns, a group.
@compute @workgroup_size(256)
fn finish(
    @builtin(workgroup_id) id: vec3<u32>,
    @builtin(num_workgroups) count: vec3<u32>,
    @builtin(local_invocation_index) t: u32,
) {
    let folded = id.x + id.y * count.x;
    let group = p.first + folded;
    let across = (p.n + 255u) / 256u;
    let start = group / across * 32u;
    let column = group % across * 256u + t;
    if (folded < p.groups && column < p.n && column >= start && atomicLoad(&fault[0]) == 0u) {
        for (var row = start; row < min(start + 32u, p.n); row += 1u) {
            b[row * p.n + column] = select(diagonal[row * 32u + min(column - start, 31u)], Real(), column > row);
        }
    }
}
