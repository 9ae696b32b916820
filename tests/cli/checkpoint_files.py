"""Reading and writing safetensors with struct and json alone, and the number formats in numpy.

The tests break checkpoints on purpose, so nothing here checks or repairs what it writes.
"""

import json
import struct

import numpy as np

ITEM = {"F32": np.float32, "BF16": np.uint16, "F16": np.uint16, "F8_E4M3": np.uint8,
        "U8": np.uint8, "I32": np.int32, "I64": np.int64}


class Tensor:
    def __init__(self, dtype, shape, data):
        self.dtype, self.shape, self.data = dtype, list(shape), bytes(data)

    def array(self):
        """The raw items: uint16 for BF16, uint8 for FP8 and packed codes."""
        return np.frombuffer(self.data, ITEM[self.dtype]).reshape(self.shape)


def from_array(dtype, array):
    return Tensor(dtype, array.shape, np.ascontiguousarray(array).tobytes())


def read(path):
    raw = path.read_bytes()
    (length,) = struct.unpack("<Q", raw[:8])
    header, data = json.loads(raw[8 : 8 + length]), raw[8 + length :]
    header.pop("__metadata__", None)
    return {n: Tensor(t["dtype"], t["shape"], data[slice(*t["data_offsets"])]) for n, t in header.items()}


def read_folder(folder):
    """Every tensor of a folder, over all its shards."""
    tensors = {}
    for path in sorted(folder.glob("*.safetensors")):
        tensors.update(read(path))
    return tensors


def in_order(tensors):
    """Wide types first, so that every tensor is aligned, as published files have it."""
    return sorted(tensors.items(), key=lambda item: -np.dtype(ITEM[item[1].dtype]).itemsize)


def header_of(tensors):
    header, offset = {"__metadata__": {"format": "pt"}}, 0
    for name, t in in_order(tensors):
        header[name] = {"dtype": t.dtype, "shape": t.shape, "data_offsets": [offset, offset + len(t.data)]}
        offset += len(t.data)
    return header


def write_raw(path, header, data):
    """`header` is a JSON value, or bytes that are to stand there as they are."""
    text = header if isinstance(header, bytes) else json.dumps(header).encode()
    if not isinstance(header, bytes):
        text += b" " * (-len(text) % 8)
    path.write_bytes(struct.pack("<Q", len(text)) + text + data)


def data_of(tensors):
    return b"".join(t.data for _, t in in_order(tensors))


def write(path, tensors):
    write_raw(path, header_of(tensors), data_of(tensors))


# Number formats.

E2M1 = np.array([0, 0.5, 1, 1.5, 2, 3, 4, 6, -0.0, -0.5, -1, -1.5, -2, -3, -4, -6], np.float32)


def bf16_to_float(bits):
    return (bits.astype(np.uint32) << 16).view(np.float32)


def float_to_bf16(x):
    """To nearest, ties to even; for finite values."""
    bits = np.ascontiguousarray(x, np.float32).view(np.uint32)
    return ((bits + 0x7FFF + ((bits >> 16) & 1)) >> 16).astype(np.uint16)


def e4m3_table():
    code = np.arange(256)
    exponent, mantissa = (code >> 3) & 15, code & 7
    value = np.where(exponent == 0, mantissa * 2.0**-9, (8 + mantissa) * 2.0 ** (exponent - 10.0))
    value = np.where(code & 128, -value, value)
    value[(code & 127) == 127] = np.nan
    return value.astype(np.float32)


def dequantize_fp8_block(codes, scale_inv):
    scale = np.repeat(np.repeat(scale_inv, 128, axis=0), 128, axis=1)[: codes.shape[0], : codes.shape[1]]
    return e4m3_table()[codes] * scale


def quantize_fp8_block(x):
    """Nearest code, for making an FP8 source; which way ties go does not matter to a source."""
    rows, columns = x.shape
    scale = np.empty((-(-rows // 128), -(-columns // 128)), np.float32)
    for i in range(scale.shape[0]):
        for j in range(scale.shape[1]):
            scale[i, j] = np.abs(x[i * 128 : i * 128 + 128, j * 128 : j * 128 + 128]).max() / np.float32(448)
    full = np.repeat(np.repeat(scale, 128, axis=0), 128, axis=1)[:rows, :columns]
    positive = e4m3_table()[:127]
    edges = (positive[1:] + positive[:-1]) / 2
    code = np.searchsorted(edges, np.abs(x / full)).astype(np.uint8)
    return np.where(x < 0, code | 128, code).astype(np.uint8), scale


def quantize_mxfp4(x, mode="even"):
    """(n, k) float32 -> packed codes (n, k/2), E8M0 scales (n, k/32), as the OCP MX specification and Quark have it."""
    n, k = x.shape
    blocks = x.reshape(n, k // 32, 32).astype(np.float64)
    amax = np.abs(blocks).max(axis=-1)
    mantissa, exponent = np.frexp(amax)  # amax = mantissa * 2^exponent, mantissa in [0.5, 1)
    e = exponent - 1 - 2
    if mode == "even":
        e = e + (mantissa >= 0.875)
    elif mode == "ceil":
        e = e + (mantissa > 0.75)
    e = np.where(amax == 0, -127, np.clip(e, -127, 127))
    magnitude = np.minimum(np.abs(blocks) / np.ldexp(1.0, e)[..., None], 6.0)
    edges = np.array([0.25, 0.75, 1.25, 1.75, 2.5, 3.5, 5.0])
    below = np.searchsorted(edges, magnitude, side="left")  # a tie goes to the lower code
    above = np.searchsorted(edges, magnitude, side="right")  # a tie goes to the upper code
    code = np.where(below % 2 == 0, below, above).astype(np.uint8)
    code = np.where(np.signbit(blocks) & (amax[..., None] != 0), code | 8, code).astype(np.uint8).reshape(n, k)
    return code[:, 0::2] | (code[:, 1::2] << 4), (e + 127).astype(np.uint8)


def dequantize_mxfp4(packed, scales):
    codes = np.stack([packed & 15, packed >> 4], axis=-1).reshape(packed.shape[0], -1)
    return E2M1[codes] * np.repeat(np.ldexp(np.float32(1), scales.astype(np.int32) - 127), 32, axis=1)
