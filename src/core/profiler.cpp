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
  later_ = nullptr;
  if (!pending_.empty()) clock_->Read();
  pending_.clear();
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

void Profiler::Add(const Scope& scope) {
  const Clock::time_point end = Clock::now();
  const int64_t end_mark = clock_ ? clock_->Mark() : 0;
  int64_t bytes = scope.bytes_ + std::exchange(extra_bytes_, 0);
  if (later_) bytes += std::exchange(later_, nullptr)();
  const OpCost* found = Find(costs_, scope.name_);
  if (!found) {
    costs_.push_back({std::string(scope.name_), 0, 0, 0, 0});
    found = &costs_.back();
  }
  const auto op = static_cast<int>(found - costs_.data());
  OpCost& cost = costs_[op];
  ++cost.calls;
  cost.bytes += bytes;
  cost.repacked += std::exchange(repacked_, 0);
  if (!clock_) return Count(op, Seconds(scope.begin_ - start_), Seconds(end - scope.begin_), bytes);
  if (pending_.empty()) first_mark_ = scope.begin_;
  pending_.push_back({op, scope.mark_, end_mark, bytes});
}

void Profiler::Count(int op, double begin, double seconds, int64_t bytes) {
  costs_[op].seconds += seconds;
  if (keep_events_) events_.push_back({op, begin, seconds, bytes});
}

void Profiler::Settle() {
  if (pending_.empty()) return;
  const std::vector<double> times = clock_->Read();
  const double first = Seconds(first_mark_ - start_);
  for (const Pending& call : pending_) {
    const double begin = times[static_cast<size_t>(call.begin)];
    Count(call.op, first + begin, times[static_cast<size_t>(call.end)] - begin, call.bytes);
  }
  pending_.clear();
}

}  // namespace mxmla
