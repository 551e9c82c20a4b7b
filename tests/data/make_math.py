"""Writes math.json: arguments, correctly rounded results and residuals for the vector math, from mpmath.

    PYTHONPATH=... python3 make_math.py                    # math.json beside this file
    PYTHONPATH=... python3 make_math.py --dense 20000 FILE # the same as text lines with N more random arguments each

Format: {"source": ..., "functions": {name: ["x result residual" | "x y result residual", ...]}}; numbers are hex bit
patterns of f64; the exact value is result + residual * ulp(result), ulp of a power of two being the larger one.
Deterministic: one fixed seed for each function. NaN is 7ff8000000000000, whatever sign and payload the code gives.
"""
import json, math, random, struct, sys, os
import mpmath
from mpmath import mp, mpf
import numpy as np

mp.prec = 240
INF, NAN = math.inf, math.nan
MIN, SUB, MAX = 2.0**-1022, 2.0**-1074, 1.7976931348623157e308

def bits(x): return 0x7ff8000000000000 if x != x else struct.unpack('<Q', struct.pack('<d', x))[0]
def near(x, n=2):
    out = [x]; a = b = x
    for _ in range(n):
        a = math.nextafter(a, -INF); b = math.nextafter(b, INF); out += [a, b]
    return out

def rounded(v):
    """Nearest double of an mpf (ties to even) and (v - it) / ulp(it)."""
    if v == 0: return 0.0, 0.0
    s, man, e, bc = v._mpf_
    q = max(e + bc - 53, -1074)
    sh = q - e
    if sh <= 0: n, rem = man << -sh, mpf(0)
    else:
        n = man >> sh; r = man - (n << sh); half = 1 << (sh - 1)
        if r > half or (r == half and n & 1): n += 1
    if n.bit_length() + q > 1024: return (-INF if s else INF), 0.0
    d = math.ldexp(n, q)
    ulp = max(math.frexp(d)[1] - 53, -1074) if d else -1074
    res = (mpf(man) * mpf(2)**e - mpf(n) * mpf(2)**q) * mpf(2)**-ulp if sh < 3000 else mpf(0)
    return (-d if s else d), float(-res if s else res)

def log1p_(x):
    return mp.log1p(x)
def asinh_(x):
    a = abs(x); r = mp.log1p(a + a * a / (1 + mp.sqrt(1 + a * a))); return r if x > 0 else -r
def acosh_(x):
    t = x - 1; return mp.log1p(t + mp.sqrt(t * (t + 2)))
def atanh_(x):
    return mp.log1p(2 * x / (1 - x)) / 2
def acos_(x):
    return 2 * mp.asin(mp.sqrt((1 - x) / 2))
def cbrt_(x):
    return mp.cbrt(x) if x > 0 else -mp.cbrt(-x)
def tanh_(x):
    return mp.tanh(x) if abs(x) < 60 else (mpf(1) - 2 * mp.exp(-2 * abs(x))) * (1 if x > 0 else -1)
def erf_(x):
    return mp.erf(x) if abs(x) < 30 else (mpf(1) if x > 0 else mpf(-1))

# name: (exact function, special values by libm, (random arguments), [points whose neighbours are taken], domain)
R = {}
def logspace(rng, lo, hi): return 2.0 ** rng.uniform(lo, hi)
def sgn(rng): return rng.choice((-1, 1))
def wide(rng): return sgn(rng) * logspace(rng, -1074, 1023.99)
def wide_pos(rng): return logspace(rng, -1074, 1023.99)
def uni(a, b): return lambda rng: rng.uniform(a, b)
def logs(a, b, both=True): return lambda rng: (sgn(rng) if both else 1) * logspace(rng, a, b)
def around(c, a, b): return lambda rng: c + sgn(rng) * logspace(rng, a, b)
def half_pi(lo, hi):
    def f(rng):
        n = int(logspace(rng, lo, hi)); return float(mpf(n) * mp.pi / 2) * sgn(rng)
    return f
LN2 = math.log(2)
EXPK = [k * LN2 / 2 for k in (-3, -1, 1, 3, 5)]
TRIG = [2.0**30, 2.0**30 * 1.5, 1e22, 6381956970095103.0 * 2.0**797, 1e300, MAX, math.pi / 4, math.pi / 2, math.pi, 1e8, 1e9, 1e-8, 2.0**31 * math.pi]
R['exp'] = (mp.exp, np.exp, [uni(-2, 2), uni(-30, 30), uni(-708, 709.7), uni(-745.1, -708), logs(-60, 9)], EXPK + [709.782712893384, 710, -745.1332191019411, -708.3964185322641, -746, 1e-17, 1e-300])
R['log'] = (mp.log, np.log, [uni(.5, 2), logs(-1074, 1023.99, False), logs(-1074, -1022, False), around(1.0, -52, -2), uni(0, 100)], [1.0, 2**-.5, 2**.5, 2.0, .5, MIN, MAX, math.e])
for n, f, g in (('sin', mp.sin, np.sin), ('cos', mp.cos, np.cos), ('tan', mp.tan, np.tan)):
    R[n] = (f, g, [uni(-4, 4), uni(-100, 100), logs(-40, 30), half_pi(0, 29), half_pi(29, 60), logs(30, 1023.9)], TRIG)
R['tanh'] = (tanh_, np.tanh, [uni(-1, 1), uni(-5, 5), logs(-1074, 5), uni(.9, 1.2), uni(0, 20)], [.625, 1.0, 20.0, 19.06, 1e-8, 1e-300, LN2 / 4])
R['exp2'] = (lambda x: mp.power(2, x), np.exp2, [uni(-2, 2), uni(-1022, 1024), uni(-1075, -1022), logs(-60, 10)], [.5, -.5, 1.0, 1023.5, 1024.0, -1022.0, -1074.0, -1075.0, 1e-17])
R['expm1'] = (mp.expm1, np.expm1, [uni(-1, 1), logs(-1074, 0), uni(-45, 45), uni(0, 709.7), uni(-2, 2)], EXPK + [5e-17, -40.0, 709.782712893384, 1e-300, -37.4])
for n, b in (('log2', 2), ('log10', 10)):
    R[n] = (lambda x, b=b: mp.log(x) / mp.log(b), getattr(np, n), R['log'][2], R['log'][3] + [10.0, 100.0, 1e10, 1e22, .1, 8.0])
R['log1p'] = (log1p_, np.log1p, [uni(-1, 1), logs(-1074, 0), logs(0, 1023.99, False), lambda r: -1 + 2.0**r.uniform(-53, -1), uni(-.3, .45), uni(0, 100)], [5e-17, 2**.5 - 1, 2**-.5 - 1, 2.0**-53, -2.0**-53, 1.0, 2.0**53, MAX, 1e-300, -.99999])
R['atan'] = (mp.atan, np.arctan, [uni(-1, 1), uni(-5, 5), wide, logs(-10, 10)], [2**.5 - 1, 2**.5 + 1, 1.0, 2.0**60, 1e-8, 1e-300, MAX])
R['asin'] = (mp.asin, np.arcsin, [uni(-1, 1), uni(-.5, .5), logs(-1074, 0), lambda r: sgn(r) * (1 - 2.0**r.uniform(-53, -1))], [.5, -.5, 1e-300])
R['acos'] = (acos_, np.arccos, R['asin'][2], [.5, -.5, 1e-300, -1e-17, 0.70710678])
R['sinh'] = (mp.sinh, np.sinh, [uni(-1, 1), uni(-5, 5), uni(-710.4, 710.4), logs(-1074, 3), uni(.9, 1.5)], [1.0, 710.4758600739439, 709.78, 1e-300, LN2 / 2])
R['cosh'] = (mp.cosh, np.cosh, R['sinh'][2], R['sinh'][3])
R['cbrt'] = (cbrt_, np.cbrt, [uni(-10, 10), wide, logs(-1074, -1022), logs(-3, 3)], [1.0, 8.0, 27.0, 2**.5, 2**-.5, MIN, MAX, SUB])
R['erf'] = (erf_, np.vectorize(math.erf), [uni(-1, 1), uni(-3, 3), uni(1, 6), logs(-1074, 1)], [1.0, 6.0, 5.92, 3.5, 1e-300, .84375])
R['asinh'] = (asinh_, np.arcsinh, [uni(-3, 3), wide, logs(-30, 4)], [5e-9, 1e150, 1.0, MAX, 1e-300, .3])
R['acosh'] = (acosh_, np.arccosh, [uni(1, 3), logs(0, 1023.99, False), lambda r: 1 + 2.0**r.uniform(-52, 0), uni(1, 100)], [1e150, MAX, 1.5, 2.0])
R['atanh'] = (atanh_, np.arctanh, [uni(-1, 1), logs(-1074, 0), lambda r: sgn(r) * (1 - 2.0**r.uniform(-53, -1)), uni(-.3, .3)], [5e-9, .5, 1e-300, .17, .41])
def c_pow(x, y):
    try: return math.pow(x, y)
    except OverflowError: return INF
    except ValueError:      # (+-0)^negative or negative^fraction
        if x != 0: return NAN
        return math.copysign(INF, x) if y > -2.0**53 and int(y) == y and int(y) % 2 else INF
def pair(f, g): return lambda rng: (f(rng), g(rng))
def pow_wide(r):
    x = wide_pos(r); l = math.log(x); return (x, r.uniform(-745, 709.7) / l if l else 1.0)
def pow_near(r):
    x = 1 + sgn(r) * 2.0**r.uniform(-52, -1); return (x, r.uniform(-745, 709.7) / math.log(x))
def pow_sub(r):
    x = logspace(r, -60, 60); return (x, r.uniform(-745, -708) / math.log(x))
R['pow'] = (mp.power, c_pow, [pair(uni(0, 10), uni(-5, 5)), pow_wide, pow_near, pow_sub, pair(lambda r: -r.uniform(0, 9), lambda r: float(r.randint(-40, 40))), pair(logs(-1074, -1022, False), uni(-.99, 1))], [(2.0, 1023.0), (2.0, -1074.0), (2.0, 1024.0), (3.0, 2.0), (10.0, -3.0), (.5, 1074.0), (-2.0, -1074.0), (-2.0, 3.0), (1e-300, 1e-300), (MAX, 1.0), (SUB, 1.0), (SUB, -.9), (1 + 2.0**-52, 3.1e18), (1 - 2.0**-53, 6e18), (1 - 2.0**-53, -6e18), (-1.5, 2.0**53 + 2), (-1.0, 2.0**53 - 1), (-1.0 - 2.0**-52, 2.0**52 + 1), (-.9999999999, 2.0**31 + 1)])
R['hypot'] = (lambda x, y: mp.sqrt(x * x + y * y), np.hypot, [pair(uni(-10, 10), uni(-10, 10)), pair(wide, wide), lambda r: (lambda x: (x, x * logspace(r, -30, 30)))(logspace(r, -900, 900)), pair(logs(-1074, -1020), logs(-1074, -1020)), pair(logs(1010, 1023), logs(1000, 1023))], [(3.0, 4.0), (1e150, 1e150), (1e-120, 1e-120), (MAX, 1.0), (SUB, SUB), (MAX, SUB), (1.2e308, 1.3e308), (MIN, SUB)])
R['atan2'] = (mp.atan2, np.arctan2, [pair(uni(-2, 2), uni(-2, 2)), pair(wide, wide), lambda r: (lambda x: (x, sgn(r) * x * logspace(r, -60, 60)))(wide(r) * .5), pair(logs(-1074, -1020), logs(-1074, -1020)), pair(logs(1000, 1023.9), logs(1000, 1023.9)), pair(logs(-1074, -900), logs(-80, 80))], [(1.0, 1.0), (2**.5 - 1, 1.0), (1.0, 2**.5 - 1), (1.0, -1.0), (MAX, MAX), (SUB, MAX), (SUB, SUB), (SUB, -1.0), (1e-300, 1e10), (MIN, 2.0), (MIN * 1.5, -3.0)])
ORDER = 'exp log sin cos tanh pow exp2 expm1 log2 log10 log1p tan atan atan2 asin acos sinh cosh cbrt hypot erf asinh acosh atanh'.split()
EDGES = [0.0, -0.0, 1.0, -1.0, INF, -INF, NAN, SUB, -SUB, MIN, -MIN, MAX, -MAX, math.nextafter(MIN, 0), .5, -.5, 2.0, -2.0, math.nextafter(1, 2), math.nextafter(1, 0), 800.0, -800.0]
EDGES2 = [0.0, -0.0, 1.0, -1.0, INF, -INF, NAN, .5, -.5, 2.0, -2.0, 3.0, -3.0, SUB, -SUB, MAX, -MAX, 2.5, -2.5, 2.0**53, 2.0**53 - 1, math.nextafter(1, 0)]

# The argument with the greatest error found among 80 000 (--dense), for the code as of 2026-11.
WORST = {'exp': 'c08626224379c152', 'log': '3ff6a09e667f3bcb', 'sin': 'c05691baa6d9de68', 'cos': '40523f934441bf16', 'tanh':
         'bfeec8a5e1b78470', 'pow': '3fd677f70134c83f 408529a70709d8e0', 'exp2': 'c08ff67f0048b237', 'expm1':
         '3fd6eea209fb4850', 'log2': '3ff6443739423069', 'log10': '3ff4fedbc25cb67b', 'log1p': 'bc958e55be770e79', 'tan':
         'f172ba3953de6128', 'atan': 'bfd84ed0cbe067a0', 'atan2': '0479c8b7adacde54 4440614cfe6f8ff8', 'asin':
         '3fde0143ce0a5978', 'acos': '3fe21893f122ba5a', 'sinh': 'bfeb18b04ddfd79c', 'cosh': '3fda0fc140b1a4b0', 'cbrt':
         '40206a1cb453941a', 'hypot': '800a51dec539b113 000041f722fedf55', 'erf': '3fefd0422ede3ca0', 'asinh':
         '3ff1d6e6c3496848', 'acosh': '3ff0011b939b7be6', 'atanh': 'bfc501dd4cfb63ed'}

def value(name, a):
    exact, special, _, _ = R[name]
    if any(x == 0 or not math.isfinite(x) for x in a): ok = False
    else:
        x = a[0]; ok = True
        if name in ('log', 'log2', 'log10'): ok = x > 0
        if name == 'log1p': ok = x > -1
        if name == 'acosh': ok = x > 1
        if name == 'atanh': ok = abs(x) < 1
        if name in ('asin', 'acos'): ok = abs(x) <= 1 and not (name == 'acos' and x == 1)
        if name == 'pow':
            ok = x > 0 or a[1] == math.floor(a[1])
    if not ok:
        with np.errstate(all='ignore'): return float(special(*a)), 0.0
    if name in ('exp', 'sinh', 'cosh', 'expm1', 'exp2') and abs(a[0]) > 2000:
        with np.errstate(all='ignore'): return float(special(*a)), 0.0
    if name == 'pow':
        x, y = a; t = mpf(y) * mp.log(abs(mpf(x))); odd = abs(y) < 2.0**53 and int(y) % 2 == 1
        s = -1.0 if x < 0 and odd else 1.0
        if t > 800: return s * INF, 0.0
        if t < -800: return s * 0.0, 0.0
        d, r = rounded(mp.exp(t)); return (d, r) if s > 0 else (-d, -r)
    big = name in ('sin', 'cos', 'tan')
    d, r = rounded(exact(*[mpf(x) for x in a]))
    if d == 0 and name not in ('cosh', 'acos', 'exp', 'exp2'):
        d = math.copysign(0.0, a[0])
    return d, r

def arguments(name, count):
    two = name in ('pow', 'hypot', 'atan2')
    rng = random.Random('chunkwise ' + name)
    _, _, gens, points = R[name]
    out = []
    if two:
        out += [(x, y) for x in EDGES2 for y in EDGES2]
        for x, y in points: out += [(u, y) for u in near(x, 1)] + [(x, v) for v in near(y, 1)]
    else:
        out += [(x,) for x in EDGES]
        for x in points: out += [(u,) for u in near(x)] + [(-u,) for u in near(x, 1)]
    out.append(tuple(struct.unpack('<d', struct.pack('<Q', int(h, 16)))[0] for h in WORST[name].split()))
    n = max(count, 400 - len(out)) if not two else max(count, 200)
    for i in range(n):
        x = gens[i % len(gens)](rng); out.append(x if two else (x,))
    seen = set(); res = []
    for a in out:
        k = tuple(bits(x) for x in a)
        if k not in seen: seen.add(k); res.append(a)
    return res

def lines(name, count):
    for a in arguments(name, count):
        d, r = value(name, a)
        yield ' '.join('%016x' % bits(x) for x in a) + ' %016x %.4f' % (bits(d), r)

if __name__ == '__main__':
    if len(sys.argv) > 2 and sys.argv[1] == '--dense':
        with open(sys.argv[3], 'w') as f:
            for n in (sys.argv[4:] or ORDER):
                for l in lines(n, int(sys.argv[2])): f.write(n + ' ' + l + '\n')
    else:
        data = {'source': 'mpmath ' + mpmath.__version__ + ', %d bits; special values: C99 as in libm' % mp.prec, 'functions': {n: list(lines(n, 0)) for n in ORDER}}
        with open(os.path.join(os.path.dirname(os.path.abspath(__file__)), 'math.json'), 'w') as f:
            json.dump(data, f, separators=(',', ':')); f.write('\n')
