#include "text/output/marked_text.h"

#include <algorithm>

namespace mxmla {
namespace {

MarkedText Units(std::string_view bytes, char16_t mark) {
  MarkedText units;
  units.reserve(bytes.size());
  for (const char byte : bytes) units.push_back(static_cast<char16_t>(static_cast<unsigned char>(byte) | mark));
  return units;
}

}  // namespace

MarkedText Plain(std::string_view bytes) { return Units(bytes, 0); }

MarkedText Marked(std::string_view bytes) { return Units(bytes, kMark); }

std::string BytesOf(MarkedView text) {
  std::string bytes;
  bytes.reserve(text.size());
  for (const char16_t unit : text) bytes.push_back(static_cast<char>(unit & 0xff));
  return bytes;
}

MarkedText Marker(const Tokenizer& tokenizer, std::string_view content, std::vector<int32_t>* ids) {
  const auto id = tokenizer.AddedTokenId(content);
  if (!id) return Plain(content);
  ids->push_back(*id);
  return Marked(content);
}

bool HasMark(MarkedView text) {
  return std::any_of(text.begin(), text.end(), [](char16_t unit) { return unit >= kMark; });
}

bool IsSpace(char16_t unit) { return unit == ' ' || unit == '\t' || unit == '\r' || unit == '\n'; }

MarkedView Trimmed(MarkedView text) {
  while (!text.empty() && IsSpace(text.front())) text.remove_prefix(1);
  while (!text.empty() && IsSpace(text.back())) text.remove_suffix(1);
  return text;
}

}  // namespace mxmla
