// Powers, roots and remainders in f64: the third part of `math_f64.wgsl`, which says what it relies on and how it is written.
//
// Owns: hypot, powf, cbrt, and Rust's %, div_euclid and rem_euclid. Must not know: who calls them, on what. Invariant: special cases are selected last, by
// bits, in the order in which one overrides another; remainders are exact.

// sqrt(x^2 + y^2) without overflow or underflow between: scaled by a power of two, the root corrected by its residual. Error < 0.8 ulp.
fn d_hypot(x: D4, y: D4) -> D4 {
    let ax = d_magnitude(x);
    let ay = d_magnitude(y);
    let most = select(ay, ax, ax > ay);
    let b = bitcast<D4>(select(ax, ay, ax > ay));
    let a = bitcast<D4>(select(most, M4(D_ONE), (most >= M4(D_INF)) | (most == M4(0lu))));
    let big = a > D4(1e150lf);
    let tiny = a < D4(1e-120lf);
    let up = select(select(D4(1.0lf), D4(4.149515568880993e180lf), tiny), D4(2.409919865102884e-181lf), big);
    let down = select(select(L4(0li), L4(-600li), tiny), L4(600li), big);
    let p = opaque_d(a * up);
    let q = opaque_d(b * up);
    let pp = opaque_d(p * p);
    let qq = opaque_d(q * q);
    let h = opaque_d(d_root(pp + qq));
    let hh = opaque_d(h * h);
    let lost = opaque_d(opaque_d(d_residual(p, p, pp) + d_residual(q, q, qq)) - d_residual(h, h, hh));
    let rest = opaque_d(opaque_d(opaque_d(pp - hh) + qq) + lost);
    let z = bitcast<M4>(d_scale(opaque_d(h + rest * d_over(D4(0.5lf), h)), down));
    let real = select(z, M4(D_NAN), most > M4(D_INF));
    let finite = select(real, M4(D_INF), (ax == M4(D_INF)) | (ay == M4(D_INF)));
    return bitcast<D4>(select(finite, M4(0lu), most == M4(0lu)));
}

// What the product p of a + a_lo and b + b_lo lost, p = a b rounded.
fn d_product_rest(a: D4, a_lo: D4, b: D4, b_lo: D4, p: D4) -> D4 {
    return opaque_d(d_residual(a, b, p) + (a * b_lo + a_lo * b));
}

// log x for positive finite x as a pair, relative error 2^-64: log(1 + f) = 2 (s + s z (1/3 + z q(z))), s = f / (2 + f), z = s^2, all but q in pairs.
fn d_log_wide(x: D4) -> array<D4, 2> {
    let a = d_split(x);
    let f = a[1];
    let two = D4(2.0lf);
    let g = opaque_d(two + f);
    let inverse = d_over(D4(1.0lf), g);
    let s = opaque_d(f * inverse);
    let s_lo = opaque_d((-d_residual(s, g, f) - s * d_rest(two, f, g)) * inverse);
    let z = opaque_d(s * s);
    let z_lo = d_product_rest(s, s_lo, s, s_lo, z);
    let q = ((((((((z * 0.05104681026127907lf + 0.04703320657928841lf) * z + 0.052657081815162966lf) * z + 0.058822835460501904lf) * z
        + 0.0666666789531704lf) * z + 0.07692307678078106lf) * z + 0.09090909091014414lf) * z + 0.11111111111110641lf) * z
        + 0.14285714285714288lf) * z + 0.2lf;
    let third = D4(0.3333333333333333lf);
    let zq = opaque_d(z * q);
    let t = opaque_d(third + zq);
    let t_lo = opaque_d(d_rest(third, zq, t) + 1.850371707708594e-17lf);
    let u = opaque_d(z * t);
    let u_lo = d_product_rest(z, z_lo, t, t_lo, u);
    let v = opaque_d(s * u);
    let v_lo = d_product_rest(s, s_lo, u, u_lo, v);
    let h = opaque_d(s + v);
    let h_lo = opaque_d(d_rest(s, v, h) + opaque_d(s_lo + v_lo));
    let base = opaque_d(a[0] * D_LN2_HI);
    let sum = opaque_d(base + 2.0lf * h);
    let low = opaque_d(d_rest(base, 2.0lf * h, sum) + opaque_d(2.0lf * h_lo + a[0] * D_LN2_LO));
    let l = opaque_d(sum + low);
    return array<D4, 2>(l, d_rest(sum, low, l));
}

// x^y with all special cases of C99 (F.10.4.4), in the order in which one overrides another. Error < 0.8 ulp.
fn d_powf(x: D4, y: D4) -> D4 {
    let ax = d_magnitude(x);
    // From 2^65 on, |y| makes 0, 1 or infinity of all; it is even.
    let c = d_clamp(y, 36893488147419103232.0lf);
    let ay = bitcast<D4>(d_magnitude(c));
    let l = d_log_wide(bitcast<D4>(ax));
    let p = opaque_d(c * l[0]);
    let p_lo = opaque_d(d_residual(c, l[0], p) + c * l[1]);
    let e = d_exp_pair(d_clamp(p, 800.0lf), select(D4(0.0lf), p_lo, abs(p) < D4(800.0lf)));
    let power = bitcast<M4>(d_scale(opaque_d(e[1] + e[2]), d_whole(e[0])));
    // 2^52 + |y| holds the rounded |y| in its bits; from 2^52 on all are integers, from 2^53 on all are even.
    let all = D4(4503599627370496.0lf);
    let shifted = select(ay, opaque_d(ay + all), ay < all);
    let integer = select(ay, opaque_d(shifted - all), ay < all) == ay;
    let odd = select(M4(0lu), bitcast<M4>(shifted) << U4(63u), integer & (ay < D4(9007199254740992.0lf)));
    let sign = bitcast<M4>(x) & M4(D_SIGN);
    let falls = (bitcast<M4>(y) & M4(D_SIGN)) != M4(0lu);
    var z = select(power, select(M4(0lu), M4(D_INF), falls), ax == M4(0lu));
    z = select(z, select(M4(D_INF), M4(0lu), falls), ax == M4(D_INF));
    z = select(z, M4(D_ONE), ax == M4(D_ONE)) | (sign & odd);
    z = select(z, M4(D_NAN), (sign != M4(0lu)) & (ax > M4(0lu)) & (ax < M4(D_INF)) & !integer);
    z = select(z, M4(D_NAN), (ax > M4(D_INF)) | (d_magnitude(y) > M4(D_INF)));
    return bitcast<D4>(select(z, M4(D_ONE), (bitcast<M4>(x) == M4(D_ONE)) | (d_magnitude(y) == M4(0lu))));
}

// Cube root. With |x| = 2^(3j) a: minimax for a^(-1/3) (2^-14), one step of third order, and a last correction of the root with its exact residual.
// Error < 0.55 ulp.
fn d_cbrt(x: D4) -> D4 {
    let a = d_split(x);
    let t = opaque_d(a[0] * 0.3333333333333333lf + D_MAGIC);
    let left = a[0] - 3.0lf * opaque_d(t - D_MAGIC);
    let m = 1.0lf + a[1];
    let above = left > D4(0.5lf);
    let below = left < D4(-0.5lf);
    let b = m * select(select(D4(1.0lf), D4(0.5lf), below), D4(2.0lf), above);
    let root = select(select(D4(1.0lf), D4(1.2599210498948732lf), below), D4(0.7937005259840998lf), above);
    let first = root * ((((m * 0.12836929602455222lf - 0.7023861445644946lf) * m + 1.5613053525359284lf) * m - 1.8618310481221247lf) * m
        + 1.8745191296995947lf);
    let e = 1.0lf - b * first * first * first;
    let y = opaque_d(first + first * e * (0.3333333333333333lf + e * 0.2222222222222222lf));
    let square = y * y;
    let c = opaque_d(b * square);
    let cc = opaque_d(c * c);
    let residual = opaque_d(d_residual(cc, c, b) + c * d_residual(c, c, cc));
    let z = d_signed(opaque_d(c - residual * square * 0.3333333333333333lf) * d_two(d_whole(t)), x);
    let special = (d_magnitude(x) == M4(0lu)) | (d_magnitude(x) >= M4(D_INF));
    return bitcast<D4>(select(bitcast<M4>(z), bitcast<M4>(x), special));
}

// Rust's %: the remainder with the sign of a, exactly, by long division of the integers behind a and b, 11 bits a turn: at most 191 turns.
// NaN for a infinite or b zero.
fn d_rem(a: D4, b: D4) -> D4 {
    let ma = d_magnitude(a);
    let mb = d_magnitude(b);
    let bad = (ma >= M4(D_INF)) | (mb > M4(D_INF)) | (mb == M4(0lu));
    let ea = max(ma >> U4(52u), M4(1lu));
    let eb = max(mb >> U4(52u), M4(1lu));
    let fa = select(ma & M4(D_FRACTION), ma - ((ea - M4(1lu)) << U4(52u)), ma >= M4(D_IMPLIED));
    let fb = max(select(mb & M4(D_FRACTION), mb - ((eb - M4(1lu)) << U4(52u)), mb >= M4(D_IMPLIED)), M4(1lu));
    var left = select(M4(0lu), ea - eb, (ea > eb) & !bad);
    var r = select(fa % fb, fa, ea < eb);
    while (any(left > M4(0lu))) {
        let bits = min(left, M4(11lu));
        r = (r << U4(bits)) % fb;
        left -= bits;
    }
    let v = bitcast<M4>(d_float(r));
    let least = eb - M4(1lu);
    let normal = (v >> U4(52u)) + least > M4(1074lu);
    let z = select(r << U4(min(least, M4(63lu))), v + ((least - M4(1074lu)) << U4(52u)), normal);
    let y = select(select(z, M4(0lu), r == M4(0lu)), ma, ea < eb);
    return bitcast<D4>(select(y | (bitcast<M4>(a) & M4(D_SIGN)), M4(D_NAN), bad));
}

// Whether a remainder is less than 0.
fn d_is_below_zero(r: D4) -> B4 {
    return (bitcast<M4>(r) > M4(D_SIGN)) & (bitcast<M4>(r) < M4(D_INF | D_SIGN));
}

// Rust's div_euclid: the quotient toward zero (of the rounded quotient, as there), one further from it where the remainder is less than 0.
fn d_div_euclid(a: D4, b: D4) -> D4 {
    let ma = d_magnitude(a);
    let mb = d_magnitude(b);
    let n = d_split(a);
    let d = d_split(b);
    let k = d_whole(opaque_d(n[0] - d[0] + D_MAGIC));
    let quotient = opaque_d(d_over(1.0lf + n[1], 1.0lf + d[1]));
    let scaled = bitcast<M4>(d_scale(quotient, max(k, L4(-100li))));
    // 2^54, from where on one more makes no difference.
    let big = scaled >= M4(0x4350000000000000lu);
    let whole = trunc(bitcast<D4>(select(scaled, M4(0lu), big | (ma == M4(0lu)) | (mb == M4(D_INF)))));
    let further = select(whole, whole + 1.0lf, d_is_below_zero(d_rem(a, b)));
    let finite = select(bitcast<M4>(further), scaled, big & (ma != M4(0lu)) & (mb != M4(D_INF)));
    let y = select(finite, M4(D_INF), (ma == M4(D_INF)) | (mb == M4(0lu))) | ((bitcast<M4>(a) ^ bitcast<M4>(b)) & M4(D_SIGN));
    let bad = (ma > M4(D_INF)) | (mb > M4(D_INF)) | ((ma == M4(D_INF)) & (mb == M4(D_INF))) | ((ma == M4(0lu)) & (mb == M4(0lu)));
    return bitcast<D4>(select(y, M4(D_NAN), bad));
}

// Rust's rem_euclid: the remainder, and |b| more where it is less than 0.
fn d_rem_euclid(a: D4, b: D4) -> D4 {
    let r = d_rem(a, b);
    let mb = d_magnitude(b);
    let more = select(bitcast<M4>(r + bitcast<D4>(mb)), M4(D_INF), mb == M4(D_INF));
    return bitcast<D4>(select(bitcast<M4>(r), more, d_is_below_zero(r)));
}
