// The linear layers of decode against cuBLAS (bf16 weights) and the read bandwidth of the same run: microseconds a
// product in a CUDA graph of products with a weight each, more than 420 MB of MXFP4 a replay; x is one buffer, so it
// stays in the L2.
#include <cuda_bf16.h>

#include <algorithm>
#include <cstdint>
#include <cstdio>
#include <vector>

#include "cuda/linear.h"
#include "cuda_bench.cuh"

namespace {

using namespace mxmla;         // NOLINT(google-build-using-namespace): a program of one file
using namespace mxmla::bench;  // NOLINT(google-build-using-namespace)

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

  const double bandwidth = ReadBandwidth(plain, kMost * 2, workspace);  // TB/s
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
      const double library = GraphMicroseconds(static_cast<int>(weights.links), [&](int l) {
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
          times[pdl] = GraphMicroseconds(static_cast<int>(weights.links), [&](int l) {
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
