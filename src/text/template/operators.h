// Python's operators on values. Each throws TemplateFault where Python raises.
#pragma once

#include "text/template/syntax.h"
#include "text/template/value.h"

namespace mxmla::jinja {

// + - * / // % **
Value Arithmetic(Runtime& runtime, Operation operation, const Value& a, const Value& b);
Value Negate(const Value& value);
Value Plus(const Value& value);

// == != < <= > >= in, not in
bool Compare(Runtime& runtime, Operation operation, const Value& a, const Value& b);
bool Contains(Runtime& runtime, const Value& container, const Value& item);

// Text with &, <, >, ' and " as HTML writes them, marked as markup; markup as it is.
Text Escape(Runtime& runtime, const Text& text);

// A value as an index or a count; throws TemplateFault where it is no integer.
Int RequireInteger(const Value& value);

// Python's FORMAT % ARGUMENTS and FORMAT.format(...).
Text FormatPercent(Runtime& runtime, const Text& format, const Value& arguments);
Text FormatBraces(Runtime& runtime, const Text& format, const Args& args);

// A number as printf writes it.
std::string PrintNumber(double value, char conversion, int precision, bool is_alternate);

}  // namespace mxmla::jinja
