// The memory bandwidth that decoding is held against.
#pragma once

#include <string>
#include <vector>

#include "ops/backend.h"

namespace mxmla::app {

// Samples of a backend's read bandwidth around the runs of a benchmark: other users of the machine slow both at times,
// so one sample before them can be a limit that the runs exceed.
class ReadLimit {
 public:
  explicit ReadLimit(Backend& backend) : backend_(backend) {}

  void Sample() { samples_.push_back(backend_.MeasureReadBandwidth()); }

  // Bytes a second; the highest is the limit. There is a sample.
  double highest() const;
  double lowest() const;

  // "51.20 GB/s, the highest of 4 samples around the runs (lowest 49.80)"
  std::string Describe() const;
  // What a rate is of the limit, such as "56.1% of it". Above it the reason is said: `bytes` read again and again come
  // from the caches.
  std::string Share(double rate, double bytes) const;

 private:
  Backend& backend_;
  std::vector<double> samples_;
};

}  // namespace mxmla::app
