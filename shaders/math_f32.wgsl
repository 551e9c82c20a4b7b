// The elementary functions of f32, four at a time: what modules of fused element-wise programs take instead of WGSL's built-ins. This file has the
// arithmetic, exponentials, logarithms and powers; math_f32_angles.wgsl has the rest and takes from here.
//
// Owns: the functions `f_..`; those that a program calls are the table's, the others serve them. Must not know: operands, bindings, which program
// calls. Whoever puts a module together writes `F4`, `U4`, `I4`, `B4` and `opaque_f` before what it takes from here.
// Relies on: exact integers, bitcasts, `select`, `floor`, `trunc`; `+ - *` to nearest, fused or not; `/` and `sqrt` within some ulp.
// Invariant: the bounds hold, whatever is done by a compiler that takes floats for real numbers, without NaN and infinity. So a rounding that counts
// is behind `opaque_f`, numbers are split by masks, special values are found and made by their bits, and where the nearest float is
// promised, integers decide. Where floats are computed with, a subnormal number may count as 0.
//
// Coefficients: tests/data/derive_gpu_math.py. Errors are in units in the last place of the exact result.

const F_LN2_HI: f32 = 0.693145751953125; // 15 bits: times an exponent it is exact
const F_LN2_LO: f32 = 1.4286068e-06;
const F_LOG2E: f32 = 1.442695;

// The bits without the sign.
fn f_bits(x: F4) -> U4 {
    return bitcast<U4>(x) & U4(0x7fffffffu);
}

// Whether it is NaN.
fn f_is_nan(x: F4) -> B4 {
    return f_bits(x) > U4(0x7f800000u);
}

// NaN, which no compiler sees.
fn f_nan() -> F4 {
    return bitcast<F4>(U4(0x7fc00000u ^ p.zero));
}

// Infinity, which no compiler sees.
fn f_inf() -> F4 {
    return bitcast<F4>(U4(0x7f800000u ^ p.zero));
}

// The magnitude of y with the sign of x.
fn f_signed(y: F4, x: F4) -> F4 {
    return bitcast<F4>(f_bits(y) | (bitcast<U4>(x) & U4(0x80000000u)));
}

// x with a magnitude of at most that whose bits are `most`; infinities and NaN come to it too.
fn f_clip(x: F4, most: u32) -> F4 {
    return bitcast<F4>(min(f_bits(x), U4(most)) | (bitcast<U4>(x) & U4(0x80000000u)));
}

// The leading 11 bits: of two such the product is exact, and the difference of two such products that are alike.
fn f_top(x: F4) -> F4 {
    return bitcast<F4>(bitcast<U4>(x) & U4(0xffffe000u));
}

// 2^k, -126 <= k <= 127.
fn f_power(k: I4) -> F4 {
    return bitcast<F4>((k + 127) << U4(23u));
}

// y 2^k, rounded once, -160 <= k. It is anything where y 2^max(k, -60) is no normal number.
fn f_scale(y: F4, k: I4) -> F4 {
    let most = max(k, I4(-60));
    return bitcast<F4>(bitcast<I4>(y) + (most << U4(23u))) * f_power(k - most);
}

// The mantissa of a number with these bits (no sign) as an integer of 24 bits, subnormals included: the number is that times
// 2^(f_exponent - 150). Of 0 it is 0.
fn f_mantissa(b: U4) -> U4 {
    let tiny = b < U4(0x00800000u);
    return select((b & U4(0x007fffffu)) | U4(0x00800000u), b << ((countLeadingZeros(b) - 8u) & U4(31u)), tiny);
}

// The exponent to it, biased; of subnormals below 1.
fn f_exponent(b: U4) -> I4 {
    return select(I4(b >> U4(23u)), 9 - I4(countLeadingZeros(b)), b < U4(0x00800000u));
}

// The nearest of m 2^(e - 150), m < 2^24, with more behind m if `sticky` is 1: overflow and subnormals as IEEE 754 says.
fn f_compose(m: U4, e: I4, sticky: U4) -> U4 {
    // Bits that a subnormal has no room for, then the rounding to even.
    let gone = U4(clamp(1 - e, I4(0), I4(25)));
    let wide = (m << U4(1u)) | sticky;
    let small = (wide + ((U4(1u) << gone) - 1u) + ((wide >> (gone + 1u)) & U4(1u))) >> (gone + 1u);
    let normal = (U4(max(e, I4(1)) - 1) << U4(23u)) + m;
    return select(select(normal, small, gone > U4(0u)), U4(0x7f800000u), e > I4(254));
}

// The driver's quotient, within some ulp: n and m in 2^-60..2^60.
fn f_over(n: F4, m: F4) -> F4 {
    return n / m;
}

// The driver's square root, within some ulp.
fn f_root(x: F4) -> F4 {
    return sqrt(x);
}

// (n + nl) / (m + ml), n and m in 2^-31..2^31, nl and ml some ulp of them, as a sum of two: the driver's and what it lacks, to 2^-34.
fn f_quotient(n: F4, nl: F4, m: F4, ml: F4) -> mat2x4<f32> {
    let inverse = f_over(F4(1.0), m);
    let q = opaque_f(n * inverse);
    let qt = f_top(q);
    let mt = f_top(m);
    let cross = opaque_f(qt * (m - mt) + (q - qt) * mt);
    let rest = (opaque_f(opaque_f(n - qt * mt) - cross) - (q - qt) * (m - mt)) + (nl - q * ml);
    return mat2x4<f32>(q, rest * inverse);
}

// sqrt(u + v + w), below 2^62, as a sum of two: the driver's and what it lacks, to 2^-34. u is the most of it, w the least; u and v have 24 bits
// at most, from 2^-24 u on.
fn f_root_pair(u: F4, v: F4, w: F4) -> mat2x4<f32> {
    let s = opaque_f(f_root(u + (v + w)));
    let st = f_top(s);
    let rest = opaque_f(opaque_f(u - st * st) + v) + (w - (s + st) * (s - st));
    return mat2x4<f32>(s, f_over(0.5 * rest, max(s, F4(1e-15))));
}

// a / b: the nearest number, always. The quotient of the mantissas is guessed, its remainder is exact, modulo 2^32.
fn f_divide(a: F4, b: F4) -> F4 {
    let ab = f_bits(a);
    let bb = f_bits(b);
    let n = f_mantissa(ab);
    let m = max(f_mantissa(bb), U4(1u));
    let wide = select(U4(23u), U4(24u), n < m);
    let inverse = f_over(F4(1.0), F4(m));
    var q = U4(F4(n) * inverse * select(F4(8388608.0), F4(16777216.0), n < m));
    var r = bitcast<I4>((n << wide) - q * m);
    let d = I4(floor(F4(r) * inverse));
    q += bitcast<U4>(d);
    r -= d * I4(m);
    let less = r < I4(0);
    q = select(q, q - 1u, less);
    r = select(r, r + I4(m), less);
    let more = r >= I4(m);
    q = select(q, q + 1u, more);
    r = select(r, r - I4(m), more);
    let e = f_exponent(ab) - f_exponent(bb) + 150 - I4(wide);
    // A quotient of normal size is never halfway.
    let up = select(U4(0u), U4(1u), (2 * r > I4(m)) & (e > I4(0)));
    let exact = f_compose(q + up, e, select(U4(0u), U4(1u), r != I4(0)));
    let endless = U4(0x7f800000u);
    let is_zero = (ab == U4(0u)) | (bb == endless);
    let is_inf = (bb == U4(0u)) | (ab == endless);
    let y = select(select(exact, U4(0u), is_zero), endless, is_inf);
    let wrong = (is_zero & is_inf) | f_is_nan(a) | f_is_nan(b);
    let signed = y | ((bitcast<U4>(a) ^ bitcast<U4>(b)) & U4(0x80000000u));
    return bitcast<F4>(select(signed, U4(0x7fc00000u ^ p.zero), wrong));
}

// The square root: the nearest number, always. The root of the mantissa is guessed, its remainder is exact, modulo 2^32.
fn f_sqrt(x: F4) -> F4 {
    let b = f_bits(x);
    let n = max(f_mantissa(b), U4(1u));
    let e = f_exponent(b);
    let even = (e & I4(1)) == I4(0);
    let wide = select(U4(23u), U4(24u), even);
    let root = f_root(F4(n) * select(F4(8388608.0), F4(16777216.0), even));
    var s = I4(root);
    var r = bitcast<I4>(n << wide) - s * s;
    let d = I4(floor(F4(r) * f_over(F4(0.5), root)));
    r -= d * (2 * s + d);
    s += d;
    let less = r < I4(0);
    r = select(r, r + 2 * s - 1, less);
    s = select(s, s - 1, less);
    let more = r > 2 * s;
    r = select(r, r - 2 * s - 1, more);
    s = select(s, s + 1, more);
    let up = select(I4(0), I4(1), r > s);
    let y = bitcast<F4>(((((e + 150 - I4(wide)) >> U4(1u)) - 1) << U4(23u)) + s + up);
    let i = bitcast<U4>(x);
    let own = (b == U4(0u)) | (i >= U4(0x7f800000u));
    return select(select(y, x, own), f_nan(), (i > U4(0x7f800000u)) & (b != U4(0u)));
}

// Rust's a % b, exact: the mantissa of a is moved up as far as the exponents are apart, by eight bits a turn.
fn f_rem(a: F4, b: F4) -> F4 {
    let ab = f_bits(a);
    let bb = f_bits(b);
    let m = max(f_mantissa(bb), U4(1u));
    let eb = f_exponent(bb);
    let apart = f_exponent(ab) - eb;
    var left = U4(max(apart, I4(0)));
    var r = f_mantissa(ab) % m;
    for (var turn = 0u; turn < 35u && any(left > U4(0u)); turn++) {
        let step = min(left, U4(8u));
        r = (r << step) % m;
        left -= step;
    }
    let shift = countLeadingZeros(r) - 8u;
    let y = f_compose(r << (shift & U4(31u)), select(eb - I4(shift), I4(0), r == U4(0u)), U4(0u));
    let signed = bitcast<F4>(y | (bitcast<U4>(a) & U4(0x80000000u)));
    let inner = select(signed, a, ab < bb);
    return select(inner, f_nan(), (ab >= U4(0x7f800000u)) | (bb > U4(0x7f800000u)) | (bb == U4(0u)));
}

// Whether it is below 0: not -0, not NaN.
fn f_below_zero(x: F4) -> B4 {
    return (bitcast<I4>(x) < I4(0)) & (f_bits(x) > U4(0u)) & !f_is_nan(x);
}

// Rust's a.div_euclid(b): the quotient rounded so that the remainder is not negative.
fn f_div_euclid(a: F4, b: F4) -> F4 {
    let q = f_divide(a, b);
    let size = f_bits(q);
    let t = f_signed(select(trunc(f_clip(q, 0x4b000000u)), F4(0.0), size < U4(0x3f800000u)), q);
    let whole = select(t, q, size >= U4(0x4b000000u));
    return select(whole, whole + select(F4(-1.0), F4(1.0), bitcast<I4>(b) < I4(0)), f_below_zero(f_rem(a, b)));
}

// |x| 2^100 with the sign of x, for |x| < 2^-20: what is subnormal is not any more.
fn f_lift(x: F4) -> F4 {
    let b = f_bits(x);
    return f_signed(F4(f_mantissa(b)) * f_power(f_exponent(b) - 50), x);
}

// Rust's a.rem_euclid(b): the remainder that is not negative. Exact for |a| >= |b|, else the nearest number.
fn f_rem_euclid(a: F4, b: F4) -> F4 {
    let r = f_rem(a, b);
    let m = bitcast<F4>(f_bits(b));
    let low = f_bits(f_lift(r) + f_lift(m));
    let small = bitcast<F4>(f_compose(f_mantissa(low), f_exponent(low) - 100, U4(0u)));
    return select(r, select(r + m, small, m < F4(1e-20)), f_below_zero(r));
}

// e^r - 1 - r, |r| <= 1/2.
fn f_exp_tail(r: F4) -> F4 {
    let q = (((0.00020002291 * r + 0.0014008224) * r + 0.008333033) * r + 0.041664943) * r + 0.16666669;
    return opaque_f(r * r * (q * r + 0.50000006));
}

// e^x 2^more, |x| <= 110: x = k ln 2 + r, 1 + r + r^2 q(r). Error < 1.1 ulp.
fn f_exp_by(x: F4, more: I4) -> F4 {
    let k = floor(x * F_LOG2E + 0.5);
    let r = opaque_f(x - k * F_LN2_HI) - k * F_LN2_LO;
    return f_scale(1.0 + opaque_f(r + f_exp_tail(r)), I4(k) + more);
}

// e^x. Error < 1.1 ulp.
fn f_exp(x: F4) -> F4 {
    let y = f_exp_by(f_clip(x, 0x42dc0000u), I4(0));
    return select(select(y, f_inf(), bitcast<I4>(x) > I4(0x42b17217)), x, f_is_nan(x));
}

// 2^r 2^k, |r| <= 1/2. Error < 1.35 ulp.
fn f_exp2_by(r: F4, k: I4) -> F4 {
    let q = ((((0.00015476343 * r + 0.0013400295) * r + 0.009618004) * r + 0.05550328) * r + 0.2402265) * r + 0.6931472;
    return f_scale(1.0 + opaque_f(r * q), k);
}

// 2^x. Error < 1.35 ulp.
fn f_exp2(x: F4) -> F4 {
    let c = f_clip(x, 0x431b0000u);
    let k = floor(c + 0.5);
    let y = f_exp2_by(c - k, I4(k));
    return select(select(y, f_inf(), bitcast<I4>(x) >= I4(0x43000000)), x, f_is_nan(x));
}

// e^x - 1 = 2^k (e^r - 1 + (1 - 2^-k)); up to 1/2 k is 0. Error < 1.45 ulp.
fn f_expm1(x: F4) -> F4 {
    let c = max(f_clip(x, 0x42b40000u), F4(-18.0));
    let k = select(floor(c * F_LOG2E + 0.5), F4(0.0), f_bits(x) < U4(0x3f000000u));
    let r = opaque_f(c - k * F_LN2_HI) - k * F_LN2_LO;
    let one = opaque_f(1.0 - f_power(max(-I4(k), I4(-126))));
    let y = f_scale(one + opaque_f(r + f_exp_tail(r)), I4(k));
    let inner = select(y, f_inf(), bitcast<I4>(x) > I4(0x42b17217));
    return select(inner, x, f_is_nan(x) | (f_bits(x) < U4(0x33000000u)));
}

// x > 0, finite, as 2^k (1 + f), 1 + f in sqrt(1/2)..sqrt(2): k, f, exactly.
fn f_split(x: F4) -> mat2x4<f32> {
    let b = bitcast<U4>(x);
    let tiny = b < U4(0x00800000u);
    // A subnormal number is taken as a whole number, of 2^-149.
    let n = select(b, bitcast<U4>(F4(b)), tiny) + U4(0x3f800000u - 0x3f3504f3u);
    let k = F4(I4(n >> U4(23u)) - select(I4(127), I4(276), tiny));
    return mat2x4<f32>(k, bitcast<F4>((n & U4(0x007fffffu)) + U4(0x3f3504f3u)) - 1.0);
}

// log(1 + f) - f, 1 + f in sqrt(1/2)..sqrt(2).
fn f_log_tail(f: F4) -> F4 {
    let high = (((-0.07621739 * f + 0.12904401) * f - 0.13242987) * f + 0.1418183) * f - 0.16609083;
    return opaque_f(f * f * ((((high * f + 0.20001973) * f - 0.25001583) * f + 0.33333325) * f - 0.49999988));
}

// A logarithm y of x, with the values outside 0 < x < inf.
fn f_log_edges(x: F4, y: F4) -> F4 {
    let b = bitcast<U4>(x);
    let inner = select(y, f_inf(), b == U4(0x7f800000u));
    return select(select(inner, f_nan(), b > U4(0x7f800000u)), -f_inf(), f_bits(x) == U4(0u));
}

// Natural logarithm: k ln 2 + log(1 + f). Error < 1.2 ulp.
fn f_log(x: F4) -> F4 {
    let s = f_split(x);
    let y = s[0] * F_LN2_HI + opaque_f(s[1] + (f_log_tail(s[1]) + s[0] * F_LN2_LO));
    return f_log_edges(x, y);
}

// log(1 + f) c as a sum of two: c is given as 12 bits and the rest. What is added to the second, small, is `add`.
fn f_log_times(f: F4, c: f32, rest: f32, add: F4) -> mat2x4<f32> {
    let top = f_top(f);
    return mat2x4<f32>(top * c, top * rest + ((f - top) + f_log_tail(f)) * (c + rest) + add);
}

// Logarithm to base 2. Error < 1.35 ulp; powers of two are exact.
fn f_log2(x: F4) -> F4 {
    let s = f_split(x);
    let l = f_log_times(s[1], 1.4423828125, 0.0003122284, F4(0.0));
    return f_log_edges(x, s[0] + opaque_f(l[0] + l[1]));
}

// Logarithm to base 10. Error < 1.3 ulp.
fn f_log10(x: F4) -> F4 {
    let s = f_split(x);
    let l = f_log_times(s[1], 0.4342041015625, 9.038034e-05, s[0] * 4.605039e-06);
    return f_log_edges(x, s[0] * 0.301025390625 + opaque_f(l[0] + l[1]));
}

// log(u + c) + more ln 2, u > 0 in the normal range and c at most some ulp of it: 1 / (1 + f) is nearly 1 - f + f^2. Error < 1.2 ulp.
fn f_log_pair(u: F4, c: F4, more: F4) -> F4 {
    let s = f_split(u);
    let f = s[1];
    let d = c * f_power(max(-I4(s[0]), I4(-126))) * (1.0 - f * (1.0 - f));
    let k = s[0] + more;
    return k * F_LN2_HI + opaque_f(f + (f_log_tail(f) + (k * F_LN2_LO + d)));
}

// log(1 + x), the sum exact. Error < 1.2 ulp.
fn f_log1p(x: F4) -> F4 {
    let w = f_clip(x, 0x7f7fffffu);
    let u = opaque_f(1.0 + w);
    let c = select(w - opaque_f(u - 1.0), 1.0 - opaque_f(u - w), w > F4(1.0));
    let b = bitcast<U4>(x);
    let inner = select(f_log_pair(u, c, F4(0.0)), -f_inf(), b == U4(0xbf800000u));
    let own = (b == U4(0x7f800000u)) | (f_bits(x) < U4(0x33000000u));
    return select(select(inner, x, own), f_nan(), (b > U4(0xbf800000u)) | f_is_nan(x));
}

// log2 x, x > 0, as a sum of two, to 2^-34: log2(1 + f) = s (c + z (d + z r(z))), s = f / (2 + f), z = s^2; the first terms in two parts.
fn f_log2_pair(x: F4) -> mat2x4<f32> {
    let a = f_split(x);
    let f = a[1];
    let g = opaque_f(2.0 + f);
    let s = f_quotient(f, F4(0.0), g, f - opaque_f(g - 2.0));
    let st = f_top(s[0]);
    let sl = (s[0] - st) + s[1];
    // z = zt + zl, of 11 bits and the rest.
    let zt = f_top(st * st);
    let zl = (st * st - zt) + (s[0] + st) * sl;
    let z = zt + zl;
    let r = (0.33787653 * z + 0.41184735) * z + 0.5770802;
    let t = opaque_f(2.884765625 + zt * 0.961669921875);
    let tail = 0.0006244568 + (zt * 0.00012677205 + (zl * 0.9617967 + z * z * r));
    let tl = (opaque_f(2.884765625 - t) + zt * 0.961669921875) + tail;
    // Times s.
    let tt = f_top(t);
    let rest = (t - tt) + tl;
    let lead = st * tt;
    let hi = opaque_f(a[0] + lead);
    return mat2x4<f32>(hi, (opaque_f(a[0] - hi) + lead) + (st * rest + sl * (tt + rest)));
}

// a^b = 2^(b log2 |a|), special cases as in C. Error < 1.6 ulp.
fn f_powf(a: F4, b: F4) -> F4 {
    let ab = f_bits(a);
    let bb = f_bits(b);
    let l = f_log2_pair(bitcast<F4>(clamp(ab, U4(1u), U4(0x7f7fffffu))));
    // Beyond 2^34 every power but that of 1 has overflowed.
    let y = f_clip(b, 0x50800000u);
    let yt = f_top(y);
    let lt = f_top(l[0]);
    let ll = (l[0] - lt) + l[1];
    let hi = yt * lt;
    let lo = yt * ll + (y - yt) * (lt + ll);
    let k = floor(opaque_f(hi + lo) + 0.5);
    let r = opaque_f(hi - k) + lo;
    let power = f_exp2_by(r, I4(clamp(k, F4(-160.0), F4(128.0))));
    let up = (k > F4(128.0)) | ((k == F4(128.0)) & (r >= F4(0.0)));
    let z0 = select(select(power, f_inf(), up), F4(0.0), k < F4(-160.0));
    // Whether b is an integer, and odd: the bit of weight 1 moved to the top, the fraction below it.
    let e = I4(bb >> U4(23u)) - 127;
    let bits = ((bb << U4(8u)) | U4(0x80000000u)) << U4(clamp(e, I4(0), I4(31)));
    let whole = (e > I4(23)) | (bb == U4(0u)) | ((e >= I4(0)) & ((bits & U4(0x7fffffffu)) == U4(0u)));
    let odd = whole & (e >= I4(0)) & (e < I4(24)) & (bits >= U4(0x80000000u));
    let falls = (bitcast<I4>(b) < I4(0)) != (ab == U4(0u));
    let z1 = select(z0, select(f_inf(), F4(0.0), falls), (ab == U4(0u)) | (ab == U4(0x7f800000u)));
    let z2 = select(z1, F4(1.0), ab == U4(0x3f800000u));
    let z3 = select(z2, -z2, odd & (bitcast<I4>(a) < I4(0)));
    let unreal = (bitcast<I4>(a) < I4(0)) & (ab > U4(0u)) & (ab < U4(0x7f800000u)) & !whole;
    let z4 = select(z3, f_nan(), unreal | f_is_nan(a) | f_is_nan(b));
    return select(z4, F4(1.0), (bitcast<U4>(a) == U4(0x3f800000u)) | (bb == U4(0u)));
}

// Cube root. Of a in 1..8: a guess c of 8 bits, so that c^3 is exact, and c (1 + e)^(1/3), e = (a - c^3) / c^3. Error < 0.6 ulp.
fn f_cbrt(x: F4) -> F4 {
    let b = f_bits(x);
    let m = F4(f_mantissa(b)) * 1.1920929e-07;
    let e = U4(f_exponent(b) + 23);
    let third = (e * 21846u) >> U4(16u);
    let left = e - 3u * third;
    let guess = ((-0.060319383 * m + 0.43944177) * m + 0.62151366)
        * select(select(F4(1.0), F4(1.2599211), left == U4(1u)), F4(1.587401), left == U4(2u));
    let c = bitcast<F4>((bitcast<U4>(guess) + 0x8000u) & U4(0xffff0000u));
    let cube = c * c * c;
    let r = f_over(opaque_f(m * select(select(F4(1.0), F4(2.0), left == U4(1u)), F4(4.0), left == U4(2u)) - cube), cube);
    let y = c + opaque_f(c * (r * ((0.06173933 * r - 0.11111984) * r + 0.33333334)));
    let root = bitcast<F4>(bitcast<I4>(y) + ((I4(third) - 50) << U4(23u)));
    return select(f_signed(root, x), x, (b == U4(0u)) | (b >= U4(0x7f800000u)));
}

// sqrt(a^2 + b^2), scaled by a power of two so that nothing overflows. Error < 0.6 ulp.
fn f_hypot(a: F4, b: F4) -> F4 {
    let more = max(f_bits(a), f_bits(b));
    let less = min(f_bits(a), f_bits(b));
    let e = f_exponent(more);
    // Below 2^-25 of the other one counts nothing.
    let x = F4(f_mantissa(more));
    let d = f_exponent(less) - e;
    let y = select(F4(f_mantissa(less)) * f_power(max(d, I4(-40))), F4(0.0), (d < I4(-30)) | (less == U4(0u)));
    let xt = f_top(x);
    let yt = f_top(y);
    let s = f_root_pair(xt * xt, yt * yt, (x + xt) * (x - xt) + (y + yt) * (y - yt));
    let r = f_scale((s[0] + s[1]) * 1.1920929e-07, clamp(e - 127, I4(-160), I4(127)));
    let own = select(select(r, f_inf(), f_bits(r) > U4(0x7f800000u)), bitcast<F4>(less), more == U4(0u));
    let some = select(own, f_nan(), more > U4(0x7f800000u));
    return select(some, f_inf(), (f_bits(a) == U4(0x7f800000u)) | (f_bits(b) == U4(0x7f800000u)));
}
