// Causal attention with expanded heads over prompts and cached prefixes: microseconds a layer and TFLOP/s of what must
// be multiplied (the expansion of each token once, and each row with the tokens it sees), against cuBLAS's rate.
#include <cstdint>
#include <cstdio>
#include <vector>

#include "cuda/prefill_attention.h"
#include "cuda_bench.cuh"

int main() {
  using namespace mxmla;         // NOLINT(google-build-using-namespace): a program of one file
  using namespace mxmla::bench;  // NOLINT(google-build-using-namespace)
  constexpr int64_t kLatents = 512, kRope = 64, kNope = 128, kV = 128, kQk = kNope + kRope, kWidth = kLatents + kRope;
  constexpr int64_t kMostTokens = 65536, kMostRows = 4096, kMostHeads = 128, kPage = 64;
  cudaDeviceProp properties{};
  Must(cudaGetDeviceProperties(&properties, 0));
  Must(cudaStreamCreate(&stream));
  cublasHandle_t cublas;
  Must(cublasCreate(&cublas));
  Must(cublasSetStream(cublas, stream));
  auto* kv = Random<bf16>(kMostTokens * kWidth * 2, 0x80ff80ffu, 0x3f003f00u);
  auto* query = Random<bf16>(kMostRows * kMostHeads * kQk * 2, 0x80ff80ffu, 0x3f003f00u);
  auto* weights = Random<bf16>(kMostHeads * 256 * kLatents * 2, 0x807f807fu, 0x3c803c80u);
  auto* codes = Random<e2m1x2>(kMostHeads * 256 * kLatents / 2, ~0u, 0);
  auto* scales = Random<e8m0>(kMostHeads * 256 * kLatents / 32, 0x03030303u, 0x78787878u);
  auto* out = Random<bf16>(kMostRows * kMostHeads * kV * 2, 0, 0);
  auto* matrix = Random<bf16>(int64_t{8192} * 8192 * 2, 0x80ff80ffu, 0x3c003c00u);
  auto* product = Random<bf16>(int64_t{8192} * 8192 * 2, 0, 0);
  void* workspace = nullptr;
  Must(cudaMalloc(&workspace, 300 << 20));
  Must(cudaDeviceSynchronize());
  const double library = GraphMicroseconds(1, [&](int) {
    const float one = 1, zero = 0;
    Must(cublasGemmEx(cublas, CUBLAS_OP_T, CUBLAS_OP_N, 8192, 8192, 8192, &one, matrix, CUDA_R_16BF, 8192, matrix,
                      CUDA_R_16BF, 8192, &zero, product, CUDA_R_16BF, 8192, CUBLAS_COMPUTE_32F, CUBLAS_GEMM_DEFAULT));
  });
  const double rate = 2.0 * 8192 * 8192 * 8192 / library * 1e-6;
  std::printf("%s, cuBLAS bf16 8192^3 %.0f TFLOP/s\n", properties.name, rate);
  std::printf(
      "| heads | segments | cached | rows each | BF16 us | TFLOP/s | of cuBLAS | MXFP4 us | in chunks, BF16 us, MXFP4 "
      "us |\n"
      "|---|---|---|---|---|---|---|---|---|\n");
  struct Case {
    int64_t heads, segments, before, rows;
  };
  for (const Case& c :
       {Case{16, 1, 0, 512}, Case{16, 1, 0, 2048}, Case{16, 1, 2048, 2048}, Case{16, 1, 30720, 2048},
        Case{16, 4, 0, 512}, Case{16, 8, 0, 256}, Case{64, 1, 0, 2048}, Case{128, 1, 0, 2048}, Case{128, 1, 0, 4096}}) {
    const int64_t rows = c.segments * c.rows, tokens = c.before + c.rows, pages = (tokens + kPage - 1) / kPage;
    std::vector<int32_t> ints;
    for (int64_t r = 0; r < rows; ++r) ints.push_back(static_cast<int32_t>(r / c.rows));
    for (int64_t r = 0; r < rows; ++r) ints.push_back(static_cast<int32_t>(c.before + r % c.rows + 1));
    for (int64_t s = 0; s <= c.segments; ++s) ints.push_back(static_cast<int32_t>(s * c.rows));
    for (int64_t i = 0; i < c.segments * pages; ++i) ints.push_back(static_cast<int32_t>(i));
    int32_t* on_device = nullptr;
    Must(cudaMalloc(&on_device, ints.size() * 4));
    Must(cudaMemcpy(on_device, ints.data(), ints.size() * 4, cudaMemcpyHostToDevice));
    PrefillAttentionArgs args;
    args.query = View<const bf16, 3>::Contiguous(query, {rows, c.heads, kQk});
    args.kv_pages = View<const bf16, 3>::Contiguous(kv, {kMostTokens / kPage, kPage, kWidth});
    args.row_sequence = View<const int32_t, 1>::Contiguous(on_device, {rows});
    args.row_length = View<const int32_t, 1>::Contiguous(on_device + rows, {rows});
    args.segment_begin = View<const int32_t, 1>::Contiguous(on_device + 2 * rows, {c.segments + 1});
    args.block_table = View<const int32_t, 2>::Contiguous(on_device + 2 * rows + c.segments + 1, {c.segments, pages});
    args.softmax_scale = 0.01f;
    args.out = FloatOutput<3>(View<bf16, 3>::Contiguous(out, {rows, c.heads, kV}));
    const int64_t n = c.heads * (kNope + kV);
    double times[2], in_chunks[2];
    for (int format = 0; format < 2; ++format) {
      LinearWeight tensor = View<const bf16, 2>::Contiguous(weights, {n, kLatents});
      if (format == 1) {
        tensor = Mxfp4<const e2m1x2, 2>{View<const e2m1x2, 2>::Contiguous(codes, {n, kLatents / 2}),
                                        View<const e8m0, 2>::Contiguous(scales, {n, kLatents / 32})};
      }
      args.w_kc = {tensor, c.heads, kNope + kV, 0, kNope};
      args.w_vc = {tensor, c.heads, kNope + kV, kNope, kV};
      times[format] = GraphMicroseconds(4, [&](int) { cuda::PrefillAttention(args, {stream, workspace}); });
      in_chunks[format] = GraphMicroseconds(2, [&](int) { cuda::PrefillAttention(args, {stream, workspace, false}); });
    }
    const double seen =
        static_cast<double>(c.rows) * (static_cast<double>(c.before) + static_cast<double>(c.rows + 1) / 2);
    const double operations = 2.0 * static_cast<double>(c.segments * c.heads) *
                              (seen * (kQk + kV) + static_cast<double>(tokens) * (kNope + kV) * kLatents);
    const double reached = operations / times[0] * 1e-6;
    std::printf("| %d | %d | %d | %d | %.1f | %.0f | %.0f%% | %.1f | %.1f, %.1f |\n", static_cast<int>(c.heads),
                static_cast<int>(c.segments), static_cast<int>(c.before), static_cast<int>(c.rows), times[0], reached,
                100 * reached / rate, times[1], in_chunks[0], in_chunks[1]);
    Must(cudaFree(on_device));
  }
  return 0;
}
