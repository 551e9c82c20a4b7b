// What the scalar operations and casts of an element-wise program are on vectors of four elements, where an operator of WGSL is not enough.
//
// Not a module by itself: the generator (src/kernel/map/wgsl/) takes the functions that a program uses, and those that these call, and puts before them the aliases
// `F4 D4 I4 U4 L4 M4 B4` (vectors of four f32, f64, i32, u32, i64, u64, bool) and the parameters `p`, of which `p.zero` is 0 whatever a compiler thinks. A function's
// prefix is what it works on: f_ d_ i_ u_ l_ m_ b_. Each begins and ends at the start of a line.
//
// It rests on integers, bits and `select` alone where that decides: drivers may flush subnormal numbers, and assume that there is neither NaN nor infinity. So what is
// compared, or looked at, is looked at by bits.

// The same bits, and no compiler knows that: what is computed before is rounded, and neither contracted nor simplified away. Twice it is nothing: constants
// are hidden by sums.
fn opaque_f(x: F4) -> F4 {
    return bitcast<F4>(bitcast<U4>(x) ^ U4(p.zero));
}
fn opaque_d(x: D4) -> D4 {
    return bitcast<D4>(bitcast<M4>(x) ^ M4(u64(p.zero)));
}

// Integers in the order of the numbers, zeros alike: NaN lies beyond infinity on either side.
fn f_key(x: F4) -> I4 {
    let bits = bitcast<I4>(x);
    return select(bits, I4(bitcast<i32>(0x80000000u)) - bits, bits < I4(0));
}
fn d_key(x: D4) -> L4 {
    let bits = bitcast<L4>(x);
    return select(bits, L4(bitcast<i64>(0x8000000000000000lu)) - bits, bits < L4(0li));
}
fn d_is_nan(x: D4) -> B4 {
    return (bitcast<M4>(x) & M4(0x7ffffffffffffffflu)) > M4(0x7ff0000000000000lu);
}
fn f_is_finite(x: F4) -> B4 {
    return (bitcast<U4>(x) & U4(0x7fffffffu)) < U4(0x7f800000u);
}
fn d_is_finite(x: D4) -> B4 {
    return (bitcast<M4>(x) & M4(0x7ffffffffffffffflu)) < M4(0x7ff0000000000000lu);
}
fn f_is_infinite(x: F4) -> B4 {
    return (bitcast<U4>(x) & U4(0x7fffffffu)) == U4(0x7f800000u);
}
fn d_is_infinite(x: D4) -> B4 {
    return (bitcast<M4>(x) & M4(0x7ffffffffffffffflu)) == M4(0x7ff0000000000000lu);
}

// Comparisons: false where one is NaN, but `ne`.
fn f_eq(a: F4, b: F4) -> B4 {
    let x = f_key(a);
    return (x == f_key(b)) & (abs(x) <= I4(0x7f800000));
}
fn d_eq(a: D4, b: D4) -> B4 {
    let x = d_key(a);
    return (x == d_key(b)) & (abs(x) <= L4(0x7ff0000000000000li));
}
fn i_eq(a: I4, b: I4) -> B4 {
    return a == b;
}
fn u_eq(a: U4, b: U4) -> B4 {
    return a == b;
}
fn l_eq(a: L4, b: L4) -> B4 {
    return a == b;
}
fn m_eq(a: M4, b: M4) -> B4 {
    return a == b;
}
fn b_eq(a: B4, b: B4) -> B4 {
    return a == b;
}
fn f_ne(a: F4, b: F4) -> B4 {
    return !f_eq(a, b);
}
fn d_ne(a: D4, b: D4) -> B4 {
    return !d_eq(a, b);
}
fn i_ne(a: I4, b: I4) -> B4 {
    return a != b;
}
fn u_ne(a: U4, b: U4) -> B4 {
    return a != b;
}
fn l_ne(a: L4, b: L4) -> B4 {
    return a != b;
}
fn m_ne(a: M4, b: M4) -> B4 {
    return a != b;
}
fn b_ne(a: B4, b: B4) -> B4 {
    return a != b;
}
fn f_lt(a: F4, b: F4) -> B4 {
    let x = f_key(a);
    let y = f_key(b);
    return (x < y) & (x >= I4(-0x7f800000)) & (y <= I4(0x7f800000));
}
fn d_lt(a: D4, b: D4) -> B4 {
    let x = d_key(a);
    let y = d_key(b);
    return (x < y) & (x >= L4(-0x7ff0000000000000li)) & (y <= L4(0x7ff0000000000000li));
}
fn i_lt(a: I4, b: I4) -> B4 {
    return a < b;
}
fn u_lt(a: U4, b: U4) -> B4 {
    return a < b;
}
fn l_lt(a: L4, b: L4) -> B4 {
    return a < b;
}
fn m_lt(a: M4, b: M4) -> B4 {
    return a < b;
}
fn b_lt(a: B4, b: B4) -> B4 {
    return !a & b;
}
fn f_le(a: F4, b: F4) -> B4 {
    let x = f_key(a);
    let y = f_key(b);
    return (x <= y) & (x >= I4(-0x7f800000)) & (y <= I4(0x7f800000));
}
fn d_le(a: D4, b: D4) -> B4 {
    let x = d_key(a);
    let y = d_key(b);
    return (x <= y) & (x >= L4(-0x7ff0000000000000li)) & (y <= L4(0x7ff0000000000000li));
}
fn i_le(a: I4, b: I4) -> B4 {
    return a <= b;
}
fn u_le(a: U4, b: U4) -> B4 {
    return a <= b;
}
fn l_le(a: L4, b: L4) -> B4 {
    return a <= b;
}
fn m_le(a: M4, b: M4) -> B4 {
    return a <= b;
}
fn b_le(a: B4, b: B4) -> B4 {
    return !a | b;
}

// The lesser and the greater: NaN if one is; -0 is less than 0.
fn f_order(x: F4) -> I4 {
    let bits = bitcast<I4>(x);
    return select(bits, bits ^ I4(0x7fffffff), bits < I4(0));
}
fn d_order(x: D4) -> L4 {
    let bits = bitcast<L4>(x);
    return select(bits, bits ^ L4(0x7fffffffffffffffli), bits < L4(0li));
}
fn f_minimum(a: F4, b: F4) -> F4 {
    let lesser = select(b, a, f_order(a) < f_order(b));
    return select(select(lesser, b, f_is_nan(b)), a, f_is_nan(a));
}
fn d_minimum(a: D4, b: D4) -> D4 {
    let lesser = select(b, a, d_order(a) < d_order(b));
    return select(select(lesser, b, d_is_nan(b)), a, d_is_nan(a));
}
fn i_minimum(a: I4, b: I4) -> I4 {
    return min(a, b);
}
fn u_minimum(a: U4, b: U4) -> U4 {
    return min(a, b);
}
fn l_minimum(a: L4, b: L4) -> L4 {
    return min(a, b);
}
fn m_minimum(a: M4, b: M4) -> M4 {
    return min(a, b);
}
fn b_minimum(a: B4, b: B4) -> B4 {
    return a & b;
}
fn f_maximum(a: F4, b: F4) -> F4 {
    let greater = select(b, a, f_order(a) > f_order(b));
    return select(select(greater, b, f_is_nan(b)), a, f_is_nan(a));
}
fn d_maximum(a: D4, b: D4) -> D4 {
    let greater = select(b, a, d_order(a) > d_order(b));
    return select(select(greater, b, d_is_nan(b)), a, d_is_nan(a));
}
fn i_maximum(a: I4, b: I4) -> I4 {
    return max(a, b);
}
fn u_maximum(a: U4, b: U4) -> U4 {
    return max(a, b);
}
fn l_maximum(a: L4, b: L4) -> L4 {
    return max(a, b);
}
fn m_maximum(a: M4, b: M4) -> M4 {
    return max(a, b);
}
fn b_maximum(a: B4, b: B4) -> B4 {
    return a | b;
}
fn f_fmin(a: F4, b: F4) -> F4 {
    let lesser = select(b, a, f_order(a) < f_order(b));
    return select(select(lesser, a, f_is_nan(b)), b, f_is_nan(a));
}
fn d_fmin(a: D4, b: D4) -> D4 {
    let lesser = select(b, a, d_order(a) < d_order(b));
    return select(select(lesser, a, d_is_nan(b)), b, d_is_nan(a));
}
fn f_fmax(a: F4, b: F4) -> F4 {
    let greater = select(b, a, f_order(a) > f_order(b));
    return select(select(greater, a, f_is_nan(b)), b, f_is_nan(a));
}
fn d_fmax(a: D4, b: D4) -> D4 {
    let greater = select(b, a, d_order(a) > d_order(b));
    return select(select(greater, a, d_is_nan(b)), b, d_is_nan(a));
}

// Signs.
fn f_negate(a: F4) -> F4 {
    return bitcast<F4>(bitcast<U4>(a) ^ U4(0x80000000u));
}
fn d_negate(a: D4) -> D4 {
    return bitcast<D4>(bitcast<M4>(a) ^ M4(0x8000000000000000lu));
}
fn i_negate(a: I4) -> I4 {
    return I4(0) - a;
}
fn u_negate(a: U4) -> U4 {
    return U4(0u) - a;
}
fn l_negate(a: L4) -> L4 {
    return L4(0li) - a;
}
fn m_negate(a: M4) -> M4 {
    return M4(0lu) - a;
}
fn f_abs(a: F4) -> F4 {
    return bitcast<F4>(bitcast<U4>(a) & U4(0x7fffffffu));
}
fn d_abs(a: D4) -> D4 {
    return bitcast<D4>(bitcast<M4>(a) & M4(0x7ffffffffffffffflu));
}
fn i_abs(a: I4) -> I4 {
    return select(a, I4(0) - a, a < I4(0));
}
fn u_abs(a: U4) -> U4 {
    return a;
}
fn l_abs(a: L4) -> L4 {
    return select(a, L4(0li) - a, a < L4(0li));
}
fn m_abs(a: M4) -> M4 {
    return a;
}
fn f_sign(a: F4) -> F4 {
    let bits = bitcast<U4>(a);
    let one = bitcast<F4>((bits & U4(0x80000000u)) | U4(0x3f800000u));
    return select(one, a, ((bits & U4(0x7fffffffu)) == U4(0u)) | f_is_nan(a));
}
fn d_sign(a: D4) -> D4 {
    let bits = bitcast<M4>(a);
    let one = bitcast<D4>((bits & M4(0x8000000000000000lu)) | M4(0x3ff0000000000000lu));
    return select(one, a, ((bits & M4(0x7ffffffffffffffflu)) == M4(0lu)) | d_is_nan(a));
}
fn i_sign(a: I4) -> I4 {
    return min(max(a, I4(-1)), I4(1));
}
fn u_sign(a: U4) -> U4 {
    return min(a, U4(1u));
}
fn l_sign(a: L4) -> L4 {
    return min(max(a, L4(-1li)), L4(1li));
}
fn m_sign(a: M4) -> M4 {
    return min(a, M4(1lu));
}
fn f_copysign(a: F4, b: F4) -> F4 {
    return bitcast<F4>((bitcast<U4>(a) & U4(0x7fffffffu)) | (bitcast<U4>(b) & U4(0x80000000u)));
}
fn d_copysign(a: D4, b: D4) -> D4 {
    return bitcast<D4>((bitcast<M4>(a) & M4(0x7ffffffffffffffflu)) | (bitcast<M4>(b) & M4(0x8000000000000000lu)));
}

// Quotients and remainders of integers: by 0 they are 0, and the least number over -1 is itself.
fn i_safe(a: I4, b: I4) -> I4 {
    return select(b, I4(1), (b == I4(0)) | ((b == I4(-1)) & (a == I4(bitcast<i32>(0x80000000u)))));
}
fn l_safe(a: L4, b: L4) -> L4 {
    return select(b, L4(1li), (b == L4(0li)) | ((b == L4(-1li)) & (a == L4(bitcast<i64>(0x8000000000000000lu)))));
}
fn u_safe(b: U4) -> U4 {
    return max(b, U4(1u));
}
fn m_safe(b: M4) -> M4 {
    return max(b, M4(1lu));
}
fn d_divide(a: D4, b: D4) -> D4 {
    return d_over(a, b);
}
fn i_divide(a: I4, b: I4) -> I4 {
    return select(a / i_safe(a, b), I4(0), b == I4(0));
}
fn u_divide(a: U4, b: U4) -> U4 {
    return select(a / u_safe(b), U4(0u), b == U4(0u));
}
fn l_divide(a: L4, b: L4) -> L4 {
    return select(a / l_safe(a, b), L4(0li), b == L4(0li));
}
fn m_divide(a: M4, b: M4) -> M4 {
    return select(a / m_safe(b), M4(0lu), b == M4(0lu));
}
fn i_rem(a: I4, b: I4) -> I4 {
    let by = i_safe(a, b);
    return a - a / by * by;
}
fn u_rem(a: U4, b: U4) -> U4 {
    let by = u_safe(b);
    return a - a / by * by;
}
fn l_rem(a: L4, b: L4) -> L4 {
    let by = l_safe(a, b);
    return a - a / by * by;
}
fn m_rem(a: M4, b: M4) -> M4 {
    let by = m_safe(b);
    return a - a / by * by;
}
fn i_div_euclid(a: I4, b: I4) -> I4 {
    let by = i_safe(a, b);
    let q = a / by;
    let less = select(q, q - select(I4(-1), I4(1), by > I4(0)), a - q * by < I4(0));
    return select(less, I4(0), b == I4(0));
}
fn u_div_euclid(a: U4, b: U4) -> U4 {
    return u_divide(a, b);
}
fn l_div_euclid(a: L4, b: L4) -> L4 {
    let by = l_safe(a, b);
    let q = a / by;
    let less = select(q, q - select(L4(-1li), L4(1li), by > L4(0li)), a - q * by < L4(0li));
    return select(less, L4(0li), b == L4(0li));
}
fn m_div_euclid(a: M4, b: M4) -> M4 {
    return m_divide(a, b);
}
fn i_rem_euclid(a: I4, b: I4) -> I4 {
    let r = i_rem(a, b);
    return select(r, r + select(b, I4(0) - b, b < I4(0)), r < I4(0));
}
fn u_rem_euclid(a: U4, b: U4) -> U4 {
    return u_rem(a, b);
}
fn l_rem_euclid(a: L4, b: L4) -> L4 {
    let r = l_rem(a, b);
    return select(r, r + select(b, L4(0li) - b, b < L4(0li)), r < L4(0li));
}
fn m_rem_euclid(a: M4, b: M4) -> M4 {
    return m_rem(a, b);
}

// Rounding.
fn f_round(a: F4) -> F4 {
    let whole = trunc(a);
    let away = select(whole, whole + f_copysign(F4(1.0), a), f_abs(a - whole) >= F4(0.5));
    return select(a, f_copysign(away, a), f_abs(a) < F4(8388608.0));
}
fn d_round(a: D4) -> D4 {
    let whole = d_trunc(a);
    let away = select(whole, whole + d_copysign(D4(1.0lf), a), d_abs(a - whole) >= D4(0.5lf));
    return select(a, d_copysign(away, a), d_abs(a) < D4(4503599627370496.0lf));
}
fn f_trunc(a: F4) -> F4 {
    return select(a, f_copysign(trunc(a), a), f_abs(a) < F4(8388608.0));
}
fn f_floor(a: F4) -> F4 {
    return select(a, f_copysign(floor(a), a), f_abs(a) < F4(8388608.0));
}
fn f_ceil(a: F4) -> F4 {
    return select(a, f_copysign(ceil(a), a), f_abs(a) < F4(8388608.0));
}
fn f_round_ties_even(a: F4) -> F4 {
    return select(a, f_copysign(round(a), a), f_abs(a) < F4(8388608.0));
}
// Bits behind the point are cut off.
fn d_trunc(a: D4) -> D4 {
    let bits = bitcast<M4>(a);
    let exponent = U4((bits >> U4(52u)) & M4(0x7fflu));
    let behind = M4(0xffffffffffffflu) >> min(max(exponent, U4(1023u)) - U4(1023u), U4(52u));
    let mask = select(~behind, M4(0x8000000000000000lu), exponent < U4(1023u));
    return select(bitcast<D4>(bits & mask), a, exponent >= U4(1075u));
}
fn d_floor(a: D4) -> D4 {
    let whole = d_trunc(a);
    return d_copysign(select(whole, whole - D4(1.0lf), d_lt(a, whole)), a);
}
fn d_ceil(a: D4) -> D4 {
    let whole = d_trunc(a);
    return d_copysign(select(whole, whole + D4(1.0lf), d_lt(whole, a)), a);
}
fn d_round_ties_even(a: D4) -> D4 {
    // Beyond 2^52 there is nothing behind the point.
    let large = d_copysign(D4(4503599627370496.0lf), a);
    let rounded = d_copysign(opaque_d(a + large) - large, a);
    return select(a, rounded, d_abs(a) < D4(4503599627370496.0lf));
}
fn f_fract(a: F4) -> F4 {
    let nan = bitcast<F4>(U4(0x7fc00000u) + U4(p.zero));
    return select(nan, select(F4(0.0), a - trunc(a), f_abs(a) < F4(8388608.0)), f_is_finite(a));
}
fn d_fract(a: D4) -> D4 {
    let nan = bitcast<D4>(M4(0x7ff8000000000000lu) + M4(u64(p.zero)));
    return select(nan, a - d_trunc(a), d_is_finite(a));
}
fn d_sqrt(a: D4) -> D4 {
    let nan = bitcast<D4>(M4(0x7ff8000000000000lu) + M4(u64(p.zero)));
    let negative = d_lt(a, D4(0.0lf));
    return select(select(d_root(a), nan, negative), a, d_is_nan(a) | (d_abs(a) == D4(0.0lf)));
}

// Bits.
fn i_xor(a: I4, b: I4) -> I4 {
    return a ^ b;
}
fn u_xor(a: U4, b: U4) -> U4 {
    return a ^ b;
}
fn l_xor(a: L4, b: L4) -> L4 {
    return a ^ b;
}
fn m_xor(a: M4, b: M4) -> M4 {
    return a ^ b;
}
fn b_xor(a: B4, b: B4) -> B4 {
    return a != b;
}
fn i_not(a: I4) -> I4 {
    return ~a;
}
fn u_not(a: U4) -> U4 {
    return ~a;
}
fn l_not(a: L4) -> L4 {
    return ~a;
}
fn m_not(a: M4) -> M4 {
    return ~a;
}
fn b_not(a: B4) -> B4 {
    return !a;
}
fn i_shift_left(a: I4, b: I4, bits: u32) -> I4 {
    let by = bitcast<U4>(b);
    return select(I4(0), a << min(by, U4(31u)), by < U4(bits));
}
fn u_shift_left(a: U4, b: U4, bits: u32) -> U4 {
    return select(U4(0u), a << min(b, U4(31u)), b < U4(bits));
}
fn l_shift_left(a: L4, b: L4, bits: u32) -> L4 {
    let by = bitcast<M4>(b);
    return select(L4(0li), a << U4(min(by, M4(63lu))), by < M4(u64(bits)));
}
fn m_shift_left(a: M4, b: M4, bits: u32) -> M4 {
    return select(M4(0lu), a << U4(min(b, M4(63lu))), b < M4(u64(bits)));
}
fn i_shift_right(a: I4, b: I4, bits: u32) -> I4 {
    return a >> min(bitcast<U4>(b), U4(31u));
}
fn u_shift_right(a: U4, b: U4, bits: u32) -> U4 {
    return select(U4(0u), a >> min(b, U4(31u)), b < U4(bits));
}
fn l_shift_right(a: L4, b: L4, bits: u32) -> L4 {
    return a >> U4(min(bitcast<M4>(b), M4(63lu)));
}
fn m_shift_right(a: M4, b: M4, bits: u32) -> M4 {
    return select(M4(0lu), a >> U4(min(b, M4(63lu))), b < M4(u64(bits)));
}

// Integers of 8 and 16 bits are held in 32.
fn i_wrap(a: I4, bits: u32) -> I4 {
    return (a << U4(32u - bits)) >> U4(32u - bits);
}
fn u_wrap(a: U4, bits: u32) -> U4 {
    return a & U4((1u << bits) - 1u);
}

// Casts. To bool, all but 0 is true.
fn f_to_b(a: F4) -> B4 {
    return (bitcast<U4>(a) & U4(0x7fffffffu)) != U4(0u);
}
fn d_to_b(a: D4) -> B4 {
    return (bitcast<M4>(a) & M4(0x7ffffffffffffffflu)) != M4(0lu);
}
fn i_to_b(a: I4) -> B4 {
    return a != I4(0);
}
fn u_to_b(a: U4) -> B4 {
    return a != U4(0u);
}
fn l_to_b(a: L4) -> B4 {
    return a != L4(0li);
}
fn m_to_b(a: M4) -> B4 {
    return a != M4(0lu);
}
fn b_to_f(a: B4) -> F4 {
    return select(F4(0.0), F4(1.0), a);
}
fn b_to_d(a: B4) -> D4 {
    return select(D4(0.0lf), D4(1.0lf), a);
}
fn b_to_i(a: B4) -> I4 {
    return select(I4(0), I4(1), a);
}
fn b_to_u(a: B4) -> U4 {
    return select(U4(0u), U4(1u), a);
}
fn b_to_l(a: B4) -> L4 {
    return select(L4(0li), L4(1li), a);
}
fn b_to_m(a: B4) -> M4 {
    return select(M4(0lu), M4(1lu), a);
}
// Between integers: they wrap. What was widened is kept from compilers: Mesa's (22.3) compares it with constants as if it were never below nor 0.
fn i_to_u(a: I4) -> U4 {
    return bitcast<U4>(a);
}
fn u_to_i(a: U4) -> I4 {
    return bitcast<I4>(a);
}
fn l_to_m(a: L4) -> M4 {
    return bitcast<M4>(a);
}
fn m_to_l(a: M4) -> L4 {
    return bitcast<L4>(a);
}
fn i_to_l(a: I4) -> L4 {
    return L4(a) ^ L4(i64(p.zero));
}
fn i_to_m(a: I4) -> M4 {
    return bitcast<M4>(i_to_l(a));
}
fn u_to_l(a: U4) -> L4 {
    return bitcast<L4>(u_to_m(a));
}
fn u_to_m(a: U4) -> M4 {
    return M4(a) ^ M4(u64(p.zero));
}
fn l_to_i(a: L4) -> I4 {
    return bitcast<I4>(m_to_u(bitcast<M4>(a)));
}
fn l_to_u(a: L4) -> U4 {
    return m_to_u(bitcast<M4>(a));
}
fn m_to_i(a: M4) -> I4 {
    return bitcast<I4>(m_to_u(a));
}
fn m_to_u(a: M4) -> U4 {
    return U4(a & M4(0xfffffffflu));
}
// To floats: the nearest. Both halves are exact, and their sum is rounded once, contracted or not.
fn i_to_f(a: I4) -> F4 {
    return F4(a >> U4(16u)) * F4(65536.0) + F4(a & I4(0xffff));
}
fn u_to_f(a: U4) -> F4 {
    return F4(a >> U4(16u)) * F4(65536.0) + F4(a & U4(0xffffu));
}
fn i_to_d(a: I4) -> D4 {
    return D4(a);
}
fn u_to_d(a: U4) -> D4 {
    return D4(a);
}
fn l_to_d(a: L4) -> D4 {
    return D4(l_to_i(a >> U4(32u))) * D4(4294967296.0lf) + D4(l_to_u(a));
}
fn m_to_d(a: M4) -> D4 {
    return D4(m_to_u(a >> U4(32u))) * D4(4294967296.0lf) + D4(m_to_u(a));
}
fn l_to_f(a: L4) -> F4 {
    let is_negative = a < L4(0li);
    let size = m_to_f(bitcast<M4>(select(a, L4(0li) - a, is_negative)));
    return select(size, f_negate(size), is_negative);
}
// The highest 32 bits, the last of which says whether there are more.
fn m_to_f(a: M4) -> F4 {
    let high = m_to_u(a >> U4(32u));
    let by = U4(32u) - min(countLeadingZeros(high), U4(32u));
    let top = m_to_u(a >> by);
    let more = (M4(top) << by) != a;
    let scale = bitcast<F4>((by + U4(127u)) << U4(23u));
    return u_to_f(top | select(U4(0u), U4(1u), more)) * scale;
}
fn f_to_d(a: F4) -> D4 {
    return D4(a);
}
fn d_to_f(a: D4) -> F4 {
    return opaque_f(F4(a));
}
// From floats to integers: cut, the nearest where that is none, NaN is 0.
fn f_to_i(a: F4) -> I4 {
    let bits = bitcast<I4>(a);
    let inside = I4(select(F4(0.0), a, (bitcast<U4>(a) & U4(0x7fffffffu)) < U4(0x4f000000u)));
    let beyond = select(I4(bitcast<i32>(0x80000000u)), I4(0x7fffffff), bits >= I4(0));
    let cut = select(inside, beyond, (bitcast<U4>(a) & U4(0x7fffffffu)) >= U4(0x4f000000u));
    return select(cut, I4(0), f_is_nan(a));
}
fn f_to_u(a: F4) -> U4 {
    let bits = bitcast<I4>(a);
    let is_inside = (bits >= I4(0)) & (bits < I4(0x4f800000));
    let inside = U4(select(F4(0.0), a, is_inside));
    return select(inside, U4(0xffffffffu), (bits >= I4(0x4f800000)) & (bits <= I4(0x7f800000)));
}
// Of a positive number below 2^64.
fn f_size(a: F4) -> M4 {
    let bits = bitcast<U4>(a);
    let exponent = (bits >> U4(23u)) & U4(0xffu);
    let mantissa = M4((bits & U4(0x7fffffu)) | U4(0x800000u));
    let up = mantissa << min(max(exponent, U4(150u)) - U4(150u), U4(63u));
    let down = mantissa >> min(U4(150u) - min(exponent, U4(150u)), U4(63u));
    return select(select(down, up, exponent >= U4(150u)), M4(0lu), exponent < U4(127u));
}
fn f_to_l(a: F4) -> L4 {
    let size = bitcast<L4>(f_size(a));
    let is_negative = bitcast<I4>(a) < I4(0);
    let inside = select(size, L4(0li) - size, is_negative);
    let beyond = select(L4(0x7fffffffffffffffli), L4(bitcast<i64>(0x8000000000000000lu)), is_negative);
    let cut = select(inside, beyond, (bitcast<U4>(a) & U4(0x7fffffffu)) >= U4(0x5f000000u));
    return select(cut, L4(0li), f_is_nan(a));
}
fn f_to_m(a: F4) -> M4 {
    let bits = bitcast<I4>(a);
    let cut = select(f_size(a), M4(0xfffffffffffffffflu), bits >= I4(0x5f800000));
    return select(cut, M4(0lu), (bits < I4(0)) | f_is_nan(a));
}
fn d_size(a: D4) -> M4 {
    let bits = bitcast<M4>(a);
    let exponent = U4((bits >> U4(52u)) & M4(0x7fflu));
    let mantissa = (bits & M4(0xffffffffffffflu)) | M4(0x10000000000000lu);
    let up = mantissa << min(max(exponent, U4(1075u)) - U4(1075u), U4(63u));
    let down = mantissa >> min(U4(1075u) - min(exponent, U4(1075u)), U4(63u));
    return select(select(down, up, exponent >= U4(1075u)), M4(0lu), exponent < U4(1023u));
}
fn d_to_l(a: D4) -> L4 {
    let size = bitcast<L4>(d_size(a));
    let is_negative = bitcast<L4>(a) < L4(0li);
    let inside = select(size, L4(0li) - size, is_negative);
    let beyond = select(L4(0x7fffffffffffffffli), L4(bitcast<i64>(0x8000000000000000lu)), is_negative);
    let cut = select(inside, beyond, (bitcast<M4>(a) & M4(0x7ffffffffffffffflu)) >= M4(0x43e0000000000000lu));
    return select(cut, L4(0li), d_is_nan(a));
}
fn d_to_m(a: D4) -> M4 {
    let bits = bitcast<L4>(a);
    let cut = select(d_size(a), M4(0xfffffffffffffffflu), bits >= L4(0x43f0000000000000li));
    return select(cut, M4(0lu), (bits < L4(0li)) | d_is_nan(a));
}
fn d_to_i(a: D4) -> I4 {
    return l_to_i(min(max(d_to_l(a), L4(-2147483648li)), L4(2147483647li)));
}
fn d_to_u(a: D4) -> U4 {
    return l_to_u(min(max(d_to_l(a), L4(0li)), L4(4294967295li)));
}

// f16: as its 16 bits, and as the f32 that it is.
fn half_to_f(bits: U4) -> F4 {
    let size = bits & U4(0x7fffu);
    let normal = (size << U4(13u)) + select(U4(0x38000000u), U4(0x70000000u), size >= U4(0x7c00u));
    let small = bitcast<U4>(F4(size) * F4(5.9604644775390625e-8));
    let sign = (bits & U4(0x8000u)) << U4(16u);
    return bitcast<F4>(select(normal, small, size < U4(0x400u)) | sign);
}
// To the nearest, ties to even, by integers.
fn f_to_half(a: F4) -> U4 {
    let bits = bitcast<U4>(a);
    let size = bits & U4(0x7fffffffu);
    let normal = (size + U4(0xfffu) + ((size >> U4(13u)) & U4(1u)) - U4(0x38000000u)) >> U4(13u);
    let by = min(U4(126u) - min(size >> U4(23u), U4(126u)), U4(25u));
    let mantissa = (size & U4(0x7fffffu)) | U4(0x800000u);
    let rest = mantissa & ((U4(1u) << by) - U4(1u));
    let half = U4(1u) << (max(by, U4(1u)) - U4(1u));
    let cut = mantissa >> by;
    let up = (rest > half) | ((rest == half) & ((cut & U4(1u)) == U4(1u)));
    let small = select(cut, cut + U4(1u), up);
    let finite = select(min(normal, U4(0x7c00u)), small, size < U4(0x38800000u));
    let nan = U4(0x7e00u) | ((size >> U4(13u)) & U4(0x3ffu));
    return select(finite, nan, size > U4(0x7f800000u)) | ((bits >> U4(16u)) & U4(0x8000u));
}
fn f_round_to_half(a: F4) -> F4 {
    return half_to_f(f_to_half(a));
}
// bf16: the upper half of an f32.
fn brain_to_f(bits: U4) -> F4 {
    return bitcast<F4>(bits << U4(16u));
}
fn f_to_brain(a: F4) -> U4 {
    let bits = bitcast<U4>(a);
    let rounded = (bits + U4(0x7fffu) + ((bits >> U4(16u)) & U4(1u))) >> U4(16u);
    return select(rounded, (bits >> U4(16u)) | U4(0x40u), f_is_nan(a));
}
fn f_round_to_brain(a: F4) -> F4 {
    return brain_to_f(f_to_brain(a));
}
// An f64 as the f32 that a further rounding takes for it: cut, and its last bit 1 if anything was cut off.
fn d_to_odd(a: D4) -> F4 {
    let bits = bitcast<M4>(a);
    let cut = bits & M4(0xffffffffe0000000lu);
    let odd = cut | select(M4(0lu), M4(0x20000000lu), cut != bits);
    return select(F4(bitcast<D4>(odd)), F4(a), d_is_nan(a));
}
fn d_round_to_half(a: D4) -> F4 {
    return f_round_to_half(d_to_odd(a));
}
fn d_round_to_brain(a: D4) -> F4 {
    return f_round_to_brain(d_to_odd(a));
}

// The bits of the f64 that an f32 is, the lower word first: for results of GPUs that have none. 896 is the difference of the exponents' biases.
fn f_double(x: f32) -> vec2<u32> {
    let bits = bitcast<u32>(x);
    let sign = bits & 0x80000000u;
    var exponent = (bits >> 23u) & 0xffu;
    var fraction = bits & 0x7fffffu;
    if (exponent == 0xffu) {
        return vec2<u32>(fraction << 29u, sign | 0x7ff00000u | (fraction >> 3u));
    }
    exponent += 896u;
    if (exponent == 896u) {
        if (fraction == 0u) {
            return vec2<u32>(0u, sign);
        }
        let shift = countLeadingZeros(fraction) - 8u; // brings the first 1 to bit 23, where a normal number has one
        fraction = (fraction << shift) & 0x7fffffu;
        exponent = 897u - shift;
    }
    return vec2<u32>(fraction << 29u, sign | (exponent << 20u) | (fraction >> 3u));
}
