// Escape counts of z <- z^2 + c. The host adds `alias Real`.
//
// Inputs: x (n,), y (m,). Output: counts (m, n). A workgroup takes 8 x 16 points. `begin` and `end` are steps.
struct Params {
    first: u32,
    groups: u32,
    begin: u32,
    end: u32,
    m: u32,
    n: u32,
}

@group(0) @binding(0) var<uniform> p: Params;
@group(0) @binding(1) var<storage, read> x: array<Real>;
@group(0) @binding(2) var<storage, read> y: array<Real>;
@group(0) @binding(3) var<storage, read_write> counts: array<i32>;
// Where each point is, between the dispatches of `resume`.
@group(0) @binding(4) var<storage, read_write> places: array<vec2<Real>>;

// A point after `count` steps: it escaped in the step after them, or they are all that were asked for.
struct Point {
    z: vec2<Real>,
    count: u32,
}

// Rounded as on the CPU, where the driver has a true fma and contracts nothing else: most points agree, not all.
fn step(z: vec2<Real>, c: vec2<Real>) -> vec2<Real> {
    return vec2<Real>(fma(z.x, z.x, -(z.y * z.y)) + c.x, (z.x + z.x) * z.y + c.y);
}

// |z|^2 <= 16, and false for NaN. Drivers may take it that there are no NaNs, and turn the comparison around; bits they leave alone.
fn inside(z: vec2<Real>) -> bool {
    let square = fma(z.x, z.x, z.y * z.y);
    return square <= Real(16) && bitcast<u32>(f32(square)) < 0x7f800000u;
}

// Steps `begin..end` from z. Four steps go untested, since a point that escaped stays outside (see kernel/mandelbrot.rs); the four
// in which it left are repeated one by one.
fn iterate(start: vec2<Real>, c: vec2<Real>, begin: u32, end: u32) -> Point {
    var z = start;
    var count = begin;
    while (end - count >= 4u) {
        let next = step(step(step(step(z, c), c), c), c);
        if (!inside(next)) {
            break;
        }
        z = next;
        count += 4u;
    }
    while (count < end) {
        z = step(z, c);
        if (!inside(z)) {
            break;
        }
        count += 1u;
    }
    return Point(z, count);
}

// Column and row of an invocation's point; (n, m) or beyond where it has none.
fn place(id: vec3<u32>, count: vec3<u32>, t: u32) -> vec2<u32> {
    let folded = id.x + id.y * count.x;
    if (folded >= p.groups) {
        return vec2<u32>(p.n, p.m);
    }
    let group = p.first + folded;
    let wide = (p.n + 7u) / 8u;
    return vec2<u32>(group % wide * 8u + (t & 7u), group / wide * 16u + (t >> 3u));
}

// All steps at once.
@compute @workgroup_size(128)
fn whole(
    @builtin(workgroup_id) id: vec3<u32>,
    @builtin(num_workgroups) count: vec3<u32>,
    @builtin(local_invocation_index) t: u32,
) {
    let at = place(id, count, t);
    if (at.x < p.n && at.y < p.m) {
        let c = vec2<Real>(x[at.x], y[at.y]);
        counts[at.y * p.n + at.x] = i32(iterate(c, c, 0u, p.end).count);
    }
}

// Steps `begin..end` of all: a point whose count is `begin` has not escaped yet.
@compute @workgroup_size(128)
fn resume(
    @builtin(workgroup_id) id: vec3<u32>,
    @builtin(num_workgroups) count: vec3<u32>,
    @builtin(local_invocation_index) t: u32,
) {
    let at = place(id, count, t);
    if (at.x < p.n && at.y < p.m) {
        let i = at.y * p.n + at.x;
        let c = vec2<Real>(x[at.x], y[at.y]);
        if (p.begin == 0u) {
            let point = iterate(c, c, 0u, p.end);
            places[i] = point.z;
            counts[i] = i32(point.count);
        } else if (counts[i] == i32(p.begin)) {
            let point = iterate(places[i], c, p.begin, p.end);
            places[i] = point.z;
            counts[i] = i32(point.count);
        }
    }
}
