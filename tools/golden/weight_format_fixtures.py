#!/usr/bin/env python3
"""Bit-exact fixtures of the formats of weights, by the formats' own packages, for tests/formats.

    python tools/golden/weight_format_fixtures.py     (needs numpy, torch, gguf, compressed-tensors, ml_dtypes)

Writes tests/formats/fixtures/weights.{json,bin}, in the layout of format_fixtures.py: random codes and scales, and what
gguf (GGML's blocks), compressed-tensors (INT4, NVFP4) and ml_dtypes (MXFP8, FP8 by rows) make of them.
"""

import json
import pathlib

import gguf
import ml_dtypes
import numpy as np
import torch
from compressed_tensors.compressors.nvfp4.helpers import unpack_fp4_from_uint8
from compressed_tensors.compressors.pack_quantized.helpers import unpack_from_int32

rng = np.random.default_rng(20261130)
arrays = {}


def halves(count):
    """Of ordinary size, and a few subnormal ones."""
    values = rng.uniform(1e-4, 1e-2, count).astype(np.float16)
    values[::7] = np.float16(3e-6)
    return values.view(np.uint8).reshape(count, 2)


def ggml(name, kind, blocks, halves_at):
    elements, size = gguf.GGML_QUANT_SIZES[kind]
    data = rng.integers(0, 256, (blocks, size), dtype=np.uint8)
    for at in halves_at:
        data[:, at : at + 2] = halves(blocks)
    if kind == gguf.GGMLQuantizationType.MXFP4:
        data[:, 0] = rng.integers(0, 254, blocks)
        data[0, 0], data[1, 0] = 0, 1
    arrays[f"{name}_blocks"] = data
    arrays[f"{name}_values"] = gguf.quants.dequantize(data, kind).astype(np.float32).reshape(blocks, elements)


def int4():
    n, k = 5, 96
    words = rng.integers(-(2**31), 2**31, (n, k // 8), dtype=np.int64).astype(np.int32)
    scales = rng.uniform(1e-3, 1e-1, (n, k // 32)).astype(ml_dtypes.bfloat16)
    q = unpack_from_int32(torch.from_numpy(words), 4, torch.Size([n, k])).numpy().astype(np.float32)
    arrays["int4_words"] = words
    arrays["int4_scales"] = scales.view(np.uint16)
    arrays["int4_values"] = q * np.repeat(scales.astype(np.float32), 32, 1)


def nvfp4():
    n, k = 5, 80
    codes = rng.integers(0, 256, (n, k // 2), dtype=np.uint8)
    scales = rng.integers(1, 0x7F, (n, k // 16), dtype=np.uint8)
    whole = np.float32([2688.5])
    q = unpack_fp4_from_uint8(torch.from_numpy(codes), n, k).float().numpy()
    s = scales.view(ml_dtypes.float8_e4m3fn).astype(np.float32)
    arrays["nvfp4_codes"], arrays["nvfp4_scales"], arrays["nvfp4_whole"] = codes, scales, whole
    arrays["nvfp4_divided"] = q * np.repeat(s / whole, 16, 1)  # compressed-tensors' scale of the tensor is a divisor
    arrays["nvfp4_multiplied"] = q * np.repeat(s * whole, 16, 1)  # ModelOpt's a factor


def mxfp8():
    n, k = 3, 64
    codes = rng.integers(0, 256, (n, k), dtype=np.uint8)
    scales = rng.integers(0, 250, (n, k // 32), dtype=np.uint8)
    scales[0, 0] = 0
    with np.errstate(over="ignore"):
        values = codes.view(ml_dtypes.float8_e4m3fn).astype(np.float64) * np.repeat(
            scales.view(ml_dtypes.float8_e8m0fnu).astype(np.float64), 32, 1)
        arrays["mxfp8_values"] = values.astype(np.float32)
    arrays["mxfp8_codes"], arrays["mxfp8_scales"] = codes, scales


def main():
    kinds = gguf.GGMLQuantizationType
    ggml("q8_0", kinds.Q8_0, 6, [0])
    ggml("q4_k", kinds.Q4_K, 3, [0, 2])
    ggml("q6_k", kinds.Q6_K, 3, [208])
    ggml("ggml_mxfp4", kinds.MXFP4, 8, [])
    int4()
    nvfp4()
    mxfp8()
    half = np.arange(0, 0x10000, 37, dtype=np.uint16)
    arrays["f16_bits"] = half
    arrays["f16_values"] = half.view(np.float16).astype(np.float32)

    folder = pathlib.Path(__file__).resolve().parents[2] / "tests/formats/fixtures"
    index, blob = {}, b""
    for name, array in arrays.items():
        index[name] = {"dtype": array.dtype.name, "shape": list(array.shape), "offset": len(blob)}
        blob += array.tobytes()
        blob += b"\0" * (-len(blob) % 8)
    (folder / "weights.bin").write_bytes(blob)
    (folder / "weights.json").write_text(json.dumps(index, indent=1) + "\n")
    print(f"{len(arrays)} arrays, {len(blob)} bytes")


if __name__ == "__main__":
    main()
