// A mixture's experts for a step of one row in one launch: their gated products, a barrier over the card, their second
// products and the weighted sum.
//
// While a recorder runs a step's calls, GatedExperts of one row (ops/fused.h) is not launched but noted, and the call
// of CombinedExperts that reads its result launches both: weights of the second products are on their way before the
// first ones' results are there. The bits are those of the two launches. Every other call launches what is noted first.
#pragma once

#include <cuda_runtime_api.h>

#include <optional>

#include "ops/fused.h"

namespace mxmla::cuda {

class RowExperts {
 public:
  using LaunchGated = void (*)(const ExecContext&, const GatedExpertsArgs&);

  // Takes device memory for the barrier.
  explicit RowExperts(cudaStream_t stream);
  ~RowExperts();
  RowExperts(const RowExperts&) = delete;
  RowExperts& operator=(const RowExperts&) = delete;

  // Where this thread's calls are noted; null where they are launched.
  static RowExperts* Current();
  // From Begin to End this is it.
  void Begin();
  void End();

  // Notes the call, or returns false: it is to be launched. `alone` launches it where it is not followed by its
  // counterpart.
  bool Take(const ExecContext& context, const GatedExpertsArgs& args, LaunchGated alone);
  // Launches the noted call and this one, or returns false: this is to be launched, behind LaunchNoted().
  bool Take(const CombinedExpertsArgs& args);
  void LaunchNoted();

 private:
  cudaStream_t stream_ = nullptr;
  int* counters_ = nullptr;  // device memory, zeros between launches
  int multiprocessors_ = 0;
  std::optional<GatedExpertsArgs> noted_;
  ExecContext context_;
  LaunchGated alone_ = nullptr;
};

// Whether one launch takes both, and that launch, over views of device memory; `counters`: 2 ints, zeros before and
// after. Honoured: one row, MXFP4 or FP8 block weights as GroupedLinear honours them, FP8's k a multiple of 256,
// MXFP4's scales in 4-byte aligned rows, at most 32 experts a row of at most 512.
bool HonoursRowExperts(const GatedExpertsArgs& gated, const CombinedExpertsArgs& combined, int multiprocessors);
void LaunchRowExperts(const GatedExpertsArgs& gated, const CombinedExpertsArgs& combined, int multiprocessors,
                      int* counters, cudaStream_t stream);

}  // namespace mxmla::cuda
