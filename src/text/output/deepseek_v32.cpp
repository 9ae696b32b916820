#include <set>

#include "text/output/tool_format.h"

namespace mxmla {
namespace {

struct Markers {
  MarkedText parameter_begin, parameter_end;
};

bool TakePrefix(MarkedView* text, std::u16string_view prefix) {
  if (!text->starts_with(prefix)) return false;
  text->remove_prefix(prefix.size());
  return true;
}

// NAME of name="NAME".
std::optional<std::string> TakeAttribute(MarkedView* text, std::u16string_view begin) {
  if (!TakePrefix(text, begin)) return std::nullopt;
  const size_t quote = text->find(u'"');
  if (quote == MarkedView::npos) return std::nullopt;
  std::string value = BytesOf(text->substr(0, quote));
  text->remove_prefix(quote + 1);
  return value;
}

std::optional<std::vector<ToolCall>> Parse(const Markers& markers, MarkedView body) {
  auto name = TakeAttribute(&body, u" name=\"");
  if (!name || !IsToolName(*name) || !TakePrefix(&body, u">")) return std::nullopt;
  std::set<std::string> keys;
  std::string arguments = "{";
  for (body = Trimmed(body); !body.empty(); body = Trimmed(body)) {
    if (!TakePrefix(&body, markers.parameter_begin)) return std::nullopt;
    auto key = TakeAttribute(&body, u" name=\"");
    const auto is_text = key ? TakeAttribute(&body, u" string=\"") : std::nullopt;
    if (!is_text || (*is_text != "true" && *is_text != "false") || !TakePrefix(&body, u">")) return std::nullopt;
    const size_t end = body.find(markers.parameter_end);
    if (end == MarkedView::npos || !keys.insert(*key).second) return std::nullopt;
    const std::string value = BytesOf(body.substr(0, end));
    body.remove_prefix(end + markers.parameter_end.size());
    if (*is_text == "false" && !IsJsonValue(value)) return std::nullopt;
    if (arguments.size() > 1) arguments += ", ";
    arguments += JsonQuoted(*key) + ": " + (*is_text == "true" ? JsonQuoted(value) : value);
  }
  arguments += "}";
  if (!JsonArguments(Plain(arguments))) return std::nullopt;  // too deep, or too many
  return std::vector<ToolCall>{{{}, std::move(*name), std::move(arguments)}};
}

}  // namespace

ToolFormat DeepSeekV32Tools(const Tokenizer& tokenizer) {
  ToolFormat format;
  const MarkedText dsml = Marker(tokenizer, "｜DSML｜", &format.marker_tokens);
  const auto opening = [&](std::string_view name) { return Plain("<") + dsml + Plain(name); };
  const auto closing = [&](std::string_view name) { return Plain("</") + dsml + Plain(name) + Plain(">"); };
  format.name = "deepseek_v32";
  format.section_begin = opening("function_calls>");
  format.section_end = closing("function_calls");
  format.call_begin = opening("invoke");
  format.call_end = closing("invoke");
  const Markers markers{opening("parameter"), closing("parameter")};
  format.parse = [markers](MarkedView body, const ToolSchemas&) { return Parse(markers, body); };
  return format;
}

}  // namespace mxmla
