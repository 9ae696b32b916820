#include "text/template/parameters.h"

#include <fmt/format.h>

#include <algorithm>

#include "text/template/operators.h"

namespace mxmla::jinja {

Parameters::Parameters(std::string_view function, const Args& args, std::initializer_list<std::string_view> names,
                       size_t required)
    : function_(function), values_(names.size(), nullptr) {
  if (args.positional.size() > names.size()) {
    throw TemplateFault(
        fmt::format("{}() takes at most {} arguments ({} given)", function, names.size(), args.positional.size()));
  }
  for (size_t i = 0; i < args.positional.size(); ++i) values_[i] = &args.positional[i];
  for (const auto& [name, value] : args.named) {
    const auto* found = std::find(names.begin(), names.end(), name);
    if (found == names.end()) {
      throw TemplateFault(fmt::format("{}() got an unexpected keyword argument '{}'", function, name));
    }
    const Value*& place = values_[static_cast<size_t>(found - names.begin())];
    if (place) throw TemplateFault(fmt::format("{}() got multiple values for argument '{}'", function, name));
    place = &value;
  }
  for (size_t i = 0; i < required; ++i) {
    if (!values_[i]) {
      throw TemplateFault(fmt::format("{}() missing required argument '{}'", function, *(names.begin() + i)));
    }
  }
}

const Text& Parameters::TextAt(size_t place) const {
  const Value& value = *values_[place];
  RequireDefined(value);
  if (!value.is_string()) {
    throw TemplateFault(fmt::format("{}() argument {} must be str, not {}", function_, place + 1, TypeName(value)));
  }
  return value.text();
}

Int Parameters::IntegerAt(size_t place, Int fallback) const {
  return values_[place] ? RequireInteger(*values_[place]) : fallback;
}

bool Parameters::FlagAt(Runtime& runtime, size_t place, bool fallback) const {
  return values_[place] ? IsTrue(runtime, *values_[place]) : fallback;
}

}  // namespace mxmla::jinja
