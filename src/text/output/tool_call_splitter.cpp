#include "text/output/tool_call_splitter.h"

#include <utility>

namespace mxmla {
namespace {

using Kind = AnswerPart::Kind;

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

void ToolCallSplitter::Push(MarkedView text, std::vector<AnswerPart>* parts) {
  for (const char16_t unit : text) {
    if (is_done_) return;
    Take(unit, parts);
  }
}

void ToolCallSplitter::Take(char16_t unit, std::vector<AnswerPart>* parts) {
  held_ += unit;
  if (const auto found = matcher_.Advance(unit)) {
    Found(*found, parts);
    matcher_.Reset();
    return;
  }
  const size_t certain = held_.size() - matcher_.undecided();
  if (call_) {
    ReadCall(certain, parts);
  } else {
    EmitText(MarkedView(held_).substr(0, certain), parts);
    held_.erase(0, certain);
  }
}

void ToolCallSplitter::Found(size_t marker, std::vector<AnswerPart>* parts) {
  const MarkedText& text = MarkerOf(format_, marker);
  const bool is_end = marker == kCallEnd || marker == kSectionEnd;
  if (call_) {
    held_.resize(held_.size() - text.size());
    // Of the markers only the call's own end is part of it.
    EndCall(true, marker == kCallEnd ? MarkedView(text) : MarkedView(), parts);
  } else {
    // An end that nothing began is text, unless it is a token.
    const bool is_text = is_end && !HasMark(text);
    EmitText(MarkedView(held_).substr(0, held_.size() - (is_text ? 0 : text.size())), parts);
  }
  Reset();
  if (marker == kCallBegin) call_ = format_.read(schemas_);
}

void ToolCallSplitter::Reset() {
  call_.reset();
  held_.clear();
  read_ = 0;
  is_call_ = true;
  has_begun_ = false;
}

void ToolCallSplitter::Interrupt(std::vector<AnswerPart>* parts) {
  if (!call_) return;
  EndCall(false, {}, parts);
  Reset();
  matcher_.Reset();
}

void ToolCallSplitter::ReadCall(size_t end, std::vector<AnswerPart>* parts) {
  std::vector<AnswerPart> read;
  for (; is_call_ && read_ < end; ++read_) is_call_ = call_->Push(held_[read_], &read);
  Give(std::move(read), parts);
}

void ToolCallSplitter::Give(std::vector<AnswerPart> read, std::vector<AnswerPart>* parts) {
  for (AnswerPart& part : read) {
    if (is_done_) return;
    if (part.kind == Kind::kToolCall) has_begun_ = true;
    if (part.kind == Kind::kCallEnd) is_done_ = only_one_;
    AppendPart(std::move(part), parts);
  }
}

// The call whose body is held, which ends with the marker `end`; if it `may_end` here.
void ToolCallSplitter::EndCall(bool may_end, MarkedView end, std::vector<AnswerPart>* parts) {
  ReadCall(held_.size(), parts);
  std::vector<AnswerPart> rest;
  if (may_end && is_call_ && call_->End(&rest)) {
    white_space_.clear();
    drops_white_space_ = true;
    return Give(std::move(rest), parts);
  }
  if (has_begun_) AppendPart({Kind::kCallBroken}, parts);
  drops_white_space_ = false;
  EmitText(format_.call_begin + held_ + MarkedText(end), parts);
}

void ToolCallSplitter::EmitText(MarkedView text, std::vector<AnswerPart>* parts) {
  std::string certain;
  for (const char16_t unit : text) {
    if (IsSpace(unit)) {
      if (!drops_white_space_) white_space_ += unit;
      continue;
    }
    drops_white_space_ = false;
    certain += BytesOf(std::exchange(white_space_, {}));
    certain += static_cast<char>(unit & 0xff);
  }
  AppendPart({Kind::kText, std::move(certain)}, parts);
}

void ToolCallSplitter::Flush(bool is_whole, std::vector<AnswerPart>* parts) {
  if (is_done_) return;
  if (call_) {
    EndCall(format_.ends_with_answer && is_whole, {}, parts);
  } else {
    EmitText(held_, parts);
  }
  Reset();
  AppendPart({Kind::kText, BytesOf(std::exchange(white_space_, {}))}, parts);
}

}  // namespace mxmla
