// The experts' products on the matrix units, in the formats of hip/linear.h.
#pragma once

#include <memory>
#include <span>

#include "core/memory.h"
#include "ops/kernel_set.h"

namespace mxmla::hip {

// GroupedLinearArgs::placed of this backend: where each expert's weights lie, in the device's memory, when all experts
// are of one format and one layout that the kernels honour.
class PlacedExperts {
 public:
  explicit PlacedExperts(std::span<const LinearWeight> weights);
  ~PlacedExperts();
  PlacedExperts(const PlacedExperts&) = delete;

  // Null where the kernels do not honour the experts.
  const void* table() const { return table_; }

 private:
  void* table_ = nullptr;
};

bool HonoursGroupedLinear(const GroupedLinearArgs& args);
void GroupedLinear(const ExecContext& context, const GroupedLinearArgs& args);

}  // namespace mxmla::hip
