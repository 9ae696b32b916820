// Attributes, items and slices of values, as jinja2's sandbox gives them out.
#pragma once

#include <string_view>

#include "text/template/value.h"

namespace mxmla::jinja {

using Method = Value (*)(Runtime& runtime, const Value& self, const Args& args);

// The method of a value that is no object; null where its type has none of the name.
Method FindMethod(const Value& self, std::string_view name);

// value.name: a method or attribute, else the item of that name, else undefined.
Value GetAttribute(Runtime& runtime, const Value& value, std::string_view name);

// value[key]: the item, else, for a text as key, the attribute, else undefined.
Value GetItem(Runtime& runtime, const Value& value, const Value& key);

// value[begin:end:step]; each may be null.
Value GetSlice(Runtime& runtime, const Value& value, const Value* begin, const Value* end, const Value* step);

Value Call(Runtime& runtime, const Value& callee, const Args& args);

// The methods by type, each in a file of its own.
Method FindStringMethod(std::string_view name);
Method FindDictMethod(std::string_view name);
Method FindSequenceMethod(std::string_view name);

}  // namespace mxmla::jinja
