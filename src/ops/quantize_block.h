// The exact arithmetic of quantisation, one block at a time; shared by every backend and by `mxmla quantize`.
#pragma once

#include <cstdint>

#include "core/dtype.h"

namespace mxmla {

// The E8M0 scale of an MX block whose largest magnitude is `amax` (OCP MX v1.0, E2M1 elements):
//   kEven   floor(log2(amax with 0x200000 added to its float32 bits)) - 2   (AMD Quark's "even")
//   kFloor  floor(log2(amax)) - 2
//   kCeil   the smallest e with amax / 2^e <= 6
// clamped to [-127, 127], biased by 127. 0 for amax = 0; 255 (NaN) for a NaN or infinite amax.
e8m0 Mxfp4Scale(float amax, ScaleMode mode);

// Quantises 32 float32 values to 16 bytes of E2M1 pairs; returns the scale. value / 2^e is rounded to nearest, ties to
// the even code, saturating at 6. A block that holds NaN or Inf gets scale 255 and codes 0: poison stays visible.
e8m0 QuantizeMxfp4Block(const float* values /* (32) */, ScaleMode mode, e2m1x2* codes /* (16) */);

// The scale of an FP8 group whose largest magnitude is `amax`: max(amax, 1e-10) / 448; with kCeil the smallest power of
// two that is not below it, as checkpoints with scale_fmt "ue8m0" were trained with (DeepSeek-V3.1). Not of NaN or Inf.
float Fp8GroupScale(float amax, ScaleMode mode);

// Quantises `count` <= 128 values to e4m3 under one Fp8GroupScale, which is returned. The quotient is value / scale in
// float32, clamped to +-448, rounded to nearest even. NaN values stay NaN; a NaN or infinite amax gives a NaN scale.
float QuantizeFp8Group(const float* values /* (count) */, int64_t count, ScaleMode mode, e4m3* codes /* (count) */);

}  // namespace mxmla
