"""Ours and a peer, one call each in turn: for a machine that others use too. Build the examples first, and
`cc -O2 -pthread benches/peers/plain_read.c -o WORK/plain_read`. Prints medians, least times and both ratios (peer / ours).
usage: alternate.py mandelbrot20|mandelbrot500|matvec|mean ROUNDS WORK     (WORK: a folder for the file, plain_read, measured costs)"""
import json
import os
import statistics
import subprocess
import sys
import time

what, rounds, work = sys.argv[1], int(sys.argv[2]), sys.argv[3]
here = os.path.dirname(os.path.abspath(__file__))
target = os.environ.get("CARGO_TARGET_DIR", f"{here}/../../target") + "/release/examples"
env = {k: v for k, v in os.environ.items() if k not in ("OPENBLAS_CORETYPE", "OPENBLAS_L2_SIZE")}  # NumPy as it comes
env |= dict(OPENBLAS_NUM_THREADS="2", NUMBA_NUM_THREADS="2", OMP_NUM_THREADS="2", CHUNKWISE_CACHE_DIR=f"{work}/cache")


def ours(program, field, flags):
    line = [f"{target}/{program}", "--threads", "2", "--json", *flags.split()]
    value = json.loads(subprocess.run(line, env=env, capture_output=True, text=True, check=True).stdout)[field]
    return value if isinstance(value, list) else [value]


def server(words):
    line = [sys.executable, f"{here}/peers.py", *words.split()]
    peer = subprocess.Popen(line, env=env | {"PEERS_SERVE": "1"}, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True)
    assert peer.stdout.readline().strip() == "ready"

    def call():
        print(file=peer.stdin, flush=True)
        return [float(peer.stdout.readline())]

    return call


def plain_read():
    done = subprocess.run([f"{work}/plain_read", f"{work}/mean.h5"], capture_output=True, text=True, check=True)
    return [float(number) for number in done.stdout.split()]


if what == "mean":
    if not os.path.exists(f"{work}/mean.h5"):
        ours("blocked_mean", "result", f"--make 2GB {work}/mean.h5:/x")
    pair = lambda: ours("blocked_mean", "total_s", f"{work}/mean.h5:/x"), plain_read
elif what == "matvec":
    pair = lambda: ours("matvec", "all_s", "--n 20000 --repeat 5"), server("matvec 20000")
else:
    rows, columns, most = {"mandelbrot20": (8000, 12000, 20), "mandelbrot500": (2000, 3000, 500)}[what]
    flags = f"--png none --size {columns}x{rows} --iterations {most}"
    pair = lambda: ours("mandelbrot", "total_s", flags), server(f"mandelbrot {rows} {columns} {most}")

pair[0]()  # the first run teaches the cost model
times = [], []
for _ in range(rounds):
    for call, all_s in zip(pair, times):
        all_s += call()
        time.sleep(0.05)  # a peer's threads may spin for a while
(a, b), load = times, os.getloadavg()[0]
for name, all_s in (("ours", a), ("peer", b)):
    print(f"{what} {name}: median {statistics.median(all_s):.4f} s, {min(all_s):.4f}..{max(all_s):.4f}, {len(all_s)} calls")
ratio = statistics.median(b) / statistics.median(a)
print(f"{what} peer / ours: {ratio:.2f} of medians, {min(b) / min(a):.2f} of the least; load average {load:.1f} at the end")
