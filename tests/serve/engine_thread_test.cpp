// Requests handed to the engine's thread by many others.
#include "serve/engine_thread.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <atomic>
#include <future>
#include <random>

#include "core/error.h"

namespace mxmla::serve {
namespace {

std::unique_ptr<ServedModel> LoadFixture() {
  auto served = std::make_unique<ServedModel>();
  served->model = LoadedModel::Open(std::string(MXMLA_FIXTURES) + "/v3-bf16", {"cpu", 2});
  served->options.max_sequences = 4;
  served->options.max_context = 48;
  served->options.max_batch_tokens = 16;
  served->options.prefill_chunk = 8;
  served->options.page_size = 4;
  return served;
}

GenerateRequest Request(uint64_t seed, int64_t max_tokens) {
  GenerateRequest request;
  std::mt19937_64 random(seed);
  for (uint64_t t = 0; t < 1 + seed % 20; ++t) request.prompt.push_back(static_cast<int32_t>(random() % 71));
  request.max_tokens = max_tokens;
  request.sampling.temperature = 1;
  request.seed = seed;
  return request;
}

TEST(EngineThread, ManyThreadsGetWhatEachWouldGetAlone) {
  constexpr int kThreads = 6, kEach = 12;
  std::vector<std::vector<int32_t>> alone;
  {
    const auto served = LoadFixture();
    for (uint64_t i = 0; i < kThreads * kEach; ++i) {
      Scheduler scheduler(served->model, served->options);
      scheduler.Submit(Request(i, 8), [&](RequestId, const GenerateResult& r) { alone.push_back(r.tokens); });
      while (!scheduler.idle()) scheduler.Tick();
    }
  }
  EngineThread engine(LoadFixture, [](const EngineState&) {});
  std::vector<std::vector<int32_t>> found(alone.size());
  std::vector<std::thread> threads;
  for (size_t t = 0; t < kThreads; ++t) {
    threads.emplace_back([&, t] {
      for (size_t j = 0; j < kEach; ++j) {
        const size_t i = t * kEach + j;
        std::promise<std::vector<int32_t>> tokens;
        const auto ticket = engine.Submit(
            Request(i, 8), [&](RequestId, const GenerateResult& result) { tokens.set_value(result.tokens); });
        engine.State();
        found[i] = tokens.get_future().get();
        engine.Cancel(ticket);  // of one that has ended: nothing
      }
    });
  }
  for (std::thread& thread : threads) thread.join();
  EXPECT_EQ(found, alone);
  // The last on_done may still be about to return.
  for (int i = 0; i < 1000 && engine.open_requests() > 0; ++i) {
    std::this_thread::sleep_for(std::chrono::milliseconds(10));
  }
  EXPECT_EQ(engine.open_requests(), 0);
}

TEST(EngineThread, CancelEndsARequestAndTheOthersGoOn) {
  EngineThread engine(LoadFixture, [](const EngineState&) {});
  std::promise<FinishReason> cancelled, whole;
  std::promise<void> begun;
  GenerateRequest request = Request(3, 40);
  request.on_token = [&, first = true](int32_t) mutable {
    if (std::exchange(first, false)) begun.set_value();
    return true;
  };
  const auto ticket =
      engine.Submit(request, [&](RequestId, const GenerateResult& r) { cancelled.set_value(r.reason); });
  engine.Submit(Request(3, 40), [&](RequestId, const GenerateResult& r) { whole.set_value(r.reason); });
  begun.get_future().wait();
  engine.Cancel(ticket);
  // It may have been about to end anyway.
  EXPECT_THAT(cancelled.get_future().get(), testing::AnyOf(FinishReason::kCancelled, FinishReason::kLength));
  EXPECT_EQ(whole.get_future().get(), FinishReason::kLength);
}

TEST(EngineThread, RefusedRequestsAndThoseOfAnEngineThatCannotLoadAreAnswered) {
  EngineThread engine(LoadFixture, [](const EngineState&) {});
  std::promise<std::exception_ptr> refused;
  engine.Submit(Request(1, 1000), [&](RequestId, const GenerateResult& r) { refused.set_value(r.error); });
  EXPECT_THROW(std::rethrow_exception(refused.get_future().get()), Error);

  std::promise<EngineState> loaded;
  EngineThread broken([]() -> std::unique_ptr<ServedModel> { throw std::runtime_error("no model"); },
                      [&](const EngineState& state) { loaded.set_value(state); });
  EXPECT_EQ(loaded.get_future().get().phase, EngineState::Phase::kFailed);
  std::promise<std::exception_ptr> answered;
  broken.Submit(Request(1, 1), [&](RequestId, const GenerateResult& r) { answered.set_value(r.error); });
  EXPECT_THROW(std::rethrow_exception(answered.get_future().get()), std::runtime_error);
}

TEST(EngineThread, EndsWhatRunsWhenItIsDestroyed) {
  std::atomic<int> ended = 0;
  {
    EngineThread engine(LoadFixture, [](const EngineState&) {});
    for (uint64_t i = 0; i < 12; ++i) engine.Submit(Request(i, 20), [&](RequestId, const GenerateResult&) { ++ended; });
  }
  EXPECT_EQ(ended, 12);
}

}  // namespace
}  // namespace mxmla::serve
