// The rate at which the host's threads read memory.
#include <sys/mman.h>

#include <algorithm>
#include <atomic>
#include <chrono>
#include <cstdint>
#include <cstring>

#include "core/error.h"
#include "ops/backend.h"

namespace mxmla {
namespace {

constexpr size_t kBytes = size_t{1} << 30;
constexpr size_t kTask = size_t{4} << 20;
constexpr int kPasses = 2;

typedef uint64_t Words __attribute__((vector_size(64)));

// The sum of a task's memory, read from `kStreams` places in turn and asked for `kAhead` bytes before. Which way is
// fastest depends on the processor: on a Xeon, four places and 1 KB are 1.5 times as fast as one place and nothing.
template <size_t kStreams, size_t kAhead>
uint64_t Sum(const std::byte* data) {
  constexpr size_t kStream = kTask / kStreams, kStep = 4 * sizeof(Words);
  Words sums[4] = {};
  for (size_t i = 0; i < kStream; i += kStep) {
    for (size_t stream = 0; stream < kStreams; ++stream) {
      const std::byte* const at = data + stream * kStream + i;
      const auto* words = reinterpret_cast<const Words*>(at);
      for (size_t j = 0; j < 4; ++j) {
        if constexpr (kAhead > 0) __builtin_prefetch(at + kAhead + j * sizeof(Words));
        sums[j] += words[j];
      }
    }
  }
  const Words all = (sums[0] + sums[1]) + (sums[2] + sums[3]);
  uint64_t total = 0;
  for (int lane = 0; lane < 8; ++lane) total += all[lane];
  return total;
}

}  // namespace

double HostBackend::MeasureReadBandwidth() {
  void* memory = mmap(nullptr, kBytes, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
  if (memory == MAP_FAILED) Fail(ErrorCode::kMemory, "bandwidth measurement", "1 GiB of memory", "too little");
  madvise(memory, kBytes, MADV_HUGEPAGE);
  auto* const data = static_cast<std::byte*>(memory);
  constexpr auto kTasks = static_cast<int64_t>(kBytes / kTask);
  pool().ParallelFor(kTasks, [&](int64_t task, int) { std::memset(data + task * kTask, 1, kTask); });
  std::atomic<uint64_t> total{0};  // keeps the reads from being dropped
  double best = 0;
  const auto measure = [&](uint64_t (*sum)(const std::byte*)) {
    const auto begin = std::chrono::steady_clock::now();
    pool().ParallelFor(kTasks, [&](int64_t task, int) { total += sum(data + task * kTask); });
    const double seconds = std::chrono::duration<double>(std::chrono::steady_clock::now() - begin).count();
    best = std::max(best, static_cast<double>(kBytes) / seconds);
  };
  for (int pass = 0; pass < kPasses; ++pass) {
    measure(Sum<1, 0>);
    measure(Sum<1, 4096>);
    measure(Sum<4, 1024>);
  }
  munmap(memory, kBytes);
  if (total == 0) Fail(ErrorCode::kInternal, "bandwidth measurement", "the sum of what was written", "0");
  return best;
}

}  // namespace mxmla
