#include "text/template/objects.h"

#include <fmt/format.h>

#include "text/template/operators.h"

namespace mxmla::jinja {
namespace {

constexpr Int kLongestRange = 100'000;

class Range : public Object {
 public:
  Range(Int start, Int stop, Int step) : start_(start), stop_(stop), step_(step) {
    const Int distance = step > 0 ? stop - start : start - stop;
    const Int stride = step > 0 ? step : -step;
    length_ = distance <= 0 ? 0 : (distance - 1) / stride + 1;
  }

  std::string_view TypeName() const override { return "range"; }
  Text Show(Runtime&) override {
    std::string shown = fmt::format("range({}, {}", start_, stop_);
    if (step_ != 1) shown += fmt::format(", {}", step_);
    return Text::Literal(shown + ")");
  }
  std::optional<Value> Attribute(Runtime&, std::string_view name) override {
    if (name == "start") return Value::Integer(start_);
    if (name == "stop") return Value::Integer(stop_);
    if (name == "step") return Value::Integer(step_);
    return std::nullopt;
  }
  std::optional<Value> Item(Runtime&, const Value& key) override {
    if (!key.is_integer()) return std::nullopt;
    const Int index = key.integer() < 0 ? key.integer() + length_ : key.integer();
    if (index < 0 || index >= length_) return std::nullopt;
    return Value::Integer(start_ + index * step_);
  }
  bool IsIterable() const override { return true; }
  Next Iterate(Runtime& runtime) override {
    return [this, &runtime, at = Int{0}](Value* item) mutable {
      if (at >= length_) return false;
      runtime.Step();
      *item = Value::Integer(start_ + at++ * step_);
      return true;
    };
  }
  std::optional<Int> Length(Runtime&) override { return length_; }
  bool HasItems() const override { return true; }
  bool Equals(Runtime&, Object& other) override {
    const auto* range = dynamic_cast<const Range*>(&other);
    return range && range->length_ == length_ &&
           (length_ == 0 || (range->start_ == start_ && (length_ == 1 || range->step_ == step_)));
  }

  Int length() const { return length_; }

 private:
  Int start_;
  Int stop_;
  Int step_;
  Int length_;
};

class View : public Object {
 public:
  View(ViewKind kind, Value dict) : kind_(kind), dict_(std::move(dict)) {}

  std::string_view TypeName() const override {
    return kind_ == ViewKind::kKeys ? "dict_keys" : kind_ == ViewKind::kValues ? "dict_values" : "dict_items";
  }
  Text Show(Runtime& runtime) override {
    Text shown = Text::Literal(std::string(TypeName()) + "(");
    shown.Append(Repr(runtime, Value::List(ToList(runtime, Value::Of(this)))));
    shown.Append(")", false);
    return shown;
  }
  bool IsIterable() const override { return true; }
  Next Iterate(Runtime& runtime) override {
    return [this, &runtime, at = size_t{0}](Value* item) mutable {
      const auto& entries = dict_.dict().entries;
      if (at == entries.size()) return false;
      runtime.Step();
      const auto& [key, value] = entries[at++];
      *item = kind_ == ViewKind::kKeys ? key : kind_ == ViewKind::kValues ? value : Value::Tuple({key, value});
      return true;
    };
  }
  std::optional<Int> Length(Runtime&) override { return static_cast<Int>(dict_.dict().entries.size()); }
  bool Equals(Runtime& runtime, Object& other) override {
    const auto* view = dynamic_cast<const View*>(&other);
    if (this == &other) return true;
    if (!view || view->kind_ != kind_ || kind_ == ViewKind::kValues) return false;
    const auto& entries = dict_.dict().entries;
    if (entries.size() != view->dict_.dict().entries.size()) return false;
    for (const auto& [key, value] : entries) {
      const Value* found = view->dict_.dict().Find(key);
      if (!found || (kind_ == ViewKind::kItems && !Equal(runtime, value, *found))) return false;
    }
    return true;
  }

 private:
  ViewKind kind_;
  Value dict_;
};

class Generator : public Object {
 public:
  Generator(Next next, std::string name) : next_(std::move(next)), name_(std::move(name)) {}

  std::string_view TypeName() const override { return name_; }
  bool IsIterable() const override { return true; }
  Next Iterate(Runtime& runtime) override {
    return [this, &runtime](Value* item) {
      if (is_running_) throw TemplateFault("generator already executing");
      const Runtime::Level level(runtime);
      is_running_ = true;
      const bool has_item = next_(item);
      is_running_ = false;
      return has_item;
    };
  }

 private:
  Next next_;
  std::string name_;
  bool is_running_ = false;
};

class BoundMethod : public Object {
 public:
  BoundMethod(Value self, Method method, std::string name)
      : self_(std::move(self)), method_(method), name_(std::move(name)) {}

  std::string_view TypeName() const override { return "builtin_function_or_method"; }
  Text Show(Runtime&) override {
    return Text::Literal(fmt::format("<built-in method {} of {} object>", name_, jinja::TypeName(self_)));
  }
  bool IsCallable() const override { return true; }
  Value Call(Runtime& runtime, const Args& args) override { return method_(runtime, self_, args); }

 private:
  Value self_;
  Method method_;
  std::string name_;
};

class FunctionObject : public Object {
 public:
  FunctionObject(std::string name, Function function) : name_(std::move(name)), function_(std::move(function)) {}

  std::string_view TypeName() const override { return "function"; }
  Text Show(Runtime&) override { return Text::Literal(fmt::format("<function {}>", name_)); }
  bool IsCallable() const override { return true; }
  Value Call(Runtime& runtime, const Args& args) override { return function_(runtime, args); }

 private:
  std::string name_;
  Function function_;
};

}  // namespace

Value MakeRange(Runtime& runtime, Int start, Int stop, Int step) {
  constexpr Int kLargest = Int{1} << 100;
  for (Int bound : {start, stop, step}) {
    if (bound > kLargest || bound < -kLargest) throw TemplateFault("a range of integers too large for mxmla");
  }
  if (step == 0) throw TemplateFault("range() arg 3 must not be zero");
  auto* range = runtime.New<Range>(start, stop, step);
  if (range->length() > kLongestRange) {
    throw TemplateFault(fmt::format("a range of more than {} items", kLongestRange));
  }
  return Value::Of(range);
}

Value MakeView(Runtime& runtime, ViewKind kind, const Value& dict) { return Value::Of(runtime.New<View>(kind, dict)); }

Value MakeGenerator(Runtime& runtime, Next next, std::string name) {
  return Value::Of(runtime.New<Generator>(std::move(next), std::move(name)));
}

Value MakeBoundMethod(Runtime& runtime, const Value& self, Method method, std::string name) {
  return Value::Of(runtime.New<BoundMethod>(self, method, std::move(name)));
}

Value MakeFunction(Runtime& runtime, std::string name, Function function) {
  return Value::Of(runtime.New<FunctionObject>(std::move(name), std::move(function)));
}

}  // namespace mxmla::jinja
