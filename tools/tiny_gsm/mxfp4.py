"""MXFP4 (E2M1 elements, one E8M0 scale for 32 of them) with the "even" scale rule."""

from __future__ import annotations

import torch

BLOCK = 32
_VALUES = (0.0, 0.5, 1.0, 1.5, 2.0, 3.0, 4.0, 6.0)
# Midpoints between neighbours; a tie goes to the even code, hence the two comparisons below.
_MIDPOINTS = (0.25, 0.75, 1.25, 1.75, 2.5, 3.5, 5.0)


def exponents(blocks: torch.Tensor) -> torch.Tensor:
    """Scale exponents of float32 blocks (last axis 32): the maximum is rounded to two bits first."""
    bits = blocks.abs().amax(-1, keepdim=True).view(torch.int32)
    biased = ((bits + 0x200000) >> 23) & 0xFF
    return (biased - 127 - 2).clamp(-127, 127)


def codes(scaled: torch.Tensor) -> torch.Tensor:
    """E2M1 codes 0..7 of magnitudes, round half to even, saturating at 6."""
    out = torch.zeros_like(scaled, dtype=torch.uint8)
    for i, middle in enumerate(_MIDPOINTS):
        out += (scaled > middle) if i % 2 == 0 else (scaled >= middle)
    return out


def _power(exponent: torch.Tensor) -> torch.Tensor:
    """2**exponent in float32, exactly, down to the subnormal 2**-127."""
    return torch.ldexp(torch.ones_like(exponent, dtype=torch.float32), exponent)


def fake_quant(x: torch.Tensor) -> torch.Tensor:
    """Rounds to MXFP4 along the last axis and back, in the tensor's own type."""
    blocks = x.float().reshape(-1, BLOCK)
    scale = _power(exponents(blocks))
    scaled = (blocks / scale).abs()
    # Rounding to a multiple of the local step is the same as the table, ties to even included.
    step = torch.where(scaled < 2, 0.5, torch.where(scaled < 4, 1.0, 2.0))
    rounded = (torch.round(scaled / step) * step).clamp(max=6.0)
    return (torch.copysign(rounded, blocks) * scale).reshape(x.shape).to(x.dtype)


def quantize(w: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
    """(packed codes U8 (n, k/2), even element in the low nibble; scale bytes U8 (n, k/32))."""
    n, k = w.shape
    blocks = w.float().reshape(n, k // BLOCK, BLOCK)
    exponent = exponents(blocks)
    scaled = blocks / _power(exponent)
    code = codes(scaled.abs()) | (torch.signbit(scaled).to(torch.uint8) << 3)
    zero = (blocks == 0).all(-1, keepdim=True)
    code = torch.where(zero, torch.zeros_like(code), code).reshape(n, k)
    byte = torch.where(zero, torch.zeros_like(exponent), exponent + 127).to(torch.uint8)
    return (code[:, 0::2] | (code[:, 1::2] << 4)).contiguous(), byte.reshape(n, k // BLOCK)


def dequantize(packed: torch.Tensor, scales: torch.Tensor) -> torch.Tensor:
    n, half = packed.shape
    code = torch.stack([packed & 15, packed >> 4], -1).reshape(n, half * 2)
    value = torch.tensor(_VALUES, device=packed.device)[(code & 7).long()]
    value = torch.where(code >= 8, -value, value)
    return value * _power(scales.to(torch.int32) - 127).repeat_interleave(BLOCK, 1)
