#include "cuda/half_rows.h"

#include "core/error.h"
#include "cuda/half_products.cuh"
#include "cuda/hopper_instructions.cuh"
#include "cuda/stream_plan.cuh"

namespace mxmla::cuda {
namespace {

constexpr std::string_view kOp = "cuda half_rows";
constexpr int kThreads = 256;

int64_t ValueBytes(int64_t rows, int64_t k) { return CeilDiv(rows * k * 2, 16) * 16; }

struct Params {
  const uint8_t* x;  // (rows, k) bf16
  int64_t row_bytes;
  int k;
  uint8_t* values;  // (rows, k) fp16
  float* inverses;  // (rows)
};

__global__ void __launch_bounds__(kThreads) HalfRowsKernel(const __grid_constant__ Params p) {
  AllowDependents();
  WaitForPredecessor();
  constexpr int kHeld = 4;  // pieces of 8 of a thread, from one pass to the other
  __shared__ uint32_t of_warps[kThreads / 32];
  const int thread = static_cast<int>(threadIdx.x), pieces = p.k / 8;
  const int64_t row = blockIdx.x;
  const auto* const from = reinterpret_cast<const uint4*>(p.x + row * p.row_bytes);
  auto* const to = reinterpret_cast<uint4*>(p.values + row * p.k * 2);
  uint4 held[kHeld];
#pragma unroll
  for (int i = 0; i < kHeld; ++i) {
    held[i] = make_uint4(0, 0, 0, 0);
    if (thread + i * kThreads < pieces) held[i] = from[thread + i * kThreads];
  }
  uint32_t largest = 0;
  const auto look = [&](const uint4& v) {
    largest = LargerMagnitudes(largest, LargerMagnitudes(LargerMagnitudes(v.x, v.y), LargerMagnitudes(v.z, v.w)));
  };
#pragma unroll
  for (const uint4& v : held) look(v);
  for (int i = thread + kHeld * kThreads; i < pieces; i += kThreads) look(from[i]);
#pragma unroll
  for (int lanes = 16; lanes > 0; lanes /= 2) {
    largest = LargerMagnitudes(largest, __shfl_xor_sync(~0u, largest, lanes));
  }
  if (thread % 32 == 0) of_warps[thread / 32] = largest;
  __syncthreads();
#pragma unroll
  for (const uint32_t of_warp : of_warps) largest = LargerMagnitudes(largest, of_warp);
  const HalfScale scale(largest);
  const auto scaled = [&](const uint4& v) {
    return make_uint4(scale.Scaled(v.x), scale.Scaled(v.y), scale.Scaled(v.z), scale.Scaled(v.w));
  };
#pragma unroll
  for (int i = 0; i < kHeld; ++i) {
    if (thread + i * kThreads < pieces) to[thread + i * kThreads] = scaled(held[i]);
  }
  for (int i = thread + kHeld * kThreads; i < pieces; i += kThreads) to[i] = scaled(from[i]);
  if (thread == 0) p.inverses[row] = scale.inverse;
}

}  // namespace

int64_t HalfRowsBytes(int64_t rows, int64_t k) {
  return ValueBytes(rows, k) + CeilDiv(rows * int64_t{sizeof(float)}, 16) * 16;
}

HalfRows LaunchHalfRows(const uint8_t* x, int64_t row_bytes, int64_t rows, int64_t k, const LaunchOptions& options) {
  auto* const values = static_cast<uint8_t*>(options.workspace);
  if (values == nullptr) {
    Fail(ErrorCode::kInternal, std::string(kOp), "a workspace of " + std::to_string(HalfRowsBytes(rows, k)) + " bytes",
         "none");
  }
  auto* const inverses = reinterpret_cast<float*>(values + ValueBytes(rows, k));
  const Params p{x, row_bytes, static_cast<int>(k), values, inverses};
  cudaLaunchConfig_t config{};
  config.gridDim = dim3(static_cast<unsigned>(rows));
  config.blockDim = dim3(kThreads);
  config.stream = options.stream;
  cudaLaunchAttribute attribute{};
  attribute.id = cudaLaunchAttributeProgrammaticStreamSerialization;
  attribute.val.programmaticStreamSerializationAllowed = 1;
  config.attrs = &attribute;
  config.numAttrs = options.programmatic ? 1 : 0;
  CheckCuda(cudaLaunchKernelEx(&config, HalfRowsKernel, p), kOp, "a launch");
  return {values, inverses};
}

}  // namespace mxmla::cuda
