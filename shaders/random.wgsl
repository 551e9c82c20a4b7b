// What an element-wise program makes of indices: random numbers (Philox4x32-10), and indices themselves, which are numbers of 64 bits, as two words each.
//
// Not a module by itself: see map.wgsl. Words, uniform numbers, integers and truth values are those of the CPU to the bit, because they are made by integers, and of a float
// as many bits as it has. Normal numbers are within 8 units in the last place: two of two words, by the method of Box and Muller.

struct Wide {
    low: U4,
    high: U4,
}

// The same number four times.
fn wide_start(low: u32, high: u32) -> Wide {
    return Wide(U4(low), U4(high));
}

// A number and so many times another, modulo 2^64.
fn wide_step(a: Wide, by: U4, low: u32, high: u32) -> Wide {
    let product = by * low;
    let sum = a.low + product;
    let carry = select(U4(0u), U4(1u), sum < product);
    return Wide(sum, a.high + f_mul_hi(by, U4(low)) + by * high + carry);
}

// The four words of counters.
struct Philox {
    a: U4,
    b: U4,
    c: U4,
    d: U4,
}

fn philox_round(x: Philox, first: u32, second: u32) -> Philox {
    let m = U4(0xd2511f53u);
    let n = U4(0xcd9e8d57u);
    return Philox(f_mul_hi(x.c, n) ^ x.b ^ U4(first), x.c * n, f_mul_hi(x.a, m) ^ x.d ^ U4(second), x.a * m);
}

// The words of one counter.
fn philox_one(low: u32, high: u32, key: vec2<u32>, stream: vec2<u32>) -> U4 {
    let factors = vec2(0xcd9e8d57u, 0xd2511f53u);
    var ac = vec2(low, stream.x);
    var bd = vec2(high, stream.y);
    var k = key;
    for (var round = 0u; round < 10u; round++) {
        let turned = ac.yx;
        ac = philox_high_products(turned, factors) ^ bd ^ k;
        bd = turned * factors;
        k += vec2(0x9e3779b9u, 0xbb67ae85u);
    }
    return U4(ac.x, bd.x, ac.y, bd.y);
}
fn philox_high_products(a: vec2<u32>, b: vec2<u32>) -> vec2<u32> {
    let al = a & vec2(0xffffu);
    let ah = a >> vec2(16u);
    let bl = b & vec2(0xffffu);
    let bh = b >> vec2(16u);
    let u = ah * bl + ((al * bl) >> vec2(16u));
    return ah * bh + (u >> vec2(16u)) + ((al * bh + (u & vec2(0xffffu))) >> vec2(16u));
}

// The words of two counters, each for two neighbours.
fn philox_two(low: vec2<u32>, high: vec2<u32>, key: vec2<u32>, stream: vec2<u32>) -> Philox {
    let factors = vec2(0xcd9e8d57u, 0xd2511f53u).xxyy;
    var ac = U4(low, stream.xx);
    var bd = U4(high, stream.yy);
    var k = key.xxyy;
    for (var round = 0u; round < 10u; round++) {
        let turned = ac.zwxy;
        ac = f_mul_hi(turned, factors) ^ bd ^ k;
        bd = turned * factors;
        k += vec2(0x9e3779b9u, 0xbb67ae85u).xxyy;
    }
    return Philox(ac.xxyy, bd.xxyy, ac.zzww, bd.zzww);
}

// Of the counters that are these indices without their last `shift` bits (1 or 2, or none); the words of a key, and of a stream. Four indices that follow each other have
// one counter, or two.
fn philox(low: U4, high: U4, shift: u32, key: vec2<u32>, stream: vec2<u32>) -> Philox {
    let first = low.x;
    let are_next = all(low == U4(first) + U4(0u, 1u, 2u, 3u)) && all(high == U4(high.x));
    if (shift == 2u && are_next && first % 4u == 0u) {
        let x = philox_one((first >> 2u) | (high.x << 30u), high.x >> 2u, key, stream);
        return Philox(x.xxxx, x.yyyy, x.zzzz, x.wwww);
    }
    if (shift == 1u && are_next && first % 2u == 0u) {
        let both = vec2(first, first + 2u) >> vec2(1u);
        return philox_two(both | vec2(high.x << 31u), vec2(high.x >> 1u), key, stream);
    }
    let rest = (high << U4(31u - shift)) << U4(1u);
    var x = Philox((low >> U4(shift)) | rest, high >> U4(shift), U4(stream.x), U4(stream.y));
    x = philox_round(x, key.x, key.y);
    x = philox_round(x, key.x + 0x9e3779b9u, key.y + 0xbb67ae85u);
    x = philox_round(x, key.x + 0x3c6ef372u, key.y + 0x76cf5d0au);
    x = philox_round(x, key.x + 0xdaa66d2bu, key.y + 0x32370b8fu);
    x = philox_round(x, key.x + 0x78dde6e4u, key.y + 0xed9eba14u);
    x = philox_round(x, key.x + 0x1715609du, key.y + 0xa9066899u);
    x = philox_round(x, key.x + 0xb54cda56u, key.y + 0x646e171eu);
    x = philox_round(x, key.x + 0x5384540fu, key.y + 0x1fd5c5a3u);
    x = philox_round(x, key.x + 0xf1bbcdc8u, key.y + 0xdb3d7428u);
    return philox_round(x, key.x + 0x8ff34781u, key.y + 0x96a522adu);
}

// Of four elements a counter, the word of this one.
fn philox_word(x: Philox, index: U4) -> U4 {
    let is_odd = (index & U4(1u)) == U4(1u);
    return select(select(x.a, x.b, is_odd), select(x.c, x.d, is_odd), (index & U4(2u)) == U4(2u));
}

// Of two elements a counter, the lower and the upper word of this one.
fn philox_low(x: Philox, index: U4) -> U4 {
    return select(x.a, x.c, (index & U4(1u)) == U4(1u));
}
fn philox_high(x: Philox, index: U4) -> U4 {
    return select(x.b, x.d, (index & U4(1u)) == U4(1u));
}

fn f_unit(word: U4) -> F4 {
    return F4(word >> U4(8u)) * F4(5.9604644775390625e-8);
}
fn d_unit(low: U4, high: U4) -> D4 {
    return D4(high) * D4(2.3283064365386963e-10lf) + D4(low >> U4(11u)) * D4(1.1102230246251565e-16lf);
}

// `floor(w count / 2^64)`; a count of 0 is 2^32.
fn u_below(low: U4, high: U4, count: u32) -> U4 {
    let by = U4(count);
    let product = high * by;
    let sum = product + f_mul_hi(low, by);
    let carry = select(U4(0u), U4(1u), sum < product);
    return select(f_mul_hi(high, by) + carry, high, by == U4(0u));
}

// The upper 64 bits of a product.
fn m_mul_hi(a: M4, b: M4) -> M4 {
    let mask = M4(0xfffffffflu);
    let al = a & mask;
    let ah = a >> U4(32u);
    let bl = b & mask;
    let bh = b >> U4(32u);
    let u = ah * bl + ((al * bl) >> U4(32u));
    return ah * bh + (u >> U4(32u)) + ((al * bh + (u & mask)) >> U4(32u));
}
// `floor(w count / 2^128)` of a counter's words; a count of 0 is 2^64.
fn m_below(x: Philox, count: M4) -> M4 {
    let first = M4(x.a) | (M4(x.b) << U4(32u));
    let second = M4(x.c) | (M4(x.d) << U4(32u));
    let product = second * count;
    let sum = product + m_mul_hi(first, count);
    let carry = select(M4(0lu), M4(1lu), sum < product);
    return select(m_mul_hi(second, count) + carry, second, count == M4(0lu));
}

// `sqrt(-2 log x)` of `x = (w + 1) 2^-32`.
fn f_radius(w: U4) -> F4 {
    let near = f_log1p(f_negate(u_to_f(~w) * F4(2.3283064365386963e-10)));
    let far = f_log(u_to_f(w + U4(1u)) * F4(2.3283064365386963e-10));
    return f_sqrt(F4(-2.0) * select(far, near, w >= U4(0x80000000u)));
}
// The sine (of even indices the cosine) of `2 pi w 2^-32`: of what is left of the nearest quarter.
fn f_turned(w: U4, index: U4) -> F4 {
    let quarter = (w + U4(0x20000000u)) >> U4(30u);
    let angle = i_to_f(bitcast<I4>(w - (quarter << U4(30u)))) * F4(1.4629180792671596e-9);
    let at = quarter + select(U4(1u), U4(0u), (index & U4(1u)) == U4(1u));
    let size = select(f_sin(angle), f_cos(angle), (at & U4(1u)) == U4(1u));
    return select(size, f_negate(size), (at & U4(2u)) == U4(2u));
}
// Of four elements a counter.
fn f_normal(x: Philox, index: U4) -> F4 {
    let second = (index & U4(2u)) == U4(2u);
    return f_radius(select(x.a, x.c, second)) * f_turned(select(x.b, x.d, second), index);
}
// Of two.
fn d_normal(x: Philox, index: U4) -> D4 {
    let radius = d_sqrt(D4(-2.0lf) * d_log(D4(1.0lf) - d_unit(x.a, x.b)));
    let turns = D4(4.0lf) * d_unit(x.c, x.d);
    let quarter = d_round_ties_even(turns);
    let angle = (turns - quarter) * D4(1.5707963267948966lf);
    let at = U4(quarter) + select(U4(1u), U4(0u), (index & U4(1u)) == U4(1u));
    let size = select(d_sin(angle), d_cos(angle), (at & U4(1u)) == U4(1u));
    return radius * select(size, d_negate(size), (at & U4(2u)) == U4(2u));
}

// Indices below 2^32 as numbers at equal distances: the first two as they are given.
fn f_point(index: U4, a: u32, next: u32, step: u32) -> F4 {
    let number = opaque_f(u_to_f(index) * bitcast<f32>(step)) + F4(bitcast<f32>(a));
    return select(select(number, F4(bitcast<f32>(next)), index == U4(1u)), F4(bitcast<f32>(a)), index == U4(0u));
}
fn d_word(low: u32, high: u32) -> D4 {
    return D4(bitcast<f64>(u64(low) | (u64(high) << 32u)));
}
fn d_point(index: U4, a: D4, next: D4, step: D4) -> D4 {
    let number = opaque_d(D4(index) * step) + a;
    return select(select(number, next, index == U4(1u)), a, index == U4(0u));
}
// The last one as it is given.
fn d_between(index: U4, a: D4, apart: D4, last: u32, b: D4) -> D4 {
    return select(opaque_d(D4(index) * apart) + a, b, index == U4(last));
}
