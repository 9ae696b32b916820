#include "text/template/text.h"

#include <algorithm>

namespace mxmla::jinja {
namespace {

bool IsContinuation(char c) { return (static_cast<unsigned char>(c) & 0xc0) == 0x80; }

// The first span that ends behind `offset`.
auto FirstBehind(const std::vector<Span>& spans, size_t offset) {
  return std::upper_bound(spans.begin(), spans.end(), offset,
                          [](size_t value, const Span& span) { return value < span.end; });
}

}  // namespace

bool Text::IsContentAt(size_t offset) const {
  const auto span = FirstBehind(content_, offset);
  return span != content_.end() && span->begin <= offset;
}

void Text::AddContent(size_t begin, size_t end) {
  if (begin == end) return;
  if (!content_.empty() && content_.back().end == begin) {
    content_.back().end = end;
  } else {
    content_.push_back({begin, end});
  }
}

void Text::Append(std::string_view bytes, bool is_content) {
  if (is_content) AddContent(bytes_.size(), bytes_.size() + bytes.size());
  bytes_.append(bytes);
}

void Text::Append(const Text& other, size_t begin, size_t end) {
  const size_t at = bytes_.size();
  for (auto span = FirstBehind(other.content_, begin); span != other.content_.end() && span->begin < end; ++span) {
    AddContent(at + std::max(span->begin, begin) - begin, at + std::min(span->end, end) - begin);
  }
  bytes_.append(other.bytes_, begin, end - begin);
}

Text Text::Substring(size_t begin, size_t end) const {
  Text part;
  part.Append(*this, begin, end);
  part.is_markup_ = is_markup_;
  return part;
}

size_t CountCharacters(std::string_view text) {
  return static_cast<size_t>(std::count_if(text.begin(), text.end(), [](char c) { return !IsContinuation(c); }));
}

std::vector<size_t> CharacterOffsets(std::string_view text) {
  std::vector<size_t> offsets;
  for (size_t at = 0; at < text.size(); ++at) {
    if (!IsContinuation(text[at])) offsets.push_back(at);
  }
  offsets.push_back(text.size());
  return offsets;
}

}  // namespace mxmla::jinja
