// Where a thread reads weights next, so that the last rows of a stretch can ask for the first of the one behind it: at
// its beginning nothing has been asked for, and a thread would wait for memory line by line.
#pragma once

#include <limits>

#include "cpu/parallel.h"
#include "cpu/product.h"
#include "ops/next_weights.h"

namespace mxmla::cpu::MXMLA_CPU_ISA {

// A place in a stream of weights; null where there is none.
struct WeightPlace {
  const char* values = nullptr;
  const char* scales = nullptr;
};

// Where a stretch ends, and the bytes from there to where the thread reads next.
struct StreamEnd {
  const char* values = nullptr;
  const char* scales = nullptr;
  int64_t values_jump = 0;
  int64_t scales_jump = 0;

  // Bytes of the stretch from `at` on.
  int64_t ValuesFrom(const void* at) const { return From(values, at); }
  int64_t ScalesFrom(const void* at) const { return From(scales, at); }

 private:
  static int64_t From(const char* end, const void* at) {
    return end ? end - static_cast<const char*>(at) : std::numeric_limits<int64_t>::max();
  }
};

template <class Weight>
static WeightPlace PlaceOfRow(const Weight& weight, int64_t row) {
  if constexpr (std::is_same_v<Weight, View<const bf16, 2>>) {
    return {reinterpret_cast<const char*>(RowOf(weight, row).values), nullptr};
  } else if constexpr (std::is_same_v<Weight, Fp8Block> || std::is_same_v<Weight, Mxfp4<const e2m1x2, 2>>) {
    const auto at = RowOf(weight, row);
    return {reinterpret_cast<const char*>(at.values), reinterpret_cast<const char*>(at.scales)};
  } else {
    return {};
  }
}
static inline WeightPlace PlaceOfRow(const LinearWeight& weight, int64_t row) {
  return std::visit([&](const auto& w) { return PlaceOfRow(w, row); }, weight);
}

// What `worker` reads first of `next`, which may be null, if few rows are multiplied: see RunStreams.
static inline WeightPlace FirstPlace(const ExecContext& context, const NextWeights* next, int worker) {
  if (!next) return {};
  const int64_t threads = context.pool->threads();
  if (next->heads) {
    const int64_t head = next->heads->heads * worker / threads;
    return PlaceOfRow(next->heads->tensor, head * next->heads->head_stride + next->heads->head_offset);
  }
  if (next->weights.empty()) return {};
  const int64_t tile_w = TileW(1);
  const int64_t tiles = (RowCount(next->weights[0]) + tile_w - 1) / tile_w;
  if (next->expert_begin.empty()) return PlaceOfRow(next->weights[0], tiles * worker / threads * tile_w);
  const auto is_used = [&](int64_t e) { return next->expert_begin(e + 1) > next->expert_begin(e); };
  const auto experts = static_cast<int64_t>(next->weights.size());
  int64_t used = 0;
  for (int64_t e = 0; e < experts; ++e) used += is_used(e);
  const int64_t task = used * tiles * worker / threads;
  int64_t before = task / tiles;  // experts
  for (int64_t e = 0; e < experts; ++e) {
    if (is_used(e) && before-- == 0) return PlaceOfRow(next->weights[static_cast<size_t>(e)], task % tiles * tile_w);
  }
  return {};
}

// The end of a stretch of `weight` before row `row_end`, and what is read next.
template <class Weight>
static StreamEnd EndOfStretch(const Weight& weight, int64_t row_end, const WeightPlace& next) {
  const WeightPlace end = PlaceOfRow(weight, row_end);
  StreamEnd result;
  if (end.values && next.values) {
    result.values = end.values;
    result.values_jump = next.values - end.values;
  }
  if (end.scales && next.scales) {
    result.scales = end.scales;
    result.scales_jump = next.scales - end.scales;
  }
  return result;
}

// Of the last tasks of a stretch it matters what is read next; no more is asked for ahead than these read.
inline constexpr int64_t kLastTasks = 2;

}  // namespace mxmla::cpu::MXMLA_CPU_ISA
