// The experts' products of a decode step against the read bandwidth of the same run: microseconds a product in a CUDA
// graph of 16 products, each with a choice of experts of its own; bytes are those of the chosen experts' weights.

#include <algorithm>
#include <cstdint>
#include <cstdio>
#include <memory>
#include <random>
#include <vector>

#include "cuda/grouped_linear.h"
#include "cuda_products.cuh"

namespace {

using namespace mxmla;         // NOLINT(google-build-using-namespace): a program of one file
using namespace mxmla::bench;  // NOLINT(google-build-using-namespace)

constexpr int kLinks = 16;

}  // namespace

int main() {
  Must(cudaStreamCreate(&stream));
  constexpr int64_t kMost = int64_t{256} * 2048 * 7168;  // elements
  const RandomWeights random(kMost, kMost / 16384);
  auto* x = Random<bf16>(1024 * 8192 * 2, 0x80ff80ffu, 0x3f003f00u);
  auto* out = Random<bf16>(int64_t{1024} * 8192 * 2, 0, 0);
  int32_t* lists = nullptr;
  constexpr int64_t kListInts = 4096;
  Must(cudaMallocManaged(&lists, kLinks * kListInts * 4));
  const double bandwidth = ReadBandwidth(random.fp8, kMost, x);
  std::printf("read bandwidth %.3f TB/s\n", bandwidth);
  std::printf(
      "| experts, top | n x k | tokens | chosen | weights | floor, us | launch | of the floor | PDL | of the floor |\n"
      "|---|---|---|---|---|---|---|---|---|---|\n");
  struct Shape {
    int64_t experts, top_k, n, k;
    bool down;
  };
  for (const Shape& s : {Shape{256, 8, 2048, 7168, false}, Shape{256, 8, 7168, 2048, true},
                         Shape{64, 6, 1408, 2048, false}, Shape{64, 6, 2048, 1408, true}}) {
    for (int format : {0, 1}) {
      std::vector<LinearWeight> weights;
      for (int64_t e = 0; e < s.experts; ++e) weights.push_back(random.Of(format, s.n, s.k, e));
      const cuda::ExpertTable table(weights);
      for (int64_t tokens : {1, 8, 32, 128}) {
        Must(cudaDeviceSynchronize());
        std::mt19937_64 rng(7);
        double chosen = 0;
        for (int l = 0; l < kLinks; ++l) {
          std::vector<std::vector<int32_t>> lists_of(static_cast<size_t>(s.experts));
          std::vector<int32_t> order(static_cast<size_t>(s.experts));
          for (size_t e = 0; e < order.size(); ++e) order[e] = static_cast<int32_t>(e);
          for (int64_t t = 0; t < tokens; ++t) {
            std::shuffle(order.begin(), order.end(), rng);
            for (int64_t j = 0; j < s.top_k; ++j) {
              lists_of[static_cast<size_t>(order[static_cast<size_t>(j)])].push_back(
                  static_cast<int32_t>(t * s.top_k + j));
            }
          }
          int32_t* const list = lists + l * kListInts;
          int32_t at = 0;
          for (int64_t e = 0; e < s.experts; ++e) {
            list[e] = at;
            if (!lists_of[static_cast<size_t>(e)].empty()) chosen += 1.0 / kLinks;
            for (int32_t pair : lists_of[static_cast<size_t>(e)]) list[s.experts + 1 + at++] = pair;
          }
          list[s.experts] = at;
        }
        Must(cudaMemPrefetchAsync(lists, kLinks * kListInts * 4, {cudaMemLocationTypeDevice, 0}, 0, stream));
        Must(cudaStreamSynchronize(stream));
        const int64_t pairs = tokens * s.top_k;
        double times[2];
        for (int pdl = 0; pdl < 2; ++pdl) {
          times[pdl] = GraphMicroseconds(kLinks, [&](int l) {
            GroupedLinearArgs args;
            args.x = View<const bf16, 2>::Contiguous(x, {s.down ? pairs : tokens, s.k});
            args.pairs_per_row = s.down ? 1 : s.top_k;
            args.weights = weights;
            args.expert_begin = View<const int32_t, 1>::Contiguous(lists + l * kListInts, {s.experts + 1});
            args.pairs = View<const int32_t, 1>::Contiguous(lists + l * kListInts + s.experts + 1, {pairs});
            args.out = View<bf16, 2>::Contiguous(out, {pairs, s.n});
            cuda::GroupedLinear(args, table, {stream, pdl == 1});
          });
        }
        const double floor = chosen * static_cast<double>(s.n * s.k) * (format == 0 ? 17.0 / 32 : 1) / bandwidth / 1e6;
        std::printf("| %d, %d | %d x %d | %d | %.1f | %s | %.2f | %.2f | %.0f%% | %.2f | %.0f%% |\n",
                    static_cast<int>(s.experts), static_cast<int>(s.top_k), static_cast<int>(s.n),
                    static_cast<int>(s.k), static_cast<int>(tokens), chosen, format == 0 ? "MXFP4" : "FP8", floor,
                    times[0], 100 * floor / times[0], times[1], 100 * floor / times[1]);
      }
    }
  }
  return 0;
}
