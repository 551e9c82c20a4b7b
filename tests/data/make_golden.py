#!/usr/bin/env python3
"""Makes tests/data/golden.json: what NumPy makes of the same arguments. Run once by hand: the file is committed.

Made with NumPy 2.4.6, ml_dtypes 0.6.0, Python 3.11. Usage: python make_golden.py FOLDER

Each case has the operation, the dtype of its result, its arguments (floats as text, so that no reader of JSON rounds them), the result's shape, and the bytes of its elements (little-endian, C order) in
hexadecimal digits. tests/making.rs reads it.
"""
import json
import os
import sys

import ml_dtypes
import numpy as np

NAMES = {
    "bool": "bool", "int8": "i8", "uint8": "u8", "int16": "i16", "uint16": "u16", "int32": "i32", "uint32": "u32", "int64": "i64", "uint64": "u64",
    "float16": "f16", "bfloat16": "bf16", "float32": "f32", "float64": "f64", "complex64": "c64", "complex128": "c128",
}
cases = []


def case(op, result, *args):
    result = np.ascontiguousarray(result)
    cases.append({"op": op, "dtype": NAMES[result.dtype.name], "args": [repr(x) if isinstance(x, float) else x for x in args], "shape": list(result.shape), "bytes": result.tobytes().hex()})


for dtype in ["i1", "u1", "i4", "u8", "i8"]:
    for start, stop, step in [(0, 10, 1), (0, 10, 3), (5, -5, -2) if dtype[0] == "i" else (5, 50, 9), (3, 3, 1), (100, 20, 1), (0, 100, 33)]:
        case("arange", np.arange(start, stop, step, dtype=dtype), start, stop, step)
for dtype in ["f4", "f8"]:
    for start, stop, step in [(0, 1, 0.1), (0.1, 2.3, 0.1), (-1.5, 300, 0.7), (1, -1, -0.3), (0, 1e-300, 1e-301), (1e8, 1e8 + 100, 0.9), (0, 5, 5), (0, 5.0000001, 5), (2, 1, 0.5)]:
        if dtype == "f8" or step > 1e-30 or step < 0:
            start, stop, step = (float(np.dtype(dtype).type(x)) for x in (start, stop, step))
            case("arange", np.arange(start, stop, step, dtype=dtype), start, stop, step)
    for a, b, n in [(0, 1, 11), (-1.5, 0.3, 7), (0.1, 0.7, 1000), (1, 1, 5), (5, -5, 4), (0, 1, 1), (0, 1, 0), (0, 1, 2), (1e-300, 2e300, 9), (0, 5e-324, 4), (-7.25, 1e9, 333)]:
        if dtype == "f8" or abs(b) < 1e38 and abs(b) > 1e-40:
            case("linspace", np.linspace(a, b, n, dtype=dtype), a, b, n)
            if n > 0:
                case("ogrid", np.ogrid[a:b:n * 1j].astype(dtype), a, b, n)
for dtype in ["bool", "i2", "f8", "c8"]:
    for m, n, k in [(3, 3, 0), (2, 5, 1), (5, 2, -2), (4, 4, 9), (4, 4, -9), (0, 3, 0), (1, 1, 0)]:
        case("eye", np.eye(m, n, k, dtype=dtype), m, n, k)
        case("tri", np.tri(m, n, k, dtype=dtype), m, n, k)
wide = [0.0, -0.0, 1.0, -1.5, 0.1, 65504.0, 65519.9, 65520.0, 1e6, 1e-8, 5.960464477539063e-08, 2.98e-08, 6.1e-05, 2049.0, 2051.0, 1 + 2**-8, 1 + 2**-8 + 2**-40,
        3.39e38, 3.4e38, 1e39, 1e-40, float("inf"), float("-inf")]
for dtype in ["float16", ml_dtypes.bfloat16]:
    with np.errstate(over="ignore"):
        # ml_dtypes goes through float32; a float64 that is one is rounded once.
        values = [x for x in wide if dtype == "float16" or float(np.float32(x)) == x]
        case("cast", np.array(values, "f8").astype(dtype), *values)
dtypes = ["bool", "i1", "u1", "i2", "u2", "i4", "u4", "i8", "u8", "f4", "f8", "c8", "c16"]
for a in dtypes:
    for b in dtypes:
        case("promote", np.zeros(0, np.promote_types(a, b)), NAMES[np.dtype(a).name], NAMES[np.dtype(b).name])
with open(os.path.join(sys.argv[1], "golden.json"), "w") as file:
    file.write("[\n" + ",\n".join(json.dumps(c) for c in cases) + "\n]\n")
