#include "serve/engine_thread.h"

#include <algorithm>
#include <chrono>
#include <utility>

#include "core/error.h"

namespace mxmla::serve {
namespace {

// A device that replays whole steps has to run those op by op whose ops are timed: few enough to cost nothing.
constexpr int64_t kReplayedStepsBetweenTimed = 256;

void CopyOpTimes(const Profiler& profiler, std::vector<EngineState::OpTime>* ops) {
  const std::vector<OpCost>& costs = profiler.costs();  // they keep their places
  for (size_t i = 0; i < costs.size(); ++i) {
    if (i == ops->size()) ops->push_back({costs[i].name});
    (*ops)[i].calls = costs[i].calls;
    (*ops)[i].seconds = costs[i].seconds;
  }
}

}  // namespace

EngineThread::EngineThread(std::function<std::unique_ptr<ServedModel>()> load,
                           std::function<void(const EngineState&)> on_loaded)
    : thread_([this, load = std::move(load), on_loaded = std::move(on_loaded)] { Main(load, on_loaded); }) {}

EngineThread::~EngineThread() {
  {
    const std::lock_guard lock(mutex_);
    stopping_ = true;
  }
  changed_.notify_all();
  thread_.join();
}

EngineState EngineThread::State() const {
  const std::lock_guard lock(mutex_);
  return state_;
}

int64_t EngineThread::open_requests() const {
  const std::lock_guard lock(mutex_);
  return open_;
}

EngineThread::Ticket EngineThread::Submit(GenerateRequest request, OnDone on_done) {
  Ticket ticket = 0;
  {
    const std::lock_guard lock(mutex_);
    ticket = next_ticket_++;
    ++open_;
    submitted_.push_back({ticket, std::move(request), std::move(on_done)});
  }
  changed_.notify_all();
  return ticket;
}

void EngineThread::Cancel(Ticket ticket) {
  {
    const std::lock_guard lock(mutex_);
    cancelled_.push_back(ticket);
  }
  changed_.notify_all();
}

void EngineThread::Refuse(const OnDone& on_done, std::exception_ptr error) {
  GenerateResult result;
  result.reason = error ? FinishReason::kError : FinishReason::kCancelled;
  result.error = std::move(error);
  on_done(0, result);
}

void EngineThread::Close(Ticket ticket) {
  requests_.erase(ticket);
  const std::lock_guard lock(mutex_);
  --open_;
}

void EngineThread::Start(Scheduler& scheduler, Entry entry) {
  const Ticket ticket = entry.ticket;
  requests_[ticket].on_done = std::move(entry.on_done);
  try {
    requests_[ticket].id =
        scheduler.Submit(std::move(entry.request), [this, ticket](RequestId id, const GenerateResult& result) {
          requests_.at(ticket).on_done(id, result);
          Close(ticket);
        });
  } catch (...) {
    Refuse(requests_[ticket].on_done, std::current_exception());
    Close(ticket);
  }
}

void EngineThread::Main(const std::function<std::unique_ptr<ServedModel>()>& load,
                        const std::function<void(const EngineState&)>& on_loaded) {
  std::unique_ptr<ServedModel> served;
  Profiler profiler;
  std::unique_ptr<Scheduler> scheduler;
  std::exception_ptr failure;
  EngineState state;
  try {
    served = load();
    scheduler = std::make_unique<Scheduler>(served->model, served->options, &profiler);
    state.phase = EngineState::Phase::kReady;
    state.max_sequences = scheduler->options().max_sequences;
    state.pages = scheduler->pool().pages();
  } catch (const std::exception& error) {
    failure = std::current_exception();
    state.phase = EngineState::Phase::kFailed;
    state.failure = error.what();
  }
  {
    const std::lock_guard lock(mutex_);
    state_ = state;
  }
  on_loaded(state);
  if (scheduler) {
    try {
      Serve(*scheduler, profiler, served->model.backend->replays());
    } catch (const std::exception& error) {  // a bug, or no memory: nothing can be run any more
      failure = std::current_exception();
      const std::lock_guard lock(mutex_);
      state_.phase = EngineState::Phase::kFailed;
      state_.failure = error.what();
    }
    while (!requests_.empty()) {
      const Ticket ticket = requests_.begin()->first;
      Refuse(requests_.begin()->second.on_done, failure);
      Close(ticket);
    }
  }
  // Whatever comes now is answered at once.
  std::unique_lock lock(mutex_);
  while (!stopping_ || !submitted_.empty()) {
    changed_.wait(lock, [&] { return stopping_ || !submitted_.empty(); });
    std::vector<Entry> entries = std::exchange(submitted_, {});
    lock.unlock();
    for (const Entry& entry : entries) {
      Refuse(entry.on_done, failure);
      Close(entry.ticket);
    }
    lock.lock();
  }
}

void EngineThread::Serve(Scheduler& scheduler, Profiler& profiler, bool replays) {
  for (int64_t step = 0;; ++step) {
    std::vector<Entry> submitted;
    std::vector<Ticket> cancelled;
    bool stopping = false;
    {
      std::unique_lock lock(mutex_);
      changed_.wait(lock, [&] { return stopping_ || !submitted_.empty() || !cancelled_.empty() || !scheduler.idle(); });
      submitted.swap(submitted_);
      cancelled.swap(cancelled_);
      stopping = stopping_;
    }
    for (Entry& entry : submitted) Start(scheduler, std::move(entry));
    for (const Ticket ticket : cancelled) {
      if (const auto open = requests_.find(ticket); open != requests_.end()) scheduler.Cancel(open->second.id);
    }
    if (stopping) {
      for (const auto& [ticket, open] : requests_) scheduler.Cancel(open.id);
      while (!scheduler.idle()) scheduler.Tick();
      return;
    }
    const bool is_timed = !replays || step % kReplayedStepsBetweenTimed == 0;
    profiler.Pause(!is_timed);
    const auto begin = std::chrono::steady_clock::now();
    const TickStats tick = scheduler.Tick();
    const std::chrono::duration<double> passed = std::chrono::steady_clock::now() - begin;
    const std::lock_guard lock(mutex_);
    state_.running = scheduler.running();
    state_.waiting = scheduler.waiting();
    state_.preemptions = scheduler.preemptions();
    state_.used_pages = scheduler.pool().used_pages();
    state_.cached_pages = scheduler.pool().cached_pages();
    state_.prompt_tokens += tick.prompt_tokens;
    state_.new_tokens += tick.new_tokens;
    if (tick.prompt_tokens + tick.decode_rows > 0) {
      ++state_.steps;
      state_.step_seconds += passed.count();
      if (is_timed) {
        ++state_.timed_steps;
        CopyOpTimes(profiler, &state_.ops);
      }
    }
  }
}

}  // namespace mxmla::serve
