// Sine, cosine, tangent and their inverses in f64: the second part of `math_f64.wgsl`, which says what it relies on and how it is written.
//
// Owns: the reduction of angles, of any size, and these functions. Must not know: who calls them, on what. Invariant: a reduced angle is a pair r + lo, right
// to about 2^-110 (relative 2^-60 at worst), so that nothing is lost near multiples of pi/2.

// pi/2 in parts of 23 bits, whose products with a whole number of up to 30 bits are exact, and the rest: |x| <= 2^30. Gives k + D_MAGIC, r, lo with
// x = k pi/2 + r + lo, |r| <= pi/4 and a little. The first two differences are exact, the next two are kept with what they lost.
fn d_trig_reduce_near(x: D4) -> array<D4, 3> {
    let t = opaque_d(x * 0.6366197723675814lf + D_MAGIC);
    let k = opaque_d(t - D_MAGIC);
    let first = opaque_d(opaque_d(x - k * 1.570796251296997lf) - k * 7.549789415861596e-08lf);
    let c = opaque_d(k * 5.390302529957765e-15lf);
    let second = opaque_d(first - c);
    let d = opaque_d(k * 3.2820031633724233e-22lf);
    let r = opaque_d(second - d);
    let low = opaque_d(d_rest(second, -d, r) - k * 3.7950107727212256e-29lf);
    return array<D4, 3>(t, r, opaque_d(d_rest(first, -c, second) + low));
}

// 64 bits of 2/pi in binary from bit `at` on: 64 zero bits, and 1280 after the point. at < 1280.
fn d_two_over_pi(at: U4) -> M4 {
    var words = array<u64, 21>(0lu, 0xa2f9836e4e441529lu, 0xfc2757d1f534ddc0lu, 0xdb6295993c439041lu, 0xfe5163abdebbc561lu,
        0xb7246e3a424dd2e0lu, 0x06492eea09d1921clu, 0xfe1deb1cb129a73elu, 0xe88235f52ebb4484lu, 0xe99c7026b45f7e41lu,
        0x3991d639835339f4lu, 0x9c845f8bbdf9283blu, 0x1ff897ffde05980flu, 0xef2f118b5a0a6d1flu, 0x6d367ecf27cb09b7lu,
        0x4f463f669e5fea2dlu, 0x7527bac7ebe5f17blu, 0x3d0739f78a5292ealu, 0x6bfb5fb11f8d5d08lu, 0x56033046fc7b6bablu,
        0xf0cfbc209af4361dlu);
    let i = min(at >> U4(6u), U4(19u));
    let shift = at & U4(63u);
    let high = M4(words[i.x], words[i.y], words[i.z], words[i.w]);
    let low = M4(words[i.x + 1u], words[i.y + 1u], words[i.z + 1u], words[i.w + 1u]);
    return (high << shift) | ((low >> U4(1u)) >> (U4(63u) - shift));
}

// The upper 64 bits of the product.
fn d_multiply_high(a: M4, b: M4) -> M4 {
    let mask = M4(0xfffffffflu);
    let half = U4(32u);
    let upper = (a >> half) * (b & mask) + (((a & mask) * (b & mask)) >> half);
    let lower = (a & mask) * (b >> half) + (upper & mask);
    return (a >> half) * (b >> half) + (upper >> half) + (lower >> half);
}

// d_trig_reduce_near for 2^30 <= |x| < infinity (else anything), by Payne and Hanek. With x = m 2^e, bits of 2/pi that x lifts to multiples of 4 are left
// out and the next 256 taken: their product with m modulo 2^256 is x 2/pi modulo 4, right to 2^-190; no double is closer than 2^-62 to a multiple of pi/2.
fn d_trig_reduce_far(x: D4) -> array<D4, 3> {
    let bits = bitcast<M4>(x);
    let mantissa = (bits & M4(D_FRACTION)) | M4(D_IMPLIED);
    let start = clamp(U4((bits >> U4(52u)) & M4(0x7fflu)), U4(1053u), U4(2046u)) - U4(1013u);
    let w3 = d_multiply_high(mantissa, d_two_over_pi(start + U4(192u)));
    let b2 = d_two_over_pi(start + U4(128u));
    let p2 = mantissa * b2 + w3;
    let w2 = d_multiply_high(mantissa, b2) + select(M4(0lu), M4(1lu), p2 < w3);
    let b1 = d_two_over_pi(start + U4(64u));
    let p1 = mantissa * b1 + w2;
    let w1 = d_multiply_high(mantissa, b1) + select(M4(0lu), M4(1lu), p1 < w2);
    let p0 = mantissa * d_two_over_pi(start) + w1;
    // The fraction of a quadrant in 192 bits; from a half on, minus the rest to the next one, all but the last bit.
    let next = (p0 >> U4(61u)) & M4(1lu);
    let turn = M4(0lu) - next;
    let f0 = ((p0 << U4(2u)) | (p1 >> U4(62u))) ^ turn;
    let f1 = ((p1 << U4(2u)) | (p2 >> U4(62u))) ^ turn;
    let f2 = (p2 << U4(2u)) ^ turn;
    let a = d_float(f0 >> U4(11u)) * 1.1102230246251565e-16lf;
    let b = opaque_d(d_float(((f0 & M4(0x7fflu)) << U4(42u)) | (f1 >> U4(22u))) * 1.232595164407831e-32lf);
    let hi = opaque_d(a + b);
    let lo = opaque_d(d_rest(a, b, hi) + d_float(((f1 & M4(0x3ffffflu)) << U4(31u)) | (f2 >> U4(33u))) * 1.3684555315672042e-48lf);
    let y = opaque_d(hi * 1.5707963267948966lf);
    let rest = opaque_d(d_residual(hi, D4(1.5707963267948966lf), y) + (hi * 6.123233995736766e-17lf + lo * 1.5707963267948966lf));
    let r = opaque_d(y + rest);
    let negative = bits >> U4(63u);
    let quadrant = (((p0 >> U4(62u)) + next) ^ (M4(0lu) - negative)) + negative;
    let sign = ((negative ^ next) << U4(63u));
    let tail = bitcast<M4>(d_rest(y, rest, r)) ^ sign;
    return array<D4, 3>(bitcast<D4>((quadrant & M4(3lu)) + bitcast<M4>(D4(D_MAGIC))), bitcast<D4>(bitcast<M4>(r) ^ sign), bitcast<D4>(tail));
}

// k + D_MAGIC (its low two bits count), r and lo with x = k pi/2 + r + lo, for any x; anything for NaN and infinities.
fn d_trig_reduce(x: D4) -> array<D4, 3> {
    let m = d_magnitude(x);
    let large = (m > M4(0x41d0000000000000lu)) & (m < M4(D_INF));
    let near = d_trig_reduce_near(d_clamp(x, 1073741824.0lf));
    if (!any(large)) {
        return near;
    }
    let far = d_trig_reduce_far(x);
    return array<D4, 3>(select(near[0], far[0], large), select(near[1], far[1], large), select(near[2], far[2], large));
}

// sin(r + lo) = r + s and cos(r + lo) = c + d, c = 1 - r^2/2; gives s, c, d. Minimax of degree 13 and 14, errors 2^-58 and 2^-64.
fn d_sin_cos_parts(r: D4, lo: D4) -> array<D4, 3> {
    let z = opaque_d(r * r);
    let p = ((((z * 1.5896666370939634e-10lf - 2.505075595863526e-08lf) * z + 2.7557313678643845e-06lf) * z - 0.00019841269829771086lf) * z
        + 0.00833333333332237lf) * z - 0.16666666666666632lf;
    let q = ((((z * -1.1359559428690583e-11lf + 2.0875721625702183e-09lf) * z - 2.755731434067416e-07lf) * z + 2.480158728944353e-05lf) * z
        - 0.0013888888888874064lf) * z + 0.0416666666666666lf;
    let half = 0.5lf * z;
    let c = opaque_d(1.0lf - half);
    let d = opaque_d(opaque_d(1.0lf - c) - half);
    return array<D4, 3>(opaque_d(lo * c + r * z * p), c, opaque_d(d + (z * z * q - r * lo)));
}

// The sine of an angle that is reduced, `quarters` further on.
fn d_sin_reduced(a: array<D4, 3>, quarters: u64) -> D4 {
    let s = d_sin_cos_parts(a[1], a[2]);
    let quadrant = bitcast<M4>(a[0]) + M4(quarters);
    let odd = (quadrant & M4(1lu)) == M4(1lu);
    let y = opaque_d(select(a[1], s[1], odd) + select(s[0], s[2], odd));
    return bitcast<D4>(bitcast<M4>(y) ^ ((quadrant & M4(2lu)) << U4(62u)));
}

// y for finite x, NaN for infinities and NaN.
fn d_if_finite(y: D4, x: D4) -> D4 {
    return bitcast<D4>(select(bitcast<M4>(y), M4(D_NAN), d_magnitude(x) >= M4(D_INF)));
}

// sin x, any x. Error < 0.9 ulp.
fn d_sin(x: D4) -> D4 {
    let y = d_sin_reduced(d_trig_reduce(x), 0lu);
    // Below 2^-28 it rounds to x.
    return d_if_finite(bitcast<D4>(select(bitcast<M4>(y), bitcast<M4>(x), d_magnitude(x) < M4(0x3e30000000000000lu))), x);
}

// cos x, any x. Error < 0.9 ulp.
fn d_cos(x: D4) -> D4 {
    return d_if_finite(d_sin_reduced(d_trig_reduce(x), 1lu), x);
}

// tan x, any x: the quotient of two pairs with one division, corrected by its residual. Error < 1.2 ulp.
fn d_tan(x: D4) -> D4 {
    let a = d_trig_reduce(x);
    let s = d_sin_cos_parts(a[1], a[2]);
    let sin = opaque_d(a[1] + s[0]);
    let sin_lo = d_rest(a[1], s[0], sin);
    let cos = opaque_d(s[1] + s[2]);
    let cos_lo = d_rest(s[1], s[2], cos);
    let odd = (bitcast<M4>(a[0]) & M4(1lu)) == M4(1lu);
    let n = select(sin, -cos, odd);
    let m = select(cos, sin, odd);
    let inverse = d_over(D4(1.0lf), m);
    let y = opaque_d(n * inverse);
    let rest = opaque_d(opaque_d(select(sin_lo, -cos_lo, odd) - y * select(cos_lo, sin_lo, odd)) - d_residual(y, m, n));
    // Below 1e-8 it rounds to x.
    let z = bitcast<M4>(rest * inverse + y);
    return d_if_finite(bitcast<D4>(select(z, bitcast<M4>(x), d_magnitude(x) < M4(0x3e45798ee2308c3alu))), x);
}

// `quarters` pi/4 + v + w, w small against v. pi/4 in 50 bits, so that up to 4 of it are exact, and the rest.
fn d_add_to_quarters(quarters: D4, v: D4, w: D4) -> D4 {
    let base = opaque_d(quarters * 0.7853981633974483lf);
    let sum = opaque_d(base + v);
    return opaque_d(sum + opaque_d(d_rest(base, v, sum) + (quarters * 3.061616997868383e-17lf + w)));
}

// atan(n / m), 0 <= n <= m, m normal, as quarters of pi, v, w: with q = n/m above tan(pi/8) it is pi/4 + atan((n - m) / (n + m)). One division, its
// residual kept; minimax of degree 23, error 2^-59.
fn d_atan_quotient(n0: D4, m0: D4) -> array<D4, 3> {
    let zero = D4(0.0lf);
    let high = n0 > m0 * 0.41421356237309503lf;
    let difference = opaque_d(n0 - m0);
    let sum = opaque_d(m0 + n0);
    let n = select(n0, difference, high);
    let n_lo = select(zero, d_rest(-m0, n0, difference), high);
    let m = select(m0, sum, high);
    let m_lo = select(zero, d_rest(m0, n0, sum), high);
    let inverse = d_over(D4(1.0lf), m);
    let t = opaque_d(n * inverse);
    let t_lo = (opaque_d(n_lo - t * m_lo) - d_residual(t, m, n)) * inverse;
    let z = t * t;
    let p = (((((((((z * -0.017920812135671087lf + 0.03807701034235288lf) * z - 0.05039795150113746lf) * z + 0.05847998031354479lf) * z
        - 0.06663118931493821lf) * z + 0.07692061513548783lf) * z - 0.09090897829765746lf) * z + 0.11111110785915827lf) * z
        - 0.1428571428024431lf) * z + 0.19999999999954043lf) * z - 0.333333333333332lf;
    // d atan / dt = 1 / (1 + z), near enough 1 - z for the last bits.
    return array<D4, 3>(select(zero, D4(1.0lf), high), t, opaque_d(t * z * p + (t_lo - t_lo * z)));
}

// atan x. Error < 0.7 ulp.
fn d_atan(x: D4) -> D4 {
    // From 2^60 on the result is pi/2.
    let c = bitcast<D4>(d_magnitude(d_clamp(x, 1152921504606846976.0lf)));
    let one = D4(1.0lf);
    let inverted = c > one;
    let a = d_atan_quotient(select(c, one, inverted), select(one, c, inverted));
    let sign = select(one, -one, inverted);
    let y = d_add_to_quarters(select(D4(0.0lf), D4(2.0lf), inverted) + sign * a[0], sign * a[1], sign * a[2]);
    // Below 1e-8 it rounds to x.
    let z = select(bitcast<M4>(d_signed(y, x)), bitcast<M4>(x), d_magnitude(x) < M4(0x3e45798ee2308c3alu));
    return d_or_nan(bitcast<D4>(z), x);
}

// Angle of the point (x, y), signed zeros and infinities as C99 (F.10.1.4): both infinite count as (1, 1), one as (0, 1), both zero as (0, 1).
// Error < 0.85 ulp.
fn d_atan2(y: D4, x: D4) -> D4 {
    let ax = d_magnitude(x);
    let ay = d_magnitude(y);
    let steep = ay > ax;
    let less = select(ay, ax, steep);
    let more = select(ax, ay, steep);
    let endless = more >= M4(D_INF);
    let n = bitcast<D4>(select(less, select(M4(0lu), M4(D_ONE), less >= M4(D_INF)), endless));
    let m = bitcast<D4>(select(more, M4(D_ONE), endless | (more == M4(0lu))));
    // Powers of two bring m to where its reciprocal and the residual of the quotient are normal.
    let factor = select(D4(6.223015277861142e-61lf), D4(3.273390607896142e150lf), m < D4(3.273390607896142e150lf));
    let a = d_atan_quotient(opaque_d(n * factor), opaque_d(m * factor));
    let left = (bitcast<M4>(x) & M4(D_SIGN)) != M4(0lu);
    let base = select(select(D4(0.0lf), D4(4.0lf), left), D4(2.0lf), steep);
    let sign = select(D4(1.0lf), D4(-1.0lf), steep != left);
    let angle = d_signed(d_add_to_quarters(base + sign * a[0], sign * a[1], sign * a[2]), y);
    return d_or_nan(d_or_nan(angle, x), y);
}

// t and asin t - t for asin and acos: t = |x| below 1/2, else sqrt((1 - |x|) / 2) with its residual, and asin |x| = pi/2 - 2 asin t.
// Minimax of degree 27 in t, error 2^-59. |x| <= 1.
fn d_asin_parts(x: D4) -> array<D4, 2> {
    let small = x < D4(0.5lf);
    let half = opaque_d(0.5lf - 0.5lf * x);
    let root = opaque_d(d_root(half));
    let root_lo = d_over(-0.5lf * d_residual(root, root, half), select(root, D4(1.0lf), half == D4(0.0lf)));
    let z = select(half, x * x, small);
    let t = select(root, x, small);
    let p = (((((((((((z * 0.032679459457270514lf - 0.02108132485952301lf) * z + 0.02176629491763886lf) * z + 0.0036819149335364297lf) * z
        + 0.010786821645470773lf) * z + 0.011397724808604221lf) * z + 0.01398096758245097lf) * z + 0.017351599590669942lf) * z
        + 0.022372215687637777lf) * z + 0.03038194268266628lf) * z + 0.044642857175140285lf) * z + 0.07499999999970242lf) * z
        + 0.16666666666666763lf;
    return array<D4, 2>(t, opaque_d(t * z * p + select(root_lo, D4(0.0lf), small)));
}

// asin x. Error < 0.7 ulp.
fn d_asin(x: D4) -> D4 {
    let c = bitcast<D4>(d_magnitude(d_clamp(x, 1.0lf)));
    let a = d_asin_parts(c);
    let large = d_add_to_quarters(D4(2.0lf), -2.0lf * a[0], -2.0lf * a[1]);
    return d_within_one(d_signed(select(large, opaque_d(a[0] + a[1]), c < D4(0.5lf)), x), x);
}

// acos x. Error < 0.7 ulp.
fn d_acos(x: D4) -> D4 {
    let c = bitcast<D4>(d_magnitude(d_clamp(x, 1.0lf)));
    let a = d_asin_parts(c);
    let small = c < D4(0.5lf);
    let left = (bitcast<M4>(x) & M4(D_SIGN)) != M4(0lu);
    let quarters = select(select(D4(0.0lf), D4(4.0lf), left), D4(2.0lf), small);
    let factor = select(D4(2.0lf), D4(1.0lf), small) * select(D4(1.0lf), D4(-1.0lf), small != left);
    return d_within_one(d_add_to_quarters(quarters, factor * a[0], factor * a[1]), x);
}
