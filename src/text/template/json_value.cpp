#include "text/template/json_value.h"

#include "text/utf8.h"

namespace mxmla::jinja {
namespace {

Value Convert(const nlohmann::ordered_json& json, bool is_content, int depth) {
  using Type = nlohmann::ordered_json::value_t;
  if (depth > kDeepestValue) throw TemplateFault("JSON nested too deep");
  switch (json.type()) {
    case Type::boolean:
      return Value::Bool(json.get<bool>());
    case Type::number_integer:
      return Value::Integer(json.get<int64_t>());
    case Type::number_unsigned:
      return Value::Integer(json.get<uint64_t>());
    case Type::number_float:
      return Value::Float(json.get<double>());
    case Type::string:
      return Value::String(Text(ReplaceInvalidUtf8(json.get_ref<const std::string&>()), is_content));
    case Type::array: {
      Values items;
      items.reserve(json.size());
      for (const auto& item : json) items.push_back(Convert(item, is_content, depth + 1));
      return Value::List(std::move(items));
    }
    case Type::object: {
      auto dict = std::make_shared<Dict>();
      for (const auto& [key, item] : json.items()) {
        dict->Set(Value::String(Text(ReplaceInvalidUtf8(key), is_content)), Convert(item, is_content, depth + 1));
      }
      return Value::OfDict(std::move(dict));
    }
    default:
      return Value();
  }
}

}  // namespace

Value FromJson(const nlohmann::ordered_json& json, bool is_content) { return Convert(json, is_content, 1); }

}  // namespace mxmla::jinja
