#include "gpu/product_kernels.h"

#include <limits>
#include <string>

namespace mxmla::gpu {
namespace {

constexpr int64_t kMostExtent = std::numeric_limits<int32_t>::max() / 2;
constexpr std::string_view kName = "gpu";

// Every plane that is read or written along its last dimension.
std::vector<Requirement> Contiguous(std::initializer_list<std::string_view> operands) {
  std::vector<Requirement> requirements;
  for (const std::string_view operand : operands) requirements.push_back({operand, true});
  return requirements;
}

bool Int32Rows(int64_t rows, int64_t n, int64_t k) {
  return rows <= kMostExtent / 128 && n <= kMostExtent && k <= kMostExtent;
}

}  // namespace

void AddProductKernels(KernelSet& set) {
  constexpr std::string_view kExtents = "extents of at most 2^30, and 2^23 rows";
  set.linear.push_back(
      {kName, Contiguous({"x", "weight", "out"}), Linear, nullptr, {{kExtents, [](const LinearArgs& args) {
                                                                       return Int32Rows(Extent(args.x, 0),
                                                                                        RowCount(args.weight),
                                                                                        Extent(args.x, 1));
                                                                     }}}});
  set.grouped_linear.push_back(
      {kName,
       Contiguous({"x", "weight", "out"}),
       GroupedLinear,
       nullptr,
       {{kExtents,
         [](const GroupedLinearArgs& args) {
           return Int32Rows(args.pairs.shape[0], RowCount(args.weights.front()), Extent(args.x, 1));
         }},
        {"at most 512 experts", [](const GroupedLinearArgs& args) { return args.weights.size() <= 512; }},
        {"at most 65535 pairs and experts", [](const GroupedLinearArgs& args) {
           return args.pairs.shape[0] + static_cast<int64_t>(args.weights.size()) <= 65535;
         }}}});
  set.query_absorb.push_back(
      {kName,
       Contiguous({"q_nope", "w_kc", "out"}),
       QueryAbsorb,
       nullptr,
       {{kExtents,
         [](const QueryAbsorbArgs& args) { return Int32Rows(Extent(args.q_nope, 0), 0, RowCount(args.w_kc.tensor)); }},
        {"qk_nope_head_dim of at most 8192",
         [](const QueryAbsorbArgs& args) { return args.output_major || Extent(args.q_nope, 2) <= 8192; }}}});
  set.value_project.push_back(
      {kName, Contiguous({"attn", "w_vc", "out"}), ValueProject, nullptr, {{kExtents, [](const ValueProjectArgs& args) {
                                                                              return Int32Rows(
                                                                                  Extent(args.attn, 0), 0,
                                                                                  RowCount(args.w_vc.tensor));
                                                                            }}}});
  const Kernel<DecodeAttentionArgs> attention = {
      kName,
      Contiguous({"query", "kv_pages", "out"}),
      DecodeAttention,
      DecodeAttentionWorkspace,
      {{"kv_lora_rank of at most 1024 and rows of at most 1152 columns",
        [](const DecodeAttentionArgs& args) { return args.kv_lora_rank <= 1024 && Extent(args.query, 2) <= 1152; }}}};
  set.decode_attention.push_back(attention);
  set.sparse_attention.push_back(attention);
  set.prefill_attention.push_back(
      {kName,
       Contiguous({"query", "kv_pages", "w_kc", "w_vc", "out"}),
       PrefillAttention,
       PrefillAttentionWorkspace,
       {{"kv_lora_rank of at most 1024 and cache rows of at most 1152 columns", [](const PrefillAttentionArgs& args) {
           return ColumnCount(args.w_kc.tensor) <= 1024 && Extent(args.kv_pages, 2) <= 1152;
         }}}});
}

}  // namespace mxmla::gpu
