// Copies that a GPU makes for itself. The host adds `alias Real`, which nothing here needs.
//
// Input: x, a contiguous value. Output: y, what a view shows of it, contiguous; `n` elements of 1 byte (`bytes`), 2 (`halves`), 4 (`words`)
// or 8 (`pairs`). Element i of y, whose indices along the view's axes are i0 (the innermost), i1, .., is element
// `offset + i0 s0 + i1 s1 + ..` of x. Steps s are of either sign: sums wrap around and end where they should.
// `bools`: input, a word for each of `n` elements; output, their bytes: 1 for whatever is not 0. An invocation writes one element, or
// all of one word.
struct Params {
    first: u32,
    groups: u32,
    begin: u32,
    end: u32,
    n: u32,
    offset: u32,
    rank: u32,
    n0: u32,
    n1: u32,
    n2: u32,
    n3: u32,
    n4: u32,
    n5: u32,
    n6: u32,
    s0: u32,
    s1: u32,
    s2: u32,
    s3: u32,
    s4: u32,
    s5: u32,
    s6: u32,
    s7: u32,
}

@group(0) @binding(0) var<uniform> p: Params;
@group(0) @binding(1) var<storage, read> x: array<u32>;
@group(0) @binding(1) var<storage, read> x2: array<vec2<u32>>;
@group(0) @binding(2) var<storage, read_write> y: array<u32>;
@group(0) @binding(2) var<storage, read_write> y2: array<vec2<u32>>;

// Where element `i` of the view is. The outermost axis takes what is left.
fn place(i: u32) -> u32 {
    var rest = i;
    var at = p.offset;
    if (p.rank > 1u) {
        at += rest % p.n0 * p.s0;
        rest /= p.n0;
        if (p.rank > 2u) {
            at += rest % p.n1 * p.s1;
            rest /= p.n1;
            if (p.rank > 3u) {
                at += rest % p.n2 * p.s2;
                rest /= p.n2;
                if (p.rank > 4u) {
                    return further(rest, at);
                }
                return at + rest * p.s3;
            }
            return at + rest * p.s2;
        }
        return at + rest * p.s1;
    }
    return at + rest * p.s0;
}

// The same from the fourth axis on; few views have so many. Axes that are not there have one index.
fn further(i: u32, start: u32) -> u32 {
    var rest = i;
    var at = start + rest % p.n3 * p.s3;
    rest /= p.n3;
    at += rest % p.n4 * p.s4;
    rest /= p.n4;
    at += rest % p.n5 * p.s5;
    rest /= p.n5;
    at += rest % p.n6 * p.s6;
    return at + rest / p.n6 * p.s7;
}

// The `count` elements that are word `word` of y.
fn packed(word: u32, count: u32) -> u32 {
    let bits = 32u / count;
    var all = 0u;
    for (var k = 0u; k < count; k++) {
        let i = count * word + k;
        if (i < p.n) {
            let at = place(i);
            let element = x[at / count] >> (at % count * bits) & ((1u << bits) - 1u);
            all |= element << (k * bits);
        }
    }
    return all;
}

// The invocation's number in its pass, or `limit` if it has nothing to do.
fn number(id: vec3<u32>, count: vec3<u32>, t: u32, limit: u32) -> u32 {
    let folded = id.x + id.y * count.x;
    if (folded >= p.groups) {
        return limit;
    }
    return min((p.first + folded) * 256u + t, limit);
}

@compute @workgroup_size(256)
fn words(
    @builtin(workgroup_id) id: vec3<u32>,
    @builtin(num_workgroups) count: vec3<u32>,
    @builtin(local_invocation_index) t: u32,
) {
    let i = number(id, count, t, p.n);
    if (i < p.n) {
        y[i] = x[place(i)];
    }
}

@compute @workgroup_size(256)
fn pairs(
    @builtin(workgroup_id) id: vec3<u32>,
    @builtin(num_workgroups) count: vec3<u32>,
    @builtin(local_invocation_index) t: u32,
) {
    let i = number(id, count, t, p.n);
    if (i < p.n) {
        y2[i] = x2[place(i)];
    }
}

@compute @workgroup_size(256)
fn bytes(
    @builtin(workgroup_id) id: vec3<u32>,
    @builtin(num_workgroups) count: vec3<u32>,
    @builtin(local_invocation_index) t: u32,
) {
    let all = (p.n + 3u) / 4u;
    let word = number(id, count, t, all);
    if (word < all) {
        y[word] = packed(word, 4u);
    }
}

@compute @workgroup_size(256)
fn halves(
    @builtin(workgroup_id) id: vec3<u32>,
    @builtin(num_workgroups) count: vec3<u32>,
    @builtin(local_invocation_index) t: u32,
) {
    let all = (p.n + 1u) / 2u;
    let word = number(id, count, t, all);
    if (word < all) {
        y[word] = packed(word, 2u);
    }
}

@compute @workgroup_size(256)
fn bools(
    @builtin(workgroup_id) id: vec3<u32>,
    @builtin(num_workgroups) count: vec3<u32>,
    @builtin(local_invocation_index) t: u32,
) {
    let all = (p.n + 3u) / 4u;
    let word = number(id, count, t, all);
    if (word < all) {
        var four = 0u;
        for (var k = 0u; k < 4u; k++) {
            let i = 4u * word + k;
            if (i < p.n && x[i] != 0u) {
                four |= 1u << (k * 8u);
            }
        }
        y[word] = four;
    }
}
