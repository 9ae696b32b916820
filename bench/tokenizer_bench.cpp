// How fast a tokenizer encodes, in this thread's processor time: tokenizer_bench FOLDER TEXT [TIMES].
// tools/tokenizer_speed.py makes both and times other libraries on them.
#include <fmt/format.h>

#include <algorithm>
#include <cstdlib>
#include <ctime>
#include <vector>

#include "core/json_file.h"
#include "text/tokenizer.h"

namespace {

double ThreadSeconds() {
  timespec time{};
  clock_gettime(CLOCK_THREAD_CPUTIME_ID, &time);
  return static_cast<double>(time.tv_sec) + static_cast<double>(time.tv_nsec) * 1e-9;
}

}  // namespace

int main(int count, char** arguments) {
  if (count < 3) {
    fmt::print(stderr, "usage: tokenizer_bench FOLDER TEXT [TIMES]\n");
    return 2;
  }
  try {
    const double before = ThreadSeconds();
    const auto tokenizer = mxmla::Tokenizer::Load(arguments[1]);
    const double loaded = ThreadSeconds() - before;
    const std::string text = mxmla::ReadTextFile(arguments[2], mxmla::ErrorCode::kData, size_t{1} << 30);
    const int times = count > 3 ? std::atoi(arguments[3]) : 5;
    std::vector<double> speeds;
    size_t tokens = 0;
    for (int i = 0; i < std::max(times, 1); ++i) {
      const double begin = ThreadSeconds();
      tokens = tokenizer->Encode(text, false).size();
      speeds.push_back(static_cast<double>(text.size()) * 1e-6 / (ThreadSeconds() - begin));
    }
    std::sort(speeds.begin(), speeds.end());
    fmt::print("mxmla: {} tokens of {} bytes, {:.1f} MB/s a core (median of {}); loaded in {:.2f} s\n", tokens,
               text.size(), speeds[speeds.size() / 2], speeds.size(), loaded);
  } catch (const mxmla::Error& error) {
    fmt::print(stderr, "tokenizer_bench: {}\n", error.what());
    return static_cast<int>(error.code());
  }
  return 0;
}
