// Substitution in a block of 32 columns, X L^T = B for the L on the diagonal, one row a thread: shared by trsm, where L is known, and
// potrf, where it comes to be. They define `b`, an array of Real, matrices with `p.n` columns, and `four`, which solves for four unknowns.
//
// Where the slabs of tile.wgsl were, rows of the block lie: 8 vectors each, and one that spreads them over the memory's banks. Patches
// (rows 4 (t / 8).., columns 4 (t % 8)..) are turned into rows there, and back.

// 32 elements.
struct Row {
    q0: vec4<Real>,
    q1: vec4<Real>,
    q2: vec4<Real>,
    q3: vec4<Real>,
    q4: vec4<Real>,
    q5: vec4<Real>,
    q6: vec4<Real>,
    q7: vec4<Real>,
}

// First row and column (of 32) of a thread's elements in a product.
fn corner(t: u32) -> vec2<u32> {
    return vec2<u32>(t >> 3u, t & 7u) * 4u;
}

fn put_patch(t: u32, v: Patch) {
    let at = (t >> 3u) * 36u + (t & 7u);
    slabs[at] = v.r0;
    slabs[at + 9u] = v.r1;
    slabs[at + 18u] = v.r2;
    slabs[at + 27u] = v.r3;
}

fn take_patch(t: u32) -> Patch {
    let at = (t >> 3u) * 36u + (t & 7u);
    return Patch(slabs[at], slabs[at + 9u], slabs[at + 18u], slabs[at + 27u]);
}

fn put_row(row: u32, v: Row) {
    let at = row * 9u;
    slabs[at] = v.q0;
    slabs[at + 1u] = v.q1;
    slabs[at + 2u] = v.q2;
    slabs[at + 3u] = v.q3;
    slabs[at + 4u] = v.q4;
    slabs[at + 5u] = v.q5;
    slabs[at + 6u] = v.q6;
    slabs[at + 7u] = v.q7;
}

fn take_row(row: u32) -> Row {
    let at = row * 9u;
    return Row(slabs[at], slabs[at + 1u], slabs[at + 2u], slabs[at + 3u],
               slabs[at + 4u], slabs[at + 5u], slabs[at + 6u], slabs[at + 7u]);
}

// What is left of b, four later columns, once the unknowns x, columns 4q..4q + 4, are known; `later` is their place as q is x's.
fn eliminate(b: vec4<Real>, x: vec4<Real>, q: u32, later: u32) -> vec4<Real> {
    let at = 36u * later + q;
    let l0 = slabs[at];
    let l1 = slabs[at + 9u];
    let l2 = slabs[at + 18u];
    let l3 = slabs[at + 27u];
    var v = fma(vec4<Real>(l0.x, l1.x, l2.x, l3.x), vec4<Real>(-x.x), b);
    v = fma(vec4<Real>(l0.y, l1.y, l2.y, l3.y), vec4<Real>(-x.y), v);
    v = fma(vec4<Real>(l0.z, l1.z, l2.z, l3.z), vec4<Real>(-x.z), v);
    return fma(vec4<Real>(l0.w, l1.w, l2.w, l3.w), vec4<Real>(-x.w), v);
}

// The unknowns of the row b. No element depends on those after it.
fn solve_row(b: Row, t: u32) -> Row {
    let x0 = four(b.q0, 0u, t);
    var x1 = eliminate(b.q1, x0, 0u, 1u);
    var x2 = eliminate(b.q2, x0, 0u, 2u);
    var x3 = eliminate(b.q3, x0, 0u, 3u);
    var x4 = eliminate(b.q4, x0, 0u, 4u);
    var x5 = eliminate(b.q5, x0, 0u, 5u);
    var x6 = eliminate(b.q6, x0, 0u, 6u);
    var x7 = eliminate(b.q7, x0, 0u, 7u);
    x1 = four(x1, 1u, t);
    x2 = eliminate(x2, x1, 1u, 2u);
    x3 = eliminate(x3, x1, 1u, 3u);
    x4 = eliminate(x4, x1, 1u, 4u);
    x5 = eliminate(x5, x1, 1u, 5u);
    x6 = eliminate(x6, x1, 1u, 6u);
    x7 = eliminate(x7, x1, 1u, 7u);
    x2 = four(x2, 2u, t);
    x3 = eliminate(x3, x2, 2u, 3u);
    x4 = eliminate(x4, x2, 2u, 4u);
    x5 = eliminate(x5, x2, 2u, 5u);
    x6 = eliminate(x6, x2, 2u, 6u);
    x7 = eliminate(x7, x2, 2u, 7u);
    x3 = four(x3, 3u, t);
    x4 = eliminate(x4, x3, 3u, 4u);
    x5 = eliminate(x5, x3, 3u, 5u);
    x6 = eliminate(x6, x3, 3u, 6u);
    x7 = eliminate(x7, x3, 3u, 7u);
    x4 = four(x4, 4u, t);
    x5 = eliminate(x5, x4, 4u, 5u);
    x6 = eliminate(x6, x4, 4u, 6u);
    x7 = eliminate(x7, x4, 4u, 7u);
    x5 = four(x5, 5u, t);
    x6 = eliminate(x6, x5, 5u, 6u);
    x7 = eliminate(x7, x5, 5u, 7u);
    x6 = four(x6, 6u, t);
    x7 = eliminate(x7, x6, 6u, 7u);
    x7 = four(x7, 7u, t);
    return Row(x0, x1, x2, x3, x4, x5, x6, x7);
}

// Four elements of a row of `b`, all of which there are. A row beyond the last is the last again: what it gives is not stored.
fn b_inner(row: u32, column: u32, rows: u32) -> vec4<Real> {
    let at = min(row, rows - 1u) * p.n + column;
    return vec4<Real>(b[at], b[at + 1u], b[at + 2u], b[at + 3u]);
}

fn b_inner_patch(row: u32, column: u32, rows: u32) -> Patch {
    return Patch(b_inner(row, column, rows), b_inner(row + 1u, column, rows),
                 b_inner(row + 2u, column, rows), b_inner(row + 3u, column, rows));
}

// Four elements of a row of `b`. A row or column beyond the last is the last again: what it gives is not stored, and reaches
// nothing that is.
fn b_four(row: u32, column: u32, rows: u32) -> vec4<Real> {
    let at = min(row, rows - 1u) * p.n;
    let last = p.n - 1u;
    return vec4<Real>(b[at + min(column, last)], b[at + min(column + 1u, last)],
                      b[at + min(column + 2u, last)], b[at + min(column + 3u, last)]);
}

fn b_patch(row: u32, column: u32, rows: u32) -> Patch {
    return Patch(b_four(row, column, rows), b_four(row + 1u, column, rows),
                 b_four(row + 2u, column, rows), b_four(row + 3u, column, rows));
}

fn set_one(row: u32, column: u32, rows: u32, v: Real) {
    if (row < rows && column < p.n) {
        b[row * p.n + column] = v;
    }
}

fn set_four(row: u32, column: u32, rows: u32, v: vec4<Real>) {
    set_one(row, column, rows, v.x);
    set_one(row, column + 1u, rows, v.y);
    set_one(row, column + 2u, rows, v.z);
    set_one(row, column + 3u, rows, v.w);
}

fn set_patch(row: u32, column: u32, rows: u32, v: Patch) {
    set_four(row, column, rows, v.r0);
    set_four(row + 1u, column, rows, v.r1);
    set_four(row + 2u, column, rows, v.r2);
    set_four(row + 3u, column, rows, v.r3);
}

fn less(a: Patch, b: Patch) -> Patch {
    return Patch(a.r0 - b.r0, a.r1 - b.r1, a.r2 - b.r2, a.r3 - b.r3);
}

// 1 / x: a driver's own may have errors of 2^-20, in f64 too, of which two steps of Newton's leave about one unit in the last place.
fn reciprocal_of(x: Real) -> Real {
    let rough = Real(1) / x;
    let close = fma(fma(-x, rough, Real(1)), rough, rough);
    return fma(fma(-x, close, Real(1)), close, close);
}
