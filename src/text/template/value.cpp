#include "text/template/value.h"

#include <fmt/format.h>

#include <algorithm>
#include <cmath>

namespace mxmla::jinja {
namespace {

thread_local MemoryMeter* current_meter = nullptr;

constexpr size_t kValueBytes = sizeof(Value);

int DepthOf(const Values& items) {
  int deepest = 0;
  for (const Value& item : items) deepest = std::max(deepest, item.depth());
  return deepest + 1;
}

void CheckDepth(int depth) {
  if (depth > kDeepestValue) throw TemplateFault(fmt::format("a value nested more than {} deep", kDeepestValue));
}

size_t HashOf(const Value& key) {
  switch (key.kind()) {
    case Value::Kind::kUndefined:
      return 1;
    case Value::Kind::kNone:
      return 2;
    case Value::Kind::kBool:
    case Value::Kind::kInt:
      return std::hash<int64_t>()(static_cast<int64_t>(key.integer()));
    case Value::Kind::kFloat: {
      const double number = key.number();
      const bool is_whole = std::abs(number) < 9e18 && number == std::floor(number);
      return is_whole ? std::hash<int64_t>()(static_cast<int64_t>(number)) : std::hash<double>()(number);
    }
    case Value::Kind::kString:
      return std::hash<std::string_view>()(key.text().bytes());
    case Value::Kind::kTuple: {
      size_t hash = 3;
      for (const Value& item : key.items()) hash = hash * 1000003 + HashOf(item);
      return hash;
    }
    case Value::Kind::kObject:
      return std::hash<const void*>()(key.object());
    case Value::Kind::kList:
    case Value::Kind::kDict:
      break;
  }
  throw TemplateFault(fmt::format("unhashable type: '{}'", TypeName(key)));
}

bool EqualNumbers(const Value& a, const Value& b) {
  if (a.is_integer() && b.is_integer()) return a.integer() == b.integer();
  return a.number() == b.number();
}

// For hashable values.
bool EqualKeys(const Value& a, const Value& b) {
  if (a.is_number() && b.is_number()) return EqualNumbers(a, b);
  if (a.kind() != b.kind()) return false;
  if (a.is_string()) return a.text().bytes() == b.text().bytes();
  if (a.is_tuple()) {
    return a.items().size() == b.items().size() &&
           std::equal(a.items().begin(), a.items().end(), b.items().begin(), EqualKeys);
  }
  return a.is_object() ? a.object() == b.object() : true;
}

}  // namespace

MemoryMeter::MemoryMeter(size_t limit) : limit_(limit), outer_(current_meter) { current_meter = this; }

MemoryMeter::~MemoryMeter() { current_meter = outer_; }

MemoryMeter* MemoryMeter::Current() { return current_meter; }

void MemoryMeter::Add(size_t bytes) {
  if (bytes > limit_ - std::min(used_, limit_)) {
    throw TemplateFault(fmt::format("values of more than {} bytes", limit_));
  }
  used_ += bytes;
}

TextBody::TextBody(Text t)
    : Metered(sizeof(TextBody) + t.size() + t.content().size() * sizeof(Span)), text(std::move(t)) {}

Sequence::Sequence(Values values)
    : Metered(sizeof(Sequence) + values.size() * kValueBytes), items(std::move(values)), depth(DepthOf(items)) {
  CheckDepth(depth);
}

void Dict::Set(Value key, Value value) {
  const size_t hash = HashOf(key);
  depth = std::max({depth, key.depth() + 1, value.depth() + 1});
  CheckDepth(depth);
  const auto [begin, end] = index_.equal_range(hash);
  for (auto at = begin; at != end; ++at) {
    if (!EqualKeys(entries[at->second].first, key)) continue;
    entries[at->second].second = std::move(value);
    return;
  }
  Grow(2 * kValueBytes + 64);
  index_.emplace(hash, entries.size());
  entries.emplace_back(std::move(key), std::move(value));
}

const Value* Dict::Find(const Value& key) const {
  const auto [begin, end] = index_.equal_range(HashOf(key));
  for (auto at = begin; at != end; ++at) {
    if (EqualKeys(entries[at->second].first, key)) return &entries[at->second].second;
  }
  return nullptr;
}

const Value* Dict::Find(std::string_view key) const {
  const auto [begin, end] = index_.equal_range(std::hash<std::string_view>()(key));
  for (auto at = begin; at != end; ++at) {
    const Value& candidate = entries[at->second].first;
    if (candidate.is_string() && candidate.text().bytes() == key) return &entries[at->second].second;
  }
  return nullptr;
}

Value Value::Undefined(std::string message) {
  return Value(Data(std::make_shared<const UndefinedBody>(UndefinedBody{std::move(message)})));
}

Value Value::String(Text text) { return Value(Data(std::make_shared<const TextBody>(std::move(text)))); }

Value Value::List(Values items) { return Value(Data(ListData{std::make_shared<const Sequence>(std::move(items))})); }

Value Value::Tuple(Values items) { return Value(Data(TupleData{std::make_shared<const Sequence>(std::move(items))})); }

Value::Kind Value::kind() const {
  static constexpr Kind kKinds[] = {Kind::kUndefined, Kind::kNone, Kind::kBool,  Kind::kInt,  Kind::kFloat,
                                    Kind::kString,    Kind::kList, Kind::kTuple, Kind::kDict, Kind::kObject};
  return kKinds[data_.index()];
}

const std::string& Value::message() const { return std::get<0>(data_)->message; }

bool Value::boolean() const { return std::get<bool>(data_); }

Int Value::integer() const { return is_bool() ? Int{std::get<bool>(data_)} : std::get<Int>(data_); }

double Value::number() const {
  return kind() == Kind::kFloat ? std::get<double>(data_) : static_cast<double>(integer());
}

const Text& Value::text() const { return std::get<std::shared_ptr<const TextBody>>(data_)->text; }

const Values& Value::items() const {
  return is_list() ? std::get<ListData>(data_).items->items : std::get<TupleData>(data_).items->items;
}

const Dict& Value::dict() const { return *std::get<std::shared_ptr<const Dict>>(data_); }

Object* Value::object() const { return std::get<Object*>(data_); }

bool Value::IsSame(const Value& other) const {
  if (kind() != other.kind()) return false;
  switch (kind()) {
    case Kind::kUndefined:
      return std::get<0>(data_) == std::get<0>(other.data_);
    case Kind::kNone:
      return true;
    case Kind::kBool:
    case Kind::kInt:
      return integer() == other.integer();
    case Kind::kFloat:
      return number() == other.number();
    case Kind::kString:
      return text().bytes() == other.text().bytes();
    case Kind::kList:
    case Kind::kTuple:
      return &items() == &other.items();
    case Kind::kDict:
      return &dict() == &other.dict();
    case Kind::kObject:
      return object() == other.object();
  }
  return false;
}

int Value::depth() const {
  switch (kind()) {
    case Kind::kList:
      return std::get<ListData>(data_).items->depth;
    case Kind::kTuple:
      return std::get<TupleData>(data_).items->depth;
    case Kind::kDict:
      return dict().depth;
    default:
      return 0;
  }
}

Value Object::Call(Runtime&, const Args&) {
  throw TemplateFault(fmt::format("'{}' object is not callable", TypeName()));
}

Next Object::Iterate(Runtime&) { throw TemplateFault(fmt::format("'{}' object is not iterable", TypeName())); }

Runtime::Runtime(const Limits& limits) : meter_(limits.memory), limits_(limits), steps_(limits.steps) {}

Runtime::~Runtime() = default;

void Runtime::FailSteps() { throw TemplateFault("more work than a chat template may do"); }

void Runtime::CheckText(size_t bytes, size_t added) {
  if (bytes > limits_.text) throw TemplateFault(fmt::format("a text of more than {} bytes", limits_.text));
  StepBytes(added);
}

Runtime::Level::Level(Runtime& runtime) : runtime_(runtime) {
  if (runtime_.depth_ >= runtime_.limits_.depth) throw TemplateFault("macros or expressions nested too deep");
  ++runtime_.depth_;
}

std::string TypeName(const Value& value) {
  switch (value.kind()) {
    case Value::Kind::kUndefined:
      return "Undefined";
    case Value::Kind::kNone:
      return "NoneType";
    case Value::Kind::kBool:
      return "bool";
    case Value::Kind::kInt:
      return "int";
    case Value::Kind::kFloat:
      return "float";
    case Value::Kind::kString:
      return value.text().is_markup() ? "Markup" : "str";
    case Value::Kind::kList:
      return "list";
    case Value::Kind::kTuple:
      return "tuple";
    case Value::Kind::kDict:
      return "dict";
    case Value::Kind::kObject:
      return std::string(value.object()->TypeName());
  }
  return {};
}

bool IsTrue(Runtime& runtime, const Value& value) {
  switch (value.kind()) {
    case Value::Kind::kUndefined:
    case Value::Kind::kNone:
      return false;
    case Value::Kind::kBool:
      return value.boolean();
    case Value::Kind::kInt:
      return value.integer() != 0;
    case Value::Kind::kFloat:
      return value.number() != 0;
    case Value::Kind::kString:
      return !value.text().empty();
    case Value::Kind::kList:
    case Value::Kind::kTuple:
      return !value.items().empty();
    case Value::Kind::kDict:
      return !value.dict().entries.empty();
    case Value::Kind::kObject:
      return value.object()->Length(runtime).value_or(1) != 0;
  }
  return false;
}

bool Equal(Runtime& runtime, const Value& a, const Value& b) {
  runtime.Step();
  if (a.is_number() && b.is_number()) return EqualNumbers(a, b);
  if (a.kind() != b.kind()) return false;
  switch (a.kind()) {
    case Value::Kind::kString:
      runtime.StepBytes(std::min(a.text().size(), b.text().size()));
      return a.text().bytes() == b.text().bytes();
    case Value::Kind::kList:
    case Value::Kind::kTuple: {
      if (a.items().size() != b.items().size()) return false;
      for (size_t i = 0; i < a.items().size(); ++i) {
        if (!Equal(runtime, a.items()[i], b.items()[i])) return false;
      }
      return true;
    }
    case Value::Kind::kDict: {
      if (a.dict().entries.size() != b.dict().entries.size()) return false;
      for (const auto& [key, value] : a.dict().entries) {
        const Value* other = b.dict().Find(key);
        if (!other || !Equal(runtime, value, *other)) return false;
      }
      return true;
    }
    case Value::Kind::kObject:
      return a.object()->Equals(runtime, *b.object());
    default:
      return true;  // undefined and none
  }
}

bool Less(Runtime& runtime, const Value& a, const Value& b) {
  runtime.Step();
  RequireDefined(a);
  RequireDefined(b);
  if (a.is_integer() && b.is_integer()) return a.integer() < b.integer();
  if (a.is_number() && b.is_number()) return a.number() < b.number();
  if (a.is_string() && b.is_string()) {
    runtime.StepBytes(std::min(a.text().size(), b.text().size()));
    return a.text().bytes() < b.text().bytes();  // UTF-8 has the order of the code points
  }
  if (a.kind() == b.kind() && (a.is_list() || a.is_tuple())) {
    const size_t both = std::min(a.items().size(), b.items().size());
    for (size_t i = 0; i < both; ++i) {
      if (!Equal(runtime, a.items()[i], b.items()[i])) return Less(runtime, a.items()[i], b.items()[i]);
    }
    return a.items().size() < b.items().size();
  }
  throw TemplateFault(fmt::format("'<' not supported between instances of '{}' and '{}'", TypeName(a), TypeName(b)));
}

bool IsIterable(const Value& value) {
  switch (value.kind()) {
    case Value::Kind::kUndefined:
    case Value::Kind::kString:
    case Value::Kind::kList:
    case Value::Kind::kTuple:
    case Value::Kind::kDict:
      return true;
    case Value::Kind::kObject:
      return value.object()->IsIterable();
    default:
      return false;
  }
}

Next Iterate(Runtime& runtime, const Value& value) {
  switch (value.kind()) {
    case Value::Kind::kUndefined:
      return [](Value*) { return false; };
    case Value::Kind::kString:
      return [&runtime, value, at = size_t{0}](Value* item) mutable {
        const Text& text = value.text();
        if (at == text.size()) return false;
        runtime.Step();
        size_t end = at + 1;
        while (end < text.size() && (static_cast<unsigned char>(text.bytes()[end]) & 0xc0) == 0x80) ++end;
        Text character = text.Substring(at, end);
        character.set_is_markup(false);
        *item = Value::String(std::move(character));
        at = end;
        return true;
      };
    case Value::Kind::kList:
    case Value::Kind::kTuple:
      return [&runtime, value, at = size_t{0}](Value* item) mutable {
        if (at == value.items().size()) return false;
        runtime.Step();
        *item = value.items()[at++];
        return true;
      };
    case Value::Kind::kDict:
      return [&runtime, value, at = size_t{0}](Value* item) mutable {
        if (at == value.dict().entries.size()) return false;
        runtime.Step();
        *item = value.dict().entries[at++].first;
        return true;
      };
    case Value::Kind::kObject:
      return value.object()->Iterate(runtime);
    default:
      throw TemplateFault(fmt::format("'{}' object is not iterable", TypeName(value)));
  }
}

Values ToList(Runtime& runtime, const Value& value) {
  if (value.is_list() || value.is_tuple()) {
    runtime.Step(static_cast<int64_t>(value.items().size()));
    return value.items();
  }
  Values items;
  Metered held(0);
  const Next next = Iterate(runtime, value);
  for (Value item; next(&item);) {
    runtime.Step();
    held.Grow(kValueBytes);
    items.push_back(std::move(item));
  }
  return items;
}

std::optional<Int> Length(Runtime& runtime, const Value& value) {
  switch (value.kind()) {
    case Value::Kind::kUndefined:
      return 0;
    case Value::Kind::kString:
      runtime.StepBytes(value.text().size());
      return static_cast<Int>(CountCharacters(value.text().bytes()));
    case Value::Kind::kList:
    case Value::Kind::kTuple:
      return static_cast<Int>(value.items().size());
    case Value::Kind::kDict:
      return static_cast<Int>(value.dict().entries.size());
    case Value::Kind::kObject:
      return value.object()->Length(runtime);
    default:
      return std::nullopt;
  }
}

void RequireDefined(const Value& value) {
  if (value.is_undefined()) throw TemplateFault(value.message());
}

}  // namespace mxmla::jinja
