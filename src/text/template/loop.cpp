#include "text/template/loop.h"

#include <algorithm>

#include "text/template/objects.h"
#include "text/template/parameters.h"

namespace mxmla::jinja {

const std::optional<Value>& Loop::Peek() {
  if (!after_) {
    Value item;
    if (next_(&item)) after_ = std::move(item);
  }
  return after_;
}

bool Loop::Advance(Value* item) {
  if (!Peek()) return false;
  *item = std::move(*after_);
  after_.reset();
  ++index_;
  before_ = std::move(current_);
  current_ = *item;
  return true;
}

Int Loop::CountAll() {
  if (length_) return *length_;
  Values rest;
  for (Value item; next_(&item);) rest.push_back(std::move(item));
  length_ = static_cast<Int>(rest.size()) + index_ + 1 + (after_ ? 1 : 0);
  next_ = [rest = std::move(rest), at = size_t{0}](Value* item) mutable {
    if (at == rest.size()) return false;
    *item = rest[at++];
    return true;
  };
  return *length_;
}

std::optional<Value> Loop::Attribute(Runtime& runtime, std::string_view name) {
  if (name == "index") return Value::Integer(index_ + 1);
  if (name == "index0") return Value::Integer(index_);
  if (name == "first") return Value::Bool(index_ == 0);
  if (name == "last") return Value::Bool(!Peek());
  if (name == "length") return Value::Integer(CountAll());
  if (name == "revindex") return Value::Integer(CountAll() - index_);
  if (name == "revindex0") return Value::Integer(CountAll() - index_ - 1);
  if (name == "depth") return Value::Integer(depth_ + 1);
  if (name == "depth0") return Value::Integer(depth_);
  if (name == "previtem") return index_ > 0 ? *before_ : Value::Undefined("there is no previous item");
  if (name == "nextitem") return Peek() ? *after_ : Value::Undefined("there is no next item");
  if (name == "cycle") {
    return MakeFunction(runtime, "cycle", [this](Runtime&, const Args& args) {
      if (args.positional.empty()) throw TemplateFault("no items for cycling given");
      return args.positional[static_cast<size_t>(index_ % static_cast<Int>(args.positional.size()))];
    });
  }
  if (name == "changed") {
    return MakeFunction(runtime, "changed", [this](Runtime& r, const Args& args) {
      const bool is_same = last_changed_ && last_changed_->size() == args.positional.size() &&
                           std::equal(args.positional.begin(), args.positional.end(), last_changed_->begin(),
                                      [&](const Value& a, const Value& b) { return Equal(r, a, b); });
      last_changed_ = args.positional;
      return Value::Bool(!is_same);
    });
  }
  return std::nullopt;
}

Value Loop::Call(Runtime&, const Args& args) {
  const Parameters parameters("loop", args, {"iterable"}, 1);
  if (!statement_.is_recursive) {
    throw TemplateFault("The loop must have the 'recursive' marker to be called recursively.");
  }
  return Value::String(evaluator_.RunLoop(statement_, *parameters.Get(0), scope_, depth_ + 1));
}

}  // namespace mxmla::jinja
