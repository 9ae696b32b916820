// What a launch is depends on extents alone: a graph captured with one step's values gives the results of another's,
// once the arrays hold them.
#include <cuda_runtime_api.h>

#include "gpu/row_kernels.h"
#include "harness.h"

namespace mxmla::test {
namespace {

class CudaGraphTest : public testing::Test {
 protected:
  void SetUp() override {
    int devices = 0;
    if (cudaGetDeviceCount(&devices) != cudaSuccess || devices == 0) GTEST_SKIP() << "cuda: no CUDA device";
    ASSERT_EQ(cudaStreamCreate(&stream_), cudaSuccess);
    gpu::AddRowKernels(set_);
    context_.kernels = &set_;
    context_.pool = &pool_;
    context_.stream = stream_;
  }
  void TearDown() override {
    if (stream_) cudaStreamDestroy(stream_);
  }

  // `calls` captured after `first` has set the step's values, replayed after `second` has; then called directly.
  // `results` collects bits.
  template <class Calls, class First, class Second, class Results>
  void Check(const Calls& calls, const First& first, const Second& second, const Results& results) {
    cudaGraph_t graph = nullptr;
    cudaGraphExec_t exec = nullptr;
    first();
    ASSERT_EQ(cudaStreamBeginCapture(stream_, cudaStreamCaptureModeGlobal), cudaSuccess);
    calls(context_);
    ASSERT_EQ(cudaStreamEndCapture(stream_, &graph), cudaSuccess);
    ASSERT_EQ(cudaGraphInstantiate(&exec, graph, 0), cudaSuccess);
    const auto run = [&](bool replay) {
      if (replay) {
        EXPECT_EQ(cudaGraphLaunch(exec, stream_), cudaSuccess);
      } else {
        calls(context_);
      }
      EXPECT_EQ(cudaStreamSynchronize(stream_), cudaSuccess);
      return results();
    };
    const auto before = run(true);
    EXPECT_EQ(run(false), before);
    second();
    const auto after = run(true);
    EXPECT_NE(after, before);
    EXPECT_EQ(run(false), after);
    cudaGraphExecDestroy(exec);
    cudaGraphDestroy(graph);
  }

  Rng rng_{Seed()};
  KernelSet set_;
  ThreadPool pool_{1};
  ExecContext context_;
  cudaStream_t stream_ = nullptr;
};

TEST_F(CudaGraphTest, EmbeddingNormAndRopeFollowTheStepsArrays) {
  const int64_t rows = 4, n = 64, vocab = 50;
  const Weight table(rng_, Format::kBf16, vocab, n);
  OperandVector<int32_t> tokens(rows), previous(rows), positions(rows), from(rows);
  OperandVector<int64_t> slots(rows);
  OperandVector<float> frequencies(n / 2, 0.1f), weight(n, 1.5f);
  const Tensor<2> embedded(rng_, Format::kBf16, {rows, n}), normed(rng_, Format::kFp8, {3 * rows, n});
  const Plane<float, 2> cos(rng_, {rows, n / 2}), sin(rng_, {rows, n / 2});
  const Tensor<3> turned(rng_, Format::kBf16, {3 * rows, 1, n});
  const auto set = [&](int32_t step) {
    for (int32_t r = 0; r < rows; ++r) {
      tokens[r] = r == 2 ? -1 - step : 7 * r + step;
      previous[r] = 20 + r;
      positions[r] = 100 * step + r;
      from[r] = (r + step) % 4;
      slots[r] = 3 * r + step;
    }
  };
  const auto row_indices = [&](const auto& v) { return View<const int32_t, 1>::Contiguous(v.data(), {rows}); };
  const auto calls = [&](const ExecContext& context) {
    Embedding(context, {row_indices(tokens), table.View(), embedded.Out(), row_indices(previous)});
    RmsNormArgs norm;
    norm.x = embedded.In();
    norm.weight = View<const float, 1>::Contiguous(weight.data(), {n});
    norm.row_index = row_indices(from);
    norm.out_index = View<const int64_t, 1>::Contiguous(slots.data(), {rows});
    norm.quantized = normed.QuantizedOut();
    RmsNorm(context, norm);
    RopeAngles(context, {row_indices(positions), View<const float, 1>::Contiguous(frequencies.data(), {n / 2}), 1.0f,
                         cos.view, sin.view});
    const auto x = View<const bf16, 2>(embedded.half->view).Split(1, 1, n);
    Rope(context, {x, cos.view, sin.view, true, turned.Out(), norm.out_index});
  };
  Check(
      calls, [&] { set(0); }, [&] { set(1); },
      [&] {
        std::vector<uint8_t> bits = normed.Bits();
        const std::vector<uint8_t> more = turned.Bits();
        bits.insert(bits.end(), more.begin(), more.end());
        return bits;
      });
}

TEST_F(CudaGraphTest, RouterAndSampleFollowTheStepsArrays) {
  const int64_t rows = 3, hidden = 64, experts = 16, top_k = 4, vocab = 900;
  Tensor<2> x(rng_, Format::kBf16, {rows, hidden});
  const Weight w(rng_, Format::kBf16, experts, hidden);
  OperandVector<int32_t> length(rows);
  const Plane<float, 2> scores(rng_, {rows, experts}), weights(rng_, {rows, top_k}), logits(rng_, {rows, vocab});
  const Plane<int32_t, 2> ids(rng_, {rows, top_k});
  const Plane<int32_t, 1> begin(rng_, {experts + 1}), pairs(rng_, {rows * top_k});
  OperandVector<SamplingOptions> options(rows);
  OperandVector<float> uniform(rows);
  const Plane<int32_t, 1> tokens(rng_, {rows});
  OperandVector<float> workspace(rows * vocab);
  context_.workspace.shared = reinterpret_cast<std::byte*>(workspace.data());
  context_.workspace.size.shared = workspace.size() * sizeof(float);
  const auto set = [&](int step) {
    x.Randomize(rng_);
    logits.ForEach([&](float& v) { v = std::normal_distribution<float>(0, 2)(rng_); });
    for (int64_t r = 0; r < rows; ++r) {
      length[r] = r == step ? 0 : 9;
      options[r] = r == step ? SamplingOptions{} : SamplingOptions{0.8f, 40, 0.9f};
      uniform[r] = std::uniform_real_distribution<float>(0, 0.99f)(rng_);
    }
  };
  const auto calls = [&](const ExecContext& context) {
    RouterArgs router{x.In(),      w.View(), {},          {RouterMethod::kGreedy, 1, 1, top_k, false, 1},
                      scores.view, ids.view, weights.view};
    router.row_length = View<const int32_t, 1>::Contiguous(length.data(), {rows});
    Router(context, router);
    GroupExperts(context, {ids.view, begin.view, pairs.view});
    SampleArgs sample{};
    sample.logits = logits.view;
    sample.options = View<const SamplingOptions, 1>::Contiguous(options.data(), {rows});
    sample.uniform = View<const float, 1>::Contiguous(uniform.data(), {rows});
    sample.tokens = tokens.view;
    Sample(context, sample);
  };
  Check(
      calls, [&] { set(0); }, [&] { set(1); },
      [&] {
        std::vector<int32_t> all = ids.Elements();
        for (const Plane<int32_t, 1>* plane : {&begin, &tokens}) {
          const std::vector<int32_t> more = plane->Elements();
          all.insert(all.end(), more.begin(), more.end());
        }
        return all;
      });
}

}  // namespace
}  // namespace mxmla::test
