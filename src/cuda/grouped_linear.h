// The products of a mixture's experts on the GPU (sm_90a): each chosen expert's weights are read for its rows together.
#pragma once

#include <cstdint>

#include "cuda/launch_options.h"
#include "ops/linear.h"

namespace mxmla::cuda {

// Where the experts' weights lie, in device memory, so that a captured launch can be replayed. Experts are of one
// format (MXFP4, BF16 or FP8 block-128), one shape and one set of strides, laid out as cuda::Linear honours; anything
// else is an Error (kLayout). The weights themselves stay where they are.
class ExpertTable {
 public:
  explicit ExpertTable(std::span<const LinearWeight> weights);
  ~ExpertTable();
  ExpertTable(const ExpertTable&) = delete;
  ExpertTable& operator=(const ExpertTable&) = delete;

  const void* device() const { return device_; }
  const LinearWeight& first() const { return first_; }
  int64_t experts() const { return experts_; }
  uint64_t scales() const { return scales_; }

 private:
  void* device_ = nullptr;
  LinearWeight first_;
  int64_t experts_ = 0;
  uint64_t scales_ = 0;  // a bit wherever an address or a stride of MXFP4 scales has one
};

// As mxmla::GroupedLinear, over views of device memory; `table` was made of args.weights. Honoured: x bf16 with 16-byte
// aligned rows; at most 512 experts; expert_begin and pairs contiguous. Anything else is an Error (kLayout). A result
// depends on its own row and weights alone, and on which of two ways the batch is multiplied: more than
// `most_streamed_pairs` pairs an expert, on average over all experts, in tiles of the tensor cores. options.workspace:
// GroupedLinearWorkspaceBytes, which never grow smaller with more rows.
inline constexpr int64_t kMostStreamedPairs = 16;
int64_t GroupedLinearWorkspaceBytes(const GroupedLinearArgs& args, int64_t most_streamed_pairs = kMostStreamedPairs);
void GroupedLinear(const GroupedLinearArgs& args, const ExpertTable& table, const LaunchOptions& options,
                   int64_t most_streamed_pairs = kMostStreamedPairs);

}  // namespace mxmla::cuda
