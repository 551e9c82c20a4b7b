// B <- B L^-T. The host appends `alias Real` and triangle.wgsl and tile.wgsl.
//
// Input: L (n, n), of which the lower triangle is read. Output: B (m, n). For each block of 32 columns, whose number is `begin`: `solve`
// makes it X, by substitution, `update` takes what it contributes from the columns to the right.
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

fn l_at(i: u32) -> Real {
    return l[i];
}

// One row a thread.
@compute @workgroup_size(64)
fn solve(
    @builtin(workgroup_id) id: vec3<u32>,
    @builtin(num_workgroups) count: vec3<u32>,
    @builtin(local_invocation_index) t: u32,
) {
    let folded = id.x + id.y * count.x;
    if (folded >= p.groups) {
        return;
    }
    let j = p.begin * 32u;
    fetch_block(j, p.n, t);
    let row = (p.first + folded) * 64u + t;
    if (row < p.m) {
        solve_row(row * p.n + j, min(32u, p.n - j));
    }
}

// One tile a group; the columns to the right are `across` tiles.
@compute @workgroup_size(64)
fn update(
    @builtin(workgroup_id) id: vec3<u32>,
    @builtin(num_workgroups) count: vec3<u32>,
    @builtin(local_invocation_index) t: u32,
) {
    let folded = id.x + id.y * count.x;
    if (folded >= p.groups) {
        return;
    }
    let group = p.first + folded;
    let j = p.begin * 32u;
    let across = (p.n - j - 1u) / 32u;
    let tile = vec2<u32>(group / across * 32u, j + 32u + group % across * 32u);
    update_tile(tile, j, p.m, p.n, t);
}
