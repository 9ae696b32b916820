// Where an answer is text and where it calls tools.
#pragma once

#include <memory>
#include <vector>

#include "text/output/marker_matcher.h"
#include "text/output/tool_format.h"

namespace mxmla {

// Takes an answer in pieces, however they are cut. A call is given out as it comes; one that turns out to be incomplete
// or malformed becomes text as it stands, markers and all. White space between text and calls belongs to the calls'
// syntax and is dropped.
class ToolCallSplitter {
 public:
  // `format` and `schemas` outlive this. With `only_one` everything behind the first call is dropped.
  ToolCallSplitter(const ToolFormat& format, const ToolSchemas& schemas, bool only_one);

  // Appends what is certain to `parts`. Text may end within a character where a piece ended so.
  void Push(MarkedView text, std::vector<AnswerPart>* parts);
  // Something else stands here: a call that has not ended is none.
  void Interrupt(std::vector<AnswerPart>* parts);
  // No more will come. `is_whole` when the model has ended the answer itself.
  void Flush(bool is_whole, std::vector<AnswerPart>* parts);

  // With only_one: there is a call, and nothing more will be.
  bool is_done() const { return is_done_; }

 private:
  void Take(char16_t unit, std::vector<AnswerPart>* parts);
  void Found(size_t marker, std::vector<AnswerPart>* parts);
  void Reset();
  void ReadCall(size_t end, std::vector<AnswerPart>* parts);
  void Give(std::vector<AnswerPart> read, std::vector<AnswerPart>* parts);
  void EndCall(bool may_end, MarkedView end, std::vector<AnswerPart>* parts);
  void EmitText(MarkedView text, std::vector<AnswerPart>* parts);

  const ToolFormat& format_;
  const ToolSchemas& schemas_;
  const bool only_one_;
  MarkerMatcher matcher_;
  std::unique_ptr<CallReader> call_;  // that is being read
  size_t read_ = 0;                   // of what is held
  bool is_call_ = true;               // as far as it was read
  bool has_begun_ = false;            // it was given out
  MarkedText held_;                   // undecided; in a call all of its body
  MarkedText white_space_;            // behind text: dropped if a call follows
  bool drops_white_space_ = false;
  bool is_done_ = false;
};

}  // namespace mxmla
