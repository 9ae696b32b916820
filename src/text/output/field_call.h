// Calls whose arguments stand each between markers of its own.
#pragma once

#include <functional>
#include <memory>
#include <optional>

#include "text/output/call_reader.h"
#include "text/output/tool_format.h"

namespace mxmla {

struct FieldStep {
  enum class Before { kNothing, kSpace, kTool, kKey, kForm, kValue };
  Before before;         // what stands before the marker
  MarkedText marker;     // that ends it
  bool may_end = false;  // the call may end in the place of the marker
};

struct FieldArgument {
  std::string tool, key, form;  // form: as kForm says
  const ToolSchemas& schemas;
};

struct FieldSyntax {
  std::vector<FieldStep> steps;  // a call with one argument
  size_t again = 0;              // the step behind the last
  std::function<bool(const std::string& form)> is_form;
  // Whether the value is a text as it stands.
  std::function<bool(const FieldArgument&)> is_text;
  // The JSON of a value that is_text does not know to be one; nothing where it is none.
  std::function<std::optional<std::string>(const FieldArgument&, const std::string& value)> json;
};

// Gives out texts as they come and other arguments when they are complete, as one JSON object, whose last brace comes
// with the call's end. `syntax` and `schemas` outlive the reader.
std::unique_ptr<CallReader> ReadFieldCall(std::shared_ptr<const FieldSyntax> syntax, const ToolSchemas& schemas);

}  // namespace mxmla
