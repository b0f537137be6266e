"""Small MRC stacks written byte by byte, independently of the code under test."""

import struct

import numpy as np

MODES = {"i1": 0, "i2": 1, "f4": 2, "u2": 6, "f2": 12}
STAMPS = {"<": b"\x44\x44\x00\x00", ">": b"\x11\x11\x00\x00"}


def mrc_bytes(images, order="<", stamp=None, pixel=2.0, extended=b"", space_group=0):
    kind = images.dtype.str[1:]
    n, height, width = images.shape
    header = bytearray(1024)
    header[0:16] = struct.pack(order + "4i", width, height, n, MODES[kind])
    header[28:40] = struct.pack(order + "3i", width, height, n)
    header[40:52] = struct.pack(order + "3f", width * pixel, height * pixel, n * pixel)
    header[64:76] = struct.pack(order + "3i", 1, 2, 3)
    header[88:96] = struct.pack(order + "2i", space_group, len(extended))
    header[208:212] = b"MAP "
    header[212:216] = STAMPS[order] if stamp is None else stamp
    return bytes(header) + extended + images.astype(images.dtype.newbyteorder(order)).tobytes()


def write_mrcs(path, n=6, side=8, kind="f4", seed=0, **header):
    """Write a stack of small integers, exact in every mode, and return them."""
    values = np.random.default_rng(seed).integers(0, 100, size=(n, side, side)).astype(kind)
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_bytes(mrc_bytes(values, **header))
    return values.astype(np.float32)
