// Calls whose arguments are JSON: a head that names the tool, then the object.
#pragma once

#include <functional>
#include <memory>
#include <optional>

#include "text/output/call_reader.h"

namespace mxmla {

struct JsonCallSyntax {
  MarkedText before_head = {};                                        // skipped, with all before it; may be empty
  MarkedText separator = {};                                          // between the head and the arguments
  std::function<std::optional<ToolCall>(MarkedView head)> read_head;  // trimmed; the id and the name
  bool brace_separates = false;  // the arguments' first brace ends a head without a separator
  bool only_head = false;        // a head alone is a call without arguments
  bool may_be_fenced = false;    // ```json ... ``` around the arguments
};

// A head that is the tool's name.
std::optional<ToolCall> NameAlone(MarkedView head);

// Gives out all of an object but its last brace as it comes. No arguments at all are {}.
std::unique_ptr<CallReader> ReadJsonCall(JsonCallSyntax syntax);

}  // namespace mxmla
