"""The Python peers of benches/peers/run.sh. One number (seconds) per repeat on stdout. Needs numpy and numba.
With PEERS_SERVE set, one number per line of stdin instead. usage: peers.py mandelbrot ROWS COLUMNS ITERATIONS | matvec N | versions"""
import os
import sys
import time

import numpy as np

REPEATS = 5


def timed(job):
    job()  # compilation, first touch
    serves = "PEERS_SERVE" in os.environ
    if serves:
        print("ready", flush=True)
    for _ in sys.stdin if serves else range(REPEATS):
        start = time.perf_counter()
        job()
        print(time.perf_counter() - start, flush=True)


def mandelbrot(rows, columns, iterations):
    import numba

    @numba.njit(parallel=True)
    def escape(x, y, out, most):
        for r in numba.prange(y.size):
            ci = y[r]
            for j in range(x.size):
                cr = x[j]
                zr, zi = cr, ci
                n = most
                for i in range(most):
                    r2, i2 = zr * zr, zi * zi
                    zi = 2.0 * zr * zi + ci
                    zr = r2 - i2 + cr
                    if zr * zr + zi * zi > 16.0:
                        n = i
                        break
                out[r, j] = n

    y, x = (a.ravel().copy() for a in np.ogrid[-1 : 0 : rows * 1j, -1.5 : 0 : columns * 1j])

    def job():
        out = np.empty((rows, columns), np.int32)
        escape(x, y, out, iterations)

    timed(job)


def matvec(n):
    rng = np.random.default_rng(0)
    a, x = rng.random((n, n)), rng.random(n)
    timed(lambda: a @ x)


def versions():
    import numba

    print(f"Python {sys.version.split()[0]}, NumPy {np.__version__}, numba {numba.__version__}")


what, *numbers = sys.argv[1:]
{"mandelbrot": mandelbrot, "matvec": matvec, "versions": versions}[what](*map(int, numbers))
