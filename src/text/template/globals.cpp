// The functions that every template has.
#include <fmt/format.h>

#include <ctime>

#include "text/template/objects.h"
#include "text/template/operators.h"
#include "text/template/parameters.h"

namespace mxmla::jinja {
namespace {

void CheckNamespaceName(std::string_view name) {
  if (name.starts_with('_')) {
    throw TemplateFault(fmt::format("a namespace attribute with an underscore in front, '{}'", name));
  }
}

class Namespace : public Object {
 public:
  explicit Namespace(const Dict& attributes) : Object(256) {
    for (const auto& [key, value] : attributes.entries) {
      if (key.is_string()) CheckNamespaceName(key.text().bytes());
      attributes_.Set(key, value);
    }
  }

  std::string_view TypeName() const override { return "Namespace"; }
  Text Show(Runtime& runtime) override {
    Text shown = Text::Literal("<Namespace {");
    bool is_first = true;
    for (const auto& [key, value] : attributes_.entries) {
      if (!is_first) shown.Append(", ", false);
      is_first = false;
      shown.Append(Repr(runtime, key));
      shown.Append(": ", false);
      shown.Append(Repr(runtime, value));
      runtime.CheckText(shown.size(), 0);
    }
    shown.Append("}>", false);
    return shown;
  }
  std::optional<Value> Attribute(Runtime&, std::string_view name) override {
    const Value* found = attributes_.Find(name);
    if (!found) return std::nullopt;
    return *found;
  }
  bool SetAttribute(std::string_view name, const Value& value) override {
    CheckNamespaceName(name);
    attributes_.Set(Value::Literal(name), value);
    return true;
  }

 private:
  Dict attributes_;
};

class Cycler : public Object {
 public:
  explicit Cycler(Values items) : items_(std::move(items)) {}

  std::string_view TypeName() const override { return "Cycler"; }
  std::optional<Value> Attribute(Runtime& runtime, std::string_view name) override {
    if (name == "current") return items_[at_];
    if (name == "next") {
      return MakeFunction(runtime, "next", [this](Runtime&, const Args&) {
        const Value current = items_[at_];
        at_ = (at_ + 1) % items_.size();
        return current;
      });
    }
    if (name == "reset") {
      return MakeFunction(runtime, "reset", [this](Runtime&, const Args&) {
        at_ = 0;
        return Value();
      });
    }
    return std::nullopt;
  }

 private:
  Values items_;
  size_t at_ = 0;
};

std::tm LocalTime() {
  const std::time_t now = std::time(nullptr);
  std::tm local = {};
  localtime_r(&now, &local);
  return local;
}

Value StrftimeNow(Runtime&, const Args& args) {
  const Parameters parameters("strftime_now", args, {"format"}, 1);
  const Text& format = parameters.TextAt(0);
  if (format.size() > 1000) throw TemplateFault("a format of time beyond 1000 bytes");
  if (format.bytes().find('\0') != std::string::npos) throw TemplateFault("embedded null character");
  const std::tm local = LocalTime();
  // A mark at the end tells an empty result from one that does not fit.
  const std::string marked = format.bytes() + "|";
  std::string out(16 * marked.size() + 256, '\0');
  const size_t size = std::strftime(out.data(), out.size(), marked.c_str(), &local);
  if (size == 0) throw TemplateFault("a format of time that writes too much");
  return Value::String(Text(std::string_view(out).substr(0, size - 1), format.has_content()));
}

Value RaiseException(Runtime& runtime, const Args& args) {
  const Parameters parameters("raise_exception", args, {"message"}, 1);
  throw TemplateFault(Str(runtime, *parameters.Get(0)).bytes(), true);
}

Value RangeFunction(Runtime& runtime, const Args& args) {
  if (!args.named.empty()) throw TemplateFault("range() takes no keyword arguments");
  const Values& given = args.positional;
  if (given.empty() || given.size() > 3) {
    throw TemplateFault(fmt::format("range expected 1 to 3 arguments, got {}", given.size()));
  }
  const Int first = RequireInteger(given[0]);
  if (given.size() == 1) return MakeRange(runtime, 0, first, 1);
  return MakeRange(runtime, first, RequireInteger(given[1]), given.size() == 3 ? RequireInteger(given[2]) : 1);
}

Value MakeJoiner(Runtime& runtime, const Args& args) {
  const Parameters parameters("joiner", args, {"sep"});
  const Value separator = parameters.Has(0) ? *parameters.Get(0) : Value::Literal(", ");
  return MakeFunction(runtime, "joiner", [separator, is_used = false](Runtime&, const Args&) mutable {
    if (is_used) return separator;
    is_used = true;
    return Value::Literal("");
  });
}

Value MakeCycler(Runtime& runtime, const Args& args) {
  if (args.positional.empty()) throw TemplateFault("at least one item has to be provided");
  return Value::Of(runtime.New<Cycler>(args.positional));
}

}  // namespace

std::shared_ptr<Dict> MakeDict(Runtime& runtime, const Args& args) {
  if (args.positional.size() > 1) throw TemplateFault("dict expected at most 1 argument");
  auto dict = std::make_shared<Dict>();
  if (!args.positional.empty()) {
    const Value& source = args.positional.front();
    if (source.is_dict()) {
      runtime.Step(static_cast<int64_t>(source.dict().entries.size()));
      for (const auto& [key, value] : source.dict().entries) dict->Set(key, value);
    } else {
      const Next next = Iterate(runtime, source);
      for (Value pair; next(&pair);) {
        const Values both = ToList(runtime, pair);
        if (both.size() != 2) throw TemplateFault("dictionary update sequence element has not length 2");
        dict->Set(both[0], both[1]);
      }
    }
  }
  for (const auto& [key, value] : args.named) dict->Set(Value::Literal(key), value);
  return dict;
}

std::vector<std::pair<std::string, Value>> Globals(Runtime& runtime) {
  const auto make = [&](const char* name, Function function) {
    return std::pair<std::string, Value>(name, MakeFunction(runtime, name, std::move(function)));
  };
  return {
      make("range", RangeFunction),
      make("dict", [](Runtime& r, const Args& args) { return Value::OfDict(MakeDict(r, args)); }),
      make("namespace", [](Runtime& r, const Args& args) { return Value::Of(r.New<Namespace>(*MakeDict(r, args))); }),
      make("cycler", MakeCycler),
      make("joiner", MakeJoiner),
      make("raise_exception", RaiseException),
      make("strftime_now", StrftimeNow),
  };
}

}  // namespace mxmla::jinja
