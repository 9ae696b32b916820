// MLA decode attention on the GPU: microseconds a launch in a CUDA graph whose launches read different parts of the
// cache, beside the read bandwidth of the same run. Arguments: heads, batch, context; without them, a table.
#include <cuda_runtime.h>

#include <algorithm>
#include <cstdint>
#include <cstdio>
#include <cstdlib>
#include <functional>
#include <vector>

#include "cuda/decode_attention.h"

namespace {

using namespace mxmla;  // NOLINT(google-build-using-namespace): a program of one file
constexpr int64_t kWidth = 576, kLatents = 512, kPage = 64, kPool = 1 << 16;

void Must(cudaError_t status) {
  if (status != cudaSuccess) std::printf("CUDA: %s\n", cudaGetErrorString(status)), std::exit(1);
}

// bf16 of +-[0.5, 1) and +-[1, 2).
__global__ void Fill(uint32_t* to, int64_t words, uint32_t seed) {
  for (int64_t i = blockIdx.x * int64_t{blockDim.x} + threadIdx.x; i < words; i += int64_t{gridDim.x} * blockDim.x) {
    uint32_t h = static_cast<uint32_t>(i) * 2654435761u + seed;
    h ^= h >> 15, h *= 2246822519u, h ^= h >> 13, h *= 3266489917u, h ^= h >> 16;
    to[i] = (h & 0x80ff80ffu) | 0x3f003f00u;
  }
}
template <class T>
T* Random(int64_t bytes) {
  void* data = nullptr;
  Must(cudaMalloc(&data, static_cast<size_t>(bytes)));
  Fill<<<1024, 256>>>(static_cast<uint32_t*>(data), bytes / 4, static_cast<uint32_t>(bytes));
  Must(cudaGetLastError());
  return static_cast<T*>(data);
}

__global__ void ReadAll(const uint4* from, int64_t count, uint32_t* sink) {
  uint32_t sum = 0;
  const int64_t step = int64_t{gridDim.x} * blockDim.x;
  int64_t i = blockIdx.x * int64_t{blockDim.x} + threadIdx.x;
  for (; i + 3 * step < count; i += 4 * step) {
    const uint4 a = from[i], b = from[i + step], c = from[i + 2 * step], d = from[i + 3 * step];
    sum += a.x ^ b.y ^ c.z ^ d.w ^ a.y ^ b.x ^ c.w ^ d.z;
  }
  if (sum == 0x12345678u) *sink = sum;
}

cudaStream_t stream;

double Median(int count, const std::function<void()>& run) {
  cudaEvent_t begin, end;
  Must(cudaEventCreate(&begin));
  Must(cudaEventCreate(&end));
  std::vector<float> times;
  for (int i = 0; i < count + 3; ++i) {
    Must(cudaEventRecord(begin, stream));
    run();
    Must(cudaEventRecord(end, stream));
    Must(cudaEventSynchronize(end));
    float ms = 0;
    Must(cudaEventElapsedTime(&ms, begin, end));
    if (i >= 3) times.push_back(ms);
  }
  std::sort(times.begin(), times.end());
  return times[times.size() / 2] * 1e3;
}

}  // namespace

int main(int argc, char** argv) {
  cudaDeviceProp properties{};
  Must(cudaGetDeviceProperties(&properties, 0));
  Must(cudaStreamCreate(&stream));
  const int64_t pool_bytes = kPool * kPage * kWidth * 2;
  auto* const kv = Random<bf16>(pool_bytes);
  auto* const query = Random<bf16>(128 * 128 * kWidth * 2);
  auto* const out = Random<bf16>(128 * 128 * kLatents * 2);
  void* workspace = nullptr;
  const size_t workspace_bytes = cuda::DecodeAttentionWorkspaceBytes(128, 128);
  Must(cudaMalloc(&workspace, workspace_bytes));
  Must(cudaMemset(workspace, 0, workspace_bytes));
  int32_t *table = nullptr, *rows = nullptr;
  Must(cudaMalloc(&table, kPool * 4));
  Must(cudaMalloc(&rows, 256 * 4));
  auto* const sink = reinterpret_cast<uint32_t*>(out);
  Must(cudaDeviceSynchronize());
  const double read =
      static_cast<double>(pool_bytes) /
      Median(7,
             [&] { ReadAll<<<132 * 8, 512, 0, stream>>>(reinterpret_cast<const uint4*>(kv), pool_bytes / 16, sink); }) /
      1e6;
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
      cudaGraph_t graph;
      cudaGraphExec_t exec;
      Must(cudaStreamBeginCapture(stream, cudaStreamCaptureModeGlobal));
      for (int64_t l = 0; l < launches; ++l) {
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
        cuda::DecodeAttention(args, {stream, way % 2 == 1, way >= 2, workspace});
      }
      Must(cudaStreamEndCapture(stream, &graph));
      Must(cudaGraphInstantiate(&exec, graph, 0));
      us[way] = Median(15, [&] { Must(cudaGraphLaunch(exec, stream)); }) / static_cast<double>(launches);
      Must(cudaGraphExecDestroy(exec));
      Must(cudaGraphDestroy(graph));
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
