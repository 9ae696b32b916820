// How products of weights with many rows of prompts are cut: a panel holds a stretch of neighbouring weight rows,
// decoded once for all rows of a task.
#pragma once

#include "cpu/product.h"

namespace mxmla::cpu::MXMLA_CPU_ISA {

inline constexpr int64_t kPromptStretch = 512;  // elements: a panel of them stays in the first-level cache
inline constexpr int64_t kPromptX = 144;        // activation rows of a task
inline constexpr int64_t kPromptPanel = 32;     // weight rows side by side: two vectors of lanes
static_assert(kTileW % kPromptPanel == 0);

inline constexpr int64_t PromptStretches(int64_t k) { return (k + kPromptStretch - 1) / kPromptStretch; }

}  // namespace mxmla::cpu::MXMLA_CPU_ISA
