// The linear layers of decode against cuBLAS (bf16 weights) and the read bandwidth of the same run: microseconds a
// product in a CUDA graph of products with a weight each, more than 420 MB of MXFP4 a replay; x is one buffer, so it
// stays in the L2.
#include <cublas_v2.h>
#include <cuda_bf16.h>
#include <cuda_runtime.h>

#include <algorithm>
#include <cstdint>
#include <cstdio>
#include <cstdlib>
#include <functional>
#include <vector>

#include "cuda/linear.h"

namespace {

using namespace mxmla;  // NOLINT(google-build-using-namespace): a program of one file

void Must(cudaError_t status) {
  if (status != cudaSuccess) std::printf("CUDA: %s\n", cudaGetErrorString(status)), std::exit(1);
}
void Must(cublasStatus_t status) {
  if (status != CUBLAS_STATUS_SUCCESS) std::printf("cuBLAS: %d\n", static_cast<int>(status)), std::exit(1);
}

__global__ void Fill(uint32_t* to, int64_t words, uint32_t keep, uint32_t set, uint32_t seed) {
  for (int64_t i = blockIdx.x * int64_t{blockDim.x} + threadIdx.x; i < words; i += int64_t{gridDim.x} * blockDim.x) {
    uint32_t h = static_cast<uint32_t>(i) * 2654435761u + seed;
    h ^= h >> 15, h *= 2246822519u, h ^= h >> 13, h *= 3266489917u, h ^= h >> 16;
    to[i] = (h & keep) | set;
  }
}
template <class T>
T* Random(int64_t bytes, uint32_t keep, uint32_t set) {
  void* data = nullptr;
  Must(cudaMalloc(&data, static_cast<size_t>(bytes)));
  Fill<<<1024, 256>>>(static_cast<uint32_t*>(data), bytes / 4, keep, set, static_cast<uint32_t>(bytes));
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

double Microseconds(int links, const std::function<void(int)>& link) {
  cudaGraph_t graph;
  cudaGraphExec_t exec;
  Must(cudaStreamBeginCapture(stream, cudaStreamCaptureModeGlobal));
  for (int l = 0; l < links; ++l) link(l);
  Must(cudaStreamEndCapture(stream, &graph));
  Must(cudaGraphInstantiate(&exec, graph, 0));
  cudaEvent_t begin, end;
  Must(cudaEventCreate(&begin));
  Must(cudaEventCreate(&end));
  std::vector<float> times;
  for (int i = 0; i < 25; ++i) {
    Must(cudaEventRecord(begin, stream));
    Must(cudaGraphLaunch(exec, stream));
    Must(cudaEventRecord(end, stream));
    Must(cudaEventSynchronize(end));
    float ms = 0;
    Must(cudaEventElapsedTime(&ms, begin, end));
    if (i >= 5) times.push_back(ms);
  }
  std::sort(times.begin(), times.end());
  Must(cudaGraphExecDestroy(exec));
  Must(cudaGraphDestroy(graph));
  return times[times.size() / 2] * 1e3 / links;
}

struct Shape {
  int64_t n, k;
};

// Weights of every format, enough for `links` products; the planes of one product follow one another.
struct Weights {
  Shape shape;
  int64_t links;
  bf16* plain;
  e4m3* fp8;
  e2m1x2* codes;
  e8m0* scales;
  float* squares;

  LinearWeight Of(int format, int64_t link) const {
    const auto [n, k] = shape;
    if (format == 0) {
      return Mxfp4<const e2m1x2, 2>{View<const e2m1x2, 2>::Contiguous(codes + link * n * k / 2, {n, k / 2}),
                                    View<const e8m0, 2>::Contiguous(scales + link * n * k / 32, {n, k / 32})};
    }
    if (format == 1) {
      const int64_t down = (n + 127) / 128, across = (k + 127) / 128;
      return Fp8Block{View<const e4m3, 2>::Contiguous(fp8 + link * n * k, {n, k}),
                      View<const float, 2>::Contiguous(squares + link * down * across, {down, across})};
    }
    return View<const bf16, 2>::Contiguous(plain + link * n * k, {n, k});
  }
};

}  // namespace

int main(int argc, char** argv) {
  cudaDeviceProp properties{};
  Must(cudaGetDeviceProperties(&properties, 0));
  Must(cudaStreamCreate(&stream));
  cublasHandle_t cublas;
  Must(cublasCreate(&cublas));
  Must(cublasSetStream(cublas, stream));
  void* workspace = nullptr;
  Must(cudaMalloc(&workspace, 32 << 20));
  Must(cublasSetWorkspace(cublas, workspace, 32 << 20));
  const bool brief = argc > 1 && argv[1][0] == 'b';

  constexpr int64_t kMost = int64_t{1} << 30;  // elements of all the weights of a replay
  auto* plain = Random<bf16>(kMost * 2, 0x807f807fu, 0x3c803c80u);
  auto* fp8 = Random<e4m3>(kMost, 0xb7b7b7b7u, 0);
  auto* codes = Random<e2m1x2>(kMost / 2, ~0u, 0);
  auto* scales = Random<e8m0>(kMost / 32, 0x03030303u, 0x78787878u);
  auto* squares = Random<float>(64 << 20, 0x007fffffu, 0x3b000000u);
  auto* x = Random<bf16>(256 * 32768 * 2, 0x80ff80ffu, 0x3f003f00u);
  auto* out = Random<bf16>(256 * 32768 * 2, 0, 0);
  Must(cudaDeviceSynchronize());

  cudaEvent_t begin, end;
  Must(cudaEventCreate(&begin));
  Must(cudaEventCreate(&end));
  float best = 1e9f;
  for (int i = 0; i < 8; ++i) {
    Must(cudaEventRecord(begin, stream));
    ReadAll<<<132 * 8, 512, 0, stream>>>(reinterpret_cast<const uint4*>(plain), kMost * 2 / 16,
                                         static_cast<uint32_t*>(workspace));
    Must(cudaEventRecord(end, stream));
    Must(cudaEventSynchronize(end));
    float ms = 0;
    Must(cudaEventElapsedTime(&ms, begin, end));
    best = std::min(best, ms);
  }
  const double bandwidth = static_cast<double>(kMost) * 2 / best / 1e9;  // TB/s
  std::printf("%s, %d multiprocessors, read bandwidth %.3f TB/s\n", properties.name, properties.multiProcessorCount,
              bandwidth);
  std::printf("us, share of the read bandwidth (bytes of weights, x and result), time over cuBLAS's\n");
  std::printf(
      "| n x k | batch | cuBLAS | weights | floor | launch | of the floor | of cuBLAS | link of a PDL chain | of the "
      "floor | of cuBLAS |\n|---|---|---|---|---|---|---|---|---|---|---|\n");
  const std::vector<Shape> shapes = {{7168, 8192}, {2112, 7168}, {12288, 1536},
                                     {2048, 2048}, {576, 2048},  {2048, 1408}};
  for (const Shape& shape : shapes) {
    const auto [n, k] = shape;
    const Weights weights{shape, std::min<int64_t>(kMost / (n * k), 100), plain, fp8, codes, scales, squares};
    for (int64_t batch :
         brief ? std::vector<int64_t>{1, 16, 128} : std::vector<int64_t>{1, 2, 4, 8, 16, 32, 64, 128, 256}) {
      const double library = Microseconds(static_cast<int>(weights.links), [&](int l) {
        const float one = 1, zero = 0;
        Must(cublasGemmEx(cublas, CUBLAS_OP_T, CUBLAS_OP_N, static_cast<int>(n), static_cast<int>(batch),
                          static_cast<int>(k), &one, plain + l * n * k, CUDA_R_16BF, static_cast<int>(k), x,
                          CUDA_R_16BF, static_cast<int>(k), &zero, out, CUDA_R_16BF, static_cast<int>(n),
                          CUBLAS_COMPUTE_32F, CUBLAS_GEMM_DEFAULT));
      });
      const char* const names[] = {"MXFP4", "FP8", "BF16"};
      for (int format = 0; format < 3; ++format) {
        double times[2];
        for (int pdl = 0; pdl < 2; ++pdl) {
          times[pdl] = Microseconds(static_cast<int>(weights.links), [&](int l) {
            cuda::Linear({View<const bf16, 2>::Contiguous(x, {batch, k}), weights.Of(format, l),
                          FloatOutput<2>(View<bf16, 2>::Contiguous(out, {batch, n}))},
                         {stream, pdl == 1});
          });
        }
        const double bytes = static_cast<double>(n * k) * (format == 0   ? 17.0 / 32
                                                           : format == 1 ? 1
                                                                         : 2) +
                             static_cast<double>(batch * (n + k) * 2);
        const double floor = bytes / bandwidth / 1e6;
        std::printf("| %d x %d | %d | %.2f | %s | %.2f |", static_cast<int>(n), static_cast<int>(k),
                    static_cast<int>(batch), library, names[format], floor);
        for (double time : times) std::printf(" %.2f | %.0f%% | %.2f |", time, 100 * floor / time, time / library);
        std::printf("\n");
      }
    }
  }
  return 0;
}
