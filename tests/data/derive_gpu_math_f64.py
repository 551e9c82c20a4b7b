"""Derives the constants of shaders/math_f64*.wgsl that the CPU's functions do not have: numbers cut to so few bits that products with them are exact, and what
is left of them. (Polynomials are the CPU's: derive_math.py.) Prints WGSL literals; with --check it looks for each in the shaders, and fails if one is not there."""
import glob
import os
import sys
from mpmath import mp, mpf, floor, frexp, ldexp, log, pi

mp.dps = 60
found = []


def cut(v, n):
    """The first n bits."""
    m, e = frexp(v)
    return ldexp(floor(m * 2**n), e - n)


def show(name, v):
    found.append(repr(float(v)))
    print(f'{name}: {float(v)!r}lf')


def parts(name, v, n):
    """v in n bits, and the rest rounded."""
    show(f'{name}, {n} bits', cut(v, n))
    show(f'{name}, the rest', v - cut(v, n))


ln2 = log(mpf(2))
parts('ln 2 (times whole numbers up to 2^11)', ln2, 42)
parts('ln 2 (times 26 bits)', ln2, 26)
parts('1 / ln 2 (times 26 bits)', 1 / ln2, 26)
parts('1 / ln 10 (times 26 bits)', 1 / log(mpf(10)), 26)
parts('log10(2) (times whole numbers up to 2^11)', ln2 / log(mpf(10)), 41)
parts('pi/4 (times whole numbers up to 4)', pi / 4, 50)
rest = pi / 2
for i in range(4):
    show(f'pi/2, part {i}, 23 bits', cut(rest, 23))
    rest -= cut(rest, 23)
show('pi/2, the rest', rest)
mp.prec = 1400
words = [0] + [int(floor(2 / pi * mpf(2) ** (64 * i))) % 2**64 for i in range(1, 21)]
print('2/pi: ' + ', '.join(f'{w:#018x}lu' if w else '0lu' for w in words))
found += [f'{w:#018x}lu' for w in words[1:]]
if '--check' in sys.argv:
    shaders = os.path.join(os.path.dirname(os.path.abspath(__file__)), '..', '..', 'shaders', 'math_f64*.wgsl')
    text = ''.join(open(path).read() for path in glob.glob(shaders))
    missing = [literal for literal in found if literal not in text]
    print('all are in the shaders' if not missing else f'not in the shaders: {missing}')
    sys.exit(bool(missing))
