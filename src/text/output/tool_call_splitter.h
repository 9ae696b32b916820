// Where an answer is text and where it calls tools.
#pragma once

#include <string>
#include <variant>
#include <vector>

#include "text/output/marker_matcher.h"
#include "text/output/tool_format.h"

namespace mxmla {

// Takes an answer in pieces, however they are cut. A call is given out when it is complete and well-formed; one that is
// neither becomes text as it stands, markers and all. White space between text and calls belongs to the calls' syntax
// and is dropped.
class ToolCallSplitter {
 public:
  using Piece = std::variant<std::string, ToolCall>;  // text, or a call

  // `format` and `schemas` outlive this. With `only_one` everything behind the first call is dropped.
  ToolCallSplitter(const ToolFormat& format, const ToolSchemas& schemas, bool only_one);

  // Appends what is certain to `pieces`. Text may end within a character where a piece ended so.
  void Push(MarkedView text, std::vector<Piece>* pieces);
  // No more will come. `is_whole` when the model has ended the answer itself.
  void Flush(bool is_whole, std::vector<Piece>* pieces);

  // With only_one: there is a call, and nothing more will be.
  bool is_done() const { return is_done_; }

 private:
  void Take(char16_t unit, std::vector<Piece>* pieces);
  void Found(size_t marker, std::vector<Piece>* pieces);
  void EndCall(MarkedView end, std::vector<Piece>* pieces);
  void EmitText(MarkedView text, std::vector<Piece>* pieces);

  const ToolFormat& format_;
  const ToolSchemas& schemas_;
  const bool only_one_;
  MarkerMatcher matcher_;
  bool in_call_ = false;
  MarkedText held_;         // undecided; in a call all of its body
  MarkedText white_space_;  // behind text: dropped if a call follows
  bool drops_white_space_ = false;
  bool is_done_ = false;
};

}  // namespace mxmla
