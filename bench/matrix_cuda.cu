// Products of many rows: linear layers and experts' products streamed and in tiles of the tensor cores, against cuBLAS
// (bf16 weights, dense) of the same run. Microseconds in a CUDA graph of products with weights of their own.
#include <algorithm>
#include <cstdint>
#include <cstdio>
#include <numeric>
#include <random>
#include <vector>

#include "cuda/grouped_linear.h"
#include "cuda/linear.h"
#include "cuda_products.cuh"

namespace {

using namespace mxmla;         // NOLINT(google-build-using-namespace): a program of one file
using namespace mxmla::bench;  // NOLINT(google-build-using-namespace)

constexpr int64_t kMost = int64_t{1} << 30;  // elements of the weights
constexpr int64_t kTiled = 0, kStreamed = 1 << 20;

struct Memory {
  RandomWeights weights{kMost, 16 << 20};
  bf16* x = Random<bf16>(int64_t{16384} * 8192 * 2, 0x80ff80ffu, 0x3f003f00u);
  bf16* out = Random<bf16>(int64_t{16384} * 12288 * 2, 0, 0);
  bf16* workspace = Random<bf16>(int64_t{16384} * 8192 * 2 + 16384 * 4, 0, 0);  // of FP8 weights: HalfRowsBytes
};

// TFLOP/s of a product of `rows` rows that takes that many microseconds.
double Rate(int64_t rows, int64_t n, int64_t k, double us) { return 2e-6 * static_cast<double>(rows * n * k) / us; }

// Of all rows, or of those of `only` alone.
void Linears(const Memory& memory, cublasHandle_t cublas, int64_t only) {
  std::printf(
      "| n x k | rows | cuBLAS us, TFLOP/s | weights | streamed us | tiled us | TFLOP/s | of cuBLAS |\n"
      "|---|---|---|---|---|---|---|---|\n");
  struct Shape {
    int64_t n, k;
  };
  for (const auto& [n, k] : {Shape{7168, 8192}, Shape{12288, 1536}, Shape{2112, 7168}, Shape{2048, 2048}}) {
    for (int64_t rows : {32, 64, 128, 256, 512, 2048}) {
      if (only > 0 && rows != only) continue;
      const int links = static_cast<int>(std::min<int64_t>(kMost / (n * k), 16));
      const double library = GraphMicroseconds(links, [&](int l) {
        const float one = 1, zero = 0;
        Must(cublasGemmEx(cublas, CUBLAS_OP_T, CUBLAS_OP_N, static_cast<int>(n), static_cast<int>(rows),
                          static_cast<int>(k), &one, memory.weights.plain + l * n * k, CUDA_R_16BF, static_cast<int>(k),
                          memory.x, CUDA_R_16BF, static_cast<int>(k), &zero, memory.out, CUDA_R_16BF,
                          static_cast<int>(n), CUBLAS_COMPUTE_32F, CUBLAS_GEMM_DEFAULT));
      });
      for (int format = 0; format < 3; ++format) {
        const auto run = [&](int64_t most_streamed) {
          return GraphMicroseconds(links, [&](int l) {
            cuda::Linear({View<const bf16, 2>::Contiguous(memory.x, {rows, k}), memory.weights.Of(format, n, k, l),
                          FloatOutput<2>(View<bf16, 2>::Contiguous(memory.out, {rows, n}))},
                         {stream, false, memory.workspace}, most_streamed);
          });
        };
        const double streamed = rows <= 128 ? run(kStreamed) : 0, tiled = run(kTiled);
        std::printf("| %d x %d | %d | %.1f, %.0f | %s | %.1f | %.1f | %.0f | %.2f |\n", static_cast<int>(n),
                    static_cast<int>(k), static_cast<int>(rows), library, Rate(rows, n, k, library),
                    kFormatNames[format], streamed, tiled, Rate(rows, n, k, tiled), tiled / library);
      }
    }
  }
}

// Which pairs each expert has, in device memory, when every token chooses top_k experts at random.
struct Choice {
  Choice(int64_t experts, int64_t top_k, int64_t tokens) {
    std::mt19937_64 rng(7);
    std::vector<std::vector<int32_t>> of(static_cast<size_t>(experts));
    std::vector<int32_t> order(static_cast<size_t>(experts));
    std::iota(order.begin(), order.end(), 0);
    for (int64_t t = 0; t < tokens; ++t) {
      std::shuffle(order.begin(), order.end(), rng);
      for (int64_t j = 0; j < top_k; ++j) {
        of[static_cast<size_t>(order[static_cast<size_t>(j)])].push_back(static_cast<int32_t>(t * top_k + j));
      }
    }
    std::vector<int32_t> list{0}, pairs;
    for (const auto& some : of) {
      pairs.insert(pairs.end(), some.begin(), some.end());
      list.push_back(static_cast<int32_t>(pairs.size()));
    }
    const size_t first = list.size();
    list.insert(list.end(), pairs.begin(), pairs.end());
    Must(cudaMalloc(&memory, list.size() * 4));
    Must(cudaMemcpy(memory, list.data(), list.size() * 4, cudaMemcpyHostToDevice));
    begin = View<const int32_t, 1>::Contiguous(memory, {experts + 1});
    chosen = View<const int32_t, 1>::Contiguous(memory + first, {tokens * top_k});
  }
  ~Choice() { cudaFree(memory); }
  Choice(const Choice&) = delete;
  Choice& operator=(const Choice&) = delete;

  int32_t* memory = nullptr;
  View<const int32_t, 1> begin, chosen;
};

void Experts(const Memory& memory) {
  std::printf(
      "| experts, top | n x k | tokens | weights | streamed us | tiled us | TFLOP/s |\n"
      "|---|---|---|---|---|---|---|\n");
  struct Shape {
    int64_t experts, top_k, n, k;
    bool down;
  };
  for (const Shape& s : {Shape{64, 6, 1408, 2048, false}, Shape{64, 6, 2048, 1408, true},
                         Shape{32, 8, 2048, 7168, false}, Shape{32, 8, 7168, 2048, true}}) {
    for (int format = 0; format < 3; ++format) {
      std::vector<LinearWeight> weights;
      for (int64_t e = 0; e < s.experts; ++e) weights.push_back(memory.weights.Of(format, s.n, s.k, e));
      const cuda::ExpertTable table(weights);
      for (int64_t tokens : {64, 128, 256, 512, 2048}) {
        const Choice choice(s.experts, s.top_k, tokens);
        const int64_t pairs = tokens * s.top_k;
        const auto run = [&](int64_t most_streamed) {
          return GraphMicroseconds(2, [&](int) {
            GroupedLinearArgs args;
            args.x = View<const bf16, 2>::Contiguous(memory.x, {s.down ? pairs : tokens, s.k});
            args.pairs_per_row = s.down ? 1 : s.top_k;
            args.weights = weights;
            args.expert_begin = choice.begin;
            args.pairs = choice.chosen;
            args.out = View<bf16, 2>::Contiguous(memory.out, {pairs, s.n});
            cuda::GroupedLinear(args, table, {stream, false, memory.workspace}, most_streamed);
          });
        };
        const double streamed = tokens <= 512 ? run(kStreamed) : 0, tiled = run(kTiled);
        std::printf("| %d, %d | %d x %d | %d | %s | %.1f | %.1f | %.0f |\n", static_cast<int>(s.experts),
                    static_cast<int>(s.top_k), static_cast<int>(s.n), static_cast<int>(s.k), static_cast<int>(tokens),
                    kFormatNames[format], streamed, tiled, Rate(pairs, s.n, s.k, tiled));
      }
    }
  }
}

}  // namespace

// An argument: the only number of rows of the linear layers.
int main(int argc, char** argv) {
  const Cublas setup;
  const cublasHandle_t cublas = setup.handle;
  void* const workspace = setup.workspace;
  const cudaDeviceProp& properties = setup.properties;
  const Memory memory;
  Must(cudaDeviceSynchronize());
  std::printf("%s, read bandwidth %.3f TB/s\n", properties.name,
              ReadBandwidth(memory.weights.plain, kMost * 2, workspace));
  const int64_t only = argc > 1 ? std::atoll(argv[1]) : 0;
  Linears(memory, cublas, only);
  if (only == 0) Experts(memory);
  return 0;
}
