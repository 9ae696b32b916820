#include "op_timer.h"

#include <array>
#include <chrono>

#include "bench_model.h"

namespace mxmla::app {

std::vector<double> OpTimer::Seconds(int ways, int64_t links, int64_t repeat,
                                     const std::function<void(int way, int64_t link)>& link) {
  // A recorder runs the calls themselves, captures them, and then replays what it captured.
  const int64_t warm_ups = backend_.replays() ? 5 : 1;
  std::vector<std::vector<double>> seconds(static_cast<size_t>(ways));
  for (int64_t r = 0; r < warm_ups + repeat; ++r) {
    for (int way = 0; way < ways; ++way) {
      const std::array<int64_t, 1> key = {recorded_ + way};
      const auto begin = std::chrono::steady_clock::now();
      recorder_->Run(key, [&] {
        for (int64_t l = 0; l < links; ++l) link(way, l);
      });
      const double elapsed = backend_.replays() ? recorder_->seconds() : SecondsSince(begin);
      if (r >= warm_ups) seconds[static_cast<size_t>(way)].push_back(elapsed / static_cast<double>(links));
    }
  }
  recorded_ += ways;
  std::vector<double> medians;
  for (const std::vector<double>& of_way : seconds) medians.push_back(Median(of_way));
  return medians;
}

}  // namespace mxmla::app
