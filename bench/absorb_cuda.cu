// The query's move into the latent space against cuBLAS (bf16 weights) in one run: microseconds a layer in a CUDA graph
// of 61 layers with a weight set each; the query is one buffer, so it stays in the L2.
#include <cstdint>
#include <cstdio>

#include "cuda/query_absorb.h"
#include "cuda_products.cuh"

int main() {
  using namespace mxmla;         // NOLINT(google-build-using-namespace): a program of one file
  using namespace mxmla::bench;  // NOLINT(google-build-using-namespace)
  constexpr int kLayers = 61;
  constexpr int64_t kLatent = 512, kNope = 128, kHeadRows = 256, kWidth = kLatent + 64;

  const Cublas setup;
  const cublasHandle_t cublas = setup.handle;
  void* const workspace = setup.workspace;
  const cudaDeviceProp& properties = setup.properties;

  const int64_t most = int64_t{kLayers} * 128 * kHeadRows * kLatent;
  const RandomWeights weights(most, most / 128 / 128 + 1024);
  auto* q = Random<bf16>(128 * 128 * 192 * 2, 0x80ff80ffu, 0x3f003f00u);
  auto* out = Random<bf16>(128 * 128 * kWidth * 2, 0, 0);
  Must(cudaDeviceSynchronize());
  const double bandwidth = ReadBandwidth(weights.plain, most * 2, workspace);
  std::printf("%s, %d multiprocessors, read bandwidth %.3f TB/s\n", properties.name, properties.multiProcessorCount,
              bandwidth);
  std::printf(
      "us a layer, plain / link of a PDL chain; of cuBLAS; bytes of weights, query and result at the read "
      "bandwidth over the link's time\n");
  std::printf("| heads | batch | cuBLAS | MXFP4 | FP8 | BF16 |\n|---|---|---|---|---|---|\n");
  for (int64_t heads : {8, 16, 64, 128}) {
    for (int64_t batch : {1, 8, 32, 64, 128}) {
      const int64_t layer_rows = heads * kHeadRows;
      const double base = GraphMicroseconds(kLayers, [&](int l) {
        const float one = 1, zero = 0;
        Must(cublasGemmStridedBatchedEx(cublas, CUBLAS_OP_N, CUBLAS_OP_N, kLatent, static_cast<int>(batch), kNope, &one,
                                        weights.plain + l * layer_rows * kLatent, CUDA_R_16BF, kLatent,
                                        kHeadRows * kLatent, q, CUDA_R_16BF, static_cast<int>(heads * 192), 192, &zero,
                                        out, CUDA_R_16BF, static_cast<int>(heads * kWidth), kWidth,
                                        static_cast<int>(heads), CUBLAS_COMPUTE_32F, CUBLAS_GEMM_DEFAULT));
      });
      std::printf("| %d | %d | %.2f |", static_cast<int>(heads), static_cast<int>(batch), base);
      for (int w = 0; w < 3; ++w) {
        double times[2];
        for (int pdl = 0; pdl < 2; ++pdl) {
          times[pdl] = GraphMicroseconds(kLayers, [&](int l) {
            QueryAbsorbArgs args;
            args.q_nope = View<const bf16, 3>{q, {batch, heads, kNope}, {heads * 192, 192, 1}};
            args.w_kc = {weights.Of(w, layer_rows, kLatent, l), heads, kHeadRows, 0, kNope};
            args.out = FloatOutput<3>(View<bf16, 3>{out, {batch, heads, kLatent}, {heads * kWidth, kWidth, 1}});
            cuda::QueryAbsorb(args, {stream, pdl == 1});
          });
        }
        const double weights = static_cast<double>(heads * kNope * kLatent) * (w == 0 ? 17.0 / 32 : w == 1 ? 1 : 2);
        const double bytes = weights + static_cast<double>(batch * heads * (kNope + kLatent) * 2);
        std::printf(" %.2f / %.2f, %.0f%%, %.0f%% |", times[0], times[1], 100 * times[0] / base,
                    100 * bytes / bandwidth / 1e6 / times[1]);
      }
      std::printf("\n");
    }
  }
  return 0;
}
