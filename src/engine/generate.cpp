#include "engine/generate.h"

#include <fmt/format.h>

#include <algorithm>
#include <chrono>
#include <random>

namespace mxmla {
namespace {

// A request that is being run.
struct Active {
  size_t request = 0;
  int sequence = 0;
  int64_t prompt_done = 0;  // prompt tokens in the cache
  int32_t last = 0;         // the newest token, not yet in the cache
  std::mt19937_64 random;
};

class Generator {
 public:
  Generator(Session& session, std::span<const GenerateRequest> requests, GenerateStats* stats)
      : session_(session), requests_(requests), stats_(stats), results_(requests.size()) {
    const int64_t most = session.options().max_sequences;
    options_.resize(most);
    uniform_.resize(most);
    chosen_.resize(most);
    order_.resize(session.config().vocab_size);
  }

  std::vector<GenerateResult> Run(const std::function<void(size_t, const GenerateResult&)>& on_done) {
    while (!active_.empty() || next_ < requests_.size()) {
      Admit(on_done);
      if (active_.empty()) continue;
      Step();
      for (size_t i = 0; i < active_.size();) {
        if (!Finished(active_[i])) {
          ++i;
          continue;
        }
        session_.Remove(active_[i].sequence);
        if (on_done) on_done(active_[i].request, results_[active_[i].request]);
        active_.erase(active_.begin() + static_cast<int64_t>(i));
      }
    }
    return std::move(results_);
  }

 private:
  void Admit(const std::function<void(size_t, const GenerateResult&)>& on_done) {
    while (next_ < requests_.size() && static_cast<int64_t>(active_.size()) < session_.options().max_sequences) {
      const GenerateRequest& request = requests_[next_];
      if (request.prompt.empty()) Fail(ErrorCode::kUsage, "prompt", "at least one token", "none");
      if (request.max_tokens <= 0) {
        if (on_done) on_done(next_, results_[next_]);
      } else {
        active_.push_back({next_, session_.Add(), 0, 0, std::mt19937_64(request.seed)});
      }
      ++next_;
    }
  }

  bool Finished(const Active& active) const {
    const GenerateResult& result = results_[active.request];
    return result.stopped || static_cast<int64_t>(result.tokens.size()) >= requests_[active.request].max_tokens;
  }

  // One forward pass: a token of every request that decodes, and as much of the prompts as fits.
  void Step() {
    const auto begin = std::chrono::steady_clock::now();
    inputs_.clear();
    sampled_.clear();
    int64_t room = session_.options().max_batch_tokens;
    int64_t prompt_tokens = 0;
    for (Active& active : active_) {
      const std::vector<int32_t>& prompt = requests_[active.request].prompt;
      if (active.prompt_done < static_cast<int64_t>(prompt.size()) || room == 0) continue;
      inputs_.push_back({active.sequence, {&active.last, 1}, {0}, false});
      sampled_.push_back(&active);
      --room;
    }
    for (Active& active : active_) {
      const std::vector<int32_t>& prompt = requests_[active.request].prompt;
      const int64_t left = static_cast<int64_t>(prompt.size()) - active.prompt_done;
      const int64_t count = std::min(left, room);
      if (count <= 0) continue;
      StepInput input{active.sequence, std::span(prompt).subspan(active.prompt_done, count), {}, false};
      if (count == left) {
        input.logit_rows.push_back(static_cast<int32_t>(count - 1));
        sampled_.push_back(&active);
      }
      inputs_.push_back(std::move(input));
      active.prompt_done += count;
      prompt_tokens += count;
      room -= count;
    }
    Choose(session_.Step(inputs_));
    if (!stats_) return;
    const double seconds = std::chrono::duration<double>(std::chrono::steady_clock::now() - begin).count();
    stats_->prompt_tokens += prompt_tokens;
    stats_->new_tokens += static_cast<int64_t>(sampled_.size());
    if (prompt_tokens > 0) {
      stats_->prefill_seconds += seconds;
    } else {
      stats_->decode_seconds += seconds;
      stats_->decode_tokens += static_cast<int64_t>(sampled_.size());
    }
  }

  // Samples a token for each row of logits; rows are in the order of `sampled_`.
  void Choose(View<const float, 2> logits) {
    const auto rows = static_cast<int64_t>(sampled_.size());
    if (rows == 0) return;
    for (int64_t r = 0; r < rows; ++r) {
      options_[r] = requests_[sampled_[r]->request].sampling;
      // 24 bits: every value of the form i / 2^24 is exact, and 1 is never reached.
      uniform_[r] = static_cast<float>(sampled_[r]->random() >> 40) * 0x1p-24f;
    }
    SampleArgs args;
    args.logits = logits;
    args.options = View<const SamplingOptions, 1>::Contiguous(options_.data(), {rows});
    args.uniform = View<const float, 1>::Contiguous(uniform_.data(), {rows});
    args.order = View<int32_t, 1>::Contiguous(order_.data(), {static_cast<int64_t>(order_.size())});
    args.tokens = View<int32_t, 1>::Contiguous(chosen_.data(), {rows});
    Sample(session_.context(), args);
    for (int64_t r = 0; r < rows; ++r) Accept(*sampled_[r], chosen_[r]);
  }

  void Accept(Active& active, int32_t token) {
    const GenerateRequest& request = requests_[active.request];
    GenerateResult& result = results_[active.request];
    if (token < 0) {
      Fail(ErrorCode::kTensor, fmt::format("logits after {} tokens", session_.length(active.sequence)),
           "finite numbers", "NaN", "the weights hold values that the model cannot compute with");
    }
    if (std::find(request.stop_tokens.begin(), request.stop_tokens.end(), token) != request.stop_tokens.end()) {
      result.stopped = true;
      return;
    }
    active.last = token;
    result.tokens.push_back(token);
    if (request.on_token && !request.on_token(token)) result.stopped = true;
  }

  Session& session_;
  std::span<const GenerateRequest> requests_;
  GenerateStats* stats_;
  std::vector<GenerateResult> results_;
  std::vector<Active> active_;
  std::vector<StepInput> inputs_;
  std::vector<Active*> sampled_;
  std::vector<SamplingOptions> options_;
  std::vector<float> uniform_;
  std::vector<int32_t> chosen_;
  std::vector<int32_t> order_;
  size_t next_ = 0;
};

}  // namespace

std::vector<GenerateResult> Generate(Session& session, std::span<const GenerateRequest> requests, GenerateStats* stats,
                                     const std::function<void(size_t, const GenerateResult&)>& on_done) {
  return Generator(session, requests, stats).Run(on_done);
}

}  // namespace mxmla
