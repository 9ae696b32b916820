#include "text/template/attributes.h"

#include <fmt/format.h>

#include <algorithm>
#include <cmath>
#include <iterator>

#include "text/template/objects.h"
#include "text/template/operators.h"
#include "text/template/parameters.h"

namespace mxmla::jinja {
namespace {

// Methods that would change a value, which the sandbox keeps away.
bool IsChange(const Value& value, std::string_view name) {
  static constexpr std::string_view kOfLists[] = {"append", "clear",  "extend",  "insert",
                                                  "pop",    "remove", "reverse", "sort"};
  static constexpr std::string_view kOfDicts[] = {"clear", "pop", "popitem", "setdefault", "update"};
  const auto has = [&](const auto& names) {
    return std::find(std::begin(names), std::end(names), name) != std::end(names);
  };
  return (value.is_list() && has(kOfLists)) || (value.is_dict() && has(kOfDicts));
}

// The type as jinja2's messages about undefined values name it.
std::string ObjectName(const Value& value) {
  if (value.is_none()) return "None";
  return TypeName(value) + " object";
}

Value Missing(const Value& value, std::string_view name) {
  return Value::Undefined(fmt::format("'{}' has no attribute '{}'", ObjectName(value), name));
}

Value IsInteger(Runtime&, const Value& self, const Args& args) {
  const Parameters parameters("is_integer", args, {});
  return Value::Bool(std::isfinite(self.number()) && self.number() == std::floor(self.number()));
}

// A method, or none where the type has no such attribute.
std::optional<Value> FindAttribute(Runtime& runtime, const Value& value, std::string_view name) {
  if (value.is_object()) return value.object()->Attribute(runtime, name);
  if (const Method method = FindMethod(value, name)) return MakeBoundMethod(runtime, value, method, std::string(name));
  if (IsChange(value, name)) {
    return Value::Undefined(fmt::format("access to attribute '{}' of '{}' object is unsafe.", name, TypeName(value)));
  }
  return std::nullopt;
}

std::optional<size_t> Place(const Value& key, size_t size) {
  if (!key.is_integer()) return std::nullopt;
  const Int length = static_cast<Int>(size);
  const Int index = key.integer() < 0 ? key.integer() + length : key.integer();
  if (index < 0 || index >= length) return std::nullopt;
  return static_cast<size_t>(index);
}

std::optional<Value> FindItem(Runtime& runtime, const Value& value, const Value& key) {
  switch (value.kind()) {
    case Value::Kind::kString: {
      if (!key.is_integer()) return std::nullopt;
      runtime.StepBytes(value.text().size());
      const std::vector<size_t> offsets = CharacterOffsets(value.text().bytes());
      const auto place = Place(key, offsets.size() - 1);
      if (!place) return std::nullopt;
      return Value::String(value.text().Substring(offsets[*place], offsets[*place + 1]));
    }
    case Value::Kind::kList:
    case Value::Kind::kTuple: {
      const auto place = Place(key, value.items().size());
      if (!place) return std::nullopt;
      return value.items()[*place];
    }
    case Value::Kind::kDict: {
      if (key.is_list() || key.is_dict()) return std::nullopt;
      const Value* found = value.dict().Find(key);
      if (!found) return std::nullopt;
      return *found;
    }
    case Value::Kind::kObject:
      return value.object()->Item(runtime, key);
    default:
      return std::nullopt;
  }
}

// Python's slice(begin, end, step).indices(length).
struct Indices {
  Int begin;
  Int end;
  Int step;
  Int count;
};

Indices IndicesOf(const Value* begin, const Value* end, const Value* step, Int length) {
  for (const Value* bound : {begin, end, step}) {
    if (!bound || bound->is_none() || bound->is_integer()) continue;
    RequireDefined(*bound);
    throw TemplateFault("slice indices must be integers or None or have an __index__ method");
  }
  const auto read = [](const Value* value, Int fallback) {
    return value && !value->is_none() ? std::clamp(value->integer(), -(Int{1} << 62), Int{1} << 62) : fallback;
  };
  const Int by = read(step, 1);
  if (by == 0) throw TemplateFault("slice step cannot be zero");
  const auto bound = [&](const Value* value, Int fallback) {
    if (!value || value->is_none()) return fallback;
    Int at = read(value, 0);
    if (at < 0) at += length;
    return by > 0 ? std::clamp(at, Int{0}, length) : std::clamp(at, Int{-1}, length - 1);
  };
  const Int from = bound(begin, by > 0 ? Int{0} : length - 1);
  const Int to = bound(end, by > 0 ? length : Int{-1});
  const Int distance = by > 0 ? to - from : from - to;
  const Int stride = by > 0 ? by : -by;
  return Indices{from, to, by, distance <= 0 ? 0 : (distance - 1) / stride + 1};
}

}  // namespace

Method FindMethod(const Value& self, std::string_view name) {
  switch (self.kind()) {
    case Value::Kind::kString:
      return FindStringMethod(name);
    case Value::Kind::kDict:
      return FindDictMethod(name);
    case Value::Kind::kList:
    case Value::Kind::kTuple: {
      const bool is_copy_of_tuple = self.is_tuple() && name == "copy";
      return is_copy_of_tuple ? nullptr : FindSequenceMethod(name);
    }
    case Value::Kind::kFloat:
      return name == "is_integer" ? IsInteger : nullptr;
    default:
      return nullptr;
  }
}

Value GetAttribute(Runtime& runtime, const Value& value, std::string_view name) {
  RequireDefined(value);
  if (auto attribute = FindAttribute(runtime, value, name)) return *attribute;
  if (value.is_dict()) {
    if (const Value* found = value.dict().Find(name)) return *found;
  }
  return Missing(value, name);
}

Value GetItem(Runtime& runtime, const Value& value, const Value& key) {
  RequireDefined(value);
  if (auto item = FindItem(runtime, value, key)) return *item;
  if (key.is_string()) {
    if (auto attribute = FindAttribute(runtime, value, key.text().bytes())) return *attribute;
    return Missing(value, key.text().bytes());
  }
  return Value::Undefined(fmt::format("{} has no element {}", ObjectName(value), Repr(runtime, key).bytes()));
}

Value GetSlice(Runtime& runtime, const Value& value, const Value* begin, const Value* end, const Value* step) {
  RequireDefined(value);
  if (value.is_string()) {
    const Text& text = value.text();
    runtime.StepBytes(text.size());
    const std::vector<size_t> offsets = CharacterOffsets(text.bytes());
    const Indices indices = IndicesOf(begin, end, step, static_cast<Int>(offsets.size()) - 1);
    runtime.Step(static_cast<int64_t>(indices.step == 1 ? 1 : indices.count));
    Text out;
    if (indices.step == 1 && indices.count > 0) {
      const auto first = static_cast<size_t>(indices.begin);
      out.Append(text, offsets[first], offsets[first + static_cast<size_t>(indices.count)]);
    } else {
      for (Int i = 0; i < indices.count; ++i) {
        const auto at = static_cast<size_t>(indices.begin + i * indices.step);
        out.Append(text, offsets[at], offsets[at + 1]);
      }
    }
    out.set_is_markup(text.is_markup());
    return Value::String(std::move(out));
  }
  if (value.is_list() || value.is_tuple()) {
    const Indices indices = IndicesOf(begin, end, step, static_cast<Int>(value.items().size()));
    runtime.Step(static_cast<int64_t>(indices.count));
    Values items;
    for (Int i = 0; i < indices.count; ++i) {
      items.push_back(value.items()[static_cast<size_t>(indices.begin + i * indices.step)]);
    }
    return value.is_list() ? Value::List(std::move(items)) : Value::Tuple(std::move(items));
  }
  if (value.is_object()) {
    if (const auto range = RangeOf(value)) {
      const Indices indices = IndicesOf(begin, end, step, *Length(runtime, value));
      const Int first = range->first + indices.begin * range->second;
      const Int by = range->second * indices.step;
      return MakeRange(runtime, first, range->first + indices.end * range->second, by);
    }
  }
  if (value.is_dict()) throw TemplateFault("unhashable type: 'slice'");
  throw TemplateFault(fmt::format("'{}' object is not subscriptable", TypeName(value)));
}

Value Call(Runtime& runtime, const Value& callee, const Args& args) {
  RequireDefined(callee);
  if (!callee.is_object() || !callee.object()->IsCallable()) {
    throw TemplateFault(fmt::format("'{}' object is not callable", TypeName(callee)));
  }
  const Runtime::Level level(runtime);
  return callee.object()->Call(runtime, args);
}

}  // namespace mxmla::jinja
