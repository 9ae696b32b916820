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
  if (tensor.dtype == TensorDType::kBf16 || tensor.dtype == TensorDType::kF16 || tensor.dtype == TensorDType::kF8E4m3) {
    return CheckFinite(tensor);
  }
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

float HalfToFloat(uint16_t bits) { return f16{bits}.ToFloat(); }

bool IsFloat(const Tensor& tensor) {
  return tensor.dtype == TensorDType::kF32 || tensor.dtype == TensorDType::kBf16 || tensor.dtype == TensorDType::kF16;
}
bool IsE8m0(const Tensor& tensor) { return tensor.dtype == TensorDType::kU8 || tensor.dtype == TensorDType::kF8E8m0; }

// Every element, whatever the rank.
std::vector<float> Floats(const Tensor& tensor) {
  std::vector<float> values(static_cast<size_t>(tensor.elements()));
  for (size_t i = 0; i < values.size(); ++i) {
    if (tensor.dtype == TensorDType::kF32) {
      std::memcpy(&values[i], tensor.data + 4 * i, 4);
    } else {
      uint16_t bits = 0;
      std::memcpy(&bits, tensor.data + 2 * i, 2);
      values[i] = tensor.dtype == TensorDType::kBf16 ? bf16{bits}.ToFloat() : HalfToFloat(bits);
    }
  }
  return values;
}

// The scales where products read them: in the file where they are float32.
const float* FloatScales(const Tensor& scale, WidenedScales* widened) {
  const bool aligned = reinterpret_cast<uintptr_t>(scale.data) % alignof(float) == 0;
  if (scale.dtype == TensorDType::kF32 && aligned) return reinterpret_cast<const float*>(scale.data);
  return widened->emplace_back(Floats(scale)).data();
}

// A scale of the whole tensor: F32 of one element.
float TensorScale(const Tensor& scale) {
  if (scale.dtype == TensorDType::kF32 && scale.elements() == 1) return Floats(scale).front();
  Fail(ErrorCode::kTensor, TensorSubject(scale), "F32 (1), a scale of the tensor", scale.Describe());
}

void RefuseTensor(const Tensor* tensor, const Tensor& weight) {
  if (tensor) RefuseScale(weight, tensor, "the weight's format has no such tensor");
}

LinearWeight ReadFp8(const MatrixTensors& tensors, int64_t n, int64_t k, WidenedScales* widened) {
  const Tensor& weight = *tensors.weight;
  RequireShape(weight, "F8_E4M3", true, n, k);
  if (tensors.scale_inv) RefuseScale(weight, tensors.scale, "FP8 weights have a weight_scale_inv or a weight_scale");
  const int64_t scale_n = CeilDiv(n, kFp8Block);
  const int64_t scale_k = CeilDiv(k, kFp8Block);
  const Tensor* scale = tensors.scale_inv ? tensors.scale_inv : tensors.scale;
  if (!scale) FailMissingScale(weight, kFp8ScaleSuffix, "F32", scale_n, scale_k);
  using Shape = std::vector<int64_t>;
  const Shape& shape = scale->shape;
  if (IsE8m0(*scale) && k % kMxBlock == 0 && shape == Shape{n, k / kMxBlock}) {
    return Mxfp8{weight.As<e4m3, 2>(), scale->As<e8m0, 2>()};
  }
  const View<const e4m3, 2> values = weight.As<e4m3, 2>();
  if (IsFloat(*scale)) {
    if (shape == Shape{scale_n, scale_k}) {
      const float* data = FloatScales(*scale, widened);
      return Fp8Block{values, View<const float, 2>::Contiguous(data, {scale_n, scale_k})};
    }
    if (shape == Shape{n} || shape == Shape{n, 1}) {
      return Fp8Block{values, {FloatScales(*scale, widened), {n, scale_k}, {1, 0}}, 0, 1};
    }
    if (shape.empty() || shape == Shape{1} || shape == Shape{1, 1}) {
      return Fp8Block{values, {FloatScales(*scale, widened), {scale_n, scale_k}, {0, 0}}};
    }
  }
  Fail(
      ErrorCode::kTensor, TensorSubject(*scale),
      DescribeShape("F32", scale_n, scale_k) +
          fmt::format(", or a scale a row or a tensor of F32 or BF16, or MXFP8's U8 ({}, {})", n, CeilDiv(k, kMxBlock)),
      scale->Describe());
}

LinearWeight ReadFp4(const MatrixTensors& tensors, int64_t n, int64_t k) {
  const Tensor& weight = *tensors.weight;
  RefuseScale(weight, tensors.scale_inv, "MXFP4 weights have a weight_scale");
  const bool nvfp4 = tensors.scale_2 || tensors.global_scale;
  const int64_t block = nvfp4 ? kNvBlock : kMxBlock;
  if (k % block != 0) {
    Fail(ErrorCode::kTensor, TensorSubject(weight), DescribeShape("BF16, F32 or F8_E4M3", n, k), weight.Describe(),
         fmt::format("{} rows are a multiple of {} elements", nvfp4 ? "NVFP4" : "MXFP4", block));
  }
  RequireShape(weight, "U8", true, n, k / 2);
  const char* dtype = nvfp4 ? "F8_E4M3" : "U8";
  if (!tensors.scale) FailMissingScale(weight, kMxfp4ScaleSuffix, dtype, n, k / block);
  const Tensor& scale = *tensors.scale;
  RequireShape(scale, dtype, nvfp4 ? scale.dtype == TensorDType::kF8E4m3 : IsE8m0(scale), n, k / block);
  const auto values = View<const e2m1x2, 2>::Contiguous(reinterpret_cast<const e2m1x2*>(weight.data), {n, k / 2});
  if (!nvfp4) return Mxfp4<const e2m1x2, 2>{values, scale.As<e8m0, 2>()};
  if (tensors.scale_2) RefuseTensor(tensors.global_scale, weight);
  const Tensor& whole = tensors.scale_2 ? *tensors.scale_2 : *tensors.global_scale;
  return Nvfp4{values, scale.As<e4m3, 2>(), TensorScale(whole), tensors.scale_2 == nullptr};
}

LinearWeight ReadInt4(const MatrixTensors& tensors, int64_t n, int64_t k) {
  const Tensor& weight = *tensors.weight;
  RefuseTensor(tensors.scale_inv, weight);
  RefuseTensor(tensors.scale_2, weight);
  RefuseTensor(tensors.global_scale, weight);
  if (k % kInt4Group != 0) {
    Fail(ErrorCode::kTensor, TensorSubject(weight), DescribeShape("BF16, F32 or F8_E4M3", n, k), weight.Describe(),
         "INT4 rows are a multiple of 32 elements");
  }
  RequireShape(weight, "I32", true, n, k / 8);
  if (!tensors.scale) FailMissingScale(weight, kMxfp4ScaleSuffix, "BF16", n, k / kInt4Group);
  RequireShape(*tensors.scale, "BF16", tensors.scale->dtype == TensorDType::kBf16, n, k / kInt4Group);
  // Element j of a word is its bits 4 j ..: bytes of two elements, the even one in the low nibble.
  const auto values = View<const int4x2, 2>::Contiguous(reinterpret_cast<const int4x2*>(weight.data), {n, k / 2});
  return Int4Group{values, tensors.scale->As<bf16, 2>()};
}

template <class Block>
GgmlMatrix<Block> BlocksOf(const Tensor& weight, int64_t n, int64_t k) {
  RequireShape(weight, TensorDTypeName(weight.dtype), k % Block::kElements == 0, n, k);
  return {View<const Block, 2>::Contiguous(reinterpret_cast<const Block*>(weight.data), {n, k / Block::kElements})};
}

// The scales of every block are numbers.
template <class Block>
void CheckBlocks(const Tensor& tensor) {
  const auto blocks = static_cast<int64_t>(tensor.bytes / sizeof(Block));
  for (int64_t i = 0; i < blocks; ++i) {
    Block block;
    std::memcpy(&block, tensor.data + i * static_cast<int64_t>(sizeof(Block)), sizeof(Block));
    bool finite = true;
    if constexpr (requires { block.d; }) finite = (block.d.bits & 0x7c00u) != 0x7c00u;
    if constexpr (requires { block.dmin; }) finite = finite && (block.dmin.bits & 0x7c00u) != 0x7c00u;
    if constexpr (requires { block.scale; }) finite = block.scale.bits != e8m0::kNan;
    if (finite) continue;
    Fail(ErrorCode::kNanScale, TensorSubject(tensor), "finite numbers",
         "a scale that is NaN or infinite at " + Place(tensor, i * Block::kElements),
         "the checkpoint is damaged; fetch it again");
  }
}

// weight_shape says what the config says.
void CheckShape(const Tensor& shape, int64_t n, int64_t k) {
  const bool wide = shape.dtype == TensorDType::kI64;
  int64_t found[2] = {};
  if ((!wide && shape.dtype != TensorDType::kI32) || shape.elements() != 2) {
    Fail(ErrorCode::kTensor, TensorSubject(shape), "I32 or I64 (2)", shape.Describe());
  }
  for (int d = 0; d < 2; ++d) {
    int32_t narrow = 0;
    if (wide) {
      std::memcpy(&found[d], shape.data + 8 * d, 8);
    } else {
      std::memcpy(&narrow, shape.data + 4 * d, 4);
      found[d] = narrow;
    }
  }
  if (found[0] == n && found[1] == k) return;
  Fail(ErrorCode::kTensor, TensorSubject(shape), fmt::format("({}, {})", n, k),
       fmt::format("({}, {})", found[0], found[1]));
}

}  // namespace

std::string TensorSubject(const Tensor& tensor) { return fmt::format("tensor \"{}\" of {}", tensor.name, tensor.file); }

std::string DescribeShape(std::string_view dtype, int64_t n, int64_t k) {
  return fmt::format("{} ({}, {})", dtype, n, k);
}

LinearWeight ReadMatrix(const MatrixTensors& tensors, int64_t n, int64_t k, WidenedScales* widened) {
  const Tensor& weight = *tensors.weight;
  if (tensors.shape) CheckShape(*tensors.shape, n, k);
  if (weight.dtype == TensorDType::kF8E4m3) {
    RefuseTensor(tensors.scale_2, weight);
    RefuseTensor(tensors.global_scale, weight);
    return ReadFp8(tensors, n, k, widened);
  }
  if (weight.dtype == TensorDType::kU8) return ReadFp4(tensors, n, k);
  if (weight.dtype == TensorDType::kI32 && weight.name.ends_with(".weight_packed")) return ReadInt4(tensors, n, k);
  if (weight.dtype == TensorDType::kQ8_0) return BlocksOf<q8_0>(weight, n, k);
  if (weight.dtype == TensorDType::kQ4K) return BlocksOf<q4_k>(weight, n, k);
  if (weight.dtype == TensorDType::kQ6K) return BlocksOf<q6_k>(weight, n, k);
  if (weight.dtype == TensorDType::kGgmlMxfp4) return BlocksOf<ggml_mxfp4>(weight, n, k);
  if (weight.dtype == TensorDType::kU32) {
    Fail(ErrorCode::kTensor, TensorSubject(weight), DescribeShape("BF16, F32, F16, F8_E4M3 or U8", n, k),
         weight.Describe(), "words of MLX's layout; take the BF16 or FP8 release");
  }
  constexpr std::string_view kWhy = "the weight is not quantised, so the scale has no meaning";
  RequireShape(weight, "BF16, F32, F16, F8_E4M3 or U8", IsFloat(weight), n, k);
  RefuseScale(weight, tensors.scale_inv, kWhy);
  RefuseScale(weight, tensors.scale, kWhy);
  RefuseScale(weight, tensors.scale_2, kWhy);
  RefuseScale(weight, tensors.global_scale, kWhy);
  if (weight.dtype == TensorDType::kF32) return weight.As<float, 2>();
  if (weight.dtype == TensorDType::kF16) return weight.As<f16, 2>();
  return weight.As<bf16, 2>();
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
    case TensorDType::kQ8_0:
      return CheckBlocks<q8_0>(tensor);
    case TensorDType::kQ4K:
      return CheckBlocks<q4_k>(tensor);
    case TensorDType::kQ6K:
      return CheckBlocks<q6_k>(tensor);
    case TensorDType::kGgmlMxfp4:
      return CheckBlocks<ggml_mxfp4>(tensor);
    default:
      return;  // every code of the other formats is a number
  }
  if (bad < 0) return;
  Fail(ErrorCode::kNanScale, TensorSubject(tensor), "finite numbers", "NaN or infinity at " + Place(tensor, bad),
       "the checkpoint is damaged; fetch it again");
}

void CheckMatrix(const MatrixTensors& tensors) {
  for (const Tensor* scale : {tensors.scale_inv, tensors.scale, tensors.scale_2, tensors.global_scale}) {
    if (scale) CheckScales(*scale);
  }
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
  const bool words = weight.dtype == TensorDType::kI32 && weight.name.ends_with(".weight_packed");
  const int64_t packed = weight.dtype == TensorDType::kU8 ? 2 : words ? 8 : 1;
  return {weight.shape[0], packed * weight.shape[1]};
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
