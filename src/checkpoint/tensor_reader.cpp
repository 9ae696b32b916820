#include "checkpoint/tensor_reader.h"

#include <fmt/format.h>

#include <algorithm>
#include <bit>
#include <cstring>

#include "core/error.h"

namespace mxmla {
namespace {

constexpr int64_t CeilDiv(int64_t a, int64_t b) { return (a + b - 1) / b; }

void RequireShape(const Tensor& tensor, std::string_view dtypes, bool dtype_fits, int64_t n, int64_t k) {
  if (dtype_fits && tensor.shape == std::vector<int64_t>{n, k}) return;
  Fail(ErrorCode::kTensor, TensorSubject(tensor), DescribeShape(dtypes, n, k), tensor.Describe());
}

void RefuseScale(const Tensor& weight, const Tensor* scale, std::string_view why) {
  if (scale) {
    Fail(ErrorCode::kTensor, TensorSubject(*scale),
         fmt::format("no such scale beside a weight of {}", TensorDTypeName(weight.dtype)), scale->Describe(), why);
  }
}

[[noreturn]] void FailMissingScale(const Tensor& weight, std::string_view suffix, std::string_view dtypes, int64_t n,
                                   int64_t k) {
  const std::string module = weight.name.substr(0, weight.name.size() - std::strlen(kWeightSuffix));
  Fail(ErrorCode::kTensor, fmt::format("tensor \"{}{}\"", module, suffix),
       DescribeShape(dtypes, n, k) + fmt::format(", the scale of a weight of {}", TensorDTypeName(weight.dtype)),
       "no such tensor");
}

constexpr std::string_view kNanHint = "the checkpoint is damaged, or its quantisation met NaN";

// "(3, 17)": the place of element `index` in a tensor of that shape.
std::string Place(const Tensor& tensor, int64_t index) {
  std::string place;
  for (size_t d = tensor.shape.size(); d-- > 0;) {
    const int64_t at = index % tensor.shape[d];
    index /= tensor.shape[d];
    place = place.empty() ? fmt::format("{}", at) : fmt::format("{}, {}", at, place);
  }
  return "(" + place + ")";
}

void CheckScales(const Tensor& tensor) {
  if (tensor.dtype != TensorDType::kF32) {
    const void* bad = std::memchr(tensor.data, e8m0::kNan, tensor.bytes);
    if (!bad) return;
    Fail(ErrorCode::kNanScale, TensorSubject(tensor), "scales that are numbers",
         "255, NaN, at " + Place(tensor, static_cast<const std::byte*>(bad) - tensor.data), kNanHint);
  }
  const int64_t count = tensor.elements();
  for (int64_t i = 0; i < count; ++i) {
    uint32_t bits = 0;
    std::memcpy(&bits, tensor.data + 4 * i, 4);
    if (bits < 0x7f800000u || bits == 0x80000000u) continue;
    Fail(ErrorCode::kNanScale, TensorSubject(tensor), "scales that are finite and not negative",
         fmt::format("{} at {}", std::bit_cast<float>(bits), Place(tensor, i)), kNanHint);
  }
}

// The first element whose bits under `mask` are `mask`: an exponent of ones is NaN or an infinity.
template <class Bits>
int64_t FindOnes(const Tensor& tensor, Bits mask) {
  constexpr int64_t kBlock = 4096;
  const auto count = static_cast<int64_t>(tensor.bytes / sizeof(Bits));
  for (int64_t begin = 0; begin < count; begin += kBlock) {
    const int64_t size = std::min(kBlock, count - begin);
    Bits block[kBlock];
    std::memcpy(block, tensor.data + begin * static_cast<int64_t>(sizeof(Bits)),
                static_cast<size_t>(size) * sizeof(Bits));
    unsigned found = 0;
    for (int64_t i = 0; i < size; ++i) found |= static_cast<unsigned>((block[i] & mask) == mask);
    if (!found) continue;
    for (int64_t i = 0; i < size; ++i) {
      if ((block[i] & mask) == mask) return begin + i;
    }
  }
  return -1;
}

float HalfToFloat(uint16_t bits) {
  const uint32_t sign = static_cast<uint32_t>(bits & 0x8000u) << 16;
  const uint32_t exponent = (bits >> 10) & 0x1fu;
  const uint32_t mantissa = bits & 0x3ffu;
  if (exponent == 0) {
    const float magnitude = static_cast<float>(mantissa) * 0x1p-24f;
    return sign ? -magnitude : magnitude;
  }
  const uint32_t wide = exponent == 31 ? 255u : exponent + 112u;
  return std::bit_cast<float>(sign | (wide << 23) | (mantissa << 13));
}

}  // namespace

std::string TensorSubject(const Tensor& tensor) { return fmt::format("tensor \"{}\" of {}", tensor.name, tensor.file); }

std::string DescribeShape(std::string_view dtype, int64_t n, int64_t k) {
  return fmt::format("{} ({}, {})", dtype, n, k);
}

LinearWeight ReadMatrix(const MatrixTensors& tensors, int64_t n, int64_t k) {
  const Tensor& weight = *tensors.weight;
  const bool quantized = weight.dtype == TensorDType::kF8E4m3 || weight.dtype == TensorDType::kU8;
  if (!quantized) {
    constexpr std::string_view kWhy = "the weight is not quantised, so the scale has no meaning";
    RequireShape(weight, "BF16, F32, F16, F8_E4M3 or U8",
                 weight.dtype == TensorDType::kF32 || weight.dtype == TensorDType::kBf16, n, k);
    RefuseScale(weight, tensors.fp8_scale, kWhy);
    RefuseScale(weight, tensors.mxfp4_scale, kWhy);
    if (weight.dtype == TensorDType::kF32) return weight.As<float, 2>();
    return weight.As<bf16, 2>();
  }
  if (weight.dtype == TensorDType::kF8E4m3) {
    constexpr std::string_view kWhy = "FP8 weights have a weight_scale_inv";
    RequireShape(weight, "F8_E4M3", true, n, k);
    RefuseScale(weight, tensors.mxfp4_scale, kWhy);
    const int64_t scale_n = CeilDiv(n, kFp8Block);
    const int64_t scale_k = CeilDiv(k, kFp8Block);
    if (!tensors.fp8_scale) FailMissingScale(weight, kFp8ScaleSuffix, "F32", scale_n, scale_k);
    RequireShape(*tensors.fp8_scale, "F32", tensors.fp8_scale->dtype == TensorDType::kF32, scale_n, scale_k);
    return Fp8Block{weight.As<e4m3, 2>(), tensors.fp8_scale->As<float, 2>(), 0};
  }
  RefuseScale(weight, tensors.fp8_scale, "MXFP4 weights have a weight_scale");
  if (k % kMxBlock != 0) {
    Fail(ErrorCode::kTensor, TensorSubject(weight), DescribeShape("BF16, F32 or F8_E4M3", n, k), weight.Describe(),
         fmt::format("MXFP4 rows are a multiple of {} elements", kMxBlock));
  }
  RequireShape(weight, "U8", true, n, k / 2);
  if (!tensors.mxfp4_scale) FailMissingScale(weight, kMxfp4ScaleSuffix, "U8", n, k / kMxBlock);
  const TensorDType scale_dtype = tensors.mxfp4_scale->dtype;
  RequireShape(*tensors.mxfp4_scale, "U8", scale_dtype == TensorDType::kU8 || scale_dtype == TensorDType::kF8E8m0, n,
               k / kMxBlock);
  return Mxfp4<const e2m1x2, 2>{weight.As<e2m1x2, 2>(), tensors.mxfp4_scale->As<e8m0, 2>()};
}

void CheckFinite(const Tensor& tensor) {
  int64_t bad = -1;
  switch (tensor.dtype) {
    case TensorDType::kF32:
      bad = FindOnes<uint32_t>(tensor, 0x7f800000u);
      break;
    case TensorDType::kBf16:
      bad = FindOnes<uint16_t>(tensor, 0x7f80u);
      break;
    case TensorDType::kF16:
      bad = FindOnes<uint16_t>(tensor, 0x7c00u);
      break;
    case TensorDType::kF8E4m3:
      bad = FindOnes<uint8_t>(tensor, 0x7fu);
      break;
    default:
      return;  // every code of the other formats is a number
  }
  if (bad < 0) return;
  Fail(ErrorCode::kNanScale, TensorSubject(tensor), "finite numbers", "NaN or infinity at " + Place(tensor, bad),
       "the checkpoint is damaged; fetch it again");
}

void CheckMatrix(const MatrixTensors& tensors) {
  if (tensors.fp8_scale) CheckScales(*tensors.fp8_scale);
  if (tensors.mxfp4_scale) CheckScales(*tensors.mxfp4_scale);
  CheckFinite(*tensors.weight);
}

Tensor WidenHalf(const Tensor& tensor, std::vector<std::byte>* storage) {
  const auto count = static_cast<size_t>(tensor.elements());
  const auto wide_bits = [&](size_t i) {
    uint16_t bits = 0;
    std::memcpy(&bits, tensor.data + 2 * i, 2);
    return std::bit_cast<uint32_t>(HalfToFloat(bits));
  };
  bool fits_bf16 = true;
  for (size_t i = 0; i < count && fits_bf16; ++i) fits_bf16 = (wide_bits(i) & 0xffffu) == 0;
  Tensor result = tensor;
  result.dtype = fits_bf16 ? TensorDType::kBf16 : TensorDType::kF32;
  result.bytes = count * (fits_bf16 ? 2 : 4);
  storage->resize(result.bytes);
  for (size_t i = 0; i < count; ++i) {
    const uint32_t wide = wide_bits(i);
    const auto upper = static_cast<uint16_t>(wide >> 16);
    if (fits_bf16) {
      std::memcpy(storage->data() + 2 * i, &upper, 2);
    } else {
      std::memcpy(storage->data() + 4 * i, &wide, 4);
    }
  }
  result.data = storage->data();
  return result;
}

std::pair<int64_t, int64_t> MatrixExtents(const MatrixTensors& tensors) {
  const Tensor& weight = *tensors.weight;
  if (weight.shape.size() != 2) return {0, 0};
  return {weight.shape[0], weight.dtype == TensorDType::kU8 ? 2 * weight.shape[1] : weight.shape[1]};
}

std::vector<float> ReadVector(const Tensor& tensor, int64_t n) {
  const bool dtype_fits =
      tensor.dtype == TensorDType::kF32 || tensor.dtype == TensorDType::kBf16 || tensor.dtype == TensorDType::kF16;
  if (!dtype_fits || tensor.shape != std::vector<int64_t>{n}) {
    Fail(ErrorCode::kTensor, TensorSubject(tensor), fmt::format("BF16, F32 or F16 ({})", n), tensor.Describe());
  }
  // By bytes: a vector is copied anyway, so its alignment does not matter.
  std::vector<float> result(static_cast<size_t>(n));
  if (tensor.dtype == TensorDType::kF32) {
    std::memcpy(result.data(), tensor.data, tensor.bytes);
    return result;
  }
  for (size_t i = 0; i < result.size(); ++i) {
    uint16_t bits = 0;
    std::memcpy(&bits, tensor.data + 2 * i, 2);
    result[i] = tensor.dtype == TensorDType::kBf16 ? bf16{bits}.ToFloat() : HalfToFloat(bits);
  }
  return result;
}

}  // namespace mxmla
