// What the endpoints ask for tokens.
#pragma once

#include <cstdint>
#include <functional>
#include <string>
#include <vector>

#include "engine/request.h"

namespace mxmla::serve {

// Numbers of one moment.
struct EngineState {
  enum class Phase { kLoading, kReady, kFailed };
  Phase phase = Phase::kLoading;
  std::string failure;  // kFailed: the error's line
  int64_t running = 0, waiting = 0, preemptions = 0;
  int64_t max_sequences = 0;  // that run at once; known when ready
  int64_t pages = 0, used_pages = 0, cached_pages = 0;
  int64_t prompt_tokens = 0, new_tokens = 0, steps = 0;  // since the start
  double step_seconds = 0;                               // of all steps
  // Of the steps whose ops were timed, one after the other.
  struct OpTime {
    std::string name;
    int64_t calls = 0;
    double seconds = 0;
  };
  int64_t timed_steps = 0;
  std::vector<OpTime> ops;
};

class Engine {
 public:
  using Ticket = int64_t;
  using OnDone = std::function<void(int64_t request, const GenerateResult&)>;

  virtual ~Engine() = default;

  virtual EngineState State() const = 0;
  // Queues a request. Its callbacks and on_done are called on the engine's thread and must not block; on_done is called
  // once, after the last of the others.
  virtual Ticket Submit(GenerateRequest request, OnDone on_done) = 0;
  // The request ends with what it has; nothing happens when it has ended.
  virtual void Cancel(Ticket ticket) = 0;
  // Requests handed in that have not ended.
  virtual int64_t open_requests() const = 0;
};

}  // namespace mxmla::serve
