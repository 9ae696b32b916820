// What GroupedLinearArgs::placed is on this backend.
#pragma once

#include <optional>

#include "cuda/grouped_linear.h"

namespace mxmla::cuda {

class PlacedExperts {
 public:
  explicit PlacedExperts(std::span<const LinearWeight> weights) {
    try {
      table_.emplace(weights);
    } catch (const Error& error) {
      // Experts that GroupedLinear does not honour are another kernel's.
      if (error.code() != ErrorCode::kLayout) throw;
    }
  }

  // Null where GroupedLinear does not honour the experts.
  const ExpertTable* table() const { return table_ ? &*table_ : nullptr; }

 private:
  std::optional<ExpertTable> table_;
};

// The table of a call's experts; null where nothing was placed or GroupedLinear does not honour them.
inline const ExpertTable* TableOf(const GroupedLinearArgs& args) {
  return args.placed ? static_cast<const PlacedExperts*>(args.placed)->table() : nullptr;
}

}  // namespace mxmla::cuda
