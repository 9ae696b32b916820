// The objects that templates meet: functions, namespaces, ranges, views of dicts, generators.
#pragma once

#include <functional>
#include <string>

#include "text/template/attributes.h"
#include "text/template/value.h"

namespace mxmla::jinja {

// Python's range; throws TemplateFault above 100000 items, as the sandbox does.
Value MakeRange(Runtime& runtime, Int start, Int stop, Int step);

// dict.keys(), dict.values(), dict.items().
enum class ViewKind { kKeys, kValues, kItems };
Value MakeView(Runtime& runtime, ViewKind kind, const Value& dict);

// What can be iterated once. `name` is its type's name.
Value MakeGenerator(Runtime& runtime, Next next, std::string name = "generator");

// A method taken as a value.
Value MakeBoundMethod(Runtime& runtime, const Value& self, Method method, std::string name);

using Function = std::function<Value(Runtime&, const Args&)>;
Value MakeFunction(Runtime& runtime, std::string name, Function function);

// The functions that every template has: range, dict, namespace, cycler, joiner, raise_exception, strftime_now.
std::vector<std::pair<std::string, Value>> Globals(Runtime& runtime);

// dict(...) of Python.
std::shared_ptr<Dict> MakeDict(Runtime& runtime, const Args& args);

}  // namespace mxmla::jinja
