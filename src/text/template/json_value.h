// JSON as values of a template.
#pragma once

#include <nlohmann/json.hpp>

#include "text/template/value.h"

namespace mxmla::jinja {

// Texts, those of keys too, are content or the template's own as `is_content` says; bytes that are no UTF-8 are
// replaced. Throws TemplateFault for what is nested too deep.
Value FromJson(const nlohmann::ordered_json& json, bool is_content);

}  // namespace mxmla::jinja
