// The methods of Python's dict, list and tuple that change nothing.
#include <fmt/format.h>

#include <algorithm>
#include <unordered_map>

#include "text/template/attributes.h"
#include "text/template/objects.h"
#include "text/template/operators.h"
#include "text/template/parameters.h"

namespace mxmla::jinja {
namespace {

template <ViewKind kKind>
Value ViewMethod(Runtime& runtime, const Value& self, const Args& args) {
  const Parameters parameters("dict method", args, {});
  return MakeView(runtime, kKind, self);
}

Value GetMethod(Runtime&, const Value& self, const Args& args) {
  const Parameters parameters("get", args, {"key", "default"}, 1);
  const Value* found = self.dict().Find(*parameters.Get(0));
  if (found) return *found;
  return parameters.Has(1) ? *parameters.Get(1) : Value();
}

Value CopyMethod(Runtime&, const Value& self, const Args& args) {
  const Parameters parameters("copy", args, {});
  return self;
}

Value FromKeysMethod(Runtime& runtime, const Value&, const Args& args) {
  const Parameters parameters("fromkeys", args, {"iterable", "value"}, 1);
  auto dict = std::make_shared<Dict>();
  const Next next = Iterate(runtime, *parameters.Get(0));
  for (Value key; next(&key);) dict->Set(key, parameters.Has(1) ? *parameters.Get(1) : Value());
  return Value::OfDict(std::move(dict));
}

Value CountMethod(Runtime& runtime, const Value& self, const Args& args) {
  const Parameters parameters("count", args, {"value"}, 1);
  const Values& items = self.items();
  return Value::Integer(static_cast<Int>(std::count_if(
      items.begin(), items.end(), [&](const Value& item) { return Equal(runtime, item, *parameters.Get(0)); })));
}

Value IndexMethod(Runtime& runtime, const Value& self, const Args& args) {
  const Parameters parameters("index", args, {"value", "start", "stop"}, 1);
  const Int length = static_cast<Int>(self.items().size());
  const auto bound = [&](size_t place, Int fallback) {
    const Int value = parameters.IntegerAt(place, fallback);
    return std::clamp(value < 0 ? value + length : value, Int{0}, length);
  };
  for (Int i = bound(1, 0); i < bound(2, length); ++i) {
    if (Equal(runtime, self.items()[static_cast<size_t>(i)], *parameters.Get(0))) return Value::Integer(i);
  }
  throw TemplateFault(fmt::format("the value is not in the {}", TypeName(self)));
}

}  // namespace

Method FindDictMethod(std::string_view name) {
  static const std::unordered_map<std::string_view, Method> methods = {
      {"copy", CopyMethod},
      {"fromkeys", FromKeysMethod},
      {"get", GetMethod},
      {"items", ViewMethod<ViewKind::kItems>},
      {"keys", ViewMethod<ViewKind::kKeys>},
      {"values", ViewMethod<ViewKind::kValues>},
  };
  const auto found = methods.find(name);
  return found == methods.end() ? nullptr : found->second;
}

Method FindSequenceMethod(std::string_view name) {
  static const std::unordered_map<std::string_view, Method> methods = {
      {"copy", CopyMethod},
      {"count", CountMethod},
      {"index", IndexMethod},
  };
  const auto found = methods.find(name);
  return found == methods.end() ? nullptr : found->second;
}

}  // namespace mxmla::jinja
