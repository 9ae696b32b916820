// Filters on lists and what else can be iterated.
#include <fmt/format.h>

#include <algorithm>
#include <memory>
#include <unordered_map>

#include "text/template/attributes.h"
#include "text/template/filters.h"
#include "text/template/objects.h"
#include "text/template/operators.h"
#include "text/template/parameters.h"
#include "text/template/text_operations.h"

namespace mxmla::jinja {
namespace {

Value LowerText(Runtime& runtime, const Value& value) {
  return value.is_string() ? Value::String(Lower(runtime, value.text())) : value;
}

// The keys of an attribute as filters name it: "a.b.0" steps from one to the next; none steps nowhere.
Values PathOf(Runtime& runtime, const Value* attribute) {
  if (!attribute || attribute->is_none()) return {};
  if (!attribute->is_string()) return {*attribute};
  Values path;
  const std::string dot = ".";
  for (const Text& part : Split(runtime, attribute->text(), &dot, -1, false)) {
    const bool is_index =
        !part.empty() && part.size() < 18 && part.bytes().find_first_not_of("0123456789") == std::string::npos;
    path.push_back(is_index ? Value::Integer(std::stoll(part.bytes())) : Value::String(part));
  }
  return path;
}

Value Follow(Runtime& runtime, Value value, const Values& path, const Value* fallback = nullptr) {
  for (const Value& key : path) {
    value = GetItem(runtime, value, key);
    if (fallback && !fallback->is_none() && value.is_undefined()) value = *fallback;
  }
  return value;
}

Value LengthFilter(Runtime& runtime, const Value& value, const Args& args) {
  const Parameters parameters("length", args, {});
  const auto length = Length(runtime, value);
  if (!length) throw TemplateFault(fmt::format("object of type '{}' has no len()", TypeName(value)));
  return Value::Integer(*length);
}

Value First(Runtime& runtime, const Value& value, const Args& args) {
  const Parameters parameters("first", args, {});
  Value item;
  if (Iterate(runtime, value)(&item)) return item;
  return Value::Undefined("No first item, sequence was empty.");
}

// Python's reversed(value) as a list; none where it cannot be reversed.
std::optional<Values> Reversed(Runtime& runtime, const Value& value) {
  const bool is_reversible = IsIterable(value) && (!value.is_object() || value.object()->Length(runtime).has_value());
  if (!is_reversible) return std::nullopt;
  Values items = ToList(runtime, value);
  std::reverse(items.begin(), items.end());
  return items;
}

Value Last(Runtime& runtime, const Value& value, const Args& args) {
  const Parameters parameters("last", args, {});
  if ((value.is_list() || value.is_tuple()) && !value.items().empty()) return value.items().back();
  const auto items = Reversed(runtime, value);
  if (!items) throw TemplateFault(fmt::format("'{}' object is not reversible", TypeName(value)));
  return items->empty() ? Value::Undefined("No last item, sequence was empty.") : items->front();
}

Next NextOf(Values items) {
  auto held = std::make_shared<Values>(std::move(items));
  return [held, at = size_t{0}](Value* item) mutable {
    if (at == held->size()) return false;
    *item = (*held)[at++];
    return true;
  };
}

Value Reverse(Runtime& runtime, const Value& value, const Args& args) {
  const Parameters parameters("reverse", args, {});
  if (value.is_string()) {
    const Value back = Value::Integer(-1);
    return GetSlice(runtime, value, nullptr, nullptr, &back);
  }
  if (auto items = Reversed(runtime, value)) {
    return MakeGenerator(runtime, NextOf(std::move(*items)), "list_reverseiterator");
  }
  if (!IsIterable(value)) throw TemplateFault("argument must be iterable");
  Values items = ToList(runtime, value);
  std::reverse(items.begin(), items.end());
  return Value::List(std::move(items));
}

Value ListFilter(Runtime& runtime, const Value& value, const Args& args) {
  const Parameters parameters("list", args, {});
  return Value::List(ToList(runtime, value));
}

Value JoinFilter(Runtime& runtime, const Value& value, const Args& args) {
  const Parameters parameters("join", args, {"d", "attribute"});
  const Text separator = parameters.Has(0) ? Str(runtime, *parameters.Get(0)) : Text();
  const Values path = PathOf(runtime, parameters.Get(1));
  std::vector<Text> parts;
  const Next next = Iterate(runtime, value);
  for (Value item; next(&item);) {
    if (path.empty() && item.is_string()) {
      parts.push_back(Str(runtime, item));
    } else {
      parts.push_back(Str(runtime, Follow(runtime, item, path)));
    }
  }
  return Value::String(Join(runtime, separator, parts));
}

Value Map(Runtime& runtime, const Value& value, const Args& args) {
  if (!IsTrue(runtime, value)) return MakeGenerator(runtime, NextOf({}));
  const Next next = Iterate(runtime, value);
  if (args.positional.empty() && !args.named.empty() &&
      std::any_of(args.named.begin(), args.named.end(), [](const auto& a) { return a.first == "attribute"; })) {
    const Parameters parameters("map", args, {"attribute", "default"});
    const Value fallback = parameters.Has(1) ? *parameters.Get(1) : Value();
    return MakeGenerator(runtime, [&runtime, next, fallback, path = PathOf(runtime, parameters.Get(0))](Value* item) {
      if (!next(item)) return false;
      *item = Follow(runtime, *item, path, &fallback);
      return true;
    });
  }
  if (args.positional.empty()) throw TemplateFault("map requires a filter argument");
  const Filter filter = RequireFilter(Str(runtime, args.positional.front()).bytes());
  Args rest{{args.positional.begin() + 1, args.positional.end()}, args.named};
  return MakeGenerator(runtime, [&runtime, next, filter, rest](Value* item) {
    if (!next(item)) return false;
    const Runtime::Level level(runtime);
    *item = filter(runtime, *item, rest);
    return true;
  });
}

// select, reject, selectattr, rejectattr.
template <bool kKeeps, bool kAttribute>
Value SelectOrReject(Runtime& runtime, const Value& value, const Args& args) {
  if (!IsTrue(runtime, value)) return MakeGenerator(runtime, NextOf({}));
  const size_t skipped = kAttribute ? 1 : 0;
  if (args.positional.size() < skipped) throw TemplateFault("Missing parameter for attribute name");
  const Values path = kAttribute ? PathOf(runtime, &args.positional.front()) : Values();
  Test test = nullptr;
  Args rest;
  if (args.positional.size() > skipped) {
    test = RequireTest(Str(runtime, args.positional[skipped]).bytes());
    rest.positional.assign(args.positional.begin() + static_cast<ptrdiff_t>(skipped) + 1, args.positional.end());
    rest.named = args.named;
  }
  const Next next = Iterate(runtime, value);
  return MakeGenerator(runtime, [&runtime, next, path, test, rest](Value* item) {
    while (next(item)) {
      const Value subject = Follow(runtime, *item, path);
      const bool is_true = test ? test(runtime, subject, rest) : IsTrue(runtime, subject);
      if (is_true == kKeeps) return true;
    }
    return false;
  });
}

// Items with the keys they are ordered by.
std::vector<std::pair<Value, Value>> WithKeys(Runtime& runtime, const Value& value, const Values& path, bool is_lower,
                                              const Value* fallback = nullptr) {
  std::vector<std::pair<Value, Value>> keyed;
  for (Value& item : ToList(runtime, value)) {
    Value key = Follow(runtime, item, path, fallback);
    if (is_lower) key = LowerText(runtime, key);
    keyed.emplace_back(std::move(key), std::move(item));
  }
  return keyed;
}

void SortByKey(Runtime& runtime, bool is_reverse, std::vector<std::pair<Value, Value>>* keyed) {
  std::stable_sort(keyed->begin(), keyed->end(), [&](const auto& a, const auto& b) {
    return is_reverse ? Less(runtime, b.first, a.first) : Less(runtime, a.first, b.first);
  });
}

Value Sort(Runtime& runtime, const Value& value, const Args& args) {
  const Parameters parameters("sort", args, {"reverse", "case_sensitive", "attribute"});
  const bool is_reverse = parameters.FlagAt(runtime, 0, false);
  const bool is_lower = !parameters.FlagAt(runtime, 1, false);
  std::vector<Values> paths;
  const Value* attribute = parameters.Get(2);
  if (attribute && attribute->is_string()) {
    const std::string comma = ",";
    for (Text& part : Split(runtime, attribute->text(), &comma, -1, false)) {
      const Value one = Value::String(std::move(part));
      paths.push_back(PathOf(runtime, &one));
    }
  } else {
    paths.push_back(PathOf(runtime, attribute));
  }
  std::vector<std::pair<Value, Value>> keyed;
  for (Value& item : ToList(runtime, value)) {
    Values keys;
    for (const Values& path : paths) {
      Value key = Follow(runtime, item, path);
      keys.push_back(is_lower ? LowerText(runtime, key) : key);
    }
    keyed.emplace_back(Value::List(std::move(keys)), std::move(item));
  }
  SortByKey(runtime, is_reverse, &keyed);
  Values sorted;
  for (auto& [key, item] : keyed) sorted.push_back(std::move(item));
  return Value::List(std::move(sorted));
}

Value DictSort(Runtime& runtime, const Value& value, const Args& args) {
  const Parameters parameters("dictsort", args, {"case_sensitive", "by", "reverse"});
  const bool is_lower = !parameters.FlagAt(runtime, 0, false);
  const std::string by = parameters.Has(1) ? parameters.TextAt(1).bytes() : "key";
  if (by != "key" && by != "value") throw TemplateFault("You can only sort by either \"key\" or \"value\"");
  RequireDefined(value);
  if (!value.is_dict()) throw TemplateFault(fmt::format("'{}' object has no attribute 'items'", TypeName(value)));
  std::vector<std::pair<Value, Value>> keyed;
  for (const auto& [key, item] : value.dict().entries) {
    const Value& chosen = by == "key" ? key : item;
    keyed.emplace_back(is_lower ? LowerText(runtime, chosen) : chosen, Value::Tuple({key, item}));
  }
  SortByKey(runtime, parameters.FlagAt(runtime, 2, false), &keyed);
  Values sorted;
  for (auto& [key, item] : keyed) sorted.push_back(std::move(item));
  return Value::List(std::move(sorted));
}

Value Unique(Runtime& runtime, const Value& value, const Args& args) {
  const Parameters parameters("unique", args, {"case_sensitive", "attribute"});
  const bool is_lower = !parameters.FlagAt(runtime, 0, false);
  const Values path = PathOf(runtime, parameters.Get(1));
  const Next next = Iterate(runtime, value);
  auto seen = std::make_shared<Dict>();
  return MakeGenerator(runtime, [&runtime, next, path, is_lower, seen](Value* item) {
    while (next(item)) {
      Value key = Follow(runtime, *item, path);
      if (is_lower) key = LowerText(runtime, key);
      if (seen->Find(key)) continue;
      seen->Set(key, Value());
      return true;
    }
    return false;
  });
}

template <bool kMax>
Value MinOrMax(Runtime& runtime, const Value& value, const Args& args) {
  const Parameters parameters(kMax ? "max" : "min", args, {"case_sensitive", "attribute"});
  const bool is_lower = !parameters.FlagAt(runtime, 0, false);
  const auto keyed = WithKeys(runtime, value, PathOf(runtime, parameters.Get(1)), is_lower);
  if (keyed.empty()) return Value::Undefined("No aggregated item, sequence was empty.");
  size_t best = 0;
  for (size_t i = 1; i < keyed.size(); ++i) {
    const bool is_better =
        kMax ? Less(runtime, keyed[best].first, keyed[i].first) : Less(runtime, keyed[i].first, keyed[best].first);
    if (is_better) best = i;
  }
  return keyed[best].second;
}

Value Sum(Runtime& runtime, const Value& value, const Args& args) {
  const Parameters parameters("sum", args, {"attribute", "start"});
  const Values path = PathOf(runtime, parameters.Get(0));
  Value sum = parameters.Has(1) ? *parameters.Get(1) : Value::Integer(0);
  if (sum.is_string()) throw TemplateFault("sum() can't sum strings [use ''.join(seq) instead]");
  const Next next = Iterate(runtime, value);
  for (Value item; next(&item);) {
    sum = Arithmetic(runtime, Operation::kAdd, sum, Follow(runtime, item, path));
  }
  return sum;
}

Value Batch(Runtime& runtime, const Value& value, const Args& args) {
  const Parameters parameters("batch", args, {"linecount", "fill_with"}, 1);
  const Int count = RequireInteger(*parameters.Get(0));
  const Value fill = parameters.Has(1) ? *parameters.Get(1) : Value();
  if (count > 1'000'000) throw TemplateFault("a batch of more than 1000000 items");
  Values batches;
  Values batch;
  for (Value& item : ToList(runtime, value)) {
    if (static_cast<Int>(batch.size()) == count) batches.push_back(Value::List(std::exchange(batch, {})));
    batch.push_back(std::move(item));
  }
  if (!batch.empty()) {
    if (!fill.is_none()) {
      runtime.Step(static_cast<int64_t>(std::max(Int{0}, count)));
      while (static_cast<Int>(batch.size()) < count) batch.push_back(fill);
    }
    batches.push_back(Value::List(std::move(batch)));
  }
  return MakeGenerator(runtime, NextOf(std::move(batches)));
}

Value Slice(Runtime& runtime, const Value& value, const Args& args) {
  const Parameters parameters("slice", args, {"slices", "fill_with"}, 1);
  const Int slices = RequireInteger(*parameters.Get(0));
  const Value fill = parameters.Has(1) ? *parameters.Get(1) : Value();
  if (slices == 0) throw TemplateFault("integer division or modulo by zero");
  if (slices > 1'000'000) throw TemplateFault("more than 1000000 slices");
  const Values items = ToList(runtime, value);
  Values parts;
  if (slices > 0) {
    const auto count = static_cast<size_t>(slices);
    runtime.Step(static_cast<int64_t>(count));
    const size_t each = items.size() / count;
    const size_t longer = items.size() % count;
    size_t at = 0;
    for (size_t i = 0; i < count; ++i) {
      const size_t end = at + each + (i < longer ? 1 : 0);
      Values part(items.begin() + static_cast<ptrdiff_t>(at), items.begin() + static_cast<ptrdiff_t>(end));
      if (!fill.is_none() && i >= longer) part.push_back(fill);
      parts.push_back(Value::List(std::move(part)));
      at = end;
    }
  }
  return MakeGenerator(runtime, NextOf(std::move(parts)));
}

// What groupby makes: a tuple of a key and a list, which also have names.
class Group : public Object {
 public:
  Group(Value key, Value items) : pair_(Value::Tuple({std::move(key), std::move(items)})) {}

  std::string_view TypeName() const override { return "_GroupTuple"; }
  Text Show(Runtime& runtime) override { return Repr(runtime, pair_); }
  std::optional<Value> Attribute(Runtime&, std::string_view name) override {
    if (name == "grouper") return pair_.items()[0];
    if (name == "list") return pair_.items()[1];
    return std::nullopt;
  }
  std::optional<Value> Item(Runtime& runtime, const Value& key) override {
    return key.is_integer() ? std::optional<Value>(GetItem(runtime, pair_, key)) : std::nullopt;
  }
  bool IsIterable() const override { return true; }
  Next Iterate(Runtime& runtime) override { return jinja::Iterate(runtime, pair_); }
  std::optional<Int> Length(Runtime&) override { return 2; }
  bool HasItems() const override { return true; }

 private:
  Value pair_;
};

Value GroupBy(Runtime& runtime, const Value& value, const Args& args) {
  const Parameters parameters("groupby", args, {"attribute", "default", "case_sensitive"}, 1);
  const Values path = PathOf(runtime, parameters.Get(0));
  const bool is_lower = !parameters.FlagAt(runtime, 2, false);
  auto keyed = WithKeys(runtime, value, path, is_lower, parameters.Get(1));
  SortByKey(runtime, false, &keyed);
  Values groups;
  for (size_t begin = 0; begin < keyed.size();) {
    size_t end = begin + 1;
    while (end < keyed.size() && Equal(runtime, keyed[end].first, keyed[begin].first)) ++end;
    Values items;
    for (size_t i = begin; i < end; ++i) items.push_back(keyed[i].second);
    const Value key = Follow(runtime, items.front(), path, parameters.Get(1));
    groups.push_back(Value::Of(runtime.New<Group>(key, Value::List(std::move(items)))));
    begin = end;
  }
  return Value::List(std::move(groups));
}

Value Items(Runtime& runtime, const Value& value, const Args& args) {
  const Parameters parameters("items", args, {});
  if (value.is_undefined()) return MakeGenerator(runtime, NextOf({}));
  if (!value.is_dict()) throw TemplateFault("Can only get item pairs from a mapping.");
  const Value view = MakeView(runtime, ViewKind::kItems, value);
  return MakeGenerator(runtime, Iterate(runtime, view));
}

Value Default(Runtime& runtime, const Value& value, const Args& args) {
  const Parameters parameters("default", args, {"default_value", "boolean"});
  const bool is_missing = value.is_undefined() || (parameters.FlagAt(runtime, 1, false) && !IsTrue(runtime, value));
  if (!is_missing) return value;
  return parameters.Has(0) ? *parameters.Get(0) : Value::Literal("");
}

Value Attr(Runtime& runtime, const Value& value, const Args& args) {
  const Parameters parameters("attr", args, {"name"}, 1);
  const Text& name = parameters.TextAt(0);
  RequireDefined(value);
  if (value.is_dict() && !FindMethod(value, name.bytes())) {
    return Value::Undefined(fmt::format("'dict object' has no attribute '{}'", name.bytes()));
  }
  return GetAttribute(runtime, value, name.bytes());
}

}  // namespace

Filter FindSequenceFilter(std::string_view name) {
  static const std::unordered_map<std::string_view, Filter> filters = {
      {"attr", Attr},
      {"batch", Batch},
      {"count", LengthFilter},
      {"d", Default},
      {"default", Default},
      {"dictsort", DictSort},
      {"first", First},
      {"groupby", GroupBy},
      {"items", Items},
      {"join", JoinFilter},
      {"last", Last},
      {"length", LengthFilter},
      {"list", ListFilter},
      {"map", Map},
      {"max", MinOrMax<true>},
      {"min", MinOrMax<false>},
      {"reject", SelectOrReject<false, false>},
      {"rejectattr", SelectOrReject<false, true>},
      {"reverse", Reverse},
      {"select", SelectOrReject<true, false>},
      {"selectattr", SelectOrReject<true, true>},
      {"slice", Slice},
      {"sort", Sort},
      {"sum", Sum},
      {"unique", Unique},
  };
  const auto found = filters.find(name);
  return found == filters.end() ? nullptr : found->second;
}

}  // namespace mxmla::jinja
