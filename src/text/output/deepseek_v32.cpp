#include "text/output/field_call.h"

namespace mxmla {

ToolFormat DeepSeekV32Tools(const Tokenizer& tokenizer) {
  using Before = FieldStep::Before;
  ToolFormat format;
  const MarkedText dsml = Marker(tokenizer, "｜DSML｜", &format.marker_tokens);
  const auto opening = [&](std::string_view name) { return Plain("<") + dsml + Plain(name); };
  const auto closing = [&](std::string_view name) { return Plain("</") + dsml + Plain(name) + Plain(">"); };
  format.name = "deepseek_v32";
  format.section_begin = opening("function_calls>");
  format.section_end = closing("function_calls");
  format.call_begin = opening("invoke");
  format.call_end = closing("invoke");
  FieldSyntax syntax;
  syntax.steps = {{Before::kNothing, u" name=\""},   {Before::kTool, u"\""},
                  {Before::kNothing, u">"},          {Before::kSpace, opening("parameter"), true},
                  {Before::kNothing, u" name=\""},   {Before::kKey, u"\""},
                  {Before::kNothing, u" string=\""}, {Before::kForm, u"\""},
                  {Before::kNothing, u">"},          {Before::kValue, closing("parameter")}};
  syntax.again = 3;
  syntax.is_form = [](const std::string& form) { return form == "true" || form == "false"; };
  syntax.is_text = [](const FieldArgument& argument) { return argument.form == "true"; };
  syntax.json = [](const FieldArgument&, const std::string& value) {
    return IsJsonValue(value) ? std::optional<std::string>(value) : std::nullopt;
  };
  format.read = [shared = std::make_shared<const FieldSyntax>(std::move(syntax))](const ToolSchemas& schemas) {
    return ReadFieldCall(shared, schemas);
  };
  return format;
}

}  // namespace mxmla
