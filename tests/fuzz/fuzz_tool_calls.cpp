// Any answer in any format: the same parts wherever it is cut, and calls whose arguments are JSON objects. The first
// byte chooses the format, the second how the rest is cut; then byte 1 and a number are a marker's token.
#include <cstdlib>

#include "../text/marker_tokenizer.h"
#include "../text/streamed_parts.h"
#include "text/output/template_forms.h"

namespace {

using namespace mxmla;

std::string Parse(const AnswerFormat& format, MarkedView units, size_t piece, bool is_whole, bool only_one) {
  AnswerParserOptions options;
  options.reads_reasoning = options.reads_tools = true;
  options.only_one_call = only_one;
  AnswerSplitter splitter(format, options);
  std::vector<AnswerPart> streamed, parts;
  const auto add = [&](std::vector<AnswerPart> more) {
    for (AnswerPart& part : more) {
      streamed.push_back(part);
      JoinPart(std::move(part), &parts);
    }
  };
  for (; !units.empty(); units.remove_prefix(std::min(piece, units.size()))) {
    std::vector<AnswerPart> more;
    splitter.Push(units.substr(0, piece), &more);
    add(std::move(more));
  }
  std::vector<AnswerPart> more;
  splitter.Flush(is_whole, &more);
  add(std::move(more));
  if (!StreamFault(streamed).empty()) abort();
  std::string shown;
  for (const AnswerPart& part : parts) {
    if (part.kind == AnswerPart::Kind::kToolCall) {
      if (!nlohmann::json::parse(part.call.arguments).is_object() || !IsToolName(part.call.name)) abort();
    }
    shown += std::to_string(static_cast<int>(part.kind)) + part.text + '\0' + part.call.id + '\0' + part.call.name +
             '\0' + part.call.arguments + '\0';
  }
  return shown;
}

}  // namespace

extern "C" int LLVMFuzzerTestOneInput(const uint8_t* data, size_t size) {
  static const std::unique_ptr<Tokenizer> tokenizer = MakeMarkerTokenizer();
  static const ChatTemplate chat = ChatTemplate::FromText("x", "template");
  static const std::vector<std::string> tools = ToolFormatNames(), reasoning = ReasoningFormatNames();
  if (size < 2) return 0;
  const AnswerFormat format{FindReasoningFormat(reasoning[data[0] / 8 % reasoning.size()], *tokenizer, chat),
                            FindToolFormat(tools[data[0] % 8 % tools.size()], *tokenizer, {})};
  MarkedText units;
  for (size_t i = 2; i < size; ++i) {
    if (data[i] == 1 && i + 1 < size) {
      units += Marked(MarkerTokenNames()[data[++i] % MarkerTokenNames().size()]);
    } else {
      units += static_cast<char16_t>(data[i]);
    }
  }
  const bool is_whole = data[1] & 1, only_one = data[1] & 2;
  const std::string whole = Parse(format, units, units.size() + 1, is_whole, only_one);
  for (const size_t piece : {size_t{1}, size_t{2} + data[1] / 4}) {
    if (Parse(format, units, piece, is_whole, only_one) != whole) abort();
  }
  return 0;
}
