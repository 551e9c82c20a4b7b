#!/usr/bin/env python3
"""Makes tests/data/elementwise.json: what NumPy makes of arrays, element by element. Run once by hand: the file is committed.

Made with NumPy 2.4.6, Python 3.11. Usage: python make_elementwise.py FOLDER

Arrays are written as dtype, shape, and the bytes of their elements (little-endian, C order) in hexadecimal digits. Each case names its operands by number. tests/elementwise.rs reads it.
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
rng = np.random.default_rng(12)


def array(x):
    x = np.ascontiguousarray(x)
    arrays.append({"dtype": NAMES[x.dtype.name], "shape": list(x.shape), "bytes": x.tobytes().hex()})
    return len(arrays) - 1


def elements(dtype, shape):
    n = int(np.prod(shape))
    if dtype == "bool":
        return (rng.integers(0, 2, n) == 1).reshape(shape)
    if np.dtype(dtype).kind in "iu":
        info = np.iinfo(dtype)
        few = rng.integers(max(info.min, -9), 10, n)
        far = rng.integers(info.min, info.max, n, dtype=dtype, endpoint=True)
        return np.where(rng.random(n) < 0.6, few.astype(dtype), far).astype(dtype).reshape(shape)
    x = rng.standard_normal(n) * 10.0 ** rng.integers(-3, 4, n)
    x[rng.random(n) < 0.05] = np.inf
    x[rng.random(n) < 0.05] = -np.inf
    x[rng.random(n) < 0.05] = np.nan
    x[rng.random(n) < 0.1] = 2.5
    if np.dtype(dtype).kind == "c":
        x = np.nan_to_num(x, posinf=3, neginf=-7)
        return (x + 1j * rng.permutation(x)).astype(dtype).reshape(shape)
    return x.astype(dtype).reshape(shape)


ARITHMETIC = {"add": np.add, "subtract": np.subtract, "multiply": np.multiply}
REAL = {"fmod": np.fmod, "minimum": np.minimum, "maximum": np.maximum, "less": np.less, "less_equal": np.less_equal, "greater": np.greater, "greater_equal": np.greater_equal}
EQUAL = {"equal": np.equal, "not_equal": np.not_equal}
FLOAT = {"divide": np.divide, "fmin": np.fmin, "fmax": np.fmax, "copysign": np.copysign}
BITS = {"and": np.bitwise_and, "or": np.bitwise_or, "xor": np.bitwise_xor}
PAIRS = [("float64", "float64"), ("float32", "float32"), ("float32", "float64"), ("int32", "float32"), ("uint8", "int8"), ("int64", "int64"), ("uint64", "uint64"), ("int8", "int8"), ("bool", "int16"),
         ("uint16", "int32"), ("bool", "bool"), ("complex64", "complex64"), ("complex128", "complex128"), ("complex64", "float64")]
with np.errstate(all="ignore"):
    for a, b in PAIRS:
        for left, right in [((3, 4, 5), (3, 4, 5)), ((4, 1), (3, 1, 11)), ((70,), (70,)), ((), (6,))]:
            x, y = elements(a, left), elements(b, right)
            if a == b and left == right:
                y.flat[::3] = x.flat[::3]
            kinds = np.dtype(a).kind + np.dtype(b).kind
            ops = dict(EQUAL)
            ops |= ARITHMETIC if kinds != "bb" else {}
            ops |= REAL if "c" not in kinds and kinds != "bb" else {}
            ops |= FLOAT if np.result_type(a, b).kind == "f" else {}
            ops |= {"divide": np.divide} if "c" in kinds else {}
            ops |= BITS if not set(kinds) & set("fc") else {}
            i, j = array(x), array(y)
            for name, op in ops.items():
                cases.append({"op": name, "args": [i, j], "result": array(op(x, y))})
    for dtype in ["float32", "float64"]:
        x = elements(dtype, (5, 61))
        i = array(x)
        for name in ["sqrt", "floor", "ceil", "rint", "trunc", "abs", "negative", "square", "isnan", "isfinite", "isinf", "sign"]:
            cases.append({"op": name, "args": [i], "result": array(getattr(np, name)(x))})
        mask = elements("bool", (5, 1))
        cases.append({"op": "where", "args": [array(mask), i, array(y := elements(dtype, (61,)))], "result": array(np.where(mask, x, y))})
        cases.append({"op": "clip", "args": [i, array(low := np.array(-1.5, dtype)), array(high := np.array(2.25, dtype))], "result": array(np.clip(x, low, high))})
    for dtype in ["int8", "int64", "uint8", "uint64"]:
        x, by = elements(dtype, (7, 9)), rng.integers(0, 70, (7, 9)).astype(dtype)
        i, j = array(x), array(by)
        cases.append({"op": "left_shift", "args": [i, j], "result": array(np.left_shift(x, by))})
        cases.append({"op": "right_shift", "args": [i, j], "result": array(np.right_shift(x, by))})
        for name in ["invert", "abs", "sign", "square"] + (["negative"] if dtype[0] == "i" else []):
            cases.append({"op": name, "args": [i], "result": array(getattr(np, name)(x))})
    for dtype in ["complex64", "complex128"]:
        z = elements(dtype, (4, 9))
        i = array(z)
        for name, result in [("real", z.real), ("imag", z.imag), ("conj", np.conj(z)), ("negative", -z)]:
            cases.append({"op": name, "args": [i], "result": array(result)})

with open(os.path.join(sys.argv[1], "elementwise.json"), "w") as file:
    file.write('{"numpy": "%s",\n"arrays": [\n' % np.__version__)
    file.write(",\n".join(json.dumps(x, separators=(",", ":")) for x in arrays))
    file.write('\n],\n"cases": [\n')
    file.write(",\n".join(json.dumps(x, separators=(",", ":")) for x in cases))
    file.write("\n]}\n")
print(len(cases), "cases", len(arrays), "arrays")
