#include "text/output/tool_call_splitter.h"

#include <utility>

namespace mxmla {
namespace {

constexpr size_t kSectionEnd = 1, kCallBegin = 2, kCallEnd = 3;  // of the markers below

const MarkedText& MarkerOf(const ToolFormat& format, size_t marker) {
  const MarkedText* const markers[] = {&format.section_begin, &format.section_end, &format.call_begin,
                                       &format.call_end};
  return *markers[marker];
}

}  // namespace

ToolCallSplitter::ToolCallSplitter(const ToolFormat& format, const ToolSchemas& schemas, bool only_one)
    : format_(format),
      schemas_(schemas),
      only_one_(only_one),
      matcher_({format.section_begin, format.section_end, format.call_begin, format.call_end}) {}

void ToolCallSplitter::Push(MarkedView text, std::vector<Piece>* pieces) {
  for (const char16_t unit : text) {
    if (is_done_) return;
    Take(unit, pieces);
  }
}

void ToolCallSplitter::Take(char16_t unit, std::vector<Piece>* pieces) {
  held_ += unit;
  if (const auto found = matcher_.Advance(unit)) {
    Found(*found, pieces);
    matcher_.Reset();
  } else if (!in_call_) {
    const size_t certain = held_.size() - matcher_.undecided();
    EmitText(MarkedView(held_).substr(0, certain), pieces);
    held_.erase(0, certain);
  }
}

void ToolCallSplitter::Found(size_t marker, std::vector<Piece>* pieces) {
  const MarkedText& text = MarkerOf(format_, marker);
  const bool is_end = marker == kCallEnd || marker == kSectionEnd;
  if (in_call_) {
    held_.resize(held_.size() - text.size());
    // Of the markers only the call's own end is part of it.
    EndCall(marker == kCallEnd ? MarkedView(text) : MarkedView(), pieces);
  } else {
    // An end that nothing began is text, unless it is a token.
    const bool is_text = is_end && !HasMark(text);
    EmitText(MarkedView(held_).substr(0, held_.size() - (is_text ? 0 : text.size())), pieces);
  }
  held_.clear();
  in_call_ = marker == kCallBegin;
}

// The call whose body is held, which ends with the marker `end`.
void ToolCallSplitter::EndCall(MarkedView end, std::vector<Piece>* pieces) {
  auto calls = format_.parse(held_, schemas_);
  if (!calls) {
    const MarkedText raw = format_.call_begin + held_ + MarkedText(end);
    drops_white_space_ = false;
    EmitText(raw, pieces);
    return;
  }
  white_space_.clear();
  drops_white_space_ = true;
  if (only_one_) calls->resize(1);
  is_done_ = only_one_;
  for (ToolCall& call : *calls) pieces->emplace_back(std::move(call));
}

void ToolCallSplitter::EmitText(MarkedView text, std::vector<Piece>* pieces) {
  for (const char16_t unit : text) {
    if (IsSpace(unit)) {
      if (!drops_white_space_) white_space_ += unit;
      continue;
    }
    drops_white_space_ = false;
    if (pieces->empty() || !std::holds_alternative<std::string>(pieces->back())) pieces->emplace_back(std::string());
    auto& out = std::get<std::string>(pieces->back());
    out += BytesOf(std::exchange(white_space_, {}));
    out += static_cast<char>(unit & 0xff);
  }
}

void ToolCallSplitter::Flush(bool is_whole, std::vector<Piece>* pieces) {
  if (is_done_) return;
  if (in_call_) {
    if (format_.ends_with_answer && is_whole) {
      EndCall({}, pieces);
    } else {
      drops_white_space_ = false;
      EmitText(format_.call_begin + held_, pieces);
    }
  } else {
    EmitText(held_, pieces);
  }
  held_.clear();
  if (!white_space_.empty()) pieces->emplace_back(BytesOf(std::exchange(white_space_, {})));
}

}  // namespace mxmla
