// Grouping of (row, slot) pairs by expert: a counting sort, one thread. It is a few thousand integers at most.
#include <string>

#include "cpu/kernels.h"
#include "ops/kernel_set.h"

namespace mxmla::cpu::MXMLA_CPU_ISA {
namespace {

void Run(const ExecContext&, const GroupExpertsArgs& args) {
  const int64_t rows = args.expert_ids.shape[0];
  const int64_t top_k = args.expert_ids.shape[1];
  const int64_t experts = args.expert_begin.shape[0] - 1;
  for (int64_t e = 0; e <= experts; ++e) args.expert_begin(e) = 0;
  for (int64_t r = 0; r < rows; ++r) {
    for (int64_t s = 0; s < top_k; ++s) {
      const int32_t expert = args.expert_ids(r, s);
      if (expert == -1) continue;  // a padding row's
      if (expert < 0 || expert >= experts) {
        Fail(ErrorCode::kInternal, "group_experts: expert_ids", "-1 .. " + std::to_string(experts - 1),
             std::to_string(expert));
      }
      ++args.expert_begin(expert);
    }
  }
  int32_t total = 0;
  for (int64_t e = 0; e <= experts; ++e) {
    const int32_t count = args.expert_begin(e);
    args.expert_begin(e) = total;
    total += count;
  }
  // expert_begin(e) is the cursor of expert e, and ends where expert e + 1 begins.
  for (int64_t r = 0; r < rows; ++r) {
    for (int64_t s = 0; s < top_k; ++s) {
      const int32_t expert = args.expert_ids(r, s);
      if (expert >= 0) args.pairs(args.expert_begin(expert)++) = static_cast<int32_t>(r * top_k + s);
    }
  }
  for (int64_t e = experts; e > 0; --e) args.expert_begin(e) = args.expert_begin(e - 1);
  args.expert_begin(0) = 0;
}

}  // namespace

KernelTable<GroupExpertsArgs> MakeGroupExpertsKernels() { return {{kKernelName, {}, &Run}}; }

}  // namespace mxmla::cpu::MXMLA_CPU_ISA
