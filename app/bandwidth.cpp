#include "bandwidth.h"

#include <fmt/format.h>

#include <algorithm>

#include "common.h"

namespace mxmla::app {

double ReadLimit::highest() const { return *std::max_element(samples_.begin(), samples_.end()); }
double ReadLimit::lowest() const { return *std::min_element(samples_.begin(), samples_.end()); }

std::string ReadLimit::Describe() const {
  return fmt::format("{:.2f} GB/s, the highest of {} samples around the runs (lowest {:.2f})", highest() * 1e-9,
                     samples_.size(), lowest() * 1e-9);
}

std::string ReadLimit::Share(double rate, double bytes) const {
  std::string share = fmt::format("{:.1f}% of it", 100 * rate / highest());
  if (rate > highest()) share += fmt::format(": the {} of a step stay in the caches", HumanBytes(bytes));
  return share;
}

}  // namespace mxmla::app
