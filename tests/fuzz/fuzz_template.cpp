// Any text as a chat template: a text of valid UTF-8, or an Error of one line.
#include <cstdlib>
#include <cstring>
#include <string_view>

#include "core/error.h"
#include "text/template/evaluator.h"
#include "text/template/json_value.h"
#include "text/template/parser.h"
#include "text/utf8.h"

extern "C" int LLVMFuzzerTestOneInput(const uint8_t* data, size_t size) {
  using namespace mxmla::jinja;
  const std::string source = mxmla::ReplaceInvalidUtf8({reinterpret_cast<const char*>(data), size});
  static const auto messages = nlohmann::ordered_json::parse(R"([{"role": "user", "content": "a <b> ß\n"},
      {"role": "assistant", "content": null, "tool_calls": [{"function": {"name": "f", "arguments": {"x": [1, 2.5]}}}]}])");
  try {
    const Template tree = Parse(source);
    Limits limits;
    limits.steps = 300'000;
    limits.memory = size_t{64} << 20;
    limits.text = size_t{4} << 20;
    limits.depth = 200;
    Runtime runtime(limits);
    Evaluator evaluator(tree, runtime);
    evaluator.SetVariable("messages", FromJson(messages, true));
    const Text text = evaluator.Run();
    if (mxmla::ReplaceInvalidUtf8(text.bytes()) != text.bytes()) abort();
    size_t end = 0;
    for (const mxmla::Span& span : text.content()) {
      if (span.begin < end || span.begin >= span.end || span.end > text.size()) abort();
      end = span.end;
    }
  } catch (const SyntaxFault&) {
  } catch (const TemplateFault&) {
  }
  return 0;
}
