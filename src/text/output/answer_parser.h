// An answer of a chat model as what it says: thoughts, text and calls of tools.
#pragma once

#include <cstdint>
#include <optional>
#include <string>
#include <vector>

#include "text/output/answer_part.h"
#include "text/output/output_decoder.h"
#include "text/output/reasoning_splitter.h"
#include "text/output/tool_call_splitter.h"

namespace mxmla {

// How a model writes; what is missing is text as any other.
struct AnswerFormat {
  std::optional<ReasoningFormat> reasoning;
  std::optional<ToolFormat> tools;
};

struct AnswerParserOptions {
  bool reads_reasoning = false, reads_tools = false;  // where the format has them
  bool starts_in_reasoning = false;                   // the prompt has opened the thinking
  bool only_one_call = false;                         // the answer ends with its first call
  ToolSchemas schemas;
  std::vector<std::string> stop_strings;
  bool skip_special_tokens = true;  // in text
};

// Both parsers in a row, for text in pieces. The parts, joined by JoinPart, do not depend on where it is cut.
class AnswerSplitter {
 public:
  // `format` outlives this.
  AnswerSplitter(const AnswerFormat& format, AnswerParserOptions options);
  AnswerSplitter(const AnswerSplitter&) = delete;
  AnswerSplitter& operator=(const AnswerSplitter&) = delete;

  void Push(MarkedView text, std::vector<AnswerPart>* parts);
  // `is_whole` when the model has ended the answer itself.
  void Flush(bool is_whole, std::vector<AnswerPart>* parts);

  bool is_reasoning() const { return reasoning_ && reasoning_->is_open(); }
  bool is_done() const { return calls_ && calls_->is_done(); }

 private:
  void Split(const std::vector<ReasoningSplitter::Piece>& pieces, std::vector<AnswerPart>* parts);

  const AnswerParserOptions options_;
  std::optional<ReasoningSplitter> reasoning_;
  std::optional<ToolCallSplitter> calls_;
};

class AnswerParser {
 public:
  // `tokenizer` and `format` outlive this. Refused: see StopMatcher.
  AnswerParser(const Tokenizer& tokenizer, const AnswerFormat& format, const AnswerParserOptions& options);

  // What is certain with this token.
  std::vector<AnswerPart> Push(int32_t token);
  std::vector<AnswerPart> Flush(bool is_whole);

  // Nothing more will come: a stop string, or the only call.
  bool is_done() const { return decoder_.stopped_by() || splitter_.is_done(); }
  std::optional<size_t> stopped_by() const { return decoder_.stopped_by(); }
  bool is_reasoning() const { return splitter_.is_reasoning(); }

 private:
  OutputDecoder decoder_;
  AnswerSplitter splitter_;
};

}  // namespace mxmla
