// The elementary functions of f32, four at a time: sines, arcs, the hyperbolic ones and erf. math_f32.wgsl has the others, says what both rely on, and
// serves these.
//
// Owns: angles, and how they are reduced. Must not know: operands, bindings, which program calls. Invariant: as there; and a reduced angle is a sum of
// two, so that nothing is lost near multiples of pi/2, up to the largest number.

const F_HALF_PI: f32 = 1.5707964;
const F_HALF_PI_LO: f32 = -4.371139e-08;

// The angle less the nearest multiple of pi/2: the quadrant (a number whose remainder by 4 counts), r and lo, with |r| <= pi/4 and a little and lo below an
// ulp of r. |x| <= pi/4 is r itself. Up to 1600 pi/2 is taken away in four parts, three of them with exact products.
fn f_quadrant(x: F4) -> mat3x4<f32> {
    let c = f_clip(x, 0x44c80000u);
    let k = floor(c * 0.63661975 + 0.5);
    // What the roundings lose comes back in lo.
    let t = opaque_f(c - k * 1.5706787109375);
    let u = opaque_f(t - k * 0.00011761486530303955);
    let v = opaque_f(u - k * 9.920313459588215e-10);
    let lost = ((t - u) - k * 0.00011761486530303955) + ((u - v) - k * 9.920313459588215e-10);
    let w = opaque_f(k * 6.223372e-14 - lost);
    let r = opaque_f(v - w);
    let near = mat3x4<f32>(k, r, (v - r) - w);
    let far = f_bits(x) > U4(0x44c80000u);
    if (!any(far)) {
        return near;
    }
    let l = f_quadrant_far(f_clip(x, 0x7f7fffffu));
    return mat3x4<f32>(select(near[0], l[0], far), select(near[1], l[1], far), select(near[2], l[2], far));
}

// The upper half of the product.
fn f_mul_hi(a: U4, b: U4) -> U4 {
    let al = a & U4(0xffffu);
    let ah = a >> U4(16u);
    let bl = b & U4(0xffffu);
    let bh = b >> U4(16u);
    let u = ah * bl + ((al * bl) >> U4(16u));
    return ah * bh + (u >> U4(16u)) + ((al * bh + (u & U4(0xffffu))) >> U4(16u));
}

// The same for 1600 < |x|, finite (Payne and Hanek): of 2/pi those 96 bits whose products with the mantissa are below 4 quadrants and above 2^-70
// of one; of the product the 64 leading bits: no f32 is closer than 2^-30 to a multiple.
fn f_quadrant_far(x: F4) -> mat3x4<f32> {
    let b = f_bits(x);
    let m = (b & U4(0x007fffffu)) | U4(0x00800000u);
    let start = (b >> U4(23u)) - 120u;
    // Words of 0 and 2/pi, from word start / 32 on.
    let four = (start & U4(128u)) != U4(0u);
    let a0 = select(U4(0u), U4(0xf534ddc0u), four);
    let a1 = select(U4(0xa2f9836eu), U4(0xdb629599u), four);
    let a2 = select(U4(0x4e441529u), U4(0x3c439041u), four);
    let a3 = select(U4(0xfc2757d1u), U4(0xfe5163abu), four);
    let two = (start & U4(64u)) != U4(0u);
    let b0 = select(a0, a2, two);
    let b1 = select(a1, a3, two);
    let b2 = select(a2, U4(0xf534ddc0u), two);
    let b3 = select(a3, U4(0xdb629599u), two);
    let b4 = select(U4(0xf534ddc0u), U4(0x3c439041u), two);
    let one = (start & U4(32u)) != U4(0u);
    let c0 = select(b0, b1, one);
    let c1 = select(b1, b2, one);
    let c2 = select(b2, b3, one);
    let c3 = select(b3, b4, one);
    // Their bits from start on.
    let s = start & U4(31u);
    let w0 = (c0 << s) | ((c1 >> U4(1u)) >> (31u - s));
    let w1 = (c1 << s) | ((c2 >> U4(1u)) >> (31u - s));
    let w2 = (c2 << s) | ((c3 >> U4(1u)) >> (31u - s));
    let middle = m * w1;
    let low = middle + f_mul_hi(m, w2);
    let high = m * w0 + f_mul_hi(m, w1) + select(U4(0u), U4(1u), low < middle);
    // Two bits of quadrant, then the fraction: from 1/2 on it counts from the next quadrant, backwards.
    let fraction = (high << U4(2u)) | (low >> U4(30u));
    let back = bitcast<U4>(bitcast<I4>(fraction) >> U4(31u));
    let g0 = fraction ^ back;
    let g1 = (low << U4(2u)) ^ back;
    let z = min(countLeadingZeros(g0), U4(31u));
    let g = (g0 << z) | ((g1 >> U4(1u)) >> (31u - z));
    // The leading bit of g is 1/2 of 2^-z quadrants: 24 bits and 8 more, times pi/2.
    let t = F4(g >> U4(8u)) * 5.9604645e-08;
    let top = f_top(t);
    let e = top * 1.5703125;
    let d = top * 0.0004838268 + ((t - top) + F4(g & U4(255u)) * 2.3283064e-10) * F_HALF_PI;
    let r = opaque_f(e + d);
    let sign = (bitcast<U4>(x) ^ back) & U4(0x80000000u);
    let unit = bitcast<F4>(bitcast<U4>(f_power(-I4(z))) | sign);
    let q = F4((high >> U4(30u)) + (back & U4(1u)));
    return mat3x4<f32>(f_signed(q, x), r * unit, ((e - r) + d) * unit);
}

// The sine and the cosine of r + lo, |r| <= pi/4 and a little, each as a sum of two, the first rounded.
fn f_sin_cos(r: F4, lo: F4) -> mat4x4<f32> {
    let z = r * r;
    let w = opaque_f(((-0.00019516656 * z + 0.008332173) * z - 0.16666655) * z * r + lo);
    let s = opaque_f(r + w);
    let tail = ((2.443773e-05 * z - 0.0013887362) * z + 0.041666646) * z * z;
    let v = opaque_f(0.5 * z - (tail - r * lo));
    let c = opaque_f(1.0 - v);
    return mat4x4<f32>(s, (r - s) + w, c, opaque_f(1.0 - c) - v);
}

// sin(r + lo) in quadrant 0, and on in the others.
fn f_sine(quadrant: I4, r: F4, lo: F4) -> F4 {
    let t = f_sin_cos(r, lo);
    let y = select(t[0], t[2], (quadrant & I4(1)) != I4(0));
    return bitcast<F4>(bitcast<I4>(y) ^ ((quadrant & I4(2)) << U4(30u)));
}

// Sine. Error < 1.1 ulp.
fn f_sin(x: F4) -> F4 {
    let a = f_quadrant(x);
    let b = f_bits(x);
    let y = select(f_sine(I4(a[0]), a[1], a[2]), x, b < U4(0x39800000u));
    return select(y, f_nan(), b >= U4(0x7f800000u));
}

// Cosine. Error < 1.2 ulp.
fn f_cos(x: F4) -> F4 {
    let a = f_quadrant(x);
    return select(f_sine(I4(a[0]) + 1, a[1], a[2]), f_nan(), f_bits(x) >= U4(0x7f800000u));
}

// Tangent: the quotient of sine and cosine, of odd quadrants of -cosine and sine. Error < 1.8 ulp.
fn f_tan(x: F4) -> F4 {
    let a = f_quadrant(x);
    let t = f_sin_cos(a[1], a[2]);
    let odd = (I4(a[0]) & I4(1)) != I4(0);
    let q = f_quotient(select(t[0], -t[2], odd), select(t[1], -t[3], odd), select(t[2], t[0], odd), select(t[3], t[1], odd));
    let b = f_bits(x);
    return select(select(q[0] + q[1], x, b < U4(0x39800000u)), f_nan(), b >= U4(0x7f800000u));
}

// h pi/2 + v + w, h in 0, 1, 2 and w small.
fn f_angle(h: F4, v: F4, w: F4) -> F4 {
    let base = h * F_HALF_PI;
    let sum = opaque_f(base + v);
    return sum + (opaque_f((base - sum) + v) + (h * F_HALF_PI_LO + w));
}

// atan(t + lo) - t, |t| <= 1, lo some ulp of t at most.
fn f_atan_rest(t: F4, lo: F4) -> F4 {
    let z = t * t;
    let low = (((-0.0017936602 * z + 0.010914772) * z - 0.031178145) * z + 0.05795788) * z - 0.08403467;
    let poly = (((low * z + 0.10952191) * z - 0.14264242) * z + 0.19998549) * z - 0.333333;
    // The derivative is 1 / (1 + z), nearly.
    return opaque_f(t * (z * poly) + lo * (1.0 - z * (0.83 - 0.33 * z)));
}

// Arc tangent; above 1 it is pi/2 - atan(1/x). Error < 1.5 ulp.
fn f_atan(x: F4) -> F4 {
    let a = f_clip(bitcast<F4>(f_bits(x)), 0x4e800000u);
    let turned = a > F4(1.0);
    let q = f_quotient(F4(1.0), F4(0.0), max(a, F4(1.0)), F4(0.0));
    let t = select(a, q[0], turned);
    let w = f_atan_rest(t, select(F4(0.0), q[1], turned));
    let y = select(t + w, f_angle(F4(1.0), -t, -w), turned);
    return select(f_signed(y, x), x, f_is_nan(x) | (f_bits(x) < U4(0x39800000u)));
}

// The angle of the point (x, y), signed zeros and infinities as in C. Error < 1.8 ulp.
fn f_atan2(y: F4, x: F4) -> F4 {
    let steep = f_bits(y) > f_bits(x);
    let less = min(f_bits(y), f_bits(x));
    let more = max(f_bits(y), f_bits(x));
    // Both infinite: as (1, 1); one infinite, or both zero: as (1, 0).
    let endless = more >= U4(0x7f800000u);
    let n = select(less, select(U4(0u), U4(0x3f800000u), less >= U4(0x7f800000u)), endless);
    let m = select(more, U4(0x3f800000u), endless | (more == U4(0u)));
    // The quotient of the mantissas, times a power of two.
    let q = f_quotient(F4(f_mantissa(n)), F4(0.0), F4(f_mantissa(m)), F4(0.0));
    let s = opaque_f(q[0] + q[1]);
    let d = max(f_exponent(n) - f_exponent(m), I4(-160));
    let t = select(f_scale(s, d), F4(0.0), n == U4(0u));
    let w = f_atan_rest(t, select(((q[0] - s) + q[1]) * f_power(max(d, I4(-126))), F4(0.0), n == U4(0u)));
    let left = bitcast<I4>(x) < I4(0);
    let base = select(select(F4(0.0), F4(2.0), left), F4(1.0), steep);
    let sign = select(F4(1.0), F4(-1.0), steep != left);
    let angle = select(f_angle(base, sign * t, sign * w), t + w, base == F4(0.0));
    return select(f_signed(angle, y), f_nan(), f_is_nan(x) | f_is_nan(y));
}

// t and asin t - t, for asin and acos: t = |x| below 1/2, else sqrt((1 - |x|) / 2), with asin |x| = pi/2 - 2 asin t.
fn f_asin_parts(x: F4) -> mat2x4<f32> {
    let a = f_clip(bitcast<F4>(f_bits(x)), 0x3f800000u);
    let half = opaque_f(0.5 - 0.5 * a);
    let small = a < F4(0.5);
    let root = f_root_pair(half, F4(0.0), F4(0.0));
    let z = select(half, a * a, small);
    let t = select(root[0], a, small);
    let poly = (((0.042230498 * z + 0.024141015) * z + 0.045478337) * z + 0.07495233) * z + 0.16666754;
    return mat2x4<f32>(t, opaque_f(t * (z * poly) + select(root[1], F4(0.0), small)));
}

// Arc sine. Error < 1.1 ulp.
fn f_asin(x: F4) -> F4 {
    let s = f_asin_parts(x);
    let b = f_bits(x);
    let y = select(f_angle(F4(1.0), -2.0 * s[0], -2.0 * s[1]), s[0] + s[1], b < U4(0x3f000000u));
    return select(f_signed(y, x), f_nan(), b > U4(0x3f800000u));
}

// Arc cosine. Error < 1.1 ulp.
fn f_acos(x: F4) -> F4 {
    let s = f_asin_parts(x);
    let left = bitcast<I4>(x) < I4(0);
    let small = f_bits(x) < U4(0x3f000000u);
    let times = select(F4(2.0), F4(1.0), small) * select(F4(1.0), F4(-1.0), small != left);
    let y = f_angle(select(select(F4(0.0), F4(2.0), left), F4(1.0), small), times * s[0], times * s[1]);
    return select(y, f_nan(), f_bits(x) > U4(0x3f800000u));
}

// Hyperbolic sine: up to 1 x + x^3 p(x^2), above e^x/2 - 1 / (4 e^x/2). Error < 2.4 ulp.
fn f_sinh(x: F4) -> F4 {
    let a = f_clip(bitcast<F4>(f_bits(x)), 0x42b40000u);
    let z = a * a;
    let small = a + opaque_f(a * (z * (((2.816951e-06 * z + 0.0001983616) * z + 0.00833335) * z + 0.16666667)));
    let half = f_exp_by(a, I4(-1));
    let large = select(half - f_over(F4(0.25), min(half, F4(1e9))), f_inf(), f_bits(x) > U4(0x42b2d4fcu));
    return select(f_signed(select(large, small, a < F4(1.0)), x), x, f_is_nan(x));
}

// Hyperbolic cosine: e^x/2 + 1 / (4 e^x/2). Error < 2.4 ulp.
fn f_cosh(x: F4) -> F4 {
    let half = f_exp_by(f_clip(bitcast<F4>(f_bits(x)), 0x42b40000u), I4(-1));
    let y = select(half + f_over(F4(0.25), min(half, F4(1e9))), f_inf(), f_bits(x) > U4(0x42b2d4fcu));
    return select(y, x, f_is_nan(x));
}

// Hyperbolic tangent: up to 1 x + x^3 p(x^2), above 1 - 2 / (e^2x + 1). Error < 2 ulp.
fn f_tanh(x: F4) -> F4 {
    let a = f_clip(bitcast<F4>(f_bits(x)), 0x41200000u);
    let z = a * a;
    let low = (((-0.00035845343 * z + 0.0023013689) * z - 0.007946111) * z + 0.021486659) * z - 0.0538798;
    let small = a + opaque_f(a * (z * ((low * z + 0.13332345) * z - 0.33333296)));
    let large = 1.0 - f_over(F4(2.0), f_exp_by(2.0 * a, I4(0)) + 1.0);
    let y = f_signed(select(large, small, a < F4(1.0)), x);
    return select(y, x, f_is_nan(x) | (f_bits(x) < U4(0x39000000u)));
}

// Inverse hyperbolic sine: up to 1 x + x^3 p(x^2), above log(x + sqrt(x^2 + 1)), from 2^30 on log(2 x). Error < 1.6 ulp.
fn f_asinh(x: F4) -> F4 {
    let a = f_clip(bitcast<F4>(f_bits(x)), 0x7f7fffffu);
    let c = min(a, F4(1073741824.0));
    let z = c * c;
    let low = (((-0.00039122172 * z + 0.002411869) * z - 0.0070458143) * z + 0.013609904) * z - 0.021007303;
    let small = c + opaque_f(c * (z * ((((low * z + 0.030065816) * z - 0.04460019) * z + 0.07499713) * z - 0.1666666)));
    let t = f_top(c);
    let s = f_root_pair(max(t * t, F4(1.0)), min(t * t, F4(1.0)), (c + t) * (c - t));
    let u = opaque_f(s[0] + c);
    let huge = a > c;
    let large = f_log_pair(select(u, a, huge), select(((s[0] - u) + c) + s[1], F4(0.0), huge), select(F4(0.0), F4(1.0), huge));
    return select(f_signed(select(large, small, a < F4(1.0)), x), x, f_bits(x) >= U4(0x7f800000u));
}

// Inverse hyperbolic cosine: log(x + sqrt(2 t + t^2)), t = x - 1, from 2^30 on log(2 x). Error < 1.6 ulp.
fn f_acosh(x: F4) -> F4 {
    let a = max(f_clip(x, 0x7f7fffffu), F4(1.0));
    let c = min(a, F4(1073741824.0));
    let t = opaque_f(c - 1.0);
    let tt = f_top(t);
    let s = f_root_pair(max(2.0 * t, tt * tt), min(2.0 * t, tt * tt), (t + tt) * (t - tt));
    let u = opaque_f(c + s[0]);
    let huge = a > c;
    let y = f_log_pair(select(u, a, huge), select(((c - u) + s[0]) + s[1], F4(0.0), huge), select(F4(0.0), F4(1.0), huge));
    let i = bitcast<I4>(x);
    return select(select(y, x, i == I4(0x7f800000)), f_nan(), (i < I4(0x3f800000)) | f_is_nan(x));
}

// Inverse hyperbolic tangent: up to 1/2 x + x^3 p(x^2), above log(1 + 2 x / (1 - x)) / 2. Error < 1.6 ulp.
fn f_atanh(x: F4) -> F4 {
    let a = f_clip(bitcast<F4>(f_bits(x)), 0x3f7fffffu);
    let z = a * a;
    let poly = ((((0.17726298 * z + 0.05094029) * z + 0.11835096) * z + 0.14221358) * z + 0.20002595) * z + 0.333333;
    let q = f_quotient(2.0 * a, F4(0.0), opaque_f(1.0 - a), F4(0.0));
    let u = opaque_f(1.0 + q[0]);
    let large = 0.5 * f_log_pair(u, ((q[0] - u) + 1.0) + q[1], F4(0.0));
    let y = f_signed(select(large, a + opaque_f(a * (z * poly)), a < F4(0.5)), x);
    let b = f_bits(x);
    return select(select(y, f_signed(f_inf(), x), b == U4(0x3f800000u)), f_nan(), b > U4(0x3f800000u));
}

// Error function: up to 1 x + x p(x^2), above 1 - 2^q(x), from 4 on 1. Error < 1.6 ulp.
fn f_erf(x: F4) -> F4 {
    let a = f_clip(bitcast<F4>(f_bits(x)), 0x40800000u);
    let z = a * a;
    let poly = (((7.853862e-05 * z - 0.00080101937) * z + 0.0051883277) * z - 0.026853811) * z + 0.112835854;
    let small = a + opaque_f(a * ((poly * z - 0.37612626) * z + 0.12837917));
    let low = (0.0002678953 * a - 0.004242681) * a + 0.031465612;
    let q = (((low * a - 0.14866714) * a - 0.92074627) * a - 1.6259868) * a - 0.00050730526;
    let k = floor(q + 0.5);
    let y = select(1.0 - f_exp2_by(q - k, I4(k)), small, a < F4(1.0));
    // There the second term may be subnormal.
    return select(f_signed(select(y, 1.1283792 * a, a < F4(1e-30)), x), x, f_is_nan(x));
}
