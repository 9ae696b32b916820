// What an answer's parts promise to whoever sends them on as they come.
#pragma once

#include <nlohmann/json.hpp>
#include <string>
#include <vector>

#include "text/output/tool_format.h"

namespace mxmla {

// What is wrong with the parts of one answer, in the order in which they came; empty where nothing is.
inline std::string StreamFault(const std::vector<AnswerPart>& parts) {
  using Kind = AnswerPart::Kind;
  const auto is_whole = [](const std::string& json) { return json.ends_with('}') && nlohmann::json::accept(json); };
  bool is_open = false, was_broken = false;
  std::string arguments;
  for (const AnswerPart& part : parts) {
    if (was_broken && part.kind != Kind::kText) return "a broken call whose text does not follow";
    was_broken = part.kind == Kind::kCallBroken;
    switch (part.kind) {
      case Kind::kText:
      case Kind::kReasoning:
        if (is_open) return "a text within a call";
        if (part.text.empty()) return "an empty text";
        break;
      case Kind::kToolCall:
        if (is_open) return "a call within a call";
        if (!IsToolName(part.call.name)) return "a call without a name";
        is_open = true;
        arguments.clear();
        break;
      case Kind::kArguments:
        if (!is_open) return "arguments without a call";
        if (is_whole(arguments)) return "arguments behind whole ones";
        arguments += part.text;
        break;
      case Kind::kCallEnd:
        if (!is_open) return "an end without a call";
        if (!nlohmann::json::parse(arguments).is_object()) return "arguments that are no object";
        is_open = false;
        break;
      case Kind::kCallBroken:
        if (!is_open) return "a broken call that has not begun";
        if (is_whole(arguments)) return "a broken call that looks whole";
        is_open = false;
        break;
    }
  }
  if (is_open) return "a call without an end";
  return was_broken ? "a broken call without its text" : "";
}

}  // namespace mxmla
