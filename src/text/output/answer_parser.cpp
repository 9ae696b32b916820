#include "text/output/answer_parser.h"

#include <utility>

namespace mxmla {
namespace {

std::vector<int32_t> MarkerTokens(const AnswerFormat& format, const AnswerParserOptions& options) {
  std::vector<int32_t> tokens;
  const auto add = [&](const std::vector<int32_t>& more) { tokens.insert(tokens.end(), more.begin(), more.end()); };
  if (options.reads_reasoning && format.reasoning) add(format.reasoning->marker_tokens);
  if (options.reads_tools && format.tools) add(format.tools->marker_tokens);
  return tokens;
}

}  // namespace

AnswerSplitter::AnswerSplitter(const AnswerFormat& format, AnswerParserOptions options) : options_(std::move(options)) {
  const ToolFormat* tools = options_.reads_tools && format.tools ? &*format.tools : nullptr;
  if (options_.reads_reasoning && format.reasoning) {
    std::vector<MarkedText> call_begins;
    if (tools) call_begins = {tools->section_begin, tools->call_begin};
    reasoning_.emplace(*format.reasoning, std::move(call_begins), options_.starts_in_reasoning);
  }
  if (tools) calls_.emplace(*tools, options_.schemas, options_.only_one_call);
}

void AnswerSplitter::Split(const std::vector<ReasoningSplitter::Piece>& pieces, std::vector<AnswerPart>* parts) {
  for (const ReasoningSplitter::Piece& piece : pieces) {
    if (is_done()) return;
    if (piece.is_reasoning || !calls_) {
      if (calls_) calls_->Interrupt(parts);
      const auto kind = piece.is_reasoning ? AnswerPart::Kind::kReasoning : AnswerPart::Kind::kText;
      AppendPart({kind, BytesOf(piece.text)}, parts);
    } else {
      calls_->Push(piece.text, parts);
    }
  }
}

void AnswerSplitter::Push(MarkedView text, std::vector<AnswerPart>* parts) {
  if (text.empty()) return;
  std::vector<ReasoningSplitter::Piece> pieces;
  if (reasoning_) {
    reasoning_->Push(text, &pieces);
  } else {
    pieces.push_back({false, MarkedText(text)});
  }
  Split(pieces, parts);
}

void AnswerSplitter::Flush(bool is_whole, std::vector<AnswerPart>* parts) {
  std::vector<ReasoningSplitter::Piece> pieces;
  if (reasoning_) reasoning_->Flush(&pieces);
  Split(pieces, parts);
  if (calls_) calls_->Flush(is_whole, parts);
}

AnswerParser::AnswerParser(const Tokenizer& tokenizer, const AnswerFormat& format, const AnswerParserOptions& options)
    : decoder_(tokenizer, MarkerTokens(format, options), options.stop_strings, options.skip_special_tokens),
      splitter_(format, options) {}

std::vector<AnswerPart> AnswerParser::Push(int32_t token) {
  std::vector<AnswerPart> parts;
  splitter_.Push(decoder_.Push(token), &parts);
  return parts;
}

std::vector<AnswerPart> AnswerParser::Flush(bool is_whole) {
  std::vector<AnswerPart> parts;
  splitter_.Push(decoder_.Flush(), &parts);
  splitter_.Flush(is_whole, &parts);
  return parts;
}

}  // namespace mxmla
