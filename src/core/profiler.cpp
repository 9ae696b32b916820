#include "core/profiler.h"

#include <algorithm>
#include <utility>

namespace mxmla {
namespace {

constexpr std::string_view kCopy = "copy";

double Seconds(std::chrono::steady_clock::duration duration) { return std::chrono::duration<double>(duration).count(); }

const OpCost* Find(const std::vector<OpCost>& costs, std::string_view name) {
  const auto found = std::find_if(costs.begin(), costs.end(), [&](const OpCost& cost) { return cost.name == name; });
  return found == costs.end() ? nullptr : &*found;
}

}  // namespace

void Profiler::Reset() {
  start_ = Clock::now();
  costs_.clear();
  extra_bytes_ = 0;
  repacked_ = 0;
  events_.clear();
}

int64_t Profiler::copies() const {
  const OpCost* cost = Find(costs_, kCopy);
  return cost ? cost->calls : 0;
}

int64_t Profiler::copied_bytes() const {
  const OpCost* cost = Find(costs_, kCopy);
  return cost ? cost->bytes : 0;
}

int64_t Profiler::repacked_bytes() const {
  int64_t bytes = 0;
  for (const OpCost& cost : costs_) bytes += cost.repacked;
  return bytes;
}

void Profiler::Add(std::string_view name, Clock::time_point begin, Clock::time_point end, int64_t bytes) {
  bytes += std::exchange(extra_bytes_, 0);
  const OpCost* found = Find(costs_, name);
  if (!found) {
    costs_.push_back({std::string(name), 0, 0, 0, 0});
    found = &costs_.back();
  }
  const auto index = static_cast<int>(found - costs_.data());
  OpCost& cost = costs_[index];
  ++cost.calls;
  cost.seconds += Seconds(end - begin);
  cost.bytes += bytes;
  cost.repacked += std::exchange(repacked_, 0);
  if (keep_events_) events_.push_back({index, Seconds(begin - start_), Seconds(end - begin), bytes});
}

}  // namespace mxmla
