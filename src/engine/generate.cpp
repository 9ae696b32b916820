#include "engine/generate.h"

#include <chrono>

namespace mxmla {

std::vector<GenerateResult> Generate(Scheduler& scheduler, std::span<const GenerateRequest> requests,
                                     GenerateStats* stats,
                                     const std::function<void(size_t, const GenerateResult&)>& on_done,
                                     const std::function<bool()>& cancelled) {
  using Clock = std::chrono::steady_clock;
  std::vector<GenerateResult> results(requests.size());
  std::vector<RequestId> ids;
  for (size_t i = 0; i < requests.size(); ++i) {
    ids.push_back(scheduler.Submit(requests[i], [&, i](RequestId, const GenerateResult& result) {
      results[i] = result;
      if (stats) stats->cached_tokens += result.cached_tokens;
      if (on_done) on_done(i, result);
    }));
  }
  while (!scheduler.idle()) {
    if (cancelled && cancelled()) {
      for (const RequestId id : ids) scheduler.Cancel(id);
    }
    const Clock::time_point begin = Clock::now();
    const TickStats tick = scheduler.Tick();
    if (!stats) continue;
    const double seconds = std::chrono::duration<double>(Clock::now() - begin).count();
    stats->prompt_tokens += tick.prompt_tokens;
    stats->new_tokens += tick.new_tokens;
    if (tick.prompt_tokens > 0) {
      stats->prefill_seconds += seconds;
    } else {
      stats->decode_seconds += seconds;
      stats->decode_tokens += tick.new_tokens;
    }
  }
  for (const GenerateResult& result : results) {
    if (result.error) std::rethrow_exception(result.error);
  }
  return results;
}

}  // namespace mxmla
