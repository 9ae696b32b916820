// How one call of a tool is read while it is written.
#pragma once

#include <string>
#include <string_view>
#include <vector>

#include "text/output/answer_part.h"
#include "text/output/marked_text.h"
#include "text/pattern.h"

namespace mxmla {

// Reads what stands between a call's two markers. The parts of the call, joined, do not depend on what else comes when.
class CallReader {
 public:
  CallReader() = default;
  virtual ~CallReader() = default;
  CallReader(const CallReader&) = delete;
  CallReader& operator=(const CallReader&) = delete;

  // The next unit; appends what is certain with it. False where this is no call, whatever follows.
  virtual bool Push(char16_t unit, std::vector<AnswerPart>* parts) = 0;
  // The call ends here: appends what is left, with kCallEnd. False where this is no call.
  virtual bool End(std::vector<AnswerPart>* parts) = 0;
};

// Text up to a marker.
class TextBefore {
 public:
  // Not for an empty marker.
  explicit TextBefore(MarkedText marker) : pattern_(std::move(marker)) {}

  // True with the marker's last unit.
  bool Push(char16_t unit) {
    text_ += unit;
    undecided_ = 0;
    if (pattern_.Advance(unit)) {
      text_.resize(text_.size() - pattern_.size());
      return true;
    }
    undecided_ = pattern_.matched();
    return false;
  }
  // What is certain to stand before the marker and was not taken yet.
  MarkedText Take() {
    MarkedText certain = text_.substr(0, text_.size() - undecided_);
    text_.erase(0, certain.size());
    return certain;
  }
  // All of it, where no marker has come.
  MarkedView all() const { return text_; }

 private:
  Pattern<char16_t> pattern_;
  MarkedText text_;
  size_t undecided_ = 0;
};

}  // namespace mxmla
