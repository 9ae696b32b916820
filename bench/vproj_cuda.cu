// The fused V projection against cuBLAS (bf16 weights, token-major result) and cuBLAS + a flatten-quantise kernel, in
// one run: microseconds a layer in a CUDA graph of 61 layers with a weight set each; x is one buffer, so it stays in
// the L2.
#include <cuda_bf16.h>
#include <cuda_fp8.h>

#include <cstdint>
#include <cstdio>

#include "cuda/value_project.h"
#include "cuda_products.cuh"

namespace {

using namespace mxmla;         // NOLINT(google-build-using-namespace): a program of one file
using namespace mxmla::bench;  // NOLINT(google-build-using-namespace)
constexpr int kLayers = 61;
constexpr int64_t kLatent = 512, kV = 128, kHeadRows = 256;

// A warp quantises 128 columns: the second kernel of the unfused way. The same arithmetic, mode even.
template <bool kFp8>
__global__ void FlattenQuantize(const uint2* from, uint8_t* codes, void* scales, int64_t groups) {
  const int64_t group = (blockIdx.x * int64_t{blockDim.x} + threadIdx.x) / 32;
  const int lane = static_cast<int>(threadIdx.x) % 32;
  if (group >= groups) return;
  const uint2 packed = from[group * 32 + lane];
  const float v[4] = {__uint_as_float(packed.x << 16), __uint_as_float(packed.x & 0xffff0000u),
                      __uint_as_float(packed.y << 16), __uint_as_float(packed.y & 0xffff0000u)};
  uint32_t amax = 0;
  for (float f : v) amax = max(amax, __float_as_uint(f) & 0x7fffffffu);
  for (int s = 1; s < (kFp8 ? 32 : 8); s *= 2) amax = max(amax, __shfl_xor_sync(~0u, amax, s));
  uint32_t out = 0;
  if constexpr (kFp8) {
    const float scale = fmaxf(__uint_as_float(amax), 1e-10f) / 448.0f;
    for (int j = 0; j < 4; ++j) {
      out |= static_cast<uint32_t>(__nv_cvt_float_to_fp8(v[j] / scale, __NV_SATFINITE, __NV_E4M3)) << (8 * j);
    }
    reinterpret_cast<uint32_t*>(codes)[group * 32 + lane] = out;
    if (lane == 0) static_cast<float*>(scales)[group] = scale;
  } else {
    const int scale = max(static_cast<int>((amax + 0x200000u) >> 23) - 2, 0);
    const float inverse = __uint_as_float((254u - scale) << 23);
    for (int j = 0; j < 4; ++j) {
      const float m = fabsf(v[j] * inverse);
      const uint32_t c =
          (m > 0.25f) + (m >= 0.75f) + (m > 1.25f) + (m >= 1.75f) + (m > 2.5f) + (m >= 3.5f) + (m > 5.0f);
      out |= (c | __float_as_uint(v[j]) >> 31 << 3) << (4 * j);
    }
    reinterpret_cast<uint16_t*>(codes)[group * 32 + lane] = static_cast<uint16_t>(out);
    if (lane % 8 == 0) static_cast<uint8_t*>(scales)[group * 4 + lane / 8] = static_cast<uint8_t>(scale);
  }
}

}  // namespace

int main() {
  const Cublas setup;
  const cublasHandle_t cublas = setup.handle;
  void* const workspace = setup.workspace;
  const cudaDeviceProp& properties = setup.properties;

  const int64_t most = int64_t{kLayers} * 128 * kHeadRows * kLatent;
  const RandomWeights weights(most, most / 128 / 128 + 1024);
  auto* x = Random<bf16>(128 * 128 * kLatent * 2, 0x80ff80ffu, 0x3f003f00u);
  auto* out = Random<bf16>(128 * 128 * kV * 2, 0, 0);
  auto* codes = Random<uint8_t>(128 * 128 * kV, 0, 0);
  auto* scales = Random<float>(128 * 128 * kV, 0, 0);
  Must(cudaDeviceSynchronize());

  std::printf("%s, %d multiprocessors, read bandwidth %.3f TB/s\n", properties.name, properties.multiProcessorCount,
              ReadBandwidth(weights.plain, most * 2, workspace));
  std::printf(
      "us a layer; fused columns are result MXFP4 / FP8 / bf16; ratios: to cuBLAS + flatten of that format / cuBLAS\n");
  std::printf(
      "| heads | batch | cuBLAS | + flatten MXFP4 | + flatten FP8 | weights | fused | ratio | fused, PDL chain | its "
      "ratio |\n"
      "|---|---|---|---|---|---|---|---|---|---|\n");

  for (int64_t heads : {8, 16, 64, 128}) {
    for (int64_t batch : {1, 8, 32, 64, 128}) {
      const int64_t layer_rows = heads * kHeadRows;
      const auto project = [&](int l) {
        const float one = 1, zero = 0;
        Must(cublasGemmStridedBatchedEx(cublas, CUBLAS_OP_T, CUBLAS_OP_N, kV, static_cast<int>(batch), kLatent, &one,
                                        weights.plain + (l * layer_rows + kHeadRows - kV) * kLatent, CUDA_R_16BF,
                                        kLatent, kHeadRows * kLatent, x, CUDA_R_16BF, static_cast<int>(heads * kLatent),
                                        kLatent, &zero, out, CUDA_R_16BF, static_cast<int>(heads * kV), kV,
                                        static_cast<int>(heads), CUBLAS_COMPUTE_32F, CUBLAS_GEMM_DEFAULT));
      };
      const int64_t groups = batch * heads;
      const auto blocks = static_cast<unsigned>((groups + 3) / 4);
      const double alone = GraphMicroseconds(kLayers, project);
      const double with_mxfp4 = GraphMicroseconds(kLayers, [&](int l) {
        project(l);
        FlattenQuantize<false><<<blocks, 128, 0, stream>>>(reinterpret_cast<const uint2*>(out), codes, scales, groups);
      });
      const double with_fp8 = GraphMicroseconds(kLayers, [&](int l) {
        project(l);
        FlattenQuantize<true><<<blocks, 128, 0, stream>>>(reinterpret_cast<const uint2*>(out), codes, scales, groups);
      });
      for (int w = 0; w < 3; ++w) {
        double times[2][3];
        for (int pdl = 0; pdl < 2; ++pdl) {
          for (int o = 0; o < 3; ++o) {
            times[pdl][o] = GraphMicroseconds(kLayers, [&](int l) {
              ValueProjectArgs args;
              args.attn = View<const bf16, 3>::Contiguous(x, {batch, heads, kLatent});
              args.w_vc = {weights.Of(w, layer_rows, kLatent, l), heads, kHeadRows, kHeadRows - kV, kV};
              const int64_t n = heads * kV;
              if (o == 0) {
                args.out = ActivationOutput<2>(
                    Mxfp4<e2m1x2, 2>{View<e2m1x2, 2>::Contiguous(reinterpret_cast<e2m1x2*>(codes), {batch, n / 2}),
                                     View<e8m0, 2>::Contiguous(reinterpret_cast<e8m0*>(scales), {batch, n / 32})});
              } else if (o == 1) {
                args.out = ActivationOutput<2>(
                    Fp8Group<e4m3, 2>{View<e4m3, 2>::Contiguous(reinterpret_cast<e4m3*>(codes), {batch, n}),
                                      View<float, 2>::Contiguous(scales, {batch, n / 128})});
              } else {
                args.out = ActivationOutput<2>(View<bf16, 2>::Contiguous(out, {batch, n}));
              }
              cuda::ValueProject(args, {stream, pdl == 1});
            });
          }
        }
        const double base[3] = {with_mxfp4, with_fp8, alone};
        std::printf("| %d | %d | %.2f | %.2f | %.2f | %s |", static_cast<int>(heads), static_cast<int>(batch), alone,
                    with_mxfp4, with_fp8, kFormatNames[w]);
        for (auto& row : times) {
          std::printf(" %.2f / %.2f / %.2f | %.0f / %.0f / %.0f%% |", row[0], row[1], row[2], 100 * row[0] / base[0],
                      100 * row[1] / base[1], 100 * row[2] / base[2]);
        }
        std::printf("\n");
      }
    }
  }
  return 0;
}
