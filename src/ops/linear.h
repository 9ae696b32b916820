// out = x W^T: the linear layers, and the products of a mixture's experts.
#pragma once

#include <limits>
#include <optional>
#include <span>

#include "core/scaled.h"
#include "ops/context.h"
#include "ops/next_weights.h"

namespace mxmla {

// What `prompt_begin` is where no row is a prompt's.
inline constexpr int64_t kNoPrompts = std::numeric_limits<int64_t>::max();

// out[r, j] = sum over k of x[r, k] * w[j, k], in float32 over dequantised values, rounded once to out's type. For one
// backend the order of the sum depends on neither the rows nor the threads. Rows from `prompt_begin` on come from
// prompts that take many rows at a time: a backend may sum them in another order, made for many rows, than the rows
// that are decoded, but does so however many there are.
struct LinearArgs {
  Activation<2> x;      // (rows, k)
  LinearWeight weight;  // (n, k)
  FloatOutput<2> out;   // (rows, n); outer stride free
  int64_t prompt_begin = kNoPrompts;
  const NextWeights* next = nullptr;  // read behind these
};
void Linear(const ExecContext& context, const LinearArgs& args, std::string_view name = "linear");

// One product for each (row, chosen expert) pair; a pair's number is row * top_k + slot. Pairs are visited expert by
// expert (see GroupExperts), so that an expert's weights are read once.
struct GroupedLinearArgs {
  Activation<2> x;                        // (pairs / pairs_per_row, k): pair p reads row p / pairs_per_row, in place
  int64_t pairs_per_row = 1;              // top_k for the experts' first product, 1 for the second
  std::span<const LinearWeight> weights;  // one (n, k) an expert; formats may differ
  View<const int32_t, 1> expert_begin;    // (experts + 1): where each expert's pairs begin in `pairs`; pairs behind
                                          // the last expert's are padding, whose rows of `out` are left as they are
  View<const int32_t, 1> pairs;           // (pairs): pair numbers, grouped by expert, rising in each
  FloatOutput<2> out;                     // (pairs, n): row p holds pair p
  // The same rows in the format that experts with quantised weights read, where it differs from the others'.
  std::optional<Activation<2>> x_quantized = std::nullopt;
  // What Backend::PlaceExperts made of `weights`, where a backend's kernels read such.
  const void* placed = nullptr;
  int64_t prompt_begin = kNoPrompts;  // of the rows of x
  const NextWeights* next = nullptr;  // read behind these

  const Activation<2>& InputOf(const LinearWeight& expert) const {
    return x_quantized && IsQuantized(expert) ? *x_quantized : x;
  }
};
void GroupedLinear(const ExecContext& context, const GroupedLinearArgs& args, std::string_view name = "grouped_linear");

// Bytes of the chosen experts' weights, for the profiler. Reads expert_begin: only for kernels whose memory the host
// can read.
int64_t ExpertBytesRead(const GroupedLinearArgs& args);

}  // namespace mxmla
