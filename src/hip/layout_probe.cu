#include "hip/layout_probe.h"

#include "hip/product_launch.cuh"

namespace mxmla::hip {
namespace {

struct Params {
  const uint32_t *a, *b, *scales_a, *scales_b;
  float* out;
};

template <Instruction kInstruction, int kByte>
__global__ void __launch_bounds__(kWave) ProbeKernel(const Params p) {
  const int lane = static_cast<int>(threadIdx.x);
  const auto load = [&](const uint32_t* from, int words) {
    Int8 value = {};
    for (int i = 0; i < words; ++i) value[i] = static_cast<int>(from[i * kWave + lane]);
    return value;
  };
  const auto store = [&](const auto& value, int words) {
    for (int i = 0; i < words; ++i) p.out[i * kWave + lane] = value[i];
  };
  const int scale_a = static_cast<int>(p.scales_a[lane]), scale_b = static_cast<int>(p.scales_b[lane]);
  if constexpr (kInstruction == Instruction::kBf16Of16 || kInstruction == Instruction::kBf16Of32) {
    const auto halves = [&](const uint32_t* from) {
      const Int8 words = load(from, 4);
      return __builtin_bit_cast(Halves8, Int4{words[0], words[1], words[2], words[3]});
    };
    if constexpr (kInstruction == Instruction::kBf16Of16) {
      store(__builtin_amdgcn_mfma_f32_16x16x32_bf16(halves(p.a), halves(p.b), Float4{}, 0, 0, 0), 4);
    } else {
      store(__builtin_amdgcn_mfma_f32_32x32x16_bf16(halves(p.a), halves(p.b), Float16{}, 0, 0, 0), 16);
    }
  } else if constexpr (kInstruction == Instruction::kFp4Of16) {
    store(__builtin_amdgcn_mfma_scale_f32_16x16x128_f8f6f4(load(p.a, 4), load(p.b, 4), Float4{}, 4, 4, kByte, scale_a,
                                                           kByte, scale_b),
          4);
  } else if constexpr (kInstruction == Instruction::kFp4Of32) {
    store(__builtin_amdgcn_mfma_scale_f32_32x32x64_f8f6f4(load(p.a, 4), load(p.b, 4), Float16{}, 4, 4, kByte, scale_a,
                                                          kByte, scale_b),
          16);
  } else if constexpr (kInstruction == Instruction::kFp8Of16) {
    store(__builtin_amdgcn_mfma_scale_f32_16x16x128_f8f6f4(load(p.a, 8), load(p.b, 8), Float4{}, 0, 0, kByte, scale_a,
                                                           kByte, scale_b),
          4);
  } else {
    store(__builtin_amdgcn_mfma_scale_f32_32x32x64_f8f6f4(load(p.a, 8), load(p.b, 8), Float16{}, 0, 0, kByte, scale_a,
                                                          kByte, scale_b),
          16);
  }
}

template <Instruction kInstruction>
void Start(int scale_byte, const Params& p, hipStream_t stream) {
  switch (scale_byte) {
    case 0:
      ProbeKernel<kInstruction, 0><<<1, kWave, 0, stream>>>(p);
      break;
    case 1:
      ProbeKernel<kInstruction, 1><<<1, kWave, 0, stream>>>(p);
      break;
    case 2:
      ProbeKernel<kInstruction, 2><<<1, kWave, 0, stream>>>(p);
      break;
    default:
      ProbeKernel<kInstruction, 3><<<1, kWave, 0, stream>>>(p);
  }
}

}  // namespace

Shape ShapeOf(Instruction instruction) {
  switch (instruction) {
    case Instruction::kBf16Of16:
      return {"v_mfma_f32_16x16x32_bf16", 16, 32, 16, 4, 4, false};
    case Instruction::kBf16Of32:
      return {"v_mfma_f32_32x32x16_bf16", 32, 16, 16, 4, 16, false};
    case Instruction::kFp4Of16:
      return {"v_mfma_scale_f32_16x16x128_f8f6f4, FP4", 16, 128, 4, 4, 4, true};
    case Instruction::kFp4Of32:
      return {"v_mfma_scale_f32_32x32x64_f8f6f4, FP4", 32, 64, 4, 4, 16, true};
    case Instruction::kFp8Of16:
      return {"v_mfma_scale_f32_16x16x128_f8f6f4, FP8", 16, 128, 8, 8, 4, true};
    default:
      return {"v_mfma_scale_f32_32x32x64_f8f6f4, FP8", 32, 64, 8, 8, 16, true};
  }
}

void RunInstruction(Instruction instruction, int scale_byte, const uint32_t* a, const uint32_t* b,
                    const uint32_t* scales_a, const uint32_t* scales_b, float* out, hipStream_t stream) {
  const Params p{a, b, scales_a, scales_b, out};
  switch (instruction) {
    case Instruction::kBf16Of16:
      Start<Instruction::kBf16Of16>(0, p, stream);
      break;
    case Instruction::kBf16Of32:
      Start<Instruction::kBf16Of32>(0, p, stream);
      break;
    case Instruction::kFp4Of16:
      Start<Instruction::kFp4Of16>(scale_byte, p, stream);
      break;
    case Instruction::kFp4Of32:
      Start<Instruction::kFp4Of32>(scale_byte, p, stream);
      break;
    case Instruction::kFp8Of16:
      Start<Instruction::kFp8Of16>(scale_byte, p, stream);
      break;
    case Instruction::kFp8Of32:
      Start<Instruction::kFp8Of32>(scale_byte, p, stream);
      break;
  }
  CheckStarted("layout probe");
}

}  // namespace mxmla::hip
