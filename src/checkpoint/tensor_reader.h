// One matrix of a checkpoint as a view, in the precision that the file holds.
#pragma once

#include <string>
#include <vector>

#include "checkpoint/safetensors.h"
#include "core/scaled.h"

namespace mxmla {

// Suffixes of a module's tensors.
inline constexpr char kWeightSuffix[] = ".weight";
inline constexpr char kFp8ScaleSuffix[] = ".weight_scale_inv";
inline constexpr char kMxfp4ScaleSuffix[] = ".weight_scale";

// A module's tensors; scales are null where the file has none.
struct MatrixTensors {
  const Tensor* weight = nullptr;
  const Tensor* fp8_scale = nullptr;    // .weight_scale_inv
  const Tensor* mxfp4_scale = nullptr;  // .weight_scale
};

// The (n, k) matrix of `tensors`: F32 or BF16; F8_E4M3 with a weight_scale_inv; U8 with a weight_scale. Errors: kTensor
// for anything else. Only headers are looked at: a checkpoint may be larger than the memory.
LinearWeight ReadMatrix(const MatrixTensors& tensors, int64_t n, int64_t k);

// Reads every value: an Error (kNanScale) names the tensor and place of a scale that is NaN, infinite or negative, and
// of a weight that is NaN or infinite.
void CheckMatrix(const MatrixTensors& tensors);
void CheckFinite(const Tensor& tensor);

// A tensor of F16 in a format that products read, exactly: BF16 where every value is one, else F32. Its values lie in
// `storage`.
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
