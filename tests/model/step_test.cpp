// A step asks nothing of the host: its arrays reach a device by one upload, its results leave by downloads, and the
// next step can be queued on tokens that the host has not seen.
#include <gtest/gtest.h>

#include <algorithm>
#include <cstring>
#include <random>
#include <utility>
#include <vector>

#include "cpu/backend.h"
#include "engine/loaded_model.h"
#include "engine/scheduler.h"
#include "engine/session.h"
#include "model/decoder.h"
#include "model/step_plan.h"

namespace mxmla {
namespace {

// The processor's kernels on memory that stands for a device's: not where the host writes, and what the host wrote is
// gone once it is uploaded.
class FarBackend final : public Backend {
  struct Parcel {
    std::byte* to;
    std::vector<std::byte> bytes;
  };

 public:
  FarBackend() : Backend(CpuKernels(DetectCpuIsa()), 2) {}

  bool reads_host_memory() const override { return false; }
  Memory Allocate(size_t bytes, Fill fill, const std::string& what, const std::string& hint) override {
    allocated += bytes;
    if (what == "weights") {
      Memory weights = AllocateHostMemory(bytes, fill, what, hint);
      weights_begin = weights.data();
      weights_end = weights.data() + bytes;
      return weights;
    }
    return AllocateHostMemory(bytes, fill, what, hint);
  }
  std::optional<size_t> FreeMemory() const override { return free - allocated; }
  bool replays() const override { return true; }
  Memory AllocateStaging(size_t bytes, const std::string& what, const std::string& hint) override {
    Memory memory = AllocateHostMemory(bytes, Fill::kZero, what, hint);
    std::memset(memory.data(), 0xa5, bytes);
    return memory;
  }
  void Upload(std::byte* device, const std::byte* staging, size_t bytes) override {
    std::memcpy(device, staging, bytes);
    std::memset(const_cast<std::byte*>(staging), 0xa5, bytes);
    uploaded += bytes;
  }
  // What was downloaded arrives when it is waited for, and not before.
  void QueueDownload(std::byte* staging, const std::byte* device, size_t bytes) override {
    underway_.push_back({staging, {device, device + bytes}});
    std::memset(staging, 0xa5, bytes);
  }
  std::unique_ptr<Fence> MakeFence() override {
    class Arrival final : public Fence {
     public:
      explicit Arrival(std::vector<Parcel>* underway) : underway_(underway) {}
      void Set() override { parcels_ = std::exchange(*underway_, {}); }
      void Wait() override {
        for (const Parcel& parcel : parcels_) std::ranges::copy(parcel.bytes, parcel.to);
        parcels_.clear();
      }

     private:
      std::vector<Parcel>* underway_;
      std::vector<Parcel> parcels_;
    };
    return std::make_unique<Arrival>(&underway_);
  }

  size_t uploaded = 0, allocated = 0;
  size_t free = size_t{1} << 40;
  const std::byte *weights_begin = nullptr, *weights_end = nullptr;

 private:
  std::vector<Parcel> underway_;
};

class StepTest : public testing::Test {
 protected:
  StepTest() : model_(LoadedModel::Open(std::string(MXMLA_FIXTURES) + "/v3-mxfp4", {"cpu", 2})) {
    options_.max_sequences = 3;
    options_.max_context = 64;
    options_.max_batch_tokens = 40;
    options_.max_logit_rows = 4;
    options_.kv_pages = 6;
    std::mt19937 random(3);
    for (int32_t& token : prompt_) token = static_cast<int32_t>(random() % model_.config.vocab_size);
  }

  Decoder Make(Backend& backend) const {
    return Decoder(model_.config, model_.Placed(options_), options_, backend, nullptr);
  }

  // Two prompts, one of them sampled with everything that sampling knows; then a token of each.
  SequenceInput Prompt(int sequence, RowSampling sampling) const {
    SequenceInput input;
    input.tokens = std::span(prompt_).subspan(static_cast<size_t>(sequence), 20);
    input.block_table = std::span(kPages).subspan(static_cast<size_t>(sequence), 1);
    input.logit_rows = {19};
    input.sampling = {sampling};
    return input;
  }
  static SequenceInput Next(SequenceInput input, const int32_t* token) {
    input.tokens = {token, 1};
    input.first_position = 20;
    input.logit_rows = {0};
    return input;
  }
  std::vector<SequenceInput> Prompts() const {
    RowSampling random;
    random.options.temperature = 1;
    random.options.top_p = 0.9f;
    random.options.frequency_penalty = 0.5f;
    random.options.top_logprobs = 3;
    random.uniform = 0.7f;
    random.logprobs = true;
    random.penalty_tokens = kPenaltyTokens;
    random.penalty_counts = kPenaltyCounts;
    random.bias_tokens = kBiasTokens;
    random.bias_values = kBiasValues;
    return {Prompt(0, {}), Prompt(1, random)};
  }

  static constexpr int32_t kPages[] = {4, 1};
  static constexpr int32_t kPenaltyTokens[] = {3, 5}, kPenaltyCounts[] = {1, 2}, kBiasTokens[] = {7};
  static constexpr float kBiasValues[] = {1.5f};
  LoadedModel model_;
  ModelOptions options_;
  std::array<int32_t, 40> prompt_{};
};

TEST_F(StepTest, ADevicesMemoryIsNeverTheHosts) {
  FarBackend far;
  Decoder here = Make(*model_.backend), there = Make(far);
  const std::vector<SequenceInput> prompts = Prompts();
  for (int step = 0; step < 3; ++step) {
    const StepResult expected = here.Forward(prompts);
    const size_t before = far.uploaded;
    const StepResult found = there.Forward(prompts);
    EXPECT_GT(far.uploaded, before);
    ASSERT_EQ(found.tokens.shape[0], 2);
    for (int64_t r = 0; r < 2; ++r) {
      EXPECT_EQ(found.tokens(r), expected.tokens(r));
      EXPECT_EQ(std::isnan(found.logprobs(r)), std::isnan(expected.logprobs(r)));
      EXPECT_EQ(found.logprobs(r), expected.logprobs(r));
      for (int64_t i = 0; i < kMaxTopLogprobs; ++i) EXPECT_EQ(found.top_tokens(r, i), expected.top_tokens(r, i));
    }
    EXPECT_GE(found.top_tokens(1, 2), 0);
    EXPECT_EQ(found.top_tokens(0, 0), -1);  // it asked for none
  }
  // Without sampling the logits come down.
  std::vector<SequenceInput> plain = prompts;
  for (SequenceInput& input : plain) input.sampling.clear();
  const View<const float, 2> expected = here.Forward(plain).logits, found = there.Forward(plain).logits;
  ASSERT_EQ(found.size(), expected.size());
  EXPECT_EQ(std::memcmp(found.data, expected.data, static_cast<size_t>(found.size()) * sizeof(float)), 0);
}

TEST_F(StepTest, AStepCanBeQueuedOnTokensThatTheHostHasNotSeen) {
  Decoder seen = Make(*model_.backend), unseen = Make(*model_.backend);
  const std::vector<SequenceInput> prompts = Prompts();
  const StepResult first = seen.Forward(prompts);
  const int32_t tokens[] = {first.tokens(0), first.tokens(1)};
  const int32_t rows[] = {-1, -2};
  unseen.Forward(prompts);
  const StepResult expected = seen.Forward(std::vector{Next(prompts[0], &tokens[0]), Next(prompts[1], &tokens[1])});
  const StepResult found = unseen.Forward(std::vector{Next(prompts[0], &rows[0]), Next(prompts[1], &rows[1])});
  ASSERT_EQ(found.logits.size(), expected.logits.size());
  EXPECT_EQ(
      std::memcmp(found.logits.data, expected.logits.data, static_cast<size_t>(found.logits.size()) * sizeof(float)),
      0);
  const int32_t none = -5;  // there are four rows of logits
  EXPECT_THROW(unseen.Forward(std::vector{Next(prompts[0], &none)}), Error);
}

// Of two queued steps each gives its own result, wherever the kernels write.
TEST_F(StepTest, AStepCanBeQueuedBehindAnother) {
  FarBackend far;
  Decoder seen = Make(*model_.backend);
  const std::vector<SequenceInput> prompts = Prompts();
  const StepResult first = seen.Forward(prompts);
  const int32_t tokens[] = {first.tokens(0), first.tokens(1)};
  const float logprob = first.logprobs(1);
  std::vector next{Next(prompts[0], &tokens[0]), Next(prompts[1], &tokens[1])};
  next[1].sampling[0].logprobs = false;
  const StepResult second = seen.Forward(next);
  for (Backend* backend : {model_.backend.get(), static_cast<Backend*>(&far)}) {
    Decoder decoder = Make(*backend);
    EXPECT_THROW(decoder.Take(), Error);
    for (int round = 0; round < 3; ++round) {
      decoder.Queue(prompts);
      const int32_t rows[] = {-1, -2};
      next[0].tokens = {&rows[0], 1};
      next[1].tokens = {&rows[1], 1};
      decoder.Queue(next);
      EXPECT_THROW(decoder.Queue(next), Error);
      const StepResult of_first = decoder.Take();
      ASSERT_EQ(of_first.tokens.shape[0], 2);
      EXPECT_EQ(of_first.tokens(0), tokens[0]);
      EXPECT_EQ(of_first.tokens(1), tokens[1]);
      EXPECT_EQ(of_first.logprobs(1), logprob);
      EXPECT_TRUE(of_first.logits.empty());
      const StepResult of_second = decoder.Take();
      ASSERT_EQ(of_second.tokens.shape[0], 2);
      EXPECT_EQ(of_second.tokens(0), second.tokens(0));
      EXPECT_EQ(of_second.tokens(1), second.tokens(1));
      EXPECT_TRUE(of_second.logprobs.empty());
    }
    decoder.Queue(prompts);  // left to the destructor
  }
}

class FarWeights : public testing::TestWithParam<const char*> {
 protected:
  static ModelOptions Options() {
    ModelOptions options;
    options.max_context = 100;
    options.max_sequences = 2;
    options.max_batch_tokens = 16;
    options.max_logit_rows = 16;
    return options;
  }
  LoadedModel Open() const { return LoadedModel::Open(std::string(MXMLA_FIXTURES) + "/" + GetParam(), {"cpu", 2}); }
};

TEST_P(FarWeights, ComputeWhatTheHostsDo) {
  for (const KvDType kv_dtype : {KvDType::kAuto, KvDType::kFp8}) {
    std::vector<float> results[2];
    for (const bool far : {false, true}) {
      LoadedModel model = Open();
      FarBackend* device = nullptr;
      size_t told = 0, total = 1;
      if (far) {
        auto backend = std::make_unique<FarBackend>();
        device = backend.get();
        model.backend = std::move(backend);
        model.on_upload = [&](const LoadState& state) {
          EXPECT_GE(state.done, told);
          told = state.done;
          if (state.finished) total = state.total;
        };
      }
      ModelOptions options = Options();
      options.kv_dtype = kv_dtype;
      Session session(model, options);
      if (far) {
        EXPECT_EQ(told, total);
        const PlacedWeights& placed = model.Placed(options);
        const auto* head = std::get_if<View<const bf16, 2>>(&placed.weights.lm_head);
        ASSERT_NE(head, nullptr);
        const auto* at = reinterpret_cast<const std::byte*>(head->data);
        EXPECT_TRUE(at >= device->weights_begin && at < device->weights_end);
        EXPECT_EQ(session.options().row_buckets.empty(), false);
      }
      const int first = session.Add(), second = session.Add();
      std::vector<int32_t> tokens(10);
      for (int32_t i = 0; i < 10; ++i) tokens[static_cast<size_t>(i)] = 3 * i + 1;
      const std::span<const int32_t> all = tokens;
      for (int step = 0; step < 2; ++step) {
        const StepInput inputs[] = {{first, all.first(1), {0}, false}, {second, all, {0, 9}, false}};
        const View<const float, 2> logits = session.Step(inputs);
        results[far].insert(results[far].end(), logits.data, logits.data + logits.size());
      }
      Scheduler scheduler(model, options);
      GenerateRequest request;
      for (int32_t i = 0; i < 80; ++i) request.prompt.push_back(i % 31);
      request.random_rows = 70;
      request.max_tokens = 4;
      request.logprobs = true;
      scheduler.Submit(request, [&](RequestId, const GenerateResult& result) {
        for (const TokenLogprobs& token : result.logprobs) results[far].push_back(token.chosen);
      });
      while (!scheduler.idle()) scheduler.Tick();
    }
    ASSERT_EQ(results[0].size(), results[1].size());
    EXPECT_EQ(std::memcmp(results[0].data(), results[1].data(), results[0].size() * sizeof(float)), 0);
  }
}

TEST_P(FarWeights, ThatDoNotFitAreRefusedBeforeAnythingIsCopied) {
  LoadedModel model = Open();
  auto backend = std::make_unique<FarBackend>();
  backend->free = 20000;
  const FarBackend* device = backend.get();
  model.backend = std::move(backend);
  try {
    Session session(model, Options());
    FAIL() << "not refused";
  } catch (const Error& error) {
    EXPECT_EQ(error.code(), ErrorCode::kMemory);
    EXPECT_NE(std::string(error.what()).find("0.00 GB free"), std::string::npos);
  }
  EXPECT_EQ(device->allocated, 0u);
}

// Several matrices that read the same rows become one where their planes allow it, and shared experts stand among the
// routed ones.
TEST_P(FarWeights, AreJoinedAndAreStillTheCheckpoints) {
  LoadedModel model = Open();
  model.backend = std::make_unique<FarBackend>();
  const PlacedWeights& placed = model.Placed(Options());
  // kimi-mxfp4's shared experts are BF16.
  EXPECT_EQ(placed.shared_parts, GetParam() == std::string("kimi-mxfp4") ? 0 : model.config.n_shared_experts);
  using Values = std::vector<std::vector<float>>;
  const auto values = [](const LinearWeight& weight) {
    Values rows(static_cast<size_t>(RowCount(weight)), std::vector<float>(static_cast<size_t>(ColumnCount(weight))));
    for (int64_t r = 0; r < RowCount(weight); ++r) DequantizeRow(weight, r, rows[static_cast<size_t>(r)].data());
    return rows;
  };
  const auto joined = [&](const LinearWeight& first, const LinearWeight& second) {
    Values rows = values(first);
    std::ranges::copy(values(second), std::back_inserter(rows));
    return rows;
  };
  const auto rows_of = [](const Values& all, size_t first, size_t count) {
    return Values(all.begin() + static_cast<int64_t>(first), all.begin() + static_cast<int64_t>(first + count));
  };
  int found = 0;
  for (size_t l = 0; l < placed.joined.size(); ++l) {
    const LayerWeights& host = model.weights.layers[l];
    const LayerWeights& far = placed.weights.layers[l];
    const JoinedWeights& own = placed.joined[l];
    const LinearWeight& query = model.config.q_lora_rank > 0 ? host.q_a_proj : host.q_proj;
    if (own.down) {
      EXPECT_EQ(values(*own.down), joined(query, host.kv_a_proj_with_mqa));
      ++found;
    }
    if (own.gate_up) {
      const MlpWeights& mlp = host.is_moe ? host.shared_experts : host.mlp;
      EXPECT_EQ(values(*own.gate_up), joined(mlp.gate_proj, mlp.up_proj));
      ++found;
    }
    if (!host.is_moe) continue;
    const size_t experts = host.experts.gate_proj.size();
    const auto width = static_cast<size_t>(model.config.moe_intermediate_size);
    ASSERT_EQ(far.experts.gate_proj.size(), experts + static_cast<size_t>(placed.shared_parts));
    for (size_t e = 0; e < far.experts.gate_proj.size(); ++e) {
      const bool routed = e < experts;
      const size_t first = routed ? 0 : (e - experts) * width;
      const MlpWeights from =
          routed ? MlpWeights{host.experts.gate_proj[e], host.experts.up_proj[e], host.experts.down_proj[e]}
                 : host.shared_experts;
      const Values gate = rows_of(values(from.gate_proj), first, width),
                   up = rows_of(values(from.up_proj), first, width);
      EXPECT_EQ(values(far.experts.gate_proj[e]), gate);
      EXPECT_EQ(values(far.experts.up_proj[e]), up);
      Values down = values(from.down_proj);
      for (std::vector<float>& row : down)
        row = {row.begin() + static_cast<int64_t>(first), row.begin() + static_cast<int64_t>(first + width)};
      EXPECT_EQ(values(far.experts.down_proj[e]), down);
      if (own.expert_gate_up.empty()) continue;
      Values both = gate;
      std::ranges::copy(up, std::back_inserter(both));
      EXPECT_EQ(values(own.expert_gate_up[e]), both);
      ++found;
    }
  }
  EXPECT_GT(found, GetParam() == std::string("v3-fp8") ? -1 : 4);  // its widths are no multiples of a block
}

INSTANTIATE_TEST_SUITE_P(Models, FarWeights,
                         testing::Values("v3-mxfp4", "v3-fp8", "v3-bf16", "v2-bf16", "kimi-mxfp4", "v3-real-dims"),
                         [](const auto& test) {
                           std::string name = test.param;
                           std::ranges::replace(name, '-', '_');
                           return name;
                         });

// Rows are written by several threads at once, those that nobody reads as well.
TEST_F(StepTest, EveryRowWritesToASlotOfItsOwn) {
  options_.page_size = 20;
  options_.max_context = 20;
  options_.row_buckets = {1, 2, 64};
  std::vector<SequenceInput> inputs = Prompts();
  for (SequenceInput& input : inputs) input.sampling.clear();
  inputs[1].absorbed = true;               // of either kind there are 44 rows too many
  const AttentionCost cost{512, 8, 8, 8};  // expanded heads are much cheaper
  StepPlan plan(options_, model_.config.vocab_size, {}, *model_.backend);
  plan.Fill(inputs, cost, true);
  ASSERT_EQ(plan.shape().absorbed_rows, 64);
  ASSERT_EQ(plan.shape().expanded_rows, 64);
  const View<const int64_t, 1> slots = plan.Views().slots;
  std::vector<int64_t> sorted(slots.data, slots.data + slots.shape[0]);
  std::ranges::sort(sorted);
  EXPECT_EQ(std::ranges::adjacent_find(sorted), sorted.end());
  EXPECT_GE(sorted.front(), 0);
  EXPECT_LT(sorted.back(), (options_.kv_pages + PaddingPages(options_)) * options_.page_size);
  EXPECT_EQ(slots(0), 20);  // the absorbed one's first page is 1, the other's 4
  EXPECT_EQ(slots(64), 80);
}

TEST_F(StepTest, SamplingIsForAllRowsOrNone) {
  Decoder decoder = Make(*model_.backend);
  std::vector<SequenceInput> inputs = Prompts();
  inputs[0].sampling.clear();
  EXPECT_THROW(decoder.Forward(inputs), Error);
  inputs = Prompts();
  const std::vector<uint32_t> short_mask(1);
  inputs[0].sampling[0].allowed = short_mask;
  EXPECT_THROW(decoder.Forward(inputs), Error);
  // A mask with one token leaves no choice.
  std::vector<uint32_t> mask(static_cast<size_t>(model_.config.vocab_size + 31) / 32);
  mask[1] = 1u << 5;
  inputs[0].sampling[0].allowed = mask;
  EXPECT_EQ(decoder.Forward(inputs).tokens(0), 37);
}

}  // namespace
}  // namespace mxmla
