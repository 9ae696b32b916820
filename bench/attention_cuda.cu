// MLA decode attention on the GPU: microseconds a launch in a CUDA graph whose launches read different parts of the
// cache, beside the read bandwidth of the same run. Arguments: heads, batch, context; without them, a table.

#include <algorithm>
#include <cstdint>
#include <cstdio>
#include <cstdlib>
#include <vector>

#include "cuda/decode_attention.h"
#include "cuda_bench.cuh"

namespace {

using namespace mxmla;         // NOLINT(google-build-using-namespace): a program of one file
using namespace mxmla::bench;  // NOLINT(google-build-using-namespace)
constexpr int64_t kWidth = 576, kLatents = 512, kPage = 64, kPool = 1 << 16;

// bf16 of +-[0.5, 1) and +-[1, 2).
bf16* RandomValues(int64_t count) { return Random<bf16>(count * 2, 0x80ff80ffu, 0x3f003f00u); }

}  // namespace

int main(int argc, char** argv) {
  cudaDeviceProp properties{};
  Must(cudaGetDeviceProperties(&properties, 0));
  Must(cudaStreamCreate(&stream));
  const int64_t pool_bytes = kPool * kPage * kWidth * 2;
  auto* const kv = RandomValues(pool_bytes / 2);
  auto* const query = RandomValues(128 * 128 * kWidth);
  auto* const out = RandomValues(128 * 128 * kLatents);
  void* workspace = nullptr;
  const size_t workspace_bytes = cuda::DecodeAttentionWorkspaceBytes(128, 128);
  Must(cudaMalloc(&workspace, workspace_bytes));
  void* counters = nullptr;
  Must(cudaMalloc(&counters, cuda::DecodeAttentionCounterBytes(128, 128)));
  Must(cudaMemset(counters, 0, cuda::DecodeAttentionCounterBytes(128, 128)));
  int32_t *table = nullptr, *rows = nullptr;
  Must(cudaMalloc(&table, kPool * 4));
  Must(cudaMalloc(&rows, 256 * 4));
  Must(cudaDeviceSynchronize());
  const std::vector<float> reads = ReadMilliseconds(3, 7, kv, pool_bytes, out);
  const double read = static_cast<double>(pool_bytes) / reads[reads.size() / 2] / 1e9;
  std::printf("%s, %d multiprocessors, read bandwidth %.3f TB/s, workspace %zu MB\n", properties.name,
              properties.multiProcessorCount, read, workspace_bytes >> 20);
  std::printf(
      "TB/s counts the cache, query and result once; of the read bandwidth in %%\n"
      "| heads | batch | context | floor, us | us | TB/s | of read | TFLOP/s | PDL chain, us | batch-invariant, us | "
      "PDL "
      "chain, us |\n"
      "|---|---|---|---|---|---|---|---|---|---|---|\n");

  const auto measure = [&](int64_t heads, int64_t batch, int64_t context) {
    std::vector<int32_t> host(256);
    for (int64_t r = 0; r < batch; ++r) {
      host[static_cast<size_t>(r)] = static_cast<int32_t>(r);
      host[static_cast<size_t>(128 + r)] = static_cast<int32_t>(context);
    }
    Must(cudaMemcpy(rows, host.data(), host.size() * 4, cudaMemcpyHostToDevice));
    // As in a model, the layers share a block table and have a cache each.
    const int64_t pages_a_row = context / kPage, pages_a_launch = batch * pages_a_row;
    const int64_t launches = std::clamp<int64_t>(kPool / pages_a_launch, 1, 61);
    std::vector<int32_t> pages(static_cast<size_t>(pages_a_launch));
    for (int64_t i = 0; i < pages_a_launch; ++i) {
      pages[static_cast<size_t>(i)] = static_cast<int32_t>(i * 40503 % pages_a_launch);
    }
    Must(cudaMemcpy(table, pages.data(), pages.size() * 4, cudaMemcpyHostToDevice));
    double us[4];
    for (int way = 0; way < 4; ++way) {
      const auto launch = [&](int l) {
        DecodeAttentionArgs args;
        args.query = View<const bf16, 3>::Contiguous(query, {batch, heads, kWidth});
        args.kv_pages =
            View<const bf16, 3>::Contiguous(kv + l * pages_a_launch * kPage * kWidth, {pages_a_launch, kPage, kWidth});
        args.block_table = View<const int32_t, 2>::Contiguous(table, {batch, pages_a_row});
        args.row_sequence = View<const int32_t, 1>{rows, {batch}, {1}};
        args.row_length = View<const int32_t, 1>{rows + 128, {batch}, {1}};
        args.kv_lora_rank = kLatents;
        args.softmax_scale = 0.05f;
        args.out = FloatOutput<3>(View<bf16, 3>::Contiguous(out, {batch, heads, kLatents}));
        cuda::DecodeAttention(args, {stream, way % 2 == 1, way >= 2, workspace, counters});
      };
      us[way] = GraphMicroseconds(static_cast<int>(launches), launch, 3, 15);
    }
    const double bytes = static_cast<double>(batch * (context * kWidth + heads * (kWidth + kLatents))) * 2;
    const double flops = static_cast<double>(batch * context * heads * (kWidth + kLatents)) * 2;
    std::printf("| %d | %d | %d | %.2f | %.2f | %.2f | %.0f%% | %.0f | %.2f | %.2f | %.2f |\n", static_cast<int>(heads),
                static_cast<int>(batch), static_cast<int>(context), bytes / read / 1e6, us[0], bytes / us[0] / 1e6,
                100 * bytes / us[0] / 1e6 / read, flops / us[0] / 1e6, us[1], us[2], us[3]);
    std::fflush(stdout);
  };
  if (argc == 4) {
    measure(std::atoi(argv[1]), std::atoi(argv[2]), std::atoi(argv[3]));
    return 0;
  }
  for (int64_t heads : {16, 64, 128}) {
    for (int64_t batch : {1, 16, 64, 128}) {
      for (int64_t context : {1024, 4096, 16384}) {
        if (batch * context / kPage <= kPool) measure(heads, batch, context);
      }
    }
  }
  return 0;
}
