#include "core/error.h"

namespace mxmla {
namespace {

std::string OneLine(std::string_view text) {
  constexpr size_t kLongest = 600;
  std::string line;
  for (char c : text.substr(0, kLongest)) {
    const auto byte = static_cast<unsigned char>(c);
    line += (byte < 0x20 || byte == 0x7f) ? '?' : c;
  }
  if (text.size() > kLongest) line += "...";
  return line;
}

}  // namespace

void Fail(ErrorCode code, std::string_view subject, std::string_view expected, std::string_view found,
          std::string_view hint) {
  std::string message = OneLine(subject) + ": expected " + OneLine(expected) + ", found " + OneLine(found);
  if (!hint.empty()) message += "; " + OneLine(hint);
  throw Error(code, message);
}

}  // namespace mxmla
