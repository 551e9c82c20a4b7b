#!/usr/bin/env python3
"""Makes tests/data/reductions.json: what NumPy makes of arrays along some axes. Run once by hand: the file is committed.

Made with NumPy 2.4.6, Python 3.11. Usage: python make_reductions.py FOLDER

Arrays are written as in make_elementwise.py. Each case names what is reduced, its axes, whether they are kept, and the result; tests/reductions.rs reads it. Means, variances and
norms are of the elements in float64, as they are here; so are sums of float32, rounded once.
"""
import json
import os
import sys

import numpy as np

NAMES = {
    "bool": "bool", "int8": "i8", "uint8": "u8", "int16": "i16", "uint16": "u16", "int32": "i32", "uint32": "u32", "int64": "i64", "uint64": "u64",
    "float32": "f32", "float64": "f64", "complex64": "c64", "complex128": "c128",
}
arrays, cases = [], []
rng = np.random.default_rng(13)


def array(x):
    x = np.ascontiguousarray(x)
    arrays.append({"dtype": NAMES[x.dtype.name], "shape": list(x.shape), "bytes": x.tobytes().hex()})
    return len(arrays) - 1


def elements(dtype, shape):
    n = int(np.prod(shape))
    kind = np.dtype(dtype).kind
    if dtype == "bool":
        return (rng.integers(0, 3, n) != 1).reshape(shape)
    if kind in "iu":
        info = np.iinfo(dtype)
        few = rng.integers(max(info.min, -9), 10, n)
        far = rng.integers(info.min, info.max, n, dtype=dtype, endpoint=True)
        return np.where(rng.random(n) < 0.6, few.astype(dtype), far).astype(dtype).reshape(shape)
    x = rng.standard_normal(n) * 10.0 ** rng.integers(-2, 3, n)
    x[rng.random(n) < 0.2] = 2.5
    if kind == "c":
        return (x + 1j * rng.permutation(x)).astype(dtype).reshape(shape)
    return x.astype(dtype).reshape(shape)


def wide(x):
    return x.astype("complex128" if x.dtype.kind == "c" else "float64")


def rounded(x, of):
    return of.astype(x.dtype) if x.dtype.name in ("float32", "complex64") else of


def number(x, axes, of):
    """argmin and argmax along several axes: of these in C order."""
    kept = [a for a in range(x.ndim) if a not in axes]
    rows = x.transpose(kept + list(axes)).reshape([x.shape[a] for a in kept] + [-1])
    return np.expand_dims(of(rows, axis=-1).astype("int64"), tuple(axes))


ANY = {
    "sum": lambda x, a: rounded(x, np.sum(wide(x) if x.dtype.kind in "fc" else x, axis=a, keepdims=True)),
    "count_nonzero": lambda x, a: np.count_nonzero(x, axis=a, keepdims=True).astype("int64") if a else (x != 0).astype("int64"),
}
REAL = {
    "mean": lambda x, a: np.mean(wide(x), axis=a, keepdims=True),
    "norm": lambda x, a: np.sqrt(np.sum(wide(x) ** 2, axis=a, keepdims=True)),
    "var0": lambda x, a: np.var(wide(x), axis=a, keepdims=True),
    "var1": lambda x, a: np.var(wide(x), axis=a, keepdims=True, ddof=1),
    "std0": lambda x, a: np.std(wide(x), axis=a, keepdims=True),
}
ORDERED = {
    "min": lambda x, a: np.min(x, axis=a, keepdims=True),
    "max": lambda x, a: np.max(x, axis=a, keepdims=True),
    "argmin": lambda x, a: number(x, a, np.argmin),
    "argmax": lambda x, a: number(x, a, np.argmax),
}
FLOAT = {
    "nansum": lambda x, a: rounded(x, np.nansum(wide(x), axis=a, keepdims=True)),
    "nanmean": lambda x, a: np.nanmean(wide(x), axis=a, keepdims=True),
    "nanmin": lambda x, a: np.nanmin(x, axis=a, keepdims=True),
    "nanmax": lambda x, a: np.nanmax(x, axis=a, keepdims=True),
}
BOOL = {"any": lambda x, a: np.any(x, axis=a, keepdims=True), "all": lambda x, a: np.all(x, axis=a, keepdims=True)}
SHAPES = [((7,), [(0,)]), ((), [()]), ((5, 9), [(0,), (1,), (0, 1), ()]), ((3, 4, 5), [(1,), (0, 2), (0, 1, 2)]), ((2, 70), [(0,), (1,)]), ((70, 2), [(0,), (1,), (0, 1)])]
with np.errstate(all="ignore"):
    for dtype, name in NAMES.items():
        kind = np.dtype(dtype).kind
        ops = dict(ANY)
        ops |= REAL if kind in "iuf" else {}
        ops |= ORDERED if kind != "c" else {}
        ops |= FLOAT if kind == "f" else {}
        ops |= BOOL if kind == "b" else {}
        ops |= {"prod": lambda x, a: np.prod(x, axis=a, keepdims=True)} if kind in "bui" else {}
        ops |= {"mean": REAL["mean"]} if kind == "c" else {}
        ops |= {"ptp": lambda x, a: np.ptp(x, axis=a, keepdims=True)} if kind in "iuf" else {}
        for shape, choices in SHAPES:
            inputs = [elements(dtype, shape)]
            if kind == "f" and shape:
                with_nan = inputs[0].copy()
                with_nan[rng.random(shape) < 0.2] = np.nan
                inputs += [with_nan]
            for x in inputs:
                i = array(x)
                for op, of in ops.items():
                    for axes in choices:
                        if op in ("nanmean", "nanmin", "nanmax") and np.isnan(x).all(axis=axes).any():
                            continue
                        result = np.asarray(of(x, axes))
                        cases.append({"op": op, "of": i, "axes": list(axes), "result": array(result)})
    for shape, axes in [((0,), [0]), ((3, 0), [1]), ((3, 0), [0]), ((0, 3), [0, 1])]:
        x = np.zeros(shape)
        i = array(x)
        for op in ["sum", "mean", "norm", "var0", "std0", "count_nonzero"]:
            cases.append({"op": op, "of": i, "axes": axes, "result": array(np.asarray((ANY | REAL)[op](x, tuple(axes))))})

with open(os.path.join(sys.argv[1], "reductions.json"), "w") as file:
    file.write('{"numpy": "%s",\n"arrays": [\n' % np.__version__)
    file.write(",\n".join(json.dumps(x, separators=(",", ":")) for x in arrays))
    file.write('\n],\n"cases": [\n')
    file.write(",\n".join(json.dumps(x, separators=(",", ":")) for x in cases))
    file.write("\n]}\n")
print(len(cases), "cases", len(arrays), "arrays")
