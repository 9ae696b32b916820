// The arguments of a call, by the names of its parameters.
#pragma once

#include <initializer_list>
#include <string>
#include <string_view>
#include <vector>

#include "text/template/value.h"

namespace mxmla::jinja {

class Parameters {
 public:
  // The first `required` of `names` must be there. Throws TemplateFault for arguments that are too few, too many,
  // unknown or given twice. `args` outlives the object.
  Parameters(std::string_view function, const Args& args, std::initializer_list<std::string_view> names,
             size_t required = 0);

  // Null for an argument that is not there.
  const Value* Get(size_t place) const { return values_[place]; }
  bool Has(size_t place) const { return values_[place] != nullptr; }
  // Neither left out nor none.
  bool HasValue(size_t place) const { return values_[place] && !values_[place]->is_none(); }

  // Each throws TemplateFault for a value of another type.
  const Text& TextAt(size_t place) const;
  Int IntegerAt(size_t place, Int fallback) const;
  bool FlagAt(Runtime& runtime, size_t place, bool fallback) const;

 private:
  std::string function_;
  std::vector<const Value*> values_;
};

}  // namespace mxmla::jinja
