#include "checkpoint/tensor_reader.h"

#include <fmt/format.h>

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

void ScanScales(const View<const e8m0, 2>& scales, const Tensor& tensor) {
  const void* bad = std::memchr(scales.data, e8m0::kNan, static_cast<size_t>(scales.size()));
  if (!bad) return;
  const int64_t index = static_cast<const e8m0*>(bad) - scales.data;
  Fail(ErrorCode::kNanScale, TensorSubject(tensor), "scales that are numbers",
       fmt::format("255, NaN, at ({}, {})", index / scales.shape[1], index % scales.shape[1]),
       "the checkpoint is damaged, or its quantisation met NaN");
}

void ScanScales(const View<const float, 2>& scales, const Tensor& tensor) {
  const int64_t count = scales.size();
  for (int64_t i = 0; i < count; ++i) {
    const uint32_t bits = std::bit_cast<uint32_t>(scales.data[i]);
    if (bits < 0x7f800000u || bits == 0x80000000u) continue;
    Fail(ErrorCode::kNanScale, TensorSubject(tensor), "scales that are finite and not negative",
         fmt::format("{} at ({}, {})", scales.data[i], i / scales.shape[1], i % scales.shape[1]),
         "the checkpoint is damaged, or its quantisation met NaN");
  }
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
    RequireShape(weight, "BF16, F32, F8_E4M3 or U8",
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
    const Fp8Block result{weight.As<e4m3, 2>(), tensors.fp8_scale->As<float, 2>(), 0};
    ScanScales(result.scales, *tensors.fp8_scale);
    return result;
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
  const Mxfp4<const e2m1x2, 2> result{weight.As<e2m1x2, 2>(), tensors.mxfp4_scale->As<e8m0, 2>()};
  ScanScales(result.scales, *tensors.mxfp4_scale);
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
