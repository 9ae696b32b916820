// A loop's extent as a constant, so that what it keeps side by side stays in registers.
#pragma once

#include <cstdint>
#include <utility>

#include "cpu/simd.h"

namespace mxmla::cpu::MXMLA_CPU_ISA {

// Calls run(std::integral_constant<int, count>) for count in 1..kMost; other counts do nothing.
template <int kMost, class Run>
MXMLA_INLINE void WithCount(int64_t count, const Run& run) {
  [&]<int... kBefore>(std::integer_sequence<int, kBefore...>) __attribute__((always_inline)) {
    ((count == kBefore + 1 ? run(std::integral_constant<int, kBefore + 1>{}) : void()), ...);
  }
  (std::make_integer_sequence<int, kMost>{});
}

}  // namespace mxmla::cpu::MXMLA_CPU_ISA
