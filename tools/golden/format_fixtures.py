#!/usr/bin/env python3
"""Bit-exact fixtures of the number formats, by ml_dtypes and PyTorch, for tests/formats.

    python tools/golden/format_fixtures.py            (needs numpy, ml_dtypes, torch)

Writes tests/formats/fixtures/formats.{json,bin}: the JSON names each array's type, shape and offset in the binary file.
"""
import json
import pathlib
from fractions import Fraction

import ml_dtypes
import numpy as np
import torch

BF16 = ml_dtypes.bfloat16
E4M3 = ml_dtypes.float8_e4m3fn
E8M0 = ml_dtypes.float8_e8m0fnu
E2M1 = ml_dtypes.float4_e2m1fn
MX_BLOCK, FP8_GROUP, FP8_BLOCK = 32, 128, 128

rng = np.random.default_rng(20250611)
arrays = {}


def floats(bits):
    return np.asarray(bits, np.uint32).view(np.float32)


def hard_floats():
    """Where rounding goes wrong: the neighbours of every midpoint, subnormals, the ends of every range."""
    bits = [0, 1, 2, 0x7FFFFF, 0x800000, 0x7F7FFFFF, 0x7F7F8000, 0x7F7F7FFF, 0x7F800000, 0x7FC00000, 0x7F800001,
            0x7FFFFFFF, 0x00007FFF, 0x00008000, 0x00008001, 0x00018000, 0x3F808000, 0x3F818000, 0x3F807FFF, 0x3F808001]
    codes = np.arange(0x7F, dtype=np.uint8).view(E4M3).astype(np.float64)
    midpoints = ((codes[1:] + codes[:-1]) / 2).astype(np.float32)
    for value in list(codes.astype(np.float32)) + list(midpoints) + [447.9, 448, 448.1, 463.9, 464, 464.1, 480, 1e30]:
        centre = int(np.float32(value).view(np.uint32))
        bits += [centre, centre + 1, max(centre - 1, 0)]
    random = rng.integers(0, 1 << 31, 600, dtype=np.uint32)
    near = floats(rng.integers(0x3A000000, 0x44000000, 600, dtype=np.uint32)).view(np.uint32)
    unsigned = np.unique(np.concatenate([np.asarray(bits, np.uint32), random, near]))
    return floats(np.concatenate([unsigned, unsigned | np.uint32(0x80000000)]))


def saturate(values, limit):
    return np.where(np.isnan(values), values, np.clip(values, -limit, limit))


def check_with_torch(values, bf16, e4m3):
    """A second independent tool must agree where both define the result."""
    number = ~np.isnan(values)
    torch_bf16 = torch.from_numpy(values).to(torch.bfloat16).view(torch.int16).numpy().view(np.uint16)
    assert (torch_bf16[number] == bf16.view(np.uint16)[number]).all()
    inside = number & (np.abs(values) <= 448)
    torch_e4m3 = torch.from_numpy(values).to(torch.float8_e4m3fn).view(torch.uint8).numpy()
    assert (torch_e4m3[inside] == e4m3.view(np.uint8)[inside]).all()
    decoded = torch.arange(256, dtype=torch.uint8).view(torch.float8_e4m3fn).float().numpy()
    assert np.array_equal(decoded, arrays["e4m3_values"], equal_nan=True)


def mx_exponent(amax, mode):
    """design.md section 2, in exact arithmetic."""
    if mode == "even":
        raised = int(np.float32(amax).view(np.uint32)) + 0x200000
        exponent = (raised >> 23) - 127 - 2  # a float's exponent field is floor(log2) of it
    elif mode == "floor":
        exponent = int(np.frexp(np.float64(amax))[1]) - 1 - 2
    else:
        exponent = -200
        while Fraction(float(amax)) > 6 * Fraction(2) ** exponent:
            exponent += 1
    return min(max(exponent, -127), 127)


def quantize_mxfp4(block, mode):
    amax = np.abs(block).max()
    if not np.isfinite(amax) or np.isnan(block).any():
        return np.zeros(MX_BLOCK // 2, np.uint8), 255
    if amax == 0:
        return np.zeros(MX_BLOCK // 2, np.uint8), 0
    exponent = mx_exponent(amax, mode)
    scaled = np.ldexp(block.astype(np.float64), -exponent)
    codes = np.clip(scaled, -6, 6).astype(E2M1).view(np.uint8) & 0xF
    return codes[0::2] | (codes[1::2] << 4), exponent + 127


def mx_blocks():
    blocks = []
    for scale in [2.0**e for e in range(-149, 128, 6)] + [1.0] * 40 + [0.02] * 40:
        with np.errstate(over="ignore"):
            block = (rng.standard_normal(MX_BLOCK) * scale).astype(np.float32)
        blocks.append(np.clip(block, -np.finfo(np.float32).max, np.finfo(np.float32).max))
    # Every code and every tie, at several scales; the largest value fixes the scale at 2^e.
    steps = np.arange(0, 6.25, 0.25)
    for exponent in [-126, -100, -3, 0, 1, 60, 120]:
        for top in [4.0, 6.0, 7.0, 5.0]:
            block = np.zeros(MX_BLOCK)
            block[: len(steps)] = np.minimum(steps, top) * rng.choice([-1, 1], len(steps))
            block[31] = top
            blocks.append(np.ldexp(block, exponent).astype(np.float32))
    # The largest magnitude just below, at and above where each mode changes the exponent.
    for bits in [0x3F800000, 0x3FC00000, 0x3FE00000, 0x40000000, 0x40C00000, 0x40E00000, 0x00200000, 0x00400000,
                 0x00600000, 0x00800000, 0x00C00000, 0x01000000, 0x01400000, 0x01800000, 0x7F000000, 0x7F400000,
                 0x7F600000, 0x7F7FFFFF]:
        for step in (-1, 0, 1):
            if bits + step >= 0x7F800000:
                continue
            amax = floats([bits + step])[0]
            block = (rng.uniform(-1, 1, MX_BLOCK) * np.float64(amax)).astype(np.float32)
            block[rng.integers(MX_BLOCK)] = -amax if step else amax
            blocks.append(block)
    blocks.append(np.zeros(MX_BLOCK, np.float32))
    blocks.append(np.full(MX_BLOCK, -0.0, np.float32))
    smallest = np.zeros(MX_BLOCK, np.float32)
    smallest[5] = floats([1])[0]
    blocks.append(smallest)
    for poison in [np.nan, np.inf, -np.inf, floats([0xFFC00001])[0]]:
        block = rng.standard_normal(MX_BLOCK).astype(np.float32)
        block[7] = poison
        blocks.append(block)
    return np.stack(blocks)


def mxfp4():
    blocks = mx_blocks()
    arrays["mx_blocks"] = blocks
    for mode in ("even", "floor", "ceil"):
        pairs = [quantize_mxfp4(block, mode) for block in blocks]
        arrays[f"mx_codes_{mode}"] = np.stack([codes for codes, _ in pairs]).astype(np.uint8)
        arrays[f"mx_scales_{mode}"] = np.asarray([scale for _, scale in pairs], np.uint8)
    # Dequantise: every scale with random codes.
    codes = rng.integers(0, 256, (256, MX_BLOCK // 2), dtype=np.uint8)
    nibbles = np.stack([codes & 0xF, codes >> 4], axis=-1).reshape(256, MX_BLOCK)
    with np.errstate(over="ignore"):
        values = nibbles.view(E2M1).astype(np.float64) * np.arange(256, dtype=np.uint8).view(E8M0).astype(np.float64)[:, None]
        arrays["mx_dequantized"] = values.astype(np.float32)
    arrays["mx_dequantize_codes"] = codes


def fp8_group():
    rows, k = 7, 300  # two whole groups and one of 44
    x = (rng.standard_normal((rows, k)) * np.logspace(-12, 6, rows)[:, None]).astype(np.float32)
    x[1, :128] = 0  # the floor of 1e-10
    x[2, 128:256] = np.float32(1e-12)
    x[3, 256:] = np.linspace(-448, 448, 44, dtype=np.float32)
    x[4, :128] = np.repeat(np.arange(0x7F, dtype=np.uint8).view(E4M3).astype(np.float32)[-16:], 8)
    x[5, 140] = np.finfo(np.float32).max
    x[6, 3] = np.nan
    x[6, 200] = np.inf
    groups = -(-k // FP8_GROUP)
    arrays["fp8_group_x"] = x
    for suffix, power_of_two in (("", False), ("_ue8m0", True)):
        codes = np.zeros((rows, k), np.uint8)
        scales = np.zeros((rows, groups), np.float32)
        for row in range(rows):
            for group in range(groups):
                span = slice(group * FP8_GROUP, min(k, (group + 1) * FP8_GROUP))
                amax = np.abs(x[row, span]).max()
                if not np.isfinite(amax):
                    scales[row, group] = np.nan
                    continue
                scale = np.maximum(amax, np.float32(1e-10)) / np.float32(448)
                if power_of_two:
                    scale = np.float32(2.0 ** np.ceil(np.log2(scale.astype(np.float64))))
                scales[row, group] = scale
                codes[row, span] = saturate(x[row, span] / scale, 448).astype(E4M3).view(np.uint8)
        arrays[f"fp8_group_codes{suffix}"] = codes
        arrays[f"fp8_group_scales{suffix}"] = scales


def fp8_block():
    n, k = 576, 200  # five scale rows and two scale columns, ragged in both
    codes = rng.integers(0, 256, (n, k), dtype=np.uint8)
    scales = rng.uniform(1e-4, 2e-2, (-(-n // FP8_BLOCK), -(-k // FP8_BLOCK))).astype(np.float32)
    values = codes.view(E4M3).astype(np.float32)
    values = values * np.repeat(np.repeat(scales, FP8_BLOCK, 0)[:n], FP8_BLOCK, 1)[:, :k]
    rows = np.asarray([0, 1, 127, 128, 129, 255, 256, 383, 384, 511, 512, 575], np.int32)
    arrays["fp8_block_codes"] = codes
    arrays["fp8_block_scales"] = scales
    arrays["fp8_block_rows"] = rows
    arrays["fp8_block_values"] = values[rows]


def main():
    arrays["e4m3_values"] = np.arange(256, dtype=np.uint8).view(E4M3).astype(np.float32)
    arrays["e8m0_values"] = np.arange(256, dtype=np.uint8).view(E8M0).astype(np.float32)
    arrays["e2m1_values"] = np.arange(16, dtype=np.uint8).view(E2M1).astype(np.float32)
    values = hard_floats()
    arrays["hard_floats"] = values
    bf16 = values.astype(BF16)
    e4m3 = saturate(values, 448).astype(E4M3)
    check_with_torch(values, bf16, e4m3)
    arrays["hard_bf16"] = bf16.view(np.uint16)
    arrays["hard_e4m3"] = e4m3.view(np.uint8)
    arrays["hard_e2m1"] = saturate(values, 6).astype(E2M1).view(np.uint8)  # NaN is not compared
    mxfp4()
    fp8_group()
    fp8_block()

    folder = pathlib.Path(__file__).resolve().parents[2] / "tests/formats/fixtures"
    folder.mkdir(parents=True, exist_ok=True)
    index, blob = {}, b""
    for name, array in arrays.items():
        index[name] = {"dtype": array.dtype.name, "shape": list(array.shape), "offset": len(blob)}
        blob += array.tobytes()
        blob += b"\0" * (-len(blob) % 8)
    (folder / "formats.bin").write_bytes(blob)
    (folder / "formats.json").write_text(json.dumps(index, indent=1) + "\n")
    print(f"{len(arrays)} arrays, {len(blob)} bytes")


if __name__ == "__main__":
    main()
