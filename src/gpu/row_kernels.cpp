#include "gpu/row_kernels.h"

namespace mxmla::gpu {
namespace {

constexpr std::string_view kName = "gpu";
constexpr uint32_t kFloats = DTypeBit(DType::kF32) | DTypeBit(DType::kBf16);

}  // namespace

// Float operands may have any strides and alignment: where they allow it, rows are read 16 bytes at a time.
void AddRowKernels(KernelSet& set) {
  set.rms_norm.push_back({kName, {{.operand = "quantized", .inner_stride_one = true}}, RmsNorm});
  set.quantize.push_back({kName, {{.operand = "out", .inner_stride_one = true}}, Quantize});
  set.flatten_quantize.push_back({kName, {{.operand = "out", .inner_stride_one = true}}, FlattenQuantize});
  set.copy.push_back({kName, {}, Copy});
  set.rope.push_back({kName, {}, Rope});
  set.rope_angles.push_back({kName, {}, RopeAngles});
  // Three words of an expert's lie in shared memory.
  set.router.push_back(
      {kName,
       {{.operand = "weight", .dtypes = kFloats}},
       Router,
       nullptr,
       {{"at most 4096 experts", [](const RouterArgs& args) { return args.logits.shape[1] <= 4096; }}}});
  set.group_experts.push_back(
      {kName, {}, GroupExperts, nullptr, {{"at most 2^31 - 1 pairs", [](const GroupExpertsArgs& args) {
                                             return args.pairs.shape[0] <= 0x7fffffff;
                                           }}}});
  set.norm_router.push_back({kName,
                             {},
                             NormRouter,
                             NormRouterWorkspace,
                             {{"few rows in float32, normed to bf16, quantised beside it or not", HonoursNormRouter}}});
  set.silu_mul.push_back({kName, {{.operand = "out", .inner_stride_one = true}}, SiluMul});
  set.combine_experts.push_back({kName, {}, CombineExperts});
  set.index_key.push_back({kName, {}, IndexKey});
  set.index_top_k.push_back(
      {kName, {}, IndexTopK, IndexTopKWorkspace, {{"heads * n of at most 16384, n of at most 256", HonoursIndexTopK}}});
  set.embedding.push_back({kName, {{.operand = "table", .dtypes = kFloats}}, Embedding});
  set.embedding.push_back({kName, {{.operand = "table", .inner_stride_one = true}}, EmbeddingRows});
  set.sample.push_back(
      {kName,
       {{.operand = "logits", .inner_stride_one = true}, {.operand = "allowed", .inner_stride_one = true}},
       Sample,
       SampleWorkspace,
       {{"a vocabulary of at most 2^24",
         [](const SampleArgs& args) { return args.logits.shape[1] <= int64_t{1} << 24; }}}});
}

}  // namespace mxmla::gpu
