"""Derives every polynomial of src/*.rs by weighted Remez exchange in mpmath. Prints Rust constants (lowest power first)."""
import sys
from mpmath import mp, mpf, exp, log, sin, cos, sinh, tanh, atan, asin, atanh, erf, erfc, pi, sqrt, matrix, lu_solve, linspace, taylor
mp.dps = 60

def remez(f, a, b, n, w=lambda x: mpf(1), it=12, grid=600):
    """Polynomial of degree n with max |w (p - f)| least on [a, b]. Returns coefficients, error."""
    a, b = mpf(a), mpf(b)
    m = n + 2
    xs = [(a + b) / 2 - (b - a) / 2 * cos(pi * (2 * i + 1) / (2 * m)) for i in range(m)]
    g = [(a + b) / 2 - (b - a) / 2 * cos(pi * i / grid) for i in range(grid + 1)]
    fg = [f(x) for x in g]; wg = [w(x) for x in g]
    c0, h = (a + b) / 2, (b - a) / 2
    for _ in range(it):
        A = matrix(m, m); B = matrix(m, 1)
        for i, x in enumerate(xs):
            u = (x - c0) / h
            for j in range(n + 1): A[i, j] = u ** j
            A[i, n + 1] = (-1) ** i / w(x)
            B[i] = f(x)
        s = lu_solve(A, B); c = [s[j] for j in range(n + 1)]
        def p(x):
            u = (x - c0) / h; r = mpf(0)
            for k in reversed(c): r = r * u + k
            return r
        e = [wg[i] * (p(g[i]) - fg[i]) for i in range(grid + 1)]
        ext = []
        for i in range(grid + 1):      # one extremum per sign run
            if ext and (e[i] > 0) == (e[ext[-1]] > 0):
                if abs(e[i]) > abs(e[ext[-1]]): ext[-1] = i
            else: ext.append(i)
        while len(ext) > m:
            if abs(e[ext[0]]) < abs(e[ext[-1]]): ext.pop(0)
            else: ext.pop()
        if len(ext) < m: break
        new = [g[i] for i in ext]
        if new == xs: break
        xs = new
    # back to powers of x
    from mpmath import binomial
    out = [mpf(0)] * (n + 1)
    for j, k in enumerate(c):
        for i in range(j + 1):
            out[i] += k * binomial(j, i) * (-c0) ** (j - i) / h ** j
    return out, max(abs(v) for v in e)

def show(name, c, err=None):
    if err is not None: print(f"// {name}: 2^{float(log(err, 2)):.1f}")
    print(f"const {name}: [f64; {len(c)}] = [" + ", ".join(repr(float(v)) for v in c) + "];")

def tay(f, at0, x, eps='1e-9'):
    return f(x)
def safe(g, lim):
    return lambda x: g(x) if abs(x) > mpf('1e-12') else lim
def hexs(name, v):
    h = float(v); print(f"const {name}: f64 = {h!r};"); return mpf(h)

want = sys.argv[1:]
def do(n): return not want or n in want
L = log(mpf(2))
if do('const'):
    h = mpf(int(L * 2**43)) / 2**43   # ln2 with 43 bits: k * hi exact for |k| < 2^10 
    h = mpf(int(L * 2**42)) / 2**42
    hexs('LN2_HI', h); hexs('LN2_LO', L - h)
    v = hexs('LN2', L); hexs('LN2_TAIL', L - v)
    v = hexs('LOG2E', 1 / L); hexs('LOG2E_TAIL', 1 / L - v)
    t = 1 / log(mpf(10)); v = hexs('LOG10E', t); hexs('LOG10E_TAIL', t - v)
    t = L / log(mpf(10)); h = mpf(int(t * 2**42)) / 2**42; hexs('LOG10_2_HI', h); hexs('LOG10_2_LO', t - h)
    v = hexs('P1', pi / 2); w = hexs('P2', pi / 2 - v); hexs('P3', pi / 2 - v - w); hexs('TWO_OVER_PI', 2 / pi)
    v = hexs('PI_4', pi / 4); hexs('PI_4_TAIL', pi / 4 - v)
    v = hexs('THIRD', mpf(1) / 3); hexs('THIRD_TAIL', mpf(1) / 3 - v)
    hexs('TWO_OVER_SQRT_PI', 2 / sqrt(pi))
    v = hexs('EFX', 2 / sqrt(pi) - 1)
    for e in (-1, 0, 1): print('cbrt', e, repr(float(mpf(2) ** (mpf(-e) / 3))))
mp.dps = 50
if do('exp'):
    R = L / 2 * mpf('1.0001')
    c, e = remez(safe(lambda r: (exp(r) - 1 - r - r * r / 2) / r**3, mpf(1) / 6), -R, R, 9, lambda r: abs(r)**3 + mpf(10)**-9)
    show('EXP', c, e)
if do('exp2'):
    c, e = remez(safe(lambda r: (mpf(2)**r - 1 - r * L) / r**2, L * L / 2), '-0.50001', '0.50001', 10, lambda r: abs(r)**2 + mpf(10)**-7)
    show('EXP2', c, e)
S = ((sqrt(mpf(2)) - 1) / (sqrt(mpf(2)) + 1)) ** 2 * mpf('1.0001')
if do('log'):
    def f(z):
        s = sqrt(z); return (2 * atanh(s) - 2 * s) / s / z
    c, e = remez(lambda z: f(z) if z > 1e-12 else mpf(2) / 3 + 2 * z / 5, 0, S, 6, lambda z: z)
    show('LOG', c, e)
if do('powlog'):
    def f(z):
        s = sqrt(z); return (atanh(s) / s - 1 - z / 3) / z**2
    mp.dps = 70
    c, e = remez(lambda z: f(z) if z > 1e-12 else mpf(1) / 5 + z / 7, 0, S, 9, lambda z: z * z)
    show('POWLOG', c, e); mp.dps = 50
if do('sin'):
    Z = (pi / 4 * mpf('1.0005')) ** 2
    def f(z):
        s = sqrt(z); return (sin(s) - s) / s / z
    c, e = remez(lambda z: f(z) if z > 1e-12 else mpf(-1) / 6 + z / 120, 0, Z, 5, lambda z: z)
    show('SIN', c, e)
    c, e = remez(lambda z: (cos(sqrt(z)) - 1 + z / 2) / z**2 if z > 1e-9 else mpf(1) / 24 - z / 720, 0, Z, 5, lambda z: z * z)
    show('COS', c, e)
if do('sinh'):
    def f(z):
        s = sqrt(z); return (sinh(s) - s) / s / z
    c, e = remez(lambda z: f(z) if z > 1e-12 else mpf(1) / 6 + z / 120, 0, '1.0001', 7, lambda z: z)
    show('SINH', c, e)
if do('atan'):
    Z = (sqrt(mpf(2)) - 1) ** 2 * mpf('1.0001')
    def f(z):
        s = sqrt(z); return (atan(s) - s) / s / z
    c, e = remez(lambda z: f(z) if z > 1e-12 else mpf(-1) / 3 + z / 5, 0, Z, 10, lambda z: z)
    show('ATAN', c, e)
if do('asin'):
    def f(z):
        s = sqrt(z); return (asin(s) - s) / s / z
    c, e = remez(lambda z: f(z) if z > 1e-12 else mpf(1) / 6 + 3 * z / 40, 0, '0.25001', 12, lambda z: z)
    show('ASIN', c, e)
if do('cbrt'):
    c, e = remez(lambda m: m ** (mpf(-1) / 3), sqrt(mpf('0.5')), sqrt(mpf(2)), 4, lambda m: m ** (mpf(1) / 3))
    show('CBRT', c, e)
if do('inv'):
    c, e = remez(lambda f: 1 / (1 + f), sqrt(mpf('0.5')) - 1, sqrt(mpf(2)) - 1, 1)
    show('INV', c, e)
if do('tanh'):
    pass
if do('erfa'):
    def f(z):
        s = sqrt(z); return erf(s) / s - 2 / sqrt(pi)
    for n in (10, 11):
        c, e = remez(lambda z: f(z) / z if z > 1e-12 else -2 / sqrt(pi) / 3, 0, '1.0001', n, lambda z: z)
        show('ERF_SMALL', c, e)
if do('erfb'):
    for n in (20,):
        c, e = remez(lambda u: erfc(mpf('3.5') + u * mpf('2.5')) * exp((mpf('3.5') + u * mpf('2.5'))**2), -1, 1, n, lambda u: exp(-(mpf('3.5') + u * mpf('2.5'))**2), grid=500)
        show('ERFCX%d' % n, c, e)
if do('tanh'):
    # rational P/Q for (tanh s - s) / s^3 in z = s^2 by interpolation in Chebyshev nodes, Q(0) = 1
    def f(z):
        s = sqrt(z); return (tanh(s) - s) / s / z
    for n, d in ((2, 3), (3, 3)):
        Z = mpf('1.0001'); m = n + d + 1
        xs = [Z / 2 - Z / 2 * cos(pi * (2 * i + 1) / (2 * m)) for i in range(m)]
        A = matrix(m, m); B = matrix(m, 1)
        for i, x in enumerate(xs):
            for j in range(n + 1): A[i, j] = x ** j
            for j in range(1, d + 1): A[i, n + j] = -f(x) * x ** j
            B[i] = f(x)
        s = lu_solve(A, B); P = [s[j] for j in range(n + 1)]; Q = [mpf(1)] + [s[n + j] for j in range(1, d + 1)]
        ev = lambda c, x: sum(k * x ** i for i, k in enumerate(c))
        e = max(abs(z * (ev(P, z) / ev(Q, z) - f(z)) * sqrt(z) / tanh(sqrt(z))) for z in linspace(mpf('1e-6'), Z, 400))
        show('TANH_P', P, e); show('TANH_Q', Q)
