#include "grammar/tool_grammar.h"

#include <algorithm>

#include "core/error.h"

namespace mxmla {
namespace {

using Json = nlohmann::ordered_json;

// Formats of xgrammar's structural tags.
Json Text(const std::string& value) { return {{"type", "const_string"}, {"value", value}}; }
Json Schema(Json schema) { return {{"type", "json_schema"}, {"json_schema", std::move(schema)}}; }
Json Sequence(Json elements) { return {{"type", "sequence"}, {"elements", std::move(elements)}}; }
Json TextUntil(const std::string& end) { return {{"type", "any_text"}, {"excludes", Json::array({end})}}; }
Json Optional(Json content) { return {{"type", "optional"}, {"content", std::move(content)}}; }
Json AnyOf(Json elements) {
  if (elements.size() == 1) return elements[0];
  return {{"type", "or"}, {"elements", std::move(elements)}};
}

class Writer {
 public:
  Writer(const ToolGrammar& calls, const Tokenizer& tokenizer) : calls_(calls), tokenizer_(tokenizer) {}

  Json Whole() const {
    const auto [begin, separator, end] = Section();
    Json any = Json::array();
    for (const ToolGrammar::Tool& tool : calls_.tools) any.push_back(Sequence(Call(tool)));
    any = AnyOf(std::move(any));
    Json elements = begin;
    elements.push_back(any);
    if (!calls_.one_call) {
      elements.push_back(
          {{"type", "star"}, {"content", separator.is_null() ? any : Sequence(Json::array({separator, any}))}});
    }
    for (const Json& element : end) elements.push_back(element);
    return calls_.required ? Sequence(std::move(elements)) : AmongText();
  }

 private:
  struct SectionFormat {
    Json begin, separator, end;
  };

  const std::string& format() const { return calls_.format; }

  Json Marker(const std::string& text) const {
    const auto id = tokenizer_.AddedTokenId(text);
    return id ? Json{{"type", "token"}, {"token", *id}} : Text(text);
  }

  // What stands around all calls and between two of them.
  SectionFormat Section() const {
    if (format() == "deepseek_v3" || format() == "deepseek_v31") {
      return {Json::array({Marker("<｜tool▁calls▁begin｜>")}), format() == "deepseek_v3" ? Text("\n") : Json(),
              Json::array({Marker("<｜tool▁calls▁end｜>")})};
    }
    if (format() == "deepseek_v32") {
      return {Json::array({Text("<"), Marker("｜DSML｜"), Text("function_calls>\n")}), Json(),
              Json::array({Text("</"), Marker("｜DSML｜"), Text("function_calls>")})};
    }
    if (format() == "kimi_k2") {
      return {Json::array({Marker("<|tool_calls_section_begin|>")}), Json(),
              Json::array({Marker("<|tool_calls_section_end|>")})};
    }
    if (format() == "glm47" || format() == "mistral") return {Json::array(), Json(), Json::array()};
    Fail(ErrorCode::kUsage, "tool format", "deepseek_v3, deepseek_v31, deepseek_v32, kimi_k2, glm47 or mistral",
         format());
  }

  static Json Arguments(const ToolGrammar::Tool& tool) {
    if (tool.strict && tool.parameters.is_object()) return Schema(tool.parameters);
    return Schema({{"type", "object"}, {"additionalProperties", true}});
  }

  Json Call(const ToolGrammar::Tool& tool) const {
    if (format() == "deepseek_v3") {
      return Json::array({Marker("<｜tool▁call▁begin｜>"), Text("function"), Marker("<｜tool▁sep｜>"),
                          Text(tool.name + "\n```json\n"), Arguments(tool), Text("\n```"),
                          Marker("<｜tool▁call▁end｜>")});
    }
    if (format() == "deepseek_v31") {
      return Json::array({Marker("<｜tool▁call▁begin｜>"), Text(tool.name), Marker("<｜tool▁sep｜>"), Arguments(tool),
                          Marker("<｜tool▁call▁end｜>")});
    }
    if (format() == "kimi_k2") {
      return Json::array({Marker("<|tool_call_begin|>"),
                          Text("functions." + tool.name + ":"),
                          {{"type", "regex"}, {"pattern", "[0-9]{1,3}"}},
                          Marker("<|tool_call_argument_begin|>"),
                          Arguments(tool),
                          Marker("<|tool_call_end|>")});
    }
    if (format() == "mistral") {
      return Json::array({Marker("[TOOL_CALLS]"), Text(tool.name), Marker("[ARGS]"), Arguments(tool)});
    }
    if (format() == "deepseek_v32") {
      return Json::array({Text("<"), Marker("｜DSML｜"), Text("invoke name=\"" + tool.name + "\">\n"), Parameters(tool),
                          Text("</"), Marker("｜DSML｜"), Text("invoke>\n")});
    }
    return Json::array({Marker("<tool_call>"), Text(tool.name), Parameters(tool), Marker("</tool_call>")});
  }

  // Parameters in elements of their own: texts as they are, everything else as JSON. In the order of the schema.
  Json Parameters(const ToolGrammar::Tool& tool) const {
    const Json& schema = tool.parameters;
    if (!tool.strict || !schema.is_object() || !schema.contains("properties") || !schema["properties"].is_object()) {
      return {{"type", "star"}, {"content", Parameter({{"type", "any_text"}}, Json())}};
    }
    Json elements = Json::array();
    const Json required = schema.value("required", Json::array());
    for (const auto& [name, value] : schema["properties"].items()) {
      Json property = value;
      for (const char* definitions : {"$defs", "definitions"}) {
        if (property.is_object() && schema.contains(definitions)) property[definitions] = schema[definitions];
      }
      const bool needed = required.is_array() && std::find(required.begin(), required.end(), name) != required.end();
      Json parameter = Parameter(Text(name), property);
      elements.push_back(needed ? parameter : Optional(std::move(parameter)));
    }
    return elements.empty() ? Text("") : Sequence(std::move(elements));
  }

  // `property` is null where anything goes.
  Json Parameter(const Json& name, const Json& property) const {
    const bool is_text = property.is_null() || (property.is_object() && property.value("type", Json()) == "string");
    const bool is_glm = format() == "glm47";
    // Where the text ends and the token begins: it must not be text as well.
    const std::string end = is_glm ? "</arg_value>" : "</｜DSML｜";
    Json value = Schema(property);
    if (is_text && property.is_object() && property.contains("enum") && property["enum"].is_array()) {
      value = Json::array();
      for (const Json& choice : property["enum"]) {
        if (choice.is_string()) value.push_back(Text(choice));
      }
      value = AnyOf(std::move(value));
    } else if (is_text) {
      value = TextUntil(end);
    }
    if (is_glm) {
      Json key = name["type"] == "any_text" ? TextUntil("</arg_key>") : name;
      return Sequence(Json::array(
          {Marker("<arg_key>"), std::move(key), Marker("</arg_key>"), Marker("<arg_value>"), value, Marker(end)}));
    }
    Json key = name["type"] == "any_text" ? Json{{"type", "regex"}, {"pattern", "[^\"<>]+"}} : name;
    const char* const kind = property.is_null() ? "true|false" : is_text ? "true" : "false";
    return Sequence(Json::array({Text("<"),
                                 Marker("｜DSML｜"),
                                 Text("parameter name=\""),
                                 std::move(key),
                                 Text("\" string=\""),
                                 {{"type", "regex"}, {"pattern", kind}},
                                 Text("\">"),
                                 value,
                                 Text("</"),
                                 Marker("｜DSML｜"),
                                 Text("parameter>\n")}));
  }

  // Text as the model likes, until the marker with which calls begin.
  Json AmongText() const {
    Json elements = Json::array();
    if (format() == "glm47" || format() == "mistral") {  // no section: each call is begun anew
      Json any = Json::array();
      for (const ToolGrammar::Tool& tool : calls_.tools) {
        Json call = Call(tool);
        call.erase(0);
        any.push_back(Sequence(std::move(call)));
      }
      elements = Json::array({Call(calls_.tools[0])[0], AnyOf(std::move(any))});
    } else {
      ToolGrammar inner = calls_;
      inner.required = true;
      elements = Writer(inner, tokenizer_).Whole()["elements"];
    }
    Json trigger = elements[0];
    elements.erase(0);
    if (format() == "deepseek_v32") {  // its marker is a token between texts
      trigger = Text("<｜DSML｜function_calls>\n");
      elements.erase(0);
      elements.erase(0);
    }
    const bool is_token = trigger["type"] == "token";
    return {{"type", is_token ? "token_dispatch" : "dispatch"},
            {"rules", Json::array({Json::array({trigger[is_token ? "token" : "value"], Sequence(elements)})})},
            {"loop", !calls_.one_call}};
  }

  const ToolGrammar& calls_;
  const Tokenizer& tokenizer_;
};

}  // namespace

GrammarSource ToolCallGrammar(const ToolGrammar& calls, const Tokenizer& tokenizer) {
  if (calls.tools.empty()) Fail(ErrorCode::kUsage, "tools", "at least one", "none");
  const Json tag = {{"type", "structural_tag"}, {"format", Writer(calls, tokenizer).Whole()}};
  return {GrammarKind::kStructuralTag, tag.dump()};
}

}  // namespace mxmla
