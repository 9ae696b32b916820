// Lengths of requests: "128", "64-512" (uniform) or "200~0.5" (log-normal).
#pragma once

#include <cstdint>
#include <random>
#include <string>

namespace mxmla::app {

class LengthDistribution {
 public:
  // N: always N. A-B: uniform from A to B. M~S: log-normal of median M, whose logarithm has the standard deviation S,
  // cut off at 8 M. Errors: kUsage, naming `flag`.
  LengthDistribution(const std::string& text, const std::string& flag);

  // At least 1.
  int64_t Draw(std::mt19937_64& random) const;

 private:
  int64_t low_ = 0, high_ = 0;
  double spread_ = 0;  // log-normal of median low_ where it is above 0
};

}  // namespace mxmla::app
