// The thread that owns a model and its scheduler, and runs whatever requests other threads hand to it.
#pragma once

#include <condition_variable>
#include <functional>
#include <memory>
#include <mutex>
#include <string>
#include <thread>
#include <unordered_map>
#include <vector>

#include "engine/scheduler.h"
#include "serve/engine.h"

namespace mxmla::serve {

// A model as the server runs it; made on the engine's thread, so that the server can answer while it loads.
struct ServedModel {
  LoadedModel model;
  ModelOptions options;  // of the scheduler
};

class EngineThread final : public Engine {
 public:
  // `load` runs on the new thread; what it throws makes the engine fail, and `on_loaded` hears of either.
  EngineThread(std::function<std::unique_ptr<ServedModel>()> load, std::function<void(const EngineState&)> on_loaded);
  // Ends all requests (kCancelled) and joins the thread.
  ~EngineThread() override;
  EngineThread(const EngineThread&) = delete;
  EngineThread& operator=(const EngineThread&) = delete;

  EngineState State() const override;
  // on_done is called once whatever happens: what Scheduler::Submit refuses arrives as kError, too.
  Ticket Submit(GenerateRequest request, OnDone on_done) override;
  void Cancel(Ticket ticket) override;
  int64_t open_requests() const override;

 private:
  struct Entry {
    Ticket ticket;
    GenerateRequest request;
    OnDone on_done;
  };

  void Main(const std::function<std::unique_ptr<ServedModel>()>& load,
            const std::function<void(const EngineState&)>& on_loaded);
  void Serve(Scheduler& scheduler, Profiler& profiler, bool replays);
  void Start(Scheduler& scheduler, Entry entry);
  void Close(Ticket ticket);
  // Ends a request that no scheduler has: with the error, or kCancelled.
  static void Refuse(const OnDone& on_done, std::exception_ptr error);

  mutable std::mutex mutex_;
  std::condition_variable changed_;
  std::vector<Entry> submitted_;
  std::vector<Ticket> cancelled_;
  Ticket next_ticket_ = 1;
  int64_t open_ = 0;
  bool stopping_ = false;
  EngineState state_;
  struct Open {
    RequestId id = 0;
    OnDone on_done;
  };
  std::unordered_map<Ticket, Open> requests_;  // the engine's thread alone
  std::thread thread_;
};

}  // namespace mxmla::serve
