#include "length_distribution.h"

#include <algorithm>
#include <charconv>
#include <cmath>

#include "core/error.h"

namespace mxmla::app {
namespace {
constexpr int64_t kLongest = int64_t{1} << 24;
}

LengthDistribution::LengthDistribution(const std::string& text, const std::string& flag) {
  const char* const end = text.data() + text.size();
  const auto [after, error] = std::from_chars(text.data(), end, low_);
  high_ = low_;
  bool good = error == std::errc();
  if (good && after != end) {
    const char* const rest = after + 1;
    if (*after == '-') {
      const auto [stop, failed] = std::from_chars(rest, end, high_);
      good = failed == std::errc() && stop == end && high_ >= low_;
    } else if (*after == '~') {
      const auto [stop, failed] = std::from_chars(rest, end, spread_);
      good = failed == std::errc() && stop == end && spread_ > 0 && spread_ <= 3;
    } else {
      good = false;
    }
  }
  if (!good || low_ < 1 || high_ > kLongest) {
    Fail(ErrorCode::kUsage, flag, "N, A-B or MEDIAN~SPREAD in tokens, a spread of at most 3", text);
  }
}

int64_t LengthDistribution::Draw(std::mt19937_64& random) const {
  if (spread_ <= 0) return std::uniform_int_distribution<int64_t>(low_, high_)(random);
  const double drawn = static_cast<double>(low_) * std::exp(std::normal_distribution<double>(0, spread_)(random));
  return std::clamp<int64_t>(std::llround(drawn), 1, 8 * low_);
}

}  // namespace mxmla::app
