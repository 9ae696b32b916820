// The values of a template, as Python has them: numbers, text, lists, tuples, dicts, and objects with behaviour.
#pragma once

#include <functional>
#include <memory>
#include <optional>
#include <stdexcept>
#include <string>
#include <string_view>
#include <unordered_map>
#include <utility>
#include <variant>
#include <vector>

#include "text/template/limits.h"
#include "text/template/text.h"

namespace mxmla::jinja {

__extension__ typedef __int128 Int;

class Value;
class Object;
class Runtime;
using Values = std::vector<Value>;

// What goes wrong while a template is carried out: a message of one line, without the place.
class TemplateFault : public std::runtime_error {
 public:
  explicit TemplateFault(const std::string& message, bool is_raised = false)
      : std::runtime_error(message), is_raised_(is_raised) {}

  // Whether the template itself refused, by raise_exception.
  bool is_raised() const { return is_raised_; }

 private:
  bool is_raised_;
};

// Counts the bytes of the values that a thread's template has alive.
class MemoryMeter {
 public:
  explicit MemoryMeter(size_t limit);  // counts for this thread until it is destroyed
  ~MemoryMeter();
  MemoryMeter(const MemoryMeter&) = delete;
  MemoryMeter& operator=(const MemoryMeter&) = delete;

  static MemoryMeter* Current();
  void Add(size_t bytes);  // throws TemplateFault above the limit
  void Remove(size_t bytes) { used_ -= bytes; }

 private:
  size_t limit_;
  size_t used_ = 0;
  MemoryMeter* outer_;
};

// A part of a value that is counted.
class Metered {
 public:
  explicit Metered(size_t bytes) : meter_(MemoryMeter::Current()), bytes_(bytes) {
    if (meter_) meter_->Add(bytes_);
  }
  ~Metered() {
    if (meter_) meter_->Remove(bytes_);
  }
  Metered(const Metered&) = delete;
  Metered& operator=(const Metered&) = delete;

  void Grow(size_t bytes) {
    if (meter_) meter_->Add(bytes);
    bytes_ += bytes;
  }

 private:
  MemoryMeter* meter_;
  size_t bytes_;
};

struct Sequence;
struct Dict;
struct TextBody;

class Value {
 public:
  enum class Kind { kUndefined, kNone, kBool, kInt, kFloat, kString, kList, kTuple, kDict, kObject };

  // None.
  Value() = default;
  static Value Undefined(std::string message);
  static Value Bool(bool value) { return Value(Data(value)); }
  static Value Integer(Int value) { return Value(Data(value)); }
  static Value Float(double value) { return Value(Data(value)); }
  static Value String(Text text);
  static Value Literal(std::string_view text) { return String(Text::Literal(text)); }
  static Value List(Values items);
  static Value Tuple(Values items);
  static Value OfDict(std::shared_ptr<const Dict> dict) { return Value(Data(std::move(dict))); }
  // `object` belongs to the Runtime.
  static Value Of(Object* object) { return Value(Data(object)); }

  Kind kind() const;
  bool is_undefined() const { return kind() == Kind::kUndefined; }
  bool is_none() const { return kind() == Kind::kNone; }
  bool is_bool() const { return kind() == Kind::kBool; }
  // As Python's isinstance(value, int): a bool is one.
  bool is_integer() const { return kind() == Kind::kInt || is_bool(); }
  bool is_number() const { return is_integer() || kind() == Kind::kFloat; }
  bool is_string() const { return kind() == Kind::kString; }
  bool is_list() const { return kind() == Kind::kList; }
  bool is_tuple() const { return kind() == Kind::kTuple; }
  bool is_dict() const { return kind() == Kind::kDict; }
  bool is_object() const { return kind() == Kind::kObject; }

  // Each for a value of its kind.
  const std::string& message() const;  // of an undefined value: what was not there
  bool boolean() const;
  Int integer() const;    // of a bool too
  double number() const;  // of an integer too
  const Text& text() const;
  const Values& items() const;  // of a list or a tuple
  const Dict& dict() const;
  Object* object() const;

  // Whether both are the same value and not only equal ones, as Python's `is` tells.
  bool IsSame(const Value& other) const;

  // Levels of lists, tuples and dicts.
  int depth() const;

 private:
  struct UndefinedBody {
    std::string message;
  };
  struct ListData {
    std::shared_ptr<const Sequence> items;
  };
  struct TupleData {
    std::shared_ptr<const Sequence> items;
  };
  using Data = std::variant<std::shared_ptr<const UndefinedBody>, std::monostate, bool, Int, double,
                            std::shared_ptr<const TextBody>, ListData, TupleData, std::shared_ptr<const Dict>, Object*>;

  explicit Value(Data data) : data_(std::move(data)) {}

  Data data_ = std::monostate();
};

struct TextBody : Metered {
  explicit TextBody(Text t);
  Text text;
};

// The items of a list or a tuple; they do not change.
struct Sequence : Metered {
  explicit Sequence(Values values);
  Values items;
  int depth;
};

// Keys and values in the order in which the keys came.
struct Dict : Metered {
  Dict() : Metered(64) {}

  // Throws TemplateFault for a key that cannot be one (a list, a dict).
  void Set(Value key, Value value);
  const Value* Find(const Value& key) const;
  const Value* Find(std::string_view key) const;

  std::vector<std::pair<Value, Value>> entries;
  int depth = 1;

 private:
  std::unordered_multimap<size_t, size_t> index_;  // from a key's hash to its place
};

// The next item, until there is none.
using Next = std::function<bool(Value*)>;

struct Args {
  Values positional;
  std::vector<std::pair<std::string, Value>> named;
};

// A value with behaviour. The Runtime owns it, so that values which refer to each other in a circle do not stay.
class Object : public Metered {
 public:
  explicit Object(size_t bytes = 128) : Metered(bytes) {}
  virtual ~Object() = default;

  virtual std::string_view TypeName() const = 0;
  virtual Text Show(Runtime&) { return Text::Literal("<" + std::string(TypeName()) + " object>"); }
  virtual std::optional<Value> Attribute(Runtime&, std::string_view) { return std::nullopt; }
  virtual bool SetAttribute(std::string_view, const Value&) { return false; }
  virtual std::optional<Value> Item(Runtime&, const Value&) { return std::nullopt; }
  virtual bool IsCallable() const { return false; }
  virtual Value Call(Runtime& runtime, const Args& args);
  virtual bool IsIterable() const { return false; }
  virtual Next Iterate(Runtime& runtime);
  virtual std::optional<Int> Length(Runtime&) { return std::nullopt; }
  virtual bool Equals(Runtime&, Object& other) { return this == &other; }
  virtual bool HasItems() const { return false; }  // Python's __getitem__
};

// What one rendering may still do, and the objects that it made.
class Runtime {
 public:
  explicit Runtime(const Limits& limits);
  ~Runtime();

  void Step(int64_t count = 1) {
    steps_ -= count;
    if (steps_ < 0) FailSteps();
  }
  // For work on so many bytes.
  void StepBytes(size_t bytes) { Step(static_cast<int64_t>(bytes / 64)); }
  // Before a text of so many bytes is made, `added` of them by this piece of work.
  void CheckText(size_t bytes, size_t added);
  void CheckText(size_t bytes) { CheckText(bytes, bytes); }

  template <typename T, typename... A>
  T* New(A&&... args) {
    objects_.push_back(std::make_unique<T>(std::forward<A>(args)...));
    return static_cast<T*>(objects_.back().get());
  }

  // Holds one level of depth; the constructor throws TemplateFault where there is none left.
  class Level {
   public:
    explicit Level(Runtime& runtime);
    ~Level() { --runtime_.depth_; }
    Level(const Level&) = delete;
    Level& operator=(const Level&) = delete;

   private:
    Runtime& runtime_;
  };

 private:
  [[noreturn]] static void FailSteps();

  MemoryMeter meter_;
  Limits limits_;
  int64_t steps_;
  int depth_ = 0;
  std::vector<std::unique_ptr<Object>> objects_;
};

// Python's name of the value's type.
std::string TypeName(const Value& value);

bool IsTrue(Runtime& runtime, const Value& value);

// Python's == and <; Less throws TemplateFault for types that have no order.
bool Equal(Runtime& runtime, const Value& a, const Value& b);
bool Less(Runtime& runtime, const Value& a, const Value& b);

// Throws TemplateFault for what cannot be iterated.
Next Iterate(Runtime& runtime, const Value& value);
bool IsIterable(const Value& value);
Values ToList(Runtime& runtime, const Value& value);

// Python's len(); none where the type has none.
std::optional<Int> Length(Runtime& runtime, const Value& value);

// Python's str() and repr().
Text Str(Runtime& runtime, const Value& value);
Text Repr(Runtime& runtime, const Value& value);
std::string FloatRepr(double value);
std::string IntegerString(Int value);

// Throws the fault of an undefined value that is used.
void RequireDefined(const Value& value);

}  // namespace mxmla::jinja
