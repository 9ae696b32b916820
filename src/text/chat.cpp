#include "text/chat.h"

#include <fmt/format.h>

#include <algorithm>
#include <map>

#include "core/error.h"
#include "text/deepseek_v32.h"
#include "text/gguf_vocabulary.h"
#include "text/json_fields.h"
#include "text/template/evaluator.h"
#include "text/template/json_value.h"
#include "text/template/parser.h"
#include "text/utf8.h"

namespace mxmla {
namespace {

constexpr std::string_view kAdvice = "format the prompt yourself and pass it as plain text";
constexpr const char* kDefault = "default";
constexpr const char* kToolUse = "tool_use";
constexpr const char* kBuiltIn = "the built-in encoding of DeepSeek-V3.2";

// A template with the name that errors give it.
struct NamedTemplate {
  std::string subject;
  std::string source;
  jinja::Template tree;
};

using Templates = std::map<std::string, NamedTemplate>;

NamedTemplate ParseTemplate(std::string_view text, const std::string& subject) {
  try {
    std::string source = ReplaceInvalidUtf8(text);
    jinja::Template tree = jinja::Parse(source);
    return {subject, std::move(source), std::move(tree)};
  } catch (const jinja::SyntaxFault& fault) {
    Fail(ErrorCode::kChatTemplate, fmt::format("{}, line {}", subject, fault.line()), "a Jinja template", fault.what(),
         kAdvice);
  }
}

// "chat_template" of a JSON file: a text, a list of {"name", "template"}, or an object of texts by name.
Templates ReadTemplates(const nlohmann::json& value, const std::string& subject) {
  Templates templates;
  const auto add = [&](const std::string& name, const nlohmann::json& text) {
    if (!text.is_string()) {
      Fail(ErrorCode::kChatTemplate, fmt::format("{}: {}", subject, name), "a text", text.type_name());
    }
    if (name == kDefault || name == kToolUse) {
      templates.insert_or_assign(name, ParseTemplate(text.get<std::string>(), subject));
    }
  };
  if (value.is_string()) {
    add(kDefault, value);
  } else if (value.is_array()) {
    for (const nlohmann::json& entry : value) {
      if (!entry.is_object() || !HasField(entry, "name") || !entry["name"].is_string() ||
          !HasField(entry, "template")) {
        Fail(ErrorCode::kChatTemplate, subject, "a list of objects with \"name\" and \"template\"", "another list");
      }
      add(entry["name"].get<std::string>(), entry["template"]);
    }
  } else if (value.is_object()) {
    for (const auto& [name, text] : value.items()) add(name, text);
  } else {
    Fail(ErrorCode::kChatTemplate, subject, "a text or a list of templates", value.type_name());
  }
  if (!templates.contains(kDefault)) {
    Fail(ErrorCode::kChatTemplate, subject, fmt::format("a template named \"{}\"", kDefault), "none", kAdvice);
  }
  return templates;
}

bool Exists(const std::filesystem::path& path) {
  std::error_code error;
  return std::filesystem::exists(path, error);
}

nlohmann::json ReadConfigIfThere(const std::filesystem::path& path) {
  return Exists(path) ? ReadJsonObject(path, ErrorCode::kChatTemplate) : nlohmann::json::object();
}

Templates FindTemplates(const std::filesystem::path& folder) {
  if (const std::string gguf = FindGguf(folder.string()); !gguf.empty()) {
    const nlohmann::json config = GgufAsTokenizerConfig(GgufFile::Open(gguf)->header(), gguf);
    if (HasField(config, "chat_template")) {
      return ReadTemplates(config["chat_template"], gguf + ": tokenizer.chat_template");
    }
    Fail(ErrorCode::kChatTemplate, gguf, "a chat template in its metadata, tokenizer.chat_template", "none", kAdvice);
  }
  const std::filesystem::path jinja_path = folder / "chat_template.jinja";
  if (Exists(jinja_path)) {
    Templates templates;
    const auto add = [&](const char* name, const std::filesystem::path& path) {
      templates.emplace(name, ParseTemplate(ReadTextFile(path, ErrorCode::kChatTemplate), path.string()));
    };
    add(kDefault, jinja_path);
    const std::filesystem::path tool_use = folder / "additional_chat_templates" / "tool_use.jinja";
    if (Exists(tool_use)) add(kToolUse, tool_use);
    return templates;
  }
  for (const char* name : {"chat_template.json", "tokenizer_config.json"}) {
    const nlohmann::json config = ReadConfigIfThere(folder / name);
    if (HasField(config, "chat_template")) {
      return ReadTemplates(config["chat_template"], (folder / name).string() + ": chat_template");
    }
  }
  if (IsDeepseekV32(folder)) {
    Templates templates;
    templates.emplace(kDefault, ParseTemplate(DeepseekV32Template(), kBuiltIn));
    return templates;
  }
  Fail(ErrorCode::kChatTemplate, folder.string(),
       "a chat template in chat_template.jinja, chat_template.json or tokenizer_config.json", "none", kAdvice);
}

// The variables that name the tokenizer's tokens.
OrderedJson FindSpecialTokens(const std::filesystem::path& folder) {
  OrderedJson tokens = OrderedJson::object();
  if (const std::string gguf = FindGguf(folder.string()); !gguf.empty()) {
    const nlohmann::json config = GgufAsTokenizerConfig(GgufFile::Open(gguf)->header(), gguf);
    for (const char* name : {"bos_token", "eos_token", "unk_token", "pad_token"}) {
      if (HasField(config, name)) tokens[name] = config[name].get<std::string>();
    }
    return tokens;
  }
  for (const char* file : {"special_tokens_map.json", "tokenizer_config.json"}) {
    const nlohmann::json config = ReadConfigIfThere(folder / file);
    for (const char* name :
         {"bos_token", "eos_token", "unk_token", "sep_token", "pad_token", "cls_token", "mask_token"}) {
      if (const auto content = TokenNameField(config, name, file)) tokens[name] = *content;
    }
    if (!HasField(config, "extra_special_tokens") || !config["extra_special_tokens"].is_object()) continue;
    for (const auto& [name, token] : config["extra_special_tokens"].items()) {
      if (token.is_string()) tokens[name] = token.get<std::string>();
    }
  }
  return tokens;
}

// Roles are the caller's words and not the conversation's, as long as they are those that everyone has: a template that
// writes '<|' + role + '|>' means the token of that role.
bool IsUsualRole(std::string_view role) {
  constexpr std::string_view kUsual[] = {"system", "developer", "user", "assistant", "tool", "function"};
  return std::find(std::begin(kUsual), std::end(kUsual), role) != std::end(kUsual);
}

jinja::Value MessageValue(const Message& message) {
  using jinja::Text;
  using jinja::Value;
  auto dict = std::make_shared<jinja::Dict>();
  const std::string role = ReplaceInvalidUtf8(message.role);
  dict->Set(Value::Literal("role"), Value::String(Text(role, !IsUsualRole(role))));
  if (message.has_content) {
    dict->Set(Value::Literal("content"), Value::String(Text::Content(ReplaceInvalidUtf8(message.content))));
  }
  if (message.fields.is_object()) {
    for (const auto& [key, value] : message.fields.items()) {
      if (key == "role") continue;
      dict->Set(Value::String(Text::Content(ReplaceInvalidUtf8(key))), jinja::FromJson(value, true));
    }
  }
  return Value::OfDict(std::move(dict));
}

void CheckOptions(std::span<const Message> messages, const ChatOptions& options) {
  if (messages.empty()) Fail(ErrorCode::kChatTemplate, "chat", "at least one message", "none");
  for (const Message& message : messages) {
    if (!message.fields.is_null() && !message.fields.is_object()) {
      Fail(ErrorCode::kChatTemplate, "chat message", "an object of further keys", message.fields.type_name());
    }
  }
  if (options.tools && !options.tools->is_array()) {
    Fail(ErrorCode::kChatTemplate, "chat tools", "a list", options.tools->type_name());
  }
  if (!options.variables.is_null() && !options.variables.is_object()) {
    Fail(ErrorCode::kChatTemplate, "chat template variables", "an object", options.variables.type_name());
  }
  for (const char* name : {"messages", "tools", "add_generation_prompt"}) {
    if (options.variables.is_object() && options.variables.contains(name)) {
      Fail(ErrorCode::kChatTemplate, "chat template variables", "names that the conversation does not set", name);
    }
  }
}

}  // namespace

struct ChatTemplate::Impl {
  Templates templates;
  OrderedJson special_tokens;

  const NamedTemplate& For(const ChatOptions& options) const {
    const auto tool_use = templates.find(kToolUse);
    return options.tools && tool_use != templates.end() ? tool_use->second : templates.at(kDefault);
  }

  // Variables, as transformers' apply_chat_template passes them: the caller's go before the tokens' names.
  void SetVariables(std::span<const Message> messages, const ChatOptions& options, jinja::Evaluator* evaluator) const {
    using jinja::Value;
    for (const auto& [name, value] : special_tokens.items())
      evaluator->SetVariable(name, jinja::FromJson(value, false));
    if (options.thinking) {
      evaluator->SetVariable("thinking", Value::Bool(*options.thinking));
      evaluator->SetVariable("enable_thinking", Value::Bool(*options.thinking));
    }
    evaluator->SetVariable("documents", Value());
    if (options.variables.is_object()) {
      for (const auto& [name, value] : options.variables.items())
        evaluator->SetVariable(name, jinja::FromJson(value, true));
    }
    jinja::Values all;
    for (const Message& message : messages) {
      if (templates.at(kDefault).subject != kBuiltIn) {
        all.push_back(MessageValue(message));
        continue;
      }
      Message copy = message;
      ParseToolArguments(&copy.fields);
      all.push_back(MessageValue(copy));
    }
    evaluator->SetVariable("messages", Value::List(std::move(all)));
    evaluator->SetVariable("tools", options.tools ? jinja::FromJson(*options.tools, true) : Value());
    evaluator->SetVariable("add_generation_prompt", Value::Bool(options.add_generation_prompt));
  }

  jinja::Text Run(std::span<const Message> messages, const ChatOptions& options) const {
    CheckOptions(messages, options);
    const NamedTemplate& chosen = For(options);
    jinja::Runtime runtime((jinja::Limits()));
    jinja::Evaluator evaluator(chosen.tree, runtime);
    try {
      SetVariables(messages, options, &evaluator);
      return evaluator.Run();
    } catch (const jinja::TemplateFault& fault) {
      Fail(ErrorCode::kChatTemplate, fmt::format("{}, line {}", chosen.subject, evaluator.line()),
           fault.is_raised() ? "a conversation that the template takes" : "a template that can be carried out",
           fault.what());
    }
  }
};

Message MessageFromJson(const OrderedJson& json, const std::string& subject) {
  if (!json.is_object()) Fail(ErrorCode::kData, subject, "an object", json.type_name());
  const auto role = json.find("role");
  if (role == json.end() || !role->is_string()) {
    Fail(ErrorCode::kData, subject, "a text in \"role\"", role == json.end() ? "none" : role->type_name());
  }
  Message message{role->get<std::string>(), {}, OrderedJson::object(), false};
  for (const auto& [key, value] : json.items()) {
    if (key == "role") continue;
    if (key == "content" && value.is_string()) {
      message.content = value.get<std::string>();
      message.has_content = true;
    } else {
      message.fields[key] = value;
    }
  }
  return message;
}

ChatTemplate::ChatTemplate(std::unique_ptr<const Impl> impl) : impl_(std::move(impl)) {}

ChatTemplate::~ChatTemplate() = default;

ChatTemplate::ChatTemplate(ChatTemplate&&) noexcept = default;

ChatTemplate& ChatTemplate::operator=(ChatTemplate&&) noexcept = default;

ChatTemplate ChatTemplate::Load(const std::filesystem::path& folder) {
  return ChatTemplate(std::make_unique<const Impl>(Impl{FindTemplates(folder), FindSpecialTokens(folder)}));
}

ChatTemplate ChatTemplate::LoadWithTokensOf(const std::filesystem::path& folder, const std::filesystem::path& path) {
  return FromText(ReadTextFile(path, ErrorCode::kChatTemplate), path.string(), FindSpecialTokens(folder));
}

ChatTemplate ChatTemplate::FromText(std::string_view text, const std::string& subject,
                                    const OrderedJson& special_tokens) {
  Templates templates;
  templates.emplace(kDefault, ParseTemplate(text, subject));
  const OrderedJson tokens = special_tokens.is_null() ? OrderedJson::object() : special_tokens;
  return ChatTemplate(std::make_unique<const Impl>(Impl{std::move(templates), tokens}));
}

std::string ChatTemplate::Render(std::span<const Message> messages, const ChatOptions& options) const {
  return impl_->Run(messages, options).bytes();
}

std::vector<int32_t> ChatTemplate::Encode(const Tokenizer& tokenizer, std::span<const Message> messages,
                                          const ChatOptions& options) const {
  const jinja::Text text = impl_->Run(messages, options);
  return tokenizer.EncodeMixed(text.bytes(), text.content());
}

bool ChatTemplate::ReadsThinking() const {
  return std::any_of(impl_->templates.begin(), impl_->templates.end(), [](const auto& entry) {
    const auto& reads = entry.second.tree.reads;
    return reads.contains("thinking") || reads.contains("enable_thinking");
  });
}

bool ChatTemplate::Spells(std::string_view text) const {
  return std::any_of(impl_->templates.begin(), impl_->templates.end(),
                     [&](const auto& entry) { return entry.second.source.find(text) != std::string::npos; });
}

}  // namespace mxmla
