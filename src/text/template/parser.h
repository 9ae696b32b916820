// From a template's source to its syntax tree.
#pragma once

#include <string_view>

#include "text/template/lexer.h"
#include "text/template/syntax.h"

namespace mxmla::jinja {

// The tree of valid UTF-8. Throws SyntaxFault for what is no template, for statements that need other templates
// (extends, include, import), and for source that is longer or nested deeper than limits.h says. Filters and tests that
// do not exist are found when they are carried out.
Template Parse(std::string_view source);

}  // namespace mxmla::jinja
