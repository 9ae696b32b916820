// The times of op calls, several ways in turn: each a row of calls that a device replays as one graph.
#pragma once

#include <cstdint>
#include <functional>
#include <memory>
#include <vector>

#include "ops/backend.h"

namespace mxmla::app {

class OpTimer {
 public:
  explicit OpTimer(Backend& backend) : backend_(backend), recorder_(backend.MakeRecorder()) {}

  // Seconds of one call: the median of `repeat` runs of `links` calls link(way, 0) .. link(way, links - 1). The ways
  // take turns, so that a change of the machine's speed meets all of them; what comes before the first is not counted.
  std::vector<double> Seconds(int ways, int64_t links, int64_t repeat,
                              const std::function<void(int way, int64_t link)>& link);

 private:
  Backend& backend_;
  std::unique_ptr<Recorder> recorder_;
  int64_t recorded_ = 0;  // rows of calls so far, which are a recorder's keys
};

}  // namespace mxmla::app
