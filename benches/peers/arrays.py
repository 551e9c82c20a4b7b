"""The array language beside its peers on this machine, two threads each, whole calls, ours and a peer's in turn; prints medians and ratios.
Build first: cargo build --release --example lazy_slice --example expressions --example weighted_mean
usage: arrays.py [ROUNDS] [WORKLOAD..]   (numpy, numba, numexpr; dask and torch where they are installed)
Before each call that returns much, as much memory was touched and given back, on both sides."""
import json
import os
import statistics
import subprocess
import sys
import time

os.environ |= dict(OPENBLAS_NUM_THREADS="2", NUMBA_NUM_THREADS="2", OMP_NUM_THREADS="2", NUMEXPR_NUM_THREADS="2", MKL_NUM_THREADS="2")
import numpy as np

here = os.path.dirname(os.path.abspath(__file__))
target = os.environ.get("CARGO_TARGET_DIR", f"{here}/../../target") + "/release/examples"
rounds = int(sys.argv[1]) if len(sys.argv) > 1 else 3
wanted = sys.argv[2:]
N, M = 100_000_000, 10_000
cache = {}


def ours(program, flags):
    line = [f"{target}/{program}", "--threads", "2", "--device", "cpu", "--json", *flags.split()]
    return json.loads(subprocess.run(line, capture_output=True, text=True, check=True).stdout)


def timed(call, result_bytes=0):
    np.ones(result_bytes // 8 + 1)
    start = time.perf_counter()
    call()
    return time.perf_counter() - start


def once(name, make):
    if name not in cache:
        cache[name] = make()
    return cache[name]


def matrix():
    i, j = np.arange(M)[:, None], np.arange(M)[None, :]
    return ((31 * i + 17 * j + i * j) % 1024) / 1024.0


def numba_lazy():
    import numba

    @numba.njit(parallel=True)
    def z(x):
        h = x.shape[0] // 2
        out = np.empty(h)
        for k in numba.prange(h):
            total = 0.0
            for j in range(h, x.shape[0]):
                total += x[2 * k, j] + x[j, 2 * k]
            out[k] = total / h
        return out

    return z


def torch_lazy():
    import torch

    torch.set_num_threads(2)
    f = torch.compile(lambda x: (x + x.T)[::2, M // 2 :].mean(dim=1))
    x = torch.from_numpy(once("x", matrix))
    return lambda: f(x)


def dask_lazy(random):
    import dask
    import dask.array as da

    dask.config.set(scheduler="threads", num_workers=2)

    def call():
        x = da.random.random((M, M), chunks=1000) if random else da.from_array(once("x", matrix), chunks=1000)
        return (x + x.T)[::2, M // 2 :].mean(axis=1).compute()

    return call


def numba_loop(body):
    import numba

    names = {"np": np, "numba": numba}
    exec(f"@numba.njit(parallel=True)\ndef f(x):\n    out = np.empty_like(x)\n    for i in numba.prange(x.size):\n        v = x[i]\n        out[i] = {body}\n    return out", names)
    return names["f"]


def numexpr_of(text):
    import numexpr

    numexpr.set_num_threads(2)
    return lambda: numexpr.evaluate(text, dict(x=once("v", vector)))


def vector():
    return np.random.default_rng(0).random(N)


def numba_mean():
    import numba

    @numba.njit(parallel=True, fastmath=True)
    def mean(v, w):
        top = bottom = 0.0
        for i in numba.prange(v.size):
            top += v[i] * w[i]
            bottom += w[i]
        return top / bottom

    return lambda: mean(once("v", vector), once("w", lambda: np.random.default_rng(1).random(N)))


def torch_mean():
    import torch

    torch.set_num_threads(2)
    v, w = (torch.from_numpy(once(name, make)) for name, make in [("v", vector), ("w", lambda: np.random.default_rng(1).random(N))])
    f = torch.compile(lambda v, w: (v * w).sum() / w.sum())
    return lambda: f(v, w)


def row(name):
    """Ours of a row of `expressions`."""
    found = ours("expressions", f"--n {N} --repeat 3 --only {name}")["rows"]
    return [r["seconds"] for r in found if name in r["expression"]][0]


on_v = lambda f: lambda: f(once("v", vector))
rng = np.random.default_rng(0)
WORK = {
    "lazy": (lambda: ours("lazy_slice", f"--n {M} --repeat 6")["again_s"], 0, {"numba": lambda: (lambda z: lambda: z(once("x", matrix)))(numba_lazy()), "torch.compile": torch_lazy, "dask": lambda: dask_lazy(False)}),
    "lazy_random": (lambda: ours("lazy_slice", f"--n {M} --source random --repeat 6")["again_s"], 0, {"dask": lambda: dask_lazy(True)}),
    "weighted_mean": (lambda: ours("weighted_mean", f"--n {N} --repeat 3")["call_s"], 0, {"numba": numba_mean, "torch.compile": torch_mean}),
    "sin": (lambda: row("sin"), N * 8, {"numba": lambda: on_v(numba_loop("1.5 * v * v + 0.25 * v + np.sin(v)")), "numexpr": lambda: numexpr_of("1.5*x*x + 0.25*x + sin(x)")}),
    "where": (lambda: row("where"), N * 8, {"numba": lambda: on_v(numba_loop("1.5 * v if v > 0.5 else 0.25 - v"))}),
    "Horner": (lambda: row("Horner"), N * 8, {"numba": lambda: on_v(numba_loop("((((1.5 * v + 0.25) * v + 0.5) * v - 1.5) * v + 0.25) * v + 0.5"))}),
    "uniform": (lambda: row("uniform"), N * 8, {"numpy (one thread)": lambda: lambda: rng.random(N)}),
    "normal": (lambda: row("normal"), N * 8, {"numpy (one thread)": lambda: lambda: rng.standard_normal(N)}),
}
for name, (mine, result_bytes, peers) in WORK.items():
    if wanted and name not in wanted:
        continue
    times = {"ours": []}
    calls = {}
    for peer, make in peers.items():
        try:
            calls[peer] = make()
            calls[peer]()
        except ImportError:
            print(f"{name}: no {peer} here")
    for _ in range(rounds):
        times["ours"].append(mine())
        for peer, call in calls.items():
            times.setdefault(peer, []).extend(timed(call, result_bytes) for _ in range(3))
            time.sleep(0.05)  # its threads may spin for a while
    of_ours = statistics.median(times["ours"])
    for peer, all_s in times.items():
        print(f"{name:14} {peer:20} median {statistics.median(all_s):.4f} s, {min(all_s):.4f}..{max(all_s):.4f}   ratio {statistics.median(all_s) / of_ours:.2f}", flush=True)
