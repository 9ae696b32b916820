// An engine whose answers are written beforehand: what the endpoints make of an answer can be tested without a model
// that gives it.
#pragma once

#include <atomic>
#include <condition_variable>
#include <deque>
#include <mutex>
#include <set>
#include <string>
#include <thread>
#include <vector>

#include "serve/engine.h"
#include "text/tokenizer.h"

namespace mxmla::serve {

class ScriptedEngine final : public Engine {
 public:
  // The tokens that answer a request, chosen by its prompt; end with a stop token or run into max_tokens.
  using Script = std::function<std::vector<int32_t>(const GenerateRequest& request)>;

  explicit ScriptedEngine(Script script);
  ~ScriptedEngine() override;
  ScriptedEngine(const ScriptedEngine&) = delete;
  ScriptedEngine& operator=(const ScriptedEngine&) = delete;

  EngineState State() const override;
  Ticket Submit(GenerateRequest request, OnDone on_done) override;
  void Cancel(Ticket ticket) override;
  int64_t open_requests() const override { return open_; }

  // What was asked last.
  GenerateRequest last_request() const;

 private:
  struct Entry {
    Ticket ticket;
    GenerateRequest request;
    OnDone on_done;
  };
  void Main();
  void Answer(const Entry& entry);
  bool IsCancelled(Ticket ticket) const;

  const Script script_;
  mutable std::mutex mutex_;
  std::condition_variable changed_;
  std::deque<Entry> entries_;
  std::set<Ticket> cancelled_;
  GenerateRequest last_;
  Ticket next_ = 1;
  bool stopping_ = false;
  std::atomic<int64_t> open_ = 0;
  std::thread thread_;
};

}  // namespace mxmla::serve
