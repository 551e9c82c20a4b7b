"""Derives every constant and polynomial of shaders/math_f32.wgsl and math_f32_angles.wgsl: weighted Remez exchange in mpmath, rounded to f32.

Prints, for each, the error of the fit (log2 of the largest weighted error) and the coefficients, lowest power first. With names as arguments
only those.
"""
import struct
import sys

from mpmath import mp, mpf, asin, asinh, atan, atanh, cbrt, cos, erf, erfc, exp, log, lu_solve, matrix, pi, sin, sinh, sqrt, tanh

mp.dps = 40


def f32(v):
    """The nearest f32, as a float."""
    return struct.unpack("f", struct.pack("f", float(v)))[0]


def text(v):
    """The shortest decimal that is this f32."""
    for digits in range(1, 10):
        s = f"{f32(v):.{digits}g}"
        if f32(float(s)) == f32(v):
            return s if any(c in s for c in ".e") else s + ".0"
    raise ValueError(v)


def remez(f, a, b, n, w, grid=500, turns=15):
    """The polynomial of degree n whose largest |w (p - f)| on [a, b] is least: coefficients, and that error."""
    a, b = mpf(a), mpf(b)
    m = n + 2
    # Where a weight is 0, f is a limit and the equations would be singular: a little beside it.
    f, w = beside(f), beside(w)
    middle, half = (a + b) / 2, (b - a) / 2
    xs = [middle - half * cos(pi * (2 * i + 1) / (2 * m)) for i in range(m)]
    g = [middle - half * cos(pi * (2 * i + 1) / (2 * grid)) for i in range(grid)]
    fg, wg = [f(x) for x in g], [w(x) for x in g]
    for _ in range(turns):
        A, B = matrix(m, m), matrix(m, 1)
        for i, x in enumerate(xs):
            for j in range(n + 1):
                A[i, j] = ((x - middle) / half) ** j
            A[i, n + 1] = (-1) ** i / w(x)
            B[i] = f(x)
        s = lu_solve(A, B)
        c = shifted([s[j] for j in range(n + 1)], middle, half)
        e = [wg[i] * (value(c, g[i]) - fg[i]) for i in range(grid)]
        peaks = []  # the largest of each run of one sign
        for i in range(grid):
            if peaks and (e[i] > 0) == (e[peaks[-1]] > 0):
                if abs(e[i]) > abs(e[peaks[-1]]):
                    peaks[-1] = i
            else:
                peaks.append(i)
        while len(peaks) > m:
            peaks.pop(0 if abs(e[peaks[0]]) < abs(e[peaks[-1]]) else -1)
        new = [g[i] for i in peaks]
        if len(new) < m or new == xs:
            break
        xs = new
    return c, max(abs(v) for v in e)


def beside(f):
    return lambda x: f(x if abs(x) > mpf("1e-7") else mpf("1e-7"))


def value(c, x):
    r = mpf(0)
    for k in reversed(c):
        r = r * x + k
    return r


def shifted(c, middle, half):
    """Coefficients in (x - middle) / half as coefficients in x."""
    out = [mpf(0)]
    for k in reversed(c):
        new = [mpf(0)] * (len(out) + 1)
        for i, v in enumerate(out):
            new[i + 1] += v / half
            new[i] -= v * middle / half
        new[0] += k
        out = new
    return out[: len(c)]


def odd(f):
    """(f(s) - s) / s^3 as a function of z = s^2."""
    return lambda z: (f(sqrt(z)) - sqrt(z)) / (sqrt(z) * z)


def fit(name, f, a, b, n, w):
    if want and name not in want:
        return
    c, e = remez(f, a, b, n, w)
    print(f"{name}: 2^{float(log(e, 2)):.1f}\n    " + ", ".join(text(v) for v in c))


def parts(name, v, *bits):
    """v as a sum: of the first so many bits each, and the rest."""
    if want and name not in want:
        return
    out = []
    for n in bits:
        scale = mpf(2) ** (n - 1 - int(mp.floor(log(abs(v), 2))))
        h = mp.floor(v * scale) / scale
        out.append(repr(float(h)))
        v -= h
    print(f"{name}: " + ", ".join(out + [text(v)]))


want = sys.argv[1:]
L = log(mpf(2))
parts("ln2", L, 15)
parts("log2e", 1 / L, 12)
parts("log10e", 1 / log(mpf(10)), 12)
parts("log10_2", L / log(mpf(10)), 12)
parts("half_pi", pi / 2, 14, 14, 14)
parts("half_pi_12", pi / 2, 12)
parts("half_pi_24", mpf(f32(pi / 2)))
parts("half_pi_rest", pi / 2 - mpf(f32(pi / 2)))
parts("pow_first", 2 / L, 12)
parts("pow_second", 2 / (3 * L), 12)
if not want or "two_over_pi" in want:
    mp.dps = 90
    whole = int(mp.floor(2 / pi * mpf(2) ** 224))
    print("two_over_pi: " + ", ".join(f"0x{whole >> (192 - 32 * i) & 0xFFFFFFFF:08x}" for i in range(7)))
    mp.dps = 40

# e^r = 1 + r + r^2 q(r); the range is that of expm1.
fit("exp", lambda r: (exp(r) - 1 - r) / r**2, "-0.5005", "0.5005", 5, lambda r: r**2)
fit("exp2", lambda r: (2**r - 1) / r, "-0.5001", "0.5001", 5, abs)
# log(1 + f) = f + f^2 p(f)
fit("log", lambda f: (log(1 + f) - f) / f**2, sqrt(mpf(1) / 2) - 1, sqrt(mpf(2)) - 1, 8, lambda f: abs(f**2 / log(1 + f)))
Z = (pi / 4 * mpf("1.001")) ** 2
fit("sin", odd(sin), 0, Z, 2, lambda z: z)
fit("cos", lambda z: (cos(sqrt(z)) - 1 + z / 2) / z**2, 0, Z, 2, lambda z: z**2)
fit("tanh", odd(tanh), 0, 1, 6, lambda z: z * sqrt(z) / tanh(sqrt(z)))
fit("sinh", odd(sinh), 0, 1, 3, lambda z: z * sqrt(z) / sinh(sqrt(z)))
fit("atan", odd(atan), 0, 1, 8, lambda z: z * sqrt(z) / atan(sqrt(z)))
fit("asinh", odd(asinh), 0, 1, 8, lambda z: z * sqrt(z) / asinh(sqrt(z)))
fit("asin", odd(asin), 0, "0.2501", 4, lambda z: z)
fit("atanh", odd(atanh), 0, "0.2501", 5, lambda z: z)
fit("cbrt", lambda m: cbrt(m), 1, 2, 2, lambda m: 1 / cbrt(m))
fit("cbrt_rest", lambda e: (cbrt(1 + e) - 1) / e, "-0.016", "0.016", 2, abs)
fit("erf", lambda z: (erf(sqrt(z)) / sqrt(z) - 1), 0, 1, 6, lambda z: sqrt(z) / erf(sqrt(z)))
fit("erfc", lambda x: log(erfc(x), 2), "0.999", "4.0", 6, lambda x: erfc(x))
# log2(1 + f) = s (2/L + z (2/(3 L) + z r(z))), z = s^2, s = f / (2 + f)
S = ((sqrt(mpf(2)) - 1) / (sqrt(mpf(2)) + 1)) ** 2 * mpf("1.001")
fit("pow", lambda z: 2 / L * (atanh(sqrt(z)) / sqrt(z) - 1 - z / 3) / z**2, 0, S, 2, lambda z: z**2)
