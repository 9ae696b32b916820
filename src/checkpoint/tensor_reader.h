// One matrix of a checkpoint as a view, in the precision that the file holds.
#pragma once

#include <deque>
#include <string>
#include <vector>

#include "checkpoint/safetensors.h"
#include "core/scaled.h"

namespace mxmla {

// Suffixes of a module's tensors.
inline constexpr char kWeightSuffix[] = ".weight";
inline constexpr char kFp8ScaleSuffix[] = ".weight_scale_inv";
inline constexpr char kMxfp4ScaleSuffix[] = ".weight_scale";

// A module's tensors; null where the file has none.
struct MatrixTensors {
  const Tensor* weight = nullptr;        // .weight, or .weight_packed
  const Tensor* scale_inv = nullptr;     // .weight_scale_inv, which multiplies in spite of its name
  const Tensor* scale = nullptr;         // .weight_scale, or Mistral's .qscale_weight
  const Tensor* scale_2 = nullptr;       // .weight_scale_2: ModelOpt's scale of a tensor, a factor
  const Tensor* global_scale = nullptr;  // .weight_global_scale: compressed-tensors' scale of a tensor, a divisor
  const Tensor* shape = nullptr;         // .weight_shape of compressed-tensors
};

// The tensors of `module`; find(name) gives a Tensor or null.
template <class Find>
MatrixTensors FindMatrix(const std::string& module, const Find& find) {
  MatrixTensors tensors;
  tensors.weight = find(module + kWeightSuffix);
  if (!tensors.weight) tensors.weight = find(module + ".weight_packed");
  tensors.scale_inv = find(module + kFp8ScaleSuffix);
  tensors.scale = find(module + kMxfp4ScaleSuffix);
  if (!tensors.scale) tensors.scale = find(module + ".qscale_weight");
  tensors.scale_2 = find(module + ".weight_scale_2");
  tensors.global_scale = find(module + ".weight_global_scale");
  tensors.shape = find(module + ".weight_shape");
  return tensors;
}

// Scales that a matrix's view points to where the file has them in a narrower type than float32.
using WidenedScales = std::deque<std::vector<float>>;

// The (n, k) matrix of `tensors`:
//   F32, BF16, F16                         as they are
//   F8_E4M3 and scales of F32, BF16, F16   one a square of 128 x 128, a row, or the tensor
//   F8_E4M3 and scales of U8 (n, k/32)     MXFP8
//   U8 (n, k/2) and scales of U8 (n, k/32)                                     MXFP4
//   U8 (n, k/2), scales of F8_E4M3 (n, k/16), and one of F32 for the tensor    NVFP4
//   I32 (n, k/8) and scales of BF16 (n, k/32)                                  INT4
// Errors: kTensor for anything else. Only headers, and scales that are widened, are looked at: a checkpoint may be
// larger than the memory.
LinearWeight ReadMatrix(const MatrixTensors& tensors, int64_t n, int64_t k, WidenedScales* widened);

// Reads every value: an Error (kNanScale) names the tensor and place of a scale that is NaN, infinite or negative, and
// of a weight that is NaN or infinite.
void CheckMatrix(const MatrixTensors& tensors);
void CheckFinite(const Tensor& tensor);

// A tensor of F16 in a format that routers are read in, exactly: BF16 where every value is one, else F32. Its values
// lie in `storage`.
Tensor WidenHalf(const Tensor& tensor, std::vector<std::byte>* storage);

// The extents (n, k) of a matrix in elements, from its tensors alone; {0, 0} when they form none.
std::pair<int64_t, int64_t> MatrixExtents(const MatrixTensors& tensors);

// The vector of n elements (F32, BF16 or F16), widened exactly.
std::vector<float> ReadVector(const Tensor& tensor, int64_t n);

// "tensor "NAME" of FILE"
std::string TensorSubject(const Tensor& tensor);
// "BF16 (64, 128)"
std::string DescribeShape(std::string_view dtype, int64_t n, int64_t k);

}  // namespace mxmla
