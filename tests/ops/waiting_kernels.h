// A device's kernels in the op tests: each is followed by a wait, so that the test can look at what it wrote.
#pragma once

#include <string_view>
#include <utility>

#include "ops/kernel_set.h"

namespace mxmla::test {

// Waits for what the device has been asked to do; an Error (kDevice) that names the kernel where it failed.
using Wait = void (*)(std::string_view kernel);

template <Wait kWait, auto kTable>
struct WaitingTable;

// Of one table of a set: the kernels as they were, and as they are run.
template <Wait kWait, class Args, KernelTable<Args> KernelSet::*kTable>
struct WaitingTable<kWait, kTable> {
  static inline KernelTable<Args> originals;

  template <size_t kIndex>
  static void Run(const ExecContext& context, const Args& args) {
    originals[kIndex].run(context, args);
    kWait(originals[kIndex].name);
  }

  template <size_t... kIndex>
  static void Replace(KernelSet& set, std::index_sequence<kIndex...>) {
    constexpr typename Kernel<Args>::Run kRuns[] = {Run<kIndex>...};
    KernelTable<Args>& table = set.*kTable;
    originals = table;
    for (size_t i = 0; i < table.size(); ++i) {
      if (i == std::size(kRuns)) Fail(ErrorCode::kInternal, "kernels of one op", std::to_string(i), "more");
      table[i].run = kRuns[i];
    }
  }
};

template <Wait kWait, auto... kTables>
void MakeTablesWait(KernelSet& set) {
  (WaitingTable<kWait, kTables>::Replace(set, std::make_index_sequence<8>{}), ...);
}

template <Wait kWait>
KernelSet Waiting(KernelSet set) {
  using S = KernelSet;
  MakeTablesWait<kWait, &S::rms_norm, &S::linear, &S::grouped_linear, &S::query_absorb, &S::value_project, &S::quantize,
                 &S::flatten_quantize, &S::copy, &S::rope, &S::rope_angles, &S::decode_attention, &S::sparse_attention,
                 &S::prefill_attention, &S::index_key, &S::index_top_k, &S::router, &S::group_experts, &S::silu_mul,
                 &S::combine_experts, &S::embedding, &S::sample, &S::norm_linear, &S::latent_query, &S::attend_project,
                 &S::norm_router, &S::gated_experts, &S::combined_experts>(set);
  return set;
}

}  // namespace mxmla::test
