#include "cuda/decode_attention.h"

#include <algorithm>
#include <string>

#include "cuda/decode_attention_fp8.cuh"
#include "cuda/decode_attention_narrow.cuh"
#include "cuda/decode_attention_wide.cuh"
#include "cuda/launch_link.h"

namespace mxmla::cuda {
namespace {

constexpr int kMultiprocessors = kMaxLanes;
constexpr int64_t kMostHeads = WideShape::kHeads;  // of a CTA

void Check(bool honoured, const std::string& what, const std::string& expected, const std::string& found) {
  if (!honoured) Fail(ErrorCode::kLayout, "cuda decode_attention, " + what, expected, found);
}
void CheckCuda(cudaError_t status) {
  if (status != cudaSuccess) Fail(ErrorCode::kDevice, "cuda decode_attention", "a launch", cudaGetErrorString(status));
}

// The view of `format`, whose rows the kernel reads or writes in pieces of 16 bytes.
template <class T, class Variant>
const View<T, 3>& Bf16(const std::string& what, const Variant& format) {
  const auto* view = std::get_if<View<T, 3>>(&format);
  Check(view != nullptr, what, "bf16", "another type");
  const std::string strides = "strides " + FormatDims(view->stride.data(), 3);
  Check(view->stride[2] == 1, what, "a contiguous last dimension", strides);
  bool aligned = reinterpret_cast<uintptr_t>(view->data) % 16 == 0;
  for (int d = 0; d < 2; ++d) aligned &= view->shape[d] <= 1 || (view->stride[d] % 8 == 0 && view->stride[d] >= 0);
  Check(aligned, what, "16-byte aligned rows", strides);
  return *view;
}

decltype(&cuTensorMapEncodeTiled) EncodeTiled() {
  void* function = nullptr;
  cudaDriverEntryPointQueryResult found{};
  CheckCuda(cudaGetDriverEntryPointByVersion("cuTensorMapEncodeTiled", &function, 12000, cudaEnableDefault, &found));
  if (found != cudaDriverEntryPointSuccess) {
    Fail(ErrorCode::kDevice, "cuda decode_attention", "a driver with cuTensorMapEncodeTiled", "none");
  }
  return reinterpret_cast<decltype(&cuTensorMapEncodeTiled)>(function);
}

// Boxes of `rows` rows of 64 columns of (planes, rows, kWidth), in the 128-byte swizzle.
CUtensorMap Map(const std::string& what, const View<const bf16, 3>& view, int64_t rows) {
  static const auto encode = EncodeTiled();
  const cuuint64_t shape[3] = {kWidth, static_cast<cuuint64_t>(view.shape[1]), static_cast<cuuint64_t>(view.shape[0])};
  // A stride that no index uses must still be one that the driver takes.
  const auto bytes = [&](int d, int64_t least) {
    return static_cast<cuuint64_t>(view.shape[d] <= 1 ? least : view.stride[d]) * 2;
  };
  const cuuint64_t row = bytes(1, kWidth);
  const cuuint64_t strides[2] = {row, bytes(0, static_cast<int64_t>(row) / 2 * view.shape[1])};
  const cuuint32_t box[3] = {64, static_cast<cuuint32_t>(rows), 1}, steps[3] = {1, 1, 1};
  CUtensorMap map;
  const CUresult result = encode(&map, CU_TENSOR_MAP_DATA_TYPE_BFLOAT16, 3, const_cast<bf16*>(view.data), shape,
                                 strides, box, steps, CU_TENSOR_MAP_INTERLEAVE_NONE, CU_TENSOR_MAP_SWIZZLE_128B,
                                 CU_TENSOR_MAP_L2_PROMOTION_L2_256B, CU_TENSOR_MAP_FLOAT_OOB_FILL_NONE);
  Check(result == CUDA_SUCCESS, what, "strides that the copy engine takes (below 2^40 bytes)",
        "strides " + FormatDims(view.stride.data(), 3));
  return map;
}

// Heads of a CTA: fewer read the cache more often, from the L2, which is worth it while multiprocessors would idle.
// Batch-invariant results do not depend on it.
int64_t HeadsOfCta(int64_t rows, int64_t heads, int64_t most_tokens, bool invariant, bool fp8) {
  const int64_t tiles = TilesOf(static_cast<int>(std::min<int64_t>(most_tokens, 1 << 30)));
  const int64_t chunk = invariant ? InvariantChunkTiles(static_cast<int>(tiles)) : 1;
  const int64_t chunks = std::min<int64_t>((tiles + chunk - 1) / chunk, kMaxChunks);
  if (heads <= 8 || rows * chunks * ((heads + 15) / 16) < 100) return 8;
  if (heads <= 16) return 16;
  if (!invariant && !fp8 && (rows >= 24 || (rows >= 8 && heads > 64))) return WideShape::kHeads;
  if (invariant && fp8) return 16;  // the joined sums of 32 heads and their scores' parts do not fit the registers
  return rows >= (invariant ? 24 : 8) || (heads > 64 && tiles > 128) ? 32 : 16;
}

// An FP8 cache's codes, scales and keys, rows of each in whole pieces of 16 bytes.
void SetPlanes(const Fp8Kv<const e4m3, 3>& kv, DecodeAttentionParams* p) {
  const auto plane = [&](const char* what, const auto& view, int64_t columns) {
    const std::string strides = "strides " + FormatDims(view.stride.data(), 3);
    constexpr auto kBytes = static_cast<int64_t>(sizeof(*view.data));
    Check(view.shape[2] == columns, what, std::to_string(columns) + " columns", std::to_string(view.shape[2]));
    Check(view.stride[2] == 1, what, "a contiguous last dimension", strides);
    bool aligned = reinterpret_cast<uintptr_t>(view.data) % 16 == 0;
    for (int d = 0; d < 2; ++d) aligned &= view.shape[d] <= 1 || view.stride[d] * kBytes % 16 == 0;
    Check(aligned, what, "16-byte aligned rows", strides);
    Check(view.stride[0] >= 0 && view.stride[1] >= 0 && view.shape[0] * view.stride[0] * kBytes < int64_t{1} << 36,
          what, "less than 64 GiB of a layer's cache", strides);
    return DecodeAttentionParams::Plane{reinterpret_cast<const uint8_t*>(view.data),
                                        static_cast<uint32_t>(view.stride[0] * kBytes / 16),
                                        static_cast<uint32_t>(view.stride[1] * kBytes / 16)};
  };
  p->codes = plane("kv_pages, latents", kv.latent.values, kLatents);
  p->scales = plane("kv_pages, scales", kv.latent.scales, kLatents / kFp8Group);
  p->keys = plane("kv_pages, keys", kv.key, kRotated);
}

struct Workspace {
  Workspace(int64_t rows, int64_t heads) {
    // Whatever the heads of a CTA are, groups * kN is at most heads rounded up.
    const int64_t tile = heads <= 8 ? 8 : heads <= 16 ? 16 : kMostHeads;
    const int64_t padded_heads = (heads + tile - 1) / tile * tile;
    const int64_t slots = std::max<int64_t>(SlotRows(rows, kMultiprocessors) * kMaxChunks, kMaxLanes) * padded_heads;
    partials = (slots * 8 + 1023) / 1024 * 1024;
    row_parts = partials + slots * kLatents * 4;
    bytes = row_parts + kMostRowsInParts * static_cast<int64_t>(sizeof(int4));
  }
  int64_t partials, row_parts, bytes;  // offsets; the sums come first
};

template <auto kKernel, int kSharedBytes, int kThreads = cuda::kThreads, class... Maps>
void Launch(const DecodeAttentionParams& p, const DecodeAttentionOptions& options, const Maps&... maps) {
  static const cudaError_t prepared =
      cudaFuncSetAttribute(kKernel, cudaFuncAttributeMaxDynamicSharedMemorySize, kSharedBytes);
  CheckCuda(prepared);
  cudaLaunchConfig_t config{};
  config.gridDim = dim3(static_cast<unsigned>(p.groups * p.lanes));
  config.blockDim = dim3(kThreads);
  config.dynamicSmemBytes = kSharedBytes;
  config.stream = options.stream;
  CheckCuda(LaunchLink(kKernel, config, options.programmatic, p, maps...));
}

// n: heads of a CTA; one of fp8 and kv is null.
void Launch(DecodeAttentionParams p, int64_t n, const View<const bf16, 3>& query, const Fp8Kv<const e4m3, 3>* fp8,
            const View<const bf16, 3>* kv, const DecodeAttentionOptions& options) {
  const CUtensorMap query_map = Map("query", query, n);
  const auto with_heads = [n](const auto& launch) {
    if (n == 8) return launch.template operator()<8>();
    if (n == 16) return launch.template operator()<16>();
    return launch.template operator()<32>();
  };
  if (fp8) {
    SetPlanes(*fp8, &p);
    return with_heads([&]<int kN>() {
      constexpr int kBytes = NarrowShape<kN, true>::kSharedBytes, kFp8Threads = kConsumers + kFp8Copiers;
      if constexpr (kN < 32) {
        if (p.invariant) return Launch<DecodeAttentionFp8Kernel<kN, true>, kBytes, kFp8Threads>(p, options, query_map);
      }
      Launch<DecodeAttentionFp8Kernel<kN, false>, kBytes, kFp8Threads>(p, options, query_map);
    });
  }
  const CUtensorMap kv_map = Map("kv_pages", *kv, p.box_rows);
  if (n == WideShape::kHeads) {
    return Launch<DecodeAttentionWideKernel, WideShape::kSharedBytes>(p, options, query_map, kv_map);
  }
  with_heads([&]<int kN>() {
    constexpr int kBytes = NarrowShape<kN, false>::kSharedBytes;
    p.invariant ? Launch<DecodeAttentionNarrowKernel<kN, true>, kBytes>(p, options, query_map, kv_map)
                : Launch<DecodeAttentionNarrowKernel<kN, false>, kBytes>(p, options, query_map, kv_map);
  });
}

AttentionParts Run(const DecodeAttentionArgs& args, const DecodeAttentionOptions& options, bool in_parts) {
  const auto& query = Bf16<const bf16>("query", args.query);
  const auto* const fp8 = std::get_if<Fp8Kv<const e4m3, 3>>(&args.kv_pages);
  const View<const bf16, 3>* const kv = fp8 ? nullptr : &Bf16<const bf16>("kv_pages", args.kv_pages);
  const auto& out = Bf16<bf16>("out", args.out);
  const int64_t rows = query.shape[0], heads = query.shape[1];
  const int64_t page_size = fp8 ? fp8->extent(1) : kv->shape[1], width = fp8 ? fp8->extent(2) : kv->shape[2];
  if (rows == 0 || heads == 0) return {};
  Check(args.kv_lora_rank == kLatents && query.shape[2] == kWidth && width == kWidth, "query and kv_pages",
        "512 latents and 64 rotated columns",
        std::to_string(args.kv_lora_rank) + " latents of " + std::to_string(query.shape[2]) + " and " +
            std::to_string(width) + " columns");
  Check(page_size == 8 || page_size == 16 || page_size == 32 || (page_size > 0 && page_size % 64 == 0), "kv_pages",
        "pages of 8, 16, 32 or a multiple of 64 tokens", std::to_string(page_size));
  Check(out.shape == View<bf16, 3>::Dims{rows, heads, kLatents}, "out", "(rows, heads, 512)",
        FormatDims(out.shape.data(), 3));
  Check(args.row_sequence.shape[0] == rows && args.row_length.shape[0] == rows, "row_sequence and row_length",
        std::to_string(rows) + " rows",
        std::to_string(args.row_sequence.shape[0]) + " and " + std::to_string(args.row_length.shape[0]));
  Check(heads <= 8 * kMultiprocessors, "query", "at most 1056 heads", std::to_string(heads));
  Check(options.workspace && options.counters, "workspace and counters", "device memory", "none");

  const int64_t n = HeadsOfCta(rows, heads, args.block_table.shape[1] * page_size, options.batch_invariant, fp8);
  const Workspace at(rows, heads);
  auto* const workspace = static_cast<uint8_t*>(options.workspace);
  DecodeAttentionParams p{};
  p.block_table = args.block_table.data;
  p.table_row = args.block_table.stride[0];
  p.table_column = args.block_table.stride[1];
  p.row_sequence = args.row_sequence.data;
  p.sequence_step = args.row_sequence.stride[0];
  p.lengths = {args.row_length.data, args.row_length.stride[0], static_cast<int>(rows)};
  p.heads = static_cast<int>(heads);
  p.groups = static_cast<int>((heads + n - 1) / n);
  p.lanes = kMultiprocessors / p.groups;
  p.page_size = static_cast<int>(page_size);
  p.box_rows = std::min(p.page_size, n == WideShape::kHeads ? WideShape::kHalfTokens : kTileTokens);
  p.scale = static_cast<float>(static_cast<double>(args.softmax_scale) * 1.4426950408889634);
  p.out = reinterpret_cast<__nv_bfloat16*>(out.data);
  p.out_row = out.stride[0];
  p.out_head = out.stride[1];
  p.invariant = options.batch_invariant;
  p.counters = static_cast<int*>(options.counters);
  p.sums = reinterpret_cast<float2*>(workspace);
  p.partials = reinterpret_cast<float*>(workspace + at.partials);
  if (in_parts) p.row_parts = reinterpret_cast<int4*>(workspace + at.row_parts);
  const AttentionParts parts{p.partials, reinterpret_cast<const float*>(p.sums),
                             reinterpret_cast<const int*>(p.row_parts), p.groups * n};
  Launch(p, n, query, fp8, kv, options);
  return parts;
}

}  // namespace

size_t DecodeAttentionWorkspaceBytes(int64_t rows, int64_t heads) {
  return static_cast<size_t>(Workspace(std::max<int64_t>(rows, 1), std::max<int64_t>(heads, 1)).bytes);
}

size_t DecodeAttentionCounterBytes(int64_t rows, int64_t heads) {
  return static_cast<size_t>(std::max<int64_t>(rows, 1) * ((std::max<int64_t>(heads, 1) + 7) / 8) * 2) * sizeof(int);
}

void DecodeAttention(const DecodeAttentionArgs& args, const DecodeAttentionOptions& options) {
  Run(args, options, false);
}

AttentionParts DecodeAttentionInParts(const DecodeAttentionArgs& args, const DecodeAttentionOptions& options) {
  const int64_t rows = Extent(args.query, 0);
  Check(rows > 0 && rows <= kMostRowsInParts, "query", "1 to " + std::to_string(kMostRowsInParts) + " rows",
        std::to_string(rows));
  return Run(args, options, true);
}

}  // namespace mxmla::cuda
