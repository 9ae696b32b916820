// What the benchmarks of products share: random weights of every format, and cuBLAS.
#pragma once

#include "core/scaled.h"
#include "cuda_bench.cuh"

namespace mxmla::bench {

// Weights of every format in device memory, cut into matrices of any size that follow one another.
struct RandomWeights {
  // Room for `elements` of each format and `squares` scales of FP8 blocks.
  RandomWeights(int64_t elements, int64_t squares_count)
      : plain(Random<bf16>(elements * 2, 0x807f807fu, 0x3c803c80u)),
        fp8(Random<e4m3>(elements, 0xb7b7b7b7u, 0)),
        codes(Random<e2m1x2>(elements / 2, ~0u, 0)),
        scales(Random<e8m0>(elements / 32, 0x03030303u, 0x78787878u)),
        squares(Random<float>(squares_count * 4, 0x007fffffu, 0x3b000000u)) {}

  // The i-th matrix of n x k: MXFP4 (format 0), FP8 (1) or BF16 (2).
  LinearWeight Of(int format, int64_t n, int64_t k, int64_t i) const {
    if (format == 0) {
      return Mxfp4<const e2m1x2, 2>{View<const e2m1x2, 2>::Contiguous(codes + i * n * k / 2, {n, k / 2}),
                                    View<const e8m0, 2>::Contiguous(scales + i * n * k / 32, {n, k / 32})};
    }
    if (format == 1) {
      const int64_t down = (n + 127) / 128, across = (k + 127) / 128;
      return Fp8Block{View<const e4m3, 2>::Contiguous(fp8 + i * n * k, {n, k}),
                      View<const float, 2>::Contiguous(squares + i * down * across, {down, across})};
    }
    return View<const bf16, 2>::Contiguous(plain + i * n * k, {n, k});
  }

  bf16* plain;     // (elements)
  e4m3* fp8;       // (elements)
  e2m1x2* codes;   // (elements / 2)
  e8m0* scales;    // (elements / 32)
  float* squares;  // (squares_count)
};
inline constexpr const char* kFormatNames[] = {"MXFP4", "FP8", "BF16"};

// cuBLAS on `stream`, which this creates.
struct Cublas {
  static constexpr size_t kWorkspaceBytes = 32 << 20;

  Cublas() {
    Must(cudaStreamCreate(&stream));
    Must(cublasCreate(&handle));
    Must(cublasSetStream(handle, stream));
    Must(cudaMalloc(&workspace, kWorkspaceBytes));
    Must(cublasSetWorkspace(handle, workspace, kWorkspaceBytes));
    Must(cudaGetDeviceProperties(&properties, 0));
  }

  cublasHandle_t handle = nullptr;
  void* workspace = nullptr;
  cudaDeviceProp properties{};
};

}  // namespace mxmla::bench
