// Blocks of 32 columns of B <- B L^-T: shared by trsm, and by potrf, where L is finished columns of B itself. They define `b`, an
// array of Real, and `l_at`, which reads an element of L. Both matrices have `columns` columns.

// A diagonal block of L without its diagonal, by columns, eight vectors each: zeros on and above the diagonal.
var<workgroup> block: array<vec4<Real>, 256>;
var<workgroup> reciprocals: array<vec4<Real>, 8>;

// Element (row, column) of the diagonal block at (j, j) if it lies below the diagonal, else 0.
fn below(j: u32, row: u32, column: u32, columns: u32) -> Real {
    let inside = row > column && j + row < columns;
    return select(Real(), l_at(min(j + row, columns - 1u) * columns + min(j + column, columns - 1u)), inside);
}

// 1 / diagonal; 1 beyond the matrix.
fn reciprocal(row: u32, columns: u32) -> Real {
    return select(Real(1), Real(1) / l_at(min(row, columns - 1u) * (columns + 1u)), row < columns);
}

// Fetches the diagonal block at (j, j), by 64 threads.
fn fetch_block(j: u32, columns: u32, t: u32) {
    for (var i = t; i < 256u; i += 64u) {
        let row = (i & 7u) * 4u;
        let column = i >> 3u;
        block[i] = vec4<Real>(below(j, row, column, columns), below(j, row + 1u, column, columns),
                              below(j, row + 2u, column, columns), below(j, row + 3u, column, columns));
    }
    if (t < 8u) {
        let row = j + 4u * t;
        reciprocals[t] = vec4<Real>(reciprocal(row, columns), reciprocal(row + 1u, columns),
                                    reciprocal(row + 2u, columns), reciprocal(row + 3u, columns));
    }
    workgroupBarrier();
}

// Four unknowns of a row: columns 4q..4q + 4 of the block.
fn solve_four(b: vec4<Real>, q: u32) -> vec4<Real> {
    let r = reciprocals[q];
    var x = b;
    x.x *= r.x;
    x = fma(block[33u * q], vec4<Real>(-x.x), x);
    x.y *= r.y;
    x = fma(block[33u * q + 8u], vec4<Real>(-x.y), x);
    x.z *= r.z;
    x = fma(block[33u * q + 16u], vec4<Real>(-x.z), x);
    x.w *= r.w;
    return x;
}

// What is left of b, four later columns, once the unknowns x, columns 4q..4q + 4, are known; `later` is their place as q is x's.
fn eliminate(b: vec4<Real>, x: vec4<Real>, q: u32, later: u32) -> vec4<Real> {
    let at = 32u * q + later;
    var v = fma(block[at], vec4<Real>(-x.x), b);
    v = fma(block[at + 8u], vec4<Real>(-x.y), v);
    v = fma(block[at + 16u], vec4<Real>(-x.z), v);
    return fma(block[at + 24u], vec4<Real>(-x.w), v);
}

// Element `column` of a row's `width` in the block, 0 beyond them.
fn b_one(start: u32, column: u32, width: u32) -> Real {
    return select(Real(), b[start + min(column, width - 1u)], column < width);
}

fn b_four(start: u32, column: u32, width: u32) -> vec4<Real> {
    return vec4<Real>(b_one(start, column, width), b_one(start, column + 1u, width),
                      b_one(start, column + 2u, width), b_one(start, column + 3u, width));
}

fn set_one(start: u32, column: u32, width: u32, x: Real) {
    if (column < width) {
        b[start + column] = x;
    }
}

fn set_four(start: u32, column: u32, width: u32, x: vec4<Real>) {
    set_one(start, column, width, x.x);
    set_one(start, column + 1u, width, x.y);
    set_one(start, column + 2u, width, x.z);
    set_one(start, column + 3u, width, x.w);
}

// Solves for the row whose part in the block, `width` elements, starts at `start`; `fetch_block` has been called.
fn solve_row(start: u32, width: u32) {
    let x0 = solve_four(b_four(start, 0u, width), 0u);
    var x1 = eliminate(b_four(start, 4u, width), x0, 0u, 1u);
    var x2 = eliminate(b_four(start, 8u, width), x0, 0u, 2u);
    var x3 = eliminate(b_four(start, 12u, width), x0, 0u, 3u);
    var x4 = eliminate(b_four(start, 16u, width), x0, 0u, 4u);
    var x5 = eliminate(b_four(start, 20u, width), x0, 0u, 5u);
    var x6 = eliminate(b_four(start, 24u, width), x0, 0u, 6u);
    var x7 = eliminate(b_four(start, 28u, width), x0, 0u, 7u);
    x1 = solve_four(x1, 1u);
    x2 = eliminate(x2, x1, 1u, 2u);
    x3 = eliminate(x3, x1, 1u, 3u);
    x4 = eliminate(x4, x1, 1u, 4u);
    x5 = eliminate(x5, x1, 1u, 5u);
    x6 = eliminate(x6, x1, 1u, 6u);
    x7 = eliminate(x7, x1, 1u, 7u);
    x2 = solve_four(x2, 2u);
    x3 = eliminate(x3, x2, 2u, 3u);
    x4 = eliminate(x4, x2, 2u, 4u);
    x5 = eliminate(x5, x2, 2u, 5u);
    x6 = eliminate(x6, x2, 2u, 6u);
    x7 = eliminate(x7, x2, 2u, 7u);
    x3 = solve_four(x3, 3u);
    x4 = eliminate(x4, x3, 3u, 4u);
    x5 = eliminate(x5, x3, 3u, 5u);
    x6 = eliminate(x6, x3, 3u, 6u);
    x7 = eliminate(x7, x3, 3u, 7u);
    x4 = solve_four(x4, 4u);
    x5 = eliminate(x5, x4, 4u, 5u);
    x6 = eliminate(x6, x4, 4u, 6u);
    x7 = eliminate(x7, x4, 4u, 7u);
    x5 = solve_four(x5, 5u);
    x6 = eliminate(x6, x5, 5u, 6u);
    x7 = eliminate(x7, x5, 5u, 7u);
    x6 = solve_four(x6, 6u);
    x7 = eliminate(x7, x6, 6u, 7u);
    x7 = solve_four(x7, 7u);
    set_four(start, 0u, width, x0);
    set_four(start, 4u, width, x1);
    set_four(start, 8u, width, x2);
    set_four(start, 12u, width, x3);
    set_four(start, 16u, width, x4);
    set_four(start, 20u, width, x5);
    set_four(start, 24u, width, x6);
    set_four(start, 28u, width, x7);
}

fn x_four(row: u32, column: u32, rows: u32, columns: u32) -> vec4<Real> {
    let at = min(row, rows - 1u) * columns + column;
    return vec4<Real>(b[at], b[at + 1u], b[at + 2u], b[at + 3u]);
}

fn l_four(row: u32, column: u32, columns: u32) -> vec4<Real> {
    let at = min(row, columns - 1u) * columns + column;
    return vec4<Real>(l_at(at), l_at(at + 1u), l_at(at + 2u), l_at(at + 3u));
}

fn x_patch(row: u32, column: u32, rows: u32, columns: u32) -> Patch {
    return Patch(x_four(row, column, rows, columns), x_four(row + 1u, column, rows, columns),
                 x_four(row + 2u, column, rows, columns), x_four(row + 3u, column, rows, columns));
}

fn l_patch(row: u32, column: u32, columns: u32) -> Patch {
    return Patch(l_four(row, column, columns), l_four(row + 1u, column, columns),
                 l_four(row + 2u, column, columns), l_four(row + 3u, column, columns));
}

fn subtract_four(row: u32, column: u32, rows: u32, columns: u32, v: vec4<Real>) {
    if (row >= rows) {
        return;
    }
    let at = row * columns + column;
    if (column < columns) {
        b[at] -= v.x;
    }
    if (column + 1u < columns) {
        b[at + 1u] -= v.y;
    }
    if (column + 2u < columns) {
        b[at + 2u] -= v.z;
    }
    if (column + 3u < columns) {
        b[at + 3u] -= v.w;
    }
}

// The 32 x 32 tile of B at `tile`, right of the block at column j, less X L^T: X and L in the 32 columns of the block.
fn update_tile(tile: vec2<u32>, j: u32, rows: u32, columns: u32, t: u32) {
    let at = patch_at(t);
    var sum = Patch();
    for (var k = j; k < j + 32u; k += 16u) {
        var next: Patch;
        if (t < 32u) {
            next = x_patch(tile.x + at.x, k + at.y, rows, columns);
        } else {
            next = l_patch(tile.y + at.x, k + at.y, columns);
        }
        workgroupBarrier();
        put(t, next);
        workgroupBarrier();
        multiply(&sum, t);
    }
    let row = tile.x + (t >> 3u) * 4u;
    let column = tile.y + (t & 7u) * 4u;
    subtract_four(row, column, rows, columns, sum.r0);
    subtract_four(row + 1u, column, rows, columns, sum.r1);
    subtract_four(row + 2u, column, rows, columns, sum.r2);
    subtract_four(row + 3u, column, rows, columns, sum.r3);
}
