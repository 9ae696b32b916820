#include "text/output/reasoning_splitter.h"

#include <utility>

namespace mxmla {
namespace {

constexpr size_t kBegin = 0, kEnd = 1;

std::vector<MarkedText> AllMarkers(const ReasoningFormat& format, std::vector<MarkedText> call_begins) {
  std::vector<MarkedText> markers = {format.begin, format.end};
  for (MarkedText& marker : call_begins) markers.push_back(std::move(marker));
  return markers;
}

}  // namespace

ReasoningSplitter::ReasoningSplitter(const ReasoningFormat& format, std::vector<MarkedText> call_begins, bool is_open)
    : markers_(AllMarkers(format, std::move(call_begins))),
      is_marked_(HasMark(format.begin) && HasMark(format.end)),
      matcher_(markers_),
      is_open_(is_open),
      skips_newlines_(is_open) {}

void ReasoningSplitter::Push(MarkedView text, std::vector<Piece>* pieces) {
  for (const char16_t unit : text) Take(unit, pieces);
}

void ReasoningSplitter::Take(char16_t unit, std::vector<Piece>* pieces) {
  held_ += unit;
  const auto found = matcher_.Advance(unit);
  if (found) {
    Found(*found, pieces);
  } else {
    Emit(held_.size() - matcher_.undecided(), pieces);
  }
}

void ReasoningSplitter::Found(size_t marker, std::vector<Piece>* pieces) {
  Emit(held_.size() - markers_[marker].size(), pieces);
  bool is_structure = is_marked_;  // of thinking: it belongs to no text
  if (marker == kBegin) {
    is_structure |= at_start_;
    if (is_structure && !is_open_) Open();
  } else if (marker == kEnd) {
    is_structure |= is_open_;
    if (is_open_) Close();
  } else {
    if (is_open_) Close();
    is_structure = false;
  }
  if (is_structure) {
    held_.clear();
  } else {
    Emit(held_.size(), pieces);
  }
  matcher_.Reset();
}

void ReasoningSplitter::Open() {
  leading_.clear();
  at_start_ = false;
  is_open_ = skips_newlines_ = true;
  newlines_ = 0;
}

void ReasoningSplitter::Close() {
  is_open_ = at_start_ = false;
  skips_newlines_ = true;
  newlines_ = 0;
}

void ReasoningSplitter::Emit(size_t count, std::vector<Piece>* pieces) {
  for (size_t i = 0; i < count; ++i) EmitUnit(held_[i], pieces);
  held_.erase(0, count);
}

void ReasoningSplitter::EmitUnit(char16_t unit, std::vector<Piece>* pieces) {
  if (at_start_ && !is_open_ && IsSpace(unit)) {
    leading_ += unit;
    return;
  }
  if (!IsSpace(unit)) at_start_ = false;
  if (unit == '\n' && skips_newlines_) return;
  skips_newlines_ = false;
  if (unit == '\n' && is_open_) {
    ++newlines_;
    return;
  }
  if (pieces->empty() || pieces->back().is_reasoning != is_open_) pieces->push_back({is_open_, {}});
  MarkedText& text = pieces->back().text;
  text += std::exchange(leading_, {});
  text.append(std::exchange(newlines_, 0), u'\n');
  text += unit;
}

void ReasoningSplitter::Flush(std::vector<Piece>* pieces) {
  Emit(held_.size(), pieces);
  if (!leading_.empty()) pieces->push_back({false, std::exchange(leading_, {})});
  newlines_ = 0;
  matcher_.Reset();
}

}  // namespace mxmla
