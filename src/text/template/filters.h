// The filters and tests that jinja2 and transformers give to chat templates.
#pragma once

#include <string_view>

#include "text/template/value.h"

namespace mxmla::jinja {

using Filter = Value (*)(Runtime& runtime, const Value& value, const Args& args);
using Test = bool (*)(Runtime& runtime, const Value& value, const Args& args);

// Null for a name that there is not.
Filter FindFilter(std::string_view name);
Test FindTest(std::string_view name);

// The same, with a TemplateFault that names it.
Filter RequireFilter(std::string_view name);
Test RequireTest(std::string_view name);

// The filters by kind, each in a file of its own.
Filter FindTextFilter(std::string_view name);
Filter FindNumberFilter(std::string_view name);
Filter FindSequenceFilter(std::string_view name);

// json.dumps as transformers sets it up.
Value ToJsonFilter(Runtime& runtime, const Value& value, const Args& args);

// A value as text where it is none, markup as it is.
Text SoftText(Runtime& runtime, const Value& value);

}  // namespace mxmla::jinja
