// The variable `loop` inside of a for loop.
#pragma once

#include "text/template/evaluator.h"

namespace mxmla::jinja {

class Loop : public Object {
 public:
  // Items of `next`; `length` where it is known beforehand. `statement` is the loop's own, for calls of a recursive
  // one.
  Loop(Evaluator& evaluator, const Statement& statement, ScopePtr scope, Next next, std::optional<Int> length,
       int depth)
      : evaluator_(evaluator),
        statement_(statement),
        scope_(std::move(scope)),
        next_(std::move(next)),
        length_(length),
        depth_(depth) {}

  // Moves on to the next item.
  bool Advance(Value* item);

  std::string_view TypeName() const override { return "LoopContext"; }
  std::optional<Value> Attribute(Runtime& runtime, std::string_view name) override;
  bool IsCallable() const override { return true; }
  Value Call(Runtime& runtime, const Args& args) override;
  bool IsIterable() const override { return true; }
  std::optional<Int> Length(Runtime&) override { return CountAll(); }

 private:
  Int CountAll();
  const std::optional<Value>& Peek();

  Evaluator& evaluator_;
  const Statement& statement_;
  ScopePtr scope_;
  Next next_;
  std::optional<Int> length_;
  int depth_;
  Int index_ = -1;
  std::optional<Value> before_;
  std::optional<Value> current_;
  std::optional<Value> after_;  // the next item where it was looked at
  std::optional<Values> last_changed_;
};

}  // namespace mxmla::jinja
