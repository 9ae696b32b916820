#include <fmt/format.h>

#include "core/error.h"
#include "grammar/grammar.h"

namespace mxmla {

GrammarSource JsonObjectGrammar() {
  return {GrammarKind::kJsonSchema, R"({"type": "object", "additionalProperties": true})"};
}

GrammarSource ChoiceGrammar(std::span<const std::string> choices) {
  if (choices.empty()) Fail(ErrorCode::kUsage, "choice", "at least one text", "none");
  std::string rules = "root ::= ";
  for (size_t i = 0; i < choices.size(); ++i) {
    if (choices[i].empty()) Fail(ErrorCode::kUsage, "choice", "texts of at least one byte", "an empty one");
    rules += i > 0 ? " | \"" : "\"";
    for (const char c : choices[i]) {
      const auto byte = static_cast<unsigned char>(c);
      if (c == '"' || c == '\\') {
        rules += {'\\', c};
      } else if (byte < 0x20 || byte == 0x7f) {
        rules += fmt::format("\\x{:02x}", byte);
      } else {
        rules += c;
      }
    }
    rules += '"';
  }
  return {GrammarKind::kEbnf, rules + "\n"};
}

}  // namespace mxmla
