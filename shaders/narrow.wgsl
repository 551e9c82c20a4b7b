// What stands for numbers of 64 bits where a GPU has none: pairs of words.
//
// Owns: products of words, products of floats as mantissas of 64 bits, and the bits of an f64. Must not know: what is reduced. Relies on: the aliases F4, I4, U4 and `f_mantissa`,
// `f_exponent` of `math_f32.wgsl`. Invariant: integers alone compute here, so that no driver has a say.
//
// Only `const` and `fn` items, each with its comment directly above: the generator takes those that a program needs.

// The upper words of products, by halves.
fn u_high(a: U4, b: U4) -> U4 {
    let al = a & U4(0xffffu);
    let ah = a >> U4(16u);
    let bl = b & U4(0xffffu);
    let bh = b >> U4(16u);
    let m = ah * bl + ((al * bl) >> U4(16u));
    let n = al * bh + (m & U4(0xffffu));
    return ah * bh + (m >> U4(16u)) + (n >> U4(16u));
}

// The words of a b + (low, high), modulo 2^64: b in two words.
fn u_multiply_add(at: vec2<u32>, a: u32, b: vec2<u32>) -> vec2<u32> {
    let low = a * b.x;
    let sum = at.x + low;
    let high = at.y + u_high(U4(a), U4(b.x)).x + a * b.y;
    return vec2<u32>(sum, high + select(0u, 1u, sum < low));
}

// The upper 64 bits of the product of two numbers of 64 bits, each at least 2^63 or 0, then doubled if they are below 2^63: upper words, lower words, and whether they were
// doubled. Less than 8 units of the last place are lost.
fn u_mantissas(ah: U4, al: U4, bh: U4, bl: U4) -> array<U4, 3> {
    let low = ah * bh;
    let first = low + u_high(ah, bl);
    let second = first + u_high(al, bh);
    let carry = select(U4(0u), U4(1u), first < low) + select(U4(0u), U4(1u), second < first);
    let high = u_high(ah, bh) + carry;
    let small = high < U4(0x80000000u);
    let twice = (high << U4(1u)) | (second >> U4(31u));
    return array<U4, 3>(select(high, twice, small), select(second, second << U4(1u), small), select(U4(0u), U4(1u), small));
}

// The bits of the f64 nearest to (high, low) 2^e, the lower word first: the highest bit of `high` is set, or both are 0; `sign` is the sign's bit.
fn u_double(high: u32, low: u32, e: i32, sign: u32) -> vec2<u32> {
    let biased = e + 1086;
    if (high == 0u || biased < -52) {
        return vec2<u32>(0u, sign);
    }
    if (biased > 2046) {
        return vec2<u32>(0u, sign | 0x7ff00000u);
    }
    // What a number of 53 bits, or a subnormal one, has no room for.
    let gone = 11u + u32(clamp(1 - biased, 0, 53));
    let by = gone & 31u;
    let back = (32u - by) & 31u;
    let mixed = select((low >> by) | (high << back), low, by == 0u);
    let last = select(low << back, 0u, by == 0u);
    var kept = vec2<u32>(mixed, high >> by);
    var rest = vec2<u32>(0u, last);
    if (gone >= 32u) {
        kept = vec2<u32>(high >> by, 0u);
        rest = vec2<u32>(last, mixed);
    }
    if (gone == 64u) {
        kept = vec2<u32>(0u);
        rest = vec2<u32>(low, high);
    }
    let is_odd = (kept.x & 1u) == 1u;
    let up = (rest.y > 0x80000000u) || (rest.y == 0x80000000u && (rest.x > 0u || is_odd));
    let rounded = kept.x + select(0u, 1u, up);
    let upper = kept.y + select(0u, 1u, up && rounded == 0u);
    return vec2<u32>(rounded, sign | (upper + (u32(max(biased, 1) - 1) << 20u)));
}

// The bits of the f64 nearest to the number of these words and this exponent, whose highest bit may be anywhere.
fn u_normalized_double(high: u32, low: u32, e: i32, sign: u32) -> vec2<u32> {
    let is_low = high == 0u;
    let h = select(high, low, is_low);
    let l = select(low, 0u, is_low);
    let zeros = countLeadingZeros(h) & 31u;
    let moved = (h << zeros) | select(l >> ((32u - zeros) & 31u), 0u, zeros == 0u);
    return u_double(moved, l << zeros, e - i32(zeros) - select(0, 32, is_low), select(sign, 0u, h == 0u));
}

// The bits of the f64 that an integer is.
fn u_count_double(n: u32) -> vec2<u32> {
    return u_normalized_double(n, 0u, -32, 0u);
}

// The bits of an f64 within 1 ulp of a + b; NaN if one of them is not finite.
fn f_sum_double(a: f32, b: f32) -> vec2<u32> {
    let both = bitcast<vec2<u32>>(vec2<f32>(a, b));
    let sizes = both & vec2<u32>(0x7fffffffu);
    let is_b = sizes.y > sizes.x;
    let most = select(sizes, sizes.yx, is_b);
    let sign = select(both.x, both.y, is_b) & 0x80000000u;
    if (most.x >= 0x7f800000u) {
        return vec2<u32>(0u, 0x7ff80000u);
    }
    let m = f_mantissa(U4(most, most));
    let e = f_exponent(U4(most, most));
    // The greater in bits 62 to 39, the other as far behind as it is smaller.
    let high = m.x << 7u;
    let other = m.y << 7u;
    let behind = u32(max(e.x - e.y, 0));
    let by = behind & 31u;
    let cut = select(other << ((32u - by) & 31u), 0u, by == 0u);
    var y = vec2<u32>(cut, other >> by);
    if (behind >= 32u) {
        y = vec2<u32>(other >> by, 0u);
    }
    if (behind >= 64u) {
        y = vec2<u32>(0u);
    }
    let added = vec2<u32>(y.x, high + y.y);
    let taken = vec2<u32>(0u - y.x, high - y.y - select(0u, 1u, y.x > 0u));
    let sum = select(added, taken, ((both.x ^ both.y) & 0x80000000u) != 0u);
    return u_normalized_double(sum.y, sum.x, e.x - 189, sign);
}
