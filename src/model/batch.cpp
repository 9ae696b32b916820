#include "model/batch.h"

#include <algorithm>

namespace mxmla {

bool ExpandedIsCheaper(const AttentionCost& cost, int64_t rows, int64_t first_position) {
  if (rows <= 1) return false;
  const int64_t context = first_position + rows;
  if (cost.index_topk > 0 && context > cost.index_topk) return false;
  // Per head: (row, token) pairs visible under the causal mask, and what each costs either way.
  const int64_t pairs = rows * first_position + rows * (rows + 1) / 2;
  const int64_t expansion = cost.kv_lora_rank * (cost.qk_nope_head_dim + cost.v_head_dim);
  const int64_t absorbed = rows * expansion + pairs * (2 * cost.kv_lora_rank + cost.qk_rope_head_dim);
  const int64_t expanded =
      context * expansion + pairs * (cost.qk_nope_head_dim + cost.qk_rope_head_dim + cost.v_head_dim);
  return expanded < absorbed;
}

BatchPlan PlanBatch(std::span<const SequenceInput> inputs, const AttentionCost& cost, bool allow_expanded) {
  BatchPlan plan;
  for (const bool expanded : {false, true}) {
    for (size_t i = 0; i < inputs.size(); ++i) {
      const auto rows = static_cast<int64_t>(inputs[i].tokens.size());
      const bool cheaper =
          allow_expanded && !inputs[i].absorbed && ExpandedIsCheaper(cost, rows, inputs[i].first_position);
      if (cheaper != expanded) continue;
      plan.sequences.push_back({static_cast<int64_t>(i), plan.rows, rows, inputs[i].first_position});
      plan.rows += rows;
      if (!expanded) plan.absorbed_rows = plan.rows;
    }
  }
  return plan;
}

}  // namespace mxmla
