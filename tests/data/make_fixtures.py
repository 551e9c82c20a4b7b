#!/usr/bin/env python3
"""Makes tests/data/*.h5 and *.npy. Run once by hand: the files are committed.

Made with h5py 3.16.0 (HDF5 2.0.0), NumPy 2.5.5, Python 3.12 (types.h5 and what is below it: NumPy 2.4.6, ml_dtypes 0.6.0). Usage: python make_fixtures.py FOLDER

Golden values: element i (C order, counted from 0) of every dataset is a formula of i that tests/store.rs repeats:
  float64, float32   i / 4 - 3        (exact in both)
  integers           (7 * i) % 101 - 50 for signed, (7 * i) % 101 for unsigned
  bool               i % 3 == 0
"""
import os
import sys
import zlib

import h5py
import ml_dtypes
import numpy as np

folder = sys.argv[1]


def floats(shape, dtype="<f8"):
    return (np.arange(np.prod(shape, dtype=int)) / 4 - 3).reshape(shape).astype(dtype)


def ints(shape, dtype):
    dtype = np.dtype(dtype)
    i = (7 * np.arange(np.prod(shape, dtype=int))) % 101
    return (i - (50 if dtype.kind == "i" else 0)).reshape(shape).astype(dtype)


def bools(shape):
    return (np.arange(np.prod(shape, dtype=int)) % 3 == 0).reshape(shape)


def path(name):
    return os.path.join(folder, name)


with h5py.File(path("plain.h5"), "w") as f:
    f["contiguous"] = floats((20, 30))
    f["f32"] = floats((20, 30), "<f4")
    f["big_f64"] = floats((6, 7), ">f8")
    f["big_f32"] = floats((6, 7), ">f4")
    f["big_i64"] = ints((6, 7), ">i8")
    f["f16"] = (np.arange(40) / 4 - 3).astype("<f2")
    for name in ["i1", "u1", "i2", "u2", "i4", "u4", "i8", "u8"]:
        f[name] = ints((5, 9), "<" + name)
    f["big_i2"] = ints((5, 9), ">i2")
    f["bool"] = bools((5, 9))
    f["three"] = floats((4, 5, 6))
    f["scalar"] = np.float64(2.5)
    f["empty"] = np.zeros((0, 7))
    f["null"] = h5py.Empty("f8")
    f["text"] = np.array([b"ab", b"cd"])
    f["words"] = "a variable-length string"
    f["complex"] = np.array([1 + 2j])
    f["long"] = np.arange(3, dtype=np.longdouble)
    f["group/inner/deep"] = floats((3, 4))
    f["soft"] = h5py.SoftLink("/group/inner/deep")
    f["dangling"] = h5py.SoftLink("/nowhere")
    # Allocated only when written, and never written.
    f.create_dataset("unwritten", shape=(1000, 1000), dtype="f8", fillvalue=1.5)
    # Compact storage: in the object header.
    plist = h5py.h5p.create(h5py.h5p.DATASET_CREATE)
    plist.set_layout(h5py.h5d.COMPACT)
    space = h5py.h5s.create_simple((4, 5))
    raw = h5py.h5d.create(f.id, b"in_header", h5py.h5t.IEEE_F64LE, space, plist)
    raw.write(h5py.h5s.ALL, h5py.h5s.ALL, floats((4, 5)))
    # A 12-bit integer in two bytes: a number, but not a standard one.
    odd = h5py.h5t.STD_I16LE.copy()
    odd.set_precision(12)
    raw = h5py.h5d.create(f.id, b"twelve_bits", odd, h5py.h5s.create_simple((5, 9)))
    raw.write(h5py.h5s.ALL, h5py.h5s.ALL, ints((5, 9), "<i2"))

with h5py.File(path("chunked.h5"), "w") as f:
    f.create_dataset("even", data=floats((16, 24)), chunks=(4, 8))
    f.create_dataset("edge", data=floats((17, 23)), chunks=(4, 8))
    f.create_dataset("edge_f32", data=floats((17, 23), "<f4"), chunks=(4, 8))
    f.create_dataset("big", data=floats((17, 23), ">f8"), chunks=(5, 5))
    f.create_dataset("i16", data=ints((17, 23), "<i2"), chunks=(5, 5))
    f.create_dataset("bool", data=bools((17, 23)), chunks=(5, 5))
    f.create_dataset("three", data=floats((5, 6, 7)), chunks=(2, 3, 4))
    f.create_dataset("four", data=floats((3, 4, 5, 6)), chunks=(2, 3, 2, 4))
    f.create_dataset("one", data=floats((100,)), chunks=(16,))
    f.create_dataset("gzip", data=floats((17, 23)), chunks=(4, 8), compression="gzip", shuffle=True)
    f.create_dataset("gzip_bool", data=bools((17, 23)), chunks=(4, 8), compression="gzip")
    f.create_dataset("shuffle", data=floats((17, 23)), chunks=(4, 8), shuffle=True)
    f.create_dataset("fletcher", data=floats((17, 23)), chunks=(4, 8), fletcher32=True)
    f.create_dataset("lzf", data=floats((17, 23)), chunks=(4, 8), compression="lzf")
    f.create_dataset("growing", data=floats((17, 23)), chunks=(4, 8), maxshape=(None, 23))
    # Two of its chunks are written, the rest is the fill value.
    d = f.create_dataset("sparse", shape=(100, 100), chunks=(10, 10), dtype="f8", fillvalue=-7.25)
    d[10:20, 30:40] = 1.0
    d[95, 99] = 2.0
    d = f.create_dataset("sparse_gzip", shape=(100, 100), chunks=(10, 10), dtype="i4", fillvalue=9, compression="gzip")
    d[10:20, 30:40] = 1
    # 8 TB, never written.
    f.create_dataset("huge", shape=(1_000_000, 1_000_000), chunks=(1000, 1000), dtype="f8", fillvalue=0.5)
    f.create_dataset("huge_int", shape=(1 << 20, 1 << 20), chunks=(1024, 1024), dtype="i8", fillvalue=(1 << 60) + 1)
    f.create_dataset("nothing", shape=(0, 7), chunks=(4, 7), maxshape=(None, 7), dtype="f8")

with h5py.File(path("latest.h5"), "w", libver="latest") as f:
    f["contiguous"] = floats((20, 30))
    f.create_dataset("edge", data=floats((17, 23)), chunks=(4, 8))
    f.create_dataset("single", data=floats((17, 23)), chunks=(17, 23))
    f.create_dataset("growing", data=floats((17, 23)), chunks=(4, 8), maxshape=(None, 23))
    layout = h5py.VirtualLayout(shape=(20, 30), dtype="f8")
    layout[:, :] = h5py.VirtualSource(f["contiguous"])
    f.create_virtual_dataset("virtual", layout)

with h5py.File(path("userblock.h5"), "w", userblock_size=1024) as f:
    f["contiguous"] = floats((20, 30))
    f.create_dataset("edge", data=floats((17, 23)), chunks=(4, 8))

with h5py.File(path("linked.h5"), "w") as f:
    # What links.h5 links to; `links.h5` holds other numbers at the same addresses.
    f["contiguous"] = floats((20, 30))
    f.create_dataset("edge", data=floats((17, 23)), chunks=(4, 8))
    f.create_dataset("gzip", data=floats((17, 23)), chunks=(4, 8), compression="gzip")
    f["group/inner/deep"] = floats((3, 4))
    f["onward"] = h5py.ExternalLink("plain.h5", "/group")
    f["group/soft"] = h5py.SoftLink("/contiguous")

with h5py.File(path("links.h5"), "w") as f:
    f["own"] = np.full((20, 30), 777.0)
    f.create_dataset("own_chunks", data=np.full((17, 23), 777.0), chunks=(4, 8))
    for name in ["contiguous", "edge", "gzip", "group"]:
        f[name] = h5py.ExternalLink("linked.h5", name)
    f["soft"] = h5py.SoftLink("/group/soft")
    f["chain"] = h5py.ExternalLink("linked.h5", "/onward/inner/deep")
    f["gone"] = h5py.ExternalLink("no_such_file.h5", "/x")
    f["lost"] = h5py.ExternalLink("linked.h5", "/no/such")
    f["dangling"] = h5py.SoftLink("/no/such")
    f["circle"] = h5py.SoftLink("/circle")

with h5py.File(path("packed.h5"), "w") as f:
    # Chunks said to be packed by filters that the library does not have.
    for name, number in [("zstd", 32015), ("blosc", 32001), ("lz4", 32004), ("bitshuffle", 32008), ("mine", 40000)]:
        plist = h5py.h5p.create(h5py.h5p.DATASET_CREATE)
        plist.set_chunk((4,))
        plist.set_filter(number, h5py.h5z.FLAG_OPTIONAL)
        raw = h5py.h5d.create(f.id, name.encode(), h5py.h5t.IEEE_F64LE, h5py.h5s.create_simple((4,)), plist)
        raw.write_direct_chunk((0,), b"not really", 0)
    # By one without a name, and by one of the library's own that it may be built without.
    for name in ["nameless", "szip"]:
        plist = h5py.h5p.create(h5py.h5p.DATASET_CREATE)
        plist.set_chunk((4,))
        plist.set_szip(h5py.h5z.SZIP_EC_OPTION_MASK, 4) if name == "szip" else plist.set_filter(31999, h5py.h5z.FLAG_OPTIONAL)
        raw = h5py.h5d.create(f.id, name.encode(), h5py.h5t.IEEE_F64LE, h5py.h5s.create_simple((4,)), plist)
        raw.write_direct_chunk((0,), b"not really", 0)
    # Chunks that an optional filter, not there, was skipped for; with one that was applied, too.
    for name, filters, mask in [("skipped", [32015], 1), ("partly", [1, 32015], 2)]:
        plist = h5py.h5p.create(h5py.h5p.DATASET_CREATE)
        plist.set_chunk((4,))
        for number in filters:
            plist.set_filter(number, h5py.h5z.FLAG_OPTIONAL, (1,) if number == 1 else ())
        raw = h5py.h5d.create(f.id, name.encode(), h5py.h5t.IEEE_F64LE, h5py.h5s.create_simple((8,)), plist)
        for at in (0, 4):
            part = floats((8,))[at:at + 4].tobytes()
            raw.write_direct_chunk((at,), zlib.compress(part) if mask == 2 else part, mask)

with h5py.File(path("keep.h5"), "w", userblock_size=512, track_order=True) as f:
    # A file in which a dataset is written, and all else must stay.
    f.attrs["title"] = "kept"
    f.attrs["words"] = ["variable", "length"]
    f["type"] = np.dtype([("a", "f8"), ("b", "i4")])
    f["records"] = np.zeros(3, dtype=f["type"])
    f.create_group("empty").attrs["note"] = np.arange(3)
    for shape, name, options in [
        ((20, 30), "plain", {}),
        ((17, 23), "chunks", {"chunks": (4, 8), "maxshape": (None, 23)}),
        ((17, 23), "packed", {"chunks": (4, 8), "compression": "gzip"}),
    ]:
        d = f.create_dataset(f"group/{name}", data=floats(shape), track_order=True, **options)
        d.attrs["zeta"] = "first"
        d.attrs["units"] = "K"
        d.attrs["names"] = np.array(["a", "bc"], dtype=h5py.string_dtype())
        d.attrs["range"] = np.array([1.5, 2.5], dtype=">f8")
        d.attrs["parent"] = f["group"].ref
        d.attrs["nothing"] = h5py.Empty("f4")
        d.attrs.create("typed", np.zeros((), dtype=f["type"]), dtype=f["type"])
    f["hard"] = f["group/plain"]
    f["soft"] = h5py.SoftLink("/group/packed")
    f["relative"] = h5py.SoftLink("group/chunks")
    f["dangling"] = h5py.SoftLink("/no/such")
    f["away"] = h5py.ExternalLink("plain.h5", "/contiguous")
    f["away_group"] = h5py.ExternalLink("plain.h5", "/group")
    f["reference"] = np.array([f["group/plain"].ref, f["empty"].ref], dtype=h5py.ref_dtype)
    f["text"] = np.array(["some", "words of variable length"], dtype=h5py.string_dtype())

with h5py.File(path("attrs.h5"), "w") as f:
    of = f.create_dataset("x", data=np.arange(5)).attrs
    of["text"] = "m/s²"
    of["fixed"] = np.bytes_("metre")
    of.create("fixed_utf8", "m²".encode(), dtype=h5py.string_dtype("utf-8", 8))
    of.create("ascii", "abc", dtype=h5py.string_dtype("ascii"))
    of["no_number"] = h5py.Empty("f4")
    of["no_text"] = h5py.Empty(h5py.string_dtype())
    of["texts"] = ["a", "b"]
    of["bool"] = np.bool_(True)
    of["bools"] = np.array([True, False])
    of["i8"] = np.int8(-3)
    of["u16s"] = np.arange(3, dtype="u2")
    of["big_floats"] = np.array([1.5, 2], dtype=">f8")
    of["big_integer"] = np.array(7, dtype=">i4")
    of["u64"] = np.uint64(2**64 - 1)
    of["one"] = np.array([3.5])
    of["none"] = np.zeros(0, "i4")
    of["table"] = np.ones((2, 2))
    of["record"] = np.zeros(1, dtype=[("a", "i4"), ("b", "f8")])
    of["reference"] = f.ref
    of["opaque"] = np.void(b"abc")
    # Text whose bytes are not UTF-8, of any length and of a fixed one; and text that was never written.
    words = h5py.h5t.C_S1.copy()
    words.set_size(h5py.h5t.VARIABLE)
    utf8, word = words.copy(), h5py.h5t.C_S1.copy()
    utf8.set_cset(h5py.h5t.CSET_UTF8)
    word.set_size(8)
    one, d = h5py.h5s.create(h5py.h5s.SCALAR), f["x"].id
    h5py.h5a.create(d, b"bad", utf8, one).write(np.array(b"caf\xe9", dtype=h5py.string_dtype()))
    h5py.h5a.create(d, b"latin1", words, one).write(np.array(b"caf\xe9", dtype=h5py.string_dtype("ascii")))
    h5py.h5a.create(d, b"fixed_bad", word, one).write(np.array(b"caf\xe9", dtype="S8"), mtype=word)
    h5py.h5a.create(d, b"unwritten", utf8, one)
    fortran = word.copy()
    fortran.set_strpad(h5py.h5t.STR_SPACEPAD)
    h5py.h5a.create(d, b"spaces", fortran, one).write(np.array(b"metre   ", dtype="S8"), mtype=fortran)

np.save(path("c.npy"), floats((6, 7)))
np.save(path("one.npy"), ints((50,), "<i2"))
np.save(path("big.npy"), floats((6, 7), ">f4"))
np.save(path("bool.npy"), bools((5, 9)))
np.save(path("scalar.npy"), np.array(2.5))
np.save(path("empty.npy"), np.zeros((0, 7), "f4"))
np.save(path("fortran.npy"), np.asfortranarray(floats((6, 7))))
np.save(path("fortran3.npy"), np.asfortranarray(ints((4, 5, 6), ">i2")))
np.save(path("fortran_bool.npy"), np.asfortranarray(bools((5, 9))))
np.save(path("half.npy"), floats((5, 8), "<f2"))
np.save(path("fortran_half.npy"), np.asfortranarray(floats((5, 8), ">f2")))
np.save(path("text.npy"), np.array(["ab", "cd"]))
np.save(path("records.npy"), np.zeros(3, dtype=[("a", "f8"), ("b", "i4")]))


# Types that HDF5 and NumPy have no plain name for. Complex numbers are pairs of the formula's elements: (0, 1), (2, 3), ..
def pairs(shape, dtype):
    return floats((*shape, 2), {"c8": "f4", "c16": "f8"}[dtype[1:]]).view(dtype[1:]).reshape(shape).astype(dtype)


def own(f, name, kind, data, chunks=None):
    """A dataset of a type that h5py does not make of itself: the bytes are written as they are."""
    plist = h5py.h5p.create(h5py.h5p.DATASET_CREATE)
    if chunks:
        plist.set_chunk(chunks)
        plist.set_deflate(1)
    made = h5py.h5d.create(f.id, name.encode(), kind, h5py.h5s.create_simple(data.shape), dcpl=plist)
    made.write(h5py.h5s.ALL, h5py.h5s.ALL, data.view("V%d" % data.itemsize), mtype=kind)


with h5py.File(path("types.h5"), "w") as f:
    f["c64"] = pairs((5, 4), "<c8")
    f["c128"] = pairs((5, 4), "<c16")
    f["big_c128"] = pairs((5, 4), ">c16")
    f.create_dataset("chunked_c64", data=pairs((7, 9), "<c8"), chunks=(2, 4))
    f.create_dataset("gzip_c64", data=pairs((7, 9), "<c8"), chunks=(2, 4), compression="gzip", shuffle=True)
    f.create_dataset("gzip_big_c64", data=pairs((7, 9), ">c8"), chunks=(2, 4), compression="gzip")
    f.create_dataset("unwritten_c128", shape=(3, 3), chunks=(2, 2), dtype="c16", fillvalue=1.5 - 2j)
    f["names"] = pairs((5, 4), "<c16").view([("real", "f8"), ("imag", "f8")])
    f.create_dataset("gzip_names", data=pairs((5, 4), "<c16").view([("real", "f8"), ("imag", "f8")]), chunks=(2, 3), compression="gzip")
    f["other_names"] = pairs((5, 4), "<c16").view([("x", "f8"), ("y", "f8")])
    f.create_dataset("gzip_f16", data=floats((5, 8), "<f2"), chunks=(2, 3), compression="gzip")
    f["big_f16"] = floats((5, 8), ">f2")
    brain = h5py.h5t.IEEE_F32LE.copy()
    brain.set_fields(15, 7, 8, 0, 7)
    brain.set_size(2)
    brain.set_ebias(127)
    own(f, "bf16", brain, floats((5, 8), ml_dtypes.bfloat16))
    own(f, "gzip_bf16", brain, floats((5, 8), ml_dtypes.bfloat16), chunks=(2, 3))
    own(f, "complex_class", h5py.h5t.COMPLEX_IEEE_F32LE, pairs((5, 4), "<c8"))
    own(f, "gzip_big_complex_class", h5py.h5t.COMPLEX_IEEE_F64BE, pairs((5, 4), ">c16"), chunks=(2, 3))
    f.create_dataset("gzip_i1", data=ints((5, 9), "i1"), chunks=(2, 4), compression="gzip")
    f.create_dataset("gzip_u2", data=ints((5, 9), ">u2"), chunks=(2, 4), compression="gzip")

np.save(path("complex.npy"), pairs((5, 4), "<c8"))
np.save(path("fortran_complex.npy"), np.asfortranarray(pairs((5, 4), ">c16")))
np.save(path("bf16.npy"), floats((5, 8), ml_dtypes.bfloat16))
