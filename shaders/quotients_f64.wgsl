// Quotients and roots in f64 where a driver's own are not the nearest numbers (a self-test tells): in place of those in `math_f64.wgsl`, of the same names.
//
// Owns: `d_over`, `d_root`. Must not know: who calls them, on what. Relies on: what `math_f64.wgsl` relies on, but for `/` and `sqrt`, which are off by less than 2^-20 of
// the exact result: quotients by numbers from 1 to 4, of others and of what remains of them, which is small; roots of numbers from 1 to 4. Invariant: for whatever arguments, infinities, NaN, zeroes and subnormal ones included, the error is within 1 ulp: the
// driver's result is mended twice by its residual, which is exact, on numbers from 1 to 4; their scale is in integers.
//
// Only `const` and `fn` items, each with its comment directly above: the generator takes those that a program needs.

// The bits of |x|, of subnormals those of x 2^1074.
fn d_shown(m: M4) -> M4 {
    return select(m, bitcast<M4>(d_float(m)), m < M4(D_IMPLIED));
}

// The exponent to them, biased.
fn d_power_of(m: M4) -> L4 {
    return bitcast<L4>(d_shown(m) >> U4(52u)) - select(L4(0li), L4(1074li), m < M4(D_IMPLIED));
}

// The number from 1 to 2 that they say.
fn d_fraction_of(m: M4) -> D4 {
    return bitcast<D4>((d_shown(m) & M4(D_FRACTION)) | M4(D_ONE));
}

// What has to be added to q for x / y: the driver's quotient of the residual.
fn d_over_rest(q: D4, x: D4, y: D4) -> D4 {
    return opaque_d(opaque_d(-d_residual(q, y, x)) / y);
}

// a / b: of the numbers from 1 to 2 first.
fn d_over(a: D4, b: D4) -> D4 {
    let ma = d_magnitude(a);
    let mb = d_magnitude(b);
    let x = opaque_d(d_fraction_of(ma));
    let y = opaque_d(d_fraction_of(mb));
    let rough = opaque_d(x / y);
    let close = opaque_d(rough + d_over_rest(rough, x, y));
    let q = opaque_d(close + d_over_rest(close, x, y));
    let finite = bitcast<M4>(d_scale(q, max(d_power_of(ma) - d_power_of(mb), L4(-1200li))));
    let inf = M4(D_INF);
    let no = M4(0lu);
    let sized = select(select(finite, no, (ma == no) | (mb == inf)), inf, (ma == inf) | (mb == no));
    let is_nan = (ma > inf) | (mb > inf) | ((ma == no) & (mb == no)) | ((ma == inf) & (mb == inf));
    let sign = (bitcast<M4>(a) ^ bitcast<M4>(b)) & M4(D_SIGN);
    return bitcast<D4>(select(sized | sign, M4(D_NAN), is_nan));
}

// What has to be added to s for the root of x.
fn d_root_rest(s: D4, x: D4) -> D4 {
    return opaque_d(opaque_d(-0.5lf * d_residual(s, s, x)) / s);
}

// The root of x >= 0: of a number from 1 to 4 first.
fn d_root(x: D4) -> D4 {
    let m = d_magnitude(x);
    let k = d_power_of(m) - L4(1023li);
    let odd = k & L4(1li);
    let f = opaque_d(bitcast<D4>(bitcast<M4>(d_fraction_of(m)) + (bitcast<M4>(odd) << U4(52u))));
    let rough = opaque_d(sqrt(f));
    let close = opaque_d(rough + d_root_rest(rough, f));
    let s = opaque_d(close + d_root_rest(close, f));
    let finite = bitcast<M4>(d_scale(s, (k - odd) / L4(2li)));
    return bitcast<D4>(select(finite, bitcast<M4>(x), (m == M4(0lu)) | (m >= M4(D_INF))));
}
