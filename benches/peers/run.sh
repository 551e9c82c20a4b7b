#!/usr/bin/env bash
# Ours beside the peers on this machine, two threads each, in alternating rounds; prints a Markdown table of medians, and the ratio of the
# least times, which other work on the machine disturbs less.
# usage: PYTHON=venv/bin/python benches/peers/run.sh [--quick]      (numpy and numba in that Python; a C compiler)
set -euo pipefail
cd "$(dirname "$0")/../.."
python=${PYTHON:-python3}
rounds=3
rows=8000 columns=12000 deep_rows=2000 deep_columns=3000 n=20000 size=2GB tasks=100000
if [ "${1:-}" = --quick ]; then
    rounds=1 rows=800 columns=1200 deep_rows=200 deep_columns=300 n=2000 size=50MB tasks=5000
fi
unset OPENBLAS_CORETYPE OPENBLAS_L2_SIZE # NumPy as it comes
export OPENBLAS_NUM_THREADS=2 NUMBA_NUM_THREADS=2 OMP_NUM_THREADS=2
work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT
export CHUNKWISE_CACHE_DIR="$work/cache"
cargo build --release --examples
target=${CARGO_TARGET_DIR:-target}/release/examples
cc -O2 -pthread benches/peers/plain_read.c -o "$work/plain_read"

field() { "$python" -c 'import json,sys; v=json.load(sys.stdin)[sys.argv[1]]; print(*(v if isinstance(v,list) else [v]), sep="\n")' "$1"; }
ours() { # program, field, flags
    local name=$1 wanted=$2 i
    shift 2
    for i in 1 2 3; do "$target/$name" --threads 2 --json "$@" | field "$wanted"; done
}
row() { # label, ours file, peer's file, ratio direction
    "$python" - "$@" <<'P'
import statistics, sys
label, ours, peer = sys.argv[1:4]
read = lambda f: sorted(float(x) for x in open(f))
a, b = read(ours), read(peer)
ma, mb = statistics.median(a), statistics.median(b)
print(f"| {label} | {ma:.4f} ({a[0]:.4f}..{a[-1]:.4f}) | {mb:.4f} ({b[0]:.4f}..{b[-1]:.4f}) | {mb / ma:.2f} | {b[0] / a[0]:.2f} |")
P
}

rm -f "$work/mean.h5"
"$target/blocked_mean" --make "$size" "$work/mean.h5:/x" --quiet
for _ in $(seq $rounds); do
    "$python" benches/peers/peers.py mandelbrot $rows $columns 20 >>"$work/numba20"
    ours mandelbrot total_s --png none --size ${columns}x$rows >>"$work/mandelbrot20"
    "$python" benches/peers/peers.py mandelbrot $deep_rows $deep_columns 500 >>"$work/numba500"
    ours mandelbrot total_s --png none --size ${deep_columns}x$deep_rows --iterations 500 >>"$work/mandelbrot500"
    "$python" benches/peers/peers.py matvec $n >>"$work/numpy"
    "$target/matvec" --threads 2 --json --n $n --repeat 5 | field all_s >>"$work/matvec"
    "$work/plain_read" "$work/mean.h5" >>"$work/plain"
    ours blocked_mean total_s "$work/mean.h5:/x" >>"$work/mean"
done

echo "$("$python" benches/peers/peers.py versions); $(rustc --version); $(uname -m), $(nproc) processors; $(date -u +%F)"
"$target/devices" --calibrate --threads 2 | head -n 3
echo
echo "| whole call, 2 threads, seconds: median (least..most) | ours | peer | peer / ours | of the least |"
echo "|---|---|---|---|---|"
row "mandelbrot ${rows}x$columns, 20 iterations, f64; peer: numba escape loop" "$work/mandelbrot20" "$work/numba20"
row "mandelbrot ${deep_rows}x$deep_columns, 500 iterations, f64; peer: numba escape loop" "$work/mandelbrot500" "$work/numba500"
row "matvec $n x $n f64 in memory; peer: NumPy a @ x" "$work/matvec" "$work/numpy"
row "blocked_mean of $size HDF5 in page cache; peer: plain reading of the same bytes" "$work/mean" "$work/plain"
echo
cargo bench -p chunkwise-peers --bench faer ${1:+-- --test} 2>/dev/null | grep ratio
echo "overhead: $("$target/overhead" --threads 2 --tasks $tasks --json | field us_per_task) us a task of $tasks"
echo "predictions, median error on the third run of a fresh cache:"
rm -rf "$CHUNKWISE_CACHE_DIR"
for flags in "mandelbrot --png none" "matvec --n 8000" "blocked_mean $work/mean.h5:/x" "cholesky --n 4000" "overhead --tasks $tasks"; do
    for _ in 1 2 3; do
        # shellcheck disable=SC2086
        last=$("$target"/$flags --threads 2 --json | field median_prediction_error)
    done
    echo "  ${flags%% *}: $(printf %.3f "$last")"
done
