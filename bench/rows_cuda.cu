// The row kernels at DeepSeek-V3's sizes: microseconds an op in a CUDA graph of many calls, beside what its bytes take
// at the read bandwidth of the same run. Operands stay in the L2, as a step's do; the router's weights do not.
#include <cstdint>
#include <cstdio>
#include <functional>
#include <random>
#include <string>
#include <vector>

#include "core/kv_format.h"
#include "cuda_bench.cuh"
#include "gpu/row_kernels.h"

namespace {

using namespace mxmla;         // NOLINT(google-build-using-namespace): a program of one file
using namespace mxmla::bench;  // NOLINT(google-build-using-namespace)

constexpr int64_t kRows[] = {1, 16, 128};
constexpr int64_t kMostRows = 128;
constexpr int64_t kHidden = 7168, kHeads = 128, kRank = 512, kRope = 64, kExperts = 256, kTopK = 8, kVocab = 129280;
constexpr int kLinks = 100;

template <class T, int Rank>
View<const T, Rank> In(T* data, std::array<int64_t, Rank> shape) {
  return View<const T, Rank>::Contiguous(data, shape);
}
template <class T, int Rank>
View<T, Rank> Out(T* data, std::array<int64_t, Rank> shape) {
  return View<T, Rank>::Contiguous(data, shape);
}

// Logits of a standard deviation of 3.
std::vector<float> NormalLogits() {
  std::mt19937 random(1);
  std::normal_distribution<float> normal(0, 3);
  std::vector<float> logits(static_cast<size_t>(kMostRows * kVocab));
  for (float& logit : logits) logit = normal(random);
  return logits;
}

// Device memory with the host's values.
template <class T>
T* Upload(const std::vector<T>& values) {
  void* data = nullptr;
  Must(cudaMalloc(&data, values.size() * sizeof(T)));
  Must(cudaMemcpy(data, values.data(), values.size() * sizeof(T), cudaMemcpyHostToDevice));
  return static_cast<T*>(data);
}
template <class T>
T* Counting(int64_t count, int64_t step) {
  std::vector<T> values(static_cast<size_t>(count));
  for (int64_t i = 0; i < count; ++i) values[static_cast<size_t>(i)] = static_cast<T>(i * step);
  return Upload(values);
}

struct Operands {
  // Of about 1 in magnitude.
  bf16* half = Random<bf16>(64 << 20, 0x80ff80ffu, 0x3f003f00u);
  float* full = Random<float>(128 << 20, 0x80ffffffu, 0x3f000000u);
  bf16* result = Random<bf16>(64 << 20, 0x80ff80ffu, 0x3f003f00u);
  float* router = Random<float>(int64_t{kLinks} * kExperts * kHidden * 4, 0x807fffffu, 0x3c800000u);
  uint8_t* codes = Random<uint8_t>(64 << 20, ~0u, 0);
  float* scales = Random<float>(16 << 20, 0, 0);
  int64_t* slots = Counting<int64_t>(kMostRows, 3);
  int32_t* tokens = Counting<int32_t>(kMostRows, 997);
  int32_t* ids = Counting<int32_t>(kMostRows * kTopK, 1);
  int32_t* integers = Random<int32_t>(1 << 20, 0, 0);

  template <int Rank>
  Fp8Group<e4m3, Rank> Fp8(std::array<int64_t, Rank> shape) const {
    auto of_scales = shape;
    of_scales[Rank - 1] = (shape[Rank - 1] + 127) / 128;
    return {Out<e4m3, Rank>(reinterpret_cast<e4m3*>(codes), shape), Out<float, Rank>(scales, of_scales)};
  }
  template <int Rank>
  Mxfp4<e2m1x2, Rank> Mx(std::array<int64_t, Rank> shape) const {
    auto of_scales = shape;
    of_scales[Rank - 1] = shape[Rank - 1] / 32;
    shape[Rank - 1] /= 2;
    return {Out<e2m1x2, Rank>(reinterpret_cast<e2m1x2*>(codes), shape),
            Out<e8m0, Rank>(reinterpret_cast<e8m0*>(scales), of_scales)};
  }
};

struct Case {
  std::string name;
  std::function<void(const ExecContext&, int64_t rows, int link)> run;
};

void AddNorms(const Operands& o, std::vector<Case>* cases) {
  const auto norm = [&o](int64_t rows, int64_t n) {
    RmsNormArgs args;
    args.x = In<bf16, 2>(o.half, {rows, n});
    args.weight = In<float, 1>(o.full, {n});
    args.eps = 1e-6f;
    return args;
  };
  const auto hidden = [=](int64_t rows) {
    RmsNormArgs args = norm(rows, kHidden);
    args.residual = Out<float, 2>(o.full + (8 << 20), {rows, kHidden});
    args.out = Out<bf16, 2>(o.result, {rows, kHidden});
    return args;
  };
  cases->push_back({"rms_norm 7168 + residual",
                    [=](const ExecContext& context, int64_t rows, int) { RmsNorm(context, hidden(rows)); }});
  cases->push_back({"rms_norm 7168 + residual + MXFP4", [=](const ExecContext& context, int64_t rows, int) {
                      RmsNormArgs args = hidden(rows);
                      args.quantized = o.Mx<2>({rows, kHidden});
                      RmsNorm(context, args);
                    }});
  cases->push_back({"rms_norm 7168 + residual + FP8", [=](const ExecContext& context, int64_t rows, int) {
                      RmsNormArgs args = hidden(rows);
                      args.quantized = o.Fp8<2>({rows, kHidden});
                      RmsNorm(context, args);
                    }});
  cases->push_back({"rms_norm 1536", [=](const ExecContext& context, int64_t rows, int) {
                      RmsNormArgs args = norm(rows, 1536);
                      args.out = Out<bf16, 2>(o.result, {rows, 1536});
                      RmsNorm(context, args);
                    }});
  cases->push_back(
      {"rms_norm 512 to KV rows, FP8", [=](const ExecContext& context, int64_t rows, int) {
         RmsNormArgs args = norm(rows, kRank);
         const Fp8Kv<e4m3, 3> pages = Fp8KvPages(reinterpret_cast<e4m3*>(o.codes), 8, 64, kRank, kRope);
         args.quantized = Fp8Group<e4m3, 2>{pages.latent.values.Flatten(0), pages.latent.scales.Flatten(0)};
         args.out_index = In<int64_t, 1>(o.slots, {rows});
         RmsNorm(context, args);
       }});
}

void AddRope(const Operands& o, std::vector<Case>* cases) {
  cases->push_back({"rope_angles", [=](const ExecContext& context, int64_t rows, int) {
                      RopeAngles(context, {In<int32_t, 1>(o.tokens, {rows}), In<float, 1>(o.full, {kRope / 2}), 1.0f,
                                           Out<float, 2>(reinterpret_cast<float*>(o.result), {rows, kRope / 2}),
                                           Out<float, 2>(o.scales, {rows, kRope / 2})});
                    }});
  for (const int64_t heads : {kHeads, int64_t{1}}) {
    cases->push_back({heads == 1 ? "rope k, to KV rows" : "rope q", [=](const ExecContext& context, int64_t rows, int) {
                        const auto out = Out<bf16, 3>(o.result, {3 * rows, heads, kRank + kRope});
                        RopeArgs args{In<bf16, 3>(o.half, {rows, heads, 192}).Slice(2, 128, kRope),
                                      In<float, 2>(o.full, {rows, kRope / 2}),
                                      In<float, 2>(o.full + 65536, {rows, kRope / 2}),
                                      true,
                                      out.Slice(2, kRank, kRope),
                                      {}};
                        if (heads == 1) {
                          args.out_index = In<int64_t, 1>(o.slots, {rows});
                        } else {
                          args.out = out.Rows(0, rows).Slice(2, kRank, kRope);
                        }
                        Rope(context, args);
                      }});
  }
}

void AddQuantize(const Operands& o, std::vector<Case>* cases) {
  cases->push_back({"quantize 7168 to MXFP4", [=](const ExecContext& context, int64_t rows, int) {
                      Quantize(context, {In<bf16, 3>(o.half, {rows, 1, kHidden}), o.Mx<3>({rows, 1, kHidden})});
                    }});
  cases->push_back({"flatten_quantize 128 x 128 to FP8", [=](const ExecContext& context, int64_t rows, int) {
                      FlattenQuantize(context, {In<bf16, 3>(o.half, {kHeads, rows, 128}).Permute({1, 0, 2}),
                                                o.Fp8<2>({rows, kHeads * 128})});
                    }});
  cases->push_back({"copy 128 x 128, heads and rows swapped", [=](const ExecContext& context, int64_t rows, int) {
                      Copy(context, {In<bf16, 3>(o.half, {kHeads, rows, 128}).Permute({1, 0, 2}),
                                     Out<bf16, 3>(o.result, {rows, kHeads, 128})});
                    }});
}

void AddExperts(const Operands& o, std::vector<Case>* cases) {
  for (const bool half : {true, false}) {
    cases->push_back({half ? "router 256, bf16 weights" : "router 256, float32 weights",
                      [=](const ExecContext& context, int64_t rows, int link) {
                        float* weight = o.router + link * kExperts * kHidden;
                        RouterArgs args;
                        args.x = In<bf16, 2>(o.half, {rows, kHidden});
                        if (half) {
                          args.weight = In<bf16, 2>(reinterpret_cast<bf16*>(weight), {kExperts, kHidden});
                        } else {
                          args.weight = In<float, 2>(weight, {kExperts, kHidden});
                        }
                        args.bias = In<float, 1>(o.full, {kExperts});
                        args.options = {RouterMethod::kNoauxTc, 8, 4, kTopK, true, 2.5f};
                        args.logits = Out<float, 2>(o.scales, {rows, kExperts});
                        args.expert_ids = Out<int32_t, 2>(o.integers, {rows, kTopK});
                        args.expert_weights = Out<float, 2>(reinterpret_cast<float*>(o.codes), {rows, kTopK});
                        Router(context, args);
                      }});
  }
  cases->push_back({"group_experts 256", [=](const ExecContext& context, int64_t rows, int) {
                      GroupExperts(context,
                                   {In<int32_t, 2>(o.ids, {rows, kTopK}), Out<int32_t, 1>(o.integers, {kExperts + 1}),
                                    Out<int32_t, 1>(o.integers + 4096, {rows * kTopK})});
                    }});
  cases->push_back({"silu_mul 8 x 2048 to bf16", [=](const ExecContext& context, int64_t rows, int) {
                      const auto both = In<bf16, 2>(o.half, {rows * kTopK, 4096});
                      SiluMul(context, {both.Slice(1, 0, 2048), both.Slice(1, 2048, 2048),
                                        Out<bf16, 2>(o.result, {rows * kTopK, 2048})});
                    }});
  cases->push_back(
      {"silu_mul 8 x 2048 to MXFP4", [=](const ExecContext& context, int64_t rows, int) {
         const auto both = In<bf16, 2>(o.half, {rows * kTopK, 4096});
         SiluMul(context, {both.Slice(1, 0, 2048), both.Slice(1, 2048, 2048), o.Mx<2>({rows * kTopK, 2048})});
       }});
  cases->push_back({"combine_experts 8 x 7168 + shared", [=](const ExecContext& context, int64_t rows, int) {
                      CombineExpertsArgs args{
                          In<bf16, 2>(o.half, {rows * kTopK, kHidden}), In<float, 2>(o.full, {rows, kTopK}),
                          In<bf16, 2>(o.result, {rows, kHidden}), Out<bf16, 2>(o.result + (8 << 20), {rows, kHidden})};
                      CombineExperts(context, args);
                    }});
}

void AddEnds(const Operands& o, std::vector<Case>* cases) {
  cases->push_back({"embedding 7168", [=](const ExecContext& context, int64_t rows, int) {
                      Embedding(context, {In<int32_t, 1>(o.integers, {rows}), In<bf16, 2>(o.half, {1000, kHidden}),
                                          Out<float, 2>(o.full + (8 << 20), {rows, kHidden})});
                    }});
  struct Mode {
    const char* name;
    SamplingOptions options;
    bool logprobs;
    int64_t listed;
  };
  const auto* logits = Upload(NormalLogits());
  // Temperature, top_k, top_p, min_p, penalties, top_logprobs.
  const Mode modes[] = {{"sample, greedy", {}, false, 0},
                        {"sample, greedy, logprobs", {}, true, 0},
                        {"sample, temperature 1", {1}, false, 0},
                        {"sample, top_p 0.95", {0.6f, 0, 0.95f}, false, 0},
                        {"sample, top_k 50, top_p 0.95", {0.6f, 50, 0.95f}, false, 0},
                        {"sample, min_p 0.05, 20 logprobs", {1, 0, 1, 0.05f, 1, 0, 0, 20}, true, 20}};
  for (const Mode& mode : modes) {
    const auto* options = Upload(std::vector<SamplingOptions>(kMostRows, mode.options));
    const auto* uniform = Upload(std::vector<float>(kMostRows, 0.7f));
    cases->push_back({mode.name, [=](const ExecContext& context, int64_t rows, int) {
                        SampleArgs args{};
                        args.logits = View<const float, 2>::Contiguous(logits, {rows, kVocab});
                        args.options = View<const SamplingOptions, 1>::Contiguous(options, {rows});
                        args.uniform = View<const float, 1>::Contiguous(uniform, {rows});
                        args.tokens = Out<int32_t, 1>(o.integers, {rows});
                        if (mode.logprobs) args.logprobs = Out<float, 1>(o.scales, {rows});
                        args.top_tokens = Out<int32_t, 2>(o.integers + 4096, {rows, mode.listed});
                        args.top_logprobs = Out<float, 2>(o.scales + 4096, {rows, mode.listed});
                        Sample(context, args);
                      }});
  }
}

}  // namespace

int main() {
  cudaDeviceProp properties{};
  Must(cudaGetDeviceProperties(&properties, 0));
  Must(cudaStreamCreate(&stream));
  const Operands operands;
  std::vector<Case> cases;
  AddNorms(operands, &cases);
  AddRope(operands, &cases);
  AddQuantize(operands, &cases);
  AddExperts(operands, &cases);
  AddEnds(operands, &cases);

  KernelSet kernels;
  kernels.backend = "cuda";
  kernels.activation_dtype = DType::kBf16;
  gpu::AddRowKernels(kernels);
  ThreadPool pool(1);
  Profiler profiler;
  ExecContext context;
  context.kernels = &kernels;
  context.pool = &pool;
  context.stream = stream;
  constexpr size_t kWorkspace = kMostRows * kVocab * sizeof(float);
  context.workspace = {reinterpret_cast<std::byte*>(Random<uint8_t>(kWorkspace, ~0u, 0)), nullptr, {kWorkspace, 0}};
  Must(cudaDeviceSynchronize());
  const double bandwidth = ReadBandwidth(operands.router, int64_t{kLinks} * kExperts * kHidden * 4, operands.scales);
  std::printf("%s, read bandwidth %.3f TB/s; us an op (its bytes at that bandwidth)\n", properties.name, bandwidth);
  std::printf("| op | 1 row | 16 rows | 128 rows |\n|---|---|---|---|\n");
  for (const Case& one : cases) {
    std::printf("| %s |", one.name.c_str());
    for (const int64_t rows : kRows) {
      profiler.Reset();
      ExecContext counted = context;
      counted.profiler = &profiler;
      one.run(counted, rows, 0);
      const double bytes = static_cast<double>(profiler.costs().front().bytes);
      const double time = GraphMicroseconds(
          kLinks, [&](int link) { one.run(context, rows, link); }, 3, 10);
      std::printf(" %.2f (%.2f) |", time, bytes / bandwidth / 1e6);
    }
    std::printf("\n");
  }
  return 0;
}
