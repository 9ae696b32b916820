#include "scripted_engine.h"

#include <algorithm>

namespace mxmla::serve {

ScriptedEngine::ScriptedEngine(Script script) : script_(std::move(script)), thread_([this] { Main(); }) {}

ScriptedEngine::~ScriptedEngine() {
  {
    const std::lock_guard lock(mutex_);
    stopping_ = true;
  }
  changed_.notify_all();
  thread_.join();
}

EngineState ScriptedEngine::State() const {
  EngineState state;
  state.phase = EngineState::Phase::kReady;
  state.max_sequences = 8;
  return state;
}

Engine::Ticket ScriptedEngine::Submit(GenerateRequest request, OnDone on_done) {
  const std::lock_guard lock(mutex_);
  ++open_;
  last_ = request;
  entries_.push_back({next_, std::move(request), std::move(on_done)});
  changed_.notify_all();
  return next_++;
}

void ScriptedEngine::Cancel(Ticket ticket) {
  const std::lock_guard lock(mutex_);
  cancelled_.insert(ticket);
}

bool ScriptedEngine::IsCancelled(Ticket ticket) const {
  const std::lock_guard lock(mutex_);
  return cancelled_.contains(ticket) || stopping_;
}

GenerateRequest ScriptedEngine::last_request() const {
  const std::lock_guard lock(mutex_);
  return last_;
}

void ScriptedEngine::Main() {
  for (;;) {
    std::unique_lock lock(mutex_);
    changed_.wait(lock, [&] { return stopping_ || !entries_.empty(); });
    if (entries_.empty()) return;
    const Entry entry = std::move(entries_.front());
    entries_.pop_front();
    lock.unlock();
    Answer(entry);
    --open_;
  }
}

// As the scheduler does it: a stop token is not part of the result.
void ScriptedEngine::Answer(const Entry& entry) {
  const GenerateRequest& request = entry.request;
  GenerateResult result;
  result.cached_tokens = static_cast<int64_t>(request.prompt.size()) / 2;
  try {
    result.reason = FinishReason::kLength;
    for (const int32_t token : script_(request)) {
      if (IsCancelled(entry.ticket)) {
        result.reason = FinishReason::kCancelled;
        break;
      }
      if (std::ranges::find(request.stop_tokens, token) != request.stop_tokens.end()) {
        result.reason = FinishReason::kStop;
        result.stop_token = token;
        break;
      }
      result.tokens.push_back(token);
      if (request.logprobs) {
        TokenLogprobs logprobs;
        logprobs.chosen = -0.25f * static_cast<float>(result.tokens.size());
        for (int32_t i = 0; i < request.sampling.top_logprobs; ++i) logprobs.top.push_back({token, logprobs.chosen});
        result.logprobs.push_back(logprobs);
        if (request.on_logprobs) request.on_logprobs(logprobs);
      }
      if (request.on_token && !request.on_token(token)) {
        result.reason = FinishReason::kStop;
        break;
      }
      if (static_cast<int64_t>(result.tokens.size()) >= request.max_tokens) break;
    }
  } catch (...) {
    result.reason = FinishReason::kError;
    result.error = std::current_exception();
  }
  entry.on_done(0, result);
}

}  // namespace mxmla::serve
