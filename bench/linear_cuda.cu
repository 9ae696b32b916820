// The linear layers of decode against cuBLAS (bf16 weights) and the read bandwidth of the same run: microseconds a
// product in a CUDA graph of products with a weight each, more than 420 MB of MXFP4 a replay; x is one buffer, so it
// stays in the L2.
#include <cuda_bf16.h>

#include <algorithm>
#include <cstdint>
#include <cstdio>
#include <vector>

#include "cuda/linear.h"
#include "cuda_products.cuh"

namespace {

using namespace mxmla;         // NOLINT(google-build-using-namespace): a program of one file
using namespace mxmla::bench;  // NOLINT(google-build-using-namespace)

struct Shape {
  int64_t n, k;
};

}  // namespace

int main(int argc, char** argv) {
  const Cublas setup;
  const cublasHandle_t cublas = setup.handle;
  void* const workspace = setup.workspace;
  const cudaDeviceProp& properties = setup.properties;
  const bool brief = argc > 1 && argv[1][0] == 'b';

  constexpr int64_t kMost = int64_t{1} << 30;  // elements of all the weights of a replay
  const RandomWeights weights(kMost, 16 << 20);
  auto* x = Random<bf16>(256 * 32768 * 2, 0x80ff80ffu, 0x3f003f00u);
  auto* out = Random<bf16>(256 * 32768 * 2, 0, 0);
  Must(cudaDeviceSynchronize());

  const double bandwidth = ReadBandwidth(weights.plain, kMost * 2, workspace);  // TB/s
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
    const int links = static_cast<int>(std::min<int64_t>(kMost / (n * k), 100));
    for (int64_t batch :
         brief ? std::vector<int64_t>{1, 16, 128} : std::vector<int64_t>{1, 2, 4, 8, 16, 32, 64, 128, 256}) {
      const double library = GraphMicroseconds(links, [&](int l) {
        const float one = 1, zero = 0;
        Must(cublasGemmEx(cublas, CUBLAS_OP_T, CUBLAS_OP_N, static_cast<int>(n), static_cast<int>(batch),
                          static_cast<int>(k), &one, weights.plain + l * n * k, CUDA_R_16BF, static_cast<int>(k), x,
                          CUDA_R_16BF, static_cast<int>(k), &zero, out, CUDA_R_16BF, static_cast<int>(n),
                          CUBLAS_COMPUTE_32F, CUBLAS_GEMM_DEFAULT));
      });
      for (int format = 0; format < 3; ++format) {
        double times[2];
        for (int pdl = 0; pdl < 2; ++pdl) {
          times[pdl] = GraphMicroseconds(links, [&](int l) {
            cuda::Linear({View<const bf16, 2>::Contiguous(x, {batch, k}), weights.Of(format, n, k, l),
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
                    static_cast<int>(batch), library, kFormatNames[format], floor);
        for (double time : times) std::printf(" %.2f | %.0f%% | %.2f |", time, 100 * floor / time, time / library);
        std::printf("\n");
      }
    }
  }
  return 0;
}
