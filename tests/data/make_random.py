#!/usr/bin/env python3
"""Makes tests/data/random.json: random elements as the documentation defines them, by nothing but Python's integers and mpmath. Run once by hand: the file is committed.

Made with Python 3.11, mpmath 1.3. Usage: python make_random.py FOLDER

Each case has a seed, a stream (of `session.rng(seed)` the first array is stream 0), a distribution, the dtype, the index of the first element, and elements: integers as they are, floats
as the bits of float64. Uniform numbers, integers and truth values are exact; normal and exponential ones are the nearest float to the exact value.
"""
import json
import os
import struct
import sys

from mpmath import mp, mpf

mp.prec = 200
M32 = 2**32 - 1


def philox(counter, key):
    """Philox4x32-10, as its paper writes it."""
    c, k = list(counter), list(key)
    for _ in range(10):
        p0, p1 = 0xD2511F53 * c[0], 0xCD9E8D57 * c[2]
        c = [(p1 >> 32) ^ c[1] ^ k[0], p1 & M32, (p0 >> 32) ^ c[3] ^ k[1], p0 & M32]
        k = [(k[0] + 0x9E3779B9) & M32, (k[1] + 0xBB67AE85) & M32]
    return c


assert philox([0] * 4, [0] * 2) == [0x6627E8D5, 0xE169C58D, 0xBC57AC4C, 0x9B00DBD8]  # of Random123


def words(seed, stream, q):
    return philox([q & M32, q >> 32, stream & M32, stream >> 32], [seed & M32, seed >> 32])


def unit(low, high):
    return mpf((low | high << 32) >> 11) / 2**53


def box_muller(x, v, odd):
    radius, angle = mp.sqrt(-2 * mp.log(x)), 2 * mp.pi * v
    return radius * (mp.sin(angle) if odd else mp.cos(angle))


def element(seed, stream, what, dtype, i):
    kind = what[0]
    if kind == "integers":
        low, count = what[1:]
        if count <= 2**32:
            w = words(seed, stream, i // 2)[i % 2 * 2:]
            return low + ((w[0] | w[1] << 32) * count >> 64)
        w = words(seed, stream, i)
        return low + (sum(word << 32 * k for k, word in enumerate(w)) * count >> 128)
    if kind == "bernoulli":
        return int(words(seed, stream, i // 4)[i % 4] < round(what[1] * 2**32))
    if dtype == "f32" and kind == "normal":
        w = words(seed, stream, i // 4)[i % 4 // 2 * 2:]
        return box_muller(mpf(w[0] + 1) / 2**32, mpf(w[1]) / 2**32, i % 2)
    if kind == "normal":
        w = words(seed, stream, i // 2)
        return box_muller(1 - unit(w[0], w[1]), unit(w[2], w[3]), i % 2)
    u = mpf(words(seed, stream, i // 4)[i % 4] >> 8) / 2**24 if dtype == "f32" else unit(*words(seed, stream, i // 2)[i % 2 * 2:][:2])
    return -mp.log(1 - u) if kind == "exponential" else u


cases = []
WHAT = [
    (["uniform"], ["f64", "f32"]), (["normal"], ["f64", "f32"]), (["exponential"], ["f64", "f32"]), (["integers", 1, 6], ["u8"]), (["integers", -128, 256], ["i8"]),
    (["integers", 1000, 64536], ["u16"]), (["integers", -300, 600], ["i16"]), (["integers", -2**31, 2**32], ["i32"]), (["integers", 5, 10**9], ["u32"]),
    (["integers", -2**63, 2**64], ["i64"]), (["integers", -7, 2**33 + 5], ["i64"]), (["integers", 2**63, 3 * 2**61], ["u64"]), (["bernoulli", 0.3], ["bool"]),
]
for seed in (0, 42, 2**64 - 1):
    for stream in (0, 1):
        for what, dtypes in WHAT:
            for dtype in dtypes:
                found = [element(seed, stream, what, dtype, i) for i in range(24)]
                if dtype in ("f32", "f64"):
                    found = [struct.pack(">d", float(x)).hex() for x in found]
                cases.append({"seed": seed, "stream": stream, "what": what, "dtype": dtype, "elements": [str(x) for x in found]})

with open(os.path.join(sys.argv[1], "random.json"), "w") as file:
    json.dump({"cases": cases}, file, separators=(",", ":"))
    file.write("\n")
